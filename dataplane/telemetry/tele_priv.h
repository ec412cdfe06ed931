/* Shared inside dataplane/telemetry: one worker's context, what all share, events on their way, formats and the log's sink. */
#pragma once

#include "dataplane/core/blob.h"
#include "dataplane/telemetry/segment.h"
#include "dataplane/telemetry/shared.h"

/* ---- series.c: label sets of one worker */

enum { TELE_CLASS_HTTP, TELE_CLASS_TCP, TELE_CLASS_CELL }; /* families have the same numbers */
static_assert(TELE_CLASS_CELL + 1 == TELE_SEGMENT_CLASSES, "a class a family");

#define TELE_NO_SERIES UINT32_MAX
#define TELE_OVERFLOW_INDEX 0u /* the record kept for what has no place */

struct tele_table {
	uint8_t *records;       /* in the segment */
	uint32_t record_bytes, n_records, text_offset, text_bytes;
	uint32_t *n_used;       /* in the segment */
	uint32_t *buckets;      /* index + 1 of the newest record, 0 = none; n_buckets is a power of two */
	uint32_t n_buckets_mask;
	uint32_t *next;         /* by record: index + 1 of the next in its bucket, or in the free list */
	uint32_t *refs;         /* by record: holders of a cell */
	uint8_t *idle;          /* by record: housekeeping says that no worker uses it; relaxed */
	uint32_t free_head;     /* index + 1 */
	uint32_t expire_cursor;
};

/* What a request's labels come from by address, and the record that they led to: metrics.c asks here before it hashes texts. */
#define TELE_MEMOS 32u
struct tele_memo {
	uint64_t generation; /* 0: none */
	const void *source, *destination, *service;
	uint64_t word, flags; /* of the request: protocol, status and so on */
	uint32_t class_index, index;
};

struct tele_ctx {
	struct tele_shared *shared;
	struct tele_table tables[TELE_SEGMENT_CLASSES];
	uint64_t key;
	struct tele_memo memos[TELE_MEMOS]; /* all forgotten when a record goes */
	/* event.c */
	struct tele_ring *ring;
	uint64_t ring_head, ring_tail_seen;

	uint64_t *room_cells[FOIL_ROOM_COUNT][2]; /* what w->ctr and w->why were before */
	uint64_t idle_us;
	struct foil_timer expiry;
	struct foil_worker *w;
};

static inline struct tele_segment_series *tele_table_record(const struct tele_table *t, uint32_t i)
{
	return (struct tele_segment_series *)(void *)(t->records + (size_t)i * t->record_bytes);
}

static inline uint64_t *tele_record_cells(struct tele_segment_series *s)
{
	return (uint64_t *)(s + 1);
}

/* The one writer's add: readers in other processes load at any time. */
static inline void tele_cell_add(uint64_t *cell, uint64_t n)
{
	__atomic_store_n(cell, *cell + n, __ATOMIC_RELAXED);
}

/* The record is in use now. */
void tele_series_touch(struct foil_worker *w, struct tele_table *t, uint32_t i);
/* The record with this hash, marked as used now; TELE_NO_SERIES when there is none. */
uint32_t tele_series_find(struct foil_worker *w, uint32_t class_index, uint64_t hash);
/* A new one of values (with their names, if the class carries them); the overflow record when the table is full or text too long. */
struct tele_series_text {
	const struct foil_slice *pieces;
	uint32_t n_pieces, n_labels, kind;
};
uint32_t tele_series_make(struct foil_worker *w, uint32_t class_index, uint64_t hash, const struct tele_series_text *text);
int tele_series_init(struct foil_worker *w, struct tele_ctx *c, struct foil_blob *mem, uint8_t *region) FOIL_MUST_USE;
void tele_series_start(struct foil_worker *w);
/* Housekeeping: marks what no worker has used for idle_us. */
void tele_series_mark_idle(struct tele_shared *s, uint64_t now_us);

/* ---- hash of what labels are made of: multiply and fold, 16 bytes at a time (after wyhash, Wang Yi 2019) */

static inline uint64_t tele_fold(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;
	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t tele_hash_pair(uint64_t h, uint64_t a, uint64_t b)
{
	return tele_fold(a ^ h ^ 0xa0761d6478bd642full, b ^ 0xe7037ed1a0b428dbull ^ (h >> 32 | h << 32));
}

static inline uint64_t tele_load(const uint8_t *p, size_t n_bytes) /* n_bytes <= 8 */
{
	uint64_t v = 0;
	uint32_t low, high;
	if (n_bytes == 8) {
		memcpy(&v, p, 8);
	} else if (n_bytes >= 4) { /* twice four, which overlap */
		memcpy(&low, p, 4);
		memcpy(&high, p + n_bytes - 4, 4);
		v = (uint64_t)high << 32 | low;
	} else if (n_bytes) {
		v = (uint64_t)p[0] << 16 | (uint64_t)p[n_bytes / 2] << 8 | p[n_bytes - 1];
	}
	return v;
}

static inline uint64_t tele_hash(uint64_t h, const void *data, size_t n_bytes)
{
	const uint8_t *p = data;
	size_t left = n_bytes;
	for (; left > 16; left -= 16, p += 16)
		h = tele_hash_pair(h, tele_load(p, 8), tele_load(p + 8, 8));
	if (left > 8)
		return tele_hash_pair(h ^ n_bytes, tele_load(p, 8), tele_load(p + left - 8, 8));
	return tele_hash_pair(h ^ n_bytes, left ? tele_load(p, left) : 0, left);
}

static inline uint64_t tele_hash_u64(uint64_t h, uint64_t v)
{
	return tele_hash_pair(h, v, 0);
}

/* ---- event.c: from worker to housekeeping */

enum tele_text {
	TELE_TEXT_METHOD, TELE_TEXT_PATH, TELE_TEXT_ORIGINAL_PATH, TELE_TEXT_AUTHORITY, TELE_TEXT_DETAILS, TELE_TEXT_TERMINATION_DETAILS,
	TELE_TEXT_TRANSPORT_FAILURE, TELE_TEXT_XFF, TELE_TEXT_USER_AGENT, TELE_TEXT_REQUEST_ID, TELE_TEXT_SERVICE_TIME, TELE_TEXT_SNI,
	TELE_TEXT_ROUTE_NAME, TELE_TEXT_CLUSTER, TELE_TEXT_COUNT
};

/* What a line is made of: the scalars of tele_request, and its texts behind one another. */
struct tele_event {
	uint64_t start_wall_us, duration_us, bytes_received, bytes_sent, request_wire_bytes, response_wire_bytes, flags;
	struct tele_addr upstream_host, upstream_local, downstream_local, downstream_remote;
	uint32_t attempts;
	int16_t grpc_status;
	uint16_t status;
	uint8_t version, is_tcp;
	uint16_t text_bytes[TELE_TEXT_COUNT]; /* TELE_TEXT_ABSENT: there is none */
	uint64_t format_key;
	uint16_t n_captures, capture_bytes[TELE_CAPTURES_MAX];
};
#define TELE_TEXT_ABSENT UINT16_MAX
/* The texts of one event: those that every one has, then its captures; NULL data: absent. */
#define TELE_TEXTS_MAX (TELE_TEXT_COUNT + TELE_CAPTURES_MAX)

struct tele_ring {
	FOIL_CACHE_ALIGNED uint64_t head; /* written by the worker */
	FOIL_CACHE_ALIGNED uint64_t tail; /* written by housekeeping */
	FOIL_CACHE_ALIGNED uint8_t *data;
	uint32_t n_bytes; /* a power of two */
};

/* Worker: copies r's facts, or counts a drop. */
void tele_event_put(struct foil_worker *w, const struct tele_request *r);
/* Housekeeping: the oldest event; it and its texts stay until tele_event_done. NULL: none. */
const struct tele_event *tele_event_peek(struct tele_ring *ring, struct foil_slice texts[TELE_TEXTS_MAX]);
void tele_event_done(struct tele_ring *ring);

/* ---- format.c: a log format made into a list of operations; render.c: a line from it */

enum tele_field {
	TELE_FIELD_TEXT, TELE_FIELD_START_TIME, TELE_FIELD_PROTOCOL, TELE_FIELD_RESPONSE_CODE, TELE_FIELD_RESPONSE_FLAGS,
	TELE_FIELD_BYTES_RECEIVED, TELE_FIELD_BYTES_SENT, TELE_FIELD_DURATION, TELE_FIELD_ATTEMPTS, TELE_FIELD_REQUEST_WIRE_BYTES,
	TELE_FIELD_RESPONSE_WIRE_BYTES, TELE_FIELD_ADDRESS, TELE_FIELD_ADDRESS_WITHOUT_PORT, TELE_FIELD_PORT, TELE_FIELD_GRPC_CAMEL,
	TELE_FIELD_GRPC_SNAKE, TELE_FIELD_GRPC_NUMBER, TELE_FIELD_PATH_WITHOUT_QUERY,
	TELE_FIELD_CAPTURE, TELE_FIELD_CAPTURE_NUMBER, TELE_FIELD_FLAGS_LONG, TELE_FIELD_EMPTY, TELE_FIELD_LOG_TYPE,
	TELE_FIELD_STATISTICS_NAME
};
enum tele_address { TELE_UPSTREAM_HOST, TELE_UPSTREAM_LOCAL, TELE_DOWNSTREAM_LOCAL, TELE_DOWNSTREAM_REMOTE };
enum tele_mode {
	TELE_MODE_TEXT,       /* strings escaped for a text line, absent is "-" */
	TELE_MODE_JSON_TYPED, /* a JSON value: number, quoted string or null */
	TELE_MODE_JSON_INSIDE /* a piece of a JSON string: absent is "-" */
};
#define TELE_TEXT_NONE TELE_TEXT_COUNT

struct tele_op {
	struct foil_slice literal; /* written as it is, first */
	bool has_field;
	enum tele_field field;
	enum tele_mode mode;
	uint32_t which, other;     /* enum tele_text and what to take when it is absent; enum tele_address; of a capture: which */
	bool is_header;            /* an empty text is one */
	uint32_t n_bytes_max;      /* 0 = all */
	struct foil_slice time_format;
};

struct tele_format {
	struct foil_blob mem; /* holds it too */
	struct tele_op *ops;
	uint32_t n_ops;
	struct tele_captures captures;
};

/* The end of the string that begins at text[0] == '"', behind its second quote; 0 when it has none or is not JSON. */
uint32_t tele_json_string(struct foil_slice text);
/* Orders the keys of the object text in place; scratch takes what that needs. 0 or -1: no memory. */
int tele_json_order(char *text, uint32_t n_bytes, struct foil_blob *scratch) FOIL_MUST_USE;
/* NULL with a sentence. Any thread. */
struct tele_format *tele_format_new(struct foil_slice format, bool is_json, struct foil_error *err);
void tele_format_free(struct tele_format *own_f);
/* Of %START_TIME(format)%: what strftime knows in the C locale, and %f %1f..%9f, %s, %E1S..%E9S. */
bool tele_time_format_is_valid(struct foil_slice format);

/* The newest second as text: a line's time is mostly that of the line before. */
struct tele_second {
	uint64_t s;
	char text[20]; /* "2026-11-26T13:57:40"; "" = none yet */
};
struct tele_out {
	char *data;
	size_t n_bytes, n_room;
	bool is_short; /* something did not fit: the line is void */
	struct tele_second *second;
};
/* Appends one line with its newline. */
void tele_format_render(const struct tele_format *f, const struct tele_event *e, const struct foil_slice texts[TELE_TEXTS_MAX], struct tele_out *out);

/* ---- log.c */

#define TELE_LOG_BUFFER_BYTES (512u * 1024u)
#define TELE_LOG_PATH_BYTES 256

struct tele_log {
	char path[TELE_LOG_PATH_BYTES]; /* "" = none */
	int fd;                         /* -1 = none */
	bool is_regular, is_socket, is_failing;
	char *data;                     /* TELE_LOG_BUFFER_BYTES */
	size_t n_bytes;
};

/* Writes what the sink takes now. Returns false when something is left. */
bool tele_log_flush(struct tele_log *log, uint64_t *tele_counters);
void tele_log_close(struct tele_log *log);

/* ---- shared.c */

struct tele_shared {
	struct foil_blob mem;
	struct tele_shared_params p; /* with the defaults filled in; rooms is NULL */
	int fd;
	uint8_t *map;
	size_t n_map_bytes;
	struct tele_segment_header *header;
	uint32_t room_cell[FOIL_ROOM_COUNT][2];  /* first fixed cell of a room's counters and reasons */
	uint32_t room_cells[FOIL_ROOM_COUNT][2]; /* how many; 0 = not described */
	bool is_described[FOIL_ROOM_COUNT];
	uint64_t key;
	struct tele_ring *rings;                 /* a worker each */
	uint8_t **idle[TELE_SEGMENT_CLASSES];    /* [class][worker][record] */
	struct tele_format *format, *format_before; /* the one that workers may still record for; NULL: none */
	struct tele_log log;
	struct tele_second second;
	uint64_t mark_at_us;
	uint64_t *used_hash, *used_us;           /* room for tele_series_mark_idle */
	size_t n_used_room;
};

/* segment.c: makes and maps the memfd and writes everything that never changes. 0 or -errno with a sentence. */
int tele_segment_new(struct tele_shared *s, const struct foil_room_desc *const *rooms, size_t n_rooms, struct foil_error *err) FOIL_MUST_USE;
void tele_segment_free(struct tele_shared *s);
uint64_t *tele_segment_cells(const struct tele_shared *s, uint32_t slot);
uint8_t *tele_segment_region(const struct tele_shared *s, uint32_t worker);

/* flags.c: "UF,URX", or "-" for none, in the order in which Envoy has them; returns the length, cut at n_room. */
size_t tele_flags_text(uint64_t flags, bool is_tcp, char *out, size_t n_room);

/* metrics.c: the families; written into the segment by segment.c, counted into by metrics.c. */
extern const char *const tele_http_labels[], *const tele_tcp_labels[];
#define TELE_HTTP_LABELS 25u
#define TELE_TCP_LABELS 23u
#define TELE_BUCKETS 19u
extern const double tele_istio_bounds[TELE_BUCKETS];
enum { /* cells of the HTTP class */
	TELE_HTTP_REQUESTS = 0, TELE_HTTP_DURATION = 1, TELE_HTTP_REQUEST_BYTES = 22, TELE_HTTP_RESPONSE_BYTES = 43, TELE_HTTP_REQUEST_MESSAGES = 64,
	TELE_HTTP_RESPONSE_MESSAGES = 65, TELE_HTTP_CELLS = 72
};
enum { TELE_TCP_OPENED, TELE_TCP_CLOSED, TELE_TCP_SENT, TELE_TCP_RECEIVED, TELE_TCP_CELLS = 8 };
