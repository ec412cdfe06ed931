/* NewReno: slow start, congestion avoidance and the halving of RFC 5681. Fast recovery itself is recovery.c's. */
#include "dataplane/tcp/tcp_priv.h"

extern const struct tcp_cc tcp_cc_newreno;

struct newreno {
	struct tcp_hystart hystart;
	uint32_t acked_bytes; /* since cwnd last grew in congestion avoidance: RFC 5681 3.1, appropriate byte counting */
};
static_assert(sizeof(struct newreno) <= sizeof(struct tcp_cc_state), "fits the connection's room");

static struct newreno *state_of(struct tcp_conn *c)
{
	return (struct newreno *)&c->cc_state;
}

static void newreno_init(struct foil_worker *w, struct tcp_conn *c)
{
	*state_of(c) = (struct newreno){0};
}

static void newreno_on_ack(struct foil_worker *w, struct tcp_conn *c, uint32_t acked_bytes)
{
	struct newreno *s = state_of(c);

	if (c->ssthresh == TCP_SSTHRESH_INITIAL) {
		c->cwnd += tcp_hystart_grow(w, c, &s->hystart, acked_bytes);
		return;
	}
	if (c->cwnd < c->ssthresh) {
		uint32_t grow = FOIL_MIN(acked_bytes, c->ssthresh - c->cwnd);
		c->cwnd += grow;
		acked_bytes -= grow;
	}
	s->acked_bytes += acked_bytes;
	while (s->acked_bytes >= c->cwnd) {
		s->acked_bytes -= c->cwnd;
		c->cwnd += c->mss_bytes;
	}
}

static uint32_t newreno_on_loss(struct foil_worker *w, struct tcp_conn *c, bool is_rto)
{
	state_of(c)->acked_bytes = 0;
	return FOIL_MAX((c->snd_nxt - c->snd_una) / 2, 2u * c->mss_bytes); /* RFC 5681 (4): FlightSize */
}

static void newreno_on_idle(struct foil_worker *w, struct tcp_conn *c, uint64_t idle_us)
{
	c->cwnd = FOIL_MIN(c->cwnd, TCP_IW_SEGS * c->mss_bytes); /* RFC 5681 4.1 */
}

const struct tcp_cc tcp_cc_newreno = {"newreno", newreno_init, newreno_on_ack, newreno_on_loss, newreno_on_idle};
