/* Segments of an established connection: input.c, receive.c (RFC 9293 3.10.7.4, RFC 7323 5, RFC 5961). */
#include "tests/unit/tcp/rig.h"

#define US (T_ISN + 1)
#define PEER (T_PEER_ISN + 1)

static struct tcp_conn *accept_ts(struct t_tcp *t)
{
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .sack_permitted = true, .has_ts = true, .ts_val = 1000, .has_wscale = true};

	return t_accept_with(t, &opt, 65535);
}

static void test_data_in_order_is_delivered_and_acknowledged(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t->consume = false;
	(void)t_accept(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "abc", .n_bytes = 3);
	t_silent(t); /* an answer may say it */
	t_wait(t, T_QUICK_DELACK_US);
	t_expect(t, T_ACK, US, PEER + 3, 0);
	t_assert_chain(&t->s->rx, "abc", 3);
	t_tcp_free(t);
}

static void test_a_duplicate_is_acknowledged_with_dsack_and_not_delivered_again(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t->consume = false;
	(void)t_accept(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "abcd", .n_bytes = 4);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = PEER + 2, .ack = US, .data = "cdef", .n_bytes = 4); /* half old */
	struct t_seg g = t_expect(t, T_ACK, US, PEER + 6, 0);
	assert_int_equal(g.opt.n_sack, 1); /* RFC 2883 4: the part that was there already */
	assert_int_equal(g.opt.sack[0].start, PEER + 2);
	assert_int_equal(g.opt.sack[0].end, PEER + 4);
	t_assert_chain(&t->s->rx, "abcdef", 6);
	t_tcp_free(t);
}

static void test_a_hole_is_told_at_once_with_sack_and_closed_when_it_fills(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t->consume = false;
	(void)t_accept(t);
	t_in(t, .flags = T_ACK, .seq = PEER + 3, .ack = US, .data = "def", .n_bytes = 3);
	struct t_seg g = t_expect(t, T_ACK, US, PEER, 0);
	assert_int_equal(g.opt.n_sack, 1);
	assert_int_equal(g.opt.sack[0].start, PEER + 3);
	t_in(t, .flags = T_ACK, .seq = PEER + 9, .ack = US, .data = "jkl", .n_bytes = 3);
	g = t_expect(t, T_ACK, US, PEER, 0);
	assert_int_equal(g.opt.n_sack, 2);
	assert_int_equal(g.opt.sack[0].start, PEER + 9); /* RFC 2018 4: the latest first */
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "abc", .n_bytes = 3);
	g = t_expect(t, T_ACK, US, PEER + 6, 0);
	assert_int_equal(g.opt.n_sack, 1);
	t_in(t, .flags = T_ACK, .seq = PEER + 6, .ack = US, .data = "ghi", .n_bytes = 3);
	g = t_expect(t, T_ACK, US, PEER + 12, 0);
	assert_int_equal(g.opt.n_sack, 0);
	t_assert_chain(&t->s->rx, "abcdefghijkl", 12);
	t_tcp_free(t);
}

static void test_bytes_outside_the_window_are_cut_or_dropped(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.rx_window_bytes = 4, .rx_window_bytes_max = 4);

	t->consume = false;
	(void)t_accept(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "abcdef", .n_bytes = 6);
	t_assert_chain(&t->s->rx, "abcd", 4);
	t_wait(t, T_QUICK_DELACK_US);
	struct t_seg g = t_expect(t, T_ACK, US, PEER + 4, 0);
	assert_int_equal(g.wnd, 0);
	t_in(t, .flags = T_ACK, .seq = PEER + 4, .ack = US, .data = "e", .n_bytes = 1); /* a probe: answered */
	g = t_expect(t, T_ACK, US, PEER + 4, 0);
	assert_int_equal(t->s->rx.n_bytes, 4);
	stream_consume(t->w, t->s, 4);
	t_turn(t);
	g = t_expect(t, T_ACK, US, PEER + 4, 0);
	assert_int_equal(g.wnd, 4);
	t_tcp_free(t);
}

static void test_an_old_timestamp_is_dropped_and_answered(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)accept_ts(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "a", .n_bytes = 1, .opt = {.has_ts = true, .ts_val = 2000});
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = PEER + 1, .ack = US, .data = "b", .n_bytes = 1, .opt = {.has_ts = true, .ts_val = 1999});
	struct t_seg g = t_expect(t, T_ACK, US, PEER + 1, 0); /* RFC 7323 5.3 R1 */
	assert_int_equal(g.opt.ts_ecr, 2000);
	assert_int_equal(t_reason(t->w, TCP, PAWS_OLD), 1);
	t_in(t, .flags = T_ACK, .seq = PEER + 1, .ack = US, .data = "b", .n_bytes = 1); /* RFC 7323 3.2 */
	t_silent(t);
	assert_int_equal(t_reason(t->w, TCP, NO_TIMESTAMP), 1);
	t_tcp_free(t);
}

static void test_after_24_days_of_silence_an_old_timestamp_is_new(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)accept_ts(t);
	t->w->now_us += 25ull * 24 * 3600 * 1000000;
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "a", .n_bytes = 1, .opt = {.has_ts = true, .ts_val = 1});
	t_wait(t, T_QUICK_DELACK_US);
	t_expect(t, T_ACK, US, PEER + 1, 0);
	t_tcp_free(t);
}

static void test_the_echoed_timestamp_is_that_of_the_segment_that_moved_the_edge(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)accept_ts(t);
	t_in(t, .flags = T_ACK, .seq = PEER + 10, .ack = US, .data = "b", .n_bytes = 1, .opt = {.has_ts = true, .ts_val = 3000});
	struct t_seg g = t_expect(t, T_ACK, US, PEER, 0);
	assert_int_equal(g.opt.ts_ecr, 1001); /* RFC 7323 4.3: a segment behind a hole does not count */
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "0123456789", .n_bytes = 10, .opt = {.has_ts = true, .ts_val = 3001});
	g = t_expect(t, T_ACK, US, PEER + 11, 0);
	assert_int_equal(g.opt.ts_ecr, 3001);
	t_tcp_free(t);
}

static void test_only_the_exact_reset_is_believed(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_in(t, .flags = T_RST, .seq = PEER + 100); /* RFC 5961 3.2: inside the window */
	t_expect(t, T_ACK, US, PEER, 0);
	t_in(t, .flags = T_RST, .seq = PEER - 1);
	t_in(t, .flags = T_RST, .seq = PEER + 1000000);
	t_silent(t);
	assert_int_equal(t->n_closed, 0);
	t_in(t, .flags = T_RST, .seq = PEER);
	assert_int_equal(t->n_closed, 1);
	assert_int_equal(t->why, STREAM_END_RESET);
	t_silent(t);
	t_tcp_free(t);
}

static void test_a_syn_in_the_window_is_challenged(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_in(t, .flags = T_SYN, .seq = PEER + 5); /* RFC 5961 4.2 */
	t_expect(t, T_ACK, US, PEER, 0);
	t_in(t, .flags = T_SYN, .seq = PEER - 50000);
	t_expect(t, T_ACK, US, PEER, 0);
	assert_int_equal(t->n_closed, 0);
	t_tcp_free(t);
}

static void test_challenges_are_limited_for_each_connection(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	for (uint32_t i = 0; i < 50; i++)
		t_in(t, .flags = T_SYN, .seq = PEER + 5);
	assert_int_equal(t->n_out, TCP_CHALLENGE_PER_WINDOW);
	assert_int_equal(t_reason(t->w, TCP, CHALLENGE_LIMITED), 40);
	t_forget(t);
	t_wait(t, 6000000);
	t_in(t, .flags = T_SYN, .seq = PEER + 5);
	assert_int_equal(t->n_out, 1);
	t_tcp_free(t);
}

static void test_an_ack_of_what_was_never_sent_is_challenged(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t->consume = false;
	(void)t_accept(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 1, .data = "evil", .n_bytes = 4);
	t_expect(t, T_ACK, US, PEER, 0);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US - 100000, .data = "evil", .n_bytes = 4); /* RFC 5961 5.2: blind injection */
	t_expect(t, T_ACK, US, PEER, 0);
	assert_int_equal(t->s->rx.n_bytes, 0);
	assert_int_equal(t_reason(t->w, TCP, BAD_ACK), 2);
	t_tcp_free(t);
}

static void test_a_segment_without_ack_is_dropped(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_in(t, .flags = 0, .seq = PEER, .data = "x", .n_bytes = 1);
	t_silent(t);
	assert_int_equal(t_reason(t->w, TCP, NO_ACK), 1);
	t_tcp_free(t);
}

static void test_a_malformed_header_is_dropped(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	static const uint8_t bad[4] = {2, 0, 0, 0};

	(void)t_accept(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .raw_opt = bad, .n_raw_opt = 4, .data = "x", .n_bytes = 1);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .bad_checksum = true, .data = "x", .n_bytes = 1);
	t_silent(t);
	assert_int_equal(t_reason(t->w, TCP, BAD_HEADER), 1);
	assert_int_equal(t_reason(t->w, NET, BAD_CHECKSUM), 1);
	t_tcp_free(t);
}

static void test_urgent_data_is_data(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t->consume = false;
	(void)t_accept(t);
	t_in(t, .flags = T_ACK | 32, .seq = PEER, .ack = US, .data = "u", .n_bytes = 1);
	t_assert_chain(&t->s->rx, "u", 1);
	t_tcp_free(t);
}

static void test_at_the_start_an_answer_carries_the_ack_of_a_small_segment_alone(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	uint8_t data[1460] = {0};

	(void)t_accept(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = data, .n_bytes = 128);
	t_silent(t);
	t_write_n(t, 100);
	t_expect(t, T_ACK | T_PSH, US, PEER + 128, 100);
	t_wait(t, T_QUICK_DELACK_US);
	t_silent(t); /* nothing is owed */
	t_in(t, .flags = T_ACK, .seq = PEER + 128, .ack = US + 100, .data = data, .n_bytes = 1460); /* a window may hold its sender back */
	t_expect(t, T_ACK, US + 100, PEER + 1588, 0);
	t_in(t, .flags = T_ACK, .seq = PEER + 1588, .ack = US + 100, .data = data, .n_bytes = 10);
	t_wait(t, T_QUICK_DELACK_US);
	t_expect(t, T_ACK, US + 100, PEER + 1598, 0);
	t_tcp_free(t);
}

static void test_an_ack_waits_for_a_second_segment_or_40_ms(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	uint8_t data[1460] = {0};
	uint32_t seq = PEER;

	struct tcp_conn *c = t_accept(t);
	for (int i = 0; i < 20; i++, seq += 1460)
		t_in(t, .flags = T_ACK, .seq = seq, .ack = US, .data = data, .n_bytes = 1460);
	assert_int_equal(c->quickack_left, 0);
	t_wait(t, 100000);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = seq, .ack = US, .data = data, .n_bytes = 1460);
	t_silent(t);
	t_in(t, .flags = T_ACK, .seq = seq + 1460, .ack = US, .data = data, .n_bytes = 1460);
	t_expect(t, T_ACK, US, seq + 2920, 0);
	t_in(t, .flags = T_ACK, .seq = seq + 2920, .ack = US, .data = data, .n_bytes = 100);
	t_silent(t);
	t_wait(t, 41000);
	t_expect(t, T_ACK, US, seq + 3020, 0);
	t_tcp_free(t);
}

static void test_a_small_buffer_with_crumbs_never_grows(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.rx_window_bytes = 4096, .rx_window_bytes_max = 4u << 20); /* window scale 7 */
	struct tcp_conn *c;
	uint32_t seq = PEER;

	t->consume = false;
	c = t_accept(t);
	c->rcv_adv = c->rcv_nxt + 4096; /* what is offered from the second segment on */
	for (int i = 0; i < 20000; i++, seq++) {
		t_in(t, .flags = T_ACK, .seq = seq, .ack = US, .data = "x", .n_bytes = 1);
		t_forget(t);
	}
	assert_true(t->s->rx.n_bytes <= 4096 + 128);
	t_tcp_free(t);
}

static void test_single_bytes_behind_holes_hold_little_memory(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.rx_window_bytes = 65536);
	uint32_t before = rte_mempool_avail_count(t->w->mbuf_pool);

	(void)t_accept(t);
	for (uint32_t i = 1; i < 30000; i += 2) {
		t_in(t, .flags = T_ACK, .seq = PEER + i, .ack = US, .data = "x", .n_bytes = 1);
		t_forget(t);
	}
	assert_true(before - rte_mempool_avail_count(t->w->mbuf_pool) <= TCP_OOO_RANGES_MAX + 8);
	assert_true(t_reason(t->w, TCP, OOO_FULL) > 0);
	t_tcp_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data_in_order_is_delivered_and_acknowledged),
		cmocka_unit_test(test_a_duplicate_is_acknowledged_with_dsack_and_not_delivered_again),
		cmocka_unit_test(test_a_hole_is_told_at_once_with_sack_and_closed_when_it_fills),
		cmocka_unit_test(test_bytes_outside_the_window_are_cut_or_dropped),
		cmocka_unit_test(test_an_old_timestamp_is_dropped_and_answered),
		cmocka_unit_test(test_after_24_days_of_silence_an_old_timestamp_is_new),
		cmocka_unit_test(test_the_echoed_timestamp_is_that_of_the_segment_that_moved_the_edge),
		cmocka_unit_test(test_only_the_exact_reset_is_believed),
		cmocka_unit_test(test_a_syn_in_the_window_is_challenged),
		cmocka_unit_test(test_challenges_are_limited_for_each_connection),
		cmocka_unit_test(test_an_ack_of_what_was_never_sent_is_challenged),
		cmocka_unit_test(test_a_segment_without_ack_is_dropped),
		cmocka_unit_test(test_a_malformed_header_is_dropped),
		cmocka_unit_test(test_urgent_data_is_data),
		cmocka_unit_test(test_at_the_start_an_answer_carries_the_ack_of_a_small_segment_alone),
		cmocka_unit_test(test_an_ack_waits_for_a_second_segment_or_40_ms),
		cmocka_unit_test(test_a_small_buffer_with_crumbs_never_grows),
		cmocka_unit_test(test_single_bytes_behind_holes_hold_little_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
