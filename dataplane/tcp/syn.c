/* Half-open connections of listeners: SYN-RECEIVED in a small block (RFC 9293 3.10.7.4 for that state), with the SYN-ACK's
 * retransmission. The third segment turns it into a connection.
 * Invariant: a struct tcp_syn is in the flow table and on its listener's list; timer is armed. */
#include "dataplane/tcp/tcp_priv.h"

static void synack_timer(struct foil_worker *w, struct foil_timer *timer)
{
	struct tcp_syn *y = FOIL_CONTAINER_OF(timer, struct tcp_syn, timer);

	if (y->n_retries >= TCP_SYNACK_RETRIES) {
		foil_reason(w, TCP, SYN_ACK_TIMEOUT);
		tcp_syn_free(w, y);
		return;
	}
	y->n_retries++;
	foil_count(w, TCP, SYN_RETRANSMITS, 1);
	tcp_synack_send(w, y);
}

static void synack_options(struct foil_worker *w, const struct tcp_syn *y, struct net_dst *dst, struct tcp_options *o)
{
	memset(o, 0, sizeof(*o));
	o->has_mss = true;
	o->mss_bytes = tcp_own_mss(w, tcp_addr(&y->key.remote), dst);
	o->sack_permitted = y->has_sack;
	o->has_wscale = y->has_wscale;
	o->wscale = w->tcp->rcv_wscale;
	o->has_ts = y->has_ts;
	o->ts_val = tcp_ts_now(w, y->ts_offset);
	o->ts_ecr = y->ts_recent;
}

/* Also arms the timer, but for a block on the stack (a cookie's: no listener). */
void tcp_synack_send(struct foil_worker *w, const struct tcp_syn *y)
{
	struct tcp_options opt;
	struct net_dst dst = y->dst;

	synack_options(w, y, &dst, &opt);
	struct tcp_segment_spec spec = {
		.key = &y->key, .seq = y->iss, .ack = y->irs + 1, .wnd = FOIL_MIN(w->tcp->p.rx_window_bytes, (uint32_t)UINT16_MAX),
		.flags = (uint8_t)(RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG | (y->has_ecn ? RTE_TCP_ECE_FLAG : 0)), .opt = &opt, .dst = &dst,
	};
	(void)tcp_segment_send(w, &spec); /* without an mbuf: when the timer fires */
	if (y->listener) {
		struct tcp_syn *kept = (struct tcp_syn *)(uintptr_t)y;
		kept->dst = dst;
		foil_timer_arm(w, &kept->timer, w->now_us + ((uint64_t)TCP_RTO_INITIAL_US << y->n_retries), synack_timer);
	}
}

void tcp_syn_free(struct foil_worker *w, struct tcp_syn *y)
{
	struct tcp_ctx *t = w->tcp;

	tcp_flow_remove(t, y->hash, TCP_KIND_SYN, y);
	foil_timer_cancel(w, &y->timer);
	tcp_node_remove(&y->node);
	y->listener->n_half_open--;
	tcp_pool_put(&t->syns, y);
	foil_gauge_set(w, TCP, HALF_OPEN, t->syns.n_used);
}

struct tcp_conn *tcp_syn_to_conn(struct foil_worker *w, const struct tcp_syn *y, struct tcp_listener *l, struct tcp_seg *seg)
{
	struct tcp_conn *c = tcp_conn_new(w, &y->key, y->hash);

	if (!c)
		return NULL;
	c->iss = y->iss;
	c->irs = y->irs;
	c->snd_una = c->snd_nxt = y->iss + 1;
	c->rcv_nxt = c->last_ack_sent = y->irs + 1;
	c->rcv_adv = c->rcv_nxt + FOIL_MIN(w->tcp->p.rx_window_bytes, (uint32_t)UINT16_MAX);
	c->has_ts = y->has_ts;
	c->has_sack = y->has_sack;
	c->has_wscale = y->has_wscale;
	c->has_ecn = y->has_ecn;
	c->ecn_recover_seq = c->iss;
	c->snd_wscale = y->has_wscale ? y->wscale_peer : 0;
	c->rcv_wscale = y->has_wscale ? w->tcp->rcv_wscale : 0;
	c->ts_recent = y->ts_recent;
	c->ts_recent_us = w->now_us;
	c->ts_offset = y->ts_offset;
	c->snd_wnd = c->snd_wnd_max = y->wnd_peer; /* of the SYN: never scaled */
	c->snd_wl1 = y->irs;
	tcp_conn_set_mss(c, y->mss_peer_bytes, tcp_own_mss(w, tcp_addr(&y->key.remote), &c->dst));
	if (y->sent_us && !y->n_retries)
		tcp_rtt_sample(c, (uint32_t)(w->now_us - y->sent_us));
	c->listener = l;
	tcp_conn_established(w, c);
	tcp_conn_notify(w, c, TCP_EV_ACCEPT);
	return c;
}

static void third_segment(struct foil_worker *w, struct tcp_syn *y, struct tcp_seg *seg)
{
	struct tcp_conn *c = tcp_syn_to_conn(w, y, y->listener, seg);

	if (!c) { /* counted; the SYN-ACK's timer asks the peer again */
		rte_pktmbuf_free(seg->m);
		return;
	}
	tcp_syn_free(w, y);
	tcp_conn_input(w, c, seg);
}

/* A SYN with another number, for a connection that is half-open: a peer who has started anew answers by the exact RST, and its next SYN
 * is served; a stranger who wants the half-open one gone gets nowhere (RFC 5961 4.2, as Linux and the BSDs do it). */
static void send_challenge(struct foil_worker *w, struct tcp_syn *y)
{
	struct tcp_options opt = {.has_ts = y->has_ts, .ts_val = tcp_ts_now(w, y->ts_offset), .ts_ecr = y->ts_recent};
	struct tcp_segment_spec spec = {
		.key = &y->key, .seq = y->iss + 1, .ack = y->irs + 1, .wnd = FOIL_MIN(w->tcp->p.rx_window_bytes, (uint32_t)UINT16_MAX),
		.flags = RTE_TCP_ACK_FLAG, .opt = &opt, .dst = &y->dst,
	};

	if (tcp_answer_allowed(w))
		(void)tcp_segment_send(w, &spec); /* without an mbuf: its next SYN */
}

static bool is_in_window(const struct foil_worker *w, const struct tcp_syn *y, uint32_t seq)
{
	return seq - (y->irs + 1) < FOIL_MIN(w->tcp->p.rx_window_bytes, (uint32_t)UINT16_MAX);
}

void tcp_syn_input(struct foil_worker *w, struct tcp_syn *y, struct tcp_seg *seg)
{
	uint32_t rcv_nxt = y->irs + 1;

	if (seg->flags & RTE_TCP_RST_FLAG) { /* RFC 9293 3.10.7.4: back to LISTEN; only the exact one (RFC 5961) */
		bool is_exact = seg->seq == rcv_nxt, is_inside = !is_exact && is_in_window(w, y, seg->seq);
		tcp_seg_drop(w, seg, is_exact ? TCP_REASON_PEER_RESET : is_inside ? TCP_REASON_RST_NOT_EXACT : TCP_REASON_RST_OUT_OF_WINDOW);
		if (is_inside)
			send_challenge(w, y);
		if (!is_exact)
			return;
		FOIL_PROBE(w, TCP, SYN_RESET);
		tcp_syn_free(w, y);
		return;
	}
	if ((seg->flags & RTE_TCP_SYN_FLAG) && !(seg->flags & RTE_TCP_ACK_FLAG)) {
		if (seg->seq == y->irs) { /* the SYN again: our SYN-ACK was lost */
			FOIL_PROBE(w, TCP, SYN_AGAIN);
			tcp_synack_send(w, y);
			tcp_seg_drop(w, seg, TCP_REASON_DUPLICATE);
			return;
		}
		FOIL_PROBE(w, TCP, SYN_CHALLENGED);
		send_challenge(w, y);
		tcp_seg_drop(w, seg, TCP_REASON_SYN_IN_WINDOW);
		return;
	}
	if (!(seg->flags & RTE_TCP_ACK_FLAG) || (seg->flags & RTE_TCP_SYN_FLAG)) {
		tcp_seg_drop(w, seg, TCP_REASON_NO_ACK);
		return;
	}
	if (y->has_ts && seg->opt.has_ts && seq_lt(seg->opt.ts_val, y->ts_recent)) {
		tcp_seg_drop(w, seg, TCP_REASON_PAWS_OLD);
		return;
	}
	if (seg->ack != y->iss + 1) {
		tcp_send_rst_for(w, seg);
		tcp_seg_drop(w, seg, TCP_REASON_BAD_ACK);
		return;
	}
	if (seq_lt(seg->seq, rcv_nxt) || seq_gt(seg->seq, rcv_nxt + FOIL_MIN(w->tcp->p.rx_window_bytes, (uint32_t)UINT16_MAX))) {
		tcp_seg_drop(w, seg, TCP_REASON_OUT_OF_WINDOW);
		return;
	}
	third_segment(w, y, seg);
}
