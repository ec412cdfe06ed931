/* The scenarios between two of our hosts. Each takes its numbers from the seed within ranges at which TCP is meant to work, and says
 * what must hold at the end. */
#include "tests/sim/sim.h"

#define MBPS 1000000ull

static void both_links(struct sim *s, const struct sim_link_params *p)
{
	s->l[0].p = s->l[1].p = *p;
}

/* A path between a rack and a continent: 5 to 500 Mbit/s, up to 60 ms one way, a queue of half to two times what is in flight. */
static struct sim_link_params path(struct sim *s)
{
	struct sim_link_params p = {0};

	p.rate_bps = sim_pick(s, 5, 500) * MBPS;
	p.delay_us = sim_chance(s, 500000) ? sim_pick(s, 20, 1000) : sim_pick(s, 1000, 60000);
	uint64_t bdp_bytes = p.rate_bps * 2 * p.delay_us / 8000000;
	p.queue_bytes = (uint32_t)(bdp_bytes * sim_pick(s, 50, 200) / 100);
	p.queue_bytes = FOIL_MAX(p.queue_bytes, 60000u);
	return p;
}

static void some_params(struct sim *s)
{
	for (int i = 0; i < 2; i++) {
		struct tcp_params *p = &s->h[i].tcp;
		static const char *const algorithms[] = {"newreno", "cubic", "cubic", "bbr"};
		p->congestion = algorithms[sim_pick(s, 0, 3)];
		p->rx_window_bytes_max = sim_chance(s, 200000) ? sim_pick(s, 4, 60) << 10 : 4u << 20;
		uint32_t window_bytes = sim_pick(s, 8, 256) << 10;
		p->rx_window_bytes = FOIL_MIN(p->rx_window_bytes_max, window_bytes);
		p->mss_max = sim_chance(s, 200000) ? (uint16_t)sim_pick(s, 200, 1400) : 0;
	}
}

static struct sim_flow *bulk(struct sim *s, uint8_t opener, uint64_t at_us, uint32_t n_bytes_max)
{
	struct sim_flow *f = sim_flow_new(s, opener, at_us);
	uint32_t which = sim_pick(s, 0, 2); /* up, down, both */

	f->e[0].to_send = which != 1 ? sim_pick(s, n_bytes_max / 10, n_bytes_max) : sim_pick(s, 0, 300);
	f->e[1].to_send = which != 0 ? sim_pick(s, n_bytes_max / 10, n_bytes_max) : sim_pick(s, 0, 300);
	uint32_t order = sim_pick(s, 0, 3); /* who ends first: both when they are done, the opener, the other, the other by release */
	f->e[0].shut_after_eof = order >= 2;
	f->e[1].shut_after_eof = order == 1;
	f->e[0].release_at_end = order == 3;
	return f;
}

static void setup_bulk(struct sim *s)
{
	struct sim_link_params p = path(s);

	both_links(s, &p);
	some_params(s);
	s->h[0].tcp.mss_max = s->h[1].tcp.mss_max = 0;
	bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US, 3000000);
}

/* On a path without other loss than its own queue's the link is used well: half of its rate, or of what the receiver's window allows,
 * once a slow start's worth of round trips is granted. */
static void verdict_bulk(struct sim *s)
{
	const struct sim_flow *f = &s->flows[0];
	const struct sim_link_params *p = &s->l[0].p;

	sim_verdict_all_done(s);
	if (s->failed)
		return;
	uint64_t n_bytes = FOIL_MAX(f->e[0].to_send, f->e[1].to_send), rtt_us = 2 * p->delay_us + 500;
	uint64_t window = FOIL_MIN(s->h[0].tcp.rx_window_bytes_max, s->h[1].tcp.rx_window_bytes_max);
	uint64_t rate_Bps = FOIL_MIN(p->rate_bps / 8, window * 1000000 / rtt_us);
	uint64_t both = f->e[0].to_send > 1000 && f->e[1].to_send > 1000;
	uint64_t fair_us = n_bytes * 1000000 / rate_Bps * (both ? 3 : 2) + 30 * rtt_us + 600000;
	uint64_t took_us = f->done_us - f->opened_us;
	if (took_us > fair_us)
		sim_fail(s, "%llu bytes took %llu ms on a path of %llu kbit/s and %llu ms: at most %llu were fair", (unsigned long long)n_bytes,
			 (unsigned long long)took_us / 1000, (unsigned long long)p->rate_bps / 1000, (unsigned long long)rtt_us / 1000,
			 (unsigned long long)fair_us / 1000);
}

/* Losses that are no congestion: BBR goes on at the path's rate, where a loss-based algorithm would creep. */
static void setup_bbr(struct sim *s)
{
	struct sim_link_params p = {.rate_bps = sim_pick(s, 20, 200) * MBPS, .delay_us = sim_pick(s, 5000, 30000), .loss_ppm = sim_pick(s, 2000, 15000)};

	p.queue_bytes = (uint32_t)(p.rate_bps * p.delay_us / 8000000 * 3);
	both_links(s, &p);
	for (int i = 0; i < 2; i++)
		s->h[i].tcp.congestion = "bbr";
	struct sim_flow *f = sim_flow_new(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US);
	f->e[0].to_send = 10;
	f->e[1].to_send = p.rate_bps / 8 * 3; /* three seconds' worth */
	f->e[1].piece_bytes = 9000;
}

static void verdict_bbr(struct sim *s)
{
	const struct sim_flow *f = &s->flows[0];
	uint64_t took_us = f->done_us - f->opened_us;

	sim_verdict_all_done(s);
	if (!s->failed && took_us > 6500000)
		sim_fail(s, "three seconds' worth took %llu ms at %u ppm of loss", (unsigned long long)took_us / 1000, s->l[0].p.loss_ppm);
}

static void setup_lossy(struct sim *s)
{
	struct sim_link_params p = path(s);

	switch (sim_pick(s, 0, 3)) {
	case 0:
		p.loss_ppm = sim_pick(s, 1000, 50000);
		break;
	case 1:
		p.burst_ppm = sim_pick(s, 500, 5000);
		p.burst_len = sim_pick(s, 2, 30);
		break;
	case 2:
		p.loss_every = sim_pick(s, 7, 200);
		break;
	default:
		p.loss_ppm = sim_pick(s, 50000, 150000);
		break;
	}
	both_links(s, &p);
	some_params(s);
	for (uint32_t n = sim_pick(s, 1, 2); n; n--)
		bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US + sim_pick(s, 0, 100000), 400000);
}

static void setup_reorder(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.reorder_ppm = sim_pick(s, 5000, 300000);
	p.reorder_us = sim_pick(s, 50, 20000);
	p.jitter_us = sim_pick(s, 0, 3000);
	p.dup_ppm = sim_pick(s, 0, 100000);
	p.loss_ppm = sim_chance(s, 500000) ? sim_pick(s, 0, 20000) : 0;
	both_links(s, &p);
	some_params(s);
	bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US, 800000);
}

static void setup_corrupt(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.corrupt_ppm = sim_pick(s, 1000, 60000);
	p.dup_ppm = sim_pick(s, 0, 30000);
	both_links(s, &p);
	some_params(s);
	s->rst_expected = true; /* a bit of a port number that the checksum does not hide from the other checks */
	bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US, 400000);
}

static void setup_ack_loss(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.ack_loss_ppm = sim_pick(s, 50000, 400000);
	both_links(s, &p);
	some_params(s);
	bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US, 600000);
}

static void setup_exchanges(struct sim *s)
{
	struct sim_link_params p = path(s);
	uint32_t n = sim_pick(s, 10, 80);

	p.loss_ppm = sim_pick(s, 0, 20000);
	both_links(s, &p);
	some_params(s);
	struct sim_flow *f = sim_flow_new(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US);
	f->rr_request = sim_pick(s, 1, 3000);
	f->rr_response = sim_pick(s, 1, 20000);
	f->e[0].to_send = (uint64_t)n * f->rr_request;
	f->e[1].to_send = (uint64_t)n * f->rr_response;
	f->e[1].shut_after_eof = sim_chance(s, 500000);
}

static void setup_short(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.loss_ppm = sim_chance(s, 700000) ? 0 : sim_pick(s, 0, 50000);
	both_links(s, &p);
	some_params(s);
	uint64_t at_us = SIM_START_US;
	for (uint32_t n = sim_pick(s, 20, 60); n; n--) {
		struct sim_flow *f = sim_flow_new(s, (uint8_t)sim_pick(s, 0, 1), at_us);
		f->e[0].to_send = sim_pick(s, 0, 2000);
		f->e[1].to_send = sim_chance(s, 200000) ? 0 : sim_pick(s, 0, 20000);
		f->e[0].shut_after_eof = sim_chance(s, 300000);
		f->e[1].shut_after_eof = !f->e[0].shut_after_eof && sim_chance(s, 500000);
		f->e[1].release_at_end = sim_chance(s, 300000);
		at_us += sim_pick(s, 0, 20000);
	}
}

/* Both ends open, or both close, at the same moment. */
static void setup_simultaneous(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.delay_us = FOIL_MAX(p.delay_us, 200u);
	p.loss_ppm = sim_chance(s, 500000) ? 0 : sim_pick(s, 0, 100000);
	both_links(s, &p);
	some_params(s);
	for (uint32_t n = sim_pick(s, 1, 5); n; n--) {
		struct sim_flow *f = sim_flow_new(s, 0, SIM_START_US + n * 1000);
		f->simultaneous = sim_chance(s, 700000);
		f->e[0].to_send = f->e[1].to_send = sim_pick(s, 0, 3000);
	}
	s->rst_expected = p.loss_ppm != 0; /* a SYN again towards a closed port */
}

static void setup_half_close(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.loss_ppm = sim_chance(s, 500000) ? 0 : sim_pick(s, 0, 50000);
	both_links(s, &p);
	some_params(s);
	struct sim_flow *f = sim_flow_new(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US);
	bool opener_first = sim_chance(s, 500000);
	f->e[!opener_first].to_send = sim_pick(s, 0, 5000);
	f->e[opener_first].to_send = sim_pick(s, 1000, 300000);
	f->e[opener_first].shut_after_eof = true;
}

/* A path that marks instead of dropping: both ask for it, windows shrink, and nothing is sent twice. */
static void setup_ecn(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.mark_ppm = sim_pick(s, 500, 50000);
	p.rate_bps = 0;
	both_links(s, &p);
	some_params(s);
	s->h[0].tcp.ecn_request = s->h[1].tcp.ecn_request = true;
	bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US, 2000000);
}

static void verdict_ecn(struct sim *s)
{
	uint64_t n_marks = 0, n_reductions = 0;

	sim_verdict_all_done(s);
	for (int i = 0; i < 2; i++) {
		const uint64_t *ctr = s->h[i].w.ctr[FOIL_ROOM_TCP];
		n_marks += ctr[TCP_CTR_ECN_MARKS_RX];
		n_reductions += ctr[TCP_CTR_ECN_REDUCTIONS];
		if (ctr[TCP_CTR_FAST_RETRANSMITS] || ctr[TCP_CTR_RTOS])
			sim_fail(s, "host %d saw losses on a path without any", i);
	}
	if (n_marks && !n_reductions)
		sim_fail(s, "%llu marks arrived and nobody slowed down", (unsigned long long)n_marks);
	if (n_reductions > n_marks)
		sim_fail(s, "%llu reductions for %llu marks", (unsigned long long)n_reductions, (unsigned long long)n_marks);
}

/* Readers that take little at a time, or nothing for a while: closed windows, probes, silly windows. */
static void setup_slow_reader(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.loss_ppm = sim_chance(s, 600000) ? 0 : sim_pick(s, 0, 50000);
	both_links(s, &p);
	some_params(s);
	struct sim_flow *f = bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US, 300000);
	for (int side = 0; side < 2; side++) {
		f->e[side].pause_us = sim_chance(s, 500000) ? sim_pick(s, 0, 20000000) : 0;
		f->e[side].read_us = sim_chance(s, 700000) ? sim_pick(s, 500, 50000) : 0;
		f->e[side].read_bytes = sim_pick(s, 300, 20000);
		f->e[side].piece_bytes = sim_chance(s, 300000) ? sim_pick(s, 1, 50) : f->e[side].piece_bytes;
		if (f->e[side].piece_bytes < 100)
			f->e[side].to_send = FOIL_MIN(f->e[side].to_send, 20000u);
	}
}

static void setup_flap(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.down_every_us = sim_pick(s, 1000000, 20000000);
	p.down_for_us = sim_pick(s, 10000, (uint32_t)(p.down_every_us / 5));
	both_links(s, &p);
	some_params(s);
	/* begins while the link is up: a neighbour that does not answer is an unreachable host */
	uint64_t at_us = (SIM_START_US / p.down_every_us + 1) * p.down_every_us + p.down_for_us + 1;
	bulk(s, (uint8_t)sim_pick(s, 0, 1), at_us, 600000);
}

static void shrink_mtu(struct sim *s, uint64_t mtu)
{
	s->l[0].p.mtu = s->l[1].p.mtu = (uint16_t)mtu;
}

/* The path's MTU falls under way; a router says so, or drops without a word. */
static void setup_mtu(struct sim *s)
{
	struct sim_link_params p = path(s);

	both_links(s, &p);
	some_params(s);
	if (s->v6)
		s->h[0].tcp.mss_max = s->h[1].tcp.mss_max = 0;
	s->l[0].p.is_blackhole = s->l[1].p.is_blackhole = sim_chance(s, 500000);
	bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US, 800000);
	sim_at(s, SIM_START_US + sim_pick(s, 0, 500000), shrink_mtu, sim_pick(s, s->v6 ? 1280 : 600, 1400));
}

static void crash(struct sim *s, uint64_t host)
{
	struct sim_host *h = &s->h[host];

	sim_flows_crashed(s, (uint8_t)host);
	h->n_crashes++;
	sim_host_down(h);
}

static void restart(struct sim *s, uint64_t host)
{
	sim_host_up(&s->h[host]);
}

/* A host loses its memory under way. The other side learns it, and new connections work. */
static void setup_crash(struct sim *s)
{
	struct sim_link_params p = path(s);
	uint8_t host = (uint8_t)sim_pick(s, 0, 1);

	both_links(s, &p);
	some_params(s);
	s->rst_expected = s->refuse_expected = true;
	for (uint32_t n = sim_pick(s, 1, 5); n; n--)
		bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US + sim_pick(s, 0, 500000), 3000000)->may_fail = true;
	s->h[0].tcp.keepalive_idle_us = s->h[1].tcp.keepalive_idle_us = 10000000; /* a side that only waits has no other way to learn */
	uint64_t at_us = SIM_START_US + sim_pick(s, 10000, 800000), back_us = at_us + sim_pick(s, 1000, 5000000);
	s->h[host].moves = sim_chance(s, 500000);
	sim_at(s, at_us, crash, host);
	sim_at(s, back_us, restart, host);
	for (uint32_t n = 3; n; n--)
		bulk(s, (uint8_t)sim_pick(s, 0, 1), back_us + 2000000 + sim_pick(s, 0, 500000), 50000);
}

/* The wire is cut in the middle: both sides give up in time, nothing is kept for ever. */
static void cut(struct sim *s, uint64_t arg)
{
	s->l[0].p.loss_ppm = s->l[1].p.loss_ppm = 1000000;
}

static void setup_cut(struct sim *s)
{
	struct sim_link_params p = path(s);

	both_links(s, &p);
	some_params(s);
	s->rst_expected = true;
	for (uint32_t n = sim_pick(s, 1, 4); n; n--)
		bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US + sim_pick(s, 0, 300000), 8000000)->may_fail = true;
	s->h[0].tcp.keepalive_idle_us = s->h[1].tcp.keepalive_idle_us = 60000000;
	s->end_us = 1200000000;
	sim_at(s, SIM_START_US + sim_pick(s, 10000, 600000), cut, 0);
}

/* Users that abort: the other side is reset or has got all. */
static void setup_abort(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.loss_ppm = sim_chance(s, 500000) ? 0 : sim_pick(s, 0, 30000);
	both_links(s, &p);
	some_params(s);
	s->rst_expected = true;
	for (uint32_t n = sim_pick(s, 1, 10); n; n--) {
		struct sim_flow *f = bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US + sim_pick(s, 0, 300000), 200000);
		f->may_fail = true;
		f->e[sim_pick(s, 0, 1)].abort_at = sim_pick(s, 1, 100000);
	}
	s->h[0].tcp.keepalive_idle_us = s->h[1].tcp.keepalive_idle_us = 10000000;
}

static void starve(struct sim *s, uint64_t host)
{
	sim_host_starve(&s->h[host & 1], (uint32_t)(host >> 1));
}

static void feed(struct sim *s, uint64_t host)
{
	sim_host_feed(&s->h[host]);
}

/* Mbufs run out now and then: what cannot be sent is sent later, what cannot be received comes again. */
static void setup_starve(struct sim *s)
{
	struct sim_link_params p = path(s);

	both_links(s, &p);
	some_params(s);
	s->refuse_expected = true;
	for (uint32_t n = sim_pick(s, 1, 4); n; n--)
		bulk(s, (uint8_t)sim_pick(s, 0, 1), SIM_START_US + sim_pick(s, 0, 100000), 300000);
	s->h[0].wants_turns = s->h[1].wants_turns = true;
	s->end_us = 120000000;
	for (uint32_t n = 5; n; n--) {
		uint8_t host = (uint8_t)sim_pick(s, 0, 1);
		uint64_t at_us = SIM_START_US + n * 1000000 - 950000 + sim_pick(s, 0, 300000);
		sim_at(s, at_us, starve, (uint64_t)sim_pick(s, 0, sim_chance(s, 400000) ? 2 : 60) << 1 | host);
		sim_at(s, at_us + sim_pick(s, 1000, 500000), feed, host);
	}
}

const struct sim_scenario sim_scenarios[] = {
	{"bulk", "one flow, a clean path with a queue; throughput above a floor", setup_bulk, verdict_bulk, NULL},
	{"lossy", "random, burst and periodic loss up to 15 %", setup_lossy, NULL, NULL},
	{"bbr", "BBR keeps the path's rate at random loss up to 1.5 %", setup_bbr, verdict_bbr, NULL},
	{"reorder", "heavy reordering, jitter and duplication", setup_reorder, NULL, NULL},
	{"corrupt", "bits turned on the way", setup_corrupt, NULL, NULL},
	{"ack-loss", "up to 40 % of the bare ACKs lost", setup_ack_loss, NULL, NULL},
	{"ecn", "a path that marks congestion and drops nothing", setup_ecn, verdict_ecn, NULL},
	{"exchanges", "request and response, many times", setup_exchanges, NULL, NULL},
	{"short", "many short connections", setup_short, NULL, NULL},
	{"simultaneous", "both ends open, and close, at the same moment", setup_simultaneous, NULL, NULL},
	{"half-close", "one direction ends long before the other", setup_half_close, NULL, NULL},
	{"slow-reader", "closed windows, probes, silly reads and writes", setup_slow_reader, NULL, NULL},
	{"flap", "the link goes down and comes back", setup_flap, NULL, NULL},
	{"mtu", "the path's MTU falls under way", setup_mtu, NULL, NULL},
	{"crash", "a host crashes and restarts", setup_crash, NULL, NULL},
	{"cut", "the wire is cut", setup_cut, NULL, NULL},
	{"abort", "users abort", setup_abort, NULL, NULL},
	{"starve", "mbufs run out now and then", setup_starve, NULL, NULL},
};
const uint32_t sim_n_scenarios = FOIL_COUNT_OF(sim_scenarios);
