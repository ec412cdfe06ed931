/* dataplane/core/worker.c: a worker is its seed, counters have cells from the start, pools say what they could not make. */
#include "tests/unit/support.h"

#include <errno.h>

#include "dataplane/core/error.h"

static void test_worker_same_seed_same_chance_and_secret(void **state)
{
	struct foil_worker *a = t_worker(.seed = 7), *b = t_worker(.seed = 7), *c = t_worker(.seed = 8);

	assert_memory_equal(&a->secret, &b->secret, sizeof(a->secret));
	assert_memory_not_equal(&a->secret, &c->secret, sizeof(a->secret));
	for (int i = 0; i < 100; i++)
		assert_true(foil_prng_u64(&a->prng) == foil_prng_u64(&b->prng));
	t_worker_free(a);
	t_worker_free(b);
	t_worker_free(c);
	(void)state;
}

static void test_worker_counts_before_telemetry_gives_cells(void **state)
{
	struct foil_worker *w = t_worker(.seed = 7);

	foil_count(w, CORE, LOOPS, 3);
	foil_count(w, CORE, LOOPS, 4);
	foil_gauge_set(w, CORE, CHUNKS_IN_USE, -2);
	assert_int_equal(t_counter(w, CORE, LOOPS), 7);
	assert_true((int64_t)t_counter(w, CORE, CHUNKS_IN_USE) == -2);
	for (int r = 0; r < FOIL_ROOM_COUNT; r++) {
		assert_non_null(w->ctr[r]);
		assert_non_null(w->why[r]);
	}
	t_worker_free(w);
	(void)state;
}

static void test_worker_descriptor_names_every_counter(void **state)
{
	assert_int_equal(core_room_desc.n_counters, CORE_CTR_COUNT);
	assert_string_equal(core_room_desc.counters[CORE_CTR_TIMERS_FIRED].name, "TIMERS_FIRED");
	for (int i = 0; i < CORE_CTR_COUNT; i++)
		for (const char *s = core_room_desc.counters[i].name; *s; s++)
			assert_true((*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '_');
	(void)state;
}

static void test_worker_pool_too_large_says_which_and_leaves_nothing(void **state)
{
	struct foil_pools pools;
	struct foil_error err = {0};
	struct foil_pools_params p = {.prefix = "huge", .n_mbufs = 1023, .n_indirect = 1023, .n_chunks = 1u << 22, .n_large_chunks = 1, .socket_id = -1};

	t_eal();
	assert_true(foil_pools_new(&pools, &p, &err) < 0);
	assert_non_null(strstr(err.text, "arena chunk"));
	assert_null(pools.mbuf);
	assert_null(rte_mempool_lookup("huge-mbuf"));
	p.n_chunks = 15;
	assert_int_equal(foil_pools_new(&pools, &p, &err), 0); /* the same names are free again */
	foil_pools_free(&pools);
	(void)state;
}

static void test_error_text_is_cut_never_overrun(void **state)
{
	struct foil_error err;

	memset(&err, 'x', sizeof(err));
	assert_int_equal(foil_error_set(&err, -EINVAL, "%0600d", 1), -EINVAL);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	assert_int_equal(err.resource[0], 'x');
	assert_int_equal(foil_error_set(NULL, -EIO, "no place to write"), -EIO);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_worker_same_seed_same_chance_and_secret),
		cmocka_unit_test(test_worker_counts_before_telemetry_gives_cells),
		cmocka_unit_test(test_worker_descriptor_names_every_counter),
		cmocka_unit_test(test_worker_pool_too_large_says_which_and_leaves_nothing),
		cmocka_unit_test(test_error_text_is_cut_never_overrun),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
