/* Connections whose first bytes choose the filter chain: by server name, passed on untouched or ended here, and what comes of those that fit nowhere. */
#include "tests/unit/mesh/fake_transport.h"

#include <openssl/err.h>

#include <stdio.h>

#include "dataplane/core/error.h"
#include "dataplane/mesh/names.h"
#include "tests/unit/tls/rig.h"

static struct t_cert *ca, *cert;
static struct tls_context *context;

static int make_certs(void **state)
{
	(void)state;
	ca = t_cert(.cn = "ca", .is_ca = true);
	cert = t_cert(.cn = "web", .sans = "DNS:web.test,URI:spiffe://td/ns/a/sa/b", .issuer = ca);
	context = t_server(cert, ca, TLS_AUTH_OPTIONAL, NULL);
	return 0;
}

static int free_certs(void **state)
{
	(void)state;
	tls_context_put(context);
	t_cert_free(cert);
	t_cert_free(ca);
	return 0;
}

struct front {
	struct fx *f;
	SSL_CTX *ctx;
	SSL *ssl;
	struct fx_stream *c;
};

/* Chain 0 as change leaves it; its names are web.test and *.wild.test. */
static void begin(struct front *t, void (*change)(struct fx_config *c))
{
	static const struct foil_slice names[] = {{"web.test", 8}, {"*.wild.test", 11}};
	static const struct mesh_downstream_tls tls = {.rules = {.is_server = true}};
	struct fx_config *c = fx_config_new(1, 1);
	struct tls_params p = {.conns_max = 16};
	struct foil_error err = {0};
	static struct tls_context *contexts[1];

	contexts[0] = context;
	c->chain.server_names = names;
	c->chain.n_server_names = 2;
	c->chain.tls = &tls;
	c->listener.wants_hello = true;
	c->c.tls = contexts;
	c->c.n_tls_slots = 1;
	if (change)
		change(c);
	*t = (struct front){.f = fx_new((struct t_worker_params){.seed = 7}, c, 64, 64)};
	assert_int_equal(tls_init(t->f->w, &p, &err), 0);
	t->ctx = t_peer_ctx(false, cert);
	t->ssl = SSL_new(t->ctx);
	SSL_set_bio(t->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(t->ssl);
	t->c = fx_connect(t->f);
	assert_non_null(t->c);
}

static void end(struct front *t)
{
	SSL_free(t->ssl);
	SSL_CTX_free(t->ctx);
	fx_free(t->f);
}

static void step(struct front *t)
{
	uint8_t buf[16384];
	int n;

	if (t->c->n_out) {
		assert_int_equal(BIO_write(SSL_get_rbio(t->ssl), t->c->out, (int)t->c->n_out), (int)t->c->n_out);
		(void)fx_heard(t->c);
		t->c->n_out = 0;
	}
	if (!SSL_is_init_finished(t->ssl))
		(void)SSL_do_handshake(t->ssl);
	ERR_clear_error();
	while (!t->c->is_dead && (n = BIO_read(SSL_get_wbio(t->ssl), buf, sizeof(buf))) > 0)
		fx_say_bytes(t->f, t->c, buf, (uint32_t)n);
	tls_turn(t->f->w);
}

static void shake(struct front *t, const char *name)
{
	if (name)
		assert_int_equal(SSL_set_tlsext_host_name(t->ssl, name), 1);
	for (int i = 0; i < 6; i++)
		step(t);
}

static void test_a_request_over_tls(void **state)
{
	struct front t;
	char buf[512] = "";

	(void)state;
	begin(&t, NULL);
	shake(&t, "WEB.test");
	assert_true(SSL_is_init_finished(t.ssl));
	assert_int_equal((int64_t)t_counter(t.f->w, MESH, HELLOS), 0);
	assert_int_equal((int64_t)t_counter(t.f->w, MESH, DOWNSTREAM_CONNS), 1);
	(void)SSL_write(t.ssl, "GET /x HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: forged\r\n\r\n", 61);
	step(&t);
	struct fx_stream *u = fx_up_open(t.f);
	fx_assert_heard(u, "GET /x HTTP/1.1");
	fx_assert_heard(u, "x-forwarded-client-cert: By=spiffe://td/ns/a/sa/b;Hash=");
	fx_assert_heard(u, ";Subject=\"CN=web\";URI=spiffe://td/ns/a/sa/b;DNS=web.test\r\n");
	assert_null(strstr(fx_peek(u), "forged"));
	fx_say(t.f, u, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
	tls_turn(t.f->w);
	step(&t);
	assert_true(SSL_read(t.ssl, buf, sizeof(buf) - 1) > 0);
	assert_non_null(strstr(buf, "200 OK"));
	assert_int_equal(fx_last(t.f, 1)->r.sni.n_bytes, 8);
	end(&t);
}

/* A second chain, for other.test; the connection's name is web.test. */
static struct mesh_chain two[2];

static void two_names(struct fx_config *c)
{
	static const struct foil_slice other[] = {{"other.test", 10}, {"*.more.test", 11}};

	two[0] = two[1] = c->chain;
	two[1].server_names = other;
	c->listener.chains = two;
	c->listener.n_chains = 2;
}

static void two_names_strict(struct fx_config *c)
{
	c->chain.http.refuse_misdirected = true;
	two_names(c);
}

static uint16_t status_for(void (*change)(struct fx_config *c), const char *host)
{
	struct front t;
	char request[200];

	begin(&t, change);
	shake(&t, "web.test");
	assert_true(SSL_is_init_finished(t.ssl));
	int n = snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nhost: %s\r\n\r\n", host);
	assert_int_equal(SSL_write(t.ssl, request, n), n);
	step(&t);
	uint16_t status = t.f->n_records ? fx_last(t.f, 1)->r.status : 0; /* 0: it went to the origin */
	if (status == 421)
		assert_string_equal(fx_last(t.f, 1)->details, "misdirected_request");
	end(&t);
	return status;
}

static void test_a_host_of_another_chain_gets_421_where_the_chain_says_so(void **state)
{
	static const char *const elsewhere[] = {"other.test", "OTHER.test:443", "a.more.test"};
	static const char *const here[] = {"web.test", "x.wild.test:8443", "nobody.test", "[::1]:1"};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(elsewhere); i++) {
		assert_int_equal(status_for(two_names_strict, elsewhere[i]), 421);
		assert_int_equal(status_for(two_names, elsewhere[i]), 0);
	}
	for (size_t i = 0; i < FOIL_COUNT_OF(here); i++)
		assert_int_equal(status_for(two_names_strict, here[i]), 0);
}

static void pass_through(struct fx_config *c)
{
	c->chain.tls = NULL;
	c->chain.is_tls_passthrough = true;
	c->chain.network = MESH_NETWORK_TCP;
	c->chain.tcp = (struct mesh_tcp_proxy){.clusters = c->weighted[0], .n_clusters = 1, .total_weight = 1, .max_connect_attempts = 1};
	c->cluster[0].protocol = MESH_UPSTREAM_TCP;
}

/* DYNAMIC_DNS: to the host that the ClientHello names. The test is the agent. */
static void by_name(struct fx_config *c)
{
	pass_through(c);
	c->listener.direction = MESH_DIRECTION_OUTBOUND;
	c->cluster[0].is_dynamic = true;
	c->cluster[0].dynamic_port = 9443;
	c->c.has_dynamic = true;
	memset(c->endpoint[0][0].ip, 0, sizeof(c->endpoint[0][0].ip));
	c->endpoint[0][0].port = 0;
}

static void answer_name(struct front *t, const char *name, enum mesh_name_outcome outcome, uint8_t last)
{
	struct mesh_name_answer a = {.outcome = outcome, .ttl_s = 30, .n_addresses = outcome == MESH_NAME_FOUND,
				     .ip = {{[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 19}}};

	a.ip[0][15] = last;
	(void)snprintf(a.name, sizeof(a.name), "%s", name);
	mesh_names_answer(t->f->shared, &a);
	fx_turn(t->f);
}

static void test_the_host_that_the_hello_names_is_reached(void **state)
{
	struct front t;
	char name[MESH_NAME_BYTES];

	(void)state;
	begin(&t, by_name);
	shake(&t, "A.wild.test");
	t_advance(t.f->w, 10000);
	assert_int_equal(t.f->n_connects, 0);
	assert_true(mesh_names_question(t.f->shared, name));
	assert_string_equal(name, "a.wild.test");
	answer_name(&t, name, MESH_NAME_FOUND, 77);
	assert_int_equal(t.f->n_connects, 1);
	struct fx_stream *u = t.f->up[0];
	assert_int_equal(u->ip[15], 77);
	assert_int_equal(u->port, 9443);
	fx_opened(t.f, u);
	assert_true(u->n_out > 100); /* the hello, as it came */
	fx_closed(t.f, t.c, STREAM_END_RESET);
	assert_int_equal(fx_last(t.f, 1)->r.upstream_host.ip[15], 77);
	assert_int_equal(fx_last(t.f, 1)->r.upstream_host.port, 9443);
	end(&t);
	begin(&t, by_name); /* there is none */
	shake(&t, "none.wild.test");
	t_advance(t.f->w, 10000);
	answer_name(&t, "none.wild.test", MESH_NAME_NONE, 0);
	assert_true(t.c->is_released);
	assert_int_equal(fx_last(t.f, 1)->r.flags, TELE_FLAG_UH);
	assert_int_equal(fx_last(t.f, 1)->r.upstream_host.port, 0);
	end(&t);
	begin(&t, by_name); /* nobody knows, and the client leaves meanwhile */
	shake(&t, "gone.wild.test");
	t_advance(t.f->w, 10000);
	fx_closed(t.f, t.c, STREAM_END_RESET);
	answer_name(&t, "gone.wild.test", MESH_NAME_FOUND, 77);
	assert_int_equal(t.f->n_connects, 0);
	end(&t);
	begin(&t, by_name);
	shake(&t, "slow.wild.test");
	t_advance(t.f->w, 5200000);
	assert_true(t.c->is_released);
	assert_int_equal(fx_last(t.f, 1)->r.flags, TELE_FLAG_UH);
	end(&t);
}

static void test_bytes_are_passed_on_as_they_came(void **state)
{
	struct front t;
	uint8_t hello[4096];

	(void)state;
	begin(&t, pass_through);
	assert_int_equal(SSL_set_tlsext_host_name(t.ssl, "a.wild.test"), 1);
	(void)SSL_do_handshake(t.ssl);
	ERR_clear_error();
	int n = BIO_read(SSL_get_wbio(t.ssl), hello, sizeof(hello));
	for (int i = 0; i < n; i++)
		fx_say_bytes(t.f, t.c, hello + i, 1);
	t_advance(t.f->w, 2 * FOIL_TICK_US);
	struct fx_stream *u = fx_up_open(t.f);
	assert_int_equal(u->n_out, n);
	assert_memory_equal(u->out, hello, n);
	fx_eof(t.f, t.c);
	fx_eof(t.f, u);
	assert_int_equal(fx_last(t.f, 1)->r.sni.n_bytes, 11);
	end(&t);
}

static void assert_no_chain(struct front *t, uint32_t n_sni)
{
	const struct fx_record *r = fx_last(t->f, 1);

	assert_true(t->c->is_aborted);
	assert_int_equal(r->r.flags, TELE_FLAG_NR);
	assert_int_equal(r->r.sni.n_bytes, n_sni);
	assert_string_equal(r->details, "filter_chain_not_found");
	assert_int_equal(t_reason(t->f->w, MESH, NO_FILTER_CHAIN), 1);
}

static void test_names_that_no_chain_has(void **state)
{
	static const char *const names[] = {"other.test", "wild.test", NULL};
	struct front t;

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(names); i++) {
		begin(&t, NULL);
		shake(&t, names[i]);
		assert_no_chain(&t, names[i] ? (uint32_t)strlen(names[i]) : 0);
		end(&t);
	}
	begin(&t, NULL);
	fx_say(t.f, t.c, "GET / HTTP/1.1\r\n\r\n");
	assert_no_chain(&t, 0);
	end(&t);
}

static void without_context(struct fx_config *c)
{
	c->c.tls[0] = NULL;
}

static void test_a_chain_whose_secret_is_missing_resets(void **state)
{
	struct front t;

	(void)state;
	begin(&t, without_context);
	shake(&t, "web.test");
	assert_true(t.c->is_aborted);
	assert_int_equal(t_reason(t.f->w, MESH, TLS_SECRET_MISSING), 1);
	assert_int_equal(t.f->n_records, 0);
	end(&t);
}

static void test_who_says_nothing_is_cut(void **state)
{
	struct front t;

	(void)state;
	begin(&t, NULL);
	t_advance(t.f->w, 14900000);
	assert_false(t.c->is_aborted);
	t_advance(t.f->w, 200000);
	assert_true(t.c->is_aborted);
	assert_int_equal(t_reason(t.f->w, MESH, HELLO_TIMEOUT), 1);
	end(&t);
	begin(&t, NULL); /* the handshake has the same deadline */
	t_advance(t.f->w, 10000000);
	assert_int_equal(SSL_set_tlsext_host_name(t.ssl, "web.test"), 1);
	step(&t);
	t_advance(t.f->w, 5200000);
	assert_true(t.c->is_aborted);
	assert_int_equal(t_reason(t.f->w, TLS, HANDSHAKE_TIMEOUT), 1);
	end(&t);
}

static void test_clients_that_leave(void **state)
{
	struct front t;

	(void)state;
	begin(&t, NULL);
	fx_eof(t.f, t.c);
	assert_true(t.c->is_aborted);
	end(&t);
	begin(&t, NULL);
	fx_closed(t.f, t.c, STREAM_END_RESET);
	end(&t);
	begin(&t, NULL);
	assert_int_equal(SSL_set_tlsext_host_name(t.ssl, "web.test"), 1);
	step(&t);
	fx_closed(t.f, t.c, STREAM_END_RESET); /* in the handshake */
	assert_int_equal((int64_t)t_counter(t.f->w, MESH, HELLOS), 0);
	end(&t);
	begin(&t, NULL); /* and at the end of the worker */
	assert_int_equal(SSL_set_tlsext_host_name(t.ssl, "web.test"), 1);
	step(&t);
	end(&t);
}

static void permissive(struct fx_config *c)
{
	pass_through(c);
	c->chain.is_tls_passthrough = false;
	c->chain.n_server_names = 0;
	c->chain.transport = MESH_TRANSPORT_PLAINTEXT;
	c->listener.takes_plaintext = true;
	c->listener.hello_timeout_us = 1000000;
}

/* features.md PA-9: protocols in which the server speaks first. */
static void test_silence_counts_as_plaintext_where_that_is_taken(void **state)
{
	struct front t;

	(void)state;
	begin(&t, permissive);
	t_advance(t.f->w, 900000);
	t_advance(t.f->w, 200000);
	struct fx_stream *u = fx_up_open(t.f);
	fx_say(t.f, u, "220 ready");
	fx_assert_heard(t.c, "220 ready");
	assert_int_equal((int64_t)t_counter(t.f->w, MESH, HELLOS_SILENT), 1);
	fx_eof(t.f, t.c);
	fx_eof(t.f, u);
	end(&t);
	begin(&t, permissive); /* a hello that has begun gets its time */
	fx_say_bytes(t.f, t.c, (const uint8_t *)"\x16\x03", 2);
	t_advance(t.f->w, 1500000);
	assert_false(t.c->is_aborted);
	t_advance(t.f->w, 13600000);
	assert_true(t.c->is_aborted);
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_over_tls),
		cmocka_unit_test(test_a_host_of_another_chain_gets_421_where_the_chain_says_so),
		cmocka_unit_test(test_bytes_are_passed_on_as_they_came), cmocka_unit_test(test_the_host_that_the_hello_names_is_reached),
		cmocka_unit_test(test_names_that_no_chain_has), cmocka_unit_test(test_a_chain_whose_secret_is_missing_resets),
		cmocka_unit_test(test_who_says_nothing_is_cut),
		cmocka_unit_test(test_silence_counts_as_plaintext_where_that_is_taken), cmocka_unit_test(test_clients_that_leave),
	};

	return cmocka_run_group_tests(tests, make_certs, free_certs);
}
