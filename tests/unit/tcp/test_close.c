/* Ends of connections: FIN in both orders, TIME-WAIT, release, abort, ICMP (RFC 9293 3.6, figure 5; RFC 6191, 1337, 5927). */
#include <stdlib.h>

#include <rte_icmp.h>
#include <rte_ip.h>

#include "tests/unit/tcp/rig.h"

#define US (T_ISN + 1)
#define PEER (T_PEER_ISN + 1)

static uint32_t n_time_wait(struct t_tcp *t)
{
	struct tcp_stats s;

	tcp_stats_get(t->w, &s);
	return s.n_time_wait;
}

static uint32_t n_conns(struct t_tcp *t)
{
	struct tcp_stats s;

	tcp_stats_get(t->w, &s);
	return s.n_conns;
}

static void test_the_peer_closes_first(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER, .ack = US);
	t_expect(t, T_ACK, US, PEER + 1, 0);
	assert_int_equal(c->state, TCP_STATE_CLOSE_WAIT);
	assert_true(t->s->rx_eof);
	t_write(t, "bye", 3);
	t_expect(t, T_ACK, US, PEER + 1, 3);
	stream_shutdown(t->w, t->s);
	t_turn(t);
	t_expect(t, T_FIN | T_ACK, US + 3, PEER + 1, 0);
	assert_int_equal(c->state, TCP_STATE_LAST_ACK);
	t_in(t, .flags = T_ACK, .seq = PEER + 1, .ack = US + 4);
	assert_int_equal(t->n_closed, 1);
	assert_int_equal(t->why, STREAM_END_FIN);
	assert_int_equal(n_conns(t) + n_time_wait(t), 0);
	t_tcp_free(t);
}

static void test_we_close_first_and_wait(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.msl_us = 30000000);
	struct tcp_conn *c = t_accept(t);

	stream_shutdown(t->w, t->s);
	t_turn(t);
	t_expect(t, T_FIN | T_ACK, US, PEER, 0);
	assert_int_equal(c->state, TCP_STATE_FIN_WAIT_1);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 1);
	assert_int_equal(c->state, TCP_STATE_FIN_WAIT_2);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 1, .data = "late", .n_bytes = 4); /* half-close: still taken */
	t_wait(t, T_QUICK_DELACK_US);
	t_expect(t, T_ACK, US + 1, PEER + 4, 0);
	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER + 4, .ack = US + 1);
	t_expect(t, T_ACK, US + 1, PEER + 5, 0);
	assert_int_equal(t->why, STREAM_END_FIN);
	assert_int_equal(n_time_wait(t), 1);
	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER + 4, .ack = US + 1); /* our ACK was lost */
	t_expect(t, T_ACK, US + 1, PEER + 5, 0);
	t_in(t, .flags = T_RST, .seq = PEER + 5); /* RFC 1337 */
	assert_int_equal(n_time_wait(t), 1);
	t_wait(t, 61000000);
	assert_int_equal(n_time_wait(t), 0);
	t_tcp_free(t);
}

static void test_both_close_at_once(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	stream_shutdown(t->w, t->s);
	t_turn(t);
	t_expect(t, T_FIN | T_ACK, US, PEER, 0);
	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER, .ack = US); /* crossed ours: RFC 9293 figure 13 */
	t_expect(t, T_ACK, US + 1, PEER + 1, 0);
	assert_int_equal(c->state, TCP_STATE_CLOSING);
	t_in(t, .flags = T_ACK, .seq = PEER + 1, .ack = US + 1);
	assert_int_equal(n_time_wait(t), 1);
	assert_int_equal(t->why, STREAM_END_FIN);
	t_tcp_free(t);
}

static void test_a_fin_behind_a_hole_waits_for_it(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER + 3, .ack = US, .data = "def", .n_bytes = 3);
	assert_false(t->s->rx_eof);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "abc", .n_bytes = 3);
	assert_true(t->s->rx_eof);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = PEER + 7, .ack = US, .data = "more", .n_bytes = 4); /* behind the FIN: nobody sends that */
	assert_int_equal(t_reason(t->w, TCP, AFTER_FIN) + t_reason(t->w, TCP, OUT_OF_WINDOW), 1);
	t_tcp_free(t);
}

static void test_bytes_that_came_from_behind_the_fin_are_let_go_with_it(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	t_in(t, .flags = T_ACK, .seq = PEER + 3, .ack = US, .data = "liar", .n_bytes = 4);
	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER, .ack = US); /* an end before them */
	assert_true(t->s->rx_eof);
	assert_int_equal(tcp_ooo_ranges(c), 0);
	t_tcp_free(t);
}

static void test_closed_waits_until_the_user_has_read_all(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t->consume = false;
	(void)t_accept(t);
	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER, .ack = US, .data = "abc", .n_bytes = 3);
	stream_shutdown(t->w, t->s);
	t_turn(t);
	t_in(t, .flags = T_ACK, .seq = PEER + 4, .ack = US + 1);
	assert_int_equal(t->n_closed, 0);
	stream_consume(t->w, t->s, 3);
	t_turn(t);
	assert_int_equal(t->n_closed, 1);
	t_tcp_free(t);
}

static void test_a_released_stream_closes_in_order_on_its_own(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_write(t, "answer", 6);
	stream_release(t->w, t->s);
	t->s = NULL;
	t_turn(t);
	t_expect(t, T_ACK, US, PEER, 6);
	t_expect(t, T_FIN | T_ACK, US + 6, PEER, 0);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 7, .data = "late", .n_bytes = 4); /* acknowledged and forgotten */
	t_expect(t, T_ACK, US + 7, PEER + 4, 0);
	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER + 4, .ack = US + 7);
	t_expect(t, T_ACK, US + 7, PEER + 5, 0);
	assert_int_equal(t->n_closed, 0); /* no callback after release */
	assert_int_equal(n_time_wait(t), 1);
	assert_int_equal(n_conns(t), 0);
	t_tcp_free(t);
}

static void test_a_released_stream_does_not_wait_for_ever(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	stream_release(t->w, t->s);
	t_turn(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 1);
	t_forget(t);
	t_wait(t, 130000000);
	assert_int_equal(n_conns(t), 0);
	t_expect(t, T_RST | T_ACK, US + 1, PEER, 0);
	t_tcp_free(t);
}

static void test_it_waits_less_where_connections_run_short(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	tcp_shrink(t->w); /* in use: none of its business */
	stream_release(t->w, t->s);
	t_turn(t);
	t_forget(t);
	t_wait(t, 600000);
	t_forget(t);
	tcp_shrink(t->w); /* the peer may not have all of it */
	assert_int_equal(n_conns(t), 1);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 1);
	tcp_shrink(t->w);
	assert_int_equal(n_conns(t), 1);
	t_wait(t, 600000);
	tcp_shrink(t->w);
	t_turn(t);
	assert_int_equal(n_conns(t), 0);
	assert_int_equal(t_reason(t->w, TCP, LINGER_CUT), 1);
	t_expect(t, T_RST | T_ACK, US + 1, PEER, 0);
	t_tcp_free(t);
}

static void test_an_abort_resets_and_tells_nobody(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_write_n(t, 100);
	t_forget(t);
	stream_abort(t->w, t->s);
	t_turn(t);
	t_expect(t, T_RST | T_ACK, US + 100, PEER, 0);
	assert_int_equal(t->n_closed, 0);
	assert_int_equal(n_conns(t), 0);
	t_tcp_free(t);
}

static void test_writes_after_shutdown_are_freed_and_counted(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	stream_shutdown(t->w, t->s);
	t_write(t, "x", 1);
	t_expect(t, T_FIN | T_ACK, US, PEER, 0);
	assert_int_equal(t_reason(t->w, TCP, WRITE_AFTER_SHUTDOWN), 1);
	t_tcp_free(t);
}

static void time_wait(struct t_tcp *t, bool with_ts)
{
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .has_ts = with_ts, .ts_val = 1000};

	(void)t_accept_with(t, &opt, 65535);
	stream_shutdown(t->w, t->s);
	t_turn(t);
	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER, .ack = US + 1, .opt = {.has_ts = with_ts, .ts_val = 1002});
	assert_int_equal(n_time_wait(t), 1);
	t_forget(t);
}

static void test_a_new_syn_takes_over_a_waiting_connection_if_it_is_newer(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	time_wait(t, false);
	t_in(t, .flags = T_SYN, .seq = PEER - 100); /* old: answered, kept */
	t_expect(t, T_ACK, US + 1, PEER + 1, 0);
	assert_int_equal(n_time_wait(t), 1);
	t_in(t, .flags = T_SYN, .seq = PEER + 5000);
	struct t_seg g = t_out(t);
	assert_int_equal(g.flags, T_SYN | T_ACK);
	assert_true(seq_gt(g.seq, US + 1)); /* RFC 6191 2 */
	assert_int_equal(n_time_wait(t), 0);
	t_tcp_free(t);
}

static void test_a_newer_timestamp_makes_a_syn_newer(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	time_wait(t, true);
	t_in(t, .flags = T_SYN, .seq = PEER - 100000, .opt = {.has_ts = true, .ts_val = 900});
	assert_int_equal(n_time_wait(t), 1);
	t_forget(t);
	t_in(t, .flags = T_SYN, .seq = PEER - 100000, .opt = {.has_ts = true, .ts_val = 1003});
	assert_int_equal(t_out(t).flags, T_SYN | T_ACK);
	assert_int_equal(n_time_wait(t), 0);
	t_tcp_free(t);
}

static void test_a_full_time_wait_table_gives_its_oldest_away(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.time_wait_max = 1);

	for (uint16_t i = 0; i < 3; i++) {
		t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .peer_port = (uint16_t)(5000 + i));
		t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .peer_port = (uint16_t)(5000 + i));
		stream_shutdown(t->w, t->s);
		t_turn(t);
		t_in(t, .flags = T_FIN | T_ACK, .seq = PEER, .ack = US + 1, .peer_port = (uint16_t)(5000 + i));
	}
	assert_int_equal(n_time_wait(t), 1);
	assert_int_equal(t_reason(t->w, TCP, TW_RECYCLED), 2);
	t_tcp_free(t);
}

/* An ICMP error of type and code about the segment of ours at seq. */
static void icmp_about(struct t_tcp *t, uint8_t type, uint8_t code, uint16_t mtu, uint32_t seq)
{
	uint8_t f[14 + 20 + 8 + 20 + 8] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
	struct rte_ipv4_hdr *ip = (void *)(f + 14), *quoted = (void *)(f + 42);
	uint8_t *icmp = f + 34;

	*ip = (struct rte_ipv4_hdr){.version_ihl = 0x45, .total_length = rte_cpu_to_be_16(56), .time_to_live = 64, .next_proto_id = 1,
				    .src_addr = rte_cpu_to_be_32(0xc61200fe), .dst_addr = rte_cpu_to_be_32(0xc6120001)};
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	icmp[0] = type;
	icmp[1] = code;
	icmp[6] = (uint8_t)(mtu >> 8);
	icmp[7] = (uint8_t)mtu;
	*quoted = (struct rte_ipv4_hdr){.version_ihl = 0x45, .total_length = rte_cpu_to_be_16(1500), .time_to_live = 60, .next_proto_id = 6,
					.src_addr = rte_cpu_to_be_32(0xc6120001), .dst_addr = rte_cpu_to_be_32(0xc6120002)};
	quoted->hdr_checksum = rte_ipv4_cksum(quoted);
	uint16_t port = t->s ? t->s->local.port : T_PORT;
	f[62] = (uint8_t)(port >> 8);
	f[63] = (uint8_t)port;
	f[64] = T_PEER_PORT >> 8;
	f[65] = T_PEER_PORT & 255;
	rte_be32_t number = rte_cpu_to_be_32(seq);
	memcpy(f + 66, &number, 4);
	uint16_t sum = (uint16_t)~rte_raw_cksum(icmp, 36);
	memcpy(icmp + 2, &sum, 2);
	struct rte_mbuf *m = t_mbuf(t->w, f, sizeof(f));
	net_input_burst(t->w, &t->port, &m, 1);
	t_turn(t);
}

static void test_too_big_lowers_the_segment_size_and_sends_again(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	t_write_n(t, 2920);
	t_forget(t);
	icmp_about(t, 3, 4, 1000, US + 9999); /* a number that is not in flight: RFC 5927 4.1 */
	assert_int_equal(c->mss_bytes, 1460);
	icmp_about(t, 3, 4, 1000, US);
	assert_int_equal(c->mss_bytes, 960);
	t_expect(t, T_ACK, US, PEER, 960);
	t_expect(t, T_ACK, US + 960, PEER, 500);
	t_expect(t, T_ACK, US + 1460, PEER, 960);
	t_expect(t, T_ACK, US + 2420, PEER, 500);
	icmp_about(t, 3, 4, 68, US); /* an attack's: not below the floor */
	assert_int_equal(c->mss_bytes, 552 - 40);
	t_tcp_free(t);
}

static void test_unreachable_is_soft_for_an_established_connection(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_write_n(t, 10);
	icmp_about(t, 3, 1, 0, US);
	assert_int_equal(t->n_closed, 0);
	assert_int_equal(t_reason(t->w, TCP, ICMP_SOFT), 1);
	t_tcp_free(t);
}

static void test_port_unreachable_ends_an_open(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_connect_params p = {.remote_port = T_PEER_PORT, .local_port = 5000};

	assert_int_equal(net_addr_parse("198.18.0.2", &p.remote), 0);
	assert_int_equal(tcp_connect(t->w, &p, &t->s), 0);
	t_turn(t);
	icmp_about(t, 3, 3, 0, T_ISN);
	assert_int_equal(n_conns(t), 0);
	t_tcp_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_peer_closes_first),
		cmocka_unit_test(test_we_close_first_and_wait),
		cmocka_unit_test(test_both_close_at_once),
		cmocka_unit_test(test_a_fin_behind_a_hole_waits_for_it),
		cmocka_unit_test(test_bytes_that_came_from_behind_the_fin_are_let_go_with_it),
		cmocka_unit_test(test_closed_waits_until_the_user_has_read_all),
		cmocka_unit_test(test_a_released_stream_closes_in_order_on_its_own),
		cmocka_unit_test(test_it_waits_less_where_connections_run_short),
		cmocka_unit_test(test_a_released_stream_does_not_wait_for_ever),
		cmocka_unit_test(test_an_abort_resets_and_tells_nobody),
		cmocka_unit_test(test_writes_after_shutdown_are_freed_and_counted),
		cmocka_unit_test(test_a_new_syn_takes_over_a_waiting_connection_if_it_is_newer),
		cmocka_unit_test(test_a_newer_timestamp_makes_a_syn_newer),
		cmocka_unit_test(test_a_full_time_wait_table_gives_its_oldest_away),
		cmocka_unit_test(test_too_big_lowers_the_segment_size_and_sends_again),
		cmocka_unit_test(test_unreachable_is_soft_for_an_established_connection),
		cmocka_unit_test(test_port_unreachable_ends_an_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
