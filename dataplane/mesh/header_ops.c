/* Header operations of routes and destinations (features.md VS-21..VS-23), in Envoy's order: removes; then all values are formatted from
 * what is there now; then what overwrites, then what appends. A value that formats to nothing leaves its header alone.
 *
 * Headers that Envoy keeps once (its inline headers) get an appended value behind a comma, others a line of their own. Framing and hop-by-hop headers
 * belong to the codecs: no operation reaches them. A request's host is its authority: any operation but remove changes that. */
#include "dataplane/mesh/header_ops.h"

#include <errno.h>

static bool is_framing(struct foil_slice name)
{
	switch (http_header_intern(name)) {
	case HTTP_HDR_CONTENT_LENGTH: case HTTP_HDR_TRANSFER_ENCODING: case HTTP_HDR_CONNECTION: case HTTP_HDR_KEEP_ALIVE:
	case HTTP_HDR_PROXY_CONNECTION: case HTTP_HDR_TE: case HTTP_HDR_UPGRADE: case HTTP_HDR_TRAILER:
		return true;
	default:
		return false;
	}
}

/* Of which Envoy keeps one a message: what comes in several lines of a request or an answer is one, its values joined with commas, and an
 * operation that adds a value adds it there. As its maps have it (header_map.h, and what its filters register); asked of it, name by name. */
enum { ONCE_IN_REQUEST = 1, ONCE_IN_ANSWER = 2, ONCE_ADDED = 4 };
#define BOTH (ONCE_IN_REQUEST | ONCE_IN_ANSWER | ONCE_ADDED)
#define REQUEST (ONCE_IN_REQUEST | ONCE_ADDED)
#define ANSWER (ONCE_IN_ANSWER | ONCE_ADDED)
static const uint8_t once[HTTP_HDR_COUNT] = {
	[HTTP_HDR_CONTENT_TYPE] = BOTH, [HTTP_HDR_VIA] = BOTH, [HTTP_HDR_CACHE_CONTROL] = BOTH, [HTTP_HDR_CONTENT_ENCODING] = BOTH,
	[HTTP_HDR_ACCEPT] = REQUEST, [HTTP_HDR_ACCEPT_ENCODING] = REQUEST, [HTTP_HDR_AUTHORIZATION] = REQUEST, [HTTP_HDR_ORIGIN] = REQUEST,
	[HTTP_HDR_REFERER] = REQUEST, [HTTP_HDR_USER_AGENT] = REQUEST, [HTTP_HDR_PRAGMA] = REQUEST, [HTTP_HDR_EXPECT] = REQUEST,
	[HTTP_HDR_IF_MATCH] = REQUEST, [HTTP_HDR_IF_NONE_MATCH] = REQUEST, [HTTP_HDR_X_FORWARDED_HOST] = REQUEST,
	[HTTP_HDR_X_FORWARDED_PORT] = REQUEST, [HTTP_HDR_GRPC_TIMEOUT] = REQUEST, [HTTP_HDR_GRPC_ACCEPT_ENCODING] = REQUEST,
	[HTTP_HDR_X_CLIENT_TRACE_ID] = REQUEST, [HTTP_HDR_ACCESS_CONTROL_REQUEST_METHOD] = REQUEST, [HTTP_HDR_ACCESS_CONTROL_REQUEST_HEADERS] = REQUEST,
	[HTTP_HDR_DATE] = ANSWER, [HTTP_HDR_VARY] = ANSWER, [HTTP_HDR_ETAG] = ANSWER, [HTTP_HDR_LOCATION] = ANSWER, [HTTP_HDR_AGE] = ANSWER,
	[HTTP_HDR_EXPIRES] = ANSWER, [HTTP_HDR_LAST_MODIFIED] = ANSWER, [HTTP_HDR_GRPC_STATUS] = ANSWER, [HTTP_HDR_GRPC_MESSAGE] = ANSWER,
	[HTTP_HDR_ACCESS_CONTROL_ALLOW_ORIGIN] = ANSWER, [HTTP_HDR_ACCESS_CONTROL_ALLOW_METHODS] = ANSWER,
	[HTTP_HDR_ACCESS_CONTROL_ALLOW_HEADERS] = ANSWER, [HTTP_HDR_ACCESS_CONTROL_EXPOSE_HEADERS] = ANSWER, [HTTP_HDR_PROXY_STATUS] = ANSWER,
	[HTTP_HDR_X_ENVOY_DEGRADED] = ANSWER, [HTTP_HDR_X_ENVOY_ATTEMPT_COUNT] = ANSWER, [HTTP_HDR_X_ENVOY_RATELIMITED] = ANSWER,
	[HTTP_HDR_X_REQUEST_ID] = ANSWER, [HTTP_HDR_SERVER] = ANSWER, [HTTP_HDR_X_FORWARDED_FOR] = ONCE_ADDED,
	[HTTP_HDR_X_FORWARDED_PROTO] = ONCE_ADDED, [HTTP_HDR_X_FORWARDED_CLIENT_CERT] = REQUEST,
};
#undef BOTH
#undef REQUEST
#undef ANSWER

static bool is_joined(struct foil_slice name)
{
	enum http_header_id id = http_header_intern(name);

	return (once[id] & ONCE_ADDED) || (id >= HTTP_HDR_X_ENVOY_EXTERNAL_ADDRESS && id <= HTTP_HDR_X_ENVOY_RATELIMITED);
}

static FOIL_COLD int join(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, const uint64_t *again)
{
	for (unsigned int id = 1; id < HTTP_HDR_COUNT; id++)
		if (again[id / 64] >> (id % 64) & 1 && http_header_join(w, a, h, (enum http_header_id)id) != 0)
			return -ENOBUFS;
	return 0;
}

int mesh_headers_join(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, bool is_answer)
{
	const uint8_t mask = is_answer ? ONCE_IN_ANSWER : ONCE_IN_REQUEST;
	uint64_t seen[HTTP_HDR_WORDS] = {0}, again[HTTP_HDR_WORDS] = {0};

	for (uint16_t i = 0; i < h->n; i++) {
		unsigned int id = h->list[i].id;
		uint64_t bit = (uint64_t)((once[id] & mask) != 0) << (id % 64);
		again[id / 64] |= seen[id / 64] & bit;
		seen[id / 64] |= bit;
	}
	return FOIL_LIKELY(!(again[0] | again[1])) ? 0 : join(w, a, h, again);
}

static bool is_authority(struct foil_slice name)
{
	return foil_slice_eq(name, FOIL_SLICE(":authority")) || foil_slice_eq(name, FOIL_SLICE("host"));
}

static void remove_all(const struct mesh_header_ops *ops, struct http_head *head)
{
	for (uint16_t i = 0; i < ops->n_remove; i++)
		if (ops->remove[i].n_bytes && ops->remove[i].data[0] != ':' && !is_framing(ops->remove[i]))
			http_header_remove(&head->headers, ops->remove[i]);
}

int mesh_header_append(struct foil_worker *w, struct foil_arena *a, struct http_headers *headers, struct foil_slice name, struct foil_slice value)
{
	if (!is_joined(name) || !http_header_find(headers, name))
		return http_header_add(w, a, headers, name, value);
	struct foil_slice old = http_header_joined(w, a, headers, name);
	uint32_t comma = old.n_bytes != 0;
	char *joined = old.data ? foil_arena_alloc(w, a, (size_t)old.n_bytes + comma + value.n_bytes) : NULL;
	if (!joined)
		return -ENOBUFS;
	if (old.n_bytes) {
		memcpy(joined, old.data, old.n_bytes);
		joined[old.n_bytes] = ',';
	}
	if (value.n_bytes)
		memcpy(joined + old.n_bytes + comma, value.data, value.n_bytes);
	return http_header_set(w, a, headers, name, foil_slice_of(joined, (size_t)old.n_bytes + comma + value.n_bytes));
}

static int put(struct foil_worker *w, struct foil_arena *a, const struct mesh_header_op_add *op, struct foil_slice value, struct http_head *head)
{
	if (value.n_bytes == 0)
		return 0;
	if (is_authority(op->name)) {
		if (!head->status)
			head->authority = value;
		return 0;
	}
	if (op->name.n_bytes == 0 || op->name.data[0] == ':' || is_framing(op->name))
		return 0;
	if (op->append)
		return mesh_header_append(w, a, &head->headers, op->name, value);
	return http_header_set(w, a, &head->headers, op->name, value);
}

/* Those operations that append, or those that overwrite. */
static int put_all(struct foil_worker *w, struct foil_arena *a, const struct mesh_header_ops *ops, const struct foil_slice *values, bool append_ones,
		   struct http_head *head)
{
	for (uint16_t i = 0; i < ops->n_add; i++) {
		int rc = ops->add[i].append == append_ones ? put(w, a, &ops->add[i], values[i], head) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

static int format_all(struct foil_worker *w, struct foil_arena *a, const struct mesh_header_ops *ops, const struct mesh_format_ctx *ctx,
		      struct foil_slice *values)
{
	for (uint16_t i = 0; i < ops->n_add; i++)
		if (mesh_format_eval(w, a, &ops->add[i].value, ctx, &values[i]) != 0)
			return -ENOBUFS;
	return 0;
}

int mesh_header_ops_apply(struct foil_worker *w, struct foil_arena *a, const struct mesh_header_ops *ops, struct http_head *head,
			  const struct mesh_format_ctx *ctx)
{
	remove_all(ops, head);
	if (ops->n_add == 0)
		return 0;
	struct foil_slice *values = foil_arena_alloc(w, a, ops->n_add * sizeof(*values));
	if (!values || format_all(w, a, ops, ctx, values) != 0 || put_all(w, a, ops, values, false, head) != 0)
		return -ENOBUFS;
	return put_all(w, a, ops, values, true, head);
}
