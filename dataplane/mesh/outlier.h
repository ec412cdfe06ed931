/* Outlier ejection (features.md DR-36..DR-42): consecutive errors eject at once, a sweep by a worker's turn brings back, or one request (HC-2). */
#pragma once

#include "dataplane/mesh/host.h"

enum mesh_outcome {
	MESH_OUTCOME_STATUS,        /* a response head with this status */
	MESH_OUTCOME_CONNECT_OK,    /* a connection was made (local origin success) */
	MESH_OUTCOME_CONNECT_FAILED,
	MESH_OUTCOME_RESET,         /* before a response head */
	MESH_OUTCOME_TIMEOUT        /* per-try or route timeout before a response head: counts as 504 */
};
/* c->outlier may be NULL: nothing happens. status: for MESH_OUTCOME_STATUS. */
void mesh_outlier_outcome(struct foil_worker *w, const struct mesh_cluster *c, struct mesh_host *h, enum mesh_outcome outcome, uint16_t status);
/* Once a worker turn, cheap when nothing is due: the sweep of the clusters of cfg whose interval has passed. */
void mesh_outlier_turn(struct foil_worker *w, const struct mesh_config *cfg);
/* h has been out for long enough, and a request is to try it. */
static inline bool mesh_outlier_is_due(const struct mesh_host *h)
{
	return __atomic_load_n(&h->probation, __ATOMIC_RELAXED) == MESH_PROBATION_DUE;
}
/* This pick tries h, and no other does; false: another was faster, or h cannot be used for another reason than its ejection, and is tried later. */
bool mesh_outlier_claim(struct foil_worker *w, struct mesh_host *h, bool is_usable) FOIL_MUST_USE;
