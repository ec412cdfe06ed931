/* What a connection turned out to be, read once when its handshake is done: version, cipher, names, and the peer's certificate in the forms that headers
 * and logs want. Those are made once a certificate: connections of one peer share them as long as there is one, so that at rest none holds a copy.
 * Invariant: every slice of facts points at static text, into the connection's block, its context, or, for long names, its arena; every slice of a peer
 * into the arena that is kept with it. */
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "dataplane/tls/tls_priv.h"

#define SANS_KEPT_MAX 32

static struct foil_slice keep(struct foil_worker *w, struct foil_arena *a, struct foil_slice s, bool *ok)
{
	struct foil_slice copy = s.n_bytes ? foil_arena_copy(w, a, s) : (struct foil_slice){NULL, 0};

	*ok = *ok && (copy.data || !s.n_bytes);
	return copy;
}

static struct foil_slice hex(struct foil_worker *w, struct foil_arena *a, const uint8_t *bytes, size_t n, bool *ok)
{
	static const char digits[] = "0123456789abcdef";
	char *text = foil_arena_alloc(w, a, 2 * n);

	if (!text) {
		*ok = false;
		return (struct foil_slice){NULL, 0};
	}
	for (size_t i = 0; i < n; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	return foil_slice_of(text, 2 * n);
}

static struct foil_slice bio_text(struct foil_worker *w, struct foil_arena *a, BIO *b, bool *ok)
{
	char *text = NULL;
	long n = b ? BIO_get_mem_data(b, &text) : -1;

	if (n < 0) {
		*ok = false;
		return (struct foil_slice){NULL, 0};
	}
	return keep(w, a, foil_slice_of(text, (size_t)n), ok);
}

static struct foil_slice name_text(struct foil_worker *w, struct foil_arena *a, const X509_NAME *name, bool *ok)
{
	BIO *b = BIO_new(BIO_s_mem());
	struct foil_slice out = {NULL, 0};

	if (b && X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253) >= 0)
		out = bio_text(w, a, b, ok);
	else
		*ok = false;
	BIO_free(b);
	return out;
}

/* The PEM text with what a header's quoted string cannot hold percent-encoded, as Envoy writes it. */
static struct foil_slice pem_text(struct foil_worker *w, struct foil_arena *a, X509 *cert, bool *ok)
{
	static const char digits[] = "0123456789ABCDEF";
	BIO *b = BIO_new(BIO_s_mem());
	char *pem = NULL, *out = NULL;
	long n = b && PEM_write_bio_X509(b, cert) == 1 ? BIO_get_mem_data(b, &pem) : -1;
	size_t at = 0;

	if (n >= 0)
		out = foil_arena_alloc(w, a, 3 * (size_t)n);
	*ok = *ok && out;
	for (long i = 0; out && i < n; i++) {
		if (strchr("\n +/=", pem[i])) {
			out[at++] = '%';
			out[at++] = digits[(unsigned char)pem[i] >> 4];
			out[at++] = digits[(unsigned char)pem[i] & 15];
		} else {
			out[at++] = pem[i];
		}
	}
	BIO_free(b);
	return foil_slice_of(out, at);
}

struct collect {
	struct foil_worker *w;
	struct foil_arena *a;
	struct tls_peer *peer;
	struct foil_slice uris[SANS_KEPT_MAX], dns[SANS_KEPT_MAX];
	bool ok;
};

static bool collect_san(void *data, const struct tls_san *san)
{
	struct collect *k = data;

	if (san->kind == TLS_SAN_URI && k->peer->n_uri_sans < SANS_KEPT_MAX)
		k->uris[k->peer->n_uri_sans++] = keep(k->w, k->a, san->text, &k->ok);
	else if (san->kind == TLS_SAN_DNS && k->peer->n_dns_sans < SANS_KEPT_MAX)
		k->dns[k->peer->n_dns_sans++] = keep(k->w, k->a, san->text, &k->ok);
	return k->ok;
}

static const struct foil_slice *keep_list(struct collect *k, const struct foil_slice *list, uint16_t n)
{
	struct foil_slice *copy = n ? foil_arena_alloc(k->w, k->a, n * sizeof(*list)) : NULL;

	k->ok = k->ok && (copy || !n);
	if (copy)
		memcpy(copy, list, n * sizeof(*list));
	return copy;
}

static bool fill_sans(struct foil_worker *w, struct foil_arena *a, X509 *cert, struct tls_peer *p)
{
	struct collect k = {.w = w, .a = a, .peer = p, .ok = true};

	tls_sans_each(cert, collect_san, &k);
	p->uri_sans = keep_list(&k, k.uris, p->n_uri_sans);
	p->dns_sans = keep_list(&k, k.dns, p->n_dns_sans);
	return k.ok;
}

bool tls_peer_read(struct foil_worker *w, struct tls_peer_kept *kept, X509 *cert)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	struct foil_arena *a = &kept->arena;
	struct tls_peer *p = &kept->peer;
	bool ok = true;

	p->fingerprint = hex(w, a, kept->hash, sizeof(kept->hash), &ok);
	p->serial = hex(w, a, ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial), &ok);
	p->subject = name_text(w, a, X509_get_subject_name(cert), &ok);
	p->issuer = name_text(w, a, X509_get_issuer_name(cert), &ok);
	p->pem = pem_text(w, a, cert, &ok);
	p->not_before_s = tls_time_s(X509_get0_notBefore(cert));
	p->not_after_s = tls_time_s(X509_get0_notAfter(cert));
	return fill_sans(w, a, cert, p) && ok;
}

/* Of cert, made now or for another connection before; it is c's until tls_peer_put. False: no memory. */
static bool take_peer(struct foil_worker *w, struct tls_conn *c, X509 *cert)
{
	struct tls_ctx *t = w->tls;
	uint8_t hash[32];
	unsigned int n = 0;

	if (X509_digest(cert, EVP_sha256(), hash, &n) != 1 || n != sizeof(hash))
		return false;
	/* keyed: a client that is asked for no particular certificate chooses its own */
	struct tls_peer_kept **bucket = &t->peers_by_hash[foil_siphash(&w->secret, hash, sizeof(hash)) % TLS_PEER_BUCKETS], *p = *bucket;
	while (p && memcmp(p->hash, hash, sizeof(hash)) != 0)
		p = p->next;
	if (!p) {
		p = tls_pool_take(&t->peers);
		if (!p)
			return false;
		memcpy(p->hash, hash, sizeof(hash));
		if (!tls_peer_read(w, p, cert)) {
			foil_arena_reset(w, &p->arena);
			tls_pool_give(&t->peers, p);
			return false;
		}
		p->next = *bucket;
		*bucket = p;
	}
	p->n_conns++;
	c->facts.peer = &p->peer;
	return true;
}

void tls_peer_put(struct foil_worker *w, const struct tls_peer *own_peer)
{
	struct tls_ctx *t = w->tls;

	if (!own_peer)
		return;
	struct tls_peer_kept *p = FOIL_CONTAINER_OF((struct tls_peer *)(uintptr_t)own_peer, struct tls_peer_kept, peer);
	FOIL_ASSERT(p->n_conns > 0);
	if (--p->n_conns > 0)
		return;
	struct tls_peer_kept **at = &t->peers_by_hash[foil_siphash(&w->secret, p->hash, sizeof(p->hash)) % TLS_PEER_BUCKETS];
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	foil_arena_reset(w, &p->arena);
	tls_pool_give(&t->peers, p);
}

/* ---- names ---- */
struct foil_slice tls_name_keep(struct foil_worker *w, struct tls_conn *c, struct foil_slice name)
{
	char *copy = c->name;

	if (name.n_bytes >= sizeof(c->name)) {
		c->keeps_arena = true;
		copy = foil_arena_zalloc(w, &c->arena, (size_t)name.n_bytes + 1);
	}
	if (!copy)
		return (struct foil_slice){NULL, 0};
	memcpy(copy, name.data, name.n_bytes);
	return foil_slice_of(copy, name.n_bytes);
}

/* The context has the name that was agreed on in its own list. */
static struct foil_slice alpn_of(struct foil_worker *w, struct tls_conn *c, struct foil_slice agreed, bool *ok)
{
	struct foil_slice own = c->context->alpn;

	for (uint32_t at = 0; agreed.n_bytes && at < own.n_bytes; at += 1u + (uint8_t)own.data[at]) {
		struct foil_slice name = foil_slice_of(own.data + at + 1, FOIL_MIN((uint32_t)(uint8_t)own.data[at], own.n_bytes - at - 1u));
		if (foil_slice_eq(name, agreed))
			return name;
	}
	c->keeps_arena = c->keeps_arena || agreed.n_bytes;
	return keep(w, &c->arena, agreed, ok);
}

bool tls_facts_fill(struct foil_worker *w, struct tls_conn *c)
{
	const unsigned char *alpn = NULL;
	unsigned int n_alpn = 0;
	X509 *cert = SSL_get0_peer_certificate(c->ssl);
	bool ok = true;

	SSL_get0_alpn_selected(c->ssl, &alpn, &n_alpn);
	c->facts.version = foil_slice_str(SSL_get_version(c->ssl));
	c->facts.cipher = foil_slice_str(SSL_get_cipher_name(c->ssl));
	c->facts.alpn = alpn_of(w, c, foil_slice_of(alpn, n_alpn), &ok);
	c->facts.local_uri_san = c->context->local_uri_san;
	c->facts.is_resumed = SSL_session_reused(c->ssl) == 1;
	return ok && (!cert || take_peer(w, c, cert));
}
