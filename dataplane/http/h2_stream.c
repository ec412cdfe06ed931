/* Streams of a connection: found by id, told what came for them, finished when both directions are, ended otherwise. The states of RFC 9113
 * section 5.1 are the pair (rx, tx): idle is not in the table, open is both below ENDED, half-closed one of them, closed is not in the table any
 * more; how the last ones ended is kept for frames that come late.
 * Invariant: a stream that is dead is on no list but dead, and its user has been told or has ended it. */
#include "dataplane/http/h2_priv.h"

static struct h2_stream **bucket_of(struct h2_conn *h, uint32_t id)
{
	return &h->bucket[(id >> 1) % H2_BUCKETS];
}

struct h2_stream *h2_stream_new(struct foil_worker *w, struct h2_conn *h, uint32_t id, struct foil_arena *arena)
{
	struct h2_stream *x = http_pool_get(&w->http->h2_streams);

	if (!x) {
		foil_reason(w, HTTP, STREAMS_EXHAUSTED);
		return NULL;
	}
	foil_count(w, HTTP, EXCHANGES, 1);
	x->hs.conn = h->c;
	x->hs.arena = arena ? arena : &x->own_arena;
	x->hs.started_us = w->now_us;
	x->id = id;
	x->rx_window = h->c->limits->h2_stream_window_bytes;
	x->tx_window = h->peer_window;
	h2_link_init(&x->sending);
	h2_link_init(&x->telling);
	h2_link_add(&h->streams, &x->all);
	if (id)
		h2_stream_put_in_bucket(h, x);
	h->n_streams++;
	h->guard.n_opened++;
	return x;
}

void h2_stream_put_in_bucket(struct h2_conn *h, struct h2_stream *x)
{
	struct h2_stream **b = bucket_of(h, x->id);

	x->next_in_bucket = *b;
	*b = x;
}

struct h2_stream *h2_stream_find(const struct h2_conn *h, uint32_t id)
{
	struct h2_stream *x = h->bucket[(id >> 1) % H2_BUCKETS];

	while (x && x->id != id)
		x = x->next_in_bucket;
	return x;
}

static void leave_bucket(struct h2_conn *h, struct h2_stream *x)
{
	for (struct h2_stream **at = bucket_of(h, x->id); *at; at = &(*at)->next_in_bucket) {
		if (*at == x) {
			*at = x->next_in_bucket;
			return;
		}
	}
}

enum h2_closed h2_stream_how_closed(const struct h2_conn *h, uint32_t id)
{
	for (uint32_t i = 0; i < H2_CLOSED_KEPT; i++)
		if (h->closed_id[i] == id)
			return (enum h2_closed)h->closed_how[i];
	return H2_CLOSED_UNKNOWN;
}

/* Its last word on a stream that we had ended already: what it sends after that was not under way. */
void h2_stream_peer_reset(struct h2_conn *h, uint32_t id)
{
	for (uint32_t i = 0; i < H2_CLOSED_KEPT; i++)
		if (h->closed_id[i] == id && h->closed_how[i] == H2_CLOSED_BY_US)
			h->closed_how[i] = H2_CLOSED_BY_PEER;
}

bool h2_id_is_idle(const struct h2_conn *h, uint32_t id)
{
	if (h->c->is_server)
		return (id & 1) ? id > h->last_peer_id : true;
	return (id & 1) ? id >= h->next_id : true; /* the server has none: pushes are off */
}

void h2_stream_end(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, enum h2_closed how)
{
	uint32_t n_held = x->rx_held.n_bytes;

	FOIL_ASSERT(!x->is_dead);
	x->is_dead = true;
	if (x->id) {
		leave_bucket(h, x);
		h->closed_at = (h->closed_at + 1) % H2_CLOSED_KEPT;
		h->closed_id[h->closed_at] = x->id;
		h->closed_how[h->closed_at] = (uint8_t)how;
	}
	h2_link_del(&x->all);
	h2_link_del(&x->sending);
	h2_link_del(&x->telling);
	h->tx_held_bytes -= x->tx_body.n_bytes;
	foil_chain_clear(&x->rx_held);
	foil_chain_clear(&x->tx_head);
	foil_chain_clear(&x->tx_body);
	foil_chain_clear(&x->tx_tail);
	x->next_dead = h->dead;
	h->dead = x;
	h->c->owes_reap = true;
	h->c->owes_ready = true;
	h->c->wants_flush = true; /* the connection may have no reason to stay */
	if (--h->n_streams == 0)
		h->idle_since_us = w->now_us;
	h2_flow_credit(w, h, NULL, n_held);
}

void h2_reap(struct foil_worker *w, struct http_conn *c)
{
	struct h2_conn *h = c->h2;

	while (h->dead) {
		struct h2_stream *x = h->dead;
		h->dead = x->next_dead;
		foil_arena_reset(w, &x->own_arena);
		foil_count(w, HTTP, EXCHANGES, -1);
		http_pool_put(&w->http->h2_streams, x);
	}
}

void h2_stream_lost(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, const struct http_reset_info *info, enum h2_closed how)
{
	struct http_reset_info mine = *info;
	const struct stream *s = h->c->s;

	if (info->reason != HTTP_REASON_OK)
		foil_reason_id(w, HTTP, info->reason);
	mine.rx_started = x->rx != H2_RX_HEAD;
	mine.tx_acked_any = x->hs.tx_wire_bytes && s && h->written_bytes - FOIL_MIN(h->written_bytes, s->tx_queued_bytes) > x->tx_from_bytes;
	h2_stream_end(w, h, x, how);
	if (x->ev && x->ev->reset)
		HTTP_TELL(w, x->ev->reset(w, &x->hs, &mine));
}

void h2_stream_fail(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, enum h2_code code, enum http_reset kind, enum http_reason reason)
{
	const struct http_reset_info info = {.kind = kind, .reason = reason};

	h2_put_u32(w, h, H2_RST_STREAM, x->id, code);
	h2_stream_lost(w, h, x, &info, H2_CLOSED_BY_US);
	if (kind == HTTP_RESET_PROTOCOL && !h2_is_over(h))
		(void)h2_guard_closed(w, h, x, true); /* whoever goes on looks at h2_is_over */
}

void h2_stream_sent(struct foil_worker *w, struct h2_stream *x)
{
	struct h2_conn *h = x->hs.conn->h2;
	enum h2_closed how = H2_CLOSED_ENDED;

	if (x->is_dead || !x->ev || (x->is_tunnel && x->rx != H2_RX_DONE))
		return;
	if (x->rx < H2_RX_ENDED || x->rx == H2_RX_IGNORED) {
		if (!h->c->is_server)
			return;
		h2_put_u32(w, h, H2_RST_STREAM, x->id, H2_NO_ERROR); /* answered; the rest is not wanted (RFC 9113 8.1) */
		how = H2_CLOSED_BY_US;
	} else if (x->rx == H2_RX_ENDED && !h->c->is_server) {
		return; /* the user is still to be told */
	}
	h2_stream_end(w, h, x, how);
	HTTP_TELL(w, x->ev->complete(w, &x->hs));
	if (!h2_is_over(h))
		(void)h2_guard_closed(w, h, x, false); /* counts; never too much */
}

static void tell_end(struct foil_worker *w, struct h2_stream *x)
{
	if (x->is_dead || x->is_paused || x->rx != H2_RX_ENDED)
		return;
	x->rx = H2_RX_DONE;
	if (x->has_trailers && x->ev->trailers) {
		HTTP_TELL(w, x->ev->trailers(w, &x->hs, &x->trailers));
	} else {
		struct foil_chain none = {0};
		HTTP_TELL(w, x->ev->data(w, &x->hs, &none, true));
	}
}

/* What has arrived goes to the user in one call, however many frames it came in. */
static void deliver(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x)
{
	struct foil_chain data = {0};
	bool with_end = x->rx == H2_RX_ENDED && !(x->has_trailers && x->ev->trailers);

	if (x->is_paused)
		return;
	if (!foil_chain_is_empty(&x->rx_held)) {
		foil_chain_move(&data, &x->rx_held);
		if (with_end)
			x->rx = H2_RX_DONE;
		x->hs.rx_body_bytes += data.n_bytes;
		h2_flow_credit(w, h, x, data.n_bytes);
		HTTP_TELL(w, x->ev->data(w, &x->hs, &data, with_end));
	}
	tell_end(w, x); /* not when it was answered meanwhile */
	if (!x->is_dead && x->rx == H2_RX_DONE)
		h2_stream_maybe_finish(w, x);
}

void h2_tell_all(struct foil_worker *w, struct h2_conn *h)
{
	while (!h2_link_is_empty(&h->telling) && !h2_is_over(h)) {
		struct h2_stream *x = FOIL_CONTAINER_OF(h->telling.next, struct h2_stream, telling);
		h2_link_del(&x->telling);
		if (!x->ev)
			continue;
		if (x->rx == H2_RX_BODY || x->rx == H2_RX_ENDED)
			deliver(w, h, x);
		if (!x->is_dead && x->owes_writable && x->tx == H2_TX_BODY) {
			x->owes_writable = false;
			if (x->ev->writable)
				x->ev->writable(w, &x->hs);
		}
		if (!x->is_dead)
			h2_stream_maybe_finish(w, x);
	}
}
