/* What the files of ctrl/ca share. */
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "ctrl/ca/ca.h"

struct ca_signer {
	X509 *cert;
	EVP_PKEY *key;
	STACK_OF(X509) *between; /* cert first, up to but without the root; empty when cert is a root */
	int64_t last_not_after_s; /* of what it signed */
};
void ca_signer_fini(struct ca_signer *s);

struct ca_root {
	X509 *cert;
	int64_t until_s; /* retired: let go then; 0: stays */
};

struct ca_files { /* what the directory held when it was read */
	int64_t stamp[5];
};

struct ca_authority {
	struct ca_params p;
	char *dir, *passphrase_file, *trust_domain;
	struct ca_signer signer, next;
	struct ca_root roots[CA_ROOTS_MAX];
	uint32_t n_roots;
	int64_t switch_s; /* when next becomes the signer; 0: none */
	bool is_brought, is_saved;
	struct ca_files files;
	char *bundle, *between, *crl;
	size_t n_bundle, n_between, n_crl;
	uint64_t generation, n_issued, n_refused, n_rotations;
};

/* ---- text.c */
struct ca_text { /* PEM that grows; wiped when freed */
	char *data;
	size_t n, n_room;
	bool failed;
};
void ca_text_add(struct ca_text *t, const void *data, size_t n);
void ca_text_add_cert(struct ca_text *t, X509 *cert);
void ca_text_fini(struct ca_text *t);
/* Appends "what: OpenSSL's reason" and clears OpenSSL's queue. -EINVAL. */
int ca_openssl_error(struct foil_error *err, const char *what);
int64_t ca_time_s(const ASN1_TIME *t);
/* Certificates in order, at most n_max, at least one. NULL with a sentence that names what. */
STACK_OF(X509) *ca_read_certs(const char *what, struct foil_slice pem, int n_max, struct foil_error *err);

/* ---- issue.c */
struct ca_subject {
	const char *organization;      /* of a root; NULL: an empty subject */
	const struct foil_slice *ids;
	size_t n_ids;
	const char *dns;               /* instead of ids: OpenSSL's words for names, "DNS:a,IP:b" */
	int64_t not_before_s, not_after_s;
	bool is_ca;
};
/* issuer NULL: signed by key itself. NULL with a sentence. */
X509 *ca_make_cert(const struct ca_subject *s, EVP_PKEY *subject_key, X509 *issuer, EVP_PKEY *key, struct foil_error *err);
EVP_PKEY *ca_make_key(void);

/* Signs for a public key and keeps the books: what both a request and our own workloads come to. */
int ca_sign_key(struct ca_authority *a, EVP_PKEY *subject_key, const struct foil_slice *ids, size_t n_ids, uint32_t ttl_s, int64_t now_s, struct ca_leaf *out,
		struct foil_error *err) FOIL_MUST_USE;

/* ---- csr.c */
/* The public key of a request whose signature is good. NULL with a sentence. */
EVP_PKEY *ca_csr_key(struct foil_slice pem, struct foil_error *err);

/* ---- files.c */
/* True: the directory holds an authority (a certificate and a key). */
bool ca_files_exist(const struct ca_authority *a);
bool ca_files_changed(const struct ca_authority *a);
/* Reads and checks all of it; a is changed only when it is good. *is_new_signer: the certificate that signs is another one. */
int ca_files_read(struct ca_authority *a, int64_t now_s, bool *is_new_signer, struct foil_error *err) FOIL_MUST_USE;
int ca_files_write(struct ca_authority *a, struct foil_error *err) FOIL_MUST_USE;

/* ---- authority.c */
/* Texts of bundle and intermediates after a change of roots or signer. 0 or -ENOMEM. */
int ca_texts_renew(struct ca_authority *a);
bool ca_is_root(X509 *cert);
