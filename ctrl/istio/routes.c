/* The http rules of a VirtualService into routes (features.md VS-6..VS-53), as istiod's own translation was seen to do it (../shared/oracle). */
#include "ctrl/istio/compile.h"

#include "ctrl/istio/balancing.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRIES_DEFAULT 2
#define RETRY_ON_DEFAULT "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
#define STATUS_CODES_WORD "retriable-status-codes"
#define PER_MILLION_OF_PERCENT 10000

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

/* One http rule on its way. */
struct rule {
	struct compile *c;
	const struct vs *v;
	const struct resource *source; /* where the rule's text stands */
	const struct http_route *r;
	const struct route_scope *scope;
	uint32_t index;
};

/* "route[0].destination" of it, or "": where that stands in an Ingress, if it was one. */
static const char *rule_field(const struct rule *x, const char *rest)
{
	const char *field = istio_compile_rule_field(x->c, x->r, x->index);

	if (x->r->origin)
		return istio_arena_printf(x->c->arena, "%s%s", field, rest[0] ? ".backend.service" : "");
	return istio_arena_printf(x->c->arena, "%s%s%s", field, rest[0] ? "." : "", rest);
}

/* ---- match ---- */

static Foil__Conf__StringMatch *string_match(struct rule *x, const struct string_match *m, bool ignore_case, bool star_is_present)
{
	Foil__Conf__StringMatch *out = ARENA_NEW(x->c->arena, Foil__Conf__StringMatch);

	foil__conf__string_match__init(out);
	if (ignore_case) {
		out->has_ignore_case = true;
		out->ignore_case = true;
	}
	if (m->exact) {
		out->kind_case = FOIL__CONF__STRING_MATCH__KIND_EXACT;
		out->exact = word(m->exact);
	} else if (m->prefix) {
		out->kind_case = FOIL__CONF__STRING_MATCH__KIND_PREFIX;
		out->prefix = word(m->prefix);
	} else if (m->regex && !(star_is_present && strcmp(m->regex, "*") == 0)) {
		out->kind_case = FOIL__CONF__STRING_MATCH__KIND_REGEX;
		out->regex = word(m->regex);
	} else {
		out->kind_case = FOIL__CONF__STRING_MATCH__KIND_PRESENT;
		out->present = true;
	}
	return out;
}

static Foil__Conf__HeaderMatch *header_match(struct rule *x, const char *name, const struct string_match *m, bool invert)
{
	Foil__Conf__HeaderMatch *out = ARENA_NEW(x->c->arena, Foil__Conf__HeaderMatch);

	foil__conf__header_match__init(out);
	out->name = istio_arena_lower(x->c->arena, name);
	out->value = string_match(x, m, false, true);
	if (invert) {
		out->has_invert = out->invert = true;
		out->has_treat_missing_as_empty = true;
		out->treat_missing_as_empty = out->value->kind_case != FOIL__CONF__STRING_MATCH__KIND_PRESENT; /* VS-11 */
	}
	return out;
}

static void match_headers(struct rule *x, const struct http_match *m, Foil__Conf__RouteMatch *out)
{
	const struct {
		const char *name;
		const struct string_match *match;
	} pseudo[] = {{":scheme", m->scheme}, {":method", m->method}, {":authority", m->authority}};
	uint32_t n_max = m->headers.n + m->without_headers.n + 3;

	out->headers = ARENA_ARRAY(x->c->arena, Foil__Conf__HeaderMatch *, n_max);
	for (uint32_t i = 0; i < m->headers.n; i++) {
		const struct string_match *h = ISTIO_ITEM(m->headers, struct string_match, i);
		out->headers[out->n_headers++] = header_match(x, h->head.name, h, false);
	}
	for (uint32_t i = 0; i < m->without_headers.n; i++) {
		const struct string_match *h = ISTIO_ITEM(m->without_headers, struct string_match, i);
		out->headers[out->n_headers++] = header_match(x, h->head.name, h, true);
	}
	for (uint32_t i = 0; i < 3; i++)
		if (pseudo[i].match)
			out->headers[out->n_headers++] = header_match(x, pseudo[i].name, pseudo[i].match, false);
}

static void match_query(struct rule *x, const struct http_match *m, Foil__Conf__RouteMatch *out)
{
	out->query = ARENA_ARRAY(x->c->arena, Foil__Conf__QueryMatch *, m->query_params.n);
	for (uint32_t i = 0; i < m->query_params.n; i++) {
		const struct string_match *q = ISTIO_ITEM(m->query_params, struct string_match, i);
		Foil__Conf__QueryMatch *one = ARENA_NEW(x->c->arena, Foil__Conf__QueryMatch);
		foil__conf__query_match__init(one);
		one->name = word(q->head.name);
		one->value = string_match(x, q, false, true);
		out->query[out->n_query++] = one;
	}
}

static void match_path(const struct string_match *uri, bool ignore_case, Foil__Conf__RouteMatch *out)
{
	out->has_path_kind = true;
	out->path_kind = FOIL__CONF__PATH_MATCH_KIND__PATH_PREFIX;
	out->path = word("/");
	if (!uri)
		return;
	if (uri->exact) {
		out->path_kind = FOIL__CONF__PATH_MATCH_KIND__PATH_EXACT;
		out->path = word(uri->exact);
	} else if (uri->prefix) {
		out->path = word(uri->prefix);
		if (uri->by_segment)
			out->path_kind = FOIL__CONF__PATH_MATCH_KIND__PATH_SEGMENT_PREFIX;
	} else if (uri->regex) {
		out->path_kind = FOIL__CONF__PATH_MATCH_KIND__PATH_REGEX;
		out->path = word(uri->regex);
	}
	if (ignore_case && out->path_kind != FOIL__CONF__PATH_MATCH_KIND__PATH_REGEX) { /* VS-8 */
		out->has_ignore_case = true;
		out->ignore_case = true;
	}
}

static Foil__Conf__RouteMatch *route_match(struct rule *x, const struct http_match *m)
{
	Foil__Conf__RouteMatch *out = ARENA_NEW(x->c->arena, Foil__Conf__RouteMatch);

	foil__conf__route_match__init(out);
	match_path(m ? m->uri : NULL, m && m->ignore_uri_case.is_true, out);
	if (m) {
		match_headers(x, m, out);
		match_query(x, m, out);
	}
	return out;
}

/* Whether a rule's match exists at all here: gateways, source labels, port (VS-4, VS-14). */
static bool gateway_is_named(struct compile *c, const struct vs *v, const struct istio_strings *gateways, const char *gateway)
{
	for (uint32_t i = 0; i < gateways->n; i++) {
		const char *name = gateways->list[i];
		if (strcmp(name, MESH_GATEWAY) != 0 && !strchr(name, '/'))
			name = istio_arena_printf(c->arena, "%s/%s", v->source->namespace, name);
		if (strcmp(name, gateway) == 0)
			return true;
	}
	return false;
}

static bool source_fits(const struct compile *c, const struct vs *v, const struct istio_strings *gateways, const struct istio_string_map *labels,
			const char *source_namespace, const struct route_scope *scope)
{
	if (gateways->n)
		return gateway_is_named((struct compile *)(uintptr_t)c, v, gateways, scope->gateway); /* for its scratch memory */
	const struct istio_gateway_address none = {0}, *have = scope->labels ? scope->labels : &none;
	if (!istio_compile_node_labels_have(have->label_keys, have->label_values, have->n_labels, labels))
		return false;
	return !source_namespace || !source_namespace[0] || strcmp(source_namespace, scope->client_namespace) == 0;
}

static bool http_match_exists(const struct rule *x, const struct http_match *m)
{
	if (m->port.is_set && (uint32_t)m->port.value != x->scope->port)
		return false;
	return source_fits(x->c, x->v, &m->gateways, &m->source_labels, m->source_namespace, x->scope);
}

/* ---- header operations ---- */

static bool is_authority(const char *name)
{
	return strcasecmp(name, "host") == 0 || strcasecmp(name, ":authority") == 0;
}

static Foil__Conf__HeaderValue *header_value(struct compile *c, const char *name, const char *value, bool append)
{
	Foil__Conf__HeaderValue *h = ARENA_NEW(c->arena, Foil__Conf__HeaderValue);

	foil__conf__header_value__init(h);
	h->name = istio_arena_lower(c->arena, name);
	h->value = word(value);
	h->has_append = append;
	h->append = append;
	return h;
}

struct ops {
	Foil__Conf__HeaderOps *out;
	const char *authority; /* what the operations say about it, or NULL */
};

static void add_values(struct compile *c, struct ops *o, const struct istio_string_map *map, bool append)
{
	for (uint32_t i = 0; i < map->n; i++) {
		if (is_authority(map->keys[i]))
			o->authority = map->values[i];
		else if (map->keys[i][0] != ':')
			o->out->add[o->out->n_add++] = header_value(c, map->keys[i], map->values[i], append);
	}
}

/* The operations of a rule and, after them, of its only destination. NULL when there are none. Order as istiod's: set, then add. */
static Foil__Conf__HeaderOps *header_ops(struct compile *c, const struct header_ops *a, const struct header_ops *b, const char **authority)
{
	const struct header_ops *both[] = {a, b};
	struct ops o = {.out = ARENA_NEW(c->arena, Foil__Conf__HeaderOps)};
	uint32_t n_add = 0, n_remove = 0;

	foil__conf__header_ops__init(o.out);
	for (int i = 0; i < 2; i++) {
		n_add += both[i] ? both[i]->set.n + both[i]->add.n : 0;
		n_remove += both[i] ? both[i]->remove.n : 0;
	}
	o.out->add = ARENA_ARRAY(c->arena, Foil__Conf__HeaderValue *, n_add + 1);
	o.out->remove = ARENA_ARRAY(c->arena, char *, n_remove);
	for (int i = 0; i < 2 && (n_add || n_remove); i++) {
		const char *before = o.authority;
		if (!both[i])
			continue;
		o.authority = NULL;
		add_values(c, &o, &both[i]->set, false);
		const char *by_set = o.authority;
		add_values(c, &o, &both[i]->add, true);
		o.authority = before ? before : by_set ? by_set : o.authority; /* the rule's beats the destination's, set beats add (VS-23) */
		for (uint32_t j = 0; j < both[i]->remove.n; j++)
			if (both[i]->remove.list[j][0] != ':' && !is_authority(both[i]->remove.list[j]))
				o.out->remove[o.out->n_remove++] = istio_arena_lower(c->arena, both[i]->remove.list[j]);
	}
	if (authority)
		*authority = o.authority;
	return o.out->n_add || o.out->n_remove ? o.out : NULL;
}

/* ---- destinations ---- */

static uint32_t destination_port(const struct destination *d, const struct service *s, uint32_t listener_port)
{
	if (d->port)
		return (uint32_t)d->port->number.value;
	return s && s->n_ports == 1 ? s->ports[0].number : listener_port; /* VS-18 */
}

/* exportTo of the service, or the mesh's default for it (SE-9). */
static bool service_is_visible(const struct compile *c, const struct service *s, const struct route_scope *scope)
{
	return istio_compile_is_exported(s->export_to, &c->model->mesh->service_export_to, s->namespace, scope->client_namespace);
}

static const char *host_key(const struct destination *d)
{
	return d->is_backend ? "name" : "host";
}

static void report_missing(struct compile *c, const struct resource *r, const struct destination *d, const char *field, const char *host,
			   const struct service *s, uint32_t port, const struct cluster_ref *ref)
{
	if (!s) {
		istio_compile_report(c, ISTIO_WARNING, "IST0101", r, istio_doc_at(d->head.node, host_key(d)),
				     istio_arena_printf(c->arena, "%s.%s", field, host_key(d)),
			       "no Service or ServiceEntry has the host %s: requests get 503 (NC)", host);
	} else if (!ref->port) {
		istio_compile_report(c, ISTIO_WARNING, "IST0101", r, istio_doc_at(d->head.node, "port"), istio_arena_printf(c->arena, "%s.port", field),
			       "%s has no port %u: requests get 503 (NC)", s->source->id, port);
	} else if (!ref->service) {
		istio_compile_report(c, ISTIO_WARNING, "IST0101", r, istio_doc_at(d->head.node, "subset"), istio_arena_printf(c->arena, "%s.subset", field),
			       "no DestinationRule for %s has the subset %s: requests get 503 (NC)", host, d->subset ? d->subset : "");
	} else if (!d->port && s->n_ports > 1) {
		istio_compile_report(c, ISTIO_WARNING, "IST0112", r, d->head.node->at, field,
				     "%s has %u ports, and none is named here: that of the listener is meant; write port: {number: N}", s->source->id,
				     s->n_ports);
	}
}

static struct cluster_ref *destination_cluster(struct compile *c, const struct vs *v, const struct resource *r, const struct destination *d,
					       const struct route_scope *scope, const char *field, bool is_http, struct service **service)
{
	const char *host = istio_compile_fqdn(c, d->host, v->source->namespace);
	const struct service *alias = istio_registry_alias(c, host);
	if (alias)
		host = alias->alias_of;
	struct service *s = istio_registry_find(c, host);
	uint32_t port = destination_port(d, alias ? alias : s, scope->port);
	if (s && !service_is_visible(c, s, scope)) {
		istio_compile_report(c, ISTIO_WARNING, "IST0101", r, istio_doc_at(d->head.node, host_key(d)),
				     istio_arena_printf(c->arena, "%s.%s", field, host_key(d)),
				     "%s is not exported to %s: requests get 503 (NC)", s->source->id, scope->client_namespace);
		/* A name of its own: who may see the service has a cluster of it. */
		return istio_clusters_ref(c, NULL, istio_arena_printf(c->arena, "%s~%s", host, scope->client_namespace), d->subset, port,
					  scope->client_namespace, is_http);
	}
	struct cluster_ref *ref = istio_clusters_ref(c, s, host, d->subset, port, scope->client_namespace, is_http);

	report_missing(c, r, d, field, host, s, port, ref);
	if (service)
		*service = s;
	return ref;
}

/* Whoever reaches the gateway is taken to whatever host he names: Envoy asks no more than this either (docs/attacks.md). */
static void warn_open_proxy(struct compile *c, const struct cluster_ref *ref, const struct resource *r, const struct destination *d,
			    const struct route_scope *scope, const char *field)
{
	if (!scope->is_for_any || !ref || !ref->service || ref->service->resolution != RESOLUTION_DYNAMIC_DNS)
		return;
	istio_compile_report(c, ISTIO_WARNING, "HF0018", r, istio_doc_at(d->head.node, host_key(d)),
			     istio_arena_printf(c->arena, "%s.%s", field, host_key(d)),
			     "an open proxy: every host has this route at Gateway %s, and %s (resolution DYNAMIC_DNS) goes wherever the client says; give the "
			     "VirtualService or the Gateway's server the hosts that may be reached, as \"*.example.com\"", scope->gateway,
			     ref->service->source->id);
}

static Foil__Conf__WeightedCluster *weighted(struct compile *c, const struct cluster_ref *ref, uint32_t weight)
{
	Foil__Conf__WeightedCluster *w = ARENA_NEW(c->arena, Foil__Conf__WeightedCluster);

	foil__conf__weighted_cluster__init(w);
	w->cluster = word(ref->name);
	w->has_weight = true;
	w->weight = weight;
	return w;
}

/* One destination: its operations go after the rule's, into the route. */
static void single_destination(struct rule *x, Foil__Conf__Route *out, Foil__Conf__RouteAction *action)
{
	const struct route_destination *d = ISTIO_ITEM(x->r->route, struct route_destination, 0);
	const struct headers *h = x->r->headers, *own = d->headers;
	const char *authority = NULL;
	struct cluster_ref *ref = destination_cluster(x->c, x->v, x->source, d->destination, x->scope, rule_field(x, "route[0].destination"), true, NULL);

	out->request_headers = header_ops(x->c, h ? h->request : NULL, own ? own->request : NULL, &authority);
	out->response_headers = header_ops(x->c, h ? h->response : NULL, own ? own->response : NULL, NULL);
	if (authority && !action->host_rewrite)
		action->host_rewrite = word(authority);
	action->clusters = ARENA_ARRAY(x->c->arena, Foil__Conf__WeightedCluster *, 1);
	action->clusters[action->n_clusters++] = weighted(x->c, ref, 1);
	istio_balancing_hash(x->c, istio_clusters_load_balancer(ref), action);
}

static Foil__Conf__WeightedCluster *one_of_many(struct rule *x, const struct route_destination *d, uint32_t i, Foil__Conf__RouteAction *action)
{
	char rest[64];
	const char *authority = NULL;

	(void)snprintf(rest, sizeof(rest), "route[%u].destination", i); /* it fits */
	struct cluster_ref *ref = destination_cluster(x->c, x->v, x->source, d->destination, x->scope, rule_field(x, rest), true, NULL);
	Foil__Conf__WeightedCluster *w = weighted(x->c, ref, (uint32_t)d->weight.value);
	w->request_headers = header_ops(x->c, d->headers ? d->headers->request : NULL, NULL, &authority);
	w->response_headers = header_ops(x->c, d->headers ? d->headers->response : NULL, NULL, NULL);
	istio_balancing_hash(x->c, istio_clusters_load_balancer(ref), action);
	if (authority && !action->host_rewrite) { /* the route's wins (VS-21) */
		if (!w->request_headers) {
			w->request_headers = ARENA_NEW(x->c->arena, Foil__Conf__HeaderOps);
			foil__conf__header_ops__init(w->request_headers);
			w->request_headers->add = ARENA_ARRAY(x->c->arena, Foil__Conf__HeaderValue *, 1);
		}
		w->request_headers->add[w->request_headers->n_add++] = header_value(x->c, ":authority", authority, false);
	}
	return w;
}

static void many_destinations(struct rule *x, Foil__Conf__Route *out, Foil__Conf__RouteAction *action)
{
	const struct headers *h = x->r->headers;
	const char *authority = NULL;

	out->request_headers = header_ops(x->c, h ? h->request : NULL, NULL, &authority);
	out->response_headers = header_ops(x->c, h ? h->response : NULL, NULL, NULL);
	if (authority && !action->host_rewrite)
		action->host_rewrite = word(authority);
	action->clusters = ARENA_ARRAY(x->c->arena, Foil__Conf__WeightedCluster *, x->r->route.n);
	for (uint32_t i = 0; i < x->r->route.n; i++) {
		const struct route_destination *d = ISTIO_ITEM(x->r->route, struct route_destination, i);
		if (d->weight.value)
			action->clusters[action->n_clusters++] = one_of_many(x, d, i, action);
	}
}

/* ---- retries ---- */

struct words {
	const char **list;
	uint32_t n, n_room;
};

static void add_word(struct compile *c, struct words *w, const char *text)
{
	for (uint32_t i = 0; i < w->n; i++)
		if (strcmp(w->list[i], text) == 0)
			return;
	ARENA_PUSH(c->arena, w, text);
}

static void retry_on(struct compile *c, const char *text, Foil__Conf__RetryPolicy *out)
{
	struct words words = {0};
	struct {
		uint32_t *list;
		uint32_t n, n_room;
	} codes = {0};

	while (*text) {
		size_t n = strcspn(text, ","), from = strspn(text, " \t");
		size_t to = n;
		while (to > from && isspace((unsigned char)text[to - 1]))
			to--;
		if (from < to) {
			const char *one = istio_arena_copy(c->arena, text + from, to - from);
			if (isdigit((unsigned char)one[0]) && isdigit((unsigned char)one[1]))
				ARENA_PUSH(c->arena, &codes, (uint32_t)strtoul(one, NULL, 10));
			else
				add_word(c, &words, one);
		}
		text += n + (text[n] == ',');
	}
	if (codes.n)
		add_word(c, &words, STATUS_CODES_WORD);
	out->retry_on = (char **)words.list; /* packed only */
	out->n_retry_on = words.n;
	out->retriable_status_codes = codes.list;
	out->n_retriable_status_codes = codes.n;
}

static Foil__Conf__RetryPolicy *retry_policy(struct compile *c, const struct retries *r)
{
	Foil__Conf__RetryPolicy *out = ARENA_NEW(c->arena, Foil__Conf__RetryPolicy);

	foil__conf__retry_policy__init(out);
	/* What is as the contract's default is not written: a table of 30,000 hosts has a limit to its size. */
	out->has_num_retries = out->has_avoid_previous_hosts = true;
	out->num_retries = r ? (uint32_t)r->attempts.value : RETRIES_DEFAULT;
	retry_on(c, r && r->retry_on && r->retry_on[0] ? r->retry_on : RETRY_ON_DEFAULT, out);
	if (r && r->per_try_timeout.value) {
		out->has_per_try_timeout_us = true;
		out->per_try_timeout_us = (uint64_t)r->per_try_timeout.value;
	}
	if (r && r->backoff.value) { /* else 25 ms */
		out->has_backoff_base_us = true;
		out->backoff_base_us = (uint64_t)r->backoff.value;
	}
	out->avoid_previous_hosts = !(r && r->retry_ignore_previous_hosts.is_set && !r->retry_ignore_previous_hosts.is_true);
	if (r && r->retry_remote_localities.is_true) {
		out->has_remote_localities = true;
		out->remote_localities = true;
	}
	return out;
}

/* VS-36: absent = the mesh's; attempts 0 = none. */
static Foil__Conf__RetryPolicy *retry_of(struct compile *c, const struct retries *own)
{
	const struct retries *r = own ? own : c->model->mesh->retry;

	if (r && r->attempts.value == 0)
		return NULL;
	return retry_policy(c, r);
}

Foil__Conf__RetryPolicy *istio_routes_default_retry(struct compile *c)
{
	return retry_of(c, NULL);
}

/* ---- actions ---- */

static uint32_t per_million(const struct percent *p, const struct istio_int *whole, uint32_t absent)
{
	if (p)
		return (uint32_t)(p->value.value * PER_MILLION_OF_PERCENT);
	return whole->is_set ? (uint32_t)whole->value * PER_MILLION_OF_PERCENT : absent;
}

static Foil__Conf__FaultInjection *fault_of(struct rule *x)
{
	const struct fault *f = x->r->fault;
	Foil__Conf__FaultInjection *out = ARENA_NEW(x->c->arena, Foil__Conf__FaultInjection);

	foil__conf__fault_injection__init(out);
	if (f->delay) {
		out->has_delay_us = out->has_delay_per_million = true;
		out->delay_us = (uint64_t)f->delay->fixed_delay.value;
		out->delay_per_million = per_million(f->delay->percentage, &f->delay->percent, 0);
	}
	if (f->abort) {
		out->has_abort_http_status = out->has_has_abort_grpc = out->has_abort_grpc_status = out->has_abort_per_million = true;
		out->abort_http_status = (uint32_t)f->abort->http_status.value;
		out->has_abort_grpc = f->abort->grpc_status.is_set;
		out->abort_grpc_status = (uint32_t)f->abort->grpc_status.value;
		out->abort_per_million = per_million(f->abort->percentage, &f->abort->percent, 0);
	}
	return out;
}

static Foil__Conf__CorsPolicy *cors_of(struct rule *x)
{
	const struct cors *p = x->r->cors;
	Foil__Conf__CorsPolicy *out = ARENA_NEW(x->c->arena, Foil__Conf__CorsPolicy);
	uint32_t n_old = p->allow_origins.n ? 0 : p->allow_origin.n;

	foil__conf__cors_policy__init(out);
	out->allow_origins = ARENA_ARRAY(x->c->arena, Foil__Conf__StringMatch *, p->allow_origins.n + n_old);
	for (uint32_t i = 0; i < p->allow_origins.n; i++)
		out->allow_origins[out->n_allow_origins++] = string_match(x, ISTIO_ITEM(p->allow_origins, struct string_match, i), false, false);
	for (uint32_t i = 0; i < n_old; i++)
		out->allow_origins[out->n_allow_origins++] = string_match(x, &(struct string_match){.exact = p->allow_origin.list[i]}, false, false);
	out->allow_methods = (char **)(uintptr_t)p->allow_methods.list; /* packed only, these three */
	out->n_allow_methods = p->allow_methods.n;
	out->allow_headers = (char **)(uintptr_t)p->allow_headers.list;
	out->n_allow_headers = p->allow_headers.n;
	out->expose_headers = (char **)(uintptr_t)p->expose_headers.list;
	out->n_expose_headers = p->expose_headers.n;
	out->has_has_max_age = out->has_max_age_s = out->has_allow_credentials = out->has_ignore_unmatched_preflights = true;
	out->has_max_age = p->max_age.is_set;
	out->max_age_s = (uint64_t)p->max_age.value / 1000000;
	out->allow_credentials = p->allow_credentials.is_true;
	out->ignore_unmatched_preflights = p->unmatched_preflights.value == PREFLIGHTS_IGNORE;
	return out;
}

static void add_mirror(struct rule *x, Foil__Conf__RouteAction *action, const struct destination *d, uint32_t share, const char *field)
{
	if (share == 0)
		return;
	Foil__Conf__MirrorPolicy *m = ARENA_NEW(x->c->arena, Foil__Conf__MirrorPolicy);
	foil__conf__mirror_policy__init(m);
	const struct cluster_ref *ref = destination_cluster(x->c, x->v, x->source, d, x->scope, rule_field(x, field), true, NULL);
	if (ref->service && ref->service->resolution == RESOLUTION_DYNAMIC_DNS)
		istio_compile_report(x->c, ISTIO_WARNING, "HF0006", x->source, d->head.node->at, rule_field(x, field), "no shadow is sent to hosts that "
				     "requests name (resolution DYNAMIC_DNS): its Host would be the request's and -shadow, which no name server knows");
	m->cluster = word(ref->name);
	m->has_per_million = true;
	m->per_million = share;
	action->mirrors[action->n_mirrors++] = m;
}

static void mirrors_of(struct rule *x, Foil__Conf__RouteAction *action)
{
	char field[64];

	action->mirrors = ARENA_ARRAY(x->c->arena, Foil__Conf__MirrorPolicy *, x->r->mirrors.n + 1);
	if (x->r->mirror)
		add_mirror(x, action, x->r->mirror, per_million(x->r->mirror_percentage, &x->r->mirror_percent, 1000000), "mirror");
	for (uint32_t i = 0; i < x->r->mirrors.n; i++) {
		const struct mirror *m = ISTIO_ITEM(x->r->mirrors, struct mirror, i);
		(void)snprintf(field, sizeof(field), "mirrors[%u].destination", i); /* it fits */
		add_mirror(x, action, m->destination, per_million(m->percentage, &(struct istio_int){0}, 1000000), field);
	}
}

static void rewrite_of(struct rule *x, Foil__Conf__RouteAction *action)
{
	const struct rewrite *r = x->r->rewrite;

	if (!r)
		return;
	if (r->authority && r->authority[0])
		action->host_rewrite = word(r->authority);
	if (r->uri_regex_rewrite) {
		action->regex_rewrite = ARENA_NEW(x->c->arena, Foil__Conf__RegexRewrite);
		foil__conf__regex_rewrite__init(action->regex_rewrite);
		action->regex_rewrite->regex = word(r->uri_regex_rewrite->match);
		action->regex_rewrite->substitution = word(r->uri_regex_rewrite->rewrite ? r->uri_regex_rewrite->rewrite : "");
	} else if (r->uri && r->uri[0]) {
		action->has_has_prefix_rewrite = true;
		action->has_prefix_rewrite = true;
		action->prefix_rewrite = word(r->uri);
	}
}

static Foil__Conf__RouteAction *action_new(struct compile *c, uint64_t timeout_us, Foil__Conf__RetryPolicy *retry)
{
	Foil__Conf__RouteAction *action = ARENA_NEW(c->arena, Foil__Conf__RouteAction);

	foil__conf__route_action__init(action);
	action->has_timeout_us = timeout_us != 0;
	action->timeout_us = timeout_us;
	action->retry = retry;
	return action;
}

/* Istio's API has no word for it, but EnvoyFilter: ours stands in an annotation, of the VirtualService whose rule it is, else of the one that delegates
 * to it. */
static void limit_body(struct rule *x, Foil__Conf__Route *out)
{
	static const char key[] = "hydrofoil.io/max-request-body-bytes";
	const char *own = istio_compile_label(&x->source->annotations, key), *value = own ? own : istio_compile_label(&x->v->source->annotations, key);
	char *end = NULL;

	if (!value)
		return;
	uint64_t n_bytes = isdigit((unsigned char)value[0]) ? strtoull(value, &end, 10) : 0;
	if (n_bytes == 0 || *end || n_bytes > INT64_MAX) {
		const struct resource *r = own ? x->source : x->v->source;
		istio_compile_report(x->c, ISTIO_ERROR, "IST0106", r, r->node->at, "metadata.annotations",
				     "%s is \"%.40s\", not a number of bytes: 1 or more, in digits alone; there is no limit", key, value);
		return;
	}
	out->has_max_request_body_bytes = true;
	out->max_request_body_bytes = n_bytes;
}

static void forward(struct rule *x, Foil__Conf__Route *out)
{
	Foil__Conf__RouteAction *action = action_new(x->c, (uint64_t)x->r->timeout.value, retry_of(x->c, x->r->retries));

	rewrite_of(x, action);
	if (x->r->route.n == 1)
		single_destination(x, out, action);
	else
		many_destinations(x, out, action);
	mirrors_of(x, action);
	limit_body(x, out);
	if (x->r->fault)
		out->fault = fault_of(x);
	if (x->r->cors)
		out->cors = cors_of(x);
	out->action_case = FOIL__CONF__ROUTE__ACTION_ROUTE;
	out->route = action;
}

static void redirect_to(struct rule *x, Foil__Conf__Route *out)
{
	const struct redirect *r = x->r->redirect;
	Foil__Conf__Redirect *to = ARENA_NEW(x->c->arena, Foil__Conf__Redirect);
	bool to_https = r->scheme && strcmp(r->scheme, "https") == 0;
	uint32_t port = (uint32_t)r->port.value;

	foil__conf__redirect__init(to);
	to->has_code = true;
	to->code = r->redirect_code.value ? (uint32_t)r->redirect_code.value : 301;
	to->scheme = r->scheme && r->scheme[0] ? word(r->scheme) : NULL;
	to->host = r->authority && r->authority[0] ? word(r->authority) : NULL;
	to->path = r->uri && r->uri[0] ? word(r->uri) : NULL;
	if (r->prefix_rewrite) {
		to->has_has_prefix_rewrite = to->has_prefix_rewrite = true;
		to->prefix_rewrite = word(r->prefix_rewrite);
	}
	if (r->derive_port.is_set && r->derive_port.value == DERIVE_REQUEST_PORT)
		port = x->scope->port; /* a listener's routes are compiled for its port, so it is known */
	if ((port == 80 && !to_https) || (port == 443 && to_https))
		port = 0; /* never written (VS-30) */
	to->has_port = port != 0;
	to->port = port;
	out->action_case = FOIL__CONF__ROUTE__ACTION_REDIRECT;
	out->redirect = to;
}

static int base64_value(char ch)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = ch ? strchr(alphabet, ch) : NULL;

	return p ? (int)(p - alphabet) : -1;
}

/* The table has checked that it is base64. */
static ProtobufCBinaryData base64(struct compile *c, const char *text)
{
	ProtobufCBinaryData out = {.data = istio_arena_alloc(c->arena, strlen(text) / 4 * 3 + 1)};
	uint32_t bits = 0;
	int n_bits = 0;

	for (; base64_value(*text) >= 0; text++) {
		bits = bits << 6 | (uint32_t)base64_value(*text);
		n_bits += 6;
		if (n_bits >= 8) {
			n_bits -= 8;
			out.data[out.len++] = (uint8_t)(bits >> n_bits);
		}
	}
	return out;
}

static void respond(struct rule *x, Foil__Conf__Route *out)
{
	const struct direct_response *r = x->r->direct_response;
	Foil__Conf__DirectResponse *to = ARENA_NEW(x->c->arena, Foil__Conf__DirectResponse);

	foil__conf__direct_response__init(to);
	to->has_status = true;
	to->status = (uint32_t)r->status.value;
	if (r->body && r->body->string) {
		to->has_body = true;
		to->body = (ProtobufCBinaryData){.data = (uint8_t *)word(r->body->string), .len = strlen(r->body->string)};
	} else if (r->body && r->body->bytes) {
		to->has_body = true;
		to->body = base64(x->c, r->body->bytes);
	}
	out->action_case = FOIL__CONF__ROUTE__ACTION_DIRECT_RESPONSE;
	out->direct_response = to;
}

/* "one.test:8080/ops*" (Istio's decorator): the destination when there is one, else the VirtualService. */
static char *operation(struct rule *x, const Foil__Conf__Route *out)
{
	const Foil__Conf__RouteMatch *m = out->match;
	bool is_segment = m->path_kind == FOIL__CONF__PATH_MATCH_KIND__PATH_SEGMENT_PREFIX; /* of these Istio says no more than "/" and the star */
	const char *path = is_segment ? "/" : m->path, *star = is_segment || m->path_kind == FOIL__CONF__PATH_MATCH_KIND__PATH_PREFIX ? "*" : "";

	if (out->action_case == FOIL__CONF__ROUTE__ACTION_ROUTE && x->r->route.n == 1) {
		const char *port = strchr(out->route->clusters[0]->cluster, '|') + 1, *host = strrchr(port, '|') + 1;
		return istio_arena_printf(x->c->arena, "%s:%.*s%s%s", host, (int)strcspn(port, "|"), port, path, star);
	}
	return istio_arena_printf(x->c->arena, "%s:%u%s%s", x->v->source->name, x->scope->port, path, star);
}

/* ---- what the mesh's proxies say of themselves ---- */

static bool goes_into_mesh(const struct compile *c, const Foil__Conf__RouteAction *action)
{
	bool is_meshed = false;

	for (size_t i = 0; i < action->n_clusters; i++)
		is_meshed |= istio_clusters_is_meshed(c, istio_map_get(&c->clusters, action->clusters[i]->cluster));
	for (size_t i = 0; i < action->n_mirrors; i++)
		is_meshed |= istio_clusters_is_meshed(c, istio_map_get(&c->clusters, action->mirrors[i]->cluster));
	return is_meshed;
}

static Foil__Conf__HeaderOps *without_peer_metadata(struct compile *c, Foil__Conf__HeaderOps *ops)
{
	static const char *const names[] = {"x-envoy-peer-metadata", "x-envoy-peer-metadata-id"};
	Foil__Conf__HeaderOps *out = ops ? ops : ARENA_NEW(c->arena, Foil__Conf__HeaderOps);
	size_t n = ops ? ops->n_remove : 0;
	char **remove = ARENA_ARRAY(c->arena, char *, n + 2);

	if (!ops)
		foil__conf__header_ops__init(out);
	for (size_t i = 0; i < n + 2; i++)
		remove[i] = i < n ? ops->remove[i] : word(names[i - n]);
	out->remove = remove;
	out->n_remove = n + 2;
	return out;
}

/* Istio's sidecars believe what a request says of who sent it, and say in the answer who they are (istio/proxy's peer_metadata filter): neither is for those
 * who come through a gateway (HD-7). Origins without the mesh's mTLS have no sidecar that would read it. */
static void hide_peer_metadata(struct rule *x, Foil__Conf__Route *out)
{
	if (strcmp(x->scope->gateway, "mesh") == 0 || !goes_into_mesh(x->c, out->route))
		return;
	out->request_headers = without_peer_metadata(x->c, out->request_headers);
	out->response_headers = without_peer_metadata(x->c, out->response_headers);
}

/* ---- routes ---- */

static bool names_authority(const Foil__Conf__HeaderOps *ops)
{
	for (size_t i = 0; ops && i < ops->n_add; i++)
		if (strcmp(ops->add[i]->name, ":authority") == 0)
			return true;
	return false;
}

static bool asks_for_authority(const Foil__Conf__RouteMatch *m)
{
	for (size_t i = 0; i < m->n_headers; i++)
		if (strcmp(m->headers[i]->name, ":authority") == 0 && !m->headers[i]->invert)
			return true;
	return false;
}

/* Unless the route takes few hosts only, or says itself which one is meant. */
static void look_for_open_proxy(struct rule *x, const Foil__Conf__Route *out)
{
	const Foil__Conf__RouteAction *action = out->route;
	size_t at = 0;

	if (!x->scope->is_for_any || action->host_rewrite || asks_for_authority(out->match))
		return;
	for (uint32_t i = 0; i < x->r->route.n; i++) {
		const struct route_destination *d = ISTIO_ITEM(x->r->route, struct route_destination, i);
		char rest[64];
		if (x->r->route.n > 1 && d->weight.value == 0)
			continue; /* it has no cluster */
		const Foil__Conf__WeightedCluster *w = action->clusters[at++];
		(void)snprintf(rest, sizeof(rest), "route[%u].destination", i); /* it fits */
		if (!names_authority(w->request_headers))
			warn_open_proxy(x->c, istio_map_get(&x->c->clusters, w->cluster), x->source, d->destination, x->scope, rule_field(x, rest));
	}
}

static Foil__Conf__Route *route_of(struct rule *x, const struct http_match *m)
{
	const char *name = x->r->name ? x->r->name : "";
	const struct headers *h = x->r->headers;
	Foil__Conf__Route *out = ARENA_NEW(x->c->arena, Foil__Conf__Route);

	foil__conf__route__init(out);
	out->name = m && m->name && m->name[0] ? istio_arena_printf(x->c->arena, "%s.%s", name, m->name) : word(name);
	out->match = route_match(x, m);
	if (x->r->redirect) {
		redirect_to(x, out);
	} else if (x->r->direct_response) {
		respond(x, out);
	} else {
		forward(x, out);
	}
	if (out->action_case != FOIL__CONF__ROUTE__ACTION_ROUTE) {
		out->request_headers = header_ops(x->c, h ? h->request : NULL, NULL, NULL);
		out->response_headers = header_ops(x->c, h ? h->response : NULL, NULL, NULL);
	} else {
		look_for_open_proxy(x, out);
		hide_peer_metadata(x, out);
	}
	out->decorator_operation = operation(x, out);
	out->source = istio_compile_source(x->c, x->source, m ? m->head.node->at : x->r->head.node->at);
	return out;
}

bool istio_route_is_catch_all(const Foil__Conf__Route *r)
{
	const Foil__Conf__RouteMatch *m = r->match;

	if (m->n_headers || m->n_query)
		return false;
	return (m->path_kind == FOIL__CONF__PATH_MATCH_KIND__PATH_PREFIX && strcmp(m->path, "/") == 0) ||
	       (m->path_kind == FOIL__CONF__PATH_MATCH_KIND__PATH_REGEX && strcmp(m->path, ".*") == 0);
}

/* False: nothing after this rule can match. */
static bool add_rule(struct rule *x, struct route_list *out)
{
	if (x->r->match.n == 0) {
		ARENA_PUSH(x->c->arena, out, route_of(x, NULL));
		return false;
	}
	for (uint32_t i = 0; i < x->r->match.n; i++) {
		const struct http_match *m = ISTIO_ITEM(x->r->match, struct http_match, i);
		if (!http_match_exists(x, m))
			continue;
		Foil__Conf__Route *r = route_of(x, m);
		ARENA_PUSH(x->c->arena, out, r);
		if (istio_route_is_catch_all(r))
			return false;
	}
	return true;
}

void istio_routes_of_http(struct compile *c, const struct vs *v, const struct route_scope *scope, struct route_list *out)
{
	for (uint32_t i = 0; i < v->n_http; i++) {
		struct rule x = {.c = c, .v = v, .source = v->http_source[i], .r = v->http[i], .scope = scope, .index = v->http_index[i]};
		if (!add_rule(&x, out))
			return;
	}
}

Foil__Conf__Route *istio_routes_default(struct compile *c, struct cluster_ref *ref, const struct service *s, uint32_t port)
{
	Foil__Conf__Route *out = ARENA_NEW(c->arena, Foil__Conf__Route);

	foil__conf__route__init(out);
	out->name = word("default");
	out->match = ARENA_NEW(c->arena, Foil__Conf__RouteMatch);
	foil__conf__route_match__init(out->match);
	match_path(NULL, false, out->match);
	out->action_case = FOIL__CONF__ROUTE__ACTION_ROUTE;
	out->route = action_new(c, 0, istio_routes_default_retry(c));
	out->route->clusters = ARENA_ARRAY(c->arena, Foil__Conf__WeightedCluster *, 1);
	out->route->clusters[out->route->n_clusters++] = weighted(c, ref, 1);
	istio_balancing_hash(c, istio_clusters_load_balancer(ref), out->route);
	if (s) {
		out->decorator_operation = istio_arena_printf(c->arena, "%s:%u/*", s->host, port);
		out->source = istio_compile_source(c, s->source, s->source->node->at);
	}
	return out;
}

/* ---- layer 4 ---- */

enum l4_fit istio_routes_l4_compare(const struct compile *c, const struct vs *v, const struct l4_match *m, const struct route_scope *scope, const char *vip)
{
	if (m->port.value && (uint32_t)m->port.value != scope->port)
		return L4_OTHER_PORT;
	if (!source_fits(c, v, &m->gateways, &m->source_labels, m->source_namespace, scope))
		return L4_OTHER_SOURCE;
	if (m->destination_subnets.n == 0 || !vip)
		return L4_FITS;
	for (uint32_t i = 0; i < m->destination_subnets.n; i++)
		if (istio_compile_cidr_has(m->destination_subnets.list[i], vip))
			return L4_FITS;
	return L4_OTHER_SUBNET;
}

static Foil__Conf__TcpProxy *tcp_proxy(struct compile *c, uint32_t n, const char *stat_prefix)
{
	Foil__Conf__TcpProxy *t = ARENA_NEW(c->arena, Foil__Conf__TcpProxy);

	foil__conf__tcp_proxy__init(t);
	t->clusters = ARENA_ARRAY(c->arena, Foil__Conf__WeightedCluster *, n);
	t->has_idle_timeout_us = t->has_max_connect_attempts = true;
	t->max_connect_attempts = 1;
	t->stat_prefix = word(stat_prefix);
	return t;
}

static void hash_source(Foil__Conf__TcpProxy *t, const struct cluster_ref *ref)
{
	if (istio_balancing_hashes_source(istio_clusters_load_balancer(ref)))
		t->has_hash_source_ip = t->hash_source_ip = true;
}

static Foil__Conf__TcpProxy *l4_destinations(struct compile *c, const struct vs *v, const struct l4_route *r, const struct route_scope *scope,
					     const char *what, uint32_t index)
{
	Foil__Conf__TcpProxy *t = tcp_proxy(c, r->route.n, istio_arena_printf(c->arena, "%s.%s", v->source->name, v->source->namespace));

	for (uint32_t i = 0; i < r->route.n; i++) {
		const struct route_destination *d = ISTIO_ITEM(r->route, struct route_destination, i);
		if (r->route.n > 1 && d->weight.value == 0)
			continue;
		const char *field = istio_arena_printf(c->arena, "spec.%s[%u].route[%u].destination", what, index, i);
		struct cluster_ref *ref = destination_cluster(c, v, v->source, d->destination, scope, field, false, NULL);
		warn_open_proxy(c, ref, v->source, d->destination, scope, field);
		if (t->n_clusters == 0)
			t->idle_timeout_us = istio_clusters_tcp_idle_us(ref);
		hash_source(t, ref);
		t->clusters[t->n_clusters++] = weighted(c, ref, r->route.n > 1 ? (uint32_t)d->weight.value : 1);
	}
	return t;
}

Foil__Conf__TcpProxy *istio_routes_of_tcp(struct compile *c, const struct vs *v, const struct route_scope *scope, const char *vip)
{
	for (uint32_t i = 0; i < v->spec->tcp.n; i++) {
		const struct l4_route *r = ISTIO_ITEM(v->spec->tcp, struct l4_route, i);
		bool matches = r->match.n == 0;
		for (uint32_t j = 0; j < r->match.n && !matches; j++)
			matches = istio_routes_l4_compare(c, v, ISTIO_ITEM(r->match, struct l4_match, j), scope, vip) == L4_FITS;
		if (matches)
			return l4_destinations(c, v, r, scope, "tcp", i);
	}
	return NULL;
}

Foil__Conf__TcpProxy *istio_routes_of_tls(struct compile *c, const struct vs *v, const struct l4_route *r, const struct route_scope *scope, uint32_t index)
{
	return l4_destinations(c, v, r, scope, "tls", index);
}

Foil__Conf__TcpProxy *istio_routes_tcp_to(struct compile *c, struct cluster_ref *ref, const struct service *s)
{
	Foil__Conf__TcpProxy *t = tcp_proxy(c, 1, s ? s->host : ref->name);

	t->idle_timeout_us = istio_clusters_tcp_idle_us(ref);
	t->clusters[t->n_clusters++] = weighted(c, ref, 1);
	hash_source(t, ref);
	return t;
}
