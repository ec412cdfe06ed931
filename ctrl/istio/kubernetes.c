/* The field tables of Kubernetes' own kinds: only what the model reads. They are open: whatever else stands in them has been checked by an API server. */
#include "ctrl/istio/rows.h"

/* ---- Service ---- */

static const struct istio_field service_port_rows[] = {
	ROW(k8s_service_port, name, "name", F_STRING),
	ROW(k8s_service_port, protocol, "protocol", F_STRING),
	ROW(k8s_service_port, app_protocol, "appProtocol", F_STRING),
	ROW(k8s_service_port, port, "port", F_INT, .min = 1, .max = PORT_MAX),
	ROW(k8s_service_port, target_port, "targetPort", F_INT_OR_STRING, .min = 0, .max = PORT_MAX),
};

static void check_service_port(struct istio_decode *d, void *object)
{
	struct k8s_service_port *p = object;

	if (!p->port.is_set)
		istio_decode_error(d, "IST0106", &p->head, "port", "a port needs a number");
}

static const struct istio_table table_service_port = TABLE(k8s_service_port, "ServicePort", service_port_rows, .is_open = true, .check = check_service_port);

static const struct istio_field service_spec_rows[] = {
	ROW(k8s_service_spec, cluster_ip, "clusterIP", F_STRING),
	ROW(k8s_service_spec, cluster_ips, "clusterIPs", F_STRINGS),
	ROW(k8s_service_spec, external_ips, "externalIPs", F_STRINGS),
	ROW(k8s_service_spec, type, "type", F_STRING),
	ROW(k8s_service_spec, external_name, "externalName", F_STRING),
	ROW_NOTED(k8s_service_spec, session_affinity, "sessionAffinity", F_STRING, "clients are not bound to endpoints"),
	ROW(k8s_service_spec, selector, "selector", F_STRING_MAP),
	ROW(k8s_service_spec, ports, "ports", F_OBJECTS, .table = &table_service_port, .min = 0, .max = 4096),
	ROW(k8s_service_spec, publish_not_ready, "publishNotReadyAddresses", F_BOOL),
};
static const struct istio_table table_service_spec = TABLE(k8s_service_spec, "ServiceSpec", service_spec_rows, .is_open = true);

static const struct istio_field ingress_ip_rows[] = {ROW(k8s_ingress_ip, ip, "ip", F_STRING)};
static const struct istio_table table_ingress_ip = TABLE(k8s_ingress_ip, "LoadBalancerIngress", ingress_ip_rows, .is_open = true);
static const struct istio_field load_balancer_rows[] = {ROW(k8s_load_balancer, ingress, "ingress", F_OBJECTS, .table = &table_ingress_ip)};
static const struct istio_table table_load_balancer = TABLE(k8s_load_balancer, "LoadBalancerStatus", load_balancer_rows, .is_open = true);
static const struct istio_field service_status_rows[] = {ROW(k8s_service_status, load_balancer, "loadBalancer", F_OBJECT, .table = &table_load_balancer)};
static const struct istio_table table_service_status = TABLE(k8s_service_status, "ServiceStatus", service_status_rows, .is_open = true);
static const struct istio_field service_rows[] = {
	ROW(k8s_service, spec, "spec", F_OBJECT, .table = &table_service_spec),
	ROW(k8s_service, status, "status", F_OBJECT, .table = &table_service_status),
};
const struct istio_table istio_table_k8s_service = TABLE(k8s_service, "Service", service_rows, .is_open = true);

/* ---- Endpoints and EndpointSlice ---- */

static const struct istio_field target_ref_rows[] = {
	ROW(k8s_target_ref, kind, "kind", F_STRING),
	ROW(k8s_target_ref, name, "name", F_STRING),
	ROW(k8s_target_ref, namespace, "namespace", F_STRING),
};
static const struct istio_table table_target_ref = TABLE(k8s_target_ref, "ObjectReference", target_ref_rows, .is_open = true);

static const struct istio_field endpoint_port_rows[] = {
	ROW(k8s_endpoint_port, name, "name", F_STRING),
	ROW(k8s_endpoint_port, protocol, "protocol", F_STRING),
	ROW(k8s_endpoint_port, port, "port", F_INT, .min = 0, .max = PORT_MAX),
};
static const struct istio_table table_endpoint_port = TABLE(k8s_endpoint_port, "EndpointPort", endpoint_port_rows, .is_open = true);

static const struct istio_field conditions_rows[] = {
	ROW(k8s_conditions, ready, "ready", F_BOOL),
	ROW(k8s_conditions, serving, "serving", F_BOOL),
	ROW(k8s_conditions, terminating, "terminating", F_BOOL),
};
static const struct istio_table table_conditions = TABLE(k8s_conditions, "EndpointConditions", conditions_rows, .is_open = true);

static const struct istio_field slice_endpoint_rows[] = {
	ROW(k8s_slice_endpoint, addresses, "addresses", F_STRINGS),
	ROW(k8s_slice_endpoint, conditions, "conditions", F_OBJECT, .table = &table_conditions),
	ROW(k8s_slice_endpoint, target_ref, "targetRef", F_OBJECT, .table = &table_target_ref),
	ROW(k8s_slice_endpoint, zone, "zone", F_STRING),
	ROW(k8s_slice_endpoint, node_name, "nodeName", F_STRING),
};
static const struct istio_table table_slice_endpoint = TABLE(k8s_slice_endpoint, "Endpoint", slice_endpoint_rows, .is_open = true);

static const struct istio_field slice_rows[] = {
	ROW(k8s_endpoint_slice, address_type, "addressType", F_STRING),
	ROW(k8s_endpoint_slice, endpoints, "endpoints", F_OBJECTS, .table = &table_slice_endpoint, .min = 0, .max = 100000),
	ROW(k8s_endpoint_slice, ports, "ports", F_OBJECTS, .table = &table_endpoint_port, .min = 0, .max = 20000),
};
const struct istio_table istio_table_k8s_endpoint_slice = TABLE(k8s_endpoint_slice, "EndpointSlice", slice_rows, .is_open = true);

static const struct istio_field endpoint_address_rows[] = {
	ROW(k8s_endpoint_address, ip, "ip", F_STRING),
	ROW(k8s_endpoint_address, node_name, "nodeName", F_STRING),
	ROW(k8s_endpoint_address, target_ref, "targetRef", F_OBJECT, .table = &table_target_ref),
};
static const struct istio_table table_endpoint_address = TABLE(k8s_endpoint_address, "EndpointAddress", endpoint_address_rows, .is_open = true);

static const struct istio_field endpoint_subset_rows[] = {
	ROW(k8s_endpoint_subset, addresses, "addresses", F_OBJECTS, .table = &table_endpoint_address, .min = 0, .max = 100000),
	ROW(k8s_endpoint_subset, not_ready, "notReadyAddresses", F_OBJECTS, .table = &table_endpoint_address, .min = 0, .max = 100000),
	ROW(k8s_endpoint_subset, ports, "ports", F_OBJECTS, .table = &table_endpoint_port, .min = 0, .max = 20000),
};
static const struct istio_table table_endpoint_subset = TABLE(k8s_endpoint_subset, "EndpointSubset", endpoint_subset_rows, .is_open = true);

static const struct istio_field endpoints_rows[] = {ROW(k8s_endpoints, subsets, "subsets", F_OBJECTS, .table = &table_endpoint_subset)};
const struct istio_table istio_table_k8s_endpoints = TABLE(k8s_endpoints, "Endpoints", endpoints_rows, .is_open = true);

/* ---- Pod ---- */

static const struct istio_field container_port_rows[] = {
	ROW(k8s_container_port, name, "name", F_STRING),
	ROW(k8s_container_port, port, "containerPort", F_INT, .min = 1, .max = PORT_MAX),
};
static const struct istio_table table_container_port = TABLE(k8s_container_port, "ContainerPort", container_port_rows, .is_open = true);
static const struct istio_field container_rows[] = {ROW(k8s_container, ports, "ports", F_OBJECTS, .table = &table_container_port)};
static const struct istio_table table_container = TABLE(k8s_container, "Container", container_rows, .is_open = true);
static const struct istio_field pod_spec_rows[] = {
	ROW(k8s_pod_spec, service_account, "serviceAccountName", F_STRING),
	ROW(k8s_pod_spec, node_name, "nodeName", F_STRING),
	ROW(k8s_pod_spec, containers, "containers", F_OBJECTS, .table = &table_container),
};
static const struct istio_table table_pod_spec = TABLE(k8s_pod_spec, "PodSpec", pod_spec_rows, .is_open = true);
static const struct istio_field pod_ip_rows[] = {ROW(k8s_pod_ip, ip, "ip", F_STRING)};
static const struct istio_table table_pod_ip = TABLE(k8s_pod_ip, "PodIP", pod_ip_rows, .is_open = true);
static const struct istio_field pod_status_rows[] = {
	ROW(k8s_pod_status, pod_ip, "podIP", F_STRING),
	ROW(k8s_pod_status, phase, "phase", F_STRING),
	ROW(k8s_pod_status, pod_ips, "podIPs", F_OBJECTS, .table = &table_pod_ip),
};
static const struct istio_table table_pod_status = TABLE(k8s_pod_status, "PodStatus", pod_status_rows, .is_open = true);
static const struct istio_field pod_rows[] = {
	ROW(k8s_pod, spec, "spec", F_OBJECT, .table = &table_pod_spec),
	ROW(k8s_pod, status, "status", F_OBJECT, .table = &table_pod_status),
};
const struct istio_table istio_table_k8s_pod = TABLE(k8s_pod, "Pod", pod_rows, .is_open = true);

/* ---- kinds of which only the metadata is read, and ConfigMap ---- */

const struct istio_table istio_table_k8s_open = {.what = "resource", .size = sizeof(struct k8s_node), .is_open = true};
static const struct istio_field config_map_rows[] = {ROW(k8s_config_map, data, "data", F_STRING_MAP, .is_free_text = true)};
const struct istio_table istio_table_k8s_config_map = TABLE(k8s_config_map, "ConfigMap", config_map_rows, .is_open = true);
