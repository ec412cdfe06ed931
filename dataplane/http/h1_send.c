/* The sending half of an exchange: which framing a head gets, bodies in that framing, the end. The same for both sides but for the heads.
 * Rules: RFC 9112 section 6; without a length a body is chunked, towards HTTP/1.0 it ends with the connection.
 * Invariant: what a length promised is what is sent, or the connection is reset: a truncated message never looks whole. */
#include <errno.h>

#include "dataplane/http/h1_priv.h"

#define CHUNK_LINE_BYTES_MAX 18u /* 16 digits, CRLF */

static void write_out(struct foil_worker *w, struct h1_exchange *x, struct foil_chain *own)
{
	x->hs.tx_wire_bytes += own->n_bytes;
	stream_write(w, x->hs.conn->s, own);
}

/* The body is not what was promised, or there is no memory for its framing. */
static FOIL_COLD void send_failed(struct foil_worker *w, struct h1_exchange *x, enum http_reason reason)
{
	h1_fail(w, x->hs.conn, &(struct h1_fail){.kind = HTTP_RESET_LOCAL, .reason = reason});
}

static void tx_ended(struct foil_worker *w, struct h1_exchange *x)
{
	x->tx = H1_TX_DONE;
	x->hs.tx_end_us = w->now_us;
	h1_maybe_finish(w, x->hs.conn);
}

static bool method_expects_body(enum http_method m)
{
	return m != HTTP_METHOD_GET && m != HTTP_METHOD_HEAD && m != HTTP_METHOD_DELETE && m != HTTP_METHOD_TRACE && m != HTTP_METHOD_CONNECT;
}

static struct h1_encode_params request_framing(const struct http_head *head, bool end)
{
	struct h1_encode_params p = {.framing = H1_FRAME_NONE};

	if (head->is_upgrade) {
		p.says_length = head->body == HTTP_BODY_LENGTH; /* of 0 */
	} else if (end) {
		if (method_expects_body(head->method) || head->body == HTTP_BODY_LENGTH)
			p.framing = H1_FRAME_LENGTH; /* of 0: says that there is none (RFC 9110 8.6) */
	} else if (head->body == HTTP_BODY_LENGTH) {
		p.framing = H1_FRAME_LENGTH;
		p.content_length = head->content_length;
	} else {
		p.framing = H1_FRAME_CHUNKED;
	}
	return p;
}

int h1_send_request_head(struct foil_worker *w, struct http_stream *hs, const struct http_head *head, bool end)
{
	struct h1_exchange *x = h1_of(hs);
	struct foil_chain out = {0};

	if (x->is_dead || x->tx != H1_TX_HEAD)
		return -ENOBUFS;
	struct h1_encode_params p = request_framing(head, end);
	if (h1_encode_request(w, head, &p, &out) != 0)
		return -ENOBUFS;
	x->method = (uint8_t)head->method;
	x->is_upgrade = head->is_upgrade;
	x->framing = x->is_upgrade ? H1_FRAME_TUNNEL : (uint8_t)p.framing;
	x->tx_left_bytes = p.content_length;
	x->tx = H1_TX_BODY;
	write_out(w, x, &out);
	if (end)
		tx_ended(w, x);
	return 0;
}

static bool status_has_no_body(uint16_t status)
{
	return status < 200 || status == 204 || status == 304;
}

static struct h1_encode_params response_framing(struct h1_exchange *x, const struct http_head *head, bool end)
{
	struct h1_encode_params p = {.framing = H1_FRAME_NONE, .is_http10 = x->is_http10};

	if (x->method == HTTP_METHOD_HEAD || head->status == 304) { /* the length that there would be, if it is known */
		p.says_length = head->body == HTTP_BODY_LENGTH;
		p.content_length = head->content_length;
		/* Envoy's way (judge: match, HEAD /none): GET would be chunked, and HEAD says so (RFC 9112 6.1 allows it) */
		p.says_chunked = !p.says_length && x->method == HTTP_METHOD_HEAD && !status_has_no_body(head->status) && !x->is_http10;
	} else if (status_has_no_body(head->status)) {
		p.framing = H1_FRAME_NONE;
	} else if (end) {
		p.framing = H1_FRAME_LENGTH;
	} else if (head->body == HTTP_BODY_LENGTH) {
		p.framing = H1_FRAME_LENGTH;
		p.content_length = head->content_length;
	} else {
		p.framing = x->is_http10 ? H1_FRAME_CLOSE : H1_FRAME_CHUNKED;
	}
	return p;
}

/* 1xx: not an answer yet, and nothing for an HTTP/1.0 client (RFC 9110 15.2). */
static int send_informational(struct foil_worker *w, struct h1_exchange *x, const struct http_head *head)
{
	struct h1_encode_params p = {.framing = H1_FRAME_NONE};
	struct foil_chain out = {0};

	if (x->is_http10 || (head->status == 100 && x->has_continued))
		return 0;
	if (h1_encode_response(w, head, &p, &out) != 0)
		return -ENOBUFS;
	if (head->status == 100) {
		x->owes_continue = false;
		x->has_continued = true;
	}
	write_out(w, x, &out);
	return 0;
}

/* 101 to who asked for it: what follows in either direction is no HTTP any more. */
static int send_switching(struct foil_worker *w, struct h1_exchange *x, const struct http_head *head)
{
	struct h1_encode_params p = {.framing = H1_FRAME_NONE};
	struct http_conn *c = x->hs.conn;
	struct foil_chain out = {0};

	if (h1_encode_response(w, head, &p, &out) != 0)
		return -ENOBUFS;
	x->is_tunnel = true;
	x->framing = H1_FRAME_TUNNEL;
	x->tx = H1_TX_BODY;
	x->rx = H1_RX_TUNNEL;
	c->must_close = true;
	c->wants_run = true; /* bytes may have come early */
	write_out(w, x, &out);
	return 0;
}

int h1_send_response_head(struct foil_worker *w, struct http_stream *hs, const struct http_head *head, bool end)
{
	struct h1_exchange *x = h1_of(hs);
	struct http_conn *c = hs->conn;
	struct foil_chain out = {0};

	if (x->is_dead || x->tx != H1_TX_HEAD)
		return -ENOBUFS;
	if (head->status == 101)
		return x->rx == H1_RX_WAITS ? send_switching(w, x, head) : -ENOBUFS;
	if (head->status < 200)
		return send_informational(w, x, head);
	struct h1_encode_params p = response_framing(x, head, end);
	/* An answer before the whole request is in: the rest is not waited for, as Envoy (judge: redirect-rewrite, POST /direct). */
	p.says_close = c->must_close || w->draining || !x->peer_keeps_alive || x->rx != H1_RX_DONE || p.framing == H1_FRAME_CLOSE;
	p.says_keep_alive = x->is_http10 && !p.says_close;
	if (h1_encode_response(w, head, &p, &out) != 0)
		return -ENOBUFS;
	c->must_close = c->must_close || p.says_close;
	x->owes_continue = false;
	x->framing = (uint8_t)p.framing;
	x->tx_left_bytes = p.framing == H1_FRAME_LENGTH ? p.content_length : 0;
	x->tx = H1_TX_BODY;
	write_out(w, x, &out);
	if (end)
		tx_ended(w, x);
	return 0;
}

static uint32_t hex_text(char *text, uint64_t v)
{
	char digits[16];
	uint32_t n = 0;

	do
		digits[n++] = "0123456789abcdef"[v & 15];
	while (v >>= 4);
	for (uint32_t i = 0; i < n; i++)
		text[i] = digits[n - 1 - i];
	return n;
}

static bool is_own_seg(const struct rte_mbuf *m)
{
	return RTE_MBUF_DIRECT(m) && rte_mbuf_refcnt_read(m) == 1;
}

/* Puts the chunk's line before data and CRLF behind it: in the head and tail room of its own segments where they are nobody else's. */
static int frame_chunk(struct foil_worker *w, struct foil_chain *data)
{
	char line[CHUNK_LINE_BYTES_MAX];
	uint32_t n = hex_text(line, data->n_bytes);
	struct rte_mbuf *first = data->head;
	struct foil_chain framed = {0};

	line[n++] = '\r';
	line[n++] = '\n';
	if (foil_chain_append(w, data, "\r\n", 2) != 0)
		return -ENOBUFS;
	if (is_own_seg(first) && rte_pktmbuf_headroom(first) >= n) {
		first->data_off = (uint16_t)(first->data_off - n);
		first->data_len = (uint16_t)(first->data_len + n);
		data->n_bytes += n;
		memcpy(rte_pktmbuf_mtod(first, void *), line, n);
		return 0;
	}
	if (foil_chain_append(w, &framed, line, n) != 0)
		return -ENOBUFS;
	foil_chain_move(&framed, data);
	*data = framed;
	return 0;
}

static void send_chunk(struct foil_worker *w, struct h1_exchange *x, struct foil_chain *own, bool end)
{
	if (own->n_bytes && frame_chunk(w, own) != 0) {
		foil_chain_clear(own);
		send_failed(w, x, HTTP_REASON_OUT_OF_MEMORY);
		return;
	}
	if (end && foil_chain_append(w, own, "0\r\n\r\n", 5) != 0) {
		foil_chain_clear(own);
		send_failed(w, x, HTTP_REASON_OUT_OF_MEMORY);
		return;
	}
	if (own->n_bytes)
		write_out(w, x, own);
	if (end)
		tx_ended(w, x);
}

static void send_counted(struct foil_worker *w, struct h1_exchange *x, struct foil_chain *own, bool end)
{
	if (own->n_bytes > x->tx_left_bytes || (end && own->n_bytes != x->tx_left_bytes)) {
		foil_chain_clear(own);
		send_failed(w, x, HTTP_REASON_TX_LENGTH_MISMATCH);
		return;
	}
	x->tx_left_bytes -= own->n_bytes;
	if (own->n_bytes)
		write_out(w, x, own);
	if (end)
		tx_ended(w, x);
}

/* Before 101 nothing goes out but the request's end, which says that there will be no tunnel. */
static void send_tunnel(struct foil_worker *w, struct h1_exchange *x, struct foil_chain *own, bool end)
{
	struct http_conn *c = x->hs.conn;

	if (!x->is_tunnel) {
		foil_chain_clear(own);
		c->must_close = true;
	} else if (own->n_bytes) {
		x->hs.tx_body_bytes += own->n_bytes;
		write_out(w, x, own);
	}
	if (!end)
		return;
	if (x->is_tunnel)
		stream_shutdown(w, c->s);
	tx_ended(w, x);
}

void h1_send_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	struct h1_exchange *x = h1_of(hs);

	if (x->is_dead || x->tx != H1_TX_BODY) {
		foil_chain_clear(own_data);
		return;
	}
	if (x->framing != H1_FRAME_NONE && x->framing != H1_FRAME_TUNNEL)
		hs->tx_body_bytes += own_data->n_bytes;
	switch ((enum h1_framing)x->framing) {
	case H1_FRAME_NONE: /* the answer to HEAD, 204, 304: whatever the body is, it is not sent */
		foil_chain_clear(own_data);
		if (end)
			tx_ended(w, x);
		return;
	case H1_FRAME_LENGTH:
		send_counted(w, x, own_data, end);
		return;
	case H1_FRAME_CHUNKED:
		send_chunk(w, x, own_data, end);
		return;
	case H1_FRAME_CLOSE:
		if (own_data->n_bytes)
			write_out(w, x, own_data);
		if (end)
			tx_ended(w, x);
		return;
	case H1_FRAME_TUNNEL:
		send_tunnel(w, x, own_data, end);
		return;
	}
	FOIL_UNREACHABLE();
}

int h1_send_trailers(struct foil_worker *w, struct http_stream *hs, const struct http_headers *trailers)
{
	struct h1_exchange *x = h1_of(hs);
	struct foil_chain out = {0};

	if (x->is_dead || x->tx != H1_TX_BODY)
		return -ENOBUFS;
	if (x->framing != H1_FRAME_CHUNKED) { /* no place for them: the message just ends */
		h1_send_data(w, hs, &out, true);
		return 0;
	}
	if (h1_encode_trailers(w, trailers, &out) != 0)
		return -ENOBUFS;
	write_out(w, x, &out);
	tx_ended(w, x);
	return 0;
}

uint32_t h1_tx_room(const struct http_stream *hs)
{
	const struct stream *s = hs->conn->s;

	return s ? stream_tx_room(s) : 0;
}

/* 100 Continue, if the client waits for it, nothing was answered yet and the body is wanted. */
void h1_send_continue(struct foil_worker *w, struct http_conn *c)
{
	struct h1_exchange *x = c->x;
	struct foil_chain out = {0};

	if (!x->owes_continue || x->is_paused)
		return;
	x->owes_continue = false;
	if (x->tx != H1_TX_HEAD || !foil_chain_is_empty(&c->s->rx))
		return; /* answered, or the client did not wait */
	if (foil_chain_append(w, &out, "HTTP/1.1 100 Continue\r\n\r\n", 25) != 0)
		return; /* the client sends after a while all the same (RFC 9110 10.1.1) */
	foil_count(w, HTTP, CONTINUES_SENT, 1);
	x->has_continued = true;
	write_out(w, x, &out);
}

void h1_send_refusal(struct foil_worker *w, struct http_conn *c, uint16_t status)
{
	const struct foil_slice text = foil_slice_str(http_status_reason(status));
	struct http_header type = {http_header_name(HTTP_HDR_CONTENT_TYPE), FOIL_SLICE("text/plain"), HTTP_HDR_CONTENT_TYPE, false};
	struct http_head head = {.status = status, .headers = {.list = &type, .n = 1, .cap = 1}};
	struct h1_encode_params p = {.framing = H1_FRAME_LENGTH, .content_length = text.n_bytes, .says_close = true, .is_http10 = c->x->is_http10};
	struct foil_chain out = {0};

	if (h1_encode_response(w, &head, &p, &out) != 0)
		return; /* closed without a word */
	if (c->x->method != HTTP_METHOD_HEAD && foil_chain_append(w, &out, text.data, text.n_bytes) != 0) {
		foil_chain_clear(&out);
		return;
	}
	if (c->x->method != HTTP_METHOD_HEAD)
		c->x->hs.tx_body_bytes = text.n_bytes; /* the record of the request counts it as any other body */
	write_out(w, c->x, &out);
}
