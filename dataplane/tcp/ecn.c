/* Explicit congestion notification (RFC 3168 6.1): a mark on the way is echoed until the sender says that it has slowed down, which it
 * does once a window, as for a loss but without anything to send again.
 * Only new data is sent as capable: not SYNs, ACKs, retransmissions or window probes. */
#include "dataplane/tcp/tcp_priv.h"

#define ECN_CE 3u

/* As for a loss (RFC 3168 6.1.2), once for the data in flight now. */
static void slow_down(struct foil_worker *w, struct tcp_conn *c)
{
	if (c->ca_state != TCP_CA_OPEN || seq_leq(c->snd_una, c->ecn_recover_seq)) /* up to it, the peer has not seen our CWR */
		return;
	c->ssthresh = c->cc->on_loss(w, c, false);
	c->cwnd = FOIL_MIN(c->cwnd, c->ssthresh);
	c->ecn_recover_seq = c->snd_nxt;
	c->is_cwnd_limited = false; /* this ACK does not make it grow again */
	c->cwr_owed = true;
	foil_count(w, TCP, ECN_REDUCTIONS, 1);
}

void tcp_ecn_input(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg)
{
	if (seg->flags & RTE_TCP_CWR_FLAG)
		c->ecn_echo = false;
	if (seg->ecn == ECN_CE && seg->n_bytes) {
		foil_count(w, TCP, ECN_MARKS_RX, 1);
		c->ecn_echo = true;
		tcp_ack_owe(w, c);
	}
	if (seg->flags & RTE_TCP_ECE_FLAG)
		slow_down(w, c);
}

void tcp_ecn_output(struct tcp_conn *c, struct tcp_segment_spec *spec, bool new_data)
{
	if (c->ecn_echo)
		spec->flags |= RTE_TCP_ECE_FLAG;
	if (!new_data)
		return;
	spec->tos = TCP_TOS_ECT0;
	if (c->cwr_owed)
		spec->flags |= RTE_TCP_CWR_FLAG;
	c->cwr_owed = false;
}
