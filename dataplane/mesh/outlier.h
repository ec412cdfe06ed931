/* Outlier ejection (features.md DR-36..DR-42): consecutive errors eject at once, a sweep by housekeeping or a worker's turn brings back. */
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
