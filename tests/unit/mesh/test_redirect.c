/* dataplane/mesh/redirect.c: the locations of the judge's redirect-rewrite recording and features.md VS-29, VS-30. */
#include "tests/unit/mesh/routes.h"

#define TEXT(s) {s, sizeof(s) - 1}

static void check(const struct mesh_route *route, const char *scheme, const char *authority, const char *path, const char *expected)
{
	struct foil_worker *w = t_worker(0);
	struct foil_arena a = {0};
	struct foil_slice out;
	struct http_head head = {.authority = foil_slice_str(authority), .path = foil_slice_str(path), .scheme = foil_slice_str(scheme)};

	assert_int_equal(mesh_redirect_location(w, &a, route, &head, foil_slice_str(scheme), &out), 0);
	if (!foil_slice_eq(out, foil_slice_str(expected)))
		fail_msg("%s %s: %.*s, not %s", authority, path, (int)out.n_bytes, out.data, expected);
	foil_arena_reset(w, &a);
	t_worker_free(w);
}

static void test_redirect_as_envoy_was_recorded(void **state)
{
	const struct mesh_route old = {.match = {.path = TEXT("/old")}, .redirect = {.has_path = true, .path = TEXT("/new"),
		.host = TEXT("other.example.com")}};
	const struct mesh_route code = {.match = {.path = TEXT("/code308")}, .redirect = {.has_path = true, .path = TEXT("/n"), .code = 308}};
	const struct mesh_route port = {.match = {.path = TEXT("/port")}, .redirect = {.port = 8443}};
	const struct mesh_route reqport = {.match = {.path = TEXT("/reqport")}, .redirect = {.scheme = TEXT("https"), .port_from_request = true}};
	const struct mesh_route fixed = {.match = {.path_kind = MESH_PATH_REGEX}, .redirect = {.has_path = true, .path = TEXT("/fixed")}};

	check(&old, "http", "web.example.com", "/old?q=1", "http://other.example.com/new?q=1");
	check(&old, "http", "web.example.com", "/old", "http://other.example.com/new");
	check(&code, "http", "web.example.com", "/code308", "http://web.example.com/n");
	check(&port, "http", "web.example.com", "/port", "http://web.example.com:8443/port");
	check(&reqport, "http", "web.example.com", "/reqport", "https://web.example.com:80/reqport");
	check(&fixed, "http", "web.example.com", "/rx/y", "http://web.example.com/fixed");
	(void)state;
}

static void test_redirect_port_of_the_request(void **state)
{
	const struct mesh_route https = {.redirect = {.scheme = TEXT("https")}}, same = {.redirect = {.has_path = true, .path = TEXT("/p")}};
	const struct mesh_route to_http = {.redirect = {.scheme = TEXT("http")}}, own = {.redirect = {.port = 8443}};
	const struct mesh_route derived = {.redirect = {.scheme = TEXT("https"), .port_from_request = true}};

	check(&https, "http", "h:80", "/", "https://h/");       /* was the default of the old scheme */
	check(&https, "http", "h:8080", "/", "https://h:8080/");
	check(&https, "https", "h:80", "/", "https://h:80/");   /* the scheme stays, so does the port */
	check(&to_http, "https", "h:443", "/", "http://h/");
	check(&same, "http", "h:80", "/", "http://h:80/p");
	check(&own, "http", "h:9999", "/x", "http://h:8443/x");
	check(&derived, "http", "h:8080", "/", "https://h:8080/");
	check(&derived, "http", "h:443", "/", "https://h/");
	check(&derived, "http", "h:99999999", "/", "https://h:80/");
	check(&derived, "http", "h:8x", "/", "https://h:80/");
	check(&derived, "http", "h:", "/", "https://h:80/");
	(void)state;
}

static void test_redirect_never_writes_a_default_port(void **state)
{
	const struct mesh_route p80 = {.redirect = {.port = 80}}, p443 = {.redirect = {.scheme = TEXT("https"), .port = 443}};
	const struct mesh_route swapped = {.redirect = {.scheme = TEXT("https"), .port = 80}};

	check(&p80, "http", "h:8080", "/", "http://h/");
	check(&p443, "http", "h", "/", "https://h/");
	check(&swapped, "http", "h", "/", "https://h:80/");
	(void)state;
}

static void test_redirect_of_ipv6_authorities(void **state)
{
	const struct mesh_route port = {.redirect = {.port = 8443}}, https = {.redirect = {.scheme = TEXT("https")}};

	check(&port, "http", "[fd00::1]", "/", "http://[fd00::1]:8443/");
	check(&port, "http", "[fd00::1]:80", "/", "http://[fd00::1]:8443/");
	check(&https, "http", "[fd00::1]:80", "/", "https://[fd00::1]/");
	check(&https, "http", "[fd00::1]", "/", "https://[fd00::1]/");
	(void)state;
}

static void test_redirect_path_query_and_prefix(void **state)
{
	const struct mesh_route with_query = {.redirect = {.has_path = true, .path = TEXT("/n?x=1")}}, relative = {.redirect = {.has_path = true,
		.path = TEXT("n")}};
	const struct mesh_route prefix = {.match = {.path = TEXT("/foo")}, .redirect = {.has_prefix_rewrite = true, .prefix_rewrite = TEXT("/")}};
	const struct mesh_route exact = {.match = {.path_kind = MESH_PATH_EXACT, .path = TEXT("/foo")}, .redirect = {.has_prefix_rewrite = true,
		.prefix_rewrite = TEXT("/bar")}};

	check(&with_query, "http", "h", "/a?b=2", "http://h/n?x=1");
	check(&relative, "http", "h", "/a?b", "http://h/n?b");
	check(&prefix, "http", "h", "/foo/x?y", "http://h//x?y");
	check(&exact, "http", "h", "/foo?y", "http://h/bar?y");
	(void)state;
}

static void test_redirect_without_memory_says_so(void **state)
{
	const struct mesh_route route = {.redirect = {.has_path = true, .path = TEXT("/n")}};
	struct foil_worker *w = t_worker(0);
	struct foil_arena a = {0};
	struct http_head head = {.authority = FOIL_SLICE("h"), .path = FOIL_SLICE("/?q")};
	struct foil_slice out;

	t_pool_drain(w->chunk_pool, 0);
	assert_int_equal(mesh_redirect_location(w, &a, &route, &head, FOIL_SLICE("http"), &out), -ENOBUFS);
	head.path = FOIL_SLICE("/");
	assert_int_equal(mesh_redirect_location(w, &a, &route, &head, FOIL_SLICE("http"), &out), -ENOBUFS);
	t_pool_refill(w->chunk_pool);
	t_worker_free(w);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redirect_as_envoy_was_recorded),
		cmocka_unit_test(test_redirect_port_of_the_request),
		cmocka_unit_test(test_redirect_never_writes_a_default_port),
		cmocka_unit_test(test_redirect_of_ipv6_authorities),
		cmocka_unit_test(test_redirect_path_query_and_prefix),
		cmocka_unit_test(test_redirect_without_memory_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
