/* Contexts: one SSL_CTX with its rules, built by housekeeping from PEM and never changed. OpenSSL counts its own references atomically and takes its locks
 * only in handshakes. Invariant: what a context was built from is checked whole before anything is kept: key and leaf belong together, the list of
 * ciphers names one at least. */
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <errno.h>

#include "dataplane/tls/tls_priv.h"

#define GROUPS "X25519:P-256:X448:P-384:P-521:ffdhe2048" /* the last for clients that have no other */
/* AES-128 first, as Envoy has it in both versions: its hash has instructions of its own, SHA-384 has none and is a fifth of a handshake. */
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define CERT_LIST_BYTES_MAX (64l * 1024l) /* what a peer's chain may have */
#define VERIFY_DEPTH_MAX 10
#define TICKET_LIFE_S 7200l
#define SESSIONS_KEPT 1024l /* of a context; about 2 KB each, with the client's certificate */

/* Bundles of roots where systems keep them; the first that can be read is taken. */
static const char *const system_roots[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
					   "/etc/ssl/cert.pem"};

static int version_of(enum tls_version v, int otherwise)
{
	switch (v) {
	case TLS_VERSION_1_0: return TLS1_VERSION;
	case TLS_VERSION_1_1: return TLS1_1_VERSION;
	case TLS_VERSION_1_2: return TLS1_2_VERSION;
	case TLS_VERSION_1_3: return TLS1_3_VERSION;
	case TLS_VERSION_AUTO: break;
	}
	return otherwise;
}

static int no_memory(struct foil_error *err)
{
	ERR_clear_error();
	return foil_error_set(err, -ENOMEM, "no memory for a TLS context");
}

/* ---- identities ---- */
struct parsed {
	STACK_OF(X509) *chain;
	EVP_PKEY *key;
};

static void parsed_free(struct parsed *p)
{
	sk_X509_pop_free(p->chain, X509_free);
	EVP_PKEY_free(p->key);
}

static int parse_identity(const struct tls_identity *id, struct parsed *out, struct foil_error *err)
{
	*out = (struct parsed){.chain = tls_pem_certs(id->name, "certificate chain", id->chain, TLS_CHAIN_MAX, err)};
	if (out->chain)
		out->key = tls_pem_key(id->name, id->key, err);
	if (out->key && X509_check_private_key(sk_X509_value(out->chain, 0), out->key) == 1)
		return 0;
	if (out->key)
		(void)foil_error_set(err, -EINVAL, "secret \"%.*s\": its private key does not belong to its certificate", (int)id->name.n_bytes, id->name.data);
	ERR_clear_error();
	parsed_free(out);
	return -EINVAL;
}

static void note_validity(struct tls_context *c, X509 *leaf)
{
	int64_t from = tls_time_s(X509_get0_notBefore(leaf)), to = tls_time_s(X509_get0_notAfter(leaf));

	c->not_before_s = FOIL_MAX(c->not_before_s, from);
	c->not_after_s = c->not_after_s ? FOIL_MIN(c->not_after_s, to) : to;
}

static bool keep_uri(void *data, const struct tls_san *san)
{
	struct tls_context *c = data;

	if (san->kind == TLS_SAN_URI)
		c->local_uri_san = foil_blob_copy(&c->blob, san->text.data, san->text.n_bytes);
	return !c->local_uri_san.data;
}

static int keep_staple(struct tls_context *c, X509 *leaf, const struct tls_identity *id, struct foil_error *err)
{
	struct tls_staple *s = &c->staples[c->n_staples];
	int rc = tls_staple_check(id->name, id->ocsp_staple, &s->until_s, err);

	if (rc != 0)
		return rc;
	s->response = foil_blob_copy(&c->blob, id->ocsp_staple.data, id->ocsp_staple.n_bytes);
	if (!s->response.data || X509_up_ref(leaf) != 1)
		return no_memory(err);
	s->leaf = leaf;
	c->n_staples++;
	(void)SSL_CTX_set_tlsext_status_cb(c->ssl, tls_staple_callback); /* these two cannot fail */
	(void)SSL_CTX_set_tlsext_status_arg(c->ssl, c);
	return 0;
}

/* The order of the chain is the secret's. */
static int use_identity(struct tls_context *c, const struct tls_identity *id, struct foil_error *err)
{
	struct parsed p;
	int rc = parse_identity(id, &p, err);
	char text[160];

	if (rc != 0)
		return rc;
	X509 *leaf = sk_X509_value(p.chain, 0);
	STACK_OF(X509) *rest = sk_X509_new_null();
	for (int i = 1; rest && i < sk_X509_num(p.chain); i++)
		if (!sk_X509_push(rest, sk_X509_value(p.chain, i))) {
			sk_X509_free(rest);
			rest = NULL;
		}
	if (!rest || SSL_CTX_use_cert_and_key(c->ssl, leaf, p.key, rest, 1) != 1)
		rc = foil_error_set(err, -EINVAL, "secret \"%.*s\": cannot be used (%s)", (int)id->name.n_bytes, id->name.data,
				    tls_openssl_text(text, sizeof(text)));
	if (rc == 0 && c->is_server && id->ocsp_staple.n_bytes)
		rc = keep_staple(c, leaf, id, err);
	if (rc == 0) {
		note_validity(c, leaf);
		if (!c->local_uri_san.data)
			tls_sans_each(leaf, keep_uri, c);
	}
	sk_X509_free(rest);
	parsed_free(&p);
	return rc;
}

int tls_identity_check(const struct tls_identity *id, struct foil_error *err)
{
	struct parsed p;
	int rc = parse_identity(id, &p, err);
	int64_t until_s;

	if (rc == 0)
		parsed_free(&p);
	return rc == 0 && id->ocsp_staple.n_bytes ? tls_staple_check(id->name, id->ocsp_staple, &until_s, err) : rc;
}

/* ---- trust ---- */
static int add_bundle(struct tls_context *c, X509_STORE *store, const struct tls_context_params *p, struct foil_error *err)
{
	STACK_OF(X509) *list = tls_pem_certs(p->ca_name, "CA bundle", p->ca, TLS_BUNDLE_MAX, err);
	int rc = list ? 0 : -EINVAL;

	for (int i = 0; rc == 0 && i < sk_X509_num(list); i++) {
		X509 *x = sk_X509_value(list, i);
		if (X509_STORE_add_cert(store, x) != 1 || (c->is_server && SSL_CTX_add_client_CA(c->ssl, x) != 1))
			rc = no_memory(err);
	}
	sk_X509_pop_free(list, X509_free);
	return rc;
}

static int add_crls(X509_STORE *store, const struct tls_context_params *p, struct foil_error *err)
{
	STACK_OF(X509_CRL) *list = tls_pem_crls(p->ca_name, p->crl, err);
	int rc = list ? 0 : -EINVAL;

	for (int i = 0; rc == 0 && i < sk_X509_CRL_num(list); i++)
		if (X509_STORE_add_crl(store, sk_X509_CRL_value(list, i)) != 1)
			rc = no_memory(err);
	sk_X509_CRL_pop_free(list, X509_CRL_free);
	if (rc == 0)
		(void)X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL); /* cannot fail for these */
	return rc;
}

static int use_trust(struct tls_context *c, const struct tls_context_params *p, struct foil_error *err)
{
	X509_STORE *store = SSL_CTX_get_cert_store(c->ssl);
	int rc = 0;

	(void)X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN); /* as Envoy: an intermediate may be the anchor */
	if (p->ca.n_bytes)
		rc = add_bundle(c, store, p, err);
	else if (!p->is_server && p->has_system_roots && !p->skip_verify) {
		rc = -ENOENT;
		for (size_t i = 0; rc != 0 && i < FOIL_COUNT_OF(system_roots); i++)
			rc = X509_STORE_load_file(store, system_roots[i]) == 1 ? 0 : -ENOENT;
		ERR_clear_error();
		if (rc != 0)
			return foil_error_set(err, -EINVAL, "no caCertificates are given and the system has no bundle of roots (%s)", system_roots[0]);
	}
	if (rc == 0 && p->crl.n_bytes)
		rc = add_crls(store, p, err);
	return rc;
}

int tls_bundle_check(struct foil_slice name, struct foil_slice ca, struct foil_slice crl, struct foil_error *err)
{
	STACK_OF(X509) *list = tls_pem_certs(name, "CA bundle", ca, TLS_BUNDLE_MAX, err);
	STACK_OF(X509_CRL) *crls = list && crl.n_bytes ? tls_pem_crls(name, crl, err) : NULL;
	int rc = list && (crls || !crl.n_bytes) ? 0 : -EINVAL;

	sk_X509_pop_free(list, X509_free);
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	return rc;
}

/* ---- rules ---- */
static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *n_out, const unsigned char *offered, unsigned int n_offered, void *arg)
{
	const struct tls_context *c = arg;
	unsigned char *chosen = NULL;

	(void)ssl;
	if (SSL_select_next_proto(&chosen, n_out, (const unsigned char *)c->alpn.data, c->alpn.n_bytes, offered, n_offered) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static int use_alpn(struct tls_context *c, struct foil_error *err)
{
	if (!c->alpn.n_bytes)
		return 0;
	if (c->is_server)
		SSL_CTX_set_alpn_select_cb(c->ssl, alpn_select, c);
	else if (SSL_CTX_set_alpn_protos(c->ssl, (const unsigned char *)c->alpn.data, c->alpn.n_bytes) != 0)
		return foil_error_set(err, -EINVAL, "the list of ALPN names is not one");
	return 0;
}

static int use_ciphers(struct tls_context *c, const struct tls_context_params *p, struct foil_error *err)
{
	struct foil_slice text = p->ciphers.n_bytes ? foil_blob_copy(&c->blob, p->ciphers.data, p->ciphers.n_bytes) : FOIL_SLICE(TLS_CIPHERS_DEFAULT);
	char why[160];

	if (!text.data)
		return no_memory(err);
	if (SSL_CTX_set_cipher_list(c->ssl, text.data) != 1 || SSL_CTX_set_ciphersuites(c->ssl, CIPHERS_13) != 1 ||
	    SSL_CTX_set1_groups_list(c->ssl, GROUPS) != 1)
		return foil_error_set(err, -EINVAL, "none of the cipher suites \"%.200s\" is known (%s)", text.data, tls_openssl_text(why, sizeof(why)));
	return 0;
}

/* What a resumed session must have been made under: everything that decides who may connect. */
static int use_resumption(struct tls_context *c, const struct tls_context_params *p, struct foil_error *err)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint8_t id[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

	for (uint16_t i = 0; ok && i < p->n_identities; i++)
		ok = EVP_DigestUpdate(md, p->identities[i].chain.data, p->identities[i].chain.n_bytes) == 1;
	ok = ok && EVP_DigestUpdate(md, p->ca.data, p->ca.n_bytes) == 1 && EVP_DigestUpdate(md, p->crl.data, p->crl.n_bytes) == 1 &&
	     EVP_DigestUpdate(md, p->resume_salt.data, p->resume_salt.n_bytes) == 1 && EVP_DigestFinal_ex(md, id, &n) == 1 &&
	     SSL_CTX_set_session_id_context(c->ssl, id, SSL_MAX_SID_CTX_LENGTH) == 1;
	EVP_MD_CTX_free(md);
	if (!ok)
		return no_memory(err);
	/* A server remembers sessions only for clients of TLS 1.2 that take no tickets; what tickets resume is not in the cache. */
	bool remembers = c->is_server && c->tickets;
	(void)SSL_CTX_set_session_cache_mode(c->ssl, remembers ? SSL_SESS_CACHE_SERVER : SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_sess_set_cache_size(c->ssl, SESSIONS_KEPT);
	(void)SSL_CTX_set_timeout(c->ssl, TICKET_LIFE_S);
	if (c->is_server && c->tickets) {
		(void)SSL_CTX_set_tlsext_ticket_key_evp_cb(c->ssl, tls_ticket_callback);
		(void)SSL_CTX_set_num_tickets(c->ssl, 1); /* cannot fail */
	} else {
		(void)SSL_CTX_set_options(c->ssl, SSL_OP_NO_TICKET);
		(void)SSL_CTX_set_num_tickets(c->ssl, 0);
	}
	return 0;
}

static void use_auth(struct tls_context *c, const struct tls_context_params *p)
{
	int mode = SSL_VERIFY_NONE;

	if (!p->is_server)
		mode = SSL_VERIFY_PEER;
	else if (p->auth != TLS_AUTH_NONE)
		mode = SSL_VERIFY_PEER | (p->auth == TLS_AUTH_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
	SSL_CTX_set_verify(c->ssl, mode, NULL);
	SSL_CTX_set_verify_depth(c->ssl, VERIFY_DEPTH_MAX);
	SSL_CTX_set_cert_verify_callback(c->ssl, tls_verify_callback, c);
}

static int use_rules(struct tls_context *c, const struct tls_context_params *p, struct foil_error *err)
{
	int min = version_of(p->min, TLS1_2_VERSION), max = version_of(p->max, TLS1_3_VERSION);

	if (min > max)
		return foil_error_set(err, -EINVAL, "the lowest TLS version is above the highest");
	SSL_CTX_set_security_level(c->ssl, min < TLS1_2_VERSION ? 0 : 2); /* the old versions need SHA-1 */
	if (SSL_CTX_set_min_proto_version(c->ssl, min) != 1 || SSL_CTX_set_max_proto_version(c->ssl, max) != 1)
		return foil_error_set(err, -EINVAL, "the TLS versions are not supported");
	/* ChaCha20 goes first where it is the client's first: it has no AES instructions then. */
	(void)SSL_CTX_set_options(c->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	(void)SSL_CTX_set_mode(c->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN); /* a chain is what the secret has */
	SSL_CTX_set_max_cert_list(c->ssl, CERT_LIST_BYTES_MAX);
	(void)SSL_CTX_set_dh_auto(c->ssl, 1); /* RFC 7919's groups, where a suite with finite fields is named */
	(void)SSL_CTX_set_max_early_data(c->ssl, 0); /* 0-RTT can be replayed */
	use_auth(c, p);
	int rc = use_ciphers(c, p, err);
	return rc ? rc : use_alpn(c, err);
}

static bool copy_lists(struct tls_context *c, const struct tls_context_params *p)
{
	struct foil_slice *sans = foil_blob_array(&c->blob, p->n_sans, sizeof(*sans));
	struct foil_slice cert = foil_blob_copy(&c->blob, p->cert_hashes, (size_t)p->n_cert_hashes * 32u);
	struct foil_slice spki = foil_blob_copy(&c->blob, p->spki_hashes, (size_t)p->n_spki_hashes * 32u);

	c->alpn = foil_blob_copy(&c->blob, p->alpn.data, p->alpn.n_bytes);
	for (uint16_t i = 0; sans && i < p->n_sans; i++) {
		sans[i] = foil_blob_copy(&c->blob, p->sans[i].data, p->sans[i].n_bytes);
		if (!sans[i].data)
			return false;
	}
	c->sans = sans;
	c->n_sans = p->n_sans;
	c->cert_hashes = (const uint8_t (*)[32])(const void *)cert.data;
	c->n_cert_hashes = p->n_cert_hashes;
	c->spki_hashes = (const uint8_t (*)[32])(const void *)spki.data;
	c->n_spki_hashes = p->n_spki_hashes;
	return sans && cert.data && spki.data && c->alpn.data;
}

static int build(struct tls_context *c, const struct tls_context_params *p, struct foil_error *err)
{
	if (!copy_lists(c, p))
		return no_memory(err);
	int rc = use_rules(c, p, err);
	for (uint16_t i = 0; rc == 0 && i < p->n_identities; i++)
		rc = use_identity(c, &p->identities[i], err);
	if (rc == 0)
		rc = use_trust(c, p, err);
	return rc ? rc : use_resumption(c, p, err);
}

int tls_context_new(const struct tls_context_params *p, struct tls_context **out, struct foil_error *err)
{
	struct foil_blob b = {.max_bytes = 0};
	struct tls_context *c = foil_blob_alloc(&b, sizeof(*c));

	if (!c)
		return no_memory(err);
	c->blob = b;
	c->n_refs = 1;
	c->is_server = p->is_server;
	c->skip_verify = p->skip_verify;
	c->accept_untrusted = p->accept_untrusted;
	c->tickets = p->tickets;
	c->provider = tls_provider_get();
	c->ssl = c->provider ? SSL_CTX_new_ex(NULL, TLS_PROPERTIES, p->is_server ? TLS_server_method() : TLS_client_method()) : NULL;
	int rc = c->ssl ? build(c, p, err) : no_memory(err);
	if (rc == 0 && p->is_server && !p->n_identities)
		rc = foil_error_set(err, -EINVAL, "a server needs a certificate");
	ERR_clear_error();
	if (rc == 0)
		*out = c;
	else
		tls_context_put(c);
	return rc;
}

struct tls_context *tls_context_get(struct tls_context *c)
{
	(void)__atomic_add_fetch(&c->n_refs, 1, __ATOMIC_RELAXED);
	return c;
}

void tls_context_put(struct tls_context *c)
{
	if (!c || __atomic_sub_fetch(&c->n_refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	SSL_CTX_free(c->ssl);
	tls_provider_put(c->provider);
	for (uint16_t i = 0; i < c->n_staples; i++)
		X509_free(c->staples[i].leaf);
	struct foil_blob b = c->blob; /* the blob holds its own head */
	foil_blob_free(&b);
}

struct foil_slice tls_context_uri_san(const struct tls_context *c)
{
	return c->local_uri_san;
}

void tls_context_validity(const struct tls_context *c, int64_t *not_before_s, int64_t *not_after_s)
{
	*not_before_s = c->not_before_s;
	*not_after_s = c->not_after_s;
}
