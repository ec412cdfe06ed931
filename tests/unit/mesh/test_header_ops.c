/* dataplane/mesh/header_ops.c: the judge's headers recording, Envoy's order of operations, and what no operation may touch. */
#include <errno.h>

#include "tests/unit/support.h"

#include "dataplane/core/error.h"
#include "dataplane/mesh/header_ops.h"

struct op {
	const char *name, *value;
	bool append;
};
struct bench {
	struct foil_worker *w;
	struct foil_arena a;
	struct foil_blob b;
	struct http_head head;
};

static void bench_init(struct bench *t, const char *const *headers)
{
	*t = (struct bench){.w = t_worker(0)};
	t->head = (struct http_head){.method_text = FOIL_SLICE("GET"), .path = FOIL_SLICE("/"), .authority = FOIL_SLICE("web.example.com"),
		.version = HTTP_VERSION_11};
	for (const char *const *h = headers; *h; h += 2)
		assert_int_equal(http_header_add(t->w, &t->a, &t->head.headers, foil_slice_str(h[0]), foil_slice_str(h[1])), 0);
}

static void bench_fini(struct bench *t)
{
	foil_arena_reset(t->w, &t->a);
	foil_blob_free(&t->b);
	t_worker_free(t->w);
}

static struct mesh_header_ops compile(struct bench *t, const char *const *remove, const struct op *add, uint16_t n_add)
{
	struct mesh_header_op_add *list = foil_blob_array(&t->b, n_add, sizeof(*list));
	struct foil_slice *names = foil_blob_array(&t->b, 16, sizeof(*names));
	uint16_t n_remove = 0;

	for (; *remove; remove++)
		names[n_remove++] = foil_slice_str(*remove);
	for (uint16_t i = 0; i < n_add; i++) {
		struct foil_error err = {0};
		list[i] = (struct mesh_header_op_add){.name = foil_slice_str(add[i].name), .append = add[i].append};
		list[i].id = (uint16_t)http_header_intern(list[i].name);
		if (mesh_format_compile(&t->b, foil_slice_str(add[i].value), &list[i].value, &err) != 0)
			fail_msg("%s", err.text);
	}
	return (struct mesh_header_ops){.remove = names, .n_remove = n_remove, .add = list, .n_add = n_add};
}

static void apply(struct bench *t, const char *const *remove, const struct op *add, uint16_t n_add)
{
	struct mesh_header_ops ops = compile(t, remove, add, n_add);
	struct mesh_format_ctx ctx = {.request = &t->head};

	assert_int_equal(mesh_header_ops_apply(t->w, &t->a, &ops, &t->head, &ctx), 0);
}
#define NO_NAMES ((const char *const[]){NULL})
#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define APPLY(t, remove, ...) apply(t, remove, (const struct op[]){__VA_ARGS__}, FOIL_COUNT_OF(((const struct op[]){__VA_ARGS__})))

/* All headers as "name: value\n". */
static void expect(const struct bench *t, const char *expected)
{
	char text[2000];
	size_t n = 0;

	for (uint16_t i = 0; i < t->head.headers.n; i++) {
		const struct http_header *h = &t->head.headers.list[i];
		if (!h->is_removed)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%.*s: %.*s\n", (int)h->name.n_bytes, h->name.data, (int)h->value.n_bytes,
				h->value.data);
	}
	text[n] = '\0';
	assert_string_equal(text, expected);
}

/* One destination: its operations follow the route's in one list (VS-21). */
static void test_header_ops_as_envoy_was_recorded(void **state)
{
	struct bench t;

	bench_init(&t, NAMES("x-set", "orig", "x-add", "orig", "x-rm", "gone", "cookie", "a=b", "x-both", "orig"));
	APPLY(&t, NAMES("x-rm", "cookie"), {"x-both", "vs"}, {"x-set", "a"}, {"x-add", "b", true}, {"x-both", "dest"}, {"x-dest", "1"}, {"x-add", "dd", true});
	expect(&t, "x-add: orig\nx-set: a\nx-both: dest\nx-dest: 1\nx-add: b\nx-add: dd\n");
	bench_fini(&t);
	(void)state;
}

static void test_header_ops_values_are_formatted_after_removes_and_before_changes(void **state)
{
	struct bench t;

	bench_init(&t, NAMES("x-a", "1", "x-b", "2"));
	APPLY(&t, NAMES("x-a"), {"x-b", "new"}, {"x-was-a", "%REQ(x-a)%"}, {"x-was-b", "%REQ(x-b)%"}, {"x-c", "<%REQ(x-a)%>"});
	expect(&t, "x-b: new\nx-was-b: 2\nx-c: <>\n"); /* a value that is nothing adds nothing */
	bench_fini(&t);
	(void)state;
}

static void test_header_ops_of_nothing_leave_what_is_there(void **state)
{
	struct bench t;

	bench_init(&t, NAMES("x-a", "1"));
	APPLY(&t, NO_NAMES, {"x-a", "%REQ(x-none)%"}, {"x-a", "", true});
	expect(&t, "x-a: 1\n");
	bench_fini(&t);
	(void)state;
}

static void test_header_ops_host_is_the_authority(void **state)
{
	struct bench t;

	bench_init(&t, NO_NAMES);
	APPLY(&t, NAMES("host", ":authority"), {"host", "viaheader.example.com"});
	assert_true(foil_slice_eq(t.head.authority, FOIL_SLICE("viaheader.example.com")));
	APPLY(&t, NO_NAMES, {":authority", "other.example.com", true});
	assert_true(foil_slice_eq(t.head.authority, FOIL_SLICE("other.example.com")));
	expect(&t, "");
	t.head.status = 200; /* a response has no authority */
	APPLY(&t, NO_NAMES, {"host", "x"}, {":authority", "x"});
	assert_true(foil_slice_eq(t.head.authority, FOIL_SLICE("other.example.com")));
	expect(&t, "");
	bench_fini(&t);
	(void)state;
}

static void test_header_ops_touch_no_framing_and_no_pseudo_header(void **state)
{
	struct bench t;

	bench_init(&t, NAMES("upgrade", "websocket"));
	APPLY(&t, NAMES("upgrade", ":path", ":method", ""), {"content-length", "3"}, {"transfer-encoding", "chunked", true}, {"connection", "x-a"}, {"te",
		"gzip"},
	      {":path", "/x"}, {":method", "PUT", true}, {":status", "500"}, {"keep-alive", "1"}, {"proxy-connection", "close"}, {"trailer", "x"});
	expect(&t, "upgrade: websocket\n");
	assert_true(foil_slice_eq(t.head.path, FOIL_SLICE("/")));
	bench_fini(&t);
	(void)state;
}

static void test_header_ops_append_joins_headers_that_come_once(void **state)
{
	struct bench t;

	bench_init(&t, NAMES("x-forwarded-for", "1.1.1.1", "user-agent", "", "x-a", "1"));
	APPLY(&t, NO_NAMES, {"x-forwarded-for", "2.2.2.2", true}, {"user-agent", "foil", true}, {"via", "1.1 foil", true}, {"x-a", "2", true}, {"via",
		"1.1 b", true});
	expect(&t, "x-a: 1\nx-forwarded-for: 1.1.1.1,2.2.2.2\nuser-agent: foil\nx-a: 2\nvia: 1.1 foil,1.1 b\n");
	bench_fini(&t);
	bench_init(&t, NAMES("vary", "a", "vary", "b", "if-match", "\"1\"", "x-b3-traceid", "1"));
	APPLY(&t, NO_NAMES, {"vary", "c", true}, {"if-match", "\"2\"", true}, {"x-b3-traceid", "2", true});
	expect(&t, "x-b3-traceid: 1\nvary: a,b,c\nif-match: \"1\",\"2\"\nx-b3-traceid: 2\n");
	bench_fini(&t);
	(void)state;
}

static void test_header_ops_remove_takes_every_value(void **state)
{
	struct bench t;

	bench_init(&t, NAMES("x-a", "1", "x-b", "2", "x-a", "3"));
	APPLY(&t, NAMES("x-a", "x-none"), {"x-c", "4"});
	expect(&t, "x-b: 2\nx-c: 4\n");
	bench_fini(&t);
	(void)state;
}

static void test_header_ops_without_memory_say_so(void **state)
{
	struct bench t;
	struct mesh_format_ctx ctx = {0};

	bench_init(&t, NO_NAMES);
	struct mesh_header_ops ops = compile(&t, NO_NAMES, (const struct op[]){{"x-a", "1"}}, 1);
	t_pool_drain(t.w->chunk_pool, 0);
	assert_int_equal(mesh_header_ops_apply(t.w, &t.a, &ops, &t.head, &ctx), -ENOBUFS);
	t_pool_refill(t.w->chunk_pool);
	bench_fini(&t);
	(void)state;
}

static void test_several_lines_of_what_comes_once_are_one(void **state)
{
	struct bench t;

	bench_init(&t, NAMES("accept", "a", "x-a", "1", "vary", "v", "accept", "b", "x-a", "2", "vary", "w", "accept", ""));
	assert_int_equal(mesh_headers_join(t.w, &t.a, &t.head.headers, false), 0);
	expect(&t, "accept: a,b\nx-a: 1\nvary: v\nx-a: 2\nvary: w\n"); /* vary: in answers alone */
	assert_int_equal(mesh_headers_join(t.w, &t.a, &t.head.headers, true), 0);
	expect(&t, "accept: a,b\nx-a: 1\nvary: v,w\nx-a: 2\n");
	bench_fini(&t);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_ops_as_envoy_was_recorded),
		cmocka_unit_test(test_header_ops_values_are_formatted_after_removes_and_before_changes),
		cmocka_unit_test(test_header_ops_of_nothing_leave_what_is_there),
		cmocka_unit_test(test_header_ops_host_is_the_authority),
		cmocka_unit_test(test_header_ops_touch_no_framing_and_no_pseudo_header),
		cmocka_unit_test(test_header_ops_append_joins_headers_that_come_once),
		cmocka_unit_test(test_several_lines_of_what_comes_once_are_one),
		cmocka_unit_test(test_header_ops_remove_takes_every_value),
		cmocka_unit_test(test_header_ops_without_memory_say_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
