/* What is sent and when: output.c, ack.c, timers.c, rack.c, recovery.c (RFC 9293 3.8, RFC 5681, 6298, 6675, 6928, 8985). */
#include "tests/unit/tcp/rig.h"

#define US (T_ISN + 1)
#define PEER (T_PEER_ISN + 1)
#define MSS 1460u

static void ack(struct t_tcp *t, uint32_t n_bytes, uint16_t wnd)
{
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + n_bytes, .wnd = wnd, .no_wnd = true);
}

static void sack(struct t_tcp *t, uint32_t n_bytes, uint32_t from, uint32_t to)
{
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + n_bytes, .opt = {.n_sack = 1, .sack = {{US + from, US + to}}});
}

static void test_a_write_goes_out_at_the_end_of_the_turn_with_push(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_write(t, "hello", 5);
	struct t_seg g = t_expect(t, T_ACK, US, PEER, 5);
	assert_true(g.flags & T_PSH);
	assert_memory_equal(g.payload, "hello", 5);
	assert_int_equal(t->s->tx_queued_bytes, 5);
	ack(t, 5, 65535);
	assert_int_equal(t->s->tx_queued_bytes, 0);
	t_tcp_free(t);
}

static void test_ten_segments_go_at_first(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_write_n(t, 40 * MSS);
	assert_int_equal(t->n_out, 10); /* RFC 6928 */
	for (uint32_t i = 0; i < 10; i++)
		t_expect(t, T_ACK, US + i * MSS, PEER, MSS);
	ack(t, 2 * MSS, 65535);
	assert_int_equal(t->n_out, 4); /* slow start: two were acknowledged, four may go */
	t_tcp_free(t);
}

static void test_the_peers_window_is_kept_and_a_silly_one_not_filled(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};

	(void)t_accept_with(t, &opt, 3000);
	t_write_n(t, 10000);
	t_expect(t, T_ACK, US, PEER, MSS);
	t_expect(t, T_ACK, US + MSS, PEER, MSS);
	t_silent(t); /* 80 bytes of window are left: RFC 9293 3.8.6.2.1 */
	ack(t, 2 * MSS, 100);
	t_silent(t);
	ack(t, 2 * MSS, 2000);
	t_expect(t, T_ACK, US + 2 * MSS, PEER, MSS);
	t_tcp_free(t);
}

static void test_an_ack_without_news_of_the_window_does_not_move_its_edge(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};

	(void)t_accept_with(t, &opt, 2 * MSS);
	t_write_n(t, 20 * MSS);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = PEER + 2, .ack = US, .wnd = 4 * MSS, .data = "z", .n_bytes = 1);
	assert_int_equal(t->n_out, 2);
	t_forget(t);
	/* older by its number, newer by its ACK, with a smaller window: the edge stays where it was, at 4 MSS */
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 2 * MSS, .wnd = 2 * MSS, .data = "xy", .n_bytes = 2);
	t_expect(t, T_ACK, US + 4 * MSS, PEER + 3, 0);
	t_silent(t);
	t_tcp_free(t);
}

static void test_a_closed_window_is_probed_with_one_byte_ever_more_rarely(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	ack(t, 0, 0);
	t_write_n(t, 3000);
	t_silent(t);
	uint64_t rto = c->rto_us, at_us = t->w->now_us + rto;
	t_wait(t, rto + 500);
	t_expect(t, T_ACK, US, PEER, 1);
	for (int i = 0; i < 4; i++) {
		ack(t, 0, 0);
		t_silent(t);
		rto *= 2;
		at_us += rto;
		t_wait(t, at_us - 1000 - t->w->now_us);
		t_silent(t);
		t_wait(t, 3000);
		t_expect(t, T_ACK, US, PEER, 1);
	}
	ack(t, 0, 65535);
	t_expect(t, T_ACK, US, PEER, 1); /* what was thrown away goes again at once */
	t_expect(t, T_ACK, US + 1, PEER, MSS);
	t_tcp_free(t);
}

static void test_a_peer_that_answers_probes_keeps_the_connection_and_a_dead_one_not(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	ack(t, 0, 0);
	t_write_n(t, 3000);
	for (int i = 0; i < 20; i++) {
		t_wait(t, 30000000);
		t_forget(t);
		ack(t, 0, 0);
	}
	assert_int_equal(t->n_closed, 0);
	t_wait(t, 200000000);
	assert_int_equal(t->n_closed, 1);
	assert_int_equal(t->why, STREAM_END_TIMEOUT);
	t_tcp_free(t);
}

static void test_acks_stay_inside_a_window_that_was_taken_back(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_write_n(t, 4 * MSS);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + MSS, .wnd = 100, .data = "x", .n_bytes = 1);
	t_wait(t, T_QUICK_DELACK_US);
	t_expect(t, T_ACK, US + MSS + 100, PEER + 1, 0); /* beyond it the peer would drop the ACK */
	t_tcp_free(t);
}

static void test_a_retransmission_is_cut_to_a_window_that_was_taken_back(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	t_write_n(t, 2 * MSS);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = PEER + 1, .ack = US, .wnd = 500);
	t_forget(t);
	t_wait(t, c->rto_us + 1000);
	t_expect(t, T_ACK, US, PEER, 500);
	t_silent(t);
	t_tcp_free(t);
}

static void test_a_timeout_sends_the_first_again_and_doubles(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 536}; /* without SACK: no tail probe; small: not a narrow path's fault */
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	t_write_n(t, 3 * 536);
	t_forget(t);
	uint64_t rto = c->rto_us;
	uint64_t at_us = t->w->now_us;
	for (int i = 0; i < 5; i++, rto *= 2) {
		at_us += rto;
		t_wait(t, at_us - 1000 - t->w->now_us);
		t_silent(t);
		t_wait(t, 3000); /* a tick late each time at most */
		t_expect(t, T_ACK, US, PEER, 536);
		t_silent(t); /* cwnd is one segment: RFC 5681 3.1 */
	}
	assert_int_equal(t_counter(t->w, TCP, RTOS), 5);
	ack(t, 536, 65535);
	t_expect(t, T_ACK, US + 536, PEER, 536);
	t_tcp_free(t);
}

/* RFC 2923 2.1: nothing says that the path is narrower than a segment, but it does not arrive. The first here is what an acknowledgement has left of one
 * that fit once: less than the first step, and still too much. */
static void test_what_never_arrives_is_made_smaller(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460}; /* without SACK: no tail probe */
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	t_write_n(t, 2 * 1460);
	t_forget(t);
	ack(t, 253, 65535);
	t_forget(t);
	for (int i = 0; i < 3; i++) {
		t_forget(t);
		t_wait(t, (c->rto_us << c->n_rto) + 3000);
	}
	t_expect(t, T_ACK, US + 253, PEER, 603);
	assert_int_equal((int64_t)t_reason(t->w, TCP, PMTU_BLACKHOLE), 1);
	for (int i = 0; i < 2; i++) { /* one more step, to the least there is, and no further */
		t_forget(t);
		t_wait(t, (c->rto_us << c->n_rto) + 3000);
	}
	t_expect(t, T_ACK, US + 253, PEER, 536);
	assert_int_equal((int64_t)t_reason(t->w, TCP, PMTU_BLACKHOLE), 2);
	t_tcp_free(t);
}

static void test_an_ack_that_covers_a_retransmission_measures_nothing(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	t_write_n(t, 2 * MSS);
	t_clock(t->w, 20000);
	ack(t, 2 * MSS, 65535);
	t_write_n(t, 2 * MSS); /* both arrive, and the ACKs of them are lost */
	uint32_t srtt_us = c->srtt_us;
	t_wait(t, 1500000);
	ack(t, 4 * MSS, 65535);
	assert_int_equal(c->srtt_us, srtt_us);
	t_tcp_free(t);
}

static void test_nothing_acknowledged_for_the_user_timeout_ends_it(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.user_timeout_us = 20000000);

	(void)t_accept(t);
	t_write_n(t, 100);
	t_wait(t, 19000000);
	assert_int_equal(t->n_closed, 0);
	t_wait(t, 2000000);
	assert_int_equal(t->n_closed, 1);
	assert_int_equal(t->why, STREAM_END_TIMEOUT);
	assert_int_equal(t->out[t->n_out - 1].flags, T_RST | T_ACK);
	t_tcp_free(t);
}

static void test_three_duplicates_without_sack_bring_a_fast_retransmit(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};

	(void)t_accept_with(t, &opt, 65535);
	t_write_n(t, 6 * MSS);
	t_forget(t);
	ack(t, MSS, 65535);
	t_forget(t);
	ack(t, MSS, 65535);
	ack(t, MSS, 65535);
	t_silent(t);
	ack(t, MSS, 65535);
	t_expect(t, T_ACK, US + MSS, PEER, MSS); /* RFC 5681 3.2 */
	t_silent(t);
	ack(t, 3 * MSS, 65535);
	t_expect(t, T_ACK, US + 3 * MSS, PEER, MSS); /* a partial ACK: RFC 6582 3.2 */
	t_tcp_free(t);
}

static void test_the_acks_of_a_full_window_grow_it_when_nothing_more_is_to_be_sent(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.congestion = "newreno");
	struct tcp_conn *c = t_accept(t);

	c->ssthresh = c->cwnd; /* ten segments; from here on one a round trip */
	t_write_n(t, 12 * MSS);
	for (uint32_t i = 1; i <= 10; i++)
		ack(t, i * MSS, 65535); /* the first two let the rest go */
	assert_int_equal(c->cwnd, 11 * MSS);
	ack(t, 12 * MSS, 65535); /* these did not fill it */
	for (uint32_t i = 0; i < 30; i++) {
		t_write_n(t, MSS);
		ack(t, (13 + i) * MSS, 65535);
	}
	assert_int_equal(c->cwnd, 11 * MSS);
	t_tcp_free(t);
}

/* RFC 6937 without SACK: each duplicate tells of a segment that has left the path, so that new ones go during a recovery of several round trips. */
static void test_without_sack_duplicates_let_new_segments_go_in_recovery(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	t_write_n(t, 40 * MSS);
	t_forget(t);
	for (int i = 0; i < 9; i++) /* the first of ten is lost */
		ack(t, 0, 65535);
	assert_int_equal(c->ca_state, TCP_CA_RECOVERY);
	uint32_t in_flight = tcp_in_flight(c), n_out = t->n_out;
	assert_true(n_out > 4); /* two by limited transmit (RFC 3042), the first again, and PRR's */
	assert_int_equal(in_flight, n_out * MSS); /* the nine are nowhere any more */
	ack(t, 10 * MSS, 65535);
	assert_int_equal(c->n_dup_bytes, 0);
	assert_int_equal(tcp_in_flight(c), c->snd_nxt - c->snd_una - c->n_lost_bytes);
	t_tcp_free(t);
}

static void test_more_duplicates_than_segments_count_for_nothing(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	t_write_n(t, 4 * MSS);
	for (int i = 0; i < 300; i++)
		ack(t, 0, 65535);
	assert_true(c->n_dup_bytes <= 4 * MSS);
	assert_int_equal(t->s->tx_queued_bytes, 4 * MSS);
	t_tcp_free(t);
}

/* Both in one burst: the duplicate ACKs of the old edge must not become some of the new one, of which three are a loss that is none. */
static void test_a_hole_that_is_filled_in_the_same_burst_leaves_no_duplicate_of_the_new_edge(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};

	(void)t_accept_with(t, &opt, 65535);
	for (uint32_t i = 1; i < 6; i++)
		t_put(t, &(struct t_seg){.flags = T_ACK, .seq = PEER + i * 100, .ack = US, .data = "0123456789", .n_bytes = 10});
	t_put(t, &(struct t_seg){.flags = T_ACK, .seq = PEER, .ack = US, .data = "0123456789", .n_bytes = 10});
	t_turn(t);
	for (uint32_t i = 1; i < 6; i++)
		t_expect(t, T_ACK, US, PEER, 0); /* RFC 5681 4.2: one each */
	t_expect(t, T_ACK, US, PEER + 10, 0);
	t_silent(t);
	t_put(t, &(struct t_seg){.flags = T_ACK, .seq = PEER + 10, .ack = US, .data = "0123456789", .n_bytes = 10});
	t_put(t, &(struct t_seg){.flags = T_ACK, .seq = PEER + 700, .ack = US, .data = "0123456789", .n_bytes = 10});
	t_turn(t);
	t_expect(t, T_ACK, US, PEER + 20, 0);
	t_expect(t, T_ACK, US, PEER + 20, 0); /* the segment behind the hole has one of its own */
	t_silent(t);
	t_tcp_free(t);
}

static void test_sacked_segments_are_not_sent_again(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_wait(t, 50000);
	t_write_n(t, 8 * MSS);
	t_forget(t);
	t_clock(t->w, 5000);
	sack(t, 0, MSS, 5 * MSS); /* four above a hole: RFC 8985 6.2 step 4 and the classic three */
	t_expect(t, T_ACK, US, PEER, MSS);
	t_silent(t);
	t_clock(t->w, 5000);
	ack(t, 8 * MSS, 65535);
	t_silent(t);
	assert_int_equal(t->s->tx_queued_bytes, 0);
	t_tcp_free(t);
}

static void test_a_silent_tail_is_probed_with_its_last_segment(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c;

	c = t_accept(t);
	t_write_n(t, MSS);
	t_clock(t->w, 10000);
	ack(t, MSS, 65535); /* a round trip of 10 ms */
	t_forget(t);
	t_write_n(t, 3 * MSS);
	t_forget(t);
	t_wait(t, 2 * c->srtt_us + TCP_TLP_SLACK_US + 1000); /* RFC 8985 7.2 */
	t_expect(t, T_ACK, US + 3 * MSS, PEER, MSS);
	assert_int_equal(t_counter(t->w, TCP, TLPS), 1);
	t_tcp_free(t);
}

static void test_a_reneging_peer_gets_all_again_after_a_timeout(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	t_write_n(t, 4 * MSS);
	t_forget(t);
	t_clock(t->w, 1000);
	sack(t, 0, MSS, 4 * MSS);
	t_forget(t);
	ack(t, MSS, 65535); /* the first arrived, and what was SACKed behind it is not acknowledged: forgotten (RFC 2018 8) */
	t_forget(t);
	t_wait(t, 2 * c->rto_us + 10000);
	assert_true(t->n_out >= 1);
	assert_int_equal(t->out[0].seq, US + MSS);
	assert_int_equal(t_reason(t->w, TCP, SACK_RENEGED), 1);
	t_tcp_free(t);
}

static void test_a_probe_of_what_was_sacked_into_a_closed_window_forgets_the_sack(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	t_write_n(t, 2 * MSS);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .no_wnd = true, .opt = {.n_sack = 1, .sack = {{US, US + 2 * MSS}}});
	t_wait(t, 2 * c->rto_us); /* the rig checks the scoreboard after each turn */
	assert_true(t->n_out >= 1);
	assert_int_equal(t->out[0].seq, US);
	assert_int_equal(c->n_sacked_bytes, 0);
	t_tcp_free(t);
}

static void test_a_timeout_that_proves_needless_by_timestamps_is_undone(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .has_ts = true, .ts_val = 7};
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	t_write_n(t, 5 * 1448);
	uint32_t first_ts = t->out[0].opt.ts_val, cwnd = c->cwnd;
	t_wait(t, c->rto_us + 1000);
	assert_int_equal(c->ca_state, TCP_CA_LOSS);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 1448, .opt = {.has_ts = true, .ts_val = 9, .ts_ecr = first_ts}); /* RFC 4015 */
	assert_int_equal(c->ca_state, TCP_CA_OPEN);
	assert_true(c->cwnd >= cwnd);
	assert_int_equal(c->n_lost_bytes, 0);
	t_silent(t); /* the others are in flight, not lost */
	assert_int_equal(t_counter(t->w, TCP, UNDONE_RECOVERIES), 1);
	t_tcp_free(t);
}

static void test_a_recovery_is_undone_when_all_that_was_sent_again_is_reported_double(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	t_wait(t, 50000);
	t_write_n(t, 8 * MSS);
	uint32_t cwnd = c->cwnd;
	t_clock(t->w, 5000);
	t_forget(t);
	sack(t, 0, MSS, 5 * MSS); /* reordered: the first is late */
	t_expect(t, T_ACK, US, PEER, MSS);
	assert_int_equal(c->ca_state, TCP_CA_RECOVERY);
	t_clock(t->w, 5000);
	sack(t, 8 * MSS, 0, MSS); /* it came, and so did its copy: RFC 2883 */
	assert_int_equal(c->ca_state, TCP_CA_OPEN);
	assert_true(c->cwnd >= cwnd);
	t_tcp_free(t);
}

/* Segments are of 1448 bytes and counted from 0: up to n_acked acknowledged, [from, to) reported, ts_ecr echoed. */
static void sack_segs(struct t_tcp *t, uint32_t n_acked, uint32_t from, uint32_t to, uint32_t ts_ecr)
{
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + n_acked * 1448,
	     .opt = {.has_ts = true, .ts_val = 9, .ts_ecr = ts_ecr, .n_sack = to > from, .sack = {{US + from * 1448, US + to * 1448}}});
}

static uint32_t last_ts(const struct t_tcp *t)
{
	return t->out[t->n_out - 1].opt.ts_val;
}

/* A loss while what an earlier recovery sent again is still under way: the echo of that is older than this recovery's first retransmission, and
 * yet no word of an original that was late. On a path with steady losses it made every second recovery look needless. */
static void test_the_echo_of_an_earlier_recoverys_retransmission_undoes_nothing(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .has_ts = true, .ts_val = 7, .sack_permitted = true};
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	t_wait(t, 50000);
	t_write_n(t, 30 * 1448); /* ten go */
	uint32_t first_ts = last_ts(t);
	t_clock(t->w, 20000);
	sack_segs(t, 0, 1, 6, first_ts);
	assert_int_equal(c->ca_state, TCP_CA_RECOVERY);
	t_clock(t->w, 2000);
	sack_segs(t, 0, 1, 10, first_ts);
	uint32_t n_sent = (c->snd_nxt - US) / 1448;
	assert_true(n_sent > 12);
	t_clock(t->w, 20000);
	sack_segs(t, 0, 11, n_sent, first_ts); /* segment 10 is lost, too, and goes again */
	uint32_t resent_ts = last_ts(t);
	t_clock(t->w, 1000);
	sack_segs(t, 10, 11, n_sent, first_ts + 20); /* the copy of 0 has arrived: the first recovery is over */
	assert_int_equal(c->ca_state, TCP_CA_OPEN);
	assert_int_equal(c->n_lost_bytes, 0);
	uint32_t n_more = (c->snd_nxt - US) / 1448;
	assert_true(n_more > n_sent + 1);
	t_clock(t->w, 20000);
	sack_segs(t, 10, n_sent + 1, n_more, resent_ts); /* segment n_sent is lost */
	assert_int_equal(c->ca_state, TCP_CA_RECOVERY);
	assert_true(seq_gt(last_ts(t), resent_ts));
	sack_segs(t, n_sent, n_sent + 1, n_more, resent_ts); /* the copy of 10 has arrived */
	assert_int_equal(c->ca_state, TCP_CA_RECOVERY);
	assert_int_equal(t_counter(t->w, TCP, UNDONE_RECOVERIES), 0);
	t_tcp_free(t);
}

/* Two holes are filled again, the copy of the first is lost as well. The second's arrives above the hole that remains, so the peer's echo is still the
 * old one; it counts all the same, and the first goes a third time without waiting for a timeout. */
static void test_a_lost_retransmission_is_found_by_one_that_arrived_above_the_hole(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .has_ts = true, .ts_val = 7, .sack_permitted = true};
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	t_wait(t, 50000);
	t_write_n(t, 10 * 1448);
	uint32_t first_ts = last_ts(t);
	t_clock(t->w, 20000);
	sack_segs(t, 0, 2, 8, first_ts);
	sack_segs(t, 0, 2, 10, first_ts);
	assert_int_equal(c->n_lost_bytes, 0); /* both have gone again */
	t_forget(t);
	t_clock(t->w, 20000);
	sack_segs(t, 0, 1, 10, first_ts);
	(void)t_expect(t, T_ACK | T_PSH, US, PEER, 1448);
	assert_int_equal(t_counter(t->w, TCP, RTOS), 0);
	t_tcp_free(t);
}

static void test_full_segments_that_vanish_become_smaller(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	t_write_n(t, 5 * MSS);
	t_wait(t, c->rto_us * 4); /* two timeouts: may be bad luck */
	assert_int_equal(c->mss_bytes, MSS);
	t_wait(t, c->rto_us * 4);
	assert_int_equal(c->mss_bytes, 1220);
	assert_int_equal(t->out[t->n_out - 1].n_bytes, 1220);
	t_wait(t, c->rto_us * 8);
	assert_int_equal(c->mss_bytes, 610);
	t_tcp_free(t);
}

static void test_small_segments_that_vanish_say_nothing_of_the_path(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	t_write_n(t, 100);
	t_wait(t, 30000000);
	assert_int_equal(c->mss_bytes, MSS);
	t_tcp_free(t);
}

static void test_writable_comes_when_half_of_a_full_queue_is_gone(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t->s->tx_high_bytes = 4 * MSS;
	t_write_n(t, 4 * MSS);
	assert_int_equal(stream_tx_room(t->s), 0);
	ack(t, MSS, 65535);
	assert_int_equal(t->n_writable, 0);
	ack(t, 2 * MSS, 65535);
	assert_int_equal(t->n_writable, 1);
	t_tcp_free(t);
}

static void test_the_write_queue_grows_with_the_window(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .has_wscale = true, .wscale = 14};
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);
	uint32_t acked = 0;

	for (int i = 0; i < 40 && c->s.tx_high_bytes == STREAM_TX_HIGH_BYTES; i++) {
		while (stream_tx_room(t->s) > 0) {
			t_write_n(t, FOIL_MIN(stream_tx_room(t->s), 60000u));
			t_forget(t);
		}
		acked += c->snd_nxt - c->snd_una;
		ack(t, acked, 65535);
		t_forget(t);
	}
	assert_true(c->s.tx_high_bytes > STREAM_TX_HIGH_BYTES);
	assert_true(c->s.tx_high_bytes <= FOIL_MIN(2 * c->cwnd, TCP_TX_QUEUE_BYTES_MAX));
	t_tcp_free(t);
}

static void test_without_mbufs_output_waits_and_goes_on(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	struct foil_chain chain = {0};
	t_chain(t->w, &chain, "hello", 5, 0);
	t_pool_drain(t->w->mbuf_pool, 0);
	stream_write(t->w, t->s, &chain);
	t_turn(t);
	t_silent(t);
	assert_true(t_reason(t->w, TCP, TX_NO_MBUF) > 0);
	t_pool_refill(t->w->mbuf_pool);
	t_turn(t);
	t_expect(t, T_ACK, US, PEER, 5);
	t_tcp_free(t);
}

static void test_many_small_writes_share_a_segment(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	for (int i = 0; i < 100; i++) {
		struct foil_chain chain = {0};
		t_chain(t->w, &chain, "0123456789", 10, 0);
		stream_write(t->w, t->s, &chain);
	}
	t_turn(t);
	struct t_seg g = t_expect(t, T_ACK, US, PEER, 1000);
	assert_memory_equal(g.payload + 990, "0123456789", 10);
	t_silent(t);
	t_tcp_free(t);
}

static void test_a_chain_of_crumbs_becomes_full_segments(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct foil_chain chain = {0};
	uint8_t data[3000];

	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	(void)t_accept(t);
	t_chain(t->w, &chain, data, sizeof(data), 7);
	stream_write(t->w, t->s, &chain);
	t_turn(t);
	struct t_seg g = t_expect(t, T_ACK, US, PEER, MSS);
	assert_memory_equal(g.payload, data, MSS);
	g = t_expect(t, T_ACK, US + MSS, PEER, MSS);
	assert_memory_equal(g.payload, data + MSS, MSS);
	g = t_expect(t, T_ACK, US + 2 * MSS, PEER, 80);
	assert_memory_equal(g.payload, data + 2 * MSS, 80);
	t_tcp_free(t);
}

static void test_an_idle_peer_is_asked_and_given_up(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.keepalive_idle_us = 60000000);

	(void)t_accept(t);
	t_wait(t, 59000000);
	t_silent(t);
	t_wait(t, 2000000);
	t_expect(t, T_ACK, US - 1, PEER, 0); /* RFC 9293 3.8.4 */
	ack(t, 0, 65535);
	t_wait(t, 59000000);
	t_silent(t);
	t_wait(t, 1000000000);
	assert_int_equal(t->n_closed, 1);
	assert_int_equal(t->why, STREAM_END_TIMEOUT);
	assert_int_equal(t_counter(t->w, TCP, KEEPALIVE_PROBES), 1 + TCP_KEEPALIVE_PROBES);
	t_tcp_free(t);
}

/* A request of one segment every second, acknowledged at once, for so long. */
static void trickle(struct t_tcp *t, struct tcp_conn *c, uint32_t n_seconds)
{
	for (uint32_t i = 0; i < n_seconds; i++) {
		t_write_n(t, 1000);
		t_in(t, .flags = T_ACK, .seq = 5000, .ack = c->snd_nxt);
		t_wait(t, 150000); /* less than the RTO: never idle */
		t_forget(t);
	}
}

static void test_a_window_that_nobody_uses_is_halved_after_five_minutes(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.congestion = "newreno");
	struct tcp_conn *c = t_accept(t);

	trickle(t, c, 1);
	c->cwnd = 1000000;
	c->ssthresh = 2000;
	trickle(t, c, 1990); /* 298.5 s */
	assert_in_range(c->cwnd, 1000000, 1000000 + 2 * 1460);
	trickle(t, c, 30);
	assert_in_range(c->cwnd, 500000, 500000 + 2 * 1460);
	assert_in_range(c->ssthresh, 740000, 760000); /* RFC 7661 4.4.3 */
	assert_int_equal(t_counter(t->w, TCP, CWND_DECAYS), 1);
	c->cwnd = 2000; /* and one that is used stays */
	trickle(t, c, 2100);
	assert_int_equal(t_counter(t->w, TCP, CWND_DECAYS), 1);
	t_tcp_free(t);
}

static void test_a_connection_may_have_a_user_timeout_of_its_own(void **state)
{
	for (int own = 0; own < 2; own++) {
		struct t_tcp *t = t_tcp_fixed(.user_timeout_us = 30000000);
		(void)t_accept(t);
		t_write_n(t, 1000);
		if (own)
			tcp_set_user_timeout(t->w, t->s, 3000000);
		t_wait(t, 2900000);
		assert_int_equal(t->n_closed, 0);
		t_wait(t, 2000000);
		assert_int_equal(t->n_closed, own);
		t_wait(t, 28000000);
		assert_int_equal(t->n_closed, 1);
		assert_int_equal(t->why, STREAM_END_TIMEOUT);
		assert_int_equal(t_reason(t->w, TCP, USER_TIMEOUT), 1);
		t_tcp_free(t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_window_that_nobody_uses_is_halved_after_five_minutes),
		cmocka_unit_test(test_a_connection_may_have_a_user_timeout_of_its_own),
		cmocka_unit_test(test_what_never_arrives_is_made_smaller),
		cmocka_unit_test(test_a_write_goes_out_at_the_end_of_the_turn_with_push),
		cmocka_unit_test(test_ten_segments_go_at_first),
		cmocka_unit_test(test_the_peers_window_is_kept_and_a_silly_one_not_filled),
		cmocka_unit_test(test_an_ack_without_news_of_the_window_does_not_move_its_edge),
		cmocka_unit_test(test_a_closed_window_is_probed_with_one_byte_ever_more_rarely),
		cmocka_unit_test(test_a_peer_that_answers_probes_keeps_the_connection_and_a_dead_one_not),
		cmocka_unit_test(test_acks_stay_inside_a_window_that_was_taken_back),
		cmocka_unit_test(test_a_retransmission_is_cut_to_a_window_that_was_taken_back),
		cmocka_unit_test(test_a_timeout_sends_the_first_again_and_doubles),
		cmocka_unit_test(test_an_ack_that_covers_a_retransmission_measures_nothing),
		cmocka_unit_test(test_nothing_acknowledged_for_the_user_timeout_ends_it),
		cmocka_unit_test(test_three_duplicates_without_sack_bring_a_fast_retransmit),
		cmocka_unit_test(test_the_acks_of_a_full_window_grow_it_when_nothing_more_is_to_be_sent),
		cmocka_unit_test(test_without_sack_duplicates_let_new_segments_go_in_recovery),
		cmocka_unit_test(test_more_duplicates_than_segments_count_for_nothing),
		cmocka_unit_test(test_a_hole_that_is_filled_in_the_same_burst_leaves_no_duplicate_of_the_new_edge),
		cmocka_unit_test(test_sacked_segments_are_not_sent_again),
		cmocka_unit_test(test_a_silent_tail_is_probed_with_its_last_segment),
		cmocka_unit_test(test_a_reneging_peer_gets_all_again_after_a_timeout),
		cmocka_unit_test(test_a_probe_of_what_was_sacked_into_a_closed_window_forgets_the_sack),
		cmocka_unit_test(test_a_timeout_that_proves_needless_by_timestamps_is_undone),
		cmocka_unit_test(test_a_lost_retransmission_is_found_by_one_that_arrived_above_the_hole),
		cmocka_unit_test(test_the_echo_of_an_earlier_recoverys_retransmission_undoes_nothing),
		cmocka_unit_test(test_a_recovery_is_undone_when_all_that_was_sent_again_is_reported_double),
		cmocka_unit_test(test_full_segments_that_vanish_become_smaller),
		cmocka_unit_test(test_small_segments_that_vanish_say_nothing_of_the_path),
		cmocka_unit_test(test_writable_comes_when_half_of_a_full_queue_is_gone),
		cmocka_unit_test(test_the_write_queue_grows_with_the_window),
		cmocka_unit_test(test_without_mbufs_output_waits_and_goes_on),
		cmocka_unit_test(test_many_small_writes_share_a_segment),
		cmocka_unit_test(test_a_chain_of_crumbs_becomes_full_segments),
		cmocka_unit_test(test_an_idle_peer_is_asked_and_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
