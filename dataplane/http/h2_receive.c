/* The bytes of a connection, frame by frame (RFC 9113 sections 3.4, 4 and 6.1). DATA is taken as it comes, header blocks too; other frames are
 * short and wait until they are whole. Nothing is left in rx but the beginning of a frame: what users do not take is held by its stream, whose
 * window is then closed.
 * Invariant: a connection that has failed is looked at no more: every step says false after it. */
#include "dataplane/http/h2_priv.h"

/* ---- DATA ---- */
/* A stream that does not exist, or does not receive any more. True: the payload is to be skipped. */
static bool data_for_nobody(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x)
{
	uint32_t id = h->frame.stream_id;

	if (h->frame.flags & H2_PADDED) { /* the padding is looked at whoever it is for */
		h->in = H2_IN_PAD;
	} else {
		h->in = H2_IN_SKIP;
		h2_flow_credit(w, h, NULL, h->frame.length_bytes);
	}
	if (x) {
		h2_stream_fail(w, h, x, H2_STREAM_CLOSED, HTTP_RESET_PROTOCOL, HTTP_REASON_H2_STREAM_CLOSED);
		return !h2_is_over(h);
	}
	switch (h2_stream_how_closed(h, id)) {
	case H2_CLOSED_BY_US: return true; /* it was on its way */
	case H2_CLOSED_ENDED: return h2_fail(w, h, H2_STREAM_CLOSED, HTTP_REASON_H2_STREAM_CLOSED);
	case H2_CLOSED_BY_PEER:
	case H2_CLOSED_UNKNOWN:
		foil_reason(w, HTTP, H2_STREAM_CLOSED);
		h2_put_u32(w, h, H2_RST_STREAM, id, H2_STREAM_CLOSED);
		return !h2_is_over(h);
	}
	FOIL_UNREACHABLE();
}

static FOIL_COLD bool fail_data(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, enum h2_code code, enum http_reason reason)
{
	h->in = H2_IN_SKIP;
	h2_flow_credit(w, h, NULL, h->frame_left_bytes);
	h2_stream_fail(w, h, x, code, code == H2_INTERNAL_ERROR ? HTTP_RESET_LOCAL : HTTP_RESET_PROTOCOL, reason);
	return !h2_is_over(h);
}

/* The pad length is known, n_bytes of data follow. */
static bool data_checked(struct foil_worker *w, struct h2_conn *h, uint32_t n_bytes)
{
	struct h2_stream *x = h2_stream_find(h, h->frame.stream_id);

	h->in = H2_IN_DATA;
	if (!x || !x->has_length)
		return true;
	if (n_bytes > x->rx_left_bytes || ((h->frame.flags & H2_END_STREAM) && n_bytes != x->rx_left_bytes))
		return fail_data(w, h, x, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_LENGTH);
	x->rx_left_bytes -= n_bytes;
	return true;
}

static bool data_begin(struct foil_worker *w, struct h2_conn *h)
{
	const struct h2_frame *f = &h->frame;
	struct h2_stream *x = h2_stream_find(h, f->stream_id);

	if (f->stream_id == 0)
		return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_FRAME);
	if ((f->flags & H2_PADDED) && f->length_bytes == 0)
		return h2_fail(w, h, H2_FRAME_SIZE_ERROR, HTTP_REASON_H2_FRAME_SIZE);
	if (!x && h2_id_is_idle(h, f->stream_id))
		return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_STREAM_ID);
	if (!h2_flow_arrived(w, h, f->length_bytes))
		return false;
	if (!x || x->rx == H2_RX_ENDED || x->rx == H2_RX_DONE)
		return data_for_nobody(w, h, x);
	x->hs.rx_wire_bytes += H2_FRAME_HEADER_BYTES + f->length_bytes;
	if (f->length_bytes > x->rx_window)
		return fail_data(w, h, x, H2_FLOW_CONTROL_ERROR, HTTP_REASON_H2_BAD_WINDOW);
	x->rx_window -= f->length_bytes;
	if (x->rx == H2_RX_HEAD)
		return fail_data(w, h, x, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_MESSAGE);
	if (!(f->flags & H2_PADDED))
		return data_checked(w, h, f->length_bytes);
	h->in = H2_IN_PAD;
	return true;
}

static bool pad_step(struct foil_worker *w, struct h2_conn *h)
{
	uint8_t n_pad;

	if (h->c->s->rx.n_bytes < 1)
		return false;
	foil_chain_copy_out(&h->c->s->rx, 0, &n_pad, 1);
	h2_consume(h, 1);
	h->frame_left_bytes--;
	if (n_pad > h->frame_left_bytes)
		return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_FRAME);
	h->pad_left_bytes = n_pad;
	h2_flow_credit(w, h, h2_stream_find(h, h->frame.stream_id), 1u + n_pad);
	return data_checked(w, h, h->frame_left_bytes - n_pad);
}

/* n_bytes of rx are for x: by reference, or copied when they are few. */
static int take_data(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, uint32_t n_bytes)
{
	struct stream *s = h->c->s;

	if (n_bytes > H2_COPY_BYTES_MAX)
		return stream_take(w, s, n_bytes, &x->rx_held);
	char few[H2_COPY_BYTES_MAX];
	const char *from = few;
	if (FOIL_LIKELY(s->rx.head->data_len >= n_bytes))
		from = rte_pktmbuf_mtod(s->rx.head, const char *);
	else
		foil_chain_copy_out(&s->rx, 0, few, n_bytes);
	int rc = foil_chain_append(w, &x->rx_held, from, n_bytes);
	if (rc == 0)
		h2_consume(h, n_bytes);
	return rc;
}

static bool data_end(struct foil_worker *w, struct h2_conn *h)
{
	struct h2_stream *x = h2_stream_find(h, h->frame.stream_id);

	h->in = H2_IN_FRAME;
	if (!x || !(h->frame.flags & H2_END_STREAM))
		return true;
	x->hs.rx_end_us = w->now_us;
	if (x->rx == H2_RX_IGNORED)
		x->rx = H2_RX_DONE;
	else if (x->rx == H2_RX_BODY)
		x->rx = H2_RX_ENDED;
	h2_stream_tell(h, x);
	return true;
}

static bool data_step(struct foil_worker *w, struct h2_conn *h)
{
	struct h2_stream *x = h2_stream_find(h, h->frame.stream_id);
	uint32_t n = FOIL_MIN(h->frame_left_bytes - h->pad_left_bytes, h->c->s->rx.n_bytes);

	if (!x) { /* ended by its user in between */
		h2_flow_credit(w, h, NULL, h->frame_left_bytes - h->pad_left_bytes);
		h->in = H2_IN_SKIP;
		return true;
	}
	if (n && x->rx == H2_RX_IGNORED) {
		h2_consume(h, n);
		h2_flow_credit(w, h, x, n);
	} else if (n) {
		if (take_data(w, h, x, n) != 0)
			return fail_data(w, h, x, H2_INTERNAL_ERROR, HTTP_REASON_OUT_OF_MEMORY);
		h2_stream_tell(h, x);
	}
	h->frame_left_bytes -= n;
	if (h->frame_left_bytes > h->pad_left_bytes)
		return false;
	n = FOIL_MIN(h->pad_left_bytes, h->c->s->rx.n_bytes);
	if (n)
		h2_consume(h, n);
	h->pad_left_bytes -= n;
	h->frame_left_bytes -= n;
	if (h->frame_left_bytes)
		return false;
	return data_end(w, h);
}

/* ---- frames ---- */
static bool skip_step(struct foil_worker *w, struct h2_conn *h)
{
	uint32_t n = FOIL_MIN(h->frame_left_bytes, h->c->s->rx.n_bytes);

	if (n)
		h2_consume(h, n);
	h->frame_left_bytes -= n;
	if (h->frame_left_bytes)
		return false;
	h->pad_left_bytes = 0;
	h->in = H2_IN_FRAME;
	return true;
}

static bool control_step(struct foil_worker *w, struct h2_conn *h)
{
	uint8_t payload[H2_CONTROL_BYTES_MAX];
	uint32_t n = FOIL_MIN(h->frame.length_bytes, H2_CONTROL_BYTES_MAX);

	if (h->c->s->rx.n_bytes < n)
		return false;
	foil_chain_copy_out(&h->c->s->rx, 0, payload, n);
	if (n)
		h2_consume(h, n);
	h->frame_left_bytes -= n;
	h->in = h->frame_left_bytes ? H2_IN_SKIP : H2_IN_FRAME; /* the rest of a GOAWAY's words */
	return h2_control(w, h, payload, n);
}

static bool control_begin(struct foil_worker *w, struct h2_conn *h)
{
	const struct h2_frame *f = &h->frame;

	h->in = H2_IN_CONTROL;
	if (f->length_bytes <= H2_CONTROL_BYTES_MAX || f->type == H2_GOAWAY)
		return true;
	if (f->type == H2_SETTINGS && f->length_bytes % 6 == 0)
		return h2_fail(w, h, H2_ENHANCE_YOUR_CALM, HTTP_REASON_H2_CONTROL_FLOOD);
	return h2_fail(w, h, H2_FRAME_SIZE_ERROR, HTTP_REASON_H2_FRAME_SIZE);
}

/* What may come now, whatever it says. */
static bool frame_is_in_order(struct foil_worker *w, struct h2_conn *h)
{
	const struct h2_frame *f = &h->frame;

	if (f->length_bytes > H2_FRAME_BYTES_MAX)
		return h2_fail(w, h, H2_FRAME_SIZE_ERROR, HTTP_REASON_H2_FRAME_SIZE);
	if (!h->had_settings && (f->type != H2_SETTINGS || (f->flags & H2_ACK)))
		return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_PREFACE);
	if (h->block_id && (f->type != H2_CONTINUATION || f->stream_id != h->block_id))
		return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_FRAME);
	return h2_guard_frame(w, h);
}

static bool frame_begin(struct foil_worker *w, struct h2_conn *h)
{
	if (!frame_is_in_order(w, h))
		return false;
	switch (h->frame.type) {
	case H2_DATA:
		return data_begin(w, h);
	case H2_HEADERS:
	case H2_CONTINUATION:
		return h2_block_begin(w, h);
	case H2_PRIORITY: case H2_RST_STREAM: case H2_SETTINGS: case H2_PUSH_PROMISE: case H2_PING: case H2_GOAWAY: case H2_WINDOW_UPDATE:
		return control_begin(w, h);
	default: /* section 4.1: ignored */
		h->in = H2_IN_SKIP;
		return true;
	}
}

static bool frame_step(struct foil_worker *w, struct h2_conn *h)
{
	uint8_t bytes[H2_FRAME_HEADER_BYTES];
	const struct foil_chain *rx = &h->c->s->rx;

	if (rx->n_bytes < sizeof(bytes))
		return false;
	if (FOIL_LIKELY(rx->head->data_len >= sizeof(bytes))) {
		h->frame = h2_frame_read(rte_pktmbuf_mtod(rx->head, const uint8_t *));
	} else {
		foil_chain_copy_out(rx, 0, bytes, sizeof(bytes));
		h->frame = h2_frame_read(bytes);
	}
	h2_consume(h, sizeof(bytes));
	h->frame_left_bytes = h->frame.length_bytes;
	h->pad_left_bytes = 0;
	return frame_begin(w, h);
}

/* Evidently no HTTP/2: closed without a word (RFC 9113 3.4), as Envoy does (judge: tls, HTTP/1.1 after ALPN said h2). */
static bool not_http2(struct foil_worker *w, struct h2_conn *h)
{
	const struct http_reset_info info = {.kind = HTTP_RESET_PROTOCOL};

	foil_reason(w, HTTP, H2_BAD_PREFACE);
	foil_chain_clear(&h->out);
	h2_end_all(w, h->c, &info, false);
	return false;
}

static bool preface_step(struct foil_worker *w, struct h2_conn *h)
{
	char bytes[sizeof(h2_preface)];
	uint32_t n = FOIL_MIN((uint32_t)sizeof(bytes), h->c->s->rx.n_bytes);

	foil_chain_copy_out(&h->c->s->rx, 0, bytes, n);
	if (memcmp(bytes, h2_preface, n) != 0)
		return not_http2(w, h);
	if (n < sizeof(bytes))
		return false;
	h2_consume(h, n);
	h->in = H2_IN_FRAME;
	h->settings_at_us = w->now_us + H2_SETTINGS_ACK_US; /* ours go out now */
	h2_timer_by(w, h, h->settings_at_us);
	return true;
}

static bool step(struct foil_worker *w, struct h2_conn *h)
{
	switch ((enum h2_in)h->in) {
	case H2_IN_PREFACE: return preface_step(w, h);
	case H2_IN_FRAME: return frame_step(w, h);
	case H2_IN_CONTROL: return control_step(w, h);
	case H2_IN_PAD: return pad_step(w, h);
	case H2_IN_DATA: return data_step(w, h);
	case H2_IN_SKIP: return skip_step(w, h);
	case H2_IN_BLOCK: return h2_block_step(w, h);
	}
	FOIL_UNREACHABLE();
}

/* The peer will send no more. A client that has left is gone, as for HTTP/1.1; of a server what has come whole is still delivered. */
static void peer_has_ended(struct foil_worker *w, struct h2_conn *h)
{
	struct http_conn *c = h->c;
	struct http_reset_info info = {.kind = HTTP_RESET_REMOTE, .why = STREAM_END_FIN};
	struct h2_link *l = h->streams.next;

	c->must_close = true;
	if (c->is_server) {
		h2_end_all(w, c, &info, false);
		return;
	}
	while (l != &h->streams && !h2_is_over(h)) {
		struct h2_stream *x = FOIL_CONTAINER_OF(l, struct h2_stream, all);
		l = l->next;
		if (x->rx == H2_RX_ENDED || x->rx == H2_RX_DONE)
			continue;
		info.reason = x->rx == H2_RX_BODY ? HTTP_REASON_TRUNCATED : HTTP_REASON_OK;
		h2_stream_lost(w, h, x, &info, H2_CLOSED_BY_PEER);
		l = h->streams.next; /* others may have gone with it */
	}
}

void h2_run(struct foil_worker *w, struct http_conn *c)
{
	struct h2_conn *h = c->h2;

	while (!h2_is_over(h) && step(w, h))
		;
	if (h->owes_consumed && c->s) {
		h->owes_consumed = false;
		stream_consumed(w, c->s);
	}
	h2_tell_all(w, h);
	if (!h2_is_over(h) && c->s->rx_eof)
		peer_has_ended(w, h);
	if (!h2_is_over(h) && h->block_since_us && c->limits->head_timeout_us)
		h2_timer_by(w, h, h->block_since_us + c->limits->head_timeout_us);
	c->wants_flush = true;
}
