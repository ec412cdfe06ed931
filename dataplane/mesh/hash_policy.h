/* The hash that a route's policies make of a request, for ring hash and Maglev clusters (features.md DR-10, DR-11), as Envoy's HashPolicyImpl. */
#pragma once

#include "dataplane/http/codec.h"
#include "dataplane/mesh/config.h"
#include "dataplane/stream/stream.h"

struct mesh_hash_request {
	const struct http_head *head;
	const struct stream_addr *client;        /* as x-forwarded-for is trusted */
	const struct stream_addr *remote, *local; /* of the connection: what a made cookie is made of, so that requests of one connection get the same */
};
struct mesh_hash {
	bool is_there; /* false: no policy found anything, any host will do */
	uint64_t hash;
	struct foil_slice *set_cookies; /* set-cookie values for the answer, in the arena */
	uint16_t n_set_cookies;
};
/* 0, or -ENOBUFS: the arena is full. */
int mesh_hash_of_request(struct foil_worker *w, struct foil_arena *a, const struct mesh_hash_policy *policies, uint16_t n_policies,
			 const struct mesh_hash_request *r, struct mesh_hash *out) FOIL_MUST_USE;
/* Of an L4 connection (hash_source_ip). */
uint64_t mesh_hash_of_address(const struct stream_addr *client);
/* A request that may go to c needs a hash. */
static inline bool mesh_cluster_hashes(const struct mesh_cluster *c)
{
	return c->lb == MESH_LB_RING_HASH || c->lb == MESH_LB_MAGLEV;
}
