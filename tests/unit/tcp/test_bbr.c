/* BBR and its pacing (cc_bbr.c, rate.c, pace.c) against a path that is a few lines of arithmetic: a rate, a delay, and every so many segments
 * one that is lost. Expected values are the path's own. */
#include "tests/unit/tcp/rig.h"

#define US (T_ISN + 1)
#define PEER (T_PEER_ISN + 1)
#define SEG 1448u
#define RATE_BPS 2000000u
#define DELAY_US 10000u /* each way */
#define BDP (RATE_BPS / 1000 * 2 * DELAY_US / 1000)
#define UNDER_WAY_MAX 4096u
#define SEGS_MAX 65536u
#define BLOCKS 3u

struct path {
	struct t_tcp *t;
	struct tcp_conn *c;
	uint64_t free_at_us;
	uint32_t loss_every, loss_until; /* of the first loss_until segments; 0: of all */
	uint32_t n_seen, n_delivered;    /* n_delivered: distinct segments */
	uint32_t turn_us;                /* the worker runs so often */
	uint32_t cwnd_least;
	struct {
		uint64_t at_us;
		uint32_t index, ts;
	} under_way[UNDER_WAY_MAX];
	uint32_t first, n; /* of under_way, a ring */
	bool has[SEGS_MAX];
	uint32_t next;     /* the receiver's left edge, in segments */
	uint32_t ts_recent;
};

static struct path *path_new(uint32_t loss_every)
{
	struct path *p = calloc(1, sizeof(*p));
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .has_ts = true, .ts_val = 7, .sack_permitted = true, .has_wscale = true, .wscale = 8};

	assert_non_null(p);
	p->t = t_tcp_fixed(.congestion = "bbr");
	p->c = t_accept_with(p->t, &opt, 65535);
	p->c->has_rtt = false; /* the rig's handshake took no time; this path's would have */
	p->c->min_rtt_us = p->c->srtt_us = 0;
	tcp_rtt_sample(p->c, 2 * DELAY_US);
	p->c->cc->init(p->t->w, p->c);
	p->loss_every = loss_every;
	p->turn_us = 500;
	return p;
}

static void path_free(struct path *p)
{
	t_forget(p->t);
	t_tcp_free(p->t);
	free(p);
}

static void enter(struct path *p, const struct t_seg *g)
{
	uint64_t now_us = p->t->w->now_us;

	if (!g->n_bytes)
		return;
	p->n_seen++;
	p->free_at_us = FOIL_MAX(p->free_at_us, now_us) + (uint64_t)g->n_bytes * 1000000 / RATE_BPS;
	if (p->loss_every && p->n_seen % p->loss_every == 0 && (!p->loss_until || p->n_seen <= p->loss_until))
		return;
	assert_true(p->n < UNDER_WAY_MAX);
	uint32_t at = (p->first + p->n++) % UNDER_WAY_MAX;
	p->under_way[at].at_us = p->free_at_us + 2 * DELAY_US; /* when its ACK is here again */
	p->under_way[at].index = (g->seq - US) / SEG;
	p->under_way[at].ts = g->opt.ts_val;
	assert_true(p->under_way[at].index < SEGS_MAX);
}

/* The run of segments around index, and the next runs above the left edge. */
static uint8_t blocks_of(const struct path *p, uint32_t index, struct tcp_sack_block *out)
{
	uint8_t n = 0;
	uint32_t from = index, to = index;

	if (index < p->next)
		return 0;
	while (from > p->next && p->has[from - 1])
		from--;
	while (p->has[to])
		to++;
	out[n++] = (struct tcp_sack_block){US + from * SEG, US + to * SEG};
	for (uint32_t i = from; i > p->next && n < BLOCKS; i--) {
		if (!p->has[i - 1])
			continue;
		uint32_t end = i;
		while (i > p->next && p->has[i - 1])
			i--;
		out[n++] = (struct tcp_sack_block){US + i * SEG, US + end * SEG};
	}
	return n;
}

static void deliver(struct path *p, uint32_t index, uint32_t ts)
{
	struct t_seg g = {.flags = T_ACK, .seq = PEER, .opt = {.has_ts = true, .ts_val = 9}};

	if (index == p->next)
		p->ts_recent = ts; /* RFC 7323 4.3 */
	p->n_delivered += index >= p->next && !p->has[index];
	p->has[index] = true;
	while (p->has[p->next])
		p->next++;
	g.ack = US + p->next * SEG;
	g.opt.ts_ecr = p->ts_recent;
	g.opt.n_sack = blocks_of(p, index, g.opt.sack);
	t_put(p->t, &g);
}

static void step(struct path *p)
{
	struct t_tcp *t = p->t;

	t_clock(t->w, p->turn_us);
	while (p->n && p->under_way[p->first].at_us <= t->w->now_us) {
		deliver(p, p->under_way[p->first].index, p->under_way[p->first].ts);
		p->first = (p->first + 1) % UNDER_WAY_MAX;
		p->n--;
	}
	t_turn(t);
	for (uint32_t i = 0; i < t->n_out; i++)
		enter(p, &t->out[i]);
	t_forget(t);
	p->cwnd_least = FOIL_MIN(p->cwnd_least, p->c->cwnd);
}

/* Runs for so long; how many bytes arrived in that time, in percent of what the path could have carried. */
static uint32_t run(struct path *p, uint32_t ms)
{
	uint32_t before = p->n_delivered;
	uint64_t end_us = p->t->w->now_us + ms * 1000ull;

	p->cwnd_least = UINT32_MAX;
	while (p->t->w->now_us < end_us) {
		if (tcp_unsent_bytes(p->c) < 40 * SEG)
			t_write_n(p->t, 40 * SEG);
		step(p);
	}
	return (uint32_t)((uint64_t)(p->n_delivered - before) * SEG * 100 * 1000 / RATE_BPS / ms);
}

static void test_bbr_finds_the_rate_of_the_path_and_keeps_its_queue_short(void **state)
{
	struct path *p = path_new(0);

	(void)run(p, 500); /* startup and drain */
	assert_in_range(run(p, 1000), 95, 101);
	assert_in_range(p->c->pace_Bps, RATE_BPS * 7 / 10, RATE_BPS * 13 / 10); /* gains of a quarter around it */
	assert_in_range(p->c->cwnd, BDP, 3 * BDP);
	assert_in_range(tcp_in_flight(p->c), BDP / 2, 2 * BDP);
	path_free(p);
}

static void test_bbr_goes_on_at_the_paths_rate_when_one_in_thirty_is_lost(void **state)
{
	struct path *p = path_new(30);

	(void)run(p, 800);
	assert_in_range(run(p, 2000), 88, 101); /* each thirtieth goes twice */
	assert_int_equal(t_counter(p->t->w, TCP, RTOS), 0);
	path_free(p);
}

/* Losses while the window is small must not be taken for a path that is full. */
static void test_bbr_starts_up_through_early_losses(void **state)
{
	struct path *p = path_new(7);

	p->loss_until = 100;
	(void)run(p, 1200);
	assert_in_range(run(p, 1000), 90, 101);
	path_free(p);
}

/* Every ten seconds the shortest round trip is looked for again, with four segments in flight, for a fifth of a second. */
static void test_bbr_probes_the_round_trip_with_four_segments(void **state)
{
	struct path *p = path_new(0);

	(void)run(p, 9500);
	assert_true(p->cwnd_least > 4 * p->c->mss_bytes);
	(void)run(p, 1500);
	assert_int_equal(p->cwnd_least, 4 * p->c->mss_bytes);
	assert_in_range(run(p, 1000), 95, 101);
	path_free(p);
}

/* A worker that comes to its turn every 5 ms sends 5 ms' worth then; else the path would seem to have a fifth of its rate, for good. */
static void test_pacing_makes_up_for_turns_that_come_late(void **state)
{
	struct path *p = path_new(0);

	p->turn_us = 5000;
	(void)run(p, 1000);
	assert_in_range(run(p, 1000), 90, 101);
	path_free(p);
}

/* ... but an application that pauses saves nothing up: no burst beyond a millisecond's worth. */
static void test_pacing_saves_nothing_up_while_nothing_waits(void **state)
{
	struct path *p = path_new(0);

	(void)run(p, 1000);
	struct t_tcp *t = p->t;
	while (p->c->snd_una != p->c->snd_nxt || tcp_unsent_bytes(p->c)) /* until all that was written is acknowledged */
		step(p);
	t_clock(t->w, 50000);
	t_write_n(t, 40 * SEG);
	assert_in_range(t->n_out, 1, 2 + RATE_BPS / 1000 * 2 / SEG);
	path_free(p);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bbr_finds_the_rate_of_the_path_and_keeps_its_queue_short),
		cmocka_unit_test(test_bbr_goes_on_at_the_paths_rate_when_one_in_thirty_is_lost),
		cmocka_unit_test(test_bbr_starts_up_through_early_losses),
		cmocka_unit_test(test_bbr_probes_the_round_trip_with_four_segments),
		cmocka_unit_test(test_pacing_makes_up_for_turns_that_come_late),
		cmocka_unit_test(test_pacing_saves_nothing_up_while_nothing_waits),
	};
	return cmocka_run_group_tests_name("tcp bbr", tests, NULL, NULL);
}
