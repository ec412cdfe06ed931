/* TCP of one worker (RFC 9293 and what design.md section 5 names): passive and active open over net/, offered upwards as streams.
 * Everything is the worker's own; no call blocks; output is queued and sent at the end of the burst by tcp_flush.
 *
 * Flow key: local and remote address and port. A stream's transport block is struct tcp_conn (tcp_priv.h). */
#pragma once

#include "dataplane/core/worker.h"
#include "dataplane/net/net.h"
#include "dataplane/stream/stream.h"

struct tcp_listener;

#define X(ID, name, kind, help) TCP_REASON_##ID,
enum tcp_reason {
#include "dataplane/tcp/reasons.def"
	TCP_REASON_COUNT
};
#undef X
#define X(ID, kind, unit, help) TCP_CTR_##ID,
enum tcp_counter {
#include "dataplane/tcp/counters.def"
	TCP_CTR_COUNT
};
#undef X
#define X(ID, help) TCP_PROBE_##ID,
enum tcp_probe { /* core/probe.h */
#include "dataplane/tcp/probes.def"
	TCP_PROBE_COUNT
};
#undef X
extern const struct foil_room_desc tcp_room_desc;

/* Defaults beside each field; 0 takes the default. */
struct tcp_params {
	uint32_t conns_max;          /* 65536: established and opening, both roles */
	uint32_t time_wait_max;      /* 65536; beyond it the oldest is dropped (RFC 1337 hazards accepted, counted) */
	uint32_t syn_backlog_max;    /* 4096 half-open over all listeners; beyond it cookies or drop */
	uint32_t rx_window_bytes_max; /* 4 MiB: ceiling of receive-window autotuning */
	uint32_t rx_window_bytes;    /* 256 KiB at first */
	uint16_t mss_max;            /* 0 = from the MTU */
	uint64_t msl_us;             /* 30 s: TIME-WAIT is 2 MSL */
	uint64_t user_timeout_us;    /* 120 s without progress ends a connection */
	uint64_t connect_timeout_us; /* 127 s; mesh has its own, shorter */
	uint64_t keepalive_idle_us;  /* 0 = off */
	const char *congestion;      /* "cubic"; "newreno", "bbr" */
	bool ecn_request;            /* our SYNs ask for ECN (RFC 3168); who asks us always gets it */
	bool has_fixed_isn;          /* replay and tests: every connection of ours starts at fixed_isn */
	uint32_t fixed_isn;
};

int tcp_init(struct foil_worker *w, const struct tcp_params *p, struct foil_error *err) FOIL_MUST_USE;
/* Frees every connection without a word to the peers; users get no callback. */
void tcp_fini(struct foil_worker *w);
/* Write out what the burst made: segments of writable connections, ACKs owed, window updates. Before net_flush. */
void tcp_flush(struct foil_worker *w);

struct tcp_listen_params {
	struct net_addr addr;  /* all zero: every address that is ours */
	uint16_t port;         /* 0, without an address: ports of captured addresses (net.h) that no other listener has */
	uint32_t backlog_max;  /* half-open and not yet accepted; 0 = 1024 */
	/* A new established connection. The callee sets s->user and s->user_data and returns true, or returns false: then it is reset
	 * and counted under the reason LISTENER_REFUSED. */
	bool (*accept)(struct foil_worker *w, struct tcp_listener *l, struct stream *s);
	void *user_data;
};
/* 0; -EADDRINUSE when that address and port have a listener; -ENOMEM. */
int tcp_listen(struct foil_worker *w, const struct tcp_listen_params *p, struct tcp_listener **out) FOIL_MUST_USE;
/* Half-open connections of l are reset, established ones live on. */
void tcp_unlisten(struct foil_worker *w, struct tcp_listener *l);
void *tcp_listener_data(const struct tcp_listener *l);

struct tcp_connect_params {
	struct net_addr remote;
	uint16_t remote_port;
	struct net_addr local;     /* all zero: net_source_for decides */
	uint16_t local_port;       /* 0: chosen so that the answers reach this worker */
	const struct stream_user *user; /* opened or closed is called later, never from inside tcp_connect */
	void *user_data;
};
/* 0 and *out; -EHOSTUNREACH no route; -EADDRNOTAVAIL no free port; -ENOBUFS table full. */
int tcp_connect(struct foil_worker *w, const struct tcp_connect_params *p, struct stream **out) FOIL_MUST_USE;

/* How long written bytes may wait without progress before the connection ends (RFC 5482's USER_TIMEOUT, our side alone); 0: as tcp_params says. A stream of
 * tcp_connect's or of a listener's, until it is closed. At least 100 ms, at most 49 days; from the next timeout on. */
void tcp_set_user_timeout(struct foil_worker *w, struct stream *s, uint64_t timeout_us);

/* For status pages and tests. */
struct tcp_stats {
	uint32_t n_conns, n_half_open, n_time_wait, n_listeners;
	uint32_t conns_max, n_released; /* of the connections: those that only have to end */
};
void tcp_stats_get(const struct foil_worker *w, struct tcp_stats *out);
/* For FOIL_OVERLOAD_SHRINK: ends connections that wait for nothing but the peer's FIN. Looks at a bounded number, to be called again. */
void tcp_shrink(struct foil_worker *w);
