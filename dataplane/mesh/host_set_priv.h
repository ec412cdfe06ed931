/* One cluster's endpoints as balancing sees them, shared inside the room. A set is made by mesh_config_prepare, lives as long as a
 * configuration holds it, and passes from one configuration to the next while endpoints and policy stay the same, so that an update elsewhere does
 * not set a worker's schedule back. Each worker writes its own struct lb_worker and what that points to, nothing else. */
#pragma once

#include "dataplane/mesh/host.h"

struct lb_policy;

struct FOIL_CACHE_ALIGNED lb_worker {
	uint32_t *usable;      /* indices into endpoints, in their order: the hosts that may be picked now */
	void *state;           /* the policy's own, zeroed once */
	uint32_t n_usable;
	uint32_t health_epoch; /* of the cluster's state when usable was built */
	bool is_built, is_panic;
	bool has_equal_weights; /* among usable */
};

struct mesh_host_set {
	struct mesh_cluster_state *cluster;
	const struct mesh_endpoint *endpoints;
	struct mesh_host **hosts; /* without duplicates */
	uint32_t n_endpoints, n_hosts;
	const struct lb_policy *policy;
	uint32_t panic_threshold_percent;
	uint32_t n_refs;        /* configurations; housekeeping only */
	bool has_equal_weights; /* among endpoints */
	uint16_t n_workers;
	struct lb_worker by_worker[];
};
