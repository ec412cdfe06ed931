/* Congestion window validation (RFC 7661): a window that an application does not fill says less and less of the path. It does not grow (recovery.c), a loss
 * counts from what was in flight (cc_*.c), an idle connection starts again from the initial window (RFC 5681 4.1, stricter than 7661 asks); and here: one
 * that is used by less than half for five minutes is halved, again and again, down to the initial window, while ssthresh remembers it.
 * A congestion control that has its own model of the path (BBR) is left alone. */
#include "dataplane/tcp/tcp_priv.h"

#define NON_VALIDATED_US (5ull * 60 * 1000000) /* RFC 7661 4.4 */

void tcp_cwv_sent(struct foil_worker *w, struct tcp_conn *c)
{
	uint32_t in_flight = c->snd_nxt - c->snd_una, least = TCP_IW_SEGS * c->mss_bytes;

	if (c->is_cwnd_limited || in_flight >= c->cwnd / 2 || c->ca_state != TCP_CA_OPEN || !c->validated_us) {
		c->validated_us = w->now_us;
		return;
	}
	if (FOIL_LIKELY(w->now_us - c->validated_us < NON_VALIDATED_US) || c->cc->on_rate || c->cwnd <= least)
		return;
	foil_count(w, TCP, CWND_DECAYS, 1);
	c->ssthresh = FOIL_MAX(c->ssthresh, c->cwnd / 4 * 3); /* 4.4.3 */
	c->cwnd = FOIL_MAX(c->cwnd / 2, least);
	c->validated_us = w->now_us;
}
