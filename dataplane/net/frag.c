/* Reassembly of fragments (RFC 791 3.2, RFC 8200 4.5), for peers whose path forces them on us; we never make any.
 *
 * Bounded: in packets under way, in fragments of one and of all, and in time. Whatever overlaps is refused as a whole (RFC 5722, here
 * for IPv4, too), and stays refused until its time is over, so that no later piece completes it; an exact repetition is merely
 * dropped. A packet that is whole again looks as if it had come in one piece, and goes the ordinary way, checksums and steering
 * included. A full table gives up its oldest packet.
 * Invariant: a packet's pieces are disjoint and ordered by offset; n_held is the number of pieces of all packets. */
#include "dataplane/net/checksum.h"
#include "dataplane/net/net_priv.h"

#define FRAG_LIFE_V4_US 30000000u /* RFC 1122 3.3.2 allows 60 to 120 s; no sender of today takes that long */
#define FRAG_LIFE_V6_US 60000000u /* RFC 8200 4.5 */
#define FRAG_HELD_MAX 512u
#define FRAG_PACKET_BYTES_MAX 65535u

static void frag_timer(struct foil_worker *w, struct foil_timer *t);

static void pieces_free(struct net_ctx *n, struct net_frag *q)
{
	for (uint16_t i = 0; i < q->n_pieces; i++)
		rte_pktmbuf_free(q->pieces[i].m);
	n->n_frags_held -= q->n_pieces;
	q->n_pieces = 0;
}

static void queue_free(struct net_ctx *n, struct net_frag *q)
{
	pieces_free(n, q);
	q->is_used = false;
}

void frag_fini(struct foil_worker *w, struct net_ctx *n)
{
	foil_timer_cancel(w, &n->frag_timer);
	for (uint32_t i = 0; n->frags && i < NET_FRAG_PACKETS_MAX; i++)
		if (n->frags[i].is_used)
			queue_free(n, &n->frags[i]);
}

static void timer_arm(struct foil_worker *w)
{
	struct net_ctx *n = w->net;
	uint64_t first_us = UINT64_MAX;

	for (uint32_t i = 0; i < NET_FRAG_PACKETS_MAX; i++)
		if (n->frags[i].is_used)
			first_us = FOIL_MIN(first_us, n->frags[i].expires_us);
	if (first_us != UINT64_MAX)
		foil_timer_arm(w, &n->frag_timer, first_us, frag_timer);
}

/* Who sent the first piece hears that the others did not come (RFC 1122 3.3.2, RFC 8200 4.5). */
static void tell_sender(struct foil_worker *w, const struct net_frag *q)
{
	struct net_rx rx = {.src = q->src, .dst = q->dst, .proto = q->proto, .l2_len = q->l2_len, .v4 = net_addr_is_v4(&q->src)};

	if (!q->n_pieces || q->pieces[0].offset != 0)
		return;
	rx.l4_len = q->pieces[0].n_bytes;
	rx.l3_len = (uint16_t)(q->pieces[0].m->pkt_len - q->l2_len - rx.l4_len);
	if (rx.v4)
		icmp4_error(w, q->pieces[0].m, &rx, NET_ICMP4_REASSEMBLY_TIME);
	else
		icmp6_error(w, q->pieces[0].m, &rx, NET_ICMP6_REASSEMBLY_TIME);
}

static void frag_timer(struct foil_worker *w, struct foil_timer *t)
{
	struct net_ctx *n = w->net;

	for (uint32_t i = 0; i < NET_FRAG_PACKETS_MAX; i++) {
		struct net_frag *q = &n->frags[i];
		if (!q->is_used || q->expires_us > w->now_us)
			continue;
		if (!q->is_refused) {
			foil_reason(w, NET, FRAG_TIMEOUT);
			tell_sender(w, q);
		}
		queue_free(n, q);
	}
	timer_arm(w);
}

/* The packet that the piece belongs to, or a place for it: a free one, or that of the oldest. */
static struct net_frag *queue_for(struct foil_worker *w, const struct net_rx *rx, const struct net_frag_info *info)
{
	struct net_ctx *n = w->net;
	struct net_frag *place = NULL;

	for (uint32_t i = 0; i < NET_FRAG_PACKETS_MAX; i++) {
		struct net_frag *q = &n->frags[i];
		if (!q->is_used) {
			if (!place || place->is_used)
				place = q;
			continue;
		}
		if (q->id == info->id && q->proto == rx->proto && net_addr_eq(&q->src, &rx->src) && net_addr_eq(&q->dst, &rx->dst))
			return q;
		if (!place || (place->is_used && q->expires_us < place->expires_us))
			place = q;
	}
	if (place->is_used) {
		foil_reason(w, NET, FRAG_LIMIT);
		FOIL_PROBE(w, NET, FRAG_EVICTED);
		queue_free(n, place);
	}
	*place = (struct net_frag){.is_used = true, .id = info->id, .proto = rx->proto, .src = rx->src, .dst = rx->dst,
				   .expires_us = w->now_us + (rx->v4 ? FRAG_LIFE_V4_US : FRAG_LIFE_V6_US)};
	if (!foil_timer_is_armed(&n->frag_timer))
		timer_arm(w);
	return place;
}

static FOIL_COLD void refuse(struct foil_worker *w, const struct net_port *p, struct net_frag *q, struct rte_mbuf *own_m, enum net_reason why)
{
	net_drop_id(w, p, own_m, why);
	pieces_free(w->net, q);
	q->is_refused = true;
}

/* Where the piece belongs; *why is not OK if it does not. */
static uint16_t place_for(const struct net_frag *q, uint32_t offset, uint32_t n_bytes, enum net_reason *why)
{
	uint16_t i = q->n_pieces;

	while (i > 0 && q->pieces[i - 1].offset >= offset)
		i--;
	*why = NET_REASON_OK;
	if (i < q->n_pieces && q->pieces[i].offset == offset && q->pieces[i].n_bytes == n_bytes)
		*why = NET_REASON_FRAG_DUPLICATE;
	else if ((i < q->n_pieces && offset + n_bytes > q->pieces[i].offset) ||
		 (i > 0 && q->pieces[i - 1].offset + q->pieces[i - 1].n_bytes > offset))
		*why = NET_REASON_FRAG_OVERLAP;
	return i;
}

/* Leaves the payload of a piece that is not the first; the first keeps its headers for the whole packet. */
static void piece_strip(struct rte_mbuf *m, const struct net_rx *rx, const struct net_frag_info *info)
{
	uint16_t n_headers = (uint16_t)(rx->l2_len + rx->l3_len);

	net_trim(m, n_headers + rx->l4_len);
	if (info->offset == 0)
		return;
	m->data_off = (uint16_t)(m->data_off + n_headers);
	m->data_len = (uint16_t)(m->data_len - n_headers);
	m->pkt_len -= n_headers;
}

static void header_mend4(struct rte_mbuf *m, uint32_t l2_len, uint32_t total)
{
	struct rte_ipv4_hdr *h = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, l2_len);

	h->total_length = rte_cpu_to_be_16((uint16_t)(rte_ipv4_hdr_len(h) + total));
	h->fragment_offset = 0;
	h->hdr_checksum = 0;
	h->hdr_checksum = net_sum_fold(net_sum_tail((const uint8_t *)h, rte_ipv4_hdr_len(h)));
}

/* Takes the fragment header out: what stands before it moves up. */
static void header_mend6(struct rte_mbuf *m, const struct net_frag *q, uint32_t total)
{
	uint8_t *at = rte_pktmbuf_mtod(m, uint8_t *);
	uint32_t payload = q->head_at - q->l2_len - (uint32_t)sizeof(struct rte_ipv6_hdr) + total;

	at[q->next_at] = q->proto;
	at[q->l2_len + 4] = (uint8_t)(payload >> 8);
	at[q->l2_len + 5] = (uint8_t)payload;
	memmove(at + NET_FRAG_HEADER_BYTES, at, q->head_at);
	m->data_off = (uint16_t)(m->data_off + NET_FRAG_HEADER_BYTES);
	m->data_len = (uint16_t)(m->data_len - NET_FRAG_HEADER_BYTES);
	m->pkt_len -= NET_FRAG_HEADER_BYTES;
}

static struct rte_mbuf *assemble(struct foil_worker *w, struct net_frag *q, bool v4)
{
	struct rte_mbuf *m = q->pieces[0].m, *last = rte_pktmbuf_lastseg(m);

	for (uint16_t i = 1; i < q->n_pieces; i++) {
		struct rte_mbuf *piece = q->pieces[i].m;
		last->next = piece;
		last = rte_pktmbuf_lastseg(piece);
		m->nb_segs = (uint16_t)(m->nb_segs + piece->nb_segs);
		m->pkt_len += piece->pkt_len;
	}
	m->ol_flags &= ~(RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK);
	if (v4)
		header_mend4(m, q->l2_len, q->total_bytes);
	else
		header_mend6(m, q, q->total_bytes);
	w->net->n_frags_held -= q->n_pieces;
	q->n_pieces = 0;
	q->is_used = false;
	foil_count(w, NET, REASSEMBLED, 1);
	if (v4)
		FOIL_PROBE(w, NET, REASSEMBLED4);
	else
		FOIL_PROBE(w, NET, REASSEMBLED6);
	return m;
}

static enum net_reason piece_check(const struct net_ctx *n, const struct net_frag *q, const struct net_rx *rx, const struct net_frag_info *info)
{
	uint32_t end = info->offset + rx->l4_len;

	if (rx->l4_len == 0 || end > FRAG_PACKET_BYTES_MAX - 60u - NET_FRAG_HEADER_BYTES || (info->more && rx->l4_len % 8 != 0))
		return NET_REASON_FRAG_MALFORMED;
	if (q->total_bytes && (end > q->total_bytes || (!info->more && end != q->total_bytes)))
		return NET_REASON_FRAG_MALFORMED; /* beyond its end, or two ends */
	if (!info->more && q->n_pieces && q->pieces[q->n_pieces - 1].offset + q->pieces[q->n_pieces - 1].n_bytes > end)
		return NET_REASON_FRAG_MALFORMED;
	if (q->n_pieces == NET_FRAG_PIECES_MAX || n->n_frags_held == FRAG_HELD_MAX)
		return NET_REASON_FRAG_LIMIT;
	return NET_REASON_OK;
}

struct rte_mbuf *frag_input(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx,
			    const struct net_frag_info *info)
{
	struct net_ctx *n = w->net;
	struct net_frag *q = queue_for(w, rx, info);
	enum net_reason why = q->is_refused ? NET_REASON_FRAG_OVERLAP : NET_REASON_OK;

	foil_count(w, NET, FRAGMENTS_RX, 1);
	if (why != NET_REASON_OK) {
		net_drop_id(w, p, own_m, why);
		return NULL;
	}
	why = piece_check(n, q, rx, info);
	if (why != NET_REASON_OK) {
		refuse(w, p, q, own_m, why);
		return NULL;
	}
	uint16_t at = place_for(q, info->offset, rx->l4_len, &why);
	if (why == NET_REASON_FRAG_DUPLICATE) {
		net_drop_id(w, p, own_m, why);
		return NULL;
	}
	if (why != NET_REASON_OK) {
		refuse(w, p, q, own_m, why);
		return NULL;
	}
	if (at < q->n_pieces)
		FOIL_PROBE(w, NET, FRAG_OUT_OF_ORDER);
	piece_strip(own_m, rx, info);
	memmove(&q->pieces[at + 1], &q->pieces[at], (size_t)(q->n_pieces - at) * sizeof(q->pieces[0]));
	q->pieces[at] = (struct net_frag_piece){own_m, info->offset, rx->l4_len};
	q->n_pieces++;
	n->n_frags_held++;
	q->n_bytes += rx->l4_len;
	if (info->offset == 0) {
		q->l2_len = rx->l2_len;
		q->head_at = info->head_at;
		q->next_at = info->next_at;
	}
	if (!info->more)
		q->total_bytes = info->offset + rx->l4_len;
	return q->total_bytes && q->n_bytes == q->total_bytes ? assemble(w, q, rx->v4) : NULL;
}
