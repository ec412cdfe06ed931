/* The HPACK decoder (RFC 7541 sections 2 to 6). It knows fields, not what they mean: pseudo fields and forbidden ones are h2's business.
 * Invariants: n_bytes <= max_bytes <= HPACK_TABLE_BYTES; the sum of live name and value bytes is at most n_bytes; entries are contiguous in
 * data, oldest at the lowest place. */
#include "dataplane/http/hpack.h"

#include "dataplane/core/cursor.h"
#include "dataplane/http/hpack_tables.h"

#define STATIC_ENTRIES 61u
#define INTEGER_MAX (1u << 24) /* no length, index or size that we can use is larger */

struct field {
	struct foil_slice name, value;
	uint16_t id;
};

/* What one block's decoding carries along. */
struct block {
	struct foil_worker *w;
	struct hpack_decoder *d;
	struct foil_cur in;
	const struct hpack_limits *limits;
	struct foil_arena *a;
	struct http_headers *list;
	uint32_t list_bytes;
	uint32_t n_fields;
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
	if (n > d->max_bytes) {
		evict_down_to(d, 0);
		return;
	}
	evict_down_to(d, d->max_bytes - n);
	if (d->data_end + n_raw > sizeof(d->data))
		move_live_to_front(d);
	FOIL_ASSERT(d->data_end + n_raw <= sizeof(d->data) && d->n_entries < HPACK_ENTRIES_MAX);
	d->newest = (uint16_t)((d->newest + 1) % HPACK_ENTRIES_MAX);
	d->n_entries++;
	d->n_bytes += n;
	d->entry[d->newest] = (struct hpack_entry){d->data_end, (uint16_t)f->name.n_bytes, (uint16_t)f->value.n_bytes, f->id};
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

/* Section 5.2. out: NULL to count only; else with room for what counting gives, or HUFFMAN_BYTES_MAX(n_bytes). */
#define HUFFMAN_BYTES_MAX(n) ((n) * 8 / 5 + 1) /* the shortest code has five bits */
static enum hpack_result huffman_decode(struct foil_slice in, char *out, uint32_t *n_out)
{
	uint8_t state = 0, flags = HPACK_HUFFMAN_MAY_END;
	uint32_t n = 0;
	for (uint32_t i = 0; i < in.n_bytes; i++) {
		uint8_t byte = (uint8_t)in.data[i];
		for (int half = 0; half < 2; half++) {
			const struct hpack_step *s = &hpack_huffman[state][half ? byte & 15 : byte >> 4];
			flags = s->flags;
			if (FOIL_UNLIKELY(flags & HPACK_HUFFMAN_FAILS))
				return HPACK_BAD_HUFFMAN;
			if (flags & HPACK_HUFFMAN_EMITS) {
				if (out)
					out[n] = (char)s->symbol;
				n++;
			}
			state = s->next;
		}
	}
	*n_out = n;
	return flags & HPACK_HUFFMAN_MAY_END ? HPACK_OK : HPACK_BAD_HUFFMAN;
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

/* Borrowed from the tables; a dynamic one is valid until the next insertion. */
static enum hpack_result look_up(struct hpack_decoder *d, uint32_t index, struct field *f)
{
	if (index == 0 || index > STATIC_ENTRIES + d->n_entries)
		return HPACK_BAD_INDEX;
	if (index <= STATIC_ENTRIES) {
		const struct hpack_static *s = &hpack_static_table[index];
		*f = (struct field){s->name, s->value, s->id};
		return HPACK_OK;
	}
	const struct hpack_entry *e = entry_at(d, index - STATIC_ENTRIES);
	f->name = foil_slice_of(d->data + e->at, e->n_name_bytes);
	f->value = foil_slice_of(d->data + e->at + e->n_name_bytes, e->n_value_bytes);
	f->id = e->id;
	return HPACK_OK;
}

static bool is_in_table(const struct hpack_decoder *d, const char *p)
{
	return (const uint8_t *)p >= d->data && (const uint8_t *)p < d->data + sizeof(d->data);
}

static bool over_limits(struct block *b, const struct field *f)
{
	if (b->is_too_large)
		return true;
	b->list_bytes += f->name.n_bytes + f->value.n_bytes + HPACK_ENTRY_OVERHEAD;
	b->n_fields++;
	return b->list_bytes > b->limits->list_bytes_max || b->n_fields > b->limits->fields_max;
}

/* Names of well-known headers are constants: no copy. */
static int FOIL_MUST_USE keep(struct block *b, struct field f)
{
	if (f.id != HTTP_HDR_OTHER)
		f.name = http_header_name((enum http_header_id)f.id);
	else if (is_in_table(b->d, f.name.data))
		f.name = foil_arena_copy(b->w, b->a, f.name);
	if (is_in_table(b->d, f.value.data) && f.value.n_bytes)
		f.value = foil_arena_copy(b->w, b->a, f.value);
	if (!f.name.data || !f.value.data)
		return -1;
	if (f.id != HTTP_HDR_OTHER)
		return http_header_add_id(b->w, b->a, b->list, (enum http_header_id)f.id, f.value);
	return http_header_add(b->w, b->a, b->list, f.name, f.value);
}

static enum hpack_result emit(struct block *b, const struct field *f)
{
	b->is_too_large |= over_limits(b, f);
	if (b->is_too_large)
		return HPACK_OK;
	return keep(b, *f) == 0 ? HPACK_OK : HPACK_NO_MEMORY;
}

/* Section 6.2: literal with or without a name from the tables. */
static enum hpack_result literal(struct block *b, uint8_t first, unsigned int prefix_bits, bool insert_it)
{
	struct field f = {.id = HTTP_HDR_OTHER};
	uint32_t index;
	enum hpack_result rc = read_integer(&b->in, first, prefix_bits, &index);
	if (rc == HPACK_OK && index) {
		rc = look_up(b->d, index, &f);
		if (rc == HPACK_OK && is_in_table(b->d, f.name.data)) { /* it may be evicted by this very insertion */
			f.name = foil_arena_copy(b->w, b->a, f.name);
			rc = f.name.data ? HPACK_OK : HPACK_NO_MEMORY;
		}
	} else if (rc == HPACK_OK) {
		rc = read_string(b, &f.name);
		f.id = (uint16_t)(rc == HPACK_OK ? http_header_intern(f.name) : HTTP_HDR_OTHER);
	}
	if (rc == HPACK_OK)
		rc = read_string(b, &f.value);
	if (rc != HPACK_OK)
		return rc;
	if (insert_it)
		insert(b->d, &f);
	return emit(b, &f);
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
	evict_down_to(b->d, max);
	return HPACK_OK;
}

static enum hpack_result one(struct block *b)
{
	uint8_t first = cur_u8(&b->in);
	if (first & 0x80) {
		struct field f;
		uint32_t index;
		enum hpack_result rc = read_integer(&b->in, first, 7, &index);
		if (rc == HPACK_OK)
			rc = look_up(b->d, index, &f);
		return rc == HPACK_OK ? emit(b, &f) : rc;
	}
	if (first & 0x40)
		return literal(b, first, 6, true);
	if (first & 0x20)
		return size_update(b, first);
	return literal(b, first, 4, false); /* without indexing, or never indexed: the same to us */
}

enum hpack_result hpack_decode(struct foil_worker *w, struct hpack_decoder *d, struct foil_slice block, const struct hpack_limits *limits,
			       struct foil_arena *a, struct http_headers *list)
{
	struct block b = {.w = w, .d = d, .in = cur_of(block.data, block.n_bytes), .limits = limits, .a = a, .list = list};
	while (cur_left(&b.in)) {
		enum hpack_result rc = one(&b);
		if (rc != HPACK_OK)
			return rc;
	}
	return b.is_too_large ? HPACK_TOO_LARGE : HPACK_OK;
}
