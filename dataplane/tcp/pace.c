/* Pacing: the segments of a window leave spread over the round trip instead of in one burst, on the timing wheel. For algorithms that
 * set pace_Bps. A segment may leave up to TCP_PACE_SLACK_US before its time, so that a tick's worth goes out together; one that finds
 * nothing in flight leaves at once. */
#include "dataplane/tcp/tcp_priv.h"

#define TCP_PACE_SLACK_US 256u /* two ticks of the wheel */
#define TCP_PACE_DEBT_US 1000u /* time that was not used is not saved up beyond this */
/* ... but a worker that was off its CPU while segments waited for their time makes up for it, or a busy machine would look like a slow path to who
 * measures by what was sent: with a turn every 4 ms, 1 ms of each would be used. */
#define TCP_PACE_LATE_US_MAX 10000u

uint64_t tcp_pace_due_us(const struct tcp_conn *c)
{
	return c->pace_at_ns / 1000 - TCP_PACE_SLACK_US;
}

bool tcp_pace_may_send(struct foil_worker *w, struct tcp_conn *c)
{
	uint64_t at_us = c->pace_at_ns / 1000;

	if (!c->pace_Bps || at_us <= w->now_us + TCP_PACE_SLACK_US || tcp_in_flight(c) == 0)
		return true;
	FOIL_PROBE(w, TCP, PACED);
	c->pace_waits = true;
	if (!c->pace_armed)
		tcp_timer_by(w, c, tcp_pace_due_us(c));
	c->pace_armed = true;
	return false;
}

void tcp_pace_sent(const struct foil_worker *w, struct tcp_conn *c, uint32_t n_bytes)
{
	if (!c->pace_Bps)
		return;
	uint64_t least_ns = (w->now_us - (c->pace_waits ? TCP_PACE_LATE_US_MAX : TCP_PACE_DEBT_US)) * 1000;
	c->pace_at_ns = FOIL_MAX(c->pace_at_ns, least_ns) + (uint64_t)n_bytes * 1000000000u / c->pace_Bps;
}

void tcp_pace_done(struct tcp_conn *c)
{
	if (c->pace_waits && !c->pace_armed)
		c->pace_waits = false; /* something else held it back, or all has gone */
}
