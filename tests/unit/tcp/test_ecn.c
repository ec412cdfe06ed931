/* ecn.c (RFC 3168 6.1): who asks gets it, marks are echoed, the window shrinks once, only new data is capable. */
#include "tests/unit/tcp/rig.h"

#define US (T_ISN + 1)
#define PEER (T_PEER_ISN + 1)
#define MSS 1460u
enum { ECE = 64, CWR = 128 };

static struct tcp_conn *accept_ecn(struct t_tcp *t)
{
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .sack_permitted = true, .has_wscale = true};

	t_in(t, .flags = T_SYN | ECE | CWR, .seq = T_PEER_ISN, .opt = opt);
	struct t_seg g = t_out(t);
	assert_int_equal(g.flags, T_SYN | T_ACK | ECE);
	assert_int_equal(g.tos, 0);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US);
	return tcp_conn_of(t->s);
}

static void test_who_asks_gets_it_and_others_do_not(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	assert_true(accept_ecn(t)->has_ecn);
	t_in(t, .flags = T_SYN | ECE, .seq = 7, .peer_port = 4001); /* half a request is none */
	assert_int_equal(t_out(t).flags, T_SYN | T_ACK);
	t_tcp_free(t);
}

static void test_an_active_open_asks_if_it_may(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.ecn_request = true);
	struct tcp_connect_params p = {.remote_port = T_PEER_PORT, .local_port = 5000};

	assert_int_equal(net_addr_parse("198.18.0.2", &p.remote), 0);
	assert_int_equal(tcp_connect(t->w, &p, &t->s), 0);
	t_turn(t);
	assert_int_equal(t_out(t).flags, T_SYN | ECE | CWR);
	t_in(t, .flags = T_SYN | T_ACK | ECE, .seq = T_PEER_ISN, .ack = US, .port = 5000);
	assert_true(tcp_conn_of(t->s)->has_ecn);
	t_tcp_free(t);
}

static void test_a_mark_is_echoed_until_the_peer_has_slowed_down(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)accept_ecn(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .tos = 3, .data = "a", .n_bytes = 1);
	t_wait(t, T_QUICK_DELACK_US);
	assert_int_equal(t_out(t).flags, T_ACK | ECE);
	t_in(t, .flags = T_ACK, .seq = PEER + 1, .ack = US, .tos = 2, .data = "b", .n_bytes = 1);
	t_wait(t, T_QUICK_DELACK_US);
	assert_int_equal(t_out(t).flags, T_ACK | ECE);
	t_in(t, .flags = T_ACK | CWR, .seq = PEER + 2, .ack = US, .tos = 2, .data = "c", .n_bytes = 1);
	t_wait(t, T_QUICK_DELACK_US);
	assert_int_equal(t_out(t).flags, T_ACK);
	t_tcp_free(t);
}

static void test_an_echo_shrinks_the_window_once_and_is_answered_with_new_data(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = accept_ecn(t);

	t_write_n(t, 40 * MSS);
	uint32_t cwnd = c->cwnd;
	assert_int_equal(t->out[0].tos, 2);
	t_forget(t);
	t_in(t, .flags = T_ACK | ECE, .seq = PEER, .ack = US + MSS);
	assert_int_equal(c->cwnd, cwnd * 7 / 10); /* CUBIC's beta */
	t_in(t, .flags = T_ACK | ECE, .seq = PEER, .ack = US + 3 * MSS);
	t_in(t, .flags = T_ACK | ECE, .seq = PEER, .ack = US + 8 * MSS);
	assert_true(c->cwnd <= cwnd * 7 / 10 + 8 * MSS && t_counter(t->w, TCP, ECN_REDUCTIONS) == 1);
	bool first = true;
	for (uint32_t i = 0; i < t->n_out; i++, first = false)
		assert_int_equal(!!(t->out[i].flags & CWR), first);
	t_tcp_free(t);
}

static void test_what_is_sent_again_is_not_capable(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = accept_ecn(t);

	t_write_n(t, MSS);
	t_forget(t);
	t_wait(t, 2 * c->rto_us);
	assert_true(t->n_out >= 1);
	assert_int_equal(t->out[0].tos, 0); /* RFC 3168 6.1.5 */
	t_tcp_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_asks_gets_it_and_others_do_not),
		cmocka_unit_test(test_an_active_open_asks_if_it_may),
		cmocka_unit_test(test_a_mark_is_echoed_until_the_peer_has_slowed_down),
		cmocka_unit_test(test_an_echo_shrinks_the_window_once_and_is_answered_with_new_data),
		cmocka_unit_test(test_what_is_sent_again_is_not_capable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
