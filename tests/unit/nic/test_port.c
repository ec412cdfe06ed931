/* nic/port.c, queue.c, idle.c on DPDK's ring device, which gives back what it was sent: open, bursts, parting of flows between two
 * workers, the sentences of what goes wrong. */
#include <errno.h>
#include <stdio.h>

#include "dataplane/net/net_priv.h"
#include "nic/nic_priv.h"
#include "tests/unit/support.h"

static char last_notice[300];

static void notice(void *arg, const char *text)
{
	snprintf(last_notice, sizeof(last_notice), "%s", text);
}

struct rig {
	struct foil_worker *w[2];
	struct rte_mempool *pools[2];
	struct net_port ports[2];
	struct nic_port *port;
	struct net_params hooks;
};

static void rig_open(struct rig *r, uint16_t n_workers)
{
	struct foil_error err = {0};

	memset(r, 0, sizeof(*r));
	for (uint16_t i = 0; i < n_workers; i++) {
		r->w[i] = t_worker(.seed = 1 + i, .id = i, .n_workers = n_workers, .n_mbufs = 4095);
		r->pools[i] = r->w[i]->mbuf_pool;
	}
	struct nic_port_params p = {.name = "p0", .uri = "ring:", .n_workers = n_workers, .rx_pools = r->pools, .mtu = 1500, .notice = notice};
	if (nic_port_open(&p, &r->port, &err) != 0)
		fail_msg("%s", err.text);
	for (uint16_t i = 0; i < n_workers; i++)
		nic_port_queue(r->port, i, &r->ports[i]);
	nic_ports_hooks(&r->port, 1, &r->hooks);
}

static void rig_close(struct rig *r)
{
	nic_ports_close(&r->port, 1);
	for (int i = 1; i >= 0; i--)
		t_worker_free(r->w[i]);
}

static void test_what_is_sent_comes_back(void **state)
{
	struct rig r;
	struct rte_mbuf *m[3], *back[8];

	rig_open(&r, 1);
	for (int i = 0; i < 3; i++)
		m[i] = t_mbuf(r.w[0], "frame", 5);
	assert_int_equal(r.ports[0].tx_burst(r.w[0], &r.ports[0], m, 3), 3);
	assert_int_equal(r.ports[0].rx_burst(r.w[0], &r.ports[0], back, 8), 3);
	for (int i = 0; i < 3; i++) {
		assert_memory_equal(rte_pktmbuf_mtod(back[i], char *), "frame", 5);
		rte_pktmbuf_free(back[i]);
	}
	struct nic_port_status s;
	nic_port_status(r.port, &s);
	assert_int_equal(s.mtu, 1500);
	assert_int_equal(s.n_queues, 1);
	assert_int_equal(r.ports[0].mtu, 1500);
	assert_null(r.hooks.steer); /* one worker has all */
	rig_close(&r);
}

static uint16_t all_but_the_second(void *queue, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	for (uint16_t i = 0; i < n_pkts; i++)
		if (memcmp(rte_pktmbuf_mtod(pkts[i], char *), "bad", 3) == 0)
			return i;
	return n_pkts;
}

static void test_a_packet_that_the_driver_cannot_cut_holds_up_nothing(void **state)
{
	struct rig r;
	struct rte_mbuf *m[3], *back[8];
	static const char *const texts[] = {"one", "bad", "two"};

	rig_open(&r, 1);
	rte_eth_fp_ops[r.ports[0].dpdk_port].tx_pkt_prepare = all_but_the_second;
	for (int i = 0; i < 3; i++)
		m[i] = t_mbuf(r.w[0], texts[i], 3);
	m[1]->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
	assert_int_equal(r.ports[0].tx_burst(r.w[0], &r.ports[0], m, 3), 2);
	assert_int_equal(t_reason(r.w[0], NIC, TX_REFUSED), 1);
	assert_int_equal(r.ports[0].tx_burst(r.w[0], &r.ports[0], m + 2, 1), 1);
	assert_int_equal(r.ports[0].rx_burst(r.w[0], &r.ports[0], back, 8), 2);
	rte_pktmbuf_free_bulk(back, 2);
	rig_close(&r);
}

static uint32_t hash_of(uint16_t worker)
{
	uint32_t h = 0;

	while (net_flow_worker(h, 2) != worker)
		h++;
	return h;
}

static void test_flows_of_another_worker_go_over_its_ring(void **state)
{
	struct rig r;
	struct rte_mbuf *back[8];

	rig_open(&r, 2);
	assert_non_null(r.hooks.steer);
	assert_non_null(strstr(last_notice, "no usable RSS"));
	struct rte_mbuf *m = t_mbuf(r.w[0], "mine", 4);
	assert_false(r.hooks.steer(r.w[0], &r.ports[0], m, hash_of(0)));
	rte_pktmbuf_free(m);
	m = t_mbuf(r.w[0], "yours", 5);
	assert_true(r.hooks.steer(r.w[0], &r.ports[0], m, hash_of(1)));
	assert_int_equal(r.ports[1].rx_burst(r.w[1], &r.ports[1], back, 8), 1);
	assert_memory_equal(rte_pktmbuf_mtod(back[0], char *), "yours", 5);
	rte_pktmbuf_free(back[0]);
	rig_close(&r);
}

static void test_a_full_queue_does_not_starve_the_ring(void **state)
{
	struct rig r;
	struct rte_mbuf *m[64], *back[64];
	bool seen = false;

	rig_open(&r, 2);
	for (int i = 0; i < 64; i++)
		m[i] = t_mbuf(r.w[0], "queue", 5);
	assert_int_equal(r.ports[0].tx_burst(r.w[0], &r.ports[0], m, 64), 64);
	assert_true(r.hooks.steer(r.w[1], &r.ports[1], t_mbuf(r.w[1], "ring", 4), hash_of(0)));
	uint16_t n = r.ports[0].rx_burst(r.w[0], &r.ports[0], back, 64);
	for (uint16_t i = 0; i < n; i++) {
		seen |= back[i]->data_len == 4;
		rte_pktmbuf_free(back[i]);
	}
	assert_true(seen);
	while ((n = r.ports[0].rx_burst(r.w[0], &r.ports[0], back, 64)) > 0)
		for (uint16_t i = 0; i < n; i++)
			rte_pktmbuf_free(back[i]);
	rig_close(&r);
}

static void test_a_full_ring_drops_and_counts(void **state)
{
	struct rig r;
	uint32_t n = 0;

	rig_open(&r, 2);
	while (!t_reason(r.w[0], NIC, STEER_RING_FULL) && n < 5000) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(r.w[0]->mbuf_pool);
		if (!m)
			m = t_mbuf(r.w[1], "x", 1);
		assert_true(r.hooks.steer(r.w[0], &r.ports[0], m, hash_of(1)));
		n++;
	}
	assert_int_equal(t_reason(r.w[0], NIC, STEER_RING_FULL), 1);
	rig_close(&r); /* frees what waits in the rings */
}

static void test_neighbour_news_reaches_the_others_as_a_copy(void **state)
{
	struct rig r;
	struct rte_mbuf *back[8];

	rig_open(&r, 2);
	struct rte_mbuf *m = t_mbuf(r.w[0], "arp", 3);
	r.hooks.share(r.w[0], &r.ports[0], m);
	assert_int_equal(r.ports[1].rx_burst(r.w[1], &r.ports[1], back, 8), 1);
	assert_ptr_not_equal(back[0], m);
	r.hooks.share(r.w[1], &r.ports[1], back[0]); /* a copy is not shared again */
	struct rte_mbuf *again[8];
	assert_int_equal(r.ports[0].rx_burst(r.w[0], &r.ports[0], again, 8), 0);
	rte_pktmbuf_free(back[0]);
	rte_pktmbuf_free(m);
	rig_close(&r);
}

static void test_ports_that_cannot_open_say_why(void **state)
{
	struct foil_worker *w = t_worker();
	struct rte_mempool *pools[1] = {w->mbuf_pool};
	struct nic_port_params p[] = {
		{.name = "p0", .uri = "af_packet:iface=no-such-dev", .n_workers = 1, .rx_pools = pools},
		{.name = "p0", .uri = "ring:", .n_workers = 0, .rx_pools = pools},
		{.name = "p0", .uri = "ring:", .n_workers = 1, .index = NET_PORTS_MAX, .rx_pools = pools},
		{.name = "p0", .uri = "ring:", .n_workers = 1, .mtu = 9000, .rx_pools = pools},
		{.name = "p0", .uri = "nonsense", .n_workers = 1, .rx_pools = pools},
		{.name = "p0", .uri = "pcap:rx=/no/such/file", .n_workers = 1, .rx_pools = pools},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(p); i++) {
		struct foil_error err = {0};
		struct nic_port *port = NULL;
		assert_true(nic_port_open(&p[i], &port, &err) < 0);
		assert_null(port);
		assert_non_null(strstr(err.text, "port p0"));
		assert_true(strlen(err.text) > 25);
	}
	t_worker_free(w);
}

static void test_idle_modes_by_name(void **state)
{
	enum nic_idle_mode mode;

	assert_int_equal(nic_idle_mode_parse("poll", &mode), 0);
	assert_int_equal(mode, NIC_IDLE_POLL);
	assert_int_equal(nic_idle_mode_parse("pause", &mode), 0);
	assert_int_equal(mode, NIC_IDLE_PAUSE);
	assert_int_equal(nic_idle_mode_parse("interrupt", &mode), 0);
	assert_int_equal(mode, NIC_IDLE_INTERRUPT);
	assert_int_equal(nic_idle_mode_parse("auto", &mode), 0);
	assert_int_equal(mode, NIC_IDLE_AUTO);
	assert_int_equal(nic_idle_mode_parse("sleep", &mode), -EINVAL);
}

static void test_rest_ends_at_the_next_timer(void **state)
{
	struct rig r;
	struct nic_idle idle;
	struct foil_error err = {0};

	rig_open(&r, 1);
	assert_int_equal(nic_idle_init(&idle, r.w[0], NIC_IDLE_PAUSE, &r.port, 1, notice, NULL, &err), 0);
	uint64_t begin = nic_clock_us();
	for (int i = 0; i < 20; i++) {
		r.w[0]->now_us = nic_clock_us();
		nic_idle_turn(&idle, false, r.w[0]->now_us); /* a timer is due: no rest at all */
	}
	assert_true(nic_clock_us() - begin < 1000000);
	nic_idle_fini(&idle);
	rig_close(&r);
}

static void test_auto_pauses_where_a_port_cannot_interrupt(void **state)
{
	struct rig r;
	struct nic_idle idle;
	struct foil_error err = {0};

	rig_open(&r, 1);
	assert_int_equal(nic_idle_init(&idle, r.w[0], NIC_IDLE_AUTO, &r.port, 1, notice, NULL, &err), 0);
	assert_int_equal(idle.mode, NIC_IDLE_PAUSE);
	nic_idle_fini(&idle);
	assert_int_equal(nic_idle_init(&idle, r.w[0], NIC_IDLE_AUTO, NULL, 0, notice, NULL, &err), 0); /* nothing but wake-ups to wait for */
	assert_int_equal(idle.mode, NIC_IDLE_INTERRUPT);
	nic_idle_fini(&idle);
	rig_close(&r);
	(void)state;
}

static void quiet_turn(struct nic_idle *idle)
{
	idle->w->now_us += 200; /* long enough that spinning is over */
	nic_idle_turn(idle, false, UINT64_MAX);
}

static void test_a_nap_that_time_ends_leads_to_the_next_after_one_turn(void **state)
{
	struct rig r;
	struct nic_idle idle;
	struct foil_error err = {0};

	rig_open(&r, 1);
	assert_int_equal(nic_idle_init(&idle, r.w[0], NIC_IDLE_PAUSE, &r.port, 1, notice, NULL, &err), 0);
	uint64_t *naps = &r.w[0]->ctr[FOIL_ROOM_NIC][NIC_CTR_NAPS], *wakes = &r.w[0]->ctr[FOIL_ROOM_NIC][NIC_CTR_WAKES];
	quiet_turn(&idle);
	assert_int_equal(idle.asleep, 1); /* said, and one more turn looks at everything */
	assert_int_equal(*naps, 0);
	quiet_turn(&idle);
	quiet_turn(&idle);
	assert_int_equal(*naps, 2);
	assert_int_equal(idle.asleep, 1);
	nic_idle_wake(&idle);
	assert_int_equal(idle.asleep, 0);
	quiet_turn(&idle); /* ends at once */
	assert_int_equal(*wakes, 1);
	quiet_turn(&idle);
	assert_int_equal(idle.asleep, 1);
	assert_int_equal(*naps, 3);
	nic_idle_turn(&idle, true, 0);
	assert_int_equal(idle.asleep, 0);
	nic_idle_fini(&idle);
	rig_close(&r);
	(void)state;
}

static void test_two_memifs_that_copy_nothing_are_refused_by_name(void **state)
{
	static const char *const uris[] = {"memif:socket=/tmp/a.sock,role=client,zero-copy=yes", "memif:socket=/tmp/b.sock,role=client,zero-copy=yes"};
	struct nic_eal_params p = {.n_workers = 1, .uris = uris, .n_uris = 2};
	struct foil_error err = {0};

	assert_int_equal(nic_eal_start(&p, &err), -EINVAL);
	assert_non_null(strstr(err.text, "2 ports are memif with zero-copy=yes"));
	assert_true(nic_uri_is_zero_copy(uris[0]));
	assert_false(nic_uri_is_zero_copy("memif:socket=/tmp/a.sock,role=client"));
	assert_false(nic_uri_is_zero_copy("ring:zero-copy=yes"));
}

static void test_naps_grow_where_they_cost_much(void **state)
{
	uint32_t most_us = NIC_IDLE_NAP_US_MAX;

	assert_int_equal(nic_idle_nap_most(most_us, 1000, 100000), most_us); /* 1 % */
	assert_int_equal(nic_idle_nap_most(most_us, 4000, 100000), most_us);
	most_us = nic_idle_nap_most(most_us, 5100, 100000);
	assert_int_equal(most_us, 500);
	assert_int_equal(nic_idle_nap_most(most_us, 3000, 100000), 500);
	assert_int_equal(nic_idle_nap_most(most_us, 1900, 100000), NIC_IDLE_NAP_US_MAX); /* a quieter machine */
	for (int i = 0; i < 10; i++)
		most_us = nic_idle_nap_most(most_us, 50000, 100000);
	assert_int_equal(most_us, NIC_IDLE_NAP_US_COSTLY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_naps_grow_where_they_cost_much),
		cmocka_unit_test(test_two_memifs_that_copy_nothing_are_refused_by_name),
		cmocka_unit_test(test_what_is_sent_comes_back),
		cmocka_unit_test(test_a_packet_that_the_driver_cannot_cut_holds_up_nothing),
		cmocka_unit_test(test_flows_of_another_worker_go_over_its_ring),
		cmocka_unit_test(test_a_full_queue_does_not_starve_the_ring),
		cmocka_unit_test(test_a_full_ring_drops_and_counts),
		cmocka_unit_test(test_neighbour_news_reaches_the_others_as_a_copy),
		cmocka_unit_test(test_ports_that_cannot_open_say_why),
		cmocka_unit_test(test_idle_modes_by_name),
		cmocka_unit_test(test_rest_ends_at_the_next_timer),
		cmocka_unit_test(test_auto_pauses_where_a_port_cannot_interrupt),
		cmocka_unit_test(test_a_nap_that_time_ends_leads_to_the_next_after_one_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
