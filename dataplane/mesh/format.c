/* The values of format operators for header values (features.md VS-24), as Envoy's formatter gives them there: what is not known prints nothing
 * (in an access log it would print "-"), but RESPONSE_FLAGS prints "-" when there are none. Borrowed from ctx or made in a scratch buffer, then copied
 * once into the arena. A control character cannot get through: what a stranger sent ends no header line. */
#include <errno.h>

#include "dataplane/mesh/addr_priv.h"
#include "dataplane/mesh/format_priv.h"
#include "dataplane/mesh/match_priv.h"

static const struct {
	struct foil_slice camel, snake;
} grpc_names[] = { /* by code */
#define NAME(c, s) {{c, sizeof(c) - 1}, {s, sizeof(s) - 1}}
	NAME("OK", "OK"), NAME("Canceled", "CANCELLED"), NAME("Unknown", "UNKNOWN"), NAME("InvalidArgument", "INVALID_ARGUMENT"),
	NAME("DeadlineExceeded", "DEADLINE_EXCEEDED"), NAME("NotFound", "NOT_FOUND"), NAME("AlreadyExists", "ALREADY_EXISTS"),
	NAME("PermissionDenied", "PERMISSION_DENIED"), NAME("ResourceExhausted", "RESOURCE_EXHAUSTED"), NAME("FailedPrecondition", "FAILED_PRECONDITION"),
	NAME("Aborted", "ABORTED"), NAME("OutOfRange", "OUT_OF_RANGE"), NAME("Unimplemented", "UNIMPLEMENTED"), NAME("Internal", "INTERNAL"),
	NAME("Unavailable", "UNAVAILABLE"), NAME("DataLoss", "DATA_LOSS"), NAME("Unauthenticated", "UNAUTHENTICATED"),
#undef NAME
};
static const struct foil_slice flag_names[TELE_FLAG_COUNT] = {
#define X(ID, name, help) [TELE_FLAG_BIT_##ID] = {name, sizeof(name) - 1},
#include "dataplane/telemetry/flags.def"
#undef X
};

#define NOTHING ((struct foil_slice){NULL, 0})

static struct foil_slice pseudo(const struct http_head *head, struct foil_slice name, char text[ADDR_TEXT_BYTES])
{
	if (head->status)
		return foil_slice_eq(name, FOIL_SLICE(":status")) ? mesh_addr_number(head->status, text) : NOTHING;
	if (foil_slice_eq(name, FOIL_SLICE(":path")))
		return head->path;
	if (foil_slice_eq(name, FOIL_SLICE(":method")))
		return head->method_text;
	if (foil_slice_eq(name, FOIL_SLICE(":authority")) || foil_slice_eq(name, FOIL_SLICE("host")))
		return head->authority;
	return foil_slice_eq(name, FOIL_SLICE(":scheme")) ? head->scheme : NOTHING;
}

static struct foil_slice header(const struct http_head *head, struct foil_slice name, uint16_t id, char text[ADDR_TEXT_BYTES])
{
	if (!head || name.n_bytes == 0)
		return NOTHING;
	if (name.data[0] == ':' || (id == HTTP_HDR_HOST && !head->status))
		return pseudo(head, name, text);
	const struct http_header *h = id != HTTP_HDR_OTHER ? http_header_get(&head->headers, (enum http_header_id)id) : http_header_find(&head->headers, name);
	return h ? h->value : NOTHING;
}

static struct foil_slice header_or_other(const struct http_head *head, const struct mesh_format_part *p, char text[ADDR_TEXT_BYTES])
{
	struct foil_slice value = header(head, p->text, p->id, text);

	return value.data ? value : header(head, p->other, p->other_id, text);
}

static struct foil_slice address(const struct stream_addr *addr, bool with_port, char text[ADDR_TEXT_BYTES])
{
	return addr ? mesh_addr_text(addr, with_port, text) : NOTHING;
}

static struct foil_slice port(const struct stream_addr *addr, char text[ADDR_TEXT_BYTES])
{
	return addr ? mesh_addr_number(addr->port, text) : NOTHING;
}

static struct foil_slice protocol(enum http_version version)
{
	switch (version) {
	case HTTP_VERSION_10: return FOIL_SLICE("HTTP/1.0");
	case HTTP_VERSION_11: return FOIL_SLICE("HTTP/1.1");
	case HTTP_VERSION_2: return FOIL_SLICE("HTTP/2");
	}
	FOIL_UNREACHABLE();
}

static struct foil_slice flags(uint64_t set, char *text, size_t room)
{
	uint32_t n = 0;

	for (int bit = 0; bit < TELE_FLAG_COUNT; bit++) {
		if (!(set >> bit & 1) || n + 1 + flag_names[bit].n_bytes > room)
			continue;
		if (n)
			text[n++] = ',';
		memcpy(text + n, flag_names[bit].data, flag_names[bit].n_bytes);
		n += flag_names[bit].n_bytes;
	}
	return n ? foil_slice_of(text, n) : FOIL_SLICE("-");
}

/* The code in grpc-status; UINT32_MAX: absent or no number. */
static uint32_t grpc_code(const struct http_head *response)
{
	const struct http_header *h = response ? http_header_get(&response->headers, HTTP_HDR_GRPC_STATUS) : NULL;
	uint32_t code = 0;

	if (!h || h->value.n_bytes == 0 || h->value.n_bytes > 9)
		return UINT32_MAX;
	for (uint32_t i = 0; i < h->value.n_bytes; i++) {
		if (h->value.data[i] < '0' || h->value.data[i] > '9')
			return UINT32_MAX;
		code = code * 10 + (uint32_t)(h->value.data[i] - '0');
	}
	return code;
}

static struct foil_slice grpc_status(const struct http_head *response, enum format_grpc form, char text[ADDR_TEXT_BYTES])
{
	uint32_t code = grpc_code(response);

	if (code == UINT32_MAX)
		return NOTHING;
	if (form == FORMAT_GRPC_NUMBER || code >= FOIL_COUNT_OF(grpc_names))
		return mesh_addr_number(code, text);
	return form == FORMAT_GRPC_CAMEL ? grpc_names[code].camel : grpc_names[code].snake;
}

static struct foil_slice query_param(const struct http_head *request, struct foil_slice name)
{
	struct foil_slice value;

	return request && mesh_query_value(mesh_path_query(request->path), name, &value) ? value : NOTHING;
}

/* Milliseconds, when they are known. */
static struct foil_slice milliseconds(bool is_known, uint64_t us, char text[ADDR_TEXT_BYTES])
{
	return is_known ? mesh_addr_number(us / 1000, text) : NOTHING;
}

/* As Envoy counts it: names and values, with those that are no fields of HTTP/1.1. */
static struct foil_slice headers_bytes(const struct http_head *head, char text[ADDR_TEXT_BYTES])
{
	uint64_t n = 0;

	if (!head)
		return mesh_addr_number(0, text);
	if (head->status)
		n = sizeof(":status") - 1 + 3;
	else
		n = sizeof(":method:path:authority:scheme") - 1 + head->method_text.n_bytes + head->path.n_bytes + head->authority.n_bytes +
		    head->scheme.n_bytes;
	for (uint16_t i = 0; i < head->headers.n; i++)
		if (!head->headers.list[i].is_removed)
			n += (uint64_t)head->headers.list[i].name.n_bytes + head->headers.list[i].value.n_bytes;
	return mesh_addr_number(n, text);
}

/* The path as it came, which a rewrite has left in its header, or as it went up. */
static struct foil_slice path_of(const struct mesh_format_part *p, const struct http_head *request)
{
	const struct http_header *h = request ? http_header_get(&request->headers, HTTP_HDR_X_ENVOY_ORIGINAL_PATH) : NULL;

	if (!request || (p->path == FORMAT_PATH_ORIGINAL && !h && p->op == FORMAT_PATH))
		return NOTHING;
	struct foil_slice path = h && p->path != FORMAT_PATH_NOW ? h->value : request->path;
	if (p->op == FORMAT_PATH)
		return p->without_query ? mesh_path_only(path) : path;
	struct foil_slice query = mesh_path_query(path);
	return query.n_bytes ? query : NOTHING;
}

static struct foil_slice trailer(const struct http_headers *trailers, struct foil_slice name)
{
	const struct http_header *h = trailers && name.n_bytes ? http_header_find(trailers, name) : NULL;

	return h ? h->value : NOTHING;
}

static struct foil_slice trailer_or_other(const struct http_headers *trailers, const struct mesh_format_part *p)
{
	struct foil_slice value = trailer(trailers, p->text);

	return value.data ? value : trailer(trailers, p->other);
}

/* Joined with commas, as many as fit. */
static struct foil_slice names_of(const struct foil_slice *list, uint16_t n_list, char *text, size_t room)
{
	size_t n = 0;

	for (uint16_t i = 0; i < n_list && n + (n > 0) + list[i].n_bytes <= room; i++) {
		if (n)
			text[n++] = ',';
		memcpy(text + n, list[i].data, list[i].n_bytes);
		n += list[i].n_bytes;
	}
	return n ? foil_slice_of(text, n) : NOTHING;
}

static struct foil_slice known(struct foil_slice s)
{
	return s.n_bytes ? s : NOTHING;
}

static struct foil_slice of_certificate(const struct mesh_format_part *p, const struct tls_peer *peer, char *scratch)
{
	if (!peer)
		return NOTHING;
	switch (p->op) {
	case FORMAT_DOWNSTREAM_PEER_SUBJECT: return known(peer->subject);
	case FORMAT_DOWNSTREAM_PEER_ISSUER: return known(peer->issuer);
	case FORMAT_DOWNSTREAM_PEER_SERIAL: return known(peer->serial);
	case FORMAT_DOWNSTREAM_PEER_FINGERPRINT_256: return known(peer->fingerprint);
	case FORMAT_DOWNSTREAM_PEER_CERT: return known(peer->pem);
	case FORMAT_DOWNSTREAM_PEER_CERT_V_START: return mesh_format_time(p->text, (uint64_t)peer->not_before_s * 1000000u, scratch);
	case FORMAT_DOWNSTREAM_PEER_CERT_V_END: return mesh_format_time(p->text, (uint64_t)peer->not_after_s * 1000000u, scratch);
	case FORMAT_DOWNSTREAM_PEER_URI_SAN: return names_of(peer->uri_sans, peer->n_uri_sans, scratch, FORMAT_TIME_BYTES);
	case FORMAT_DOWNSTREAM_PEER_DNS_SAN: return names_of(peer->dns_sans, peer->n_dns_sans, scratch, FORMAT_TIME_BYTES);
	default: FOIL_UNREACHABLE(); /* value_of sends no other */
	}
}

static struct foil_slice value_of(const struct mesh_format_part *p, const struct mesh_format_ctx *ctx, char *scratch);

struct foil_slice mesh_format_value(const struct mesh_format *f, const struct mesh_format_ctx *ctx, char scratch[MESH_FORMAT_SCRATCH_BYTES])
{
	return value_of(&f->parts[0], ctx, scratch);
}

/* Clusters of services are called so in Istio's statistics, and Envoy says that name where the raw one is not asked for. */
static struct foil_slice statistics_name(struct foil_slice cluster, char *scratch)
{
	if (cluster.n_bytes == 0 || cluster.n_bytes >= FORMAT_TIME_BYTES || !memchr(cluster.data, '|', cluster.n_bytes))
		return cluster;
	memcpy(scratch, cluster.data, cluster.n_bytes);
	scratch[cluster.n_bytes] = ';';
	return foil_slice_of(scratch, cluster.n_bytes + 1u);
}

/* scratch: FORMAT_TIME_BYTES. */
static struct foil_slice value_of(const struct mesh_format_part *p, const struct mesh_format_ctx *ctx, char *scratch)
{
	const struct stream_addr *direct = ctx->downstream_direct_remote ? ctx->downstream_direct_remote : ctx->downstream_remote;

	switch (p->op) {
	case FORMAT_LITERAL: return p->text;
	case FORMAT_REQUEST_HEADER:
	case FORMAT_REQ: return header_or_other(ctx->request, p, scratch);
	case FORMAT_RESPONSE_HEADER:
	case FORMAT_RESP: return header_or_other(ctx->response, p, scratch);
	case FORMAT_REQ_WITHOUT_QUERY: return mesh_path_only(header_or_other(ctx->request, p, scratch));
	case FORMAT_QUERY_PARAM: return query_param(ctx->request, p->text);
	case FORMAT_START_TIME: return mesh_format_time(p->text, ctx->start_wall_us, scratch);
	case FORMAT_PROTOCOL: return ctx->request ? protocol(ctx->request->version) : NOTHING;
	case FORMAT_RESPONSE_CODE: return mesh_addr_number(ctx->status, scratch);
	case FORMAT_RESPONSE_CODE_DETAILS: return ctx->details;
	case FORMAT_RESPONSE_FLAGS: return flags(ctx->flags, scratch, FORMAT_TIME_BYTES);
	case FORMAT_GRPC_STATUS: return grpc_status(ctx->response, p->grpc, scratch);
	case FORMAT_GRPC_STATUS_NUMBER: return grpc_status(ctx->response, FORMAT_GRPC_NUMBER, scratch);
	case FORMAT_ROUTE_NAME: return ctx->route_name;
	case FORMAT_REQUESTED_SERVER_NAME: return ctx->sni;
	case FORMAT_HOSTNAME: return ctx->hostname;
	case FORMAT_BYTES_RECEIVED: return mesh_addr_number(ctx->bytes_received, scratch);
	case FORMAT_BYTES_SENT: return mesh_addr_number(ctx->bytes_sent, scratch);
	case FORMAT_DURATION: return mesh_addr_number(ctx->duration_us / 1000, scratch);
	case FORMAT_UPSTREAM_REQUEST_ATTEMPT_COUNT: return mesh_addr_number(ctx->attempts, scratch);
	case FORMAT_UPSTREAM_CLUSTER: return statistics_name(ctx->upstream_cluster, scratch);
	case FORMAT_UPSTREAM_CLUSTER_RAW: return ctx->upstream_cluster;
	case FORMAT_UPSTREAM_HOST:
	case FORMAT_UPSTREAM_HOST_NAME: /* endpoints are addresses: their names are these */
	case FORMAT_UPSTREAM_REMOTE_ADDRESS: return address(ctx->upstream_remote, true, scratch);
	case FORMAT_UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: return address(ctx->upstream_remote, false, scratch);
	case FORMAT_UPSTREAM_REMOTE_PORT: return port(ctx->upstream_remote, scratch);
	case FORMAT_UPSTREAM_LOCAL_ADDRESS: return address(ctx->upstream_local, true, scratch);
	case FORMAT_UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: return address(ctx->upstream_local, false, scratch);
	case FORMAT_UPSTREAM_LOCAL_PORT: return port(ctx->upstream_local, scratch);
	case FORMAT_DOWNSTREAM_REMOTE_ADDRESS: return address(ctx->downstream_remote, true, scratch);
	case FORMAT_DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: return address(ctx->downstream_remote, false, scratch);
	case FORMAT_DOWNSTREAM_REMOTE_PORT: return port(ctx->downstream_remote, scratch);
	case FORMAT_DOWNSTREAM_DIRECT_REMOTE_ADDRESS: return address(direct, true, scratch);
	case FORMAT_DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: return address(direct, false, scratch);
	case FORMAT_DOWNSTREAM_LOCAL_ADDRESS: return address(ctx->downstream_local, true, scratch);
	case FORMAT_DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: return address(ctx->downstream_local, false, scratch);
	case FORMAT_DOWNSTREAM_LOCAL_PORT: return port(ctx->downstream_local, scratch);
	case FORMAT_DOWNSTREAM_DIRECT_LOCAL_ADDRESS: return address(ctx->downstream_local, true, scratch);
	case FORMAT_DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT: return address(ctx->downstream_local, false, scratch);
	case FORMAT_DOWNSTREAM_DIRECT_REMOTE_PORT: return port(direct, scratch);
	case FORMAT_TRAILER: return trailer_or_other(ctx->trailers, p);
	case FORMAT_UPSTREAM_PROTOCOL: return ctx->upstream_version ? protocol((enum http_version)(ctx->upstream_version - 1)) : NOTHING;
	case FORMAT_UPSTREAM_TRANSPORT_FAILURE_REASON: return known(ctx->transport_failure);
	case FORMAT_REQUEST_DURATION: return milliseconds(ctx->has_request_duration, ctx->request_duration_us, scratch);
	case FORMAT_RESPONSE_DURATION: return milliseconds(ctx->has_response_duration, ctx->response_duration_us, scratch);
	case FORMAT_RESPONSE_TX_DURATION:
		return milliseconds(ctx->has_response_duration, ctx->duration_us - FOIL_MIN(ctx->duration_us, ctx->response_duration_us), scratch);
	case FORMAT_REQUEST_HEADERS_BYTES: return headers_bytes(ctx->request, scratch);
	case FORMAT_RESPONSE_HEADERS_BYTES: return headers_bytes(ctx->response, scratch);
	case FORMAT_DOWNSTREAM_WIRE_BYTES_RECEIVED: return mesh_addr_number(ctx->wire_bytes_received, scratch);
	case FORMAT_DOWNSTREAM_WIRE_BYTES_SENT: return mesh_addr_number(ctx->wire_bytes_sent, scratch);
	case FORMAT_RESPONSE_FLAGS_LONG: return foil_slice_of(scratch, tele_flags_long(ctx->flags, false, scratch, FORMAT_TIME_BYTES));
	case FORMAT_QUERY_PARAMS:
	case FORMAT_PATH: return path_of(p, ctx->request);
	case FORMAT_DOWNSTREAM_TLS_VERSION: return ctx->tls ? known(ctx->tls->version) : NOTHING;
	case FORMAT_DOWNSTREAM_TLS_CIPHER: return ctx->tls ? known(ctx->tls->cipher) : NOTHING;
	case FORMAT_DOWNSTREAM_LOCAL_URI_SAN: return ctx->tls ? known(ctx->tls->local_uri_san) : NOTHING;
	case FORMAT_DOWNSTREAM_PEER_SUBJECT:
	case FORMAT_DOWNSTREAM_PEER_ISSUER:
	case FORMAT_DOWNSTREAM_PEER_SERIAL:
	case FORMAT_DOWNSTREAM_PEER_FINGERPRINT_256:
	case FORMAT_DOWNSTREAM_PEER_CERT:
	case FORMAT_DOWNSTREAM_PEER_CERT_V_START:
	case FORMAT_DOWNSTREAM_PEER_CERT_V_END:
	case FORMAT_DOWNSTREAM_PEER_URI_SAN:
	case FORMAT_DOWNSTREAM_PEER_DNS_SAN: return of_certificate(p, ctx->tls ? ctx->tls->peer : NULL, scratch);
	case FORMAT_CONNECTION_TERMINATION_DETAILS:
	case FORMAT_DYNAMIC_METADATA:
	case FORMAT_FILTER_STATE:
	case FORMAT_VIRTUAL_CLUSTER_NAME:
	case FORMAT_CLUSTER_METADATA:
	case FORMAT_DOWNSTREAM_TRANSPORT_FAILURE_REASON: /* no request came over such a connection */
	case FORMAT_TRACE_ID: return NOTHING;
	case FORMAT_OP_COUNT: break;
	}
	FOIL_UNREACHABLE();
}

/* Writes to data when there is one; counts in any case. */
static size_t evaluate(const struct mesh_format *f, const struct mesh_format_ctx *ctx, char *data)
{
	char scratch[FORMAT_TIME_BYTES];
	size_t n = 0;

	for (uint16_t i = 0; i < f->n_parts; i++) {
		struct foil_slice value = value_of(&f->parts[i], ctx, scratch);
		uint32_t n_bytes = FOIL_MIN(value.n_bytes, f->parts[i].bytes_max);
		if (data && n_bytes)
			memcpy(data + n, value.data, n_bytes);
		n += n_bytes;
	}
	return n;
}

/* Spaces around a field value are not part of it (RFC 9110 5.5), control characters not allowed in it. */
static struct foil_slice field_value(char *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (((uint8_t)data[i] < ' ' && data[i] != '\t') || data[i] == 0x7f)
			data[i] = '_';
	return foil_slice_of(data, n);
}

int mesh_format_eval(struct foil_worker *w, struct foil_arena *a, const struct mesh_format *f, const struct mesh_format_ctx *ctx, struct foil_slice *out)
{
	if (f->is_literal) {
		*out = f->literal;
		return 0;
	}
	size_t n = evaluate(f, ctx, NULL);
	if (n == 0) {
		*out = FOIL_SLICE("");
		return 0;
	}
	char *data = n <= FOIL_ARENA_BYTES_MAX ? foil_arena_alloc(w, a, n) : NULL;
	if (!data)
		return -ENOBUFS;
	*out = field_value(data, evaluate(f, ctx, data));
	return 0;
}
