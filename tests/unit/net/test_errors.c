/* The ICMP errors that we send, with the byte that they point at, and those that must never be sent; sources that belong elsewhere. */
#include "tests/unit/net/rig.h"

static struct n_net *ready(void)
{
	struct n_net *n = n_net();

	n_meet(n);
	n_wait(n, 5000000);
	n->n_out = 0;
	return n;
}

/* The next ICMPv6 error, past questions about the peer; false: none. */
static bool error6_out(struct n_net *n, struct n_frame *f)
{
	while (n->n_out) {
		*f = n_out(n);
		if (f->bytes[12] == 0x86 && f->bytes[20] == 58 && f->bytes[54] < 128)
			return true;
	}
	return false;
}

static void no_error6(struct n_net *n)
{
	struct n_frame f;

	assert_false(error6_out(n, &f));
}

static void assert_error6(struct n_net *n, uint8_t type, uint8_t code, uint32_t pointer, const uint8_t *about)
{
	struct n_frame g;

	assert_true(error6_out(n, &g));
	assert_int_equal(g.bytes[54], type);
	assert_int_equal(g.bytes[55], code);
	assert_int_equal(g.bytes[58] << 24 | g.bytes[59] << 16 | g.bytes[60] << 8 | g.bytes[61], pointer);
	assert_memory_equal(g.bytes + 62, about + 14, 40);
	no_error6(n);
}

static void test_ipv6_options_that_want_it_are_told_of_by_their_place(void **state)
{
	struct n_net *n = ready();
	uint8_t f[200], dest[] = {59, 0, 1, 1, 0, 0x80 | 5, 0, 0}; /* PadN, then an unknown option: discard and tell */

	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 60, 64, dest, 8));
	assert_error6(n, 4, 2, 40 + 5, f);
	dest[5] = 0xc0 | 5; /* and not if it was sent to a group: it was not */
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 60, 64, dest, 8));
	assert_error6(n, 4, 2, 40 + 5, f);
	dest[5] = 0x40 | 5; /* discard silently */
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 60, 64, dest, 8));
	no_error6(n);
	uint32_t len = n_ip6(f, "fd00:f011::2", "ff02::1", 60, 64, (dest[5] = 0x80 | 5, dest), 8);
	memcpy(f, (uint8_t[]){0x33, 0x33, 0, 0, 0, 1}, 6);
	n_in(n, f, len); /* RFC 4443 2.4 e.3: an error about what went to a group all the same */
	assert_error6(n, 4, 2, 40 + 5, f);
	f[14 + 40 + 5] = 0xc0 | 5;
	n_in(n, f, len);
	no_error6(n);
	assert_int_equal(t_reason(n->w, NET, IP6_OPTION), 5);
	n_net_free(n);
}

static void test_routing_headers_fragments_and_protocols_point_at_their_field(void **state)
{
	struct n_net *n = ready();
	uint8_t f[200], routing[8] = {59, 0, 0, 1}, frag[16] = {59, 0, 0, 1, 0, 0, 0, 7}, dest[16] = {253, 0, 1, 4};

	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 43, 64, routing, 8));
	assert_error6(n, 4, 0, 42, f);
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 44, 64, frag, 15)); /* more follows, but 7 bytes are no multiple of 8 */
	assert_error6(n, 4, 0, 4, f);
	memcpy(frag + 2, (uint8_t[]){0xff, 0xf8}, 2); /* the last piece, beyond 65,535 */
	frag[7] = 8;
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 44, 64, frag, 16));
	assert_error6(n, 4, 0, 42, f);
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 253, 64, dest, 8));
	assert_error6(n, 4, 1, 6, f);
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 60, 64, dest, 16)); /* behind an extension header */
	assert_error6(n, 4, 1, 40, f);
	n_net_free(n);
}

static void test_malformed_ipv4_options_are_told_of_by_their_place(void **state)
{
	struct n_net *n = ready();
	uint8_t f[200], options[8] = {1, 1, 7, 1}, l4[8] = {0};

	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 6, options, 8, l4, 8));
	struct n_frame g = n_out(n);
	assert_int_equal(g.bytes[34], 12);
	assert_int_equal(g.bytes[35], 0);
	assert_int_equal(g.bytes[38], 22);
	n->n_out = 0;
	memcpy(options, (uint8_t[]){131, 3, 4}, 3); /* a source route: silently */
	n_in(n, f, n_ip4(f, "198.18.0.2", "198.18.0.1", 6, options, 8, l4, 8));
	n_silent(n);
	n_net_free(n);
}

static uint32_t fragment4(uint8_t *f, uint8_t proto, uint16_t field, const uint8_t *bytes)
{
	uint32_t len = n_ip4(f, "198.18.0.2", "198.18.0.1", proto, NULL, 0, bytes, 16);

	f[14 + 5] = 9;
	f[14 + 6] = (uint8_t)(field >> 8);
	f[14 + 7] = (uint8_t)field;
	n_ip4_fix(f + 14);
	return len;
}

static void test_a_packet_whose_pieces_do_not_come_is_told_of_if_the_first_did(void **state)
{
	struct n_net *n = ready();
	uint8_t f[200], bytes[16] = {8}, frag[24] = {17, 0, 0, 1, 0, 0, 0, 7};

	n_in(n, f, fragment4(f, 17, 0x2000, bytes));
	n_wait(n, 29000000);
	n_meet(n);
	n->n_out = 0;
	n_wait(n, 2000000);
	struct n_frame g = n_out(n);
	assert_int_equal(g.bytes[34], 11);
	assert_int_equal(g.bytes[35], 1);
	assert_memory_equal(g.bytes + 42, f + 14, 36);
	assert_int_equal(t_counter(n->w, NET, ICMP_ERRORS_TX), 1);
	n_in(n, f, fragment4(f, 17, 2, bytes)); /* a later piece alone */
	n_wait(n, 31000000);
	n->n_out = 0;
	bytes[0] = 3;
	n_in(n, f, fragment4(f, 1, 0x2000, bytes)); /* an ICMP error in pieces */
	n_wait(n, 31000000);
	assert_int_equal(t_counter(n->w, NET, ICMP_ERRORS_TX), 1);
	assert_int_equal(t_reason(n->w, NET, FRAG_TIMEOUT), 3);
	n_in(n, f, n_ip6(f, "fd00:f011::2", "fd00:f011::1", 44, 64, frag, 24));
	n_wait(n, 61000000);
	assert_int_equal(t_counter(n->w, NET, ICMP_ERRORS_TX), 2);
	n_net_free(n);
}

static void test_sources_of_another_ports_subnet_and_broadcasts_are_refused(void **state)
{
	struct n_net *n = n_net(.two_ports = true);
	uint8_t f[200], tcp[20];

	static const struct {
		const char *src;
		bool is_spoofed, is_bad;
	} cases[] = {
		{"198.18.0.2", false, false}, {"203.0.113.9", false, false}, {"198.19.0.2", true, false},
		{"198.18.0.255", false, true}, {"198.18.0.0", false, true}, {"198.18.0.1", false, true}, {"198.19.0.1", false, true},
	};
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		uint64_t spoofed = t_reason(n->w, NET, SPOOFED), bad = t_reason(n->w, NET, IP4_BAD_SOURCE), up = n->n_up;
		n_tcp(tcp, cases[i].src, "198.18.0.1");
		n_in(n, f, n_ip4(f, cases[i].src, "198.18.0.1", 6, NULL, 0, tcp, 20));
		assert_int_equal(t_reason(n->w, NET, SPOOFED) - spoofed, cases[i].is_spoofed);
		assert_int_equal(t_reason(n->w, NET, IP4_BAD_SOURCE) - bad, cases[i].is_bad);
		assert_int_equal(n->n_up - up, !cases[i].is_spoofed && !cases[i].is_bad);
	}
	n_tcp(tcp, "fd00:f011:1::2", "fd00:f011::1");
	n_in(n, f, n_ip6(f, "fd00:f011:1::2", "fd00:f011::1", 6, 64, tcp, 20));
	assert_int_equal(t_reason(n->w, NET, SPOOFED), 2);
	n_tcp(tcp, "fd00:f011::", "fd00:f011::1"); /* IPv6 has no broadcasts */
	n_in(n, f, n_ip6(f, "fd00:f011::", "fd00:f011::1", 6, 64, tcp, 20));
	assert_int_equal(t_reason(n->w, NET, IP6_BAD_SOURCE), 0);
	n_net_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv6_options_that_want_it_are_told_of_by_their_place),
		cmocka_unit_test(test_routing_headers_fragments_and_protocols_point_at_their_field),
		cmocka_unit_test(test_malformed_ipv4_options_are_told_of_by_their_place),
		cmocka_unit_test(test_a_packet_whose_pieces_do_not_come_is_told_of_if_the_first_did),
		cmocka_unit_test(test_sources_of_another_ports_subnet_and_broadcasts_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
