/* dataplane/core/cursor.h and the slices of base.h. */
#include "tests/unit/support.h"

#include "dataplane/core/cursor.h"

static void test_cursor_reads_big_endian_fields(void **state)
{
	const uint8_t bytes[] = {0x01, 0x02, 0x03, 0xff, 0xfe, 0xfd, 0x80, 0x00, 0x00, 0x01, 'a', 'b'};
	struct foil_cur c = cur_of(bytes, sizeof(bytes));

	assert_int_equal(cur_u8(&c), 0x01);
	assert_int_equal(cur_be16(&c), 0x0203);
	assert_int_equal(cur_be24(&c), 0xfffefd);
	assert_int_equal(cur_be32(&c), 0x80000001);
	assert_true(foil_slice_eq(cur_slice(&c, 2), FOIL_SLICE("ab")));
	assert_false(c.short_read);
	assert_int_equal(cur_left(&c), 0);
	(void)state;
}

static void test_cursor_failure_is_sticky_at_every_cut(void **state)
{
	const uint8_t bytes[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

	for (size_t n = 0; n < sizeof(bytes); n++) {
		struct foil_cur c = cur_of(bytes, n);
		(void)cur_u8(&c);
		(void)cur_be16(&c);
		(void)cur_be24(&c);
		(void)cur_be32(&c);
		assert_true(c.short_read);
		assert_int_equal(cur_u8(&c), 0);
		assert_int_equal(cur_be32(&c), 0);
		assert_null(cur_slice(&c, 1).data);
		assert_false(cur_skip(&c, 1));
		assert_ptr_equal(c.at, c.end);
	}
	(void)state;
}

static void test_cursor_huge_lengths_are_short_reads_not_overflows(void **state)
{
	const uint8_t bytes[4] = {0};
	struct foil_cur c = cur_of(bytes, sizeof(bytes));

	assert_null(cur_bytes(&c, SIZE_MAX));
	assert_true(c.short_read);
	c = cur_of(bytes, sizeof(bytes));
	assert_true(cur_skip(&c, 4));
	assert_true(cur_skip(&c, 0));
	assert_false(c.short_read);
	c = cur_of(NULL, 0);
	assert_true(cur_skip(&c, 0));
	assert_false(c.short_read);
	assert_int_equal(cur_u8(&c), 0);
	assert_true(c.short_read);
	(void)state;
}

static void test_slice_comparisons(void **state)
{
	struct foil_slice none = {NULL, 0};

	assert_true(foil_slice_eq(none, FOIL_SLICE("")));
	assert_true(foil_slice_eq_nocase(FOIL_SLICE("Content-Length"), FOIL_SLICE("cONTENT-lENGTH")));
	assert_false(foil_slice_eq_nocase(FOIL_SLICE("a["), FOIL_SLICE("A{"))); /* 0x20 apart, but not letters */
	assert_false(foil_slice_eq_nocase(FOIL_SLICE("ab"), FOIL_SLICE("abc")));
	assert_true(foil_slice_has_prefix(FOIL_SLICE("/api/v1"), FOIL_SLICE("/api")));
	assert_true(foil_slice_has_prefix(none, none));
	assert_false(foil_slice_has_prefix(FOIL_SLICE("/a"), FOIL_SLICE("/api")));
	assert_true(foil_slice_has_suffix(FOIL_SLICE("a.example.com"), FOIL_SLICE(".example.com")));
	assert_false(foil_slice_has_suffix(FOIL_SLICE("com"), FOIL_SLICE("example.com")));
	assert_int_equal(foil_slice_str(NULL).n_bytes, 0);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cursor_reads_big_endian_fields),
		cmocka_unit_test(test_cursor_failure_is_sticky_at_every_cut),
		cmocka_unit_test(test_cursor_huge_lengths_are_short_reads_not_overflows),
		cmocka_unit_test(test_slice_comparisons),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
