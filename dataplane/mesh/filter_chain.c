/* Runs the filters of filters.def around one request. Which filters take part is asked once, when the route is known: a request that none wants
 * costs one pass over the table and no memory. The order of calls is filter.h's; what comes after the last request filter is the router.
 * Invariant: calls[0..n_calls) is in table order; request_filter is the one that runs or holds the request, response_filter the one after it on the way
 * back. */
#include "dataplane/mesh/runtime.h"

#define X(ID, symbol) [MESH_FILTER_##ID] = &(symbol),
static const struct mesh_filter *const filters[MESH_FILTER_COUNT] = {
#include "dataplane/mesh/filters.def"
};
#undef X

int mesh_filters_init(struct foil_worker *w, struct mesh_exchange *x)
{
	uint32_t wanted = 0;
	uint8_t n = 0;

	static_assert(MESH_FILTER_COUNT <= 32, "a bit a filter");
	for (unsigned int i = 0; i < MESH_FILTER_COUNT; i++) {
		if (filters[i]->wants && !filters[i]->wants(w, x))
			continue;
		wanted |= 1u << i;
		n++;
	}
	if (FOIL_LIKELY(n == 0))
		return 0;
	x->calls = foil_arena_zalloc(w, x->arena, n * sizeof(*x->calls));
	if (!x->calls)
		return -1;
	for (unsigned int i = 0; i < MESH_FILTER_COUNT; i++) {
		struct mesh_filter_call *f = &x->calls[x->n_calls];
		if (!(wanted & 1u << i))
			continue;
		f->exchange = x;
		f->filter = filters[i];
		if (filters[i]->state_bytes) {
			f->state = foil_arena_zalloc(w, x->arena, filters[i]->state_bytes);
			if (!f->state)
				return -1;
		}
		x->n_calls++;
	}
	return 0;
}

/* ---- the request ---- */
void mesh_filters_request(struct foil_worker *w, struct mesh_exchange *x)
{
	while (x->request_filter < x->n_calls) {
		struct mesh_filter_call *f = &x->calls[x->request_filter];
		enum mesh_filter_result result = MESH_FILTER_CONTINUE;

		f->has_begun = true;
		if (f->filter->request_head) {
			x->in_filter = true;
			result = f->filter->request_head(w, f, x->request, x->request_ended);
			x->in_filter = false;
		}
		if (x->is_over || x->is_local_reply)
			return;
		if (result == MESH_FILTER_PAUSE || result == MESH_FILTER_COLLECT) {
			x->is_request_held = result == MESH_FILTER_PAUSE;
			x->is_request_collected = !x->is_request_held;
			mesh_exchange_pause(w, x);
			return;
		}
		x->request_filter++;
	}
	mesh_exchange_run(w, x);
}

/* Body through the filters from..to; false: it was kept or answered. */
static bool data_through(struct foil_worker *w, struct mesh_exchange *x, uint8_t from, uint8_t to, struct foil_chain *data, bool end)
{
	for (uint8_t i = from; i < to; i++) {
		struct mesh_filter_call *f = &x->calls[i];
		enum mesh_filter_result result;

		if (!f->filter->request_data)
			continue;
		result = f->filter->request_data(w, f, data, end);
		if (x->is_over || x->is_local_reply)
			return false;
		if (result == MESH_FILTER_CONTINUE)
			continue;
		x->request_filter = i;
		x->is_request_held = result == MESH_FILTER_PAUSE;
		x->is_request_collected = result == MESH_FILTER_COLLECT;
		return false;
	}
	return true;
}

static void too_large(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_reply r = {.status = 413, .body = FOIL_SLICE("Payload Too Large"), .details = FOIL_SLICE("request_payload_too_large")};

	mesh_reply_send(w, x, &r);
}

static bool is_stopped(const struct mesh_exchange *x)
{
	return x->is_request_held || x->is_request_collected;
}

static void go_on(struct foil_worker *w, struct mesh_exchange *x);

/* What has come so far is shown to the filter that collects it. */
static void collect(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_filter_call *f = &x->calls[x->request_filter];

	if (x->held.n_bytes > MESH_FILTER_COLLECT_BYTES_MAX) {
		too_large(w, x);
		return;
	}
	enum mesh_filter_result result = f->filter->request_data ? f->filter->request_data(w, f, &x->held, x->held_end) : MESH_FILTER_CONTINUE;
	if (x->is_over || x->is_local_reply)
		return;
	if (result == MESH_FILTER_CONTINUE) {
		go_on(w, x);
		return;
	}
	x->is_request_held = result == MESH_FILTER_PAUSE;
	x->is_request_collected = result == MESH_FILTER_COLLECT;
}

/* Body that was held goes to the filters from..to, and then to the router or, where one of those behind stops the request, waits there. */
static void release(struct foil_worker *w, struct mesh_exchange *x, uint8_t from)
{
	struct foil_chain data = {0};
	bool end = x->held_end;

	if (foil_chain_is_empty(&x->held) && !end)
		return;
	foil_chain_move(&data, &x->held);
	x->held_end = false;
	bool passed = data_through(w, x, from, is_stopped(x) ? x->request_filter : x->n_calls, &data, end);
	if (x->is_over || x->is_local_reply) {
		foil_chain_clear(&data);
	} else if (passed && !is_stopped(x)) {
		mesh_exchange_body(w, x, &data, end);
	} else {
		foil_chain_move(&x->held, &data);
		x->held_end = end;
		if (passed && x->is_request_collected)
			collect(w, x);
	}
}

/* The filter that stopped the request is done with it. */
static void go_on(struct foil_worker *w, struct mesh_exchange *x)
{
	uint8_t from = ++x->request_filter;

	x->is_request_held = x->is_request_collected = false;
	if (x->router == MESH_ROUTER_NONE)
		mesh_filters_request(w, x);
	if (!x->is_over && !x->is_local_reply)
		release(w, x, from);
}

/* While a filter stops the request, those before it see what comes, and it waits there. */
void mesh_filters_request_data(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *own_data, bool end)
{
	bool was_stopped = is_stopped(x);

	if (x->is_local_reply) {
		foil_chain_clear(own_data);
		return;
	}
	bool passed = data_through(w, x, 0, was_stopped ? x->request_filter : x->n_calls, own_data, end);
	if (x->is_over || x->is_local_reply) {
		foil_chain_clear(own_data);
		return;
	}
	if (passed && !was_stopped) {
		mesh_exchange_body(w, x, own_data, end);
		return;
	}
	foil_chain_move(&x->held, own_data);
	x->held_end = end;
	if (was_stopped && x->is_request_collected)
		collect(w, x);
	if (!x->is_over && !x->is_local_reply)
		mesh_exchange_pause(w, x);
}

void mesh_filter_resume(struct foil_worker *w, struct mesh_filter_call *f)
{
	struct mesh_exchange *x = f->exchange;

	if (x->is_over)
		return;
	FOIL_ASSERT(!x->in_filter);
	if (x->is_response_held) {
		x->is_response_held = false;
		if (mesh_filters_response(w, x, x->response_end_held))
			mesh_exchange_respond_on(w, x);
		if (!x->is_over)
			mesh_router_writable(w, x);
		return;
	}
	if (!is_stopped(x))
		return;
	go_on(w, x);
	if (!x->is_over)
		mesh_exchange_pause(w, x);
}

/* ---- the answer ---- */
bool mesh_filters_response(struct foil_worker *w, struct mesh_exchange *x, bool end)
{
	while (x->response_filter > 0) {
		struct mesh_filter_call *f = &x->calls[--x->response_filter];
		enum mesh_filter_result result;

		if (!f->has_begun || !f->filter->response_head)
			continue;
		result = f->filter->response_head(w, f, x->response, end);
		if (x->is_over)
			return false;
		if (x->is_local_reply)
			continue;
		if (result == MESH_FILTER_REPLY)
			return false;
		if (result == MESH_FILTER_PAUSE) {
			x->is_response_held = true;
			return false;
		}
		if (result == MESH_FILTER_COLLECT && !end) {
			x->is_response_collected = true;
			return false;
		}
	}
	return true;
}

bool mesh_filters_response_collected(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_filter_call *f = &x->calls[x->response_filter];

	x->is_response_collected = false;
	if (f->filter->response_data && f->filter->response_data(w, f, &x->answer, true) == MESH_FILTER_REPLY)
		return false;
	return !x->is_over && mesh_filters_response(w, x, foil_chain_is_empty(&x->answer));
}

enum mesh_filter_result mesh_filters_response_trailers(struct foil_worker *w, struct mesh_exchange *x, const struct http_headers *trailers,
						       struct foil_chain *data)
{
	for (uint8_t i = x->n_calls; i-- > 0;) {
		struct mesh_filter_call *f = &x->calls[i];
		enum mesh_filter_result result;

		if (!f->has_begun || !f->filter->response_trailers)
			continue;
		result = f->filter->response_trailers(w, f, trailers, data);
		if (result != MESH_FILTER_CONTINUE || x->is_over)
			return result;
	}
	return MESH_FILTER_CONTINUE;
}

bool mesh_filters_response_data(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *data, bool end)
{
	for (uint8_t i = x->n_calls; i-- > 0;) {
		struct mesh_filter_call *f = &x->calls[i];

		if (!f->has_begun || !f->filter->response_data)
			continue;
		if (f->filter->response_data(w, f, data, end) == MESH_FILTER_REPLY || x->is_over)
			return false;
	}
	return true;
}

void mesh_filters_done(struct foil_worker *w, struct mesh_exchange *x)
{
	for (uint8_t i = 0; i < x->n_calls; i++)
		if (x->calls[i].filter->done)
			x->calls[i].filter->done(w, &x->calls[i]);
}

/* ---- what filters ask ---- */
struct foil_arena *mesh_filter_arena(struct mesh_filter_call *f)
{
	return f->exchange->arena;
}

const struct mesh_route *mesh_exchange_route(const struct mesh_exchange *x)
{
	return x->route;
}

const struct http_head *mesh_exchange_request(const struct mesh_exchange *x)
{
	return x->request;
}

const struct stream_addr *mesh_exchange_client(const struct mesh_exchange *x)
{
	return &x->from.client;
}

const struct stream_addr *mesh_exchange_peer(const struct mesh_exchange *x)
{
	return &x->remote;
}

const struct stream_addr *mesh_exchange_local(const struct mesh_exchange *x)
{
	return &x->local;
}

void mesh_filter_flag(struct mesh_filter_call *f, uint64_t flags)
{
	f->exchange->flags |= flags;
}

void mesh_filter_reply(struct foil_worker *w, struct mesh_filter_call *f, const struct mesh_reply *r)
{
	f->exchange->is_response_held = false;
	mesh_reply_send(w, f->exchange, r);
}
