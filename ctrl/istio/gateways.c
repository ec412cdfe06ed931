/* Gateways into listeners and route tables (features.md GW-1..GW-7, GW-17, GW-18): the servers of all Gateways that select one of the node's gateway
 * addresses, merged by port, with the VirtualServices that bind to them. A server that ends TLS is a chain of its own, with its own route table. */
#include "ctrl/istio/identity.h"
#include "ctrl/istio/tls.h"

#include <stdlib.h>
#include <string.h>

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

#define CHAINS_MAX 4096 /* what the data plane takes for one listener */

enum family { FAMILY_HTTP, FAMILY_TCP, FAMILY_TLS };

struct bound_server {
	const struct resource *gateway;
	const struct gateway_server *server;
	const char *gateway_name; /* "namespace/name" */
	uint32_t index;
};

struct gateway_port {
	const char *bind; /* an address, or "" for all of the gateway's */
	uint32_t port;
	enum family family;
	struct {
		struct bound_server *list;
		uint32_t n, n_room;
	} servers;
};

/* One of the node's gateways: a label set with its addresses. */
struct edge {
	struct compile *c;
	const struct istio_gateway_address *at;
	uint32_t index;
	struct istio_map ports; /* "bind_port" -> struct gateway_port */
};

static const char *server_field(const struct edge *e, const struct bound_server *b, const char *rest)
{
	const struct ingress_origin *o = b->server->origin;

	if (o) /* of an Ingress: its tls[] has hosts and a secretName, and the server for HTTP has nothing */
		return strcmp(rest, "hosts") == 0 ? istio_arena_printf(e->c->arena, "%s.hosts", o->field)
		       : strcmp(rest, "tls") == 0 ? istio_arena_printf(e->c->arena, "%s.secretName", o->field) : o->field;
	return istio_arena_printf(e->c->arena, "spec.servers[%u]%s%s", b->index, rest[0] ? "." : "", rest);
}

/* ---- which servers ---- */

/* False, with an error: a server that we cannot serve. */
static bool family_of(struct edge *e, const struct bound_server *b, enum family *out)
{
	const struct gateway_server *s = b->server;
	enum port_protocol p = istio_registry_protocol_word(s->port->protocol, strlen(s->port->protocol));

	if (istio_registry_is_http(p)) {
		*out = FAMILY_HTTP;
		return true;
	}
	if (p == PROTO_TCP) {
		*out = FAMILY_TCP;
		if (!s->tls || !s->tls->mode.is_set)
			return true;
		istio_compile_report(e->c, ISTIO_ERROR, "IST0106", b->gateway, istio_doc_at(s->tls->head.node, "mode"), server_field(e, b, "tls.mode"),
				     "a server of protocol TCP passes bytes on; TLS is ended by one of protocol TLS or HTTPS: this server is not served");
		return false;
	} else if (p == PROTO_TLS || p == PROTO_HTTPS) {
		*out = FAMILY_TLS;
		if (!s->tls) {
			istio_compile_report(e->c, ISTIO_ERROR, "IST0106", b->gateway, s->head.node->at, server_field(e, b, ""),
				       "a server of protocol %s needs tls: it is not served", s->port->protocol);
			return false;
		}
		return true;
	} else {
		istio_compile_report(e->c, ISTIO_ERROR, "IST0106", b->gateway, istio_doc_at(s->port->head.node, "protocol"), server_field(e, b,
				"port.protocol"),
			       "the protocol \"%.40s\" is not one of HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TCP, TLS, MONGO: this server is not served",
				       s->port->protocol);
		return false;
	}
	return false;
}

static bool has_address(const struct edge *e, const char *address)
{
	for (size_t i = 0; e->at && i < e->at->n_addresses; i++)
		if (strcmp(e->at->addresses[i], address) == 0)
			return true;
	return !e->at;
}

static void add_server(struct edge *e, const struct bound_server *b)
{
	const struct gateway_server *s = b->server;
	const char *bind = s->bind ? s->bind : "";
	enum family family;
	bool is_new;

	if (!family_of(e, b, &family))
		return;
	if (bind[0] && !has_address(e, bind)) {
		istio_compile_report(e->c, ISTIO_WARNING, "IST0104", b->gateway, istio_doc_at(s->head.node, "bind"), server_field(e, b, "bind"),
			       "%s is not an address that this node has for the gateway: the server is not served", bind);
		return;
	}
	uint32_t port = (uint32_t)s->port->number.value;
	void **place = istio_map_put(e->c->arena, &e->ports, istio_arena_printf(e->c->arena, "%s_%u", bind, port), &is_new);
	if (is_new) {
		struct gateway_port *fresh = ARENA_NEW(e->c->arena, struct gateway_port);
		fresh->bind = bind;
		fresh->port = port;
		fresh->family = family;
		*place = fresh;
	}
	struct gateway_port *p = *place;
	if (p->family != family) {
		istio_compile_report(e->c, ISTIO_WARNING, "IST0145", b->gateway, s->port->head.node->at, server_field(e, b, "port"),
			       "port %u is already served with another protocol by %s: this server is not served", port, p->servers.list[0].gateway->id);
		return;
	}
	ARENA_PUSH(e->c->arena, &p->servers, *b);
}

static void collect(struct edge *e)
{
	const struct resource_list *list = &e->c->model->kinds[KIND_GATEWAY];

	for (uint32_t i = 0; i < list->n; i++) {
		const struct resource *r = list->list[i];
		const struct gateway *g = r->spec;
		if (e->at && !istio_compile_node_labels_have(e->at->label_keys, e->at->label_values, e->at->n_labels, &g->selector))
			continue;
		const char *name = istio_arena_printf(e->c->arena, "%s/%s", r->namespace, r->name);
		for (uint32_t j = 0; j < g->servers.n; j++)
			add_server(e, &(struct bound_server){r, ISTIO_ITEM(g->servers, struct gateway_server, j), name, j});
	}
}

static struct host_list meet(struct edge *e, const struct bound_server *b, const struct vs *v)
{
	return istio_hosts_meet(e->c, istio_hosts_of_server(e->c, b->gateway, b->server, b->index), v);
}

/* ---- http ---- */

struct vhost_build {
	const char *host;
	struct route_list routes;
	bool require_tls;
	const struct vs *last; /* of whom routes were added last, for the same gateway */
	const char *last_gateway;
};

struct http_build {
	struct edge *e;
	const struct gateway_port *port;
	struct istio_map vhosts; /* host -> struct vhost_build */
};

static struct vhost_build *vhost_of(struct http_build *h, const char *host)
{
	bool is_new;
	void **place = istio_map_put(h->e->c->arena, &h->vhosts, host, &is_new);

	if (is_new) {
		struct vhost_build *v = ARENA_NEW(h->e->c->arena, struct vhost_build);
		v->host = host;
		*place = v;
	}
	return *place;
}

static struct route_scope scope_of(const struct edge *e, const struct bound_server *b, uint32_t port)
{
	return (struct route_scope){.gateway = b->gateway_name, .port = port, .labels = e->at, .client_namespace = e->c->root_namespace};
}

static bool is_visible(const struct edge *e, const struct vs *v)
{
	return istio_compile_is_exported(&v->spec->export_to, &e->c->model->mesh->virtual_service_export_to, v->source->namespace, e->c->root_namespace);
}

static void bind_one(struct http_build *h, const struct bound_server *b, const struct vs *v)
{
	struct compile *c = h->e->c;
	struct host_list hosts = meet(h->e, b, v);
	struct route_scope scope = scope_of(h->e, b, h->port->port);
	struct route_list routes = {0};

	if (hosts.n == 0 || v->n_http == 0)
		return;
	scope.is_for_any = istio_hosts_are_any(&hosts);
	istio_routes_of_http(c, v, &scope, &routes);
	for (uint32_t i = 0; i < hosts.n && routes.n; i++) {
		struct vhost_build *host = vhost_of(h, hosts.list[i]);
		if (host->last == v && host->last_gateway == b->gateway_name)
			continue; /* by another server of the same gateway */
		host->last = v;
		host->last_gateway = b->gateway_name;
		for (uint32_t j = 0; j < routes.n; j++)
			ARENA_PUSH(c->arena, &host->routes, routes.list[j]);
	}
}

/* Hosts that no VirtualService has; where they name a namespace Istio looks for the whole text, which no request has, so that nobody is redirected. */
static void redirect_hosts(struct http_build *h, const struct bound_server *b)
{
	if (!b->server->tls || !b->server->tls->https_redirect.is_true)
		return;
	for (uint32_t i = 0; i < b->server->hosts.n; i++)
		if (!strchr(b->server->hosts.list[i], '/'))
			vhost_of(h, istio_arena_lower(h->e->c->arena, b->server->hosts.list[i]))->require_tls = true;
}

static void bind_server(struct http_build *h, const struct bound_server *b)
{
	const struct vs_list *list = istio_map_get(&h->e->c->vs_by_gateway, b->gateway_name);
	bool to_https = b->server->tls && b->server->tls->https_redirect.is_true;

	for (uint32_t i = 0; list && i < list->n; i++) {
		if (!is_visible(h->e, list->list[i]))
			continue;
		bind_one(h, b, list->list[i]);
		struct host_list hosts = to_https ? meet(h->e, b, list->list[i]) : (struct host_list){0};
		for (uint32_t j = 0; j < hosts.n; j++)
			vhost_of(h, hosts.list[j])->require_tls = true;
	}
	redirect_hosts(h, b);
}

/* VS-5: catch-alls to the end, else in order. */
static void catch_alls_last(struct compile *c, struct route_list *routes)
{
	struct route_list sorted = {0};

	for (int last = 0; last < 2; last++)
		for (uint32_t i = 0; i < routes->n; i++)
			if (istio_route_is_catch_all(routes->list[i]) == (last == 1))
				ARENA_PUSH(c->arena, &sorted, routes->list[i]);
	*routes = sorted;
}

static Foil__Conf__VirtualHost *vhost_message(struct http_build *h, struct vhost_build *from)
{
	Foil__Conf__VirtualHost *v = istio_compile_vhost(h->e->c, from->host, h->port->port, 1);

	catch_alls_last(h->e->c, &from->routes);
	v->domains[v->n_domains++] = word(from->host);
	v->routes = from->routes.list;
	v->n_routes = from->routes.n;
	v->has_require_tls = from->require_tls;
	v->require_tls = from->require_tls;
	return v;
}

static int by_vhost_name(const void *x, const void *y)
{
	return strcmp((*(Foil__Conf__VirtualHost *const *)x)->name, (*(Foil__Conf__VirtualHost *const *)y)->name);
}

/* The name of the route table: Istio's, with the gateway's first address where a node has several gateways. */
static const char *routes_name(const struct edge *e, const struct gateway_port *p)
{
	const char *where = p->bind[0] ? p->bind : e->index && e->at && e->at->n_addresses ? e->at->addresses[0] : "";

	return istio_arena_printf(e->c->arena, "http.%u%s%s", p->port, where[0] ? "." : "", where);
}

static void http_port(struct edge *e, const struct gateway_port *p, const char *name, Foil__Conf__FilterChain **chain)
{
	struct http_build h = {.e = e, .port = p};

	for (uint32_t i = 0; i < p->servers.n; i++)
		bind_server(&h, &p->servers.list[i]);
	uint32_t n = h.vhosts.n ? h.vhosts.n : 1;
	Foil__Conf__VirtualHost **list = ARENA_ARRAY(e->c->arena, Foil__Conf__VirtualHost *, n);
	for (uint32_t i = 0; i < h.vhosts.n; i++)
		list[i] = vhost_message(&h, h.vhosts.entries[i].value);
	if (h.vhosts.n == 0) { /* GW-4: 404 */
		list[0] = istio_compile_vhost(e->c, "blackhole", p->port, 1);
		list[0]->domains[list[0]->n_domains++] = word("*");
	}
	qsort(list, n, sizeof(list[0]), by_vhost_name);
	istio_compile_route_config(e->c, name, list, n);
	*chain = istio_compile_chain(e->c, name, p->servers.list[0].gateway, p->servers.list[0].server->head.node->at);
	(*chain)->network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP;
	(*chain)->http = istio_compile_hcm(e->c, name, true);
	const char *protocol = p->servers.list[0].server->port->protocol; /* Istio: of the first server at the port */
	(*chain)->http->has_grpc_web = true;
	(*chain)->http->grpc_web = istio_registry_protocol_word(protocol, strlen(protocol)) == PROTO_GRPC_WEB;
}

/* ---- tcp and tls ---- */

static Foil__Conf__TcpProxy *tcp_of_server(struct edge *e, const struct gateway_port *p, const struct bound_server *b)
{
	const struct vs_list *list = istio_map_get(&e->c->vs_by_gateway, b->gateway_name);
	struct route_scope scope = scope_of(e, b, p->port);

	for (uint32_t i = 0; list && i < list->n; i++) {
		const struct vs *v = list->list[i];
		struct host_list hosts = v->spec->tcp.n && is_visible(e, v) ? meet(e, b, v) : (struct host_list){0};
		if (hosts.n == 0)
			continue;
		scope.is_for_any = b->server->tls && istio_hosts_are_any(&hosts); /* without TLS nothing names a host */
		Foil__Conf__TcpProxy *t = istio_routes_of_tcp(e->c, v, &scope, NULL);
		if (t)
			return t;
	}
	return NULL;
}

struct chains {
	Foil__Conf__FilterChain **list;
	uint32_t n, n_room;
};

static void tcp_port(struct edge *e, const struct gateway_port *p, struct chains *out)
{
	for (uint32_t i = 0; i < p->servers.n && out->n == 0; i++) {
		const struct bound_server *b = &p->servers.list[i];
		Foil__Conf__TcpProxy *t = tcp_of_server(e, p, b);
		if (!t)
			continue;
		Foil__Conf__FilterChain *chain = istio_compile_chain(e->c, istio_arena_printf(e->c->arena, "tcp.%u", p->port), b->gateway,
								     b->server->head.node->at);
		chain->network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_TCP;
		chain->tcp = t;
		ARENA_PUSH(e->c->arena, out, chain);
	}
	if (out->n == 0)
		istio_compile_report(e->c, ISTIO_WARNING, "HF0015", p->servers.list[0].gateway, p->servers.list[0].server->head.node->at, server_field(e,
				&p->servers.list[0], ""),
			       "no tcp rule of a VirtualService goes with it: connections to port %u are refused", p->port);
}

/* One rule of a VirtualService for passed-through TLS: a chain for its names. */
static void tls_rule(struct edge *e, const struct gateway_port *p, const struct bound_server *b, const struct vs *v, uint32_t index, struct istio_map *taken,
		     struct chains *out)
{
	const struct l4_route *r = ISTIO_ITEM(v->spec->tls, struct l4_route, index);
	struct route_scope scope = scope_of(e, b, p->port);
	struct host_list names = {0};

	for (uint32_t i = 0; i < r->match.n; i++) {
		const struct l4_match *m = ISTIO_ITEM(r->match, struct l4_match, i);
		for (uint32_t j = 0; istio_routes_l4_compare(e->c, v, m, &scope, NULL) == L4_FITS && j < m->sni_hosts.n; j++) {
			const char *name = istio_arena_lower(e->c->arena, m->sni_hosts.list[j]);
			bool is_new;
			(void)istio_map_put(e->c->arena, taken, name, &is_new);
			if (is_new)
				ARENA_PUSH(e->c->arena, &names, name);
		}
	}
	if (names.n == 0)
		return;
	scope.is_for_any = istio_hosts_are_any(&names);
	Foil__Conf__FilterChain *chain = istio_compile_chain(e->c, names.list[0], v->source, r->head.node->at);
	chain->server_names = (char **)names.list; /* packed only */
	chain->n_server_names = names.n == 1 && strcmp(names.list[0], "*") == 0 ? 0 : names.n;
	chain->network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_TCP;
	chain->tcp = istio_routes_of_tls(e->c, v, r, &scope, index);
	chain->has_is_tls_passthrough = chain->is_tls_passthrough = true;
	ARENA_PUSH(e->c->arena, out, chain);
}

/* The names of a server that ends TLS, without those that an earlier chain has. n 0: none is left. */
static struct host_list server_names(struct edge *e, const struct bound_server *b, struct istio_map *taken)
{
	struct host_list names = {0};

	for (uint32_t i = 0; i < b->server->hosts.n; i++) {
		const char *host = b->server->hosts.list[i], *slash = strchr(host, '/');
		const char *name = istio_arena_lower(e->c->arena, slash ? slash + 1 : host);
		bool is_new;
		(void)istio_map_put(e->c->arena, taken, name, &is_new);
		if (is_new)
			ARENA_PUSH(e->c->arena, &names, name);
		else
			istio_compile_report(e->c, ISTIO_WARNING, "IST0145", b->gateway, b->server->head.node->at, server_field(e, b, "hosts"),
					     "%s is already served at port %u: connections for it go to the earlier server", name,
					     (uint32_t)b->server->port->number.value);
	}
	return names;
}

/* Istio answers 404 where a client uses a connection for a host of another server; a Gateway with this annotation answers 421. */
static bool refuses_misdirected(struct edge *e, const struct bound_server *b)
{
	static const char key[] = "hydrofoil.io/misdirected";
	const char *value = istio_compile_label(&b->gateway->annotations, key);

	if (value && strcmp(value, "refuse") != 0 && strcmp(value, "route") != 0)
		istio_compile_report(e->c, ISTIO_WARNING, "HF0007", b->gateway, b->gateway->node->at, "metadata.annotations",
				     "%s is \"%.40s\": \"refuse\" answers 421, \"route\" is the default", key, value);
	return value && strcmp(value, "refuse") == 0;
}

/* A server that ends TLS: a chain for its names, with routes of its own. */
static void tls_server(struct edge *e, const struct gateway_port *p, const struct bound_server *b, struct istio_map *taken, struct chains *out)
{
	const struct gateway_server *s = b->server;
	bool is_http = istio_registry_protocol_word(s->port->protocol, strlen(s->port->protocol)) == PROTO_HTTPS;
	Foil__Conf__DownstreamTls *tls = istio_tls_of_server(e->c, b->gateway, s->tls, server_field(e, b, "tls"));
	struct host_list names = tls ? server_names(e, b, taken) : (struct host_list){0};
	struct gateway_port alone = {.bind = p->bind, .port = p->port, .family = p->family};
	Foil__Conf__FilterChain *chain;
	bool is_any = false;

	if (names.n == 0)
		return;
	ARENA_PUSH(e->c->arena, &alone.servers, *b);
	const char *name = istio_arena_printf(e->c->arena, "https.%u.%s.%s.%s%s%s", p->port, s->port->name ? s->port->name : "", b->gateway->name,
					      b->gateway->namespace, e->index ? "." : "", e->index && e->at && e->at->n_addresses ? e->at->addresses[0] : "");
	if (is_http) {
		http_port(e, &alone, name, &chain);
		chain->http->scheme = word("https");
		chain->http->has_refuse_misdirected = true;
		chain->http->refuse_misdirected = refuses_misdirected(e, b);
	} else {
		Foil__Conf__TcpProxy *t = tcp_of_server(e, &alone, b);
		if (!t) {
			istio_compile_report(e->c, ISTIO_WARNING, "HF0015", b->gateway, s->head.node->at, server_field(e, b, ""),
					     "no tcp rule of a VirtualService goes with it: connections to port %u are refused", p->port);
			return;
		}
		chain = istio_compile_chain(e->c, name, b->gateway, s->head.node->at);
		chain->network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_TCP;
		chain->tcp = t;
	}
	for (uint32_t i = 0; i < names.n; i++)
		is_any |= strcmp(names.list[i], "*") == 0;
	chain->server_names = (char **)names.list; /* packed only */
	chain->n_server_names = is_any ? 0 : names.n;
	chain->tls = tls;
	ARENA_PUSH(e->c->arena, out, chain);
}

/* ---- AUTO_PASSTHROUGH (features.md GW-13): the client's own mTLS goes through to the service that its server name says ---- */

static bool server_has_host(struct edge *e, const struct bound_server *b, const struct service *s)
{
	for (uint32_t i = 0; i < b->server->hosts.n; i++) {
		const char *host = b->server->hosts.list[i], *slash = strchr(host, '/');
		const char *name = istio_arena_lower(e->c->arena, slash ? slash + 1 : host);
		bool is_of = !slash || (slash - host == 1 && host[0] == '*') || (strncmp(host, s->namespace, (size_t)(slash - host)) == 0 &&
										 strlen(s->namespace) == (size_t)(slash - host));
		if (is_of && istio_compile_host_has_subset(name, s->host))
			return true;
	}
	return false;
}

static void passed_on_chain(struct edge *e, const struct bound_server *b, struct service *s, const struct service_port *port, const char *subset,
			    struct istio_map *taken, struct chains *out)
{
	struct cluster_ref *ref = istio_clusters_ref_passed_on(e->c, s, port, subset, e->c->root_namespace);
	bool is_new;

	(void)istio_map_put(e->c->arena, taken, ref->name, &is_new);
	if (!is_new)
		return;
	Foil__Conf__FilterChain *chain = istio_compile_chain(e->c, ref->name, b->gateway, b->server->head.node->at);
	chain->server_names = ARENA_ARRAY(e->c->arena, char *, 1);
	chain->server_names[chain->n_server_names++] = word(ref->name);
	chain->application_protocols = ARENA_ARRAY(e->c->arena, char *, 8);
	for (size_t i = 0; istio_mesh_protocols[i]; i++)
		chain->application_protocols[chain->n_application_protocols++] = word(istio_mesh_protocols[i]);
	chain->network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_TCP;
	chain->tcp = istio_routes_tcp_to(e->c, ref, s);
	chain->has_is_tls_passthrough = chain->is_tls_passthrough = true;
	ARENA_PUSH(e->c->arena, out, chain);
}

static void auto_passthrough(struct edge *e, const struct bound_server *b, struct istio_map *taken, struct chains *out)
{
	for (uint32_t i = 0; i < e->c->services.n; i++) {
		struct service *s = e->c->services.list[i];
		if (s->is_external || istio_registry_find(e->c, s->host) != s || !server_has_host(e, b, s) ||
		    !istio_compile_is_exported(s->export_to, &e->c->model->mesh->service_export_to, s->namespace, e->c->root_namespace))
			continue;
		const struct merged_rule *rule = istio_registry_rule(e->c, s, e->c->root_namespace);
		for (uint32_t j = 0; j < s->n_ports; j++) {
			if (s->ports[j].protocol == PROTO_UDP)
				continue;
			passed_on_chain(e, b, s, &s->ports[j], NULL, taken, out);
			for (uint32_t k = 0; rule && k < rule->subsets.n; k++)
				passed_on_chain(e, b, s, &s->ports[j], rule->subsets.list[k]->name, taken, out);
		}
	}
}

static void tls_port(struct edge *e, const struct gateway_port *p, struct chains *out)
{
	struct istio_map taken = {0};

	for (uint32_t i = 0; i < p->servers.n; i++) {
		const struct bound_server *b = &p->servers.list[i];
		if (b->server->tls->mode.value == GATEWAY_TLS_AUTO_PASSTHROUGH) {
			auto_passthrough(e, b, &taken, out);
			continue;
		}
		if (b->server->tls->mode.value != GATEWAY_TLS_PASSTHROUGH) { /* which is also the mode that is not written */
			tls_server(e, p, b, &taken, out);
			continue;
		}
		const struct vs_list *list = istio_map_get(&e->c->vs_by_gateway, b->gateway_name);
		for (uint32_t j = 0; list && j < list->n; j++) {
			const struct vs *v = list->list[j];
			if (!is_visible(e, v) || meet(e, b, v).n == 0)
				continue;
			for (uint32_t k = 0; k < v->spec->tls.n; k++)
				tls_rule(e, p, b, v, k, &taken, out);
		}
	}
	if (out->n == 0 && p->servers.list[0].server->tls->mode.value == GATEWAY_TLS_PASSTHROUGH)
		istio_compile_report(e->c, ISTIO_WARNING, "HF0015", p->servers.list[0].gateway, p->servers.list[0].server->head.node->at, server_field(e,
				&p->servers.list[0], ""),
			       "no tls rule of a VirtualService goes with it: connections to port %u are refused", p->port);
}

/* ---- all of it ---- */

static void port_compile(struct edge *e, struct gateway_port *p)
{
	static const char *const any[] = {"0.0.0.0"};
	struct chains chains = {0};
	const char *const *addresses = e->at ? e->at->addresses : any;
	size_t n = e->at ? e->at->n_addresses : 1;
	const struct bound_server *first = &p->servers.list[0];

	if (p->family == FAMILY_HTTP) {
		Foil__Conf__FilterChain *chain;
		http_port(e, p, routes_name(e, p), &chain);
		ARENA_PUSH(e->c->arena, &chains, chain);
	} else if (p->family == FAMILY_TCP) {
		tcp_port(e, p, &chains);
	} else {
		tls_port(e, p, &chains);
	}
	if (chains.n == 0)
		return;
	if (chains.n > CHAINS_MAX) {
		istio_compile_report(e->c, ISTIO_ERROR, "HF0016", first->gateway, first->server->head.node->at, "",
				     "more than %d TLS rules on port %u: the rest is left out",
			       CHAINS_MAX, p->port);
		chains.n = CHAINS_MAX;
	}
	if (p->bind[0]) {
		addresses = &p->bind;
		n = 1;
	}
	for (size_t i = 0; i < n; i++)
		istio_compile_listener(e->c, first->gateway, first->server->head.node->at, addresses[i], p->port, FOIL__CONF__DIRECTION__DIRECTION_GATEWAY,
				 chains.list, chains.n);
}

static void edge_compile(struct compile *c, const struct istio_gateway_address *at, uint32_t index)
{
	struct edge e = {.c = c, .at = at, .index = index};

	collect(&e);
	for (int with_bind = 1; with_bind >= 0; with_bind--) /* a bound address first: the others leave it alone */
		for (uint32_t i = 0; i < e.ports.n; i++) {
			struct gateway_port *p = e.ports.entries[i].value;
			if ((p->bind[0] != 0) == (with_bind == 1))
				port_compile(&e, p);
		}
}

void istio_gateways_compile(struct compile *c)
{
	if (c->node->is_any)
		edge_compile(c, NULL, 0);
	for (size_t i = 0; i < c->node->n_gateways; i++)
		edge_compile(c, &c->node->gateways[i], (uint32_t)i);
}
