/* capture.c: which packets a filter takes, the reason of those that were dropped, the ring at its end and when it is full. */
#include "tests/unit/net/rig.h"

#define RING (64u * 1024u)

static struct net_capture *capture_on(struct n_net *n, const struct net_capture_filter *f)
{
	struct net_capture *c = net_capture_new(f, RING);

	assert_non_null(c);
	net_capture_start(n->w, c);
	return c;
}

static void capture_end(struct n_net *n, struct net_capture *c)
{
	net_capture_start(n->w, NULL);
	net_capture_free(c);
}

static struct net_capture_filter for_reason(enum net_reason why)
{
	struct net_capture_filter f = {.reasons_only = true};

	f.reasons[FOIL_ROOM_NET][why / 64] |= 1ull << (why % 64);
	return f;
}

static struct net_capture_filter for_port(uint16_t port)
{
	return (struct net_capture_filter){.ends[0].port = port};
}

static uint32_t tcp4(uint8_t *f)
{
	uint8_t tcp[20];

	n_tcp(tcp, "198.18.0.2", "198.18.0.1");
	return n_ip4(f, "198.18.0.2", "198.18.0.1", 6, NULL, 0, tcp, 20);
}

static uint16_t port_of_tcp4(void)
{
	uint8_t f[200];

	(void)tcp4(f);
	return (uint16_t)(f[34] << 8 | f[35]);
}

static void test_a_filter_for_a_reason_takes_what_is_dropped_for_it(void **state)
{
	struct n_net *n = n_net();
	struct net_capture_filter f = for_reason(NET_REASON_BAD_CHECKSUM);
	struct net_capture *c = capture_on(n, &f);
	struct net_capture_record r;
	uint8_t frame[200];

	uint32_t len = tcp4(frame);
	n_in(n, frame, len); /* right */
	assert_false(net_capture_take(c, &r));
	frame[50] ^= 1; /* of the checksum */
	n_in(n, frame, len);
	assert_true(net_capture_take(c, &r));
	assert_int_equal(r.n_bytes, len);
	assert_memory_equal(r.bytes, frame, len);
	assert_true(r.has_why);
	assert_int_equal(r.room, FOIL_ROOM_NET);
	assert_int_equal(r.why, NET_REASON_BAD_CHECKSUM);
	assert_int_equal(r.dir, NET_CAPTURE_IN);
	assert_int_equal(r.wall_us, n->w->wall_us);
	frame[0] ^= 4; /* another station's, and not asked for */
	n_in(n, frame, len);
	assert_false(net_capture_take(c, &r));
	capture_end(n, c);
	n_net_free(n);
}

static void test_a_filter_for_a_flow_takes_each_packet_once_with_its_reason(void **state)
{
	struct n_net *n = n_net();
	struct net_capture_filter f = for_port(port_of_tcp4());
	struct net_capture *c = capture_on(n, &f);
	struct net_capture_record r;
	uint8_t frame[200];

	uint32_t len = tcp4(frame);
	n_in(n, frame, len);
	assert_true(net_capture_take(c, &r));
	assert_false(r.has_why);
	frame[50] ^= 1;
	n_in(n, frame, len);
	assert_true(net_capture_take(c, &r));
	assert_true(r.has_why);
	assert_int_equal(r.why, NET_REASON_BAD_CHECKSUM);
	assert_false(net_capture_take(c, &r));
	capture_end(n, c);
	n_net_free(n);
}

static void test_a_packet_pulled_together_is_still_the_one_that_came(void **state)
{
	struct n_net *n = n_net();
	struct net_capture_filter f = {0};
	struct net_capture *c = capture_on(n, &f);
	struct net_capture_record r;
	uint8_t frame[200];

	uint32_t len = tcp4(frame);
	frame[50] ^= 1;
	n_in_cut(n, frame, len, 7);
	assert_true(net_capture_take(c, &r));
	assert_int_equal(r.n_bytes, len);
	assert_memory_equal(r.bytes, frame, len);
	assert_int_equal(r.why, NET_REASON_BAD_CHECKSUM);
	assert_false(net_capture_take(c, &r));
	capture_end(n, c);
	n_net_free(n);
}

static void test_other_flows_are_not_taken_and_icmp_about_ours_is(void **state)
{
	struct n_net *n = n_net();
	struct net_capture_filter f = {.ends = {{.addr = n_addr("198.18.0.1"), .has_addr = true, .port = 80},
						{.addr = n_addr("198.18.0.2"), .has_addr = true, .port = 4000}}};
	struct net_capture *c = capture_on(n, &f);
	struct net_capture_record r;
	uint8_t frame[200], icmp[36] = {3, 3}, *ip = icmp + 8;

	n_in(n, frame, tcp4(frame)); /* whatever its ports are, they are not these */
	assert_false(net_capture_take(c, &r));
	uint8_t quoted[] = {0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2, 0, 80, 4000 >> 8, 4000 & 255, 0, 0, 0, 1};
	memcpy(ip, quoted, sizeof(quoted));
	uint16_t sum = net_sum_fold(net_sum(icmp, sizeof(icmp)));
	memcpy(icmp + 2, &sum, 2);
	n_in(n, frame, n_ip4(frame, "198.18.0.2", "198.18.0.1", 1, NULL, 0, icmp, sizeof(icmp)));
	assert_true(net_capture_take(c, &r));
	icmp[8 + 23] ^= 1; /* another port */
	n_in(n, frame, n_ip4(frame, "198.18.0.2", "198.18.0.1", 1, NULL, 0, icmp, sizeof(icmp)));
	assert_false(net_capture_take(c, &r));
	capture_end(n, c);
	n_net_free(n);
}

static void send_to(struct n_net *n, const char *dst)
{
	uint8_t tcp[20];
	struct net_addr src = n_addr("198.18.0.1"), to = n_addr(dst);

	n_tcp(tcp, "198.18.0.1", dst);
	net_ip_output(n->w, t_mbuf(n->w, tcp, sizeof(tcp)), &src, &to, 6, 0, NULL);
	net_flush(n->w);
}

static void test_what_we_send_is_taken_with_the_header_it_would_have_had(void **state)
{
	struct n_net *n = n_net();
	struct net_capture_filter f = {.ends[0] = {.addr = n_addr("198.18.0.1"), .has_addr = true}};
	struct net_capture *c = capture_on(n, &f);
	struct net_capture_record r;

	n_meet(n);
	while (net_capture_take(c, &r))
		; /* of getting acquainted */
	send_to(n, "198.18.0.2");
	assert_true(net_capture_take(c, &r));
	assert_int_equal(r.dir, NET_CAPTURE_OUT);
	assert_int_equal(r.n_bytes, 54);
	assert_false(r.has_why);
	send_to(n, "203.0.113.1"); /* there is no route there */
	assert_true(net_capture_take(c, &r));
	assert_int_equal(r.why, NET_REASON_NO_ROUTE);
	assert_int_equal(r.n_bytes, 54);
	assert_int_equal(r.bytes[12] << 8 | r.bytes[13], RTE_ETHER_TYPE_IPV4);
	assert_int_equal(r.bytes[14], 0x45);
	assert_int_equal(r.bytes[14 + 16], 203);
	assert_int_equal(r.bytes[14 + 9], 6);
	assert_false(net_capture_take(c, &r));
	capture_end(n, c);
	n_net_free(n);
}

static void test_what_waited_in_vain_for_a_neighbour_is_taken(void **state)
{
	struct n_net *n = n_net();
	struct net_capture_filter f = for_reason(NET_REASON_NEIGHBOUR_UNREACHABLE);
	struct net_capture *c = capture_on(n, &f);
	struct net_capture_record r;

	send_to(n, "198.18.0.77");
	n_wait(n, 10000000);
	net_flush(n->w);
	assert_true(net_capture_take(c, &r));
	assert_int_equal(r.n_bytes, 54);
	assert_int_equal(r.bytes[14 + 19], 77);
	assert_memory_equal(r.bytes + 6, n->port.mac.addr_bytes, 6);
	capture_end(n, c);
	n_net_free(n);
}

static void test_a_frame_that_the_driver_does_not_take_is_there_once(void **state)
{
	struct n_net *n = n_net();
	struct net_capture_filter f = for_port(port_of_tcp4());
	struct net_capture_record r;

	n_meet(n);
	struct net_capture *c = capture_on(n, &f);
	n->tx_blocked = true;
	send_to(n, "198.18.0.2");
	net_flush(n->w);
	n->tx_blocked = false;
	net_flush(n->w);
	unsigned int n_seen = 0;
	while (net_capture_take(c, &r))
		n_seen++;
	assert_int_equal(n_seen, 1);
	capture_end(n, c);
	n_net_free(n);
}

static void test_packets_are_cut_where_asked(void **state)
{
	struct n_net *n = n_net();
	struct net_capture_filter f = {.snap_bytes = 30};
	struct net_capture *c = capture_on(n, &f);
	struct net_capture_record r;
	uint8_t frame[200];

	uint32_t len = tcp4(frame);
	n_in(n, frame, len);
	assert_true(net_capture_take(c, &r));
	assert_int_equal(r.n_bytes, 30);
	assert_int_equal(r.n_bytes_all, len);
	assert_memory_equal(r.bytes, frame, 30);
	capture_end(n, c);
	n_net_free(n);
}

/* Sizes that do not divide the ring, so that every way of reaching its end occurs. */
static void test_the_ring_wraps_and_loses_only_what_does_not_fit(void **state)
{
	struct n_net *n = n_net();
	struct net_capture_filter f = for_reason(NET_REASON_ETHERTYPE);
	struct net_capture *c = capture_on(n, &f);
	struct net_capture_record r;
	uint8_t frame[1500] = {0};
	uint64_t us;

	memcpy(frame, n->port.mac.addr_bytes, 6);
	memcpy(frame + 6, "\2\0\0\0\0\2\x12\x34", 8);
	for (uint32_t i = 0; i < 3000; i++) {
		uint32_t len = 60 + i * 7919 % 1400;
		memcpy(frame + 20, &i, sizeof(i));
		n_in(n, frame, len);
		assert_true(net_capture_peek_us(c, &us));
		assert_true(net_capture_take(c, &r));
		assert_int_equal(r.n_bytes, len);
		assert_memory_equal(r.bytes, frame, len);
		assert_false(net_capture_peek_us(c, &us));
	}
	assert_int_equal(net_capture_lost(c), 0);
	for (uint32_t i = 0; i < 100; i++) {
		memcpy(frame + 20, &i, sizeof(i));
		n_in(n, frame, 1500);
	}
	uint32_t n_kept = 0, first;
	while (net_capture_take(c, &r)) {
		memcpy(&first, r.bytes + 20, sizeof(first));
		assert_int_equal(first, n_kept); /* the first ones, not the last */
		n_kept++;
	}
	assert_in_range(n_kept, 41, 43); /* 64 KiB of records of 1,528 bytes */
	assert_int_equal(net_capture_lost(c), 100 - n_kept);
	assert_int_equal(t_counter(n->w, NET, CAPTURE_LOST), 100 - n_kept);
	assert_int_equal(t_counter(n->w, NET, CAPTURED), 3000 + n_kept);
	capture_end(n, c);
	n_net_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_filter_for_a_reason_takes_what_is_dropped_for_it),
		cmocka_unit_test(test_a_filter_for_a_flow_takes_each_packet_once_with_its_reason),
		cmocka_unit_test(test_a_packet_pulled_together_is_still_the_one_that_came),
		cmocka_unit_test(test_other_flows_are_not_taken_and_icmp_about_ours_is),
		cmocka_unit_test(test_what_we_send_is_taken_with_the_header_it_would_have_had),
		cmocka_unit_test(test_what_waited_in_vain_for_a_neighbour_is_taken),
		cmocka_unit_test(test_a_frame_that_the_driver_does_not_take_is_there_once),
		cmocka_unit_test(test_packets_are_cut_where_asked),
		cmocka_unit_test(test_the_ring_wraps_and_loses_only_what_does_not_fit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
