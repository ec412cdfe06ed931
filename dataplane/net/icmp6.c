/* ICMPv6 (RFC 4443, 8201): echo is answered, errors about packets of ours go to the protocol that sent them, a few errors are sent
 * at the rate limit of icmp4.c; neighbour discovery goes to nd.c.
 * Invariant: no ICMPv6 error is ever sent about an error or a packet with a group address at either end. */
#include "dataplane/net/net_priv.h"

#define UNREACHABLE 1u
#define TOO_BIG 2u
#define TIME_EXCEEDED 3u
#define PARAMETER 4u
#define UNREACH_PORT 4u
#define PARAMETER_NEXT_HEADER 1u
#define PARAMETER_OPTION 2u
#define ECHO 128u
#define ECHO_REPLY 129u
#define MLD_QUERY 130u
#define ND_FIRST 133u
#define ND_LAST 137u
#define MTU_MIN 1280u               /* RFC 8201 4 */
#define ERROR_QUOTE_MAX 1232u       /* RFC 4443 2.4 c: the whole packet within 1280 */

static enum net_reason kind_of(uint8_t type, uint8_t code, uint32_t value, struct net_icmp_error *e)
{
	e->kind = NET_ICMP_OTHER;
	if (type == TIME_EXCEEDED) {
		e->kind = NET_ICMP_TIME_EXCEEDED;
	} else if (type == UNREACHABLE) {
		e->kind = code == UNREACH_PORT ? NET_ICMP_PORT_UNREACHABLE : NET_ICMP_UNREACHABLE;
	} else if (type == PARAMETER && code == PARAMETER_NEXT_HEADER) {
		e->kind = NET_ICMP_PORT_UNREACHABLE; /* nobody there speaks the protocol */
	} else if (type == TOO_BIG) {
		e->kind = NET_ICMP_TOO_BIG;
		e->mtu = (uint16_t)FOIL_MIN(value, UINT16_MAX);
		return value < MTU_MIN ? NET_REASON_ICMP_BAD_MTU : NET_REASON_OK;
	}
	return NET_REASON_OK;
}

/* We send no extension headers, so the quoted upper protocol follows the fixed header. */
static enum net_reason error_parse(struct foil_worker *w, struct foil_cur *c, uint8_t type, uint8_t code, struct net_icmp_error *e,
				   uint8_t *proto)
{
	uint32_t value = cur_be32(c), first = cur_be32(c);

	(void)cur_be16(c); /* payload length */
	*proto = cur_u8(c);
	(void)cur_u8(c); /* hop limit */
	const uint8_t *src = cur_bytes(c, 16), *dst = cur_bytes(c, 16);
	if (c->short_read || first >> 28 != 6 || cur_left(c) < 8)
		return NET_REASON_ICMP_MALFORMED;
	e->src = net_addr_v6(src);
	e->dst = net_addr_v6(dst);
	e->l4 = c->at;
	e->n_l4_bytes = (uint16_t)cur_left(c);
	if ((!net_is_local(w, &e->src) && !net_is_captured(w, &e->src)) || net_addr_is_v4(&e->src))
		return NET_REASON_ICMP_NOT_FROM_US;
	return kind_of(type, code, value, e);
}

static void echo(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx)
{
	net_rx_strip(own_m, p, rx);
	*rte_pktmbuf_mtod(own_m, uint8_t *) = ECHO_REPLY;
	foil_count(w, NET, ECHO_REPLIES, 1);
	net_ip_output(w, own_m, &rx->dst, &rx->src, IPPROTO_ICMPV6, rx->tos, NULL);
}

static void error_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, struct foil_cur *c, uint8_t type, uint8_t code)
{
	struct net_icmp_error e = {0};
	uint8_t proto = 0;
	enum net_reason why = error_parse(w, c, type, code, &e, &proto);

	if (why != NET_REASON_OK)
		net_drop_id(w, p, own_m, why);
	else
		net_icmp_error_deliver(w, p, own_m, &e, proto);
}

void icmp6_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx)
{
	struct foil_cur c = net_l4_cursor(own_m, rx);
	uint8_t type = cur_u8(&c), code = cur_u8(&c);
	bool group = rx->dst.b[0] == 0xff, nobody = net_addr_is_zero(&rx->src);

	(void)cur_be16(&c); /* checksum */
	if (c.short_read || cur_left(&c) < 4)
		net_drop_id(w, p, own_m, NET_REASON_ICMP_MALFORMED);
	else if (!net_rx_checksum_ok(w, p, own_m, rx))
		net_drop_id(w, p, own_m, NET_REASON_BAD_CHECKSUM);
	else if (type >= ND_FIRST && type <= ND_LAST)
		nd_input(w, p, own_m, rx, type);
	else if (type == MLD_QUERY)
		mld_input(w, p, own_m, rx);
	else if (nobody)
		net_drop_id(w, p, own_m, NET_REASON_IP6_BAD_SOURCE);
	else if (type == ECHO && code == 0 && !group)
		echo(w, p, own_m, rx);
	else if (type >= UNREACHABLE && type <= PARAMETER && !group)
		error_input(w, p, own_m, &c, type, code);
	else
		net_drop_id(w, p, own_m, NET_REASON_ICMP_IGNORED);
}

bool icmp6_is_error(const struct rte_mbuf *m, const struct net_rx *rx)
{
	struct foil_cur c = net_l4_cursor(m, rx);
	uint8_t type = cur_u8(&c);

	return type >= UNREACHABLE && type <= PARAMETER;
}

static bool is_error(const struct rte_mbuf *m, const struct net_rx *rx)
{
	struct foil_cur c = net_l4_cursor(m, rx);

	return rx->proto == IPPROTO_ICMPV6 && (cur_u8(&c) < ECHO || c.short_read);
}

void icmp6_error(struct foil_worker *w, const struct rte_mbuf *about, const struct net_rx *rx, struct net_icmp_what what)
{
	bool to_group = rx->group || rx->dst.b[0] == 0xff, is_option = what.type == PARAMETER && what.code == PARAMETER_OPTION;
	struct net_addr from = rx->dst;

	if ((to_group && !is_option) || net_addr_is_zero(&rx->src) || is_error(about, rx)) /* RFC 4443 2.4 e */
		return;
	if (!to_group || net_source_for(w, &rx->src, &from))
		net_icmp_send_error(w, about, rx, what, ERROR_QUOTE_MAX, &from);
}
