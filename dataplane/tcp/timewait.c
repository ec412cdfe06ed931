/* TIME-WAIT in a small block (RFC 9293 3.10.7.4, RFC 6191, RFC 1337): answers the peer's FIN again, gives way to a new SYN with
 * higher numbers. All wait equally long, so one list in order of expiry and one timer serve them. The list is of indices and the time
 * of 16 bits, so that a block takes less than a cache line: 2 MSL are 2^14 units, and a block is looked at within 2^15 after it is due.
 * Invariant: the list is ordered by expiry; tw_timer is armed if it is not empty. */
#include "dataplane/tcp/tcp_priv.h"

#define TCP_TW_REUSE_US 1000000u /* an active open may take over after this, with timestamps (as Linux' tcp_tw_reuse) */
#define TCP_TW_PER_FIRE_MAX 256u
#define TCP_TW_WAIT_UNITS 16384u

static void tw_fire(struct foil_worker *w, struct foil_timer *timer);

void tcp_tw_init(struct tcp_ctx *t)
{
	t->tw_unit_us = 2 * t->p.msl_us / TCP_TW_WAIT_UNITS + 1;
	t->tw_first = t->tw_last = 0;
}

static struct tcp_tw *tw_at(const struct tcp_ctx *t, uint32_t index)
{
	return index ? tcp_pool_at(&t->tws, index - 1) : NULL;
}

struct tcp_tw *tcp_tw_first(const struct tcp_ctx *t)
{
	return tw_at(t, t->tw_first);
}

static void list_add(struct tcp_ctx *t, struct tcp_tw *tw)
{
	uint32_t index = tcp_pool_index(&t->tws, tw) + 1;

	tw->next = 0;
	tw->prev = t->tw_last & INT32_MAX; /* the table has fewer than 2^28 places */
	if (t->tw_last)
		tw_at(t, t->tw_last)->next = index;
	else
		t->tw_first = index;
	t->tw_last = index;
}

static void list_remove(struct tcp_ctx *t, struct tcp_tw *tw)
{
	if (tw->prev)
		tw_at(t, tw->prev)->next = tw->next;
	else
		t->tw_first = tw->next;
	if (tw->next)
		tw_at(t, tw->next)->prev = tw->prev;
	else
		t->tw_last = tw->prev;
}

/* In units, how long tw has still to wait; 0 or less: it is due. */
static int16_t units_left(const struct foil_worker *w, const struct tcp_tw *tw)
{
	return (int16_t)(uint16_t)(tw->expires - (uint16_t)(w->now_us / w->tcp->tw_unit_us));
}

static void arm(struct foil_worker *w)
{
	const struct tcp_tw *tw = tcp_tw_first(w->tcp);

	if (!tw || foil_timer_is_armed(&w->tcp->tw_timer))
		return;
	int16_t left = units_left(w, tw);
	foil_timer_arm(w, &w->tcp->tw_timer, w->now_us + FOIL_MAX(left > 0 ? (uint64_t)left * w->tcp->tw_unit_us : 0, (uint64_t)FOIL_TICK_US), tw_fire);
}

static void tw_fire(struct foil_worker *w, struct foil_timer *timer)
{
	struct tcp_tw *tw;

	for (uint32_t n = 0; n < TCP_TW_PER_FIRE_MAX && (tw = tcp_tw_first(w->tcp)) && units_left(w, tw) <= 0; n++)
		tcp_tw_free(w, tw);
	arm(w);
}

static void wait_from_now(struct foil_worker *w, struct tcp_tw *tw)
{
	/* one more: the unit that has begun does not count */
	tw->expires = (uint16_t)(w->now_us / w->tcp->tw_unit_us + 2 * w->tcp->p.msl_us / w->tcp->tw_unit_us + 1);
	list_add(w->tcp, tw);
	arm(w);
}

static void wait_anew(struct foil_worker *w, struct tcp_tw *tw)
{
	list_remove(w->tcp, tw);
	wait_from_now(w, tw);
}

void tcp_tw_free(struct foil_worker *w, struct tcp_tw *tw)
{
	tcp_flow_remove(w->tcp, tcp_flow_hash(w->tcp, &tw->key), TCP_KIND_TW, tw);
	list_remove(w->tcp, tw);
	tcp_pool_put(&w->tcp->tws, tw);
	foil_gauge_set(w, TCP, TIME_WAIT, w->tcp->tws.n_used);
}

bool tcp_tw_may_reuse(const struct foil_worker *w, const struct tcp_tw *tw)
{
	uint64_t left_us = (uint64_t)FOIL_MAX(units_left(w, tw), 0) * w->tcp->tw_unit_us;

	return tw->has_ts && left_us + TCP_TW_REUSE_US < 2 * w->tcp->p.msl_us;
}

static void send_ack(struct foil_worker *w, struct tcp_tw *tw)
{
	struct tcp_options opt = {.has_ts = tw->has_ts, .ts_val = tcp_ts_now(w, tcp_ts_offset(w, &tw->key)), .ts_ecr = tw->ts_recent};
	struct tcp_segment_spec spec = {
		.key = &tw->key, .seq = tw->snd_nxt, .ack = tw->rcv_nxt, .wnd = tw->wnd, .flags = RTE_TCP_ACK_FLAG, .opt = &opt,
	};

	if (tcp_answer_allowed(w))
		(void)tcp_segment_send(w, &spec); /* without an mbuf: the peer's FIN comes again */
}

void tcp_tw_enter(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_ctx *t = w->tcp;
	struct tcp_tw *tw = tcp_pool_get(&t->tws);

	if (!tw && tcp_tw_first(t)) {
		foil_reason(w, TCP, TW_RECYCLED);
		tcp_tw_free(w, tcp_tw_first(t));
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
		tw->snd_nxt = c->snd_nxt;
		tw->rcv_nxt = c->rcv_nxt;
		tw->ts_recent = c->ts_recent;
		tw->has_ts = c->has_ts;
		tw->wnd = (uint16_t)FOIL_MIN((c->rcv_adv - c->rcv_nxt) >> c->rcv_wscale, (uint32_t)UINT16_MAX);
		wait_from_now(w, tw);
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
		struct tcp_listener *l = tcp_listener_find(w, &seg->key.local);
		if (l) {
			uint32_t snd_nxt = tw->snd_nxt;
			foil_reason(w, TCP, TW_REUSED);
			FOIL_PROBE(w, TCP, TW_PASSIVE_REUSE);
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
		FOIL_PROBE(w, TCP, TW_FIN_AGAIN);
		send_ack(w, tw);
		wait_anew(w, tw);
	} else if (seg->n_bytes || (seg->flags & RTE_TCP_SYN_FLAG) || seg->seq != tw->rcv_nxt) {
		send_ack(w, tw);
	}
	tcp_seg_drop(w, seg, TCP_REASON_DUPLICATE);
}
