/* Congestion control as a table of functions (cc.def lists them). An algorithm owns cwnd outside of fast recovery, where
 * PRR (RFC 6937) does; it decides ssthresh at each loss. All in bytes and microseconds, without floating point. */
#pragma once

#include "dataplane/core/base.h"

struct foil_worker;
struct tcp_conn;

/* Room for any algorithm's own variables; zeroed when a connection starts. */
struct tcp_cc_state {
	uint64_t words[6];
};

struct tcp_cc {
	const char *name;
	void (*init)(struct foil_worker *w, struct tcp_conn *c);
	/* acked_bytes were acknowledged while the window was what held us back, not in fast recovery */
	void (*on_ack)(struct foil_worker *w, struct tcp_conn *c, uint32_t acked_bytes);
	/* the new ssthresh after a loss (RFC 5681 equation 4 or its successor); is_rto tells a timeout from a fast retransmit */
	uint32_t (*on_loss)(struct foil_worker *w, struct tcp_conn *c, bool is_rto);
	/* the connection was idle for idle_us and is about to send again */
	void (*on_idle)(struct foil_worker *w, struct tcp_conn *c, uint64_t idle_us);
};

/* NULL: no such algorithm. */
const struct tcp_cc *tcp_cc_find(const char *name);
