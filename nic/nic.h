/* The machine's side of packets: EAL start, ports by URI, queue pairs for workers, software distribution, the exception path.
 * It hands each worker `struct net_port`s; it knows no protocol above Ethernet. Setup calls are for the main thread, before the
 * workers run; the burst functions and hooks that it puts into net_port and net_params are for the worker's own thread. */
#pragma once

#include <rte_ether.h>
#include <rte_mempool.h>

#include "dataplane/core/counters.h"
#include "dataplane/core/error.h"
#include "dataplane/core/worker.h"
#include "dataplane/net/net.h"

#define NIC_WORKERS_MAX 64

#define X(ID, name, kind, help) NIC_REASON_##ID,
enum nic_reason {
#include "nic/reasons.def"
	NIC_REASON_COUNT
};
#undef X
#define X(ID, kind, unit, help) NIC_CTR_##ID,
enum nic_counter {
#include "nic/counters.def"
	NIC_CTR_COUNT
};
#undef X
extern const struct foil_room_desc nic_room_desc;

/* What a setup call wants a person to know although it succeeded: one sentence. */
typedef void (*nic_notice_fn)(void *arg, const char *text);

enum nic_hugepages { NIC_HUGEPAGES_AUTO, NIC_HUGEPAGES_REQUIRE, NIC_HUGEPAGES_NEVER };

struct nic_eal_params {
	const char *program;           /* argv[0] for messages; NULL = "hydrofoil" */
	uint16_t n_workers;            /* 1..NIC_WORKERS_MAX; 0 = 1 */
	const uint16_t *worker_cpus;   /* n_workers CPU numbers; NULL = of the CPUs this process may use, the last ones first free */
	int main_cpu;                  /* housekeeping; -1 = the first CPU that no worker has, else the first */
	uint32_t memory_mb;            /* of packet memory; 0 = 512 */
	enum nic_hugepages hugepages;  /* AUTO: ordinary pages with a notice where there are not enough */
	const char *file_prefix;       /* tells processes on one machine apart; NULL = "hydrofoil" */
	const char *const *uris;       /* of every port that will be opened: only PCI ports make EAL look at the PCI bus */
	uint16_t n_uris;
	unsigned int log_level;        /* EAL's own log: 1 emergency .. 8 debug; 0 = 4 (errors) */
	nic_notice_fn notice;          /* may be NULL */
	void *notice_arg;
};

/* Brings EAL up. The calling thread becomes the main lcore (0), worker i is lcore nic_worker_lcore(i), to be started by
 * rte_eal_remote_launch. 0, or -errno with a sentence. Once a process. */
int nic_eal_start(const struct nic_eal_params *p, struct foil_error *err) FOIL_MUST_USE;
void nic_eal_stop(void);
static inline unsigned int nic_worker_lcore(uint16_t worker)
{
	return worker + 1u;
}
/* NUMA node of a worker's memory, for foil_pools_new. */
int nic_worker_socket(uint16_t worker);

/* Monotonic microseconds from the TSC, and Unix time from the system clock: for the loops of programs, which set w->now_us. The
 * first starts at 1 s or more. */
uint64_t nic_clock_us(void);
uint64_t nic_wall_us(void);

/* A port's URI says driver and device:
 *   pci=0000:3b:02.0                        a NIC or VF bound to vfio-pci (or, for mlx5, to its kernel driver)
 *   af_packet:iface=eth1                    a kernel interface, by packet sockets
 *   af_xdp:iface=eth1                       a kernel interface, by XDP sockets
 *   tap:iface=tap0                          a TAP device, made for us
 *   memif:role=client,id=0,socket=/run/x    shared memory to another process
 *   virtio-user:path=/run/vhost.sock        vhost-user front end;  vhost:iface=/run/vhost.sock  back end
 *   pcap:rx=in.pcap,tx=out.pcap             files
 *   ring:                                   what is sent comes back; for tests
 * Everything after the colon goes to DPDK's driver as it stands, but for these, which are ours: `checksums=trust` (the link never
 * leaves this machine and its kernel peers leave checksums to "hardware": do not look at them), `checksums=none` (memif: nor make any
 * for TCP and UDP, since the other end does not look either), `offloads=off`, `unsealed=yes` (memif: take memory that a client could take away). */
struct nic_port_params {
	const char *name, *uri;
	uint16_t index;                     /* position in the node file's list; < NET_PORTS_MAX */
	uint16_t n_workers;
	struct rte_mempool *const *rx_pools; /* n_workers, borrowed until close: worker i's packets */
	uint16_t mtu;                       /* IP MTU; 0 = the device's */
	struct rte_ether_addr mac;          /* all zero: the device's */
	uint16_t vlan;                      /* 0 = untagged */
	uint16_t n_rx_desc, n_tx_desc;      /* 0 = 1024 or what the driver likes, within its limits */
	bool interrupts;                    /* idle mode is interrupt: ask the driver for them */
	bool exception_tap;                 /* kernel device exc_<name> for what is not ours */
	nic_notice_fn notice;
	void *notice_arg;
};

struct nic_port;

/* Makes or probes the device, sets it up and starts it: one queue pair a worker where the driver has them, else worker 0..q-1 poll
 * the q queues and steer the rest over rings. 0 and *out, or -errno with a sentence: what is wrong and what to do. */
int nic_port_open(const struct nic_port_params *p, struct nic_port **out, struct foil_error *err) FOIL_MUST_USE;
/* The worker's view, whole but for net's own fields (zeroed). One call a worker and port. */
void nic_port_queue(struct nic_port *port, uint16_t worker, struct net_port *out);
/* How full the ring is in which packets of other workers' queues wait for this one, in percent; 0 with one worker. */
uint8_t nic_port_steering_percent(const struct nic_port *port, uint16_t worker);
/* Puts the hooks that these ports need (exception, steer, share) into p. Call before net_init. */
void nic_ports_hooks(struct nic_port *const *ports, uint16_t n_ports, struct net_params *p);
/* Stops and removes the devices; no worker runs any more. NULL elements are fine. */
void nic_ports_close(struct nic_port **own_ports, uint16_t n_ports);

/* Main thread, every turn of housekeeping: what peers of memif ports did since the last call goes to notice, a line a port and second; and a
 * client's port whose server went tries once a second to reach it again. */
void nic_ports_tend(struct nic_port *const *ports, uint16_t n_ports, uint64_t now_us, nic_notice_fn notice, void *notice_arg);

struct nic_port_status {
	bool link_up;
	uint32_t speed_mbps;              /* 0: unknown */
	uint16_t mtu, n_queues;
	struct rte_ether_addr mac;
	bool rss, tx_cksum, rx_cksum, tx_multi_seg, tso, interrupts;
	const char *driver;
	uint64_t rx_packets, tx_packets, rx_bytes, tx_bytes, rx_missed, rx_errors, tx_errors, rx_no_mbuf; /* the driver's own */
};
/* Main thread, any time. */
void nic_port_status(const struct nic_port *port, struct nic_port_status *out);
