/* The message model: look-up, interning, joining, setting, cloning, texts. */
#include <errno.h>

#include "dataplane/http/message.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct foil_arena a;
static struct http_headers h;

static void begin(void)
{
	w = t_worker();
	a = (struct foil_arena){0};
	h = (struct http_headers){0};
}

static void end(void)
{
	foil_arena_reset(w, &a);
	t_worker_free(w);
}

static void add(const char *name, const char *value)
{
	assert_int_equal(http_header_add(w, &a, &h, foil_slice_str(name), foil_slice_str(value)), 0);
}

#define assert_slice(s, text) assert_true(foil_slice_eq((s), foil_slice_str(text)))

static void test_every_name_of_the_table_is_found(void **state)
{
	static const char *const names[] = {
#define X(ID, name) name,
#include "dataplane/http/header_names.def"
#undef X
	};

	for (unsigned int i = 0; i < FOIL_COUNT_OF(names); i++) {
		struct foil_slice name = foil_slice_str(names[i]);
		assert_int_equal(http_header_intern(name), i + 1);
		assert_slice(http_header_name((enum http_header_id)(i + 1)), names[i]);
		char other[64]; /* and nothing near it */
		memcpy(other, names[i], name.n_bytes);
		for (uint32_t at = 0; at < name.n_bytes; at++) {
			other[at] ^= 1;
			enum http_header_id id = http_header_intern(foil_slice_of(other, name.n_bytes));
			assert_true(id == HTTP_HDR_OTHER || foil_slice_eq(http_header_name(id), foil_slice_of(other, name.n_bytes)));
			other[at] ^= 1;
		}
		assert_int_not_equal(http_header_intern(foil_slice_of(names[i], name.n_bytes - 1)), i + 1);
	}
	assert_int_equal(http_header_intern(FOIL_SLICE("")), HTTP_HDR_OTHER);
	assert_int_equal(http_header_intern(FOIL_SLICE("x-not-in-the-table")), HTTP_HDR_OTHER);
	assert_int_equal(http_header_intern(FOIL_SLICE("a-name-that-is-longer-than-any-name-in-the-table-is")), HTTP_HDR_OTHER);
	assert_slice(http_header_name((enum http_header_id)9999), "");
}

static void test_look_up_by_id_and_name_skips_what_was_removed(void **state)
{
	begin();
	add("accept", "1");
	add("x-a", "2");
	add("accept", "3");
	assert_slice(http_header_get(&h, HTTP_HDR_ACCEPT)->value, "1");
	assert_slice(http_header_find(&h, FOIL_SLICE("x-a"))->value, "2");
	assert_slice(http_header_find(&h, FOIL_SLICE("accept"))->value, "1");
	assert_null(http_header_find(&h, FOIL_SLICE("x-b")));
	http_header_remove(&h, FOIL_SLICE("accept"));
	assert_null(http_header_get(&h, HTTP_HDR_ACCEPT));
	assert_null(http_header_find(&h, FOIL_SLICE("accept")));
	http_header_remove(&h, FOIL_SLICE("x-a"));
	assert_null(http_header_find(&h, FOIL_SLICE("x-a")));
	assert_int_equal(http_header_add_id(w, &a, &h, HTTP_HDR_ACCEPT, FOIL_SLICE("4")), 0);
	assert_slice(http_header_get(&h, HTTP_HDR_ACCEPT)->value, "4");
	assert_slice(http_header_get(&h, HTTP_HDR_ACCEPT)->name, "accept");
	end();
}

static void test_values_of_one_name_are_joined(void **state)
{
	begin();
	assert_null(http_header_joined(w, &a, &h, FOIL_SLICE("x-a")).data);
	add("x-a", "");
	assert_slice(http_header_joined(w, &a, &h, FOIL_SLICE("x-a")), "");
	assert_non_null(http_header_joined(w, &a, &h, FOIL_SLICE("x-a")).data);
	add("x-b", "no");
	add("x-a", "1");
	assert_slice(http_header_joined(w, &a, &h, FOIL_SLICE("x-a")), "1"); /* an empty one adds nothing */
	add("x-a", "");
	add("x-a", "2, 3");
	assert_slice(http_header_joined(w, &a, &h, FOIL_SLICE("x-a")), "1,2, 3");
	assert_slice(http_header_joined(w, &a, &h, FOIL_SLICE("x-b")), "no");
	end();
}

static void test_set_replaces_all(void **state)
{
	begin();
	add("x-a", "1");
	add("x-b", "b");
	add("x-a", "2");
	assert_int_equal(http_header_set(w, &a, &h, FOIL_SLICE("x-a"), FOIL_SLICE("3")), 0);
	assert_slice(http_header_joined(w, &a, &h, FOIL_SLICE("x-a")), "3");
	assert_slice(http_header_find(&h, FOIL_SLICE("x-b"))->value, "b");
	end();
}

static void test_lists_grow_and_an_exhausted_arena_is_told(void **state)
{
	begin();
	for (int i = 0; i < 1000; i++)
		add("x-a", "1");
	assert_int_equal(h.n, 1000);
	t_pool_drain(w->chunk_pool, 0);
	t_pool_drain(w->large_chunk_pool, 0);
	int rc = 0;
	for (int i = 0; i < 4000 && rc == 0; i++)
		rc = http_header_add(w, &a, &h, FOIL_SLICE("x-b"), FOIL_SLICE("1"));
	assert_int_equal(rc, -ENOBUFS);
	uint16_t n = h.n;
	assert_int_equal(http_header_set(w, &a, &h, FOIL_SLICE("x-a"), FOIL_SLICE("3")), -ENOBUFS);
	assert_int_equal(h.n, n); /* nothing was removed */
	assert_false(h.list[0].is_removed);
	struct foil_arena empty = {0};
	assert_null(http_header_joined(w, &empty, &h, FOIL_SLICE("x-a")).data);
	t_pool_refill(w->chunk_pool);
	t_pool_refill(w->large_chunk_pool);
	end();
}

static void test_a_clone_changes_alone(void **state)
{
	struct http_head from = {.status = 200, .body = HTTP_BODY_LENGTH, .content_length = 7}, to;

	begin();
	add("x-a", "1");
	add("x-b", "2");
	http_header_remove(&h, FOIL_SLICE("x-b"));
	from.headers = h;
	assert_int_equal(http_head_clone(w, &a, &from, &to), 0);
	assert_int_equal(to.headers.n, 1);
	assert_int_equal(to.content_length, 7);
	http_header_remove(&to.headers, FOIL_SLICE("x-a"));
	assert_non_null(http_header_find(&from.headers, FOIL_SLICE("x-a")));
	assert_ptr_equal(to.headers.list[0].value.data, from.headers.list[0].value.data);
	end();
}

/* What the codecs know of a list (message.h): a bit never hides a header that is there. */
static void test_what_a_list_is_known_to_lack_follows_what_is_put_in_and_taken_out(void **state)
{
	struct http_header by_hand = {.name = FOIL_SLICE("server"), .value = FOIL_SLICE("s"), .id = HTTP_HDR_SERVER};
	const struct http_headers unknown = {.list = &by_hand, .n = 1, .cap = 1};
	struct http_head from = {0}, clone;

	begin();
	assert_non_null(http_header_get(&unknown, HTTP_HDR_SERVER)); /* zeroes say nothing */
	http_headers_lack_all(&h);
	assert_false(http_headers_lack(&h, HTTP_HDR_OTHER));
	add("server", "a");
	add("x-of-nobody", "b");
	assert_false(http_headers_lack(&h, HTTP_HDR_SERVER));
	assert_true(http_headers_lack(&h, HTTP_HDR_DATE));
	assert_non_null(http_header_find(&h, FOIL_SLICE("x-of-nobody")));
	http_header_remove(&h, FOIL_SLICE("server"));
	assert_true(http_headers_lack(&h, HTTP_HDR_SERVER));
	assert_null(http_header_find(&h, FOIL_SLICE("server")));
	http_header_remove(&h, FOIL_SLICE("x-of-nobody"));
	assert_null(http_header_find(&h, FOIL_SLICE("x-of-nobody")));
	assert_int_equal(http_header_set(w, &a, &h, FOIL_SLICE("server"), FOIL_SLICE("c")), 0);
	assert_slice(http_header_get(&h, HTTP_HDR_SERVER)->value, "c");
	from.headers = h;
	assert_int_equal(http_head_clone(w, &a, &from, &clone), 0);
	assert_slice(http_header_get(&clone.headers, HTTP_HDR_SERVER)->value, "c");
	http_header_remove_id(&clone.headers, HTTP_HDR_SERVER);
	assert_null(http_header_get(&clone.headers, HTTP_HDR_SERVER));
	assert_non_null(http_header_get(&h, HTTP_HDR_SERVER));
	end();
}

static void test_methods_and_phrases(void **state)
{
	assert_int_equal(http_method_of(FOIL_SLICE("GET")), HTTP_METHOD_GET);
	assert_int_equal(http_method_of(FOIL_SLICE("PATCH")), HTTP_METHOD_PATCH);
	assert_int_equal(http_method_of(FOIL_SLICE("get")), HTTP_METHOD_OTHER);
	assert_int_equal(http_method_of(FOIL_SLICE("GETS")), HTTP_METHOD_OTHER);
	assert_int_equal(http_method_of(FOIL_SLICE("")), HTTP_METHOD_OTHER);
	assert_string_equal(http_status_reason(200), "OK");
	assert_string_equal(http_status_reason(100), "Continue");
	assert_string_equal(http_status_reason(103), "Early Hints");
	assert_string_equal(http_status_reason(431), "Request Header Fields Too Large");
	assert_string_equal(http_status_reason(511), "Network Authentication Required");
	assert_string_equal(http_status_reason(299), "Unknown");
	assert_string_equal(http_status_reason(999), "Unknown");
	assert_string_equal(http_status_reason(0), "Unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_name_of_the_table_is_found),
		cmocka_unit_test(test_look_up_by_id_and_name_skips_what_was_removed),
		cmocka_unit_test(test_values_of_one_name_are_joined),
		cmocka_unit_test(test_set_replaces_all),
		cmocka_unit_test(test_lists_grow_and_an_exhausted_arena_is_told),
		cmocka_unit_test(test_a_clone_changes_alone),
		cmocka_unit_test(test_what_a_list_is_known_to_lack_follows_what_is_put_in_and_taken_out),
		cmocka_unit_test(test_methods_and_phrases),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
