/* The kinds that we know: what we read, what we refuse by name, and what has no meaning for a data plane. A kind with no row gets a warning. */
#include "ctrl/istio/rows.h"

#define NETWORKING "networking.istio.io"
#define SECURITY "security.istio.io"
#define GATEWAY_API "gateway.networking.k8s.io"
#define ANY_VERSION ""

#define READ(g, k, v, i, t, ...) {.group = (g), .kind = (k), .versions = (v), .id = (i), .table = &(t), ##__VA_ARGS__}
#define REFUSE(g, k, why) {.group = (g), .kind = (k), .versions = ANY_VERSION, .status = REFUSED, .id = KIND_N, .note = (why)}
#define IGNORE(g, k) {.group = (g), .kind = (k), .versions = ANY_VERSION, .status = IGNORED, .id = KIND_N}

static const char unchecked[] = "requests are not checked by it";
static const char no_routes[] = "use Gateway and VirtualService";

const struct istio_kind_row istio_kinds[] = {
	READ(NETWORKING, "Gateway", "v1 v1beta1 v1alpha3", KIND_GATEWAY, istio_table_gateway),
	READ(NETWORKING, "VirtualService", "v1 v1beta1 v1alpha3", KIND_VIRTUAL_SERVICE, istio_table_virtual_service),
	READ(NETWORKING, "DestinationRule", "v1 v1beta1 v1alpha3", KIND_DESTINATION_RULE, istio_table_destination_rule),
	READ(NETWORKING, "ServiceEntry", "v1 v1beta1 v1alpha3", KIND_SERVICE_ENTRY, istio_table_service_entry),
	READ(NETWORKING, "WorkloadEntry", "v1 v1beta1 v1alpha3", KIND_WORKLOAD_ENTRY, istio_table_workload_entry),
	READ(NETWORKING, "WorkloadGroup", "v1 v1beta1 v1alpha3", KIND_WORKLOAD_GROUP, istio_table_workload_group),
	READ(NETWORKING, "Sidecar", "v1 v1beta1 v1alpha3", KIND_SIDECAR, istio_table_sidecar),
	READ(SECURITY, "PeerAuthentication", "v1 v1beta1", KIND_PEER_AUTHENTICATION, istio_table_peer_authentication),
	READ("telemetry.istio.io", "Telemetry", "v1 v1alpha1", KIND_TELEMETRY, istio_table_telemetry),
	READ("networking.k8s.io", "Ingress", "v1", KIND_INGRESS, istio_table_ingress, .is_late = true),
	READ("networking.k8s.io", "IngressClass", "v1", KIND_INGRESS_CLASS, istio_table_ingress_class, .is_cluster_wide = true),
	READ("", "Service", "v1", KIND_SERVICE, istio_table_k8s_service, .is_whole = true),
	READ("", "Endpoints", "v1", KIND_ENDPOINTS, istio_table_k8s_endpoints, .is_whole = true),
	READ("discovery.k8s.io", "EndpointSlice", "v1 v1beta1", KIND_ENDPOINT_SLICE, istio_table_k8s_endpoint_slice, .is_whole = true),
	READ("", "Pod", "v1", KIND_POD, istio_table_k8s_pod, .is_whole = true),
	READ("", "Node", "v1", KIND_NODE, istio_table_k8s_open, .is_whole = true, .is_cluster_wide = true),
	READ("", "Namespace", "v1", KIND_NAMESPACE, istio_table_k8s_open, .is_whole = true, .is_cluster_wide = true),
	READ("", "ConfigMap", "v1", KIND_CONFIG_MAP, istio_table_k8s_config_map, .is_whole = true),
	READ("", "Secret", "v1", KIND_SECRET, istio_table_k8s_secret, .is_whole = true),

	REFUSE(NETWORKING, "EnvoyFilter", "there is no Envoy here to patch"),
	REFUSE(NETWORKING, "ProxyConfig", "set what is meant in MeshConfig defaultConfig"),
	REFUSE(SECURITY, "AuthorizationPolicy", unchecked),
	REFUSE(SECURITY, "RequestAuthentication", unchecked),
	REFUSE("extensions.istio.io", "WasmPlugin", "no Wasm is run"),
	REFUSE("extensions.istio.io", "TrafficExtension", "no Wasm and no Lua is run"),
	REFUSE(GATEWAY_API, "GatewayClass", no_routes),
	REFUSE(GATEWAY_API, "Gateway", no_routes),
	REFUSE(GATEWAY_API, "HTTPRoute", no_routes),
	REFUSE(GATEWAY_API, "GRPCRoute", no_routes),
	REFUSE(GATEWAY_API, "TCPRoute", no_routes),
	REFUSE(GATEWAY_API, "TLSRoute", no_routes),
	REFUSE(GATEWAY_API, "UDPRoute", no_routes),
	REFUSE(GATEWAY_API, "ReferenceGrant", no_routes),
	REFUSE(GATEWAY_API, "BackendTLSPolicy", no_routes),
	REFUSE("networking.k8s.io", "NetworkPolicy", "packets are not filtered by it"),

	IGNORE("apps", "Deployment"),
	IGNORE("apps", "StatefulSet"),
	IGNORE("apps", "DaemonSet"),
	IGNORE("apps", "ReplicaSet"),
	IGNORE("batch", "Job"),
	IGNORE("batch", "CronJob"),
	IGNORE("autoscaling", "HorizontalPodAutoscaler"),
	IGNORE("policy", "PodDisruptionBudget"),
	IGNORE("", "ServiceAccount"),
	IGNORE("", "PersistentVolumeClaim"),
	IGNORE("rbac.authorization.k8s.io", "Role"),
	IGNORE("rbac.authorization.k8s.io", "RoleBinding"),
	IGNORE("rbac.authorization.k8s.io", "ClusterRole"),
	IGNORE("rbac.authorization.k8s.io", "ClusterRoleBinding"),
	IGNORE("apiextensions.k8s.io", "CustomResourceDefinition"),
};
const uint32_t istio_n_kinds = sizeof(istio_kinds) / sizeof(istio_kinds[0]);
