/* From documents to the model: which kind a document is, its metadata, its spec by the kind's table, and what is done with one that is refused. */
#include "ctrl/istio/ingresses.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_BUDGET_BYTES (4096ull << 20)
#define CONFIG_MAP_NAMESPACE "istio-system"
#define CONFIG_MAP_NAME "istio"

struct metadata {
	struct istio_head head;
	const char *name, *namespace, *created;
	struct istio_string_map labels, annotations;
};

static const struct istio_field metadata_rows[] = {
	{.name = "name", .type = F_STRING, .offset = offsetof(struct metadata, name)},
	{.name = "namespace", .type = F_STRING, .offset = offsetof(struct metadata, namespace)},
	{.name = "creationTimestamp", .type = F_STRING, .offset = offsetof(struct metadata, created)},
	{.name = "labels", .type = F_STRING_MAP, .offset = offsetof(struct metadata, labels)},
	{.name = "annotations", .type = F_STRING_MAP, .offset = offsetof(struct metadata, annotations), .is_free_text = true},
};
static const struct istio_table table_metadata = {.what = "ObjectMeta", .size = sizeof(struct metadata), FIELDS_OF(metadata_rows), .is_open = true};

/* What stands around a spec. */
static const struct istio_field envelope_rows[] = {
	{.name = "apiVersion", .status = IGNORED},
	{.name = "kind", .status = IGNORED},
	{.name = "metadata", .status = IGNORED},
	{.name = "spec", .status = IGNORED},
	{.name = "status", .status = IGNORED},
};
static const struct istio_table table_envelope = {.what = "the resource", .size = sizeof(struct istio_head), FIELDS_OF(envelope_rows)};

struct adding {
	struct istio_model *model;
	struct istio_diags *diags;
	struct doc_file *file;
	const struct doc_node *node;
	const struct istio_kind_row *row;
	struct metadata *meta;
	const char *id, *namespace;
};

void istio_resource_report(struct istio_diags *d, enum istio_severity severity, const char *code, const struct resource *r, struct istio_pos at,
			   const char *field,
		     const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* cut */
	va_end(ap);
	istio_diags_add(d, severity, code, r->file_name, at, r->id, field, "%s", text);
}

static void report(struct adding *a, enum istio_severity severity, const char *code, struct istio_pos at, const char *field, const char *text)
{
	istio_diags_add(a->diags, severity, code, a->file->name, at, a->id ? a->id : "", field, "%s", text);
}

/* ---- which kind ---- */

static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = words; *p; p += strcspn(p, " "), p += strspn(p, " "))
		if (strcspn(p, " ") == n && memcmp(p, word, n) == 0)
			return true;
	return false;
}

static const struct istio_kind_row *row_of(const char *api_version, const char *kind)
{
	const char *slash = strchr(api_version, '/');
	size_t n_group = slash ? (size_t)(slash - api_version) : 0;

	for (uint32_t i = 0; i < istio_n_kinds; i++) {
		const struct istio_kind_row *row = &istio_kinds[i];
		if (strlen(row->group) == n_group && memcmp(row->group, api_version, n_group) == 0 && strcmp(row->kind, kind) == 0)
			return row;
	}
	return NULL;
}

/* False: nothing more to do with this document. */
static bool find_row(struct adding *a)
{
	char text[300];
	const char *api_version = istio_doc_text(a->node, "apiVersion"), *kind = istio_doc_text(a->node, "kind");

	if (!api_version || !kind) {
		report(a, ISTIO_ERROR, "IST0106", a->node->at, "", "not a resource: a document needs apiVersion and kind");
		a->model->stats.n_refused++;
		return false;
	}
	a->row = row_of(api_version, kind);
	if (!a->row) {
		(void)snprintf(text, sizeof(text), "unknown kind %.80s of %.80s: skipped", kind, api_version);
		report(a, ISTIO_WARNING, "HF0008", istio_doc_at(a->node, "kind"), "kind", text);
		a->model->stats.n_unknown++;
		return false;
	}
	return a->row->status != IGNORED;
}

static bool version_is_known(struct adding *a)
{
	char text[200];
	const char *api_version = istio_doc_text(a->node, "apiVersion"), *slash = strchr(api_version, '/');
	const char *version = slash ? slash + 1 : api_version;

	if (!a->row->versions[0] || has_word(a->row->versions, version))
		return true;
	(void)snprintf(text, sizeof(text), "unknown version \"%.40s\" of %s: use one of %s", version, a->row->kind, a->row->versions);
	report(a, ISTIO_ERROR, "IST0106", istio_doc_at(a->node, "apiVersion"), "apiVersion", text);
	return false;
}

/* ---- metadata ---- */

static struct istio_decode decoder(struct adding *a, struct istio_diags *diags)
{
	return (struct istio_decode){.arena = &a->model->arena, .diags = diags, .file = a->file->name, .resource = a->id ? a->id : "",
				     .fallback_namespace = a->namespace};
}

static bool is_object_name(const char *name)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
	size_t n = strlen(name);

	return n >= 1 && n <= 253 && name[strspn(name, chars)] == 0 && name[0] != '.' && name[0] != '-' && name[n - 1] != '.' && name[n - 1] != '-';
}

static bool take_metadata(struct adding *a)
{
	struct istio_decode d = decoder(a, a->diags);
	const struct doc_node *node = istio_doc_find(a->node, "metadata");

	(void)snprintf(d.path, sizeof(d.path), "metadata"); /* it fits */
	d.n_path = strlen(d.path);
	a->meta = istio_decode_object(&d, &table_metadata, node);
	if (d.n_errors)
		return false;
	if (!a->meta->name || !a->meta->name[0]) {
		report(a, ISTIO_ERROR, "IST0106", node ? node->at : a->node->at, "metadata.name", "a resource needs a name");
		return false;
	}
	if (!is_object_name(a->meta->name) || (a->meta->namespace && a->meta->namespace[0] && !is_object_name(a->meta->namespace))) {
		report(a, ISTIO_ERROR, "IST0106", istio_doc_at(node, is_object_name(a->meta->name) ? "namespace" : "name"), "metadata",
		       "a name has lower-case letters, digits, dots and dashes, at most 253, and begins and ends with a letter or digit");
		return false;
	}
	a->namespace = a->meta->namespace && a->meta->namespace[0] ? a->meta->namespace : "default";
	if (a->row->is_cluster_wide)
		a->id = istio_arena_printf(&a->model->arena, "%s/%s", a->row->kind, a->meta->name);
	else
		a->id = istio_arena_printf(&a->model->arena, "%s/%s/%s", a->row->kind, a->namespace, a->meta->name);
	return true;
}

static const char *map_value(const struct istio_string_map *m, const char *key)
{
	for (uint32_t i = 0; i < m->n; i++)
		if (strcmp(m->keys[i], key) == 0)
			return m->values[i];
	return NULL;
}

static const char *created(const struct metadata *meta)
{
	const char *by_hand = map_value(&meta->annotations, "hydrofoil.io/created");

	return by_hand ? by_hand : meta->created ? meta->created : "";
}

/* ---- spec ---- */

static void *decode_spec(struct adding *a, unsigned int *n_errors)
{
	struct istio_decode d = decoder(a, a->diags);

	if (a->row->is_whole) {
		void *whole = istio_decode_object(&d, a->row->table, a->node);
		*n_errors = d.n_errors;
		return whole;
	}
	(void)istio_decode_object(&d, &table_envelope, a->node); /* only for what it reports */
	(void)snprintf(d.path, sizeof(d.path), "spec");    /* it fits */
	d.n_path = strlen(d.path);
	const struct doc_node *spec = istio_doc_find(a->node, "spec");
	if (!spec || spec->type == DOC_NULL) {
		istio_decode_error(&d, "IST0106", &(struct istio_head){.node = a->node}, "", "%s %s needs a spec", strchr("AEIO", a->row->kind[0]) ? "an" : "a",
				   a->row->kind);
		*n_errors = d.n_errors;
		return NULL;
	}
	void *out = istio_decode_object(&d, a->row->table, spec);
	*n_errors = d.n_errors;
	return out;
}

static void keep_file(struct istio_model *m, struct doc_file *f)
{
	if (m->files.n && m->files.list[m->files.n - 1] == f)
		return;
	ARENA_PUSH(&m->arena, &m->files, f);
	istio_doc_get_ref(f);
}

static void keep(struct adding *a, void *spec, bool is_last_good)
{
	struct istio_model *m = a->model;
	struct resource *r = ARENA_NEW(&m->arena, struct resource);
	bool is_new;

	*r = (struct resource){.row = a->row, .id = a->id, .name = a->meta->name, .namespace = a->namespace, .created = created(a->meta),
			       .labels = a->meta->labels, .annotations = a->meta->annotations, .node = a->node, .file = a->file, .file_name = a->file->name,
			       .is_last_good = is_last_good, .spec = spec};
	*istio_map_put(&m->arena, &m->by_id, r->id, &is_new) = r;
	ARENA_PUSH(&m->arena, &m->kinds[a->row->id], r);
	keep_file(m, a->file);
}

/* The version that the model before this one has of a refused resource. It decoded without an error then. */
static void keep_last_good(struct adding *a)
{
	struct istio_model *m = a->model;
	const struct resource *before = m->previous ? istio_map_get(&m->previous->by_id, a->id) : NULL;
	struct istio_diags unheard;
	unsigned int n_errors = 0;

	if (!before)
		return;
	istio_diags_init(&unheard);
	struct adding again = {.model = m, .diags = &unheard, .file = before->file, .node = before->node, .row = before->row};
	void *spec = take_metadata(&again) ? decode_spec(&again, &n_errors) : NULL;
	istio_diags_fini(&unheard);
	if (!spec || n_errors)
		return;
	keep(&again, spec, true);
	m->stats.n_last_good++;
	report(a, ISTIO_WARNING, "HF0009", a->node->at, "", "refused: the version of it that was read before stays in use");
}

static void add_resource(struct istio_model *m, struct istio_diags *diags, struct doc_file *f, const struct doc_node *node)
{
	struct adding a = {.model = m, .diags = diags, .file = f, .node = node};
	char text[400];
	unsigned int n_errors = 0;

	if (!find_row(&a))
		return;
	if (!take_metadata(&a)) {
		m->stats.n_refused++;
		return;
	}
	if (a.row->status == REFUSED) {
		(void)snprintf(text, sizeof(text), "%s is not supported: %s", a.row->kind, a.row->note);
		report(&a, ISTIO_ERROR, "HF0005", istio_doc_at(node, "kind"), "", text);
		m->stats.n_refused++;
		return;
	}
	const struct resource *first = istio_map_get(&m->by_id, a.id);
	if (first && !first->is_last_good) {
		(void)snprintf(text, sizeof(text), "stands twice; the first one, at %.200s:%u, is used: remove one", first->file_name, first->node->at.line);
		report(&a, ISTIO_ERROR, "HF0010", node->at, "", text);
		m->stats.n_refused++;
		return;
	}
	bool is_known = version_is_known(&a);
	void *spec = is_known && !a.row->is_late ? decode_spec(&a, &n_errors) : NULL;
	if (!is_known || (!spec && !a.row->is_late) || n_errors) {
		m->stats.n_refused++;
		if (!first)
			keep_last_good(&a);
		return;
	}
	if (first) /* an earlier, refused one was kept by its last good version, and here is a good one */
		return;
	keep(&a, spec, false);
	m->stats.n_resources++;
}

/* A List's items, or the document itself. Lists do not nest. */
static void add_document(struct istio_model *m, struct istio_diags *diags, struct doc_file *f, const struct doc_node *node)
{
	const char *kind = istio_doc_text(node, "kind");
	const struct doc_node *items = istio_doc_find(node, "items");
	size_t n = kind ? strlen(kind) : 0;

	if (n < 4 || strcmp(kind + n - 4, "List") != 0 || !items || items->type != DOC_LIST) {
		add_resource(m, diags, f, node);
		return;
	}
	for (uint32_t i = 0; i < items->n_children; i++)
		add_resource(m, diags, f, items->children[i]);
}

/* ---- entry points ---- */

struct istio_model *istio_model_new(const struct istio_model *previous)
{
	struct istio_model *m = calloc(1, sizeof(*m));

	if (m) {
		m->arena.n_budget = MODEL_BUDGET_BYTES;
		m->previous = previous;
		m->n_refs = 1;
	}
	return m;
}

struct istio_model *istio_model_get_ref(struct istio_model *m)
{
	m->n_refs++;
	return m;
}

void istio_model_free(struct istio_model *own_m)
{
	if (!own_m || --own_m->n_refs)
		return;
	for (uint32_t i = 0; i < own_m->files.n; i++)
		istio_doc_put_ref(own_m->files.list[i]);
	istio_doc_put_ref(own_m->mesh_file);
	istio_doc_put_ref(own_m->networks_file);
	istio_arena_fini(&own_m->arena);
	free(own_m);
}

int istio_model_add(struct istio_model *m, struct doc_file *f, struct istio_diags *diags)
{
	if (setjmp(m->arena.full))
		return -ENOMEM;
	for (uint32_t i = 0; i < f->n_documents; i++)
		add_document(m, diags, f, f->documents[i]);
	return 0;
}

int istio_resource_by_age(const void *x, const void *y)
{
	const struct resource *a = *(struct resource *const *)x, *b = *(struct resource *const *)y;
	int by = b->is_made - a->is_made;

	if (by == 0)
		by = strcmp(a->created, b->created);
	if (by == 0 && !a->is_made)
		by = strcmp(a->file_name, b->file_name);
	if (by == 0)
		by = strcmp(a->name, b->name);
	return by ? by : strcmp(a->namespace, b->namespace);
}

/* A text inside MeshConfig's ConfigMap, as a document with its own places in the file. before: as it was read last, or NULL. */
static struct doc_file *mesh_text(const struct istio_model *m, const char *key, struct doc_file *before, struct istio_diags *diags)
{
	char field[32];
	const struct resource *r = istio_map_get(&m->by_id, "ConfigMap/" CONFIG_MAP_NAMESPACE "/" CONFIG_MAP_NAME);
	const struct doc_node *mesh = r ? istio_doc_find(istio_doc_find(r->node, "data"), key) : NULL;

	if (!mesh || mesh->type != DOC_STRING)
		return NULL;
	struct istio_pos at = mesh->at;
	if (mesh->literal_column)
		at = (struct istio_pos){mesh->at.line + 1, mesh->literal_column};
	struct doc_file *f = istio_doc_read(r->file_name, mesh->text, mesh->n_text, at, diags);
	if (!f && before) {
		(void)snprintf(field, sizeof(field), "data.%s", key); /* it fits */
		istio_diags_add(diags, ISTIO_WARNING, "HF0009", r->file_name, mesh->at, r->id, field,
				"refused: the %s that was read before stays in use", strcmp(key, "mesh") == 0 ? "MeshConfig" : "MeshNetworks");
		f = istio_doc_get_ref(before);
	}
	return f;
}

static void take_mesh(struct istio_model *m, struct istio_diags *diags)
{
	m->mesh_file = mesh_text(m, "mesh", m->previous ? m->previous->mesh_file : NULL, diags);
	m->mesh_file_name = m->mesh_file ? m->mesh_file->name : "";
	struct istio_decode d = {.arena = &m->arena, .diags = diags, .file = m->mesh_file_name, .resource = "MeshConfig"};
	m->mesh = istio_decode_object(&d, &istio_table_mesh_config, m->mesh_file && m->mesh_file->n_documents ? m->mesh_file->documents[0] : NULL);
	istio_mesh_config_check(&d, m->mesh);
	m->root_namespace = m->mesh->root_namespace ? m->mesh->root_namespace : CONFIG_MAP_NAMESPACE;
	m->trust_domain = m->mesh->trust_domain && m->mesh->trust_domain[0] ? m->mesh->trust_domain : "cluster.local";
}

static void take_networks(struct istio_model *m, struct istio_diags *diags)
{
	m->networks_file = mesh_text(m, "meshNetworks", m->previous ? m->previous->networks_file : NULL, diags);
	const struct doc_file *f = m->networks_file;
	struct istio_decode d = {.arena = &m->arena, .diags = diags, .file = f ? f->name : "", .resource = "MeshNetworks"};
	m->networks = istio_decode_object(&d, &istio_table_mesh_networks, f && f->n_documents ? f->documents[0] : NULL);
}

static void sort(struct resource_list *list)
{
	if (list->n)
		qsort(list->list, list->n, sizeof(list->list[0]), istio_resource_by_age);
}

/* Its last good version, unless that was somebody else's. */
static void keep_last_ingress(struct adding *a)
{
	const struct resource *before = a->model->previous ? istio_map_get(&a->model->previous->by_id, a->id) : NULL;
	struct istio_diags unheard;

	istio_diags_init(&unheard);
	bool is_ours = before && istio_ingress_is_ours(a->model, before, &unheard);
	istio_diags_fini(&unheard);
	if (is_ours)
		keep_last_good(a);
}

/* Those that are ours are decoded, the others are left alone, whatever stands in them. */
static void take_ingresses(struct istio_model *m, struct istio_diags *diags)
{
	const struct resource_list all = m->kinds[KIND_INGRESS];

	m->kinds[KIND_INGRESS] = (struct resource_list){0};
	for (uint32_t i = 0; i < all.n; i++) {
		struct resource *r = all.list[i];
		struct adding a = {.model = m, .diags = diags, .file = r->file, .node = r->node, .row = r->row};
		unsigned int n_errors = 0;
		if (!istio_ingress_is_ours(m, r, diags))
			continue;
		if (!r->spec && take_metadata(&a))
			r->spec = decode_spec(&a, &n_errors);
		if (r->spec && !n_errors) {
			ARENA_PUSH(&m->arena, &m->kinds[KIND_INGRESS], r);
			continue;
		}
		m->stats.n_resources--;
		m->stats.n_refused++;
		keep_last_ingress(&a);
	}
	if (m->kinds[KIND_INGRESS].n == 0)
		return;
	sort(&m->kinds[KIND_INGRESS]);
	istio_ingresses_convert(m, diags);
	sort(&m->kinds[KIND_GATEWAY]);
	sort(&m->kinds[KIND_VIRTUAL_SERVICE]);
}

int istio_model_finish(struct istio_model *m, struct istio_diags *diags)
{
	if (setjmp(m->arena.full))
		return -ENOMEM;
	for (unsigned int k = 0; k < KIND_N; k++)
		sort(&m->kinds[k]);
	take_mesh(m, diags);
	take_networks(m, diags);
	take_ingresses(m, diags);
	m->previous = NULL;
	return 0;
}

struct istio_model_stats istio_model_stats(const struct istio_model *m)
{
	return m->stats;
}
