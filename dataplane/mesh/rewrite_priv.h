/* Shared by rewrite.c and redirect.c. */
#pragma once

#include "dataplane/mesh/route.h"

/* path with what m matched replaced by with: the prefix, or all of it (exact, regex); query kept. *out in the arena. 0 or -ENOBUFS. */
int mesh_rewrite_prefix(struct foil_worker *w, struct foil_arena *a, const struct mesh_route_match *m, struct foil_slice with, struct foil_slice path,
		   struct foil_slice *out) FOIL_MUST_USE;
