/* dataplane/core/regex.cc: RE2's dialect, full match, search from an offset, and refusals that are sentences. */
#include "tests/unit/support.h"

#include "dataplane/core/error.h"
#include "dataplane/core/regex.h"

static struct foil_regex *compile(const char *pattern, bool ignore_case)
{
	struct foil_error err = {0};
	struct foil_regex *re = foil_regex_new(foil_slice_str(pattern), ignore_case, &err);

	if (!re)
		fail_msg("%s", err.text);
	return re;
}

static bool matches(const char *pattern, bool ignore_case, const char *text)
{
	struct foil_regex *re = compile(pattern, ignore_case);
	bool is = foil_regex_full_match(re, foil_slice_str(text));

	foil_regex_free(re);
	return is;
}

static void test_regex_matches_the_whole_text(void **state)
{
	assert_true(matches("/rx/[0-9]+", false, "/rx/12"));
	assert_false(matches("/rx/[0-9]+", false, "/rx/12/"));
	assert_false(matches("/rx/[0-9]+", false, "x/rx/12"));
	assert_true(matches("a|ab", false, "ab"));
	(void)state;
}

static void test_regex_folds_case_when_asked(void **state)
{
	assert_false(matches("abc", false, "ABC"));
	assert_true(matches("abc", true, "aBC"));
	assert_true(matches("(?i)abc", false, "ABC"));
	(void)state;
}

static void test_regex_empty_pattern_matches_only_the_empty_text(void **state)
{
	struct foil_regex *re = foil_regex_new((struct foil_slice){NULL, 0}, false, NULL);

	assert_non_null(re);
	assert_true(foil_regex_full_match(re, (struct foil_slice){NULL, 0}));
	assert_true(foil_regex_full_match(re, FOIL_SLICE("")));
	assert_false(foil_regex_full_match(re, FOIL_SLICE("a")));
	foil_regex_free(re);
	(void)state;
}

static void test_regex_takes_a_nul_and_high_bytes_in_text_and_pattern(void **state)
{
	struct foil_regex *re = foil_regex_new(FOIL_SLICE("a\0b"), false, NULL);

	assert_non_null(re);
	assert_true(foil_regex_full_match(re, FOIL_SLICE("a\0b")));
	assert_false(foil_regex_full_match(re, FOIL_SLICE("a")));
	foil_regex_free(re);
	assert_false(matches(".*", false, "\xff\xfe")); /* UTF-8 as Envoy: a byte that is no character matches nothing */
	assert_true(matches(".", false, "\xc3\xa9"));
	(void)state;
}

static void test_regex_refuses_what_re2_does_not_take_with_a_sentence(void **state)
{
	static const char *const bad[] = {"(", "[", "a**", "(?=x)", "\\1", "*", "x{2000}", "(?P<n>", "\xff"};

	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		struct foil_error err = {0};
		assert_null(foil_regex_new(foil_slice_str(bad[i]), false, &err));
		assert_true(strlen(err.text) > 10);
		assert_null(foil_regex_new(foil_slice_str(bad[i]), false, NULL));
	}
	(void)state;
}

static void test_regex_refuses_a_program_beyond_the_memory_bound(void **state)
{
	struct foil_error err = {0};

	assert_null(foil_regex_new(FOIL_SLICE("((((x{100}){10}){10}){10}){10}"), false, &err));
	assert_null(foil_regex_new(FOIL_SLICE("[\\pL\\pN]{1,900}[\\pL\\pN]{1,900}"), false, &err));
	assert_non_null(strstr(err.text, "too large"));
	(void)state;
}

static void test_regex_search_reports_groups_from_an_offset(void **state)
{
	struct foil_regex *re = compile("/(\\w+)(-x)?", false);
	struct foil_slice text = FOIL_SLICE("/a/bc"), g[FOIL_REGEX_GROUPS_MAX];

	assert_true(foil_regex_search(re, text, 0, g));
	assert_true(foil_slice_eq(g[0], FOIL_SLICE("/a")));
	assert_true(foil_slice_eq(g[1], FOIL_SLICE("a")));
	assert_null(g[2].data);
	assert_int_equal(g[9].n_bytes, 0);
	assert_true(foil_regex_search(re, text, 2, g));
	assert_ptr_equal(g[0].data, text.data + 2);
	assert_true(foil_slice_eq(g[1], FOIL_SLICE("bc")));
	assert_false(foil_regex_search(re, text, 3, g));
	assert_false(foil_regex_search(re, text, 5, g));
	assert_false(foil_regex_search(re, text, 6, g));
	foil_regex_free(re);
	(void)state;
}

static void test_regex_search_at_the_end_finds_an_empty_match(void **state)
{
	struct foil_regex *re = compile("x*", false);
	struct foil_slice g[FOIL_REGEX_GROUPS_MAX], text = FOIL_SLICE("ab");

	assert_true(foil_regex_search(re, text, 2, g));
	assert_ptr_equal(g[0].data, text.data + 2);
	assert_int_equal(g[0].n_bytes, 0);
	foil_regex_free(re);
	(void)state;
}

static void test_regex_hands_out_at_most_nine_groups(void **state)
{
	struct foil_regex *re = compile("(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)", false);
	struct foil_slice g[FOIL_REGEX_GROUPS_MAX];

	assert_true(foil_regex_search(re, FOIL_SLICE("abcdefghijk"), 0, g));
	assert_true(foil_slice_eq(g[9], FOIL_SLICE("i")));
	foil_regex_free(re);
	(void)state;
}

/* (x+x+)+y on a row of x takes a backtracker exponential time; 60 KiB in linear time is a few milliseconds. */
static void test_regex_is_linear_on_a_text_that_ruins_backtracking(void **state)
{
	static char text[60 * 1024];
	struct foil_regex *re = compile("(x+x+)+y", false);

	memset(text, 'x', sizeof(text));
	assert_false(foil_regex_full_match(re, foil_slice_of(text, sizeof(text))));
	foil_regex_free(re);
	foil_regex_free(NULL);
	(void)state;
}

/* Each pattern and the texts that are told of it, joined by spaces; "" is nothing. */
static void test_regex_names_texts_that_a_match_cannot_do_without(void **state)
{
	static const struct {
		const char *pattern, *texts;
	} cases[] = {
		{"/service-7/[a-z]+", "/service-7/"}, {".*\\.example\\.com", ".example.com"}, {"/a/.*/long-part", "/long-part"}, {"/UPPER/.*", "/upper/"},
		{"/abc", "/abc"}, {"/ab", ""}, {".*", ""}, {"[a-z]+", ""}, {"/abcd|", ""}, {"/abcd|/e.*", ""},
		{"(?i)/abcd/", ""}, {"/k\\x{212a}elvin", ""}, {"/caf\u00e9/", ""}, {"\\pL+/abcd", ""}, {"(", ""}, {"/abc[a-z]/defg", "/defg"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct foil_regex_literal out[FOIL_REGEX_LITERALS_MAX];
		char said[1200] = "";
		uint32_t n = foil_regex_literals(foil_slice_str(cases[i].pattern), out);
		for (uint32_t k = 0; k < n; k++)
			snprintf(said + strlen(said), sizeof(said) - strlen(said), "%s%.*s", k ? " " : "", out[k].n_bytes, out[k].text);
		if (strcmp(said, cases[i].texts) != 0)
			fail_msg("%s: '%s', not '%s'", cases[i].pattern, said, cases[i].texts);
	}
	struct foil_regex_literal out[FOIL_REGEX_LITERALS_MAX];
	assert_int_equal(foil_regex_literals(FOIL_SLICE("/(?:one|two)/x"), out), 2); /* in no order that RE2 promises */
	assert_int_equal(out[0].n_bytes, 6);
	assert_memory_not_equal(out[0].text, out[1].text, 6);
	assert_int_equal(foil_regex_literals(FOIL_SLICE("/v\\d/defg"), out), 10);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_regex_matches_the_whole_text),
		cmocka_unit_test(test_regex_folds_case_when_asked),
		cmocka_unit_test(test_regex_empty_pattern_matches_only_the_empty_text),
		cmocka_unit_test(test_regex_takes_a_nul_and_high_bytes_in_text_and_pattern),
		cmocka_unit_test(test_regex_refuses_what_re2_does_not_take_with_a_sentence),
		cmocka_unit_test(test_regex_refuses_a_program_beyond_the_memory_bound),
		cmocka_unit_test(test_regex_search_reports_groups_from_an_offset),
		cmocka_unit_test(test_regex_search_at_the_end_finds_an_empty_match),
		cmocka_unit_test(test_regex_hands_out_at_most_nine_groups),
		cmocka_unit_test(test_regex_is_linear_on_a_text_that_ruins_backtracking),
		cmocka_unit_test(test_regex_names_texts_that_a_match_cannot_do_without),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
