/* Codecs: a stream of bytes on one side, exchanges on the other. HTTP/1.1 is h1_*.c, HTTP/2 is h2_*.c.
 *
 * An http_conn is the codec's state on one stream: server side (requests arrive, responses are sent) or client side (the other
 * way round). It is taken from a pool when the connection becomes active; at rest (idle keep-alive) the server side keeps only a small block.
 * An http_stream is one exchange at one conn: in HTTP/1.1 at most one is being delivered at a time (pipelined requests wait in the stream's
 * rx), in HTTP/2 many. It is embedded memory of the codec's pool; user_data is mesh's.
 *
 * Calls and callbacks are on the conn's worker. Callbacks may call anything here on the same stream or conn, http_stream_reset and
 * http_conn_close included. A stream is dead for its user after on_complete or on_reset returned, or after http_stream_reset; its memory
 * and its arena's (server side) stay until the outermost call or callback on the conn has returned.
 * complete, reset and closed may come from inside http_send_*, http_stream_reset (closed only), http_stream_pause, http_conn_drain and
 * http_conn_close; head and data come from inside these only when the call was not made from a callback of the same conn. */
#pragma once

#include "dataplane/core/chain.h"
#include "dataplane/core/worker.h"
#include "dataplane/http/message.h"
#include "dataplane/stream/stream.h"

#define X(ID, name, kind, help) HTTP_REASON_##ID,
enum http_reason {
#include "dataplane/http/reasons.def"
	HTTP_REASON_COUNT
};
#undef X
#define X(ID, kind, unit, help) HTTP_CTR_##ID,
enum http_counter {
#include "dataplane/http/counters.def"
	HTTP_CTR_COUNT
};
#undef X
extern const struct foil_room_desc http_room_desc;

struct http_conn;

/* Upgrades (RFC 9110 7.8) and extended CONNECT (RFC 8441) are the same here, whatever a side speaks: a request with is_upgrade whose head does not
 * end it, and an answer of status 101 with is_upgrade, after which data is bytes as they are, both ways; end is a half-close, and the exchange is
 * complete when both halves are closed. Over HTTP/2 the request is CONNECT with :protocol and the answer 200; here they read GET and 101. HTTP/1.1's
 * server side delivers nothing before 101 was sent; over HTTP/2 data may come early, and who passes it on waits for 101 by himself, so that
 * nobody's bytes are taken for a next request by an origin that refuses. Any other final answer refuses: the client side then wants http_send_data
 * with end, and HTTP/1.1 connections close on both sides. */
struct http_stream {
	struct http_conn *conn;
	void *user_data;
	struct foil_arena *arena; /* server side: the exchange's arena, alive until the exchange is over on this conn; client side: what
				     http_client_start was given */
	uint64_t rx_body_bytes, tx_body_bytes; /* body bytes without framing: %BYTES_RECEIVED%, %BYTES_SENT% */
	uint64_t rx_wire_bytes, tx_wire_bytes; /* with heads and framing */
	uint64_t started_us;      /* first byte of the head */
	uint64_t rx_end_us, tx_end_us; /* when the last byte was decoded, was handed to the stream; 0 before */
};

enum http_reset {
	HTTP_RESET_NONE,
	HTTP_RESET_REMOTE,            /* the peer closed or reset the connection before the exchange was complete */
	HTTP_RESET_STREAM,            /* HTTP/2: it reset the stream alone */
	HTTP_RESET_PROTOCOL,          /* the peer broke HTTP: reason says how */
	HTTP_RESET_REFUSED_STREAM,    /* HTTP/2: certainly not processed */
	HTTP_RESET_LOCAL,             /* our memory, drain */
	HTTP_RESET_CONNECT_FAILURE,   /* never connected: see why */
	HTTP_RESET_CONNECT_TIMEOUT,
};

struct http_reset_info {
	enum http_reset kind;
	enum http_reason reason;  /* PROTOCOL: which rule */
	enum stream_end why;      /* how the byte stream ended, if it did */
	bool rx_started;          /* bytes of this message had arrived */
	bool tx_acked_any;        /* client side: the peer acknowledged something of the request (for safe replay) */
};

/* What the user of an exchange implements: on the server side the request arrives by these, on the client side the response. */
struct http_stream_events {
	/* The head. end: there is no body and no trailers. */
	void (*head)(struct foil_worker *w, struct http_stream *hs, struct http_head *head, bool end);
	/* Body bytes (de-chunked), by reference; may come with end and no bytes. Not called while paused. */
	void (*data)(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end);
	/* Trailers end the message. NULL: they are dropped and data(end) is called instead. */
	void (*trailers)(struct foil_worker *w, struct http_stream *hs, struct http_headers *trailers);
	/* Client side: a 1xx other than 100 and 101. NULL: dropped. */
	void (*informational)(struct foil_worker *w, struct http_stream *hs, struct http_head *head);
	/* Room again below the low mark after http_stream_tx_room had been 0. */
	void (*writable)(struct foil_worker *w, struct http_stream *hs);
	/* Both directions are complete; last call. Server side: the response was handed to the transport; a request that was answered before its
	 * end counts as complete then, what is missing of it is not waited for and the connection closes. Client side: the response is in. */
	void (*complete)(struct foil_worker *w, struct http_stream *hs);
	/* The exchange is over before it was complete; last call. Server side, PROTOCOL (a bad chunk, say): if no final head was sent yet, the
	 * codec has answered with the status that http_reason_status gives. */
	void (*reset)(struct foil_worker *w, struct http_stream *hs, const struct http_reset_info *info);
};

/* 400, 408, 426, 431, 501 or 505: what a request that broke this rule is answered with. */
uint16_t http_reason_status(enum http_reason reason);

struct http_limits {               /* defaults beside; features.md OM-6 */
	uint32_t head_bytes_max;       /* 60 KiB; a head is contiguous, so it is FOIL_LARGE_CHUNK_BYTES less a little at most */
	uint16_t headers_max;          /* 100 */
	bool accept_http10;            /* false: 426 */
	bool reject_underscores;       /* EDGE profile; false: allowed */
	bool drop_underscores;         /* the field is left out, the request goes on */
	bool refuse_https;             /* targets in absolute form with https: where the connection has no TLS (403) */
	uint64_t head_timeout_us;      /* 0 = off: from the first byte of a head to its end */
	uint64_t idle_timeout_us;      /* 1 h: connection without an exchange */
	uint32_t h2_streams_max;       /* 100: server side what the peer is told, client side the most that is begun; features.md OM-7 */
	uint32_t h2_stream_window_bytes; /* 64 KiB, and no less */
	uint32_t h2_conn_window_bytes; /* 1 MiB */
	uint32_t h2_queue_bytes_max;   /* 128 KiB: what one stream may have queued before its user should wait; at least 1 KiB */
	uint64_t h2_drain_us;          /* server side: between the two GOAWAYs of a drain; 0: until the peer has seen the first */
	uint64_t h2_ping_interval_us, h2_ping_timeout_us; /* client side: PING so often, and the connection is lost without an answer in time; 0 = off */
};

/* What is spoken on a connection. AUTO, server side: HTTP/2 when the first bytes are its preface (prior knowledge), else HTTP/1.1. */
enum http_protocol { HTTP_PROTOCOL_H1, HTTP_PROTOCOL_H2, HTTP_PROTOCOL_AUTO };

/* ---- server side ---- */
struct http_server_events {
	/* A new request begins. Sets hs->user_data, returns the events for it; called just before events->head or bad_request. */
	const struct http_stream_events *(*stream_new)(struct foil_worker *w, struct http_conn *c, struct http_stream *hs);
	/* The head broke a rule: the user answers with status (400, 426, 431, 505 …) by http_send_head as for a good one, and the connection closes
	 * after it. head has what could be decoded (may be all empty); reason names the rule and gives %RESPONSE_CODE_DETAILS%. */
	void (*bad_request)(struct foil_worker *w, struct http_stream *hs, struct http_head *head, uint16_t status, enum http_reason reason);
	/* The connection is gone, no exchange is alive on it any more; last call. */
	void (*closed)(struct foil_worker *w, struct http_conn *c, enum stream_end why);
};

/* Puts a codec on an accepted stream; s->user is the codec's from now on. 0, or -ENOBUFS with s untouched. */
int http_server_open(struct foil_worker *w, struct stream *s, const struct http_server_events *ev, const struct http_limits *limits,
		     void *user_data, struct http_conn **out) FOIL_MUST_USE;

/* The same for a protocol that is known (ALPN said so), or is to be found out; http_server_open speaks HTTP/1.1. */
int http_server_open_as(struct foil_worker *w, struct stream *s, enum http_protocol protocol, const struct http_server_events *ev,
			const struct http_limits *limits, void *user_data, struct http_conn **out) FOIL_MUST_USE;

/* ---- client side ---- */
struct http_client_events {
	/* The conn can take an exchange now: after opening, and again each time one is complete and the connection lives on. HTTP/2: after one or
	 * several have ended, however, and when the server allows more; http_conn_capacity says how many. */
	void (*ready)(struct foil_worker *w, struct http_conn *c);
	/* The connection is gone; last call; any exchange on it was reset before. never_opened: the connect failed, why says how. */
	void (*closed)(struct foil_worker *w, struct http_conn *c, enum stream_end why, bool never_opened);
};
/* s: a stream from tcp_connect (opening or open) whose user the codec becomes. 0 or -ENOBUFS. */
int http_client_open(struct foil_worker *w, struct stream *s, const struct http_client_events *ev, const struct http_limits *limits,
		     void *user_data, struct http_conn **out) FOIL_MUST_USE;
/* The same with H1 or H2. HTTP/2 by prior knowledge, or because ALPN agreed on it. */
int http_client_open_as(struct foil_worker *w, struct stream *s, enum http_protocol protocol, const struct http_client_events *ev,
			const struct http_limits *limits, void *user_data, struct http_conn **out) FOIL_MUST_USE;
/* Exchanges that http_client_start would begin now: HTTP/1.1 0 or 1, HTTP/2 what both sides allow less those in progress. */
uint32_t http_conn_capacity(const struct http_conn *c);
/* Begins an exchange on a ready conn (allowed before it is open: sent when it is). NULL when the conn cannot take one (busy, peer's FIN is in). */
struct http_stream *http_client_start(struct foil_worker *w, struct http_conn *c, struct foil_arena *arena,
				      const struct http_stream_events *ev, void *user_data);

/* ---- both ---- */
/* Sends the head. HTTP/1.1 framing follows from end and head->body: LENGTH keeps the length, else chunked (or until close towards HTTP/1.0).
 * head is read, not kept. Informational (1xx) heads may come before the final one. 0, -ENOBUFS, or -EPROTONOSUPPORT for an upgrade that the peer
 * has said it does not know: reset the exchange then. */
int http_send_head(struct foil_worker *w, struct http_stream *hs, const struct http_head *head, bool end) FOIL_MUST_USE;
void http_send_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end);
int http_send_trailers(struct foil_worker *w, struct http_stream *hs, const struct http_headers *trailers) FOIL_MUST_USE;
/* Bytes that may be sent before one should wait for writable. */
uint32_t http_stream_tx_room(const struct http_stream *hs);
/* Stops and resumes delivery of data; what is not delivered closes the peer's window. */
void http_stream_pause(struct foil_worker *w, struct http_stream *hs, bool paused);
/* Ends the exchange now, in HTTP/2 by RST_STREAM, and in HTTP/1.1 the connection with it: by RST, or server side in order when a part of the
 * response is out whose framing shows that it is not whole. No callback follows for this stream (closed follows for the conn). */
FOIL_COLD void http_stream_reset(struct foil_worker *w, struct http_stream *hs);
/* After the current exchange (server: it is answered with connection: close) the connection closes; at once when there is none. HTTP/2: after the
 * streams there are; a server says GOAWAY twice, and closes when the client has seen the first. */
void http_conn_drain(struct foil_worker *w, struct http_conn *c);
/* Now: in order when idle, else by RST; exchanges are reset first, with callbacks, then closed is called. */
void http_conn_close(struct foil_worker *w, struct http_conn *c);
struct stream *http_conn_stream(const struct http_conn *c);
void *http_conn_data(const struct http_conn *c);
bool http_conn_is_idle(const struct http_conn *c);
/* HTTP_VERSION_2, or HTTP_VERSION_11 for every HTTP/1.x. */
enum http_version http_conn_version(const struct http_conn *c);

struct http_params {
	uint32_t conns_max, streams_max; /* 65536, 65536 */
};
int http_init(struct foil_worker *w, const struct http_params *p, struct foil_error *err) FOIL_MUST_USE;
void http_fini(struct foil_worker *w);
/* Between the two HTTP/1.1 heads that arrive are read, but told to their users at the end, in their order: all of a burst are parsed one after the other,
 * and then all are routed, so that the code of neither has to be fetched for each (vector packet processing; a request's whole path is larger than a
 * first-level instruction cache). What comes to a connection meanwhile, more bytes or its end, tells its head first: nobody sees another order
 * on one connection. Around what delivers streams' events, net_poll and tls_turn; elsewhere heads are told at once. */
void http_burst_begin(struct foil_worker *w);
void http_burst_end(struct foil_worker *w);
