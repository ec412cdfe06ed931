/* A host set's shape: endpoints ordered into groups by priority and, where localities have weights, locality; and its memory, one block with each worker's
 * part on lines of its own. Set-up by housekeeping; nothing here knows health.
 * Where hosts may be degraded (they are checked), groups and levels are there twice: for those that are well, and for those that are degraded.
 * Invariant: members[] is a permutation of the endpoints, once or twice; groups are consecutive parts of it, levels consecutive groups. */
#include <stdlib.h>

#include "dataplane/mesh/lb_priv.h"

/* In whole cache lines. */
static size_t lines(size_t n_bytes)
{
	return (n_bytes + 63) & ~(size_t)63;
}

/* ---- groups ---- */
struct plan {
	uint64_t *keys; /* priority, locality, endpoint: what members are ordered by */
	uint32_t n, n_groups, n_levels;
};

static uint32_t group_key(uint64_t key)
{
	return (uint32_t)(key >> 32);
}

static int by_key(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool make_plan(const struct mesh_endpoints *e, bool by_locality, struct plan *p)
{
	bool is_sorted = true;

	*p = (struct plan){.n = e ? e->n_endpoints : 0, .n_groups = 1, .n_levels = e && e->n_priorities ? e->n_priorities : 1};
	p->keys = calloc(p->n + 1u, sizeof(p->keys[0]));
	if (!p->keys)
		return false;
	for (uint32_t i = 0; i < p->n; i++) {
		const struct mesh_endpoint *one = &e->endpoints[i];
		p->keys[i] = (uint64_t)one->priority << 48 | (uint64_t)(by_locality ? one->locality_index : 0) << 32 | i;
		is_sorted &= i == 0 || p->keys[i] > p->keys[i - 1];
	}
	if (!is_sorted)
		qsort(p->keys, p->n, sizeof(p->keys[0]), by_key);
	for (uint32_t i = 1; i < p->n; i++)
		p->n_groups += group_key(p->keys[i]) != group_key(p->keys[i - 1]);
	return true;
}

static uint32_t n_members(const struct mesh_host_set *set)
{
	return set->n_endpoints * (set->n_levels / set->n_priorities);
}

/* The groups of degraded hosts, behind all others. */
static void copy_shapes(struct mesh_host_set *set, uint32_t n_endpoints)
{
	uint32_t n = set->n_groups / 2;

	memcpy(&set->members[n_endpoints], set->members, n_endpoints * sizeof(set->members[0]));
	for (uint32_t i = 0; i < n; i++) {
		struct lb_shape *g = &set->shapes[n + i];
		*g = set->shapes[i];
		g->first += n_endpoints;
		g->level = (uint8_t)(g->level + set->n_priorities);
	}
}

static void fill_shapes(struct mesh_host_set *set, const struct plan *p, bool by_locality)
{
	struct lb_shape *g = &set->shapes[0];
	uint32_t weight = 0;

	*g = (struct lb_shape){.weight = 1, .needs_edf = set->slow_start != NULL};
	for (uint32_t i = 0; i < p->n; i++) {
		const struct mesh_endpoint *e = &set->endpoints[set->members[i] = (uint32_t)p->keys[i]];
		if (i > 0 && group_key(p->keys[i]) != group_key(p->keys[i - 1]))
			*++g = (struct lb_shape){.first = i, .weight = 1, .needs_edf = set->slow_start != NULL};
		if (g->n++ == 0)
			weight = e->weight;
		g->needs_edf |= e->weight != weight;
		g->priority = g->level = e->priority;
		if (by_locality)
			g->weight = set->locality_weights[e->locality_index];
	}
	if (set->n_levels > set->n_priorities)
		copy_shapes(set, p->n);
	for (uint32_t i = 0; i < set->n_groups; i++) {
		struct lb_level *l = &set->levels[set->shapes[i].level];
		if (l->n_groups++ == 0)
			l->first_group = i;
		l->n_endpoints += set->shapes[i].n;
	}
}

/* ---- memory ---- */
/* Takes n_bytes of a block in whole lines; base NULL: counts only. */
static void *take(char *base, size_t *at, size_t n_bytes)
{
	void *p = base ? base + *at : NULL;

	*at += lines(n_bytes);
	return p;
}

static void lay_out_shared(char *base, size_t *at, const struct mesh_host_set *shape, struct mesh_host_set *set)
{
	void *levels = take(base, at, shape->n_levels * sizeof(struct lb_level)), *shapes = take(base, at, shape->n_groups * sizeof(struct lb_shape));
	void *members = take(base, at, n_members(shape) * sizeof(uint32_t)), *hosts = take(base, at, shape->n_endpoints * sizeof(struct mesh_host *));
	void *slow_start = shape->slow_start ? take(base, at, sizeof(struct mesh_slow_start)) : NULL;

	if (!base)
		return;
	set->levels = levels;
	set->shapes = shapes;
	set->members = members;
	set->hosts = hosts;
	if (slow_start)
		set->slow_start = memcpy(slow_start, shape->slow_start, sizeof(struct mesh_slow_start));
}

static void lay_out_groups(char *base, size_t *at, const struct mesh_host_set *set, struct lb_worker *lw, uint32_t *usable)
{
	struct lb_group *groups = take(base, at, set->n_groups * sizeof(*groups));

	if (base)
		lw->groups = groups;
	for (uint32_t i = 0; i < set->n_groups; i++) {
		void *state = set->policy->state_bytes ? take(base, at, set->policy->state_bytes(&set->shapes[i])) : NULL;
		if (base)
			groups[i] = (struct lb_group){.usable = usable + set->shapes[i].first, .state = state};
	}
}

static void lay_out_worker(char *base, size_t *at, const struct mesh_host_set *set, struct lb_worker *lw)
{
	struct lb_level_now *levels = take(base, at, 2 * set->n_priorities * sizeof(*levels)); /* lb_loads tells of both in any case */
	uint32_t *usable = take(base, at, n_members(set) * sizeof(*usable));

	if (base)
		lw->levels = levels;
	for (uint32_t i = 0; i < set->n_levels; i++) {
		bool has_localities = set->levels[i].n_groups > 1;
		void *edf = has_localities ? take(base, at, lb_edf_bytes(set->levels[i].n_groups)) : NULL;
		if (base)
			levels[i].localities = edf;
	}
	lay_out_groups(base, at, set, lw, usable);
}

static void *zeroed(size_t n_bytes)
{
	void *p = aligned_alloc(64, lines(n_bytes));

	return p ? memset(p, 0, lines(n_bytes)) : NULL;
}

/* First the part that all read, in a block of its own to learn the groups from; then all of it. */
static struct mesh_host_set *alloc(const struct mesh_host_set *shape, const struct plan *p, bool by_locality)
{
	size_t head = lines(sizeof(*shape) + shape->n_workers * sizeof(struct lb_worker)), n_shared = head, at;
	struct mesh_host_set learned = *shape, *set = NULL;

	lay_out_shared(NULL, &n_shared, shape, NULL);
	char *draft = zeroed(n_shared);
	if (!draft)
		return NULL;
	at = head;
	lay_out_shared(draft, &at, shape, &learned);
	fill_shapes(&learned, p, by_locality);
	for (uint16_t i = 0; i < shape->n_workers; i++)
		lay_out_worker(NULL, &at, &learned, NULL);
	char *block = zeroed(at);
	if (block) {
		set = (struct mesh_host_set *)(void *)block;
		memcpy(block + head, draft + head, n_shared - head);
		memcpy(set, shape, sizeof(*shape));
		at = head;
		lay_out_shared(block, &at, shape, set);
		for (uint16_t i = 0; i < shape->n_workers; i++)
			lay_out_worker(block, &at, set, &set->by_worker[i]);
	}
	free(draft);
	return set;
}

static bool is_scheduled(enum mesh_lb lb)
{
	return lb == MESH_LB_ROUND_ROBIN || lb == MESH_LB_LEAST_REQUEST;
}

struct mesh_host_set *lb_set_alloc(uint16_t n_workers, const struct mesh_cluster *c, const struct mesh_endpoints *e)
{
	struct mesh_host_set shape = {
		.endpoints = e ? e->endpoints : NULL, .n_endpoints = e ? e->n_endpoints : 0, .policy = lb_policy_of(c->lb), .n_refs = 1,
		.slow_start = is_scheduled(c->lb) ? c->slow_start : NULL, .panic_threshold_percent = c->panic_threshold_percent,
		.overprovisioning_percent = c->overprovisioning_percent ? c->overprovisioning_percent : MESH_OVERPROVISIONING_PERCENT,
		.ring_size_min = c->ring_size_min ? c->ring_size_min : MESH_RING_SIZE_MIN,
		.ring_size_max = c->ring_size_max ? c->ring_size_max : MESH_RING_SIZE_MAX,
		.maglev_table_size = c->maglev_table_size ? c->maglev_table_size : MESH_MAGLEV_TABLE_SIZE,
		.n_localities = e ? e->n_localities : 0, .locality_weights = e ? e->locality_weights : NULL, .n_workers = n_workers,
	};
	bool by_locality = shape.n_localities > 0 && !shape.policy->table_pick;
	uint32_t n_copies = e && e->has_checks ? 2 : 1;
	struct plan p;

	if (!make_plan(e, by_locality, &p))
		return NULL;
	shape.n_groups = p.n_groups * n_copies;
	shape.n_priorities = p.n_levels;
	shape.n_levels = p.n_levels * n_copies;
	struct mesh_host_set *set = alloc(&shape, &p, by_locality);
	free(p.keys);
	return set;
}

static bool is_same_slow_start(const struct mesh_slow_start *a, const struct mesh_slow_start *b)
{
	return a == b || (a && b && a->window_us == b->window_us && memcmp(a->share, b->share, sizeof(a->share)) == 0);
}

static bool is_or_default(uint32_t is, uint32_t wanted, uint32_t by_default)
{
	return is == (wanted ? wanted : by_default);
}

bool lb_set_fits(const struct mesh_host_set *set, const struct mesh_cluster *c)
{
	return set->policy == lb_policy_of(c->lb) && set->panic_threshold_percent == c->panic_threshold_percent &&
	       is_or_default(set->overprovisioning_percent, c->overprovisioning_percent, MESH_OVERPROVISIONING_PERCENT) &&
	       is_or_default(set->ring_size_min, c->ring_size_min, MESH_RING_SIZE_MIN) &&
	       is_or_default(set->ring_size_max, c->ring_size_max, MESH_RING_SIZE_MAX) &&
	       is_or_default(set->maglev_table_size, c->maglev_table_size, MESH_MAGLEV_TABLE_SIZE) &&
	       is_same_slow_start(set->slow_start, is_scheduled(c->lb) ? c->slow_start : NULL);
}
