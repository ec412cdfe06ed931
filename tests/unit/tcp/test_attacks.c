/* Attacks on connections and on the room's tables, each with the counter that shows it (docs/attacks.md): every state with every
 * combination of flags, floods, forged segments, exhaustion of every pool and of ports. */
#include <errno.h>

#include "tests/unit/tcp/rig.h"

#define US (T_ISN + 1)
#define PEER (T_PEER_ISN + 1)

/* --- every state, every flag --- */

enum where { AT_LISTEN, AT_HALF_OPEN, AT_SYN_SENT, AT_SYN_RCVD, AT_ESTABLISHED, AT_FIN_WAIT_1, AT_FIN_WAIT_2, AT_CLOSING, AT_CLOSE_WAIT, AT_LAST_ACK,
	     AT_TIME_WAIT, AT_N };

struct placed {
	uint16_t port;         /* ours */
	uint32_t snd_una, snd_nxt, rcv_nxt;
};

static struct stream *open_now(struct t_tcp *t)
{
	static const struct stream_user nobody;
	struct net_addr remote;
	struct tcp_connect_params p = {.remote_port = T_PEER_PORT, .local_port = 5000, .user = &nobody};
	struct stream *s = NULL;

	assert_int_equal(net_addr_parse("198.18.0.2", &remote), 0);
	p.remote = remote;
	assert_int_equal(tcp_connect(t->w, &p, &s), 0);
	t_turn(t);
	t_forget(t);
	return s;
}

static struct placed place(struct t_tcp *t, enum where at)
{
	struct placed p = {.port = T_PORT, .snd_una = US, .snd_nxt = US, .rcv_nxt = PEER};

	switch (at) {
	case AT_LISTEN:
	case AT_N:
		return p;
	case AT_HALF_OPEN:
		t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
		t_forget(t);
		return p;
	case AT_SYN_SENT:
	case AT_SYN_RCVD:
		(void)open_now(t);
		p.port = 5000;
		p.snd_una = T_ISN;
		if (at == AT_SYN_RCVD)
			t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .port = 5000);
		t_forget(t);
		return p;
	case AT_ESTABLISHED:
	case AT_FIN_WAIT_1:
	case AT_FIN_WAIT_2:
	case AT_CLOSING:
	case AT_CLOSE_WAIT:
	case AT_LAST_ACK:
	case AT_TIME_WAIT:
		break;
	}
	t->consume = true;
	(void)t_accept(t);
	if (at == AT_CLOSE_WAIT || at == AT_LAST_ACK) {
		t_in(t, .flags = T_FIN | T_ACK, .seq = PEER, .ack = US);
		p.rcv_nxt = PEER + 1;
	}
	if (at == AT_FIN_WAIT_1 || at == AT_FIN_WAIT_2 || at == AT_CLOSING || at == AT_LAST_ACK || at == AT_TIME_WAIT) {
		stream_shutdown(t->w, t->s);
		t_turn(t);
		p.snd_nxt = US + 1;
	}
	if (at == AT_FIN_WAIT_2 || at == AT_TIME_WAIT) {
		t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 1);
		p.snd_una = US + 1;
	}
	if (at == AT_CLOSING || at == AT_TIME_WAIT) {
		t_in(t, .flags = T_FIN | T_ACK, .seq = PEER, .ack = p.snd_una);
		p.rcv_nxt = PEER + 1;
	}
	t_forget(t);
	return p;
}

/* What a stranger must not reach by numbers that are wrong, whatever the flags; and what RFC 9293 and 5961 say of answers. */
static void one_of_all(struct t_tcp *t, enum where at, uint8_t flags, uint32_t which, uint32_t n_bytes)
{
	static const char data[16];
	struct placed p = place(t, at);
	const uint32_t seqs[] = {p.rcv_nxt, p.rcv_nxt + 1000, p.rcv_nxt - 1, p.rcv_nxt + 200000, p.rcv_nxt - 300000};
	const uint32_t acks[] = {p.snd_una, p.snd_nxt, p.snd_nxt + 1, p.snd_una - 100000, p.snd_nxt + 70000};
	uint32_t seq = seqs[which % 5], ack = acks[which / 5];
	bool begins_anew = at == AT_TIME_WAIT && (flags & (T_SYN | T_ACK | T_RST)) == T_SYN && seq_gt(seq, p.rcv_nxt); /* RFC 6191 */
	uint64_t n_rx = t_counter(t->w, TCP, SEGMENTS_RX), n_closed = t->n_closed;

	t_in(t, .flags = flags, .seq = seq, .ack = ack, .port = p.port, .data = data, .n_bytes = n_bytes);
	assert_int_equal(t_counter(t->w, TCP, SEGMENTS_RX), n_rx + 1);
	assert_true(t->n_out <= 2);
	for (uint32_t i = 0; i < t->n_out; i++) {
		assert_false((flags & T_RST) && (t->out[i].flags & T_RST)); /* never a reset for a reset */
		if (at >= AT_ESTABLISHED && !begins_anew)
			assert_false(t->out[i].flags & (T_RST | T_SYN)); /* challenge, do not give way */
	}
	if (at >= AT_ESTABLISHED && at < AT_TIME_WAIT) {
		bool may_end = (flags & T_RST && seq == p.rcv_nxt) || (at == AT_LAST_ACK && flags & T_ACK && !(flags & (T_SYN | T_RST)) && ack == p.snd_nxt) ||
			       (at == AT_FIN_WAIT_2 && flags & T_FIN && flags & T_ACK) || (at == AT_CLOSING && flags & T_ACK && ack == p.snd_nxt) ||
			       (at == AT_FIN_WAIT_1 && flags & T_FIN && flags & T_ACK && ack == p.snd_nxt);
		if (!may_end)
			assert_int_equal(t->n_closed, n_closed);
		if (flags & T_RST && seq == p.rcv_nxt)
			assert_int_equal(t->n_closed, n_closed + 1);
	}
	if (flags & T_RST && !(flags & T_SYN))
		assert_true(t->n_out <= 1); /* at most the challenge */
}

static void test_every_state_takes_every_combination_of_flags(void **state)
{
	for (enum where at = AT_LISTEN; at < AT_N; at++)
		for (uint32_t flags = 0; flags < 64; flags++)
			for (uint32_t which = 0; which < 25; which++)
				for (uint32_t n_bytes = 0; n_bytes <= 10; n_bytes += 10) {
					struct t_tcp *t = t_tcp_on(*state, (struct tcp_params){.has_fixed_isn = true, .fixed_isn = T_ISN, .conns_max = 4,
									.syn_backlog_max = 4, .time_wait_max = 4});
					one_of_all(t, at, (uint8_t)flags, which, n_bytes);
					t_tcp_off(t);
				}
	t_assert_no_leaks(*state);
}

/* --- who guesses --- */

static void test_a_forged_syn_does_not_replace_a_half_open_connection(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN);
	t_expect(t, T_SYN | T_ACK, T_ISN, PEER, 0);
	t_in(t, .flags = T_SYN, .seq = 77777);
	t_expect(t, T_ACK, US, PEER, 0); /* who has started anew answers this by the exact RST */
	assert_int_equal(t_reason(t->w, TCP, SYN_IN_WINDOW), 1);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US);
	assert_int_equal(t->n_accepted, 1);
	t_tcp_free(t);
}

static void test_a_forged_syn_that_crosses_ours_does_not_keep_the_true_answer_out(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct stream *s = open_now(t);

	t_in(t, .flags = T_SYN, .seq = 77777, .port = 5000);
	t_expect(t, T_SYN | T_ACK, T_ISN, 77778, 0);
	t_in(t, .flags = T_SYN | T_ACK, .seq = T_PEER_ISN, .ack = US, .port = 5000);
	t_expect(t, T_ACK, US, PEER, 0);
	assert_true(s->is_open);
	t_tcp_free(t);
}

static void test_a_storm_of_old_acks_is_answered_ten_times_in_five_seconds(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	uint32_t n_answers = 0;

	(void)t_accept(t);
	for (int i = 0; i < 1000; i++) {
		t_in(t, .flags = T_ACK, .seq = PEER - 5000, .ack = US);
		n_answers += t->n_out;
		t_forget(t);
		t_clock(t->w, 1000);
	}
	assert_int_equal(n_answers, 10); /* two stacks that disagree do not shout at each other for ever */
	assert_int_equal(t_reason(t->w, TCP, CHALLENGE_LIMITED), 990);
	t_tcp_free(t);
}

static void test_sack_of_what_was_never_sent_is_passed_over(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);
	static const struct tcp_sack_block lies[] = {{US + 100000, US + 200000}, {US - 5000, US - 1}, {US + 1460, US}, {US, US + 0x80000001u}};

	t_write_n(t, 4000);
	t_forget(t);
	for (size_t i = 0; i < FOIL_COUNT_OF(lies); i++) {
		t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .opt = {.n_sack = 1, .sack = {lies[i]}});
		assert_int_equal(c->n_sacked_bytes, 0);
	}
	t_tcp_free(t);
}

/* --- floods --- */

static void test_a_flood_of_syns_gets_a_cookie_each_and_leaves_nothing(void **state)
{
	struct t_tcp *t = t_tcp_fixed(.syn_backlog_max = 2);

	for (uint32_t i = 0; i < 5000; i++) {
		t_in(t, .flags = T_SYN, .seq = i * 777, .peer_port = (uint16_t)(5000 + i));
		assert_int_equal(t->n_out, 1); /* no limit: a client among them has no other way in */
		t_forget(t);
	}
	assert_int_equal(t_reason(t->w, TCP, SYN_COOKIE_SENT), 4998);
	struct tcp_stats stats;
	tcp_stats_get(t->w, &stats);
	assert_int_equal(stats.n_half_open, 2);
	assert_int_equal(stats.n_conns, 0);
	t_tcp_free(t);
}

/* --- exhaustion --- */

#ifdef FOIL_CHECKS /* else pools cannot be made to fail */
static struct tcp_pool *pool_of(struct t_tcp *t, uint32_t which)
{
	struct tcp_ctx *x = t->w->tcp;
	struct tcp_pool *const pools[] = {&x->conns, &x->syns, &x->tws, &x->sents, &x->ooos};

	return which < FOIL_COUNT_OF(pools) ? pools[which] : NULL;
}

/* A connection's whole life, with holes, partial ACKs, losses and an end; the peer says everything again until it is answered. */
static void one_life(struct t_tcp *t)
{
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .sack_permitted = true};

	for (int i = 0; i < 4 && !t->s; i++) {
		t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .opt = opt);
		t_forget(t);
		t_in(t, .flags = T_ACK, .seq = PEER, .ack = US);
		t_forget(t);
	}
	assert_non_null(t->s);
	t->consume = true;
	t_write_n(t, 6000);
	for (uint32_t round = 0; round < 4; round++) {
		t_in(t, .flags = T_ACK, .seq = PEER + 200, .ack = US, .data = "second", .n_bytes = 6);
		t_in(t, .flags = T_ACK, .seq = PEER + 400, .ack = US, .data = "fourth", .n_bytes = 6);
	}
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 700); /* a part of the first segment */
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 700, .opt = {.n_sack = 1, .sack = {{US + 2920, US + 4380}}});
	t_wait(t, 3000000);
	static const char zeros[400];
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US + 700, .data = zeros, .n_bytes = 400);
	t_in(t, .flags = T_ACK, .seq = PEER + 400, .ack = US + 700, .data = zeros, .n_bytes = 10);
	t_wait(t, 3000000);
	t_in(t, .flags = T_ACK, .seq = PEER + 410, .ack = US + 6000);
	stream_shutdown(t->w, t->s);
	t_wait(t, 3000000);
	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER + 410, .ack = US + 6001);
	t_wait(t, 3000000);
	t_in(t, .flags = T_FIN | T_ACK, .seq = PEER + 410, .ack = US + 6001);
	t_forget(t);
	assert_int_equal(t->n_closed, 1);
	assert_int_equal(t->why, STREAM_END_FIN);
}

static void test_the_nth_call_of_each_pool_may_fail(void **state)
{
	for (uint32_t which = 0; which < 5; which++)
		for (uint32_t nth = 1; nth <= 12; nth++) {
			struct t_tcp *t = t_tcp_on(*state, (struct tcp_params){.has_fixed_isn = true, .fixed_isn = T_ISN});
			pool_of(t, which)->fail_nth = nth;
			one_life(t);
			t_tcp_off(t);
			t_assert_no_leaks(*state);
		}
}
#endif

static void test_the_nth_mbuf_may_be_missing(void **state)
{
	for (uint32_t left = 0; left < 24; left++) {
		struct t_tcp *t = t_tcp_on(*state, (struct tcp_params){.has_fixed_isn = true, .fixed_isn = T_ISN});
		(void)t_accept(t);
		t_write_n(t, 20000);
		t_forget(t);
		t_pool_drain(t->w->mbuf_pool, left);
		for (int i = 0; i < 30; i++) {
			t_clock(t->w, 100000);
			t_turn(t);
			t_forget(t);
		}
		t_pool_refill(t->w->mbuf_pool);
		for (uint32_t i = 0; i < 40 && t->s->tx_queued_bytes; i++) {
			t_in(t, .flags = T_ACK, .seq = PEER, .ack = tcp_conn_of(t->s)->snd_nxt);
			t_wait(t, 300000);
			t_forget(t);
		}
		assert_int_equal(t->s->tx_queued_bytes, 0);
		t_tcp_off(t);
		t_assert_no_leaks(*state);
	}
}

static void test_when_ports_are_exhausted_opens_are_refused_with_a_reason(void **state)
{
	static const struct stream_user nobody;
	struct t_tcp *t = t_tcp_fixed(.conns_max = 60000);
	struct tcp_connect_params p = {.remote_port = T_PEER_PORT, .user = &nobody};
	struct stream *s;
	int rc = 0;

	assert_int_equal(net_addr_parse("198.18.0.2", &p.remote), 0);
	for (uint32_t i = 0; i < 49152 + 1 && rc == 0; i++) {
		rc = tcp_connect(t->w, &p, &s);
		if (i % 64 == 0)
			t_turn(t);
		t_forget(t);
	}
	assert_int_equal(rc, -EADDRNOTAVAIL);
	assert_int_equal(t_reason(t->w, TCP, PORTS_EXHAUSTED), 1);
	p.remote_port = T_PEER_PORT + 1; /* another peer has ports of its own */
	assert_int_equal(tcp_connect(t->w, &p, &s), 0);
	t_tcp_free(t);
}

static void test_payload_that_nobody_reads_is_dropped_at_the_last_mbufs(void **state)
{
	struct t_tcp *t = t_tcp_fixed();
	struct tcp_conn *c = t_accept(t);

	t->consume = false;
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "read", .n_bytes = 4);
	t_pool_drain(t->w->mbuf_pool, 40);
	t_clock(t->w, 10000);
	t_turn(t);
	t_in(t, .flags = T_ACK, .seq = PEER + 4, .ack = US, .data = "more", .n_bytes = 4);
	assert_int_equal(t_reason(t->w, TCP, RX_PRESSURE), 1);
	assert_int_equal(c->rcv_nxt, PEER + 4);
	stream_consume(t->w, t->s, 4);
	t_in(t, .flags = T_ACK, .seq = PEER + 4, .ack = US, .data = "more", .n_bytes = 4); /* who reads goes on */
	assert_int_equal(c->rcv_nxt, PEER + 8);
	t_pool_refill(t->w->mbuf_pool);
	t_tcp_free(t);
}

static void test_who_holds_much_and_moves_nothing_is_given_up_at_the_last_mbufs(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	(void)t_accept(t);
	t_write_n(t, 60000);
	t_pool_drain(t->w->mbuf_pool, 40);
	for (int i = 0; i < 30; i++) {
		t_clock(t->w, 100000);
		t_turn(t);
		t_forget(t);
	}
	assert_int_equal(t->n_closed, 0); /* three seconds: not yet */
	for (int i = 0; i < 40; i++) {
		t_clock(t->w, 100000);
		t_turn(t);
		t_forget(t);
	}
	assert_int_equal(t_reason(t->w, TCP, RECLAIMED), 1);
	assert_int_equal(t->n_closed, 1);
	t_pool_refill(t->w->mbuf_pool);
	t_tcp_free(t);
}

static int make_worker(void **state)
{
	*state = t_worker(.seed = 7);
	return 0;
}

static int free_worker(void **state)
{
	t_worker_free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_state_takes_every_combination_of_flags, make_worker, free_worker),
		cmocka_unit_test(test_a_forged_syn_does_not_replace_a_half_open_connection),
		cmocka_unit_test(test_a_forged_syn_that_crosses_ours_does_not_keep_the_true_answer_out),
		cmocka_unit_test(test_a_storm_of_old_acks_is_answered_ten_times_in_five_seconds),
		cmocka_unit_test(test_sack_of_what_was_never_sent_is_passed_over),
		cmocka_unit_test(test_a_flood_of_syns_gets_a_cookie_each_and_leaves_nothing),
#ifdef FOIL_CHECKS
		cmocka_unit_test_setup_teardown(test_the_nth_call_of_each_pool_may_fail, make_worker, free_worker),
#endif
		cmocka_unit_test_setup_teardown(test_the_nth_mbuf_may_be_missing, make_worker, free_worker),
		cmocka_unit_test(test_when_ports_are_exhausted_opens_are_refused_with_a_reason),
		cmocka_unit_test(test_payload_that_nobody_reads_is_dropped_at_the_last_mbufs),
		cmocka_unit_test(test_who_holds_much_and_moves_nothing_is_given_up_at_the_last_mbufs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
