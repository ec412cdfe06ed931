/* See h1_side.h. */
#include "tests/unit/http/h1_side.h"

#include "tests/unit/support.h"

static void say(struct h1_side *side, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct h1_side *side, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(&side->text[side->n_text], sizeof(side->text) - side->n_text, fmt, ap);
	va_end(ap);
	if (n > 0)
		side->n_text = (uint32_t)FOIL_MIN(side->n_text + (uint32_t)n, sizeof(side->text) - 1);
}

static void add_to_line(struct h1_side *side, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_to_line(struct h1_side *side, const char *fmt, ...)
{
	size_t at = strlen(side->line);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(&side->line[at], sizeof(side->line) - at, fmt, ap);
	va_end(ap);
}

static void add_headers(struct h1_side *side, const struct http_headers *h)
{
	for (uint16_t i = 0; i < h->n; i++) {
		const struct http_header *f = &h->list[i];
		if (f->is_removed)
			continue;
		assert_int_equal(f->id, http_header_intern(f->name));
		add_to_line(side, " %.*s=%.*s", (int)f->name.n_bytes, f->name.data, (int)f->value.n_bytes, f->value.data);
	}
}

static void message_ended(struct h1_side *side)
{
	for (uint32_t i = 0; i < side->n_body; i++)
		side->body_sum = (side->body_sum ^ (uint8_t)side->body[i]) * 0x100000001b3ull;
	say(side, "%s|%u:", side->line, side->n_body);
	uint32_t n = FOIL_MIN(FOIL_MIN(side->n_body, 4096u), (uint32_t)sizeof(side->text) - 1 - side->n_text);
	memcpy(&side->text[side->n_text], side->body, n); /* whatever bytes it has */
	side->n_text += n;
	say(side, "\n");
	side->n_body = 0;
}

static void reply_ok(struct foil_worker *w, struct http_stream *hs)
{
	if (side_send_status(w, hs, 200, HTTP_BODY_LENGTH, 2, false) == 0)
		side_send_text(w, hs, "ok", true);
}

static void switch_protocols(struct foil_worker *w, struct http_stream *hs, const struct http_head *asked)
{
	struct http_header token = *http_header_get(&asked->headers, HTTP_HDR_UPGRADE);
	const struct http_head head = {.status = 101, .is_upgrade = true, .headers = {.list = &token, .n = 1, .cap = 1}};

	if (http_send_head(w, hs, &head, false) == 0)
		return;
	((struct h1_side *)hs->user_data)->hs = NULL;
	http_stream_reset(w, hs);
}

static void on_head(struct foil_worker *w, struct http_stream *hs, struct http_head *head, bool end)
{
	struct h1_side *side = hs->user_data;

	side->n_heads++;
	side->head = *head;
	side->line[0] = 0;
	side->n_body = 0;
	if (head->status)
		add_to_line(side, "%u", head->status);
	else
		add_to_line(side, "%.*s %.*s host=%.*s", (int)head->method_text.n_bytes, head->method_text.data, (int)head->path.n_bytes,
			    head->path.data, (int)head->authority.n_bytes, head->authority.data);
	add_headers(side, &head->headers);
	if (side->head_hook)
		side->head_hook(w, side, head);
	if (end)
		message_ended(side);
	if (side->closes_in_head) {
		http_conn_close(w, side->c);
		return;
	}
	if (side->resets_in_head) {
		side->hs = NULL;
		http_stream_reset(w, hs);
		return;
	}
	if (side->pauses_at_head)
		http_stream_pause(w, hs, true);
	if (!head->status && head->is_upgrade && side->takes_upgrades) {
		switch_protocols(w, hs, head);
		return;
	}
	if (side->reply == SIDE_REPLY_AT_HEAD || (end && side->reply == SIDE_REPLY_AT_END))
		reply_ok(w, hs);
}

static void on_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	struct h1_side *side = hs->user_data;
	uint32_t n = FOIL_MIN(own_data->n_bytes, SIDE_BODY_BYTES_MAX - side->n_body);

	side->n_data_calls++;
	assert_true(own_data->n_bytes || end);
	foil_chain_copy_out(own_data, 0, &side->body[side->n_body], n);
	side->n_body += n;
	foil_chain_clear(own_data);
	if (end)
		message_ended(side);
	if (side->closes_in_data)
		http_conn_close(w, side->c);
	else if (end && side->reply == SIDE_REPLY_AT_END)
		reply_ok(w, hs);
}

static void on_trailers(struct foil_worker *w, struct http_stream *hs, struct http_headers *trailers)
{
	struct h1_side *side = hs->user_data;

	add_to_line(side, "|t:");
	add_headers(side, trailers);
	message_ended(side);
	if (side->reply == SIDE_REPLY_AT_END)
		reply_ok(w, hs);
}

static void on_informational(struct foil_worker *w, struct http_stream *hs, struct http_head *head)
{
	struct h1_side *side = hs->user_data;

	side->line[0] = 0;
	add_headers(side, &head->headers);
	say(side, "info %u%s\n", head->status, side->line);
}

static void on_writable(struct foil_worker *w, struct http_stream *hs)
{
	((struct h1_side *)hs->user_data)->n_writable++;
}

static void on_complete(struct foil_worker *w, struct http_stream *hs)
{
	struct h1_side *side = hs->user_data;

	assert_ptr_equal(side->hs, hs);
	side->hs = NULL;
	side->n_complete++;
	say(side, "complete\n");
}

static const char *const reset_names[] = {"none", "remote", "stream", "protocol", "refused", "local", "connect_failure", "connect_timeout"};
static const char *const end_names[] = {"none", "fin", "reset", "refused", "unreachable", "connect_timeout", "timeout", "local", "tls"};

static void on_reset(struct foil_worker *w, struct http_stream *hs, const struct http_reset_info *info)
{
	struct h1_side *side = hs->user_data;

	assert_ptr_equal(side->hs, hs);
	side->hs = NULL;
	side->n_reset++;
	side->last_reset = *info;
	say(side, "reset %s %s\n", reset_names[info->kind], http_room_desc.reasons[info->reason].name);
}

const struct http_stream_events side_stream_events = {
	.head = on_head, .data = on_data, .trailers = on_trailers, .informational = on_informational, .writable = on_writable,
	.complete = on_complete, .reset = on_reset,
};
const struct http_stream_events side_stream_events_plain = {
	.head = on_head, .data = on_data, .complete = on_complete, .reset = on_reset,
};

static const struct http_stream_events *on_stream_new(struct foil_worker *w, struct http_conn *c, struct http_stream *hs)
{
	struct h1_side *side = http_conn_data(c);

	assert_null(side->hs);
	side->hs = hs;
	hs->user_data = side;
	return side->takes_trailers ? &side_stream_events : &side_stream_events_plain;
}

static void on_bad_request(struct foil_worker *w, struct http_stream *hs, struct http_head *head, uint16_t status, enum http_reason reason)
{
	struct h1_side *side = hs->user_data;

	side->n_bad++;
	side->head = *head;
	say(side, "bad %u %s\n", status, http_room_desc.reasons[reason].name);
	if (side->reply != SIDE_REPLY_NONE)
		(void)side_send_status(w, hs, status, HTTP_BODY_NONE, 0, true); /* what it sends is looked at */
}

static void on_server_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why)
{
	struct h1_side *side = http_conn_data(c);

	assert_null(side->hs);
	side->n_closed++;
	side->closed_why = why;
	side->c = NULL;
	say(side, "closed %s\n", end_names[why]);
}

static void on_ready(struct foil_worker *w, struct http_conn *c)
{
	struct h1_side *side = http_conn_data(c);

	assert_true(http_conn_is_idle(c));
	side->n_ready++;
	say(side, "ready\n");
}

static void on_client_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why, bool never_opened)
{
	struct h1_side *side = http_conn_data(c);

	side->never_opened = never_opened;
	on_server_closed(w, c, why);
}

static const struct http_server_events server_events = {
	.stream_new = on_stream_new, .bad_request = on_bad_request, .closed = on_server_closed,
};
static const struct http_client_events client_events = {.ready = on_ready, .closed = on_client_closed};

static void side_reset(struct h1_side *side, bool is_open)
{
	bool takes_trailers = side->takes_trailers;
	enum side_reply reply = side->reply;

	side->hs = NULL;
	side->n_text = 0;
	side->text[0] = 0;
	side->line[0] = 0;
	side->n_body = 0;
	side->n_heads = side->n_bad = side->n_complete = side->n_reset = side->n_closed = side->n_ready = side->n_writable = 0;
	side->n_data_calls = 0;
	side->body_sum = 0;
	side->takes_trailers = takes_trailers;
	side->reply = reply;
	fake_init(&side->f, is_open);
}

void side_server(struct foil_worker *w, struct h1_side *side, const struct http_limits *limits)
{
	side_reset(side, true);
	if (side->prefill)
		t_chain(w, &side->f.s.rx, side->prefill, (uint32_t)strlen(side->prefill), 0);
	assert_int_equal(http_server_open(w, &side->f.s, &server_events, limits, side, &side->c), 0);
}

void side_client(struct foil_worker *w, struct h1_side *side, const struct http_limits *limits, bool is_open)
{
	side_reset(side, is_open);
	assert_int_equal(http_client_open(w, &side->f.s, &client_events, limits, side, &side->c), 0);
}

void side_fini(struct foil_worker *w, struct h1_side *side)
{
	if (side->c)
		http_conn_close(w, side->c);
	assert_int_equal(side->n_closed, 1);
	assert_null(side->c);
	assert_null(side->hs);
	assert_int_equal(t_counter(w, HTTP, EXCHANGES), 0);
	assert_int_equal(t_counter(w, HTTP, SERVER_CONNS) + t_counter(w, HTTP, CLIENT_CONNS), 0);
	foil_arena_reset(w, &side->arena);
	fake_fini(&side->f);
}

void side_feed(struct foil_worker *w, struct h1_side *side, const char *text)
{
	fake_feed(w, &side->f, text, (uint32_t)strlen(text), 0, false);
}

const char *side_tx(struct h1_side *side)
{
	uint32_t n = fake_take_tx(&side->f, side->tx, sizeof(side->tx) - 1);

	side->tx[n] = 0;
	return side->tx;
}

const char *side_text(struct h1_side *side)
{
	side->text[side->n_text] = 0;
	side->n_text = 0;
	return side->text;
}

void side_request(struct foil_worker *w, struct h1_side *side, const char *method, const char *path)
{
	struct http_head head = {.method_text = foil_slice_str(method), .path = foil_slice_str(path), .authority = FOIL_SLICE("a.example")};

	head.method = http_method_of(head.method_text);
	side->hs = http_client_start(w, side->c, &side->arena, side->takes_trailers ? &side_stream_events : &side_stream_events_plain, side);
	assert_non_null(side->hs);
	assert_int_equal(http_send_head(w, side->hs, &head, true), 0);
}

void side_send_text(struct foil_worker *w, struct http_stream *hs, const char *text, bool end)
{
	struct foil_chain chain = {0};

	if (foil_chain_append(w, &chain, text, (uint32_t)strlen(text)) != 0) { /* a test may have emptied the pool */
		((struct h1_side *)hs->user_data)->hs = NULL;
		http_stream_reset(w, hs);
		return;
	}
	http_send_data(w, hs, &chain, end);
}

int side_send_status(struct foil_worker *w, struct http_stream *hs, uint16_t status, enum http_body_kind body, uint64_t length, bool end)
{
	struct http_header x = {FOIL_SLICE("x-a"), FOIL_SLICE("1"), HTTP_HDR_OTHER, false};
	struct http_head head = {.status = status, .body = body, .content_length = length, .headers = {.list = &x, .n = 1, .cap = 1}};

	return http_send_head(w, hs, &head, end);
}
