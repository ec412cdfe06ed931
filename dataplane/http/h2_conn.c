/* A connection of HTTP/2 from its settings to its end: beginning, failing, draining, time.
 * A server drains in two steps (RFC 9113 6.8, GR-11): GOAWAY with the highest id and a PING; when that is answered, and so all that was under way
 * has come, or after a set time where one is set, GOAWAY with the last id that was taken; then the connection closes after its last stream. */
#include "dataplane/http/h2_priv.h"

const uint8_t h2_drain_ping[8] = {'f', 'o', 'i', 'l', 'd', 'r', 'n', '1'}, h2_alive_ping[8] = {'f', 'o', 'i', 'l', 'a', 'l', 'v', '1'};

/* ---- beginning ---- */
static uint32_t put_setting(uint8_t *p, uint32_t at, uint16_t id, uint32_t value)
{
	p[at] = (uint8_t)(id >> 8);
	p[at + 1] = (uint8_t)id;
	p[at + 2] = (uint8_t)(value >> 24);
	p[at + 3] = (uint8_t)(value >> 16);
	p[at + 4] = (uint8_t)(value >> 8);
	p[at + 5] = (uint8_t)value;
	return at + 6;
}

static void put_settings(struct foil_worker *w, struct h2_conn *h)
{
	const struct http_limits *l = h->c->limits;
	struct h2_frame f = {.type = H2_SETTINGS};
	uint8_t payload[30];
	uint32_t n = 0;

	if (h->c->is_server)
		n = put_setting(payload, n, H2_SET_MAX_CONCURRENT_STREAMS, l->h2_streams_max);
	else
		n = put_setting(payload, n, H2_SET_ENABLE_PUSH, 0);
	n = put_setting(payload, n, H2_SET_INITIAL_WINDOW_SIZE, l->h2_stream_window_bytes);
	n = put_setting(payload, n, H2_SET_MAX_HEADER_LIST_SIZE, l->head_bytes_max);
	if (h->c->is_server)
		n = put_setting(payload, n, H2_SET_ENABLE_CONNECT_PROTOCOL, 1);
	f.length_bytes = n;
	h2_put(w, h, &f, payload);
	h2_put_u32(w, h, H2_WINDOW_UPDATE, 0, l->h2_conn_window_bytes - H2_WINDOW_DEFAULT);
}

bool h2_begin(struct foil_worker *w, struct http_conn *c)
{
	struct h2_conn *h = http_pool_get(&w->http->h2_conns);

	if (!h) {
		foil_reason(w, HTTP, CONNS_EXHAUSTED);
		return false;
	}
	c->h2 = h;
	h->c = c;
	h->serial = ++w->http->n_h2_conns;
	h->in = c->is_server ? H2_IN_PREFACE : H2_IN_FRAME;
	h->next_id = 1;
	h->rx_window = c->limits->h2_conn_window_bytes;
	h->tx_window = h->peer_window = H2_WINDOW_DEFAULT;
	h->peer_frame_max = H2_FRAME_BYTES_MAX;
	h->peer_streams_max = H2_PEER_STREAMS_DEFAULT;
	h->goaway_id = H2_ID_MAX;
	h->idle_since_us = w->now_us;
	h2_link_init(&h->streams);
	h2_link_init(&h->sending);
	h2_link_init(&h->blocked);
	h2_link_init(&h->telling);
	hpack_decoder_init(&h->hpack);
	if (!c->is_server && foil_chain_append(w, &h->out, h2_preface, sizeof(h2_preface)) != 0)
		h->owes_failure = HTTP_REASON_OUT_OF_MEMORY;
	put_settings(w, h);
	foil_count(w, HTTP, H2_CONNS, 1);
	return true;
}

void h2_fini(struct foil_worker *w, struct http_conn *c)
{
	struct h2_conn *h = c->h2;

	FOIL_ASSERT(h2_link_is_empty(&h->streams));
	FOIL_ASSERT(!h->dead);
	FOIL_ASSERT(h->tx_held_bytes == 0);
	foil_chain_clear(&h->out);
	foil_arena_reset(w, &h->scratch);
	c->h2 = NULL;
	foil_count(w, HTTP, H2_CONNS, -1);
	http_pool_put(&w->http->h2_conns, h);
}

/* ---- the end ---- */
void h2_end_all(struct foil_worker *w, struct http_conn *c, const struct http_reset_info *info, bool has_closed)
{
	struct h2_conn *h = c->h2;
	struct http_reset_info each = *info;

	c->is_closing = true;
	while (!h2_link_is_empty(&h->streams)) {
		struct h2_stream *x = FOIL_CONTAINER_OF(h->streams.next, struct h2_stream, all);
		h2_stream_lost(w, h, x, &each, H2_CLOSED_BY_US);
		each.reason = HTTP_REASON_OK; /* counted once */
	}
	if (has_closed)
		c->s = NULL;
	if (c->s && h->out.n_bytes)
		stream_write(w, c->s, &h->out);
	http_conn_release(w, c);
	http_conn_gone(w, c, info->why != STREAM_END_NONE ? info->why : STREAM_END_LOCAL);
}

bool h2_fail(struct foil_worker *w, struct h2_conn *h, enum h2_code code, enum http_reason reason)
{
	struct http_reset_info info = {.kind = reason == HTTP_REASON_OUT_OF_MEMORY ? HTTP_RESET_LOCAL : HTTP_RESET_PROTOCOL, .reason = reason};

	if (h->c->is_closing || h->c->is_gone)
		return false;
	h->owes_failure = 0;
	if (h2_link_is_empty(&h->streams))
		foil_reason_id(w, HTTP, reason);
	h2_put_goaway(w, h, h->c->is_server ? h->last_peer_id : 0, code);
	h2_end_all(w, h->c, &info, false);
	return false;
}

static void close_idle(struct foil_worker *w, struct h2_conn *h, enum stream_end why)
{
	const struct http_reset_info info = {.kind = HTTP_RESET_LOCAL, .why = why};

	h2_end_all(w, h->c, &info, false);
}

void h2_maybe_close(struct foil_worker *w, struct h2_conn *h)
{
	struct http_conn *c = h->c;

	if (h2_is_over(h) || h->n_streams)
		return;
	if (h->is_final_goaway_sent || (c->must_close && !c->is_server))
		close_idle(w, h, STREAM_END_FIN);
}

void h2_tell_ready(struct foil_worker *w, struct h2_conn *h)
{
	struct http_conn *c = h->c;

	if (c->is_server || !c->owes_ready || !c->was_open || h2_is_over(h) || !h2_client_capacity(c))
		return;
	c->owes_ready = false;
	if (c->ev.client->ready)
		c->ev.client->ready(w, c);
}

void h2_final_goaway(struct foil_worker *w, struct h2_conn *h)
{
	h->is_final_goaway_sent = true;
	h->drain_at_us = 0;
	h2_put_goaway(w, h, h->last_peer_id, H2_NO_ERROR);
}

/* ---- time: one timer, at the earliest of what may be due; a stream's coming and going does not touch it ---- */
void h2_timer_by(struct foil_worker *w, struct h2_conn *h, uint64_t at_us)
{
	if (h->c->due_us && h->timer_at_us <= at_us)
		return;
	h->timer_at_us = at_us;
	http_conn_timer(w, h->c, at_us > w->now_us ? at_us - w->now_us : 1);
}

static uint64_t idle_end_us(const struct foil_worker *w, const struct h2_conn *h)
{
	uint64_t idle_us = h->c->limits->idle_timeout_us;

	if (!idle_us)
		return UINT64_MAX;
	return (h->n_streams ? w->now_us : h->idle_since_us) + idle_us;
}

/* ---- operations ---- */
static void h2_drain(struct foil_worker *w, struct http_conn *c)
{
	struct h2_conn *h = c->h2;
	const struct h2_frame ping = {.length_bytes = sizeof(h2_drain_ping), .type = H2_PING};

	if (h2_is_over(h) || h->is_draining)
		return;
	if (h->in == H2_IN_PREFACE) { /* nobody is there yet */
		foil_chain_clear(&h->out);
		close_idle(w, h, STREAM_END_FIN);
		return;
	}
	h->is_draining = true;
	c->must_close = true;
	c->wants_flush = true;
	if (!c->is_server)
		return; /* closes after its last stream */
	h2_put_goaway(w, h, H2_ID_MAX, H2_NO_ERROR);
	if (!c->limits->h2_drain_us)
		h2_put(w, h, &ping, h2_drain_ping);
	h->drain_at_us = w->now_us + (c->limits->h2_drain_us ? c->limits->h2_drain_us : H2_DRAIN_STEP_US);
	h2_timer_by(w, h, h->drain_at_us);
}

static void h2_close(struct foil_worker *w, struct http_conn *c)
{
	struct h2_conn *h = c->h2;
	const struct http_reset_info info = {.kind = HTTP_RESET_LOCAL};

	if (c->s && !h->owes_failure)
		h2_put_goaway(w, h, c->is_server ? h->last_peer_id : 0, H2_NO_ERROR);
	h2_end_all(w, c, &info, false);
}

static void h2_pause(struct foil_worker *w, struct http_stream *hs, bool paused)
{
	struct h2_stream *x = h2_of(hs);

	if (x->is_dead || x->is_paused == paused)
		return;
	x->is_paused = paused;
	if (paused)
		return;
	h2_stream_tell(hs->conn->h2, x);
	hs->conn->wants_flush = true; /* it is told there */
}

static FOIL_COLD void h2_reset(struct foil_worker *w, struct http_stream *hs)
{
	struct h2_stream *x = h2_of(hs);
	struct h2_conn *h = hs->conn->h2;

	if (x->is_dead)
		return;
	if (x->id)
		h2_put_u32(w, h, H2_RST_STREAM, x->id, h->c->is_server && !x->is_tunnel ? H2_INTERNAL_ERROR : H2_CANCEL);
	h2_stream_end(w, h, x, H2_CLOSED_BY_US);
}

static bool h2_is_idle(const struct http_conn *c)
{
	return !c->h2->n_streams && !h2_is_over(c->h2);
}

static void h2_writable(struct foil_worker *w, struct http_conn *c)
{
	c->wants_flush = true;
}

static void h2_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why)
{
	struct http_reset_info info = {.kind = HTTP_RESET_REMOTE, .why = why};

	if (!c->was_open)
		info.kind = why == STREAM_END_CONNECT_TIMEOUT ? HTTP_RESET_CONNECT_TIMEOUT : HTTP_RESET_CONNECT_FAILURE;
	h2_end_all(w, c, &info, true);
}

static void h2_opened(struct foil_worker *w, struct http_conn *c)
{
	c->h2->settings_at_us = w->now_us + H2_SETTINGS_ACK_US;
	h2_timer_by(w, c->h2, FOIL_MIN(c->h2->settings_at_us, idle_end_us(w, c->h2)));
	if (c->limits->h2_ping_interval_us) {
		c->h2->ping_at_us = w->now_us + c->limits->h2_ping_interval_us;
		h2_timer_by(w, c->h2, c->h2->ping_at_us);
	}
	c->owes_ready = true;
	c->wants_flush = true;
}

/* DR-33: a PING each interval, from the opening on. False: the last one was not answered, the connection is lost. */
static bool keep_alive(struct foil_worker *w, struct h2_conn *h)
{
	const struct h2_frame ping = {.length_bytes = sizeof(h2_alive_ping), .type = H2_PING};
	const struct http_reset_info info = {.kind = HTTP_RESET_REMOTE, .why = STREAM_END_TIMEOUT};

	if (h->pong_by_us && h->pong_by_us <= w->now_us) {
		foil_reason(w, HTTP, H2_PING_TIMEOUT);
		h2_put_goaway(w, h, 0, H2_NO_ERROR);
		h2_end_all(w, h->c, &info, false);
		return false;
	}
	if (h->ping_at_us && h->ping_at_us <= w->now_us && !h->pong_by_us) {
		h2_put(w, h, &ping, h2_alive_ping);
		h->pong_by_us = w->now_us + FOIL_MAX(h->c->limits->h2_ping_timeout_us, (uint64_t)1);
		h->ping_at_us = w->now_us + h->c->limits->h2_ping_interval_us;
	}
	return true;
}

static uint64_t keep_alive_at_us(const struct h2_conn *h)
{
	if (h->pong_by_us)
		return h->pong_by_us;
	return h->ping_at_us ? h->ping_at_us : UINT64_MAX;
}

static void h2_timeout(struct foil_worker *w, struct http_conn *c)
{
	struct h2_conn *h = c->h2;
	uint64_t now = w->now_us, idle_at = idle_end_us(w, h);
	uint64_t block_at = h->block_since_us && c->limits->head_timeout_us ? h->block_since_us + c->limits->head_timeout_us : UINT64_MAX;
	uint64_t next = FOIL_MIN(idle_at, block_at);

	if (h2_is_over(h))
		return;
	if (c->s && (c->s->rx.n_bytes || c->s->rx_eof))
		c->wants_run = true; /* bytes that were there before the codec */
	if (block_at <= now) {
		(void)h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_HEAD_TIMEOUT); /* nothing follows */
		return;
	}
	if (h->settings_at_us && c->was_open && h->settings_at_us <= now) {
		(void)h2_fail(w, h, H2_SETTINGS_TIMEOUT, HTTP_REASON_H2_SETTINGS_TIMEOUT); /* nothing follows */
		return;
	}
	if (h->drain_at_us && h->drain_at_us <= now)
		h2_final_goaway(w, h);
	if (!keep_alive(w, h))
		return;
	next = FOIL_MIN(next, keep_alive_at_us(h));
	if (idle_at <= now) {
		foil_reason(w, HTTP, IDLE_TIMEOUT);
		h2_put_goaway(w, h, h->last_peer_id, H2_NO_ERROR);
		close_idle(w, h, STREAM_END_FIN);
		return;
	}
	if (h->settings_at_us)
		next = FOIL_MIN(next, FOIL_MAX(h->settings_at_us, now + 1));
	if (h->drain_at_us)
		next = FOIL_MIN(next, h->drain_at_us);
	if (next != UINT64_MAX)
		h2_timer_by(w, h, next);
}

#define H2_COMMON_OPS                                                                                                                        \
	.run = h2_run, .writable = h2_writable, .closed = h2_closed, .send_head = h2_send_head, .send_data = h2_send_data,                    \
	.send_trailers = h2_send_trailers, .tx_room = h2_tx_room, .pause = h2_pause, .reset = h2_reset, .drain = h2_drain, .close = h2_close, \
	.is_idle = h2_is_idle, .timeout = h2_timeout, .reap = h2_reap, .flush = h2_flush, .fini = h2_fini, .version = HTTP_VERSION_2

const struct http_conn_ops h2_server_ops = {H2_COMMON_OPS};
const struct http_conn_ops h2_client_ops = {H2_COMMON_OPS, .opened = h2_opened, .start = h2_client_start, .capacity = h2_client_capacity};
