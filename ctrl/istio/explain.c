/* What would become of a request, in words: the way through a snapshot, with the place in the files for every step (features.md CFG-6). */
#include "ctrl/istio/explain_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- actions ---- */

static void say_retry(struct explain *x, const Foil__Conf__RetryPolicy *p)
{
	char each[32];

	if (!p) {
		fprintf(x->out, "    no retries\n");
		return;
	}
	fprintf(x->out, "    up to %u retries on", p->num_retries);
	for (size_t i = 0; i < p->n_retry_on; i++)
		fprintf(x->out, "%s %s", i ? "," : "", p->retry_on[i]);
	for (size_t i = 0; i < p->n_retriable_status_codes; i++)
		fprintf(x->out, "%s %u", i ? "," : " of status", p->retriable_status_codes[i]);
	if (p->per_try_timeout_us)
		fprintf(x->out, ", each try %s", istio_explain_seconds(p->per_try_timeout_us, each, sizeof(each)));
	fprintf(x->out, "\n");
}

static void say_hash(struct explain *x, const Foil__Conf__HashPolicy *p)
{
	if (p->header)
		fprintf(x->out, "    header %s chooses the endpoint\n", p->header);
	else if (p->query_parameter)
		fprintf(x->out, "    query parameter %s chooses the endpoint\n", p->query_parameter);
	else if (p->cookie)
		fprintf(x->out, "    cookie %s chooses the endpoint%s\n", p->cookie, p->has_cookie_ttl ? "; who has none gets one" : "");
	else
		fprintf(x->out, "    the client's address chooses the endpoint\n");
}

static void say_forward(struct explain *x, const Foil__Conf__Route *route)
{
	const Foil__Conf__RouteAction *a = route->route;
	char text[32];

	if (route->fault && (route->fault->delay_us || route->fault->abort_http_status || route->fault->has_abort_grpc))
		fprintf(x->out, "    a fault may be injected: delay %s for %g %%, abort with %u for %g %%\n",
			istio_explain_seconds(route->fault->delay_us, text, sizeof(text)), route->fault->delay_per_million / 1e4,
			route->fault->abort_http_status, route->fault->abort_per_million / 1e4);
	if (a->has_prefix_rewrite)
		fprintf(x->out, "    path rewritten: %s for what matched\n", a->prefix_rewrite);
	if (a->regex_rewrite)
		fprintf(x->out, "    path rewritten: %s becomes %s\n", a->regex_rewrite->regex, a->regex_rewrite->substitution);
	if (a->host_rewrite)
		fprintf(x->out, "    host rewritten: %s\n", a->host_rewrite);
	fprintf(x->out, "    timeout %s\n", a->timeout_us ? istio_explain_seconds(a->timeout_us, text, sizeof(text)) : "none");
	say_retry(x, a->retry);
	for (size_t i = 0; i < a->n_mirrors; i++)
		fprintf(x->out, "    mirrored to %s, %g %%\n", a->mirrors[i]->cluster, a->mirrors[i]->has_per_million ? a->mirrors[i]->per_million / 1e4 :
			100.0);
	for (size_t i = 0; i < a->n_hash_policies; i++)
		say_hash(x, a->hash_policies[i]);
	istio_explain_weighted(x, a->clusters, a->n_clusters);
}

static void say_redirect(struct explain *x, const Foil__Conf__Redirect *r)
{
	fprintf(x->out, "    answered with %u, redirected", r->code ? r->code : 301);
	if (r->scheme)
		fprintf(x->out, ", scheme %s", r->scheme);
	if (r->host)
		fprintf(x->out, ", host %s", r->host);
	if (r->port)
		fprintf(x->out, ", port %u", r->port);
	if (r->path)
		fprintf(x->out, ", path %s", r->path);
	if (r->has_prefix_rewrite)
		fprintf(x->out, ", what matched of the path becomes %s", r->prefix_rewrite);
	fprintf(x->out, "\n");
}

static void say_action(struct explain *x, const Foil__Conf__Route *route)
{
	switch (route->action_case) {
	case FOIL__CONF__ROUTE__ACTION_ROUTE:
		say_forward(x, route);
		break;
	case FOIL__CONF__ROUTE__ACTION_REDIRECT:
		say_redirect(x, route->redirect);
		break;
	case FOIL__CONF__ROUTE__ACTION_DIRECT_RESPONSE:
		fprintf(x->out, "    answered with %u and %zu bytes\n", route->direct_response->status, route->direct_response->body.len);
		break;
	default:
		break;
	}
}

/* ---- routes ---- */

static void say_route(struct explain *x, const Foil__Conf__Route *route, const char *verdict)
{
	istio_explain_step(x, "route", verdict);
	fprintf(x->out, "  %s: route %s", verdict, route->name && route->name[0] ? route->name : "(without a name)");
	istio_explain_source(x, route->source);
}

static int explain_vhost(struct explain *x, const Foil__Conf__VirtualHost *v, const char *domain)
{
	char why[1024] = "";

	istio_explain_step(x, "virtual_host", "taken");
	fprintf(x->out, "virtual host %s, by its domain %s\n", v->name, domain);
	if (v->require_tls) {
		fprintf(x->out, "  answered with 301 to https: the Gateway's server says httpsRedirect\n");
		return 0;
	}
	for (size_t i = 0; i < v->n_routes; i++) {
		if (istio_explain_route_matches(v->routes[i]->match, x->r, why, sizeof(why))) {
			say_route(x, v->routes[i], "taken");
			fprintf(x->out, "\n");
			say_action(x, v->routes[i]);
			return 0;
		}
		if (i < CANDIDATES_SHOWN_MAX) {
			say_route(x, v->routes[i], "passed over");
			fprintf(x->out, ": %s\n", why);
		} else if (i == CANDIDATES_SHOWN_MAX) {
			fprintf(x->out, "  passed over: more, up to %zu\n", v->n_routes - i);
		}
	}
	istio_explain_step(x, "end", "");
	fprintf(x->out, "  no route matches: 404, NR\n");
	return 1;
}

static void say_times(struct explain *x, const Foil__Conf__HttpConnectionManager *m)
{
	const struct {
		const char *what;
		uint64_t us;
	} times[] = {{"a connection without a request is closed after", m->idle_timeout_us},
		     {"a request must have its head after", m->request_headers_timeout_us},
		     {"a request must be complete after", m->request_timeout_us}, {"a request where nothing moves ends after", m->stream_idle_timeout_us},
		     {"a request and its answer end after", m->max_stream_duration_us}, {"a connection ends after", m->max_connection_duration_us},
		     {"a connection that ends takes requests for another", m->drain_timeout_us}};
	char text[32];

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (times[i].us)
			fprintf(x->out, "  %s %s\n", times[i].what, istio_explain_seconds(times[i].us, text, sizeof(text)));
}

static int explain_http(struct explain *x, const Foil__Conf__HttpConnectionManager *m)
{
	const struct istio_resource *r = istio_explain_find(x->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES, m->routes ? m->routes : "");
	Foil__Conf__RouteConfig *routes = r ? foil__conf__route_config__unpack(NULL, r->n_bytes, r->bytes) : NULL;
	const char *domain = NULL;
	int rc = 1;

	say_times(x, m);
	if (!routes) {
		fprintf(x->out, "  there is no route table %s\n", m->routes ? m->routes : "");
		return 1;
	}
	const Foil__Conf__VirtualHost *v = istio_explain_vhost(routes, x->r->authority, &domain);
	fprintf(x->out, "  route table %s, %zu virtual hosts\n", m->routes, routes->n_virtual_hosts);
	if (v) {
		rc = explain_vhost(x, v, domain);
	} else {
		istio_explain_step(x, "end", "");
		fprintf(x->out, "no virtual host has the host %s: 404, NR\n", x->r->authority ? x->r->authority : "(none)");
	}
	if (!v || strcmp(domain, "*") == 0)
		istio_explain_hidden(x, x->r->authority, NULL);
	foil__conf__route_config__free_unpacked(routes, NULL);
	return rc;
}

/* ---- what the node's Sidecar hides ---- */

/* host: lower case, without a port. Kubernetes has shorter names for its own. */
static bool is_meant(const struct service *s, const char *host, const char *address)
{
	size_t n = host ? strlen(host) : 0;

	for (uint32_t i = 0; address && i < s->n_vips; i++)
		if (strcmp(s->vips[i], address) == 0)
			return true;
	return n && (istio_compile_host_has_subset(s->host, host) || (s->is_k8s && strncmp(s->host, host, n) == 0 && s->host[n] == '.'));
}

static void say_hidden(struct explain *x, const struct service *s)
{
	const char *excluded;
	struct istio_pos at = istio_sidecar_hides_at(x->c, s->namespace, s->host, &excluded);

	istio_explain_step(x, "hidden", "");
	fprintf(x->out, "hidden: %s of %s at %s:%u:%u is not reached in the mesh: ", s->host, s->source->id, s->source->file_name,
		s->source->node->at.line, s->source->node->at.column);
	if (excluded)
		fprintf(x->out, "%s among the egress hosts of the node's Sidecar takes it away", excluded);
	else
		fprintf(x->out, "the egress hosts of the node's Sidecar have not got it");
	istio_explain_place(x, istio_sidecar_of_node(x->c), at);
	fprintf(x->out, "\n");
}

void istio_explain_hidden(struct explain *x, const char *host, const char *address)
{
	struct compile *c = x->c;
	char *name = c && host ? istio_arena_lower(c->arena, host) : NULL;
	char *colon = name ? strrchr(name, ':') : NULL;

	if (colon && !strchr(colon, ']'))
		*colon = 0;
	for (uint32_t i = 0; c && i < c->services.n; i++)
		if (c->services.list[i]->is_hidden && is_meant(c->services.list[i], name, address))
			say_hidden(x, c->services.list[i]);
}

/* ---- listeners ---- */

/* One port for plaintext and mutual TLS, or for mutual TLS alone. */
static void say_mutual(struct explain *x, const Foil__Conf__Listener *l)
{
	const Foil__Conf__FilterChain *f = l->n_filter_chains ? l->filter_chains[0] : NULL;

	if (!f || !f->tls || !f->has_transport || l->direction != FOIL__CONF__DIRECTION__DIRECTION_OUTBOUND)
		return;
	fprintf(x->out, "  mutual TLS with %s%s\n", f->tls->n_secrets ? f->tls->secrets[0] : "?",
		l->n_filter_chains > 1 ? ", or plaintext (PeerAuthentication: PERMISSIVE)" : "; plaintext is reset (PeerAuthentication: STRICT)");
}

/* What holds for all of a listener's connections (MeshConfig's connectionSettings). */
static void say_connections(struct explain *x, const Foil__Conf__Listener *l)
{
	const struct istio_resource *r = istio_explain_find(x->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH, "mesh");
	Foil__Conf__MeshSettings *m = r ? foil__conf__mesh_settings__unpack(NULL, r->n_bytes, r->bytes) : NULL;

	if (l->connection_limit)
		fprintf(x->out, "  at most %u connections at a time; one more is closed at once\n", l->connection_limit);
	if (m && m->connection_limit)
		fprintf(x->out, "  at most %u connections at a time over all listeners of the node\n", m->connection_limit);
	if (l->buffer_bytes)
		fprintf(x->out, "  at most %u bytes wait for a client; no retry of a request with a larger body\n", l->buffer_bytes);
	if (m)
		foil__conf__mesh_settings__free_unpacked(m, NULL);
}

void istio_explain_listener(struct explain *x, const Foil__Conf__Listener *l)
{
	istio_explain_step(x, "listener", "taken");
	fprintf(x->out, "listener %s", l->name);
	istio_explain_source(x, l->source);
	fprintf(x->out, "%s\n", l->captured ? ", for captured addresses" : "");
	say_mutual(x, l);
	say_connections(x, l);
}

static int explain_listener(struct explain *x, const Foil__Conf__Listener *l)
{
	istio_explain_listener(x, l);
	for (size_t i = 0; i < l->n_filter_chains; i++) {
		const Foil__Conf__FilterChain *f = l->filter_chains[i];
		if (f->network_case == FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP)
			return explain_http(x, f->http);
		istio_explain_step(x, "chain", "");
		fprintf(x->out, "  chain %s", f->name ? f->name : "");
		for (size_t j = 0; j < f->n_server_names; j++)
			fprintf(x->out, "%s %s", j ? "," : " for SNI", f->server_names[j]);
		istio_explain_source(x, f->source);
		fprintf(x->out, ": connections are passed on as they are\n");
		if (f->network_case == FOIL__CONF__FILTER_CHAIN__NETWORK_TCP)
			istio_explain_weighted(x, f->tcp->clusters, f->tcp->n_clusters);
	}
	istio_explain_hidden(x, x->r->authority, x->r->address);
	return l->n_filter_chains ? 0 : 1;
}

static bool is_candidate(const Foil__Conf__Listener *l, const struct istio_request *r)
{
	bool is_any = l->captured && strcmp(l->address, "::") == 0; /* behind those of single addresses, in the order of names */

	return (!r->port || !l->port || l->port == r->port) && (!r->address || is_any || strcmp(l->address, r->address) == 0);
}

static bool table_has_host(struct explain *x, const char *name)
{
	const char *domain;

	if (strcmp(x->looked_at, name) == 0) /* thousands of service addresses share one table */
		return x->has_host;
	const struct istio_resource *r = istio_explain_find(x->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES, name);
	Foil__Conf__RouteConfig *routes = r ? foil__conf__route_config__unpack(NULL, r->n_bytes, r->bytes) : NULL;
	const Foil__Conf__VirtualHost *v = routes ? istio_explain_vhost(routes, x->r->authority, &domain) : NULL;
	x->has_host = v && v->n_routes && strcmp(domain, "*") != 0;
	(void)snprintf(x->looked_at, sizeof(x->looked_at), "%s", name); /* names are shorter */
	if (routes)
		foil__conf__route_config__free_unpacked(routes, NULL);
	return x->has_host;
}

static bool has_host(struct explain *x, const Foil__Conf__Listener *l)
{
	for (size_t i = 0; i < l->n_filter_chains; i++) {
		const Foil__Conf__FilterChain *f = l->filter_chains[i];
		if (f->network_case == FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP && f->http->routes && table_has_host(x, f->http->routes))
			return true;
	}
	return false;
}

/* Of the listeners that fit, the first one that knows the host; else the first one. */
static Foil__Conf__Listener *choose(struct explain *x)
{
	Foil__Conf__Listener *first = NULL;

	for (size_t i = 0; i < x->s->n_resources; i++) {
		const struct istio_resource *r = &x->s->resources[i];
		if (r->type != FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER)
			continue;
		Foil__Conf__Listener *l = foil__conf__listener__unpack(NULL, r->n_bytes, r->bytes);
		if (!l)
			continue;
		bool fits = is_candidate(l, x->r), knows = fits && has_host(x, l);
		if (knows && first)
			foil__conf__listener__free_unpacked(first, NULL);
		if (knows)
			return l;
		if (fits && (!first || (!first->port && l->port))) { /* the one for every other port is the last resort */
			Foil__Conf__Listener *worse = first;
			first = l;
			l = worse;
		}
		if (l)
			foil__conf__listener__free_unpacked(l, NULL);
	}
	return first;
}

static int explain_request(struct explain *x)
{
	const struct istio_request *r = x->r;

	istio_explain_step(x, "request", "");
	fprintf(x->out, "request %s %s://%s%s\n", r->method ? r->method : "GET", r->scheme ? r->scheme : "http", r->authority ? r->authority : "",
		r->path ? r->path : "/");
	if (r->path && (strstr(r->path, "/.") || strpbrk(r->path, "\\%")))
		fprintf(x->out, "note: the data plane normalizes the path before it looks; here it is taken as it is\n");
	Foil__Conf__Listener *l = choose(x);
	if (!l) {
		istio_explain_step(x, "end", "");
		fprintf(x->out, "no listener at address %s and port %u: the connection is refused\n", r->address ? r->address : "(any)", r->port);
		istio_explain_hidden(x, r->authority, r->address);
		return 1;
	}
	int rc = explain_listener(x, l);
	foil__conf__listener__free_unpacked(l, NULL);
	return rc;
}

/* The compiler's memory is used for what it is asked again; when there is none left there is no answer. */
static int explain(struct explain *x, const struct istio_snapshot *s)
{
	struct owned_snapshot *o = (struct owned_snapshot *)(uintptr_t)s; /* scratch grows, the snapshot stays as it is */

	if (o && (setjmp(o->arena.full) || setjmp(o->scratch.full))) {
		x->is_short = true;
		return 1;
	}
	x->c = o ? &o->compile : NULL;
	return x->r->is_connection ? istio_explain_connection(x) : explain_request(x);
}

int istio_explain(const struct istio_snapshot *s, const struct istio_request *r, char **text, struct istio_steps *steps)
{
	static const struct istio_snapshot nothing;
	size_t n;
	struct explain x = {.s = s ? s : &nothing, .r = r};

	*text = NULL;
	x.out = open_memstream(text, &n);
	if (!x.out)
		return 1;
	int rc = explain(&x, s);
	if (fclose(x.out) != 0 || x.is_short) {
		free(*text);
		*text = NULL;
	}
	if (*text && steps) {
		istio_explain_finish(&x.steps, *text);
		*steps = x.steps;
	} else {
		istio_steps_fini(&x.steps);
	}
	return rc;
}
