/* One run of the simulation: the clock jumps from event to event; frames that arrive together are one burst; a run ends when nothing
 * is left to happen, at its deadline, or when a checker finds fault. */
#include <stdarg.h>
#include <string.h>

#include "tests/sim/sim.h"

#define TURN_FRAMES_MAX 256u

void sim_fail(struct sim *s, const char *format, ...)
{
	va_list ap;

	if (s->failed)
		return;
	s->failed = true;
	int n = snprintf(s->why, sizeof(s->why), "at %llu us: ", (unsigned long long)s->now_us);
	va_start(ap, format);
	vsnprintf(s->why + n, sizeof(s->why) - (size_t)n, format, ap);
	va_end(ap);
}

/* FNV-1a by words: only to compare runs. */
void sim_mix(struct sim *s, const void *data, size_t n_bytes)
{
	const uint8_t *p = data;

	for (; n_bytes >= 8; p += 8, n_bytes -= 8) {
		uint64_t v;
		memcpy(&v, p, 8);
		s->hash = (s->hash ^ v) * 0x100000001b3u;
		s->hash ^= s->hash >> 29;
	}
	for (; n_bytes; p++, n_bytes--)
		s->hash = (s->hash ^ *p) * 0x100000001b3u;
}

void sim_at(struct sim *s, uint64_t at_us, sim_action_fn fn, uint64_t arg)
{
	uint32_t i = s->n_actions;

	if (i == FOIL_COUNT_OF(s->actions)) {
		sim_fail(s, "too many timed actions");
		return;
	}
	for (; i && s->actions[i - 1].at_us > at_us; i--)
		s->actions[i] = s->actions[i - 1];
	s->actions[i] = (struct sim_action){at_us, arg, fn};
	s->n_actions++;
}

static void run_actions(struct sim *s)
{
	while (s->n_actions && s->actions[0].at_us <= s->now_us) {
		struct sim_action a = s->actions[0];
		s->n_actions--;
		memmove(s->actions, s->actions + 1, s->n_actions * sizeof(a));
		a.fn(s, a.arg);
	}
}

static uint64_t next_us(const struct sim *s)
{
	uint64_t next = UINT64_MAX;

	if (s->n_heap)
		next = s->heap[0]->at_us;
	if (s->n_actions)
		next = FOIL_MIN(next, s->actions[0].at_us);
	for (int i = 0; i < 2; i++)
		if (s->h[i].up)
			next = FOIL_MIN(next, sim_host_next_us(&s->h[i]));
	return next;
}

static void deliver(struct sim *s)
{
	struct sim_frame *frames[2][TURN_FRAMES_MAX];
	uint32_t n[2] = {0, 0};

	while (s->n_heap && s->heap[0]->at_us <= s->now_us && n[0] < TURN_FRAMES_MAX && n[1] < TURN_FRAMES_MAX) {
		struct sim_frame *f = sim_frame_pop(s);
		sim_wire_arrived(s, f->to, f->data, f->n_bytes);
		if (s->h[f->to].up) {
			frames[f->to][n[f->to]++] = f;
			continue;
		}
		if (s->scenario->raw_input && f->to == 1)
			s->scenario->raw_input(s, f->data, f->n_bytes);
		sim_frame_free(s, f);
	}
	for (uint8_t i = 0; i < 2; i++) {
		if (s->h[i].up && (n[i] || sim_host_next_us(&s->h[i]) <= s->now_us + 1))
			sim_host_turn(&s->h[i], frames[i], n[i]);
		while (n[i])
			sim_frame_free(s, frames[i][--n[i]]);
	}
}

static void check_quiet(struct sim *s)
{
	for (int i = 0; i < 2; i++) {
		struct sim_host *h = &s->h[i];
		struct tcp_stats t;
		if (!h->up)
			continue;
		sim_host_feed(h);
		tcp_stats_get(&h->w, &t);
		if (s->held_expected)
			continue;
		if (t.n_conns || t.n_half_open || t.n_time_wait)
			sim_fail(s, "host %d at rest has %u connections, %u half-open, %u in TIME-WAIT", i, t.n_conns, t.n_half_open, t.n_time_wait);
		uint32_t n_mbuf = rte_mempool_avail_count(h->pools.mbuf);
		if (n_mbuf != h->n_mbuf)
			sim_fail(s, "host %d at rest holds %u mbufs", i, h->n_mbuf - n_mbuf);
	}
}

static void reset(struct sim *s, const struct sim_scenario *scenario, uint64_t seed, FILE *pcap)
{
	uint64_t mixed = seed;

	for (const char *c = scenario->name; *c; c++)
		mixed = (mixed ^ (uint8_t)*c) * 0x100000001b3u;
	foil_prng_seed(&s->prng, mixed);
	s->scenario = scenario;
	s->seed = seed;
	s->pcap = pcap;
	s->now_us = SIM_START_US;
	s->end_us = 900000000;
	s->order = 0;
	s->hash = 0xcbf29ce484222325u;
	s->failed = s->rst_expected = s->refuse_expected = s->held_expected = false;
	s->why[0] = 0;
	s->n_flows = s->n_actions = 0;
	s->v6 = foil_prng_below(&s->prng, 3) == 0;
	s->mtu = 1500;
	memset(s->raw_state, 0, sizeof(s->raw_state));
	for (uint8_t i = 0; i < 2; i++) {
		s->l[i] = (struct sim_link){.sim = s, .to = !i, .p = {.delay_us = 1000}};
		s->h[i].n_crashes = 0;
		s->h[i].wants_turns = s->h[i].moves = false;
		s->h[i].fault_ppm = s->h[i].neighbours_max = 0;
		s->h[i].tcp = (struct tcp_params){.conns_max = 512, .time_wait_max = 512, .syn_backlog_max = 64, .msl_us = 30000000,
					    .rx_window_bytes = 256u << 10, .rx_window_bytes_max = 4u << 20};
	}
}

static void report(const struct sim_host *h, const struct foil_room_desc *d)
{
	fprintf(stderr, "# host %u:", h->index);
	for (uint16_t i = 0; i < d->n_counters; i++)
		if (h->w.ctr[d->room][i])
			fprintf(stderr, " %s %llu", d->counters[i].name, (unsigned long long)h->w.ctr[d->room][i]);
	for (uint16_t i = 0; i < d->n_reasons; i++)
		if (h->w.why[d->room][i])
			fprintf(stderr, " %s %llu", d->reasons[i].name, (unsigned long long)h->w.why[d->room][i]);
	fprintf(stderr, "\n");
}

void sim_run(struct sim *s, const struct sim_scenario *scenario, uint64_t seed, FILE *pcap)
{
	reset(s, scenario, seed, pcap);
	scenario->setup(s);
	sim_host_up(&s->h[0]);
	if (!scenario->raw_input)
		sim_host_up(&s->h[1]);
	while (!s->failed) {
		uint64_t next = next_us(s);
		if (next == UINT64_MAX || next > s->end_us)
			break;
		s->now_us = FOIL_MAX(next, s->now_us);
		run_actions(s);
		deliver(s);
	}
	if (!s->failed)
		(scenario->verdict ? scenario->verdict : sim_verdict_all_done)(s);
	if (!s->failed)
		check_quiet(s);
	for (uint8_t i = 0; i < 2; i++) {
		if (s->verbose && s->h[i].up) {
			report(&s->h[i], &tcp_room_desc);
			report(&s->h[i], &net_room_desc);
		}
		sim_host_down(&s->h[i]);
	}
	sim_frames_clear(s);
}
