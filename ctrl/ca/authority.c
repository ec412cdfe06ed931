/* The authority: who signs, which roots are trusted, and how one root follows another. A change of our own root has three steps: the new one is trusted,
 * then (root_overlap_s later, when everybody has heard) it signs, then the old one goes when the last certificate under it has expired. Of an authority
 * that was brought along the files are the truth, read again when they change.
 * Invariant: signer.cert leads to one of roots; texts are those of roots and signer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "ctrl/ca/ca_priv.h"

#define OVERLAP_S 60u
#define ROOT_RENEW_SHARE 5 /* begins when less than a fifth of the root's life is left */

void ca_signer_fini(struct ca_signer *s)
{
	X509_free(s->cert);
	EVP_PKEY_free(s->key); /* OpenSSL wipes it */
	sk_X509_pop_free(s->between, X509_free);
	*s = (struct ca_signer){.cert = NULL};
}

bool ca_is_root(X509 *cert)
{
	return X509_self_signed(cert, 0) == 1;
}

static bool roots_text(const struct ca_authority *a, struct ca_text *t)
{
	for (uint32_t i = 0; i < a->n_roots; i++)
		ca_text_add_cert(t, a->roots[i].cert);
	return !t->failed;
}

int ca_texts_renew(struct ca_authority *a)
{
	struct ca_text bundle = {0}, between = {0};

	for (int i = 0; i < sk_X509_num(a->signer.between); i++)
		ca_text_add_cert(&between, sk_X509_value(a->signer.between, i));
	if (!roots_text(a, &bundle) || between.failed) {
		ca_text_fini(&bundle);
		ca_text_fini(&between);
		return -ENOMEM;
	}
	bool is_same = bundle.n == a->n_bundle && memcmp(bundle.data, a->bundle, bundle.n) == 0;
	free(a->bundle);
	free(a->between);
	a->bundle = bundle.data;
	a->n_bundle = bundle.n;
	a->between = between.data;
	a->n_between = between.n;
	a->generation += !is_same;
	return 0;
}

/* ---- our own roots ---- */

static int make_root(const struct ca_authority *a, int64_t now_s, struct ca_signer *out, struct foil_error *err)
{
	uint32_t life_s = a->p.root_life_s ? a->p.root_life_s : CA_ROOT_LIFE_S;
	const struct ca_subject s = {.organization = a->trust_domain, .is_ca = true, .not_before_s = now_s - CA_BACKDATE_S, .not_after_s = now_s + life_s};
	struct ca_signer made = {.key = ca_make_key(), .between = sk_X509_new_null()};

	if (made.key && made.between)
		made.cert = ca_make_cert(&s, made.key, NULL, made.key, err);
	else
		(void)foil_error_set(err, -ENOMEM, "no memory for a root");
	if (!made.cert) {
		ca_signer_fini(&made);
		return -EINVAL;
	}
	*out = made;
	return 0;
}

static bool add_root(struct ca_authority *a, X509 *cert)
{
	if (a->n_roots == CA_ROOTS_MAX || X509_up_ref(cert) != 1)
		return false;
	a->roots[a->n_roots++] = (struct ca_root){.cert = cert};
	return true;
}

static int begin_with_root(struct ca_authority *a, int64_t now_s, struct foil_error *err)
{
	int rc = make_root(a, now_s, &a->signer, err);

	if (rc == 0 && (!add_root(a, a->signer.cert) || ca_texts_renew(a) < 0))
		rc = foil_error_set(err, -ENOMEM, "no memory for a root");
	return rc == 0 && a->dir ? ca_files_write(a, err) : rc;
}

int ca_rotate_root(struct ca_authority *a, int64_t now_s, struct foil_error *err)
{
	if (a->is_brought)
		return foil_error_set(err, -EINVAL, "the authority was brought along in %s: put the new root into its root-cert.pem beside the old one, then "
				      "change ca-cert.pem and ca-key.pem", a->dir);
	if (a->next.cert)
		return foil_error_set(err, -EINVAL, "a new root is being introduced already: it signs from %lld (Unix time) on", (long long)a->switch_s);
	if (a->n_roots + 1 >= CA_ROOTS_MAX)
		return foil_error_set(err, -EINVAL, "%u roots are trusted already", a->n_roots);
	int rc = make_root(a, now_s, &a->next, err);
	if (rc < 0)
		return rc;
	if (!add_root(a, a->next.cert) || ca_texts_renew(a) < 0) {
		if (X509_cmp(a->roots[a->n_roots - 1].cert, a->next.cert) == 0)
			X509_free(a->roots[--a->n_roots].cert);
		ca_signer_fini(&a->next);
		return foil_error_set(err, -ENOMEM, "no memory for a root");
	}
	a->switch_s = now_s + (a->p.root_overlap_s ? a->p.root_overlap_s : OVERLAP_S);
	if (a->dir && ca_files_write(a, err) < 0) /* whoever reads root-cert.pem there must have it before it signs */
		a->is_saved = false;
	return 0;
}

/* The new root signs; the old one stays until the last of its certificates has expired. */
static void switch_signer(struct ca_authority *a, int64_t now_s, struct foil_error *err)
{
	int64_t until_s = FOIL_MAX(a->signer.last_not_after_s, now_s) + CA_BACKDATE_S;

	for (uint32_t i = 0; i < a->n_roots; i++)
		if (X509_cmp(a->roots[i].cert, a->signer.cert) == 0)
			a->roots[i].until_s = until_s;
	ca_signer_fini(&a->signer);
	a->signer = a->next;
	a->next = (struct ca_signer){.cert = NULL};
	a->switch_s = 0;
	a->n_rotations++;
	(void)ca_texts_renew(a); /* no memory: the next change makes them */
	if (a->dir && ca_files_write(a, err) < 0)
		a->is_saved = false; /* err tells it, and the process goes on with the new root */
}

static bool drop_roots(struct ca_authority *a, int64_t now_s)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < a->n_roots; i++) {
		struct ca_root r = a->roots[i];
		bool is_own = X509_cmp(r.cert, a->signer.cert) == 0;
		bool is_over = (r.until_s && r.until_s <= now_s) || ca_time_s(X509_get0_notAfter(r.cert)) <= now_s;
		if (is_over && !is_own)
			X509_free(r.cert);
		else
			a->roots[n++] = r;
	}
	bool changed = n != a->n_roots;
	a->n_roots = n;
	return changed && ca_texts_renew(a) == 0;
}

static bool root_is_old(const struct ca_authority *a, int64_t now_s)
{
	int64_t from = ca_time_s(X509_get0_notBefore(a->signer.cert)), to = ca_time_s(X509_get0_notAfter(a->signer.cert));

	return (to - now_s) * ROOT_RENEW_SHARE < to - from;
}

static enum ca_change read_again(struct ca_authority *a, int64_t now_s, struct foil_error *err)
{
	uint64_t before = a->generation;
	bool is_new = false;

	if (ca_files_read(a, now_s, &is_new, err) < 0)
		return CA_SAME;
	ca_signer_fini(&a->next); /* a change of our own that was going on: the files say otherwise */
	a->switch_s = 0;
	if (ca_texts_renew(a) < 0) {
		(void)foil_error_set(err, -ENOMEM, "no memory for the authority's texts");
		return CA_SAME;
	}
	return is_new ? CA_SIGNER : a->generation != before ? CA_TRUST : CA_SAME;
}

enum ca_change ca_turn(struct ca_authority *a, int64_t now_s, struct foil_error *err)
{
	enum ca_change change = CA_SAME;

	err->text[0] = 0;
	if (a->dir && ca_files_changed(a))
		return read_again(a, now_s, err);
	if (a->next.cert && now_s >= a->switch_s) {
		switch_signer(a, now_s, err);
		change = CA_SIGNER;
	} else if (!a->is_brought && !a->next.cert && root_is_old(a, now_s)) {
		change = ca_rotate_root(a, now_s, err) == 0 ? CA_TRUST : CA_SAME;
	}
	if (!a->is_brought && drop_roots(a, now_s)) {
		if (a->dir && ca_files_write(a, err) < 0)
			a->is_saved = false;
		change = change == CA_SAME ? CA_TRUST : change;
	}
	return change;
}

/* ---- open and close ---- */

static int open_dir(struct ca_authority *a, int64_t now_s, struct foil_error *err)
{
	bool is_new;
	int rc = ca_files_read(a, now_s, &is_new, err);

	return rc < 0 || ca_texts_renew(a) == 0 ? rc : foil_error_set(err, -ENOMEM, "no memory for the authority");
}

static char *copy(const char *text, bool *ok)
{
	char *c = text ? strdup(text) : NULL;

	*ok = *ok && (c || !text);
	return c;
}

int ca_open(const struct ca_params *p, struct ca_authority **out, struct foil_error *err)
{
	struct ca_authority *a = calloc(1, sizeof(*a));
	bool ok = a != NULL;

	if (!a)
		return foil_error_set(err, -ENOMEM, "no memory for the authority");
	a->p = *p;
	a->dir = copy(p->dir, &ok);
	a->passphrase_file = copy(p->passphrase_file, &ok);
	a->trust_domain = copy(p->trust_domain ? p->trust_domain : "cluster.local", &ok);
	int rc = ok ? 0 : foil_error_set(err, -ENOMEM, "no memory for the authority");
	if (rc == 0)
		rc = a->dir && ca_files_exist(a) ? open_dir(a, p->now_s, err) : begin_with_root(a, p->now_s, err);
	if (rc == 0)
		*out = a;
	else
		ca_close(a);
	return rc;
}

void ca_close(struct ca_authority *a)
{
	if (!a)
		return;
	ca_signer_fini(&a->signer);
	ca_signer_fini(&a->next);
	for (uint32_t i = 0; i < a->n_roots; i++)
		X509_free(a->roots[i].cert);
	free(a->bundle);
	free(a->between);
	free(a->crl);
	free(a->dir);
	free(a->passphrase_file);
	free(a->trust_domain);
	free(a);
}

/* ---- what it says ---- */

struct foil_slice ca_bundle(const struct ca_authority *a)
{
	return foil_slice_of(a->bundle, a->n_bundle);
}

struct foil_slice ca_intermediates(const struct ca_authority *a)
{
	return foil_slice_of(a->between, a->n_between);
}

struct foil_slice ca_crl(const struct ca_authority *a)
{
	return foil_slice_of(a->crl, a->n_crl);
}

uint64_t ca_generation(const struct ca_authority *a)
{
	return a->generation;
}

static void name_text(X509 *cert, char *out, size_t n_out)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *text = NULL;
	long n = b && X509_NAME_print_ex(b, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253) >= 0 ? BIO_get_mem_data(b, &text) : 0;

	size_t len = FOIL_MIN((size_t)FOIL_MAX(n, 0), n_out - 1);
	if (len)
		memcpy(out, text, len);
	out[len] = 0;
	BIO_free(b);
}

static void hex_text(const uint8_t *bytes, size_t n, char *out, size_t n_out)
{
	static const char digits[] = "0123456789abcdef";
	size_t at = 0;

	for (size_t i = 0; i < n && at + 2 < n_out; i++) {
		out[at++] = digits[bytes[i] >> 4];
		out[at++] = digits[bytes[i] & 15];
	}
	out[at] = 0;
}

void ca_info(const struct ca_authority *a, struct ca_info *out)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(a->signer.cert);

	*out = (struct ca_info){.not_before_s = ca_time_s(X509_get0_notBefore(a->signer.cert)), .not_after_s = ca_time_s(X509_get0_notAfter(a->signer.cert)),
				.is_brought = a->is_brought, .is_rotating = a->next.cert != NULL, .is_saved = a->is_saved, .n_roots = a->n_roots,
				.n_issued = a->n_issued, .n_refused = a->n_refused, .n_rotations = a->n_rotations};
	name_text(a->signer.cert, out->subject, sizeof(out->subject));
	hex_text(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial), out->serial, sizeof(out->serial));
	for (uint32_t i = 0; i < a->n_roots; i++) {
		uint8_t hash[EVP_MAX_MD_SIZE];
		unsigned int n = 0;
		name_text(a->roots[i].cert, out->roots[i].subject, sizeof(out->roots[i].subject));
		out->roots[i].not_after_s = ca_time_s(X509_get0_notAfter(a->roots[i].cert));
		if (X509_digest(a->roots[i].cert, EVP_sha256(), hash, &n) == 1)
			hex_text(hash, n, out->roots[i].fingerprint, sizeof(out->roots[i].fingerprint));
	}
}
