/* ctrl/istio/clusters.c: DestinationRules into clusters (features.md DR), with the defaults that a real istiod was seen to give. */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <string.h>

#define ONE "outbound|8080||one.test"

static struct t_mesh *with_policy(const char *policy)
{
	char text[1000];

	(void)snprintf(text, sizeof(text), "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: one, namespace: app}\nspec:\n  host: "
		       "one.test\n  %s\n", policy);
	return t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), text, NULL);
}

static void test_a_cluster_without_a_rule_has_istios_defaults(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	assert_int_equal(c->lb, FOIL__CONF__LB_POLICY__LB_LEAST_REQUEST);
	assert_int_equal(c->protocol, FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP1);
	assert_int_equal(c->connect_timeout_us, 10000000);
	assert_int_equal(c->idle_timeout_us, 3600000000);
	assert_false(c->circuit_breaker->has_max_connections || c->circuit_breaker->has_max_pending_requests || c->circuit_breaker->has_max_requests ||
		     c->circuit_breaker->has_max_retries);
	assert_null(c->outlier);
	assert_int_equal(c->panic_threshold_percent, 0);
	assert_int_equal(c->tcp_keepalive_idle_us, 0);
	assert_int_equal(c->max_requests_per_connection, 0);
	assert_string_equal(c->service_host, "one.test");
	assert_string_equal(c->service_name, "one.test");
	assert_string_equal(c->service_namespace, "app");
	assert_string_equal(c->source->resource, "ServiceEntry/app/one");
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_balancing_policies(void **state)
{
	static const struct {
		const char *policy;
		Foil__Conf__LbPolicy lb;
		bool original_dst;
	} cases[] = {{"trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}", FOIL__CONF__LB_POLICY__LB_ROUND_ROBIN, false},
		     {"trafficPolicy: {loadBalancer: {simple: RANDOM}}", FOIL__CONF__LB_POLICY__LB_RANDOM, false},
		     {"trafficPolicy: {loadBalancer: {simple: LEAST_LATENCY}}", FOIL__CONF__LB_POLICY__LB_LEAST_LATENCY, false},
		     {"trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}", FOIL__CONF__LB_POLICY__LB_LEAST_REQUEST, false},
		     {"trafficPolicy: {loadBalancer: {simple: UNSPECIFIED}}", FOIL__CONF__LB_POLICY__LB_LEAST_REQUEST, false},
		     {"trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}", FOIL__CONF__LB_POLICY__LB_LEAST_REQUEST, true}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_mesh *m = with_policy(cases[i].policy);
		Foil__Conf__Cluster *c = t_cluster(m, ONE);
		assert_int_equal(c->lb, cases[i].lb);
		assert_int_equal(c->is_original_dst, cases[i].original_dst);
		assert_int_equal(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS, ONE), !cases[i].original_dst);
		foil__conf__cluster__free_unpacked(c, NULL);
		t_mesh_free(m);
	}
	(void)state;
}

/* DR-3: block by block, under everything that a rule says. */
static void test_meshs_default_policy_is_under_every_rule(void **state)
{
	static const char mesh[] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n"
				   "    defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}, outlierDetection: {consecutive5xxErrors: 9}}\n";
	static const struct {
		const char *policy;
		uint32_t connections, requests, errors;
	} cases[] = {{"", 7, 0, 9}, {"trafficPolicy: {connectionPool: {http: {http2MaxRequests: 3}}}", 0, 3, 9},
		     {"trafficPolicy: {outlierDetection: {consecutive5xxErrors: 4}}", 7, 0, 4},
		     {"trafficPolicy: {outlierDetection: {consecutive5xxErrors: 4}, portLevelSettings: [{port: {number: 8080}, loadBalancer: "
		      "{simple: RANDOM}}]}", 7, 0, 9}};
	char text[1000];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text), "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: one, namespace: app}\nspec:\n"
			       "  host: one.test\n  %s\n", cases[i].policy);
		struct t_mesh *m = t_mesh_new(mesh, T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), cases[i].policy[0] ? text : "# nothing\n", NULL);
		Foil__Conf__Cluster *c = t_cluster(m, ONE);
		assert_int_equal(c->circuit_breaker->max_connections, cases[i].connections);
		assert_int_equal(c->circuit_breaker->max_requests, cases[i].requests);
		assert_int_equal(c->outlier->consecutive_5xx, cases[i].errors);
		foil__conf__cluster__free_unpacked(c, NULL);
		t_mesh_free(m);
	}
	(void)state;
}

static void test_health_checks_are_those_of_the_endpoints(void **state)
{
	struct t_mesh *m = with_policy("trafficPolicy: {healthCheck: {httpGet: {path: /ok, headers: {X-A: b}, expectedStatuses: ['200-299', '404']}, "
				       "interval: 3s, unhealthyThreshold: 1}}");
	Foil__Conf__Endpoints *e = t_endpoints(m, ONE);

	t_assert_no_diags(m);
	assert_int_equal(e->n_health_checks, 1);
	for (size_t i = 0; i < e->n_endpoints; i++)
		assert_int_equal(e->endpoints[i]->health_check, 1);
	const Foil__Conf__HealthCheck *h = e->health_checks[0];
	assert_int_equal(h->kind_case, FOIL__CONF__HEALTH_CHECK__KIND_HTTP);
	assert_string_equal(h->http->path, "/ok");
	assert_string_equal(h->http->host, "one.test");
	assert_string_equal(h->http->headers[0]->name, "x-a");
	assert_int_equal(h->http->n_expected, 2);
	assert_int_equal(h->http->expected[0]->to, 299);
	assert_int_equal(h->http->expected[1]->from, 404);
	assert_int_equal(h->http->expected[1]->to, 404);
	assert_int_equal(h->interval_us, 3000000);
	assert_int_equal(h->timeout_us, 1000000);
	assert_int_equal(h->no_traffic_interval_us, 60000000);
	assert_int_equal(h->healthy_threshold, 2);
	assert_int_equal(h->unhealthy_threshold, 1);
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	m = with_policy("trafficPolicy: {healthCheck: {grpc: {service: a.B, port: 99}}}");
	e = t_endpoints(m, ONE);
	assert_string_equal(e->health_checks[0]->grpc->service, "a.B");
	assert_string_equal(e->health_checks[0]->grpc->authority, "one.test");
	assert_int_equal(e->health_checks[0]->port, 99);
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	static const struct {
		const char *check, *says;
	} bad[] = {{"{interval: 1s}", "exactly one of httpGet"}, {"{tcpSocket: {}, grpc: {}}", "exactly one of httpGet"},
		   {"{httpGet: {path: ok}}", "does not begin with"}, {"{httpGet: {expectedStatuses: ['20']}}", "neither a status"},
		   {"{httpGet: {expectedStatuses: ['300-200']}}", "neither a status"}, {"{httpGet: {headers: {'a b': c}}}", "no header's name"},
		   {"{httpGet: {host: a/b}}", "is not a host"}, {"{grpc: {authority: 'a b'}}", "is not a host"}};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[200];
		(void)snprintf(text, sizeof(text), "trafficPolicy: {healthCheck: %s}", bad[i].check);
		m = with_policy(text);
		(void)t_diag(m, "IST0106", bad[i].says);
		t_mesh_free(m);
	}
	(void)state;
}

static void test_pool_limits_and_that_zero_means_none(void **state)
{
	struct t_mesh *m = with_policy("trafficPolicy: {connectionPool: {tcp: {maxConnections: 7, connectTimeout: 1s, maxConnectionDuration: 1h, "
				       "tcpKeepalive: {}},"
				       " http: {http1MaxPendingRequests: 3, http2MaxRequests: 9, maxRetries: 2, maxRequestsPerConnection: 1, idleTimeout: "
					       "0s}}}");
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	assert_int_equal(c->circuit_breaker->max_connections, 7);
	assert_int_equal(c->circuit_breaker->max_pending_requests, 3);
	assert_int_equal(c->circuit_breaker->max_requests, 9);
	assert_int_equal(c->circuit_breaker->max_retries, 2);
	assert_int_equal(c->max_requests_per_connection, 1);
	assert_int_equal(c->connect_timeout_us, 1000000);
	assert_int_equal(c->max_connection_duration_us, 3600000000);
	assert_int_equal(c->idle_timeout_us, 0);
	assert_int_equal(c->tcp_keepalive_idle_us, 7200000000); /* set and empty: the kernel's (DR-24) */
	assert_int_equal(c->tcp_keepalive_interval_us, 75000000);
	assert_int_equal(c->tcp_keepalive_probes, 9);
	assert_string_equal(c->source->resource, "DestinationRule/app/one");
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = with_policy("trafficPolicy: {connectionPool: {tcp: {maxConnections: 0, idleTimeout: 10s}, http: {http1MaxPendingRequests: 0}}}");
	c = t_cluster(m, ONE);
	assert_false(c->circuit_breaker->has_max_connections || c->circuit_breaker->has_max_pending_requests); /* DR-31 */
	assert_int_equal(c->idle_timeout_us, 10000000);                                                          /* DR-26 */
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_what_upstream_connections_tell_and_bear(void **state)
{
	struct t_mesh *m = with_policy("trafficPolicy: {proxyProtocol: {version: V2}, retryBudget: {percent: 12.5, minRetryConcurrency: 4}, "
				       "connectionPool: {http: {maxConcurrentStreams: 8, http2KeepAlive: {interval: 30s, timeout: 5s}}}}");
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	assert_int_equal(c->proxy_protocol, FOIL__CONF__PROXY_PROTOCOL__PROXY_PROTOCOL_V2);
	assert_int_equal(c->circuit_breaker->retry_budget_permille, 125);
	assert_int_equal(c->circuit_breaker->retry_budget_min, 4);
	assert_int_equal(c->max_concurrent_streams, 8);
	assert_int_equal(c->h2_ping_interval_us, 30000000);
	assert_int_equal(c->h2_ping_timeout_us, 5000000);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = with_policy("trafficPolicy: {proxyProtocol: {}, retryBudget: {}}"); /* V1, and Istio's defaults: DR-32 */
	c = t_cluster(m, ONE);
	assert_int_equal(c->proxy_protocol, FOIL__CONF__PROXY_PROTOCOL__PROXY_PROTOCOL_V1);
	assert_int_equal(c->circuit_breaker->retry_budget_permille, 200);
	assert_int_equal(c->circuit_breaker->retry_budget_min, 3);
	assert_false(c->circuit_breaker->has_retry_budget_interval_us);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

/* A DestinationRule of one.test in a namespace, that is told by its connect timeout. */
#define SELECTED(name, namespace, selector, seconds) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " name ", namespace: " namespace "}\nspec: {host: one.test" selector \
		", trafficPolicy: {connectionPool: {tcp: {connectTimeout: " seconds "s}}}}\n"
#define BY(labels) ", workloadSelector: {matchLabels: {" labels "}}"

/* Recorded with the oracle: a gateway of the root namespace. */
static void test_a_rule_for_some_clients(void **state)
{
	static const struct {
		const char *rules[3];
		unsigned int seconds;
	} cases[] = {{{SELECTED("a", "istio-system", BY("istio: ingressgateway"), "3")}, 3},
		     {{SELECTED("a", "istio-system", BY(""), "3")}, 3},
		     {{SELECTED("a", "app", BY("istio: ingressgateway"), "3")}, 10}, /* not the client's namespace */
		     {{SELECTED("a", "istio-system", BY("istio: other"), "3")}, 10},
		     /* that one hides those of the service's namespace, but not its own namespace's for everyone */
		     {{SELECTED("a", "istio-system", BY("istio: other"), "3"), SELECTED("b", "app", "", "4")}, 10},
		     {{SELECTED("a", "app", BY("istio: other"), "3"), SELECTED("b", "app", "", "4")}, 4},
		     {{SELECTED("a", "istio-system", BY("istio: other"), "3"), SELECTED("b", "istio-system", "", "4")}, 4},
		     {{SELECTED("a", "istio-system", "", "4"), SELECTED("b", "istio-system", BY("istio: ingressgateway"), "3")}, 3},
		     {{SELECTED("a", "istio-system", BY("istio: other"), "2"), SELECTED("b", "istio-system", BY("istio: ingressgateway"), "3"),
		       SELECTED("c", "istio-system", BY(""), "5")}, 3}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), cases[i].rules[0], cases[i].rules[1], cases[i].rules[2],
					      NULL);
		Foil__Conf__Cluster *c = t_cluster(m, ONE);
		t_assert_no_diags(m);
		if (c->connect_timeout_us != cases[i].seconds * 1000000u)
			fail_msg("case %zu: connect timeout %llu us", i, (unsigned long long)c->connect_timeout_us);
		foil__conf__cluster__free_unpacked(c, NULL);
		t_mesh_free(m);
	}
	(void)state;
}

static void test_outlier_detection_defaults_and_values(void **state)
{
	struct t_mesh *m = with_policy("trafficPolicy: {outlierDetection: {}}");
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	assert_int_equal(c->outlier->consecutive_5xx, 5); /* DR-36 */
	assert_int_equal(c->outlier->consecutive_gateway_errors, 0);
	assert_int_equal(c->outlier->interval_us, 10000000);
	assert_int_equal(c->outlier->base_ejection_us, 30000000);
	assert_int_equal(c->outlier->max_ejection_us, 300000000);
	assert_int_equal(c->outlier->max_ejection_percent, 10);
	assert_int_equal(c->outlier->consecutive_local_origin_failures, 0);
	assert_string_equal(t_diag(m, "HF0007", "never ejects anything")->resource, "DestinationRule/app/one"); /* DR-41 */
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = with_policy("trafficPolicy: {outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, splitExternalLocalOriginErrors: true, "
			"interval: 1s,"
			" baseEjectionTime: 10m, maxEjectionPercent: 100, minHealthPercent: 20, outlierDetectionHttpErrorCodes: [500, 599]}}");
	c = t_cluster(m, ONE);
	assert_int_equal(c->outlier->consecutive_5xx, 0);
	assert_int_equal(c->outlier->consecutive_gateway_errors, 3);
	assert_true(c->outlier->split_external_local_origin);
	assert_int_equal(c->outlier->consecutive_local_origin_failures, 5);
	assert_int_equal(c->outlier->interval_us, 1000000);
	assert_int_equal(c->outlier->max_ejection_us, 600000000);
	assert_int_equal(c->outlier->max_ejection_percent, 100);
	assert_int_equal(c->outlier->n_error_codes, 2);
	assert_int_equal(c->panic_threshold_percent, 20);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

static uint64_t connect_s(const char *rule, const char *cluster)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_WEB, rule,
				      T_VS("  http:\n  - {match: [{uri: {prefix: /s}}], route: [{destination: {host: web.test, subset: v1, port: {number: "
					   "8080}}}]}\n"
					   "  - route: [{destination: {host: web.test, port: {number: 8080}}}]\n"), NULL);
	Foil__Conf__Cluster *c = t_cluster(m, cluster);
	uint64_t s = c->connect_timeout_us / 1000000;

	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	return s;
}

#define TIMEOUT(s) "connectionPool: {tcp: {connectTimeout: " s "s}}"
#define RULE(top, sub) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: app}\nspec: {host: web.test, trafficPolicy: {" top "}," \
	" subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {" sub "}}]}\n"

/* DR-3: the port's settings over the destination's, the subset's over the rule's; a port's entry drops the blocks that it leaves out. */
static void test_which_policy_is_in_force(void **state)
{
	static const char all[] = "outbound|8080||web.test", v1[] = "outbound|8080|v1|web.test";

	assert_int_equal(connect_s(RULE(TIMEOUT("2"), ""), all), 2);
	assert_int_equal(connect_s(RULE(TIMEOUT("2"), ""), v1), 2);
	assert_int_equal(connect_s(RULE(TIMEOUT("2"), TIMEOUT("3")), v1), 3);
	assert_int_equal(connect_s(RULE(TIMEOUT("2") ", portLevelSettings: [{port: {number: 8080}, " TIMEOUT("4") "}]", ""), all), 4);
	assert_int_equal(connect_s(RULE(TIMEOUT("2") ", portLevelSettings: [{port: {number: 8080}, loadBalancer: {simple: RANDOM}}]", ""), all), 10);
	assert_int_equal(connect_s(RULE(TIMEOUT("2") ", portLevelSettings: [{port: {number: 9000}, " TIMEOUT("4") "}]", ""), all), 2);
	assert_int_equal(connect_s(RULE(TIMEOUT("2"), TIMEOUT("3") ", portLevelSettings: [{port: {number: 8080}, " TIMEOUT("5") "}]"), v1), 5);
	assert_int_equal(connect_s(RULE(TIMEOUT("2"), "portLevelSettings: [{port: {number: 8080}, loadBalancer: {simple: RANDOM}}]"), v1), 10);
	(void)state;
}

static void test_subsets_take_endpoints_by_label(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_WEB, "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: "
				      "app}\nspec:\n  host: web.test\n"
				      "  subsets: [{name: v1, labels: {version: v1}}, {name: all}, {name: none, labels: {version: v3}}]\n",
				      T_VS("  http:\n  - {match: [{uri: {prefix: /1}}], route: [{destination: {host: web.test, subset: v1, port: {number: "
					   "8080}}}]}\n"
					   "  - {match: [{uri: {prefix: /a}}], route: [{destination: {host: web.test, subset: all, port: {number: 8080}}}]}\n"
					   "  - {match: [{uri: {prefix: /n}}], route: [{destination: {host: web.test, subset: none, port: {number: 8080}}}]}\n"
					   "  - {match: [{uri: {prefix: /m}}], route: [{destination: {host: web.test, subset: missing, port: {number: "
						   "8080}}}]}\n"), NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, "outbound|8080|v1|web.test");

	assert_int_equal(e->n_endpoints, 1);
	assert_string_equal(e->endpoints[0]->address, "198.19.0.10");
	assert_int_equal(e->endpoints[0]->port, 8080);
	assert_string_equal(e->endpoints[0]->version, "v1");
	foil__conf__endpoints__free_unpacked(e, NULL);
	e = t_endpoints(m, "outbound|8080|all|web.test");
	assert_int_equal(e->n_endpoints, 2);
	foil__conf__endpoints__free_unpacked(e, NULL);
	e = t_endpoints(m, "outbound|8080|none|web.test"); /* a cluster without endpoints: UH (DR-4) */
	assert_int_equal(e->n_endpoints, 0);
	foil__conf__endpoints__free_unpacked(e, NULL);
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "outbound|8080|missing|web.test")); /* none at all: NC (VS-20) */
	(void)t_diag(m, "IST0101", "has the subset missing");
	t_mesh_free(m);
	(void)state;
}

static void test_two_rules_of_one_host_are_merged(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_WEB, RULE(TIMEOUT("2"), ""),
				      "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web2, namespace: app}\nspec: {host: "
					      "web.test, trafficPolicy: {" TIMEOUT("9")
				      "}, subsets: [{name: v2, labels: {version: v2}}, {name: v1, labels: {x: z}}]}\n",
				      T_VS("  http: [{route: [{destination: {host: web.test, subset: v2, port: {number: 8080}}}]}]\n"), NULL);
	Foil__Conf__Cluster *c = t_cluster(m, "outbound|8080|v2|web.test");

	assert_int_equal(c->connect_timeout_us, 2000000);
	(void)t_diag(m, "HF0013", "its trafficPolicy is used");
	(void)t_diag(m, "HF0013", "the subset v1 is already one of");
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_the_most_specific_rule_of_the_right_namespace_is_used(void **state)
{
#define DR(name, ns, host, s) \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " name ", namespace: " ns "}\nspec: {host: '" host "', trafficPolicy: " \
		"{" TIMEOUT(s) "}}\n"
	static const char *const vs = T_VS("  http: [{" T_TO_ONE "}]\n");
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, vs, DR("a", "app", "*.test", "2"), DR("b", "app", "*", "3"),
				      DR("c", "istio-system", "one.test", "4"), NULL);
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	assert_int_equal(c->connect_timeout_us, 2000000); /* of the service's namespace, before the root's; the longer wildcard */
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = t_mesh_new(T_GATEWAY, T_ONE, vs, DR("c", "istio-system", "one.test", "4"), DR("d", "other", "one.test", "5"), NULL);
	c = t_cluster(m, ONE);
	assert_int_equal(c->connect_timeout_us, 4000000);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
#undef DR
}

static void test_tls_that_cannot_be_made_is_refused_and_nothing_goes_there_in_plaintext(void **state)
{
	struct t_mesh *m = with_policy("trafficPolicy: {tls: {mode: MUTUAL, caCertificates: /x}}");
	(void)t_diag(m, "IST0106", "mode MUTUAL needs credentialName");
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, ONE));
	t_mesh_free(m);
	m = with_policy("trafficPolicy: {tls: {mode: DISABLE}}");
	Foil__Conf__Cluster *c = t_cluster(m, ONE);
	assert_null(c->tls);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_assert_no_diags(m);
	t_mesh_free(m);
	(void)state;
}

static void test_tls_towards_a_destination(void **state)
{
	struct t_mesh *m = with_policy("trafficPolicy: {tls: {mode: SIMPLE}}"); /* DR-49: the request's host */
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	assert_true(c->tls->auto_sni && c->tls->auto_san);
	assert_null(c->tls->sni);
	assert_null(c->tls->ca_secret);
	assert_null(c->tls->secret);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = with_policy("trafficPolicy: {tls: {mode: MUTUAL, sni: X.test, credentialName: cred, subjectAltNames: [a, b]}}");
	c = t_cluster(m, ONE);
	assert_false(c->tls->auto_sni || c->tls->auto_san);
	assert_string_equal(c->tls->sni, "x.test");
	assert_int_equal(c->tls->n_subject_alt_names, 2);
	assert_string_equal(c->tls->secret, "kubernetes://app/cred");
	assert_string_equal(c->tls->ca_secret, "kubernetes://app/cred-cacert");
	(void)t_diag(m, "IST0101", "the Secret \"cred\" is not there");
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = with_policy("trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}");
	c = t_cluster(m, ONE);
	assert_true(c->tls->skip_verify && c->tls->auto_sni);
	assert_false(c->tls->auto_san);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

static struct t_mesh *with_recovery(const char *value, const char *policy)
{
	char text[1000];

	(void)snprintf(text, sizeof(text), "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: one, namespace: app, annotations: "
		       "{hydrofoil.io/outlier-recovery: %s}}\nspec: {host: one.test, trafficPolicy: {%s}}\n", value, policy); /* fits */
	return t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), text, NULL);
}

static void test_recovery_by_a_request_has_linkerds_defaults(void **state)
{
	struct t_mesh *m = with_recovery("probe", "outlierDetection: {}");
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	assert_true(c->outlier->probes);
	assert_int_equal(c->outlier->consecutive_5xx, 7);
	assert_int_equal(c->outlier->base_ejection_us, 1000000);
	assert_int_equal(c->outlier->max_ejection_us, 60000000);
	assert_int_equal(c->outlier->max_ejection_percent, 100);
	assert_int_equal(m->diags.n, 0);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = with_recovery("probe", "outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 90s, maxEjectionPercent: 20}");
	c = t_cluster(m, ONE);
	assert_int_equal(c->outlier->consecutive_5xx, 2);
	assert_int_equal(c->outlier->base_ejection_us, 90000000);
	assert_int_equal(c->outlier->max_ejection_us, 90000000);
	assert_int_equal(c->outlier->max_ejection_percent, 20);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_a_recovery_that_is_none_is_named(void **state)
{
	struct t_mesh *m = with_recovery("request", "outlierDetection: {maxEjectionPercent: 100}");
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	assert_false(c->outlier->probes);
	assert_int_equal(c->outlier->consecutive_5xx, 5);
	(void)t_diag(m, "HF0007", "hydrofoil.io/outlier-recovery is \"request\"");
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	m = with_recovery("probe", "loadBalancer: {simple: RANDOM}");
	(void)t_diag(m, "HF0007", "outlierDetection is not there");
	t_mesh_free(m);
	(void)state;
}

static void test_the_upstream_protocol_is_the_ports(void **state)
{
	static const struct {
		const char *protocol;
		Foil__Conf__UpstreamProtocol upstream;
	} cases[] = {{"HTTP", FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP1}, {"GRPC", FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP2},
		     {"HTTP2", FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP2}, {"TCP", FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP1}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[500];
		(void)snprintf(text, sizeof(text), "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: one, namespace: app}\nspec: "
			       "{hosts: [one.test],"
			       " resolution: STATIC, ports: [{number: 8080, name: p, protocol: %s}], endpoints: [{address: 1.2.3.4}]}\n", cases[i].protocol);
		struct t_mesh *m = t_mesh_new(T_GATEWAY, text, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);
		Foil__Conf__Cluster *c = t_cluster(m, ONE);
		assert_int_equal(c->protocol, cases[i].upstream);
		foil__conf__cluster__free_unpacked(c, NULL);
		t_mesh_free(m);
	}
	(void)state;
}

static void test_mesh_wide_connection_settings(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n"
				      "data: {mesh: '{connectTimeout: 2s, tcpKeepalive: {time: 60s, probes: 3}}'}\n", T_GATEWAY, T_ONE,
					      T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);
	Foil__Conf__Cluster *c = t_cluster(m, ONE);

	t_assert_no_diags(m);
	assert_int_equal(c->connect_timeout_us, 2000000);
	assert_int_equal(c->tcp_keepalive_idle_us, 60000000);
	assert_int_equal(c->tcp_keepalive_probes, 3);
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cluster_without_a_rule_has_istios_defaults),
		cmocka_unit_test(test_balancing_policies),
		cmocka_unit_test(test_meshs_default_policy_is_under_every_rule),
		cmocka_unit_test(test_health_checks_are_those_of_the_endpoints),
		cmocka_unit_test(test_pool_limits_and_that_zero_means_none),
		cmocka_unit_test(test_what_upstream_connections_tell_and_bear),
		cmocka_unit_test(test_a_rule_for_some_clients),
		cmocka_unit_test(test_outlier_detection_defaults_and_values),
		cmocka_unit_test(test_which_policy_is_in_force),
		cmocka_unit_test(test_subsets_take_endpoints_by_label),
		cmocka_unit_test(test_two_rules_of_one_host_are_merged),
		cmocka_unit_test(test_the_most_specific_rule_of_the_right_namespace_is_used),
		cmocka_unit_test(test_tls_that_cannot_be_made_is_refused_and_nothing_goes_there_in_plaintext),
		cmocka_unit_test(test_tls_towards_a_destination),
		cmocka_unit_test(test_recovery_by_a_request_has_linkerds_defaults), cmocka_unit_test(test_a_recovery_that_is_none_is_named),
		cmocka_unit_test(test_the_upstream_protocol_is_the_ports),
		cmocka_unit_test(test_mesh_wide_connection_settings),
	};
	return cmocka_run_group_tests_name("istio.clusters", tests, NULL, NULL);
}
