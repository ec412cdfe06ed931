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

static void put(struct writer *o, struct foil_slice s)
{
	const char *p = s.data;
	uint32_t left = s.n_bytes;

	if (FOIL_LIKELY(left <= o->cap - o->at)) {
		if (left)
			memcpy(&o->base[o->at], p, left);
		o->at += left;
		return;
	}
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
	put(o, foil_slice_of(&text[at], sizeof(text) - at));
}

/* Fields that are written from what http_head says, or belong to one hop. */
static bool is_ours(const struct http_header *h, bool is_request, bool is_upgrade)
{
	switch (h->id) {
	case HTTP_HDR_CONNECTION: case HTTP_HDR_KEEP_ALIVE: case HTTP_HDR_PROXY_CONNECTION: case HTTP_HDR_TRANSFER_ENCODING:
	case HTTP_HDR_CONTENT_LENGTH: case HTTP_HDR_HTTP2_SETTINGS:
		return true;
	case HTTP_HDR_HOST: case HTTP_HDR_TE:
		return is_request;
	case HTTP_HDR_UPGRADE:
		return !is_upgrade;
	default:
		return false;
	}
}

static void put_field(struct writer *o, const struct http_header *h)
{
	uint32_t n_name = h->name.n_bytes, n_value = h->value.n_bytes;

	if (h->id == HTTP_HDR_OTHER && FOIL_UNLIKELY(!is_token(h->name)))
		o->rc = -EBADMSG;
	if (FOIL_UNLIKELY(!h1_is_value(h->value)))
		o->rc = -EBADMSG;
	if (FOIL_LIKELY((uint64_t)n_name + n_value + 4 <= o->cap - o->at)) {
		char *at = &o->base[o->at];
		memcpy(at, h->name.data, n_name);
		memcpy(&at[n_name], ": ", 2);
		if (n_value)
			memcpy(&at[n_name + 2], h->value.data, n_value);
		memcpy(&at[n_name + 2 + n_value], "\r\n", 2);
		o->at += n_name + n_value + 4;
		return;
	}
	put(o, h->name);
	put(o, FOIL_SLICE(": "));
	put(o, h->value);
	put(o, FOIL_SLICE("\r\n"));
}

static void put_fields(struct writer *o, const struct http_headers *h, bool is_request, bool is_upgrade)
{
	for (uint16_t i = 0; i < h->n; i++)
		if (!h->list[i].is_removed && !is_ours(&h->list[i], is_request, is_upgrade))
			put_field(o, &h->list[i]);
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
	for (uint16_t i = 0; trailers && i < trailers->n; i++) {
		const struct http_header *h = &trailers->list[i];
		if (!h->is_removed && !is_ours(h, true, false))
			put_field(&o, h);
	}
	put(&o, FOIL_SLICE("\r\n"));
	return finish(&o, out);
}
