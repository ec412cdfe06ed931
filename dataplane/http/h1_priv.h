/* HTTP/1.1 inside the room: the exchange, and what its files offer each other.
 *
 *   h1_parse.c    bytes of a head or of trailers -> http_head, http_headers: pure functions over contiguous bytes
 *   h1_message.c  what the fields mean: framing, hop-by-hop, host
 *   h1_receive.c  a stream's rx -> contiguous heads, body pieces: the same for both sides
 *   h1_chunked.c  the chunked coding, decoder
 *   h1_encode.c   http_head -> bytes
 *   h1_send.c     the sending half of an exchange: the same for both sides
 *   h1_server.c, h1_client.c  the two state machines */
#pragma once

#include "dataplane/http/http_priv.h"

#define H1_INFORMATIONAL_MAX 16u           /* 1xx responses to one request */
#define H1_CHUNK_LINE_BYTES_MAX 4096u      /* size, extensions and CRLF of one chunk */
#define H1_CHUNK_EXT_BYTES_MAX 16384u      /* extensions of one message */
#define H1_CHUNK_DIGITS_MAX 32u            /* leading zeros are legal, an endless row of them is not */
#define H1_COPY_BYTES_MAX 256u             /* a piece of a segment this small is copied: cheaper than a reference to it */
#define H1_CONNECTION_LINES_MAX 8u         /* lines of Connection */
#define H1_CONNECTION_NAMES_MAX 32u        /* fields that Connection names */
#define H1_REQUEST_NAMES_MAX 10u           /* words in a request's; so many are refused (Envoy) */
#define H1_NAMED_TE_BYTES_MAX 256u         /* a TE that a request's Connection names; so long, it is refused (Envoy) */

/* ---- h1_parse.c ---- */
/* Looks for the empty line that ends a block (head or trailers), again and again as it grows; each byte is looked at once. */
struct h1_block {
	uint32_t scanned, line_start;
	uint32_t n_lines; /* complete ones, the empty one not counted */
	bool takes_lf;    /* set by the caller: a bare LF ends a line, too (RFC 9112 2.2) */
	bool is_untidy;   /* takes_lf: it has such lines, or folded ones (5.2), and wants h1_tidy before it is parsed */
};
enum h1_block_result { H1_BLOCK_MORE, H1_BLOCK_FOUND, H1_BLOCK_BARE_LF };
/* p[0..n_bytes) is the block from its beginning. FOUND: *end_bytes is its length with the empty line. */
enum h1_block_result h1_block_scan(struct h1_block *b, const char *p, uint32_t n_bytes, uint32_t *end_bytes);

/* A copy of an origin's head in the arena, each line ended by CRLF and folded lines made one; *n_lines is counted anew. {NULL,0}: no memory. */
struct foil_slice h1_tidy(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t *n_lines) FOIL_MUST_USE;

/* What the decoder must know of a head besides what http_head says. Slices point into the head. */
struct h1_facts {
	struct foil_slice content_length, transfer_encoding, te, upgrade;
	struct foil_slice host[2];
	struct foil_slice connection[H1_CONNECTION_LINES_MAX];
	uint16_t n_host, n_content_length, n_transfer_encoding, n_connection, n_upgrade;
	bool has_expect_continue;
	bool is_authority_from_target;
};
/* bytes: a whole block from h1_block_scan with its n_lines. The heads' slices point into bytes, into const tables or into a. out is
 * zeroed by the callee. facts collects the fields that are not put into the headers. */
enum http_reason h1_parse_request(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t n_lines,
				  const struct http_limits *limits, struct http_head *out, struct h1_facts *facts) FOIL_MUST_USE;
enum http_reason h1_parse_response(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t n_lines,
				   const struct http_limits *limits, struct http_head *out, struct h1_facts *facts) FOIL_MUST_USE;
/* Fields that no trailer may have (RFC 9110 6.5.1) are left out. */
enum http_reason h1_parse_trailers(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t n_lines,
				   const struct http_limits *limits, struct http_headers *out) FOIL_MUST_USE;

/* ---- h1_message.c ---- */
/* Parsing and judging: what the server or client makes of a head. http_head is complete after OK, MISSING_HOST and LOW_VERSION. */
enum http_reason h1_read_request(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t n_lines,
				 const struct http_limits *limits, struct http_head *out) FOIL_MUST_USE;
/* to_head: it answers HEAD. */
enum http_reason h1_read_response(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t n_lines,
				  const struct http_limits *limits, bool to_head, struct http_head *out) FOIL_MUST_USE;
bool h1_authority_is_valid(struct foil_slice authority);

/* ---- h1_chunked.c ---- */
enum h1_chunk_state { H1_CHUNK_SIZE, H1_CHUNK_BWS, H1_CHUNK_EXT, H1_CHUNK_SIZE_LF, H1_CHUNK_DATA, H1_CHUNK_DATA_CR, H1_CHUNK_DATA_LF,
		      H1_CHUNK_LAST };
struct h1_chunked {
	uint64_t left_bytes; /* of the chunk's data */
	uint32_t ext_bytes;  /* of the message */
	uint16_t line_bytes;
	uint8_t n_digits;
	uint8_t state;       /* enum h1_chunk_state; LAST: the trailers' block comes next */
};
/* Takes framing bytes p[0..n_bytes) up to the next data, or to the last chunk's end. *n_used tells how many were framing. */
enum http_reason h1_chunked_line(struct h1_chunked *ch, const char *p, uint32_t n_bytes, uint32_t *n_used) FOIL_MUST_USE;

/* ---- the exchange ---- */
enum h1_rx { H1_RX_HEAD, H1_RX_LENGTH, H1_RX_CHUNKED, H1_RX_TRAILERS, H1_RX_UNTIL_CLOSE, H1_RX_WAITS /* for our 101 */, H1_RX_TUNNEL,
	     H1_RX_DONE, H1_RX_IGNORED };
enum h1_tx { H1_TX_HEAD, H1_TX_BODY, H1_TX_DONE };
enum h1_framing { H1_FRAME_NONE, H1_FRAME_LENGTH, H1_FRAME_CHUNKED, H1_FRAME_CLOSE, H1_FRAME_TUNNEL };

struct h1_exchange {
	struct http_stream hs; /* first */
	const struct http_stream_events *ev; /* NULL until the user knows of it */
	struct h1_exchange *next_dead;
	struct http_head *waiting; /* the head is read, and its user is told when all of the burst have been (http_burst_begin); in the arena */

	/* receiving */
	uint64_t rx_left_bytes;
	struct h1_chunked chunked;
	struct h1_block block;
	char *buf; /* a block that came in pieces, in the arena */
	uint32_t buf_bytes, buf_cap;
	struct foil_chain head_held; /* the segment that the head was parsed in */
	uint8_t rx;                  /* enum h1_rx */
	uint8_t n_informational;
	bool is_paused;
	bool owes_continue;          /* 100 Continue is due when the body is wanted */
	bool has_continued;          /* 100 was sent: once is enough */

	/* sending */
	uint64_t tx_left_bytes;
	uint8_t tx;                  /* enum h1_tx */
	uint8_t framing;             /* enum h1_framing */

	/* of the request */
	uint8_t method;              /* enum http_method */
	bool is_http10;
	bool peer_keeps_alive;
	bool is_upgrade;             /* the request asks for another protocol */
	bool is_tunnel;              /* 101: bytes are bytes from here on */
	bool is_dead;

	struct foil_arena own_arena; /* server side */
};

static inline struct h1_exchange *h1_of(struct http_stream *hs)
{
	return FOIL_CONTAINER_OF(hs, struct h1_exchange, hs);
}

/* ---- h1_receive.c ---- */
enum h1_read { H1_READ_MORE, H1_READ_DONE, H1_READ_BARE_LF, H1_READ_TOO_LARGE, H1_READ_NO_MEMORY };
/* Takes the block at the front of rx. DONE: *out is all of it, alive as long as the exchange's arena (and, with may_hold, the exchange). */
enum h1_read h1_read_block(struct foil_worker *w, struct http_conn *c, bool may_hold, struct foil_slice *out) FOIL_MUST_USE;
void h1_block_reset(struct h1_exchange *x);
/* False: it is to be told at once. True: a copy of it waits (http_conn_waits); h1_head_take is for who tells it. */
bool h1_head_waits(struct foil_worker *w, struct http_conn *c, const struct http_head *head);
static inline struct http_head *h1_head_take(struct http_conn *c)
{
	struct http_head *head = c->x->waiting;

	h2_link_del(&c->late);
	c->x->waiting = NULL;
	return head;
}
/* Delivers what is there of the body, and its end. False: a callback ended the exchange, or it was reset; look no further. */
bool h1_receive_body(struct foil_worker *w, struct http_conn *c) FOIL_MUST_USE;
/* rx until close is over in order. */
void h1_body_ends(struct foil_worker *w, struct http_conn *c);
/* The stream has ended in order in both directions, and was a tunnel: what came is delivered, there is no later. False: it was none. */
bool h1_tunnel_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why);
struct h1_exchange *h1_exchange_new(struct foil_worker *w, struct http_conn *c, struct foil_arena *arena) FOIL_MUST_USE;
/* The exchange leaves its connection; memory comes back with h1_reap. */
void h1_exchange_end(struct http_conn *c);
void h1_reap(struct foil_worker *w, struct http_conn *c);
/* Resets the exchange with a callback (if its user knows of it) and then closes the connection, in order or by RST. */
struct h1_fail {
	enum http_reset kind;
	enum http_reason reason;
	enum stream_end why;
	bool in_order;   /* what was written is still sent */
	bool has_closed; /* the stream itself has ended, this is its last callback */
};
FOIL_COLD void h1_fail(struct foil_worker *w, struct http_conn *c, const struct h1_fail *f);
/* After anything that may have completed a direction: tells the user when both are. */
void h1_maybe_finish(struct foil_worker *w, struct http_conn *c);

/* ---- h1_encode.c ---- */
struct h1_encode_params {
	enum h1_framing framing;
	uint64_t content_length;   /* LENGTH */
	bool says_length;          /* write content-length even though framing is NONE (HEAD, 304) */
	bool says_chunked;         /* the same for transfer-encoding: the answer to HEAD has no length that is known */
	bool says_close, says_keep_alive, is_http10;
};
/* Appends the head to out. 0, -ENOBUFS, or -EBADMSG for a head that no peer may see (control bytes); out is unchanged on failure. */
int h1_encode_request(struct foil_worker *w, const struct http_head *head, const struct h1_encode_params *p, struct foil_chain *out) FOIL_MUST_USE;
int h1_encode_response(struct foil_worker *w, const struct http_head *head, const struct h1_encode_params *p, struct foil_chain *out) FOIL_MUST_USE;
int h1_encode_trailers(struct foil_worker *w, const struct http_headers *trailers, struct foil_chain *out) FOIL_MUST_USE;

/* ---- h1_send.c ---- */
int h1_send_request_head(struct foil_worker *w, struct http_stream *hs, const struct http_head *head, bool end);
int h1_send_response_head(struct foil_worker *w, struct http_stream *hs, const struct http_head *head, bool end);
void h1_send_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end);
int h1_send_trailers(struct foil_worker *w, struct http_stream *hs, const struct http_headers *trailers);
uint32_t h1_tx_room(const struct http_stream *hs);
void h1_send_continue(struct foil_worker *w, struct http_conn *c);
/* For a request whose body broke a rule: the answer that the codec makes itself. */
FOIL_COLD void h1_send_refusal(struct foil_worker *w, struct http_conn *c, uint16_t status);

/* ---- shared by both sides' operations ---- */
void h1_pause(struct foil_worker *w, struct http_stream *hs, bool paused);
FOIL_COLD void h1_reset(struct foil_worker *w, struct http_stream *hs);
void h1_close(struct foil_worker *w, struct http_conn *c);
void h1_writable(struct foil_worker *w, struct http_conn *c);
bool h1_is_idle(const struct http_conn *c);
