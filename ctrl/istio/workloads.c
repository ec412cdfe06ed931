/* A WorkloadEntry as it counts (features.md WE-2, WE-4): with the labels of its metadata, and out of use while its status says that it is not well.
 * istiod: where metadata and spec have one label, that of the metadata is used; health is looked at only where the annotation says that it is told, and
 * nothing told yet means not well. */
#include "ctrl/istio/workloads.h"

#include <string.h>
#include <strings.h>

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

struct workload istio_workload_of(struct compile *c, const struct resource *r)
{
	struct workload_entry *e = ARENA_NEW(c->arena, struct workload_entry);
	const char *told = told_health(r);

	*e = *(const struct workload_entry *)r->spec;
	e->labels = lay_over(c, &e->labels, &r->labels);
	return (struct workload){.entry = e, .is_well = !health_is_told(r) || (told && strcmp(told, "True") == 0)};
}
