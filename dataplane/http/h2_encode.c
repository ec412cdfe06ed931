/* http_head to HEADERS and CONTINUATION frames. A head that fits one mbuf, which is nearly every one, is written there at once; a larger one
 * is put together in scratch memory and cut into frames. As in h1_encode.c nothing goes out that a decoder of ours would refuse, and fields that
 * belong to a connection are passed over. */
#include <errno.h>

#include "dataplane/http/h1_priv.h"
#include "dataplane/http/h1_scan.h"
#include "dataplane/http/h2_priv.h"

#define SIZE_UPDATE_TO_ZERO 0x20u /* RFC 7541 6.3 */
#define ROOM_BYTES_MIN 512u       /* most heads take half of it */
#define FIXED_BYTES_MAX 128u      /* :status or :method, :scheme, te, content-length and the size update, without what is in slices */

/* Fields that are written from what http_head says, or belong to a connection. */
enum { OURS = 1, OURS_TO_SERVERS = 2, OURS_BY_NAME = 3 };
static const uint8_t ours[HTTP_HDR_COUNT] = {
	[HTTP_HDR_CONNECTION] = OURS, [HTTP_HDR_KEEP_ALIVE] = OURS, [HTTP_HDR_PROXY_CONNECTION] = OURS, [HTTP_HDR_TRANSFER_ENCODING] = OURS,
	[HTTP_HDR_UPGRADE] = OURS, [HTTP_HDR_CONTENT_LENGTH] = OURS, [HTTP_HDR_HTTP2_SETTINGS] = OURS, [HTTP_HDR_TE] = OURS, [HTTP_HDR_HOST] = OURS_TO_SERVERS,
	[HTTP_HDR_OTHER] = OURS_BY_NAME,
};

static bool is_ours(const struct http_header *h, enum h2_head_kind kind)
{
	switch (ours[h->id]) {
	case OURS: return true;
	case OURS_TO_SERVERS: return kind != H2_HEAD_RESPONSE;
	default: return h->name.n_bytes == 0 || h->name.data[0] == ':';
	}
}

static bool span_is(struct foil_slice s, uint8_t cls)
{
	struct foil_cur c = cur_of(s.data, s.n_bytes);

	return s.n_bytes && h1_span(&c, cls) == s.n_bytes;
}

static bool name_may_go(const struct http_header *h)
{
	struct foil_cur c = cur_of(h->name.data, h->name.n_bytes);
	uint8_t classes;

	return h->id != HTTP_HDR_OTHER || (h1_span_token(&c, &classes) == h->name.n_bytes && !(classes & H1_UPPER));
}

/* What a decoder of ours has let in needs no second look. */
static bool may_go(const struct http_header *h)
{
	return FOIL_LIKELY((h->judged & HTTP_JUDGED_SENDABLE) == HTTP_JUDGED_SENDABLE) || (name_may_go(h) && h1_is_value(h->value));
}

static const struct http_headers *headers_of(const struct h2_encode_params *p)
{
	return p->kind == H2_HEAD_TRAILERS ? p->headers : &p->head->headers;
}

/* Bytes that the block needs at most. */
static uint32_t block_bytes_max(const struct h2_encode_params *p)
{
	const struct http_headers *h = headers_of(p);
	uint64_t n = FIXED_BYTES_MAX;

	if (p->kind == H2_HEAD_REQUEST)
		n += (uint64_t)p->head->path.n_bytes + p->head->authority.n_bytes + p->head->method_text.n_bytes + p->head->scheme.n_bytes;
	for (uint16_t i = 0; h && i < h->n; i++)
		if (!h->list[i].is_removed)
			n += hpack_put_bytes_max(h->list[i].name, h->list[i].value);
	return (uint32_t)FOIL_MIN(n, UINT32_MAX);
}

static void put_field(struct hpack_out *o, const struct h2_encode_params *p, uint16_t id, struct foil_slice name, struct foil_slice value)
{
	if (p->table)
		hpack_put_indexed(o, p->table, id, name, value);
	else
		hpack_put(o, id, name, value);
}

static bool put_again(struct hpack_out *o, const struct h2_encode_params *p, uint16_t id, struct foil_slice value)
{
	return p->table && hpack_put_again(o, p->table, id, value);
}

/* The fields from list[0] on that are what they were last time, which is most of most heads. Returns how many. */
static uint32_t put_same(struct hpack_out *o, struct hpack_encoder *table, const struct http_header *list, uint32_t n)
{
	uint8_t *at = o->at;
	uint32_t i = 0;

	if (!table || (size_t)(o->end - at) < (size_t)n * HPACK_INDEX_BYTES_MAX)
		return 0;
	for (; i < n && !list[i].is_removed && !ours[list[i].id]; i++) {
		struct hpack_slot *s = hpack_again(table, list[i].id, list[i].value);
		if (!s)
			break;
		at = hpack_put_slot(at, table, s);
	}
	o->at = at;
	return i;
}

static bool put_path_and_scheme(struct hpack_out *o, const struct h2_encode_params *p)
{
	const struct http_head *head = p->head;

	if (!hpack_put_whole(o, HPACK_PATH, head->path) && !put_again(o, p, HPACK_PATH, head->path)) {
		if (!span_is(head->path, H1_TARGET))
			return false;
		put_field(o, p, HPACK_PATH, FOIL_SLICE(":path"), head->path);
	}
	if (!hpack_put_whole(o, HPACK_SCHEME, head->scheme))
		put_field(o, p, HPACK_SCHEME, FOIL_SLICE(":scheme"), span_is(head->scheme, H1_TOKEN) ? head->scheme : FOIL_SLICE("http"));
	return true;
}

static bool put_request(struct hpack_out *o, const struct h2_encode_params *p)
{
	const struct http_head *head = p->head;
	bool is_connect = head->method == HTTP_METHOD_CONNECT && !head->is_upgrade;
	const struct http_header *token = head->is_upgrade ? http_header_get(&head->headers, HTTP_HDR_UPGRADE) : NULL;

	if (head->has_several_hosts)
		return false;
	if (token || !hpack_put_whole(o, HPACK_METHOD, head->method_text)) {
		if (!span_is(head->method_text, H1_TOKEN) || (token && !span_is(token->value, H1_TOKEN)))
			return false;
		put_field(o, p, HPACK_METHOD, FOIL_SLICE(":method"), token ? FOIL_SLICE("CONNECT") : head->method_text);
	}
	if (token)
		put_field(o, p, HPACK_PROTOCOL, FOIL_SLICE(":protocol"), token->value);
	if (!is_connect && !put_path_and_scheme(o, p))
		return false;
	if (!head->authority.n_bytes || put_again(o, p, HPACK_AUTHORITY, head->authority))
		return true;
	if (!h1_authority_is_valid(head->authority))
		return false;
	put_field(o, p, HPACK_AUTHORITY, FOIL_SLICE(":authority"), head->authority);
	return true;
}

static void put_length(struct hpack_out *o, uint64_t v)
{
	char text[20];
	uint32_t at = sizeof(text);

	do
		text[--at] = (char)('0' + v % 10);
	while (v /= 10);
	hpack_put(o, HTTP_HDR_CONTENT_LENGTH, http_header_name(HTTP_HDR_CONTENT_LENGTH), foil_slice_of(&text[at], sizeof(text) - at));
}

/* False: a head that no peer may see. */
static bool put_block(struct hpack_out *o, const struct h2_encode_params *p)
{
	const struct http_headers *h = headers_of(p);

	if (p->puts_size_update && o->at < o->end)
		*o->at++ = SIZE_UPDATE_TO_ZERO;
	if (p->table)
		hpack_encoder_begin(o, p->table);
	if (p->kind == H2_HEAD_REQUEST && !put_request(o, p))
		return false;
	if (p->kind == H2_HEAD_RESPONSE) {
		if (p->head->status < 100 || p->head->status > 999 || p->head->status == 101)
			return false;
		hpack_put_status(o, p->head->status);
	}
	for (uint16_t i = 0; h && i < h->n; i++) {
		i = (uint16_t)(i + put_same(o, p->table, &h->list[i], h->n - i));
		if (i == h->n)
			break;
		const struct http_header *f = &h->list[i];
		if (f->is_removed || (ours[f->id] && is_ours(f, p->kind)))
			continue;
		if (FOIL_UNLIKELY(!may_go(f)))
			return false;
		put_field(o, p, f->id, f->name, f->value);
	}
	if (p->kind == H2_HEAD_REQUEST && p->head->has_te_trailers)
		put_field(o, p, HTTP_HDR_TE, http_header_name(HTTP_HDR_TE), FOIL_SLICE("trailers"));
	if (p->says_length)
		put_length(o, p->head->content_length);
	return true;
}

static int unsendable(struct foil_worker *w)
{
	foil_reason(w, HTTP, UNSENDABLE_HEAD);
	return -EBADMSG;
}

static int no_memory(struct foil_worker *w)
{
	foil_reason(w, HTTP, OUT_OF_MEMORY);
	return -ENOBUFS;
}

/* The frame into n_room bytes at base; its length, 0 for a head that no peer may see. */
static uint32_t encode_at(uint8_t *base, uint32_t n_room, const struct h2_encode_params *p)
{
	struct hpack_out o = {.at = base + H2_FRAME_HEADER_BYTES, .end = base + n_room};

	if (!put_block(&o, p) || o.is_full)
		return 0;
	uint32_t n = (uint32_t)(o.at - base);
	const struct h2_frame f = {.length_bytes = n - H2_FRAME_HEADER_BYTES, .type = H2_HEADERS, .stream_id = p->stream_id,
				   .flags = (uint8_t)(H2_END_HEADERS | (p->ends ? H2_END_STREAM : 0))};
	h2_frame_write(base, &f);
	return n;
}

/* Behind what is in out already, where there is room: fewer and fuller segments cost less all the way down. */
static bool encode_in_tail(const struct h2_encode_params *p, uint32_t n_room, struct foil_chain *out)
{
	struct rte_mbuf *m = out->tail;
	uint32_t n = encode_at(rte_pktmbuf_mtod_offset(m, uint8_t *, m->data_len), n_room, p);

	if (!n)
		return false;
	m->data_len = (uint16_t)(m->data_len + n);
	out->n_bytes += n;
	return true;
}

/* The same without having looked how long it may get, which costs as much as writing a few fields. False: it did not fit, or it must not go. */
static bool encode_in_room(const struct h2_encode_params *p, uint32_t n_room, struct foil_chain *out)
{
	struct hpack_mark before = {0};

	if (p->table)
		before = hpack_encoder_mark(p->table);
	if (encode_in_tail(p, n_room, out))
		return true;
	if (p->table)
		hpack_encoder_rewind(p->table, &before);
	return false;
}

static int encode_in_mbuf(struct foil_worker *w, const struct h2_encode_params *p, struct foil_chain *out)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->mbuf_pool);

	if (!m)
		return no_memory(w);
	uint32_t n = encode_at(rte_pktmbuf_mtod(m, uint8_t *), rte_pktmbuf_tailroom(m), p);
	if (!n) {
		rte_pktmbuf_free(m);
		return unsendable(w);
	}
	m->data_len = (uint16_t)n;
	m->pkt_len = n;
	foil_chain_append_mbuf(out, m);
	return 0;
}

static int cut(struct foil_worker *w, const struct h2_encode_params *p, const uint8_t *block, uint32_t n_bytes, struct foil_chain *out)
{
	uint32_t at = 0;

	do {
		uint8_t header[H2_FRAME_HEADER_BYTES];
		uint32_t n = FOIL_MIN(n_bytes - at, H2_FRAME_BYTES_MAX);
		const struct h2_frame f = {.length_bytes = n, .type = at ? H2_CONTINUATION : H2_HEADERS, .stream_id = p->stream_id,
					   .flags = (uint8_t)((at + n == n_bytes ? H2_END_HEADERS : 0) | (p->ends && !at ? H2_END_STREAM : 0))};
		h2_frame_write(header, &f);
		if (foil_chain_append(w, out, header, sizeof(header)) != 0 || foil_chain_append(w, out, &block[at], n) != 0)
			return no_memory(w);
		at += n;
	} while (at < n_bytes);
	return 0;
}

static int encode_large(struct foil_worker *w, struct foil_arena *scratch, const struct h2_encode_params *p, uint32_t most, struct foil_chain *out)
{
	uint8_t *block = most < FOIL_LARGE_CHUNK_BYTES - 256u ? foil_arena_alloc(w, scratch, most) : NULL;
	struct foil_chain frames = {0};
	int rc = 0;

	if (!block)
		return no_memory(w);
	struct hpack_out o = {.at = block, .end = block + most};
	if (!put_block(&o, p) || o.is_full)
		rc = unsendable(w);
	else
		rc = cut(w, p, block, (uint32_t)(o.at - block), &frames);
	if (rc == 0)
		foil_chain_move(out, &frames);
	foil_chain_clear(&frames);
	return rc;
}

static int encode(struct foil_worker *w, const struct h2_encode_params *p, struct foil_chain *out)
{
	uint32_t n_room = foil_chain_tailroom(out);
	struct foil_arena scratch = {0};

	if (FOIL_LIKELY(n_room >= ROOM_BYTES_MIN) && encode_in_room(p, n_room, out))
		return 0;
	uint32_t most = block_bytes_max(p);
	if (most + H2_FRAME_HEADER_BYTES <= n_room)
		return encode_in_tail(p, n_room, out) ? 0 : unsendable(w);
	if (FOIL_LIKELY(most + H2_FRAME_HEADER_BYTES <= (uint32_t)rte_pktmbuf_data_room_size(w->mbuf_pool) - RTE_PKTMBUF_HEADROOM))
		return encode_in_mbuf(w, p, out);
	int rc = encode_large(w, &scratch, p, most, out);
	foil_arena_reset(w, &scratch);
	return rc;
}

int h2_encode(struct foil_worker *w, const struct h2_encode_params *p, struct foil_chain *out)
{
	int rc = encode(w, p, out);

	if (FOIL_UNLIKELY(rc != 0) && p->table)
		hpack_encoder_forget(p->table); /* what it noted did not go out */
	return rc;
}
