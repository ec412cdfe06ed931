/* What a route does: to clusters, a redirect, or an answer of our own (features.md VS-17..VS-33). */
#include "dataplane/config/config_priv.h"

#define DIRECT_BODY_BYTES_MAX (1u << 20) /* as Istio's own limit for a direct response */

/* \1 .. \9, \0 and \\; the rest is literal. */
static int check_substitution(struct snap_dec *d, const char *text)
{
	for (const char *p = text; *p; p++) {
		if (*p != '\\')
			continue;
		p++;
		if (!(*p >= '0' && *p <= '9') && *p != '\\')
			return snap_fail(d, "substitution", "a backslash that is not before a digit or a backslash: \"%.100s\"", text);
	}
	return 0;
}

static int decode_regex_rewrite(struct snap_dec *d, const Foil__Conf__RegexRewrite *m, struct mesh_route_action *out)
{
	struct foil_slice pattern;
	if (!m)
		return 0;
	if (out->has_prefix_rewrite)
		return snap_fail(d, "regex_rewrite", "stands beside a prefix_rewrite; one of them");
	uint16_t mark = snap_enter(d, "regex_rewrite", -1);
	int rc = snap_text(d, "regex", m->regex, SNAP_TEXT_ANY, &pattern);
	if (rc == 0)
		rc = snap_regex(d, "regex", pattern, false, &out->regex_rewrite);
	if (rc == 0)
		rc = check_substitution(d, m->substitution ? m->substitution : "");
	if (rc == 0)
		rc = snap_text(d, "substitution", m->substitution, SNAP_TEXT_ANY, &out->regex_substitution);
	if (rc == 0)
		snap_leave(d, mark);
	return rc;
}

static int decode_rewrites(struct snap_dec *d, const Foil__Conf__RouteAction *m, struct mesh_route_action *out)
{
	out->has_prefix_rewrite = m->has_prefix_rewrite;
	int rc = snap_text(d, "prefix_rewrite", m->prefix_rewrite, SNAP_TEXT_ANY, &out->prefix_rewrite);
	if (rc == 0)
		rc = decode_regex_rewrite(d, m->regex_rewrite, out);
	if (rc == 0)
		rc = snap_text(d, "host_rewrite", m->host_rewrite, SNAP_TEXT_ANY, &out->host_rewrite);
	return rc;
}

/* ---- hashing ---- */
#define HASH_POLICIES_MAX 1024u /* one a destination */
#define COOKIE_ATTRIBUTES_MAX 64u

/* A cookie's name, path and attributes go into a header as they are: what could end them there is refused. */
static int cookie_text(struct snap_dec *d, const char *field, const char *text, bool is_name, struct foil_slice *out)
{
	for (const char *p = text ? text : ""; *p; p++)
		if (*p == ';' || (is_name && (*p == '=' || *p == ' ' || *p == ',' || *p == '"')))
			return snap_fail(d, field, "has a character that a cookie cannot: \"%.100s\"", text);
	if (is_name && (!text || !text[0]))
		return snap_fail(d, field, "is empty");
	return snap_text(d, field, text, SNAP_TEXT_ANY, out);
}

static int decode_cookie(struct snap_dec *d, const Foil__Conf__HashPolicy *m, struct mesh_hash_policy *out)
{
	struct mesh_cookie_attribute *list = NULL;
	int rc = cookie_text(d, "cookie", m->cookie, true, &out->name);

	out->kind = MESH_HASH_COOKIE;
	out->has_ttl = m->has_cookie_ttl;
	if (rc == 0)
		rc = snap_range(d, "cookie_ttl_s", m->cookie_ttl_s, 0, SNAP_DURATION_US_MAX / 1000000u);
	out->ttl_s = m->cookie_ttl_s;
	if (rc == 0)
		rc = cookie_text(d, "cookie_path", m->cookie_path, false, &out->path);
	if (rc == 0)
		rc = snap_list(d, "cookie_attributes", m->n_cookie_attributes, 0, COOKIE_ATTRIBUTES_MAX, sizeof(*list), (void **)&list);
	for (size_t i = 0; rc == 0 && i < m->n_cookie_attributes; i++) {
		uint16_t mark = snap_enter(d, "cookie_attributes", (long)i);
		rc = cookie_text(d, "name", m->cookie_attributes[i]->name, true, &list[i].name);
		if (rc == 0)
			rc = cookie_text(d, "value", m->cookie_attributes[i]->value, false, &list[i].value);
		if (rc == 0)
			snap_leave(d, mark);
	}
	out->attributes = list;
	out->n_attributes = (uint16_t)m->n_cookie_attributes;
	return rc;
}

static int decode_hash_policy(struct snap_dec *d, const Foil__Conf__HashPolicy *m, struct mesh_hash_policy *out)
{
	int n = (m->header != NULL) + (m->cookie != NULL) + (m->has_source_ip && m->source_ip) + (m->query_parameter != NULL);

	if (n != 1)
		return snap_fail(d, "header", "%d of header, cookie, source_ip and query_parameter are there; exactly one must be", n);
	out->terminal = m->terminal;
	if (m->cookie)
		return decode_cookie(d, m, out);
	if (m->query_parameter) {
		out->kind = MESH_HASH_QUERY;
		return snap_text(d, "query_parameter", m->query_parameter, SNAP_TEXT_ANY, &out->name);
	}
	if (m->header) {
		int rc = snap_text(d, "header", m->header, snap_is_pseudo_header(m->header) ? SNAP_TEXT_NAME : SNAP_TEXT_HEADER, &out->name);
		out->kind = MESH_HASH_HEADER;
		out->id = (uint16_t)http_header_intern(out->name);
		return rc;
	}
	out->kind = MESH_HASH_SOURCE_IP;
	return 0;
}

static int decode_hash_policies(struct snap_dec *d, const Foil__Conf__RouteAction *m, struct mesh_route_action *out)
{
	struct mesh_hash_policy *list = NULL;
	int rc = snap_list(d, "hash_policies", m->n_hash_policies, 0, HASH_POLICIES_MAX, sizeof(*list), (void **)&list);

	for (size_t i = 0; rc == 0 && i < m->n_hash_policies; i++) {
		uint16_t mark = snap_enter(d, "hash_policies", (long)i);
		rc = decode_hash_policy(d, m->hash_policies[i], &list[i]);
		if (rc == 0)
			snap_leave(d, mark);
	}
	out->hash_policies = list;
	out->n_hash_policies = (uint16_t)m->n_hash_policies;
	return rc;
}

int snap_decode_route_action(struct snap_dec *d, const Foil__Conf__RouteAction *m, struct mesh_route_action *out)
{
	uint32_t missing = m->has_cluster_not_found_status ? m->cluster_not_found_status : 503;
	uint16_t mark = snap_enter(d, "route", -1);
	int rc = snap_decode_weighted(d, m->clusters, m->n_clusters, &out->clusters, &out->n_clusters, &out->total_weight);
	if (rc == 0)
		rc = decode_rewrites(d, m, out);
	if (rc == 0)
		rc = snap_duration(d, "timeout_us", true, m->timeout_us, 0, &out->timeout_us);
	if (rc == 0)
		rc = snap_duration(d, "idle_timeout_us", true, m->idle_timeout_us, 0, &out->idle_timeout_us);
	if (rc == 0)
		rc = snap_decode_retry(d, m->retry, &out->retry);
	if (rc == 0)
		rc = snap_range(d, "cluster_not_found_status", missing, 400, 599);
	if (rc == 0)
		rc = snap_decode_mirrors(d, m->mirrors, m->n_mirrors, &out->mirrors, &out->n_mirrors);
	if (rc == 0)
		rc = decode_hash_policies(d, m, out);
	out->cluster_not_found_status = (uint16_t)missing;
	if (rc == 0)
		snap_leave(d, mark);
	return rc;
}

static bool is_redirect_code(uint32_t code)
{
	return code == 301 || code == 302 || code == 303 || code == 307 || code == 308;
}

int snap_decode_redirect(struct snap_dec *d, const Foil__Conf__Redirect *m, struct mesh_redirect *out)
{
	uint32_t code = m->has_code ? m->code : 301;
	uint16_t mark = snap_enter(d, "redirect", -1);
	if (!is_redirect_code(code))
		return snap_fail(d, "code", "is %u; must be 301, 302, 303, 307 or 308", code);
	if (m->path && m->has_prefix_rewrite)
		return snap_fail(d, "prefix_rewrite", "stands beside a path; one of them");
	int rc = snap_range(d, "port", m->port, 0, 65535);
	if (rc == 0)
		rc = snap_text(d, "scheme", m->scheme, SNAP_TEXT_HOST, &out->scheme);
	if (rc == 0)
		rc = snap_text(d, "host", m->host, SNAP_TEXT_ANY, &out->host);
	if (rc == 0)
		rc = snap_text(d, "path", m->path, SNAP_TEXT_ANY, &out->path);
	if (rc == 0)
		rc = snap_text(d, "prefix_rewrite", m->prefix_rewrite, SNAP_TEXT_ANY, &out->prefix_rewrite);
	if (rc < 0)
		return rc;
	out->code = (uint16_t)code;
	out->port = (uint16_t)m->port;
	out->port_from_request = m->port_from_request;
	out->has_path = m->path && m->path[0];
	out->has_prefix_rewrite = m->has_prefix_rewrite;
	snap_leave(d, mark);
	return 0;
}

int snap_decode_direct(struct snap_dec *d, const Foil__Conf__DirectResponse *m, struct mesh_direct_response *out)
{
	uint16_t mark = snap_enter(d, "direct_response", -1);
	int rc = snap_range(d, "status", m->status, 200, 599);
	if (rc == 0 && m->body.len > DIRECT_BODY_BYTES_MAX)
		rc = snap_fail(d, "body", "has %zu bytes; %u at most", m->body.len, DIRECT_BODY_BYTES_MAX);
	if (rc < 0)
		return rc;
	out->status = (uint16_t)m->status;
	out->body = foil_blob_copy(d->b, m->body.data, m->body.len);
	if (!out->body.data)
		return snap_no_memory(d);
	snap_leave(d, mark);
	return 0;
}
