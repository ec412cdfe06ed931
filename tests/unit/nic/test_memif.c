/* nic/memif.c: what a peer may say. nic/gate.c, peers.c on DPDK's driver with a client of our own: it comes, sends, leaves while the worker is in
 * bursts, lies; the worker goes on. `test_nic_memif raw` runs the leaving alone and without the gate: the fault that the gate is for. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nic/gate.h"
#include "nic/memif.h"
#include "tests/unit/nic/memif_client.h"
#include "tests/unit/support.h"

/* ---- the rules */

static const struct nic_memif_files no_files, an_event = {.n = 1}, memory = {.n = 1, .is_memory = true, .is_sealed = true, .n_bytes = MC_REGION_BYTES};

static struct nic_memif_talk a_talk(bool server, uint16_t n_queues)
{
	return (struct nic_memif_talk){.server = server, .n_queues = n_queues};
}

static const char *say(struct nic_memif_talk *t, struct mc_message m, const struct nic_memif_files *files)
{
	return nic_memif_check(t, m.bytes, sizeof(m.bytes), files);
}

#define assert_refused(text, what)                                                                                                                           \
	do {                                                                                                                                                 \
		const char *why_ = (what);                                                                                                                   \
		assert_non_null(why_);                                                                                                                       \
		assert_non_null(strstr(why_, text));                                                                                                         \
	} while (0)

static void a_server_with_memory(struct nic_memif_talk *t, uint16_t n_queues)
{
	*t = a_talk(true, n_queues);
	assert_null(say(t, mc_init(0), &no_files));
	assert_null(say(t, mc_region(0, MC_REGION_BYTES), &memory));
}

static void test_a_client_that_keeps_the_rules_connects(void **state)
{
	struct nic_memif_talk t;

	a_server_with_memory(&t, 1);
	assert_null(say(&t, mc_ring(true, 0, 0, 0, MC_LOG2_RING), &an_event));
	assert_null(say(&t, mc_ring(false, 0, 0, MC_RING_BYTES, MC_LOG2_RING), &an_event));
	assert_null(say(&t, mc_text(MC_CONNECT, 2, "eth0"), &no_files));
	assert_int_equal(t.state, NIC_MEMIF_CONNECTED);
	assert_null(say(&t, mc_text(MC_DISCONNECT, 6, "bye"), &no_files));
}

static void test_a_server_that_keeps_the_rules_is_connected_to(void **state)
{
	struct nic_memif_talk t = a_talk(false, 4);

	assert_null(say(&t, mc_hello(4, 10), &no_files));
	for (int i = 0; i < 10; i++)
		assert_null(say(&t, mc_text(MC_ACK, 2, ""), &no_files));
	assert_null(say(&t, mc_text(MC_CONNECTED, 2, "x"), &no_files));
	assert_refused("acknowledged out of turn", say(&t, mc_text(MC_ACK, 2, ""), &no_files));
}

static void test_messages_out_of_turn_are_refused(void **state)
{
	struct nic_memif_talk t = a_talk(true, 1);

	assert_refused("brought memory out of turn", say(&t, mc_region(0, MC_REGION_BYTES), &memory));
	assert_refused("named a ring out of turn", say(&t, mc_ring(true, 0, 0, 0, MC_LOG2_RING), &an_event));
	assert_refused("connected out of turn", say(&t, mc_text(MC_CONNECT, 2, "x"), &no_files));
	assert_refused("HELLO out of turn", say(&t, mc_hello(1, 10), &no_files));
	assert_refused("acknowledged out of turn", say(&t, mc_text(MC_ACK, 2, ""), &no_files));
	assert_null(say(&t, mc_init(0), &no_files));
	assert_refused("INIT out of turn", say(&t, mc_init(0), &no_files));
	assert_refused("connected out of turn", say(&t, mc_text(MC_CONNECTED, 2, "x"), &no_files));
	t = a_talk(false, 1);
	assert_refused("INIT out of turn", say(&t, mc_init(0), &no_files));
	assert_refused("connected out of turn", say(&t, mc_text(MC_CONNECTED, 2, "x"), &no_files));
	assert_null(say(&t, mc_hello(1, 10), &no_files));
	assert_refused("HELLO out of turn", say(&t, mc_hello(1, 10), &no_files));
	assert_refused("brought memory out of turn", say(&t, mc_region(0, MC_REGION_BYTES), &memory));
	assert_refused("connected out of turn", say(&t, mc_text(MC_CONNECT, 2, "x"), &no_files));
}

static void test_a_connected_peer_changes_nothing(void **state)
{
	struct nic_memif_talk t;

	a_server_with_memory(&t, 1);
	assert_null(say(&t, mc_ring(true, 0, 0, 0, MC_LOG2_RING), &an_event));
	assert_null(say(&t, mc_ring(false, 0, 0, MC_RING_BYTES, MC_LOG2_RING), &an_event));
	assert_null(say(&t, mc_text(MC_CONNECT, 2, "x"), &no_files));
	assert_refused("out of turn", say(&t, mc_region(1, MC_REGION_BYTES), &memory));
	assert_refused("out of turn", say(&t, mc_ring(true, 0, 0, 0, MC_LOG2_RING), &an_event));
	assert_refused("out of turn", say(&t, mc_text(MC_CONNECT, 2, "x"), &no_files));
}

static void test_memory_must_be_there_and_stay(void **state)
{
	struct nic_memif_files f = memory;
	struct nic_memif_talk t = a_talk(true, 1);

	assert_null(say(&t, mc_init(0), &no_files));
	assert_refused("smaller than it says", say(&t, mc_region(0, MC_REGION_BYTES + 1), &memory));
	assert_refused("smaller than it says", say(&t, mc_region(0, UINT64_MAX), &memory));
	assert_refused("smaller than it says", say(&t, mc_region(0, 0), &memory));
	assert_refused("another number", say(&t, mc_region(1, MC_REGION_BYTES), &memory));
	assert_refused("no file", say(&t, mc_region(0, MC_REGION_BYTES), &an_event));
	assert_refused("no file", say(&t, mc_region(0, MC_REGION_BYTES), &no_files));
	f.n = 2;
	assert_refused("no file", say(&t, mc_region(0, MC_REGION_BYTES), &f));
	f = memory;
	f.is_sealed = false;
	assert_refused("F_SEAL_SHRINK", say(&t, mc_region(0, MC_REGION_BYTES), &f));
	t.unsealed = true;
	assert_null(say(&t, mc_region(0, MC_REGION_BYTES), &f));
	for (uint16_t i = 1; i < NIC_MEMIF_REGIONS_MAX; i++)
		assert_null(say(&t, mc_region(i, 1), &f));
	assert_refused("another number", say(&t, mc_region(NIC_MEMIF_REGIONS_MAX, 1), &f));
}

static void test_rings_must_lie_in_memory_that_is_there(void **state)
{
	static const struct { uint16_t index, region; uint32_t offset; uint8_t log2_size; const char *why; } cases[] = {
		{2, 0, 0, 6, "more rings"}, {0xffff, 0, 0, 6, "more rings"}, {0, 1, 0, 6, "did not bring"}, {0, 0, 0, 0, "a size that is none"},
		{0, 0, 0, 15, "a size that is none"}, {0, 0, 0, 255, "a size that is none"}, {0, 0, 2, 6, "does not lie"},
		{0, 0, UINT32_MAX - 3, 6, "does not lie"},
		{0, 0, MC_REGION_BYTES, 6, "does not lie"}, {0, 0, MC_REGION_BYTES - MC_RING_BYTES + 4, 6, "does not lie"}, {0, 0, 0x80, 14, "does not lie"},
	};
	struct nic_memif_talk t;

	a_server_with_memory(&t, 2);
	t.region_bytes[0] = MC_REGION_BYTES;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		if (cases[i].log2_size == 14)
			t.region_bytes[0] = 128 + (16u << 14); /* fits at 0 and nowhere else */
		assert_refused(cases[i].why, say(&t, mc_ring(true, cases[i].index, cases[i].region, cases[i].offset, cases[i].log2_size), &an_event));
		t.region_bytes[0] = MC_REGION_BYTES;
	}
	assert_refused("without a descriptor", say(&t, mc_ring(true, 0, 0, 0, 6), &no_files));
	assert_null(say(&t, mc_ring(true, 0, 0, MC_REGION_BYTES - MC_RING_BYTES, 6), &an_event));
	assert_refused("named a ring twice", say(&t, mc_ring(true, 0, 0, 0, 6), &an_event));
	assert_null(say(&t, mc_ring(false, 0, 0, 0, 6), &an_event));
	assert_refused("fewer rings", say(&t, mc_text(MC_CONNECT, 2, "x"), &no_files));
}

static void test_a_server_with_fewer_rings_than_workers_is_refused(void **state)
{
	struct nic_memif_talk t = a_talk(false, 2);

	assert_refused("fewer rings", say(&t, mc_hello(1, 10), &no_files));
	assert_refused("no room", say(&t, mc_hello(2, 0), &no_files));
	assert_null(say(&t, mc_hello(2, 1), &no_files));
}

static void test_texts_without_an_end_and_files_nobody_asked_for_are_refused(void **state)
{
	char most[127];
	struct nic_memif_talk t = a_talk(true, 1), client = a_talk(false, 1);
	struct mc_message m = mc_init(0);

	memset(most, 'x', sizeof(most) - 1);
	most[sizeof(most) - 1] = 0;
	assert_refused("has no end", say(&t, mc_text(MC_DISCONNECT, 6, most), &no_files));
	memset(m.bytes + 33, 'x', 32);
	assert_refused("has no end", say(&t, m, &no_files));
	assert_refused("has no end", say(&client, mc_text(MC_HELLO, 2, most), &no_files));
	assert_null(say(&t, mc_init(0), &no_files));
	assert_refused("has no end", say(&t, mc_text(MC_CONNECT, 2, most), &no_files));
	assert_refused("nobody asked for", say(&t, mc_text(MC_DISCONNECT, 6, "x"), &an_event));
	assert_refused("does not know", say(&t, mc_text(9, 2, "x"), &no_files));
	assert_refused("does not know", say(&t, mc_text(0, 2, "x"), &no_files));
}

static void test_a_message_cut_anywhere_is_refused(void **state)
{
	struct mc_message m = mc_init(7);
	uint32_t id = 0;

	for (size_t n = 0; n < sizeof(m.bytes); n++) {
		struct nic_memif_talk t = a_talk(true, 1);
		assert_refused("another length", nic_memif_check(&t, m.bytes, n, &no_files));
		assert_int_equal(nic_memif_init_id(m.bytes, n, &id), n >= 8);
	}
	assert_int_equal(id, 7);
}

/* ---- the driver */

struct rig {
	struct foil_worker *w;
	struct nic_port *port;
	struct net_port net;
	char folder[32], socket[64];
	char notice[600];
};

static void notice(void *arg, const char *text)
{
	struct rig *r = arg;

	if (r)
		snprintf(r->notice + strlen(r->notice), sizeof(r->notice) - strlen(r->notice), "%s\n", text);
}

static void rig_open(struct rig *r, const char *more)
{
	struct foil_error err = {0};
	char uri[160];

	*r = (struct rig){.w = t_worker(.n_mbufs = 4095), .folder = "/tmp/test-memif-XXXXXX"};
	assert_non_null(mkdtemp(r->folder));
	snprintf(r->socket, sizeof(r->socket), "%s/sock", r->folder);
	snprintf(uri, sizeof(uri), "memif:socket=%s,id=3%s", r->socket, more);
	struct nic_port_params p = {.name = "p0", .uri = uri, .n_workers = 1, .rx_pools = &r->w->mbuf_pool, .mtu = 1500};
	if (nic_port_open(&p, &r->port, &err) != 0)
		fail_msg("%s", err.text);
	nic_port_queue(r->port, 0, &r->net);
}

static void rig_close(struct rig *r)
{
	nic_ports_close(&r->port, 1);
	(void)unlink(r->socket); /* the driver has done so where it was ours */
	assert_int_equal(rmdir(r->folder), 0);
	t_worker_free(r->w);
}

/* Leaves until is() or five seconds. */
static bool within(struct rig *r, bool (*is)(struct rig *r))
{
	for (int i = 0; i < 5000 && !is(r); i++) {
		struct rte_mbuf *got[32];
		rte_pktmbuf_free_bulk(got, r->net.rx_burst(r->w, &r->net, got, 32));
		usleep(1000);
	}
	return is(r);
}

static bool is_up(struct rig *r)
{
	struct nic_port_status s;

	nic_port_status(r->port, &s);
	return s.link_up;
}

static bool is_away(struct rig *r)
{
	return !is_up(r);
}

static bool one_refused(struct rig *r)
{
	return t_counter(r->w, NIC, PEERS_REFUSED) == 1;
}

static bool one_left(struct rig *r)
{
	return t_counter(r->w, NIC, PEERS_LEFT) == 1;
}

static void test_packets_go_both_ways_until_the_peer_leaves(void **state)
{
	struct rig r;
	struct mc c;
	struct rte_mbuf *got[32], *m;

	rig_open(&r, ",role=server");
	assert_true(mc_connect(&c, r.socket, 3, true));
	assert_true(within(&r, is_up));
	assert_int_equal(mc_push(&c, 60), MC_SLOTS);
	uint16_t n = r.net.rx_burst(r.w, &r.net, got, 32);
	assert_int_equal(n, 32);
	assert_int_equal(got[0]->data_len, 60);
	rte_pktmbuf_free_bulk(got, n);
	mc_pull(&c);
	m = t_mbuf(r.w, "frame", 5);
	assert_int_equal(r.net.tx_burst(r.w, &r.net, &m, 1), 1);
	mc_close(&c);
	assert_true(within(&r, is_away));
	assert_true(within(&r, one_left));
	assert_int_equal(r.net.rx_burst(r.w, &r.net, got, 32), 0);
	m = t_mbuf(r.w, "frame", 5);
	assert_int_equal(r.net.tx_burst(r.w, &r.net, &m, 1), 0);
	rte_pktmbuf_free(m);
	nic_ports_tend(&r.port, 1, 1, notice, &r);
	assert_non_null(strstr(r.notice, "port p0: its memif peer left 1 times and came 1 times; it is away"));
	rig_close(&r);
}

static void test_no_burst_while_the_gate_is_shut(void **state)
{
	struct rig r;
	struct mc c;
	struct rte_mbuf *got[32], *m;

	rig_open(&r, ",role=server");
	assert_true(mc_connect(&c, r.socket, 3, true));
	assert_true(within(&r, is_up));
	mc_push(&c, 60);
	mc_pull(&c);
	nic_gates_shut();
	m = t_mbuf(r.w, "frame", 5);
	assert_int_equal(r.net.rx_burst(r.w, &r.net, got, 32), 0);
	assert_int_equal(r.net.tx_burst(r.w, &r.net, &m, 1), 0);
	nic_gates_open();
	assert_int_equal(r.net.tx_burst(r.w, &r.net, &m, 1), 1);
	uint16_t n = r.net.rx_burst(r.w, &r.net, got, 32);
	assert_int_equal(n, 32);
	rte_pktmbuf_free_bulk(got, n);
	mc_close(&c);
	rig_close(&r);
}

static void test_a_handler_waits_for_the_worker(void **state)
{
	struct rig r;
	struct mc c;

	rig_open(&r, ",role=server");
	assert_true(mc_connect(&c, r.socket, 3, true));
	assert_true(within(&r, is_up));
	assert_true(nic_gate_enter(r.w, r.port->gate)); /* a burst, and in the middle of it */
	mc_close(&c);
	usleep(300000); /* longer than a handler waits */
	assert_true(is_up(&r));
	nic_gate_leave(r.w, r.port->gate);
	assert_true(within(&r, is_away));
	rig_close(&r);
}

static void refused(struct rig *r, struct mc *c, const char *why)
{
	assert_int_equal(mc_hear(c), 0);
	assert_true(within(r, one_refused));
	nic_ports_tend(&r->port, 1, 1, notice, r);
	if (!strstr(r->notice, why))
		fail_msg("%s", r->notice);
	mc_close(c);
}

static void test_a_peer_whose_memory_may_shrink_is_sent_away(void **state)
{
	struct rig r;
	struct mc c;

	rig_open(&r, ",role=server");
	assert_false(mc_connect(&c, r.socket, 3, false));
	refused(&r, &c, "port p0: sent 1 memif peers away; the last one because its memory may shrink");
	assert_true(mc_connect(&c, r.socket, 3, true)); /* the next one is welcome */
	mc_close(&c);
	rig_close(&r);
	rig_open(&r, ",role=server,unsealed=yes");
	assert_true(mc_connect(&c, r.socket, 3, false));
	mc_close(&c);
	rig_close(&r);
}

static void test_a_ring_outside_its_memory_is_refused_before_the_driver_has_it(void **state)
{
	struct rig r;
	struct mc c;
	struct mc_message m[3] = {mc_init(3), mc_region(0, 4096), mc_ring(true, 0, 0, 4096, 6)};

	rig_open(&r, ",role=server");
	assert_true(mc_open(&c, r.socket));
	c.memory = memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	assert_true(c.memory >= 0 && ftruncate(c.memory, 4096) == 0 && fcntl(c.memory, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	assert_int_equal(mc_hear(&c), MC_HELLO);
	assert_true(mc_send(&c, &m[0], -1));
	assert_int_equal(mc_hear(&c), MC_ACK);
	assert_true(mc_send(&c, &m[1], c.memory));
	assert_int_equal(mc_hear(&c), MC_ACK);
	assert_true(mc_send(&c, &m[2], c.memory));
	refused(&r, &c, "does not lie in its memory");
	rig_close(&r);
}

/* Comes, keeps the rings busy, and goes with them, again and again. */
struct restless {
	const char *socket;
	uint32_t n_lives, n_connected;
	uint64_t n_pushed;
	bool done;
};

static void *live(void *arg)
{
	struct restless *l = arg;

	for (uint32_t i = 0; i < l->n_lives; i++) {
		struct mc c;
		bool there = mc_connect(&c, l->socket, 3, true);
		l->n_connected += there;
		for (uint64_t end_us = nic_clock_us() + 2000 + i % 7 * 300; there && nic_clock_us() < end_us;) {
			l->n_pushed += mc_push(&c, 1500);
			mc_pull(&c);
		}
		mc_close(&c);
	}
	__atomic_store_n(&l->done, true, __ATOMIC_RELEASE);
	return NULL;
}

typedef uint16_t (*burst_fn)(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts);

static uint64_t serve(struct rig *r, struct restless *l, burst_fn rx, burst_fn tx)
{
	uint64_t n_got = 0;

	while (!__atomic_load_n(&l->done, __ATOMIC_ACQUIRE)) {
		struct rte_mbuf *got[32];
		uint16_t n = rx(r->w, &r->net, got, 32), n_sent = n ? tx(r->w, &r->net, got, n) : 0;
		n_got += n;
		rte_pktmbuf_free_bulk(got + n_sent, n - n_sent);
	}
	return n_got;
}

static void come_and_go(bool fenced)
{
	struct rig r;
	struct restless l = {.n_lives = 100};
	pthread_t thread;

	rig_open(&r, ",role=server");
	l.socket = r.socket;
	r.port->gate->fenced |= fenced;
	assert_int_equal(pthread_create(&thread, NULL, live, &l), 0);
	uint64_t n_got = serve(&r, &l, r.net.rx_burst, r.net.tx_burst);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(within(&r, is_away));
	assert_int_equal(l.n_connected, l.n_lives);
	assert_true(n_got > l.n_lives);
	rig_close(&r);
}

static void test_a_peer_that_comes_and_goes_under_traffic_harms_nothing(void **state)
{
	come_and_go(false);
}

static void test_nor_where_the_kernel_has_no_membarrier(void **state)
{
	come_and_go(true);
}

/* Connects and is gone before it is greeted, while others come and go. */
static void *knock(void *arg)
{
	struct restless *l = arg;

	while (!__atomic_load_n(&l->done, __ATOMIC_ACQUIRE)) {
		struct mc c;
		l->n_connected += mc_open(&c, l->socket);
		mc_close(&c);
	}
	return NULL;
}

static void test_a_peer_that_is_gone_before_it_is_greeted_harms_nothing(void **state)
{
	struct rig r;
	struct restless l = {.n_lives = 50}, knocks = {0};
	pthread_t thread, other;

	rig_open(&r, ",role=server");
	l.socket = knocks.socket = r.socket;
	assert_int_equal(pthread_create(&other, NULL, knock, &knocks), 0);
	assert_int_equal(pthread_create(&thread, NULL, live, &l), 0);
	(void)serve(&r, &l, r.net.rx_burst, r.net.tx_burst);
	__atomic_store_n(&knocks.done, true, __ATOMIC_RELEASE);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(pthread_join(other, NULL), 0);
	assert_true(within(&r, is_away));
	assert_true(l.n_connected > 0 && knocks.n_connected > 50);
	rig_close(&r);
}

static int raw(void)
{
	struct rig r;
	struct restless l = {.n_lives = 3000};
	pthread_t thread;

	rig_open(&r, ",role=server");
	l.socket = r.socket;
	if (pthread_create(&thread, NULL, live, &l))
		return 2;
	uint64_t n_got = serve(&r, &l, nic_rx_direct, nic_tx_direct);
	printf("%llu packets, %u connections, and no harm seen\n", (unsigned long long)n_got, l.n_connected);
	return 0;
}

/* ---- a server that goes: ours is the client */

static void test_a_client_reaches_for_a_server_that_went(void **state)
{
	struct rig server, client;
	struct foil_error err = {0};
	char uri[160];

	rig_open(&server, ",role=server");
	memset(&client, 0, sizeof(client));
	client.w = t_worker(.n_mbufs = 1023);
	snprintf(uri, sizeof(uri), "memif:socket=%s,id=3,role=client", server.socket);
	struct nic_port_params p = {.name = "p1", .uri = uri, .index = 1, .n_workers = 1, .rx_pools = &client.w->mbuf_pool, .mtu = 1500};
	if (nic_port_open(&p, &client.port, &err) != 0)
		fail_msg("%s", err.text);
	nic_port_queue(client.port, 0, &client.net);
	assert_true(within(&client, is_up));
	nic_ports_close(&server.port, 1);
	assert_true(within(&client, is_away));
	nic_ports_tend(&client.port, 1, 1, notice, &client);
	assert_true(is_away(&client)); /* nobody is there */
	snprintf(uri, sizeof(uri), "memif:socket=%s,id=3,role=server", server.socket);
	p = (struct nic_port_params){.name = "p0", .uri = uri, .n_workers = 1, .rx_pools = &server.w->mbuf_pool, .mtu = 1500};
	if (nic_port_open(&p, &server.port, &err) != 0)
		fail_msg("%s", err.text);
	nic_port_queue(server.port, 0, &server.net);
	nic_ports_tend(&client.port, 1, 2, notice, &client);
	assert_true(is_away(&client)); /* once a second */
	nic_ports_tend(&client.port, 1, 1000002, notice, &client);
	assert_true(within(&client, is_up));
	struct rte_mbuf *m = t_mbuf(client.w, "frame", 5), *got[8];
	(void)client.net.rx_burst(client.w, &client.net, got, 8); /* gives the server buffers */
	assert_int_equal(client.net.tx_burst(client.w, &client.net, &m, 1), 1);
	assert_int_equal(server.net.rx_burst(server.w, &server.net, got, 8), 1);
	rte_pktmbuf_free(got[0]);
	nic_ports_close(&client.port, 1);
	t_worker_free(client.w);
	rig_close(&server);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_client_that_keeps_the_rules_connects),
		cmocka_unit_test(test_a_server_that_keeps_the_rules_is_connected_to),
		cmocka_unit_test(test_messages_out_of_turn_are_refused),
		cmocka_unit_test(test_a_connected_peer_changes_nothing),
		cmocka_unit_test(test_memory_must_be_there_and_stay),
		cmocka_unit_test(test_rings_must_lie_in_memory_that_is_there),
		cmocka_unit_test(test_a_server_with_fewer_rings_than_workers_is_refused),
		cmocka_unit_test(test_texts_without_an_end_and_files_nobody_asked_for_are_refused),
		cmocka_unit_test(test_a_message_cut_anywhere_is_refused),
		cmocka_unit_test(test_packets_go_both_ways_until_the_peer_leaves),
		cmocka_unit_test(test_no_burst_while_the_gate_is_shut),
		cmocka_unit_test(test_a_handler_waits_for_the_worker),
		cmocka_unit_test(test_a_peer_whose_memory_may_shrink_is_sent_away),
		cmocka_unit_test(test_a_ring_outside_its_memory_is_refused_before_the_driver_has_it),
		cmocka_unit_test(test_a_peer_that_comes_and_goes_under_traffic_harms_nothing),
		cmocka_unit_test(test_nor_where_the_kernel_has_no_membarrier),
		cmocka_unit_test(test_a_peer_that_is_gone_before_it_is_greeted_harms_nothing),
		cmocka_unit_test(test_a_client_reaches_for_a_server_that_went),
	};

	if (argc > 1 && strcmp(argv[1], "raw") == 0)
		return raw();
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
