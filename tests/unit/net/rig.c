/* The frame of net's unit tests (rig.h). */
#include "tests/unit/net/rig.h"

#include <stdlib.h>

static uint16_t rx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	return 0;
}

static uint16_t tx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	struct n_net *n = p->driver;

	if (n->tx_blocked)
		return 0;
	for (uint16_t i = 0; i < n_pkts; i++) {
		struct n_frame *f = &n->out[n->n_out++];
		assert_true(n->n_out <= N_OUT_MAX);
		assert_true(own_pkts[i]->pkt_len <= sizeof(f->bytes));
		f->n_bytes = (uint16_t)own_pkts[i]->pkt_len;
		const void *at = rte_pktmbuf_read(own_pkts[i], 0, f->n_bytes, f->bytes);
		assert_non_null(at);
		if (at != f->bytes)
			memcpy(f->bytes, at, f->n_bytes);
		rte_pktmbuf_free(own_pkts[i]);
	}
	return n_pkts;
}

static struct n_net *current;

static void up(struct foil_worker *w, struct rte_mbuf **own_segs, uint16_t n_segs)
{
	for (uint16_t i = 0; i < n_segs; i++) {
		rte_pktmbuf_free(current->up);
		current->up = own_segs[i];
		current->n_up++;
	}
}

static void up_error(struct foil_worker *w, const struct net_icmp_error *e)
{
	current->error = *e;
	current->n_up_errors++;
}

static void exception(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_pkt)
{
	current->n_exceptions++;
	rte_pktmbuf_free(own_pkt);
}

static bool steer(struct foil_worker *w, struct net_port *p, struct rte_mbuf *pkt, uint32_t flow_hash)
{
	if (net_flow_worker(flow_hash, 2) == 0)
		return false;
	current->n_steered++;
	rte_pktmbuf_free(pkt);
	return true;
}

static void share(struct foil_worker *w, struct net_port *p, struct rte_mbuf *pkt)
{
	current->n_shared++;
}

struct net_addr n_addr(const char *text)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(text, &a), 0);
	return a;
}

struct n_net *n_net_new(struct n_params p)
{
	struct n_net *n = calloc(1, sizeof(*n));
	struct net_local_conf locals[] = {{.prefix = {n_addr("198.18.0.1"), 120}}, {.prefix = {n_addr("fd00:f011::1"), 64}},
					  {.prefix = {n_addr("198.19.0.1"), 120}, .port = 1}, {.prefix = {n_addr("fd00:f011:1::1"), 64}, .port = 1}};
	struct foil_error err = {0};

	assert_non_null(n);
	current = n;
	n->w = t_worker(.seed = 3);
	n->port = (struct net_port){.rx_burst = rx, .tx_burst = tx, .driver = n, .mtu = p.mtu ? p.mtu : 1500, .tx_multi_seg = !p.single_seg,
				    .vlan = p.vlan, .mac = {{2, 0, 0, 0, 0, 1}}};
	n->port2 = n->port;
	n->port2.index = 1;
	n->port2.mac.addr_bytes[5] = 0x11;
	struct net_params np = {.ports = {&n->port, &n->port2}, .n_ports = p.two_ports ? 2 : 1, .locals = locals, .n_locals = p.two_ports ? 4 : 2,
				.routes = p.routes, .n_routes = p.n_routes, .services = p.services, .n_services = p.n_services,
				.captured = p.captured, .n_captured = p.n_captured,
				.services_answer_arp = p.services_answer_arp, .neighbours_max = p.neighbours_max ? p.neighbours_max : 16,
				.address_check = p.address_check, .report_groups = p.report_groups,
				.exception = p.exception ? exception : NULL, .steer = p.steer ? steer : NULL, .share = p.steer ? share : NULL};
	if (net_init(n->w, &np, &err) != 0)
		fail_msg("%s", err.text);
	net_register_l4(n->w, IPPROTO_TCP, up, up_error);
	net_flush(n->w);
	if (!p.no_announce_check)
		n->n_out = 0; /* announcements */
	return n;
}

void n_net_free(struct n_net *n)
{
	rte_pktmbuf_free(n->up);
	net_fini(n->w);
	t_worker_free(n->w);
	free(n);
}

void n_in_cut(struct n_net *n, const void *frame, uint32_t n_bytes, uint16_t seg_bytes)
{
	struct foil_chain chain = {0};

	t_chain(n->w, &chain, frame, n_bytes, seg_bytes);
	struct rte_mbuf *m = chain.head;
	m->pkt_len = n_bytes;
	for (const struct rte_mbuf *s = m->next; s; s = s->next)
		m->nb_segs++;
	net_input_burst(n->w, &n->port, &m, 1);
	net_flush(n->w);
}

void n_in(struct n_net *n, const void *frame, uint32_t n_bytes)
{
	n_in_cut(n, frame, n_bytes, 0);
}

struct n_frame n_out(struct n_net *n)
{
	assert_true(n->n_out > 0);
	struct n_frame f = n->out[0];
	memmove(n->out, n->out + 1, --n->n_out * sizeof(f));
	return f;
}

void n_silent(struct n_net *n)
{
	assert_int_equal(n->n_out, 0);
}

void n_wait(struct n_net *n, uint64_t us)
{
	t_advance(n->w, us);
	net_flush(n->w);
}

static uint32_t eth(uint8_t *f, uint16_t type)
{
	static const uint8_t macs[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};

	memcpy(f, macs, 12);
	f[12] = (uint8_t)(type >> 8);
	f[13] = (uint8_t)type;
	return 14;
}

uint32_t n_arp(uint8_t *f, uint8_t op, const char *sender, const char *target, uint8_t sender_mac_last)
{
	struct net_addr s = n_addr(sender), t = n_addr(target);

	memset(f, 0, 60);
	(void)eth(f, 0x0806);
	if (op == 1)
		memset(f, 0xff, 6);
	f[11] = sender_mac_last;
	memcpy(f + 14, (uint8_t[]){0, 1, 8, 0, 6, 4, 0, op, 2, 0, 0, 0, 0, sender_mac_last}, 14);
	memcpy(f + 28, s.b + 12, 4);
	memcpy(f + 38, t.b + 12, 4);
	return 60; /* padded, as on a real wire */
}

void n_ip4_fix(uint8_t *ip)
{
	uint32_t n = (ip[0] & 15u) * 4;

	memset(ip + 10, 0, 2);
	uint16_t sum = (uint16_t)~rte_raw_cksum(ip, n);
	memcpy(ip + 10, &sum, 2);
}

uint32_t n_ip4(uint8_t *f, const char *src, const char *dst, uint8_t proto, const void *options, uint32_t n_options, const void *l4, uint32_t n_bytes)
{
	struct net_addr s = n_addr(src), d = n_addr(dst);
	uint8_t *ip = f + eth(f, 0x0800);
	uint32_t total = 20 + n_options + n_bytes;

	memset(ip, 0, 20);
	ip[0] = (uint8_t)(0x45 + n_options / 4);
	ip[2] = (uint8_t)(total >> 8);
	ip[3] = (uint8_t)total;
	ip[8] = 64;
	ip[9] = proto;
	memcpy(ip + 12, s.b + 12, 4);
	memcpy(ip + 16, d.b + 12, 4);
	if (n_options)
		memcpy(ip + 20, options, n_options);
	if (n_bytes)
		memcpy(ip + 20 + n_options, l4, n_bytes);
	n_ip4_fix(ip);
	return 14 + total;
}

uint32_t n_ip6(uint8_t *f, const char *src, const char *dst, uint8_t next, uint8_t hops, const void *payload, uint32_t n_bytes)
{
	struct net_addr s = n_addr(src), d = n_addr(dst);
	uint8_t *ip = f + eth(f, 0x86dd);

	memset(ip, 0, 8);
	ip[0] = 0x60;
	ip[4] = (uint8_t)(n_bytes >> 8);
	ip[5] = (uint8_t)n_bytes;
	ip[6] = next;
	ip[7] = hops;
	memcpy(ip + 8, s.b, 16);
	memcpy(ip + 24, d.b, 16);
	if (n_bytes)
		memcpy(ip + 40, payload, n_bytes);
	return 54 + n_bytes;
}

void n_icmp6_fix(uint8_t *f)
{
	struct net_addr src, dst;
	uint32_t n = (uint32_t)(f[18] << 8 | f[19]);

	memcpy(src.b, f + 22, 16);
	memcpy(dst.b, f + 38, 16);
	memset(f + 56, 0, 2);
	uint16_t sum = net_sum_fold(net_sum_pseudo(&src, &dst, 58, n) + net_sum(f + 54, n));
	memcpy(f + 56, &sum, 2);
}

uint32_t n_nd(uint8_t *f, uint8_t type, const char *src, const char *dst, const char *target, uint32_t flags, uint8_t mac_last)
{
	struct net_addr t = n_addr(target);
	uint8_t msg[32] = {type, 0, 0, 0, (uint8_t)(flags >> 24)};

	memcpy(msg + 8, t.b, 16);
	memcpy(msg + 24, (uint8_t[]){type == 135 ? 1 : 2, 1, 2, 0, 0, 0, 0, mac_last}, 8);
	uint32_t n = n_ip6(f, src, dst, 58, 255, msg, mac_last ? 32 : 24);
	if (n_addr(dst).b[0] == 0xff)
		memcpy(f, (uint8_t[]){0x33, 0x33}, 2);
	n_icmp6_fix(f);
	return n;
}

void n_tcp(uint8_t out[20], const char *src, const char *dst)
{
	struct net_addr s = n_addr(src), d = n_addr(dst);

	memset(out, 0, 20);
	out[1] = 99;
	out[3] = 80;
	out[12] = 0x50;
	out[13] = 2;
	uint16_t sum = net_sum_fold(net_sum_pseudo(&s, &d, 6, 20) + net_sum(out, 20));
	memcpy(out + 16, &sum, 2);
}

void n_meet(struct n_net *n)
{
	uint8_t f[60];

	n_in(n, f, n_arp(f, 1, "198.18.0.2", "198.18.0.1", 2));
	(void)n_out(n);
	uint8_t g[100];
	n_in(n, g, n_nd(g, 135, "fd00:f011::2", "ff02::1:ff00:1", "fd00:f011::1", 0, 2));
	(void)n_out(n);
}
