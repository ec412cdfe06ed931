/* The loop of one poll-mode core: clock, snapshot, packets, timers, output, rest. The only place where a worker meets the real clock. */
#pragma once

#include "dataplane/core/worker.h"
#include "dataplane/net/capture.h"
#include "dataplane/tcp/scan.h"
#include "nic/idle.h"

struct worker_loop {
	struct foil_worker *w;
	struct nic_idle idle;
	struct nic_port *const *ports; /* the node's, borrowed */
	uint16_t n_ports;
	/* written by housekeeping, read by the worker once a turn (relaxed) */
	bool drain, stop;
	struct tcp_scan *scan;       /* connections to tell, whoever's turn it is (tcp/scan.h) */
	struct net_capture *capture; /* where to capture into; NULL: nowhere */
	/* written by the worker once in a while, read by housekeeping (relaxed) */
	uint64_t n_downstream, n_requests, turns;
	struct net_capture *capture_seen; /* capture, once the worker has taken it up */
	uint8_t overload; /* the worker's, as of then */
	bool drained; /* it has drained and nothing is in flight any more */
};

/* For rte_eal_remote_launch: loop is a struct worker_loop *. Returns 0 after stop. */
int worker_loop_run(void *loop);
/* From housekeeping: ask the worker to drain, to stop. */
void worker_loop_drain(struct worker_loop *loop);
void worker_loop_stop(struct worker_loop *loop);
/* From housekeeping: there is something to see (a new snapshot); ends its rest. */
void worker_loop_wake(struct worker_loop *loop);
