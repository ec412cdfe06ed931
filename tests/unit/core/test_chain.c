/* dataplane/core/chain.c: cut at every byte, references that outlive their source, exhaustion that changes nothing. */
#include "tests/unit/support.h"

#include <errno.h>

static const char text[] = "The quick brown fox jumps over the lazy dog 0123456789 and back";
#define TEXT_BYTES ((uint32_t)sizeof(text) - 1)

static void test_chain_append_fills_tail_room_then_fresh_mbufs(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_chain c = {0};
	char big[10000];

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7);
	assert_int_equal(foil_chain_append(w, &c, big, 10), 0);
	assert_ptr_equal(c.head, c.tail);
	assert_int_equal(foil_chain_append(w, &c, big + 10, 2000), 0);
	assert_ptr_equal(c.head, c.tail);
	assert_int_equal(foil_chain_append(w, &c, big + 2010, sizeof(big) - 2010), 0);
	assert_int_equal(foil_chain_append(w, &c, NULL, 0), 0);
	t_assert_chain(&c, big, sizeof(big));
	foil_chain_clear(&c);
	t_worker_free(w);
	(void)state;
}

static void test_chain_append_leaves_shared_segments_alone(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_chain c = {0}, ref = {0};

	assert_int_equal(foil_chain_append(w, &c, "abc", 3), 0);
	assert_int_equal(foil_chain_share(w, &c, 0, 3, &ref), 0);
	assert_int_equal(foil_chain_append(w, &c, "def", 3), 0);
	assert_ptr_not_equal(c.head, c.tail);
	assert_int_equal(foil_chain_append(w, &ref, "xyz", 3), 0);
	t_assert_chain(&c, "abcdef", 6);
	t_assert_chain(&ref, "abcxyz", 6);
	foil_chain_clear(&c);
	t_assert_chain(&ref, "abcxyz", 6);
	foil_chain_clear(&ref);
	t_worker_free(w);
	(void)state;
}

static void test_chain_append_without_mbufs_changes_nothing(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_chain c = {0};
	char big[8000] = {0};

	assert_int_equal(foil_chain_append(w, &c, "abc", 3), 0);
	for (uint32_t leave = 0; leave < 3; leave++) {
		t_pool_drain(w->mbuf_pool, leave);
		assert_int_equal(foil_chain_append(w, &c, big, sizeof(big)), -ENOBUFS);
		t_assert_chain(&c, "abc", 3);
		assert_int_equal(rte_mempool_avail_count(w->mbuf_pool), leave);
		t_pool_refill(w->mbuf_pool);
	}
	assert_int_equal(t_counter(w, CORE, MBUF_EXHAUSTED), 3);
	foil_chain_clear(&c);
	t_worker_free(w);
	(void)state;
}

static void test_chain_split_at_every_byte_of_every_segmentation(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);

	for (uint16_t seg = 1; seg <= 20; seg++) {
		for (uint32_t at = 0; at <= TEXT_BYTES; at++) {
			struct foil_chain c = {0}, front = {0};
			t_chain(w, &front, "<", 1, 0);
			t_chain(w, &c, text, TEXT_BYTES, seg);
			assert_int_equal(foil_chain_split(w, &c, at, &front), 0);
			t_assert_chain(&c, text + at, TEXT_BYTES - at);
			foil_chain_clear(&c); /* the front outlives what it was cut from */
			char expected[sizeof(text) + 1] = "<";
			memcpy(expected + 1, text, at);
			t_assert_chain(&front, expected, at + 1);
			foil_chain_clear(&front);
			t_assert_no_leaks(w);
		}
	}
	t_worker_free(w);
	(void)state;
}

static void test_chain_split_of_a_split_of_a_reference(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_chain c = {0}, a = {0}, b = {0}, ref = {0};

	t_chain(w, &c, text, TEXT_BYTES, 0);
	assert_int_equal(foil_chain_share(w, &c, 4, 30, &ref), 0);
	assert_int_equal(foil_chain_split(w, &ref, 20, &a), 0);
	assert_int_equal(foil_chain_split(w, &a, 7, &b), 0);
	foil_chain_clear(&c);
	t_assert_chain(&b, text + 4, 7);
	t_assert_chain(&a, text + 11, 13);
	t_assert_chain(&ref, text + 24, 10);
	foil_chain_clear(&ref);
	t_assert_chain(&a, text + 11, 13);
	foil_chain_clear(&a);
	t_assert_chain(&b, text + 4, 7);
	foil_chain_clear(&b);
	t_worker_free(w);
	(void)state;
}

static void test_chain_split_without_indirects_changes_neither_chain(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_chain c = {0}, to = {0};

	t_chain(w, &c, text, TEXT_BYTES, 10);
	t_chain(w, &to, "to", 2, 0);
	t_pool_drain(w->indirect_pool, 0);
	assert_int_equal(foil_chain_split(w, &c, 15, &to), -ENOBUFS);
	t_assert_chain(&c, text, TEXT_BYTES);
	t_assert_chain(&to, "to", 2);
	assert_int_equal(foil_chain_split(w, &c, 20, &to), 0); /* on a segment's edge: no reference needed */
	t_pool_refill(w->indirect_pool);
	foil_chain_clear(&c);
	foil_chain_clear(&to);
	t_worker_free(w);
	(void)state;
}

static void test_chain_consume_every_length(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);

	for (uint16_t seg = 1; seg <= 20; seg += 3) {
		for (uint32_t n = 0; n <= TEXT_BYTES; n++) {
			struct foil_chain c = {0};
			t_chain(w, &c, text, TEXT_BYTES, seg);
			foil_chain_consume(&c, n);
			t_assert_chain(&c, text + n, TEXT_BYTES - n);
			foil_chain_consume(&c, c.n_bytes);
			assert_true(foil_chain_is_empty(&c));
			assert_null(c.head);
			assert_null(c.tail);
			t_assert_no_leaks(w);
		}
	}
	t_worker_free(w);
	(void)state;
}

static void test_chain_share_every_range_and_outlive(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);

	for (uint32_t from = 0; from <= TEXT_BYTES; from += 3) {
		for (uint32_t n = 0; n <= TEXT_BYTES - from; n++) {
			struct foil_chain c = {0}, ref = {0};
			t_chain(w, &c, text, TEXT_BYTES, 9);
			assert_int_equal(foil_chain_share(w, &c, from, n, &ref), 0);
			t_assert_chain(&c, text, TEXT_BYTES);
			foil_chain_clear(&c);
			t_assert_chain(&ref, text + from, n);
			foil_chain_clear(&ref);
			t_assert_no_leaks(w);
		}
	}
	t_worker_free(w);
	(void)state;
}

static void test_chain_share_failing_at_each_reference_leaves_nothing(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_chain c = {0}, ref = {0};

	t_chain(w, &c, text, TEXT_BYTES, 10);
	for (uint32_t leave = 0; leave < 7; leave++) {
		t_pool_drain(w->indirect_pool, leave);
		int rc = foil_chain_share(w, &c, 0, TEXT_BYTES, &ref);
		t_pool_refill(w->indirect_pool);
		assert_int_equal(rc, leave < 7 && leave * 10 < TEXT_BYTES ? -ENOBUFS : 0);
		assert_true(foil_chain_is_empty(&ref));
		t_assert_chain(&c, text, TEXT_BYTES);
	}
	foil_chain_clear(&c);
	t_worker_free(w);
	(void)state;
}

static void test_chain_copy_out_every_range(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_chain c = {0};
	char out[sizeof(text)];

	t_chain(w, &c, text, TEXT_BYTES, 7);
	for (uint32_t from = 0; from <= TEXT_BYTES; from++) {
		for (uint32_t n = 0; n <= TEXT_BYTES - from; n++) {
			memset(out, '!', sizeof(out));
			foil_chain_copy_out(&c, from, out, n);
			assert_memory_equal(out, text + from, n);
			assert_int_equal(out[n], '!');
		}
	}
	foil_chain_clear(&c);
	t_worker_free(w);
	(void)state;
}

static void test_chain_takes_a_packet_and_drops_its_empty_segments(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_chain c = {0};
	struct rte_mbuf *m = t_mbuf(w, "one", 3);

	m->next = t_mbuf(w, "", 0);
	m->next->next = t_mbuf(w, "two", 3);
	m->nb_segs = 3;
	foil_chain_append_mbuf(&c, m);
	t_assert_chain(&c, "onetwo", 6);
	foil_chain_append_mbuf(&c, t_mbuf(w, "", 0));
	t_assert_chain(&c, "onetwo", 6);
	foil_chain_append_mbuf(&c, NULL);
	foil_chain_clear(&c);
	foil_chain_clear(&c);
	t_worker_free(w);
	(void)state;
}

static void test_chain_move_joins_and_empties(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct foil_chain a = {0}, b = {0}, none = {0};

	foil_chain_move(&a, &none);
	assert_true(foil_chain_is_empty(&a));
	t_chain(w, &b, "bb", 2, 1);
	foil_chain_move(&a, &b);
	assert_true(foil_chain_is_empty(&b));
	t_chain(w, &b, "cc", 2, 1);
	foil_chain_move(&a, &b);
	t_assert_chain(&a, "bbcc", 4);
	foil_chain_clear(&a);
	t_worker_free(w);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain_append_fills_tail_room_then_fresh_mbufs),
		cmocka_unit_test(test_chain_append_leaves_shared_segments_alone),
		cmocka_unit_test(test_chain_append_without_mbufs_changes_nothing),
		cmocka_unit_test(test_chain_split_at_every_byte_of_every_segmentation),
		cmocka_unit_test(test_chain_split_of_a_split_of_a_reference),
		cmocka_unit_test(test_chain_split_without_indirects_changes_neither_chain),
		cmocka_unit_test(test_chain_consume_every_length),
		cmocka_unit_test(test_chain_share_every_range_and_outlive),
		cmocka_unit_test(test_chain_share_failing_at_each_reference_leaves_nothing),
		cmocka_unit_test(test_chain_copy_out_every_range),
		cmocka_unit_test(test_chain_takes_a_packet_and_drops_its_empty_segments),
		cmocka_unit_test(test_chain_move_joins_and_empties),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
