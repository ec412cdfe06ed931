/* IPv4 (RFC 791, 1122 3.2.1, 7126): is it valid, is it ours, where does the upper protocol begin. No forwarding, so TTL is only noted;
 * source routes are refused, fragments go to frag.c. Output headers are made here too.
 * Invariant: what is handed on has its whole header in the first segment and total_length bytes in the packet. */
#include "dataplane/net/checksum.h"
#include "dataplane/net/net_priv.h"

#define OPT_END 0u
#define OPT_NOP 1u
#define OPT_LSRR 131u
#define OPT_SSRR 137u

/* bad_at: where the options begin; then which byte is wrong. */
static enum net_reason options_check(const uint8_t *options, size_t n_bytes, uint8_t *bad_at)
{
	struct foil_cur c = cur_of(options, n_bytes);

	while (cur_left(&c) > 0) {
		uint8_t at = (uint8_t)(n_bytes - cur_left(&c)), type = cur_u8(&c);

		if (type == OPT_END)
			return NET_REASON_OK;
		if (type == OPT_NOP)
			continue;
		if (type == OPT_LSRR || type == OPT_SSRR)
			return NET_REASON_IP4_SOURCE_ROUTE;
		uint8_t len = cur_u8(&c);
		if (len < 2 || !cur_skip(&c, len - 2u)) {
			*bad_at = (uint8_t)(*bad_at + at);
			return NET_REASON_IP4_OPTIONS;
		}
	}
	return NET_REASON_OK;
}

static bool header_checksum_ok(struct foil_worker *w, const struct net_port *p, const struct rte_mbuf *m, const void *h, uint16_t n_bytes)
{
	if (p->rx_trusted)
		return true;
	if (p->rx_cksum) {
		uint64_t flag = m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
		if (flag == RTE_MBUF_F_RX_IP_CKSUM_GOOD || flag == RTE_MBUF_F_RX_IP_CKSUM_BAD)
			return flag == RTE_MBUF_F_RX_IP_CKSUM_GOOD;
	}
	return net_sum_16(net_sum_tail(h, n_bytes)) == 0xffff;
}

/* The header as far as it concerns everybody; fills rx. */
static enum net_reason header_parse(struct foil_worker *w, const struct net_port *p, const struct rte_mbuf *m, struct net_rx *rx)
{
	struct foil_cur c = cur_of(rte_pktmbuf_mtod_offset(m, const void *, rx->l2_len), (size_t)m->data_len - rx->l2_len);
	const uint8_t *start = c.at;
	const struct rte_ipv4_hdr *h = (const struct rte_ipv4_hdr *)(const void *)cur_bytes(&c, sizeof(*h));

	if (!h)
		return NET_REASON_IP4_SHORT;
	uint16_t total = rte_be_to_cpu_16(h->total_length);
	rx->l3_len = rte_ipv4_hdr_len(h);
	if (h->version_ihl >> 4 != 4 || rx->l3_len < sizeof(*h))
		return NET_REASON_IP4_VERSION;
	if (!cur_skip(&c, rx->l3_len - sizeof(*h)) || total < rx->l3_len || total > m->pkt_len - rx->l2_len)
		return NET_REASON_IP4_SHORT;
	if (!header_checksum_ok(w, p, m, start, rx->l3_len))
		return NET_REASON_IP4_CHECKSUM;
	rx->v4 = true;
	rx->l4_len = total - (uint32_t)rx->l3_len;
	rx->proto = h->next_proto_id;
	rx->ttl = h->time_to_live;
	rx->tos = h->type_of_service;
	rx->src = net_addr_v4(h->src_addr);
	rx->dst = net_addr_v4(h->dst_addr);
	return NET_REASON_OK;
}

/* Sent to an address of another station that this node stands before: TCP, and what routers say of our segments. */
static bool is_captured(const struct foil_worker *w, const struct rte_mbuf *m, const struct net_rx *rx)
{
	if (!w->net->n_captured || (rx->proto != IPPROTO_TCP && !(rx->proto == IPPROTO_ICMP && icmp4_is_error(m, rx))))
		return false;
	return net_is_captured(w, &rx->dst);
}

/* What must hold for a packet that is ours. */
static enum net_reason ours_check(struct foil_worker *w, const struct net_port *p, const struct rte_mbuf *m, const struct net_rx *rx)
{
	const struct rte_ipv4_hdr *h = rte_pktmbuf_mtod_offset(m, const struct rte_ipv4_hdr *, rx->l2_len);

	if (rx->group)
		return NET_REASON_NOT_OUR_MAC; /* RFC 1122 3.3.6: a group frame carries no packet for one host */
	if (!net_ip4_source_ok(h->src_addr))
		return NET_REASON_IP4_BAD_SOURCE;
	enum net_reason why = route_check_source(w->net, p->index, &rx->src);
	if (FOIL_LIKELY(why == NET_REASON_OK) && FOIL_UNLIKELY(rx->l3_len > sizeof(*h))) {
		uint8_t bad_at = sizeof(*h);
		why = options_check((const uint8_t *)(h + 1), rx->l3_len - sizeof(*h), &bad_at);
		if (why == NET_REASON_IP4_OPTIONS)
			icmp4_error(w, m, rx, NET_ICMP4_PARAMETER(bad_at)); /* RFC 1122 3.2.2.5 */
	}
	return why;
}

/* A fragment of a valid packet of ours goes into reassembly. NULL: it stays there; else a packet whose header is parsed into rx. */
static struct rte_mbuf *whole(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_m, struct net_rx *rx)
{
	const struct rte_ipv4_hdr *h = rte_pktmbuf_mtod_offset(own_m, const struct rte_ipv4_hdr *, rx->l2_len);
	uint16_t field = rte_be_to_cpu_16(h->fragment_offset);
	struct net_frag_info info = {.id = rte_be_to_cpu_16(h->packet_id), .offset = (field & RTE_IPV4_HDR_OFFSET_MASK) * 8u,
				     .more = field & RTE_IPV4_HDR_MF_FLAG};

	if (FOIL_LIKELY(!info.offset && !info.more))
		return own_m;
	own_m = frag_input(w, p, own_m, rx, &info);
	if (own_m && header_parse(w, p, own_m, rx) != NET_REASON_OK) { /* cannot happen: the header was made from a good one */
		net_drop_id(w, p, own_m, NET_REASON_FRAG_MALFORMED);
		return NULL;
	}
	return own_m;
}

void ip4_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, struct net_rx *rx, struct net_batch *b)
{
	enum net_reason why = header_parse(w, p, own_m, rx);

	if (FOIL_LIKELY(why == NET_REASON_OK)) {
		if (FOIL_UNLIKELY(!net_is_local(w, &rx->dst)) && !is_captured(w, own_m, rx)) {
			net_not_ours(w, p, own_m, NET_REASON_NOT_OURS);
			return;
		}
		why = ours_check(w, p, own_m, rx);
	}
	if (FOIL_UNLIKELY(why != NET_REASON_OK)) {
		net_drop_id(w, p, own_m, why);
		return;
	}
	own_m = whole(w, p, own_m, rx);
	if (!own_m)
		return;
	foil_count(w, NET, IP4_RX, 1);
	if (rx->l3_len > sizeof(struct rte_ipv4_hdr))
		FOIL_PROBE(w, NET, OPTIONS4_SKIPPED);
	if (rx->proto == IPPROTO_ICMP)
		icmp4_input(w, p, own_m, rx);
	else
		net_l4_deliver(w, p, own_m, rx, b);
}

void ip4_header_make(struct rte_ipv4_hdr *h, const struct net_addr *src, const struct net_addr *dst, uint8_t proto, uint8_t tos, uint32_t l4_len)
{
	struct rte_ipv4_hdr ip = {
		.version_ihl = RTE_IPV4_VHL_DEF,
		.type_of_service = tos,
		.total_length = rte_cpu_to_be_16((uint16_t)(l4_len + sizeof(ip))),
		.packet_id = 0, /* never fragmented, so it means nothing (RFC 6864 4.1) */
		.fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG),
		.time_to_live = NET_TTL,
		.next_proto_id = proto,
		.src_addr = net_addr_ip4(src),
		.dst_addr = net_addr_ip4(dst),
	};
	memcpy(h, &ip, sizeof(ip));
}
