/* ctrl/istio/explain: what it says of requests, and that it matches as the data plane does. */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctrl/istio/explain_priv.h"

static char *say(const struct t_mesh *m, const struct istio_request *r, int rc)
{
	char *text;

	assert_int_equal(istio_explain(m->snapshot, r, &text, NULL), rc);
	assert_non_null(text);
	return text;
}

static void assert_says(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no \"%s\" in:\n%s", part, text);
}

static void test_the_way_of_a_request_with_the_place_of_every_step(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_WEB, T_SUBSETS, T_ONE,
				      T_VS("  http:\n  - {name: vip, match: [{headers: {x-user: {exact: jason}}}], " T_TO_ONE "}\n"
					   "  - {name: found, match: [{uri: {prefix: /api/}}], rewrite: {uri: /}, timeout: 2s, retries: {attempts: 1, "
						   "retryOn: '5xx,418'},"
					   " route: [{destination: {host: web.test, subset: v1, port: {number: 8080}}, weight: 90}, {destination: {host: "
						   "gone.test}, weight: 10}]}\n"), NULL);
	char *text = say(m, &(struct istio_request){.authority = "Web.Example.com:80", .path = "/api/x?y=1", .port = 80}, 0);

	assert_says(text, "listener 198.18.0.1_80 (Gateway/istio-system/main at test.yaml:6:13)");
	assert_says(text, "virtual host web.example.com:80, by its domain web.example.com");
	assert_says(text, "passed over: route vip (VirtualService/app/web at test.yaml:41:25): header x-user is absent, wanted exactly \"jason\"");
	assert_says(text, "taken: route found (VirtualService/app/web at test.yaml:42:");
	assert_says(text, "path rewritten: / for what matched");
	assert_says(text, "timeout 2 s");
	assert_says(text, "up to 1 retries on 5xx, retriable-status-codes of status 418");
	assert_says(text, "cluster outbound|8080|v1|web.test, 90 % of them");
	assert_says(text, "endpoint 198.19.0.10:8080");
	assert_says(text, "there is no such cluster: 503, NC");
	free(text);
	t_mesh_free(m);
	(void)state;
}

static void test_budgets_and_health_checks_are_told(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"),
				      "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: one, namespace: app}\n"
				      "spec: {host: one.test, "
				      "trafficPolicy: {retryBudget: {percent: 12.5, minRetryConcurrency: 4}, healthCheck: {httpGet: {path: /healthz}, "
				      "interval: 5s, timeout: 2s, unhealthyThreshold: 4, healthyThreshold: 1}}}\n", NULL);
	char *text = say(m, &(struct istio_request){.authority = "web.example.com", .path = "/"}, 0);

	assert_says(text, "retries at a time: at most 12.5 % of the requests in flight, but 4 always");
	assert_says(text, "asked whether they are well: GET /healthz, every 5 s, within 2 s; out after 4 failures, back after 1 good ones");
	free(text);
	t_mesh_free(m);
	(void)state;
}

static void test_what_goes_nowhere_says_so(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{match: [{uri: {exact: /x}}], " T_TO_ONE "}]\n"), NULL);
	static const struct {
		struct istio_request r;
		const char *part;
	} cases[] = {{{.authority = "web.example.com", .path = "/y"}, "no route matches: 404, NR"},
		     {{.authority = "nobody.test", .path = "/"}, "no virtual host has the host nobody.test: 404, NR"},
		     {{.authority = "web.example.com", .path = "/", .port = 81}, "no listener at address (any) and port 81"},
		     {{.authority = "web.example.com", .path = "/", .address = "203.0.113.1"}, "no listener at address 203.0.113.1"}};
	char *text;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		text = say(m, &cases[i].r, 1);
		assert_says(text, cases[i].part);
		free(text);
	}
	assert_int_equal(istio_explain(NULL, &cases[0].r, &text, NULL), 1);
	free(text);
	t_mesh_free(m);
	(void)state;
}

static void test_answers_redirects_and_tcp(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: main, namespace: istio-system}\nspec:\n  "
				      "selector: {istio: ingressgateway}\n"
				      "  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}, {port: {number: 9000, name: tcp, "
					      "protocol: TCP}, hosts: ['*']},"
				      " {port: {number: 81, name: r, protocol: HTTP}, hosts: [web.example.com], tls: {httpsRedirect: true}}]\n", T_WEB,
				      T_VS("  http:\n  - {match: [{uri: {exact: /d}}], directResponse: {status: 418, body: {string: tea}}}\n  - {redirect: "
					   "{scheme: https, redirectCode: 308}}\n"
					   "  tcp: [{match: [{port: 9000}], route: [{destination: {host: web.test, port: {number: 9000}}}]}]\n"), NULL);
	char *text = say(m, &(struct istio_request){.authority = "web.example.com", .path = "/d", .port = 80}, 0);

	assert_says(text, "answered with 418 and 3 bytes");
	free(text);
	text = say(m, &(struct istio_request){.authority = "web.example.com", .path = "/e", .port = 80}, 0);
	assert_says(text, "answered with 308, redirected, scheme https");
	free(text);
	text = say(m, &(struct istio_request){.port = 9000, .path = "/"}, 0);
	assert_says(text, "connections are passed on as they are");
	assert_says(text, "cluster outbound|9000||web.test");
	free(text);
	text = say(m, &(struct istio_request){.authority = "web.example.com", .path = "/", .port = 81}, 0);
	assert_says(text, "answered with 301 to https");
	free(text);
	t_mesh_free(m);
	(void)state;
}

/* VS-2: exact, the longest suffix wildcard, the longest prefix wildcard, "*"; without case and port. */
static void test_virtual_hosts_by_specificity(void **state)
{
	static const char *const domains[] = {"a.b.test", "*.b.test", "*.test", "a.*", "a.b.*", "*"};
	static const struct {
		const char *authority, *domain;
	} cases[] = {{"A.b.test:8080", "a.b.test"}, {"x.b.test", "*.b.test"}, {"x.y.test", "*.test"}, {"b.test", "*.test"}, {"a.b.other", "a.b.*"},
		     {"a.other", "a.*"},
		     {"other", "*"}, {NULL, "*"}};
	Foil__Conf__VirtualHost v[6];
	Foil__Conf__VirtualHost *list[6];
	char *names[6];

	for (size_t i = 0; i < 6; i++) {
		foil__conf__virtual_host__init(&v[i]);
		names[i] = (char *)(uintptr_t)domains[i];
		v[i].domains = &names[i];
		v[i].n_domains = 1;
		list[i] = &v[i];
	}
	Foil__Conf__RouteConfig r = FOIL__CONF__ROUTE_CONFIG__INIT;
	r.virtual_hosts = list;
	r.n_virtual_hosts = 6;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *domain = NULL;
		assert_non_null(istio_explain_vhost(&r, cases[i].authority, &domain));
		assert_string_equal(domain, cases[i].domain);
	}
	(void)state;
}

static bool matches(const char *match, const struct istio_request *r, char *why, size_t n)
{
	char vs[800];

	(void)snprintf(vs, sizeof(vs), T_VS("  http: [{match: [%s], " T_TO_ONE "}]\n"), match);
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, vs, NULL);
	assert_int_equal(m->diags.n_errors, 0);
	Foil__Conf__RouteConfig *rc = t_routes(m, "http.80");
	bool yes = istio_explain_route_matches(t_vhost(rc, "web.example.com")->routes[0]->match, r, why, n);
	foil__conf__route_config__free_unpacked(rc, NULL);
	t_mesh_free(m);
	return yes;
}

static void test_each_condition_and_why_not(void **state)
{
	static const char *const names[] = {"x-a", "X-A", "x-empty"}, *const values[] = {"1", "2", ""};
	const struct istio_request r = {.method = "PUT", .scheme = "https", .authority = "web.example.com", .path = "/a/b?k=v&flag&k=w", .header_names = names,
					.header_values = values, .n_headers = 3};
	static const struct {
		const char *match, *why; /* NULL: it matches */
	} cases[] = {{"{uri: {exact: /a/b}}", NULL}, {"{uri: {exact: /a}}", "wanted exactly /a"}, {"{uri: {prefix: /a}}", NULL}, {"{uri: {prefix: /b}}",
			"does not begin with /b"},
		     {"{uri: {exact: /A/B}, ignoreUriCase: true}", NULL}, {"{uri: {regex: '/a/.'}}", NULL}, {"{uri: {regex: '/a'}}", "is not like /a"},
		     {"{method: {exact: PUT}}", NULL}, {"{method: {exact: GET}}", "header :method is \"PUT\""}, {"{scheme: {exact: https}}", NULL},
		     {"{authority: {regex: 'web.*'}}", NULL}, {"{headers: {x-a: {exact: '2'}}}", NULL}, {"{headers: {x-a: {exact: '1,2'}}}",
				     "is \"1\", \"2\", wanted exactly"},
		     {"{headers: {x-a: {}}}", NULL}, {"{headers: {x-b: {}}}", "is absent, wanted present"}, {"{headers: {x-empty: {}}}", NULL},
		     {"{withoutHeaders: {x-b: {exact: '1'}}}", NULL}, {"{withoutHeaders: {x-a: {}}}", "wanted not present"}, {"{withoutHeaders: {x-b: {}}}",
				     NULL},
		     {"{withoutHeaders: {x-a: {exact: '2'}}}", "wanted not exactly"}, {"{queryParams: {k: {exact: v}}}", NULL},
			     {"{queryParams: {k: {exact: w}}}", "is \"v\""},
		     {"{queryParams: {flag: {exact: ''}}}", NULL}, {"{queryParams: {flag: {}}}", NULL}, {"{queryParams: {none: {}}}",
				     "query parameter none is absent"}};
	char why[300];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		why[0] = 0;
		bool yes = matches(cases[i].match, &r, why, sizeof(why));
		if (yes != (cases[i].why == NULL) || (cases[i].why && !strstr(why, cases[i].why)))
			fail_msg("%s: %s: %s", cases[i].match, yes ? "matches" : "does not", why);
	}
	(void)state;
}

/* ---- connections ---- */

static const char *const inside[] = {"10.0.0.0/8"};
static const struct istio_node client = {.captured_cidrs = inside, .n_captured_cidrs = 1};

#define T_DB \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db, namespace: app}\nspec:\n  hosts: [db.test]\n" \
	"  addresses: [10.0.0.1]\n  resolution: STATIC\n  ports: [{number: 3306, name: mysql, protocol: TCP}]\n" \
	"  endpoints: [{address: 198.19.0.10, labels: {version: v1}}, {address: 198.19.0.12, labels: {version: v2}}]\n"
#define T_DB_SUBSETS \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: db, namespace: app}\n" \
	"spec:\n  host: db.test\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]\n"
#define T_DB_TO(subset) "route: [{destination: {host: db.test, subset: " subset "}}]}\n"
#define T_DB_RULES \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: db, namespace: app}\nspec:\n  hosts: [db.test]\n  tcp:\n" \
	"  - {match: [{port: 3307}, {destinationSubnets: [10.1.0.0/16]}], " T_DB_TO("v1") \
	"  - {match: [{sourceLabels: {app: x}}], " T_DB_TO("v1") \
	"  - {match: [{destinationSubnets: [10.0.0.0/24]}], " T_DB_TO("v2") \
	"  - {" T_DB_TO("v1")
#define T_SECURE \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: secure, namespace: app}\nspec:\n  hosts: [one.test, two.test]\n" \
	"  resolution: NONE\n  ports: [{number: 443, name: tls, protocol: TLS}]\n"
#define T_SECURE_RULES \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: secure, namespace: app}\nspec:\n  hosts: [one.test]\n  tls:\n" \
	"  - {match: [{port: 444, sniHosts: [one.test]}], route: [{destination: {host: two.test}}]}\n" \
	"  - {match: [{port: 443, sniHosts: [one.test]}], route: [{destination: {host: two.test}}]}\n"
#define T_SIDECAR(hosts) \
	"apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: istio-system}\n" \
	"spec:\n  egress:\n  - hosts: [" hosts "]\n"

static void test_each_tcp_rule_is_told_with_why_it_lost(void **state)
{
	struct t_mesh *m = t_mesh_at(&client, T_DB, T_DB_SUBSETS, T_DB_RULES, NULL);
	char *text = say(m, &(struct istio_request){.is_connection = true, .address = "10.0.0.1", .port = 3306}, 0);

	assert_says(text, "listener 10.0.0.1_3306 (ServiceEntry/app/db at test.yaml:8:11), for captured addresses");
	assert_says(text, "taken: chain db.test (ServiceEntry/app/db at test.yaml:8:11)");
	assert_says(text, "passed over: rule tcp[0] (VirtualService/app/db at test.yaml:24:5): port is 3306, wanted 3307; or destination 10.0.0.1 is in none "
			  "of its destinationSubnets (10.1.0.0/16)");
	assert_says(text, "passed over: rule tcp[1] (VirtualService/app/db at test.yaml:25:5): it is for other gateways, sourceLabels");
	assert_says(text, "taken: rule tcp[2] (VirtualService/app/db at test.yaml:26:5)");
	assert_says(text, "passed over: rule tcp[3] (VirtualService/app/db at test.yaml:27:5): an earlier rule takes it");
	assert_says(text, "cluster outbound|3306|v2|db.test");
	assert_says(text, "subset v2: version=v2 (DestinationRule/app/db at test.yaml:16:48)");
	assert_says(text, "endpoint 198.19.0.12:3306");
	free(text);
	text = say(m, &(struct istio_request){.is_connection = true, .authority = "DB.test", .port = 3306}, 0);
	assert_says(text, "connection to DB.test at 10.0.0.1 port 3306");
	assert_says(text, "taken: rule tcp[2]");
	free(text);
	t_mesh_free(m);
	(void)state;
}

static void test_server_names_choose_chain_and_tls_rule(void **state)
{
	struct t_mesh *m = t_mesh_at(&client, T_SECURE, T_SECURE_RULES, NULL);
	char *text = say(m, &(struct istio_request){.is_connection = true, .is_tls = true, .server_name = "one.test", .port = 443}, 0);

	assert_says(text, "taken: chain one.test for SNI one.test (VirtualService/app/secure at test.yaml:16:5)");
	assert_says(text, "passed over: chain two.test (ServiceEntry/app/secure at test.yaml:7:11): server name is one.test, wanted two.test");
	assert_says(text, "passed over: chain PassthroughCluster (MeshConfig): the one that is taken is more specific");
	assert_says(text, "passed over: rule tls[0] (VirtualService/app/secure at test.yaml:15:5): port is 443, wanted 444");
	assert_says(text, "taken: rule tls[1] (VirtualService/app/secure at test.yaml:16:5)");
	assert_says(text, "cluster outbound|443||two.test");
	free(text);
	text = say(m, &(struct istio_request){.is_connection = true, .is_tls = true, .server_name = "two.test", .port = 443}, 0);
	assert_says(text, "taken: the service itself (ServiceEntry/app/secure at test.yaml:7:11): no rule of a VirtualService goes before it");
	free(text);
	text = say(m, &(struct istio_request){.is_connection = true, .is_tls = true, .server_name = "gone.test", .address = "10.0.0.7", .port = 443}, 0);
	assert_says(text, "taken: chain PassthroughCluster");
	assert_says(text, "no service or rule has it: outboundTrafficPolicy ALLOW_ANY");
	assert_says(text, "to where the client went");
	free(text);
	t_mesh_free(m);
	(void)state;
}

static void test_rules_at_gateways_and_server_names_there(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: main, namespace: istio-system}\nspec:\n"
				      "  selector: {istio: ingressgateway}\n"
				      "  servers: [{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}, "
				      "{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: ['*.example.com']}]\n", T_WEB,
				      T_VS("  tcp:\n  - {match: [{port: 9001}], route: [{destination: {host: web.test, port: {number: 8080}}}]}\n"
					   "  - {route: [{destination: {host: web.test, port: {number: 9000}}}]}\n"
					   "  tls: [{match: [{sniHosts: [web.example.com]}], route: "
					   "[{destination: {host: web.test, port: {number: 9000}}}]}]\n"),
				      NULL);
	char *text = say(m, &(struct istio_request){.is_connection = true, .address = "198.18.0.1", .port = 9000}, 0);

	assert_says(text, "taken: chain tcp.9000 (Gateway/istio-system/main at test.yaml:6:13)");
	assert_says(text, "passed over: rule tcp[0] (VirtualService/app/web at test.yaml:25:5): port is 9000, wanted 9001");
	assert_says(text, "taken: rule tcp[1] (VirtualService/app/web at test.yaml:26:5)");
	assert_says(text, "cluster outbound|9000||web.test");
	free(text);
	text = say(m, &(struct istio_request){.is_connection = true, .is_tls = true, .server_name = "web.example.com", .port = 443}, 0);
	assert_says(text, "taken: chain web.example.com for SNI web.example.com (VirtualService/app/web at test.yaml:27:9)");
	assert_says(text, "taken: rule tls[0] (VirtualService/app/web at test.yaml:27:9)");
	free(text);
	text = say(m, &(struct istio_request){.is_connection = true, .is_tls = true, .server_name = "x.example.com", .port = 443}, 1);
	assert_says(text, "server name is x.example.com, wanted web.example.com");
	assert_says(text, "no chain takes it: the connection is reset (no_filter_chain)");
	free(text);
	t_mesh_free(m);
	(void)state;
}

static void test_hosts_that_the_sidecar_hides(void **state)
{
	struct t_mesh *m = t_mesh_at(&client, T_DB, T_ONE, T_SIDECAR("'./*', '~app/db.test', '~app/one.test'"), NULL);
	char *text = say(m, &(struct istio_request){.is_connection = true, .address = "10.0.0.1", .port = 3306}, 0);

	assert_says(text, "taken: chain PassthroughCluster");
	assert_says(text, "hidden: db.test of ServiceEntry/app/db at test.yaml:1:1 is not reached in the mesh: ~app/db.test among the egress hosts of the "
			  "node's Sidecar takes it away (Sidecar/istio-system/default at test.yaml:25:20)");
	free(text);
	text = say(m, &(struct istio_request){.authority = "one.test:8080", .path = "/", .port = 8080}, 0);
	assert_says(text, "hidden: one.test of ServiceEntry/app/one at test.yaml:11:1");
	free(text);
	t_mesh_free(m);
	m = t_mesh_at(&client, T_DB, T_ONE, T_SIDECAR("./one.test"), NULL);
	text = say(m, &(struct istio_request){.is_connection = true, .authority = "db.test", .port = 3306}, 0);
	assert_says(text, "the egress hosts of the node's Sidecar have not got it (Sidecar/istio-system/default at test.yaml:25:12)");
	free(text);
	text = say(m, &(struct istio_request){.authority = "one.test", .path = "/", .port = 8080}, 0);
	assert_null(strstr(text, "hidden"));
	free(text);
	t_mesh_free(m);
	(void)state;
}

static void test_steps_have_what_the_lines_say(void **state)
{
	struct t_mesh *m = t_mesh_at(&client, T_DB, T_DB_SUBSETS, T_DB_RULES, NULL);
	static const char *const kinds[] = {"request", "listener", "chain", "route", "route", "route", "route", "cluster", "subset", "policy", "endpoint"};
	struct istio_steps steps;
	char *text;

	assert_int_equal(istio_explain(m->snapshot, &(struct istio_request){.is_connection = true, .address = "10.0.0.1", .port = 3306}, &text, &steps), 0);
	assert_int_equal(steps.n, sizeof(kinds) / sizeof(kinds[0]));
	for (size_t i = 0; i < steps.n; i++)
		assert_string_equal(steps.list[i].kind, kinds[i]);
	const struct istio_step *s = &steps.list[4];
	assert_string_equal(s->verdict, "passed over");
	assert_int_equal(s->depth, 2);
	assert_memory_equal(text + s->at, "passed over: rule tcp[1]", 24);
	assert_memory_equal(text + s->reason_at, "it is for other gateways", 24);
	assert_int_equal(text[s->at + s->n], '\n');
	assert_string_equal(s->resource, "VirtualService/app/db");
	assert_string_equal(s->file, "test.yaml");
	assert_int_equal(s->line, 25);
	assert_int_equal(s->column, 5);
	assert_int_equal(steps.list[5].n_reason, 0);
	istio_steps_fini(&steps);
	free(text);
	t_mesh_free(m);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_way_of_a_request_with_the_place_of_every_step),
		cmocka_unit_test(test_budgets_and_health_checks_are_told),
		cmocka_unit_test(test_what_goes_nowhere_says_so),
		cmocka_unit_test(test_answers_redirects_and_tcp),
		cmocka_unit_test(test_each_tcp_rule_is_told_with_why_it_lost),
		cmocka_unit_test(test_server_names_choose_chain_and_tls_rule),
		cmocka_unit_test(test_rules_at_gateways_and_server_names_there),
		cmocka_unit_test(test_hosts_that_the_sidecar_hides),
		cmocka_unit_test(test_steps_have_what_the_lines_say),
		cmocka_unit_test(test_virtual_hosts_by_specificity),
		cmocka_unit_test(test_each_condition_and_why_not),
	};
	return cmocka_run_group_tests_name("istio.explain", tests, NULL, NULL);
}
