/* The way in: bursts from the ports through eth.c, and what is left of them to the upper protocols, checksummed and bare.
 * Steering comes before the checksum, so that the worker whose flow it is does the work.
 * Invariant: every mbuf of a burst is, at its end, freed, steered, excepted or in a batch that was delivered. */
#include "dataplane/net/checksum.h"
#include "dataplane/net/net_priv.h"

#define PREFETCH_AHEAD 4u

void net_not_ours(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, enum net_reason why)
{
	struct net_ctx *n = w->net;

	if (!n->exception) {
		net_drop_id(w, p, own_m, why);
		return;
	}
	foil_count(w, NET, EXCEPTIONS, 1);
	n->exception(w, p, own_m);
}

void net_read(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m)
{
	if (w->net->exception)
		net_not_ours(w, p, own_m, NET_REASON_OK);
	else
		rte_pktmbuf_free(own_m);
}

void net_trim(struct rte_mbuf *m, uint32_t n_bytes)
{
	struct rte_mbuf *s = m;

	if (m->pkt_len == n_bytes)
		return;
	m->pkt_len = n_bytes;
	for (uint16_t n_segs = 1;; s = s->next, n_segs++) {
		if (n_bytes <= s->data_len) {
			s->data_len = (uint16_t)n_bytes;
			rte_pktmbuf_free(s->next); /* padding only */
			s->next = NULL;
			m->nb_segs = n_segs;
			return;
		}
		n_bytes -= s->data_len;
	}
}

void net_rx_strip(struct rte_mbuf *m, struct net_port *p, const struct net_rx *rx)
{
	struct net_rx_meta *meta = NET_RX_META(m);
	uint16_t n_headers = (uint16_t)(rx->l2_len + rx->l3_len);

	net_trim(m, n_headers + rx->l4_len);
	m->data_off = (uint16_t)(m->data_off + n_headers);
	m->data_len = (uint16_t)(m->data_len - n_headers);
	m->pkt_len -= n_headers;
	m->l2_len = rx->l2_len & 0x7f;
	m->l3_len = rx->l3_len & 0x1ff;
	meta->src = rx->src;
	meta->dst = rx->dst;
	meta->port = p->index;
	meta->ttl = rx->ttl;
	meta->tos = rx->tos;
	meta->l4_proto = rx->proto;
	meta->frame_at = (uint16_t)(m->data_off - n_headers);
}

bool net_rx_checksum_ok(struct foil_worker *w, const struct net_port *p, const struct rte_mbuf *m, const struct net_rx *rx)
{
	uint64_t sum = 0;

	if (p->rx_trusted)
		return true;
	if (p->rx_cksum) {
		uint64_t flag = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
		if (flag == RTE_MBUF_F_RX_L4_CKSUM_GOOD || flag == RTE_MBUF_F_RX_L4_CKSUM_BAD)
			return flag == RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	}
	foil_count(w, NET, CHECKSUMS_SOFTWARE_RX, 1);
	if (rx->proto != IPPROTO_ICMP)
		sum = net_sum_pseudo(&rx->src, &rx->dst, rx->proto, rx->l4_len);
	sum += net_sum_chain(m, (uint32_t)rx->l2_len + rx->l3_len, rx->l4_len);
	return net_sum_16(sum) == 0xffff;
}

/* Header there, checksum right (RFC 9293 3.1, RFC 768, RFC 8200 8.1). Protocols without a pseudo header checksum pass. */
static enum net_reason l4_check(struct foil_worker *w, const struct net_port *p, const struct rte_mbuf *m, const struct net_rx *rx)
{
	struct foil_cur c = net_l4_cursor(m, rx);

	if (rx->proto == IPPROTO_TCP) {
		if (cur_left(&c) < sizeof(struct rte_tcp_hdr))
			return NET_REASON_L4_SHORT;
	} else if (rx->proto == IPPROTO_UDP) {
		(void)cur_be32(&c); /* ports */
		uint16_t len = cur_be16(&c), field = cur_be16(&c);
		if (c.short_read || len < sizeof(struct rte_udp_hdr) || len > rx->l4_len)
			return NET_REASON_L4_SHORT;
		if (field == 0)
			return rx->v4 ? NET_REASON_OK : NET_REASON_BAD_CHECKSUM;
		if (len < rx->l4_len) { /* what lies behind the datagram is not summed */
			struct net_rx datagram = *rx;
			datagram.l4_len = len;
			return net_rx_checksum_ok(w, p, m, &datagram) ? NET_REASON_OK : NET_REASON_BAD_CHECKSUM;
		}
	} else {
		return NET_REASON_OK;
	}
	return net_rx_checksum_ok(w, p, m, rx) ? NET_REASON_OK : NET_REASON_BAD_CHECKSUM;
}

static bool l4_steered(struct foil_worker *w, struct net_port *p, struct rte_mbuf *m, const struct net_rx *rx)
{
	struct foil_cur c = net_l4_cursor(m, rx);
	uint16_t src_port = cur_be16(&c), dst_port = cur_be16(&c);

	if (p->rss || (rx->proto != IPPROTO_TCP && rx->proto != IPPROTO_UDP) || c.short_read)
		return false;
	if (!w->net->steer(w, p, m, net_flow_hash(&rx->src, &rx->dst, src_port, dst_port)))
		return false;
	foil_count(w, NET, STEERED, 1);
	return true;
}

/* Nobody here reads it: the kernel may, or its sender is told. */
static void l4_unknown(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx)
{
	bool is_udp = rx->proto == IPPROTO_UDP;

	if (!w->net->exception) {
		enum net_reason why = l4_check(w, p, own_m, rx);
		if (why != NET_REASON_OK) {
			net_drop_id(w, p, own_m, why);
			return;
		}
		if (rx->v4)
			icmp4_error(w, own_m, rx, is_udp ? NET_ICMP4_NO_PORT : NET_ICMP4_NO_PROTOCOL);
		else
			icmp6_error(w, own_m, rx, is_udp ? NET_ICMP6_NO_PORT : NET_ICMP6_NEXT_HEADER(rx->next_at));
	}
	net_not_ours(w, p, own_m, is_udp ? NET_REASON_NO_PORT : NET_REASON_NO_PROTOCOL);
}

void net_l4_deliver(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx, struct net_batch *b)
{
	struct net_ctx *n = w->net;
	struct net_l4 *l4 = net_l4_of(n, rx->proto);
	enum net_reason why;

	if (FOIL_UNLIKELY(!l4 || (rx->proto == IPPROTO_UDP && n->n_udp_ports && !udp_is_bound(n, own_m, rx)))) {
		l4_unknown(w, p, own_m, rx);
		return;
	}
	if (n->steer && l4_steered(w, p, own_m, rx))
		return;
	why = l4_check(w, p, own_m, rx);
	if (FOIL_UNLIKELY(why != NET_REASON_OK)) {
		net_drop_id(w, p, own_m, why);
		return;
	}
	net_rx_strip(own_m, p, rx);
	uint16_t slot = (uint16_t)(l4 - n->l4);
	b->segs[slot][b->n[slot]++] = own_m;
}

static void burst_one(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	struct net_ctx *n = w->net;
	struct net_batch b;
	uint64_t n_bytes = 0;

	memset(b.n, 0, sizeof(b.n));
	if (FOIL_UNLIKELY(n->capture != NULL))
		for (uint16_t i = 0; i < n_pkts; i++)
			capture_frame(w, p, own_pkts[i], NET_CAPTURE_IN);
	for (uint16_t i = 0; i < FOIL_MIN(PREFETCH_AHEAD, n_pkts); i++)
		rte_prefetch0(rte_pktmbuf_mtod(own_pkts[i], void *));
	for (uint16_t i = 0; i < n_pkts; i++) {
		if (i + PREFETCH_AHEAD < n_pkts)
			rte_prefetch0(rte_pktmbuf_mtod(own_pkts[i + PREFETCH_AHEAD], void *));
		n_bytes += own_pkts[i]->pkt_len;
		eth_input(w, p, own_pkts[i], &b);
	}
	foil_count(w, NET, RX_PACKETS, n_pkts);
	foil_count(w, NET, RX_BYTES, n_bytes);
	uint8_t was = foil_stage_enter(w, FOIL_STAGE_TCP);
	for (uint16_t i = 0; i < n->n_l4; i++)
		if (b.n[i])
			n->l4[i].input(w, b.segs[i], b.n[i]);
	foil_stage_leave(w, was);
	if (FOIL_UNLIKELY(n->capture != NULL))
		capture_commit(n->capture);
}

void net_input_burst(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	for (uint16_t done = 0; done < n_pkts;) {
		uint16_t n = (uint16_t)FOIL_MIN(n_pkts - done, NET_BURST);
		burst_one(w, p, own_pkts + done, n);
		done = (uint16_t)(done + n);
	}
}

/* 0: one packet, then a power of two each: up to 2, 4, .. 64 (core's BURST counters). */
static uint16_t burst_class(uint16_t n_pkts)
{
	return (uint16_t)(n_pkts <= 1 ? 0 : 32 - __builtin_clz(n_pkts - 1u));
}

uint16_t net_poll(struct foil_worker *w)
{
	struct net_ctx *n = w->net;
	struct rte_mbuf *pkts[NET_BURST];
	uint16_t n_all = 0;

	for (uint16_t i = 0; i < n->n_ports; i++) {
		struct net_port *p = n->ports[i];
		uint8_t was = foil_stage_enter(w, FOIL_STAGE_RX);
		uint16_t n_pkts = p->rx_burst(w, p, pkts, NET_BURST);

		if (n_pkts) {
			foil_count(w, CORE, BURST_1 + burst_class(n_pkts), 1);
			(void)foil_stage_enter(w, FOIL_STAGE_NET);
			burst_one(w, p, pkts, n_pkts);
		} else {
			foil_count(w, CORE, EMPTY_POLLS, 1);
		}
		foil_stage_leave(w, was);
		n_all = (uint16_t)(n_all + n_pkts);
	}
	return n_all;
}
