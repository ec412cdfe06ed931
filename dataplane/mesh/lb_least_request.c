/* LEAST_REQUEST (features.md DR-7): with equal weights the less busy of two random hosts (with replacement, the first wins a tie, as Envoy);
 * with different weights (slow start makes them differ) the EDF schedule, where a host waits (active + 1) / weight: Envoy's active_request_bias of 1.
 * Active requests are this worker's own: no line of another worker is read. */
#include "dataplane/mesh/lb_priv.h"

static uint32_t n_active(const struct foil_worker *w, const struct mesh_endpoint *e)
{
	return e->host->by_worker[w->id].n_active;
}

static size_t least_request_state_bytes(const struct lb_shape *shape)
{
	return shape->needs_edf ? lb_edf_bytes(shape->n) : 0;
}

/* In slow start a host that has a tenth of its weight waits ten times as long. */
static uint64_t busy_steps(struct foil_worker *w, const struct mesh_host_set *set, uint32_t item)
{
	const struct mesh_endpoint *e = &set->endpoints[item];
	uint64_t steps = (uint64_t)n_active(w, e) + 1;

	return set->slow_start ? steps * LB_STEPS_OF_ONE / lb_share(w, set, e) : steps;
}

static void least_request_build(struct foil_worker *w, const struct mesh_host_set *set, struct lb_group *g)
{
	if (!g->has_equal_weights)
		lb_edf_build(w, set, g, g->state, busy_steps);
}

static uint32_t least_request_pick(struct foil_worker *w, const struct mesh_host_set *set, struct lb_group *g)
{
	if (!g->has_equal_weights)
		return lb_edf_pick(w, set, g->state, busy_steps);
	uint32_t first = g->usable[foil_prng_below(&w->prng, g->n_usable)];
	uint32_t second = g->usable[foil_prng_below(&w->prng, g->n_usable)];
	return n_active(w, &set->endpoints[second]) < n_active(w, &set->endpoints[first]) ? second : first;
}

const struct lb_policy lb_least_request = {
	.name = "least_request",
	.state_bytes = least_request_state_bytes,
	.build = least_request_build,
	.pick = least_request_pick,
};
