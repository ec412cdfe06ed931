/* mld.c: that neighbours' questions reach us through switches that look on. */
#include "dataplane/core/error.h"
#include "tests/unit/net/rig.h"

#define QUERIER "fe80::1"
#define GROUP "ff02::1:ff00:1"

/* Ours is fd00:f011::1. */
static void expect_v2(struct n_net *n, uint8_t record_type, const char *group)
{
	struct n_frame f = n_out(n);
	struct net_addr g = n_addr(group);
	static const uint8_t mac[6] = {0x33, 0x33, 0, 0, 0, 0x16}, alert[8] = {58, 0, 5, 2, 0, 0, 1, 0};

	assert_memory_equal(f.bytes, mac, 6);
	assert_int_equal(f.bytes[14 + 6], 0);  /* hop-by-hop */
	assert_int_equal(f.bytes[14 + 7], 1);  /* hops */
	assert_memory_equal(f.bytes + 54, alert, 8);
	const uint8_t *msg = f.bytes + 62;
	assert_int_equal(msg[0], 143);
	assert_int_equal(msg[7], 1); /* records */
	assert_int_equal(msg[8], record_type);
	assert_memory_equal(msg + 12, g.b, 16);
	assert_int_equal(f.n_bytes, 62 + 8 + 20);
	struct net_addr src, dst;
	memcpy(src.b, f.bytes + 22, 16);
	memcpy(dst.b, f.bytes + 38, 16);
	assert_true(net_addr_is_zero(&src));
	assert_int_equal(net_sum_fold(net_sum_pseudo(&src, &dst, IPPROTO_ICMPV6, 28) + net_sum(msg, 28)), 0);
}

static uint32_t query(uint8_t *f, const char *src, const char *dst, uint8_t hops, uint16_t delay_ms, uint32_t n_bytes)
{
	uint8_t p[8 + 40] = {58, 0, 5, 2, 0, 0, 1, 0, 130, 0, 0, 0, (uint8_t)(delay_ms >> 8), (uint8_t)delay_ms};
	struct net_addr s = n_addr(src), d = n_addr(dst);
	uint32_t n = n_ip6(f, src, dst, 0, hops, p, 8 + n_bytes);
	uint16_t sum = net_sum_fold(net_sum_pseudo(&s, &d, IPPROTO_ICMPV6, n_bytes) + net_sum(f + 62, n_bytes));

	memcpy(f + 64, &sum, 2);
	memcpy(f, (uint8_t[]){0x33, 0x33, d.b[12], d.b[13], d.b[14], d.b[15]}, 6);
	return n;
}

static struct n_net *started(void)
{
	struct n_net *n = n_net(.report_groups = true);

	n_wait(n, 2000000);
	n->n_out = 0;
	return n;
}

static void test_groups_are_reported_twice_at_the_start(void **state)
{
	struct n_net *n = n_net(.report_groups = true, .no_announce_check = true);

	expect_v2(n, 4, GROUP);
	n->n_out = 0; /* announcements */
	n_wait(n, 1000000);
	expect_v2(n, 4, GROUP);
	n_wait(n, 10000000);
	n_silent(n);
	n_net_free(n);
}

static void test_nobody_is_told_unless_asked_to(void **state)
{
	struct n_net *n = n_net(.no_announce_check = true);

	n->n_out = 0;
	n_wait(n, 2000000);
	n_silent(n);
	n_net_free(n);
}

static void test_a_query_is_answered_within_its_time(void **state)
{
	struct n_net *n = started();
	uint8_t f[200];

	n_in(n, f, query(f, QUERIER, "ff02::1", 1, 1000, 28));
	n_in(n, f, query(f, QUERIER, "ff02::1", 1, 10000, 28)); /* does not put it off */
	n_wait(n, 1000000);
	expect_v2(n, 2, GROUP);
	n_silent(n);
	n_in(n, f, query(f, QUERIER, GROUP, 1, 0, 28));
	n_wait(n, 1000);
	expect_v2(n, 2, GROUP);
	n_in(n, f, query(f, QUERIER, "ff02::1", 1, 0x8000, 28)); /* a mantissa and an exponent: 32768 ms */
	n_wait(n, 32768000);
	expect_v2(n, 2, GROUP);
	n_net_free(n);
}

static void test_an_old_querier_gets_the_old_report(void **state)
{
	struct n_net *n = started();
	uint8_t f[200];
	struct net_addr g = n_addr(GROUP);

	n_in(n, f, query(f, QUERIER, "ff02::1", 1, 1000, 24));
	n_wait(n, 1000000);
	struct n_frame r = n_out(n);
	assert_memory_equal(r.bytes + 38, g.b, 16);
	assert_int_equal(r.bytes[62], 131);
	assert_memory_equal(r.bytes + 70, g.b, 16);
	n_silent(n);
	n_net_free(n);
}

static void test_queries_that_no_router_of_this_link_sent_are_dropped(void **state)
{
	struct n_net *n = started();
	uint8_t f[200];

	n_in(n, f, query(f, "fd00:f011::2", "ff02::1", 1, 1, 28)); /* not link-local */
	n_in(n, f, query(f, QUERIER, "ff02::1", 2, 1, 28));
	n_in(n, f, query(f, QUERIER, "ff02::1", 1, 1, 26));
	n_in(n, f, query(f, QUERIER, "ff02::1", 1, 1, 20));
	assert_int_equal(t_reason(n->w, NET, MLD_MALFORMED), 4);
	n_wait(n, 1000000);
	n_silent(n);
	n_net_free(n);
}

static void test_many_service_addresses_go_in_several_packets(void **state)
{
	struct net_prefix services[121];

	for (uint32_t i = 0; i < FOIL_COUNT_OF(services); i++) {
		services[i] = (struct net_prefix){n_addr("fd00:f011:5::1:1"), 128};
		services[i].addr.b[15] = (uint8_t)(i + 2);
	}
	services[120] = (struct net_prefix){n_addr("fd00:f011:6::"), 64}; /* a range has too many */
	struct n_net *n = n_net(.report_groups = true, .no_announce_check = true, .services_answer_arp = true, .services = services,
				.n_services = FOIL_COUNT_OF(services));
	uint32_t n_records = 0, n_reports = 0;
	for (uint32_t i = 0; i < n->n_out; i++) {
		const struct n_frame *f = &n->out[i];
		if (f->bytes[12] == 0x86 && f->bytes[20] == 0 && f->bytes[62] == 143) {
			assert_true(f->n_bytes <= 1280);
			n_records += f->bytes[69];
			n_reports++;
		}
	}
	assert_int_equal(n_records, 121); /* 120 services and our own */
	assert_int_equal(n_reports, 3);
	n_net_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_groups_are_reported_twice_at_the_start),
		cmocka_unit_test(test_nobody_is_told_unless_asked_to),
		cmocka_unit_test(test_a_query_is_answered_within_its_time),
		cmocka_unit_test(test_an_old_querier_gets_the_old_report),
		cmocka_unit_test(test_queries_that_no_router_of_this_link_sent_are_dropped),
		cmocka_unit_test(test_many_service_addresses_go_in_several_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
