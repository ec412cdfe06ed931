/* Networks, and the gateways through which one is reached from another. Private to the room. */
#pragma once

#include "ctrl/istio/compile.h"

struct network_way {
	const char *address;
	uint32_t port;
};
struct network_ways {
	const char *network;
	struct network_way *list;
	uint32_t n, n_room;
};

/* After all services are there. */
void istio_networks_build(struct compile *c);
/* The gateways between the node and an instance; NULL: it is reached itself. */
const struct network_ways *istio_networks_ways(struct compile *c, const struct instance *in);
/* MeshConfig's neighbour: the ranges whose clients count as internal (features.md HD-5, HD-6). */
char **istio_networks_cidrs(struct compile *c, size_t *n);
