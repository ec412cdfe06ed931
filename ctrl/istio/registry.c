/* Services, whatever resource they come from, with their ports, addresses and endpoints; and the DestinationRules that apply to them.
 * features.md SE-1..SE-10, WE-1..WE-3, K8-1..K8-3, DR-1, DR-2. A host that several resources claim: Kubernetes before ServiceEntry, then the oldest. */
#include "ctrl/istio/workloads.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define ALIAS_HOPS_MAX 8u /* names that stand for names */

/* ---- protocols ---- */

enum port_protocol istio_registry_protocol_word(const char *word, size_t n)
{
	static const struct {
		const char *name;
		enum port_protocol protocol;
	} names[] = {{"http", PROTO_HTTP}, {"http2", PROTO_HTTP2}, {"grpc", PROTO_GRPC}, {"grpc-web", PROTO_GRPC_WEB}, {"https", PROTO_HTTPS},
		     {"tls", PROTO_TLS}, {"tcp", PROTO_TCP}, {"mongo", PROTO_TCP}, {"mysql", PROTO_TCP}, {"redis", PROTO_TCP}, {"udp", PROTO_UDP},
		     {"kubernetes.io/h2c", PROTO_HTTP2}, {"kubernetes.io/ws", PROTO_HTTP}, {"kubernetes.io/wss", PROTO_HTTPS}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i].name) == n && strncasecmp(word, names[i].name, n) == 0)
			return names[i].protocol;
	return PROTO_AUTO;
}

enum port_protocol istio_registry_protocol(const char *name, uint32_t number)
{
	if (name) {
		if (strncasecmp(name, "grpc-web", 8) == 0 && (name[8] == 0 || name[8] == '-'))
			return PROTO_GRPC_WEB;
		enum port_protocol p = istio_registry_protocol_word(name, strcspn(name, "-"));
		if (p != PROTO_AUTO)
			return p;
	}
	return number == 25 || number == 53 || number == 3306 || number == 27017 ? PROTO_TCP : PROTO_AUTO; /* K8-2 */
}

bool istio_registry_is_http(enum port_protocol p)
{
	return p == PROTO_HTTP || p == PROTO_HTTP2 || p == PROTO_GRPC || p == PROTO_GRPC_WEB;
}

/* ---- services ---- */

static void add_service(struct compile *c, struct service *s)
{
	bool is_new;
	struct service **place = (struct service **)istio_map_put(c->arena, &c->services_by_host, s->host, &is_new);

	for (; *place; place = &(*place)->next_same_host) {
		if (strcmp((*place)->namespace, s->namespace) == 0) {
			istio_compile_report(c, ISTIO_WARNING, "HF0011", s->source, s->source->node->at, "spec.hosts",
				       "the host %s is already that of %s: only its endpoints are added to that one", s->host, (*place)->source->id);
			break;
		}
	}
	if (!*place)
		*place = s;
	ARENA_PUSH(c->arena, &c->services, s);
}

/* Addresses that stand for one host: "a.b.c.d" and "a.b.c.d/32". */
static void add_vip(struct compile *c, struct service *s, const char *text)
{
	char *copy = istio_arena_copy(c->arena, text, strlen(text)), *slash = strchr(copy, '/');

	if (slash) {
		if (strcmp(slash, strchr(copy, ':') ? "/128" : "/32") != 0)
			return;
		*slash = 0;
	}
	if (istio_is_ip(copy) && strcmp(copy, "0.0.0.0") != 0)
		s->vips[s->n_vips++] = copy;
}

static void service_entry_ports(struct compile *c, struct service *s, const struct service_entry *e)
{
	s->ports = ARENA_ARRAY(c->arena, struct service_port, e->ports.n);
	for (uint32_t i = 0; i < e->ports.n; i++) {
		const struct object_port *p = ISTIO_ITEM(e->ports, struct object_port, i);
		enum port_protocol protocol = p->protocol && p->protocol[0] ? istio_registry_protocol_word(p->protocol, strlen(p->protocol))
									    : istio_registry_protocol(p->name, (uint32_t)p->number.value);
		s->ports[s->n_ports++] = (struct service_port){.number = (uint32_t)p->number.value, .name = p->name, .protocol = protocol,
							       .at = p->head.node->at,
			.target = {.is_set = p->target_port.value != 0, .number = (uint32_t)p->target_port.value}};
	}
}

static struct service *service_entry_host(struct compile *c, const struct resource *r, const struct service_entry *e, uint32_t i)
{
	struct service *s = ARENA_NEW(c->arena, struct service);

	s->host = istio_arena_lower(c->arena, e->hosts.list[i]);
	s->namespace = r->namespace;
	s->name = s->host; /* Istio: the service's name is its host */
	s->source = r;
	s->export_to = e->export_to.n ? &e->export_to : NULL;
	s->resolution = (enum se_resolution)e->resolution.value;
	s->is_external = e->location.value == LOCATION_MESH_EXTERNAL;
	s->publish_not_ready = false;
	s->accounts = e->subject_alt_names.n ? &e->subject_alt_names : NULL;
	s->vips = ARENA_ARRAY(c->arena, const char *, e->addresses.n);
	for (uint32_t j = 0; j < e->addresses.n; j++)
		add_vip(c, s, e->addresses.list[j]);
	service_entry_ports(c, s, e);
	return s;
}

/* NULL: it has none. */
static const char *account_of(struct compile *c, const char *namespace, const char *name, const char *otherwise)
{
	const char *account = name && name[0] ? name : otherwise;

	return account ? istio_arena_printf(c->arena, "spiffe://%s/ns/%s/sa/%s", c->trust_domain, namespace, account) : NULL;
}

static struct instance *instance_of_entry(struct compile *c, const struct workload_entry *w, const struct resource *r)
{
	struct instance *in = ARENA_NEW(c->arena, struct instance);
	const char *address = w->address ? w->address : ""; /* none: in another network, behind its gateway */
	bool is_name = !istio_is_ip(address);

	*in = (struct instance){.address = is_name ? istio_arena_lower(c->arena, address) : address, .is_name = is_name, .port_map = &w->ports,
				.labels = &w->labels, .locality = w->locality, .network = w->network, .namespace = r->namespace,
				.workload = r->row->id == KIND_WORKLOAD_ENTRY ? r->name : NULL, .weight = w->weight.value ? (uint32_t)w->weight.value : 1,
				.account = account_of(c, r->namespace, w->service_account, NULL), .is_ready = true};
	return in;
}

/* Of the label istio-locality, in which dots may stand for slashes; else of the Node. NULL: not known. */
static const char *locality_of_workload(struct compile *c, const struct istio_string_map *labels, const char *node_name)
{
	const char *label = istio_compile_label(labels, "istio-locality");

	if (!label || !label[0])
		return node_name ? istio_map_get(&c->node_localities, node_name) : NULL;
	char *text = istio_arena_copy(c->arena, label, strlen(label));
	for (char *p = text; *p && !strchr(label, '/'); p++)
		*p = *p == '.' ? '/' : *p;
	return text;
}

static struct instance *instance_of_pod(struct compile *c, const struct resource *r)
{
	const struct k8s_pod *pod = r->spec;
	const struct doc_node *owner = istio_doc_find(istio_doc_find(r->node, "metadata"), "ownerReferences");
	struct instance *in = ARENA_NEW(c->arena, struct instance);

	*in = (struct instance){.address = pod->status->pod_ip, .pod = pod, .labels = &r->labels, .namespace = r->namespace, .weight = 1,
				.locality = locality_of_workload(c, &r->labels, pod->spec ? pod->spec->node_name : NULL), .workload = r->name,
				.account = account_of(c, r->namespace, pod->spec ? pod->spec->service_account : NULL, "default"),
				.is_ready = !pod->status->phase || strcmp(pod->status->phase, "Running") == 0};
	if (owner && owner->type == DOC_LIST && owner->n_children) { /* the Deployment's name: a ReplicaSet's without its hash */
		const char *name = istio_doc_text(owner->children[0], "name"), *kind = istio_doc_text(owner->children[0], "kind");
		const char *dash = name && kind && strcmp(kind, "ReplicaSet") == 0 ? strrchr(name, '-') : NULL;
		if (name)
			in->workload = dash ? istio_arena_copy(c->arena, name, (size_t)(dash - name)) : name;
	}
	return in;
}

/* ---- selectors: pods and WorkloadEntries by their labels ---- */

/* "namespace|key=value" -> instance_list, so that a selector looks at those that share its first label only. */
struct label_index {
	struct istio_map by_label;
	struct istio_map by_namespace; /* for the empty selector */
};

static void index_instance(struct compile *c, struct istio_map *map, const char *key, struct instance *in)
{
	bool is_new;
	void **place = istio_map_put(c->arena, map, key, &is_new);

	if (is_new)
		*place = ARENA_NEW(c->arena, struct instance_list);
	struct instance_list *list = *place;
	ARENA_PUSH(c->arena, list, in);
}

static void index_labels(struct compile *c, struct label_index *index, struct instance *in)
{
	for (uint32_t i = 0; i < in->labels->n; i++)
		index_instance(c, &index->by_label, istio_arena_printf(c->arena, "%s|%s=%s", in->namespace, in->labels->keys[i], in->labels->values[i]), in);
	index_instance(c, &index->by_namespace, in->namespace, in);
}

static void index_workloads(struct compile *c, struct label_index *pods, struct label_index *entries)
{
	const struct resource_list *list = &c->model->kinds[KIND_POD];

	for (uint32_t i = 0; i < list->n; i++) {
		const struct k8s_pod *pod = list->list[i]->spec;
		if (pod->status && pod->status->pod_ip && istio_is_ip(pod->status->pod_ip))
			index_labels(c, pods, instance_of_pod(c, list->list[i]));
	}
	list = &c->model->kinds[KIND_WORKLOAD_ENTRY];
	for (uint32_t i = 0; i < list->n; i++) {
		struct workload w = istio_workload_of(c, list->list[i]);
		struct instance *in = instance_of_entry(c, w.entry, list->list[i]);
		in->is_ready = w.is_well;
		in->check = w.check;
		index_labels(c, entries, in);
	}
}

static void select_workloads(struct compile *c, const struct label_index *index, const char *namespace, const struct istio_string_map *selector,
			     struct instance_list *to)
{
	const struct instance_list *from;

	if (selector->n)
		from = istio_map_get(&index->by_label, istio_arena_printf(c->arena, "%s|%s=%s", namespace, selector->keys[0], selector->values[0]));
	else
		from = istio_map_get(&index->by_namespace, namespace);
	for (uint32_t i = 0; from && i < from->n; i++)
		if (istio_compile_labels_have(from->list[i]->labels, selector))
			ARENA_PUSH(c->arena, to, from->list[i]);
}

/* ---- ServiceEntries ---- */

/* SE-8: nothing is written, so the host is the name. */
static struct instance *instance_of_host(struct compile *c, const struct service *s)
{
	static const struct istio_string_map no_labels;
	struct instance *in = ARENA_NEW(c->arena, struct instance);

	*in = (struct instance){.address = s->host, .is_name = true, .labels = &no_labels, .namespace = s->namespace, .weight = 1, .is_ready = true};
	return in;
}

static void add_service_entries(struct compile *c, const struct label_index *pods, const struct label_index *entries)
{
	const struct resource_list *list = &c->model->kinds[KIND_SERVICE_ENTRY];

	for (uint32_t i = 0; i < list->n; i++) {
		const struct resource *r = list->list[i];
		const struct service_entry *e = r->spec;
		struct instance_list instances = {0};
		for (uint32_t j = 0; j < e->endpoints.n; j++)
			ARENA_PUSH(c->arena, &instances, instance_of_entry(c, ISTIO_ITEM(e->endpoints, struct workload_entry, j), r));
		if (e->selector) {
			select_workloads(c, pods, r->namespace, &e->selector->labels, &instances);
			select_workloads(c, entries, r->namespace, &e->selector->labels, &instances);
		}
		for (uint32_t j = 0; j < e->hosts.n; j++) {
			struct service *s = service_entry_host(c, r, e, j);
			s->instances = instances; /* shared: nobody adds to it afterwards but by a copy */
			if (istio_registry_is_dns(s) && e->endpoints.n == 0 && !e->selector) {
				s->instances = (struct instance_list){0};
				ARENA_PUSH(c->arena, &s->instances, instance_of_host(c, s));
			}
			add_service(c, s);
		}
	}
}

/* ---- Kubernetes Services ---- */

static void k8s_ports(struct compile *c, struct service *s, const struct k8s_service_spec *spec)
{
	s->ports = ARENA_ARRAY(c->arena, struct service_port, spec->ports.n);
	for (uint32_t i = 0; i < spec->ports.n; i++) {
		const struct k8s_service_port *p = ISTIO_ITEM(spec->ports, struct k8s_service_port, i);
		enum port_protocol protocol = p->app_protocol ? istio_registry_protocol_word(p->app_protocol, strlen(p->app_protocol)) : PROTO_AUTO;
		if (protocol == PROTO_AUTO)
			protocol = istio_registry_protocol(p->name, (uint32_t)p->port.value);
		if (p->protocol && strcmp(p->protocol, "TCP") != 0)
			protocol = PROTO_UDP; /* and SCTP: not served */
		s->ports[s->n_ports++] = (struct service_port){.number = (uint32_t)p->port.value, .name = p->name ? p->name : "", .protocol = protocol,
							      .target = p->target_port, .at = p->head.node->at};
	}
}

static void k8s_vips(struct compile *c, struct service *s, const struct k8s_service *k)
{
	const struct k8s_service_spec *spec = k->spec;
	uint32_t n_ingress = k->status && k->status->load_balancer ? k->status->load_balancer->ingress.n : 0;

	s->vips = ARENA_ARRAY(c->arena, const char *, 1 + spec->cluster_ips.n + spec->external_ips.n + n_ingress);
	if (spec->cluster_ip && spec->cluster_ips.n == 0)
		add_vip(c, s, spec->cluster_ip);
	for (uint32_t i = 0; i < spec->cluster_ips.n; i++)
		add_vip(c, s, spec->cluster_ips.list[i]);
	for (uint32_t i = 0; i < spec->external_ips.n; i++)
		add_vip(c, s, spec->external_ips.list[i]);
	for (uint32_t i = 0; i < n_ingress; i++) {
		const struct k8s_ingress_ip *in = ISTIO_ITEM(k->status->load_balancer->ingress, struct k8s_ingress_ip, i);
		if (in->ip)
			add_vip(c, s, in->ip);
	}
	s->is_headless = spec->cluster_ip && strcmp(spec->cluster_ip, "None") == 0;
}

/* "a,b" of the annotation networking.istio.io/exportTo; NULL: none. */
static const struct istio_strings *k8s_export_to(struct compile *c, const struct resource *r)
{
	const char *text = istio_compile_label(&r->annotations, "networking.istio.io/exportTo");
	struct host_list words = {0};

	for (; text && *text; text += strcspn(text, ","), text += *text == ',') {
		size_t before = strspn(text, " "), n = strcspn(text + before, ", ");
		if (n)
			ARENA_PUSH(c->arena, &words, istio_arena_copy(c->arena, text + before, n));
	}
	if (words.n == 0)
		return NULL;
	struct istio_strings *out = ARENA_NEW(c->arena, struct istio_strings);
	*out = (struct istio_strings){words.list, words.n};
	return out;
}

static struct service *k8s_service_of(struct compile *c, const struct resource *r, const struct k8s_service *k)
{
	struct service *s = ARENA_NEW(c->arena, struct service);

	s->host = istio_arena_lower(c->arena, istio_arena_printf(c->arena, "%s.%s.svc.cluster.local", r->name, r->namespace));
	s->namespace = r->namespace;
	s->name = r->name;
	s->source = r;
	s->is_k8s = true;
	s->export_to = k8s_export_to(c, r);
	s->resolution = RESOLUTION_STATIC;
	s->publish_not_ready = k->spec->publish_not_ready.is_true;
	k8s_ports(c, s, k->spec);
	k8s_vips(c, s, k);
	return s;
}

/* zone, node_name: as the slice or Endpoints has them, or NULL. */
static struct instance *k8s_instance(struct compile *c, const char *address, const struct k8s_target_ref *ref, const char *zone, const char *node_name,
				     const char *namespace)
{
	static const struct istio_string_map no_labels;
	struct instance *in = ARENA_NEW(c->arena, struct instance);
	const struct resource *pod = NULL;

	if (ref && ref->kind && ref->name && strcmp(ref->kind, "Pod") == 0)
		pod = istio_map_get(&c->pods, istio_arena_printf(c->arena, "%s/%s", ref->namespace ? ref->namespace : namespace, ref->name));
	if (!pod)
		pod = istio_map_get(&c->pods_by_ip, address);
	if (pod)
		*in = *instance_of_pod(c, pod);
	else
		*in = (struct instance){.labels = &no_labels, .namespace = namespace, .weight = 1};
	in->address = address;
	in->is_ready = true;
	if (node_name && !in->locality)
		in->locality = istio_map_get(&c->node_localities, node_name);
	if (zone && !in->locality)
		in->locality = istio_arena_printf(c->arena, "/%s", zone);
	return in;
}

static void add_slice(struct compile *c, struct service *s, const struct resource *r)
{
	const struct k8s_endpoint_slice *slice = r->spec;

	if (slice->address_type && strcmp(slice->address_type, "FQDN") == 0) {
		istio_compile_report(c, ISTIO_ERROR, "HF0005", r, istio_doc_at(r->node, "addressType"), "addressType",
				     "not supported: names; give IP addresses");
		return;
	}
	for (uint32_t i = 0; i < slice->endpoints.n; i++) {
		const struct k8s_slice_endpoint *e = ISTIO_ITEM(slice->endpoints, struct k8s_slice_endpoint, i);
		for (uint32_t j = 0; j < e->addresses.n; j++) {
			if (!istio_is_ip(e->addresses.list[j])) {
				istio_compile_report(c, ISTIO_ERROR, "IST0106", r, e->head.node->at, "endpoints.addresses", "\"%.60s\" is not an IP address",
					       e->addresses.list[j]);
				continue;
			}
			struct instance *in = k8s_instance(c, e->addresses.list[j], e->target_ref, e->zone, e->node_name, r->namespace);
			in->slice_ports = &slice->ports;
			in->is_ready = !e->conditions || !e->conditions->ready.is_set || e->conditions->ready.is_true;
			ARENA_PUSH(c->arena, &s->instances, in);
		}
	}
}

void istio_registry_reslice(struct compile *c, struct service *s, const struct resource_list *slices)
{
	s->instances = (struct instance_list){0};
	s->has_slices = true;
	for (uint32_t i = 0; i < slices->n; i++)
		add_slice(c, s, slices->list[i]);
}

static void add_addresses(struct compile *c, struct service *s, const struct resource *r, const struct istio_list *addresses,
			  const struct istio_list *ports, bool is_ready)
{
	for (uint32_t i = 0; i < addresses->n; i++) {
		const struct k8s_endpoint_address *a = ISTIO_ITEM(*addresses, struct k8s_endpoint_address, i);
		if (!a->ip || !istio_is_ip(a->ip)) {
			istio_compile_report(c, ISTIO_ERROR, "IST0106", r, a->head.node->at, "subsets.addresses.ip", "\"%.60s\" is not an IP address", a->ip
					     ? a->ip : "");
			continue;
		}
		struct instance *in = k8s_instance(c, a->ip, a->target_ref, NULL, a->node_name, r->namespace);
		in->slice_ports = ports;
		in->is_ready = is_ready;
		ARENA_PUSH(c->arena, &s->instances, in);
	}
}

static void add_k8s_endpoints(struct compile *c, struct service *s, const struct resource *r)
{
	const struct k8s_endpoints *e = r->spec;

	for (uint32_t i = 0; i < e->subsets.n; i++) {
		const struct k8s_endpoint_subset *sub = ISTIO_ITEM(e->subsets, struct k8s_endpoint_subset, i);
		add_addresses(c, s, r, &sub->addresses, &sub->ports, true);
		add_addresses(c, s, r, &sub->not_ready, &sub->ports, false);
	}
}

/* "namespace/service" -> resource_list of the slices that carry its name. */
static void index_slices(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_ENDPOINT_SLICE];

	for (uint32_t i = 0; i < list->n; i++) {
		struct resource *r = list->list[i];
		const char *name = istio_compile_label(&r->labels, "kubernetes.io/service-name");
		bool is_new;
		if (!name) {
			istio_compile_report(c, ISTIO_WARNING, "HF0012", r, r->node->at, "metadata.labels",
				       "belongs to no Service: the label kubernetes.io/service-name is missing");
			continue;
		}
		void **place = istio_map_put(c->arena, &c->slices, istio_arena_printf(c->arena, "%s/%s", r->namespace, name), &is_new);
		if (is_new)
			*place = ARENA_NEW(c->arena, struct resource_list);
		struct resource_list *of_service = *place;
		ARENA_PUSH(c->arena, of_service, r);
	}
}

/* ExternalName: another name for the service of that host (VS-3), with ports of its own only to choose one by. */
static void add_alias(struct compile *c, const struct resource *r, const struct k8s_service *k)
{
	struct service *s = k8s_service_of(c, r, k);
	bool is_new;

	if (!k->spec->external_name || !k->spec->external_name[0]) {
		istio_compile_report(c, ISTIO_ERROR, "HF0007", r, istio_doc_at(k->spec->head.node, "type"), "spec.externalName",
				     "missing: a Service of type ExternalName says the host that it stands for");
		return;
	}
	s->alias_of = istio_arena_lower(c->arena, k->spec->external_name);
	*istio_map_put(c->arena, &c->aliases, s->host, &is_new) = s;
}

/* Aliases may point at aliases: each is given its last target, and that one its names. */
static void resolve_aliases(struct compile *c)
{
	for (uint32_t i = 0; i < c->aliases.n; i++) {
		struct service *s = c->aliases.entries[i].value;
		for (uint32_t hops = 0; hops < ALIAS_HOPS_MAX; hops++) {
			const struct service *next = istio_registry_alias(c, s->alias_of);
			if (!next || next == s)
				break;
			s->alias_of = next->alias_of;
		}
		struct service *target = istio_registry_find(c, s->alias_of);
		if (!target) {
			istio_compile_report(c, ISTIO_WARNING, "IST0101", s->source, s->source->node->at, "spec.externalName",
					     "no Service or ServiceEntry has the host %s: requests to this name get 503 (NC); write a ServiceEntry for it",
					     s->alias_of);
			continue;
		}
		s->next_alias = target->aliases;
		target->aliases = s;
	}
}

static void add_k8s_services(struct compile *c, const struct label_index *pods)
{
	const struct resource_list *list = &c->model->kinds[KIND_SERVICE];

	index_slices(c);
	for (uint32_t i = 0; i < list->n; i++) {
		const struct resource *r = list->list[i];
		const struct k8s_service *k = r->spec;
		if (!k->spec)
			continue;
		if (!istio_is_label(r->name) || !istio_is_label(r->namespace)) {
			istio_compile_report(c, ISTIO_ERROR, "IST0106", r, r->node->at, "metadata.name",
					     "a Service's name has at most 63 letters, digits and dashes");
			continue;
		}
		if (k->spec->type && strcmp(k->spec->type, "ExternalName") == 0) {
			add_alias(c, r, k);
			continue;
		}
		struct service *s = k8s_service_of(c, r, k);
		const struct resource_list *own = istio_map_get(&c->slices, istio_arena_printf(c->arena, "%s/%s", r->namespace, r->name));
		const struct resource *endpoints = istio_map_get(&c->model->by_id, istio_arena_printf(c->arena, "Endpoints/%s/%s", r->namespace, r->name));
		if (own)
			istio_registry_reslice(c, s, own);
		if (!own && endpoints)
			add_k8s_endpoints(c, s, endpoints);
		if (!own && !endpoints && k->spec->selector.n) /* no controller made slices: the pods that it would find */
			select_workloads(c, pods, r->namespace, &k->spec->selector, &s->instances);
		add_service(c, s);
	}
}

/* A Node's labels say where it stands, the older names too. */
static void index_node_localities(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_NODE];
	bool is_new;

	for (uint32_t i = 0; i < list->n; i++) {
		const struct istio_string_map *labels = &list->list[i]->labels;
		const char *region = istio_compile_label(labels, "topology.kubernetes.io/region");
		const char *zone = istio_compile_label(labels, "topology.kubernetes.io/zone");
		const char *subzone = istio_compile_label(labels, "topology.istio.io/subzone");
		region = region ? region : istio_compile_label(labels, "failure-domain.beta.kubernetes.io/region");
		zone = zone ? zone : istio_compile_label(labels, "failure-domain.beta.kubernetes.io/zone");
		if (!region && !zone)
			continue;
		const char *locality = istio_arena_printf(c->arena, "%s%s%s%s%s", region ? region : "", zone ? "/" : "", zone ? zone : "",
							  zone && subzone ? "/" : "", zone && subzone ? subzone : "");
		*istio_map_put(c->arena, &c->node_localities, list->list[i]->name, &is_new) = (void *)(uintptr_t)locality; /* read only */
	}
}

static void index_pods(struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_POD];
	bool is_new;

	for (uint32_t i = 0; i < list->n; i++) {
		struct resource *r = list->list[i];
		const struct k8s_pod *pod = r->spec;
		if (!pod->status || !pod->status->pod_ip)
			continue;
		*istio_map_put(c->arena, &c->pods, istio_arena_printf(c->arena, "%s/%s", r->namespace, r->name), &is_new) = r;
		*istio_map_put(c->arena, &c->pods_by_ip, pod->status->pod_ip, &is_new) = r;
	}
}

/* Endpoints of a second resource with the same host and namespace go to the first one (SE-10). */
static void unite_instances(struct compile *c)
{
	for (uint32_t i = 0; i < c->services.n; i++) {
		const struct service *s = c->services.list[i];
		struct service *first = istio_map_get(&c->services_by_host, s->host);
		while (first && strcmp(first->namespace, s->namespace) != 0)
			first = first->next_same_host;
		if (!first || first == s)
			continue;
		struct instance_list both = {0};
		for (uint32_t j = 0; j < first->instances.n; j++)
			ARENA_PUSH(c->arena, &both, first->instances.list[j]);
		for (uint32_t j = 0; j < s->instances.n; j++)
			ARENA_PUSH(c->arena, &both, s->instances.list[j]);
		first->instances = both;
		first->is_united = true;
	}
}

/* ---- DestinationRules ---- */

static void merge_rule(struct compile *c, struct merged_rule *m, const struct resource *r)
{
	const struct destination_rule *rule = r->spec;

	if (rule->policy && m->policy)
		istio_compile_report(c, ISTIO_WARNING, "HF0013", r, istio_doc_at(rule->head.node, "trafficPolicy"), "spec.trafficPolicy",
				     "%s, which is older, is for the same host: its trafficPolicy is used, and only the subsets of this one",
				     m->policy_source->id);
	if (rule->policy && !m->policy) {
		m->policy = rule->policy;
		m->policy_source = r;
	}
	for (uint32_t i = 0; i < rule->subsets.n; i++) {
		const struct subset *s = ISTIO_ITEM(rule->subsets, struct subset, i);
		if (istio_registry_subset(m, s->name)) {
			istio_compile_report(c, ISTIO_WARNING, "HF0013", r, s->head.node->at, "spec.subsets",
					     "the subset %s is already one of %s: that one is used", s->name,
				       m->source->id);
			continue;
		}
		ARENA_PUSH(c->arena, &m->subsets, s);
		ARENA_PUSH(c->arena, &m->subset_sources, r);
	}
}

static struct merged_rule *rule_new(struct compile *c, const struct resource *r, const char *host)
{
	struct merged_rule *fresh = ARENA_NEW(c->arena, struct merged_rule);

	fresh->source = r;
	fresh->rule = r->spec;
	fresh->host = host;
	return fresh;
}

static bool labels_are_same(const struct istio_string_map *a, const struct istio_string_map *b)
{
	return a->n == b->n && istio_compile_labels_have(a, b);
}

/* Of rules whose selectors differ the oldest that fits is used alone (istiod). */
static void add_selective(struct compile *c, struct merged_rule *m, const struct resource *r)
{
	const struct destination_rule *rule = r->spec;

	if (!istio_sidecar_selects(c, &rule->selector->labels, r->namespace))
		return;
	if (!m->selected)
		m->selected = rule_new(c, r, m->host);
	else if (!labels_are_same(&rule->selector->labels, &m->selected->rule->selector->labels))
		return;
	merge_rule(c, m->selected, r);
}

/* A rule for every client of its own namespace alone goes into the one of that namespace that has a selector, and is none of its own any more (istiod:
 * recorded in tests/recorded/rules-for-clients.yaml). */
static bool is_swallowed(struct compile *c, struct merged_rule *m, const struct resource *r)
{
	const struct destination_rule *rule = r->spec;

	if (!m->has_selective || rule->export_to.n != 1 || strcmp(rule->export_to.list[0], ".") != 0)
		return false;
	if (m->selected)
		merge_rule(c, m->selected, r);
	else
		istio_compile_report(c, ISTIO_WARNING, "HF0013", r, r->node->at, "spec.exportTo",
				     "has no effect here: rules with a workloadSelector take in one that is exported to \".\" alone, and none of them is "
				     "for this node; leave exportTo out");
	return true;
}

static void add_rule(struct compile *c, const struct resource *r)
{
	const struct destination_rule *rule = r->spec;
	const char *host = istio_compile_fqdn(c, rule->host, r->namespace);
	bool is_new;
	void **place = istio_map_put(c->arena, &c->rules, istio_arena_printf(c->arena, "%s/%s", r->namespace, host), &is_new);

	if (is_new) {
		struct merged_rule *fresh = rule_new(c, r, host);
		fresh->is_selective = rule->selector != NULL;
		*place = fresh;
	}
	struct merged_rule *m = *place;
	if (rule->selector) {
		m->has_selective = true;
		add_selective(c, m, r);
		return;
	}
	if (is_swallowed(c, m, r))
		return;
	if (m->is_selective) { /* the first one for every client */
		m->is_selective = false;
		m->source = r;
		m->rule = rule;
	}
	merge_rule(c, m, r);
}

const struct subset *istio_registry_subset(const struct merged_rule *r, const char *name)
{
	for (uint32_t i = 0; r && i < r->subsets.n; i++)
		if (strcmp(r->subsets.list[i]->name, name) == 0)
			return r->subsets.list[i];
	return NULL;
}

/* The rule of a namespace with the most specific host, when the client's namespace may see it. */
static const struct merged_rule *rule_in(const struct compile *c, const char *namespace, const char *host, const char *client_namespace, bool only_private)
{
	const char *rest = host;
	const char *key = istio_arena_printf(c->arena, "%s/%s", namespace, host);

	for (;;) {
		const struct merged_rule *m = istio_map_get(&c->rules, key);
		if (m && m->selected && strcmp(namespace, client_namespace) == 0)
			return m->selected;
		if (m && m->is_selective && strcmp(namespace, client_namespace) == 0)
			return m; /* says nothing, and hides what is less specific or of other namespaces (istiod) */
		if (m && !m->is_selective &&
		    istio_compile_is_exported(&m->rule->export_to, &c->model->mesh->destination_rule_export_to, namespace, client_namespace)) {
			bool is_private = m->rule->export_to.n == 1 && strcmp(m->rule->export_to.list[0], ".") == 0;
			if (!only_private || is_private)
				return m;
		}
		rest = rest ? strchr(rest + (rest != host), '.') : NULL;
		if (rest) {
			key = istio_arena_printf(c->arena, "%s/*%s", namespace, rest);
		} else if (strcmp(key + strlen(namespace), "/*") != 0) {
			key = istio_arena_printf(c->arena, "%s/*", namespace);
			rest = NULL;
		} else {
			return NULL;
		}
	}
}

const struct merged_rule *istio_registry_rule(const struct compile *c, const struct service *s, const char *client_namespace)
{
	bool from_root = strcmp(client_namespace, c->root_namespace) == 0;
	const struct merged_rule *m = rule_in(c, client_namespace, s->host, client_namespace, from_root);

	if (!m)
		m = rule_in(c, s->namespace, s->host, client_namespace, false);
	return m ? m : rule_in(c, c->root_namespace, s->host, client_namespace, false);
}

/* ---- finding ---- */

struct service *istio_registry_find(const struct compile *c, const char *host)
{
	return istio_map_get(&c->services_by_host, host);
}

const struct service *istio_registry_alias(const struct compile *c, const char *host)
{
	return istio_map_get(&c->aliases, host);
}

const struct service_port *istio_registry_port(const struct service *s, uint32_t number)
{
	for (uint32_t i = 0; i < s->n_ports; i++)
		if (s->ports[i].number == number)
			return &s->ports[i];
	return NULL;
}

void istio_registry_build(struct compile *c)
{
	struct label_index pods = {0}, entries = {0};

	index_node_localities(c);
	index_pods(c);
	index_workloads(c, &pods, &entries);
	add_k8s_services(c, &pods);
	add_service_entries(c, &pods, &entries);
	unite_instances(c);
	resolve_aliases(c);
	for (int plain = 0; plain < 2; plain++) /* those with selectors first */
		for (uint32_t i = 0; i < c->model->kinds[KIND_DESTINATION_RULE].n; i++) {
			const struct resource *r = c->model->kinds[KIND_DESTINATION_RULE].list[i];
			if ((((const struct destination_rule *)r->spec)->selector == NULL) == plain)
				add_rule(c, r);
		}
}
