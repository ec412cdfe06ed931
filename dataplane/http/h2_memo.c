/* Header blocks that come again. Many clients and most servers say the same bytes over one connection again and again: a health check, a method of gRPC, the
 * head of its answers. As long as the peer's table has not changed, the same bytes mean the same list, and what was decoded, judged and read once is copied.
 *
 * One table a worker, by connection and bytes; a place is written when a block comes for the first time, and filled when it comes the second, so that blocks
 * of which each is different cost a comparison. A block that changes the table, or has a field that is never to be indexed (RFC 7541 6.2.3), is not kept.
 * Invariant: a place that is filled has no pointer into memory of a request: texts are in it, and found by where they begin. */
#include "dataplane/http/h2_priv.h"

#define PLACES 256u /* power of two */
#define TEXT_STEP 32u

static uint64_t hash_of(uint64_t conn_serial, struct foil_slice block)
{
	uint64_t lo = foil_load_upto_8(block.data, block.n_bytes), hi = lo;

	if (block.n_bytes > 8)
		hi = foil_load_8(&block.data[block.n_bytes - 8]);
	return (lo ^ (hi << 29 | hi >> 35) ^ conn_serial << 40 ^ block.n_bytes) * 0x9e3779b97f4a7c15u;
}

uint32_t h2_memo_places(void)
{
	return PLACES;
}

static bool is_it(const struct h2_memo *m, const struct h2_conn *h, struct foil_slice block, bool end)
{
	return m->conn_serial == h->serial && m->table_version == h->hpack.version && m->n_block == block.n_bytes && m->end == end &&
	       foil_equal(m->block, block.data, block.n_bytes);
}

/* Texts and list into a; false: no memory. */
static bool copy_out(struct foil_worker *w, const struct h2_memo *m, struct foil_arena *a, struct http_head *out)
{
	struct http_header *list = foil_arena_alloc(w, a, (m->n_fields + H2_MEMO_ROOM) * sizeof(*list));
	char *text = foil_arena_alloc(w, a, FOIL_MAX(m->n_text + TEXT_STEP - 1, TEXT_STEP) & ~(TEXT_STEP - 1));

	if (!list || !text)
		return false;
	for (uint32_t at = 0; at < m->n_text; at += TEXT_STEP)
		memcpy(&text[at], &m->text[at], TEXT_STEP);
	*out = m->head;
	out->method_text.data = &text[m->pseudo_at[0]];
	out->scheme.data = &text[m->pseudo_at[1]];
	out->authority.data = &text[m->pseudo_at[2]];
	out->path.data = &text[m->pseudo_at[3]];
	for (uint32_t i = 0; i < m->n_fields; i++) {
		list[i] = m->list[i];
		list[i].value.data = &text[m->value_at[i]];
		if (FOIL_UNLIKELY(list[i].id == HTTP_HDR_OTHER))
			list[i].name.data = &text[m->name_at[i]];
	}
	out->headers.list = list;
	out->headers.cap = (uint16_t)(m->n_fields + H2_MEMO_ROOM);
	return true;
}

bool h2_memo_recall(struct foil_worker *w, const struct h2_conn *h, struct foil_slice block, bool end, struct foil_arena *a, struct http_head *out,
		    struct h2_memo **to_fill)
{
	*to_fill = NULL;
	if (!block.n_bytes || block.n_bytes > H2_MEMO_BLOCK_BYTES)
		return false;
	struct h2_memo *m = (struct h2_memo *)(void *)&w->http->h2_memos.base[(size_t)(hash_of(h->serial, block) >> 56) * w->http->h2_memos.block_bytes];
	if (is_it(m, h, block, end)) {
		if (FOIL_LIKELY(m->is_filled))
			return copy_out(w, m, a, out);
		*to_fill = m;
		return false;
	}
	m->conn_serial = h->serial;
	m->table_version = h->hpack.version;
	m->n_block = (uint16_t)block.n_bytes;
	m->end = end;
	m->is_filled = false;
	foil_copy(m->block, block.data, block.n_bytes);
	return false;
}

/* Where s begins in m's text from now on. */
static uint16_t put_text(struct h2_memo *m, struct foil_slice s)
{
	uint32_t at = m->n_text;

	foil_copy(&m->text[at], s.data, s.n_bytes);
	m->n_text = (uint16_t)(at + s.n_bytes);
	return (uint16_t)at;
}

static bool fits(const struct http_head *head)
{
	const struct http_headers *h = &head->headers;
	uint64_t n = (uint64_t)head->method_text.n_bytes + head->scheme.n_bytes + head->authority.n_bytes + head->path.n_bytes;

	if (h->n > H2_MEMO_FIELDS)
		return false;
	for (uint16_t i = 0; i < h->n; i++)
		n += (uint64_t)h->list[i].value.n_bytes + (h->list[i].id == HTTP_HDR_OTHER ? h->list[i].name.n_bytes : 0);
	return n <= H2_MEMO_TEXT_BYTES;
}

void h2_memo_fill(struct h2_memo *m, const struct h2_conn *h, const struct http_head *head)
{
	if (m->table_version != h->hpack.version || h->hpack.had_never_indexed || !fits(head))
		return;
	m->n_text = 0;
	m->head = *head;
	m->pseudo_at[0] = put_text(m, head->method_text);
	m->pseudo_at[1] = put_text(m, head->scheme);
	m->pseudo_at[2] = put_text(m, head->authority);
	m->pseudo_at[3] = put_text(m, head->path);
	m->n_fields = head->headers.n;
	for (uint16_t i = 0; i < m->n_fields; i++) {
		m->list[i] = head->headers.list[i];
		m->value_at[i] = put_text(m, m->list[i].value);
		m->name_at[i] = m->list[i].id == HTTP_HDR_OTHER ? put_text(m, m->list[i].name) : 0;
	}
	m->is_filled = true;
}
