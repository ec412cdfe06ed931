/* SYN cookies (RFC 4987 3.6): when the backlog is full a SYN is answered without keeping anything. The SYN-ACK's sequence number is
 * a keyed hash of the ends, the peer's ISN and the minute, and carries the MSS class; window scale and SACK travel in the low
 * bits of our timestamp, which the peer echoes.
 * Not a replacement for the backlog: without timestamps the options are lost. */
#include "dataplane/tcp/tcp_priv.h"

#define COOKIE_PERIOD_US 64000000ull
#define COOKIE_PERIODS_VALID 2u
#define COOKIE_MSS_BITS 3u
#define COOKIE_TS_BITS 6u /* four of window scale (15: none), one of SACK, one to tell a cookie's timestamp */

static const uint16_t mss_classes[1 << COOKIE_MSS_BITS] = {88, 536, 1024, 1220, 1360, 1440, 1460, 8960};

struct cookie_input {
	struct tcp_key key;
	uint32_t irs, period, what; /* what: 0 the number, MSS class included */
};

static uint32_t cookie_of(const struct foil_worker *w, const struct tcp_key *key, uint32_t irs, uint32_t period, uint32_t mss_class)
{
	struct cookie_input in = {*key, irs, period, mss_class};

	return (uint32_t)foil_siphash(&w->tcp->cookie_key, &in, sizeof(in)) << COOKIE_MSS_BITS | mss_class;
}

static uint32_t mss_class_of(uint16_t mss_bytes)
{
	uint32_t i = FOIL_COUNT_OF(mss_classes) - 1;

	while (i && mss_classes[i] > mss_bytes)
		i--;
	return i;
}

static uint32_t period_now(const struct foil_worker *w)
{
	return (uint32_t)(w->now_us / COOKIE_PERIOD_US);
}

void tcp_cookie_send(struct foil_worker *w, struct tcp_listener *l, const struct tcp_seg *seg)
{
	uint32_t mss_class = mss_class_of(seg->opt.has_mss ? seg->opt.mss_bytes : TCP_MSS_DEFAULT_V4);
	struct tcp_syn y = {.key = seg->key, .irs = seg->seq, .ts_recent = seg->opt.ts_val, .has_ts = seg->opt.has_ts};

	/* Not limited: a client among the flood has no other way in, and an answer is no larger than its question. */
	y.iss = cookie_of(w, &seg->key, seg->seq, period_now(w), mss_class);
	if (y.has_ts) {
		uint32_t bits = (seg->opt.has_wscale ? seg->opt.wscale : 15u) | (uint32_t)seg->opt.sack_permitted << 4;
		uint32_t now = tcp_ts_now(w, tcp_ts_offset(w, &seg->key)), low = (1u << COOKIE_TS_BITS) - 1;
		if ((now & low) < bits) /* never ahead of the clock, or our next timestamps would be older than this one */
			now -= low + 1;
		now &= ~low;
		y.has_wscale = seg->opt.has_wscale;
		y.has_sack = seg->opt.sack_permitted;
		y.ts_offset = (now | bits) - (uint32_t)(w->now_us / 1000); /* tcp_ts_now gives exactly now | bits */
	}
	foil_reason(w, TCP, SYN_COOKIE_SENT);
	w->tcp->cookie_sent_us = w->now_us;
	tcp_synack_send(w, &y);
}

bool tcp_cookie_check(struct foil_worker *w, const struct tcp_seg *seg, struct tcp_syn *y)
{
	uint32_t iss = seg->ack - 1, irs = seg->seq - 1, mss_class = iss & ((1u << COOKIE_MSS_BITS) - 1), age;

	if (!w->tcp->cookie_sent_us || w->now_us - w->tcp->cookie_sent_us >= COOKIE_PERIODS_VALID * COOKIE_PERIOD_US)
		return false; /* none is out: nothing for a guesser to hit */
	for (age = 0; age < COOKIE_PERIODS_VALID; age++)
		if (cookie_of(w, &seg->key, irs, period_now(w) - age, mss_class) == iss)
			break;
	if (age == COOKIE_PERIODS_VALID) {
		FOIL_PROBE(w, TCP, COOKIE_FORGED);
		return false;
	}
	uint32_t bits = seg->opt.has_ts ? seg->opt.ts_ecr & ((1u << COOKIE_TS_BITS) - 1) : 15u;
	if (seg->opt.has_ts)
		FOIL_PROBE(w, TCP, COOKIE_WITH_OPTIONS);
	else
		FOIL_PROBE(w, TCP, COOKIE_WITHOUT_OPTIONS);
	*y = (struct tcp_syn){
		.key = seg->key, .hash = seg->hash, .irs = irs, .iss = iss, .mss_peer_bytes = mss_classes[mss_class],
		.ts_recent = seg->opt.ts_val, .ts_offset = tcp_ts_offset(w, &seg->key), .wnd_peer = seg->wnd, .has_ts = seg->opt.has_ts,
		.has_sack = bits >> 4 & 1, .has_wscale = (bits & 15) != 15, .wscale_peer = (uint8_t)FOIL_MIN(bits & 15, TCP_WSCALE_MAX),
	};
	return true;
}
