/* Choosing an endpoint: LEAST_REQUEST (two choices by active requests, weighted), ROUND_ROBIN (weighted), RANDOM (weighted);
 * unhealthy, draining and ejected hosts are passed over unless the panic threshold says otherwise (features.md DR-1..8, DR-42). */
#pragma once

#include "dataplane/mesh/host.h"

/* avoid[0..n_avoid): hosts of earlier tries; up to attempts_max picks are made to get another one, then any will do.
 * NULL: no healthy upstream. Deterministic given w->prng and the set's state. */
const struct mesh_endpoint *mesh_lb_pick(struct foil_worker *w, const struct mesh_cluster *c, const struct mesh_endpoints *e, struct mesh_host_set *set,
					 struct mesh_host *const *avoid, uint32_t n_avoid, uint32_t attempts_max);
