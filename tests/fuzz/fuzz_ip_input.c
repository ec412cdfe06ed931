/* Frames of any kind into the network layer: Ethernet, VLAN, ARP, ND, IPv4, IPv6, ICMP, UDP, with a protocol above that takes what it gets.
 * Half of the frames have their addresses and checksums put right, so that the fuzzer comes behind them. At the end every mbuf is
 * home, and what was sent is well-formed. */
#include <rte_ip.h>

#include "dataplane/core/cursor.h"
#include "dataplane/core/error.h"
#include "dataplane/net/capture.h"
#include "dataplane/net/checksum.h"
#include "dataplane/net/net.h"
#include "tests/unit/support.h"

#define FRAMES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static uint16_t rx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	return 0;
}

static uint16_t tx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	for (uint16_t i = 0; i < n_pkts; i++) {
		uint32_t n = 0;
		for (const struct rte_mbuf *m = own_pkts[i]; m; m = m->next)
			n += m->data_len;
		FOIL_ASSERT(n == own_pkts[i]->pkt_len && n <= p->mtu + 18u && n >= 14);
		rte_pktmbuf_free(own_pkts[i]);
	}
	return n_pkts;
}

static void take(struct foil_worker *w, struct rte_mbuf **own_segs, uint16_t n_segs)
{
	for (uint16_t i = 0; i < n_segs; i++) {
		const struct net_rx_meta *meta = NET_RX_META(own_segs[i]);
		uint32_t n = 0;
		for (const struct rte_mbuf *m = own_segs[i]; m; m = m->next)
			n += m->data_len;
		FOIL_ASSERT(n == own_segs[i]->pkt_len && net_is_local(w, &meta->dst) && !net_is_local(w, &meta->src));
		if (n >= 8 && n < 1200) /* answered, so that the way out and the neighbours are used */
			net_ip_output(w, own_segs[i], &meta->dst, &meta->src, meta->l4_proto, 0, NULL);
		else
			rte_pktmbuf_free(own_segs[i]);
	}
}

/* Answered as an echo server does. */
static void datagram(struct foil_worker *w, void *arg, struct rte_mbuf *own_payload, const struct net_udp_datagram *d)
{
	struct net_udp_datagram back = {.src = d->dst, .dst = d->src, .src_port = d->dst_port, .dst_port = d->src_port};

	FOIL_ASSERT(net_is_local(w, &d->dst) && !net_is_local(w, &d->src));
	FOIL_ASSERT(d->dst_port == 53 || d->dst_port == 0x3535);
	if (own_payload->pkt_len < 1200)
		net_udp_send(w, own_payload, &back, NULL);
	else
		rte_pktmbuf_free(own_payload);
}

static void datagram_error(struct foil_worker *w, void *arg, const struct net_icmp_error *e)
{
	FOIL_ASSERT(net_is_local(w, &e->src) && e->n_l4_bytes >= 8);
}

static void error(struct foil_worker *w, const struct net_icmp_error *e)
{
	FOIL_ASSERT((net_is_local(w, &e->src) || net_is_captured(w, &e->src)) && e->n_l4_bytes >= 8);
}

static void put_right(uint8_t *f, uint32_t n, uint16_t vlan)
{
	static const uint8_t us[6] = {2, 0, 0, 0, 0, 1}, peer[6] = {2, 0, 0, 0, 0, 2};
	uint32_t l2 = vlan ? 18 : 14;
	bool v4 = n > l2 && f[l2] >> 4 == 4;

	if (n < l2 + 40)
		return;
	memcpy(f, us, 6);
	memcpy(f + 6, peer, 6);
	if (vlan) {
		f[12] = 0x81;
		f[13] = 0;
		f[14] = 0;
		f[15] = (uint8_t)vlan;
	}
	if (v4) {
		f[l2 - 2] = 8;
		f[l2 - 1] = 0;
		f[l2] = f[l2] & 0x4f;
		uint32_t h = (f[l2] & 15u) * 4;
		if (h < 20 || l2 + h > n)
			return;
		memcpy(f + l2 + 16, (uint8_t[]){198, 18, 0, 1}, 4);
		memset(f + l2 + 10, 0, 2);
		uint16_t sum = (uint16_t)~rte_raw_cksum(f + l2, h);
		memcpy(f + l2 + 10, &sum, 2);
		if (f[l2 + 9] == 1 && n >= l2 + h + 8) {
			uint32_t total = (uint32_t)(f[l2 + 2] << 8 | f[l2 + 3]);
			if (total >= h + 8 && l2 + total <= n) {
				memset(f + l2 + h + 2, 0, 2);
				sum = (uint16_t)~rte_raw_cksum(f + l2 + h, total - h);
				memcpy(f + l2 + h + 2, &sum, 2);
			}
		}
	} else if (f[l2] >> 4 == 6 && n >= l2 + 48) {
		f[l2 - 2] = 0x86;
		f[l2 - 1] = 0xdd;
		memcpy(f + l2 + 24, (uint8_t[16]){0xfd, 0, 0xf0, 0x11, [15] = 1}, 16);
		uint32_t payload = (uint32_t)(f[l2 + 4] << 8 | f[l2 + 5]);
		if (f[l2 + 6] == 58 && payload >= 8 && l2 + 40 + payload <= n) {
			struct net_addr src, dst;
			memcpy(src.b, f + l2 + 8, 16);
			memcpy(dst.b, f + l2 + 24, 16);
			memset(f + l2 + 42, 0, 2);
			uint16_t sum = net_sum_fold(net_sum_pseudo(&src, &dst, 58, payload) + net_sum(f + l2 + 40, payload));
			memcpy(f + l2 + 42, &sum, 2);
		}
	}
}

static void one_frame(struct foil_worker *w, struct net_port *port, struct foil_cur *c)
{
	uint8_t how = cur_u8(c), f[1600];
	uint32_t n = cur_be16(c) % 1536;
	n = FOIL_MIN(n, (uint32_t)cur_left(c));
	const uint8_t *bytes = cur_bytes(c, n);

	if (how & 4) {
		t_clock(w, (uint64_t)how << 14);
		(void)foil_wheel_advance(w, 64);
	}
	if (!bytes || n == 0)
		return;
	memcpy(f, bytes, n);
	if (how & 1)
		put_right(f, n, port->vlan);
	struct foil_chain chain = {0};
	t_chain(w, &chain, f, n, how & 2 ? 60 : 1536);
	struct rte_mbuf *m = chain.head;
	m->pkt_len = n;
	for (const struct rte_mbuf *s = m->next; s; s = s->next)
		m->nb_segs++;
	net_input_burst(w, port, &m, 1);
	net_flush(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct foil_worker *w;
	struct foil_cur c = cur_of(data, n_bytes);
	uint8_t how = cur_u8(&c);
	struct net_port port = {.rx_burst = rx, .tx_burst = tx, .mtu = 1500, .tx_multi_seg = how & 1, .vlan = how & 2 ? 7 : 0,
				.mac = {{2, 0, 0, 0, 0, 1}}};
	struct net_local_conf locals[2] = {{.prefix.len = 120}, {.prefix.len = 64}};
	struct foil_error err;

	if (!w)
		w = t_worker(.seed = 7, .n_mbufs = 1023, .n_indirect = 255);
	if (net_addr_parse("198.18.0.1", &locals[0].prefix.addr) || net_addr_parse("fd00:f011::1", &locals[1].prefix.addr))
		return 0;
	struct net_route_conf routes[2] = {{.prefix.len = 96}, {.prefix.len = 0}};
	if (net_addr_parse("198.18.0.7", &routes[0].via) || net_addr_parse("0.0.0.0", &routes[0].prefix.addr) || net_addr_parse("fd00:f011::7", &routes[1].via))
		return 0;
	static const struct net_prefix everybody[] = {{.len = 0}};
	struct net_params p = {.ports = {&port}, .n_ports = 1, .locals = locals, .n_locals = 2, .neighbours_max = 8, .routes = routes,
			       .n_routes = how & 4 ? 2 : 0, .captured = everybody, .n_captured = how & 0x20 ? 1 : 0,
			       .address_check = (enum net_address_check)((how >> 3) % 3), .report_groups = how & 0x40};
	if (net_init(w, &p, &err) != 0)
		return 0;
	struct net_udp_params echo = {.port = 53, .input = datagram, .error = datagram_error}, other = {.port = 0x3535, .input = datagram};
	if (net_udp_bind(w, &echo) || net_udp_bind(w, &other))
		return 0;
	net_register_l4(w, IPPROTO_TCP, take, error);
	struct net_capture_filter filter = {.ends[0].port = how & 0x80 ? 53 : 0, .snap_bytes = how & 0x20 ? 64 : 0};
	struct net_capture *capture = how & 0x40 ? net_capture_new(&filter, 64 * 1024) : NULL;
	net_capture_start(w, capture);
	for (uint32_t i = 0; i < FRAMES_MAX && cur_left(&c) > 0; i++)
		one_frame(w, &port, &c);
	struct net_capture_record r;
	while (capture && net_capture_take(capture, &r))
		FOIL_ASSERT(r.n_bytes <= r.n_bytes_all && r.n_bytes <= NET_CAPTURE_BYTES_MAX);
	net_fini(w);
	net_capture_free(capture);
	t_assert_no_leaks(w);
	return 0;
}
