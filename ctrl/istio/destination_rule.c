/* The field tables of DestinationRule (features.md DR-1..DR-50). */
#include "ctrl/istio/rows.h"

#include <stdio.h>
#include <string.h>

/* ---- pools ---- */

static const struct istio_field keepalive_rows[] = {
	ROW(tcp_keepalive, probes, "probes", F_INT, .min = 0, .max = 127),
	ROW(tcp_keepalive, time, "time", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(tcp_keepalive, interval, "interval", F_DURATION, .min = 0, .max = DURATION_US_MAX),
};
const struct istio_table istio_table_tcp_keepalive = TABLE(tcp_keepalive, "TcpKeepalive", keepalive_rows);

static const struct istio_field pool_tcp_rows[] = {
	ROW(pool_tcp, max_connections, "maxConnections", F_INT, .min = 0, .max = INT32_MAX_ROW),
	ROW(pool_tcp, connect_timeout, "connectTimeout", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW(pool_tcp, keepalive, "tcpKeepalive", F_OBJECT, .table = &istio_table_tcp_keepalive),
	ROW(pool_tcp, max_connection_duration, "maxConnectionDuration", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW(pool_tcp, idle_timeout, "idleTimeout", F_DURATION, .min = 0, .max = DURATION_US_MAX),
};
static const struct istio_table table_pool_tcp = TABLE(pool_tcp, "ConnectionPoolSettings.TCPSettings", pool_tcp_rows);

static const struct istio_field h2_keepalive_rows[] = {
	ROW(h2_keepalive, interval, "interval", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW(h2_keepalive, timeout, "timeout", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
};

static void check_h2_keepalive(struct istio_decode *d, void *object)
{
	struct h2_keepalive *k = object;

	if (k->interval.is_set != k->timeout.is_set)
		istio_decode_error(d, "IST0106", &k->head, k->interval.is_set ? "timeout" : "interval", "interval and timeout go together");
}

static const struct istio_table table_h2_keepalive = TABLE(h2_keepalive, "ConnectionPoolSettings.HTTPSettings.HTTP2KeepAliveSettings", h2_keepalive_rows,
							   .check = check_h2_keepalive);
static const char *const h2_words[] = {"DEFAULT", "DO_NOT_UPGRADE", "UPGRADE", NULL};
static const struct istio_field pool_http_rows[] = {
	ROW(pool_http, max_pending, "http1MaxPendingRequests", F_INT, .min = 0, .max = INT32_MAX_ROW),
	ROW(pool_http, max_requests, "http2MaxRequests", F_INT, .min = 0, .max = INT32_MAX_ROW),
	ROW(pool_http, max_requests_per_connection, "maxRequestsPerConnection", F_INT, .min = 0, .max = INT32_MAX_ROW),
	ROW(pool_http, max_retries, "maxRetries", F_INT, .min = 0, .max = INT32_MAX_ROW),
	ROW(pool_http, idle_timeout, "idleTimeout", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(pool_http, h2_upgrade, "h2UpgradePolicy", F_ENUM, .words = h2_words),
	ROW(pool_http, use_client_protocol, "useClientProtocol", F_BOOL),
	ROW(pool_http, max_concurrent_streams, "maxConcurrentStreams", F_INT, .min = 0, .max = INT32_MAX_ROW),
	ROW(pool_http, keepalive, "http2KeepAlive", F_OBJECT, .table = &table_h2_keepalive),
};

static void check_pool_http(struct istio_decode *d, void *object)
{
	struct pool_http *h = object;

	if (h->use_client_protocol.is_true && h->h2_upgrade.value == H2_UPGRADE_YES)
		istio_decode_error(d, "IST0106", &h->head, "useClientProtocol", "goes not with h2UpgradePolicy: UPGRADE");
}

static const struct istio_table table_pool_http = TABLE(pool_http, "ConnectionPoolSettings.HTTPSettings", pool_http_rows, .check = check_pool_http);

static const struct istio_field connection_pool_rows[] = {
	ROW(connection_pool, tcp, "tcp", F_OBJECT, .table = &table_pool_tcp),
	ROW(connection_pool, http, "http", F_OBJECT, .table = &table_pool_http),
};
static const struct istio_table table_connection_pool = TABLE(connection_pool, "ConnectionPoolSettings", connection_pool_rows);

/* ---- outliers ---- */

static const struct istio_field outlier_rows[] = {
	ROW_NOTED(outlier, consecutive_errors, "consecutiveErrors", F_INT, "deprecated: read as consecutiveGatewayErrors; write consecutive5xxErrors",
		  .min = 0, .max = INT32_MAX_ROW),
	ROW(outlier, split, "splitExternalLocalOriginErrors", F_BOOL),
	ROW(outlier, local_origin_failures, "consecutiveLocalOriginFailures", F_INT, .min = 0, .max = UINT32_MAX),
	ROW(outlier, gateway_errors, "consecutiveGatewayErrors", F_INT, .min = 0, .max = UINT32_MAX),
	ROW(outlier, consecutive_5xx, "consecutive5xxErrors", F_INT, .min = 0, .max = UINT32_MAX),
	ROW(outlier, interval, "interval", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW(outlier, base_ejection, "baseEjectionTime", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW(outlier, max_ejection_percent, "maxEjectionPercent", F_INT, .min = 0, .max = 100),
	ROW(outlier, min_health, "minHealthPercent", F_INT, .min = 0, .max = 100),
	ROW(outlier, error_codes, "outlierDetectionHttpErrorCodes", F_INTS, .min = 100, .max = 599),
};

static void check_outlier(struct istio_decode *d, void *object)
{
	struct outlier *o = object;

	if (o->local_origin_failures.is_set && !o->split.is_true)
		istio_decode_warning(d, "HF0007", &o->head, "consecutiveLocalOriginFailures", "has no effect unless splitExternalLocalOriginErrors is true");
	if (o->gateway_errors.value && o->consecutive_5xx.is_set && o->consecutive_5xx.value && o->gateway_errors.value >= o->consecutive_5xx.value)
		istio_decode_warning(d, "HF0007", &o->head, "consecutiveGatewayErrors", "has no effect: consecutive5xxErrors is reached first");
}

static const struct istio_table table_outlier = TABLE(outlier, "OutlierDetection", outlier_rows, .check = check_outlier);

/* ---- TLS towards the destination ---- */

static const char *const client_tls_words[] = {"DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL", NULL};
static const struct istio_field client_tls_rows[] = {
	ROW(client_tls, mode, "mode", F_ENUM, .words = client_tls_words),
	ROW(client_tls, client_certificate, "clientCertificate", F_STRING),
	ROW(client_tls, private_key, "privateKey", F_STRING),
	ROW(client_tls, ca_certificates, "caCertificates", F_STRING),
	ROW(client_tls, credential_name, "credentialName", F_STRING),
	ROW(client_tls, subject_alt_names, "subjectAltNames", F_STRINGS, .min = 0, .max = 1024),
	ROW(client_tls, sni, "sni", F_STRING, .min = 0, .max = 255),
	ROW(client_tls, skip_verify, "insecureSkipVerify", F_BOOL),
	ROW(client_tls, ca_crl, "caCrl", F_STRING),
};
static const struct istio_table table_client_tls = TABLE(client_tls, "ClientTLSSettings", client_tls_rows);

/* ---- policies ---- */

static const char *const proxy_version_words[] = {"V1", "V2", NULL};
static const struct istio_field proxy_protocol_rows[] = {ROW(proxy_protocol, version, "version", F_ENUM, .words = proxy_version_words)};
static const struct istio_table table_proxy_protocol = TABLE(proxy_protocol, "TrafficPolicy.ProxyProtocol", proxy_protocol_rows);
static const struct istio_field retry_budget_rows[] = {
	ROW(retry_budget, percent, "percent", F_DOUBLE, .min = 0, .max = 100),
	ROW(retry_budget, min_concurrency, "minRetryConcurrency", F_INT, .min = 0, .max = UINT32_MAX),
	ROW(retry_budget, interval, "budgetInterval", F_DURATION, .min = 0, .max = DURATION_US_MAX),
};
static const struct istio_table table_retry_budget = TABLE(retry_budget, "TrafficPolicy.RetryBudget", retry_budget_rows);
static const struct istio_field port_level_rows[] = {
	ROW(traffic_policy, port, "port", F_OBJECT, .table = &istio_table_port_selector),
	ROW(traffic_policy, load_balancer, "loadBalancer", F_OBJECT, .table = &istio_table_load_balancer),
	ROW(traffic_policy, connection_pool, "connectionPool", F_OBJECT, .table = &table_connection_pool),
	ROW(traffic_policy, outlier, "outlierDetection", F_OBJECT, .table = &table_outlier),
	ROW(traffic_policy, tls, "tls", F_OBJECT, .table = &table_client_tls),
	ROW(traffic_policy, health_check, "healthCheck" /* ours */, F_OBJECT, .table = &istio_table_health_check),
};

static void check_port_level(struct istio_decode *d, void *object)
{
	struct traffic_policy *p = object;

	if (!p->port || p->port->number.value == 0)
		istio_decode_error(d, "IST0106", &p->head, "port", "a port-level setting needs port: {number: N}");
}

static const struct istio_table table_port_level = TABLE(traffic_policy, "PortTrafficPolicy", port_level_rows, .check = check_port_level);

static const struct istio_field policy_rows[] = {
	ROW(traffic_policy, load_balancer, "loadBalancer", F_OBJECT, .table = &istio_table_load_balancer),
	ROW(traffic_policy, connection_pool, "connectionPool", F_OBJECT, .table = &table_connection_pool),
	ROW(traffic_policy, outlier, "outlierDetection", F_OBJECT, .table = &table_outlier),
	ROW(traffic_policy, tls, "tls", F_OBJECT, .table = &table_client_tls),
	ROW(traffic_policy, health_check, "healthCheck" /* ours */, F_OBJECT, .table = &istio_table_health_check),
	ROW(traffic_policy, port_level, "portLevelSettings", F_OBJECTS, .table = &table_port_level, .min = 0, .max = 4096),
	ROW_REFUSED("tunnel", "no CONNECT tunnel is made towards a destination"),
	ROW(traffic_policy, proxy_protocol, "proxyProtocol", F_OBJECT, .table = &table_proxy_protocol),
	ROW(traffic_policy, retry_budget, "retryBudget", F_OBJECT, .table = &table_retry_budget),
};

static void check_port_twice(struct istio_decode *d, const struct traffic_policy *p)
{
	struct istio_map ports = {0};
	char field[64];
	bool is_new;

	for (uint32_t i = 0; i < p->port_level.n; i++) {
		const struct traffic_policy *one = ISTIO_ITEM(p->port_level, struct traffic_policy, i);
		uint32_t number = one->port ? (uint32_t)one->port->number.value : 0;
		(void)istio_map_put(d->arena, &ports, istio_arena_printf(d->arena, "%u", number), &is_new);
		(void)snprintf(field, sizeof(field), "portLevelSettings[%u].port", i); /* it fits */
		if (!is_new && number)
			istio_decode_error(d, "IST0106", &p->head, field, "port %u has settings already", number);
	}
}

static void check_policy(struct istio_decode *d, void *object)
{
	struct traffic_policy *p = object;

	check_port_twice(d, p);
}

static const struct istio_table table_policy = TABLE(traffic_policy, "TrafficPolicy", policy_rows, .check = check_policy);

/* MeshConfig's, for every destination that has no block of its own (DR-3). */
static const struct istio_field default_policy_rows[] = {
	ROW(traffic_policy, connection_pool, "connectionPool", F_OBJECT, .table = &table_connection_pool),
	ROW(traffic_policy, outlier, "outlierDetection", F_OBJECT, .table = &table_outlier),
};
const struct istio_table istio_table_default_policy = TABLE(traffic_policy, "MeshConfig.DefaultTrafficPolicy", default_policy_rows);

static const struct istio_field subset_rows[] = {
	ROW(subset, name, "name", F_STRING, .min = 1, .max = 63),
	ROW(subset, labels, "labels", F_STRING_MAP),
	ROW(subset, policy, "trafficPolicy", F_OBJECT, .table = &table_policy),
};

static void check_subset(struct istio_decode *d, void *object)
{
	struct subset *s = object;

	if (!s->name)
		istio_decode_error(d, "IST0106", &s->head, "name", "a subset needs a name");
	else if (!istio_is_label(s->name))
		istio_decode_error(d, "IST0106", &s->head, "name", "\"%.80s\" is not a name of at most 63 letters, digits and dashes", s->name);
}

static const struct istio_table table_subset = TABLE(subset, "Subset", subset_rows, .check = check_subset);

/* A rule for some clients is for those of its own namespace, as istiod's validation has it. */
static void check_selected(struct istio_decode *d, const struct destination_rule *r)
{
	for (uint32_t i = 0; r->selector && i < r->export_to.n; i++)
		if (strcmp(r->export_to.list[i], ".") != 0 && strcmp(r->export_to.list[i], d->fallback_namespace) != 0)
			istio_decode_error(d, "IST0106", &r->head, "exportTo", "a rule with a workloadSelector is for clients of its own namespace: write .");
}

static void check_destination_rule(struct istio_decode *d, void *object)
{
	struct destination_rule *r = object;

	if (!r->host || !istio_is_host(r->host, true))
		istio_decode_error(d, "IST0106", &r->head, "host", r->host ? "\"%.80s\" is not a host" : "a DestinationRule needs a host", r->host);
	check_selected(d, r);
	struct istio_map names = {0};
	char field[48];
	bool is_new;
	for (uint32_t i = 0; i < r->subsets.n; i++) {
		const char *name = ISTIO_ITEM(r->subsets, struct subset, i)->name;
		(void)snprintf(field, sizeof(field), "subsets[%u].name", i); /* it fits */
		(void)istio_map_put(d->arena, &names, name, &is_new);
		if (!is_new)
			istio_decode_error(d, "IST0106", &r->head, field, "a second subset named \"%.80s\"", name);
	}
}

static const struct istio_field destination_rule_rows[] = {
	ROW(destination_rule, host, "host", F_STRING),
	ROW(destination_rule, policy, "trafficPolicy", F_OBJECT, .table = &table_policy),
	ROW(destination_rule, subsets, "subsets", F_OBJECTS, .table = &table_subset, .min = 0, .max = 4096),
	ROW(destination_rule, export_to, "exportTo", F_STRINGS),
	ROW(destination_rule, selector, "workloadSelector", F_OBJECT, .table = &istio_table_match_labels),
};
const struct istio_table istio_table_destination_rule =
	TABLE(destination_rule, "DestinationRule", destination_rule_rows, .check = check_destination_rule);
