/* The way out: an L4 segment gets its checksum, its IP header and its next hop. neigh.c puts the link header on.
 * A header needs bytes that nobody else reads, so it goes in front of a first segment that is ours alone, else into a fresh mbuf
 * together with the L4 header, whose checksum field must be written too.
 * Invariant: the frame that leaves has IP and L4 header in its first segment, direct and with a reference count of 1. */
#include "dataplane/net/checksum.h"
#include "dataplane/net/net_priv.h"

#define TCP_CKSUM_OFFSET 16u
#define UDP_CKSUM_OFFSET 6u
#define ICMP_CKSUM_OFFSET 2u

struct l4_shape {
	uint16_t header_len, cksum_offset; /* header_len 0: malformed */
};

static struct l4_shape shape_of(const struct rte_mbuf *m, uint8_t proto)
{
	struct foil_cur c = cur_of(rte_pktmbuf_mtod(m, const void *), m->data_len);
	struct l4_shape s = {0, UINT16_MAX};

	switch (proto) {
	case IPPROTO_TCP:
		s.cksum_offset = TCP_CKSUM_OFFSET;
		(void)cur_skip(&c, 12); /* a short segment is noticed below */
		s.header_len = (uint16_t)((cur_u8(&c) >> 4) * 4);
		if (s.header_len < sizeof(struct rte_tcp_hdr) || s.header_len > m->data_len)
			s.header_len = 0;
		break;
	case IPPROTO_UDP:
		s.cksum_offset = UDP_CKSUM_OFFSET;
		s.header_len = m->data_len >= 8 ? 8 : 0;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		s.cksum_offset = ICMP_CKSUM_OFFSET;
		s.header_len = m->data_len >= 8 ? 8 : 0;
		break;
	default:
		s.header_len = (uint16_t)FOIL_MIN(m->data_len, 8);
		break;
	}
	return s;
}

struct rte_mbuf *net_linearise(struct foil_worker *w, const struct rte_mbuf *m)
{
	struct rte_mbuf *copy = rte_pktmbuf_copy(m, w->mbuf_pool, 0, UINT32_MAX);

	if (copy && copy->nb_segs == 1) {
		foil_count(w, NET, LINEARISED, 1);
		return copy;
	}
	rte_pktmbuf_free(copy);
	return NULL;
}

/* A fresh first segment with the L4 header of m in it, and m's rest behind. NULL: m is untouched. */
static struct rte_mbuf *header_segment(struct foil_worker *w, struct rte_mbuf *m, uint16_t header_len)
{
	struct rte_mbuf *h = rte_pktmbuf_alloc(w->mbuf_pool), *rest = m;
	char *at = h ? rte_pktmbuf_append(h, header_len) : NULL;

	if (!at) {
		rte_pktmbuf_free(h);
		return NULL;
	}
	memcpy(at, rte_pktmbuf_mtod(m, const char *), header_len);
	h->ol_flags = m->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK;
	h->tx_offload = m->tx_offload;
	h->pkt_len = m->pkt_len;
	h->nb_segs = m->nb_segs;
	m->data_off = (uint16_t)(m->data_off + header_len);
	m->data_len = (uint16_t)(m->data_len - header_len);
	if (m->data_len == 0) {
		rest = m->next;
		m->next = NULL;
		m->nb_segs = 1;
		rte_pktmbuf_free_seg(m);
	} else {
		h->nb_segs++;
	}
	h->next = rest;
	foil_count(w, NET, HEADER_MBUFS, 1);
	return h;
}

/* Makes m such that the port can send it and headers can be written in front. NULL: no mbuf, m untouched. */
static struct rte_mbuf *writable(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *m, uint16_t header_len)
{
	bool ours_alone = rte_mbuf_refcnt_read(m) == 1;
	struct rte_mbuf *copy;

	if (p->tx_multi_seg || m->nb_segs == 1) {
		if (FOIL_LIKELY(ours_alone && RTE_MBUF_DIRECT(m) &&
				rte_pktmbuf_headroom(m) >= NET_L2_BYTES_MAX + sizeof(struct rte_ipv6_hdr)))
			return m;
		if (p->tx_multi_seg && ours_alone)
			return header_segment(w, m, header_len);
	}
	copy = p->tx_multi_seg ? rte_pktmbuf_copy(m, w->mbuf_pool, 0, UINT32_MAX) : net_linearise(w, m);
	if (copy)
		rte_pktmbuf_free(m);
	return copy;
}

/* The L4 checksum over what m holds, data at the L4 header. */
static void checksum_software(struct foil_worker *w, struct rte_mbuf *m, const struct net_addr *src, const struct net_addr *dst, uint8_t proto,
			      uint16_t offset)
{
	uint8_t *field = rte_pktmbuf_mtod_offset(m, uint8_t *, offset);
	uint16_t sum = 0;

	memcpy(field, &sum, 2);
	sum = net_sum_fold((proto == IPPROTO_ICMP ? 0 : net_sum_pseudo(src, dst, proto, m->pkt_len)) + net_sum_chain(m, 0, m->pkt_len));
	if (sum == 0 && proto == IPPROTO_UDP)
		sum = 0xffff; /* RFC 768: 0 says "none" */
	memcpy(field, &sum, 2);
	foil_count(w, NET, CHECKSUMS_SOFTWARE_TX, 1);
}

/* Leaves the L4 checksum to the port: flags here, the pseudo header's sum in the field once the IP header is there. */
static void checksum_offload(struct rte_mbuf *m, bool v4, uint8_t proto, const void *ip, uint8_t *field)
{
	uint16_t pseudo;

	m->ol_flags |= proto == IPPROTO_TCP ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;
	m->ol_flags |= v4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	pseudo = v4 ? rte_ipv4_phdr_cksum(ip, m->ol_flags) : rte_ipv6_phdr_cksum(ip, m->ol_flags);
	memcpy(field, &pseudo, 2);
}

static void ip4_put(const struct net_port *p, struct rte_mbuf *m, const struct net_addr *src, const struct net_addr *dst, uint8_t proto,
		    uint8_t tos)
{
	uint32_t l4_len = m->pkt_len;
	struct rte_ipv4_hdr *h = (struct rte_ipv4_hdr *)(void *)rte_pktmbuf_prepend(m, sizeof(*h));

	ip4_header_make(h, src, dst, proto, tos, l4_len);
	if (p->tx_cksum_ip)
		m->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
	else
		h->hdr_checksum = net_sum_fold(net_sum_tail((const uint8_t *)h, sizeof(*h)));
	m->l3_len = sizeof(*h);
}

static void ip6_put(struct rte_mbuf *m, const struct net_addr *src, const struct net_addr *dst, uint8_t proto, uint8_t tos)
{
	uint32_t l4_len = m->pkt_len;
	struct rte_ipv6_hdr *h = (struct rte_ipv6_hdr *)(void *)rte_pktmbuf_prepend(m, sizeof(*h));

	ip6_header_make(h, src, dst, proto, tos, l4_len, NET_TTL);
	m->l3_len = sizeof(*h);
}

/* Headers and checksums onto a writable segment: data at the IP header afterwards. */
static void headers_put(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *m, const struct net_addr *src,
			const struct net_addr *dst, uint8_t proto, uint8_t tos, struct l4_shape shape)
{
	bool v4 = net_addr_is_v4(dst), offload = p->tx_cksum_l4 && (proto == IPPROTO_TCP || proto == IPPROTO_UDP);
	uint8_t *l4 = rte_pktmbuf_mtod(m, uint8_t *);

	m->ol_flags &= ~(RTE_MBUF_F_TX_OFFLOAD_MASK & ~RTE_MBUF_F_TX_TCP_SEG);
	m->l4_len = (uint8_t)shape.header_len;
	if (!offload && shape.cksum_offset != UINT16_MAX)
		checksum_software(w, m, src, dst, proto, shape.cksum_offset);
	if (v4)
		ip4_put(p, m, src, dst, proto, tos);
	else
		ip6_put(m, src, dst, proto, tos);
	if (offload)
		checksum_offload(m, v4, proto, rte_pktmbuf_mtod(m, const void *), l4 + shape.cksum_offset);
}

/* A packet that the port is to cut may be longer than the link takes; its segments may not. */
static enum net_reason size_check(const struct net_port *p, struct rte_mbuf *m, bool v4, uint16_t header_len)
{
	uint32_t ip_bytes = v4 ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr), n_bytes = m->pkt_len + ip_bytes;

	if (n_bytes <= p->mtu) {
		m->ol_flags &= ~RTE_MBUF_F_TX_TCP_SEG;
		return NET_REASON_OK;
	}
	if (p->tso && (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) && n_bytes <= UINT16_MAX && ip_bytes + header_len + m->tso_segsz <= p->mtu)
		return NET_REASON_OK;
	return NET_REASON_OVER_MTU;
}

static enum net_reason dst_resolve(struct foil_worker *w, const struct net_addr *dst, struct net_dst *d)
{
	const struct net_ctx *n = w->net;

	if (FOIL_LIKELY(d->generation != 0 && n->neigh[d->neighbour].generation == d->generation))
		return NET_REASON_OK;
	return route_resolve(w, dst, d);
}

/* m: from the upper protocol's header on. */
static FOIL_COLD void drop(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_m, enum net_reason why, const struct net_addr *src,
		 const struct net_addr *dst, uint8_t proto)
{
	foil_reason_id(w, NET, why);
	if (FOIL_UNLIKELY(w->net->capture != NULL))
		capture_drop_upper(w, why, p, own_m, src, dst, proto);
	rte_pktmbuf_free(own_m);
}

void net_ip_output(struct foil_worker *w, struct rte_mbuf *own_m, const struct net_addr *src, const struct net_addr *dst, uint8_t l4_proto,
		   uint8_t tos, struct net_dst *dst_cache)
{
	struct net_dst once = {0}, *d = dst_cache ? dst_cache : &once;
	struct net_ctx *n = w->net;
	struct l4_shape shape = shape_of(own_m, l4_proto);
	bool v4 = net_addr_is_v4(dst);
	enum net_reason why;
	struct net_port *p;
	struct rte_mbuf *m;

	foil_count(w, NET, IP_TX, 1);
	if (FOIL_UNLIKELY(shape.header_len == 0 || v4 != net_addr_is_v4(src))) {
		drop(w, NULL, own_m, NET_REASON_BAD_OUTPUT, src, dst, l4_proto);
		return;
	}
	why = dst_resolve(w, dst, d);
	if (FOIL_UNLIKELY(why != NET_REASON_OK)) {
		drop(w, NULL, own_m, why, src, dst, l4_proto);
		return;
	}
	p = n->ports[d->port];
	why = size_check(p, own_m, v4, shape.header_len);
	if (FOIL_UNLIKELY(why != NET_REASON_OK)) {
		drop(w, p, own_m, why, src, dst, l4_proto);
		return;
	}
	m = writable(w, p, own_m, shape.header_len);
	if (FOIL_UNLIKELY(!m)) {
		drop(w, p, own_m, NET_REASON_NO_MBUF, src, dst, l4_proto);
		return;
	}
	headers_put(w, p, m, src, dst, l4_proto, tos, shape);
	neigh_output(w, &n->neigh[d->neighbour], m);
}
