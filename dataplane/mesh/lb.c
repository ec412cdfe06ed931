/* Choosing an endpoint: which hosts are usable, which priority and locality, then the policy (lb.def), then another try when the host was tried before.
 * Not here: which cluster, which connection; what a hash is made of (hash_policy.c). Rules: features.md DR-7, DR-8, DR-12..20, DR-42, VS-36.
 * Invariant: a worker's groups and levels are what health said at lw->health_epoch; they are built again by their own worker at the first pick
 * after a change, or after the end of a slow start. */
#include "dataplane/mesh/lb.h"

#include "dataplane/mesh/health.h"
#include "dataplane/mesh/lb_priv.h"
#include "dataplane/mesh/mesh.h"
#include "dataplane/mesh/outlier.h"

#define HASH_STEPS_MAX 64u /* of a table that knows no more who is usable, before any usable one will do */

const struct lb_policy *lb_policy_of(enum mesh_lb lb)
{
	switch (lb) {
#define X(ID, policy) case MESH_LB_##ID: return &policy;
#include "dataplane/mesh/lb.def"
#undef X
	}
	FOIL_UNREACHABLE();
}

static bool is_usable_but_for_ejection(const struct mesh_endpoint *e)
{
	return !e->unhealthy && !e->draining && !mesh_health_is_down(e->host);
}

enum lb_fitness lb_fitness_of(const struct mesh_host_set *set, const struct mesh_endpoint *e)
{
	if (!is_usable_but_for_ejection(e) || mesh_host_is_ejected(e->host))
		return LB_OUT;
	return set->n_levels > set->n_priorities && mesh_health_is_degraded(e->host) ? LB_DEGRADED : LB_WELL;
}

/* ---- slow start ---- */
/* The end of a host's slow start; made now, when this is the first that is seen of it. */
static uint64_t warm_until(const struct foil_worker *w, const struct mesh_host_set *set, const struct mesh_endpoint *e)
{
	uint64_t since_us = mesh_host_seen(e->host, w->now_us);

	return since_us + set->slow_start->window_us;
}

uint32_t lb_share(const struct foil_worker *w, const struct mesh_host_set *set, const struct mesh_endpoint *e)
{
	const struct mesh_slow_start *s = set->slow_start;
	uint64_t since_us = s ? mesh_host_seen(e->host, w->now_us) : 0;
	uint64_t age_us = w->now_us > since_us ? w->now_us - since_us : 0; /* another worker's clock may be ahead */

	if (!s || age_us >= s->window_us)
		return MESH_SLOW_START_FULL;
	return s->share[age_us * MESH_SLOW_START_STEPS / s->window_us];
}

/* ---- what is usable ---- */
static void take_fit(const struct mesh_host_set *set, const struct lb_shape *shape, struct lb_group *g)
{
	enum lb_fitness wanted = lb_fitness_at(set, shape->level);

	g->n_usable = 0;
	for (uint32_t i = shape->first; i < shape->first + shape->n; i++)
		if (lb_fitness_of(set, &set->endpoints[set->members[i]]) == wanted)
			g->usable[g->n_usable++] = set->members[i];
}

static void take_all(const struct mesh_host_set *set, const struct lb_shape *shape, struct lb_group *g)
{
	memcpy(g->usable, &set->members[shape->first], shape->n * sizeof(g->usable[0]));
	g->n_usable = shape->n;
}

static void build_group(struct foil_worker *w, const struct mesh_host_set *set, struct lb_worker *lw, struct lb_group *g)
{
	uint64_t until_us = 0;

	g->has_equal_weights = true;
	for (uint32_t i = 0; i < g->n_usable; i++) {
		const struct mesh_endpoint *e = &set->endpoints[g->usable[i]];
		g->has_equal_weights &= e->weight == set->endpoints[g->usable[0]].weight;
		if (set->slow_start)
			until_us = FOIL_MAX(until_us, warm_until(w, set, e));
	}
	if (until_us > w->now_us) {
		g->has_equal_weights = false;
		lw->warm_until_us = FOIL_MAX(lw->warm_until_us, until_us);
	}
	if (g->n_usable && set->policy->build)
		set->policy->build(w, set, g);
}

static uint64_t one_step(struct foil_worker *w, const struct mesh_host_set *set, uint32_t item)
{
	(void)w;
	(void)set;
	(void)item;
	return 1;
}

/* The schedule of a level's localities. In panic, and where no locality with a weight has a usable host, all usable hosts count alike (Envoy). */
static void build_localities(struct foil_worker *w, const struct mesh_host_set *set, struct lb_worker *lw, uint32_t level)
{
	const struct lb_level *l = &set->levels[level];
	struct lb_level_now *now = &lw->levels[level];

	if (!now->localities)
		return;
	lb_edf_clear(now->localities);
	for (uint32_t i = l->first_group; i < l->first_group + l->n_groups && !now->is_panic; i++) {
		const struct lb_health health = {.n = set->shapes[i].n, .n_healthy = lw->groups[i].n_usable};
		uint32_t weight = lb_locality_weight(set->shapes[i].weight, &health, set->overprovisioning_percent);
		if (weight)
			lb_edf_add(w, set, now->localities, i, weight, one_step);
	}
	bool by_hosts = now->localities->n == 0;
	for (uint32_t i = l->first_group; i < l->first_group + l->n_groups && by_hosts; i++)
		if (lw->groups[i].n_usable)
			lb_edf_add(w, set, now->localities, i, lw->groups[i].n_usable, one_step);
	lb_edf_start(w, set, now->localities, one_step);
}

static void count_group(struct lb_health *h, enum lb_fitness fitness, uint32_t n, uint32_t n_usable)
{
	if (fitness == LB_DEGRADED) { /* of endpoints that are counted already */
		h->n_degraded += n_usable;
		return;
	}
	h->n += n;
	h->n_healthy += n_usable;
}

static void rebuild(struct foil_worker *w, const struct mesh_host_set *set, struct lb_worker *lw)
{
	struct lb_health health[MESH_PRIORITIES_MAX] = {{0}};

	lw->is_built = true;
	lw->warm_until_us = 0;
	for (uint32_t i = 0; i < set->n_groups; i++) {
		take_fit(set, &set->shapes[i], &lw->groups[i]);
		count_group(&health[set->shapes[i].priority], lb_fitness_at(set, set->shapes[i].level), set->shapes[i].n, lw->groups[i].n_usable);
	}
	lb_loads(health, set->n_priorities, set->overprovisioning_percent, set->panic_threshold_percent, lw->levels);
	for (uint32_t i = 0; i < set->n_groups; i++) {
		if (lw->levels[set->shapes[i].level].is_panic)
			take_all(set, &set->shapes[i], &lw->groups[i]);
		build_group(w, set, lw, &lw->groups[i]);
	}
	for (uint32_t i = 0; i < set->n_levels; i++)
		build_localities(w, set, lw, i);
}

/* ---- one pick ---- */
/* The group that a pick falls into; NULL: no host is usable at this level. */
static struct lb_group *group_of(struct foil_worker *w, const struct mesh_host_set *set, struct lb_worker *lw, uint32_t level)
{
	struct lb_edf *localities = lw->levels[level].localities;
	uint32_t at = set->levels[level].first_group;

	if (localities) {
		if (localities->n == 0)
			return NULL;
		at = lb_edf_pick(w, set, localities, one_step);
	}
	return lw->groups[at].n_usable ? &lw->groups[at] : NULL;
}

/* From the shared table. It may be older than what this worker knows of health: who is not usable is passed over, as if it were not there. */
static const struct mesh_endpoint *pick_hashed(const struct mesh_host_set *set, const struct lb_worker *lw, uint32_t level, uint64_t hash,
					       uint32_t attempt)
{
	const struct lb_tables *t = __atomic_load_n(&set->tables, __ATOMIC_ACQUIRE);
	const struct lb_group *g = &lw->groups[set->levels[level].first_group];
	enum lb_fitness wanted = lb_fitness_at(set, level);
	bool any = lw->levels[level].is_panic;

	if (g->n_usable == 0)
		return NULL;
	for (uint32_t i = 0; t && t->by_level[level] && i < HASH_STEPS_MAX; i++) {
		const struct mesh_endpoint *e = &set->endpoints[set->policy->table_pick(t->by_level[level], hash, attempt + i)];
		if (any || lb_fitness_of(set, e) == wanted)
			return e;
	}
	return &set->endpoints[g->usable[(hash + attempt) % g->n_usable]];
}

static bool is_avoided(const struct mesh_host *h, const struct mesh_lb_want *want)
{
	for (uint32_t i = 0; i < want->n_avoid; i++)
		if (want->avoid[i] == h)
			return true;
	return false;
}

static const struct mesh_endpoint *pick_by_table(const struct mesh_host_set *set, const struct lb_worker *lw, uint32_t level, uint64_t hash,
						 const struct mesh_lb_want *want)
{
	const struct mesh_endpoint *picked = pick_hashed(set, lw, level, hash, 0);

	for (uint32_t i = 1; picked && i <= want->attempts_max && is_avoided(picked->host, want); i++)
		picked = pick_hashed(set, lw, level, hash, i);
	return picked;
}

static const struct mesh_endpoint *pick_by_state(struct foil_worker *w, const struct mesh_host_set *set, struct lb_worker *lw, uint32_t level,
						 const struct mesh_lb_want *want)
{
	const struct mesh_endpoint *picked = NULL;

	for (uint32_t i = 0; i <= want->attempts_max; i++) {
		struct lb_group *g = group_of(w, set, lw, level);
		if (!g)
			return NULL;
		picked = &set->endpoints[set->policy->pick(w, set, g)];
		if (!is_avoided(picked->host, want))
			break;
	}
	return picked;
}

/* An ejected host whose turn it is to be tried, by this pick alone, whatever the policy would say (HC-2); NULL: none. */
static FOIL_COLD const struct mesh_endpoint *pick_on_probation(struct foil_worker *w, const struct mesh_host_set *set, const struct mesh_lb_want *want)
{
	for (uint32_t i = 0; i < set->n_endpoints; i++) {
		const struct mesh_endpoint *e = &set->endpoints[i];
		if (mesh_outlier_is_due(e->host) && !is_avoided(e->host, want) && mesh_outlier_claim(w, e->host, is_usable_but_for_ejection(e)))
			return e;
	}
	return NULL;
}

const struct mesh_endpoint *mesh_lb_choose(struct foil_worker *w, const struct mesh_endpoints *e, struct mesh_host_set *set,
					   const struct mesh_lb_want *want)
{
	if (!set || !e || e->n_endpoints == 0)
		return NULL;
	FOIL_ASSERT(set->endpoints == e->endpoints && w->id < set->n_workers);
	struct lb_worker *lw = &set->by_worker[w->id];
	uint32_t epoch = __atomic_load_n(&set->cluster->health_epoch, __ATOMIC_ACQUIRE);

	if (FOIL_UNLIKELY(!lw->is_built || lw->health_epoch != epoch || (lw->warm_until_us && w->now_us >= lw->warm_until_us))) {
		lw->health_epoch = epoch;
		rebuild(w, set, lw);
	}
	if (FOIL_UNLIKELY(!__atomic_load_n(&set->cluster->has_traffic, __ATOMIC_RELAXED)))
		__atomic_store_n(&set->cluster->has_traffic, true, __ATOMIC_RELAXED);
	if (FOIL_UNLIKELY(__atomic_load_n(&set->cluster->n_probes_due, __ATOMIC_RELAXED))) {
		const struct mesh_endpoint *tried = pick_on_probation(w, set, want);
		if (tried)
			return tried;
	}
	bool by_table = set->policy->table_pick != NULL;
	uint64_t hash = want->hash;
	if ((by_table && !want->has_hash) || (!by_table && set->n_levels > 1))
		hash = foil_prng_u64(&w->prng);
	uint32_t level = lb_level_of(lw->levels, set->n_levels, hash);
	const struct mesh_endpoint *picked = by_table ? pick_by_table(set, lw, level, hash, want) : pick_by_state(w, set, lw, level, want);
	if (picked && lw->levels[level].is_panic)
		foil_count(w, MESH, LB_PANIC_PICKS, 1);
	return picked;
}

const struct mesh_endpoint *mesh_lb_pick(struct foil_worker *w, const struct mesh_cluster *c, const struct mesh_endpoints *e, struct mesh_host_set *set,
					 struct mesh_host *const *avoid, uint32_t n_avoid, uint32_t attempts_max)
{
	const struct mesh_lb_want want = {.avoid = avoid, .n_avoid = n_avoid, .attempts_max = attempts_max};

	(void)c;
	return mesh_lb_choose(w, e, set, &want);
}
