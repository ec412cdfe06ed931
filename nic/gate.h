/* The gate of a memif port: bursts on one side, the driver's handling of the control socket on the other, never both at once
 * (docs/decisions/0012). DPDK's driver unmaps a peer's memory from EAL's interrupt thread while a worker may be in it; here the
 * handler runs behind a shut gate, when no worker is inside.
 * A worker pays a store, a load and a store a burst, on lines that nobody else writes while peers stay. */
#pragma once

#include "nic/nic_priv.h"

struct nic_gate_worker {
	uint32_t inside; /* atomic: in a burst */
	uint32_t seen;   /* the state that it knows as open */
	uint32_t n_left, n_came, n_refused; /* that it has heard of */
} FOIL_CACHE_ALIGNED;

struct nic_gate {
	uint32_t state FOIL_CACHE_ALIGNED; /* atomic: odd while shut, another number each time */
	bool fenced;                       /* no membarrier(2): the worker makes its store seen itself */
	struct nic_port *port FOIL_CACHE_ALIGNED; /* here and below: closers, under the lock */
	struct nic_gate *next;
	bool held, connects, link_up;      /* held: stays shut, the device is stopped; connects: it is being started */
	uint32_t n_left, n_came, n_refused; /* atomic: peers, since the start */
	const char *refused_why;           /* atomic: of the last one */
	uint32_t told_left, told_came, told_refused, n_down; /* nic_ports_tend's; n_down: turns that found no link */
	struct nic_gate_worker workers[NIC_WORKERS_MAX];
};

/* Before the device is made. 0, -ENOMEM. */
int nic_gate_new(struct nic_port *port) FOIL_MUST_USE;
void nic_gate_free(struct nic_gate *own_gate); /* NULL is fine; the device is gone */
/* Before the device is closed: the driver forgets to end its listening socket and what waits there, and their handlers use what it frees. */
void nic_gate_retire(struct nic_gate *gate);
/* False if the driver's handlers do not pass by here: then a peer that leaves may end the process. */
bool nic_gate_is_passed(void);

/* Main thread, around what changes a device: bursts of all memif ports stay out between the two. */
void nic_gates_shut(void);
void nic_gates_open(void);
/* The same for one port, until it is said otherwise: its device is stopped or being started. */
void nic_gate_hold(struct nic_gate *g, bool held);

/* The rare way in: the gate is shut (false: no burst now), or was since the worker's last burst. */
bool nic_gate_look(struct foil_worker *w, struct nic_gate *g);

/* Before a burst; false: no burst now. */
static inline bool nic_gate_enter(struct foil_worker *w, struct nic_gate *g)
{
	struct nic_gate_worker *me = &g->workers[w->id];

	__atomic_store_n(&me->inside, 1, __ATOMIC_RELAXED);
	if (FOIL_UNLIKELY(g->fenced))
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	else
		__atomic_signal_fence(__ATOMIC_SEQ_CST); /* the other half of the fence is who shuts' membarrier(2) */
	if (FOIL_UNLIKELY(__atomic_load_n(&g->state, __ATOMIC_ACQUIRE) != me->seen))
		return nic_gate_look(w, g);
	return true;
}

static inline void nic_gate_leave(const struct foil_worker *w, struct nic_gate *g)
{
	__atomic_store_n(&g->workers[w->id].inside, 0, __ATOMIC_RELEASE);
}
