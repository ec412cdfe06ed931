/* How many clients there may be (features.md OM-11): of a listener, and of the node, over all workers. One more is closed in order as soon as it is there,
 * as Envoy closes what it has just accepted, and nothing else of it is done or logged.
 *
 * Counts are one atomic word each, written where a limit is set alone, once for each connection that comes and goes: unlike breakers' (breaker.h), which
 * requests write, they need not be kept apart by worker, and so are exact. They live as long as a configuration names the listener or a client is
 * counted, so that an edit forgets nobody. */
#pragma once

#include "dataplane/core/error.h"
#include "dataplane/mesh/config.h"

struct FOIL_CACHE_ALIGNED mesh_client_count {
	uint32_t n; /* atomic */
	uint32_t n_refs; /* the rest is housekeeping's: prepared configurations that name it */
	struct mesh_client_count *next;
	uint8_t ip[16];
	uint16_t port;
};

#define MESH_CLIENT_BUCKETS 256u
struct mesh_clients {
	struct mesh_client_count all; /* of the node */
	struct mesh_client_count *by_listener[MESH_CLIENT_BUCKETS];
};

/* ---- housekeeping ---- */
/* The counts of c's listeners that have limits. 0, or -ENOMEM with nothing held. */
int mesh_clients_prepare(struct mesh_clients *all, struct mesh_config *c, struct foil_error *err) FOIL_MUST_USE;
void mesh_clients_unprepare(struct mesh_clients *all, struct mesh_config *c);
void mesh_clients_free(struct mesh_clients *all);

/* ---- workers ---- */
struct mesh_port;
/* A client has come: false when it is one too many, which has its reason then. Who was admitted leaves once. */
bool mesh_client_admit(struct foil_worker *w, struct mesh_port *p) FOIL_MUST_USE;
void mesh_client_leave(struct foil_worker *w, struct mesh_port *p);
/* After ctx->cfg and the ports' listeners are the new ones: who is there is counted where there is a limit now. */
void mesh_clients_adopt(struct foil_worker *w);
