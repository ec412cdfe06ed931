/* IPv6 (RFC 8200): is it valid, is it ours, where does the upper protocol begin behind the extension headers. Routing headers
 * that still route are refused, fragments go to frag.c; the walk over extensions is bounded in number and bytes. Output headers are made here too.
 * Invariant: what is handed on has all headers in the first segment and payload_len bytes behind the fixed one. */
#include "dataplane/net/net_priv.h"

#define EXT_HOP_BY_HOP 0u
#define EXT_ROUTING 43u
#define EXT_FRAGMENT 44u
#define EXT_DESTINATION 60u
#define EXT_MAX 8u
#define EXT_BYTES_MAX 160u /* with the other headers they stay within NET_HEADERS_BYTES */
#define OPT_PAD1 0u
#define OPT_TELL 2u       /* an unknown option's high bits: discard and tell the sender */
#define OPT_TELL_HOSTS 3u /* the same, but not when it was sent to a group */
#define TELL_NO_GROUP 0x80u /* in net_icmp_what.code, inside this file */
#define ND_TYPE_FIRST 133u
#define ND_TYPE_ADVERT 136u
#define ND_TYPE_LAST 137u

/* RFC 8200 4.2: the two high bits of an option that one does not know say whether to skip it. We know none but padding. */
static enum net_reason options_check(const uint8_t *options, size_t n_bytes, uint16_t at, struct net_icmp_what *tell)
{
	struct foil_cur c = cur_of(options, n_bytes);

	while (cur_left(&c) > 0) {
		uint32_t here = (uint32_t)(at + n_bytes - cur_left(&c));
		uint8_t type = cur_u8(&c);

		if (type == OPT_PAD1)
			continue;
		uint8_t len = cur_u8(&c);
		if (c.short_read || !cur_skip(&c, len))
			return NET_REASON_IP6_EXTENSIONS;
		if (type >> 6 == OPT_TELL || type >> 6 == OPT_TELL_HOSTS)
			*tell = NET_ICMP6_OPTION(here);
		if (type >> 6 == OPT_TELL_HOSTS)
			tell->code |= TELL_NO_GROUP;
		if (type >> 6 != 0)
			return NET_REASON_IP6_OPTION;
	}
	return NET_REASON_OK;
}

/* at: where the extension begins, from the IP header on. */
static enum net_reason extension(struct foil_cur *c, uint8_t kind, uint16_t at, uint8_t *next, struct net_icmp_what *tell)
{
	const uint8_t *body;

	*next = cur_u8(c);
	size_t n_bytes = (size_t)cur_u8(c) * 8 + 6;
	body = cur_bytes(c, n_bytes);
	if (!body)
		return NET_REASON_IP6_EXTENSIONS;
	if (kind == EXT_ROUTING) {
		if (!body[1]) /* segments left */
			return NET_REASON_OK;
		*tell = NET_ICMP6_BAD_FIELD(at + 2u); /* the routing type */
		return NET_REASON_IP6_ROUTING;
	}
	return options_check(body, n_bytes, (uint16_t)(at + 2), tell);
}

/* RFC 8200 4.5. */
static void fragment_header(struct foil_cur *c, struct net_rx *rx, struct net_frag_info *info)
{
	rx->proto = cur_u8(c);
	(void)cur_u8(c); /* reserved */
	uint16_t field = cur_be16(c);
	info->id = cur_be32(c);
	info->offset = field & 0xfff8u;
	info->more = field & 1;
	info->is_there = !c->short_read;
}

/* Moves rx->proto and l3_len behind the extension headers, or behind a fragment header, which ends the walk. */
static enum net_reason extensions_skip(struct foil_cur *c, struct net_rx *rx, struct net_frag_info *info, struct net_icmp_what *tell)
{
	const uint8_t *start = c->at;

	info->next_at = (uint16_t)(rx->l2_len + 6); /* the fixed header's next-header byte */
	for (unsigned int i = 0;; i++) {
		uint8_t kind = rx->proto;
		enum net_reason why;

		if (kind != EXT_HOP_BY_HOP && kind != EXT_ROUTING && kind != EXT_FRAGMENT && kind != EXT_DESTINATION)
			break;
		uint16_t here = (uint16_t)(rx->l2_len + rx->l3_len + (c->at - start));
		if (kind == EXT_FRAGMENT) {
			info->head_at = here;
			fragment_header(c, rx, info);
			if (!info->is_there)
				return NET_REASON_IP6_EXTENSIONS;
			break;
		}
		info->next_at = here;
		if (i == EXT_MAX || (kind == EXT_HOP_BY_HOP && i > 0))
			return NET_REASON_IP6_EXTENSIONS;
		why = extension(c, kind, (uint16_t)(here - rx->l2_len), &rx->proto, tell);
		if (why != NET_REASON_OK)
			return why;
	}
	size_t n_bytes = (size_t)(c->at - start);
	if (n_bytes > EXT_BYTES_MAX)
		return NET_REASON_IP6_EXTENSIONS;
	rx->next_at = (uint16_t)(info->next_at - rx->l2_len);
	rx->l3_len = (uint16_t)(rx->l3_len + n_bytes);
	rx->l4_len -= (uint32_t)n_bytes;
	return NET_REASON_OK;
}

static enum net_reason header_parse(const struct rte_mbuf *m, struct net_rx *rx)
{
	size_t n_left = (size_t)m->data_len - rx->l2_len;
	struct foil_cur c = cur_of(rte_pktmbuf_mtod_offset(m, const void *, rx->l2_len), n_left);
	uint32_t first = cur_be32(&c);
	uint16_t payload = cur_be16(&c);

	rx->proto = cur_u8(&c);
	rx->ttl = cur_u8(&c);
	const uint8_t *src = cur_bytes(&c, 16), *dst = cur_bytes(&c, 16);
	if (c.short_read || payload > m->pkt_len - rx->l2_len - sizeof(struct rte_ipv6_hdr))
		return NET_REASON_IP6_SHORT;
	if (first >> 28 != 6)
		return NET_REASON_IP6_VERSION;
	rx->v4 = false;
	rx->tos = (uint8_t)(first >> 20);
	rx->l3_len = sizeof(struct rte_ipv6_hdr);
	rx->l4_len = payload;
	rx->src = net_addr_v6(src);
	rx->dst = net_addr_v6(dst);
	return NET_REASON_OK;
}

/* Groups that a host without routing protocols belongs to: all nodes, and the solicited-node groups (nd.c looks at the target). */
static bool is_our_group(const struct net_addr *a)
{
	static const struct net_addr all_nodes = {{0xff, 2, [15] = 1}};
	static const uint8_t solicited[13] = {0xff, 2, [11] = 1, 0xff};

	return net_addr_eq(a, &all_nodes) || memcmp(a->b, solicited, sizeof(solicited)) == 0;
}

/* A neighbour advertisement from one of our own addresses: who sends that has it, too, and nd.c has to know. */
static bool is_claim(const struct foil_worker *w, const struct foil_cur *at, const struct net_rx *rx)
{
	struct foil_cur c = *at;

	return rx->proto == IPPROTO_ICMPV6 && rx->ttl == 255 && cur_u8(&c) == ND_TYPE_ADVERT && net_is_local(w, &rx->src);
}

static enum net_reason ours_check(struct foil_worker *w, const struct net_port *p, const struct rte_mbuf *m, struct net_rx *rx, bool group,
				  struct net_frag_info *info)
{
	size_t n_left = FOIL_MIN((size_t)m->data_len - rx->l2_len - rx->l3_len, rx->l4_len);
	struct foil_cur c = cur_of(rte_pktmbuf_mtod_offset(m, const void *, rx->l2_len + rx->l3_len), n_left);

	if (rx->group && !group)
		return NET_REASON_NOT_OUR_MAC;
	/* Unspecified is for duplicate address detection only: nd.c looks at it. */
	if (!net_ip6_source_ok(&rx->src) && !(group && net_addr_is_zero(&rx->src)))
		return NET_REASON_IP6_BAD_SOURCE;
	enum net_reason why = route_check_source(w->net, p->index, &rx->src);
	if (FOIL_UNLIKELY(why != NET_REASON_OK) && !is_claim(w, &c, rx))
		return why;
	struct net_icmp_what tell = {0};
	why = extensions_skip(&c, rx, info, &tell);
	if (FOIL_UNLIKELY(tell.type) && !((tell.code & TELL_NO_GROUP) && group)) {
		tell.code &= (uint8_t)~TELL_NO_GROUP;
		icmp6_error(w, m, rx, tell); /* rx still has the extensions as payload */
	}
	return why;
}

/* As in ip4.c. Behind a reassembled packet's headers may stand more extensions, but no second fragment header. */
static struct rte_mbuf *whole(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_m, struct net_rx *rx,
			      const struct net_frag_info *info)
{
	struct net_frag_info again = {0};

	if (info->more && rx->l4_len % 8) /* RFC 8200 4.5 */
		icmp6_error(w, own_m, rx, NET_ICMP6_BAD_FIELD(4)); /* the payload length */
	else if (info->offset + rx->l4_len > UINT16_MAX)
		icmp6_error(w, own_m, rx, NET_ICMP6_BAD_FIELD(info->head_at - rx->l2_len + 2u));
	own_m = frag_input(w, p, own_m, rx, info);
	if (!own_m)
		return NULL;
	enum net_reason why = header_parse(own_m, rx);
	if (why == NET_REASON_OK)
		why = ours_check(w, p, own_m, rx, false, &again);
	if (why == NET_REASON_OK && again.is_there)
		why = NET_REASON_IP6_EXTENSIONS;
	if (why == NET_REASON_OK && rx->proto == IPPROTO_ICMPV6) {
		struct foil_cur c = net_l4_cursor(own_m, rx);
		uint8_t type = cur_u8(&c);
		if (type >= ND_TYPE_FIRST && type <= ND_TYPE_LAST) /* RFC 6980 5: nobody sends these in pieces but to deceive */
			why = NET_REASON_ND_MALFORMED;
	}
	if (why != NET_REASON_OK) {
		net_drop_id(w, p, own_m, why);
		return NULL;
	}
	return own_m;
}

/* As ip4.c's: of what is sent to other stations that this node stands before. */
static bool is_captured_kind(const struct rte_mbuf *m, const struct net_rx *rx)
{
	return rx->proto == IPPROTO_TCP || (rx->proto == IPPROTO_ICMPV6 && icmp6_is_error(m, rx));
}

void ip6_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, struct net_rx *rx, struct net_batch *b)
{
	enum net_reason why = header_parse(own_m, rx);
	struct net_frag_info info = {0};
	bool group = false, captured = false;

	if (FOIL_LIKELY(why == NET_REASON_OK)) {
		if (FOIL_UNLIKELY(!net_is_local(w, &rx->dst))) {
			group = is_our_group(&rx->dst);
			captured = !group && net_is_captured(w, &rx->dst);
			if (!group && !captured) {
				net_not_ours(w, p, own_m, NET_REASON_NOT_OURS);
				return;
			}
		}
		why = ours_check(w, p, own_m, rx, group, &info);
	}
	if (FOIL_UNLIKELY(why != NET_REASON_OK)) {
		net_drop_id(w, p, own_m, why);
		return;
	}
	if (FOIL_UNLIKELY(info.is_there)) {
		if (group) {
			net_drop_id(w, p, own_m, NET_REASON_FRAG_MALFORMED);
			return;
		}
		own_m = whole(w, p, own_m, rx, &info);
		if (!own_m)
			return;
	}
	if ((rx->proto != IPPROTO_ICMPV6 && group) || FOIL_UNLIKELY(captured && !is_captured_kind(own_m, rx))) {
		net_not_ours(w, p, own_m, NET_REASON_NOT_OURS);
		return;
	}
	if (rx->l3_len > sizeof(struct rte_ipv6_hdr))
		FOIL_PROBE(w, NET, EXTENSIONS_SKIPPED);
	foil_count(w, NET, IP6_RX, 1);
	if (rx->proto == IPPROTO_ICMPV6)
		icmp6_input(w, p, own_m, rx);
	else
		net_l4_deliver(w, p, own_m, rx, b);
}

void ip6_header_make(struct rte_ipv6_hdr *h, const struct net_addr *src, const struct net_addr *dst, uint8_t proto, uint8_t tos, uint32_t l4_len,
		     uint8_t hops)
{
	struct rte_ipv6_hdr ip = {
		.vtc_flow = rte_cpu_to_be_32(6u << 28 | (uint32_t)tos << 20),
		.payload_len = rte_cpu_to_be_16((uint16_t)l4_len),
		.proto = proto,
		.hop_limits = hops,
	};
	memcpy(ip.src_addr, src->b, 16);
	memcpy(ip.dst_addr, dst->b, 16);
	memcpy(h, &ip, sizeof(ip));
}
