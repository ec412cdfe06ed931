/* What time does to one connection: retransmission in all its modes (RTO by RFC 6298, the probe and reorder timers of RFC 8985, the zero-window probe of
 * RFC 9293 3.8.6.1), delayed ACK, pacing (pace.c), and slowly keepalive and lingering.
 *
 * One timer of the wheel serves all of it, since a connection at rest should not hold four. It is lazy: whoever wants something earlier than it fires arms it
 * anew, whoever puts something off just says so, and when it fires it looks what is due and goes on to the next.
 * Invariant: the timer is armed while rtx_mode is not TCP_RTX_NONE, delack_armed or pace_armed, and fires no later than the first of them is due. */
#include "dataplane/tcp/tcp_priv.h"

static void fire(struct foil_worker *w, struct foil_timer *timer);

void tcp_timer_by(struct foil_worker *w, struct tcp_conn *c, uint64_t at_us)
{
	if (!foil_timer_fires_by(&c->timer, at_us))
		foil_timer_arm(w, &c->timer, at_us, fire);
}

void tcp_rtx_arm(struct foil_worker *w, struct tcp_conn *c, enum tcp_rtx_mode mode, uint64_t at_us)
{
	c->rtx_mode = (uint8_t)mode;
	c->rtx_at_us = at_us;
	if (mode == TCP_RTX_NONE)
		return; /* the wheel's timer finds nothing to do */
	tcp_timer_by(w, c, at_us);
}

static uint64_t give_up_us(const struct foil_worker *w, const struct tcp_conn *c)
{
	const struct tcp_params *p = &w->tcp->p;

	return c->last_progress_us + (c->state < TCP_STATE_ESTABLISHED ? p->connect_timeout_us : tcp_user_timeout_us(w, c));
}

static void arm_rto(struct foil_worker *w, struct tcp_conn *c)
{
	uint64_t at_us = w->now_us + tcp_rto_backed_off(c, c->n_rto);

	tcp_rtx_arm(w, c, TCP_RTX_RTO, FOIL_MAX(FOIL_MIN(at_us, give_up_us(w, c)), w->now_us + TCP_RTO_MIN_US / 4));
}

static bool may_probe_tail(const struct tcp_conn *c)
{
	return c->has_sack && c->ca_state == TCP_CA_OPEN && !c->n_sacked_bytes && !c->tlp_pending && !c->n_rto;
}

void tcp_rtx_restart(struct foil_worker *w, struct tcp_conn *c)
{
	if (c->state < TCP_STATE_ESTABLISHED) {
		arm_rto(w, c);
		return;
	}
	bool is_outstanding = c->snd_una != c->snd_nxt, is_blocked = tcp_unsent_bytes(c) || (c->fin_queued && !c->fin_sent);
	if ((!is_outstanding && is_blocked) || (is_outstanding && !c->snd_wnd)) {
		if (c->rtx_mode != TCP_RTX_PERSIST)
			tcp_rtx_arm(w, c, TCP_RTX_PERSIST, w->now_us + tcp_rto_backed_off(c, c->n_persist));
	} else if (!is_outstanding) {
		tcp_rtx_arm(w, c, TCP_RTX_NONE, 0);
	} else if (may_probe_tail(c)) {
		tcp_rtx_arm(w, c, TCP_RTX_TLP, w->now_us + tcp_tlp_timeout_us(w, c));
	} else {
		arm_rto(w, c);
	}
}

void tcp_rtx_start(struct foil_worker *w, struct tcp_conn *c)
{
	if (c->rtx_mode == TCP_RTX_RTO || c->rtx_mode == TCP_RTX_REO)
		return;
	tcp_rtx_restart(w, c);
}

static void give_up(struct foil_worker *w, struct tcp_conn *c)
{
	if (c->state < TCP_STATE_ESTABLISHED) {
		foil_reason(w, TCP, CONNECT_TIMEOUT);
		tcp_conn_reset(w, c, STREAM_END_CONNECT_TIMEOUT);
		return;
	}
	foil_reason(w, TCP, USER_TIMEOUT);
	tcp_conn_reset(w, c, STREAM_END_TIMEOUT);
}

static void fire_rto(struct foil_worker *w, struct tcp_conn *c)
{
	if (w->now_us >= give_up_us(w, c)) {
		give_up(w, c);
		return;
	}
	if (c->n_rto < UINT8_MAX)
		c->n_rto++;
	arm_rto(w, c);
	if (c->state < TCP_STATE_ESTABLISHED) {
		foil_count(w, TCP, SYN_RETRANSMITS, 1);
		tcp_send_syn(w, c); /* last: it may end the connection, see tcp_connect */
	} else {
		tcp_blackhole_check(w, c);
		tcp_recovery_on_rto(w, c);
		tcp_output_want(w, c);
	}
}

static void fire_persist(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_sent *first = tcp_sent_of(tcp_list_first(&c->sent));

	if (w->now_us - c->last_rx_us >= tcp_user_timeout_us(w, c)) { /* a peer that answers may keep its window shut */
		give_up(w, c);
		return;
	}
	if (c->n_persist < UINT8_MAX)
		c->n_persist++;
	foil_count(w, TCP, PERSIST_PROBES, 1);
	c->rtx_mode = TCP_RTX_PERSIST;
	if (first && (first->flags & TCP_SENT_SACKED)) { /* not acknowledged for a timeout's length: the peer let it go (RFC 2018 8) */
		foil_reason(w, TCP, SACK_RENEGED);
		tcp_sent_mark_all_lost(c);
	}
	if (first) {
		FOIL_PROBE(w, TCP, PERSIST_RETRANSMIT);
		if (first->end - first->seq == 1 && first->flags & TCP_SENT_FIN)
			FOIL_PROBE(w, TCP, PERSIST_FIN);
		(void)tcp_output_retransmit(w, c, first); /* without an mbuf: at the next probe */
	} else if (tcp_output_probe(w, c)) {
		FOIL_PROBE(w, TCP, PERSIST_NEW_DATA);
	}
	tcp_rtx_arm(w, c, TCP_RTX_PERSIST, w->now_us + tcp_rto_backed_off(c, c->n_persist));
}

static void fire_reo(struct foil_worker *w, struct tcp_conn *c)
{
	uint32_t wait_us;
	bool is_lost = tcp_rack_detect(w, c, &wait_us);

	c->rtx_mode = TCP_RTX_NONE;
	if (is_lost)
		FOIL_PROBE(w, TCP, RACK_TIMER_LOSS);
	if (is_lost && c->ca_state == TCP_CA_OPEN)
		tcp_recovery_enter(w, c);
	if (wait_us)
		tcp_rtx_arm(w, c, TCP_RTX_REO, w->now_us + wait_us);
	else
		tcp_rtx_restart(w, c);
	tcp_output_want(w, c);
}

static void rtx_due(struct foil_worker *w, struct tcp_conn *c)
{
	switch ((enum tcp_rtx_mode)c->rtx_mode) {
	case TCP_RTX_NONE:
		return;
	case TCP_RTX_RTO:
		fire_rto(w, c);
		return;
	case TCP_RTX_TLP:
		tcp_tlp_fire(w, c);
		return;
	case TCP_RTX_REO:
		fire_reo(w, c);
		return;
	case TCP_RTX_PERSIST:
		fire_persist(w, c);
		return;
	}
	FOIL_UNREACHABLE();
}

static uint64_t delack_at_us(const struct foil_worker *w, const struct tcp_conn *c)
{
	return w->now_us + (uint64_t)(int64_t)(int32_t)(c->delack_at_us - (uint32_t)w->now_us);
}

static void delack_due(struct foil_worker *w, struct tcp_conn *c)
{
	if (!c->ack_delayed)
		return;
	FOIL_PROBE(w, TCP, DELACK_FIRED);
	c->ack_now = true;
	tcp_output_want(w, c);
}

/* It stays armed when the ACK rode on data; it then comes once for the next one, early at worst. */
void tcp_delack_arm(struct foil_worker *w, struct tcp_conn *c, uint32_t in_us)
{
	uint64_t at_us = w->now_us + in_us;

	if (c->delack_armed && delack_at_us(w, c) <= at_us)
		return;
	c->delack_armed = true;
	c->delack_at_us = (uint32_t)at_us;
	tcp_timer_by(w, c, at_us);
}

static uint64_t keepalive_at_us(const struct foil_worker *w, const struct tcp_conn *c)
{
	return c->last_rx_us + w->tcp->p.keepalive_idle_us + c->n_keepalive * (uint64_t)TCP_KEEPALIVE_INTERVAL_US;
}

/* false: the connection was given up. */
static bool keepalive(struct foil_worker *w, struct tcp_conn *c)
{
	if (w->now_us < keepalive_at_us(w, c) || c->snd_una != c->snd_nxt)
		return true;
	if (c->n_keepalive >= TCP_KEEPALIVE_PROBES) {
		foil_reason(w, TCP, KEEPALIVE_TIMEOUT);
		tcp_conn_reset(w, c, STREAM_END_TIMEOUT);
		return false;
	}
	c->n_keepalive++;
	foil_count(w, TCP, KEEPALIVE_PROBES, 1);
	(void)tcp_send_control(w, c, c->snd_nxt - 1, RTE_TCP_ACK_FLAG); /* RFC 9293 3.8.4; without an mbuf: the next one */
	return true;
}

/* UINT64_MAX: nothing is, ever. */
static uint64_t slow_at_us(const struct foil_worker *w, const struct tcp_conn *c)
{
	if (c->is_released)
		return c->last_progress_us + TCP_LINGER_US;
	return w->tcp->p.keepalive_idle_us && c->state >= TCP_STATE_ESTABLISHED ? keepalive_at_us(w, c) : UINT64_MAX;
}

static void slow_due(struct foil_worker *w, struct tcp_conn *c)
{
	if (!c->is_released) {
		if (!keepalive(w, c))
			return;
	} else {
		foil_reason(w, TCP, LINGER_EXCEEDED);
		tcp_conn_reset(w, c, STREAM_END_TIMEOUT);
		return;
	}
	tcp_slow_arm(w, c);
}

void tcp_slow_arm(struct foil_worker *w, struct tcp_conn *c)
{
	uint64_t at_us = slow_at_us(w, c);

	if (at_us == UINT64_MAX)
		return;
	if (!c->is_released)
		at_us = FOIL_MIN(at_us, w->now_us + w->tcp->p.keepalive_idle_us); /* an answer makes the next one due earlier */
	tcp_timer_by(w, c, FOIL_MAX(at_us, w->now_us + FOIL_TICK_US));
}

/* To the first of what is not due yet. */
static void go_on(struct foil_worker *w, struct tcp_conn *c, bool is_rtx_due)
{
	if (c->rtx_mode != TCP_RTX_NONE && !is_rtx_due)
		tcp_timer_by(w, c, c->rtx_at_us);
	if (c->delack_armed)
		tcp_timer_by(w, c, delack_at_us(w, c));
	if (c->pace_armed)
		tcp_timer_by(w, c, tcp_pace_due_us(c));
	tcp_slow_arm(w, c);
}

/* Of what may end the connection one thing at a time, last; what is due beside it comes a tick later. */
static void fire(struct foil_worker *w, struct foil_timer *timer)
{
	struct tcp_conn *c = FOIL_CONTAINER_OF(timer, struct tcp_conn, timer);
	bool is_rtx_due = c->rtx_mode != TCP_RTX_NONE && c->rtx_at_us <= w->now_us;

	if (c->delack_armed && delack_at_us(w, c) <= w->now_us) {
		c->delack_armed = false;
		delack_due(w, c);
	}
	if (c->pace_armed && tcp_pace_due_us(c) <= w->now_us) {
		c->pace_armed = false;
		tcp_output_want(w, c);
	}
	if (c->rtx_mode == TCP_RTX_NONE)
		tcp_rare_rest(w, c);
	if (!is_rtx_due && slow_at_us(w, c) <= w->now_us) {
		go_on(w, c, false);
		slow_due(w, c);
		return;
	}
	go_on(w, c, is_rtx_due);
	if (is_rtx_due)
		rtx_due(w, c);
}

void tcp_timers_cancel(struct foil_worker *w, struct tcp_conn *c)
{
	foil_timer_cancel(w, &c->timer);
	c->delack_armed = c->pace_armed = false;
	c->rtx_mode = TCP_RTX_NONE;
}
