/* The way of a connection that is not looked into, TCP or TLS by its server name: which listener, which of its chains, which rule of a VirtualService, and
 * why not the others. Listeners and chains are the snapshot's, chosen as tcp_listener_find and mesh_chain_choose do; the rules that gave no chain are asked
 * again by the compiler's own conditions. */
#include "ctrl/istio/explain_priv.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define WHY_MAX 1024

static bool is_wild(const Foil__Conf__Listener *l)
{
	return l->captured && strcmp(l->address, CAPTURED_ADDRESS) == 0;
}

/* ---- chains ---- */

enum { DESTINATION, SERVER_NAME, TRANSPORT, PROTOCOLS, N_CRITERIA }; /* in the order of their weight */

static unsigned int destination_rank(const struct explain *x, const Foil__Conf__FilterChain *f)
{
	unsigned int best = f->n_destination_cidrs == 0 ? 1 : 0;

	for (size_t i = 0; x->r->address && i < f->n_destination_cidrs; i++) {
		const char *slash = strchr(f->destination_cidrs[i], '/');
		unsigned int bits = slash ? (unsigned int)strtoul(slash + 1, NULL, 10) : 128;
		if (istio_compile_cidr_has(f->destination_cidrs[i], x->r->address) && bits + 2 > best)
			best = bits + 2;
	}
	return best;
}

static unsigned int name_fits(const char *pattern, const char *name)
{
	size_t n = strlen(pattern), n_name = strlen(name);

	if (n_name && strcasecmp(pattern, name) == 0)
		return UINT32_MAX;
	if (n < 2 || pattern[0] != '*' || n_name < n || strcasecmp(name + n_name - (n - 1), pattern + 1) != 0)
		return 0;
	return (unsigned int)n + 1;
}

static unsigned int name_rank(const struct explain *x, const Foil__Conf__FilterChain *f)
{
	unsigned int best = f->n_server_names == 0 ? 1 : 0;

	for (size_t i = 0; i < f->n_server_names; i++) {
		unsigned int fits = name_fits(f->server_names[i], x->r->server_name ? x->r->server_name : "");
		best = fits > best ? fits : best;
	}
	return best;
}

static unsigned int transport_rank(const struct explain *x, const Foil__Conf__FilterChain *f)
{
	if (f->transport == FOIL__CONF__TRANSPORT__TRANSPORT_ANY)
		return 1;
	return (f->transport == FOIL__CONF__TRANSPORT__TRANSPORT_TLS) == x->r->is_tls ? 2 : 0;
}

static unsigned int protocols_rank(const struct explain *x, const Foil__Conf__FilterChain *f)
{
	for (size_t i = 0; i < f->n_application_protocols; i++)
		if (x->r->alpn && strcmp(x->r->alpn, f->application_protocols[i]) == 0)
			return 2;
	return f->n_application_protocols == 0 ? 1 : 0;
}

static void ranks(const struct explain *x, const Foil__Conf__FilterChain *f, unsigned int out[N_CRITERIA])
{
	out[DESTINATION] = destination_rank(x, f);
	out[SERVER_NAME] = name_rank(x, f);
	out[TRANSPORT] = transport_rank(x, f);
	out[PROTOCOLS] = protocols_rank(x, f);
}

static const Foil__Conf__FilterChain *choose_chain(const struct explain *x, const Foil__Conf__Listener *l)
{
	const Foil__Conf__FilterChain *best = NULL;
	unsigned int best_rank[N_CRITERIA] = {0}, rank[N_CRITERIA];

	for (size_t i = 0; i < l->n_filter_chains; i++) {
		unsigned int k = 0;
		ranks(x, l->filter_chains[i], rank);
		if (!rank[DESTINATION] || !rank[SERVER_NAME] || !rank[TRANSPORT] || !rank[PROTOCOLS])
			continue;
		while (k < N_CRITERIA && rank[k] == best_rank[k])
			k++;
		if (k == N_CRITERIA || rank[k] < best_rank[k])
			continue;
		best = l->filter_chains[i];
		memcpy(best_rank, rank, sizeof(rank));
	}
	return best;
}

static void say_list(struct explain *x, const char *before, char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fprintf(x->out, "%s%s", i ? ", " : before, list[i]);
}

/* Why not this one; the first criterion that fails decides. */
static void say_chain_loss(struct explain *x, const Foil__Conf__FilterChain *f)
{
	unsigned int rank[N_CRITERIA];

	ranks(x, f, rank);
	if (!rank[DESTINATION]) {
		fprintf(x->out, ": the destination is %s", x->r->address ? x->r->address : "not given");
		say_list(x, ", wanted one of ", f->destination_cidrs, f->n_destination_cidrs);
	} else if (!rank[SERVER_NAME]) {
		fprintf(x->out, ": server name is %s", x->r->server_name ? x->r->server_name : "absent");
		say_list(x, ", wanted ", f->server_names, f->n_server_names);
	} else if (!rank[TRANSPORT]) {
		fprintf(x->out, ": it takes %s", x->r->is_tls ? "plaintext" : "TLS");
	} else if (!rank[PROTOCOLS]) {
		fprintf(x->out, ": ALPN is %s", x->r->alpn ? x->r->alpn : "absent");
		say_list(x, ", wanted one of ", f->application_protocols, f->n_application_protocols);
	} else {
		fprintf(x->out, ": the one that is taken is more specific");
	}
}

static void say_chains(struct explain *x, const Foil__Conf__Listener *l, const Foil__Conf__FilterChain *taken)
{
	size_t n_shown = 0;

	for (size_t i = 0; i < l->n_filter_chains; i++) {
		const Foil__Conf__FilterChain *f = l->filter_chains[i];
		const char *verdict = f == taken ? "taken" : "passed over";
		if (f != taken && ++n_shown > CANDIDATES_SHOWN_MAX)
			continue;
		istio_explain_step(x, "chain", verdict);
		fprintf(x->out, "  %s: chain %s", verdict, f->name ? f->name : "");
		if (f == taken)
			say_list(x, " for SNI ", f->server_names, f->n_server_names);
		istio_explain_source(x, f->source);
		if (f != taken)
			say_chain_loss(x, f);
		fprintf(x->out, "\n");
	}
	if (n_shown > CANDIDATES_SHOWN_MAX)
		fprintf(x->out, "  passed over: %zu more chains\n", n_shown - CANDIDATES_SHOWN_MAX);
}

/* ---- rules of VirtualServices ---- */

struct question { /* which of a VirtualService's rules a chain could have been made of */
	struct explain *x;
	const Foil__Conf__FilterChain *chain;
	struct route_scope scope;
	const char *vip;
	bool by_name;  /* its tls rules; else its tcp rules */
	bool is_found; /* one is taken */
	uint32_t n_shown;
};

static bool is_at(const Foil__Conf__SourceRef *s, const struct resource *r, struct istio_pos at)
{
	return s && s->resource && strcmp(s->resource, r->id) == 0 && s->line == at.line && s->column == at.column;
}

static bool name_is_listed(const struct istio_strings *names, const char *name)
{
	for (uint32_t i = 0; i < names->n; i++)
		if (strcmp(names->list[i], "*") == 0 || name_fits(names->list[i], name))
			return true;
	return false;
}

/* False, with the reason. */
static bool match_fits(const struct question *q, const struct vs *v, const struct l4_match *m, char *why, size_t n_why)
{
	const char *name = q->x->r->server_name ? q->x->r->server_name : "";
	struct explain *x = q->x;

	switch (istio_routes_l4_compare(x->c, v, m, &q->scope, q->vip)) {
	case L4_OTHER_PORT:
		(void)snprintf(why, n_why, "port is %u, wanted %u", q->scope.port, (uint32_t)m->port.value); /* fits, all of these */
		return false;
	case L4_OTHER_SOURCE:
		(void)snprintf(why, n_why, "it is for other gateways, sourceLabels or another sourceNamespace than those of %s", q->scope.gateway);
		return false;
	case L4_OTHER_SUBNET:
		(void)snprintf(why, n_why, "destination %s is in none of its destinationSubnets (%s%s)", q->vip, m->destination_subnets.list[0],
			       m->destination_subnets.n > 1 ? ", …" : "");
		return false;
	case L4_FITS:
		break;
	}
	if (!q->by_name || name_is_listed(&m->sni_hosts, name))
		return true;
	(void)snprintf(why, n_why, "server name is %.253s, wanted %.253s%s", name[0] ? name : "absent", m->sni_hosts.n ? m->sni_hosts.list[0] : "none",
		       m->sni_hosts.n > 1 ? " or another of its sniHosts" : "");
	return false;
}

/* By its matches alone. */
static bool rule_fits(const struct question *q, const struct vs *v, const struct l4_route *r, char *why, size_t n_why)
{
	char one[600];
	size_t n = 0;

	for (uint32_t i = 0; i < r->match.n; i++) {
		if (match_fits(q, v, ISTIO_ITEM(r->match, struct l4_match, i), one, sizeof(one)))
			return true;
		n += (size_t)snprintf(why + n, n_why - n, "%s%s", n ? "; or " : "", one);
		n = n < n_why ? n : n_why - 1; /* cut */
	}
	return r->match.n == 0;
}

static void say_rule(struct question *q, const struct vs *v, uint32_t index)
{
	const struct l4_route *r = ISTIO_ITEM(*(q->by_name ? &v->spec->tls : &v->spec->tcp), struct l4_route, index);
	struct istio_pos at = r->head.node->at;
	char why[WHY_MAX] = "";
	bool fits = rule_fits(q, v, r, why, sizeof(why));
	bool is_taken = !q->is_found && fits && (!q->by_name || is_at(q->chain->source, v->source, at));
	const char *verdict = is_taken ? "taken" : "passed over";

	if (!is_taken && ++q->n_shown > CANDIDATES_SHOWN_MAX)
		return;
	if (fits && !is_taken)
		(void)snprintf(why, sizeof(why), "%s", q->is_found ? "an earlier rule takes it" : "another chain's rule has the name, or a narrower one");
	istio_explain_step(q->x, "route", verdict);
	fprintf(q->x->out, "    %s: rule %s[%u]", verdict, q->by_name ? "tls" : "tcp", index);
	istio_explain_place(q->x, v->source, at);
	fprintf(q->x->out, "%s%s\n", is_taken ? "" : ": ", is_taken ? "" : why);
	q->is_found |= is_taken;
}

/* As a whole, for a reason that has nothing to do with its rules. */
static void say_vs_loss(struct question *q, const struct vs *v, const char *why)
{
	if (++q->n_shown > CANDIDATES_SHOWN_MAX)
		return;
	istio_explain_step(q->x, "route", "passed over");
	fprintf(q->x->out, "    passed over: all rules of %s", v->source->name);
	istio_explain_place(q->x, v->source, v->source->node->at);
	fprintf(q->x->out, ": %s\n", why);
}

static void say_rules(struct question *q, const struct vs *v)
{
	uint32_t n = q->by_name ? v->spec->tls.n : v->spec->tcp.n;

	for (uint32_t i = 0; i < n; i++)
		say_rule(q, v, i);
	if (n == 0)
		say_vs_loss(q, v, q->by_name ? "at a port of TLS its tls rules are asked, and it has none" : "it has no tcp rules");
}

/* ---- the mesh: services at their addresses, and captured ones ---- */

static bool has_vip(const struct service *s, const char *address)
{
	for (uint32_t i = 0; i < s->n_vips; i++)
		if (strcmp(s->vips[i], address) == 0)
			return true;
	return false;
}

/* The chain's name is the service's host, with a word behind it where mutual TLS has chains beside the plain one. */
static bool is_chain_of(const Foil__Conf__FilterChain *f, const struct service *s)
{
	size_t n = strlen(s->host);

	return f->name && strncmp(f->name, s->host, n) == 0 && (f->name[n] == 0 || strcmp(f->name + n, "_mtls") == 0 || strcmp(f->name + n, "_tls") == 0);
}

static bool could_be_of(const Foil__Conf__Listener *l, const Foil__Conf__FilterChain *f, const struct service *s, const struct service_port *p)
{
	if (s->is_hidden || istio_registry_is_http(p->protocol) || p->protocol == PROTO_UDP)
		return false;
	if (!is_wild(l))
		return has_vip(s, l->address);
	return !s->is_k8s && (is_chain_of(f, s) || (istio_registry_is_tls(p->protocol) && f->is_tls_passthrough));
}

static void ask_service(struct question *q, const struct service *s, const struct service_port *p)
{
	const struct vs *v = istio_outbound_vs(q->x->c, s->host);

	q->by_name = istio_registry_is_tls(p->protocol);
	q->scope.client_namespace = s->namespace;
	if (!v)
		return;
	if (v->is_hidden)
		say_vs_loss(q, v, "the node's Sidecar hides it");
	else if (!istio_outbound_sees(q->x->c, v, s->namespace))
		say_vs_loss(q, v, "its exportTo leaves out the service's namespace");
	else
		say_rules(q, v);
}

static void ask_mesh(struct question *q, const Foil__Conf__Listener *l)
{
	const struct compile *c = q->x->c;
	struct istio_map asked = {0};

	q->scope.gateway = MESH_GATEWAY;
	q->scope.port = l->port;
	q->vip = is_wild(l) ? q->x->r->address : l->address;
	for (uint32_t i = 0; i < c->services.n; i++) {
		const struct service *s = c->services.list[i];
		const struct service_port *p = istio_registry_port(s, l->port);
		if (!p || !could_be_of(l, q->chain, s, p))
			continue;
		const struct vs *v = istio_outbound_vs(c, s->host);
		bool is_new = true;
		if (v)
			(void)istio_map_put(c->arena, &asked, v->source->id, &is_new);
		if (is_new)
			ask_service(q, s, p);
		if (!q->is_found && is_chain_of(q->chain, s)) {
			istio_explain_step(q->x, "route", "taken");
			fprintf(q->x->out, "    taken: the service itself");
			istio_explain_place(q->x, s->source, p->at);
			fprintf(q->x->out, ": no rule of a VirtualService goes before it\n");
			q->is_found = true;
		}
	}
}

/* The last chain: what becomes of destinations that nobody described. */
static void say_unknown(struct question *q)
{
	const struct compile *c = q->x->c;
	const struct resource *r = istio_sidecar_of_node(c);
	const struct sidecar *s = r ? r->spec : NULL;
	bool is_passed = strcmp(q->chain->name, CLUSTER_PASSTHROUGH) == 0;

	if (!is_passed && strcmp(q->chain->name, CLUSTER_BLACK_HOLE) != 0)
		return;
	istio_explain_step(q->x, "policy", "taken");
	fprintf(q->x->out, "    no service or rule has it: outboundTrafficPolicy %s", is_passed ? "ALLOW_ANY" : "REGISTRY_ONLY");
	if (s && s->outbound && s->outbound->mode.is_set)
		istio_explain_place(q->x, r, s->outbound->head.node->at);
	fprintf(q->x->out, "\n");
	q->is_found = true;
}

/* ---- gateways ---- */

static const struct istio_gateway_address *gateway_at(const struct compile *c, const char *address)
{
	for (size_t i = 0; i < c->node->n_gateways; i++)
		for (size_t j = 0; j < c->node->gateways[i].n_addresses; j++)
			if (strcmp(c->node->gateways[i].addresses[j], address) == 0)
				return &c->node->gateways[i];
	return NULL;
}

static void ask_server(struct question *q, const struct resource *gateway, const struct gateway_server *server, uint32_t index)
{
	struct compile *c = q->x->c;
	bool by_name = server->tls && server->tls->mode.value == GATEWAY_TLS_PASSTHROUGH;
	const char *name = istio_arena_printf(c->arena, "%s/%s", gateway->namespace, gateway->name);
	const struct vs_list *list = istio_map_get(&c->vs_by_gateway, name);

	if (by_name != (q->chain->is_tls_passthrough != 0) || (q->chain->tls && !is_at(q->chain->source, gateway, server->head.node->at)))
		return;
	q->by_name = by_name;
	q->scope.gateway = name;
	for (uint32_t i = 0; list && i < list->n; i++) {
		const struct vs *v = list->list[i];
		if (!istio_compile_is_exported(&v->spec->export_to, &c->model->mesh->virtual_service_export_to, v->source->namespace, c->root_namespace))
			say_vs_loss(q, v, "its exportTo leaves out the gateways' namespace");
		else if (istio_hosts_meet(c, istio_hosts_of_server(c, gateway, server, index), v).n == 0)
			say_vs_loss(q, v, "none of its hosts is one of the Gateway's server");
		else
			say_rules(q, v);
	}
}

static void ask_gateways(struct question *q, const Foil__Conf__Listener *l)
{
	const struct compile *c = q->x->c;
	const struct resource_list *all = &c->model->kinds[KIND_GATEWAY];

	q->scope.port = l->port;
	q->scope.labels = gateway_at(c, l->address);
	q->scope.client_namespace = c->root_namespace;
	for (uint32_t i = 0; i < all->n; i++) {
		const struct gateway *g = all->list[i]->spec;
		const struct istio_gateway_address *at = q->scope.labels;
		if (at && !istio_compile_node_labels_have(at->label_keys, at->label_values, at->n_labels, &g->selector))
			continue;
		for (uint32_t j = 0; j < g->servers.n; j++) {
			const struct gateway_server *server = ISTIO_ITEM(g->servers, struct gateway_server, j);
			if ((uint32_t)server->port->number.value == l->port)
				ask_server(q, all->list[i], server, j);
		}
	}
}

/* ---- listeners ---- */

/* The more, the nearer; 0: it does not fit. At a node that stands for any, a gateway has no address of its own. */
static unsigned int nearness(const struct explain *x, const Foil__Conf__Listener *l)
{
	bool is_any = strcmp(l->address, "0.0.0.0") == 0, same_port = l->port == x->r->port;

	if (is_wild(l))
		return same_port ? 3 : l->port == 0 ? 1 : 0;
	if (!same_port)
		return 0;
	if (x->r->address)
		return strcmp(l->address, x->r->address) == 0 ? 5 : is_any ? 2 : 0;
	const Foil__Conf__FilterChain *f = x->r->is_tls ? choose_chain(x, l) : NULL;
	return f && f->n_server_names ? 4 : 2;
}

/* The caller frees it. */
static Foil__Conf__Listener *choose_listener(struct explain *x)
{
	Foil__Conf__Listener *best = NULL;
	unsigned int best_rank = 0;

	for (size_t i = 0; i < x->s->n_resources; i++) {
		const struct istio_resource *r = &x->s->resources[i];
		if (r->type != FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER)
			continue;
		Foil__Conf__Listener *l = foil__conf__listener__unpack(NULL, r->n_bytes, r->bytes), *worse = l;
		unsigned int rank = l ? nearness(x, l) : 0;
		if (rank > best_rank) {
			worse = best;
			best = l;
			best_rank = rank;
		}
		if (worse)
			foil__conf__listener__free_unpacked(worse, NULL);
	}
	return best;
}

static int explain_chain(struct explain *x, const Foil__Conf__Listener *l, const Foil__Conf__FilterChain *f)
{
	struct question q = {.x = x, .chain = f};

	if (!f) {
		istio_explain_step(x, "end", "");
		fprintf(x->out, "  no chain takes it: the connection is reset (no_filter_chain)\n");
		return 1;
	}
	if (f->network_case == FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP) {
		istio_explain_step(x, "end", "");
		fprintf(x->out, "    HTTP, by the route table %s: ask with the URL of a request\n", f->http->routes);
		return 0;
	}
	if (f->tls)
		fprintf(x->out, "    TLS ends here\n");
	say_unknown(&q);
	if (!q.is_found && l->direction == FOIL__CONF__DIRECTION__DIRECTION_OUTBOUND)
		ask_mesh(&q, l);
	else if (!q.is_found)
		ask_gateways(&q, l);
	if (q.n_shown > CANDIDATES_SHOWN_MAX)
		fprintf(x->out, "    passed over: %u more rules\n", q.n_shown - CANDIDATES_SHOWN_MAX);
	if (f->network_case == FOIL__CONF__FILTER_CHAIN__NETWORK_TCP)
		istio_explain_weighted(x, f->tcp->clusters, f->tcp->n_clusters);
	return strcmp(f->name, CLUSTER_BLACK_HOLE) == 0 ? 1 : 0;
}

static void say_connection(struct explain *x, const struct service *s)
{
	const struct istio_request *r = x->r;

	istio_explain_step(x, "request", "");
	fprintf(x->out, "connection to %s%s%s port %u", r->authority ? r->authority : "", r->authority && r->address ? " at " : "",
		r->address ? r->address : r->authority ? "" : "any address,", r->port);
	if (r->is_tls)
		fprintf(x->out, ", TLS, server name %s", r->server_name ? r->server_name : "absent");
	if (r->alpn)
		fprintf(x->out, ", ALPN %s", r->alpn);
	fprintf(x->out, "\n");
	if (r->authority && !s && !r->is_tls) /* server names have chains, whoever's they are */
		fprintf(x->out, "note: no Service or ServiceEntry has the host %s; as if it had an address that nobody described\n", r->authority);
}

int istio_explain_connection(struct explain *x)
{
	struct istio_request r = *x->r;
	const struct service *s = r.authority && x->c ? istio_registry_find(x->c, istio_arena_lower(x->c->arena, r.authority)) : NULL;

	if (!r.address && s && s->n_vips)
		r.address = s->vips[0];
	x->r = &r; /* until the end of this call */
	say_connection(x, s);
	Foil__Conf__Listener *l = choose_listener(x);
	int rc = 1;
	if (l) {
		const Foil__Conf__FilterChain *f = choose_chain(x, l);
		istio_explain_listener(x, l);
		say_chains(x, l, f);
		rc = explain_chain(x, l, f);
		foil__conf__listener__free_unpacked(l, NULL);
	} else {
		istio_explain_step(x, "end", "");
		fprintf(x->out, "no listener at address %s and port %u: the connection is refused\n", r.address ? r.address : "(any)", r.port);
	}
	istio_explain_hidden(x, r.server_name ? r.server_name : r.authority, r.address);
	return rc;
}
