/* VirtualServices before they are compiled: delegates merged in (features.md VS-53, VS-54) and an index by gateway and by mesh host (VS-4, VS-5). */
#include "ctrl/istio/compile.h"

#include <stdlib.h>
#include <string.h>

/* ---- delegates: which matches of a root and of its delegate go together ---- */

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool string_conflicts(const struct string_match *root, const struct string_match *leaf)
{
	if (!root || !leaf)
		return false;
	if (root->regex || leaf->regex)
		return true;
	if (root->exact)
		return !leaf->exact || strcmp(root->exact, leaf->exact) != 0;
	if (root->prefix)
		return !(leaf->exact ? has_prefix(leaf->exact, root->prefix) : leaf->prefix && has_prefix(leaf->prefix, root->prefix));
	return leaf->exact || leaf->prefix;
}

static const struct string_match *named(const struct istio_list *list, const char *name)
{
	for (uint32_t i = 0; i < list->n; i++)
		if (strcmp(ISTIO_ITEM(*list, struct string_match, i)->head.name, name) == 0)
			return ISTIO_ITEM(*list, struct string_match, i);
	return NULL;
}

static bool map_conflicts(const struct istio_list *root, const struct istio_list *leaf)
{
	for (uint32_t i = 0; i < leaf->n; i++) {
		const struct string_match *m = ISTIO_ITEM(*leaf, struct string_match, i);
		if (string_conflicts(named(root, m->head.name), m))
			return true;
	}
	return false;
}

static bool gateways_conflict(const struct istio_strings *root, const struct istio_strings *leaf)
{
	for (uint32_t i = 0; root->n && i < leaf->n; i++) {
		bool found = false;
		for (uint32_t j = 0; j < root->n; j++)
			found |= strcmp(leaf->list[i], root->list[j]) == 0;
		if (!found)
			return true;
	}
	return false;
}

static bool labels_conflict(const struct istio_string_map *root, const struct istio_string_map *leaf)
{
	for (uint32_t i = 0; i < leaf->n; i++) {
		const char *value = istio_compile_label(root, leaf->keys[i]);
		if (value && strcmp(value, leaf->values[i]) != 0)
			return true;
	}
	return false;
}

static bool matches_conflict(const struct http_match *root, const struct http_match *leaf)
{
	if (string_conflicts(root->uri, leaf->uri) || string_conflicts(root->scheme, leaf->scheme) || string_conflicts(root->method, leaf->method) ||
	    string_conflicts(root->authority, leaf->authority))
		return true;
	if (map_conflicts(&root->headers, &leaf->headers) || map_conflicts(&root->without_headers, &leaf->without_headers) ||
	    map_conflicts(&root->query_params, &leaf->query_params))
		return true;
	if (root->uri && leaf->uri && root->ignore_uri_case.is_true != leaf->ignore_uri_case.is_true)
		return true;
	if (root->port.value && leaf->port.value && root->port.value != leaf->port.value)
		return true;
	if (root->source_namespace && (!leaf->source_namespace || strcmp(root->source_namespace, leaf->source_namespace) != 0))
		return true;
	return labels_conflict(&root->source_labels, &leaf->source_labels) || gateways_conflict(&root->gateways, &leaf->gateways);
}

static struct istio_list unite(struct compile *c, const struct istio_list *root, const struct istio_list *leaf)
{
	struct string_match *items = ARENA_ARRAY(c->arena, struct string_match, root->n + leaf->n);
	uint32_t n = 0;

	for (uint32_t i = 0; i < leaf->n; i++)
		items[n++] = *ISTIO_ITEM(*leaf, struct string_match, i);
	for (uint32_t i = 0; i < root->n; i++)
		if (!named(leaf, ISTIO_ITEM(*root, struct string_match, i)->head.name))
			items[n++] = *ISTIO_ITEM(*root, struct string_match, i);
	return (struct istio_list){items, n};
}

static struct istio_string_map unite_labels(struct compile *c, const struct istio_string_map *root, const struct istio_string_map *leaf)
{
	const char **keys = ARENA_ARRAY(c->arena, const char *, root->n + leaf->n), **values = ARENA_ARRAY(c->arena, const char *, root->n + leaf->n);
	uint32_t n = 0;

	for (uint32_t i = 0, j = 0; i < root->n || j < leaf->n;) { /* both in order */
		int by = i == root->n ? 1 : j == leaf->n ? -1 : strcmp(root->keys[i], leaf->keys[j]);
		keys[n] = by < 0 ? root->keys[i] : leaf->keys[j];
		values[n++] = by < 0 ? root->values[i] : leaf->values[j];
		i += by <= 0;
		j += by >= 0;
	}
	return (struct istio_string_map){keys, values, n};
}

static struct http_match merge_match(struct compile *c, const struct http_match *root, const struct http_match *leaf)
{
	struct http_match out = *leaf;

	if (root->name && root->name[0])
		out.name = leaf->name && leaf->name[0] ? istio_arena_printf(c->arena, "%s-%s", root->name, leaf->name) : root->name;
	if (!leaf->uri) {
		out.uri = root->uri;
		out.ignore_uri_case = root->ignore_uri_case;
	}
	out.scheme = leaf->scheme ? leaf->scheme : root->scheme;
	out.method = leaf->method ? leaf->method : root->method;
	out.authority = leaf->authority ? leaf->authority : root->authority;
	out.headers = unite(c, &root->headers, &leaf->headers);
	out.without_headers = unite(c, &root->without_headers, &leaf->without_headers);
	out.query_params = unite(c, &root->query_params, &leaf->query_params);
	out.port = leaf->port.value ? leaf->port : root->port;
	out.source_labels = unite_labels(c, &root->source_labels, &leaf->source_labels);
	out.source_namespace = leaf->source_namespace ? leaf->source_namespace : root->source_namespace;
	out.gateways = leaf->gateways.n ? leaf->gateways : root->gateways;
	return out;
}

/* Each root match with each of the delegate's, without the pairs that exclude each other. False: no pair is left. */
static bool cross_matches(struct compile *c, const struct http_route *root, const struct http_route *leaf, struct istio_list *out)
{
	struct {
		struct http_match *list;
		uint32_t n, n_room;
	} all = {0};

	if (root->match.n == 0 || leaf->match.n == 0) {
		*out = root->match.n ? root->match : leaf->match;
		return true;
	}
	for (uint32_t i = 0; i < root->match.n; i++)
		for (uint32_t j = 0; j < leaf->match.n; j++) {
			const struct http_match *a = ISTIO_ITEM(root->match, struct http_match, i), *b = ISTIO_ITEM(leaf->match, struct http_match, j);
			if (!matches_conflict(a, b))
				ARENA_PUSH(c->arena, &all, merge_match(c, a, b));
		}
	*out = (struct istio_list){all.list, all.n};
	return all.n > 0;
}

/* Whole blocks: the delegate's where it has one (VS-54). NULL: no match is left. */
static struct http_route *merge_rule(struct compile *c, const struct http_route *root, const struct http_route *leaf)
{
	struct http_route *out = ARENA_NEW(c->arena, struct http_route);

	*out = *leaf;
	if (!cross_matches(c, root, leaf, &out->match))
		return NULL;
	if (root->name && root->name[0])
		out->name = leaf->name && leaf->name[0] ? istio_arena_printf(c->arena, "%s-%s", root->name, leaf->name) : root->name;
	out->rewrite = leaf->rewrite ? leaf->rewrite : leaf->redirect || leaf->direct_response ? NULL : root->rewrite;
	out->timeout = leaf->timeout.is_set ? leaf->timeout : root->timeout;
	out->retries = leaf->retries ? leaf->retries : root->retries;
	out->fault = leaf->fault ? leaf->fault : root->fault;
	out->cors = leaf->cors ? leaf->cors : root->cors;
	out->headers = leaf->headers ? leaf->headers : root->headers;
	if (!leaf->mirror && leaf->mirrors.n == 0) {
		out->mirror = root->mirror;
		out->mirrors = root->mirrors;
	}
	if (!leaf->mirror_percentage && !leaf->mirror_percent.is_set) {
		out->mirror_percentage = root->mirror_percentage;
		out->mirror_percent = root->mirror_percent;
	}
	return out;
}

struct rules {
	struct {
		const struct http_route **list;
		uint32_t n, n_room;
	} http;
	struct {
		const struct resource **list;
		uint32_t n, n_room;
	} source;
	struct {
		uint32_t *list;
		uint32_t n, n_room;
	} index;
};

static void push_rule(struct compile *c, struct rules *to, const struct http_route *r, const struct resource *source, uint32_t index)
{
	ARENA_PUSH(c->arena, &to->http, r);
	ARENA_PUSH(c->arena, &to->source, source);
	ARENA_PUSH(c->arena, &to->index, index);
}

static void add_delegated(struct compile *c, const struct resource *r, const struct http_route *root, uint32_t index, struct rules *to)
{
	const struct delegate *d = root->delegate;
	const char *namespace = d->namespace && d->namespace[0] ? d->namespace : r->namespace;
	const char *field = istio_arena_printf(c->arena, "spec.http[%u].delegate", index);
	const struct resource *leaf = istio_map_get(&c->model->by_id, istio_arena_printf(c->arena, "VirtualService/%s/%s", namespace, d->name ? d->name : ""));
	const struct virtual_service *spec = leaf ? leaf->spec : NULL;

	if (!leaf) {
		istio_compile_report(c, ISTIO_WARNING, "IST0101", r, d->head.node->at, field, "there is no VirtualService %s/%s: the rule is left out",
				     namespace,
			       d->name ? d->name : "");
		return;
	}
	if (spec->hosts.n) {
		istio_compile_report(c, ISTIO_WARNING, "HF0014", r, d->head.node->at, field, "%s has hosts, so it is no delegate: the rule is left out",
				     leaf->id);
		return;
	}
	if (!istio_compile_is_exported(&spec->export_to, &c->model->mesh->virtual_service_export_to, leaf->namespace, r->namespace)) {
		istio_compile_report(c, ISTIO_WARNING, "HF0014", r, d->head.node->at, field, "%s is not exported to %s: the rule is left out", leaf->id,
				     r->namespace);
		return;
	}
	for (uint32_t i = 0; i < spec->http.n; i++) {
		const struct http_route *one = ISTIO_ITEM(spec->http, struct http_route, i);
		struct http_route *merged = merge_rule(c, root, one);
		if (merged)
			push_rule(c, to, merged, leaf, i);
		else
			istio_compile_report(c, ISTIO_WARNING, "HF0014", leaf, one->head.node->at, istio_arena_printf(c->arena, "spec.http[%u]", i),
				       "no match of it goes together with one of %s: the rule is left out", r->id);
	}
}

static struct vs *vs_new(struct compile *c, const struct resource *r)
{
	struct vs *v = ARENA_NEW(c->arena, struct vs);
	const struct virtual_service *spec = r->spec;
	struct rules rules = {0};

	for (uint32_t i = 0; i < spec->http.n; i++) {
		const struct http_route *one = ISTIO_ITEM(spec->http, struct http_route, i);
		if (one->delegate)
			add_delegated(c, r, one, i, &rules);
		else
			push_rule(c, &rules, one, one->origin ? one->origin->resource : r, i);
	}
	const char **hosts = ARENA_ARRAY(c->arena, const char *, spec->hosts.n);
	for (uint32_t i = 0; i < spec->hosts.n; i++)
		hosts[i] = istio_compile_fqdn(c, spec->hosts.list[i], r->namespace);
	*v = (struct vs){.source = r, .hosts = hosts, .spec = spec, .http = rules.http.list, .http_source = rules.source.list, .http_index = rules.index.list,
			 .n_http = rules.http.n};
	return v;
}

const char *istio_compile_rule_field(struct compile *c, const struct http_route *r, uint32_t index)
{
	return r->origin ? r->origin->field : istio_arena_printf(c->arena, "spec.http[%u]", index);
}

/* ---- the index ---- */

static void index_gateway(struct compile *c, struct vs *v, const char *gateway)
{
	bool is_new;
	void **place = istio_map_put(c->arena, &c->vs_by_gateway, gateway, &is_new);

	if (is_new)
		*place = ARENA_NEW(c->arena, struct vs_list);
	struct vs_list *list = *place;
	if (list->n == 0 || list->list[list->n - 1] != v)
		ARENA_PUSH(c->arena, list, v);
}

/* VS-5: in the mesh the oldest VirtualService has a host; the others are not merged. */
static void index_mesh(struct compile *c, struct vs *v)
{
	bool is_new;

	for (uint32_t i = 0; i < v->spec->hosts.n; i++) {
		const char *host = v->hosts[i];
		void **place = istio_map_put(c->arena, &c->mesh_vs, host, &is_new);
		if (is_new) {
			*place = v;
			continue;
		}
		const struct vs *first = *place;
		if (first != v)
			istio_compile_report(c, ISTIO_WARNING, "IST0109", v->source, istio_doc_at(v->spec->head.node, "hosts"), "spec.hosts",
				       "the host %s is already that of %s in the mesh: this one is ignored for it", host, first->source->id);
	}
}

void istio_virtual_services_index(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_VIRTUAL_SERVICE];

	for (uint32_t i = 0; i < list->n; i++) {
		const struct virtual_service *spec = list->list[i]->spec;
		if (spec->hosts.n == 0)
			continue; /* a delegate */
		struct vs *v = vs_new(c, list->list[i]);
		ARENA_PUSH(c->arena, &c->virtual_services, v);
		if (spec->gateways.n == 0)
			index_mesh(c, v);
		for (uint32_t j = 0; j < spec->gateways.n; j++) {
			const char *name = spec->gateways.list[j];
			if (strcmp(name, MESH_GATEWAY) == 0)
				index_mesh(c, v);
			else
				index_gateway(c, v, strchr(name, '/') ? name : istio_arena_printf(c->arena, "%s/%s", v->source->namespace, name));
		}
	}
}
