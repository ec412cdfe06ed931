/* claim.c: what is asked before an address is used, what is done when somebody else has it, and the defence of those in use. */
#include <rte_arp.h>

#include "dataplane/core/error.h"
#include "tests/unit/net/rig.h"

#define US4 "198.18.0.1"
#define US6 "fd00:f011::1"

static enum net_address_state state_of(struct n_net *n, uint16_t i, uint8_t *mac_last)
{
	struct net_address_status s;

	assert_true(net_address_status(n->w, i, &s));
	if (mac_last)
		*mac_last = s.other.addr_bytes[5];
	return s.state;
}

static bool is_ours(struct n_net *n, const char *text)
{
	struct net_addr a = n_addr(text);

	return net_is_local(n->w, &a);
}

/* Counts what of this kind was sent, and forgets everything. */
static uint32_t n_sent(struct n_net *n, uint16_t ether_type, uint8_t sender_last_or_type)
{
	uint32_t k = 0;

	for (uint32_t i = 0; i < n->n_out; i++) {
		const uint8_t *f = n->out[i].bytes;
		if ((f[12] << 8 | f[13]) != ether_type)
			continue;
		k += ether_type == RTE_ETHER_TYPE_ARP ? f[31] == sender_last_or_type : f[54] == sender_last_or_type;
	}
	n->n_out = 0;
	return k;
}

static void test_unasked_addresses_are_announced_at_once(void **state)
{
	struct n_net *n = n_net(.no_announce_check = true);

	assert_int_equal(state_of(n, 0, NULL), NET_ADDRESS_IN_USE);
	assert_int_equal(n->n_out, 2);
	assert_int_equal(n_sent(n, RTE_ETHER_TYPE_ARP, 1), 1);
	n_wait(n, 20000000);
	n_silent(n);
	n_net_free(n);
}

static void test_optimistic_addresses_are_used_at_once_asked_for_and_announced_twice(void **state)
{
	struct n_net *n = n_net(.no_announce_check = true, .address_check = NET_CHECK_OPTIMISTIC);
	uint8_t f[200];

	assert_true(is_ours(n, US4) && is_ours(n, US6));
	assert_int_equal(n->n_out, 2);
	struct n_frame arp = n_out(n), ns = n_out(n);
	assert_int_equal(arp.bytes[31], 0);                /* RFC 5227: a probe has no sender */
	assert_int_equal(arp.bytes[41], 1);
	assert_int_equal(ns.bytes[54], 135);
	assert_int_equal(ns.n_bytes, 14 + 40 + 24);        /* RFC 4862 5.4.2: no source, so no link-layer option */
	assert_memory_equal(ns.bytes + 22, (uint8_t[16]){0}, 16);
	n_in(n, f, n_nd(f, 135, "fd00:f011::2", US6, US6, 0, 2)); /* somebody who wants to talk to us */
	struct n_frame na = n_out(n);
	assert_int_equal(na.bytes[54], 136);
	assert_int_equal(na.bytes[58] & 0x20, 0); /* RFC 4429 3.3: overrides nobody */
	n->n_out = 0;
	n_wait(n, 200000);
	n_silent(n);
	n_wait(n, 100000);
	assert_int_equal(state_of(n, 0, NULL), NET_ADDRESS_IN_USE);
	assert_int_equal(n_sent(n, RTE_ETHER_TYPE_ARP, 1), 1);
	n_wait(n, 2100000);
	assert_int_equal(n_sent(n, RTE_ETHER_TYPE_IPV6, 136), 1);
	n_wait(n, 20000000);
	n->n_out = 0;
	n_in(n, f, n_nd(f, 135, "fd00:f011::2", US6, US6, 0, 2));
	assert_int_equal(n_out(n).bytes[58] & 0x20, 0x20);
	n_net_free(n);
}

static void test_strict_addresses_are_not_ours_before_nobody_objected(void **state)
{
	struct n_net *n = n_net(.no_announce_check = true, .address_check = NET_CHECK_STRICT);
	struct net_addr peer4 = n_addr("198.18.0.2"), source;
	uint8_t f[200];

	assert_false(is_ours(n, US4) || is_ours(n, US6));
	assert_false(net_source_for(n->w, &peer4, &source));
	n->n_out = 0;
	n_in(n, f, n_arp(f, 1, "198.18.0.2", US4, 2));
	n_in(n, f, n_nd(f, 135, "fd00:f011::2", US6, US6, 0, 2));
	n_silent(n);
	n_wait(n, 1001000);
	assert_true(is_ours(n, US6));
	assert_false(is_ours(n, US4));
	assert_int_equal(n_sent(n, RTE_ETHER_TYPE_IPV6, 136), 1);
	n_wait(n, 1000000);
	assert_int_equal(t_counter(n->w, NET, ADDRESS_PROBES_TX), 4); /* three of IPv4, one of IPv6 */
	n_wait(n, 2001000);
	assert_true(is_ours(n, US4));
	assert_true(net_source_for(n->w, &peer4, &source));
	n->n_out = 0;
	n_in(n, f, n_arp(f, 1, "198.18.0.2", US4, 2));
	assert_int_equal(n_out(n).bytes[21], 2);
	n_net_free(n);
}

static void test_an_address_that_somebody_has_is_given_up(void **state)
{
	for (int strict = 0; strict < 2; strict++) {
		struct n_net *n = n_net(.no_announce_check = true, .address_check = strict ? NET_CHECK_STRICT : NET_CHECK_OPTIMISTIC);
		uint8_t f[200], mac;

		n_in(n, f, n_arp(f, 2, US4, US4, 9)); /* the owner answers our probe */
		n_in(n, f, n_nd(f, 136, US6, "ff02::1", US6, 0x20000000, 8));
		assert_int_equal(state_of(n, 0, &mac), NET_ADDRESS_DUPLICATE);
		assert_int_equal(mac, 9);
		assert_int_equal(state_of(n, 1, &mac), NET_ADDRESS_DUPLICATE);
		assert_int_equal(mac, 8);
		assert_int_equal(t_counter(n->w, NET, ADDRESS_DUPLICATES), 2);
		assert_int_equal(t_reason(n->w, NET, ADDRESS_CONFLICT), 2);
		assert_false(is_ours(n, US4) || is_ours(n, US6));
		n->n_out = 0;
		n_in(n, f, n_arp(f, 1, "198.18.0.2", US4, 2)); /* no longer ours to answer for */
		n_wait(n, 20000000);
		n_silent(n);
		n_net_free(n);
	}
}

static void test_two_that_probe_at_once_both_give_way(void **state)
{
	struct n_net *n = n_net(.address_check = NET_CHECK_STRICT);
	uint8_t f[200];

	n_in(n, f, n_arp(f, 1, "0.0.0.0", US4, 9));
	n_in(n, f, n_nd(f, 135, "::", "ff02::1:ff00:1", US6, 0, 0));
	assert_int_equal(state_of(n, 0, NULL), NET_ADDRESS_DUPLICATE);
	assert_int_equal(state_of(n, 1, NULL), NET_ADDRESS_DUPLICATE);
	n_net_free(n);
}

static void test_an_address_in_use_is_kept_and_defended_at_a_limited_rate(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[200];

	n_wait(n, 5000000);
	n->n_out = 0;
	for (int i = 0; i < 50; i++)
		n_in(n, f, n_arp(f, 1, US4, US4, 9));
	assert_int_equal(n->n_out, 1); /* RFC 5227 2.4 b: one announcement in ten seconds */
	assert_int_equal(n_sent(n, RTE_ETHER_TYPE_ARP, 1), 1);
	n_wait(n, 10001000);
	n_in(n, f, n_arp(f, 2, US4, "198.18.0.2", 9));
	assert_int_equal(n_sent(n, RTE_ETHER_TYPE_ARP, 1), 1);
	n_in(n, f, n_nd(f, 136, US6, "ff02::1", US6, 0x20000000, 8));
	assert_int_equal(n_sent(n, RTE_ETHER_TYPE_IPV6, 136), 1);
	assert_true(is_ours(n, US4) && is_ours(n, US6));
	assert_int_equal(t_reason(n->w, NET, ADDRESS_CONFLICT), 52);
	n_in(n, f, n_nd(f, 135, "::", "ff02::1:ff00:1", US6, 0, 0)); /* somebody asks whether he may have it */
	assert_int_equal(n_sent(n, RTE_ETHER_TYPE_IPV6, 136), 1);
	n_net_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unasked_addresses_are_announced_at_once),
		cmocka_unit_test(test_optimistic_addresses_are_used_at_once_asked_for_and_announced_twice),
		cmocka_unit_test(test_strict_addresses_are_not_ours_before_nobody_objected),
		cmocka_unit_test(test_an_address_that_somebody_has_is_given_up),
		cmocka_unit_test(test_two_that_probe_at_once_both_give_way),
		cmocka_unit_test(test_an_address_in_use_is_kept_and_defended_at_a_limited_rate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
