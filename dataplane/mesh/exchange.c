/* One HTTP request from its head to its record: the checks of the connection manager, then filters, then the router; and the way of the answer back to
 * the client. What an upstream does is router.c's business, made-up answers are local_reply.c's.
 * Order of the checks as in Envoy's connection manager (ActiveStream::decodeHeaders): host and version (by the codec), path form, path
 * normalisation, forwarding headers, route, upgrade, filters.
 * Invariant: an exchange is over exactly once (mesh_exchange_over), after which no function touches its configuration, heads or arena. */
#include "dataplane/mesh/path.h"
#include "dataplane/mesh/runtime.h"

static const struct http_stream_events down_events;

/* ---- beginning ---- */
/* The chain that takes requests of d in the configuration in force; NULL: none any more. What it depends on does not change while d lives. */
static const struct mesh_chain *chain_of(struct foil_worker *w, struct mesh_downstream *d)
{
	const struct mesh_listener *l = d->port->listener;
	const struct mesh_first first = mesh_downstream_first(d);

	if (FOIL_UNLIKELY(!l))
		return NULL;
	if (FOIL_LIKELY(d->chain && d->chain_generation == w->mesh->cfg->generation))
		return d->chain;
	struct stream_addr remote, local;
	mesh_downstream_addrs(d, &remote, &local);
	d->chain = mesh_chain_choose(l, local.ip, &first);
	d->chain_generation = w->mesh->cfg->generation;
	return d->chain;
}

static struct mesh_exchange *exchange_new(struct foil_worker *w, struct mesh_downstream *d, struct http_stream *hs)
{
	struct mesh_ctx *m = w->mesh;
	const struct mesh_chain *chain = chain_of(w, d);
	struct mesh_exchange *x;

	if (!chain || chain->network != MESH_NETWORK_HTTP)
		return NULL;
	x = mesh_slab_take(&m->exchanges);
	if (!x)
		return NULL;
	x->ds = d;
	x->down = hs;
	x->arena = hs->arena;
	x->cfg = m->cfg;
	mesh_config_get(w, x->cfg);
	x->hcm = &chain->http;
	x->grpc_status = -1;
	mesh_downstream_addrs(d, &x->remote, &x->local);
	x->from.client = x->remote;
	mesh_list_add_tail(&d->exchanges, &x->node);
	d->n_requests++;
	foil_count(w, MESH, REQUESTS, 1);
	foil_count(w, MESH, REQUESTS_ACTIVE, 1);
	return x;
}

/* No block for the request: a bare 503, and the connection closes. */
static void exhausted_head(struct foil_worker *w, struct http_stream *hs, struct http_head *head, bool end)
{
	struct http_head reply = {.status = 503, .version = HTTP_VERSION_11};

	(void)head;
	(void)end;
	foil_reason(w, MESH, REQUESTS_EXHAUSTED);
	if (http_conn_version(hs->conn) != HTTP_VERSION_2)
		http_conn_drain(w, hs->conn);
	if (http_send_head(w, hs, &reply, true) != 0)
		http_stream_reset(w, hs);
}

static void ignore_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	(void)w;
	(void)hs;
	(void)end;
	foil_chain_clear(own_data);
}

static void ignore_complete(struct foil_worker *w, struct http_stream *hs)
{
	(void)w;
	(void)hs;
}

static FOIL_COLD void ignore_reset(struct foil_worker *w, struct http_stream *hs, const struct http_reset_info *info)
{
	(void)w;
	(void)hs;
	(void)info;
}

static const struct http_stream_events exhausted_events = {
	.head = exhausted_head, .data = ignore_data, .complete = ignore_complete, .reset = ignore_reset,
};

static const struct http_stream_events *stream_new(struct foil_worker *w, struct http_conn *c, struct http_stream *hs)
{
	hs->user_data = exchange_new(w, http_conn_data(c), hs);
	return hs->user_data ? &down_events : &exhausted_events;
}

/* ---- the head ---- */
static void reply_plain(struct foil_worker *w, struct mesh_exchange *x, uint16_t status, struct foil_slice details, uint64_t flags, enum mesh_reason reason)
{
	const struct mesh_reply r = {.status = status, .details = details, .flags = flags, .reason = (uint16_t)reason};

	mesh_reply_send(w, x, &r);
}

static FOIL_COLD void bad_request(struct foil_worker *w, struct http_stream *hs, struct http_head *head, uint16_t status, enum http_reason reason)
{
	struct mesh_exchange *x = hs->user_data;
	struct mesh_reply r = {.status = status, .reason = MESH_REASON_OK};

	if (!x) {
		exhausted_head(w, hs, head, true);
		return;
	}
	r.details = foil_slice_str(http_room_desc.reasons[reason].name);
	if (reason != HTTP_REASON_MISSING_HOST) { /* the codec's own errors: nothing of the head is trusted */
		x->is_bad_request = !x->request;
		r.flags = reason == HTTP_REASON_HEAD_TIMEOUT ? 0 : TELE_FLAG_DPE; /* slow is not wrong */
		r.body = reason == HTTP_REASON_HEAD_TIMEOUT ? FOIL_SLICE("request header timeout") : foil_slice_str(http_status_reason(status));
	}
	if (!x->request) {
		x->request_head = *head;
		x->request = &x->request_head;
	}
	if (x->response_started) {
		x->flags |= TELE_FLAG_DPE;
		x->details = r.details;
		mesh_exchange_abort(w, x);
		return;
	}
	if (!mesh_exchange_is_h2(x))
		mesh_downstream_drain(w, x->ds);
	mesh_reply_send(w, x, &r);
}

/* Without its port: what stands before the last colon outside of brackets. */
static struct foil_slice host_of(struct foil_slice authority)
{
	for (uint32_t i = authority.n_bytes; i-- > 0;) {
		if (authority.data[i] == ']')
			break;
		if (authority.data[i] == ':')
			return foil_slice_of(authority.data, i);
	}
	return authority;
}

/* RFC 9110 15.5.20: a client that uses one connection for all names of a certificate meets the filter chain of the first name (Envoy answers 404, and so
 * does a chain that is not told to refuse); 421 makes it open a connection of its own. */
static bool is_misdirected(const struct mesh_exchange *x)
{
	const struct mesh_downstream *d = x->ds;
	const struct mesh_listener *l = d->port->listener;
	struct mesh_first first = mesh_downstream_first(d);

	if (FOIL_LIKELY(!x->hcm->refuse_misdirected) || !d->tls || !l)
		return false;
	first.sni = host_of(x->request->authority);
	const struct mesh_chain *chain = mesh_chain_choose(l, x->local.ip, &first);
	return chain && (chain->network != MESH_NETWORK_HTTP || &chain->http != x->hcm);
}

static void redirect_to_tls(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct http_head *q = x->request;
	struct foil_slice host = q->authority; /* with its port, whatever that is (Envoy) */
	struct http_header location = {.name = FOIL_SLICE("location"), .id = HTTP_HDR_LOCATION};

	location.value = foil_arena_printf(w, x->arena, "https://%.*s%.*s", (int)FOIL_MIN(host.n_bytes, 300u), host.data,
					   (int)FOIL_MIN(q->path.n_bytes, 3500u), q->path.data);
	if (!location.value.data) {
		mesh_reply_no_memory(w, x);
		return;
	}
	const struct mesh_reply r = {.status = 301, .details = FOIL_SLICE("direct_response"), .extra = &location, .n_extra = 1};
	mesh_reply_send(w, x, &r);
}

/* To its own path without escaped slashes, so that whoever asks again and whoever checks paths read the same (OM-9). */
static void redirect_to_path(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct http_header location = {.name = FOIL_SLICE("location"), .id = HTTP_HDR_LOCATION, .value = x->request->path};
	const struct mesh_reply r = {.status = 307, .details = FOIL_SLICE("path_normalization_failed"), .extra = &location,
				     .n_extra = x->request->is_grpc ? 0 : 1, /* gRPC is not redirected */
				     .has_grpc_status = true, .grpc_status = 13 /* INTERNAL */};

	mesh_reply_send(w, x, &r);
}

/* false: it was answered. */
static bool check_path(struct foil_worker *w, struct mesh_exchange *x)
{
	struct http_head *q = x->request;

	if (q->method == HTTP_METHOD_CONNECT) {
		q->path = (struct foil_slice){NULL, 0}; /* it has none; no route takes it (PR-7) */
		return true;
	}
	if (q->path.n_bytes == 0 || q->path.data[0] != '/') {
		reply_plain(w, x, 404, FOIL_SLICE("absolute_path_rejected"), 0, MESH_REASON_PATH_REFUSED);
		return false;
	}
	switch (mesh_path_normalize(w, x->arena, x->hcm->path_normalization, q)) {
	case MESH_PATH_OK: return true;
	case MESH_PATH_REFUSED: reply_plain(w, x, 400, FOIL_SLICE("path_normalization_failed"), 0, MESH_REASON_PATH_REFUSED); return false;
	case MESH_PATH_REDIRECT: redirect_to_path(w, x); return false;
	case MESH_PATH_NO_MEMORY: mesh_reply_no_memory(w, x); return false;
	}
	FOIL_UNREACHABLE();
}

static bool find_route(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_forwarding_params p = {
		.hcm = x->hcm, .settings = &x->cfg->settings, .remote = &x->remote, .local = &x->local,
		.tls = x->ds->tls,
	};
	const struct mesh_routes *routes = x->hcm->routes_slot < x->cfg->n_route_slots ? x->cfg->routes[x->hcm->routes_slot] : NULL;
	struct mesh_route_result found = {NULL, NULL};

	if (mesh_forwarding_apply(w, x->arena, &p, x->request, &x->from) != 0) {
		mesh_reply_no_memory(w, x);
		return false;
	}
	if (is_misdirected(x)) {
		reply_plain(w, x, 421, FOIL_SLICE("misdirected_request"), 0, MESH_REASON_MISDIRECTED);
		return false;
	}
	if (routes && x->request->method != HTTP_METHOD_CONNECT && x->from.has_proto)
		mesh_route_find(w, routes, x->request, &found);
	x->vhost = found.vhost;
	if (x->vhost && x->vhost->require_tls && !x->from.is_https) {
		redirect_to_tls(w, x);
		return false;
	}
	x->route = found.route;
	if (x->route)
		mesh_router_choose(w, x);
	if (x->request->is_upgrade) {
		x->is_upgrade = true;
		if (!mesh_upgrade_is_allowed(x->request)) {
			reply_plain(w, x, 403, FOIL_SLICE("upgrade_failed"), 0, MESH_REASON_UPGRADE_REFUSED);
			return false;
		}
	}
	return true;
}

static void on_head(struct foil_worker *w, struct http_stream *hs, struct http_head *head, bool end)
{
	struct mesh_exchange *x = hs->user_data;

	x->request_head = *head;
	x->request = &x->request_head;
	x->head_ended = x->request_ended = end;
	mesh_timeouts_arrived(w, x);
	if (FOIL_UNLIKELY(w->overload & FOIL_OVERLOAD_STOP_REQUESTS)) {
		mesh_reply_overloaded(w, x);
		return;
	}
	if (mesh_headers_join(w, x->arena, &x->request->headers, false) != 0) {
		mesh_reply_no_memory(w, x);
		return;
	}
	if (!check_path(w, x) || !find_route(w, x))
		return;
	if (mesh_filters_init(w, x) != 0) {
		mesh_reply_no_memory(w, x);
		return;
	}
	mesh_filters_request(w, x);
}

/* After the filters. */
void mesh_exchange_run(struct foil_worker *w, struct mesh_exchange *x)
{
	if (!x->route) {
		reply_plain(w, x, 404, FOIL_SLICE("route_not_found"), TELE_FLAG_NR, MESH_REASON_ROUTE_NOT_FOUND);
		return;
	}
	mesh_router_begin(w, x);
}

/* ---- the request's body ---- */
static void on_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	struct mesh_exchange *x = hs->user_data;

	if (!x || x->is_over || (x->response_ended && !x->is_tunnel)) {
		foil_chain_clear(own_data);
		return;
	}
	if (end && x->is_tunnel)
		mesh_tunnel_half_closed(w, x, true);
	x->n_body_bytes += own_data->n_bytes;
	mesh_timeouts_activity(w, x);
	x->request_ended = end;
	mesh_filters_request_data(w, x, own_data, end);
}

/* Over HTTP/2 they go on (features.md GR-1); HTTP/1.1 has them dropped unless it is asked to (PR-1), which it is not. */
static void on_trailers(struct foil_worker *w, struct http_stream *hs, struct http_headers *trailers)
{
	struct mesh_exchange *x = hs->user_data;
	struct foil_chain none = {0};

	if (x && !x->is_over && mesh_exchange_is_h2(x))
		x->request_trailers = *trailers;
	on_data(w, hs, &none, true);
}

void mesh_exchange_body(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *own_data, bool end)
{
	mesh_router_data(w, x, own_data, end);
}

void mesh_exchange_pause(struct foil_worker *w, struct mesh_exchange *x)
{
	if (x->is_over || x->request_ended)
		return;
	const struct mesh_listener *l = x->ds->port->listener;
	uint32_t most = FOIL_UNLIKELY(l && l->buffer_bytes) ? FOIL_MIN(l->buffer_bytes, MESH_BODY_WAITING_BYTES) : MESH_BODY_WAITING_BYTES;
	bool want = x->held.n_bytes >= most && !x->is_request_collected;
	if (x->try.stream && (!x->is_upgrade || x->is_tunnel))
		want |= http_stream_tx_room(x->try.stream) == 0;
	else if (x->router != MESH_ROUTER_DONE)
		want |= x->kept.n_bytes >= most;
	if (want == x->is_down_paused)
		return;
	x->is_down_paused = want;
	http_stream_pause(w, x->down, want);
}

/* ---- the answer ---- */
/* Without memory the answer goes without them. */
static void set_server_and_date(struct foil_worker *w, struct mesh_exchange *x, struct http_headers *h)
{
	enum mesh_server_header mode = x->hcm->server_header;
	int rc = 0;

	if (!http_header_get(h, HTTP_HDR_DATE)) {
		struct foil_slice date = foil_arena_copy(w, x->arena, mesh_date(w));
		rc = date.data ? http_header_add_id(w, x->arena, h, HTTP_HDR_DATE, date) : -1;
	}
	if (mode != MESH_SERVER_PASS_THROUGH) {
		if (mode == MESH_SERVER_OVERWRITE || !http_header_get(h, HTTP_HDR_SERVER))
			rc |= mesh_header_put(w, x->arena, h, HTTP_HDR_SERVER, x->hcm->server_name);
	}
	if (rc != 0)
		foil_reason(w, MESH, OUT_OF_MEMORY);
}

/* An HTTP/1 request that is still arriving when it is answered ends its connection, as in Envoy. */
static void drain_if_due(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_downstream *d = x->ds;
	bool is_h1 = x->request->version != HTTP_VERSION_2, is_open = (x->is_upgrade && !x->is_tunnel) || x->request->method == HTTP_METHOD_CONNECT;
	bool due = (is_h1 && !x->is_tunnel && (!x->request_ended || is_open)) || w->mesh->is_draining;

	due |= d->is_ending || w->overload & FOIL_OVERLOAD_DISABLE_KEEPALIVE;
	due |= x->hcm->max_requests_per_connection && d->n_requests >= x->hcm->max_requests_per_connection;
	if (due)
		mesh_downstream_drain(w, x->ds);
}

void mesh_exchange_respond(struct foil_worker *w, struct mesh_exchange *x, struct http_head *head, bool end)
{
	x->response_head = *head;
	x->response = &x->response_head;
	x->response_end_held = end;
	x->response_filter = x->n_calls;
	if (mesh_filters_response(w, x, end))
		mesh_exchange_respond_on(w, x);
}

void mesh_exchange_respond_on(struct foil_worker *w, struct mesh_exchange *x)
{
	struct http_head *head = x->response;
	bool end = x->response_end_held;

	set_server_and_date(w, x, &head->headers);
	drain_if_due(w, x);
	if (x->is_over)
		return;
	x->response_started = true;
	x->response_ended = end;
	x->status = head->status;
	head->wants_close = false;
	head->version = HTTP_VERSION_11;
	if (head->body == HTTP_BODY_UNTIL_CLOSE)
		head->body = HTTP_BODY_CHUNKED;
	if (http_send_head(w, x->down, head, end) != 0) {
		foil_reason(w, MESH, OUT_OF_MEMORY);
		mesh_exchange_abort(w, x);
		return;
	}
	if (end && !x->is_over)
		mesh_router_stop(w, x);
}

/* A filter wants the answer whole: it waits until then, what is too much is dropped. */
static void collect_answer(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *own_data, bool end)
{
	struct foil_chain data = {0};

	if (x->answer.n_bytes < MESH_FILTER_ANSWER_BYTES_MAX)
		foil_chain_move(&x->answer, own_data);
	else
		foil_chain_clear(own_data);
	if (!end || !mesh_filters_response_collected(w, x))
		return;
	foil_chain_move(&data, &x->answer);
	x->response_end_held = foil_chain_is_empty(&data);
	mesh_exchange_respond_on(w, x);
	if (!x->is_over && !foil_chain_is_empty(&data))
		http_send_data(w, x->down, &data, true);
	else
		foil_chain_clear(&data);
	x->response_ended = true;
	if (!x->is_over)
		mesh_router_stop(w, x);
}

void mesh_exchange_respond_data(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *own_data, bool end)
{
	if (FOIL_UNLIKELY(x->is_response_collected)) {
		mesh_timeouts_activity(w, x);
		collect_answer(w, x, own_data, end);
		return;
	}
	if (!mesh_filters_response_data(w, x, own_data, end)) {
		foil_chain_clear(own_data);
		return;
	}
	x->response_ended = end;
	mesh_timeouts_activity(w, x);
	http_send_data(w, x->down, own_data, end);
	if (end && !x->is_over && (!x->is_tunnel || x->request_ended))
		mesh_router_stop(w, x);
}

void mesh_exchange_respond_trailers(struct foil_worker *w, struct mesh_exchange *x, const struct http_headers *trailers)
{
	struct foil_chain none = {0};

	if (x->n_calls && !x->is_response_collected) {
		enum mesh_filter_result result = mesh_filters_response_trailers(w, x, trailers, &none);
		if (result == MESH_FILTER_REPLY || x->is_over) {
			foil_chain_clear(&none);
			return;
		}
		if (result == MESH_FILTER_COLLECT) { /* they are the last of the body, which no other filter changes then */
			x->response_ended = true;
			mesh_timeouts_activity(w, x);
			http_send_data(w, x->down, &none, true);
			if (!x->is_over)
				mesh_router_stop(w, x);
			return;
		}
	}
	if (!mesh_exchange_is_h2(x) || x->is_tunnel || x->is_response_collected) {
		mesh_exchange_respond_data(w, x, &none, true);
		return;
	}
	if (!mesh_filters_response_data(w, x, &none, true)) {
		foil_chain_clear(&none);
		return;
	}
	x->response_ended = true;
	mesh_timeouts_activity(w, x);
	if (none.n_bytes)
		http_send_data(w, x->down, &none, false);
	if (!x->is_over && http_send_trailers(w, x->down, trailers) != 0) {
		foil_reason(w, MESH, OUT_OF_MEMORY);
		mesh_exchange_abort(w, x);
	}
	if (!x->is_over)
		mesh_router_stop(w, x);
}

static void on_writable(struct foil_worker *w, struct http_stream *hs)
{
	struct mesh_exchange *x = hs->user_data;

	if (x && !x->is_over)
		mesh_router_writable(w, x);
}

/* ---- the end ---- */
void mesh_exchange_over(struct foil_worker *w, struct mesh_exchange *x)
{
	if (x->is_over)
		return;
	x->is_over = true;
	mesh_access_record(w, x);
	if (x->is_tunnel)
		foil_count(w, MESH, TUNNELS_ACTIVE, -1);
	mesh_filters_done(w, x);
	mesh_router_stop(w, x);
	mesh_timeouts_fini(w, x);
	foil_chain_clear(&x->kept);
	foil_chain_clear(&x->held);
	foil_chain_clear(&x->answer);
	x->down->user_data = NULL;
	x->down = NULL;
	mesh_list_del(&x->node);
	foil_count(w, MESH, REQUESTS_ACTIVE, -1);
	x->grave.held = x->cfg;
	mesh_bury(w, x, &w->mesh->exchanges);
}

void mesh_exchange_abort(struct foil_worker *w, struct mesh_exchange *x)
{
	struct http_stream *down = x->down;

	if (x->is_over)
		return;
	mesh_exchange_over(w, x);
	http_stream_reset(w, down);
}

static void on_complete(struct foil_worker *w, struct http_stream *hs)
{
	struct mesh_exchange *x = hs->user_data;

	if (x)
		mesh_exchange_over(w, x);
}

static FOIL_COLD void on_reset(struct foil_worker *w, struct http_stream *hs, const struct http_reset_info *info)
{
	struct mesh_exchange *x = hs->user_data;

	if (!x)
		return;
	if (!x->response_ended) {
		foil_count(w, MESH, DOWNSTREAM_RESETS, 1);
		if (info->kind == HTTP_RESET_PROTOCOL) {
			x->flags |= info->reason == HTTP_REASON_H2_UNDERSCORE ? TELE_FLAG_DR : TELE_FLAG_DPE; /* of a legal name: Envoy tells a reset */
			x->details = foil_slice_str(http_room_desc.reasons[info->reason].name);
			if (!x->response_started && !mesh_exchange_is_h2(x))
				x->status = http_reason_status(info->reason); /* the codec has said so to the client */
		} else if (info->kind == HTTP_RESET_STREAM || info->kind == HTTP_RESET_REFUSED_STREAM) {
			x->flags |= TELE_FLAG_DR;
			x->details = info->kind == HTTP_RESET_STREAM ? FOIL_SLICE("http2.remote_reset") : FOIL_SLICE("http2.remote_refuse");
		} else {
			x->flags |= TELE_FLAG_DC;
			x->details = info->kind == HTTP_RESET_LOCAL ? FOIL_SLICE("downstream_local_disconnect") : FOIL_SLICE("downstream_remote_disconnect");
		}
	}
	mesh_exchange_over(w, x);
}

static const struct http_stream_events down_events = {
	.head = on_head, .data = on_data, .trailers = on_trailers, .writable = on_writable, .complete = on_complete, .reset = on_reset,
};

const struct http_server_events mesh_server_events = {
	.stream_new = stream_new, .bad_request = bad_request, .closed = mesh_downstream_closed,
};

void mesh_exchange_fill_ctx(struct foil_worker *w, const struct mesh_exchange *x, struct mesh_format_ctx *ctx)
{
	uint64_t duration = w->now_us - x->down->started_us;

	*ctx = (struct mesh_format_ctx){
		.request = x->request, .response = x->response, .downstream_remote = &x->from.client, .downstream_local = &x->local,
		.upstream_remote = x->host ? &x->upstream_remote : NULL,
		.upstream_local = x->upstream_local.port ? &x->upstream_local : NULL,
		.upstream_cluster = x->cluster ? x->weighted->cluster : (struct foil_slice){NULL, 0},
		.route_name = x->route ? x->route->name : (struct foil_slice){NULL, 0}, .details = x->details, .flags = x->flags, .status = x->status,
		.start_wall_us = w->wall_us - duration, .duration_us = duration, .bytes_received = x->down->rx_body_bytes,
		.bytes_sent = x->down->tx_body_bytes, .attempts = x->n_tries, .hostname = w->mesh->node_name, .tls = x->ds->tls,
		.wire_bytes_received = x->down->rx_wire_bytes, .wire_bytes_sent = x->down->tx_wire_bytes, .transport_failure = x->transport_failure,
		.upstream_version = x->upstream_version, .trailers = &x->response_trailers, .sni = mesh_downstream_sni(x->ds),
		.has_request_duration = x->request_ended, .has_response_duration = x->response_us != 0,
		.request_duration_us = x->request_ended_us ? x->request_ended_us - x->down->started_us : 0,
		.response_duration_us = x->response_us ? x->response_us - x->down->started_us : 0,
		.downstream_direct_remote = &x->remote,
	};
}
