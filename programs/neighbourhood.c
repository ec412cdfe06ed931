/* See neighbourhood.h. The first worker's view is everybody's: each sees the same messages. */
#include "programs/neighbourhood.h"

#include "dataplane/net/net.h"
#include "programs/log.h"

static void look_at_addresses(struct neighbourhood *h, const struct foil_worker *w)
{
	struct net_address_status s;
	char text[NET_ADDR_STRLEN];
	for (uint16_t i = 0; i < NEIGHBOURHOOD_ADDRESSES_MAX && net_address_status(w, i, &s); i++) {
		if (s.state != NET_ADDRESS_DUPLICATE || h->is_duplicate[i])
			continue;
		h->is_duplicate[i] = true;
		log_line(LOG_LEVEL_ERROR, "address.duplicate", "%s on p%u: " RTE_ETHER_ADDR_PRT_FMT " has it, too; it is given up until the next start",
			 net_addr_format(&s.addr, text), s.port, RTE_ETHER_ADDR_BYTES(&s.other));
	}
}

static void look_at_next_hops(struct neighbourhood *h, const struct foil_worker *w)
{
	struct net_next_hop_status s;
	char text[NET_ADDR_STRLEN];
	for (uint16_t i = 0; i < NODE_ROUTES_MAX && net_next_hop_status(w, i, &s); i++) {
		if (s.is_down == h->is_down[i])
			continue;
		h->is_down[i] = s.is_down;
		(void)net_addr_format(&s.addr, text); /* text */
		if (s.is_down)
			log_line(LOG_LEVEL_WARNING, "route.down", "next hop %s on p%u does not answer; its routes give way to others that match", text, s.port);
		else
			log_line(LOG_LEVEL_NOTICE, "route.up", "next hop %s on p%u answers again", text, s.port);
	}
}

void neighbourhood_turn(struct neighbourhood *h, const struct node *n)
{
	const struct foil_worker *w = n->workers[0].w;
	look_at_addresses(h, w);
	look_at_next_hops(h, w);
}
