/* Choosing an endpoint: LEAST_REQUEST (two choices by active requests, weighted), ROUND_ROBIN (weighted), RANDOM (weighted), ring hash and Maglev
 * (weighted, as Envoy places them); priorities with overprovisioning, weighted localities, slow start; unhealthy, draining and ejected hosts are
 * passed over unless the panic threshold says otherwise (features.md DR-1..20, DR-42). */
#pragma once

#include "dataplane/mesh/host.h"

struct mesh_lb_want {
	struct mesh_host *const *avoid; /* [n_avoid]: hosts of earlier tries; up to attempts_max more picks are made to get another one, then any will do */
	uint32_t n_avoid, attempts_max;
	bool has_hash;                  /* without, ring hash and Maglev take a random one */
	uint64_t hash;
};
/* NULL: no healthy upstream. Deterministic given w->prng and the set's state. */
const struct mesh_endpoint *mesh_lb_choose(struct foil_worker *w, const struct mesh_endpoints *e, struct mesh_host_set *set,
					   const struct mesh_lb_want *want);
/* The same without a hash. */
const struct mesh_endpoint *mesh_lb_pick(struct foil_worker *w, const struct mesh_cluster *c, const struct mesh_endpoints *e, struct mesh_host_set *set,
					 struct mesh_host *const *avoid, uint32_t n_avoid, uint32_t attempts_max);
