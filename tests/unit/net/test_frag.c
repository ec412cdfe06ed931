/* frag.c (RFC 791 3.2, RFC 8200 4.5, RFC 5722): pieces in any order become the packet; what overlaps, floods or never ends does not. */
#include "tests/unit/net/rig.h"

#define N_BYTES 1200u

static uint8_t segment[N_BYTES];

static void segment_make(const char *src, const char *dst)
{
	struct net_addr s = n_addr(src), d = n_addr(dst);

	for (uint32_t i = 0; i < N_BYTES; i++)
		segment[i] = (uint8_t)(i * 13);
	memset(segment, 0, 20);
	segment[1] = 99;
	segment[3] = 80;
	segment[12] = 0x50;
	segment[13] = 16;
	uint16_t sum = net_sum_fold(net_sum_pseudo(&s, &d, 6, N_BYTES) + net_sum(segment, N_BYTES));
	memcpy(segment + 16, &sum, 2);
}

static void piece4(struct n_net *n, uint16_t id, uint32_t offset, uint32_t n_bytes, bool more)
{
	uint8_t f[1600];

	segment_make("198.18.0.2", "198.18.0.1");
	uint32_t len = n_ip4(f, "198.18.0.2", "198.18.0.1", 6, NULL, 0, segment + offset, n_bytes);
	f[18] = (uint8_t)(id >> 8);
	f[19] = (uint8_t)id;
	f[20] = (uint8_t)((more ? 0x20 : 0) | offset / 8 >> 8);
	f[21] = (uint8_t)(offset / 8);
	n_ip4_fix(f + 14);
	n_in(n, f, FOIL_MAX(len, 60u));
}

static void piece6(struct n_net *n, uint32_t id, uint32_t offset, uint32_t n_bytes, bool more, bool with_hop)
{
	uint8_t f[1600], p[1500] = {0};
	uint32_t at = 0;

	segment_make("fd00:f011::2", "fd00:f011::1");
	if (with_hop) {
		memcpy(p, (uint8_t[8]){44, 0, 1, 4}, 8);
		at = 8;
	}
	p[at] = 6;
	p[at + 2] = (uint8_t)(offset >> 8);
	p[at + 3] = (uint8_t)(offset | more);
	p[at + 7] = (uint8_t)id;
	memcpy(p + at + 8, segment + offset, n_bytes);
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", with_hop ? 0 : 44, 64, p, at + 8 + n_bytes));
}

static void assert_whole(struct n_net *n)
{
	uint8_t got[N_BYTES];

	assert_int_equal(n->n_up, 1);
	assert_int_equal(n->up->pkt_len, N_BYTES);
	const void *at = rte_pktmbuf_read(n->up, 0, N_BYTES, got);
	assert_memory_equal(at, segment, N_BYTES);
	rte_pktmbuf_free(n->up);
	n->up = NULL;
	n->n_up = 0;
}

static void test_pieces_in_every_order_become_the_packet(void **state)
{
	static const uint8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	static const uint32_t at[3] = {0, 400, 800};
	struct n_net *n = n_net();

	for (uint16_t i = 0; i < 6; i++) {
		for (int k = 0; k < 3; k++)
			piece4(n, i, at[orders[i][k]], 400, orders[i][k] != 2);
		assert_whole(n);
		for (int k = 0; k < 3; k++)
			piece6(n, i, at[orders[i][k]], 400, orders[i][k] != 2, i & 1);
		assert_whole(n);
	}
	assert_int_equal(t_counter(n->w, NET, REASSEMBLED), 12);
	n_net_free(n);
}

static void test_padding_of_a_short_piece_is_cut(void **state)
{
	struct n_net *n = n_net();

	piece4(n, 1, 0, N_BYTES - 8, true);
	piece4(n, 1, N_BYTES - 8, 8, false); /* 42 bytes on a wire that carries 60 */
	assert_whole(n);
	n_net_free(n);
}

static void test_an_overlap_refuses_the_whole_packet(void **state)
{
	struct n_net *n = n_net();

	piece4(n, 1, 0, 400, true);
	piece4(n, 1, 392, 400, true);
	piece4(n, 1, 400, 400, true); /* what would have completed it */
	piece4(n, 1, 800, 400, false);
	assert_int_equal(n->n_up, 0);
	assert_int_equal(t_reason(n->w, NET, FRAG_OVERLAP), 3);
	piece6(n, 1, 0, 400, true, false);
	piece6(n, 1, 8, 8, true, false); /* inside */
	piece6(n, 1, 400, 800, false, false);
	assert_int_equal(n->n_up, 0);
	n_net_free(n);
}

static void test_a_repeated_piece_does_no_harm(void **state)
{
	struct n_net *n = n_net();

	piece4(n, 1, 0, 400, true);
	piece4(n, 1, 0, 400, true);
	piece4(n, 1, 400, 800, false);
	assert_whole(n);
	assert_int_equal(t_reason(n->w, NET, FRAG_DUPLICATE), 1);
	n_net_free(n);
}

static void test_a_packet_that_never_completes_is_given_up(void **state)
{
	struct n_net *n = n_net();

	piece4(n, 1, 0, 400, true);
	piece6(n, 1, 0, 400, true, false);
	n_wait(n, 31000000);
	assert_int_equal(t_reason(n->w, NET, FRAG_TIMEOUT), 1);
	n_wait(n, 30000000);
	assert_int_equal(t_reason(n->w, NET, FRAG_TIMEOUT), 2);
	piece4(n, 1, 400, 800, false);
	assert_int_equal(n->n_up, 0);
	n_net_free(n);
}

static void test_a_flood_of_pieces_holds_little_and_the_newest_live(void **state)
{
	struct n_net *n = n_net();
	uint32_t before = rte_mempool_avail_count(n->w->mbuf_pool);

	for (uint16_t id = 1; id < 2000; id++)
		piece4(n, id, 0, 400, true);
	assert_true(before - rte_mempool_avail_count(n->w->mbuf_pool) <= NET_FRAG_PACKETS_MAX);
	piece4(n, 1999, 400, 800, false);
	assert_whole(n);
	for (uint16_t id = 1; id < 60; id++)
		for (uint32_t k = 0; k < 100; k++)
			piece4(n, (uint16_t)(5000 + id), k * 8, 8, true);
	assert_true(before - rte_mempool_avail_count(n->w->mbuf_pool) <= 512);
	assert_true(t_reason(n->w, NET, FRAG_LIMIT) > 0);
	n_net_free(n);
}

static void test_pieces_of_wrong_length_are_refused(void **state)
{
	struct n_net *n = n_net();

	piece4(n, 1, 0, 399, true); /* not a multiple of 8, and not the last */
	piece4(n, 2, 0, 400, false); /* ends at 400 ... */
	piece4(n, 3, 400, 400, false);
	piece4(n, 3, 800, 400, true); /* ... beyond the end */
	piece4(n, 4, 800, 400, true);
	piece4(n, 4, 400, 400, false); /* an end before what is there */
	assert_int_equal(n->n_up, 0);
	assert_true(t_reason(n->w, NET, FRAG_MALFORMED) >= 3);
	n_net_free(n);
}

static void test_pieces_of_another_packet_do_not_mix(void **state)
{
	struct n_net *n = n_net();

	piece4(n, 1, 0, 400, true);
	piece4(n, 2, 400, 800, false);
	assert_int_equal(n->n_up, 0);
	piece4(n, 2, 0, 400, true);
	assert_whole(n);
	n_net_free(n);
}

static void test_a_first_piece_too_small_for_its_header_is_refused(void **state)
{
	struct n_net *n = n_net();

	piece4(n, 1, 0, 8, true); /* RFC 1858: hides the flags */
	piece4(n, 1, 8, N_BYTES - 8, false);
	assert_int_equal(n->n_up, 0);
	assert_int_equal(t_reason(n->w, NET, L4_SHORT), 1);
	n_net_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces_in_every_order_become_the_packet),
		cmocka_unit_test(test_padding_of_a_short_piece_is_cut),
		cmocka_unit_test(test_an_overlap_refuses_the_whole_packet),
		cmocka_unit_test(test_a_repeated_piece_does_no_harm),
		cmocka_unit_test(test_a_packet_that_never_completes_is_given_up),
		cmocka_unit_test(test_a_flood_of_pieces_holds_little_and_the_newest_live),
		cmocka_unit_test(test_pieces_of_wrong_length_are_refused),
		cmocka_unit_test(test_pieces_of_another_packet_do_not_mix),
		cmocka_unit_test(test_a_first_piece_too_small_for_its_header_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
