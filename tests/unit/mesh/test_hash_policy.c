/* dataplane/mesh/hash_policy.c: what a request's hash is made of. The cookie is the judge's recording of a real Envoy; other values are xxHash64 of what
 * Envoy's source says is hashed. */
#include "tests/unit/support.h"

#include <errno.h>
#include <xxhash.h>

#include "dataplane/mesh/hash_policy.h"

#define MAPPED(a, b, c, d) {[10] = 0xff, [11] = 0xff, [12] = a, [13] = b, [14] = c, [15] = d}
#define HEADERS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct stream_addr local = {.ip = MAPPED(198, 18, 0, 1), .port = 80};
static const struct stream_addr remote = {.ip = MAPPED(198, 18, 0, 2), .port = 33159};
static const struct stream_addr client = {.ip = MAPPED(10, 1, 1, 1), .port = 7};

struct bench {
	struct foil_worker *w;
	struct foil_arena a;
	struct http_head head;
	struct mesh_hash out;
};

static struct mesh_hash_policy header_policy(const char *name)
{
	struct mesh_hash_policy p = {.kind = MESH_HASH_HEADER, .name = foil_slice_str(name)};

	p.id = (uint16_t)http_header_intern(p.name);
	return p;
}

static void run(struct bench *b, const struct mesh_hash_policy *policies, uint16_t n, const char *path, const char *const *headers)
{
	*b = (struct bench){.w = t_worker(.seed = 3)};
	b->head = (struct http_head){.method_text = FOIL_SLICE("GET"), .path = foil_slice_str(path), .authority = FOIL_SLICE("web.example.com"),
				     .scheme = FOIL_SLICE("http")};
	for (const char *const *h = headers; h && *h; h += 2)
		assert_int_equal(http_header_add(b->w, &b->a, &b->head.headers, foil_slice_str(h[0]), foil_slice_str(h[1])), 0);
	const struct mesh_hash_request r = {.head = &b->head, .client = &client, .remote = &remote, .local = &local};
	assert_int_equal(mesh_hash_of_request(b->w, &b->a, policies, n, &r, &b->out), 0);
}

static void done(struct bench *b)
{
	foil_arena_reset(b->w, &b->a);
	t_worker_free(b->w);
}

static uint64_t hash_of(const char *text)
{
	return XXH64(text, strlen(text), 0);
}

static void expect(const struct mesh_hash_policy *policies, uint16_t n, const char *path, const char *const *headers, const char *hashed)
{
	struct bench b;

	run(&b, policies, n, path, headers);
	assert_int_equal(b.out.is_there, hashed != NULL);
	if (hashed)
		assert_true(b.out.hash == hash_of(hashed));
	assert_int_equal(b.out.n_set_cookies, 0);
	done(&b);
}

static void test_hash_of_a_header_is_that_of_its_value(void **state)
{
	const struct mesh_hash_policy p = header_policy("x-user"), known = header_policy("user-agent"), host = header_policy("host");
	const struct mesh_hash_policy authority = header_policy(":authority"), path = header_policy(":path"), method = header_policy(":method");

	expect(&p, 1, "/", HEADERS("x-user", "a"), "a");
	expect(&p, 1, "/", HEADERS("x-user", ""), "");
	expect(&p, 1, "/", HEADERS("x-users", "a"), NULL);
	expect(&known, 1, "/", HEADERS("x-user", "a", "user-agent", "curl/7"), "curl/7");
	expect(&host, 1, "/", NULL, "web.example.com");
	expect(&authority, 1, "/", NULL, "web.example.com");
	expect(&path, 1, "/p?q=1", NULL, "/p?q=1");
	expect(&method, 1, "/", NULL, "GET");
	(void)state;
}

static void test_hash_of_several_values_does_not_depend_on_their_order(void **state)
{
	const struct mesh_hash_policy p = header_policy("x-user");
	struct bench one, other;
	uint64_t expected = XXH64("foobar", 6, XXH64("foo", 3, XXH64("bar", 3, 0)));

	run(&one, &p, 1, "/", HEADERS("x-user", "foo", "x-user", "bar", "x-user", "foobar"));
	run(&other, &p, 1, "/", HEADERS("x-user", "foobar", "x-user", "foo", "x-user", "bar"));
	assert_true(one.out.hash == expected);
	assert_true(other.out.hash == expected);
	done(&one);
	done(&other);
	(void)state;
}

static void test_more_values_than_are_put_in_order_do_no_harm(void **state)
{
	const struct mesh_hash_policy p = header_policy("x-user");
	const char *headers[2 * 100 + 1] = {NULL};
	struct bench b;

	for (int i = 0; i < 100; i++) {
		headers[2 * i] = "x-user";
		headers[2 * i + 1] = i % 2 ? "b" : "a";
	}
	run(&b, &p, 1, "/", headers);
	assert_true(b.out.is_there);
	done(&b);
	(void)state;
}

static void test_hash_of_a_query_parameter_is_that_of_its_first_value_as_it_stands(void **state)
{
	const struct mesh_hash_policy p = {.kind = MESH_HASH_QUERY, .name = FOIL_SLICE("k")};

	expect(&p, 1, "/query?k=1", NULL, "1");
	expect(&p, 1, "/query?a=2&k=%31&k=3", NULL, "%31");
	expect(&p, 1, "/query?k", NULL, "");
	expect(&p, 1, "/query?kk=1", NULL, NULL);
	expect(&p, 1, "/query", NULL, NULL);
	(void)state;
}

static void test_hash_of_the_source_is_that_of_the_trusted_clients_address(void **state)
{
	const struct mesh_hash_policy p = {.kind = MESH_HASH_SOURCE_IP};
	const struct stream_addr six = {.ip = {0xfd, 0, 0xf0, 0x11, [15] = 2}, .port = 9};

	expect(&p, 1, "/", NULL, "10.1.1.1");
	assert_true(mesh_hash_of_address(&six) == hash_of("fd00:f011::2"));
	(void)state;
}

static void test_hash_of_a_cookie_is_that_of_its_value_without_quotes(void **state)
{
	const struct mesh_hash_policy p = {.kind = MESH_HASH_COOKIE, .name = FOIL_SLICE("sess")};

	expect(&p, 1, "/", HEADERS("cookie", "sess=abc"), "abc");
	expect(&p, 1, "/", HEADERS("cookie", "sess=\"abc\""), "abc");
	expect(&p, 1, "/", HEADERS("cookie", "a=1;   sess=abc; sess=def"), "abc");
	expect(&p, 1, "/", HEADERS("cookie", "a=1", "cookie", "b;sess=x=y"), "x=y");
	expect(&p, 1, "/", HEADERS("cookie", "sess=\""), "\"");
	expect(&p, 1, "/", HEADERS("cookie", "sess"), NULL);
	expect(&p, 1, "/", HEADERS("cookie", "sess=; ;;= ;=="), NULL);
	expect(&p, 1, "/", HEADERS("cookie", " se ss=1; ssess=2; ses=3"), NULL);
	expect(&p, 1, "/", HEADERS("cookie", ""), NULL);
	expect(&p, 1, "/", NULL, NULL); /* no ttl: none is made */
	(void)state;
}

static void expect_cookie(const struct mesh_hash_policy *p, const char *const *headers, const char *text)
{
	struct bench b;

	run(&b, p, 1, "/cookie", headers);
	assert_true(b.out.is_there);
	assert_true(b.out.hash == hash_of("1d89f6dab6d16d53"));
	assert_int_equal(b.out.n_set_cookies, 1);
	if (!foil_slice_eq(b.out.set_cookies[0], foil_slice_str(text)))
		fail_msg("%.*s", (int)b.out.set_cookies[0].n_bytes, b.out.set_cookies[0].data);
	done(&b);
}

static void test_cookie_is_made_as_envoy_was_recorded(void **state)
{
	const struct mesh_hash_policy p = {.kind = MESH_HASH_COOKIE, .name = FOIL_SLICE("sess"), .has_ttl = true, .ttl_s = 30, .path = FOIL_SLICE("/p")};

	expect_cookie(&p, NULL, "sess=\"1d89f6dab6d16d53\"; Max-Age=30; Path=/p; HttpOnly");
	expect_cookie(&p, HEADERS("cookie", "sess="), "sess=\"1d89f6dab6d16d53\"; Max-Age=30; Path=/p; HttpOnly");
	(void)state;
}

static void test_cookie_with_attributes_and_of_the_session(void **state)
{
	static const struct mesh_cookie_attribute attributes[] = {{FOIL_SLICE("SameSite"), FOIL_SLICE("Strict")}, {FOIL_SLICE("Secure"), {NULL, 0}}};
	const struct mesh_hash_policy p = {.kind = MESH_HASH_COOKIE, .name = FOIL_SLICE("s"), .has_ttl = true, .attributes = attributes, .n_attributes = 2};

	expect_cookie(&p, NULL, "s=\"1d89f6dab6d16d53\"; SameSite=Strict; Secure; HttpOnly");
	(void)state;
}

static void test_hashes_are_combined_and_a_terminal_one_ends_it(void **state)
{
	struct mesh_hash_policy p[] = {header_policy("x-a"), {.kind = MESH_HASH_QUERY, .name = FOIL_SLICE("k")}, header_policy("x-b")};
	uint64_t a = hash_of("1"), k = hash_of("2"), b = hash_of("3"), two = (a << 1 | a >> 63) ^ k;
	struct bench x;

	run(&x, p, 3, "/?k=2", HEADERS("x-a", "1", "x-b", "3"));
	assert_true(x.out.hash == ((two << 1 | two >> 63) ^ b));
	done(&x);
	p[1].terminal = true;
	run(&x, p, 3, "/?k=2", HEADERS("x-a", "1", "x-b", "3"));
	assert_true(x.out.hash == two);
	done(&x);
	run(&x, p, 3, "/", HEADERS("x-a", "1", "x-b", "3")); /* the terminal one finds nothing, but there is a hash */
	assert_true(x.out.hash == a);
	done(&x);
	run(&x, p, 3, "/", HEADERS("x-b", "3"));
	assert_true(x.out.hash == b);
	done(&x);
	p[1] = p[0];
	p[1].terminal = false;
	run(&x, p, 2, "/", HEADERS("x-a", "1")); /* the same twice does not cancel out */
	assert_true(x.out.hash == ((a << 1 | a >> 63) ^ a) && x.out.hash != 0);
	done(&x);
	(void)state;
}

static void test_a_cookie_that_the_arena_cannot_hold_is_an_error(void **state)
{
	static char long_path[FOIL_LARGE_CHUNK_BYTES];
	memset(long_path, 'p', sizeof(long_path));
	const struct mesh_hash_policy p = {.kind = MESH_HASH_COOKIE, .name = FOIL_SLICE("s"), .has_ttl = true, .path = {long_path, sizeof(long_path)}};
	const struct http_head head = {.path = FOIL_SLICE("/")};
	const struct mesh_hash_request r = {.head = &head, .client = &client, .remote = &remote, .local = &local};
	struct bench b = {.w = t_worker(.seed = 3)};

	assert_int_equal(mesh_hash_of_request(b.w, &b.a, &p, 1, &r, &b.out), -ENOBUFS);
	done(&b);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash_of_a_header_is_that_of_its_value),
		cmocka_unit_test(test_hash_of_several_values_does_not_depend_on_their_order),
		cmocka_unit_test(test_more_values_than_are_put_in_order_do_no_harm),
		cmocka_unit_test(test_hash_of_a_query_parameter_is_that_of_its_first_value_as_it_stands),
		cmocka_unit_test(test_hash_of_the_source_is_that_of_the_trusted_clients_address),
		cmocka_unit_test(test_hash_of_a_cookie_is_that_of_its_value_without_quotes),
		cmocka_unit_test(test_cookie_is_made_as_envoy_was_recorded),
		cmocka_unit_test(test_cookie_with_attributes_and_of_the_session),
		cmocka_unit_test(test_hashes_are_combined_and_a_terminal_one_ends_it),
		cmocka_unit_test(test_a_cookie_that_the_arena_cannot_hold_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
