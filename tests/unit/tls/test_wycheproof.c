/* Project Wycheproof's vectors (tests/unit/tls/wycheproof, made by tools/wycheproof.py): AES-GCM and ChaCha20-Poly1305 through what seals and opens our
 * records, over chains cut in several ways; ECDSA through what OpenSSL verifies certificates and handshakes with. argv[1]: the folder of the vectors. */
#include "tests/unit/tls/rig.h"

#include <openssl/err.h>

#include <stdlib.h>

#include "dataplane/tls/tls_priv.h"

#define FIELDS_MAX 7
#define BYTES_MAX 8192u

static const char *folder;

struct vector {
	uint8_t bytes[FIELDS_MAX][BYTES_MAX];
	size_t n[FIELDS_MAX];
	bool is_same[FIELDS_MAX]; /* '=' */
	bool is_valid;
};

static void read_field(const char *word, struct vector *v, int i)
{
	v->is_same[i] = word[0] == '=';
	if (v->is_same[i])
		return;
	v->n[i] = 0;
	if (word[0] == '-')
		return;
	assert_true(strlen(word) / 2 <= BYTES_MAX);
	for (; word[0]; word += 2) {
		unsigned int byte;
		assert_int_equal(sscanf(word, "%2x", &byte), 1);
		v->bytes[i][v->n[i]++] = (uint8_t)byte;
	}
}

/* Calls each for every vector of the file; how many there were. */
static unsigned int each_vector(const char *name, int n_fields, void (*each)(void *data, const struct vector *v), void *data)
{
	static struct vector v;
	static char line[6 * 2 * BYTES_MAX];
	char path[4096];
	unsigned int count = 0;

	(void)snprintf(path, sizeof(path), "%s/%s.txt", folder, name);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		char *save = NULL, *word = strtok_r(line, " \n", &save);
		if (line[0] == '#')
			continue;
		for (int i = 0; i < n_fields; i++, word = strtok_r(NULL, " \n", &save))
			read_field(word, &v, i);
		v.is_valid = word[0] == '1';
		each(data, &v);
		count++;
	}
	fclose(f);
	return count;
}

enum { KEY, NONCE, AAD, PLAIN, CIPHER, TAG };

/* One way through: the bytes that came out, and the tag. */
static void run_aead(struct foil_worker *w, struct tls_aead *a, enum tls_cipher cipher, const struct vector *v, bool is_seal, uint32_t cut)
{
	struct tls_half h = {.slot = NULL};
	struct tls_beside b = {.aad = v->bytes[AAD], .n_aad = (uint32_t)v->n[AAD]};
	struct tls_sink k = {.w = w};
	struct foil_chain in = {0};
	int from = is_seal ? PLAIN : CIPHER, to = is_seal ? CIPHER : PLAIN;
	uint8_t tag[TLS_TAG_BYTES];

	memcpy(b.nonce, v->bytes[NONCE], sizeof(b.nonce));
	memcpy(tag, v->bytes[TAG], sizeof(tag));
	if (v->n[from])
		t_chain(w, &in, v->bytes[from], (uint32_t)v->n[from], cut);
	tls_half_start(a, &h, cipher, v->bytes[KEY], is_seal);
	assert_true(tls_aead_run(a, &h, &b, &in, 0, in.n_bytes, &k));
	bool ok = is_seal ? tls_aead_tag(a, &h, tag) : tls_aead_check(a, &h, tag);
	tls_sink_close(&k);
	if (is_seal) {
		assert_true(ok);
		assert_int_equal(memcmp(tag, v->bytes[TAG], sizeof(tag)) == 0 && v->is_valid, v->is_valid);
	} else {
		assert_int_equal(ok, v->is_valid);
	}
	if (v->is_valid && v->n[to])
		t_assert_chain(&k.chain, v->bytes[to], v->n[to]);
	foil_chain_clear(&k.chain);
	foil_chain_clear(&in);
	tls_half_wipe(a, &h);
	ERR_clear_error();
}

/* The same in place. */
static void run_in_place(struct tls_aead *a, enum tls_cipher cipher, const struct vector *v, bool is_seal)
{
	static uint8_t bytes[BYTES_MAX];
	struct tls_half h = {.slot = NULL};
	struct tls_beside b = {.aad = v->bytes[AAD], .n_aad = (uint32_t)v->n[AAD]};
	int from = is_seal ? PLAIN : CIPHER, to = is_seal ? CIPHER : PLAIN;
	uint8_t tag[TLS_TAG_BYTES];
	uint32_t n = (uint32_t)v->n[from];

	memcpy(b.nonce, v->bytes[NONCE], sizeof(b.nonce));
	memcpy(tag, v->bytes[TAG], sizeof(tag));
	memcpy(bytes, v->bytes[from], n);
	tls_half_start(a, &h, cipher, v->bytes[KEY], is_seal);
	if (is_seal) {
		assert_true(tls_aead_seal(a, &h, &b, bytes, n, tag));
		assert_memory_equal(tag, v->bytes[TAG], sizeof(tag));
	} else {
		assert_int_equal(tls_aead_open(a, &h, &b, bytes, n, tag), v->is_valid ? TLS_OPEN_OK : TLS_OPEN_BAD);
	}
	if (v->is_valid && n)
		assert_memory_equal(bytes, v->bytes[to], n);
	tls_half_wipe(a, &h);
	ERR_clear_error();
}

struct aead_run {
	struct foil_worker *w;
	struct tls_aead *a;
	bool is_gcm;
};

static void one_aead(void *data, const struct vector *v)
{
	static const uint32_t cuts[] = {0, 1, 7, 64};
	struct aead_run *run = data;
	enum tls_cipher cipher = !run->is_gcm ? TLS_CIPHER_CHACHA20_POLY1305 : v->n[KEY] == 16 ? TLS_CIPHER_AES_128_GCM : TLS_CIPHER_AES_256_GCM;

	for (size_t i = 0; i < FOIL_COUNT_OF(cuts); i++) {
		run_aead(run->w, run->a, cipher, v, false, cuts[i]);
		if (v->is_valid)
			run_aead(run->w, run->a, cipher, v, true, cuts[i]);
	}
	run_in_place(run->a, cipher, v, false);
	if (v->is_valid)
		run_in_place(run->a, cipher, v, true);
}

/* By each engine that this machine has. */
static void all_aead(const char *name, bool is_gcm, unsigned int n_vectors)
{
	for (enum tls_engine engine = TLS_ENGINE_AUTO; engine <= TLS_ENGINE_OPENSSL; engine++) {
		struct aead_run run = {.w = t_worker(.seed = 1), .is_gcm = is_gcm};
		struct tls_aead_params p = {.engine = engine, .n_slots = 2};
		assert_int_equal(tls_aead_new(&p, &run.a), 0);
		print_message("%s by %s\n", name, is_gcm ? tls_aead_engine(run.a) : "openssl");
		assert_int_equal(each_vector(name, 6, one_aead, &run), n_vectors);
		tls_aead_free(run.a);
		t_worker_free(run.w);
	}
}

static void test_aes_gcm(void **state)
{
	(void)state;
	all_aead("aes_gcm", true, 133);
}

static void test_chacha20_poly1305(void **state)
{
	(void)state;
	all_aead("chacha20_poly1305", false, 316);
}

/* More keys than slots, in turns: each record opens whatever was done to the others meanwhile. */
static void test_slots_that_change_hands(void **state)
{
	enum { KEYS = 5, ROUNDS = 40 };
	for (enum tls_engine engine = TLS_ENGINE_AUTO; engine <= TLS_ENGINE_OPENSSL; engine++) {
		struct tls_aead_params p = {.engine = engine, .n_slots = 3};
		struct tls_aead *a;
		struct tls_half tx[KEYS] = {{.seq = 0}}, rx[KEYS] = {{.seq = 0}};
		struct tls_beside b = {.aad = b.own, .n_aad = 5};
		assert_int_equal(tls_aead_new(&p, &a), 0);
		for (int i = 0; i < KEYS; i++) {
			uint8_t key[32];
			memset(key, i + 1, sizeof(key));
			tls_half_start(a, &tx[i], (enum tls_cipher)(i % TLS_CIPHER_COUNT), key, true);
			tls_half_start(a, &rx[i], (enum tls_cipher)(i % TLS_CIPHER_COUNT), key, false);
		}
		for (int round = 0; round < ROUNDS; round++) {
			int i = round * 7 % KEYS;
			uint8_t bytes[100], tag[TLS_TAG_BYTES];
			memset(bytes, round, sizeof(bytes));
			b.nonce[0] = (uint8_t)round;
			assert_true(tls_aead_seal(a, &tx[i], &b, bytes, sizeof(bytes), tag));
			assert_int_equal(tls_aead_open(a, &rx[i], &b, bytes, sizeof(bytes), tag), TLS_OPEN_OK);
			for (size_t at = 0; at < sizeof(bytes); at++)
				assert_int_equal(bytes[at], round);
		}
		for (int i = 0; i < KEYS; i++) {
			tls_half_wipe(a, &tx[i]);
			if (i % 2) /* the rest goes with the worker's */
				tls_half_wipe(a, &rx[i]);
		}
		tls_aead_free(a);
	}
	(void)state;
}

struct ecdsa_run {
	const EVP_MD *md;
	EVP_PKEY *key;
};

static void one_signature(void *data, const struct vector *v)
{
	struct ecdsa_run *run = data;
	EVP_MD_CTX *md = EVP_MD_CTX_new();

	if (!v->is_same[0]) {
		const unsigned char *at = v->bytes[0];
		EVP_PKEY_free(run->key);
		run->key = d2i_PUBKEY(NULL, &at, (long)v->n[0]);
		assert_non_null(run->key);
	}
	assert_int_equal(EVP_DigestVerifyInit(md, NULL, run->md, NULL, run->key), 1);
	bool ok = EVP_DigestVerify(md, v->bytes[2], v->n[2], v->bytes[1], v->n[1]) == 1;
	if (ok != v->is_valid)
		fail_msg("message of %zu bytes, signature of %zu: %s", v->n[1], v->n[2], ok ? "taken and not valid" : "valid and not taken");
	EVP_MD_CTX_free(md);
	ERR_clear_error();
}

static void test_ecdsa(void **state)
{
	struct ecdsa_run p256 = {.md = EVP_sha256()}, p384 = {.md = EVP_sha384()};

	(void)state;
	assert_int_equal(each_vector("ecdsa_secp256r1_sha256", 3, one_signature, &p256), 484);
	assert_int_equal(each_vector("ecdsa_secp384r1_sha384", 3, one_signature, &p384), 504);
	EVP_PKEY_free(p256.key);
	EVP_PKEY_free(p384.key);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_aes_gcm),
		cmocka_unit_test(test_chacha20_poly1305),
		cmocka_unit_test(test_slots_that_change_hands),
		cmocka_unit_test(test_ecdsa),
	};

	folder = argc > 1 ? argv[1] : "tests/unit/tls/wycheproof";
	return cmocka_run_group_tests_name("Wycheproof", tests, NULL, NULL);
}
