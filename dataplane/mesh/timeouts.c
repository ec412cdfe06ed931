/* The clocks of one request: the route's timeout (VS-33), a try's (VS-41), nothing moving (OM-3), the whole request in time (OM-4), the whole exchange
 * (httpMaxStreamDuration), and what the upstream is told of them (x-envoy-expected-rq-timeout-ms, grpc-timeout, VS-34). What happens then is router.c's or a
 * local reply.
 * The route's timeout runs from the end of the request to the end of the answer over all tries; a try's from the end of the request or its connection,
 * whichever is later, to the answer's head. */
#include "dataplane/mesh/runtime.h"

#define HALF_CLOSED_US 60000000u /* without a byte */

static bool parse_u64(struct foil_slice s, uint64_t *out)
{
	uint64_t n = 0;

	if (s.n_bytes == 0 || s.n_bytes > 12)
		return false;
	for (uint32_t i = 0; i < s.n_bytes; i++) {
		if (s.data[i] < '0' || s.data[i] > '9')
			return false;
		n = n * 10u + (uint64_t)(s.data[i] - '0');
	}
	*out = n;
	return true;
}

/* gRPC over HTTP/2: at most 8 digits and a unit. */
static bool parse_grpc_timeout(struct foil_slice s, uint64_t *us)
{
	static const struct {
		char unit;
		uint64_t us;
	} units[] = {{'H', 3600000000u}, {'M', 60000000u}, {'S', 1000000u}, {'m', 1000u}, {'u', 1u}};
	uint64_t n;

	if (s.n_bytes < 2 || s.n_bytes > 9 || !parse_u64(foil_slice_of(s.data, s.n_bytes - 1u), &n))
		return false;
	if (s.data[s.n_bytes - 1u] == 'n') {
		*us = (n + 999u) / 1000u;
		return true;
	}
	for (size_t i = 0; i < FOIL_COUNT_OF(units); i++) {
		if (units[i].unit != s.data[s.n_bytes - 1u])
			continue;
		*us = n * units[i].us;
		return true;
	}
	return false;
}

/* In milliseconds if eight digits hold them, else in the next larger unit that does. */
static struct foil_slice put_grpc_timeout(struct foil_worker *w, struct foil_arena *a, uint64_t ms)
{
	static const uint32_t per_unit[] = {1000, 60, 60}; /* ms in S, S in M, M in H */
	uint32_t unit = 0;
	uint64_t n = ms;

	while (n > 99999999u && unit < FOIL_COUNT_OF(per_unit))
		n /= per_unit[unit++];
	return foil_arena_printf(w, a, "%llu%c", (unsigned long long)FOIL_MIN(n, 99999999u), "mSMH"[unit]);
}

static void take_ms(struct mesh_exchange *x, enum http_header_id id, uint64_t *us)
{
	const struct http_header *h = http_header_get(&x->request->headers, id);
	uint64_t ms;

	if (!h)
		return;
	if (parse_u64(h->value, &ms))
		*us = ms * 1000u;
	http_header_remove_id(&x->request->headers, id);
}

static void idle_watch(struct foil_worker *w, struct mesh_exchange *x, uint64_t at_us);

int mesh_timeouts_init(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_route_action *a = &x->route->route;
	const struct http_header *grpc = x->request->is_grpc ? http_header_get(&x->request->headers, HTTP_HDR_GRPC_TIMEOUT) : NULL;
	uint64_t us;

	x->timeout_us = a->timeout_us;
	if (a->retry)
		x->retry.per_try_us = a->retry->per_try_timeout_us;
	if (a->idle_timeout_us) {
		x->idle_us = a->idle_timeout_us;
		idle_watch(w, x, w->now_us + x->idle_us); /* it may be shorter than the connection manager's */
	}
	if (grpc && parse_grpc_timeout(grpc->value, &us) && us && (x->timeout_us == 0 || us < x->timeout_us))
		x->timeout_us = us;
	if (x->from.is_internal) {
		take_ms(x, HTTP_HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, &x->timeout_us);
		take_ms(x, HTTP_HDR_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, &x->retry.per_try_us);
		http_header_remove_id(&x->request->headers, HTTP_HDR_X_ENVOY_UPSTREAM_STREAM_DURATION_MS); /* counts where a route limits streams: none does */
	}
	if (x->timeout_us && x->retry.per_try_us >= x->timeout_us)
		x->retry.per_try_us = 0;
	return 0;
}

int mesh_timeouts_headers(struct foil_worker *w, struct mesh_exchange *x)
{
	uint64_t expected = x->retry.per_try_us ? x->retry.per_try_us : x->timeout_us;
	uint64_t elapsed = x->request_ended_us ? w->now_us - x->request_ended_us : 0;
	struct http_headers *h = &x->request->headers;
	struct foil_slice text;
	int rc = 0;

	if (!expected)
		return 0;
	if (x->timeout_us)
		expected = elapsed >= x->timeout_us ? 1000u : FOIL_MIN(expected, x->timeout_us - elapsed); /* 0 would mean none */
	if (!x->hcm->envoy_debug_headers_off)
		rc = mesh_header_put_number(w, x->arena, h, HTTP_HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, FOIL_MAX(expected / 1000u, 1u));
	if (rc == 0 && x->request->is_grpc) { /* told even where the client said nothing (judge: grpc, /slow) */
		text = put_grpc_timeout(w, x->arena, FOIL_MAX(expected / 1000u, 1u));
		rc = text.data ? mesh_header_put(w, x->arena, h, HTTP_HDR_GRPC_TIMEOUT, text) : -1;
	}
	return rc;
}

/* ---- the route's and a try's ---- */
static void route_time_over(struct foil_worker *w, struct foil_timer *t)
{
	foil_count(w, MESH, TIMEOUTS, 1);
	mesh_router_timeout(w, FOIL_CONTAINER_OF(t, struct mesh_exchange, timeout), false);
}

static void try_time_over(struct foil_worker *w, struct foil_timer *t)
{
	foil_count(w, MESH, PER_TRY_TIMEOUTS, 1);
	mesh_router_timeout(w, FOIL_CONTAINER_OF(t, struct mesh_exchange, try.timer), true);
}

void mesh_timeouts_request_ended(struct foil_worker *w, struct mesh_exchange *x)
{
	foil_timer_cancel(w, &x->overall);
	if (x->timeout_us)
		foil_timer_arm(w, &x->timeout, w->now_us + x->timeout_us, route_time_over);
}

void mesh_timeouts_try_connected(struct foil_worker *w, struct mesh_exchange *x)
{
	if (x->retry.per_try_us && !x->try.response_started)
		foil_timer_arm(w, &x->try.timer, w->now_us + x->retry.per_try_us, try_time_over);
}

/* ---- the connection manager's ---- */
/* The downstream's timer looks at x when it may have become idle, or before. */
static void idle_watch(struct foil_worker *w, struct mesh_exchange *x, uint64_t at_us)
{
	x->is_idle_watched = true;
	mesh_downstream_timer_by(w, x->ds, at_us);
}

static void idle_over(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_reply r = {
		.status = x->request_ended ? 504 : 408, .body = FOIL_SLICE("stream timeout"), .details = FOIL_SLICE("stream_idle_timeout"),
		.flags = TELE_FLAG_SI, .reason = MESH_REASON_STREAM_IDLE,
	};

	x->is_idle_watched = false;
	mesh_reply_send(w, x, &r); /* a reset, if the answer has begun */
}

/* Envoy's answer: of gRPC DEADLINE_EXCEEDED; no response flag, the details tell. */
static void stream_time_over(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_reply r = {
		.status = x->request_ended ? 504 : 408, .body = FOIL_SLICE("downstream duration timeout"), .details = FOIL_SLICE("max_duration_timeout"),
		.has_grpc_status = true, .grpc_status = 4, .reason = MESH_REASON_MAX_STREAM_DURATION,
	};

	x->ends_us = 0;
	mesh_reply_send(w, x, &r); /* a reset, if the answer has begun */
}

/* Of one exchange: nothing of x is looked at after an answer. */
static void look_at(struct foil_worker *w, struct mesh_exchange *x)
{
	if (FOIL_UNLIKELY(x->ends_us != 0)) {
		if (x->ends_us <= w->now_us) {
			stream_time_over(w, x);
			return;
		}
		mesh_downstream_timer_by(w, x->ds, x->ends_us);
	}
	if (!x->is_idle_watched || !x->idle_us)
		return;
	if (x->active_us + x->idle_us > w->now_us)
		idle_watch(w, x, x->active_us + x->idle_us);
	else
		idle_over(w, x);
}

/* All of the downstream's: each is looked at once, whatever an answer does to the others and to the connection (its block is only buried). */
void mesh_timeouts_look(struct foil_worker *w, struct mesh_downstream *d)
{
	struct mesh_list all;

	mesh_list_take_all(&all, &d->exchanges);
	while (!mesh_list_is_empty(&all)) {
		struct mesh_exchange *x = FOIL_CONTAINER_OF(all.next, struct mesh_exchange, node);
		mesh_list_del(&x->node);
		mesh_list_add_tail(&d->exchanges, &x->node);
		look_at(w, x);
	}
}

static void overall_over(struct foil_worker *w, struct foil_timer *t)
{
	struct mesh_exchange *x = FOIL_CONTAINER_OF(t, struct mesh_exchange, overall);
	const struct mesh_reply r = {
		.status = 408, .body = FOIL_SLICE("request timeout"), .details = FOIL_SLICE("request_overall_timeout"), .reason = MESH_REASON_REQUEST_TIMEOUT,
	};

	if (!x->request_ended)
		mesh_reply_send(w, x, &r);
}

void mesh_timeouts_arrived(struct foil_worker *w, struct mesh_exchange *x)
{
	x->active_us = w->now_us;
	x->idle_us = x->hcm->stream_idle_timeout_us;
	if (x->idle_us)
		idle_watch(w, x, w->now_us + x->idle_us);
	if (FOIL_UNLIKELY(x->hcm->max_stream_duration_us != 0)) {
		x->ends_us = x->down->started_us + x->hcm->max_stream_duration_us;
		mesh_downstream_timer_by(w, x->ds, x->ends_us);
	}
	if (x->hcm->request_timeout_us && !x->request_ended)
		foil_timer_arm(w, &x->overall, w->now_us + x->hcm->request_timeout_us, overall_over);
}

/* Cheap: the timer looks at the time when it fires. */
void mesh_timeouts_activity(struct foil_worker *w, struct mesh_exchange *x)
{
	x->active_us = w->now_us;
	if (x->idle_us && !x->is_idle_watched) /* a route's own, found after the head */
		idle_watch(w, x, w->now_us + x->idle_us);
}

void mesh_timeouts_tunnel(struct foil_worker *w, struct mesh_exchange *x)
{
	foil_timer_cancel(w, &x->timeout);
	foil_timer_cancel(w, &x->overall);
}

/* A half that stays open for nothing must not stay for ever, even where idle tunnels may (OM-3). */
void mesh_timeouts_half_closed(struct foil_worker *w, struct mesh_exchange *x)
{
	x->idle_us = x->idle_us ? FOIL_MIN(x->idle_us, HALF_CLOSED_US) : HALF_CLOSED_US;
	idle_watch(w, x, w->now_us + x->idle_us);
}

void mesh_timeouts_fini(struct foil_worker *w, struct mesh_exchange *x)
{
	foil_timer_cancel(w, &x->timeout);
	x->is_idle_watched = false;
	x->ends_us = 0;
	foil_timer_cancel(w, &x->overall);
	foil_timer_cancel(w, &x->try.timer);
}
