/* dataplane/mesh/rewrite.c: the rewrites of the judge's redirect-rewrite recording, features.md VS-25..VS-27, RE2's GlobalReplace. */
#include "tests/unit/mesh/routes.h"

#define TEXT(s) {s, sizeof(s) - 1}

static void check(struct foil_worker *w, const struct mesh_route *route, const char *path, const char *expected)
{
	struct foil_arena a = {0};
	struct foil_slice out;

	assert_int_equal(mesh_route_rewrite(w, &a, route, foil_slice_str(path), &out), 0);
	if (!foil_slice_eq(out, foil_slice_str(expected)))
		fail_msg("%s: %.*s, not %s", path, (int)out.n_bytes, out.data, expected);
	foil_arena_reset(w, &a);
}

static void test_rewrite_as_envoy_was_recorded(void **state)
{
	struct mesh_routes r = {0};
	const struct mesh_route prefix = {.match = {.path = TEXT("/rw/")}, .route = {.has_prefix_rewrite = true, .prefix_rewrite = TEXT("/")}};
	const struct mesh_route rw2 = {.match = {.path = TEXT("/rw2")}, .route = {.has_prefix_rewrite = true, .prefix_rewrite = TEXT("/z")}};
	const struct mesh_route exact = {.match = {.path_kind = MESH_PATH_EXACT, .path = TEXT("/rwexact")}, .route = {.has_prefix_rewrite = true,
		.prefix_rewrite = TEXT("/e")}};
	const struct mesh_route regex = {.match = {.path_kind = MESH_PATH_REGEX, .path_regex = t_regex(&r, "/rwr[0-9]")},
					 .route = {.has_prefix_rewrite = true, .prefix_rewrite = TEXT("/whole")}};
	struct foil_worker *w = t_worker(0);

	check(w, &prefix, "/rw/a?b", "/a?b");
	check(w, &rw2, "/rw2/a", "/z/a");
	check(w, &exact, "/rwexact?x", "/e?x");
	check(w, &regex, "/rwr7?x=1", "/whole?x=1");
	t_routes_free(&r);
	t_worker_free(w);
	(void)state;
}

static void test_rewrite_of_a_prefix_is_raw(void **state)
{
	const struct mesh_route foo = {.match = {.path = TEXT("/foo")}, .route = {.has_prefix_rewrite = true, .prefix_rewrite = TEXT("/bar")}};
	const struct mesh_route root = {.match = {.path = TEXT("/foo")}, .route = {.has_prefix_rewrite = true, .prefix_rewrite = TEXT("/")}};
	const struct mesh_route nothing = {.match = {.path = TEXT("/foo")}, .route = {.has_prefix_rewrite = true}};
	const struct mesh_route segment = {.match = {.path_kind = MESH_PATH_SEGMENT_PREFIX, .path = TEXT("/foo")}, .route = {.has_prefix_rewrite = true,
		.prefix_rewrite = TEXT("/b")}};
	struct foil_worker *w = t_worker(0);

	check(w, &foo, "/foo/x", "/bar/x");
	check(w, &foo, "/foobar?foo=/foo", "/barbar?foo=/foo");
	check(w, &foo, "/foo", "/bar");
	check(w, &root, "/foo/x", "//x");
	check(w, &segment, "/foo/x?", "/b/x?");
	check(w, &segment, "/foo", "/b");
	check(w, &nothing, "/foo", "/"); /* a path is never empty */
	check(w, &nothing, "/foo?q", "/?q");
	check(w, &nothing, "/foo/x", "/x");
	t_worker_free(w);
	(void)state;
}

static void test_rewrite_none_is_the_path_itself(void **state)
{
	const struct mesh_route none = {.match = {.path = TEXT("/")}};
	struct foil_worker *w = t_worker(0);
	struct foil_arena a = {0};
	struct foil_slice path = FOIL_SLICE("/a?b"), out;

	assert_int_equal(mesh_route_rewrite(w, &a, &none, path, &out), 0);
	assert_ptr_equal(out.data, path.data);
	t_worker_free(w);
	(void)state;
}

/* Expectations from the comment of RE2::GlobalReplace and re2_test.cc's table. */
static void test_rewrite_by_regex_replaces_every_match(void **state)
{
	static const struct {
		const char *pattern, *substitution, *path, *out;
	} cases[] = {
		{"^/rwrx/(.*)/(.*)$", "/\\2/\\1", "/rwrx/a/b?c=/rwrx/a/b", "/b/a?c=/rwrx/a/b"},
		{"^/rwrx/(.*)/(.*)$", "/\\2/\\1", "/rwrx/a?/b", "/rwrx/a?/b"},
		{"/", "//", "/a/b", "//a//b"}, {"b", "bb", "/ababab", "/abbabbabb"}, {"b+", "bb", "/bbbbbb", "/bb"}, {"b*", "x", "/aa", "/x/xaxax"},
		{"b*", "x", "/bb", "/x/x"}, {"x", "\\0\\0", "/xyx", "/xxyxx"}, {"(a)|(b)", "<\\1\\2>", "/ab", "/<a><b>"}, {"a", "\\\\", "/a", "/\\"},
		{"a", "\\", "/a", "/\\"}, {"a", "\\9", "/a", "/"}, {"/v1/(.*)", "/v2/\\1", "/v1/v1/x", "/v2/v1/x"}, {"$", "/end", "/a?q", "/a/end?q"},
		{"a", "", "/aaa?a", "/?a"},
		{"^/a", "", "/a?q=1", "/a?q=1"}, {"^/a", "", "/a", "/a"}, {"^/a", "", "/ab", "/b"}, {"^/(.*)$", "\\1", "/http://other/", "/http://other/"},
	};
	struct foil_worker *w = t_worker(0);

	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct mesh_routes r = {0};
		const struct mesh_route route = {.route = {.regex_rewrite = t_regex(&r, cases[i].pattern),
			.regex_substitution = foil_slice_str(cases[i].substitution),
							   .has_prefix_rewrite = true, .prefix_rewrite = TEXT("/loses")}};
		check(w, &route, cases[i].path, cases[i].out);
		t_routes_free(&r);
	}
	t_worker_free(w);
	(void)state;
}

static void test_rewrite_without_memory_says_so(void **state)
{
	struct mesh_routes r = {0};
	static char long_path[50000], long_text[64];
	const struct mesh_route prefix = {.match = {.path = TEXT("/a")}, .route = {.has_prefix_rewrite = true, .prefix_rewrite = TEXT("/b")}};
	struct foil_worker *w = t_worker(0);
	struct foil_arena a = {0};
	struct foil_slice out;

	memset(long_path, 'a', sizeof(long_path));
	memset(long_text, 'b', sizeof(long_text));
	const struct mesh_route grows = {.route = {.regex_rewrite = t_regex(&r, "a"), .regex_substitution = foil_slice_of(long_text, sizeof(long_text))}};
	assert_int_equal(mesh_route_rewrite(w, &a, &grows, foil_slice_of(long_path, sizeof(long_path)), &out), -ENOBUFS);
	t_pool_drain(w->chunk_pool, 0);
	assert_int_equal(mesh_route_rewrite(w, &a, &prefix, FOIL_SLICE("/a"), &out), -ENOBUFS);
	assert_int_equal(mesh_route_rewrite(w, &a, &grows, FOIL_SLICE("/a"), &out), -ENOBUFS);
	t_pool_refill(w->chunk_pool);
	t_routes_free(&r);
	t_worker_free(w);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewrite_as_envoy_was_recorded),
		cmocka_unit_test(test_rewrite_of_a_prefix_is_raw),
		cmocka_unit_test(test_rewrite_none_is_the_path_itself),
		cmocka_unit_test(test_rewrite_by_regex_replaces_every_match),
		cmocka_unit_test(test_rewrite_without_memory_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
