/* Bursts between a worker and its queue pair, and the rings between workers where the device cannot part flows itself.
 * With one worker and no exception path there is nothing between the driver and net (nic_rx_direct). Else each worker has one ring
 * towards it (many producers, itself the consumer), and worker 0 is the keeper: it sends for workers without a transmit queue and
 * owns the exception device.
 * A memif port's bursts go through its gate (nic/gate.h); no other driver's functions know of gates.
 * Invariant: a driver queue is touched by exactly one worker. */
#include "nic/gate.h"

void nic_drop(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_pkt, enum nic_reason why, enum net_capture_at at)
{
	foil_reason_id(w, NIC, why);
	net_capture_drop(w, FOIL_ROOM_NIC, (uint16_t)why, p, own_pkt, at);
	rte_pktmbuf_free(own_pkt);
}

void nic_wake(struct nic_port *port, uint16_t worker)
{
	struct nic_idle *idle = __atomic_load_n(&port->idle[worker], __ATOMIC_ACQUIRE);

	if (idle)
		nic_idle_wake(idle);
}

uint16_t nic_rx_direct(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	uint16_t n = rte_eth_rx_burst(p->dpdk_port, p->queue, pkts, n_pkts);

	foil_count(w, NIC, RX_PACKETS, n);
	return n;
}

static bool any_to_cut(struct rte_mbuf *const *pkts, uint16_t n_pkts)
{
	for (uint16_t i = 0; i < n_pkts; i++)
		if (pkts[i]->ol_flags & RTE_MBUF_F_TX_TCP_SEG)
			return true;
	return false;
}

/* A driver that is to cut packets looks at them first (rte_eth_tx_prepare): some want another checksum in the header, and one that it cannot cut would
 * stand at the head of its queue for ever. Returns how many are done with, sent or dropped. */
static uint16_t tx_burst(struct foil_worker *w, const struct net_port *p, uint16_t dpdk_port, uint16_t queue, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	uint16_t n_fit = any_to_cut(own_pkts, n_pkts) ? rte_eth_tx_prepare(dpdk_port, queue, own_pkts, n_pkts) : n_pkts;
	uint16_t n = n_fit ? rte_eth_tx_burst(dpdk_port, queue, own_pkts, n_fit) : 0;

	foil_count(w, NIC, TX_PACKETS, n);
	if (FOIL_UNLIKELY(n_fit < n_pkts) && n == n_fit)
		nic_drop(w, p, own_pkts[n++], NIC_REASON_TX_REFUSED, NET_CAPTURE_FRAME_TX);
	return n;
}

uint16_t nic_tx_direct(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	return tx_burst(w, p, p->dpdk_port, p->queue, own_pkts, n_pkts);
}

static uint16_t rx_gated(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	struct nic_gate *gate = ((struct nic_queue *)p->driver)->gate;

	if (!nic_gate_enter(w, gate))
		return 0;
	uint16_t n = nic_rx_direct(w, p, pkts, n_pkts);
	nic_gate_leave(w, gate);
	return n;
}

static uint16_t tx_gated(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	struct nic_gate *gate = ((struct nic_queue *)p->driver)->gate;

	if (!nic_gate_enter(w, gate))
		return 0;
	uint16_t n = nic_tx_direct(w, p, own_pkts, n_pkts);
	nic_gate_leave(w, gate);
	return n;
}

uint16_t nic_tx_keeper(struct foil_worker *w, struct nic_port *port, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	if (port->gate && !nic_gate_enter(w, port->gate))
		return 0;
	uint16_t n = tx_burst(w, NULL, port->dpdk, 0, own_pkts, n_pkts);
	if (port->gate)
		nic_gate_leave(w, port->gate);
	return n;
}

uint16_t nic_tx_ring(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	struct nic_port *port = ((struct nic_queue *)p->driver)->port;
	unsigned int n = rte_ring_enqueue_burst(port->tx_ring, (void **)own_pkts, n_pkts, NULL);

	nic_wake(port, 0);
	return (uint16_t)n;
}

/* Packets of workers that have no transmit queue. What the driver does not take now is dropped: there is no one to give it back to. */
static void keeper_send(struct foil_worker *w, struct nic_port *port)
{
	struct rte_mbuf *pkts[NET_BURST];
	unsigned int n = rte_ring_dequeue_burst(port->tx_ring, (void **)pkts, NET_BURST, NULL);
	uint16_t n_done = 0, n_now = 1;

	for (; n_now && n_done < n; n_done = (uint16_t)(n_done + n_now))
		n_now = nic_tx_keeper(w, port, pkts + n_done, (uint16_t)(n - n_done));
	for (; n_done < n; n_done++)
		nic_drop(w, NULL, pkts[n_done], NIC_REASON_TX_RING_FULL, NET_CAPTURE_FRAME_TX);
}

typedef uint16_t (*rx_fn)(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts);

static inline __attribute__((always_inline)) uint16_t rx_shared(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts, rx_fn rx_hw)
{
	struct nic_queue *q = p->driver;
	struct nic_port *port = q->port;
	struct rte_ring *ring = port->steer[q->worker];
	/* The ring first, and half of the burst for it at most while there is a queue: neither can starve the other. */
	unsigned int n_ring = ring ? rte_ring_dequeue_burst(ring, (void **)pkts, q->has_hw ? n_pkts / 2u : n_pkts, NULL) : 0;
	uint16_t n_hw = q->has_hw ? rx_hw(w, p, pkts + n_ring, (uint16_t)(n_pkts - n_ring)) : 0;

	if (q->worker == 0) {
		if (port->tx_ring)
			keeper_send(w, port);
		if (port->has_exception)
			nic_exception_turn(w, port);
	}
	foil_count(w, NIC, STEERED_IN, n_ring);
	return (uint16_t)(n_hw + n_ring);
}

uint16_t nic_rx_shared(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	return rx_shared(w, p, pkts, n_pkts, nic_rx_direct);
}

static uint16_t rx_shared_gated(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	return rx_shared(w, p, pkts, n_pkts, rx_gated);
}

uint8_t nic_port_steering_percent(const struct nic_port *port, uint16_t worker)
{
	const struct rte_ring *ring = port->steer[worker];

	return ring ? foil_percent(rte_ring_count(ring), rte_ring_get_capacity(ring)) : 0;
}

static bool nic_steer(struct foil_worker *w, struct net_port *p, struct rte_mbuf *pkt, uint32_t flow_hash)
{
	struct nic_port *port = ((struct nic_queue *)p->driver)->port;
	uint16_t owner = net_flow_worker(flow_hash, port->n_workers);

	if (owner == w->id)
		return false;
	if (rte_ring_enqueue(port->steer[owner], pkt)) {
		nic_drop(w, p, pkt, NIC_REASON_STEER_RING_FULL, NET_CAPTURE_FRAME);
	} else {
		foil_count(w, NIC, STEERED_OUT, 1);
		nic_wake(port, owner);
	}
	return true;
}

static void nic_share(struct foil_worker *w, struct net_port *p, struct rte_mbuf *pkt)
{
	struct nic_port *port = ((struct nic_queue *)p->driver)->port;

	if (pkt->port == NIC_MARK_SHARED)
		return;
	for (uint16_t i = 0; i < port->n_workers; i++) {
		struct rte_mbuf *copy = i == w->id ? NULL : rte_pktmbuf_copy(pkt, w->mbuf_pool, 0, UINT32_MAX);

		if (i == w->id)
			continue;
		if (!copy) {
			foil_reason(w, NIC, SHARE_NO_MBUF);
			continue;
		}
		copy->port = NIC_MARK_SHARED;
		if (rte_ring_enqueue(port->steer[i], copy)) {
			foil_reason(w, NIC, STEER_RING_FULL);
			rte_pktmbuf_free(copy);
			continue;
		}
		foil_count(w, NIC, SHARED_OUT, 1);
		nic_wake(port, i);
	}
}

void nic_port_queue(struct nic_port *port, uint16_t worker, struct net_port *out)
{
	struct nic_queue *q = &port->queues[worker];
	bool alone = port->n_workers == 1 && !port->has_exception;

	FOIL_ASSERT(worker < port->n_workers);
	*q = (struct nic_queue){.port = port, .worker = worker, .hw = worker, .has_hw = worker < port->n_queues, .gate = port->gate};
	memset(out, 0, sizeof(*out));
	if (port->gate)
		out->rx_burst = alone ? rx_gated : rx_shared_gated;
	else
		out->rx_burst = alone ? nic_rx_direct : nic_rx_shared;
	out->tx_burst = !q->has_hw ? nic_tx_ring : port->gate ? tx_gated : nic_tx_direct;
	out->driver = q;
	out->index = port->index;
	out->dpdk_port = port->dpdk;
	out->queue = q->hw;
	out->mtu = port->mtu;
	out->tx_cksum_ip = port->tx_cksum_ip;
	out->tx_cksum_l4 = port->tx_cksum_l4;
	out->rx_cksum = port->rx_cksum;
	out->rx_trusted = port->uri.checksums_trust;
	out->tx_multi_seg = port->tx_multi_seg;
	out->tso = port->tso;
	out->rss = port->rss;
	out->mac = port->mac;
	out->vlan = port->vlan;
}

void nic_ports_hooks(struct nic_port *const *ports, uint16_t n_ports, struct net_params *p)
{
	for (uint16_t i = 0; i < n_ports; i++) {
		if (ports[i]->n_workers > 1) {
			p->steer = nic_steer;
			p->share = nic_share;
		}
		if (ports[i]->has_exception)
			p->exception = nic_exception;
	}
}
