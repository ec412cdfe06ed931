/* Round-trip time and retransmission timeout (RFC 6298). Samples are in microseconds and come only from segments sent once
 * (Karn) or told apart by timestamps; who takes them decides that (ack.c).
 * Invariant: TCP_RTO_MIN_US <= rto_us <= TCP_RTO_MAX_US. */
#include "dataplane/tcp/tcp_priv.h"

#define CLOCK_GRANULARITY_US FOIL_TICK_US /* G of RFC 6298 2 */

void tcp_rtt_sample(struct tcp_conn *c, uint32_t rtt_us)
{
	if (rtt_us == 0)
		rtt_us = 1;
	if (!c->has_rtt) { /* RFC 6298 2.2 */
		c->has_rtt = true;
		c->srtt_us = rtt_us;
		c->rttvar_us = rtt_us / 2;
	} else { /* 2.3: alpha = 1/8, beta = 1/4 */
		uint32_t diff_us = c->srtt_us > rtt_us ? c->srtt_us - rtt_us : rtt_us - c->srtt_us;
		c->rttvar_us = c->rttvar_us - c->rttvar_us / 4 + diff_us / 4;
		c->srtt_us = c->srtt_us - c->srtt_us / 8 + rtt_us / 8;
		if (c->srtt_us == 0)
			c->srtt_us = 1;
	}
	uint64_t rto_us = (uint64_t)c->srtt_us + FOIL_MAX(CLOCK_GRANULARITY_US, 4ull * c->rttvar_us);
	c->rto_us = (uint32_t)FOIL_MIN(FOIL_MAX(rto_us, TCP_RTO_MIN_US), TCP_RTO_MAX_US);
	c->s.rtt_us = c->srtt_us;
	if (!c->min_rtt_us || rtt_us < c->min_rtt_us)
		c->min_rtt_us = rtt_us;
}

/* RFC 6298 5.5: doubled for each expiry in a row. */
uint32_t tcp_rto_backed_off(const struct tcp_conn *c, uint8_t n)
{
	uint64_t rto_us = (uint64_t)c->rto_us << FOIL_MIN(n, 16);

	return (uint32_t)FOIL_MIN(rto_us, TCP_RTO_MAX_US);
}
