/* The compiler inside: what its files share. One compilation is single-threaded and lives in one arena. Private to the room. */
#pragma once

#include "ctrl/istio/model.h"

#include "snapshot.pb-c.h"

#define MESH_GATEWAY "mesh"
#define CLUSTER_PASSTHROUGH "PassthroughCluster"
#define CLUSTER_DYNAMIC_DNS "AllowAnyDynamicDNSCluster"
#define CLUSTER_BLACK_HOLE "BlackHoleCluster"
#define CAPTURED_ADDRESS "::" /* of a listener: all captured ones, in both families */

/* ---- services and their endpoints (registry.c) ---- */

enum port_protocol { PROTO_AUTO, PROTO_HTTP, PROTO_HTTP2, PROTO_GRPC, PROTO_GRPC_WEB, PROTO_HTTPS, PROTO_TLS, PROTO_TCP, PROTO_UDP };

struct service_port {
	uint32_t number;
	const char *name;
	enum port_protocol protocol;
	struct istio_int_or_string target;
	struct istio_pos at;
};

struct instance {
	const char *address;
	const struct istio_string_map *port_map;  /* of a ServiceEntry's endpoint, or NULL */
	const struct istio_list *slice_ports;     /* of Endpoints and EndpointSlice, or NULL */
	const struct k8s_pod *pod;                /* for named target ports, or NULL */
	const struct istio_string_map *labels;
	const char *locality, *workload, *namespace;
	const char *network; /* that it says itself, or NULL */
	const char *account; /* its SPIFFE id, or NULL */
	const struct health_check *check; /* its WorkloadGroup's, or NULL */
	uint32_t weight;
	bool is_ready, is_name; /* is_name: address is one, lower case */
};

struct instance_list {
	struct instance **list;
	uint32_t n, n_room;
};

struct service {
	const char *host, *namespace, *name; /* host: lower case */
	const struct resource *source;
	const struct istio_strings *export_to; /* or NULL */
	const struct istio_strings *accounts;  /* further names of its workloads' certificates, or NULL */
	struct service_port *ports;
	uint32_t n_ports;
	const char **vips;
	uint32_t n_vips;
	enum se_resolution resolution;
	bool is_k8s, is_headless, is_external, publish_not_ready;
	struct instance_list instances;
	struct service *next_same_host; /* of another namespace, younger */
	const char *alias_of;           /* ExternalName's target; such a service is in compile.aliases only */
	struct service *aliases, *next_alias; /* of this one, in any order */
	bool is_hidden;                 /* the node's Sidecar does not let it be reached but by gateways */
	bool has_slices, is_united;     /* its instances come from EndpointSlices; from more than one resource */
};

struct service_list {
	struct service **list;
	uint32_t n, n_room;
};

/* DestinationRules of one namespace and host, merged (DR-2): those for every client, and those whose workloadSelector fits this node (DR-6). */
struct merged_rule {
	struct merged_rule *selected; /* goes before this one for clients of the namespace; NULL: none does */
	bool has_selective; /* some have a selector, whomever it fits */
	bool is_selective; /* a selector is all that there is: for other clients there is no rule, and for those of the namespace none of another */
	const struct resource *source; /* the oldest */
	const struct destination_rule *rule;
	const struct traffic_policy *policy; /* of the oldest that has one; or NULL */
	const struct resource *policy_source;
	const char *host;
	struct {
		const struct subset **list;
		uint32_t n, n_room;
	} subsets;
	struct {
		const struct resource **list; /* of each subset */
		uint32_t n, n_room;
	} subset_sources;
};

/* A VirtualService as it is compiled: its http rules after delegates are merged in. */
struct vs {
	const struct resource *source;
	const struct virtual_service *spec;
	const char **hosts;          /* spec->hosts, lower case and with their domain */
	const struct http_route **http;
	const struct resource **http_source; /* where each rule stands: the delegate's when it has one */
	const uint32_t *http_index; /* and which one it is there */
	uint32_t n_http;
	bool is_hidden; /* in the mesh, by the node's Sidecar */
};
struct vs_list {
	struct vs **list;
	uint32_t n, n_room;
};

/* ---- clusters (clusters.c) ---- */

struct cluster_ref {
	const char *name;
	struct service *service; /* NULL: nothing is made (cluster not found at run time) */
	const struct service_port *port;
	const char *subset;      /* or NULL */
	const struct merged_rule *rule;
	const struct traffic_policy *mesh_policy; /* MeshConfig's, under the rule's; or NULL */
	bool is_for_http, is_for_tcp;
	bool is_passed_on;       /* bytes of a client's own mTLS go through (AUTO_PASSTHROUGH) */
};

/* ---- the compilation ---- */

struct host_list {
	const char **list;
	uint32_t n, n_room;
};

struct compile {
	const struct istio_model *model;
	const struct istio_node *node;
	struct istio_diags *diags;
	struct istio_arena *arena; /* scratch */
	struct istio_arena *out;   /* the snapshot's */
	const char *trust_domain, *root_namespace;

	struct service_list services;
	struct istio_map services_by_host;   /* struct service: oldest first by next_same_host */
	struct istio_map aliases;            /* host -> struct service that is another name (ExternalName) */
	struct istio_map rules;              /* "namespace/host" -> struct merged_rule */
	struct istio_map pods, pods_by_ip;   /* "namespace/name", address -> struct resource */
	struct istio_map node_localities;    /* a Node's name -> "region/zone/subzone" */
	struct istio_map slices;             /* "namespace/service" -> struct resource_list of its EndpointSlices, oldest first */
	struct vs_list virtual_services;     /* in order of age */
	struct istio_map vs_by_gateway;      /* "namespace/name" -> struct vs_list */
	struct istio_map mesh_vs;            /* host -> struct vs */
	struct istio_map clusters;           /* name -> struct cluster_ref */
	struct istio_map listener_keys;      /* "address_port" -> struct resource: who opened it */
	struct istio_map server_hosts;       /* "Gateway/ns/name#server" -> struct server_hosts */
	struct istio_map names;              /* that endpoints need -> struct service_list: whose */
	struct istio_map networks;           /* that have gateways: name -> struct network_ways */
	const char *network_of_root;         /* the root namespace's label, or NULL */
	struct istio_map groups;             /* WorkloadGroups that entries name: their ids */
	struct istio_map reported;
	struct istio_map secrets;            /* names of those that were emitted or refused */
	struct istio_map identities;         /* SPIFFE ids that are wanted */
	struct host_list files, unusable;    /* of istio_snapshot; allocated where it is */
	uint64_t files_stamp;

	struct {
		struct istio_resource *list;
		uint32_t n, n_room;
	} resources;
};

/* A snapshot with all that made it: patch.c goes on from there. */
struct owned_snapshot {
	struct istio_snapshot snapshot;
	struct istio_resource *resources; /* the snapshot's, to be changed */
	struct istio_arena arena, scratch; /* of the resources; of all else */
	struct compile compile;
	struct istio_model *model;        /* a reference */
	struct {
		struct istio_model **list;
		uint32_t n, n_room;
	} patches;                        /* models of contents that came later, likewise */
};
int istio_resource_compare(const void *x, const void *y); /* of struct istio_resource: by type, then name */

/* Only once for each place and code. */
void istio_compile_report(struct compile *c, enum istio_severity severity, const char *code, const struct resource *r, struct istio_pos at, const char *field,
		    const char *fmt, ...) __attribute__((format(printf, 7, 8)));
void istio_compile_emit(struct compile *c, uint32_t type, const char *name, const ProtobufCMessage *message);
Foil__Conf__SourceRef *istio_compile_source(struct compile *c, const struct resource *r, struct istio_pos at);
/* Visible from a namespace: exportTo, or the mesh's default for it. */
bool istio_compile_is_exported(const struct istio_strings *export_to, const struct istio_strings *fallback, const char *own_namespace,
			       const char *to_namespace);
const char *istio_compile_fqdn(struct compile *c, const char *host, const char *namespace); /* lower case; a name without a dot gets the cluster's domain */
bool istio_compile_host_has_subset(const char *wide, const char *narrow); /* every host of narrow is one of wide */
bool istio_compile_labels_have(const struct istio_string_map *all, const struct istio_string_map *wanted);
/* The same of labels that the node says, in any order: its own or a gateway address's. */
bool istio_compile_node_labels_have(const char *const *keys, const char *const *values, size_t n_labels, const struct istio_string_map *wanted);
const char *istio_compile_label(const struct istio_string_map *labels, const char *key);

bool istio_compile_cidr_has(const char *cidr, const char *address); /* "a.b.c.d/n" or an address; false when either is neither */
/* Of another station, and connections to it come to this node first. */
bool istio_compile_is_captured(const struct compile *c, const char *address);
/* Opens a listener, unless one is open at that address and port (reported at r). chains: in the order of the snapshot. */
void istio_compile_listener(struct compile *c, const struct resource *r, struct istio_pos at, const char *address, uint32_t port,
			    Foil__Conf__Direction direction,
		      Foil__Conf__FilterChain **chains, size_t n_chains);
/* The same, and whoever says nothing for that long counts as plaintext. */
void istio_compile_listener_with_hello(struct compile *c, const struct resource *r, struct istio_pos at, const char *address, uint32_t port,
				       Foil__Conf__FilterChain **chains, size_t n_chains, uint64_t hello_timeout_us);
Foil__Conf__FilterChain *istio_compile_chain(struct compile *c, const char *name, const struct resource *r, struct istio_pos at);
Foil__Conf__HttpConnectionManager *istio_compile_hcm(struct compile *c, const char *routes, bool is_gateway);
Foil__Conf__VirtualHost *istio_compile_vhost(struct compile *c, const char *host, uint32_t port, uint32_t n_domains);
void istio_compile_route_config(struct compile *c, const char *name, Foil__Conf__VirtualHost **vhosts, size_t n);

void istio_registry_build(struct compile *c);
static inline bool istio_registry_is_dns(const struct service *s)
{
	return s->resolution == RESOLUTION_DNS || s->resolution == RESOLUTION_DNS_ROUND_ROBIN;
}
/* The service's instances anew, from these EndpointSlices. */
void istio_registry_reslice(struct compile *c, struct service *s, const struct resource_list *slices);
struct service *istio_registry_find(const struct compile *c, const char *host);
/* The service that has host as its ExternalName's name, or NULL; its alias_of is the host that is meant. */
const struct service *istio_registry_alias(const struct compile *c, const char *host);
const struct service_port *istio_registry_port(const struct service *s, uint32_t number);
bool istio_registry_is_http(enum port_protocol p);
/* Of these a VirtualService's tls rules speak, and its tcp rules do not (istiod). */
static inline bool istio_registry_is_tls(enum port_protocol p)
{
	return p == PROTO_TLS || p == PROTO_HTTPS;
}
const struct merged_rule *istio_registry_rule(const struct compile *c, const struct service *s, const char *client_namespace);
const struct subset *istio_registry_subset(const struct merged_rule *r, const char *name);
enum port_protocol istio_registry_protocol(const char *name, uint32_t number);
enum port_protocol istio_registry_protocol_word(const char *word, size_t n);

/* VirtualServices with delegates resolved, indexed by gateway and mesh host. */
void istio_virtual_services_index(struct compile *c);
/* Where an http rule stands: "spec.http[1]", or what of an Ingress it was. index: vs.http_index. */
const char *istio_compile_rule_field(struct compile *c, const struct http_route *r, uint32_t index);

struct server_hosts;
/* Made at the first call for a server. */
const struct server_hosts *istio_hosts_of_server(struct compile *c, const struct resource *gateway, const struct gateway_server *server, uint32_t index);
/* The hosts that a server and a VirtualService have together: of each pair that overlaps the narrower one. */
struct host_list istio_hosts_meet(struct compile *c, const struct server_hosts *s, const struct vs *v);
bool istio_hosts_are_any(const struct host_list *l); /* "*" is one of them */
bool istio_hosts_touch(const struct server_hosts *s, const char *host, const char *namespace); /* whether they have any together */

/* Where the routes of a VirtualService are compiled for. */
struct route_scope {
	const char *gateway;   /* "namespace/name" or "mesh" */
	uint32_t port;
	const struct istio_gateway_address *labels; /* of the gateway, or NULL */
	const char *client_namespace;
	bool is_for_any; /* at a gateway, and the client may name any host */
};
struct route_list {
	Foil__Conf__Route **list;
	uint32_t n, n_room;
};
void istio_routes_of_http(struct compile *c, const struct vs *v, const struct route_scope *scope, struct route_list *out);
bool istio_route_is_catch_all(const Foil__Conf__Route *r);
/* The first tcp rule that fits, or NULL. vip: the address that a destinationSubnets condition is held against; NULL: they are not looked at. */
Foil__Conf__TcpProxy *istio_routes_of_tcp(struct compile *c, const struct vs *v, const struct route_scope *scope, const char *vip);
Foil__Conf__TcpProxy *istio_routes_of_tls(struct compile *c, const struct vs *v, const struct l4_route *r, const struct route_scope *scope, uint32_t index);
enum l4_fit { L4_FITS, L4_OTHER_PORT, L4_OTHER_SOURCE, L4_OTHER_SUBNET }; /* the first condition that fails */
enum l4_fit istio_routes_l4_compare(const struct compile *c, const struct vs *v, const struct l4_match *m, const struct route_scope *scope, const char *vip);
Foil__Conf__TcpProxy *istio_routes_tcp_to(struct compile *c, struct cluster_ref *ref, const struct service *s); /* s NULL: a cluster of no service */
Foil__Conf__RetryPolicy *istio_routes_default_retry(struct compile *c);
/* The route that a host without a VirtualService has. */
Foil__Conf__Route *istio_routes_default(struct compile *c, struct cluster_ref *ref, const struct service *s, uint32_t port);

struct cluster_ref *istio_clusters_ref(struct compile *c, struct service *s, const char *host, const char *subset, uint32_t port, const char *client_namespace,
				 bool is_http);
/* A cluster that passes on what a client's own mTLS carries: named as Istio's sni-dnat clusters, "outbound_.80_.v1_.host". */
struct cluster_ref *istio_clusters_ref_passed_on(struct compile *c, struct service *s, const struct service_port *port, const char *subset,
						 const char *client_namespace);
uint32_t istio_clusters_port_of(const struct service_port *p, const struct instance *in); /* 0: this endpoint does not have the port */
uint64_t istio_clusters_tcp_idle_us(const struct cluster_ref *ref);
const struct load_balancer *istio_clusters_load_balancer(const struct cluster_ref *ref); /* in force, or NULL */
bool istio_clusters_is_meshed(const struct compile *c, const struct cluster_ref *ref); /* istio_tls_is_of_mesh, by the settings in force */
void istio_clusters_emit(struct compile *c);
void istio_clusters_emit_endpoints(struct compile *c, struct service *s); /* of every cluster that the service has */

void istio_gateways_compile(struct compile *c);
void istio_outbound_compile(struct compile *c);
/* The VirtualService of the mesh that has the host: exact, else the longest wildcard; NULL: none. */
const struct vs *istio_outbound_vs(const struct compile *c, const char *host);
/* Whether clients of a namespace have it: by its exportTo and the node's Sidecar. */
bool istio_outbound_sees(const struct compile *c, const struct vs *v, const char *namespace);
/* Labels that the node has, or one of its gateways in the root namespace (sidecar.c). */
bool istio_sidecar_selects(const struct compile *c, const struct istio_string_map *wanted, const char *namespace);
/* The Sidecar in force at this node, or NULL (sidecar.c). */
const struct resource *istio_sidecar_of_node(const struct compile *c);
/* Marks what it does not let the node reach: before the mesh's listeners, after the gateways'. */
void istio_sidecar_apply(struct compile *c);
/* Where the node's Sidecar says that a host of a namespace is hidden: the entry that takes it away (*excluded), or the list in which it is not. */
struct istio_pos istio_sidecar_hides_at(struct compile *c, const char *namespace, const char *host, const char **excluded);
void istio_lint_model(struct compile *c);
