/* The door's one host: EAL without devices, a worker with net/ and tcp/, a port that strips and adds Ethernet, neighbours that answer
 * every question at once, and the clock. Addresses are packetdrill's defaults: ours are all of 192.168.0.0/16 and fd3d:fa7b:d17d::/48;
 * everything else is on the link. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <rte_eal.h>
#include <rte_ip.h>

#include "dataplane/core/error.h"
#include "dataplane/net/checksum.h"
#include "tests/packetdrill/door.h"

#define N_MBUFS 8191u
#define START_US 1000000u
#define ETH_BYTES 14u
#define SETTLE_US 3000000u /* announcements and duplicate address detection are over before a script begins */

static const struct rte_ether_addr our_mac = {{2, 0, 0, 0, 0, 1}}, peer_mac = {{2, 0, 0, 0, 0, 2}};

void door_die(const struct door *d, const char *what)
{
	fprintf(stderr, "foil door: %s, at %.6f s of virtual time\n", what, (double)(d->w.now_us - START_US) / 1e6);
	fflush(NULL);
	_exit(1);
}

static struct rte_mbuf *mbuf_of(struct door *d, const void *data, uint32_t n_bytes)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(d->w.mbuf_pool);
	char *to = m ? rte_pktmbuf_append(m, (uint16_t)n_bytes) : NULL;

	if (!to)
		door_die(d, "no mbuf for a packet");
	memcpy(to, data, n_bytes);
	return m;
}

static void answer(struct door *d, const void *frame, uint32_t n_bytes)
{
	if (d->n_answers < FOIL_COUNT_OF(d->answers))
		d->answers[d->n_answers++] = mbuf_of(d, frame, n_bytes);
}

static void answer_arp(struct door *d, const uint8_t *q)
{
	uint8_t f[42];

	if (q[21] != 1 || memcmp(q + 28, q + 38, 4) == 0) /* a request, not an announcement */
		return;
	memcpy(f, q, sizeof(f));
	memcpy(f, q + 6, 6);
	memcpy(f + 6, &peer_mac, 6);
	f[21] = 2;
	memcpy(f + 22, &peer_mac, 6);
	memcpy(f + 28, q + 38, 4);
	memcpy(f + 32, q + 22, 10);
	answer(d, f, sizeof(f));
}

static void answer_solicitation(struct door *d, const uint8_t *q)
{
	static const uint8_t fixed[] = {0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255}, nobody[16];
	uint8_t f[86] = {0};
	struct net_addr src, dst;

	if (memcmp(q + 22, nobody, 16) == 0) /* duplicate address detection: the address is free */
		return;
	memcpy(f, q + 6, 6);
	memcpy(f + 6, &peer_mac, 6);
	memcpy(f + 12, fixed, sizeof(fixed));
	memcpy(f + 22, q + 62, 16);
	memcpy(f + 38, q + 22, 16);
	f[54] = 136;
	f[58] = 0x60;
	memcpy(f + 62, q + 62, 16);
	f[78] = 2;
	f[79] = 1;
	memcpy(f + 80, &peer_mac, 6);
	memcpy(src.b, f + 22, 16);
	memcpy(dst.b, f + 38, 16);
	struct rte_mbuf *m = mbuf_of(d, f, sizeof(f));
	uint16_t sum = net_sum_fold(net_sum_pseudo(&src, &dst, 58, 32) + net_sum_chain(m, 54, 32));
	memcpy(f + 56, &sum, 2);
	rte_pktmbuf_free(m);
	answer(d, f, sizeof(f));
}

/* Out of a TCP header, with the checksum mended (RFC 1624). */
static void clear_push(uint8_t *ip, uint32_t n_bytes)
{
	uint32_t at = ip[0] >> 4 == 4 ? (ip[0] & 15u) * 4 : 40;
	uint8_t proto = ip[0] >> 4 == 4 ? ip[9] : ip[6];

	if (proto != IPPROTO_TCP || n_bytes < at + 20 || !(ip[at + 13] & 8))
		return;
	ip[at + 13] &= (uint8_t)~8;
	uint32_t sum = ((uint32_t)ip[at + 16] << 8 | ip[at + 17]) + 8;
	sum = (sum & 0xffff) + (sum >> 16);
	ip[at + 16] = (uint8_t)(sum >> 8);
	ip[at + 17] = (uint8_t)sum;
}

static void put_out(struct door *d, const uint8_t *ip, uint32_t n_bytes)
{
	struct door_packet *p = malloc(sizeof(*p));

	if (!p)
		door_die(d, "out of memory");
	p->next = NULL;
	p->at_us = d->w.now_us;
	p->n_bytes = n_bytes;
	memcpy(p->data, ip, n_bytes);
	if (d->no_push)
		clear_push(p->data, n_bytes);
	*d->out_tail = p;
	d->out_tail = &p->next;
}

static void take_frame(struct door *d, const uint8_t *f, uint32_t n_bytes)
{
	bool v6 = f[12] == 0x86;

	if (f[12] == 8 && f[13] == 6)
		answer_arp(d, f);
	else if (v6 && f[20] == 58 && n_bytes >= 78 && f[54] == 135)
		answer_solicitation(d, f);
	else if (!v6 || f[20] != 58 || f[54] < 128) /* of ICMPv6 only errors are of interest to a script */
		put_out(d, f + ETH_BYTES, n_bytes - ETH_BYTES);
}

static uint16_t tx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	struct door *d = p->driver;
	uint8_t frame[DOOR_PACKET_BYTES_MAX];

	for (uint16_t i = 0; i < n_pkts; i++) {
		uint32_t n = own_pkts[i]->pkt_len;
		const uint8_t *at = n <= sizeof(frame) ? rte_pktmbuf_read(own_pkts[i], 0, n, frame) : NULL;
		if (!at || n < ETH_BYTES + 20)
			door_die(d, "the stack sent a frame whose segments do not add up");
		take_frame(d, at, n);
		rte_pktmbuf_free(own_pkts[i]);
	}
	return n_pkts;
}

static uint16_t no_rx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	return 0;
}

/* packetdrill locks all its memory, now and later, and runs in real time: neither is of use here. EAL binds its caller to a core. */
static void start_eal(void)
{
	char *argv[] = {(char[]){"foil-door"}, (char[]){"--no-huge"}, (char[]){"--no-pci"}, (char[]){"--no-shconf"}, (char[]){"-m"}, (char[]){"128"},
			(char[]){"--no-telemetry"}, (char[]){"-l"}, (char[]){"0"}, (char[]){"--log-level=3"}, NULL};
	struct sched_param normal = {0};
	cpu_set_t cpus;

	(void)munlockall();                              /* not locked: as well */
	(void)sched_setscheduler(0, SCHED_OTHER, &normal); /* lower priority is always granted */
	bool has_cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0;
	if (rte_eal_init((int)FOIL_COUNT_OF(argv) - 1, argv) < 0) {
		fprintf(stderr, "foil door: EAL does not start\n");
		_exit(1);
	}
	if (has_cpus)
		(void)sched_setaffinity(0, sizeof(cpus), &cpus); /* on one core all works too */
}

static struct net_prefix prefix(const char *text)
{
	struct net_prefix p;

	if (net_prefix_parse(text, &p))
		abort();
	return p;
}

static void net_up(struct door *d)
{
	struct foil_error err = {0};
	struct net_local_conf locals[] = {{.prefix = prefix("192.168.0.1/16")}, {.prefix = prefix("fd3d:fa7b:d17d::1/48")}};
	struct net_prefix services[] = {prefix("192.168.0.0/16"), prefix("fd3d:fa7b:d17d::/48")};
	struct net_route_conf routes[] = {{.prefix = prefix("0.0.0.0/0")}, {.prefix = prefix("::/0")}};
	struct net_params np = {.ports = {&d->port}, .n_ports = 1, .locals = locals, .n_locals = 2, .services = services, .n_services = 2,
				.routes = routes, .n_routes = 2, .neighbours_max = 64};

	d->port = (struct net_port){.rx_burst = no_rx, .tx_burst = tx, .driver = d, .mtu = d->mtu, .tx_multi_seg = true, .mac = our_mac};
	if (net_init(&d->w, &np, &err)) {
		fprintf(stderr, "foil door: %s\n", err.text);
		_exit(1);
	}
	d->is_up = true;
	door_advance(d, d->w.now_us + SETTLE_US);
}

void door_host_start(struct door *d)
{
	struct foil_pools_params p = {.prefix = "door", .n_mbufs = N_MBUFS, .n_indirect = N_MBUFS, .n_chunks = 15, .n_large_chunks = 1, .socket_id = -1};
	struct foil_error err = {0};

	start_eal();
	if (foil_pools_new(&d->pools, &p, &err)) {
		fprintf(stderr, "foil door: %s\n", err.text);
		_exit(1);
	}
	struct foil_worker_params wp = {.n_workers = 1, .seed = 1, .now_us = START_US, .wall_us = 1700000000000000ull, .mbuf_pool = d->pools.mbuf,
					.indirect_pool = d->pools.indirect, .chunk_pool = d->pools.chunk, .large_chunk_pool = d->pools.large_chunk};
	if (foil_worker_init(&d->w, &wp))
		door_die(d, "no memory for the worker");
	foil_worker_set_current(&d->w);
	d->out_tail = &d->out_head;
	net_up(d);
}

void door_host_up(struct door *d)
{
	struct foil_error err = {0};

	if (d->w.tcp)
		return;
	door_read_sysctls(d);
	if (tcp_init(&d->w, &d->tcp, &err)) {
		fprintf(stderr, "foil door: %s\n", err.text);
		_exit(1);
	}
}

void door_host_stop(struct door *d)
{
	if (d->w.tcp)
		tcp_fini(&d->w);
	net_fini(&d->w);
	d->is_up = false;
	for (struct door_packet *p = d->out_head, *next; p; p = next) {
		next = p->next;
		free(p);
	}
	d->out_head = NULL;
	d->out_tail = &d->out_head;
}

void door_turn(struct door *d)
{
	if (!d->is_up)
		return;
	for (int i = 0; i < 8; i++) { /* an answer may free what waited for it; nobody asks twice for the same */
		struct rte_mbuf *pkts[FOIL_COUNT_OF(d->answers)];
		uint16_t n = (uint16_t)d->n_answers;
		memcpy(pkts, d->answers, sizeof(pkts));
		d->n_answers = 0;
		if (n)
			net_input_burst(&d->w, &d->port, pkts, n);
		while (foil_wheel_advance(&d->w, 64))
			;
		if (d->w.tcp)
			tcp_flush(&d->w);
		net_flush(&d->w);
		if (!d->n_answers)
			break;
	}
	door_check_waiter(d);
}

bool door_step(struct door *d, uint64_t limit_us)
{
	uint64_t next_us = d->is_up ? foil_wheel_next_us(&d->w) : UINT64_MAX;

	if (next_us > limit_us)
		return false;
	uint64_t to_us = FOIL_MAX(next_us, d->w.now_us + 1);
	d->w.wall_us += to_us - d->w.now_us;
	d->w.now_us = to_us;
	door_turn(d);
	return true;
}

void door_advance(struct door *d, uint64_t to_us)
{
	while (d->wait_state != DOOR_READY && door_step(d, to_us))
		;
	if (d->wait_state == DOOR_READY || to_us <= d->w.now_us)
		return;
	d->w.wall_us += to_us - d->w.now_us;
	d->w.now_us = to_us;
	door_check_waiter(d); /* a call with a time limit */
}

int door_host_input(struct door *d, const void *packet, size_t n_bytes)
{
	uint8_t frame[65536 + ETH_BYTES];

	if (n_bytes == 0 || n_bytes > 65535)
		return -EINVAL;
	memcpy(frame, &our_mac, 6);
	memcpy(frame + 6, &peer_mac, 6);
	bool v6 = *(const uint8_t *)packet >> 4 == 6;
	frame[12] = v6 ? 0x86 : 0x08;
	frame[13] = v6 ? 0xdd : 0;
	memcpy(frame + ETH_BYTES, packet, n_bytes);

	struct rte_mbuf *head = NULL, *last = NULL; /* a jumbo packet comes in several buffers, as a port would give it */
	for (size_t at = 0, all = n_bytes + ETH_BYTES; at < all;) {
		uint32_t n = (uint32_t)FOIL_MIN(all - at, (size_t)1800);
		struct rte_mbuf *m = mbuf_of(d, frame + at, n);
		at += n;
		if (!head) {
			head = last = m;
			continue;
		}
		last->next = m;
		last = m;
		head->nb_segs++;
		head->pkt_len += n;
	}
	net_input_burst(&d->w, &d->port, &head, 1);
	door_turn(d);
	return 0;
}
