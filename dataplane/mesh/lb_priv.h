/* What a balancing policy is: one const struct lb_policy in a file of its own and one line in lb.def, X(ID, name) for MESH_LB_ID.
 *
 * Policies choose among lw->usable only; which hosts are usable (health, ejection, panic) is decided before, in lb.c. */
#pragma once

#include "dataplane/mesh/host_set_priv.h"

struct lb_policy {
	const char *name;
	/* Bytes of state for one worker and this set; set->endpoints and has_equal_weights are known. */
	size_t (*state_bytes)(const struct mesh_host_set *set);
	/* lw->usable has changed (and is not empty): at the first pick, and after ejections and returns. On the worker's own thread; must not allocate. */
	void (*build)(struct foil_worker *w, const struct mesh_host_set *set, struct lb_worker *lw);
	/* Returns an index into set->endpoints; n_usable > 0. Must not allocate. */
	uint32_t (*pick)(struct foil_worker *w, const struct mesh_host_set *set, struct lb_worker *lw);
};

#define X(ID, policy) extern const struct lb_policy policy;
#include "dataplane/mesh/lb.def"
#undef X
const struct lb_policy *lb_policy_of(enum mesh_lb lb);

/* Earliest deadline first, the schedule of weighted ROUND_ROBIN and LEAST_REQUEST (Envoy's EdfScheduler): the entry with the smallest deadline is
 * picked and comes back 1/weight later. An entry's deadline is always a multiple of 1/weight, so it is kept as a whole number of such
 * steps, and order is exact: no rounding, no floating point. Equal deadlines go in the order in which they were added. */
struct lb_edf_entry {
	uint64_t steps; /* deadline = steps / weight */
	uint64_t order;
	uint32_t weight, endpoint;
};
struct lb_edf {
	uint64_t next_order;
	uint32_t n;
	struct lb_edf_entry heap[];
};
size_t lb_edf_bytes(uint32_t n_entries);
/* steps_of says how many steps an endpoint waits from now: 1 for plain weights, more for a busy one. */
typedef uint64_t (*lb_steps_fn)(struct foil_worker *w, const struct mesh_endpoint *e);
/* All usable endpoints, then a random number of picks, so that workers (and restarts) do not all begin with the same host. */
void lb_edf_build(struct foil_worker *w, const struct mesh_host_set *set, const struct lb_worker *lw, struct lb_edf *edf, lb_steps_fn steps_of);
uint32_t lb_edf_pick(struct foil_worker *w, const struct mesh_host_set *set, struct lb_edf *edf, lb_steps_fn steps_of);
