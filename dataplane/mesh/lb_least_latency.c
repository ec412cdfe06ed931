/* LEAST_LATENCY (features.md LK-6), our own beside Istio's policies: of two hosts, drawn by weight, the one with the smaller cost, which is the latency of its
 * answers times the requests that wait there; the first when they cost the same, so that weights hold exactly among hosts that are alike. The latency is
 * Finagle's and Linkerd's "peak EWMA": an answer slower than the mean becomes the mean at once, faster ones pull it down over LATENCY_TAU_US; a host that
 * nobody asked for a while is forgiven in the same measure. A host without a sample counts as LATENCY_DEFAULT_US, and a try that failed as
 * LATENCY_FAILED_US at least, so that a host which refuses fast is not the best one.
 * Samples and active requests are this worker's own. Whole numbers: e^(-t/tau) is taken as tau / (tau + t). */
#include "dataplane/mesh/lb_priv.h"

#define LATENCY_TAU_US 10000000ull    /* Linkerd's default decay */
#define LATENCY_DEFAULT_US 30000ull   /* and its default round trip */
#define LATENCY_FAILED_US 1000000ull
#define LATENCY_MAX_US 600000000ull

/* What is left of us after elapsed_us. */
static uint64_t decayed(uint64_t us, uint64_t elapsed_us)
{
	return us * LATENCY_TAU_US / (LATENCY_TAU_US + FOIL_MIN(elapsed_us, LATENCY_MAX_US));
}

void mesh_latency_sample(struct foil_worker *w, struct mesh_host *h, uint64_t us, bool has_failed)
{
	struct mesh_host_cell *c = &h->by_worker[w->id];
	uint64_t elapsed = w->now_us - c->latency_at_us, mean = c->latency_us;

	us = FOIL_MIN(has_failed ? FOIL_MAX(us, LATENCY_FAILED_US) : us, LATENCY_MAX_US);
	if (mean == 0 || us >= mean)
		mean = us;
	else
		mean = us + decayed(mean - us, elapsed);
	c->latency_us = mean ? mean : 1; /* 0 means that there is none */
	c->latency_at_us = w->now_us;
}

static uint64_t cost(const struct foil_worker *w, const struct mesh_endpoint *e)
{
	const struct mesh_host_cell *c = &e->host->by_worker[w->id];
	uint64_t us = c->latency_us ? decayed(c->latency_us, w->now_us - c->latency_at_us) : LATENCY_DEFAULT_US;

	return (us + 1) * ((uint64_t)c->n_active + 1); /* below 2^62 */
}

#define DRAWS_MAX 4u

static uint32_t least_latency_pick(struct foil_worker *w, const struct mesh_host_set *set, struct lb_group *g)
{
	uint32_t first = lb_random.pick(w, set, g), second = first;

	if (g->n_usable < 2)
		return first;
	for (uint32_t i = 0; i < DRAWS_MAX && second == first; i++) /* else a host that is the worst of all would be asked by chance alone */
		second = lb_random.pick(w, set, g);
	return cost(w, &set->endpoints[second]) < cost(w, &set->endpoints[first]) ? second : first;
}

static size_t least_latency_state_bytes(const struct lb_shape *shape)
{
	return lb_random.state_bytes(shape);
}

static void least_latency_build(struct foil_worker *w, const struct mesh_host_set *set, struct lb_group *g)
{
	lb_random.build(w, set, g);
}

const struct lb_policy lb_least_latency = {
	.name = "least_latency",
	.state_bytes = least_latency_state_bytes,
	.build = least_latency_build,
	.pick = least_latency_pick,
};
