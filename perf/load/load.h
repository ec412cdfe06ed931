/* foil-load: client and origin in one thread, over our own net/ and tcp/ (wire.c) or over kernel sockets (sockets.c). What is asked, when, and what
 * counts as an answer is the same for both (engine.c, origin.c), so that figures of different wires differ by the wire alone.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC. Everything belongs to the one thread that runs the loop. */
#pragma once

#include <stdio.h>

#include "dataplane/net/net.h"
#include "nic/idle.h"
#include "perf/load/hist.h"

#define LOAD_ADDRESSES_MAX 64
#define LOAD_HEADERS_MAX 64
#define LOAD_HEAD_BYTES_MAX 16384u /* of a request or response that came in pieces */
#define LOAD_PIPELINE_MAX 16u
#define LOAD_ANSWERS_MAX 1024u
#define LOAD_OFF_NS 20000u /* so long without its core, and the generator's delay is in what it measures */
#define LOAD_REQUEST_BYTES_MAX 65536u

enum load_work {
	LOAD_HTTP,    /* requests on connections that stay */
	LOAD_NEWCONN, /* a connection a request */
	LOAD_TCP,     /* tcp_bytes there and back, no HTTP */
	LOAD_HOLD,    /* connections that stay, each after one request, and then nothing */
};

struct load_conf {
	enum load_work work;
	bool sockets;                        /* kernel sockets instead of ports */
	const char *client_uri, *origin_uri; /* NULL: this side is somebody else */
	const char *client_addresses[LOAD_ADDRESSES_MAX], *origin_addresses[LOAD_ADDRESSES_MAX];
	int n_client_addresses, n_origin_addresses;
	uint16_t origin_port;                /* 0: no origin */
	struct net_addr target;
	uint16_t target_port;
	const char *host, *path;
	const char *headers[LOAD_HEADERS_MAX];
	int n_headers;
	uint32_t pad_headers;                /* so many more, x-pad-N */
	uint32_t connections, pipeline, body_bytes, request_body_bytes, tcp_bytes;
	double rate;                         /* open loop: requests a second; 0: closed loop */
	double seconds, warm_up_seconds, settle_seconds; /* settle: after all connections have had an answer; warm-up is the longest, then */
	const char *json, *label;
	bool quiet;
	int cpu;
	uint32_t memory_mb;
	uint16_t mtu;
	enum nic_idle_mode idle;
	bool tls, origin_tls;                /* this side speaks TLS 1.3, or 1.2 */
	bool tls_1_2, tls_resume;
	const char *tls_cert, *tls_key, *tls_ca; /* of both sides; a client without cert shows none, ca: the peer is verified, and must have one */
	bool http2, origin_http2;
};

/* 0; 1: help was asked for and given; -1: wrong, and a sentence is on stderr. */
int load_options(int argc, char **argv, struct load_conf *out);

enum load_state { LOAD_CLOSED, LOAD_OPENING, LOAD_IDLE, LOAD_WAITING };

struct load_conn {
	struct load_conn *next;       /* idle or closed list */
	void *io;                     /* the wire's: a stream, a socket */
	enum load_state state;
	bool in_body;
	uint8_t n_waiting, first;     /* requests in flight, the oldest's place in due_ns */
	uint32_t n_partial;           /* bytes of a head that is not whole, in partial */
	uint64_t body_left, opened_ns;
	uint64_t due_ns[LOAD_PIPELINE_MAX]; /* when each should have been sent */
	char *partial;                /* LOAD_HEAD_BYTES_MAX, taken at need */
	struct load_secure *secure;   /* NULL: plain */
	struct load_h2 *h2;           /* NULL: HTTP/1.1, or not open */
};

struct load_list {
	struct load_conn *head, *tail;
};

enum load_error { LOAD_ERR_CONNECT, LOAD_ERR_STATUS, LOAD_ERR_LENGTH, LOAD_ERR_PROTOCOL, LOAD_ERR_CLOSED, LOAD_ERR_TIMEOUT, LOAD_ERR_TLS, LOAD_ERR_COUNT };
extern const char *const load_error_names[LOAD_ERR_COUNT];

struct load {
	const struct load_conf *conf;
	const struct load_io *io;
	struct load_conn *conns;
	struct load_list idle, closed;
	char *request;
	uint32_t n_request;
	uint32_t n_open, n_opening;
	uint64_t start_ns, measure_ns, end_ns, next_due_ns, progress_ns, now_ns;
	double interval_ns;
	double next_due_exact;
	bool measuring, done;
	/* of the measured time */
	uint64_t n_done, n_bytes, n_connects, n_errors[LOAD_ERR_COUNT], n_overdue_max;
	uint64_t busy_ns;
	uint64_t n_handshakes, n_resumed; /* of both sides */
	/* of the last second */
	uint64_t last_done;
	struct load_hist hist;
	/* What a proxy that takes no time would be seen with at this rate: how long requests that come due between two turns wait for the second. A load
	 * generator that is pushed off its core shows here, and its latencies are no one's but its own. */
	struct load_hist own;
	uint64_t turn_ns;
	double own_due;
	/* Open loop: the latencies of requests whose whole time, from due to answered, this thread was on its core. Those of one stretch wait in answers until
	 * it is known how it went. A slow proxy's requests are touched more often, and left out more often: what remains flatters it. */
	struct load_hist clear;
	struct {
		uint64_t due_ns, took_ns;
	} answers[LOAD_ANSWERS_MAX];
	uint32_t n_answers;
	uint64_t stretch_ns, stretch_cpu_ns, off_end_ns, off_ns; /* off_end_ns: it was off its core until then, last; off_ns: so long in all */
	bool is_settling;
	/* origin */
	char *answer;                 /* the head, and the body when it is small */
	uint32_t n_answer;
	uint64_t n_origin_requests, n_origin_conns, n_origin_errors;
	/* tls.c */
	struct ssl_ctx_st *client_tls, *origin_tls;
	struct ssl_session_st *session; /* the newest; NULL: none, or not to be resumed */
};

/* What a wire does for the engine. */
struct load_io {
	/* 0, or -errno: no connection was begun. load_opened or load_closed comes later. */
	int (*connect)(struct load *l, struct load_conn *c);
	/* data is load's request, which stays, or, with TLS or HTTP/2, good for the call only. */
	void (*write)(struct load *l, struct load_conn *c, const void *data, uint32_t n_bytes);
	/* Ends the connection; nothing is called for it any more. */
	void (*close)(struct load *l, struct load_conn *c);
};

static inline uint64_t load_clock_ns(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t); /* it cannot fail with a clock that exists */
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t load_now_ns(void)
{
	return load_clock_ns(CLOCK_MONOTONIC);
}

/* ---- engine.c: the client */
int load_init(struct load *l, const struct load_conf *conf, const struct load_io *io) FOIL_MUST_USE;
void load_fini(struct load *l);
/* Once a turn of the loop: opens connections, sends what is due, says how it goes. False when the time is over. */
bool load_turn(struct load *l);
/* What load_turn does with the stretch of time that ends now, of which the thread was on its core for cpu_ns - l->stretch_cpu_ns. */
void load_stretch_end(struct load *l, uint64_t now_ns, uint64_t cpu_ns);
void load_opened(struct load *l, struct load_conn *c);
/* data is the caller's. False: the connection was closed meanwhile, forget it. */
bool load_bytes(struct load *l, struct load_conn *c, const char *data, uint32_t n_bytes);
/* The peer or the network ended it. */
void load_closed(struct load *l, struct load_conn *c);

/* ---- head.c: a message's head, as far as a load generator needs to know it */
struct load_head {
	uint32_t n_bytes; /* the blank line included; 0: not whole */
	int status;       /* of a response; 0: none */
	uint64_t content_length;
	bool has_length, close;
};
void load_head_scan(const char *data, uint32_t n_bytes, struct load_head *out);

/* ---- origin.c: a server that answers from a template */
struct load_served {
	uint64_t body_left;
	uint32_t n_partial;
	char *partial;
	struct load_secure *secure;
	struct load_h2 *h2;
	char *out;         /* what is to be sent, when TLS or HTTP/2 makes it: the wire sends n_out bytes of it and sets n_out to 0 */
	uint32_t n_out, out_cap;
};
int load_origin_init(struct load *l) FOIL_MUST_USE;
/* Eats bytes of a client; returns how many answers it is owed now, -1 if it talks nonsense. In TCP mode: 0, the caller echoes. With TLS or HTTP/2
 * answers are in s->out, and 0 is returned. */
int load_origin_bytes(struct load *l, struct load_served *s, const char *data, uint32_t n_bytes);
void load_served_free(struct load_served *s);

/* ---- tls.c: bytes in, bytes out */
int load_tls_init(struct load *l) FOIL_MUST_USE;
void load_tls_fini(struct load *l);
struct load_secure *load_secure_new(struct load *l, bool is_client);
void load_secure_free(struct load_secure *s); /* NULL is fine */
void load_secure_feed(struct load_secure *s, const void *data, uint32_t n_bytes);
int load_secure_handshake(struct load *l, struct load_secure *s); /* 1: done, 0: more bytes, -1: failed */
int load_secure_read(struct load_secure *s, void *out, uint32_t n_bytes); /* 0: nothing now, -1: over */
void load_secure_write(struct load_secure *s, const void *data, uint32_t n_bytes);
uint32_t load_secure_pending(struct load_secure *s, const char **out); /* what is to be sent; load_secure_taken when it was */
void load_secure_taken(struct load_secure *s);

/* ---- h2.c: the same; c NULL: an origin's */
struct load_h2 *load_h2_new(struct load *l, struct load_conn *c);
void load_h2_free(struct load_h2 *h); /* NULL is fine; not from its own callbacks */
void load_h2_request(struct load_h2 *h, uint64_t due_ns);
bool load_h2_bytes(struct load_h2 *h, const void *data, uint32_t n_bytes); /* false: the connection is no good any more */
uint32_t load_h2_pending(struct load_h2 *h, const char **out);
void load_h2_taken(struct load_h2 *h);
/* A stream's answer came. May ask again, never closes. */
void load_answered_at(struct load *l, struct load_conn *c, uint64_t due_ns, bool is_good);

/* ---- the wires */
int load_run_wire(struct load *l, const struct load_conf *conf);
int load_run_sockets(struct load *l, const struct load_conf *conf);

/* ---- report.c */
void load_progress(struct load *l);
int load_report(const struct load *l);
