/* Header blocks: HEADERS and its CONTINUATIONs put together, decoded whole whoever they are for, because the table must stay equal (RFC 9113 4.3),
 * and then what they mean for their stream. A block that lies in one segment is decoded where it is; one in pieces is gathered in scratch
 * memory of the connection, which pins no mbufs and is bounded. */
#include "dataplane/http/h2_priv.h"

#define GATHER_BYTES_FIRST 1024u
#define GATHER_BYTES_CHUNK (FOIL_CHUNK_BYTES - 64u)
#define FIELDS_FIRST 24u
#define FIELDS_EXTRA 8u /* pseudo fields, and crumbs of a cookie that become one */

/* ---- whom a block is for ---- */
enum block_for { FOR_REQUEST, FOR_RESPONSE, FOR_TRAILERS, FOR_NOBODY, FOR_REFUSED, FOR_CLOSED, FOR_GONE };
struct target {
	enum block_for what;
	struct h2_stream *x;
};

static struct target server_target(struct foil_worker *w, struct h2_conn *h)
{
	uint32_t id = h->block_id;
	struct h2_stream *x = h2_stream_find(h, id);

	if (x)
		return (struct target){x->rx == H2_RX_BODY || x->rx == H2_RX_IGNORED ? FOR_TRAILERS : FOR_CLOSED, x};
	if (id <= h->last_peer_id) {
		switch (h2_stream_how_closed(h, id)) {
		case H2_CLOSED_BY_US: return (struct target){FOR_NOBODY, NULL};
		case H2_CLOSED_BY_PEER: return (struct target){FOR_CLOSED, NULL};
		case H2_CLOSED_ENDED: (void)h2_fail(w, h, H2_STREAM_CLOSED, HTTP_REASON_H2_STREAM_CLOSED); break; /* FOR_GONE says so */
		case H2_CLOSED_UNKNOWN: (void)h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_STREAM_ID); break; /* the same */
		}
		return (struct target){FOR_GONE, NULL};
	}
	if (h->is_final_goaway_sent)
		return (struct target){FOR_NOBODY, NULL};
	h->last_peer_id = id;
	if (h->n_streams >= h->c->limits->h2_streams_max)
		return (struct target){FOR_REFUSED, NULL};
	x = h2_stream_new(w, h, id, NULL);
	return (struct target){x ? FOR_REQUEST : FOR_REFUSED, x};
}

static struct target client_target(struct h2_conn *h)
{
	struct h2_stream *x = h2_stream_find(h, h->block_id);

	if (!x)
		return (struct target){FOR_NOBODY, NULL}; /* it was reset while this was on its way */
	if (x->rx == H2_RX_HEAD)
		return (struct target){FOR_RESPONSE, x};
	return (struct target){x->rx == H2_RX_BODY ? FOR_TRAILERS : FOR_CLOSED, x};
}

/* ---- what it means ---- */
static void malformed(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, enum http_reason why)
{
	bool is_memory = why == HTTP_REASON_OUT_OF_MEMORY, is_legal = why == HTTP_REASON_H2_UNDERSCORE; /* and yet not wanted: Envoy's code for it */
	enum h2_code code = is_memory || is_legal ? H2_INTERNAL_ERROR : H2_PROTOCOL_ERROR;

	h2_stream_fail(w, h, x, code, is_memory ? HTTP_RESET_LOCAL : HTTP_RESET_PROTOCOL, why);
}

/* The user answers a request that it shall not serve; what follows of it is dropped. */
static FOIL_COLD void refuse(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, struct http_head *head, enum http_reason why, bool end)
{
	foil_reason_id(w, HTTP, why);
	x->rx = end ? H2_RX_DONE : H2_RX_IGNORED;
	x->method = (uint8_t)head->method;
	x->ev = h->c->ev.server->stream_new(w, h->c, &x->hs);
	if (x->is_dead || h2_is_over(h))
		return;
	if (!x->ev)
		h2_stream_fail(w, h, x, H2_REFUSED_STREAM, HTTP_RESET_LOCAL, HTTP_REASON_STREAMS_EXHAUSTED);
	else
		h->c->ev.server->bad_request(w, &x->hs, head, http_reason_status(why), why);
	if (!x->is_dead)
		h2_stream_maybe_finish(w, x);
}

static void expect_length(struct h2_stream *x, const struct http_head *head)
{
	x->has_length = head->body == HTTP_BODY_LENGTH;
	x->rx_left_bytes = head->content_length;
}

static void send_continue(struct foil_worker *w, struct h2_stream *x)
{
	const struct http_head head = {.status = 100, .version = HTTP_VERSION_2};

	if (x->is_dead || x->tx != H2_TX_HEAD || x->rx != H2_RX_BODY)
		return;
	if (h2_send_head(w, &x->hs, &head, false) == 0) /* without it the client goes on after a while all the same (RFC 9110 10.1.1) */
		foil_count(w, HTTP, CONTINUES_SENT, 1);
}

static void take_request(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, struct http_head *head, enum http_reason why)
{
	bool end = h->block_flags & H2_END_STREAM;

	head->head_bytes = (uint32_t)x->hs.rx_wire_bytes;
	if (end)
		x->hs.rx_end_us = w->now_us;
	if (h->block_depends_on_itself && why == HTTP_REASON_OK)
		why = HTTP_REASON_H2_BAD_FRAME;
	if (why == HTTP_REASON_MISSING_HOST || why == HTTP_REASON_H2_HEADERS_TOO_LARGE) {
		refuse(w, h, x, head, why, end);
		return;
	}
	x->ev = h->c->ev.server->stream_new(w, h->c, &x->hs);
	if (x->is_dead || h2_is_over(h))
		return;
	if (!x->ev) {
		h2_stream_fail(w, h, x, H2_REFUSED_STREAM, HTTP_RESET_LOCAL, HTTP_REASON_STREAMS_EXHAUSTED);
		return;
	}
	if (why != HTTP_REASON_OK) {
		malformed(w, h, x, why);
		return;
	}
	foil_count(w, HTTP, REQUESTS_DECODED, 1);
	x->method = (uint8_t)head->method;
	x->is_upgrade = head->is_upgrade;
	x->rx = end ? H2_RX_DONE : H2_RX_BODY;
	x->had_head = true;
	expect_length(x, head);
	bool owes_continue = head->expects_continue;
	HTTP_TELL(w, x->ev->head(w, &x->hs, head, end));
	if (owes_continue)
		send_continue(w, x);
	h2_stream_maybe_finish(w, x);
}

static void take_informational(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, struct http_head *head)
{
	if (++x->n_informational > H2_INFORMATIONAL_MAX) {
		malformed(w, h, x, HTTP_REASON_TOO_MANY_INFORMATIONAL);
		return;
	}
	foil_count(w, HTTP, INFORMATIONAL_DECODED, 1);
	if (x->ev->informational)
		x->ev->informational(w, &x->hs, head);
}

/* The server takes CONNECT with :protocol: for our side that is a 101 (codec.h). False: no memory. */
static bool take_switching(struct foil_worker *w, struct h2_stream *x, struct http_head *head)
{
	x->is_tunnel = true;
	head->status = 101;
	head->is_upgrade = true;
	head->body = HTTP_BODY_NONE; /* a length says nothing here (RFC 9110 9.3.6) */
	return http_header_add_id(w, x->hs.arena, &head->headers, HTTP_HDR_UPGRADE, x->upgrade_token) == 0;
}

static void take_response(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, struct http_head *head, enum http_reason why)
{
	bool end = h->block_flags & H2_END_STREAM;

	if (why != HTTP_REASON_OK) {
		malformed(w, h, x, why);
		return;
	}
	head->head_bytes = (uint32_t)x->hs.rx_wire_bytes;
	if (head->status < 200) {
		take_informational(w, h, x, head);
		return;
	}
	if (x->is_upgrade && head->status < 300 && !end && !take_switching(w, x, head)) {
		malformed(w, h, x, HTTP_REASON_OUT_OF_MEMORY);
		return;
	}
	foil_count(w, HTTP, RESPONSES_DECODED, 1);
	expect_length(x, head);
	if (x->method == HTTP_METHOD_HEAD || head->status == 204 || head->status == 304) {
		x->has_length = true;
		x->rx_left_bytes = 0;
	}
	if (end && x->has_length && x->rx_left_bytes) {
		malformed(w, h, x, HTTP_REASON_H2_BAD_LENGTH);
		return;
	}
	if (end)
		x->hs.rx_end_us = w->now_us;
	x->rx = end ? H2_RX_DONE : H2_RX_BODY;
	x->had_head = true;
	HTTP_TELL(w, x->ev->head(w, &x->hs, head, end));
	if (!x->is_dead)
		h2_stream_maybe_finish(w, x);
}

static void take_trailers(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, struct http_headers *list, bool is_too_large)
{
	enum http_reason why = HTTP_REASON_OK;

	if (is_too_large)
		why = HTTP_REASON_TRAILERS_TOO_LARGE;
	else if (!(h->block_flags & H2_END_STREAM) || h->block_depends_on_itself)
		why = HTTP_REASON_H2_BAD_MESSAGE;
	else if (x->has_length && x->rx_left_bytes)
		why = HTTP_REASON_H2_BAD_LENGTH;
	else
		why = h2_read_trailers(list);
	if (why != HTTP_REASON_OK) {
		malformed(w, h, x, why);
		return;
	}
	x->hs.rx_end_us = w->now_us;
	if (x->rx == H2_RX_IGNORED) {
		x->rx = H2_RX_DONE;
		h2_stream_maybe_finish(w, x);
		return;
	}
	if (list->n)
		foil_count(w, HTTP, TRAILERS_DECODED, 1);
	x->rx = H2_RX_ENDED;
	x->has_trailers = list->n > 0;
	x->trailers = *list;
	h2_stream_tell(h, x);
}

/* What a block that was decoded says; list and is_too_large are of others than heads. */
struct meaning {
	struct http_headers list;
	struct http_head head;
	enum http_reason why; /* of a head: what is wrong with it */
	bool is_too_large;
};

static void act(struct foil_worker *w, struct h2_conn *h, const struct target *t, struct meaning *m)
{
	switch (t->what) {
	case FOR_REQUEST: take_request(w, h, t->x, &m->head, m->why); return;
	case FOR_RESPONSE: take_response(w, h, t->x, &m->head, m->why); return;
	case FOR_TRAILERS: take_trailers(w, h, t->x, &m->list, m->is_too_large); return;
	case FOR_NOBODY:
	case FOR_GONE:
		return;
	case FOR_REFUSED:
		foil_reason(w, HTTP, H2_REFUSED_STREAM);
		h2_put_u32(w, h, H2_RST_STREAM, h->block_id, H2_REFUSED_STREAM);
		(void)h2_guard_refused(w, h); /* the loop looks at h2_is_over */
		return;
	case FOR_CLOSED:
		if (t->x) {
			h2_stream_fail(w, h, t->x, H2_STREAM_CLOSED, HTTP_RESET_PROTOCOL, HTTP_REASON_H2_STREAM_CLOSED);
			return;
		}
		foil_reason(w, HTTP, H2_STREAM_CLOSED);
		h2_put_u32(w, h, H2_RST_STREAM, h->block_id, H2_STREAM_CLOSED);
		return;
	}
	FOIL_UNREACHABLE();
}

/* ---- decoding ---- */
static bool decode(struct foil_worker *w, struct h2_conn *h, struct foil_slice block, const struct target *t, struct meaning *m)
{
	const struct hpack_limits limits = {
		.list_bytes_max = h->c->limits->head_bytes_max, .fields_max = (uint16_t)(h->c->limits->headers_max + FIELDS_EXTRA),
	};
	struct foil_arena *a = t->x ? t->x->hs.arena : &h->scratch;
	enum hpack_result rc = HPACK_NO_MEMORY;

	m->list = (struct http_headers){0};
	if (http_headers_reserve(w, a, &m->list, FIELDS_FIRST) == 0)
		rc = hpack_decode(w, &h->hpack, block, &limits, a, &m->list);
	m->is_too_large = rc == HPACK_TOO_LARGE;
	if (!hpack_is_fatal(rc))
		return true;
	if (rc == HPACK_NO_MEMORY)
		return h2_fail(w, h, H2_INTERNAL_ERROR, HTTP_REASON_OUT_OF_MEMORY);
	return h2_fail(w, h, H2_COMPRESSION_ERROR, HTTP_REASON_H2_COMPRESSION);
}

static void read_head(struct foil_worker *w, struct h2_conn *h, const struct target *t, bool end, struct meaning *m)
{
	if (m->is_too_large) {
		m->head = (struct http_head){.version = HTTP_VERSION_2, .path = FOIL_SLICE("")};
		m->why = HTTP_REASON_H2_HEADERS_TOO_LARGE;
	} else if (t->what == FOR_REQUEST) {
		m->why = h2_read_request(w, t->x->hs.arena, &m->list, h->c->limits, end, &m->head);
	} else {
		m->why = h2_read_response(&m->list, end, &m->head);
	}
}

#ifdef FOIL_CHECKS
/* What was recalled is what decoding gives, which leaves the table as it is or the block would not have been kept. */
static bool is_meant(struct foil_worker *w, struct h2_conn *h, struct foil_slice block, const struct target *t, const struct http_head *recalled)
{
	uint64_t version = h->hpack.version;
	struct meaning m;

	if (!decode(w, h, block, t, &m))
		return true; /* no memory */
	read_head(w, h, t, h->block_flags & H2_END_STREAM, &m);
	if (m.why == HTTP_REASON_OUT_OF_MEMORY)
		return true;
	if (m.why != HTTP_REASON_OK || version != h->hpack.version || m.head.headers.n != recalled->headers.n || m.head.method != recalled->method ||
	    m.head.status != recalled->status || m.head.body != recalled->body || m.head.content_length != recalled->content_length ||
	    !foil_slice_eq(m.head.method_text, recalled->method_text) || !foil_slice_eq(m.head.scheme, recalled->scheme) ||
	    !foil_slice_eq(m.head.authority, recalled->authority) || !foil_slice_eq(m.head.path, recalled->path) ||
	    memcmp(m.head.headers.lacks, recalled->headers.lacks, sizeof(recalled->headers.lacks)) != 0)
		return false;
	for (uint16_t i = 0; i < recalled->headers.n; i++) {
		const struct http_header *a = &m.head.headers.list[i], *b = &recalled->headers.list[i];
		if (a->id != b->id || a->judged != b->judged || a->is_removed != b->is_removed || !foil_slice_eq(a->name, b->name) ||
		    !foil_slice_eq(a->value, b->value))
			return false;
	}
	return true;
}
#endif

/* A head, from memory where it was there before. False: the connection has failed. */
static bool find_meaning(struct foil_worker *w, struct h2_conn *h, struct foil_slice block, const struct target *t, struct meaning *m)
{
	bool end = h->block_flags & H2_END_STREAM;
	struct h2_memo *to_fill;

	if (t->what != FOR_REQUEST && t->what != FOR_RESPONSE)
		return decode(w, h, block, t, m);
	m->why = HTTP_REASON_OK;
	if (h2_memo_recall(w, h, block, end, t->x->hs.arena, &m->head, &to_fill)) {
		FOIL_DEBUG_ASSERT(is_meant(w, h, block, t, &m->head));
		return true;
	}
	if (!decode(w, h, block, t, m))
		return false;
	read_head(w, h, t, end, m);
	if (to_fill && m->why == HTTP_REASON_OK)
		h2_memo_fill(to_fill, h, &m->head);
	return true;
}

static void block_done(struct foil_worker *w, struct h2_conn *h)
{
	foil_arena_reset(w, &h->scratch);
	h->block = NULL;
	h->block_bytes = h->block_cap = 0;
	h->block_id = 0;
	h->block_since_us = 0;
}

/* The block is whole. n_consume bytes of rx are it, when it was not gathered. */
static bool complete(struct foil_worker *w, struct h2_conn *h, struct foil_slice block, uint32_t n_consume)
{
	struct meaning m;
	struct target t = h->c->is_server ? server_target(w, h) : client_target(h);

	if (t.what == FOR_GONE)
		return false;
	if (t.x)
		t.x->hs.rx_wire_bytes += block.n_bytes + H2_FRAME_HEADER_BYTES;
	if (!find_meaning(w, h, block, &t, &m))
		return false;
	if (n_consume)
		h2_consume(h, n_consume);
	h->in = H2_IN_FRAME;
	act(w, h, &t, &m);
	block_done(w, h);
	return !h2_is_over(h);
}

/* ---- frames ---- */
/* Takes padding and priority off a whole payload. */
static bool fragment_of(struct foil_worker *w, struct h2_conn *h, struct foil_slice payload, struct foil_slice *out)
{
	struct foil_cur c = cur_of(payload.data, payload.n_bytes);
	uint8_t flags = h->frame.flags;
	uint32_t n_pad = 0;

	if (h->frame.type == H2_CONTINUATION) {
		*out = payload;
		return true;
	}
	if (flags & H2_PADDED)
		n_pad = cur_u8(&c);
	if (flags & H2_PRIORITY_FLAG) {
		h->block_depends_on_itself = (cur_be32(&c) & H2_ID_MAX) == h->frame.stream_id;
		(void)cur_u8(&c); /* the weight: not used (RFC 9113 5.3.2) */
	}
	if (c.short_read)
		return h2_fail(w, h, H2_FRAME_SIZE_ERROR, HTTP_REASON_H2_FRAME_SIZE);
	if (n_pad > cur_left(&c))
		return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_FRAME);
	*out = cur_slice(&c, cur_left(&c) - n_pad);
	return true;
}

bool h2_block_begin(struct foil_worker *w, struct h2_conn *h)
{
	const struct h2_frame *f = &h->frame;

	if (f->type == H2_CONTINUATION) {
		if (!h->block_id)
			return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_FRAME);
		if (++h->n_continuations > H2_CONTINUATIONS_MAX)
			return h2_fail(w, h, H2_ENHANCE_YOUR_CALM, HTTP_REASON_H2_BLOCK_TOO_LARGE);
	} else {
		if (!(f->stream_id & 1) || (!h->c->is_server && h2_id_is_idle(h, f->stream_id)))
			return h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_STREAM_ID);
		h->block_id = f->stream_id;
		h->block_flags = f->flags;
		h->block_depends_on_itself = false;
		h->n_continuations = 0;
		h->block_since_us = w->now_us;
	}
	if (h->block_bytes + f->length_bytes > H2_BLOCK_BYTES_MAX)
		return h2_fail(w, h, H2_ENHANCE_YOUR_CALM, HTTP_REASON_H2_BLOCK_TOO_LARGE);
	h->block_frame_at = h->block_bytes;
	h->in = H2_IN_BLOCK;
	return true;
}

/* Room for the rest of this frame. */
static bool gather_room(struct foil_worker *w, struct h2_conn *h)
{
	uint32_t want = h->block_bytes + h->frame_left_bytes;
	uint32_t cap = want <= GATHER_BYTES_FIRST ? GATHER_BYTES_FIRST : want <= GATHER_BYTES_CHUNK ? GATHER_BYTES_CHUNK : H2_BLOCK_BYTES_MAX;

	if (want <= h->block_cap)
		return true;
	char *p = foil_arena_alloc(w, &h->scratch, cap);
	if (!p)
		return h2_fail(w, h, H2_INTERNAL_ERROR, HTTP_REASON_OUT_OF_MEMORY);
	if (h->block_bytes)
		memcpy(p, h->block, h->block_bytes);
	h->block = p;
	h->block_cap = cap;
	return true;
}

/* The frame's payload is in the block, padding and priority with it: they go. */
static bool frame_gathered(struct foil_worker *w, struct h2_conn *h)
{
	struct foil_slice fragment = {"", 0};

	if (h->block && !fragment_of(w, h, foil_slice_of(&h->block[h->block_frame_at], h->block_bytes - h->block_frame_at), &fragment))
		return false;
	if (!h->block && (h->frame.flags & (H2_PADDED | H2_PRIORITY_FLAG)) && h->frame.type == H2_HEADERS)
		return h2_fail(w, h, H2_FRAME_SIZE_ERROR, HTTP_REASON_H2_FRAME_SIZE);
	if (fragment.n_bytes)
		memmove(&h->block[h->block_frame_at], fragment.data, fragment.n_bytes);
	h->block_bytes = h->block_frame_at + fragment.n_bytes;
	if (h->frame.flags & H2_END_HEADERS)
		return complete(w, h, foil_slice_of(h->block ? h->block : "", h->block_bytes), 0);
	h->in = H2_IN_FRAME;
	return true;
}

bool h2_block_step(struct foil_worker *w, struct h2_conn *h)
{
	struct stream *s = h->c->s;
	struct foil_slice seg = s->rx.head ? foil_mbuf_slice(s->rx.head) : (struct foil_slice){"", 0};
	uint32_t n = FOIL_MIN(h->frame_left_bytes, s->rx.n_bytes);

	if (!h->block && h->frame.type == H2_HEADERS && (h->frame.flags & H2_END_HEADERS) && h->frame_left_bytes == h->frame.length_bytes &&
	    n == h->frame_left_bytes && seg.n_bytes >= n && n) {
		struct foil_slice fragment;
		if (!fragment_of(w, h, foil_slice_of(seg.data, n), &fragment))
			return false;
		return complete(w, h, fragment, n);
	}
	if (n) {
		if (!gather_room(w, h))
			return false;
		foil_chain_copy_out(&s->rx, 0, &h->block[h->block_bytes], n);
		h->block_bytes += n;
		h->frame_left_bytes -= n;
		h2_consume(h, n);
	}
	return h->frame_left_bytes ? false : frame_gathered(w, h);
}
