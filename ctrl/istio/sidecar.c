/* Sidecar (features.md SC-1, SC-2, SC-5): the field tables, which one is this node's, and what it lets the node reach. A node is a workload like others: of
 * the namespace of its service account, with the labels of its node file. At gateways no Sidecar has a say, as in Istio.
 *
 * A node of the root namespace stands for the clients of all: there "." in the mesh-wide Sidecar is each service's own namespace. */
#include "ctrl/istio/compile.h"
#include "ctrl/istio/rows.h"

#include <string.h>

/* ---- fields ---- */

static const char port_note[] = "listeners of single ports are for proxies that are asked by an address of their own: leave it out, and hosts are reached at "
				"their ports";
static const struct istio_field egress_rows[] = {
	ROW_REFUSED("port", port_note),
	ROW_REFUSED("bind", port_note),
	ROW_REFUSED("captureMode", port_note),
	ROW(egress_listener, hosts, "hosts", F_STRINGS, .min = 1, .max = 4096),
};

static bool is_egress_host(const char *text)
{
	const char *namespace = text[0] == '~' ? text + 1 : text, *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - namespace) : 0;

	if (!slash || !istio_is_host(slash + 1, true))
		return false;
	if (n == 0)
		return text[0] == '~';
	if (n == 1 && (namespace[0] == '*' || namespace[0] == '.'))
		return true;
	return n <= 63 && strspn(namespace, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static void check_egress(struct istio_decode *d, void *object)
{
	struct egress_listener *e = object;

	for (uint32_t i = 0; i < e->hosts.n; i++)
		if (!is_egress_host(e->hosts.list[i]))
			istio_decode_error(d, "IST0106", &e->head, "hosts", "\"%.80s\" is not namespace/host: the namespace is a name, \"*\", \".\" or \"~\", "
					   "the host a name, \"*\" or \"*.example.com\"", e->hosts.list[i]);
}
static const struct istio_table table_egress = TABLE(egress_listener, "IstioEgressListener", egress_rows, .check = check_egress);

static const struct istio_field sidecar_outbound_rows[] = {
	ROW(outbound_policy, mode, "mode", F_ENUM, .words = istio_outbound_words),
	ROW_REFUSED("egressProxy", "what goes to hosts that nobody described goes to where it went; route it by a ServiceEntry and a VirtualService"),
};

static void check_sidecar_outbound(struct istio_decode *d, void *object)
{
	struct outbound_policy *p = object;

	if (p->mode.is_set && p->mode.value == OUTBOUND_ALLOW_ANY_DYNAMIC_DNS)
		istio_decode_error(d, "IST0106", &p->head, "mode", "ALLOW_ANY_DYNAMIC_DNS is for MeshConfig, not for a Sidecar");
}

static const struct istio_table table_sidecar_outbound =
	TABLE(outbound_policy, "OutboundTrafficPolicy", sidecar_outbound_rows, .check = check_sidecar_outbound);
static const char ingress_note[] = "a node stands in front of workloads, not beside one: their ports are reached as the Service says; where an application "
				   "listens at another port of the pod's address write that as the Service's targetPort";
static const char inbound_note[] = "a node stands in front of workloads, not beside one: the connectionPool of the destination's DestinationRule limits all of "
				   "its workloads together, and so each; a smaller limit of single workloads is not kept";
static const struct istio_field sidecar_rows[] = {
	ROW(sidecar, selector, "workloadSelector", F_OBJECT, .table = &istio_table_workload_selector),
	ROW_NOTED(sidecar, ingress, "ingress", F_ANY, ingress_note),
	ROW(sidecar, egress, "egress", F_OBJECTS, .table = &table_egress, .min = 0, .max = 64),
	ROW(sidecar, outbound, "outboundTrafficPolicy", F_OBJECT, .table = &table_sidecar_outbound),
	ROW_NOTED(sidecar, inbound_pool, "inboundConnectionPool", F_ANY, inbound_note),
};

static void check_sidecar(struct istio_decode *d, void *object)
{
	struct sidecar *s = object;

	if (s->egress.n > 1)
		istio_decode_error(d, "IST0106", &s->head, "egress[1]", "a second listener without a port: write its hosts to the first");
}

const struct istio_table istio_table_sidecar = TABLE(sidecar, "Sidecar", sidecar_rows, .check = check_sidecar);

/* ---- whose it is ---- */

static const char *node_namespace(const struct compile *c)
{
	const char *account = c->node->service_account, *slash = account ? strchr(account, '/') : NULL;

	return slash ? istio_arena_copy(c->arena, account, (size_t)(slash - account)) : c->root_namespace;
}

bool istio_sidecar_selects(const struct compile *c, const struct istio_string_map *wanted, const char *namespace)
{
	const struct istio_node *n = c->node;

	if (strcmp(namespace, node_namespace(c)) == 0 && istio_compile_node_labels_have(n->label_keys, n->label_values, n->n_labels, wanted))
		return true;
	for (size_t i = 0; strcmp(namespace, c->root_namespace) == 0 && i < n->n_gateways; i++)
		if (istio_compile_node_labels_have(n->gateways[i].label_keys, n->gateways[i].label_values, n->gateways[i].n_labels, wanted))
			return true;
	return false;
}

/* The oldest one of a namespace: of those that select the node, or of those that select everything. */
static const struct resource *oldest(const struct compile *c, const char *namespace, bool by_labels)
{
	const struct resource_list *list = &c->model->kinds[KIND_SIDECAR];

	for (uint32_t i = 0; i < list->n; i++) {
		const struct sidecar *s = list->list[i]->spec;
		bool has_labels = s->selector && s->selector->labels.n;
		if (strcmp(list->list[i]->namespace, namespace) == 0 && has_labels == by_labels &&
		    (!has_labels || istio_compile_node_labels_have(c->node->label_keys, c->node->label_values, c->node->n_labels, &s->selector->labels)))
			return list->list[i];
	}
	return NULL;
}

const struct resource *istio_sidecar_of_node(const struct compile *c)
{
	const char *own = node_namespace(c);
	const struct resource *r = oldest(c, own, true);

	r = r ? r : oldest(c, own, false);
	return r ? r : oldest(c, c->root_namespace, false);
}

/* ---- what it lets the node reach ---- */

struct scope {
	const struct istio_strings *hosts;
	const char *namespace; /* that "." means; NULL: everybody's own */
};

static bool entry_has(const struct scope *s, const char *entry, const char *namespace, const char *host)
{
	const char *slash = strchr(entry, '/');
	size_t n = (size_t)(slash - entry);
	const char *own = s->namespace ? s->namespace : namespace;
	bool same;

	if (n == 0 || (n == 1 && entry[0] == '*'))
		same = true;
	else if (n == 1 && entry[0] == '.')
		same = strcmp(own, namespace) == 0;
	else
		same = strlen(namespace) == n && memcmp(namespace, entry, n) == 0;
	return same && istio_compile_host_has_subset(slash + 1, host);
}

/* "~ns/host" takes away whatever the others say: *excluded is the first such entry, or NULL. */
static bool has_host(struct compile *c, const struct scope *s, const char *namespace, const char *host, const char **excluded)
{
	bool has = false;

	*excluded = NULL;
	for (uint32_t i = 0; i < s->hosts->n; i++) {
		const char *entry = istio_arena_lower(c->arena, s->hosts->list[i]);
		if (entry[0] != '~') {
			has = has || entry_has(s, entry, namespace, host);
		} else if (entry_has(s, entry + 1, namespace, host)) {
			*excluded = s->hosts->list[i];
			return false;
		}
	}
	return has;
}

/* A VirtualService of the mesh is there when one of its hosts is imported, a narrower one too; where it sends requests need not be (istiod). */
static bool has_any_host(struct compile *c, const struct scope *s, const struct vs *v)
{
	const char *excluded;

	for (uint32_t i = 0; i < v->spec->hosts.n; i++)
		if (has_host(c, s, v->source->namespace, v->hosts[i], &excluded))
			return true;
	for (uint32_t i = 0; i < v->spec->hosts.n; i++)
		for (uint32_t j = 0; v->hosts[i][0] == '*' && j < s->hosts->n; j++) {
			const char *entry = istio_arena_lower(c->arena, s->hosts->list[j]), *name = strchr(entry, '/') + 1;
			if (entry[0] != '~' && istio_compile_host_has_subset(v->hosts[i], name) && entry_has(s, entry, v->source->namespace, name))
				return true;
		}
	return false;
}

/* False: no Sidecar limits what the node reaches. */
static bool scope_of_node(struct compile *c, struct scope *out, const struct egress_listener **egress)
{
	const struct resource *r = istio_sidecar_of_node(c);
	const struct sidecar *sidecar = r ? r->spec : NULL;
	const char *own = node_namespace(c);

	if (!sidecar || sidecar->egress.n == 0)
		return false;
	*egress = ISTIO_ITEM(sidecar->egress, struct egress_listener, 0);
	*out = (struct scope){.hosts = &(*egress)->hosts, .namespace = strcmp(own, c->root_namespace) == 0 ? NULL : own};
	return true;
}

void istio_sidecar_apply(struct compile *c)
{
	const struct egress_listener *egress;
	const char *excluded;
	struct scope s;

	if (!scope_of_node(c, &s, &egress))
		return;
	for (uint32_t i = 0; i < c->services.n; i++)
		c->services.list[i]->is_hidden = !has_host(c, &s, c->services.list[i]->namespace, c->services.list[i]->host, &excluded);
	for (uint32_t i = 0; i < c->virtual_services.n; i++)
		c->virtual_services.list[i]->is_hidden = !has_any_host(c, &s, c->virtual_services.list[i]);
}

struct istio_pos istio_sidecar_hides_at(struct compile *c, const char *namespace, const char *host, const char **excluded)
{
	const struct egress_listener *egress;
	struct scope s;

	*excluded = NULL;
	if (!scope_of_node(c, &s, &egress))
		return (struct istio_pos){0};
	(void)has_host(c, &s, namespace, host, excluded); /* the entry is what is asked for */
	const struct doc_node *list = istio_doc_find(egress->head.node, "hosts");
	for (uint32_t i = 0; *excluded && i < s.hosts->n; i++)
		if (s.hosts->list[i] == *excluded)
			return list->children[i]->at;
	return list ? list->at : egress->head.node->at;
}
