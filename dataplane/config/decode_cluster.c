/* Cluster: balancing, limits, outlier detection, connection settings (features.md DR). */
#include "dataplane/config/config_priv.h"

#define CONNECT_TIMEOUT_US 10000000ull
#define IDLE_US 3600000000ull
#define OUTLIER_INTERVAL_US 10000000ull
#define OUTLIER_BASE_US 30000000ull
#define OUTLIER_MAX_US 300000000ull
#define OUTLIER_PERCENT 10u
#define KEEPALIVE_PROBES_MAX 127u /* as Linux's TCP_KEEPCNT */

static void decode_breaker(const Foil__Conf__CircuitBreaker *m, struct mesh_circuit_breaker *out)
{
	*out = (struct mesh_circuit_breaker){MESH_UNLIMITED, MESH_UNLIMITED, MESH_UNLIMITED, MESH_UNLIMITED};
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
	c->tcp_keepalive_probes = m->tcp_keepalive_probes;
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

static enum mesh_lb lb_of(Foil__Conf__LbPolicy lb)
{
	switch (lb) {
	case FOIL__CONF__LB_POLICY__LB_ROUND_ROBIN: return MESH_LB_ROUND_ROBIN;
	case FOIL__CONF__LB_POLICY__LB_RANDOM: return MESH_LB_RANDOM;
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
	return 0;
}
