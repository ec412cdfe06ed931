/* From a model to the packed resources of a snapshot, for one node: the entry point and what all parts of the compiler use. */
#include "ctrl/istio/identity.h"
#include "ctrl/istio/networks.h"
#include "ctrl/istio/telemetry.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "channel.pb-c.h"

#define SCRATCH_BUDGET_BYTES (4096ull << 20)
#define OUT_BUDGET_BYTES (1024ull << 20)
#define DRAIN_US_DEFAULT 45000000
#define DNS_REFRESH_US_DEFAULT 60000000u

const struct istio_node istio_any_node = {.is_any = true};

/* ---- helpers ---- */

void istio_compile_report(struct compile *c, enum istio_severity severity, const char *code, const struct resource *r, struct istio_pos at, const char *field,
		    const char *fmt, ...)
{
	char text[512];
	va_list ap;
	bool is_new;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* cut */
	va_end(ap);
	(void)istio_map_put(c->arena, &c->reported, istio_arena_printf(c->arena, "%s:%u:%u:%s:%s", r->file_name, at.line, at.column, code, text), &is_new);
	if (is_new)
		istio_diags_add(c->diags, severity, code, r->file_name, at, r->id, field, "%s", text);
}

Foil__Conf__SourceRef *istio_compile_source(struct compile *c, const struct resource *r, struct istio_pos at)
{
	Foil__Conf__SourceRef *s = ARENA_NEW(c->arena, Foil__Conf__SourceRef);

	foil__conf__source_ref__init(s);
	if (!r) { /* of no resource: Istio's own defaults */
		s->resource = (char *)(uintptr_t)"MeshConfig";
		return s;
	}
	s->resource = (char *)(uintptr_t)r->id; /* packed, never written */
	s->file = (char *)(uintptr_t)r->file_name;
	s->has_line = s->has_column = true;
	s->line = at.line;
	s->column = at.column;
	return s;
}

void istio_compile_emit(struct compile *c, uint32_t type, const char *name, const ProtobufCMessage *message)
{
	size_t n = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = istio_arena_alloc(c->out, n);

	(void)protobuf_c_message_pack(message, bytes); /* n again */
	struct istio_resource r = {.type = type, .name = istio_arena_copy(c->out, name, strlen(name)), .bytes = bytes, .n_bytes = n,
				   .hash = XXH64(bytes, n, 0)};
	ARENA_PUSH(c->arena, &c->resources, r);
}

bool istio_compile_is_exported(const struct istio_strings *export_to, const struct istio_strings *fallback, const char *own_namespace, const char *to_namespace)
{
	const struct istio_strings *list = export_to && export_to->n ? export_to : fallback;

	if (list->n == 0 || strcmp(own_namespace, to_namespace) == 0)
		return !(list->n == 1 && strcmp(list->list[0], "~") == 0);
	for (uint32_t i = 0; i < list->n; i++)
		if (strcmp(list->list[i], "*") == 0 || strcmp(list->list[i], to_namespace) == 0)
			return true;
	return false;
}

const char *istio_compile_fqdn(struct compile *c, const char *host, const char *namespace)
{
	const char *lower = istio_arena_lower(c->arena, host);

	if (strchr(lower, '.') || strchr(lower, ':') || lower[0] == '*')
		return lower;
	return istio_arena_printf(c->arena, "%s.%s.svc.cluster.local", lower, namespace);
}

bool istio_compile_host_has_subset(const char *wide, const char *narrow)
{
	size_t n_wide = strlen(wide), n_narrow = strlen(narrow);

	if (wide[0] != '*')
		return strcmp(wide, narrow) == 0;
	if (n_wide == 1)
		return true;
	if (narrow[0] == '*') /* "*.a.b" in "*.b" */
		return n_narrow >= n_wide && strcmp(narrow + n_narrow - (n_wide - 1), wide + 1) == 0;
	return n_narrow >= n_wide && strcmp(narrow + n_narrow - (n_wide - 1), wide + 1) == 0;
}

const char *istio_compile_label(const struct istio_string_map *labels, const char *key)
{
	uint32_t low = 0, high = labels->n; /* keys are in order */

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int by = strcmp(labels->keys[middle], key);
		if (by == 0)
			return labels->values[middle];
		if (by < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

bool istio_compile_labels_have(const struct istio_string_map *all, const struct istio_string_map *wanted)
{
	for (uint32_t i = 0; i < wanted->n; i++) {
		const char *value = istio_compile_label(all, wanted->keys[i]);
		if (!value || strcmp(value, wanted->values[i]) != 0)
			return false;
	}
	return true;
}

bool istio_compile_node_labels_have(const char *const *keys, const char *const *values, size_t n_labels, const struct istio_string_map *wanted)
{
	for (uint32_t i = 0; i < wanted->n; i++) {
		bool has = false;
		for (size_t j = 0; j < n_labels && !has; j++)
			has = strcmp(keys[j], wanted->keys[i]) == 0 && strcmp(values[j], wanted->values[i]) == 0;
		if (!has)
			return false;
	}
	return true;
}

/* ---- what concerns all of the mesh ---- */

static void mesh_compile(struct compile *c)
{
	const struct mesh_config *mesh = c->model->mesh;
	const struct header_switch *server = mesh->proxy && mesh->proxy->headers ? mesh->proxy->headers->server : NULL;
	Foil__Conf__MeshSettings m = FOIL__CONF__MESH_SETTINGS__INIT;

	m.trust_domain = (char *)(uintptr_t)c->trust_domain; /* packed, never written, here and below */
	m.access_log_path = istio_telemetry_log_path(c);
	m.access_log_format = (char *)(uintptr_t)(mesh->access_log_format ? mesh->access_log_format : "");
	m.has_access_log_json = true;
	m.access_log_json = mesh->access_log_encoding.value == ACCESS_LOG_JSON;
	if (server && server->value)
		m.server_name = (char *)(uintptr_t)server->value;
	m.has_drain_duration_us = true;
	m.drain_duration_us = mesh->proxy && mesh->proxy->drain_duration.is_set ? (uint64_t)mesh->proxy->drain_duration.value : DRAIN_US_DEFAULT;
	if (mesh->proxy && mesh->proxy->connection_settings && mesh->proxy->connection_settings->node_connections.is_set) { /* OM-11 */
		m.has_connection_limit = true;
		m.connection_limit = (uint32_t)mesh->proxy->connection_settings->node_connections.value;
	}
	m.internal_cidrs = istio_networks_cidrs(c, &m.n_internal_cidrs);
	istio_compile_emit(c, FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH, "mesh", &m.base);
}

/* ---- the entry ---- */

int istio_resource_compare(const void *x, const void *y)
{
	const struct istio_resource *a = x, *b = y;

	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	return strcmp(a->name, b->name);
}

static int by_word(const void *x, const void *y)
{
	return strcmp(*(const char *const *)x, *(const char *const *)y);
}

static void names_finish(struct compile *c, struct istio_snapshot *s)
{
	const struct istio_int *refresh = &c->model->mesh->dns_refresh;
	const char **names = ARENA_ARRAY(c->out, const char *, c->names.n + 1);

	for (uint32_t i = 0; i < c->names.n; i++)
		names[s->n_names++] = istio_arena_copy(c->out, c->names.entries[i].key, strlen(c->names.entries[i].key));
	if (s->n_names)
		qsort(names, s->n_names, sizeof(*names), by_word);
	s->names = names;
	s->dns_refresh_us = refresh->is_set ? (uint64_t)refresh->value : DNS_REFRESH_US_DEFAULT;
}

static void fill(struct compile *c, struct owned_snapshot *o, const char *version)
{
	struct istio_snapshot *s = &o->snapshot;

	istio_registry_build(c);
	istio_networks_build(c);
	istio_virtual_services_index(c);
	mesh_compile(c);
	istio_gateways_compile(c);
	istio_sidecar_apply(c);
	istio_outbound_compile(c);
	istio_clusters_emit(c);
	istio_identity_finish(c, s);
	names_finish(c, s);
	istio_lint_model(c);
	o->resources = ARENA_ARRAY(c->out, struct istio_resource, c->resources.n);
	memcpy(o->resources, c->resources.list, sizeof(*o->resources) * c->resources.n);
	qsort(o->resources, c->resources.n, sizeof(*o->resources), istio_resource_compare);
	s->version = istio_arena_copy(c->out, version, strlen(version));
	s->resources = o->resources;
	s->n_resources = c->resources.n;
	for (size_t i = 0; i < s->n_resources; i++)
		s->n_bytes += o->resources[i].n_bytes;
}

int istio_compile(struct istio_model *m, const struct istio_node *node, const char *version, struct istio_snapshot **out, struct istio_diags *diags)
{
	struct owned_snapshot *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->arena.n_budget = OUT_BUDGET_BYTES;
	o->scratch.n_budget = SCRATCH_BUDGET_BYTES;
	o->model = istio_model_get_ref(m);
	o->compile = (struct compile){.model = m, .node = node, .diags = diags, .arena = &o->scratch, .out = &o->arena, .trust_domain = m->trust_domain,
				      .root_namespace = m->root_namespace};
	/* Both arenas jump to the same place. */
	if (setjmp(o->arena.full) || setjmp(o->scratch.full)) {
		istio_snapshot_free(&o->snapshot);
		return -ENOMEM;
	}
	fill(&o->compile, o, version);
	*out = &o->snapshot;
	return 0;
}

size_t istio_snapshot_memory_bytes(const struct istio_snapshot *s)
{
	const struct owned_snapshot *o = (const struct owned_snapshot *)(const void *)s;

	return o->arena.n_used + o->scratch.n_used;
}

void istio_snapshot_free(struct istio_snapshot *own_s)
{
	struct owned_snapshot *o = (struct owned_snapshot *)(void *)own_s;

	if (!o)
		return;
	for (uint32_t i = 0; i < o->patches.n; i++)
		istio_model_free(o->patches.list[i]);
	istio_model_free(o->model);
	istio_arena_fini(&o->arena);
	istio_arena_fini(&o->scratch);
	free(o);
}

/* ---- the node ---- */

struct istio_node *istio_node_from_hello(const Foil__Conf__NodeHello *hello)
{
	struct istio_node *n = calloc(1, sizeof(*n));
	struct istio_gateway_address *g = calloc(hello->n_gateways + 1, sizeof(*g));

	if (!n || !g) {
		free(n);
		free(g);
		return NULL;
	}
	for (size_t i = 0; i < hello->n_gateways; i++) {
		const Foil__Conf__GatewayAddress *from = hello->gateways[i];
		size_t n_labels = from->n_label_keys < from->n_label_values ? from->n_label_keys : from->n_label_values;
		g[i] = (struct istio_gateway_address){.label_keys = (const char *const *)from->label_keys,
						      .label_values = (const char *const *)from->label_values,
						      .n_labels = n_labels, .addresses = (const char *const *)from->addresses,
							      .n_addresses = from->n_addresses};
	}
	*n = (struct istio_node){.gateways = g, .n_gateways = hello->n_gateways, .service_cidrs = (const char *const *)hello->service_cidrs,
				 .n_service_cidrs = hello->n_service_cidrs, .locality = hello->locality,
				 .captured_cidrs = (const char *const *)hello->captured_cidrs, .n_captured_cidrs = hello->n_captured_cidrs,
				 .label_keys = (const char *const *)hello->label_keys, .label_values = (const char *const *)hello->label_values,
				 .service_account = hello->service_account,
				 .n_labels = hello->n_label_keys < hello->n_label_values ? hello->n_label_keys : hello->n_label_values};
	return n;
}

void istio_node_free(struct istio_node *own_n)
{
	if (own_n)
		free((struct istio_gateway_address *)(uintptr_t)own_n->gateways); /* made above */
	free(own_n);
}
