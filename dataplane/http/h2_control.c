/* Control frames (RFC 9113 sections 6.3 to 6.9): their payload is whole and short when it comes here. */
#include "dataplane/http/h2_priv.h"

static FOIL_COLD bool size_error(struct foil_worker *w, struct h2_conn *h)
{
	return h2_fail(w, h, H2_FRAME_SIZE_ERROR, HTTP_REASON_H2_FRAME_SIZE);
}

static FOIL_COLD bool bad_frame(struct foil_worker *w, struct h2_conn *h)
{
	return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_FRAME);
}

/* ---- SETTINGS ---- */
static FOIL_COLD bool bad_setting(struct foil_worker *w, struct h2_conn *h, enum h2_code code)
{
	return h2_fail(w, h, code, HTTP_REASON_H2_BAD_SETTING);
}

static bool apply_setting(struct foil_worker *w, struct h2_conn *h, uint16_t id, uint32_t value)
{
	switch (id) {
	case H2_SET_HEADER_TABLE_SIZE:
		if (value < HPACK_TABLE_BYTES)
			h->puts_size_update = true;
		return true;
	case H2_SET_ENABLE_PUSH:
		return value <= (h->c->is_server ? 1u : 0u) || bad_setting(w, h, H2_PROTOCOL_ERROR);
	case H2_SET_MAX_CONCURRENT_STREAMS:
		h->peer_streams_max = value;
		h->c->owes_ready = true;
		return true;
	case H2_SET_INITIAL_WINDOW_SIZE:
		return value <= H2_WINDOW_MAX ? h2_flow_initial(w, h, value) : bad_setting(w, h, H2_FLOW_CONTROL_ERROR);
	case H2_SET_MAX_FRAME_SIZE:
		if (value < H2_FRAME_BYTES_MAX || value > 0xffffffu)
			return bad_setting(w, h, H2_PROTOCOL_ERROR);
		h->peer_frame_max = value;
		return true;
	case H2_SET_ENABLE_CONNECT_PROTOCOL:
		if (value > 1 || (h->peer_takes_connect && !value)) /* RFC 8441 3: it is not taken back */
			return bad_setting(w, h, H2_PROTOCOL_ERROR);
		h->peer_takes_connect = value;
		return true;
	default: /* one that we do not use, or do not know */
		return true;
	}
}

static void settings_acked(struct h2_conn *h)
{
	h->is_settings_acked = true;
	h->settings_at_us = 0;
}

static bool settings(struct foil_worker *w, struct h2_conn *h, const uint8_t *p, uint32_t n_bytes)
{
	struct foil_cur c = cur_of(p, n_bytes);
	const struct h2_frame ack = {.type = H2_SETTINGS, .flags = H2_ACK};

	if (h->frame.stream_id)
		return bad_frame(w, h);
	if (h->frame.flags & H2_ACK) {
		if (n_bytes)
			return size_error(w, h);
		settings_acked(h);
		return true;
	}
	if (n_bytes % 6)
		return size_error(w, h);
	bool knew = h->had_settings;
	h->had_settings = true;
	if (!knew) {
		h->peer_streams_max = UINT32_MAX; /* unless it says otherwise */
		h->c->owes_ready = true;
	}
	while (cur_left(&c)) {
		uint16_t id = cur_be16(&c);
		if (!apply_setting(w, h, id, cur_be32(&c)))
			return false;
	}
	h2_put(w, h, &ack, NULL);
	return !h2_is_over(h);
}

/* ---- the others ---- */
static bool ping(struct foil_worker *w, struct h2_conn *h, const uint8_t *p, uint32_t n_bytes)
{
	const struct h2_frame ack = {.length_bytes = 8, .type = H2_PING, .flags = H2_ACK};

	if (h->frame.stream_id)
		return bad_frame(w, h);
	if (n_bytes != 8)
		return size_error(w, h);
	if (!(h->frame.flags & H2_ACK)) {
		h2_put(w, h, &ack, p);
		return !h2_is_over(h);
	}
	if (memcmp(p, h2_alive_ping, sizeof(h2_alive_ping)) == 0 && h->pong_by_us) {
		h->pong_by_us = 0;
		h2_timer_by(w, h, FOIL_MAX(h->ping_at_us, w->now_us + 1));
	}
	if (h->is_draining && !h->is_final_goaway_sent && !h->c->limits->h2_drain_us && memcmp(p, h2_drain_ping, sizeof(h2_drain_ping)) == 0)
		h2_final_goaway(w, h); /* the first one has arrived there: what was under way is here */
	return !h2_is_over(h);
}

/* Streams that the server will not serve any more, safe to send elsewhere. */
static FOIL_COLD void refuse_above(struct foil_worker *w, struct h2_conn *h, uint32_t last_id)
{
	const struct http_reset_info info = {.kind = HTTP_RESET_REFUSED_STREAM};
	struct h2_link *l = h->streams.next;

	while (l != &h->streams && !h2_is_over(h)) {
		struct h2_stream *x = FOIL_CONTAINER_OF(l, struct h2_stream, all);
		l = l->next;
		if (x->id <= last_id && x->id)
			continue;
		h2_stream_lost(w, h, x, &info, H2_CLOSED_BY_US);
		l = h->streams.next; /* its user may have ended others: from the beginning, each pass ends one */
	}
}

static FOIL_COLD bool goaway(struct foil_worker *w, struct h2_conn *h, const uint8_t *p, uint32_t n_bytes)
{
	struct foil_cur c = cur_of(p, n_bytes);
	uint32_t last_id = cur_be32(&c) & H2_ID_MAX;

	(void)cur_be32(&c); /* the code: whatever it is, no new stream goes there */
	if (h->frame.stream_id)
		return bad_frame(w, h);
	if (c.short_read)
		return size_error(w, h);
	h->has_goaway = true;
	if (h->c->is_server)
		return true; /* its streams go on to their end */
	h->c->must_close = true;
	h->c->wants_flush = true;
	refuse_above(w, h, last_id);
	return !h2_is_over(h);
}

static bool rst_stream(struct foil_worker *w, struct h2_conn *h, const uint8_t *p, uint32_t n_bytes)
{
	struct foil_cur c = cur_of(p, n_bytes);
	uint32_t code = cur_be32(&c), id = h->frame.stream_id;
	struct http_reset_info info = {.kind = code == H2_REFUSED_STREAM ? HTTP_RESET_REFUSED_STREAM : HTTP_RESET_STREAM};
	struct h2_stream *x;

	if (n_bytes != 4)
		return size_error(w, h);
	if (id == 0 || h2_id_is_idle(h, id))
		return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_STREAM_ID);
	x = h2_stream_find(h, id);
	if (!x) {
		h2_stream_peer_reset(h, id);
		return h2_guard_control(w, h);
	}
	if (!h->c->is_server && x->rx >= H2_RX_ENDED) { /* the answer is whole: of the request nothing more is wanted */
		h->tx_held_bytes -= x->tx_body.n_bytes;
		foil_chain_clear(&x->tx_body);
		x->tx = H2_TX_DONE;
		h2_link_del(&x->sending);
		h2_stream_tell(h, x);
		return true;
	}
	h2_stream_lost(w, h, x, &info, H2_CLOSED_BY_PEER);
	return !h2_is_over(h) && h2_guard_closed(w, h, x, true);
}

/* Read for its form, otherwise without effect (RFC 9113 5.3.2). */
static bool priority(struct foil_worker *w, struct h2_conn *h, const uint8_t *p, uint32_t n_bytes)
{
	struct foil_cur c = cur_of(p, n_bytes);
	uint32_t id = h->frame.stream_id, parent = cur_be32(&c) & H2_ID_MAX;
	struct h2_stream *x = h2_stream_find(h, id);
	bool is_size_wrong = n_bytes != 5;

	if (id == 0)
		return bad_frame(w, h);
	if (!is_size_wrong && parent != id)
		return true;
	if (!x)
		return is_size_wrong ? size_error(w, h) : bad_frame(w, h);
	h2_stream_fail(w, h, x, is_size_wrong ? H2_FRAME_SIZE_ERROR : H2_PROTOCOL_ERROR, HTTP_RESET_PROTOCOL,
		       is_size_wrong ? HTTP_REASON_H2_FRAME_SIZE : HTTP_REASON_H2_BAD_FRAME);
	return !h2_is_over(h);
}

static bool window_update(struct foil_worker *w, struct h2_conn *h, const uint8_t *p, uint32_t n_bytes)
{
	struct foil_cur c = cur_of(p, n_bytes);

	if (n_bytes != 4)
		return size_error(w, h);
	if (h->frame.stream_id && h2_id_is_idle(h, h->frame.stream_id))
		return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_STREAM_ID);
	h2_flow_window_update(w, h, h->frame.stream_id, cur_be32(&c) & H2_WINDOW_MAX);
	return !h2_is_over(h);
}

bool h2_control(struct foil_worker *w, struct h2_conn *h, const uint8_t *p, uint32_t n_bytes)
{
	switch ((enum h2_type)h->frame.type) {
	case H2_SETTINGS: return settings(w, h, p, n_bytes);
	case H2_PING: return ping(w, h, p, n_bytes);
	case H2_GOAWAY: return goaway(w, h, p, n_bytes);
	case H2_RST_STREAM: return rst_stream(w, h, p, n_bytes);
	case H2_PRIORITY: return priority(w, h, p, n_bytes);
	case H2_WINDOW_UPDATE: return window_update(w, h, p, n_bytes);
	case H2_PUSH_PROMISE: return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_PUSH);
	case H2_DATA:
	case H2_HEADERS:
	case H2_CONTINUATION:
		break;
	}
	FOIL_UNREACHABLE();
}
