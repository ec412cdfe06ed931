/* How many hosts of each cluster are ejected, as Envoy's users know it: envoy_cluster_outlier_detection_ejections_active by cluster_name (features.md
 * DR-45). Hosts leave by every worker and come back by housekeeping, too; so one worker, the first, tells for all, whenever a shared count says that
 * something changed or the configuration did. Clusters without an ejected host have no series.
 * Invariant: an entry's value is what its cell says for this cluster. */
#include "dataplane/mesh/host_set_priv.h"
#include "dataplane/mesh/outlier_priv.h"
#include "dataplane/mesh/runtime.h"

#define CLUSTERS_MAX 1024u /* with ejected hosts at once; what is beyond has no series until one of these is well again */

struct entry {
	uint64_t name_hash; /* the cluster's, which may be gone */
	uint64_t *cell;
	uint32_t value;
	uint32_t mark;
};
struct mesh_outlier_gauge {
	uint32_t n, n_seen, mark;
	uint64_t generation;
	struct entry list[CLUSTERS_MAX];
};

size_t mesh_outlier_gauge_bytes(void)
{
	return sizeof(struct mesh_outlier_gauge);
}

static struct entry *entry_of(struct foil_worker *w, struct mesh_outlier_gauge *g, const struct mesh_cluster_state *s)
{
	const struct tele_label label = {FOIL_SLICE("cluster_name"), s->name};

	for (uint32_t i = 0; i < g->n; i++)
		if (g->list[i].name_hash == s->hash)
			return &g->list[i];
	if (g->n == CLUSTERS_MAX)
		return NULL;
	struct entry *e = &g->list[g->n++];
	*e = (struct entry){.name_hash = s->hash, .cell = tele_cell(w, "envoy_cluster_outlier_detection_ejections_active", &label, 1)};
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
static void drop_unmarked(struct foil_worker *w, struct mesh_outlier_gauge *g)
{
	for (uint32_t i = 0; i < g->n;) {
		struct entry *e = &g->list[i];
		if (e->mark == g->mark) {
			i++;
			continue;
		}
		set_value(e, 0);
		tele_cell_put(w, e->cell);
		*e = g->list[--g->n];
	}
}

void mesh_outlier_tell(struct foil_worker *w, const struct mesh_config *cfg, uint32_t n_changes)
{
	struct mesh_outlier_gauge *g = w->mesh->outlier_gauge;

	if (FOIL_LIKELY(!g || (n_changes == g->n_seen && cfg->generation == g->generation)))
		return;
	g->n_seen = n_changes;
	g->generation = cfg->generation;
	g->mark++;
	for (uint32_t slot = 0; slot < cfg->n_cluster_slots; slot++) {
		const struct mesh_host_set *set = cfg->host_sets[slot];
		uint32_t n = set && cfg->clusters[slot]->outlier ? __atomic_load_n(&set->cluster->n_ejected, __ATOMIC_RELAXED) : 0;
		struct entry *e = n ? entry_of(w, g, set->cluster) : NULL;
		if (!e)
			continue;
		e->mark = g->mark;
		set_value(e, n);
	}
	drop_unmarked(w, g);
}
