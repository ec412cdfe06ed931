/* Brings one node up in the order of its needs (EAL, pools, ports, shared state, then worker by worker its rooms from net to mesh) and takes it down in
 * the reverse order. Every step that succeeded is remembered, so that node_close undoes exactly what stands. */
#include "programs/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include <rte_launch.h>
#include <rte_malloc.h>

#include "dataplane/config/config.h"
#include "dataplane/http/codec.h"
#include "dataplane/net/net.h"
#include "dataplane/tcp/tcp.h"
#include "dataplane/tls/tls.h"
#include "programs/transport.h"

#define MBUF_DATA_BYTES 2048u /* of a frame with an ordinary MTU */
#define MBUF_EXTRA_BYTES 512u /* headroom, private area, struct rte_mbuf, mempool header */
#define FRAME_EXTRA_BYTES 128u /* what a driver wants beyond the MTU: link header, tags, its own alignment */
#define CHUNKS_PER_REQUEST 3u /* head and scratch of both sides */
#define MBUFS_MIN 4096u
#define UPSTREAM_JOBS 1024u /* handshakes towards upstreams that crypto threads may have of one worker */

static const enum nic_hugepages hugepages_of[] = {
	[NODE_HUGEPAGES_AUTO] = NIC_HUGEPAGES_AUTO, [NODE_HUGEPAGES_ON] = NIC_HUGEPAGES_REQUIRE, [NODE_HUGEPAGES_OFF] = NIC_HUGEPAGES_NEVER};
static const enum nic_idle_mode idle_of[] = {
	[NODE_IDLE_AUTO] = NIC_IDLE_AUTO, [NODE_IDLE_PAUSE] = NIC_IDLE_PAUSE, [NODE_IDLE_POLL] = NIC_IDLE_POLL, [NODE_IDLE_INTERRUPT] = NIC_IDLE_INTERRUPT};

static int start_eal(struct node *n, nic_notice_fn notice, struct foil_error *err)
{
	const struct node_conf *c = n->conf;
	const char *uris[NODE_PORTS_MAX];
	char prefix[160];
	for (uint16_t i = 0; i < c->n_ports; i++)
		uris[i] = c->ports[i].uri;
	(void)snprintf(prefix, sizeof(prefix), "hydrofoil-%s", c->node_name); /* a name has at most 63 bytes */
	struct nic_eal_params p = {
		.n_workers = c->n_workers, .worker_cpus = c->cores, .main_cpu = c->housekeeping_core, .memory_mb = c->memory_megabytes,
		.hugepages = hugepages_of[c->hugepages], .file_prefix = prefix, .uris = uris, .n_uris = c->n_ports,
		.notice = notice,
	};
	int rc = nic_eal_start(&p, err);
	n->is_eal_up = rc == 0;
	return rc;
}

/* Room for the largest frame of any port: it lies in one piece. */
static uint32_t mbuf_data_bytes(const struct node_conf *c)
{
	uint32_t bytes = MBUF_DATA_BYTES;
	for (uint16_t i = 0; i < c->n_ports; i++)
		bytes = FOIL_MAX(bytes, (c->ports[i].mtu + FRAME_EXTRA_BYTES + RTE_CACHE_LINE_SIZE - 1u) & ~(RTE_CACHE_LINE_SIZE - 1u));
	return bytes;
}

/* Half of the memory holds packets; what is left serves connections, requests and DPDK itself. */
static struct foil_pools_params pools_of(const struct node *n, uint16_t i, const char *prefix)
{
	const struct node_conf *c = n->conf;
	uint32_t requests = c->requests_max / c->n_workers + 1;
	uint64_t mbufs = (uint64_t)c->memory_megabytes * 1024 * 1024 / 2 / (mbuf_data_bytes(c) + MBUF_EXTRA_BYTES) / c->n_workers;
	return (struct foil_pools_params){
		.prefix = prefix, .mbuf_data_bytes = mbuf_data_bytes(c),
		.n_mbufs = (uint32_t)FOIL_MAX(mbufs, MBUFS_MIN), .n_indirect = (uint32_t)FOIL_MAX(mbufs, MBUFS_MIN),
		.n_chunks = requests * CHUNKS_PER_REQUEST + 64, .n_large_chunks = requests / 64 + 16, .socket_id = nic_worker_socket(i),
	};
}

static int make_pools(struct node *n, uint16_t i, struct foil_error *err)
{
	struct foil_error why = {0};
	char prefix[16];
	(void)snprintf(prefix, sizeof(prefix), "w%u", i);
	struct foil_pools_params p = pools_of(n, i, prefix);
	int rc = foil_pools_new(&n->workers[i].pools, &p, &why);
	if (rc < 0)
		(void)foil_error_set(err, rc, "memory.megabytes %u is too little for memory.requests %u and their packets; raise the one or lower the other "
				     "(%.*s)", n->conf->memory_megabytes, n->conf->requests_max, (int)strcspn(why.text, ";"), why.text);
	return rc;
}

/* What was taken, in terms of what it serves. */
static void say_sizes(const struct node *n, nic_notice_fn notice)
{
	char text[256];
	struct foil_pools_params p = pools_of(n, 0, "");
	(void)snprintf(text, sizeof(text), "a worker has %u packets of %u bytes and %u chunks of %u; a request costs %u KiB of them, a head beyond %u KiB "
		       "one of %u large ones", p.n_mbufs, p.mbuf_data_bytes, p.n_chunks, FOIL_CHUNK_BYTES, CHUNKS_PER_REQUEST * FOIL_CHUNK_BYTES / 1024,
		       FOIL_CHUNK_BYTES / 1024, p.n_large_chunks);
	notice(NULL, text);
}

static int open_ports(struct node *n, nic_notice_fn notice, struct foil_error *err)
{
	const struct node_conf *c = n->conf;
	struct rte_mempool *pools[NODE_WORKERS_MAX];
	for (uint16_t i = 0; i < c->n_workers; i++)
		pools[i] = n->workers[i].pools.mbuf;
	for (uint16_t i = 0; i < c->n_ports; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "p%u", i);
		struct nic_port_params p = {
			.name = name, .uri = c->ports[i].uri, .index = i, .n_workers = c->n_workers, .rx_pools = pools, .mtu = c->ports[i].mtu,
			.vlan = c->ports[i].vlan, .interrupts = c->idle == NODE_IDLE_INTERRUPT || c->idle == NODE_IDLE_AUTO, .exception_tap = c->exception_path,
			.notice = notice,
		};
		int rc = nic_port_open(&p, &n->ports[i], err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int init_net(struct node *n, struct node_worker *nw, struct foil_error *err)
{
	const struct node_conf *c = n->conf;
	struct net_local_conf locals[NODE_PORTS_MAX * NODE_ADDRS_MAX];
	struct net_route_conf routes[NODE_ROUTES_MAX];
	struct net_params p = {.n_ports = c->n_ports, .locals = locals, .services = c->services, .n_services = c->n_services,
			       .captured = c->captured, .n_captured = c->n_captured, .routes = routes,
			       .n_routes = c->n_routes, .services_answer_arp = true, .report_groups = true, .address_check = c->address_check};
	for (uint16_t i = 0; i < c->n_ports; i++) {
		nic_port_queue(n->ports[i], nw->w->id, &nw->ports[i]);
		p.ports[i] = &nw->ports[i];
		for (uint16_t a = 0; a < c->ports[i].n_addresses; a++)
			locals[p.n_locals++] = (struct net_local_conf){.prefix = c->ports[i].addresses[a], .port = i};
	}
	for (uint16_t i = 0; i < c->n_routes; i++)
		routes[i] = (struct net_route_conf){.prefix = c->routes[i].to, .port = c->routes[i].port, .via = c->routes[i].via};
	nic_ports_hooks(n->ports, c->n_ports, &p);
	return net_init(nw->w, &p, err);
}

static int init_tcp(struct node *n, struct node_worker *nw, struct foil_error *err)
{
	struct tcp_params p = {.conns_max = n->conf->connections_max / n->conf->n_workers + 1,
			       .time_wait_max = n->conf->connections_max / n->conf->n_workers + 1,
			       .congestion = n->conf->tcp_congestion,
			       .ecn_request = n->conf->tcp_ecn,
			       .user_timeout_us = (uint64_t)n->conf->tcp_user_timeout_s * 1000000};
	return tcp_init(nw->w, &p, err);
}

/* A worker's part of what is said of all. */
static uint32_t share(const struct node *n, uint32_t v)
{
	return (v + n->conf->n_workers - 1) / n->conf->n_workers;
}

/* Every handshake of a client may be away, and some towards upstreams. */
static uint32_t jobs_of(const struct node *n)
{
	return share(n, n->conf->tls_handshakes_max) + UPSTREAM_JOBS;
}

static int init_tls(struct node *n, struct node_worker *nw, struct foil_error *err)
{
	struct tls_params p = {.conns_max = n->conf->connections_max / n->conf->n_workers + 1,
			       .handshakes_max = share(n, n->conf->tls_handshakes_max),
			       .handshakes_prefix_max = share(n, n->conf->tls_handshakes_network_max),
			       .crypto = n->crypto, .jobs_max = jobs_of(n),
			       .engine = n->conf->tls_openssl ? TLS_ENGINE_OPENSSL : TLS_ENGINE_AUTO};
	return tls_init(nw->w, &p, err);
}

static int init_http(struct node *n, struct node_worker *nw, struct foil_error *err)
{
	struct http_params p = {.conns_max = n->conf->connections_max / n->conf->n_workers + 1,
				.streams_max = 2 * (n->conf->requests_max / n->conf->n_workers + 1)};
	return http_init(nw->w, &p, err);
}

static int init_mesh(struct node *n, struct node_worker *nw, struct foil_error *err)
{
	struct mesh_params p = {.shared = n->mesh, .transport = &transport_tcp, .requests_max = n->conf->requests_max / n->conf->n_workers + 1,
				.connections_max = n->conf->connections_max / n->conf->n_workers + 1, .names_max = n->conf->names_max,
				.node_name = foil_slice_str(n->conf->node_name)};
	return mesh_init(nw->w, &p, err);
}

static int init_tele(struct node *n, struct node_worker *nw, struct foil_error *err)
{
	return tele_init(nw->w, n->tele, err);
}

static const struct {
	enum foil_room room;
	int (*init)(struct node *n, struct node_worker *nw, struct foil_error *err);
	void (*fini)(struct foil_worker *w);
} rooms[] = {
	{FOIL_ROOM_TELE, init_tele, tele_fini}, {FOIL_ROOM_NET, init_net, net_fini}, {FOIL_ROOM_TCP, init_tcp, tcp_fini},
	{FOIL_ROOM_TLS, init_tls, tls_fini},
	{FOIL_ROOM_HTTP, init_http, http_fini}, {FOIL_ROOM_MESH, init_mesh, mesh_fini},
};

static int init_worker(struct node *n, uint16_t i, nic_notice_fn notice, struct foil_error *err)
{
	struct node_worker *nw = &n->workers[i];
	nw->w = rte_zmalloc_socket("worker", sizeof(*nw->w), 64, nic_worker_socket(i));
	if (!nw->w)
		return foil_error_set(err, -ENOMEM, "no memory for worker %u; raise memory.megabytes", i);
	struct foil_worker_params p = {
		.id = i, .n_workers = n->conf->n_workers, .seed = n->seed + i, .now_us = nic_clock_us(), .wall_us = nic_wall_us(),
		.mbuf_pool = nw->pools.mbuf, .indirect_pool = nw->pools.indirect, .chunk_pool = nw->pools.chunk,
		.large_chunk_pool = nw->pools.large_chunk, .overload = n->conf->overload,
	};
	int rc = foil_worker_init(nw->w, &p);
	nw->is_init[FOIL_ROOM_CORE] = rc == 0;
	if (rc < 0)
		return foil_error_set(err, rc, "no memory for worker %u's counters", i);
	for (size_t r = 0; r < FOIL_COUNT_OF(rooms); r++) {
		rc = rooms[r].init(n, nw, err);
		nw->is_init[rooms[r].room] = rc == 0;
		if (rc < 0)
			return rc;
	}
	nw->loop.w = nw->w;
	nw->loop.ports = n->ports;
	nw->loop.n_ports = n->conf->n_ports;
	rc = nic_idle_init(&nw->loop.idle, nw->w, idle_of[n->conf->idle], n->ports, n->conf->n_ports, notice, NULL, err);
	nw->is_idle_init = rc == 0;
	return rc;
}

static void fini_worker(struct node_worker *nw)
{
	if (nw->is_idle_init)
		nic_idle_fini(&nw->loop.idle);
	for (size_t r = FOIL_COUNT_OF(rooms); r-- > 0;)
		if (nw->is_init[rooms[r].room])
			rooms[r].fini(nw->w);
	if (nw->is_init[FOIL_ROOM_CORE])
		foil_worker_fini(nw->w);
	rte_free(nw->w);
	nw->w = NULL;
}

static const struct foil_room_desc *const described[] = {&core_room_desc, &nic_room_desc, &net_room_desc, &tcp_room_desc, &tls_room_desc,
							  &http_room_desc, &mesh_room_desc, &snap_room_desc};

static void add_refused(struct node *n, uint16_t *n_refused, const struct net_addr *a, uint8_t len)
{
	struct mesh_cidr *c = &n->refused[(*n_refused)++];
	memcpy(c->ip, a->b, sizeof(c->ip));
	c->len = len;
}

/* A host that a request names is never this node itself: that would be a loop. */
static uint16_t fill_refused(struct node *n)
{
	const struct node_conf *c = n->conf;
	uint16_t n_refused = 0;
	for (uint16_t i = 0; i < c->n_names_refused; i++)
		add_refused(n, &n_refused, &c->names_refused[i].addr, c->names_refused[i].len);
	for (uint16_t i = 0; i < c->n_services; i++)
		add_refused(n, &n_refused, &c->services[i].addr, c->services[i].len);
	for (uint16_t i = 0; i < c->n_ports; i++)
		for (uint16_t a = 0; a < c->ports[i].n_addresses; a++)
			add_refused(n, &n_refused, &c->ports[i].addresses[a].addr, 128);
	return n_refused;
}

static int open_shared(struct node *n, struct foil_error *err)
{
	struct mesh_shared_params mp = {.n_workers = n->conf->n_workers, .refused = n->refused, .n_refused = fill_refused(n)};
	struct tele_shared_params tp = {.n_workers = n->conf->n_workers, .rooms = described, .n_rooms = FOIL_COUNT_OF(described)};
	n->mesh = mesh_shared_new(&mp);
	if (!n->mesh)
		return foil_error_set(err, -ENOMEM, "no memory for the mesh's shared state");
	n->tele = tele_shared_new(&tp, err);
	return n->tele ? transport_init(n->conf->n_workers, err) : -ENOMEM; /* the sentence is tele's */
}

static void wake_worker(void *arg, uint16_t worker)
{
	struct node *n = arg;
	worker_loop_wake(&n->workers[worker].loop);
}

static int open_crypto(struct node *n, struct foil_error *err)
{
	struct tls_crypto_params p = {.n_workers = n->conf->n_workers, .jobs_max = jobs_of(n), .wake = wake_worker, .wake_arg = n};
	if (!n->conf->n_crypto_workers)
		return 0;
	n->crypto = tls_crypto_new(&p, err);
	return n->crypto ? 0 : -ENOMEM; /* the sentence is tls's */
}

static void *crypto_thread(void *arg)
{
	struct tls_crypto *x = arg;
	while (tls_crypto_wait(x))
		(void)tls_crypto_step(x); /* another may have been quicker */
	return NULL;
}

/* They run on the allowed cores that no worker has, or on housekeeping's: that is where DPDK puts control threads. */
static int run_crypto(struct node *n, struct foil_error *err)
{
	while (n->crypto && n->n_crypto_threads < n->conf->n_crypto_workers) {
		char name[16];
		(void)snprintf(name, sizeof(name), "crypto-%u", n->n_crypto_threads); /* fits */
		int rc = rte_ctrl_thread_create(&n->crypto_threads[n->n_crypto_threads], name, NULL, crypto_thread, n->crypto);
		if (rc != 0)
			return foil_error_set(err, -EAGAIN, "crypto worker %u does not start (%d)", n->n_crypto_threads, rc);
		n->n_crypto_threads++;
	}
	return 0;
}

static void end_crypto(struct node *n)
{
	if (n->crypto)
		tls_crypto_stop(n->crypto, n->n_crypto_threads);
	while (n->n_crypto_threads)
		(void)pthread_join(n->crypto_threads[--n->n_crypto_threads], NULL); /* it returns nothing */
	tls_crypto_free(n->crypto);
	n->crypto = NULL;
}

static int open_all(struct node *n, nic_notice_fn notice, struct foil_error *err)
{
	int rc = start_eal(n, notice, err);
	if (rc < 0)
		return rc;
	n->workers = rte_zmalloc("node workers", sizeof(*n->workers) * n->conf->n_workers, 64);
	if (!n->workers)
		return foil_error_set(err, -ENOMEM, "no memory for %u workers; raise memory.megabytes", n->conf->n_workers);
	for (uint16_t i = 0; rc == 0 && i < n->conf->n_workers; i++)
		rc = make_pools(n, i, err);
	if (rc == 0)
		say_sizes(n, notice);
	if (rc == 0)
		rc = open_ports(n, notice, err);
	if (rc == 0)
		rc = open_shared(n, err);
	if (rc == 0)
		rc = open_crypto(n, err);
	for (uint16_t i = 0; rc == 0 && i < n->conf->n_workers; i++)
		rc = init_worker(n, i, notice, err);
	return rc;
}

int node_open(struct node *n, const struct node_conf *conf, nic_notice_fn notice, struct foil_error *err)
{
	*n = (struct node){.conf = conf, .seed = conf->seed};
	if (!conf->has_seed && getrandom(&n->seed, sizeof(n->seed), 0) != sizeof(n->seed))
		return foil_error_set(err, -EIO, "getrandom(2) gave no seed");
	int rc = open_all(n, notice, err);
	if (rc < 0)
		node_close(n);
	return rc;
}

int node_run(struct node *n, struct foil_error *err)
{
	int started = run_crypto(n, err);
	if (started < 0)
		return started;
	for (uint16_t i = 0; i < n->conf->n_workers; i++) {
		int rc = rte_eal_remote_launch(worker_loop_run, &n->workers[i].loop, nic_worker_lcore(i));
		if (rc < 0)
			return foil_error_set(err, rc, "worker %u does not start on its lcore (%d)", i, rc);
		n->workers[i].is_running = true;
	}
	return 0;
}

void node_drain(struct node *n)
{
	for (uint16_t i = 0; i < n->conf->n_workers; i++)
		worker_loop_drain(&n->workers[i].loop);
}

bool node_is_drained(const struct node *n)
{
	for (uint16_t i = 0; i < n->conf->n_workers; i++)
		if (!__atomic_load_n(&n->workers[i].loop.drained, __ATOMIC_RELAXED))
			return false;
	return true;
}

void node_wake(struct node *n)
{
	for (uint16_t i = 0; i < n->conf->n_workers; i++)
		worker_loop_wake(&n->workers[i].loop);
}

uint64_t node_in_flight(const struct node *n)
{
	uint64_t sum = 0;
	for (uint16_t i = 0; i < n->conf->n_workers; i++)
		sum += __atomic_load_n(&n->workers[i].loop.n_downstream, __ATOMIC_RELAXED);
	return sum;
}

uint8_t node_overload(const struct node *n)
{
	uint8_t actions = 0;
	for (uint16_t i = 0; i < n->conf->n_workers; i++)
		actions |= __atomic_load_n(&n->workers[i].loop.overload, __ATOMIC_RELAXED);
	return actions;
}

void node_halt(struct node *n)
{
	for (uint16_t i = 0; n->workers && i < n->conf->n_workers; i++)
		if (n->workers[i].is_running)
			worker_loop_stop(&n->workers[i].loop);
	for (uint16_t i = 0; n->workers && i < n->conf->n_workers; i++)
		if (n->workers[i].is_running) {
			(void)rte_eal_wait_lcore(nic_worker_lcore(i)); /* the loop has nothing to return */
			n->workers[i].is_running = false;
		}
	for (uint16_t i = 0; n->workers && i < n->conf->n_workers; i++)
		if (n->workers[i].w)
			fini_worker(&n->workers[i]);
	end_crypto(n);
}

void node_close(struct node *n)
{
	node_halt(n);
	transport_fini();
	if (n->mesh)
		mesh_shared_free(n->mesh);
	if (n->tele)
		tele_shared_free(n->tele);
	if (n->is_eal_up)
		nic_ports_close(n->ports, n->conf->n_ports);
	for (uint16_t i = 0; n->workers && i < n->conf->n_workers; i++)
		foil_pools_free(&n->workers[i].pools);
	rte_free(n->workers);
	if (n->is_eal_up)
		nic_eal_stop();
	*n = (struct node){0};
}
