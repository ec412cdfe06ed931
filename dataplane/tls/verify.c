/* Whether the peer's certificate is one that this context takes: its chain by X509_verify_cert with the worker's time, then names, then hashes.
 * Invariant: with a failure c->reason says which, and c->verify_error is never X509_V_OK; a certificate that is taken without having passed leaves
 * its error where SSL_get_verify_result finds it, in sessions that are resumed, too. */
#include <openssl/x509_vfy.h>

#include "dataplane/tls/tls_priv.h"

static enum tls_reason reason_of(int error)
{
	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID: return TLS_REASON_VERIFY_TIME;
	case X509_V_ERR_CERT_REVOKED:
	case X509_V_ERR_UNABLE_TO_GET_CRL:
	case X509_V_ERR_CRL_HAS_EXPIRED:
	case X509_V_ERR_CRL_NOT_YET_VALID:
	case X509_V_ERR_CRL_SIGNATURE_FAILURE:
	case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
	case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER: return TLS_REASON_VERIFY_REVOKED;
	case X509_V_ERR_INVALID_PURPOSE:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_CERT_REJECTED: return TLS_REASON_VERIFY_PURPOSE;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_PERMITTED_VIOLATION:
	case X509_V_ERR_EXCLUDED_VIOLATION: return TLS_REASON_VERIFY_NAME;
	default: return TLS_REASON_VERIFY_CHAIN;
	}
}

static bool is_listed(const uint8_t hash[32], const uint8_t (*list)[32], uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		if (memcmp(hash, list[i], 32) == 0)
			return true;
	return false;
}

/* GW-11: a hash of either list suffices; no lists: all pass. */
static bool hash_passes(const struct tls_context *t, X509 *cert)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	uint8_t *spki = NULL;
	bool ok = !t->n_cert_hashes && !t->n_spki_hashes;

	if (!ok && t->n_cert_hashes && X509_digest(cert, EVP_sha256(), hash, &n) == 1)
		ok = is_listed(hash, t->cert_hashes, t->n_cert_hashes);
	if (!ok && t->n_spki_hashes) {
		int n_spki = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &spki);
		if (n_spki > 0 && EVP_Digest(spki, (size_t)n_spki, hash, &n, EVP_sha256(), NULL) == 1)
			ok = is_listed(hash, t->spki_hashes, t->n_spki_hashes);
		OPENSSL_free(spki);
	}
	return ok;
}

/* What OpenSSL is told of a name or a hash that is not wanted: an error without an alert of its own, so that the peer hears certificate_unknown, as
 * from Envoy (RFC 8446 6.2: some other issue, which makes it unacceptable). */
#define NO_ALERT_OF_ITS_OWN X509_V_ERR_SUBJECT_ISSUER_MISMATCH

static int fail(X509_STORE_CTX *x, const struct tls_context *t, struct tls_conn *c, enum tls_reason reason, int error)
{
	if (t->accept_untrusted) {
		X509_STORE_CTX_set_error(x, error);
		return 1;
	}
	c->reason = reason;
	c->verify_error = error;
	X509_STORE_CTX_set_error(x, reason == TLS_REASON_VERIFY_NAME || reason == TLS_REASON_VERIFY_HASH ? NO_ALERT_OF_ITS_OWN : error);
	return 0;
}

int tls_verify_callback(X509_STORE_CTX *x, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_conn *c = tls_conn_of_ssl(ssl);
	const struct tls_context *t = arg;
	X509 *leaf = X509_STORE_CTX_get0_cert(x);

	if (t->skip_verify) {
		X509_STORE_CTX_set_error(x, X509_V_OK);
		return 1;
	}
	if (X509_verify_cert(x) != 1) {
		int error = X509_STORE_CTX_get_error(x);
		return fail(x, t, c, reason_of(error), error == X509_V_OK ? X509_V_ERR_UNSPECIFIED : error);
	}
	if ((t->n_sans && !tls_cert_has_name(leaf, t->sans, t->n_sans)) || (c->n_sans && !tls_cert_has_name(leaf, c->sans, c->n_sans)))
		return fail(x, t, c, TLS_REASON_VERIFY_NAME, X509_V_ERR_HOSTNAME_MISMATCH);
	if (!hash_passes(t, leaf))
		return fail(x, t, c, TLS_REASON_VERIFY_HASH, X509_V_ERR_CERT_REJECTED);
	return 1;
}
