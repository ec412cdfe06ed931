/* dataplane/mesh/forwarding.c: the judge's addresses recording, and features.md HD-1..HD-6 beyond it. */
#include "tests/unit/support.h"

#include <errno.h>

#include "dataplane/mesh/forwarding.h"
#include "dataplane/tls/tls.h"

#define MAPPED(a, b, c, d) {[10] = 0xff, [11] = 0xff, [12] = a, [13] = b, [14] = c, [15] = d}

struct given {
	struct mesh_hcm hcm;
	struct mesh_settings settings;
	struct stream_addr remote;
	const char *const *headers; /* name, value, …, NULL */
	const struct tls_facts *tls;
};
struct answer {
	struct foil_worker *w;
	struct foil_arena a;
	struct http_head head;
	struct mesh_forwarding_result result;
};
#define FOIL_SLICE_INIT(text) {(text), sizeof(text) - 1}
#define HEADERS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct stream_addr local = {.ip = MAPPED(198, 18, 0, 1), .port = 80};
static const struct stream_addr outside = {.ip = MAPPED(198, 18, 0, 2), .port = 40000};
static const struct stream_addr inside = {.ip = MAPPED(10, 1, 1, 1), .port = 40001};
static const struct mesh_cidr ten[] = {{.ip = MAPPED(10, 0, 0, 0), .len = 104}};

static void run(struct answer *r, const struct given *g)
{
	const struct mesh_forwarding_params p = {.hcm = &g->hcm, .settings = &g->settings, .remote = &g->remote, .local = &local, .tls = g->tls};

	*r = (struct answer){.w = t_worker(.seed = 3)};
	r->head = (struct http_head){.method_text = FOIL_SLICE("GET"), .path = FOIL_SLICE("/"), .authority = FOIL_SLICE("web.example.com")};
	for (const char *const *h = g->headers; h && *h; h += 2)
		assert_int_equal(http_header_add(r->w, &r->a, &r->head.headers, foil_slice_str(h[0]), foil_slice_str(h[1])), 0);
	assert_int_equal(mesh_forwarding_apply(r->w, &r->a, &p, &r->head, &r->result), 0);
}

static void done(struct answer *r)
{
	foil_arena_reset(r->w, &r->a);
	t_worker_free(r->w);
}

/* The one value of a header; NULL value: it is absent. */
static void expect(const struct answer *r, const char *name, const char *value)
{
	const struct http_header *h = http_header_find(&r->head.headers, foil_slice_str(name));
	unsigned int n = 0;

	for (uint16_t i = 0; i < r->head.headers.n; i++)
		n += !r->head.headers.list[i].is_removed && foil_slice_eq(r->head.headers.list[i].name, foil_slice_str(name));
	assert_int_equal(n, value != NULL);
	if (value && !foil_slice_eq(h->value, foil_slice_str(value)))
		fail_msg("%s: %.*s, not %s", name, (int)h->value.n_bytes, h->value.data, value);
}

static bool is_uuid4(const struct answer *r)
{
	const struct http_header *h = http_header_find(&r->head.headers, FOIL_SLICE("x-request-id"));

	if (!h || h->value.n_bytes != 36 || h->value.data[14] != '4' || !strchr("89ab", h->value.data[19]))
		return false;
	for (uint32_t i = 0; i < 36; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? h->value.data[i] != '-' : !strchr("0123456789abcdef", h->value.data[i]))
			return false;
	return true;
}

/* What the gateway of the recording is. */
#define EDGE .hcm = {.use_remote_address = true, .scheme = {"http", 4}}

static void test_forwarding_at_the_edge_as_envoy_was_recorded(void **state)
{
	const struct {
		const char *const *headers;
		bool from_inside;
		const char *xff, *external;
	} steps[] = {
		{NULL, false, "198.18.0.2", "198.18.0.2"},
		{HEADERS("x-forwarded-for", "203.0.113.9"), false, "203.0.113.9,198.18.0.2", "198.18.0.2"},
		{HEADERS("x-forwarded-for", "203.0.113.9, 10.0.0.5", "x-forwarded-for", "1.1.1.1"), false, "203.0.113.9, 10.0.0.5,1.1.1.1,198.18.0.2",
			"198.18.0.2"},
		{HEADERS("x-forwarded-proto", "https"), false, "198.18.0.2", "198.18.0.2"},
		{HEADERS("x-request-id", "my-id"), false, "198.18.0.2", "198.18.0.2"},
		{HEADERS("x-envoy-external-address", "9.9.9.9"), false, "198.18.0.2", "198.18.0.2"},
		{NULL, true, "10.1.1.1", "10.1.1.1"},
		{HEADERS("x-forwarded-for", "203.0.113.9", "x-envoy-external-address", "9.9.9.9", "x-request-id", "my-id"), true, "203.0.113.9,10.1.1.1",
			"10.1.1.1"},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(steps); i++) {
		const struct given g = {EDGE, .remote = steps[i].from_inside ? inside : outside, .headers = steps[i].headers};
		struct answer r;
		run(&r, &g);
		expect(&r, "x-forwarded-for", steps[i].xff);
		expect(&r, "x-forwarded-proto", "http");
		expect(&r, "x-envoy-external-address", steps[i].external);
		expect(&r, "x-envoy-internal", NULL);
		assert_true(is_uuid4(&r));
		assert_true(foil_slice_eq(r.head.scheme, FOIL_SLICE("http")));
		assert_false(r.result.is_internal);
		assert_int_equal(r.result.client.port, g.remote.port);
		done(&r);
	}
	(void)state;
}

static void test_forwarding_leaves_host_and_port_of_strangers(void **state)
{
	const struct given g = {EDGE, .remote = outside, .headers = HEADERS("x-forwarded-host", "h", "x-forwarded-port", "99")};
	struct answer r;

	run(&r, &g);
	expect(&r, "x-forwarded-host", "h");
	expect(&r, "x-forwarded-port", "99");
	done(&r);
	(void)state;
}

static void test_forwarding_removes_what_strangers_say_to_envoy(void **state)
{
	static const char *const names[] = {
		"x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-upstream-alt-stat-name", "x-envoy-upstream-rq-timeout-ms",
		"x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-upstream-rq-timeout-alt-response", "x-envoy-expected-rq-timeout-ms", "x-envoy-force-trace",
		"x-envoy-ip-tags", "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node",
		"x-envoy-retriable-status-codes", "x-envoy-retriable-header-names", "x-envoy-hedge-on-per-try-timeout", "x-envoy-internal",
		"x-envoy-original-url",
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(names); i++) {
		const struct given g = {EDGE, .remote = outside, .headers = HEADERS(names[i], "1", names[i], "2")};
		struct answer r;
		run(&r, &g);
		expect(&r, names[i], NULL);
		done(&r);
	}
	(void)state;
}

static void test_forwarding_believes_internal_callers(void **state)
{
	const struct given g = {EDGE, .settings = {.internal_cidrs = ten, .n_internal_cidrs = 1}, .remote = inside,
				.headers = HEADERS("x-envoy-max-retries", "3", "x-request-id", "my-id", "x-envoy-internal", "false")};
	struct answer r;

	run(&r, &g);
	assert_true(r.result.is_internal);
	expect(&r, "x-envoy-max-retries", "3");
	expect(&r, "x-request-id", "my-id");
	expect(&r, "x-envoy-internal", "true");
	expect(&r, "x-envoy-external-address", NULL);
	done(&r);
	(void)state;
}

static void test_forwarding_internal_only_without_earlier_hops(void **state)
{
	const struct given proxied = {EDGE, .settings = {.internal_cidrs = ten, .n_internal_cidrs = 1}, .remote = inside,
				      .headers = HEADERS("x-forwarded-for", "10.2.2.2", "x-envoy-max-retries", "3")};
	const struct given stranger = {EDGE, .settings = {.internal_cidrs = ten, .n_internal_cidrs = 1}, .remote = outside};
	struct answer r;

	run(&r, &proxied);
	assert_false(r.result.is_internal);
	expect(&r, "x-envoy-max-retries", NULL);
	done(&r);
	run(&r, &stranger);
	assert_false(r.result.is_internal);
	done(&r);
	(void)state;
}

/* HD-3: the N-th from the right of what came in; the peer when there are too few. */
static void test_forwarding_behind_trusted_proxies(void **state)
{
	static const struct {
		uint32_t hops;
		const char *xff, *client;
	} cases[] = {
		{1, "1.1.1.1, 2.2.2.2", "2.2.2.2"}, {2, "1.1.1.1, 2.2.2.2", "1.1.1.1"}, {3, "1.1.1.1, 2.2.2.2", "198.18.0.2"}, {1, "2001:db8::1",
			"2001:db8::1"},
		{1, "1.1.1.1, nonsense", "198.18.0.2"}, {1, "1.1.1.1:80", "198.18.0.2"}, {1, "", "198.18.0.2"}, {2, ",1.1.1.1", "198.18.0.2"},
		{1, "1.1.1.1 ", "1.1.1.1"}, {1, "999.1.1.1", "198.18.0.2"},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		const struct given g = {.hcm = {.use_remote_address = true, .xff_num_trusted_hops = cases[i].hops, .scheme = {"http", 4}}, .remote = outside,
					.headers = HEADERS("x-forwarded-for", cases[i].xff, "x-forwarded-proto", "https")};
		struct answer r;
		run(&r, &g);
		expect(&r, "x-envoy-external-address", cases[i].client);
		expect(&r, "x-forwarded-proto", "https"); /* the trusted proxy terminated it */
		assert_true(foil_slice_eq(r.head.scheme, FOIL_SLICE("https")));
		done(&r);
	}
	(void)state;
}

static void test_forwarding_of_a_loopback_peer_names_this_machine(void **state)
{
	const struct given v4 = {EDGE, .remote = {.ip = MAPPED(127, 0, 0, 1), .port = 1}}, v6 = {EDGE, .remote = {.ip = {[15] = 1}, .port = 1}};
	struct answer r;

	run(&r, &v4);
	expect(&r, "x-forwarded-for", "198.18.0.1");
	done(&r);
	run(&r, &v6);
	expect(&r, "x-forwarded-for", "198.18.0.1");
	expect(&r, "x-envoy-external-address", "::1");
	done(&r);
	(void)state;
}

static void test_forwarding_of_an_ipv6_peer_has_no_brackets(void **state)
{
	const struct given g = {EDGE, .remote = {.ip = {0xfd, 0, 0xf0, 0x11, [15] = 2}, .port = 1}, .headers = HEADERS("x-forwarded-for", "")};
	struct answer r;

	run(&r, &g);
	expect(&r, "x-forwarded-for", "fd00:f011::2");
	done(&r);
	(void)state;
}

static void test_forwarding_inside_the_mesh_believes_and_appends_nothing(void **state)
{
	const struct given one = {.hcm = {.scheme = {"http", 4}}, .settings = {.internal_cidrs = ten, .n_internal_cidrs = 1}, .remote = outside,
				  .headers = HEADERS("x-forwarded-for", "10.9.9.9", "x-forwarded-proto", "https", "x-request-id", "my-id",
					"x-envoy-max-retries", "3")};
	const struct given two = {.hcm = {.scheme = {"http", 4}}, .settings = {.internal_cidrs = ten, .n_internal_cidrs = 1}, .remote = outside,
				  .headers = HEADERS("x-forwarded-for", "1.1.1.1,10.9.9.9", "x-envoy-max-retries", "3", "x-envoy-decorator-operation", "d")};
	const struct given none = {.hcm = {.scheme = {"http", 4}}, .remote = outside};
	struct answer r;

	run(&r, &one);
	assert_true(r.result.is_internal);
	assert_int_equal(r.result.client.port, 0);
	expect(&r, "x-forwarded-for", "10.9.9.9");
	expect(&r, "x-forwarded-proto", "https");
	expect(&r, "x-request-id", "my-id");
	expect(&r, "x-envoy-max-retries", "3");
	done(&r);
	run(&r, &two);
	assert_false(r.result.is_internal); /* two hops */
	expect(&r, "x-forwarded-for", "1.1.1.1,10.9.9.9");
	expect(&r, "x-envoy-max-retries", NULL);
	expect(&r, "x-envoy-decorator-operation", "d"); /* removed at the edge only */
	expect(&r, "x-envoy-external-address", NULL);
	done(&r);
	run(&r, &none);
	expect(&r, "x-forwarded-for", NULL);
	expect(&r, "x-forwarded-proto", "http");
	assert_true(is_uuid4(&r));
	done(&r);
	(void)state;
}

static void test_forwarding_port_and_request_id_by_setting(void **state)
{
	const struct given g = {.hcm = {.use_remote_address = true, .add_forwarded_port = true, .request_id_off = true, .scheme = {"https", 5}},
		.remote = outside,
				.headers = HEADERS("x-forwarded-port", "99", "x-request-id", "my-id")};
	struct answer r;

	run(&r, &g);
	expect(&r, "x-forwarded-port", "80");
	expect(&r, "x-forwarded-proto", "https");
	expect(&r, "x-request-id", "my-id");
	done(&r);
	(void)state;
}

static void test_request_ids_differ_and_come_from_the_seed(void **state)
{
	const struct given g = {EDGE, .remote = outside};
	struct answer a, b;
	struct foil_slice one;

	run(&a, &g);
	run(&b, &g);
	one = http_header_find(&a.head.headers, FOIL_SLICE("x-request-id"))->value;
	assert_true(foil_slice_eq(one, http_header_find(&b.head.headers, FOIL_SLICE("x-request-id"))->value)); /* same seed, same id */
	const struct mesh_forwarding_params p = {.hcm = &g.hcm, .settings = &g.settings, .remote = &g.remote, .local = &local};
	assert_int_equal(mesh_forwarding_apply(b.w, &b.a, &p, &b.head, &b.result), 0);
	assert_false(foil_slice_eq(one, http_header_find(&b.head.headers, FOIL_SLICE("x-request-id"))->value));
	done(&a);
	done(&b);
	(void)state;
}

/* As Envoy was recorded (tests/recorded/referers.yaml). */
static void test_referers_that_go_on(void **state)
{
	static const char *const good[] = {
		"", "v", "/x", "*", "//a/b", "/a:b", "a/b:c", "http://a", "HTTP://A/b", "ftp://a/b", "a1+b-c.d://e", "http://a:80/", "http://a:65535",
		"http://@a/", "http://[::1]/", "http://[::1]:80/x", "http://a?x", "http://a/<\">\\", "http://a.b.-/", "http://..",
		"http://a/%zz,http://b/", "android-app://com.x/",
	};
	static const char *const bad[] = {
		"https://a.com/x?y#z", "http:/a", "http:a", "http://", "http:///x", "http://@", "http://a b/", "http://a/b c", "http://a/b\tc",
		"http://a/\303\251",
		"http://a_b/", "http://a:/", "http://a:65536/", "http://a:x/", "http://u@a/", "http://u:p@a/", "http://a@/", "http://@@a/", "http://[::1",
		"http://[]", "http://[zz]/", "http://[::1]x", "http://[fe80::1%25eth0]/",
		"http://[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc]/",
		"about:blank", "1a://b", "a b", "\303\251", "<", "/a#b", "\\",
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(good); i++)
		if (!mesh_referer_is_valid(foil_slice_str(good[i])))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++)
		if (mesh_referer_is_valid(foil_slice_str(bad[i])))
			fail_msg("%s", bad[i]);
	for (int is_good = 0; is_good < 2; is_good++) {
		const struct given g = {EDGE, .remote = outside, .headers = HEADERS("referer", is_good ? "http://a/" : "http://u@a/")};
		struct answer r;
		run(&r, &g);
		expect(&r, "referer", is_good ? "http://a/" : NULL);
		done(&r);
	}
	(void)state;
}

/* What a client claims by :scheme or an absolute target is its scheme, and no TLS; x-forwarded-proto is what a trusted proxy says, nothing even. */
static void test_a_claimed_scheme_is_no_tls(void **state)
{
	static const struct {
		const char *claimed, *proto, *scheme;
		uint32_t hops;
		bool is_https, has_proto;
	} cases[] = {
		{"", "https", "http", 0, false, true}, {"HTTPS", "http", "https", 0, false, true}, {"ftp", "", "ftp", 0, false, true},
		{"http", "https", "http", 1, true, true}, {"", "HTTPS", "https", 1, true, true}, {"", "", "http", 1, false, false},
		{"https", "ftp", "https", 1, false, true},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		const struct mesh_hcm hcm = {.use_remote_address = true, .xff_num_trusted_hops = cases[i].hops, .scheme = {"http", 4}};
		const struct mesh_settings settings = {0};
		const struct mesh_forwarding_params p = {.hcm = &hcm, .settings = &settings, .remote = &outside, .local = &local};
		struct foil_worker *w = t_worker(.seed = 3);
		struct foil_arena a = {0};
		struct http_head head = {.path = FOIL_SLICE("/"), .scheme = foil_slice_str(cases[i].claimed)};
		struct mesh_forwarding_result result;
		assert_int_equal(http_header_add_id(w, &a, &head.headers, HTTP_HDR_X_FORWARDED_PROTO, foil_slice_str(cases[i].proto)), 0);
		assert_int_equal(mesh_forwarding_apply(w, &a, &p, &head, &result), 0);
		assert_true(foil_slice_eq(head.scheme, foil_slice_str(cases[i].scheme)));
		assert_int_equal(result.is_https, cases[i].is_https);
		assert_int_equal(result.has_proto, cases[i].has_proto);
		foil_arena_reset(w, &a);
		t_worker_free(w);
	}
	(void)state;
}

static void test_forwarding_without_memory_says_so(void **state)
{
	const struct given g = {EDGE};
	const struct mesh_forwarding_params p = {.hcm = &g.hcm, .settings = &g.settings, .remote = &outside, .local = &local};
	struct foil_worker *w = t_worker(0);
	struct foil_arena a = {0};
	struct http_head head = {.path = FOIL_SLICE("/")};
	struct mesh_forwarding_result result;

	t_pool_drain(w->chunk_pool, 0);
	assert_int_equal(mesh_forwarding_apply(w, &a, &p, &head, &result), -ENOBUFS);
	t_pool_refill(w->chunk_pool);
	t_worker_free(w);
	(void)state;
}

/* features.md HD-10, GW-15: what becomes of a client's own x-forwarded-client-cert, as Envoy's forward_client_cert_details has it. */
static void test_client_certificates(void **state)
{
	static const struct foil_slice uris[] = {{"spiffe://td/ns/a/sa/b", 21}}, dns[] = {{"b.test", 6}};
	static const struct tls_peer peer = {.subject = FOIL_SLICE_INIT("CN=\"b\""), .fingerprint = FOIL_SLICE_INIT("ff"),
					     .pem = FOIL_SLICE_INIT("p"),
					     .uri_sans = uris, .dns_sans = dns, .n_uri_sans = 1, .n_dns_sans = 1};
	static const struct tls_facts mutual = {.local_uri_san = FOIL_SLICE_INIT("spiffe://td/me"), .peer = &peer}, one_way = {.peer = NULL};
	static const struct {
		enum mesh_client_cert forward;
		const struct tls_facts *tls;
		const char *value;
	} cases[] = {
		{MESH_CERT_SANITIZE_SET, NULL, NULL}, {MESH_CERT_APPEND_FORWARD, NULL, NULL}, {MESH_CERT_FORWARD_ONLY, &one_way, NULL},
		{MESH_CERT_ALWAYS_FORWARD_ONLY, NULL, "By=x,By=y"}, {MESH_CERT_SANITIZE, &mutual, NULL}, {MESH_CERT_FORWARD_ONLY, &mutual, "By=x,By=y"},
		{MESH_CERT_SANITIZE_SET, &mutual, "By=spiffe://td/me;Hash=ff;Subject=\"CN=\\\"b\\\"\";URI=spiffe://td/ns/a/sa/b;DNS=b.test"},
		{MESH_CERT_APPEND_FORWARD, &mutual,
		 "By=x,By=y,By=spiffe://td/me;Hash=ff;Subject=\"CN=\\\"b\\\"\";URI=spiffe://td/ns/a/sa/b;DNS=b.test"},
	};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct answer r;
		run(&r, &(struct given){.hcm = {.use_remote_address = true, .client_cert = {.forward = cases[i].forward, .hide_cert = true}}, .remote = outside,
					.headers = HEADERS("x-forwarded-client-cert", "By=x,By=y"), .tls = cases[i].tls});
		expect(&r, "x-forwarded-client-cert", cases[i].value);
		done(&r);
	}
}

static void test_what_of_a_certificate_is_told(void **state)
{
	static const struct tls_peer peer = {.subject = FOIL_SLICE_INIT("CN=b"), .fingerprint = FOIL_SLICE_INIT("ff"), .pem = FOIL_SLICE_INIT("p")};
	static const struct tls_facts tls = {.peer = &peer};
	struct answer r;

	(void)state;
	run(&r, &(struct given){.remote = outside, .tls = &tls, .headers = HEADERS("a", "b")});
	expect(&r, "x-forwarded-client-cert", "Hash=ff;Cert=\"p\";Subject=\"CN=b\";URI=");
	done(&r);
	run(&r, &(struct given){.hcm = {.client_cert = {.hide_subject = true, .hide_cert = true, .hide_uri = true}}, .remote = outside, .tls = &tls,
				.headers = HEADERS("a", "b")});
	expect(&r, "x-forwarded-client-cert", "Hash=ff");
	done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_client_certificates), cmocka_unit_test(test_what_of_a_certificate_is_told),
		cmocka_unit_test(test_forwarding_at_the_edge_as_envoy_was_recorded),
		cmocka_unit_test(test_forwarding_leaves_host_and_port_of_strangers),
		cmocka_unit_test(test_forwarding_removes_what_strangers_say_to_envoy),
		cmocka_unit_test(test_forwarding_believes_internal_callers),
		cmocka_unit_test(test_forwarding_internal_only_without_earlier_hops),
		cmocka_unit_test(test_forwarding_behind_trusted_proxies),
		cmocka_unit_test(test_forwarding_of_a_loopback_peer_names_this_machine),
		cmocka_unit_test(test_forwarding_of_an_ipv6_peer_has_no_brackets),
		cmocka_unit_test(test_forwarding_inside_the_mesh_believes_and_appends_nothing),
		cmocka_unit_test(test_forwarding_port_and_request_id_by_setting),
		cmocka_unit_test(test_request_ids_differ_and_come_from_the_seed),
		cmocka_unit_test(test_referers_that_go_on), cmocka_unit_test(test_a_claimed_scheme_is_no_tls),
		cmocka_unit_test(test_forwarding_without_memory_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
