/* All connections of a worker, for whoever looks on from housekeeping (foilctl connections): housekeeping makes a struct tcp_scan, the worker fills its
 * table a few buckets of the flow table a turn, and waits when the table is full until housekeeping has emptied it.
 * A connection that is there from beginning to end is told once; each is told as it stood at its moment. */
#pragma once

#include "dataplane/tcp/tcp.h"

#define TCP_SCAN_INFOS 256u
#define TCP_SCAN_BUCKETS_A_TURN 64u

enum tcp_scan_kind { TCP_SCAN_CONN, TCP_SCAN_HALF_OPEN, TCP_SCAN_TIME_WAIT };

struct tcp_conn_info {
	struct net_addr local, remote;
	uint16_t local_port, remote_port;
	enum tcp_scan_kind kind;
	const char *state;         /* a name of RFC 9293; static */
	bool is_active;            /* opened by us */
	const char *congestion, *phase, *last_drop; /* static; last_drop NULL: nothing was dropped. phase: open, recovery, loss */
	uint32_t mss_bytes, cwnd_bytes, ssthresh_bytes /* UINT32_MAX: not found yet */, in_flight_bytes, lost_bytes, sacked_bytes;
	uint32_t srtt_us, rttvar_us, rto_us, min_rtt_us;
	uint32_t n_resent, resent_bytes, n_timeouts /* in a row */, n_dropped;
	uint32_t snd_wnd_bytes, rcv_wnd_bytes, rx_waiting_bytes, tx_waiting_bytes, ooo_bytes;
	uint64_t pace_Bps;         /* 0: not paced */
	uint64_t age_us, idle_us;  /* 0 where it is not known */
	bool has_ts, has_sack, has_wscale, has_ecn;
};

struct tcp_scan_filter { /* what is zero or false is not asked about */
	struct net_addr local, remote;
	bool has_local, has_remote;
	uint16_t local_port, remote_port;
	const char *state; /* a name as above; borrowed */
};

struct tcp_scan {
	struct tcp_scan_filter filter;
	uint32_t at;        /* bucket; the worker's */
	uint32_t n_infos;
	bool is_done;       /* with the last infos */
	uint32_t owner;     /* release and acquire: TCP_SCAN_HOUSE, or the worker whose turn it is */
	struct tcp_conn_info infos[TCP_SCAN_INFOS];
};

#define TCP_SCAN_HOUSE 0u
static inline uint32_t tcp_scan_owner(uint16_t worker)
{
	return worker + 1u;
}

/* The worker: a turn's share. May only be called while it is the owner; gives it to housekeeping when the table is full or all is told. */
void tcp_scan_turn(struct foil_worker *w, struct tcp_scan *s);
/* "ESTABLISHED" for any spelling of it ("established", "time_wait"); NULL: no such state. */
const char *tcp_scan_state(const char *text);
