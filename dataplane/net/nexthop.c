/* Next hops of static routes: whether they answer. Each is asked (by its own link-layer address where it is known) when nothing confirmed it for a while,
 * traffic or not. The routes through one that does not answer give way to whatever else matches, the shorter prefix included; when nothing else
 * is there they are used all the same. What flows remember is forgotten when that changes.
 * Invariant: is_down changes only here; w->net->next_hops has each pair of port and address once. */
#include "dataplane/net/net_priv.h"

#define ASK_EVERY_US 10000000u
#define ASK_FIRST_US 1000000u

static void ask_timer(struct foil_worker *w, struct foil_timer *t)
{
	struct net_ctx *n = w->net;

	for (uint16_t i = 0; i < n->n_next_hops; i++) {
		struct net_neigh *e = neigh_get(w, n->next_hops[i].port, &n->next_hops[i].addr, false);
		if (e)
			neigh_confirm(w, e, ASK_EVERY_US / 2);
	}
	foil_timer_arm(w, t, w->now_us + ASK_EVERY_US, ask_timer);
}

void next_hops_start(struct foil_worker *w)
{
	if (w->net->n_next_hops)
		foil_timer_arm(w, &w->net->next_hop_timer, w->now_us + ASK_FIRST_US, ask_timer);
}

void next_hops_fini(struct foil_worker *w, struct net_ctx *n)
{
	foil_timer_cancel(w, &n->next_hop_timer);
}

uint16_t next_hop_index(struct net_ctx *n, uint16_t port, const struct net_addr *a)
{
	for (uint16_t i = 0; i < n->n_next_hops; i++)
		if (n->next_hops[i].port == port && net_addr_eq(&n->next_hops[i].addr, a))
			return i;
	n->next_hops[n->n_next_hops] = (struct net_next_hop){.addr = *a, .port = port};
	return n->n_next_hops++;
}

/* Flows through any next hop ask for their route again. */
static void forget_flows(struct foil_worker *w)
{
	struct net_ctx *n = w->net;

	for (uint16_t i = 0; i < n->n_next_hops; i++) {
		struct net_neigh *e = neigh_find(w, n->next_hops[i].port, &n->next_hops[i].addr);
		if (!e)
			continue;
		if (++n->generation == 0)
			n->generation = 1;
		e->generation = n->generation;
	}
}

void next_hop_heard(struct foil_worker *w, uint16_t port, const struct net_addr *a, bool is_down)
{
	struct net_ctx *n = w->net;
	uint64_t n_down = 0;
	bool changed = false;

	for (uint16_t i = 0; i < n->n_next_hops; i++) {
		struct net_next_hop *h = &n->next_hops[i];
		if (h->port == port && h->is_down != is_down && net_addr_eq(&h->addr, a)) {
			__atomic_store_n(&h->is_down, is_down, __ATOMIC_RELAXED);
			changed = true;
		}
		n_down += h->is_down;
	}
	if (!changed)
		return;
	forget_flows(w);
	if (is_down)
		foil_count(w, NET, NEXT_HOP_FAILURES, 1);
	if (w->id == 0)
		foil_gauge_set(w, NET, NEXT_HOPS_DOWN, n_down);
}

bool net_next_hop_status(const struct foil_worker *w, uint16_t i, struct net_next_hop_status *out)
{
	const struct net_ctx *n = w->net;

	if (!n || i >= n->n_next_hops)
		return false;
	*out = (struct net_next_hop_status){.addr = n->next_hops[i].addr, .port = n->next_hops[i].port,
					    .is_down = __atomic_load_n(&n->next_hops[i].is_down, __ATOMIC_RELAXED)};
	return true;
}
