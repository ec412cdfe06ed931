/* BBR (draft-cardwell-iccrg-bbr-congestion-control-00, as Linux's): a model of the path instead of losses. The most that was delivered
 * a second lately, times the shortest round trip lately, is what the path holds; twice of it may be in flight, and it is sent at the
 * rate that was delivered, a little faster in turns to find more, a little slower to let queues go. Loss alone slows nothing down.
 * All in bytes and microseconds, gains in 1/256, without floating point. */
#include "dataplane/tcp/tcp_priv.h"

extern const struct tcp_cc tcp_cc_bbr;

#define BBR_UNIT 256u
#define BBR_HIGH_GAIN 739u               /* 2/ln 2: the least that doubles the rate each round */
#define BBR_DRAIN_GAIN 88u               /* its inverse */
#define BBR_CWND_GAIN (2 * BBR_UNIT)
#define BBR_BW_ROUNDS 10u
#define BBR_MIN_RTT_US 10000000u         /* the shortest round trip is looked for again after so long */
#define BBR_PROBE_RTT_US 200000u
#define BBR_MIN_SEGS 4u
#define BBR_FULL_BW_ROUNDS 3u            /* so many rounds without a quarter more: the pipe is full */
#define BBR_CYCLE_LEN 8u
#define BBR_EXTRA_ROUNDS 5u              /* how long one of the two slots of extra_acked is filled */
#define BBR_EXTRA_US_MAX 100000u         /* never more than so much time's worth */
#define BBR_EXTRA_EPOCH_BYTES (1u << 30) /* an epoch that went on for so long begins anew */

enum bbr_mode { BBR_STARTUP, BBR_DRAIN, BBR_PROBE_BW, BBR_PROBE_RTT };

struct bbr {
	uint32_t bw[3];      /* the three best, newest last: a windowed maximum (Linux lib/win_minmax) */
	uint16_t bw_round[3], round; /* modulo 2^16 */
	uint32_t next_round_delivered;
	uint32_t extra_acked[2], epoch_us, epoch_acked; /* acknowledged beyond what the rate explains: ACKs come in bundles */
	uint32_t min_rtt_us, min_rtt_at_us, cycle_at_us, probe_rtt_done_us;
	uint32_t full_bw, prior_cwnd;
	uint8_t mode, cycle_idx, full_bw_rounds, ca_before, extra_slot, extra_rounds;
	bool is_full, round_start, probe_rtt_round_done, conserve, idle_restart;
};
static_assert(sizeof(struct bbr) <= sizeof(struct tcp_cc_state), "fits the connection's room");

static struct bbr *state_of(struct tcp_conn *c)
{
	return (struct bbr *)&c->cc_state;
}

static void bw_update(struct bbr *b, uint32_t bw)
{
	uint16_t age = (uint16_t)(b->round - b->bw_round[2]);

	if (bw >= b->bw[0] || age > BBR_BW_ROUNDS) {
		for (int i = 0; i < 3; i++) {
			b->bw[i] = bw;
			b->bw_round[i] = b->round;
		}
		return;
	}
	for (int i = 1; i < 3; i++)
		if (bw >= b->bw[i]) {
			for (int k = i; k < 3; k++) {
				b->bw[k] = bw;
				b->bw_round[k] = b->round;
			}
			break;
		}
	while ((uint16_t)(b->round - b->bw_round[0]) > BBR_BW_ROUNDS) { /* the best has aged: the next takes its place */
		b->bw[0] = b->bw[1];
		b->bw_round[0] = b->bw_round[1];
		b->bw[1] = b->bw[2];
		b->bw_round[1] = b->bw_round[2];
		b->bw[2] = bw;
		b->bw_round[2] = b->round;
	}
}

static uint32_t bdp(const struct tcp_conn *c, const struct bbr *b, uint32_t gain)
{
	if (!b->min_rtt_us || !b->bw[0])
		return TCP_IW_SEGS * c->mss_bytes;
	uint64_t bytes = (uint64_t)b->bw[0] * b->min_rtt_us / 1000000 * gain / BBR_UNIT;
	return (uint32_t)FOIL_MIN(bytes + 3u * c->mss_bytes, (uint64_t)UINT32_MAX / 4);
}

static uint32_t pacing_gain(const struct bbr *b)
{
	static const uint16_t cycle[BBR_CYCLE_LEN] = {320, 192, 256, 256, 256, 256, 256, 256};

	switch ((enum bbr_mode)b->mode) {
	case BBR_STARTUP:
		return BBR_HIGH_GAIN;
	case BBR_DRAIN:
		return BBR_DRAIN_GAIN;
	case BBR_PROBE_BW:
		return cycle[b->cycle_idx];
	case BBR_PROBE_RTT:
		return BBR_UNIT;
	}
	FOIL_UNREACHABLE();
}

static void set_pace(struct tcp_conn *c, const struct bbr *b)
{
	uint64_t rate = (uint64_t)b->bw[0] * pacing_gain(b) / BBR_UNIT;

	rate = rate * 99 / 100; /* a little below, so that no queue stands */
	if (b->is_full || rate > c->pace_Bps)
		c->pace_Bps = FOIL_MAX(rate, 1000u);
}

static void bbr_init(struct foil_worker *w, struct tcp_conn *c)
{
	struct bbr *b = state_of(c);
	uint32_t rtt_us = c->has_rtt ? FOIL_MAX(c->srtt_us, 100u) : 1000;

	*b = (struct bbr){.mode = BBR_STARTUP, .min_rtt_us = c->min_rtt_us, .min_rtt_at_us = (uint32_t)w->now_us};
	c->pace_Bps = (uint64_t)c->cwnd * 1000000 / rtt_us * BBR_HIGH_GAIN / BBR_UNIT;
}

static void bbr_on_ack(struct foil_worker *w, struct tcp_conn *c, uint32_t acked_bytes)
{
	/* on_rate does it all */
}

static uint32_t bbr_on_loss(struct foil_worker *w, struct tcp_conn *c, bool is_rto)
{
	struct bbr *b = state_of(c);

	/* By what the last ACK left: a recovery that begins in the ACK that ended another finds the window of that one, not the path's. */
	b->prior_cwnd = b->ca_before == TCP_CA_OPEN && b->mode != BBR_PROBE_RTT ? c->cwnd : FOIL_MAX(b->prior_cwnd, c->cwnd);
	if (is_rto)
		b->full_bw = 0;
	return c->ssthresh;
}

static void bbr_on_idle(struct foil_worker *w, struct tcp_conn *c, uint64_t idle_us)
{
	struct bbr *b = state_of(c);

	b->idle_restart = true;
	if (b->mode == BBR_PROBE_BW && b->bw[0])
		c->pace_Bps = b->bw[0]; /* as it went last, not faster */
}

static void round_update(struct tcp_conn *c, struct bbr *b, const struct tcp_rate *s)
{
	b->round_start = false;
	if (!s->is_valid)
		return;
	if (seq_geq(s->prior_delivered, b->next_round_delivered)) {
		b->next_round_delivered = c->rate.delivered;
		b->round++;
		b->round_start = true;
		b->conserve = false;
	}
	uint64_t bw = (uint64_t)s->delivered * 1000000 / s->interval_us;
	if (!s->is_app_limited || bw >= b->bw[0])
		bw_update(b, (uint32_t)FOIL_MIN(bw, (uint64_t)UINT32_MAX));
}

/* ACKs come in bundles where hosts sleep, receivers save ACKs and links gather frames. While one is awaited the window must hold what it will
 * acknowledge beyond the path's product; the most of the last rounds is kept in two slots that take turns. */
static void extra_update(struct foil_worker *w, struct tcp_conn *c, struct bbr *b, const struct tcp_rate *s)
{
	uint32_t now = (uint32_t)w->now_us;

	if (!s->delivered_now || !b->bw[0])
		return;
	if (b->round_start && ++b->extra_rounds >= BBR_EXTRA_ROUNDS) {
		b->extra_rounds = 0;
		b->extra_slot ^= 1;
		b->extra_acked[b->extra_slot] = 0;
	}
	uint64_t expected = (uint64_t)b->bw[0] * (now - b->epoch_us) / 1000000;
	if (b->epoch_acked <= expected || b->epoch_acked >= BBR_EXTRA_EPOCH_BYTES) {
		b->epoch_acked = 0;
		b->epoch_us = now;
		expected = 0;
	}
	b->epoch_acked += s->delivered_now;
	uint64_t extra = FOIL_MIN(b->epoch_acked - FOIL_MIN(expected, (uint64_t)b->epoch_acked), (uint64_t)c->cwnd);
	b->extra_acked[b->extra_slot] = FOIL_MAX(b->extra_acked[b->extra_slot], (uint32_t)extra);
}

static uint32_t extra_bytes(const struct bbr *b)
{
	uint64_t most = (uint64_t)b->bw[0] * BBR_EXTRA_US_MAX / 1000000;

	return b->is_full ? (uint32_t)FOIL_MIN((uint64_t)FOIL_MAX(b->extra_acked[0], b->extra_acked[1]), most) : 0;
}

static void cycle_update(struct foil_worker *w, struct tcp_conn *c, struct bbr *b, const struct tcp_rate *s)
{
	uint32_t now = (uint32_t)w->now_us, in_flight = tcp_in_flight(c) + s->delivered_now;
	bool is_long = now - b->cycle_at_us > b->min_rtt_us;

	if (b->mode != BBR_PROBE_BW)
		return;
	bool next = is_long;
	if (pacing_gain(b) > BBR_UNIT) /* until it is really in flight, or something got lost */
		next = is_long && (s->lost_bytes || in_flight >= bdp(c, b, pacing_gain(b)));
	else if (pacing_gain(b) < BBR_UNIT)
		next = is_long || in_flight <= bdp(c, b, BBR_UNIT);
	if (!next)
		return;
	b->cycle_idx = (uint8_t)((b->cycle_idx + 1) % BBR_CYCLE_LEN);
	b->cycle_at_us = now;
}

static void probe_bw_begin(struct foil_worker *w, struct bbr *b)
{
	b->mode = BBR_PROBE_BW;
	b->cycle_idx = (uint8_t)(2 + foil_prng_below(&w->prng, BBR_CYCLE_LEN - 2)); /* flows that began together part here */
	b->cycle_at_us = (uint32_t)w->now_us;
}

static void full_check(struct foil_worker *w, struct tcp_conn *c, struct bbr *b, const struct tcp_rate *s)
{
	if (!b->is_full && b->round_start && !s->is_app_limited) {
		if (b->bw[0] >= (uint64_t)b->full_bw * 5 / 4) {
			b->full_bw = b->bw[0];
			b->full_bw_rounds = 0;
		} else if (++b->full_bw_rounds >= BBR_FULL_BW_ROUNDS) {
			b->is_full = true;
		}
	}
	if (b->mode == BBR_STARTUP && b->is_full)
		b->mode = BBR_DRAIN;
	if (b->mode == BBR_DRAIN && tcp_in_flight(c) <= bdp(c, b, BBR_UNIT))
		probe_bw_begin(w, b);
}

static void probe_rtt_update(struct foil_worker *w, struct tcp_conn *c, struct bbr *b, const struct tcp_rate *s)
{
	uint32_t now = (uint32_t)w->now_us;
	bool is_expired = now - b->min_rtt_at_us > BBR_MIN_RTT_US;

	if (s->rtt_us && (!b->min_rtt_us || s->rtt_us <= b->min_rtt_us || is_expired)) {
		b->min_rtt_us = s->rtt_us;
		b->min_rtt_at_us = now;
	}
	if (is_expired && !b->idle_restart && b->mode != BBR_PROBE_RTT) {
		b->mode = BBR_PROBE_RTT;
		b->prior_cwnd = c->cwnd;
		b->probe_rtt_done_us = 0;
	}
	if (b->mode == BBR_PROBE_RTT) {
		if (!b->probe_rtt_done_us && tcp_in_flight(c) <= BBR_MIN_SEGS * c->mss_bytes) {
			b->probe_rtt_done_us = (now + BBR_PROBE_RTT_US) | 1;
			b->probe_rtt_round_done = false;
			b->next_round_delivered = c->rate.delivered;
		} else if (b->probe_rtt_done_us) {
			b->probe_rtt_round_done |= b->round_start;
			if (b->probe_rtt_round_done && seq_geq(now, b->probe_rtt_done_us)) {
				b->min_rtt_at_us = now;
				c->cwnd = FOIL_MAX(c->cwnd, b->prior_cwnd);
				if (b->is_full)
					probe_bw_begin(w, b);
				else
					b->mode = BBR_STARTUP;
			}
		}
	}
	if (s->delivered_now)
		b->idle_restart = false;
}

static void set_cwnd(struct tcp_conn *c, struct bbr *b, const struct tcp_rate *s)
{
	uint32_t acked = s->delivered_now, least = BBR_MIN_SEGS * c->mss_bytes;
	uint32_t target = bdp(c, b, b->is_full ? BBR_CWND_GAIN : BBR_HIGH_GAIN) + extra_bytes(b);

	if (c->ca_state != TCP_CA_OPEN && b->ca_before == TCP_CA_OPEN) { /* for one round, what left the path may enter it */
		b->conserve = true;
		b->next_round_delivered = c->rate.delivered;
		c->cwnd = tcp_in_flight(c) + FOIL_MAX(acked, (uint32_t)c->mss_bytes);
	} else if (c->ca_state == TCP_CA_OPEN && b->ca_before != TCP_CA_OPEN) {
		b->conserve = false;
		c->cwnd = FOIL_MAX(c->cwnd, b->prior_cwnd);
	}
	b->ca_before = c->ca_state;
	if (s->lost_bytes)
		c->cwnd = c->cwnd > s->lost_bytes + c->mss_bytes ? c->cwnd - s->lost_bytes : c->mss_bytes;
	if (b->conserve) {
		c->cwnd = FOIL_MAX(c->cwnd, tcp_in_flight(c) + acked);
	} else if (b->is_full) {
		c->cwnd = FOIL_MIN(c->cwnd + acked, target);
	} else if (c->cwnd < target || c->rate.delivered < TCP_IW_SEGS * c->mss_bytes) {
		c->cwnd += acked;
	}
	c->cwnd = FOIL_MAX(c->cwnd, least);
	if (b->mode == BBR_PROBE_RTT)
		c->cwnd = FOIL_MIN(c->cwnd, least);
}

static void bbr_on_rate(struct foil_worker *w, struct tcp_conn *c, const struct tcp_rate *s)
{
	struct bbr *b = state_of(c);

	round_update(c, b, s);
	extra_update(w, c, b, s);
	cycle_update(w, c, b, s);
	full_check(w, c, b, s);
	probe_rtt_update(w, c, b, s);
	if (b->bw[0])
		set_pace(c, b);
	set_cwnd(c, b, s);
}

const struct tcp_cc tcp_cc_bbr = {"bbr", bbr_init, bbr_on_ack, bbr_on_loss, bbr_on_idle, bbr_on_rate};
