/* ctrl/istio/lint.c: what is legal and hardly meant. The codes, and on what they are said, are those of istioctl analyze over the same text. */
#include "tests/unit/istio/fixture.h"

#include <string.h>

#define TWO_PORTS \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: two, namespace: app}\n" \
	"spec: {hosts: [two.test], resolution: STATIC, ports: [{number: 80, name: a, protocol: HTTP}, {number: 81, name: b, protocol: HTTP}],\n" \
	"  endpoints: [{address: 198.19.0.10, labels: {version: v1}}]}\n"
#define ENTRY(name, spec) \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name ", namespace: app}\nspec: {" spec "}\n"
#define SIDECAR(name, spec) "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: " name ", namespace: app}\nspec: {" spec "}\n"
#define GATEWAY(name, annotations, selector, host) \
	"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: " name ", namespace: app, annotations: {" annotations "}}\n" \
	"spec: {selector: {" selector "}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [" host "], " \
	"tls: {mode: SIMPLE, credentialName: cert}}]}\n"

static unsigned int n_of(const struct t_mesh *m, const char *code)
{
	unsigned int n = 0;

	for (size_t i = 0; i < m->diags.n; i++)
		n += strcmp(m->diags.list[i].code, code) == 0;
	return n;
}

static void test_a_destination_that_leaves_the_port_open(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, TWO_PORTS, T_VS("  http:\n  - route: [{destination: {host: two.test}}]\n"), NULL);

	t_assert_at(t_diag(m, "IST0112", "has 2 ports"), 21, 27, "spec.http[0].route[0].destination");
	t_mesh_free(m);
	m = t_mesh_new(T_GATEWAY, TWO_PORTS, T_VS("  http:\n  - route: [{destination: {host: two.test, port: {number: 80}}}]\n"), NULL);
	t_assert_no_diags(m);
	t_mesh_free(m);
	(void)state;
}

static void test_a_subset_of_nobody(void **state)
{
	struct t_mesh *m = t_mesh_new(TWO_PORTS, "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: two, namespace: app}\n"
						 "spec: {host: two.test, subsets: [{name: v1, labels: {version: v1}}, "
						 "{name: v2, labels: {version: v2}}]}\n", NULL);

	assert_int_equal(m->diags.n, 1);
	t_assert_at(t_diag(m, "IST0173", "requests to the subset v2 get 503 (UH)"), 10, 69, "spec.subsets[1].labels");
	t_mesh_free(m);
	(void)state;
}

static void test_sidecars_for_the_whole_namespace(void **state)
{
	struct t_mesh *m = t_mesh_new(SIDECAR("s1", "egress: [{hosts: ['./*']}]"), SIDECAR("s2", "egress: [{hosts: ['*/*']}]"),
				      SIDECAR("s3", "workloadSelector: {labels: {app: a}}, egress: [{hosts: ['*/*']}]"), NULL);

	assert_int_equal(n_of(m, "IST0111"), 1);
	(void)t_diag(m, "IST0111", "an older Sidecar without workloadSelector, Sidecar/app/s1");
	t_mesh_free(m);
	(void)state;
}

static void test_entries_for_tcp_want_addresses(void **state)
{
	struct t_mesh *m = t_mesh_new(ENTRY("a", "hosts: [a.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}, "
						 "{number: 90, name: t, protocol: tcp}, {number: 91, name: any}]"),
				      ENTRY("b", "hosts: [b.test], addresses: [198.18.10.7], resolution: STATIC, "
						 "ports: [{number: 90, name: t, protocol: TCP}]"),
				      ENTRY("c", "hosts: [c.test], resolution: DNS, ports: [{number: 443, name: t, protocol: TLS}]"), NULL);

	assert_int_equal(n_of(m, "IST0134"), 1);
	t_assert_at(t_diag(m, "IST0134", "told apart by its port alone"), 4, 95, "spec.ports[1]");
	t_mesh_free(m);
	(void)state;
}

static void test_entries_that_speak_differently_at_one_port(void **state)
{
	struct t_mesh *m = t_mesh_new(ENTRY("a", "hosts: [a.test, b.test], resolution: DNS, ports: [{number: 80, name: h, protocol: HTTP}]"),
				      ENTRY("b", "hosts: [B.test], resolution: DNS, ports: [{number: 80, name: h, protocol: HTTP2}]"),
				      ENTRY("c", "hosts: [a.test], resolution: DNS, ports: [{number: 80, name: h, protocol: http}]"), NULL);

	assert_int_equal(n_of(m, "IST0177"), 1);
	(void)t_diag(m, "IST0177", "port 80 of b.test is HTTP in ServiceEntry/app/a");
	t_mesh_free(m);
	(void)state;
}

static void test_gateways_with_one_certificate(void **state)
{
	struct t_mesh *m = t_mesh_new(GATEWAY("a", "", "istio: ingressgateway", "a.test"), GATEWAY("b", "", "istio: ingressgateway", "b.test"),
				      GATEWAY("c", "", "istio: other", "c.test"), NULL);

	assert_int_equal(n_of(m, "IST0138"), 1);
	(void)t_diag(m, "IST0138", "Gateway/app/a has the certificate cert, too");
	(void)t_diag(m, "IST0101", "no gateway of the node file has these labels"); /* c */
	t_mesh_free(m);
	m = t_mesh_new(GATEWAY("a", "hydrofoil.io/misdirected: refuse", "istio: ingressgateway", "a.test"),
		       GATEWAY("b", "hydrofoil.io/misdirected: refuse", "istio: ingressgateway", "b.test"), NULL);
	assert_int_equal(n_of(m, "IST0138"), 0);
	t_mesh_free(m);
	(void)state;
}

#define TO "route: [{destination: {host: one.test}}]"

static void test_a_prefix_hides_what_begins_with_it(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http:\n"
							      "  - {match: [{uri: {prefix: /head}, method: {exact: PUT}}], " TO "}\n"
							      "  - {match: [{uri: {prefix: /head}}], " TO "}\n"
							      "  - {match: [{uri: {exact: /head1}, method: {exact: GET}}, {uri: {prefix: /hea}}], " TO "}\n"
							      "  - {match: [{uri: {prefix: /head/x}}, {uri: {exact: /head}}], " TO "}\n"
							      "  - {match: [{uri: {prefix: /HEAD}}, {uri: {regex: /head.*}}], " TO "}\n"
							      "  - {match: [{uri: {exact: /heady}, ignoreUriCase: true}], " TO "}\n"), NULL);

	assert_int_equal(n_of(m, "IST0131"), 3);
	assert_string_equal(t_diag(m, "IST0131", "the prefix /head in line")->field, "spec.http[2].match[0]");
	assert_int_equal(n_of(m, "IST0130"), 1);
	assert_string_equal(t_diag(m, "IST0130", "none of its matches")->field, "spec.http[3]");
	t_mesh_free(m);
	(void)state;
}

static void test_rules_of_connections(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  tcp:\n"
							      "  - {match: [{port: 90}], " TO "}\n"
							      "  - {match: [{port: 90, destinationSubnets: [198.18.0.0/16]}, {port: 90}], " TO "}\n"
							      "  - {" TO "}\n"
							      "  - {match: [{port: 91}], " TO "}\n"
							      "  tls:\n"
							      "  - {match: [{port: 443, sniHosts: [a.test, b.test]}], " TO "}\n"
							      "  - {match: [{port: 443, sniHosts: [a.test]}], " TO "}\n"
							      "  - {match: [{port: 443, sniHosts: [a.test]}], " TO "}\n"), NULL);

	assert_int_equal(n_of(m, "IST0130"), 1);
	assert_string_equal(t_diag(m, "IST0130", "takes every connection")->field, "spec.tcp[3]");
	assert_int_equal(n_of(m, "IST0131"), 2);
	assert_string_equal(t_diag(m, "IST0131", "the same match")->field, "spec.tcp[1].match[1]");
	t_mesh_free(m);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_destination_that_leaves_the_port_open),
		cmocka_unit_test(test_a_subset_of_nobody),
		cmocka_unit_test(test_sidecars_for_the_whole_namespace),
		cmocka_unit_test(test_entries_for_tcp_want_addresses),
		cmocka_unit_test(test_entries_that_speak_differently_at_one_port),
		cmocka_unit_test(test_gateways_with_one_certificate),
		cmocka_unit_test(test_a_prefix_hides_what_begins_with_it),
		cmocka_unit_test(test_rules_of_connections),
	};
	return cmocka_run_group_tests_name("istio.lint", tests, NULL, NULL);
}
