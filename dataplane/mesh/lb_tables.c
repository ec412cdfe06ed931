/* The tables of hashing policies: who is in them with which weight (Envoy's normalizeHostWeights and normalizeLocalityWeights), their memory, and whether
 * they are out of date. How a table looks is its policy's business. Housekeeping only; workers read set->tables.
 * Invariant: stock->n_bytes is the sum over all tables that are alive. */
#include <errno.h>
#include <stdlib.h>

#include "dataplane/mesh/addr_priv.h"
#include "dataplane/mesh/lb_priv.h"

struct foil_slice lb_table_key(const struct mesh_endpoint *e, char text[64])
{
	struct stream_addr addr = {.port = e->port};

	static_assert(ADDR_TEXT_BYTES == 64, "the header has the number");
	memcpy(addr.ip, e->ip, sizeof(addr.ip));
	return mesh_addr_text(&addr, true, text);
}

/* One look at a set: workers eject while we build, so health is read once. */
struct look {
	uint32_t health_epoch;
	uint8_t *fitness; /* enum lb_fitness, by endpoint */
	struct lb_candidate *list;
	uint32_t n_listed;
	struct lb_health health[MESH_PRIORITIES_MAX];
	struct lb_level_now now[MESH_LEVELS_MAX];
	struct lb_candidates levels[MESH_LEVELS_MAX];
};

/* ---- who is in it ---- */
static void look_at_health(const struct mesh_host_set *set, struct look *l)
{
	l->health_epoch = __atomic_load_n(&set->cluster->health_epoch, __ATOMIC_ACQUIRE);
	for (uint32_t i = 0; i < set->n_endpoints; i++) {
		const struct mesh_endpoint *e = &set->endpoints[i];
		l->fitness[i] = (uint8_t)lb_fitness_of(set, e);
		l->health[e->priority].n++;
		l->health[e->priority].n_healthy += l->fitness[i] == LB_WELL;
		l->health[e->priority].n_degraded += l->fitness[i] == LB_DEGRADED;
	}
	lb_loads(l->health, set->n_priorities, set->overprovisioning_percent, set->panic_threshold_percent, l->now);
}

static void put_candidate(struct look *l, struct lb_candidates *c, uint32_t endpoint, double weight)
{
	l->n_listed++;
	c->list[c->n++] = (struct lb_candidate){endpoint, weight};
	c->weight_min = weight < c->weight_min ? weight : c->weight_min;
	c->weight_max = weight > c->weight_max ? weight : c->weight_max;
}

/* Of one locality, or of all (-1): what falls to it is divided by the hosts' weights. */
static void put_candidates(const struct mesh_host_set *set, struct look *l, uint32_t level, long locality, double share)
{
	const struct lb_level *at = &set->levels[level];
	const uint32_t *members = &set->members[set->shapes[at->first_group].first];
	uint64_t sum = 0;

	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < at->n_endpoints; i++) {
			const struct mesh_endpoint *e = &set->endpoints[members[i]];
			bool is_in = l->now[level].is_panic || l->fitness[members[i]] == lb_fitness_at(set, level);
			if (!is_in || (locality >= 0 && e->locality_index != locality))
				continue;
			if (pass == 0)
				sum += e->weight;
			else
				put_candidate(l, &l->levels[level], members[i], e->weight * share / (double)sum);
		}
	}
}

static void look_at_level(const struct mesh_host_set *set, struct look *l, uint32_t level)
{
	uint64_t sum = 0;

	l->levels[level] = (struct lb_candidates){.list = l->list + l->n_listed, .weight_min = 1.0};
	for (uint32_t i = 0; i < set->n_localities; i++)
		sum += set->locality_weights[i];
	if (sum == 0 || l->now[level].is_panic) {
		put_candidates(set, l, level, -1, 1.0);
		return;
	}
	for (uint32_t i = 0; i < set->n_localities; i++)
		if (set->locality_weights[i])
			put_candidates(set, l, level, (long)i, (double)set->locality_weights[i] / (double)sum);
}

static void look_free(struct look *own_l)
{
	if (own_l) {
		free(own_l->fitness);
		free(own_l->list);
	}
	free(own_l);
}

static struct look *look_new(const struct mesh_host_set *set)
{
	struct look *l = calloc(1, sizeof(*l));

	if (l) {
		l->fitness = calloc(set->n_endpoints + 1u, sizeof(l->fitness[0]));
		l->list = calloc(set->n_endpoints + 1u, sizeof(l->list[0]));
	}
	if (!l || !l->fitness || !l->list) {
		look_free(l);
		return NULL;
	}
	look_at_health(set, l);
	for (uint32_t i = 0; i < set->n_levels; i++)
		look_at_level(set, l, i);
	return l;
}

/* ---- memory ---- */
static size_t align_up(size_t n)
{
	return (n + 63) & ~(size_t)63;
}

/* The tables of all levels in one block. */
static struct lb_tables *tables_alloc(struct lb_table_stock *stock, const struct mesh_host_set *set, const struct look *l)
{
	size_t n_bytes = align_up(sizeof(struct lb_tables) + set->n_levels * sizeof(void *)), at[MESH_LEVELS_MAX];

	for (uint32_t i = 0; i < set->n_levels; i++) {
		at[i] = n_bytes;
		n_bytes += l->levels[i].n ? align_up(set->policy->table_bytes(set, &l->levels[i])) : 0;
	}
	struct lb_tables *t = stock->n_bytes + n_bytes <= LB_TABLES_BYTES_MAX ? calloc(1, n_bytes) : NULL;
	if (!t)
		return NULL;
	t->n_bytes = n_bytes;
	t->health_epoch = l->health_epoch;
	stock->n_bytes += n_bytes;
	for (uint32_t i = 0; i < set->n_levels; i++)
		t->by_level[i] = l->levels[i].n ? (char *)t + at[i] : NULL;
	return t;
}

void lb_tables_free(struct lb_table_stock *stock, struct lb_tables *own_t)
{
	if (!own_t)
		return;
	FOIL_ASSERT(stock->n_bytes >= own_t->n_bytes);
	stock->n_bytes -= own_t->n_bytes;
	free(own_t);
}

struct lb_tables *lb_tables_new(struct lb_table_stock *stock, const struct mesh_host_set *set)
{
	struct look *l = look_new(set);
	struct lb_tables *t = l ? tables_alloc(stock, set, l) : NULL;

	for (uint32_t i = 0; t && i < set->n_levels; i++) {
		if (t->by_level[i] && set->policy->table_build(set, &l->levels[i], t->by_level[i]) != 0) {
			lb_tables_free(stock, t);
			t = NULL;
		}
	}
	look_free(l);
	return t;
}

bool lb_tables_are_stale(const struct mesh_host_set *set)
{
	return set->tables && set->tables->health_epoch != __atomic_load_n(&set->cluster->health_epoch, __ATOMIC_ACQUIRE);
}
