/* See h2_side.h. */
#include "tests/unit/http/h2_side.h"

#include <stdarg.h>
#include <stdio.h>

#include "tests/unit/support.h"

/* ---- frames of the peer's ---- */
void hb_raw(struct h2_bytes *b, const void *data, uint32_t n_bytes)
{
	assert_true(n_bytes <= sizeof(b->at) - b->n);
	if (n_bytes)
		memcpy(&b->at[b->n], data, n_bytes);
	b->n += n_bytes;
}

void hb_frame(struct h2_bytes *b, uint8_t type, uint8_t flags, uint32_t id, const void *payload, uint32_t n_bytes)
{
	const struct h2_frame f = {.length_bytes = n_bytes, .type = type, .flags = flags, .stream_id = id};
	uint8_t header[H2_FRAME_HEADER_BYTES];

	h2_frame_write(header, &f);
	hb_raw(b, header, sizeof(header));
	hb_raw(b, payload, n_bytes);
}

static void put_field(struct hpack_out *o, const char *name, const char *value)
{
	struct foil_slice n = foil_slice_str(name);

	hpack_put(o, (uint16_t)(name[0] == ':' ? HTTP_HDR_OTHER : http_header_intern(n)), n, foil_slice_str(value));
}

void hb_headers(struct h2_bytes *b, uint8_t flags, uint32_t id, ...)
{
	uint8_t block[16384];
	struct hpack_out o = {.at = block, .end = block + sizeof(block)};
	const char *name;
	va_list ap;

	va_start(ap, id);
	while ((name = va_arg(ap, const char *)) != NULL)
		put_field(&o, name, va_arg(ap, const char *));
	va_end(ap);
	assert_false(o.is_full);
	uint8_t f = (uint8_t)(flags & H2_NO_END_HEADERS ? flags & ~H2_NO_END_HEADERS : flags | H2_END_HEADERS);
	hb_frame(b, H2_HEADERS, f, id, block, (uint32_t)(o.at - block));
}

void hb_get(struct h2_bytes *b, uint8_t flags, uint32_t id, const char *path)
{
	hb_headers(b, flags, id, ":method", "GET", ":scheme", "http", ":path", path, ":authority", "a.example", NULL);
}

void hb_post(struct h2_bytes *b, uint32_t id, const char *path, const char *body)
{
	hb_headers(b, 0, id, ":method", "POST", ":scheme", "http", ":path", path, ":authority", "a.example", NULL);
	hb_data(b, H2_END_STREAM, id, body);
}

void hb_data(struct h2_bytes *b, uint8_t flags, uint32_t id, const char *text)
{
	hb_frame(b, H2_DATA, flags, id, text, (uint32_t)strlen(text));
}

static void be32(uint8_t p[4], uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

void hb_u32(struct h2_bytes *b, uint8_t type, uint32_t id, uint32_t value)
{
	uint8_t p[4];

	be32(p, value);
	hb_frame(b, type, 0, id, p, sizeof(p));
}

void hb_setting(struct h2_bytes *b, uint16_t id, uint32_t value)
{
	uint8_t p[6] = {(uint8_t)(id >> 8), (uint8_t)id};

	be32(&p[2], value);
	hb_frame(b, H2_SETTINGS, 0, 0, p, sizeof(p));
}

void hb_hello(struct h2_bytes *b, bool from_client)
{
	if (from_client)
		hb_raw(b, h2_preface, sizeof(h2_preface));
	hb_frame(b, H2_SETTINGS, 0, 0, NULL, 0);
}

/* ---- the user ---- */
static void add(struct h2_rec *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct h2_rec *r, const char *fmt, ...)
{
	size_t at = strlen(r->text);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(&r->text[at], sizeof(r->text) - at, fmt, ap);
	va_end(ap);
}

static void add_headers(struct h2_rec *r, const struct http_headers *h)
{
	for (uint16_t i = 0; i < h->n; i++) {
		const struct http_header *f = &h->list[i];
		if (f->is_removed)
			continue;
		assert_int_equal(f->id, http_header_intern(f->name));
		add(r, " %.*s=%.*s", (int)f->name.n_bytes, f->name.data, (int)f->value.n_bytes, f->value.data);
	}
}

static void body_ended(struct h2_rec *r)
{
	assert_false(r->ended);
	r->ended = true;
	add(r, "|%u:%.*s", r->n_body, (int)FOIL_MIN(r->n_body, (uint32_t)sizeof(r->body_head)), r->body_head);
}

int h2side_reply(struct foil_worker *w, struct http_stream *hs, uint16_t status, enum http_body_kind body, uint64_t length, bool end)
{
	struct http_header h = {FOIL_SLICE("x-a"), FOIL_SLICE("1"), HTTP_HDR_OTHER, false};
	const struct http_head head = {.status = status, .version = HTTP_VERSION_2, .body = body, .content_length = length,
				       .headers = {.list = &h, .n = 1, .cap = 1}};

	return http_send_head(w, hs, &head, end);
}

void h2side_send(struct foil_worker *w, struct http_stream *hs, uint32_t n_bytes, bool end)
{
	static const char block[2000] = {'b'};
	struct foil_chain data = {0};

	for (uint32_t at = 0; at < n_bytes; at += sizeof(block))
		t_chain(w, &data, block, FOIL_MIN(n_bytes - at, (uint32_t)sizeof(block)), 0);
	http_send_data(w, hs, &data, end);
}

static void reply_ok(struct foil_worker *w, struct http_stream *hs)
{
	struct foil_chain ok = {0};

	if (h2side_reply(w, hs, 200, HTTP_BODY_LENGTH, 2, false) != 0)
		return;
	if (foil_chain_append(w, &ok, "ok", 2) == 0) {
		http_send_data(w, hs, &ok, true);
		return;
	}
	((struct h2_rec *)hs->user_data)->hs = NULL;
	http_stream_reset(w, hs);
}

static void switch_protocols(struct foil_worker *w, struct http_stream *hs, const struct http_head *asked)
{
	struct http_header token = *http_header_get(&asked->headers, HTTP_HDR_UPGRADE);
	const struct http_head head = {.status = 101, .is_upgrade = true, .headers = {.list = &token, .n = 1, .cap = 1}};

	if (http_send_head(w, hs, &head, false) == 0)
		return;
	((struct h2_rec *)hs->user_data)->hs = NULL;
	http_stream_reset(w, hs);
}

static void on_head(struct foil_worker *w, struct http_stream *hs, struct http_head *head, bool end)
{
	struct h2_rec *r = hs->user_data;
	struct h2_side *side = r->side;

	side->n_heads++;
	side->head = *head;
	if (head->status)
		add(r, "%u", head->status);
	else
		add(r, "%.*s %.*s host=%.*s", (int)head->method_text.n_bytes, head->method_text.data, (int)head->path.n_bytes, head->path.data,
		    (int)head->authority.n_bytes, head->authority.data);
	add_headers(r, &head->headers);
	if (end)
		body_ended(r);
	if (side->closes_in_head) {
		http_conn_close(w, side->c);
		return;
	}
	if (side->resets_in_head) {
		r->hs = NULL;
		http_stream_reset(w, hs);
		return;
	}
	if (side->pauses_at_head)
		http_stream_pause(w, hs, true);
	if (!head->status && head->is_upgrade && side->takes_upgrades) {
		switch_protocols(w, hs, head);
		return;
	}
	if (side->reply == H2_REPLY_AT_HEAD || (end && side->reply == H2_REPLY_AT_END))
		reply_ok(w, hs);
}

static void on_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	struct h2_rec *r = hs->user_data;

	r->side->n_data_calls++;
	assert_true(own_data->n_bytes || end);
	for (uint32_t at = 0; at < own_data->n_bytes;) {
		uint8_t some[512];
		uint32_t n = FOIL_MIN(own_data->n_bytes - at, (uint32_t)sizeof(some));
		foil_chain_copy_out(own_data, at, some, n);
		for (uint32_t i = 0; i < n; i++, r->n_body++) {
			r->body_sum = (r->body_sum ^ some[i]) * 0x100000001b3ull;
			if (r->n_body < sizeof(r->body_head))
				r->body_head[r->n_body] = (char)some[i];
		}
		at += n;
	}
	foil_chain_clear(own_data);
	if (end)
		body_ended(r);
	if (r->side->resets_in_data) {
		r->hs = NULL;
		http_stream_reset(w, hs);
		return;
	}
	if (end && r->side->reply == H2_REPLY_AT_END)
		reply_ok(w, hs);
}

static void on_trailers(struct foil_worker *w, struct http_stream *hs, struct http_headers *trailers)
{
	struct h2_rec *r = hs->user_data;

	body_ended(r);
	add(r, "|t:");
	add_headers(r, trailers);
	if (r->side->reply == H2_REPLY_AT_END)
		reply_ok(w, hs);
}

static void on_informational(struct foil_worker *w, struct http_stream *hs, struct http_head *head)
{
	struct h2_rec *r = hs->user_data;

	add(r, "(%u", head->status);
	add_headers(r, &head->headers);
	add(r, ")");
}

static void on_writable(struct foil_worker *w, struct http_stream *hs)
{
	struct h2_rec *r = hs->user_data;

	r->side->n_writable++;
}

static void on_complete(struct foil_worker *w, struct http_stream *hs)
{
	struct h2_rec *r = hs->user_data;

	assert_false(r->is_complete || r->is_reset);
	r->is_complete = true;
	r->hs = NULL;
	r->side->n_complete++;
	add(r, " complete");
}

static void on_reset(struct foil_worker *w, struct http_stream *hs, const struct http_reset_info *info)
{
	static const char *const kinds[] = {"none", "remote", "stream", "protocol", "refused", "local", "connect-failure", "connect-timeout"};
	struct h2_rec *r = hs->user_data;

	assert_false(r->is_complete || r->is_reset);
	r->is_reset = true;
	r->hs = NULL;
	r->info = *info;
	r->side->n_reset++;
	add(r, " reset %s%s%s", kinds[info->kind], info->reason ? " " : "", info->reason ? http_room_desc.reasons[info->reason].name : "");
}

static const struct http_stream_events stream_events = {
	.head = on_head, .data = on_data, .trailers = on_trailers, .informational = on_informational, .writable = on_writable,
	.complete = on_complete, .reset = on_reset,
};
static const struct http_stream_events stream_events_plain = {
	.head = on_head, .data = on_data, .writable = on_writable, .complete = on_complete, .reset = on_reset,
};

static struct h2_rec *rec_new(struct h2_side *side, struct http_stream *hs)
{
	assert_true(side->n_rec < H2_SIDE_STREAMS);
	struct h2_rec *r = &side->rec[side->n_rec++];

	memset(r, 0, sizeof(*r));
	r->side = side;
	r->hs = hs;
	return r;
}

static const struct http_stream_events *stream_new(struct foil_worker *w, struct http_conn *c, struct http_stream *hs)
{
	struct h2_side *side = http_conn_data(c);

	hs->user_data = rec_new(side, hs);
	return side->drops_trailers ? &stream_events_plain : &stream_events;
}

static void bad_request(struct foil_worker *w, struct http_stream *hs, struct http_head *head, uint16_t status, enum http_reason reason)
{
	struct h2_rec *r = hs->user_data;

	r->side->n_bad++;
	add(r, "bad %u %s", status, http_room_desc.reasons[reason].name);
	if (h2side_reply(w, hs, status, HTTP_BODY_NONE, 0, true) != 0)
		http_stream_reset(w, hs);
}

static void server_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why)
{
	struct h2_side *side = http_conn_data(c);

	side->n_closed++;
	side->closed_why = why;
	side->c = NULL;
}

static void client_ready(struct foil_worker *w, struct http_conn *c)
{
	struct h2_side *side = http_conn_data(c);

	side->n_ready++;
	assert_true(http_conn_capacity(c) > 0);
}

static void client_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why, bool never_opened)
{
	struct h2_side *side = http_conn_data(c);

	server_closed(w, c, why);
	side->never_opened = never_opened;
}

static const struct http_server_events server_events = {.stream_new = stream_new, .bad_request = bad_request, .closed = server_closed};
static const struct http_client_events client_events = {.ready = client_ready, .closed = client_closed};

static void begin(struct h2_side *side, bool is_open)
{
	fake_init(&side->f, is_open);
	side->n_rec = side->n_heads = side->n_bad = side->n_complete = side->n_reset = side->n_closed = side->n_ready = side->n_writable = 0;
	side->n_data_calls = 0;
	side->n_data_sent = 0;
	side->never_opened = false;
	hpack_decoder_init(&side->hpack);
}

void h2side_server(struct foil_worker *w, struct h2_side *side, enum http_protocol protocol, const struct http_limits *limits)
{
	begin(side, true);
	assert_int_equal(http_server_open_as(w, &side->f.s, protocol, &server_events, limits, side, &side->c), 0);
}

void h2side_client(struct foil_worker *w, struct h2_side *side, const struct http_limits *limits, bool is_open)
{
	begin(side, is_open);
	assert_int_equal(http_client_open_as(w, &side->f.s, HTTP_PROTOCOL_H2, &client_events, limits, side, &side->c), 0);
}

void h2side_fini(struct foil_worker *w, struct h2_side *side)
{
	if (side->c)
		http_conn_close(w, side->c);
	assert_null(side->c);
	assert_int_equal(side->n_closed, 1);
	foil_chain_clear(&side->unread);
	foil_arena_reset(w, &side->arena);
	foil_arena_reset(w, &side->peer_arena);
	fake_fini(&side->f);
}

void h2side_feed(struct foil_worker *w, struct h2_side *side, struct h2_bytes *b, uint16_t seg_bytes, bool each_alone)
{
	fake_feed(w, &side->f, b->at, b->n, seg_bytes, each_alone);
	b->n = 0;
}

int h2side_upgrade(struct foil_worker *w, struct h2_side *side, struct h2_rec **out)
{
	struct http_header token = {FOIL_SLICE("upgrade"), FOIL_SLICE("websocket"), HTTP_HDR_UPGRADE, false};
	const struct http_head head = {.method_text = FOIL_SLICE("GET"), .method = HTTP_METHOD_GET, .path = FOIL_SLICE("/chat"), .scheme = FOIL_SLICE("http"),
				       .authority = FOIL_SLICE("a.example"), .is_upgrade = true, .headers = {.list = &token, .n = 1, .cap = 1},
				       .body = HTTP_BODY_LENGTH /* of 0, as some clients say: not over HTTP/2 */};

	*out = rec_new(side, NULL);
	(*out)->hs = http_client_start(w, side->c, &side->arena, &stream_events, *out);
	assert_non_null((*out)->hs);
	return http_send_head(w, (*out)->hs, &head, false);
}

struct h2_rec *h2side_request(struct foil_worker *w, struct h2_side *side, const char *method, const char *path, bool end)
{
	struct h2_rec *r = rec_new(side, NULL);
	const struct http_head head = {
		.method_text = foil_slice_str(method), .method = http_method_of(foil_slice_str(method)), .path = foil_slice_str(path),
		.scheme = FOIL_SLICE("http"), .authority = FOIL_SLICE("a.example"), .version = HTTP_VERSION_11,
		.body = end ? HTTP_BODY_NONE : HTTP_BODY_CHUNKED,
	};

	r->hs = http_client_start(w, side->c, &side->arena, &stream_events, r);
	if (!r->hs) {
		side->n_rec--;
		return NULL;
	}
	assert_int_equal(http_send_head(w, r->hs, &head, end), 0);
	return r;
}

/* ---- what was sent ---- */
struct lines {
	char *at;
	size_t cap, n;
};

static void say(struct lines *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct lines *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(&l->at[l->n], l->cap - l->n, fmt, ap);
	va_end(ap);
	l->n = FOIL_MIN(l->n + (size_t)FOIL_MAX(n, 0), l->cap - 1);
}

static uint32_t u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void say_fields(struct foil_worker *w, struct h2_side *side, struct lines *l, const uint8_t *p, uint32_t n)
{
	const struct hpack_limits limits = {.list_bytes_max = 1u << 20, .fields_max = 1000};
	struct http_headers list = {0};

	assert_int_equal(hpack_decode(w, &side->hpack, foil_slice_of(p, n), &limits, &side->peer_arena, &list), HPACK_OK);
	for (uint16_t i = 0; i < list.n; i++)
		say(l, " %.*s=%.*s", (int)list.list[i].name.n_bytes, list.list[i].name.data, (int)FOIL_MIN(list.list[i].value.n_bytes, 40u),
		    list.list[i].value.data);
}

static void say_frame(struct foil_worker *w, struct h2_side *side, struct lines *l, const struct h2_frame *f, const uint8_t *p)
{
	switch (f->type) {
	case H2_DATA:
		side->n_data_sent += f->length_bytes;
		say(l, "DATA %u%s %u:%.*s", f->stream_id, f->flags & H2_END_STREAM ? " end" : "", f->length_bytes, (int)FOIL_MIN(f->length_bytes, 8u), p);
		break;
	case H2_HEADERS:
		say(l, "HEADERS %u%s%s", f->stream_id, f->flags & H2_END_STREAM ? " end" : "", f->flags & H2_END_HEADERS ? "" : " more");
		if (f->flags & H2_END_HEADERS)
			say_fields(w, side, l, p, f->length_bytes);
		break;
	case H2_CONTINUATION:
		say(l, "CONTINUATION %u%s", f->stream_id, f->flags & H2_END_HEADERS ? "" : " more");
		break;
	case H2_RST_STREAM: say(l, "RST_STREAM %u code=%u", f->stream_id, u32(p)); break;
	case H2_SETTINGS: say(l, "SETTINGS%s %u", f->flags & H2_ACK ? " ack" : "", f->length_bytes / 6); break;
	case H2_PING: say(l, "PING%s", f->flags & H2_ACK ? " ack" : ""); break;
	case H2_GOAWAY: say(l, "GOAWAY last=%u code=%u", u32(p), u32(p + 4)); break;
	case H2_WINDOW_UPDATE: say(l, "WINDOW_UPDATE %u +%u", f->stream_id, u32(p)); break;
	default: fail_msg("a frame of type %u was sent", f->type);
	}
	say(l, "\n");
}

const char *h2side_sent(struct foil_worker *w, struct h2_side *side)
{
	static uint8_t payload[1u << 14];
	struct lines l = {side->sent, sizeof(side->sent), 0};

	side->sent[0] = 0;
	foil_chain_move(&side->unread, &side->f.tx);
	if (side->unread.n_bytes >= sizeof(h2_preface)) {
		char start[sizeof(h2_preface)];
		foil_chain_copy_out(&side->unread, 0, start, sizeof(start));
		if (memcmp(start, h2_preface, sizeof(start)) == 0) {
			say(&l, "PREFACE\n");
			foil_chain_consume(&side->unread, sizeof(start));
		}
	}
	while (side->unread.n_bytes >= H2_FRAME_HEADER_BYTES) {
		uint8_t header[H2_FRAME_HEADER_BYTES];
		foil_chain_copy_out(&side->unread, 0, header, sizeof(header));
		struct h2_frame f = h2_frame_read(header);
		assert_true(f.length_bytes <= sizeof(payload));
		if (side->unread.n_bytes < sizeof(header) + f.length_bytes)
			break;
		foil_chain_consume(&side->unread, sizeof(header));
		foil_chain_copy_out(&side->unread, 0, payload, f.length_bytes);
		foil_chain_consume(&side->unread, f.length_bytes);
		say_frame(w, side, &l, &f, payload);
	}
	return side->sent;
}

const char *h2side_told(struct h2_side *side)
{
	struct lines l = {side->told, sizeof(side->told), 0};

	side->told[0] = 0;
	for (uint32_t i = 0; i < side->n_rec; i++)
		say(&l, "%s\n", side->rec[i].text);
	return side->told;
}
