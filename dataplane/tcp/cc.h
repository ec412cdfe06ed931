/* Congestion control as a table of functions (cc.def lists them). An algorithm owns cwnd outside of fast recovery, where
 * PRR (RFC 6937) does; it decides ssthresh at each loss. All in bytes and microseconds, without floating point. */
#pragma once

#include "dataplane/core/base.h"

struct foil_worker;
struct tcp_conn;

/* Room for any algorithm's own variables; zeroed when a connection starts. */
struct tcp_cc_state {
	uint64_t words[10];
};

/* What one ACK tells of the path's speed (rate.c). */
struct tcp_rate {
	bool is_valid, is_app_limited;
	uint32_t delivered, interval_us; /* is_valid: so much came through in so long */
	uint32_t delivered_now, lost_bytes, rtt_us; /* by this ACK; rtt_us 0: not measured */
	uint32_t prior_delivered, prior_us, send_us; /* rate.c's own */
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
	/* after each ACK that delivered or acknowledged something, in every state. Not NULL: the algorithm owns cwnd in fast recovery, too,
	 * on_loss's answer is not taken for a window, and pace_Bps is its to set */
	void (*on_rate)(struct foil_worker *w, struct tcp_conn *c, const struct tcp_rate *s);
};

/* NULL: no such algorithm. */
const struct tcp_cc *tcp_cc_find(const char *name);
