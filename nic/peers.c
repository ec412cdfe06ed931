/* What housekeeping does about memif peers: says who left, came and was sent away, and why; and reaches for a server that went. DPDK's driver
 * connects once, when the device is started, and never again, so the device is stopped and started behind its gate.
 * Not for ports that copy nothing: the driver closes the descriptor of our packet memory with the connection (docs/decisions/0012).
 * Invariant: the device of a port whose gate is open is started. */
#include "nic/gate.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TURN_US 1000000u

/* True if someone listens: asked by a connection of our own, since the driver logs each failure of its. */
static bool is_served(const char *args)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct foil_slice path = nic_args_get(args, "socket"), abstract = nic_args_get(args, "socket-abstract");
	bool named = abstract.data && memmem(abstract.data, abstract.n_bytes, "yes", 3);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool served;

	if (fd < 0)
		return false;
	if (path.n_bytes == 0 || path.n_bytes + named >= sizeof(to.sun_path)) {
		close(fd);
		return false;
	}
	memcpy(to.sun_path + named, path.data, path.n_bytes);
	socklen_t len = named ? (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + path.n_bytes) : (socklen_t)sizeof(to);
	served = connect(fd, (struct sockaddr *)&to, len) == 0;
	close(fd);
	return served;
}

static bool copies_nothing(const char *args)
{
	return foil_slice_eq(nic_args_get(args, "zero-copy"), foil_slice_str("yes"));
}

static void reach(struct nic_port *port)
{
	if (!is_served(port->uri.args))
		return;
	nic_gates_shut();
	port->gate->held = true;
	(void)rte_eth_dev_stop(port->dpdk); /* it has been down for a second */
	nic_gates_open();
	(void)nic_device_start(port); /* else in a second */
}

static bool is_down(const struct nic_gate *g)
{
	struct rte_eth_link link = {0};

	return g->held || (rte_eth_link_get_nowait(g->port->dpdk, &link) == 0 && link.link_status == RTE_ETH_LINK_DOWN);
}

static void tell(struct nic_port *port, nic_notice_fn notice, void *arg)
{
	struct nic_gate *g = port->gate;
	uint32_t n_left = __atomic_load_n(&g->n_left, __ATOMIC_RELAXED), n_came = __atomic_load_n(&g->n_came, __ATOMIC_RELAXED);
	uint32_t n_refused = __atomic_load_n(&g->n_refused, __ATOMIC_RELAXED);
	const char *why = __atomic_load_n(&g->refused_why, __ATOMIC_RELAXED);

	if (n_left != g->told_left || n_came != g->told_came)
		nic_notice(notice, arg, "port %s: its memif peer left %u times and came %u times; it is %s", port->name, n_left - g->told_left,
			   n_came - g->told_came, is_down(g) ? "away" : "there");
	if (n_refused != g->told_refused)
		nic_notice(notice, arg, "port %s: sent %u memif peers away; the last one because %s", port->name, n_refused - g->told_refused, why);
	g->told_left = n_left;
	g->told_came = n_came;
	g->told_refused = n_refused;
}

void nic_ports_tend(struct nic_port *const *ports, uint16_t n_ports, uint64_t now_us, nic_notice_fn notice, void *notice_arg)
{
	for (uint16_t i = 0; i < n_ports; i++) {
		struct nic_port *port = ports[i];
		if (!port || !port->gate || now_us < port->gate_turn_us)
			continue;
		port->gate_turn_us = now_us + TURN_US;
		tell(port, notice, notice_arg);
		port->gate->n_down = is_down(port->gate) ? port->gate->n_down + 1 : 0;
		if (port->gate->n_down > 1 && !nic_memif_is_server(port->uri.args) && !copies_nothing(port->uri.args))
			reach(port);
	}
}
