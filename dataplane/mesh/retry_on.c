/* The words of retry_on (features.md VS-39, VS-40) as bits. */
#include "dataplane/mesh/config.h"

static const struct {
	struct foil_slice word;
	uint32_t bit;
} words[] = {
#define WORD(text, ID) {{text, sizeof(text) - 1}, MESH_RETRY_##ID}
	WORD("5xx", 5XX),
	WORD("gateway-error", GATEWAY_ERROR),
	WORD("reset", RESET),
	WORD("connect-failure", CONNECT_FAILURE),
	WORD("refused-stream", REFUSED_STREAM),
	WORD("retriable-4xx", RETRIABLE_4XX),
	WORD("retriable-status-codes", RETRIABLE_STATUS_CODES),
	WORD("reset-before-request", RESET_BEFORE_REQUEST),
	WORD("envoy-ratelimited", ENVOY_RATELIMITED),
	WORD("retriable-headers", RETRIABLE_HEADERS),
	WORD("cancelled", CANCELLED),
	WORD("deadline-exceeded", DEADLINE_EXCEEDED),
	WORD("internal", INTERNAL),
	WORD("resource-exhausted", RESOURCE_EXHAUSTED),
	WORD("unavailable", UNAVAILABLE),
	WORD("http3-post-connect-failure", HTTP3_POST_CONNECT_FAILURE),
#undef WORD
};

bool mesh_retry_on_parse(struct foil_slice word, uint32_t *bit)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(words); i++) {
		if (foil_slice_eq(words[i].word, word)) {
			*bit = words[i].bit;
			return true;
		}
	}
	return false;
}
