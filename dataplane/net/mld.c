/* Multicast listener discovery, the listener's side (RFC 3810, 2710): switches that look on forward a group only to ports from which somebody told of it,
 * so our solicited-node groups (RFC 4291 2.7.1) are reported, or after some minutes nobody would find our IPv6 addresses any more. At the start twice, and
 * when a querier asks. We have no link-local address, and so speak from the unspecified one: switches learn from that (RFC 3590), and routers need not know
 * of these groups.
 * Invariant: one report at most is under way; a query never makes more packets than we have groups. */
#include "dataplane/net/checksum.h"
#include "dataplane/net/net_priv.h"

#define QUERY 130u
#define REPORT_V1 131u
#define REPORT_V2 143u
#define IS_EXCLUDE 2u        /* record types, RFC 3810 5.2.12: all sources wanted, as asked or from now on */
#define TO_EXCLUDE 4u
#define RECORD_BYTES 20u     /* no sources */
#define HEAD_BYTES 8u        /* of a report */
#define ALERT_BYTES 8u       /* hop-by-hop header with the router alert option, RFC 2711 */
#define QUERY_V1_BYTES 24u
#define QUERY_V2_BYTES 28u
#define UNSOLICITED_US 1000000u /* RFC 3810 9.11 */
#define RECORDS_MAX 50u      /* a report with more goes in several packets: they fit the smallest link */

struct mld_report {
	struct net_addr groups[RECORDS_MAX];
	uint16_t n_groups;
	uint8_t record_type;
};

/* Sends one message behind a router alert; payload: what follows type, code and checksum. */
static void mld_send(struct foil_worker *w, struct net_port *p, const struct net_addr *to, uint8_t type, const uint8_t *body, uint16_t n_body)
{
	static const struct net_addr nobody;
	static const uint8_t alert[ALERT_BYTES] = {IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0};
	struct rte_ether_addr mac = net_group_mac(to);
	uint16_t n_msg = (uint16_t)(4 + n_body), n_ip = (uint16_t)(ALERT_BYTES + n_msg);
	void *payload;
	struct rte_mbuf *m = eth_frame_new(w, p, &mac, RTE_ETHER_TYPE_IPV6, (uint16_t)(sizeof(struct rte_ipv6_hdr) + n_ip), &payload);

	if (!m)
		return;
	uint8_t *msg = (uint8_t *)payload + sizeof(struct rte_ipv6_hdr) + ALERT_BYTES;
	ip6_header_make(payload, &nobody, to, 0 /* hop-by-hop options */, 0, n_ip, 1);
	memcpy(msg - ALERT_BYTES, alert, sizeof(alert));
	memset(msg, 0, 4);
	msg[0] = type;
	memcpy(msg + 4, body, n_body);
	uint16_t sum = net_sum_fold(net_sum_pseudo(&nobody, to, IPPROTO_ICMPV6, n_msg) + net_sum(msg, n_msg));
	memcpy(msg + 2, &sum, 2);
	foil_count(w, NET, MLD_REPORTS_TX, 1);
	port_send(w, p, m);
}

static void send_v2(struct foil_worker *w, struct net_port *p, struct mld_report *r)
{
	static const struct net_addr routers = {{0xff, 2, [15] = 0x16}}; /* all MLDv2-capable routers */
	uint8_t body[4 + RECORDS_MAX * RECORD_BYTES] = {0, 0, (uint8_t)(r->n_groups >> 8), (uint8_t)r->n_groups};

	for (uint16_t i = 0; i < r->n_groups; i++) {
		uint8_t *at = body + 4 + i * RECORD_BYTES;
		at[0] = r->record_type;
		memcpy(at + 4, r->groups[i].b, 16);
	}
	if (r->n_groups)
		mld_send(w, p, &routers, REPORT_V2, body, (uint16_t)(4 + r->n_groups * RECORD_BYTES));
	r->n_groups = 0;
}

static void send_v1(struct foil_worker *w, struct net_port *p, struct mld_report *r)
{
	uint8_t body[20] = {0};

	for (uint16_t i = 0; i < r->n_groups; i++) {
		memcpy(body + 4, r->groups[i].b, 16);
		mld_send(w, p, &r->groups[i], REPORT_V1, body, sizeof(body));
	}
	r->n_groups = 0;
}

static void send_groups(struct foil_worker *w, struct net_port *p, struct mld_report *r)
{
	if (w->net->mld_v1)
		send_v1(w, p, r);
	else
		send_v2(w, p, r);
}

static void add(struct foil_worker *w, struct net_port *p, struct mld_report *r, const struct net_addr *ours)
{
	struct net_addr group = net_solicited_group(ours);

	for (uint16_t i = 0; i < r->n_groups; i++)
		if (net_addr_eq(&r->groups[i], &group))
			return;
	r->groups[r->n_groups++] = group;
	if (r->n_groups == RECORDS_MAX)
		send_groups(w, p, r);
}

static void report(struct foil_worker *w, struct net_port *p, uint8_t record_type)
{
	struct net_ctx *n = w->net;
	struct mld_report r = {.record_type = record_type};

	for (uint16_t i = 0; i < n->n_locals; i++)
		if (!n->locals[i].v4 && n->locals[i].port == p->index && n->locals[i].state != NET_ADDRESS_DUPLICATE)
			add(w, p, &r, &n->locals[i].addr);
	for (uint16_t i = n->n_locals; i < n->n_ours && n->services_answer_arp; i++) {
		struct net_addr a;
		memcpy(a.b, n->ours[i].value, sizeof(a.b));
		if ((n->ours[i].mask[0] & n->ours[i].mask[1]) == UINT64_MAX && !net_addr_is_v4(&a)) /* of a range, the groups cannot be told one by one */
			add(w, p, &r, &a);
	}
	send_groups(w, p, &r);
}

static void report_everywhere(struct foil_worker *w, uint8_t record_type)
{
	for (uint16_t i = 0; i < w->net->n_ports; i++)
		report(w, w->net->ports[i], record_type);
}

static void mld_timer(struct foil_worker *w, struct foil_timer *t)
{
	struct net_ctx *n = w->net;
	bool is_asked = n->mld_asked;

	n->mld_asked = false;
	report_everywhere(w, is_asked ? IS_EXCLUDE : TO_EXCLUDE);
}

void mld_start(struct foil_worker *w)
{
	struct net_ctx *n = w->net;

	if (w->id != 0) /* one worker speaks for all, as in claim.c */
		return;
	report_everywhere(w, TO_EXCLUDE);
	n->mld_due_us = w->now_us + foil_prng_below(&w->prng, UNSOLICITED_US); /* and once more: RFC 3810 6.1, Robustness Variable 2 */
	foil_timer_arm(w, &n->mld_timer, n->mld_due_us, mld_timer);
}

void mld_fini(struct foil_worker *w, struct net_ctx *n)
{
	foil_timer_cancel(w, &n->mld_timer);
}

/* RFC 3810 5.1.3: from 32768 on a mantissa and an exponent. Milliseconds. */
static uint32_t delay_ms(uint16_t code)
{
	return code < 32768 ? code : (uint32_t)((code & 0xfff) | 0x1000) << (((code >> 12) & 7) + 3);
}

void mld_input(struct foil_worker *w, struct net_port *p, struct rte_mbuf *own_m, const struct net_rx *rx)
{
	struct net_ctx *n = w->net;
	struct foil_cur c = net_l4_cursor(own_m, rx);

	(void)cur_be32(&c); /* type, code, checksum: the caller's */
	uint16_t code = cur_be16(&c);
	bool is_v1 = rx->l4_len == QUERY_V1_BYTES, from_router = net_addr_is_link_local(&rx->src);
	if (c.short_read || rx->ttl != 1 || !from_router || (!is_v1 && rx->l4_len < QUERY_V2_BYTES)) {
		net_drop_id(w, p, own_m, NET_REASON_MLD_MALFORMED);
		return;
	}
	foil_count(w, NET, MLD_QUERIES_RX, 1);
	uint64_t at_us = w->now_us + (uint64_t)foil_prng_below(&w->prng, FOIL_MAX(delay_ms(code), 1u)) * 1000;
	n->mld_v1 = is_v1; /* the last querier's version; a v2 one takes over again (RFC 3810 8.2.1 waits longer, for hosts with sources) */
	n->mld_asked = true;
	if (!foil_timer_is_armed(&n->mld_timer) || at_us < n->mld_due_us) {
		n->mld_due_us = at_us;
		foil_timer_arm(w, &n->mld_timer, at_us, mld_timer);
	}
	net_read(w, p, own_m);
}
