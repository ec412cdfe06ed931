/* The mesh: listeners, routing, filters, clusters, balancing, pools, breakers, outliers, L4 proxying. It sees streams and messages, never
 * packets; it is told where to listen and how to connect by two functions that the program gives (tcp today), so that the
 * simulator and tests can give theirs.
 *
 * Threads: mesh_shared belongs to housekeeping (the main lcore); everything with a foil_worker argument belongs to that worker. */
#pragma once

#include "dataplane/http/codec.h"
#include "dataplane/mesh/config.h"
#include "dataplane/stream/stream.h"

#define X(ID, kind, unit, help) MESH_CTR_##ID,
enum mesh_counter {
#include "dataplane/mesh/counters.def"
	MESH_CTR_COUNT
};
#undef X
#define X(ID, name, kind, help) MESH_REASON_##ID,
enum mesh_reason {
#include "dataplane/mesh/reasons.def"
	MESH_REASON_COUNT
};
#undef X
extern const struct foil_room_desc mesh_room_desc;

/* ---- housekeeping ---- */
struct mesh_shared; /* the published pointer, hosts by cluster and address, breaker counts */

struct mesh_shared_params {
	uint16_t n_workers;
	const struct mesh_cidr *refused; /* addresses that a host which a request names may not have; borrowed for as long as the shared state */
	uint16_t n_refused;
};
struct mesh_shared *mesh_shared_new(const struct mesh_shared_params *p); /* NULL: no memory */
/* After all workers have stopped. Does not free configs: config_fini does. */
void mesh_shared_free(struct mesh_shared *sh);
/* Finds or makes the hosts of every endpoint (they survive by cluster name and address) and the balancing state: fills c->host_sets and
 * endpoints' host. Must have run before publish. 0, or -ENOMEM with c as before. */
int mesh_config_prepare(struct mesh_shared *sh, struct mesh_config *c, struct foil_error *err) FOIL_MUST_USE;
/* Undoes prepare (drops the hosts that nobody else uses). Before c's own memory is freed. */
void mesh_config_unprepare(struct mesh_shared *sh, struct mesh_config *c);
/* Workers see c from their next turn on. The old one stays until mesh_config_is_quiet says so. */
void mesh_config_publish(struct mesh_shared *sh, const struct mesh_config *c);
/* Now and then: the tables of ring hash and Maglev clusters are made again after hosts were ejected or came back; at most one a call. */
void mesh_shared_turn(struct mesh_shared *sh);
/* No worker can see or hold c: every worker has adopted a later one and holds no reference. */
bool mesh_config_is_quiet(const struct mesh_shared *sh, const struct mesh_config *c);
/* Every worker has adopted the published one (the update is in force). */
bool mesh_config_is_adopted(const struct mesh_shared *sh);

/* ---- workers ---- */
struct mesh_listen_handle;
struct mesh_transport {
	/* Listen; accept is called with the new stream and must return true when it took it (tcp.h). 0 or -errno. */
	int (*listen)(struct foil_worker *w, const uint8_t ip[16], uint16_t port, bool (*accept)(struct foil_worker *w, void *data, struct stream *s),
		      void *data, struct mesh_listen_handle **out);
	void (*unlisten)(struct foil_worker *w, struct mesh_listen_handle *h);
	/* An active open; opened or closed is called later, never from inside. 0 or -errno. */
	int (*connect)(struct foil_worker *w, const uint8_t ip[16], uint16_t port, const struct stream_user *user, void *user_data,
		       struct stream **out);
	/* Another station's address, whose connections come here first (and which connect reaches). NULL: no address is. */
	bool (*is_captured)(const struct foil_worker *w, const uint8_t ip[16]);
};

struct mesh_params {
	struct mesh_shared *shared;
	const struct mesh_transport *transport;
	uint32_t requests_max, connections_max; /* 65536 each */
	uint32_t names_max;                     /* MESH_NAMES_DEFAULT: hosts that requests name */
	struct foil_slice node_name;
};
/* Needs w->http, w->tcp up. Sets w->mesh. */
int mesh_init(struct foil_worker *w, const struct mesh_params *p, struct foil_error *err) FOIL_MUST_USE;
void mesh_fini(struct foil_worker *w);
/* Once a loop turn, before packets: adopts a newly published snapshot (starts and stops listeners, moves pools), bounded work. */
void mesh_turn(struct foil_worker *w);
/* w->draining became true: stop accepting, say connection: close in answers, close idle connections. */
void mesh_drain(struct foil_worker *w);
/* Downstream connections still alive, requests in flight: drain is over when both are 0. */
struct mesh_stats {
	uint32_t n_downstream, n_requests, n_upstream;
	uint32_t n_request_blocks, request_blocks_max;
};
void mesh_stats_get(const struct foil_worker *w, struct mesh_stats *out);
/* For FOIL_OVERLOAD_SHRINK: closes some of the connections at rest, the oldest of clients and the longest unused of origins. Bounded: a hundredth of either,
 * to be called again. */
void mesh_shrink(struct foil_worker *w);
