/* The agent's HTTP face: a small single-threaded HTTP/1.1 server on kernel sockets, and the table of its standard pages.
 *
 * It lives inside its owner's loop: adm_fd is an epoll descriptor to wait on, adm_turn does what is ready and never blocks. Clients are
 * hostile until proven otherwise: heads, bodies, connections and times are bounded, and each refusal is counted and answered.
 * Handlers run inside adm_turn, write text into the reply and return; they must not keep the request. Context: one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/core/base.h"
#include "dataplane/core/error.h"

struct adm_server;
struct adm_reply;

struct adm_request {
	struct foil_slice method; /* "GET", "HEAD" or "POST": others are answered before a handler sees them */
	struct foil_slice path;   /* without the query, percent-decoded, never with a control character */
	struct foil_slice query;  /* after the ?, as it came */
	struct foil_slice body;   /* of a POST, at most ADM_BODY_BYTES_MAX */
};

#define ADM_HEAD_BYTES_MAX 8192u
#define ADM_BODY_BYTES_MAX (1u << 20)
#define ADM_REPLY_BYTES_MAX (256u << 20) /* a reply that would grow past it becomes a 500 */
#define ADM_CONNECTIONS_MAX 64u
#define ADM_IDLE_MS 30000u  /* a connection without a byte either way */
#define ADM_HEAD_MS 10000u  /* from the first byte of a request to its last */

typedef void (*adm_handler)(void *arg, const struct adm_request *q, struct adm_reply *r);

/* One page of one port. method: what it is for; HEAD is answered from GET. */
struct adm_route {
	uint16_t port;
	const char *method, *path, *help;
	adm_handler handler;
	void *arg;
};

struct adm_params {
	const char *address;            /* NULL: loopback, 127.0.0.1 and ::1 where there is IPv6 */
	const struct adm_route *routes; /* copied; each port in it is listened on */
	size_t n_routes;
	uint64_t now_ms;                /* monotonic */
};

/* 0, or -errno with a sentence that names the port and says who else may have it. */
int adm_open(struct adm_server **out, const struct adm_params *p, struct foil_error *err) FOIL_MUST_USE;
/* NULL-safe; closes every connection at once. */
void adm_close(struct adm_server *s);
/* Readable when adm_turn has something to do. Borrowed: never close it. */
int adm_fd(const struct adm_server *s);
/* Does what is ready and closes what is overdue. Call it when adm_fd is readable and at least every second. */
void adm_turn(struct adm_server *s, uint64_t now_ms);

struct adm_counters {
	uint64_t n_accepted, n_requests, n_refused_connections, n_bad_requests, n_timeouts;
};
struct adm_counters adm_counters(const struct adm_server *s);

/* What a handler writes. Status is 200 and the type text/plain; charset=utf-8 unless said. */
void adm_reply_status(struct adm_reply *r, unsigned int status);
void adm_reply_type(struct adm_reply *r, const char *type); /* a literal: it is not copied */
void adm_reply_bytes(struct adm_reply *r, const void *data, size_t n_bytes);
void adm_reply_printf(struct adm_reply *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void adm_reply_json(struct adm_reply *r, const char *text, size_t n_bytes);
/* A JSON string or null. */
void adm_reply_json_str(struct adm_reply *r, const char *text);

/* ---- the standard pages (standard.c): who fills them is the agent ---- */

/* Where the snapshot of the newest configuration stands; state and reasons are what `./foil lab status --json` shows. */
enum adm_snapshot_state { ADM_SNAPSHOT_NONE, ADM_SNAPSHOT_PENDING, ADM_SNAPSHOT_APPLIED, ADM_SNAPSHOT_REJECTED };

struct adm_status {
	char agent_version[32];
	uint64_t uptime_s;
	bool is_connected;             /* to the data plane */
	bool is_stalled;               /* a worker of it stands still: */
	uint32_t stalled_worker;
	char node_name[64], node_version[32];
	char config_version[64];       /* changes with every reading of the sources */
	uint32_t n_files, n_resources, n_errors, n_warnings; /* of that reading */
	enum adm_snapshot_state snapshot; /* of config_version at the data plane */
	char running_version[64];      /* what the data plane runs on: differs while pending or rejected */
	char last_reason[512];         /* why it was rejected; empty otherwise */
};

/* One sentence about one resource or file, for /diagnostics and the reasons of /status. Strings are borrowed for the call. */
struct adm_diagnostic {
	bool is_error;
	const char *file, *resource, *field, *text;
	unsigned int line, column;
};
typedef void (*adm_diagnostic_fn)(void *to, const struct adm_diagnostic *d);

struct adm_sources {
	void *arg;
	void (*status)(void *arg, struct adm_status *out);                              /* zeroed before */
	void (*diagnostics)(void *arg, adm_diagnostic_fn each, void *to);               /* of the newest reading */
	void (*prometheus)(void *arg, struct adm_reply *r);                             /* the whole exposition */
	void (*config_dump)(void *arg, const struct adm_request *q, struct adm_reply *r); /* JSON */
	void (*perf)(void *arg, struct adm_reply *r);                                   /* JSON: what /perf draws, see perf.html; may be NULL */
};

/* Fills out[] with the standard pages, each with src (borrowed until adm_close) behind it; returns how many, at most ADM_STANDARD_MAX:
 *   15000  /status /config_dump /diagnostics /perf /perf.json /stats/prometheus /ready /help (and / for it)
 *   15090  /stats/prometheus /metrics
 *   15021  /healthz/ready: 200 when a snapshot is applied, the data plane is connected and its workers turn, else 503 with the reason
 *          /healthz/live: 503 only when a worker stands still: there is no way on but a restart
 * /status: {"agent": {"version", "pid", "uptime_s"}, "data_plane": {"connected", "node", "version"}, "config": {"version", "files",
 * "resources", "errors", "warnings"}, "snapshot": {"version", "running_version", "state": "none|pending|applied|rejected", "reasons": [..]}} */
#define ADM_STANDARD_MAX 16
size_t adm_standard_routes(struct adm_route *out, const struct adm_sources *src);
