/* The network layer of one worker: Ethernet, VLAN, ARP, IPv6 ND, IPv4, IPv6, ICMP, routes and next hops (RFC 826, 791, 1122,
 * 1812 where a router's rule is a host's too, 4861, 8200, 792, 4443). It knows ports and packets, not connections.
 *
 * Addresses are 16 bytes everywhere, IPv4 as ::ffff:a.b.c.d; byte order on the wire is a type (rte_be16_t).
 * Packets enter by net_input_burst, leave by net_ip_output, and are handed to the port by net_flush at the end of a loop turn. */
#pragma once

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "dataplane/core/base.h"
#include "dataplane/core/worker.h"

#define NET_PORTS_MAX 16
#define NET_BURST 64
#define NET_RETA_SLOTS 64u /* the smallest indirection table in use (iavf) */

#define X(ID, name, kind, help) NET_REASON_##ID,
enum net_reason {
#include "dataplane/net/reasons.def"
	NET_REASON_COUNT
};
#undef X
#define X(ID, kind, unit, help) NET_CTR_##ID,
enum net_counter {
#include "dataplane/net/counters.def"
	NET_CTR_COUNT
};
#undef X
#define X(ID, help) NET_PROBE_##ID,
enum net_probe { /* core/probe.h */
#include "dataplane/net/probes.def"
	NET_PROBE_COUNT
};
#undef X
extern const struct foil_room_desc net_room_desc;

struct net_addr {
	uint8_t b[16];
};

static inline struct net_addr net_addr_v4(rte_be32_t ip)
{
	struct net_addr a = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}};
	memcpy(a.b + 12, &ip, 4);
	return a;
}

static inline bool net_addr_is_v4(const struct net_addr *a)
{
	static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	return memcmp(a->b, prefix, 12) == 0;
}

static inline bool net_addr_eq(const struct net_addr *a, const struct net_addr *b)
{
	return memcmp(a->b, b->b, 16) == 0;
}

struct net_prefix {
	struct net_addr addr;
	uint8_t len; /* 0..128, in the 16-byte form: an IPv4 /24 is 120 */
};

/* "10.0.0.1", "fd00::1"; and with "/len". 0, or -EINVAL with the out-parameter untouched. */
int net_addr_parse(const char *text, struct net_addr *out) FOIL_MUST_USE;
int net_prefix_parse(const char *text, struct net_prefix *out) FOIL_MUST_USE;
#define NET_ADDR_STRLEN 46
const char *net_addr_format(const struct net_addr *a, char out[NET_ADDR_STRLEN]); /* returns out */

static inline bool net_addr_is_link_local(const struct net_addr *a) /* IPv6: RFC 4291 2.5.6 */
{
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

/* One queue pair of a port as the worker sees it. nic/ fills it for real ports, the simulator and replayer for theirs. */
struct net_port {
	uint16_t (*rx_burst)(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts);
	uint16_t (*tx_burst)(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts);
	void *driver;           /* whatever the implementer needs */
	uint16_t index;         /* position in the node file's list */
	uint16_t dpdk_port, queue;
	uint16_t mtu;           /* IP MTU */
	bool tx_cksum_ip, tx_cksum_l4, rx_cksum; /* offloads in force; software where false */
	bool tx_multi_seg;      /* the driver sends chained mbufs; net linearises where it does not */
	bool tso;               /* the driver cuts TCP segments (RTE_MBUF_F_TX_TCP_SEG); tcp may then hand over up to 64 KiB */
	struct rte_ether_addr mac;
	uint16_t vlan;          /* 0 = untagged */
	bool rss;               /* the device spreads flows as net_flow_worker does: only ICMP errors need steering */
	bool rx_trusted;        /* the link never leaves this machine: checksums of received packets are not looked at */
	/* net's own */
	struct rte_mbuf *tx[NET_BURST * 4];
	uint16_t n_tx, n_tx_seen; /* seen: by capture, while it runs */
};

struct net_route_conf {
	struct net_prefix prefix;
	uint16_t port;           /* index */
	struct net_addr via;     /* all zero: on link; may be link-local where the port has IPv6 addresses */
};

struct net_local_conf {       /* an address that is ours */
	struct net_prefix prefix; /* addr is ours; the prefix is on link at that port */
	uint16_t port;
};

/* What is done to find out whether another station has our addresses already (RFC 4862, 4429, 5227). */
enum net_address_check {
	NET_CHECK_NONE,       /* nothing: they are announced at once */
	NET_CHECK_OPTIMISTIC, /* used at once, asked for once, announced a quarter of a second later when nobody objected */
	NET_CHECK_STRICT      /* not used before nobody objected: 1 s for IPv6, 4 s for IPv4 */
};
enum net_address_state { NET_ADDRESS_IN_USE, NET_ADDRESS_TENTATIVE, NET_ADDRESS_OPTIMISTIC, NET_ADDRESS_DUPLICATE /* given up */ };

struct net_params {
	struct net_port *ports[NET_PORTS_MAX]; /* this worker's queue pairs; borrowed */
	uint16_t n_ports;
	const struct net_local_conf *locals;
	uint16_t n_locals;
	const struct net_prefix *services; /* ranges whose every address is ours (answered by ARP/ND only if answer_arp says) */
	uint16_t n_services;
	const struct net_prefix *captured; /* ranges of other stations: TCP to their addresses, and errors about what goes out from there, is taken as ours */
	uint16_t n_captured;
	const struct net_route_conf *routes;
	uint16_t n_routes;
	enum net_address_check address_check; /* of locals; services are never asked for */
	bool report_groups;              /* MLD: the groups in which neighbours look for our IPv6 addresses are reported */
	bool services_answer_arp;        /* ARP and ND for service addresses are answered too */
	uint32_t neighbours_max;         /* 0 = 4096 */
	/* Not ours (other addresses, protocols, ARP of others): given here, or dropped with a reason when NULL. Takes the mbuf. */
	void (*exception)(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_pkt);
	/* Another worker's packet (software distribution): true if it took the mbuf. NULL when there is one worker. The mbuf is as the
	 * port gave it. */
	bool (*steer)(struct foil_worker *w, struct net_port *p, struct rte_mbuf *pkt, uint32_t flow_hash);
	/* A neighbour message (ARP reply, neighbour advertisement, gratuitous ARP) of which the other workers need a copy too. The mbuf
	 * stays the caller's, as the port gave it. NULL when there is one worker. */
	void (*share)(struct foil_worker *w, struct net_port *p, struct rte_mbuf *pkt);
};

struct foil_error;

/* Sets w->net. 0 or -errno with a sentence. */
int net_init(struct foil_worker *w, const struct net_params *p, struct foil_error *err) FOIL_MUST_USE;
void net_fini(struct foil_worker *w);

/* What became of the addresses and next hops, for whoever says so to people; any thread, while the worker runs. false: i is beyond the last. */
struct net_address_status {
	struct net_addr addr;
	uint16_t port;
	enum net_address_state state;
	struct rte_ether_addr other; /* who has a duplicate one */
};
bool net_address_status(const struct foil_worker *w, uint16_t i, struct net_address_status *out);
struct net_next_hop_status {
	struct net_addr addr;
	uint16_t port;
	bool is_down; /* it does not answer: its routes give way where others match */
};
bool net_next_hop_status(const struct foil_worker *w, uint16_t i, struct net_next_hop_status *out);

/* Upper protocols register once at init. segs: one or more segments each, data at the L4 header, l2_len/l3_len set, IP validated,
 * defragmented, trailing link padding cut (pkt_len is exact); meta in the mbuf's dynamic area below. Ownership passes to fn. */
struct net_rx_meta {
	struct net_addr src, dst;
	uint16_t port; /* index */
	uint8_t ttl, tos; /* hop limit, traffic class: ECN bits in tos */
	uint8_t l4_proto;
	uint16_t frame_at; /* where the frame begins in the first segment's buffer: for capture */
};
#define NET_RX_META(m) ((struct net_rx_meta *)rte_mbuf_to_priv(m))  /* pools are made with priv_size >= sizeof(struct net_rx_meta) */
typedef void (*net_l4_input_fn)(struct foil_worker *w, struct rte_mbuf **own_segs, uint16_t n_segs);
/* A packet of ours that an ICMP error speaks of, checked to be well-formed: for PMTUD and soft errors (RFC 5927). l4 points at the
 * quoted L4 header, at least 8 bytes. */
struct net_icmp_error {
	struct net_addr src, dst; /* of the quoted packet: src is ours */
	enum { NET_ICMP_UNREACHABLE, NET_ICMP_PORT_UNREACHABLE, NET_ICMP_TOO_BIG, NET_ICMP_TIME_EXCEEDED, NET_ICMP_OTHER } kind;
	uint16_t mtu; /* TOO_BIG */
	const uint8_t *l4;
	uint16_t n_l4_bytes;
};
typedef void (*net_l4_error_fn)(struct foil_worker *w, const struct net_icmp_error *e);
void net_register_l4(struct foil_worker *w, uint8_t l4_proto, net_l4_input_fn input, net_l4_error_fn error);

/* Poll every port once, at most NET_BURST each, through to the upper protocols. Returns how many packets were received. */
uint16_t net_poll(struct foil_worker *w);
/* The same for packets in hand. Takes them all. */
void net_input_burst(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts);

/* A remembered decision for one destination: 0 bytes are "not looked up". Cheap to copy; checked by generation. */
struct net_dst {
	uint32_t neighbour, generation;
	uint16_t port, mtu;
	bool single_seg; /* the port wants its frames in one piece: who has the bytes at hand copies them at once */
	bool tso;        /* the port cuts TCP segments: up to NET_TSO_BYTES_MAX of payload in one packet, tso_segsz and RTE_MBUF_F_TX_TCP_SEG set */
};
/* Route look-up without sending: which port, next hop, MTU. false: no route. */
bool net_dst_lookup(struct foil_worker *w, const struct net_addr *dst, struct net_dst *out);
/* The address that we use towards dst when the caller has none. false: none. */
bool net_source_for(struct foil_worker *w, const struct net_addr *dst, struct net_addr *out);
bool net_is_local(const struct foil_worker *w, const struct net_addr *a); /* ours, services included */
bool net_is_captured(const struct foil_worker *w, const struct net_addr *a); /* in a captured range and not ours: reached by a route, as any other */

/* Send one L4 segment. m: data at the L4 header, pkt_len and nb_segs kept, headroom for NET_HEADROOM_BYTES; L4 checksum field holds
 * nothing: net computes it, or has the port do it. dst_cache may be NULL. Queued until net_flush; queues while ARP/ND resolves. Ownership
 * passes whatever happens; drops are counted under a reason. */
#define NET_HEADROOM_BYTES 64
#define NET_TSO_BYTES_MAX (UINT16_MAX - 60 - 60) /* with the largest headers the length field still holds it */
void net_ip_output(struct foil_worker *w, struct rte_mbuf *own_m, const struct net_addr *src, const struct net_addr *dst, uint8_t l4_proto,
		   uint8_t tos, struct net_dst *dst_cache);
/* UDP. input takes the payload; error hears of ICMP errors about what was sent from the port, may be NULL. */
#define NET_UDP_PORTS_MAX 16u
struct net_udp_datagram {
	struct net_addr src, dst;
	uint16_t src_port, dst_port, port /* index, of what was received */;
	uint8_t tos;
};
struct net_udp_params {
	struct net_addr addr; /* has_addr false: all of ours */
	bool has_addr;
	uint16_t port;
	void (*input)(struct foil_worker *w, void *arg, struct rte_mbuf *own_payload, const struct net_udp_datagram *d);
	void (*error)(struct foil_worker *w, void *arg, const struct net_icmp_error *e);
	void *arg;
};
/* 0; -EADDRINUSE; -EADDRNOTAVAIL: not an address of ours; -ENOSPC: more than NET_UDP_PORTS_MAX. */
int net_udp_bind(struct foil_worker *w, const struct net_udp_params *p) FOIL_MUST_USE;
/* By addr, has_addr and port. */
void net_udp_unbind(struct foil_worker *w, const struct net_udp_params *p);
/* As net_ip_output. own_payload: data at the payload, at most what the MTU takes; never fragmented. */
void net_udp_send(struct foil_worker *w, struct rte_mbuf *own_payload, const struct net_udp_datagram *d, struct net_dst *dst_cache);
/* Hand every queued packet to the ports; how many they took. Called at the end of a loop turn, and by net itself when a port's queue is full. */
unsigned int net_flush(struct foil_worker *w);
/* Another station may be at the other end of ports[port] now, since there was none for a while: link-layer addresses there are forgotten and asked for when
 * they are wanted, those that packets wait for at once. */
void net_port_renewed(struct foil_worker *w, uint16_t port);
/* Symmetric flow hash (same for both directions), the software twin of the RSS key that nic programs. Ports in host order. */
uint32_t net_flow_hash(const struct net_addr *a, const struct net_addr *b, uint16_t a_port, uint16_t b_port);
/* Which worker a flow belongs to, in hardware (nic fills the indirection table so) and in software. An active open takes a source
 * port for which this is its own worker. */
static inline uint16_t net_flow_worker(uint32_t flow_hash, uint16_t n_workers)
{
	return (uint16_t)((flow_hash & (NET_RETA_SLOTS - 1)) % n_workers);
}
