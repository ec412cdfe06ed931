/* ARP (RFC 826, 5227): questions about our addresses are answered and teach us who asked; answers teach us what we asked.
 * It keeps no state: that is neigh.c's. Only stations whose address is on the port's link are learnt, only entries that exist are
 * changed by what nobody asked for, and nobody can claim an address of ours.
 * Invariant: an ARP packet never makes more than one neighbour entry and one answer. */
#include "dataplane/net/net_priv.h"

static const struct rte_ether_addr broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

struct arp_msg {
	uint16_t op;
	struct rte_ether_addr sender_mac;
	struct net_addr sender, target;
};

static bool arp_parse(const struct rte_mbuf *m, uint16_t l2_len, struct arp_msg *out)
{
	struct foil_cur c = cur_of(rte_pktmbuf_mtod_offset(m, const void *, l2_len), m->data_len - l2_len);
	uint16_t hardware = cur_be16(&c), protocol = cur_be16(&c);
	uint8_t hardware_len = cur_u8(&c), protocol_len = cur_u8(&c);

	out->op = cur_be16(&c);
	const uint8_t *sha = cur_bytes(&c, 6), *spa = cur_bytes(&c, 4);
	(void)cur_skip(&c, 6);
	const uint8_t *tpa = cur_bytes(&c, 4);
	if (c.short_read || hardware != RTE_ARP_HRD_ETHER || protocol != RTE_ETHER_TYPE_IPV4 || hardware_len != 6 || protocol_len != 4)
		return false;
	rte_be32_t ip;
	memcpy(out->sender_mac.addr_bytes, sha, 6);
	memcpy(&ip, spa, 4);
	out->sender = net_addr_v4(ip);
	memcpy(&ip, tpa, 4);
	out->target = net_addr_v4(ip);
	return (out->op == RTE_ARP_OP_REQUEST || out->op == RTE_ARP_OP_REPLY) &&
	       !rte_is_multicast_ether_addr(&out->sender_mac) && !rte_is_zero_ether_addr(&out->sender_mac);
}

static void arp_send(struct foil_worker *w, struct net_port *p, const struct rte_ether_addr *to, uint16_t op,
		     const struct rte_ether_addr *target_mac, const struct net_addr *source, const struct net_addr *target)
{
	void *payload;
	struct rte_mbuf *m = eth_frame_new(w, p, to, RTE_ETHER_TYPE_ARP, sizeof(struct rte_arp_hdr), &payload);

	if (!m)
		return;
	struct rte_arp_hdr h = {
		.arp_hardware = RTE_BE16(RTE_ARP_HRD_ETHER),
		.arp_protocol = RTE_BE16(RTE_ETHER_TYPE_IPV4),
		.arp_hlen = 6,
		.arp_plen = 4,
		.arp_opcode = rte_cpu_to_be_16(op),
		.arp_data = {.arp_sha = p->mac, .arp_sip = net_addr_ip4(source), .arp_tip = net_addr_ip4(target)},
	};
	if (target_mac)
		h.arp_data.arp_tha = *target_mac;
	memcpy(payload, &h, sizeof(h));
	port_send(w, p, m);
}

void arp_request(struct foil_worker *w, struct net_port *p, const struct rte_ether_addr *to, const struct net_addr *source,
		 const struct net_addr *target)
{
	foil_count(w, NET, ARP_REQUESTS_TX, 1);
	arp_send(w, p, to ? to : &broadcast, RTE_ARP_OP_REQUEST, NULL, source, target);
}

void arp_probe(struct foil_worker *w, struct net_port *p, const struct net_addr *wanted)
{
	static const struct net_addr nobody = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}};

	arp_request(w, p, NULL, &nobody, wanted);
}

void arp_announce(struct foil_worker *w, struct net_port *p, const struct net_addr *ours)
{
	arp_request(w, p, NULL, ours, ours);
}

/* What the sender says of itself. An RFC 5227 probe says nothing (sender 0.0.0.0). */
static enum net_reason arp_learn(struct foil_worker *w, struct net_port *p, const struct arp_msg *a, bool make)
{
	struct net_neigh *e;

	if (net_addr_ip4(&a->sender) == 0)
		return NET_REASON_OK;
	if (!net_ip4_source_ok(net_addr_ip4(&a->sender)) || !route_is_on_link(w->net, p->index, &a->sender))
		return NET_REASON_ARP_OFF_LINK;
	e = make ? neigh_get(w, p->index, &a->sender, true) : neigh_find(w, p->index, &a->sender);
	if (!e)
		return make ? NET_REASON_NEIGHBOUR_FULL : NET_REASON_ARP_UNSOLICITED;
	neigh_learn(w, e, &a->sender_mac, NEIGH_REACHABLE);
	return NET_REASON_OK;
}

static void arp_request_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct arp_msg *a)
{
	enum net_reason why;

	if (net_addr_eq(&a->sender, &a->target)) { /* gratuitous: somebody moved */
		why = arp_learn(w, p, a, false);
		if (w->net->share)
			w->net->share(w, p, own_m);
		if (why != NET_REASON_OK)
			net_not_ours(w, p, own_m, why);
		else
			net_read(w, p, own_m);
		return;
	}
	if (!net_answers_for(w->net, p->index, &a->target)) {
		net_not_ours(w, p, own_m, NET_REASON_ARP_NOT_OURS);
		return;
	}
	why = arp_learn(w, p, a, true);
	if (why != NET_REASON_OK)
		foil_reason_id(w, NET, why);
	if (why != NET_REASON_ARP_OFF_LINK) {
		foil_count(w, NET, ARP_REPLIES_TX, 1);
		arp_send(w, p, &a->sender_mac, RTE_ARP_OP_REPLY, &a->sender_mac, &a->target, &a->sender);
	}
	rte_pktmbuf_free(own_m);
}

/* RFC 5227 2.1.1, 2.4: somebody says that an address of ours is its own, or probes for one that we are only probing for ourselves. */
static bool is_conflict(struct foil_worker *w, const struct net_port *p, const struct arp_msg *a)
{
	if (net_addr_ip4(&a->sender) != 0)
		return claim_heard(w, p->index, &a->sender, &a->sender_mac, NET_CLAIM_OWN) || net_is_local(w, &a->sender);
	return a->op == RTE_ARP_OP_REQUEST && claim_heard(w, p->index, &a->target, &a->sender_mac, NET_CLAIM_PROBE);
}

void arp_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, uint16_t l2_len)
{
	struct arp_msg a;
	enum net_reason why;

	if (!arp_parse(own_m, l2_len, &a)) {
		net_drop_id(w, p, own_m, NET_REASON_ARP_MALFORMED);
		return;
	}
	foil_count(w, NET, ARP_RX, 1);
	if (is_conflict(w, p, &a)) {
		if (w->net->share)
			w->net->share(w, p, own_m); /* each worker has to know */
		net_drop_id(w, p, own_m, NET_REASON_ADDRESS_CONFLICT);
		return;
	}
	if (a.op == RTE_ARP_OP_REQUEST) {
		arp_request_input(w, p, own_m, &a);
		return;
	}
	why = arp_learn(w, p, &a, false);
	if (w->net->share)
		w->net->share(w, p, own_m);
	if (why != NET_REASON_OK)
		net_not_ours(w, p, own_m, why);
	else
		net_read(w, p, own_m);
}
