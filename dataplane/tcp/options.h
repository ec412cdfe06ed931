/* TCP options that we know (RFC 9293 3.1, 7323, 2018, 2883): decoded once a segment, encoded in the order and padding that every
 * stack's fast path expects (NOP NOP TS). Unknown options are skipped; an option longer than what is left is malformed. */
#pragma once

#include "dataplane/core/base.h"

#define TCP_SACK_BLOCKS_MAX 4
#define TCP_OPTIONS_BYTES_MAX 40u
#define TCP_OPT_TS_BYTES 12u /* with its two NOPs */
#define TCP_WSCALE_MAX 14u   /* RFC 7323 2.3 */

struct tcp_sack_block {
	uint32_t start, end;
};

struct tcp_options {
	bool has_mss, has_wscale, has_ts, sack_permitted;
	uint8_t wscale, n_sack;
	uint16_t mss_bytes;
	uint32_t ts_val, ts_ecr;
	struct tcp_sack_block sack[TCP_SACK_BLOCKS_MAX];
};

/* data: the n_bytes behind the fixed header, at most 40. false: malformed; *out is zeroed at first in any case. */
bool tcp_options_parse(const void *data, uint32_t n_bytes, struct tcp_options *out) FOIL_MUST_USE;
/* Length of what tcp_options_emit would write: a multiple of 4, at most 40. */
uint32_t tcp_options_bytes(const struct tcp_options *o);
/* Writes them and returns their length. SACK blocks beyond the space are left out, as tcp_options_bytes counts. */
uint32_t tcp_options_emit(const struct tcp_options *o, uint8_t out[TCP_OPTIONS_BYTES_MAX]);
