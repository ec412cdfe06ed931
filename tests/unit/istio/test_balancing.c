/* ctrl/istio/load_balancer.c, balancing.c: loadBalancer of DestinationRules and localityLbSetting of MeshConfig in the snapshot
 * (features.md DR-10..20). */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ONE "outbound|8080||one.test"
#define FAR "outbound|8080||far.test"
#define DR(host, policy) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " host ", namespace: app}\nspec:\n  host: " host ".test\n" \
	"  trafficPolicy: {" policy "}\n"
#define LB(policy) DR("one", "loadBalancer: {" policy "}")
#define HASH(policy) LB("consistentHash: {" policy "}")
/* Endpoints .10 r1/z1/a, .11 r1/z1/b, .12 r1/z2, .13 r2/z1 (weight 3), .14 r3, .15 without */
#define FAR_SERVICE \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: far, namespace: app}\nspec:\n  hosts: [far.test]\n" \
	"  resolution: STATIC\n  ports: [{number: 8080, name: http, protocol: HTTP}]\n  endpoints:\n" \
	"  - {address: 198.19.0.10, locality: r1/z1/a, labels: {tier: gold}}\n" \
	"  - {address: 198.19.0.11, locality: r1/z1/b, labels: {tier: gold, rack: '7'}}\n" \
	"  - {address: 198.19.0.12, locality: r1/z2}\n  - {address: 198.19.0.13, locality: r2/z1, weight: 3}\n" \
	"  - {address: 198.19.0.14, locality: r3}\n  - {address: 198.19.0.15}\n"
#define TO_FAR T_VS("  http: [{route: [{destination: {host: far.test, port: {number: 8080}}}]}]\n")
#define OUTLIER ", outlierDetection: {consecutive5xxErrors: 5}"

static struct t_mesh *one_with(const char *rule)
{
	return t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), rule, NULL);
}

static const Foil__Conf__RouteAction *action_of(Foil__Conf__RouteConfig *r)
{
	return t_vhost(r, "web.example.com")->routes[0]->route;
}

/* ---- hashing ---- */
static void test_keys_of_consistent_hash_become_hash_policies(void **state)
{
	struct t_mesh *m = one_with(HASH("httpHeaderName: X-User"));
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	t_assert_no_diags(m);
	assert_int_equal(c->lb, FOIL__CONF__LB_POLICY__LB_RING_HASH);
	assert_false(c->has_ring_size_min);
	assert_int_equal(action_of(r)->n_hash_policies, 1);
	assert_string_equal(action_of(r)->hash_policies[0]->header, "x-user");
	assert_false(action_of(r)->retry->avoid_previous_hosts); /* VS-36 */
	foil__conf__route_config__free_unpacked(r, NULL);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);

	m = one_with(HASH("httpQueryParameterName: k, ringHash: {minimumRingSize: 2048}"));
	r = t_routes(m, "http.80");
	c = t_cluster(m, ONE);
	assert_string_equal(action_of(r)->hash_policies[0]->query_parameter, "k");
	assert_int_equal(c->ring_size_min, 2048);
	foil__conf__route_config__free_unpacked(r, NULL);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);

	m = one_with(HASH("useSourceIp: true, maglev: {tableSize: 251}"));
	r = t_routes(m, "http.80");
	c = t_cluster(m, ONE);
	assert_true(action_of(r)->hash_policies[0]->source_ip);
	assert_int_equal(c->lb, FOIL__CONF__LB_POLICY__LB_MAGLEV);
	assert_int_equal(c->maglev_table_size, 251);
	foil__conf__route_config__free_unpacked(r, NULL);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_cookies_with_and_without_a_ttl(void **state)
{
	struct t_mesh *m = one_with(HASH("httpCookie: {name: sess, path: /p, ttl: 30s, attributes: [{name: SameSite, value: Strict}, {name: Secure}]}, "
					 "minimumRingSize: 7"));
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");
	Foil__Conf__Cluster *c = t_cluster(m, ONE);
	const Foil__Conf__HashPolicy *p = action_of(r)->hash_policies[0];

	assert_string_equal(p->cookie, "sess");
	assert_string_equal(p->cookie_path, "/p");
	assert_true(p->has_cookie_ttl);
	assert_int_equal(p->cookie_ttl_s, 30);
	assert_int_equal(p->n_cookie_attributes, 2);
	assert_string_equal(p->cookie_attributes[0]->value, "Strict");
	assert_string_equal(p->cookie_attributes[1]->name, "Secure");
	assert_int_equal(c->ring_size_min, 7);
	foil__conf__route_config__free_unpacked(r, NULL);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = one_with(HASH("httpCookie: {name: sess}"));
	r = t_routes(m, "http.80");
	assert_false(action_of(r)->hash_policies[0]->has_cookie_ttl);
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	m = one_with(HASH("httpCookie: {name: sess, ttl: 0s}"));
	r = t_routes(m, "http.80");
	assert_true(action_of(r)->hash_policies[0]->has_cookie_ttl);
	assert_int_equal(action_of(r)->hash_policies[0]->cookie_ttl_s, 0);
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_each_destination_adds_its_policy(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, FAR_SERVICE,
				      T_VS("  http: [{route: [{destination: {host: one.test}, weight: 1}, {destination: {host: far.test}, weight: 1}]}]\n"),
				      HASH("httpHeaderName: x-a"), DR("far", "loadBalancer: {consistentHash: {httpHeaderName: x-b}}"), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");

	assert_int_equal(action_of(r)->n_hash_policies, 2);
	assert_string_equal(action_of(r)->hash_policies[0]->header, "x-a");
	assert_string_equal(action_of(r)->hash_policies[1]->header, "x-b");
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_what_is_wrong_with_load_balancers_is_refused(void **state)
{
	static const struct {
		const char *rule, *code, *part;
	} cases[] = {
		{LB("simple: RANDOM, consistentHash: {useSourceIp: true}"), "IST0106", "exclude each other"},
		{HASH("useSourceIp: true, httpHeaderName: x"), "IST0106", "one of"},
		{HASH("httpHeaderName: 'x y'"), "IST0106", "not a header's name"},
		{HASH("useSourceIp: true, maglev: {}"), "IST0106", "needs a tableSize"},
		{HASH("useSourceIp: true, maglev: {tableSize: 252}"), "IST0106", "prime"},
		{HASH("useSourceIp: true, maglev: {tableSize: 5000011}"), "IST0106", "prime"},
		{HASH("useSourceIp: true, maglev: {tableSize: 251}, minimumRingSize: 5"), "IST0106", "one of them"},
		{HASH("useSourceIp: true, maglev: {tableSize: 251}, ringHash: {minimumRingSize: 5}"), "IST0106", "exclude each other"},
		{HASH("useSourceIp: true, minimumRingSize: 8388609"), "IST0106", ""},
		{HASH("httpCookie: {ttl: 1s}"), "IST0106", "needs a name"},
		{HASH("httpCookie: {name: 'a;b'}"), "IST0106", "cannot have"},
		{HASH("httpCookie: {name: a, path: '/;x'}"), "IST0106", "cannot have"},
		{HASH("httpCookie: {name: a, attributes: [{name: 'x;y'}]}"), "IST0106", "attribute"},
		{HASH("minimumRingSize: 5"), "HF0007", "random endpoint"},
		{LB("simple: RANDOM, warmup: {duration: 5s}"), "IST0106", "ROUND_ROBIN and LEAST_REQUEST only"},
		{LB("simple: ROUND_ROBIN, warmup: {aggression: 2}"), "IST0106", "needs a duration"},
		{LB("simple: ROUND_ROBIN, warmup: {duration: 5s, aggression: 0.5}"), "IST0106", ""},
		{LB("localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}"), "IST0106", "add up to 50"},
		{LB("localityLbSetting: {distribute: [{to: {b: 100}}]}"), "IST0106", "needs from"},
		{LB("localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}"), "IST0106", "exclude each other"},
		{LB("localityLbSetting: {failover: [{from: a, to: a}]}"), "IST0106", "is the region"},
		{LB("localityLbSetting: {failover: [{from: a/b, to: c}]}"), "IST0106", "zones and wildcards"},
		{LB("localityLbSetting: {zoneAwareLbSetting: {minClusterSize: 6}}"), "HF0005", "shares of zones"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_mesh *m = one_with(cases[i].rule);
		(void)t_diag(m, cases[i].code, cases[i].part);
		t_mesh_free(m);
	}
	(void)state;
}

static void test_warmup(void **state)
{
	struct t_mesh *m = one_with(LB("simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 25, aggression: 1.5}"));
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	t_assert_no_diags(m);
	assert_int_equal(c->slow_start->window_us, 30000000);
	assert_int_equal(c->slow_start->min_weight_percent, 25);
	assert_int_equal(c->slow_start->aggression_permille, 1500);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = one_with(LB("warmupDurationSecs: 45s"));
	c = t_cluster(m, ONE);
	assert_int_equal(c->slow_start->window_us, 45000000);
	assert_false(c->slow_start->has_min_weight_percent || c->slow_start->has_aggression_permille);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

/* ---- localities ---- */
/* expected: a digit for each endpoint in the order of their addresses, '-' where it is left out. */
static void assert_priorities(const struct istio_node *node, const char *policy, const char *mesh_config, const char *expected)
{
	char rule[1200];
	(void)snprintf(rule, sizeof(rule), DR("far", "%s"), policy);
	struct t_mesh *m = mesh_config ? t_mesh_at(node, T_GATEWAY, FAR_SERVICE, TO_FAR, rule, mesh_config, NULL)
				       : t_mesh_at(node, T_GATEWAY, FAR_SERVICE, TO_FAR, rule, NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, FAR);
	char found[7] = "------";

	for (size_t i = 0; i < e->n_endpoints; i++)
		found[strtoul(e->endpoints[i]->address + 9, NULL, 10) - 10] = (char)('0' + e->endpoints[i]->priority);
	if (strcmp(found, expected) != 0)
		fail_msg("%s: %s, not %s", policy, found, expected);
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
}

static const struct istio_node *node_at(const char *locality)
{
	static const char *const keys[] = {"tier", "rack"}, *const values[] = {"gold", "7"};
	static struct istio_node n;

	n = t_node;
	n.locality = locality;
	n.label_keys = keys;
	n.label_values = values;
	n.n_labels = 2;
	return &n;
}

#define RANDOM_LB "loadBalancer: {simple: RANDOM}"
static void test_failover_is_by_locality_when_outliers_are_detected(void **state)
{
	assert_priorities(node_at("r1/z1/a"), RANDOM_LB, NULL, "000000"); /* no outlier detection */
	assert_priorities(node_at("r1/z1/a"), RANDOM_LB OUTLIER, NULL, "012333");
	assert_priorities(node_at("r2/z1"), RANDOM_LB OUTLIER, NULL, "111011");
	assert_priorities(node_at("r4"), RANDOM_LB OUTLIER, NULL, "000000"); /* all of them elsewhere: compressed */
	assert_priorities(node_at(NULL), RANDOM_LB OUTLIER, NULL, "111110"); /* the one without a locality is as near as it gets */
	assert_priorities(node_at("r1/z1/a"), "loadBalancer: {localityLbSetting: {enabled: false}}" OUTLIER, NULL, "000000");
	(void)state;
}

static void test_failover_regions_come_before_others(void **state)
{
	assert_priorities(node_at("r1/z1/a"), "loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}]}}" OUTLIER, NULL, "012434");
	assert_priorities(node_at("r2/z1"), "loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}, {from: r2, to: r1}]}}" OUTLIER, NULL, "111022");
	(void)state;
}

static void test_failover_priority_compares_labels(void **state)
{
	assert_priorities(node_at("r1/z1/a"), "loadBalancer: {localityLbSetting: {failoverPriority: [tier, rack]}}" OUTLIER, NULL, "102222");
	assert_priorities(node_at("r1/z1/a"), "loadBalancer: {localityLbSetting: {failoverPriority: ['tier=gold']}}" OUTLIER, NULL, "001111");
	assert_priorities(node_at("r1/z1/a"), "loadBalancer: {localityLbSetting: {failoverPriority: [topology.kubernetes.io/region, "
			  "topology.kubernetes.io/zone]}}" OUTLIER, NULL, "001222");
	assert_priorities(node_at("r1/z1/a"), "loadBalancer: {localityLbSetting: {failoverPriority: [tier], failover: [{from: r1, to: r2}]}}" OUTLIER, NULL,
			  "012344");
	(void)state;
}

#define MESH_LOCALITY(setting) \
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    localityLbSetting: {" setting "}\n"
static void test_the_meshs_setting_holds_where_the_rule_has_none(void **state)
{
	assert_priorities(node_at("r1/z1/a"), RANDOM_LB OUTLIER, MESH_LOCALITY("enabled: false"), "000000");
	assert_priorities(node_at("r1/z1/a"), RANDOM_LB OUTLIER, MESH_LOCALITY("failover: [{from: r1, to: r3}]"), "012434");
	assert_priorities(node_at("r1/z1/a"), "loadBalancer: {localityLbSetting: {enabled: true}}" OUTLIER, MESH_LOCALITY("failover: [{from: r1, to: r3}]"),
			  "012333"); /* replaced, not merged */
	(void)state;
}

static void assert_weights(const char *locality, const char *distribute, const char *endpoints, const char *weights)
{
	char policy[800], rule[1200], found[200] = "";
	size_t n = 0;
	(void)snprintf(policy, sizeof(policy), "loadBalancer: {localityLbSetting: {distribute: [%s]}}", distribute);
	(void)snprintf(rule, sizeof(rule), DR("far", "%s"), policy);
	struct t_mesh *m = t_mesh_at(node_at(locality), T_GATEWAY, FAR_SERVICE, TO_FAR, rule, NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, FAR);

	assert_priorities(node_at(locality), policy, NULL, endpoints);
	for (size_t i = 0; i < e->n_locality_weights; i++)
		n += (size_t)snprintf(found + n, sizeof(found) - n, "%s=%u ", e->locality_weights[i]->locality, e->locality_weights[i]->weight);
	assert_string_equal(found, weights);
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
}

static void test_distribute_weighs_localities_and_leaves_out_the_rest(void **state)
{
	assert_weights("r1/z1/a", "{from: r1/z1/*, to: {'r1/z1/*': 80, 'r1/z2/*': 20}}", "000---", "r1/z1/a=40 r1/z1/b=40 r1/z2=20 ");
	assert_weights("r1/z1/a", "{from: r9, to: {r1: 100}}, {from: r1, to: {'r2/*': 70, r3: 30}}", "---00-", "r2/z1=70 r3=30 ");
	assert_weights("r1/z1/a", "{from: '*', to: {'*': 100}}", "000000", "r1/z1/a=13 r1/z1/b=13 r1/z2=13 r2/z1=38 r3=13 =13 ");
	assert_weights("r1/z1/a", "{from: r1, to: {'*': 40, r1/z1/a: 60}}", "000000", "r1/z1/a=60 r1/z1/b=6 r1/z2=6 r2/z1=18 r3=6 =6 ");
	assert_weights("r7", "{from: r1, to: {r1: 100}}", "000000", "");
	(void)state;
}

#define NODE(name, labels) "apiVersion: v1\nkind: Node\nmetadata: {name: " name ", labels: {" labels "}}\n"
static void test_endpoints_stand_where_their_nodes_stand(void **state)
{
	static const char *const wanted[] = {"r1/z1/a", "r2/z2", "r9/z9/s9", "/z3", "r3"};
	struct t_mesh *m = t_mesh_new(
		NODE("n1", "topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1, topology.istio.io/subzone: a"),
		NODE("n2", "failure-domain.beta.kubernetes.io/region: r2, failure-domain.beta.kubernetes.io/zone: z2"),
		NODE("n3", "topology.kubernetes.io/region: r3"), NODE("n4", "rack: '4'"),
		"apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {clusterIP: 198.18.10.1, ports: [{name: http, port: 80}]}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: p1, namespace: shop}\nspec: {nodeName: n1}\nstatus: {podIP: 10.0.0.1, phase: Running}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: p3, namespace: shop, labels: {istio-locality: r9.z9.s9}}\nspec: {nodeName: n1}\n"
		"status: {podIP: 10.0.0.3, phase: Running}\n",
		"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
		"metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}\nports: [{name: http, port: 8080}]\nendpoints:\n"
		"- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: p1}}\n- {addresses: [10.0.0.2], nodeName: n2, zone: other}\n"
		"- {addresses: [10.0.0.3], targetRef: {kind: Pod, name: p3}}\n- {addresses: [10.0.0.4], nodeName: n4, zone: z3}\n"
		"- {addresses: [10.0.0.5], nodeName: n3}\n", NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, "outbound|80||cart.shop.svc.cluster.local");

	assert_int_equal(e->n_endpoints, 5);
	for (int i = 0; i < 5; i++)
		assert_string_equal(e->endpoints[i]->locality, wanted[i]);
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_of_consistent_hash_become_hash_policies),
		cmocka_unit_test(test_cookies_with_and_without_a_ttl),
		cmocka_unit_test(test_each_destination_adds_its_policy),
		cmocka_unit_test(test_what_is_wrong_with_load_balancers_is_refused),
		cmocka_unit_test(test_warmup),
		cmocka_unit_test(test_failover_is_by_locality_when_outliers_are_detected),
		cmocka_unit_test(test_failover_regions_come_before_others),
		cmocka_unit_test(test_failover_priority_compares_labels),
		cmocka_unit_test(test_the_meshs_setting_holds_where_the_rule_has_none),
		cmocka_unit_test(test_distribute_weighs_localities_and_leaves_out_the_rest),
		cmocka_unit_test(test_endpoints_stand_where_their_nodes_stand),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
