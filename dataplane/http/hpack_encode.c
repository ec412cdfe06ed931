/* The HPACK encoder (RFC 7541 section 6) without Huffman, whose bytes cost more than they save inside a data centre. A field is an index where the same
 * one went before it (hpack_put_indexed), else a few copies.
 * What is indexed: names with an id whose values are no secrets (section 7.1) and do not differ from message to message by their nature; and of those that
 * differ all the same only now and then one, since each makes others leave the table. */
#include "dataplane/http/hpack.h"

#include "dataplane/http/hpack_tables.h"

#define STATIC_STATUS_200 8u
#define STATIC_STATUS_LAST 14u

#define INDEXED 0x80u
#define LITERAL 0x00u
#define INSERTED 0x40u
#define SIZE_UPDATE 0x20u
#define MISSES_MAX 8u   /* in a row: the value is of its message alone, as it seems */
#define MISSES_AGAIN 64u /* then another try */
#define NEVER_INDEXED 0x10u

static bool has_room(struct hpack_out *o, size_t n_bytes)
{
	o->is_full |= (size_t)(o->end - o->at) < n_bytes;
	return !o->is_full;
}

static void put_byte(struct hpack_out *o, uint8_t byte)
{
	if (FOIL_LIKELY(has_room(o, 1)))
		*o->at++ = byte;
}

static void put_integer(struct hpack_out *o, uint8_t pattern, unsigned int prefix_bits, uint32_t value)
{
	uint32_t max = (1u << prefix_bits) - 1;
	if (value < max) {
		put_byte(o, (uint8_t)(pattern | value));
		return;
	}
	put_byte(o, (uint8_t)(pattern | max));
	for (value -= max; value >= 0x80; value >>= 7)
		put_byte(o, (uint8_t)(0x80 | (value & 0x7f)));
	put_byte(o, (uint8_t)value);
}

static void put_string(struct hpack_out *o, struct foil_slice s)
{
	put_integer(o, 0, 7, s.n_bytes);
	if (FOIL_UNLIKELY(!has_room(o, s.n_bytes)))
		return;
	foil_copy(o->at, s.data, s.n_bytes);
	o->at += s.n_bytes;
}

void hpack_put_status(struct hpack_out *o, uint16_t status)
{
	if (FOIL_LIKELY(status == 200)) {
		put_byte(o, INDEXED | STATIC_STATUS_200);
		return;
	}
	const char text[3] = {(char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10), (char)('0' + status % 10)};
	for (uint32_t i = STATIC_STATUS_200; i <= STATIC_STATUS_LAST; i++) {
		if (memcmp(hpack_static_table[i].value.data, text, 3) == 0) {
			put_byte(o, (uint8_t)(INDEXED | i));
			return;
		}
	}
	put_integer(o, LITERAL, 4, STATIC_STATUS_200);
	put_string(o, foil_slice_of(text, 3));
}

/* Where the names of pseudo fields stand in the static table; 0: nowhere. */
static const uint8_t pseudo_index[HPACK_ID_COUNT - HTTP_HDR_COUNT] = {
	[HPACK_AUTHORITY - HTTP_HDR_COUNT] = 1, [HPACK_METHOD - HTTP_HDR_COUNT] = 2, [HPACK_PATH - HTTP_HDR_COUNT] = 4, [HPACK_SCHEME - HTTP_HDR_COUNT] = 6,
};

#define IS(slice, text) ((slice).n_bytes == sizeof(text) - 1 && memcmp((slice).data, text, sizeof(text) - 1) == 0)

/* Where the static table has the whole field; 0: it has not. */
static inline uint32_t pseudo_is_whole(uint16_t id, struct foil_slice value)
{
	switch (id) {
	case HPACK_METHOD: return IS(value, "GET") ? 2 : IS(value, "POST") ? 3 : 0;
	case HPACK_PATH: return IS(value, "/") ? 4 : 0;
	case HPACK_SCHEME: return IS(value, "http") ? 6 : IS(value, "https") ? 7 : 0;
	default: return 0;
	}
}

bool hpack_put_whole(struct hpack_out *o, uint16_t id, struct foil_slice value)
{
	uint32_t whole = pseudo_is_whole(id, value);

	if (whole)
		put_byte(o, (uint8_t)(INDEXED | whole));
	return whole;
}

static void put_pseudo(struct hpack_out *o, uint16_t id, struct foil_slice name, struct foil_slice value)
{
	uint32_t index = pseudo_index[id - HTTP_HDR_COUNT];

	if (hpack_put_whole(o, id, value))
		return;
	put_byte(o, (uint8_t)(LITERAL | index));
	if (!index) /* :protocol */
		put_string(o, name);
	put_string(o, value);
}

/* Section 7.1.3: values that an attacker could guess through a shared table downstream of us. */
static bool is_sensitive(uint16_t id, struct foil_slice value)
{
	return id == HTTP_HDR_AUTHORIZATION || id == HTTP_HDR_PROXY_AUTHORIZATION || (id == HTTP_HDR_COOKIE && value.n_bytes < 20);
}

void hpack_put(struct hpack_out *o, uint16_t id, struct foil_slice name, struct foil_slice value)
{
	if (id >= HTTP_HDR_COUNT) {
		put_pseudo(o, id, name, value);
		return;
	}
	const struct hpack_prefix *p = &hpack_prefix_of_id[id];
	if (FOIL_LIKELY(id != HTTP_HDR_OTHER && value.n_bytes < 127 && (size_t)(o->end - o->at) >= HPACK_PREFIX_BYTES + 1 + value.n_bytes)) {
		uint8_t *at = o->at;
		memcpy(at, p->bytes, 16); /* more than it may be: what follows is written over the rest */
		if (FOIL_UNLIKELY(p->n_bytes > 16))
			memcpy(at, p->bytes, HPACK_PREFIX_BYTES);
		if (FOIL_UNLIKELY(is_sensitive(id, value)))
			*at |= NEVER_INDEXED;
		at += p->n_bytes;
		*at++ = (uint8_t)value.n_bytes;
		foil_copy(at, value.data, value.n_bytes);
		o->at = at + value.n_bytes;
		return;
	}
	if (id == HTTP_HDR_OTHER) {
		put_byte(o, LITERAL);
		put_string(o, name);
	} else if (has_room(o, p->n_bytes)) {
		memcpy(o->at, p->bytes, p->n_bytes);
		*o->at |= is_sensitive(id, value) ? NEVER_INDEXED : 0;
		o->at += p->n_bytes;
	}
	put_string(o, value);
}

/* ---- with the peer's table ---- */
/* By the name alone: secrets, and what is different in each message. */
static const uint8_t is_never_indexed[HPACK_ID_COUNT] = {
	[HTTP_HDR_OTHER] = 1, [HTTP_HDR_AUTHORIZATION] = 1, [HTTP_HDR_PROXY_AUTHORIZATION] = 1, [HTTP_HDR_COOKIE] = 1, [HTTP_HDR_SET_COOKIE] = 1,
	[HTTP_HDR_X_FORWARDED_CLIENT_CERT] = 1, [HTTP_HDR_X_REQUEST_ID] = 1, [HTTP_HDR_CONTENT_LENGTH] = 1, [HTTP_HDR_ETAG] = 1, [HTTP_HDR_LAST_MODIFIED] = 1,
	[HTTP_HDR_TRACEPARENT] = 1, [HTTP_HDR_TRACESTATE] = 1, [HTTP_HDR_X_B3_TRACEID] = 1, [HTTP_HDR_X_B3_SPANID] = 1, [HTTP_HDR_X_B3_PARENTSPANID] = 1,
	[HTTP_HDR_LOCATION] = 1, [HTTP_HDR_RANGE] = 1, [HTTP_HDR_CONTENT_RANGE] = 1, [HTTP_HDR_X_ENVOY_ORIGINAL_PATH] = 1, [HPACK_STATUS] = 1,
};

void hpack_encoder_begin(struct hpack_out *o, struct hpack_encoder *e)
{
	if (FOIL_LIKELY(!e->owes_clear))
		return;
	*e = (struct hpack_encoder){.n_inserted = 0};
	put_integer(o, SIZE_UPDATE, 5, 0);
	put_integer(o, SIZE_UPDATE, 5, HPACK_TABLE_BYTES);
}

void hpack_encoder_forget(struct hpack_encoder *e)
{
	e->owes_clear = true;
}

void hpack_encoder_rewind(struct hpack_encoder *e, const struct hpack_mark *to)
{
	if (to->owes_clear) { /* it begins with an empty table again */
		*e = (struct hpack_encoder){.owes_clear = true};
		return;
	}
	e->inserted_bytes = to->inserted_bytes;
	e->n_inserted = to->n_inserted;
	for (uint32_t i = 0; i < e->n_slots; i++)
		if ((int32_t)(e->slot[i].number - to->n_inserted) > 0)
			e->slot[i].n_bytes = HPACK_SLOT_NONE; /* what was there before may still be at the peer, where nobody uses it */
}

/* The slot for that name; NULL: it has none. */
static struct hpack_slot *slot_of(struct hpack_encoder *e, uint16_t id)
{
	if (FOIL_LIKELY(e->slot_of_id[id]))
		return &e->slot[e->slot_of_id[id] - 1];
	if (is_never_indexed[id] || e->n_slots == HPACK_SLOTS)
		return NULL;
	e->slot[e->n_slots].id = id;
	e->slot[e->n_slots].n_bytes = HPACK_SLOT_NONE;
	e->slot_of_id[id] = ++e->n_slots;
	return &e->slot[e->n_slots - 1];
}

/* What the last insertion has pushed out of the peer's table. */
static void forget_evicted(struct hpack_encoder *e)
{
	for (uint32_t i = 0; e->inserted_bytes > HPACK_TABLE_BYTES && i < e->n_slots; i++)
		if (e->inserted_bytes - e->slot[i].from_bytes > HPACK_TABLE_BYTES)
			e->slot[i].n_bytes = HPACK_SLOT_NONE;
}

static void put_inserted(struct hpack_out *o, struct hpack_encoder *e, struct hpack_slot *s, struct foil_slice name, struct foil_slice value)
{
	uint32_t index = s->id < HTTP_HDR_COUNT ? hpack_index_of_id[s->id] : pseudo_index[s->id - HTTP_HDR_COUNT];

	put_integer(o, INSERTED, 6, index);
	if (!index)
		put_string(o, name);
	put_string(o, value);
	s->from_bytes = e->inserted_bytes;
	e->inserted_bytes += name.n_bytes + value.n_bytes + HPACK_ENTRY_OVERHEAD;
	s->number = ++e->n_inserted;
	s->n_bytes = value.n_bytes;
	memcpy(s->value, value.data, value.n_bytes);
	forget_evicted(e);
}

void hpack_put_indexed(struct hpack_out *o, struct hpack_encoder *e, uint16_t id, struct foil_slice name, struct foil_slice value)
{
	if (id >= HTTP_HDR_COUNT && hpack_put_whole(o, id, value))
		return;
	struct hpack_slot *s = value.n_bytes && value.n_bytes <= HPACK_SLOT_BYTES ? slot_of(e, id) : NULL;
	if (!s) {
		hpack_put(o, id, name, value);
		return;
	}
	if (hpack_put_again(o, e, id, value))
		return;
	if (++s->n_misses == MISSES_AGAIN)
		s->n_misses = 0;
	if (s->n_misses > MISSES_MAX)
		hpack_put(o, id, name, value);
	else
		put_inserted(o, e, s, name, value);
}
