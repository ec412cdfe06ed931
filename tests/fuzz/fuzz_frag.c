/* Pieces of packets in any order, size and number, of both families, from few senders with few identifications, and waits between. Whatever
 * is handed up as whole has each byte that belongs there; memory held stays within the bounds of frag.c; at the end every mbuf is home. */
#include <rte_ip.h>

#include "dataplane/core/cursor.h"
#include "dataplane/core/error.h"
#include "dataplane/net/checksum.h"
#include "dataplane/net/net_priv.h"
#include "tests/unit/support.h"

#define PIECES_MAX 400
#define PROTO 253 /* RFC 3692: nobody's, and without a checksum */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static uint16_t rx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	return 0;
}

static uint16_t tx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	rte_pktmbuf_free_bulk(own_pkts, n_pkts);
	return n_pkts;
}

/* The byte that belongs at this offset, whoever sends it: an honest overlap would be told from a lie by it. */
static uint8_t byte_at(uint32_t offset)
{
	return (uint8_t)(offset * 7 + offset / 251);
}

static void take(struct foil_worker *w, struct rte_mbuf **own_segs, uint16_t n_segs)
{
	for (uint16_t i = 0; i < n_segs; i++) {
		uint32_t at = 0, n_mbufs = 0;
		for (const struct rte_mbuf *m = own_segs[i]; m; m = m->next, n_mbufs++)
			for (uint16_t k = 0; k < m->data_len; k++)
				FOIL_ASSERT(*rte_pktmbuf_mtod_offset(m, const uint8_t *, k) == byte_at(at++));
		FOIL_ASSERT(at == own_segs[i]->pkt_len && n_mbufs == own_segs[i]->nb_segs);
		rte_pktmbuf_free(own_segs[i]);
	}
}

static void put_be16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint32_t piece4(uint8_t *f, uint8_t who, uint32_t offset, uint32_t n, bool more)
{
	uint8_t *ip = f + 14;

	put_be16(f + 12, 0x0800);
	memset(ip, 0, 20);
	ip[0] = 0x45;
	put_be16(ip + 2, 20 + n);
	ip[5] = who >> 2 & 3;
	put_be16(ip + 6, (more ? 0x2000u : 0) | (offset >> 3 & 0x1fff));
	ip[8] = 64;
	ip[9] = PROTO;
	memcpy(ip + 12, (uint8_t[]){198, 18, 0, (uint8_t)(2 + (who & 1)), 198, 18, 0, 1}, 8);
	uint16_t sum = (uint16_t)~rte_raw_cksum(ip, 20);
	memcpy(ip + 10, &sum, 2);
	return 34;
}

static uint32_t piece6(uint8_t *f, uint8_t who, uint32_t offset, uint32_t n, bool more)
{
	uint8_t *ip = f + 14;
	uint32_t n_extra = who & 16 ? 8 : 0; /* an extension header before the fragment's */

	put_be16(f + 12, 0x86dd);
	memset(ip, 0, 64);
	ip[0] = 0x60;
	put_be16(ip + 4, n_extra + 8 + n);
	ip[6] = n_extra ? 60 : 44;
	ip[7] = 64;
	memcpy(ip + 8, (uint8_t[16]){0xfd, 0, 0xf0, 0x11, [15] = (uint8_t)(2 + (who & 1))}, 16);
	memcpy(ip + 24, (uint8_t[16]){0xfd, 0, 0xf0, 0x11, [15] = 1}, 16);
	if (n_extra)
		memcpy(ip + 40, (uint8_t[8]){44, 0, 1, 4}, 8);
	uint8_t *h = ip + 40 + n_extra;
	h[0] = PROTO;
	put_be16(h + 2, (offset & 0xfff8) | more);
	h[7] = who >> 2 & 3;
	return 14 + 40 + n_extra + 8;
}

static void one_piece(struct foil_worker *w, struct net_port *port, struct foil_cur *c)
{
	uint8_t how = cur_u8(c), who = cur_u8(c), f[2048] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
	uint32_t offset = how & 1 ? cur_be16(c) & 0xfff8u : (uint32_t)cur_u8(c) * 8, n = how & 2 ? cur_be16(c) % 1461 : cur_u8(c);
	bool more = how & 4;

	if (how & 8)
		n = n / 8 * 8;
	if (how & 64) {
		t_clock(w, (uint64_t)how << 18);
		(void)foil_wheel_advance(w, 64);
	}
	uint32_t head = who & 2 ? piece6(f, who, offset, n, more) : piece4(f, who, offset, n, more);
	for (uint32_t i = 0; i < n; i++)
		f[head + i] = byte_at(offset + i);
	struct foil_chain chain = {0};
	t_chain(w, &chain, f, FOIL_MAX(head + n, how & 16 ? 60u : 0), how & 32 ? 100 : 2048);
	struct rte_mbuf *m = chain.head;
	m->pkt_len = chain.n_bytes;
	for (const struct rte_mbuf *s = m->next; s; s = s->next)
		m->nb_segs++;
	net_input_burst(w, port, &m, 1);
	FOIL_ASSERT(w->net->n_frags_held <= 512);
	net_flush(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct foil_worker *w;
	struct foil_cur c = cur_of(data, n_bytes);
	struct net_port port = {.rx_burst = rx, .tx_burst = tx, .mtu = 1500, .tx_multi_seg = true, .mac = {{2, 0, 0, 0, 0, 1}}};
	struct net_local_conf locals[2] = {{.prefix.len = 120}, {.prefix.len = 64}};
	struct foil_error err;

	if (!w)
		w = t_worker(.seed = 7, .n_mbufs = 16383, .n_indirect = 255);
	if (net_addr_parse("198.18.0.1", &locals[0].prefix.addr) || net_addr_parse("fd00:f011::1", &locals[1].prefix.addr))
		return 0;
	struct net_params p = {.ports = {&port}, .n_ports = 1, .locals = locals, .n_locals = 2, .neighbours_max = 8};
	if (net_init(w, &p, &err) != 0)
		return 0;
	net_register_l4(w, PROTO, take, NULL);
	for (uint32_t i = 0; i < PIECES_MAX && cur_left(&c) > 0; i++)
		one_piece(w, &port, &c);
	net_fini(w);
	t_assert_no_leaks(w);
	return 0;
}
