/* Names among the endpoints: what of a ServiceEntry with resolution DNS or DNS_ROUND_ROBIN reaches the snapshot, and how it follows new addresses. */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <string.h>

#define SE(name, spec) "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name ", namespace: app}\nspec: {" spec "}\n"
#define PORT "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8000}]"
#define ROUTE(name, host) \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name ", namespace: app}\nspec:\n  hosts: [" name ".example.com]\n" \
	"  gateways: [istio-system/main]\n  http: [{route: [{destination: {host: " host ", port: {number: 80}}}]}]\n"

/* What the names have: "now" and, where that is empty, of before. */
static struct {
	const char *name, *addresses[4], *last_good;
} known[] = {{"one.test", {"198.19.0.10", "198.19.0.11"}, NULL}, {"two.test", {"198.19.0.20"}, NULL}, {"gone.test", {NULL}, "198.19.0.30"}};

static size_t addresses(void *arg, const char *name, enum istio_name_use use, const char **out, size_t n_max)
{
	size_t n = 0;

	assert_ptr_equal(arg, known);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(known[i].name, name) != 0)
			continue;
		for (; n < n_max && known[i].addresses[n]; n++)
			out[n] = known[i].addresses[n];
		if (n == 0 && use == ISTIO_NAME_LAST_GOOD && known[i].last_good)
			out[n++] = known[i].last_good;
	}
	return n;
}

static const struct istio_names names = {.arg = known, .addresses = addresses};

static const struct istio_node *node(void)
{
	static struct istio_node n;

	n = t_node;
	n.names = &names;
	return &n;
}

static void assert_endpoints(const struct t_mesh *m, const char *cluster, const char *expected)
{
	Foil__Conf__Endpoints *e = t_endpoints(m, cluster);
	char text[512] = "";

	assert_non_null(e);
	for (size_t i = 0; i < e->n_endpoints; i++) {
		size_t n = strlen(text);
		(void)snprintf(text + n, sizeof(text) - n, "%s%s:%u", i ? " " : "", e->endpoints[i]->address, e->endpoints[i]->port);
	}
	assert_string_equal(text, expected);
	foil__conf__endpoints__free_unpacked(e, NULL);
}

static void assert_names(const struct t_mesh *m, const char *expected)
{
	char text[512] = "";

	for (size_t i = 0; i < m->snapshot->n_names; i++) {
		size_t n = strlen(text);
		(void)snprintf(text + n, sizeof(text) - n, "%s%s", i ? " " : "", m->snapshot->names[i]);
	}
	assert_string_equal(text, expected);
}

static void test_the_host_itself_is_resolved(void **state)
{
	struct t_mesh *m = t_mesh_at(node(), T_GATEWAY, SE("one", "hosts: [ONE.test], resolution: DNS, " PORT),
				     SE("gone", "hosts: [gone.test], resolution: DNS, " PORT), ROUTE("a", "one.test"), ROUTE("b", "gone.test"), NULL);
	Foil__Conf__Cluster *c = t_cluster(m, "outbound|80||one.test");

	t_assert_no_diags(m);
	assert_false(c->is_original_dst);
	assert_endpoints(m, "outbound|80||one.test", "198.19.0.10:8000 198.19.0.11:8000");
	assert_endpoints(m, "outbound|80||gone.test", ""); /* 503 UH, as a recording of Envoy has it */
	assert_names(m, "gone.test one.test");
	assert_int_equal(m->snapshot->dns_refresh_us, 60000000);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = t_mesh_new(T_GATEWAY, SE("one", "hosts: [one.test], resolution: DNS, " PORT), ROUTE("a", "one.test"), NULL); /* without a resolver */
	assert_endpoints(m, "outbound|80||one.test", "");
	assert_names(m, "one.test");
	t_mesh_free(m);
	(void)state;
}

static void test_endpoints_that_are_names_keep_what_is_said_of_them(void **state)
{
	struct t_mesh *m = t_mesh_at(node(), T_GATEWAY,
				     SE("s", "hosts: ['*.s.test', s.test], resolution: DNS, " PORT ", endpoints: [{address: One.test, ports: {http: 9999}, "
					     "weight: 3, locality: r/z, labels: {version: v1}}, {address: 198.19.0.40, labels: {version: v2}}, "
					     "{address: two.test}]"),
				     "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: s, namespace: app}\nspec: {host: s.test, "
				     "subsets: [{name: v1, labels: {version: v1}}]}\n",
				     "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: app}\nspec:\n"
				     "  hosts: [a.example.com]\n  gateways: [istio-system/main]\n  http:\n"
				     "  - {match: [{uri: {prefix: /1}}], route: [{destination: {host: s.test, subset: v1, port: {number: 80}}}]}\n"
				     "  - {route: [{destination: {host: s.test, port: {number: 80}}}]}\n", NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, "outbound|80||s.test");

	t_assert_no_diags(m);
	assert_endpoints(m, "outbound|80||s.test", "198.19.0.10:9999 198.19.0.11:9999 198.19.0.40:8000 198.19.0.20:8000");
	assert_endpoints(m, "outbound|80|v1|s.test", "198.19.0.10:9999 198.19.0.11:9999");
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(e->endpoints[i]->weight, 3);
		assert_string_equal(e->endpoints[i]->locality, "r/z");
		assert_string_equal(e->endpoints[i]->version, "v1");
	}
	assert_names(m, "one.test two.test");
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_round_robin_has_one_address_and_keeps_the_last(void **state)
{
	struct t_mesh *m = t_mesh_at(node(), T_GATEWAY, SE("one", "hosts: [one.test], resolution: DNS_ROUND_ROBIN, " PORT),
				     SE("gone", "hosts: [gone.test], resolution: DNS_ROUND_ROBIN, " PORT), ROUTE("a", "one.test"), ROUTE("b", "gone.test"),
				     NULL);

	t_assert_no_diags(m);
	assert_endpoints(m, "outbound|80||one.test", "198.19.0.10:8000");
	assert_endpoints(m, "outbound|80||gone.test", "198.19.0.30:8000");
	t_mesh_free(m);
	(void)state;
}

static void test_workload_entries_may_be_names_where_they_are_resolved(void **state)
{
	static const char entry[] = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, namespace: app}\n"
				    "spec: {address: one.test, labels: {app: s}, weight: 2}\n";
	struct t_mesh *m = t_mesh_at(node(), T_GATEWAY, SE("s", "hosts: [s.test], resolution: DNS, " PORT ", workloadSelector: {labels: {app: s}}"),
				     SE("t", "hosts: [t.test], resolution: STATIC, " PORT ", workloadSelector: {labels: {app: s}}"), entry,
				     ROUTE("a", "s.test"), ROUTE("b", "t.test"), NULL);

	assert_endpoints(m, "outbound|80||s.test", "198.19.0.10:8000 198.19.0.11:8000");
	assert_endpoints(m, "outbound|80||t.test", "");
	(void)t_diag(m, "IST0106", "a name (one.test) among the endpoints");
	t_mesh_free(m);
	(void)state;
}

static void test_a_name_service_without_anything_to_resolve_has_no_cluster(void **state)
{
	struct t_mesh *m = t_mesh_at(node(), T_GATEWAY, SE("s", "hosts: [s.test], resolution: DNS, " PORT ", workloadSelector: {labels: {app: nobody}}"),
				     SE("t", "hosts: [t.test], resolution: DNS, " PORT ", endpoints: [{address: one.test, labels: {version: v1}}]"),
				     "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: t, namespace: app}\nspec: {host: t.test, "
				     "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}\n",
				     "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: app}\nspec:\n"
				     "  hosts: [a.example.com]\n  gateways: [istio-system/main]\n  http:\n"
				     "  - {match: [{uri: {prefix: /1}}], route: [{destination: {host: t.test, subset: v1, port: {number: 80}}}]}\n"
				     "  - {match: [{uri: {prefix: /2}}], route: [{destination: {host: t.test, subset: v2, port: {number: 80}}}]}\n"
				     "  - {route: [{destination: {host: s.test, port: {number: 80}}}]}\n", NULL);

	assert_true(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "outbound|80|v1|t.test"));
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "outbound|80|v2|t.test")); /* 503 NC, as recorded of istiod */
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "outbound|80||s.test"));
	assert_names(m, "one.test");
	t_mesh_free(m);
	(void)state;
}

static void test_the_mesh_says_how_often(void **state)
{
	struct t_mesh *m = t_mesh_at(node(), T_GATEWAY, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: "
				     "'dnsRefreshRate: 5s'}\n", NULL);

	t_assert_no_diags(m);
	assert_int_equal(m->snapshot->dns_refresh_us, 5000000);
	t_mesh_free(m);
	(void)state;
}

static const struct istio_resource *resource_of(const struct istio_snapshot *s, const char *name)
{
	for (size_t i = 0; i < s->n_resources; i++)
		if (s->resources[i].type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS && strcmp(s->resources[i].name, name) == 0)
			return &s->resources[i];
	return NULL;
}

static void test_new_addresses_change_the_endpoints_that_use_them_alone(void **state)
{
	static const char *const parts[] = {T_GATEWAY, SE("one", "hosts: [one.test], resolution: DNS, " PORT),
		SE("s", "hosts: [s.test], resolution: DNS, " PORT ", endpoints: [{address: one.test}, {address: two.test}]"),
		SE("two", "hosts: [two.test], resolution: DNS_ROUND_ROBIN, " PORT), ROUTE("a", "one.test"), ROUTE("b", "s.test"), ROUTE("c", "two.test")};
	const char *changed_names[] = {"one.test", "nobody.test"};
	const struct istio_resource *changed;
	size_t n_changed = 9;
	struct t_mesh *m = t_mesh_at(node(), parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6], NULL);
	size_t bytes = istio_snapshot_memory_bytes(m->snapshot);

	assert_int_equal(istio_patch_names(m->snapshot, node(), changed_names, 2, &changed, &n_changed), 0);
	assert_int_equal(n_changed, 0); /* they are what they were */
	known[0].addresses[1] = NULL;
	assert_int_equal(istio_patch_names(m->snapshot, node(), changed_names, 2, &changed, &n_changed), 0);
	assert_int_equal(n_changed, 2);
	assert_endpoints(m, "outbound|80||one.test", "198.19.0.10:8000");
	assert_endpoints(m, "outbound|80||s.test", "198.19.0.10:8000 198.19.0.20:8000");
	assert_string_equal(m->snapshot->version, "v1");
	assert_true(istio_snapshot_memory_bytes(m->snapshot) >= bytes);
	struct t_mesh *fresh = t_mesh_at(node(), parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6], NULL);
	assert_int_equal(fresh->snapshot->n_resources, m->snapshot->n_resources);
	assert_int_equal(fresh->snapshot->n_bytes, m->snapshot->n_bytes);
	for (size_t i = 0; i < fresh->snapshot->n_resources; i++)
		assert_int_equal(fresh->snapshot->resources[i].hash, m->snapshot->resources[i].hash);
	assert_non_null(resource_of(m->snapshot, "outbound|80||two.test"));
	t_mesh_free(fresh);
	t_mesh_free(m);
	known[0].addresses[1] = "198.19.0.11";
	(void)state;
}

/* ---- hosts that requests name ---- */
#define DYN \
	SE("dyn", "hosts: ['*.dyn.test'], resolution: DYNAMIC_DNS, ports: [{number: 80, name: http, protocol: HTTP}, " \
	       "{number: 443, name: tls, protocol: TLS}, {number: 90, name: grpc, protocol: GRPC}]")
#define DYN_ROUTE(subset, port) \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: dyn, namespace: app}\nspec:\n  hosts: ['*.dyn.test']\n" \
	"  gateways: [istio-system/main]\n  http: [{route: [{destination: {host: '*.dyn.test', subset: '" subset "', port: {number: " port "}}}]}]\n"
#define DYN_RULE(policy) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: dyn, namespace: app}\nspec: {host: '*.dyn.test', subsets: [{name: v1, " \
	"labels: {a: b}}], trafficPolicy: {" policy "}}\n"
#define DYN_80 "outbound|80||*.dyn.test"

static void test_hosts_that_requests_name_have_one_cluster_without_endpoints(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, DYN, DYN_ROUTE("", "80"), NULL);
	Foil__Conf__Cluster *c = t_cluster(m, DYN_80);

	t_assert_no_diags(m);
	assert_true(c->is_dynamic);
	assert_int_equal(c->dynamic_port, 80);
	assert_false(c->is_original_dst);
	assert_null(c->tls);
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS, DYN_80));
	assert_names(m, "");
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = t_mesh_new(T_GATEWAY, DYN, DYN_ROUTE("", "90"), NULL);
	c = t_cluster(m, "outbound|90||*.dyn.test");
	assert_int_equal(c->protocol, FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP2);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

/* istiod: the name is told and verified, whatever other names are said; and no subsets. */
static void test_what_a_rule_says_of_hosts_that_requests_name(void **state)
{
	static const struct {
		const char *policy;
		bool sni, san;
	} cases[] = {{DYN_RULE("tls: {mode: SIMPLE}"), true, true}, {DYN_RULE("tls: {mode: SIMPLE, subjectAltNames: [x.test]}"), true, true},
		     {DYN_RULE("tls: {mode: SIMPLE, sni: x.test}"), false, true}, {DYN_RULE("tls: {mode: SIMPLE, insecureSkipVerify: true}"), true, false}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_mesh *m = t_mesh_new(T_GATEWAY, DYN, DYN_ROUTE("", "80"), cases[i].policy, NULL);
		Foil__Conf__Cluster *c = t_cluster(m, DYN_80);
		assert_non_null(c->tls);
		assert_int_equal(c->tls->auto_sni, cases[i].sni);
		assert_int_equal(c->tls->auto_san, cases[i].san);
		foil__conf__cluster__free_unpacked(c, NULL);
		t_mesh_free(m);
	}
	struct t_mesh *m = t_mesh_new(T_GATEWAY, DYN, DYN_ROUTE("", "80"), DYN_RULE("proxyProtocol: {version: V1}"), NULL);
	(void)t_diag(m, "HF0005", "towards hosts that requests name");
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, DYN_80));
	t_mesh_free(m);
	m = t_mesh_new(T_GATEWAY, DYN, DYN_ROUTE("v1", "80"), DYN_RULE("connectionPool: {http: {http1MaxPendingRequests: 3}}"), NULL);
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "outbound|80|v1|*.dyn.test"));
	t_mesh_free(m);
	m = t_mesh_new(T_GATEWAY, DYN, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: m, namespace: app}\nspec:\n"
		       "  hosts: [m.test]\n  gateways: [istio-system/main]\n  http: [{mirror: {host: '*.dyn.test', port: {number: 80}}, "
		       "route: [{destination: {host: '*.dyn.test', port: {number: 80}}}]}]\n", NULL);
	(void)t_diag(m, "HF0006", "no shadow is sent");
	t_mesh_free(m);
	m = t_mesh_new(T_GATEWAY, DYN, DYN_ROUTE("", "80"), DYN_RULE("outlierDetection: {consecutive5xxErrors: 3}"), NULL);
	(void)t_diag(m, "HF0017", "hosts that requests name are not told apart");
	t_mesh_free(m);
	(void)state;
}

#define T_TLS_GATEWAY(hosts) \
	"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: main, namespace: istio-system}\nspec:\n  selector: {istio: ingressgateway}\n" \
	"  servers: [{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: ['" hosts "']}]\n"
#define OPEN(hosts, rules) \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: dyn, namespace: app}\nspec:\n  hosts: ['" hosts "']\n" \
	"  gateways: [istio-system/main]\n  " rules "\n"
#define TO_DYN "route: [{destination: {host: '*.dyn.test', port: {number: 80}}}]"
#define TO_DYN_TLS "route: [{destination: {host: '*.dyn.test', port: {number: 443}}}]"

static void test_gateways_that_lead_any_host_to_wherever_it_is(void **state)
{
	static const struct {
		const char *gateway, *rules, *field; /* field NULL: it is no open proxy */
	} cases[] = {
		{T_GATEWAY, OPEN("*", "http: [{" TO_DYN "}]"), "spec.http[0].route[0].destination.host"},
		{T_GATEWAY, OPEN("*", "http: [{match: [{uri: {prefix: /x}}], directResponse: {status: 404}}, {match: [{uri: {prefix: /a}}], " TO_DYN "}]"),
		 "spec.http[1].route[0].destination.host"},
		{T_GATEWAY, OPEN("*", "http: [{route: [{destination: {host: one.test}, weight: 1}, {destination: {host: '*.dyn.test', port: {number: 80}}, "
				      "weight: 1}]}]"), "spec.http[0].route[1].destination.host"},
		{T_GATEWAY, OPEN("*.dyn.test", "http: [{" TO_DYN "}]"), NULL},
		{T_GATEWAY, OPEN("*", "http: [{rewrite: {authority: a.dyn.test}, " TO_DYN "}]"), NULL},
		{T_GATEWAY, OPEN("*", "http: [{headers: {request: {set: {Host: a.dyn.test}}}, " TO_DYN "}]"), NULL},
		{T_GATEWAY, OPEN("*", "http: [{match: [{authority: {exact: a.dyn.test}}], " TO_DYN "}]"), NULL},
		{T_TLS_GATEWAY("*"), OPEN("*", "tls: [{match: [{sniHosts: ['*']}], " TO_DYN_TLS "}]"), "spec.tls[0].route[0].destination.host"},
		{T_TLS_GATEWAY("*"), OPEN("*", "tls: [{match: [{sniHosts: ['*.dyn.test']}], " TO_DYN_TLS "}]"), NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_mesh *m = t_mesh_new(cases[i].gateway, DYN, T_ONE, cases[i].rules, NULL);
		size_t n = 0;
		for (size_t j = 0; j < m->diags.n; j++)
			n += strcmp(m->diags.list[j].code, "HF0018") == 0;
		assert_int_equal(n, cases[i].field ? 1 : 0);
		if (cases[i].field)
			assert_string_equal(t_diag(m, "HF0018", "an open proxy: every host has this route at Gateway istio-system/main")->field,
					    cases[i].field);
		t_mesh_free(m);
	}
	struct t_mesh *m = t_mesh_new(T_GATEWAY, DYN, OPEN("*", "http:\n  - route: [{destination: {host: '*.dyn.test', port: {number: 80}}}]"), NULL);
	t_assert_at(t_diag(m, "HF0018", "ServiceEntry/app/dyn"), 20, 34, "spec.http[0].route[0].destination.host");
	t_mesh_free(m);
	(void)state;
}

static void test_captured_hosts_that_requests_name(void **state)
{
	static const char *const captured[] = {"203.0.113.0/24"};
	static const char mesh[] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n"
				   "    outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}\n";
	struct istio_node here = t_node;

	here.captured_cidrs = captured;
	here.n_captured_cidrs = 1;
	struct t_mesh *m = t_mesh_at(&here, mesh, DYN, NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "80");
	Foil__Conf__Listener *l = t_listener(m, "::_443");
	Foil__Conf__Cluster *c = t_cluster(m, "outbound|443||*.dyn.test"), *any = t_cluster(m, "AllowAnyDynamicDNSCluster");
	const struct istio_diag *d = t_diag(m, "HF0006", "at ports that have an HTTP service");
	t_assert_at(d, 6, 35, "outboundTrafficPolicy.mode");
	assert_int_equal(r->n_virtual_hosts, 2);
	assert_string_equal(r->virtual_hosts[0]->domains[0], "*.dyn.test");
	assert_string_equal(r->virtual_hosts[1]->name, "allow_any_dynamic_dns");
	assert_string_equal(r->virtual_hosts[1]->routes[0]->route->clusters[0]->cluster, "AllowAnyDynamicDNSCluster");
	assert_string_equal(l->filter_chains[0]->server_names[0], "*.dyn.test");
	assert_string_equal(l->filter_chains[0]->tcp->clusters[0]->cluster, "outbound|443||*.dyn.test");
	assert_true(c->is_dynamic && any->is_dynamic);
	assert_int_equal(c->dynamic_port, 443);
	assert_true(any->use_client_protocol);
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS, "AllowAnyDynamicDNSCluster"));
	foil__conf__route_config__free_unpacked(r, NULL);
	foil__conf__listener__free_unpacked(l, NULL);
	foil__conf__cluster__free_unpacked(c, NULL);
	foil__conf__cluster__free_unpacked(any, NULL);
	t_mesh_free(m);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts_that_requests_name_have_one_cluster_without_endpoints),
		cmocka_unit_test(test_what_a_rule_says_of_hosts_that_requests_name), cmocka_unit_test(test_gateways_that_lead_any_host_to_wherever_it_is),
		cmocka_unit_test(test_captured_hosts_that_requests_name),
		cmocka_unit_test(test_the_host_itself_is_resolved),
		cmocka_unit_test(test_endpoints_that_are_names_keep_what_is_said_of_them),
		cmocka_unit_test(test_round_robin_has_one_address_and_keeps_the_last),
		cmocka_unit_test(test_workload_entries_may_be_names_where_they_are_resolved),
		cmocka_unit_test(test_a_name_service_without_anything_to_resolve_has_no_cluster),
		cmocka_unit_test(test_the_mesh_says_how_often),
		cmocka_unit_test(test_new_addresses_change_the_endpoints_that_use_them_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
