/* What every unit test starts from: a fake worker with real pools and a clock that only the test moves.
 *
 *   struct foil_worker *w = t_worker(.seed = 7);
 *   ... t_advance(w, 200000) moves the clock by 200 ms and fires the timers that fall due, in their order ...
 *   t_worker_free(w);      fails the test when an mbuf or a chunk was not given back
 *
 * EAL starts once a process, without hugepages, devices or threads, at the first t_worker. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dataplane/core/chain.h"
#include "dataplane/core/worker.h"

#define T_NOW_US 1000000u               /* where the clock stands unless told */
#define T_WALL_US 1700000000000000ull   /* 2023-11-14T22:13:20Z */

struct t_worker_params {
	uint64_t seed, now_us, wall_us;         /* 0: 1, T_NOW_US, T_WALL_US */
	uint16_t id, n_workers;                 /* n_workers 0: 1 */
	uint32_t n_mbufs, n_indirect, n_chunks, n_large_chunks; /* 0: 2047, 2047, 255, 7 */
	uint32_t mbuf_data_bytes;               /* 0: 2048 */
};

/* The test fails, and shows the whole text. */
void t_assert_has(const char *text, const char *part);
void t_assert_has_not(const char *text, const char *part);

/* EAL alone, for tests that make their own pools. Safe to call again. */
void t_eal(void);
struct foil_worker *t_worker_new(struct t_worker_params p);
#define t_worker(...) t_worker_new((struct t_worker_params){__VA_ARGS__})
/* Frees the worker and its pools after checking that everything came home (t_assert_no_leaks). NULL-safe. */
void t_worker_free(struct foil_worker *w);
/* Fails the test unless each pool has as many objects as it began with. */
void t_assert_no_leaks(struct foil_worker *w);

/* Moves now_us and wall_us on and fires what falls due, tick by tick, so that timers armed by timers fire in order too. */
void t_advance(struct foil_worker *w, uint64_t us);
/* Moves the clock only. */
void t_clock(struct foil_worker *w, uint64_t us);
/* A counter or a reason by its words: t_counter(w, TCP, ACTIVE_OPENS), t_reason(w, TCP, PAWS_OLD). */
#define t_counter(w, ROOM, ID) ((w)->ctr[FOIL_ROOM_##ROOM][ROOM##_CTR_##ID])
#define t_reason(w, ROOM, ID) ((w)->why[FOIL_ROOM_##ROOM][ROOM##_REASON_##ID])

/* One mbuf of data from w->mbuf_pool; fails the test when the pool is empty. */
struct rte_mbuf *t_mbuf(struct foil_worker *w, const void *data, uint16_t n_bytes);
/* Appends text to chain as segments of at most seg_bytes each (0: one segment), so that splits can be tested. */
void t_chain(struct foil_worker *w, struct foil_chain *chain, const void *data, uint32_t n_bytes, uint16_t seg_bytes);
/* The chain's invariant holds and its bytes are exactly these. */
void t_assert_chain(const struct foil_chain *chain, const void *data, uint32_t n_bytes);
/* Takes every object of a pool away, so that the n-th allocation fails; leave_n stay. Give back with t_pool_refill. */
void t_pool_drain(struct rte_mempool *pool, uint32_t leave_n);
void t_pool_refill(struct rte_mempool *pool);
