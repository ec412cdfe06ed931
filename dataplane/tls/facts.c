/* What a connection turned out to be, read once when its handshake is done and kept in its arena: version, cipher, names, and the peer's certificate in
 * the forms that headers and logs want. Invariant: every slice of facts and peer points into the arena, at static text, or into the context. */
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "dataplane/tls/tls_priv.h"

#define SANS_KEPT_MAX 32

static struct foil_slice keep(struct foil_worker *w, struct tls_conn *c, struct foil_slice s, bool *ok)
{
	struct foil_slice copy = s.n_bytes ? foil_arena_copy(w, &c->arena, s) : (struct foil_slice){NULL, 0};

	*ok = *ok && (copy.data || !s.n_bytes);
	return copy;
}

static struct foil_slice hex(struct foil_worker *w, struct tls_conn *c, const uint8_t *bytes, size_t n, bool *ok)
{
	static const char digits[] = "0123456789abcdef";
	char *text = foil_arena_alloc(w, &c->arena, 2 * n);

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

static struct foil_slice bio_text(struct foil_worker *w, struct tls_conn *c, BIO *b, bool *ok)
{
	char *text = NULL;
	long n = b ? BIO_get_mem_data(b, &text) : -1;

	if (n < 0) {
		*ok = false;
		return (struct foil_slice){NULL, 0};
	}
	return keep(w, c, foil_slice_of(text, (size_t)n), ok);
}

static struct foil_slice name_text(struct foil_worker *w, struct tls_conn *c, const X509_NAME *name, bool *ok)
{
	BIO *b = BIO_new(BIO_s_mem());
	struct foil_slice out = {NULL, 0};

	if (b && X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253) >= 0)
		out = bio_text(w, c, b, ok);
	else
		*ok = false;
	BIO_free(b);
	return out;
}

/* The PEM text with what a header's quoted string cannot hold percent-encoded, as Envoy writes it. */
static struct foil_slice pem_text(struct foil_worker *w, struct tls_conn *c, X509 *cert, bool *ok)
{
	static const char digits[] = "0123456789ABCDEF";
	BIO *b = BIO_new(BIO_s_mem());
	char *pem = NULL, *out = NULL;
	long n = b && PEM_write_bio_X509(b, cert) == 1 ? BIO_get_mem_data(b, &pem) : -1;
	size_t at = 0;

	if (n >= 0)
		out = foil_arena_alloc(w, &c->arena, 3 * (size_t)n);
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
	struct tls_conn *c;
	struct foil_slice *uris, *dns;
	bool ok;
};

static bool collect_san(void *data, const struct tls_san *san)
{
	struct collect *k = data;
	struct tls_peer *p = &k->c->peer;

	if (san->kind == TLS_SAN_URI && p->n_uri_sans < SANS_KEPT_MAX)
		k->uris[p->n_uri_sans++] = keep(k->w, k->c, san->text, &k->ok);
	else if (san->kind == TLS_SAN_DNS && p->n_dns_sans < SANS_KEPT_MAX)
		k->dns[p->n_dns_sans++] = keep(k->w, k->c, san->text, &k->ok);
	return k->ok;
}

static bool fill_sans(struct foil_worker *w, struct tls_conn *c, X509 *cert)
{
	struct collect k = {.w = w, .c = c, .ok = true};

	k.uris = foil_arena_zalloc(w, &c->arena, SANS_KEPT_MAX * sizeof(struct foil_slice));
	k.dns = foil_arena_zalloc(w, &c->arena, SANS_KEPT_MAX * sizeof(struct foil_slice));
	if (!k.uris || !k.dns)
		return false;
	tls_sans_each(cert, collect_san, &k);
	c->peer.uri_sans = k.uris;
	c->peer.dns_sans = k.dns;
	return k.ok;
}

static bool fill_peer(struct foil_worker *w, struct tls_conn *c, X509 *cert)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	bool ok = X509_digest(cert, EVP_sha256(), hash, &n) == 1;
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);

	c->peer.fingerprint = hex(w, c, hash, n, &ok);
	c->peer.serial = hex(w, c, ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial), &ok);
	c->peer.subject = name_text(w, c, X509_get_subject_name(cert), &ok);
	c->peer.issuer = name_text(w, c, X509_get_issuer_name(cert), &ok);
	c->peer.pem = pem_text(w, c, cert, &ok);
	c->peer.not_before_s = tls_time_s(X509_get0_notBefore(cert));
	c->peer.not_after_s = tls_time_s(X509_get0_notAfter(cert));
	c->facts.peer = &c->peer;
	return fill_sans(w, c, cert) && ok;
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
	c->facts.alpn = keep(w, c, foil_slice_of(alpn, n_alpn), &ok);
	c->facts.local_uri_san = c->context->local_uri_san;
	c->facts.is_resumed = SSL_session_reused(c->ssl) == 1;
	return ok && (!cert || fill_peer(w, c, cert));
}
