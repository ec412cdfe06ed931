/* nexthop.c, route.c: a next hop that does not answer gives way, flows find the other way, and come back when it answers again. */
#include "dataplane/core/error.h"
#include "tests/unit/net/rig.h"

static struct n_net *with_routes(bool fallback)
{
	struct net_route_conf routes[3] = {
		{.prefix = {n_addr("203.0.113.0"), 120}, .via = n_addr("198.18.0.8")},
		{.prefix = {n_addr("203.0.113.0"), 120}, .via = n_addr("198.18.0.9")},
		{.prefix = {n_addr("0.0.0.0"), 96}, .via = n_addr("198.18.0.2")},
	};

	return n_net(.routes = routes, .n_routes = fallback ? 3 : 2);
}

static void answer(struct n_net *n, const char *address, uint8_t mac_last)
{
	uint8_t f[200];

	n_in(n, f, n_arp(f, 2, address, "198.18.0.1", mac_last));
}

/* Sends one segment; the last byte of the link-layer address that it went to, 0 if it waits. */
static uint8_t goes_to(struct n_net *n, struct net_dst *dst)
{
	struct net_addr src = n_addr("198.18.0.1"), to = n_addr("203.0.113.5");
	uint8_t tcp[20];

	n->n_out = 0;
	n_tcp(tcp, "198.18.0.1", "203.0.113.5");
	net_ip_output(n->w, t_mbuf(n->w, tcp, sizeof(tcp)), &src, &to, 6, 0, dst);
	net_flush(n->w);
	for (uint32_t i = 0; i < n->n_out; i++)
		if (n->out[i].bytes[13] == 0)
			return n->out[i].bytes[5];
	return 0;
}

static bool is_down(struct n_net *n, uint16_t i)
{
	struct net_next_hop_status s;

	assert_true(net_next_hop_status(n->w, i, &s));
	return s.is_down;
}

static void test_next_hops_are_asked_without_traffic_and_the_first_named_is_used(void **state)
{
	struct n_net *n = with_routes(false);
	struct net_dst dst = {0};
	struct net_next_hop_status s;

	n_wait(n, 1001000);
	assert_int_equal(n->n_out, 2);
	answer(n, "198.18.0.8", 8);
	answer(n, "198.18.0.9", 9);
	assert_int_equal(goes_to(n, &dst), 8);
	n_wait(n, 9000000);
	answer(n, "198.18.0.8", 8);
	n->n_out = 0;
	n_wait(n, 1100000); /* .9 was not heard of for 10 s: asked alone */
	assert_int_equal(n->n_out, 1);
	assert_int_equal(n->out[0].bytes[5], 9);
	assert_false(net_next_hop_status(n->w, 2, &s));
	n_net_free(n);
}

static void test_flows_leave_a_dead_next_hop_and_come_back(void **state)
{
	struct n_net *n = with_routes(false);
	struct net_dst dst = {0};

	n_wait(n, 1001000);
	answer(n, "198.18.0.8", 8);
	answer(n, "198.18.0.9", 9);
	assert_int_equal(goes_to(n, &dst), 8);
	for (int i = 0; i < 20; i++) { /* .8 is silent from now on */
		n_wait(n, 1000000);
		answer(n, "198.18.0.9", 9);
	}
	assert_true(is_down(n, 0));
	assert_false(is_down(n, 1));
	assert_int_equal(t_counter(n->w, NET, NEXT_HOPS_DOWN), 1);
	assert_int_equal(t_counter(n->w, NET, NEXT_HOP_FAILURES), 1);
	assert_int_equal(goes_to(n, &dst), 9);
	answer(n, "198.18.0.8", 8);
	n_wait(n, 15000000); /* asked again, and it answers */
	answer(n, "198.18.0.8", 8);
	answer(n, "198.18.0.9", 9);
	assert_false(is_down(n, 0));
	assert_int_equal(t_counter(n->w, NET, NEXT_HOPS_DOWN), 0);
	assert_int_equal(goes_to(n, &dst), 8);
	n_net_free(n);
}

static void test_a_shorter_prefix_is_used_when_the_longer_ones_next_hops_are_dead(void **state)
{
	struct n_net *n = with_routes(true);
	struct net_dst dst = {0};

	n_wait(n, 1001000);
	for (int i = 0; i < 20; i++) {
		n_wait(n, 1000000);
		answer(n, "198.18.0.2", 2);
	}
	assert_true(is_down(n, 0));
	assert_true(is_down(n, 1));
	assert_int_equal(goes_to(n, &dst), 2);
	n_net_free(n);
}

static void test_when_none_answers_the_first_is_used_all_the_same(void **state)
{
	struct n_net *n = with_routes(false);
	struct net_dst dst = {0};

	n_wait(n, 20000000);
	assert_true(is_down(n, 0));
	assert_true(is_down(n, 1));
	assert_int_equal(goes_to(n, &dst), 0);
	answer(n, "198.18.0.8", 8); /* and it answers */
	assert_false(is_down(n, 0));
	assert_int_equal(goes_to(n, &dst), 8);
	n_net_free(n);
}

static void test_a_router_is_known_by_its_link_local_address(void **state)
{
	struct net_route_conf route = {.prefix = {n_addr("2001:db8::"), 32}, .via = n_addr("fe80::8")};
	struct n_net *n = n_net(.routes = &route, .n_routes = 1);
	struct net_addr src = n_addr("fd00:f011::1"), to = n_addr("2001:db8::5");
	uint8_t f[200], tcp[20];

	n_wait(n, 1001000);
	assert_int_equal(n->n_out, 1); /* asked for, from our global address */
	assert_int_equal(n->out[0].bytes[54], 135);
	assert_memory_equal(n->out[0].bytes + 22, src.b, 16);
	n_in(n, f, n_nd(f, 136, "fe80::8", "fd00:f011::1", "fe80::8", 0x60000000, 8));
	assert_false(is_down(n, 0));
	n->n_out = 0;
	n_tcp(tcp, "fd00:f011::1", "2001:db8::5");
	net_ip_output(n->w, t_mbuf(n->w, tcp, sizeof(tcp)), &src, &to, 6, 0, NULL);
	net_flush(n->w);
	assert_int_equal(n->n_out, 1);
	assert_int_equal(n->out[0].bytes[5], 8);
	n->n_out = 0;
	n_in(n, f, n_nd(f, 135, "fe80::9", "ff02::1:ff00:1", "fd00:f011::1", 0, 9)); /* another router asks for us, and is answered */
	assert_int_equal(n->n_out, 1);
	assert_int_equal(n->out[0].bytes[5], 9);
	assert_int_equal(n->out[0].bytes[54], 136);
	n_net_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_router_is_known_by_its_link_local_address),
		cmocka_unit_test(test_next_hops_are_asked_without_traffic_and_the_first_named_is_used),
		cmocka_unit_test(test_flows_leave_a_dead_next_hop_and_come_back),
		cmocka_unit_test(test_a_shorter_prefix_is_used_when_the_longer_ones_next_hops_are_dead),
		cmocka_unit_test(test_when_none_answers_the_first_is_used_all_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
