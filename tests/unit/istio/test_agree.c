/* foilctl explain and the data plane decide alike: thousands of requests made from a seed, through the routes that one VirtualService after the other
 * compiles to, once by explain and once by dataplane/mesh on the configuration that dataplane/config decodes from the same bytes; connections likewise,
 * through the filter chains of captured ports. */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/config/config.h"
#include "dataplane/http/message.h"
#include "dataplane/mesh/host.h"
#include "dataplane/mesh/route.h"
#include "dataplane/mesh/runtime.h"
#include "tests/unit/support.h"

#define REQUESTS 4000
#define RESOURCES_MAX 64

static const char rules[] =
	T_VS("  http:\n"
	     "  - {name: r0, match: [{uri: {exact: /a/b}, method: {exact: PUT}}], directResponse: {status: 200}}\n"
	     "  - {name: r1, match: [{uri: {prefix: /A}, ignoreUriCase: true, headers: {x-a: {exact: '1,2'}}}], directResponse: {status: 200}}\n"
	     "  - {name: r2, match: [{uri: {regex: '/[ab]/?.*'}, withoutHeaders: {x-a: {exact: '1'}, x-b: {}}}], directResponse: {status: 200}}\n"
	     "  - {name: r3, match: [{queryParams: {k: {exact: v}, flag: {}}}], directResponse: {status: 200}}\n"
	     "  - {name: r4, match: [{queryParams: {k: {regex: '[vw]+'}}, scheme: {prefix: http}}], directResponse: {status: 200}}\n"
	     "  - {name: r5, match: [{authority: {regex: '.*:80'}}], directResponse: {status: 200}}\n"
	     "  - {name: r6, match: [{headers: {x-a: {prefix: '2'}}}, {headers: {x-b: {regex: '*'}}}], directResponse: {status: 200}}\n"
	     "  - {name: r7, match: [{uri: {prefix: /c}, withoutHeaders: {x-c: {exact: ''}}}], directResponse: {status: 200}}\n");
static const char wide[] = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: wide, namespace: app}\nspec:\n  hosts: "
	"['*.example.com', '*.b.test', b.test]\n"
			   "  gateways: [istio-system/main]\n  http: [{name: w0, match: [{uri: {prefix: /a}}], directResponse: {status: 200}}]\n";

static const char *const hosts[] = {"web.example.com", "WEB.example.com:80", "x.example.com", "example.com", "b.test", "a.b.test:8080", "a.c.b.test", "none"};
static const char *const paths[] = {"/", "/a/b", "/a/b?k=v", "/A/c?flag", "/a?k=v&flag", "/b/?k=w&k=v", "/c", "/c/d?k=", "/d?flag=1&k=vw", "/d?x#k=v"};
static const char *const methods[] = {"GET", "PUT"}, *const values[] = {"", "1", "2", "1,2"}, *const names[] = {"x-a", "x-b", "x-c"};

static unsigned int pick(uint64_t *seed, unsigned int n)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(*seed >> 33) % n;
}

struct world {
	struct t_mesh *mesh;
	struct foil_worker *w;
	struct mesh_shared *shared;
	struct snap *snap;
	const struct mesh_routes *routes;
};

static struct world world_new(struct t_mesh *own_mesh)
{
	struct world x = {.mesh = own_mesh, .w = t_worker(.seed = 7)};
	struct mesh_shared_params mp = {.n_workers = 1};
	struct snap_resource list[RESOURCES_MAX];

	t_assert_no_diags(x.mesh);
	x.shared = mesh_shared_new(&mp);
	assert_int_equal(snap_new(&(struct snap_params){.shared = x.shared, .n_workers = 1, .abi = 1, .seed = 7}, &x.snap, NULL), 0);
	assert_true(x.mesh->snapshot->n_resources <= RESOURCES_MAX);
	for (size_t i = 0; i < x.mesh->snapshot->n_resources; i++) {
		const struct istio_resource *r = &x.mesh->snapshot->resources[i];
		list[i] = (struct snap_resource){.type = r->type, .name = foil_slice_str(r->name), .body = foil_slice_of(r->bytes, r->n_bytes)};
	}
	struct snap_update u = {.version = FOIL_SLICE("1"), .full = true, .resources = list, .n_resources = x.mesh->snapshot->n_resources};
	assert_int_equal(snap_apply(x.snap, &u), SNAP_APPLIED);
	const struct mesh_config *c = snap_config(x.snap);
	for (uint32_t i = 0; i < c->n_route_slots; i++)
		if (c->routes[i])
			x.routes = c->routes[i];
	return x;
}

static void world_free(struct world *x)
{
	snap_free(x->snap);
	mesh_shared_free(x->shared);
	t_worker_free(x->w);
	t_mesh_free(x->mesh);
}

static const char *by_mesh(struct world *x, const struct istio_request *r)
{
	struct http_header list[4];
	struct mesh_route_result out;
	struct http_head head = {.method_text = foil_slice_str(r->method), .scheme = FOIL_SLICE("http"), .authority = foil_slice_str(r->authority),
				 .path = foil_slice_str(r->path), .headers = {.list = list, .n = (uint16_t)r->n_headers, .cap = 4}};

	for (size_t i = 0; i < r->n_headers; i++)
		list[i] = (struct http_header){.name = foil_slice_str(r->header_names[i]), .value = foil_slice_str(r->header_values[i]),
					       .id = (uint16_t)http_header_intern(foil_slice_str(r->header_names[i]))};
	mesh_route_find(x->w, x->routes, &head, &out);
	return out.route ? out.route->name.data : "404";
}

static void by_explain(struct world *x, const struct istio_request *r, char name[8])
{
	char *text;

	(void)istio_explain(x->mesh->snapshot, r, &text, NULL);
	const char *taken = strstr(text, "taken: route ");
	(void)snprintf(name, 8, "%.*s", taken ? 2 : 3, taken ? taken + 13 : "404");
	free(text);
}

static void test_explain_and_the_data_plane_choose_the_same_route(void **state)
{
	struct world x = world_new(t_mesh_new(T_GATEWAY, rules, wide, NULL));
	unsigned int n_found = 0;
	uint64_t seed = 42;

	assert_non_null(x.routes);
	for (int i = 0; i < REQUESTS; i++) {
		const char *header_names[4], *header_values[4];
		struct istio_request r = {.method = methods[pick(&seed, 2)], .scheme = "http", .authority = hosts[pick(&seed, 8)], .path = paths[pick(&seed,
				10)],
					  .header_names = header_names, .header_values = header_values, .n_headers = pick(&seed, 4), .address = "198.18.0.1"};
		char name[8];
		for (size_t j = 0; j < r.n_headers; j++) {
			header_names[j] = names[pick(&seed, 3)];
			header_values[j] = values[pick(&seed, 4)];
		}
		by_explain(&x, &r, name);
		const char *other = by_mesh(&x, &r);
		if (strcmp(name, other) != 0)
			fail_msg("request %d, %s %s%s with %zu headers (%s: %s): explain says %s, the mesh %s", i, r.method, r.authority, r.path, r.n_headers,
				 r.n_headers ? header_names[0] : "", r.n_headers ? header_values[0] : "", name, other);
		n_found += strcmp(name, "404") != 0;
	}
	assert_in_range(n_found, REQUESTS / 10, REQUESTS * 9 / 10); /* the words are such that both happen */
	world_free(&x);
	(void)state;
}

/* ---- connections ---- */

#define ENTRY(name, host, port, protocol, more) \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name ", namespace: app}\n" \
	"spec: {hosts: [" host "], resolution: NONE, ports: [{number: " port ", name: p, protocol: " protocol "}]" more "}\n"

static const char *const everything[] = {"10.0.0.0/8"};
static const struct istio_node client = {.captured_cidrs = everything, .n_captured_cidrs = 1};
static const char *const server_names[] = {"one.test", "a.wild.test", "a.b.wild.test", "WILD.test", "in.range.test", "nobody.test", NULL};
static const char *const destinations[] = {"10.1.0.1", "10.1.2.3", "10.1.2.9", "10.9.9.9"};
static const uint16_t ports[] = {443, 9001};

static const char *chain_by_mesh(const struct world *x, const struct istio_request *r)
{
	const struct mesh_config *c = snap_config(x->snap);
	const struct mesh_first first = {.sni = r->server_name ? foil_slice_str(r->server_name) : (struct foil_slice){0}, .is_tls = r->is_tls};
	uint8_t ip[16] = {[10] = 0xff, [11] = 0xff};

	assert_int_equal(sscanf(r->address, "%hhu.%hhu.%hhu.%hhu", &ip[12], &ip[13], &ip[14], &ip[15]), 4);
	for (uint32_t i = 0; i < c->n_listeners; i++) {
		if (c->listeners[i]->port != r->port)
			continue;
		const struct mesh_chain *f = mesh_chain_choose(c->listeners[i], ip, &first);
		return f ? f->name.data : "none";
	}
	return "no listener";
}

static void chain_by_explain(const struct world *x, const struct istio_request *r, char *name, size_t n_name)
{
	static const char word[] = "taken: chain ";
	char *text;

	(void)istio_explain(x->mesh->snapshot, r, &text, NULL);
	const char *taken = strstr(text, word);
	(void)snprintf(name, n_name, "%.*s", taken ? (int)strcspn(taken + strlen(word), " \n") : 4, taken ? taken + strlen(word) : "none");
	free(text);
}

static void test_explain_and_the_data_plane_choose_the_same_chain(void **state)
{
	struct world x = world_new(t_mesh_at(&client, ENTRY("one", "one.test", "443", "TLS", ""), ENTRY("wild", "'*.wild.test'", "443", "TLS", ""),
					     ENTRY("deep", "'*.b.wild.test'", "443", "TLS", ""),
					     ENTRY("range", "in.range.test", "443", "TLS", ", addresses: [10.1.2.0/24]"),
					     ENTRY("far", "far.test", "9001", "TCP", ", addresses: [10.1.0.0/16]"),
					     ENTRY("near", "near.test", "9001", "TCP", ", addresses: [10.1.2.0/29]"), NULL));
	unsigned int n_named = 0;

	for (size_t i = 0; i < 7 * 4 * 2 * 2; i++) {
		const struct istio_request r = {.is_connection = true, .is_tls = i % 2, .server_name = i % 2 ? server_names[i / 2 % 7] : NULL,
						.address = destinations[i / 14 % 4], .port = ports[i / 56]};
		char name[128];
		chain_by_explain(&x, &r, name, sizeof(name));
		const char *other = chain_by_mesh(&x, &r);
		if (strcmp(name, other) != 0)
			fail_msg("%s port %u, server name %s: explain says %s, the mesh %s", r.address, r.port, r.server_name ? r.server_name : "absent", name,
				 other);
		n_named += strstr(name, ".test") != NULL;
	}
	assert_in_range(n_named, 20, 92);
	world_free(&x);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_explain_and_the_data_plane_choose_the_same_route),
					   cmocka_unit_test(test_explain_and_the_data_plane_choose_the_same_chain)};

	return cmocka_run_group_tests_name("istio.agree", tests, NULL, NULL);
}
