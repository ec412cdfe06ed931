/* Response flags as Envoy's log shows them: several are joined with a comma in the order in which Envoy came to set them. Our set has no order, so
 * this file knows it: a delay comes first; that the retry limit was reached is noted before the last try's own flag in HTTP, and after the
 * connect failure in TCP (recordings of Envoy: "DI,FI", "URX,UF" and "UF,URX"). */
#include "dataplane/telemetry/tele_priv.h"

static const char *const names[TELE_FLAG_COUNT] = {
#define X(ID, name, help) name,
#include "dataplane/telemetry/flags.def"
#undef X
};

static const char *const long_names[TELE_FLAG_COUNT] = { /* Envoy's, of %RESPONSE_FLAGS_LONG% */
	[TELE_FLAG_BIT_UH] = "NoHealthyUpstream", [TELE_FLAG_BIT_UF] = "UpstreamConnectionFailure", [TELE_FLAG_BIT_UO] = "UpstreamOverflow",
	[TELE_FLAG_BIT_NR] = "NoRouteFound", [TELE_FLAG_BIT_URX] = "UpstreamRetryLimitExceeded", [TELE_FLAG_BIT_NC] = "NoClusterFound",
	[TELE_FLAG_BIT_DT] = "DurationTimeout", [TELE_FLAG_BIT_DC] = "DownstreamConnectionTermination", [TELE_FLAG_BIT_LH] = "FailedLocalHealthCheck",
	[TELE_FLAG_BIT_UT] = "UpstreamRequestTimeout", [TELE_FLAG_BIT_LR] = "LocalReset", [TELE_FLAG_BIT_UR] = "UpstreamRemoteReset",
	[TELE_FLAG_BIT_UC] = "UpstreamConnectionTermination", [TELE_FLAG_BIT_DI] = "DelayInjected", [TELE_FLAG_BIT_FI] = "FaultInjected",
	[TELE_FLAG_BIT_RL] = "RateLimited", [TELE_FLAG_BIT_UAEX] = "UnauthorizedExternalService", [TELE_FLAG_BIT_RLSE] = "RateLimitServiceError",
	[TELE_FLAG_BIT_IH] = "InvalidEnvoyRequestHeaders", [TELE_FLAG_BIT_SI] = "StreamIdleTimeout", [TELE_FLAG_BIT_DPE] = "DownstreamProtocolError",
	[TELE_FLAG_BIT_UPE] = "UpstreamProtocolError", [TELE_FLAG_BIT_UMSDR] = "UpstreamMaxStreamDurationReached",
	[TELE_FLAG_BIT_OM] = "OverloadManagerTerminated", [TELE_FLAG_BIT_DF] = "DnsResolutionFailed", [TELE_FLAG_BIT_RFCF] = "ResponseFromCacheFilter",
	[TELE_FLAG_BIT_DR] = "DownstreamRemoteReset",
};

struct text {
	const char *const *names;
	char *out;
	size_t n, n_room;
};

static void put(struct text *t, uint32_t bit)
{
	size_t n = strlen(t->names[bit]), comma = t->n ? 1 : 0;
	if (t->n + comma + n > t->n_room)
		return;
	if (comma)
		t->out[t->n] = ',';
	memcpy(t->out + t->n + comma, t->names[bit], n);
	t->n += comma + n;
}

static size_t text_of(uint64_t flags, bool is_tcp, const char *const *words, char *out, size_t n_room)
{
	struct text t = {words, out, 0, n_room};
	uint64_t first = TELE_FLAG_DI | (is_tcp ? 0 : TELE_FLAG_URX), last = is_tcp ? TELE_FLAG_URX : 0;
	const uint64_t rounds[] = {flags & first, flags & ~(first | last), flags & last};
	if (!flags && n_room) {
		out[0] = '-';
		return 1;
	}
	if (rounds[0] & TELE_FLAG_DI)
		put(&t, TELE_FLAG_BIT_DI);
	for (uint32_t k = 0; k < FOIL_COUNT_OF(rounds); k++)
		for (uint32_t bit = 0; bit < TELE_FLAG_COUNT; bit++)
			if (rounds[k] >> bit & 1 && !(k == 0 && bit == TELE_FLAG_BIT_DI))
				put(&t, bit);
	return t.n;
}

size_t tele_flags_text(uint64_t flags, bool is_tcp, char *out, size_t n_room)
{
	return text_of(flags, is_tcp, names, out, n_room);
}

size_t tele_flags_long(uint64_t flags, bool is_tcp, char *out, size_t n_room)
{
	return text_of(flags, is_tcp, long_names, out, n_room);
}
