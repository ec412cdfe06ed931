/* What shared.c asks of outlier.c, and what that one asks of outlier_probe.c. */
#pragma once

#include "dataplane/mesh/outlier.h"

/* Housekeeping: the list of c's clusters that eject. 0 or -ENOMEM. */
int mesh_outlier_list_new(struct mesh_config *c, uint16_t n_workers) FOIL_MUST_USE;
void mesh_outlier_list_free(struct mesh_config *c);
/* Housekeeping: h is no longer in the published configuration, or its cluster ejects no more: as if it had never failed. */
void mesh_outlier_forget(struct mesh_host *h);

/* ---- probation: hosts of clusters with mesh_outlier.probes ---- */
/* h was ejected: its time runs from now. */
void mesh_probation_begin(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h);
/* h is in service again, whatever it was before. */
void mesh_probation_end(struct mesh_host *h);
/* Of a host ejected at since_us: when its time is over, it waits for a request. Returns when to look next; UINT64_MAX: not because of this one. */
uint64_t mesh_probation_sweep(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h, uint64_t since_us);
/* The cluster's next sweep comes by then. */
void mesh_probation_sweep_by(struct mesh_cluster_state *s, uint64_t at_us);
/* True for the one who decides about the request that runs, who then brings h back or calls mesh_probation_again, its ejections counted. */
bool mesh_probation_take(struct mesh_host *h) FOIL_MUST_USE;
void mesh_probation_again(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h);
