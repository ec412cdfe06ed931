/* The exception path: what is not ours goes to a kernel device of the port, and what the kernel sends there leaves by the port, both
 * untouched. Off unless asked for. Worker 0 owns the device; the others hand packets over by a bounded ring.
 * Invariant: the kernel device has the port's MAC address, so frames fit both sides as they are. */
#include "nic/gate.h"

#include <errno.h>

#include <rte_dev.h>
#include <rte_errno.h>

#define EXCEPTION_DESC 512
#define EXCEPTION_PER_MS 20u  /* packets towards the kernel: each costs the worker a system call, so a flood of what is not ours is not let through */
#define EXCEPTION_BURST 256u
#define EXCEPTION_TURNS 16u /* the kernel's side is looked at every so many turns: it costs a system call */

static int tap_setup(struct nic_port *port, const struct nic_port_params *p)
{
	struct rte_eth_conf conf = {0};
	int socket = rte_eth_dev_socket_id(port->dpdk);
	int rc = rte_eth_dev_configure(port->exception_dpdk, 1, 1, &conf);

	if (socket < 0)
		socket = 0;
	rc = rc ? rc : rte_eth_rx_queue_setup(port->exception_dpdk, 0, EXCEPTION_DESC, (unsigned int)socket, NULL, p->rx_pools[0]);
	rc = rc ? rc : rte_eth_tx_queue_setup(port->exception_dpdk, 0, EXCEPTION_DESC, (unsigned int)socket, NULL);
	return rc ? rc : rte_eth_dev_start(port->exception_dpdk);
}

int nic_exception_open(struct nic_port *port, const struct nic_port_params *p, struct foil_error *err)
{
	char device[NIC_NAME_MAX], args[256], ring[RTE_RING_NAMESIZE], mac[RTE_ETHER_ADDR_FMT_SIZE];
	int rc;

	snprintf(device, sizeof(device), "net_tap_exc%u", port->index);
	rte_ether_format_addr(mac, sizeof(mac), &port->mac);
	snprintf(args, sizeof(args), "%s,iface=foil-tap%u,mac=%s", device, port->index, mac);
	rc = rte_dev_probe(args);
	if (rc || rte_eth_dev_get_port_by_name(device, &port->exception_dpdk))
		return foil_error_set(err, rc ? rc : -ENODEV, "port %s: the exception path's device foil-tap%u cannot be made: %s; is /dev/net/tun there?",
				      port->name, port->index, rte_strerror(-rc));
	port->has_exception = true;
	rc = tap_setup(port, p);
	if (rc)
		return foil_error_set(err, rc, "port %s: the exception path's device foil-tap%u does not start: %s", port->name, port->index,
				      rte_strerror(-rc));
	snprintf(ring, sizeof(ring), "nic-exc-%u", port->index);
	port->exception_ring = rte_ring_create(ring, NIC_RING_SLOTS, SOCKET_ID_ANY, RING_F_MP_RTS_ENQ | RING_F_SC_DEQ);
	if (!port->exception_ring)
		return foil_error_set(err, -rte_errno, "port %s: no memory for the exception path's ring", port->name);
	return 0;
}

static void ring_drain(struct rte_ring *r)
{
	void *m;

	while (r && rte_ring_dequeue(r, &m) == 0)
		rte_pktmbuf_free(m);
}

void nic_exception_close(struct nic_port *port)
{
	struct rte_eth_dev_info info;

	if (!port->has_exception)
		return;
	ring_drain(port->exception_ring);
	rte_ring_free(port->exception_ring);
	(void)rte_eth_dev_stop(port->exception_dpdk); /* closing: nothing could be done */
	if (rte_eth_dev_info_get(port->exception_dpdk, &info) == 0) {
		(void)rte_eth_dev_close(port->exception_dpdk);
		(void)rte_dev_remove(info.device);
	}
	port->has_exception = false;
}

void nic_exception(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_pkt)
{
	struct nic_port *port = ((struct nic_queue *)p->driver)->port;

	if (!port->has_exception) {
		nic_drop(w, p, own_pkt, NIC_REASON_EXCEPTION_OFF, NET_CAPTURE_FRAME);
	} else if (rte_ring_enqueue(port->exception_ring, own_pkt)) {
		nic_drop(w, p, own_pkt, NIC_REASON_EXCEPTION_RING_FULL, NET_CAPTURE_FRAME);
	} else if (w->id != 0) {
		nic_wake(port, 0);
	}
}

static uint16_t burst_move(struct foil_worker *w, uint16_t to, struct nic_gate *gate, struct rte_mbuf **own_pkts, uint16_t n, enum nic_reason full)
{
	bool may = n && (!gate || nic_gate_enter(w, gate));
	uint16_t n_sent = may ? rte_eth_tx_burst(to, 0, own_pkts, n) : 0;

	if (may && gate)
		nic_gate_leave(w, gate);
	for (uint16_t i = n_sent; i < n; i++) {
		nic_drop(w, NULL, own_pkts[i], full, NET_CAPTURE_FRAME_TX);
	}
	return n_sent;
}

/* How many packets may go to the kernel now; what is above waits in the ring, which drops when it is full. */
static unsigned int allowance(const struct foil_worker *w, struct nic_port *port)
{
	uint64_t elapsed_ms = (w->now_us - port->exception_refill_us) / 1000;

	if (elapsed_ms) {
		port->exception_tokens = (uint32_t)FOIL_MIN(port->exception_tokens + elapsed_ms * EXCEPTION_PER_MS, EXCEPTION_BURST);
		port->exception_refill_us += elapsed_ms * 1000;
	}
	return FOIL_MIN(port->exception_tokens, NET_BURST);
}

void nic_exception_turn(struct foil_worker *w, struct nic_port *port)
{
	struct rte_mbuf *pkts[NET_BURST];
	struct nic_queue *q = &port->queues[0];
	unsigned int n = rte_ring_dequeue_burst(port->exception_ring, (void **)pkts, allowance(w, port), NULL);

	port->exception_tokens -= n;
	foil_count(w, NIC, EXCEPTIONS_OUT, burst_move(w, port->exception_dpdk, NULL, pkts, (uint16_t)n, NIC_REASON_EXCEPTION_TAP_FULL));
	if (n == 0 && ++q->n_turns % EXCEPTION_TURNS)
		return;
	n = rte_eth_rx_burst(port->exception_dpdk, 0, pkts, NET_BURST);
	foil_count(w, NIC, EXCEPTIONS_IN, burst_move(w, port->dpdk, port->gate, pkts, (uint16_t)n, NIC_REASON_EXCEPTION_TX_FULL));
}
