/* The mesh's transport made of tcp: listeners and active opens (mesh.h, struct mesh_transport). */
#pragma once

#include "dataplane/core/error.h"
#include "dataplane/mesh/mesh.h"

/* Room for every worker's listeners, taken once at start. 0 or -ENOMEM. */
int transport_init(uint16_t n_workers, struct foil_error *err) FOIL_MUST_USE;
void transport_fini(void);
extern const struct mesh_transport transport_tcp;
