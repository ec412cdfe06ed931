/* Cross-origin resource sharing of a route (features.md VS-51, VS-52), as Envoy's cors filter: preflights whose origin is allowed are answered here, other
 * answers get the access-control headers. Only routes with a destination carry a policy. */
#include "dataplane/mesh/match_priv.h"
#include "dataplane/mesh/runtime.h"

struct cors_state {
	struct foil_slice origin; /* allowed: to be said in the answer; empty else */
};

static bool cors_wants(struct foil_worker *w, const struct mesh_exchange *x)
{
	const struct mesh_route *r = mesh_exchange_route(x);

	(void)w;
	return r && r->cors && http_header_get(&mesh_exchange_request(x)->headers, HTTP_HDR_ORIGIN);
}

static bool origin_is_allowed(struct foil_worker *w, const struct mesh_cors *cors, struct foil_slice origin)
{
	for (uint16_t i = 0; i < cors->n_allow_origins; i++) {
		const struct mesh_string_match *m = &cors->allow_origins[i];
		if (mesh_string_match(w, m, origin) || mesh_string_match(w, m, FOIL_SLICE("*")))
			return true;
	}
	return false;
}

static struct foil_slice asked(const struct http_head *head, struct foil_slice name)
{
	const struct http_header *h = http_header_find(&head->headers, name);

	return h ? h->value : (struct foil_slice){NULL, 0};
}

static void preflight_reply(struct foil_worker *w, struct mesh_filter_call *f, const struct mesh_cors *cors, const struct http_head *head,
			    struct foil_slice origin)
{
	const struct foil_slice star = FOIL_SLICE("*");
	struct http_header h[6];
	struct mesh_reply r = {.status = 200, .details = FOIL_SLICE("cors_response"), .extra = h};
	struct foil_slice methods = foil_slice_eq(cors->allow_methods, star) ? asked(head, FOIL_SLICE("access-control-request-method"))
									     : cors->allow_methods;
	struct foil_slice headers = foil_slice_eq(cors->allow_headers, star) ? asked(head, FOIL_SLICE("access-control-request-headers"))
									     : cors->allow_headers;

	if (origin.n_bytes)
		h[r.n_extra++] = (struct http_header){.name = FOIL_SLICE("access-control-allow-origin"), .value = origin};
	if (cors->allow_credentials)
		h[r.n_extra++] = (struct http_header){.name = FOIL_SLICE("access-control-allow-credentials"), .value = FOIL_SLICE("true")};
	if (methods.n_bytes)
		h[r.n_extra++] = (struct http_header){.name = FOIL_SLICE("access-control-allow-methods"), .value = methods};
	if (headers.n_bytes || foil_slice_eq(cors->allow_headers, star)) /* asked for none: Envoy says none */
		h[r.n_extra++] = (struct http_header){.name = FOIL_SLICE("access-control-allow-headers"), .value = headers};
	if (cors->expose_headers.n_bytes && origin.n_bytes) /* as in other answers to an origin that is allowed (Envoy) */
		h[r.n_extra++] = (struct http_header){.name = FOIL_SLICE("access-control-expose-headers"), .value = cors->expose_headers};
	if (cors->max_age.n_bytes)
		h[r.n_extra++] = (struct http_header){.name = FOIL_SLICE("access-control-max-age"), .value = cors->max_age};
	mesh_filter_reply(w, f, &r);
}

static enum mesh_filter_result cors_request(struct foil_worker *w, struct mesh_filter_call *f, struct http_head *head, bool end)
{
	const struct mesh_cors *cors = mesh_exchange_route(f->exchange)->cors;
	struct cors_state *s = f->state;
	struct foil_slice origin = http_header_joined(w, mesh_filter_arena(f), &head->headers, http_header_name(HTTP_HDR_ORIGIN)); /* several are nobody's */
	bool is_allowed = origin.n_bytes && origin_is_allowed(w, cors, origin);
	bool is_preflight = head->method == HTTP_METHOD_OPTIONS && origin.n_bytes &&
			    asked(head, FOIL_SLICE("access-control-request-method")).n_bytes;

	(void)end;
	if (is_preflight && (is_allowed || cors->ignore_unmatched_preflights)) {
		preflight_reply(w, f, cors, head, is_allowed ? origin : (struct foil_slice){NULL, 0});
		return MESH_FILTER_REPLY;
	}
	if (is_allowed)
		s->origin = origin;
	return MESH_FILTER_CONTINUE;
}

static enum mesh_filter_result cors_response(struct foil_worker *w, struct mesh_filter_call *f, struct http_head *head, bool end)
{
	const struct mesh_cors *cors = mesh_exchange_route(f->exchange)->cors;
	const struct cors_state *s = f->state;
	struct foil_arena *a = mesh_filter_arena(f);
	int rc;

	(void)end;
	if (!s->origin.n_bytes)
		return MESH_FILTER_CONTINUE;
	rc = http_header_set(w, a, &head->headers, FOIL_SLICE("access-control-allow-origin"), s->origin);
	if (rc == 0 && cors->allow_credentials)
		rc = http_header_set(w, a, &head->headers, FOIL_SLICE("access-control-allow-credentials"), FOIL_SLICE("true"));
	if (rc == 0 && cors->expose_headers.n_bytes)
		rc = http_header_set(w, a, &head->headers, FOIL_SLICE("access-control-expose-headers"), cors->expose_headers);
	if (rc != 0) /* the browser refuses the answer then, which is the safe side */
		foil_reason(w, MESH, OUT_OF_MEMORY);
	return MESH_FILTER_CONTINUE;
}

const struct mesh_filter filter_cors = {
	.name = "cors", .state_bytes = sizeof(struct cors_state), .wants = cors_wants, .request_head = cors_request, .response_head = cors_response,
};
