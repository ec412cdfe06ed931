/* What is legal and yet hardly meant: the findings of Istio's analyzers that a compilation does not make by itself (features.md CFG-3, VS-6). */
#include "ctrl/istio/workloads.h"

#include <string.h>

/* ---- rules that cannot be reached ---- */

static bool has_no_condition(const struct http_match *m)
{
	bool any_path = !m->uri || (m->uri->prefix && strcmp(m->uri->prefix, "/") == 0) || (m->uri->regex && strcmp(m->uri->regex, ".*") == 0);

	return any_path && !m->scheme && !m->method && !m->authority && m->headers.n == 0 && m->without_headers.n == 0 && m->query_params.n == 0 &&
	       !m->port.is_set && m->source_labels.n == 0 && m->gateways.n == 0 && !m->source_namespace;
}

/* A match on nothing but its path, as a word that equal ones share; NULL for the others. */
static const char *path_only(struct compile *c, const struct http_match *m)
{
	if (!m->uri || m->scheme || m->method || m->authority || m->headers.n || m->without_headers.n || m->query_params.n || m->port.is_set ||
	    m->source_labels.n || m->gateways.n || m->source_namespace)
		return NULL;
	return istio_arena_printf(c->arena, "%c%c%s", m->ignore_uri_case.is_true ? 'i' : 'c', m->uri->exact ? 'e' : m->uri->prefix ? 'p' : 'r',
			    m->uri->exact ? m->uri->exact : m->uri->prefix ? m->uri->prefix : m->uri->regex ? m->uri->regex : "");
}

static void lint_rule(struct compile *c, const struct vs *v, uint32_t i, struct istio_map *seen, const struct http_route **all)
{
	const struct http_route *r = v->http[i];
	const char *field = istio_compile_rule_field(c, r, v->http_index[i]);

	if (*all) {
		istio_compile_report(c, ISTIO_WARNING, "IST0130", v->http_source[i], r->head.node->at, field,
			       "never reached: the rule in line %u%s%s matches every request", (*all)->head.node->at.line, (*all)->origin ? " of " : "",
				     (*all)->origin ? (*all)->origin->resource->id : "");
		return;
	}
	if (r->match.n == 0)
		*all = r;
	for (uint32_t j = 0; j < r->match.n; j++) {
		const struct http_match *m = ISTIO_ITEM(r->match, struct http_match, j);
		const char *key = path_only(c, m);
		bool is_new = true;
		if (key)
			(void)istio_map_put(c->arena, seen, key, &is_new);
		if (!is_new)
			istio_compile_report(c, ISTIO_WARNING, "IST0131", v->http_source[i], m->head.node->at,
				       r->origin ? istio_arena_printf(c->arena, "%s.path", field) : istio_arena_printf(c->arena, "%s.match[%u]", field, j),
					       "never matches: an earlier rule has the same match");
		if (has_no_condition(m))
			*all = r;
	}
}

static void lint_rules(struct compile *c, const struct vs *v)
{
	struct istio_map seen = {0};
	const struct http_route *all = NULL;

	for (uint32_t i = 0; i < v->n_http; i++)
		lint_rule(c, v, i, &seen, &all);
}

/* ---- gateways that are not there, hosts that they do not have ---- */

static bool gateway_has_host(struct compile *c, const struct resource *gateway, const char *host, const char *namespace)
{
	const struct gateway *g = gateway->spec;

	for (uint32_t i = 0; i < g->servers.n; i++)
		if (istio_hosts_touch(istio_hosts_of_server(c, gateway, ISTIO_ITEM(g->servers, struct gateway_server, i), i), host, namespace))
			return true;
	return false;
}

static void lint_gateway(struct compile *c, const struct vs *v, const char *name, uint32_t index)
{
	const char *field = istio_arena_printf(c->arena, "spec.gateways[%u]", index);
	const char *full = strchr(name, '/') ? name : istio_arena_printf(c->arena, "%s/%s", v->source->namespace, name);
	const struct resource *written = istio_map_get(&c->model->by_id, istio_arena_printf(c->arena, "Gateway/%s", full));
	const struct resource *gateway = written ? written : istio_map_get(&c->model->made_gateways, full);
	struct istio_pos at = istio_doc_at(v->spec->head.node, "gateways");

	if (!gateway) {
		istio_compile_report(c, ISTIO_WARNING, "IST0101", v->source, at, field, "there is no Gateway %s: no request comes to these rules by it", full);
		return;
	}
	for (uint32_t i = 0; i < v->spec->hosts.n; i++)
		if (!gateway_has_host(c, gateway, v->hosts[i], v->source->namespace))
			istio_compile_report(c, ISTIO_WARNING, "IST0132", v->source, istio_doc_at(v->spec->head.node, "hosts"),
					     istio_arena_printf(c->arena, "spec.hosts[%u]", i), "no server of Gateway %s has the host %s", full,
					     v->spec->hosts.list[i]);
}

static void lint_header_names(struct compile *c, const struct vs *v)
{
	static const char *const names[] = {"uri", "scheme", "method", "authority"};

	for (uint32_t i = 0; i < v->n_http; i++)
		for (uint32_t j = 0; j < v->http[i]->match.n; j++) {
			const struct http_match *m = ISTIO_ITEM(v->http[i]->match, struct http_match, j);
			for (uint32_t k = 0; k < m->headers.n; k++)
				for (int l = 0; l < 4; l++)
					if (strcmp(ISTIO_ITEM(m->headers, struct string_match, k)->head.name, names[l]) == 0)
						istio_compile_report(c, ISTIO_WARNING, "HF0007", v->http_source[i], m->head.node->at,
							       istio_arena_printf(c->arena, "spec.http[%u].match[%u].headers", v->http_index[i], j),
							       "matches a header named \"%s\"; to match the request's own %s, write %s beside headers",
								       names[l], names[l],
							       names[l]);
		}
}

/* ---- DestinationRules for nobody ---- */

static void lint_rule_hosts(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_DESTINATION_RULE];

	for (uint32_t i = 0; i < list->n; i++) {
		const struct destination_rule *rule = list->list[i]->spec;
		const char *host = istio_compile_fqdn(c, rule->host, list->list[i]->namespace);
		if (host[0] != '*' && !istio_registry_find(c, host))
			istio_compile_report(c, ISTIO_WARNING, "IST0101", list->list[i], istio_doc_at(rule->head.node, "host"), "spec.host",
				       "no Service or ServiceEntry has the host %s: the rule applies to nothing", host);
	}
}

/* ---- Sidecars of others ---- */

static void lint_sidecars(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_SIDECAR];

	for (uint32_t i = 0; i < list->n; i++)
		if (list->list[i] != istio_sidecar_of_node(c))
			istio_compile_report(c, ISTIO_WARNING, "HF0006", list->list[i], list->list[i]->node->at, "",
				       "accepted, but it is not this node's and limits nothing here: a node has the Sidecar that selects its labels in "
				       "the namespace of its service_account, else that namespace's, else that of %s without workloadSelector; of "
				       "several the oldest",
				       c->root_namespace);
}

void istio_lint_model(struct compile *c)
{
	for (uint32_t i = 0; i < c->virtual_services.n; i++) {
		const struct vs *v = c->virtual_services.list[i];
		lint_rules(c, v);
		lint_header_names(c, v);
		for (uint32_t j = 0; j < v->spec->gateways.n; j++)
			if (strcmp(v->spec->gateways.list[j], MESH_GATEWAY) != 0)
				lint_gateway(c, v, v->spec->gateways.list[j], j);
	}
	lint_rule_hosts(c);
	lint_sidecars(c);
	istio_workloads_lint(c);
}
