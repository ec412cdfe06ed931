/* Injected faults of a route (features.md VS-46..VS-48): first the delay, then the abort, each drawn by itself. Both come before routing, so
 * timeouts and retries do not see them. Faults asked for by request headers are not honoured, as in Istio's configuration of Envoy. */
#include "dataplane/core/prng.h"
#include "dataplane/mesh/runtime.h"

struct fault_state {
	struct foil_timer timer;
	struct mesh_filter_call *call;
};

static bool fault_wants(struct foil_worker *w, const struct mesh_exchange *x)
{
	const struct mesh_route *r = mesh_exchange_route(x);

	(void)w;
	return r && r->fault;
}

static bool drawn(struct foil_worker *w, uint32_t per_million)
{
	return per_million && foil_prng_below(&w->prng, 1000000u) < per_million;
}

/* true: it was answered. */
static bool fault_abort(struct foil_worker *w, struct mesh_filter_call *f)
{
	const struct mesh_fault *fault = mesh_exchange_route(f->exchange)->fault;
	struct mesh_reply r = {
		.body = FOIL_SLICE("fault filter abort"), .details = FOIL_SLICE("fault_filter_abort"), .flags = TELE_FLAG_FI,
		.with_route_ops = true, .reason = MESH_REASON_FAULT_ABORT,
	};

	if ((!fault->abort_http_status && !fault->has_abort_grpc) || !drawn(w, fault->abort_per_million))
		return false;
	r.status = fault->has_abort_grpc ? 200 : fault->abort_http_status;
	r.has_grpc_status = fault->has_abort_grpc;
	r.grpc_status = fault->abort_grpc_status;
	mesh_filter_reply(w, f, &r);
	return true;
}

static void delay_over(struct foil_worker *w, struct foil_timer *t)
{
	struct fault_state *s = FOIL_CONTAINER_OF(t, struct fault_state, timer);

	if (!fault_abort(w, s->call))
		mesh_filter_resume(w, s->call);
}

static enum mesh_filter_result fault_request(struct foil_worker *w, struct mesh_filter_call *f, struct http_head *head, bool end)
{
	const struct mesh_fault *fault = mesh_exchange_route(f->exchange)->fault;
	struct fault_state *s = f->state;

	(void)head;
	(void)end;
	if (fault->delay_us && drawn(w, fault->delay_per_million)) {
		s->call = f;
		mesh_filter_flag(f, TELE_FLAG_DI);
		foil_timer_arm(w, &s->timer, w->now_us + fault->delay_us, delay_over);
		return MESH_FILTER_PAUSE;
	}
	return fault_abort(w, f) ? MESH_FILTER_REPLY : MESH_FILTER_CONTINUE;
}

static void fault_done(struct foil_worker *w, struct mesh_filter_call *f)
{
	struct fault_state *s = f->state;

	foil_timer_cancel(w, &s->timer);
}

const struct mesh_filter filter_fault = {
	.name = "fault", .state_bytes = sizeof(struct fault_state), .wants = fault_wants, .request_head = fault_request, .done = fault_done,
};
