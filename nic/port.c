/* A port's life: the device made or probed, its offloads negotiated, its queues set up, started; its status; its end.
 * What a driver lacks is told to net through struct net_port's flags, and done in software there.
 * Invariant: nic_ports_close undoes all of it, from any point at which nic_port_open failed. */
#include "nic/gate.h"

#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_errno.h>

#define FDS_MAX 1024
#define NIC_AF_PACKET_FRAMES 4096u /* a ring, mostly of 2 KiB: what a hundred peers send while the worker is not on its CPU */

#define RSS_TYPES_FLOW (RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP)
#define RSS_TYPES (RSS_TYPES_FLOW | RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_UDP | RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_IPV6)
#define RSS_KEY_MAX 128

/* Packet sockets among this process's descriptors, ascending. The af_packet driver makes one a queue, in order, and does not say
 * which; what is new after it was made is its. */
static unsigned int packet_sockets(int fds[FDS_MAX])
{
	unsigned int n = 0;
	DIR *d = opendir("/proc/self/fd");

	for (struct dirent *e; d && (e = readdir(d)) && n < FDS_MAX;) {
		int fd = (int)strtol(e->d_name, NULL, 10), domain = 0;
		socklen_t len = sizeof(domain);
		if (e->d_name[0] == '.' || fd == dirfd(d) || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) || domain != AF_PACKET)
			continue;
		unsigned int at = n++;
		for (; at > 0 && fds[at - 1] > fd; at--)
			fds[at] = fds[at - 1];
		fds[at] = fd;
	}
	if (d)
		closedir(d);
	return n;
}

static void queue_fds_find(struct nic_port *port, const int *before, unsigned int n_before)
{
	int after[FDS_MAX];
	unsigned int n = packet_sockets(after), n_queue = 0;

	for (unsigned int i = 0; i < n && n_queue < NIC_WORKERS_MAX; i++) {
		bool old = false;
		for (unsigned int j = 0; j < n_before; j++)
			old |= before[j] == after[i];
		if (!old)
			port->queue_fds[n_queue++] = after[i];
	}
}

static int iface_check(const struct nic_port *port, const struct nic_port_params *p, uint16_t *mtu, struct foil_error *err)
{
	struct ifreq r = {0};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return foil_error_set(err, -errno, "port %s: packet sockets are not allowed (%s); run as root or give the program CAP_NET_RAW",
				      port->name, rte_strerror(errno));
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%.15s", port->uri.iface);
	if (ioctl(fd, SIOCGIFMTU, &r)) {
		close(fd);
		return foil_error_set(err, -ENODEV, "port %s: there is no network interface '%s' in this network namespace; ip link shows those "
				      "that exist", port->name, port->uri.iface);
	}
	*mtu = (uint16_t)FOIL_MIN(r.ifr_mtu, UINT16_MAX);
	if (ioctl(fd, SIOCGIFFLAGS, &r) == 0 && !(r.ifr_flags & IFF_UP))
		nic_notice(p->notice, p->notice_arg, "port %s: interface %s is down; ip link set %s up", port->name, port->uri.iface, port->uri.iface);
	close(fd);
	return 0;
}

static int mtu_choose(struct nic_port *port, const struct nic_port_params *p, struct foil_error *err)
{
	uint16_t device = 0, room = (uint16_t)(rte_pktmbuf_data_room_size(p->rx_pools[0]) - RTE_PKTMBUF_HEADROOM);

	if (port->uri.iface[0]) {
		int rc = iface_check(port, p, &device, err);
		if (rc)
			return rc;
		if (p->mtu > device)
			return foil_error_set(err, -EINVAL, "port %s: an MTU of %u is wanted and interface %s has %u; ip link set %s mtu %u", port->name,
					      p->mtu, port->uri.iface, device, port->uri.iface, p->mtu);
	}
	port->mtu = p->mtu ? p->mtu : device ? device : RTE_ETHER_MTU;
	if (port->mtu + 128u > room)
		return foil_error_set(err, -EINVAL, "port %s: an MTU of %u needs packet buffers of %u bytes, and there are %u; make the port's MTU "
				      "smaller", port->name, port->mtu, port->mtu + 128u, room);
	return 0;
}

static int device_make(struct nic_port *port, const struct nic_port_params *p, struct foil_error *err)
{
	int before[FDS_MAX], rc = 0;
	unsigned int n_before = packet_sockets(before);
	char args[NIC_NAME_MAX + 600], driver[600] = "";
	uint16_t n_desc = p->n_rx_desc ? p->n_rx_desc : NIC_AF_PACKET_FRAMES;

	if (port->uri.scheme == NIC_SCHEME_PCI && rte_eth_dev_get_port_by_name(port->uri.device, &port->dpdk) == 0)
		return 0; /* EAL found it at its start */
	if (nic_uri_devargs(&port->uri, FOIL_MIN(p->n_workers, (uint16_t)16), port->mtu, n_desc, driver, sizeof(driver)))
		return foil_error_set(err, -ENAMETOOLONG, "port %s: its URI is too long", port->name);
	snprintf(args, sizeof(args), "%s%s%s", port->uri.device, driver[0] ? "," : "", driver);
	rc = rte_dev_probe(args);
	if (rc == 0)
		rc = rte_eth_dev_get_port_by_name(port->uri.device, &port->dpdk);
	if (rc && port->uri.scheme == NIC_SCHEME_PCI)
		return foil_error_set(err, rc, "port %s: no driver took %s (%s); bind it with dpdk-devbind.py -b vfio-pci %s, and see that it is an "
				      "Ethernet function", port->name, port->uri.device, rte_strerror(-rc), port->uri.device);
	if (rc)
		return foil_error_set(err, rc, "port %s: DPDK's driver refused '%s': %s", port->name, args, rte_strerror(-rc));
	if (port->uri.scheme == NIC_SCHEME_AF_PACKET)
		queue_fds_find(port, before, n_before);
	return 0;
}

static void offloads_choose(struct nic_port *port, const struct nic_port_params *p, const struct rte_eth_dev_info *info, struct rte_eth_conf *conf)
{
	uint64_t tx = port->uri.offloads_off ? 0 : info->tx_offload_capa, rx = port->uri.offloads_off ? 0 : info->rx_offload_capa;
	const uint64_t l4 = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	/* tap and vhost do their "offloads" in software on the side; net's own sums are as good and seen by tests. */
	bool real = port->uri.scheme != NIC_SCHEME_TAP;

	/* A memif that copies nothing frees what the peer has taken as if nobody else referred to it: it gets packets of one piece, which nobody does. */
	port->tx_multi_seg = (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) && !nic_uri_is_zero_copy(p->uri);
	port->tx_cksum_ip = real && (tx & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
	bool by_port = real && (tx & l4) == l4;
	port->tx_cksum_l4 = by_port || port->uri.checksums_none; /* nobody makes them */
	port->tso = by_port && port->tx_multi_seg && (tx & RTE_ETH_TX_OFFLOAD_TCP_TSO);
	port->rx_cksum = real && (rx & RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
	conf->txmode.offloads = (port->tx_multi_seg ? RTE_ETH_TX_OFFLOAD_MULTI_SEGS : 0) |
				(port->tx_cksum_ip ? RTE_ETH_TX_OFFLOAD_IPV4_CKSUM : 0) | (by_port ? l4 : 0) |
				(port->tso ? RTE_ETH_TX_OFFLOAD_TCP_TSO : 0);
	conf->rxmode.offloads = port->rx_cksum ? rx & RTE_ETH_RX_OFFLOAD_CHECKSUM : 0;
	if (rx & RTE_ETH_RX_OFFLOAD_VLAN_STRIP && port->vlan)
		conf->rxmode.offloads |= RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
	if (rx & RTE_ETH_RX_OFFLOAD_SCATTER && info->max_rx_pktlen > 2048)
		conf->rxmode.offloads |= RTE_ETH_RX_OFFLOAD_SCATTER;
}

/* The symmetric key of dataplane/net/flow.c, for hardware that hashes. */
static void rss_choose(struct nic_port *port, const struct rte_eth_dev_info *info, uint8_t key[RSS_KEY_MAX], struct rte_eth_conf *conf)
{
	uint64_t types = info->flow_type_rss_offloads & RSS_TYPES;
	uint8_t n_key = info->hash_key_size ? info->hash_key_size : 40;

	port->rss = port->uri.scheme == NIC_SCHEME_PCI && port->n_queues > 1 && port->n_queues == port->n_workers &&
		    (types & RSS_TYPES_FLOW) == RSS_TYPES_FLOW && n_key <= RSS_KEY_MAX && info->reta_size >= NET_RETA_SLOTS;
	if (!port->rss)
		return;
	for (uint8_t i = 0; i < n_key; i++)
		key[i] = i & 1 ? 0x5a : 0x6d;
	conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	conf->rx_adv_conf.rss_conf = (struct rte_eth_rss_conf){.rss_key = key, .rss_key_len = n_key, .rss_hf = types};
}

/* Slot i of the indirection table holds the worker that net_flow_worker says for it. */
static int reta_program(struct nic_port *port, uint16_t n_slots)
{
	struct rte_eth_rss_reta_entry64 reta[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE] = {0};

	if (n_slots > RTE_ETH_RSS_RETA_SIZE_512)
		return -ENOTSUP;
	for (uint16_t i = 0; i < n_slots; i++) {
		reta[i / RTE_ETH_RETA_GROUP_SIZE].mask |= RTE_BIT64(i % RTE_ETH_RETA_GROUP_SIZE);
		reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] = net_flow_worker(i, port->n_workers);
	}
	return rte_eth_dev_rss_reta_update(port->dpdk, reta, n_slots);
}

static int queues_setup(struct nic_port *port, const struct nic_port_params *p, const struct rte_eth_dev_info *info)
{
	uint16_t n_rx = p->n_rx_desc ? p->n_rx_desc : 1024, n_tx = p->n_tx_desc ? p->n_tx_desc : 1024;
	int rc = rte_eth_dev_adjust_nb_rx_tx_desc(port->dpdk, &n_rx, &n_tx);

	(void)info;
	for (uint16_t i = 0; rc == 0 && i < port->n_queues; i++) {
		unsigned int socket = (unsigned int)nic_worker_socket(i);
		rc = rte_eth_rx_queue_setup(port->dpdk, i, n_rx, socket, NULL, p->rx_pools[i]);
		rc = rc ? rc : rte_eth_tx_queue_setup(port->dpdk, i, n_tx, socket, NULL);
	}
	return rc;
}

/* What the driver is told. af_packet says that it takes no more than 1518 bytes and takes what framesz holds, which was made to fit; so does memif, which
 * takes what both ends have buffers for (bsize= in the URI). */
static uint16_t driver_mtu(const struct nic_port *port, const struct rte_eth_dev_info *info)
{
	uint16_t most = info->max_mtu ? info->max_mtu : UINT16_MAX;

	if ((port->uri.scheme == NIC_SCHEME_AF_PACKET || port->uri.scheme == NIC_SCHEME_MEMIF) && info->max_rx_pktlen <= RTE_ETHER_MAX_LEN)
		most = FOIL_MIN(most, (uint16_t)RTE_ETHER_MTU);
	return FOIL_MIN(port->mtu, most);
}

static int device_configure(struct nic_port *port, const struct nic_port_params *p, const struct rte_eth_dev_info *info, bool interrupts,
			    struct foil_error *err)
{
	struct rte_eth_conf conf = {0};
	uint8_t key[RSS_KEY_MAX];
	int rc;

	conf.rxmode.mtu = driver_mtu(port, info);
	offloads_choose(port, p, info, &conf);
	rss_choose(port, info, key, &conf);
	port->interrupts = interrupts && port->uri.scheme != NIC_SCHEME_AF_PACKET;
	conf.intr_conf.rxq = port->interrupts;
	rc = rte_eth_dev_configure(port->dpdk, port->n_queues, port->n_queues, &conf);
	if (rc && port->interrupts) {
		port->interrupts = false;
		conf.intr_conf.rxq = 0;
		rc = rte_eth_dev_configure(port->dpdk, port->n_queues, port->n_queues, &conf);
	}
	rc = rc ? rc : queues_setup(port, p, info);
	if (rc)
		return foil_error_set(err, rc, "port %s: its driver %s refused %u queue pairs with MTU %u: %s", port->name, info->driver_name,
				      port->n_queues, port->mtu, rte_strerror(-rc));
	return 0;
}

static void mac_set(struct nic_port *port, const struct nic_port_params *p)
{
	struct rte_ether_addr mac = p->mac;

	(void)rte_eth_macaddr_get(port->dpdk, &port->mac); /* the port id is valid: it cannot fail */
	if (rte_is_zero_ether_addr(&mac) || rte_is_same_ether_addr(&mac, &port->mac))
		return;
	if (rte_eth_dev_default_mac_addr_set(port->dpdk, &mac)) {
		nic_notice(p->notice, p->notice_arg, "port %s: its driver cannot take another MAC address; listening to all frames instead", port->name);
		(void)rte_eth_promiscuous_enable(port->dpdk); /* software filters by MAC anyway */
	}
	port->mac = mac;
}

/* Only this port's bursts stay out meanwhile: a server that does not answer holds up who starts, not the workers. */
int nic_device_start(struct nic_port *port)
{
	int rc;

	if (!port->gate)
		return rte_eth_dev_start(port->dpdk);
	nic_gate_hold(port->gate, true);
	port->gate->connects = true;
	rc = rte_eth_dev_start(port->dpdk);
	port->gate->connects = false;
	if (rc == 0)
		nic_gate_hold(port->gate, false);
	return rc;
}

static int device_start(struct nic_port *port, const struct nic_port_params *p, const struct rte_eth_dev_info *info, struct foil_error *err)
{
	int rc = nic_device_start(port);

	if (rc)
		return foil_error_set(err, rc, "port %s: its driver %s does not start: %s", port->name, info->driver_name, rte_strerror(-rc));
	if (port->gate && !nic_gate_is_passed())
		return foil_error_set(err, -ENOTSUP, "port %s: this build's %s is linked so that its handlers do not pass by nic/gate.c, and a peer that "
				      "leaves could end the process; link DPDK as a shared library", port->name, info->driver_name);
	port->started = true;
	mac_set(port, p);
	/* Neighbour solicitations come to group addresses. */
	if (rte_eth_allmulticast_enable(port->dpdk) && rte_eth_promiscuous_enable(port->dpdk))
		nic_notice(p->notice, p->notice_arg, "port %s: its driver cannot receive all groups; IPv6 neighbours may not find us", port->name);
	if (port->rss && reta_program(port, info->reta_size)) {
		nic_notice(p->notice, p->notice_arg, "port %s: its driver does not take an indirection table; flows are steered in software", port->name);
		port->rss = false;
	}
	return 0;
}

static int rings_make(struct nic_port *port, struct foil_error *err)
{
	char name[RTE_RING_NAMESIZE];

	for (uint16_t i = 0; port->n_workers > 1 && i < port->n_workers; i++) {
		snprintf(name, sizeof(name), "nic-steer-%u-%u", port->index, i);
		port->steer[i] = rte_ring_create(name, NIC_RING_SLOTS, nic_worker_socket(i), RING_F_MP_RTS_ENQ | RING_F_SC_DEQ);
		if (!port->steer[i])
			return foil_error_set(err, -rte_errno, "port %s: no memory for worker %u's ring; give the node file more memory", port->name, i);
	}
	if (port->n_queues == port->n_workers)
		return 0;
	snprintf(name, sizeof(name), "nic-tx-%u", port->index);
	port->tx_ring = rte_ring_create(name, NIC_RING_SLOTS, nic_worker_socket(0), RING_F_MP_RTS_ENQ | RING_F_SC_DEQ);
	if (!port->tx_ring)
		return foil_error_set(err, -rte_errno, "port %s: no memory for the transmit ring; give the node file more memory", port->name);
	return 0;
}

static int port_setup(struct nic_port *port, const struct nic_port_params *p, struct foil_error *err)
{
	struct rte_eth_dev_info info;
	int rc = mtu_choose(port, p, err);

	if (rc == 0 && port->uri.scheme == NIC_SCHEME_MEMIF && nic_gate_new(port))
		return foil_error_set(err, -ENOMEM, "port %s: no memory", port->name);
	rc = rc ? rc : device_make(port, p, err);
	if (rc)
		return rc;
	rc = rte_eth_dev_info_get(port->dpdk, &info);
	if (rc)
		return foil_error_set(err, rc, "port %s: its driver says nothing about itself: %s", port->name, rte_strerror(-rc));
	port->driver = info.driver_name;
	port->n_queues = FOIL_MIN(p->n_workers, FOIL_MIN(info.max_rx_queues, info.max_tx_queues));
	rc = device_configure(port, p, &info, p->interrupts, err);
	rc = rc ? rc : device_start(port, p, &info, err);
	if (rc && port->interrupts) { /* some drivers find out only now that the device has no vectors for them */
		rc = device_configure(port, p, &info, false, err);
		rc = rc ? rc : device_start(port, p, &info, err);
	}
	rc = rc ? rc : rings_make(port, err);
	if (rc == 0 && p->exception_tap)
		rc = nic_exception_open(port, p, err);
	if (rc == 0 && p->n_workers > 1 && !port->rss)
		nic_notice(p->notice, p->notice_arg, "port %s: %s has no usable RSS: %u workers part flows in software over %u queue(s)", port->name,
			   port->driver, port->n_workers, port->n_queues);
	return rc;
}

int nic_port_open(const struct nic_port_params *p, struct nic_port **out, struct foil_error *err)
{
	struct nic_port *port;
	int rc;

	if (p->n_workers == 0 || p->n_workers > NIC_WORKERS_MAX || p->index >= NET_PORTS_MAX)
		return foil_error_set(err, -EINVAL, "port %s: %u workers and position %u are not possible", p->name, p->n_workers, p->index);
	port = calloc(1, sizeof(*port));
	if (!port)
		return foil_error_set(err, -ENOMEM, "port %s: no memory", p->name);
	snprintf(port->name, sizeof(port->name), "%s", p->name);
	port->index = p->index;
	port->n_workers = p->n_workers;
	port->vlan = p->vlan;
	port->dpdk = RTE_MAX_ETHPORTS;
	for (unsigned int i = 0; i < NIC_WORKERS_MAX; i++)
		port->queue_fds[i] = -1;
	rc = nic_uri_parse(p->name, p->uri, p->index, &port->uri, err);
	rc = rc ? rc : port_setup(port, p, err);
	if (rc) {
		nic_ports_close(&port, 1);
		return rc;
	}
	*out = port;
	return 0;
}

static void ring_free(struct rte_ring *r)
{
	void *m;

	while (r && rte_ring_dequeue(r, &m) == 0)
		rte_pktmbuf_free(m);
	rte_ring_free(r);
}

static void port_close(struct nic_port *port)
{
	struct rte_eth_dev_info info;

	nic_exception_close(port);
	if (port->gate) {
		nic_gate_retire(port->gate);
		nic_gates_shut();
	}
	if (port->started)
		(void)rte_eth_dev_stop(port->dpdk); /* closing: nothing could be done */
	if (port->dpdk < RTE_MAX_ETHPORTS && rte_eth_dev_info_get(port->dpdk, &info) == 0) {
		(void)rte_eth_dev_close(port->dpdk);
		if (info.device)
			(void)rte_dev_remove(info.device);
	}
	if (port->gate)
		nic_gates_open();
	nic_gate_free(port->gate);
	for (uint16_t i = 0; i < port->n_workers; i++)
		ring_free(port->steer[i]);
	ring_free(port->tx_ring);
	free(port);
}

void nic_ports_close(struct nic_port **own_ports, uint16_t n_ports)
{
	for (uint16_t i = 0; i < n_ports; i++) {
		if (own_ports[i])
			port_close(own_ports[i]);
		own_ports[i] = NULL;
	}
}

void nic_port_status(const struct nic_port *port, struct nic_port_status *out)
{
	struct rte_eth_link link = {0};
	struct rte_eth_stats s = {0};

	(void)rte_eth_link_get_nowait(port->dpdk, &link); /* stays "down" where the driver does not know */
	(void)rte_eth_stats_get(port->dpdk, &s);
	*out = (struct nic_port_status){
		.link_up = link.link_status == RTE_ETH_LINK_UP,
		.speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed,
		.mtu = port->mtu, .n_queues = port->n_queues, .mac = port->mac, .rss = port->rss,
		.tx_cksum = port->tx_cksum_l4, .rx_cksum = port->rx_cksum, .tx_multi_seg = port->tx_multi_seg, .tso = port->tso,
		.interrupts = port->interrupts || port->queue_fds[0] >= 0, .driver = port->driver,
		.rx_packets = s.ipackets, .tx_packets = s.opackets, .rx_bytes = s.ibytes, .tx_bytes = s.obytes,
		.rx_missed = s.imissed, .rx_errors = s.ierrors, .tx_errors = s.oerrors, .rx_no_mbuf = s.rx_nombuf,
	};
}
