/* The worker's life, its pools and what it says when an assertion fails. The loop itself is the program's (programs/).
 * Invariant: ctr[r], why[r] and probes[r] are valid arrays of FOIL_CELLS_PER_ROOM cells or more for every room, from init to fini. */
#include "dataplane/core/worker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>

#include "dataplane/core/error.h"

#define FOIL_CELLS_PER_ROOM 256u

static _Thread_local const struct foil_worker *current_worker;

static const struct foil_counter_desc counters[] = {
#define X(ID, kind, unit, help) {#ID, FOIL_##kind, #unit, help},
#include "dataplane/core/counters.def"
#undef X
};
const struct foil_room_desc core_room_desc = {FOIL_ROOM_CORE, "core", counters, FOIL_COUNT_OF(counters), NULL, 0};

void foil_worker_set_current(struct foil_worker *w)
{
	current_worker = w;
}

void foil_assert_failed(const char *expr, const char *file, int line)
{
	const struct foil_worker *w = current_worker;

	fprintf(stderr, "assertion failed: %s at %s:%d\n", expr, file, line);
	if (w)
		fprintf(stderr, "worker %u at %llu us, seed 0x%llx\n", w->id, (unsigned long long)w->now_us,
			(unsigned long long)w->seed);
	abort();
}

int foil_worker_init(struct foil_worker *w, const struct foil_worker_params *p)
{
	size_t n_cells = (size_t)FOIL_ROOM_COUNT * 3 * FOIL_CELLS_PER_ROOM;

	w->private_cells = calloc(n_cells, sizeof(uint64_t));
	if (!w->private_cells)
		return -ENOMEM;
	for (unsigned int r = 0; r < FOIL_ROOM_COUNT; r++) {
		w->ctr[r] = w->private_cells + (size_t)r * 3 * FOIL_CELLS_PER_ROOM;
		w->why[r] = w->ctr[r] + FOIL_CELLS_PER_ROOM;
		w->probes[r] = w->why[r] + FOIL_CELLS_PER_ROOM;
	}
	w->id = p->id;
	w->n_workers = p->n_workers;
	w->seed = p->seed;
	w->now_us = p->now_us;
	w->wall_us = p->wall_us;
	foil_prng_seed(&w->prng, p->seed);
	foil_prng_seed(&w->fault_prng, ~p->seed);
	w->secret.k0 = foil_prng_u64(&w->prng);
	w->secret.k1 = foil_prng_u64(&w->prng);
	w->mbuf_pool = p->mbuf_pool;
	w->indirect_pool = p->indirect_pool;
	w->chunk_pool = p->chunk_pool;
	w->large_chunk_pool = p->large_chunk_pool;
	w->overload_state.conf = p->overload;
	foil_wheel_init(&w->wheel, p->now_us);
	return 0;
}

void foil_worker_fini(struct foil_worker *w)
{
	free(w->private_cells);
	w->private_cells = NULL;
}

#define ACCOUNT_EVERY_MIN 33u /* turns; a changing number, so that it does not keep step with what it looks at */
#define ACCOUNT_EVERY_MASK 63u

void foil_account_begin(struct foil_worker *w)
{
	struct foil_account *a = &w->account;

	if (FOIL_LIKELY(a->turns_left > 0)) {
		a->turns_left--;
		return;
	}
	memset(a->cycles, 0, sizeof(a->cycles));
	memset(a->calls, 0, sizeof(a->calls));
	a->stage = FOIL_STAGE_LOOP;
	a->since_tsc = rte_rdtsc();
	a->turns_left = (uint16_t)(ACCOUNT_EVERY_MIN + (a->since_tsc >> 4 & ACCOUNT_EVERY_MASK));
	a->on = true;
}

void foil_account_switch(struct foil_worker *w, enum foil_stage stage)
{
	struct foil_account *a = &w->account;
	uint64_t now = rte_rdtsc();

	a->cycles[a->stage] += now - a->since_tsc;
	a->since_tsc = now;
	a->stage = (uint8_t)stage;
}

void foil_account_end(struct foil_worker *w, bool had_work)
{
	struct foil_account *a = &w->account;
	uint64_t *cells = w->ctr[FOIL_ROOM_CORE];

	if (FOIL_LIKELY(!a->on))
		return;
	foil_account_switch(w, FOIL_STAGE_LOOP);
	a->on = false;
	if (!had_work)
		return;
	foil_count(w, CORE, SAMPLED_TURNS, 1);
	for (int i = 0; i < FOIL_STAGE_COUNT; i++) {
		cells[CORE_CTR_STAGE_LOOP_CYCLES + i] += a->cycles[i];
		cells[CORE_CTR_STAGE_LOOP_CALLS + i] += a->calls[i];
	}
}

static_assert(CORE_CTR_STAGE_TX_CYCLES == CORE_CTR_STAGE_LOOP_CYCLES + FOIL_STAGE_TX, "counters.def has the stages in the order of stages.def");
static_assert(CORE_CTR_STAGE_TX_CALLS == CORE_CTR_STAGE_LOOP_CALLS + FOIL_STAGE_TX, "counters.def has the stages in the order of stages.def");

static int pool_failed(struct foil_error *err, const char *what, uint32_t n, uint32_t elt_bytes)
{
	return foil_error_set(err, -rte_errno,
			      "cannot make the %s pool of %u x %u bytes: %s; give the node file a smaller memory section, or "
			      "reserve more hugepages (./foil setup)",
			      what, n, elt_bytes, rte_strerror(rte_errno));
}

/* What was used last is given out first: it is in the caches, and memory that no load has needed is never touched. DPDK's own way hands out in turn.
 * Where its stack driver is not installed, it stays that way. */
static void last_in_first_out(struct rte_mempool *mp)
{
	(void)rte_mempool_set_ops_byname(mp, "stack", NULL); /* the only error is that there is none of the name */
}

/* rte_pktmbuf_pool_create, but that with ordinary pages an object may cross from one to the next: else DPDK gives each its own, and half
 * of the memory is lost. Devices that need contiguous I/O addresses do not work without hugepages anyway. */
static struct rte_mempool *mbuf_pool_new(const char *name, uint32_t n, uint16_t room, int socket_id)
{
	struct rte_pktmbuf_pool_private opts = {.mbuf_data_room_size = room, .mbuf_priv_size = FOIL_MBUF_PRIV_BYTES};
	unsigned int flags = rte_eal_has_hugepages() ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
	struct rte_mempool *mp = rte_mempool_create_empty(name, n, (unsigned int)sizeof(struct rte_mbuf) + FOIL_MBUF_PRIV_BYTES + room,
							  n > 4096 ? 512 : n > 2048 ? 256 : 0, sizeof(opts), socket_id, flags);
	if (!mp)
		return NULL;
	last_in_first_out(mp);
	rte_pktmbuf_pool_init(mp, &opts);
	int rc = rte_mempool_populate_default(mp);
	if (rc < 0) {
		rte_mempool_free(mp);
		rte_errno = -rc;
		return NULL;
	}
	(void)rte_mempool_obj_iter(mp, rte_pktmbuf_init, NULL); /* says how many: n */
	return mp;
}

/* Scratch memory: no device reads it. */
static struct rte_mempool *chunk_pool_new(const char *name, uint32_t n, uint32_t bytes, int socket_id)
{
	/* A request in flight has three: the cache holds those of a whole burst of them. */
	struct rte_mempool *mp = rte_mempool_create_empty(name, n, bytes, n > 4096 ? 512 : n > 512 ? 64 : 0, 0, socket_id, RTE_MEMPOOL_F_NO_IOVA_CONTIG);

	if (!mp)
		return NULL;
	last_in_first_out(mp);
	int rc = rte_mempool_populate_default(mp);
	if (rc < 0) {
		rte_mempool_free(mp);
		rte_errno = -rc;
		return NULL;
	}
	return mp;
}

int foil_pools_new(struct foil_pools *pools, const struct foil_pools_params *p, struct foil_error *err)
{
	uint32_t room = (p->mbuf_data_bytes ? p->mbuf_data_bytes : 2048) + RTE_PKTMBUF_HEADROOM;
	char name[RTE_MEMPOOL_NAMESIZE];
	int rc;

	memset(pools, 0, sizeof(*pools));
	snprintf(name, sizeof(name), "%s-mbuf", p->prefix);
	pools->mbuf = mbuf_pool_new(name, p->n_mbufs, (uint16_t)room, p->socket_id);
	if (!pools->mbuf) {
		rc = pool_failed(err, "mbuf", p->n_mbufs, room);
		goto fail;
	}
	snprintf(name, sizeof(name), "%s-ind", p->prefix);
	pools->indirect = mbuf_pool_new(name, p->n_indirect, 0, p->socket_id);
	if (!pools->indirect) {
		rc = pool_failed(err, "indirect mbuf", p->n_indirect, 128);
		goto fail;
	}
	snprintf(name, sizeof(name), "%s-chunk", p->prefix);
	pools->chunk = chunk_pool_new(name, p->n_chunks, FOIL_CHUNK_BYTES, p->socket_id);
	if (!pools->chunk) {
		rc = pool_failed(err, "arena chunk", p->n_chunks, FOIL_CHUNK_BYTES);
		goto fail;
	}
	snprintf(name, sizeof(name), "%s-large", p->prefix);
	pools->large_chunk = chunk_pool_new(name, p->n_large_chunks, FOIL_LARGE_CHUNK_BYTES, p->socket_id);
	if (!pools->large_chunk) {
		rc = pool_failed(err, "large arena chunk", p->n_large_chunks, FOIL_LARGE_CHUNK_BYTES);
		goto fail;
	}
	return 0;
fail:
	foil_pools_free(pools);
	return rc;
}

void foil_pools_free(struct foil_pools *pools)
{
	rte_mempool_free(pools->large_chunk);
	rte_mempool_free(pools->chunk);
	rte_mempool_free(pools->indirect);
	rte_mempool_free(pools->mbuf);
	memset(pools, 0, sizeof(*pools));
}
