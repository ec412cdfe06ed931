/* One cluster's endpoints as balancing sees them, shared inside the room. A set is made by mesh_config_prepare, lives as long as a
 * configuration holds it, and passes from one configuration to the next while endpoints and policy stay the same, so that an update elsewhere does
 * not set a worker's schedule back. Each worker writes its own struct lb_worker and what that points to, nothing else; lb_tables are housekeeping's.
 *
 * Endpoints fall into groups: the endpoints of one priority, or, where localities have weights, of one locality of one priority. A policy chooses
 * inside a group; which group is lb.c's choice (lb_priority.c: the arithmetic). */
#pragma once

#include "dataplane/mesh/host.h"

#define MESH_LEVELS_MAX (2u * MESH_PRIORITIES_MAX)

struct lb_policy;

/* What does not change of a group. */
struct lb_shape {
	uint32_t first, n; /* members[first..first+n) */
	uint32_t weight;   /* of the locality; 1 without */
	uint8_t priority, level;
	bool needs_edf;    /* weights differ, or they will for a while (slow start) */
};
/* One worker's view of a group. */
struct lb_group {
	uint32_t *usable;       /* indices into endpoints, in their order: the hosts that may be picked now */
	void *state;            /* the policy's own, zeroed once */
	uint32_t n_usable;
	bool has_equal_weights; /* among usable, now: slow start makes them differ */
};
struct lb_level { /* a priority; where hosts may be degraded, levels from n_priorities on are theirs, over the same endpoints */
	uint32_t first_group, n_groups, n_endpoints;
};
/* One worker's view of a level. */
struct lb_level_now {
	uint32_t load_percent; /* of all picks */
	bool is_panic;
	struct lb_edf *localities; /* the schedule of its groups; NULL: it has one group */
};
struct FOIL_CACHE_ALIGNED lb_worker {
	struct lb_group *groups;
	struct lb_level_now *levels;
	uint64_t warm_until_us; /* the usable are looked at again then; 0: never by time */
	uint32_t health_epoch;  /* of the cluster's state when usable was built */
	bool is_built;
};

/* The tables of a hashing policy, one a level: what all workers share. Built by housekeeping, replaced as a whole. */
struct lb_tables {
	struct lb_tables *next; /* of those that wait for workers to leave them */
	size_t n_bytes;
	uint32_t health_epoch;
	uint64_t turns[MESH_WORKERS_MAX]; /* of each worker when it was replaced */
	void *by_level[];       /* NULL: nothing is usable there */
};

struct mesh_host_set {
	struct mesh_cluster_state *cluster;
	const struct mesh_endpoint *endpoints;
	struct mesh_host **hosts; /* without duplicates */
	uint32_t *members;        /* endpoints by group */
	struct lb_shape *shapes;
	struct lb_level *levels;
	uint32_t n_endpoints, n_hosts, n_groups, n_priorities, n_levels, n_localities;
	const uint32_t *locality_weights; /* the endpoint set's; NULL without */
	const struct lb_policy *policy;
	const struct mesh_slow_start *slow_start; /* of the cluster that the set was made for, copied; NULL: none */
	uint32_t panic_threshold_percent, overprovisioning_percent, ring_size_min, ring_size_max, maglev_table_size;
	uint32_t n_refs;        /* configurations; housekeeping only */
	uint16_t n_workers;
	struct lb_tables *tables; /* atomic; of a hashing policy, else NULL */
	struct lb_worker by_worker[];
};

/* ---- host_gauges.c */
/* What one worker needs to tell how many hosts are ejected or degraded, zeroed memory of w->mesh->host_gauges; the others have NULL. n_changes:
 * mesh_shared_told_changes. Once a turn, cheap while nothing changed. */
size_t mesh_host_gauges_bytes(void);
void mesh_host_gauges_tell(struct foil_worker *w, const struct mesh_config *cfg, uint32_t n_changes);
