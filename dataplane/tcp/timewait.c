/* TIME-WAIT in a small block (RFC 9293 3.10.7.4, RFC 6191, RFC 1337): answers the peer's FIN again, gives way to a new SYN with
 * higher numbers. All wait equally long, so one list in order of expiry and one timer serve them.
 * Invariant: tw_list is ordered by expires_us; tw_timer is armed if it is not empty. */
#include "dataplane/tcp/tcp_priv.h"

#define TCP_TW_REUSE_US 1000000u /* an active open may take over after this, with timestamps (as Linux' tcp_tw_reuse) */
#define TCP_TW_PER_FIRE_MAX 256u

static void tw_fire(struct foil_worker *w, struct foil_timer *timer);

static struct tcp_tw *first_tw(const struct tcp_ctx *t)
{
	struct tcp_node *n = tcp_list_first(&t->tw_list);

	return n ? FOIL_CONTAINER_OF(n, struct tcp_tw, node) : NULL;
}

static void arm(struct foil_worker *w)
{
	const struct tcp_tw *tw = first_tw(w->tcp);

	if (tw && !foil_timer_is_armed(&w->tcp->tw_timer))
		foil_timer_arm(w, &w->tcp->tw_timer, FOIL_MAX(tw->expires_us, w->now_us + FOIL_TICK_US), tw_fire);
}

static void tw_fire(struct foil_worker *w, struct foil_timer *timer)
{
	struct tcp_tw *tw;

	for (uint32_t n = 0; n < TCP_TW_PER_FIRE_MAX && (tw = first_tw(w->tcp)) && tw->expires_us <= w->now_us; n++)
		tcp_tw_free(w, tw);
	arm(w);
}

static void wait_anew(struct foil_worker *w, struct tcp_tw *tw)
{
	tcp_node_remove(&tw->node);
	tw->expires_us = w->now_us + 2 * w->tcp->p.msl_us;
	tcp_list_push_back(&w->tcp->tw_list, &tw->node);
	arm(w);
}

void tcp_tw_free(struct foil_worker *w, struct tcp_tw *tw)
{
	tcp_flow_remove(w->tcp, tw->hash, TCP_KIND_TW, tw);
	tcp_node_remove(&tw->node);
	tcp_pool_put(&w->tcp->tws, tw);
	foil_gauge_set(w, TCP, TIME_WAIT, w->tcp->tws.n_used);
}

bool tcp_tw_may_reuse(const struct foil_worker *w, const struct tcp_tw *tw)
{
	return tw->has_ts && w->now_us - tw->since_us > TCP_TW_REUSE_US;
}

static void send_ack(struct foil_worker *w, struct tcp_tw *tw)
{
	struct tcp_options opt = {.has_ts = tw->has_ts, .ts_val = tcp_ts_now(w, tw->ts_offset), .ts_ecr = tw->ts_recent};
	struct tcp_segment_spec spec = {
		.key = &tw->key, .seq = tw->snd_nxt, .ack = tw->rcv_nxt, .wnd = tw->wnd, .flags = RTE_TCP_ACK_FLAG, .opt = &opt, .dst = &tw->dst,
	};

	if (tcp_answer_allowed(w))
		(void)tcp_segment_send(w, &spec); /* without an mbuf: the peer's FIN comes again */
}

void tcp_tw_enter(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_ctx *t = w->tcp;
	struct tcp_tw *tw = tcp_pool_get(&t->tws);

	if (!tw && first_tw(t)) {
		foil_reason(w, TCP, TW_RECYCLED);
		tcp_tw_free(w, first_tw(t));
		tw = tcp_pool_get(&t->tws);
	}
	if (c->ack_now) {
		(void)tcp_send_control(w, c, c->snd_nxt, RTE_TCP_ACK_FLAG); /* the last one: without an mbuf the peer's FIN comes again */
		foil_count(w, TCP, PURE_ACKS_TX, 1);
	}
	tcp_flow_remove(t, c->hash, TCP_KIND_CONN, c);
	c->in_table = false;
	if (tw && tcp_flow_add(t, c->hash, TCP_KIND_TW, tw)) {
		tw->key = *tcp_conn_key(c);
		tw->hash = c->hash;
		tw->snd_nxt = c->snd_nxt;
		tw->rcv_nxt = c->rcv_nxt;
		tw->ts_recent = c->ts_recent;
		tw->ts_offset = c->ts_offset;
		tw->has_ts = c->has_ts;
		tw->wnd = (uint16_t)FOIL_MIN((c->rcv_adv - c->rcv_nxt) >> c->rcv_wscale, (uint32_t)UINT16_MAX);
		tw->dst = c->dst;
		tw->since_us = w->now_us;
		wait_anew(w, tw);
	} else if (tw) {
		tcp_pool_put(&t->tws, tw);
	}
	foil_gauge_set(w, TCP, TIME_WAIT, t->tws.n_used);
	tcp_conn_become(w, c, TCP_STATE_TIME_WAIT);
	tcp_conn_finish(w, c, STREAM_END_FIN);
}

/* RFC 6191 2: a SYN may begin a new incarnation if its timestamp or its number is above everything of the old one. */
static bool may_begin_anew(const struct tcp_tw *tw, const struct tcp_seg *seg)
{
	if (tw->has_ts && seg->opt.has_ts && seg->opt.ts_val != tw->ts_recent)
		return seq_gt(seg->opt.ts_val, tw->ts_recent);
	return seq_gt(seg->seq, tw->rcv_nxt);
}

void tcp_tw_input(struct foil_worker *w, struct tcp_tw *tw, struct tcp_seg *seg)
{
	if (seg->flags & RTE_TCP_RST_FLAG) {
		tcp_seg_drop(w, seg, TCP_REASON_TW_RST);
		return;
	}
	if ((seg->flags & (RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG)) == RTE_TCP_SYN_FLAG && may_begin_anew(tw, seg)) {
		struct tcp_listener *l = tcp_listener_find(w->tcp, &seg->key.local);
		if (l) {
			uint32_t snd_nxt = tw->snd_nxt;
			foil_reason(w, TCP, TW_REUSED);
			tcp_tw_free(w, tw);
			tcp_listener_input(w, l, seg, snd_nxt);
			return;
		}
	}
	if (tw->has_ts && seg->opt.has_ts && seq_lt(seg->opt.ts_val, tw->ts_recent)) {
		send_ack(w, tw);
		tcp_seg_drop(w, seg, TCP_REASON_PAWS_OLD);
		return;
	}
	if (seg->flags & RTE_TCP_FIN_FLAG) { /* our ACK was lost */
		send_ack(w, tw);
		wait_anew(w, tw);
	} else if (seg->n_bytes || (seg->flags & RTE_TCP_SYN_FLAG) || seg->seq != tw->rcv_nxt) {
		send_ack(w, tw);
	}
	tcp_seg_drop(w, seg, TCP_REASON_DUPLICATE);
}
