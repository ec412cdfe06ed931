/* ICMP for IPv4 (RFC 792, 1122 3.2.2, 1191): echo is answered, errors about packets of ours go to the protocol that sent them, a few
 * errors are sent, at a limited rate. Also what both families share: the rate limit and the way of an error to its protocol.
 * An error is believed only if it quotes a packet from an address of ours; whether the quoted flow exists is the upper protocol's
 * check (RFC 5927 4.1).
 * Invariant: no ICMP error is ever sent about an ICMP error, a fragment but the first, or a packet with a group address at either end. */
#include "dataplane/net/checksum.h"
#include "dataplane/net/net_priv.h"

#define ECHO_REPLY 0u
#define UNREACHABLE 3u
#define ECHO 8u
#define TIME_EXCEEDED 11u
#define PARAMETER 12u
#define UNREACH_PROTOCOL 2u
#define UNREACH_PORT 3u
#define UNREACH_TOO_BIG 4u
#define MTU_MIN 68u                 /* RFC 791 3.2: every link carries that */
#define ERROR_BYTES_MAX 548u        /* RFC 1812 4.3.2.3: the whole datagram within 576 */
#define ERRORS_PER_S 100u
#define ERRORS_BURST 50u

static bool may_send_error(struct foil_worker *w)
{
	struct net_ctx *n = w->net;
	uint64_t elapsed_us = w->now_us - n->icmp_refill_us, n_new = elapsed_us / (1000000 / ERRORS_PER_S);

	if (n_new) {
		n->icmp_tokens = (uint32_t)FOIL_MIN(n->icmp_tokens + n_new, ERRORS_BURST);
		n->icmp_refill_us += n_new * (1000000 / ERRORS_PER_S);
	}
	if (n->icmp_tokens == 0) {
		foil_reason(w, NET, ICMP_RATE_LIMIT);
		return false;
	}
	n->icmp_tokens--;
	return true;
}

static uint32_t quoted_flow_hash(const struct net_icmp_error *e)
{
	struct foil_cur c = cur_of(e->l4, e->n_l4_bytes);
	uint16_t src_port = cur_be16(&c), dst_port = cur_be16(&c);

	return net_flow_hash(&e->src, &e->dst, src_port, dst_port);
}

void net_icmp_error_deliver(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_icmp_error *e, uint8_t proto)
{
	struct net_l4 *l4 = net_l4_of(w->net, proto);

	if (!l4 || !l4->error) {
		net_drop_id(w, p, own_m, NET_REASON_ICMP_IGNORED);
		return;
	}
	if (proto != IPPROTO_TCP && FOIL_UNLIKELY(!net_is_local(w, &e->src))) { /* from captured addresses nothing else goes out */
		net_drop_id(w, p, own_m, NET_REASON_ICMP_NOT_FROM_US);
		return;
	}
	if (w->net->steer && w->net->steer(w, p, own_m, quoted_flow_hash(e))) {
		foil_count(w, NET, STEERED, 1);
		return;
	}
	foil_count(w, NET, ICMP_ERRORS_RX, 1);
	l4->error(w, e);
	rte_pktmbuf_free(own_m);
}

static enum net_reason kind_of(uint8_t type, uint8_t code, uint16_t mtu, struct net_icmp_error *e)
{
	e->kind = NET_ICMP_OTHER;
	if (type == TIME_EXCEEDED) {
		e->kind = NET_ICMP_TIME_EXCEEDED;
	} else if (type == UNREACHABLE && (code == UNREACH_PORT || code == UNREACH_PROTOCOL)) {
		e->kind = NET_ICMP_PORT_UNREACHABLE;
	} else if (type == UNREACHABLE && code == UNREACH_TOO_BIG) {
		e->kind = NET_ICMP_TOO_BIG;
		e->mtu = mtu;
		return mtu < MTU_MIN ? NET_REASON_ICMP_BAD_MTU : NET_REASON_OK;
	} else if (type == UNREACHABLE) {
		e->kind = NET_ICMP_UNREACHABLE;
	}
	return NET_REASON_OK;
}

static enum net_reason error_parse(struct foil_worker *w, struct foil_cur *c, uint8_t type, uint8_t code, struct net_icmp_error *e,
				   uint8_t *proto)
{
	(void)cur_be16(c);
	uint16_t mtu = cur_be16(c); /* RFC 1191 4 */
	const struct rte_ipv4_hdr *h = (const struct rte_ipv4_hdr *)(const void *)cur_bytes(c, sizeof(*h));

	if (!h || h->version_ihl >> 4 != 4 || rte_ipv4_hdr_len(h) < sizeof(*h) || !cur_skip(c, rte_ipv4_hdr_len(h) - sizeof(*h)))
		return NET_REASON_ICMP_MALFORMED;
	if (h->fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK) || cur_left(c) < 8)
		return NET_REASON_ICMP_MALFORMED;
	e->src = net_addr_v4(h->src_addr);
	e->dst = net_addr_v4(h->dst_addr);
	e->l4 = c->at;
	e->n_l4_bytes = (uint16_t)cur_left(c);
	*proto = h->next_proto_id;
	if (!net_is_local(w, &e->src) && !net_is_captured(w, &e->src))
		return NET_REASON_ICMP_NOT_FROM_US;
	return kind_of(type, code, mtu, e);
}

static void echo(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx)
{
	net_rx_strip(own_m, p, rx);
	*rte_pktmbuf_mtod(own_m, uint8_t *) = ECHO_REPLY;
	foil_count(w, NET, ECHO_REPLIES, 1);
	net_ip_output(w, own_m, &rx->dst, &rx->src, IPPROTO_ICMP, rx->tos, NULL);
}

void icmp4_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx)
{
	struct foil_cur c = net_l4_cursor(own_m, rx);
	struct net_icmp_error e = {0};
	uint8_t type = cur_u8(&c), code = cur_u8(&c), proto = 0;
	enum net_reason why = NET_REASON_OK;

	(void)cur_be16(&c); /* checksum */
	if (c.short_read || cur_left(&c) < 4)
		why = NET_REASON_ICMP_MALFORMED;
	else if (!net_rx_checksum_ok(w, p, own_m, rx))
		why = NET_REASON_BAD_CHECKSUM;
	else if (type == UNREACHABLE || type == TIME_EXCEEDED || type == PARAMETER)
		why = error_parse(w, &c, type, code, &e, &proto);
	else if (type != ECHO || code != 0)
		why = NET_REASON_ICMP_IGNORED;
	if (why != NET_REASON_OK)
		net_drop_id(w, p, own_m, why);
	else if (type == ECHO)
		echo(w, p, own_m, rx);
	else
		net_icmp_error_deliver(w, p, own_m, &e, proto);
}

bool icmp4_is_error(const struct rte_mbuf *m, const struct net_rx *rx)
{
	struct foil_cur c = net_l4_cursor(m, rx);
	uint8_t type = cur_u8(&c);

	return type == UNREACHABLE || type == TIME_EXCEEDED || type == PARAMETER;
}

/* RFC 1122 3.2.2: about a question (echo, timestamp) an error may be, about an error never. */
static bool is_error(const struct rte_mbuf *m, const struct net_rx *rx)
{
	struct foil_cur c = net_l4_cursor(m, rx);
	uint8_t type = cur_u8(&c);

	return rx->proto == IPPROTO_ICMP && (c.short_read || (type != ECHO_REPLY && type != ECHO && (type < 13 || type > 18)));
}

void net_icmp_send_error(struct foil_worker *w, const struct rte_mbuf *about, const struct net_rx *rx, struct net_icmp_what what, uint32_t quote_bytes_max,
			 const struct net_addr *from)
{
	uint32_t n_bytes = FOIL_MIN(FOIL_MIN((uint32_t)about->data_len - rx->l2_len, rx->l3_len + rx->l4_len), quote_bytes_max);
	rte_be32_t word = rte_cpu_to_be_32(what.word);

	if (!may_send_error(w))
		return;
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->mbuf_pool);
	uint8_t *at = m ? (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(8 + n_bytes)) : NULL;
	if (!at) {
		foil_reason(w, NET, NO_MBUF);
		rte_pktmbuf_free(m);
		return;
	}
	memset(at, 0, 8);
	at[0] = what.type;
	at[1] = what.code;
	memcpy(at + 4, &word, 4);
	memcpy(at + 8, rte_pktmbuf_mtod_offset(about, const uint8_t *, rx->l2_len), n_bytes);
	foil_count(w, NET, ICMP_ERRORS_TX, 1);
	net_ip_output(w, m, from, &rx->src, net_addr_is_v4(from) ? IPPROTO_ICMP : IPPROTO_ICMPV6, 0, NULL);
}

void icmp4_error(struct foil_worker *w, const struct rte_mbuf *about, const struct net_rx *rx, struct net_icmp_what what)
{
	if (!rx->group && !is_error(about, rx))
		net_icmp_send_error(w, about, rx, what, ERROR_BYTES_MAX, &rx->dst);
}
