/* What a route asks of a request: path, headers, query (features.md VS-5..VS-14). Texts that are compared without case are kept in lower case. */
#include "dataplane/config/config_priv.h"

#include "dataplane/http/message.h"

#define CONDITIONS_MAX 1000u

static int text_of(struct snap_dec *d, const char *field, const char *text, enum mesh_match_kind kind, struct mesh_string_match *out)
{
	int rc = snap_text(d, field, text, SNAP_TEXT_VALUE, &out->text);
	out->kind = kind;
	if (rc == 0 && out->ignore_case && kind != MESH_MATCH_REGEX)
		rc = snap_lower(d, &out->text);
	if (rc == 0 && kind == MESH_MATCH_REGEX)
		rc = snap_regex(d, field, out->text, out->ignore_case, &out->regex);
	return rc;
}

static int decode_kind(struct snap_dec *d, const Foil__Conf__StringMatch *m, struct mesh_string_match *out)
{
	switch (m->kind_case) {
	case FOIL__CONF__STRING_MATCH__KIND_EXACT: return text_of(d, "exact", m->exact, MESH_MATCH_EXACT, out);
	case FOIL__CONF__STRING_MATCH__KIND_PREFIX: return text_of(d, "prefix", m->prefix, MESH_MATCH_PREFIX, out);
	case FOIL__CONF__STRING_MATCH__KIND_SUFFIX: return text_of(d, "suffix", m->suffix, MESH_MATCH_SUFFIX, out);
	case FOIL__CONF__STRING_MATCH__KIND_CONTAINS: return text_of(d, "contains", m->contains, MESH_MATCH_CONTAINS, out);
	case FOIL__CONF__STRING_MATCH__KIND_REGEX: return text_of(d, "regex", m->regex, MESH_MATCH_REGEX, out);
	case FOIL__CONF__STRING_MATCH__KIND_PRESENT:
		out->kind = MESH_MATCH_PRESENT;
		return m->present ? 0 : snap_fail(d, "present", "is false; invert the match instead");
	default: return snap_fail(d, NULL, "a match without a condition");
	}
}

int snap_decode_string_match(struct snap_dec *d, const char *field, const Foil__Conf__StringMatch *m, struct mesh_string_match *out)
{
	if (!m)
		return snap_fail(d, field, "is missing");
	uint16_t mark = snap_enter(d, field, -1);
	out->ignore_case = m->ignore_case;
	int rc = decode_kind(d, m, out);
	if (rc == 0)
		snap_leave(d, mark);
	return rc;
}

bool snap_is_pseudo_header(const char *name)
{
	static const char *const names[] = {":method", ":authority", ":scheme", ":path"};
	for (size_t i = 0; i < FOIL_COUNT_OF(names); i++)
		if (name && strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static int decode_header(struct snap_dec *d, const Foil__Conf__HeaderMatch *m, struct mesh_header_match *out)
{
	int rc = snap_text(d, "name", m->name, snap_is_pseudo_header(m->name) ? SNAP_TEXT_NAME : SNAP_TEXT_HEADER, &out->name);
	if (rc == 0)
		rc = snap_decode_string_match(d, "value", m->value, &out->value);
	if (rc < 0)
		return rc;
	out->id = (uint16_t)http_header_intern(out->name);
	out->invert = m->invert;
	out->treat_missing_as_empty = m->treat_missing_as_empty;
	return 0;
}

static int decode_headers(struct snap_dec *d, const Foil__Conf__RouteMatch *m, struct mesh_route_match *out)
{
	struct mesh_header_match *own;
	int rc = snap_list(d, "headers", m->n_headers, 0, CONDITIONS_MAX, sizeof(*own), (void **)&own);
	for (size_t i = 0; rc == 0 && i < m->n_headers; i++) {
		uint16_t mark = snap_enter(d, "headers", (long)i);
		rc = decode_header(d, m->headers[i], &own[i]);
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc < 0)
		return rc;
	out->headers = own;
	out->n_headers = (uint16_t)m->n_headers;
	return 0;
}

static int decode_query(struct snap_dec *d, const Foil__Conf__RouteMatch *m, struct mesh_route_match *out)
{
	struct mesh_query_match *own;
	int rc = snap_list(d, "query", m->n_query, 0, CONDITIONS_MAX, sizeof(*own), (void **)&own);
	for (size_t i = 0; rc == 0 && i < m->n_query; i++) {
		uint16_t mark = snap_enter(d, "query", (long)i);
		rc = snap_text(d, "name", m->query[i]->name, SNAP_TEXT_NAME, &own[i].name);
		if (rc == 0)
			rc = snap_decode_string_match(d, "value", m->query[i]->value, &own[i].value);
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc < 0)
		return rc;
	out->query = own;
	out->n_query = (uint16_t)m->n_query;
	return 0;
}

static enum mesh_path_kind path_kind_of(Foil__Conf__PathMatchKind kind)
{
	switch (kind) {
	case FOIL__CONF__PATH_MATCH_KIND__PATH_EXACT: return MESH_PATH_EXACT;
	case FOIL__CONF__PATH_MATCH_KIND__PATH_REGEX: return MESH_PATH_REGEX;
	case FOIL__CONF__PATH_MATCH_KIND__PATH_SEGMENT_PREFIX: return MESH_PATH_SEGMENT_PREFIX;
	default: return MESH_PATH_PREFIX; /* the scan has refused every other number */
	}
}

static int decode_path(struct snap_dec *d, const Foil__Conf__RouteMatch *m, struct mesh_route_match *out)
{
	out->path_kind = path_kind_of(m->path_kind);
	out->ignore_case = m->ignore_case;
	if (!m->path && out->path_kind != MESH_PATH_PREFIX)
		return snap_fail(d, "path", "is missing");
	int rc = snap_text(d, "path", m->path ? m->path : "/", SNAP_TEXT_ANY, &out->path);
	if (rc == 0 && out->path_kind == MESH_PATH_SEGMENT_PREFIX && (out->path.n_bytes == 0 || out->path.data[0] != '/'))
		rc = snap_fail(d, "path", "a prefix of whole segments begins with a slash");
	if (rc == 0 && out->path_kind == MESH_PATH_REGEX && out->ignore_case)
		rc = snap_fail(d, "ignore_case", "is for exact paths and prefixes; write (?i) into the expression");
	if (rc == 0 && out->path_kind == MESH_PATH_REGEX)
		rc = snap_regex(d, "path", out->path, false, &out->path_regex);
	if (rc == 0 && out->ignore_case)
		rc = snap_lower(d, &out->path);
	return rc;
}

int snap_decode_match(struct snap_dec *d, const Foil__Conf__RouteMatch *m, struct mesh_route_match *out)
{
	if (!m)
		return snap_fail(d, "match", "is missing");
	uint16_t mark = snap_enter(d, "match", -1);
	int rc = decode_path(d, m, out);
	if (rc == 0)
		rc = decode_headers(d, m, out);
	if (rc == 0)
		rc = decode_query(d, m, out);
	if (rc == 0)
		snap_leave(d, mark);
	return rc;
}
