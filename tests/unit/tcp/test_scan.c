/* scan.c: every connection is told once, whatever kind it is, and as a filter asks; the figures are the connection's. */
#include "dataplane/tcp/scan.h"
#include "tests/unit/tcp/rig.h"

/* All that the scan tells, in one table; fails when it needs more than n_max. */
static uint32_t scan_all(struct t_tcp *t, struct tcp_scan *s, struct tcp_conn_info *out, uint32_t n_max)
{
	uint32_t n = 0;

	s->at = s->n_infos = 0;
	s->is_done = false;
	while (!s->is_done) {
		s->owner = tcp_scan_owner(t->w->id);
		while (s->owner != TCP_SCAN_HOUSE)
			tcp_scan_turn(t->w, s);
		assert_true(n + s->n_infos <= n_max);
		memcpy(out + n, s->infos, s->n_infos * sizeof(*out));
		n += s->n_infos;
		s->n_infos = 0;
	}
	return n;
}

static void test_a_connection_is_told_with_its_figures(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_scan *s = test_calloc(1, sizeof(*s));
	struct tcp_conn_info i[4];
	struct tcp_conn *c = t_accept(t);

	t_write_n(t, 5000);
	assert_int_equal(scan_all(t, s, i, 4), 1);
	assert_string_equal(i[0].state, "ESTABLISHED");
	assert_int_equal(i[0].local_port, T_PORT);
	assert_int_equal(i[0].remote_port, T_PEER_PORT);
	assert_int_equal(i[0].cwnd_bytes, c->cwnd);
	assert_int_equal(i[0].ssthresh_bytes, UINT32_MAX);
	assert_int_equal(i[0].in_flight_bytes, 5000);
	assert_int_equal(i[0].mss_bytes, 1460);
	assert_string_equal(i[0].congestion, "cubic");
	assert_string_equal(i[0].phase, "open");
	assert_null(i[0].last_drop);
	assert_int_equal(i[0].n_resent, 0);
	assert_true(i[0].has_sack);
	t_forget(t);
	t_in(t, .flags = T_SYN, .seq = 77); /* RFC 5961 4 */
	t_wait(t, 3000000);
	assert_int_equal(scan_all(t, s, i, 4), 1);
	assert_string_equal(i[0].last_drop, "out_of_window");
	assert_int_equal(i[0].n_dropped, 1);
	assert_true(i[0].n_resent > 0);
	assert_true(i[0].n_timeouts > 0);
	assert_string_equal(i[0].phase, "loss");
	t_tcp_free(t);
	test_free(s);
}

static void test_half_open_and_time_wait_are_told_and_filters_hold(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_scan *s = test_calloc(1, sizeof(*s));
	struct tcp_conn_info i[8];

	(void)t_accept(t);
	t->s->ops->shutdown(t->w, t->s);
	t_turn(t);
	t_in(t, .flags = T_ACK, .seq = 5000, .ack = 1001);
	t_in(t, .flags = T_FIN | T_ACK, .seq = 5000, .ack = 1001);
	t_in(t, .flags = T_SYN, .seq = 9, .peer_port = 4100);
	assert_int_equal(scan_all(t, s, i, 8), 2);
	s->filter.state = tcp_scan_state("time_wait");
	assert_int_equal(scan_all(t, s, i, 8), 1);
	assert_int_equal(i[0].remote_port, T_PEER_PORT);
	s->filter.state = tcp_scan_state("SYN-received");
	assert_int_equal(scan_all(t, s, i, 8), 1);
	assert_int_equal(i[0].remote_port, 4100);
	assert_int_equal(i[0].kind, TCP_SCAN_HALF_OPEN);
	s->filter = (struct tcp_scan_filter){.remote_port = 4101};
	assert_int_equal(scan_all(t, s, i, 8), 0);
	s->filter = (struct tcp_scan_filter){.has_remote = true, .local_port = T_PORT};
	assert_int_equal(net_addr_parse("198.18.0.2", &s->filter.remote), 0);
	assert_int_equal(scan_all(t, s, i, 8), 2);
	assert_null(tcp_scan_state("asleep"));
	assert_null(tcp_scan_state("established "));
	assert_null(tcp_scan_state(""));
	t_tcp_free(t);
	test_free(s);
}

static void test_more_than_a_table_holds_comes_in_pieces_each_once(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.syn_backlog_max = 2000);
	struct tcp_scan *s = test_calloc(1, sizeof(*s));
	struct tcp_conn_info *i = test_calloc(2000, sizeof(*i));
	uint8_t seen[65536 / 8] = {0};

	for (uint16_t k = 0; k < 900; k++) {
		t_in(t, .flags = T_SYN, .seq = k, .peer_port = (uint16_t)(10000 + k));
		t_forget(t);
	}
	assert_int_equal(scan_all(t, s, i, 2000), 900);
	for (uint32_t k = 0; k < 900; k++) {
		assert_false(seen[i[k].remote_port / 8] >> (i[k].remote_port % 8) & 1);
		seen[i[k].remote_port / 8] |= (uint8_t)(1u << (i[k].remote_port % 8));
	}
	t_tcp_free(t);
	test_free(i);
	test_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_connection_is_told_with_its_figures),
		cmocka_unit_test(test_half_open_and_time_wait_are_told_and_filters_hold),
		cmocka_unit_test(test_more_than_a_table_holds_comes_in_pieces_each_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
