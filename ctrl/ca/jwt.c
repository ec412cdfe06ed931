/* See jwt.h. The signature is verified before a claim is read; the algorithm is the key's, so that a header can only choose among keys.
 * Invariant: nothing of the token is trusted, or told, before its signature is good. */
#include "ctrl/ca/jwt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include "dataplane/core/base64.h"

#define RSA_BITS_MIN 2048
#define ES256_HALF_BYTES 32u
#define JSON_FLAGS (JSON_REJECT_DUPLICATES)

/* ---- base64url (RFC 4648 5), without padding ---- */
/* Bytes written; -1: not base64url, or too long. */
static int decode(const char *text, size_t n, uint8_t *out, size_t n_max)
{
	uint32_t bits = 0;
	unsigned int n_bits = 0;
	size_t at = 0;

	if (n % 4 == 1 || n / 4 * 3 + 2 > n_max)
		return -1;
	for (size_t i = 0; i < n; i++) {
		int d = foil_base64_digit(text[i], "-_");
		if (d < 0)
			return -1;
		bits = bits << 6 | (uint32_t)d;
		n_bits += 6;
		if (n_bits >= 8) {
			n_bits -= 8;
			out[at++] = (uint8_t)(bits >> n_bits);
		}
	}
	return bits & ((1u << n_bits) - 1) ? -1 : (int)at; /* bits left over must be 0: one text for one value */
}

struct parts {
	const char *at[3];
	size_t n[3];
};

static bool split(const char *token, struct parts *p)
{
	size_t n = strlen(token);
	const char *first = strchr(token, '.'), *second = first ? strchr(first + 1, '.') : NULL;

	if (n > CA_JWT_BYTES_MAX || !second || strchr(second + 1, '.'))
		return false;
	*p = (struct parts){{token, first + 1, second + 1}, {(size_t)(first - token), (size_t)(second - first - 1), n - (size_t)(second + 1 - token)}};
	return p->n[0] && p->n[1];
}

bool ca_jwt_is_one(const char *token)
{
	struct parts p;

	return split(token, &p) && strncmp(token, "eyJ", 3) == 0;
}

static int refuse(struct foil_error *err, const char *why)
{
	return foil_error_set(err, -EACCES, "the token is refused: %s", why);
}

static json_t *part_json(const struct parts *p, int i)
{
	static const size_t room = CA_JWT_BYTES_MAX;
	uint8_t *bytes = malloc(room);
	int n = bytes ? decode(p->at[i], p->n[i], bytes, room) : -1;
	json_t *j = n > 0 ? json_loadb((const char *)bytes, (size_t)n, JSON_FLAGS, NULL) : NULL;

	free(bytes);
	if (json_is_object(j))
		return j;
	json_decref(j);
	return NULL;
}

static const char *text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static bool says(const json_t *object, const char *key, const char *value)
{
	const char *t = text(object, key);

	return t && strcmp(t, value) == 0;
}

/* ---- keys ---- */
static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *b)
{
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
	EVP_PKEY_CTX *c = params ? EVP_PKEY_CTX_new_from_name(NULL, type, NULL) : NULL;
	EVP_PKEY *key = NULL;

	if (!c || EVP_PKEY_fromdata_init(c) != 1 || EVP_PKEY_fromdata(c, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
		key = NULL;
	EVP_PKEY_CTX_free(c);
	OSSL_PARAM_free(params);
	return key;
}

static BIGNUM *number(const json_t *jwk, const char *name)
{
	uint8_t bytes[1032];
	const char *t = text(jwk, name);
	int n = t ? decode(t, strlen(t), bytes, sizeof(bytes)) : -1;

	return n > 0 ? BN_bin2bn(bytes, n, NULL) : NULL;
}

static EVP_PKEY *rsa_key(const json_t *jwk)
{
	BIGNUM *n = number(jwk, "n"), *e = number(jwk, "e");
	OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
	EVP_PKEY *key = NULL;

	if (n && e && b && BN_num_bits(n) >= RSA_BITS_MIN && OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, e) == 1)
		key = from_params("RSA", b);
	OSSL_PARAM_BLD_free(b);
	BN_free(n);
	BN_free(e);
	return key;
}

static EVP_PKEY *ec_key(const json_t *jwk)
{
	uint8_t point[1 + 2 * ES256_HALF_BYTES + 4] = {4}; /* uncompressed */
	const char *x = text(jwk, "x"), *y = text(jwk, "y");
	OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
	EVP_PKEY *key = NULL;

	if (b && x && y && says(jwk, "crv", "P-256") && decode(x, strlen(x), point + 1, ES256_HALF_BYTES + 2) == ES256_HALF_BYTES &&
	    decode(y, strlen(y), point + 1 + ES256_HALF_BYTES, ES256_HALF_BYTES + 2) == ES256_HALF_BYTES &&
	    OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * ES256_HALF_BYTES) == 1)
		key = from_params("EC", b);
	OSSL_PARAM_BLD_free(b);
	return key;
}

/* ---- the signature ---- */
/* ES256's two halves (RFC 7518 3.4) as OpenSSL wants them; 0: they are none. */
static int to_der(const uint8_t *raw, int n, uint8_t *der, size_t n_max)
{
	ECDSA_SIG *s = n == 2 * (int)ES256_HALF_BYTES ? ECDSA_SIG_new() : NULL;
	BIGNUM *r = s ? BN_bin2bn(raw, ES256_HALF_BYTES, NULL) : NULL, *t = s ? BN_bin2bn(raw + ES256_HALF_BYTES, ES256_HALF_BYTES, NULL) : NULL;
	int out = 0;

	if (r && t && ECDSA_SIG_set0(s, r, t) == 1) {
		unsigned char *at = der;
		out = i2d_ECDSA_SIG(s, NULL) <= (int)n_max ? i2d_ECDSA_SIG(s, &at) : 0;
	} else {
		BN_free(r);
		BN_free(t);
	}
	ECDSA_SIG_free(s);
	return out;
}

static bool verify(const json_t *jwk, bool is_rsa, const struct parts *p)
{
	uint8_t raw[1032], der[80];
	int n = decode(p->at[2], p->n[2], raw, sizeof(raw)), n_der = n > 0 && !is_rsa ? to_der(raw, n, der, sizeof(der)) : 0;
	EVP_PKEY *key = n > 0 ? (is_rsa ? rsa_key(jwk) : ec_key(jwk)) : NULL;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok = key && md && (is_rsa || n_der > 0) && EVP_DigestVerifyInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
		  EVP_DigestVerify(md, is_rsa ? raw : der, (size_t)(is_rsa ? n : n_der), (const uint8_t *)p->at[0], p->n[0] + 1 + p->n[1]) == 1;

	EVP_MD_CTX_free(md);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return ok;
}

static int check_signature(const struct ca_jwt_params *q, const json_t *head, const struct parts *p, struct foil_error *err)
{
	const char *alg = text(head, "alg"), *kid = text(head, "kid");
	bool is_rsa = alg && strcmp(alg, "RS256") == 0, knows_kid = false, ok = false;

	if (alg && strcasecmp(alg, "none") == 0)
		return refuse(err, "it is not signed (alg none)");
	if (!is_rsa && (!alg || strcmp(alg, "ES256") != 0))
		return refuse(err, "its algorithm is not RS256 or ES256");
	if (json_object_get(head, "crit"))
		return refuse(err, "its header has critical extensions, of which none is known");
	json_t *set = q->jwks.n_bytes <= CA_JWKS_BYTES_MAX ? json_loadb(q->jwks.data, q->jwks.n_bytes, JSON_FLAGS, NULL) : NULL;
	const json_t *keys = json_object_get(set, "keys");
	if (!json_is_array(keys)) {
		json_decref(set);
		return refuse(err, "the file of keys (--ca-jwks) is not a JWKS");
	}
	for (size_t i = 0; !ok && i < json_array_size(keys) && i < 64; i++) {
		const json_t *k = json_array_get(keys, i);
		if ((kid && !says(k, "kid", kid)) || !says(k, "kty", is_rsa ? "RSA" : "EC") || (text(k, "use") && !says(k, "use", "sig")) ||
		    (text(k, "alg") && !says(k, "alg", alg)))
			continue;
		knows_kid = true;
		ok = verify(k, is_rsa, p);
	}
	json_decref(set);
	return ok ? 0 : refuse(err, knows_kid ? "its signature is wrong" : "no key of the cluster has its kid and algorithm");
}

/* ---- what it says ---- */
static bool has_audience(const json_t *aud, const char *wanted)
{
	if (json_is_string(aud))
		return strcmp(json_string_value(aud), wanted) == 0;
	for (size_t i = 0; i < json_array_size(aud); i++) {
		const char *one = json_string_value(json_array_get(aud, i));
		if (one && strcmp(one, wanted) == 0)
			return true;
	}
	return false;
}

static int check_claims(const struct ca_jwt_params *q, const json_t *body, char out[320], struct foil_error *err)
{
	static const char prefix[] = "system:serviceaccount:";
	const json_t *exp = json_object_get(body, "exp"), *nbf = json_object_get(body, "nbf");
	const char *sub = text(body, "sub"), *ns = text(json_object_get(body, "kubernetes.io"), "namespace");

	if (!json_is_number(exp))
		return refuse(err, "it does not say when it expires");
	if (json_number_value(exp) <= (double)q->now_s)
		return refuse(err, "it has expired");
	if (nbf && (!json_is_number(nbf) || json_number_value(nbf) > (double)(q->now_s + CA_JWT_SLACK_S)))
		return refuse(err, "it is not valid yet");
	if (q->issuer && !says(body, "iss", q->issuer))
		return refuse(err, "it is of another issuer");
	if (!has_audience(json_object_get(body, "aud"), q->audience))
		return refuse(err, "it is for another audience");
	const char *account = sub && strncmp(sub, prefix, sizeof(prefix) - 1) == 0 ? strchr(sub + sizeof(prefix) - 1, ':') : NULL;
	if (!account || !account[1] || strchr(account + 1, ':') || strpbrk(sub, "/ "))
		return refuse(err, "its subject is no service account");
	size_t n_ns = (size_t)(account - sub) - (sizeof(prefix) - 1);
	if (!n_ns || (ns && (strlen(ns) != n_ns || strncmp(ns, sub + sizeof(prefix) - 1, n_ns) != 0)))
		return refuse(err, "its namespace is not its subject's");
	int n = snprintf(out, 320, "%.*s/%s", (int)FOIL_MIN(n_ns, 320u), sub + sizeof(prefix) - 1, account + 1);
	return n > 0 && n < 320 ? 0 : refuse(err, "its subject is too long");
}

int ca_jwt_account(const struct ca_jwt_params *q, const char *token, char out[320], struct foil_error *err)
{
	struct parts p;

	if (!split(token, &p))
		return refuse(err, "it is not a JWT");
	json_t *head = part_json(&p, 0), *body = part_json(&p, 1);
	int rc = head && body ? 0 : refuse(err, "it is not a JWT");
	if (rc == 0)
		rc = check_signature(q, head, &p, err);
	if (rc == 0)
		rc = check_claims(q, body, out, err);
	json_decref(head);
	json_decref(body);
	return rc;
}
