/* The last filter: what the route says becomes a redirect, a direct response, or tries at upstreams. Which try fails for good is retry.c's decision, when time
 * is over timeouts.c's, which connection pool.c's; this file drives one try from the choice of a host to the end of its answer.
 * Rules: features.md VS-17..VS-28, VS-62; Envoy's router filter where those are silent (order of header operations, what is counted when).
 * Invariant: at most one try is alive. A stream whose user_data is NULL was let go: its answer is complete and nobody cares for the rest. */
#include <errno.h>

#include "dataplane/mesh/breaker.h"
#include "dataplane/mesh/health.h"
#include "dataplane/mesh/lb.h"
#include "dataplane/mesh/runtime.h"

static const struct http_stream_events up_events;
static void name_wait_over(struct foil_worker *w, struct mesh_exchange *x);
static FOIL_COLD void reset_reply(struct foil_worker *w, struct mesh_exchange *x, enum http_reset kind);

void mesh_router_choose(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_route_action *a = &x->route->route;
	uint32_t at = 0;

	if (x->route->action != MESH_ACTION_ROUTE || a->n_clusters == 0)
		return;
	x->weighted = &a->clusters[0];
	if (a->n_clusters > 1 && a->total_weight) {
		at = foil_prng_below(&w->prng, a->total_weight);
		for (uint16_t i = 0; i < a->n_clusters; i++) {
			x->weighted = &a->clusters[i];
			if (at < a->clusters[i].weight)
				break;
			at -= a->clusters[i].weight;
		}
	}
	if (x->weighted->slot < x->cfg->n_cluster_slots)
		x->cluster = x->cfg->clusters[x->weighted->slot];
}

/* ---- header operations ---- */
/* VS-21: with several destinations the destination's level runs before the route's, so that the route's set wins; of a single destination the
 * agent has put the operations behind the route's. */
static int ops_apply(struct foil_worker *w, struct mesh_exchange *x, const struct mesh_header_ops *route, const struct mesh_header_ops *dest,
		     struct http_head *head)
{
	struct mesh_format_ctx ctx;
	int rc;

	if (!route->n_add && !route->n_remove && !(dest && (dest->n_add || dest->n_remove)))
		return 0;
	mesh_exchange_fill_ctx(w, x, &ctx);
	ctx.response = head->status ? head : NULL; /* of the request: nothing is known of an answer */
	ctx.status = x->is_local_reply ? 0 : head->status; /* of what is answered here it is not known yet (Envoy) */
	ctx.attempts = FOIL_MAX(ctx.attempts, head->status ? 0u : 1u);
	rc = dest ? mesh_header_ops_apply(w, x->arena, dest, head, &ctx) : 0;
	return rc ? rc : mesh_header_ops_apply(w, x->arena, route, head, &ctx);
}

int mesh_router_response_ops(struct foil_worker *w, struct mesh_exchange *x, struct http_head *head)
{
	int rc;

	if (!x->route)
		return 0;
	rc = ops_apply(w, x, &x->route->response_headers, x->weighted ? &x->weighted->response_headers : NULL, head);
	if (x->route->decorator_operation.n_bytes) /* nobody's word on it, an upstream's or an operation's, is for the client */
		http_header_remove_id(&head->headers, HTTP_HDR_X_ENVOY_DECORATOR_OPERATION);
	return rc;
}

static int finish_authority(struct foil_worker *w, struct mesh_exchange *x)
{
	struct http_head *q = x->request;
	int rc = 0;

	if (x->route->route.host_rewrite.n_bytes)
		q->authority = x->route->route.host_rewrite;
	if (foil_slice_eq(q->authority, x->original_authority))
		return 0;
	if (!x->hcm->envoy_debug_headers_off)
		rc = mesh_header_put(w, x->arena, &q->headers, HTTP_HDR_X_ENVOY_ORIGINAL_HOST, x->original_authority);
	if (rc == 0 && x->hcm->add_forwarded_host)
		rc = mesh_header_append(w, x->arena, &q->headers, http_header_name(HTTP_HDR_X_FORWARDED_HOST), x->original_authority);
	return rc;
}

static int finish_path(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_route_action *a = &x->route->route;
	struct foil_slice before = x->request->path, after;
	int rc;

	if (!a->has_prefix_rewrite && !a->regex_rewrite)
		return 0;
	rc = mesh_route_rewrite(w, x->arena, x->route, before, &after);
	if (rc == 0 && after.data == before.data)
		return 0;
	if (rc == 0 && !x->hcm->envoy_debug_headers_off)
		rc = mesh_header_put(w, x->arena, &x->request->headers, HTTP_HDR_X_ENVOY_ORIGINAL_PATH, before);
	if (rc == 0) {
		x->request->path = after;
		x->original_path = before;
	}
	return rc;
}

/* An upstream is asked by http or https, whatever the client called it. */
static void finish_scheme(struct mesh_exchange *x)
{
	struct foil_slice *s = &x->request->scheme;

	if (FOIL_UNLIKELY(!foil_slice_eq(*s, FOIL_SLICE("http")) && !foil_slice_eq(*s, FOIL_SLICE("https"))))
		*s = x->from.is_https ? FOIL_SLICE("https") : FOIL_SLICE("http");
}

/* What the upstream shall see, once a request; a try changes only its own headers (try_headers). */
static int finish_request(struct foil_worker *w, struct mesh_exchange *x)
{
	int rc = mesh_timeouts_init(w, x);

	if (rc == 0 && x->route->decorator_operation.n_bytes)
		rc = mesh_header_put(w, x->arena, &x->request->headers, HTTP_HDR_X_ENVOY_DECORATOR_OPERATION, x->route->decorator_operation);
	if (rc == 0 && x->vhost->include_attempt_count && !x->hcm->attempt_count_off)
		rc = mesh_header_put_number(w, x->arena, &x->request->headers, HTTP_HDR_X_ENVOY_ATTEMPT_COUNT, 1);
	x->original_authority = x->request->authority;
	rc = rc ? rc : ops_apply(w, x, &x->route->request_headers, &x->weighted->request_headers, x->request);
	finish_scheme(x);
	mesh_retry_init(w, x); /* the route's operations may say how to retry, timeouts are settled before them (Envoy) */
	rc = rc ? rc : finish_authority(w, x);
	return rc ? rc : finish_path(w, x);
}

static int try_headers(struct foil_worker *w, struct mesh_exchange *x)
{
	int rc = mesh_timeouts_headers(w, x);

	if (rc == 0 && x->n_tries > 1 && x->vhost->include_attempt_count && !x->hcm->attempt_count_off)
		rc = mesh_header_put_number(w, x->arena, &x->request->headers, HTTP_HDR_X_ENVOY_ATTEMPT_COUNT, x->n_tries);
	return rc;
}

/* ---- the action ---- */
static void direct_response(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct http_head *q = x->request;
	struct http_header location = {.name = http_header_name(HTTP_HDR_LOCATION), .id = HTTP_HDR_LOCATION};
	struct mesh_reply r = {
		.status = x->route->direct.status, .body = x->route->direct.body, .details = FOIL_SLICE("direct_response"), .with_route_ops = true,
	};

	if (r.status == 201 || (r.status >= 300 && r.status <= 399)) { /* Envoy says where the request itself went to */
		location.value = foil_arena_printf(w, x->arena, "%.*s://%.*s%.*s", (int)q->scheme.n_bytes, q->scheme.data,
						   (int)FOIL_MIN(q->authority.n_bytes, 300u), q->authority.data,
						   (int)FOIL_MIN(q->path.n_bytes, 3500u), q->path.data);
		r.extra = &location;
		r.n_extra = location.value.data ? 1 : 0;
	}
	mesh_reply_send(w, x, &r);
}

static void redirect(struct foil_worker *w, struct mesh_exchange *x)
{
	struct http_header location = {.name = http_header_name(HTTP_HDR_LOCATION), .id = HTTP_HDR_LOCATION};
	const struct mesh_reply r = {
		.status = x->route->redirect.code ? x->route->redirect.code : 301, .details = FOIL_SLICE("direct_response"), .extra = &location,
		.n_extra = 1, .with_route_ops = true,
	};

	if (mesh_redirect_location(w, x->arena, x->route, x->request, x->request->scheme, &location.value) != 0)
		mesh_reply_no_memory(w, x);
	else
		mesh_reply_send(w, x, &r);
}

static void cluster_not_found(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_reply r = {
		.status = x->route->route.cluster_not_found_status ? x->route->route.cluster_not_found_status : 503,
		.details = FOIL_SLICE("cluster_not_found"), .flags = TELE_FLAG_NC, .with_route_ops = true, .reason = MESH_REASON_CLUSTER_NOT_FOUND,
	};

	mesh_reply_send(w, x, &r);
}

static void no_healthy_upstream(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_reply r = {
		.status = 503, .body = FOIL_SLICE("no healthy upstream"), .details = FOIL_SLICE("no_healthy_upstream"), .flags = TELE_FLAG_UH,
		.with_route_ops = true, .reason = x->cluster->is_original_dst ? MESH_REASON_ORIGINAL_DST : MESH_REASON_NO_HEALTHY_UPSTREAM,
	};

	x->host = NULL;
	mesh_reply_send(w, x, &r);
}

static void request_complete(struct foil_worker *w, struct mesh_exchange *x)
{
	if (x->is_over || x->router == MESH_ROUTER_DONE || x->is_tunnel)
		return;
	x->request_ended_us = w->now_us;
	mesh_timeouts_request_ended(w, x);
	if (x->try.stream)
		mesh_timeouts_try_connected(w, x);
	if (x->route->route.n_mirrors)
		mesh_mirror_send(w, x);
}

/* What chooses its host, before the route's operations change the request (Envoy). */
static int hash_request(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_route_action *a = &x->route->route;
	const struct mesh_hash_request r = {.head = x->request, .client = &x->from.client, .remote = &x->remote, .local = &x->local};

	if (!a->n_hash_policies || !mesh_cluster_hashes(x->cluster))
		return 0;
	return mesh_hash_of_request(w, x->arena, a->hash_policies, a->n_hash_policies, &r, &x->hash);
}

void mesh_router_begin(struct foil_worker *w, struct mesh_exchange *x)
{
	switch (x->route->action) {
	case MESH_ACTION_REDIRECT: redirect(w, x); return;
	case MESH_ACTION_DIRECT_RESPONSE: direct_response(w, x); return;
	case MESH_ACTION_ROUTE: break;
	}
	if (!x->cluster) {
		cluster_not_found(w, x);
		return;
	}
	if (hash_request(w, x) != 0 || finish_request(w, x) != 0) {
		mesh_reply_no_memory(w, x);
		return;
	}
	x->body_ended = x->request_ended && !x->held_end && foil_chain_is_empty(&x->held);
	x->keep = !x->is_upgrade && (x->retry.n_left > 0 || x->route->route.n_mirrors > 0);
	mesh_router_try(w, x);
	if (x->body_ended)
		request_complete(w, x);
}

/* ---- a try: towards the upstream ---- */
/* The try's stream is no longer ours, for the breakers and for balancing. */
static struct http_stream *try_let_go(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_try *t = &x->try;
	struct http_stream *hs = t->stream;

	foil_timer_cancel(w, &t->timer);
	if (!hs)
		return NULL;
	t->stream = NULL;
	hs->user_data = NULL;
	mesh_pool_done(w, t->endpoint->host);
	return hs;
}

void mesh_router_stop(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_try *t = &x->try;
	struct http_stream *hs;
	bool is_complete = t->request_ended && t->response_ended;

	mesh_pool_cancel(w, &t->waiter);
	if (FOIL_UNLIKELY(t->name.name != NULL)) {
		mesh_name_cancel(w, &t->name);
		name_wait_over(w, x);
	}
	hs = try_let_go(w, x);
	if (hs && !is_complete) {
		foil_count(w, MESH, UPSTREAM_RESETS, 1);
		http_stream_reset(w, hs);
	}
	if (x->is_over || x->response_started || x->is_local_reply)
		mesh_retry_fini(w, x);
}

/* Trailers can only follow over HTTP/2. */
static bool has_trailers(const struct mesh_exchange *x)
{
	return x->request_trailers.n && http_conn_version(x->try.stream->conn) == HTTP_VERSION_2;
}

/* Body towards the upstream, and its end, with trailers where there are. */
static void send_up(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *own_data, bool end)
{
	struct http_stream *hs = x->try.stream;

	x->try.request_ended = end;
	if (!end || !has_trailers(x)) {
		http_send_data(w, hs, own_data, end);
		return;
	}
	if (own_data->n_bytes)
		http_send_data(w, hs, own_data, false);
	if (x->try.stream != hs)
		return; /* it was reset in between */
	if (http_send_trailers(w, hs, &x->request_trailers) != 0) {
		foil_reason(w, MESH, OUT_OF_MEMORY);
		mesh_router_stop(w, x);
		mesh_router_failed(w, x, HTTP_RESET_LOCAL, STREAM_END_LOCAL);
	}
}

/* Sends the body that waits. false: the try is gone, or memory is. */
static bool send_kept(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_try *t = &x->try;
	struct foil_chain data = {0};

	if (foil_chain_is_empty(&x->kept) && (t->request_ended || !x->body_ended))
		return true;
	if (!x->keep)
		foil_chain_move(&data, &x->kept);
	else if (foil_chain_share(w, &x->kept, 0, x->kept.n_bytes, &data) != 0)
		return false;
	send_up(w, x, &data, x->body_ended);
	return true;
}

static void try_connected(struct foil_worker *w, struct mesh_exchange *x, struct mesh_upstream *u, struct http_stream *hs)
{
	struct mesh_try *t = &x->try;
	struct http_head head = *x->request;
	bool end;
	uint32_t n = x->n_tries;
	int rc;

	t->stream = hs;
	/* A body that may come is announced, even if it has come to nothing since; to a later try nothing is (Envoy). */
	end = x->body_ended && foil_chain_is_empty(&x->kept) && !has_trailers(x) && (x->head_ended || x->is_upgrade || x->n_tries > 1);
	t->is_connected = true;
	x->upstream_local = *mesh_upstream_local(u);
	x->upstream_version = (uint8_t)(http_conn_version(hs->conn) + 1);
	mesh_outlier_outcome(w, x->cluster, t->endpoint->host, MESH_OUTCOME_CONNECT_OK, 0);
	head.version = HTTP_VERSION_11;
	head.wants_close = false;
	head.was_absolute_form = false;
	if (end && head.body != HTTP_BODY_LENGTH)
		head.body = HTTP_BODY_NONE;
	t->request_ended = end;
	rc = x->is_upgrade ? mesh_tunnel_request(w, x, http_conn_version(hs->conn) == HTTP_VERSION_2) : 0;
	head.headers = x->request->headers;
	rc = rc ? rc : http_send_head(w, hs, &head, end);
	if (rc == -EPROTONOSUPPORT) {
		mesh_router_stop(w, x);
		mesh_router_failed(w, x, HTTP_RESET_PROTOCOL, STREAM_END_NONE);
		return;
	}
	if (rc != 0 || (!x->is_upgrade && !send_kept(w, x))) {
		foil_reason(w, MESH, OUT_OF_MEMORY);
		mesh_router_stop(w, x);
		mesh_router_failed(w, x, HTTP_RESET_LOCAL, STREAM_END_LOCAL);
		return;
	}
	if (x->is_over || t->stream != hs || x->n_tries != n)
		return;
	if (x->body_ended)
		mesh_timeouts_try_connected(w, x);
	mesh_exchange_pause(w, x);
}

static void waiter_ready(struct foil_worker *w, struct mesh_pool_waiter *waiter, struct mesh_upstream *u, struct http_stream *hs)
{
	try_connected(w, waiter->user_data, u, hs);
}

static FOIL_COLD void waiter_failed(struct foil_worker *w, struct mesh_pool_waiter *waiter, enum http_reset kind, enum stream_end why)
{
	mesh_router_failed(w, waiter->user_data, kind, why);
}

/* To the host that was chosen, at x->upstream_remote. */
static void try_connect(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_try *t = &x->try;
	struct mesh_upstream *u = NULL;
	struct http_stream *hs = NULL;

	t->waiter = (struct mesh_pool_waiter){
		.arena = x->arena, .events = &up_events, .user_data = x, .ready = waiter_ready, .failed = waiter_failed,
		.authority = x->request->authority, .client = &x->remote, .server = &x->local, .place = &x->upstream_remote,
		.is_client_h2 = x->request->version == HTTP_VERSION_2,
	};
	switch (mesh_pool_acquire(w, x->cfg, x->cluster, t->endpoint, &t->waiter, &u, &hs)) {
	case MESH_POOL_READY: try_connected(w, x, u, hs); return;
	case MESH_POOL_WAITING: return;
	case MESH_POOL_QUEUE_OVERFLOW: x->host = NULL; /* fall through: the record names no host, as Envoy's */ __attribute__((fallthrough));
	case MESH_POOL_OVERFLOW: mesh_router_failed(w, x, MESH_RESET_OVERFLOW, STREAM_END_NONE); return;
	case MESH_POOL_FAILED: mesh_router_failed(w, x, HTTP_RESET_CONNECT_FAILURE, STREAM_END_UNREACHABLE); return;
	}
	FOIL_UNREACHABLE();
}

/* ---- the host that the request names (SE-3, DYNAMIC_DNS) ---- */
static struct foil_slice name_details(enum mesh_name_result result)
{
	switch (result) {
	case MESH_NAME_BAD: return FOIL_SLICE("dns_resolution_failure{cares_failure:Misformatted_domain_name}");
	case MESH_NAME_REFUSED: return FOIL_SLICE("dns_resolution_failure{refused_address}");
	case MESH_NAME_TIMED_OUT: return FOIL_SLICE("dns_resolution_failure{resolve_timeout}");
	case MESH_NAME_CACHE_OVERFLOW: return FOIL_SLICE("dns_cache_overflow");
	case MESH_NAME_QUEUE_OVERFLOW: return FOIL_SLICE("dynamic_forward_proxy_pending_request_overflow");
	case MESH_NAME_READY:
	case MESH_NAME_WAITING:
	case MESH_NAME_UNKNOWN: break;
	}
	return FOIL_SLICE("dns_resolution_failure{no_address}");
}

/* What a sidecar of Istio's says, which has a filter for it; at gateways the balancer meets the failure: no host (as the oracle). */
static FOIL_COLD void name_failed(struct foil_worker *w, struct mesh_exchange *x, enum mesh_name_result result)
{
	const struct mesh_listener *l = x->ds->port->listener;
	struct mesh_reply r = {
		.status = 503, .body = FOIL_SLICE("DNS resolution failure"), .details = name_details(result), .flags = TELE_FLAG_DF,
		.with_route_ops = true, .reason = (uint16_t)mesh_name_reason(result),
	};

	if (result == MESH_NAME_CACHE_OVERFLOW || result == MESH_NAME_QUEUE_OVERFLOW) {
		r.body = result == MESH_NAME_CACHE_OVERFLOW ? FOIL_SLICE("DNS cache overflow") : FOIL_SLICE("Dynamic forward proxy pending request overflow");
		r.flags = 0;
	}
	if (!l || l->direction == MESH_DIRECTION_GATEWAY) {
		r.body = FOIL_SLICE("no healthy upstream");
		r.flags = TELE_FLAG_UH;
	}
	mesh_reply_send(w, x, &r);
}

static void name_known(struct foil_worker *w, struct mesh_exchange *x, enum mesh_name_result result, const uint8_t ip[16])
{
	if (FOIL_UNLIKELY(result != MESH_NAME_READY)) {
		name_failed(w, x, result);
		return;
	}
	x->host = x->try.endpoint;
	memcpy(x->upstream_remote.ip, ip, sizeof(x->upstream_remote.ip));
	try_connect(w, x);
}

static void name_wait_over(struct foil_worker *w, struct mesh_exchange *x)
{
	mesh_breaker_add(w, x->try.endpoint->host->cluster, MESH_BREAKER_PENDING, -1);
}

static void name_resolved(struct foil_worker *w, struct mesh_name_waiter *waiter, enum mesh_name_result result, const uint8_t ip[16])
{
	struct mesh_exchange *x = FOIL_CONTAINER_OF(waiter, struct mesh_exchange, try.name);

	name_wait_over(w, x);
	x->try.started_us = w->now_us;
	name_known(w, x, result, ip);
}

/* A request that waits for an address waits for a connection: it counts as such. */
static void try_by_name(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_try *t = &x->try;
	struct mesh_cluster_state *s = t->endpoint->host->cluster;
	uint8_t ip[16];

	t->name.resolved = name_resolved;
	x->host = NULL; /* there is none yet */
	x->upstream_remote.port = mesh_authority_port(x->cluster, x->request->authority, t->endpoint->tls);
	enum mesh_name_result result = MESH_NAME_BAD;
	if (x->upstream_remote.port)
		result = mesh_name_resolve(w, mesh_authority_host(x->request->authority), &t->name, ip);
	if (FOIL_LIKELY(result != MESH_NAME_WAITING)) {
		name_known(w, x, result, ip);
		return;
	}
	if (!mesh_breaker_take(w, x->cluster, s, MESH_BREAKER_PENDING)) {
		mesh_name_cancel(w, &t->name);
		foil_count(w, MESH, UPSTREAM_PENDING_OVERFLOW, 1);
		mesh_router_failed(w, x, MESH_RESET_OVERFLOW, STREAM_END_NONE);
	}
}

static const struct mesh_endpoint *pick(struct foil_worker *w, struct mesh_exchange *x)
{
	uint32_t slot = x->cluster->slot;
	const struct mesh_endpoints *e = x->cfg->endpoints[slot];
	struct mesh_host_set *set = x->cfg->host_sets[slot];

	if (!e || !set || e->n_endpoints == 0 || (x->cluster->is_original_dst && !mesh_port_is_captured(x->ds->port)))
		return NULL;
	const struct mesh_lb_want want = {
		.avoid = x->retry.avoid, .n_avoid = x->retry.n_avoid, .attempts_max = x->retry.host_attempts_max, .has_hash = x->hash.is_there,
		.hash = x->hash.hash,
	};
	return mesh_lb_choose(w, e, set, &want);
}

void mesh_router_try(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_try *t = &x->try;
	const struct mesh_endpoint *e = pick(w, x);

	x->n_tries++;
	x->router = MESH_ROUTER_TRY;
	if (!e) {
		no_healthy_upstream(w, x);
		return;
	}
	if (try_headers(w, x) != 0) {
		mesh_reply_no_memory(w, x);
		return;
	}
	memset(t, 0, sizeof(*t));
	t->endpoint = x->host = e;
	t->started_us = w->now_us;
	x->upstream_local.port = 0;
	memcpy(x->upstream_remote.ip, e->ip, sizeof(e->ip));
	x->upstream_remote.port = e->port;
	if (x->cluster->is_original_dst)
		x->upstream_remote = x->local;
	if (FOIL_UNLIKELY(x->cluster->is_dynamic))
		try_by_name(w, x);
	else
		try_connect(w, x);
}

/* More body than may be kept: no retry and no mirror from now on. */
static void keep_no_more(struct mesh_exchange *x)
{
	x->keep = false;
	x->kept_overflow = true;
	x->retry.n_left = 0;
	if (x->try.stream)
		foil_chain_clear(&x->kept);
}

/* Beyond the listener's buffer there is no retry, as in Envoy; a mirror gets its body all the same. */
static void look_at_kept(struct mesh_exchange *x, uint32_t n_more)
{
	const struct mesh_listener *l = x->ds->port->listener;
	uint32_t n = x->kept.n_bytes + n_more;

	if (n > MESH_BODY_KEPT_BYTES_MAX || (l && l->buffer_bytes && n > l->buffer_bytes && x->route->route.n_mirrors == 0)) {
		keep_no_more(x);
	} else if (l && l->buffer_bytes && n > l->buffer_bytes) {
		x->kept_overflow = true;
		x->retry.n_left = 0;
	}
}

void mesh_router_data(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *own_data, bool end)
{
	struct mesh_try *t = &x->try;

	if (x->router == MESH_ROUTER_DONE || x->is_local_reply) {
		foil_chain_clear(own_data);
		return;
	}
	x->body_ended = end;
	if (x->request->is_grpc)
		mesh_grpc_count(&x->request_messages, own_data);
	if (x->keep)
		look_at_kept(x, own_data->n_bytes);
	if (!t->stream || (x->is_upgrade && !x->is_tunnel)) {
		foil_chain_move(&x->kept, own_data);
	} else {
		struct foil_chain copy = {0};
		if (x->keep && foil_chain_share(w, own_data, 0, own_data->n_bytes, &copy) != 0)
			keep_no_more(x);
		foil_chain_move(&x->kept, &copy);
		send_up(w, x, own_data, end);
	}
	if (end)
		request_complete(w, x);
	mesh_exchange_pause(w, x);
}

static void up_writable(struct foil_worker *w, struct http_stream *hs)
{
	struct mesh_exchange *x = hs->user_data;

	if (x)
		mesh_exchange_pause(w, x);
}

/* ---- a try: the answer ---- */
static void hold_back(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_try *t = &x->try;

	if (x->is_over || !t->stream || t->is_paused || t->response_ended)
		return;
	if (!x->is_response_held && http_stream_tx_room(x->down) > 0)
		return;
	t->is_paused = true;
	http_stream_pause(w, t->stream, true);
}

void mesh_router_writable(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_try *t = &x->try;

	if (!t->stream || !t->is_paused || x->is_response_held || http_stream_tx_room(x->down) == 0)
		return;
	t->is_paused = false;
	http_stream_pause(w, t->stream, false);
}

/* A protocol upgrade that the upstream did not take: its status and headers without a body (Envoy's checkAndRejectIfWebsocketUpgradeFailed). */
static FOIL_COLD void upgrade_failed(struct foil_worker *w, struct mesh_exchange *x, const struct http_head *head)
{
	struct http_header *extra = foil_arena_zalloc(w, x->arena, (size_t)(head->headers.n + 1u) * sizeof(*extra));
	struct mesh_reply r = {
		.status = head->status, .details = FOIL_SLICE("websocket_handshake_unsuccessful"), .extra = extra, .with_route_ops = true,
		.reason = MESH_REASON_UPGRADE_FAILED,
	};

	for (uint16_t i = 0; extra && i < head->headers.n; i++) {
		const struct http_header *h = &head->headers.list[i];
		if (!h->is_removed && h->id != HTTP_HDR_CONTENT_TYPE && h->id != HTTP_HDR_UPGRADE && h->id != HTTP_HDR_CONNECTION)
			extra[r.n_extra++] = *h;
	}
	mesh_reply_send(w, x, &r);
}

static int decorate_answer(struct foil_worker *w, struct mesh_exchange *x, struct http_head *head)
{
	int rc = 0;

	x->response_us = w->now_us;
	if (x->body_ended && !x->hcm->envoy_debug_headers_off)
		rc = mesh_header_put_number(w, x->arena, &head->headers, HTTP_HDR_X_ENVOY_UPSTREAM_SERVICE_TIME,
					    (w->now_us - x->request_ended_us) / 1000u);
	for (uint16_t i = 0; rc == 0 && i < x->hash.n_set_cookies; i++)
		rc = http_header_add_id(w, x->arena, &head->headers, HTTP_HDR_SET_COOKIE, x->hash.set_cookies[i]);
	return rc ? rc : mesh_router_response_ops(w, x, head);
}

static void note_grpc_status(struct mesh_exchange *x, const struct http_headers *headers)
{
	const struct http_header *h = http_header_get(headers, HTTP_HDR_GRPC_STATUS);
	unsigned int n = 0;

	if (!h || h->value.n_bytes == 0 || h->value.n_bytes > 2)
		return;
	for (uint32_t i = 0; i < h->value.n_bytes; i++) {
		if (h->value.data[i] < '0' || h->value.data[i] > '9')
			return;
		n = n * 10u + (unsigned int)(h->value.data[i] - '0');
	}
	x->grpc_status = (int16_t)n;
}

/* The final answer to an upgrade. false: the exchange goes another way. */
static bool upgrade_answered(struct foil_worker *w, struct mesh_exchange *x, struct http_head *head)
{
	struct http_stream *hs = x->try.stream;
	struct foil_chain none = {0};

	if (head->status != 101) {
		x->try.request_ended = true; /* there will be no bytes */
		http_send_data(w, hs, &none, true);
		if (head->status >= 400)
			return true;
		upgrade_failed(w, x, head);
		return false;
	}
	switch (mesh_tunnel_begin(w, x, http_conn_version(hs->conn) == HTTP_VERSION_2, head)) {
	case MESH_TUNNEL_TAKEN: return true;
	case MESH_TUNNEL_WRONG_ANSWER:
		mesh_router_stop(w, x);
		reset_reply(w, x, HTTP_RESET_PROTOCOL);
		return false;
	case MESH_TUNNEL_NO_MEMORY: mesh_reply_no_memory(w, x); return false;
	}
	FOIL_UNREACHABLE();
}

/* What the client sent before it knew. */
static void tunnel_opens(struct foil_worker *w, struct mesh_exchange *x)
{
	if (x->is_over || !x->try.stream)
		return;
	if (!send_kept(w, x)) {
		foil_reason(w, MESH, OUT_OF_MEMORY);
		mesh_exchange_abort(w, x);
		return;
	}
	if (!x->is_over)
		mesh_exchange_pause(w, x);
}

static void note_latency(struct foil_worker *w, const struct mesh_exchange *x, bool has_failed)
{
	if (FOIL_UNLIKELY(x->cluster->lb == MESH_LB_LEAST_LATENCY))
		mesh_latency_sample(w, x->try.endpoint->host, w->now_us - x->try.started_us, has_failed);
}

static void up_head(struct foil_worker *w, struct http_stream *hs, struct http_head *head, bool end)
{
	struct mesh_exchange *x = hs->user_data;
	struct mesh_try *t;

	if (!x)
		return;
	t = &x->try;
	t->response_started = true;
	t->response_ended = end;
	foil_timer_cancel(w, &t->timer);
	mesh_timeouts_activity(w, x);
	mesh_outlier_outcome(w, x->cluster, t->endpoint->host, MESH_OUTCOME_STATUS, head->status);
	if (FOIL_UNLIKELY(t->endpoint->check != NULL) && http_header_find(&head->headers, FOIL_SLICE("x-envoy-immediate-health-check-fail")))
		mesh_health_fail_now(w, t->endpoint->host);
	note_latency(w, x, head->status >= 500);
	switch (mesh_retry_on_response(w, x, head)) {
	case MESH_RETRY_YES:
		mesh_router_stop(w, x);
		mesh_retry_schedule(w, x);
		return;
	case MESH_RETRY_EXHAUSTED: x->flags |= TELE_FLAG_URX; break;
	case MESH_RETRY_OVERFLOW: x->flags |= TELE_FLAG_UO; break;
	case MESH_RETRY_NO: break;
	}
	if (x->is_upgrade && !upgrade_answered(w, x, head))
		return;
	mesh_retry_fini(w, x); /* what follows is the answer */
	if (!x->route->route.n_mirrors || x->body_ended) {
		x->keep = false;
		foil_chain_clear(&x->kept);
	}
	note_grpc_status(x, &head->headers);
	x->response_messages.on = x->request->is_grpc && head->is_grpc;
	x->details = FOIL_SLICE("via_upstream");
	if (mesh_headers_join(w, x->arena, &head->headers, true) != 0 || decorate_answer(w, x, head) != 0) {
		mesh_reply_no_memory(w, x);
		return;
	}
	mesh_exchange_respond(w, x, head, end);
	if (x->is_tunnel)
		tunnel_opens(w, x);
	hold_back(w, x);
}

static void up_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	struct mesh_exchange *x = hs->user_data;

	if (!x) {
		foil_chain_clear(own_data);
		return;
	}
	x->try.response_ended = end;
	if (end && x->is_tunnel)
		mesh_tunnel_half_closed(w, x, false);
	if (x->response_messages.on)
		mesh_grpc_count(&x->response_messages, own_data);
	mesh_exchange_respond_data(w, x, own_data, end);
	hold_back(w, x);
}

static void up_trailers(struct foil_worker *w, struct http_stream *hs, struct http_headers *trailers)
{
	struct mesh_exchange *x = hs->user_data;
	struct foil_chain none = {0};

	if (!x)
		return;
	x->try.response_ended = true;
	note_grpc_status(x, trailers);
	x->response_trailers = *trailers;
	if (http_conn_version(hs->conn) == HTTP_VERSION_2)
		mesh_exchange_respond_trailers(w, x, trailers);
	else
		mesh_exchange_respond_data(w, x, &none, true);
}

static void up_informational(struct foil_worker *w, struct http_stream *hs, struct http_head *head)
{
	struct mesh_exchange *x = hs->user_data;

	if (!x || x->response_started || x->request->version == HTTP_VERSION_10)
		return;
	head->version = HTTP_VERSION_11;
	head->wants_close = false;
	if (http_send_head(w, x->down, head, false) != 0)
		foil_reason(w, MESH, OUT_OF_MEMORY); /* the client does without it */
}

static void up_complete(struct foil_worker *w, struct http_stream *hs)
{
	struct mesh_exchange *x = hs->user_data;

	if (x)
		(void)try_let_go(w, x);
}

/* A peer that finishes in order in the middle of a message breaks the protocol; one that resets only terminates the connection (Envoy's words). */
static bool is_cut_short(const struct http_reset_info *info)
{
	return info->kind == HTTP_RESET_REMOTE && info->why == STREAM_END_FIN && info->rx_started;
}

static FOIL_COLD void up_reset(struct foil_worker *w, struct http_stream *hs, const struct http_reset_info *info)
{
	struct mesh_exchange *x = hs->user_data;

	if (!x)
		return;
	(void)try_let_go(w, x);
	foil_count(w, MESH, UPSTREAM_RESETS, 1);
	mesh_router_failed(w, x, is_cut_short(info) ? HTTP_RESET_PROTOCOL : info->kind, info->why);
}

static const struct http_stream_events up_events = {
	.head = up_head, .data = up_data, .trailers = up_trailers, .informational = up_informational, .writable = up_writable,
	.complete = up_complete, .reset = up_reset,
};

/* ---- a try that ends badly ---- */
static bool is_connect_failure(enum http_reset kind)
{
	return kind == HTTP_RESET_CONNECT_FAILURE || kind == HTTP_RESET_CONNECT_TIMEOUT;
}

static FOIL_COLD struct foil_slice reset_details(struct foil_worker *w, struct mesh_exchange *x, const char *when, enum http_reset kind,
						 struct foil_slice transport)
{
	struct foil_slice text = mesh_reset_text(kind);
	struct foil_slice s = foil_arena_printf(w, x->arena, "%s{%.*s%s%.*s}", when, (int)text.n_bytes, text.data, transport.n_bytes ? "|" : "",
						(int)transport.n_bytes, transport.data ? transport.data : "");

	for (uint32_t i = 0; i < s.n_bytes; i++) /* details have no spaces */
		if (s.data[i] == ' ')
			((char *)(uintptr_t)s.data)[i] = '_';
	return s;
}

static void reset_reply(struct foil_worker *w, struct mesh_exchange *x, enum http_reset kind)
{
	struct foil_slice text = mesh_reset_text(kind);
	struct mesh_reply r = {
		.status = kind == HTTP_RESET_PROTOCOL ? 502 : 503, .flags = mesh_reset_flag(kind), .with_route_ops = true,
		.is_overloaded = kind == MESH_RESET_OVERFLOW,
		.reason = kind == MESH_RESET_OVERFLOW ? MESH_REASON_UPSTREAM_OVERFLOW : MESH_REASON_UPSTREAM_FAILED,
	};

	r.details = reset_details(w, x, "upstream_reset_before_response_started", kind, x->transport_failure);
	r.body = foil_arena_printf(w, x->arena, "upstream connect error or disconnect/reset before headers. %sreset reason: %.*s",
				   x->n_tries > 1 ? "retried and the latest " : "", (int)text.n_bytes, text.data);
	mesh_reply_send(w, x, &r);
}

/* After a YES of retry.c there is a next try; anything else leaves its flag. */
static bool goes_on(struct foil_worker *w, struct mesh_exchange *x, enum mesh_retry_verdict verdict)
{
	switch (verdict) {
	case MESH_RETRY_YES: mesh_retry_schedule(w, x); return true;
	case MESH_RETRY_EXHAUSTED: x->flags |= TELE_FLAG_URX; return false;
	case MESH_RETRY_OVERFLOW: x->flags |= TELE_FLAG_UO; return false;
	case MESH_RETRY_NO: return false;
	}
	FOIL_UNREACHABLE();
}

void mesh_router_failed(struct foil_worker *w, struct mesh_exchange *x, enum http_reset kind, enum stream_end why)
{
	if (x->is_over || x->is_local_reply)
		return;
	if (kind != MESH_RESET_OVERFLOW)
		mesh_outlier_outcome(w, x->cluster, x->try.endpoint->host, is_connect_failure(kind) ? MESH_OUTCOME_CONNECT_FAILED : MESH_OUTCOME_RESET, 0);
	if (FOIL_UNLIKELY(x->cluster->is_dynamic) && is_connect_failure(kind))
		mesh_name_connect_failed(w, mesh_authority_host(x->request->authority), x->upstream_remote.ip);
	if (kind != MESH_RESET_OVERFLOW && !x->try.response_started)
		note_latency(w, x, true);
	x->transport_failure = mesh_transport_failure(w, kind, why);
	if (why == STREAM_END_TLS) /* without memory: no words */
		x->transport_failure = foil_arena_copy(w, x->arena, x->transport_failure);
	if (x->response_started) {
		x->flags |= mesh_reset_flag(kind);
		x->details = reset_details(w, x, "upstream_reset_after_response_started", kind, x->transport_failure);
		mesh_exchange_abort(w, x);
		return;
	}
	if (!x->try.response_started && goes_on(w, x, mesh_retry_on_reset(w, x, kind)))
		return;
	reset_reply(w, x, kind);
}

void mesh_router_timeout(struct foil_worker *w, struct mesh_exchange *x, bool is_per_try)
{
	struct mesh_reply r = { /* for gRPC 14, by whomever the time was set: so the oracle, though VS-34 says 4 of a client's own */
		.status = 504, .body = FOIL_SLICE("upstream request timeout"), .flags = TELE_FLAG_UT, .with_route_ops = true,
		.details = is_per_try ? FOIL_SLICE("upstream_per_try_timeout") : FOIL_SLICE("response_timeout"),
		.reason = is_per_try ? MESH_REASON_PER_TRY_TIMEOUT : MESH_REASON_ROUTE_TIMEOUT,
	};

	if (x->try.stream && !x->try.response_started) {
		mesh_outlier_outcome(w, x->cluster, x->try.endpoint->host, MESH_OUTCOME_TIMEOUT, 504);
		note_latency(w, x, true);
	}
	mesh_router_stop(w, x);
	if (is_per_try && goes_on(w, x, mesh_retry_on_reset(w, x, HTTP_RESET_LOCAL)))
		return;
	mesh_reply_send(w, x, &r);
}
