/* The network layer's life in one worker: what net_params says becomes tables; addresses are announced; upper protocols register.
 * Setup only: nothing here runs per packet but net_l4_of. */
#include "dataplane/net/net_priv.h"

#include <errno.h>
#include <stdlib.h>

static_assert(sizeof(struct net_rx_meta) <= FOIL_MBUF_PRIV_BYTES, "the receive facts fit every pool's private area");
static_assert(NET_HEADROOM_BYTES >= NET_L2_BYTES_MAX + sizeof(struct rte_ipv6_hdr), "headroom for link and IP header");

static int ports_check(const struct net_params *p, struct foil_error *err)
{
	if (p->n_ports == 0 || p->n_ports > NET_PORTS_MAX)
		return foil_error_set(err, -EINVAL, "%u ports; there must be 1 to %u", p->n_ports, NET_PORTS_MAX);
	for (uint16_t i = 0; i < p->n_ports; i++) {
		if (p->ports[i]->index != i)
			return foil_error_set(err, -EINVAL, "port %u says that it is port %u", i, p->ports[i]->index);
		if (p->ports[i]->mtu < 576)
			return foil_error_set(err, -EINVAL, "port %u has an MTU of %u; it must be 576 or more, and 1280 for IPv6", i,
					      p->ports[i]->mtu);
	}
	return 0;
}

int net_init(struct foil_worker *w, const struct net_params *p, struct foil_error *err)
{
	struct net_ctx *n;
	int rc = ports_check(p, err);

	if (rc)
		return rc;
	n = calloc(1, sizeof(*n));
	if (!n)
		return foil_error_set(err, -ENOMEM, "no memory for the network layer");
	n->n_ports = p->n_ports;
	memcpy(n->ports, p->ports, sizeof(n->ports[0]) * p->n_ports);
	n->services_answer_arp = p->services_answer_arp;
	n->exception = p->exception;
	n->steer = p->steer;
	n->share = p->share;
	w->net = n;
	n->frags = calloc(NET_FRAG_PACKETS_MAX, sizeof(*n->frags));
	if (!n->frags) {
		net_fini(w);
		return foil_error_set(err, -ENOMEM, "no memory for the network layer");
	}
	rc = neigh_init(w, n, p->neighbours_max);
	if (rc)
		(void)foil_error_set(err, rc, "no memory for %u neighbours", p->neighbours_max);
	else
		rc = route_init(n, p, err);
	if (rc) {
		net_fini(w);
		return rc;
	}
	if (p->report_groups)
		mld_start(w); /* before neighbours are asked: the answers are sent to groups */
	claim_start(w, p->address_check);
	next_hops_start(w);
	return 0;
}

void net_fini(struct foil_worker *w)
{
	struct net_ctx *n = w->net;

	if (!n)
		return;
	claim_fini(w, n);
	mld_fini(w, n);
	next_hops_fini(w, n);
	frag_fini(w, n);
	free(n->frags);
	neigh_fini(w, n);
	route_fini(n);
	for (uint16_t i = 0; i < n->n_ports; i++) {
		for (uint16_t j = 0; j < n->ports[i]->n_tx; j++)
			rte_pktmbuf_free(n->ports[i]->tx[j]);
		n->ports[i]->n_tx = 0;
	}
	free(n);
	w->net = NULL;
}

void net_register_l4(struct foil_worker *w, uint8_t l4_proto, net_l4_input_fn input, net_l4_error_fn error)
{
	struct net_ctx *n = w->net;
	struct net_l4 *l4 = net_l4_of(n, l4_proto);

	if (!l4) {
		FOIL_ASSERT(n->n_l4 < NET_L4_SLOTS);
		l4 = &n->l4[n->n_l4++];
	}
	*l4 = (struct net_l4){l4_proto, input, error};
}

struct net_l4 *net_l4_of(struct net_ctx *n, uint8_t proto)
{
	for (uint16_t i = 0; i < n->n_l4; i++)
		if (n->l4[i].proto == proto)
			return &n->l4[i];
	return NULL;
}
