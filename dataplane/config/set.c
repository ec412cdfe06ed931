/* What one snapshot is made of, see config_priv.h: the running resources with an update merged in, checked across resources, laid out by slot.
 * Resources that the update does not change are shared by counting references; a listener is decoded again when the settings that it takes a default from have
 * changed. Invariant: list is sorted by type and name and every element's n_refs counts this set once. */
#include "dataplane/config/config_priv.h"

#include <errno.h>
#include <stdlib.h>

#define LISTENERS_MAX 4096u /* what a worker has room for */
#define RESOURCES_MAX (1u << 20)

/* ---- merge */

struct merge {
	struct snap *s;
	struct snap_set *set;
	const struct snap_set *old;        /* NULL: nothing runs */
	const struct mesh_settings *settings;
	bool listeners_again, is_same, is_refused, is_spent;
};

static int compare_sent(const void *a, const void *b)
{
	const struct snap_resource *x = *(const struct snap_resource *const *)a, *y = *(const struct snap_resource *const *)b;
	return snap_key_compare(x->type, x->name, y->type, y->name);
}

/* Pointers to the update's resources in a set's order. NULL: refused. */
static const struct snap_resource **sort_update(struct merge *m, const struct snap_update *u)
{
	const struct snap_resource **list = foil_blob_array(&m->set->blob, u->n_resources, sizeof(struct snap_resource *));
	if (!list) {
		snap_reject(m->s, 0, (struct foil_slice){0}, "", "no memory for %zu resources", u->n_resources);
		return NULL;
	}
	for (size_t i = 0; i < u->n_resources; i++)
		list[i] = &u->resources[i];
	qsort(list, u->n_resources, sizeof(*list), compare_sent);
	for (size_t i = 1; i < u->n_resources; i++)
		if (compare_sent(&list[i - 1], &list[i]) == 0) {
			snap_reject(m->s, list[i]->type, list[i]->name, "", "is in the update twice");
			return NULL;
		}
	return list;
}

static void keep(struct merge *m, struct snap_res *r)
{
	r->res->n_refs++;
	m->set->list[m->set->n++] = r;
	m->set->n_bytes += r->n_bytes;
}

static size_t budget_left(const struct merge *m)
{
	size_t max = m->s->p.bytes_max, memory = m->s->n_bytes_in_memory;
	size_t of_set = m->set->n_bytes < max ? max - m->set->n_bytes : 0;
	size_t of_all = memory < 2 * max ? 2 * max - memory : 0;
	return FOIL_MIN(of_set, of_all);
}

static void add_new(struct merge *m, const struct snap_resource *from)
{
	struct foil_error err = {0};
	struct snap_res *r = NULL;
	size_t left = budget_left(m);
	int rc = left ? snap_res_new(m->s, from, m->settings, left, &r, &err) : foil_error_set(&err, -ENOMEM, "the budget is spent");
	m->is_same = false;
	if (rc == 0) {
		keep(m, r);
		return;
	}
	m->is_refused = true;
	m->is_spent = rc == -ENOMEM;
	if (rc == -ENOMEM && left < m->s->p.bytes_max - FOIL_MIN(m->set->n_bytes, m->s->p.bytes_max))
		snap_reject(m->s, from->type, from->name, "", "old snapshots that requests still hold leave no memory for a new one; send it again later");
	else if (rc == -ENOMEM)
		snap_reject(m->s, from->type, from->name, "", "the snapshot is larger than the data plane's budget of %zu bytes", m->s->p.bytes_max);
	else
		snap_reject(m->s, from->type, from->name, err.field, "%s", err.text);
}

static void keep_or_again(struct merge *m, struct snap_res *r)
{
	if (!m->listeners_again || r->res->type != FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER) {
		keep(m, r);
		return;
	}
	struct snap_resource from = {.type = r->res->type, .name = r->res->name, .body = r->body};
	add_new(m, &from);
}

/* One name, in the running set, the update or both. */
static void merge_one(struct merge *m, struct snap_res *have, const struct snap_resource *sent, bool full)
{
	if (!sent && full)
		m->is_same = false; /* goes */
	else if (!sent)
		keep_or_again(m, have);
	else if (sent->removed)
		m->is_same = m->is_same && !have;
	else if (have && have->res->hash == snap_hash(m->s, sent->body) && foil_slice_eq(have->body, sent->body))
		keep_or_again(m, have);
	else
		add_new(m, sent);
}

/* The settings come first in the order; what depends on them is decided when they are known. */
static void settings_known(struct merge *m)
{
	const struct snap_res *r = m->set->n ? m->set->list[0] : NULL;
	if (m->settings || !r || r->res->type != FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH)
		return;
	m->settings = &((const struct snap_mesh *)(const void *)r->res)->settings;
	m->listeners_again = m->old && !foil_slice_eq(m->settings->server_name, m->old->mesh->settings.server_name);
}

static void merge_all(struct merge *m, const struct snap_resource **sent, size_t n_sent, bool full)
{
	size_t i = 0, k = 0, n_have = m->old ? m->old->n : 0;
	while ((i < n_have || k < n_sent) && !m->is_spent) {
		struct snap_res *have = i < n_have ? m->old->list[i] : NULL;
		const struct snap_resource *s = k < n_sent ? sent[k] : NULL;
		int order = !have ? 1 : !s ? -1 : snap_key_compare(have->res->type, have->res->name, s->type, s->name);
		uint32_t type = order <= 0 ? have->res->type : s->type;
		if (type != FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH && !m->settings) {
			snap_reject(m->s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH, FOIL_SLICE("mesh"), "", "a snapshot needs its settings");
			m->is_refused = true;
			return;
		}
		merge_one(m, order <= 0 ? have : NULL, order >= 0 ? s : NULL, full);
		settings_known(m);
		i += order <= 0;
		k += order >= 0;
	}
}

struct snap_set *snap_set_merge(struct snap *s, const struct snap_update *u, bool *is_same)
{
	struct foil_blob b = {0};
	struct snap_set *set = foil_blob_alloc(&b, sizeof(*set));
	size_t cap = (s->running ? s->running->n : 0) + u->n_resources;
	if (!set) {
		snap_reject(s, 0, (struct foil_slice){0}, "", "no memory");
		return NULL;
	}
	*set = (struct snap_set){.blob = b};
	struct merge m = {.s = s, .set = set, .old = s->running, .is_same = s->running != NULL};
	const struct snap_resource **sent = NULL;
	if (u->n_resources > RESOURCES_MAX)
		snap_reject(s, 0, (struct foil_slice){0}, "", "has %zu resources; %u at most", u->n_resources, RESOURCES_MAX);
	else
		sent = sort_update(&m, u);
	set->list = sent ? foil_blob_array(&set->blob, cap, sizeof(struct snap_res *)) : NULL;
	if (sent && !set->list)
		snap_reject(s, 0, (struct foil_slice){0}, "", "no memory for %zu resources", cap);
	if (set->list)
		merge_all(&m, sent, u->n_resources, u->full);
	if (set->list && !m.settings && !m.is_refused) {
		snap_reject(s, FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH, FOIL_SLICE("mesh"), "", "a snapshot needs its settings");
		m.is_refused = true;
	}
	if (!set->list || m.is_refused) {
		snap_set_free(s, set);
		return NULL;
	}
	*is_same = m.is_same && !m.listeners_again;
	return set;
}

/* ---- layout by slot */

static bool make_tables(struct snap *s, struct snap_set *set, struct mesh_config *c)
{
	c->n_route_slots = s->routes.n_numbers;
	c->n_cluster_slots = s->clusters.n_numbers;
	c->listeners = foil_blob_array(&set->blob, set->n, sizeof(struct mesh_listener *));
	c->routes = foil_blob_array(&set->blob, c->n_route_slots, sizeof(struct mesh_routes *));
	c->clusters = foil_blob_array(&set->blob, c->n_cluster_slots, sizeof(struct mesh_cluster *));
	c->endpoints = foil_blob_array(&set->blob, c->n_cluster_slots, sizeof(struct mesh_endpoints *));
	c->host_sets = foil_blob_array(&set->blob, c->n_cluster_slots, sizeof(struct mesh_host_set *));
	c->n_secret_slots = s->secrets.n_numbers;
	c->n_tls_slots = s->tls.n_numbers;
	c->secrets = foil_blob_array(&set->blob, c->n_secret_slots, sizeof(struct mesh_secret *));
	c->tls = foil_blob_array(&set->blob, c->n_tls_slots, sizeof(struct tls_context *));
	return c->listeners && c->routes && c->clusters && c->endpoints && c->host_sets && c->secrets && c->tls;
}

static void place(struct mesh_config *c, const struct mesh_res *res)
{
	const void *own = res; /* the head of its struct */
	switch (res->type) {
	case FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH: c->settings = ((const struct snap_mesh *)own)->settings; break;
	case FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER: c->listeners[c->n_listeners++] = own; break;
	case FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES: c->routes[((const struct mesh_routes *)own)->slot] = own; break;
	case FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER: c->clusters[((const struct mesh_cluster *)own)->slot] = own; break;
	case FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET: c->secrets[((const struct mesh_secret *)own)->slot] = own; break;
	case FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS: c->endpoints[((const struct mesh_endpoints *)own)->cluster_slot] = own; break;
	default: FOIL_UNREACHABLE(); /* snap_res_new knows no other */
	}
}

bool snap_set_build(struct snap *s, struct snap_set *set, struct foil_slice version)
{
	size_t align = _Alignof(struct mesh_config); /* of the workers' counts; a blob gives 16 */
	uint8_t *raw = foil_blob_alloc(&set->blob, sizeof(struct mesh_config) + align);
	struct mesh_config *c = raw ? (void *)(((uintptr_t)raw + align - 1) / align * align) : NULL;
	if (c)
		c->version = foil_blob_copy(&set->blob, version.data, version.n_bytes);
	if (!c || !c->version.data || !make_tables(s, set, c)) {
		snap_reject(s, 0, (struct foil_slice){0}, "", "no memory for the tables of %zu resources", set->n);
		return false;
	}
	for (size_t i = 0; i < set->n; i++)
		place(c, set->list[i]->res);
	for (uint32_t i = 0; i < c->n_cluster_slots; i++) {
		if (c->clusters[i] && c->clusters[i]->original)
			c->endpoints[i] = c->clusters[i]->original;
		c->has_dynamic |= c->clusters[i] && c->clusters[i]->is_dynamic;
	}
	set->mesh = c;
	return true;
}

/* ---- across resources */

static int compare_address(const void *a, const void *b)
{
	const struct mesh_listener *x = *(const struct mesh_listener *const *)a, *y = *(const struct mesh_listener *const *)b;
	int rc = memcmp(x->ip, y->ip, sizeof(x->ip));
	return rc ? rc : (x->port > y->port) - (x->port < y->port);
}

static void check_addresses(struct snap *s, struct snap_set *set)
{
	const struct mesh_config *c = set->mesh;
	const struct mesh_listener **sorted = foil_blob_array(&set->blob, c->n_listeners, sizeof(struct mesh_listener *));
	if (!sorted || c->n_listeners > LISTENERS_MAX) {
		snap_reject(s, 0, (struct foil_slice){0}, "", "%u listeners; there is room for %u", c->n_listeners, LISTENERS_MAX);
		return;
	}
	if (c->n_listeners)
		memcpy(sorted, c->listeners, c->n_listeners * sizeof(struct mesh_listener *));
	qsort(sorted, c->n_listeners, sizeof(struct mesh_listener *), compare_address);
	for (uint32_t i = 1; i < c->n_listeners; i++)
		if (compare_address(&sorted[i - 1], &sorted[i]) == 0)
			snap_reject(s, sorted[i]->res.type, sorted[i]->res.name, "address", "is that of listener \"%.100s\" too",
				    sorted[i - 1]->res.name.data);
}

static void check_routes(struct snap *s, const struct mesh_config *c)
{
	for (uint32_t i = 0; i < c->n_listeners; i++) {
		const struct mesh_listener *l = c->listeners[i];
		for (uint16_t k = 0; k < l->n_chains; k++) {
			char field[64];
			const struct mesh_chain *chain = &l->chains[k];
			if (chain->network != MESH_NETWORK_HTTP || c->routes[chain->http.routes_slot])
				continue;
			(void)snprintf(field, sizeof(field), "filter_chains[%u].http.routes", k); /* fits: 16 bits */
			snap_reject(s, l->res.type, l->res.name, field, "names \"%.100s\", which the snapshot does not have", chain->http.routes.data);
		}
	}
}

static void check_endpoints(struct snap *s, const struct mesh_config *c)
{
	for (uint32_t i = 0; i < c->n_cluster_slots; i++)
		if (c->endpoints[i] && !c->clusters[i])
			snap_reject(s, c->endpoints[i]->res.type, c->endpoints[i]->res.name, "cluster", "the snapshot has no such cluster");
}

bool snap_set_check(struct snap *s, struct snap_set *set)
{
	check_addresses(s, set);
	check_routes(s, set->mesh);
	check_endpoints(s, set->mesh);
	return s->n_rejections == 0;
}

void snap_set_free(struct snap *s, struct snap_set *set)
{
	if (!set)
		return;
	if (set->is_prepared)
		mesh_config_unprepare(s->p.shared, set->mesh);
	snap_tls_free(set);
	for (size_t i = 0; i < set->n; i++)
		if (--set->list[i]->res->n_refs == 0)
			snap_res_free(s, set->list[i]);
	struct foil_blob b = set->blob; /* the blob holds its own head */
	foil_blob_free(&b);
}
