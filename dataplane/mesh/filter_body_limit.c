/* The largest body that a route takes (hydrofoil.io/max-request-body-bytes; features.md OM-15), answered as by Envoy's buffer filter, but nothing is kept
 * back: a length that is told is judged before the upstream hears of the request, without one bytes are counted as they pass, and the upstream's request
 * is reset when they are too many. What counts is the body as the client sent it. Upgrades and CONNECT have no body.
 * Invariant: the last filter, so that what comes while another holds the request is judged when that lets it go. */
#include "dataplane/mesh/runtime.h"

static bool limit_wants(struct foil_worker *w, const struct mesh_exchange *x)
{
	const struct mesh_route *r = mesh_exchange_route(x);

	(void)w;
	return r && r->max_request_body_bytes && !x->is_upgrade && x->request->method != HTTP_METHOD_CONNECT;
}

static enum mesh_filter_result judge(struct foil_worker *w, struct mesh_filter_call *f, uint64_t n_bytes)
{
	const struct mesh_reply r = {
		.status = 413, .body = FOIL_SLICE("Payload Too Large"), .details = FOIL_SLICE("request_payload_too_large"), .with_route_ops = true,
		.reason = MESH_REASON_BODY_TOO_LARGE,
	};

	if (FOIL_LIKELY(n_bytes <= mesh_exchange_route(f->exchange)->max_request_body_bytes))
		return MESH_FILTER_CONTINUE;
	mesh_filter_reply(w, f, &r);
	return MESH_FILTER_REPLY;
}

static enum mesh_filter_result limit_request(struct foil_worker *w, struct mesh_filter_call *f, struct http_head *head, bool end)
{
	(void)end;
	return judge(w, f, head->body == HTTP_BODY_LENGTH ? head->content_length : f->exchange->n_body_bytes);
}

static enum mesh_filter_result limit_data(struct foil_worker *w, struct mesh_filter_call *f, struct foil_chain *data, bool end)
{
	(void)data;
	(void)end;
	return judge(w, f, f->exchange->n_body_bytes);
}

const struct mesh_filter filter_body_limit = {
	.name = "body_limit", .wants = limit_wants, .request_head = limit_request, .request_data = limit_data,
};
