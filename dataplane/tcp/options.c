/* TCP options, decoded and encoded (RFC 9293 3.2, RFC 7323 2.2 and 3.2, RFC 2018 2 and 3).
 * An option of a known kind with a wrong length makes the segment malformed; unknown kinds are skipped by their length. */
#include "dataplane/tcp/options.h"

#include "dataplane/core/cursor.h"

enum { OPT_EOL = 0, OPT_NOP = 1, OPT_MSS = 2, OPT_WSCALE = 3, OPT_SACK_PERMITTED = 4, OPT_SACK = 5, OPT_TS = 8 };

static bool parse_sack(struct foil_cur *c, uint32_t n_bytes, struct tcp_options *o)
{
	if (n_bytes == 0 || n_bytes % 8 != 0 || n_bytes / 8 > TCP_SACK_BLOCKS_MAX)
		return false;
	for (o->n_sack = 0; o->n_sack < n_bytes / 8; o->n_sack++) {
		o->sack[o->n_sack].start = cur_be32(c);
		o->sack[o->n_sack].end = cur_be32(c);
	}
	return true;
}

/* n_bytes: the option's payload, already known to be there. */
static bool parse_one(uint8_t kind, struct foil_cur *c, uint32_t n_bytes, struct tcp_options *o)
{
	switch (kind) {
	case OPT_MSS:
		if (n_bytes != 2)
			return false;
		o->has_mss = true;
		o->mss_bytes = cur_be16(c);
		return true;
	case OPT_WSCALE:
		if (n_bytes != 1)
			return false;
		o->has_wscale = true;
		o->wscale = cur_u8(c);
		if (o->wscale > TCP_WSCALE_MAX)
			o->wscale = TCP_WSCALE_MAX; /* RFC 7323 2.3 asks for exactly this */
		return true;
	case OPT_SACK_PERMITTED:
		o->sack_permitted = true;
		return n_bytes == 0;
	case OPT_SACK:
		return parse_sack(c, n_bytes, o);
	case OPT_TS:
		if (n_bytes != 8)
			return false;
		o->has_ts = true;
		o->ts_val = cur_be32(c);
		o->ts_ecr = cur_be32(c);
		return true;
	default:
		return cur_skip(c, n_bytes);
	}
}

bool tcp_options_parse(const void *data, uint32_t n_bytes, struct tcp_options *out)
{
	static const uint8_t ts_prefix[4] = {OPT_NOP, OPT_NOP, OPT_TS, 10};
	struct foil_cur c = cur_of(data, n_bytes);

	memset(out, 0, sizeof(*out));
	if (FOIL_LIKELY(n_bytes == TCP_OPT_TS_BYTES && memcmp(data, ts_prefix, sizeof(ts_prefix)) == 0)) {
		(void)cur_skip(&c, sizeof(ts_prefix)); /* there: just compared */
		out->has_ts = true;
		out->ts_val = cur_be32(&c);
		out->ts_ecr = cur_be32(&c);
		return true;
	}
	while (cur_left(&c) > 0) {
		uint8_t kind = cur_u8(&c);
		if (kind == OPT_EOL)
			return true;
		if (kind == OPT_NOP)
			continue;
		uint8_t length = cur_u8(&c);
		if (c.short_read || length < 2 || length - 2u > cur_left(&c))
			return false;
		if (!parse_one(kind, &c, length - 2u, out))
			return false;
	}
	return true;
}

static uint32_t bytes_before_sack(const struct tcp_options *o)
{
	uint32_t n = 0;

	if (o->has_mss)
		n += 4;
	if (o->has_ts)
		n += o->sack_permitted ? 10 : 12;
	if (o->sack_permitted)
		n += o->has_ts ? 2 : 4;
	if (o->has_wscale)
		n += 4;
	return n;
}

static uint32_t n_sack_that_fit(const struct tcp_options *o, uint32_t used)
{
	uint32_t room = TCP_OPTIONS_BYTES_MAX - used;

	if (!o->n_sack || room < 12)
		return 0;
	return FOIL_MIN((uint32_t)o->n_sack, (room - 4) / 8);
}

uint32_t tcp_options_bytes(const struct tcp_options *o)
{
	uint32_t n = bytes_before_sack(o), n_sack = n_sack_that_fit(o, n);

	return n + (n_sack ? 4 + 8 * n_sack : 0);
}

static uint8_t *put_be32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
	return p + 4;
}

static uint8_t *put_head(uint8_t *p, uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	p[0] = a;
	p[1] = b;
	p[2] = c;
	p[3] = d;
	return p + 4;
}

uint32_t tcp_options_emit(const struct tcp_options *o, uint8_t out[TCP_OPTIONS_BYTES_MAX])
{
	uint8_t *p = out;

	if (o->has_mss)
		p = put_head(p, OPT_MSS, 4, (uint8_t)(o->mss_bytes >> 8), (uint8_t)o->mss_bytes);
	if (o->has_ts) { /* SACK-permitted takes the place of the two NOPs, as in every SYN of Linux */
		if (o->sack_permitted)
			p = put_head(p, OPT_SACK_PERMITTED, 2, OPT_TS, 10);
		else
			p = put_head(p, OPT_NOP, OPT_NOP, OPT_TS, 10);
		p = put_be32(p, o->ts_val);
		p = put_be32(p, o->ts_ecr);
	} else if (o->sack_permitted) {
		p = put_head(p, OPT_NOP, OPT_NOP, OPT_SACK_PERMITTED, 2);
	}
	if (o->has_wscale)
		p = put_head(p, OPT_NOP, OPT_WSCALE, 3, o->wscale);
	uint32_t n_sack = n_sack_that_fit(o, (uint32_t)(p - out));
	if (n_sack) {
		p = put_head(p, OPT_NOP, OPT_NOP, OPT_SACK, (uint8_t)(2 + 8 * n_sack));
		for (uint32_t i = 0; i < n_sack; i++) {
			p = put_be32(p, o->sack[i].start);
			p = put_be32(p, o->sack[i].end);
		}
	}
	return (uint32_t)(p - out);
}
