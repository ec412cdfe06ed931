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

/* Once a message, values joined with commas. */
static bool is_joined(enum http_header_id id)
{
	switch (id) {
	case HTTP_HDR_CONTENT_TYPE: case HTTP_HDR_DATE: case HTTP_HDR_SERVER: case HTTP_HDR_VIA: case HTTP_HDR_LOCATION: case HTTP_HDR_USER_AGENT:
	case HTTP_HDR_X_FORWARDED_FOR: case HTTP_HDR_X_FORWARDED_PROTO: case HTTP_HDR_X_FORWARDED_HOST: case HTTP_HDR_X_FORWARDED_PORT:
	case HTTP_HDR_X_FORWARDED_CLIENT_CERT: case HTTP_HDR_X_REQUEST_ID: case HTTP_HDR_GRPC_TIMEOUT: case HTTP_HDR_GRPC_STATUS:
	case HTTP_HDR_GRPC_MESSAGE:
		return true;
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

static int append(struct foil_worker *w, struct foil_arena *a, struct http_headers *headers, struct foil_slice name, struct foil_slice value)
{
	enum http_header_id id = http_header_intern(name);
	const struct http_header *there = is_joined(id) ? http_header_get(headers, id) : NULL;

	if (!there)
		return http_header_add(w, a, headers, name, value);
	uint32_t n_old = there->value.n_bytes, comma = n_old != 0;
	char *joined = foil_arena_alloc(w, a, (size_t)n_old + comma + value.n_bytes);
	if (!joined)
		return -ENOBUFS;
	if (n_old) {
		memcpy(joined, there->value.data, n_old);
		joined[n_old] = ',';
	}
	memcpy(joined + n_old + comma, value.data, value.n_bytes);
	return http_header_set(w, a, headers, name, foil_slice_of(joined, (size_t)n_old + comma + value.n_bytes));
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
		return append(w, a, &head->headers, op->name, value);
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
