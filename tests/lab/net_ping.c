/* The network layer on a kernel interface, with nothing above it: what net_ping.py pings. Answers ARP, ND and echo; refuses UDP.
 *   net_ping URI SECONDS IDLE_MODE N_WORKERS ADDRESS/LEN...
 * Prints "ready" when it answers, and at its end the counters of worker 0 that are not zero and each worker's CPU time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <rte_launch.h>
#include <rte_malloc.h>

#include "nic/idle.h"
#include "nic/nic.h"

#define ADDRESSES_MAX 16

struct run {
	struct foil_worker *w;
	struct net_port port;
	struct nic_idle idle;
	uint64_t end_us, cpu_us;
};

static void die(const struct foil_error *err)
{
	fprintf(stderr, "net_ping: %s\n", err->text);
	exit(1);
}

static void notice(void *arg, const char *text)
{
	fprintf(stderr, "NOTICE %s\n", text);
}

static int loop(void *arg)
{
	struct run *r = arg;
	struct foil_worker *w = r->w;
	struct timespec t;

	foil_worker_set_current(w);
	while (w->now_us < r->end_us) {
		w->now_us = nic_clock_us();
		w->wall_us = nic_wall_us();
		bool work = net_poll(w) > 0;
		work |= foil_wheel_advance(w, 64) > 0;
		net_flush(w);
		foil_count(w, CORE, LOOPS, 1);
		nic_idle_turn(&r->idle, work, foil_wheel_next_us(w));
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	r->cpu_us = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
	return 0;
}

static void report(const struct foil_worker *w, const struct foil_room_desc *d)
{
	for (uint16_t i = 0; i < d->n_counters; i++)
		if (w->ctr[d->room][i])
			printf("%s %s %llu\n", d->name, d->counters[i].name, (unsigned long long)w->ctr[d->room][i]);
	for (uint16_t i = 0; i < d->n_reasons; i++)
		if (w->why[d->room][i])
			printf("%s reason %s %llu\n", d->name, d->reasons[i].name, (unsigned long long)w->why[d->room][i]);
}

static struct run runs[NIC_WORKERS_MAX];

static void worker_make(uint16_t i, uint16_t n, uint64_t seconds, struct rte_mempool **rx_pool)
{
	struct foil_worker_params wp = {.id = i, .n_workers = n, .seed = 1 + i, .now_us = nic_clock_us(), .wall_us = nic_wall_us()};
	struct foil_error err = {0};
	struct foil_pools pools;
	char prefix[16];

	snprintf(prefix, sizeof(prefix), "w%u", i);
	struct foil_pools_params pp = {.prefix = prefix, .n_mbufs = 8191, .n_indirect = 255, .n_chunks = 63, .n_large_chunks = 3};
	if (foil_pools_new(&pools, &pp, &err))
		die(&err);
	wp.mbuf_pool = *rx_pool = pools.mbuf;
	wp.indirect_pool = pools.indirect;
	wp.chunk_pool = pools.chunk;
	wp.large_chunk_pool = pools.large_chunk;
	runs[i].w = rte_zmalloc(NULL, sizeof(*runs[i].w), 64);
	if (!runs[i].w || foil_worker_init(runs[i].w, &wp))
		abort();
	runs[i].end_us = nic_clock_us() + seconds * 1000000;
}

int main(int argc, char **argv)
{
	struct foil_error err = {0};
	struct rte_mempool *pools[NIC_WORKERS_MAX];
	struct net_local_conf locals[ADDRESSES_MAX] = {0};
	enum nic_idle_mode mode;

	if (argc < 6 || argc - 5 > ADDRESSES_MAX || nic_idle_mode_parse(argv[3], &mode)) {
		fprintf(stderr, "usage: net_ping URI SECONDS poll|pause|interrupt N_WORKERS ADDRESS/LEN...\n");
		return 2;
	}
	uint16_t n = (uint16_t)strtoul(argv[4], NULL, 10), n_locals = (uint16_t)(argc - 5);
	for (uint16_t i = 0; i < n_locals; i++)
		if (net_prefix_parse(argv[5 + i], &locals[i].prefix))
			return 2;
	const char *uris[] = {argv[1]};
	struct nic_eal_params ep = {.program = argv[0], .n_workers = n, .main_cpu = -1, .memory_mb = 192, .file_prefix = "net-ping", .uris = uris,
				    .n_uris = 1, .notice = notice};
	if (nic_eal_start(&ep, &err))
		die(&err);
	for (uint16_t i = 0; i < n; i++)
		worker_make(i, n, strtoull(argv[2], NULL, 10), &pools[i]);
	struct nic_port *port;
	struct nic_port_params pp = {.name = "p0", .uri = argv[1], .n_workers = n, .rx_pools = pools, .interrupts = mode == NIC_IDLE_INTERRUPT,
				     .exception_tap = getenv("NET_PING_EXCEPTION") != NULL, .notice = notice};
	if (nic_port_open(&pp, &port, &err))
		die(&err);
	for (uint16_t i = 0; i < n; i++) {
		nic_port_queue(port, i, &runs[i].port);
		struct net_params np = {.ports = {&runs[i].port}, .n_ports = 1, .locals = locals, .n_locals = n_locals};
		nic_ports_hooks(&port, 1, &np);
		if (net_init(runs[i].w, &np, &err) || nic_idle_init(&runs[i].idle, runs[i].w, mode, &port, 1, notice, NULL, &err))
			die(&err);
	}
	for (uint16_t i = 0; i < n; i++)
		rte_eal_remote_launch(loop, &runs[i], nic_worker_lcore(i));
	printf("ready\n");
	fflush(stdout);
	rte_eal_mp_wait_lcore();
	for (uint16_t i = 0; i < n; i++) {
		printf("worker %u cpu_us %llu loops %llu\n", i, (unsigned long long)runs[i].cpu_us,
		       (unsigned long long)runs[i].w->ctr[FOIL_ROOM_CORE][CORE_CTR_LOOPS]);
		report(runs[i].w, &net_room_desc);
		report(runs[i].w, &nic_room_desc);
		nic_idle_fini(&runs[i].idle);
		net_fini(runs[i].w);
	}
	nic_ports_close(&port, 1);
	for (uint16_t i = 0; i < n; i++)
		foil_worker_fini(runs[i].w);
	nic_eal_stop();
	return 0;
}
