/* See strangers.h. A session of libnghttp2, whose checks of messages (RFC 9113 8) are on. */
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/strangers.h"

struct stranger_h2 {
	nghttp2_session *session;
	struct heard *h;
	bool is_server, is_broken;
	int32_t ids[MESSAGES_MAX]; /* of message i */
};

/* The latest message of a stream. */
static struct message *find(struct stranger_h2 *s, int32_t id)
{
	for (unsigned int i = s->h->n; i-- > 0;)
		if (s->ids[i] == id)
			return &s->h->list[i];
	return NULL;
}

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
	struct stranger_h2 *s = data;
	struct message *m = find(s, frame->hd.stream_id);

	(void)session;
	if (frame->hd.type != NGHTTP2_HEADERS || (m && !(m->status >= 100 && m->status < 200)))
		return 0; /* trailers */
	if (s->h->n == MESSAGES_MAX)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	s->ids[s->h->n++] = frame->hd.stream_id;
	return 0;
}

static bool is(const uint8_t *at, size_t n, const char *what)
{
	return n == strlen(what) && memcmp(at, what, n) == 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t n_name, const uint8_t *value, size_t n_value,
		     uint8_t flags, void *data)
{
	struct stranger_h2 *s = data;
	struct message *m = find(s, frame->hd.stream_id);

	(void)session;
	(void)flags;
	if (!m)
		return 0;
	if (m->has_head) { /* its head is through: trailers */
		text_field(&m->trailers, name, n_name, value, n_value);
	} else if (is(name, n_name, ":authority")) {
		m->n_hosts++;
		text_add(&m->authority, value, n_value);
	} else if (n_name && name[0] == ':') {
		text_field(&m->start, name, n_name, value, n_value);
		if (is(name, n_name, ":status"))
			m->status = (unsigned int)strtoul((const char *)value, NULL, 10);
	} else if (is(name, n_name, "content-length")) {
		m->n_lengths++;
		m->length = strtoull((const char *)value, NULL, 10);
	} else {
		text_field(&m->fields, name, n_name, value, n_value);
	}
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
	struct stranger_h2 *s = data;
	struct message *m = find(s, frame->hd.stream_id);

	(void)session;
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code)
		heard_fault(s->h, "we said GOAWAY %u", frame->goaway.error_code);
	if (!m || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS)
		m->has_head = true;
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || (m->status >= 100 && m->status < 200))
		m->is_whole = true;
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *at, size_t n, void *data)
{
	struct message *m = find(data, id);

	(void)session;
	(void)flags;
	if (m)
		text_add(&m->body, at, n);
	return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *data)
{
	struct message *m = find(data, id);

	(void)session;
	if (m && code)
		m->is_reset = true;
	return 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
	struct stranger_h2 *s = data;

	(void)session;
	if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_STREAM_CLOSED)
		heard_fault(s->h, "it resets stream %d: %s", frame->hd.stream_id, nghttp2_http2_strerror(frame->rst_stream.error_code));
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code)
		heard_fault(s->h, "it says GOAWAY: %s", nghttp2_http2_strerror(frame->goaway.error_code));
	return 0;
}

static int on_bad_frame(nghttp2_session *session, const nghttp2_frame *frame, int code, void *data)
{
	(void)session;
	heard_fault(((struct stranger_h2 *)data)->h, "a frame of type %u: %s", frame->hd.type, nghttp2_strerror(code));
	return 0;
}

static int on_bad_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t n_name, const uint8_t *value, size_t n_value,
			 uint8_t flags, void *data)
{
	(void)session;
	(void)frame;
	(void)flags;
	heard_fault(((struct stranger_h2 *)data)->h, "the field %.*s: %.*s", (int)n_name, (const char *)name, (int)n_value, (const char *)value);
	return 0;
}

static int on_error(nghttp2_session *session, int code, const char *text, size_t n, void *data)
{
	(void)session;
	(void)code;
	heard_fault(((struct stranger_h2 *)data)->h, "%.*s", (int)n, text);
	return 0;
}

struct stranger_h2 *stranger_h2_new(struct heard *h, bool is_server)
{
	const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1}, {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 100}};
	struct stranger_h2 *s = calloc(1, sizeof(*s));
	nghttp2_session_callbacks *cb = NULL;

	if (!s || nghttp2_session_callbacks_new(&cb) != 0)
		abort();
	s->h = h;
	s->is_server = is_server;
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_sent);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_bad_frame);
	nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_bad_header);
	nghttp2_session_callbacks_set_error_callback2(cb, on_error);
	if ((is_server ? nghttp2_session_server_new(&s->session, cb, s) : nghttp2_session_client_new(&s->session, cb, s)) != 0)
		abort();
	nghttp2_session_callbacks_del(cb);
	if (nghttp2_submit_settings(s->session, NGHTTP2_FLAG_NONE, settings, is_server ? 2 : 0) != 0)
		abort();
	return s;
}

void stranger_h2_free(struct stranger_h2 *s)
{
	if (!s)
		return;
	nghttp2_session_del(s->session);
	free(s);
}

void stranger_h2_take(struct stranger_h2 *s, const void *data, size_t n)
{
	ssize_t used = s->is_broken ? (ssize_t)n : nghttp2_session_mem_recv(s->session, data, n);

	if (used == (ssize_t)n)
		return;
	s->is_broken = true;
	heard_fault(s->h, "the session: %s", used < 0 ? nghttp2_strerror((int)used) : "bytes left over");
}

size_t stranger_h2_give(struct stranger_h2 *s, const uint8_t **data)
{
	ssize_t n = s->is_broken ? 0 : nghttp2_session_mem_send(s->session, data);

	return n > 0 ? (size_t)n : 0;
}

#define NV(name, value) {(uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE}

void stranger_h2_ask(struct stranger_h2 *s, const char *method, bool asks_websocket)
{
	const nghttp2_nv nv[] = {
		NV(":method", asks_websocket ? "CONNECT" : method), NV(":scheme", "http"), NV(":path", "/"), NV(":authority", "a.example"),
		NV(":protocol", "websocket"),
	};
	int32_t id;

	if (asks_websocket)
		id = nghttp2_submit_headers(s->session, NGHTTP2_FLAG_NONE, -1, NULL, nv, 5, NULL);
	else
		id = nghttp2_submit_request(s->session, NULL, nv, 4, NULL, NULL);
	if (id < 0)
		abort();
}

void stranger_h2_answer(struct stranger_h2 *s, unsigned int i, const char *status, bool end)
{
	const nghttp2_nv nv[] = {NV(":status", status)};

	if (s->is_broken || i >= s->h->n)
		return;
	(void)nghttp2_submit_headers(s->session, end ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE, s->ids[i], NULL, nv, 1, NULL); /* it may be gone */
}
