/* What users send, and how it goes out. While the transport has room and nothing of their stream waits, heads and short bodies are put behind what is to
 * go out already; all else waits on its stream, and h2_flush lets every stream that may send put one frame in turn while the transport has room: so
 * a peer that does not read fills its streams, never our memory, and a large answer does not hold up a small one. A client's heads cannot wait,
 * since their ids must go out in order (RFC 9113 5.1.1).
 * Invariant: what a content-length promised is what is sent, or the stream is reset: a truncated message never looks whole. */
#include <errno.h>

#include "dataplane/http/h2_priv.h"

/* ---- control frames ---- */
void h2_put(struct foil_worker *w, struct h2_conn *h, const struct h2_frame *f, const void *payload)
{
	h->c->wants_flush = true;
	if (h->owes_failure || !h->c->s)
		return;
	if (!h2_guard_out(h))
		h->owes_failure = HTTP_REASON_H2_OUTBOUND_FLOOD;
	else if (h2_frame_append(w, &h->out, f, payload) != 0)
		h->owes_failure = HTTP_REASON_OUT_OF_MEMORY;
}

static void put_be32(uint8_t p[4], uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

void h2_put_u32(struct foil_worker *w, struct h2_conn *h, enum h2_type type, uint32_t stream_id, uint32_t value)
{
	const struct h2_frame f = {.length_bytes = 4, .type = (uint8_t)type, .stream_id = stream_id};
	uint8_t payload[4];

	put_be32(payload, value);
	h2_put(w, h, &f, payload);
}

void h2_put_goaway(struct foil_worker *w, struct h2_conn *h, uint32_t last_id, enum h2_code code)
{
	const struct h2_frame f = {.length_bytes = 8, .type = H2_GOAWAY};
	uint8_t payload[8];

	h->goaway_id = last_id;
	put_be32(&payload[0], last_id);
	put_be32(&payload[4], code);
	h->c->wants_flush = true;
	if (h2_frame_append(w, &h->out, &f, payload) != 0)
		foil_reason(w, HTTP, OUT_OF_MEMORY); /* the connection closes without a word */
}

/* ---- who may send ---- */
static bool has_output(const struct h2_stream *x)
{
	if (x->tx == H2_TX_DONE)
		return false;
	if (!foil_chain_is_empty(&x->tx_head))
		return true;
	if (!foil_chain_is_empty(&x->tx_body))
		return x->tx_window > 0;
	return x->tx == H2_TX_ENDED;
}

void h2_stream_may_send(struct h2_conn *h, struct h2_stream *x)
{
	if (x->is_dead || h2_link_is_on(&x->sending) || !has_output(x))
		return;
	h2_link_add(&h->sending, &x->sending);
	h->c->wants_flush = true;
}

void h2_unblock(struct h2_conn *h)
{
	while (!h2_link_is_empty(&h->blocked)) {
		struct h2_stream *x = FOIL_CONTAINER_OF(h->blocked.next, struct h2_stream, sending);
		h2_link_del(&x->sending);
		h2_stream_may_send(h, x);
	}
}

/* ---- what users send ---- */
static void tx_done(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x)
{
	x->tx = H2_TX_DONE;
	x->hs.tx_end_us = w->now_us;
	h2_stream_tell(h, x);
}

static bool status_has_no_body(uint16_t status)
{
	return status < 200 || status == 204 || status == 304;
}

static bool says_length(const struct h2_stream *x, const struct http_head *head)
{
	if (head->body != HTTP_BODY_LENGTH)
		return false;
	if (!x->hs.conn->is_server)
		return !head->is_upgrade; /* bytes of a tunnel have no number, not even HTTP/1.1's of 0 */
	return head->status == 304 || !status_has_no_body(head->status);
}

/* A request that is answered whole needs no more of what it still sends: that is dropped, not waited for (RFC 9113 8.1). */
static void answered(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x)
{
	uint32_t n = x->rx_held.n_bytes;

	if (!h->c->is_server || x->rx == H2_RX_DONE || x->is_tunnel)
		return;
	x->rx = x->rx == H2_RX_ENDED ? H2_RX_DONE : H2_RX_IGNORED;
	foil_chain_clear(&x->rx_held);
	h2_flow_credit(w, h, x, n);
}

/* Client side: the head goes out now, under the next id. */
static int send_request(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, struct h2_encode_params *p)
{
	uint64_t before = h->out.n_bytes;
	const struct http_header *token = p->head->is_upgrade ? http_header_get(&p->head->headers, HTTP_HDR_UPGRADE) : NULL;

	if (token && h->had_settings && !h->peer_takes_connect)
		return -EPROTONOSUPPORT;
	p->kind = H2_HEAD_REQUEST;
	p->stream_id = h->next_id;
	p->table = h2_table(h);
	if (h2_encode(w, p, &h->out) != 0)
		return -ENOBUFS;
	x->id = h->next_id;
	h->next_id += 2;
	h2_stream_put_in_bucket(h, x);
	x->method = (uint8_t)p->head->method;
	if (token) {
		x->is_upgrade = true;
		x->upgrade_token = token->value;
	}
	x->tx_from_bytes = h->written_bytes + before;
	x->hs.tx_wire_bytes += h->out.n_bytes - before;
	h->c->wants_flush = true;
	return 0;
}

/* What x has may go into out at once, ahead of streams that wait for their turn: the transport has room, and of x nothing waits. */
static bool may_go_now(const struct h2_conn *h, const struct h2_stream *x)
{
	const struct stream *s = h->c->s;

	return s && !h2_link_is_on(&x->sending) && foil_chain_is_empty(&x->tx_head) && s->tx_queued_bytes + h->out.n_bytes < s->tx_high_bytes;
}

static int send_response(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, struct h2_encode_params *p)
{
	bool now = may_go_now(h, x);
	uint32_t before = h->out.n_bytes;

	p->kind = H2_HEAD_RESPONSE;
	p->stream_id = x->id;
	p->table = now ? h2_table(h) : NULL;
	if (h2_encode(w, p, now ? &h->out : &x->tx_head) != 0)
		return -ENOBUFS;
	if (!now)
		return 0;
	if (!x->hs.tx_wire_bytes)
		x->tx_from_bytes = h->written_bytes + before;
	x->hs.tx_wire_bytes += h->out.n_bytes - before;
	h->c->wants_flush = true;
	return 0;
}

int h2_send_head(struct foil_worker *w, struct http_stream *hs, const struct http_head *head, bool end)
{
	struct h2_stream *x = h2_of(hs);
	struct h2_conn *h = hs->conn->h2;
	struct h2_encode_params p = {.head = head, .ends = end, .puts_size_update = h->puts_size_update};
	bool is_informational = h->c->is_server && head->status < 200;
	struct http_head accepted;

	if (x->is_dead || x->tx != H2_TX_HEAD || h2_is_over(h))
		return -ENOBUFS;
	if (h->c->is_server && head->status == 101) { /* CONNECT is answered with 200 (RFC 8441 5) */
		if (!x->is_upgrade)
			return -ENOBUFS;
		accepted = *head;
		accepted.status = 200;
		accepted.body = HTTP_BODY_NONE;
		p.head = head = &accepted;
		x->is_tunnel = true;
		is_informational = false;
	}
	if (is_informational) {
		if (head->status == 100 && x->has_continued)
			return 0;
		x->has_continued |= head->status == 100;
		p.ends = false;
	} else if (h->c->is_server && (x->method == HTTP_METHOD_HEAD || status_has_no_body(head->status))) {
		p.ends = true; /* whatever body is handed over, none is sent */
	}
	p.says_length = !is_informational && says_length(x, head);
	int rc = h->c->is_server ? send_response(w, h, x, &p) : send_request(w, h, x, &p);
	if (rc != 0)
		return rc;
	if (!is_informational) {
		x->tx = end ? H2_TX_ENDED : H2_TX_BODY;
		x->ends_in_head = p.ends;
		x->drops_body = p.ends;
		x->has_tx_length = !p.ends && p.says_length;
		x->tx_left_bytes = head->content_length;
		if (end)
			answered(w, h, x);
	}
	if (end && !is_informational && (!h->c->is_server || (x->ends_in_head && foil_chain_is_empty(&x->tx_head))))
		tx_done(w, h, x); /* out with the head already */
	h2_stream_may_send(h, x);
	return 0;
}

static int send_some(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, struct foil_chain *out);

/* A short body, which would be copied anyhow, and what ends the stream behind it. */
static void send_now(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x)
{
	uint32_t before = h->out.n_bytes;
	int rc = has_output(x) ? send_some(w, h, x, &h->out) : 0;

	if (rc == 0 && has_output(x) && foil_chain_is_empty(&x->tx_body)) /* trailers */
		rc = send_some(w, h, x, &h->out);
	if (rc != 0)
		h->owes_failure = HTTP_REASON_OUT_OF_MEMORY;
	x->hs.tx_wire_bytes += h->out.n_bytes - before;
	h->c->wants_flush = true;
}

/* The user broke its own promise, or there is no memory. */
static FOIL_COLD void send_failed(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, enum http_reason reason)
{
	h2_stream_fail(w, h, x, H2_INTERNAL_ERROR, HTTP_RESET_LOCAL, reason);
}

static bool length_is_kept(struct h2_stream *x, uint32_t n_bytes, bool end)
{
	if (!x->has_tx_length)
		return true;
	if (n_bytes > x->tx_left_bytes || (end && n_bytes != x->tx_left_bytes))
		return false;
	x->tx_left_bytes -= n_bytes;
	return true;
}

void h2_send_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	struct h2_stream *x = h2_of(hs);
	struct h2_conn *h = hs->conn->h2;

	if (x->is_dead || x->tx != H2_TX_BODY || h2_is_over(h) || x->drops_body) {
		foil_chain_clear(own_data);
		if (x->is_dead || x->tx != H2_TX_BODY || !end)
			return;
	}
	if (!length_is_kept(x, own_data->n_bytes, end)) {
		foil_chain_clear(own_data);
		send_failed(w, h, x, HTTP_REASON_TX_LENGTH_MISMATCH);
		return;
	}
	hs->tx_body_bytes += own_data->n_bytes;
	h->tx_held_bytes += own_data->n_bytes;
	foil_chain_move(&x->tx_body, own_data);
	if (x->tx_body.n_bytes >= h2_stream_tx_high(h))
		x->was_full = true;
	if (end) {
		x->tx = H2_TX_ENDED;
		answered(w, h, x);
	}
	if (x->tx_body.n_bytes <= H2_COPY_BYTES_MAX && may_go_now(h, x))
		send_now(w, h, x);
	h2_stream_may_send(h, x);
}

int h2_send_trailers(struct foil_worker *w, struct http_stream *hs, const struct http_headers *trailers)
{
	struct h2_stream *x = h2_of(hs);
	struct h2_conn *h = hs->conn->h2;
	struct foil_chain none = {0};
	const struct h2_encode_params p = {
		.headers = trailers, .kind = H2_HEAD_TRAILERS, .stream_id = x->id, .ends = true, .puts_size_update = h->puts_size_update,
	};

	if (x->is_dead || x->tx != H2_TX_BODY || h2_is_over(h))
		return -ENOBUFS;
	if (!x->drops_body && trailers && trailers->n && h2_encode(w, &p, &x->tx_tail) != 0)
		return -ENOBUFS;
	h2_send_data(w, hs, &none, true);
	return 0;
}

uint32_t h2_tx_room(const struct http_stream *hs)
{
	struct h2_stream *x = FOIL_CONTAINER_OF(hs, struct h2_stream, hs);
	uint32_t high = h2_stream_tx_high(hs->conn->h2);

	if (x->tx_body.n_bytes < high)
		return high - x->tx_body.n_bytes;
	x->was_full = true; /* it was said so: writable is owed */
	return 0;
}

/* ---- output ---- */
static bool is_own_seg(const struct rte_mbuf *m)
{
	return RTE_MBUF_DIRECT(m) && rte_mbuf_refcnt_read(m) == 1;
}

/* All of own_from to the end of out: what is small is copied behind what is there, so that a burst of answers leaves in few segments. */
static void put_small(struct foil_chain *out, struct foil_chain *own_from)
{
	uint32_t n = own_from->n_bytes;

	if (n == 0 || n > H2_COPY_BYTES_MAX || n > foil_chain_tailroom(out)) {
		foil_chain_move(out, own_from);
		return;
	}
	foil_chain_copy_out(own_from, 0, rte_pktmbuf_mtod_offset(out->tail, void *, out->tail->data_len), n);
	out->tail->data_len = (uint16_t)(out->tail->data_len + n);
	out->n_bytes += n;
	foil_chain_clear(own_from);
}

/* Moves n_bytes of body to out as one DATA frame: its header in the head room of the first segment where that is nobody else's. */
static int put_data(struct foil_worker *w, struct h2_stream *x, uint32_t n_bytes, bool ends, struct foil_chain *out)
{
	const struct h2_frame f = {.length_bytes = n_bytes, .type = H2_DATA, .flags = ends ? H2_END_STREAM : 0, .stream_id = x->id};
	struct foil_chain data = {0};
	uint8_t header[H2_FRAME_HEADER_BYTES];
	struct rte_mbuf *m;

	h2_frame_write(header, &f);
	if (n_bytes <= H2_COPY_BYTES_MAX && foil_chain_tailroom(out) >= sizeof(header) + n_bytes) {
		char *at = rte_pktmbuf_mtod_offset(out->tail, char *, out->tail->data_len);
		memcpy(at, header, sizeof(header));
		foil_chain_copy_out(&x->tx_body, 0, at + sizeof(header), n_bytes);
		foil_chain_consume(&x->tx_body, n_bytes);
		out->tail->data_len = (uint16_t)(out->tail->data_len + sizeof(header) + n_bytes);
		out->n_bytes += (uint32_t)sizeof(header) + n_bytes;
		return 0;
	}
	if (foil_chain_split(w, &x->tx_body, n_bytes, &data) != 0)
		return -ENOBUFS;
	m = data.head;
	if (m && is_own_seg(m) && rte_pktmbuf_headroom(m) >= sizeof(header)) {
		m->data_off = (uint16_t)(m->data_off - sizeof(header));
		m->data_len = (uint16_t)(m->data_len + sizeof(header));
		data.n_bytes += (uint32_t)sizeof(header);
		memcpy(rte_pktmbuf_mtod(m, void *), header, sizeof(header));
	} else if (foil_chain_append(w, out, header, sizeof(header)) != 0) {
		foil_chain_move(&data, &x->tx_body); /* as it was, in order */
		x->tx_body = data;
		return -ENOBUFS;
	}
	foil_chain_move(out, &data);
	return 0;
}

/* How much of the body goes in the next frame: whole segments where they come to something, so that none is cut. */
static uint32_t frame_bytes(const struct h2_conn *h, const struct h2_stream *x)
{
	int64_t most = FOIL_MIN(FOIL_MIN(h->tx_window, x->tx_window), (int64_t)H2_FRAME_BYTES_MAX);
	uint32_t n = 0;

	if (most <= 0)
		return 0;
	if (x->tx_body.n_bytes <= (uint64_t)most)
		return x->tx_body.n_bytes;
	for (const struct rte_mbuf *m = x->tx_body.head; m && n + m->data_len <= (uint64_t)most; m = m->next)
		n += m->data_len;
	return n ? n : (uint32_t)most;
}

static int send_body(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, struct foil_chain *out)
{
	uint32_t n = frame_bytes(h, x);
	bool ends = x->tx == H2_TX_ENDED && n == x->tx_body.n_bytes && foil_chain_is_empty(&x->tx_tail);

	if (n == 0 && x->tx_body.n_bytes)
		return 0;
	if (put_data(w, x, n, ends, out) != 0)
		return -ENOBUFS;
	h->tx_window -= n;
	h->tx_held_bytes -= n;
	x->tx_window -= n;
	h->guard.n_data_sent++;
	if (x->was_full && x->tx_body.n_bytes <= h2_stream_tx_high(h) / 2) {
		x->was_full = false;
		x->owes_writable = true;
		h2_stream_tell(h, x);
	}
	if (ends)
		tx_done(w, h, x);
	return 0;
}

/* One turn of one stream: its heads and one frame of its body, or its end. */
static int send_some(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, struct foil_chain *out)
{
	if (!foil_chain_is_empty(&x->tx_head)) {
		if (!x->hs.tx_wire_bytes)
			x->tx_from_bytes = h->written_bytes + out->n_bytes;
		put_small(out, &x->tx_head);
	}
	if (x->ends_in_head) {
		if (x->tx == H2_TX_ENDED)
			tx_done(w, h, x);
		return 0;
	}
	if (x->tx < H2_TX_BODY)
		return 0;
	if (!foil_chain_is_empty(&x->tx_body) || (x->tx == H2_TX_ENDED && foil_chain_is_empty(&x->tx_tail)))
		return send_body(w, h, x, out);
	if (x->tx == H2_TX_ENDED) {
		put_small(out, &x->tx_tail);
		tx_done(w, h, x);
	}
	return 0;
}

static void send_in_turns(struct foil_worker *w, struct h2_conn *h, struct foil_chain *out)
{
	struct stream *s = h->c->s;

	while (!h2_link_is_empty(&h->sending) && s->tx_queued_bytes + out->n_bytes < s->tx_high_bytes) {
		struct h2_stream *x = FOIL_CONTAINER_OF(h->sending.next, struct h2_stream, sending);
		uint32_t before = out->n_bytes;
		h2_link_del(&x->sending);
		if (send_some(w, h, x, out) != 0) {
			h->owes_failure = HTTP_REASON_OUT_OF_MEMORY;
			return;
		}
		x->hs.tx_wire_bytes += out->n_bytes - before;
		if (!has_output(x))
			continue;
		h2_link_add(h->tx_window > 0 || foil_chain_is_empty(&x->tx_body) ? &h->sending : &h->blocked, &x->sending);
	}
}

/* One chain a turn: control frames first, then the streams. */
static void write_out(struct foil_worker *w, struct h2_conn *h)
{
	struct foil_chain out = {0};

	foil_chain_move(&out, &h->out);
	if (!h2_is_over(h))
		send_in_turns(w, h, &out);
	h->written_bytes += out.n_bytes;
	if (out.n_bytes)
		stream_write(w, h->c->s, &out);
}

void h2_flush(struct foil_worker *w, struct http_conn *c)
{
	struct h2_conn *h = c->h2;

	if (!c->s || c->is_closing || h->in == H2_IN_PREFACE)
		return; /* nothing goes to who may not speak HTTP/2 at all */
	if (!h->owes_failure)
		write_out(w, h);
	if (h->owes_failure) {
		enum http_reason why = (enum http_reason)h->owes_failure;
		h->owes_failure = 0;
		(void)h2_fail(w, h, why == HTTP_REASON_OUT_OF_MEMORY ? H2_INTERNAL_ERROR : H2_ENHANCE_YOUR_CALM, why); /* nothing follows */
		return;
	}
	h2_tell_all(w, h);
	h2_tell_ready(w, h);
	h2_maybe_close(w, h);
}
