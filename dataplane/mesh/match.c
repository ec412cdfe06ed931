/* Conditions on a request (features.md VS-8..VS-13), with Envoy's edges:
 * - of several lines of a header each is looked at by itself, and one that matches is enough (Envoy 1.40; VS-10 and older ones join them);
 * - a header that is absent matches no value, not even an inverted one, unless treat_missing_as_empty makes it the empty text;
 * - presence inverts plainly;
 * - a query parameter counts by its first occurrence, is not decoded, and "?key" alone is the empty text.
 * Nothing is allocated. */
#include "dataplane/mesh/match_priv.h"

static bool contains(struct foil_slice text, struct foil_slice part, bool ignore_case)
{
	if (!ignore_case)
		return part.n_bytes == 0 || (text.n_bytes >= part.n_bytes && memmem(text.data, text.n_bytes, part.data, part.n_bytes));
	for (uint32_t i = 0; part.n_bytes <= text.n_bytes && i <= text.n_bytes - part.n_bytes; i++)
		if (foil_slice_eq_nocase(foil_slice_of(text.data + i, part.n_bytes), part))
			return true;
	return false;
}

static bool equal(struct foil_slice a, struct foil_slice b, bool ignore_case)
{
	return ignore_case ? foil_slice_eq_nocase(a, b) : foil_slice_eq(a, b);
}

bool mesh_string_match(struct foil_worker *w, const struct mesh_string_match *m, struct foil_slice text)
{
	uint32_t n = m->text.n_bytes;

	switch (m->kind) {
	case MESH_MATCH_EXACT:
		return equal(text, m->text, m->ignore_case);
	case MESH_MATCH_PREFIX:
		return text.n_bytes >= n && equal(foil_slice_of(text.data, n), m->text, m->ignore_case);
	case MESH_MATCH_SUFFIX:
		return text.n_bytes >= n && equal(foil_slice_of(text.data + (text.n_bytes - n), n), m->text, m->ignore_case);
	case MESH_MATCH_CONTAINS:
		return contains(text, m->text, m->ignore_case);
	case MESH_MATCH_REGEX:
		FOIL_ASSERT(w->id < m->regex->n_workers);
		return foil_regex_full_match(m->regex->by_worker[w->id], text);
	case MESH_MATCH_PRESENT:
		return true;
	}
	FOIL_UNREACHABLE();
}

/* False: the name is not a pseudo header. A request's host is its authority. */
static bool pseudo_value(const struct http_head *head, const struct mesh_header_match *m, struct foil_slice *value)
{
	struct foil_slice name = m->name;

	if (m->id != HTTP_HDR_HOST && (name.n_bytes == 0 || name.data[0] != ':'))
		return false;
	if (foil_slice_eq(name, FOIL_SLICE(":path")))
		*value = head->path;
	else if (foil_slice_eq(name, FOIL_SLICE(":method")))
		*value = head->method_text;
	else if (m->id == HTTP_HDR_HOST || foil_slice_eq(name, FOIL_SLICE(":authority")))
		*value = head->authority;
	else if (foil_slice_eq(name, FOIL_SLICE(":scheme")))
		*value = head->scheme;
	else
		return false;
	return true;
}

static bool is_named(const struct http_header *h, const struct mesh_header_match *m)
{
	if (h->is_removed || h->id != m->id)
		return false;
	return m->id != HTTP_HDR_OTHER || foil_slice_eq(h->name, m->name);
}

/* Is there a line of that name, and does one of them match? */
static bool find(struct foil_worker *w, const struct http_headers *headers, const struct mesh_header_match *m, bool *is_there)
{
	*is_there = false;
	for (uint16_t i = 0; i < headers->n; i++) {
		if (!is_named(&headers->list[i], m))
			continue;
		*is_there = true;
		if (m->value.kind == MESH_MATCH_PRESENT || mesh_string_match(w, &m->value, headers->list[i].value))
			return true;
	}
	return false;
}

bool mesh_header_match(struct foil_worker *w, const struct mesh_header_match *m, const struct http_head *head)
{
	struct foil_slice value = {NULL, 0};
	bool is_there, is;

	if (pseudo_value(head, m, &value)) {
		is_there = value.data != NULL;
		is = is_there && mesh_string_match(w, &m->value, value);
	} else {
		is = find(w, &head->headers, m, &is_there);
	}
	if (m->value.kind == MESH_MATCH_PRESENT)
		return (is_there || m->treat_missing_as_empty) != m->invert;
	if (!is_there && !m->treat_missing_as_empty)
		return false;
	if (!is_there)
		is = mesh_string_match(w, &m->value, value);
	return is != m->invert;
}

bool mesh_query_value(struct foil_slice query, struct foil_slice name, struct foil_slice *value)
{
	for (uint32_t at = 0; at < query.n_bytes;) {
		const char *p = query.data + at, *amp = memchr(p, '&', query.n_bytes - at);
		uint32_t n = amp ? (uint32_t)(amp - p) : query.n_bytes - at;
		const char *equals = n ? memchr(p, '=', n) : NULL;
		uint32_t n_name = equals ? (uint32_t)(equals - p) : n;

		if (foil_slice_eq(foil_slice_of(p, n_name), name)) {
			*value = equals ? foil_slice_of(equals + 1, n - n_name - 1) : FOIL_SLICE("");
			return true;
		}
		at += n + 1;
	}
	return false;
}

bool mesh_query_match(struct foil_worker *w, const struct mesh_query_match *m, struct foil_slice query)
{
	struct foil_slice value;

	return mesh_query_value(query, m->name, &value) && mesh_string_match(w, &m->value, value);
}

struct foil_slice mesh_path_split(struct foil_slice path, struct foil_slice *query)
{
	const char *q = path.n_bytes ? memchr(path.data, '?', path.n_bytes) : NULL;

	*query = q ? foil_slice_of(q + 1, path.n_bytes - (size_t)(q - path.data) - 1) : (struct foil_slice){NULL, 0};
	return q ? foil_slice_of(path.data, (size_t)(q - path.data)) : path;
}

struct foil_slice mesh_path_only(struct foil_slice path)
{
	struct foil_slice query;

	return mesh_path_split(path, &query);
}

struct foil_slice mesh_path_query(struct foil_slice path)
{
	struct foil_slice query;

	(void)mesh_path_split(path, &query); /* the path before it */
	return query;
}
