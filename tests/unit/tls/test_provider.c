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

static bool derives(EVP_PKEY *own, EVP_PKEY *peer, const char *properties, uint8_t out[32])
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, own, properties);
	size_t n = 32;
	bool ok = EVP_PKEY_derive_init(c) == 1 && EVP_PKEY_derive_set_peer(c, peer) == 1 && EVP_PKEY_derive(c, out, &n) == 1;

	EVP_PKEY_CTX_free(c);
	ERR_clear_error();
	return ok;
}

static void same_secret(const uint8_t secret[32], const uint8_t public[32])
{
	EVP_PKEY *own = EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", THEIRS, secret, 32);
	EVP_PKEY *peer = EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", THEIRS, public, 32);
	uint8_t ours[32] = {0}, wanted[32] = {0};

	assert_int_equal(x25519_shared(ours, secret, public), derives(own, peer, THEIRS, wanted));
	assert_memory_equal(ours, wanted, 32);
	EVP_PKEY_free(own);
	EVP_PKEY_free(peer);
}

static void test_shared_secrets_are_as_openssl_has_them(void **state)
{
	/* Of small order: 0, 1, p - 1, p, p + 1, and the two of order 8 (RFC 7748 7 and its references). */
	static const uint8_t order8[2][32] = {{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
					       0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
					      {0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
					       0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57}};
	uint8_t secret[32], public[32];

	(void)state;
	if (!x25519_has_ladder())
		skip();
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(RAND_bytes(secret, sizeof(secret)) + RAND_bytes(public, sizeof(public)), 2);
		if (i < 512) { /* bits and limbs that are full, or empty, from one end to the other */
			memset(secret + i % 32, i % 2 ? 0xff : 0, 32 - i % 32);
			memset(public, i & 32 ? 0xff : 0, 32 - i % 32);
		}
		same_secret(secret, public);
	}
	for (int low = 0; low < 256; low++) { /* about 0, and about p, with the bit that is not looked at, and without */
		memset(public, 0, 32);
		public[0] = (uint8_t)low;
		same_secret(secret, public);
		memset(public, 0xff, 32);
		public[0] = (uint8_t)low;
		same_secret(secret, public);
		public[31] = 0x7f;
		same_secret(secret, public);
	}
	same_secret(secret, order8[0]);
	same_secret(secret, order8[1]);
	assert_false(x25519_shared(public, secret, order8[0]));
}

/* Two ladders after one another, each from what the one before gave (RFC 7748 5.2). */
static void test_a_thousand_times_over(void **state)
{
	static const uint8_t wanted[32] = {0x68, 0x4c, 0xf5, 0x9b, 0xa8, 0x33, 0x09, 0x55, 0x28, 0x00, 0xef, 0x56, 0x6f, 0x2f, 0x4d, 0x3c,
					   0x1c, 0x38, 0x87, 0xc4, 0x93, 0x60, 0xe3, 0x87, 0x5f, 0x2e, 0xb9, 0x4d, 0x99, 0x53, 0x2c, 0x51};
	uint8_t k[32] = {9}, u[32] = {9}, next[32];

	(void)state;
	if (!x25519_has_ladder())
		skip();
	for (int i = 0; i < 1000; i++) {
		assert_true(x25519_shared(next, k, u));
		memcpy(u, k, 32);
		memcpy(k, next, 32);
	}
	assert_memory_equal(k, wanted, 32);
}

static EVP_PKEY *made(const char *properties)
{
	EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, properties, "X25519");

	assert_non_null(k);
	return k;
}

static void shared_of(EVP_PKEY *own, EVP_PKEY *peer, const char *properties, uint8_t out[32])
{
	assert_true(derives(own, peer, properties, out));
}

/* What an exchange has been told goes with its copy; without a peer, or without a private key, there is none. */
static void test_an_exchange_is_copied_and_refused(void **state)
{
	EVP_PKEY *a = made(OURS), *b = made(OURS), *c = made(OURS);
	EVP_PKEY_CTX *first = EVP_PKEY_CTX_new_from_pkey(NULL, a, OURS), *second;
	uint8_t one[32], other[32], public[32], small[16];
	size_t n = 32;

	(void)state;
	assert_int_equal(EVP_PKEY_derive_init(first), 1);
	assert_int_not_equal(EVP_PKEY_derive(first, one, &n), 1);
	assert_int_equal(EVP_PKEY_derive_set_peer(first, b), 1);
	second = EVP_PKEY_CTX_dup(first);
	assert_non_null(second);
	assert_int_equal(EVP_PKEY_derive_set_peer(first, c), 1);
	n = sizeof(small);
	assert_int_not_equal(EVP_PKEY_derive(second, small, &n), 1);
	assert_int_equal(EVP_PKEY_derive(second, NULL, &n), 1);
	assert_int_equal(n, 32);
	assert_int_equal(EVP_PKEY_derive(second, one, &n), 1);
	shared_of(b, a, THEIRS, other);
	assert_memory_equal(one, other, 32);
	EVP_PKEY_CTX_free(first);
	EVP_PKEY_CTX_free(second);
	n = 32;
	assert_int_equal(EVP_PKEY_get_raw_public_key(b, public, &n), 1);
	EVP_PKEY *half = EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", OURS, public, 32);
	assert_non_null(half);
	assert_false(derives(half, a, OURS, one));
	EVP_PKEY_free(half);
	EVP_PKEY_free(a);
	EVP_PKEY_free(b);
	EVP_PKEY_free(c);
	ERR_clear_error();
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
		cmocka_unit_test(test_shared_secrets_are_as_openssl_has_them),
		cmocka_unit_test(test_a_thousand_times_over),
		cmocka_unit_test(test_an_exchange_is_copied_and_refused),
		cmocka_unit_test(test_keys_are_made_by_ours_and_exchanged_with_theirs),
		cmocka_unit_test(test_a_share_and_what_is_no_group),
		cmocka_unit_test(test_derivations_are_as_openssl_has_them),
		cmocka_unit_test(test_derivations_that_cannot_be),
		cmocka_unit_test(test_hmac_and_a_key_longer_than_a_block),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
