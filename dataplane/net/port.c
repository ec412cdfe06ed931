/* A port's transmit queue in front of the driver's: frames of one loop turn leave in as few bursts as possible.
 * A driver that takes only part leaves the rest queued for the next flush; when the queue itself is full, frames are dropped.
 * Invariant: tx[0..n_tx) are whole frames, oldest first. */
#include "dataplane/net/net_priv.h"

/* Before the driver has them: it may free what it takes. Those that it left the last time were seen then. */
static void capture_some(struct foil_worker *w, struct net_port *p)
{
	for (uint16_t i = p->n_tx_seen; i < p->n_tx; i++)
		capture_frame(w, p, p->tx[i], NET_CAPTURE_OUT);
	p->n_tx_seen = p->n_tx;
}

static unsigned int port_flush(struct foil_worker *w, struct net_port *p)
{
	uint16_t n_done = 0;

	if (FOIL_UNLIKELY(w->net->capture != NULL))
		capture_some(w, p);
	while (n_done < p->n_tx) {
		uint16_t n_want = (uint16_t)FOIL_MIN(p->n_tx - n_done, NET_BURST);
		uint64_t n_bytes = 0, left_bytes = 0;
		uint32_t lens[NET_BURST];
		uint16_t n_sent;

		for (uint16_t i = 0; i < n_want; i++) {
			lens[i] = p->tx[n_done + i]->pkt_len; /* the driver frees what it takes */
			n_bytes += lens[i];
		}
		n_sent = p->tx_burst(w, p, p->tx + n_done, n_want);
		for (uint16_t i = n_sent; i < n_want; i++)
			left_bytes += lens[i];
		foil_count(w, NET, TX_PACKETS, n_sent);
		foil_count(w, NET, TX_BYTES, n_bytes - left_bytes);
		n_done = (uint16_t)(n_done + n_sent);
		if (n_sent < n_want)
			break;
	}
	if (n_done && n_done < p->n_tx)
		memmove(p->tx, p->tx + n_done, (size_t)(p->n_tx - n_done) * sizeof(p->tx[0]));
	p->n_tx = (uint16_t)(p->n_tx - n_done);
	p->n_tx_seen = (uint16_t)(p->n_tx_seen > n_done ? p->n_tx_seen - n_done : 0);
	return n_done;
}

void port_send(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_frame)
{
	if (FOIL_UNLIKELY(p->n_tx == FOIL_COUNT_OF(p->tx)))
		(void)port_flush(w, p); /* counted in its turn's other work */
	if (FOIL_UNLIKELY(p->n_tx == FOIL_COUNT_OF(p->tx))) {
		net_drop_tx(w, p, own_frame, NET_REASON_TX_FULL, NET_CAPTURE_FRAME_TX);
		return;
	}
	p->tx[p->n_tx++] = own_frame;
}

unsigned int net_flush(struct foil_worker *w)
{
	struct net_ctx *n = w->net;
	unsigned int n_sent = 0;

	for (uint16_t i = 0; i < n->n_ports; i++)
		if (n->ports[i]->n_tx)
			n_sent += port_flush(w, n->ports[i]);
	if (FOIL_UNLIKELY(n->capture != NULL))
		capture_commit(n->capture);
	return n_sent;
}
