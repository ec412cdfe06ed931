/* The worker: one poll-mode core and everything that it owns. Time, chance and packets reach code only through it, which is
 * what makes the simulator and the replayer deterministic (design.md section 3). Nothing here is shared with another thread
 * but by the rooms that say so. */
#pragma once

#include <rte_cycles.h>
#include <rte_mempool.h>

#include "dataplane/core/arena.h"
#include "dataplane/core/base.h"
#include "dataplane/core/counters.h"
#include "dataplane/core/overload.h"
#include "dataplane/core/prng.h"
#include "dataplane/core/probe.h"
#include "dataplane/core/siphash.h"
#include "dataplane/core/wheel.h"

#define X(ID, kind, unit, help) CORE_CTR_##ID,
enum core_counter {
#include "dataplane/core/counters.def"
	CORE_CTR_COUNT
};
#undef X
extern const struct foil_room_desc core_room_desc;

/* Contexts of the rooms, opaque here; each room's init puts its own. */
struct net_ctx;
struct tcp_ctx;
struct stream_ctx;
struct tls_ctx;
struct http_ctx;
struct mesh_ctx;
struct tele_ctx;

/* Where cycles go (stages.def). One busy turn in about sixty-four is told by stage, so that it may always be on; the readers scale by the busy cycles,
 * which every turn counts. Nothing reads it back: it changes no decision. */
enum foil_stage {
#define X(ID, name, help) FOIL_STAGE_##ID,
#include "dataplane/core/stages.def"
#undef X
	FOIL_STAGE_COUNT
};

struct foil_account {
	bool on; /* this turn is told */
	uint8_t stage;
	uint16_t turns_left;
	uint64_t since_tsc;
	uint64_t cycles[FOIL_STAGE_COUNT], calls[FOIL_STAGE_COUNT]; /* of this turn */
};

struct foil_worker {
	/* hot */
	uint64_t now_us;  /* monotonic; the loop sets it once a turn; starts at 1 s or later, so that 0 means never */
	uint64_t wall_us; /* Unix time in us at now_us: for log lines, date headers and expiry, never for intervals */
	struct foil_prng prng;
	uint64_t *ctr[FOIL_ROOM_COUNT];
	uint64_t *why[FOIL_ROOM_COUNT];
	struct rte_mempool *mbuf_pool;     /* direct mbufs with room for a frame */
	struct rte_mempool *indirect_pool; /* mbufs without data room, for references */
	struct rte_mempool *chunk_pool, *large_chunk_pool;

	struct net_ctx *net;
	struct tcp_ctx *tcp;
	struct stream_ctx *stream;
	struct tls_ctx *tls;
	struct http_ctx *http;
	struct mesh_ctx *mesh;
	struct tele_ctx *tele;

	struct foil_siphash_key secret; /* for keyed hashes of this worker; never leaves the process */
	uint16_t id, n_workers;
	bool draining; /* SIGTERM: no new connections, answers close theirs */
	uint8_t overload; /* enum foil_overload_action: what is not done for want of something */
	uint64_t seed; /* what prng and secret came from, printed when an assertion fails */

	struct foil_account account;
	struct foil_overload overload_state;
	struct foil_wheel wheel;
	uint64_t *private_cells; /* backing of ctr and why before telemetry takes over */
	uint64_t *probes[FOIL_ROOM_COUNT]; /* probe.h; with FOIL_CHECKS only, as the two below */
	struct foil_prng fault_prng;
	uint32_t fault_ppm;
};

/* Private area of every mbuf that our pools make; net keeps its receive facts there. */
#define FOIL_MBUF_PRIV_BYTES 64

struct foil_worker_params {
	uint16_t id, n_workers;
	uint64_t seed, now_us, wall_us;
	struct rte_mempool *mbuf_pool, *indirect_pool; /* borrowed; the program makes them with foil_pools_new or nic does */
	struct rte_mempool *chunk_pool, *large_chunk_pool;
	struct foil_overload_conf overload; /* zeros: it never does less */
};

struct foil_error;

/* Memory is the caller's (cache-aligned, zeroed). 0 or -ENOMEM. fini frees only what init took. */
int foil_worker_init(struct foil_worker *w, const struct foil_worker_params *p) FOIL_MUST_USE;
void foil_worker_fini(struct foil_worker *w);

struct foil_pools_params {
	const char *prefix; /* unique a process, e.g. "w0" */
	uint32_t n_mbufs, mbuf_data_bytes /* data room without headroom, 0 = 2048 */, n_indirect, n_chunks, n_large_chunks;
	int socket_id;
};
struct foil_pools {
	struct rte_mempool *mbuf, *indirect, *chunk, *large_chunk;
};
/* For programs, tests and the simulator alike: EAL must be up. 0, or -errno with a sentence that names the pool and the sizes. */
int foil_pools_new(struct foil_pools *pools, const struct foil_pools_params *p, struct foil_error *err) FOIL_MUST_USE;
void foil_pools_free(struct foil_pools *pools);

/* The worker of this thread, for assertion messages only. */
void foil_worker_set_current(struct foil_worker *w);

/* For the loop: around a turn. had_work false throws away what was told. */
void foil_account_begin(struct foil_worker *w);
void foil_account_end(struct foil_worker *w, bool had_work);
void foil_account_switch(struct foil_worker *w, enum foil_stage stage);

/* From here on cycles are stage's, until foil_stage_leave with what was returned. A test of one flag where the turn is not told. */
static inline uint8_t foil_stage_enter(struct foil_worker *w, enum foil_stage stage)
{
	uint8_t before = w->account.stage;

	if (FOIL_UNLIKELY(w->account.on)) {
		foil_account_switch(w, stage);
		w->account.calls[stage]++;
	}
	return before;
}

static inline void foil_stage_leave(struct foil_worker *w, uint8_t before)
{
	if (FOIL_UNLIKELY(w->account.on))
		foil_account_switch(w, (enum foil_stage)before);
}
