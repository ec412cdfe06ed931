/* What a load balancer's settings become in the snapshot: policies, hashes, priorities and weights of localities (features.md DR-7..DR-20). */
#pragma once

#include "ctrl/istio/compile.h"

/* The policy of a cluster and what belongs to it. lb: in force, or NULL. */
void istio_balancing_cluster(struct compile *c, const struct load_balancer *lb, Foil__Conf__Cluster *out);
/* Priorities and locality weights of out's endpoints, some of which may be taken out; instances[i] is what endpoint i was made of. has_outlier: failover
 * acts only with outlier detection. */
void istio_balancing_localities(struct compile *c, const struct load_balancer *lb, bool has_outlier, const struct instance *const *instances,
				Foil__Conf__Endpoints *out);
/* Adds the hash policy of one destination to a route; none without consistentHash. */
void istio_balancing_hash(struct compile *c, const struct load_balancer *lb, Foil__Conf__RouteAction *action);
/* L4 routes hash the client's address or nothing. */
bool istio_balancing_hashes_source(const struct load_balancer *lb);
