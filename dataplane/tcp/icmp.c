/* ICMP errors about our segments (RFC 9293 3.9.2.2, RFC 5461, RFC 5927, RFC 1191, RFC 8201). Believed only when the quoted
 * sequence number is in flight; hard only for an active open; "too big" lowers the segment size, never below a floor. */
#include "dataplane/tcp/tcp_priv.h"

#define TCP_PMTU_MIN_V4 552u  /* smaller claims are taken as this: an attack's, or a path not worth more */
#define TCP_PMTU_MIN_V6 1280u /* RFC 8200 5 */

#define TCP_BLACKHOLE_RTOS 3u          /* in a row; each further one is a further step */
#define TCP_BLACKHOLE_STEP_BYTES 1220u /* fits IPv6's least MTU and every tunnel that is met in practice */

void tcp_blackhole_check(struct foil_worker *w, struct tcp_conn *c)
{
	const struct tcp_sent *first = tcp_sent_of(tcp_list_first(&c->sent));
	uint32_t floor = net_addr_is_v4(tcp_addr(&c->s.remote)) ? TCP_MSS_DEFAULT_V4 : TCP_MSS_DEFAULT_V6;

	if (c->n_rto < TCP_BLACKHOLE_RTOS || !first)
		return;
	uint32_t bytes = first->end - first->seq + (c->has_ts ? TCP_OPT_TS_BYTES : 0);
	if (bytes <= floor)
		return; /* a small one that does not arrive either: the path is down, not narrow */
	/* Below what did not arrive, whatever the segment size was: the segment may be a part of one that was cut by an acknowledgement. */
	uint32_t next = FOIL_MAX(floor, bytes > TCP_BLACKHOLE_STEP_BYTES ? TCP_BLACKHOLE_STEP_BYTES : bytes / 2u);
	if (next >= c->mss_bytes)
		return;
	c->mss_bytes = (uint16_t)next;
	foil_reason(w, TCP, PMTU_BLACKHOLE);
}

static void too_big(struct foil_worker *w, struct tcp_conn *c, uint16_t mtu)
{
	bool is_v4 = net_addr_is_v4(tcp_addr(&c->s.remote));
	uint32_t header_bytes = TCP_HDR_BYTES + (is_v4 ? 20u : 40u);
	uint32_t mss_bytes = FOIL_MAX((uint32_t)mtu, is_v4 ? TCP_PMTU_MIN_V4 : TCP_PMTU_MIN_V6) - header_bytes;

	if (mss_bytes >= c->mss_bytes || c->state < TCP_STATE_ESTABLISHED) {
		foil_reason(w, TCP, ICMP_IGNORED);
		return;
	}
	foil_reason(w, TCP, PMTU_LOWERED);
	c->mss_bytes = (uint16_t)mss_bytes;
	for (struct tcp_node *n = c->sent.next; n != &c->sent; n = n->next) {
		struct tcp_sent *r = tcp_sent_of(n);
		if (r->end - r->seq + (c->has_ts ? TCP_OPT_TS_BYTES : 0) > mss_bytes)
			tcp_sent_mark_lost(c, r); /* it cannot have arrived; not a sign of congestion (RFC 1191 6.5) */
	}
	tcp_output_want(w, c);
}

void tcp_icmp_input(struct foil_worker *w, const struct net_icmp_error *e)
{
	struct foil_cur cur = cur_of(e->l4, e->n_l4_bytes);
	struct tcp_key key;
	void *block = NULL;

	memcpy(key.local.ip, e->src.b, 16);
	memcpy(key.remote.ip, e->dst.b, 16);
	key.local.port = cur_be16(&cur);
	key.remote.port = cur_be16(&cur);
	uint32_t seq = cur_be32(&cur);
	if (cur.short_read || tcp_flow_find(w->tcp, &key, tcp_flow_hash(w->tcp, &key), &block) != TCP_KIND_CONN) {
		foil_reason(w, TCP, ICMP_IGNORED);
		return;
	}
	struct tcp_conn *c = block;
	if (seq_lt(seq, c->snd_una) || seq_geq(seq, c->snd_nxt)) {
		foil_reason(w, TCP, ICMP_IGNORED);
		return;
	}
	if (e->kind == NET_ICMP_TOO_BIG) {
		too_big(w, c, e->mtu);
	} else if (c->state == TCP_STATE_SYN_SENT && (e->kind == NET_ICMP_UNREACHABLE || e->kind == NET_ICMP_PORT_UNREACHABLE)) {
		foil_reason(w, TCP, UNREACHABLE);
		tcp_conn_finish(w, c, STREAM_END_UNREACHABLE);
	} else {
		foil_reason(w, TCP, ICMP_SOFT);
	}
}
