/* A WorkloadEntry as it counts (features.md WE-2, WE-4, WG-1): with the labels of its metadata and what its WorkloadGroup's template says, and out of use while
 * its status says that it is not well. istiod: where metadata and spec have one label, that of the metadata is used; health is looked at only where the
 * annotation says that it is told, and nothing told yet means not well.
 *
 * Under istiod a workload that connects gets an entry, filled from its group, with an annotation that names it. Here entries are written, and the same
 * annotation makes an entry one of a group: what it does not say itself is the template's. The group's probe, which istio-agent makes beside the workload
 * and tells, is a health check of the data plane's. */
#include "ctrl/istio/workloads.h"

#include <string.h>
#include <strings.h>

#define GROUP_OF_ENTRY "istio.io/autoRegistrationGroup"
#define HEALTH_IS_TOLD "proxy.istio.io/health-checks-enabled"

/* Both, in the order of the keys; where both have one, over's. */
static struct istio_string_map lay_over(struct compile *c, const struct istio_string_map *under, const struct istio_string_map *over)
{
	const char **keys = ARENA_ARRAY(c->arena, const char *, under->n + over->n + 1);
	const char **values = ARENA_ARRAY(c->arena, const char *, under->n + over->n + 1);
	uint32_t i = 0, j = 0, n = 0;

	while (i < under->n || j < over->n) {
		int by = i == under->n ? 1 : j == over->n ? -1 : strcmp(under->keys[i], over->keys[j]);
		const struct istio_string_map *from = by < 0 ? under : over;
		uint32_t at = by < 0 ? i : j;
		keys[n] = from->keys[at];
		values[n++] = from->values[at];
		i += by <= 0;
		j += by >= 0;
	}
	return (struct istio_string_map){keys, values, n};
}

static bool health_is_told(const struct resource *r)
{
	const char *value = istio_compile_label(&r->annotations, HEALTH_IS_TOLD);

	return value && (strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

/* NULL: nothing was told. */
static const char *told_health(const struct resource *r)
{
	const struct doc_node *conditions = istio_doc_find(istio_doc_find(r->node, "status"), "conditions");

	for (uint32_t i = 0; conditions && conditions->type == DOC_LIST && i < conditions->n_children; i++) {
		const char *type = istio_doc_text(conditions->children[i], "type");
		if (type && strcmp(type, "Healthy") == 0)
			return istio_doc_text(conditions->children[i], "status");
	}
	return NULL;
}

/* NULL: of none, or of one that is not there. */
static const struct workload_group *group_of(struct compile *c, const struct resource *r)
{
	const char *name = istio_compile_label(&r->annotations, GROUP_OF_ENTRY);
	bool is_new;

	if (!name || !name[0])
		return NULL;
	const char *id = istio_arena_printf(c->arena, "WorkloadGroup/%s/%s", r->namespace, name);
	const struct resource *group = istio_map_get(&c->model->by_id, id);
	if (!group) {
		istio_compile_report(c, ISTIO_WARNING, "IST0101", r, r->node->at, "metadata.annotations",
				     "there is no WorkloadGroup %s in the namespace %s: the entry has what it says itself", name, r->namespace);
		return NULL;
	}
	(void)istio_map_put(c->arena, &c->groups, id, &is_new);
	return group->spec;
}

static void fill_from_group(struct compile *c, const struct workload_group *g, struct workload_entry *e)
{
	const struct workload_entry *t = g->template;
	struct istio_string_map labels = lay_over(c, &t->labels, g->metadata ? &g->metadata->labels : &(struct istio_string_map){0});

	e->labels = lay_over(c, &labels, &e->labels);
	e->ports = lay_over(c, &t->ports, &e->ports);
	e->network = e->network && e->network[0] ? e->network : t->network;
	e->locality = e->locality && e->locality[0] ? e->locality : t->locality;
	e->service_account = e->service_account && e->service_account[0] ? e->service_account : t->service_account;
	e->weight = e->weight.value ? e->weight : t->weight;
}

/* Where the data plane asks by itself, nothing told is no reason to wait. */
static bool is_well(const struct resource *r, bool is_asked)
{
	const char *told = told_health(r);

	return !health_is_told(r) || (told ? strcmp(told, "True") == 0 : is_asked);
}

struct workload istio_workload_of(struct compile *c, const struct resource *r)
{
	struct workload_entry *e = ARENA_NEW(c->arena, struct workload_entry);
	const struct workload_group *group = group_of(c, r);
	const struct health_check *check = group ? group->check : NULL;

	*e = *(const struct workload_entry *)r->spec;
	if (group)
		fill_from_group(c, group, e);
	e->labels = lay_over(c, &e->labels, &r->labels);
	return (struct workload){.entry = e, .check = check, .is_well = is_well(r, check != NULL)};
}

/* istiod would make entries of a group whose workloads connect. */
void istio_workloads_lint(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_WORKLOAD_GROUP];
	const struct istio_map *used = &c->groups;

	for (uint32_t i = 0; i < list->n; i++) {
		bool is_used = false;
		for (uint32_t j = 0; j < used->n && !is_used; j++)
			is_used = strcmp(used->entries[j].key, list->list[i]->id) == 0;
		if (!is_used)
			istio_compile_report(c, ISTIO_WARNING, "HF0006", list->list[i], list->list[i]->node->at, "",
					     "workloads do not register themselves: write a WorkloadEntry for each, with the annotation " GROUP_OF_ENTRY
					     ": %s", list->list[i]->name);
	}
}
