/* eth.c, ip4.c, ip6.c, icmp4.c, icmp6.c, input.c, output.c, route.c: what is taken, what is refused and why. */
#include <errno.h>

#include "dataplane/core/error.h"
#include "tests/unit/net/rig.h"

static uint32_t tcp4(uint8_t *f)
{
	uint8_t tcp[20];

	n_tcp(tcp, "198.18.0.2", "198.18.0.1");
	return n_ip4(f, "198.18.0.2", "198.18.0.1", 6, NULL, 0, tcp, 20);
}

static uint32_t tcp6(uint8_t *f)
{
	uint8_t tcp[20];

	n_tcp(tcp, "fd00:f011::2", "fd00:f011::1");
	return n_ip6(f, "fd00:f011::2", "fd00:f011::1", 6, 64, tcp, 20);
}

static void test_a_segment_reaches_its_protocol_bare(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[200] = {0};

	uint32_t len = tcp4(f);
	n_in(n, f, 60); /* padded to the least frame: the padding goes */
	assert_int_equal(len, 54);
	assert_int_equal(n->n_up, 1);
	assert_int_equal(n->up->pkt_len, 20);
	assert_memory_equal(rte_pktmbuf_mtod(n->up, void *), f + 34, 20);
	const struct net_rx_meta *meta = NET_RX_META(n->up);
	struct net_addr peer = n_addr("198.18.0.2");
	assert_true(net_addr_eq(&meta->src, &peer));
	assert_int_equal(meta->ttl, 64);
	n_in(n, f, tcp6(f));
	assert_int_equal(n->n_up, 2);
	n_net_free(n);
}

static void test_headers_cut_at_every_byte_are_pulled_together(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[200];

	for (uint16_t cut = 1; cut < 54; cut++)
		n_in_cut(n, f, tcp4(f), cut);
	assert_int_equal(n->n_up, 53);
	for (uint16_t cut = 1; cut < 74; cut++)
		n_in_cut(n, f, tcp6(f), cut);
	assert_int_equal(n->n_up, 53 + 73);
	n_net_free(n);
}

static void test_short_frames_of_every_length_are_dropped(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[200];

	uint32_t len = tcp4(f);
	for (uint32_t cut = 1; cut < len; cut++)
		n_in(n, f, cut);
	len = tcp6(f);
	for (uint32_t cut = 1; cut < len; cut++)
		n_in(n, f, cut);
	assert_int_equal(n->n_up, 0);
	n_net_free(n);
}

static void test_whose_frame_it_is(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[200];
	uint32_t len = tcp4(f);

	f[5] = 9; /* another station's */
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, NOT_OUR_MAC), 1);
	len = tcp4(f);
	f[11] = 1; /* our own, come back */
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, OWN_FRAME), 1);
	len = tcp4(f);
	f[6] = 3; /* from a group */
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, BAD_SOURCE_MAC), 1);
	len = tcp4(f);
	memset(f, 0xff, 6); /* RFC 1122 3.3.6 */
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, NOT_OUR_MAC), 2);
	len = tcp4(f);
	f[12] = 0x88;
	f[13] = 0xcc; /* LLDP */
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, ETHERTYPE), 1);
	assert_int_equal(n->n_up, 0);
	n_net_free(n);
}

static uint32_t tag(uint8_t *f, uint32_t len, uint16_t vlan)
{
	memmove(f + 16, f + 12, len - 12);
	f[12] = 0x81;
	f[13] = 0;
	f[14] = (uint8_t)(vlan >> 8);
	f[15] = (uint8_t)vlan;
	return len + 4;
}

static void test_vlan_tags_are_required_where_they_are_said(void **state)
{
	struct n_net *n = n_net(.vlan = 100);
	uint8_t f[200];

	n_in(n, f, tcp4(f));
	assert_int_equal(t_reason(n->w, NET, OTHER_VLAN), 1);
	n_in(n, f, tag(f, tcp4(f), 101));
	assert_int_equal(t_reason(n->w, NET, OTHER_VLAN), 2);
	n_in(n, f, tag(f, tcp4(f), 0x6000 | 100)); /* priority bits do not matter */
	assert_int_equal(n->n_up, 1);
	n_in(n, f, tag(f, n_arp(f, 1, "198.18.0.2", "198.18.0.1", 2), 100));
	struct n_frame g = n_out(n);
	assert_int_equal(g.bytes[12], 0x81);
	assert_int_equal(g.bytes[15], 100);
	n_net_free(n);
	n = n_net();
	n_in(n, f, tag(f, tcp4(f), 100));
	assert_int_equal(t_reason(n->w, NET, OTHER_VLAN), 1);
	n_net_free(n);
}

static void test_bad_ipv4_headers(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[200], *ip = f + 14;
	uint32_t len = tcp4(f);

	ip[0] = 0x65;
	n_in(n, f, len);
	len = tcp4(f);
	ip[0] = 0x44;
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, IP4_VERSION), 2);
	len = tcp4(f);
	ip[11] ^= 1;
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, IP4_CHECKSUM), 1);
	len = tcp4(f);
	ip[3] = 200;
	n_ip4_fix(ip);
	n_in(n, f, len);
	len = tcp4(f);
	ip[3] = 19;
	n_ip4_fix(ip);
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, IP4_SHORT), 2);
	len = tcp4(f);
	ip[3] = 39; /* one byte too few for TCP */
	n_ip4_fix(ip);
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, L4_SHORT), 1);
	len = tcp4(f);
	f[50] ^= 1; /* TCP's checksum */
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, BAD_CHECKSUM), 1);
	assert_int_equal(n->n_up, 0);
	n_net_free(n);
}

static void test_sources_that_no_host_has(void **state)
{
	static const char *const bad4[] = {"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1" /* land */};
	static const char *const bad6[] = {"::", "::1", "ff02::1", "fd00:f011::1"};
	struct n_net *n = n_net();
	uint8_t f[200], tcp[20];

	for (size_t i = 0; i < FOIL_COUNT_OF(bad4); i++) {
		n_tcp(tcp, bad4[i], "198.18.0.1");
		n_in(n, f, n_ip4(f, bad4[i], "198.18.0.1", 6, NULL, 0, tcp, 20));
	}
	assert_int_equal(t_reason(n->w, NET, IP4_BAD_SOURCE), FOIL_COUNT_OF(bad4));
	for (size_t i = 0; i < FOIL_COUNT_OF(bad6); i++) {
		n_tcp(tcp, bad6[i], "fd00:f011::1");
		n_in(n, f, n_ip6(f, bad6[i], "fd00:f011::1", 6, 64, tcp, 20));
	}
	assert_int_equal(t_reason(n->w, NET, IP6_BAD_SOURCE), FOIL_COUNT_OF(bad6));
	assert_int_equal(n->n_up, 0);
	n_net_free(n);
}

static void test_ipv4_options_are_passed_over_and_source_routes_refused(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[200], tcp[20];
	static const uint8_t harmless[8] = {1, 7, 7, 4, 0, 0, 0, 0}, lsrr[8] = {131, 7, 4, 1, 2, 3, 4, 0}, ssrr[8] = {137, 7, 4, 1, 2, 3, 4, 0},
			     zero[4] = {7, 0, 0, 0}, one[4] = {7, 1, 0, 0}, beyond[4] = {7, 9, 0, 0};

	n_tcp(tcp, "198.18.0.2", "198.18.0.1");
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 6, harmless, 8, tcp, 20));
	assert_int_equal(n->n_up, 1);
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 6, lsrr, 8, tcp, 20));
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 6, ssrr, 8, tcp, 20));
	assert_int_equal(t_reason(n->w, NET, IP4_SOURCE_ROUTE), 2);
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 6, zero, 4, tcp, 20));
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 6, one, 4, tcp, 20));
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 6, beyond, 4, tcp, 20));
	assert_int_equal(t_reason(n->w, NET, IP4_OPTIONS), 3);
	assert_int_equal(n->n_up, 1);
	n_net_free(n);
}

static void in6(struct n_net *n, uint8_t next, const uint8_t *ext, uint32_t n_ext)
{
	uint8_t f[900], payload[800];

	memcpy(payload, ext, n_ext);
	n_tcp(payload + n_ext, "fd00:f011::2", "fd00:f011::1");
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", next, 64, payload, n_ext + 20));
}

static void test_ipv6_extension_headers(void **state)
{
	struct n_net *n = n_net();
	static const uint8_t hop[8] = {6, 0, 1, 4}, dest_dest[16] = {60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4}, late_hop[16] = {0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4},
			     routed[8] = {6, 0, 0, 1}, done[8] = {6, 0, 0, 0}, skip[8] = {6, 0, 0x1e, 4}, discard[8] = {6, 0, 0x5e, 4},
			     beyond[8] = {6, 9, 1, 4}, bad_option[8] = {6, 0, 1, 200};
	uint8_t many[80];

	in6(n, 0, hop, 8);
	in6(n, 60, dest_dest, 16);
	in6(n, 43, done, 8);
	in6(n, 60, skip, 8);
	assert_int_equal(n->n_up, 4);
	in6(n, 43, routed, 8);
	assert_int_equal(t_reason(n->w, NET, IP6_ROUTING), 1);
	in6(n, 60, discard, 8); /* RFC 8200 4.2: unknown, and not to be passed over */
	assert_int_equal(t_reason(n->w, NET, IP6_OPTION), 1);
	in6(n, 60, late_hop, 16);
	in6(n, 60, beyond, 8);
	in6(n, 60, bad_option, 8);
	for (uint32_t i = 0; i < 80; i += 8)
		memcpy(many + i, (uint8_t[8]){60, 0, 1, 4}, 8);
	many[72] = 6;
	in6(n, 60, many, 80);
	assert_int_equal(t_reason(n->w, NET, IP6_EXTENSIONS), 4);
	assert_int_equal(n->n_up, 4);
	n_net_free(n);
}

static void test_echo_is_answered_in_both_families(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[300], icmp[64] = {8, 0, 0, 0, 1, 2, 3, 4, 'p', 'i', 'n', 'g'};

	n_meet(n);
	uint16_t sum = (uint16_t)~rte_raw_cksum(icmp, 64);
	memcpy(icmp + 2, &sum, 2);
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 1, NULL, 0, icmp, 64));
	struct n_frame g = n_out(n);
	assert_int_equal(g.bytes[34], 0);
	assert_memory_equal(g.bytes + 38, icmp + 4, 60);
	assert_int_equal(rte_raw_cksum(g.bytes + 34, 64), 0xffff);
	assert_int_equal(rte_raw_cksum(g.bytes + 14, 20), 0xffff);
	icmp[0] = 128;
	uint32_t len = n_ip6(f, "fd00:f011::2", "fd00:f011::1", 58, 64, icmp, 64);
	n_icmp6_fix(f);
	n_in(n, f, len);
	g = n_out(n);
	assert_int_equal(g.bytes[54], 129);
	n->n_out = 0; /* an entry that was only heard of is probed at its first use */
	icmp[0] = 8;
	icmp[2] ^= 1;
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 1, NULL, 0, icmp, 64));
	n_silent(n);
	assert_int_equal(t_reason(n->w, NET, BAD_CHECKSUM), 1);
	n_net_free(n);
}

static void test_a_protocol_nobody_speaks_is_refused_at_a_limited_rate(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[300], udp[8] = {0, 9, 0, 9, 0, 8, 0, 0};

	n_meet(n);
	n_wait(n, 5000000);
	n->n_out = 0;
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 17, NULL, 0, udp, 8));
	struct n_frame g = n_out(n);
	assert_int_equal(g.bytes[34], 3);
	assert_int_equal(g.bytes[35], 3); /* port unreachable */
	assert_memory_equal(g.bytes + 42, f + 14, 28); /* quotes what it is about */
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 132, NULL, 0, udp, 8));
	assert_int_equal(n_out(n).bytes[35], 2); /* protocol unreachable */
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 132, 64, udp, 8));
	assert_int_equal(n_out(n).bytes[54], 4); /* parameter problem: next header */
	for (int i = 0; i < 200; i++)
		n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 17, NULL, 0, udp, 8));
	assert_true(n->n_out <= 50);
	assert_true(t_reason(n->w, NET, ICMP_RATE_LIMIT) >= 150);
	n_net_free(n);
}

static uint32_t unreachable4(uint8_t *f, const char *quoted_src, uint8_t code, uint16_t mtu)
{
	uint8_t inner[100], icmp[36] = {3, code, 0, 0, 0, 0, (uint8_t)(mtu >> 8), (uint8_t)mtu}, tcp[20];

	n_tcp(tcp, "198.18.0.1", "198.18.0.2");
	(void)n_ip4(inner, quoted_src, "198.18.0.2", 6, NULL, 0, tcp, 20);
	memcpy(icmp + 8, inner + 14, 28);
	uint16_t sum = (uint16_t)~rte_raw_cksum(icmp, 36);
	memcpy(icmp + 2, &sum, 2);
	return n_ip4(f, "198.18.0.77", "198.18.0.1", 1, NULL, 0, icmp, 36);
}

static void test_errors_about_our_packets_reach_their_protocol(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[300];

	n_in(n, f, unreachable4(f, "198.18.0.1", 4, 1400));
	assert_int_equal(n->n_up_errors, 1);
	assert_int_equal(n->error.kind, NET_ICMP_TOO_BIG);
	assert_int_equal(n->error.mtu, 1400);
	n_in(n, f, unreachable4(f, "198.18.0.1", 1, 0));
	assert_int_equal(n->error.kind, NET_ICMP_UNREACHABLE);
	n_in(n, f, unreachable4(f, "198.18.0.1", 3, 0));
	assert_int_equal(n->error.kind, NET_ICMP_PORT_UNREACHABLE);
	n_in(n, f, unreachable4(f, "198.18.0.1", 4, 20)); /* no link is so narrow */
	assert_int_equal(t_reason(n->w, NET, ICMP_BAD_MTU), 1);
	n_in(n, f, unreachable4(f, "198.18.0.99", 3, 0)); /* we never sent that */
	assert_int_equal(t_reason(n->w, NET, ICMP_NOT_FROM_US), 1);
	assert_int_equal(n->n_up_errors, 3);
	n_silent(n); /* never an error about an error */
	n_net_free(n);
}

static void test_too_big_of_ipv6(void **state)
{
	struct n_net *n = n_net();
	uint8_t f[300], inner[200], icmp[68] = {2, 0, 0, 0, 0, 0, 5, 0 /* 1280 */}, tcp[20];

	n_tcp(tcp, "fd00:f011::1", "fd00:f011::2");
	(void)n_ip6(inner, "fd00:f011::1", "fd00:f011::2", 6, 64, tcp, 20);
	memcpy(icmp + 8, inner + 14, 60);
	uint32_t len = n_ip6(f, "fd00:f011::77", "fd00:f011::1", 58, 64, icmp, 68);
	n_icmp6_fix(f);
	n_in(n, f, len);
	assert_int_equal(n->n_up_errors, 1);
	assert_int_equal(n->error.kind, NET_ICMP_TOO_BIG);
	assert_int_equal(n->error.mtu, 1280);
	icmp[6] = 4; /* below 1280: RFC 8201 4 */
	len = n_ip6(f, "fd00:f011::77", "fd00:f011::1", 58, 64, icmp, 68);
	n_icmp6_fix(f);
	n_in(n, f, len);
	assert_int_equal(t_reason(n->w, NET, ICMP_BAD_MTU), 1);
	n_net_free(n);
}

static void test_what_is_not_ours_goes_to_the_exception_path_or_is_dropped(void **state)
{
	struct n_net *n = n_net(.exception = true);
	uint8_t f[300], udp[8] = {0, 9, 0, 9, 0, 8, 0, 0};

	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.99", 17, NULL, 0, udp, 8));
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 17, NULL, 0, udp, 8)); /* BGP's and ssh's host may be that of the kernel */
	n_in(n, f, n_arp(f, 1, "198.18.0.2", "198.18.0.99", 2));
	assert_int_equal(n->n_exceptions, 3);
	n_silent(n);
	n_net_free(n);
	n = n_net();
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.99", 17, NULL, 0, udp, 8));
	assert_int_equal(t_reason(n->w, NET, NOT_OURS), 1);
	n_net_free(n);
}

static void test_what_neighbours_say_is_for_the_kernel_too(void **state)
{
	struct n_net *n = n_net(.exception = true);
	uint8_t f[200];

	n_meet(n);
	uint32_t before = n->n_exceptions;
	n_in(n, f, n_arp(f, 2, "198.18.0.2", "198.18.0.9", 2)); /* answers a question of the kernel's, and we know the sender, too */
	n_in(n, f, n_arp(f, 1, "198.18.0.2", "198.18.0.2", 2)); /* gratuitous */
	n_in(n, f, n_nd(f, 136, "fd00:f011::2", "ff02::1", "fd00:f011::2", 0x20000000, 2));
	assert_int_equal(n->n_exceptions - before, 3);
	n_in(n, f, n_nd(f, 136, "fd00:f011::2", "fd00:f011::1", "fd00:f011::2", 0x60000000, 2)); /* to us alone */
	n_in(n, f, n_arp(f, 1, "198.18.0.2", "198.18.0.1", 2));
	assert_int_equal(n->n_exceptions - before, 3);
	n_net_free(n);
}

static void test_flows_of_others_are_steered_before_work_is_done(void **state)
{
	struct n_net *n = n_net(.steer = true);
	uint8_t f[300], tcp[20];

	for (uint16_t port = 1; port <= 100; port++) {
		n_tcp(tcp, "198.18.0.2", "198.18.0.1");
		uint32_t len = n_ip4(f, "198.18.0.2", "198.18.0.1", 6, NULL, 0, tcp, 20);
		f[35] = (uint8_t)port; /* the checksum is wrong now; only the owner looks */
		n_in(n, f, len);
	}
	assert_true(n->n_steered > 20 && n->n_steered < 80);
	assert_int_equal(n->n_steered + n->n_up + t_reason(n->w, NET, BAD_CHECKSUM), 100);
	n_net_free(n);
}

static void send_from(struct n_net *n, const char *src, const char *dst, struct rte_mbuf *m)
{
	struct net_addr from = n_addr(src), to = n_addr(dst);

	net_ip_output(n->w, m, &from, &to, IPPROTO_TCP, 0, NULL);
	net_flush(n->w);
}

static struct rte_mbuf *segment(struct n_net *n, uint32_t n_bytes, uint16_t seg_bytes)
{
	uint8_t data[3000] = {[12] = 0x50};
	struct foil_chain chain = {0};

	t_chain(n->w, &chain, data, n_bytes, seg_bytes);
	chain.head->pkt_len = n_bytes;
	for (const struct rte_mbuf *s = chain.head->next; s; s = s->next)
		chain.head->nb_segs++;
	return chain.head;
}

static void test_output_is_checksummed_whole_or_in_pieces(void **state)
{
	for (int single = 0; single < 2; single++) {
		struct n_net *n = n_net(.single_seg = single);
		n_meet(n);
		for (uint16_t seg = 0; seg < 200; seg = (uint16_t)(seg * 2 + 25)) {
			send_from(n, "198.18.0.1", "198.18.0.2", segment(n, 555, seg));
			struct n_frame g = n_out(n);
			struct net_addr a = n_addr("198.18.0.1"), b = n_addr("198.18.0.2");
			assert_int_equal(g.n_bytes, 14 + 20 + 555);
			assert_int_equal(net_sum_16(net_sum_pseudo(&a, &b, 6, 555) + net_sum(g.bytes + 34, 555)), 0xffff);
			assert_int_equal(rte_raw_cksum(g.bytes + 14, 20), 0xffff);
			assert_int_equal(g.bytes[20] & 0x40, 0x40); /* DF */
		}
		n_net_free(n);
	}
}

static void test_output_that_cannot_go(void **state)
{
	struct n_net *n = n_net();

	n_meet(n);
	send_from(n, "198.18.0.1", "198.18.0.2", segment(n, 1481, 0));
	assert_int_equal(t_reason(n->w, NET, OVER_MTU), 1);
	send_from(n, "198.18.0.1", "10.0.0.1", segment(n, 100, 0));
	assert_int_equal(t_reason(n->w, NET, NO_ROUTE), 1);
	send_from(n, "198.18.0.1", "198.18.0.1", segment(n, 100, 0));
	assert_int_equal(t_reason(n->w, NET, TO_OURSELVES), 1);
	send_from(n, "198.18.0.1", "fd00:f011::2", segment(n, 100, 0));
	send_from(n, "198.18.0.1", "198.18.0.2", segment(n, 10, 0));
	assert_int_equal(t_reason(n->w, NET, BAD_OUTPUT), 2);
	n_silent(n);
	n_net_free(n);
}

static void test_a_driver_that_takes_nothing_fills_the_queue_and_no_more(void **state)
{
	struct n_net *n = n_net();

	n_meet(n);
	n->tx_blocked = true;
	for (uint32_t i = 0; i < NET_BURST * 4 + 7; i++)
		send_from(n, "198.18.0.1", "198.18.0.2", segment(n, 100, 0));
	assert_int_equal(t_reason(n->w, NET, TX_FULL), 7);
	n_net_free(n);
}

static void test_the_longest_prefix_wins(void **state)
{
	struct net_route_conf routes[] = {
		{.prefix = {n_addr("0.0.0.0"), 96}, .via = n_addr("198.18.0.254")},
		{.prefix = {n_addr("10.0.0.0"), 104}, .via = n_addr("198.18.0.253")},
		{.prefix = {n_addr("10.1.0.0"), 112}, .port = 1, .via = n_addr("198.19.0.9")},
		{.prefix = {n_addr("::"), 0}, .via = n_addr("fd00:f011::fe")},
	};
	struct n_net *n = n_net(.two_ports = true, .routes = routes, .n_routes = 4);
	static const struct {
		const char *dst, *via, *source;
		uint16_t port;
	} want[] = {{"8.8.8.8", "198.18.0.254", "198.18.0.1", 0}, {"10.9.9.9", "198.18.0.253", "198.18.0.1", 0},
		    {"10.1.2.3", "198.19.0.9", "198.19.0.1", 1}, {"198.19.0.50", NULL, "198.19.0.1", 1}, {"2001:db8::1", "fd00:f011::fe", "fd00:f011::1", 0},
		    {"fd00:f011:1::5", NULL, "fd00:f011:1::1", 1}};

	for (size_t i = 0; i < FOIL_COUNT_OF(want); i++) {
		struct net_addr dst = n_addr(want[i].dst), source, expect = n_addr(want[i].source);
		const struct net_route *r = route_find(n->w->net, &dst);
		assert_non_null(r);
		assert_int_equal(r->port, want[i].port);
		if (want[i].via) {
			struct net_addr via = n_addr(want[i].via);
			assert_true(net_addr_eq(&r->via, &via));
		} else {
			assert_true(r->on_link);
		}
		assert_true(net_source_for(n->w, &dst, &source));
		assert_true(net_addr_eq(&source, &expect));
	}
	n_net_free(n);
}

static void test_services_are_ours_and_asked_for_only_where_said(void **state)
{
	struct net_prefix services[] = {{n_addr("198.18.10.0"), 120}};
	uint8_t f[100];
	struct net_addr a = n_addr("198.18.10.5");

	for (int answer = 0; answer < 2; answer++) {
		struct n_net *n = n_net(.services = services, .n_services = 1, .services_answer_arp = answer);
		assert_true(net_is_local(n->w, &a));
		n_in(n, f, n_arp(f, 1, "198.18.0.2", "198.18.10.5", 2));
		assert_int_equal(n->n_out, answer);
		n_net_free(n);
	}
}

/* A packet of each kind to an address that is another station's. */
static void to_captured(struct n_net *n, const char *dst4, const char *dst6)
{
	uint8_t f[300], tcp[20], udp[8] = {0, 9, 0, 9, 0, 8, 0, 0}, icmp[64] = {8}, icmp6[64] = {128};
	uint16_t sum = (uint16_t)~rte_raw_cksum(icmp, 64);

	n_tcp(tcp, "198.18.0.2", dst4);
	n_in(n, f, n_ip4(f, "198.18.0.2", dst4, 6, NULL, 0, tcp, 20));
	n_tcp(tcp, "fd00:f011::2", dst6);
	n_in(n, f, n_ip6(f, "fd00:f011::2", dst6, 6, 64, tcp, 20));
	n_in(n, f, n_ip4(f, "198.18.0.2", dst4, 17, NULL, 0, udp, 8));
	n_in(n, f, n_ip6(f, "fd00:f011::2", dst6, 17, 64, udp, 8));
	memcpy(icmp + 2, &sum, 2);
	n_in(n, f, n_ip4(f, "198.18.0.2", dst4, 1, NULL, 0, icmp, 64));
	uint32_t len = n_ip6(f, "fd00:f011::2", dst6, 58, 64, icmp6, 64);
	n_icmp6_fix(f);
	n_in(n, f, len);
}

static void test_of_captured_addresses_tcp_alone_is_taken(void **state)
{
	struct net_prefix captured[] = {{n_addr("203.0.113.0"), 120}, {n_addr("2001:db8::"), 32}};
	struct net_addr inside = n_addr("203.0.113.9"), ours = n_addr("198.18.0.1");
	struct n_net *n = n_net(.captured = captured, .n_captured = 2);
	uint8_t f[300];

	to_captured(n, "203.0.113.9", "2001:db8::9");
	assert_int_equal(n->n_up, 2);
	assert_int_equal(t_reason(n->w, NET, NOT_OURS), 4); /* UDP, echo: nobody here answers for others */
	to_captured(n, "203.0.112.9", "2001:db9::9");
	assert_int_equal(n->n_up, 2);
	assert_int_equal(t_reason(n->w, NET, NOT_OURS), 10);
	n_silent(n);
	n_in(n, f, n_arp(f, 1, "198.18.0.2", "203.0.113.9", 2)); /* whose it is answers */
	n_silent(n);
	assert_true(net_is_captured(n->w, &inside));
	assert_false(net_is_local(n->w, &inside));
	assert_false(net_is_captured(n->w, &ours));
	n_in(n, f, unreachable4(f, "203.0.113.9", 4, 1400)); /* to our own address, about what went out from theirs */
	assert_int_equal(n->n_up_errors, 1);
	assert_int_equal(n->error.kind, NET_ICMP_TOO_BIG);
	n_net_free(n);
}

static void test_captured_addresses_are_reached_and_may_answer(void **state)
{
	struct net_prefix captured[] = {{n_addr("198.18.0.0"), 120}};
	struct net_addr peer = n_addr("198.18.0.2"), ours = n_addr("198.18.0.1");
	struct n_net *n = n_net(.captured = captured, .n_captured = 1);
	struct net_dst dst;
	uint8_t f[200], tcp[20];

	assert_true(net_dst_lookup(n->w, &peer, &dst));
	assert_false(net_dst_lookup(n->w, &ours, &dst)); /* ours first */
	assert_int_equal(t_reason(n->w, NET, TO_OURSELVES), 1);
	n_tcp(tcp, "198.18.0.2", "198.18.0.1"); /* its source is in the range */
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 6, NULL, 0, tcp, 20));
	assert_int_equal(n->n_up, 1);
	n_net_free(n);
}

static void test_settings_that_cannot_work_are_refused_with_a_sentence(void **state)
{
	struct foil_worker *w = t_worker();
	struct net_port port = {.mtu = 1500}, small = {.mtu = 500};
	struct net_local_conf local = {.prefix = {n_addr("198.18.0.1"), 120}}, bad_local = {.prefix = {n_addr("127.0.0.1"), 120}};
	struct net_local_conf bad_port = {.prefix = {n_addr("198.18.0.1"), 120}, .port = 3};
	struct net_route_conf off_link = {.prefix = {n_addr("10.0.0.0"), 104}, .via = n_addr("10.0.0.1")};
	struct net_params p[] = {
		{.n_ports = 0},
		{.ports = {&small}, .n_ports = 1},
		{.ports = {&port}, .n_ports = 1, .locals = &bad_local, .n_locals = 1},
		{.ports = {&port}, .n_ports = 1, .locals = &bad_port, .n_locals = 1},
		{.ports = {&port}, .n_ports = 1, .locals = &local, .n_locals = 1, .routes = &off_link, .n_routes = 1},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(p); i++) {
		struct foil_error err = {0};
		assert_int_equal(net_init(w, &p[i], &err), -EINVAL);
		assert_true(strlen(err.text) > 20);
		assert_null(w->net);
	}
	t_worker_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_segment_reaches_its_protocol_bare),
		cmocka_unit_test(test_headers_cut_at_every_byte_are_pulled_together),
		cmocka_unit_test(test_short_frames_of_every_length_are_dropped),
		cmocka_unit_test(test_whose_frame_it_is),
		cmocka_unit_test(test_vlan_tags_are_required_where_they_are_said),
		cmocka_unit_test(test_bad_ipv4_headers),
		cmocka_unit_test(test_sources_that_no_host_has),
		cmocka_unit_test(test_ipv4_options_are_passed_over_and_source_routes_refused),
		cmocka_unit_test(test_ipv6_extension_headers),
		cmocka_unit_test(test_echo_is_answered_in_both_families),
		cmocka_unit_test(test_a_protocol_nobody_speaks_is_refused_at_a_limited_rate),
		cmocka_unit_test(test_errors_about_our_packets_reach_their_protocol),
		cmocka_unit_test(test_too_big_of_ipv6),
		cmocka_unit_test(test_what_is_not_ours_goes_to_the_exception_path_or_is_dropped),
		cmocka_unit_test(test_what_neighbours_say_is_for_the_kernel_too),
		cmocka_unit_test(test_flows_of_others_are_steered_before_work_is_done),
		cmocka_unit_test(test_output_is_checksummed_whole_or_in_pieces),
		cmocka_unit_test(test_output_that_cannot_go),
		cmocka_unit_test(test_a_driver_that_takes_nothing_fills_the_queue_and_no_more),
		cmocka_unit_test(test_the_longest_prefix_wins),
		cmocka_unit_test(test_services_are_ours_and_asked_for_only_where_said),
		cmocka_unit_test(test_of_captured_addresses_tcp_alone_is_taken),
		cmocka_unit_test(test_captured_addresses_are_reached_and_may_answer),
		cmocka_unit_test(test_settings_that_cannot_work_are_refused_with_a_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
