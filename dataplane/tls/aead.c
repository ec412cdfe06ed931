/* The ciphers under our records, behind one small interface: AES-GCM by intel-ipsec-mb where the processor has AES instructions, else, and for
 * ChaCha20-Poly1305, OpenSSL's EVP. docs/decisions/0008-records-by-ipsec-mb.md has the figures.
 *
 * A connection holds keys as they were derived (32 bytes); what a cipher makes of one before it can work (a schedule: 1 KB) lives in one of the worker's
 * slots while it is of use. There are fewer slots than connections: the one that was not used for longest, about (a clock's hand), is taken for another
 * key, and its owner makes it again when its next record comes, which costs about as much as the record.
 * Invariants: slot->owner->slot == slot; a slot that has no owner holds no key. */
#include <errno.h>
#include <stdlib.h>

#define LINUX /* else its structures are not aligned as its code is told they are */
#define NO_COMPAT_IMB_API_053 /* its old names, one of which is SHA1 */
#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>

#include "dataplane/tls/tls_priv.h"

static_assert(sizeof(struct gcm_key_data) % 64 == 0, "an array of them keeps each aligned");

struct tls_slot {
	struct tls_half *owner;
	struct tls_slot *next_free;
	EVP_CIPHER_CTX *evp; /* OpenSSL's ciphers; kept for the next owner */
	enum tls_cipher evp_cipher;
	bool has_evp_cipher, is_used;
};

struct tls_aead {
	IMB_MGR *mb; /* NULL: OpenSSL does all */
	EVP_CIPHER *ciphers[TLS_CIPHER_COUNT];
	struct tls_slot *slots, *free;
	struct gcm_key_data *gcm; /* one a slot */
	uint32_t n_slots, n_fresh, hand;
	struct gcm_context_data run; /* of the record that is at work */
};

/* ---- life ---- */
static bool has_aes(const IMB_MGR *mb)
{
	return (mb->features & IMB_FEATURE_AESNI) && (mb->features & IMB_FEATURE_PCLMULQDQ);
}

static void use_mb(struct tls_aead *a)
{
	a->mb = alloc_mb_mgr(0);
	if (!a->mb)
		return;
	init_mb_mgr_auto(a->mb, NULL);
	if (imb_get_errno(a->mb) == 0 && has_aes(a->mb))
		return;
	free_mb_mgr(a->mb);
	a->mb = NULL;
}

static bool fetch(struct tls_aead *a)
{
	static const char *const names[TLS_CIPHER_COUNT] = {[TLS_CIPHER_AES_128_GCM] = "AES-128-GCM", [TLS_CIPHER_AES_256_GCM] = "AES-256-GCM",
							    [TLS_CIPHER_CHACHA20_POLY1305] = "ChaCha20-Poly1305"};
	bool ok = true;

	for (int i = 0; i < TLS_CIPHER_COUNT; i++)
		ok = ok && (a->ciphers[i] = EVP_CIPHER_fetch(NULL, names[i], NULL));
	return ok;
}

int tls_aead_new(const struct tls_aead_params *p, struct tls_aead **out)
{
	struct tls_aead *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->n_slots = p->n_slots;
	a->slots = calloc(p->n_slots, sizeof(*a->slots));
	a->gcm = aligned_alloc(64, (size_t)p->n_slots * sizeof(*a->gcm)); /* touched when first used */
	if (p->engine == TLS_ENGINE_AUTO)
		use_mb(a);
	if (!a->slots || !a->gcm || !fetch(a)) {
		tls_aead_free(a);
		return -ENOMEM;
	}
	*out = a;
	return 0;
}

void tls_aead_free(struct tls_aead *a)
{
	if (!a)
		return;
	for (uint32_t i = 0; a->slots && i < a->n_fresh; i++)
		EVP_CIPHER_CTX_free(a->slots[i].evp);
	for (int i = 0; i < TLS_CIPHER_COUNT; i++)
		EVP_CIPHER_free(a->ciphers[i]);
	if (a->gcm)
		OPENSSL_cleanse(a->gcm, (size_t)a->n_fresh * sizeof(*a->gcm));
	free(a->gcm);
	free(a->slots);
	if (a->mb)
		free_mb_mgr(a->mb);
	OPENSSL_cleanse(a, sizeof(*a));
	free(a);
}

const char *tls_aead_engine(const struct tls_aead *a)
{
	return a->mb ? "ipsec-mb" : "openssl";
}

/* ---- slots ---- */
static bool is_mb(const struct tls_aead *a, const struct tls_half *h)
{
	return a->mb && h->cipher != TLS_CIPHER_CHACHA20_POLY1305;
}

static struct gcm_key_data *gcm_of(struct tls_aead *a, const struct tls_half *h)
{
	return &a->gcm[h->slot - a->slots];
}

static void slot_leave(struct tls_aead *a, struct tls_half *h)
{
	struct tls_slot *s = h->slot;

	FOIL_ASSERT(s->owner == h);
	if (is_mb(a, h)) {
		OPENSSL_cleanse(gcm_of(a, h), sizeof(*a->gcm));
	} else {
		(void)EVP_CIPHER_CTX_reset(s->evp); /* wipes the key; always 1 */
		s->has_evp_cipher = false;
	}
	h->slot = NULL;
	s->owner = NULL;
}

static struct tls_slot *slot_take(struct tls_aead *a)
{
	struct tls_slot *s = a->free;

	if (s) {
		a->free = s->next_free;
		return s;
	}
	if (a->n_fresh < a->n_slots)
		return &a->slots[a->n_fresh++];
	for (;;) { /* once around at most */
		s = &a->slots[a->hand];
		a->hand = a->hand + 1 == a->n_slots ? 0 : a->hand + 1;
		if (!s->is_used)
			break;
		s->is_used = false;
	}
	slot_leave(a, s->owner); /* none is free: all have owners */
	return s;
}

static void slot_give(struct tls_aead *a, struct tls_half *h)
{
	struct tls_slot *s = h->slot;

	if (!s)
		return;
	slot_leave(a, h);
	s->next_free = a->free;
	a->free = s;
}

static bool evp_start(struct tls_aead *a, struct tls_slot *s, const struct tls_half *h)
{
	if (!s->evp)
		s->evp = EVP_CIPHER_CTX_new();
	return s->evp && EVP_CipherInit_ex2(s->evp, a->ciphers[h->cipher], h->key, NULL, h->is_tx, NULL) == 1;
}

/* Its schedule is there. */
static bool slot_ready(struct tls_aead *a, struct tls_half *h)
{
	struct tls_slot *s = h->slot;

	if (s) {
		s->is_used = true;
		return true;
	}
	s = slot_take(a);
	s->owner = h;
	s->is_used = true;
	h->slot = s;
	if (is_mb(a, h)) {
		if (h->cipher == TLS_CIPHER_AES_128_GCM)
			IMB_AES128_GCM_PRE(a->mb, h->key, gcm_of(a, h));
		else
			IMB_AES256_GCM_PRE(a->mb, h->key, gcm_of(a, h));
		return true;
	}
	if (evp_start(a, s, h))
		return true;
	slot_give(a, h);
	return false;
}

void tls_half_start(struct tls_aead *a, struct tls_half *h, enum tls_cipher cipher, const uint8_t *key, bool is_tx)
{
	slot_give(a, h);
	h->seq = 0;
	h->cipher = (uint8_t)cipher;
	h->is_tx = is_tx;
	memcpy(h->key, key, cipher == TLS_CIPHER_AES_128_GCM ? 16 : 32);
}

void tls_half_wipe(struct tls_aead *a, struct tls_half *h)
{
	slot_give(a, h);
	OPENSSL_cleanse(h, sizeof(*h));
}

/* ---- one record, in parts ---- */
bool tls_aead_begin(struct tls_aead *a, struct tls_half *h, const struct tls_beside *b)
{
	int n_out = 0;

	if (!slot_ready(a, h))
		return false;
	if (!is_mb(a, h))
		return EVP_CipherInit_ex2(h->slot->evp, NULL, NULL, b->nonce, -1, NULL) == 1 &&
		       EVP_CipherUpdate(h->slot->evp, NULL, &n_out, b->aad, (int)b->n_aad) == 1;
	if (h->cipher == TLS_CIPHER_AES_128_GCM)
		IMB_AES128_GCM_INIT(a->mb, gcm_of(a, h), &a->run, b->nonce, b->aad, b->n_aad);
	else
		IMB_AES256_GCM_INIT(a->mb, gcm_of(a, h), &a->run, b->nonce, b->aad, b->n_aad);
	return true;
}

bool tls_aead_more(struct tls_aead *a, struct tls_half *h, uint8_t *to, const uint8_t *from, uint32_t n)
{
	int n_out = 0;

	if (!is_mb(a, h))
		return EVP_CipherUpdate(h->slot->evp, to, &n_out, from, (int)n) == 1;
	struct gcm_key_data *key = gcm_of(a, h);
	if (h->cipher == TLS_CIPHER_AES_128_GCM) {
		if (h->is_tx)
			IMB_AES128_GCM_ENC_UPDATE(a->mb, key, &a->run, to, from, n);
		else
			IMB_AES128_GCM_DEC_UPDATE(a->mb, key, &a->run, to, from, n);
	} else if (h->is_tx) {
		IMB_AES256_GCM_ENC_UPDATE(a->mb, key, &a->run, to, from, n);
	} else {
		IMB_AES256_GCM_DEC_UPDATE(a->mb, key, &a->run, to, from, n);
	}
	return true;
}

static void mb_finish(struct tls_aead *a, struct tls_half *h, uint8_t tag[TLS_TAG_BYTES])
{
	struct gcm_key_data *key = gcm_of(a, h);

	if (h->cipher == TLS_CIPHER_AES_128_GCM) {
		if (h->is_tx)
			IMB_AES128_GCM_ENC_FINALIZE(a->mb, key, &a->run, tag, TLS_TAG_BYTES);
		else
			IMB_AES128_GCM_DEC_FINALIZE(a->mb, key, &a->run, tag, TLS_TAG_BYTES);
	} else if (h->is_tx) {
		IMB_AES256_GCM_ENC_FINALIZE(a->mb, key, &a->run, tag, TLS_TAG_BYTES);
	} else {
		IMB_AES256_GCM_DEC_FINALIZE(a->mb, key, &a->run, tag, TLS_TAG_BYTES);
	}
}

bool tls_aead_tag(struct tls_aead *a, struct tls_half *h, uint8_t tag[TLS_TAG_BYTES])
{
	int n = 0;

	if (!is_mb(a, h))
		return EVP_CipherFinal_ex(h->slot->evp, tag, &n) == 1 && EVP_CIPHER_CTX_ctrl(h->slot->evp, EVP_CTRL_AEAD_GET_TAG, TLS_TAG_BYTES, tag) == 1;
	mb_finish(a, h, tag);
	return true;
}

bool tls_aead_check(struct tls_aead *a, struct tls_half *h, uint8_t tag[TLS_TAG_BYTES])
{
	uint8_t computed[TLS_TAG_BYTES];
	int n = 0;

	if (!is_mb(a, h))
		return EVP_CIPHER_CTX_ctrl(h->slot->evp, EVP_CTRL_AEAD_SET_TAG, TLS_TAG_BYTES, tag) == 1 &&
		       EVP_CipherFinal_ex(h->slot->evp, computed, &n) == 1;
	mb_finish(a, h, computed);
	return CRYPTO_memcmp(computed, tag, TLS_TAG_BYTES) == 0;
}

/* ---- one record whose bytes lie together ---- */
static void mb_once(struct tls_aead *a, struct tls_half *h, const struct tls_beside *b, uint8_t *bytes, uint32_t n, uint8_t tag[TLS_TAG_BYTES])
{
	struct gcm_key_data *key = gcm_of(a, h);

	if (h->cipher == TLS_CIPHER_AES_128_GCM) {
		if (h->is_tx)
			IMB_AES128_GCM_ENC(a->mb, key, &a->run, bytes, bytes, n, b->nonce, b->aad, b->n_aad, tag, TLS_TAG_BYTES);
		else
			IMB_AES128_GCM_DEC(a->mb, key, &a->run, bytes, bytes, n, b->nonce, b->aad, b->n_aad, tag, TLS_TAG_BYTES);
	} else if (h->is_tx) {
		IMB_AES256_GCM_ENC(a->mb, key, &a->run, bytes, bytes, n, b->nonce, b->aad, b->n_aad, tag, TLS_TAG_BYTES);
	} else {
		IMB_AES256_GCM_DEC(a->mb, key, &a->run, bytes, bytes, n, b->nonce, b->aad, b->n_aad, tag, TLS_TAG_BYTES);
	}
}

bool tls_aead_seal(struct tls_aead *a, struct tls_half *h, const struct tls_beside *b, uint8_t *bytes, uint32_t n, uint8_t tag[TLS_TAG_BYTES])
{
	if (!is_mb(a, h))
		return tls_aead_begin(a, h, b) && (!n || tls_aead_more(a, h, bytes, bytes, n)) && tls_aead_tag(a, h, tag);
	if (!slot_ready(a, h))
		return false;
	mb_once(a, h, b, bytes, n, tag);
	return true;
}

enum tls_open tls_aead_open(struct tls_aead *a, struct tls_half *h, const struct tls_beside *b, uint8_t *bytes, uint32_t n, uint8_t tag[TLS_TAG_BYTES])
{
	uint8_t computed[TLS_TAG_BYTES];

	if (!is_mb(a, h)) {
		if (!tls_aead_begin(a, h, b) || (n && !tls_aead_more(a, h, bytes, bytes, n)))
			return TLS_OPEN_NO_MEMORY;
		return tls_aead_check(a, h, tag) ? TLS_OPEN_OK : TLS_OPEN_BAD;
	}
	if (!slot_ready(a, h))
		return TLS_OPEN_NO_MEMORY;
	mb_once(a, h, b, bytes, n, computed);
	return CRYPTO_memcmp(computed, tag, TLS_TAG_BYTES) == 0 ? TLS_OPEN_OK : TLS_OPEN_BAD;
}
