/* Active health checks (features.md HC-3): hosts are asked now and then, and those that do not answer well are not used until they do. */
#pragma once

#include "dataplane/mesh/host.h"

/* No request may go there. A host without checks, and one that nobody has asked yet while no other of its cluster is known to be well, may be used. */
static inline bool mesh_health_is_down(const struct mesh_host *h)
{
	uint8_t health = __atomic_load_n(&h->health, __ATOMIC_RELAXED);

	return health == MESH_HEALTH_PENDING || health == MESH_HEALTH_FAILED;
}

static inline bool mesh_health_is_degraded(const struct mesh_host *h)
{
	return __atomic_load_n(&h->health, __ATOMIC_RELAXED) == MESH_HEALTH_DEGRADED;
}

/* An answer said x-envoy-immediate-health-check-fail: from now on it is down, until checks find it well again. Nothing where it is not checked. */
void mesh_health_fail_now(struct foil_worker *w, struct mesh_host *h);
