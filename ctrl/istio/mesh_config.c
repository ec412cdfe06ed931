/* The field tables of MeshConfig (ConfigMap istio of the root namespace, key mesh) and of what is read of ProxyConfig: features.md CFG-9, HD-8, GW-16.
 * Rows in the API's order. What is IGNORED concerns istiod, sidecars or tracing and telemetry of later issues. */
#include "ctrl/istio/format.h"
#include "ctrl/istio/rows.h"

#include "dataplane/core/error.h"

#include <string.h>

const char *const istio_outbound_words[] = {"REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS", NULL};
static const struct istio_field outbound_rows[] = {
	ROW(outbound_policy, mode, "mode", F_ENUM, .words = istio_outbound_words),
	ROW_REFUSED("tls", "what goes to hosts that nobody described goes as it came"),
};
static const struct istio_table table_outbound = TABLE(outbound_policy, "OutboundTrafficPolicy", outbound_rows);

static const char *const normalization_words[] = {"DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES", NULL};
static const struct istio_field normalization_rows[] = {ROW(path_normalization, normalization, "normalization", F_ENUM, .words = normalization_words)};
static const struct istio_table table_normalization = TABLE(path_normalization, "ProxyPathNormalization", normalization_rows);

static const char *const xfcc_words[] = {"UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY", NULL};
static const struct istio_table table_topology_proxy = {.what = "Topology.ProxyProtocolConfiguration", .size = sizeof(struct proxy_protocol)};
static const struct istio_field topology_rows[] = {
	ROW(gateway_topology, num_trusted_proxies, "numTrustedProxies", F_INT, .min = 0, .max = 100),
	ROW(gateway_topology, forward_client_cert, "forwardClientCertDetails", F_ENUM, .words = xfcc_words),
	ROW(gateway_topology, proxy_protocol, "proxyProtocol", F_OBJECT, .table = &table_topology_proxy),
};
static const struct istio_table table_topology = TABLE(gateway_topology, "Topology", topology_rows);

static const struct istio_field switch_rows[] = {
	ROW(header_switch, disabled, "disabled", F_BOOL),
	ROW(header_switch, enabled, "enabled", F_BOOL),
	ROW(header_switch, value, "value", F_STRING, .min = 0, .max = 256),
};
static const struct istio_table table_switch = TABLE(header_switch, "ProxyHeaders", switch_rows);
static const struct istio_field client_cert_rows[] = {
	ROW(client_cert_details, subject, "subject", F_BOOL),
	ROW(client_cert_details, cert, "cert", F_BOOL),
	ROW_REFUSED("chain", "the client's chain is not kept; take cert"),
	ROW(client_cert_details, dns, "dns", F_BOOL),
	ROW(client_cert_details, uri, "uri", F_BOOL),
};
static const struct istio_table table_client_cert = TABLE(client_cert_details, "SetCurrentClientCertDetails", client_cert_rows);
static const struct istio_field proxy_headers_rows[] = {
	ROW(proxy_headers, forwarded_client_cert, "forwardedClientCert", F_ENUM, .words = xfcc_words),
	ROW(proxy_headers, client_cert_details, "setCurrentClientCertDetails", F_OBJECT, .table = &table_client_cert),
	ROW(proxy_headers, request_id, "requestId", F_OBJECT, .table = &table_switch),
	ROW(proxy_headers, server, "server", F_OBJECT, .table = &table_switch),
	ROW(proxy_headers, attempt_count, "attemptCount", F_OBJECT, .table = &table_switch),
	ROW(proxy_headers, envoy_debug_headers, "envoyDebugHeaders", F_OBJECT, .table = &table_switch),
	ROW_IGNORED("metadataExchangeHeaders", "none are sent"),
	ROW(proxy_headers, preserve_case, "preserveHttp1HeaderCase", F_BOOL),
	ROW(proxy_headers, x_forwarded_host, "xForwardedHost", F_OBJECT, .table = &table_switch),
	ROW(proxy_headers, x_forwarded_port, "xForwardedPort", F_OBJECT, .table = &table_switch),
};
static const struct istio_table table_proxy_headers = TABLE(proxy_headers, "ProxyHeaders", proxy_headers_rows);

static const char *const profile_words[] = {"SIDECAR", "EDGE", NULL};
static const char *const underscores_words[] = {"HEADERS_WITH_UNDERSCORES_UNSPECIFIED", "HEADERS_WITH_UNDERSCORES_ALLOW",
						"HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
						"HEADERS_WITH_UNDERSCORES_DROP_HEADER", NULL};
static const char *const slashes_words[] = {"PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED", "KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT",
					    "UNESCAPE_AND_FORWARD", NULL};
static const struct istio_field connection_rows[] = {
	ROW(connection_settings, profile, "profile", F_ENUM, .words = profile_words),
	ROW(connection_settings, listener_buffer, "listenerPerConnectionBufferLimitBytes", F_INT, .min = 0, .max = INT32_MAX_ROW),
	ROW(connection_settings, cluster_buffer, "clusterPerConnectionBufferLimitBytes", F_INT, .min = 0, .max = INT32_MAX_ROW),
	ROW(connection_settings, idle, "httpIdleTimeout", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(connection_settings, max_connection_duration, "httpMaxConnectionDuration", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(connection_settings, drain, "httpDrainTimeout", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(connection_settings, request, "httpRequestTimeout", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(connection_settings, request_headers, "httpRequestHeadersTimeout", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(connection_settings, stream_idle, "httpStreamIdleTimeout", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(connection_settings, max_stream_duration, "httpMaxStreamDuration", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(connection_settings, max_streams, "httpMaxConcurrentStreams", F_INT, .min = 1, .max = INT32_MAX_ROW),
	ROW(connection_settings, stream_window, "http2InitialStreamWindowSize", F_INT, .min = 65535, .max = INT32_MAX_ROW),
	ROW(connection_settings, connection_window, "http2InitialConnectionWindowSize", F_INT, .min = 65535, .max = INT32_MAX_ROW),
	ROW(connection_settings, underscores, "httpHeadersWithUnderscoresAction", F_ENUM, .words = underscores_words),
	ROW(connection_settings, merge_slashes, "httpMergeSlashes", F_BOOL),
	ROW(connection_settings, escaped_slashes, "httpPathWithEscapedSlashesAction", F_ENUM, .words = slashes_words),
	ROW(connection_settings, listener_connections, "listenerConnectionLimit", F_INT, .min = 1, .max = INT32_MAX_ROW),
	ROW(connection_settings, node_connections, "globalDownstreamConnectionLimit", F_INT, .min = 1, .max = INT32_MAX_ROW),
};
static const struct istio_table table_connection = TABLE(connection_settings, "ConnectionSettings", connection_rows);

static const char envoy_note[] = "of the Envoy process or of istio-agent";
static const struct istio_field proxy_rows[] = {
	ROW(proxy_config, topology, "gatewayTopology", F_OBJECT, .table = &table_topology),
	ROW(proxy_config, headers, "proxyHeaders", F_OBJECT, .table = &table_proxy_headers),
	ROW(proxy_config, drain_duration, "drainDuration", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW(proxy_config, environment, "proxyMetadata", F_STRING_MAP),
	ROW_IGNORED("configPath", envoy_note),
	ROW_IGNORED("binaryPath", envoy_note),
	ROW_IGNORED("serviceCluster", envoy_note),
	ROW_IGNORED("tracingServiceName", envoy_note),
	ROW_IGNORED("discoveryAddress", envoy_note),
	ROW_IGNORED("proxyAdminPort", envoy_note),
	ROW_IGNORED("controlPlaneAuthPolicy", envoy_note),
	ROW_IGNORED("customConfigFile", envoy_note),
	ROW_IGNORED("statNameLength", envoy_note),
	ROW_IGNORED("concurrency", "the node file says how many workers there are"),
	ROW_IGNORED("proxyBootstrapTemplatePath", envoy_note),
	ROW_IGNORED("interceptionMode", envoy_note),
	ROW_IGNORED("tracing", "no spans are sent"),
	ROW_IGNORED("envoyAccessLogService", "the access log is a file"),
	ROW_IGNORED("envoyMetricsService", "metrics are scraped"),
	ROW_IGNORED("statusPort", "the agent serves 15021"),
	ROW_IGNORED("extraStatTags", envoy_note),
	ROW_IGNORED("terminationDrainDuration", "the node file's drain_s"),
	ROW_IGNORED("meshId", envoy_note),
	ROW_IGNORED("readinessProbe", envoy_note),
	ROW_IGNORED("proxyStatsMatcher", "all metrics are there"),
	ROW_IGNORED("holdApplicationUntilProxyStarts", envoy_note),
	ROW_IGNORED("caCertificatesPem", envoy_note),
	ROW_IGNORED("image", envoy_note),
	ROW_IGNORED("privateKeyProvider", envoy_note),
	ROW_IGNORED("fileFlushInterval", envoy_note),
	ROW_IGNORED("fileFlushMinSizeKb", envoy_note),
	ROW_IGNORED("statsCompression", envoy_note),
	ROW_IGNORED("runtimeValues", envoy_note),
	ROW_IGNORED("zipkinAddress", "no spans are sent"),
	ROW_IGNORED("availabilityZone", "an endpoint's locality says it"),
	ROW(proxy_config, connection_settings, "connectionSettings", F_OBJECT, .table = &table_connection),
	ROW_IGNORED("discoveryRefreshDelay", envoy_note),
	ROW_IGNORED("envoyMetricsServiceAddress", "metrics are scraped"),
	ROW_IGNORED("sds", envoy_note),
	ROW_IGNORED("statsdUdpAddress", "metrics are scraped"),
};
static const struct istio_table table_proxy = TABLE(proxy_config, "ProxyConfig", proxy_rows, .is_loose = true);

static const char *const settings_versions[] = {"TLS_AUTO", "TLSV1_2", "TLSV1_3", NULL};
static const struct istio_field settings_rows[] = {
	ROW(tls_settings, min_version, "minProtocolVersion", F_ENUM, .words = settings_versions),
	ROW(tls_settings, cipher_suites, "cipherSuites", F_STRINGS, .min = 0, .max = 64),
	ROW_REFUSED("ecdhCurves", "the groups are X25519, P-256, X448, P-384 and P-521, in this order"),
};
static const struct istio_table table_settings = TABLE(tls_settings, "TLSConfig", settings_rows);
static const struct istio_field ca_certificate_rows[] = {
	ROW(ca_certificate, pem, "pem", F_STRING, .is_free_text = true),
	ROW_REFUSED("spiffeBundleUrl", "nothing is fetched; write the roots as pem"),
	ROW_NOTED(ca_certificate, cert_signers, "certSigners", F_STRINGS, "the roots are trusted whoever signs"),
	ROW_NOTED(ca_certificate, trust_domains, "trustDomains", F_STRINGS, "the roots are trusted for every trust domain of the mesh"),
};
static const struct istio_table table_ca_certificate = TABLE(ca_certificate, "CertificateData", ca_certificate_rows);

static const struct istio_field default_providers_rows[] = {
	ROW(default_providers, access_logging, "accessLogging", F_STRINGS, .min = 0, .max = 16),
	ROW_IGNORED("metrics", "metrics are Istio's standard ones"),
	ROW_IGNORED("tracing", "no spans are sent"),
};

static void check_default_providers(struct istio_decode *d, void *object)
{
	struct default_providers *p = object;

	for (uint32_t i = 0; i < p->access_logging.n; i++)
		if (strcmp(p->access_logging.list[i], "envoy") != 0)
			istio_decode_error(d, "HF0005", &p->head, "accessLogging", "not supported: the provider \"%.80s\"; there is only \"envoy\"",
					   p->access_logging.list[i]);
}

static const struct istio_table table_default_providers =
	TABLE(default_providers, "MeshConfig.DefaultProviders", default_providers_rows, .check = check_default_providers);
static const char *const encoding_words[] = {"TEXT", "JSON", NULL};
static const char *const ingress_mode_words[] = {"UNSPECIFIED", "OFF", "DEFAULT", "STRICT", NULL};
static const char istiod_note[] = "of istiod";
static const char sidecar_note[] = "of sidecars and their capture of traffic";
static const struct istio_field mesh_rows[] = {
	ROW_IGNORED("proxyListenPort", sidecar_note),
	ROW_IGNORED("proxyInboundListenPort", sidecar_note),
	ROW_IGNORED("proxyHttpPort", sidecar_note),
	ROW(mesh_config, connect_timeout, "connectTimeout", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW(mesh_config, detection_timeout, "protocolDetectionTimeout", F_DURATION, .min = 0, .max = 15000000),
	ROW(mesh_config, keepalive, "tcpKeepalive", F_OBJECT, .table = &istio_table_tcp_keepalive),
	ROW(mesh_config, ingress_class, "ingressClass", F_STRING),
	ROW(mesh_config, ingress_service, "ingressService", F_STRING),
	ROW(mesh_config, ingress_mode, "ingressControllerMode", F_ENUM, .words = ingress_mode_words),
	ROW(mesh_config, ingress_selector, "ingressSelector", F_STRING),
	ROW_IGNORED("enableTracing", "no spans are sent"),
	ROW(mesh_config, access_log_file, "accessLogFile", F_STRING),
	ROW(mesh_config, access_log_format, "accessLogFormat", F_STRING, .is_free_text = true),
	ROW(mesh_config, access_log_encoding, "accessLogEncoding", F_ENUM, .words = encoding_words),
	ROW_IGNORED("enableEnvoyAccessLogService", "the access log is a file"),
	ROW_IGNORED("disableEnvoyListenerLog", "no log of listeners"),
	ROW(mesh_config, proxy, "defaultConfig", F_OBJECT, .table = &table_proxy),
	ROW(mesh_config, outbound, "outboundTrafficPolicy", F_OBJECT, .table = &table_outbound),
	ROW_IGNORED("inboundTrafficPolicy", sidecar_note),
	ROW_IGNORED("configSources", istiod_note),
	ROW(mesh_config, auto_mtls, "enableAutoMtls", F_BOOL),
	ROW(mesh_config, trust_domain, "trustDomain", F_STRING),
	ROW(mesh_config, trust_domain_aliases, "trustDomainAliases", F_STRINGS, .min = 0, .max = 64),
	ROW(mesh_config, ca_certificates, "caCertificates", F_OBJECTS, .table = &table_ca_certificate, .min = 0, .max = 64),
	ROW(mesh_config, service_export_to, "defaultServiceExportTo", F_STRINGS),
	ROW(mesh_config, virtual_service_export_to, "defaultVirtualServiceExportTo", F_STRINGS),
	ROW(mesh_config, destination_rule_export_to, "defaultDestinationRuleExportTo", F_STRINGS),
	ROW(mesh_config, root_namespace, "rootNamespace", F_STRING, .min = 1, .max = 63),
	ROW(mesh_config, locality, "localityLbSetting", F_OBJECT, .table = &istio_table_locality_lb),
	ROW(mesh_config, dns_refresh, "dnsRefreshRate", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW_IGNORED("h2UpgradePolicy", "the port's protocol decides"),
	ROW_IGNORED("inboundClusterStatName", "names of metrics do not change"),
	ROW_IGNORED("outboundClusterStatName", "names of metrics do not change"),
	ROW_IGNORED("certificates", istiod_note),
	ROW_IGNORED("thriftConfig", istiod_note),
	ROW_IGNORED("serviceSettings", istiod_note),
	ROW_IGNORED("enablePrometheusMerge", sidecar_note),
	ROW_IGNORED("verifyCertificateAtClient", istiod_note),
	ROW_IGNORED("discoverySelectors", istiod_note),
	ROW(mesh_config, normalization, "pathNormalization", F_OBJECT, .table = &table_normalization),
	ROW(mesh_config, retry, "defaultHttpRetryPolicy", F_OBJECT, .table = &istio_table_retries),
	ROW_IGNORED("defaultInboundHttpRetryPolicy", sidecar_note),
	ROW(mesh_config, mtls, "meshMTLS", F_OBJECT, .table = &table_settings),
	ROW(mesh_config, tls_defaults, "tlsDefaults", F_OBJECT, .table = &table_settings),
	ROW_IGNORED("extensionProviders", "Telemetry knows the provider envoy alone, and AuthorizationPolicy is refused by name"),
	ROW(mesh_config, default_providers, "defaultProviders", F_OBJECT, .table = &table_default_providers),
	ROW_IGNORED("serviceScopeConfigs", istiod_note),
	ROW_IGNORED("serviceEntryVisibility", istiod_note),
	ROW_IGNORED("ca", istiod_note),
	ROW_IGNORED("hboneIdleTimeout", "no HBONE is spoken"),
	ROW_NOTED(mesh_config, zone_aware, "zoneAwareLbSetting", F_ANY, "zones are not balanced by their shares; use localityLbSetting"),
	ROW(mesh_config, default_policy, "defaultTrafficPolicy", F_OBJECT, .table = &istio_table_default_policy),
};

/* As istiod's: DNS labels in lower case, which go into identities as they are. */
static bool is_trust_domain(const char *text)
{
	return istio_is_host(text, false) && !text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.")];
}

static void check_trust_domains(struct istio_decode *d, struct mesh_config *m)
{
	const struct istio_strings *all = &m->trust_domain_aliases;
	const char **list = ARENA_ARRAY(d->arena, const char *, all->n + 1);
	uint32_t n = 0;

	if (m->trust_domain && m->trust_domain[0] && !is_trust_domain(m->trust_domain)) {
		istio_decode_error(d, "IST0106", &m->head, "trustDomain", "\"%.80s\" is not a name in lower case; cluster.local is used", m->trust_domain);
		m->trust_domain = NULL;
	}
	for (uint32_t i = 0; i < all->n; i++) {
		if (is_trust_domain(all->list[i]))
			list[n++] = all->list[i];
		else
			istio_decode_error(d, "IST0106", &m->head, "trustDomainAliases", "\"%.80s\" is not a name in lower case; it is left out", all->list[i]);
	}
	m->trust_domain_aliases = (struct istio_strings){list, n};
}

void istio_mesh_config_check(struct istio_decode *d, struct mesh_config *m)
{
	struct foil_error err = {0};

	check_trust_domains(d, m);
	if (!m->access_log_format || istio_format_check_log(m->access_log_format, m->access_log_encoding.value == ACCESS_LOG_JSON, &err))
		return;
	istio_decode_error(d, "IST0106", &m->head, "accessLogFormat", "%s; the default format is used", err.text);
	m->access_log_format = NULL;
}

const struct istio_table istio_table_mesh_config = TABLE(mesh_config, "MeshConfig", mesh_rows, .is_loose = true);
