/* seq.h, rtt.c, cc_newreno.c, cc_cubic.c: the arithmetic. Expected values are computed from the RFCs' formulas in the tests. */
#include <stdlib.h>

#include "dataplane/tcp/tcp_priv.h"
#include "tests/unit/support.h"

static void test_sequence_numbers_compare_across_the_wrap(void **state)
{
	assert_true(seq_lt(0xfffffff0u, 5));
	assert_true(seq_gt(5, 0xfffffff0u));
	assert_true(seq_leq(7, 7));
	assert_true(seq_geq(0, UINT32_MAX));
	assert_int_equal(seq_max(0xfffffff0u, 5), 5);
	assert_int_equal(seq_min(0xfffffff0u, 5), 0xfffffff0u);
}

static struct tcp_conn *conn(uint16_t mss)
{
	static struct tcp_conn c;

	memset(&c, 0, sizeof(c));
	c.mss_bytes = mss;
	c.rto_us = TCP_RTO_INITIAL_US;
	c.ssthresh = UINT32_MAX / 2;
	return &c;
}

static void test_the_first_sample_sets_srtt_and_half_of_it_as_variance(void **state)
{
	struct tcp_conn *c = conn(1000);

	tcp_rtt_sample(c, 300000); /* RFC 6298 2.2: SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 RTTVAR */
	assert_int_equal(c->srtt_us, 300000);
	assert_int_equal(c->rttvar_us, 150000);
	assert_int_equal(c->rto_us, 900000);
}

static void test_a_later_sample_moves_by_an_eighth_and_a_quarter(void **state)
{
	struct tcp_conn *c = conn(1000);

	tcp_rtt_sample(c, 400000);
	tcp_rtt_sample(c, 800000); /* RTTVAR = 3/4 200 + 1/4 400 = 250 ms; SRTT = 7/8 400 + 1/8 800 = 450 ms */
	assert_int_equal(c->rttvar_us, 250000);
	assert_int_equal(c->srtt_us, 450000);
	assert_int_equal(c->rto_us, 1450000);
}

static void test_the_timeout_stays_between_its_bounds(void **state)
{
	struct tcp_conn *c = conn(1000);

	tcp_rtt_sample(c, 10);
	assert_int_equal(c->rto_us, TCP_RTO_MIN_US);
	c = conn(1000);
	tcp_rtt_sample(c, 50000000);
	assert_int_equal(c->rto_us, TCP_RTO_MAX_US);
	assert_int_equal(tcp_rto_backed_off(c, 255), TCP_RTO_MAX_US);
}

static void test_the_timeout_doubles_with_each_expiry(void **state)
{
	struct tcp_conn *c = conn(1000);

	tcp_rtt_sample(c, 100000);
	for (uint8_t n = 0; n < 7; n++)
		assert_int_equal(tcp_rto_backed_off(c, n), FOIL_MIN(300000u << n, TCP_RTO_MAX_US));
}

static void test_newreno_doubles_a_window_in_slow_start_a_round_trip(void **state)
{
	struct foil_worker *w = t_worker();
	struct tcp_conn *c = conn(1000);
	const struct tcp_cc *cc = tcp_cc_find("newreno");

	cc->init(w, c);
	c->cwnd = 10000;
	for (int i = 0; i < 10; i++)
		cc->on_ack(w, c, 1000);
	assert_int_equal(c->cwnd, 20000);
	t_worker_free(w);
}

/* One round of HyStart++: n ACKs of a segment each, all with this round trip; the first of them begins it. */
static void slow_start_round(struct foil_worker *w, struct tcp_conn *c, uint32_t rtt_us, int n)
{
	c->snd_una = c->snd_nxt;
	c->snd_nxt += 1000 * (uint32_t)n;
	c->rack_rtt_us = rtt_us;
	for (int i = 0; i < n; i++)
		c->cc->on_ack(w, c, 1000);
}

static struct tcp_conn *conn_in_slow_start(struct foil_worker *w, const char *name)
{
	struct tcp_conn *c = conn(1000);

	c->cc = tcp_cc_find(name);
	c->has_sack = true;
	c->cc->init(w, c);
	c->cwnd = 10000;
	slow_start_round(w, c, 100000, 10);
	slow_start_round(w, c, 100000, 20);
	assert_int_equal(c->cwnd, 40000);
	return c;
}

static void test_round_trips_that_grow_end_the_first_slow_start(void **state)
{
	static const char *const names[] = {"cubic", "newreno"};

	for (size_t i = 0; i < FOIL_COUNT_OF(names); i++) {
		struct foil_worker *w = t_worker();
		struct tcp_conn *c = conn_in_slow_start(w, names[i]);
		slow_start_round(w, c, 112000, 40); /* RFC 9406 4.2: an eighth of 100 ms is not reached */
		assert_int_equal(c->cwnd, 80000);
		slow_start_round(w, c, 130000, 80); /* known after eight samples: 7 + 73 / 4 more segments */
		assert_int_equal(c->cwnd, 80000 + 7000 + 73 * 250);
		for (int k = 0; k < 4; k++) {
			uint32_t before = c->cwnd;
			slow_start_round(w, c, 130000, 40);
			assert_int_equal(c->cwnd, before + 10000);
			assert_int_equal(c->ssthresh, TCP_SSTHRESH_INITIAL);
		}
		uint32_t before = c->cwnd;
		slow_start_round(w, c, 130000, 40);
		assert_int_equal(c->ssthresh, before);
		t_worker_free(w);
	}
}

static void test_a_shorter_round_trip_takes_conservative_slow_start_back(void **state)
{
	struct foil_worker *w = t_worker();
	struct tcp_conn *c = conn_in_slow_start(w, "cubic");

	slow_start_round(w, c, 150000, 40); /* something else was in the queue */
	uint32_t before = c->cwnd;
	slow_start_round(w, c, 101000, 40);
	assert_int_equal(c->cwnd, before + 7 * 250 + 33000);
	slow_start_round(w, c, 101000, 40);
	assert_int_equal(c->ssthresh, TCP_SSTHRESH_INITIAL);
	t_worker_free(w);
}

static void test_without_sack_the_first_round_trip_that_grows_ends_it(void **state)
{
	struct foil_worker *w = t_worker();
	struct tcp_conn *c = conn_in_slow_start(w, "cubic");

	c->has_sack = false;
	slow_start_round(w, c, 130000, 8);
	assert_int_equal(c->ssthresh, 40000 + 7000);
	t_worker_free(w);
}

static void test_newreno_adds_a_segment_a_round_trip_above_ssthresh(void **state)
{
	struct foil_worker *w = t_worker();
	struct tcp_conn *c = conn(1000);
	const struct tcp_cc *cc = tcp_cc_find("newreno");

	cc->init(w, c);
	c->cwnd = c->ssthresh = 10000;
	for (int i = 0; i < 10; i++)
		cc->on_ack(w, c, 1000);
	assert_int_equal(c->cwnd, 11000);
	t_worker_free(w);
}

static void test_newreno_halves_what_is_in_flight_but_not_below_two_segments(void **state)
{
	struct foil_worker *w = t_worker();
	struct tcp_conn *c = conn(1000);
	const struct tcp_cc *cc = tcp_cc_find("newreno");

	cc->init(w, c);
	c->snd_una = 0;
	c->snd_nxt = 20000;
	assert_int_equal(cc->on_loss(w, c, false), 10000); /* RFC 5681 (4) */
	c->snd_nxt = 1000;
	assert_int_equal(cc->on_loss(w, c, true), 2000);
	t_worker_free(w);
}

static void test_cubic_keeps_seven_tenths_after_a_loss(void **state)
{
	struct foil_worker *w = t_worker();
	struct tcp_conn *c = conn(1000);
	const struct tcp_cc *cc = tcp_cc_find("cubic");

	cc->init(w, c);
	c->cwnd = 100000;
	c->snd_nxt = 100000;
	assert_int_equal(cc->on_loss(w, c, false), 70000); /* RFC 9438 4.6 */
	t_worker_free(w);
}

/* W_cubic(t) = C (t - K)^3 + W_max with C = 0.4, in segments and seconds (RFC 9438 (1)); K = cbrt((W_max - cwnd) / C) (2). Over 15 s
 * of ACKs a window's worth each 100 ms, cwnd follows it. */
static void test_cubic_follows_its_curve(void **state)
{
	struct foil_worker *w = t_worker();
	struct tcp_conn *c = conn(1000);
	const struct tcp_cc *cc = tcp_cc_find("cubic");
	const double w_max = 1000, start = 700;
	double k = 0;

	while (0.4 * k * k * k < w_max - start)
		k += 0.0001; /* 9.086 s */
	cc->init(w, c);
	c->cwnd = c->snd_nxt = 1000000;
	c->srtt_us = 100000;
	c->ssthresh = c->cwnd = cc->on_loss(w, c, false);
	c->snd_nxt = c->cwnd;
	for (int i = 1; i <= 150; i++) {
		for (uint32_t left = c->cwnd; left >= 1000; left -= 1000)
			cc->on_ack(w, c, 1000);
		double t = i * 0.1, want = 0.4 * (t - k) * (t - k) * (t - k) + w_max;
		if (i % 30 == 0 && (c->cwnd < want * 970 || c->cwnd > want * 1030))
			fail_msg("after %.1f s cwnd is %u, the curve %.0f", t, c->cwnd, want * 1000);
		t_clock(w, 100000);
	}
	t_worker_free(w);
}

static void test_cubic_remembers_less_when_a_loss_comes_below_the_last_one(void **state)
{
	struct foil_worker *w = t_worker();
	struct tcp_conn *c = conn(1000);
	const struct tcp_cc *cc = tcp_cc_find("cubic");

	cc->init(w, c);
	c->cwnd = c->snd_nxt = 100000;
	c->cwnd = cc->on_loss(w, c, false);
	c->snd_nxt = c->cwnd;
	c->srtt_us = 1000;
	c->ssthresh = c->cwnd = cc->on_loss(w, c, false); /* at 70: W_max = 70 (1 + 0.7) / 2 = 59.5 (RFC 9438 4.7) */
	assert_int_equal(c->cwnd, 49000);
	/* K = cbrt((59.5 - 49) / 0.4) = 2.97 s: after it the window is about at 59.5 */
	for (int i = 0; i < 2970; i++) {
		t_clock(w, 1000);
		cc->on_ack(w, c, 49000);
	}
	assert_in_range(c->cwnd, 58000, 62000 + 3 * 2970 * 1000);
	t_worker_free(w);
}

static void test_after_idling_the_window_starts_anew(void **state)
{
	struct foil_worker *w = t_worker();
	struct tcp_conn *c = conn(1000);
	const struct tcp_cc *cc[] = {tcp_cc_find("newreno"), tcp_cc_find("cubic")};

	for (int i = 0; i < 2; i++) {
		cc[i]->init(w, c);
		c->cwnd = 500000;
		cc[i]->on_idle(w, c, 10000000);
		assert_int_equal(c->cwnd, 10000); /* RFC 5681 4.1 with RFC 6928's initial window */
	}
	assert_null(tcp_cc_find("reno"));
	t_worker_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sequence_numbers_compare_across_the_wrap),
		cmocka_unit_test(test_the_first_sample_sets_srtt_and_half_of_it_as_variance),
		cmocka_unit_test(test_a_later_sample_moves_by_an_eighth_and_a_quarter),
		cmocka_unit_test(test_the_timeout_stays_between_its_bounds),
		cmocka_unit_test(test_the_timeout_doubles_with_each_expiry),
		cmocka_unit_test(test_newreno_doubles_a_window_in_slow_start_a_round_trip),
		cmocka_unit_test(test_round_trips_that_grow_end_the_first_slow_start),
		cmocka_unit_test(test_a_shorter_round_trip_takes_conservative_slow_start_back),
		cmocka_unit_test(test_without_sack_the_first_round_trip_that_grows_ends_it),
		cmocka_unit_test(test_newreno_adds_a_segment_a_round_trip_above_ssthresh),
		cmocka_unit_test(test_newreno_halves_what_is_in_flight_but_not_below_two_segments),
		cmocka_unit_test(test_cubic_keeps_seven_tenths_after_a_loss),
		cmocka_unit_test(test_cubic_follows_its_curve),
		cmocka_unit_test(test_cubic_remembers_less_when_a_loss_comes_below_the_last_one),
		cmocka_unit_test(test_after_idling_the_window_starts_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
