/* Session tickets (RFC 5077 4, RFC 8446 4.6.1) sealed with keys that the program gives and rotates, so that any worker, and any node that was given the
 * same keys, can open them. AES-256-CBC with HMAC-SHA-256, as OpenSSL's callback wants it.
 * Invariant: a set that `now` pointed to is not written again before TLS_TICKET_GENERATIONS - 1 rotations. */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "dataplane/tls/tls_priv.h"

#define NAME_BYTES 16u
#define KEY_BYTES 32u

struct tls_tickets *tls_tickets_new(const uint8_t keys[][TLS_TICKET_KEY_BYTES], uint32_t n_keys)
{
	struct foil_blob b = {.max_bytes = 0};
	struct tls_tickets *t = foil_blob_alloc(&b, sizeof(*t));

	if (!t)
		return NULL;
	t->blob = b;
	t->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
	if (!t->cipher) {
		foil_blob_free(&b);
		return NULL;
	}
	tls_tickets_rotate(t, keys, n_keys);
	return t;
}

void tls_tickets_rotate(struct tls_tickets *t, const uint8_t keys[][TLS_TICKET_KEY_BYTES], uint32_t n_keys)
{
	struct tls_ticket_set *set = &t->sets[t->next];

	t->next = (t->next + 1) % TLS_TICKET_GENERATIONS;
	set->n_keys = FOIL_MIN(n_keys, TLS_TICKET_KEYS_MAX);
	memcpy(set->keys, keys, (size_t)set->n_keys * TLS_TICKET_KEY_BYTES);
	__atomic_store_n(&t->now, set, __ATOMIC_RELEASE);
}

void tls_tickets_free(struct tls_tickets *t)
{
	if (!t)
		return;
	struct foil_blob b = t->blob; /* the blob holds its own head */
	EVP_CIPHER_free(t->cipher);
	OPENSSL_cleanse(t, sizeof(*t));
	foil_blob_free(&b);
}

static int begin(const struct tls_tickets *t, const uint8_t key[TLS_TICKET_KEY_BYTES], const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
		 int is_sealing)
{
	const uint8_t *aes = key + NAME_BYTES, *hmac = aes + KEY_BYTES;
	OSSL_PARAM p[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)hmac, KEY_BYTES), /* only read */
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)"SHA256", 0),
		OSSL_PARAM_construct_end(),
	};

	if (EVP_CipherInit_ex2(cipher, t->cipher, aes, iv, is_sealing, NULL) != 1)
		return -1;
	return EVP_MAC_CTX_set_params(mac, p) == 1 ? 1 : -1;
}

int tls_ticket_callback(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int is_sealing)
{
	struct tls_conn *c = tls_conn_of_ssl(ssl);
	const struct tls_tickets *t = c->context->tickets;
	const struct tls_ticket_set *set = __atomic_load_n(&t->now, __ATOMIC_ACQUIRE);

	if (is_sealing) {
		if (!set->n_keys || RAND_bytes(iv, EVP_CIPHER_get_iv_length(t->cipher)) != 1)
			return -1;
		memcpy(name, set->keys[0], NAME_BYTES);
		if (c->job)
			c->job->n_tickets_sealed++;
		else
			foil_count(c->w, TLS, TICKETS_SEALED, 1);
		return begin(t, set->keys[0], iv, cipher, mac, 1);
	}
	for (uint32_t i = 0; i < set->n_keys; i++) {
		if (memcmp(name, set->keys[i], NAME_BYTES) != 0)
			continue;
		int rc = begin(t, set->keys[i], iv, cipher, mac, 0);
		bool is_renewed = i > 0 || SSL_version(ssl) == TLS1_3_VERSION; /* clients of 1.3 use each once (RFC 8446 C.4) */
		return rc == 1 && is_renewed ? 2 : rc;                         /* 2: good, and make a fresh one */
	}
	if (c->job)
		c->job->n_tickets_refused++;
	else
		foil_count(c->w, TLS, TICKETS_REFUSED, 1);
	return 0;
}
