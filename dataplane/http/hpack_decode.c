/* The HPACK decoder (RFC 7541 sections 2 to 6). It knows fields, not what they mean: pseudo fields and forbidden ones are h2's business.
 * Invariants: n_bytes <= max_bytes <= HPACK_TABLE_BYTES; the sum of live name and value bytes is at most n_bytes; entries are contiguous in
 * data, oldest at the lowest place. */
#include "dataplane/http/hpack.h"

#include "dataplane/core/cursor.h"
#include "dataplane/http/h2_priv.h"
#include "dataplane/http/hpack_tables.h"

#define STATIC_ENTRIES 61u
#define FIELDS_MORE 16u       /* that a list grows by */
#define INTEGER_MAX (1u << 24) /* no length, index or size that we can use is larger */

struct field {
	struct foil_slice name, value;
	uint16_t id;
	uint8_t judged;
};

/* What one block's decoding carries along. */
struct block {
	struct foil_worker *w;
	struct hpack_decoder *d;
	struct foil_cur in;
	struct foil_arena *a;
	struct http_headers *list;
	uint32_t list_bytes, list_bytes_max;
	uint32_t n_fields, fields_max;
	bool is_too_large; /* go on for the table's sake, keep nothing */
};

void hpack_decoder_init(struct hpack_decoder *d)
{
	d->n_bytes = 0;
	d->max_bytes = HPACK_TABLE_BYTES;
	d->newest = d->n_entries = 0;
	d->data_end = 0;
}

/* ---- the dynamic table ---- */

static struct hpack_entry *entry_at(struct hpack_decoder *d, uint32_t dynamic_index)
{
	return &d->entry[(d->newest + HPACK_ENTRIES_MAX - (dynamic_index - 1)) % HPACK_ENTRIES_MAX];
}

static uint32_t entry_bytes(const struct hpack_entry *e)
{
	return (uint32_t)e->n_name_bytes + e->n_value_bytes + HPACK_ENTRY_OVERHEAD;
}

static void evict_down_to(struct hpack_decoder *d, uint32_t n_bytes)
{
	while (d->n_bytes > n_bytes) {
		d->n_bytes -= entry_bytes(entry_at(d, d->n_entries));
		d->n_entries--;
	}
	if (d->n_entries == 0)
		d->data_end = 0;
}

static void move_live_to_front(struct hpack_decoder *d)
{
	uint32_t from = entry_at(d, d->n_entries)->at;
	memmove(d->data, d->data + from, d->data_end - from);
	for (uint32_t i = 1; i <= d->n_entries; i++)
		entry_at(d, i)->at -= from;
	d->data_end -= from;
}

/* An entry larger than the table empties it, and that is no error (section 4.4). */
static void insert(struct hpack_decoder *d, const struct field *f)
{
	uint32_t n_raw = f->name.n_bytes + f->value.n_bytes, n = n_raw + HPACK_ENTRY_OVERHEAD;
	d->version++;
	if (n > d->max_bytes) {
		evict_down_to(d, 0);
		return;
	}
	evict_down_to(d, d->max_bytes - n);
	if (d->data_end + n_raw > HPACK_DATA_BYTES)
		move_live_to_front(d);
	FOIL_ASSERT(d->data_end + n_raw <= HPACK_DATA_BYTES && d->n_entries < HPACK_ENTRIES_MAX);
	d->newest = (uint16_t)((d->newest + 1) % HPACK_ENTRIES_MAX);
	d->n_entries++;
	d->n_bytes += n;
	d->entry[d->newest] = (struct hpack_entry){d->data_end, (uint16_t)f->name.n_bytes, (uint16_t)f->value.n_bytes, f->id, f->judged};
	if (f->name.n_bytes)
		memcpy(d->data + d->data_end, f->name.data, f->name.n_bytes);
	if (f->value.n_bytes)
		memcpy(d->data + d->data_end + f->name.n_bytes, f->value.data, f->value.n_bytes);
	d->data_end += n_raw;
}

/* ---- primitives ---- */

/* Section 5.1; first is the byte that holds the prefix. */
static enum hpack_result read_integer(struct foil_cur *in, uint8_t first, unsigned int prefix_bits, uint32_t *out)
{
	uint32_t max = (1u << prefix_bits) - 1, value = first & max;
	for (unsigned int shift = 0; value >= max; shift += 7) {
		uint8_t byte = cur_u8(in);
		if (in->short_read)
			return HPACK_TRUNCATED;
		if (shift > 21)
			return HPACK_BAD_INTEGER;
		value += (uint32_t)(byte & 0x7f) << shift;
		if (value > INTEGER_MAX)
			return HPACK_BAD_INTEGER;
		if (!(byte & 0x80))
			break;
	}
	*out = value;
	return HPACK_OK;
}

/* ---- Huffman (section 5.2 and Appendix B) ----
 * Input bits are looked at from the top of a word. Codes of up to ten bits, which is nearly every symbol of a header, come from a table by their
 * first ten; the code is canonical, so a longer one is found by its length: those of one length are numbers in a row. */
struct bits {
	uint64_t word;     /* the next bits at the top, zeroes behind them */
	uint32_t n;        /* of them; 56 or more while there is input */
	struct foil_slice in;
	uint32_t at;       /* in it: what comes next */
};

static void bits_fill(struct bits *b)
{
	for (; b->n <= 56 && b->at < b->in.n_bytes; b->n += 8)
		b->word |= (uint64_t)(uint8_t)b->in.data[b->at++] << (56 - b->n);
}

static void bits_drop(struct bits *b, uint32_t n)
{
	b->word <<= n;
	b->n -= n;
}

/* The symbol of a code longer than ten bits; -1: there is none that is whole. */
static int long_symbol(struct bits *b)
{
	for (uint32_t len = HPACK_HUFFMAN_SHORT_BITS + 1; len <= FOIL_MIN(b->n, HPACK_HUFFMAN_BITS_MAX); len++) {
		const struct hpack_code_length *l = &hpack_code_lengths[len];
		uint32_t code = (uint32_t)(b->word >> (64 - len));
		if (code - l->first >= l->n) /* one below first is far above */
			continue;
		bits_drop(b, len);
		return hpack_long_symbols[l->at + (code - l->first)];
	}
	return -1;
}

/* Fewer than eight bits are left, all of them ones. */
static bool is_padding(const struct bits *b)
{
	return b->n < 8 && (b->n == 0 || b->word >> (64 - b->n) == (1u << b->n) - 1);
}

/* out: NULL to count only; else with room for what counting gives, or HUFFMAN_BYTES_MAX(n_bytes). */
#define HUFFMAN_BYTES_MAX(n) ((n) * 8 / 5 + 1) /* the shortest code has five bits */
static enum hpack_result huffman_decode(struct foil_slice in, char *out, uint32_t *n_out)
{
	struct bits b = {.in = in};
	uint32_t n = 0;

	for (;;) {
		bits_fill(&b);
		const struct hpack_short_code s = hpack_short_codes[b.word >> (64 - HPACK_HUFFMAN_SHORT_BITS)];
		int symbol = s.symbol;
		if (FOIL_LIKELY(s.n_bits && s.n_bits <= b.n))
			bits_drop(&b, s.n_bits);
		else if (s.n_bits || (symbol = long_symbol(&b)) < 0)
			break;
		if (FOIL_UNLIKELY(symbol == HPACK_HUFFMAN_EOS))
			return HPACK_BAD_HUFFMAN;
		if (out)
			out[n] = (char)symbol;
		n++;
	}
	*n_out = n;
	return is_padding(&b) ? HPACK_OK : HPACK_BAD_HUFFMAN;
}

#define COUNT_FIRST_BYTES 2048u /* a long string is measured before it gets memory */

static enum hpack_result read_huffman(struct block *b, struct foil_slice raw, struct foil_slice *out)
{
	uint32_t n = HUFFMAN_BYTES_MAX(raw.n_bytes);
	if (raw.n_bytes > COUNT_FIRST_BYTES) {
		enum hpack_result rc = huffman_decode(raw, NULL, &n);
		if (rc != HPACK_OK)
			return rc;
	}
	char *copy = foil_arena_alloc(b->w, b->a, n + 1);
	if (!copy)
		return HPACK_NO_MEMORY;
	enum hpack_result rc = huffman_decode(raw, copy, &n);
	*out = foil_slice_of(copy, n);
	return rc;
}

/* A string literal (section 5.2), copied into the arena: the block's bytes do not live as long as the exchange. */
static enum hpack_result read_string(struct block *b, struct foil_slice *out)
{
	uint8_t first = cur_u8(&b->in);
	uint32_t n;
	if (b->in.short_read)
		return HPACK_TRUNCATED;
	enum hpack_result rc = read_integer(&b->in, first, 7, &n);
	if (rc != HPACK_OK)
		return rc;
	struct foil_slice raw = cur_slice(&b->in, n);
	if (b->in.short_read)
		return HPACK_TRUNCATED;
	if (n == 0) {
		*out = FOIL_SLICE("");
		return HPACK_OK;
	}
	if (first & 0x80)
		return read_huffman(b, raw, out);
	*out = foil_arena_copy(b->w, b->a, raw);
	return out->data ? HPACK_OK : HPACK_NO_MEMORY;
}

/* ---- fields ---- */

/* Of one that has an id: a constant. */
static const struct foil_slice names[HPACK_ID_COUNT] = {HPACK_NAMES};

static uint16_t id_of(struct foil_slice name)
{
	if (name.n_bytes == 0 || name.data[0] != ':')
		return (uint16_t)http_header_intern(name);
	for (uint16_t i = HTTP_HDR_COUNT; i < HPACK_ID_COUNT; i++)
		if (foil_slice_eq(names[i], name))
			return i;
	return HTTP_HDR_OTHER;
}

static bool index_is_good(const struct hpack_decoder *d, uint32_t index)
{
	return index - 1 < STATIC_ENTRIES + d->n_entries;
}

/* The name alone, as a constant or in the arena: an insertion may evict what it was taken from. */
static enum hpack_result look_up_name(struct block *b, uint32_t index, struct field *f)
{
	if (!index_is_good(b->d, index))
		return HPACK_BAD_INDEX;
	if (index <= STATIC_ENTRIES) {
		f->name = hpack_static_table[index].name;
		f->id = hpack_static_table[index].id;
		return HPACK_OK;
	}
	const struct hpack_entry *e = entry_at(b->d, index - STATIC_ENTRIES);
	f->id = e->id;
	f->name = e->id != HTTP_HDR_OTHER ? names[e->id] : foil_arena_copy(b->w, b->a, foil_slice_of(b->d->data + e->at, e->n_name_bytes));
	return f->name.data ? HPACK_OK : HPACK_NO_MEMORY;
}

static inline bool over_limits(struct block *b, uint32_t n_name_bytes, uint32_t n_value_bytes)
{
	b->list_bytes += n_name_bytes + n_value_bytes + HPACK_ENTRY_OVERHEAD;
	b->n_fields++;
	if (FOIL_UNLIKELY(b->list_bytes > b->list_bytes_max || b->n_fields > b->fields_max))
		b->is_too_large = true; /* and stays so: both only grow */
	return b->is_too_large;
}

/* The list's next place, which is filled and counted by who asks; NULL: no memory. */
static inline struct http_header *place(struct block *b)
{
	struct http_headers *l = b->list;

	if (FOIL_UNLIKELY(l->n == l->cap) && http_headers_reserve(b->w, b->a, l, l->cap + FIELDS_MORE) != 0)
		return NULL;
	return &l->list[l->n];
}

static enum hpack_result keep(struct block *b, const struct field *f)
{
	struct http_header *h = place(b);

	if (!h)
		return HPACK_NO_MEMORY;
	*h = (struct http_header){.name = f->name, .value = f->value, .id = f->id, .judged = f->judged};
	b->list->n++;
	return HPACK_OK;
}

/* A value of the dynamic table, which an insertion may evict. */
static struct foil_slice copy_value(struct block *b, const uint8_t *from, uint32_t n_bytes)
{
	if (FOIL_UNLIKELY(n_bytes > HPACK_COPY_BYTES || n_bytes == 0))
		return foil_arena_copy(b->w, b->a, foil_slice_of(from, n_bytes));
	char *p = foil_arena_alloc(b->w, b->a, HPACK_COPY_BYTES);
	if (!p)
		return (struct foil_slice){NULL, 0};
	memcpy(p, from, HPACK_COPY_BYTES); /* whatever stands behind the value: data has room for that */
	return foil_slice_of(p, n_bytes);
}

/* Section 6.1. */
static enum hpack_result indexed_dynamic(struct block *b, uint32_t index)
{
	if (FOIL_UNLIKELY(index - 1 >= b->d->n_entries))
		return HPACK_BAD_INDEX;
	const struct hpack_entry *e = entry_at(b->d, index);
	const uint8_t *at = b->d->data + e->at;
	if (over_limits(b, e->n_name_bytes, e->n_value_bytes))
		return HPACK_OK;
	struct http_header *h = place(b);
	if (FOIL_UNLIKELY(!h))
		return HPACK_NO_MEMORY;
	h->name = FOIL_LIKELY(e->id != HTTP_HDR_OTHER) ? names[e->id] : foil_arena_copy(b->w, b->a, foil_slice_of(at, e->n_name_bytes));
	h->value = copy_value(b, at + e->n_name_bytes, e->n_value_bytes);
	h->id = e->id;
	h->is_removed = false;
	h->judged = e->judged;
	if (FOIL_UNLIKELY(!h->name.data || !h->value.data))
		return HPACK_NO_MEMORY;
	b->list->n++;
	return HPACK_OK;
}

static inline enum hpack_result indexed(struct block *b, uint32_t index)
{
	if (index > STATIC_ENTRIES)
		return indexed_dynamic(b, index - STATIC_ENTRIES);
	const struct http_header *s = &hpack_static_table[index];
	if (FOIL_UNLIKELY(index == 0))
		return HPACK_BAD_INDEX;
	if (over_limits(b, s->name.n_bytes, s->value.n_bytes))
		return HPACK_OK;
	struct http_header *h = place(b);
	if (FOIL_UNLIKELY(!h))
		return HPACK_NO_MEMORY;
	*h = *s;
	b->list->n++;
	return HPACK_OK;
}

/* Section 6.2: literal with or without a name from the tables. */
static enum hpack_result literal(struct block *b, uint8_t first, unsigned int prefix_bits, bool insert_it)
{
	struct field f = {.id = HTTP_HDR_OTHER};
	uint32_t index;
	enum hpack_result rc = read_integer(&b->in, first, prefix_bits, &index);
	if (rc == HPACK_OK && index) {
		rc = look_up_name(b, index, &f);
	} else if (rc == HPACK_OK) {
		rc = read_string(b, &f.name);
		f.id = rc == HPACK_OK ? id_of(f.name) : (uint16_t)HTTP_HDR_OTHER;
		if (f.id != HTTP_HDR_OTHER)
			f.name = names[f.id];
	}
	if (rc == HPACK_OK)
		rc = read_string(b, &f.value);
	if (rc != HPACK_OK)
		return rc;
	f.judged = h2_judge(f.id, f.name, f.value);
	if (insert_it)
		insert(b->d, &f);
	return over_limits(b, f.name.n_bytes, f.value.n_bytes) ? HPACK_OK : keep(b, &f);
}

/* Section 6.3: only before the first field of a block. */
static enum hpack_result size_update(struct block *b, uint8_t first)
{
	uint32_t max;
	enum hpack_result rc = read_integer(&b->in, first, 5, &max);
	if (rc != HPACK_OK)
		return rc;
	if (b->n_fields || max > HPACK_TABLE_BYTES)
		return HPACK_BAD_SIZE_UPDATE;
	b->d->max_bytes = max;
	b->d->version++;
	evict_down_to(b->d, max);
	return HPACK_OK;
}

static enum hpack_result one(struct block *b)
{
	uint8_t first = cur_u8(&b->in);
	if (first & 0x80) {
		uint32_t index = first & 0x7f;
		if (FOIL_LIKELY(index != 0x7f))
			return indexed(b, index);
		enum hpack_result rc = read_integer(&b->in, first, 7, &index);
		return rc == HPACK_OK ? indexed(b, index) : rc;
	}
	if (first & 0x40)
		return literal(b, first, 6, true);
	if (first & 0x20)
		return size_update(b, first);
	b->d->had_never_indexed |= (first & 0x10) != 0;
	return literal(b, first, 4, false); /* without indexing, or never indexed: the same to the list */
}

enum hpack_result hpack_decode(struct foil_worker *w, struct hpack_decoder *d, struct foil_slice block, const struct hpack_limits *limits,
			       struct foil_arena *a, struct http_headers *list)
{
	struct block b = {.w = w, .d = d, .in = cur_of(block.data, block.n_bytes), .list_bytes_max = limits->list_bytes_max,
			  .fields_max = limits->fields_max, .a = a, .list = list};
	d->had_never_indexed = false;
	while (cur_left(&b.in)) {
		enum hpack_result rc = one(&b);
		if (rc != HPACK_OK)
			return rc;
	}
	return b.is_too_large ? HPACK_TOO_LARGE : HPACK_OK;
}
