/* dataplane/tcp/options.c. Encodings are those of RFC 9293 3.2, RFC 7323 2.2 and 3.2, RFC 2018 2 and 3. */
#include <stdlib.h>

#include "dataplane/tcp/options.h"
#include "tests/unit/support.h"

static bool parse(const void *data, uint32_t n_bytes, struct tcp_options *out)
{
	return tcp_options_parse(data, n_bytes, out);
}

static void test_options_of_a_linux_syn_are_read(void **state)
{
	static const uint8_t syn[] = {2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7};
	struct tcp_options o;

	assert_true(parse(syn, sizeof(syn), &o));
	assert_true(o.has_mss && o.mss_bytes == 1460 && o.sack_permitted && o.has_ts && o.ts_val == 9 && o.has_wscale && o.wscale == 7);
}

static void test_a_syn_is_written_as_linux_writes_it(void **state)
{
	static const uint8_t want[] = {2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7};
	struct tcp_options o = {.has_mss = true, .mss_bytes = 1460, .sack_permitted = true, .has_ts = true, .ts_val = 9, .has_wscale = true, .wscale = 7};
	uint8_t out[40];

	assert_int_equal(tcp_options_bytes(&o), sizeof(want));
	assert_int_equal(tcp_options_emit(&o, out), sizeof(want));
	assert_memory_equal(out, want, sizeof(want));
}

static void test_an_unknown_option_is_skipped_by_its_length(void **state)
{
	static const uint8_t data[] = {254, 6, 1, 2, 3, 4, 2, 4, 2, 0};
	struct tcp_options o;

	assert_true(parse(data, sizeof(data), &o));
	assert_true(o.has_mss && o.mss_bytes == 512);
}

static void test_lengths_0_1_and_beyond_the_end_are_malformed(void **state)
{
	static const uint8_t zero[] = {254, 0, 1, 1}, one[] = {254, 1, 1, 1}, beyond[] = {254, 5, 1, 1}, big[] = {254, 255, 1, 1}, cut[] = {1, 1, 1, 8};
	struct tcp_options o;

	assert_false(parse(zero, 4, &o));
	assert_false(parse(one, 4, &o));
	assert_false(parse(beyond, 4, &o));
	assert_false(parse(big, 4, &o));
	assert_false(parse(cut, 4, &o));
}

static void test_a_known_option_of_wrong_length_is_malformed(void **state)
{
	static const uint8_t mss[] = {2, 3, 0, 1}, wscale[] = {3, 4, 7, 1}, ts[] = {8, 4, 0, 0}, sack[] = {5, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	struct tcp_options o;

	assert_false(parse(mss, 4, &o));
	assert_false(parse(wscale, 4, &o));
	assert_false(parse(ts, 4, &o));
	assert_false(parse(sack, 12, &o));
}

static void test_nothing_behind_the_end_of_the_list_is_read(void **state)
{
	static const uint8_t data[] = {0, 2, 0, 0};
	struct tcp_options o;

	assert_true(parse(data, 4, &o));
	assert_false(o.has_mss);
}

static void test_a_window_scale_above_14_counts_as_14(void **state)
{
	static const uint8_t data[] = {1, 3, 3, 200};
	struct tcp_options o;

	assert_true(parse(data, 4, &o));
	assert_int_equal(o.wscale, 14); /* RFC 7323 2.3 */
}

static void test_every_cut_of_a_full_header_is_read_without_harm(void **state)
{
	struct tcp_options o = {.has_ts = true, .ts_val = 1, .ts_ecr = 2, .n_sack = 3, .sack = {{1, 2}, {3, 4}, {5, 6}}}, back;
	uint8_t out[40];
	uint32_t n = tcp_options_emit(&o, out);

	for (uint32_t cut = 0; cut <= n; cut++) {
		uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees a byte too many */
		memcpy(exact, out, cut);
		(void)parse(exact, cut, &back);
		free(exact);
	}
	assert_true(parse(out, n, &back));
	assert_int_equal(back.n_sack, 3);
	assert_int_equal(back.sack[2].end, 6);
}

static void test_four_sack_blocks_fit_only_without_timestamps(void **state)
{
	struct tcp_options o = {.n_sack = 4, .sack = {{1, 2}, {3, 4}, {5, 6}, {7, 8}}}, back;
	uint8_t out[40];

	assert_int_equal(tcp_options_emit(&o, out), 36);
	o.has_ts = true;
	uint32_t n = tcp_options_emit(&o, out);
	assert_int_equal(n, 40);
	assert_true(parse(out, n, &back));
	assert_int_equal(back.n_sack, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_of_a_linux_syn_are_read),
		cmocka_unit_test(test_a_syn_is_written_as_linux_writes_it),
		cmocka_unit_test(test_an_unknown_option_is_skipped_by_its_length),
		cmocka_unit_test(test_lengths_0_1_and_beyond_the_end_are_malformed),
		cmocka_unit_test(test_a_known_option_of_wrong_length_is_malformed),
		cmocka_unit_test(test_nothing_behind_the_end_of_the_list_is_read),
		cmocka_unit_test(test_a_window_scale_above_14_counts_as_14),
		cmocka_unit_test(test_every_cut_of_a_full_header_is_read_without_harm),
		cmocka_unit_test(test_four_sack_blocks_fit_only_without_timestamps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
