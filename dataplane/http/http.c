/* The room's context, and the calls of codec.h: each enters the connection, asks its codec, and leaves. */
#include <errno.h>
#include <stdlib.h>

#include "dataplane/core/error.h"
#include "dataplane/http/h1_priv.h"
#include "dataplane/http/h2_priv.h"

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
	    http_pool_init(&ctx->exchanges, streams_max, sizeof(struct h1_exchange)) != 0 ||
	    http_pool_init(&ctx->h2_conns, conns_max, sizeof(struct h2_conn)) != 0 ||
	    http_pool_init(&ctx->h2_streams, streams_max, sizeof(struct h2_stream)) != 0 ||
	    http_pool_init(&ctx->h2_memos, h2_memo_places(), sizeof(struct h2_memo)) != 0 ||
	    http_pool_init(&ctx->limits_kept, conns_max, sizeof(struct http_limits_kept)) != 0) {
		http_pool_fini(&ctx->conns);
		http_pool_fini(&ctx->exchanges);
		http_pool_fini(&ctx->h2_conns);
		http_pool_fini(&ctx->h2_streams);
		http_pool_fini(&ctx->h2_memos);
		free(ctx);
		return foil_error_set(err, -ENOMEM, "no memory for %u HTTP connections and %u exchanges: lower connections_max", conns_max,
				      streams_max);
	}
	h2_link_init(&ctx->late);
	h2_link_init(&ctx->waiting);
	h2_link_init(&ctx->limits);
	w->http = ctx;
	return 0;
}

void http_fini(struct foil_worker *w)
{
	if (!w->http)
		return;
	http_pool_fini(&w->http->conns);
	http_pool_fini(&w->http->exchanges);
	http_pool_fini(&w->http->h2_conns);
	http_pool_fini(&w->http->h2_streams);
	http_pool_fini(&w->http->h2_memos);
	http_pool_fini(&w->http->limits_kept);
	free(w->http);
	w->http = NULL;
}

/* A connection block of the chosen codec on s, left already; NULL: s is untouched. */
static struct http_conn *conn_open(struct foil_worker *w, struct stream *s, enum http_protocol protocol, const struct http_limits *limits,
				   bool is_server, void *user_data)
{
	static const struct http_conn_ops *const ops[][2] = {
		[HTTP_PROTOCOL_H1] = {&h1_client_ops, &h1_server_ops},
		[HTTP_PROTOCOL_H2] = {&h2_client_ops, &h2_server_ops},
		[HTTP_PROTOCOL_AUTO] = {&h1_client_ops, &http_sniff_ops},
	};
	const struct stream_user *user = s->user;
	void *user_before = s->user_data;
	struct http_conn *c = http_conn_new(w, s, ops[protocol][is_server], limits, user_data);

	if (!c)
		return NULL;
	c->is_server = is_server;
	c->was_open = c->was_open || is_server;
	if (protocol == HTTP_PROTOCOL_H2 && !h2_begin(w, c)) {
		s->user = user;
		s->user_data = user_before;
		http_limits_put(w->http, c->limits);
		http_pool_put(&w->http->conns, c);
		return NULL;
	}
	if (is_server)
		foil_count(w, HTTP, SERVER_CONNS, 1);
	else
		foil_count(w, HTTP, CLIENT_CONNS, 1);
	c->busy = 0;
	return c;
}

int http_server_open_as(struct foil_worker *w, struct stream *s, enum http_protocol protocol, const struct http_server_events *ev,
			const struct http_limits *limits, void *user_data, struct http_conn **out)
{
	struct http_conn *c = conn_open(w, s, protocol, limits, true, user_data);

	if (!c)
		return -ENOBUFS;
	c->ev.server = ev;
	*out = c;
	http_conn_timer(w, c, c->limits->idle_timeout_us);
	/* bytes may have come with the handshake, or were looked at by who chose this codec, and HTTP/2 has settings to send; the caller needs
	 * *out first */
	if (!foil_chain_is_empty(&s->rx) || s->rx_eof || c->h2)
		http_conn_timer(w, c, 1);
	return 0;
}

int http_server_open(struct foil_worker *w, struct stream *s, const struct http_server_events *ev, const struct http_limits *limits,
		     void *user_data, struct http_conn **out)
{
	return http_server_open_as(w, s, HTTP_PROTOCOL_H1, ev, limits, user_data, out);
}

int http_client_open_as(struct foil_worker *w, struct stream *s, enum http_protocol protocol, const struct http_client_events *ev,
			const struct http_limits *limits, void *user_data, struct http_conn **out)
{
	struct http_conn *c = conn_open(w, s, protocol, limits, false, user_data);

	if (!c)
		return -ENOBUFS;
	c->ev.client = ev;
	*out = c;
	return 0;
}

int http_client_open(struct foil_worker *w, struct stream *s, const struct http_client_events *ev, const struct http_limits *limits,
		     void *user_data, struct http_conn **out)
{
	return http_client_open_as(w, s, HTTP_PROTOCOL_H1, ev, limits, user_data, out);
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
	uint8_t was = foil_stage_enter(w, FOIL_STAGE_HTTP);
	int rc = c->ops->send_head(w, hs, head, end);
	foil_stage_leave(w, was);
	http_conn_leave(w, c);
	return rc;
}

void http_send_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	struct http_conn *c = hs->conn;

	http_conn_enter(c);
	uint8_t was = foil_stage_enter(w, FOIL_STAGE_HTTP);
	c->ops->send_data(w, hs, own_data, end);
	foil_stage_leave(w, was);
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
