/* How many hosts of each cluster are ejected or degraded, as Envoy's users know it: envoy_cluster_outlier_detection_ejections_active and
 * envoy_cluster_membership_degraded by cluster_name (features.md DR-45, HC-5). Hosts change by every worker and by housekeeping, too; so one worker, the first,
 * tells for all, whenever a shared count says that something changed or the configuration did. Clusters without such a host have no series.
 * Invariant: an entry's value is what its cell says for this cluster. */
#include "dataplane/mesh/host_set_priv.h"
#include "dataplane/mesh/runtime.h"

#define CLUSTERS_MAX 1024u /* with such hosts at once; what is beyond has no series until one of these is well again */

enum { GAUGE_EJECTED, GAUGE_DEGRADED, GAUGE_COUNT };
static const char *const names[GAUGE_COUNT] = {"envoy_cluster_outlier_detection_ejections_active", "envoy_cluster_membership_degraded"};

struct entry {
	uint64_t name_hash; /* the cluster's, which may be gone */
	uint64_t *cell;
	uint32_t value;
	uint32_t mark;
};
struct gauge {
	uint32_t n;
	struct entry list[CLUSTERS_MAX];
};
struct mesh_host_gauges {
	uint32_t n_seen, mark;
	uint64_t generation;
	struct gauge gauges[GAUGE_COUNT];
};

size_t mesh_host_gauges_bytes(void)
{
	return sizeof(struct mesh_host_gauges);
}

static struct entry *entry_of(struct foil_worker *w, struct gauge *g, const char *name, const struct mesh_cluster_state *s)
{
	const struct tele_label label = {FOIL_SLICE("cluster_name"), s->name};

	for (uint32_t i = 0; i < g->n; i++)
		if (g->list[i].name_hash == s->hash)
			return &g->list[i];
	if (g->n == CLUSTERS_MAX)
		return NULL;
	struct entry *e = &g->list[g->n++];
	*e = (struct entry){.name_hash = s->hash, .cell = tele_cell(w, name, &label, 1)};
	return e;
}

/* By the difference: a cell may be shared where there is no room for more. */
static void set_value(struct entry *e, uint32_t value)
{
	uint64_t was = __atomic_load_n(e->cell, __ATOMIC_RELAXED);

	__atomic_store_n(e->cell, was + value - e->value, __ATOMIC_RELAXED);
	e->value = value;
}

/* Those that the walk did not meet are well, or gone. */
static void drop_unmarked(struct foil_worker *w, struct gauge *g, uint32_t mark)
{
	for (uint32_t i = 0; i < g->n;) {
		struct entry *e = &g->list[i];
		if (e->mark == mark) {
			i++;
			continue;
		}
		set_value(e, 0);
		tele_cell_put(w, e->cell);
		*e = g->list[--g->n];
	}
}

static uint32_t count_of(int gauge, const struct mesh_cluster *c, const struct mesh_cluster_state *s)
{
	if (gauge == GAUGE_DEGRADED)
		return __atomic_load_n(&s->n_degraded, __ATOMIC_RELAXED);
	return c->outlier ? __atomic_load_n(&s->n_ejected, __ATOMIC_RELAXED) : 0;
}

static void tell_cluster(struct foil_worker *w, struct mesh_host_gauges *g, const struct mesh_cluster *c, const struct mesh_cluster_state *s)
{
	for (int i = 0; i < GAUGE_COUNT; i++) {
		uint32_t n = count_of(i, c, s);
		struct entry *e = n ? entry_of(w, &g->gauges[i], names[i], s) : NULL;
		if (!e)
			continue;
		e->mark = g->mark;
		set_value(e, n);
	}
}

void mesh_host_gauges_tell(struct foil_worker *w, const struct mesh_config *cfg, uint32_t n_changes)
{
	struct mesh_host_gauges *g = w->mesh->host_gauges;

	if (FOIL_LIKELY(!g || (n_changes == g->n_seen && cfg->generation == g->generation)))
		return;
	g->n_seen = n_changes;
	g->generation = cfg->generation;
	g->mark++;
	for (uint32_t slot = 0; slot < cfg->n_cluster_slots; slot++)
		if (cfg->host_sets[slot])
			tell_cluster(w, g, cfg->clusters[slot], cfg->host_sets[slot]->cluster);
	for (int i = 0; i < GAUGE_COUNT; i++)
		drop_unmarked(w, &g->gauges[i], g->mark);
}
