/* What the compiler gives is what the data plane takes: the fuzzer's whole corpus and files at the edge of every limit through dataplane/config. */
#include "tests/unit/istio/fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/config/config.h"
#include "dataplane/mesh/host.h"

static void assert_taken(const struct t_mesh *m, const char *name)
{
	struct mesh_shared *mesh = mesh_shared_new(&(struct mesh_shared_params){.n_workers = 1});
	struct snap_params p = {.shared = mesh, .n_workers = 1, .abi = 1, .seed = 7};
	struct snap *snap = NULL;
	struct snap_resource *list = calloc(m->snapshot->n_resources, sizeof(*list));

	assert_int_equal(snap_new(&p, &snap, NULL), 0);
	for (size_t i = 0; i < m->snapshot->n_resources; i++) {
		const struct istio_resource *r = &m->snapshot->resources[i];
		list[i] = (struct snap_resource){.type = r->type, .name = foil_slice_str(r->name), .body = foil_slice_of(r->bytes, r->n_bytes)};
	}
	struct snap_update u = {.version = FOIL_SLICE("1"), .full = true, .resources = list, .n_resources = m->snapshot->n_resources};
	if (snap_apply(snap, &u) == SNAP_REJECTED) {
		size_t n, n_more;
		const struct snap_rejection *r = snap_rejections(snap, &n, &n_more);
		fail_msg("%s: %s: %s: %s", name, r->name, r->field, r->reason);
	}
	snap_free(snap);
	mesh_shared_free(mesh);
	free(list);
}

static void test_the_corpus_is_taken(void **state)
{
	char path[512], *text = malloc(1 << 20);
	DIR *dir = opendir(getenv("CORPUS"));
	unsigned int n_files = 0;

	assert_non_null(dir);
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		(void)snprintf(path, sizeof(path), "%s/%s", getenv("CORPUS"), e->d_name);
		FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
		if (!f)
			continue;
		text[fread(text, 1, (1 << 20) - 1, f)] = 0;
		fclose(f);
		struct t_mesh *m = t_mesh_new(text, NULL);
		assert_taken(m, e->d_name);
		t_mesh_free(m);
		n_files++;
	}
	closedir(dir);
	free(text);
	assert_true(n_files >= 15);
	(void)state;
}

/* n times "what", with the count put in for %u. */
static char *many(unsigned int n, const char *before, const char *what, const char *after)
{
	char *text = NULL;
	size_t n_text;
	FILE *f = open_memstream(&text, &n_text);

	fputs(before, f);
	for (unsigned int i = 0; i < n; i++)
		for (const char *p = what; *p; p++)
			if (p[0] == '%' && p[1] == 'u') {
				fprintf(f, "%u", i);
				p++;
			} else {
				fputc(*p, f);
			}
	fputs(after, f);
	assert_int_equal(fclose(f), 0);
	return text;
}

static void test_what_is_at_the_limit_is_taken(void **state)
{
	static const struct {
		unsigned int n;
		const char *what, *before, *after;
	} cases[] = {{250, "x-%u: '%%', ", "headers: {request: {set: {", "}}}, " T_TO_ONE}, {15, "{destination: {host: one.test}},", "mirrors: [",
											     "], " T_TO_ONE},
		     {1024, "{destination: {host: one.test}, weight: 1000000},", "route: [", "]"}, {900, "x-%u: {},", "match: [{headers: {", "}}], " T_TO_ONE},
		     {900, "q%u: {},", "match: [{queryParams: {", "}}], " T_TO_ONE}, {1000, "{exact: 'http://%u'},", "corsPolicy: {allowOrigins: [",
										      "]}, " T_TO_ONE},
		     {1, "31y", "timeout: 277777h, retries: {attempts: 65535, backoff: 27777h, perTryTimeout: 277777h}, name: ", ", " T_TO_ONE},
		     {65536, "x", "name: ", ", " T_TO_ONE}, {65536, "x", "match: [{uri: {prefix: /", "}}], " T_TO_ONE}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *rule = many(cases[i].n, cases[i].before, cases[i].what, cases[i].after);
		char *vs = many(1, T_VS("  http: [{"), rule, "}]\n");
		struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, vs, NULL);
		char name[32];
		(void)snprintf(name, sizeof(name), "case %zu", i);
		if (m->diags.n_errors)
			print_message("# case %zu: %s\n", i, m->diags.list[0].text);
		assert_taken(m, name);
		t_mesh_free(m);
		free(vs);
		free(rule);
	}
	(void)state;
}

static void test_more_endpoints_than_fit_are_cut_and_told(void **state)
{
	char *slice = many(66000, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
			   "{kubernetes.io/service-name: s}}\n"
			   "ports: [{name: http, port: 80}]\nendpoints:\n", "- addresses: [10.0.0.1]\n", "");
	struct t_mesh *m = t_mesh_new("apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec: {clusterIP: 198.18.10.1, ports: [{name: "
				      "http, port: 80}]}\n", slice, NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, "outbound|80||s.shop.svc.cluster.local");

	assert_int_equal(e->n_endpoints, 65536);
	(void)t_diag(m, "HF0016", "the rest is left out");
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	free(slice);
	(void)state;
}

static void test_a_route_table_that_is_too_large_is_cut_and_told(void **state)
{
	char *body = many(3000, "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v%u, namespace: app}\n"
			  "spec: {hosts: [host%u.example.com], gateways: [istio-system/main], http: [{directResponse: {status: 200, body: {string: ", "x",
			  "}}}]}\n");
	char *hosts = many(9000, "", body, "");
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE "\n", hosts + 4, NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");

	assert_in_range(r->n_virtual_hosts, 7500, 8999);
	(void)t_diag(m, "HF0016", "larger than 24 MiB");
	foil__conf__route_config__free_unpacked(r, NULL);
	assert_taken(m, "large");
	t_mesh_free(m);
	free(hosts);
	free(body);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_corpus_is_taken),
		cmocka_unit_test(test_what_is_at_the_limit_is_taken),
		cmocka_unit_test(test_more_endpoints_than_fit_are_cut_and_told),
		cmocka_unit_test(test_a_route_table_that_is_too_large_is_cut_and_told),
	};
	return cmocka_run_group_tests_name("istio.taken", tests, NULL, NULL);
}
