/* Ethernet and 802.1Q, both ways: whose frame it is, which VLAN, which protocol. The tag may be in the frame or, taken off by the
 * port, in the mbuf's vlan_tci. It changes no byte of a frame that comes in.
 * Invariant: behind it, rx->l2_len bytes of link header lie in the first segment. */
#include "dataplane/net/net_priv.h"

#define VLAN_ID_MASK 0x0fffu

struct frame {
	const struct rte_ether_hdr *eth;
	uint16_t type, vlan, l2_len;
};

static enum net_reason frame_parse(const struct rte_mbuf *m, struct frame *f)
{
	struct foil_cur c = cur_of(rte_pktmbuf_mtod(m, const void *), m->data_len);

	f->eth = (const struct rte_ether_hdr *)(const void *)c.at;
	(void)cur_skip(&c, 2 * RTE_ETHER_ADDR_LEN); /* a short frame is noticed below */
	f->type = cur_be16(&c);
	f->vlan = 0;
	f->l2_len = sizeof(struct rte_ether_hdr);
	if (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) {
		f->vlan = m->vlan_tci & VLAN_ID_MASK;
	} else if (f->type == RTE_ETHER_TYPE_VLAN) {
		f->vlan = cur_be16(&c) & VLAN_ID_MASK;
		f->type = cur_be16(&c);
		f->l2_len = NET_L2_BYTES_MAX;
	}
	return c.short_read ? NET_REASON_RUNT : NET_REASON_OK;
}

static enum net_reason frame_check(const struct net_port *p, const struct frame *f)
{
	if (rte_is_same_ether_addr(&f->eth->src_addr, &p->mac))
		return NET_REASON_OWN_FRAME;
	if (rte_is_multicast_ether_addr(&f->eth->src_addr) || rte_is_zero_ether_addr(&f->eth->src_addr))
		return NET_REASON_BAD_SOURCE_MAC;
	if (!rte_is_multicast_ether_addr(&f->eth->dst_addr) && !rte_is_same_ether_addr(&f->eth->dst_addr, &p->mac))
		return NET_REASON_NOT_OUR_MAC;
	if (f->vlan != p->vlan)
		return NET_REASON_OTHER_VLAN;
	return NET_REASON_OK;
}

/* Headers that a driver spread over segments (header split, tiny buffers) are brought together, at the price of a copy. */
static struct rte_mbuf *pull_up(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_m)
{
	struct rte_mbuf *copy = rte_pktmbuf_copy(own_m, w->mbuf_pool, 0, UINT32_MAX);

	if (!copy) {
		net_drop_id(w, p, own_m, NET_REASON_NO_MBUF);
		return NULL;
	}
	if (FOIL_UNLIKELY(w->net->capture != NULL))
		capture_moved(w->net->capture, own_m, copy);
	rte_pktmbuf_free(own_m);
	return copy;
}

void eth_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, struct net_batch *b)
{
	struct net_rx rx;
	struct frame f;
	enum net_reason why;

	if (FOIL_UNLIKELY(own_m->nb_segs > 1 && own_m->data_len < NET_HEADERS_BYTES)) {
		own_m = pull_up(w, p, own_m);
		if (!own_m)
			return;
	}
	why = frame_parse(own_m, &f);
	if (FOIL_LIKELY(why == NET_REASON_OK))
		why = frame_check(p, &f);
	if (FOIL_UNLIKELY(why != NET_REASON_OK)) {
		net_drop_id(w, p, own_m, why);
		return;
	}
	rx.l2_len = f.l2_len;
	rx.group = rte_is_multicast_ether_addr(&f.eth->dst_addr);
	switch (f.type) {
	case RTE_ETHER_TYPE_IPV4:
		ip4_input(w, p, own_m, &rx, b);
		return;
	case RTE_ETHER_TYPE_IPV6:
		ip6_input(w, p, own_m, &rx, b);
		return;
	case RTE_ETHER_TYPE_ARP:
		arp_input(w, p, own_m, f.l2_len);
		return;
	default:
		net_not_ours(w, p, own_m, NET_REASON_ETHERTYPE);
		return;
	}
}

static void put_be16(uint8_t *at, uint16_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

uint8_t eth_header_make(const struct net_port *p, const struct rte_ether_addr *to, uint16_t ether_type, uint8_t out[NET_L2_BYTES_MAX])
{
	uint8_t at = 2 * RTE_ETHER_ADDR_LEN;

	memcpy(out, to->addr_bytes, RTE_ETHER_ADDR_LEN);
	memcpy(out + RTE_ETHER_ADDR_LEN, p->mac.addr_bytes, RTE_ETHER_ADDR_LEN);
	if (p->vlan) {
		put_be16(out + at, RTE_ETHER_TYPE_VLAN);
		put_be16(out + at + 2, p->vlan);
		at = (uint8_t)(at + 4);
	}
	put_be16(out + at, ether_type);
	return (uint8_t)(at + 2);
}

struct rte_mbuf *eth_frame_new(struct foil_worker *w, const struct net_port *p, const struct rte_ether_addr *to, uint16_t ether_type,
			       uint16_t n_bytes, void **payload)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->mbuf_pool);
	uint8_t l2[NET_L2_BYTES_MAX];
	uint8_t l2_len = eth_header_make(p, to, ether_type, l2);
	char *at = m ? rte_pktmbuf_append(m, (uint16_t)(l2_len + n_bytes)) : NULL;

	if (!at) {
		foil_reason(w, NET, NO_MBUF);
		rte_pktmbuf_free(m);
		return NULL;
	}
	memcpy(at, l2, l2_len);
	memset(at + l2_len, 0, n_bytes);
	*payload = at + l2_len;
	return m;
}
