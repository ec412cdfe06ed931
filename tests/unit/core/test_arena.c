/* dataplane/core/arena.c: alignment, growth, budget, exhaustion, and everything back in the pools. */
#include "tests/unit/support.h"

#include "dataplane/core/arena.h"

static void test_arena_empty_owns_no_chunk(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_arena a = {0};

	foil_arena_reset(w, &a);
	assert_int_equal(t_counter(w, CORE, CHUNKS_IN_USE), 0);
	t_worker_free(w);
	(void)state;
}

static void test_arena_allocations_are_aligned_and_apart(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_arena a = {0};
	uint8_t *last = NULL;
	size_t last_bytes = 0;

	for (size_t n = 1; n < 300; n++) {
		uint8_t *p = foil_arena_alloc(w, &a, n);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		memset(p, (int)n, n);
		if (last)
			for (size_t i = 0; i < last_bytes; i++)
				assert_int_equal(last[i], (uint8_t)last_bytes);
		last = p;
		last_bytes = n;
	}
	foil_arena_reset(w, &a);
	assert_int_equal(t_counter(w, CORE, CHUNKS_IN_USE), 0);
	t_worker_free(w);
	(void)state;
}

static void test_arena_zalloc_zeroes_reused_memory(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1, .n_chunks = 1);
	struct foil_arena a = {0};

	void *dirty = foil_arena_alloc(w, &a, 2000);
	assert_non_null(dirty);
	memset(dirty, 0xff, 2000);
	foil_arena_reset(w, &a);
	uint8_t *p = foil_arena_zalloc(w, &a, 2000);
	assert_non_null(p);
	for (int i = 0; i < 2000; i++)
		assert_int_equal(p[i], 0);
	foil_arena_reset(w, &a);
	t_worker_free(w);
	(void)state;
}

static void test_arena_of_nothing_is_not_exhaustion(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_arena a = {0};

	assert_non_null(foil_arena_alloc(w, &a, 0));
	assert_non_null(foil_arena_zalloc(w, &a, 0));
	struct foil_slice s = foil_arena_copy(w, &a, (struct foil_slice){NULL, 0});
	assert_non_null(s.data);
	assert_int_equal(s.n_bytes, 0);
	foil_arena_reset(w, &a);
	t_worker_free(w);
	(void)state;
}

static void test_arena_large_block_is_contiguous_and_goes_back_to_its_pool(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_arena a = {0};

	uint8_t *p = foil_arena_alloc(w, &a, 60 * 1024);
	assert_non_null(p);
	memset(p, 7, 60 * 1024);
	assert_non_null(foil_arena_alloc(w, &a, 4000)); /* the large chunk has room left */
	assert_non_null(foil_arena_alloc(w, &a, FOIL_LARGE_CHUNK_BYTES - 16));
	foil_arena_reset(w, &a);
	t_worker_free(w);
	(void)state;
}

static void test_arena_refuses_more_than_a_large_chunk_and_overflow(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_arena a = {0};

	assert_null(foil_arena_alloc(w, &a, FOIL_LARGE_CHUNK_BYTES));
	assert_null(foil_arena_alloc(w, &a, SIZE_MAX));
	assert_null(foil_arena_alloc(w, &a, SIZE_MAX - 15));
	assert_null(foil_arena_zalloc(w, &a, SIZE_MAX - 3));
	assert_int_equal(t_counter(w, CORE, ARENA_EXHAUSTED), 4);
	foil_arena_reset(w, &a);
	t_worker_free(w);
	(void)state;
}

static void test_arena_stops_at_its_budget(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_arena a = {0};
	uint32_t n = 0;

	while (foil_arena_alloc(w, &a, 4000))
		n++;
	assert_int_equal(n, FOIL_ARENA_BYTES_MAX / FOIL_CHUNK_BYTES);
	assert_int_equal(a.n_bytes, FOIL_ARENA_BYTES_MAX);
	foil_arena_reset(w, &a);
	assert_non_null(foil_arena_alloc(w, &a, 4000));
	foil_arena_reset(w, &a);
	t_worker_free(w);
	(void)state;
}

static void test_arena_empty_pool_refuses_and_earlier_memory_stays(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1, .n_chunks = 2);
	struct foil_arena a = {0}, b = {0};

	char *kept = foil_arena_alloc(w, &a, 3000);
	assert_non_null(kept);
	memset(kept, 'k', 3000);
	assert_non_null(foil_arena_alloc(w, &a, 3000));
	assert_null(foil_arena_alloc(w, &b, 100));
	struct foil_slice s = foil_arena_copy(w, &b, FOIL_SLICE("x"));
	assert_null(s.data);
	assert_int_equal(s.n_bytes, 0);
	assert_int_equal(kept[2999], 'k');
	foil_arena_reset(w, &a);
	assert_non_null(foil_arena_alloc(w, &b, 100));
	foil_arena_reset(w, &b);
	t_worker_free(w);
	(void)state;
}

static void test_arena_copy_and_printf(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_arena a = {0};
	char source[] = "host.example";

	struct foil_slice s = foil_arena_copy(w, &a, foil_slice_str(source));
	source[0] = 'X';
	assert_true(foil_slice_eq(s, FOIL_SLICE("host.example")));
	assert_true(foil_slice_eq(foil_arena_printf(w, &a, "%d-%s", 42, "x"), FOIL_SLICE("42-x")));
	struct foil_slice cut = foil_arena_printf(w, &a, "%5000d", 1);
	assert_int_equal(cut.n_bytes, 3999);
	foil_arena_reset(w, &a);
	t_worker_free(w);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arena_empty_owns_no_chunk),
		cmocka_unit_test(test_arena_allocations_are_aligned_and_apart),
		cmocka_unit_test(test_arena_zalloc_zeroes_reused_memory),
		cmocka_unit_test(test_arena_of_nothing_is_not_exhaustion),
		cmocka_unit_test(test_arena_large_block_is_contiguous_and_goes_back_to_its_pool),
		cmocka_unit_test(test_arena_refuses_more_than_a_large_chunk_and_overflow),
		cmocka_unit_test(test_arena_stops_at_its_budget),
		cmocka_unit_test(test_arena_empty_pool_refuses_and_earlier_memory_stays),
		cmocka_unit_test(test_arena_copy_and_printf),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
