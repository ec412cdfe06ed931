/* An idle worker's rest. POLL never rests. PAUSE spins for a while with the CPU's pause hint, then naps, each nap twice as long as
 * the one before: up to NAP_US_BUSY at first, up to NIC_IDLE_NAP_US_MAX after QUIET_US without work, and longer where naps cost much.
 * INTERRUPT sleeps until a packet or the next timer. Either rest also ends when another thread calls nic_idle_wake, and PAUSE's also when
 * a packet socket has something, since that costs nothing.
 *
 * No wake-up is lost: the worker says "asleep" and arms interrupts, then does one more whole turn (which polls every queue and ring),
 * and only if that found nothing does it wait. Who gives it work does so first and looks at "asleep" afterwards. A rest that only time ended changes
 * nothing of that: the turn behind it is the one before the next, so that a nap costs one turn and one system call.
 * Invariant: asleep is 0, or the turn that runs found nothing yet. */
#include "nic/nic_priv.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <rte_pause.h>

#define SPIN_US 100u            /* no rest this soon after work */
#define NAP_US_MIN 50u
#define NAP_US_BUSY 100u        /* the longest while there was work QUIET_US ago or less: the next request of a burst waits half of it */
#define QUIET_US 10000u
#define NAPS_A_LOOK 256u
#define SLEEP_US_MAX 1000000u   /* so that w->now_us and the counters never stand still for long */
#define KEEPER_US_MAX 5000u     /* worker 0 of a port with an exception path looks after the kernel's side */
#define TIMER_SLACK_NS 1000u

int nic_idle_mode_parse(const char *text, enum nic_idle_mode *out)
{
	static const char *const names[] = {"poll", "pause", "interrupt", "auto"};

	for (unsigned int i = 0; i < FOIL_COUNT_OF(names); i++)
		if (strcmp(text, names[i]) == 0) {
			*out = (enum nic_idle_mode)i;
			return 0;
		}
	return -EINVAL;
}

static bool is_eventfd(int fd)
{
	char path[64], target[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	return n > 0 && strstr(target, "eventfd") != NULL;
}

/* False if worker would not notice packets of the port while it sleeps. */
static bool port_join(struct nic_idle *idle, struct nic_port *port, uint16_t worker)
{
	struct nic_idle_fd *f = &idle->fds[idle->n_fds];

	if (worker >= port->n_queues)
		return true; /* its packets come over a ring, and nic_idle_wake with them */
	if (port->queue_fds[worker] >= 0) {
		*f = (struct nic_idle_fd){.fd = port->queue_fds[worker]};
		idle->n_fds++;
		return true;
	}
	if (!port->interrupts)
		return false;
	int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(port->dpdk, worker);
	if (fd < 0 || rte_eth_dev_rx_intr_enable(port->dpdk, worker))
		return false;
	(void)rte_eth_dev_rx_intr_disable(port->dpdk, worker); /* armed again before each sleep */
	*f = (struct nic_idle_fd){.fd = fd, .port = port, .drain = is_eventfd(fd)};
	idle->n_fds++;
	return true;
}

int nic_idle_init(struct nic_idle *idle, struct foil_worker *w, enum nic_idle_mode mode, struct nic_port *const *ports,
		  uint16_t n_ports, nic_notice_fn notice, void *notice_arg, struct foil_error *err)
{
	memset(idle, 0, sizeof(*idle));
	idle->w = w;
	idle->mode = mode == NIC_IDLE_AUTO ? NIC_IDLE_INTERRUPT : mode;
	idle->idle_since_us = w->now_us;
	idle->sleep_us_max = SLEEP_US_MAX;
	idle->nap_us_most = NIC_IDLE_NAP_US_MAX;
	idle->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (idle->wake_fd < 0)
		return foil_error_set(err, -errno, "worker %u: no event descriptor for its rest; raise the limit of open files", w->id);
	idle->fds[idle->n_fds++] = (struct nic_idle_fd){.fd = idle->wake_fd, .drain = true};
	for (uint16_t i = 0; i < n_ports; i++) {
		if (!port_join(idle, ports[i], w->id) && idle->mode == NIC_IDLE_INTERRUPT) {
			if (mode == NIC_IDLE_INTERRUPT) /* what auto does is what was asked for */
				nic_notice(notice, notice_arg, "worker %u: port %s cannot interrupt; it pauses instead (idle mode pause)", w->id,
					   ports[i]->name);
			idle->mode = NIC_IDLE_PAUSE;
		}
		if (w->id == 0 && (ports[i]->has_exception || ports[i]->tx_ring))
			idle->sleep_us_max = KEEPER_US_MAX;
		if (mode != NIC_IDLE_POLL)
			__atomic_store_n(&ports[i]->idle[w->id], idle, __ATOMIC_RELEASE);
	}
	for (uint16_t i = 0; i < n_ports; i++)
		idle->ports[i] = ports[i];
	idle->n_ports = n_ports;
	return 0;
}

void nic_idle_fini(struct nic_idle *idle)
{
	for (uint16_t i = 0; i < idle->n_ports; i++)
		__atomic_store_n(&idle->ports[i]->idle[idle->w->id], NULL, __ATOMIC_RELEASE);
	if (idle->wake_fd >= 0)
		close(idle->wake_fd);
	idle->wake_fd = -1;
}

void nic_idle_wake(struct nic_idle *idle)
{
	uint64_t one = 1;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&idle->asleep, __ATOMIC_RELAXED) && __atomic_exchange_n(&idle->asleep, 0, __ATOMIC_SEQ_CST))
		(void)!write(idle->wake_fd, &one, sizeof(one)); /* full means that it is awake already */
}

static void lie_down(struct nic_idle *idle)
{
	for (uint16_t i = 0; idle->mode == NIC_IDLE_INTERRUPT && i < idle->n_fds; i++)
		if (idle->fds[i].port)
			(void)rte_eth_dev_rx_intr_enable(idle->fds[i].port->dpdk, idle->w->id); /* it worked at init */
	idle->lying = true;
	__atomic_store_n(&idle->asleep, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void get_up(struct nic_idle *idle)
{
	__atomic_store_n(&idle->asleep, 0, __ATOMIC_SEQ_CST);
	idle->lying = false;
	for (uint16_t i = 0; idle->mode == NIC_IDLE_INTERRUPT && i < idle->n_fds; i++)
		if (idle->fds[i].port)
			(void)rte_eth_dev_rx_intr_disable(idle->fds[i].port->dpdk, idle->w->id);
}

/* Waits at most wait_us; true if something other than time ended it. */
static bool rest(struct nic_idle *idle, uint64_t wait_us)
{
	struct timespec t = {.tv_sec = (time_t)(wait_us / 1000000), .tv_nsec = (long)(wait_us % 1000000 * 1000)};
	struct pollfd p[NIC_IDLE_FDS_MAX];
	const struct nic_idle_fd *of[NIC_IDLE_FDS_MAX];
	uint16_t n = 0;
	uint64_t junk;

	for (uint16_t i = 0; i < idle->n_fds; i++) {
		if (idle->mode != NIC_IDLE_INTERRUPT && idle->fds[i].port)
			continue; /* not armed in pause mode */
		of[n] = &idle->fds[i];
		p[n++] = (struct pollfd){.fd = idle->fds[i].fd, .events = POLLIN};
	}
	if (ppoll(p, n, &t, NULL) <= 0)
		return false;
	for (uint16_t i = 0; i < n; i++)
		if (of[i]->drain && p[i].revents & POLLIN)
			(void)!read(of[i]->fd, &junk, sizeof(junk)); /* what it counted does not matter */
	return true;
}

uint32_t nic_idle_nap_most(uint32_t most_us, uint64_t cpu_us, uint64_t us)
{
	if (cpu_us * 100 > us * 4)
		return FOIL_MIN(most_us + most_us / 4, NIC_IDLE_NAP_US_COSTLY);
	if (cpu_us * 100 < us * 2)
		return FOIL_MAX(most_us - most_us / 4, NIC_IDLE_NAP_US_MAX);
	return most_us;
}

/* What naps cost is the machine's affair: 11 us each on one, 21 on another. Looked at once in NAPS_A_LOOK, which costs a call of the system. */
static void look_at_cost(struct nic_idle *idle)
{
	struct timespec t = {0};

	if (idle->n_naps++ % NAPS_A_LOOK != 0 || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t))
		return;
	uint64_t cpu_us = (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u, now_us = idle->w->now_us;
	if (idle->n_naps > 1)
		idle->nap_us_most = nic_idle_nap_most(idle->nap_us_most, cpu_us - idle->cost_cpu_us, now_us - idle->cost_since_us);
	idle->cost_cpu_us = cpu_us;
	idle->cost_since_us = now_us;
}

static uint64_t wait_choose(struct nic_idle *idle, uint64_t next_timer_us)
{
	uint64_t now_us = idle->w->now_us, left_us = next_timer_us > now_us ? next_timer_us - now_us : 0, wait_us;

	if (idle->mode == NIC_IDLE_INTERRUPT) {
		wait_us = idle->sleep_us_max;
	} else {
		bool is_quiet = now_us - idle->idle_since_us >= QUIET_US;
		uint64_t most_us = is_quiet ? idle->nap_us_most : NAP_US_BUSY;
		if (is_quiet)
			look_at_cost(idle);
		idle->nap_us = idle->nap_us ? FOIL_MIN(idle->nap_us * 2, most_us) : NAP_US_MIN;
		wait_us = idle->nap_us;
	}
	return FOIL_MIN(wait_us, left_us);
}

void nic_idle_turn(struct nic_idle *idle, bool had_work, uint64_t next_timer_us)
{
	if (idle->mode == NIC_IDLE_POLL)
		return;
	if (had_work) {
		if (idle->lying)
			get_up(idle);
		idle->nap_us = 0;
		idle->n_naps = 0;
		idle->idle_since_us = idle->w->now_us;
		return;
	}
	if (idle->w->now_us - idle->idle_since_us < SPIN_US) {
		rte_pause();
		return;
	}
	if (!idle->lying) {
		if (!idle->slack_set)
			(void)prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0); /* else naps are 50 us longer; not worth failing for */
		idle->slack_set = true;
		lie_down(idle);
		return; /* one more turn before the wait */
	}
	uint64_t wait_us = wait_choose(idle, next_timer_us);
	if (idle->mode == NIC_IDLE_INTERRUPT)
		foil_count(idle->w, NIC, SLEEPS, 1);
	else
		foil_count(idle->w, NIC, NAPS, 1);
	if (wait_us > 0 && rest(idle, wait_us)) {
		foil_count(idle->w, NIC, WAKES, 1);
		idle->nap_us = 0;
		get_up(idle);
	}
}
