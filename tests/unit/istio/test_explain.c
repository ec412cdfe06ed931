/* ctrl/istio/explain: what it says of requests, and that it matches as the data plane does. */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctrl/istio/explain_priv.h"

static char *say(const struct t_mesh *m, const struct istio_request *r, int rc)
{
	char *text;

	assert_int_equal(istio_explain(m->snapshot, r, &text), rc);
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
	assert_int_equal(istio_explain(NULL, &cases[0].r, &text), 1);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_way_of_a_request_with_the_place_of_every_step),
		cmocka_unit_test(test_budgets_and_health_checks_are_told),
		cmocka_unit_test(test_what_goes_nowhere_says_so),
		cmocka_unit_test(test_answers_redirects_and_tcp),
		cmocka_unit_test(test_virtual_hosts_by_specificity),
		cmocka_unit_test(test_each_condition_and_why_not),
	};
	return cmocka_run_group_tests_name("istio.explain", tests, NULL, NULL);
}
