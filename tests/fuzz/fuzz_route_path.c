/* Path normalisation, then route match, rewrite and redirect, on hostile requests.
 *
 * Input: one byte of mode, then authority, path and one header's value, separated by line feeds. What must hold: a normalised path is normal, has no
 * dot segment and no fragment; the index finds the route that a search in order finds; a rewritten path begins with a slash. */
#include "tests/unit/mesh/routes.h"

#include "dataplane/mesh/match_priv.h"
#include "dataplane/mesh/path.h"

#include "dataplane/core/base.h"

#define N_ROUTES 12u
#define TEXT(s) {s, sizeof(s) - 1}

static struct foil_worker *w;
static struct mesh_routes routes;
static struct mesh_route list[N_ROUTES];

static void build(void)
{
	static struct mesh_header_match header = {.name = TEXT("x-a"), .value = {.kind = MESH_MATCH_CONTAINS, .ignore_case = true, .text = TEXT("ab")}};
	static struct mesh_query_match query = {.name = TEXT("q"), .value = {.kind = MESH_MATCH_PREFIX, .text = TEXT("1")}};
	const struct mesh_route_match matches[N_ROUTES] = {
		{.path_kind = MESH_PATH_EXACT, .path = TEXT("/a/b")}, {.path_kind = MESH_PATH_PREFIX, .path = TEXT("/a/"), .query = &query, .n_query = 1},
		{.path_kind = MESH_PATH_REGEX, .path_regex = t_regex(&routes, "/r/[a-z]*/?")}, {.path_kind = MESH_PATH_SEGMENT_PREFIX, .path = TEXT("/a")},
		{.path_kind = MESH_PATH_PREFIX, .path = TEXT("/a"), .ignore_case = true, .headers = &header, .n_headers = 1},
		{.path_kind = MESH_PATH_EXACT, .path = TEXT("/case"), .ignore_case = true}, {.path_kind = MESH_PATH_PREFIX, .path = TEXT("//")},
		{.path_kind = MESH_PATH_EXACT, .path = TEXT("/a/b/"), .headers = &header, .n_headers = 1}, {.path_kind = MESH_PATH_PREFIX,
			.path = TEXT("/long/prefix")},
		{.path_kind = MESH_PATH_EXACT, .path = TEXT("/")}, {.path_kind = MESH_PATH_PREFIX, .path = TEXT("/a/b/c")},
		{.path_kind = MESH_PATH_PREFIX, .path = TEXT("/"), .query = &query, .n_query = 1},
	};

	for (uint32_t i = 0; i < N_ROUTES; i++) {
		list[i].match = matches[i];
		list[i].route = (struct mesh_route_action){.has_prefix_rewrite = i % 2, .prefix_rewrite = TEXT("/x")};
	}
	list[2].route.regex_rewrite = t_regex(&routes, "/?([a-z]*)");
	list[2].route.regex_substitution = FOIL_SLICE("\\1-\\0\\\\");
	t_routes_build(&routes, (const struct t_vhost[]){{"any", T_DOMAINS("*", "a.b", "*.b", "a.*", "[fd00::1]"), list, N_ROUTES}}, 1);
}

static bool is_match(const struct mesh_route *r, const struct http_head *head)
{
	const struct mesh_route_match *m = &r->match;
	struct foil_slice path = mesh_path_only(head->path), start = foil_slice_of(path.data, FOIL_MIN(path.n_bytes, m->path.n_bytes));
	bool same = m->ignore_case ? foil_slice_eq_nocase(start, m->path) : foil_slice_eq(start, m->path), is = same;

	if (m->path_kind == MESH_PATH_EXACT)
		is = same && path.n_bytes == m->path.n_bytes;
	else if (m->path_kind == MESH_PATH_SEGMENT_PREFIX)
		is = same && (path.n_bytes == m->path.n_bytes || path.data[m->path.n_bytes] == '/');
	else if (m->path_kind == MESH_PATH_REGEX)
		is = foil_regex_full_match(m->path_regex->by_worker[0], path);
	return is && (!m->n_headers || mesh_header_match(w, m->headers, head)) && (!m->n_query || mesh_query_match(w, m->query, mesh_path_query(head->path)));
}

static void check_normal(struct foil_arena *a, enum mesh_path_normalization mode, const struct http_head *head)
{
	struct http_head again = *head;
	struct foil_slice path = mesh_path_only(head->path);

	FOIL_ASSERT(mesh_path_normalize(w, a, mode, &again) == MESH_PATH_OK && foil_slice_eq(again.path, head->path));
	FOIL_ASSERT(head->path.n_bytes > 0 && !memchr(head->path.data, '#', head->path.n_bytes));
	if ((mode & MESH_PATHNORM_NONE) || path.data[0] != '/')
		return;
	FOIL_ASSERT(!memmem(path.data, path.n_bytes, "/./", 3) && !memmem(path.data, path.n_bytes, "/../", 4));
	FOIL_ASSERT(!foil_slice_has_suffix(path, FOIL_SLICE("/.")) && !foil_slice_has_suffix(path, FOIL_SLICE("/..")));
	FOIL_ASSERT(!memchr(path.data, '\\', path.n_bytes));
}

static void check_route(struct foil_arena *a, const struct http_head *head)
{
	struct mesh_route_result found;
	struct foil_slice out;
	uint32_t expected = 0;

	mesh_route_find(w, &routes, head, &found);
	while (expected < N_ROUTES && !is_match(&list[expected], head))
		expected++;
	FOIL_ASSERT(found.vhost && found.route == (expected < N_ROUTES ? &list[expected] : NULL));
	if (!found.route)
		return;
	if (mesh_route_rewrite(w, a, found.route, head->path, &out) == 0)
		FOIL_ASSERT(out.n_bytes > 0 && (out.data[0] == '/' || out.data == head->path.data));
	struct mesh_route redirect = {.match = found.route->match, .redirect = {.scheme = FOIL_SLICE("https"), .port_from_request = true}};
	if (mesh_redirect_location(w, a, &redirect, head, FOIL_SLICE("http"), &out) == 0)
		FOIL_ASSERT(foil_slice_has_prefix(out, FOIL_SLICE("https://")));
}

static struct foil_slice take_line(struct foil_slice *rest)
{
	const char *end = rest->n_bytes ? memchr(rest->data, '\n', rest->n_bytes) : NULL;
	struct foil_slice line = end ? foil_slice_of(rest->data, (size_t)(end - rest->data)) : *rest;
	uint32_t used = line.n_bytes + (end != NULL);

	*rest = foil_slice_of(rest->data + used, rest->n_bytes - used);
	return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	struct foil_arena a = {0};

	if (!w) {
		w = t_worker(0);
		build();
	}
	if (n_bytes < 2 || n_bytes > 60 * 1024)
		return 0;
	static const unsigned int modes[] = {MESH_PATHNORM_BASE, MESH_PATHNORM_NONE, MESH_PATHNORM_MERGE_SLASHES, MESH_PATHNORM_DECODE_AND_MERGE_SLASHES,
					     MESH_PATHNORM_DECODE_SLASHES, MESH_PATHNORM_NONE | MESH_PATHNORM_DECODE_AND_MERGE_SLASHES,
					     MESH_PATHNORM_DECODE_AND_MERGE_SLASHES | MESH_PATHNORM_REDIRECT_SLASHES, MESH_PATHNORM_REFUSE_SLASHES};
	enum mesh_path_normalization mode = (enum mesh_path_normalization)modes[data[0] % 8];
	struct foil_slice rest = foil_slice_of(data + 1, n_bytes - 1);
	struct http_head head = {.method_text = FOIL_SLICE("GET"), .authority = take_line(&rest), .path = take_line(&rest)};
	struct http_header headers[2] = {{.name = FOIL_SLICE("x-a"), .value = take_line(&rest)}, {.name = FOIL_SLICE("x-a"), .value = rest}};
	head.headers = (struct http_headers){.list = headers, .n = 2, .cap = 2};
	if (head.path.n_bytes && mesh_path_normalize(w, &a, mode, &head) == MESH_PATH_OK) {
		check_normal(&a, mode, &head);
		check_route(&a, &head);
	}
	foil_arena_reset(w, &a);
	return 0;
}
