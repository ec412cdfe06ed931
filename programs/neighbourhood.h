/* What became of our addresses and of the routes' next hops, as lines of the log: net knows, people have to hear of it. */
#pragma once

#include "programs/node.h"

#define NEIGHBOURHOOD_ADDRESSES_MAX (NODE_PORTS_MAX * NODE_ADDRS_MAX)

struct neighbourhood { /* what was said last */
	bool is_duplicate[NEIGHBOURHOOD_ADDRESSES_MAX];
	bool is_down[NODE_ROUTES_MAX];
};

/* Housekeeping, once a turn, while the workers run. */
void neighbourhood_turn(struct neighbourhood *h, const struct node *n);
