/* What shared.c asks of outlier.c. */
#pragma once

#include "dataplane/mesh/outlier.h"

/* Housekeeping: the list of c's clusters that eject. 0 or -ENOMEM. */
int mesh_outlier_list_new(struct mesh_config *c, uint16_t n_workers) FOIL_MUST_USE;
void mesh_outlier_list_free(struct mesh_config *c);
/* Housekeeping: h is no longer in the published configuration, or its cluster ejects no more: as if it had never failed. */
void mesh_outlier_forget(struct mesh_host *h);
/* What one worker needs to tell how many hosts are ejected (outlier_gauge.c), zeroed memory of w->mesh->outlier_gauge; the others have NULL. n_changes:
 * mesh_shared_ejections. Once a turn, cheap while nothing changed. */
size_t mesh_outlier_gauge_bytes(void);
void mesh_outlier_tell(struct foil_worker *w, const struct mesh_config *cfg, uint32_t n_changes);
