/* CUBIC (RFC 9438) in integers: time in milliseconds, windows in bytes. C = 0.4 segments/s^3, beta = 0.7.
 * Slow start is RFC 5681's, the first one with HyStart++ (hystart.c). Invariant: epoch_us is 0 outside of an epoch of congestion avoidance. */
#include "dataplane/tcp/tcp_priv.h"

extern const struct tcp_cc tcp_cc_cubic;

#define CUBIC_BETA_X10 7u
#define CUBIC_T_MS_MAX 100000u /* |t - K| beyond this no longer matters, and its cube still fits */

struct cubic {
	struct tcp_hystart hystart;
	uint64_t epoch_us;
	uint32_t w_max, w_last_max; /* bytes */
	uint32_t k_ms;
	uint32_t w_est, cwnd_prior; /* Reno-friendly region (RFC 9438 4.3) */
	uint32_t w_est_rest;        /* what integer division left of w_est's growth */
};
static_assert(sizeof(struct cubic) <= sizeof(struct tcp_cc_state), "fits the connection's room");

static struct cubic *state_of(struct tcp_conn *c)
{
	return (struct cubic *)&c->cc_state;
}

static void cubic_init(struct foil_worker *w, struct tcp_conn *c)
{
	*state_of(c) = (struct cubic){0};
}

static uint32_t cube_root(uint64_t x)
{
	uint32_t root = 0;

	for (uint32_t bit = 1u << 20; bit; bit >>= 1) {
		uint64_t r = root | bit;
		if (r * r * r <= x)
			root |= bit;
	}
	return root;
}

static void epoch_begin(struct foil_worker *w, struct tcp_conn *c, struct cubic *s)
{
	s->epoch_us = w->now_us;
	s->w_est = c->cwnd;
	s->w_est_rest = 0;
	if (c->cwnd >= s->w_max) { /* RFC 9438 4.8: an epoch that no loss began */
		s->w_max = c->cwnd;
		s->k_ms = 0;
		return;
	}
	uint64_t diff = FOIL_MIN((uint64_t)(s->w_max - c->cwnd), (uint64_t)1 << 30);
	s->k_ms = cube_root(diff * 2500000000u / c->mss_bytes); /* (W_max - cwnd) / C, in segments and ms^3 */
}

/* W_cubic(t) of RFC 9438 equation 1. */
static uint64_t w_cubic(const struct tcp_conn *c, const struct cubic *s, uint64_t t_ms)
{
	uint64_t d = t_ms > s->k_ms ? t_ms - s->k_ms : s->k_ms - t_ms;
	d = FOIL_MIN(d, CUBIC_T_MS_MAX);
	uint64_t delta = (uint64_t)c->mss_bytes * (d * d * d / 1000 * 4 / 10000) / 1000;

	if (t_ms >= s->k_ms)
		return s->w_max + delta;
	return delta < s->w_max ? s->w_max - delta : c->mss_bytes;
}

/* RFC 9438 equation 4: alpha is 3(1-beta)/(1+beta) = 9/17 until the window is back where it was, then 1. */
static void grow_w_est(struct tcp_conn *c, struct cubic *s, uint32_t acked_bytes)
{
	uint64_t num = s->w_est >= s->cwnd_prior ? 17 : 9;
	uint64_t grow = num * acked_bytes * c->mss_bytes + s->w_est_rest, unit = (uint64_t)17 * c->cwnd;

	s->w_est += (uint32_t)(grow / unit);
	s->w_est_rest = (uint32_t)FOIL_MIN(grow % unit, (uint64_t)UINT32_MAX);
}

static void cubic_on_ack(struct foil_worker *w, struct tcp_conn *c, uint32_t acked_bytes)
{
	struct cubic *s = state_of(c);

	if (c->ssthresh == TCP_SSTHRESH_INITIAL) {
		c->cwnd += tcp_hystart_grow(w, c, &s->hystart, acked_bytes);
		return;
	}
	if (c->cwnd < c->ssthresh) {
		uint32_t grow = FOIL_MIN(acked_bytes, c->ssthresh - c->cwnd);
		c->cwnd += grow;
		acked_bytes -= grow;
	}
	if (!acked_bytes)
		return;
	if (!s->epoch_us)
		epoch_begin(w, c, s);
	grow_w_est(c, s, acked_bytes);
	uint64_t t_ms = (w->now_us - s->epoch_us) / 1000;
	uint64_t target = w_cubic(c, s, t_ms + c->srtt_us / 1000);
	target = FOIL_MIN(FOIL_MAX(target, (uint64_t)c->cwnd), (uint64_t)c->cwnd + c->cwnd / 2);
	if (w_cubic(c, s, t_ms) < s->w_est)
		c->cwnd = FOIL_MAX(c->cwnd, s->w_est);
	else
		c->cwnd += (uint32_t)((target - c->cwnd) * FOIL_MIN(acked_bytes, c->cwnd) / c->cwnd);
}

static uint32_t cubic_on_loss(struct foil_worker *w, struct tcp_conn *c, bool is_rto)
{
	struct cubic *s = state_of(c);
	uint32_t window = FOIL_MIN(c->cwnd, FOIL_MAX(c->snd_nxt - c->snd_una, 2u * c->mss_bytes)); /* 4.6: not what was never used */

	s->epoch_us = 0;
	s->cwnd_prior = window;
	if (window < s->w_last_max)
		s->w_max = (uint32_t)((uint64_t)window * (10 + CUBIC_BETA_X10) / 20); /* fast convergence, 4.7 */
	else
		s->w_max = window;
	s->w_last_max = window;
	return (uint32_t)FOIL_MAX((uint64_t)window * CUBIC_BETA_X10 / 10, (uint64_t)2 * c->mss_bytes);
}

static void cubic_on_idle(struct foil_worker *w, struct tcp_conn *c, uint64_t idle_us)
{
	struct cubic *s = state_of(c);

	if (s->epoch_us)
		s->epoch_us += idle_us; /* RFC 9438 5.8: the idle time does not count as growth */
	c->cwnd = FOIL_MIN(c->cwnd, TCP_IW_SEGS * c->mss_bytes); /* RFC 5681 4.1 */
}

const struct tcp_cc tcp_cc_cubic = {"cubic", cubic_init, cubic_on_ack, cubic_on_loss, cubic_on_idle};
