/* Places for upstream connections, maxConnections of them a cluster over all workers (features.md DR-22, DR-35): never one more, counted at the backend.
 * A worker counts its own first and then looks at everybody's, so that of two that race for the last place at most one gets it.
 *
 * A host that no worker has a connection to gets its first one all the same (Envoy), or its requests would wait for ever. For the same reason a worker
 * without a connection to a host to which others have some must not wait until those happen to close: it says that it starves, and they give places
 * up, those beyond their share (the limit by the workers), when a connection has done its work or at once when it is idle.
 * Invariant: a worker's cells are its open connections; n_starved is the number of pools that say so. */
#include "dataplane/mesh/runtime.h"

static uint32_t host_sum(const struct mesh_host *h)
{
	uint32_t sum = 0;

	for (uint16_t i = 0; i < h->n_workers; i++)
		sum += __atomic_load_n(&h->by_worker[i].n_conns, __ATOMIC_RELAXED);
	return sum;
}

static void host_add(struct foil_worker *w, struct mesh_host *h, int32_t n)
{
	uint32_t *p = &h->by_worker[w->id].n_conns;
	__atomic_store_n(p, *p + (uint32_t)n, __ATOMIC_RELAXED);
}

/* What a worker keeps while others starve. */
static uint32_t share(const struct mesh_cluster *c, const struct mesh_cluster_state *s)
{
	return c->breaker.max_connections / s->n_workers;
}

static bool is_wanted_beyond(const struct foil_worker *w, const struct mesh_cluster *c, const struct mesh_cluster_state *s, uint32_t own_max)
{
	if (FOIL_LIKELY(c->breaker.max_connections == MESH_UNLIMITED || s->n_workers < 2))
		return false;
	return __atomic_load_n(&s->n_starved, __ATOMIC_RELAXED) && s->by_worker[w->id].n[MESH_BREAKER_CONNECTIONS] > own_max;
}

bool mesh_place_is_wanted(const struct foil_worker *w, const struct mesh_cluster *c, const struct mesh_cluster_state *s)
{
	return is_wanted_beyond(w, c, s, share(c, s));
}

bool mesh_place_take(struct foil_worker *w, const struct mesh_cluster *c, struct mesh_host *h, bool is_starved)
{
	uint32_t own_max = share(c, h->cluster);

	if (!is_starved && own_max && is_wanted_beyond(w, c, h->cluster, own_max - 1u))
		return false;
	if (!mesh_breaker_take(w, c, h->cluster, MESH_BREAKER_CONNECTIONS))
		return false;
	host_add(w, h, 1);
	return true;
}

bool mesh_place_take_first(struct foil_worker *w, struct mesh_host *h)
{
	host_add(w, h, 1);
	if (h->n_workers > 1)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (host_sum(h) == 1) {
		mesh_breaker_add(w, h->cluster, MESH_BREAKER_CONNECTIONS, 1);
		return true;
	}
	host_add(w, h, -1);
	return false;
}

void mesh_place_take_freed(struct foil_worker *w, struct mesh_host *h)
{
	host_add(w, h, 1);
	mesh_breaker_add(w, h->cluster, MESH_BREAKER_CONNECTIONS, 1);
}

void mesh_place_give(struct foil_worker *w, struct mesh_host *h)
{
	host_add(w, h, -1);
	mesh_breaker_add(w, h->cluster, MESH_BREAKER_CONNECTIONS, -1);
}

void mesh_place_ask(struct foil_worker *w)
{
	(void)__atomic_add_fetch(mesh_shared_starved(w->mesh->shared), 1, __ATOMIC_RELAXED);
}

void mesh_place_starve(struct foil_worker *w, struct mesh_cluster_state *s, int32_t n)
{
	(void)__atomic_add_fetch(&s->n_starved, (uint32_t)n, __ATOMIC_RELAXED);
	if (n < 0)
		return;
	mesh_place_ask(w);
	foil_count(w, MESH, UPSTREAM_CX_STARVED, 1);
}
