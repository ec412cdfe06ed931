/* ctrl/istio/ingress.c, ingresses.c: Kubernetes' Ingress as Istio takes it (features.md GW-21; tests/recorded/ingress*.yaml is what Istio did). */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESH(lines) "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n" lines
#define CLASS(name, controller) \
	"apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: " name "}\nspec: {controller: " controller "}\n"
/* Its spec begins at line 4. */
#define INGRESS_WITH(name, metadata, spec) \
	"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: " name ", namespace: app" metadata "}\nspec:\n" spec
#define OF_CLASS(class) ", annotations: {kubernetes.io/ingress.class: " class "}"
#define INGRESS(name, spec) INGRESS_WITH(name, OF_CLASS("istio"), spec)
#define TO(service, port) "backend: {service: {name: " service ", port: {" port "}}}"
#define PATH(type, path, service) "{pathType: " type ", path: '" path "', " TO(service, "number: 80") "}"
#define RULE(host, paths) "  - {host: '" host "', http: {paths: [" paths "]}}\n"
#define SERVICE(name) \
	"apiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: app}\nspec: {clusterIP: 198.19.7.1, ports: [{name: http, port: 80}]}\n"

static void assert_route(const Foil__Conf__Route *r, int kind, const char *path, const char *cluster)
{
	assert_int_equal(r->match->path_kind, kind);
	assert_string_equal(r->match->path, path);
	assert_string_equal(r->route->clusters[0]->cluster, cluster);
}

static void test_the_longest_path_comes_first_and_the_exact_one_of_one_length(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE("shop"), SERVICE("books"),
				      INGRESS("web", "  rules:\n" RULE("Web.example.com", PATH("Prefix", "/", "shop") ", " PATH("Prefix", "/same", "shop") ", "
									PATH("Exact", "/same", "books") ", " PATH("Prefix", "/longer/", "books") ", "
									PATH("ImplementationSpecific", "/impl", "books") ", "
									PATH("ImplementationSpecific", "/star/*", "books") ", "
									PATH("ImplementationSpecific", "/dot.*", "books") ", "
									PATH("ImplementationSpecific", "", "books"))), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");
	const Foil__Conf__VirtualHost *v = t_vhost(r, "web.example.com");
	static const char shop[] = "outbound|80||shop.app.svc.cluster.local", books[] = "outbound|80||books.app.svc.cluster.local";

	assert_int_equal(v->n_routes, 7); /* behind the path / nothing is reached */
	assert_route(v->routes[0], FOIL__CONF__PATH_MATCH_KIND__PATH_SEGMENT_PREFIX, "/longer", books);
	assert_route(v->routes[1], FOIL__CONF__PATH_MATCH_KIND__PATH_EXACT, "/same", books);
	assert_route(v->routes[2], FOIL__CONF__PATH_MATCH_KIND__PATH_EXACT, "/impl", books);
	assert_route(v->routes[3], FOIL__CONF__PATH_MATCH_KIND__PATH_SEGMENT_PREFIX, "/same", shop);
	assert_route(v->routes[4], FOIL__CONF__PATH_MATCH_KIND__PATH_SEGMENT_PREFIX, "/star", books);
	assert_route(v->routes[5], FOIL__CONF__PATH_MATCH_KIND__PATH_SEGMENT_PREFIX, "/dot", books);
	assert_route(v->routes[6], FOIL__CONF__PATH_MATCH_KIND__PATH_PREFIX, "/", shop);
	assert_string_equal(v->routes[0]->decorator_operation, "books.app.svc.cluster.local:80/*");
	assert_string_equal(v->routes[1]->decorator_operation, "books.app.svc.cluster.local:80/same");
	assert_string_equal(v->routes[0]->source->resource, "Ingress/app/web");
	assert_int_equal(v->routes[0]->source->line, 16);
	assert_string_equal(t_diag(m, "IST0130", "of Ingress/app/web matches every request")->field, "spec.rules[0].http.paths[7]");
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_the_oldest_ingress_of_a_host_goes_first_whatever_its_name(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE("old"), SERVICE("young"),
				      INGRESS_WITH("a", OF_CLASS("istio") ", creationTimestamp: '2026-02-02T00:00:00Z'",
						   "  rules:\n" RULE("a.test", PATH("Prefix", "/both", "young") ", " PATH("Prefix", "/young", "young"))),
				      INGRESS_WITH("b", OF_CLASS("istio") ", creationTimestamp: '2026-01-01T00:00:00Z'",
						   "  rules:\n" RULE("a.test", PATH("Prefix", "/both", "old"))), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");
	const Foil__Conf__VirtualHost *v = t_vhost(r, "a.test");

	assert_int_equal(v->n_routes, 3);
	assert_string_equal(v->routes[0]->match->path, "/young");
	assert_string_equal(v->routes[0]->source->resource, "Ingress/app/a");
	assert_string_equal(v->routes[1]->source->resource, "Ingress/app/b");
	assert_string_equal(t_diag(m, "IST0131", "never matches")->resource, "Ingress/app/a");
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_an_ingress_goes_before_the_virtual_services_of_its_host(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: app, "
				      "creationTimestamp: '2020-01-01T00:00:00Z'}\nspec: {hosts: [a.test], gateways: [istio-system/main], "
				      "http: [{" T_TO_ONE "}]}\n",
				      SERVICE("shop"), INGRESS("web", "  rules:\n" RULE("a.test", PATH("Exact", "/x", "shop"))), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");
	const Foil__Conf__VirtualHost *v = t_vhost(r, "a.test");

	t_assert_no_diags(m);
	assert_int_equal(v->n_routes, 2);
	assert_string_equal(v->routes[0]->source->resource, "Ingress/app/web");
	assert_string_equal(v->routes[1]->source->resource, "VirtualService/app/v");
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_rules_without_host_are_for_all_and_wildcards_for_all_below(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE("shop"), INGRESS("web", "  rules:\n  - {http: {paths: [" PATH("Prefix", "/any", "shop") "]}}\n"
							       RULE("*.a.test", PATH("Prefix", "/", "shop")) "  - {host: nothing.test}\n"), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");

	assert_non_null(t_vhost(r, "*"));
	assert_non_null(t_vhost(r, "*.a.test"));
	assert_null(t_vhost(r, "nothing.test"));
	t_assert_at(t_diag(m, "HF0007", "leads nowhere"), 13, 5, "spec.rules[2].http");
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

/* ---- whose it is ---- */

#define PLAIN "  rules:\n" RULE("a.test", PATH("Prefix", "/", "shop"))
#define NAMED(class) "  ingressClassName: " class "\n" PLAIN

static void test_class_and_controller_mode_say_whose_it_is(void **state)
{
	static const struct {
		const char *mesh, *ingress;
		bool is_ours;
		const char *code, *part;
	} cases[] = {
		{"", INGRESS("i", PLAIN), true, NULL, NULL},
		{"", INGRESS_WITH("i", OF_CLASS("nginx"), PLAIN), false, "HF0021", "is of the class \"nginx\", ours is \"istio\""},
		{"", INGRESS_WITH("i", "", PLAIN), false, "HF0007", "has no class and is not served"},
		{"", INGRESS_WITH("i", "", NAMED("ours")), true, NULL, NULL},
		{"", INGRESS_WITH("i", "", NAMED("theirs")), false, "HF0021", "is of the controller k8s.io/ingress-nginx"},
		{"", INGRESS_WITH("i", "", NAMED("nobody")), false, "IST0101", "there is no IngressClass nobody: it is not served"},
		{"", INGRESS_WITH("i", OF_CLASS("nginx"), NAMED("ours")), false, "HF0021", "left to the other controller"},
		{"    ingressClass: edge\n", INGRESS("i", PLAIN), false, "HF0021", "ours is \"edge\""},
		{"    ingressClass: edge\n", INGRESS_WITH("i", OF_CLASS("edge"), PLAIN), true, NULL, NULL},
		{"    ingressControllerMode: DEFAULT\n", INGRESS_WITH("i", "", PLAIN), true, NULL, NULL},
		{"    ingressControllerMode: DEFAULT\n", INGRESS_WITH("i", "", NAMED("nobody")), true, "IST0101", "takes it as one without a class"},
		{"    ingressControllerMode: DEFAULT\n", INGRESS_WITH("i", "", NAMED("theirs")), false, "HF0021", "left to that one"},
		{"    ingressControllerMode: DEFAULT\n", INGRESS_WITH("i", OF_CLASS("nginx"), PLAIN), false, "HF0021", "left to the other controller"},
		{"    ingressControllerMode: \"OFF\"\n", INGRESS("i", PLAIN), false, "HF0021", "ingressControllerMode is OFF"},
		{"    ingressControllerMode: \"OFF\"\n", INGRESS_WITH("i", "", NAMED("ours")), false, "HF0021", "ingressControllerMode is OFF"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char mesh[300];
		(void)snprintf(mesh, sizeof(mesh), MESH("%s"), cases[i].mesh[0] ? cases[i].mesh : "    ingressControllerMode: STRICT\n");
		struct t_mesh *m = t_mesh_new(cases[i].ingress, SERVICE("shop"), CLASS("ours", "istio.io/ingress-controller"),
					      CLASS("theirs", "k8s.io/ingress-nginx"), mesh, NULL);
		if (t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER, "198.18.0.1_80") != cases[i].is_ours)
			fail_msg("case %zu: %s", i, cases[i].is_ours ? "not served" : "served");
		if (cases[i].code)
			(void)t_diag(m, cases[i].code, cases[i].part);
		else
			t_assert_no_diags(m);
		t_mesh_free(m);
	}
	(void)state;
}

static void test_what_stands_in_somebody_elses_is_nobodys_business(void **state)
{
	struct t_mesh *m = t_mesh_new(INGRESS_WITH("i", OF_CLASS("nginx"), "  defaultBackend: {resource: {kind: Bucket, name: b}}\n  rules: 5\n  odd: true\n"),
				      NULL);

	assert_int_equal(m->diags.n, 1); /* that it is left to the other one */
	assert_int_equal(m->diags.list[0].severity, ISTIO_INFO);
	t_mesh_free(m);
	(void)state;
}

static void test_which_gateway_serves_them(void **state)
{
	static const struct {
		const char *mesh;
		bool is_ingress, is_egress;
	} cases[] = {
		{"    ingressService: istio-ingressgateway\n", true, false}, {"    ingressService: ''\n", true, false},
		{"    ingressService: egressgateway\n", false, true}, {"    ingressService: elsewhere\n", false, false},
		{"    ingressService: elsewhere\n    ingressSelector: egressgateway\n", false, true},
		{"    ingressService: egressgateway\n    ingressSelector: ingressgateway\n", true, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char mesh[300];
		(void)snprintf(mesh, sizeof(mesh), MESH("%s"), cases[i].mesh);
		struct t_mesh *m = t_mesh_new(INGRESS("i", PLAIN), SERVICE("shop"), mesh, NULL);
		assert_int_equal(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER, "198.18.0.1_80"), cases[i].is_ingress);
		assert_int_equal(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER, "198.19.0.1_80"), cases[i].is_egress);
		t_mesh_free(m);
	}
	(void)state;
}

/* ---- backends ---- */

static void test_backends_by_the_name_of_a_port_and_what_is_not_there(void **state)
{
	struct t_mesh *m = t_mesh_new(INGRESS("i", "  rules:\n  - host: a.test\n    http:\n      paths:\n"
					      "      - {path: /a, pathType: Prefix, " TO("shop", "name: http") "}\n"
					      "      - {path: /b, pathType: Prefix, " TO("shop", "name: grpc") "}\n"
					      "      - {path: /c, pathType: Prefix, " TO("gone", "name: http") "}\n"
					      "      - {path: /d, pathType: Prefix, " TO("shop", "number: 81") "}\n"
					      "      - {path: /e, pathType: Prefix, " TO("gone", "number: 80") "}\n"), SERVICE("shop"), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");
	const Foil__Conf__VirtualHost *v = t_vhost(r, "a.test");

	assert_int_equal(v->n_routes, 3);
	assert_route(v->routes[0], FOIL__CONF__PATH_MATCH_KIND__PATH_SEGMENT_PREFIX, "/a", "outbound|80||shop.app.svc.cluster.local");
	t_assert_at(t_diag(m, "IST0101", "Service app/shop has no port named grpc"), 10, 83, "spec.rules[0].http.paths[1].backend.service.port.name");
	t_assert_at(t_diag(m, "IST0101", "no Service app/gone whose port"), 11, 83, "spec.rules[0].http.paths[2].backend.service.port.name");
	t_assert_at(t_diag(m, "IST0101", "has no port 81"), 12, 76, "spec.rules[0].http.paths[3].backend.service.port");
	t_assert_at(t_diag(m, "IST0101", "has the host gone.app.svc.cluster.local"), 13, 64, "spec.rules[0].http.paths[4].backend.service.name");
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_what_istio_leaves_out_is_told(void **state)
{
	struct t_mesh *m = t_mesh_new(INGRESS_WITH("i", ", annotations: {kubernetes.io/ingress.class: istio, nginx.ingress.kubernetes.io/rewrite-target: /}",
						   "  defaultBackend: {service: {name: shop, port: {number: 80}}}\n"
						   "  rules:\n" RULE("a.test", PATH("Exact", "/a?b", "shop"))), SERVICE("shop"), NULL);

	t_assert_at(t_diag(m, "HF0006", "write a rule without host"), 5, 19, "spec.defaultBackend");
	t_assert_at(t_diag(m, "HF0007", "nginx.ingress.kubernetes.io/rewrite-target is another controller's"), 3, 50, "metadata.annotations");
	t_assert_at(t_diag(m, "HF0007", "never matches"), 7, 61, "spec.rules[0].http.paths[0].path");
	t_mesh_free(m);
	(void)state;
}

/* ---- tls ---- */

#define SECRET(namespace) "apiVersion: v1\nkind: Secret\nmetadata: {name: cert, namespace: " namespace "}\ntype: kubernetes.io/tls\ndata: {}\n"

static void test_each_tls_entry_is_a_server_at_443(void **state)
{
	struct t_mesh *m = t_mesh_new(INGRESS("i", "  tls:\n  - {hosts: [A.test, '*.b.test'], secretName: cert}\n  - {hosts: [c.test]}\n"
					      "  - {secretName: other}\n  rules:\n" RULE("a.test", PATH("Prefix", "/", "shop"))), SERVICE("shop"),
				      SECRET("app"), NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.0.1_443");
	Foil__Conf__RouteConfig *r = t_routes(m, "https.443.https-443-ingress-i-app-0.i-istio-autogenerated-k8s-ingress-app.istio-system");

	assert_int_equal(l->n_filter_chains, 2);
	assert_int_equal(l->filter_chains[0]->n_server_names, 2);
	assert_string_equal(l->filter_chains[0]->server_names[0], "a.test");
	assert_string_equal(l->filter_chains[0]->tls->secrets[0], "kubernetes://istio-system/cert");
	assert_int_equal(l->filter_chains[1]->n_server_names, 0);
	assert_non_null(t_vhost(r, "a.test"));
	t_assert_at(t_diag(m, "IST0101", "the Secret \"cert\" is not there"), 6, 47, "spec.tls[0].secretName");
	t_assert_at(t_diag(m, "HF0007", "is read in namespace istio-system, not in app"), 6, 47, "spec.tls[0].secretName");
	t_assert_at(t_diag(m, "HF0007", "without secretName nothing is served"), 7, 5, "spec.tls[1].secretName");
	foil__conf__route_config__free_unpacked(r, NULL);
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_tls_of_another_ingress_than_the_oldest_finds_no_routes(void **state)
{
	struct t_mesh *m = t_mesh_new(INGRESS("a", PLAIN RULE("b.c.test", PATH("Prefix", "/", "shop"))),
				      INGRESS("b", "  tls:\n  - {hosts: [a.test], secretName: cert}\n  - {hosts: ['*.c.TEST'], secretName: cert}\n" PLAIN
					      RULE("b.c.test", PATH("Prefix", "/x", "shop"))), SERVICE("shop"),
				      "apiVersion: v1\nkind: Secret\nmetadata: {name: cert, namespace: istio-system}\ndata: {}\n", NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "https.443.https-443-ingress-b-app-0.b-istio-autogenerated-k8s-ingress-app.istio-system");

	assert_null(t_vhost(r, "a.test"));
	t_assert_at(t_diag(m, "HF0007", "b.c.test is answered with 404"), 15, 5, "spec.tls[1]");
	t_assert_at(t_diag(m, "HF0007", "a.test is answered with 404 over TLS, as in Istio: Ingress/app/a is older"), 14, 5, "spec.tls[0]");
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_a_host_that_two_ingresses_end_tls_for_is_told_where_it_stands(void **state)
{
	struct t_mesh *m = t_mesh_new(INGRESS("a", "  tls: [{hosts: [a.test], secretName: cert}]\n" PLAIN),
				      INGRESS("b", "  tls: [{hosts: [c.test, a.test], secretName: cert}]\n" PLAIN), SERVICE("shop"), NULL);

	t_assert_at(t_diag(m, "IST0145", "a.test is already served at port 443"), 13, 9, "spec.tls[0].hosts");
	t_mesh_free(m);
	(void)state;
}

/* ---- what a model does for all kinds ---- */

static void test_a_refused_one_runs_on_in_its_last_good_version_if_that_was_ours(void **state)
{
	struct t_mesh *a = t_mesh_new(INGRESS("i", PLAIN), SERVICE("shop"), NULL);
	struct t_mesh *b = t_mesh_after(a, INGRESS("i", "  rules: 5\n") "---\n" SERVICE("shop"));
	t_mesh_free(a);
	struct t_mesh *c = t_mesh_after(b, INGRESS("i", "  rules: 6\n") "---\n" SERVICE("shop"));
	t_mesh_free(b);
	Foil__Conf__RouteConfig *r = t_routes(c, "http.80");

	assert_non_null(t_vhost(r, "a.test"));
	t_assert_at(t_diag(c, "IST0106", "must be a list"), 5, 10, "spec.rules");
	t_assert_at(t_diag(c, "HF0009", "stays in use"), 1, 1, "");
	assert_int_equal(istio_model_stats(c->model).n_last_good, 1);
	assert_int_equal(istio_model_stats(c->model).n_refused, 1);
	assert_int_equal(istio_model_stats(c->model).n_resources, 1);
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(c);
	a = t_mesh_new(INGRESS_WITH("i", OF_CLASS("nginx"), PLAIN), SERVICE("shop"), NULL);
	b = t_mesh_after(a, INGRESS("i", "  rules: 5\n"));
	assert_false(t_has(b, FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER, "198.18.0.1_80"));
	assert_int_equal(istio_model_stats(b->model).n_last_good, 0);
	t_mesh_free(a);
	t_mesh_free(b);
	(void)state;
}

static void test_a_virtual_service_may_bind_to_what_was_made(void **state)
{
	struct t_mesh *m = t_mesh_new(INGRESS("i", PLAIN), SERVICE("shop"), T_ONE, "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
				      "metadata: {name: v, namespace: app}\nspec: {hosts: [b.test], "
				      "gateways: [istio-system/i-istio-autogenerated-k8s-ingress-app], http: [{" T_TO_ONE "}]}\n", NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");

	t_assert_no_diags(m);
	assert_non_null(t_vhost(r, "b.test"));
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_explain_names_the_ingress(void **state)
{
	struct t_mesh *m = t_mesh_new(INGRESS("i", "  rules:\n  - host: a.test\n    http:\n      paths:\n      - " PATH("Prefix", "/foo", "shop") "\n      - "
					      PATH("Exact", "/foo/bar", "shop") "\n"), SERVICE("shop"), NULL);
	char *text;

	assert_int_equal(istio_explain(m->snapshot, &(struct istio_request){.authority = "a.test", .path = "/foo/x"}, &text, NULL), 0);
	assert_non_null(strstr(text, "listener 198.18.0.1_80 (Ingress/app/i at test.yaml:5:3)"));
	assert_non_null(strstr(text, "passed over: route (without a name) (Ingress/app/i at test.yaml:10:9): path is /foo/x, wanted exactly /foo/bar"));
	assert_non_null(strstr(text, "taken: route (without a name) (Ingress/app/i at test.yaml:9:9)"));
	free(text);
	assert_int_equal(istio_explain(m->snapshot, &(struct istio_request){.authority = "a.test", .path = "/foobar"}, &text, NULL), 1);
	free(text);
	t_mesh_free(m);
	(void)state;
}

static void test_names_that_are_too_long_for_a_route_table_are_refused(void **state)
{
	char name[200] = "", text[1200];

	memset(name, 'a', 187);
	for (int over = 0; over < 2; over++) {
		name[187] = over ? 'a' : 0; /* with "app" 190 bytes, and 191 */
		(void)snprintf(text, sizeof(text), INGRESS_WITH("%s", OF_CLASS("istio"), "  tls: [{secretName: cert}]\n" PLAIN), name);
		struct t_mesh *m = t_mesh_new(text, SERVICE("shop"), NULL);
		for (size_t i = 0; i < m->snapshot->n_resources; i++)
			assert_true(strlen(m->snapshot->resources[i].name) <= 512);
		assert_int_equal(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER, "198.18.0.1_443"), !over);
		if (over)
			(void)t_diag(m, "HF0016", "more than 190 bytes together");
		t_mesh_free(m);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_longest_path_comes_first_and_the_exact_one_of_one_length),
		cmocka_unit_test(test_the_oldest_ingress_of_a_host_goes_first_whatever_its_name),
		cmocka_unit_test(test_an_ingress_goes_before_the_virtual_services_of_its_host),
		cmocka_unit_test(test_rules_without_host_are_for_all_and_wildcards_for_all_below),
		cmocka_unit_test(test_class_and_controller_mode_say_whose_it_is),
		cmocka_unit_test(test_what_stands_in_somebody_elses_is_nobodys_business),
		cmocka_unit_test(test_which_gateway_serves_them),
		cmocka_unit_test(test_backends_by_the_name_of_a_port_and_what_is_not_there),
		cmocka_unit_test(test_what_istio_leaves_out_is_told),
		cmocka_unit_test(test_each_tls_entry_is_a_server_at_443),
		cmocka_unit_test(test_tls_of_another_ingress_than_the_oldest_finds_no_routes),
		cmocka_unit_test(test_a_host_that_two_ingresses_end_tls_for_is_told_where_it_stands),
		cmocka_unit_test(test_a_refused_one_runs_on_in_its_last_good_version_if_that_was_ours),
		cmocka_unit_test(test_a_virtual_service_may_bind_to_what_was_made),
		cmocka_unit_test(test_explain_names_the_ingress),
		cmocka_unit_test(test_names_that_are_too_long_for_a_route_table_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
