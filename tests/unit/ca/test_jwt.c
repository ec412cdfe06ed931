/* ctrl/ca/jwt.c: Kubernetes' tokens, good ones and one of each bad kind with its sentence. */
#include "ctrl/ca/jwt.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <stdlib.h>

#include "tests/unit/support.h"

#define NOW_S 1800000000

#define BODY "{\"iss\":\"https://k8s\",\"aud\":[\"other\",\"istio-ca\"],\"exp\":1800000600,\"nbf\":1799999000,\"sub\":\"system:serviceaccount:shop:cart\"," \
	     "\"kubernetes.io\":{\"namespace\":\"shop\"}}"

static EVP_PKEY *rsa, *ec, *stranger;
static char jwks[8192];

static void encode(const uint8_t *bytes, size_t n, char *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint32_t bits = 0;
	unsigned int n_bits = 0;

	for (size_t i = 0; i < n; i++) {
		bits = bits << 8 | bytes[i];
		for (n_bits += 8; n_bits >= 6; n_bits -= 6)
			*out++ = digits[bits >> (n_bits - 6) & 63];
	}
	if (n_bits)
		*out++ = digits[bits << (6 - n_bits) & 63];
	*out = 0;
}

static void bn_text(EVP_PKEY *key, const char *name, char *out)
{
	BIGNUM *n = NULL;
	uint8_t bytes[600];

	assert_int_equal(EVP_PKEY_get_bn_param(key, name, &n), 1);
	int len = BN_bn2binpad(n, bytes, strcmp(name, OSSL_PKEY_PARAM_EC_PUB_X) == 0 || strcmp(name, OSSL_PKEY_PARAM_EC_PUB_Y) == 0 ? 32 : BN_num_bytes(n));
	encode(bytes, (size_t)len, out);
	BN_free(n);
}

static int make_keys(void **state)
{
	char n[800], e[16], x[64], y[64];

	(void)state;
	rsa = EVP_RSA_gen(2048);
	ec = EVP_EC_gen("P-256");
	stranger = EVP_EC_gen("P-256");
	bn_text(rsa, OSSL_PKEY_PARAM_RSA_N, n);
	bn_text(rsa, OSSL_PKEY_PARAM_RSA_E, e);
	bn_text(ec, OSSL_PKEY_PARAM_EC_PUB_X, x);
	bn_text(ec, OSSL_PKEY_PARAM_EC_PUB_Y, y);
	(void)snprintf(jwks, sizeof(jwks), "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"h\",\"k\":\"AAAA\"},"
		       "{\"kty\":\"RSA\",\"use\":\"sig\",\"kid\":\"r\",\"alg\":\"RS256\","
		       "\"n\":\"%s\",\"e\":\"%s\"},{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"e\",\"x\":\"%s\",\"y\":\"%s\"}]}", n, e, x, y);
	return 0;
}

static int free_keys(void **state)
{
	(void)state;
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(ec);
	EVP_PKEY_free(stranger);
	return 0;
}

static const char *token(const char *head, const char *body, EVP_PKEY *key)
{
	static char out[8192];
	uint8_t sig[512], raw[64];
	size_t n = sizeof(sig);

	encode((const uint8_t *)head, strlen(head), out);
	memcpy(out + strlen(out), ".", 2);
	encode((const uint8_t *)body, strlen(body), out + strlen(out));
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	if (key) {
		assert_int_equal(EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key), 1);
		assert_int_equal(EVP_DigestSign(md, sig, &n, (const uint8_t *)out, strlen(out)), 1);
	} else {
		n = 0;
	}
	EVP_MD_CTX_free(md);
	memcpy(out + strlen(out), ".", 2);
	if (key && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) {
		const uint8_t *at = sig;
		ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &at, (long)n);
		assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(s), raw, 32), 32);
		assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(s), raw + 32, 32), 32);
		ECDSA_SIG_free(s);
		encode(raw, 64, out + strlen(out));
	} else if (n) {
		encode(sig, n, out + strlen(out));
	}
	return out;
}

static int account(const char *t, const char *issuer, char out[320], struct foil_error *err)
{
	const struct ca_jwt_params p = {.jwks = foil_slice_str(jwks), .audience = "istio-ca", .issuer = issuer, .now_s = NOW_S};

	*err = (struct foil_error){0};
	return ca_jwt_account(&p, t, out, err);
}

#define RS "{\"alg\":\"RS256\",\"kid\":\"r\"}"
#define ES "{\"alg\":\"ES256\",\"kid\":\"e\"}"

static void test_good_tokens(void **state)
{
	struct foil_error err;
	char out[320];

	(void)state;
	assert_int_equal(account(token(RS, BODY, rsa), "https://k8s", out, &err), 0);
	assert_string_equal(out, "shop/cart");
	assert_int_equal(account(token(ES, BODY, ec), NULL, out, &err), 0);
	assert_int_equal(account(token("{\"alg\":\"ES256\"}", BODY, ec), NULL, out, &err), 0);
	assert_int_equal(account(token(ES, "{\"aud\":\"istio-ca\",\"exp\":1800000001,\"sub\":\"system:serviceaccount:a:b\"}", ec), NULL, out, &err), 0);
	assert_string_equal(out, "a/b");
	assert_true(ca_jwt_is_one(token(ES, BODY, ec)));
	assert_false(ca_jwt_is_one("0123456789abcdef0123"));
}

static void test_each_bad_token_has_its_sentence(void **state)
{
	static const struct {
		const char *head, *body, *says;
		int key; /* 0 none, 1 rsa, 2 ec, 3 stranger */
	} cases[] = {
		{"{\"alg\":\"none\"}", BODY, "not signed", 0}, {"{\"alg\":\"NONE\"}", BODY, "not signed", 2},
		{"{\"alg\":\"HS256\",\"kid\":\"h\"}", BODY, "not RS256 or ES256", 2}, {"{\"kid\":\"e\"}", BODY, "not RS256 or ES256", 2},
		{"{\"alg\":\"ES256\",\"kid\":\"e\",\"crit\":[\"x\"]}", BODY, "critical", 2},
		{"{\"alg\":\"ES256\",\"alg\":\"none\"}", BODY, "not a JWT", 2}, {"[1]", BODY, "not a JWT", 2}, {ES, "\"x\"", "not a JWT", 2},
		{"{\"alg\":\"ES256\",\"kid\":\"gone\"}", BODY, "no key of the cluster", 2},
		{"{\"alg\":\"RS256\",\"kid\":\"e\"}", BODY, "no key of the cluster", 2},
		{ES, BODY, "signature is wrong", 3}, {ES, BODY, "signature is wrong", 0}, {RS, BODY, "signature is wrong", 2},
		{ES, "{\"aud\":\"istio-ca\",\"sub\":\"system:serviceaccount:a:b\"}", "does not say when", 2},
		{ES, "{\"aud\":\"istio-ca\",\"exp\":\"x\",\"sub\":\"system:serviceaccount:a:b\"}", "does not say when", 2},
		{ES, "{\"aud\":\"istio-ca\",\"exp\":1800000000,\"sub\":\"system:serviceaccount:a:b\"}", "expired", 2},
		{ES, "{\"aud\":\"istio-ca\",\"exp\":1800000100,\"nbf\":1800000061,\"sub\":\"system:serviceaccount:a:b\"}", "not valid yet", 2},
		{ES, "{\"aud\":\"istio-cas\",\"exp\":1800000100,\"sub\":\"system:serviceaccount:a:b\"}", "another audience", 2},
		{ES, "{\"aud\":[[\"istio-ca\"]],\"exp\":1800000100,\"sub\":\"system:serviceaccount:a:b\"}", "another audience", 2},
		{ES, "{\"exp\":1800000100,\"sub\":\"system:serviceaccount:a:b\"}", "another audience", 2},
		{ES, "{\"aud\":\"istio-ca\",\"exp\":1800000100,\"sub\":\"system:node:a\"}", "no service account", 2},
		{ES, "{\"aud\":\"istio-ca\",\"exp\":1800000100,\"sub\":\"system:serviceaccount:a:\"}", "no service account", 2},
		{ES, "{\"aud\":\"istio-ca\",\"exp\":1800000100,\"sub\":\"system:serviceaccount:a:b:c\"}", "no service account", 2},
		{ES, "{\"aud\":\"istio-ca\",\"exp\":1800000100,\"sub\":\"system:serviceaccount:a/b:c\"}", "no service account", 2},
		{ES, "{\"aud\":\"istio-ca\",\"exp\":1800000100,\"sub\":\"system:serviceaccount:a:b\","
		     "\"kubernetes.io\":{\"namespace\":\"x\"}}", "not its subject's", 2},
	};
	EVP_PKEY *keys[] = {NULL, rsa, ec, stranger};
	struct foil_error err;
	char out[320];

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		assert_int_equal(account(token(cases[i].head, cases[i].body, keys[cases[i].key]), NULL, out, &err), -EACCES);
		if (!strstr(err.text, cases[i].says))
			fail_msg("case %zu: %s", i, err.text);
	}
	assert_int_equal(account(token(ES, BODY, ec), "https://other", out, &err), -EACCES);
	assert_non_null(strstr(err.text, "another issuer"));
}

static void test_changed_and_cut_tokens_are_refused(void **state)
{
	struct foil_error err;
	char out[320], good[4096], bad[4096];

	(void)state;
	(void)snprintf(good, sizeof(good), "%s", token(ES, BODY, ec));
	size_t n = strlen(good);
	for (size_t i = 0; i < n; i++) {
		memcpy(bad, good, n + 1);
		bad[i] = good[i] == 'B' ? 'C' : 'B';
		assert_int_equal(account(bad, NULL, out, &err), -EACCES);
		bad[i] = 0;
		assert_int_equal(account(bad, NULL, out, &err), -EACCES);
	}
	const char *const junk[] = {"", ".", "..", "...", "a.b.c", "eyJ", "=.=.=", "eyJhbGciOiJub25lIn0..", "\x80.\xff.\x01"};
	for (size_t i = 0; i < FOIL_COUNT_OF(junk); i++)
		assert_int_equal(account(junk[i], NULL, out, &err), -EACCES);
	char saved = jwks[0];
	jwks[0] = 'x';
	assert_int_equal(account(good, NULL, out, &err), -EACCES);
	assert_non_null(strstr(err.text, "not a JWKS"));
	jwks[0] = saved;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_tokens),
		cmocka_unit_test(test_each_bad_token_has_its_sentence),
		cmocka_unit_test(test_changed_and_cut_tokens_are_refused),
	};

	return cmocka_run_group_tests(tests, make_keys, free_keys);
}
