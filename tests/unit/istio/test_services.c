/* ctrl/istio/registry.c and outbound.c: services and endpoints of every kind, and services at their own addresses (features.md SE, WE, K8, VS-3, VS-5). */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <string.h>

#define LISTENER FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER
#define SERVICE(name, spec) "apiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: shop}\nspec: {" spec "}\n"
#define POD(name, ip, labels) \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: shop, labels: " labels "}\nstatus: {podIP: " ip ", phase: Running}\n"
#define CART "outbound|80||cart.shop.svc.cluster.local"

/* "ADDRESS:PORT ADDRESS:PORT" of a cluster's endpoints. */
static void assert_endpoints(const struct t_mesh *m, const char *cluster, const char *wanted)
{
	char text[1000] = "";
	Foil__Conf__Endpoints *e = t_endpoints(m, cluster);

	assert_non_null(e);
	for (size_t i = 0; i < e->n_endpoints; i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s:%u", i ? " " : "", e->endpoints[i]->address, e->endpoints[i]->port);
	foil__conf__endpoints__free_unpacked(e, NULL);
	assert_string_equal(text, wanted);
}

static void test_endpoint_slices_ports_by_name_and_ready_only(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE("cart", "clusterIP: 198.18.10.1, ports: [{name: http, port: 80, targetPort: web}]"),
				      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: cart-1, namespace: shop, labels: "
					      "{kubernetes.io/service-name: cart}}\n"
				      "ports: [{name: other, port: 1}, {name: http, port: 8080}]\nendpoints:\n- {addresses: [10.0.0.1], conditions: {ready: "
					      "true}, zone: z1}\n"
				      "- {addresses: [10.0.0.2], conditions: {ready: false}}\n- {addresses: [10.0.0.3]}\n",
				      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: cart-2, namespace: shop, labels: "
					      "{kubernetes.io/service-name: cart}}\n"
				      "ports: [{name: http, port: 9090}]\nendpoints: [{addresses: [10.0.0.4]}]\n", NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, CART);

	t_assert_no_diags(m);
	assert_endpoints(m, CART, "10.0.0.1:8080 10.0.0.3:8080 10.0.0.4:9090");
	assert_string_equal(e->endpoints[0]->locality, "/z1");
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_endpoints_objects_and_pods_by_reference_or_address(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE("cart", "clusterIP: 198.18.10.1, ports: [{name: http, port: 80}]"),
				      "apiVersion: v1\nkind: Endpoints\nmetadata: {name: cart, namespace: shop}\nsubsets:\n- addresses: [{ip: 10.0.0.1, "
					      "targetRef: {kind: Pod, name: cart-v1-abc}},"
				      " {ip: 10.0.0.2}]\n  notReadyAddresses: [{ip: 10.0.0.9}]\n  ports: [{name: http, port: 8080}]\n",
				      POD("cart-v1-abc", "10.0.0.1", "{app: cart, version: v1}"), POD("cart-v2", "10.0.0.2", "{app: cart, version: v2}"),
				      "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: cart, namespace: shop}\nspec: {host: "
					      "cart, subsets: [{name: v2, labels: {version: v2}}]}\n",
				      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop}\nspec: {hosts: "
					      "[cart], http: [{match: [{uri: {prefix: /2}}],"
				      " route: [{destination: {host: cart, subset: v2}}]}, {route: [{destination: {host: cart}}]}]}\n", NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, CART);

	t_assert_no_diags(m);
	assert_endpoints(m, CART, "10.0.0.1:8080 10.0.0.2:8080");
	assert_endpoints(m, "outbound|80|v2|cart.shop.svc.cluster.local", "10.0.0.2:8080");
	assert_string_equal(e->endpoints[0]->workload, "cart-v1-abc");
	assert_string_equal(e->endpoints[0]->workload_namespace, "shop");
	assert_string_equal(e->endpoints[0]->app, "cart");
	assert_string_equal(e->endpoints[0]->canonical_service, "cart");
	assert_string_equal(e->endpoints[0]->canonical_revision, "v1");
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_pods_by_selector_where_no_controller_made_endpoints(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE("cart", "clusterIP: 198.18.10.1, selector: {app: cart, tier: web}, ports: [{name: http, port: 80, targetPort: "
					      "web}]"),
				      POD("a", "10.0.0.1", "{app: cart, tier: web}") "spec: {containers: [{ports: [{name: web, containerPort: 8081}]}]}\n",
				      POD("b", "10.0.0.2", "{app: cart}"), POD("c", "10.0.0.3", "{app: cart, tier: web}"), NULL);

	assert_endpoints(m, CART, "10.0.0.1:8081"); /* c has no port of that name */
	t_mesh_free(m);
	(void)state;
}

static void test_a_deployments_name_is_the_workload(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE("cart", "clusterIP: 198.18.10.1, selector: {app: cart}, ports: [{name: http, port: 80}]"),
				      "apiVersion: v1\nkind: Pod\nmetadata: {name: cart-5d7-x, namespace: shop, labels: {app: cart}, ownerReferences: "
					      "[{kind: ReplicaSet, name: cart-5d7}]}\n"
				      "status: {podIP: 10.0.0.1}\n", NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, CART);

	assert_string_equal(e->endpoints[0]->workload, "cart");
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_service_entries_with_ports_weights_and_workload_entries(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s, namespace: shop}\nspec:\n  hosts: "
				      "[s.test]\n  addresses: [198.18.10.5]\n"
				      "  resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8000}]\n  workloadSelector: "
					      "{labels: {app: s}}\n",
				      "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w1, namespace: shop}\nspec: {address: "
					      "10.0.0.1, labels: {app: s},"
				      " ports: {http: 9999}, weight: 5, locality: r/z/s}\n",
				      "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w2, namespace: shop}\nspec: {address: "
					      "10.0.0.2, labels: {app: s}}\n",
				      "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w3, namespace: elsewhere}\nspec: {address: "
					      "10.0.0.3, labels: {app: s}}\n",
				      POD("p", "10.0.0.4", "{app: s}"), NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, "outbound|80||s.test");

	t_assert_no_diags(m);
	assert_endpoints(m, "outbound|80||s.test", "10.0.0.4:8000 10.0.0.1:9999 10.0.0.2:8000"); /* WE-1: ports beats targetPort beats number */
	assert_int_equal(e->endpoints[1]->weight, 5);
	assert_string_equal(e->endpoints[1]->locality, "r/z/s");
	assert_string_equal(e->endpoints[1]->workload, "w1");
	assert_false(e->endpoints[2]->has_weight);
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	(void)state;
}

#define SELECTING \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s, namespace: shop}\nspec:\n  hosts: [s.test]\n" \
	"  addresses: [198.18.10.5]\n  resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP}]\n" \
	"  workloadSelector: {labels: {app: s}}\n"
#define WORKLOAD(name, metadata, spec, status) \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: " name ", namespace: shop, " metadata "}\n" \
	"spec: {" spec "}\n" status

/* WE-2, WE-4: as istiod has it, labels of the metadata go before those of the spec, and who is told not to be well, or not told yet, gets nothing. */
static void test_a_workload_entrys_metadata_and_status_count(void **state)
{
#define TOLD "annotations: {proxy.istio.io/health-checks-enabled: 'true'}"
	struct t_mesh *m = t_mesh_new(SELECTING, WORKLOAD("a", "labels: {app: s, version: v2}", "address: 10.0.0.1, labels: {version: v1}", ""),
				      WORKLOAD("b", "labels: {app: other}", "address: 10.0.0.2, labels: {app: s}", ""),
				      WORKLOAD("c", TOLD, "address: 10.0.0.3, labels: {app: s}", "status: {conditions: [{type: Healthy, status: 'True'}]}\n"),
				      WORKLOAD("d", TOLD, "address: 10.0.0.4, labels: {app: s}", "status: {conditions: [{type: Healthy, status: 'False'}]}\n"),
				      WORKLOAD("e", TOLD, "address: 10.0.0.5, labels: {app: s}", ""),
				      WORKLOAD("f", "", "address: 10.0.0.6, labels: {app: s}", "status: {conditions: [{type: Healthy, status: 'False'}]}\n"),
				      NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, "outbound|80||s.test");

	t_assert_no_diags(m);
	assert_endpoints(m, "outbound|80||s.test", "10.0.0.1:80 10.0.0.3:80 10.0.0.6:80");
	assert_string_equal(e->endpoints[0]->version, "v2");
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	(void)state;
}

/* WG-1, WG-2: what an entry does not say is its group's template's, and the group's probe asks whether it is well. */
static void test_workload_entries_of_a_group(void **state)
{
#define OF_VMS "annotations: {istio.io/autoRegistrationGroup: vms}"
#define GROUP(name, spec) "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: " name ", namespace: shop}\nspec:\n" spec
	struct t_mesh *m = t_mesh_new(SELECTING,
				      GROUP("vms", "  metadata: {labels: {app: s, version: v2}}\n"
						   "  template: {ports: {http: 8000}, labels: {app: t, tier: x}, weight: 7, locality: r/z, "
						   "serviceAccount: vm}\n"
						   "  probe: {periodSeconds: 3, failureThreshold: 2, httpGet: {path: /ready, port: 9001, "
						   "httpHeaders: [{name: Host, value: Probe.test}, {name: X-Probe, value: yes-it-is}]}}\n"),
				      GROUP("idle", "  template: {}\n"), WORKLOAD("a", OF_VMS, "address: 10.0.0.1", ""),
				      WORKLOAD("b", OF_VMS, "address: 10.0.0.2, ports: {http: 8002}, weight: 1, locality: r/y, labels: {version: v3}",
					       ""),
				      WORKLOAD("c", "labels: {app: s}", "address: 10.0.0.3", ""),
				      WORKLOAD("d", "annotations: {istio.io/autoRegistrationGroup: none}", "address: 10.0.0.4, labels: {app: s}", ""), NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, "outbound|80||s.test");

	(void)t_diag(m, "HF0006", "workloads do not register themselves");
	(void)t_diag(m, "IST0101", "there is no WorkloadGroup none");
	assert_int_equal(m->diags.n_warnings, 2);
	assert_endpoints(m, "outbound|80||s.test", "10.0.0.1:8000 10.0.0.2:8002 10.0.0.3:80 10.0.0.4:80");
	assert_int_equal(e->endpoints[0]->weight, 7);
	assert_string_equal(e->endpoints[0]->version, "v2");
	assert_string_equal(e->endpoints[0]->locality, "r/z");
	assert_false(e->endpoints[1]->has_weight);
	assert_string_equal(e->endpoints[1]->version, "v3");
	assert_string_equal(e->endpoints[1]->locality, "r/y");
	assert_int_equal(e->n_health_checks, 1);
	assert_int_equal(e->endpoints[0]->health_check, 1);
	assert_int_equal(e->endpoints[1]->health_check, 1);
	assert_int_equal(e->endpoints[2]->health_check, 0);
	const Foil__Conf__HealthCheck *h = e->health_checks[0];
	assert_int_equal(h->port, 9001);
	assert_string_equal(h->http->path, "/ready");
	assert_string_equal(h->http->host, "probe.test");
	assert_int_equal(h->http->n_headers, 1);
	assert_string_equal(h->http->headers[0]->name, "x-probe");
	assert_int_equal(h->http->expected[0]->from, 200);
	assert_int_equal(h->http->expected[0]->to, 399);
	assert_int_equal(h->interval_us, 3000000);
	assert_int_equal(h->timeout_us, 1000000);
	assert_int_equal(h->healthy_threshold, 1);
	assert_int_equal(h->unhealthy_threshold, 2);
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	(void)state;
}

#define NETWORKS(text) "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  meshNetworks: |\n    " text "\n"
#define IN_MESH(endpoints) \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s, namespace: shop}\nspec:\n  hosts: [s.test]\n" \
	"  addresses: [198.18.10.5]\n  resolution: STATIC\n  location: MESH_INTERNAL\n  ports: [{number: 80, name: http, protocol: HTTP}]\n" \
	"  endpoints: [" endpoints "]\n"
#define MTLS "labels: {security.istio.io/tlsMode: istio}"

static struct istio_node node_in_network(void)
{
	static const char *const keys[] = {"topology.istio.io/network"}, *const values[] = {"here"};
	struct istio_node node = t_node;

	node.label_keys = keys;
	node.label_values = values;
	node.n_labels = 1;
	return node;
}

/* WE-3: gateways in place of what is behind them, with its weight; who says nothing of a network is reached itself, as is one without a gateway. */
static void test_endpoints_of_other_networks_are_behind_their_gateways(void **state)
{
	struct istio_node node = node_in_network();
	struct t_mesh *m = t_mesh_at(&node, NETWORKS("networks: {there: {endpoints: [{fromCidr: 10.2.0.0/16}], gateways: [{address: 192.0.2.1}, "
						     "{address: 192.0.2.2, port: 443}]}, here: {gateways: [{address: 192.0.2.9}]}}"),
				     "apiVersion: v1\nkind: Service\nmetadata: {name: ew, namespace: shop, labels: {topology.istio.io/network: far, "
				     "networking.istio.io/gatewayPort: '16443'}}\nspec: {ports: [{name: tls, port: 15443}]}\n"
				     "status: {loadBalancer: {ingress: [{ip: 192.0.2.7}]}}\n",
				     IN_MESH("{address: 10.0.0.1, " MTLS ", network: here}, {address: 10.0.0.2, " MTLS "}, "
					     "{address: 10.2.0.1, " MTLS ", weight: 3}, {network: there, " MTLS "}, "
					     "{address: 10.3.0.1, " MTLS ", network: far, locality: r/z}, {address: 10.3.0.2, network: far}, "
					     "{address: 10.4.0.1, network: unknown}, {network: here, " MTLS "}"), NULL);
	Foil__Conf__Endpoints *e = t_endpoints(m, "outbound|80||s.test");
	Foil__Conf__Cluster *c = t_cluster(m, "outbound|80||s.test");

	(void)t_diag(m, "HF0006", "endpoints of the network far that are not spoken to by the mesh's mTLS");
	(void)t_diag(m, "IST0101", "an endpoint without an address");
	assert_endpoints(m, "outbound|80||s.test", "10.0.0.1:80 10.0.0.2:80 10.4.0.1:80 192.0.2.1:15443 192.0.2.2:443 192.0.2.7:16443");
	assert_int_equal(e->endpoints[0]->weight, 2); /* of 2: all weights are twice what is written */
	assert_int_equal(e->endpoints[3]->weight, 4); /* (3 + 1) / 2 */
	assert_int_equal(e->endpoints[4]->weight, 4);
	assert_int_equal(e->endpoints[5]->weight, 2);
	assert_string_equal(e->endpoints[5]->locality, "r/z");
	assert_true(e->endpoints[3]->tls);
	assert_false(e->endpoints[2]->tls);
	assert_string_equal(c->tls->sni, "outbound_.80_._.s.test");
	foil__conf__cluster__free_unpacked(c, NULL);
	foil__conf__endpoints__free_unpacked(e, NULL);
	t_mesh_free(m);
	(void)state;
}

/* The node that says no network reaches all; ranges are those of internal clients (HD-5, HD-6). */
static void test_mesh_networks_name_internal_clients(void **state)
{
	struct t_mesh *m = t_mesh_new(NETWORKS("networks: {there: {endpoints: [{fromCidr: 10.2.0.0/16}, {fromCidr: 10.1.0.0/16}], gateways: [{address: "
					       "192.0.2.1}]}}"),
				      IN_MESH("{address: 10.2.0.1, " MTLS "}"), NULL);
	const struct istio_resource *r = &m->snapshot->resources[0];
	Foil__Conf__MeshSettings *s = foil__conf__mesh_settings__unpack(NULL, r->n_bytes, r->bytes);

	t_assert_no_diags(m);
	assert_endpoints(m, "outbound|80||s.test", "10.2.0.1:80");
	assert_int_equal(s->n_internal_cidrs, 2);
	assert_string_equal(s->internal_cidrs[0], "10.1.0.0/16");
	foil__conf__mesh_settings__free_unpacked(s, NULL);
	t_mesh_free(m);
	m = t_mesh_new(NETWORKS("networks: {there: {endpoints: [{fromCidr: 10.2.0.0/99}], gateways: [{address: gw.test}, {address: 192.0.2.1, "
				"registryServiceName: x.test}]}, far: {endpoints: [{fromRegistry: k}], gateways: [{registryServiceName: no.test}]}}"), NULL);
	(void)t_diag(m, "IST0106", "is not an address");
	(void)t_diag(m, "HF0005", "\"gw.test\" is not looked up");
	(void)t_diag(m, "IST0106", "exactly one of registryServiceName and address");
	(void)t_diag(m, "HF0006", "label workloads");
	(void)t_diag(m, "IST0101", "there is no Service no.test");
	t_mesh_free(m);
	(void)state;
}

static void test_resolution_none_goes_where_the_client_went(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s, namespace: shop}\nspec: {hosts: [s.test], "
				      "addresses: [198.18.10.5],"
				      " resolution: NONE, ports: [{number: 81, name: tcp, protocol: TCP}]}\n", NULL);
	Foil__Conf__Cluster *c = t_cluster(m, "outbound|81||s.test");

	assert_true(c->is_original_dst);
	t_assert_at(t_diag(m, "HF0017", "resolution NONE: where the client went is this node itself"), 4, 63, "spec.resolution");
	foil__conf__cluster__free_unpacked(c, NULL);
	t_mesh_free(m);
	(void)state;
}

#define ENTRY(name, rest) \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name ", namespace: shop}\nspec: {hosts: [" name ".test], " rest "}\n"

static void test_captured_addresses_have_the_listeners_of_a_sidecar(void **state)
{
	static const char *const captured[] = {"203.0.113.0/24", "2001:db8::/32"};
	struct istio_node node = t_node;
	node.captured_cidrs = captured;
	node.n_captured_cidrs = 2;
	struct t_mesh *m = t_mesh_at(&node, ENTRY("web", "resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}]"),
				     ENTRY("any", "resolution: NONE, ports: [{number: 9000, name: tcp, protocol: TCP}]"),
				     ENTRY("wide", "addresses: [203.0.0.0/16, 10.0.0.0/8], resolution: NONE, ports: [{number: 9000, name: tcp, "
						   "protocol: TCP}]"),
				     ENTRY("one", "addresses: [203.0.113.7], resolution: NONE, ports: [{number: 9000, name: tcp, protocol: TCP}]"),
				     ENTRY("second", "resolution: NONE, ports: [{number: 9000, name: tcp, protocol: TCP}]"), NULL);
	Foil__Conf__Listener *l = t_listener(m, "::_80");

	assert_true(l->captured);
	assert_int_equal(l->n_filter_chains, 1);
	assert_string_equal(l->filter_chains[0]->http->routes, "80");
	foil__conf__listener__free_unpacked(l, NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "80");
	assert_string_equal(t_vhost(r, "web.test")->routes[0]->route->clusters[0]->cluster, "outbound|80||web.test");
	assert_string_equal(t_vhost(r, "*")->routes[0]->route->clusters[0]->cluster, "PassthroughCluster");
	foil__conf__route_config__free_unpacked(r, NULL);
	l = t_listener(m, "::_9000");
	assert_int_equal(l->n_filter_chains, 2);
	assert_int_equal(l->filter_chains[0]->n_destination_cidrs, 0);
	assert_string_equal(l->filter_chains[0]->tcp->clusters[0]->cluster, "outbound|9000||any.test");
	assert_int_equal(l->filter_chains[1]->n_destination_cidrs, 1); /* what of its ranges is captured */
	assert_string_equal(l->filter_chains[1]->destination_cidrs[0], "203.0.113.0/24");
	assert_string_equal(l->filter_chains[1]->tcp->clusters[0]->cluster, "outbound|9000||wide.test");
	foil__conf__listener__free_unpacked(l, NULL);
	l = t_listener(m, "203.0.113.7_9000");
	assert_true(l->captured);
	foil__conf__listener__free_unpacked(l, NULL);
	l = t_listener(m, "::_0"); /* ports that nobody described */
	assert_true(l->captured);
	assert_string_equal(l->filter_chains[0]->tcp->clusters[0]->cluster, "PassthroughCluster");
	foil__conf__listener__free_unpacked(l, NULL);
	assert_int_equal(m->diags.n, 3);
	(void)t_diag(m, "IST0145", "port 9000 of every captured address is already that of ServiceEntry/shop/any");
	(void)t_diag(m, "IST0134", "write spec.addresses"); /* twice: any and second */
	t_mesh_free(m);
	(void)state;
}

#define SIDECAR(namespace, spec) "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: " namespace "}\nspec: " spec "\n"

static void test_captured_tls_goes_by_its_name(void **state)
{
	static const char *const captured[] = {"203.0.113.0/24"};
	struct istio_node node = t_node;
	node.captured_cidrs = captured;
	node.n_captured_cidrs = 1;
	struct t_mesh *m = t_mesh_at(&node, ENTRY("one", "resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}]"),
				     ENTRY("two", "resolution: NONE, ports: [{number: 443, name: https, protocol: HTTPS}]"),
				     ENTRY("vip", "addresses: [203.0.113.7], resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}]"),
				     ENTRY("range", "addresses: [203.0.113.8/30], resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}]"),
				     "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: two, namespace: shop}\nspec: {hosts: "
				     "[two.test, vip.test], tls: [{match: [{port: 443, sniHosts: [two.test]}, {sniHosts: [vip.test], port: 443}], route: "
				     "[{destination: {host: one.test}}]}]}\n",
				     SIDECAR("istio-system", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"), NULL);
	Foil__Conf__Listener *l = t_listener(m, "::_443");

	t_assert_no_diags(m);
	assert_int_equal(l->n_filter_chains, 4);
	assert_string_equal(l->filter_chains[0]->server_names[0], "one.test");
	assert_true(l->filter_chains[0]->is_tls_passthrough);
	assert_string_equal(l->filter_chains[0]->tcp->clusters[0]->cluster, "outbound|443||one.test");
	assert_string_equal(l->filter_chains[1]->server_names[0], "range.test");
	assert_string_equal(l->filter_chains[1]->destination_cidrs[0], "203.0.113.8/30");
	assert_int_equal(l->filter_chains[2]->n_server_names, 2); /* the VirtualService's */
	assert_string_equal(l->filter_chains[2]->server_names[0], "two.test");
	assert_string_equal(l->filter_chains[2]->tcp->clusters[0]->cluster, "outbound|443||one.test");
	assert_string_equal(l->filter_chains[3]->tcp->clusters[0]->cluster, "BlackHoleCluster"); /* the Sidecar's word before the mesh's */
	assert_true(l->hello_timeout_us > 0);
	foil__conf__listener__free_unpacked(l, NULL);
	l = t_listener(m, "203.0.113.7_443");
	assert_int_equal(l->n_filter_chains, 2);
	assert_int_equal(l->filter_chains[0]->n_server_names, 2);
	assert_string_equal(l->filter_chains[1]->tcp->clusters[0]->cluster, "BlackHoleCluster");
	foil__conf__listener__free_unpacked(l, NULL);
	l = t_listener(m, "::_0");
	assert_string_equal(l->filter_chains[0]->tcp->clusters[0]->cluster, "BlackHoleCluster");
	foil__conf__listener__free_unpacked(l, NULL);
	assert_endpoints(m, "BlackHoleCluster", "");
	t_mesh_free(m);
	(void)state;
}

#define ENTRY_OF(namespace, name, port) \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name ", namespace: " namespace "}\n" \
	"spec: {hosts: [" name ".test], resolution: STATIC, endpoints: [{address: 198.19.0.10}], ports: [{number: " port ", name: http, protocol: HTTP}]}\n"

/* The domains of port 8080 at a node with a label, under this Sidecar: "a.test b.test". A real istiod gave a sidecar of shop/front the same tables. */
static void assert_reached(const char *sidecar, const char *account, const char *expected)
{
	static const char *const captured[] = {"203.0.113.0/24"}, *const keys[] = {"app"}, *const values[] = {"front"};
	static const char *const names[] = {"a.test", "b.test", "c.test", "d.test"};
	struct istio_node node = t_node;
	char reached[256] = "";

	node.captured_cidrs = captured;
	node.n_captured_cidrs = 1;
	node.service_account = account;
	node.label_keys = keys;
	node.label_values = values;
	node.n_labels = 1;
	struct t_mesh *m = t_mesh_at(&node, ENTRY_OF("shop", "a", "8080"), ENTRY_OF("far", "b", "8080"), ENTRY_OF("far", "c", "8080"),
				     ENTRY_OF("far", "d", "8080"),
				     "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: shop}\n"
				     "spec: {hosts: [a.test], http: [{route: [{destination: {host: d.test}}]}]}\n", sidecar, NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "8080");
	for (size_t i = 0; r && i < sizeof(names) / sizeof(names[0]); i++)
		if (t_vhost(r, names[i]))
			snprintf(reached + strlen(reached), sizeof(reached) - strlen(reached), "%s%s", reached[0] ? " " : "", names[i]);
	assert_int_equal(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "outbound|8080||d.test"),
			 strstr(expected, "a.test") || strstr(expected, "d.test"));
	if (strcmp(reached, expected) != 0)
		fail_msg("%s of %s: reaches \"%s\", not \"%s\"", sidecar, account, reached, expected);
	if (r)
		foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
}

static void test_a_sidecar_limits_what_the_node_reaches(void **state)
{
	assert_reached("", "shop/front", "a.test b.test c.test d.test");
	assert_reached(SIDECAR("shop", "{egress: [{hosts: ['*/*']}]}"), "shop/front", "a.test b.test c.test d.test");
	assert_reached(SIDECAR("shop", "{egress: [{hosts: ['far/b.test']}]}"), "shop/front", "b.test");
	assert_reached(SIDECAR("shop", "{egress: [{hosts: ['far/*', '~far/c.test']}]}"), "shop/front", "b.test d.test");
	assert_reached(SIDECAR("shop", "{egress: [{hosts: ['*/*.test', '~/b.test']}]}"), "shop/front", "a.test c.test d.test");
	assert_reached(SIDECAR("shop", "{egress: [{hosts: ['./*']}]}"), "shop/front", "a.test"); /* d.test by a's VirtualService alone */
	assert_reached(SIDECAR("shop", "{egress: [{hosts: ['~/*']}]}"), "shop/front", "");
	/* whose it is */
	assert_reached(SIDECAR("far", "{egress: [{hosts: ['far/b.test']}]}"), "shop/front", "a.test b.test c.test d.test");
	assert_reached(SIDECAR("shop", "{workloadSelector: {labels: {app: front}}, egress: [{hosts: ['far/b.test']}]}"), "shop/front", "b.test");
	assert_reached(SIDECAR("shop", "{workloadSelector: {labels: {app: other}}, egress: [{hosts: ['far/b.test']}]}"), "shop/front",
		       "a.test b.test c.test d.test");
	assert_reached(SIDECAR("istio-system", "{egress: [{hosts: ['far/b.test']}]}"), "shop/front", "b.test");
	assert_reached(SIDECAR("istio-system", "{egress: [{hosts: ['./*']}]}"), "shop/front", "a.test");
	assert_reached(SIDECAR("istio-system", "{egress: [{hosts: ['./*']}]}"), NULL, "a.test b.test c.test d.test"); /* a node for clients of everywhere */
	(void)state;
}

static void test_gateways_reach_what_a_sidecar_does_not(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), SIDECAR("istio-system", "{egress: [{hosts: ['~/*']}]}"), NULL);

	t_assert_no_diags(m);
	assert_true(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "outbound|8080||one.test"));
	t_mesh_free(m);
	(void)state;
}

static void test_what_is_wrong_in_a_sidecar_is_told(void **state)
{
	struct t_mesh *m = t_mesh_new(SIDECAR("istio-system", "{egress: [{hosts: [shop]}]}"), SIDECAR("a", "{egress: [{hosts: ['*/*']}, {hosts: ['*/*']}]}"),
				      SIDECAR("b", "{egress: [{hosts: ['*/*'], port: {number: 80, protocol: HTTP, name: x}}]}"),
				      SIDECAR("c", "{inboundConnectionPool: {http: {http2MaxRequests: 1}}, ingress: []}"), NULL);

	(void)t_diag(m, "IST0106", "\"shop\" is not namespace/host");
	(void)t_diag(m, "IST0106", "a second listener without a port");
	(void)t_diag(m, "HF0005", "listeners of single ports");
	(void)t_diag(m, "HF0006", "stands in front of workloads");
	(void)t_diag(m, "HF0006", "not this node's");
	t_mesh_free(m);
	(void)state;
}

static void test_a_service_address_in_the_nodes_ranges_is_served(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE("cart", "clusterIP: 198.18.10.1, ports: [{name: http, port: 80}, {name: tcp-x, port: 9000}, {name: dns, port: "
					      "53, protocol: UDP}]"),
				      SERVICE("far", "clusterIP: 198.18.99.1, ports: [{name: http, port: 80}]"),
				      SERVICE("headless", "clusterIP: None, ports: [{name: http, port: 80}]"), NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.10.1_80");

	t_assert_no_diags(m);
	assert_int_equal(l->direction, FOIL__CONF__DIRECTION__DIRECTION_OUTBOUND);
	assert_string_equal(l->filter_chains[0]->http->routes, "80");
	assert_false(l->filter_chains[0]->http->use_remote_address);
	assert_string_equal(l->filter_chains[0]->http->server_name, "envoy"); /* HD-8 */
	foil__conf__listener__free_unpacked(l, NULL);
	l = t_listener(m, "198.18.10.1_9000");
	assert_string_equal(l->filter_chains[0]->tcp->clusters[0]->cluster, "outbound|9000||cart.shop.svc.cluster.local");
	foil__conf__listener__free_unpacked(l, NULL);
	assert_false(t_has(m, LISTENER, "198.18.10.1_53"));
	assert_false(t_has(m, LISTENER, "198.18.99.1_80"));
	Foil__Conf__RouteConfig *r = t_routes(m, "80");
	static const char *const domains[] = {"cart.shop.svc.cluster.local", "cart.shop.svc.cluster.local.", "cart.shop.svc", "cart.shop", "cart",
					      "198.18.10.1",
					      "far.shop", "198.18.99.1", "*.headless.shop.svc.cluster.local", "*"};
	for (size_t i = 0; i < sizeof(domains) / sizeof(domains[0]); i++)
		if (!t_vhost(r, domains[i]))
			fail_msg("no virtual host has %s", domains[i]);
	const Foil__Conf__Route *route = t_vhost(r, "cart")->routes[0];
	assert_string_equal(route->name, "default");
	assert_string_equal(route->route->clusters[0]->cluster, CART);
	assert_int_equal(route->route->retry->num_retries, 2);
	assert_string_equal(route->decorator_operation, "cart.shop.svc.cluster.local:80/*");
	assert_string_equal(t_vhost(r, "*")->routes[0]->name, "allow_any"); /* SE-11 */
	assert_string_equal(t_vhost(r, "*")->routes[0]->route->clusters[0]->cluster, "PassthroughCluster");
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_a_short_name_with_two_meanings_is_left_out(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE("cart", "clusterIP: 198.18.10.1, ports: [{name: http, port: 80}]"),
				      "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: other}\nspec: {clusterIP: 198.18.10.2, ports: "
					      "[{name: http, port: 80}]}\n", NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "80");

	assert_null(t_vhost(r, "cart"));
	assert_non_null(t_vhost(r, "cart.shop"));
	assert_non_null(t_vhost(r, "cart.other"));
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_registry_only_answers_502_to_unknown_hosts(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: "
				      "'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'}\n",
				      SERVICE("cart", "clusterIP: 198.18.10.1, ports: [{name: http, port: 80}]"), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "80");

	assert_int_equal(t_vhost(r, "*")->routes[0]->direct_response->status, 502);
	assert_string_equal(t_vhost(r, "*")->name, "block_all");
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
}

static void test_virtual_services_of_the_mesh_and_their_conflicts(void **state)
{
#define MESH_VS(name, host, status) \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name ", namespace: shop}\nspec:\n  hosts: ['" host "']\n  http: " \
		"[{directResponse: {status: " status "}}]\n"
	struct t_mesh *m = t_mesh_new(SERVICE("cart", "clusterIP: 198.18.10.1, ports: [{name: http, port: 80}]"), SERVICE("pay",
			"clusterIP: 198.18.10.2, ports: [{name: http, port: 80}]"),
				      MESH_VS("a", "cart", "201"), MESH_VS("b", "cart", "202"), MESH_VS("c", "*.shop.svc.cluster.local", "203"), MESH_VS("d",
						      "bare.test", "204"), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "80");

	assert_int_equal(t_vhost(r, "cart.shop")->n_routes, 1);
	assert_int_equal(t_vhost(r, "cart.shop")->routes[0]->direct_response->status, 201);
	assert_string_equal(t_diag(m, "IST0109", "this one is ignored")->resource, "VirtualService/shop/b");
	assert_int_equal(t_vhost(r, "pay.shop")->routes[0]->direct_response->status, 203); /* by its wildcard */
	assert_int_equal(t_vhost(r, "bare.test")->routes[0]->direct_response->status, 204); /* no service: on port 80 */
	foil__conf__route_config__free_unpacked(r, NULL);
	t_mesh_free(m);
	(void)state;
#undef MESH_VS
}

static void test_tcp_rules_of_the_mesh_by_port_and_subnet(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s, namespace: shop}\nspec: {hosts: [s.test], "
				      "addresses: [198.18.10.5, 198.18.10.6],"
				      " resolution: STATIC, ports: [{number: 81, name: tcp, protocol: TCP}], endpoints: [{address: 10.0.0.1}]}\n", T_WEB,
				      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: t, namespace: shop}\nspec: {hosts: "
					      "[s.test], tcp:"
				      " [{match: [{destinationSubnets: [198.18.10.6/32], port: 81}], route: [{destination: {host: web.test, port: {number: "
					      "9000}}}]}]}\n", NULL);
	Foil__Conf__Listener *l = t_listener(m, "198.18.10.6_81");

	assert_string_equal(l->filter_chains[0]->tcp->clusters[0]->cluster, "outbound|9000||web.test");
	foil__conf__listener__free_unpacked(l, NULL);
	l = t_listener(m, "198.18.10.5_81");
	assert_string_equal(l->filter_chains[0]->tcp->clusters[0]->cluster, "outbound|81||s.test"); /* VS-56: no match, the default */
	foil__conf__listener__free_unpacked(l, NULL);
	t_mesh_free(m);
	(void)state;
}

/* Another name for a service, and one for that name: as a destination, and as a host on the service's own address. */
static void test_an_external_name_stands_for_its_target(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, SERVICE("cart", "clusterIP: 198.18.10.1, ports: [{name: http, port: 80}]"),
				      SERVICE("a", "type: ExternalName, externalName: b.shop.svc.cluster.local"),
				      SERVICE("b", "type: ExternalName, externalName: cart.shop.svc.cluster.local, ports: [{port: 80}]"),
				      SERVICE("loop", "type: ExternalName, externalName: loop.shop.svc.cluster.local"),
				      T_VS("  http:\n  - {match: [{uri: {prefix: /a}}],\n"
				           "     route: [{destination: {host: a.shop.svc.cluster.local, port: {number: 80}}}]}\n"
					   "  - {route: [{destination: {host: b.shop.svc.cluster.local}}]}\n"), NULL);
	Foil__Conf__RouteConfig *r = t_routes(m, "http.80");

	assert_string_equal(r->virtual_hosts[0]->routes[0]->route->clusters[0]->cluster, "outbound|80||cart.shop.svc.cluster.local");
	assert_string_equal(r->virtual_hosts[0]->routes[1]->route->clusters[0]->cluster, "outbound|80||cart.shop.svc.cluster.local");
	foil__conf__route_config__free_unpacked(r, NULL);
	r = t_routes(m, "80");
	uint32_t found = 0;
	for (size_t i = 0; i < r->virtual_hosts[0]->n_domains; i++)
		found += strcmp(r->virtual_hosts[0]->domains[i], "a.shop.svc.cluster.local") == 0 || strcmp(r->virtual_hosts[0]->domains[i], "b") == 0;
	assert_int_equal(found, 2);
	foil__conf__route_config__free_unpacked(r, NULL);
	(void)t_diag(m, "IST0101", "has the host loop.shop.svc.cluster.local");
	t_mesh_free(m);
	(void)state;
}

static void test_what_cannot_be_served_is_told(void **state)
{
	struct t_mesh *m = t_mesh_new(SERVICE("ext", "type: ExternalName, externalName: x.test"), SERVICE("nameless", "type: ExternalName"), SERVICE("auto",
			"clusterIP: 198.18.10.9, ports: [{name: web, port: 7000}]"),
				      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: lost, namespace: shop}\nendpoints: []\n",
				      SERVICE("twin", "clusterIP: 198.18.10.9, ports: [{name: tcp, port: 7000}]"), NULL);

	(void)t_diag(m, "IST0101", "has the host x.test");
	t_assert_at(t_diag(m, "HF0007", "says the host that it stands for"), 9, 14, "spec.externalName");
	(void)t_diag(m, "IST0118", "served as TCP");
	(void)t_diag(m, "HF0012", "belongs to no Service");
	(void)t_diag(m, "IST0145", "198.18.10.9 port 7000 is already that of Service/shop/auto");
	t_mesh_free(m);
	(void)state;
}

static void test_a_service_that_is_not_exported_to_the_gateway_is_not_found(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE "  exportTo: ['.']\n",
				      "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop, annotations: {networking.istio.io/exportTo: "
					      "'x, ~'}}\n"
				      "spec: {clusterIP: 198.18.10.1, ports: [{name: http, port: 80}]}\n",
				      T_VS("  http:\n  - {match: [{uri: {prefix: /c}}], route: [{destination: {host: cart.shop.svc.cluster.local}}]}\n  - "
					   "" T_TO_ONE "\n"), NULL);

	(void)t_diag(m, "IST0101", "ServiceEntry/app/one is not exported to istio-system");
	(void)t_diag(m, "IST0101", "Service/shop/cart is not exported to istio-system");
	assert_false(t_has(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "outbound|8080||one.test"));
	t_mesh_free(m);
	(void)state;
}

static void test_rules_for_hosts_that_nobody_has_are_told(void **state)
{
	struct t_mesh *m = t_mesh_new("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: shop}\nspec: {host: "
				      "nobody}\n", NULL);

	t_assert_at(t_diag(m, "IST0174", "nobody.shop.svc.cluster.local"), 4, 14, "spec.host");
	t_mesh_free(m);
	(void)state;
}

static void test_a_second_resource_of_one_host_adds_its_endpoints(void **state)
{
	struct t_mesh *m = t_mesh_new(T_GATEWAY, T_ONE, T_VS("  http: [{" T_TO_ONE "}]\n"), "apiVersion: networking.istio.io/v1\nkind: "
				      "ServiceEntry\nmetadata: {name: two, namespace: app}\n"
				      "spec: {hosts: [one.test], resolution: STATIC, ports: [{number: 8080, name: http, protocol: HTTP}], endpoints: "
					      "[{address: 198.19.0.99}]}\n", NULL);

	assert_endpoints(m, "outbound|8080||one.test", "198.19.0.10:8080 198.19.0.99:8080");
	(void)t_diag(m, "HF0011", "already that of ServiceEntry/app/one");
	t_mesh_free(m);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_endpoint_slices_ports_by_name_and_ready_only),
		cmocka_unit_test(test_endpoints_objects_and_pods_by_reference_or_address),
		cmocka_unit_test(test_pods_by_selector_where_no_controller_made_endpoints),
		cmocka_unit_test(test_a_deployments_name_is_the_workload),
		cmocka_unit_test(test_service_entries_with_ports_weights_and_workload_entries),
		cmocka_unit_test(test_a_workload_entrys_metadata_and_status_count),
		cmocka_unit_test(test_workload_entries_of_a_group),
		cmocka_unit_test(test_endpoints_of_other_networks_are_behind_their_gateways),
		cmocka_unit_test(test_mesh_networks_name_internal_clients),
		cmocka_unit_test(test_resolution_none_goes_where_the_client_went),
		cmocka_unit_test(test_captured_addresses_have_the_listeners_of_a_sidecar),
		cmocka_unit_test(test_a_sidecar_limits_what_the_node_reaches),
		cmocka_unit_test(test_gateways_reach_what_a_sidecar_does_not),
		cmocka_unit_test(test_what_is_wrong_in_a_sidecar_is_told),
		cmocka_unit_test(test_captured_tls_goes_by_its_name),
		cmocka_unit_test(test_a_service_address_in_the_nodes_ranges_is_served),
		cmocka_unit_test(test_a_short_name_with_two_meanings_is_left_out),
		cmocka_unit_test(test_registry_only_answers_502_to_unknown_hosts),
		cmocka_unit_test(test_virtual_services_of_the_mesh_and_their_conflicts),
		cmocka_unit_test(test_tcp_rules_of_the_mesh_by_port_and_subnet),
		cmocka_unit_test(test_an_external_name_stands_for_its_target),
		cmocka_unit_test(test_what_cannot_be_served_is_told),
		cmocka_unit_test(test_a_service_that_is_not_exported_to_the_gateway_is_not_found),
		cmocka_unit_test(test_rules_for_hosts_that_nobody_has_are_told),
		cmocka_unit_test(test_a_second_resource_of_one_host_adds_its_endpoints),
	};
	return cmocka_run_group_tests_name("istio.services", tests, NULL, NULL);
}
