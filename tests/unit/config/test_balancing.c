/* What balancing is told by a snapshot: hash policies, tables, slow start, priorities, weights of localities; and every field that is refused, by its path. */
#include "tests/unit/config/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *word(const char *s)
{
	return (char *)(uintptr_t)s;
}

struct world {
	Foil__Conf__Cluster cluster;
	Foil__Conf__SlowStart slow_start;
	Foil__Conf__Endpoints endpoints;
	Foil__Conf__Endpoint list[3], *lists[3];
	Foil__Conf__LocalityWeight weights[2], *weight_list[2];
	Foil__Conf__RouteConfig routes;
	Foil__Conf__VirtualHost vhost, *vhosts[1];
	Foil__Conf__Route route, *route_list[1];
	Foil__Conf__RouteMatch match;
	Foil__Conf__RouteAction action;
	Foil__Conf__WeightedCluster target, *targets[1];
	Foil__Conf__HashPolicy policy, *policies[1];
	Foil__Conf__CookieAttribute attribute, *attributes[1];
	char *domains[1];
};

static void join_routes(struct world *w)
{
	foil__conf__route_config__init(&w->routes);
	foil__conf__virtual_host__init(&w->vhost);
	foil__conf__route__init(&w->route);
	foil__conf__route_match__init(&w->match);
	foil__conf__route_action__init(&w->action);
	foil__conf__weighted_cluster__init(&w->target);
	foil__conf__hash_policy__init(&w->policy);
	foil__conf__cookie_attribute__init(&w->attribute);
	w->routes.name = word("r");
	w->vhosts[0] = &w->vhost;
	w->routes.virtual_hosts = w->vhosts;
	w->routes.n_virtual_hosts = w->vhost.n_domains = w->vhost.n_routes = w->action.n_clusters = 1;
	w->domains[0] = word("a.test");
	w->vhost.domains = w->domains;
	w->route_list[0] = &w->route;
	w->vhost.routes = w->route_list;
	w->route.match = &w->match;
	w->route.action_case = FOIL__CONF__ROUTE__ACTION_ROUTE;
	w->route.route = &w->action;
	w->targets[0] = &w->target;
	w->target.cluster = word("c");
	w->action.clusters = w->targets;
	w->policies[0] = &w->policy;
	w->action.hash_policies = w->policies;
	w->action.n_hash_policies = 1;
	w->policy.cookie = word("sess");
	w->policy.cookie_path = word("/p");
	w->policy.has_has_cookie_ttl = w->policy.has_cookie_ttl = w->policy.has_cookie_ttl_s = true;
	w->policy.cookie_ttl_s = 30;
	w->attributes[0] = &w->attribute;
	w->attribute.name = word("SameSite");
	w->attribute.value = word("Lax");
	w->policy.cookie_attributes = w->attributes;
	w->policy.n_cookie_attributes = 1;
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	join_routes(w);
	foil__conf__cluster__init(&w->cluster);
	foil__conf__slow_start__init(&w->slow_start);
	foil__conf__endpoints__init(&w->endpoints);
	w->cluster.name = w->endpoints.cluster = word("c");
	w->slow_start.has_window_us = true;
	w->slow_start.window_us = 10000000;
	w->cluster.slow_start = &w->slow_start;
	w->endpoints.endpoints = w->lists;
	w->endpoints.n_endpoints = 3;
	w->endpoints.locality_weights = w->weight_list;
	w->endpoints.n_locality_weights = 2;
	for (int i = 0; i < 3; i++) {
		foil__conf__endpoint__init(&w->list[i]);
		w->lists[i] = &w->list[i];
		w->list[i].address = word(i == 0 ? "198.19.0.10" : i == 1 ? "198.19.0.11" : "198.19.0.12");
		w->list[i].has_port = true;
		w->list[i].port = 8080;
		w->list[i].locality = word(i == 1 ? "r1/z1" : "r2");
		w->list[i].has_priority = true;
		w->list[i].priority = i == 2;
	}
	for (int i = 0; i < 2; i++) {
		foil__conf__locality_weight__init(&w->weights[i]);
		w->weight_list[i] = &w->weights[i];
		w->weights[i].locality = word(i == 0 ? "r1/z1" : "r2");
		w->weights[i].has_weight = true;
		w->weights[i].weight = i == 0 ? 70 : 30;
	}
	return w;
}

static void put(struct t_conf *f, const struct world *w)
{
	t_put_mesh(f, NULL);
	t_put(f, T_ROUTES, "r", &w->routes.base);
	t_put(f, T_CLUSTER, "c", &w->cluster.base);
	t_put(f, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS, "c", &w->endpoints.base);
}

static const struct mesh_config *applied(struct t_conf *f, const struct world *w)
{
	put(f, w);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	return snap_config(f->snap);
}

static void test_endpoints_know_their_health_checks(void **state)
{
	static const struct {
		const char *path, *host, *header;
		uint32_t from, to, healthy, at;
		const char *field;
	} bad[] = {{"x", "h", "a", 200, 299, 1, 1, "health_checks[0].path"}, {"/ b", "h", "a", 200, 299, 1, 1, "health_checks[0].path"},
		   {"/", "a/b", "a", 200, 299, 1, 1, "health_checks[0].host"}, {"/", "h", "A", 200, 299, 1, 1, "health_checks[0].headers"},
		   {"/", "h", "a", 300, 299, 1, 1, "health_checks[0].expected"}, {"/", "h", "a", 99, 299, 1, 1, "health_checks[0].expected"},
		   {"/", "h", "a", 200, 600, 1, 1, "health_checks[0].expected"}, {"/", "h", "a", 200, 299, 0, 1, "health_checks[0].healthy_threshold"},
		   {"/", "h", "a", 200, 299, 1, 2, "endpoints[1].health_check"}};
	Foil__Conf__HealthCheck check = FOIL__CONF__HEALTH_CHECK__INIT, *checks[] = {&check};
	Foil__Conf__HttpHealthCheck http = FOIL__CONF__HTTP_HEALTH_CHECK__INIT;
	Foil__Conf__StatusRange range = FOIL__CONF__STATUS_RANGE__INIT, *ranges[] = {&range};
	Foil__Conf__HeaderValue header = FOIL__CONF__HEADER_VALUE__INIT, *headers[] = {&header};
	struct world *w = world_new();

	check.kind_case = FOIL__CONF__HEALTH_CHECK__KIND_HTTP;
	check.http = &http;
	check.has_healthy_threshold = range.has_from = range.has_to = w->list[1].has_health_check = true;
	http.expected = ranges;
	http.headers = headers;
	http.n_expected = http.n_headers = 1;
	header.value = word("v");
	w->endpoints.health_checks = checks;
	w->endpoints.n_health_checks = 1;
	for (size_t i = 0; i <= FOIL_COUNT_OF(bad); i++) {
		struct t_conf *f = t_conf();
		bool is_good = i == FOIL_COUNT_OF(bad);
		http.path = word(is_good ? "/ok" : bad[i].path);
		http.host = word(is_good ? "h.test" : bad[i].host);
		header.name = word(is_good ? "a" : bad[i].header);
		range.from = is_good ? 200 : bad[i].from;
		range.to = is_good ? 399 : bad[i].to;
		check.healthy_threshold = is_good ? 1 : bad[i].healthy;
		w->list[1].health_check = is_good ? 1 : bad[i].at;
		if (is_good) {
			const struct mesh_endpoints *e = applied(f, w)->endpoints[0];
			assert_true(e->has_checks);
			assert_null(e->endpoints[0].check);
			assert_string_equal(e->endpoints[1].check->path.data, "/ok");
			assert_int_equal(e->endpoints[1].check->expected[0].to, 399);
			assert_int_equal(e->endpoints[1].check->unhealthy_threshold, 3);
			assert_int_equal(e->endpoints[1].check->interval_us, 10000000);
		} else {
			put(f, w);
			assert_int_equal(t_apply(f, "v1", true), SNAP_REJECTED);
			t_assert_rejected(f, "c", bad[i].field, "");
		}
		t_conf_free(f);
	}
	free(w);
	(void)state;
}

static void test_cluster_knows_tables_and_slow_start(void **state)
{
	struct t_conf *f = t_conf();
	struct world *w = world_new();

	w->cluster.has_lb = true;
	w->cluster.lb = FOIL__CONF__LB_POLICY__LB_MAGLEV;
	w->cluster.has_maglev_table_size = true;
	w->cluster.maglev_table_size = 251;
	const struct mesh_cluster *c = applied(f, w)->clusters[0];
	assert_int_equal(c->lb, MESH_LB_MAGLEV);
	assert_int_equal(c->maglev_table_size, 251);
	assert_int_equal(c->ring_size_min, 1024);
	assert_int_equal(c->ring_size_max, 8388608);
	assert_int_equal(c->overprovisioning_percent, 140);
	assert_int_equal(c->slow_start->window_us, 10000000);
	assert_int_equal(c->slow_start->share[0], 6553); /* 10 % of 65536 */
	assert_int_equal(c->slow_start->share[128], 32768);
	assert_int_equal(c->slow_start->share[256], 65536);
	free(w);
	t_conf_free(f);
	(void)state;
}

/* (1/4)^(1/2) = 1/2: with aggression 2 half of the weight after a quarter of the time. */
static void test_aggression_bends_the_slow_start(void **state)
{
	struct t_conf *f = t_conf();
	struct world *w = world_new();

	w->slow_start.has_aggression_permille = w->slow_start.has_min_weight_percent = true;
	w->slow_start.aggression_permille = 2000;
	w->slow_start.min_weight_percent = 0;
	const struct mesh_slow_start *s = applied(f, w)->clusters[0]->slow_start;
	assert_int_equal(s->share[0], 1); /* never nothing: the host would not be met again */
	assert_in_range(s->share[64], 32767, 32768);
	assert_int_equal(s->share[256], 65536);
	free(w);
	t_conf_free(f);
	(void)state;
}

static void test_endpoints_have_priorities_and_localities(void **state)
{
	struct t_conf *f = t_conf();
	struct world *w = world_new();
	const struct mesh_endpoints *e = applied(f, w)->endpoints[0];

	assert_int_equal(e->n_priorities, 2);
	assert_int_equal(e->n_localities, 2);
	assert_int_equal(e->locality_weights[0], 70);
	assert_int_equal(e->endpoints[0].locality_index, 1);
	assert_int_equal(e->endpoints[1].locality_index, 0);
	assert_int_equal(e->endpoints[2].priority, 1);
	free(w);
	t_conf_free(f);
	(void)state;
}

static void test_hash_policies_of_a_route(void **state)
{
	struct t_conf *f = t_conf();
	struct world *w = world_new();
	const struct mesh_config *c = applied(f, w);
	const struct mesh_hash_policy *p = c->routes[0]->vhosts[0].routes[0].route.hash_policies;

	assert_int_equal(c->routes[0]->vhosts[0].routes[0].route.n_hash_policies, 1);
	assert_int_equal(p->kind, MESH_HASH_COOKIE);
	assert_true(p->has_ttl && p->ttl_s == 30 && !p->terminal);
	assert_true(foil_slice_eq(p->name, FOIL_SLICE("sess")) && foil_slice_eq(p->path, FOIL_SLICE("/p")));
	assert_int_equal(p->n_attributes, 1);
	assert_true(foil_slice_eq(p->attributes[0].value, FOIL_SLICE("Lax")));
	w->policy.cookie = NULL;
	w->policy.header = word("x-user");
	c = applied(f, w);
	p = c->routes[0]->vhosts[0].routes[0].route.hash_policies;
	assert_int_equal(p->kind, MESH_HASH_HEADER);
	assert_true(foil_slice_eq(p->name, FOIL_SLICE("x-user")));
	free(w);
	t_conf_free(f);
	(void)state;
}

/* ---- what is refused ---- */
static void bad_two(struct world *w) { w->policy.header = word("x"); }
static void bad_none(struct world *w) { w->policy.cookie = NULL; }
static void bad_header(struct world *w) { w->policy.cookie = NULL, w->policy.header = word("X-User"); }
static void bad_cookie(struct world *w) { w->policy.cookie = word("a;b"); }
static void bad_cookie_empty(struct world *w) { w->policy.cookie = word(""); }
static void bad_cookie_line(struct world *w) { w->policy.cookie_path = word("/\r\nx: y"); }
static void bad_path(struct world *w) { w->policy.cookie_path = word("/; Secure"); }
static void bad_ttl(struct world *w) { w->policy.cookie_ttl_s = UINT64_MAX; }
static void bad_attribute(struct world *w) { w->attribute.name = word("a=b"); }
static void bad_value(struct world *w) { w->attribute.value = word("a;b"); }
static void bad_prime(struct world *w) { w->cluster.has_maglev_table_size = true, w->cluster.maglev_table_size = 252; }
static void bad_table(struct world *w) { w->cluster.has_maglev_table_size = true, w->cluster.maglev_table_size = 5000077; }
static void bad_ring(struct world *w) { w->cluster.has_ring_size_min = true, w->cluster.ring_size_min = 8388609; }
static void bad_ring_order(struct world *w) { w->cluster.has_ring_size_max = true, w->cluster.ring_size_max = 1000; }
static void bad_ring_max(struct world *w) { w->cluster.has_ring_size_max = true, w->cluster.ring_size_max = 0; }
static void bad_overprovisioning(struct world *w) { w->cluster.has_overprovisioning_percent = true, w->cluster.overprovisioning_percent = 99; }
static void bad_window(struct world *w) { w->slow_start.window_us = 0; }
static void bad_aggression(struct world *w) { w->slow_start.has_aggression_permille = true, w->slow_start.aggression_permille = 0; }
static void bad_percent(struct world *w) { w->slow_start.has_min_weight_percent = true, w->slow_start.min_weight_percent = 101; }
static void bad_priority(struct world *w) { w->list[1].priority = 128; }
static void bad_gap(struct world *w) { w->list[2].priority = 2; }
static void bad_locality(struct world *w) { w->list[1].locality = word("elsewhere"); }
static void bad_sum(struct world *w) { w->weights[0].weight = w->weights[1].weight = UINT32_MAX; }

#define POLICY "virtual_hosts[0].routes[0].route.hash_policies[0]."
static void test_every_bad_field_is_refused_by_its_path(void **state)
{
	static const struct {
		const char *resource, *field, *reason;
		void (*bend)(struct world *w);
	} bads[] = {
		{"r", POLICY "header", "exactly one", bad_two},
		{"r", POLICY "header", "exactly one", bad_none},
		{"r", POLICY "header", "lower case", bad_header},
		{"r", POLICY "cookie", "a character that a cookie cannot", bad_cookie},
		{"r", POLICY "cookie", "is empty", bad_cookie_empty},
		{"r", POLICY "cookie_path", "control character", bad_cookie_line},
		{"r", POLICY "cookie_path", "a character that a cookie cannot", bad_path},
		{"r", POLICY "cookie_ttl_s", "", bad_ttl},
		{"r", POLICY "cookie_attributes[0].name", "a character that a cookie cannot", bad_attribute},
		{"r", POLICY "cookie_attributes[0].value", "a character that a cookie cannot", bad_value},
		{"c", "maglev_table_size", "prime", bad_prime},
		{"c", "maglev_table_size", "2 to 5000011", bad_table},
		{"c", "ring_size_min", "1 to 8388608", bad_ring},
		{"c", "ring_size_min", "1 to 1000", bad_ring_order},
		{"c", "ring_size_max", "1 to 8388608", bad_ring_max},
		{"c", "overprovisioning_percent", "100 to 10000", bad_overprovisioning},
		{"c", "slow_start.window_us", "at least 1", bad_window},
		{"c", "slow_start.aggression_permille", "1 to 1000000", bad_aggression},
		{"c", "slow_start.min_weight_percent", "0 to 100", bad_percent},
		{"c", "endpoints[1].priority", "0 to 127", bad_priority},
		{"c", "endpoints", "none has priority 1", bad_gap},
		{"c", "endpoints[1].locality", "locality_weights", bad_locality},
		{"c", "locality_weights", "at most", bad_sum},
	};
	struct t_conf *f = t_conf();

	for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
		struct world *w = world_new();
		bads[i].bend(w);
		put(f, w);
		if (t_apply(f, "v1", true) != SNAP_REJECTED)
			fail_msg("case %zu is taken", i);
		t_assert_rejected(f, bads[i].resource, bads[i].field, bads[i].reason);
		free(w);
	}
	t_conf_free(f);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_endpoints_know_their_health_checks),
		cmocka_unit_test(test_cluster_knows_tables_and_slow_start),
		cmocka_unit_test(test_aggression_bends_the_slow_start),
		cmocka_unit_test(test_endpoints_have_priorities_and_localities),
		cmocka_unit_test(test_hash_policies_of_a_route),
		cmocka_unit_test(test_every_bad_field_is_refused_by_its_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
