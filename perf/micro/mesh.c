/* The mesh's decisions: which route (the last of so many, by each kind of match), which endpoint of a hundred (each policy), a counter. */
#include <stdio.h>
#include <stdlib.h>

#include "dataplane/core/error.h"
#include "dataplane/mesh/lb.h"
#include "dataplane/mesh/mesh.h"
#include "dataplane/mesh/route.h"
#include "perf/micro/micro.h"

#define BURST 32
#define N_ENDPOINTS 100u

enum match_kind { BY_PREFIX, BY_EXACT, BY_REGEX, BY_HEADER };

/* before, the number, behind */
static struct foil_slice text(struct mesh_routes *r, const char *before, uint32_t i, const char *behind)
{
	char s[64];
	int n = snprintf(s, sizeof(s), "%s%u%s", before, i, behind);

	return foil_blob_copy(&r->res.blob, s, (size_t)n);
}

static void make_route(struct mesh_routes *r, struct mesh_route *route, enum match_kind kind, uint32_t i)
{
	struct foil_error err = {0};

	route->name = text(r, "r", i, "");
	route->match.path_kind = kind == BY_EXACT ? MESH_PATH_EXACT : kind == BY_REGEX ? MESH_PATH_REGEX : MESH_PATH_PREFIX;
	route->match.path = kind == BY_HEADER ? FOIL_SLICE("/") : text(r, "/service-", i, "/items");
	if (kind == BY_REGEX && mesh_regex_compile(&r->res, text(r, "/service-", i, "/[a-z]+"), false, 1, &route->match.path_regex, &err))
		abort();
	if (kind != BY_HEADER)
		return;
	struct mesh_header_match *h = foil_blob_alloc(&r->res.blob, sizeof(*h));
	if (!h)
		abort();
	*h = (struct mesh_header_match){.name = FOIL_SLICE("x-tenant"), .value = {.kind = MESH_MATCH_EXACT, .text = text(r, "tenant-", i, "")}};
	route->match.headers = h;
	route->match.n_headers = 1;
}

static void make_routes(struct mesh_routes *r, enum match_kind kind, uint32_t n)
{
	struct mesh_vhost *v = foil_blob_array(&r->res.blob, 1, sizeof(*v));
	struct mesh_route *routes = foil_blob_array(&r->res.blob, n, sizeof(*routes));
	struct foil_slice *domain = foil_blob_array(&r->res.blob, 1, sizeof(*domain));
	struct foil_error err = {0};

	if (!v || !routes || !domain)
		abort();
	for (uint32_t i = 0; i < n; i++)
		make_route(r, &routes[i], kind, i);
	*domain = FOIL_SLICE("web.example.com");
	*v = (struct mesh_vhost){.name = FOIL_SLICE("web"), .domains = domain, .n_domains = 1, .routes = routes, .n_routes = n};
	r->res.name = FOIL_SLICE("http.80");
	r->vhosts = v;
	r->n_vhosts = 1;
	if (mesh_routes_index(r, &err)) {
		fprintf(stderr, "foil-micro: %s\n", err.text);
		exit(2);
	}
}

/* A request that only the last route takes. */
static void find_route(struct micro *m, const char *name, enum match_kind kind, uint32_t n_routes)
{
	struct mesh_routes r = {0};
	struct http_header tenant = {.name = FOIL_SLICE("x-tenant"), .id = HTTP_HDR_OTHER};
	struct http_head head = {.method_text = FOIL_SLICE("GET"), .method = HTTP_METHOD_GET, .scheme = FOIL_SLICE("http"),
				 .authority = FOIL_SLICE("web.example.com"), .headers = {.list = &tenant, .n = 1, .cap = 1}};

	make_routes(&r, kind, n_routes);
	head.path = text(&r, "/service-", n_routes - 1, "/items");
	tenant.value = text(&r, "tenant-", n_routes - 1, "");
	for (int n = 0; n < MICRO_BURSTS / 10; n++) {
		struct mesh_route_result out;
		uint64_t before = rig_cycles();
		for (uint32_t i = 0; i < BURST; i++)
			mesh_route_find(&m->rig.w, &r, &head, &out);
		rig_note(&m->figures, rig_cycles() - before);
		if (out.route != &r.vhosts->routes[n_routes - 1])
			abort();
	}
	micro_say(m, name, BURST);
	mesh_regexes_free(&r.res);
	foil_blob_free(&r.res.blob);
}

static void pick(struct micro *m, const char *name, enum mesh_lb lb)
{
	static struct mesh_endpoint list[N_ENDPOINTS];
	struct mesh_endpoints e = {.endpoints = list, .n_endpoints = N_ENDPOINTS};
	struct mesh_cluster cluster = {.res.name = FOIL_SLICE("outbound|80||a"), .lb = lb};
	const struct mesh_cluster *clusters[1] = {&cluster};
	const struct mesh_endpoints *endpoints[1] = {&e};
	struct mesh_host_set *sets[1] = {NULL};
	struct mesh_config *c = aligned_alloc(64, (sizeof(*c) + 63) & ~(size_t)63);
	struct mesh_shared *sh = mesh_shared_new(&(const struct mesh_shared_params){.n_workers = 1});
	struct foil_error err = {0};

	for (uint32_t i = 0; i < N_ENDPOINTS; i++)
		list[i] = (struct mesh_endpoint){.ip = {[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 19, [15] = (uint8_t)(i + 1)}, .port = 8080,
						 .weight = 1 + i % 3};
	if (!c || !sh)
		abort();
	memset(c, 0, sizeof(*c));
	c->generation = 1;
	c->clusters = clusters;
	c->endpoints = endpoints;
	c->host_sets = sets;
	c->n_cluster_slots = 1;
	if (mesh_config_prepare(sh, c, &err)) {
		fprintf(stderr, "foil-micro: %s\n", err.text);
		exit(2);
	}
	for (int n = 0; n < MICRO_BURSTS; n++) {
		uint64_t before = rig_cycles();
		for (uint32_t i = 0; i < BURST; i++) {
			struct mesh_lb_want want = {.has_hash = true, .hash = (uint64_t)(n * BURST + (int)i) * 0x9e3779b97f4a7c15ull};
			if (!mesh_lb_choose(&m->rig.w, &e, sets[0], &want))
				abort();
		}
		rig_note(&m->figures, rig_cycles() - before);
	}
	micro_say(m, name, BURST);
	mesh_config_unprepare(sh, c);
	mesh_shared_free(sh);
	free(c);
}

static void count(struct micro *m)
{
	for (int n = 0; n < MICRO_BURSTS; n++) {
		uint64_t before = rig_cycles();
		for (uint32_t i = 0; i < BURST; i++) {
			foil_count(&m->rig.w, TCP, BYTES_RX, i);
			__asm__ volatile("" ::: "memory"); /* each is a store of its own */
		}
		rig_note(&m->figures, rig_cycles() - before);
	}
	micro_say(m, "core.count", BURST);
}

void micro_mesh(struct micro *m)
{
	find_route(m, "mesh.route_prefix_1", BY_PREFIX, 1);
	find_route(m, "mesh.route_prefix_100", BY_PREFIX, 100);
	find_route(m, "mesh.route_prefix_1k", BY_PREFIX, 1000);
	find_route(m, "mesh.route_prefix_10k", BY_PREFIX, 10000);
	find_route(m, "mesh.route_exact_100", BY_EXACT, 100);
	find_route(m, "mesh.route_exact_10k", BY_EXACT, 10000);
	find_route(m, "mesh.route_header_100", BY_HEADER, 100);
	find_route(m, "mesh.route_header_10k", BY_HEADER, 10000);
	find_route(m, "mesh.route_regex_100", BY_REGEX, 100);
	find_route(m, "mesh.route_regex_10k", BY_REGEX, 10000);
	pick(m, "mesh.pick_least_request", MESH_LB_LEAST_REQUEST);
	pick(m, "mesh.pick_round_robin", MESH_LB_ROUND_ROBIN);
	pick(m, "mesh.pick_random", MESH_LB_RANDOM);
	pick(m, "mesh.pick_ring_hash", MESH_LB_RING_HASH);
	pick(m, "mesh.pick_maglev", MESH_LB_MAGLEV);
	count(m);
}
