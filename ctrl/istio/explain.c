/* What would become of a request, in words: the way through a snapshot, with the place in the files for every step (features.md CFG-6). */
#include "ctrl/istio/explain_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CANDIDATES_SHOWN_MAX 200

struct explain {
	const struct istio_snapshot *s;
	const struct istio_request *r;
	FILE *out;
	char looked_at[512]; /* the last route table that was asked for the host, and what it said */
	bool has_host;
};

static void say_source(struct explain *x, const Foil__Conf__SourceRef *s)
{
	if (s && s->resource)
		fprintf(x->out, " (%s at %s:%u:%u)", s->resource, s->file ? s->file : "?", s->line, s->column);
}

static const char *seconds(uint64_t us, char *out, size_t n)
{
	(void)snprintf(out, n, "%g s", (double)us / 1e6); /* fits */
	return out;
}

static const struct istio_resource *find(const struct istio_snapshot *s, uint32_t type, const char *name)
{
	for (size_t i = 0; i < s->n_resources; i++)
		if (s->resources[i].type == type && strcmp(s->resources[i].name, name) == 0)
			return &s->resources[i];
	return NULL;
}

/* ---- clusters ---- */

static void say_outlier(struct explain *x, const Foil__Conf__OutlierDetection *o)
{
	char interval[32], base[32];

	fprintf(x->out, "      outliers: ");
	if (o->consecutive_5xx)
		fprintf(x->out, "%u errors in a row, ", o->consecutive_5xx);
	if (o->consecutive_gateway_errors)
		fprintf(x->out, "%u gateway errors in a row, ", o->consecutive_gateway_errors);
	fprintf(x->out, "looked at every %s, out for %s, at most %u %%\n", seconds(o->interval_us, interval, sizeof(interval)),
		seconds(o->base_ejection_us, base, sizeof(base)), o->max_ejection_percent);
}

static void say_limits(struct explain *x, const Foil__Conf__CircuitBreaker *b)
{
	const struct {
		const char *what;
		protobuf_c_boolean has;
		uint32_t n;
	} limits[] = {{"connections", b->has_max_connections, b->max_connections}, {"waiting requests", b->has_max_pending_requests, b->max_pending_requests},
		      {"requests", b->has_max_requests, b->max_requests}, {"retries", b->has_max_retries, b->max_retries}};
	char interval[32];

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		if (limits[i].has)
			fprintf(x->out, "      at most %u %s at a time\n", limits[i].n, limits[i].what);
	if (b->has_retry_budget_permille)
		fprintf(x->out, "      retries at a time: at most %g %% of the requests %s%s, but %u always\n", b->retry_budget_permille / 10.0,
			b->retry_budget_interval_us ? "of the last " : "in flight",
			b->retry_budget_interval_us ? seconds(b->retry_budget_interval_us, interval, sizeof(interval)) : "", b->retry_budget_min);
}

static void say_health_check(struct explain *x, const Foil__Conf__HealthCheck *h)
{
	char interval[32], timeout[32];

	switch (h->kind_case) {
	case FOIL__CONF__HEALTH_CHECK__KIND_HTTP:
		fprintf(x->out, "      asked whether they are well: GET %s", h->http->path ? h->http->path : "/");
		break;
	case FOIL__CONF__HEALTH_CHECK__KIND_GRPC:
		fprintf(x->out, "      asked whether they are well: gRPC health of %s",
			h->grpc->service && h->grpc->service[0] ? h->grpc->service : "the server");
		break;
	default:
		fprintf(x->out, "      asked whether they are well: by connecting");
		break;
	}
	if (h->port)
		fprintf(x->out, " at port %u", h->port);
	fprintf(x->out, ", every %s, within %s; out after %u failures, back after %u good ones\n", seconds(h->interval_us, interval, sizeof(interval)),
		seconds(h->timeout_us, timeout, sizeof(timeout)), h->unhealthy_threshold, h->healthy_threshold);
}

static void say_endpoints(struct explain *x, const char *cluster)
{
	const struct istio_resource *r = find(x->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS, cluster);
	Foil__Conf__Endpoints *e = r ? foil__conf__endpoints__unpack(NULL, r->n_bytes, r->bytes) : NULL;

	if (!e || e->n_endpoints == 0)
		fprintf(x->out, "      no endpoints: 503, UH\n");
	for (size_t i = 0; e && i < e->n_endpoints; i++) {
		const Foil__Conf__Endpoint *one = e->endpoints[i];
		if (i == CANDIDATES_SHOWN_MAX) {
			fprintf(x->out, "      and %zu more\n", e->n_endpoints - i);
			break;
		}
		fprintf(x->out, "      endpoint %s:%u", one->address, one->port);
		if (one->has_weight)
			fprintf(x->out, " weight %u", one->weight);
		if (one->workload)
			fprintf(x->out, " (%s)", one->workload);
		if (one->locality)
			fprintf(x->out, " in %s", one->locality);
		if (one->has_priority)
			fprintf(x->out, ", priority %u: when those before are not there", one->priority);
		fprintf(x->out, "\n");
	}
	for (size_t i = 0; e && i < e->n_health_checks; i++)
		say_health_check(x, e->health_checks[i]);
	for (size_t i = 0; e && i < e->n_locality_weights; i++)
		fprintf(x->out, "      locality %s takes %u parts\n", e->locality_weights[i]->locality, e->locality_weights[i]->weight);
	if (e)
		foil__conf__endpoints__free_unpacked(e, NULL);
}

static void say_slow_start(struct explain *x, const Foil__Conf__SlowStart *s)
{
	char window[32];

	fprintf(x->out, "      a new endpoint takes its share step by step over %s\n", seconds(s->window_us, window, sizeof(window)));
}

static void say_cluster(struct explain *x, const char *name)
{
	static const char *const lb[] = {"LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "ring hash", "Maglev", "LEAST_LATENCY"};
	char connect[32];
	const struct istio_resource *r = find(x->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, name);
	Foil__Conf__Cluster *c = r ? foil__conf__cluster__unpack(NULL, r->n_bytes, r->bytes) : NULL;

	if (!c) {
		fprintf(x->out, "      there is no such cluster: 503, NC (foilctl validate says why)\n");
		return;
	}
	const char *policy = c->is_original_dst ? "to where the client went" : c->is_dynamic ? "to the host that the request names (its port, or the "
		"scheme's), whose address is asked for" : lb[(unsigned int)c->lb % (sizeof(lb) / sizeof(lb[0]))];
	fprintf(x->out, "      %s, connect timeout %s", policy, seconds(c->connect_timeout_us, connect, sizeof(connect)));
	say_source(x, c->source);
	fprintf(x->out, "\n");
	if (c->buffer_bytes)
		fprintf(x->out, "      at most %u bytes wait for an endpoint on a connection\n", c->buffer_bytes);
	if (c->circuit_breaker)
		say_limits(x, c->circuit_breaker);
	if (c->outlier)
		say_outlier(x, c->outlier);
	if (c->slow_start)
		say_slow_start(x, c->slow_start);
	if (!c->is_original_dst && !c->is_dynamic)
		say_endpoints(x, name);
	foil__conf__cluster__free_unpacked(c, NULL);
}

static void say_weighted(struct explain *x, Foil__Conf__WeightedCluster *const *list, size_t n)
{
	uint64_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += list[i]->weight;
	for (size_t i = 0; i < n; i++) {
		fprintf(x->out, "    cluster %s", list[i]->cluster);
		if (n > 1 && total)
			fprintf(x->out, ", %.4g %% of them", 100.0 * list[i]->weight / (double)total);
		fprintf(x->out, "\n");
		say_cluster(x, list[i]->cluster);
	}
}

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
		fprintf(x->out, ", each try %s", seconds(p->per_try_timeout_us, each, sizeof(each)));
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
			seconds(route->fault->delay_us, text, sizeof(text)), route->fault->delay_per_million / 1e4, route->fault->abort_http_status,
			route->fault->abort_per_million / 1e4);
	if (a->has_prefix_rewrite)
		fprintf(x->out, "    path rewritten: %s for what matched\n", a->prefix_rewrite);
	if (a->regex_rewrite)
		fprintf(x->out, "    path rewritten: %s becomes %s\n", a->regex_rewrite->regex, a->regex_rewrite->substitution);
	if (a->host_rewrite)
		fprintf(x->out, "    host rewritten: %s\n", a->host_rewrite);
	fprintf(x->out, "    timeout %s\n", a->timeout_us ? seconds(a->timeout_us, text, sizeof(text)) : "none");
	say_retry(x, a->retry);
	for (size_t i = 0; i < a->n_mirrors; i++)
		fprintf(x->out, "    mirrored to %s, %g %%\n", a->mirrors[i]->cluster, a->mirrors[i]->has_per_million ? a->mirrors[i]->per_million / 1e4 :
			100.0);
	for (size_t i = 0; i < a->n_hash_policies; i++)
		say_hash(x, a->hash_policies[i]);
	say_weighted(x, a->clusters, a->n_clusters);
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
	fprintf(x->out, "  %s route %s", verdict, route->name && route->name[0] ? route->name : "(without a name)");
	say_source(x, route->source);
}

static int explain_vhost(struct explain *x, const Foil__Conf__VirtualHost *v, const char *domain)
{
	char why[1024] = "";

	fprintf(x->out, "virtual host %s, by its domain %s\n", v->name, domain);
	if (v->require_tls) {
		fprintf(x->out, "  answered with 301 to https: the Gateway's server says httpsRedirect\n");
		return 0;
	}
	for (size_t i = 0; i < v->n_routes; i++) {
		if (istio_explain_route_matches(v->routes[i]->match, x->r, why, sizeof(why))) {
			say_route(x, v->routes[i], "taken:");
			fprintf(x->out, "\n");
			say_action(x, v->routes[i]);
			return 0;
		}
		if (i < CANDIDATES_SHOWN_MAX) {
			say_route(x, v->routes[i], "passed over:");
			fprintf(x->out, ": %s\n", why);
		} else if (i == CANDIDATES_SHOWN_MAX) {
			fprintf(x->out, "  passed over: more, up to %zu\n", v->n_routes - i);
		}
	}
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
			fprintf(x->out, "  %s %s\n", times[i].what, seconds(times[i].us, text, sizeof(text)));
}

static int explain_http(struct explain *x, const Foil__Conf__HttpConnectionManager *m)
{
	const struct istio_resource *r = find(x->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES, m->routes ? m->routes : "");
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
	if (v)
		rc = explain_vhost(x, v, domain);
	else
		fprintf(x->out, "no virtual host has the host %s: 404, NR\n", x->r->authority ? x->r->authority : "(none)");
	foil__conf__route_config__free_unpacked(routes, NULL);
	return rc;
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
	const struct istio_resource *r = find(x->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH, "mesh");
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

static int explain_listener(struct explain *x, const Foil__Conf__Listener *l)
{
	fprintf(x->out, "listener %s", l->name);
	say_source(x, l->source);
	fprintf(x->out, "%s\n", l->captured ? ", for captured addresses" : "");
	say_mutual(x, l);
	say_connections(x, l);
	for (size_t i = 0; i < l->n_filter_chains; i++) {
		const Foil__Conf__FilterChain *f = l->filter_chains[i];
		if (f->network_case == FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP)
			return explain_http(x, f->http);
		fprintf(x->out, "  chain %s", f->name ? f->name : "");
		for (size_t j = 0; j < f->n_server_names; j++)
			fprintf(x->out, "%s %s", j ? "," : " for SNI", f->server_names[j]);
		say_source(x, f->source);
		fprintf(x->out, ": connections are passed on as they are\n");
		if (f->network_case == FOIL__CONF__FILTER_CHAIN__NETWORK_TCP)
			say_weighted(x, f->tcp->clusters, f->tcp->n_clusters);
	}
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
	const struct istio_resource *r = find(x->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES, name);
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

static int explain(struct explain *x)
{
	const struct istio_request *r = x->r;

	fprintf(x->out, "request %s %s://%s%s\n", r->method ? r->method : "GET", r->scheme ? r->scheme : "http", r->authority ? r->authority : "",
		r->path ? r->path : "/");
	if (r->path && (strstr(r->path, "/.") || strpbrk(r->path, "\\%")))
		fprintf(x->out, "note: the data plane normalizes the path before it looks; here it is taken as it is\n");
	Foil__Conf__Listener *l = choose(x);
	if (!l) {
		fprintf(x->out, "no listener at address %s and port %u: the connection is refused\n", r->address ? r->address : "(any)", r->port);
		return 1;
	}
	int rc = explain_listener(x, l);
	foil__conf__listener__free_unpacked(l, NULL);
	return rc;
}

int istio_explain(const struct istio_snapshot *s, const struct istio_request *r, char **text)
{
	static const struct istio_snapshot nothing;
	size_t n;
	struct explain x = {.s = s ? s : &nothing, .r = r};

	*text = NULL;
	x.out = open_memstream(text, &n);
	if (!x.out)
		return 1;
	int rc = explain(&x);
	if (fclose(x.out) != 0) {
		free(*text);
		*text = NULL;
	}
	return rc;
}
