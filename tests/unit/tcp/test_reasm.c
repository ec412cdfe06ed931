/* reasm.c against a model: random pieces over each other, and what comes out is the stream; bounded memory. */
#include "tests/unit/tcp/rig.h"

#define US (T_ISN + 1)
#define PEER (T_PEER_ISN + 1)
#define SPAN 3000u

static void run(uint64_t seed, uint32_t max_piece)
{
	struct t_tcp *t = t_tcp_fixed();
	struct foil_prng prng;
	uint8_t data[SPAN];

	for (uint32_t i = 0; i < SPAN; i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	foil_prng_seed(&prng, seed);
	t->consume = false;
	struct tcp_conn *c = t_accept(t);
	while (c->rcv_nxt != PEER + SPAN) {
		uint32_t at = foil_prng_below(&prng, SPAN), n = 1 + foil_prng_below(&prng, max_piece);
		if (foil_prng_below(&prng, 20) == 0)
			at = c->rcv_nxt - PEER;
		n = FOIL_MIN(n, SPAN - at);
		t_in(t, .flags = T_ACK, .seq = PEER + at, .ack = US, .data = data + at, .n_bytes = n);
		t_forget(t);
	}
	t_assert_chain(&t->s->rx, data, SPAN);
	assert_int_equal(c->rare ? c->rare->n_ooo_mbufs : 0, 0);
	t_tcp_free(t);
}

static void test_random_pieces_come_out_as_the_stream(void **state)
{
	for (uint64_t seed = 1; seed <= 30; seed++)
		run(seed, seed % 3 == 0 ? 5 : seed % 3 == 1 ? 100 : 1400);
}

static void test_what_came_first_stays_where_pieces_overlap(void **state)
{
	struct t_tcp *t = t_tcp_fixed();

	t->consume = false;
	(void)t_accept(t);
	t_in(t, .flags = T_ACK, .seq = PEER + 2, .ack = US, .data = "CD", .n_bytes = 2);
	t_in(t, .flags = T_ACK, .seq = PEER + 1, .ack = US, .data = "bx", .n_bytes = 2);
	t_in(t, .flags = T_ACK, .seq = PEER + 3, .ack = US, .data = "xE", .n_bytes = 2);
	t_in(t, .flags = T_ACK, .seq = PEER, .ack = US, .data = "A", .n_bytes = 1);
	t_assert_chain(&t->s->rx, "AbCDE", 5);
	t_tcp_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_pieces_come_out_as_the_stream),
		cmocka_unit_test(test_what_came_first_stays_where_pieces_overlap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
