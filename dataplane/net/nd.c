/* IPv6 neighbour discovery for a host with fixed addresses (RFC 4861 4.3, 4.4, 7.1, 7.2): solicitations about our addresses are
 * answered, advertisements teach us what we asked. No router discovery, no redirects, no address configuration: the node file says
 * it all. It keeps no state: that is neigh.c's.
 * The checksum was verified before; hop limit 255 is what keeps other links' hosts out.
 * Invariant: one message never makes more than one neighbour entry and one answer. */
#include "dataplane/net/checksum.h"
#include "dataplane/net/net_priv.h"

#define ND_NS 135u
#define ND_NA 136u
#define ND_OPT_SLLA 1u
#define ND_OPT_TLLA 2u
#define ND_NA_SOLICITED 0x40000000u
#define ND_NA_OVERRIDE 0x20000000u
#define ND_OPTIONS_MAX 16u
#define ND_MSG_BYTES 32u /* header, target, one link-layer address option */

static const struct net_addr all_nodes = {{0xff, 2, [15] = 1}};

struct nd_msg {
	uint32_t flags;
	struct net_addr target;
	const uint8_t *slla, *tlla; /* NULL: option not there */
};

static bool nd_options(struct foil_cur *c, struct nd_msg *out)
{
	for (unsigned int i = 0; cur_left(c) > 0; i++) {
		uint8_t type = cur_u8(c), units = cur_u8(c);
		const uint8_t *body = units ? cur_bytes(c, (size_t)units * 8 - 2) : NULL;

		if (!body || i == ND_OPTIONS_MAX)
			return false;
		if (type == ND_OPT_SLLA && units == 1)
			out->slla = body;
		else if (type == ND_OPT_TLLA && units == 1)
			out->tlla = body;
	}
	return true;
}

static bool nd_parse(const struct rte_mbuf *m, const struct net_rx *rx, struct nd_msg *out)
{
	struct foil_cur c = net_l4_cursor(m, rx);
	const uint8_t *target;

	memset(out, 0, sizeof(*out));
	(void)cur_u8(&c); /* type: the caller's */
	uint8_t code = cur_u8(&c);
	(void)cur_be16(&c);
	out->flags = cur_be32(&c);
	target = cur_bytes(&c, 16);
	if (!target || rx->ttl != 255 || code != 0 || cur_left(&c) != rx->l4_len - 24)
		return false;
	out->target = net_addr_v6(target);
	return nd_options(&c, out) && out->target.b[0] != 0xff;
}

static bool mac_of(const uint8_t *option, struct rte_ether_addr *out)
{
	if (!option)
		return false;
	memcpy(out->addr_bytes, option, RTE_ETHER_ADDR_LEN);
	return !rte_is_multicast_ether_addr(out) && !rte_is_zero_ether_addr(out);
}

struct rte_ether_addr net_group_mac(const struct net_addr *group)
{
	struct rte_ether_addr mac = {{0x33, 0x33}}; /* RFC 2464 7 */

	memcpy(mac.addr_bytes + 2, group->b + 12, 4);
	return mac;
}

struct net_addr net_solicited_group(const struct net_addr *a)
{
	return (struct net_addr){{0xff, 2, [11] = 1, 0xff, a->b[13], a->b[14], a->b[15]}};
}

/* Without a source (duplicate address detection) there is no link-layer address option (RFC 4861 4.3). */
static void nd_send(struct foil_worker *w, struct net_port *p, const struct rte_ether_addr *mac, const struct net_addr *src,
		    const struct net_addr *dst, uint8_t type, uint32_t flags, const struct net_addr *target)
{
	void *payload;
	bool has_option = !net_addr_is_zero(src);
	uint16_t n_bytes = has_option ? ND_MSG_BYTES : ND_MSG_BYTES - 8;
	struct rte_mbuf *m = eth_frame_new(w, p, mac, RTE_ETHER_TYPE_IPV6, (uint16_t)(sizeof(struct rte_ipv6_hdr) + n_bytes), &payload);

	if (!m)
		return;
	uint8_t *msg = (uint8_t *)payload + sizeof(struct rte_ipv6_hdr);
	rte_be32_t f = rte_cpu_to_be_32(flags);
	ip6_header_make(payload, src, dst, IPPROTO_ICMPV6, 0, n_bytes, 255);
	msg[0] = type;
	memcpy(msg + 4, &f, 4);
	memcpy(msg + 8, target->b, 16);
	if (has_option) {
		msg[24] = type == ND_NS ? ND_OPT_SLLA : ND_OPT_TLLA;
		msg[25] = 1;
		memcpy(msg + 26, p->mac.addr_bytes, RTE_ETHER_ADDR_LEN);
	}
	uint16_t sum = net_sum_fold(net_sum_pseudo(src, dst, IPPROTO_ICMPV6, n_bytes) + net_sum(msg, n_bytes));
	memcpy(msg + 2, &sum, 2);
	port_send(w, p, m);
}

void nd_solicit(struct foil_worker *w, struct net_port *p, const struct rte_ether_addr *to, const struct net_addr *source,
		const struct net_addr *target)
{
	struct net_addr dst = net_solicited_group(target);
	struct rte_ether_addr mac = net_group_mac(&dst);

	foil_count(w, NET, ND_SOLICITS_TX, 1);
	nd_send(w, p, to ? to : &mac, source, to ? target : &dst, ND_NS, 0, target);
}

void nd_probe(struct foil_worker *w, struct net_port *p, const struct net_addr *wanted)
{
	static const struct net_addr nobody;

	nd_solicit(w, p, NULL, &nobody, wanted);
}

void nd_announce(struct foil_worker *w, struct net_port *p, const struct net_addr *ours)
{
	struct rte_ether_addr mac = net_group_mac(&all_nodes);

	foil_count(w, NET, ND_ADVERTS_TX, 1);
	nd_send(w, p, &mac, ours, &all_nodes, ND_NA, ND_NA_OVERRIDE, ours);
}

static void ns_learn(struct foil_worker *w, struct net_port *p, const struct net_rx *rx, const struct rte_ether_addr *mac)
{
	struct net_neigh *e;

	if (!route_is_on_link(w->net, p->index, &rx->src)) {
		foil_reason(w, NET, ND_OFF_LINK);
		return;
	}
	e = neigh_get(w, p->index, &rx->src, true);
	if (!e)
		foil_reason(w, NET, NEIGHBOUR_FULL);
	else if (!neigh_mac_is(e, mac)) /* RFC 4861 7.2.3: known ones keep their state */
		neigh_learn(w, e, mac, NEIGH_STALE);
}

static enum net_reason ns_input(struct foil_worker *w, struct net_port *p, const struct rte_mbuf *m, const struct net_rx *rx,
				const struct nd_msg *s)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	bool probe = net_addr_is_zero(&rx->src); /* somebody's duplicate address detection */
	struct rte_ether_addr mac;

	if (probe && (s->slla || !(rx->dst.b[0] == 0xff && rx->dst.b[11] == 1 && rx->dst.b[12] == 0xff)))
		return NET_REASON_ND_MALFORMED; /* RFC 4861 7.1.1 */
	if (probe && claim_heard(w, p->index, &s->target, &eth->src_addr, NET_CLAIM_PROBE))
		return NET_REASON_ADDRESS_CONFLICT; /* RFC 4862 5.4.3 */
	if (!net_answers_for(w->net, p->index, &s->target))
		return NET_REASON_ND_NOT_OURS;
	uint32_t override = claim_is_optimistic(w->net, p->index, &s->target) ? 0 : ND_NA_OVERRIDE; /* RFC 4429 3.3 */
	foil_count(w, NET, ND_ADVERTS_TX, 1);
	if (probe) {
		mac = net_group_mac(&all_nodes);
		nd_send(w, p, &mac, &s->target, &all_nodes, ND_NA, override, &s->target);
		return NET_REASON_OK;
	}
	if (mac_of(s->slla, &mac))
		ns_learn(w, p, rx, &mac);
	else
		mac = eth->src_addr;
	nd_send(w, p, &mac, &s->target, &rx->src, ND_NA, ND_NA_SOLICITED | override, &s->target);
	return NET_REASON_OK;
}

/* RFC 4861 7.2.5. */
static enum net_reason na_input(struct foil_worker *w, struct net_port *p, const struct rte_mbuf *m, const struct net_rx *rx, const struct nd_msg *a)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	struct net_neigh *e = neigh_find(w, p->index, &a->target);
	bool solicited = a->flags & ND_NA_SOLICITED;
	enum neigh_state next = solicited ? NEIGH_REACHABLE : NEIGH_STALE;
	struct rte_ether_addr mac;
	bool has_mac = mac_of(a->tlla, &mac);

	if (rx->dst.b[0] == 0xff && solicited)
		return NET_REASON_ND_MALFORMED;
	if (!net_addr_eq(&rx->src, &a->target) && net_is_local(w, &rx->src))
		return NET_REASON_IP6_BAD_SOURCE; /* ip6.c lets our own address pass for what it may say of itself */
	if (claim_heard(w, p->index, &a->target, has_mac ? &mac : &eth->src_addr, NET_CLAIM_OWN) || net_is_local(w, &a->target))
		return NET_REASON_ADDRESS_CONFLICT;
	if (!e)
		return NET_REASON_ND_UNSOLICITED;
	if (e->state < NEIGH_REACHABLE) {
		if (!has_mac)
			return NET_REASON_ND_MALFORMED;
		neigh_learn(w, e, &mac, next);
		return NET_REASON_OK;
	}
	if (!has_mac)
		memcpy(mac.addr_bytes, e->l2, RTE_ETHER_ADDR_LEN);
	if (neigh_mac_is(e, &mac)) {
		if (solicited)
			neigh_learn(w, e, &mac, NEIGH_REACHABLE);
	} else if (a->flags & ND_NA_OVERRIDE) {
		neigh_learn(w, e, &mac, next);
	} else if (e->state == NEIGH_REACHABLE) {
		e->fresh_until_us = 0; /* probed at its next use */
	}
	return NET_REASON_OK;
}

void nd_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx, uint8_t type)
{
	struct nd_msg msg;
	enum net_reason why;

	if (type != ND_NS && type != ND_NA) {
		net_not_ours(w, p, own_m, NET_REASON_ND_IGNORED);
		return;
	}
	if (!nd_parse(own_m, rx, &msg)) {
		net_drop_id(w, p, own_m, NET_REASON_ND_MALFORMED);
		return;
	}
	foil_count(w, NET, ND_RX, 1);
	why = type == ND_NS ? ns_input(w, p, own_m, rx, &msg) : na_input(w, p, own_m, rx, &msg);
	if ((type == ND_NA || why == NET_REASON_ADDRESS_CONFLICT) && w->net->share)
		w->net->share(w, p, own_m);
	if (why == NET_REASON_OK && type == ND_NA && rx->dst.b[0] == 0xff)
		net_read(w, p, own_m); /* to all nodes */
	else if (why == NET_REASON_OK)
		rte_pktmbuf_free(own_m);
	else if (why == NET_REASON_ND_NOT_OURS || why == NET_REASON_ND_UNSOLICITED)
		net_not_ours(w, p, own_m, why);
	else
		net_drop_id(w, p, own_m, why);
}
