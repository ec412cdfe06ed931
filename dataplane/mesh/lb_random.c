/* RANDOM (features.md DR-8): each pick by itself, in proportion to weight. */
#include "dataplane/mesh/lb_priv.h"

__extension__ typedef unsigned __int128 random_wide;

struct random {
	uint64_t total;
	uint64_t upto[]; /* of usable[i]: the weights of usable[0..i]; only when weights differ */
};

static size_t random_state_bytes(const struct lb_shape *shape)
{
	return sizeof(struct random) + (shape->needs_edf ? shape->n * sizeof(uint64_t) : 0);
}

static void random_build(struct foil_worker *w, const struct mesh_host_set *set, struct lb_group *g)
{
	struct random *r = g->state;

	r->total = 0;
	if (g->has_equal_weights)
		return;
	for (uint32_t i = 0; i < g->n_usable; i++) {
		r->total += set->endpoints[g->usable[i]].weight;
		r->upto[i] = r->total;
	}
}

static uint32_t random_pick(struct foil_worker *w, const struct mesh_host_set *set, struct lb_group *g)
{
	const struct random *r = g->state;
	uint32_t low = 0, high = g->n_usable - 1;

	if (g->has_equal_weights)
		return g->usable[foil_prng_below(&w->prng, g->n_usable)];
	uint64_t at = (uint64_t)((random_wide)foil_prng_u64(&w->prng) * r->total >> 64);
	while (low < high) { /* the first whose sum is beyond at */
		uint32_t middle = low + (high - low) / 2;
		if (r->upto[middle] > at)
			high = middle;
		else
			low = middle + 1;
	}
	return g->usable[low];
}

const struct lb_policy lb_random = {
	.name = "random",
	.state_bytes = random_state_bytes,
	.build = random_build,
	.pick = random_pick,
};
