/* TCP options of any bytes: what is read, written again and read again is the same, and every cut of the bytes is read without harm. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/tcp/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static bool is_same(const struct tcp_options *a, const struct tcp_options *b)
{
	if (a->has_mss != b->has_mss || a->has_wscale != b->has_wscale || a->has_ts != b->has_ts || a->sack_permitted != b->sack_permitted)
		return false;
	if ((a->has_mss && a->mss_bytes != b->mss_bytes) || (a->has_wscale && a->wscale != b->wscale))
		return false;
	if (a->has_ts && (a->ts_val != b->ts_val || a->ts_ecr != b->ts_ecr))
		return false;
	return memcmp(a->sack, b->sack, b->n_sack * sizeof(b->sack[0])) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	uint32_t n = (uint32_t)FOIL_MIN(n_bytes, (size_t)TCP_OPTIONS_BYTES_MAX);
	struct tcp_options first, second, cut;
	uint8_t bytes[TCP_OPTIONS_BYTES_MAX], *exact;

	for (uint32_t i = 0; i <= n; i++) { /* in memory of just that size, so that a byte too far is seen */
		exact = malloc(i ? i : 1);
		FOIL_ASSERT(exact);
		if (i)
			memcpy(exact, data, i);
		(void)tcp_options_parse(exact, i, &cut);
		free(exact);
	}
	if (!tcp_options_parse(data, n, &first))
		return 0;
	FOIL_ASSERT(first.n_sack <= TCP_SACK_BLOCKS_MAX && (!first.has_wscale || first.wscale <= TCP_WSCALE_MAX));
	uint32_t n_out = tcp_options_emit(&first, bytes);
	FOIL_ASSERT(n_out <= TCP_OPTIONS_BYTES_MAX && n_out % 4 == 0 && n_out == tcp_options_bytes(&first));
	FOIL_ASSERT(tcp_options_parse(bytes, n_out, &second));
	FOIL_ASSERT(second.n_sack <= first.n_sack && is_same(&first, &second));
	return 0;
}
