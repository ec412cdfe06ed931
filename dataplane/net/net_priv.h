/* What the files of net/ share. Included nowhere else.
 *
 * One packet's way in: input.c -> eth.c -> ip4.c | ip6.c | arp.c -> input.c (net_l4_deliver) | icmp4.c | icmp6.c -> nd.c.
 * One packet's way out: output.c -> route.c -> neigh.c -> port.c. */
#pragma once

#include <rte_arp.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "dataplane/core/cursor.h"
#include "dataplane/core/error.h"
#include "dataplane/net/capture.h"
#include "dataplane/net/net.h"

#define NET_L4_SLOTS 4
#define NET_TTL 64                          /* RFC 1122 3.2.1.7, RFC 8200: the usual 64 */
#define NET_L2_BYTES_MAX 18u                /* Ethernet and one tag */
#define NET_HEADERS_BYTES 256u              /* that much of a packet lies in its first segment, or all of it */
#define NET_NEIGH_QUEUE_MAX 64u             /* packets waiting for one neighbour */
#define NET_PENDING_MAX 1024u               /* and for all of them */
#define NET_NEIGH_TRIES 3u                  /* MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT (RFC 4861 10) */
#define NET_NEIGH_RETRY_US 1000000u         /* RETRANS_TIMER */
#define NET_NEIGH_REACHABLE_US 30000000u    /* REACHABLE_TIME */
#define NET_NONE UINT32_MAX

enum neigh_state {
	NEIGH_FREE,
	NEIGH_NEW,        /* wanted, not asked for yet, or nobody answered; no link-layer address */
	NEIGH_INCOMPLETE, /* asked by group address; packets wait */
	NEIGH_REACHABLE,
	NEIGH_STALE,      /* link-layer address known, not confirmed lately: used, and probed at the next use */
	NEIGH_PROBE       /* used while it is asked by its own link-layer address */
};

struct net_neigh {
	/* tx hot */
	uint64_t fresh_until_us, used_us;
	uint32_t generation;
	uint8_t state, n_tries, l2_len;
	uint8_t l2[NET_L2_BYTES_MAX]; /* the whole link header towards it, made when its address is learnt */
	/* cold */
	uint16_t port, n_queued;
	struct net_addr addr;
	uint32_t next; /* in its bucket, or on the free list */
	uint32_t queue_head, queue_tail; /* pending[] */
	struct foil_timer timer;
};

struct net_pending {
	struct rte_mbuf *pkt; /* from the IP header on */
	uint32_t next;
};

/* addr & mask == value, in the addresses' own byte order. */
struct net_match {
	uint64_t value[2], mask[2];
};

struct net_route {
	struct net_match match;
	struct net_addr via;
	uint16_t port, order /* in the node file */, next_hop /* when not on link */;
	uint8_t len;
	bool v4, on_link;
};

struct net_next_hop {
	struct net_addr addr;
	uint16_t port;
	bool is_down;
};

struct net_local {
	struct net_addr addr;
	struct net_match subnet;
	uint16_t port;
	bool v4, has_ends; /* ends: the first and last address of the subnet are no hosts' (IPv4, /30 and shorter) */
	/* claim.c */
	uint8_t state;     /* enum net_address_state */
	uint8_t n_probed, n_announced;
	struct rte_ether_addr other;
	uint64_t due_us, defended_us; /* 0: nothing to do, never */
};

struct net_udp_port {
	struct net_addr addr;
	uint16_t port;
	bool has_addr;
	void (*fn)(struct foil_worker *w, void *arg, struct rte_mbuf *own_payload, const struct net_udp_datagram *d);
	void (*error)(struct foil_worker *w, void *arg, const struct net_icmp_error *e);
	void *arg;
};

struct net_l4 {
	uint8_t proto;
	net_l4_input_fn input;
	net_l4_error_fn error;
};

/* A packet under way in pieces (frag.c). */
#define NET_FRAG_PACKETS_MAX 32u
#define NET_FRAG_PIECES_MAX 48u     /* 64 KiB in pieces of 1,480 are 45 */
#define NET_FRAG_HEADER_BYTES 8u    /* of IPv6 */
struct net_frag_piece {
	struct rte_mbuf *m; /* offset 0: the whole frame; others: payload */
	uint32_t offset, n_bytes;
};
struct net_frag {
	bool is_used, is_refused;
	uint8_t proto;
	uint16_t l2_len, n_pieces;
	uint16_t head_at, next_at; /* IPv6, in the first piece's frame: the fragment header, and the byte that announces it */
	uint32_t id, n_bytes, total_bytes /* 0: the last piece is not there */;
	struct net_addr src, dst;
	uint64_t expires_us;
	struct net_frag_piece pieces[NET_FRAG_PIECES_MAX];
};
struct net_frag_info {
	uint32_t id, offset;
	uint16_t head_at, next_at;
	bool more, is_there; /* is_there: IPv6, there is a fragment header */
};

struct net_ctx {
	/* rx hot */
	struct net_match *ours;           /* locals first, then services */
	struct net_match *captured;
	uint16_t n_ours, n_locals, n_captured, n_l4, n_ports;
	bool services_answer_arp;
	void (*exception)(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_pkt);
	bool (*steer)(struct foil_worker *w, struct net_port *p, struct rte_mbuf *pkt, uint32_t flow_hash);
	void (*share)(struct foil_worker *w, struct net_port *p, struct rte_mbuf *pkt);
	struct net_l4 l4[NET_L4_SLOTS];
	struct net_port *ports[NET_PORTS_MAX];
	struct net_capture *capture; /* NULL: nobody looks on */
	/* tx hot */
	struct net_neigh *neigh;
	uint32_t *buckets;
	uint32_t bucket_mask, n_neigh, neigh_free, neigh_hand, generation;
	struct net_pending *pending;
	uint32_t pending_free;
	/* routes and what init made */
	struct net_route *routes; /* longest prefix first */
	uint32_t n_routes;
	struct net_local *locals;
	struct net_next_hop *next_hops;
	uint16_t n_next_hops, n_udp_ports;
	struct net_udp_port udp_ports[NET_UDP_PORTS_MAX];
	struct foil_timer claim_timer, next_hop_timer, mld_timer;
	uint64_t mld_due_us;
	bool mld_v1 /* what the last querier speaks */, mld_asked;
	uint32_t icmp_tokens; /* errors that may be sent now */
	uint64_t icmp_refill_us;
	struct net_frag *frags;
	uint32_t n_frags_held;
	struct foil_timer frag_timer;
};

/* What IP input found out about a packet that still lies as the port gave it. */
struct net_rx {
	struct net_addr src, dst;
	uint16_t l2_len, l3_len;
	uint16_t next_at; /* IPv6: the byte that says which protocol it is, from the IP header on */
	uint32_t l4_len;
	uint8_t proto, ttl, tos;
	bool v4, group; /* group: sent to a group link-layer address */
	bool l4_good;   /* checksum known to be right */
};

/* Segments of one burst on their way up, by upper protocol. */
struct net_batch {
	struct rte_mbuf *segs[NET_L4_SLOTS][NET_BURST];
	uint16_t n[NET_L4_SLOTS];
};

/* own_m: a received packet as the port gave it. */
static inline void net_drop_id(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_m, enum net_reason why)
{
	foil_reason_id(w, NET, why);
	if (FOIL_UNLIKELY(w->net->capture != NULL))
		net_capture_drop(w, FOIL_ROOM_NET, (uint16_t)why, p, own_m, NET_CAPTURE_FRAME);
	rte_pktmbuf_free(own_m);
}
/* The same for a packet to send that has its IP header, or is a whole frame. */
static inline void net_drop_tx(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_m, enum net_reason why, enum net_capture_at at)
{
	foil_reason_id(w, NET, why);
	if (FOIL_UNLIKELY(w->net->capture != NULL))
		net_capture_drop(w, FOIL_ROOM_NET, (uint16_t)why, p, own_m, at);
	rte_pktmbuf_free(own_m);
}

/* capture.c: only while w->net->capture is there. */
void capture_frame(struct foil_worker *w, const struct net_port *p, const struct rte_mbuf *m, enum net_capture_dir dir);
void capture_moved(struct net_capture *c, const struct rte_mbuf *from, const struct rte_mbuf *to); /* the packet lies elsewhere now */
void capture_commit(struct net_capture *c); /* what is written until now is for housekeeping to see */
FOIL_COLD void capture_drop_upper(struct foil_worker *w, enum net_reason id, const struct net_port *p, const struct rte_mbuf *m, const struct net_addr *src,
			const struct net_addr *dst, uint8_t proto);

/* addr.c */
struct net_match net_match_of(const struct net_prefix *p);
void net_addr_mask(struct net_addr *a, uint8_t len);
static inline struct net_addr net_addr_v6(const uint8_t b[16])
{
	struct net_addr a;
	memcpy(a.b, b, 16);
	return a;
}
static inline rte_be32_t net_addr_ip4(const struct net_addr *a)
{
	rte_be32_t ip;
	memcpy(&ip, a->b + 12, 4);
	return ip;
}
static inline bool net_addr_is_zero(const struct net_addr *a)
{
	static const struct net_addr zero;
	return net_addr_eq(a, &zero);
}
static inline bool net_matches(const struct net_match *m, const struct net_addr *a)
{
	uint64_t x[2];
	memcpy(x, a->b, 16);
	return ((x[0] & m->mask[0]) ^ m->value[0]) == 0 && ((x[1] & m->mask[1]) ^ m->value[1]) == 0;
}
/* A source that some host can have (RFC 1122 3.2.1.3, RFC 4291 2): not a group, loopback, unspecified or mapped one. */
bool net_ip4_source_ok(rte_be32_t ip);
bool net_ip6_source_ok(const struct net_addr *a);

/* init.c, input.c */
struct net_l4 *net_l4_of(struct net_ctx *n, uint8_t proto);
void net_l4_deliver(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx, struct net_batch *b);
/* A neighbour message that we have read and that may concern the kernel, too: to the exception path, or freed. */
void net_read(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m);
void net_not_ours(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, enum net_reason why);
/* Cuts the mbuf to rx's L4 payload: data at the L4 header, padding gone, l2_len, l3_len and meta set. */
void net_rx_strip(struct rte_mbuf *m, struct net_port *p, const struct net_rx *rx);
static inline struct foil_cur net_l4_cursor(const struct rte_mbuf *m, const struct net_rx *rx)
{
	uint32_t off = (uint32_t)rx->l2_len + rx->l3_len;
	return cur_of(rte_pktmbuf_mtod_offset(m, const uint8_t *, off), FOIL_MIN((uint32_t)m->data_len - off, rx->l4_len));
}
/* True if the checksum over the pseudo header and the L4 part is right, or need not be looked at. */
bool net_rx_checksum_ok(struct foil_worker *w, const struct net_port *p, const struct rte_mbuf *m, const struct net_rx *rx);

/* Cuts what lies behind n_bytes: padding. */
void net_trim(struct rte_mbuf *m, uint32_t n_bytes);

/* frag.c: takes the piece, whose headers rx tells of (l4_len is the piece's). NULL: kept or dropped; else the whole packet, as if the
 * port had given it in one. */
struct rte_mbuf *frag_input(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx,
			    const struct net_frag_info *info);
void frag_fini(struct foil_worker *w, struct net_ctx *n);

/* eth.c */
void eth_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, struct net_batch *b);
uint8_t eth_header_make(const struct net_port *p, const struct rte_ether_addr *to, uint16_t ether_type, uint8_t out[NET_L2_BYTES_MAX]);
/* A fresh frame of ours with room for n_bytes after the link header, zeroed; *payload points there. NULL: counted under NO_MBUF. */
struct rte_mbuf *eth_frame_new(struct foil_worker *w, const struct net_port *p, const struct rte_ether_addr *to, uint16_t ether_type,
			       uint16_t n_bytes, void **payload);

/* ip4.c, ip6.c: rx->l2_len and group are set, the rest is theirs to fill. */
void ip4_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, struct net_rx *rx, struct net_batch *b);
void ip6_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, struct net_rx *rx, struct net_batch *b);
/* Fill the header at h for l4_len bytes; the IPv4 checksum is left 0. */
void ip4_header_make(struct rte_ipv4_hdr *h, const struct net_addr *src, const struct net_addr *dst, uint8_t proto, uint8_t tos, uint32_t l4_len);
void ip6_header_make(struct rte_ipv6_hdr *h, const struct net_addr *src, const struct net_addr *dst, uint8_t proto, uint8_t tos, uint32_t l4_len,
		     uint8_t hops);

/* arp.c, nd.c */
void arp_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, uint16_t l2_len);
/* to NULL: broadcast. */
void arp_request(struct foil_worker *w, struct net_port *p, const struct rte_ether_addr *to, const struct net_addr *source,
		 const struct net_addr *target);
void arp_probe(struct foil_worker *w, struct net_port *p, const struct net_addr *wanted);
void arp_announce(struct foil_worker *w, struct net_port *p, const struct net_addr *ours);
void nd_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx, uint8_t type);
void nd_solicit(struct foil_worker *w, struct net_port *p, const struct rte_ether_addr *to, const struct net_addr *source,
		const struct net_addr *target);
void nd_probe(struct foil_worker *w, struct net_port *p, const struct net_addr *wanted);
void nd_announce(struct foil_worker *w, struct net_port *p, const struct net_addr *ours);

/* icmp4.c, icmp6.c. The packet lies as the port gave it. */
void icmp4_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx);
bool icmp4_is_error(const struct rte_mbuf *m, const struct net_rx *rx); /* says something of a packet of ours; m: ICMP, whole or the first piece */
bool icmp6_is_error(const struct rte_mbuf *m, const struct net_rx *rx);
void icmp6_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx);
/* An error about a received packet, if the RFCs and the rate limit let it go. type 0: none is due. */
struct net_icmp_what {
	uint8_t type, code;
	uint32_t word; /* behind the checksum: a pointer */
};
#define NET_ICMP4_NO_PROTOCOL ((struct net_icmp_what){3, 2, 0})
#define NET_ICMP4_NO_PORT ((struct net_icmp_what){3, 3, 0})
#define NET_ICMP4_REASSEMBLY_TIME ((struct net_icmp_what){11, 1, 0})
#define NET_ICMP4_PARAMETER(at) ((struct net_icmp_what){12, 0, (uint32_t)(at) << 24})
#define NET_ICMP6_NO_PORT ((struct net_icmp_what){1, 4, 0})
#define NET_ICMP6_REASSEMBLY_TIME ((struct net_icmp_what){3, 1, 0})
#define NET_ICMP6_BAD_FIELD(at) ((struct net_icmp_what){4, 0, (at)})
#define NET_ICMP6_NEXT_HEADER(at) ((struct net_icmp_what){4, 1, (at)})
#define NET_ICMP6_OPTION(at) ((struct net_icmp_what){4, 2, (at)})
FOIL_COLD void icmp4_error(struct foil_worker *w, const struct rte_mbuf *about, const struct net_rx *rx, struct net_icmp_what what);
FOIL_COLD void icmp6_error(struct foil_worker *w, const struct rte_mbuf *about, const struct net_rx *rx, struct net_icmp_what what);
/* An error from an address of ours about a packet, with so much of it at most, if not too many were sent of late. */
FOIL_COLD void net_icmp_send_error(struct foil_worker *w, const struct rte_mbuf *about, const struct net_rx *rx, struct net_icmp_what what,
				   uint32_t quote_bytes_max, const struct net_addr *from);
/* Give a parsed error to its protocol, or to the worker whose flow it is. Takes the mbuf. */
FOIL_COLD void net_icmp_error_deliver(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_icmp_error *e, uint8_t proto);

/* route.c */
int route_init(struct net_ctx *n, const struct net_params *p, struct foil_error *err) FOIL_MUST_USE;
void route_fini(struct net_ctx *n);
const struct net_route *route_find(const struct net_ctx *n, const struct net_addr *dst);
/* As net_dst_lookup; says why not, and counts nothing. */
enum net_reason route_resolve(struct foil_worker *w, const struct net_addr *dst, struct net_dst *out);
bool route_is_on_link(const struct net_ctx *n, uint16_t port, const struct net_addr *a);
/* Whether a packet that came in at port may have that source: not ours, no subnet's broadcast, and of the subnet of another port only there. */
enum net_reason route_check_source(const struct net_ctx *n, uint16_t port, const struct net_addr *src);
bool route_source(const struct net_ctx *n, uint16_t port, const struct net_addr *next_hop, struct net_addr *out);
bool net_answers_for(const struct net_ctx *n, uint16_t port, const struct net_addr *a);

/* nd.c: RFC 2464 7, RFC 4291 2.7.1 */
struct rte_ether_addr net_group_mac(const struct net_addr *group);
struct net_addr net_solicited_group(const struct net_addr *a);

/* mld.c */
void mld_start(struct foil_worker *w);
void mld_fini(struct foil_worker *w, struct net_ctx *n);
void mld_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx); /* a query */

/* claim.c */
void claim_start(struct foil_worker *w, enum net_address_check check);
void claim_fini(struct foil_worker *w, struct net_ctx *n);
bool claim_is_optimistic(const struct net_ctx *n, uint16_t port, const struct net_addr *a);
/* A station at mac says that a is its own, or asks, from no address, whether it is somebody's. true: a conflict with one of ours. */
enum net_claim { NET_CLAIM_OWN, NET_CLAIM_PROBE };
bool claim_heard(struct foil_worker *w, uint16_t port, const struct net_addr *a, const struct rte_ether_addr *mac, enum net_claim what);

/* nexthop.c */
void next_hops_start(struct foil_worker *w);
void next_hops_fini(struct foil_worker *w, struct net_ctx *n);
uint16_t next_hop_index(struct net_ctx *n, uint16_t port, const struct net_addr *a); /* made when it is not there */
/* A neighbour answered, or did not: if it is a next hop its routes follow. */
void next_hop_heard(struct foil_worker *w, uint16_t port, const struct net_addr *a, bool is_down);

/* udp.c */
bool udp_is_bound(const struct net_ctx *n, const struct rte_mbuf *m, const struct net_rx *rx);

/* neigh.c */
/* Ask e, unless it answered within the last max_age_us or is being asked. */
void neigh_confirm(struct foil_worker *w, struct net_neigh *e, uint64_t max_age_us);
int neigh_init(struct foil_worker *w, struct net_ctx *n, uint32_t max) FOIL_MUST_USE;
void neigh_fini(struct foil_worker *w, struct net_ctx *n);
struct net_neigh *neigh_find(struct foil_worker *w, uint16_t port, const struct net_addr *a);
/* Finds or makes. NULL: table full. learnt: nobody here wants it yet, so it may only displace entries that are long unused. */
struct net_neigh *neigh_get(struct foil_worker *w, uint16_t port, const struct net_addr *a, bool learnt);
/* Its link-layer address is mac: waiting packets leave. */
void neigh_learn(struct foil_worker *w, struct net_neigh *e, const struct rte_ether_addr *mac, enum neigh_state state);
bool neigh_mac_is(const struct net_neigh *e, const struct rte_ether_addr *mac);
/* Send an IP packet (data at its IP header, room for a link header in front) to e, or let it wait. */
void neigh_output(struct foil_worker *w, struct net_neigh *e, struct rte_mbuf *own_m);

/* port.c */
void port_send(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_frame);

/* output.c */
struct rte_mbuf *net_linearise(struct foil_worker *w, const struct rte_mbuf *m);
