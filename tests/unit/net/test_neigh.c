/* arp.c, nd.c, neigh.c: questions, answers, waiting packets, ageing, spoofing, exhaustion (RFC 826, 5227, 4861). */
#include <stdio.h>

#include "tests/unit/net/rig.h"

static void send_to(struct n_net *n, const char *dst)
{
	struct net_addr to = n_addr(dst), from = n_addr(net_addr_is_v4(&to) ? "198.18.0.1" : "fd00:f011::1");
	uint8_t tcp[20];

	n_tcp(tcp, "198.18.0.1", "198.18.0.2");
	net_ip_output(n->w, t_mbuf(n->w, tcp, 20), &from, &to, IPPROTO_TCP, 0, NULL);
	net_flush(n->w);
}

static bool is_arp(const struct n_frame *f, uint8_t op)
{
	return f->bytes[12] == 8 && f->bytes[13] == 6 && f->bytes[21] == op;
}

static bool is_nd(const struct n_frame *f, uint8_t type)
{
	return f->bytes[12] == 0x86 && f->bytes[20] == 58 && f->bytes[54] == type;
}

static void test_our_addresses_are_announced_at_the_start(void **state)
{
	struct n_net *n = n_net(.no_announce_check = true);
	struct n_frame f = n_out(n);

	assert_true(is_arp(&f, 1));
	assert_memory_equal(f.bytes + 28, f.bytes + 38, 4); /* RFC 5227 3: sender and target alike */
	f = n_out(n);
	assert_true(is_nd(&f, 136));
	n_net_free(n);
}

static void test_a_question_for_us_is_answered_and_teaches_us_who_asked(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[60];

	n_in(n, f, n_arp(f, 1, "198.18.0.2", "198.18.0.1", 2));
	struct n_frame g = n_out(n);
	assert_true(is_arp(&g, 2));
	assert_int_equal(g.bytes[5], 2);
	assert_int_equal(g.bytes[27], 1); /* our link-layer address */
	send_to(n, "198.18.0.2");
	g = n_out(n);
	assert_int_equal(g.bytes[5], 2); /* no question in between */
	assert_int_equal(g.bytes[23], IPPROTO_TCP);
	n_net_free(n);
}

static void test_a_question_for_others_is_not_answered(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[60];

	n_in(n, f, n_arp(f, 1, "198.18.0.2", "198.18.0.9", 2));
	n_silent(n);
	assert_int_equal(t_reason(n->w, NET, ARP_NOT_OURS), 1);
	n_net_free(n);
}

static void test_packets_wait_for_the_answer_in_order(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[60];

	send_to(n, "198.18.0.2");
	struct n_frame g = n_out(n);
	assert_true(is_arp(&g, 1));
	send_to(n, "198.18.0.2");
	n_silent(n); /* asked already */
	n_in(n, f, n_arp(f, 2, "198.18.0.2", "198.18.0.1", 2));
	assert_int_equal(n->n_out, 2);
	n_net_free(n);
}

static void test_a_neighbour_that_never_answers_is_reported(void **state)
{
	struct n_net *n = n_net();

	send_to(n, "198.18.0.2");
	n_wait(n, 3500000);
	assert_int_equal(n->n_out, 3); /* three questions, a second apart */
	assert_int_equal(n->n_up_errors, 1);
	assert_int_equal(n->error.kind, NET_ICMP_UNREACHABLE);
	assert_int_equal(t_reason(n->w, NET, NEIGHBOUR_UNREACHABLE), 1);
	n->n_out = 0;
	send_to(n, "198.18.0.2"); /* the next one asks again */
	struct n_frame g = n_out(n);
	assert_true(is_arp(&g, 1));
	n_net_free(n);
}

static void test_what_waits_is_bounded(void **state)
{
	struct n_net *n = n_net();

	for (uint32_t i = 0; i < NET_NEIGH_QUEUE_MAX + 5; i++)
		send_to(n, "198.18.0.2");
	assert_int_equal(t_reason(n->w, NET, NEIGHBOUR_QUEUE_FULL), 5);
	n_net_free(n);
}

static void test_an_old_entry_is_probed_and_forgotten_if_dead(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[60];

	n_meet(n);
	n_wait(n, 31000000);
	n_silent(n); /* nobody needs it */
	send_to(n, "198.18.0.2");
	struct n_frame g = n_out(n);
	assert_int_equal(g.bytes[23], IPPROTO_TCP); /* used while it is probed */
	g = n_out(n);
	assert_true(is_arp(&g, 1));
	assert_int_equal(g.bytes[5], 2); /* asked by its own address */
	n_in(n, f, n_arp(f, 2, "198.18.0.2", "198.18.0.1", 2));
	send_to(n, "198.18.0.2");
	assert_int_equal(n->n_out, 1);
	n->n_out = 0;
	n_wait(n, 31000000);
	send_to(n, "198.18.0.2");
	n_wait(n, 10000000);
	bool asked_all = false;
	for (uint32_t i = 0; i < n->n_out; i++)
		asked_all |= is_arp(&n->out[i], 1) && n->out[i].bytes[0] == 0xff;
	assert_true(asked_all); /* three probes, then everybody is asked, then it failed */
	assert_int_equal(t_counter(n->w, NET, NEIGHBOUR_FAILURES), 1);
	n_net_free(n);
}

static void test_an_answer_to_no_question_makes_no_entry(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[100];

	n_in(n, f, n_arp(f, 2, "198.18.0.9", "198.18.0.1", 9));
	assert_int_equal(t_reason(n->w, NET, ARP_UNSOLICITED), 1);
	n_in(n, f, n_nd(f, 136, "fd00:f011::9", "fd00:f011::1", "fd00:f011::9", 0x60000000, 9));
	assert_int_equal(t_reason(n->w, NET, ND_UNSOLICITED), 1);
	assert_int_equal(t_counter(n->w, NET, NEIGHBOURS), 0);
	n_net_free(n);
}

static void test_nobody_can_claim_our_address(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[100];

	n_in(n, f, n_arp(f, 2, "198.18.0.1", "198.18.0.1", 9));
	n_in(n, f, n_nd(f, 136, "fd00:f011::2", "ff02::1", "fd00:f011::1", 0x20000000, 9));
	assert_int_equal(t_reason(n->w, NET, ADDRESS_CONFLICT), 2);
	n_net_free(n);
}

static void test_a_station_of_another_subnet_is_not_learnt(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[60];

	n_in(n, f, n_arp(f, 1, "10.9.9.9", "198.18.0.1", 9));
	n_silent(n);
	assert_int_equal(t_reason(n->w, NET, ARP_OFF_LINK), 1);
	n_net_free(n);
}

static void test_a_move_is_followed(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[60];

	n_meet(n);
	n_in(n, f, n_arp(f, 1, "198.18.0.2", "198.18.0.2", 7)); /* gratuitous: RFC 5227 */
	struct n_frame g = n_out(n);
	assert_true(is_arp(&g, 1));
	assert_int_equal(g.bytes[5], 2); /* who had it until now is asked, alone */
	n_wait(n, 250000);
	g = n_out(n);
	assert_true(is_arp(&g, 1));
	assert_int_equal(g.bytes[0], 0xff); /* and did not answer: everybody is */
	n_in(n, f, n_arp(f, 2, "198.18.0.2", "198.18.0.1", 7));
	send_to(n, "198.18.0.2");
	assert_int_equal(n_out(n).bytes[5], 7);
	assert_int_equal(t_counter(n->w, NET, NEIGHBOUR_CHANGES), 1);
	n_net_free(n);
}

static void test_who_comes_to_a_link_that_was_down_may_be_another(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[60];

	n_meet(n);
	send_to(n, "198.18.0.3"); /* nobody is there yet */
	struct n_frame g = n_out(n);
	assert_true(is_arp(&g, 1));
	net_port_renewed(n->w, 1); /* another port */
	n_silent(n);
	net_port_renewed(n->w, 0);
	n_wait(n, 1000);
	g = n_out(n);
	assert_true(is_arp(&g, 1));
	n_silent(n); /* only what waits is asked for */
	n_in(n, f, n_arp(f, 2, "198.18.0.3", "198.18.0.1", 3));
	assert_int_equal(n_out(n).bytes[5], 3);
	send_to(n, "198.18.0.2");
	g = n_out(n);
	assert_true(is_arp(&g, 1));
	assert_int_equal(g.bytes[0], 0xff); /* everybody, since who had the address may be gone */
	n_in(n, f, n_arp(f, 2, "198.18.0.2", "198.18.0.1", 7));
	assert_int_equal(n_out(n).bytes[5], 7); /* at once, no doubt about it */
	n_net_free(n);
}

/* The attack: replies, questions and announcements in the name of somebody who is there. */
static void test_a_neighbour_who_answers_cannot_be_replaced(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[100];

	n_meet(n);
	for (uint32_t i = 0; i < 3; i++) {
		n_in(n, f, n_arp(f, i == 0 ? 2 : 1, "198.18.0.2", i == 1 ? "198.18.0.2" : "198.18.0.1", 9));
		struct n_frame g = n_out(n);
		if (i == 2) /* an answer to who asked does no harm */
			assert_int_equal(g.bytes[5], is_arp(&g, 2) ? 9 : 2);
		else
			assert_true(is_arp(&g, 1) && g.bytes[5] == 2);
		n->n_out = 0;
		n_in(n, f, n_arp(f, 2, "198.18.0.2", "198.18.0.1", 9)); /* insists */
		n_in(n, f, n_arp(f, 2, "198.18.0.2", "198.18.0.1", 2)); /* he answers */
		n_wait(n, 500000);
		n_silent(n);
		send_to(n, "198.18.0.2");
		assert_int_equal(n_out(n).bytes[5], 2);
	}
	assert_int_equal(t_reason(n->w, NET, NEIGHBOUR_CLAIMED), 6);
	assert_int_equal(t_counter(n->w, NET, NEIGHBOUR_CHANGES), 0);
	n_net_free(n);
}

static void test_an_overriding_advertisement_is_doubted_too(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[100];

	send_to(n, "fd00:f011::2");
	n_in(n, f, n_nd(f, 136, "fd00:f011::2", "fd00:f011::1", "fd00:f011::2", 0x60000000, 2));
	n->n_out = 0;
	n_in(n, f, n_nd(f, 136, "fd00:f011::2", "ff02::1", "fd00:f011::2", 0x20000000, 9));
	n_in(n, f, n_nd(f, 135, "fd00:f011::2", "fd00:f011::1", "fd00:f011::1", 0, 9)); /* a question that names another source address */
	n->n_out = 0;
	n_in(n, f, n_nd(f, 136, "fd00:f011::2", "fd00:f011::1", "fd00:f011::2", 0x60000000, 2));
	n_wait(n, 500000);
	n->n_out = 0;
	send_to(n, "fd00:f011::2");
	assert_int_equal(n_out(n).bytes[5], 2);
	assert_int_equal(t_reason(n->w, NET, NEIGHBOUR_CLAIMED), 2);
	n_net_free(n);
}

/* The attack: segments from addresses of the link that nobody has. Each answer wants an entry; those who are there keep theirs. */
static void test_a_flood_of_addresses_that_nobody_has_displaces_nobody_who_is_there(void **state)
{
	struct n_net *n = n_net(.neighbours_max = 32);
	char text[32];

	n_meet(n);
	for (uint32_t i = 0; i < 2000; i++) {
		snprintf(text, sizeof(text), "198.18.0.%u", 3 + i % 250);
		send_to(n, text);
		n_wait(n, 1000);
		n->n_out = 0;
		if (i % 100 == 0) {
			send_to(n, "198.18.0.2");
			assert_int_equal(n_out(n).bytes[5], 2);
		}
	}
	assert_int_equal(t_reason(n->w, NET, NEIGHBOUR_FULL), 0); /* who is new finds a place, too */
	n_net_free(n);
}

static void test_malformed_arp_is_dropped(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[60];
	static const struct {
		uint8_t at, value;
	} bad[] = {{15, 6}, {17, 1}, {18, 5}, {19, 6}, {21, 3}, {22, 1}};

	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		(void)n_arp(f, 1, "198.18.0.2", "198.18.0.1", 2);
		f[bad[i].at] = bad[i].value;
		n_in(n, f, 60);
	}
	(void)n_arp(f, 1, "198.18.0.2", "198.18.0.1", 2);
	for (uint32_t cut = 14; cut < 42; cut++)
		n_in(n, f, cut);
	n_silent(n);
	assert_int_equal(t_reason(n->w, NET, ARP_MALFORMED), FOIL_COUNT_OF(bad) + 28);
	n_net_free(n);
}

static void test_a_flood_of_askers_does_not_displace_who_is_in_use(void **state)
{
	struct n_net *n = n_net(.neighbours_max = 16);
	uint8_t f[60];
	char who[32];

	n_meet(n);
	for (int i = 10; i < 250; i++) {
		snprintf(who, sizeof(who), "198.18.0.%d", i);
		send_to(n, "198.18.0.2");
		n_in(n, f, n_arp(f, 1, who, "198.18.0.1", (uint8_t)i));
		n->n_out = 0;
	}
	send_to(n, "198.18.0.2");
	assert_int_equal(n_out(n).bytes[5], 2);
	assert_true(t_reason(n->w, NET, NEIGHBOUR_FULL) > 0);
	n_net_free(n);
}

static void test_a_neighbour_solicitation_is_answered(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[100];

	n_in(n, f, n_nd(f, 135, "fd00:f011::2", "ff02::1:ff00:1", "fd00:f011::1", 0, 2));
	struct n_frame g = n_out(n);
	assert_true(is_nd(&g, 136));
	assert_int_equal(g.bytes[58] & 0xe0, 0x60); /* solicited, override, not a router */
	assert_int_equal(g.bytes[21], 255);
	n_net_free(n);
}

static void test_duplicate_address_detection_of_others_is_answered_to_all(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[100];

	n_in(n, f, n_nd(f, 135, "::", "ff02::1:ff00:1", "fd00:f011::1", 0, 0));
	struct n_frame g = n_out(n);
	assert_true(is_nd(&g, 136));
	assert_int_equal(g.bytes[0], 0x33);
	assert_int_equal(g.bytes[58] & 0x40, 0);
	n_net_free(n);
}

static void test_nd_from_beyond_the_link_is_not_believed(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[100];

	uint32_t len = n_nd(f, 135, "fd00:f011::2", "ff02::1:ff00:1", "fd00:f011::1", 0, 2);
	f[21] = 254; /* RFC 4861 7.1.1 */
	n_in(n, f, len);
	len = n_nd(f, 135, "fd00:f011::2", "ff02::1:ff00:1", "fd00:f011::1", 0, 2);
	f[55] = 1;
	n_icmp6_fix(f);
	n_in(n, f, len);
	len = n_nd(f, 135, "fd00:f011::2", "ff02::1:ff00:1", "fd00:f011::1", 0, 2);
	f[79] = 0; /* an option of length 0 */
	n_icmp6_fix(f);
	n_in(n, f, len);
	len = n_nd(f, 135, "::", "ff02::1:ff00:1", "fd00:f011::1", 0, 2); /* with a source address option: RFC 4861 7.1.1 */
	n_in(n, f, len);
	n_silent(n);
	assert_int_equal(t_reason(n->w, NET, ND_MALFORMED), 4);
	n_net_free(n);
}

static void test_an_advertisement_ends_the_wait(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[100];

	send_to(n, "fd00:f011::2");
	struct n_frame g = n_out(n);
	assert_true(is_nd(&g, 135));
	assert_int_equal(g.bytes[0], 0x33);
	n_in(n, f, n_nd(f, 136, "fd00:f011::2", "fd00:f011::1", "fd00:f011::2", 0x60000000, 2));
	g = n_out(n);
	assert_int_equal(g.bytes[20], IPPROTO_TCP);
	n_net_free(n);
}

static void test_an_advertisement_without_override_does_not_change_the_address(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[100];

	send_to(n, "fd00:f011::2");
	n_in(n, f, n_nd(f, 136, "fd00:f011::2", "fd00:f011::1", "fd00:f011::2", 0x60000000, 2));
	n->n_out = 0;
	n_in(n, f, n_nd(f, 136, "fd00:f011::2", "ff02::1", "fd00:f011::2", 0, 9)); /* RFC 4861 7.2.5 I */
	send_to(n, "fd00:f011::2");
	assert_int_equal(n_out(n).bytes[5], 2);
	n_net_free(n);
}

static void test_neighbour_messages_are_shared_with_the_other_workers(void **state)
{
	struct n_net *n = n_net(.steer = true);
	uint8_t f[100];

	n_in(n, f, n_arp(f, 2, "198.18.0.9", "198.18.0.1", 9));
	n_in(n, f, n_nd(f, 136, "fd00:f011::9", "fd00:f011::1", "fd00:f011::9", 0x60000000, 9));
	assert_int_equal(n->n_shared, 2);
	n_net_free(n);
}

static void test_without_mbufs_a_question_is_asked_later(void **state)
{
	struct n_net *n = n_net();
	uint8_t tcp[20];
	struct net_addr from = n_addr("198.18.0.1"), to = n_addr("198.18.0.2");

	n_tcp(tcp, "198.18.0.1", "198.18.0.2");
	struct rte_mbuf *m = t_mbuf(n->w, tcp, 20);
	t_pool_drain(n->w->mbuf_pool, 0);
	net_ip_output(n->w, m, &from, &to, IPPROTO_TCP, 0, NULL);
	net_flush(n->w);
	n_silent(n);
	assert_true(t_reason(n->w, NET, NO_MBUF) > 0);
	t_pool_refill(n->w->mbuf_pool);
	n_wait(n, 1100000);
	struct n_frame g = n_out(n);
	assert_true(is_arp(&g, 1));
	n_net_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_our_addresses_are_announced_at_the_start),
		cmocka_unit_test(test_a_question_for_us_is_answered_and_teaches_us_who_asked),
		cmocka_unit_test(test_a_question_for_others_is_not_answered),
		cmocka_unit_test(test_packets_wait_for_the_answer_in_order),
		cmocka_unit_test(test_a_neighbour_that_never_answers_is_reported),
		cmocka_unit_test(test_what_waits_is_bounded),
		cmocka_unit_test(test_an_old_entry_is_probed_and_forgotten_if_dead),
		cmocka_unit_test(test_an_answer_to_no_question_makes_no_entry),
		cmocka_unit_test(test_nobody_can_claim_our_address),
		cmocka_unit_test(test_a_station_of_another_subnet_is_not_learnt),
		cmocka_unit_test(test_a_move_is_followed),
		cmocka_unit_test(test_who_comes_to_a_link_that_was_down_may_be_another),
		cmocka_unit_test(test_a_neighbour_who_answers_cannot_be_replaced),
		cmocka_unit_test(test_an_overriding_advertisement_is_doubted_too),
		cmocka_unit_test(test_a_flood_of_addresses_that_nobody_has_displaces_nobody_who_is_there),
		cmocka_unit_test(test_malformed_arp_is_dropped),
		cmocka_unit_test(test_a_flood_of_askers_does_not_displace_who_is_in_use),
		cmocka_unit_test(test_a_neighbour_solicitation_is_answered),
		cmocka_unit_test(test_duplicate_address_detection_of_others_is_answered_to_all),
		cmocka_unit_test(test_nd_from_beyond_the_link_is_not_believed),
		cmocka_unit_test(test_an_advertisement_ends_the_wait),
		cmocka_unit_test(test_an_advertisement_without_override_does_not_change_the_address),
		cmocka_unit_test(test_neighbour_messages_are_shared_with_the_other_workers),
		cmocka_unit_test(test_without_mbufs_a_question_is_asked_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
