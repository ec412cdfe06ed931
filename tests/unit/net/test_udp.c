/* udp.c: who gets a datagram, what its checksum may be, who is refused, and what sending makes. */
#include <errno.h>

#include "tests/unit/net/rig.h"

struct heard {
	uint32_t n, n_errors, n_bytes;
	uint8_t bytes[64];
	struct net_udp_datagram d;
};

static void input(struct foil_worker *w, void *arg, struct rte_mbuf *own_payload, const struct net_udp_datagram *d)
{
	struct heard *h = arg;

	h->n++;
	h->d = *d;
	h->n_bytes = own_payload->pkt_len;
	assert_int_equal(own_payload->pkt_len, own_payload->data_len);
	memcpy(h->bytes, rte_pktmbuf_mtod(own_payload, const void *), FOIL_MIN(h->n_bytes, (uint32_t)sizeof(h->bytes)));
	rte_pktmbuf_free(own_payload);
}

static void error(struct foil_worker *w, void *arg, const struct net_icmp_error *e)
{
	((struct heard *)arg)->n_errors++;
}

/* A datagram for port 53 with these bytes, and its checksum over len of them. */
static uint32_t udp(uint8_t out[64], const char *src, const char *dst, const char *text, uint16_t len, bool no_sum)
{
	struct net_addr s = n_addr(src), d = n_addr(dst);
	uint32_t n = 8 + (uint32_t)strlen(text);

	memcpy(out, (uint8_t[]){0x30, 0x39, 0, 53, (uint8_t)(len >> 8), (uint8_t)len, 0, 0}, 8);
	memcpy(out + 8, text, strlen(text));
	uint16_t sum = net_sum_fold(net_sum_pseudo(&s, &d, 17, len) + net_sum(out, FOIL_MIN(len, n)));
	if (!no_sum)
		memcpy(out + 6, &sum, 2);
	return n;
}

static void in4(struct n_net *n, const char *text, uint16_t len, bool no_sum, uint8_t spoil)
{
	uint8_t f[200], u[64];

	uint32_t n_bytes = udp(u, "198.18.0.2", "198.18.0.1", text, len, no_sum);
	u[7] ^= spoil;
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 17, NULL, 0, u, n_bytes));
}

static void in6(struct n_net *n, const char *text, uint16_t len, bool no_sum, uint8_t spoil)
{
	uint8_t f[200], u[64];

	uint32_t n_bytes = udp(u, "fd00:f011::2", "fd00:f011::1", text, len, no_sum);
	u[7] ^= spoil;
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 17, 64, u, n_bytes));
}

static struct net_udp_params bind_to(struct n_net *n, struct heard *h, uint16_t port)
{
	struct net_udp_params p = {.port = port, .input = input, .error = error, .arg = h};

	assert_int_equal(net_udp_bind(n->w, &p), 0);
	return p;
}

static void test_a_datagram_reaches_who_has_its_port(void **state)
{
	struct n_net *n = n_net();
	struct heard h = {0};
	struct net_addr peer = n_addr("198.18.0.2");

	(void)bind_to(n, &h, 53);
	in4(n, "hello", 13, false, 0);
	assert_int_equal(h.n, 1);
	assert_int_equal(h.n_bytes, 5);
	assert_memory_equal(h.bytes, "hello", 5);
	assert_true(net_addr_eq(&h.d.src, &peer));
	assert_int_equal(h.d.src_port, 12345);
	assert_int_equal(h.d.dst_port, 53);
	in6(n, "", 8, false, 0);
	assert_int_equal(h.n, 2);
	assert_int_equal(h.n_bytes, 0);
	assert_int_equal(t_counter(n->w, NET, UDP_RX), 2);
	n_silent(n);
	n_net_free(n);
}

static void test_checksums_none_in_ipv4_and_never_none_in_ipv6(void **state)
{
	struct n_net *n = n_net();
	struct heard h = {0};

	(void)bind_to(n, &h, 53);
	in4(n, "x", 9, true, 0);
	assert_int_equal(h.n, 1);
	in6(n, "x", 9, true, 0);
	in4(n, "x", 9, false, 1);
	in6(n, "x", 9, false, 1);
	assert_int_equal(h.n, 1);
	assert_int_equal(t_reason(n->w, NET, BAD_CHECKSUM), 3);
	n_net_free(n);
}

static void test_lengths_shorter_than_ip_says_are_cut_and_longer_ones_refused(void **state)
{
	struct n_net *n = n_net();
	struct heard h = {0};

	(void)bind_to(n, &h, 53);
	in4(n, "hello and more", 13, false, 0);
	in6(n, "hello and more", 13, false, 0);
	assert_int_equal(h.n, 2);
	assert_int_equal(h.n_bytes, 5);
	for (uint16_t len = 0; len < 8; len++)
		in4(n, "hello", len, true, 0);
	in4(n, "hello", 14, true, 0);
	in4(n, "hello", 65535, true, 0);
	assert_int_equal(h.n, 2);
	assert_int_equal(t_reason(n->w, NET, L4_SHORT), 10);
	n_net_free(n);
}

/* The next ICMP message to the peer, past questions about it. */
static struct n_frame icmp_out(struct n_net *n, bool v6)
{
	struct n_frame f = n_out(n);

	while (v6 ? f.bytes[20] != 58 || f.bytes[54] >= 128 : f.bytes[13] != 0)
		f = n_out(n);
	return f;
}

static void test_a_port_nobody_has_is_refused_once_its_checksum_is_right(void **state)
{
	struct n_net *n = n_net();
	struct heard h = {0};

	n_meet(n);
	n_wait(n, 5000000);
	n->n_out = 0;
	in4(n, "x", 9, false, 1); /* nobody knows who sent that */
	n_silent(n);
	in4(n, "x", 9, false, 0);
	assert_int_equal(icmp_out(n, false).bytes[35], 3);
	assert_int_equal(t_reason(n->w, NET, NO_PORT), 1);
	struct net_udp_params p = bind_to(n, &h, 54); /* another */
	in4(n, "x", 9, false, 0);
	assert_int_equal(icmp_out(n, false).bytes[35], 3);
	in6(n, "x", 9, false, 0);
	struct n_frame g = icmp_out(n, true);
	assert_int_equal(g.bytes[54], 1);
	assert_int_equal(g.bytes[55], 4);
	p.port = 53;
	assert_int_equal(net_udp_bind(n->w, &p), 0);
	in4(n, "x", 9, false, 0);
	assert_int_equal(h.n, 1);
	net_udp_unbind(n->w, &p);
	in4(n, "x", 9, false, 0);
	assert_int_equal(icmp_out(n, false).bytes[35], 3);
	n_net_free(n);
}

static void test_ports_by_address_come_first_and_there_are_so_many(void **state)
{
	struct n_net *n = n_net();
	struct heard any = {0}, one = {0};

	struct net_udp_params p = bind_to(n, &any, 53);
	assert_int_equal(net_udp_bind(n->w, &p), -EADDRINUSE);
	p = (struct net_udp_params){.addr = n_addr("198.18.0.1"), .has_addr = true, .port = 53, .input = input, .arg = &one};
	assert_int_equal(net_udp_bind(n->w, &p), 0);
	assert_int_equal(net_udp_bind(n->w, &p), -EADDRINUSE);
	in4(n, "x", 9, false, 0);
	in6(n, "x", 9, false, 0);
	assert_int_equal(one.n, 1);
	assert_int_equal(any.n, 1);
	p.addr = n_addr("198.18.0.99");
	assert_int_equal(net_udp_bind(n->w, &p), -EADDRNOTAVAIL);
	for (uint16_t port = 1000; port < 1000 + NET_UDP_PORTS_MAX - 2; port++)
		(void)bind_to(n, &any, port);
	p = (struct net_udp_params){.port = 2000, .input = input};
	assert_int_equal(net_udp_bind(n->w, &p), -ENOSPC);
	n_net_free(n);
}

static void test_sending_puts_a_header_in_front_wherever_the_payload_lies(void **state)
{
	struct n_net *n = n_net();
	struct net_udp_datagram d = {.src = n_addr("198.18.0.1"), .dst = n_addr("198.18.0.2"), .src_port = 53, .dst_port = 4000};

	n_meet(n);
	for (int shared = 0; shared < 2; shared++) {
		struct rte_mbuf *m = t_mbuf(n->w, "answer", 6);
		if (shared)
			rte_mbuf_refcnt_update(m, 1);
		net_udp_send(n->w, m, &d, NULL);
		net_flush(n->w);
		struct n_frame f = n_out(n);
		if (shared)
			rte_pktmbuf_free(m);
		assert_int_equal(f.n_bytes, 14 + 20 + 14);
		assert_memory_equal(f.bytes + 34, "\0\x35\x0f\xa0\0\x0e", 6);
		assert_memory_equal(f.bytes + 42, "answer", 6);
		uint64_t sum = net_sum_pseudo(&d.src, &d.dst, 17, 14) + net_sum(f.bytes + 34, 14);
		assert_int_equal(net_sum_16(sum), 0xffff);
	}
	n_net_free(n);
}

/* Our peer's word that port 4000 has nobody for a datagram from src, port 53. */
static void port_unreachable(struct n_net *n, const char src[4])
{
	uint8_t f[200], icmp[36] = {3, 3}, quoted[] = {0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 198, 18, 0, 2, 0, 53, 0x0f, 0xa0, 0, 8, 0, 0};

	memcpy(quoted + 12, src, 4);
	memcpy(icmp + 8, quoted, sizeof(quoted));
	uint16_t sum = net_sum_fold(net_sum(icmp, sizeof(icmp)));
	memcpy(icmp + 2, &sum, 2);
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 1, NULL, 0, icmp, sizeof(icmp)));
}

static void test_icmp_errors_reach_who_sent_and_exhaustion_loses_the_datagram_only(void **state)
{
	struct n_net *n = n_net();
	struct heard h = {0};
	struct net_udp_datagram d = {.src = n_addr("198.18.0.1"), .dst = n_addr("198.18.0.2"), .src_port = 53, .dst_port = 4000};

	(void)bind_to(n, &h, 53);
	port_unreachable(n, "\xc6\x12\x00\x01");
	assert_int_equal(h.n_errors, 1);
	n_meet(n);
	struct rte_mbuf *m = t_mbuf(n->w, "answer", 6);
	rte_mbuf_refcnt_update(m, 1);
	t_pool_drain(n->w->mbuf_pool, 0);
	net_udp_send(n->w, m, &d, NULL);
	t_pool_refill(n->w->mbuf_pool);
	rte_pktmbuf_free(m);
	assert_int_equal(t_reason(n->w, NET, NO_MBUF), 1);
	n_silent(n);
	n_net_free(n);
}

/* Of captured addresses TCP alone is ours: who says that a datagram of theirs was lost is not believed. */
static void test_icmp_errors_about_captured_addresses_are_not_for_us(void **state)
{
	struct net_prefix captured[] = {{n_addr("203.0.113.0"), 120}};
	struct n_net *n = n_net(.captured = captured, .n_captured = 1);
	struct heard h = {0};

	(void)bind_to(n, &h, 53);
	port_unreachable(n, "\xcb\x00\x71\x09");
	assert_int_equal(h.n_errors, 0);
	assert_int_equal(t_reason(n->w, NET, ICMP_NOT_FROM_US), 1);
	n_silent(n);
	n_net_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_datagram_reaches_who_has_its_port),
		cmocka_unit_test(test_checksums_none_in_ipv4_and_never_none_in_ipv6),
		cmocka_unit_test(test_lengths_shorter_than_ip_says_are_cut_and_longer_ones_refused),
		cmocka_unit_test(test_a_port_nobody_has_is_refused_once_its_checksum_is_right),
		cmocka_unit_test(test_ports_by_address_come_first_and_there_are_so_many),
		cmocka_unit_test(test_sending_puts_a_header_in_front_wherever_the_payload_lies),
		cmocka_unit_test(test_icmp_errors_reach_who_sent_and_exhaustion_loses_the_datagram_only),
		cmocka_unit_test(test_icmp_errors_about_captured_addresses_are_not_for_us),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
