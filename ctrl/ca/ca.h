/* The mesh's certificate authority: a root made here or a signing certificate brought along, workload certificates with a SPIFFE id each (features.md
 * ID-1..ID-5), their renewal, and the change of the root with both trusted meanwhile. Keys are OpenSSL's; nothing here speaks to anybody.
 *
 * Time is the caller's (Unix seconds), so that tests move it by hand. One thread. Errors are sentences; whatever fails leaves what was there. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "dataplane/core/base.h"
#include "dataplane/core/error.h"

#define CA_TTL_S_DEFAULT 86400u        /* ID-3 */
#define CA_TTL_S_MAX 7776000u          /* 90 days */
#define CA_TTL_S_MIN 10u
#define CA_ROOT_LIFE_S 315360000u      /* 10 years */
#define CA_BACKDATE_S 120u             /* clocks differ: certificates begin that long before they are made, as Istio's */
#define CA_PEM_BYTES_MAX (1u << 20)
#define CA_ROOTS_MAX 64u
#define CA_ID_BYTES_MAX 2048u          /* SPIFFE-ID 2.3 */

/* ---- the authority ---- */
struct ca_authority;

/* Where keys and certificates lie, in the layout of Istio's cacerts secret: ca-cert.pem, ca-key.pem, root-cert.pem (one root or several), cert-chain.pem
 * (ca-cert and what is between it and the root; may be missing), ca-crl.pem (may be missing).
 * A directory without ca-cert.pem gets a new root; its key is written encrypted with the passphrase, or in clear where that is asked for, and without
 * either nothing is made. dir NULL: a root in memory, gone with the process. */
struct ca_params {
	const char *dir;
	const char *passphrase_file;    /* its first line; NULL: keys have none */
	bool key_in_clear;
	const char *trust_domain;       /* of the root's subject */
	uint32_t root_life_s;           /* 0: CA_ROOT_LIFE_S */
	uint32_t root_overlap_s;        /* a new root is trusted that long before it signs; 0: 60 */
	int64_t now_s;
};
int ca_open(const struct ca_params *p, struct ca_authority **out, struct foil_error *err) FOIL_MUST_USE;
void ca_close(struct ca_authority *own_a); /* NULL is fine; keys are wiped */

enum ca_change {
	CA_SAME,
	CA_TRUST,  /* the bundle changed */
	CA_SIGNER, /* and so did who signs: certificates should be made anew */
};
/* Once a second or so: reads changed files, goes on with a change of roots, begins one when the root grows old, lets expired roots go.
 * err: set when the files cannot be used (what was there stays in use); else its text is empty. */
enum ca_change ca_turn(struct ca_authority *a, int64_t now_s, struct foil_error *err);
/* Begins a change to a new root: trusted from now on (and in root-cert.pem, where there is a directory), signing root_overlap_s later; the
 * old one stays trusted until what it signed has expired.
 * -EINVAL: the authority was brought along (change its files instead), or a change is going on. */
int ca_rotate_root(struct ca_authority *a, int64_t now_s, struct foil_error *err) FOIL_MUST_USE;

/* PEM of all roots that are trusted; of what goes between a leaf and the root; of the CRL. Until the next call that takes a. */
struct foil_slice ca_bundle(const struct ca_authority *a);
struct foil_slice ca_intermediates(const struct ca_authority *a);
struct foil_slice ca_crl(const struct ca_authority *a);
/* Changes when the bundle does. */
uint64_t ca_generation(const struct ca_authority *a);

struct ca_info {
	char subject[256], serial[64];
	int64_t not_before_s, not_after_s; /* of the certificate that signs */
	bool is_brought, is_rotating;
	bool is_saved;                     /* its key is in the directory */
	uint32_t n_roots;
	struct {
		char subject[256], fingerprint[65];
		int64_t not_after_s;
	} roots[CA_ROOTS_MAX];
	uint64_t n_issued, n_refused, n_rotations;
};
void ca_info(const struct ca_authority *a, struct ca_info *out);

/* ---- one certificate ---- */
/* "spiffe://trust.domain/path", as SPIFFE-ID 2 says. */
bool ca_id_is_valid(struct foil_slice id);

struct ca_leaf {
	char *chain_pem;     /* the leaf, then the intermediates: malloc'd */
	size_t n_chain;
	int64_t not_before_s, not_after_s;
};
void ca_leaf_fini(struct ca_leaf *l);
/* For the public key of a PEM certificate request; the names in it are not looked at: ids are those that the caller has proved. ttl_s: 0 = the default; cut
 * to CA_TTL_S_MAX and to the end of the authority's own certificate. -EINVAL with a sentence that is fit for the requester. */
int ca_sign_request(struct ca_authority *a, struct foil_slice csr_pem, const struct foil_slice *ids, size_t n_ids, uint32_t ttl_s, int64_t now_s,
		    struct ca_leaf *out, struct foil_error *err) FOIL_MUST_USE;
/* The SPIFFE ids that a client certificate proves: of a chain (leaf first) verified against the bundle at now_s. *id: malloc'd. */
int ca_verify_client(const struct ca_authority *a, struct foil_slice chain_pem, int64_t now_s, char **id, struct foil_error *err) FOIL_MUST_USE;

/* When the first of the certificates in a PEM text ends, Unix seconds; 0: there is none that can be read. */
int64_t ca_pem_expiry_s(struct foil_slice pem);

/* ---- the workloads whose keys we hold ---- */
struct ca_workloads;

struct ca_rotation {
	uint32_t ttl_s;            /* 0: CA_TTL_S_DEFAULT */
	uint32_t renew_permille;   /* of the life; 0: 500 */
	uint32_t jitter_permille;  /* of the life, to either side; 0: 10 */
};
struct ca_secret {
	const char *id;
	struct foil_slice chain, key; /* PEM; empty: none is there yet */
	int64_t not_before_s, not_after_s, renew_s;
	uint64_t n_issued;
};

struct ca_workloads *ca_workloads_new(struct ca_authority *a, const struct ca_rotation *r); /* NULL: no memory. a must outlive it */
void ca_workloads_free(struct ca_workloads *own_w); /* NULL is fine; keys are wiped */
/* These identities, and no others, from now on; sorted or not, doubles are one. Those that are not valid are left out. 0 or -ENOMEM. */
int ca_workloads_want(struct ca_workloads *w, const char *const *ids, size_t n_ids) FOIL_MUST_USE;
/* All are to be issued anew: the signer changed. */
void ca_workloads_renew_all(struct ca_workloads *w);
/* Issues those that are due, n_max at most. True: something changed. What cannot be issued is tried again, later and later; the last good one stays. */
bool ca_workloads_turn(struct ca_workloads *w, int64_t now_s, size_t n_max, struct foil_error *err);
size_t ca_workloads_n(const struct ca_workloads *w);
struct ca_secret ca_workloads_at(const struct ca_workloads *w, size_t i); /* in the order of their ids; borrowed until the next call that changes w */
