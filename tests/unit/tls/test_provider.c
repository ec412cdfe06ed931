/* What of a handshake's arithmetic is ours (provider.c, hash.c, x25519.c), beside what OpenSSL's own provider says to the same. */
#include "tests/unit/tls/rig.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rand.h>

#include <stdlib.h>

#include "dataplane/tls/tls_priv.h"
#include "dataplane/tls/x25519.h"

#define OURS TLS_PROPERTIES
#define THEIRS "provider=default"

static OSSL_PROVIDER *provider;

static int load(void **state)
{
	(void)state;
	provider = tls_provider_get();
	assert_non_null(provider);
	assert_string_equal(OSSL_PROVIDER_get0_name(provider), "foil");
	return 0;
}

static int unload(void **state)
{
	(void)state;
	tls_provider_put(provider);
	tls_provider_put(NULL);
	return 0;
}

/* ---- X25519 ---- */
static EVP_PKEY *theirs(const uint8_t secret[32], uint8_t shared[32])
{
	EVP_PKEY *k = EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", THEIRS, secret, 32);
	size_t n = 32;

	assert_non_null(k);
	assert_int_equal(EVP_PKEY_get_raw_public_key(k, shared, &n), 1);
	return k;
}

static void test_public_keys_are_as_openssl_has_them(void **state)
{
	struct x25519_table *t = malloc(sizeof(*t));
	uint8_t secret[32], ours[32], wanted[32];

	(void)state;
	x25519_table_fill(t);
	for (int i = 0; i < 600; i++) {
		assert_int_equal(RAND_bytes(secret, sizeof(secret)), 1);
		if (i < 256) /* every digit and every carry, from one end to the other */
			memset(secret, i, sizeof(secret));
		else if (i < 512)
			memset(secret + i % 32, i % 2 ? 0xff : 0, 32 - i % 32);
		x25519_public(t, ours, secret);
		EVP_PKEY_free(theirs(secret, wanted));
		assert_memory_equal(ours, wanted, 32);
	}
	free(t);
}

static EVP_PKEY *made(const char *properties)
{
	EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, properties, "X25519");

	assert_non_null(k);
	return k;
}

static void shared_of(EVP_PKEY *own, EVP_PKEY *peer, const char *properties, uint8_t out[32])
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, own, properties);
	size_t n = 32;

	assert_int_equal(EVP_PKEY_derive_init(c), 1);
	assert_int_equal(EVP_PKEY_derive_set_peer(c, peer), 1);
	assert_int_equal(EVP_PKEY_derive(c, out, &n), 1);
	EVP_PKEY_CTX_free(c);
}

static void test_keys_are_made_by_ours_and_exchanged_with_theirs(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++) {
		EVP_PKEY *a = made(OURS), *b = made(THEIRS);
		uint8_t ab[32], ba[32], public[32], secret[32], wanted[32];
		size_t n_public = 32, n_secret = 32;
		assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(a)), "foil");
		assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(b)), "default");
		shared_of(a, b, OURS, ab);
		shared_of(b, a, THEIRS, ba);
		assert_memory_equal(ab, ba, 32);
		assert_int_equal(EVP_PKEY_get_raw_public_key(a, public, &n_public), 1);
		assert_int_equal(EVP_PKEY_get_raw_private_key(a, secret, &n_secret), 1);
		EVP_PKEY_free(theirs(secret, wanted));
		assert_memory_equal(public, wanted, 32);
		EVP_PKEY_free(a);
		EVP_PKEY_free(b);
	}
}

/* As libssl makes a key from the peer's share: blank, then the share's bytes. */
static void test_a_share_and_what_is_no_group(void **state)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, "X25519", OURS);
	EVP_PKEY *blank = NULL, *b = made(THEIRS), *a = made(OURS);
	uint8_t share[32], one[32], other[32];
	size_t n = 32;

	(void)state;
	assert_int_equal(EVP_PKEY_paramgen_init(c), 1);
	assert_int_equal(EVP_PKEY_CTX_set_group_name(c, "x25519"), 1);
	assert_int_equal(EVP_PKEY_paramgen(c, &blank), 1);
	assert_int_equal(EVP_PKEY_get_raw_public_key(b, share, &n), 1);
	assert_int_equal(EVP_PKEY_set1_encoded_public_key(blank, share, 32), 1);
	shared_of(a, blank, OURS, one);
	shared_of(a, b, OURS, other);
	assert_memory_equal(one, other, 32);
	memset(share, 0, 32); /* a point of small order */
	assert_int_equal(EVP_PKEY_set1_encoded_public_key(blank, share, 32), 1);
	EVP_PKEY_CTX *d = EVP_PKEY_CTX_new_from_pkey(NULL, a, OURS);
	assert_int_equal(EVP_PKEY_derive_init(d), 1);
	assert_int_equal(EVP_PKEY_derive_set_peer(d, blank), 1);
	n = 32;
	assert_int_not_equal(EVP_PKEY_derive(d, one, &n), 1);
	EVP_PKEY_CTX_free(d);
	assert_int_not_equal(EVP_PKEY_CTX_set_group_name(c, "x448"), 1);
	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(blank);
	EVP_PKEY_free(a);
	EVP_PKEY_free(b);
	ERR_clear_error();
}

/* ---- TLS13-KDF ---- */
struct asked {
	const char *properties, *mode, *digest;
	int number; /* the mode so, where it has no name */
	size_t n_key, n_salt, n_label, n_data, n_out;
};

static bool derived(const struct asked *a, uint8_t *out)
{
	static uint8_t bytes[1024];
	OSSL_PARAM p[8], *at = p;
	int number = a->number;
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", a->properties);
	EVP_KDF_CTX *c = EVP_KDF_CTX_new(kdf);

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + 1);
	*at++ = a->mode ? OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_MODE, (char *)(uintptr_t)a->mode, 0)
			: OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &number);
	*at++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)a->digest, 0);
	if (a->n_key)
		*at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, bytes, a->n_key);
	if (a->n_salt)
		*at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, bytes + 100, a->n_salt);
	*at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (char *)(uintptr_t)"tls13 ", 6);
	if (a->n_label)
		*at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, bytes + 200, a->n_label);
	if (a->n_data)
		*at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_DATA, bytes + 300, a->n_data);
	*at = OSSL_PARAM_construct_end();
	bool ok = EVP_KDF_derive(c, out, a->n_out, p) == 1;
	EVP_KDF_CTX_free(c);
	EVP_KDF_free(kdf);
	ERR_clear_error();
	return ok;
}

static void same(struct asked a)
{
	uint8_t ours[512] = {0}, wanted[512] = {0};

	a.properties = OURS;
	bool ok = derived(&a, ours);
	a.properties = THEIRS;
	assert_int_equal(derived(&a, wanted), ok);
	if (ok)
		assert_memory_equal(ours, wanted, a.n_out);
}

static void test_derivations_are_as_openssl_has_them(void **state)
{
	static const char *const digests[] = {"SHA2-256", "SHA2-384", "SHA256", "SHA384"};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", OURS);

	(void)state;
	assert_string_equal(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf)), "foil");
	EVP_KDF_free(kdf);
	for (size_t d = 0; d < FOIL_COUNT_OF(digests); d++) {
		size_t n = d % 2 ? 48 : 32;
		for (size_t n_out = 1; n_out <= 200; n_out += 13)
			for (size_t n_data = 0; n_data <= 48; n_data += 16)
				same((struct asked){.mode = "EXPAND_ONLY", .digest = digests[d], .n_key = n, .n_label = 1 + n_out % 20, .n_data = n_data,
						    .n_out = n_out});
		same((struct asked){.number = EVP_KDF_HKDF_MODE_EXPAND_ONLY, .digest = digests[d], .n_key = n, .n_label = 5, .n_out = 16});
		static const size_t key_bytes[] = {0, 32, 48, 66, 256, 1000};
		for (size_t i = 0; i < FOIL_COUNT_OF(key_bytes); i++)
			for (int salted = 0; salted < 2; salted++)
				same((struct asked){.mode = "EXTRACT_ONLY", .digest = digests[d], .n_key = key_bytes[i], .n_salt = salted ? n : 0, .n_label = 7,
						    .n_out = n});
	}
}

static void test_derivations_that_cannot_be(void **state)
{
	static const struct asked refused[] = {
		{.mode = "EXPAND_ONLY", .digest = "SHA2-512", .n_key = 64, .n_label = 5, .n_out = 16}, /* no suite of TLS 1.3 has it */
		{.mode = "EXPAND_ONLY", .digest = "SHA2-256", .n_label = 5, .n_out = 16},              /* no key */
		{.mode = "EXPAND_ONLY", .digest = "SHA2-256", .n_key = 32, .n_out = 16},               /* no label */
		{.mode = "EXPAND_ONLY", .digest = "SHA2-256", .n_key = 32, .n_label = 250, .n_out = 16},
		{.mode = "EXPAND_ONLY", .digest = "SHA2-256", .n_key = 32, .n_label = 5, .n_data = 256, .n_out = 16},
		{.mode = "EXTRACT_ONLY", .digest = "SHA2-256", .n_key = 32, .n_label = 5, .n_out = 31},
		{.mode = "EXTRACT_AND_EXPAND", .digest = "SHA2-256", .n_key = 32, .n_label = 5, .n_out = 32},
		{.number = 7, .digest = "SHA2-256", .n_key = 32, .n_label = 5, .n_out = 32},
	};
	uint8_t out[64];

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(refused); i++) {
		struct asked a = refused[i];
		a.properties = OURS;
		assert_false(derived(&a, out));
	}
}

static void test_hmac_and_a_key_longer_than_a_block(void **state)
{
	uint8_t key[200], data[300], ours[TLS_HASH_BYTES_MAX], wanted[EVP_MAX_MD_SIZE];

	(void)state;
	assert_int_equal(RAND_bytes(key, sizeof(key)) + RAND_bytes(data, sizeof(data)), 2);
	for (size_t n_key = 0; n_key <= sizeof(key); n_key += 8) {
		for (int is_sha384 = 0; is_sha384 < 2; is_sha384++) {
			const struct foil_slice parts[] = {foil_slice_of(data, 100), foil_slice_of(data + 100, 0), foil_slice_of(data + 100, 200)};
			tls_hmac(is_sha384, foil_slice_of(key, n_key), parts, FOIL_COUNT_OF(parts), ours);
			assert_non_null(HMAC(is_sha384 ? EVP_sha384() : EVP_sha256(), key, (int)n_key, data, sizeof(data), wanted, NULL));
			assert_memory_equal(ours, wanted, tls_hash_bytes(is_sha384));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_public_keys_are_as_openssl_has_them),
		cmocka_unit_test(test_keys_are_made_by_ours_and_exchanged_with_theirs),
		cmocka_unit_test(test_a_share_and_what_is_no_group),
		cmocka_unit_test(test_derivations_are_as_openssl_has_them),
		cmocka_unit_test(test_derivations_that_cannot_be),
		cmocka_unit_test(test_hmac_and_a_key_longer_than_a_block),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
