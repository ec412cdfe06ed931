/* From updates to the running mesh: checks what an agent sent, decodes it to struct mesh_config, publishes it, and gives the memory of old ones back.
 *
 * The agent counts as hostile. Bytes are scanned against the messages' descriptors before protobuf-c sees them (known fields once, sizes, counts,
 * enumerations, UTF-8 without NUL), unpacked inside a budget, and then every field is checked for its meaning. An update applies whole or not at
 * all; what runs is untouched by one that is rejected. Resources whose bytes are the same are shared between snapshots, so that a change costs
 * what changed. The last snapshot applied is kept in state_dir/snapshot.bin and read at the next start through the same checks.
 *
 * Housekeeping thread only. Nothing here waits for a worker: what old snapshots still hold is freed by later turns. */
#pragma once

#include "dataplane/core/error.h"
#include "dataplane/mesh/mesh.h"

#define X(ID, kind, unit, help) SNAP_CTR_##ID,
enum snap_counter {
#include "dataplane/config/counters.def"
	SNAP_CTR_COUNT
};
#undef X
extern const struct foil_room_desc snap_room_desc; /* of housekeeping's own cells: see tele_shared_counters */

#define SNAP_BYTES_MAX (256u << 20)   /* default budget of one snapshot */
#define SNAP_REJECTIONS_MAX 64u       /* told of one update; more are only counted */
#define SNAP_RESOURCE_BYTES_MAX (24u << 20)
#define SNAP_NAME_BYTES_MAX 512u
#define SNAP_VERSION_BYTES 128u

/* One resource of an update: a packed message of conf/proto/snapshot.proto. */
struct snap_resource {
	uint32_t type;            /* FOIL__CONF__RESOURCE_TYPE__…, not checked yet */
	struct foil_slice name;   /* endpoints are named as their cluster */
	bool removed;             /* body is not looked at */
	struct foil_slice body;
};
struct snap_update {
	struct foil_slice version; /* at most SNAP_VERSION_BYTES - 1 */
	bool full;                 /* what is not in it is removed */
	const struct snap_resource *resources;
	size_t n_resources;
};

struct snap_rejection {
	uint32_t type;
	char name[160];   /* cut when longer */
	char field[160];  /* "virtual_hosts[0].routes[3].match.path"; empty when it is about the whole resource */
	char reason[256];
};

struct snap_params {
	struct mesh_shared *shared;  /* borrowed */
	uint16_t n_workers;          /* copies of each regular expression */
	const char *state_dir;       /* copied; NULL: nothing is kept on disk */
	uint32_t abi;                /* of the messages: a file of another one is not read */
	size_t bytes_max;            /* of one snapshot's decoded resources and their bytes; all in memory together: twice that. 0 = SNAP_BYTES_MAX */
	uint64_t seed;               /* keys the tables of names */
	struct tls_tickets *tickets; /* borrowed, for server contexts; NULL: no session tickets */
};

struct snap;

/* 0 and *out, or -ENOMEM. */
int snap_new(const struct snap_params *p, struct snap **out, struct foil_error *err) FOIL_MUST_USE;
/* After all workers have stopped and before mesh_shared_free. Writes what is not on disk yet. NULL is fine. */
void snap_free(struct snap *own_s);

enum snap_result {
	SNAP_APPLIED,   /* published; in force when mesh_config_is_adopted says so */
	SNAP_UNCHANGED, /* equal to the running one: only the version is taken over */
	SNAP_REJECTED,  /* nothing changed; snap_rejections says why */
};
/* The update's memory is the caller's and may go after the call. */
enum snap_result snap_apply(struct snap *s, const struct snap_update *u) FOIL_MUST_USE;
/* Of the last snap_apply that gave SNAP_REJECTED, until the next. *n_more: left out beyond SNAP_REJECTIONS_MAX. */
const struct snap_rejection *snap_rejections(const struct snap *s, size_t *n, size_t *n_more);

/* Applies state_dir/snapshot.bin. 0; -ENOENT when there is none; -errno with a sentence when it cannot be read or is refused (nothing runs then). */
int snap_load(struct snap *s, struct foil_error *err) FOIL_MUST_USE;
/* Once in a while (100 ms): frees old snapshots that no worker holds, writes the running one to disk when it is not there, at most once a second.
 * 0, or -errno with a sentence when writing failed (tried again later). */
int snap_turn(struct snap *s, uint64_t now_us, struct foil_error *err) FOIL_MUST_USE;

/* The version in force; empty before the first. */
struct foil_slice snap_version(const struct snap *s);
/* The running configuration, NULL before the first. Valid until the next snap_apply. */
const struct mesh_config *snap_config(const struct snap *s);

struct snap_status {
	size_t n_resources, n_bytes;          /* of the running one */
	size_t n_bytes_in_memory, n_old;      /* with the old ones that requests still hold */
	size_t n_listeners, n_routes, n_clusters, n_endpoints;
	uint64_t generation, n_applied, n_rejected, n_unchanged;
	bool is_on_disk;
};
void snap_status(const struct snap *s, struct snap_status *out);
