/* Several segments in one packet for a port that cuts them (output.c): what reaches the wire is what separate segments would have been. */
#include "tests/unit/tcp/rig.h"

#define US (T_ISN + 1)
#define PEER (T_PEER_ISN + 1)
#define MSS 1460u

static struct t_tcp *cutting(void)
{
	struct t_tcp *t = t_tcp_fixed();

	t->port.tso = t->port.tx_cksum_ip = t->port.tx_cksum_l4 = true;
	return t;
}

static struct tcp_conn *accept_on(struct t_tcp *t)
{
	struct tcp_conn *c = t_accept(t);

	c->dst.generation = 0; /* the port is asked what it can */
	t_write(t, "x", 1);
	t_expect(t, T_ACK, US, PEER, 1);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 1);
	assert_true(c->dst.tso);
	t->n_packets_out = 0;
	return c;
}

/* Without a turn; pieces of piece_bytes, 0: as large as mbufs are. */
static void write_only(struct t_tcp *t, uint32_t n_bytes, uint32_t piece_bytes)
{
	static const uint8_t zeros[4 * MSS];
	struct foil_chain chain = {0};

	t_chain(t->w, &chain, zeros, n_bytes, piece_bytes);
	stream_write(t->w, t->s, &chain);
}

static void ack(struct t_tcp *t, uint32_t n_bytes, uint16_t wnd)
{
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + n_bytes, .wnd = wnd, .no_wnd = true);
}

static void test_a_window_goes_in_one_packet(void **state)
{
	struct t_tcp *t = cutting();
	struct tcp_conn *c = accept_on(t);

	t_write_n(t, 40 * MSS);
	assert_int_equal(t->n_packets_out, 1);
	uint32_t n = t->n_out;
	assert_true(n >= 10);
	assert_true(n * MSS <= c->cwnd && c->cwnd < (n + 1) * MSS);
	for (uint32_t i = 0; i < n; i++)
		t_expect(t, T_ACK, US + 1 + i * MSS, PEER, MSS);
	ack(t, 1 + 2 * MSS, 65535);
	assert_true(t->n_out >= 2);
	t_tcp_free(t);
}

static void test_the_last_bytes_and_the_fin_ride_along(void **state)
{
	struct t_tcp *t = cutting();

	(void)accept_on(t);
	t_write_n(t, 3 * MSS + 7);
	assert_int_equal(t->n_packets_out, 1);
	for (uint32_t i = 0; i < 3; i++)
		assert_false(t_expect(t, T_ACK, US + 1 + i * MSS, PEER, MSS).flags & T_PSH);
	assert_true(t_expect(t, T_ACK, US + 1 + 3 * MSS, PEER, 7).flags & T_PSH);
	ack(t, 1 + 3 * MSS + 7, 65535);
	t->n_packets_out = 0;
	write_only(t, 2 * MSS + 1, 0);
	stream_shutdown(t->w, t->s);
	t_turn(t);
	assert_int_equal(t->n_packets_out, 1);
	for (uint32_t i = 0; i < 2; i++)
		assert_false(t_expect(t, T_ACK, US + 1 + (3 + i) * MSS + 7, PEER, MSS).flags & T_FIN);
	assert_true(t_expect(t, T_ACK | T_FIN, US + 1 + 5 * MSS + 7, PEER, 1).flags & T_FIN);
	t_tcp_free(t);
}

static void test_a_lost_piece_goes_alone(void **state)
{
	struct t_tcp *t = cutting();

	(void)accept_on(t);
	t_write_n(t, 8 * MSS);
	assert_int_equal(t->n_packets_out, 1);
	t_forget(t);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 1, .opt = {.n_sack = 1, .sack = {{US + 1 + MSS, US + 1 + 8 * MSS}}});
	t_expect(t, T_ACK, US + 1, PEER, MSS);
	t_silent(t);
	ack(t, 1 + 8 * MSS, 65535);
	assert_int_equal(t->s->tx_queued_bytes, 0);
	t_tcp_free(t);
}

static void test_the_peers_window_bounds_a_train(void **state)
{
	struct t_tcp *t = cutting();
	struct tcp_options opt = {.has_mss = true, .mss_bytes = MSS};
	struct tcp_conn *c = t_accept_with(t, &opt, 3 * MSS + 100);

	assert_true(net_dst_lookup(t->w, tcp_addr(&tcp_conn_key(c)->remote), &c->dst) && c->dst.tso);
	t->n_packets_out = 0;
	t_write_n(t, 8 * MSS);
	assert_int_equal(t->n_packets_out, 1);
	assert_int_equal(t->n_out, 3);
	t_tcp_free(t);
}

static void test_a_train_ends_before_small_pieces(void **state)
{
	struct t_tcp *t = cutting();

	(void)accept_on(t);
	write_only(t, 3 * MSS, MSS);
	write_only(t, 2 * MSS, 100);
	t_turn(t);
	assert_int_equal(t->n_packets_out, 3); /* three together, then one by one */
	assert_int_equal(t->n_out, 5);
	t_tcp_free(t);
}

static void test_crumbs_go_as_segments(void **state)
{
	struct t_tcp *t = cutting();

	(void)accept_on(t);
	for (uint32_t i = 0; i < 3 * MSS / 20; i++)
		write_only(t, 20, 20);
	t_turn(t);
	assert_int_equal(t->n_out, 3);
	t_tcp_free(t);
}

static void test_without_memory_nothing_is_half_sent(void **state)
{
	struct t_tcp *t = cutting();
	struct tcp_conn *c = accept_on(t);
	uint32_t nxt = c->snd_nxt;

	t_pool_drain(t->w->indirect_pool, 2);
	t_write_n(t, 8 * MSS);
	assert_int_equal(t->n_out, 0);
	assert_int_equal(c->snd_nxt, nxt);
	t_check(t);
	t_pool_refill(t->w->indirect_pool);
	t_wait(t, 1000000);
	assert_true(t->n_out >= 8);
	t_expect(t, T_ACK, US + 1, PEER, MSS);
	t_tcp_free(t);
}

static void test_a_window_that_the_way_does_not_take_comes_back_smaller(void **state)
{
	struct t_tcp *t = cutting();
	struct tcp_conn *c = accept_on(t);

	t->port.mtu = 1200; /* as if the way had changed below us: no frame may leave that the link does not take */
	t_write_n(t, 8 * MSS);
	for (uint32_t i = 0; i < t->n_out; i++)
		assert_true(t->out[i].n_bytes <= 1160);
	assert_true(c->snd_nxt != US + 1);
	t_tcp_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_window_goes_in_one_packet),
		cmocka_unit_test(test_the_last_bytes_and_the_fin_ride_along),
		cmocka_unit_test(test_a_lost_piece_goes_alone),
		cmocka_unit_test(test_the_peers_window_bounds_a_train),
		cmocka_unit_test(test_a_train_ends_before_small_pieces),
		cmocka_unit_test(test_crumbs_go_as_segments),
		cmocka_unit_test(test_without_memory_nothing_is_half_sent),
		cmocka_unit_test(test_a_window_that_the_way_does_not_take_comes_back_smaller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
