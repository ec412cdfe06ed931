/* Routes and addresses of ours: longest prefix match, the source address for a next hop, what is local.
 * The table is made once by net_init and sorted by length, so the first match is the longest; look-ups are per destination, not per
 * packet (struct net_dst remembers them), so a scan is enough. IPv4 routes match IPv4 only, though both share one form.
 * Invariant: routes[i].len >= routes[i + 1].len; every route's port exists; every via is on link at its port. */
#include "dataplane/net/net_priv.h"

#include <errno.h>
#include <stdlib.h>

static bool prefix_is_v4(const struct net_prefix *p)
{
	return net_addr_is_v4(&p->addr) && p->len >= 96;
}

static int route_cmp(const void *a, const void *b)
{
	const struct net_route *x = a, *y = b;

	if (x->len != y->len)
		return x->len > y->len ? -1 : 1;
	int c = memcmp(x->match.value, y->match.value, sizeof(x->match.value));
	if (!c)
		c = (int)y->on_link - (int)x->on_link;
	return c ? c : (int)x->order - (int)y->order; /* the first one named is preferred */
}

static int prefix_check(const struct net_prefix *p, uint16_t port, uint16_t n_ports, const char *what, struct foil_error *err)
{
	char text[NET_ADDR_STRLEN];

	if (port >= n_ports)
		return foil_error_set(err, -EINVAL, "%s %s is on port %u, but there are only %u ports", what,
				      net_addr_format(&p->addr, text), port, n_ports);
	if (p->len > 128)
		return foil_error_set(err, -EINVAL, "%s %s has a prefix length beyond the address", what, net_addr_format(&p->addr, text));
	return 0;
}

static int locals_make(struct net_ctx *n, const struct net_params *p, struct foil_error *err)
{
	for (uint16_t i = 0; i < p->n_locals; i++) {
		const struct net_local_conf *c = &p->locals[i];
		struct net_prefix host = {c->prefix.addr, 128};
		int rc = prefix_check(&c->prefix, c->port, p->n_ports, "address", err);

		if (rc)
			return rc;
		bool v4 = net_addr_is_v4(&c->prefix.addr);
		if (v4 ? !net_ip4_source_ok(net_addr_ip4(&c->prefix.addr)) : !net_ip6_source_ok(&c->prefix.addr)) {
			char text[NET_ADDR_STRLEN];
			return foil_error_set(err, -EINVAL, "%s cannot be a host's address", net_addr_format(&c->prefix.addr, text));
		}
		n->locals[i] = (struct net_local){.addr = c->prefix.addr, .subnet = net_match_of(&c->prefix), .port = c->port, .v4 = v4,
						  .has_ends = v4 && c->prefix.len <= 126};
		n->ours[i] = net_match_of(&host);
		n->routes[n->n_routes++] = (struct net_route){
			.match = net_match_of(&c->prefix), .port = c->port, .len = c->prefix.len, .v4 = v4, .on_link = true};
	}
	n->n_locals = p->n_locals;
	return 0;
}

static int routes_make(struct net_ctx *n, const struct net_params *p, struct foil_error *err)
{
	char text[NET_ADDR_STRLEN];

	for (uint16_t i = 0; i < p->n_routes; i++) {
		const struct net_route_conf *c = &p->routes[i];
		bool on_link = net_addr_is_zero(&c->via), v4 = prefix_is_v4(&c->prefix);
		int rc = prefix_check(&c->prefix, c->port, p->n_ports, "route", err);

		if (rc)
			return rc;
		if (!on_link && !route_is_on_link(n, c->port, &c->via))
			return foil_error_set(err, -EINVAL,
					      "next hop %s of a route lies in no subnet of port %u's addresses; give the port an address there",
					      net_addr_format(&c->via, text), c->port);
		if (!on_link && net_addr_is_v4(&c->via) != v4)
			return foil_error_set(err, -EINVAL, "next hop %s is not of its route's address family",
					      net_addr_format(&c->via, text));
		n->routes[n->n_routes++] = (struct net_route){
			.match = net_match_of(&c->prefix), .via = c->via, .port = c->port, .len = c->prefix.len, .v4 = v4, .on_link = on_link,
			.order = i, .next_hop = on_link ? 0 : next_hop_index(n, c->port, &c->via)};
	}
	return 0;
}

int route_init(struct net_ctx *n, const struct net_params *p, struct foil_error *err)
{
	int rc;

	n->ours = calloc((size_t)p->n_locals + p->n_services + 1, sizeof(*n->ours));
	n->captured = calloc((size_t)p->n_captured + 1, sizeof(*n->captured));
	n->locals = calloc((size_t)p->n_locals + 1, sizeof(*n->locals));
	n->routes = calloc((size_t)p->n_locals + p->n_routes + 1, sizeof(*n->routes));
	n->next_hops = calloc((size_t)p->n_routes + 1, sizeof(*n->next_hops));
	if (!n->ours || !n->captured || !n->locals || !n->routes || !n->next_hops)
		return foil_error_set(err, -ENOMEM, "no memory for the routes");
	rc = locals_make(n, p, err);
	if (rc)
		return rc;
	for (uint16_t i = 0; i < p->n_services; i++)
		n->ours[p->n_locals + i] = net_match_of(&p->services[i]);
	n->n_ours = (uint16_t)(p->n_locals + p->n_services);
	for (uint16_t i = 0; i < p->n_captured; i++)
		n->captured[i] = net_match_of(&p->captured[i]);
	n->n_captured = p->n_captured;
	rc = routes_make(n, p, err);
	if (rc)
		return rc;
	qsort(n->routes, n->n_routes, sizeof(*n->routes), route_cmp);
	return 0;
}

void route_fini(struct net_ctx *n)
{
	free(n->ours);
	free(n->captured);
	free(n->locals);
	free(n->routes);
	free(n->next_hops);
}

const struct net_route *route_find(const struct net_ctx *n, const struct net_addr *dst)
{
	bool v4 = net_addr_is_v4(dst);
	const struct net_route *first = NULL;

	for (uint32_t i = 0; i < n->n_routes; i++) {
		const struct net_route *r = &n->routes[i];
		if (r->v4 != v4 || !net_matches(&r->match, dst))
			continue;
		if (r->on_link || !n->next_hops[r->next_hop].is_down)
			return r;
		if (!first)
			first = r;
	}
	return first; /* through a next hop that does not answer: it may again */
}

static bool has_v6(const struct net_ctx *n, uint16_t port)
{
	for (uint16_t i = 0; i < n->n_locals; i++)
		if (n->locals[i].port == port && !n->locals[i].v4)
			return true;
	return false;
}

bool route_is_on_link(const struct net_ctx *n, uint16_t port, const struct net_addr *a)
{
	bool v4 = net_addr_is_v4(a);

	if (net_addr_is_link_local(a)) /* of every link */
		return has_v6(n, port);
	for (uint32_t i = 0; i < n->n_routes; i++)
		if (n->routes[i].port == port && n->routes[i].on_link && n->routes[i].v4 == v4 && net_matches(&n->routes[i].match, a))
			return true;
	return false;
}

/* All ones or all zeros behind the prefix of an IPv4 subnet. */
static bool is_end_of(const struct net_match *subnet, const struct net_addr *a)
{
	uint64_t x[2];

	memcpy(x, a->b, 16);
	uint64_t host = x[1] & ~subnet->mask[1]; /* an IPv4 prefix ends in the second half */
	return host == 0 || host == ~subnet->mask[1];
}

enum net_reason route_check_source(const struct net_ctx *n, uint16_t port, const struct net_addr *src)
{
	enum net_reason why = NET_REASON_OK, bad = net_addr_is_v4(src) ? NET_REASON_IP4_BAD_SOURCE : NET_REASON_IP6_BAD_SOURCE;

	for (uint16_t i = 0; i < n->n_ours; i++)
		if (net_matches(&n->ours[i], src))
			return bad;
	for (uint16_t i = 0; i < n->n_locals; i++) {
		const struct net_local *l = &n->locals[i];
		if (!net_matches(&l->subnet, src))
			continue;
		if (l->has_ends && is_end_of(&l->subnet, src))
			return bad;
		if (l->port == port)
			return NET_REASON_OK;
		why = NET_REASON_SPOOFED;
	}
	return why;
}

bool route_source(const struct net_ctx *n, uint16_t port, const struct net_addr *next_hop, struct net_addr *out)
{
	bool v4 = net_addr_is_v4(next_hop);
	const struct net_local *any = NULL;

	for (uint16_t i = 0; i < n->n_locals; i++) {
		const struct net_local *l = &n->locals[i];
		if (l->port != port || l->v4 != v4 || l->state == NET_ADDRESS_TENTATIVE || l->state == NET_ADDRESS_DUPLICATE)
			continue;
		if (net_matches(&l->subnet, next_hop)) {
			*out = l->addr;
			return true;
		}
		if (!any)
			any = l;
	}
	if (any)
		*out = any->addr;
	return any != NULL;
}

bool net_is_local(const struct foil_worker *w, const struct net_addr *a)
{
	const struct net_ctx *n = w->net;

	for (uint16_t i = 0; i < n->n_ours; i++)
		if (net_matches(&n->ours[i], a))
			return true;
	return false;
}

bool net_is_captured(const struct foil_worker *w, const struct net_addr *a)
{
	const struct net_ctx *n = w->net;

	for (uint16_t i = 0; i < n->n_captured; i++)
		if (net_matches(&n->captured[i], a))
			return !net_is_local(w, a);
	return false;
}

/* Whether an ARP or ND question on that port for a is ours to answer: its own addresses, and services where asked to. An address of
 * another port is not (no proxy ARP). */
bool net_answers_for(const struct net_ctx *n, uint16_t port, const struct net_addr *a)
{
	for (uint16_t i = 0; i < n->n_locals; i++)
		if (n->locals[i].port == port && net_matches(&n->ours[i], a))
			return true;
	for (uint16_t i = n->n_locals; n->services_answer_arp && i < n->n_ours; i++)
		if (net_matches(&n->ours[i], a))
			return true;
	return false;
}

bool net_source_for(struct foil_worker *w, const struct net_addr *dst, struct net_addr *out)
{
	const struct net_route *r = route_find(w->net, dst);

	return r && route_source(w->net, r->port, r->on_link ? dst : &r->via, out);
}

enum net_reason route_resolve(struct foil_worker *w, const struct net_addr *dst, struct net_dst *out)
{
	struct net_ctx *n = w->net;
	const struct net_route *r;
	struct net_neigh *e;

	if (net_is_local(w, dst))
		return NET_REASON_TO_OURSELVES;
	r = route_find(n, dst);
	if (!r || dst->b[0] == 0xff || (net_addr_is_v4(dst) && !net_ip4_source_ok(net_addr_ip4(dst))))
		return NET_REASON_NO_ROUTE;
	e = neigh_get(w, r->port, r->on_link ? dst : &r->via, false);
	if (!e)
		return NET_REASON_NEIGHBOUR_FULL;
	*out = (struct net_dst){
		.neighbour = (uint32_t)(e - n->neigh), .generation = e->generation, .port = r->port, .mtu = n->ports[r->port]->mtu,
		.single_seg = !n->ports[r->port]->tx_multi_seg, .tso = n->ports[r->port]->tso};
	return NET_REASON_OK;
}

bool net_dst_lookup(struct foil_worker *w, const struct net_addr *dst, struct net_dst *out)
{
	enum net_reason why = route_resolve(w, dst, out);

	if (why != NET_REASON_OK)
		foil_reason_id(w, NET, why);
	return why == NET_REASON_OK;
}
