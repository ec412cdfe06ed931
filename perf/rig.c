/* The benchmarks' worker and its peers (rig.h). */
#include "perf/rig.h"

#include <stdio.h>
#include <stdlib.h>

#include <rte_eal.h>
#include <rte_ip.h>

#include "dataplane/core/error.h"

#define FRAME_BYTES_MAX 2048u
#define PEERS_PER_ADDR 60000u

static const struct rte_ether_addr our_mac = {{2, 0, 0, 0, 0, 1}}, peer_mac = {{2, 0, 0, 0, 0, 2}};
static const struct stream_user user;

static void die(const char *what)
{
	fprintf(stderr, "bench: %s\n", what);
	exit(2);
}

static rte_be32_t peer_ip(uint32_t id)
{
	return rte_cpu_to_be_32(RTE_IPV4(198, 18, 0, 1) + ((1 + id / PEERS_PER_ADDR) << 8));
}

static uint16_t peer_port(uint32_t id)
{
	return (uint16_t)(1024 + id % PEERS_PER_ADDR);
}

static const rte_be32_t our_ip = RTE_BE32(RTE_IPV4(198, 19, 0, 1));

struct tcp_key rig_key(uint32_t id)
{
	struct tcp_key k = {.local.port = RIG_PORT, .remote.port = peer_port(id)};
	struct net_addr local = net_addr_v4(our_ip), remote = net_addr_v4(peer_ip(id));

	memcpy(k.local.ip, local.b, 16);
	memcpy(k.remote.ip, remote.b, 16);
	return k;
}

struct tcp_conn *rig_conn(struct rig *r, uint32_t id)
{
	struct tcp_key k = rig_key(id);
	void *block = NULL;

	return tcp_flow_find(r->w.tcp, &k, tcp_flow_hash(r->w.tcp, &k), &block) == TCP_KIND_CONN ? block : NULL;
}

static void answer_arp(struct rig *r, const uint8_t *q)
{
	if (q[21] != 1 || memcmp(q + 28, q + 38, 4) == 0 || r->n_answers == RIG_BURST)
		return;
	struct rte_mbuf *m = rte_pktmbuf_alloc(r->w.mbuf_pool);
	uint8_t *f = m ? (uint8_t *)rte_pktmbuf_append(m, 42) : NULL;
	if (!f)
		die("no mbuf for ARP");
	memcpy(f, q, 42);
	memcpy(f, q + 6, 6);
	memcpy(f + 6, &peer_mac, 6);
	f[21] = 2;
	memcpy(f + 22, &peer_mac, 6);
	memcpy(f + 28, q + 38, 4);
	memcpy(f + 32, q + 22, 10);
	r->answers[r->n_answers++] = m;
}

static void take_frame(struct rig *r, const struct rte_mbuf *m)
{
	const uint8_t *f = rte_pktmbuf_mtod(m, const uint8_t *);
	const struct rte_ipv4_hdr *ip = (const void *)(f + 14);
	const struct rte_tcp_hdr *tcp = (const void *)(f + 34);

	if (f[12] == 8 && f[13] == 6) {
		answer_arp(r, f);
		return;
	}
	if (f[12] != 8 || ip->next_proto_id != TCP_PROTO)
		return;
	r->n_tx++;
	r->n_tx_bytes += m->pkt_len;
	if ((tcp->tcp_flags & (RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG)) != (RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG))
		return;
	uint32_t block = ((rte_be_to_cpu_32(ip->dst_addr) - RTE_IPV4(198, 18, 0, 1)) >> 8) - 1;
	uint32_t id = block * PEERS_PER_ADDR + rte_be_to_cpu_16(tcp->dst_port) - 1024;
	if (id < r->n_peers_max)
		r->isn[id] = rte_be_to_cpu_32(tcp->sent_seq);
}

static uint16_t tx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	for (uint16_t i = 0; i < n_pkts; i++) {
		take_frame(p->driver, own_pkts[i]);
		rte_pktmbuf_free(own_pkts[i]);
	}
	return n_pkts;
}

static uint16_t rx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	return 0;
}

static void on_readable(struct foil_worker *w, struct stream *s)
{
	const struct rig *r = s->user_data;

	if (r->consume)
		stream_consume(w, s, s->rx.n_bytes);
}

static void on_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	((struct rig *)s->user_data)->n_closed++;
}

static const struct stream_user user = {.readable = on_readable, .closed = on_closed};

static bool on_accept(struct foil_worker *w, struct tcp_listener *l, struct stream *s)
{
	struct rig *r = tcp_listener_data(l);

	r->n_accepted++;
	r->accepted = s;
	s->user = &user;
	s->user_data = r;
	return true;
}

static void start_eal(uint32_t n_mbufs)
{
	char megabytes[16];
	char *argv[] = {(char[]){"bench"}, (char[]){"--no-huge"}, (char[]){"--no-pci"}, (char[]){"--no-shconf"}, (char[]){"-m"}, megabytes,
			(char[]){"--no-telemetry"}, (char[]){"-l"}, (char[]){"0"}, (char[]){"--log-level=3"}, NULL};
	cpu_set_t cpus;

	snprintf(megabytes, sizeof(megabytes), "%u", 64 + n_mbufs / 256);
	bool has_cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0;
	if (rte_eal_init((int)FOIL_COUNT_OF(argv) - 1, argv) < 0)
		die("EAL does not start");
	if (has_cpus)
		(void)sched_setaffinity(0, sizeof(cpus), &cpus); /* where the caller put us is as good */
}

void rig_start(struct rig *r, const struct tcp_params *p, uint32_t n_mbufs, uint32_t n_peers_max)
{
	struct foil_error err = {0};
	struct foil_pools_params pp = {.prefix = "bench", .n_mbufs = n_mbufs, .n_indirect = n_mbufs, .n_chunks = 1023, .n_large_chunks = 15, .socket_id = -1};
	struct net_local_conf local = {0};
	struct tcp_listen_params lp = {.port = RIG_PORT, .backlog_max = 4096, .accept = on_accept, .user_data = r};

	memset(r, 0, sizeof(*r));
	r->consume = true;
	start_eal(n_mbufs);
	r->isn = calloc(n_peers_max, sizeof(r->isn[0]));
	r->n_peers_max = n_peers_max;
	if (!r->isn || foil_pools_new(&r->pools, &pp, &err))
		die(r->isn ? err.text : "out of memory");
	memset(r->isn, 1, n_peers_max * sizeof(r->isn[0])); /* so that it counts before and not during */
	struct foil_worker_params wp = {.n_workers = 1, .seed = 7, .now_us = 1000000, .wall_us = 1700000000000000ull, .mbuf_pool = r->pools.mbuf,
					.indirect_pool = r->pools.indirect, .chunk_pool = r->pools.chunk, .large_chunk_pool = r->pools.large_chunk};
	if (net_prefix_parse("198.19.0.1/15", &local.prefix) || foil_worker_init(&r->w, &wp))
		die("no memory for the worker");
	foil_worker_set_current(&r->w);
	r->port = (struct net_port){.rx_burst = rx, .tx_burst = tx, .driver = r, .mtu = 1500, .tx_multi_seg = true, .mac = our_mac, .rx_trusted = true,
				    .tx_cksum_ip = true, .tx_cksum_l4 = true};
	struct net_params np = {.ports = {&r->port}, .n_ports = 1, .locals = &local, .n_locals = 1, .neighbours_max = 1024};
	if (net_init(&r->w, &np, &err) || tcp_init(&r->w, p, &err) || tcp_listen(&r->w, &lp, &r->listener))
		die(err.text);
	rig_wait(r, 3000000);
}

void rig_stop(struct rig *r)
{
	tcp_fini(&r->w);
	net_fini(&r->w);
	foil_worker_fini(&r->w);
	free(r->isn);
}

static uint32_t put_options(uint8_t *at, uint8_t flags, uint32_t ts)
{
	struct tcp_options o = {.has_ts = true, .ts_val = ts};

	if (flags & RTE_TCP_SYN_FLAG) {
		o.has_mss = o.sack_permitted = o.has_wscale = true;
		o.mss_bytes = 1460;
		o.wscale = 7;
	}
	return tcp_options_emit(&o, at);
}

struct rte_mbuf *rig_seg(struct rig *r, uint32_t id, uint8_t flags, uint32_t seq, uint32_t ack, uint32_t n_bytes)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(r->w.mbuf_pool);
	uint8_t *f = m ? rte_pktmbuf_mtod(m, uint8_t *) : NULL;

	if (!f)
		die("no mbuf for a segment");
	uint32_t n_tcp = 20 + put_options(f + 54, flags, (uint32_t)(r->w.now_us / 1000)) + n_bytes;
	memcpy(f, &our_mac, 6);
	memcpy(f + 6, &peer_mac, 6);
	f[12] = 8;
	f[13] = 0;
	*(struct rte_ipv4_hdr *)(void *)(f + 14) = (struct rte_ipv4_hdr){.version_ihl = 0x45, .total_length = rte_cpu_to_be_16((uint16_t)(20 + n_tcp)),
		.time_to_live = 64, .next_proto_id = TCP_PROTO, .src_addr = peer_ip(id), .dst_addr = our_ip};
	*(struct rte_tcp_hdr *)(void *)(f + 34) = (struct rte_tcp_hdr){.src_port = rte_cpu_to_be_16(peer_port(id)), .dst_port = rte_cpu_to_be_16(RIG_PORT),
		.sent_seq = rte_cpu_to_be_32(seq), .recv_ack = rte_cpu_to_be_32(ack), .data_off = (uint8_t)((n_tcp - n_bytes) / 4 << 4),
		.tcp_flags = flags, .rx_win = rte_cpu_to_be_16(1000)};
	m->data_len = (uint16_t)(34 + n_tcp);
	m->pkt_len = m->data_len;
	return m;
}

void rig_turn(struct rig *r, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	if (n_pkts)
		net_input_burst(&r->w, &r->port, own_pkts, n_pkts);
	(void)foil_wheel_advance(&r->w, 64);
	tcp_flush(&r->w);
	net_flush(&r->w);
	while (FOIL_UNLIKELY(r->n_answers)) {
		struct rte_mbuf *answers[RIG_BURST];
		uint16_t n = (uint16_t)r->n_answers;
		memcpy(answers, r->answers, sizeof(answers));
		r->n_answers = 0;
		net_input_burst(&r->w, &r->port, answers, n);
		net_flush(&r->w);
	}
}

void rig_wait(struct rig *r, uint64_t us)
{
	uint64_t end = r->w.now_us + us;

	while (r->w.now_us < end) {
		uint64_t next = foil_wheel_next_us(&r->w), to = FOIL_MIN(end, FOIL_MAX(next, r->w.now_us + FOIL_TICK_US));
		r->w.wall_us += to - r->w.now_us;
		r->w.now_us = to;
		rig_turn(r, NULL, 0);
	}
}

static uint64_t timed_turn(struct rig *r, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	uint64_t before = rig_cycles();

	rig_turn(r, own_pkts, n_pkts);
	return rig_cycles() - before;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

double rig_middle(struct rig_figures *f)
{
	uint32_t n = FOIL_MIN(f->n, RIG_FIGURES_MAX);

	if (!n)
		return 0;
	qsort(f->cycles, n, sizeof(f->cycles[0]), by_size);
	return (double)f->cycles[n / 2];
}

double rig_open(struct rig *r, uint32_t from, uint32_t n)
{
	static struct rig_figures figures;
	struct rte_mbuf *pkts[RIG_BURST];

	figures.n = 0;
	for (uint32_t done = 0; done < n;) {
		uint16_t k = (uint16_t)FOIL_MIN(n - done, (uint32_t)RIG_BURST);
		for (uint16_t i = 0; i < k; i++)
			pkts[i] = rig_seg(r, from + done + i, RTE_TCP_SYN_FLAG, RIG_PEER_ISN, 0, 0);
		uint64_t cycles = timed_turn(r, pkts, k);
		for (uint16_t i = 0; i < k; i++)
			pkts[i] = rig_seg(r, from + done + i, RTE_TCP_ACK_FLAG, RIG_PEER_ISN + 1, r->isn[from + done + i] + 1, 0);
		rig_note(&figures, (cycles + timed_turn(r, pkts, k)) / k);
		done += k;
		r->w.now_us += 20; /* more than three million a second */
	}
	return rig_middle(&figures);
}

uint64_t rig_rss_bytes(void)
{
	unsigned long long n_pages, n_resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%llu %llu", &n_pages, &n_resident) != 2)
		die("no /proc/self/statm");
	fclose(f);
	return n_resident * 4096;
}
