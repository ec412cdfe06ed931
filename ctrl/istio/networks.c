/* Networks (features.md WE-3): the field tables of MeshNetworks (key meshNetworks of MeshConfig's ConfigMap), in which network an endpoint is, and which
 * gateways lead to another network. As istiod has it: the network of a workload is what it says, else its label, else the label of the root namespace, else the
 * range of meshNetworks that has its address; the gateways are those of meshNetworks and the Services that have the label. Where either side's network
 * is not known, or a network has no gateway, endpoints are reached themselves. */
#include "ctrl/istio/networks.h"

#include "ctrl/istio/rows.h"

#include <stdlib.h>
#include <string.h>

#define NETWORK_LABEL "topology.istio.io/network"
#define PORT_LABEL "networking.istio.io/gatewayPort"
#define GATEWAY_PORT 15443u

/* ---- fields ---- */

static const struct istio_field endpoints_rows[] = {
	ROW(network_endpoints, cidr, "fromCidr", F_STRING),
	ROW_NOTED(network_endpoints, registry, "fromRegistry", F_STRING,
		  "files do not say of which registry they are: label workloads, or the root namespace, with topology.istio.io/network"),
};

static void check_endpoints(struct istio_decode *d, void *object)
{
	const struct network_endpoints *e = object;

	if (e->cidr && !istio_is_cidr(e->cidr))
		istio_decode_error(d, "IST0106", &e->head, "fromCidr", "\"%.60s\" is not an address with or without /length", e->cidr);
}

static const struct istio_table table_endpoints = TABLE(network_endpoints, "Network.NetworkEndpoints", endpoints_rows, .check = check_endpoints);
static const struct istio_field gateway_rows[] = {
	ROW(network_gateway, service, "registryServiceName", F_STRING),
	ROW(network_gateway, address, "address", F_STRING),
	ROW(network_gateway, port, "port", F_INT, .min = 1, .max = PORT_MAX),
	ROW_IGNORED("locality", "Istio does nothing with it"),
};

static void check_gateway(struct istio_decode *d, void *object)
{
	const struct network_gateway *g = object;

	if ((g->service != NULL) + (g->address != NULL) != 1)
		istio_decode_error(d, "IST0106", &g->head, "", "exactly one of registryServiceName and address");
	else if (g->address && !istio_is_ip(g->address))
		istio_decode_error(d, "HF0005", &g->head, "address", "\"%.80s\" is not looked up; give an IP address", g->address);
}

static const struct istio_table table_gateway = TABLE(network_gateway, "Network.IstioNetworkGateway", gateway_rows, .check = check_gateway);
static const struct istio_field network_rows[] = {
	ROW(network, endpoints, "endpoints", F_OBJECTS, .table = &table_endpoints, .min = 0, .max = 1024),
	ROW(network, gateways, "gateways", F_OBJECTS, .table = &table_gateway, .min = 0, .max = 64),
};
static const struct istio_table table_network = TABLE(network, "Network", network_rows);
static const struct istio_field networks_rows[] = {ROW(mesh_networks, networks, "networks", F_OBJECT_MAP, .table = &table_network)};
const struct istio_table istio_table_mesh_networks = TABLE(mesh_networks, "MeshNetworks", networks_rows);

/* ---- gateways ---- */

static void add_way(struct compile *c, const char *network, const char *address, uint32_t port)
{
	bool is_new;
	void **place = istio_map_put(c->arena, &c->networks, network, &is_new);

	if (is_new)
		*place = ARENA_NEW(c->arena, struct network_ways);
	struct network_ways *ways = *place;
	const struct network_way way = {address, port};
	ways->network = network;
	for (uint32_t i = 0; i < ways->n; i++)
		if (ways->list[i].port == port && strcmp(ways->list[i].address, address) == 0)
			return;
	ARENA_PUSH(c->arena, ways, way);
}

/* How a Service is reached from elsewhere. False: not at all. */
static bool add_ways_of_service(struct compile *c, const char *network, const struct resource *r, uint32_t port)
{
	const struct k8s_service *k = r->spec;
	const struct k8s_load_balancer *lb = k->status ? k->status->load_balancer : NULL;
	bool has_any = false;

	for (uint32_t i = 0; lb && i < lb->ingress.n; i++) {
		const char *ip = ISTIO_ITEM(lb->ingress, struct k8s_ingress_ip, i)->ip;
		if (!ip || !istio_is_ip(ip))
			continue;
		add_way(c, network, ip, port);
		has_any = true;
	}
	for (uint32_t i = 0; k->spec && i < k->spec->external_ips.n; i++) {
		if (!istio_is_ip(k->spec->external_ips.list[i]))
			continue;
		add_way(c, network, k->spec->external_ips.list[i], port);
		has_any = true;
	}
	return has_any;
}

static void add_labelled_service(struct compile *c, const struct resource *r)
{
	const char *network = istio_compile_label(&r->labels, NETWORK_LABEL), *port = istio_compile_label(&r->labels, PORT_LABEL);
	unsigned long number = port ? strtoul(port, NULL, 10) : 0;

	if (!network || !network[0])
		return;
	if (!add_ways_of_service(c, network, r, number >= 1 && number <= PORT_MAX ? (uint32_t)number : GATEWAY_PORT))
		istio_compile_report(c, ISTIO_WARNING, "IST0101", r, r->node->at, "metadata.labels",
				     "the gateway of the network %s has no address: neither status.loadBalancer.ingress nor externalIPs has an IP address",
				     network);
}

static void add_named_service(struct compile *c, const char *network, const struct network_gateway *g, uint32_t port)
{
	const struct service *s = istio_registry_find(c, istio_compile_fqdn(c, g->service, c->root_namespace));

	if (!s || !s->is_k8s || !add_ways_of_service(c, network, s->source, port))
		istio_diags_add(c->diags, ISTIO_WARNING, "IST0101", c->model->networks_file->name, g->head.node->at, "MeshNetworks",
				istio_arena_printf(c->arena, "networks.%s.gateways", network),
				"there is no Service %s with an IP address in status.loadBalancer.ingress or externalIPs", g->service);
}

static void add_network(struct compile *c, const struct network *w)
{
	for (uint32_t i = 0; i < w->gateways.n; i++) {
		const struct network_gateway *g = ISTIO_ITEM(w->gateways, struct network_gateway, i);
		uint32_t port = g->port.value ? (uint32_t)g->port.value : GATEWAY_PORT;
		if (g->address && istio_is_ip(g->address))
			add_way(c, w->head.name, g->address, port);
		else if (g->service)
			add_named_service(c, w->head.name, g, port);
	}
}

/* ---- who is where ---- */

static const char *network_of_node(const struct compile *c)
{
	for (size_t i = 0; i < c->node->n_labels; i++)
		if (strcmp(c->node->label_keys[i], NETWORK_LABEL) == 0)
			return c->node->label_values[i];
	return c->network_of_root;
}

static const char *network_by_range(const struct compile *c, const char *address)
{
	const struct istio_list *all = &c->model->networks->networks;

	for (uint32_t i = 0; i < all->n; i++) {
		const struct network *w = ISTIO_ITEM(*all, struct network, i);
		for (uint32_t j = 0; j < w->endpoints.n; j++) {
			const char *cidr = ISTIO_ITEM(w->endpoints, struct network_endpoints, j)->cidr;
			if (cidr && istio_compile_cidr_has(cidr, address))
				return w->head.name;
		}
	}
	return NULL;
}

static const char *network_of(const struct compile *c, const struct instance *in)
{
	const char *label = istio_compile_label(in->labels, NETWORK_LABEL);

	if (in->network && in->network[0])
		return in->network;
	if (label && label[0])
		return label;
	return c->network_of_root ? c->network_of_root : network_by_range(c, in->address);
}

const struct network_ways *istio_networks_ways(struct compile *c, const struct instance *in)
{
	const char *own = c->networks.n ? network_of_node(c) : NULL, *theirs = own && own[0] ? network_of(c, in) : NULL;

	return theirs && strcmp(own, theirs) != 0 ? istio_map_get(&c->networks, theirs) : NULL;
}

static int by_text(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

char **istio_networks_cidrs(struct compile *c, size_t *n)
{
	const struct istio_list *all = &c->model->networks->networks;
	size_t n_room = 1;

	for (uint32_t i = 0; i < all->n; i++)
		n_room += ISTIO_ITEM(*all, struct network, i)->endpoints.n;
	char **list = ARENA_ARRAY(c->arena, char *, n_room);
	*n = 0;
	for (uint32_t i = 0; i < all->n; i++) {
		const struct network *w = ISTIO_ITEM(*all, struct network, i);
		for (uint32_t j = 0; j < w->endpoints.n; j++) {
			const char *cidr = ISTIO_ITEM(w->endpoints, struct network_endpoints, j)->cidr;
			if (cidr && istio_is_cidr(cidr))
				list[(*n)++] = (char *)(uintptr_t)cidr; /* packed, never written */
		}
	}
	if (*n)
		qsort(list, *n, sizeof(*list), by_text);
	return list;
}

void istio_networks_build(struct compile *c)
{
	const struct resource_list *services = &c->model->kinds[KIND_SERVICE];
	const struct istio_list *all = &c->model->networks->networks;
	const struct resource *root = istio_map_get(&c->model->by_id, istio_arena_printf(c->arena, "Namespace/%s", c->root_namespace));

	c->network_of_root = root ? istio_compile_label(&root->labels, NETWORK_LABEL) : NULL;
	for (uint32_t i = 0; i < all->n; i++)
		add_network(c, ISTIO_ITEM(*all, struct network, i));
	for (uint32_t i = 0; i < services->n; i++)
		add_labelled_service(c, services->list[i]);
}
