/* What a context is made of: every secret that cannot be used is refused with a sentence that names it. */
#include "tests/unit/tls/rig.h"

#include <errno.h>

#include <openssl/pem.h>

#include "dataplane/tls/tls_priv.h"

static struct t_cert *ca, *one, *two, *rsa;

static int make_certs(void **state)
{
	(void)state;
	ca = t_cert(.cn = "ca", .is_ca = true);
	one = t_cert(.cn = "one", .issuer = ca, .from_s = -100, .to_s = 1000);
	two = t_cert(.cn = "two", .issuer = ca);
	rsa = t_cert(.cn = "rsa", .issuer = ca, .key = T_KEY_RSA, .from_s = -50, .to_s = 500);
	return 0;
}

static int free_certs(void **state)
{
	(void)state;
	t_cert_free(ca);
	t_cert_free(one);
	t_cert_free(two);
	t_cert_free(rsa);
	return 0;
}

static void refused(struct tls_context_params p, const char *part)
{
	struct tls_context *c = NULL;
	struct foil_error err = {0};

	assert_int_equal(tls_context_new(&p, &c, &err), -EINVAL);
	assert_null(c);
	if (!strstr(err.text, part))
		fail_msg("\"%s\" is not in \"%s\"", part, err.text);
}

static struct tls_identity identity(const char *chain, const char *key)
{
	return (struct tls_identity){.name = FOIL_SLICE("kubernetes://ns/web"), .chain = foil_slice_str(chain), .key = foil_slice_str(key)};
}

static void test_identities_that_cannot_be_used(void **state)
{
	char encrypted[4096], broken[8192], seventeen[9 * 8192] = "";
	BIO *b = BIO_new(BIO_s_mem());
	struct tls_identity id;
	struct tls_context_params p = {.is_server = true, .identities = &id, .n_identities = 1};

	(void)state;
	assert_int_equal(PEM_write_bio_PrivateKey(b, one->key, EVP_aes_128_cbc(), (const unsigned char *)"x", 1, NULL, NULL), 1);
	encrypted[BIO_read(b, encrypted, sizeof(encrypted) - 1)] = 0;
	BIO_free(b);
	(void)snprintf(broken, sizeof(broken), "%s", one->pem); /* fits */
	broken[28] = 'A'; /* of the first tag */
	for (int i = 0; i < 17; i++)
		strncat(seventeen, one->pem, sizeof(seventeen) - strlen(seventeen) - 1);
	id = identity(one->pem, two->key_pem);
	refused(p, "secret \"kubernetes://ns/web\": its private key does not belong to its certificate");
	id = identity("", one->key_pem);
	refused(p, "its certificate chain has 0 bytes");
	id = identity("hello", one->key_pem);
	refused(p, "holds no PEM certificate");
	id = identity(one->key_pem, one->key_pem);
	refused(p, "its certificate chain");
	id = identity(one->pem, "");
	refused(p, "its private key has 0 bytes");
	id = identity(one->pem, one->pem);
	refused(p, "its private key cannot be read");
	id = identity(one->pem, encrypted);
	refused(p, "its private key cannot be read");
	id = identity(seventeen, one->key_pem);
	refused(p, "more than 16 certificates");
	id = identity(broken, one->key_pem);
	refused(p, "secret \"kubernetes://ns/web\"");
	p.n_identities = 0;
	refused(p, "needs a certificate");
}

static void test_bundles_ciphers_and_versions(void **state)
{
	struct tls_identity id = identity(one->pem, one->key_pem);
	struct tls_context_params p = {.is_server = true, .identities = &id, .n_identities = 1, .ca_name = FOIL_SLICE("ca-secret"), .ca = FOIL_SLICE("x")};

	(void)state;
	refused(p, "secret \"ca-secret\": its CA bundle holds no PEM certificate");
	p.ca = foil_slice_str(ca->pem);
	p.crl = FOIL_SLICE("x");
	refused(p, "its CRL cannot be read");
	p.crl = (struct foil_slice){NULL, 0};
	p.ciphers = FOIL_SLICE("NOT-A-CIPHER");
	refused(p, "none of the cipher suites \"NOT-A-CIPHER\"");
	p.ciphers = (struct foil_slice){NULL, 0};
	p.min = TLS_VERSION_1_3;
	p.max = TLS_VERSION_1_2;
	refused(p, "above the highest");
}

static void test_two_kinds_of_key_and_the_shortest_life(void **state)
{
	struct tls_identity ids[] = {identity(one->pem, one->key_pem), identity(rsa->pem, rsa->key_pem)};
	struct tls_context_params p = {.is_server = true, .identities = ids, .n_identities = 2};
	struct tls_context *c = NULL;
	struct foil_error err = {0};
	int64_t from, to, now = (int64_t)(T_WALL_US / 1000000u);

	(void)state;
	assert_int_equal(tls_context_new(&p, &c, &err), 0);
	tls_context_validity(c, &from, &to);
	assert_int_equal(from, now - 50);
	assert_int_equal(to, now + 500);
	for (int i = 0; i < 2; i++) { /* the client's signature algorithms choose */
		SSL_CTX *peer = t_peer_ctx(false, NULL);
		assert_int_equal(SSL_CTX_set1_sigalgs_list(peer, i ? "rsa_pss_rsae_sha256" : "ecdsa_secp256r1_sha256"), 1);
		struct rig *r = rig(.context = tls_context_get(c), .peer = peer);
		rig_pump(r);
		assert_int_equal(r->n_opened, 1);
		char name[16] = "";
		X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(r->peer)), NID_commonName, name, sizeof(name));
		assert_string_equal(name, i ? "rsa" : "one");
		rig_free(r);
	}
	tls_context_put(c);
}

static void test_names_of_visible_bytes_alone(void **state)
{
	static const struct foil_slice td = {"spiffe://td/", 12}, good = {"spiffe://td/b", 13}, spaced = {"spiffe://td/a b", 15}, high = {"a\xc3\xa9.test", 8};
	struct t_cert *bad = t_cert(.cn = "bad", .sans = "URI:spiffe://td/a b,URI:spiffe://td/\x7f,DNS:a\xc3\xa9.test");
	struct t_cert *both = t_cert(.cn = "both", .sans = "URI:spiffe://td/a b,URI:spiffe://td/b");

	assert_false(tls_cert_has_name(bad->x, &td, 1));
	assert_false(tls_cert_has_name(bad->x, &spaced, 1));
	assert_false(tls_cert_has_name(bad->x, &high, 1));
	assert_true(tls_cert_has_name(both->x, &td, 1));
	assert_true(tls_cert_has_name(both->x, &good, 1));
	assert_false(tls_cert_has_name(both->x, &spaced, 1));
	t_cert_free(bad);
	t_cert_free(both);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identities_that_cannot_be_used), cmocka_unit_test(test_bundles_ciphers_and_versions),
		cmocka_unit_test(test_names_of_visible_bytes_alone), cmocka_unit_test(test_two_kinds_of_key_and_the_shortest_life),
	};

	return cmocka_run_group_tests(tests, make_certs, free_certs);
}
