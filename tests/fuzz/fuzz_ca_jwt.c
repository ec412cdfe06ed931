/* Kubernetes' tokens: the input, up to the first newline, is the token, the rest the cluster's keys. Nothing that a fuzzer makes may be good. */
#include <stdlib.h>

#include "ctrl/ca/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const uint8_t *cut = n ? memchr(data, '\n', n) : NULL;
	size_t n_token = cut ? (size_t)(cut - data) : n;
	char *token = malloc(n_token + 1), out[320];
	struct foil_error err = {0};

	if (!token)
		return 0;
	if (n_token)
		memcpy(token, data, n_token);
	token[n_token] = 0;
	struct foil_slice jwks = cut ? foil_slice_of(cut + 1, n - n_token - 1) : foil_slice_of("", 0);
	const struct ca_jwt_params p = {.jwks = jwks, .audience = "istio-ca", .now_s = 1800000000};
	if (ca_jwt_account(&p, token, out, &err) == 0 && !strchr(out, '/'))
		abort();
	(void)ca_jwt_is_one(token);
	free(token);
	return 0;
}
