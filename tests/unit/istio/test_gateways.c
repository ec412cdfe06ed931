/* ctrl/istio/gateways.c: listeners, hosts and what is refused of a Gateway (features.md GW). */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GATEWAY(name, selector, servers) \
	"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: " name ", namespace: istio-system}\nspec: {selector: " selector ", servers: " \
		"[" servers "]}\n"
#define LISTENER FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER

static void test_a_listener_for_each_address_of_the_selected_gateway(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_80");

	assert_true(t_has(m, LISTENER, "fd00:f011:0::1_80"));
	assert_false(t_has(m, LISTENER, "198.19.0.1_80"));
	assert_int_equal(l->port, 80);
	assert_int_equal(l->direction, FOIL__CONF__DIRECTION__DIRECTION_GATEWAY);
	const Foil__Conf__HttpConnectionManager *h = l->filter_chains[0]->http;
	assert_string_equal(h->routes, "http.80");
	assert_true(h->use_remote_address);
	assert_int_equal(h->path_normalization, FOIL__CONF__PATH_NORMALIZATION__PATH_BASE);
	assert_int_equal(h->idle_timeout_us, 3600000000);
	assert_int_equal(h->stream_idle_timeout_us, 0);
	assert_int_equal(h->max_request_headers_kib, 60);
	assert_false(h->accept_http10);
	assert_int_equal(l->source->line, 6);
	assert_int_equal(l->source->column, 13);
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_an_empty_selector_is_every_gateway_and_each_has_its_own_table(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("main", "{}", "{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}"), NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.19.0.1_80");

	assert_string_equal(l->filter_chains[0]->http->routes, "http.80.198.19.0.1");
	assert_true(t_has(m, LISTENER, "198.18.0.1_80"));
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_what_mesh_config_says_of_gateways(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n"
				      "    pathNormalization: {normalization: MERGE_SLASHES}\n    defaultConfig:\n      gatewayTopology: {numTrustedProxies: "
					      "2}\n"
				      "      proxyMetadata: {ISTIO_META_HTTP10: '1'}\n      drainDuration: 10s\n"
				      "      proxyHeaders: {server: {value: mine}, requestId: {disabled: true}, attemptCount: {disabled: true}, "
					      "envoyDebugHeaders: {disabled: true},"
				      " preserveHttp1HeaderCase: true, xForwardedHost: {enabled: true}, xForwardedPort: {enabled: true}}\n", T_GATEWAY, NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_80");
	const Foil__Conf__HttpConnectionManager *h = l->filter_chains[0]->http;
	const struct istio_resource *r = &m->snapshot->resources[0];
	Foil__Conf__MeshSettings *s = foil__conf__mesh_settings__unpack(NULL, r->n_bytes, r->bytes);

	t_assert_no_diags(m);
	assert_int_equal(h->path_normalization, FOIL__CONF__PATH_NORMALIZATION__PATH_MERGE_SLASHES);
	assert_int_equal(h->xff_num_trusted_hops, 2);
	assert_true(h->accept_http10 && h->request_id_off && h->attempt_count_off && h->envoy_debug_headers_off);
	assert_true(h->preserve_header_case && h->add_forwarded_host && h->add_forwarded_port);
	assert_string_equal(s->server_name, "mine");
	assert_int_equal(s->drain_duration_us, 10000000);
	foil__conf__mesh_settings__free_unpacked(s, NULL);
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
	(void)state;
}

static Foil__Conf__RouteConfig *hosts_of(const char *server_hosts, const char *vs_hosts, struct t_mesh **m)
{
	char gateway[600], vs[600];

	(void)snprintf(gateway, sizeof(gateway), GATEWAY("main", "{istio: ingressgateway}", "{port: {number: 80, name: a, protocol: HTTP}, hosts: %s}"),
		       server_hosts);
	(void)snprintf(vs, sizeof(vs), "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: app}\n"
		       "spec: {hosts: %s, gateways: [istio-system/main], http: [{directResponse: {status: 200}}]}\n", vs_hosts);
	*m = t_mesh_new(gateway, vs, NULL);
	return t_routes(*m, "http.80");
}

#define T_SETTINGS(text) \
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n" \
	"data: {mesh: '{defaultConfig: {connectionSettings: " text "}}'}\n"

static void test_profile_edge_is_what_istiod_makes_of_it(void **state)
{
	struct t_mesh *m = t_mesh_new(T_SETTINGS("{profile: EDGE, httpRequestTimeout: 0s, httpMaxConcurrentStreams: 7}"), T_GATEWAY, T_ONE,
				      T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_80");
	const Foil__Conf__HttpConnectionManager *h = l->filter_chains[0]->http;

	t_assert_no_diags(m);
	assert_int_equal(h->idle_timeout_us, 3600000000);
	assert_int_equal(h->stream_idle_timeout_us, 300000000);
	assert_int_equal(h->request_timeout_us, 0);
	assert_int_equal(h->request_headers_timeout_us, 60000000);
	assert_int_equal(h->h2_streams_max, 7);
	assert_int_equal(h->h2_stream_window_bytes, 65536);
	assert_int_equal(h->h2_conn_window_bytes, 1048576);
	assert_int_equal(l->buffer_bytes, 32768);
	assert_false(l->has_connection_limit || h->has_max_stream_duration_us || h->has_drain_timeout_us);
	assert_true(h->reject_underscores && !h->drop_underscores && h->merge_slashes);
	assert_int_equal(h->escaped_slashes, FOIL__CONF__ESCAPED_SLASHES__SLASHES_REDIRECTED);
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_connection_settings_are_taken_one_by_one(void **state)
{
	struct t_mesh *m = t_mesh_new(T_SETTINGS("{httpIdleTimeout: 5s, httpMaxConnectionDuration: 60s, httpHeadersWithUnderscoresAction: "
						 "HEADERS_WITH_UNDERSCORES_DROP_HEADER, httpMergeSlashes: false, "
						 "httpPathWithEscapedSlashesAction: REJECT_REQUEST}"),
				      T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_80");
	const Foil__Conf__HttpConnectionManager *h = l->filter_chains[0]->http;

	t_assert_no_diags(m);
	assert_int_equal(h->idle_timeout_us, 5000000);
	assert_int_equal(h->max_connection_duration_us, 60000000);
	assert_true(h->drop_underscores && !h->reject_underscores && h->has_merge_slashes && !h->merge_slashes);
	assert_int_equal(h->escaped_slashes, FOIL__CONF__ESCAPED_SLASHES__SLASHES_REFUSED);
	assert_false(h->has_request_timeout_us || h->has_h2_streams_max);
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);

	m = t_mesh_new(T_SETTINGS("{listenerConnectionLimit: 0, globalDownstreamConnectionLimit: -1, httpMaxStreamDuration: 5}"), T_GATEWAY, NULL);
	(void)t_diag(m, "IST0106", "must be from 1 to 2147483647, not 0");
	(void)t_diag(m, "IST0106", "must be from 1 to 2147483647, not -1");
	(void)t_diag(m, "IST0106", "duration");
	t_mesh_free(m);
	(void)state;
}

/* Buffers are gateways' listeners' alone (istiod), and clusters'; the rest is every listener's. */
static void test_limits_of_connections_and_streams(void **state)
{
	struct t_mesh *m = t_mesh_new(T_SETTINGS("{listenerConnectionLimit: 5, globalDownstreamConnectionLimit: 9, httpMaxStreamDuration: 7s, "
						 "httpDrainTimeout: 3s, listenerPerConnectionBufferLimitBytes: 65536, "
						 "clusterPerConnectionBufferLimitBytes: 16384}"),
				      T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_80");
	Foil__Conf__Cluster *c = t_cluster(m, "outbound|8080||one.test");
	const struct istio_resource *r = m->snapshot->resources; /* the settings come first */
	Foil__Conf__MeshSettings *settings = foil__conf__mesh_settings__unpack(NULL, r->n_bytes, r->bytes);
	char *text;

	t_assert_no_diags(m);
	assert_int_equal(l->connection_limit, 5);
	assert_int_equal(l->buffer_bytes, 65536);
	assert_int_equal(l->filter_chains[0]->http->max_stream_duration_us, 7000000);
	assert_int_equal(l->filter_chains[0]->http->drain_timeout_us, 3000000);
	assert_int_equal(c->buffer_bytes, 16384);
	assert_int_equal(settings->connection_limit, 9);
	assert_int_equal(istio_explain(m->snapshot, &(struct istio_request){.authority = "web.example.com", .path = "/"}, &text, NULL), 0);
	assert_non_null(strstr(text, "at most 5 connections at a time; one more is closed at once"));
	assert_non_null(strstr(text, "at most 9 connections at a time over all listeners of the node"));
	assert_non_null(strstr(text, "at most 65536 bytes wait for a client"));
	assert_non_null(strstr(text, "at most 16384 bytes wait for an endpoint"));
	assert_non_null(strstr(text, "a request and its answer end after 7 s"));
	free(text);
	foil__conf__mesh_settings__free_unpacked(settings, NULL);
	foil__conf__cluster__free_unpacked(c, NULL);
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_domains_are_the_narrower_of_server_and_virtual_service(void **state)
{
	static const struct {
		const char *server, *vs, *domain;
	} cases[] = {{"['*']", "[A.Test]", "a.test"}, {"['*.test']", "[a.test]", "a.test"}, {"['*.test']", "['*.a.test']", "*.a.test"},
		     {"[a.test]", "['*.test']", "a.test"}, {"[a.test]", "['*']", "a.test"}, {"['*']", "['*']", "*"}, {"['app/*']", "[a.test]", "a.test"},
		     {"['*/*.test']", "[a.test]", "a.test"}, {"['*.test']", "[a.b.test]", "a.b.test"},
		     {"['./*']", "[a.test]", NULL}, {"['other/*']", "[a.test]", NULL}, {"['*.test']", "[test]", NULL}, {"[b.test]", "[a.test]", NULL}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_mesh *m;
		Foil__Conf__RouteConfig *r = hosts_of(cases[i].server, cases[i].vs, &m);
		assert_int_equal(r->n_virtual_hosts, 1);
		if (cases[i].domain) {
			if (!t_vhost(r, cases[i].domain) || t_vhost(r, cases[i].domain)->n_routes != 1)
				fail_msg("case %zu: %s", i, r->virtual_hosts[0]->domains[0]);
		} else {
			assert_string_equal(r->virtual_hosts[0]->name, "blackhole:80");
			(void)t_diag(m, "IST0132", "no server of Gateway istio-system/main has the host");
		}
		foil__conf__route_config__free_unpacked(r, NULL);
		t_mesh_free(m);
	}
	(void)state;
}

static void test_https_redirect_is_for_every_host_of_the_server(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("main", "{istio: ingressgateway}", "{port: {number: 80, name: a, protocol: HTTP}, hosts: [web.example.com, "
					      "b.test, other/c.test, \"*/d.test\"],"
					      " tls: {httpsRedirect: true}}"), T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");

	assert_true(t_vhost(r, "web.example.com")->require_tls);
	assert_int_equal(t_vhost(r, "web.example.com")->n_routes, 1);
	assert_true(t_vhost(r, "b.test")->require_tls); /* nothing is bound to it (GW-6) */
	assert_int_equal(r->n_virtual_hosts, 2);        /* nor to these, which name a namespace: nobody is redirected (istiod) */
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_servers_of_several_gateways_share_a_port(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("main", "{istio: ingressgateway}", "{port: {number: 80, name: a, protocol: HTTP}, hosts: [web.example.com]}"),
				      GATEWAY("second", "{istio: ingressgateway}", "{port: {number: 80, name: a, protocol: HTTP2}, hosts: ['*']}"),
				      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: app}\nspec: {hosts: [x.test, "
					      "web.example.com],"
				      " gateways: [istio-system/main, istio-system/second], http: [{directResponse: {status: 200}}]}\n", NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");

	assert_int_equal(r->n_virtual_hosts, 2);
	assert_int_equal(t_vhost(r, "x.test")->n_routes, 1);
	assert_int_equal(t_vhost(r, "web.example.com")->n_routes, 2); /* once by each gateway, as istiod has it */
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_a_port_has_one_protocol(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("main", "{istio: ingressgateway}", "{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}"),
				      GATEWAY("other", "{istio: ingressgateway}", "{port: {number: 80, name: a, protocol: TCP}, hosts: ['*']}"), NULL);

	assert_string_equal(t_diag(m, "IST0145", "already served with another protocol")->resource, "Gateway/istio-system/other");
	t_mesh_free(m);
	(void)state;
}

static void test_bind_is_one_of_the_nodes_addresses(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("main", "{istio: ingressgateway}", "{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*'], bind: "
					      "198.18.0.1},"
					      " {port: {number: 81, name: b, protocol: HTTP}, hosts: ['*'], bind: 203.0.113.1}"), NULL);

	assert_true(t_has(m, LISTENER, "198.18.0.1_80"));
	assert_false(t_has(m, LISTENER, "fd00:f011:0::1_80"));
	assert_false(t_has(m, LISTENER, "203.0.113.1_81"));
	(void)t_diag(m, "IST0104", "203.0.113.1 is not an address");
	t_mesh_free(m);
	(void)state;
}

static void test_servers_that_cannot_be_served_are_refused_one_by_one(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("main", "{istio: ingressgateway}", "{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']},"
					      " {port: {number: 443, name: b, protocol: HTTPS}, hosts: ['*'], tls: {mode: AUTO_PASSTHROUGH}},"
					      " {port: {number: 444, name: c, protocol: HTTPS}, hosts: ['*']}, {port: {number: 445, name: d, protocol: "
						      "SPDY}, hosts: ['*']},"
					      " {port: {number: 446, name: e, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE}},"
					      " {port: {number: 447, name: f, protocol: HTTPS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL}},"
					      " {port: {number: 448, name: g, protocol: TCP}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: x}}"), NULL);

	assert_true(t_has(m, LISTENER, "198.18.0.1_80"));
	assert_true(t_has(m, LISTENER, "198.18.0.1_447"));
	for (int port = 443; port <= 448; port += 1 + (port == 446)) {
		char name[32];
		(void)snprintf(name, sizeof(name), "198.18.0.1_%d", port); /* fits */
		assert_false(t_has(m, LISTENER, name));
	}
	assert_string_equal(t_diag(m, "IST0106", "needs tls")->field, "spec.servers[2]");
	assert_string_equal(t_diag(m, "IST0106", "\"SPDY\" is not one of")->field, "spec.servers[3].port.protocol");
	assert_string_equal(t_diag(m, "HF0005", "needs credentialName")->field, "spec.servers[4].tls.credentialName");
	assert_string_equal(t_diag(m, "IST0106", "passes bytes on")->field, "spec.servers[6].tls.mode");
	t_mesh_free(m);
	(void)state;
}

static void test_insecure_skip_verify_takes_any_certificate_and_names_ask_for_none(void **state)
{
	static const struct {
		const char *text;
		Foil__Conf__ClientCertificate certificate;
		bool accepts;
	} cases[] = {
		{"mode: OPTIONAL_MUTUAL, insecureSkipVerify: true", FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_OPTIONAL, true},
		{"mode: OPTIONAL_MUTUAL, insecureSkipVerify: true, subjectAltNames: [x]", FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_OPTIONAL, true},
		{"mode: OPTIONAL_MUTUAL, subjectAltNames: [x]", FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED, false},
		{"mode: MUTUAL, insecureSkipVerify: true", FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED, true},
		{"mode: MUTUAL, insecureSkipVerify: false", FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED, false},
		{"mode: SIMPLE, insecureSkipVerify: true", FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_NONE, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[1024];
		(void)snprintf(text, sizeof(text), GATEWAY("main", "{istio: ingressgateway}", "{port: {number: 443, name: one, protocol: HTTPS}, hosts: ['*'],"
							   " tls: {credentialName: c, %s}}"), cases[i].text); /* fits */
		struct t_mesh *m = t_mesh_new(text, NULL);
		const Foil__Conf__DownstreamTls *t = t_listener(m, "198.18.0.1_443")->filter_chains[0]->tls;
		assert_int_equal(t->client_certificate, cases[i].certificate);
		assert_int_equal(t->accept_untrusted, cases[i].accepts);
		t_mesh_free(m);
	}
}

static void test_a_server_that_ends_tls_is_a_chain_with_its_names_and_routes(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("main", "{istio: ingressgateway}",
					      "{port: {number: 443, name: one, protocol: HTTPS}, hosts: [A.example.com, '*.b.example.com'],"
					      " tls: {mode: MUTUAL, credentialName: c,"
					      " minProtocolVersion: TLSV1_3, subjectAltNames: [x],"
					      " cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256, NULL-MD5, DHE-RSA-AES128-SHA]}},"
					      " {port: {number: 443, name: two, protocol: HTTPS}, hosts: ['*', a.example.com],"
					      " tls: {mode: SIMPLE, credentialNames: [d, e]}}"),
				      NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_443");

	assert_int_equal(l->n_filter_chains, 2);
	const Foil__Conf__FilterChain *one = l->filter_chains[0], *two = l->filter_chains[1];
	assert_int_equal(one->n_server_names, 2);
	assert_string_equal(one->server_names[0], "a.example.com");
	assert_int_equal(one->tls->client_certificate, FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED);
	assert_int_equal(one->tls->min_version, FOIL__CONF__TLS_VERSION__TLS_1_3);
	assert_int_equal(one->tls->n_cipher_suites, 2); /* istiod has the first alone */
	assert_string_equal(one->tls->secrets[0], "kubernetes://istio-system/c");
	assert_string_equal(one->tls->ca_secret, "kubernetes://istio-system/c-cacert");
	assert_string_equal(one->tls->subject_alt_names[0], "x");
	assert_string_equal(one->http->routes, "https.443.one.main.istio-system");
	assert_string_equal(one->http->scheme, "https");
	assert_int_equal(two->n_server_names, 0); /* "*" */
	assert_int_equal(two->tls->n_secrets, 2);
	(void)t_diag(m, "IST0101", "the Secret \"c\" is not there");
	(void)t_diag(m, "IST0106", "\"NULL-MD5\" is not a cipher suite");
	(void)t_diag(m, "IST0106", "\"DHE-RSA-AES128-SHA\" is offered");
	(void)t_diag(m, "IST0145", "a.example.com is already served at port 443");
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_secrets_that_cannot_be_used_are_reported_where_they_stand(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("main", "{istio: ingressgateway}",
					      "{port: {number: 443, name: one, protocol: HTTPS}, hosts: [a], tls: {mode: SIMPLE, credentialName: empty}},"
					      " {port: {number: 443, name: two, protocol: HTTPS}, hosts: [b], tls: {mode: SIMPLE, credentialName: text}},"
					      " {port: {number: 443, name: three, protocol: HTTPS}, hosts: [c], tls: {mode: SIMPLE, credentialName: coded}}"),
				      "apiVersion: v1\nkind: Secret\nmetadata: {name: empty, namespace: istio-system}\n",
				      "apiVersion: v1\nkind: Secret\nmetadata: {name: text, namespace: istio-system}\n"
				      "stringData: {tls.crt: hello, tls.key: world}\n",
				      "apiVersion: v1\nkind: Secret\nmetadata: {name: coded, namespace: istio-system}\n"
				      "data: {tls.crt: '!', tls.key: aGVsbG8=}\n", NULL);

	assert_true(t_has(m, LISTENER, "198.18.0.1_443"));
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET, "kubernetes://istio-system/text"));
	assert_string_equal(t_diag(m, "HF0020", "has no certificate")->resource, "Secret/istio-system/empty");
	assert_string_equal(t_diag(m, "HF0020", "holds no PEM certificate")->resource, "Secret/istio-system/text");
	assert_string_equal(t_diag(m, "IST0106", "is not base64")->resource, "Secret/istio-system/coded");
	t_mesh_free(m);
	(void)state;
}

static void test_tcp_servers_take_the_first_rule_that_fits(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("main", "{istio: ingressgateway}", "{port: {number: 9100, name: a, protocol: TCP}, hosts: ['*']},"
					      " {port: {number: 9101, name: b, protocol: TCP}, hosts: ['*']}, {port: {number: 9102, name: c, protocol: TCP}, "
						      "hosts: ['*']}"),
				      T_WEB, T_SUBSETS, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: t, namespace: "
					      "app}\nspec:\n  hosts: ['*']\n"
				      "  gateways: [istio-system/main]\n  tcp:\n  - match: [{port: 9100}]\n    route: [{destination: {host: web.test, "
					      "subset: v1, port: {number: 9000}}, weight: 70},"
				      " {destination: {host: web.test, subset: v2, port: {number: 9000}}, weight: 30}]\n"
				      "  - match: [{port: 9101}]\n    route: [{destination: {host: web.test, port: {number: 9000}}}]\n", NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_9100");
	const Foil__Conf__TcpProxy *t = l->filter_chains[0]->tcp;

	assert_int_equal(t->n_clusters, 2);
	assert_string_equal(t->clusters[0]->cluster, "outbound|9000|v1|web.test");
	assert_int_equal(t->clusters[0]->weight, 70);
	assert_int_equal(t->idle_timeout_us, 3600000000);
	assert_int_equal(t->max_connect_attempts, 1);
	foil__conf__listener__free_unpacked(l, NULL);
	Foil__Conf__Cluster *c = t_cluster(m, "outbound|9000|v1|web.test");
	assert_int_equal(c->protocol, FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_TCP);
	foil__conf__cluster__free_unpacked(c, NULL);
	assert_true(t_has(m, LISTENER, "198.18.0.1_9101"));
	assert_false(t_has(m, LISTENER, "198.18.0.1_9102")); /* no rule: the connection is refused (GW-4) */
	(void)t_diag(m, "HF0015", "connections to port 9102 are refused");
	t_mesh_free(m);
	(void)state;
}

static void test_passed_through_tls_has_a_chain_for_each_rule(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("main", "{istio: ingressgateway}", "{port: {number: 443, name: a, protocol: TLS}, hosts: [a.test, b.test], "
					      "tls: {mode: PASSTHROUGH}}"),
				      T_WEB, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: t, namespace: app}\nspec:\n  hosts: "
					      "[a.test, b.test]\n"
				      "  gateways: [istio-system/main]\n  tls:\n  - match: [{port: 443, sniHosts: [A.test]}]\n    route: [{destination: "
					      "{host: web.test, port: {number: 9000}}}]\n"
				      "  - match: [{sniHosts: [a.test, b.test]}, {port: 1, sniHosts: [c.test]}]\n    route: [{destination: {host: web.test, "
					      "port: {number: 8080}}}]\n", NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_443");

	assert_int_equal(l->n_filter_chains, 2);
	assert_true(l->filter_chains[0]->is_tls_passthrough);
	assert_string_equal(l->filter_chains[0]->server_names[0], "a.test");
	assert_int_equal(l->filter_chains[1]->n_server_names, 1); /* a.test is taken */
	assert_string_equal(l->filter_chains[1]->server_names[0], "b.test");
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_a_gateway_that_is_not_there_is_told(void **state)
{
	struct t_mesh *m = t_mesh_new(T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);

	t_assert_at(t_diag(m, "IST0101", "there is no Gateway istio-system/main"), 15, 13, "spec.gateways[0]");
	t_mesh_free(m);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_listener_for_each_address_of_the_selected_gateway),
		cmocka_unit_test(test_an_empty_selector_is_every_gateway_and_each_has_its_own_table),
		cmocka_unit_test(test_what_mesh_config_says_of_gateways),
		cmocka_unit_test(test_profile_edge_is_what_istiod_makes_of_it),
		cmocka_unit_test(test_connection_settings_are_taken_one_by_one),
		cmocka_unit_test(test_limits_of_connections_and_streams),
		cmocka_unit_test(test_domains_are_the_narrower_of_server_and_virtual_service),
		cmocka_unit_test(test_https_redirect_is_for_every_host_of_the_server),
		cmocka_unit_test(test_servers_of_several_gateways_share_a_port),
		cmocka_unit_test(test_a_port_has_one_protocol),
		cmocka_unit_test(test_bind_is_one_of_the_nodes_addresses),
		cmocka_unit_test(test_servers_that_cannot_be_served_are_refused_one_by_one),
		cmocka_unit_test(test_a_server_that_ends_tls_is_a_chain_with_its_names_and_routes),
		cmocka_unit_test(test_insecure_skip_verify_takes_any_certificate_and_names_ask_for_none),
		cmocka_unit_test(test_secrets_that_cannot_be_used_are_reported_where_they_stand),
		cmocka_unit_test(test_tcp_servers_take_the_first_rule_that_fits),
		cmocka_unit_test(test_passed_through_tls_has_a_chain_for_each_rule),
		cmocka_unit_test(test_a_gateway_that_is_not_there_is_told),
	};
	return cmocka_run_group_tests_name("istio.gateways", tests, NULL, NULL);
}
