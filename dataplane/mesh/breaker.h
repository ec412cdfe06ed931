/* Circuit breakers (features.md DR-22, DR-27..DR-30, DR-35): counts by cluster name over all workers against the limits of the configuration
 * at hand. */
#pragma once

#include "dataplane/mesh/host.h"

static inline uint32_t mesh_breaker_limit(const struct mesh_cluster *c, enum mesh_breaker kind)
{
	switch (kind) {
	case MESH_BREAKER_CONNECTIONS: return c->breaker.max_connections;
	case MESH_BREAKER_PENDING: return c->breaker.max_pending_requests;
	case MESH_BREAKER_REQUESTS: return c->breaker.max_requests;
	case MESH_BREAKER_RETRIES: return c->breaker.max_retries;
	case MESH_BREAKER_COUNT: break;
	}
	FOIL_UNREACHABLE();
}

/* All workers' count. Cost: one line a worker; not called where the limit is MESH_UNLIMITED. */
static inline uint32_t mesh_breaker_sum(const struct mesh_cluster_state *s, enum mesh_breaker kind)
{
	uint32_t sum = 0;

	for (uint16_t i = 0; i < s->n_workers; i++)
		sum += __atomic_load_n(&s->by_worker[i].n[kind], __ATOMIC_RELAXED);
	return sum;
}

/* Counts one more, whatever the limit. */
static inline void mesh_breaker_add(struct foil_worker *w, struct mesh_cluster_state *s, enum mesh_breaker kind, int32_t n)
{
	uint32_t *p = &s->by_worker[w->id].n[kind];
	__atomic_store_n(p, *p + (uint32_t)n, __ATOMIC_RELAXED);
}

/* DR-32: retries at a time, of the requests that are under way or wait. */
static inline uint32_t mesh_breaker_retry_budget(const struct mesh_cluster *c, const struct mesh_cluster_state *s)
{
	uint64_t n = (uint64_t)mesh_breaker_sum(s, MESH_BREAKER_REQUESTS) + mesh_breaker_sum(s, MESH_BREAKER_PENDING);
	uint64_t share = n * c->breaker.retry_budget_permille / 1000u;

	return (uint32_t)FOIL_MAX(share, (uint64_t)c->breaker.retry_budget_min);
}

/* Counts one more, unless that is beyond the limit. Own count first, then everybody's: two workers that do this at once see each other, so that the
 * limit is never passed; both may be refused the last one. */
static inline bool mesh_breaker_take(struct foil_worker *w, const struct mesh_cluster *c, struct mesh_cluster_state *s, enum mesh_breaker kind)
{
	uint32_t limit = mesh_breaker_limit(c, kind);

	if (kind == MESH_BREAKER_RETRIES && FOIL_UNLIKELY(c->breaker.has_retry_budget))
		limit = mesh_breaker_retry_budget(c, s);
	mesh_breaker_add(w, s, kind, 1);
	if (FOIL_LIKELY(limit == MESH_UNLIMITED))
		return true;
	if (s->n_workers > 1)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (mesh_breaker_sum(s, kind) <= limit)
		return true;
	mesh_breaker_add(w, s, kind, -1);
	return false;
}
