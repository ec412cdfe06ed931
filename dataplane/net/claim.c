/* Our addresses against those of others: duplicate address detection (RFC 4862 5.4, optimistic RFC 4429) and address conflict detection (RFC 5227).
 * How much is asked before an address is used says net_params.address_check. An address that another station has while it is still being checked is
 * given up: it is not ours any more, for nobody, until the next start. Once it is in use it is kept and defended, at a limited rate: there are
 * connections on it.
 *
 * Each worker decides for itself by the same messages (net_params.share gives each of them its copy); the first one speaks for all.
 * Invariant: an address is in `ours` if and only if its state is IN_USE or OPTIMISTIC. */
#include "dataplane/net/net_priv.h"

#define PROBE_US 1000000u        /* RetransTimer (RFC 4861 10), PROBE_MIN (RFC 5227 1.1) */
#define ANNOUNCE_WAIT_US 2000000u /* RFC 5227 1.1, and ANNOUNCE_INTERVAL */
#define OPTIMISTIC_US 250000u    /* an owner on the same link answers in less; RetransTimer is a variable of the link */
#define PROBES_V4 3u             /* PROBE_NUM */
#define PROBES_V6 1u             /* DupAddrDetectTransmits */
#define ANNOUNCEMENTS 2u         /* ANNOUNCE_NUM */
#define DEFEND_US 10000000u      /* DEFEND_INTERVAL */

static void claim_timer(struct foil_worker *w, struct foil_timer *t);

static bool speaks(const struct foil_worker *w)
{
	return w->id == 0;
}

static void announce(struct foil_worker *w, const struct net_local *l)
{
	struct net_port *p = w->net->ports[l->port];

	if (!speaks(w))
		return;
	if (l->v4)
		arp_announce(w, p, &l->addr);
	else
		nd_announce(w, p, &l->addr);
}

static void probe(struct foil_worker *w, const struct net_local *l)
{
	struct net_port *p = w->net->ports[l->port];

	if (!speaks(w))
		return;
	foil_count(w, NET, ADDRESS_PROBES_TX, 1);
	if (l->v4)
		arp_probe(w, p, &l->addr);
	else
		nd_probe(w, p, &l->addr);
}

static void become(struct foil_worker *w, struct net_local *l, enum net_address_state state)
{
	struct net_ctx *n = w->net;
	bool is_ours = state == NET_ADDRESS_IN_USE || state == NET_ADDRESS_OPTIMISTIC;
	struct net_prefix host = {l->addr, 128};

	/* Not ours: nothing matches, for no bit is looked at, and one is asked for. */
	n->ours[l - n->locals] = is_ours ? net_match_of(&host) : (struct net_match){.value = {1, 1}};
	__atomic_store_n(&l->state, (uint8_t)state, __ATOMIC_RELEASE);
}

static void in_use(struct foil_worker *w, struct net_local *l)
{
	if (l->state != NET_ADDRESS_IN_USE)
		become(w, l, NET_ADDRESS_IN_USE);
	announce(w, l);
	l->n_announced++;
	l->due_us = l->n_announced < ANNOUNCEMENTS ? w->now_us + ANNOUNCE_WAIT_US : 0;
}

/* What is to do for an address whose time has come. */
static void step(struct foil_worker *w, struct net_local *l)
{
	uint8_t n_probes = l->state == NET_ADDRESS_OPTIMISTIC ? 1 : l->v4 ? PROBES_V4 : PROBES_V6;

	if (l->state == NET_ADDRESS_IN_USE || l->n_probed == n_probes) {
		in_use(w, l);
		return;
	}
	probe(w, l);
	l->n_probed++;
	if (l->state == NET_ADDRESS_OPTIMISTIC)
		l->due_us = w->now_us + OPTIMISTIC_US;
	else
		l->due_us = w->now_us + (l->v4 && l->n_probed == n_probes ? ANNOUNCE_WAIT_US : PROBE_US);
}

static void claim_timer(struct foil_worker *w, struct foil_timer *t)
{
	struct net_ctx *n = w->net;
	uint64_t next_us = UINT64_MAX;

	for (uint16_t i = 0; i < n->n_locals; i++) {
		struct net_local *l = &n->locals[i];
		if (l->due_us && l->due_us <= w->now_us)
			step(w, l);
		if (l->due_us)
			next_us = FOIL_MIN(next_us, l->due_us);
	}
	if (next_us != UINT64_MAX)
		foil_timer_arm(w, t, next_us, claim_timer);
}

void claim_start(struct foil_worker *w, enum net_address_check check)
{
	struct net_ctx *n = w->net;

	for (uint16_t i = 0; i < n->n_locals; i++) {
		struct net_local *l = &n->locals[i];
		if (check == NET_CHECK_NONE) {
			announce(w, l); /* peers that knew it elsewhere (a node that failed over) learn at once where it is now */
			continue;
		}
		become(w, l, check == NET_CHECK_STRICT ? NET_ADDRESS_TENTATIVE : NET_ADDRESS_OPTIMISTIC);
		l->due_us = w->now_us;
	}
	claim_timer(w, &n->claim_timer);
}

void claim_fini(struct foil_worker *w, struct net_ctx *n)
{
	foil_timer_cancel(w, &n->claim_timer);
}

static struct net_local *local_at(const struct net_ctx *n, uint16_t port, const struct net_addr *a)
{
	for (uint16_t i = 0; i < n->n_locals; i++)
		if (n->locals[i].port == port && net_addr_eq(&n->locals[i].addr, a))
			return &n->locals[i];
	return NULL;
}

bool claim_is_optimistic(const struct net_ctx *n, uint16_t port, const struct net_addr *a)
{
	const struct net_local *l = local_at(n, port, a);

	return l && l->state == NET_ADDRESS_OPTIMISTIC;
}

static void defend(struct foil_worker *w, struct net_local *l)
{
	if (l->defended_us && w->now_us - l->defended_us < DEFEND_US)
		return;
	l->defended_us = w->now_us;
	announce(w, l);
}

bool claim_heard(struct foil_worker *w, uint16_t port, const struct net_addr *a, const struct rte_ether_addr *mac, enum net_claim what)
{
	struct net_local *l = local_at(w->net, port, a);

	if (!l || l->state == NET_ADDRESS_DUPLICATE)
		return false;
	if (l->state == NET_ADDRESS_IN_USE) {
		if (what == NET_CLAIM_PROBE)
			return false; /* answered as any question is */
		defend(w, l);
		return true;
	}
	l->other = *mac;
	l->due_us = 0;
	become(w, l, NET_ADDRESS_DUPLICATE);
	if (speaks(w))
		foil_count(w, NET, ADDRESS_DUPLICATES, 1);
	return true;
}

bool net_address_status(const struct foil_worker *w, uint16_t i, struct net_address_status *out)
{
	const struct net_ctx *n = w->net;

	if (!n || i >= n->n_locals)
		return false;
	const struct net_local *l = &n->locals[i];
	*out = (struct net_address_status){.addr = l->addr, .port = l->port, .state = (enum net_address_state)__atomic_load_n(&l->state, __ATOMIC_ACQUIRE)};
	out->other = l->other; /* written once, before the state says so */
	return true;
}
