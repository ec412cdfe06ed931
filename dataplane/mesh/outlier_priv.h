/* What shared.c asks of outlier.c. */
#pragma once

#include "dataplane/mesh/outlier.h"

/* Housekeeping: the list of c's clusters that eject. 0 or -ENOMEM. */
int mesh_outlier_list_new(struct mesh_config *c, uint16_t n_workers) FOIL_MUST_USE;
void mesh_outlier_list_free(struct mesh_config *c);
/* Housekeeping: h is no longer in the published configuration, or its cluster ejects no more: as if it had never failed. */
void mesh_outlier_forget(struct mesh_host *h);
