/* The room's context, and the calls of codec.h: each enters the connection, asks its codec, and leaves. */
#include <errno.h>
#include <stdlib.h>

#include "dataplane/core/error.h"
#include "dataplane/http/h1_priv.h"

#define CONNS_DEFAULT 65536u
#define STREAMS_DEFAULT 65536u

int http_init(struct foil_worker *w, const struct http_params *p, struct foil_error *err)
{
	struct http_ctx *ctx = calloc(1, sizeof(*ctx));
	uint32_t conns_max = p && p->conns_max ? p->conns_max : CONNS_DEFAULT;
	uint32_t streams_max = p && p->streams_max ? p->streams_max : STREAMS_DEFAULT;

	if (!ctx)
		return foil_error_set(err, -ENOMEM, "no memory for the HTTP context");
	if (http_pool_init(&ctx->conns, conns_max, sizeof(struct http_conn)) != 0 ||
	    http_pool_init(&ctx->exchanges, streams_max, sizeof(struct h1_exchange)) != 0) {
		http_pool_fini(&ctx->conns);
		free(ctx);
		return foil_error_set(err, -ENOMEM, "no memory for %u HTTP connections and %u exchanges: lower connections_max", conns_max,
				      streams_max);
	}
	w->http = ctx;
	return 0;
}

void http_fini(struct foil_worker *w)
{
	if (!w->http)
		return;
	http_pool_fini(&w->http->conns);
	http_pool_fini(&w->http->exchanges);
	free(w->http);
	w->http = NULL;
}

int http_server_open(struct foil_worker *w, struct stream *s, const struct http_server_events *ev, const struct http_limits *limits,
		     void *user_data, struct http_conn **out)
{
	struct http_conn *c = http_conn_new(w, s, &h1_server_ops, limits, user_data);

	if (!c)
		return -ENOBUFS;
	c->is_server = true;
	c->was_open = true;
	c->ev.server = ev;
	foil_count(w, HTTP, SERVER_CONNS, 1);
	*out = c;
	http_conn_timer(w, c, c->limits.idle_timeout_us);
	/* bytes may have come with the handshake, or were looked at by who chose this codec; the caller needs *out first */
	c->busy = 0;
	if (!foil_chain_is_empty(&s->rx) || s->rx_eof)
		http_conn_timer(w, c, 1);
	return 0;
}

int http_client_open(struct foil_worker *w, struct stream *s, const struct http_client_events *ev, const struct http_limits *limits,
		     void *user_data, struct http_conn **out)
{
	struct http_conn *c = http_conn_new(w, s, &h1_client_ops, limits, user_data);

	if (!c)
		return -ENOBUFS;
	c->ev.client = ev;
	foil_count(w, HTTP, CLIENT_CONNS, 1);
	*out = c;
	c->busy = 0;
	return 0;
}

struct http_stream *http_client_start(struct foil_worker *w, struct http_conn *c, struct foil_arena *arena,
				      const struct http_stream_events *ev, void *user_data)
{
	if (c->is_gone || c->is_closing || c->is_server || !c->s)
		return NULL;
	return c->ops->start(w, c, arena, ev, user_data);
}

int http_send_head(struct foil_worker *w, struct http_stream *hs, const struct http_head *head, bool end)
{
	struct http_conn *c = hs->conn;

	http_conn_enter(c);
	int rc = c->ops->send_head(w, hs, head, end);
	http_conn_leave(w, c);
	return rc;
}

void http_send_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	struct http_conn *c = hs->conn;

	http_conn_enter(c);
	c->ops->send_data(w, hs, own_data, end);
	http_conn_leave(w, c);
}

int http_send_trailers(struct foil_worker *w, struct http_stream *hs, const struct http_headers *trailers)
{
	struct http_conn *c = hs->conn;

	http_conn_enter(c);
	int rc = c->ops->send_trailers(w, hs, trailers);
	http_conn_leave(w, c);
	return rc;
}

uint32_t http_stream_tx_room(const struct http_stream *hs)
{
	return hs->conn->ops->tx_room(hs);
}

void http_stream_pause(struct foil_worker *w, struct http_stream *hs, bool paused)
{
	struct http_conn *c = hs->conn;

	http_conn_enter(c);
	c->ops->pause(w, hs, paused);
	http_conn_leave(w, c);
}

void http_stream_reset(struct foil_worker *w, struct http_stream *hs)
{
	struct http_conn *c = hs->conn;

	http_conn_enter(c);
	c->ops->reset(w, hs);
	http_conn_leave(w, c);
}

void http_conn_drain(struct foil_worker *w, struct http_conn *c)
{
	http_conn_enter(c);
	if (!c->is_gone)
		c->ops->drain(w, c);
	http_conn_leave(w, c);
}

void http_conn_close(struct foil_worker *w, struct http_conn *c)
{
	http_conn_enter(c);
	if (!c->is_gone && !c->is_closing)
		c->ops->close(w, c);
	http_conn_leave(w, c);
}

bool http_conn_is_idle(const struct http_conn *c)
{
	return c->ops->is_idle(c);
}
