/* dataplane/mesh/path.c against the paths that a real Envoy normalised (judge recordings paths*.yaml), and googleurl's rules beyond them. */
#include "tests/unit/support.h"

#include "dataplane/mesh/path.h"

struct path_case {
	const char *in, *out; /* out NULL: refused */
};

static void check(enum mesh_path_normalization mode, const struct path_case *cases, size_t n)
{
	struct foil_worker *w = t_worker(0);

	for (size_t i = 0; i < n; i++) {
		struct foil_arena a = {0};
		struct http_head head = {.path = foil_slice_str(cases[i].in)};
		enum mesh_path_result r = mesh_path_normalize(w, &a, mode, &head);

		if (!cases[i].out) {
			if (r != MESH_PATH_REFUSED)
				fail_msg("%s: not refused", cases[i].in);
		} else if (r != MESH_PATH_OK || !foil_slice_eq(head.path, foil_slice_str(cases[i].out))) {
			fail_msg("%s: %d %.*s, not %s", cases[i].in, (int)r, (int)head.path.n_bytes, head.path.data, cases[i].out);
		} else { /* what is normal stays as it is */
			assert_int_equal(mesh_path_normalize(w, &a, mode, &head), MESH_PATH_OK);
			assert_true(foil_slice_eq(head.path, foil_slice_str(cases[i].out)));
		}
		foil_arena_reset(w, &a);
	}
	t_worker_free(w);
}
#define CHECK(mode, cases) check(mode, cases, FOIL_COUNT_OF(cases))

static void test_path_base_is_what_envoy_did(void **state)
{
	static const struct path_case recorded[] = {
		{"//a", "//a"}, {"/a//b", "/a//b"}, {"/a/../b", "/b"}, {"/a/./b", "/a/b"}, {"/../a", "/a"}, {"/a/%2e%2e/b", "/b"}, {"/a/%2E/b", "/a/b"},
		{"/a%2Fb", "/a%2Fb"}, {"/a%2fb", "/a%2fb"}, {"/a%5Cb", "/a%5Cb"}, {"/a\\b", "/a/b"}, {"/a/..%2fb", "/a/..%2fb"}, {"/%41", "/A"},
		{"/%7e", "/~"}, {"/a%00b", NULL}, {"/a%zz", "/a%zz"}, {"/a%", "/a%"}, {"/a?b=/../c", "/a?b=/../c"}, {"/a#frag", "/a"},
		{"/a?x#y", "/a?x"}, {"/a;b/../c", "/c"}, {"/a/..", "/"}, {"/..", "/"}, {"/.", "/"},
	};

	CHECK(MESH_PATHNORM_BASE, recorded);
	(void)state;
}

static void test_path_base_follows_googleurl_beyond_the_recordings(void **state)
{
	static const struct path_case cases[] = {
		{"/", "/"}, {"/a/b/../../..", "/"}, {"/a/.../b", "/a/.../b"}, {"/.a/..b/c.", "/.a/..b/c."}, {"/a/.%2e/b", "/b"}, {"/a/%2E./", "/"},
		{"/a\\..\\b", "/b"}, {"\\a", "/a"}, {"/%2d%5f%30%5A%7A", "/-_0Zz"}, {"/%20%25%3a%ff", "/%20%25%3a%ff"}, {"/a|b^c`{}", "/a%7Cb%5Ec%60%7B%7D"},
		{"/\"<>", "/%22%3C%3E"}, {"/a//../b", "/a/b"}, {"/%", "/%"}, {"/%4", "/%4"}, {"/a:b@c$&'()*+,;=[]!", "/a:b@c$&'()*+,;=[]!"},
		{"/a%2", "/a%2"}, {"/a.b/c..d", "/a.b/c..d"}, {"/..?..", "/?.."}, {"/a/.?%41", "/a/?%41"},
	};

	CHECK(MESH_PATHNORM_BASE, cases);
	(void)state;
}

/* "%%32e" decodes to "%2e", which the next one to decode would take for a dot: the lone percent is encoded instead (googleurl). */
static void test_path_base_lets_no_escape_arise_from_decoding(void **state)
{
	static const struct path_case cases[] = {
		{"/%%32e", "/%252e"}, {"/%2%65", "/%252e"}, {"/%%32%65", "/%252e"}, {"/%%30%30", "/%2500"}, {"/%%34z", "/%4z"}, {"/%%%34%31", "/%%2541"},
		{"/%/%34%31", "/%/41"}, {"/%/../%34", "/4"}, {"/%252e", "/%252e"},
	};

	CHECK(MESH_PATHNORM_BASE, cases);
	(void)state;
}

static void test_path_none_only_cuts_the_fragment(void **state)
{
	static const struct path_case recorded[] = {
		{"//a", "//a"}, {"/a/../b", "/a/../b"}, {"/a%2Fb", "/a%2Fb"}, {"/a\\b", "/a\\b"}, {"/%41", "/%41"}, {"/a/%2e%2e/b", "/a/%2e%2e/b"},
		{"/a?b=//c", "/a?b=//c"}, {"/a%00", "/a%00"}, {"/a#b", "/a"}, {"/a?b#c?d", "/a?b"}, {"#", "/"},
	};

	CHECK(MESH_PATHNORM_NONE, recorded);
	(void)state;
}

static void test_path_merge_slashes_merges_after_base(void **state)
{
	static const struct path_case cases[] = {
		{"//a", "/a"}, {"/a//b", "/a/b"}, {"/a///b//", "/a/b/"}, {"/a/..//b", "/b"}, {"/a%2Fb", "/a%2Fb"}, {"/a\\\\b", "/a/b"}, {"/a?b=//c",
		"/a?b=//c"},
		{"//", "//"}, {"////", "//"}, {"/", "/"}, {"//..", "/"}, {"/a%2f%2fb", "/a%2f%2fb"}, {"//a%00", NULL},
	};

	CHECK(MESH_PATHNORM_MERGE_SLASHES, cases);
	(void)state;
}

static void test_path_decode_and_merge_slashes_is_what_envoy_did(void **state)
{
	static const struct path_case recorded[] = {
		{"//a", "/a"}, {"/a//b", "/a/b"}, {"/a/../b", "/b"}, {"/a%2Fb", "/a/b"}, {"/a%2fb", "/a/b"}, {"/a%5Cb", "/a/b"}, {"/a\\b", "/a/b"},
		{"/a/..%2fb", "/b"}, {"/a%2F%2Fb", "/a/b"}, {"/a?b=//c", "/a?b=//c"}, {"/%41", "/A"}, {"/a/%2e%2e/b", "/b"}, {"/a?b=%2f", "/a?b=%2f"},
		{"/a%252fb", "/a%252fb"}, {"/a%2f?x=%2f#%2f", "/a/?x=%2f"}, {"/a%2f%00", NULL}, {"/%2%66", "/%252f"}, {"/%5%63", "/%255c"},
	};

	CHECK(MESH_PATHNORM_DECODE_AND_MERGE_SLASHES, recorded);
	(void)state;
}

/* Recorded with connectionSettings: tests/recorded/edge.yaml and connection-settings-*.yaml. */
static void test_path_rules_of_slashes_are_what_envoy_did(void **state)
{
	static const struct path_case unescaped[] = {
		{"//a", "//a"}, {"/a//b?x=//", "/a//b?x=//"}, {"/a%2Fb", "/a/b"}, {"/a%5Cb", "/a/b"}, {"/a%5c%2fb/../c", "/a//c"}, {"/a/..%2fb", "/b"},
		{"/a%2F%2Fb", "/a//b"}, {"/%41%2fb", "/A/b"}, {"/a%2f%00", NULL}, {"/a%2f#x%2f", "/a/"},
	};
	static const struct path_case refused[] = {
		{"//a", "//a"}, {"/a%2Fb", NULL}, {"/a%2fb?q=%2f", NULL}, {"/a%5Cb", NULL}, {"/a\\b", "/a/b"}, {"/a%252fb", "/a%252fb"},
		{"/a?b=%2f", "/a?b=%2f"},
	};
	static const struct path_case bare[] = {{"//a", "/a"}, {"/a\\b", "/a\\b"}, {"/a/./b", "/a/./b"}, {"/a%2F%2Fb", "/a/b"}, {"/%41%2fb", "/%41/b"},
						{"/a%2f%00", "/a/%00"}};

	CHECK(MESH_PATHNORM_DECODE_SLASHES, unescaped);
	CHECK(MESH_PATHNORM_REFUSE_SLASHES, refused);
	CHECK(MESH_PATHNORM_NONE | MESH_PATHNORM_DECODE_AND_MERGE_SLASHES, bare);
	(void)state;
}

static void test_path_with_escaped_slashes_is_told_where_to_go(void **state)
{
	static const struct path_case told[] = {{"/a%2Fb", "/a/b"}, {"/a%2fb?q=%2f", "/a/b?q=%2f"}, {"/a%5c%2fb/../c", "/a/c"}, {"/a/..%2fb", "/b"}};
	struct foil_worker *w = t_worker(0);
	enum mesh_path_normalization mode = (enum mesh_path_normalization)(MESH_PATHNORM_DECODE_AND_MERGE_SLASHES | MESH_PATHNORM_REDIRECT_SLASHES);
	struct foil_arena a = {0};

	for (unsigned int i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		struct http_head head = {.path = foil_slice_str(told[i].in)};
		assert_int_equal(mesh_path_normalize(w, &a, mode, &head), MESH_PATH_REDIRECT);
		assert_true(foil_slice_eq(head.path, foil_slice_str(told[i].out)));
		assert_int_equal(mesh_path_normalize(w, &a, mode, &head), MESH_PATH_OK);
	}
	struct http_head plain = {.path = FOIL_SLICE("//a")}, bad = {.path = FOIL_SLICE("/a%2f%00?x")};
	assert_int_equal(mesh_path_normalize(w, &a, mode, &plain), MESH_PATH_OK);
	assert_true(foil_slice_eq(plain.path, foil_slice_str("/a")));
	assert_int_equal(mesh_path_normalize(w, &a, mode, &bad), MESH_PATH_REFUSED);
	assert_true(foil_slice_eq(bad.path, foil_slice_str("/a/%00?x"))); /* for the log */
	foil_arena_reset(w, &a);
	t_worker_free(w);
	(void)state;
}

static void test_path_leaves_what_is_no_path(void **state)
{
	static const struct path_case cases[] = {{"*", "*"}, {"example.com:443", "example.com:443"}, {"", "/"}};

	CHECK(MESH_PATHNORM_BASE, cases);
	CHECK(MESH_PATHNORM_DECODE_AND_MERGE_SLASHES, cases);
	(void)state;
}

static void test_path_that_is_normal_costs_no_memory(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct foil_arena a = {0};
	struct http_head head = {.path = FOIL_SLICE("/api/v1.0/items/..x?q=/../%41")};
	const char *before = head.path.data;

	assert_int_equal(mesh_path_normalize(w, &a, MESH_PATHNORM_BASE, &head), MESH_PATH_OK);
	head.path = FOIL_SLICE("/api/v1.0/items");
	before = head.path.data;
	assert_int_equal(mesh_path_normalize(w, &a, MESH_PATHNORM_DECODE_AND_MERGE_SLASHES, &head), MESH_PATH_OK);
	assert_ptr_equal(head.path.data, before);
	foil_arena_reset(w, &a);
	t_worker_free(w);
	(void)state;
}

static void test_path_without_memory_says_so(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct foil_arena a = {0};
	struct http_head head = {.path = FOIL_SLICE("/a/../b")};

	t_pool_drain(w->chunk_pool, 0);
	assert_int_equal(mesh_path_normalize(w, &a, MESH_PATHNORM_BASE, &head), MESH_PATH_NO_MEMORY);
	assert_true(foil_slice_eq(head.path, FOIL_SLICE("/a/../b")));
	t_pool_refill(w->chunk_pool);
	t_worker_free(w);
	(void)state;
}

static void test_path_takes_the_longest_header_block(void **state)
{
	static char text[60 * 1024];
	struct foil_worker *w = t_worker(0);
	struct foil_arena a = {0};

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "/%41"[i % 4];
	struct http_head head = {.path = foil_slice_of(text, sizeof(text))};
	assert_int_equal(mesh_path_normalize(w, &a, MESH_PATHNORM_BASE, &head), MESH_PATH_OK);
	assert_int_equal(head.path.n_bytes, sizeof(text) / 2);
	foil_arena_reset(w, &a);
	memset(text + 1, '"', sizeof(text) - 1); /* grows threefold: more than an arena may take */
	head.path = foil_slice_of(text, sizeof(text));
	assert_int_equal(mesh_path_normalize(w, &a, MESH_PATHNORM_BASE, &head), MESH_PATH_NO_MEMORY);
	foil_arena_reset(w, &a);
	t_worker_free(w);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path_base_is_what_envoy_did),
		cmocka_unit_test(test_path_base_follows_googleurl_beyond_the_recordings),
		cmocka_unit_test(test_path_base_lets_no_escape_arise_from_decoding),
		cmocka_unit_test(test_path_none_only_cuts_the_fragment),
		cmocka_unit_test(test_path_merge_slashes_merges_after_base),
		cmocka_unit_test(test_path_decode_and_merge_slashes_is_what_envoy_did),
		cmocka_unit_test(test_path_rules_of_slashes_are_what_envoy_did),
		cmocka_unit_test(test_path_with_escaped_slashes_is_told_where_to_go),
		cmocka_unit_test(test_path_leaves_what_is_no_path),
		cmocka_unit_test(test_path_that_is_normal_costs_no_memory),
		cmocka_unit_test(test_path_without_memory_says_so),
		cmocka_unit_test(test_path_takes_the_longest_header_block),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
