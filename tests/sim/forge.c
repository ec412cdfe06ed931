/* Frames written by hand for third parties on the wire: any addresses, any numbers, right or wrong on purpose. */
#include <string.h>

#include "tests/sim/sim.h"

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static void put_ether(uint8_t *f, uint8_t to, uint32_t type)
{
	static const uint8_t third[6] = {0x02, 0, 0, 0, 0, 0xaa};
	const struct rte_ether_addr us = SIM_MAC(to);

	memcpy(f, us.addr_bytes, 6);
	memcpy(f + 6, third, 6);
	put16(f + 12, type);
}

void sim_forge_ip4_sum(uint8_t *ip)
{
	uint32_t n = (ip[0] & 15u) * 4;

	ip[10] = ip[11] = 0;
	uint16_t sum = sim_checksum(0, ip, n);
	memcpy(ip + 10, &sum, 2);
}

/* The IP header, extensions included; where the upper protocol begins. */
static uint8_t *put_ip(uint8_t *f, uint8_t to, const struct sim_forged *g, uint8_t proto, uint32_t n_l4)
{
	bool v4 = net_addr_is_v4(&g->dst);
	uint8_t *ip = f + 14;

	put_ether(f, to, v4 ? 0x0800 : 0x86dd);
	if (v4) {
		memset(ip, 0, 20);
		ip[0] = (uint8_t)(0x40 | (20 + g->n_ip_opt) / 4);
		put16(ip + 2, 20 + g->n_ip_opt + n_l4);
		ip[8] = g->ttl ? g->ttl : 64;
		ip[9] = proto;
		memcpy(ip + 12, g->src.b + 12, 4);
		memcpy(ip + 16, g->dst.b + 12, 4);
		if (g->n_ip_opt)
			memcpy(ip + 20, g->ip_opt, g->n_ip_opt);
		sim_forge_ip4_sum(ip);
		return ip + 20 + g->n_ip_opt;
	}
	memset(ip, 0, 8);
	ip[0] = 0x60;
	put16(ip + 4, g->n_ip_opt + n_l4);
	ip[6] = g->n_ip_opt ? g->ip_next : proto;
	ip[7] = g->ttl ? g->ttl : 64;
	memcpy(ip + 8, g->src.b, 16);
	memcpy(ip + 24, g->dst.b, 16);
	if (g->n_ip_opt)
		memcpy(ip + 40, g->ip_opt, g->n_ip_opt);
	return ip + 40 + g->n_ip_opt;
}

uint16_t sim_forge_ip(struct sim *s, uint8_t to, const struct sim_forged *g, uint8_t proto, const uint8_t *l4, uint32_t n_l4, uint8_t *f)
{
	bool v4 = net_addr_is_v4(&g->dst);
	uint8_t *at = put_ip(f, to, g, proto, n_l4);

	if (n_l4)
		memcpy(at, l4, n_l4);
	if ((proto == 1 || proto == 58) && n_l4 >= 4) {
		at[2] = at[3] = 0;
		uint16_t sum = sim_checksum(proto == 1 ? 0 : sim_pseudo(f + 14, v4, proto, n_l4), at, n_l4);
		sum = (uint16_t)(sum ^ (g->bad_checksum ? 1 : 0));
		memcpy(at + 2, &sum, 2);
	}
	return (uint16_t)(at + n_l4 - f);
}

uint16_t sim_forge_tcp(struct sim *s, uint8_t to, const struct sim_forged *g, uint8_t *f)
{
	uint8_t tcp[1600];
	uint32_t n = 20u + g->n_opt + g->n_data;

	memset(tcp, 0, 20);
	put16(tcp, g->sport);
	put16(tcp + 2, g->dport);
	put32(tcp + 4, g->seq);
	put32(tcp + 8, g->ack);
	tcp[12] = (uint8_t)((20 + g->n_opt) / 4 << 4);
	tcp[13] = g->flags;
	put16(tcp + 14, g->wnd);
	if (g->n_opt)
		memcpy(tcp + 20, g->opt, g->n_opt);
	if (g->n_data)
		memcpy(tcp + 20 + g->n_opt, g->data, g->n_data);
	uint16_t n_frame = sim_forge_ip(s, to, g, 6, tcp, n, f);
	uint8_t *at = f + n_frame - n;
	uint16_t sum = sim_checksum(sim_pseudo(f + 14, net_addr_is_v4(&g->dst), 6, n), at, n);
	sum = (uint16_t)(sum ^ (g->bad_checksum ? 0x0101 : 0));
	memcpy(at + 16, &sum, 2);
	return n_frame;
}

uint16_t sim_forge_arp(struct sim *s, uint8_t to, uint8_t op, const struct net_addr *sender, const struct net_addr *target, uint8_t *f)
{
	static const uint8_t head[7] = {0, 1, 8, 0, 6, 4, 0};

	memset(f, 0, 42);
	put_ether(f, to, 0x0806);
	memcpy(f + 14, head, 7);
	f[21] = op;
	memcpy(f + 22, f + 6, 6);
	memcpy(f + 28, sender->b + 12, 4);
	memcpy(f + 38, target->b + 12, 4);
	return 42;
}

uint16_t sim_forge_nd(struct sim *s, uint8_t to, uint8_t type, const struct sim_forged *g, const struct net_addr *target, uint32_t flags, uint8_t *f)
{
	uint8_t nd[32] = {0};
	struct sim_forged h = *g;

	nd[0] = type;
	put32(nd + 4, flags);
	memcpy(nd + 8, target->b, 16);
	nd[24] = type == 135 ? 1 : 2;
	nd[25] = 1;
	memcpy(nd + 26, (uint8_t[]){0x02, 0, 0, 0, 0, 0xaa}, 6);
	h.ttl = h.ttl ? h.ttl : 255;
	return sim_forge_ip(s, to, &h, 58, nd, 32, f);
}
