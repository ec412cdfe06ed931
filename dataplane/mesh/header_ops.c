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

/* Of those that have no id of their own. */
static bool is_joined_name(struct foil_slice name)
{
	static const struct foil_slice list[] = {
#define NAME(s) {s, sizeof(s) - 1}
		NAME("access-control-allow-headers"), NAME("access-control-allow-methods"),
		NAME("access-control-allow-origin"), NAME("access-control-expose-headers"),
		NAME("access-control-request-headers"), NAME("access-control-request-method"),
		NAME("grpc-accept-encoding"), NAME("if-match"), NAME("if-none-match"),
		NAME("proxy-status"), NAME("x-client-trace-id"), NAME("x-envoy-degraded"),
#undef NAME
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(list); i++)
		if (foil_slice_eq(list[i], name))
			return true;
	return false;
}

/* Once a message, values joined with commas. */
static bool is_joined(struct foil_slice name)
{
	enum http_header_id id = http_header_intern(name);

	switch (id) {
	case HTTP_HDR_CONTENT_TYPE: case HTTP_HDR_DATE: case HTTP_HDR_SERVER: case HTTP_HDR_VIA: case HTTP_HDR_LOCATION: case HTTP_HDR_USER_AGENT:
	case HTTP_HDR_X_FORWARDED_FOR: case HTTP_HDR_X_FORWARDED_PROTO: case HTTP_HDR_X_FORWARDED_HOST: case HTTP_HDR_X_FORWARDED_PORT:
	case HTTP_HDR_X_FORWARDED_CLIENT_CERT: case HTTP_HDR_X_REQUEST_ID: case HTTP_HDR_GRPC_TIMEOUT: case HTTP_HDR_GRPC_STATUS:
	case HTTP_HDR_GRPC_MESSAGE: case HTTP_HDR_ACCEPT: case HTTP_HDR_ACCEPT_ENCODING: case HTTP_HDR_AUTHORIZATION: case HTTP_HDR_CACHE_CONTROL:
	case HTTP_HDR_ORIGIN: case HTTP_HDR_REFERER: case HTTP_HDR_PRAGMA: case HTTP_HDR_EXPECT: case HTTP_HDR_CONTENT_ENCODING: case HTTP_HDR_VARY:
	case HTTP_HDR_ETAG: case HTTP_HDR_AGE: case HTTP_HDR_EXPIRES: case HTTP_HDR_LAST_MODIFIED:
		return true;
	case HTTP_HDR_OTHER:
		return is_joined_name(name);
	default:
		return id >= HTTP_HDR_X_ENVOY_EXTERNAL_ADDRESS && id <= HTTP_HDR_X_ENVOY_RATELIMITED;
	}
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
