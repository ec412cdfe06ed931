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

/* Where a budget has an interval every try at an upstream counts as a request begun, a retry too, and whether it is still under way does not matter
 * (Envoy; tests/recorded/retries-budget-interval.yaml). */
static inline uint64_t mesh_begun_width_us(const struct mesh_cluster *c)
{
	return c->breaker.retry_budget_interval_us / (MESH_BEGUN_STEPS - 1u) + 1u;
}

static inline void mesh_begun_add(struct foil_worker *w, const struct mesh_cluster *c, struct mesh_cluster_state *s)
{
	if (FOIL_LIKELY(c->breaker.retry_budget_interval_us == 0) || !s->begun)
		return;
	uint64_t width = mesh_begun_width_us(c), at = w->now_us / width;
	struct mesh_begun *b = &s->begun[w->id];
	uint64_t *from = &b->step[at % MESH_BEGUN_STEPS].from_us;
	uint32_t *n = &b->step[at % MESH_BEGUN_STEPS].n;
	bool is_new = *from != at * width;

	__atomic_store_n(n, is_new ? 1u : *n + 1u, __ATOMIC_RELAXED);
	if (is_new)
		__atomic_store_n(from, at * width, __ATOMIC_RELAXED);
}

/* All workers' within the interval, or up to a step before it. */
static inline uint64_t mesh_begun_sum(const struct foil_worker *w, const struct mesh_cluster *c, const struct mesh_cluster_state *s)
{
	uint64_t since = w->now_us > c->breaker.retry_budget_interval_us ? w->now_us - c->breaker.retry_budget_interval_us : 0, sum = 0;
	uint64_t width = mesh_begun_width_us(c);

	for (uint16_t i = 0; s->begun && i < s->n_workers; i++)
		for (unsigned int k = 0; k < MESH_BEGUN_STEPS; k++)
			if (__atomic_load_n(&s->begun[i].step[k].from_us, __ATOMIC_RELAXED) + width > since)
				sum += __atomic_load_n(&s->begun[i].step[k].n, __ATOMIC_RELAXED);
	return sum;
}

/* DR-32: retries at a time, of the requests that are under way or wait, or of those begun in the interval. */
static inline uint32_t mesh_breaker_retry_budget(const struct foil_worker *w, const struct mesh_cluster *c, const struct mesh_cluster_state *s)
{
	uint64_t n = c->breaker.retry_budget_interval_us
			     ? mesh_begun_sum(w, c, s)
			     : (uint64_t)mesh_breaker_sum(s, MESH_BREAKER_REQUESTS) + mesh_breaker_sum(s, MESH_BREAKER_PENDING);
	uint64_t share = n * c->breaker.retry_budget_permille / 1000u;

	return (uint32_t)FOIL_MAX(share, (uint64_t)c->breaker.retry_budget_min);
}

/* Counts one more, unless that is beyond the limit. Own count first, then everybody's: two workers that do this at once see each other, so that the
 * limit is never passed; both may be refused the last one. */
static inline bool mesh_breaker_take(struct foil_worker *w, const struct mesh_cluster *c, struct mesh_cluster_state *s, enum mesh_breaker kind)
{
	uint32_t limit = mesh_breaker_limit(c, kind);

	if (kind == MESH_BREAKER_RETRIES && FOIL_UNLIKELY(c->breaker.has_retry_budget))
		limit = mesh_breaker_retry_budget(w, c, s);
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
