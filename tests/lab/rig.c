/* The frame of the lab programs (rig.h). Ends the process on whatever goes wrong in set-up: these are test programs. */
#include "tests/lab/rig.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include <rte_launch.h>
#include <rte_malloc.h>

struct run {
	const struct rig_params *p;
	struct foil_worker *w;
	struct foil_pools pools;
	struct net_port port;
	struct nic_idle idle;
	uint64_t end_us, cpu_us;
};

static struct run runs[NIC_WORKERS_MAX];
static volatile sig_atomic_t stop;

static void die(const struct foil_error *err)
{
	fprintf(stderr, "rig: %s\n", err->text);
	exit(1);
}

static void notice(void *arg, const char *text)
{
	fprintf(stderr, "NOTICE %s\n", text);
}

static void on_term(int sig)
{
	stop = 1;
}

uint64_t rig_number(const char *text, uint64_t min, uint64_t max)
{
	char *end;

	errno = 0;
	unsigned long long v = strtoull(text, &end, 0);
	if (errno || end == text || *end || v < min || v > max) {
		fprintf(stderr, "rig: \"%s\" is no number from %llu to %llu\n", text, (unsigned long long)min, (unsigned long long)max);
		exit(2);
	}
	return v;
}

static int loop(void *arg)
{
	struct run *r = arg;
	struct foil_worker *w = r->w;
	struct timespec t;

	foil_worker_set_current(w);
	while (w->now_us < r->end_us && !stop) {
		w->now_us = nic_clock_us();
		w->wall_us = nic_wall_us();
		bool work = net_poll(w) > 0;
		work |= foil_wheel_advance(w, 64) > 0;
		if (r->p->flush)
			r->p->flush(w);
		net_flush(w);
		foil_count(w, CORE, LOOPS, 1);
		nic_idle_turn(&r->idle, work, foil_wheel_next_us(w));
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	r->cpu_us = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
	return 0;
}

void rig_report(const struct foil_worker *w, const struct foil_room_desc *d, FILE *to)
{
	for (uint16_t i = 0; i < d->n_counters; i++)
		if (w->ctr[d->room][i])
			fprintf(to, "%s %s %llu\n", d->name, d->counters[i].name, (unsigned long long)w->ctr[d->room][i]);
	for (uint16_t i = 0; i < d->n_reasons; i++)
		if (w->why[d->room][i])
			fprintf(to, "%s reason %s %llu\n", d->name, d->reasons[i].name, (unsigned long long)w->why[d->room][i]);
}

static void worker_make(const struct rig_params *p, uint16_t i)
{
	struct foil_worker_params wp = {.id = i, .n_workers = p->n_workers, .seed = 1 + i, .now_us = nic_clock_us(), .wall_us = nic_wall_us()};
	struct foil_error err = {0};
	char prefix[16];

	snprintf(prefix, sizeof(prefix), "w%u", i);
	struct foil_pools_params pp = {.prefix = prefix, .n_mbufs = p->n_mbufs, .mbuf_data_bytes = p->mbuf_data_bytes, .n_indirect = p->n_mbufs,
				       .n_chunks = 63, .n_large_chunks = 3};
	if (foil_pools_new(&runs[i].pools, &pp, &err))
		die(&err);
	wp.mbuf_pool = runs[i].pools.mbuf;
	wp.indirect_pool = runs[i].pools.indirect;
	wp.chunk_pool = runs[i].pools.chunk;
	wp.large_chunk_pool = runs[i].pools.large_chunk;
	runs[i].p = p;
	runs[i].w = rte_zmalloc(NULL, sizeof(*runs[i].w), 64);
	if (!runs[i].w || foil_worker_init(runs[i].w, &wp))
		abort();
}

static void worker_join(struct run *r, struct nic_port **port, const struct net_local_conf *locals, uint16_t n_locals)
{
	const struct rig_params *p = r->p;
	struct foil_error err = {0};
	struct net_params np = {.ports = {&r->port}, .n_ports = 1, .locals = locals, .n_locals = n_locals};

	nic_port_queue(*port, r->w->id, &r->port);
	nic_ports_hooks(port, 1, &np);
	if (net_init(r->w, &np, &err) || (p->setup && p->setup(r->w, &err)) ||
	    nic_idle_init(&r->idle, r->w, p->mode, port, 1, notice, NULL, &err))
		die(&err);
	r->end_us = nic_clock_us() + p->seconds * 1000000;
}

static void worker_end(struct run *r)
{
	printf("worker %u cpu_us %llu loops %llu\n", r->w->id, (unsigned long long)r->cpu_us,
	       (unsigned long long)r->w->ctr[FOIL_ROOM_CORE][CORE_CTR_LOOPS]);
	nic_idle_fini(&r->idle);
	if (r->p->teardown)
		r->p->teardown(r->w);
	rig_report(r->w, &net_room_desc, stdout);
	rig_report(r->w, &nic_room_desc, stdout);
	if (r->p->room)
		rig_report(r->w, r->p->room, stdout);
	net_fini(r->w);
}

static void pools_report(struct run *r)
{
	printf("pools mbuf %u of %u indirect %u of %u\n", rte_mempool_avail_count(r->pools.mbuf), r->pools.mbuf->size,
	       rte_mempool_avail_count(r->pools.indirect), r->pools.indirect->size);
	foil_worker_fini(r->w);
}

int rig_run(const struct rig_params *p)
{
	struct net_local_conf locals[RIG_ADDRESSES_MAX] = {0};
	struct rte_mempool *pools[NIC_WORKERS_MAX];
	struct foil_error err = {0};
	struct nic_port *port;

	if (p->n_addresses < 1 || p->n_addresses > RIG_ADDRESSES_MAX)
		return 2;
	for (int i = 0; i < p->n_addresses; i++)
		if (net_prefix_parse(p->addresses[i], &locals[i].prefix))
			return 2;
	(void)signal(SIGTERM, on_term); /* fails for signals that do not exist */
	struct nic_eal_params ep = {.program = p->program, .n_workers = p->n_workers, .main_cpu = -1, .memory_mb = p->memory_mb,
				    .file_prefix = p->program, .uris = &p->uri, .n_uris = 1, .notice = notice};
	if (nic_eal_start(&ep, &err))
		die(&err);
	for (uint16_t i = 0; i < p->n_workers; i++) {
		worker_make(p, i);
		pools[i] = runs[i].pools.mbuf;
	}
	struct nic_port_params pp = {.name = "p0", .uri = p->uri, .n_workers = p->n_workers, .rx_pools = pools,
				     .interrupts = p->mode == NIC_IDLE_INTERRUPT, .exception_tap = p->exception_tap, .notice = notice};
	if (nic_port_open(&pp, &port, &err))
		die(&err);
	for (uint16_t i = 0; i < p->n_workers; i++)
		worker_join(&runs[i], &port, locals, (uint16_t)p->n_addresses);
	for (uint16_t i = 0; i < p->n_workers; i++)
		rte_eal_remote_launch(loop, &runs[i], nic_worker_lcore(i));
	printf("ready\n");
	fflush(stdout);
	for (uint16_t i = 0; i < p->n_workers; i++)
		while (rte_eal_get_lcore_state(nic_worker_lcore(i)) == RUNNING)
			(void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* rte_eal_wait_lcore would spin */
	rte_eal_mp_wait_lcore();
	for (uint16_t i = 0; i < p->n_workers; i++)
		worker_end(&runs[i]);
	nic_ports_close(&port, 1);
	for (uint16_t i = 0; i < p->n_workers; i++)
		pools_report(&runs[i]);
	nic_eal_stop();
	return 0;
}
