/* A connection's life, whatever codec is on it: opening on a stream, the stream's events, the timer, and going.
 * Invariant: between two entries from outside busy is 0, nothing waits to be reaped, and c->s is NULL only if c is about to be freed. */
#include <errno.h>

#include "dataplane/http/h1_priv.h"
#include "dataplane/http/h2_priv.h"

void http_conn_enter(struct http_conn *c)
{
	c->busy++;
}

static void conn_free(struct foil_worker *w, struct http_conn *c)
{
	FOIL_ASSERT(!c->s && !c->x && !c->dead && !foil_timer_is_armed(&c->timer));
	h2_link_del(&c->late);
	if (c->ops->fini)
		c->ops->fini(w, c);
	http_limits_put(w->http, c->limits);
	if (c->is_server)
		foil_count(w, HTTP, SERVER_CONNS, -1);
	else
		foil_count(w, HTTP, CLIENT_CONNS, -1);
	http_pool_put(&w->http->conns, c);
}

static void reap(struct foil_worker *w, struct http_conn *c)
{
	c->owes_reap = false;
	c->ops->reap(w, c);
}

static void flush_late(struct foil_worker *w)
{
	struct h2_link *late = &w->http->late;

	w->http->is_flushing = true;
	while (!h2_link_is_empty(late)) {
		struct http_conn *c = FOIL_CONTAINER_OF(late->next, struct http_conn, late);
		h2_link_del(&c->late);
		http_conn_enter(c);
		http_conn_leave(w, c); /* not from within another's: it flushes */
	}
	w->http->is_flushing = false;
}

/* Another one is at work, and may have more for this one. */
static void flushes_late(struct http_ctx *ctx, struct http_conn *c)
{
	if (!h2_link_is_on(&c->late))
		h2_link_add(&ctx->late, &c->late);
}

void http_conn_leave(struct foil_worker *w, struct http_conn *c)
{
	FOIL_ASSERT(c->busy > 0);
	if (c->busy > 1) {
		c->busy--;
		return;
	}
	struct http_ctx *ctx = w->http;
	if (FOIL_LIKELY(ctx->n_leaving && !c->wants_run && !c->is_gone && !c->owes_reap && !c->dead)) {
		if (c->wants_flush)
			flushes_late(ctx, c);
		c->busy = 0;
		return;
	}
	uint8_t was = foil_stage_enter(w, FOIL_STAGE_HTTP);
	ctx->n_leaving++;
	while ((c->wants_run || c->wants_flush) && !c->is_gone) {
		bool runs = c->wants_run;

		if (!runs && ctx->n_leaving > 1) {
			flushes_late(ctx, c);
			break;
		}

		if (c->dead || c->owes_reap)
			reap(w, c);
		c->wants_run = false;
		if (runs) {
			c->ops->run(w, c);
			continue; /* it may have left more to do, and asks for the flush itself */
		}
		c->wants_flush = false;
		if (c->ops->flush)
			c->ops->flush(w, c);
	}
	if (c->dead || c->owes_reap)
		reap(w, c);
	c->busy = 0;
	if (c->is_gone)
		conn_free(w, c);
	ctx->n_leaving--;
	if (ctx->n_leaving == 0 && !ctx->is_flushing && FOIL_UNLIKELY(!h2_link_is_empty(&ctx->late)))
		flush_late(w);
	foil_stage_leave(w, was);
}

bool http_conn_waits(struct foil_worker *w, struct http_conn *c)
{
	if (!w->http->is_burst)
		return false;
	h2_link_add(&w->http->waiting, &c->late);
	return true;
}

void http_burst_begin(struct foil_worker *w)
{
	w->http->is_burst = true;
}

void http_burst_end(struct foil_worker *w)
{
	struct h2_link *waiting = &w->http->waiting;

	w->http->is_burst = false;
	while (!h2_link_is_empty(waiting)) {
		struct http_conn *c = FOIL_CONTAINER_OF(waiting->next, struct http_conn, late);
		h2_link_del(&c->late);
		http_conn_enter(c);
		c->wants_run = true;
		http_conn_leave(w, c);
	}
}

/* What waits is told before what has just come. */
static void tell_waiting(struct foil_worker *w, struct http_conn *c)
{
	if (FOIL_LIKELY(!c->x || !c->x->waiting))
		return;
	for (c->wants_run = true; c->wants_run && !c->is_gone;) {
		c->wants_run = false;
		c->ops->run(w, c);
	}
}

void http_conn_release(struct foil_worker *w, struct http_conn *c)
{
	struct stream *s = c->s;

	c->s = NULL;
	if (s)
		stream_release(w, s);
}

void http_conn_abort(struct foil_worker *w, struct http_conn *c)
{
	struct stream *s = c->s;

	c->s = NULL;
	if (s)
		stream_abort(w, s);
}

void http_conn_gone(struct foil_worker *w, struct http_conn *c, enum stream_end why)
{
	FOIL_ASSERT(!c->s && !c->x);
	if (c->is_gone)
		return;
	c->is_gone = true;
	c->is_closing = true;
	c->due_us = 0;
	foil_timer_cancel(w, &c->timer);
	if (c->is_server) {
		if (c->ev.server->closed)
			c->ev.server->closed(w, c, why);
	} else if (c->ev.client->closed) {
		c->ev.client->closed(w, c, why, !c->was_open);
	}
}

static void on_timeout(struct foil_worker *w, struct foil_timer *t)
{
	struct http_conn *c = FOIL_CONTAINER_OF(t, struct http_conn, timer);

	if (c->due_us > w->now_us)
		foil_timer_arm(w, t, c->due_us, on_timeout);
	if (c->due_us == 0 || c->due_us > w->now_us)
		return;
	c->due_us = 0;
	http_conn_enter(c);
	tell_waiting(w, c);
	if (!c->is_gone)
		c->ops->timeout(w, c);
	http_conn_leave(w, c);
}

void http_conn_timer(struct foil_worker *w, struct http_conn *c, uint64_t in_us)
{
	c->due_us = in_us ? w->now_us + in_us : 0;
	if (in_us && !foil_timer_fires_by(&c->timer, c->due_us))
		foil_timer_arm(w, &c->timer, c->due_us, on_timeout);
}

static void on_opened(struct foil_worker *w, struct stream *s)
{
	struct http_conn *c = s->user_data;

	http_conn_enter(c);
	c->was_open = true;
	if (c->ops->opened)
		c->ops->opened(w, c);
	http_conn_leave(w, c);
}

static void on_readable(struct foil_worker *w, struct stream *s)
{
	struct http_conn *c = s->user_data;

	http_conn_enter(c);
	c->wants_run = true;
	http_conn_leave(w, c);
}

static void on_writable(struct foil_worker *w, struct stream *s)
{
	struct http_conn *c = s->user_data;

	http_conn_enter(c);
	c->ops->writable(w, c);
	http_conn_leave(w, c);
}

static void on_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	struct http_conn *c = s->user_data;

	http_conn_enter(c);
	tell_waiting(w, c);
	if (!c->is_gone)
		c->ops->closed(w, c, why);
	http_conn_leave(w, c);
}

static const struct stream_user stream_events = {
	.opened = on_opened, .readable = on_readable, .writable = on_writable, .closed = on_closed,
};

struct http_conn *http_conn_new(struct foil_worker *w, struct stream *s, const struct http_conn_ops *ops, const struct http_limits *limits,
				void *user_data)
{
	struct http_conn *c = http_pool_get(&w->http->conns);

	if (!c) {
		foil_reason(w, HTTP, CONNS_EXHAUSTED);
		return NULL;
	}
	c->ops = ops;
	c->s = s;
	c->limits = http_limits_get(w->http, limits);
	c->user_data = user_data;
	c->busy = 1;
	c->was_open = s->is_open;
	s->user = &stream_events;
	s->user_data = c;
	return c;
}

struct stream *http_conn_stream(const struct http_conn *c)
{
	return c->s;
}

void *http_conn_data(const struct http_conn *c)
{
	return c->user_data;
}

enum http_version http_conn_version(const struct http_conn *c)
{
	return c->ops->version;
}

uint32_t http_conn_capacity(const struct http_conn *c)
{
	if (c->is_server || c->is_gone || c->is_closing || !c->s)
		return 0;
	if (c->ops->capacity)
		return c->ops->capacity(c);
	return c->ops->is_idle(c) && !c->must_close && !c->s->rx_eof ? 1 : 0;
}
