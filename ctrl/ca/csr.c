/* Certificate requests from strangers (PKCS #10, RFC 2986) and their client certificates. Only the public key of a request is used, after its signature has
 * shown that the sender has the private one. Invariant: OpenSSL's error queue is empty on return. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "ctrl/ca/ca_priv.h"

#define CSR_BYTES_MAX 65536u
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define CHAIN_MAX 16

static bool key_is_fit(EVP_PKEY *key)
{
	char group[32] = "";
	size_t n = 0;

	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_RSA: return EVP_PKEY_get_bits(key) >= RSA_BITS_MIN && EVP_PKEY_get_bits(key) <= RSA_BITS_MAX;
	case EVP_PKEY_EC:
		return EVP_PKEY_get_group_name(key, group, sizeof(group), &n) == 1 &&
		       (strcmp(group, "prime256v1") == 0 || strcmp(group, "secp384r1") == 0 || strcmp(group, "secp521r1") == 0);
	case EVP_PKEY_ED25519: return true;
	default: return false;
	}
}

EVP_PKEY *ca_csr_key(struct foil_slice pem, struct foil_error *err)
{
	EVP_PKEY *key = NULL;

	if (pem.n_bytes == 0 || pem.n_bytes > CSR_BYTES_MAX) {
		(void)foil_error_set(err, -EINVAL, "the certificate request has %u bytes; must be 1 to %u", pem.n_bytes, CSR_BYTES_MAX);
		return NULL;
	}
	ERR_clear_error();
	BIO *b = BIO_new_mem_buf(pem.data, (int)pem.n_bytes);
	X509_REQ *req = b ? PEM_read_bio_X509_REQ(b, NULL, NULL, (void *)(uintptr_t)"") : NULL;
	if (req)
		key = X509_REQ_get_pubkey(req);
	if (!key)
		(void)ca_openssl_error(err, "the certificate request cannot be read");
	else if (!key_is_fit(key))
		(void)foil_error_set(err, -EINVAL, "the request's key must be RSA of %d to %d bits, P-256, P-384, P-521 or Ed25519", RSA_BITS_MIN,
				     RSA_BITS_MAX);
	else if (X509_REQ_verify(req, key) != 1)
		(void)foil_error_set(err, -EINVAL, "the certificate request is not signed by its own key");
	else
		goto out;
	EVP_PKEY_free(key);
	key = NULL;
out:
	X509_REQ_free(req);
	BIO_free(b);
	ERR_clear_error();
	return key;
}

int ca_sign_request(struct ca_authority *a, struct foil_slice csr_pem, const struct foil_slice *ids, size_t n_ids, uint32_t ttl_s, int64_t now_s,
		    struct ca_leaf *out, struct foil_error *err)
{
	EVP_PKEY *key = ca_csr_key(csr_pem, err);
	int rc = key ? ca_sign_key(a, key, ids, n_ids, ttl_s, now_s, out, err) : -EINVAL;

	EVP_PKEY_free(key);
	a->n_refused += rc != 0;
	return rc;
}

/* ---- client certificates ---- */

static int verify(const struct ca_authority *a, X509 *leaf, STACK_OF(X509) *rest, int64_t now_s, struct foil_error *err)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	int rc = store && ctx ? 0 : foil_error_set(err, -ENOMEM, "no memory to verify a certificate");

	for (uint32_t i = 0; rc == 0 && i < a->n_roots; i++)
		if (X509_STORE_add_cert(store, a->roots[i].cert) != 1)
			rc = foil_error_set(err, -ENOMEM, "no memory to verify a certificate");
	if (rc == 0 && X509_STORE_CTX_init(ctx, store, leaf, rest) != 1)
		rc = foil_error_set(err, -ENOMEM, "no memory to verify a certificate");
	if (rc == 0) {
		X509_STORE_CTX_set_time(ctx, 0, (time_t)now_s);
		(void)X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT); /* a purpose that exists */
		if (X509_verify_cert(ctx) != 1)
			rc = foil_error_set(err, -EINVAL, "the client certificate is not accepted: %s",
					    X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	}
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	ERR_clear_error();
	return rc;
}

/* SPIFFE: exactly one URI. NULL: none, or not fit. */
static char *only_id(X509 *leaf)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	struct foil_slice id = {NULL, 0};
	uint32_t n_uris = 0;
	char *copy = NULL;

	for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		if (g->type != GEN_URI)
			continue;
		n_uris++;
		id = foil_slice_of(ASN1_STRING_get0_data(g->d.uniformResourceIdentifier), (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier));
	}
	if (n_uris == 1 && ca_id_is_valid(id) && (copy = malloc(id.n_bytes + 1u)) != NULL) {
		memcpy(copy, id.data, id.n_bytes);
		copy[id.n_bytes] = 0;
	}
	GENERAL_NAMES_free(names);
	return copy;
}

int ca_verify_client(const struct ca_authority *a, struct foil_slice chain_pem, int64_t now_s, char **id, struct foil_error *err)
{
	STACK_OF(X509) *chain = ca_read_certs("the client certificate", chain_pem, CHAIN_MAX, err);
	if (!chain)
		return -EINVAL;
	X509 *leaf = sk_X509_shift(chain);
	int rc = verify(a, leaf, chain, now_s, err);
	char *found = rc == 0 ? only_id(leaf) : NULL;

	if (rc == 0 && !found)
		rc = foil_error_set(err, -EINVAL, "the client certificate does not have exactly one SPIFFE id");
	if (rc == 0)
		*id = found;
	X509_free(leaf);
	sk_X509_pop_free(chain, X509_free);
	return rc;
}
