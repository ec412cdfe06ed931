/* Initial sequence numbers (RFC 6528) and timestamp offsets (RFC 7323 5.4): a keyed hash of the connection's ends, for the ISN
 * plus a clock of 4 us. For one pair of ends both grow over time, which lets a peer in TIME-WAIT take a new SYN. */
#include "dataplane/tcp/tcp_priv.h"

uint32_t tcp_isn(const struct foil_worker *w, const struct tcp_key *key)
{
	const struct tcp_ctx *t = w->tcp;

	if (t->p.has_fixed_isn)
		return t->p.fixed_isn;
	return (uint32_t)(foil_siphash(&t->isn_key, key, sizeof(*key)) + (w->now_us >> 2));
}

uint32_t tcp_ts_offset(const struct foil_worker *w, const struct tcp_key *key)
{
	return (uint32_t)(foil_siphash(&w->tcp->isn_key, key, sizeof(*key)) >> 32);
}
