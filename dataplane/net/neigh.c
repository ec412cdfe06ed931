/* Neighbours: who has which link-layer address, packets that wait for it, ageing and probing (RFC 4861 7.3; IPv4 by the same rules
 * over ARP, RFC 1122 2.3.2). It decides when to ask; arp.c and nd.c ask and tell it what they heard.
 * The table is a fixed array with chained buckets, keyed by SipHash because strangers choose the addresses. A full table gives an
 * entry of a sample away, the unanswered before the known, the least recently used first; what a struct net_dst remembers is checked
 * by the entry's generation.
 * Invariant: an entry in INCOMPLETE or PROBE has its timer armed, no other has; packets wait in INCOMPLETE only. */
#include "dataplane/net/net_priv.h"

#include <errno.h>
#include <stdlib.h>

#define NEIGH_SAMPLE 16u                   /* entries looked at for a victim */
#define NEIGH_DOUBT_US 200000u             /* time to answer for a neighbour whose address another one claims */
#define NEIGH_LEARNT_IDLE_US 60000000u     /* what nobody asked for displaces only what was unused that long */

static void neigh_timer(struct foil_worker *w, struct foil_timer *t);

int neigh_init(struct foil_worker *w, struct net_ctx *n, uint32_t max)
{
	uint32_t n_buckets = 16;

	n->n_neigh = max ? max : 4096;
	while (n_buckets < n->n_neigh)
		n_buckets *= 2;
	n->bucket_mask = n_buckets - 1;
	n->neigh = calloc(n->n_neigh, sizeof(*n->neigh));
	n->buckets = calloc(n_buckets, sizeof(*n->buckets));
	n->pending = calloc(NET_PENDING_MAX, sizeof(*n->pending));
	if (!n->neigh || !n->buckets || !n->pending)
		return -ENOMEM;
	for (uint32_t i = 0; i < n_buckets; i++)
		n->buckets[i] = NET_NONE;
	for (uint32_t i = 0; i < n->n_neigh; i++)
		n->neigh[i].next = i + 1 < n->n_neigh ? i + 1 : NET_NONE;
	for (uint32_t i = 0; i < NET_PENDING_MAX; i++)
		n->pending[i].next = i + 1 < NET_PENDING_MAX ? i + 1 : NET_NONE;
	n->neigh_free = n->pending_free = 0;
	return 0;
}

static uint32_t *bucket_of(struct foil_worker *w, uint16_t port, const struct net_addr *a)
{
	struct {
		struct net_addr addr;
		uint64_t port;
	} key = {*a, port};

	return &w->net->buckets[foil_siphash(&w->secret, &key, sizeof(key)) & w->net->bucket_mask];
}

struct net_neigh *neigh_find(struct foil_worker *w, uint16_t port, const struct net_addr *a)
{
	struct net_ctx *n = w->net;

	for (uint32_t i = *bucket_of(w, port, a); i != NET_NONE; i = n->neigh[i].next)
		if (n->neigh[i].port == port && net_addr_eq(&n->neigh[i].addr, a))
			return &n->neigh[i];
	return NULL;
}

/* Takes the waiting packets off e; the list stays linked through pending[]. */
static uint32_t queue_take(struct net_neigh *e)
{
	uint32_t head = e->n_queued ? e->queue_head : NET_NONE;

	e->n_queued = 0;
	return head;
}

/* Gives a list element back; returns its packet and steps *at. */
static struct rte_mbuf *pending_pop(struct net_ctx *n, uint32_t *at)
{
	uint32_t i = *at;
	struct rte_mbuf *m = n->pending[i].pkt;

	*at = n->pending[i].next;
	n->pending[i] = (struct net_pending){NULL, n->pending_free};
	n->pending_free = i;
	return m;
}

static void neigh_unlink(struct foil_worker *w, struct net_neigh *e)
{
	struct net_ctx *n = w->net;
	uint32_t self = (uint32_t)(e - n->neigh), *at = bucket_of(w, e->port, &e->addr);

	while (*at != self)
		at = &n->neigh[*at].next;
	*at = e->next;
	e->state = NEIGH_FREE;
	e->generation = 0;
}

/* Who goes first: who did not answer, or has not yet, since whoever sends from addresses that do not exist makes such entries and no
 * others (RFC 6583 4); then who has a link-layer address; last who is being asked again while in use. */
static uint32_t evict_rank(const struct net_neigh *e)
{
	static const uint8_t ranks[] = {[NEIGH_NEW] = 1, [NEIGH_INCOMPLETE] = 1, [NEIGH_STALE] = 2, [NEIGH_REACHABLE] = 2, [NEIGH_PROBE] = 3};

	return ranks[e->state];
}

static bool may_evict(const struct foil_worker *w, const struct net_neigh *e, bool learnt)
{
	if (!learnt)
		return true;
	if (e->state == NEIGH_INCOMPLETE)
		return e->n_tries > 1;
	return e->state != NEIGH_PROBE && w->now_us - e->used_us >= NEIGH_LEARNT_IDLE_US;
}

static struct net_neigh *neigh_evict(struct foil_worker *w, bool learnt)
{
	struct net_ctx *n = w->net;
	struct net_neigh *victim = NULL;

	for (uint32_t i = 0; i < FOIL_MIN(NEIGH_SAMPLE, n->n_neigh); i++) {
		struct net_neigh *e = &n->neigh[n->neigh_hand];

		n->neigh_hand = n->neigh_hand + 1 < n->n_neigh ? n->neigh_hand + 1 : 0;
		if (!may_evict(w, e, learnt))
			continue;
		if (!victim || evict_rank(e) < evict_rank(victim) || (evict_rank(e) == evict_rank(victim) && e->used_us < victim->used_us))
			victim = e;
	}
	if (!victim)
		return NULL;
	if (victim->state == NEIGH_INCOMPLETE)
		FOIL_PROBE(w, NET, NEIGH_EVICTED_ASKED);
	for (uint32_t at = queue_take(victim); at != NET_NONE;) {
		rte_pktmbuf_free(pending_pop(n, &at));
		foil_reason(w, NET, NEIGHBOUR_QUEUE_FULL);
	}
	foil_timer_cancel(w, &victim->timer);
	neigh_unlink(w, victim);
	foil_count(w, NET, NEIGHBOUR_EVICTIONS, 1);
	return victim;
}

struct net_neigh *neigh_get(struct foil_worker *w, uint16_t port, const struct net_addr *a, bool learnt)
{
	struct net_ctx *n = w->net;
	struct net_neigh *e = neigh_find(w, port, a);
	uint32_t *bucket;

	if (e)
		return e;
	if (n->neigh_free != NET_NONE) {
		e = &n->neigh[n->neigh_free];
		n->neigh_free = e->next;
		foil_count(w, NET, NEIGHBOURS, 1);
	} else {
		e = neigh_evict(w, learnt);
		if (!e)
			return NULL;
	}
	if (++n->generation == 0)
		n->generation = 1; /* 0 says "not looked up" */
	bucket = bucket_of(w, port, a);
	*e = (struct net_neigh){.state = NEIGH_NEW, .generation = n->generation, .port = port, .addr = *a, .next = *bucket,
				.used_us = w->now_us};
	*bucket = (uint32_t)(e - n->neigh);
	return e;
}

static void neigh_ask(struct foil_worker *w, struct net_neigh *e)
{
	struct net_ctx *n = w->net;
	struct net_port *p = n->ports[e->port];
	struct rte_ether_addr mac;
	const struct rte_ether_addr *to = NULL;
	struct net_addr source;

	if (!route_source(n, e->port, &e->addr, &source)) {
		foil_reason(w, NET, NO_SOURCE);
		return;
	}
	if (e->state == NEIGH_PROBE) {
		memcpy(&mac, e->l2, sizeof(mac));
		to = &mac;
	}
	if (net_addr_is_v4(&e->addr))
		arp_request(w, p, to, &source, &e->addr);
	else
		nd_solicit(w, p, to, &source, &e->addr);
}

static void neigh_begin(struct foil_worker *w, struct net_neigh *e, enum neigh_state state)
{
	e->state = (uint8_t)state;
	e->n_tries = 1;
	neigh_ask(w, e);
	foil_timer_arm(w, &e->timer, w->now_us + NET_NEIGH_RETRY_US, neigh_timer);
}

/* Tells the packet's owner that it will not arrive. m lies at its IP header, which is ours and whole. */
static void report_unreachable(struct foil_worker *w, const struct net_port *p, struct rte_mbuf *own_m)
{
	const uint8_t *h = rte_pktmbuf_mtod(own_m, const uint8_t *);
	struct net_icmp_error e = {.kind = NET_ICMP_UNREACHABLE};
	bool v4 = h[0] >> 4 == 4;
	uint16_t l3_len = v4 ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr);
	struct net_l4 *l4 = net_l4_of(w->net, v4 ? h[9] : h[6]);

	if (v4) {
		const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)h;
		e.src = net_addr_v4(ip->src_addr);
		e.dst = net_addr_v4(ip->dst_addr);
	} else {
		e.src = net_addr_v6(h + 8);
		e.dst = net_addr_v6(h + 24);
	}
	e.l4 = h + l3_len;
	e.n_l4_bytes = (uint16_t)(own_m->data_len - l3_len);
	if (l4 && l4->error && e.n_l4_bytes >= 8)
		l4->error(w, &e);
	net_drop_tx(w, p, own_m, NET_REASON_NEIGHBOUR_UNREACHABLE, NET_CAPTURE_IP_TX);
}

static FOIL_COLD void neigh_fail(struct foil_worker *w, struct net_neigh *e)
{
	uint32_t at = queue_take(e);

	e->state = NEIGH_NEW; /* the next packet asks again */
	if (w->net->n_next_hops)
		next_hop_heard(w, e->port, &e->addr, true);
	foil_count(w, NET, NEIGHBOUR_FAILURES, 1);
	while (at != NET_NONE)
		report_unreachable(w, w->net->ports[e->port], pending_pop(w->net, &at));
}

static void neigh_timer(struct foil_worker *w, struct foil_timer *t)
{
	struct net_neigh *e = FOIL_CONTAINER_OF(t, struct net_neigh, timer);

	FOIL_ASSERT(e->state == NEIGH_INCOMPLETE || e->state == NEIGH_PROBE);
	if (e->n_tries < NET_NEIGH_TRIES) {
		e->n_tries++;
		neigh_ask(w, e);
		foil_timer_arm(w, &e->timer, w->now_us + NET_NEIGH_RETRY_US, neigh_timer);
	} else if (e->state == NEIGH_PROBE) {
		FOIL_PROBE(w, NET, NEIGH_DIED);
		neigh_begin(w, e, NEIGH_INCOMPLETE); /* it may have a new link-layer address */
	} else {
		neigh_fail(w, e);
	}
}

bool neigh_mac_is(const struct net_neigh *e, const struct rte_ether_addr *mac)
{
	return e->state >= NEIGH_REACHABLE && memcmp(e->l2, mac, sizeof(*mac)) == 0;
}

static void neigh_send(struct foil_worker *w, struct net_neigh *e, struct rte_mbuf *own_m)
{
	char *l2 = rte_pktmbuf_prepend(own_m, e->l2_len);

	FOIL_ASSERT(l2 != NULL); /* output.c made room */
	if (FOIL_LIKELY(e->l2_len == sizeof(struct rte_ether_hdr)))
		memcpy(l2, e->l2, sizeof(struct rte_ether_hdr)); /* a length that the compiler knows */
	else
		memcpy(l2, e->l2, e->l2_len);
	own_m->l2_len = e->l2_len;
	port_send(w, w->net->ports[e->port], own_m);
}

/* Another station says that a known address is its own. Who had it until now is asked first, alone: if he answers it was a lie, and if
 * he does not everybody is asked, a fifth of a second later. */
static void neigh_doubt(struct foil_worker *w, struct net_neigh *e)
{
	foil_reason(w, NET, NEIGHBOUR_CLAIMED);
	if (e->state != NEIGH_PROBE)
		neigh_begin(w, e, NEIGH_PROBE);
	else if (e->n_tries == NET_NEIGH_TRIES)
		return;
	e->n_tries = NET_NEIGH_TRIES;
	foil_timer_arm(w, &e->timer, w->now_us + NEIGH_DOUBT_US, neigh_timer);
}

void neigh_learn(struct foil_worker *w, struct net_neigh *e, const struct rte_ether_addr *mac, enum neigh_state state)
{
	uint32_t at;

	if (e->state >= NEIGH_REACHABLE && !neigh_mac_is(e, mac)) {
		neigh_doubt(w, e);
		return;
	}
	if (e->l2_len && memcmp(e->l2, mac, sizeof(*mac)) != 0)
		foil_count(w, NET, NEIGHBOUR_CHANGES, 1);
	if (e->state == NEIGH_PROBE)
		FOIL_PROBE(w, NET, NEIGH_CONFIRMED);
	foil_timer_cancel(w, &e->timer);
	e->l2_len = eth_header_make(w->net->ports[e->port], mac,
				    net_addr_is_v4(&e->addr) ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6, e->l2);
	e->state = (uint8_t)state;
	if (w->net->n_next_hops)
		next_hop_heard(w, e->port, &e->addr, false);
	e->fresh_until_us = state == NEIGH_REACHABLE ? w->now_us + NET_NEIGH_REACHABLE_US : 0;
	for (at = queue_take(e); at != NET_NONE;) {
		FOIL_PROBE(w, NET, NEIGH_QUEUE_SENT);
		neigh_send(w, e, pending_pop(w->net, &at));
	}
}

static void neigh_queue(struct foil_worker *w, struct net_neigh *e, struct rte_mbuf *own_m)
{
	struct net_ctx *n = w->net;
	uint32_t i = n->pending_free;

	if (i == NET_NONE || e->n_queued >= NET_NEIGH_QUEUE_MAX) {
		net_drop_tx(w, n->ports[e->port], own_m, NET_REASON_NEIGHBOUR_QUEUE_FULL, NET_CAPTURE_IP_TX);
		return;
	}
	n->pending_free = n->pending[i].next;
	n->pending[i] = (struct net_pending){own_m, NET_NONE};
	if (e->n_queued)
		n->pending[e->queue_tail].next = i;
	else
		e->queue_head = i;
	e->queue_tail = i;
	e->n_queued++;
	foil_count(w, NET, NEIGHBOUR_QUEUED, 1);
}

void neigh_output(struct foil_worker *w, struct net_neigh *e, struct rte_mbuf *own_m)
{
	e->used_us = w->now_us;
	if (FOIL_LIKELY(e->state == NEIGH_REACHABLE && w->now_us < e->fresh_until_us)) {
		neigh_send(w, e, own_m);
		return;
	}
	switch ((enum neigh_state)e->state) {
	case NEIGH_REACHABLE:
	case NEIGH_STALE:
		neigh_send(w, e, own_m);
		FOIL_PROBE(w, NET, NEIGH_PROBED);
		neigh_begin(w, e, NEIGH_PROBE);
		return;
	case NEIGH_PROBE:
		neigh_send(w, e, own_m);
		return;
	case NEIGH_NEW:
		neigh_begin(w, e, NEIGH_INCOMPLETE);
		neigh_queue(w, e, own_m);
		return;
	case NEIGH_INCOMPLETE:
		neigh_queue(w, e, own_m);
		return;
	case NEIGH_FREE:
		break;
	}
	FOIL_UNREACHABLE();
}

void neigh_confirm(struct foil_worker *w, struct net_neigh *e, uint64_t max_age_us)
{
	if (e->state == NEIGH_NEW)
		neigh_begin(w, e, NEIGH_INCOMPLETE);
	else if (e->state == NEIGH_STALE || (e->state == NEIGH_REACHABLE && e->fresh_until_us < w->now_us + NET_NEIGH_REACHABLE_US - max_age_us))
		neigh_begin(w, e, NEIGH_PROBE);
}

void net_port_renewed(struct foil_worker *w, uint16_t port)
{
	struct net_ctx *n = w->net;

	for (uint32_t i = 0; i < n->n_neigh; i++) {
		struct net_neigh *e = &n->neigh[i];
		if (e->port != port || e->state == NEIGH_FREE)
			continue;
		if (e->state == NEIGH_INCOMPLETE) {
			neigh_begin(w, e, NEIGH_INCOMPLETE);
		} else {
			foil_timer_cancel(w, &e->timer);
			e->state = NEIGH_NEW;
		}
	}
}

void neigh_fini(struct foil_worker *w, struct net_ctx *n)
{
	for (uint32_t i = 0; n->neigh && i < n->n_neigh; i++)
		foil_timer_cancel(w, &n->neigh[i].timer);
	for (uint32_t i = 0; n->pending && i < NET_PENDING_MAX; i++)
		rte_pktmbuf_free(n->pending[i].pkt);
	free(n->neigh);
	free(n->buckets);
	free(n->pending);
}
