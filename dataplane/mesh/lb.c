/* Choosing an endpoint: which hosts are usable, then the policy (lb.def), then another try when the host was tried before.
 * Not here: which cluster, which connection. Rules: features.md DR-7, DR-8, DR-42, VS-36.
 * Invariant: lw->usable is what health said at lw->health_epoch; it is built again by its own worker at the first pick after a change. */
#include "dataplane/mesh/lb.h"

#include "dataplane/mesh/lb_priv.h"
#include "dataplane/mesh/mesh.h"

const struct lb_policy *lb_policy_of(enum mesh_lb lb)
{
	switch (lb) {
#define X(ID, policy) case MESH_LB_##ID: return &policy;
#include "dataplane/mesh/lb.def"
#undef X
	}
	FOIL_UNREACHABLE();
}

static bool is_healthy(const struct mesh_endpoint *e)
{
	return !e->unhealthy && !e->draining && !mesh_host_is_ejected(e->host);
}

/* Envoy: panic when the healthy share is below the threshold; a threshold of 0 never panics. */
static bool is_panic(const struct mesh_host_set *set, uint32_t n_healthy)
{
	return (uint64_t)n_healthy * 100 < (uint64_t)set->panic_threshold_percent * set->n_endpoints;
}

static void take_all(const struct mesh_host_set *set, struct lb_worker *lw)
{
	for (uint32_t i = 0; i < set->n_endpoints; i++)
		lw->usable[i] = i;
	lw->n_usable = set->n_endpoints;
}

static void rebuild(struct foil_worker *w, const struct mesh_host_set *set, struct lb_worker *lw)
{
	lw->n_usable = 0;
	for (uint32_t i = 0; i < set->n_endpoints; i++)
		if (is_healthy(&set->endpoints[i]))
			lw->usable[lw->n_usable++] = i;
	lw->is_panic = is_panic(set, lw->n_usable);
	if (lw->is_panic)
		take_all(set, lw);
	lw->has_equal_weights = true;
	for (uint32_t i = 1; i < lw->n_usable; i++)
		lw->has_equal_weights &= set->endpoints[lw->usable[i]].weight == set->endpoints[lw->usable[0]].weight;
	lw->is_built = true;
	if (lw->n_usable)
		set->policy->build(w, set, lw);
}

static bool is_avoided(const struct mesh_host *h, struct mesh_host *const *avoid, uint32_t n_avoid)
{
	for (uint32_t i = 0; i < n_avoid; i++)
		if (avoid[i] == h)
			return true;
	return false;
}

const struct mesh_endpoint *mesh_lb_pick(struct foil_worker *w, const struct mesh_cluster *c, const struct mesh_endpoints *e, struct mesh_host_set *set,
					 struct mesh_host *const *avoid, uint32_t n_avoid, uint32_t attempts_max)
{
	if (!set || !e || e->n_endpoints == 0)
		return NULL;
	FOIL_ASSERT(set->endpoints == e->endpoints && w->id < set->n_workers);
	struct lb_worker *lw = &set->by_worker[w->id];
	uint32_t epoch = __atomic_load_n(&set->cluster->health_epoch, __ATOMIC_ACQUIRE);

	if (FOIL_UNLIKELY(!lw->is_built || lw->health_epoch != epoch)) {
		lw->health_epoch = epoch;
		rebuild(w, set, lw);
	}
	if (lw->n_usable == 0)
		return NULL;
	if (lw->is_panic)
		foil_count(w, MESH, LB_PANIC_PICKS, 1);
	const struct mesh_endpoint *picked = &set->endpoints[set->policy->pick(w, set, lw)];
	for (uint32_t i = 0; i < attempts_max && is_avoided(picked->host, avoid, n_avoid); i++)
		picked = &set->endpoints[set->policy->pick(w, set, lw)];
	return picked;
}
