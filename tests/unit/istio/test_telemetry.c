/* ctrl/istio/telemetry.c: what listeners log (features.md AL-3). "istiod": read off a dump of a real one. */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <string.h>

#define FILE_LOG "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'accessLogFile: /var/log/x'}\n"
#define DEFAULT_LOG \
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'defaultProviders: {accessLogging: [envoy]}'}\n"
#define TELEMETRY(name, namespace, spec) \
	"apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: " name ", namespace: " namespace "}\nspec: {" spec "}\n"
#define NO_FILE "# nothing\n"
#define ENVOY "providers: [{name: envoy}]"
#define ROOT(rest) TELEMETRY("a", "istio-system", "accessLogging: [{" rest "}]")
#define OF(namespace, gateway, rest) \
	TELEMETRY("b", namespace, "selector: {matchLabels: {istio: " gateway "}}, accessLogging: [{" rest "}]")
#define SERVICE "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {clusterIP: 198.18.10.1, ports: [{name: http, port: 80}]}\n"

/* "off", "all" or the ranges. */
static void logs(const struct t_mesh *m, const char *listener, char out[400])
{
	Foil__Conf__Listener *l = t_listener(m, listener);
	size_t n = 0;

	assert_non_null(l);
	(void)snprintf(out, 400, "%s", l->access_log_off ? "off" : l->n_access_log_statuses ? "" : "all");
	for (size_t i = 0; i < l->n_access_log_statuses && !l->access_log_off; i++)
		n += (size_t)snprintf(out + n, 400 - n, "%s%u-%u", i ? "," : "", l->access_log_statuses[i]->from, l->access_log_statuses[i]->to);
	foil__conf__listener__free_unpacked(l, NULL);
}

static void test_levels_modes_and_providers(void **state)
{
	static const struct {
		const char *file, *a, *b, *gateway, *service;
	} cases[] = {
		{NO_FILE, NO_FILE, NO_FILE, "off", "off"},
		{FILE_LOG, NO_FILE, NO_FILE, "all", "all"},
		/* istiod: entries without a provider, and there is no default one, change nothing */
		{FILE_LOG, TELEMETRY("a", "istio-system", "accessLogging: [{}]"), NO_FILE, "all", "all"},
		{FILE_LOG, TELEMETRY("a", "istio-system", "accessLogging: [{disabled: true}]"), NO_FILE, "all", "all"},
		{FILE_LOG, TELEMETRY("a", "istio-system", "accessLogging: [{filter: {expression: 'response.code >= 400'}}]"), NO_FILE, "all", "all"},
		/* istiod: the filter of a provider, with and without accessLogFile */
		{NO_FILE, ROOT(ENVOY ", filter: {expression: 'response.code >= 400'}"), NO_FILE, "400-599", "400-599"},
		/* istiod: SERVER is not a gateway's mode */
		{FILE_LOG, ROOT(ENVOY ", match: {mode: SERVER}, disabled: true"), NO_FILE, "all", "all"},
		{FILE_LOG, ROOT(ENVOY ", match: {mode: CLIENT}, disabled: true"), NO_FILE, "off", "off"},
		/* istiod: a workload's own */
		{FILE_LOG, OF("istio-system", "ingressgateway", ENVOY ", disabled: true"), NO_FILE,
		 "off", "all"},
		{FILE_LOG, OF("istio-system", "egressgateway", ENVOY ", disabled: true"), NO_FILE,
		 "all", "all"},
		{FILE_LOG, OF("other", "ingressgateway", ENVOY ", disabled: true"), NO_FILE, "all",
		 "all"},
		/* istiod: a filter without a provider is nobody's; the provider is that of the entry before */
		{NO_FILE, ROOT(ENVOY),
		 OF("istio-system", "ingressgateway", "filter: {expression: 'response.code == 500'}"),
		 "all", "all"},
		/* MeshConfig's default provider */
		{DEFAULT_LOG, NO_FILE, NO_FILE, "all", "all"},
		{DEFAULT_LOG, TELEMETRY("a", "shop", "accessLogging: [{disabled: true}]"), NO_FILE, "all", "off"},
		/* a namespace over the mesh */
		{NO_FILE, ROOT(ENVOY), TELEMETRY("b", "shop", "accessLogging: [{disabled: true}]"), "all", "off"},
		{NO_FILE, ROOT(ENVOY ", disabled: true"),
		 TELEMETRY("b", "shop", "accessLogging: [{" ENVOY ", filter: {expression: 'response.code == 503'}}]"), "off", "503-503"},
	};
	char text[400];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, SERVICE, T_VS("  http: [{" T_TO_ONE "}]\n"), cases[i].file, cases[i].a, cases[i].b, NULL);
		t_assert_no_diags(m);
		logs(m, "198.18.0.1_80", text);
		if (strcmp(text, cases[i].gateway) != 0)
			fail_msg("case %zu: the gateway logs %s, not %s", i, text, cases[i].gateway);
		logs(m, "198.18.10.1_80", text);
		if (strcmp(text, cases[i].service) != 0)
			fail_msg("case %zu: the service logs %s, not %s", i, text, cases[i].service);
		t_mesh_free(m);
	}
	(void)state;
}

static void test_filters_are_sets_of_statuses(void **state)
{
	static const struct {
		const char *expression, *want; /* NULL: refused */
	} cases[] = {
		{"response.code >= 400", "400-599"}, {"400 <= response.code", "400-599"}, {"response.code==404", "404-404"},
		{"!(response.code < 500) && response.code != 503", "500-502,504-599"}, {"response.code < 200 || response.code > 299", "100-199,300-599"},
		{"response.code == 200 || response.code == 404 && response.code == 404", "200-200,404-404"}, {"!!(response.code == 500)", "500-500"},
		{"response.code > 599", "off"}, {" ( ( response.code >= 100 ) ) ", "100-599"}, {"response.code >= 400 &&", NULL}, {"", NULL},
		{"response.codes >= 400", NULL}, {"response.code >= 400)", NULL}, {"(response.code >= 400", NULL}, {"request.method == 'GET'", NULL},
		{"response.code >= -1", NULL}, {"response.code => 400", NULL}, {"!!!!!!!!!!!!!!!!!!!!response.code == 1", NULL}, {"true", NULL},
		{"response.code >= 400 response.code", NULL}, {"400 < 500", NULL},
	};
	char text[600], found[400];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text), ROOT(ENVOY ", filter: {expression: \"%s\"}"), cases[i].expression);
		struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), text, NULL);
		if (!cases[i].want) {
			assert_true(m->diags.n > 0);
			assert_string_equal(m->diags.list[0].field, "spec.accessLogging[0].filter.expression");
		} else {
			t_assert_no_diags(m);
			logs(m, "198.18.0.1_80", found);
			if (strcmp(found, cases[i].want) != 0)
				fail_msg("%s: %s, not %s", cases[i].expression, found, cases[i].want);
		}
		t_mesh_free(m);
	}
	(void)state;
}

static void test_what_is_not_honoured_is_refused_by_name(void **state)
{
	static const struct {
		const char *spec, *code, *field;
	} cases[] = {{"tracing: [{disableSpanReporting: true}]", "HF0005", "spec.tracing"}, {"metrics: [{}]", "HF0005", "spec.metrics"},
		     {"targetRefs: [{kind: Gateway, name: g}]", "HF0005", "spec.targetRefs"},
		     {"accessLogging: [{providers: [{name: otel}]}]", "HF0005", "spec.accessLogging[0].providers[0].name"},
		     {"accessLogging: [{match: {mode: BOTH}}]", "IST0106", "spec.accessLogging[0].match.mode"}};
	char text[400];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text), TELEMETRY("a", "istio-system", "%s"), cases[i].spec);
		struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), text, NULL);
		assert_string_equal(t_diag(m, cases[i].code, "")->field, cases[i].field);
		t_mesh_free(m);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels_modes_and_providers), cmocka_unit_test(test_filters_are_sets_of_statuses),
		cmocka_unit_test(test_what_is_not_honoured_is_refused_by_name),
	};

	return cmocka_run_group_tests_name("istio.telemetry", tests, NULL, NULL);
}
