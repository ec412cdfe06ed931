/* Scenarios for the corners of the stack: what middleboxes take away, pools that are empty now and then, tables that are full, addresses
 * used again and again, peers that are not there, and two flows that share a path. */
#include "tests/sim/sim.h"

#define MBPS 1000000ull

static struct sim_link_params path(struct sim *s)
{
	struct sim_link_params p = {.rate_bps = sim_pick(s, 5, 200) * MBPS, .delay_us = sim_pick(s, 50, 40000)};
	uint64_t bdp_bytes = p.rate_bps * 2 * p.delay_us / 8000000;

	p.queue_bytes = (uint32_t)FOIL_MAX(bdp_bytes * sim_pick(s, 50, 200) / 100, 60000u);
	return p;
}

static void both_links(struct sim *s, const struct sim_link_params *p)
{
	s->l[0].p = s->l[1].p = *p;
}

static void some_congestion(struct sim *s)
{
	static const char *const algorithms[] = {"newreno", "cubic", "bbr"};

	for (int i = 0; i < 2; i++)
		s->h[i].tcp.congestion = algorithms[sim_pick(s, 0, 2)];
}

static struct sim_flow *down(struct sim *s, uint64_t at_us, uint32_t n_bytes_max)
{
	struct sim_flow *f = sim_flow_new(s, (uint8_t)sim_pick(s, 0, 1), at_us);

	f->e[0].to_send = sim_pick(s, 0, 3000);
	f->e[1].to_send = sim_pick(s, n_bytes_max / 10, n_bytes_max);
	f->e[0].shut_after_eof = sim_chance(s, 500000);
	return f;
}

/* SACK, timestamps, window scale: each there or not, as with old peers and strict firewalls; and a path that loses. */
static void setup_middlebox(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.strips = (sim_chance(s, 700000) ? 1u << 4 : 0) | (sim_chance(s, 500000) ? 1u << 8 : 0) | (sim_chance(s, 300000) ? 1u << 3 : 0);
	p.loss_ppm = sim_chance(s, 700000) ? sim_pick(s, 500, 30000) : 0;
	p.reorder_ppm = sim_chance(s, 300000) ? sim_pick(s, 1000, 50000) : 0;
	p.reorder_us = sim_pick(s, 50, 5000);
	p.eats_ecn_syns = sim_chance(s, 300000);
	s->h[0].tcp.ecn_request = s->h[1].tcp.ecn_request = p.eats_ecn_syns;
	both_links(s, &p);
	some_congestion(s);
	down(s, SIM_START_US, 400000);
}

/* Each pool of the stack seems empty with some chance at each call: what was to be done is done later, or refused, and nothing breaks. */
static void setup_faults(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.loss_ppm = sim_pick(s, 0, 20000);
	p.reorder_ppm = sim_pick(s, 0, 20000);
	p.reorder_us = sim_pick(s, 50, 5000);
	both_links(s, &p);
	some_congestion(s);
	for (int i = 0; i < 2; i++) {
		s->h[i].fault_ppm = sim_pick(s, 1000, 100000);
		s->h[i].wants_turns = true;
		s->h[i].tcp.mss_max = sim_chance(s, 300000) ? (uint16_t)sim_pick(s, 200, 1400) : 0;
	}
	s->refuse_expected = true;
	s->end_us = 180000000;
	for (uint32_t n = sim_pick(s, 1, 5); n; n--)
		down(s, SIM_START_US + sim_pick(s, 0, 300000), 200000);
}

/* More connections than there are blocks, and more that end than may wait: newcomers are refused until there is room, those who are there
 * notice nothing. One holds its block for longer than a client waits. */
static void setup_crowd(struct sim *s)
{
	struct sim_link_params p = path(s);
	uint8_t server = (uint8_t)sim_pick(s, 0, 1);

	both_links(s, &p);
	s->refuse_expected = true;
	s->h[server].tcp.conns_max = sim_pick(s, 3, 12);
	s->h[0].tcp.time_wait_max = s->h[1].tcp.time_wait_max = sim_pick(s, 1, 8);
	if (sim_chance(s, 500000)) /* nobody leaves before the clients have given up */
		for (uint32_t n = s->h[server].tcp.conns_max; n; n--) {
			struct sim_flow *f = sim_flow_new(s, !server, SIM_START_US);
			f->e[0].to_send = 100;
			f->e[0].pause_us = 140000000;
			f->e[1].to_send = 300000;
		}
	for (uint32_t n = sim_pick(s, 15, 40); n; n--) {
		struct sim_flow *f = down(s, SIM_START_US + 500000 + sim_pick(s, 0, 3000000), 30000);
		f->may_fail = true;
	}
}

/* The same ends again and again: whoever waits gives way to the new connection, which gets no byte of the old. */
static void setup_again(struct sim *s)
{
	struct sim_link_params p = path(s);
	uint64_t at_us = SIM_START_US;
	uint8_t opener = (uint8_t)sim_pick(s, 0, 1);
	bool server_first = sim_chance(s, 500000);

	p.strips = sim_chance(s, 300000) ? 1u << 8 : 0;
	p.dup_ppm = sim_chance(s, 500000) ? 100000 : 0;
	both_links(s, &p);
	s->refuse_expected = s->rst_expected = true;
	for (uint32_t n = sim_pick(s, 3, 10); n; n--) {
		struct sim_flow *f = sim_flow_new(s, opener, at_us);
		f->local_port = 33333;
		f->may_fail = true;
		f->e[0].to_send = sim_pick(s, 1, 3000);
		f->e[1].to_send = sim_pick(s, 1, 3000);
		f->e[server_first ? 0 : 1].shut_after_eof = true;
		at_us += sim_pick(s, 700000, 4000000);
	}
}

static void verdict_again(struct sim *s)
{
	uint32_t n = 0;

	sim_verdict_all_done(s);
	for (uint32_t i = 0; i < s->n_flows; i++)
		n += s->flows[i].e[0].why == STREAM_END_FIN && s->flows[i].e[1].n_got == s->flows[i].e[0].to_send;
	if (!s->failed && n < 1)
		sim_fail(s, "none of %u connections went through", s->n_flows);
}

static void deafen(struct sim *s, uint64_t arg)
{
	s->l[0].p.loss_ppm = s->l[1].p.loss_ppm = 999999; /* neighbours still answer */
}

/* Ports where nobody listens, and a host that stops answering: each open ends, and says why. */
static void setup_nobody(struct sim *s)
{
	struct sim_link_params p = path(s);

	both_links(s, &p);
	s->rst_expected = true;
	for (uint32_t n = sim_pick(s, 2, 8); n; n--) {
		struct sim_flow *f = down(s, SIM_START_US + sim_pick(s, 0, 2000000), 1000);
		f->remote_port = sim_chance(s, 700000) ? 81 : 0;
		f->may_fail = true;
	}
	sim_at(s, SIM_START_US + 1000000, deafen, 0);
}

static void verdict_nobody(struct sim *s)
{
	sim_verdict_all_done(s);
	for (uint32_t i = 0; i < s->n_flows && !s->failed; i++) {
		const struct sim_end *e = &s->flows[i].e[0];
		if (s->flows[i].remote_port && e->why != STREAM_END_REFUSED && e->why != STREAM_END_CONNECT_TIMEOUT)
			sim_fail(s, "flow %u to a port without a listener ended with %d", i, (int)e->why);
	}
}

/* Users who leave in the middle: what still comes is discarded, for so long and no longer. */
static void setup_linger(struct sim *s)
{
	struct sim_link_params p = path(s);

	p.loss_ppm = sim_chance(s, 500000) ? 0 : sim_pick(s, 0, 20000);
	both_links(s, &p);
	s->rst_expected = true;
	for (uint32_t n = sim_pick(s, 1, 4); n; n--) {
		struct sim_flow *f = down(s, SIM_START_US + sim_pick(s, 0, 200000), sim_chance(s, 500000) ? 100000 : 4000000);
		f->may_fail = true;
		f->e[0].release_at = sim_pick(s, 1, 50000);
		f->e[0].shut_after_eof = sim_chance(s, 500000);
	}
}

/* A sender whose last byte fills the window of a reader who sleeps: only the FIN is left, on a path that loses it. */
static void setup_full_close(struct sim *s)
{
	struct sim_link_params p = {.delay_us = sim_pick(s, 50, 20000), .loss_ppm = sim_pick(s, 50000, 300000)};

	both_links(s, &p);
	s->h[0].tcp.rx_window_bytes = s->h[0].tcp.rx_window_bytes_max = 8u << 10;
	struct sim_flow *f = sim_flow_new(s, 0, SIM_START_US);
	f->e[0].to_send = 1;
	f->e[0].pause_us = sim_pick(s, 5000000, 40000000);
	f->e[1].to_send = (8u << 10) - sim_pick(s, 0, 2);
	f->e[1].piece_bytes = 9000;
	f->e[1].shut_us = 2000000; /* all else is acknowledged by then */
	f->may_fail = true;
	s->h[0].tcp.keepalive_idle_us = 20000000; /* who only reads would else wait for ever when the sender's last word, a RST, is lost */
}

/* Many who fill the windows of users that do not read: together more than there are mbufs. Who reads what he gets goes on all the while. */
static void setup_hoard(struct sim *s)
{
	struct sim_link_params p = {.delay_us = sim_pick(s, 1000, 5000)};
	bool sends = sim_chance(s, 500000); /* the host that is hurt sends to who does not read, or receives for users that do not */

	both_links(s, &p);
	for (int i = 0; i < 2; i++)
		s->h[i].tcp.rx_window_bytes = s->h[i].tcp.rx_window_bytes_max = sends ? 256u << 10 : 2u << 20;
	struct sim_flow *f = sim_flow_new(s, 1, SIM_START_US);
	f->rr_request = sim_pick(s, 100, 1400);
	f->rr_response = sim_pick(s, 100, 1400);
	f->e[0].to_send = 1000ull * f->rr_request;
	f->e[1].to_send = 1000ull * f->rr_response;
	for (uint32_t n = sim_pick(s, 12, 20); n; n--) {
		f = sim_flow_new(s, 1, SIM_START_US + sim_pick(s, 0, 1000000));
		f->may_fail = true;
		f->e[!sends].to_send = 3000000;
		f->e[!sends].piece_bytes = sends ? 301 : 1401;
		f->e[sends].pause_us = 40000000;
	}
	s->rst_expected = true;
	s->h[0].tcp.keepalive_idle_us = s->h[1].tcp.keepalive_idle_us = 20000000;
}

static void verdict_hoard(struct sim *s)
{
	sim_verdict_all_done(s);
	if (!s->failed && s->flows[0].done_us > SIM_START_US + 35000000)
		sim_fail(s, "who read what he got was held up until %llu ms", (unsigned long long)s->flows[0].done_us / 1000);
}

/* Two flows of one kind, the second a little later, on one path: each gets its share. */
static void sample(struct sim *s, uint64_t which)
{
	for (uint32_t i = 0; i < 2; i++)
		s->raw_state[2 * which + i] = s->flows[i].e[0].n_got;
}

static void setup_fairness(struct sim *s)
{
	struct sim_link_params p = {.rate_bps = sim_pick(s, 5, 40) * MBPS, .delay_us = sim_pick(s, 2000, 25000)};
	const char *congestion = sim_chance(s, 500000) ? "cubic" : "newreno";

	p.queue_bytes = (uint32_t)FOIL_MAX(p.rate_bps * 2 * p.delay_us / 8000000 * sim_pick(s, 100, 200) / 100, 40000u);
	both_links(s, &p);
	for (int i = 0; i < 2; i++)
		s->h[i].tcp.congestion = congestion;
	for (uint32_t i = 0; i < 2; i++) {
		struct sim_flow *f = sim_flow_new(s, 0, SIM_START_US + i * sim_pick(s, 0, 1000000));
		f->e[0].to_send = 10;
		f->e[1].to_send = p.rate_bps / 8 * 60;
		f->e[1].piece_bytes = 9000;
		f->may_fail = true;
	}
	s->rst_expected = true;
	s->end_us = SIM_START_US + 41000000;
	s->held_expected = true;
	sim_at(s, SIM_START_US + 10000000, sample, 0);
	sim_at(s, SIM_START_US + 40000000, sample, 1);
}

/* Jain's index over thirty seconds; 0.5 is one that has all, 1 is equal. And together they use the path. */
static void verdict_fairness(struct sim *s)
{
	uint64_t a = (s->raw_state[2] - s->raw_state[0]) / 1000, b = (s->raw_state[3] - s->raw_state[1]) / 1000;
	uint64_t jain_pm = (a + b) * (a + b) * 1000 / (2 * (a * a + b * b) + 1), path_k = s->l[0].p.rate_bps / 8 * 30 / 1000;

	if (jain_pm < 750) /* one seed of eight hundred comes below 0.85: half a minute is short for two flows to find each other */
		sim_fail(s, "two flows got %llu and %llu kB: Jain's index is 0.%03llu", (unsigned long long)a, (unsigned long long)b,
			 (unsigned long long)jain_pm);
	if ((a + b) * 10 < path_k * 8)
		sim_fail(s, "two flows got %llu kB of %llu that the path carries", (unsigned long long)(a + b), (unsigned long long)path_k);
}

const struct sim_scenario sim_corners[] = {
	{"middlebox", "SACK, timestamps, window scale or ECN taken away under way", setup_middlebox, NULL, NULL},
	{"faults", "pools that seem empty now and then (builds with checks)", setup_faults, NULL, NULL},
	{"crowd", "more connections than blocks, more in TIME-WAIT than places", setup_crowd, NULL, NULL},
	{"again", "the same ports again and again", setup_again, verdict_again, NULL},
	{"nobody", "ports without a listener, and a host that falls silent", setup_nobody, verdict_nobody, NULL},
	{"linger", "users who leave in the middle", setup_linger, NULL, NULL},
	{"hoard", "users who do not read hold more than there is", setup_hoard, verdict_hoard, NULL},
	{"full-close", "a FIN behind a window that is full, and lost", setup_full_close, NULL, NULL},
	{"fairness", "two flows share a path: Jain's index and use above a floor", setup_fairness, verdict_fairness, NULL},
};
const uint32_t sim_n_corners = FOIL_COUNT_OF(sim_corners);
