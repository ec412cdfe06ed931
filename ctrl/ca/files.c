/* The authority's directory: Istio's cacerts layout, read whole or not at all, written so that a crash leaves the old or the new. A key that we write is
 * encrypted, or in clear only where that was asked for; a key that was brought along is read as it is.
 * Invariant: a changes only after everything in the directory has been checked. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "ctrl/ca/ca_priv.h"

#define MARK "ca-made-here" /* the root is ours to change */
#define CHAIN_MAX 16
#define PASSPHRASE_BYTES_MAX 1024

static const char *const names[5] = {"ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem", "ca-crl.pem"};
enum { FILE_CERT, FILE_KEY, FILE_ROOT, FILE_CHAIN, FILE_CRL };

static bool path_of(const struct ca_authority *a, const char *name, char out[4096])
{
	return snprintf(out, 4096, "%s/%s", a->dir, name) < 4096;
}

static int read_text(const char *path, struct ca_text *out)
{
	char buf[8192];
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0 && !out->failed && out->n <= CA_PEM_BYTES_MAX)
		ca_text_add(out, buf, (size_t)n);
	int rc = n < 0 ? -errno : out->failed ? -ENOMEM : out->n > CA_PEM_BYTES_MAX ? -EFBIG : 0;
	OPENSSL_cleanse(buf, sizeof(buf));
	(void)close(fd); /* only read */
	return rc;
}

static int read_file(const struct ca_authority *a, const char *name, struct ca_text *out, struct foil_error *err)
{
	char path[4096];
	int rc = path_of(a, name, path) ? read_text(path, out) : -ENAMETOOLONG;

	return rc == 0 ? 0 : foil_error_set(err, rc, "%s/%s: %s", a->dir, name, strerror(-rc));
}

static struct foil_slice slice(const struct ca_text *t)
{
	return foil_slice_of(t->data, t->n);
}

/* ---- passphrases ---- */

struct passphrase {
	char text[PASSPHRASE_BYTES_MAX + 1];
	int n; /* 0: none */
};

static int read_passphrase(const struct ca_authority *a, struct passphrase *out, struct foil_error *err)
{
	struct ca_text t = {0};
	int rc = a->passphrase_file ? read_text(a->passphrase_file, &t) : 0;
	size_t n = 0;

	*out = (struct passphrase){.n = 0};
	if (rc < 0) {
		ca_text_fini(&t);
		return foil_error_set(err, rc, "the passphrase file %s: %s", a->passphrase_file, strerror(-rc));
	}
	while (n < t.n && t.data[n] != '\n' && t.data[n] != '\r')
		n++;
	if (a->passphrase_file && (n == 0 || n > PASSPHRASE_BYTES_MAX))
		rc = foil_error_set(err, -EINVAL, "the passphrase file %s: its first line has %zu bytes; must be 1 to %d", a->passphrase_file, n,
				    PASSPHRASE_BYTES_MAX);
	else if (n) {
		memcpy(out->text, t.data, n);
		out->n = (int)n;
	}
	ca_text_fini(&t);
	return rc;
}

static int tell_passphrase(char *buf, int n_room, int is_writing, void *data)
{
	const struct passphrase *p = data;

	(void)is_writing;
	if (p->n == 0 || p->n > n_room)
		return -1;
	memcpy(buf, p->text, (size_t)p->n);
	return p->n;
}

/* ---- changes ---- */

static void stamp(const struct ca_authority *a, struct ca_files *out)
{
	*out = (struct ca_files){{0}};
	for (int i = 0; i < 5; i++) {
		char path[4096];
		struct stat st;
		if (path_of(a, names[i], path) && stat(path, &st) == 0)
			out->stamp[i] = (int64_t)((uint64_t)st.st_mtim.tv_sec * 1000000007u ^ (uint64_t)st.st_mtim.tv_nsec ^ (uint64_t)st.st_size << 40 ^
						  (uint64_t)st.st_ino << 20);
	}
}

bool ca_files_exist(const struct ca_authority *a)
{
	char path[4096];

	return path_of(a, names[FILE_CERT], path) && access(path, F_OK) == 0;
}

bool ca_files_changed(const struct ca_authority *a)
{
	struct ca_files now;

	stamp(a, &now);
	return memcmp(&now, &a->files, sizeof(now)) != 0;
}

/* ---- reading ---- */

struct reading {
	struct ca_text text[5];
	struct ca_signer signer;
	STACK_OF(X509) *roots;
};

static void reading_fini(struct reading *r)
{
	for (int i = 0; i < 5; i++)
		ca_text_fini(&r->text[i]);
	ca_signer_fini(&r->signer);
	sk_X509_pop_free(r->roots, X509_free);
}

static EVP_PKEY *read_key(const struct ca_authority *a, const struct ca_text *t, struct foil_error *err)
{
	struct passphrase p;

	if (read_passphrase(a, &p, err) < 0)
		return NULL;
	ERR_clear_error();
	BIO *b = BIO_new_mem_buf(t->data, (int)t->n);
	EVP_PKEY *key = b ? PEM_read_bio_PrivateKey(b, NULL, tell_passphrase, &p) : NULL;
	if (!key)
		(void)ca_openssl_error(err, p.n ? "ca-key.pem cannot be read with the passphrase given" : "ca-key.pem cannot be read without a passphrase");
	BIO_free(b);
	OPENSSL_cleanse(&p, sizeof(p));
	ERR_clear_error();
	return key;
}

static int read_all(const struct ca_authority *a, struct reading *r, struct foil_error *err)
{
	for (int i = FILE_CERT; i <= FILE_ROOT; i++) {
		int rc = read_file(a, names[i], &r->text[i], err);
		if (rc < 0)
			return rc;
	}
	for (int i = FILE_CHAIN; i <= FILE_CRL; i++) { /* may be missing */
		struct foil_error e = {0};
		int rc = read_file(a, names[i], &r->text[i], &e);
		if (rc < 0 && rc != -ENOENT) {
			*err = e;
			return rc;
		}
	}
	return 0;
}

/* What goes between a leaf and the roots: the signer's own certificate unless it is a root, then what cert-chain.pem has but roots. */
static int take_between(struct reading *r, struct foil_error *err)
{
	STACK_OF(X509) *chain = r->text[FILE_CHAIN].n ? ca_read_certs("cert-chain.pem", slice(&r->text[FILE_CHAIN]), CHAIN_MAX, err) : sk_X509_new_null();
	STACK_OF(X509) *out = sk_X509_new_null();
	bool ok = chain && out;

	if (ok && !ca_is_root(r->signer.cert))
		ok = X509_up_ref(r->signer.cert) && sk_X509_push(out, r->signer.cert) > 0;
	for (int i = 0; ok && i < sk_X509_num(chain); i++) {
		X509 *x = sk_X509_value(chain, i);
		if (ca_is_root(x) || X509_cmp(x, r->signer.cert) == 0)
			continue;
		ok = X509_up_ref(x) && sk_X509_push(out, x) > 0;
	}
	if (!ok && chain)
		(void)foil_error_set(err, -ENOMEM, "no memory for the authority's chain");
	sk_X509_pop_free(chain, X509_free);
	r->signer.between = out;
	return ok ? 0 : -EINVAL;
}

static int verify_signer(const struct reading *r, int64_t now_s, struct foil_error *err)
{
	for (int i = 0; i < sk_X509_num(r->roots); i++)
		if (X509_cmp(sk_X509_value(r->roots, i), r->signer.cert) == 0 && ca_time_s(X509_get0_notAfter(r->signer.cert)) > now_s)
			return 0; /* a root itself; OpenSSL would look for it by its name, which several have */
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	bool ok = store && ctx;

	for (int i = 0; ok && i < sk_X509_num(r->roots); i++)
		ok = X509_STORE_add_cert(store, sk_X509_value(r->roots, i)) == 1;
	ok = ok && X509_STORE_CTX_init(ctx, store, r->signer.cert, r->signer.between) == 1;
	if (!ok) {
		(void)foil_error_set(err, -ENOMEM, "no memory to verify ca-cert.pem");
	} else {
		X509_STORE_CTX_set_time(ctx, 0, (time_t)now_s);
		ok = X509_verify_cert(ctx) == 1;
		if (!ok)
			(void)foil_error_set(err, -EINVAL, "ca-cert.pem does not lead to a certificate of root-cert.pem: %s",
					     X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	}
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	ERR_clear_error();
	return ok ? 0 : -EINVAL;
}

static int check(const struct ca_authority *a, struct reading *r, int64_t now_s, struct foil_error *err)
{
	STACK_OF(X509) *own = ca_read_certs("ca-cert.pem", slice(&r->text[FILE_CERT]), CHAIN_MAX, err);
	if (!own)
		return -EINVAL;
	r->signer.cert = sk_X509_shift(own);
	sk_X509_pop_free(own, X509_free);
	r->roots = ca_read_certs("root-cert.pem", slice(&r->text[FILE_ROOT]), (int)CA_ROOTS_MAX - 2, err);
	if (!r->roots)
		return -EINVAL;
	r->signer.key = read_key(a, &r->text[FILE_KEY], err);
	if (!r->signer.key)
		return -EINVAL;
	if (X509_check_ca(r->signer.cert) != 1)
		return foil_error_set(err, -EINVAL, "ca-cert.pem is not the certificate of a CA");
	if (X509_check_private_key(r->signer.cert, r->signer.key) != 1) {
		ERR_clear_error();
		return foil_error_set(err, -EINVAL, "ca-key.pem does not belong to ca-cert.pem");
	}
	int rc = take_between(r, err);
	return rc ? rc : verify_signer(r, now_s, err);
}

/* The directory's roots are the roots, and none but they. */
static void take(struct ca_authority *a, struct reading *r, int64_t now_s, bool *is_new_signer)
{
	*is_new_signer = !a->signer.cert || X509_cmp(a->signer.cert, r->signer.cert) != 0;
	for (uint32_t i = 0; i < a->n_roots; i++)
		X509_free(a->roots[i].cert);
	a->n_roots = 0;
	while (sk_X509_num(r->roots) > 0)
		a->roots[a->n_roots++] = (struct ca_root){.cert = sk_X509_shift(r->roots)};
	for (uint32_t i = 0; !a->is_brought && i < a->n_roots; i++) /* a root of ours before this one: what it signed is over by then */
		if (X509_cmp(a->roots[i].cert, r->signer.cert) != 0)
			a->roots[i].until_s = now_s + CA_TTL_S_MAX;
	int64_t last_s = *is_new_signer ? 0 : a->signer.last_not_after_s;
	ca_signer_fini(&a->signer);
	a->signer = r->signer;
	a->signer.last_not_after_s = last_s;
	r->signer = (struct ca_signer){.cert = NULL};
	free(a->crl);
	a->crl = r->text[FILE_CRL].data;
	a->n_crl = r->text[FILE_CRL].n;
	r->text[FILE_CRL] = (struct ca_text){0};
}

int ca_files_read(struct ca_authority *a, int64_t now_s, bool *is_new_signer, struct foil_error *err)
{
	struct reading r = {.roots = NULL};
	char mark[4096];

	stamp(a, &a->files); /* before: what changes while we read is read again */
	int rc = read_all(a, &r, err);
	if (rc == 0)
		rc = check(a, &r, now_s, err);
	if (rc == 0) {
		a->is_brought = !path_of(a, MARK, mark) || access(mark, F_OK) != 0;
		take(a, &r, now_s, is_new_signer);
		a->is_saved = true;
	}
	reading_fini(&r);
	return rc;
}

/* ---- writing ---- */

static int write_file(const struct ca_authority *a, const char *name, const void *data, size_t n, mode_t mode, struct foil_error *err)
{
	char path[4096], draft[4096];
	int rc = 0;

	if (!path_of(a, name, path) || snprintf(draft, sizeof(draft), "%s/.%s.new", a->dir, name) >= (int)sizeof(draft))
		return foil_error_set(err, -ENAMETOOLONG, "%s: the name is too long", a->dir);
	int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return foil_error_set(err, -errno, "%s: %s", draft, strerror(errno));
	for (size_t at = 0; rc == 0 && at < n;) {
		ssize_t one = write(fd, (const char *)data + at, n - at);
		if (one < 0 && errno != EINTR)
			rc = -errno;
		at += one > 0 ? (size_t)one : 0;
	}
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc == 0 && rename(draft, path) < 0)
		rc = -errno;
	if (rc < 0)
		(void)unlink(draft); /* an error is told already */
	return rc == 0 ? 0 : foil_error_set(err, rc, "%s: %s", path, strerror(-rc));
}

static int write_key(const struct ca_authority *a, struct foil_error *err)
{
	struct passphrase p;
	char *pem = NULL;
	int rc = read_passphrase(a, &p, err);

	if (rc < 0)
		return rc;
	BIO *b = BIO_new(BIO_s_mem());
	bool ok = b && (p.n ? PEM_write_bio_PKCS8PrivateKey(b, a->signer.key, EVP_aes_256_cbc(), p.text, p.n, NULL, NULL)
			    : PEM_write_bio_PKCS8PrivateKey(b, a->signer.key, NULL, NULL, 0, NULL, NULL)) == 1;
	long n = ok ? BIO_get_mem_data(b, &pem) : 0;
	if (!ok)
		rc = ca_openssl_error(err, "the authority's key cannot be written");
	else
		rc = write_file(a, names[FILE_KEY], pem, (size_t)n, 0600, err);
	if (n > 0)
		OPENSSL_cleanse(pem, (size_t)n);
	BIO_free(b);
	OPENSSL_cleanse(&p, sizeof(p));
	return rc;
}

/* The key before the certificate: a directory with ca-cert.pem is whole. */
int ca_files_write(struct ca_authority *a, struct foil_error *err)
{
	struct ca_text own = {0};

	if (!a->passphrase_file && !a->p.key_in_clear)
		return foil_error_set(err, -EINVAL, "%s: a root would be made here, but its key may not lie in clear: give a passphrase file, or allow it",
				      a->dir);
	ca_text_add_cert(&own, a->signer.cert);
	int rc = own.failed ? foil_error_set(err, -ENOMEM, "no memory for the authority's files") : write_file(a, MARK, "", 0, 0644, err);
	if (rc == 0)
		rc = write_key(a, err);
	if (rc == 0)
		rc = write_file(a, names[FILE_ROOT], a->bundle, a->n_bundle, 0644, err);
	if (rc == 0)
		rc = write_file(a, names[FILE_CHAIN], own.data, own.n, 0644, err);
	if (rc == 0)
		rc = write_file(a, names[FILE_CERT], own.data, own.n, 0644, err);
	ca_text_fini(&own);
	if (rc < 0)
		return rc;
	stamp(a, &a->files);
	a->is_saved = true;
	return 0;
}
