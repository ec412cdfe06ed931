/* ctrl/istio/model.c: which documents become resources, what is refused, and what stays in use of something that was refused. */
#include "tests/unit/istio/fixture.h"

#include <string.h>

static void test_a_resource_of_each_kind_is_accepted(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_WEB, T_SUBSETS, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"),
				      "apiVersion: v1\nkind: Namespace\nmetadata: {name: app}\n", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: "
					      "x}\n",
				      "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: b}\n", NULL);

	t_assert_no_diags(m);
	assert_int_equal(istio_model_stats(m->model).n_resources, 7);
	assert_int_equal(istio_model_stats(m->model).n_refused, 0);
	t_mesh_free(m);
	(void)state;
}

static void test_older_api_versions_and_snake_case_mean_the_same(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: networking.istio.io/v1alpha3\nkind: Gateway\nmetadata: {name: main, namespace: istio-system}\n"
				      "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*'], tls: "
					      "{https_redirect: true}}]}\n",
				      NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");

	t_assert_no_diags(m);
	assert_true(r->virtual_hosts[0]->require_tls);
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_lists_are_expanded(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a, namespace: x}\n"
				      "  spec: {ports: [{name: http, port: 80}]}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b, namespace: x}\n"
				      "  spec: {ports: [{name: http, port: 80}]}\n", NULL);

	t_assert_no_diags(m);
	assert_int_equal(istio_model_stats(m->model).n_resources, 2);
	t_mesh_free(m);
	(void)state;
}

static void test_an_unknown_kind_is_a_warning_and_a_known_one_without_support_an_error(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\n",
				      "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: x}\nspec: {}\n", NULL);

	t_assert_at(t_diag(m, "HF0008", "unknown kind Thing"), 2, 7, "kind");
	const struct istio_diag *d = t_diag(m, "HF0005", "requests are not checked by it");
	t_assert_at(d, 6, 7, "");
	assert_string_equal(d->resource, "AuthorizationPolicy/x/p");
	assert_int_equal(m->diags.n_errors, 1);
	assert_int_equal(istio_model_stats(m->model).n_unknown, 1);
	t_mesh_free(m);
	(void)state;
}

static void test_what_is_no_resource_is_refused_and_the_rest_goes_on(void **state)
{
	struct t_mesh *m = t_mesh_new("just: text\n", "apiVersion: networking.istio.io/v9\nkind: Gateway\nmetadata: {name: g}\nspec: {}\n",
				      "apiVersion: v1\nkind: Service\nmetadata: {namespace: x}\nspec: {}\n",
					      "apiVersion: v1\nkind: Service\nmetadata: {name: A_b}\nspec: {}\n",
				      "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\n",
				      "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: h}\nspecs: {}\nspec: {servers: []}\n", T_ONE, NULL);

	t_assert_at(t_diag(m, "IST0106", "needs apiVersion and kind"), 1, 1, "");
	t_assert_at(t_diag(m, "IST0106", "unknown version \"v9\""), 3, 13, "apiVersion");
	t_assert_at(t_diag(m, "IST0106", "a resource needs a name"), 10, 11, "metadata.name");
	t_assert_at(t_diag(m, "IST0106", "lower-case letters"), 15, 18, "metadata");
	t_assert_at(t_diag(m, "IST0106", "a Gateway needs a spec"), 18, 1, "spec");
	t_assert_at(t_diag(m, "IST0106", "did you mean \"spec\"?"), 25, 1, "");
	assert_int_equal(istio_model_stats(m->model).n_resources, 1);
	assert_int_equal(istio_model_stats(m->model).n_refused, 6);
	t_mesh_free(m);
	(void)state;
}

static void test_of_two_resources_of_one_name_the_first_stays(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{directResponse: {status: 200}}]\n"),
				      T_VS("  http: [{directResponse: {status: 201}}]\n"), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");

	assert_non_null(strstr(t_diag(m, "HF0010", "stands twice")->text, "test.yaml:17"));
	assert_int_equal(t_vhost(r, "web.example.com")->routes[0]->direct_response->status, 200);
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_a_refused_resource_runs_on_in_its_last_good_version(void **state)
{
	struct t_mesh *a = t_mesh_new(T_GATEWAY, T_VS("  http: [{directResponse: {status: 200}}]\n"), NULL);
	struct t_mesh *b = t_mesh_after(a, T_GATEWAY "---\n" T_VS("  http: [{directResponse: {status: 999}}]\n"));
	t_mesh_free(a); /* what b holds of it, it holds itself */
	Foil__Conf__RouteConfig *r = t_routes(b, "http.80");

	t_assert_at(t_diag(b, "IST0106", "from 200 to 599"), 14, 36, "spec.http[0].directResponse.status");
	t_assert_at(t_diag(b, "HF0009", "stays in use"), 8, 1, "");
	assert_int_equal(t_vhost(r, "web.example.com")->routes[0]->direct_response->status, 200);
	assert_int_equal(istio_model_stats(b->model).n_last_good, 1);
	foil__conf__route_config__free_unpacked(r, NULL);
	struct t_mesh *c = t_mesh_after(b, T_GATEWAY "---\n" T_VS("  http: [{directResponse: {status: 998}}]\n")); /* and once more */
	r = t_routes(c, "http.80");
	assert_int_equal(t_vhost(r, "web.example.com")->routes[0]->direct_response->status, 200);
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(b);
	struct t_mesh *d = t_mesh_after(c, T_GATEWAY); /* taken out of the file: gone */
	r = t_routes(d, "http.80");
	assert_null(t_vhost(r, "web.example.com"));
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(c);
	t_mesh_free(d);
	(void)state;
}

static void test_mesh_config_comes_from_its_config_map_with_its_own_places(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n"
				      "    accessLogFile: /dev/stdout\n    accessLogEncoding: JSON\n    trustDomain: my.domain\n    connectTimeout: 3\n"
				      "    noSuchThing: 1\n    accessLogFormat: '%NOPE%'\n", T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);
	const struct istio_resource *r = &m->snapshot->resources[0];
	Foil__Conf__MeshSettings *s = foil__conf__mesh_settings__unpack(NULL, r->n_bytes, r->bytes);

	assert_string_equal(s->access_log_path, "/dev/stdout");
	assert_true(s->access_log_json);
	assert_string_equal(s->trust_domain, "my.domain");
	assert_string_equal(s->access_log_format, ""); /* the wrong one is not used */
	t_assert_at(t_diag(m, "IST0106", "a duration like"), 9, 21, "connectTimeout");
	t_assert_at(t_diag(m, "IST0106", "unknown field \"noSuchThing\""), 10, 5, "");
	assert_int_equal(t_diag(m, "IST0106", "NOPE")->at.line, 11);
	foil__conf__mesh_settings__free_unpacked(s, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_trust_domains_that_are_no_names_are_not_used(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n"
				      "    trustDomain: Cluster.local\n    trustDomainAliases: [old.td, no_good, last]\n", NULL);
	const struct istio_resource *r = &m->snapshot->resources[0];
	Foil__Conf__MeshSettings *s = foil__conf__mesh_settings__unpack(NULL, r->n_bytes, r->bytes);

	assert_string_equal(s->trust_domain, "cluster.local"); /* the data plane takes no other */
	t_assert_at(t_diag(m, "IST0106", "\"Cluster.local\" is not a name in lower case"), 6, 18, "trustDomain");
	t_assert_at(t_diag(m, "IST0106", "\"no_good\" is not a name in lower case"), 7, 25, "trustDomainAliases");
	foil__conf__mesh_settings__free_unpacked(s, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_a_mesh_config_that_is_not_yaml_keeps_the_one_before(void **state)
{
#define MAP(text) "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    " text "\n"
	struct t_mesh *a = t_mesh_new(MAP("accessLogFile: /x"), NULL);
	struct t_mesh *b = t_mesh_after(a, MAP("accessLogFile: [/y"));
	t_mesh_free(a);
	const struct istio_resource *r = &b->snapshot->resources[0];
	Foil__Conf__MeshSettings *s = foil__conf__mesh_settings__unpack(NULL, r->n_bytes, r->bytes);

	assert_string_equal(s->access_log_path, "/x");
	t_assert_at(t_diag(b, "HF0009", "MeshConfig"), 5, 9, "data.mesh");
	foil__conf__mesh_settings__free_unpacked(s, NULL);
	t_mesh_free(b);
	(void)state;
#undef MAP
}

static void test_the_same_input_gives_the_same_bytes(void **state)
{
	struct t_mesh *a = t_mesh_new(T_GATEWAY, T_WEB, T_SUBSETS, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);
	struct t_mesh *b = t_mesh_new(T_GATEWAY, T_WEB, T_SUBSETS, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), NULL);

	assert_int_equal(a->snapshot->n_resources, b->snapshot->n_resources);
	for (size_t i = 0; i < a->snapshot->n_resources; i++) {
		assert_int_equal(a->snapshot->resources[i].hash, b->snapshot->resources[i].hash);
		assert_string_equal(a->snapshot->resources[i].name, b->snapshot->resources[i].name);
	}
	t_mesh_free(a);
	t_mesh_free(b);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_resource_of_each_kind_is_accepted),
		cmocka_unit_test(test_older_api_versions_and_snake_case_mean_the_same),
		cmocka_unit_test(test_lists_are_expanded),
		cmocka_unit_test(test_an_unknown_kind_is_a_warning_and_a_known_one_without_support_an_error),
		cmocka_unit_test(test_what_is_no_resource_is_refused_and_the_rest_goes_on),
		cmocka_unit_test(test_of_two_resources_of_one_name_the_first_stays),
		cmocka_unit_test(test_a_refused_resource_runs_on_in_its_last_good_version),
		cmocka_unit_test(test_mesh_config_comes_from_its_config_map_with_its_own_places),
		cmocka_unit_test(test_trust_domains_that_are_no_names_are_not_used),
		cmocka_unit_test(test_a_mesh_config_that_is_not_yaml_keeps_the_one_before),
		cmocka_unit_test(test_the_same_input_gives_the_same_bytes),
	};
	return cmocka_run_group_tests_name("istio.model", tests, NULL, NULL);
}
