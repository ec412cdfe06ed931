/* What net's unit tests start from: one worker with net/ on a fake port, and frames as bytes.
 * Ours: 198.18.0.1/24 and fd00:f011::1/64, MAC 02::1. The peer: 198.18.0.2 and fd00:f011::2, MAC 02::2. */
#pragma once

#include <rte_ip.h>

#include "dataplane/net/checksum.h"
#include "dataplane/net/net_priv.h"
#include "tests/unit/support.h"

#define N_OUT_MAX 128

struct n_frame {
	uint16_t n_bytes;
	uint8_t bytes[1600];
};

struct n_net {
	struct foil_worker *w;
	struct net_port port, port2;
	struct n_frame out[N_OUT_MAX]; /* sent and not looked at */
	uint32_t n_out;
	bool tx_blocked; /* the driver takes nothing */
	/* what the protocol above (TCP's number) was given */
	uint32_t n_up, n_up_errors;
	struct rte_mbuf *up;           /* the last */
	struct net_icmp_error error;
	uint32_t n_exceptions, n_steered, n_shared;
	bool with_exception, with_steer;
};

struct n_params {
	uint16_t vlan, mtu; /* mtu 0: 1500 */
	bool single_seg, two_ports, exception, steer, services_answer_arp, no_announce_check, report_groups;
	const struct net_route_conf *routes;
	uint16_t n_routes;
	const struct net_prefix *services;
	uint16_t n_services;
	const struct net_prefix *captured;
	uint16_t n_captured;
	uint32_t neighbours_max;
	enum net_address_check address_check;
};
struct n_net *n_net_new(struct n_params p);
#define n_net(...) n_net_new((struct n_params){__VA_ARGS__})
void n_net_free(struct n_net *n);
struct net_addr n_addr(const char *text);
void n_in(struct n_net *n, const void *frame, uint32_t n_bytes); /* and a flush */
void n_in_cut(struct n_net *n, const void *frame, uint32_t n_bytes, uint16_t seg_bytes);
struct n_frame n_out(struct n_net *n);
void n_silent(struct n_net *n);
void n_wait(struct n_net *n, uint64_t us);

/* Builders: write a frame into f and return its length. */
uint32_t n_arp(uint8_t *f, uint8_t op, const char *sender, const char *target, uint8_t sender_mac_last);
/* An IPv4 packet from the peer to us with n_bytes behind a header of 20 + n_options bytes; checksum right. */
uint32_t n_ip4(uint8_t *f, const char *src, const char *dst, uint8_t proto, const void *options, uint32_t n_options, const void *l4, uint32_t n_bytes);
void n_ip4_fix(uint8_t *ip); /* checksum again after a change */
uint32_t n_ip6(uint8_t *f, const char *src, const char *dst, uint8_t next, uint8_t hops, const void *payload, uint32_t n_bytes);
/* An ND message about target, from src; type 135 or 136, with a link-layer address option if mac_last. */
uint32_t n_nd(uint8_t *f, uint8_t type, const char *src, const char *dst, const char *target, uint32_t flags, uint8_t mac_last);
void n_icmp6_fix(uint8_t *f); /* ICMPv6 checksum, no extension headers */
/* A minimal TCP header (20 bytes) with the right checksum for src and dst. */
void n_tcp(uint8_t out[20], const char *src, const char *dst);
/* The peer is in the neighbour table, as somebody who asked for us. */
void n_meet(struct n_net *n);
