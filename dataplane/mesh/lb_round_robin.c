/* ROUND_ROBIN (features.md DR-8): in the endpoints' order from a random start, or by the EDF schedule when weights differ (slow start makes them differ). */
#include "dataplane/mesh/lb_priv.h"

struct round_robin {
	uint64_t next;
	bool has_start;
	struct lb_edf edf; /* last: room for all endpoints when weights differ */
};

static size_t round_robin_state_bytes(const struct lb_shape *shape)
{
	return offsetof(struct round_robin, edf) + lb_edf_bytes(shape->needs_edf ? shape->n : 0);
}

static uint64_t one_step(struct foil_worker *w, const struct mesh_host_set *set, uint32_t item)
{
	return set->slow_start ? LB_STEPS_OF_ONE / lb_share(w, set, &set->endpoints[item]) : 1;
}

static void round_robin_build(struct foil_worker *w, const struct mesh_host_set *set, struct lb_group *g)
{
	struct round_robin *rr = g->state;

	if (!g->has_equal_weights) {
		lb_edf_build(w, set, g, &rr->edf, one_step);
	} else if (!rr->has_start) {
		rr->next = foil_prng_below(&w->prng, UINT32_MAX);
		rr->has_start = true;
	}
}

static uint32_t round_robin_pick(struct foil_worker *w, const struct mesh_host_set *set, struct lb_group *g)
{
	struct round_robin *rr = g->state;

	if (!g->has_equal_weights)
		return lb_edf_pick(w, set, &rr->edf, one_step);
	return g->usable[rr->next++ % g->n_usable];
}

const struct lb_policy lb_round_robin = {
	.name = "round_robin",
	.state_bytes = round_robin_state_bytes,
	.build = round_robin_build,
	.pick = round_robin_pick,
};
