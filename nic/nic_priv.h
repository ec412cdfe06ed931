/* What the files of nic/ share. Included nowhere else. */
#pragma once

#include <rte_ethdev.h>
#include <rte_ring.h>

#include "dataplane/net/capture.h"
#include "nic/idle.h"
#include "nic/nic.h"

#define NIC_RING_SLOTS 4096u
#define NIC_MARK_SHARED 0xfffeu /* mbuf->port of a copy that nic_share made: not shared again */
#define NIC_NAME_MAX 64u

enum nic_scheme {
	NIC_SCHEME_PCI, NIC_SCHEME_AF_PACKET, NIC_SCHEME_AF_XDP, NIC_SCHEME_TAP, NIC_SCHEME_MEMIF, NIC_SCHEME_VIRTIO_USER,
	NIC_SCHEME_VHOST, NIC_SCHEME_PCAP, NIC_SCHEME_RING
};

struct nic_uri {
	enum nic_scheme scheme;
	char device[NIC_NAME_MAX]; /* DPDK's name of the device: "net_af_packet0", "0000:3b:02.0" */
	char iface[NIC_NAME_MAX];  /* the kernel interface that must exist; empty where there is none */
	char args[512];            /* the user's driver arguments, ours taken out, without a leading comma */
	bool checksums_trust, checksums_none, offloads_off; /* none: trust, and no L4 sums of ours either */
	bool unsealed; /* memif: a peer's memory that it could take away again is taken all the same */
};

/* What one worker has of a port. */
struct nic_queue {
	struct nic_port *port;
	uint16_t worker, hw; /* hw: queue number */
	bool has_hw;
	uint32_t n_turns;
	struct nic_gate *gate; /* the port's */
};

struct nic_port {
	char name[NIC_NAME_MAX];
	struct nic_uri uri;
	const char *driver;
	uint16_t index, dpdk, n_workers, n_queues, mtu, vlan;
	struct rte_ether_addr mac;
	bool started, rss, tx_cksum_ip, tx_cksum_l4, rx_cksum, tx_multi_seg, tso, interrupts;
	int queue_fds[NIC_WORKERS_MAX]; /* readable when packets wait: packet sockets; -1 where there is none */
	struct rte_ring *steer[NIC_WORKERS_MAX]; /* to each worker; NULL when there is one */
	struct rte_ring *tx_ring;                /* from workers without a transmit queue to worker 0; NULL when all have one */
	bool has_exception;
	uint16_t exception_dpdk;
	struct rte_ring *exception_ring; /* from all workers to worker 0, which owns the kernel device */
	struct nic_idle *idle[NIC_WORKERS_MAX]; /* to be woken; NULL until the worker has one */
	uint64_t exception_refill_us; /* worker 0's */
	uint32_t exception_tokens;
	struct nic_gate *gate; /* memif: shut while the driver may unmap what a burst reads; NULL for the others */
	uint64_t gate_turn_us;
	struct nic_queue queues[NIC_WORKERS_MAX];
};

void nic_notice(nic_notice_fn fn, void *arg, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* uri.c */
int nic_uri_parse(const char *port_name, const char *text, uint16_t index, struct nic_uri *out, struct foil_error *err) FOIL_MUST_USE;
/* True if args has key=. */
bool nic_args_have(const char *args, const char *key);
/* The value of key= in args, or an empty slice. */
struct foil_slice nic_args_get(const char *args, const char *key);
bool nic_memif_is_server(const char *args); /* else the client: it brings the memory and connects */
/* The driver's arguments for n_queues queue pairs and packets of mtu bytes in mbufs with room for room_bytes. */
int nic_uri_devargs(const struct nic_uri *u, uint16_t n_queues, uint16_t mtu, uint16_t n_desc, char *out, size_t n_out) FOIL_MUST_USE;

bool nic_uri_is_pci(const char *uri);
bool nic_uri_is_zero_copy(const char *uri); /* a memif that copies nothing */

/* port.c */
int nic_device_start(struct nic_port *port); /* 0 or -errno; a memif client connects by it, and its gate stays shut when that fails */

/* queue.c */
uint16_t nic_rx_direct(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts);
uint16_t nic_rx_shared(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts);
uint16_t nic_tx_direct(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts);
uint16_t nic_tx_ring(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts);
/* To queue 0 of the device, for worker 0 on the account of others. Returns how many it took. */
uint16_t nic_tx_keeper(struct foil_worker *w, struct nic_port *port, struct rte_mbuf **own_pkts, uint16_t n_pkts);

void nic_wake(struct nic_port *port, uint16_t worker); /* ends its rest */
/* p may be NULL: a packet of another worker's. */
void nic_drop(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_pkt, enum nic_reason why, enum net_capture_at at);

/* exception.c */
int nic_exception_open(struct nic_port *port, const struct nic_port_params *p, struct foil_error *err) FOIL_MUST_USE;
void nic_exception_close(struct nic_port *port);
void nic_exception(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_pkt);
void nic_exception_turn(struct foil_worker *w, struct nic_port *port);
