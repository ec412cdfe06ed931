/* dataplane/mesh/regex.c and retry_on.c: what configuration text becomes once. */
#include <errno.h>

#include "tests/unit/support.h"

#include "dataplane/core/error.h"
#include "dataplane/mesh/config.h"

static void test_retry_words_are_those_of_envoy(void **state)
{
	static const struct {
		const char *word;
		uint32_t bit;
	} words[] = {
		{"5xx", MESH_RETRY_5XX}, {"gateway-error", MESH_RETRY_GATEWAY_ERROR}, {"reset", MESH_RETRY_RESET},
		{"connect-failure", MESH_RETRY_CONNECT_FAILURE},
		{"refused-stream", MESH_RETRY_REFUSED_STREAM}, {"retriable-4xx", MESH_RETRY_RETRIABLE_4XX},
		{"retriable-status-codes", MESH_RETRY_RETRIABLE_STATUS_CODES}, {"reset-before-request", MESH_RETRY_RESET_BEFORE_REQUEST},
		{"envoy-ratelimited", MESH_RETRY_ENVOY_RATELIMITED}, {"retriable-headers", MESH_RETRY_RETRIABLE_HEADERS}, {"cancelled", MESH_RETRY_CANCELLED},
		{"deadline-exceeded", MESH_RETRY_DEADLINE_EXCEEDED}, {"internal", MESH_RETRY_INTERNAL}, {"resource-exhausted", MESH_RETRY_RESOURCE_EXHAUSTED},
		{"unavailable", MESH_RETRY_UNAVAILABLE}, {"http3-post-connect-failure", MESH_RETRY_HTTP3_POST_CONNECT_FAILURE},
	};
	uint32_t all = 0, bit = 0;

	for (size_t i = 0; i < FOIL_COUNT_OF(words); i++) {
		assert_true(mesh_retry_on_parse(foil_slice_str(words[i].word), &bit));
		assert_int_equal(bit, words[i].bit);
		all |= bit;
	}
	assert_int_equal(all, 0xffff);
	(void)state;
}

static void test_retry_words_that_are_none_leave_the_bit(void **state)
{
	static const char *const bad[] = {"", "5XX", "5xx ", "503", "resets", "rese", "gateway_error"};
	uint32_t bit = 7;

	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++)
		assert_false(mesh_retry_on_parse(foil_slice_str(bad[i]), &bit));
	assert_int_equal(bit, 7);
	(void)state;
}

static void test_pattern_is_compiled_for_each_worker(void **state)
{
	struct mesh_res res = {0};
	const struct mesh_regex *re = NULL;

	assert_int_equal(mesh_regex_compile(&res, FOIL_SLICE("a+"), false, 3, &re, NULL), 0);
	assert_int_equal(re->n_workers, 3);
	for (uint16_t i = 0; i < 3; i++) {
		assert_true(foil_regex_full_match(re->by_worker[i], FOIL_SLICE("aa")));
		assert_ptr_not_equal(re->by_worker[i], re->by_worker[(i + 1) % 3]);
	}
	mesh_regexes_free(&res);
	assert_null(res.regexes);
	foil_blob_free(&res.blob);
	(void)state;
}

static void test_pattern_twice_in_a_resource_is_one_program(void **state)
{
	struct mesh_res res = {0};
	const struct mesh_regex *one, *same, *folded, *empty;

	assert_int_equal(mesh_regex_compile(&res, FOIL_SLICE("a+"), false, 1, &one, NULL), 0);
	assert_int_equal(mesh_regex_compile(&res, FOIL_SLICE("a+"), false, 1, &same, NULL), 0);
	assert_int_equal(mesh_regex_compile(&res, FOIL_SLICE("a+"), true, 1, &folded, NULL), 0);
	assert_int_equal(mesh_regex_compile(&res, (struct foil_slice){NULL, 0}, false, 1, &empty, NULL), 0);
	assert_ptr_equal(one, same);
	assert_ptr_not_equal(one, folded);
	assert_true(foil_regex_full_match(folded->by_worker[0], FOIL_SLICE("A")));
	assert_true(foil_regex_full_match(empty->by_worker[0], FOIL_SLICE("")));
	mesh_regexes_free(&res);
	foil_blob_free(&res.blob);
	(void)state;
}

static void test_pattern_that_is_none_or_beyond_the_budget_is_refused(void **state)
{
	struct mesh_res res = {0}, tight = {.blob.max_bytes = 16};
	const struct mesh_regex *re = NULL;
	struct foil_error err = {0};

	assert_int_equal(mesh_regex_compile(&res, FOIL_SLICE("a("), false, 2, &re, &err), -EINVAL);
	assert_non_null(strstr(err.text, "'a('"));
	assert_int_equal(mesh_regex_compile(&tight, FOIL_SLICE("a"), false, 2, &re, &err), -ENOMEM);
	assert_null(re);
	assert_null(res.regexes);
	mesh_regexes_free(&res);
	foil_blob_free(&res.blob);
	foil_blob_free(&tight.blob);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_retry_words_are_those_of_envoy),
		cmocka_unit_test(test_retry_words_that_are_none_leave_the_bit),
		cmocka_unit_test(test_pattern_is_compiled_for_each_worker),
		cmocka_unit_test(test_pattern_twice_in_a_resource_is_one_program),
		cmocka_unit_test(test_pattern_that_is_none_or_beyond_the_budget_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
