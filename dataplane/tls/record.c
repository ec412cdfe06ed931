/* Our record layer (RFC 8446 5, RFC 5246 6 with the AEAD suites of RFC 5288 and RFC 7905): seals and opens records over chains with keys that a finished
 * handshake left. OpenSSL's connection is not needed any more then; aead.c does the arithmetic. What a record says is record_in.c's.
 * A record that fits one mbuf is sealed and opened in place there; longer ones go from chain to chain.
 * Invariants: no plaintext leaves before its tag was checked; a nonce is used once: seq only grows, and ends before it could wrap. */
#include <errno.h>

#include "dataplane/tls/tls_priv.h"

#define HEAD_BYTES 5u
#define EXPLICIT_BYTES 8u
#define TAG_BYTES TLS_TAG_BYTES
#define RX_BYTES_MAX_13 (TLS_RECORD_BYTES_MAX + 256u)  /* RFC 8446 5.2 */
#define RX_BYTES_MAX_12 (TLS_RECORD_BYTES_MAX + 2048u) /* RFC 5246 6.2.3 */
#define SEQ_MAX (1ull << 48)                           /* far above what keys are updated at */

/* ---- keys ---- */
/* HKDF-Expand-Label of RFC 8446 7.1 with an empty context. */
static bool expand(const struct tls_records *r, const uint8_t *secret, struct foil_slice label, uint8_t *out, uint32_t n_out)
{
	return tls_expand_label(r->is_sha384, foil_slice_of(secret, tls_hash_bytes(r->is_sha384)), label, (struct foil_slice){NULL, 0}, out, n_out);
}

static bool half_keys_13(struct tls_aead *a, const struct tls_records *r, struct tls_half *h, bool is_tx)
{
	uint8_t key[32];
	bool ok = expand(r, h->secret, FOIL_SLICE("tls13 key"), key, r->n_key) && expand(r, h->secret, FOIL_SLICE("tls13 iv"), h->iv, sizeof(h->iv));

	if (ok)
		tls_half_start(a, h, (enum tls_cipher)r->cipher, key, is_tx);
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}

bool tls_records_update(struct tls_aead *a, struct tls_records *r, bool is_tx)
{
	struct tls_half *h = is_tx ? &r->tx : &r->rx;
	uint8_t next[sizeof(h->secret)];
	uint32_t n_secret = tls_hash_bytes(r->is_sha384);
	bool ok = expand(r, h->secret, FOIL_SLICE("tls13 traffic upd"), next, n_secret);

	if (ok)
		memcpy(h->secret, next, n_secret);
	OPENSSL_cleanse(next, sizeof(next));
	return ok && half_keys_13(a, r, h, is_tx);
}

#define SEED_BYTES (13u + 64u)
#define KEY_BLOCK_BYTES (2u * (32u + 12u))

/* P_hash of RFC 5246 5. */
static void prf(bool is_sha384, struct foil_slice secret, struct foil_slice seed, uint8_t *out, size_t n_out)
{
	uint8_t chain[TLS_HASH_BYTES_MAX], block[TLS_HASH_BYTES_MAX];
	size_t n_hash = tls_hash_bytes(is_sha384);
	const struct foil_slice parts[] = {foil_slice_of(chain, n_hash), seed};

	tls_hmac(is_sha384, secret, &seed, 1, chain);
	for (size_t at = 0; at < n_out; at += n_hash) {
		tls_hmac(is_sha384, secret, parts, 2, block);
		memcpy(out + at, block, FOIL_MIN(n_hash, n_out - at));
		tls_hmac(is_sha384, secret, parts, 1, block);
		memcpy(chain, block, n_hash);
	}
	OPENSSL_cleanse(chain, sizeof(chain));
	OPENSSL_cleanse(block, sizeof(block));
}

/* The key block of RFC 5246 6.3: keys, then the implicit parts of the nonces. */
static bool keys_12(struct tls_aead *a, struct tls_records *r, const SSL *ssl)
{
	uint8_t seed[SEED_BYTES + 1] = "key expansion", master[SSL_MAX_MASTER_KEY_LENGTH], block[KEY_BLOCK_BYTES];
	uint32_t n_iv = r->has_explicit_nonce ? 4 : 12;
	size_t n_master = SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof(master));
	struct tls_half *client = r->is_server ? &r->rx : &r->tx, *server = r->is_server ? &r->tx : &r->rx;
	bool ok = SSL_get_server_random(ssl, seed + 13, 32) == 32 && SSL_get_client_random(ssl, seed + 45, 32) == 32 && n_master;

	if (ok) {
		prf(r->is_sha384, foil_slice_of(master, n_master), foil_slice_of(seed, SEED_BYTES), block, 2 * (r->n_key + n_iv));
		memcpy(client->iv, block + 2 * r->n_key, n_iv);
		memcpy(server->iv, block + 2 * r->n_key + n_iv, n_iv);
		tls_half_start(a, client, (enum tls_cipher)r->cipher, block, !r->is_server);
		tls_half_start(a, server, (enum tls_cipher)r->cipher, block + r->n_key, r->is_server);
	}
	r->rx.seq = r->tx.seq = 1; /* the Finished messages were 0 */
	OPENSSL_cleanse(master, sizeof(master));
	OPENSSL_cleanse(block, sizeof(block));
	return ok;
}

/* The hash goes with the cipher: SHA-384 with AES-256-GCM, SHA-256 with the others (RFC 8446 B.4, RFC 5288 3, RFC 5289 3.2, RFC 7905 2). */
static bool suite_of(struct tls_records *r, const SSL *ssl)
{
	const SSL_CIPHER *suite = SSL_get_current_cipher(ssl);
	int nid = suite ? SSL_CIPHER_get_cipher_nid(suite) : NID_undef;

	switch (nid) {
	case NID_aes_128_gcm: r->cipher = TLS_CIPHER_AES_128_GCM; break;
	case NID_aes_256_gcm: r->cipher = TLS_CIPHER_AES_256_GCM; break;
	case NID_chacha20_poly1305: r->cipher = TLS_CIPHER_CHACHA20_POLY1305; break;
	default: return false; /* CBC and others stay with OpenSSL */
	}
	r->is_sha384 = nid == NID_aes_256_gcm;
	r->n_key = nid == NID_aes_128_gcm ? 16 : 32;
	r->has_explicit_nonce = !r->is_tls13 && nid != NID_chacha20_poly1305;
	return true;
}

void tls_records_free(struct tls_aead *a, struct tls_records *r)
{
	tls_half_wipe(a, &r->rx);
	tls_half_wipe(a, &r->tx);
	OPENSSL_cleanse(r, sizeof(*r));
}

bool tls_records_take(struct tls_aead *a, struct tls_records *r, const SSL *ssl, uint32_t n_sent)
{
	int version = SSL_version(ssl);
	bool ok;

	r->is_tls13 = version == TLS1_3_VERSION;
	if ((!r->is_tls13 && version != TLS1_2_VERSION) || SSL_has_pending(ssl) || !suite_of(r, ssl))
		return false;
	if (r->is_tls13)
		ok = r->has_rx_secret && r->has_tx_secret && half_keys_13(a, r, &r->rx, false) && half_keys_13(a, r, &r->tx, true);
	else
		ok = keys_12(a, r, ssl);
	if (r->is_tls13)
		r->tx.seq = n_sent;
	r->is_ours = ok;
	return ok;
}

/* ---- where bytes go ---- */
void tls_sink_close(struct tls_sink *k)
{
	if (k->m)
		foil_chain_append_mbuf(&k->chain, k->m);
	k->m = NULL;
}

/* Room for one byte at least; 0: no mbuf. */
static uint32_t sink_room(struct tls_sink *k, uint8_t **at)
{
	if (!k->m || !rte_pktmbuf_tailroom(k->m)) {
		tls_sink_close(k);
		k->m = rte_pktmbuf_alloc(k->w->mbuf_pool);
		if (!k->m)
			return 0;
	}
	*at = rte_pktmbuf_mtod_offset(k->m, uint8_t *, k->m->data_len);
	return rte_pktmbuf_tailroom(k->m);
}

static void sink_took(struct tls_sink *k, uint32_t n)
{
	k->m->data_len = (uint16_t)(k->m->data_len + n);
	k->m->pkt_len = k->m->data_len;
}

static bool sink_put(struct tls_sink *k, const uint8_t *data, uint32_t n)
{
	while (n) {
		uint8_t *at = NULL;
		uint32_t room = FOIL_MIN(sink_room(k, &at), n);
		if (!room)
			return false;
		memcpy(at, data, room);
		sink_took(k, room);
		data += room;
		n -= room;
	}
	return true;
}

static FOIL_COLD void sink_drop(struct tls_sink *k)
{
	tls_sink_close(k);
	foil_chain_clear(&k->chain);
}

static bool crypt_bytes(struct tls_aead *a, struct tls_half *h, const uint8_t *from, uint32_t n, struct tls_sink *to)
{
	while (n) {
		uint8_t *at = NULL;
		uint32_t room = FOIL_MIN(sink_room(to, &at), n);
		if (!room || !tls_aead_more(a, h, at, from, room))
			return false;
		sink_took(to, room);
		from += room;
		n -= room;
	}
	return true;
}

/* n bytes of a chain from offset on. */
static bool crypt_chain(struct tls_aead *a, struct tls_half *h, const struct foil_chain *from, uint32_t offset, uint32_t n, struct tls_sink *to)
{
	for (struct rte_mbuf *m = from->head; n; m = m->next) {
		if (offset >= m->data_len) {
			offset -= m->data_len;
			continue;
		}
		uint32_t take = FOIL_MIN(n, m->data_len - offset);
		if (!crypt_bytes(a, h, rte_pktmbuf_mtod_offset(m, const uint8_t *, offset), take, to))
			return false;
		n -= take;
		offset = 0;
	}
	return true;
}

bool tls_aead_run(struct tls_aead *a, struct tls_half *h, const struct tls_beside *b, const struct foil_chain *from, uint32_t offset, uint32_t n,
		  struct tls_sink *to)
{
	return tls_aead_begin(a, h, b) && crypt_chain(a, h, from, offset, n, to);
}

/* ---- nonces and what is authenticated beside ---- */
static void put_be64(uint8_t *to, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		to[i] = (uint8_t)(v >> (56 - 8 * i));
}

static void beside(const struct tls_records *r, const struct tls_half *h, uint8_t type, uint32_t n_plain, const uint8_t head[HEAD_BYTES],
		   struct tls_beside *b)
{
	uint8_t seq[8];

	put_be64(seq, h->seq);
	memcpy(b->nonce, h->iv, sizeof(b->nonce));
	for (int i = 0; i < 8 && !r->has_explicit_nonce; i++)
		b->nonce[4 + i] ^= seq[i];
	b->aad = b->own;
	if (r->is_tls13) {
		memcpy(b->own, head, HEAD_BYTES);
		b->n_aad = HEAD_BYTES;
	} else {
		const uint8_t rest[5] = {type, 3, 3, (uint8_t)(n_plain >> 8), (uint8_t)n_plain};
		memcpy(b->own, seq, 8);
		memcpy(b->own + 8, rest, 5);
		b->n_aad = 13;
	}
}

/* ---- seal ---- */
struct sealing {
	uint8_t head[HEAD_BYTES], explicit_nonce[EXPLICIT_BYTES], type;
	uint32_t n_explicit, n_type; /* bytes of them that the record has */
	struct tls_beside b;
};

static void sealing_of(const struct tls_records *r, uint8_t type, uint32_t n, struct sealing *s)
{
	s->type = type;
	s->n_type = r->is_tls13 ? 1 : 0;
	s->n_explicit = r->has_explicit_nonce ? EXPLICIT_BYTES : 0;
	uint32_t n_body = s->n_explicit + n + s->n_type + TAG_BYTES;
	s->head[0] = r->is_tls13 ? TLS_TYPE_DATA : type;
	s->head[1] = s->head[2] = 3;
	s->head[3] = (uint8_t)(n_body >> 8);
	s->head[4] = (uint8_t)n_body;
	put_be64(s->explicit_nonce, r->tx.seq);
	beside(r, &r->tx, type, n, s->head, &s->b);
	if (s->n_explicit)
		memcpy(s->b.nonce + 4, s->explicit_nonce, EXPLICIT_BYTES);
}

/* The record in one mbuf that has room for it. */
static bool seal_in_place(struct tls_aead *a, struct tls_records *r, struct sealing *s, const struct foil_chain *plain, uint32_t offset, uint32_t n,
			  struct rte_mbuf *m)
{
	uint8_t *at = rte_pktmbuf_mtod(m, uint8_t *), *body = at + HEAD_BYTES + s->n_explicit;

	memcpy(at, s->head, HEAD_BYTES);
	memcpy(at + HEAD_BYTES, s->explicit_nonce, s->n_explicit);
	foil_chain_copy_out(plain, offset, body, n);
	memcpy(body + n, &s->type, s->n_type);
	m->data_len = (uint16_t)(HEAD_BYTES + s->n_explicit + n + s->n_type + TAG_BYTES);
	m->pkt_len = m->data_len;
	return tls_aead_seal(a, &r->tx, &s->b, body, n + s->n_type, body + n + s->n_type);
}

static bool seal_along(struct tls_aead *a, struct tls_records *r, struct sealing *s, const struct foil_chain *plain, uint32_t offset, uint32_t n,
		       struct tls_sink *k)
{
	uint8_t tag[TAG_BYTES];

	return sink_put(k, s->head, HEAD_BYTES) && sink_put(k, s->explicit_nonce, s->n_explicit) && tls_aead_run(a, &r->tx, &s->b, plain, offset, n, k) &&
	       crypt_bytes(a, &r->tx, &s->type, s->n_type, k) && tls_aead_tag(a, &r->tx, tag) && sink_put(k, tag, TAG_BYTES);
}

int tls_records_seal(struct foil_worker *w, struct tls_records *r, uint8_t type, const struct foil_chain *plain, uint32_t offset, uint32_t n,
		     struct foil_chain *out)
{
	struct tls_sink k = {.w = w};
	struct sealing s;

	sealing_of(r, type, n, &s);
	k.m = r->tx.seq < SEQ_MAX ? rte_pktmbuf_alloc(w->mbuf_pool) : NULL;
	if (!k.m)
		return -ENOBUFS;
	bool is_short = HEAD_BYTES + s.n_explicit + n + s.n_type + TAG_BYTES <= rte_pktmbuf_tailroom(k.m);
	bool ok = is_short ? seal_in_place(w->tls->aead, r, &s, plain, offset, n, k.m) : seal_along(w->tls->aead, r, &s, plain, offset, n, &k);
	if (!ok) {
		sink_drop(&k);
		return -ENOBUFS;
	}
	r->tx.seq++;
	tls_sink_close(&k);
	foil_chain_move(out, &k.chain);
	return 0;
}

/* ---- open ---- */
/* Cuts c to its first n bytes. */
static void chain_cut(struct foil_chain *c, uint32_t n)
{
	struct rte_mbuf *m = c->head;
	uint32_t left = n;

	if (n == 0) {
		foil_chain_clear(c);
		return;
	}
	while (left > m->data_len) {
		left -= m->data_len;
		m = m->next;
	}
	struct foil_chain rest = {.head = m->next, .tail = c->tail};
	for (struct rte_mbuf *x = m->next; x; x = x->next)
		rest.n_bytes += x->data_len;
	m->data_len = (uint16_t)left;
	m->next = NULL;
	c->tail = m;
	c->n_bytes = n;
	if (rest.head)
		foil_chain_clear(&rest);
}

/* The type behind the data and before the padding (RFC 8446 5.4); 0: there is none. */
static uint8_t strip_padding(struct foil_chain *c)
{
	uint32_t at = 0, end = 0;
	uint8_t type = 0;

	for (struct rte_mbuf *m = c->head; m; m = m->next) {
		const uint8_t *bytes = rte_pktmbuf_mtod(m, const uint8_t *);
		for (uint32_t i = m->data_len; i > 0; i--)
			if (bytes[i - 1]) {
				type = bytes[i - 1];
				end = at + i;
				break;
			}
		at += m->data_len;
	}
	chain_cut(c, type ? end - 1 : 0);
	return type;
}

static enum tls_open check_head(const struct tls_records *r, const uint8_t head[HEAD_BYTES], uint32_t n, uint8_t *alert)
{
	uint32_t n_min = TAG_BYTES + (r->is_tls13 ? 1 : r->has_explicit_nonce ? EXPLICIT_BYTES : 0);

	*alert = SSL_AD_UNEXPECTED_MESSAGE;
	if (head[1] != 3 || (r->is_tls13 ? head[0] != TLS_TYPE_DATA : head[0] < TLS_TYPE_CCS || head[0] > TLS_TYPE_DATA))
		return TLS_OPEN_BAD;
	*alert = SSL_AD_RECORD_OVERFLOW;
	if (n > (r->is_tls13 ? RX_BYTES_MAX_13 : RX_BYTES_MAX_12))
		return TLS_OPEN_BAD;
	*alert = SSL_AD_BAD_RECORD_MAC;
	return n < n_min ? TLS_OPEN_BAD : TLS_OPEN_OK;
}

struct opening {
	uint32_t n_explicit, n_plain; /* n_plain: type and padding included */
	uint8_t tag[TAG_BYTES];
	struct tls_beside b;
};

/* n: the body's bytes. */
static void opening_of(const struct tls_records *r, const struct foil_chain *rx, const uint8_t head[HEAD_BYTES], uint32_t n, struct opening *o)
{
	uint8_t explicit_nonce[EXPLICIT_BYTES] = {0};

	o->n_explicit = r->has_explicit_nonce ? EXPLICIT_BYTES : 0;
	o->n_plain = n - TAG_BYTES - o->n_explicit;
	foil_chain_copy_out(rx, HEAD_BYTES, explicit_nonce, o->n_explicit);
	foil_chain_copy_out(rx, HEAD_BYTES + n - TAG_BYTES, o->tag, TAG_BYTES);
	beside(r, &r->rx, head[0], o->n_plain, head, &o->b);
	if (o->n_explicit)
		memcpy(o->b.nonce + 4, explicit_nonce, EXPLICIT_BYTES);
}

/* The record is the first mbuf of rx, whole and alone, and nobody else's: what is in it becomes out. */
static enum tls_open open_in_place(struct foil_worker *w, struct tls_records *r, struct foil_chain *rx, struct opening *o, struct foil_chain *out)
{
	struct rte_mbuf *m = rx->head;
	uint32_t at = HEAD_BYTES + o->n_explicit;
	enum tls_open result = tls_aead_open(w->tls->aead, &r->rx, &o->b, rte_pktmbuf_mtod_offset(m, uint8_t *, at), o->n_plain, o->tag);

	if (result != TLS_OPEN_OK)
		return result;
	rx->head = m->next;
	rx->tail = m->next ? rx->tail : NULL;
	rx->n_bytes -= m->data_len;
	m->next = NULL;
	m->data_off = (uint16_t)(m->data_off + at);
	m->data_len = (uint16_t)o->n_plain;
	foil_chain_append_mbuf(out, m);
	return TLS_OPEN_OK;
}

static enum tls_open open_along(struct foil_worker *w, struct tls_records *r, struct foil_chain *rx, struct opening *o, struct foil_chain *out)
{
	struct tls_sink k = {.w = w};
	struct tls_aead *a = w->tls->aead;

	if (!tls_aead_run(a, &r->rx, &o->b, rx, HEAD_BYTES + o->n_explicit, o->n_plain, &k)) {
		sink_drop(&k);
		return TLS_OPEN_NO_MEMORY;
	}
	if (!tls_aead_check(a, &r->rx, o->tag)) {
		sink_drop(&k);
		return TLS_OPEN_BAD;
	}
	tls_sink_close(&k);
	*out = k.chain;
	foil_chain_consume(rx, HEAD_BYTES + o->n_explicit + o->n_plain + TAG_BYTES);
	return TLS_OPEN_OK;
}

/* Takes the record from rx. The chain out is empty before. */
static enum tls_open decrypt(struct foil_worker *w, struct tls_records *r, struct foil_chain *rx, const uint8_t head[HEAD_BYTES], uint32_t n,
			     struct foil_chain *out)
{
	const struct rte_mbuf *m = rx->head;
	struct opening o;

	if (r->rx.seq >= SEQ_MAX)
		return TLS_OPEN_NO_MEMORY;
	opening_of(r, rx, head, n, &o);
	bool is_alone = m->data_len == HEAD_BYTES + n && RTE_MBUF_DIRECT(m) && rte_mbuf_refcnt_read(m) == 1;
	enum tls_open result = is_alone ? open_in_place(w, r, rx, &o, out) : open_along(w, r, rx, &o, out);
	if (result == TLS_OPEN_OK)
		r->rx.seq++;
	return result;
}

enum tls_open tls_records_open(struct foil_worker *w, struct tls_records *r, struct foil_chain *rx, struct foil_chain *out, uint8_t *type, uint8_t *alert)
{
	uint8_t head[HEAD_BYTES];

	if (rx->n_bytes < HEAD_BYTES)
		return TLS_OPEN_MORE;
	foil_chain_copy_out(rx, 0, head, HEAD_BYTES);
	uint32_t n = (uint32_t)head[3] << 8 | head[4];
	enum tls_open o = check_head(r, head, n, alert);
	if (o != TLS_OPEN_OK)
		return o;
	if (rx->n_bytes - HEAD_BYTES < n)
		return TLS_OPEN_MORE;
	o = decrypt(w, r, rx, head, n, out);
	if (o != TLS_OPEN_OK)
		return o;
	*type = head[0];
	if (out->n_bytes > TLS_RECORD_BYTES_MAX + (r->is_tls13 ? 1u : 0u)) {
		*alert = SSL_AD_RECORD_OVERFLOW;
		foil_chain_clear(out);
		return TLS_OPEN_BAD;
	}
	if (r->is_tls13)
		*type = strip_padding(out);
	return TLS_OPEN_OK;
}
