/* Cluster: balancing, limits, outlier detection, connection settings (features.md DR). */
#include "dataplane/config/config_priv.h"

#include <math.h>

#define CONNECT_TIMEOUT_US 10000000ull
#define IDLE_US 3600000000ull
#define OUTLIER_INTERVAL_US 10000000ull
#define OUTLIER_BASE_US 30000000ull
#define OUTLIER_MAX_US 300000000ull
#define OUTLIER_PERCENT 10u
#define KEEPALIVE_PROBES_MAX 127u /* as Linux's TCP_KEEPCNT */

static void decode_breaker(const Foil__Conf__CircuitBreaker *m, struct mesh_circuit_breaker *out)
{
	*out = (struct mesh_circuit_breaker){
		.max_connections = MESH_UNLIMITED, .max_pending_requests = MESH_UNLIMITED, .max_requests = MESH_UNLIMITED, .max_retries = MESH_UNLIMITED,
	};
	if (!m)
		return;
	if (m->has_max_connections)
		out->max_connections = m->max_connections;
	if (m->has_max_pending_requests)
		out->max_pending_requests = m->max_pending_requests;
	if (m->has_max_requests)
		out->max_requests = m->max_requests;
	if (m->has_max_retries)
		out->max_retries = m->max_retries;
	if (!m->has_retry_budget_permille)
		return;
	out->has_retry_budget = true;
	out->max_retries = 0; /* a limit all the same: the budget is asked */
	out->retry_budget_permille = FOIL_MIN(m->retry_budget_permille, 1000u);
	out->retry_budget_min = m->retry_budget_min;
	out->retry_budget_interval_us = FOIL_MIN(m->retry_budget_interval_us, SNAP_DURATION_US_MAX);
}

static int decode_outlier_times(struct snap_dec *d, const Foil__Conf__OutlierDetection *m, struct mesh_outlier *own)
{
	int rc = snap_duration(d, "interval_us", m->has_interval_us, m->interval_us, OUTLIER_INTERVAL_US, &own->interval_us);
	if (rc == 0)
		rc = snap_duration(d, "base_ejection_us", m->has_base_ejection_us, m->base_ejection_us, OUTLIER_BASE_US, &own->base_ejection_us);
	if (rc == 0)
		rc = snap_duration(d, "max_ejection_us", m->has_max_ejection_us, m->max_ejection_us, FOIL_MAX(OUTLIER_MAX_US, own->base_ejection_us),
				   &own->max_ejection_us);
	if (rc == 0 && own->interval_us == 0)
		rc = snap_fail(d, "interval_us", "is 0; must be at least 1");
	if (rc == 0 && own->max_ejection_us < own->base_ejection_us)
		rc = snap_fail(d, "max_ejection_us", "is less than base_ejection_us");
	return rc;
}

static int decode_outlier(struct snap_dec *d, const Foil__Conf__OutlierDetection *m, const struct mesh_outlier **out)
{
	if (!m)
		return 0;
	uint16_t mark = snap_enter(d, "outlier", -1);
	struct mesh_outlier *own = foil_blob_alloc(d->b, sizeof(*own));
	if (!own)
		return snap_no_memory(d);
	own->consecutive_5xx = m->consecutive_5xx;
	own->consecutive_gateway_errors = m->consecutive_gateway_errors;
	own->consecutive_local_origin_failures = m->consecutive_local_origin_failures;
	own->split_external_local_origin = m->split_external_local_origin;
	own->probes = m->probes;
	own->max_ejection_percent = m->has_max_ejection_percent ? m->max_ejection_percent : OUTLIER_PERCENT;
	int rc = decode_outlier_times(d, m, own);
	if (rc == 0)
		rc = snap_range(d, "max_ejection_percent", own->max_ejection_percent, 0, 100);
	if (rc == 0)
		rc = snap_statuses(d, "error_codes", m->error_codes, m->n_error_codes, &own->error_codes, &own->n_error_codes);
	if (rc < 0)
		return rc;
	*out = own;
	snap_leave(d, mark);
	return 0;
}

static enum proxy_header_version proxy_protocol_of(Foil__Conf__ProxyProtocol p)
{
	switch (p) {
	case FOIL__CONF__PROXY_PROTOCOL__PROXY_PROTOCOL_V1: return PROXY_HEADER_V1;
	case FOIL__CONF__PROXY_PROTOCOL__PROXY_PROTOCOL_V2: return PROXY_HEADER_V2;
	default: return PROXY_HEADER_NONE; /* the scan has refused every other number */
	}
}

static int decode_connection(struct snap_dec *d, const Foil__Conf__Cluster *m, struct mesh_cluster *c)
{
	int rc = snap_duration(d, "connect_timeout_us", m->has_connect_timeout_us, m->connect_timeout_us, CONNECT_TIMEOUT_US, &c->connect_timeout_us);
	if (rc == 0 && c->connect_timeout_us == 0)
		rc = snap_fail(d, "connect_timeout_us", "is 0; must be at least 1");
	if (rc == 0)
		rc = snap_duration(d, "idle_timeout_us", m->has_idle_timeout_us, m->idle_timeout_us, IDLE_US, &c->idle_timeout_us);
	if (rc == 0)
		rc = snap_duration(d, "max_connection_duration_us", true, m->max_connection_duration_us, 0, &c->max_connection_duration_us);
	if (rc == 0)
		rc = snap_duration(d, "tcp_keepalive_idle_us", true, m->tcp_keepalive_idle_us, 0, &c->tcp_keepalive_idle_us);
	if (rc == 0)
		rc = snap_duration(d, "tcp_keepalive_interval_us", true, m->tcp_keepalive_interval_us, 0, &c->tcp_keepalive_interval_us);
	if (rc == 0)
		rc = snap_range(d, "tcp_keepalive_probes", m->tcp_keepalive_probes, 0, KEEPALIVE_PROBES_MAX);
	if (rc == 0)
		rc = snap_duration(d, "h2_ping_interval_us", true, m->h2_ping_interval_us, 0, &c->h2_ping_interval_us);
	if (rc == 0)
		rc = snap_duration(d, "h2_ping_timeout_us", true, m->h2_ping_timeout_us, 0, &c->h2_ping_timeout_us);
	if (rc == 0 && c->h2_ping_interval_us && !c->h2_ping_timeout_us)
		rc = snap_fail(d, "h2_ping_timeout_us", "is 0 where h2_ping_interval_us is not");
	c->tcp_keepalive_probes = m->tcp_keepalive_probes;
	c->buffer_bytes = m->buffer_bytes;
	c->max_concurrent_streams = m->max_concurrent_streams;
	c->uses_client_protocol = m->use_client_protocol;
	if (rc == 0 && m->use_client_protocol && m->tls)
		rc = snap_fail(d, "use_client_protocol", "goes with no tls: its handshake offers what the cluster speaks");
	c->proxy_protocol = proxy_protocol_of(m->proxy_protocol);
	c->max_requests_per_connection = m->max_requests_per_connection;
	return rc;
}

static int decode_service(struct snap_dec *d, const Foil__Conf__Cluster *m, struct tele_service *out)
{
	int rc = snap_text(d, "service_host", m->service_host, SNAP_TEXT_ANY, &out->host);
	if (rc == 0)
		rc = snap_text(d, "service_name", m->service_name, SNAP_TEXT_ANY, &out->name);
	if (rc == 0)
		rc = snap_text(d, "service_namespace", m->service_namespace, SNAP_TEXT_ANY, &out->ns);
	return rc;
}

/* ---- balancing ---- */
#define WARMUP_PERCENT 10u
#define AGGRESSION_PERMILLE 1000u
#define AGGRESSION_PERMILLE_MAX 1000000u
#define OVERPROVISIONING_PERCENT_MAX 10000u
#define MAGLEV_TABLE_SIZE_MAX 5000011u /* Envoy's bound */

static bool is_prime(uint32_t n)
{
	if (n < 4)
		return n > 1;
	if (n % 2 == 0)
		return false;
	for (uint32_t i = 3; (uint64_t)i * i <= n; i += 2)
		if (n % i == 0)
			return false;
	return true;
}

/* Envoy's formula, with the time in MESH_SLOW_START_STEPS steps. */
static void fill_shares(struct mesh_slow_start *s, uint32_t aggression_permille, uint32_t min_percent)
{
	const uint32_t least = MESH_SLOW_START_FULL * min_percent / 100;

	for (uint32_t i = 0; i <= MESH_SLOW_START_STEPS; i++) {
		uint32_t share = i * (MESH_SLOW_START_FULL / MESH_SLOW_START_STEPS);
		if (aggression_permille != AGGRESSION_PERMILLE)
			share = (uint32_t)(MESH_SLOW_START_FULL * pow((double)i / MESH_SLOW_START_STEPS, 1000.0 / aggression_permille));
		s->share[i] = FOIL_MAX(FOIL_MAX(share, least), 1u);
	}
}

static int decode_slow_start(struct snap_dec *d, const Foil__Conf__SlowStart *m, const struct mesh_slow_start **out)
{
	if (!m)
		return 0;
	uint16_t mark = snap_enter(d, "slow_start", -1);
	uint32_t aggression = m->has_aggression_permille ? m->aggression_permille : AGGRESSION_PERMILLE;
	uint32_t percent = m->has_min_weight_percent ? m->min_weight_percent : WARMUP_PERCENT;
	struct mesh_slow_start *own = foil_blob_alloc(d->b, sizeof(*own));
	if (!own)
		return snap_no_memory(d);
	int rc = snap_duration(d, "window_us", true, m->window_us, 0, &own->window_us);
	if (rc == 0 && own->window_us == 0)
		rc = snap_fail(d, "window_us", "is 0; must be at least 1");
	if (rc == 0)
		rc = snap_range(d, "aggression_permille", aggression, 1, AGGRESSION_PERMILLE_MAX);
	if (rc == 0)
		rc = snap_range(d, "min_weight_percent", percent, 0, 100);
	if (rc < 0)
		return rc;
	fill_shares(own, aggression, percent);
	*out = own;
	snap_leave(d, mark);
	return 0;
}

static int decode_balancing(struct snap_dec *d, const Foil__Conf__Cluster *m, struct mesh_cluster *c)
{
	c->ring_size_min = m->has_ring_size_min ? m->ring_size_min : MESH_RING_SIZE_MIN;
	c->ring_size_max = m->has_ring_size_max ? m->ring_size_max : MESH_RING_SIZE_MAX;
	c->maglev_table_size = m->has_maglev_table_size ? m->maglev_table_size : MESH_MAGLEV_TABLE_SIZE;
	c->overprovisioning_percent = m->has_overprovisioning_percent ? m->overprovisioning_percent : MESH_OVERPROVISIONING_PERCENT;
	int rc = snap_range(d, "ring_size_max", c->ring_size_max, 1, MESH_RING_SIZE_MAX);
	if (rc == 0)
		rc = snap_range(d, "ring_size_min", c->ring_size_min, 1, c->ring_size_max);
	if (rc == 0)
		rc = snap_range(d, "maglev_table_size", c->maglev_table_size, 2, MAGLEV_TABLE_SIZE_MAX);
	if (rc == 0 && !is_prime(c->maglev_table_size))
		rc = snap_fail(d, "maglev_table_size", "is %u; must be a prime number", c->maglev_table_size);
	if (rc == 0)
		rc = snap_range(d, "overprovisioning_percent", c->overprovisioning_percent, 100, OVERPROVISIONING_PERCENT_MAX);
	return rc ? rc : decode_slow_start(d, m->slow_start, &c->slow_start);
}

static enum mesh_lb lb_of(Foil__Conf__LbPolicy lb)
{
	switch (lb) {
	case FOIL__CONF__LB_POLICY__LB_ROUND_ROBIN: return MESH_LB_ROUND_ROBIN;
	case FOIL__CONF__LB_POLICY__LB_RANDOM: return MESH_LB_RANDOM;
	case FOIL__CONF__LB_POLICY__LB_RING_HASH: return MESH_LB_RING_HASH;
	case FOIL__CONF__LB_POLICY__LB_MAGLEV: return MESH_LB_MAGLEV;
	case FOIL__CONF__LB_POLICY__LB_LEAST_LATENCY: return MESH_LB_LEAST_LATENCY;
	default: return MESH_LB_LEAST_REQUEST; /* the scan has refused every other number */
	}
}

static enum mesh_upstream_protocol protocol_of(Foil__Conf__UpstreamProtocol p)
{
	switch (p) {
	case FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP2: return MESH_UPSTREAM_HTTP2;
	case FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_TCP: return MESH_UPSTREAM_TCP;
	default: return MESH_UPSTREAM_HTTP1;
	}
}

/* Balancing, breakers and counts know one host of such a cluster, whatever the number of places that clients go to or name. */
static int decode_original(struct snap_dec *d, struct mesh_cluster *c)
{
	struct mesh_endpoints *all = foil_blob_alloc(d->b, sizeof(*all));
	struct mesh_endpoint *one = foil_blob_alloc(d->b, sizeof(*one));

	if (!all || !one)
		return snap_no_memory(d);
	*one = (struct mesh_endpoint){.weight = 1};
	*all = (struct mesh_endpoints){.cluster_slot = c->slot, .endpoints = one, .n_endpoints = 1, .n_priorities = 1};
	c->original = all;
	c->lb = MESH_LB_LEAST_REQUEST;
	c->slow_start = NULL;
	return 0;
}

static int decode_dynamic(struct snap_dec *d, const Foil__Conf__Cluster *m, struct mesh_cluster *c)
{
	int rc = snap_range(d, "dynamic_port", m->dynamic_port, 0, UINT16_MAX);

	c->dynamic_port = (uint16_t)m->dynamic_port;
	if (rc == 0 && m->is_original_dst)
		rc = snap_fail(d, "is_dynamic", "goes with no is_original_dst");
	if (rc == 0 && c->proxy_protocol != PROXY_HEADER_NONE)
		rc = snap_fail(d, "is_dynamic", "goes with no proxy_protocol");
	return rc;
}

int snap_decode_cluster(struct snap_dec *d, const ProtobufCMessage *message, void *own)
{
	const Foil__Conf__Cluster *m = (const Foil__Conf__Cluster *)message;
	struct mesh_cluster *c = own;
	struct foil_slice name;
	int rc = snap_own_name(d, "name", m->name);
	if (rc == 0)
		rc = snap_cluster_ref(d, "name", m->name, &name, &c->slot);
	if (rc == 0)
		rc = decode_connection(d, m, c);
	if (rc == 0)
		rc = decode_outlier(d, m->outlier, &c->outlier);
	if (rc == 0)
		rc = snap_range(d, "panic_threshold_percent", m->panic_threshold_percent, 0, 100);
	if (rc == 0)
		rc = decode_balancing(d, m, c);
	if (rc == 0)
		rc = decode_service(d, m, &c->service);
	if (rc == 0)
		rc = snap_decode_upstream_tls(d, m->tls, &c->tls);
	if (rc == 0)
		rc = snap_source(d, m->source, &c->source);
	if (rc < 0)
		return rc;
	decode_breaker(m->circuit_breaker, &c->breaker);
	c->lb = lb_of(m->lb);
	c->protocol = protocol_of(m->protocol);
	c->panic_threshold_percent = m->panic_threshold_percent;
	c->is_original_dst = m->is_original_dst;
	c->is_dynamic = m->is_dynamic;
	if (c->is_dynamic)
		rc = decode_dynamic(d, m, c);
	return rc == 0 && (c->is_original_dst || c->is_dynamic) ? decode_original(d, c) : rc;
}
