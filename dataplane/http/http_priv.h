/* Inside the room: what a connection is to codec.h, and what a codec (h1_*.c) implements behind it.
 *
 * Callbacks of the user may call anything of codec.h, so a connection or an exchange may end below a function that still holds it.
 * Two rules make that simple. (1) Whoever comes from outside, a stream's callback, a timer or a user's call, goes through http_conn_enter
 * and http_conn_leave; memory is given back only in the outermost leave. (2) Input is decoded only in the outermost leave too, while
 * wants_run is set: so nothing recurses, however many requests a peer pipelines; and what is to be sent on a connection because another one
 * decodes is sent when that one is through (http_ctx.late). After every callback the caller looks whether its
 * exchange is still the connection's, and whether the connection is gone. */
#pragma once

#include "dataplane/http/codec.h"

#define HTTP_NAME_BYTES_MAX 48u /* of a name in header_names.def; gen_names.py holds it to that */

/* Every name of the table as HTTP/1.1 writes it, "name: ", zeroes behind: it can be copied in whole vectors. */
#define HTTP_NAME_TEXT_BYTES 64u
struct http_name_text {
	char text[HTTP_NAME_TEXT_BYTES];
};
extern const struct http_name_text http_name_texts[HTTP_HDR_COUNT];
static_assert(HTTP_NAME_BYTES_MAX + 2 <= HTTP_NAME_TEXT_BYTES, "the longest name and its colon");

struct http_conn;

/* What a codec does for a connection. All but run are calls of codec.h or events of the stream; see there. */
struct http_conn_ops {
	void (*run)(struct foil_worker *w, struct http_conn *c);          /* decode what is in s->rx, as far as may be */
	void (*opened)(struct foil_worker *w, struct http_conn *c);       /* an active open is through */
	void (*writable)(struct foil_worker *w, struct http_conn *c);
	void (*closed)(struct foil_worker *w, struct http_conn *c, enum stream_end why); /* ends what is alive and calls http_conn_gone */
	struct http_stream *(*start)(struct foil_worker *w, struct http_conn *c, struct foil_arena *arena, const struct http_stream_events *ev,
				     void *user_data); /* client side */
	int (*send_head)(struct foil_worker *w, struct http_stream *hs, const struct http_head *head, bool end);
	void (*send_data)(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end);
	int (*send_trailers)(struct foil_worker *w, struct http_stream *hs, const struct http_headers *trailers);
	uint32_t (*tx_room)(const struct http_stream *hs);
	void (*pause)(struct foil_worker *w, struct http_stream *hs, bool paused);
	void (*reset)(struct foil_worker *w, struct http_stream *hs);
	void (*drain)(struct foil_worker *w, struct http_conn *c);
	void (*close)(struct foil_worker *w, struct http_conn *c);
	bool (*is_idle)(const struct http_conn *c);
	void (*timeout)(struct foil_worker *w, struct http_conn *c);
	void (*reap)(struct foil_worker *w, struct http_conn *c);         /* give back exchanges that ended */
	void (*flush)(struct foil_worker *w, struct http_conn *c);        /* what a turn has left to send or to tell; may be NULL */
	void (*fini)(struct foil_worker *w, struct http_conn *c);         /* give back the codec's own state; may be NULL */
	uint32_t (*capacity)(const struct http_conn *c);                  /* client side; NULL: one, when idle */
	enum http_version version;
};

struct h1_exchange;
struct h2_conn;

/* A circular list; a head and its nodes are the same. */
struct h2_link {
	struct h2_link *next, *prev;
};
static inline void h2_link_init(struct h2_link *l)
{
	l->next = l->prev = l;
}
static inline bool h2_link_is_empty(const struct h2_link *l)
{
	return l->next == l;
}
static inline bool h2_link_is_on(const struct h2_link *l)
{
	return l->next && l->next != l;
}
static inline void h2_link_add(struct h2_link *head, struct h2_link *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}
static inline void h2_link_del(struct h2_link *n)
{
	if (!n->next)
		return;
	n->prev->next = n->next;
	n->next->prev = n->prev;
	h2_link_init(n);
}

struct http_conn {
	const struct http_conn_ops *ops;
	struct stream *s; /* NULL once it was aborted, released or has closed */
	union {
		const struct http_server_events *server;
		const struct http_client_events *client;
	} ev;
	void *user_data;
	uint64_t due_us;         /* idle or head time, whichever applies; 0: nothing is due, as while an exchange is in progress */
	struct foil_timer timer; /* fires then or before, when it looks at due_us: taking time off or putting it off touches no list */
	const struct http_limits *limits; /* one of http_ctx's, held */
	struct h1_exchange *x;    /* HTTP/1.1: the exchange in progress, NULL at rest */
	struct h1_exchange *dead; /* ended, given back in the outermost leave */
	struct h2_conn *h2;       /* HTTP/2: all that it needs besides; NULL otherwise */
	struct h2_link late;      /* http_ctx.late, HTTP/1.1: http_ctx.waiting */
	uint16_t busy;            /* calls from outside that have not returned */
	bool is_server : 1;
	bool wants_run : 1;       /* there may be something to decode */
	bool wants_flush : 1;     /* HTTP/2: there may be something to send, to tell, or to close */
	bool owes_reap : 1;       /* HTTP/2: streams have ended */
	bool is_gone : 1;         /* closed was called; memory goes back when busy is 0 */
	bool is_closing : 1;      /* its last exchange is being reset: no new one, no second close */
	bool must_close : 1;      /* no exchange after this one */
	bool was_open : 1;        /* client side: the connect succeeded */
	bool owes_ready : 1;      /* client side: at rest, and the user was not told yet */
	bool has_skipped_line : 1;/* server side: an empty line before the next request */
	bool has_sniffed : 1;     /* server side, protocol not known until the first good head: its first bytes were looked at */
};
static_assert(sizeof(struct http_conn) <= 128, "a connection at rest keeps two cache lines of its codec; see docs/memory.md");

/* What connections are opened with differs by listener and cluster, not by connection: equal ones share one copy. */
struct http_limits_kept {
	struct http_limits limits; /* first */
	struct h2_link node;       /* http_ctx.limits, used last first */
	uint32_t n_conns;
};

/* Blocks of one size, one worker, LIFO; pages come from the kernel when first used. */
struct http_pool {
	uint8_t *base;
	uint32_t block_bytes, n_max, n_fresh, n_used, free_head; /* free_head: where it begins, in 64 bytes, + 1; 0 none */
};

struct http_ctx {
	struct http_pool conns, exchanges, h2_conns, h2_streams;
	struct http_pool h2_memos;    /* never got from: base is an array */
	uint64_t n_h2_conns;          /* ever */
	struct http_pool limits_kept; /* as many as connections: there is one for each, whatever they ask for */
	struct h2_link limits;
	/* Connections that have something to send because of what another one is decoding: they flush once, when that one is through, so that all its
	 * requests or answers for them go out in one piece. Empty when n_leaving is 0. */
	struct h2_link late;
	/* Within http_burst_begin and _end: HTTP/1.1 connections whose heads are read and not told yet, in the order of their coming. */
	struct h2_link waiting;
	bool is_burst;
	uint32_t n_leaving; /* outermost http_conn_leave's that have not returned */
	bool is_flushing;   /* late: one loop takes all, however many are added meanwhile */
};

/* What the user does in a callback is not ours: told to another stage (core/stages.def). */
#define HTTP_TELL(w, call)                                                  \
	do {                                                                \
		uint8_t was_ = foil_stage_enter((w), FOIL_STAGE_MESH);      \
		call;                                                       \
		foil_stage_leave((w), was_);                                \
	} while (0)

/* pool.c */
int http_pool_init(struct http_pool *p, uint32_t n_max, size_t block_bytes) FOIL_MUST_USE;
void http_pool_fini(struct http_pool *p);
void *http_pool_get(struct http_pool *p) FOIL_MUST_USE; /* zeroed; NULL when all are out */
void http_pool_put(struct http_pool *p, void *block);

/* conn.c */
/* A connection block on s, entered already; NULL when there is none. */
struct http_conn *http_conn_new(struct foil_worker *w, struct stream *s, const struct http_conn_ops *ops, const struct http_limits *limits,
				void *user_data) FOIL_MUST_USE;
void http_conn_enter(struct http_conn *c);
void http_conn_leave(struct foil_worker *w, struct http_conn *c);
/* The stream is let go: finishing in order, or by RST. c->s is NULL afterwards. */
void http_conn_release(struct foil_worker *w, struct http_conn *c);
FOIL_COLD void http_conn_abort(struct foil_worker *w, struct http_conn *c);
/* Tells the user once that the connection is gone. No exchange is alive on it. */
void http_conn_gone(struct foil_worker *w, struct http_conn *c, enum stream_end why);
/* True: what c has read of its exchange's head is told at the burst's end, or before whatever else comes to c: run is called for it. */
bool http_conn_waits(struct foil_worker *w, struct http_conn *c);
/* What is due comes in in_us instead of when it was; 0: nothing is due. */
void http_conn_timer(struct foil_worker *w, struct http_conn *c, uint64_t in_us);

/* limits.c */
/* The connection's, until put; bounded and with defaults filled in. Never fails for a connection that has a block. */
const struct http_limits *http_limits_get(struct http_ctx *ctx, const struct http_limits *limits);
void http_limits_put(struct http_ctx *ctx, const struct http_limits *own_limits);

/* headers.c */
/* 1*DIGIT that fits 63 bits; leading zeros are digits too. */
bool http_length_parse(struct foil_slice s, uint64_t *out) FOIL_MUST_USE;
int http_headers_reserve(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, uint32_t cap) FOIL_MUST_USE;

/* sniff.c: a server connection whose first bytes tell its protocol. */
extern const struct http_conn_ops http_sniff_ops;

extern const struct http_conn_ops h1_server_ops, h1_client_ops;

/* application/grpc and its +proto and the like; not grpc-web. */
static inline bool http_content_type_is_grpc(struct foil_slice value)
{
	const struct foil_slice grpc = FOIL_SLICE("application/grpc");

	return foil_slice_has_prefix(value, grpc) && (value.n_bytes == grpc.n_bytes || value.data[grpc.n_bytes] == '+');
}
