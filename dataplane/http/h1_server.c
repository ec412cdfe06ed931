/* The server side of HTTP/1.1: requests come in, one at a time is with the user, pipelined ones wait in rx.
 * A refused head is the user's to answer (bad_request), a refused body is answered here with 400, and the connection closes after either.
 * A client that closes or half-closes while its request is served is gone, as for Envoy.
 * Invariant: c->x is NULL exactly while no byte of a next request has come; x->ev is NULL exactly until the head is told or refused. */
#include "dataplane/http/h1_priv.h"
#include "dataplane/http/h1_scan.h"

/* No exchange, and none will come. */
static void close_idle(struct foil_worker *w, struct http_conn *c, enum stream_end why)
{
	c->is_closing = true;
	http_conn_release(w, c);
	http_conn_gone(w, c, why);
}

/* The user hears of the exchange. False: it is over, or was refused. */
static bool begin_stream(struct foil_worker *w, struct http_conn *c)
{
	struct h1_exchange *x = c->x;

	HTTP_TELL(w, x->ev = c->ev.server->stream_new(w, c, &x->hs));
	if (c->x != x || c->is_gone)
		return false;
	if (!x->ev)
		h1_fail(w, c, &(struct h1_fail){.kind = HTTP_RESET_LOCAL});
	return x->ev != NULL;
}

static FOIL_COLD void refuse(struct foil_worker *w, struct http_conn *c, struct http_head *head, enum http_reason reason)
{
	struct h1_exchange *x = c->x;

	foil_reason_id(w, HTTP, reason);
	http_conn_timer(w, c, 0);
	x->rx = H1_RX_IGNORED;
	c->must_close = true;
	x->is_http10 = head->version == HTTP_VERSION_10 && c->limits->accept_http10;
	x->method = (uint8_t)head->method;
	if (!begin_stream(w, c))
		return;
	c->ev.server->bad_request(w, &x->hs, head, http_reason_status(reason), reason);
}

/* A head that could not be read whole: nothing of it is told, as Envoy's log has "- - HTTP/1.1". */
static FOIL_COLD void refuse_unread(struct foil_worker *w, struct http_conn *c, enum http_reason reason)
{
	struct http_head head = {.version = HTTP_VERSION_11, .path = FOIL_SLICE("")};

	if (reason == HTTP_REASON_OUT_OF_MEMORY)
		h1_fail(w, c, &(struct h1_fail){.kind = HTTP_RESET_LOCAL, .reason = reason});
	else
		refuse(w, c, &head, reason);
}

static void begin_body(struct h1_exchange *x, const struct http_head *head)
{
	if (head->body == HTTP_BODY_CHUNKED) {
		x->rx = H1_RX_CHUNKED;
	} else if (head->body == HTTP_BODY_LENGTH && head->content_length) {
		x->rx = H1_RX_LENGTH;
		x->rx_left_bytes = head->content_length;
	} else {
		x->rx = head->is_upgrade ? H1_RX_WAITS : H1_RX_DONE;
	}
}

/* Nothing of the first line is HTTP/1.x: no method that is known, no form of a target, no version. Where HTTP/2 is spoken too that is as likely a
 * preface gone wrong, and is closed without a word (RFC 9113 3.4); one right part, and it is HTTP/1.1 and is told what is wrong. */
static bool is_no_http(struct foil_slice bytes)
{
	struct foil_cur c = cur_of(bytes.data, bytes.n_bytes);
	struct foil_slice method = cur_slice(&c, h1_span(&c, H1_TOKEN));
	bool has_target = cur_u8(&c) == ' ';
	struct foil_slice target = cur_slice(&c, h1_span(&c, H1_TARGET));
	bool has_version = cur_u8(&c) == ' ';
	struct foil_slice version = cur_slice(&c, h1_span(&c, H1_TARGET));

	if (!has_target || !has_version || c.short_read || http_method_of(method) != HTTP_METHOD_OTHER || version.n_bytes == 0)
		return false;
	if (target.n_bytes == 0 || target.data[0] == '/' || target.data[0] == '*' || memchr(target.data, ':', target.n_bytes))
		return false;
	return version.n_bytes < 4 || !foil_slice_eq_nocase(foil_slice_of(version.data, 4), FOIL_SLICE("HTTP"));
}

static void tell_request(struct foil_worker *w, struct http_conn *c, struct http_head *head)
{
	struct h1_exchange *x = c->x;

	http_conn_timer(w, c, 0);
	foil_count(w, HTTP, REQUESTS_DECODED, 1);
	x->method = (uint8_t)head->method;
	x->is_http10 = head->version == HTTP_VERSION_10;
	x->peer_keeps_alive = !head->wants_close;
	x->is_upgrade = head->is_upgrade;
	x->owes_continue = head->expects_continue;
	begin_body(x, head);
	if (x->rx == H1_RX_DONE)
		x->hs.rx_end_us = w->now_us;
	if (!begin_stream(w, c))
		return;
	HTTP_TELL(w, x->ev->head(w, &x->hs, head, x->rx == H1_RX_DONE));
	if (c->x == x && !c->is_gone)
		h1_maybe_finish(w, c);
}

static void take_request(struct foil_worker *w, struct http_conn *c, struct foil_slice bytes)
{
	struct h1_exchange *x = c->x;
	struct http_head head;
	enum http_reason why = h1_read_request(w, x->hs.arena, bytes, x->block.n_lines, c->limits, &head);

	if (why != HTTP_REASON_OK && c->has_sniffed && is_no_http(bytes)) {
		foil_reason(w, HTTP, H2_BAD_PREFACE);
		h1_exchange_end(c);
		close_idle(w, c, STREAM_END_LOCAL);
		return;
	}
	c->has_sniffed = false;
	if (why == HTTP_REASON_LOW_VERSION || why == HTTP_REASON_MISSING_HOST) {
		refuse(w, c, &head, why);
		return;
	}
	if (why != HTTP_REASON_OK) {
		refuse_unread(w, c, why);
		return;
	}
	if (!h1_head_waits(w, c, &head))
		tell_request(w, c, &head);
}

/* No method begins with such a byte: TLS, say. It is refused at once, a line may never end. */
static bool is_hopeless(const struct http_conn *c)
{
	uint8_t first = 'G';

	if (c->x->buf_bytes)
		return false; /* looked at when it came */
	if (c->s->rx.n_bytes)
		foil_chain_copy_out(&c->s->rx, 0, &first, 1);
	return !h1_is(first, H1_TOKEN) && first != '\r' && first != '\n';
}

static void receive_head(struct foil_worker *w, struct http_conn *c)
{
	struct foil_slice bytes;

	if (FOIL_UNLIKELY(is_hopeless(c))) {
		refuse_unread(w, c, HTTP_REASON_INVALID_METHOD);
		return;
	}
	switch (h1_read_block(w, c, true, &bytes)) {
	case H1_READ_MORE:
		if (c->s->rx_eof) { /* half a head and no more: nobody knows of it yet */
			foil_reason(w, HTTP, TRUNCATED);
			h1_exchange_end(c);
			close_idle(w, c, STREAM_END_FIN);
		}
		return;
	case H1_READ_DONE:
		take_request(w, c, bytes);
		return;
	case H1_READ_BARE_LF:
		refuse_unread(w, c, HTTP_REASON_BARE_LF);
		return;
	case H1_READ_TOO_LARGE:
		refuse_unread(w, c, HTTP_REASON_HEADERS_TOO_LARGE);
		return;
	case H1_READ_NO_MEMORY:
		refuse_unread(w, c, HTTP_REASON_OUT_OF_MEMORY);
		return;
	}
}

/* One empty line before a request is skipped (RFC 9112 2.2). False: nothing of a request is there yet. */
static bool skip_empty_line(struct foil_worker *w, struct http_conn *c)
{
	char two[2];

	if (c->s->rx.n_bytes == 0)
		return false;
	foil_chain_copy_out(&c->s->rx, 0, two, 1);
	if (two[0] != '\r' || c->has_skipped_line)
		return true;
	if (c->s->rx.n_bytes < 2)
		return c->s->rx_eof;
	foil_chain_copy_out(&c->s->rx, 0, two, 2);
	if (two[1] != '\n')
		return true;
	c->has_skipped_line = true;
	stream_consume(w, c->s, 2);
	return c->s->rx.n_bytes != 0;
}

/* Between requests. False: stay so. */
static bool begin_request(struct foil_worker *w, struct http_conn *c)
{
	if (!skip_empty_line(w, c)) {
		if (c->s->rx_eof)
			close_idle(w, c, STREAM_END_FIN);
		else if (!c->due_us)
			http_conn_timer(w, c, c->limits->idle_timeout_us);
		return false;
	}
	if (stream_tx_room(c->s) == 0)
		return false; /* who does not read answers gets no more; writable comes */
	c->has_skipped_line = false;
	if (!h1_exchange_new(w, c, NULL)) {
		h1_fail(w, c, &(struct h1_fail){.kind = HTTP_RESET_LOCAL});
		return false;
	}
	http_conn_timer(w, c, c->limits->head_timeout_us);
	return true;
}

/* The client will send no more. If its request is not served to the end yet, it is taken for gone. */
static bool client_has_left(struct foil_worker *w, struct http_conn *c)
{
	struct h1_exchange *x = c->x;

	if (!c->s->rx_eof)
		return false;
	if (x->is_tunnel) { /* half of it */
		if (x->rx == H1_RX_TUNNEL && !x->is_paused && foil_chain_is_empty(&c->s->rx))
			h1_body_ends(w, c);
		return true;
	}
	if (x->rx != H1_RX_DONE && x->rx != H1_RX_IGNORED && !foil_chain_is_empty(&c->s->rx))
		return false; /* paused: what it sent is still to be read */
	enum http_reason reason = x->rx == H1_RX_DONE || x->rx == H1_RX_IGNORED ? HTTP_REASON_OK : HTTP_REASON_TRUNCATED;
	h1_fail(w, c, &(struct h1_fail){.kind = HTTP_RESET_REMOTE, .reason = reason, .why = STREAM_END_FIN, .in_order = x->tx == H1_TX_HEAD});
	return true;
}

/* One request as far as it goes; h1_maybe_finish asks for the next round. */
static void server_run(struct foil_worker *w, struct http_conn *c)
{
	if (!c->x && (c->is_closing || !begin_request(w, c)))
		return;
	if (c->x->waiting)
		tell_request(w, c, h1_head_take(c));
	else if (c->x->rx == H1_RX_HEAD)
		receive_head(w, c);
	if (!c->x || c->is_gone || !c->x->ev)
		return;
	h1_send_continue(w, c);
	if (!h1_receive_body(w, c))
		return;
	h1_maybe_finish(w, c);
	if (c->x && c->x->ev && !c->is_gone)
		(void)client_has_left(w, c); /* nothing follows */
}

static void server_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why)
{
	if (!h1_tunnel_closed(w, c, why))
		h1_fail(w, c, &(struct h1_fail){.kind = HTTP_RESET_REMOTE, .why = why, .has_closed = true});
}

static void server_drain(struct foil_worker *w, struct http_conn *c)
{
	c->must_close = true;
	if (!c->x && !c->is_closing)
		close_idle(w, c, STREAM_END_FIN);
}

static void server_timeout(struct foil_worker *w, struct http_conn *c)
{
	if (!c->x && (!foil_chain_is_empty(&c->s->rx) || c->s->rx_eof)) { /* bytes that were there before the codec */
		c->wants_run = true;
	} else if (!c->x) {
		foil_reason(w, HTTP, IDLE_TIMEOUT);
		close_idle(w, c, STREAM_END_FIN);
	} else if (!c->x->ev) {
		refuse_unread(w, c, HTTP_REASON_HEAD_TIMEOUT);
	}
}

const struct http_conn_ops h1_server_ops = {
	.run = server_run,
	.writable = h1_writable,
	.closed = server_closed,
	.send_head = h1_send_response_head,
	.send_data = h1_send_data,
	.send_trailers = h1_send_trailers,
	.tx_room = h1_tx_room,
	.pause = h1_pause,
	.reset = h1_reset,
	.drain = server_drain,
	.close = h1_close,
	.is_idle = h1_is_idle,
	.timeout = server_timeout,
	.reap = h1_reap,
	.version = HTTP_VERSION_11,
};
