/* What a route does to the path on its way to the upstream (features.md VS-25..VS-27); redirects with prefixRewrite use the same.
 *
 * The query is never rewritten. A prefix match replaces the matched prefix, an exact or regex match the whole path. A regex rewrite
 * replaces every match that does not overlap an earlier one, as RE2::GlobalReplace does, empty matches included. A result that does not
 * begin with a slash gets one: what a stranger captures ("/http://other/") must not become an absolute target, nor a request line without any.
 * Where a regex leaves nothing, the path stays as it was (Envoy), which *out == path in place tells. */
#include <errno.h>

#include "dataplane/mesh/match_priv.h"
#include "dataplane/mesh/rewrite_priv.h"

/* Bytes go to data when there is one; counted in any case, so that one pass can measure for the next. */
struct sink {
	char *data;
	size_t n;
};

static void put(struct sink *s, struct foil_slice text)
{
	if (s->data && text.n_bytes)
		memcpy(s->data + s->n, text.data, text.n_bytes);
	s->n += text.n_bytes;
}

/* \0..\9 are groups, \\ is a backslash; any other pair stands for itself (RE2 refuses those when the route is compiled). */
static void put_substitution(struct sink *s, struct foil_slice text, const struct foil_slice groups[FOIL_REGEX_GROUPS_MAX])
{
	for (uint32_t i = 0; i < text.n_bytes; i++) {
		char next = i + 1 < text.n_bytes ? text.data[i + 1] : '\0';

		if (text.data[i] != '\\' || !((next >= '0' && next <= '9') || next == '\\')) {
			put(s, foil_slice_of(text.data + i, 1));
			continue;
		}
		i++;
		put(s, next == '\\' ? foil_slice_of(text.data + i, 1) : groups[next - '0']);
	}
}

static void replace_all(const struct foil_regex *re, struct foil_slice text, struct foil_slice substitution, struct sink *s)
{
	struct foil_slice groups[FOIL_REGEX_GROUPS_MAX];
	uint32_t at = 0, last_end = UINT32_MAX;

	while (at <= text.n_bytes && foil_regex_search(re, text, at, groups)) {
		uint32_t begin = (uint32_t)(groups[0].data - text.data), end = begin + groups[0].n_bytes;

		put(s, foil_slice_of(text.data + at, begin - at));
		at = begin;
		if (groups[0].n_bytes == 0 && begin == last_end) { /* an empty match where the last one ended: one byte on */
			if (at < text.n_bytes)
				put(s, foil_slice_of(text.data + at, 1));
			at++;
			continue;
		}
		put_substitution(s, substitution, groups);
		at = last_end = end;
	}
	if (at < text.n_bytes)
		put(s, foil_slice_of(text.data + at, text.n_bytes - at));
}

static void rewrite_regex(struct foil_worker *w, const struct mesh_route_action *action, struct foil_slice path, struct sink *s)
{
	struct foil_slice only = mesh_path_only(path);

	FOIL_ASSERT(w->id < action->regex_rewrite->n_workers);
	replace_all(action->regex_rewrite->by_worker[w->id], only, action->regex_substitution, s);
	put(s, foil_slice_of(path.data + only.n_bytes, path.n_bytes - only.n_bytes));
}

/* s began with a slash to spare: it is kept when the path behind it has none. */
static struct foil_slice with_slash(const struct sink *s)
{
	bool has_own = s->n > 1 && s->data[1] == '/';

	return foil_slice_of(s->data + has_own, s->n - has_own);
}

static bool is_prefix_match(const struct mesh_route_match *m)
{
	return m->path_kind == MESH_PATH_PREFIX || m->path_kind == MESH_PATH_SEGMENT_PREFIX;
}

int mesh_rewrite_prefix(struct foil_worker *w, struct foil_arena *a, const struct mesh_route_match *m, struct foil_slice with, struct foil_slice path,
		   struct foil_slice *out)
{
	uint32_t n_path = mesh_path_only(path).n_bytes, n_matched = is_prefix_match(m) ? FOIL_MIN(m->path.n_bytes, n_path) : n_path;
	struct sink s = {.data = foil_arena_alloc(w, a, 1 + (size_t)with.n_bytes + path.n_bytes - n_matched)};

	if (!s.data)
		return -ENOBUFS;
	put(&s, FOIL_SLICE("/"));
	put(&s, with);
	put(&s, foil_slice_of(path.data + n_matched, path.n_bytes - n_matched));
	*out = with_slash(&s);
	return 0;
}

int mesh_route_rewrite(struct foil_worker *w, struct foil_arena *a, const struct mesh_route *route, struct foil_slice path, struct foil_slice *out)
{
	const struct mesh_route_action *action = &route->route;
	struct sink measured = {.data = NULL};

	if (!action->regex_rewrite && !action->has_prefix_rewrite) {
		*out = path;
		return 0;
	}
	if (!action->regex_rewrite)
		return mesh_rewrite_prefix(w, a, &route->match, action->prefix_rewrite, path, out);
	rewrite_regex(w, action, path, &measured);
	if (measured.n == path.n_bytes - mesh_path_only(path).n_bytes) {
		*out = path;
		return 0;
	}
	if (measured.n > FOIL_ARENA_BYTES_MAX)
		return -ENOBUFS;
	struct sink written = {.data = foil_arena_alloc(w, a, 1 + measured.n)};
	if (!written.data)
		return -ENOBUFS;
	put(&written, FOIL_SLICE("/"));
	rewrite_regex(w, action, path, &written);
	*out = with_slash(&written);
	return 0;
}
