/* RANDOM (features.md DR-8): each pick by itself, in proportion to weight. */
#include "dataplane/mesh/lb_priv.h"

__extension__ typedef unsigned __int128 random_wide;

struct random {
	uint64_t total;
	uint64_t upto[]; /* of usable[i]: the weights of usable[0..i]; only when weights differ */
};

static size_t random_state_bytes(const struct mesh_host_set *set)
{
	return sizeof(struct random) + (set->has_equal_weights ? 0 : set->n_endpoints * sizeof(uint64_t));
}

static void random_build(struct foil_worker *w, const struct mesh_host_set *set, struct lb_worker *lw)
{
	struct random *r = lw->state;

	r->total = 0;
	if (lw->has_equal_weights)
		return;
	for (uint32_t i = 0; i < lw->n_usable; i++) {
		r->total += set->endpoints[lw->usable[i]].weight;
		r->upto[i] = r->total;
	}
}

static uint32_t random_pick(struct foil_worker *w, const struct mesh_host_set *set, struct lb_worker *lw)
{
	const struct random *r = lw->state;
	uint32_t low = 0, high = lw->n_usable - 1;

	if (lw->has_equal_weights)
		return lw->usable[foil_prng_below(&w->prng, lw->n_usable)];
	uint64_t at = (uint64_t)((random_wide)foil_prng_u64(&w->prng) * r->total >> 64);
	while (low < high) { /* the first whose sum is beyond at */
		uint32_t middle = low + (high - low) / 2;
		if (r->upto[middle] > at)
			high = middle;
		else
			low = middle + 1;
	}
	return lw->usable[low];
}

const struct lb_policy lb_random = {
	.name = "random",
	.state_bytes = random_state_bytes,
	.build = random_build,
	.pick = random_pick,
};
