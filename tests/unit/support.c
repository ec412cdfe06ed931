/* The fake worker of the unit tests. Not for programs: it keeps process-wide state (EAL, drained pools), which tests may.
 * Invariant: a worker's pools have unique names, so that several workers may live at once. */
#include "tests/unit/support.h"

#include <stdio.h>
#include <stdlib.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>

#include "dataplane/core/error.h"

struct t_state {
	struct foil_worker w; /* first: t_worker hands out its address */
	struct foil_pools pools;
	uint32_t n_mbuf, n_indirect, n_chunk, n_large_chunk; /* available when it was made */
};

#define T_DRAINED_MAX 8
static struct {
	struct rte_mempool *pool;
	void **objects;
	uint32_t n;
} drained[T_DRAINED_MAX];

void t_eal(void)
{
	/* --no-shconf and not --in-memory: EAL 22.11 refuses the latter together with --no-huge */
	static bool is_up;
	char *argv[] = {(char[]){"unit"}, (char[]){"--no-huge"}, (char[]){"--no-pci"}, (char[]){"--no-shconf"}, (char[]){"-m"}, (char[]){"128"},
			(char[]){"--no-telemetry"}, (char[]){"-l"}, (char[]){"0"}, (char[]){"--log-level=3"}, NULL};

	if (is_up)
		return;
	if (rte_eal_init((int)FOIL_COUNT_OF(argv) - 1, argv) < 0) {
		fprintf(stderr, "unit test: EAL does not start: %s\n", rte_strerror(rte_errno));
		exit(1);
	}
	is_up = true;
}

struct foil_worker *t_worker_new(struct t_worker_params p)
{
	static unsigned int n_made;
	struct t_state *s = aligned_alloc(64, (sizeof(*s) + 63) / 64 * 64);
	struct foil_error err = {0};
	char prefix[16];

	t_eal();
	assert_non_null(s);
	memset(s, 0, sizeof(*s));
	snprintf(prefix, sizeof(prefix), "t%u", n_made++);
	struct foil_pools_params pools = {
		.prefix = prefix, .mbuf_data_bytes = p.mbuf_data_bytes, .n_mbufs = p.n_mbufs ? p.n_mbufs : 2047,
		.n_indirect = p.n_indirect ? p.n_indirect : 2047, .n_chunks = p.n_chunks ? p.n_chunks : 255,
		.n_large_chunks = p.n_large_chunks ? p.n_large_chunks : 7, .socket_id = SOCKET_ID_ANY,
	};
	if (foil_pools_new(&s->pools, &pools, &err) != 0)
		fail_msg("%s", err.text);
	struct foil_worker_params worker = {
		.id = p.id, .n_workers = p.n_workers ? p.n_workers : 1, .seed = p.seed ? p.seed : 1,
		.now_us = p.now_us ? p.now_us : T_NOW_US, .wall_us = p.wall_us ? p.wall_us : T_WALL_US,
		.mbuf_pool = s->pools.mbuf, .indirect_pool = s->pools.indirect, .chunk_pool = s->pools.chunk,
		.large_chunk_pool = s->pools.large_chunk,
	};
	assert_int_equal(foil_worker_init(&s->w, &worker), 0);
	foil_worker_set_current(&s->w);
	s->n_mbuf = rte_mempool_avail_count(s->pools.mbuf);
	s->n_indirect = rte_mempool_avail_count(s->pools.indirect);
	s->n_chunk = rte_mempool_avail_count(s->pools.chunk);
	s->n_large_chunk = rte_mempool_avail_count(s->pools.large_chunk);
	return &s->w;
}

void t_assert_no_leaks(struct foil_worker *w)
{
	const struct t_state *s = (const struct t_state *)w;

	assert_int_equal(rte_mempool_avail_count(s->pools.mbuf), s->n_mbuf);
	assert_int_equal(rte_mempool_avail_count(s->pools.indirect), s->n_indirect);
	assert_int_equal(rte_mempool_avail_count(s->pools.chunk), s->n_chunk);
	assert_int_equal(rte_mempool_avail_count(s->pools.large_chunk), s->n_large_chunk);
}

void t_worker_free(struct foil_worker *w)
{
	struct t_state *s = (struct t_state *)w;

	if (!s)
		return;
	t_assert_no_leaks(w);
	foil_worker_set_current(NULL);
	foil_worker_fini(&s->w);
	foil_pools_free(&s->pools);
	free(s);
}

void t_clock(struct foil_worker *w, uint64_t us)
{
	w->now_us += us;
	w->wall_us += us;
}

void t_advance(struct foil_worker *w, uint64_t us)
{
	uint64_t end = w->now_us + us;

	while (w->now_us < end) {
		uint64_t next = foil_wheel_next_us(w);
		uint64_t to = FOIL_MIN(end, FOIL_MAX(next, w->now_us + FOIL_TICK_US));
		t_clock(w, to - w->now_us);
		while (foil_wheel_advance(w, 64) == 64)
			;
	}
}

struct rte_mbuf *t_mbuf(struct foil_worker *w, const void *data, uint16_t n_bytes)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->mbuf_pool);

	assert_non_null(m);
	char *at = rte_pktmbuf_append(m, n_bytes);
	assert_non_null(at);
	if (n_bytes)
		memcpy(at, data, n_bytes);
	return m;
}

void t_chain(struct foil_worker *w, struct foil_chain *chain, const void *data, uint32_t n_bytes, uint16_t seg_bytes)
{
	uint32_t most = seg_bytes ? seg_bytes : 2048;

	for (uint32_t done = 0; done < n_bytes;) {
		uint32_t n = FOIL_MIN(most, n_bytes - done);
		foil_chain_append_mbuf(chain, t_mbuf(w, (const char *)data + done, (uint16_t)n));
		done += n;
	}
}

void t_assert_chain(const struct foil_chain *chain, const void *data, uint32_t n_bytes)
{
	uint32_t done = 0;
	const struct rte_mbuf *last = NULL;

	assert_int_equal(chain->n_bytes, n_bytes);
	for (const struct rte_mbuf *m = chain->head; m; m = m->next) {
		assert_true(m->data_len > 0);
		assert_true(m->data_len <= n_bytes - done);
		assert_memory_equal(rte_pktmbuf_mtod(m, const char *), (const char *)data + done, m->data_len);
		done += m->data_len;
		last = m;
	}
	assert_int_equal(done, n_bytes);
	assert_ptr_equal(chain->tail, last);
}

void t_pool_drain(struct rte_mempool *pool, uint32_t leave_n)
{
	unsigned int i = 0;

	while (i < T_DRAINED_MAX && drained[i].pool)
		i++;
	assert_true(i < T_DRAINED_MAX);
	uint32_t n = rte_mempool_avail_count(pool);
	n = n > leave_n ? n - leave_n : 0;
	drained[i].objects = calloc(n + 1, sizeof(void *));
	assert_non_null(drained[i].objects);
	drained[i].pool = pool;
	for (drained[i].n = 0; drained[i].n < n; drained[i].n++)
		assert_int_equal(rte_mempool_get(pool, &drained[i].objects[drained[i].n]), 0);
}

void t_pool_refill(struct rte_mempool *pool)
{
	for (unsigned int i = 0; i < T_DRAINED_MAX; i++) {
		if (drained[i].pool != pool)
			continue;
		while (drained[i].n)
			rte_mempool_put(pool, drained[i].objects[--drained[i].n]);
		free(drained[i].objects);
		drained[i].objects = NULL;
		drained[i].pool = NULL;
	}
}

void t_assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no \"%s\" in:\n%s", part, text);
}

void t_assert_has_not(const char *text, const char *part)
{
	if (strstr(text, part))
		fail_msg("\"%s\" in:\n%s", part, text);
}
