/* HPACK (RFC 7541): header blocks of HTTP/2. The decoder keeps the peer's dynamic table; the encoder keeps none (it announces size 0
 * by never inserting), so that an encoded head depends on nothing but the head.
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

struct hpack_entry {
	uint32_t at; /* in data: name, then value */
	uint16_t n_name_bytes, n_value_bytes;
	uint16_t id; /* enum http_header_id */
};

/* Zeroed memory is an empty table that may not grow until hpack_decoder_init. */
struct hpack_decoder {
	uint32_t n_bytes, max_bytes; /* as section 4.1 counts; max_bytes <= HPACK_TABLE_BYTES */
	uint16_t newest, n_entries;  /* entry[newest] has dynamic index 1 */
	uint32_t data_end;
	struct hpack_entry entry[HPACK_ENTRIES_MAX];
	uint8_t data[2 * HPACK_TABLE_BYTES]; /* live bytes are at most half of it, so that a full tail is always mended by one move */
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
/* Appends every field of the block, pseudo fields included, to list in order. Names and values are in the arena or constant, and live as
 * long as it. */
enum hpack_result hpack_decode(struct foil_worker *w, struct hpack_decoder *d, struct foil_slice block, const struct hpack_limits *limits,
			       struct foil_arena *a, struct http_headers *list) FOIL_MUST_USE;

/* Writes into out[0..n_room); is_full is sticky and what was written then is of no use. */
struct hpack_out {
	uint8_t *at, *end;
	bool is_full;
};
void hpack_put_status(struct hpack_out *o, uint16_t status);
/* name: lower case. id: of the name, HTTP_HDR_OTHER for pseudo fields too. Sensitive values are marked as never to be indexed. */
void hpack_put(struct hpack_out *o, uint16_t id, struct foil_slice name, struct foil_slice value);
/* Bytes that hpack_put may need at most. */
static inline uint32_t hpack_put_bytes_max(struct foil_slice name, struct foil_slice value)
{
	return 1 + 5 + name.n_bytes + 5 + value.n_bytes;
}
