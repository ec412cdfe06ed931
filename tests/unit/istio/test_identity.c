/* Identities and mutual TLS in the compiler: PeerAuthentication, automatic mTLS, ISTIO_MUTUAL, AUTO_PASSTHROUGH. What is expected is what istiod 1.31
 * gave a sidecar and a router for the same resources (../shared/oracle, objects/rich). */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/core/base.h"

#define POD(name, ip, account, labels) \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: app, labels: {app: web" labels "}}\n" \
	"spec: {serviceAccountName: " account "}\nstatus: {podIP: " ip ", phase: Running}\n"
#define MARK ", security.istio.io/tlsMode: istio"
#define SERVICE \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: app}\nspec:\n  clusterIP: 198.18.10.1\n  selector: {app: web}\n" \
	"  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-db, port: 5432, targetPort: 5432}]\n"
#define PODS POD("a", "198.19.0.10", "web", MARK) "---\n" POD("b", "198.19.0.11", "api", MARK) "---\n" POD("c", "198.19.0.12", "web", "")
#define PA(name, namespace, spec) \
	"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " name ", namespace: " namespace "}\nspec: " spec "\n"
#define MESH(text) "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n" text
#define WEB_HTTP "outbound|80||web.app.svc.cluster.local"
#define WEB_TCP "outbound|5432||web.app.svc.cluster.local"

static bool wants(const struct t_mesh *m, const char *id)
{
	for (size_t i = 0; i < m->snapshot->n_identities; i++)
		if (strcmp(m->snapshot->identities[i], id) == 0)
			return true;
	return false;
}

static bool has_word(char *const *list, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], text) == 0)
			return true;
	return false;
}

/* ---- PeerAuthentication at a service's address ---- */

static void test_permissive_is_the_default_and_takes_both(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE, PODS, NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.10.1_80");

	(void)state;
	assert_int_equal(l->n_filter_chains, 2);
	const Foil__Conf__FilterChain *mutual = l->filter_chains[0], *plain = l->filter_chains[1];
	assert_int_equal(mutual->transport, FOIL__CONF__TRANSPORT__TRANSPORT_TLS);
	assert_int_equal(mutual->n_application_protocols, 5);
	assert_true(has_word(mutual->application_protocols, 5, "istio-h2"));
	assert_int_equal(mutual->tls->client_certificate, FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED);
	assert_string_equal(mutual->tls->secrets[0], "spiffe://cluster.local/ns/app/sa/api");
	assert_string_equal(mutual->tls->ca_secret, "ROOTCA");
	assert_int_equal(mutual->tls->n_subject_alt_names, 1);
	assert_string_equal(mutual->tls->subject_alt_names[0], "spiffe://cluster.local/");
	assert_int_equal(mutual->tls->min_version, FOIL__CONF__TLS_VERSION__TLS_1_2);
	assert_int_equal(mutual->tls->n_cipher_suites, 6);
	assert_string_equal(mutual->tls->alpn[0], "h2");
	assert_int_equal(mutual->http->client_cert->forward, FOIL__CONF__CLIENT_CERT_FORWARD__CERT_APPEND_FORWARD);
	assert_false(mutual->http->client_cert->cert);
	assert_true(mutual->http->client_cert->uri);
	assert_int_equal(plain->transport, FOIL__CONF__TRANSPORT__TRANSPORT_PLAINTEXT);
	assert_null(plain->tls);
	assert_int_equal(l->hello_timeout_us, 1000000);
	assert_true(wants(m, "spiffe://cluster.local/ns/app/sa/api"));
	foil__conf__listener__free_unpacked(l, NULL);
	l = t_listener(m, "198.18.10.1_5432"); /* TLS of others goes to the application */
	assert_int_equal(l->n_filter_chains, 3);
	assert_true(l->filter_chains[2]->is_tls_passthrough);
	assert_int_equal(l->filter_chains[2]->n_application_protocols, 0);
	assert_int_equal(l->filter_chains[0]->tls->n_alpn, 0);
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
}

/* 'p': plaintext and mTLS, 's': mTLS alone, 'd': bytes as they come. */
static char mode_of(const struct t_mesh *m, const char *name)
{
	Foil__Conf__Listener *l = t_listener(m, name);
	char mode = '?';

	if (l->n_filter_chains == 1 && !l->filter_chains[0]->tls)
		mode = l->filter_chains[0]->transport == FOIL__CONF__TRANSPORT__TRANSPORT_ANY ? 'd' : '?';
	else if (l->n_filter_chains == 1)
		mode = l->filter_chains[0]->n_application_protocols == 0 && l->hello_timeout_us == 0 ? 's' : '?';
	else
		mode = 'p';
	foil__conf__listener__free_unpacked(l, NULL);
	return mode;
}

static void test_levels_of_peer_authentication(void **state)
{
	static const struct {
		const char *policies, *modes; /* of ports 80 and 5432 */
	} cases[] = {
		{PA("default", "istio-system", "{mtls: {mode: STRICT}}"), "ss"},
		{PA("default", "istio-system", "{mtls: {mode: STRICT}}") "---\n" PA("ns", "app", "{mtls: {mode: PERMISSIVE}}"), "pp"},
		{PA("default", "istio-system", "{mtls: {mode: STRICT}}") "---\n" PA("ns", "app", "{mtls: {mode: UNSET}}"), "ss"},
		{PA("default", "istio-system", "{mtls: {mode: STRICT}}") "---\n" PA("ns", "other", "{mtls: {mode: DISABLE}}"), "ss"},
		{PA("ns", "app", "{mtls: {mode: DISABLE}}"), "dd"},
		{PA("ns", "app", "{mtls: {mode: DISABLE}}") "---\n" PA("w", "app", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}"), "ss"},
		{PA("w", "app", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {\"8080\": {mode: DISABLE}}}"), "ds"},
		{PA("w", "app", "{selector: {matchLabels: {app: web}}, portLevelMtls: {5432: {mode: STRICT}, 80: {mode: DISABLE}}}"), "ps"},
		{PA("w", "app", "{selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}}"), "pp"},
		{PA("w", "istio-system", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}"), "pp"},
		{PA("one", "app", "{mtls: {mode: STRICT}}") "---\n" PA("two", "app", "{mtls: {mode: DISABLE}}"), "ss"}, /* the older: the first in order */
	};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct t_mesh *m = t_mesh_new(SERVICE, PODS, cases[i].policies, NULL);
		t_assert_no_diags(m);
		if (mode_of(m, "198.18.10.1_80") != cases[i].modes[0] || mode_of(m, "198.18.10.1_5432") != cases[i].modes[1])
			fail_msg("case %zu: %c%c, not %s", i, mode_of(m, "198.18.10.1_80"), mode_of(m, "198.18.10.1_5432"), cases[i].modes);
		t_mesh_free(m);
	}
}

static void test_of_workloads_that_differ_the_strictest_counts(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE, PODS, POD("d", "198.19.0.13", "web", ", version: v2"),
				      PA("w", "app", "{selector: {matchLabels: {version: v2}}, mtls: {mode: STRICT}}"), NULL);

	(void)state;
	assert_int_equal(mode_of(m, "198.18.10.1_80"), 's');
	t_mesh_free(m);
	m = t_mesh_new(SERVICE, PA("w", "app", "{mtls: {mode: STRICT}}"), NULL); /* nobody is there */
	assert_int_equal(mode_of(m, "198.18.10.1_80"), 's');
	assert_true(wants(m, "spiffe://cluster.local/ns/app/sa/default"));
	t_mesh_free(m);
}

static void test_peer_authentication_that_cannot_be_meant(void **state)
{
	struct t_mesh *m = t_mesh_new(PA("a", "app", "{portLevelMtls: {80: {mode: STRICT}}}"), PA("b", "app", "{mtls: {mode: LOOSE}}"),
				      PA("c", "app", "{selector: {matchLabels: {a: b}}, portLevelMtls: {http: {mode: STRICT}}}"),
				      PA("d", "app", "{mtls: {mode: STRICT, more: 1}}"), NULL);

	(void)state;
	(void)t_diag(m, "IST0106", "needs a selector");
	(void)t_diag(m, "IST0106", "\"http\" is not a port's number");
	assert_true(m->diags.n_errors >= 4);
	t_mesh_free(m);
}

/* ---- clients ---- */

#define ROUTE(gateways) \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: app}\n" \
	"spec: {hosts: [web.app.svc.cluster.local], gateways: " gateways \
	", http: [{headers: {request: {remove: [x-own]}}, route: [{destination: {host: web, port: {number: 80}}}]}]}\n"
#define PLAIN_RULE \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: app}\n" \
	"spec: {host: web, trafficPolicy: {tls: {mode: DISABLE}}}\n"

/* HD-7: at a gateway nothing goes into the mesh, or comes out, that its proxies say of themselves; other clients and other origins keep what they send. */
static void test_peer_metadata_stays_in_the_mesh(void **state)
{
	static const struct {
		const char *pods, *rule, *gateways, *listener;
		bool is_hidden;
	} cases[] = {
		{PODS, "", "[istio-system/main]", "198.18.0.1_80", true},
		{POD("c", "198.19.0.12", "web", ""), "", "[istio-system/main]", "198.18.0.1_80", false},
		{PODS, PLAIN_RULE, "[istio-system/main]", "198.18.0.1_80", false},
		{PODS, "", "[mesh]", "198.18.10.1_80", false},
	};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		char route[1024];
		(void)snprintf(route, sizeof(route), ROUTE("%s"), cases[i].gateways); /* fits */
		struct t_mesh *m = t_mesh_new(T_GATEWAY, SERVICE, cases[i].pods, route, *cases[i].rule ? cases[i].rule : NULL, NULL);
		Foil__Conf__Listener *l = t_listener(m, cases[i].listener);
		Foil__Conf__RouteConfig *r = t_routes(m, l->filter_chains[0]->http->routes);
		const Foil__Conf__Route *one = r->virtual_hosts[0]->routes[0];
		const Foil__Conf__HeaderOps *to = one->request_headers, *back = one->response_headers;
		assert_int_equal(to->n_remove, cases[i].is_hidden ? 3 : 1);
		assert_string_equal(to->remove[0], "x-own");
		assert_int_equal(has_word(to->remove, to->n_remove, "x-envoy-peer-metadata"), cases[i].is_hidden);
		assert_int_equal(has_word(to->remove, to->n_remove, "x-envoy-peer-metadata-id"), cases[i].is_hidden);
		assert_int_equal(back && back->n_remove == 2, cases[i].is_hidden);
		foil__conf__route_config__free_unpacked(r, NULL);
		foil__conf__listener__free_unpacked(l, NULL);
		t_mesh_free(m);
	}
}

static void test_automatic_mtls_goes_to_the_endpoints_that_can(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE, PODS, NULL);
	Foil__Conf__Cluster *c = t_cluster(m, WEB_HTTP);
	Foil__Conf__Endpoints *e = t_endpoints(m, WEB_HTTP);

	(void)state;
	assert_true(c->tls->only_marked_endpoints);
	assert_string_equal(c->tls->secret, "spiffe://cluster.local/ns/istio-system/sa/hydrofoil");
	assert_string_equal(c->tls->ca_secret, "ROOTCA");
	assert_string_equal(c->tls->sni, "outbound_.80_._.web.app.svc.cluster.local");
	assert_int_equal(c->tls->n_subject_alt_names, 2);
	assert_true(has_word(c->tls->subject_alt_names, 2, "spiffe://cluster.local/ns/app/sa/web"));
	assert_true(has_word(c->tls->subject_alt_names, 2, "spiffe://cluster.local/ns/app/sa/api"));
	assert_string_equal(c->tls->alpn[0], "istio-http/1.1");
	assert_int_equal(e->n_endpoints, 3);
	for (size_t i = 0; i < 3; i++) {
		bool is_c = strcmp(e->endpoints[i]->address, "198.19.0.12") == 0;
		assert_int_equal(e->endpoints[i]->tls, !is_c);
		assert_int_equal(e->endpoints[i]->principal == NULL, is_c);
	}
	foil__conf__cluster__free_unpacked(c, NULL);
	foil__conf__endpoints__free_unpacked(e, NULL);
	c = t_cluster(m, WEB_TCP);
	assert_int_equal(c->tls->n_alpn, 1);
	assert_string_equal(c->tls->alpn[0], "istio");
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
}

static bool is_plain(const char *more)
{
	struct t_mesh *m = t_mesh_new(SERVICE, PODS, more, NULL);
	Foil__Conf__Cluster *c = t_cluster(m, WEB_HTTP);
	Foil__Conf__Endpoints *e = t_endpoints(m, WEB_HTTP);
	bool plain = c->tls == NULL;

	for (size_t i = 0; plain && i < e->n_endpoints; i++)
		assert_false(e->endpoints[i]->tls || e->endpoints[i]->principal);
	foil__conf__cluster__free_unpacked(c, NULL);
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	return plain;
}

#define DR(policy) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: app}\nspec:\n" \
	"  host: web.app.svc.cluster.local\n  " policy "\n"

static void test_what_switches_automatic_mtls_off(void **state)
{
	(void)state;
	assert_true(is_plain(MESH("    enableAutoMtls: false\n")));
	assert_true(is_plain(PA("ns", "app", "{mtls: {mode: DISABLE}}")));
	assert_true(is_plain(DR("trafficPolicy: {tls: {mode: DISABLE}}")));
	assert_false(is_plain(DR("trafficPolicy: {loadBalancer: {simple: RANDOM}}"))); /* DR-47 */
	assert_false(is_plain(PA("ns", "app", "{mtls: {mode: STRICT}}")));
	assert_false(is_plain(PA("w", "app", "{selector: {matchLabels: {app: web}}, portLevelMtls: {5432: {mode: DISABLE}}}")));
	assert_true(is_plain(PA("w", "app", "{selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: DISABLE}}}")));
}

static void test_istio_mutual_goes_to_every_endpoint(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE, PODS, DR("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"), NULL);
	Foil__Conf__Cluster *c = t_cluster(m, WEB_HTTP);

	(void)state;
	assert_false(c->tls->only_marked_endpoints);
	assert_string_equal(c->tls->secret, "spiffe://cluster.local/ns/istio-system/sa/hydrofoil");
	foil__conf__cluster__free_unpacked(c, NULL);
	t_assert_no_diags(m);
	t_mesh_free(m);
	m = t_mesh_new(SERVICE, PODS, DR("trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: Other.test, subjectAltNames: [spiffe://x/y]}}"), NULL);
	c = t_cluster(m, WEB_HTTP);
	assert_string_equal(c->tls->sni, "other.test");
	assert_int_equal(c->tls->n_subject_alt_names, 1);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
}

static void test_trust_domains_and_whose_identity_the_node_has(void **state)
{
	struct istio_node node = t_node;
	node.service_account = "edge/gw";
	struct t_mesh *m = t_mesh_at(&node, SERVICE, PODS, MESH("    trustDomain: td\n    trustDomainAliases: [old]\n"
								"    meshMTLS: {minProtocolVersion: TLSV1_3}\n    caCertificates: [{pem: ROOT}]\n"), NULL);
	Foil__Conf__Cluster *c = t_cluster(m, WEB_HTTP);
	Foil__Conf__Listener *l = t_listener(m, "198.18.10.1_80");

	(void)state;
	assert_string_equal(c->tls->secret, "spiffe://td/ns/edge/sa/gw");
	assert_true(has_word(c->tls->subject_alt_names, c->tls->n_subject_alt_names, "spiffe://td/ns/app/sa/web"));
	assert_true(has_word(c->tls->subject_alt_names, c->tls->n_subject_alt_names, "spiffe://old/ns/app/sa/web"));
	assert_int_equal(l->filter_chains[0]->tls->n_subject_alt_names, 2);
	assert_string_equal(l->filter_chains[0]->tls->subject_alt_names[1], "spiffe://old/");
	assert_int_equal(l->filter_chains[0]->tls->min_version, FOIL__CONF__TLS_VERSION__TLS_1_3);
	assert_string_equal(m->snapshot->extra_roots, "ROOT\n");
	foil__conf__cluster__free_unpacked(c, NULL);
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
}

/* ---- gateways ---- */

#define GATEWAY(server) \
	"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: main, namespace: istio-system}\n" \
	"spec:\n  selector: {istio: ingressgateway}\n  servers: [" server "]\n"

static void test_istio_mutual_at_a_gateway(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE, GATEWAY("{port: {number: 9443, name: m, protocol: HTTPS}, hosts: [web.example.com], tls: {mode: ISTIO_MUTUAL}}"),
				      NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_9443");
	const Foil__Conf__DownstreamTls *t = l->filter_chains[0]->tls;

	(void)state;
	assert_string_equal(t->secrets[0], "spiffe://cluster.local/ns/istio-system/sa/hydrofoil");
	assert_string_equal(t->ca_secret, "ROOTCA");
	assert_int_equal(t->client_certificate, FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED);
	assert_int_equal(t->n_subject_alt_names, 0);
	assert_int_equal(l->filter_chains[0]->http->client_cert->forward, FOIL__CONF__CLIENT_CERT_FORWARD__CERT_SANITIZE_SET);
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
}

static void test_a_gateway_that_refuses_hosts_of_other_servers(void **state)
{
	static const struct {
		const char *annotation;
		bool refuses, is_odd;
	} cases[] = {{"refuse", true, false}, {"route", false, false}, {"421", false, true}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[600];
		(void)snprintf(text, sizeof(text), "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: main, namespace: istio-system, "
			       "annotations: {hydrofoil.io/misdirected: '%s'}}\nspec:\n  selector: {istio: ingressgateway}\n  servers: "
			       "[{port: {number: 9443, name: m, protocol: HTTPS}, hosts: [web.example.com], tls: {mode: ISTIO_MUTUAL}}]\n",
			       cases[i].annotation); /* fits */
		struct t_mesh *m = t_mesh_new(SERVICE, text, NULL);
		Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_9443");
		assert_int_equal(l->filter_chains[0]->http->refuse_misdirected, cases[i].refuses);
		if (cases[i].is_odd)
			assert_string_equal(t_diag(m, "HF0007", "answers 421")->field, "metadata.annotations");
		foil__conf__listener__free_unpacked(l, NULL);
		t_mesh_free(m);
	}
}

static void test_auto_passthrough_reads_the_service_from_the_name(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE, PODS, DR("subsets: [{name: v1, labels: {version: v1}}]"),
				      GATEWAY("{port: {number: 15443, name: t, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}"), NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_15443");

	(void)state;
	assert_int_equal(l->n_filter_chains, 4); /* two ports, with and without the subset */
	assert_string_equal(l->filter_chains[0]->server_names[0], "outbound_.80_._.web.app.svc.cluster.local");
	assert_string_equal(l->filter_chains[1]->server_names[0], "outbound_.80_.v1_.web.app.svc.cluster.local");
	assert_int_equal(l->filter_chains[0]->n_application_protocols, 5);
	assert_true(l->filter_chains[0]->is_tls_passthrough);
	Foil__Conf__Cluster *c = t_cluster(m, "outbound_.80_._.web.app.svc.cluster.local");
	assert_null(c->tls);
	assert_int_equal(c->protocol, FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_TCP);
	foil__conf__cluster__free_unpacked(c, NULL);
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
	m = t_mesh_new(SERVICE, PODS, GATEWAY("{port: {number: 15443, name: t, protocol: TLS}, hosts: ['other/*'], tls: {mode: AUTO_PASSTHROUGH}}"), NULL);
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER, "198.18.0.1_15443"));
	t_mesh_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_permissive_is_the_default_and_takes_both),
		cmocka_unit_test(test_levels_of_peer_authentication),
		cmocka_unit_test(test_of_workloads_that_differ_the_strictest_counts),
		cmocka_unit_test(test_peer_authentication_that_cannot_be_meant),
		cmocka_unit_test(test_peer_metadata_stays_in_the_mesh), cmocka_unit_test(test_automatic_mtls_goes_to_the_endpoints_that_can),
		cmocka_unit_test(test_what_switches_automatic_mtls_off),
		cmocka_unit_test(test_istio_mutual_goes_to_every_endpoint),
		cmocka_unit_test(test_trust_domains_and_whose_identity_the_node_has),
		cmocka_unit_test(test_istio_mutual_at_a_gateway),
		cmocka_unit_test(test_a_gateway_that_refuses_hosts_of_other_servers),
		cmocka_unit_test(test_auto_passthrough_reads_the_service_from_the_name),
	};
	return cmocka_run_group_tests_name("istio.identity", tests, NULL, NULL);
}
