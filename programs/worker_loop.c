/* The loop of one worker. Its order is the way of a packet: everything that a burst caused is written out at the end of the same turn. Time is read once
 * a turn, the wall clock once in WALL_EVERY_US. Invariant: nothing below this file reads a clock. */
#include "programs/worker_loop.h"

#include <rte_cycles.h>

#include "dataplane/http/codec.h"
#include "dataplane/mesh/mesh.h"
#include "dataplane/net/net.h"
#include "dataplane/tcp/tcp.h"
#include "dataplane/tls/tls.h"
#include "nic/nic.h"

#define WALL_EVERY_US 1000u
#define REPORT_EVERY_US 10000u
#define CYCLES_EVERY_US 100000u
#define TIMERS_A_TURN 256u

struct turn_state {
	uint64_t wall_at_us, report_at_us, cycles_at_us;
	uint64_t busy_before, idle_before; /* cycles, when they were looked at last */
	uint8_t busy_percent;              /* of those between the last two looks */
	int64_t wall_offset_us; /* wall clock minus worker clock */
	bool draining;
};

static void set_clock(struct foil_worker *w, struct turn_state *t)
{
	uint64_t now_us = nic_clock_us();
	if (now_us > w->now_us)
		w->now_us = now_us;
	if (w->now_us >= t->wall_at_us) {
		t->wall_offset_us = (int64_t)(nic_wall_us() - w->now_us);
		t->wall_at_us = w->now_us + WALL_EVERY_US;
	}
	w->wall_us = (uint64_t)((int64_t)w->now_us + t->wall_offset_us);
}

static void look_at_cycles(struct foil_worker *w, struct turn_state *t)
{
	uint64_t busy = w->ctr[FOIL_ROOM_CORE][CORE_CTR_BUSY_CYCLES], idle = w->ctr[FOIL_ROOM_CORE][CORE_CTR_IDLE_CYCLES];
	if (w->now_us < t->cycles_at_us)
		return;
	t->cycles_at_us = w->now_us + CYCLES_EVERY_US;
	t->busy_percent = foil_percent(busy - t->busy_before, busy - t->busy_before + idle - t->idle_before);
	t->busy_before = busy;
	t->idle_before = idle;
}

static uint8_t pool_percent(const struct rte_mempool *pool)
{
	return foil_percent(rte_mempool_in_use_count(pool), pool->size);
}

/* What there is too little of (core/overload.h), and the part of the remedy that is not another room's to remember. */
static void look_at_overload(const struct worker_loop *l, const struct mesh_stats *mesh, struct turn_state *t)
{
	struct foil_worker *w = l->w;
	struct tcp_stats tcp;
	uint8_t steering = 0;
	tcp_stats_get(w, &tcp);
	look_at_cycles(w, t);
	for (uint16_t i = 0; i < l->n_ports; i++)
		steering = FOIL_MAX(steering, nic_port_steering_percent(l->ports[i], w->id));
	const uint8_t percent[FOIL_PRESSURE_COUNT] = {
		[FOIL_PRESSURE_PACKETS] = pool_percent(w->mbuf_pool),
		[FOIL_PRESSURE_CHUNKS] = FOIL_MAX(pool_percent(w->chunk_pool), pool_percent(w->large_chunk_pool)),
		[FOIL_PRESSURE_CONNECTIONS] = foil_percent(tcp.n_conns, tcp.conns_max),
		[FOIL_PRESSURE_REQUESTS] = foil_percent(mesh->n_request_blocks, mesh->request_blocks_max),
		[FOIL_PRESSURE_CYCLES] = t->busy_percent,
		[FOIL_PRESSURE_STEERING] = steering,
	};
	foil_overload_look(w, percent);
	if (w->overload & FOIL_OVERLOAD_SHRINK) {
		const struct foil_overload *o = &w->overload_state;
		uint8_t left = foil_percent(tcp.n_conns - tcp.n_released, tcp.conns_max); /* when those that end have ended */
		if (o->pressing[0] != 1u << FOIL_PRESSURE_CONNECTIONS || left + FOIL_OVERLOAD_HYSTERESIS_PERCENT > o->conf.at_percent[0])
			mesh_shrink(w);
		tcp_shrink(w);
	}
}

static void report(struct worker_loop *l, struct turn_state *t)
{
	struct mesh_stats stats;
	if (l->w->now_us < t->report_at_us)
		return;
	t->report_at_us = l->w->now_us + REPORT_EVERY_US;
	mesh_stats_get(l->w, &stats);
	look_at_overload(l, &stats, t);
	foil_gauge_set(l->w, CORE, MBUFS_FREE, rte_mempool_avail_count(l->w->mbuf_pool));
	foil_gauge_set(l->w, CORE, MBUFS, l->w->mbuf_pool->size);
	foil_gauge_set(l->w, CORE, CHUNKS_FREE, rte_mempool_avail_count(l->w->chunk_pool));
	foil_gauge_set(l->w, CORE, CHUNKS, l->w->chunk_pool->size);
	__atomic_store_n(&l->n_downstream, stats.n_downstream, __ATOMIC_RELAXED);
	__atomic_store_n(&l->n_requests, stats.n_requests, __ATOMIC_RELAXED);
	__atomic_store_n(&l->overload, l->w->overload, __ATOMIC_RELAXED);
	__atomic_store_n(&l->drained, t->draining && stats.n_downstream == 0 && stats.n_requests == 0, __ATOMIC_RELAXED);
	__atomic_store_n(&l->turns, l->turns + 1, __ATOMIC_RELEASE);
}

/* What foilctl asks (inspect.c). True: there is more to do at the next turn. */
static bool inspect(struct worker_loop *l)
{
	struct net_capture *c = __atomic_load_n(&l->capture, __ATOMIC_ACQUIRE);
	struct tcp_scan *s = __atomic_load_n(&l->scan, __ATOMIC_ACQUIRE);
	if (FOIL_UNLIKELY(c != l->capture_seen)) {
		net_capture_start(l->w, c);
		__atomic_store_n(&l->capture_seen, c, __ATOMIC_RELEASE);
	}
	if (FOIL_LIKELY(!s) || __atomic_load_n(&s->owner, __ATOMIC_ACQUIRE) != tcp_scan_owner(l->w->id))
		return false;
	tcp_scan_turn(l->w, s);
	return true;
}

/* While it drains, rest no longer than to the next report: housekeeping waits for it. */
static uint64_t rest_until(const struct worker_loop *l, const struct turn_state *t)
{
	uint64_t next_us = foil_wheel_next_us(l->w);
	return t->draining ? FOIL_MIN(next_us, t->report_at_us) : next_us;
}

static bool turn(struct worker_loop *l, struct turn_state *t)
{
	struct foil_worker *w = l->w;
	foil_account_begin(w);
	set_clock(w, t);
	if (FOIL_UNLIKELY(!t->draining && __atomic_load_n(&l->drain, __ATOMIC_RELAXED))) {
		t->draining = true;
		w->draining = true;
		mesh_drain(w);
		t->report_at_us = 0;
	}
	bool inspects = inspect(l);
	uint8_t loop_stage = foil_stage_enter(w, FOIL_STAGE_MESH);
	mesh_turn(w);
	foil_stage_leave(w, loop_stage);
	http_burst_begin(w);
	unsigned int n_packets = net_poll(w);
	http_burst_end(w);
	(void)foil_stage_enter(w, FOIL_STAGE_TIMERS); /* one after the other, until report */
	unsigned int n_timers = foil_wheel_advance(w, TIMERS_A_TURN);
	(void)foil_stage_enter(w, FOIL_STAGE_TLS);
	http_burst_begin(w);
	tls_turn(w);
	http_burst_end(w);
	(void)foil_stage_enter(w, FOIL_STAGE_OUTPUT);
	tcp_flush(w);
	(void)foil_stage_enter(w, FOIL_STAGE_TX);
	unsigned int n_sent = net_flush(w); /* with nothing else: what a full queue had left */
	foil_stage_leave(w, loop_stage);
	report(l, t);
	foil_count(w, CORE, TIMERS_FIRED, n_timers);
	bool had_work = n_packets + n_timers + n_sent > 0 || inspects || tls_has_work(w);
	foil_account_end(w, had_work);
	return had_work;
}

/* How long packets waited because of one turn, as a cumulative histogram: sums and means do not show a turn that was long. */
static void count_long(struct foil_worker *w, uint64_t cycles, uint64_t cycles_us)
{
	foil_count(w, CORE, TURNS_OVER_100_US, 1);
	foil_count(w, CORE, TURNS_OVER_250_US, cycles > 250 * cycles_us);
	foil_count(w, CORE, TURNS_OVER_500_US, cycles > 500 * cycles_us);
	foil_count(w, CORE, TURNS_OVER_1000_US, cycles > 1000 * cycles_us);
	foil_count(w, CORE, TURNS_OVER_2500_US, cycles > 2500 * cycles_us);
	foil_count(w, CORE, TURNS_OVER_5000_US, cycles > 5000 * cycles_us);
	foil_count(w, CORE, TURNS_OVER_10000_US, cycles > 10000 * cycles_us);
}

int worker_loop_run(void *arg)
{
	struct worker_loop *l = arg;
	struct turn_state t = {0};
	const uint64_t cycles_us = rte_get_tsc_hz() / 1000000u;
	foil_worker_set_current(l->w);
	uint64_t before = rte_rdtsc();
	while (!__atomic_load_n(&l->stop, __ATOMIC_RELAXED)) {
		bool had_work = turn(l, &t);
		nic_idle_turn(&l->idle, had_work, had_work ? 0 : rest_until(l, &t));
		uint64_t after = rte_rdtsc();
		foil_count(l->w, CORE, LOOPS, 1);
		if (had_work) {
			foil_count(l->w, CORE, BUSY_CYCLES, after - before);
			if (FOIL_UNLIKELY(after - before > 100 * cycles_us))
				count_long(l->w, after - before, cycles_us);
		} else {
			foil_count(l->w, CORE, IDLE_LOOPS, 1);
			foil_count(l->w, CORE, IDLE_CYCLES, after - before);
		}
		before = after;
	}
	foil_worker_set_current(NULL);
	return 0;
}

void worker_loop_drain(struct worker_loop *l)
{
	__atomic_store_n(&l->drain, true, __ATOMIC_RELAXED);
	nic_idle_wake(&l->idle);
}

void worker_loop_stop(struct worker_loop *l)
{
	__atomic_store_n(&l->stop, true, __ATOMIC_RELAXED);
	nic_idle_wake(&l->idle);
}

void worker_loop_wake(struct worker_loop *l)
{
	nic_idle_wake(&l->idle);
}
