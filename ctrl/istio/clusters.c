/* Clusters and endpoint sets of every destination that a route or listener names: DestinationRule policy by the order of features.md DR-3, the
 * defaults of DR-7..DR-42, endpoints by subset labels (DR-4). A destination that does not exist keeps its name and gets no cluster (503 NC). */
#include "ctrl/istio/compile.h"

#include "ctrl/istio/balancing.h"
#include "ctrl/istio/health_check.h"
#include "ctrl/istio/identity.h"
#include "ctrl/istio/networks.h"
#include "ctrl/istio/tls.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_BUDGET_PERCENT 20.0
#define RETRY_BUDGET_MIN 3u
#define CONNECT_US_DEFAULT 10000000ull
#define IDLE_US_DEFAULT 3600000000ull
#define KEEPALIVE_IDLE_US 7200000000ull /* Linux's own, as Envoy leaves them */
#define KEEPALIVE_INTERVAL_US 75000000ull
#define KEEPALIVE_PROBES 9
#define MAX_EJECTION_US 300000000ull
#define MAX_PROBED_EJECTION_US 60000000ull
#define SCALE_MAX 1000u /* of weights, which are a million at most */
#define ENDPOINTS_MAX 65536 /* what the data plane takes for one cluster */

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

/* The blocks in force for one cluster; each from the first place that has it. */
struct policy {
	const struct load_balancer *load_balancer;
	const struct connection_pool *pool;
	const struct outlier *outlier;
	const struct client_tls *tls;
	const struct proxy_protocol *proxy_protocol;
	const struct retry_budget *retry_budget;
	const struct health_check *health_check;
};

static const struct traffic_policy *at_port(const struct traffic_policy *p, uint32_t port)
{
	for (uint32_t i = 0; p && i < p->port_level.n; i++) {
		const struct traffic_policy *one = ISTIO_ITEM(p->port_level, struct traffic_policy, i);
		if ((uint32_t)one->port->number.value == port)
			return one;
	}
	return NULL;
}

static void overlay(struct policy *out, const struct traffic_policy *p)
{
	if (!p)
		return;
	out->load_balancer = p->load_balancer ? p->load_balancer : out->load_balancer;
	out->pool = p->connection_pool ? p->connection_pool : out->pool;
	out->outlier = p->outlier ? p->outlier : out->outlier;
	out->tls = p->tls ? p->tls : out->tls;
	out->health_check = p->health_check ? p->health_check : out->health_check;
}

/* Blocks that ports' settings do not have, and so neither replace nor drop. */
static void overlay_portless(struct policy *out, const struct traffic_policy *p)
{
	if (!p)
		return;
	out->proxy_protocol = p->proxy_protocol ? p->proxy_protocol : out->proxy_protocol;
	out->retry_budget = p->retry_budget ? p->retry_budget : out->retry_budget;
}

/* DR-3: the port's settings replace the destination's as a whole; the subset's blocks lie over the rule's, block by block. */
static struct policy policy_of(const struct merged_rule *rule, const struct subset *subset, uint32_t port)
{
	struct policy out = {0};

	if (!rule)
		return out;
	const struct traffic_policy *top = rule->policy, *top_port = at_port(top, port);
	overlay(&out, top_port ? top_port : top);
	if (subset && subset->policy) {
		const struct traffic_policy *sub_port = at_port(subset->policy, port);
		if (sub_port)
			out = (struct policy){0}; /* a port's settings inherit nothing at all */
		overlay(&out, sub_port ? sub_port : subset->policy);
	}
	overlay_portless(&out, top);
	overlay_portless(&out, subset ? subset->policy : NULL);
	return out;
}

static struct policy policy_of_ref(const struct cluster_ref *ref)
{
	struct policy p = policy_of(ref->rule, ref->subset ? istio_registry_subset(ref->rule, ref->subset) : NULL, ref->port ? ref->port->number : 0);

	if (ref->mesh_policy) {
		p.pool = p.pool ? p.pool : ref->mesh_policy->connection_pool;
		p.outlier = p.outlier ? p.outlier : ref->mesh_policy->outlier;
	}
	return p;
}

/* ---- references ---- */

/* So that nothing goes in plaintext where TLS was asked for: such a destination has no cluster. */
static bool tls_is_refused(struct compile *c, const struct cluster_ref *ref)
{
	struct policy p = policy_of_ref(ref);
	bool is_refused = false;

	if (p.tls && p.tls->mode.value != CLIENT_TLS_ISTIO_MUTUAL) /* the rules themselves: cluster_emit */
		(void)istio_tls_of_client(c, ref, p.tls, FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP1, &is_refused);
	return is_refused;
}

/* A DNS cluster without anything to resolve is none (istiod: requests get 503 NC). */
static bool has_nothing_to_resolve(const struct cluster_ref *ref)
{
	const struct service *s = ref->service;
	const struct subset *subset = ref->subset ? istio_registry_subset(ref->rule, ref->subset) : NULL;

	for (uint32_t i = 0; i < s->instances.n; i++)
		if (!subset || istio_compile_labels_have(s->instances.list[i]->labels, &subset->labels))
			return false;
	return istio_registry_is_dns(s);
}

/* SE-3: requests and ClientHellos name the host. */
static bool is_dynamic(const struct cluster_ref *ref)
{
	return ref->service->resolution == RESOLUTION_DYNAMIC_DNS;
}

/* Such a cluster has no subsets (istiod), and its connections no client to tell of: the destination of a PROXY header would be the host's address. */
static bool dynamic_is_refused(struct compile *c, const struct cluster_ref *ref)
{
	struct policy p = policy_of_ref(ref);

	if (p.proxy_protocol)
		istio_compile_report(c, ISTIO_ERROR, "HF0005", ref->rule->source, p.proxy_protocol->head.node->at, "trafficPolicy.proxyProtocol",
				     "not supported towards hosts that requests name (resolution DYNAMIC_DNS): requests to %s get 503", ref->service->host);
	return p.proxy_protocol || ref->subset;
}

/* service stays NULL when the destination does not exist, or must not be spoken to. */
static void fill_ref(struct compile *c, struct cluster_ref *ref, struct service *s, uint32_t port, const char *client_namespace)
{
	ref->port = istio_registry_port(s, port);
	ref->mesh_policy = c->model->mesh->default_policy;
	ref->rule = istio_registry_rule(c, s, client_namespace);
	ref->service = ref->port ? s : NULL;
	if (ref->subset && !istio_registry_subset(ref->rule, ref->subset))
		ref->service = NULL;
	if (ref->service && is_dynamic(ref) && dynamic_is_refused(c, ref))
		ref->service = NULL;
	if (ref->service && (tls_is_refused(c, ref) || has_nothing_to_resolve(ref)))
		ref->service = NULL;
}

struct cluster_ref *istio_clusters_ref(struct compile *c, struct service *s, const char *host, const char *subset, uint32_t port, const char *client_namespace,
				 bool is_http)
{
	const char *name = istio_arena_printf(c->arena, "outbound|%u|%s|%s", port, subset ? subset : "", host);
	bool is_new;
	void **place = istio_map_put(c->arena, &c->clusters, name, &is_new);

	if (is_new) {
		struct cluster_ref *fresh = ARENA_NEW(c->arena, struct cluster_ref);
		fresh->name = name;
		fresh->subset = subset && subset[0] ? subset : NULL;
		*place = fresh;
	}
	struct cluster_ref *ref = *place;
	if (s && !ref->service)
		fill_ref(c, ref, s, port, client_namespace);
	if (is_http)
		ref->is_for_http = true;
	else
		ref->is_for_tcp = true;
	return ref;
}

struct cluster_ref *istio_clusters_ref_passed_on(struct compile *c, struct service *s, const struct service_port *port, const char *subset,
						 const char *client_namespace)
{
	const char *name = istio_arena_printf(c->arena, "outbound_.%u_.%s_.%s", port->number, subset ? subset : "", s->host);
	bool is_new;
	void **place = istio_map_put(c->arena, &c->clusters, name, &is_new);

	if (is_new) {
		struct cluster_ref *fresh = ARENA_NEW(c->arena, struct cluster_ref);
		*fresh = (struct cluster_ref){.name = name, .subset = subset && subset[0] ? subset : NULL, .is_for_tcp = true, .is_passed_on = true};
		*place = fresh;
		fill_ref(c, fresh, s, port->number, client_namespace);
	}
	return *place;
}

uint64_t istio_clusters_tcp_idle_us(const struct cluster_ref *ref)
{
	struct policy p = policy_of_ref(ref);

	return p.pool && p.pool->tcp && p.pool->tcp->idle_timeout.is_set ? (uint64_t)p.pool->tcp->idle_timeout.value : IDLE_US_DEFAULT;
}

const struct load_balancer *istio_clusters_load_balancer(const struct cluster_ref *ref)
{
	return ref->service ? policy_of_ref(ref).load_balancer : NULL;
}

bool istio_clusters_is_meshed(const struct compile *c, const struct cluster_ref *ref)
{
	return ref && ref->service && istio_tls_is_of_mesh(c, ref, policy_of_ref(ref).tls);
}

/* ---- a cluster ---- */

static bool is_original_dst(const struct cluster_ref *ref, const struct policy *p)
{
	if (is_dynamic(ref))
		return false;
	return ref->service->resolution == RESOLUTION_NONE || (p->load_balancer && p->load_balancer->simple.value == SIMPLE_PASSTHROUGH);
}

static Foil__Conf__UpstreamProtocol protocol_of(const struct cluster_ref *ref, const struct policy *p)
{
	enum port_protocol proto = ref->port->protocol;
	bool upgrade = p->pool && p->pool->http && p->pool->http->h2_upgrade.value == H2_UPGRADE_YES;

	if (!ref->is_for_http)
		return FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_TCP;
	if (proto == PROTO_HTTP2 || proto == PROTO_GRPC || proto == PROTO_GRPC_WEB || (proto == PROTO_HTTP && upgrade))
		return FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP2;
	return FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP1;
}

static void keepalive(const struct compile *c, const struct pool_tcp *tcp, Foil__Conf__Cluster *out)
{
	const struct tcp_keepalive *k = tcp && tcp->keepalive ? tcp->keepalive : c->model->mesh->keepalive;

	if (!k)
		return;
	out->has_tcp_keepalive_idle_us = out->has_tcp_keepalive_interval_us = out->has_tcp_keepalive_probes = true;
	out->tcp_keepalive_idle_us = k->time.value ? (uint64_t)k->time.value : KEEPALIVE_IDLE_US;
	out->tcp_keepalive_interval_us = k->interval.value ? (uint64_t)k->interval.value : KEEPALIVE_INTERVAL_US;
	out->tcp_keepalive_probes = k->probes.value ? (uint32_t)k->probes.value : KEEPALIVE_PROBES;
}

/* DR-31: zero means unset, and unset means no limit. */
static void limits(const struct policy *p, Foil__Conf__CircuitBreaker *out)
{
	const struct pool_tcp *tcp = p->pool ? p->pool->tcp : NULL;
	const struct pool_http *http = p->pool ? p->pool->http : NULL;

	if (tcp && tcp->max_connections.value) {
		out->has_max_connections = true;
		out->max_connections = (uint32_t)tcp->max_connections.value;
	}
	if (http && http->max_pending.value) {
		out->has_max_pending_requests = true;
		out->max_pending_requests = (uint32_t)http->max_pending.value;
	}
	if (http && http->max_requests.value) {
		out->has_max_requests = true;
		out->max_requests = (uint32_t)http->max_requests.value;
	}
	if (http && http->max_retries.value) {
		out->has_max_retries = true;
		out->max_retries = (uint32_t)http->max_retries.value;
	}
	if (p->retry_budget) { /* DR-32 */
		double percent = p->retry_budget->percent.is_set ? p->retry_budget->percent.value : RETRY_BUDGET_PERCENT;
		out->has_retry_budget_permille = out->has_retry_budget_min = true;
		out->retry_budget_permille = (uint32_t)(percent * 10 + 0.5);
		out->retry_budget_min = p->retry_budget->min_concurrency.value ? (uint32_t)p->retry_budget->min_concurrency.value : RETRY_BUDGET_MIN;
		out->has_retry_budget_interval_us = p->retry_budget->interval.value != 0;
		out->retry_budget_interval_us = (uint64_t)p->retry_budget->interval.value;
	}
}

/* What istiod checks and hands to nobody yet is done here: Envoy's per_connection_buffer_limit_bytes of a cluster. */
static void buffer(const struct compile *c, Foil__Conf__Cluster *out)
{
	const struct proxy_config *proxy = c->model->mesh->proxy;
	const struct connection_settings *s = proxy ? proxy->connection_settings : NULL;

	if (!s || !s->cluster_buffer.value)
		return;
	out->has_buffer_bytes = true;
	out->buffer_bytes = (uint32_t)s->cluster_buffer.value;
}

static void pool(const struct compile *c, const struct policy *p, Foil__Conf__Cluster *out)
{
	const struct pool_tcp *tcp = p->pool ? p->pool->tcp : NULL;
	const struct pool_http *http = p->pool ? p->pool->http : NULL;
	const struct istio_int *mesh_connect = &c->model->mesh->connect_timeout;

	buffer(c, out);
	out->has_connect_timeout_us = out->has_idle_timeout_us = true;
	out->connect_timeout_us = mesh_connect->is_set ? (uint64_t)mesh_connect->value : CONNECT_US_DEFAULT;
	if (tcp && tcp->connect_timeout.is_set)
		out->connect_timeout_us = (uint64_t)tcp->connect_timeout.value;
	out->idle_timeout_us = IDLE_US_DEFAULT;
	if (http && http->idle_timeout.is_set) /* DR-26 */
		out->idle_timeout_us = (uint64_t)http->idle_timeout.value;
	else if (tcp && tcp->idle_timeout.is_set)
		out->idle_timeout_us = (uint64_t)tcp->idle_timeout.value;
	if (http && http->max_requests_per_connection.value) {
		out->has_max_requests_per_connection = true;
		out->max_requests_per_connection = (uint32_t)http->max_requests_per_connection.value;
	}
	if (tcp && tcp->max_connection_duration.is_set) {
		out->has_max_connection_duration_us = true;
		out->max_connection_duration_us = (uint64_t)tcp->max_connection_duration.value;
	}
	if (http && http->max_concurrent_streams.value) {
		out->has_max_concurrent_streams = true;
		out->max_concurrent_streams = (uint32_t)http->max_concurrent_streams.value;
	}
	if (http && http->keepalive && http->keepalive->interval.is_set) {
		out->has_h2_ping_interval_us = out->has_h2_ping_timeout_us = true;
		out->h2_ping_interval_us = (uint64_t)http->keepalive->interval.value;
		out->h2_ping_timeout_us = (uint64_t)http->keepalive->timeout.value;
	}
	keepalive(c, tcp, out);
}

static uint32_t percent_of(const struct outlier *o, bool probes)
{
	return o->max_ejection_percent.value ? (uint32_t)o->max_ejection_percent.value : probes ? 100 : 10;
}

static uint64_t or_default(const struct istio_int *v, uint64_t otherwise)
{
	return v->is_set ? (uint64_t)v->value : otherwise;
}

/* What a rule does not say itself is Istio's default, or Linkerd's where hosts come back by a request. */
static void outlier_of(const struct outlier *o, bool probes, Foil__Conf__OutlierDetection *out)
{
	uint64_t max_us = probes ? MAX_PROBED_EJECTION_US : MAX_EJECTION_US;

	out->has_consecutive_5xx = out->has_consecutive_gateway_errors = out->has_consecutive_local_origin_failures = true;
	out->has_split_external_local_origin = out->has_interval_us = out->has_base_ejection_us = out->has_max_ejection_us = true;
	out->has_max_ejection_percent = out->has_probes = true;
	out->probes = probes;
	out->consecutive_5xx = (uint32_t)or_default(&o->consecutive_5xx, probes ? 7 : 5);
	out->consecutive_gateway_errors = (uint32_t)(o->gateway_errors.is_set ? o->gateway_errors.value : o->consecutive_errors.value);
	out->split_external_local_origin = o->split.is_true;
	out->consecutive_local_origin_failures = o->split.is_true ? (uint32_t)or_default(&o->local_origin_failures, 5) : 0;
	out->interval_us = or_default(&o->interval, 10000000);
	out->base_ejection_us = or_default(&o->base_ejection, probes ? 1000000 : 30000000);
	out->max_ejection_us = out->base_ejection_us > max_us ? out->base_ejection_us : max_us;
	out->max_ejection_percent = percent_of(o, probes);
}

/* Istio's API has no word for how hosts come back: ours stands in an annotation. */
static bool is_probed(struct compile *c, const struct cluster_ref *ref, const struct outlier *o)
{
	static const char key[] = "hydrofoil.io/outlier-recovery";
	const struct resource *r = ref->rule ? ref->rule->source : NULL;
	const char *value = r ? istio_compile_label(&r->annotations, key) : NULL;

	if (value && strcmp(value, "probe") != 0 && strcmp(value, "time") != 0)
		istio_compile_report(c, ISTIO_WARNING, "HF0007", r, r->node->at, "metadata.annotations",
				     "%s is \"%.40s\": \"probe\" lets one request through to an ejected host, \"time\" is the default", key, value);
	else if (value && !o)
		istio_compile_report(c, ISTIO_WARNING, "HF0007", r, r->node->at, "metadata.annotations",
				     "%s has no effect on %s: outlierDetection is not there", key, ref->name);
	return value && strcmp(value, "probe") == 0;
}

static void outlier(struct compile *c, const struct policy *p, bool probes, Foil__Conf__Cluster *out)
{
	const struct outlier *o = p->outlier;

	out->has_panic_threshold_percent = true;
	if (!o)
		return;
	out->outlier = ARENA_NEW(c->arena, Foil__Conf__OutlierDetection);
	foil__conf__outlier_detection__init(out->outlier);
	outlier_of(o, probes, out->outlier);
	out->outlier->error_codes = ARENA_ARRAY(c->arena, uint32_t, o->error_codes.n);
	for (uint32_t i = 0; i < o->error_codes.n; i++)
		out->outlier->error_codes[out->outlier->n_error_codes++] = (uint32_t)o->error_codes.list[i];
	out->panic_threshold_percent = (uint32_t)o->min_health.value;
}

/* ---- endpoints ---- */

uint32_t istio_clusters_port_of(const struct service_port *p, const struct instance *in)
{
	if (in->port_map) {
		const char *own = istio_compile_label(in->port_map, p->name);
		if (own)
			return (uint32_t)strtoul(own, NULL, 0);
		return p->target.number ? p->target.number : p->number;
	}
	if (in->slice_ports) {
		for (uint32_t i = 0; i < in->slice_ports->n; i++) {
			const struct k8s_endpoint_port *e = ISTIO_ITEM(*in->slice_ports, struct k8s_endpoint_port, i);
			if (strcmp(e->name ? e->name : "", p->name) == 0)
				return (uint32_t)e->port.value;
		}
		return 0;
	}
	if (in->pod && p->target.name) {
		const struct k8s_pod_spec *spec = in->pod->spec;
		for (uint32_t i = 0; spec && i < spec->containers.n; i++) {
			const struct k8s_container *k = ISTIO_ITEM(spec->containers, struct k8s_container, i);
			for (uint32_t j = 0; j < k->ports.n; j++) {
				const struct k8s_container_port *cp = ISTIO_ITEM(k->ports, struct k8s_container_port, j);
				if (cp->name && strcmp(cp->name, p->target.name) == 0)
					return (uint32_t)cp->port.value;
			}
		}
		return 0;
	}
	return p->target.number ? p->target.number : p->number;
}

static const char *first_label(const struct istio_string_map *labels, const char *a, const char *b, const char *d, const char *otherwise)
{
	const char *keys[] = {a, b, d};

	for (int i = 0; i < 3; i++) {
		const char *value = keys[i] ? istio_compile_label(labels, keys[i]) : NULL;
		if (value && value[0])
			return value;
	}
	return otherwise;
}

/* How connections to the cluster's endpoints are protected: decided for a cluster, read for each of its endpoints. */
enum protection { PROTECTED_NOT, PROTECTED_WHERE_MARKED, PROTECTED_BY_MESH };

static enum protection protection_of(const struct compile *c, const struct cluster_ref *ref)
{
	struct policy p = policy_of_ref(ref);

	if (ref->is_passed_on)
		return PROTECTED_NOT;
	if (p.tls)
		return p.tls->mode.is_set && p.tls->mode.value == CLIENT_TLS_ISTIO_MUTUAL ? PROTECTED_BY_MESH : PROTECTED_NOT;
	return istio_identity_is_auto(c, ref->service) ? PROTECTED_WHERE_MARKED : PROTECTED_NOT;
}

static void protect(const struct compile *c, const struct instance *in, uint32_t port, enum protection how, Foil__Conf__Endpoint *e)
{
	bool is_marked = how == PROTECTED_WHERE_MARKED && istio_identity_is_marked(c, in, port);

	if (is_marked)
		e->has_tls = e->tls = true;
	if ((is_marked || how == PROTECTED_BY_MESH) && in->account)
		e->principal = word(in->account);
}

static Foil__Conf__Endpoint *endpoint(struct compile *c, const struct instance *in, const char *address, uint32_t port)
{
	Foil__Conf__Endpoint *e = ARENA_NEW(c->arena, Foil__Conf__Endpoint);

	foil__conf__endpoint__init(e);
	e->address = word(address);
	e->has_port = true;
	e->port = port;
	if (in->weight != 1) {
		e->has_weight = true;
		e->weight = in->weight;
	}
	e->locality = in->locality && in->locality[0] ? word(in->locality) : NULL;
	e->workload = word(in->workload);
	if (in->workload)
		e->workload_namespace = word(in->namespace);
	e->app = word(istio_compile_label(in->labels, "app"));
	e->version = word(istio_compile_label(in->labels, "version"));
	e->canonical_service = word(first_label(in->labels, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app", in->workload));
	if (e->canonical_service)
		e->canonical_revision = word(first_label(in->labels, "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version", "latest"));
	return e;
}

/* The endpoints of a cluster, and what each was made of. */
struct endpoint_list {
	struct {
		Foil__Conf__Endpoint **list;
		uint32_t n, n_room;
	} all;
	struct {
		const struct instance **list;
		uint32_t n, n_room;
	} made_of;
	uint64_t weights;
};

/* False: there is no room for more. */
static bool add_endpoint(struct compile *c, const struct cluster_ref *ref, const struct instance *in, const char *address, struct endpoint_list *to)
{
	const struct resource *source = ref->service->source;
	uint32_t port = istio_clusters_port_of(ref->port, in);

	if (!port)
		return true;
	if (to->all.n == ENDPOINTS_MAX) {
		istio_compile_report(c, ISTIO_ERROR, "HF0016", source, source->node->at, "", "more than %d endpoints: the rest is left out", ENDPOINTS_MAX);
		return false;
	}
	Foil__Conf__Endpoint *e = endpoint(c, in, address, port);
	protect(c, in, port, protection_of(c, ref), e);
	ARENA_PUSH(c->arena, &to->all, e);
	ARENA_PUSH(c->arena, &to->made_of, in);
	to->weights += in->weight;
	return true;
}

static void want_name(struct compile *c, struct service *s, const char *name)
{
	bool is_new;
	void **place = istio_map_put(c->arena, &c->names, name, &is_new);

	if (is_new)
		*place = ARENA_NEW(c->arena, struct service_list);
	struct service_list *users = *place;
	if (users->n == 0 || users->list[users->n - 1] != s) /* a service's clusters follow one another, mostly: twice is not wrong */
		ARENA_PUSH(c->arena, users, s);
}

/* SE-3: DNS: every address is an endpoint with the weight, labels and place of what the name stands for; DNS_ROUND_ROBIN: one of them. */
static bool add_named(struct compile *c, const struct cluster_ref *ref, const struct instance *in, struct endpoint_list *to)
{
	const char *addresses[ISTIO_ADDRESSES_MAX];
	const struct istio_names *names = c->node->names;
	bool is_one = ref->service->resolution == RESOLUTION_DNS_ROUND_ROBIN;
	enum istio_name_use use = is_one ? ISTIO_NAME_LAST_GOOD : ISTIO_NAME_NOW; /* as Envoy's logical and strict DNS clusters do */
	size_t n_max = is_one ? 1 : ISTIO_ADDRESSES_MAX;
	bool has_room = true;

	if (!istio_registry_is_dns(ref->service)) {
		const struct resource *source = ref->service->source;
		istio_compile_report(c, ISTIO_ERROR, "IST0106", source, source->node->at, "spec.resolution",
				     "a name (%.80s) among the endpoints, which resolution STATIC does not look up: it is left out; set resolution: DNS",
				     in->address);
		return true;
	}
	want_name(c, ref->service, in->address);
	size_t n = names ? names->addresses(names->arg, in->address, use, addresses, n_max) : 0;
	for (size_t i = 0; i < n && has_room; i++)
		has_room = add_endpoint(c, ref, in, addresses[i], to);
	return has_room;
}

/* ---- endpoints of other networks: their gateways stand for them (WE-3) ---- */

struct behind {
	const struct network_ways *ways;
	const char *locality;
	uint64_t weight; /* of all endpoints behind */
};
struct behind_list {
	struct behind *list;
	uint32_t n, n_room;
	uint32_t scale; /* so that gateways' shares are whole */
};

/* The gateway reads the server name of the mesh's own TLS: nothing else gets through. */
static bool gets_through(struct compile *c, const struct cluster_ref *ref, const struct instance *in, const struct network_ways *ways)
{
	const struct resource *source = ref->service->source;
	enum protection how = protection_of(c, ref);
	uint32_t port = istio_clusters_port_of(ref->port, in);

	if (ref->is_passed_on || how == PROTECTED_BY_MESH || (how == PROTECTED_WHERE_MARKED && port && istio_identity_is_marked(c, in, port)))
		return true;
	istio_compile_report(c, ISTIO_WARNING, "HF0006", source, source->node->at, "",
			     "endpoints of the network %s that are not spoken to by the mesh's mTLS are left out, as its gateway takes nothing else: the "
			     "workloads need the label security.istio.io/tlsMode: istio, the service must be of the mesh", ways->network);
	return false;
}

static void put_behind(struct compile *c, const struct instance *in, const struct network_ways *ways, struct behind_list *to)
{
	const struct behind fresh = {.ways = ways, .locality = in->locality ? in->locality : "", .weight = in->weight};

	for (uint32_t i = 0; i < to->n; i++)
		if (to->list[i].ways == ways && strcmp(to->list[i].locality, fresh.locality) == 0) {
			to->list[i].weight += in->weight;
			return;
		}
	ARENA_PUSH(c->arena, to, fresh);
	to->scale = to->scale ? to->scale : 1;
	to->scale *= to->scale * ways->n <= SCALE_MAX ? ways->n : 1;
}

static void add_gateway(struct compile *c, const struct cluster_ref *ref, const struct behind *b, const struct network_way *way, uint64_t weight,
			struct endpoint_list *to)
{
	static const struct istio_string_map no_labels;
	struct instance *in = ARENA_NEW(c->arena, struct instance);

	*in = (struct instance){.address = way->address, .labels = &no_labels, .locality = b->locality, .namespace = ref->service->namespace,
				.weight = weight > UINT32_MAX ? UINT32_MAX : weight ? (uint32_t)weight : 1, .is_ready = true};
	Foil__Conf__Endpoint *e = endpoint(c, in, way->address, way->port);
	if (protection_of(c, ref) == PROTECTED_WHERE_MARKED)
		e->has_tls = e->tls = true;
	ARENA_PUSH(c->arena, &to->all, e);
	ARENA_PUSH(c->arena, &to->made_of, in);
	to->weights += in->weight;
}

static void add_gateways(struct compile *c, const struct cluster_ref *ref, const struct behind_list *behind, struct endpoint_list *to)
{
	for (uint32_t i = 0; behind->scale > 1 && i < to->all.n; i++) {
		Foil__Conf__Endpoint *e = to->all.list[i];
		e->weight = (e->has_weight ? e->weight : 1) * behind->scale;
		e->has_weight = true;
	}
	to->weights *= behind->scale ? behind->scale : 1;
	for (uint32_t i = 0; i < behind->n; i++) {
		const struct behind *b = &behind->list[i];
		for (uint32_t j = 0; j < b->ways->n && to->all.n < ENDPOINTS_MAX; j++)
			add_gateway(c, ref, b, &b->ways->list[j], b->weight * behind->scale / b->ways->n, to);
	}
}

/* Neither an address nor a way: istiod leaves it out. */
static bool is_nowhere(struct compile *c, const struct cluster_ref *ref, const struct instance *in)
{
	const struct resource *source = ref->service->source;

	if (in->address[0])
		return false;
	istio_compile_report(c, ISTIO_WARNING, "IST0101", source, source->node->at, "",
			     "an endpoint without an address is left out: its network (%.60s) is this node's, or has no gateway", in->network);
	return true;
}

static void endpoints_emit(struct compile *c, const struct cluster_ref *ref)
{
	const struct service *s = ref->service;
	const struct subset *subset = ref->subset ? istio_registry_subset(ref->rule, ref->subset) : NULL;
	Foil__Conf__Endpoints out = FOIL__CONF__ENDPOINTS__INIT;
	struct endpoint_list made = {0};
	struct behind_list behind = {0};
	bool has_room = true;

	out.cluster = word(ref->name);
	for (uint32_t i = 0; i < s->instances.n && has_room; i++) {
		const struct instance *in = s->instances.list[i];
		if ((!in->is_ready && !s->publish_not_ready) || (subset && !istio_compile_labels_have(in->labels, &subset->labels)))
			continue;
		const struct network_ways *ways = istio_networks_ways(c, in);
		if (ways && gets_through(c, ref, in, ways))
			put_behind(c, in, ways, &behind);
		if (ways || is_nowhere(c, ref, in))
			continue;
		has_room = in->is_name ? add_named(c, ref, in, &made) : add_endpoint(c, ref, in, in->address, &made);
	}
	add_gateways(c, ref, &behind, &made);
	out.endpoints = made.all.list;
	out.n_endpoints = made.all.n;
	for (; made.weights > UINT32_MAX; made.weights /= 16) /* the data plane adds them up in 32 bits: only their proportion means anything */
		for (size_t i = 0; i < out.n_endpoints; i++)
			if (out.endpoints[i]->has_weight)
				out.endpoints[i]->weight = out.endpoints[i]->weight / 16 + 1;
	struct policy p = policy_of_ref(ref);
	istio_balancing_localities(c, p.load_balancer, p.outlier != NULL || p.health_check != NULL, made.made_of.list, &out);
	istio_health_check_emit(c, p.health_check, s->host, made.made_of.list, &out);
	istio_compile_emit(c, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS, ref->name, &out.base);
}

/* MeshConfig's, which no rule's warning is about. */
static bool is_mesh_outlier(const struct cluster_ref *ref, const struct outlier *o)
{
	return ref->mesh_policy && o == ref->mesh_policy->outlier;
}

static void warn_ejection(struct compile *c, const struct cluster_ref *ref, const struct policy *p, bool probes)
{
	const struct outlier *o = p->outlier;
	uint32_t n = ref->service->instances.n, percent = o ? percent_of(o, probes) : 0;

	if (o && !is_mesh_outlier(ref, o) && n && 100 / n > percent && !istio_registry_is_dns(ref->service)) /* DR-41; how many a name has is not known yet */
		istio_compile_report(c, ISTIO_WARNING, "HF0007", ref->rule->source, o->head.node->at, "trafficPolicy.outlierDetection",
			       "never ejects anything: one of %u endpoints is more than maxEjectionPercent (%u %%)", n, percent);
}

/* Without captured ranges, what the node takes is sent to its own addresses, gateways' or services': a client's destination is always the node itself. Envoy
 * at a gateway has none either. */
static void warn_original_dst(struct compile *c, const struct cluster_ref *ref, const struct policy *p)
{
	static const char text[] = "where the client went is this node itself, so requests to it get 503 (UH), as the node file has no captured ranges";
	const struct resource *source = ref->service->source;

	if (ref->service->resolution == RESOLUTION_NONE) {
		const struct service_entry *e = source->spec;
		istio_compile_report(c, ISTIO_WARNING, "HF0017", source, istio_doc_at(e->head.node, "resolution"), "spec.resolution",
				     "resolution NONE: %s; give endpoints and resolution STATIC, or resolution DNS", text);
	} else {
		istio_compile_report(c, ISTIO_WARNING, "HF0017", ref->rule->source, istio_doc_at(p->load_balancer->head.node, "simple"),
				     "trafficPolicy.loadBalancer.simple", "PASSTHROUGH: %s; leave it out, and the endpoints of %s are used", text,
				     ref->service->host);
	}
}

/* DR-33. TLS offers in its handshake what the port speaks. */
static void use_client_protocol(struct compile *c, const struct cluster_ref *ref, const struct policy *p, Foil__Conf__Cluster *out)
{
	const struct pool_http *http = p->pool ? p->pool->http : NULL;

	if (!http || !http->use_client_protocol.is_true || !ref->is_for_http)
		return;
	if (!out->tls) {
		out->has_use_client_protocol = out->use_client_protocol = true;
		return;
	}
	if (ref->rule)
		istio_compile_report(c, ISTIO_WARNING, "HF0006", ref->rule->source, http->head.node->at, "trafficPolicy.connectionPool.http.useClientProtocol",
				     "towards %s, which is spoken to over TLS, the port's protocol decides", ref->name);
}

/* There is one host for all, as far as balancing and health go. */
static void dynamic(struct compile *c, const struct cluster_ref *ref, struct policy *p, Foil__Conf__Cluster *out)
{
	out->has_is_dynamic = out->is_dynamic = true;
	out->has_dynamic_port = true;
	out->dynamic_port = ref->port->number;
	if (p->outlier && !is_mesh_outlier(ref, p->outlier))
		istio_compile_report(c, ISTIO_WARNING, "HF0017", ref->rule->source, p->outlier->head.node->at, "trafficPolicy.outlierDetection",
				     "has no effect: hosts that requests name are not told apart");
	if (p->health_check)
		istio_compile_report(c, ISTIO_WARNING, "HF0017", ref->rule->source, p->health_check->head.node->at, "trafficPolicy.healthCheck",
				     "has no effect: which hosts requests name is not known before they come");
	p->outlier = NULL;
	p->load_balancer = NULL;
}

static void cluster_emit(struct compile *c, const struct cluster_ref *ref)
{
	struct policy p = policy_of_ref(ref);
	Foil__Conf__Cluster out = FOIL__CONF__CLUSTER__INIT;
	Foil__Conf__CircuitBreaker breaker = FOIL__CONF__CIRCUIT_BREAKER__INIT;

	out.name = word(ref->name);
	out.has_protocol = out.has_is_original_dst = true;
	istio_balancing_cluster(c, is_dynamic(ref) ? NULL : p.load_balancer, &out);
	out.protocol = protocol_of(ref, &p);
	out.is_original_dst = is_original_dst(ref, &p);
	if (is_dynamic(ref))
		dynamic(c, ref, &p, &out);
	if (out.is_original_dst && c->node->n_captured_cidrs == 0)
		warn_original_dst(c, ref, &p);
	if (out.is_original_dst && p.outlier && is_mesh_outlier(ref, p.outlier))
		p.outlier = NULL;
	if (out.is_original_dst && p.outlier) {
		istio_compile_report(c, ISTIO_WARNING, "HF0017", ref->rule->source, p.outlier->head.node->at, "trafficPolicy.outlierDetection",
				     "has no effect: hosts are not told apart where the client's own destination is used");
		p.outlier = NULL;
	}
	if (out.is_original_dst && p.health_check)
		istio_compile_report(c, ISTIO_WARNING, "HF0017", ref->rule->source, p.health_check->head.node->at, "trafficPolicy.healthCheck",
				     "has no effect: where clients go is not known before they come");
	out.circuit_breaker = &breaker;
	limits(&p, &breaker);
	pool(c, &p, &out);
	bool probes = is_probed(c, ref, p.outlier);
	outlier(c, &p, probes, &out);
	if (p.proxy_protocol) {
		out.has_proxy_protocol = true;
		out.proxy_protocol = p.proxy_protocol->version.value == PROXY_VERSION_2 ? FOIL__CONF__PROXY_PROTOCOL__PROXY_PROTOCOL_V2
											: FOIL__CONF__PROXY_PROTOCOL__PROXY_PROTOCOL_V1;
	}
	bool is_refused;
	out.tls = istio_tls_of_client(c, ref, p.tls, out.protocol, &is_refused);
	use_client_protocol(c, ref, &p, &out);
	warn_ejection(c, ref, &p, probes);
	out.service_host = word(ref->service->host);
	out.service_name = word(ref->service->name);
	out.service_namespace = word(ref->service->namespace);
	out.source = ref->rule ? istio_compile_source(c, ref->rule->source, ref->rule->source->node->at)
			       : istio_compile_source(c, ref->service->source, ref->service->source->node->at);
	istio_compile_emit(c, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, ref->name, &out.base);
	if (!out.is_original_dst && !out.is_dynamic)
		endpoints_emit(c, ref);
}

/* Istio's own two: to where the client went, and to nobody. */
static void own_emit(struct compile *c, const char *name)
{
	Foil__Conf__Cluster out = FOIL__CONF__CLUSTER__INIT;
	Foil__Conf__Endpoints nobody = FOIL__CONF__ENDPOINTS__INIT;

	out.name = nobody.cluster = word(name);
	out.has_is_original_dst = out.has_connect_timeout_us = out.has_idle_timeout_us = true;
	out.is_original_dst = strcmp(name, CLUSTER_PASSTHROUGH) == 0;
	out.has_is_dynamic = true;
	out.is_dynamic = strcmp(name, CLUSTER_DYNAMIC_DNS) == 0;
	out.has_use_client_protocol = out.use_client_protocol = out.is_original_dst || out.is_dynamic;
	pool(c, &(struct policy){0}, &out);
	out.service_host = out.service_name = word(name);
	istio_compile_emit(c, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, name, &out.base);
	if (!out.is_original_dst && !out.is_dynamic)
		istio_compile_emit(c, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS, name, &nobody.base);
}

void istio_clusters_emit(struct compile *c)
{
	for (uint32_t i = 0; i < c->clusters.n; i++) {
		const struct cluster_ref *ref = c->clusters.entries[i].value;
		if (strcmp(ref->name, CLUSTER_PASSTHROUGH) == 0 || strcmp(ref->name, CLUSTER_BLACK_HOLE) == 0 || strcmp(ref->name, CLUSTER_DYNAMIC_DNS) == 0)
			own_emit(c, ref->name);
		else if (ref->service)
			cluster_emit(c, ref);
	}
}

void istio_clusters_emit_endpoints(struct compile *c, struct service *s)
{
	for (uint32_t i = 0; i < c->clusters.n; i++) {
		const struct cluster_ref *ref = c->clusters.entries[i].value;
		if (ref->service != s)
			continue;
		struct policy p = policy_of_ref(ref);
		if (!is_original_dst(ref, &p) && !is_dynamic(ref))
			endpoints_emit(c, ref);
	}
}
