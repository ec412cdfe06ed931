/* The client side of HTTP/1.1: one exchange at a time on an upstream connection, which stays for the next when both ends may keep it.
 * What an upstream sends without being asked ends its connection: the answer to nobody's request must not become the next one's.
 * Invariant: ready is called only when c->x is NULL, rx is empty and the peer has not finished. */
#include "dataplane/http/h1_priv.h"

static void go(struct foil_worker *w, struct http_conn *c, bool in_order, enum stream_end why)
{
	c->is_closing = true;
	if (in_order)
		http_conn_release(w, c);
	else
		http_conn_abort(w, c);
	http_conn_gone(w, c, why);
}

static FOIL_COLD bool fail_protocol(struct foil_worker *w, struct http_conn *c, enum http_reason reason)
{
	enum http_reset kind = reason == HTTP_REASON_OUT_OF_MEMORY ? HTTP_RESET_LOCAL : HTTP_RESET_PROTOCOL;

	h1_fail(w, c, &(struct h1_fail){.kind = kind, .reason = reason});
	return false;
}

static void begin_body(struct h1_exchange *x, const struct http_head *head)
{
	if (x->method == HTTP_METHOD_HEAD || head->status == 304 || head->status == 204) {
		x->rx = H1_RX_DONE;
	} else if (head->body == HTTP_BODY_CHUNKED) {
		x->rx = H1_RX_CHUNKED;
	} else if (head->body == HTTP_BODY_UNTIL_CLOSE) {
		x->rx = H1_RX_UNTIL_CLOSE;
	} else if (head->body == HTTP_BODY_LENGTH && head->content_length) {
		x->rx = H1_RX_LENGTH;
		x->rx_left_bytes = head->content_length;
	} else {
		x->rx = H1_RX_DONE;
	}
}

/* False: the exchange is over. */
static bool take_switching(struct foil_worker *w, struct http_conn *c, struct http_head *head)
{
	struct h1_exchange *x = c->x;

	if (!x->is_upgrade || !head->is_upgrade || x->tx != H1_TX_BODY)
		return fail_protocol(w, c, HTTP_REASON_UNEXPECTED_UPGRADE);
	foil_count(w, HTTP, RESPONSES_DECODED, 1);
	x->is_tunnel = true;
	x->rx = H1_RX_TUNNEL;
	c->must_close = true;
	HTTP_TELL(w, x->ev->head(w, &x->hs, head, false));
	return c->x == x && !c->is_gone;
}

/* False: the exchange is over. */
static bool take_informational(struct foil_worker *w, struct http_conn *c, struct http_head *head)
{
	struct h1_exchange *x = c->x;

	if (head->status == 101)
		return take_switching(w, c, head);
	if (++x->n_informational > H1_INFORMATIONAL_MAX)
		return fail_protocol(w, c, HTTP_REASON_TOO_MANY_INFORMATIONAL);
	foil_count(w, HTTP, INFORMATIONAL_DECODED, 1);
	h1_block_reset(x); /* the next head is another block */
	if (x->ev->informational)
		x->ev->informational(w, &x->hs, head);
	return c->x == x && !c->is_gone;
}

/* False: the exchange is over. */
static bool tell_response(struct foil_worker *w, struct http_conn *c, struct http_head *head)
{
	struct h1_exchange *x = c->x;

	foil_count(w, HTTP, RESPONSES_DECODED, 1);
	c->must_close = c->must_close || head->wants_close;
	begin_body(x, head);
	if (x->rx == H1_RX_DONE)
		x->hs.rx_end_us = w->now_us;
	HTTP_TELL(w, x->ev->head(w, &x->hs, head, x->rx == H1_RX_DONE));
	return c->x == x && !c->is_gone;
}

/* False: the exchange is over, or its head waits. */
static bool take_response(struct foil_worker *w, struct http_conn *c, struct foil_slice bytes)
{
	struct h1_exchange *x = c->x;
	struct http_head head;
	enum http_reason why = HTTP_REASON_OUT_OF_MEMORY;

	if (FOIL_UNLIKELY(x->block.is_untidy))
		bytes = h1_tidy(w, x->hs.arena, bytes, &x->block.n_lines);
	if (FOIL_LIKELY(bytes.data))
		why = h1_read_response(w, x->hs.arena, bytes, x->block.n_lines, c->limits, x->method == HTTP_METHOD_HEAD, &head);
	if (why != HTTP_REASON_OK)
		return fail_protocol(w, c, why);
	if (head.status < 200)
		return take_informational(w, c, &head);
	return !h1_head_waits(w, c, &head) && tell_response(w, c, &head);
}

/* False: the exchange is over, or its head is not there yet. */
static bool receive_head(struct foil_worker *w, struct http_conn *c)
{
	struct foil_slice bytes;

	if (foil_chain_is_empty(&c->s->rx))
		return true;
	if (c->x->tx == H1_TX_HEAD)
		return fail_protocol(w, c, HTTP_REASON_UNSOLICITED_RESPONSE);
	c->x->block.takes_lf = true;
	switch (h1_read_block(w, c, false, &bytes)) {
	case H1_READ_MORE:
		return true;
	case H1_READ_DONE:
		return take_response(w, c, bytes);
	case H1_READ_BARE_LF:
		return fail_protocol(w, c, HTTP_REASON_BARE_LF);
	case H1_READ_TOO_LARGE:
		return fail_protocol(w, c, HTTP_REASON_HEADERS_TOO_LARGE);
	case H1_READ_NO_MEMORY:
		return fail_protocol(w, c, HTTP_REASON_OUT_OF_MEMORY);
	}
	FOIL_UNREACHABLE();
}

static void at_rest(struct foil_worker *w, struct http_conn *c)
{
	if (!foil_chain_is_empty(&c->s->rx)) {
		foil_reason(w, HTTP, UNSOLICITED_RESPONSE);
		go(w, c, false, STREAM_END_LOCAL);
	} else if (c->s->rx_eof) {
		go(w, c, true, STREAM_END_FIN);
	} else {
		if (!c->due_us)
			http_conn_timer(w, c, c->limits->idle_timeout_us);
		if (c->owes_ready && c->was_open) {
			c->owes_ready = false;
			if (c->ev.client->ready)
				c->ev.client->ready(w, c);
		}
	}
}

/* The upstream will send no more. */
static void upstream_has_ended(struct foil_worker *w, struct http_conn *c)
{
	struct h1_exchange *x = c->x;

	if (!c->s->rx_eof)
		return;
	if (x->rx != H1_RX_DONE && !foil_chain_is_empty(&c->s->rx))
		return; /* paused: there is more to read */
	if (x->rx == H1_RX_UNTIL_CLOSE || x->rx == H1_RX_TUNNEL) {
		if (!x->is_paused)
			h1_body_ends(w, c);
		return;
	}
	if (x->is_tunnel)
		return; /* half of it */
	h1_fail(w, c, &(struct h1_fail){.kind = HTTP_RESET_REMOTE, .reason = x->hs.rx_wire_bytes ? HTTP_REASON_TRUNCATED : HTTP_REASON_OK,
					.why = STREAM_END_FIN});
}

static void client_run(struct foil_worker *w, struct http_conn *c)
{
	if (c->is_closing)
		return;
	if (!c->x) {
		at_rest(w, c);
		return;
	}
	if (c->x->waiting && !tell_response(w, c, h1_head_take(c)))
		return;
	while (c->x->rx == H1_RX_HEAD && !foil_chain_is_empty(&c->s->rx)) /* 1xx heads come before the last */
		if (!receive_head(w, c))
			return;
	if (!h1_receive_body(w, c))
		return;
	h1_maybe_finish(w, c);
	if (c->x && !c->is_gone && !c->is_closing)
		upstream_has_ended(w, c);
}

static struct http_stream *client_start(struct foil_worker *w, struct http_conn *c, struct foil_arena *arena,
					const struct http_stream_events *ev, void *user_data)
{
	if (c->x || c->must_close || c->s->rx_eof || !foil_chain_is_empty(&c->s->rx))
		return NULL;
	struct h1_exchange *x = h1_exchange_new(w, c, arena);
	if (!x)
		return NULL;
	http_conn_timer(w, c, 0);
	x->ev = ev;
	x->hs.user_data = user_data;
	return &x->hs;
}

static void client_opened(struct foil_worker *w, struct http_conn *c)
{
	if (c->x)
		return;
	c->owes_ready = true;
	c->wants_run = true; /* ready comes from there */
}

static void client_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why)
{
	struct h1_fail f = {.kind = HTTP_RESET_REMOTE, .why = why, .has_closed = true};

	if (h1_tunnel_closed(w, c, why))
		return;
	if (!c->was_open)
		f.kind = why == STREAM_END_CONNECT_TIMEOUT ? HTTP_RESET_CONNECT_TIMEOUT : HTTP_RESET_CONNECT_FAILURE;
	h1_fail(w, c, &f);
}

static void client_drain(struct foil_worker *w, struct http_conn *c)
{
	c->must_close = true;
	if (!c->x && !c->is_closing)
		go(w, c, true, STREAM_END_FIN);
}

static void client_timeout(struct foil_worker *w, struct http_conn *c)
{
	if (c->x)
		return;
	foil_reason(w, HTTP, IDLE_TIMEOUT);
	go(w, c, true, STREAM_END_FIN);
}

const struct http_conn_ops h1_client_ops = {
	.run = client_run,
	.opened = client_opened,
	.writable = h1_writable,
	.closed = client_closed,
	.start = client_start,
	.send_head = h1_send_request_head,
	.send_data = h1_send_data,
	.send_trailers = h1_send_trailers,
	.tx_room = h1_tx_room,
	.pause = h1_pause,
	.reset = h1_reset,
	.drain = client_drain,
	.close = h1_close,
	.is_idle = h1_is_idle,
	.timeout = client_timeout,
	.reap = h1_reap,
	.version = HTTP_VERSION_11,
};
