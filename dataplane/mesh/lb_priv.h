/* What a balancing policy is: one const struct lb_policy in a file of its own and one line in lb.def, X(ID, name) for MESH_LB_ID.
 *
 * Policies choose among usable endpoints only; which those are (health, ejection, panic, priority, locality) is decided before, in lb.c. */
#pragma once

#include "dataplane/mesh/host_set_priv.h"

/* What housekeeping builds a table from. Weights are as Envoy normalises them: of each priority they add up to 1. */
struct lb_candidate {
	uint32_t endpoint;
	double weight;
};
struct lb_candidates {
	struct lb_candidate *list; /* in the endpoints' order; at least one */
	uint32_t n;
	double weight_min, weight_max;
};

struct lb_policy {
	const char *name;
	/* ---- policies with a state for each worker; NULL with a table */
	/* Bytes of state for one worker and one group. */
	size_t (*state_bytes)(const struct lb_shape *shape);
	/* g->usable has changed (and is not empty): at the first pick, and after ejections and returns. On the worker's own thread; must not allocate. */
	void (*build)(struct foil_worker *w, const struct mesh_host_set *set, struct lb_group *g);
	/* Returns an index into set->endpoints; n_usable > 0. Must not allocate. */
	uint32_t (*pick)(struct foil_worker *w, const struct mesh_host_set *set, struct lb_group *g);
	/* ---- policies with a table that all workers share; NULL without */
	size_t (*table_bytes)(const struct mesh_host_set *set, const struct lb_candidates *c);
	/* Housekeeping. table: table_bytes zeroed bytes. 0 or -ENOMEM. */
	int (*table_build)(const struct mesh_host_set *set, const struct lb_candidates *c, void *table);
	/* Returns an index into set->endpoints; attempt > 0: an earlier pick was not taken. */
	uint32_t (*table_pick)(const void *table, uint64_t hash, uint32_t attempt);
};

#define X(ID, policy) extern const struct lb_policy policy;
#include "dataplane/mesh/lb.def"
#undef X
const struct lb_policy *lb_policy_of(enum mesh_lb lb);

/* ---- lb.c */
enum lb_fitness { LB_OUT, LB_DEGRADED, LB_WELL };
/* In a set without degraded levels none is LB_DEGRADED. */
enum lb_fitness lb_fitness_of(const struct mesh_host_set *set, const struct mesh_endpoint *e);
/* What hosts of a level must be, panic aside. */
static inline enum lb_fitness lb_fitness_at(const struct mesh_host_set *set, uint32_t level)
{
	return level < set->n_priorities ? LB_WELL : LB_DEGRADED;
}

/* ---- lb_set.c: the shape and the memory of a set; housekeeping. Hosts and tables are shared.c's to fill in */
/* NULL: no memory. The policy's parameters and the slow start are copied: the set may outlive the cluster it was made for. Freed by free(). */
struct mesh_host_set *lb_set_alloc(uint16_t n_workers, const struct mesh_cluster *c, const struct mesh_endpoints *e) FOIL_MUST_USE;
/* A set made for c and the same endpoints would be this one again. */
bool lb_set_fits(const struct mesh_host_set *set, const struct mesh_cluster *c);

/* ---- lb_priority.c: Envoy's arithmetic of priorities and localities */
struct lb_health {
	uint32_t n, n_healthy, n_degraded;
};
/* load_percent and is_panic of n priorities, from their health, and of their degraded hosts in out[n..2n); the loads add up to 100. */
void lb_loads(const struct lb_health *health, uint32_t n, uint32_t overprovisioning_percent, uint32_t panic_threshold_percent, struct lb_level_now *out);
/* The level that a hash (or a random number) falls into. */
uint32_t lb_level_of(const struct lb_level_now *levels, uint32_t n, uint64_t hash);
/* A locality's weight, less where too few of its endpoints are usable; 0: it gets nothing. */
uint32_t lb_locality_weight(uint32_t weight, const struct lb_health *health, uint32_t overprovisioning_percent);

/* ---- lb_tables.c: the tables of hashing policies; housekeeping */
struct lb_table_stock { /* what is alive, over all clusters */
	size_t n_bytes;
};
#define LB_TABLES_BYTES_MAX (512u << 20)
/* By the health of now, after the endpoints have their hosts. NULL: no memory, or more than LB_TABLES_BYTES_MAX. */
struct lb_tables *lb_tables_new(struct lb_table_stock *stock, const struct mesh_host_set *set) FOIL_MUST_USE;
void lb_tables_free(struct lb_table_stock *stock, struct lb_tables *own_t); /* NULL is fine */
/* Endpoints were ejected or came back since the table was made. */
bool lb_tables_are_stale(const struct mesh_host_set *set);
/* The key of an endpoint in a ring or a Maglev table: "198.19.0.10:8080". */
struct foil_slice lb_table_key(const struct mesh_endpoint *e, char text[64]);

/* ---- slow start */
/* In a set with slow start the steps of schedules are finer, so that a share of a weight is exact enough. */
#define LB_STEPS_OF_ONE ((uint64_t)MESH_SLOW_START_FULL << 8)
/* The share of its weight that a host has now: 1..MESH_SLOW_START_FULL. */
uint32_t lb_share(const struct foil_worker *w, const struct mesh_host_set *set, const struct mesh_endpoint *e);

/* Earliest deadline first, the schedule of weighted ROUND_ROBIN and LEAST_REQUEST and of localities (Envoy's EdfScheduler): the entry with the
 * smallest deadline is picked and comes back 1/weight later. An entry's deadline is always a multiple of 1/weight, so it is kept as a whole
 * number of such steps, and order is exact: no rounding, no floating point. Equal deadlines go in the order in which they were added. */
struct lb_edf_entry {
	uint64_t steps; /* deadline = steps / weight */
	uint64_t order;
	uint32_t weight, item; /* an endpoint or a group */
};
struct lb_edf {
	uint64_t next_order;
	uint32_t n;
	struct lb_edf_entry heap[];
};
size_t lb_edf_bytes(uint32_t n_entries);
/* steps_of says how many steps an item waits from now: 1 for plain weights, more for a busy one. */
typedef uint64_t (*lb_steps_fn)(struct foil_worker *w, const struct mesh_host_set *set, uint32_t item);
/* An empty schedule takes items by lb_edf_add (weight > 0), then lb_edf_start: a random number of picks, so that workers (and restarts) do not all
 * begin with the same one. */
void lb_edf_clear(struct lb_edf *edf);
void lb_edf_add(struct foil_worker *w, const struct mesh_host_set *set, struct lb_edf *edf, uint32_t item, uint32_t weight, lb_steps_fn steps_of);
void lb_edf_start(struct foil_worker *w, const struct mesh_host_set *set, struct lb_edf *edf, lb_steps_fn steps_of);
uint32_t lb_edf_pick(struct foil_worker *w, const struct mesh_host_set *set, struct lb_edf *edf, lb_steps_fn steps_of);
/* All usable endpoints of a group, started. */
void lb_edf_build(struct foil_worker *w, const struct mesh_host_set *set, const struct lb_group *g, struct lb_edf *edf, lb_steps_fn steps_of);
