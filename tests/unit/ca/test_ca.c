/* The authority: roots, the cacerts layout, certificates as OpenSSL verifies them, renewal, the change of roots, requests of strangers. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "ctrl/ca/ca.h"
#include "ctrl/ca/ca_priv.h"
#include "ctrl/ca/service.h"
#include "tests/unit/support.h"

#define NOW 1800000000ll
#define WEB "spiffe://cluster.local/ns/app/sa/web"

static char dir[128];

static int make_dir(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/foil-ca-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static const char *in_dir(const char *name)
{
	static char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static int remove_dir(void **state)
{
	static const char *const names[] = {"ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem", "ca-crl.pem", "ca-made-here", "pass"};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(names); i++)
		(void)unlink(in_dir(names[i]));
	return rmdir(dir);
}

static void put_file(const char *name, const char *text, size_t n)
{
	FILE *f = fopen(in_dir(name), "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static struct ca_authority *open_with(struct ca_params p)
{
	struct ca_authority *a = NULL;
	struct foil_error err = {0};

	if (!p.now_s)
		p.now_s = NOW;
	if (ca_open(&p, &a, &err) != 0)
		fail_msg("%s", err.text);
	return a;
}

static X509 *first(struct foil_slice pem)
{
	struct foil_error err = {0};
	STACK_OF(X509) *list = ca_read_certs("test", pem, 64, &err);

	assert_non_null(list);
	X509 *x = sk_X509_shift(list);
	sk_X509_pop_free(list, X509_free);
	return x;
}

/* As a peer would, with the authority's bundle: 0 or OpenSSL's error. */
static int verify(const struct ca_authority *a, struct foil_slice chain, int64_t now_s, int purpose)
{
	struct foil_error err = {0};
	STACK_OF(X509) *certs = ca_read_certs("chain", chain, 64, &err), *roots = ca_read_certs("bundle", ca_bundle(a), 64, &err);
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();

	assert_non_null(certs);
	assert_non_null(roots);
	for (int i = 0; i < sk_X509_num(roots); i++)
		assert_int_equal(X509_STORE_add_cert(store, sk_X509_value(roots, i)), 1);
	assert_int_equal(X509_STORE_CTX_init(ctx, store, sk_X509_value(certs, 0), certs), 1);
	X509_STORE_CTX_set_time(ctx, 0, (time_t)now_s);
	X509_STORE_CTX_set_purpose(ctx, purpose);
	int e = X509_verify_cert(ctx) == 1 ? 0 : X509_STORE_CTX_get_error(ctx);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	sk_X509_pop_free(certs, X509_free);
	sk_X509_pop_free(roots, X509_free);
	return e;
}

static char *request(EVP_PKEY *key, size_t *n)
{
	X509_REQ *r = X509_REQ_new();
	BIO *b = BIO_new(BIO_s_mem());
	char *text, *copy;

	assert_int_equal(X509_REQ_set_pubkey(r, key), 1);
	assert_true(X509_REQ_sign(r, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509_REQ(b, r), 1);
	*n = (size_t)BIO_get_mem_data(b, &text);
	copy = malloc(*n);
	memcpy(copy, text, *n);
	BIO_free(b);
	X509_REQ_free(r);
	return copy;
}

static unsigned int count_in_file(const char *name)
{
	FILE *f = fopen(in_dir(name), "r");
	char line[128];
	unsigned int n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strncmp(line, "-----BEGIN CERTIFICATE", 22) == 0;
	(void)fclose(f);
	return n;
}

/* ---- tests ---- */

static void test_a_root_in_memory_signs_what_its_bundle_verifies(void **state)
{
	(void)state;
	struct ca_authority *a = open_with((struct ca_params){.dir = NULL});
	struct foil_error err = {0};
	struct foil_slice id = FOIL_SLICE(WEB);
	struct ca_leaf leaf = {0};
	EVP_PKEY *key = ca_make_key();

	assert_int_equal(ca_sign_key(a, key, &id, 1, 0, NOW, &leaf, &err), 0);
	assert_int_equal(leaf.not_after_s, NOW + 86400);
	struct foil_slice chain = foil_slice_of(leaf.chain_pem, leaf.n_chain);
	assert_int_equal(verify(a, chain, NOW, X509_PURPOSE_SSL_CLIENT), 0);
	assert_int_equal(verify(a, chain, NOW, X509_PURPOSE_SSL_SERVER), 0);
	assert_int_equal(verify(a, chain, NOW + 86401, X509_PURPOSE_SSL_SERVER), X509_V_ERR_CERT_HAS_EXPIRED);
	X509 *x = first(chain);
	assert_int_equal(X509_NAME_entry_count(X509_get_subject_name(x)), 0);
	int critical = 0;
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, &critical, NULL);
	assert_int_equal(critical, 1);
	assert_int_equal(sk_GENERAL_NAME_num(names), 1);
	assert_string_equal((const char *)ASN1_STRING_get0_data(sk_GENERAL_NAME_value(names, 0)->d.uniformResourceIdentifier), WEB);
	GENERAL_NAMES_free(names);
	X509_free(x);
	EVP_PKEY_free(key);
	ca_leaf_fini(&leaf);
	ca_close(a);
}

static void test_spiffe_ids(void **state)
{
	static const char *const good[] = {"spiffe://cluster.local/ns/app/sa/web", "spiffe://a/b", "spiffe://td.example/x/Y_z-1.0"};
	static const char *const bad[] = {"", "spiffe://", "spiffe:///ns/a", "spiffe://td", "spiffe://td/", "spiffe://td/a//b", "spiffe://td/a/",
					  "spiffe://TD/a", "spiffe://td/./a", "spiffe://td/../a", "http://td/a", "spiffe://td/a b",
					  "spiffe://td/a?b", "spiffe://td:80/a"};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(good); i++)
		assert_true(ca_id_is_valid(foil_slice_str(good[i])));
	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++)
		assert_false(ca_id_is_valid(foil_slice_str(bad[i])));
}

static void test_a_root_is_not_written_in_clear_unless_asked_for(void **state)
{
	struct ca_params p = {.dir = dir, .now_s = NOW};
	struct ca_authority *a = NULL;
	struct foil_error err = {0};
	struct stat st;

	(void)state;
	assert_int_equal(ca_open(&p, &a, &err), -EINVAL);
	assert_non_null(strstr(err.text, "may not lie in clear"));
	assert_int_equal(access(in_dir("ca-cert.pem"), F_OK), -1);
	p.key_in_clear = true;
	a = open_with(p);
	assert_int_equal(stat(in_dir("ca-key.pem"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	ca_close(a);
}

static void test_a_root_is_the_same_after_a_restart(void **state)
{
	char pass[256];
	struct ca_info one, two;

	(void)state;
	put_file("pass", "correct horse\n", 14);
	(void)snprintf(pass, sizeof(pass), "%s", in_dir("pass"));
	struct ca_authority *a = open_with((struct ca_params){.dir = dir, .passphrase_file = pass});
	ca_info(a, &one);
	ca_close(a);
	FILE *f = fopen(in_dir("ca-key.pem"), "r");
	char head[64] = "";
	assert_non_null(fgets(head, sizeof(head), f));
	(void)fclose(f);
	assert_string_equal(head, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
	a = open_with((struct ca_params){.dir = dir, .passphrase_file = pass});
	ca_info(a, &two);
	assert_string_equal(one.serial, two.serial);
	assert_false(two.is_brought);
	ca_close(a);
	put_file("pass", "wrong\n", 6);
	struct ca_params p = {.dir = dir, .passphrase_file = pass, .now_s = NOW};
	struct foil_error err = {0};
	assert_int_equal(ca_open(&p, &a, &err), -EINVAL);
	assert_non_null(strstr(err.text, "ca-key.pem"));
}

/* An intermediate under a root, as an operator brings them. */
struct brought {
	EVP_PKEY *root_key, *key;
	X509 *root, *cert;
};

static struct brought bring(const char *name, int64_t life_s)
{
	struct foil_error err = {0};
	struct brought b = {.root_key = ca_make_key(), .key = ca_make_key()};
	struct ca_subject root = {.organization = name, .is_ca = true, .not_before_s = NOW - 10, .not_after_s = NOW + life_s};
	struct ca_subject own = {.organization = "between", .is_ca = true, .not_before_s = NOW - 10, .not_after_s = NOW + life_s};
	struct ca_text key = {0}, cert = {0}, top = {0};
	BIO *m = BIO_new(BIO_s_mem());
	char *text;

	b.root = ca_make_cert(&root, b.root_key, NULL, b.root_key, &err);
	b.cert = ca_make_cert(&own, b.key, b.root, b.root_key, &err);
	assert_non_null(b.cert);
	assert_int_equal(PEM_write_bio_PrivateKey(m, b.key, NULL, NULL, 0, NULL, NULL), 1);
	long n = BIO_get_mem_data(m, &text);
	ca_text_add(&key, text, (size_t)n);
	ca_text_add_cert(&cert, b.cert);
	ca_text_add_cert(&top, b.root);
	put_file("ca-key.pem", key.data, key.n);
	put_file("root-cert.pem", top.data, top.n);
	put_file("cert-chain.pem", cert.data, cert.n);
	put_file("ca-cert.pem", cert.data, cert.n);
	BIO_free(m);
	ca_text_fini(&key);
	ca_text_fini(&cert);
	ca_text_fini(&top);
	return b;
}

static void brought_free(struct brought *b)
{
	EVP_PKEY_free(b->root_key);
	EVP_PKEY_free(b->key);
	X509_free(b->root);
	X509_free(b->cert);
}

static void test_an_authority_that_is_brought_along(void **state)
{
	struct brought b = bring("one", 1000000);
	struct foil_slice id = FOIL_SLICE(WEB);
	struct foil_error err = {0};
	struct ca_leaf leaf = {0};
	EVP_PKEY *key = ca_make_key();
	struct ca_info info;

	(void)state;
	struct ca_authority *a = open_with((struct ca_params){.dir = dir});
	ca_info(a, &info);
	assert_true(info.is_brought);
	assert_string_equal(info.subject, "O=between");
	assert_int_equal(ca_sign_key(a, key, &id, 1, 3600, NOW, &leaf, &err), 0);
	assert_int_equal(verify(a, foil_slice_of(leaf.chain_pem, leaf.n_chain), NOW, X509_PURPOSE_SSL_SERVER), 0);
	assert_int_equal(ca_rotate_root(a, NOW, &err), -EINVAL);
	assert_int_equal(ca_turn(a, NOW, &err), CA_SAME);

	struct brought c = bring("two", 1000000); /* files change under us */
	assert_int_equal(ca_turn(a, NOW + 1, &err), CA_SIGNER);
	assert_int_equal(verify(a, foil_slice_of(leaf.chain_pem, leaf.n_chain), NOW, X509_PURPOSE_SSL_SERVER), X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);

	put_file("ca-key.pem", "nonsense", 8); /* a broken one changes nothing, once */
	assert_int_equal(ca_turn(a, NOW + 2, &err), CA_SAME);
	assert_non_null(strstr(err.text, "ca-key.pem"));
	assert_int_equal(ca_turn(a, NOW + 3, &err), CA_SAME);
	assert_string_equal(err.text, "");
	ca_leaf_fini(&leaf);
	assert_int_equal(ca_sign_key(a, key, &id, 1, 3600, NOW + 3, &leaf, &err), 0);
	ca_leaf_fini(&leaf);
	EVP_PKEY_free(key);
	brought_free(&b);
	brought_free(&c);
	ca_close(a);
}

static void expect_refused(const char *what)
{
	struct ca_params p = {.dir = dir, .now_s = NOW};
	struct ca_authority *a = NULL;
	struct foil_error err = {0};

	assert_int_equal(ca_open(&p, &a, &err), -EINVAL);
	if (!strstr(err.text, what))
		fail_msg("\"%s\" does not say \"%s\"", err.text, what);
}

static void test_what_is_brought_along_is_checked(void **state)
{
	struct brought one = bring("one", 1000000), two;
	struct ca_text t = {0};

	(void)state;
	ca_text_add_cert(&t, one.root);
	two = bring("two", 1000000);
	put_file("root-cert.pem", t.data, t.n); /* another root */
	expect_refused("does not lead to");
	put_file("ca-cert.pem", t.data, t.n); /* another certificate */
	expect_refused("ca-key.pem does not belong");
	put_file("root-cert.pem", "", 0);
	expect_refused("root-cert.pem: holds no PEM certificate");
	ca_text_fini(&t);
	brought_free(&two);
	two = bring("two", -5); /* expired */
	expect_refused("expired");
	brought_free(&one);
	brought_free(&two);
}

static void test_workloads_are_renewed_at_a_share_of_their_life(void **state)
{
	static const char *const ids[] = {WEB, "spiffe://cluster.local/ns/app/sa/api", WEB, "no id"};
	struct foil_error err = {0};

	(void)state;
	struct ca_authority *a = open_with((struct ca_params){.dir = NULL});
	struct ca_workloads *w = ca_workloads_new(a, &(struct ca_rotation){.ttl_s = 1000});
	assert_int_equal(ca_workloads_want(w, ids, 4), 0);
	assert_int_equal(ca_workloads_n(w), 2);
	assert_true(ca_workloads_turn(w, NOW, 1, &err));
	assert_int_equal(ca_workloads_at(w, 1).chain.n_bytes, 0);
	assert_true(ca_workloads_turn(w, NOW, 1, &err));
	assert_false(ca_workloads_turn(w, NOW, 1, &err));
	struct ca_secret s = ca_workloads_at(w, 1);
	assert_string_equal(s.id, WEB);
	assert_int_equal(s.not_after_s, NOW + 1000);
	assert_true(s.renew_s >= NOW + 490 && s.renew_s <= NOW + 510);
	assert_false(ca_workloads_turn(w, NOW + 489, 9, &err));
	assert_true(ca_workloads_turn(w, NOW + 511, 9, &err));
	assert_int_equal(ca_workloads_at(w, 0).n_issued, 2);
	assert_int_equal(ca_workloads_want(w, ids + 1, 1), 0); /* one stays, with its certificate */
	assert_int_equal(ca_workloads_n(w), 1);
	assert_int_equal(ca_workloads_at(w, 0).n_issued, 2);
	ca_workloads_free(w);
	ca_close(a);
}

static void test_a_clock_that_was_set_back_gets_new_certificates(void **state)
{
	static const char *const ids[] = {WEB};
	struct foil_error err = {0};

	(void)state;
	struct ca_authority *a = open_with((struct ca_params){.dir = NULL, .now_s = NOW});
	struct ca_workloads *w = ca_workloads_new(a, &(struct ca_rotation){.ttl_s = 1000});
	assert_int_equal(ca_workloads_want(w, ids, 1), 0);
	assert_true(ca_workloads_turn(w, NOW + 5000, 1, &err));
	assert_true(ca_workloads_turn(w, NOW + 100, 1, &err));
	assert_int_equal(ca_workloads_at(w, 0).not_after_s, NOW + 1100);
	assert_false(ca_workloads_turn(w, NOW - 9000, 1, &err)); /* before the root began: refused, and the last good one stays */
	assert_non_null(strstr(err.text, "not valid yet"));
	assert_int_equal(ca_workloads_at(w, 0).not_after_s, NOW + 1100);
	ca_workloads_free(w);
	ca_close(a);
}

static void test_a_new_root_is_trusted_before_it_signs_and_the_old_one_after(void **state)
{
	struct foil_slice id = FOIL_SLICE(WEB);
	struct foil_error err = {0};
	struct ca_leaf old = {0}, new = {0};
	EVP_PKEY *key = ca_make_key();
	struct ca_info info;

	(void)state;
	struct ca_authority *a = open_with((struct ca_params){.dir = dir, .key_in_clear = true, .root_overlap_s = 30});
	assert_int_equal(ca_sign_key(a, key, &id, 1, 600, NOW, &old, &err), 0);
	assert_int_equal(ca_rotate_root(a, NOW, &err), 0);
	assert_int_equal(ca_rotate_root(a, NOW, &err), -EINVAL);
	ca_info(a, &info);
	assert_int_equal(info.n_roots, 2);
	assert_true(info.is_rotating);
	assert_int_equal(count_in_file("root-cert.pem"), 2); /* for others who look there */
	assert_int_equal(ca_turn(a, NOW + 29, &err), CA_SAME);
	assert_int_equal(ca_turn(a, NOW + 30, &err), CA_SIGNER);
	assert_int_equal(ca_sign_key(a, key, &id, 1, 600, NOW + 30, &new, &err), 0);
	assert_int_equal(verify(a, foil_slice_of(old.chain_pem, old.n_chain), NOW + 30, X509_PURPOSE_SSL_CLIENT), 0);
	assert_int_equal(verify(a, foil_slice_of(new.chain_pem, new.n_chain), NOW + 30, X509_PURPOSE_SSL_CLIENT), 0);
	ca_close(a); /* a restart meanwhile forgets neither */
	a = open_with((struct ca_params){.dir = dir, .key_in_clear = true, .now_s = NOW + 40});
	assert_int_equal(verify(a, foil_slice_of(old.chain_pem, old.n_chain), NOW + 40, X509_PURPOSE_SSL_CLIENT), 0);
	assert_int_equal(verify(a, foil_slice_of(new.chain_pem, new.n_chain), NOW + 40, X509_PURPOSE_SSL_CLIENT), 0);
	ca_leaf_fini(&old);
	ca_leaf_fini(&new);
	EVP_PKEY_free(key);
	ca_close(a);
}

static void test_the_old_root_goes_when_its_last_certificate_has_expired(void **state)
{
	struct foil_slice id = FOIL_SLICE(WEB);
	struct foil_error err = {0};
	struct ca_leaf leaf = {0};
	EVP_PKEY *key = ca_make_key();
	struct ca_info info;

	(void)state;
	struct ca_authority *a = open_with((struct ca_params){.dir = NULL});
	assert_int_equal(ca_sign_key(a, key, &id, 1, 600, NOW, &leaf, &err), 0);
	assert_int_equal(ca_rotate_root(a, NOW, &err), 0);
	assert_int_equal(ca_turn(a, NOW + 60, &err), CA_SIGNER);
	assert_int_equal(ca_turn(a, NOW + 600, &err), CA_SAME);
	assert_int_equal(ca_turn(a, NOW + 600 + CA_BACKDATE_S, &err), CA_TRUST);
	ca_info(a, &info);
	assert_int_equal(info.n_roots, 1);
	assert_int_equal(info.n_rotations, 1);
	ca_leaf_fini(&leaf);
	EVP_PKEY_free(key);
	ca_close(a);
}

static void test_a_root_near_its_end_is_followed_by_itself(void **state)
{
	struct foil_error err = {0};
	struct ca_info info;

	(void)state;
	struct ca_authority *a = open_with((struct ca_params){.dir = NULL, .root_life_s = 1000, .root_overlap_s = 10});
	assert_int_equal(ca_turn(a, NOW + 700, &err), CA_SAME);
	assert_int_equal(ca_turn(a, NOW + 800, &err), CA_TRUST);
	assert_int_equal(ca_turn(a, NOW + 810, &err), CA_SIGNER);
	ca_info(a, &info);
	assert_int_equal(info.not_after_s, NOW + 1800);
	ca_close(a);
}

static void test_requests_are_signed_for_who_asks_not_for_what_they_say(void **state)
{
	struct foil_slice id = FOIL_SLICE(WEB);
	struct foil_error err = {0};
	struct ca_leaf leaf = {0};
	EVP_PKEY *key = ca_make_key(), *weak = EVP_RSA_gen(1024);
	char *found = NULL, *csr;
	size_t n;

	(void)state;
	struct ca_authority *a = open_with((struct ca_params){.dir = NULL}), *other = open_with((struct ca_params){.dir = NULL});
	csr = request(key, &n);
	assert_int_equal(ca_sign_request(a, foil_slice_of(csr, n), &id, 1, 60, NOW, &leaf, &err), 0);
	assert_int_equal(ca_verify_client(a, foil_slice_of(leaf.chain_pem, leaf.n_chain), NOW, &found, &err), 0);
	assert_string_equal(found, WEB);
	free(found);
	assert_int_equal(ca_verify_client(other, foil_slice_of(leaf.chain_pem, leaf.n_chain), NOW, &found, &err), -EINVAL);
	assert_int_equal(ca_verify_client(a, foil_slice_of(leaf.chain_pem, leaf.n_chain), NOW + 100, &found, &err), -EINVAL);
	ca_leaf_fini(&leaf);
	for (size_t cut = 0; cut < n; cut++) /* every beginning of it is refused, or the whole */
		if (ca_sign_request(a, foil_slice_of(csr, cut), &id, 1, 60, NOW, &leaf, &err) == 0) {
			assert_true(cut + 2 >= n);
			ca_leaf_fini(&leaf);
		}
	csr[n / 2] = csr[n / 2] == 'A' ? 'B' : 'A';
	assert_int_equal(ca_sign_request(a, foil_slice_of(csr, n), &id, 1, 60, NOW, &leaf, &err), -EINVAL);
	free(csr);
	csr = request(weak, &n);
	assert_int_equal(ca_sign_request(a, foil_slice_of(csr, n), &id, 1, 60, NOW, &leaf, &err), -EINVAL);
	assert_non_null(strstr(err.text, "must be RSA of 2048"));
	free(csr);
	EVP_PKEY_free(key);
	EVP_PKEY_free(weak);
	ca_close(a);
	ca_close(other);
}

static void test_no_certificate_outlives_its_authority(void **state)
{
	struct foil_slice id = FOIL_SLICE(WEB);
	struct foil_error err = {0};
	struct ca_leaf leaf = {0};
	EVP_PKEY *key = ca_make_key();

	(void)state;
	struct ca_authority *a = open_with((struct ca_params){.dir = NULL, .root_life_s = 1000});
	assert_int_equal(ca_sign_key(a, key, &id, 1, 0, NOW, &leaf, &err), 0);
	assert_int_equal(leaf.not_after_s, NOW + 1000);
	ca_leaf_fini(&leaf);
	assert_int_equal(ca_sign_key(a, key, &id, 1, 0, NOW + 1000, &leaf, &err), -EINVAL);
	assert_non_null(strstr(err.text, "expired"));
	EVP_PKEY_free(key);
	ca_close(a);
}

static void test_requests_of_the_service(void **state)
{
	static const char full[] = "\x0a\x03" "csr" "\x18\x90\x1c" "\x22\x02" "xx" "\x4d" "1234"; /* 1: csr, 3: 3600, 4: metadata, 9: fixed32 */
	struct foil_slice csr;
	int64_t validity_s;

	(void)state;
	assert_true(ca_service_parse(foil_slice_of(full, sizeof(full) - 1), &csr, &validity_s));
	assert_memory_equal(csr.data, "csr", 3);
	assert_int_equal(csr.n_bytes, 3);
	assert_int_equal(validity_s, 3600);
	for (size_t n = 0; n < sizeof(full) - 1; n++) { /* cut anywhere: refused, or at the end of a field */
		bool ok = ca_service_parse(foil_slice_of(full, n), &csr, &validity_s);
		assert_int_equal(ok, n == 5 || n == 8 || n == 12);
	}
	assert_false(ca_service_parse(FOIL_SLICE("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" "csr"), &csr, &validity_s)); /* longer than all there is */
	assert_false(ca_service_parse(FOIL_SLICE("\x0b"), &csr, &validity_s)); /* a group */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_root_in_memory_signs_what_its_bundle_verifies),
		cmocka_unit_test(test_spiffe_ids),
		cmocka_unit_test_setup_teardown(test_a_root_is_not_written_in_clear_unless_asked_for, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_a_root_is_the_same_after_a_restart, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_an_authority_that_is_brought_along, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_what_is_brought_along_is_checked, make_dir, remove_dir),
		cmocka_unit_test(test_workloads_are_renewed_at_a_share_of_their_life),
		cmocka_unit_test(test_a_clock_that_was_set_back_gets_new_certificates),
		cmocka_unit_test_setup_teardown(test_a_new_root_is_trusted_before_it_signs_and_the_old_one_after, make_dir, remove_dir),
		cmocka_unit_test(test_the_old_root_goes_when_its_last_certificate_has_expired),
		cmocka_unit_test(test_a_root_near_its_end_is_followed_by_itself),
		cmocka_unit_test(test_requests_are_signed_for_who_asks_not_for_what_they_say),
		cmocka_unit_test(test_no_certificate_outlives_its_authority),
		cmocka_unit_test(test_requests_of_the_service),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
