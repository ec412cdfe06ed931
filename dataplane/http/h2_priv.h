/* HTTP/2 inside the room (RFC 9113): the connection, the stream, and what its files offer each other.
 *
 *   h2_frame.c    frame headers and the payloads of fixed form: bytes <-> structs, pure functions
 *   h2_message.c  fields of a block -> http_head: pseudo fields, what may not be there, lengths
 *   h2_encode.c   http_head -> HEADERS and CONTINUATION frames
 *   h2_block.c    HEADERS and CONTINUATIONs put together, decoded, and whom they are for
 *   h2_memo.c     blocks that come again
 *   h2_receive.c  the frames of a stream's rx, one after the other
 *   h2_control.c  SETTINGS, PING, GOAWAY, RST_STREAM, WINDOW_UPDATE, PRIORITY
 *   h2_stream.c   streams: finding, delivering, finishing, ending
 *   h2_flow.c     both directions' windows
 *   h2_send.c     what users send, queued on its stream; fair output
 *   h2_guard.c    peers that cost more than they ask for
 *   h2_conn.c     beginning, failing, draining, timers, closing
 *   h2_client.c   streams that we begin
 *
 * Output has two ways: control frames, heads and what is short go to h2_conn.out in order, while the transport has room (a client's heads always);
 * everything else waits on its stream and goes out in turns (h2_flush), which the outermost leave of the connection runs once for all that happened. */
#pragma once

#include <endian.h>

#include "dataplane/core/cursor.h"
#include "dataplane/http/hpack.h"
#include "dataplane/http/http_priv.h"

#define H2_FRAME_HEADER_BYTES 9u
#define H2_FRAME_BYTES_MAX 16384u        /* SETTINGS_MAX_FRAME_SIZE: the default, ours and the most that we send at a time */
#define H2_CONTROL_BYTES_MAX 384u        /* a SETTINGS frame of 64 settings */
#define H2_WINDOW_DEFAULT 65535u         /* RFC 9113 6.9.2 */
#define H2_WINDOW_MAX 0x7fffffffu
#define H2_ID_MAX 0x7fffffffu
#define H2_STREAM_TX_HIGH_BYTES (128u * 1024u) /* queued on one stream before its user should wait */
#define H2_STREAM_TX_LEAN_BYTES (16u * 1024u)  /* the same while the connection holds more than this: */
#define H2_CONN_TX_HELD_BYTES (1024u * 1024u)
#define H2_COPY_BYTES_MAX 256u           /* a piece of DATA this small is copied: many of them must not pin an mbuf each */
#define H2_INFORMATIONAL_MAX 16u
#define H2_CONTINUATIONS_MAX 64u         /* of one block, besides the bound on its bytes */
#define H2_BLOCK_BYTES_MAX (FOIL_LARGE_CHUNK_BYTES - 512u) /* of one block: more than any list that is let in, so that most of the others get their 431 */
#define H2_BUCKETS 64u                   /* streams by id */
#define H2_CLOSED_KEPT 128u              /* how the last streams ended, for frames that come late */
#define H2_PEER_STREAMS_DEFAULT 100u     /* before the peer's SETTINGS say; RFC 9113 6.5.2 asks for no less */
#define H2_STREAMS_DEFAULT 100u          /* ours: features.md OM-7, EDGE */
#define H2_STREAM_WINDOW_DEFAULT (64u * 1024u)
#define H2_CONN_WINDOW_DEFAULT (1024u * 1024u)
#define H2_SETTINGS_ACK_US 30000000u     /* SETTINGS_TIMEOUT (RFC 9113 6.5.3) */
#define H2_DRAIN_STEP_US 5000000u        /* at most so long after the first GOAWAY the second follows */

enum h2_type {
	H2_DATA, H2_HEADERS, H2_PRIORITY, H2_RST_STREAM, H2_SETTINGS, H2_PUSH_PROMISE, H2_PING, H2_GOAWAY, H2_WINDOW_UPDATE, H2_CONTINUATION,
};
enum h2_flag { H2_END_STREAM = 0x1, H2_ACK = 0x1, H2_END_HEADERS = 0x4, H2_PADDED = 0x8, H2_PRIORITY_FLAG = 0x20 };
enum h2_code {
	H2_NO_ERROR, H2_PROTOCOL_ERROR, H2_INTERNAL_ERROR, H2_FLOW_CONTROL_ERROR, H2_SETTINGS_TIMEOUT, H2_STREAM_CLOSED, H2_FRAME_SIZE_ERROR,
	H2_REFUSED_STREAM, H2_CANCEL, H2_COMPRESSION_ERROR, H2_CONNECT_ERROR, H2_ENHANCE_YOUR_CALM, H2_INADEQUATE_SECURITY, H2_HTTP_1_1_REQUIRED,
};
enum h2_setting {
	H2_SET_HEADER_TABLE_SIZE = 1, H2_SET_ENABLE_PUSH, H2_SET_MAX_CONCURRENT_STREAMS, H2_SET_INITIAL_WINDOW_SIZE, H2_SET_MAX_FRAME_SIZE,
	H2_SET_MAX_HEADER_LIST_SIZE, H2_SET_ENABLE_CONNECT_PROTOCOL = 8,
};

/* ---- lists: circular; a head and its nodes are the same; an unlinked node points at itself or is zero ---- */
/* ---- h2_frame.c ---- */
struct h2_frame {
	uint32_t length_bytes, stream_id;
	uint8_t type, flags;
};
/* Nine bytes at p: eight as one number, and the last. */
static inline struct h2_frame h2_frame_read(const uint8_t p[H2_FRAME_HEADER_BYTES])
{
	uint64_t v = be64toh(foil_load_8(p));

	return (struct h2_frame){.length_bytes = (uint32_t)(v >> 40), .type = (uint8_t)(v >> 32), .flags = (uint8_t)(v >> 24),
				 .stream_id = ((uint32_t)v << 8 | p[8]) & H2_ID_MAX};
}
static inline void h2_frame_write(uint8_t p[H2_FRAME_HEADER_BYTES], const struct h2_frame *f)
{
	uint64_t v = htobe64((uint64_t)f->length_bytes << 40 | (uint64_t)f->type << 32 | (uint64_t)f->flags << 24 | f->stream_id >> 8);

	memcpy(p, &v, sizeof(v));
	p[8] = (uint8_t)f->stream_id;
}
/* Appends a whole frame with a short payload. 0 or -ENOBUFS. */
int h2_frame_append(struct foil_worker *w, struct foil_chain *out, const struct h2_frame *f, const void *payload) FOIL_MUST_USE;
extern const char h2_preface[24];

/* ---- h2_message.c ---- */
/* enum http_judged of a field that came; what stays in a table or goes through us is judged once. */
uint8_t h2_judge(uint16_t id, struct foil_slice name, struct foil_slice value);
/* list: the fields of a block in order, pseudo fields first as they should be. The head's headers are list without what is not passed on.
 * OK and MISSING_HOST: out is complete. */
enum http_reason h2_read_request(struct foil_worker *w, struct foil_arena *a, struct http_headers *list, const struct http_limits *limits,
				 bool end, struct http_head *out) FOIL_MUST_USE;
enum http_reason h2_read_response(struct http_headers *list, bool end, struct http_head *out) FOIL_MUST_USE;
enum http_reason h2_read_trailers(struct http_headers *list) FOIL_MUST_USE;

/* ---- streams ---- */
enum h2_rx { H2_RX_HEAD, H2_RX_BODY, H2_RX_ENDED /* arrived whole, not delivered whole */, H2_RX_DONE, H2_RX_IGNORED };
enum h2_tx { H2_TX_HEAD, H2_TX_BODY, H2_TX_ENDED /* the user has given all of it */, H2_TX_DONE /* the transport has all of it */ };
enum h2_closed { H2_CLOSED_UNKNOWN, H2_CLOSED_ENDED, H2_CLOSED_BY_US, H2_CLOSED_BY_PEER };

struct h2_stream {
	struct http_stream hs; /* first */
	const struct http_stream_events *ev;
	struct h2_link all;        /* h2_conn.streams */
	struct h2_link sending;    /* h2_conn.sending or .blocked */
	struct h2_link telling;    /* h2_conn.telling */
	struct h2_stream *next_in_bucket, *next_dead;
	uint32_t id;               /* 0: client side, before the head was sent */

	/* receiving */
	struct foil_chain rx_held; /* arrived, not delivered */
	struct http_headers trailers;
	uint64_t rx_left_bytes;    /* of content-length */
	int64_t rx_window;
	uint32_t rx_credit;        /* delivered, not yet told to the peer */
	uint8_t rx;                /* enum h2_rx */
	uint8_t n_informational;
	bool has_length, has_trailers, is_paused, had_head, has_continued;

	/* sending */
	struct foil_chain tx_head; /* frames */
	struct foil_chain tx_body; /* bytes without framing */
	struct foil_chain tx_tail; /* trailers, framed */
	int64_t tx_window;
	uint64_t tx_left_bytes;    /* of content-length */
	uint64_t tx_from_bytes;    /* h2_conn.written_bytes when the first of it went out */
	uint8_t tx;                /* enum h2_tx */
	bool ends_in_head, has_tx_length, drops_body, was_full, owes_writable;

	uint8_t method;            /* enum http_method */
	bool is_upgrade, is_tunnel; /* CONNECT with :protocol was asked for, was accepted */
	struct foil_slice upgrade_token; /* client side: what :protocol was */
	bool is_dead;
	struct foil_arena own_arena; /* server side */
};

static inline struct h2_stream *h2_of(struct http_stream *hs)
{
	return FOIL_CONTAINER_OF(hs, struct h2_stream, hs);
}

/* What a peer's frames have cost so far. */
struct h2_guard {
	uint64_t second_us;          /* the second that n_control counts in */
	uint32_t n_control;          /* PING, SETTINGS and frames of unknown types in it */
	uint32_t n_empty;            /* frames without payload in a row */
	uint64_t n_opened, n_closed; /* streams of the peer's */
	uint64_t n_premature;        /* that it reset, or made us reset, soon after it had opened them */
	uint64_t n_priority, n_window_updates, n_data_sent;
	uint32_t n_out[2];           /* control frames that may still be unread: of the older and the newer half */
	uint64_t out_mark_bytes;     /* when so much was acknowledged the older half is read */
};

enum h2_in { H2_IN_PREFACE, H2_IN_FRAME, H2_IN_CONTROL, H2_IN_PAD, H2_IN_DATA, H2_IN_SKIP, H2_IN_BLOCK };

struct h2_conn {
	struct http_conn *c;
	uint64_t serial; /* no other connection of the worker ever has it */

	/* receiving */
	struct h2_frame frame;
	uint32_t frame_left_bytes, pad_left_bytes;
	uint8_t in;                  /* enum h2_in */
	bool had_settings;           /* the peer's first, which comes before all else */
	bool owes_consumed;          /* rx became shorter, which the stream is told once a run */
	bool peer_takes_connect;     /* it knows :protocol (RFC 8441 3) */
	int64_t rx_window;
	uint32_t rx_credit;
	/* a header block being put together */
	char *block;
	uint32_t block_bytes, block_cap, block_frame_at;
	uint32_t block_id, n_continuations;
	uint8_t block_flags;         /* of its HEADERS */
	bool block_depends_on_itself;
	uint64_t block_since_us;     /* 0: none */

	/* streams */
	struct h2_link streams, sending, blocked, telling;
	struct h2_stream *bucket[H2_BUCKETS];
	struct h2_stream *dead;
	uint32_t n_streams;
	uint32_t last_peer_id, next_id; /* server: highest that the client opened; client: what the next is given */
	uint32_t goaway_id;          /* what our last GOAWAY said; client: what the server's said */
	uint32_t closed_id[H2_CLOSED_KEPT];
	uint8_t closed_how[H2_CLOSED_KEPT];
	uint32_t closed_at;

	/* sending */
	struct foil_chain out;
	int64_t tx_window;
	uint64_t written_bytes;      /* handed to the transport since the beginning */
	uint64_t tx_held_bytes;      /* bodies that wait on streams */
	uint32_t peer_window, peer_frame_max, peer_streams_max;
	bool puts_size_update;       /* the peer's table is smaller than the default: we use none, and every block says so */
	uint16_t owes_failure;       /* enum http_reason: an output that could not be; the connection fails at the end of the turn */

	/* the connection's end */
	bool is_draining, is_final_goaway_sent, has_goaway, is_settings_acked;
	uint64_t settings_at_us, drain_at_us, idle_since_us, timer_at_us;
	uint64_t ping_at_us, pong_by_us; /* when the next PING goes out, by when the last is to be answered; 0: none */

	struct h2_guard guard;
	struct foil_arena scratch;   /* blocks, and fields that nobody wants */
	struct hpack_encoder table;
	struct hpack_decoder hpack;
};

/* For a block that goes to out now. */
static inline struct hpack_encoder *h2_table(struct h2_conn *h)
{
	return h->puts_size_update ? NULL : &h->table;
}

/* ---- h2_stream.c ---- */
struct h2_stream *h2_stream_new(struct foil_worker *w, struct h2_conn *h, uint32_t id, struct foil_arena *arena) FOIL_MUST_USE;
void h2_stream_put_in_bucket(struct h2_conn *h, struct h2_stream *x);
struct h2_stream *h2_stream_find(const struct h2_conn *h, uint32_t id);
FOIL_COLD void h2_stream_peer_reset(struct h2_conn *h, uint32_t id);
enum h2_closed h2_stream_how_closed(const struct h2_conn *h, uint32_t id);
/* id was never used: a frame for it has no business here. */
bool h2_id_is_idle(const struct h2_conn *h, uint32_t id);
/* The stream leaves its connection, silently; memory comes back with h2_reap. */
void h2_stream_end(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, enum h2_closed how);
/* RST_STREAM with code, and its user is told kind and reason. */
FOIL_COLD void h2_stream_fail(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, enum h2_code code, enum http_reset kind, enum http_reason reason);
/* Ended by the other side or with the connection: its user is told. */
void h2_stream_lost(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, const struct http_reset_info *info, enum h2_closed how);
/* x has sent all of its own: it ends if the other side has, too. */
void h2_stream_sent(struct foil_worker *w, struct h2_stream *x);
static inline void h2_stream_maybe_finish(struct foil_worker *w, struct h2_stream *x)
{
	if (x->tx == H2_TX_DONE)
		h2_stream_sent(w, x);
}
/* x has something to be told (data, its end, room) at the end of this turn. */
static inline void h2_stream_tell(struct h2_conn *h, struct h2_stream *x)
{
	if (!h2_link_is_on(&x->telling))
		h2_link_add(&h->telling, &x->telling);
}
void h2_tell_all(struct foil_worker *w, struct h2_conn *h);
void h2_reap(struct foil_worker *w, struct http_conn *c);

/* ---- h2_flow.c ---- */
/* n_bytes of a DATA frame came. False: the connection has failed. */
bool h2_flow_arrived(struct foil_worker *w, struct h2_conn *h, uint32_t n_bytes) FOIL_MUST_USE;
/* n_bytes need no room any more; x NULL: of no stream that still receives. */
void h2_flow_credit(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, uint32_t n_bytes);
void h2_flow_window_update(struct foil_worker *w, struct h2_conn *h, uint32_t id, uint32_t increment);
/* The peer's initial window is another one now. False: a window overflowed, the connection has failed. */
bool h2_flow_initial(struct foil_worker *w, struct h2_conn *h, uint32_t window) FOIL_MUST_USE;

/* ---- h2_block.c ---- */
/* A HEADERS or CONTINUATION begins; false: the connection has failed. */
bool h2_block_begin(struct foil_worker *w, struct h2_conn *h) FOIL_MUST_USE;
/* Takes what is there of its payload; false: more must come, or the connection has failed. */
bool h2_block_step(struct foil_worker *w, struct h2_conn *h) FOIL_MUST_USE;

/* ---- h2_memo.c ---- */
#define H2_MEMO_BLOCK_BYTES 192u /* longer blocks are not kept */
#define H2_MEMO_FIELDS 16u       /* nor those of more fields that are no pseudo fields, */
#define H2_MEMO_TEXT_BYTES 512u  /* or of more text; a multiple of 32 */
#define H2_MEMO_ROOM 12u         /* in the list for what is added on the way */
struct h2_memo {
	uint64_t conn_serial; /* h2_conn.serial; 0: the place is empty */
	uint64_t table_version;
	uint16_t n_block, n_text, n_fields;
	bool end, is_filled;
	uint16_t pseudo_at[4], value_at[H2_MEMO_FIELDS], name_at[H2_MEMO_FIELDS]; /* in text */
	uint8_t block[H2_MEMO_BLOCK_BYTES];
	struct http_head head;
	struct http_header list[H2_MEMO_FIELDS];
	char text[H2_MEMO_TEXT_BYTES];
};
uint32_t h2_memo_places(void);
/* True: *out is what the block meant the last time, in a. False: it is to be decoded; if *to_fill is not NULL, h2_memo_fill wants to hear what it meant. */
bool h2_memo_recall(struct foil_worker *w, const struct h2_conn *h, struct foil_slice block, bool end, struct foil_arena *a, struct http_head *out,
		    struct h2_memo **to_fill) FOIL_MUST_USE;
/* head: as it was read, and good. */
void h2_memo_fill(struct h2_memo *m, const struct h2_conn *h, const struct http_head *head);

/* ---- h2_control.c ---- */
/* p[0..n_bytes) is the payload of h->frame. False: the connection has failed. */
bool h2_control(struct foil_worker *w, struct h2_conn *h, const uint8_t *p, uint32_t n_bytes) FOIL_MUST_USE;

/* ---- h2_receive.c ---- */
static inline void h2_consume(struct h2_conn *h, uint32_t n_bytes)
{
	foil_chain_consume(&h->c->s->rx, n_bytes);
	h->owes_consumed = true;
}
void h2_run(struct foil_worker *w, struct http_conn *c);

/* ---- h2_encode.c ---- */
enum h2_head_kind { H2_HEAD_REQUEST, H2_HEAD_RESPONSE, H2_HEAD_TRAILERS };
struct h2_encode_params {
	const struct http_head *head;       /* REQUEST, RESPONSE */
	const struct http_headers *headers; /* TRAILERS; may be NULL */
	enum h2_head_kind kind;
	uint32_t stream_id;
	struct hpack_encoder *table;        /* NULL: the block may leave in another order than it is made, or the peer wants no table */
	bool ends, says_length, puts_size_update;
};
/* Appends HEADERS and CONTINUATIONs to out. 0, -ENOBUFS, or -EBADMSG for a head that no peer may see; out is unchanged on failure. */
int h2_encode(struct foil_worker *w, const struct h2_encode_params *p, struct foil_chain *out) FOIL_MUST_USE;

/* ---- h2_send.c ---- */
int h2_send_head(struct foil_worker *w, struct http_stream *hs, const struct http_head *head, bool end);
void h2_send_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end);
int h2_send_trailers(struct foil_worker *w, struct http_stream *hs, const struct http_headers *trailers);
uint32_t h2_tx_room(const struct http_stream *hs);
void h2_flush(struct foil_worker *w, struct http_conn *c);
/* Bytes that x may queue before its user should wait: fewer when the whole connection holds much, never none for a stream without a queue. */
static inline uint32_t h2_stream_tx_high(const struct h2_conn *h)
{
	uint32_t most = h->c->limits->h2_queue_bytes_max;

	return h->tx_held_bytes > H2_CONN_TX_HELD_BYTES ? FOIL_MIN(most, H2_STREAM_TX_LEAN_BYTES) : most;
}
/* Control frames; without memory for one the connection fails at the end of the turn. */
void h2_put(struct foil_worker *w, struct h2_conn *h, const struct h2_frame *f, const void *payload);
void h2_put_u32(struct foil_worker *w, struct h2_conn *h, enum h2_type type, uint32_t stream_id, uint32_t value);
FOIL_COLD void h2_put_goaway(struct foil_worker *w, struct h2_conn *h, uint32_t last_id, enum h2_code code);
void h2_stream_may_send(struct h2_conn *h, struct h2_stream *x);
void h2_unblock(struct h2_conn *h);

/* ---- h2_guard.c: false: it was too much, the connection has failed ---- */
bool h2_guard_frame(struct foil_worker *w, struct h2_conn *h) FOIL_MUST_USE; /* any frame's header is in h->frame */
bool h2_guard_control(struct foil_worker *w, struct h2_conn *h) FOIL_MUST_USE; /* one more frame that asks for nothing */
bool h2_guard_closed(struct foil_worker *w, struct h2_conn *h, const struct h2_stream *x, bool by_peers_fault);
bool h2_guard_refused(struct foil_worker *w, struct h2_conn *h);
bool h2_guard_out(struct h2_conn *h) FOIL_MUST_USE; /* one more control frame is to be queued; false: too many (nothing has failed yet) */

/* ---- h2_conn.c ---- */
/* Puts HTTP/2 on c: settings go out with its first turn. False: no block is free. */
bool h2_begin(struct foil_worker *w, struct http_conn *c) FOIL_MUST_USE;
/* GOAWAY, every stream is told, the connection closes in order. Always returns false. */
FOIL_COLD bool h2_fail(struct foil_worker *w, struct h2_conn *h, enum h2_code code, enum http_reason reason);
/* Every stream is told info, then the connection is gone. s is kept by nobody: has_closed says that it is dead already. */
void h2_end_all(struct foil_worker *w, struct http_conn *c, const struct http_reset_info *info, bool has_closed);
void h2_maybe_close(struct foil_worker *w, struct h2_conn *h);
void h2_tell_ready(struct foil_worker *w, struct h2_conn *h);
void h2_timer_by(struct foil_worker *w, struct h2_conn *h, uint64_t at_us);
FOIL_COLD void h2_final_goaway(struct foil_worker *w, struct h2_conn *h);
void h2_fini(struct foil_worker *w, struct http_conn *c);

/* ---- h2_client.c ---- */
uint32_t h2_client_capacity(const struct http_conn *c);
struct http_stream *h2_client_start(struct foil_worker *w, struct http_conn *c, struct foil_arena *arena, const struct http_stream_events *ev,
				    void *user_data) FOIL_MUST_USE;

static inline bool h2_is_over(const struct h2_conn *h)
{
	return h->c->is_closing || h->c->is_gone || h->owes_failure;
}

extern const struct http_conn_ops h2_server_ops, h2_client_ops;
extern const uint8_t h2_drain_ping[8], h2_alive_ping[8];
