/* The decoded kinds: what the field tables write into. Private to the room. Names are the API's; absent is NULL, is_set false or n 0.
 * Strings point into the documents, which the model holds. */
#pragma once

#include "ctrl/istio/field.h"

/* ---- shared ---- */

struct string_match {
	struct istio_head head;
	const char *exact, *prefix, *regex; /* at most one; none: present */
	bool by_segment; /* of a prefix: '/' or nothing follows (an Ingress's) */
};
struct port_selector {
	struct istio_head head;
	struct istio_int number;
};
struct destination {
	struct istio_head head;
	const char *host, *subset;
	struct port_selector *port;
	bool is_backend; /* of an Ingress: what stands at head is a name and a port */
};
struct percent {
	struct istio_head head;
	struct istio_double value;
};
struct workload_selector {
	struct istio_head head;
	struct istio_string_map labels;
};
struct object_port { /* of Gateway servers and ServiceEntries */
	struct istio_head head;
	struct istio_int number, target_port;
	const char *protocol, *name;
};

extern const struct istio_table istio_table_string_match, istio_table_destination, istio_table_port_selector, istio_table_percent,
	istio_table_workload_selector;

/* ---- Gateway ---- */

enum gateway_tls_mode { GATEWAY_TLS_PASSTHROUGH, GATEWAY_TLS_SIMPLE, GATEWAY_TLS_MUTUAL, GATEWAY_TLS_AUTO_PASSTHROUGH, GATEWAY_TLS_ISTIO_MUTUAL,
	GATEWAY_TLS_OPTIONAL_MUTUAL };
struct gateway_tls {
	struct istio_head head;
	struct istio_bool https_redirect, skip_verify;
	struct istio_int mode, min_version, max_version; /* the versions' words: AUTO, 1.0 .. 1.3 */
	const char *credential_name, *ca_credential_name, *server_certificate, *private_key, *ca_certificates, *ca_crl;
	struct istio_strings credential_names, subject_alt_names, verify_spki, verify_hash, cipher_suites;
	struct istio_list certificates; /* struct tls_certificate */
};
struct tls_certificate {
	struct istio_head head;
	const char *chain, *key, *ca;
};
struct resource;
/* Of what an Ingress was made into (ingresses.c): where it stands there. */
struct ingress_origin {
	const struct resource *resource;
	const char *field; /* "spec.rules[0].http.paths[1]" */
};
struct gateway_server {
	struct istio_head head;
	struct object_port *port;
	const char *bind, *name;
	struct istio_strings hosts;
	struct gateway_tls *tls;
	const struct ingress_origin *origin; /* NULL: it stands as it is */
};
struct gateway {
	struct istio_head head;
	struct istio_string_map selector;
	struct istio_list servers; /* struct gateway_server */
};

/* ---- VirtualService ---- */

struct http_match {
	struct istio_head head;
	const char *name, *source_namespace, *stat_prefix;
	struct string_match *uri, *scheme, *method, *authority;
	struct istio_list headers, without_headers, query_params; /* struct string_match by name */
	struct istio_int port;
	struct istio_string_map source_labels;
	struct istio_strings gateways;
	struct istio_bool ignore_uri_case;
};
struct header_ops {
	struct istio_head head;
	struct istio_string_map set, add;
	struct istio_strings remove;
};
struct headers {
	struct istio_head head;
	struct header_ops *request, *response;
};
struct route_destination { /* of http, tcp and tls routes */
	struct istio_head head;
	struct destination *destination;
	struct istio_int weight;
	struct headers *headers;
};
enum derive_port { DERIVE_PROTOCOL_DEFAULT, DERIVE_REQUEST_PORT };
struct redirect {
	struct istio_head head;
	const char *uri, *authority, *scheme, *prefix_rewrite;
	struct istio_int port, derive_port, redirect_code;
};
struct direct_body {
	struct istio_head head;
	const char *string, *bytes;
};
struct direct_response {
	struct istio_head head;
	struct istio_int status;
	struct direct_body *body;
};
struct delegate {
	struct istio_head head;
	const char *name, *namespace;
};
struct regex_rewrite {
	struct istio_head head;
	const char *match, *rewrite;
};
struct rewrite {
	struct istio_head head;
	const char *uri, *authority;
	struct regex_rewrite *uri_regex_rewrite;
};
struct retries {
	struct istio_head head;
	struct istio_int attempts, per_try_timeout, backoff;
	const char *retry_on;
	struct istio_bool retry_remote_localities, retry_ignore_previous_hosts;
};
struct fault_delay {
	struct istio_head head;
	struct istio_int percent, fixed_delay;
	struct percent *percentage;
};
struct fault_abort {
	struct istio_head head;
	struct istio_int percent, http_status, grpc_status;
	struct percent *percentage;
};
struct fault {
	struct istio_head head;
	struct fault_delay *delay;
	struct fault_abort *abort;
};
struct mirror {
	struct istio_head head;
	struct destination *destination;
	struct percent *percentage;
};
struct cors {
	struct istio_head head;
	struct istio_strings allow_origin, allow_methods, allow_headers, expose_headers;
	struct istio_list allow_origins; /* struct string_match */
	struct istio_int max_age, unmatched_preflights;
	struct istio_bool allow_credentials;
};
enum unmatched_preflights { PREFLIGHTS_UNSPECIFIED, PREFLIGHTS_FORWARD, PREFLIGHTS_IGNORE };
struct http_route {
	struct istio_head head;
	const char *name;
	struct istio_list match, route, mirrors; /* struct http_match, route_destination, mirror */
	struct redirect *redirect;
	struct direct_response *direct_response;
	struct delegate *delegate;
	struct rewrite *rewrite;
	struct istio_int timeout;
	struct retries *retries;
	struct fault *fault;
	struct destination *mirror;
	struct istio_int mirror_percent;
	struct percent *mirror_percentage;
	struct cors *cors;
	struct headers *headers;
	const struct ingress_origin *origin; /* NULL: it stands as it is */
};
struct l4_match { /* of tcp and tls routes */
	struct istio_head head;
	struct istio_strings sni_hosts, destination_subnets, gateways;
	struct istio_int port;
	struct istio_string_map source_labels;
	const char *source_namespace;
};
struct l4_route {
	struct istio_head head;
	struct istio_list match, route; /* struct l4_match, route_destination */
};
struct virtual_service {
	struct istio_head head;
	struct istio_strings hosts, gateways, export_to;
	struct istio_list http, tls, tcp; /* struct http_route, l4_route, l4_route */
};

/* ---- DestinationRule ---- */

enum simple_lb { SIMPLE_UNSPECIFIED, SIMPLE_LEAST_CONN, SIMPLE_RANDOM, SIMPLE_PASSTHROUGH, SIMPLE_ROUND_ROBIN, SIMPLE_LEAST_REQUEST, SIMPLE_LEAST_LATENCY };
struct cookie_attribute {
	struct istio_head head;
	const char *name, *value;
};
struct http_cookie {
	struct istio_head head;
	const char *name, *path;
	struct istio_int ttl;
	struct istio_list attributes; /* struct cookie_attribute */
};
struct ring_hash {
	struct istio_head head;
	struct istio_int minimum_size;
};
struct maglev {
	struct istio_head head;
	struct istio_int table_size;
};
struct consistent_hash {
	struct istio_head head;
	const char *header, *query_parameter;
	struct http_cookie *cookie;
	struct istio_bool source_ip;
	struct ring_hash *ring;
	struct maglev *maglev;
	struct istio_int minimum_ring_size;
};
struct locality_distribute {
	struct istio_head head;
	const char *from;
	struct istio_string_map to; /* locality -> weight as text */
};
struct locality_failover {
	struct istio_head head;
	const char *from, *to;
};
struct locality_lb {
	struct istio_head head;
	struct istio_list distribute, failover; /* struct locality_distribute, locality_failover */
	struct istio_strings failover_priority;
	struct istio_bool enabled;
};
struct warmup {
	struct istio_head head;
	struct istio_int duration;
	struct istio_double minimum_percent, aggression;
};
struct load_balancer {
	struct istio_head head;
	struct istio_int simple, warmup_duration;
	struct consistent_hash *consistent_hash;
	struct locality_lb *locality;
	struct warmup *warmup;
};
struct tcp_keepalive {
	struct istio_head head;
	struct istio_int probes, time, interval;
};
struct pool_tcp {
	struct istio_head head;
	struct istio_int max_connections, connect_timeout, max_connection_duration, idle_timeout;
	struct tcp_keepalive *keepalive;
};
struct h2_keepalive {
	struct istio_head head;
	struct istio_int interval, timeout;
};
enum h2_upgrade { H2_UPGRADE_DEFAULT, H2_UPGRADE_NO, H2_UPGRADE_YES };
struct pool_http {
	struct istio_head head;
	struct istio_int max_pending, max_requests, max_requests_per_connection, max_retries, idle_timeout, h2_upgrade, max_concurrent_streams;
	struct istio_bool use_client_protocol;
	struct h2_keepalive *keepalive;
};
struct connection_pool {
	struct istio_head head;
	struct pool_tcp *tcp;
	struct pool_http *http;
};
struct outlier {
	struct istio_head head;
	struct istio_bool split;
	struct istio_int consecutive_errors, local_origin_failures, gateway_errors, consecutive_5xx, interval, base_ejection, max_ejection_percent, min_health;
	struct istio_ints error_codes;
};
enum client_tls_mode { CLIENT_TLS_DISABLE, CLIENT_TLS_SIMPLE, CLIENT_TLS_MUTUAL, CLIENT_TLS_ISTIO_MUTUAL };
struct client_tls {
	struct istio_head head;
	struct istio_int mode;
	const char *client_certificate, *private_key, *ca_certificates, *credential_name, *sni, *ca_crl;
	struct istio_strings subject_alt_names;
	struct istio_bool skip_verify;
};
enum proxy_protocol_version { PROXY_VERSION_1, PROXY_VERSION_2 };
struct proxy_protocol {
	struct istio_head head;
	struct istio_int version;
};
struct retry_budget {
	struct istio_head head;
	struct istio_double percent;
	struct istio_int min_concurrency, interval;
};
struct health_http {
	struct istio_head head;
	const char *path, *host;
	struct istio_int port;
	struct istio_string_map headers;
	struct istio_strings expected;
};
struct health_tcp {
	struct istio_head head;
	struct istio_int port;
};
struct health_grpc {
	struct istio_head head;
	const char *service, *authority;
	struct istio_int port;
};
struct health_check { /* ours */
	struct istio_head head;
	struct health_http *http;
	struct health_tcp *tcp;
	struct health_grpc *grpc;
	struct istio_int interval, timeout, jitter, no_traffic, healthy, unhealthy;
};
struct traffic_policy { /* also an entry of port_level, which has a port and no port_level */
	struct istio_head head;
	struct load_balancer *load_balancer;
	struct connection_pool *connection_pool;
	struct outlier *outlier;
	struct client_tls *tls;
	struct proxy_protocol *proxy_protocol;
	struct retry_budget *retry_budget;
	struct health_check *health_check;
	struct port_selector *port;
	struct istio_list port_level; /* struct traffic_policy */
};
struct subset {
	struct istio_head head;
	const char *name;
	struct istio_string_map labels;
	struct traffic_policy *policy;
};
struct match_labels { /* a selector of workloads, by all of these */
	struct istio_head head;
	struct istio_string_map labels;
};
struct destination_rule {
	struct istio_head head;
	const char *host;
	struct match_labels *selector; /* of clients; NULL: every one */
	struct traffic_policy *policy;
	struct istio_list subsets; /* struct subset */
	struct istio_strings export_to;
};

/* ---- ServiceEntry, WorkloadEntry ---- */

enum se_location { LOCATION_MESH_EXTERNAL, LOCATION_MESH_INTERNAL };
enum se_resolution { RESOLUTION_NONE, RESOLUTION_STATIC, RESOLUTION_DNS, RESOLUTION_DNS_ROUND_ROBIN, RESOLUTION_DYNAMIC_DNS };
struct workload_entry {
	struct istio_head head;
	const char *address, *network, *locality, *service_account;
	struct istio_string_map ports, labels; /* ports: name -> number as text */
	struct istio_int weight;
};
struct probe_header {
	struct istio_head head;
	const char *name, *value;
};
struct probe_http {
	struct istio_head head;
	const char *path, *host, *scheme;
	struct istio_int port;
	struct istio_list headers; /* struct probe_header */
};
struct probe_tcp {
	struct istio_head head;
	const char *host;
	struct istio_int port;
};
struct readiness_probe {
	struct istio_head head;
	struct probe_http *http;
	struct probe_tcp *tcp;
	struct health_grpc *grpc;
	struct istio_int initial_delay, timeout, period, successes, failures; /* seconds; counts */
};
struct group_metadata {
	struct istio_head head;
	struct istio_string_map labels, annotations;
};
struct workload_group {
	struct istio_head head;
	struct group_metadata *metadata;
	struct workload_entry *template;
	struct readiness_probe *probe;
	const struct health_check *check; /* what the probe comes to; NULL: none */
};
struct service_entry {
	struct istio_head head;
	struct istio_strings hosts, addresses, export_to, subject_alt_names;
	struct istio_list ports, endpoints; /* struct object_port, workload_entry */
	struct istio_int location, resolution;
	struct workload_selector *selector;
};
struct egress_listener {
	struct istio_head head;
	struct istio_strings hosts; /* "namespace/host" */
};
struct sidecar {
	struct istio_head head;
	struct workload_selector *selector;
	struct istio_list egress; /* struct egress_listener: none or one */
	const struct doc_node *ingress, *inbound_pool;
	struct outbound_policy *outbound;
};

/* ---- Kubernetes ---- */

struct k8s_service_port {
	struct istio_head head;
	const char *name, *protocol, *app_protocol;
	struct istio_int port;
	struct istio_int_or_string target_port;
};
struct k8s_service_spec {
	struct istio_head head;
	const char *cluster_ip, *type, *external_name, *session_affinity;
	struct istio_strings cluster_ips, external_ips;
	struct istio_string_map selector;
	struct istio_list ports; /* struct k8s_service_port */
	struct istio_bool publish_not_ready;
};
struct k8s_ingress_ip {
	struct istio_head head;
	const char *ip;
};
struct k8s_load_balancer {
	struct istio_head head;
	struct istio_list ingress; /* struct k8s_ingress_ip */
};
struct k8s_service_status {
	struct istio_head head;
	struct k8s_load_balancer *load_balancer;
};
struct k8s_service {
	struct istio_head head;
	struct k8s_service_spec *spec;
	struct k8s_service_status *status;
};
struct k8s_target_ref {
	struct istio_head head;
	const char *kind, *name, *namespace;
};
struct k8s_endpoint_port {
	struct istio_head head;
	const char *name, *protocol;
	struct istio_int port;
};
struct k8s_conditions {
	struct istio_head head;
	struct istio_bool ready, serving, terminating;
};
struct k8s_slice_endpoint {
	struct istio_head head;
	struct istio_strings addresses;
	struct k8s_conditions *conditions;
	struct k8s_target_ref *target_ref;
	const char *zone, *node_name;
};
struct k8s_endpoint_slice {
	struct istio_head head;
	const char *address_type;
	struct istio_list endpoints, ports; /* struct k8s_slice_endpoint, k8s_endpoint_port */
};
struct k8s_endpoint_address {
	struct istio_head head;
	const char *ip, *node_name;
	struct k8s_target_ref *target_ref;
};
struct k8s_endpoint_subset {
	struct istio_head head;
	struct istio_list addresses, not_ready, ports; /* struct k8s_endpoint_address twice, k8s_endpoint_port */
};
struct k8s_endpoints {
	struct istio_head head;
	struct istio_list subsets; /* struct k8s_endpoint_subset */
};
struct k8s_container_port {
	struct istio_head head;
	const char *name;
	struct istio_int port;
};
struct k8s_container {
	struct istio_head head;
	struct istio_list ports; /* struct k8s_container_port */
};
struct k8s_pod_ip {
	struct istio_head head;
	const char *ip;
};
struct k8s_pod_spec {
	struct istio_head head;
	const char *service_account, *node_name;
	struct istio_list containers; /* struct k8s_container */
};
struct k8s_pod_status {
	struct istio_head head;
	const char *pod_ip, *phase;
	struct istio_list pod_ips; /* struct k8s_pod_ip */
};
struct k8s_pod {
	struct istio_head head;
	struct k8s_pod_spec *spec;
	struct k8s_pod_status *status;
};
struct k8s_node {
	struct istio_head head;
};
struct k8s_secret {
	struct istio_head head;
	const char *type;
	struct istio_string_map data, string_data; /* data: base64 */
};
struct k8s_config_map {
	struct istio_head head;
	struct istio_string_map data;
};

/* ---- Ingress, IngressClass ---- */

struct ingress_port { /* one of both */
	struct istio_head head;
	const char *name;
	struct istio_int number;
};
struct ingress_service {
	struct istio_head head;
	const char *name;
	struct ingress_port *port;
};
struct ingress_backend {
	struct istio_head head;
	struct ingress_service *service;
};
enum ingress_path_type { INGRESS_EXACT, INGRESS_PREFIX, INGRESS_IMPLEMENTATION_SPECIFIC };
struct ingress_path {
	struct istio_head head;
	const char *path;
	struct istio_int type;
	struct ingress_backend *backend;
};
struct ingress_http {
	struct istio_head head;
	struct istio_list paths; /* struct ingress_path */
};
struct ingress_rule {
	struct istio_head head;
	const char *host; /* NULL: every one */
	struct ingress_http *http;
};
struct ingress_tls {
	struct istio_head head;
	struct istio_strings hosts;
	const char *secret_name;
};
struct ingress {
	struct istio_head head;
	const char *class_name;
	struct ingress_backend *default_backend;
	struct istio_list tls, rules; /* struct ingress_tls, ingress_rule */
};
struct ingress_class {
	struct istio_head head;
	const char *controller;
};

/* ---- MeshConfig ---- */

enum outbound_mode { OUTBOUND_REGISTRY_ONLY, OUTBOUND_ALLOW_ANY, OUTBOUND_ALLOW_ANY_DYNAMIC_DNS };
extern const char *const istio_outbound_words[];
struct outbound_policy {
	struct istio_head head;
	struct istio_int mode;
};
struct path_normalization {
	struct istio_head head;
	struct istio_int normalization;
};
struct gateway_topology {
	struct istio_head head;
	struct istio_int num_trusted_proxies, forward_client_cert;
	struct proxy_protocol *proxy_protocol; /* without fields: it is there or not */
};
struct header_switch { /* {disabled: bool}, and of some {enabled: bool} or a value */
	struct istio_head head;
	struct istio_bool disabled, enabled;
	const char *value;
};
struct client_cert_details {
	struct istio_head head;
	struct istio_bool subject, cert, dns, uri;
};
struct proxy_headers {
	struct istio_head head;
	struct istio_int forwarded_client_cert; /* as gateway_topology's */
	struct client_cert_details *client_cert_details;
	struct header_switch *server, *request_id, *attempt_count, *envoy_debug_headers, *x_forwarded_host, *x_forwarded_port;
	struct istio_bool preserve_case;
};
enum connection_profile { PROFILE_SIDECAR, PROFILE_EDGE };
enum underscores_action { UNDERSCORES_UNSPECIFIED, UNDERSCORES_ALLOW, UNDERSCORES_REJECT, UNDERSCORES_DROP };
enum slashes_action { SLASHES_UNSPECIFIED, SLASHES_KEEP, SLASHES_REJECT, SLASHES_REDIRECT, SLASHES_FORWARD };
struct connection_settings { /* times: 0 = off */
	struct istio_head head;
	struct istio_int profile, idle, max_connection_duration, request, request_headers, stream_idle, max_streams, stream_window, connection_window,
		underscores, escaped_slashes, listener_buffer, cluster_buffer, drain, max_stream_duration, listener_connections, node_connections;
	struct istio_bool merge_slashes;
};
struct proxy_config {
	struct istio_head head;
	struct gateway_topology *topology;
	struct proxy_headers *headers;
	struct istio_int drain_duration;
	struct istio_string_map environment;
	struct connection_settings *connection_settings;
};
struct tls_settings { /* meshMTLS, tlsDefaults */
	struct istio_head head;
	struct istio_int min_version;
	struct istio_strings cipher_suites;
};
enum tls_settings_version { TLS_SETTINGS_AUTO, TLS_SETTINGS_1_2, TLS_SETTINGS_1_3 };
struct ca_certificate {
	struct istio_head head;
	const char *pem;
	struct istio_strings cert_signers, trust_domains;
};
struct default_providers {
	struct istio_head head;
	struct istio_strings access_logging;
};
struct mesh_config {
	struct istio_head head;
	struct istio_bool auto_mtls;
	struct istio_int detection_timeout, dns_refresh;
	struct tls_settings *mtls, *tls_defaults;
	struct istio_strings trust_domain_aliases;
	struct istio_list ca_certificates; /* struct ca_certificate */
	const char *access_log_file, *access_log_format, *trust_domain, *root_namespace;
	struct default_providers *default_providers;
	struct traffic_policy *default_policy; /* connection_pool and outlier alone */
	const struct doc_node *zone_aware;
	struct istio_int access_log_encoding, connect_timeout;
	struct outbound_policy *outbound;
	struct path_normalization *normalization;
	struct retries *retry;
	struct locality_lb *locality;
	struct tcp_keepalive *keepalive;
	struct proxy_config *proxy;
	struct istio_strings service_export_to, virtual_service_export_to, destination_rule_export_to;
	const char *ingress_class, *ingress_service, *ingress_selector;
	struct istio_int ingress_mode;
};
enum ingress_mode { INGRESS_MODE_UNSPECIFIED, INGRESS_MODE_OFF, INGRESS_MODE_DEFAULT, INGRESS_MODE_STRICT };
enum forward_client_cert { XFCC_UNDEFINED, XFCC_SANITIZE, XFCC_FORWARD_ONLY, XFCC_APPEND_FORWARD, XFCC_SANITIZE_SET, XFCC_ALWAYS_FORWARD_ONLY };
enum access_log_encoding { ACCESS_LOG_TEXT, ACCESS_LOG_JSON };
enum normalization { NORMALIZE_DEFAULT, NORMALIZE_NONE, NORMALIZE_BASE, NORMALIZE_MERGE_SLASHES, NORMALIZE_DECODE_AND_MERGE };

/* ---- MeshNetworks ---- */

struct network_endpoints {
	struct istio_head head;
	const char *cidr, *registry;
};
struct network_gateway {
	struct istio_head head;
	const char *service, *address;
	struct istio_int port;
};
struct network { /* its name in the head */
	struct istio_head head;
	struct istio_list endpoints, gateways; /* struct network_endpoints, network_gateway */
};
struct mesh_networks {
	struct istio_head head;
	struct istio_list networks; /* struct network */
};

/* ---- the kinds ---- */

enum istio_kind { KIND_GATEWAY, KIND_VIRTUAL_SERVICE, KIND_DESTINATION_RULE, KIND_SERVICE_ENTRY, KIND_WORKLOAD_ENTRY, KIND_SIDECAR, KIND_SERVICE,
	KIND_ENDPOINTS, KIND_ENDPOINT_SLICE, KIND_POD, KIND_NODE, KIND_NAMESPACE, KIND_CONFIG_MAP, KIND_SECRET,
	KIND_PEER_AUTHENTICATION, KIND_TELEMETRY, KIND_WORKLOAD_GROUP, KIND_INGRESS, KIND_INGRESS_CLASS, KIND_N };

struct istio_kind_row {
	const char *group, *kind;
	const char *versions;            /* words: "v1 v1beta1" */
	enum field_status status;        /* REFUSED: known, not supported, note says what it means; IGNORED: no meaning for a data plane */
	enum istio_kind id;
	const struct istio_table *table; /* of its spec, or of the whole resource where is_whole */
	bool is_whole, is_cluster_wide;
	bool is_late; /* whether it concerns us is known when all is read: its spec is decoded then */
	const char *note;
};

extern const struct istio_kind_row istio_kinds[];
extern const uint32_t istio_n_kinds;
extern const struct istio_table istio_table_gateway, istio_table_virtual_service, istio_table_destination_rule, istio_table_service_entry,
	istio_table_workload_entry, istio_table_workload_template, istio_table_workload_group, istio_table_sidecar,
	istio_table_peer_authentication, istio_table_telemetry, istio_table_ingress, istio_table_ingress_class,
	istio_table_k8s_service, istio_table_k8s_endpoints, istio_table_k8s_endpoint_slice, istio_table_k8s_pod, istio_table_k8s_open,
		istio_table_k8s_config_map, istio_table_k8s_secret, istio_table_mesh_config, istio_table_mesh_networks,
	istio_table_retries, istio_table_tcp_keepalive, istio_table_load_balancer, istio_table_locality_lb,
	istio_table_health_check, istio_table_default_policy, istio_table_match_labels;

/* The checks of a MeshConfig, which is used even when it has errors: what is wrong is taken out. */
void istio_mesh_config_check(struct istio_decode *d, struct mesh_config *m);

/* Shared checks. */
bool istio_is_host(const char *host, bool wildcard_allowed); /* a DNS name, "*.x" or "*" where allowed */
bool istio_is_header_name(const char *name); /* or a pseudo header's */
bool istio_is_label(const char *text);
bool istio_is_ip(const char *text);
bool istio_is_cidr(const char *text); /* an address with or without /length */
bool istio_is_retry_word(const char *word, size_t n);
