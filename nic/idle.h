/* What a worker does when a turn of its loop found nothing: go on polling, rest a little, or sleep until a packet comes. */
#pragma once

#include "nic/nic.h"

enum nic_idle_mode {
	NIC_IDLE_POLL,      /* never rests: lowest latency, a whole core */
	NIC_IDLE_PAUSE,     /* pauses, then naps that grow to NIC_IDLE_NAP_US_MAX: a few percent of a core at rest */
	NIC_IDLE_INTERRUPT, /* sleeps until a packet, a timer or nic_idle_wake; PAUSE, with a notice, where a port cannot say that packets came */
	NIC_IDLE_AUTO,      /* INTERRUPT where all of the worker's ports can, else PAUSE; never in force itself */
};

#define NIC_IDLE_NAP_US_MAX 400u /* half of it is what the first packet after rest waits, on average; a quarter of it cost 4 to 8 % of a core */
#define NIC_IDLE_NAP_US_COSTLY 1000u /* where a nap costs much (a virtual machine's timers): so long at most, for the core's sake */
#define NIC_IDLE_FDS_MAX (NET_PORTS_MAX + 1)

struct nic_idle_fd {
	int fd;
	bool drain;            /* an event descriptor: read it after it was readable */
	struct nic_port *port; /* whose interrupt must be armed first; NULL if poll() needs nothing more */
};

struct nic_idle {
	struct foil_worker *w;
	enum nic_idle_mode mode;    /* in force, after fallbacks */
	uint32_t asleep;            /* atomic: nic_idle_wake writes the event only then */
	bool lying, slack_set;      /* lying: asleep is said, one more turn, then the wait */
	uint64_t idle_since_us, nap_us, sleep_us_max;
	uint32_t nap_us_most, n_naps; /* at rest; naps since their cost was looked at */
	uint64_t cost_since_us, cost_cpu_us; /* when that was, and the thread's CPU time then */
	int wake_fd;
	uint16_t n_fds, n_ports;
	struct nic_idle_fd fds[NIC_IDLE_FDS_MAX];
	struct nic_port *ports[NET_PORTS_MAX];
};

/* "poll", "pause", "interrupt", "auto". 0 or -EINVAL. */
int nic_idle_mode_parse(const char *text, enum nic_idle_mode *out) FOIL_MUST_USE;
/* For worker w->id over the opened ports. A mode that a port cannot serve falls back, with a notice. 0, or -errno with a sentence.
 * The worker's struct nic_idle must not move until fini. */
int nic_idle_init(struct nic_idle *idle, struct foil_worker *w, enum nic_idle_mode mode, struct nic_port *const *ports,
		  uint16_t n_ports, nic_notice_fn notice, void *notice_arg, struct foil_error *err) FOIL_MUST_USE;
void nic_idle_fini(struct nic_idle *idle);
/* How long naps at rest may be, when such of most_us used cpu_us in so many us: 2 to 4 % of a core, between the two above. */
uint32_t nic_idle_nap_most(uint32_t most_us, uint64_t cpu_us, uint64_t us);
/* At the end of every loop turn, after net_flush. had_work: packets, timers or messages were handled in it. next_timer_us is
 * foil_wheel_next_us's answer, on w->now_us's scale: no rest goes beyond it. */
void nic_idle_turn(struct nic_idle *idle, bool had_work, uint64_t next_timer_us);
/* From any thread: end the worker's rest. Cheap when it does not rest. */
void nic_idle_wake(struct nic_idle *idle);
