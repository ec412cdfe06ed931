/* Segments that come late or in vain, and what they still tell: found by other people's scripts through the packetdrill door. */
#include "tests/unit/tcp/rig.h"

#define US (T_ISN + 1)
#define PEER (T_PEER_ISN + 1)

/* RFC 2883 4.1: a segment that all lies before the window is told by D-SACK; the peer undoes a wrong retransmission by it. */
static void test_a_whole_duplicate_is_told_by_dsack(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "abcdefgh", .n_bytes = 8);
	t_wait(t, T_QUICK_DELACK_US);
	t_expect(t, T_ACK, US, PEER + 8, 0);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "abcd", .n_bytes = 4);
	struct t_seg g = t_expect(t, T_ACK, US, PEER + 8, 0);
	assert_int_equal(g.opt.n_sack, 1);
	assert_int_equal(g.opt.sack[0].start, PEER);
	assert_int_equal(g.opt.sack[0].end, PEER + 4);
	t_tcp_free(t);
}

/* RFC 2018 5: an ACK that others overtook acknowledges nothing new, but what it SACKs was received all the same. */
static void test_the_sack_of_an_overtaken_ack_counts(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	t_write_n(t, 5 * 1460);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 1460);
	uint32_t wnd = c->snd_wnd;
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .wnd = 100,
	     .opt = {.n_sack = 1, .sack = {{US + 2 * 1460, US + 4 * 1460}}});
	assert_int_equal(c->n_sacked_bytes, 2 * 1460);
	assert_int_equal(c->snd_una, US + 1460);
	assert_int_equal(c->snd_wnd, wnd); /* its window is as old as it is */
	t_tcp_free(t);
}

static void test_an_answered_keepalive_makes_the_next_due_after_the_idle_time(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.keepalive_idle_us = 5000000);

	(void)t_accept(t);
	for (int i = 0; i < 3; i++) {
		t_wait(t, 4900000);
		t_silent(t);
		t_wait(t, 200000);
		t_expect(t, T_ACK, US - 1, PEER, 0);
		t_in(t, .flags = T_ACK, .seq = PEER, .ack = US);
	}
	t_tcp_free(t);
}

static void test_an_unanswered_keepalive_is_repeated_at_its_interval(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.keepalive_idle_us = 5000000);

	(void)t_accept(t);
	t_wait(t, 5200000);
	t_expect(t, T_ACK, US - 1, PEER, 0);
	t_wait(t, 74000000);
	t_silent(t);
	t_wait(t, 6000000); /* looked at every idle time */
	t_expect(t, T_ACK, US - 1, PEER, 0);
	t_tcp_free(t);
}

/* RFC 9293 3.8.6.2.2: an update that tells of little is an ACK for nothing; without scaling the field cannot tell of more than 65,535. */
static void test_a_reader_who_keeps_up_sends_no_window_updates(void **state)
{
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};
	struct t_tcp *t = t_tcp_fixed();
	static const char data[3000];

	(void)t_accept_with(t, &opt, UINT16_MAX);
	t->consume = false;
	for (uint32_t i = 0; i < 4; i++) {
		for (uint32_t k = 0; k < 2; k++)
			t_in(t, .flags = T_ACK, .seq = PEER + i * 2920 + k * 1460, .ack = US, .data = data, .n_bytes = 1460);
		t_forget(t); /* their ACKs */
		stream_consume(t->w, t->s, t->s->rx.n_bytes);
		t_turn(t);
		t_silent(t);
	}
	t_tcp_free(t);
}

/* RFC 3042, for a peer without SACK: the first two duplicates let one new segment go each, the third brings the first again. */
static void test_the_first_two_duplicates_let_new_segments_go(void **state)
{
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460};
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept_with(t, &opt, UINT16_MAX);
	t_write_n(t, 20 * 1460);
	assert_int_equal(t->n_out, 10);
	t_forget(t);
	for (uint32_t i = 0; i < 2; i++) {
		t_in(t, .flags = T_ACK, .seq = PEER, .ack = US);
		t_expect(t, T_ACK, US + (10 + i) * 1460, PEER, 1460);
		t_silent(t);
	}
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US);
	t_expect(t, T_ACK, US, PEER, 1460);
	t_tcp_free(t);
}

/* RFC 7661 4.2: in slow start cwnd grows while more than half of it is in use, and not beyond. */
static void test_cwnd_grows_while_more_than_half_of_it_is_used(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	t_write_n(t, 7 * 1460);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 2 * 1460);
	assert_int_equal(c->cwnd, 12 * 1460);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 7 * 1460);
	uint32_t cwnd = c->cwnd;
	t_forget(t);
	t_write_n(t, 1460);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 8 * 1460);
	assert_int_equal(c->cwnd, cwnd); /* a trickle proves nothing */
	t_tcp_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_whole_duplicate_is_told_by_dsack),
		cmocka_unit_test(test_the_sack_of_an_overtaken_ack_counts),
		cmocka_unit_test(test_an_answered_keepalive_makes_the_next_due_after_the_idle_time),
		cmocka_unit_test(test_an_unanswered_keepalive_is_repeated_at_its_interval),
		cmocka_unit_test(test_a_reader_who_keeps_up_sends_no_window_updates),
		cmocka_unit_test(test_the_first_two_duplicates_let_new_segments_go),
		cmocka_unit_test(test_cwnd_grows_while_more_than_half_of_it_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
