/* Which virtual host, which route, and what a route does to path and location (features.md VS). */
#pragma once

#include "dataplane/http/message.h"
#include "dataplane/mesh/config.h"

struct mesh_route_result {
	const struct mesh_vhost *vhost; /* NULL: no domain matches */
	const struct mesh_route *route; /* NULL: no route matches */
};
/* head is a normalised request. Regexes are those of w->id. */
void mesh_route_find(struct foil_worker *w, const struct mesh_routes *routes, const struct http_head *head, struct mesh_route_result *out);
/* The path with prefix or regex rewrite applied, query kept: *out in the arena; equal to path when there is no rewrite. 0 or -ENOBUFS. */
int mesh_route_rewrite(struct foil_worker *w, struct foil_arena *a, const struct mesh_route *route, struct foil_slice path,
		       struct foil_slice *out) FOIL_MUST_USE;
/* The location of route->redirect for this request. scheme: the request's. 0 or -ENOBUFS. */
int mesh_redirect_location(struct foil_worker *w, struct foil_arena *a, const struct mesh_route *route, const struct http_head *head,
			   struct foil_slice scheme, struct foil_slice *out) FOIL_MUST_USE;
