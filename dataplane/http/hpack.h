/* HPACK (RFC 7541): header blocks of HTTP/2. The decoder keeps the peer's dynamic table; the encoder remembers, of the entries that it has made in the
 * other one, the last of each name that is worth it: a field that is the same as last time is one byte.
 *
 * A block is decoded whole (HEADERS and its CONTINUATIONs put together by h2) or the connection fails: a compression error is fatal
 * to the connection (RFC 9113 4.3), because both tables must stay equal. A list beyond the limits is still decoded to the end,
 * its fields dropped, so that the table stays right and only the one stream is refused. */
#pragma once

#include "dataplane/core/worker.h"
#include "dataplane/http/message.h"

#define HPACK_TABLE_BYTES 4096u /* SETTINGS_HEADER_TABLE_SIZE that we announce: the default */
#define HPACK_ENTRY_OVERHEAD 32u /* section 4.1 */
#define HPACK_ENTRIES_MAX (HPACK_TABLE_BYTES / HPACK_ENTRY_OVERHEAD)
#define HPACK_DATA_BYTES (2 * HPACK_TABLE_BYTES)
#define HPACK_COPY_BYTES 32u /* short values are copied by so many bytes, which needs no loop */

/* Ids of pseudo fields, behind enum http_header_id: in tables and in what hpack_decode puts into a list, nowhere else. */
enum hpack_pseudo {
	HPACK_METHOD = HTTP_HDR_COUNT, HPACK_SCHEME, HPACK_AUTHORITY, HPACK_PATH, HPACK_STATUS, HPACK_PROTOCOL, HPACK_ID_COUNT
};
static_assert(HPACK_ID_COUNT <= 64u * HTTP_HDR_WORDS, "a bit an id");

struct hpack_entry {
	uint32_t at; /* in data: name, then value */
	uint16_t n_name_bytes, n_value_bytes;
	uint16_t id; /* enum http_header_id, enum hpack_pseudo */
	uint8_t judged; /* enum http_judged */
};

/* Zeroed memory is an empty table that may not grow until hpack_decoder_init. */
struct hpack_decoder {
	uint32_t n_bytes, max_bytes; /* as section 4.1 counts; max_bytes <= HPACK_TABLE_BYTES */
	uint16_t newest, n_entries;  /* entry[newest] has dynamic index 1 */
	uint32_t data_end;
	uint64_t version;            /* another one whenever the table, or what it may hold, has changed */
	bool had_never_indexed;      /* the last block had such a field (section 6.2.3) */
	struct hpack_entry entry[HPACK_ENTRIES_MAX];
	/* Live bytes are at most half of it, so that a full tail is always mended by one move; behind it is what a short copy may read and nobody looks at. */
	uint8_t data[HPACK_DATA_BYTES + HPACK_COPY_BYTES];
};

enum hpack_result {
	HPACK_OK,
	HPACK_TOO_LARGE,     /* over a limit; the table is right, list holds what came before */
	HPACK_NO_MEMORY,     /* the arena is exhausted: fatal to the connection, since the table is behind (INTERNAL_ERROR) */
	HPACK_BAD_INDEX,     /* from here on: COMPRESSION_ERROR */
	HPACK_BAD_INTEGER,
	HPACK_BAD_HUFFMAN,
	HPACK_BAD_SIZE_UPDATE,
	HPACK_TRUNCATED,
};

static inline bool hpack_is_fatal(enum hpack_result r)
{
	return r >= HPACK_NO_MEMORY;
}

struct hpack_limits {
	uint32_t list_bytes_max; /* names, values and 32 a field (RFC 9113 6.5.2) */
	uint16_t fields_max;
};

void hpack_decoder_init(struct hpack_decoder *d);
/* Appends every field of the block, pseudo fields included, to list in order, judged. Names and values are in the arena or constant, and live as
 * long as it; what the list lacks is not noted. */
enum hpack_result hpack_decode(struct foil_worker *w, struct hpack_decoder *d, struct foil_slice block, const struct hpack_limits *limits,
			       struct foil_arena *a, struct http_headers *list) FOIL_MUST_USE;

/* Writes into out[0..n_room); is_full is sticky and what was written then is of no use. */
struct hpack_out {
	uint8_t *at, *end;
	bool is_full;
};
void hpack_put_status(struct hpack_out *o, uint16_t status);
/* A pseudo field that the static table has whole. False: it has not, and nothing is written. */
bool hpack_put_whole(struct hpack_out *o, uint16_t id, struct foil_slice value);
/* name: lower case. id: of the name; enum hpack_pseudo for pseudo fields but :status. Sensitive values are marked as never to be indexed. */
void hpack_put(struct hpack_out *o, uint16_t id, struct foil_slice name, struct foil_slice value);

/* Of the peer's table (4096 bytes, which is the default and nobody's to announce): entries are evicted there oldest first, so one is there as long as
 * what was inserted from it on fits. Zeroed memory is an encoder that has inserted nothing.
 * Invariant: a slot that is not HPACK_SLOT_NONE is in the peer's table, at an index that two bytes hold. */
#define HPACK_DYNAMIC_FIRST 62u
#define HPACK_INDEX_BYTES_MAX 2u
#define HPACK_SLOTS 20u
#define HPACK_SLOT_BYTES 104u      /* longer values are not remembered */
#define HPACK_SLOT_NONE UINT32_MAX /* nothing was inserted, or it has left the table: the length of no value */
struct hpack_slot {
	uint64_t from_bytes;  /* inserted_bytes before it */
	uint32_t number;      /* n_inserted with it */
	uint32_t n_bytes;     /* of value, 1 and more, or HPACK_SLOT_NONE */
	uint16_t id;
	uint8_t n_misses;     /* other values in a row */
	uint8_t value[HPACK_SLOT_BYTES];
};
static_assert(sizeof(struct hpack_slot) == 128, "found by a shift");
static_assert(HPACK_DYNAMIC_FIRST + HPACK_ENTRIES_MAX <= 127 + 127, "an index of two bytes at most");
struct hpack_encoder {
	uint64_t inserted_bytes; /* ever, as section 4.1 counts */
	uint32_t n_inserted;
	bool owes_clear;         /* a block that changed it was not sent: the next one empties the table first */
	uint8_t n_slots, slot_of_id[HPACK_ID_COUNT]; /* + 1; 0: none */
	struct hpack_slot slot[HPACK_SLOTS];
};
/* Before a block's first field. */
void hpack_encoder_begin(struct hpack_out *o, struct hpack_encoder *e);
/* The block is not sent after all. */
void hpack_encoder_forget(struct hpack_encoder *e);
/* The same for one that was not begun to be sent, back to where the encoder stood before hpack_encoder_begin: nothing is emptied at the peer. */
struct hpack_mark {
	uint64_t inserted_bytes;
	uint32_t n_inserted;
	bool owes_clear;
};
static inline struct hpack_mark hpack_encoder_mark(const struct hpack_encoder *e)
{
	return (struct hpack_mark){e->inserted_bytes, e->n_inserted, e->owes_clear};
}
void hpack_encoder_rewind(struct hpack_encoder *e, const struct hpack_mark *to);
/* Where the field's value is remembered, if the same one was the last of its name and is still in the table; NULL. What was written once was looked at then. */
static inline struct hpack_slot *hpack_again(struct hpack_encoder *e, uint16_t id, struct foil_slice value)
{
	uint32_t slot = e->slot_of_id[id];

	if (!slot)
		return NULL; /* nothing of that name was */
	struct hpack_slot *s = &e->slot[slot - 1];
	return s->n_bytes == value.n_bytes && foil_equal(s->value, value.data, value.n_bytes) ? s : NULL;
}
/* Its index to at, where HPACK_INDEX_BYTES_MAX have room. Returns what follows it. */
static inline uint8_t *hpack_put_slot(uint8_t *at, const struct hpack_encoder *e, struct hpack_slot *s)
{
	uint32_t index = HPACK_DYNAMIC_FIRST + (e->n_inserted - s->number);

	s->n_misses = 0;
	if (FOIL_LIKELY(index < 127)) {
		*at++ = (uint8_t)(0x80 | index);
	} else {
		*at++ = 0xff;
		*at++ = (uint8_t)(index - 127);
	}
	return at;
}
/* The field as an index. False: it is none, or there is no room; nothing is written. */
static inline bool hpack_put_again(struct hpack_out *o, struct hpack_encoder *e, uint16_t id, struct foil_slice value)
{
	struct hpack_slot *s = hpack_again(e, id, value);

	if (!s || (size_t)(o->end - o->at) < HPACK_INDEX_BYTES_MAX)
		return false;
	o->at = hpack_put_slot(o->at, e, s);
	return true;
}
/* As hpack_put, but the field may be indexed: only for blocks that leave in the order in which they are made. */
void hpack_put_indexed(struct hpack_out *o, struct hpack_encoder *e, uint16_t id, struct foil_slice name, struct foil_slice value);
/* Bytes that hpack_put and hpack_put_indexed may need at most. */
static inline uint32_t hpack_put_bytes_max(struct foil_slice name, struct foil_slice value)
{
	return 1 + 5 + name.n_bytes + 5 + value.n_bytes;
}
