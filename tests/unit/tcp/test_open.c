/* Opening: listen.c, syn.c, connect.c, syncookie.c (RFC 9293 3.5, 3.10.7.1 to 3.10.7.3; RFC 4987). */
#include <errno.h>

#include "tests/unit/tcp/rig.h"

static const struct tcp_options linux_syn = {.has_mss = true, .mss_bytes = 1460, .sack_permitted = true, .has_ts = true, .ts_val = 100,
					     .has_wscale = true, .wscale = 7};

static void test_a_syn_is_answered_with_what_it_offered(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .opt = linux_syn);
	struct t_seg g = t_expect(t, T_SYN | T_ACK, T_ISN, T_PEER_ISN + 1, 0);
	assert_true(g.opt.has_mss && g.opt.mss_bytes == 1460 && g.opt.sack_permitted && g.opt.has_wscale && g.opt.has_ts);
	assert_int_equal(g.opt.ts_ecr, 100);
	assert_int_equal(g.wnd, 65535);
	t_in(t, .flags = T_SYN, .seq = 77, .peer_port = 4001);
	g = t_expect(t, T_SYN | T_ACK, T_ISN, 78, 0);
	assert_true(g.opt.has_mss && !g.opt.sack_permitted && !g.opt.has_wscale && !g.opt.has_ts);
	t_tcp_free(t);
}

static void test_the_third_segment_makes_the_connection_and_its_data_is_taken(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	t_forget(t);
	assert_int_equal(t->n_accepted, 0);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = T_ISN + 1, .data = "hello", .n_bytes = 5);
	assert_int_equal(t->n_accepted, 1);
	assert_int_equal(t->n_readable, 1);
	t_wait(t, T_QUICK_DELACK_US);
	t_expect(t, T_ACK, T_ISN + 1, T_PEER_ISN + 6, 0);
	assert_true(t->s->is_open);
	t_tcp_free(t);
}

static void test_a_lost_syn_ack_is_sent_again_until_it_is_given_up(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_stats s;

	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	t_forget(t);
	uint64_t wait_us = 1000000;
	for (int i = 0; i < 5; i++, wait_us *= 2) {
		t_wait(t, wait_us + 1000);
		t_expect(t, T_SYN | T_ACK, T_ISN, T_PEER_ISN + 1, 0);
		t_silent(t);
	}
	t_wait(t, wait_us + 1000);
	t_silent(t);
	tcp_stats_get(t->w, &s);
	assert_int_equal(s.n_half_open, 0);
	assert_int_equal(t_reason(t->w, TCP, SYN_ACK_TIMEOUT), 1);
	t_tcp_free(t);
}

static void test_the_same_syn_again_gets_the_same_answer(void **state)
{
	struct t_tcp *t = t_tcp();

	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	struct t_seg a = t_out(t);
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	struct t_seg b = t_out(t);
	assert_int_equal(a.seq, b.seq);
	t_tcp_free(t);
}

static void test_a_port_without_a_listener_is_refused(void **state)
{
	struct t_tcp *t = t_tcp();

	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .port = 81);
	t_expect(t, T_RST | T_ACK, 0, T_PEER_ISN + 1, 0); /* RFC 9293 3.5.2 group 1 */
	t_in(t, .flags = T_ACK, .seq = 7, .ack = 1234, .port = 81);
	t_expect(t, T_RST, 1234, 0, 0);
	t_in(t, .flags = T_RST, .seq = 7, .port = 81);
	t_silent(t);
	t_in(t, .flags = T_FIN, .seq = 7, .port = 81, .data = "xy", .n_bytes = 2);
	t_expect(t, T_RST | T_ACK, 0, 10, 0);
	t_tcp_free(t);
}

static void test_answers_to_nobody_are_limited(void **state)
{
	struct t_tcp *t = t_tcp();

	for (uint32_t i = 0; i < TCP_ANSWERS_PER_SECOND + 10; i++) {
		t_in(t, .flags = T_SYN, .seq = i, .port = 81);
		t_forget(t);
	}
	assert_int_equal(t_counter(t->w, TCP, RSTS_TX), TCP_ANSWERS_PER_SECOND);
	assert_int_equal(t_reason(t->w, TCP, ANSWER_LIMITED), 10);
	t_wait(t, 1000000);
	t_in(t, .flags = T_SYN, .seq = 1, .port = 81);
	t_expect(t, T_RST | T_ACK, 0, 2, 0);
	t_tcp_free(t);
}

static void test_a_reset_of_the_exact_number_ends_a_half_open_one(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_stats s;

	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	t_in(t, .flags = T_RST, .seq = T_PEER_ISN + 2);
	tcp_stats_get(t->w, &s);
	assert_int_equal(s.n_half_open, 1);
	t_in(t, .flags = T_RST, .seq = T_PEER_ISN + 1);
	tcp_stats_get(t->w, &s);
	assert_int_equal(s.n_half_open, 0);
	t_tcp_free(t);
}

static void test_a_wrong_ack_of_our_syn_is_reset_and_the_right_one_still_works(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = T_ISN + 2);
	t_expect(t, T_RST, T_ISN + 2, 0, 0);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = T_ISN + 1);
	assert_int_equal(t->n_accepted, 1);
	t_tcp_free(t);
}

static void test_a_listener_that_says_no_resets(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t->refuse = true;
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = T_ISN + 1);
	t_expect(t, T_RST | T_ACK, T_ISN + 1, T_PEER_ISN + 1, 0);
	assert_int_equal(t_reason(t->w, TCP, LISTENER_REFUSED), 1);
	t_tcp_free(t);
}

static void test_a_full_backlog_answers_with_cookies_that_keep_the_options(void **state)
{
	struct t_tcp *t = t_tcp(.syn_backlog_max = 4);

	for (uint16_t i = 0; i < 4; i++)
		t_in(t, .flags = T_SYN, .seq = i, .peer_port = (uint16_t)(5000 + i));
	t_forget(t);
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .opt = linux_syn);
	struct t_seg g = t_out(t);
	assert_int_equal(g.flags, T_SYN | T_ACK);
	assert_int_equal(t_reason(t->w, TCP, SYN_COOKIE_SENT), 1);
	struct tcp_options rest = {.has_ts = true, .ts_val = 101, .ts_ecr = g.opt.ts_val};
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = g.seq + 1, .wnd = 512, .opt = rest, .data = "x", .n_bytes = 1);
	assert_int_equal(t->n_accepted, 1);
	const struct tcp_conn *c = tcp_conn_of(t->s);
	assert_true(c->has_ts && c->has_sack && c->has_wscale);
	assert_int_equal(c->snd_wscale, 7);
	assert_int_equal(c->mss_bytes, 1460);
	assert_int_equal(c->snd_wnd, 512 << 7);
	t_wait(t, T_QUICK_DELACK_US);
	struct t_seg a = t_out(t);
	assert_true(seq_geq(a.opt.ts_val, g.opt.ts_val)); /* or the peer's PAWS would drop it */
	t_tcp_free(t);
}

static void test_a_cookie_without_timestamps_keeps_the_mss_class(void **state)
{
	struct t_tcp *t = t_tcp(.syn_backlog_max = 1);
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1400, .sack_permitted = true, .has_wscale = true, .wscale = 7};

	t_in(t, .flags = T_SYN, .seq = 1, .peer_port = 5000);
	t_forget(t);
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .opt = opt);
	struct t_seg g = t_out(t);
	assert_true(!g.opt.has_wscale && !g.opt.sack_permitted);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = g.seq + 1);
	assert_int_equal(t->n_accepted, 1);
	assert_int_equal(tcp_conn_of(t->s)->mss_bytes, 1360);
	t_tcp_free(t);
}

static void test_a_forged_or_old_cookie_is_reset(void **state)
{
	struct t_tcp *t = t_tcp(.syn_backlog_max = 1);

	t_in(t, .flags = T_SYN, .seq = 1, .peer_port = 5000);
	t_forget(t);
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	struct t_seg g = t_out(t);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = g.seq + 9);
	t_expect(t, T_RST, g.seq + 9, 0, 0);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = g.seq + 1, .peer_port = 4001);
	t_expect(t, T_RST, g.seq + 1, 0, 0);
	t_wait(t, 200000000);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = g.seq + 1);
	t_expect(t, T_RST, g.seq + 1, 0, 0);
	assert_int_equal(t->n_accepted, 0);
	t_tcp_free(t);
}

static void test_no_cookie_is_believed_that_was_not_sent_lately(void **state)
{
	struct t_tcp *t = t_tcp(.syn_backlog_max = 1);

	t_in(t, .flags = T_SYN, .seq = 1, .peer_port = 5000);
	t_forget(t);
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	struct t_seg g = t_out(t);
	t->w->tcp->cookie_sent_us = 0; /* as if none had gone out: an attacker's guess has nothing to hit */
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = g.seq + 1);
	t_expect(t, T_RST, g.seq + 1, 0, 0);
	assert_int_equal(t->n_accepted, 0);
	t_tcp_free(t);
}

static void test_a_connection_table_that_is_full_refuses_and_harms_nobody(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.conns_max = 1);

	(void)t_accept(t);
	t_in(t, .flags = T_SYN, .seq = 1, .peer_port = 5000);
	t_silent(t);
	assert_int_equal(t_reason(t->w, TCP, CONNS_EXHAUSTED), 1);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = T_ISN + 1, .data = "x", .n_bytes = 1);
	t_wait(t, T_QUICK_DELACK_US);
	t_expect(t, T_ACK, T_ISN + 1, T_PEER_ISN + 2, 0);
	t_tcp_free(t);
}

static void test_an_overloaded_worker_drops_syns(void **state)
{
	struct t_tcp *t = t_tcp();

	t->w->overload = FOIL_OVERLOAD_STOP_CONNECTIONS;
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	t_silent(t);
	assert_int_equal(t_reason(t->w, TCP, OVERLOADED), 1);
	t->w->overload = (uint8_t)~FOIL_OVERLOAD_STOP_CONNECTIONS; /* the others do not concern it */
	(void)t_accept(t);
	t_tcp_free(t);
	(void)state;
}

static void test_without_mbufs_to_spare_new_connections_are_refused(void **state)
{
	struct t_tcp *t = t_tcp();

	t_pool_drain(t->w->mbuf_pool, 100);
	t_wait(t, 2000);
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	t_silent(t);
	assert_int_equal(t_reason(t->w, TCP, MEMORY), 1);
	t_pool_refill(t->w->mbuf_pool);
	t_wait(t, 2000);
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	assert_int_equal(t_out(t).flags, T_SYN | T_ACK);
	t_tcp_free(t);
}

static void test_an_active_open_offers_all_and_takes_what_is_answered(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_open(t);

	assert_true(c->has_sack && c->has_wscale && !c->has_ts);
	assert_int_equal(c->state, TCP_STATE_ESTABLISHED);
	assert_int_equal(t->n_closed, 0);
	t_tcp_free(t);
}

static void connect_to_peer(struct t_tcp *t)
{
	struct tcp_connect_params p = {.remote_port = T_PEER_PORT, .local_port = 5000};

	assert_int_equal(net_addr_parse("198.18.0.2", &p.remote), 0);
	p.user = NULL;
	assert_int_equal(tcp_connect(t->w, &p, &t->s), 0);
	t_turn(t);
}

static void test_a_syn_that_is_refused_ends_the_open(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	connect_to_peer(t);
	t_expect(t, T_SYN, T_ISN, 0, 0);
	t_in(t, .flags = T_RST, .seq = 0, .port = 5000); /* acknowledges nothing: anybody could send it */
	assert_int_equal(t_reason(t->w, TCP, RST_UNACCEPTABLE), 1);
	t_in(t, .flags = T_RST | T_ACK, .seq = 0, .ack = T_ISN + 1, .port = 5000);
	assert_int_equal(t_reason(t->w, TCP, REFUSED), 1);
	struct tcp_stats s;
	tcp_stats_get(t->w, &s);
	assert_int_equal(s.n_conns, 0);
	t_tcp_free(t);
}

static void test_a_syn_without_answer_is_sent_again_and_given_up(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.connect_timeout_us = 10000000);
	struct tcp_stats s;

	connect_to_peer(t);
	t_forget(t);
	t_wait(t, 1001000);
	t_expect(t, T_SYN, T_ISN, 0, 0);
	t_wait(t, 2001000);
	t_expect(t, T_SYN, T_ISN, 0, 0);
	t_wait(t, 8000000);
	tcp_stats_get(t->w, &s);
	assert_int_equal(s.n_conns, 0);
	assert_int_equal(t_reason(t->w, TCP, CONNECT_TIMEOUT), 1);
	t_tcp_free(t);
}

static void test_an_ack_of_something_else_in_syn_sent_is_reset(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	connect_to_peer(t);
	t_forget(t);
	t_in(t, .flags = T_SYN | T_ACK, .seq = T_PEER_ISN, .ack = T_ISN + 5, .port = 5000);
	t_expect(t, T_RST, T_ISN + 5, 0, 0);
	t_in(t, .flags = T_SYN | T_ACK, .seq = T_PEER_ISN, .ack = T_ISN + 1, .port = 5000);
	t_expect(t, T_ACK, T_ISN + 1, T_PEER_ISN + 1, 0);
	t_tcp_free(t);
}

static void test_both_open_at_once(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	connect_to_peer(t);
	t_expect(t, T_SYN, T_ISN, 0, 0);
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .port = 5000); /* RFC 9293 figure 8 */
	t_expect(t, T_SYN | T_ACK, T_ISN, T_PEER_ISN + 1, 0);
	assert_false(t->s->is_open);
	t_in(t, .flags = T_SYN | T_ACK, .seq = T_PEER_ISN, .ack = T_ISN + 1, .port = 5000);
	assert_true(t->s->is_open);
	t_tcp_free(t);
}

static void test_data_in_a_syn_ack_is_taken(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	connect_to_peer(t);
	t_forget(t);
	t_in(t, .flags = T_SYN | T_ACK, .seq = T_PEER_ISN, .ack = T_ISN + 1, .port = 5000, .data = "hi", .n_bytes = 2);
	t_expect(t, T_ACK, T_ISN + 1, T_PEER_ISN + 3, 0);
	assert_int_equal(t->s->rx.n_bytes, 2);
	t_tcp_free(t);
}

static void test_listening_twice_at_one_place_is_refused(void **state)
{
	struct t_tcp *t = t_tcp();
	struct tcp_listen_params p = {.port = T_PORT};
	struct tcp_listener *l;

	assert_int_equal(tcp_listen(t->w, &p, &l), -EADDRINUSE);
	assert_int_equal(net_addr_parse("198.18.0.1", &p.addr), 0);
	assert_int_equal(tcp_listen(t->w, &p, &l), 0); /* a narrower one may stand beside the wide one, and wins */
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	struct t_seg g = t_out(t);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = g.seq + 1);
	assert_int_equal(t->n_accepted, 0);
	tcp_unlisten(t->w, l);
	t_tcp_free(t);
}

static void test_the_listener_for_every_port_has_those_of_captured_addresses_that_nobody_has(void **state)
{
	struct t_tcp *t = t_tcp();
	struct tcp_listen_params p = {.port = 0};
	struct tcp_listener *rest;

	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .port = 8443, .captured = true);
	assert_true(t_out(t).flags & T_RST); /* nobody has it */
	assert_int_equal(tcp_listen(t->w, &p, &rest), 0);
	assert_int_equal(tcp_listen(t->w, &p, &rest), -EADDRINUSE);
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .port = 8443, .captured = true);
	struct t_seg g = t_out(t);
	assert_int_equal(g.flags, T_SYN | T_ACK);
	assert_int_equal(g.port, 8443);
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .port = 8444);
	assert_true(t_out(t).flags & T_RST); /* an address of our own */
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .port = T_PORT, .captured = true, .peer_port = 4001);
	g = t_out(t);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = g.seq + 1, .port = T_PORT, .captured = true, .peer_port = 4001);
	assert_int_equal(t->n_accepted, 1); /* the port's own listener goes before it */
	tcp_unlisten(t->w, rest);
	t_turn(t);
	assert_true(t_out(t).flags & T_RST); /* what was half-open */
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .port = 8445, .captured = true);
	assert_true(t_out(t).flags & T_RST);
	t_tcp_free(t);
}

static void test_unlisten_resets_the_half_open_and_spares_the_established(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_in(t, .flags = T_SYN, .seq = 1, .peer_port = 5001);
	t_forget(t);
	tcp_unlisten(t->w, t->listener);
	t_turn(t);
	t_expect(t, T_RST, T_ISN + 1, 0, 0);
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = T_ISN + 1, .data = "x", .n_bytes = 1);
	t_wait(t, T_QUICK_DELACK_US);
	t_expect(t, T_ACK, T_ISN + 1, T_PEER_ISN + 2, 0);
	t_tcp_free(t);
}

static void test_ipv6_opens_alike(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t->v6 = true;
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .opt = linux_syn);
	struct t_seg g = t_expect(t, T_SYN | T_ACK, T_ISN, T_PEER_ISN + 1, 0);
	assert_int_equal(g.opt.mss_bytes, 1440);
	assert_true(g.v6);
	t_tcp_free(t);
}

static void test_a_silly_mss_is_not_followed_below_the_floor(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1};
	struct tcp_conn *c = t_accept_with(t, &opt, 65535);

	assert_int_equal(c->mss_bytes, TCP_MSS_MIN);
	t_tcp_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_syn_is_answered_with_what_it_offered),
		cmocka_unit_test(test_the_third_segment_makes_the_connection_and_its_data_is_taken),
		cmocka_unit_test(test_a_lost_syn_ack_is_sent_again_until_it_is_given_up),
		cmocka_unit_test(test_the_same_syn_again_gets_the_same_answer),
		cmocka_unit_test(test_a_port_without_a_listener_is_refused),
		cmocka_unit_test(test_answers_to_nobody_are_limited),
		cmocka_unit_test(test_a_reset_of_the_exact_number_ends_a_half_open_one),
		cmocka_unit_test(test_a_wrong_ack_of_our_syn_is_reset_and_the_right_one_still_works),
		cmocka_unit_test(test_a_listener_that_says_no_resets),
		cmocka_unit_test(test_a_full_backlog_answers_with_cookies_that_keep_the_options),
		cmocka_unit_test(test_a_cookie_without_timestamps_keeps_the_mss_class),
		cmocka_unit_test(test_a_forged_or_old_cookie_is_reset),
		cmocka_unit_test(test_no_cookie_is_believed_that_was_not_sent_lately),
		cmocka_unit_test(test_a_connection_table_that_is_full_refuses_and_harms_nobody),
		cmocka_unit_test(test_an_overloaded_worker_drops_syns),
		cmocka_unit_test(test_without_mbufs_to_spare_new_connections_are_refused),
		cmocka_unit_test(test_an_active_open_offers_all_and_takes_what_is_answered),
		cmocka_unit_test(test_a_syn_that_is_refused_ends_the_open),
		cmocka_unit_test(test_a_syn_without_answer_is_sent_again_and_given_up),
		cmocka_unit_test(test_an_ack_of_something_else_in_syn_sent_is_reset),
		cmocka_unit_test(test_both_open_at_once),
		cmocka_unit_test(test_data_in_a_syn_ack_is_taken),
		cmocka_unit_test(test_listening_twice_at_one_place_is_refused),
		cmocka_unit_test(test_the_listener_for_every_port_has_those_of_captured_addresses_that_nobody_has),
		cmocka_unit_test(test_unlisten_resets_the_half_open_and_spares_the_established),
		cmocka_unit_test(test_ipv6_opens_alike),
		cmocka_unit_test(test_a_silly_mss_is_not_followed_below_the_floor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
