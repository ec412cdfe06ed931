/* Secrets and TLS rules of a snapshot: refusals by name and field, contexts that are shared, go on, are made anew and wait for what is missing. */
#include "tests/unit/config/fixture.h"

#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/tls/rig.h"

#define T_SECRET FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET

static struct t_cert *ca, *one, *two;

static int make_certs(void **state)
{
	(void)state;
	ca = t_cert(.cn = "ca", .is_ca = true);
	one = t_cert(.cn = "one", .issuer = ca);
	two = t_cert(.cn = "two", .issuer = ca);
	return 0;
}

static int free_certs(void **state)
{
	(void)state;
	t_cert_free(ca);
	t_cert_free(one);
	t_cert_free(two);
	return 0;
}

static ProtobufCBinaryData bytes(const char *text)
{
	return (ProtobufCBinaryData){.len = text ? strlen(text) : 0, .data = (uint8_t *)(uintptr_t)text}; /* only packed */
}

static void put_secret(struct t_conf *f, const char *name, const char *chain, const char *key, const char *bundle, const char *crl)
{
	Foil__Conf__Secret m = FOIL__CONF__SECRET__INIT;

	m.name = t_text(name);
	m.has_certificate_chain = chain != NULL;
	m.certificate_chain = bytes(chain);
	m.has_private_key = key != NULL;
	m.private_key = bytes(key);
	m.has_ca = bundle != NULL;
	m.ca = bytes(bundle);
	m.has_crl = crl != NULL;
	m.crl = bytes(crl);
	t_put(f, T_SECRET, name, &m.base);
}

/* Listener "t" with one chain for each of the rules. */
static void put_listener(struct t_conf *f, Foil__Conf__DownstreamTls **rules, size_t n)
{
	Foil__Conf__Listener l = FOIL__CONF__LISTENER__INIT;
	Foil__Conf__FilterChain chains[4], *list[4];
	Foil__Conf__HttpConnectionManager hcm = FOIL__CONF__HTTP_CONNECTION_MANAGER__INIT;

	hcm.routes = t_text("r");
	for (size_t i = 0; i < n; i++) {
		foil__conf__filter_chain__init(&chains[i]);
		list[i] = &chains[i];
		chains[i].network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP;
		chains[i].http = &hcm;
		chains[i].tls = rules[i];
	}
	l.name = t_text("t");
	l.address = t_text("198.18.0.1");
	l.has_port = true;
	l.port = 443;
	l.filter_chains = list;
	l.n_filter_chains = n;
	t_put(f, T_LISTENER, "t", &l.base);
}

static Foil__Conf__DownstreamTls rules_of(char **secrets, size_t n)
{
	Foil__Conf__DownstreamTls m = FOIL__CONF__DOWNSTREAM_TLS__INIT;

	m.secrets = secrets;
	m.n_secrets = n;
	return m;
}

static const struct mesh_downstream_tls *chain_tls(const struct t_conf *f, uint16_t chain)
{
	const struct mesh_config *c = snap_config(f->snap);

	for (uint32_t i = 0; i < c->n_listeners; i++)
		if (c->listeners[i]->port == 443)
			return c->listeners[i]->chains[chain].tls;
	fail();
	return NULL;
}

static struct tls_context *context(const struct t_conf *f, uint16_t chain)
{
	return mesh_tls_context(snap_config(f->snap), &chain_tls(f, chain)->rules);
}

static void test_secrets_that_cannot_be_used_are_refused_by_name(void **state)
{
	static const struct {
		int chain, key, bundle, crl; /* 0 none, 1 good, 2 of another, 3 rubbish */
		const char *field, *reason;
	} cases[] = {
		{1, 0, 0, 0, "private_key", "is missing"}, {0, 1, 0, 0, "certificate_chain", "is missing"},
		{1, 2, 0, 0, "private_key", "does not belong to its certificate"}, {3, 1, 0, 0, "private_key", "holds no PEM certificate"},
		{1, 3, 0, 0, "private_key", "private key cannot be read"}, {0, 0, 3, 0, "ca", "holds no PEM certificate"},
		{0, 0, 0, 1, "crl", "without ca"}, {0, 0, 1, 3, "ca", "CRL cannot be read"},
	};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		const char *chain[] = {NULL, one->pem, two->pem, "x"}, *key[] = {NULL, one->key_pem, two->key_pem, "x"}, *bundle[] = {NULL, ca->pem, NULL, "x"};
		struct t_conf *f = t_conf(.disk = false);
		t_put_all(f);
		put_secret(f, "kubernetes://a/b", chain[cases[i].chain], key[cases[i].key], bundle[cases[i].bundle], cases[i].crl ? "x" : NULL);
		assert_int_equal(t_apply(f, "v", true), SNAP_REJECTED);
		t_assert_rejected(f, "kubernetes://a/b", cases[i].field, cases[i].reason);
		t_conf_free(f);
	}
}

static void test_rules_that_cannot_be_kept_are_refused_by_field(void **state)
{
	char *secrets[] = {t_text("s"), t_text("s"), t_text("s"), t_text("s"), t_text("s")};
	char *bad_cipher[] = {t_text("AES:ALL")}, *no_cipher[] = {t_text("NOT-ONE")}, *empty[] = {t_text("")};
	ProtobufCBinaryData short_hash = {.len = 5, .data = (uint8_t *)(uintptr_t)"hello"};

	(void)state;
	for (int i = 0; i < 9; i++) {
		static const char *const fields[] = {"filter_chains[0].tls.secrets", "filter_chains[0].tls.ca_secret", "filter_chains[0].tls.min_version",
			"filter_chains[0].tls.cipher_suites", "filter_chains[0].tls", "filter_chains[0].tls.alpn", "filter_chains[0].tls.certificate_hashes",
			"filter_chains[0].tls.secrets", "filter_chains[0].tls.spki_hashes"};
		static const char *const reasons[] = {"is empty", "is missing", "above max_version", "not the name of a cipher suite",
			"none of the cipher suites", "0 bytes", "has 5 bytes", "", "has 5 bytes"};
		struct t_conf *f = t_conf(.disk = false);
		Foil__Conf__DownstreamTls m = rules_of(secrets, i == 0 ? 0 : i == 7 ? 5 : 1), *list[] = {&m};
		m.has_client_certificate = i == 1;
		m.client_certificate = FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED;
		m.has_min_version = m.has_max_version = i == 2;
		m.min_version = FOIL__CONF__TLS_VERSION__TLS_1_3;
		m.max_version = FOIL__CONF__TLS_VERSION__TLS_1_2;
		m.cipher_suites = i == 3 ? bad_cipher : no_cipher;
		m.n_cipher_suites = i == 3 || i == 4;
		m.alpn = empty;
		m.n_alpn = i == 5;
		m.certificate_hashes = m.spki_hashes = &short_hash;
		m.n_certificate_hashes = i == 6;
		m.n_spki_hashes = i == 8;
		t_put_all(f);
		put_listener(f, list, 1);
		put_secret(f, "s", one->pem, one->key_pem, NULL, NULL);
		assert_int_equal(t_apply(f, "v", true), SNAP_REJECTED);
		t_assert_rejected(f, "t", fields[i], reasons[i]);
		t_conf_free(f);
	}
}

static void test_a_context_waits_for_its_secret_and_goes_with_it(void **state)
{
	struct t_conf *f = t_conf(.disk = false);
	char *secrets[] = {t_text("s")};
	Foil__Conf__DownstreamTls m = rules_of(secrets, 1), *list[] = {&m};

	(void)state;
	t_put_all(f);
	put_listener(f, list, 1);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	assert_null(context(f, 0));
	put_secret(f, "s", NULL, NULL, ca->pem, NULL); /* there, but no certificate in it */
	assert_int_equal(t_apply(f, "v2", false), SNAP_APPLIED);
	assert_null(context(f, 0));
	put_secret(f, "s", one->pem, one->key_pem, NULL, NULL);
	assert_int_equal(t_apply(f, "v3", false), SNAP_APPLIED);
	assert_non_null(context(f, 0));
	put_secret(f, "s", one->pem, two->key_pem, NULL, NULL); /* refused: the good one stays in force */
	assert_int_equal(t_apply(f, "v4", false), SNAP_REJECTED);
	assert_non_null(context(f, 0));
	t_put_removed(f, T_SECRET, "s");
	assert_int_equal(t_apply(f, "v5", false), SNAP_APPLIED);
	assert_null(context(f, 0));
	t_conf_free(f);
}

static void test_equal_rules_share_a_context_that_goes_on_until_its_secret_changes(void **state)
{
	struct t_conf *f = t_conf(.disk = false);
	char *secrets[] = {t_text("s")}, *others[] = {t_text("o")};
	Foil__Conf__DownstreamTls a = rules_of(secrets, 1), b = rules_of(secrets, 1), d = rules_of(others, 1), *list[] = {&a, &b, &d};

	(void)state;
	t_put_all(f);
	put_listener(f, list, 3);
	put_secret(f, "s", one->pem, one->key_pem, NULL, NULL);
	put_secret(f, "o", two->pem, two->key_pem, NULL, NULL);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	struct tls_context *first = context(f, 0), *other = context(f, 2);
	assert_ptr_equal(first, context(f, 1));
	assert_ptr_not_equal(first, other);
	t_put_endpoints(f, "c", "198.19.0.77", 80);
	assert_int_equal(t_apply(f, "v2", false), SNAP_APPLIED);
	assert_ptr_equal(context(f, 0), first);
	first = tls_context_get(first); /* as a connection does; its address is nobody else's meanwhile */
	put_secret(f, "s", two->pem, two->key_pem, NULL, NULL);
	assert_int_equal(t_apply(f, "v3", false), SNAP_APPLIED);
	assert_ptr_not_equal(context(f, 0), first);
	assert_ptr_equal(context(f, 2), other);
	tls_context_put(first);
	t_conf_free(f);
}

static void test_rules_towards_upstreams(void **state)
{
	struct t_conf *f = t_conf(.disk = false);
	Foil__Conf__Cluster c = FOIL__CONF__CLUSTER__INIT;
	Foil__Conf__UpstreamTls t = FOIL__CONF__UPSTREAM_TLS__INIT;
	char *alpn[] = {t_text("h2")}, *sans[] = {t_text("spiffe://a/b")};

	(void)state;
	c.name = t_text("c");
	c.tls = &t;
	t.secret = t_text("s");
	t.ca_secret = t_text("roots");
	t.sni = t_text("web.example.com");
	t.alpn = alpn;
	t.n_alpn = 1;
	t.subject_alt_names = sans;
	t.n_subject_alt_names = 1;
	t.has_auto_san = t.auto_san = true;
	t_put_mesh(f, NULL);
	t_put(f, T_CLUSTER, "c", &c.base);
	put_secret(f, "s", one->pem, one->key_pem, NULL, NULL);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	const struct mesh_config *m = snap_config(f->snap);
	const struct mesh_upstream_tls *u = m->clusters[0]->tls;
	assert_non_null(u);
	assert_null(mesh_tls_context(m, &u->rules)); /* the roots are missing */
	assert_true(foil_slice_eq(u->sni, FOIL_SLICE("web.example.com")) && u->auto_san && !u->auto_sni);
	assert_true(foil_slice_eq(u->rules.alpn, FOIL_SLICE("\x02h2")));
	assert_int_equal(u->rules.n_sans, 1);
	put_secret(f, "roots", NULL, NULL, ca->pem, NULL);
	assert_int_equal(t_apply(f, "v2", false), SNAP_APPLIED);
	m = snap_config(f->snap);
	assert_non_null(mesh_tls_context(m, &m->clusters[0]->tls->rules));
	t.sni = t_text("Web.example.com/");
	t_put(f, T_CLUSTER, "c", &c.base);
	assert_int_equal(t_apply(f, "v3", false), SNAP_REJECTED);
	t_assert_rejected(f, "c", "tls.sni", "");
	t_conf_free(f);
}

static void test_secrets_are_not_written_to_disk(void **state)
{
	static char file[65536];
	struct t_conf *f = t_conf(.disk = true);
	struct foil_error err = {0};
	char path[128];

	(void)state;
	t_put_all(f);
	put_secret(f, "kubernetes://a/b", one->pem, one->key_pem, NULL, NULL);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	assert_int_equal(snap_turn(f->snap, 1000000, &err), 0);
	(void)snprintf(path, sizeof(path), "%s/snapshot.bin", f->dir); /* fits */
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, file, sizeof(file));
	(void)close(fd);
	assert_true(n > 100);
	assert_null(memmem(file, (size_t)n, "PRIVATE KEY", 11));
	assert_null(memmem(file, (size_t)n, "kubernetes://a/b", 16));
	t_conf_restart(f);
	assert_int_equal(snap_load(f->snap, &err), 0);
	assert_int_equal(snap_config(f->snap)->n_listeners, 1);
	t_conf_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_secrets_that_cannot_be_used_are_refused_by_name),
		cmocka_unit_test(test_rules_that_cannot_be_kept_are_refused_by_field),
		cmocka_unit_test(test_a_context_waits_for_its_secret_and_goes_with_it),
		cmocka_unit_test(test_equal_rules_share_a_context_that_goes_on_until_its_secret_changes),
		cmocka_unit_test(test_rules_towards_upstreams),
		cmocka_unit_test(test_secrets_are_not_written_to_disk),
	};

	return cmocka_run_group_tests(tests, make_certs, free_certs);
}
