/* Segments in: decoded and looked up in bursts, then one after the other through the checks of RFC 9293 3.10.7 in its order, with
 * PAWS (RFC 7323 5.3) before and the answers of RFC 5961 to blind attacks. Header prediction takes the usual segment past them.
 * What happens to payload is receive.c's, what an ACK does is ack.c's; connections without a stream are syn.c's and timewait.c's.
 * Invariant: a dropped segment counts under exactly one reason, and every mbuf is freed or kept exactly once. */
#include <rte_prefetch.h>

#include "dataplane/tcp/tcp_priv.h"

#define FLAGS_CHECKED (RTE_TCP_FIN_FLAG | RTE_TCP_SYN_FLAG | RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG | RTE_TCP_URG_FLAG)
#define PREFETCH_AHEAD 4

void tcp_seg_drop(struct foil_worker *w, struct tcp_seg *seg, enum tcp_reason why)
{
	foil_reason_id(w, TCP, why);
	net_capture_drop(w, FOIL_ROOM_TCP, (uint16_t)why, NULL, seg->m, NET_CAPTURE_UPPER);
	rte_pktmbuf_free(seg->m);
	seg->m = NULL;
}

static FOIL_COLD void remember_drop(struct tcp_conn *c, enum tcp_reason why)
{
	c->n_dropped++;
	c->last_drop = (uint8_t)why;
}

void tcp_conn_drop(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg, enum tcp_reason why)
{
	remember_drop(c, why);
	tcp_seg_drop(w, seg, why);
}

void tcp_conn_drop_note(struct foil_worker *w, struct tcp_conn *c, struct rte_mbuf *m, enum tcp_reason why)
{
	foil_reason_id(w, TCP, why);
	remember_drop(c, why);
	net_capture_drop(w, FOIL_ROOM_TCP, (uint16_t)why, NULL, m, NET_CAPTURE_UPPER);
}

static enum tcp_reason decode(struct rte_mbuf *m, struct tcp_seg *seg)
{
	uint8_t copy[TCP_HDR_BYTES_MAX];
	const struct net_rx_meta *meta = NET_RX_META(m);
	uint32_t n_head = FOIL_MIN(m->pkt_len, TCP_HDR_BYTES_MAX);
	const uint8_t *head = rte_pktmbuf_read(m, 0, n_head, copy); /* in place but when cut over segments */
	struct foil_cur cur = cur_of(head, head ? n_head : 0);

	seg->key.local.port = 0;
	seg->key.remote.port = cur_be16(&cur);
	seg->key.local.port = cur_be16(&cur);
	seg->seq = cur_be32(&cur);
	seg->ack = cur_be32(&cur);
	seg->hdr_bytes = (uint8_t)((cur_u8(&cur) >> 4) * 4);
	seg->flags = cur_u8(&cur);
	seg->wnd = cur_be16(&cur);
	(void)cur_be32(&cur); /* checksum: net has checked it; urgent pointer: URG is data like any other (RFC 6093) */
	if (cur.short_read || seg->hdr_bytes < TCP_HDR_BYTES || seg->hdr_bytes > m->pkt_len)
		return TCP_REASON_BAD_HEADER;
	seg->ecn = meta->tos & 3;
	memcpy(seg->key.local.ip, meta->dst.b, 16);
	memcpy(seg->key.remote.ip, meta->src.b, 16);
	seg->n_bytes = m->pkt_len - seg->hdr_bytes;
	uint32_t opt_bytes = seg->hdr_bytes - TCP_HDR_BYTES;
	if (!tcp_options_parse(cur_bytes(&cur, opt_bytes), opt_bytes, &seg->opt))
		return TCP_REASON_BAD_HEADER;
	return seg->key.remote.port ? TCP_REASON_OK : TCP_REASON_BAD_ADDRESS;
}

void tcp_seg_decode(struct foil_worker *w, struct rte_mbuf *m, struct tcp_seg *seg)
{
	seg->m = m;
	seg->reason = (uint8_t)decode(m, seg);
	if (seg->reason == TCP_REASON_OK)
		seg->hash = tcp_flow_hash(w->tcp, &seg->key);
}

/* Cuts the header off; it may be spread over segments. */
void tcp_seg_strip(struct tcp_seg *seg)
{
	uint32_t left = seg->hdr_bytes;

	for (struct rte_mbuf *m = seg->m; left; m = m->next) {
		uint32_t n = FOIL_MIN(left, (uint32_t)m->data_len);
		m->data_off = (uint16_t)(m->data_off + n);
		m->data_len = (uint16_t)(m->data_len - n);
		left -= n;
	}
	seg->m->pkt_len -= seg->hdr_bytes;
	seg->hdr_bytes = 0;
}

void tcp_challenge_ack(struct foil_worker *w, struct tcp_conn *c)
{
	if (w->now_us - c->challenge_at_us >= TCP_CHALLENGE_WINDOW_US) {
		c->challenge_at_us = w->now_us;
		c->n_challenges = 0;
	}
	if (c->n_challenges >= TCP_CHALLENGE_PER_WINDOW) {
		foil_reason(w, TCP, CHALLENGE_LIMITED);
		return;
	}
	c->n_challenges++;
	tcp_ack_owe(w, c);
}

static void remember_timestamp(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg)
{
	if (!c->has_ts || !seg->opt.has_ts || seq_lt(seg->opt.ts_val, c->ts_recent) || seq_gt(seg->seq, c->last_ack_sent))
		return; /* RFC 7323 4.3 (2) */
	c->ts_recent = seg->opt.ts_val;
	c->ts_recent_us = w->now_us;
}

/* RFC 7323 5.3 R1. OK: go on. */
static enum tcp_reason check_timestamp(const struct foil_worker *w, const struct tcp_conn *c, const struct tcp_seg *seg)
{
	if (!c->has_ts || (seg->flags & RTE_TCP_RST_FLAG))
		return TCP_REASON_OK;
	if (!seg->opt.has_ts)
		return TCP_REASON_NO_TIMESTAMP;
	if (seq_lt(seg->opt.ts_val, c->ts_recent) && w->now_us - c->ts_recent_us < TCP_PAWS_IDLE_US)
		return TCP_REASON_PAWS_OLD;
	return TCP_REASON_OK;
}

/* RFC 9293 3.4 table 6. A segment without length may also sit at the window's edge, where a peer that filled the window sends its
 * ACKs from, or back to where we last acknowledged: ACKs that data overtook on the way still say what they say. */
static bool is_acceptable(const struct tcp_conn *c, const struct tcp_seg *seg)
{
	uint32_t n = seg->n_bytes + !!(seg->flags & RTE_TCP_SYN_FLAG) + !!(seg->flags & RTE_TCP_FIN_FLAG);

	if (n == 0)
		return seq_geq(seg->seq, c->last_ack_sent) && seq_leq(seg->seq, c->rcv_adv);
	return seq_lt(seg->seq, c->rcv_adv) && seq_gt(seg->seq + n, c->rcv_nxt);
}

/* RFC 5961 3.2. Takes nothing from a stranger who only guesses a number inside the window. */
static void input_rst(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg)
{
	foil_count(w, TCP, RSTS_RX, 1);
	if (seg->seq != c->rcv_nxt) {
		bool is_inside = seq_gt(seg->seq, c->rcv_nxt) && seq_lt(seg->seq, c->rcv_adv);
		if (is_inside)
			tcp_challenge_ack(w, c);
		tcp_conn_drop(w, c, seg, is_inside ? TCP_REASON_RST_NOT_EXACT : TCP_REASON_RST_OUT_OF_WINDOW);
		return;
	}
	bool is_opening = c->state == TCP_STATE_SYN_RCVD;
	tcp_seg_drop(w, seg, is_opening ? TCP_REASON_REFUSED : TCP_REASON_PEER_RESET);
	tcp_conn_finish(w, c, is_opening ? STREAM_END_REFUSED : STREAM_END_RESET);
}

/* Payload that all lies before the window: an ACK, with D-SACK, so that the peer sees that it sent it in vain (RFC 2883 4.1). */
static void tell_duplicate(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg)
{
	if (c->has_sack && seg->n_bytes && seq_leq(seg->seq + seg->n_bytes, c->rcv_nxt)) {
		c->dsack = (struct tcp_sack_block){seg->seq, seg->seq + seg->n_bytes};
		c->dsack_owed = true;
	}
	tcp_ack_owe(w, c);
}

/* Checks one to five. OK: the segment's ACK and payload may be used. */
static enum tcp_reason check(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg)
{
	enum tcp_reason why = check_timestamp(w, c, seg);

	if (why == TCP_REASON_PAWS_OLD)
		tcp_challenge_ack(w, c);
	if (why != TCP_REASON_OK)
		return why;
	if (!is_acceptable(c, seg)) {
		if (seg->n_bytes || (seg->flags & RTE_TCP_FIN_FLAG))
			tell_duplicate(w, c, seg); /* may be our lost ACK, or a probe of a closed window */
		else
			tcp_challenge_ack(w, c);
		if (seg->seq != c->rcv_nxt || c->rcv_adv != c->rcv_nxt || (seg->flags & RTE_TCP_SYN_FLAG))
			return TCP_REASON_OUT_OF_WINDOW;
		FOIL_PROBE(w, TCP, ZERO_WINDOW_ACK);
	}
	if (seg->flags & RTE_TCP_SYN_FLAG) { /* RFC 5961 4.2 */
		tcp_challenge_ack(w, c);
		return TCP_REASON_SYN_IN_WINDOW;
	}
	if (!(seg->flags & RTE_TCP_ACK_FLAG))
		return TCP_REASON_NO_ACK;
	if (c->state != TCP_STATE_SYN_RCVD && (seq_gt(seg->ack, c->snd_nxt) || seq_lt(seg->ack, c->snd_una - c->snd_wnd_max))) {
		tcp_challenge_ack(w, c); /* RFC 5961 5.2 */
		return TCP_REASON_BAD_ACK;
	}
	return TCP_REASON_OK;
}

/* What our FIN's acknowledgement changes. false: the connection is over. */
static bool advance_close(struct foil_worker *w, struct tcp_conn *c)
{
	if (!c->fin_acked)
		return true;
	switch ((enum tcp_state)c->state) {
	case TCP_STATE_FIN_WAIT_1:
		tcp_conn_become(w, c, TCP_STATE_FIN_WAIT_2);
		return true;
	case TCP_STATE_CLOSING:
		FOIL_PROBE(w, TCP, SIMULTANEOUS_CLOSE);
		tcp_tw_enter(w, c);
		return false;
	case TCP_STATE_LAST_ACK:
		tcp_conn_finish(w, c, STREAM_END_FIN);
		return false;
	case TCP_STATE_CLOSED:
	case TCP_STATE_SYN_SENT:
	case TCP_STATE_SYN_RCVD:
	case TCP_STATE_ESTABLISHED:
	case TCP_STATE_FIN_WAIT_2:
	case TCP_STATE_CLOSE_WAIT:
	case TCP_STATE_TIME_WAIT:
	case TCP_STATE_COUNT:
		return true;
	}
	FOIL_UNREACHABLE();
}

static bool may_receive(const struct tcp_conn *c)
{
	return c->state >= TCP_STATE_ESTABLISHED && c->state <= TCP_STATE_FIN_WAIT_2;
}

/* The usual segment of a connection in order: nothing to check but what is compared here. */
static bool is_predicted(const struct tcp_conn *c, const struct tcp_seg *seg)
{
	return c->state == TCP_STATE_ESTABLISHED && (seg->flags & FLAGS_CHECKED) == RTE_TCP_ACK_FLAG && seg->seq == c->rcv_nxt &&
	       seg->opt.has_ts == c->has_ts && (!c->has_ts || seq_geq(seg->opt.ts_val, c->ts_recent)) && seq_leq(seg->ack, c->snd_nxt) &&
	       seq_geq(seg->ack, c->snd_una) && seg->n_bytes <= c->rcv_adv - c->rcv_nxt;
}

/* The SYN that crossed ours was a stranger's: here is one that knows our number. */
static bool is_true_answer(const struct tcp_conn *c, const struct tcp_seg *seg)
{
	return c->state == TCP_STATE_SYN_RCVD && (seg->flags & (RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG | RTE_TCP_RST_FLAG)) ==
	       (RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG) && seg->ack == c->snd_nxt && seg->seq != c->irs;
}

/* From the fifth check on. */
static void accept_segment(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg)
{
	remember_timestamp(w, c, seg);
	c->last_rx_us = w->now_us;
	if (FOIL_UNLIKELY(c->has_ecn))
		tcp_ecn_input(w, c, seg);
	if (seq_lt(seg->ack, c->snd_una) && seg->opt.n_sack)
		FOIL_PROBE(w, TCP, SACK_OVERTAKEN);
	if (seq_geq(seg->ack, c->snd_una) || seg->opt.n_sack) /* an ACK that others overtook: its SACK blocks may be news */
		tcp_ack_input(w, c, seg);
	if (!advance_close(w, c)) {
		rte_pktmbuf_free(seg->m);
		return;
	}
	if (!seg->n_bytes && !(seg->flags & RTE_TCP_FIN_FLAG)) {
		rte_pktmbuf_free(seg->m);
		return;
	}
	if (may_receive(c)) {
		tcp_receive(w, c, seg);
		return;
	}
	tcp_ack_owe(w, c); /* the FIN again, or payload behind it */
	tcp_conn_drop(w, c, seg, seg->n_bytes ? TCP_REASON_AFTER_FIN : TCP_REASON_DUPLICATE);
}

/* After a simultaneous open (RFC 9293 figure 8). false: the segment was dropped. */
static bool leave_syn_rcvd(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg)
{
	if (seg->ack != c->snd_nxt) {
		tcp_send_rst_for(w, seg);
		tcp_conn_drop(w, c, seg, TCP_REASON_BAD_ACK);
		return false;
	}
	c->snd_una = seg->ack;
	c->snd_wl1 = seg->seq - 1;
	tcp_conn_established(w, c);
	return true;
}

void tcp_conn_input(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg)
{
	if (FOIL_LIKELY(is_predicted(c, seg))) {
		foil_count(w, TCP, FAST_PATH_SEGMENTS, 1);
		accept_segment(w, c, seg);
		return;
	}
	if (c->state == TCP_STATE_SYN_SENT || is_true_answer(c, seg)) {
		tcp_syn_sent_input(w, c, seg);
		return;
	}
	if (c->state == TCP_STATE_SYN_RCVD && (seg->flags & RTE_TCP_SYN_FLAG) && seg->seq == c->irs) {
		seg->flags &= (uint8_t)~RTE_TCP_SYN_FLAG; /* the peer's SYN-ACK of a simultaneous open */
		seg->seq++;
	}
	if (seg->flags & RTE_TCP_RST_FLAG) {
		input_rst(w, c, seg);
		return;
	}
	enum tcp_reason why = check(w, c, seg);
	if (why != TCP_REASON_OK) {
		tcp_conn_drop(w, c, seg, why);
		return;
	}
	if (c->state == TCP_STATE_SYN_RCVD && !leave_syn_rcvd(w, c, seg))
		return;
	accept_segment(w, c, seg);
}

/* RFC 9293 3.10.7.1 and 3.10.7.2. */
static void input_without_connection(struct foil_worker *w, struct tcp_seg *seg)
{
	struct tcp_listener *l = tcp_listener_find(w, &seg->key.local);
	struct tcp_syn y;

	if (seg->flags & RTE_TCP_RST_FLAG) {
		tcp_seg_drop(w, seg, TCP_REASON_STRAY_RST);
		return;
	}
	if (l && (seg->flags & (RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG)) == RTE_TCP_SYN_FLAG) {
		tcp_listener_input(w, l, seg, 0);
		return;
	}
	if (l && !(seg->flags & RTE_TCP_ACK_FLAG)) { /* in LISTEN only an ACK is answered by a reset */
		tcp_seg_drop(w, seg, TCP_REASON_NO_ACK);
		return;
	}
	if (l && !(seg->flags & RTE_TCP_SYN_FLAG) && (seg->flags & RTE_TCP_ACK_FLAG) && tcp_cookie_check(w, seg, &y)) {
		struct tcp_conn *c = tcp_syn_to_conn(w, &y, l, seg);
		if (c) {
			foil_reason(w, TCP, SYN_COOKIE_OK);
			tcp_conn_input(w, c, seg);
			return;
		}
		rte_pktmbuf_free(seg->m); /* counted where it was refused */
		return;
	}
	tcp_send_rst_for(w, seg);
	tcp_seg_drop(w, seg, seg->flags & RTE_TCP_SYN_FLAG && !l ? TCP_REASON_NO_LISTENER : TCP_REASON_NO_CONNECTION);
}

static void dispatch(struct foil_worker *w, struct tcp_seg *seg)
{
	void *block = NULL;

	if (FOIL_UNLIKELY(seg->reason != TCP_REASON_OK)) {
		tcp_seg_drop(w, seg, (enum tcp_reason)seg->reason);
		return;
	}
	switch (tcp_flow_find(w->tcp, &seg->key, seg->hash, &block)) {
	case TCP_KIND_CONN:
		tcp_conn_input(w, block, seg);
		return;
	case TCP_KIND_SYN:
		tcp_syn_input(w, block, seg);
		return;
	case TCP_KIND_TW:
		tcp_tw_input(w, block, seg);
		return;
	case TCP_KIND_NONE:
		input_without_connection(w, seg);
		return;
	}
	FOIL_UNREACHABLE();
}

static void input_some(struct foil_worker *w, struct rte_mbuf **own_segs, uint16_t n_segs)
{
	struct tcp_seg segs[NET_BURST];

	for (uint16_t i = 0; i < n_segs; i++) {
		if (i + PREFETCH_AHEAD < n_segs) {
			rte_prefetch0(rte_pktmbuf_mtod(own_segs[i + PREFETCH_AHEAD], void *));
			rte_prefetch0(NET_RX_META(own_segs[i + PREFETCH_AHEAD]));
		}
		tcp_seg_decode(w, own_segs[i], &segs[i]);
		if (segs[i].reason == TCP_REASON_OK)
			tcp_flow_prefetch_bucket(&w->tcp->flow, segs[i].hash);
	}
	for (uint16_t i = 0; i < FOIL_MIN(n_segs, TCP_FLOW_AHEAD); i++)
		if (segs[i].reason == TCP_REASON_OK)
			tcp_flow_prefetch_block(w->tcp, segs[i].hash);
	for (uint16_t i = 0; i < n_segs; i++) {
		if (i + TCP_FLOW_AHEAD < n_segs && segs[i + TCP_FLOW_AHEAD].reason == TCP_REASON_OK)
			tcp_flow_prefetch_block(w->tcp, segs[i + TCP_FLOW_AHEAD].hash);
		dispatch(w, &segs[i]);
	}
}

void tcp_input_burst(struct foil_worker *w, struct rte_mbuf **own_segs, uint16_t n_segs)
{
	foil_count(w, TCP, SEGMENTS_RX, n_segs);
	for (uint16_t done = 0; done < n_segs; done = (uint16_t)(done + NET_BURST))
		input_some(w, own_segs + done, (uint16_t)FOIL_MIN(n_segs - done, NET_BURST));
	tcp_events_run(w);
}
