/* ctrl/istio/routes.c and virtual_services.c: what rules become (features.md VS). Where a comment says "istiod", the expected value was read off a dump
 * of what a real istiod makes of the same rule. */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <string.h>


static Foil__Conf__RouteConfig *compiled;

/* The routes of web.example.com at the gateway; *m and compiled are freed by done. */
static Foil__Conf__VirtualHost *host_of(struct t_mesh *m)
{
	compiled = t_routes(m, "http.80");
	assert_non_null(compiled);
	Foil__Conf__VirtualHost *v = t_vhost(compiled, "web.example.com");
	assert_non_null(v);
	return v;
}

static void done(struct t_mesh *m)
{
	foil__conf__route_config__free_unpacked(compiled, NULL);
	t_mesh_free(m);
}

static struct t_mesh *rules(const char *text)
{
	return t_mesh_new(T_GATEWAY, T_WEB, T_SUBSETS, T_ONE, text, NULL);
}

static void test_paths_are_exact_prefix_or_regex(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - match: [{uri: {exact: /e}}, {uri: {prefix: /p}}, {uri: {regex: '/r.*'}, ignoreUriCase: true}, {uri: "
				      "{prefix: /I}, ignoreUriCase: true}]\n"
				      "    " T_TO_ONE "\n  - " T_TO_ONE "\n"));
	Foil__Conf__VirtualHost *v = host_of(m);

	t_assert_no_diags(m);
	assert_int_equal(v->n_routes, 5);
	assert_int_equal(v->routes[0]->match->path_kind, FOIL__CONF__PATH_MATCH_KIND__PATH_EXACT);
	assert_string_equal(v->routes[0]->match->path, "/e");
	assert_int_equal(v->routes[1]->match->path_kind, FOIL__CONF__PATH_MATCH_KIND__PATH_PREFIX);
	assert_int_equal(v->routes[2]->match->path_kind, FOIL__CONF__PATH_MATCH_KIND__PATH_REGEX);
	assert_false(v->routes[2]->match->ignore_case); /* exact and prefix only (VS-8) */
	assert_true(v->routes[3]->match->ignore_case);
	assert_string_equal(v->routes[4]->match->path, "/");
	done(m);
	(void)state;
}

static void test_conditions_on_headers_pseudo_headers_and_query(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - match:\n    - method: {exact: PUT}\n      scheme: {exact: https}\n      authority: {regex: 'web.*'}\n"
				      "      headers: {X-Any: {}, x-e: {exact: v}, x-p: {prefix: ''}, x-star: {regex: '*'}}\n"
				      "      withoutHeaders: {x-no: {exact: '1'}, x-gone: {}}\n      queryParams: {a: {exact: '1'}, b: {regex: '*'}, c: "
					      "{}}\n    " T_TO_ONE "\n"));
	const Foil__Conf__RouteMatch *r = host_of(m)->routes[0]->match;

	t_assert_no_diags(m);
	assert_int_equal(r->n_headers, 9);
	assert_string_equal(r->headers[0]->name, "x-any");
	assert_int_equal(r->headers[0]->value->kind_case, FOIL__CONF__STRING_MATCH__KIND_PRESENT);
	assert_string_equal(r->headers[1]->value->exact, "v");
	assert_int_equal(r->headers[2]->value->kind_case, FOIL__CONF__STRING_MATCH__KIND_PREFIX); /* istiod: an empty prefix is a prefix */
	assert_int_equal(r->headers[3]->value->kind_case, FOIL__CONF__STRING_MATCH__KIND_PRESENT);
	assert_true(r->headers[4]->invert && r->headers[4]->treat_missing_as_empty); /* VS-11 */
	assert_true(r->headers[5]->invert && !r->headers[5]->treat_missing_as_empty);
	assert_string_equal(r->headers[6]->name, ":scheme");
	assert_string_equal(r->headers[7]->name, ":method");
	assert_string_equal(r->headers[8]->name, ":authority");
	assert_int_equal(r->n_query, 3);
	assert_string_equal(r->query[0]->value->exact, "1");
	assert_int_equal(r->query[1]->value->kind_case, FOIL__CONF__STRING_MATCH__KIND_PRESENT);
	assert_int_equal(r->query[2]->value->kind_case, FOIL__CONF__STRING_MATCH__KIND_PRESENT);
	done(m);
	(void)state;
}

static void test_selectors_of_port_gateway_and_source_decide_where_a_match_exists(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - name: there\n    match: [{uri: {prefix: /a}, port: 80}, {uri: {prefix: /b}, gateways: [istio-system/main]},"
				      " {uri: {prefix: /c}, sourceLabels: {istio: ingressgateway}}, {uri: {prefix: /d}, sourceNamespace: istio-system}]\n    "
					      "" T_TO_ONE "\n"
				      "  - name: elsewhere\n    match: [{uri: {prefix: /a}, port: 81}, {uri: {prefix: /b}, gateways: [mesh]},"
				      " {uri: {prefix: /c}, sourceLabels: {app: x}}, {uri: {prefix: /d}, sourceNamespace: app}]\n    " T_TO_ONE "\n"));
	Foil__Conf__VirtualHost *v = host_of(m);

	assert_int_equal(v->n_routes, 4);
	for (size_t i = 0; i < 4; i++)
		assert_string_equal(v->routes[i]->name, "there");
	done(m);
	(void)state;
}

static void test_nothing_after_a_catch_all_is_compiled_and_it_is_told(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - match: [{uri: {prefix: /}}, {uri: {prefix: /never}}]\n    " T_TO_ONE "\n  - name: never\n    "
				      "" T_TO_ONE "\n"));
	Foil__Conf__VirtualHost *v = host_of(m);

	assert_int_equal(v->n_routes, 1);
	t_assert_at(t_diag(m, "IST0130", "never reached"), 43, 5, "spec.http[1]");
	done(m);
	(void)state;
}

static void test_the_same_match_twice_is_told(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - match: [{uri: {prefix: /a}}]\n    " T_TO_ONE "\n  - match: [{uri: {prefix: /a}}]\n    " T_TO_ONE "\n"));

	(void)host_of(m);
	t_assert_at(t_diag(m, "IST0131", "the same match"), 43, 13, "spec.http[1].match[0]");
	done(m);
	(void)state;
}

static void test_route_names_and_decorators_are_those_of_istio(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - name: a\n    match: [{name: m, uri: {prefix: /x}}, {uri: {exact: /y}}]\n    " T_TO_ONE "\n"
				      "  - match: [{uri: {regex: '/z[0-9]'}}]\n    redirect: {uri: /}\n"
				      "  - route: [{destination: {host: web.test, subset: v1, port: {number: 8080}}, weight: 1}, {destination: {host: "
					      "one.test}, weight: 1}]\n"));
	Foil__Conf__VirtualHost *v = host_of(m);

	assert_string_equal(v->routes[0]->name, "a.m");
	assert_string_equal(v->routes[0]->decorator_operation, "one.test:8080/x*");
	assert_string_equal(v->routes[1]->name, "a");
	assert_string_equal(v->routes[1]->decorator_operation, "one.test:8080/y");
	assert_string_equal(v->routes[2]->name, "");
	assert_string_equal(v->routes[2]->decorator_operation, "web:80/z[0-9]");
	assert_string_equal(v->routes[3]->decorator_operation, "web:80/*");
	assert_string_equal(v->name, "web.example.com:80");
	done(m);
	(void)state;
}

static void test_destinations_by_weight_port_and_short_name(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - match: [{uri: {prefix: /w}}]\n    route:\n    - {destination: {host: web.test, subset: v1, port: "
				      "{number: 8080}}, weight: 90}\n"
				      "    - {destination: {host: one.test}, weight: 10}\n    - {destination: {host: web.test}, weight: 0}\n"
				      "  - match: [{uri: {prefix: /s}}]\n    route: [{destination: {host: short}, weight: 0}]\n"
				      "  - route: [{destination: {host: web.test}}]\n"));
	Foil__Conf__VirtualHost *v = host_of(m);
	const Foil__Conf__RouteAction *a = v->routes[0]->route;

	assert_int_equal(a->n_clusters, 2); /* weight 0 among several is dropped (VS-17) */
	assert_string_equal(a->clusters[0]->cluster, "outbound|8080|v1|web.test");
	assert_int_equal(a->clusters[0]->weight, 90);
	assert_string_equal(a->clusters[1]->cluster, "outbound|8080||one.test"); /* the only port (VS-18) */
	assert_int_equal(v->routes[1]->route->n_clusters, 1); /* a single one counts whatever its weight */
	assert_string_equal(v->routes[1]->route->clusters[0]->cluster, "outbound|80||short.app.svc.cluster.local");
	assert_string_equal(v->routes[2]->route->clusters[0]->cluster, "outbound|80||web.test"); /* several ports: the listener's */
	t_assert_at(t_diag(m, "IST0101", "no Service or ServiceEntry has the host short.app.svc.cluster.local"), 47, 34,
		    "spec.http[1].route[0].destination.host");
	(void)t_diag(m, "IST0101", "has no port 80");
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "outbound|80||web.test"));
	done(m);
	(void)state;
}

static void test_header_operations_of_one_destination_follow_the_rules(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - headers: {request: {set: {x-set: a, X-Both: vs}, add: {x-add: b}, remove: [X-Rm, host]}, response: "
				      "{remove: [x-b], add: {x-r: d}}}\n"
				      "    route: [{destination: {host: one.test}, headers: {request: {set: {x-both: dest}, add: {x-add: dd}}}}]\n"));
	const Foil__Conf__Route *r = host_of(m)->routes[0];
	static const struct {
		const char *name, *value;
		bool append;
	} want[] = {{"x-both", "vs", false}, {"x-set", "a", false}, {"x-add", "b", true}, {"x-both", "dest", false}, {"x-add", "dd", true}};

	assert_int_equal(r->request_headers->n_add, 5); /* sorted by key, set before add (istiod) */
	for (size_t i = 0; i < 5; i++) {
		assert_string_equal(r->request_headers->add[i]->name, want[i].name);
		assert_string_equal(r->request_headers->add[i]->value, want[i].value);
		assert_int_equal(r->request_headers->add[i]->append, want[i].append);
	}
	assert_int_equal(r->request_headers->n_remove, 1);
	assert_string_equal(r->request_headers->remove[0], "x-rm");
	assert_string_equal(r->response_headers->add[0]->name, "x-r");
	assert_null(r->route->clusters[0]->request_headers);
	done(m);
	(void)state;
}

static void test_header_operations_of_several_destinations_stay_with_them(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - headers: {request: {set: {x: r}}}\n    route:\n    - {destination: {host: one.test}, weight: 1, headers: "
				      "{request: {set: {x: d, host: in.test}}}}\n"
				      "    - {destination: {host: one.test}, weight: 1}\n"));
	const Foil__Conf__Route *r = host_of(m)->routes[0];

	assert_int_equal(r->request_headers->n_add, 1);
	assert_string_equal(r->route->clusters[0]->request_headers->add[0]->value, "d");
	assert_string_equal(r->route->clusters[0]->request_headers->add[1]->name, ":authority");
	assert_string_equal(r->route->clusters[0]->request_headers->add[1]->value, "in.test");
	assert_null(r->route->clusters[1]->request_headers);
	done(m);
	(void)state;
}

static void test_the_authority_is_rewritten_by_the_first_that_says_so(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - match: [{uri: {prefix: /a}}]\n    rewrite: {authority: re.test}\n    headers: {request: {set: {host: "
				      "set.test}}}\n    " T_TO_ONE "\n"
				      "  - match: [{uri: {prefix: /b}}]\n    headers: {request: {set: {':authority': set.test}, add: {Host: add.test}}}\n    "
					      "" T_TO_ONE "\n"
				      "  - route: [{destination: {host: one.test}, headers: {request: {set: {host: dest.test}}}}]\n"));
	Foil__Conf__VirtualHost *v = host_of(m);

	assert_string_equal(v->routes[0]->route->host_rewrite, "re.test");
	assert_string_equal(v->routes[1]->route->host_rewrite, "set.test");
	assert_string_equal(v->routes[2]->route->host_rewrite, "dest.test");
	assert_null(v->routes[0]->request_headers);
	done(m);
	(void)state;
}

static void test_rewrites(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - {match: [{uri: {prefix: /rw/}}], rewrite: {uri: /}, " T_TO_ONE "}\n"
				      "  - {match: [{uri: {prefix: /rx}}], rewrite: {uriRegexRewrite: {match: '^/rx/(.*)$', rewrite: '/\\1'}}, "
					      "" T_TO_ONE "}\n"));
	Foil__Conf__VirtualHost *v = host_of(m);

	assert_true(v->routes[0]->route->has_prefix_rewrite);
	assert_string_equal(v->routes[0]->route->prefix_rewrite, "/");
	assert_string_equal(v->routes[1]->route->regex_rewrite->regex, "^/rx/(.*)$");
	assert_string_equal(v->routes[1]->route->regex_rewrite->substitution, "/\\1");
	assert_false(v->routes[1]->route->has_prefix_rewrite);
	done(m);
	(void)state;
}

static void test_redirects_know_their_port(void **state)
{
	static const struct {
		const char *text;
		uint32_t code, port;
	} cases[] = {{"{uri: /n}", 301, 0}, {"{uri: /n, redirectCode: 308}", 308, 0}, {"{port: 8443}", 301, 8443}, {"{port: 80}", 301, 0},
		     {"{scheme: https, port: 443}", 301, 0}, {"{scheme: https, derivePort: FROM_REQUEST_PORT}", 301, 80},
		     {"{scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}", 301, 0}, {"{derivePort: FROM_REQUEST_PORT}", 301, 0}, {"{prefixRewrite: /z}",
				     301, 0}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[500];
		(void)snprintf(text, sizeof(text), T_VS("  http: [{redirect: %s}]\n"), cases[i].text);
		struct t_mesh *m = rules(text);
		const Foil__Conf__Redirect *r = host_of(m)->routes[0]->redirect;
		assert_int_equal(r->code, cases[i].code);
		assert_int_equal(r->port, cases[i].port);
		assert_int_equal(r->has_prefix_rewrite, i == 8);
		done(m);
	}
	(void)state;
}

static void test_direct_responses(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - {match: [{uri: {exact: /s}}], directResponse: {status: 418, body: {string: \"short\\n\"}}, headers: "
				      "{response: {set: {x-d: '1'}}}}\n"
				      "  - {match: [{uri: {exact: /b}}], directResponse: {status: 200, body: {bytes: aGVsbG8=}}}\n  - directResponse: "
					      "{status: 403}\n"));
	Foil__Conf__VirtualHost *v = host_of(m);

	assert_int_equal(v->routes[0]->direct_response->status, 418);
	assert_memory_equal(v->routes[0]->direct_response->body.data, "short\n", 6);
	assert_string_equal(v->routes[0]->response_headers->add[0]->name, "x-d");
	assert_int_equal(v->routes[1]->direct_response->body.len, 5);
	assert_memory_equal(v->routes[1]->direct_response->body.data, "hello", 5);
	assert_int_equal(v->routes[2]->direct_response->body.len, 0);
	done(m);
	(void)state;
}

static void assert_words(const Foil__Conf__RetryPolicy *p, const char *wanted)
{
	char text[400] = "";

	for (size_t i = 0; i < p->n_retry_on; i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? "," : "", p->retry_on[i]);
	assert_string_equal(text, wanted);
}

static void test_retries_have_istios_defaults(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - {match: [{uri: {prefix: /d}}], " T_TO_ONE "}\n  - {match: [{uri: {prefix: /0}}], retries: {attempts: 0}, "
				      "" T_TO_ONE "}\n"
				      "  - {match: [{uri: {prefix: /n}}], retries: {attempts: 3}, " T_TO_ONE "}\n"
				      "  - {retries: {attempts: 2, retryOn: '5xx, 503,418', perTryTimeout: 1m, backoff: 30ms, retryRemoteLocalities: true, "
					      "retryIgnorePreviousHosts: false},"
				      " timeout: 1.5s, " T_TO_ONE "}\n"));
	Foil__Conf__VirtualHost *v = host_of(m);
	const Foil__Conf__RetryPolicy *p = v->routes[0]->route->retry;

	assert_int_equal(p->num_retries, 2); /* VS-36 */
	assert_words(p, "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes");
	assert_int_equal(p->n_retriable_status_codes, 0);
	assert_true(p->avoid_previous_hosts);
	assert_int_equal(v->routes[0]->route->timeout_us, 0); /* VS-33 */
	assert_null(v->routes[1]->route->retry);
	assert_int_equal(v->routes[2]->route->retry->num_retries, 3);
	assert_words(v->routes[2]->route->retry, "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes");
	p = v->routes[3]->route->retry; /* istiod */
	assert_words(p, "5xx,retriable-status-codes");
	assert_int_equal(p->n_retriable_status_codes, 2);
	assert_int_equal(p->retriable_status_codes[1], 418);
	assert_int_equal(p->per_try_timeout_us, 60000000);
	assert_int_equal(p->backoff_base_us, 30000);
	assert_true(p->remote_localities);
	assert_false(p->avoid_previous_hosts);
	assert_int_equal(v->routes[3]->route->timeout_us, 1500000);
	done(m);
	(void)state;
}

static void test_the_meshs_own_retry_policy_is_the_default(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: "
				      "'defaultHttpRetryPolicy: {attempts: 0}'}\n",
				      T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);

	assert_null(host_of(m)->routes[0]->route->retry);
	done(m);
	(void)state;
}

static void test_faults_mirrors_and_cors(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - fault: {delay: {fixedDelay: 0.4s, percentage: {value: 33.33339}}, abort: {grpcStatus: UNAVAILABLE, "
				      "percentage: {value: 100}}}\n"
				      "    mirror: {host: web.test, port: {number: 8080}}\n"
				      "    corsPolicy: {allowOrigins: [{exact: 'https://a'}, {regex: 'https://.*'}], allowMethods: [GET, PUT], maxAge: 1m, "
					      "allowCredentials: true, unmatchedPreflights: IGNORE}\n"
				      "    " T_TO_ONE "\n"));
	const Foil__Conf__Route *r = host_of(m)->routes[0];

	t_assert_no_diags(m);
	assert_int_equal(r->fault->delay_us, 400000);
	assert_int_equal(r->fault->delay_per_million, 333333); /* truncated (VS-46) */
	assert_int_equal(r->fault->abort_grpc_status, 14);
	assert_true(r->fault->has_abort_grpc);
	assert_int_equal(r->route->n_mirrors, 1);
	assert_int_equal(r->route->mirrors[0]->per_million, 1000000); /* left out means all (VS-49) */
	assert_false(r->route->mirrors[0]->append_shadow_suffix);
	assert_true(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "outbound|8080||web.test"));
	assert_int_equal(r->cors->n_allow_origins, 2);
	assert_int_equal(r->cors->max_age_s, 60);
	assert_true(r->cors->allow_credentials && r->cors->ignore_unmatched_preflights);
	done(m);
	(void)state;
}

static void test_a_mirror_of_zero_percent_is_none(void **state)
{
	struct t_mesh *m = rules(T_VS("  http: [{mirrors: [{destination: {host: web.test}, percentage: {value: 0}}, {destination: {host: one.test}, "
				      "percentage: {value: 0.5}}], " T_TO_ONE "}]\n"));
	const Foil__Conf__RouteAction *a = host_of(m)->routes[0]->route;

	assert_int_equal(a->n_mirrors, 1);
	assert_int_equal(a->mirrors[0]->per_million, 5000);
	done(m);
	(void)state;
}

static void test_virtual_services_of_one_host_are_merged_and_catch_alls_go_last(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http:\n  - {match: [{uri: {prefix: /first}}], " T_TO_ONE "}\n  - {name: all, " T_TO_ONE "}\n"),
				      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: zzz, namespace: app}\nspec:\n  hosts: "
					      "[web.example.com]\n"
				      "  gateways: [istio-system/main]\n  http: [{match: [{uri: {prefix: /second}}], " T_TO_ONE "}]\n", NULL);
	Foil__Conf__VirtualHost *v = host_of(m);

	assert_int_equal(v->n_routes, 3);
	assert_string_equal(v->routes[0]->match->path, "/first");
	assert_string_equal(v->routes[1]->match->path, "/second");
	assert_string_equal(v->routes[2]->name, "all");
	done(m);
	(void)state;
}

static void test_age_is_creation_then_name(void **state)
{
#define ONE(name, meta, status) \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name ", namespace: app" meta "}\nspec:\n  hosts: [web.example.com]\n" \
	"  gateways: [istio-system/main]\n  http: [{match: [{uri: {prefix: /}, headers: {a: {}}}], directResponse: {status: " status "}}]\n"
	struct t_mesh *m = t_mesh_new(T_GATEWAY, ONE("a", ", creationTimestamp: '2026-02-01T00:00:00Z'", "201"), ONE("b",
			", creationTimestamp: '2026-01-01T00:00:00Z'", "202"),
				      ONE("d", "", "204"), ONE("c", "", "203"), ONE("e", ", annotations: {hydrofoil.io/created: '2025-01-01'}", "205"), NULL);
	Foil__Conf__VirtualHost *v = host_of(m);
	static const uint32_t want[] = {203, 204, 205, 202, 201};

	for (size_t i = 0; i < 5; i++)
		assert_int_equal(v->routes[i]->direct_response->status, want[i]);
	done(m);
	(void)state;
#undef ONE
}

static void test_delegates_are_merged_in(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_WEB,
				      T_VS("  http:\n  - {name: root, match: [{uri: {prefix: /a}, headers: {x: {exact: '1'}}}], delegate: {name: leaf, "
					   "namespace: other}, timeout: 3s}\n"
					   "  - {match: [{uri: {prefix: /gone}}], delegate: {name: nobody}}\n"),
				      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: leaf, namespace: other}\nspec:\n  http:\n"
				      "  - {name: x, match: [{uri: {prefix: /a/x}}], retries: {attempts: 7}, " T_TO_ONE "}\n"
				      "  - {name: conflict, match: [{uri: {prefix: /b}}], " T_TO_ONE "}\n  - {timeout: 1s, " T_TO_ONE "}\n", NULL);
	Foil__Conf__VirtualHost *v = host_of(m);

	assert_int_equal(v->n_routes, 2);
	assert_string_equal(v->routes[0]->name, "root-x");
	assert_string_equal(v->routes[0]->match->path, "/a/x");
	assert_string_equal(v->routes[0]->match->headers[0]->name, "x");
	assert_int_equal(v->routes[0]->route->timeout_us, 3000000);
	assert_int_equal(v->routes[0]->route->retry->num_retries, 7);
	assert_string_equal(v->routes[0]->source->resource, "VirtualService/other/leaf");
	assert_string_equal(v->routes[1]->name, "root");
	assert_string_equal(v->routes[1]->match->path, "/a");
	assert_int_equal(v->routes[1]->route->timeout_us, 1000000);
	(void)t_diag(m, "HF0014", "no match of it goes together");
	(void)t_diag(m, "IST0101", "there is no VirtualService app/nobody");
	done(m);
	(void)state;
}

static void test_export_to_hides_a_virtual_service_from_other_namespaces(void **state)
{
	struct t_mesh *m = rules(T_VS("  exportTo: ['.']\n  http: [{" T_TO_ONE "}]\n"));

	compiled = t_routes(m, "http.80");
	assert_null(t_vhost(compiled, "web.example.com"));
	assert_non_null(t_vhost(compiled, "*")); /* nothing is bound: 404 */
	assert_int_equal(t_vhost(compiled, "*")->n_routes, 0);
	done(m);
	(void)state;
}

static void test_every_route_says_where_it_comes_from(void **state)
{
	struct t_mesh *m = rules(T_VS("  http:\n  - match: [{uri: {prefix: /a}}]\n    " T_TO_ONE "\n  - " T_TO_ONE "\n"));
	Foil__Conf__VirtualHost *v = host_of(m);

	assert_string_equal(v->routes[0]->source->resource, "VirtualService/app/web");
	assert_string_equal(v->routes[0]->source->file, "test.yaml");
	assert_int_equal(v->routes[0]->source->line, 41);
	assert_int_equal(v->routes[0]->source->column, 13);
	assert_int_equal(v->routes[1]->source->line, 43);
	done(m);
	(void)state;
}

/* ---- annotations ---- */
static void test_the_largest_body_is_an_annotation(void **state)
{
	static const struct {
		const char *value;
		uint64_t n_bytes;
	} cases[] = {{"1048576", 1048576}, {"1", 1}, {"0", 0}, {"1Mi", 0}, {"-1", 0}, {"99999999999999999999", 0}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[600];
		(void)snprintf(text, sizeof(text), "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: app, annotations: "
			       "{hydrofoil.io/max-request-body-bytes: '%s'}}\nspec:\n  hosts: [web.test]\n  gateways: [istio-system/main]\n  http:\n"
			       "  - {match: [{uri: {prefix: /here}}], directResponse: {status: 200}}\n  - {" T_TO_ONE "}\n", cases[i].value); /* fits */
		struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, text, NULL);
		Foil__Conf__RouteConfig *r = t_routes(m, "http.80");
		assert_int_equal(r->virtual_hosts[0]->routes[0]->max_request_body_bytes, 0); /* it has no upstream */
		assert_int_equal(r->virtual_hosts[0]->routes[1]->max_request_body_bytes, cases[i].n_bytes);
		if (!cases[i].n_bytes)
			(void)t_diag(m, "IST0106", "not a number of bytes");
		foil__conf__route_config__free_unpacked(r, NULL);
		t_mesh_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_largest_body_is_an_annotation), cmocka_unit_test(test_paths_are_exact_prefix_or_regex),
		cmocka_unit_test(test_conditions_on_headers_pseudo_headers_and_query),
		cmocka_unit_test(test_selectors_of_port_gateway_and_source_decide_where_a_match_exists),
		cmocka_unit_test(test_nothing_after_a_catch_all_is_compiled_and_it_is_told),
		cmocka_unit_test(test_the_same_match_twice_is_told),
		cmocka_unit_test(test_route_names_and_decorators_are_those_of_istio),
		cmocka_unit_test(test_destinations_by_weight_port_and_short_name),
		cmocka_unit_test(test_header_operations_of_one_destination_follow_the_rules),
		cmocka_unit_test(test_header_operations_of_several_destinations_stay_with_them),
		cmocka_unit_test(test_the_authority_is_rewritten_by_the_first_that_says_so),
		cmocka_unit_test(test_rewrites),
		cmocka_unit_test(test_redirects_know_their_port),
		cmocka_unit_test(test_direct_responses),
		cmocka_unit_test(test_retries_have_istios_defaults),
		cmocka_unit_test(test_the_meshs_own_retry_policy_is_the_default),
		cmocka_unit_test(test_faults_mirrors_and_cors),
		cmocka_unit_test(test_a_mirror_of_zero_percent_is_none),
		cmocka_unit_test(test_virtual_services_of_one_host_are_merged_and_catch_alls_go_last),
		cmocka_unit_test(test_age_is_creation_then_name),
		cmocka_unit_test(test_delegates_are_merged_in),
		cmocka_unit_test(test_export_to_hides_a_virtual_service_from_other_namespaces),
		cmocka_unit_test(test_every_route_says_where_it_comes_from),
	};
	return cmocka_run_group_tests_name("istio.routes", tests, NULL, NULL);
}
