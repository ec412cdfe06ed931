/* One simulated host: a worker with its pools, net/ and tcp/ over a port whose wire is the simulation. A turn is what a program's
 * loop does: packets in, timers, output. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/core/error.h"
#include "tests/cutter.h"
#include "tests/sim/sim.h"

#define N_MBUFS 8191u

struct net_addr sim_addr(const struct sim *s, uint8_t host)
{
	struct net_addr a;

	if (net_addr_parse(s->v6 ? host ? "fd00:f011::2" : "fd00:f011::1" : host ? "198.18.0.2" : "198.18.0.1", &a))
		abort();
	return a;
}

void sim_hosts_make(struct sim *s)
{
	for (uint8_t i = 0; i < 2; i++) {
		struct sim_host *h = &s->h[i];
		struct foil_error err = {0};
		struct foil_pools_params p = {.prefix = i ? "sim1" : "sim0", .n_mbufs = N_MBUFS, .n_indirect = N_MBUFS, .n_chunks = 15,
					      .n_large_chunks = 1, .socket_id = -1};
		if (foil_pools_new(&h->pools, &p, &err)) {
			fprintf(stderr, "foil-sim: %s\n", err.text);
			exit(1);
		}
		h->sim = s;
		h->index = i;
		h->n_mbuf = rte_mempool_avail_count(h->pools.mbuf);
		h->n_indirect = rte_mempool_avail_count(h->pools.indirect);
		h->taken = calloc(N_MBUFS, sizeof(void *));
		if (!h->taken)
			abort();
	}
}

static uint16_t no_rx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	return 0;
}

static void onto_wire(void *arg, const uint8_t *frame, uint32_t n_bytes)
{
	struct sim_host *h = arg;

	if (n_bytes > SIM_FRAME_MAX)
		sim_fail(h->sim, "host %u sent a frame of %u bytes", h->index, n_bytes);
	else
		sim_send(h->sim, h->index, frame, (uint16_t)n_bytes);
}

static uint16_t tx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	struct sim_host *h = p->driver;

	for (uint16_t i = 0; i < n_pkts; i++) {
		if (!cutter_send(own_pkts[i], onto_wire, h))
			sim_fail(h->sim, "host %u sent a frame of %u bytes whose segments do not add up", h->index, own_pkts[i]->pkt_len);
		rte_pktmbuf_free(own_pkts[i]);
	}
	return n_pkts;
}

void sim_host_up(struct sim_host *h)
{
	struct sim *s = h->sim;
	struct foil_error err = {0};
	struct foil_worker_params wp = {
		.id = 0, .n_workers = 1, .seed = s->seed * 2 + h->index + 1000003 * h->n_crashes, .now_us = s->now_us,
		.wall_us = 1700000000000000ull + s->now_us, .mbuf_pool = h->pools.mbuf, .indirect_pool = h->pools.indirect,
		.chunk_pool = h->pools.chunk, .large_chunk_pool = h->pools.large_chunk,
	};
	struct net_local_conf local = {.prefix = {sim_addr(s, h->index), s->v6 ? 64 : 120}};
	struct net_addr any = {{0}};
	struct net_route_conf route = {.prefix = {s->v6 ? any : net_addr_v4(0), s->v6 ? 0 : 96}, .via = sim_addr(s, !h->index)};
	struct net_params np = {.ports = {&h->port}, .n_ports = 1, .locals = &local, .n_locals = 1, .routes = &route, .n_routes = 1,
				.neighbours_max = h->neighbours_max ? h->neighbours_max : 64};
	struct tcp_listen_params lp = {.port = SIM_SERVER_PORT, .accept = sim_accept, .user_data = h};

	memset(&h->w, 0, sizeof(h->w));
	memset(&h->port, 0, sizeof(h->port));
	h->port = (struct net_port){.rx_burst = no_rx, .tx_burst = tx, .driver = h, .mtu = s->mtu, .tx_multi_seg = s->seed & 1, .mac = SIM_MAC(h->index)};
	h->port.tso = (s->seed & 3) == 3; /* a port that does all, as seeds go; the other host's the same */
	h->port.tx_cksum_ip = h->port.tx_cksum_l4 = h->port.tso || (s->seed & 15) == 5;
	if (h->moves)
		h->port.mac.addr_bytes[4] = (uint8_t)h->n_crashes;
	if (foil_worker_init(&h->w, &wp) || net_init(&h->w, &np, &err) || tcp_init(&h->w, &h->tcp, &err) ||
	    tcp_listen(&h->w, &lp, &h->listener)) {
		fprintf(stderr, "foil-sim: host %u does not start: %s\n", h->index, err.text);
		exit(1);
	}
	h->up = true;
	h->w.fault_ppm = h->fault_ppm;
	sim_host_turn(h, NULL, 0);
}

static void check_home(struct sim_host *h)
{
	uint32_t n_mbuf = rte_mempool_avail_count(h->pools.mbuf), n_indirect = rte_mempool_avail_count(h->pools.indirect);

	if (n_mbuf != h->n_mbuf || n_indirect != h->n_indirect)
		sim_fail(h->sim, "host %u ended with %u of %u mbufs and %u of %u indirect ones", h->index, n_mbuf, h->n_mbuf, n_indirect,
			 h->n_indirect);
}

void sim_host_down(struct sim_host *h)
{
	if (!h->up)
		return;
	h->up = false;
	foil_worker_set_current(&h->w);
	sim_rare_collect(&h->w);
	tcp_fini(&h->w);
	net_fini(&h->w);
	foil_worker_fini(&h->w);
	sim_host_feed(h);
	check_home(h);
}

static struct rte_mbuf *mbuf_of(struct sim_host *h, const struct sim_frame *f)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(h->pools.mbuf);

	if (!m)
		return NULL; /* what a port does without buffers: the frame is gone */
	memcpy(rte_pktmbuf_append(m, f->n_bytes), f->data, f->n_bytes);
	return m;
}

void sim_host_turn(struct sim_host *h, struct sim_frame **frames, uint32_t n_frames)
{
	struct sim *s = h->sim;
	struct rte_mbuf *pkts[NET_BURST];
	uint16_t n = 0;

	h->w.now_us = s->now_us;
	h->w.wall_us = 1700000000000000ull + s->now_us;
	foil_worker_set_current(&h->w);
	for (uint32_t i = 0; i < n_frames; i++) {
		struct rte_mbuf *m = mbuf_of(h, frames[i]);
		if (m)
			pkts[n++] = m;
		if (n == NET_BURST) {
			net_input_burst(&h->w, &h->port, pkts, n);
			n = 0;
		}
	}
	if (n)
		net_input_burst(&h->w, &h->port, pkts, n);
	(void)foil_wheel_advance(&h->w, 64);
	tcp_flush(&h->w);
	net_flush(&h->w);
}

uint64_t sim_host_next_us(const struct sim_host *h)
{
	uint64_t next = foil_wheel_next_us(&h->w);

	if (!h->up)
		return UINT64_MAX;
	if (h->wants_turns)
		next = FOIL_MIN(next, h->w.now_us + 1000);
	return FOIL_MAX(next, h->sim->now_us + 1);
}

void sim_host_starve(struct sim_host *h, uint32_t leave_n)
{
	while (h->n_taken < N_MBUFS && rte_mempool_avail_count(h->pools.mbuf) > leave_n)
		if (rte_mempool_get(h->pools.mbuf, &h->taken[h->n_taken]) == 0)
			h->n_taken++;
}

void sim_host_feed(struct sim_host *h)
{
	while (h->n_taken)
		rte_mempool_put(h->pools.mbuf, h->taken[--h->n_taken]);
}
