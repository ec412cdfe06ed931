/* Services at their own addresses, where these lie in the node's service ranges, and captured addresses: what a client's sidecar would do (features.md
 * VS-3, VS-5, VS-56, SE-2, SE-5, SE-11).
 * The table of an HTTP port has all services with that port, as a sidecar's has; each service address has its listener. */
#include "ctrl/istio/identity.h"

#include <stdlib.h>
#include <string.h>

#define PORT_PLAIN_HTTP 80
#define NAMES_MAX 5 /* of one service */

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

/* Ports that some served address has with HTTP: each needs its table. */
struct http_ports {
	struct istio_map tables; /* "8080" -> struct table */
};

struct table {
	uint32_t port;
	struct {
		const struct service **list; /* with an HTTP port of this number */
		uint32_t n, n_room;
	} services;
	struct istio_map short_names; /* name -> its only service, or NULL when several have it */
	struct istio_map domains;     /* in use */
	struct istio_map in_use;      /* ids of VirtualServices that some service of this table has */
	struct {
		Foil__Conf__VirtualHost **list;
		uint32_t n, n_room;
	} vhosts;
};

static bool is_served(const struct compile *c, const char *address)
{
	for (size_t i = 0; i < c->node->n_service_cidrs; i++)
		if (istio_compile_cidr_has(c->node->service_cidrs[i], address))
			return true;
	return c->node->is_any || istio_compile_is_captured(c, address);
}

static struct route_scope scope_of(const struct service *s, uint32_t port)
{
	return (struct route_scope){.gateway = MESH_GATEWAY, .port = port, .client_namespace = s->namespace};
}

/* ---- VirtualServices of the mesh ---- */

const struct vs *istio_outbound_vs(const struct compile *c, const char *host)
{
	const struct vs *v = istio_map_get(&c->mesh_vs, host);

	for (const char *dot = strchr(host, '.'); dot && !v; dot = strchr(dot + 1, '.'))
		v = istio_map_get(&c->mesh_vs, istio_arena_printf(c->arena, "*%s", dot));
	return v ? v : istio_map_get(&c->mesh_vs, "*");
}

bool istio_outbound_sees(const struct compile *c, const struct vs *v, const char *namespace)
{
	return !v->is_hidden && istio_compile_is_exported(&v->spec->export_to, &c->model->mesh->virtual_service_export_to, v->source->namespace, namespace);
}

/* ---- http ---- */

static void add_domain(struct compile *c, struct table *t, Foil__Conf__VirtualHost *v, const char *domain)
{
	bool is_new;

	(void)istio_map_put(c->arena, &t->domains, domain, &is_new);
	if (is_new)
		v->domains[v->n_domains++] = word(domain);
}

/* VS-3. The short name only when it has one meaning: which namespace a client is in is not known here. */
static uint32_t service_names(struct compile *c, const struct table *t, const struct service *s, const char *names[NAMES_MAX])
{
	uint32_t n = 0;

	names[n++] = s->host;
	names[n++] = istio_arena_printf(c->arena, "%s.", s->host);
	if (s->is_k8s) {
		names[n++] = istio_arena_printf(c->arena, "%s.%s.svc", s->name, s->namespace);
		names[n++] = istio_arena_printf(c->arena, "%s.%s", s->name, s->namespace);
		if (istio_map_get(&t->short_names, s->name) == s)
			names[n++] = s->name;
	}
	return n;
}

static void service_domains(struct compile *c, struct table *t, Foil__Conf__VirtualHost *v, const struct service *s)
{
	const char *names[NAMES_MAX];
	uint32_t n;

	for (const struct service *alias = s->aliases; alias; alias = alias->next_alias) {
		n = service_names(c, t, alias, names);
		for (uint32_t i = 0; i < n; i++)
			add_domain(c, t, v, names[i]);
	}
	n = service_names(c, t, s, names);
	for (uint32_t i = 0; i < n; i++)
		add_domain(c, t, v, names[i]);
	for (uint32_t i = 0; s->is_headless && i < n; i++) /* its pods' names */
		add_domain(c, t, v, istio_arena_printf(c->arena, "*.%s", names[i]));
	for (uint32_t i = 0; i < s->n_vips; i++) /* as Host has it */
		add_domain(c, t, v, strchr(s->vips[i], ':') ? istio_arena_printf(c->arena, "[%s]", s->vips[i]) : s->vips[i]);
}

static void push_vhost(struct compile *c, struct table *t, Foil__Conf__VirtualHost *v)
{
	if (v->n_domains)
		ARENA_PUSH(c->arena, &t->vhosts, v);
}

static uint32_t n_aliases(const struct service *s)
{
	uint32_t n = 0;

	for (const struct service *alias = s->aliases; alias; alias = alias->next_alias)
		n++;
	return n;
}

static void service_vhost(struct compile *c, struct table *t, struct service *s)
{
	const struct vs *v = istio_outbound_vs(c, s->host);
	struct route_scope scope = scope_of(s, t->port);
	struct route_list routes = {0};
	Foil__Conf__VirtualHost *out = istio_compile_vhost(c, s->host, t->port, (2 + n_aliases(s)) * NAMES_MAX + s->n_vips);

	if (v && istio_outbound_sees(c, v, s->namespace)) {
		bool is_new;
		istio_routes_of_http(c, v, &scope, &routes);
		*istio_map_put(c->arena, &t->in_use, v->source->id, &is_new) = (void *)(uintptr_t)v; /* compared only */
	}
	if (routes.n == 0) { /* VS-61 */
		struct cluster_ref *ref = istio_clusters_ref(c, s, s->host, NULL, t->port, s->namespace, true);
		ARENA_PUSH(c->arena, &routes, istio_routes_default(c, ref, s, t->port));
	}
	service_domains(c, t, out, s);
	out->routes = routes.list;
	out->n_routes = routes.n;
	push_vhost(c, t, out);
}

static bool has_any_service(const struct compile *c, const struct vs *v)
{
	for (uint32_t i = 0; i < v->spec->hosts.n; i++)
		if (istio_registry_find(c, v->hosts[i]))
			return true;
	return false;
}

/* Hosts of VirtualServices that no service has: on the ports of the services that the same VirtualService has, and without any on port 80 (istiod). */
static void bare_vhosts(struct compile *c, struct table *t)
{
	for (uint32_t i = 0; i < c->mesh_vs.n; i++) {
		const char *host = c->mesh_vs.entries[i].key;
		const struct vs *v = c->mesh_vs.entries[i].value;
		if (strcmp(host, "*") == 0 || istio_registry_find(c, host) || v->n_http == 0 || v->is_hidden)
			continue;
		if (!istio_map_get(&t->in_use, v->source->id) && (t->port != PORT_PLAIN_HTTP || has_any_service(c, v)))
			continue;
		struct route_scope scope = {.gateway = MESH_GATEWAY, .port = t->port, .client_namespace = v->source->namespace};
		struct route_list routes = {0};
		istio_routes_of_http(c, v, &scope, &routes);
		Foil__Conf__VirtualHost *out = istio_compile_vhost(c, host, t->port, 1);
		add_domain(c, t, out, host);
		out->routes = routes.list;
		out->n_routes = routes.n;
		if (routes.n)
			push_vhost(c, t, out);
	}
}

/* SE-11, SC-5: the Sidecar's word goes before MeshConfig's. */
static enum outbound_mode outbound_mode(const struct compile *c)
{
	const struct resource *r = istio_sidecar_of_node(c);
	const struct sidecar *s = r ? r->spec : NULL;
	const struct outbound_policy *p = s && s->outbound ? s->outbound : c->model->mesh->outbound;

	return p && p->mode.is_set ? (enum outbound_mode)p->mode.value : OUTBOUND_ALLOW_ANY;
}

static bool is_registry_only(const struct compile *c)
{
	return outbound_mode(c) == OUTBOUND_REGISTRY_ONLY;
}

/* One of Istio's own: of no service. */
static struct cluster_ref *own_cluster(struct compile *c, const char *name)
{
	bool is_new;
	void **place = istio_map_put(c->arena, &c->clusters, name, &is_new);

	if (is_new) {
		struct cluster_ref *fresh = ARENA_NEW(c->arena, struct cluster_ref);
		fresh->name = name;
		*place = fresh;
	}
	return *place;
}

/* A host that nobody has. */
static void unknown_vhost(struct compile *c, struct table *t)
{
	bool only_known = is_registry_only(c), by_name = outbound_mode(c) == OUTBOUND_ALLOW_ANY_DYNAMIC_DNS;
	const char *name = only_known ? "block_all" : by_name ? "allow_any_dynamic_dns" : "allow_any";
	Foil__Conf__VirtualHost *v = istio_compile_vhost(c, name, t->port, 1);
	Foil__Conf__Route *r = istio_routes_default(c, own_cluster(c, by_name ? CLUSTER_DYNAMIC_DNS : CLUSTER_PASSTHROUGH), NULL, t->port);

	v->name = r->name = word(name);
	if (only_known) {
		r->action_case = FOIL__CONF__ROUTE__ACTION_DIRECT_RESPONSE;
		r->direct_response = ARENA_NEW(c->arena, Foil__Conf__DirectResponse);
		foil__conf__direct_response__init(r->direct_response);
		r->direct_response->has_status = true;
		r->direct_response->status = 502;
	}
	v->routes = ARENA_ARRAY(c->arena, Foil__Conf__Route *, 1);
	v->routes[v->n_routes++] = r;
	v->domains[v->n_domains++] = word("*");
	push_vhost(c, t, v);
}

static struct table *table_of(struct compile *c, struct http_ports *all, uint32_t port)
{
	bool is_new;
	void **place = istio_map_put(c->arena, &all->tables, istio_arena_printf(c->arena, "%u", port), &is_new);

	if (is_new) {
		struct table *t = ARENA_NEW(c->arena, struct table);
		t->port = port;
		*place = t;
	}
	return *place;
}

static void note_short_name(struct compile *c, struct table *t, const struct service *s)
{
	bool is_new;
	void **place = istio_map_put(c->arena, &t->short_names, s->name, &is_new);

	*place = is_new ? (void *)(uintptr_t)s : NULL; /* compared only */
}

static void fill_table(struct compile *c, struct table *t)
{
	for (uint32_t i = 0; i < t->services.n; i++) {
		const struct service *s = t->services.list[i];
		note_short_name(c, t, s);
		for (const struct service *alias = s->aliases; alias; alias = alias->next_alias)
			note_short_name(c, t, alias);
	}
	for (uint32_t i = 0; i < t->services.n; i++)
		service_vhost(c, t, (struct service *)(uintptr_t)t->services.list[i]); /* the registry's own */
	bare_vhosts(c, t);
	unknown_vhost(c, t);
	istio_compile_route_config(c, istio_arena_printf(c->arena, "%u", t->port), t->vhosts.list, t->vhosts.n);
}

/* ---- listeners ---- */

/* Silent clients of a port where plaintext is taken beside mTLS: Istio waits for ever unless told otherwise, which starves protocols in which the server
 * speaks first. */
#define DETECTION_US_DEFAULT 1000000u

static uint64_t detection_us(const struct compile *c)
{
	const struct istio_int *t = &c->model->mesh->detection_timeout;

	return t->is_set && t->value > 0 ? (uint64_t)t->value : DETECTION_US_DEFAULT;
}

/* A chain of the same kind for the mesh's mTLS, or NULL where there is none: features.md PA-3, PA-9, as istiod writes sidecars' inbound chains. */
static Foil__Conf__FilterChain *mutual_chain(struct compile *c, const struct service *s, const struct service_port *p,
					     const Foil__Conf__FilterChain *plain, enum mtls_mode mode)
{
	bool is_http = plain->network_case == FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP;
	Foil__Conf__FilterChain *m = istio_compile_chain(c, istio_arena_printf(c->arena, "%s_mtls", s->host), s->source, p->at);

	m->network_case = plain->network_case;
	if (is_http) {
		m->http = istio_compile_hcm(c, plain->http->routes, false);
		m->http->scheme = word("https");
		m->http->has_grpc_web = true;
		m->http->grpc_web = plain->http->grpc_web;
	} else {
		m->tcp = plain->tcp;
	}
	m->has_transport = true;
	m->transport = FOIL__CONF__TRANSPORT__TRANSPORT_TLS;
	m->tls = istio_identity_downstream(c, istio_identity_of_service(c, s), is_http);
	m->application_protocols = ARENA_ARRAY(c->arena, char *, 8);
	for (size_t i = 0; mode == MTLS_PERMISSIVE && istio_mesh_protocols[i]; i++)
		m->application_protocols[m->n_application_protocols++] = word(istio_mesh_protocols[i]);
	return m;
}

/* TLS that is none of the mesh's business, to the application as it came. */
static Foil__Conf__FilterChain *foreign_tls_chain(struct compile *c, const struct service *s, const struct service_port *p,
						  const Foil__Conf__FilterChain *plain)
{
	Foil__Conf__FilterChain *m = istio_compile_chain(c, istio_arena_printf(c->arena, "%s_tls", s->host), s->source, p->at);

	m->network_case = plain->network_case;
	m->tcp = plain->tcp;
	m->has_transport = m->has_is_tls_passthrough = m->is_tls_passthrough = true;
	m->transport = FOIL__CONF__TRANSPORT__TRANSPORT_TLS;
	return m;
}

static void open_listener(struct compile *c, const struct service *s, const struct service_port *p, const char *vip, Foil__Conf__FilterChain *plain)
{
	Foil__Conf__FilterChain **chains = ARENA_ARRAY(c->arena, Foil__Conf__FilterChain *, 3);
	enum mtls_mode mode = s->is_external ? MTLS_DISABLE : istio_peer_auth_of_service(c, s, p);
	size_t n = 0;

	if (mode == MTLS_DISABLE) {
		istio_compile_listener(c, s->source, p->at, vip, p->number, FOIL__CONF__DIRECTION__DIRECTION_OUTBOUND, &plain, 1);
		return;
	}
	chains[n++] = mutual_chain(c, s, p, plain, mode);
	if (mode == MTLS_PERMISSIVE) {
		plain->has_transport = true;
		plain->transport = FOIL__CONF__TRANSPORT__TRANSPORT_PLAINTEXT;
		chains[n++] = plain;
		if (plain->network_case == FOIL__CONF__FILTER_CHAIN__NETWORK_TCP)
			chains[n++] = foreign_tls_chain(c, s, p, plain);
	}
	istio_compile_listener_with_hello(c, s->source, p->at, vip, p->number, chains, n, mode == MTLS_PERMISSIVE ? detection_us(c) : 0);
}

static void http_listener(struct compile *c, const struct service *s, const struct service_port *p, const char *vip)
{
	Foil__Conf__FilterChain *chain = istio_compile_chain(c, s->host, s->source, p->at);

	chain->network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP;
	chain->http = istio_compile_hcm(c, istio_arena_printf(c->arena, "%u", p->number), false);
	chain->http->has_grpc_web = true;
	chain->http->grpc_web = p->protocol == PROTO_GRPC_WEB;
	open_listener(c, s, p, vip, chain);
}

/* vip: NULL where it is any. */
static Foil__Conf__FilterChain *tcp_chain(struct compile *c, struct service *s, const struct service_port *p, const char *vip)
{
	const struct vs *v = istio_outbound_vs(c, s->host);
	struct route_scope scope = scope_of(s, p->number);
	bool is_asked = v && istio_outbound_sees(c, v, s->namespace) && !istio_registry_is_tls(p->protocol);
	Foil__Conf__TcpProxy *t = is_asked ? istio_routes_of_tcp(c, v, &scope, vip) : NULL;
	Foil__Conf__FilterChain *chain = istio_compile_chain(c, s->host, s->source, p->at);

	if (p->protocol == PROTO_AUTO)
		istio_compile_report(c, ISTIO_WARNING, "IST0118", s->source, p->at, "", "the protocol of port %u (\"%s\") is not known and is not detected: "
				     "it is served as TCP; "
			       "name the port http-... or tcp-..., or set appProtocol", p->number, p->name ? p->name : "");
	if (!t)
		t = istio_routes_tcp_to(c, istio_clusters_ref(c, s, s->host, NULL, p->number, s->namespace, false), s);
	chain->network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_TCP;
	chain->tcp = t;
	return chain;
}

/* ---- TLS by server name (VS-57) ---- */

struct chain_list {
	Foil__Conf__FilterChain **list;
	uint32_t n, n_room;
};

/* names that no earlier chain of this port has. */
static void add_names(struct compile *c, const struct istio_strings *from, struct istio_map *taken, struct host_list *names)
{
	for (uint32_t i = 0; i < from->n; i++) {
		const char *name = istio_arena_lower(c->arena, from->list[i]);
		bool is_new;
		(void)istio_map_put(c->arena, taken, name, &is_new);
		if (is_new)
			ARENA_PUSH(c->arena, names, name);
	}
}

static void push_named(struct compile *c, Foil__Conf__FilterChain *chain, const struct host_list *names, struct chain_list *out)
{
	chain->server_names = (char **)names->list; /* packed only */
	chain->n_server_names = names->n == 1 && strcmp(names->list[0], "*") == 0 ? 0 : names->n;
	chain->has_is_tls_passthrough = chain->is_tls_passthrough = true;
	ARENA_PUSH(c->arena, out, chain);
}

/* The tls rules of the service's VirtualService. False: none is about this port. */
static bool tls_rules(struct compile *c, const struct service *s, const struct service_port *p, const char *vip, struct istio_map *taken,
		      struct chain_list *out)
{
	const struct vs *v = istio_outbound_vs(c, s->host);
	struct route_scope scope = scope_of(s, p->number);
	bool has_any = false;

	if (!v || !istio_registry_is_tls(p->protocol) || !istio_outbound_sees(c, v, s->namespace))
		return false;
	for (uint32_t i = 0; i < v->spec->tls.n; i++) {
		const struct l4_route *r = ISTIO_ITEM(v->spec->tls, struct l4_route, i);
		struct host_list names = {0};
		for (uint32_t j = 0; j < r->match.n; j++) {
			const struct l4_match *m = ISTIO_ITEM(r->match, struct l4_match, j);
			if (istio_routes_l4_compare(c, v, m, &scope, vip) != L4_FITS)
				continue;
			has_any = true;
			add_names(c, &m->sni_hosts, taken, &names);
		}
		if (names.n == 0)
			continue;
		Foil__Conf__FilterChain *chain = istio_compile_chain(c, names.list[0], v->source, r->head.node->at);
		chain->network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_TCP;
		chain->tcp = istio_routes_of_tls(c, v, r, &scope, i);
		push_named(c, chain, &names, out);
	}
	return has_any;
}

/* SE-11: what nobody described goes on to where it went, or nowhere. */
static Foil__Conf__FilterChain *unknown_chain(struct compile *c)
{
	bool only_known = is_registry_only(c);
	struct cluster_ref *ref = own_cluster(c, only_known ? CLUSTER_BLACK_HOLE : CLUSTER_PASSTHROUGH);
	Foil__Conf__FilterChain *chain = istio_compile_chain(c, ref->name, NULL, (struct istio_pos){0});

	chain->network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_TCP;
	chain->tcp = istio_routes_tcp_to(c, ref, NULL);
	return chain;
}

/* A service's own address: a VirtualService's names, and then no others, where the service is of the outside and mTLS no business of ours. */
static void tcp_listener(struct compile *c, struct service *s, const struct service_port *p, const char *vip)
{
	struct chain_list named = {0};
	struct istio_map names = {0};

	if (!s->is_external || !tls_rules(c, s, p, vip, &names, &named)) {
		open_listener(c, s, p, vip, tcp_chain(c, s, p, vip));
		return;
	}
	if (istio_compile_is_captured(c, vip))
		ARENA_PUSH(c->arena, &named, unknown_chain(c));
	istio_compile_listener_with_hello(c, s->source, p->at, vip, p->number, named.list, named.n, detection_us(c));
}

/* ---- captured addresses: what a sidecar's listeners at 0.0.0.0 do (SE-2, SE-5) ---- */

struct wild { /* one port of all captured addresses */
	uint32_t port;
	const struct resource *source;
	struct istio_pos at;
	const struct service *rest; /* has what no chain with ranges takes; NULL: nobody yet */
	struct istio_map names; /* that chains have */
	struct chain_list chains;
	bool has_rest; /* a chain takes whatever the others leave */
	bool wants_hello;
};

static struct wild *wild_of(struct compile *c, struct istio_map *wilds, uint32_t port, const struct resource *source, struct istio_pos at)
{
	bool is_new;
	void **place = istio_map_put(c->arena, wilds, istio_arena_printf(c->arena, "%u", port), &is_new);

	if (is_new) {
		struct wild *fresh = ARENA_NEW(c->arena, struct wild);
		fresh->port = port;
		fresh->source = source;
		fresh->at = at;
		*place = fresh;
	}
	return *place;
}

static unsigned long range_bits(const char *cidr)
{
	const char *slash = strchr(cidr, '/');

	return slash ? strtoul(slash + 1, NULL, 10) : 128;
}

/* The smaller of two ranges, when it lies in the other; NULL: they have nothing in common. */
static const char *in_both(struct compile *c, const char *a, const char *b)
{
	const char *a_net = istio_arena_copy(c->arena, a, strcspn(a, "/")), *b_net = istio_arena_copy(c->arena, b, strcspn(b, "/"));

	if (range_bits(a) >= range_bits(b))
		return istio_compile_cidr_has(b, a_net) ? a : NULL;
	return istio_compile_cidr_has(a, b_net) ? b : NULL;
}

static void http_wild(struct compile *c, struct istio_map *wilds, const struct table *t)
{
	if (t->services.n == 0) /* all have hosts of older ones */
		return;
	const struct service *s = t->services.list[0];
	struct wild *w = wild_of(c, wilds, t->port, s->source, s->source->node->at);
	Foil__Conf__FilterChain *chain = istio_compile_chain(c, istio_arena_printf(c->arena, "captured_%u", t->port), s->source, s->source->node->at);

	chain->network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP;
	chain->http = istio_compile_hcm(c, istio_arena_printf(c->arena, "%u", t->port), false);
	w->rest = s;
	w->has_rest = true;
	ARENA_PUSH(c->arena, &w->chains, chain);
}

/* Without addresses: the port alone tells the service. */
static void tcp_wild_rest(struct compile *c, struct istio_map *wilds, struct service *s, const struct service_port *p)
{
	struct wild *w = wild_of(c, wilds, p->number, s->source, p->at);

	if (w->rest) {
		istio_compile_report(c, ISTIO_WARNING, "IST0145", s->source, p->at, "", "port %u of every captured address is already that of %s: give this "
				     "one addresses", p->number, w->rest->source->id);
		return;
	}
	w->rest = s;
	w->has_rest = true;
	ARENA_PUSH(c->arena, &w->chains, tcp_chain(c, s, p, NULL));
}

/* TLS: the name tells the service, so that many share a port. */
static void tls_wild(struct compile *c, struct service *s, const struct service_port *p, const char *vip, struct istio_map *taken, struct chain_list *out)
{
	const struct istio_strings own = {.list = &s->host, .n = 1};
	struct host_list names = {0};

	if (tls_rules(c, s, p, vip, taken, out))
		return;
	add_names(c, &own, taken, &names);
	if (names.n)
		push_named(c, tcp_chain(c, s, p, vip), &names, out);
}

static void tcp_wild(struct compile *c, struct istio_map *wilds, struct service *s, const struct service_port *p)
{
	const struct service_entry *e = s->source->spec;
	const char **ranges = ARENA_ARRAY(c->arena, const char *, (size_t)e->addresses.n * c->node->n_captured_cidrs + 1);
	uint32_t n = 0;

	if (e->addresses.n == 0 && istio_registry_is_tls(p->protocol)) {
		struct wild *named = wild_of(c, wilds, p->number, s->source, p->at);
		named->wants_hello = true;
		tls_wild(c, s, p, NULL, &named->names, &named->chains);
	} else if (e->addresses.n == 0) {
		tcp_wild_rest(c, wilds, s, p);
	}
	for (uint32_t i = 0; i < e->addresses.n; i++) {
		const char *address = e->addresses.list[i], *slash = strchr(address, '/');
		for (size_t k = 0; slash && k < c->node->n_captured_cidrs; k++) {
			const char *both = in_both(c, address, c->node->captured_cidrs[k]);
			if (both)
				ranges[n++] = both;
		}
	}
	if (n == 0)
		return; /* single addresses have listeners of their own */
	const char *vip = istio_arena_copy(c->arena, ranges[0], strcspn(ranges[0], "/"));
	struct wild *w = wild_of(c, wilds, p->number, s->source, p->at);
	struct chain_list fresh = {0};
	struct istio_map names = {0};
	if (istio_registry_is_tls(p->protocol)) {
		w->wants_hello = true;
		tls_wild(c, s, p, vip, &names, &fresh);
	} else {
		ARENA_PUSH(c->arena, &fresh, tcp_chain(c, s, p, vip));
	}
	for (uint32_t i = 0; i < fresh.n; i++) {
		fresh.list[i]->destination_cidrs = (char **)ranges; /* packed only */
		fresh.list[i]->n_destination_cidrs = n;
		ARENA_PUSH(c->arena, &w->chains, fresh.list[i]);
	}
}

/* A sidecar of Istio's looks whether unknown bytes are HTTP; nothing here does. */
static void warn_by_name(struct compile *c)
{
	const struct istio_model *m = c->model;

	if (outbound_mode(c) != OUTBOUND_ALLOW_ANY_DYNAMIC_DNS)
		return;
	istio_diags_add(c->diags, ISTIO_WARNING, "HF0006", m->mesh_file_name, istio_doc_at(m->mesh->outbound->head.node, "mode"), "MeshConfig",
			"outboundTrafficPolicy.mode", "ALLOW_ANY_DYNAMIC_DNS holds at ports that have an HTTP service: at all others HTTP is not told from "
			"TCP, and goes on to where the client went");
}

static void captured_compile(struct compile *c, const struct http_ports *http)
{
	struct istio_map wilds = {0};

	warn_by_name(c);
	for (uint32_t i = 0; i < http->tables.n; i++)
		http_wild(c, &wilds, http->tables.entries[i].value);
	for (uint32_t i = 0; i < c->services.n; i++) {
		struct service *s = c->services.list[i];
		for (uint32_t j = 0; !s->is_k8s && !s->is_hidden && j < s->n_ports; j++)
			if (!istio_registry_is_http(s->ports[j].protocol) && s->ports[j].protocol != PROTO_UDP)
				tcp_wild(c, &wilds, s, &s->ports[j]);
	}
	for (uint32_t i = 0; i < wilds.n; i++) {
		struct wild *w = wilds.entries[i].value;
		if (!w->has_rest)
			ARENA_PUSH(c->arena, &w->chains, unknown_chain(c));
		istio_compile_listener_with_hello(c, w->source, w->at, CAPTURED_ADDRESS, w->port, w->chains.list, w->chains.n,
						  w->wants_hello ? detection_us(c) : 0);
	}
	Foil__Conf__FilterChain **rest = ARENA_ARRAY(c->arena, Foil__Conf__FilterChain *, 1);
	rest[0] = unknown_chain(c);
	istio_compile_listener(c, NULL, (struct istio_pos){0}, CAPTURED_ADDRESS, 0, FOIL__CONF__DIRECTION__DIRECTION_OUTBOUND, rest, 1);
}

static bool has_served_address(const struct compile *c, const struct service *s)
{
	for (uint32_t i = 0; i < s->n_vips; i++)
		if (is_served(c, s->vips[i]))
			return true;
	return false;
}

static void serve(struct compile *c, struct service *s)
{
	for (uint32_t i = 0; i < s->n_ports; i++) {
		const struct service_port *p = &s->ports[i];
		for (uint32_t j = 0; j < s->n_vips; j++) {
			if (!is_served(c, s->vips[j]) || p->protocol == PROTO_UDP)
				continue;
			if (istio_registry_is_http(p->protocol))
				http_listener(c, s, p, s->vips[j]);
			else
				tcp_listener(c, s, p, s->vips[j]);
		}
	}
}

static const struct service *shown_of_host(const struct compile *c, const char *host)
{
	const struct service *s = istio_map_get(&c->services_by_host, host);

	while (s && s->is_hidden)
		s = s->next_same_host;
	return s;
}

void istio_outbound_compile(struct compile *c)
{
	struct http_ports all = {0};

	for (uint32_t i = 0; i < c->services.n; i++) {
		const struct service *s = c->services.list[i];
		for (uint32_t j = 0; !s->is_hidden && (c->node->n_captured_cidrs || has_served_address(c, s)) && j < s->n_ports; j++)
			if (istio_registry_is_http(s->ports[j].protocol))
				(void)table_of(c, &all, s->ports[j].number);
	}
	if (all.tables.n == 0 && c->node->n_service_cidrs == 0 && c->node->n_captured_cidrs == 0 && !c->node->is_any)
		return;
	for (uint32_t i = 0; i < c->services.n; i++) {
		const struct service *s = c->services.list[i];
		if (shown_of_host(c, s->host) != s)
			continue; /* another, older one has this host */
		for (uint32_t j = 0; j < s->n_ports; j++) {
			struct table *t = istio_map_get(&all.tables, istio_arena_printf(c->arena, "%u", s->ports[j].number));
			if (t && istio_registry_is_http(s->ports[j].protocol))
				ARENA_PUSH(c->arena, &t->services, s);
		}
	}
	for (uint32_t i = 0; i < all.tables.n; i++)
		fill_table(c, all.tables.entries[i].value);
	for (uint32_t i = 0; i < c->services.n; i++)
		if (!c->services.list[i]->is_hidden)
			serve(c, c->services.list[i]);
	if (c->node->n_captured_cidrs)
		captured_compile(c, &all);
}
