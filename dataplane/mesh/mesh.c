/* The worker's mesh: its context, the adoption of published configurations, draining. It decides which addresses are listened at and which
 * hosts' pools live on; what passes through a connection is downstream.c's and exchange.c's business.
 * Invariant: ctx->cfg is the configuration that this worker said it has adopted; housekeeping frees no configuration that a worker
 * has adopted last or holds. */
#include "dataplane/mesh/mesh.h"

#include <errno.h>
#include <stdlib.h>
#include <stdio.h>

#include "dataplane/core/error.h"
#include "dataplane/mesh/host_set_priv.h"
#include "dataplane/mesh/runtime.h"

#define PORTS_MAX 4096u
#define SHADOWS_MAX 4096u

static int slabs_init(struct foil_worker *w, struct mesh_ctx *m, const struct mesh_params *p)
{
	uint32_t requests = p->requests_max ? p->requests_max : 65536, connections = p->connections_max ? p->connections_max : 65536;
	int rc = mesh_slab_init(&m->exchanges, sizeof(struct mesh_exchange), requests);

	rc = rc ? rc : mesh_slab_init(&m->downstreams, sizeof(struct mesh_downstream), connections);
	rc = rc ? rc : mesh_slab_init(&m->downstreams_told, sizeof(struct mesh_downstream_told), connections);
	rc = rc ? rc : mesh_slab_init(&m->ports, sizeof(struct mesh_port), PORTS_MAX);
	rc = rc ? rc : mesh_pools_init(m, connections);
	rc = rc ? rc : mesh_tcp_init(m, connections);
	rc = rc ? rc : mesh_hellos_init(m, connections);
	rc = rc ? rc : mesh_checks_init(m);
	rc = rc ? rc : mesh_names_init(w, m, p->names_max ? p->names_max : MESH_NAMES_DEFAULT);
	return rc ? rc : mesh_mirrors_init(m, FOIL_MIN(requests, SHADOWS_MAX));
}

static void ctx_free(struct mesh_ctx *m)
{
	struct mesh_slab *all[] = {&m->exchanges, &m->downstreams, &m->downstreams_told, &m->ports, &m->pools, &m->upstreams, &m->sessions, &m->shadows,
				    &m->hellos, &m->names, &m->checks, &m->hosts.slab};

	for (size_t i = 0; i < FOIL_COUNT_OF(all); i++)
		mesh_slab_fini(all[i]);
	free(m->hosts.buckets);
	free(m->pool_by_host);
	free(m->check_by_host);
	free(m->by_host);
	free(m->host_gauges);
	free(m);
}

int mesh_init(struct foil_worker *w, const struct mesh_params *p, struct foil_error *err)
{
	struct mesh_ctx *m = calloc(1, sizeof(*m));

	if (!m)
		return foil_error_set(err, -ENOMEM, "no memory for the mesh of worker %u", (unsigned int)w->id);
	m->shared = p->shared;
	m->transport = p->transport;
	m->node_name = p->node_name;
	mesh_list_init(&m->port_list);
	mesh_list_init(&m->pool_list);
	mesh_list_init(&m->session_list);
	mesh_list_init(&m->shadow_list);
	mesh_list_init(&m->check_list);
	m->pool_by_host = calloc(MESH_HOSTS_MAX, sizeof(*m->pool_by_host));
	m->check_by_host = calloc(MESH_HOSTS_MAX, sizeof(*m->check_by_host));
	m->by_host = calloc(MESH_HOSTS_MAX, sizeof(*m->by_host));
	m->host_gauges = w->id == 0 ? calloc(1, mesh_host_gauges_bytes()) : NULL;
	if (!m->pool_by_host || !m->check_by_host || !m->by_host || (w->id == 0 && !m->host_gauges) || slabs_init(w, m, p) != 0) {
		ctx_free(m);
		return foil_error_set(err, -ENOMEM, "no memory for %u requests and %u connections of worker %u: lower requests_max or connections_max",
				      p->requests_max, p->connections_max, (unsigned int)w->id);
	}
	w->mesh = m;
	return 0;
}

void mesh_bury(struct foil_worker *w, void *block, struct mesh_slab *slab)
{
	struct mesh_grave *g = block;

	g->slab = slab;
	g->next = w->mesh->graves;
	w->mesh->graves = g;
}

static void dig(struct foil_worker *w)
{
	struct mesh_grave *g = w->mesh->graves;

	w->mesh->graves = NULL;
	while (g) {
		struct mesh_grave *next = g->next;
		if (g->held)
			mesh_config_put(w, g->held);
		mesh_slab_give(g->slab, g);
		g = next;
	}
}

/* ---- listeners ---- */
static struct mesh_port *port_find(struct mesh_ctx *m, const struct mesh_listener *l)
{
	for (struct mesh_list *n = m->port_list.next; n != &m->port_list; n = n->next) {
		struct mesh_port *p = FOIL_CONTAINER_OF(n, struct mesh_port, node);
		if (p->port == l->port && p->handle && memcmp(p->ip, l->ip, sizeof(p->ip)) == 0)
			return p;
	}
	return NULL;
}

static void port_open(struct foil_worker *w, const struct mesh_listener *l)
{
	struct mesh_ctx *m = w->mesh;
	struct mesh_port *p = mesh_slab_take(&m->ports);

	if (!p) {
		foil_count(w, MESH, LISTEN_FAILURES, 1);
		return;
	}
	p->w = w;
	memcpy(p->ip, l->ip, sizeof(p->ip));
	p->port = l->port;
	p->listener = l;
	p->seen = m->cfg->generation;
	mesh_list_init(&p->downstreams);
	if (m->transport->listen(w, p->ip, p->port, mesh_port_accept, p, &p->handle) != 0) {
		foil_count(w, MESH, LISTEN_FAILURES, 1);
		mesh_slab_give(&m->ports, p);
		return;
	}
	mesh_list_add_tail(&m->port_list, &p->node);
}

/* Takes the port's connections out of service: those at rest close, those at work close after the answer. */
static void port_drain(struct foil_worker *w, struct mesh_port *p)
{
	for (struct mesh_list *n = p->downstreams.next, *next; n != &p->downstreams; n = next) {
		next = n->next; /* draining ends one connection at most: this one */
		mesh_downstream_drain(w, FOIL_CONTAINER_OF(n, struct mesh_downstream, node));
	}
}

static void port_close(struct foil_worker *w, struct mesh_port *p)
{
	if (p->handle)
		w->mesh->transport->unlisten(w, p->handle);
	p->handle = NULL;
	p->listener = NULL;
	p->n_conns++; /* keeps it over the loop */
	port_drain(w, p);
	mesh_port_put(w, p);
}

void mesh_port_put(struct foil_worker *w, struct mesh_port *p)
{
	FOIL_ASSERT(p->n_conns > 0);
	if (--p->n_conns > 0 || p->handle)
		return;
	mesh_list_del(&p->node);
	mesh_bury(w, p, &w->mesh->ports);
}

/* The port goes on with another resource: HTTP connections that its chains would not take as such any more are drained. */
static void port_renew(struct foil_worker *w, struct mesh_port *p, const struct mesh_listener *l)
{
	bool is_same = p->listener == l; /* resources that did not change are shared between snapshots */

	p->listener = l;
	for (struct mesh_list *n = p->downstreams.next, *next; !is_same && n != &p->downstreams; n = next) {
		struct mesh_downstream *d = FOIL_CONTAINER_OF(n, struct mesh_downstream, node);
		const struct mesh_first first = mesh_downstream_first(d);
		struct stream_addr remote, local;
		mesh_downstream_addrs(d, &remote, &local);
		const struct mesh_chain *chain = mesh_chain_choose(l, local.ip, &first);
		next = n->next;
		if (!chain || chain->network != MESH_NETWORK_HTTP)
			mesh_downstream_drain(w, d);
	}
}

static void listeners_adopt(struct foil_worker *w, const struct mesh_config *c)
{
	struct mesh_ctx *m = w->mesh;

	for (uint32_t i = 0; i < c->n_listeners; i++) {
		struct mesh_port *p = port_find(m, c->listeners[i]);
		if (p) {
			port_renew(w, p, c->listeners[i]);
			p->seen = c->generation;
		}
	}
	for (struct mesh_list *n = m->port_list.next, *next; n != &m->port_list; n = next) {
		struct mesh_port *p = FOIL_CONTAINER_OF(n, struct mesh_port, node);
		next = n->next;
		if (p->handle && p->seen != c->generation)
			port_close(w, p);
	}
	for (uint32_t i = 0; i < c->n_listeners && !m->is_draining; i++)
		if (!port_find(m, c->listeners[i]))
			port_open(w, c->listeners[i]);
}

/* ---- configuration ---- */
static void hosts_adopt(struct foil_worker *w, const struct mesh_config *c)
{
	struct mesh_ctx *m = w->mesh;

	for (uint32_t slot = 0; slot < c->n_cluster_slots; slot++) {
		const struct mesh_endpoints *e = c->clusters[slot] ? c->endpoints[slot] : NULL;
		for (uint32_t i = 0; e && i < e->n_endpoints; i++) {
			if (!e->endpoints[i].host)
				continue;
			m->by_host[e->endpoints[i].host->index] = (struct mesh_host_now){&e->endpoints[i], c->generation};
			(void)mesh_host_seen(e->endpoints[i].host, w->now_us); /* its slow start begins now, if it is new */
		}
	}
}

static void adopt(struct foil_worker *w, const struct mesh_config *c)
{
	struct mesh_ctx *m = w->mesh;

	m->cfg = c;
	hosts_adopt(w, c);
	mesh_pools_adopt(w, c);
	mesh_tcp_adopt(w, c);
	mesh_checks_adopt(w, c);
	listeners_adopt(w, c);
	mesh_clients_adopt(w);
	mesh_shared_adopted(m->shared, w, c);
}

void mesh_turn(struct foil_worker *w)
{
	struct mesh_ctx *m = w->mesh;
	const struct mesh_config *c = mesh_shared_config(m->shared);

	mesh_shared_turned(m->shared, w);
	if (m->graves)
		dig(w);
	if (FOIL_UNLIKELY(c != m->cfg && c))
		adopt(w, c);
	if (FOIL_UNLIKELY(m->hosts.n_asked != 0))
		mesh_names_turn(w);
	uint32_t n_starved = __atomic_load_n(mesh_shared_starved(m->shared), __ATOMIC_RELAXED);
	if (FOIL_UNLIKELY(n_starved != m->n_starved_seen)) {
		m->n_starved_seen = n_starved;
		mesh_pools_yield(w);
	}
	if (m->cfg) {
		mesh_outlier_turn(w, m->cfg);
		mesh_host_gauges_tell(w, m->cfg, __atomic_load_n(mesh_shared_told_changes(m->shared), __ATOMIC_RELAXED));
	}
}

void mesh_drain(struct foil_worker *w)
{
	struct mesh_ctx *m = w->mesh;

	if (m->is_draining)
		return;
	m->is_draining = true;
	for (struct mesh_list *n = m->port_list.next, *next; n != &m->port_list; n = next) {
		struct mesh_port *p = FOIL_CONTAINER_OF(n, struct mesh_port, node);
		next = n->next;
		if (p->handle)
			port_close(w, p);
	}
}

#define SHRINK_LEAST 16u
#define SHRINK_PART 100u

void mesh_shrink(struct foil_worker *w)
{
	struct mesh_ctx *m = w->mesh;
	struct mesh_stats s;
	uint32_t n_closed = 0;

	mesh_stats_get(w, &s);
	uint32_t n_left = SHRINK_LEAST + s.n_downstream / SHRINK_PART;
	for (struct mesh_list *n = m->port_list.next, *next; n_left && n != &m->port_list; n = next) {
		struct mesh_port *p = FOIL_CONTAINER_OF(n, struct mesh_port, node);
		next = n->next;
		p->n_conns++; /* keeps it */
		n_closed += mesh_downstreams_shrink(w, p, &n_left);
		mesh_port_put(w, p);
	}
	n_closed += mesh_pools_shrink(w, SHRINK_LEAST + s.n_upstream / SHRINK_PART);
	foil_count(w, MESH, OVERLOAD_CLOSED, n_closed);
}

void mesh_stats_get(const struct foil_worker *w, struct mesh_stats *out)
{
	const struct mesh_ctx *m = w->mesh;

	*out = (struct mesh_stats){0};
	for (const struct mesh_list *n = m->port_list.next; n != &m->port_list; n = n->next) {
		const struct mesh_port *p = FOIL_CONTAINER_OF(n, const struct mesh_port, node);
		out->n_downstream += p->n_conns;
	}
	out->n_requests = (uint32_t)w->ctr[FOIL_ROOM_MESH][MESH_CTR_REQUESTS_ACTIVE];
	out->n_upstream = (uint32_t)w->ctr[FOIL_ROOM_MESH][MESH_CTR_UPSTREAM_CONNS];
	out->n_request_blocks = m->exchanges.n_live;
	out->request_blocks_max = m->exchanges.n_max;
}

void mesh_fini(struct foil_worker *w)
{
	struct mesh_ctx *m = w->mesh;

	if (!m)
		return;
	m->is_draining = m->is_closing = true;
	for (struct mesh_list *n = m->port_list.next, *next; n != &m->port_list; n = next) {
		struct mesh_port *p = FOIL_CONTAINER_OF(n, struct mesh_port, node);
		next = n->next;
		if (p->handle)
			m->transport->unlisten(w, p->handle);
		p->handle = NULL;
		p->n_conns++;
		while (!mesh_list_is_empty(&p->downstreams)) {
			struct mesh_downstream *d = FOIL_CONTAINER_OF(p->downstreams.next, struct mesh_downstream, node);
			http_conn_close(w, d->conn);
			FOIL_ASSERT(mesh_list_is_empty(&p->downstreams) || p->downstreams.next != &d->node); /* closed was called */
		}
		mesh_port_put(w, p);
	}
	mesh_hellos_close(w);
	mesh_tcp_close_all(w);
	mesh_mirrors_close(w);
	mesh_checks_close(w);
	mesh_pools_close(w);
	mesh_names_fini(w);
	dig(w);
	ctx_free(m);
	w->mesh = NULL;
}

struct foil_slice mesh_date(struct foil_worker *w)
{
	static const char days[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"}; /* 1970-01-01 was a Thursday */
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	struct mesh_ctx *m = w->mesh;
	uint64_t s = w->wall_us / 1000000u;

	if (s == m->date_s)
		return foil_slice_of(m->date, 29);
	m->date_s = s;
	/* civil date from days since the epoch (Hinnant 2013), eras of 400 years */
	uint64_t z = s / 86400u + 719468u, era = z / 146097u, doe = z % 146097u;
	uint64_t yoe = (doe - doe / 1460u + doe / 36524u - doe / 146096u) / 365u, doy = doe - (365u * yoe + yoe / 4u - yoe / 100u);
	uint64_t mp = (5u * doy + 2u) / 153u, day = doy - (153u * mp + 2u) / 5u + 1u, month = mp < 10 ? mp + 3u : mp - 9u;
	unsigned int year = (unsigned int)((yoe + era * 400u + (month <= 2)) % 10000u);
	(void)snprintf(m->date, sizeof(m->date), "%s, %02u %s %04u %02u:%02u:%02u GMT", days[s / 86400u % 7u], (unsigned int)day % 100u,
		       months[(month - 1u) % 12u], year, (unsigned int)(s / 3600u % 24u), (unsigned int)(s / 60u % 60u),
		       (unsigned int)(s % 60u)); /* always 29 bytes */
	return foil_slice_of(m->date, 29);
}
