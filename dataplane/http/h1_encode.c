/* http_head to bytes: straight into an mbuf, names in lower case as Envoy sends them. Never writes what h1_parse.c would refuse: a value
 * with a control byte in it, which only a bug of ours or a hostile configuration can make, ends the exchange instead of the next hop's trust.
 * Framing is what the parameters say and nothing else: such fields among the headers are passed over. */
#include <errno.h>

#include "dataplane/http/h1_priv.h"
#include "dataplane/http/h1_scan.h"

/* Where the next byte goes. The mbuf being filled is the tail of chain, its length not yet updated. */
struct writer {
	struct foil_worker *w;
	struct foil_chain chain;
	struct rte_mbuf *m;
	char *base;
	uint32_t at, cap;
	int rc; /* sticky: 0, -ENOBUFS or -EBADMSG */
};

static void writer_close_mbuf(struct writer *o)
{
	if (!o->m)
		return;
	o->m->data_len = (uint16_t)o->at;
	o->m->pkt_len = o->at;
	foil_chain_append_mbuf(&o->chain, o->m); /* frees an empty one */
	o->m = NULL;
}

static bool writer_next_mbuf(struct writer *o)
{
	writer_close_mbuf(o);
	o->at = 0;
	o->cap = 0;
	o->m = o->rc == 0 ? rte_pktmbuf_alloc(o->w->mbuf_pool) : NULL;
	if (!o->m) {
		o->rc = o->rc ? o->rc : -ENOBUFS;
		return false;
	}
	o->base = rte_pktmbuf_mtod(o->m, char *);
	o->cap = rte_pktmbuf_tailroom(o->m);
	return true;
}

static void put_long(struct writer *o, struct foil_slice s)
{
	const char *p = s.data;
	uint32_t left = s.n_bytes;

	while (left) {
		uint32_t n = FOIL_MIN(left, o->cap - o->at);
		if (n)
			memcpy(&o->base[o->at], p, n);
		o->at += n;
		p = &p[n];
		left -= n;
		if (left && !writer_next_mbuf(o))
			return;
	}
}

/* Inline, so that of a literal nothing is left but the stores. */
static inline __attribute__((always_inline)) void put(struct writer *o, struct foil_slice s)
{
	if (FOIL_UNLIKELY(s.n_bytes > o->cap - o->at)) {
		put_long(o, s);
		return;
	}
	foil_copy(&o->base[o->at], s.data, s.n_bytes);
	o->at += s.n_bytes;
}

static bool is_token(struct foil_slice s)
{
	struct foil_cur c = cur_of(s.data, s.n_bytes);

	return s.n_bytes && h1_span(&c, H1_TOKEN) == s.n_bytes;
}

/* Bytes that came from elsewhere: nothing but what belongs there may be in them. */
static void put_span(struct writer *o, struct foil_slice s, uint8_t cls)
{
	struct foil_cur c = cur_of(s.data, s.n_bytes);

	if (FOIL_UNLIKELY(s.n_bytes == 0 || h1_span(&c, cls) != s.n_bytes))
		o->rc = -EBADMSG;
	put(o, s);
}

static void put_decimal(struct writer *o, uint64_t v)
{
	char text[20];
	uint32_t at = sizeof(text);

	do
		text[--at] = (char)('0' + v % 10);
	while (v /= 10);
	put_long(o, foil_slice_of(&text[at], sizeof(text) - at));
}

/* Fields that are written from what http_head says, or belong to one hop: a bit an id. */
struct field_set {
	uint64_t words[HTTP_HDR_WORDS];
};
#define IN_WORD(id, word) (HTTP_HDR_##id / 64 == (word) ? (uint64_t)1 << (HTTP_HDR_##id % 64) : 0)
#define OF_HOP(word)                                                                                                                      \
	(IN_WORD(CONNECTION, word) | IN_WORD(KEEP_ALIVE, word) | IN_WORD(PROXY_CONNECTION, word) | IN_WORD(TRANSFER_ENCODING, word) |        \
	 IN_WORD(CONTENT_LENGTH, word) | IN_WORD(HTTP2_SETTINGS, word))

static struct field_set fields_of_ours(bool is_request, bool is_upgrade)
{
	struct field_set set;

	for (unsigned int i = 0; i < HTTP_HDR_WORDS; i++)
		set.words[i] = OF_HOP(i) | (is_request ? IN_WORD(HOST, i) | IN_WORD(TE, i) : 0) | (is_upgrade ? 0 : IN_WORD(UPGRADE, i));
	return set;
}

static inline bool is_ours(const struct field_set *set, const struct http_header *h)
{
	return set->words[h->id / 64] >> (h->id % 64) & 1;
}

#define WRITE_OVER HTTP_NAME_TEXT_BYTES /* copies may write so many bytes too many, which what follows overwrites */

/* Bytes that are checked as they are copied. False: one that may not be there. */
static inline bool copy_value(char *to, const char *from, uint32_t n)
{
#ifdef FOIL_HAS_VECTORS
	__m128i last;
	uint32_t out = 0;

	if (n < 16) {
		last = foil_load_16(from, n);
		foil_store_16(to, last);
		return (h1_outside_16(last, H1_VALUE) & ((1u << n) - 1)) == 0;
	}
	for (uint32_t i = 0; i < n - 16; i += 16) {
		__m128i v = foil_load_16(&from[i], 16);
		foil_store_16(&to[i], v);
		out |= h1_outside_16(v, H1_VALUE);
	}
	last = foil_load_16(&from[n - 16], 16);
	foil_store_16(&to[n - 16], last);
	return (out | h1_outside_16(last, H1_VALUE)) == 0;
#else
	foil_copy(to, from, n);
	return h1_is_value(foil_slice_of(from, n));
#endif
}

/* name ": " */
static inline char *copy_name(char *to, const struct http_header *h)
{
	if (FOIL_LIKELY(h->id != HTTP_HDR_OTHER)) {
		const char *text = http_name_texts[h->id].text;
		memcpy(to, text, 32);
		if (h->name.n_bytes > 30)
			memcpy(&to[32], &text[32], 32);
	} else {
		foil_copy(to, h->name.data, h->name.n_bytes);
		memcpy(&to[h->name.n_bytes], ": ", 2);
	}
	return &to[h->name.n_bytes + 2];
}

/* Where the mbuf has no room for the fast way. */
static __attribute__((noinline)) void put_field_split(struct writer *o, const struct http_header *h)
{
	if (!h1_is_value(h->value))
		o->rc = -EBADMSG;
	put_long(o, h->name);
	put_long(o, FOIL_SLICE(": "));
	put_long(o, h->value);
	put_long(o, FOIL_SLICE("\r\n"));
}

static void put_fields(struct writer *o, const struct http_headers *h, bool is_request, bool is_upgrade)
{
	const struct field_set ours = fields_of_ours(is_request, is_upgrade);
	char *at = &o->base[o->at], *end = &o->base[o->cap];
	bool is_clean = true;

	for (uint16_t i = 0; i < h->n; i++) {
		const struct http_header *f = &h->list[i];
		if (f->is_removed || is_ours(&ours, f))
			continue;
		if (FOIL_UNLIKELY(f->id == HTTP_HDR_OTHER))
			is_clean &= is_token(f->name);
		if (FOIL_UNLIKELY((size_t)f->name.n_bytes + f->value.n_bytes + 4 + WRITE_OVER > (size_t)(end - at))) {
			o->at = (uint32_t)(at - o->base);
			put_field_split(o, f);
			at = &o->base[o->at];
			end = &o->base[o->cap];
			continue;
		}
		at = copy_name(at, f);
		is_clean &= copy_value(at, f->value.data, f->value.n_bytes);
		memcpy(&at[f->value.n_bytes], "\r\n", 2);
		at += f->value.n_bytes + 2;
	}
	o->at = (uint32_t)(at - o->base);
	if (!is_clean)
		o->rc = -EBADMSG;
}

/* Connection, framing and the empty line. */
static void put_end(struct writer *o, const struct h1_encode_params *p, const struct http_head *head, bool names_upgrade)
{
	if (names_upgrade) { /* Upgrade belongs to this hop (RFC 9110 7.8) */
		put(o, FOIL_SLICE("connection: "));
		put(o, head->upgrade_word.n_bytes ? head->upgrade_word : FOIL_SLICE("upgrade"));
		put(o, p->says_close ? FOIL_SLICE(", close\r\n") : FOIL_SLICE("\r\n"));
	} else if (p->says_close) {
		put(o, FOIL_SLICE("connection: close\r\n"));
	} else if (p->says_keep_alive) {
		put(o, FOIL_SLICE("connection: keep-alive\r\n"));
	}
	if (p->framing == H1_FRAME_CHUNKED || p->says_chunked) {
		put(o, FOIL_SLICE("transfer-encoding: chunked\r\n"));
	} else if (p->framing == H1_FRAME_LENGTH || p->says_length) {
		put(o, FOIL_SLICE("content-length: "));
		put_decimal(o, p->content_length);
		put(o, FOIL_SLICE("\r\n"));
	}
	put(o, FOIL_SLICE("\r\n"));
}

static int finish(struct writer *o, struct foil_chain *out)
{
	writer_close_mbuf(o);
	if (o->rc != 0) {
		if (o->rc == -ENOBUFS)
			foil_reason(o->w, HTTP, OUT_OF_MEMORY);
		else
			foil_reason(o->w, HTTP, UNSENDABLE_HEAD);
		foil_chain_clear(&o->chain);
		return o->rc;
	}
	foil_chain_move(out, &o->chain);
	return 0;
}

int h1_encode_request(struct foil_worker *w, const struct http_head *head, const struct h1_encode_params *p, struct foil_chain *out)
{
	struct writer o = {.w = w};

	if (!writer_next_mbuf(&o))
		return finish(&o, out);
	if (head->has_several_hosts || (head->authority.n_bytes && !h1_authority_is_valid(head->authority)))
		o.rc = -EBADMSG;
	put_span(&o, head->method_text, H1_TOKEN);
	put(&o, FOIL_SLICE(" "));
	if (head->method == HTTP_METHOD_CONNECT)
		put(&o, head->authority);
	else
		put_span(&o, head->path, H1_TARGET);
	put(&o, FOIL_SLICE(" HTTP/1.1\r\nhost: "));
	put(&o, head->authority);
	put(&o, FOIL_SLICE("\r\n"));
	put_fields(&o, &head->headers, true, head->is_upgrade);
	if (head->has_te_trailers)
		put(&o, FOIL_SLICE("te: trailers\r\n"));
	put_end(&o, p, head, head->is_upgrade);
	return finish(&o, out);
}

int h1_encode_response(struct foil_worker *w, const struct http_head *head, const struct h1_encode_params *p, struct foil_chain *out)
{
	struct writer o = {.w = w};
	bool names_upgrade = head->status == 101 || (head->status == 426 && http_header_get(&head->headers, HTTP_HDR_UPGRADE));

	if (!writer_next_mbuf(&o))
		return finish(&o, out);
	if (head->status < 100 || head->status > 999)
		o.rc = -EBADMSG;
	put(&o, p->is_http10 ? FOIL_SLICE("HTTP/1.0 ") : FOIL_SLICE("HTTP/1.1 "));
	put_decimal(&o, head->status);
	put(&o, FOIL_SLICE(" "));
	put(&o, foil_slice_str(http_status_reason(head->status)));
	put(&o, FOIL_SLICE("\r\n"));
	put_fields(&o, &head->headers, false, names_upgrade);
	put_end(&o, p, head, names_upgrade);
	return finish(&o, out);
}

int h1_encode_trailers(struct foil_worker *w, const struct http_headers *trailers, struct foil_chain *out)
{
	struct writer o = {.w = w};

	if (!writer_next_mbuf(&o))
		return finish(&o, out);
	put(&o, FOIL_SLICE("0\r\n"));
	if (trailers)
		put_fields(&o, trailers, true, false);
	put(&o, FOIL_SLICE("\r\n"));
	return finish(&o, out);
}
