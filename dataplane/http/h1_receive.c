/* From a stream's rx to contiguous heads and body pieces, and how an exchange begins and ends: the same for both sides.
 * A head that lies alone in one segment is parsed where it is (server side); one that is followed by other bytes is copied, which costs
 * less than a reference to a part of a segment; one that comes in pieces is gathered in the arena as it comes, so that a byte at a time
 * costs a byte at a time, and pins no mbufs.
 * Invariant: framing bytes are consumed from rx as they are understood; bytes of the next message are never touched. */
#include <errno.h>

#include "dataplane/http/h1_priv.h"

#define GATHER_BYTES_FIRST 1024u
#define GATHER_BYTES_CHUNK (FOIL_CHUNK_BYTES - 64u) /* what an ordinary chunk holds for certain */

struct h1_exchange *h1_exchange_new(struct foil_worker *w, struct http_conn *c, struct foil_arena *arena)
{
	struct h1_exchange *x = http_pool_get(&w->http->exchanges);

	if (!x) {
		foil_reason(w, HTTP, STREAMS_EXHAUSTED);
		return NULL;
	}
	foil_count(w, HTTP, EXCHANGES, 1);
	x->hs.conn = c;
	x->hs.arena = arena ? arena : &x->own_arena;
	x->hs.started_us = w->now_us;
	c->x = x;
	return x;
}

void h1_exchange_end(struct http_conn *c)
{
	struct h1_exchange *x = c->x;

	x->is_dead = true;
	x->next_dead = c->dead;
	c->dead = x;
	c->x = NULL;
}

bool h1_head_waits(struct foil_worker *w, struct http_conn *c, const struct http_head *head)
{
	struct h1_exchange *x = c->x;
	struct http_head *copy = w->http->is_burst ? foil_arena_alloc(w, x->hs.arena, sizeof(*copy)) : NULL;

	if (!copy || !http_conn_waits(w, c))
		return false;
	*copy = *head;
	x->waiting = copy;
	return true;
}

void h1_reap(struct foil_worker *w, struct http_conn *c)
{
	while (c->dead) {
		struct h1_exchange *x = c->dead;
		c->dead = x->next_dead;
		foil_chain_clear(&x->head_held);
		foil_arena_reset(w, &x->own_arena);
		foil_count(w, HTTP, EXCHANGES, -1);
		http_pool_put(&w->http->exchanges, x);
	}
}

void h1_fail(struct foil_worker *w, struct http_conn *c, const struct h1_fail *f)
{
	struct h1_exchange *x = c->x;
	struct http_reset_info info = {.kind = f->kind, .reason = f->reason, .why = f->why};

	if (f->reason != HTTP_REASON_OK)
		foil_reason_id(w, HTTP, f->reason);
	c->is_closing = true;
	if (x) {
		info.rx_started = x->hs.rx_wire_bytes > 0 || !foil_chain_is_empty(&c->s->rx);
		info.tx_acked_any = c->s->tx_queued_bytes < x->hs.tx_wire_bytes;
		h1_exchange_end(c);
		if (x->ev)
			HTTP_TELL(w, x->ev->reset(w, &x->hs, &info));
	}
	if (f->has_closed)
		c->s = NULL;
	else if (f->in_order)
		http_conn_release(w, c);
	else
		http_conn_abort(w, c);
	http_conn_gone(w, c, f->why != STREAM_END_NONE ? f->why : STREAM_END_LOCAL);
}

void h1_maybe_finish(struct foil_worker *w, struct http_conn *c)
{
	struct h1_exchange *x = c->x;

	if (!x || !x->ev || x->tx != H1_TX_DONE)
		return;
	/* A server that has answered early does not wait for the rest of the request: it closes (RFC 9112 9.6), as Envoy does. */
	if (x->rx != H1_RX_DONE && (x->is_tunnel || !c->is_server || !c->must_close))
		return;
	h1_exchange_end(c);
	HTTP_TELL(w, x->ev->complete(w, &x->hs));
	if (c->is_gone || c->is_closing)
		return;
	if (c->must_close) {
		c->is_closing = true;
		http_conn_release(w, c);
		http_conn_gone(w, c, STREAM_END_FIN);
		return;
	}
	c->owes_ready = true;
	c->wants_run = true;
}

void h1_block_reset(struct h1_exchange *x)
{
	x->block = (struct h1_block){0};
	x->buf = NULL;
	x->buf_bytes = 0;
	x->buf_cap = 0;
}

static void consume(struct foil_worker *w, struct http_conn *c, uint32_t n_bytes)
{
	c->x->hs.rx_wire_bytes += n_bytes;
	stream_consume(w, c->s, n_bytes);
}

/* Room for n_bytes more in the gathering buffer: a small one, an ordinary chunk, then one that holds the longest head. */
static bool gather_room(struct foil_worker *w, struct http_conn *c, uint32_t n_bytes)
{
	struct h1_exchange *x = c->x;
	uint32_t want = x->buf_bytes + n_bytes, cap;

	if (want <= x->buf_cap)
		return true;
	if (want <= GATHER_BYTES_FIRST)
		cap = GATHER_BYTES_FIRST;
	else if (want <= GATHER_BYTES_CHUNK)
		cap = GATHER_BYTES_CHUNK;
	else
		cap = c->limits->head_bytes_max + 1;
	if (want > cap)
		return false;
	char *buf = foil_arena_alloc(w, x->hs.arena, cap);
	if (!buf)
		return false;
	if (x->buf_bytes)
		memcpy(buf, x->buf, x->buf_bytes);
	x->buf = buf;
	x->buf_cap = cap;
	return true;
}

/* A whole block in the first segment: kept where it is when nothing else is in the segment, else copied. */
static enum h1_read take_whole(struct foil_worker *w, struct http_conn *c, bool may_hold, uint32_t end_bytes, struct foil_slice *out)
{
	struct h1_exchange *x = c->x;
	struct foil_slice seg = foil_mbuf_slice(c->s->rx.head);

	if (end_bytes > c->limits->head_bytes_max)
		return H1_READ_TOO_LARGE;
	if (may_hold && end_bytes == seg.n_bytes && stream_take(w, c->s, end_bytes, &x->head_held) == 0) {
		x->hs.rx_wire_bytes += end_bytes;
		foil_count(w, HTTP, HEADS_IN_PLACE, 1);
		*out = foil_slice_of(seg.data, end_bytes);
		return H1_READ_DONE;
	}
	*out = foil_arena_copy(w, x->hs.arena, foil_slice_of(seg.data, end_bytes));
	if (!out->data)
		return H1_READ_NO_MEMORY;
	consume(w, c, end_bytes);
	return H1_READ_DONE;
}

/* One segment's bytes go to the gathering buffer; those behind the block's end stay in rx. */
static enum h1_read gather_segment(struct foil_worker *w, struct http_conn *c, struct foil_slice *out)
{
	struct h1_exchange *x = c->x;
	struct foil_slice seg = foil_mbuf_slice(c->s->rx.head);
	uint32_t before = x->buf_bytes, most = c->limits->head_bytes_max + 1 - before, end;
	uint32_t n = FOIL_MIN(seg.n_bytes, most);

	if (n == 0)
		return H1_READ_TOO_LARGE;
	if (!gather_room(w, c, n))
		return H1_READ_NO_MEMORY;
	memcpy(&x->buf[before], seg.data, n);
	x->buf_bytes += n;
	switch (h1_block_scan(&x->block, x->buf, x->buf_bytes, &end)) {
	case H1_BLOCK_BARE_LF:
		return H1_READ_BARE_LF;
	case H1_BLOCK_FOUND:
		consume(w, c, end - before);
		*out = foil_slice_of(x->buf, end);
		return end > c->limits->head_bytes_max ? H1_READ_TOO_LARGE : H1_READ_DONE;
	case H1_BLOCK_MORE:
		consume(w, c, n);
		return H1_READ_MORE;
	}
	FOIL_UNREACHABLE();
}

enum h1_read h1_read_block(struct foil_worker *w, struct http_conn *c, bool may_hold, struct foil_slice *out)
{
	struct h1_exchange *x = c->x;
	uint32_t end;

	if (x->buf_bytes == 0 && c->s->rx.head) {
		struct foil_slice seg = foil_mbuf_slice(c->s->rx.head);
		uint32_t n = FOIL_MIN(seg.n_bytes, c->limits->head_bytes_max + 1);
		switch (h1_block_scan(&x->block, seg.data, n, &end)) {
		case H1_BLOCK_BARE_LF:
			return H1_READ_BARE_LF;
		case H1_BLOCK_FOUND:
			return take_whole(w, c, may_hold, end, out);
		case H1_BLOCK_MORE:
			x->block = (struct h1_block){.takes_lf = x->block.takes_lf}; /* once more from the buffer: a segment's worth, once a head */
			break;
		}
	}
	while (c->s->rx.head) {
		enum h1_read r = gather_segment(w, c, out);
		if (r != H1_READ_MORE)
			return r;
	}
	return H1_READ_MORE;
}

/* Moves n_bytes from rx to out: by reference, but for small parts of a segment. */
static int take_body(struct foil_worker *w, struct http_conn *c, uint32_t n_bytes, struct foil_chain *out)
{
	struct foil_chain *rx = &c->s->rx;

	if (n_bytes <= H1_COPY_BYTES_MAX && n_bytes < rx->head->data_len) {
		if (foil_chain_append(w, out, rte_pktmbuf_mtod(rx->head, const void *), n_bytes) != 0)
			return -ENOBUFS;
		stream_consume(w, c->s, n_bytes);
	} else if (stream_take(w, c->s, n_bytes, out) != 0) {
		return -ENOBUFS;
	}
	c->x->hs.rx_wire_bytes += n_bytes;
	return 0;
}

/* The end of the message as far as receiving goes; the user is told by the caller. */
static void mark_end(struct foil_worker *w, struct h1_exchange *x)
{
	x->rx = H1_RX_DONE;
	x->hs.rx_end_us = w->now_us;
}

static bool deliver(struct foil_worker *w, struct http_conn *c, struct foil_chain *data, bool end)
{
	struct h1_exchange *x = c->x;

	if (!data->n_bytes && !end)
		return true;
	x->hs.rx_body_bytes += data->n_bytes;
	if (end)
		mark_end(w, x);
	HTTP_TELL(w, x->ev->data(w, &x->hs, data, end));
	return c->x == x && !c->is_gone;
}

static FOIL_COLD bool fail(struct foil_worker *w, struct http_conn *c, enum http_reset kind, enum http_reason reason)
{
	bool answers = c->is_server && kind == HTTP_RESET_PROTOCOL && c->x->tx == H1_TX_HEAD;

	if (answers)
		h1_send_refusal(w, c, http_reason_status(reason));
	h1_fail(w, c, &(struct h1_fail){.kind = kind, .reason = reason, .in_order = answers});
	return false;
}

static bool receive_counted(struct foil_worker *w, struct http_conn *c)
{
	struct h1_exchange *x = c->x;
	struct foil_chain data = {0};
	uint32_t n = c->s->rx.n_bytes;

	if (x->rx == H1_RX_LENGTH)
		n = (uint32_t)FOIL_MIN((uint64_t)n, x->rx_left_bytes);
	if (n == 0)
		return true;
	if (take_body(w, c, n, &data) != 0)
		return fail(w, c, HTTP_RESET_LOCAL, HTTP_REASON_OUT_OF_MEMORY);
	if (x->rx == H1_RX_LENGTH)
		x->rx_left_bytes -= n;
	return deliver(w, c, &data, x->rx == H1_RX_LENGTH && x->rx_left_bytes == 0);
}

/* One step through the chunks: framing or data of the first segment. */
static enum http_reason chunked_step(struct foil_worker *w, struct http_conn *c, struct foil_chain *data)
{
	struct h1_exchange *x = c->x;
	struct h1_chunked *ch = &x->chunked;
	struct foil_slice seg = foil_mbuf_slice(c->s->rx.head);
	uint32_t n_used = 0;

	if (ch->state == H1_CHUNK_DATA) {
		uint32_t n = (uint32_t)FOIL_MIN(ch->left_bytes, (uint64_t)c->s->rx.n_bytes);
		if (take_body(w, c, n, data) != 0)
			return HTTP_REASON_OUT_OF_MEMORY;
		ch->left_bytes -= n;
		if (ch->left_bytes == 0)
			ch->state = H1_CHUNK_DATA_CR;
		return HTTP_REASON_OK;
	}
	enum http_reason why = h1_chunked_line(ch, seg.data, seg.n_bytes, &n_used);
	if (why != HTTP_REASON_OK)
		return why;
	if (ch->state == H1_CHUNK_DATA || ch->state == H1_CHUNK_LAST)
		foil_count(w, HTTP, CHUNKS_DECODED, 1);
	consume(w, c, n_used);
	return HTTP_REASON_OK;
}

/* Trailers, or the empty line where there are none. data is what was decoded before them, delivered first. */
static bool receive_trailers(struct foil_worker *w, struct http_conn *c, struct foil_chain *data)
{
	struct h1_exchange *x = c->x;
	struct foil_slice bytes;
	struct http_headers trailers = {0};
	enum http_reason why = HTTP_REASON_OK;

	switch (h1_read_block(w, c, false, &bytes)) {
	case H1_READ_MORE:
		return deliver(w, c, data, false);
	case H1_READ_BARE_LF:
		why = HTTP_REASON_BARE_LF;
		break;
	case H1_READ_TOO_LARGE:
		why = HTTP_REASON_TRAILERS_TOO_LARGE;
		break;
	case H1_READ_NO_MEMORY:
		why = HTTP_REASON_OUT_OF_MEMORY;
		break;
	case H1_READ_DONE:
		why = h1_parse_trailers(w, x->hs.arena, bytes, x->block.n_lines, c->limits, &trailers);
		break;
	}
	if (why != HTTP_REASON_OK) {
		foil_chain_clear(data);
		return fail(w, c, why == HTTP_REASON_OUT_OF_MEMORY ? HTTP_RESET_LOCAL : HTTP_RESET_PROTOCOL, why);
	}
	if (trailers.n)
		foil_count(w, HTTP, TRAILERS_DECODED, 1);
	if (trailers.n == 0 || !x->ev->trailers)
		return deliver(w, c, data, true);
	if (!deliver(w, c, data, false))
		return false;
	mark_end(w, x);
	HTTP_TELL(w, x->ev->trailers(w, &x->hs, &trailers));
	return c->x == x && !c->is_gone;
}

static bool receive_chunked(struct foil_worker *w, struct http_conn *c)
{
	struct h1_exchange *x = c->x;
	struct foil_chain data = {0};

	while (c->s->rx.head && x->rx == H1_RX_CHUNKED) {
		enum http_reason why = chunked_step(w, c, &data);
		if (why != HTTP_REASON_OK) {
			foil_chain_clear(&data);
			return fail(w, c, why == HTTP_REASON_OUT_OF_MEMORY ? HTTP_RESET_LOCAL : HTTP_RESET_PROTOCOL, why);
		}
		if (x->chunked.state == H1_CHUNK_LAST) {
			x->rx = H1_RX_TRAILERS;
			h1_block_reset(x);
		}
	}
	if (x->rx == H1_RX_TRAILERS && c->s->rx.head)
		return receive_trailers(w, c, &data);
	return deliver(w, c, &data, false);
}

bool h1_receive_body(struct foil_worker *w, struct http_conn *c)
{
	struct h1_exchange *x = c->x;

	if (x->is_paused || foil_chain_is_empty(&c->s->rx))
		return true;
	switch ((enum h1_rx)x->rx) {
	case H1_RX_LENGTH:
	case H1_RX_UNTIL_CLOSE:
	case H1_RX_TUNNEL:
		return receive_counted(w, c);
	case H1_RX_CHUNKED:
	case H1_RX_TRAILERS:
		return receive_chunked(w, c);
	case H1_RX_HEAD:
	case H1_RX_WAITS:
	case H1_RX_DONE:
	case H1_RX_IGNORED:
		return true;
	}
	FOIL_UNREACHABLE();
}

void h1_body_ends(struct foil_worker *w, struct http_conn *c)
{
	struct foil_chain none = {0};

	if (deliver(w, c, &none, true))
		h1_maybe_finish(w, c);
}

bool h1_tunnel_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why)
{
	struct h1_exchange *x = c->x;
	struct foil_chain data = {0};

	if (!x || !x->is_tunnel || why != STREAM_END_FIN || x->tx != H1_TX_DONE)
		return false;
	foil_chain_move(&data, &c->s->rx);
	x->hs.rx_wire_bytes += data.n_bytes;
	c->s = NULL;
	c->must_close = true;
	if (x->rx == H1_RX_DONE || deliver(w, c, &data, true))
		h1_maybe_finish(w, c);
	return true;
}

void h1_pause(struct foil_worker *w, struct http_stream *hs, bool paused)
{
	struct h1_exchange *x = h1_of(hs);

	if (x->is_dead)
		return;
	x->is_paused = paused;
	if (!paused)
		hs->conn->wants_run = true;
}

/* The user gives up: no callback for the exchange, the connection goes. Half an answer is still sent where its framing shows that it is
 * half; else RST says so. */
void h1_reset(struct foil_worker *w, struct http_stream *hs)
{
	struct h1_exchange *x = h1_of(hs);
	struct http_conn *c = hs->conn;
	bool shows = c->is_server && x->tx == H1_TX_BODY && (x->framing == H1_FRAME_LENGTH || x->framing == H1_FRAME_CHUNKED);

	if (x->is_dead)
		return;
	h1_exchange_end(c);
	c->is_closing = true;
	if (shows)
		http_conn_release(w, c);
	else
		http_conn_abort(w, c);
	http_conn_gone(w, c, STREAM_END_LOCAL);
}

void h1_close(struct foil_worker *w, struct http_conn *c)
{
	h1_fail(w, c, &(struct h1_fail){.kind = HTTP_RESET_LOCAL, .in_order = !c->x});
}

void h1_writable(struct foil_worker *w, struct http_conn *c)
{
	struct h1_exchange *x = c->x;

	if (!x)
		c->wants_run = true; /* pipelined requests may have waited for room */
	else if (x->ev && x->ev->writable && x->tx == H1_TX_BODY)
		x->ev->writable(w, &x->hs);
}

bool h1_is_idle(const struct http_conn *c)
{
	return !c->x && !c->is_gone && !c->is_closing;
}
