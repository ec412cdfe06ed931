/* What is legal and yet hardly meant: the findings of Istio's analyzers that a compilation does not make by itself (features.md CFG-3, VS-6). */
#include "ctrl/istio/workloads.h"

#include <string.h>
#include <strings.h>

/* ---- rules that cannot be reached ---- */

static bool has_no_condition(const struct http_match *m)
{
	bool any_path = !m->uri || (m->uri->prefix && strcmp(m->uri->prefix, "/") == 0) || (m->uri->regex && strcmp(m->uri->regex, ".*") == 0);

	return any_path && !m->scheme && !m->method && !m->authority && m->headers.n == 0 && m->without_headers.n == 0 && m->query_params.n == 0 &&
	       !m->port.is_set && m->source_labels.n == 0 && m->gateways.n == 0 && !m->source_namespace;
}

static char path_kind(const struct http_match *m)
{
	return m->uri->exact ? 'e' : m->uri->prefix ? (m->uri->by_segment ? 's' : 'p') : 'r';
}

/* A match on nothing but its path, as a word that equal ones share; NULL for the others. */
static const char *path_only(struct compile *c, const struct http_match *m)
{
	if (!m->uri || m->scheme || m->method || m->authority || m->headers.n || m->without_headers.n || m->query_params.n || m->port.is_set ||
	    m->source_labels.n || m->gateways.n || m->source_namespace)
		return NULL;
	return istio_arena_printf(c->arena, "%c%c%s", m->ignore_uri_case.is_true ? 'i' : 'c', path_kind(m),
			    m->uri->exact ? m->uri->exact : m->uri->prefix ? m->uri->prefix : m->uri->regex ? m->uri->regex : "");
}

/* An earlier match on a prefix alone that all of m's paths have, whatever else m asks for; NULL: there is none. */
static const struct http_match *prefix_before(struct compile *c, const struct istio_map *seen, const struct http_match *m)
{
	const char *path = !m->uri || m->ignore_uri_case.is_true ? NULL : m->uri->exact ? m->uri->exact : m->uri->prefix;

	if (!path || seen->n == 0)
		return NULL;
	const char *key = istio_arena_printf(c->arena, "cp%s", path);
	const struct http_match *first = NULL;
	for (size_t n = 3; !first && key[n - 1]; n++)
		first = istio_map_get_n(seen, key, n);
	return first;
}

/* False: it never matches. */
static bool lint_match(struct compile *c, const struct vs *v, uint32_t i, uint32_t j, struct istio_map *seen)
{
	const struct http_route *r = v->http[i];
	const struct http_match *m = ISTIO_ITEM(r->match, struct http_match, j), *before = prefix_before(c, seen, m);
	const char *field = istio_compile_rule_field(c, r, v->http_index[i]), *key = path_only(c, m);
	bool is_new = true;
	void **place = key ? istio_map_put(c->arena, seen, key, &is_new) : NULL;

	field = r->origin ? istio_arena_printf(c->arena, "%s.path", field) : istio_arena_printf(c->arena, "%s.match[%u]", field, j);
	if (!is_new)
		istio_compile_report(c, ISTIO_WARNING, "IST0131", v->http_source[i], m->head.node->at, field,
				     "never matches: an earlier rule has the same match");
	else if (before)
		istio_compile_report(c, ISTIO_WARNING, "IST0131", v->http_source[i], m->head.node->at, field,
				     "never matches: the prefix %.80s in line %u has all of these paths", before->uri->prefix, before->head.node->at.line);
	if (place && is_new)
		*place = (void *)(uintptr_t)m; /* read only */
	return is_new && !before;
}

static void lint_rule(struct compile *c, const struct vs *v, uint32_t i, struct istio_map *seen, const struct http_route **all)
{
	const struct http_route *r = v->http[i];
	const char *field = istio_compile_rule_field(c, r, v->http_index[i]);
	uint32_t n_used = 0;

	if (*all) {
		istio_compile_report(c, ISTIO_WARNING, "IST0130", v->http_source[i], r->head.node->at, field,
			       "never reached: the rule in line %u%s%s matches every request", (*all)->head.node->at.line, (*all)->origin ? " of " : "",
				     (*all)->origin ? (*all)->origin->resource->id : "");
		return;
	}
	if (r->match.n == 0)
		*all = r;
	for (uint32_t j = 0; j < r->match.n; j++) {
		n_used += lint_match(c, v, i, j, seen);
		if (has_no_condition(ISTIO_ITEM(r->match, struct http_match, j)))
			*all = r;
	}
	if (r->match.n > 1 && n_used == 0) /* of one match it is said already */
		istio_compile_report(c, ISTIO_WARNING, "IST0130", v->http_source[i], r->head.node->at, field,
				     "never reached: none of its matches ever matches");
}

static void lint_rules(struct compile *c, const struct vs *v)
{
	struct istio_map seen = {0};
	const struct http_route *all = NULL;

	for (uint32_t i = 0; i < v->n_http; i++)
		lint_rule(c, v, i, &seen, &all);
}

/* ---- rules of tcp and tls ---- */

static const char *strings_key(struct compile *c, const char *before, const struct istio_strings *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		before = istio_arena_printf(c->arena, "%s,%s", before, s->list[i]);
	return istio_arena_printf(c->arena, "%s;", before);
}

/* Everything that it asks for, as a word that equal ones share. */
static const char *l4_key(struct compile *c, const struct l4_match *m)
{
	const char *key = istio_arena_printf(c->arena, "%u;%s;", m->port.is_set ? (unsigned int)m->port.value : 0,
					     m->source_namespace ? m->source_namespace : "");

	key = strings_key(c, strings_key(c, strings_key(c, key, &m->sni_hosts), &m->destination_subnets), &m->gateways);
	for (uint32_t i = 0; i < m->source_labels.n; i++)
		key = istio_arena_printf(c->arena, "%s%s=%s,", key, m->source_labels.keys[i], m->source_labels.values[i]);
	return key;
}

static void lint_l4_rules(struct compile *c, const struct vs *v, const struct istio_list *rules, const char *kind)
{
	const struct l4_route *all = NULL;
	struct istio_map seen = {0};

	for (uint32_t i = 0; i < rules->n; i++) {
		const struct l4_route *r = ISTIO_ITEM(*rules, struct l4_route, i);
		const char *field = istio_arena_printf(c->arena, "spec.%s[%u]", kind, i);
		if (all)
			istio_compile_report(c, ISTIO_WARNING, "IST0130", v->source, r->head.node->at, field,
					     "never reached: the rule in line %u takes every connection", all->head.node->at.line);
		for (uint32_t j = 0; !all && j < r->match.n; j++) {
			const struct l4_match *m = ISTIO_ITEM(r->match, struct l4_match, j);
			bool is_new;
			(void)istio_map_put(c->arena, &seen, l4_key(c, m), &is_new);
			if (!is_new)
				istio_compile_report(c, ISTIO_WARNING, "IST0131", v->source, m->head.node->at,
						     istio_arena_printf(c->arena, "%s.match[%u]", field, j),
						     "never matches: an earlier rule has the same match");
		}
		if (!all && r->match.n == 0)
			all = r;
	}
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

static bool is_for_node(const struct compile *c, const struct gateway *g)
{
	for (size_t i = 0; i < c->node->n_gateways; i++) {
		const struct istio_gateway_address *at = &c->node->gateways[i];
		if (istio_compile_node_labels_have(at->label_keys, at->label_values, at->n_labels, &g->selector))
			return true;
	}
	return c->node->is_any;
}

static void lint_gateways_of_others(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_GATEWAY];

	for (uint32_t i = 0; i < list->n; i++) {
		const struct gateway *g = list->list[i]->spec;
		if (!is_for_node(c, g))
			istio_compile_report(c, ISTIO_WARNING, "IST0101", list->list[i], istio_doc_at(g->head.node, "selector"), "spec.selector",
					     "no gateway of the node file has these labels: the Gateway is not served by this node");
	}
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

/* Endpoints of slices come and go without a compilation, so that nothing is said of them. */
static bool selects_nobody(const struct service *s, const struct subset *subset)
{
	if (s->has_slices || s->instances.n == 0)
		return false;
	for (uint32_t i = 0; i < s->instances.n; i++)
		if (istio_compile_labels_have(s->instances.list[i]->labels, &subset->labels))
			return false;
	return true;
}

static void lint_subsets(struct compile *c, const struct resource *r, const struct service *s)
{
	const struct destination_rule *rule = r->spec;

	for (uint32_t i = 0; i < rule->subsets.n; i++) {
		const struct subset *subset = ISTIO_ITEM(rule->subsets, struct subset, i);
		if (selects_nobody(s, subset))
			istio_compile_report(c, ISTIO_WARNING, "IST0173", r, subset->head.node->at, istio_arena_printf(c->arena, "spec.subsets[%u].labels", i),
					     "no endpoint of %s has these labels: requests to the subset %s get 503 (UH)", s->source->id, subset->name);
	}
}

static void lint_rule_hosts(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_DESTINATION_RULE];

	for (uint32_t i = 0; i < list->n; i++) {
		const struct destination_rule *rule = list->list[i]->spec;
		const char *host = istio_compile_fqdn(c, rule->host, list->list[i]->namespace);
		const struct service *s = host[0] == '*' ? NULL : istio_registry_find(c, host);
		if (s)
			lint_subsets(c, list->list[i], s);
		else if (host[0] != '*')
			istio_compile_report(c, ISTIO_WARNING, "IST0174", list->list[i], istio_doc_at(rule->head.node, "host"), "spec.host",
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

/* The list is oldest first. */
static void lint_sidecars_without_selector(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_SIDECAR];
	struct istio_map oldest = {0};

	for (uint32_t i = 0; i < list->n; i++) {
		const struct resource *r = list->list[i];
		bool is_new;
		if (((const struct sidecar *)r->spec)->selector)
			continue;
		const struct resource **first = (const struct resource **)istio_map_put(c->arena, &oldest, r->namespace, &is_new);
		if (is_new)
			*first = r;
		else
			istio_compile_report(c, ISTIO_WARNING, "IST0111", r, r->node->at, "spec",
					     "the namespace has an older Sidecar without workloadSelector, %s: this one is for nobody", (*first)->id);
	}
}

/* ---- ServiceEntries ---- */

static bool is_tcp_word(const struct object_port *p)
{
	return !p->protocol || !p->protocol[0] || strcasecmp(p->protocol, "TCP") == 0;
}

static void lint_entries_without_addresses(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_SERVICE_ENTRY];

	for (uint32_t i = 0; i < list->n; i++) {
		const struct service_entry *e = list->list[i]->spec;
		for (uint32_t j = 0; e->addresses.n == 0 && j < e->ports.n; j++) {
			const struct object_port *p = ISTIO_ITEM(e->ports, struct object_port, j);
			if (!is_tcp_word(p))
				continue;
			istio_compile_report(c, ISTIO_WARNING, "IST0134", list->list[i], p->head.node->at, istio_arena_printf(c->arena, "spec.ports[%u]", j),
					     "TCP of a host without addresses is told apart by its port alone, where clients' packets are captured; write "
					     "spec.addresses");
			break; /* once is enough */
		}
	}
}

struct entry_port {
	const struct resource *by;
	const char *protocol;
};

/* Of one host and port. */
static void lint_entry_protocols(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_SERVICE_ENTRY];
	struct istio_map seen = {0};

	for (uint32_t i = 0; i < list->n; i++) {
		const struct service_entry *e = list->list[i]->spec;
		for (uint32_t j = 0; j < e->hosts.n * e->ports.n; j++) {
			const struct object_port *p = ISTIO_ITEM(e->ports, struct object_port, j % e->ports.n);
			const char *host = istio_arena_lower(c->arena, e->hosts.list[j / e->ports.n]);
			struct entry_port one = {list->list[i], p->protocol && p->protocol[0] ? p->protocol : "none"}, **first;
			bool is_new;
			const char *key = istio_arena_printf(c->arena, "%s:%u", host, (unsigned int)p->number.value);
			first = (struct entry_port **)istio_map_put(c->arena, &seen, key, &is_new);
			if (is_new) {
				*first = ARENA_NEW(c->arena, struct entry_port);
				**first = one;
			} else if (strcasecmp((*first)->protocol, one.protocol) != 0 && (*first)->by != one.by)
				istio_compile_report(c, ISTIO_WARNING, "IST0177", list->list[i], p->head.node->at,
						     istio_arena_printf(c->arena, "spec.ports[%u].protocol", j % e->ports.n),
						     "port %u of %s is %s in %s, which is older: who sees both has that protocol",
						     (unsigned int)p->number.value, host, (*first)->protocol, (*first)->by->id);
		}
	}
}

/* ---- certificates of several Gateways ---- */

static bool answers_421(const struct resource *gateway)
{
	const char *value = istio_compile_label(&gateway->annotations, "hydrofoil.io/misdirected");

	return value && strcmp(value, "refuse") == 0;
}

/* A client with one connection for all names of the certificate meets the rules of the first Gateway (features.md, complaint 6). */
static void lint_certificates(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_GATEWAY];
	struct istio_map seen = {0};

	for (uint32_t i = 0; i < list->n; i++) {
		const struct gateway *g = list->list[i]->spec;
		for (uint32_t j = 0; j < g->servers.n; j++) {
			const struct gateway_server *s = ISTIO_ITEM(g->servers, struct gateway_server, j);
			bool is_new;
			if (!s->tls || !s->tls->credential_name || !s->tls->credential_name[0])
				continue;
			const struct resource **first = (const struct resource **)istio_map_put(c->arena, &seen, s->tls->credential_name, &is_new);
			if (is_new)
				*first = list->list[i];
			const struct istio_string_map *a = &g->selector, *b = &((const struct gateway *)(*first)->spec)->selector;
			if (*first == list->list[i] || (answers_421(list->list[i]) && answers_421(*first)) ||
			    (!istio_compile_labels_have(a, b) && !istio_compile_labels_have(b, a)))
				continue;
			istio_compile_report(c, ISTIO_WARNING, "IST0138", list->list[i], s->tls->head.node->at,
					     istio_arena_printf(c->arena, "spec.servers[%u].tls.credentialName", j),
					     "%s has the certificate %s, too: browsers use one connection for the hosts of both, and get 404; use one "
					     "Gateway, or the annotation hydrofoil.io/misdirected: refuse", (*first)->id, s->tls->credential_name);
		}
	}
}

void istio_lint_model(struct compile *c)
{
	for (uint32_t i = 0; i < c->virtual_services.n; i++) {
		const struct vs *v = c->virtual_services.list[i];
		lint_rules(c, v);
		lint_l4_rules(c, v, &v->spec->tcp, "tcp");
		lint_l4_rules(c, v, &v->spec->tls, "tls");
		lint_header_names(c, v);
		for (uint32_t j = 0; j < v->spec->gateways.n; j++)
			if (strcmp(v->spec->gateways.list[j], MESH_GATEWAY) != 0)
				lint_gateway(c, v, v->spec->gateways.list[j], j);
	}
	lint_rule_hosts(c);
	lint_gateways_of_others(c);
	lint_sidecars(c);
	lint_sidecars_without_selector(c);
	lint_entries_without_addresses(c);
	lint_entry_protocols(c);
	lint_certificates(c);
	istio_workloads_lint(c);
}
