/* Answers that are made here instead of by an upstream: refusals, timeouts, resets, redirects, what a filter says. Bytes as Envoy's
 * sendLocalReply: text/plain bodies, gRPC requests get HTTP 200 with the status in headers (features.md HD-14, AL-8), 400 closes an HTTP/1 connection.
 * A reply that comes when the response has begun resets the exchange instead. */
#include "dataplane/mesh/runtime.h"

static uint8_t grpc_of_http(uint16_t status)
{
	switch (status) { /* Envoy's httpToGrpcStatus, features.md HD-14 */
	case 400: return 13;
	case 401: return 16;
	case 403: return 7;
	case 404: return 12;
	case 429:
	case 502:
	case 503:
	case 504: return 14;
	default: return 2;
	}
}

/* grpc-message: bytes outside of 0x20..0x7e and '%' as %XX (gRPC over HTTP/2). {NULL,0}: no memory. */
static struct foil_slice percent_encode(struct foil_worker *w, struct foil_arena *a, struct foil_slice s)
{
	static const char hex[] = "0123456789ABCDEF";
	char *out = foil_arena_alloc(w, a, 3u * (size_t)FOIL_MIN(s.n_bytes, 1000u) + 1u);
	uint32_t n = 0;

	for (uint32_t i = 0; out && i < FOIL_MIN(s.n_bytes, 1000u); i++) {
		unsigned char c = (unsigned char)s.data[i];
		if (c >= 0x20 && c <= 0x7e && c != '%') {
			out[n++] = (char)c;
			continue;
		}
		out[n++] = '%';
		out[n++] = hex[c >> 4];
		out[n++] = hex[c & 15];
	}
	return foil_slice_of(out, n);
}

int mesh_reply_grpc_status(struct foil_worker *w, struct mesh_exchange *x, uint16_t status, struct foil_slice message, struct http_headers *h)
{
	const struct http_header *own = http_header_get(h, HTTP_HDR_GRPC_STATUS);
	struct foil_slice code = mesh_decimal(w, x->arena, grpc_of_http(status)), text = percent_encode(w, x->arena, message);
	int rc = code.data && text.data ? 0 : -1;

	if (rc == 0 && message.n_bytes && !http_header_get(h, HTTP_HDR_GRPC_MESSAGE))
		rc = http_header_add_id(w, x->arena, h, HTTP_HDR_GRPC_MESSAGE, text);
	if (rc == 0 && !own) {
		rc = http_header_add_id(w, x->arena, h, HTTP_HDR_GRPC_STATUS, code);
		x->grpc_status = grpc_of_http(status);
	}
	return rc;
}

static int grpc_headers(struct foil_worker *w, struct mesh_exchange *x, const struct mesh_reply *r, struct http_headers *h)
{
	uint8_t status = r->has_grpc_status ? r->grpc_status : grpc_of_http(r->status);
	struct foil_slice text = mesh_decimal(w, x->arena, status);
	int rc = text.data ? mesh_header_put(w, x->arena, h, HTTP_HDR_CONTENT_TYPE, FOIL_SLICE("application/grpc")) : -1;

	rc = rc ? rc : http_header_add_id(w, x->arena, h, HTTP_HDR_GRPC_STATUS, text);
	if (rc == 0 && r->body.n_bytes && x->request->method != HTTP_METHOD_HEAD) { /* it stands for a body, which HEAD has not (Envoy) */
		struct foil_slice message = percent_encode(w, x->arena, r->body);
		rc = message.data ? http_header_add_id(w, x->arena, h, HTTP_HDR_GRPC_MESSAGE, message) : -1;
	}
	x->grpc_status = status;
	return rc;
}

static int fill_headers(struct foil_worker *w, struct mesh_exchange *x, const struct mesh_reply *r, struct http_head *head, bool is_grpc)
{
	int rc = 0;

	for (uint16_t i = 0; i < r->n_extra && rc == 0; i++)
		rc = http_header_add(w, x->arena, &head->headers, r->extra[i].name, r->extra[i].value);
	if (rc == 0 && r->is_overloaded && !x->hcm->envoy_debug_headers_off)
		rc = http_header_add_id(w, x->arena, &head->headers, HTTP_HDR_X_ENVOY_OVERLOADED, FOIL_SLICE("true"));
	if (rc == 0 && r->with_route_ops)
		rc = mesh_router_response_ops(w, x, head);
	if (rc == 0 && is_grpc)
		rc = grpc_headers(w, x, r, &head->headers);
	else if (rc == 0 && x->is_grpc_web && r->body.n_bytes)
		rc = mesh_reply_grpc_status(w, x, r->status, r->body, &head->headers);
	else if (rc == 0 && !r->body.n_bytes) /* there is no content that has one (Envoy) */
		http_header_remove_id(&head->headers, HTTP_HDR_CONTENT_TYPE);
	else if (rc == 0 && !http_header_get(&head->headers, HTTP_HDR_CONTENT_TYPE))
		rc = http_header_add_id(w, x->arena, &head->headers, HTTP_HDR_CONTENT_TYPE, FOIL_SLICE("text/plain"));
	return rc;
}

static void send_bare(struct foil_worker *w, struct mesh_exchange *x, uint16_t status)
{
	const struct http_head head = {.status = status, .version = HTTP_VERSION_11};

	x->response_started = x->response_ended = true;
	x->status = status;
	x->response = NULL;
	if (http_send_head(w, x->down, &head, true) != 0)
		mesh_exchange_abort(w, x);
}

void mesh_reply_send(struct foil_worker *w, struct mesh_exchange *x, const struct mesh_reply *r)
{
	bool is_grpc = x->request && x->request->is_grpc && !x->is_bad_request && !x->is_grpc_web;
	bool has_body = !is_grpc && !x->is_grpc_web && r->body.n_bytes;
	struct foil_chain body = {0};
	struct http_head *head;

	if (x->is_over)
		return;
	x->flags |= r->flags;
	x->details = r->details;
	if (r->reason != MESH_REASON_OK)
		foil_reason_id(w, MESH, r->reason);
	if (x->response_started) {
		mesh_exchange_abort(w, x);
		return;
	}
	foil_count(w, MESH, LOCAL_REPLIES, 1);
	x->is_local_reply = true;
	x->is_response_held = x->is_request_held = x->is_request_collected = x->is_response_collected = false;
	foil_chain_clear(&x->answer);
	mesh_router_stop(w, x);
	x->router = MESH_ROUTER_DONE;
	mesh_timeouts_fini(w, x);
	if (r->status == 400 && !mesh_exchange_is_h2(x)) { /* a messaging error: what else the client sends is not trusted */
		mesh_downstream_drain(w, x->ds);
		if (x->is_over)
			return;
	}
	x->status = is_grpc ? 200 : r->status;
	head = foil_arena_zalloc(w, x->arena, sizeof(*head));
	if (head) {
		head->status = x->status;
		head->version = HTTP_VERSION_11;
	}
	if (!head || fill_headers(w, x, r, head, is_grpc) != 0) {
		send_bare(w, x, r->status);
		return;
	}
	if (has_body) {
		head->body = HTTP_BODY_LENGTH;
		head->content_length = r->body.n_bytes;
		if (x->request->method != HTTP_METHOD_HEAD && foil_chain_append(w, &body, r->body.data, r->body.n_bytes) != 0) {
			send_bare(w, x, r->status);
			return;
		}
	}
	mesh_exchange_respond(w, x, head, foil_chain_is_empty(&body));
	if (x->is_over || foil_chain_is_empty(&body)) {
		foil_chain_clear(&body);
		return;
	}
	mesh_exchange_respond_data(w, x, &body, true);
}

void mesh_reply_overloaded(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_reply r = {
		.status = 503, .body = FOIL_SLICE("overloaded"), .details = FOIL_SLICE("overload"), .flags = TELE_FLAG_OM, .reason = MESH_REASON_OVERLOADED,
	};

	mesh_reply_send(w, x, &r);
}

void mesh_reply_no_memory(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_reply r = {
		.status = 503, .details = FOIL_SLICE("overload"), .flags = TELE_FLAG_OM, .reason = MESH_REASON_OUT_OF_MEMORY,
	};

	mesh_reply_send(w, x, &r);
}
