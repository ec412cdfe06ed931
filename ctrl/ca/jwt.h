/* Kubernetes' service-account tokens (JWTs, RFC 7519), verified with the cluster's keys (a JWKS, RFC 7517) as `kubectl get --raw /openid/v1/jwks` prints them.
 * The API server's TokenReview is not asked: a token of an account that was deleted meanwhile is good until it expires. */
#pragma once

#include "ctrl/ca/ca.h"

#define CA_JWT_BYTES_MAX 8192u
#define CA_JWKS_BYTES_MAX 262144u
#define CA_JWT_SLACK_S 60 /* of clocks that differ, for the beginning alone */

struct ca_jwt_params {
	struct foil_slice jwks;
	const char *audience; /* must be among the token's */
	const char *issuer;   /* NULL: any that signs with these keys */
	int64_t now_s;
};
/* out: "NAMESPACE/ACCOUNT". 0, or -EACCES with a sentence that says what is wrong with the token (never any of its bytes). */
int ca_jwt_account(const struct ca_jwt_params *p, const char *token, char out[320], struct foil_error *err) FOIL_MUST_USE;
/* Looks like one: three parts in base64url. */
bool ca_jwt_is_one(const char *token);
