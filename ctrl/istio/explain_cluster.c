/* The end of the way: clusters, what limits them, their endpoints. */
#include "ctrl/istio/explain_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void say_outlier(struct explain *x, const Foil__Conf__OutlierDetection *o)
{
	char interval[32], base[32];

	fprintf(x->out, "      outliers: ");
	if (o->consecutive_5xx)
		fprintf(x->out, "%u errors in a row, ", o->consecutive_5xx);
	if (o->consecutive_gateway_errors)
		fprintf(x->out, "%u gateway errors in a row, ", o->consecutive_gateway_errors);
	fprintf(x->out, "looked at every %s, out for %s, at most %u %%\n", istio_explain_seconds(o->interval_us, interval, sizeof(interval)),
		istio_explain_seconds(o->base_ejection_us, base, sizeof(base)), o->max_ejection_percent);
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
			b->retry_budget_interval_us ? istio_explain_seconds(b->retry_budget_interval_us, interval, sizeof(interval)) : "", b->retry_budget_min);
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
	fprintf(x->out, ", every %s, within %s; out after %u failures, back after %u good ones\n",
		istio_explain_seconds(h->interval_us, interval, sizeof(interval)), istio_explain_seconds(h->timeout_us, timeout, sizeof(timeout)),
		h->unhealthy_threshold, h->healthy_threshold);
}

/* Over HTTP a status of ours; a connection is closed. */
static void say_end(struct explain *x, const char *http)
{
	istio_explain_step(x, "end", "");
	if (x->r->is_connection)
		fprintf(x->out, "      %.*s: the connection is closed\n", (int)strcspn(http, ":"), http);
	else
		fprintf(x->out, "      %s\n", http);
}

static void say_endpoints(struct explain *x, const char *cluster)
{
	const struct istio_resource *r = istio_explain_find(x->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS, cluster);
	Foil__Conf__Endpoints *e = r ? foil__conf__endpoints__unpack(NULL, r->n_bytes, r->bytes) : NULL;

	if (!e || e->n_endpoints == 0)
		say_end(x, "no endpoints: 503, UH");
	for (size_t i = 0; e && i < e->n_endpoints; i++) {
		const Foil__Conf__Endpoint *one = e->endpoints[i];
		if (i == CANDIDATES_SHOWN_MAX) {
			fprintf(x->out, "      and %zu more\n", e->n_endpoints - i);
			break;
		}
		istio_explain_step(x, "endpoint", "");
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

	fprintf(x->out, "      a new endpoint takes its share step by step over %s\n", istio_explain_seconds(s->window_us, window, sizeof(window)));
}

static void say_subset(struct explain *x, const char *cluster)
{
	const struct cluster_ref *ref = x->c ? istio_map_get(&x->c->clusters, cluster) : NULL;

	for (uint32_t i = 0; ref && ref->subset && ref->rule && i < ref->rule->subsets.n; i++) {
		const struct subset *subset = ref->rule->subsets.list[i];
		if (strcmp(subset->name, ref->subset) != 0)
			continue;
		istio_explain_step(x, "subset", "taken");
		fprintf(x->out, "      subset %s:", subset->name);
		for (uint32_t j = 0; j < subset->labels.n; j++)
			fprintf(x->out, "%s %s=%s", j ? "," : "", subset->labels.keys[j], subset->labels.values[j]);
		istio_explain_place(x, ref->rule->subset_sources.list[i], subset->head.node->at);
		fprintf(x->out, "\n");
	}
}

static void say_cluster(struct explain *x, const char *name)
{
	static const char *const lb[] = {"LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "ring hash", "Maglev", "LEAST_LATENCY"};
	char connect[32];
	const struct istio_resource *r = istio_explain_find(x->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, name);
	Foil__Conf__Cluster *c = r ? foil__conf__cluster__unpack(NULL, r->n_bytes, r->bytes) : NULL;

	if (!c) {
		say_end(x, "there is no such cluster: 503, NC (foilctl validate says why)");
		return;
	}
	const char *policy = c->is_original_dst ? "to where the client went" : c->is_dynamic ? "to the host that the request names (its port, or the "
		"scheme's), whose address is asked for" : lb[(unsigned int)c->lb % (sizeof(lb) / sizeof(lb[0]))];
	say_subset(x, name);
	istio_explain_step(x, "policy", "");
	fprintf(x->out, "      %s, connect timeout %s", policy, istio_explain_seconds(c->connect_timeout_us, connect, sizeof(connect)));
	istio_explain_source(x, c->source);
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

void istio_explain_weighted(struct explain *x, Foil__Conf__WeightedCluster *const *list, size_t n)
{
	uint64_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += list[i]->weight;
	for (size_t i = 0; i < n; i++) {
		istio_explain_step(x, "cluster", "taken");
		fprintf(x->out, "    cluster %s", list[i]->cluster);
		if (n > 1 && total)
			fprintf(x->out, ", %.4g %% of them", 100.0 * list[i]->weight / (double)total);
		fprintf(x->out, "\n");
		say_cluster(x, list[i]->cluster);
	}
}

