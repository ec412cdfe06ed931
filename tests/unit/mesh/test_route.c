/* dataplane/mesh/route.c, route_index.c and match.c: the requests of the judge's match recording, the order of virtual hosts (features.md VS-2), the
 * edges of header and query conditions (VS-8..VS-13), and the index against a search in order. */
#include "tests/unit/mesh/routes.h"

#include "dataplane/mesh/match_priv.h"

static struct http_head request(const char *path)
{
	return (struct http_head){.method_text = FOIL_SLICE("GET"), .scheme = FOIL_SLICE("http"), .authority = FOIL_SLICE("web.example.com"),
				  .path = foil_slice_str(path)};
}

static const char *name_of(struct foil_worker *w, const struct mesh_routes *r, const struct http_head *head)
{
	struct mesh_route_result out;

	mesh_route_find(w, r, head, &out);
	return out.route ? out.route->name.data : out.vhost ? "404" : "no vhost";
}

/* ---- virtual hosts ---- */
static const struct mesh_route one_route = {.name = {"r", 1}, .match = {.path_kind = MESH_PATH_PREFIX, .path = {"/", 1}}};

static const char *vhost_of(struct foil_worker *w, const struct mesh_routes *r, const char *authority)
{
	struct http_head head = request("/");
	struct mesh_route_result out;

	head.authority = foil_slice_str(authority);
	mesh_route_find(w, r, &head, &out);
	return out.vhost ? out.vhost->name.data : "none";
}

static void test_vhost_exact_then_longest_suffix_then_longest_prefix_then_any(void **state)
{
	const struct t_vhost vhosts[] = {
		{"any", T_DOMAINS("*"), &one_route, 1}, {"com", T_DOMAINS("*.com"), &one_route, 1}, {"foo", T_DOMAINS("*.foo.com", "*-x.com"), &one_route, 1},
		{"web", T_DOMAINS("web.foo.com", "other.foo.com"), &one_route, 1}, {"pre", T_DOMAINS("web.*", "w.*"), &one_route, 1},
		{"longpre", T_DOMAINS("web.foo.*"), &one_route, 1}, {"v6", T_DOMAINS("[fd00::1]", "198.18.10.1"), &one_route, 1},
	};
	static const struct {
		const char *authority, *vhost;
	} cases[] = {
		{"web.foo.com", "web"}, {"WEB.Foo.COM", "web"}, {"web.foo.com:8080", "web"}, {"web.foo.com:", "web"}, {"other.foo.com", "web"},
		{"a.foo.com", "foo"}, {"a.b.foo.com:443", "foo"}, {"A.FOO.com", "foo"}, {"foo.com", "com"}, {".foo.com", "com"}, {"a-x.com", "foo"},
		{"-x.com", "com"}, {"x.com", "com"}, {".com", "any"}, {"com", "any"}, {"web.bar", "pre"}, {"web.", "any"}, {"web.foo.org", "longpre"},
		{"w.x", "pre"}, {"", "any"}, {"web.foo.com.", "longpre"}, {"[fd00::1]", "v6"}, {"[fd00::1]:80", "v6"}, {"[FD00::1]:80", "v6"},
		{"[fd00::2]", "any"}, {"198.18.10.1:80", "v6"}, {"a:b:c", "any"},
	};
	struct foil_worker *w = t_worker(0);
	struct mesh_routes r = {0};

	t_routes_build(&r, vhosts, FOIL_COUNT_OF(vhosts));
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++)
		if (strcmp(vhost_of(w, &r, cases[i].authority), cases[i].vhost) != 0)
			fail_msg("%s: %s, not %s", cases[i].authority, vhost_of(w, &r, cases[i].authority), cases[i].vhost);
	t_routes_free(&r);
	t_worker_free(w);
	(void)state;
}

static void test_vhost_none_when_no_domain_matches(void **state)
{
	const struct t_vhost vhosts[] = {{"web", T_DOMAINS("web.example.com", "svc.ns.svc.cluster.local."), &one_route, 1}};
	static char long_host[70000];
	struct foil_worker *w = t_worker(0);
	struct mesh_routes r = {0}, empty = {0};

	memset(long_host, 'a', sizeof(long_host) - 1);
	t_routes_build(&r, vhosts, 1);
	assert_string_equal(vhost_of(w, &r, "other.example.com"), "none");
	assert_string_equal(vhost_of(w, &r, "web.example.com."), "none"); /* a dot more is another name */
	assert_string_equal(vhost_of(w, &r, "svc.ns.svc.cluster.local."), "web");
	assert_string_equal(vhost_of(w, &r, long_host), "none");
	assert_string_equal(vhost_of(w, &r, ""), "none");
	t_routes_free(&r);
	t_routes_build(&empty, NULL, 0);
	assert_string_equal(vhost_of(w, &empty, "web.example.com"), "none");
	t_routes_free(&empty);
	t_worker_free(w);
	(void)state;
}

static void test_vhost_a_domain_twice_is_refused(void **state)
{
	static const struct {
		const char *one, *other;
	} pairs[] = {{"a.b", "A.b"}, {"*.b", "*.B"}, {"a.*", "a.*"}, {"*", "*"}};

	for (size_t i = 0; i < FOIL_COUNT_OF(pairs); i++) {
		const struct t_vhost vhosts[] = {{"first", T_DOMAINS(pairs[i].one), &one_route, 1}, {"second", T_DOMAINS(pairs[i].other), &one_route, 1}};
		struct mesh_routes r = {0};
		struct foil_error err = {0};
		assert_int_equal(t_routes_try(&r, vhosts, 2, &err), -EINVAL);
		assert_non_null(strstr(err.text, "twice"));
		assert_non_null(strstr(err.text, "'second'"));
		t_routes_free(&r);
	}
	(void)state;
}

static void test_vhost_a_domain_that_is_none_is_refused(void **state)
{
	static const char *const bad[] = {"", "a*b", "**", "*.a.*", "*a*"};

	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		const struct t_vhost vhost = {"v", T_DOMAINS(bad[i]), &one_route, 1};
		struct mesh_routes r = {0};
		struct foil_error err = {0};
		if (t_routes_try(&r, &vhost, 1, &err) != -EINVAL)
			fail_msg("'%s' is taken", bad[i]);
		assert_non_null(strstr(err.text, "is none"));
		t_routes_free(&r);
	}
	(void)state;
}

static void test_routes_index_says_when_the_budget_is_spent(void **state)
{
	const struct t_vhost vhosts[] = {{"any", T_DOMAINS("*", "a.b"), &one_route, 1}};

	for (size_t budget = 1024 + 256; budget < 16384; budget += 1024) {
		struct mesh_routes r = {.res.blob.max_bytes = budget};
		struct foil_error err = {0};
		int rc = t_routes_try(&r, vhosts, 1, &err);
		assert_true(rc == 0 || (rc == -ENOMEM && strstr(err.text, "no memory")));
		t_routes_free(&r);
	}
	(void)state;
}

/* ---- the match recording ---- */
#define PATH(kind_, text) .match.path_kind = MESH_PATH_##kind_, .match.path = {text, sizeof(text) - 1}
#define NAME(text) .name = {text, sizeof(text) - 1}
#define HEADERS(...) .match.headers = (const struct mesh_header_match[]){__VA_ARGS__}, .match.n_headers = 1
#define QUERY(...) .match.query = (const struct mesh_query_match[]){__VA_ARGS__}, .match.n_query = 1
#define TEXT(s) {s, sizeof(s) - 1}

static void recorded_routes(struct mesh_routes *r)
{
	const struct mesh_route routes[] = {
		{NAME("exact"), PATH(EXACT, "/exact")},
		{NAME("prefix"), PATH(PREFIX, "/pre")},
		{NAME("regex"), .match.path_kind = MESH_PATH_REGEX, .match.path_regex = t_regex(r, "/rx/[0-9]+")},
		{NAME("icase"), PATH(EXACT, "/icase"), .match.ignore_case = true},
		{NAME("hexact"), PATH(PREFIX, "/h"), HEADERS({.name = TEXT("x-e"), .value = {.kind = MESH_MATCH_EXACT, .text = TEXT("v")}})},
		{NAME("hregex"), PATH(PREFIX, "/h"), HEADERS({.name = TEXT("x-r"), .value = {.kind = MESH_MATCH_REGEX, .regex = t_regex(r, "a.*z")}})},
		{NAME("hprefix"), PATH(PREFIX, "/h"), HEADERS({.name = TEXT("x-p"), .value = {.kind = MESH_MATCH_PREFIX, .text = TEXT("pp")}})},
		{NAME("hpresent"), PATH(PREFIX, "/h"), HEADERS({.name = TEXT("x-any"), .value = {.kind = MESH_MATCH_PRESENT}})},
		{NAME("without"), PATH(PREFIX, "/w"),
		 HEADERS({.name = TEXT("x-no"), .value = {.kind = MESH_MATCH_EXACT, .text = TEXT("1")}, .invert = true, .treat_missing_as_empty = true})},
		{NAME("wgone"), PATH(PREFIX, "/g"), HEADERS({.name = TEXT("x-no"), .value = {.kind = MESH_MATCH_PRESENT}, .invert = true})},
		{NAME("qexact"), PATH(PREFIX, "/q"), QUERY({.name = TEXT("a"), .value = {.kind = MESH_MATCH_EXACT, .text = TEXT("1")}})},
		{NAME("qregex"), PATH(PREFIX, "/q"), QUERY({.name = TEXT("b"), .value = {.kind = MESH_MATCH_REGEX, .regex = t_regex(r, "[0-9]+")}})},
		{NAME("method"), PATH(PREFIX, "/m"), HEADERS({.name = TEXT(":method"), .value = {.kind = MESH_MATCH_EXACT, .text = TEXT("PUT")}})},
		{NAME("port"), PATH(PREFIX, "/port")},
		{NAME("scheme"), PATH(PREFIX, "/s"), HEADERS({.name = TEXT(":scheme"), .value = {.kind = MESH_MATCH_EXACT, .text = TEXT("https")}})},
		{NAME("auth"), PATH(PREFIX, "/auth"), HEADERS({.name = TEXT(":authority"), .value = {.kind = MESH_MATCH_REGEX, .regex = t_regex(r, "web.*")}})},
		{NAME("or"), PATH(EXACT, "/or1")},
		{NAME("or"), PATH(EXACT, "/or2")},
	};
	struct mesh_route *copy = foil_blob_array(&r->res.blob, FOIL_COUNT_OF(routes), sizeof(routes[0]));

	memcpy(copy, routes, sizeof(routes));
	for (size_t i = 0; i < FOIL_COUNT_OF(routes); i++) { /* the conditions were this function's: copy them too */
		struct mesh_route_match *m = &copy[i].match;
		struct mesh_header_match *h = foil_blob_array(&r->res.blob, m->n_headers, sizeof(*h));
		struct mesh_query_match *q = foil_blob_array(&r->res.blob, m->n_query, sizeof(*q));
		if (m->n_headers)
			memcpy(h, m->headers, m->n_headers * sizeof(*h));
		if (m->n_query)
			memcpy(q, m->query, m->n_query * sizeof(*q));
		m->headers = h;
		m->query = q;
	}
	t_routes_build(r, &(const struct t_vhost){"web", T_DOMAINS("web.example.com"), copy, FOIL_COUNT_OF(routes)}, 1);
}

static void test_route_matches_as_envoy_was_recorded(void **state)
{
	static const struct {
		const char *path, *header, *value, *method, *scheme, *name;
	} steps[] = {
		{"/exact", .name = "exact"}, {"/exact/", .name = "404"}, {"/prefix/x", .name = "prefix"}, {"/rx/12", .name = "regex"},
		{"/rx/12?q", .name = "regex"}, {"/ICASE", .name = "icase"}, {"/h", "x-e", "v", .name = "hexact"}, {"/h", "x-e", "V", .name = "404"},
		{"/h", "x-r", "abcz", .name = "hregex"}, {"/h", "x-p", "pp1", .name = "hprefix"}, {"/h", .name = "404"}, {"/h", "x-any", "",
		.name = "hpresent"},
		{"/w", "x-no", "1", .name = "404"}, {"/w", "x-no", "2", .name = "without"}, {"/w", .name = "without"}, {"/g", .name = "wgone"},
		{"/g", "x-no", "", .name = "404"}, {"/q?a=1", .name = "qexact"}, {"/q?a=1&a=2", .name = "qexact"}, {"/q?a=2&a=1", .name = "404"},
		{"/q?b=77", .name = "qregex"}, {"/q?b=7x", .name = "404"}, {"/q?x&a=1#", .name = "404"}, {"/m", .method = "PUT", .name = "method"}, {"/m",
		.name = "404"},
		{"/port", .name = "port"}, {"/s", .name = "404"}, {"/s", .scheme = "https", .name = "scheme"}, {"/auth", .name = "auth"}, {"/or2",
		.name = "or"},
		{"/none", .name = "404"}, {"/EXACT", .name = "404"}, {"/exact?/pre", .name = "exact"},
	};
	struct foil_worker *w = t_worker(0);
	struct mesh_routes r = {0};

	recorded_routes(&r);
	for (size_t i = 0; i < FOIL_COUNT_OF(steps); i++) {
		struct http_head head = request(steps[i].path);
		struct http_header h = {.name = foil_slice_str(steps[i].header), .value = foil_slice_str(steps[i].value)};
		head.headers = (struct http_headers){.list = &h, .n = steps[i].header != NULL, .cap = 1};
		if (steps[i].method)
			head.method_text = foil_slice_str(steps[i].method);
		if (steps[i].scheme)
			head.scheme = foil_slice_str(steps[i].scheme);
		if (strcmp(name_of(w, &r, &head), steps[i].name) != 0)
			fail_msg("%s: %s, not %s", steps[i].path, name_of(w, &r, &head), steps[i].name);
	}
	t_routes_free(&r);
	t_worker_free(w);
	(void)state;
}

/* ---- conditions ---- */
static bool header_condition(struct foil_worker *w, const struct mesh_header_match *m, struct http_header *list, uint16_t n)
{
	struct mesh_route route = {NAME("yes"), PATH(PREFIX, "/"), .match.headers = m, .match.n_headers = 1};
	struct mesh_routes r = {0};
	struct http_head head = request("/");

	head.headers = (struct http_headers){.list = list, .n = n, .cap = n};
	t_routes_build(&r, &(const struct t_vhost){"any", T_DOMAINS("*"), &route, 1}, 1);
	bool is = strcmp(name_of(w, &r, &head), "yes") == 0;
	foil_blob_free(&r.res.blob);
	return is;
}

static void test_header_lines_of_one_name_match_each_by_itself(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct http_header list[] = {
		{.name = TEXT("x-a"), .value = TEXT("1")}, {.name = TEXT("x-b"), .value = TEXT("x")}, {.name = TEXT("x-a"), .value = TEXT("2")},
		{.name = TEXT("x-a"), .value = TEXT("3"), .is_removed = true},
	};
	struct mesh_header_match m = {.name = TEXT("x-a"), .value = {.kind = MESH_MATCH_EXACT, .text = TEXT("1,2")}};

	assert_false(header_condition(w, &m, list, 4));
	m.value.text = FOIL_SLICE("2");
	assert_true(header_condition(w, &m, list, 4));
	m.value.text = FOIL_SLICE("3");
	assert_false(header_condition(w, &m, list, 4));
	m.invert = true; /* "is not": none of them is */
	assert_true(header_condition(w, &m, list, 4));
	m.value.text = FOIL_SLICE("1");
	assert_false(header_condition(w, &m, list, 4));
	t_worker_free(w);
	(void)state;
}

static void test_header_that_is_missing_matches_no_value(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct mesh_header_match m = {.name = TEXT("x-a"), .value = {.kind = MESH_MATCH_EXACT, .text = TEXT("")}};

	assert_false(header_condition(w, &m, NULL, 0));
	m.invert = true;
	assert_false(header_condition(w, &m, NULL, 0)); /* inverted or not */
	m.treat_missing_as_empty = true;
	assert_false(header_condition(w, &m, NULL, 0));
	m.invert = false;
	assert_true(header_condition(w, &m, NULL, 0));
	m.value.kind = MESH_MATCH_PRESENT;
	assert_true(header_condition(w, &m, NULL, 0));
	t_worker_free(w);
	(void)state;
}

static void test_header_kinds_with_and_without_case(void **state)
{
	static const struct {
		enum mesh_match_kind kind;
		bool ignore_case;
		const char *text;
		bool is;
	} cases[] = {
		{MESH_MATCH_EXACT, false, "AbcD", true}, {MESH_MATCH_EXACT, false, "abcd", false}, {MESH_MATCH_EXACT, true, "abcd", true},
		{MESH_MATCH_PREFIX, false, "Ab", true}, {MESH_MATCH_PREFIX, false, "ab", false}, {MESH_MATCH_PREFIX, true, "ab", true},
		{MESH_MATCH_PREFIX, true, "abcde", false}, {MESH_MATCH_SUFFIX, false, "cD", true}, {MESH_MATCH_SUFFIX, true, "cd", true},
		{MESH_MATCH_SUFFIX, false, "cd", false}, {MESH_MATCH_CONTAINS, false, "bc", true}, {MESH_MATCH_CONTAINS, false, "BC", false},
		{MESH_MATCH_CONTAINS, true, "bcd", true}, {MESH_MATCH_CONTAINS, true, "bcda", false}, {MESH_MATCH_CONTAINS, true, "", true},
	};
	struct foil_worker *w = t_worker(0);
	struct http_header h = {.name = TEXT("x-a"), .value = TEXT("AbcD")};

	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct mesh_header_match m = {.name = TEXT("x-a"),
					      .value = {.kind = cases[i].kind, .ignore_case = cases[i].ignore_case, .text = foil_slice_str(cases[i].text)}};
		if (header_condition(w, &m, &h, 1) != cases[i].is)
			fail_msg("kind %d, '%s'", (int)cases[i].kind, cases[i].text);
	}
	t_worker_free(w);
	(void)state;
}

static void test_header_host_is_the_authority(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct mesh_header_match m = {.name = TEXT("host"), .id = HTTP_HDR_HOST, .value = {.kind = MESH_MATCH_EXACT, .text = TEXT("web.example.com")}};

	assert_true(header_condition(w, &m, NULL, 0));
	t_worker_free(w);
	(void)state;
}

static void test_query_first_occurrence_and_no_decoding(void **state)
{
	static const struct {
		const char *path;
		enum mesh_match_kind kind;
		const char *value, *name;
	} cases[] = {
		{"/?k", MESH_MATCH_EXACT, "", "yes"}, {"/?k=", MESH_MATCH_EXACT, "", "yes"}, {"/?kk=1", MESH_MATCH_PRESENT, "", "404"},
		{"/?a=k", MESH_MATCH_PRESENT, "", "404"}, {"/?a&k=%31", MESH_MATCH_EXACT, "1", "404"}, {"/?a&k=%31", MESH_MATCH_EXACT, "%31", "yes"},
		{"/?k=x&k=y", MESH_MATCH_EXACT, "y", "404"}, {"/", MESH_MATCH_PRESENT, "", "404"}, {"/?", MESH_MATCH_PRESENT, "", "404"},
		{"/?&&k=a=b&", MESH_MATCH_EXACT, "a=b", "yes"}, {"/?x?k=1", MESH_MATCH_PRESENT, "", "404"}, {"/?K=1", MESH_MATCH_PRESENT, "", "404"},
		{"/?k=abc", MESH_MATCH_PREFIX, "ab", "yes"},
	};
	struct foil_worker *w = t_worker(0);

	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct mesh_query_match q = {.name = TEXT("k"), .value = {.kind = cases[i].kind, .text = foil_slice_str(cases[i].value)}};
		struct mesh_route route = {NAME("yes"), PATH(PREFIX, "/"), .match.query = &q, .match.n_query = 1};
		struct mesh_routes r = {0};
		struct http_head head = request(cases[i].path);
		t_routes_build(&r, &(const struct t_vhost){"any", T_DOMAINS("*"), &route, 1}, 1);
		if (strcmp(name_of(w, &r, &head), cases[i].name) != 0)
			fail_msg("%s", cases[i].path);
		t_routes_free(&r);
	}
	t_worker_free(w);
	(void)state;
}

static void test_segment_prefix_ends_at_a_slash(void **state)
{
	static const struct mesh_route route = {NAME("yes"), PATH(SEGMENT_PREFIX, "/foo")};
	struct foil_worker *w = t_worker(0);
	struct mesh_routes r = {0};
	static const char *const yes[] = {"/foo", "/foo/", "/foo/x", "/foo?x"}, *const no[] = {"/foobar", "/fo", "/Foo"};

	t_routes_build(&r, &(const struct t_vhost){"any", T_DOMAINS("*"), &route, 1}, 1);
	for (size_t i = 0; i < FOIL_COUNT_OF(yes); i++) {
		struct http_head head = request(yes[i]);
		assert_string_equal(name_of(w, &r, &head), "yes");
	}
	for (size_t i = 0; i < FOIL_COUNT_OF(no); i++) {
		struct http_head head = request(no[i]);
		assert_string_equal(name_of(w, &r, &head), "404");
	}
	t_routes_free(&r);
	t_worker_free(w);
	(void)state;
}

/* ---- the index ---- */
/* The first match in order, by the rules of VS-8 alone. */
static uint32_t in_order(struct foil_worker *w, const struct mesh_route *routes, uint32_t n, struct foil_slice path)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct mesh_route_match *m = &routes[i].match;
		struct foil_slice start = foil_slice_of(path.data, FOIL_MIN(path.n_bytes, m->path.n_bytes));
		bool same = m->ignore_case ? foil_slice_eq_nocase(start, m->path) : foil_slice_eq(start, m->path);
		bool is = false;
		switch (m->path_kind) {
		case MESH_PATH_EXACT: is = same && path.n_bytes == m->path.n_bytes; break;
		case MESH_PATH_PREFIX: is = same; break;
		case MESH_PATH_SEGMENT_PREFIX: is = same && (path.n_bytes == m->path.n_bytes || path.data[m->path.n_bytes] == '/'); break;
		case MESH_PATH_REGEX: is = foil_regex_full_match(m->path_regex->by_worker[w->id], path); break;
		}
		if (is)
			return i;
	}
	return n;
}

static void random_path(struct foil_worker *w, char *out, uint32_t *n_bytes)
{
	*n_bytes = 1 + foil_prng_below(&w->prng, 6);
	out[0] = '/';
	for (uint32_t i = 1; i < *n_bytes; i++)
		out[i] = "aAb/"[foil_prng_below(&w->prng, 4)];
}

#define RANDOM_ROUTES 60
static void test_index_finds_what_a_search_in_order_finds(void **state)
{
	struct foil_worker *w = t_worker(.seed = 11);
	char text[8];
	uint32_t n;

	for (int table = 0; table < 200; table++) {
		struct mesh_routes r = {0};
		uint32_t n_routes = 1 + foil_prng_below(&w->prng, RANDOM_ROUTES);
		struct mesh_route *routes = foil_blob_array(&r.res.blob, n_routes, sizeof(*routes));
		for (uint32_t i = 0; i < n_routes; i++) {
			struct mesh_route_match *m = &routes[i].match;
			random_path(w, text, &n);
			m->path_kind = (enum mesh_path_kind)foil_prng_below(&w->prng, 4);
			m->ignore_case = m->path_kind != MESH_PATH_REGEX && foil_prng_below(&w->prng, 3) == 0;
			for (uint32_t c = 0; c < n && m->ignore_case; c++)
				text[c] = foil_ascii_lower(text[c]);
			m->path = foil_blob_copy(&r.res.blob, text, n);
			if (m->path_kind == MESH_PATH_REGEX)
				m->path_regex = t_regex(&r, foil_prng_below(&w->prng, 2) ? "/a.*b" : "/[ab]{3}");
		}
		t_routes_build(&r, &(const struct t_vhost){"any", T_DOMAINS("*"), routes, n_routes}, 1);
		for (int i = 0; i < 100; i++) {
			struct http_head head = request("");
			struct mesh_route_result out;
			random_path(w, text, &n);
			head.path = foil_slice_of(text, n);
			mesh_route_find(w, &r, &head, &out);
			uint32_t expected = in_order(w, routes, n_routes, head.path);
			assert_ptr_equal(out.route, expected < n_routes ? &routes[expected] : NULL);
		}
		t_routes_free(&r);
	}
	t_worker_free(w);
	(void)state;
}

/* Ten thousand routes, half exact and half prefix, a catch-all at the end: each is found under its own path. */
#define MANY 10000u
/* A table of one path and conditions on three headers, as routes and as requests draw them. */
static const char *const header_names[] = {"x-a", "x-b", "x-c"};
static const char *const header_values[] = {"1", "2", "Two", "two", "3"};

static struct mesh_header_match random_condition(struct foil_worker *w)
{
	struct mesh_header_match m = {.name = foil_slice_str(header_names[foil_prng_below(&w->prng, 3)]), .id = HTTP_HDR_OTHER};

	m.value.kind = foil_prng_below(&w->prng, 8) ? MESH_MATCH_EXACT : MESH_MATCH_PREFIX;
	m.value.text = foil_slice_str(header_values[foil_prng_below(&w->prng, FOIL_COUNT_OF(header_values))]);
	m.value.ignore_case = foil_prng_below(&w->prng, 4) == 0;
	m.invert = foil_prng_below(&w->prng, 6) == 0;
	m.treat_missing_as_empty = foil_prng_below(&w->prng, 8) == 0;
	return m;
}

static uint32_t in_order_by_headers(struct foil_worker *w, const struct mesh_route *routes, uint32_t n, const struct http_head *head)
{
	for (uint32_t i = 0; i < n; i++) {
		bool is = true;
		for (uint16_t h = 0; h < routes[i].match.n_headers; h++)
			is = is && mesh_header_match(w, &routes[i].match.headers[h], head);
		if (is)
			return i;
	}
	return n;
}

static void test_header_index_finds_what_a_search_in_order_finds(void **state)
{
	struct foil_worker *w = t_worker(.seed = 12);

	for (int table = 0; table < 200; table++) {
		struct mesh_routes r = {0};
		uint32_t n_routes = 9 + foil_prng_below(&w->prng, 60);
		struct mesh_route *routes = foil_blob_array(&r.res.blob, n_routes, sizeof(*routes));
		for (uint32_t i = 0; i < n_routes; i++) {
			struct mesh_route_match *m = &routes[i].match;
			m->path = FOIL_SLICE("/");
			m->n_headers = (uint16_t)(foil_prng_below(&w->prng, 30) ? 1 + foil_prng_below(&w->prng, 3) : 0);
			struct mesh_header_match *headers = foil_blob_array(&r.res.blob, 3, sizeof(*headers));
			for (uint16_t h = 0; h < m->n_headers; h++)
				headers[h] = random_condition(w);
			m->headers = headers;
		}
		t_routes_build(&r, &(const struct t_vhost){"any", T_DOMAINS("*"), routes, n_routes}, 1);
		for (int i = 0; i < 100; i++) {
			struct http_head head = request("/x");
			struct http_header lines[4];
			struct mesh_route_result out;
			head.headers = (struct http_headers){.list = lines, .n = (uint16_t)foil_prng_below(&w->prng, 5), .cap = 4};
			for (uint16_t h = 0; h < head.headers.n; h++)
				lines[h] = (struct http_header){.name = foil_slice_str(header_names[foil_prng_below(&w->prng, 3)]), .id = HTTP_HDR_OTHER,
								.value = foil_slice_str(header_values[foil_prng_below(&w->prng, 5)]),
								.is_removed = foil_prng_below(&w->prng, 10) == 0};
			mesh_route_find(w, &r, &head, &out);
			uint32_t expected = in_order_by_headers(w, routes, n_routes, &head);
			assert_ptr_equal(out.route, expected < n_routes ? &routes[expected] : NULL);
		}
		t_routes_free(&r);
	}
	t_worker_free(w);
	(void)state;
}

static void test_index_of_ten_thousand_routes(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct mesh_routes r = {0};
	struct mesh_route *routes = foil_blob_array(&r.res.blob, MANY + 1, sizeof(*routes));
	char text[64];

	for (uint32_t i = 0; i < MANY; i++) {
		snprintf(text, sizeof(text), "/api/v1/service-%u/%s", i, i % 2 ? "items" : "");
		routes[i].match = (struct mesh_route_match){.path_kind = i % 2 ? MESH_PATH_EXACT : MESH_PATH_PREFIX, .path = t_copy(&r, text)};
	}
	routes[MANY].match = (struct mesh_route_match){.path_kind = MESH_PATH_PREFIX, .path = FOIL_SLICE("/")};
	t_routes_build(&r, &(const struct t_vhost){"any", T_DOMAINS("*"), routes, MANY + 1}, 1);
	for (uint32_t i = 0; i < MANY; i++) {
		struct mesh_route_result out;
		snprintf(text, sizeof(text), "/api/v1/service-%u/items?q=1", i);
		struct http_head head = request(text);
		mesh_route_find(w, &r, &head, &out);
		assert_ptr_equal(out.route, &routes[i]);
	}
	struct mesh_route_result out;
	struct http_head head = request("/elsewhere");
	mesh_route_find(w, &r, &head, &out);
	assert_ptr_equal(out.route, &routes[MANY]);
	t_routes_free(&r);
	t_worker_free(w);
	(void)state;
}

/* ---- regular expressions by the texts that they need ---- */
#define N_PATTERNS 400u

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 16;
}

/* shape with its first '#' a number */
static void fill_in(char *out, size_t cap, const char *shape, uint32_t number)
{
	const char *mark = strchr(shape, '#');

	if (mark)
		snprintf(out, cap, "%.*s%u%s", (int)(mark - shape), shape, number, mark + 1);
	else
		snprintf(out, cap, "%s", shape);
}

/* Shapes with and without a text, in front, in the middle, behind; alternatives; classes; flags; beyond ASCII. */
static void make_pattern(char *out, size_t cap, uint32_t *seed)
{
	static const char *const shapes[] = {
		"/service-#/[a-z]+", ".*/item-#", "/v[12]/user-#/.*", "/(red|green|blue)-#/.*", "(?i)/Case-#/.*", "/[^/]+/#", ".*-#.*", ".*",
		"/(?:one|two)?/deep/path-#/.+", "/\\x{212A}elvin-#", "/k-#(/.*)?", "/\\Qa+b\\E-#",
		"/UPPER-#/[A-Z]*", "/\u00e9t\u00e9-#", "/\\d+/num-#", "(/a|/b-#.*)",
		"/esc\\.\\/#\\?", "/(long|longer|longest)/(x|y)/z-#", "/#{2}", "/\\pL+-#",
		"|/empty-#", "/service-#/.*", "(?:/nested(?:/more-#)+)", "/$-#", "/\\bword-#\\b",
	};
	const char *shape = shapes[next_random(seed) % FOIL_COUNT_OF(shapes)];

	fill_in(out, cap, shape, next_random(seed) % 12);
}

static void make_path(char *out, size_t cap, uint32_t *seed)
{
	static const char *const shapes[] = {
		"/service-#/items", "/x/item-#", "/v1/user-#/y", "/v2/user-#/", "/green-#/g",
		"/CASE-#/x", "/any/#", "/a-#-b", "/one/deep/path-#/q", "//deep/path-#/q",
		"/\u212aelvin-#", "/k-#/z", "/a+b-#", "/UPPER-#/AB", "/upper-#/ab",
		"/\u00e9t\u00e9-#", "/\u00c9T\u00c9-#", "/17/num-#", "/b-#q", "/esc.//#?", "/longer/y/z-#",
		"/#1", "/abc-#", "/empty-#", "", "/nested/more-#/more-1", "/word-#", "/service-#/items/service-3/items/item-4/user-5/green-6",
	};
	const char *shape = shapes[next_random(seed) % FOIL_COUNT_OF(shapes)];

	fill_in(out, cap, shape, next_random(seed) % 12);
}

static struct mesh_route *regex_routes(struct mesh_routes *r, uint32_t n, uint32_t *seed)
{
	struct mesh_route *routes = foil_blob_array(&r->res.blob, n, sizeof(*routes));
	struct mesh_header_match *tenant = foil_blob_array(&r->res.blob, n, sizeof(*tenant));
	char text[64];

	for (uint32_t i = 0; i < n; i++) {
		make_pattern(text, sizeof(text), seed);
		routes[i].match = (struct mesh_route_match){.path_kind = MESH_PATH_REGEX, .path_regex = t_regex(r, text)};
		if (next_random(seed) % 3)
			continue;
		snprintf(text, sizeof(text), "t%u", next_random(seed) % 3);
		tenant[i] = (struct mesh_header_match){.name = FOIL_SLICE("x-tenant"), .value = {.kind = MESH_MATCH_EXACT, .text = t_copy(r, text)}};
		routes[i].match.headers = &tenant[i];
		routes[i].match.n_headers = 1;
	}
	return routes;
}

static uint32_t first_in_order(const struct mesh_route *routes, uint32_t n, const char *path, const char *tenant)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct mesh_route_match *m = &routes[i].match;
		if (foil_regex_full_match(m->path_regex->by_worker[0], mesh_path_only(foil_slice_str(path))) &&
		    (m->n_headers == 0 || foil_slice_eq(m->headers[0].value.text, foil_slice_str(tenant))))
			return i;
	}
	return n;
}

static void test_regex_index_finds_what_a_search_in_order_finds(void **state)
{
	struct foil_worker *w = t_worker(0);

	for (uint32_t round = 0; round < 30; round++) {
		uint32_t seed = round, n = 9 + round * 13 % N_PATTERNS, n_found = 0;
		struct mesh_routes r = {0};
		struct mesh_route *routes = regex_routes(&r, n, &seed);
		t_routes_build(&r, &(const struct t_vhost){"any", T_DOMAINS("*"), routes, n}, 1);
		for (uint32_t i = 0; i < 300; i++) {
			char path[128], tenant[8];
			struct http_header h = {.name = FOIL_SLICE("x-tenant"), .id = HTTP_HDR_OTHER};
			struct mesh_route_result out;
			make_path(path, sizeof(path), &seed);
			snprintf(tenant, sizeof(tenant), "t%u", next_random(&seed) % 4);
			h.value = foil_slice_str(tenant);
			struct http_head head = request(path);
			head.headers = (struct http_headers){.list = &h, .n = 1, .cap = 1};
			mesh_route_find(w, &r, &head, &out);
			uint32_t expected = first_in_order(routes, n, path, tenant), got = out.route ? (uint32_t)(out.route - routes) : n;
			if (got != expected)
				fail_msg("round %u, path %s, tenant %s: route %u, not %u (of %u)", round, path, tenant, got, expected, n);
			n_found += got < n;
		}
		assert_true(n_found > 10);
		t_routes_free(&r);
	}
	t_worker_free(w);
	(void)state;
}

/* A path that holds the texts of many expressions is tried in order, and still finds the first. */
static void test_regex_index_bears_a_path_that_names_many(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct mesh_routes r = {0};
	struct mesh_route routes[200] = {0};
	char text[64], path[8192] = "";
	struct mesh_route_result out;

	for (uint32_t i = 0; i < 200; i++) {
		snprintf(text, sizeof(text), ".*/many-%03u/.*", 199 - i);
		routes[i].match = (struct mesh_route_match){.path_kind = MESH_PATH_REGEX, .path_regex = t_regex(&r, text)};
	}
	t_routes_build(&r, &(const struct t_vhost){"any", T_DOMAINS("*"), routes, 200}, 1);
	for (uint32_t i = 0; i < 200; i++)
		snprintf(path + strlen(path), sizeof(path) - strlen(path), "/many-%03u/x", i);
	struct http_head head = request(path);
	mesh_route_find(w, &r, &head, &out);
	assert_ptr_equal(out.route, &routes[0]);
	head.path = FOIL_SLICE("/a/many-007/b");
	mesh_route_find(w, &r, &head, &out);
	assert_ptr_equal(out.route, &routes[192]);
	t_routes_free(&r);
	t_worker_free(w);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vhost_exact_then_longest_suffix_then_longest_prefix_then_any),
		cmocka_unit_test(test_vhost_none_when_no_domain_matches),
		cmocka_unit_test(test_vhost_a_domain_twice_is_refused),
		cmocka_unit_test(test_vhost_a_domain_that_is_none_is_refused),
		cmocka_unit_test(test_routes_index_says_when_the_budget_is_spent),
		cmocka_unit_test(test_route_matches_as_envoy_was_recorded),
		cmocka_unit_test(test_header_lines_of_one_name_match_each_by_itself),
		cmocka_unit_test(test_header_that_is_missing_matches_no_value),
		cmocka_unit_test(test_header_kinds_with_and_without_case),
		cmocka_unit_test(test_header_host_is_the_authority),
		cmocka_unit_test(test_query_first_occurrence_and_no_decoding),
		cmocka_unit_test(test_segment_prefix_ends_at_a_slash),
		cmocka_unit_test(test_index_finds_what_a_search_in_order_finds),
		cmocka_unit_test(test_header_index_finds_what_a_search_in_order_finds),
		cmocka_unit_test(test_index_of_ten_thousand_routes),
		cmocka_unit_test(test_regex_index_finds_what_a_search_in_order_finds),
		cmocka_unit_test(test_regex_index_bears_a_path_that_names_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
