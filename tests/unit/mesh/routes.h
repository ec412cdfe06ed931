/* Route tables in a few lines, for the tests of route, rewrite and redirect. Everything lives in the table's blob. */
#pragma once

#include "tests/unit/support.h"

#include "dataplane/core/error.h"
#include "dataplane/mesh/route.h"

/* One virtual host of these domains (a NULL-ended list) and routes. */
struct t_vhost {
	const char *name;
	const char *const *domains;
	const struct mesh_route *routes;
	uint32_t n_routes;
};
#define T_DOMAINS(...) ((const char *const[]){__VA_ARGS__, NULL})

static inline struct foil_slice t_copy(struct mesh_routes *r, const char *text)
{
	return foil_blob_copy(&r->res.blob, text, strlen(text));
}

static inline int t_routes_try(struct mesh_routes *r, const struct t_vhost *vhosts, uint32_t n, struct foil_error *err)
{
	struct mesh_vhost *v = foil_blob_array(&r->res.blob, n, sizeof(*v));

	r->res.name = FOIL_SLICE("http.80");
	for (uint32_t i = 0; i < n; i++) {
		uint16_t n_domains = 0;
		while (vhosts[i].domains[n_domains])
			n_domains++;
		struct foil_slice *domains = foil_blob_array(&r->res.blob, n_domains, sizeof(*domains));
		for (uint16_t d = 0; d < n_domains; d++)
			domains[d] = t_copy(r, vhosts[i].domains[d]);
		v[i] = (struct mesh_vhost){
			.name = t_copy(r, vhosts[i].name), .domains = domains, .n_domains = n_domains, .routes = vhosts[i].routes,
				.n_routes = vhosts[i].n_routes,
		};
	}
	r->vhosts = v;
	r->n_vhosts = n;
	return mesh_routes_index(r, err);
}

static inline void t_routes_build(struct mesh_routes *r, const struct t_vhost *vhosts, uint32_t n)
{
	struct foil_error err = {0};

	if (t_routes_try(r, vhosts, n, &err) != 0)
		fail_msg("%s", err.text);
}

static inline void t_routes_free(struct mesh_routes *r)
{
	mesh_regexes_free(&r->res);
	foil_blob_free(&r->res.blob);
}

static inline const struct mesh_regex *t_regex(struct mesh_routes *r, const char *pattern)
{
	const struct mesh_regex *re = NULL;
	struct foil_error err = {0};

	if (mesh_regex_compile(&r->res, foil_slice_str(pattern), false, 1, &re, &err) != 0)
		fail_msg("%s", err.text);
	return re;
}
