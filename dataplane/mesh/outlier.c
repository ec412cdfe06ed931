/* Outlier ejection (features.md DR-36..DR-45), as Envoy's detector: consecutive errors eject at once, wherever they were seen; only the
 * sweep, once an interval and cluster, brings back, or, where the cluster probes, a request that went well (outlier_probe.c).
 *
 * Workers count into the host's atomics, so that "5 errors" are 5 over all of them; who makes a count reach its limit ejects. A sweep belongs to the
 * worker that moves next_sweep_us on. Not here: what a status is (exchange), who may be picked (lb.c looks at ejected_us).
 * Invariant: n_ejected is the number of hosts of the cluster with ejected_us != 0, whoever changes one by compare-and-swap changes the other. */
#include "dataplane/mesh/outlier.h"

#include <errno.h>
#include <stdlib.h>

#include "dataplane/mesh/host_set_priv.h"
#include "dataplane/mesh/mesh.h"
#include "dataplane/mesh/outlier_priv.h"

#define SWEEP_LOOK_MAX 4u /* clusters a turn */
#define PROBE_LOOK_US 50000u /* how late a host's probation may begin: its time is its own, not the interval's */

struct FOIL_CACHE_ALIGNED outlier_cursor {
	uint32_t at;
	uint64_t earliest_us;    /* among those of this pass */
	uint64_t sleep_until_us; /* nothing is due before */
};
struct mesh_outlier_list {
	uint32_t n;
	uint32_t *slots;
	struct outlier_cursor by_worker[];
};

int mesh_outlier_list_new(struct mesh_config *c, uint16_t n_workers)
{
	uint32_t n = 0;

	for (uint32_t slot = 0; slot < c->n_cluster_slots; slot++)
		n += c->clusters[slot] && c->clusters[slot]->outlier;
	size_t bytes = sizeof(struct mesh_outlier_list) + n_workers * sizeof(struct outlier_cursor);
	struct mesh_outlier_list *list = aligned_alloc(64, (bytes + n * sizeof(uint32_t) + 63) & ~(size_t)63);
	if (!list)
		return -ENOMEM;
	memset(list, 0, bytes);
	list->slots = (uint32_t *)(void *)((char *)list + bytes);
	for (uint32_t slot = 0; slot < c->n_cluster_slots; slot++)
		if (c->clusters[slot] && c->clusters[slot]->outlier)
			list->slots[list->n++] = slot;
	c->outliers = list;
	return 0;
}

void mesh_outlier_list_free(struct mesh_config *c)
{
	free(c->outliers);
	c->outliers = NULL;
}

static void reset_counts(struct mesh_host *h)
{
	__atomic_store_n(&h->consecutive_5xx, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&h->consecutive_gateway, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&h->consecutive_local, 0, __ATOMIC_RELAXED);
}

/* False: it was not ejected, or another was faster. */
static bool bring_back(struct mesh_host *h)
{
	uint64_t since = __atomic_load_n(&h->ejected_us, __ATOMIC_RELAXED);

	if (since == 0 || !__atomic_compare_exchange_n(&h->ejected_us, &since, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		return false;
	mesh_probation_end(h);
	__atomic_fetch_sub(&h->cluster->n_ejected, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&h->cluster->health_epoch, 1, __ATOMIC_RELEASE);
	__atomic_fetch_add(h->cluster->n_told_changes, 1, __ATOMIC_RELAXED);
	return true;
}

void mesh_outlier_forget(struct mesh_host *h)
{
	if (!bring_back(h))
		mesh_probation_end(h);
	reset_counts(h);
	if (__atomic_exchange_n(&h->ejections, 0, __ATOMIC_RELAXED))
		__atomic_fetch_sub(&h->cluster->n_backed_off, 1, __ATOMIC_RELAXED);
}

/* Takes a place among the ejected if the limit allows: 100 * (ejected + 1) / hosts <= percent (DR-41). */
static bool reserve_ejection(struct mesh_cluster_state *s, uint32_t percent_max)
{
	uint32_t n = __atomic_load_n(&s->n_ejected, __ATOMIC_RELAXED), n_hosts = __atomic_load_n(&s->n_hosts, __ATOMIC_RELAXED);

	do {
		if (100 * ((uint64_t)n + 1) > (uint64_t)FOIL_MIN(percent_max, 100u) * n_hosts)
			return false;
	} while (!__atomic_compare_exchange_n(&s->n_ejected, &n, n + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

/* The multiplier grows with each ejection until base x multiplier has passed the longest time. */
static void back_off(const struct mesh_outlier *o, struct mesh_host *h)
{
	uint32_t n = __atomic_load_n(&h->ejections, __ATOMIC_RELAXED);

	if (n * o->base_ejection_us >= o->max_ejection_us + o->base_ejection_us)
		return;
	if (__atomic_fetch_add(&h->ejections, 1, __ATOMIC_RELAXED) == 0)
		__atomic_fetch_add(&h->cluster->n_backed_off, 1, __ATOMIC_RELAXED);
}

static FOIL_COLD void eject(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h)
{
	uint64_t not_ejected = 0;

	if (mesh_host_is_ejected(h))
		return;
	if (!reserve_ejection(h->cluster, o->max_ejection_percent)) {
		foil_count(w, MESH, OUTLIER_EJECTIONS_OVERFLOW, 1);
		return;
	}
	if (!__atomic_compare_exchange_n(&h->ejected_us, &not_ejected, w->now_us, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
		__atomic_fetch_sub(&h->cluster->n_ejected, 1, __ATOMIC_RELAXED); /* another worker ejected it just now */
		return;
	}
	back_off(o, h);
	if (o->probes)
		mesh_probation_begin(w, o, h);
	__atomic_fetch_add(&h->cluster->health_epoch, 1, __ATOMIC_RELEASE);
	__atomic_fetch_add(h->cluster->n_told_changes, 1, __ATOMIC_RELAXED);
	foil_count(w, MESH, OUTLIER_EJECTIONS, 1);
}

/* One more of a kind in a row. The count starts over when it reaches the limit, whether or not the host could be ejected (Envoy). */
static FOIL_COLD void count_error(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h, uint32_t *count, uint32_t limit)
{
	if (__atomic_add_fetch(count, 1, __ATOMIC_RELAXED) < limit || limit == 0)
		return;
	__atomic_store_n(count, 0, __ATOMIC_RELAXED);
	eject(w, o, h);
}

static void clear(uint32_t *count)
{
	if (__atomic_load_n(count, __ATOMIC_RELAXED)) /* read first: a healthy host's line stays shared between workers */
		__atomic_store_n(count, 0, __ATOMIC_RELAXED);
}

static bool is_error_status(const struct mesh_outlier *o, uint16_t status)
{
	if (o->n_error_codes == 0)
		return status >= 500 && status <= 599;
	for (uint16_t i = 0; i < o->n_error_codes; i++)
		if (o->error_codes[i] == status)
			return true;
	return false;
}

static bool is_gateway_status(uint16_t status)
{
	return status >= 502 && status <= 504;
}

static void put_status(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h, uint16_t status, bool is_error)
{
	if (!is_error) {
		clear(&h->consecutive_5xx);
		clear(&h->consecutive_gateway);
		return;
	}
	if (is_gateway_status(status))
		count_error(w, o, h, &h->consecutive_gateway, o->consecutive_gateway_errors);
	else
		clear(&h->consecutive_gateway);
	count_error(w, o, h, &h->consecutive_5xx, o->consecutive_5xx);
}

/* What this side saw of the connection. Apart when split, else as the status that a client would see. */
static void put_local(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h, uint16_t as_status)
{
	if (o->split_external_local_origin)
		count_error(w, o, h, &h->consecutive_local, o->consecutive_local_origin_failures);
	else
		put_status(w, o, h, as_status, true);
}

/* A connection to an HTTP cluster says nothing about the answers to come, one to a TCP cluster is all there is to see. */
static void put_connected(struct foil_worker *w, const struct mesh_cluster *c, struct mesh_host *h)
{
	if (c->outlier->split_external_local_origin)
		clear(&h->consecutive_local);
	else if (c->protocol == MESH_UPSTREAM_TCP)
		put_status(w, c->outlier, h, 200, false);
}

/* ---- the request that tries an ejected host ---- */
enum verdict { VERDICT_GOOD, VERDICT_BAD, VERDICT_NONE };

/* Only what would have counted towards an ejection is bad. */
static enum verdict verdict_of(const struct mesh_cluster *c, enum mesh_outcome outcome, uint16_t status)
{
	const struct mesh_outlier *o = c->outlier;
	bool counts;

	switch (outcome) {
	case MESH_OUTCOME_STATUS:
		counts = o->consecutive_5xx || (o->consecutive_gateway_errors && is_gateway_status(status));
		return counts && is_error_status(o, status) ? VERDICT_BAD : VERDICT_GOOD;
	case MESH_OUTCOME_CONNECT_OK: return c->protocol == MESH_UPSTREAM_TCP ? VERDICT_GOOD : VERDICT_NONE;
	case MESH_OUTCOME_CONNECT_FAILED:
	case MESH_OUTCOME_RESET:
	case MESH_OUTCOME_TIMEOUT: return VERDICT_BAD;
	}
	FOIL_UNREACHABLE();
}

static FOIL_COLD void settle(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h, enum verdict verdict)
{
	if (verdict == VERDICT_NONE || !mesh_probation_take(h))
		return;
	if (verdict == VERDICT_GOOD) {
		mesh_outlier_forget(h);
		foil_count(w, MESH, OUTLIER_RETURNS, 1);
		return;
	}
	back_off(o, h);
	mesh_probation_again(w, o, h);
}

void mesh_outlier_outcome(struct foil_worker *w, const struct mesh_cluster *c, struct mesh_host *h, enum mesh_outcome outcome, uint16_t status)
{
	const struct mesh_outlier *o = c->outlier;

	if (!o)
		return;
	if (FOIL_UNLIKELY(__atomic_load_n(&h->probation, __ATOMIC_RELAXED) == MESH_PROBATION_RUNS)) {
		settle(w, o, h, verdict_of(c, outcome, status));
		return;
	}
	switch (outcome) {
	case MESH_OUTCOME_STATUS:
		put_status(w, o, h, status, is_error_status(o, status));
		return;
	case MESH_OUTCOME_CONNECT_OK:
		put_connected(w, c, h);
		return;
	case MESH_OUTCOME_CONNECT_FAILED:
	case MESH_OUTCOME_RESET:
		put_local(w, o, h, 503);
		return;
	case MESH_OUTCOME_TIMEOUT:
		put_local(w, o, h, 504);
		return;
	}
	FOIL_UNREACHABLE();
}

/* The back-off falls by one for each sweep that finds the host in service, the one that brings it back not included (Envoy). Returns when to look
 * at this host again, if that cannot wait for the next interval. */
static uint64_t sweep_host(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h)
{
	uint64_t since = __atomic_load_n(&h->ejected_us, __ATOMIC_RELAXED);
	uint32_t n = __atomic_load_n(&h->ejections, __ATOMIC_RELAXED);

	if (since != 0 && o->probes)
		return mesh_probation_sweep(w, o, h, since);
	if (since != 0) {
		uint64_t until_us = since + FOIL_MIN(o->base_ejection_us * n, o->max_ejection_us); /* another worker's clock may be ahead */
		if (w->now_us >= until_us && bring_back(h)) {
			reset_counts(h);
			foil_count(w, MESH, OUTLIER_RETURNS, 1);
		}
		return UINT64_MAX;
	}
	if (n > 0 && __atomic_compare_exchange_n(&h->ejections, &n, n - 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED) && n == 1)
		__atomic_fetch_sub(&h->cluster->n_backed_off, 1, __ATOMIC_RELAXED);
	return UINT64_MAX;
}

/* Looks at one cluster; returns when it is due next. */
static uint64_t look(struct foil_worker *w, const struct mesh_cluster *c, const struct mesh_host_set *set)
{
	struct mesh_cluster_state *s = set->cluster;
	uint64_t due_us = __atomic_load_n(&s->next_sweep_us, __ATOMIC_RELAXED), next_us = w->now_us + c->outlier->interval_us;
	uint64_t look_us = c->outlier->probes ? w->now_us + PROBE_LOOK_US : UINT64_MAX; /* an ejection makes a sweep due earlier */

	if (due_us != 0 && w->now_us < due_us)
		return FOIL_MIN(due_us, look_us);
	if (!__atomic_compare_exchange_n(&s->next_sweep_us, &due_us, next_us, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED) || due_us == 0)
		return FOIL_MIN(next_us, look_us); /* another worker's, or armed just now */
	if (__atomic_load_n(&s->n_ejected, __ATOMIC_RELAXED) == 0 && __atomic_load_n(&s->n_backed_off, __ATOMIC_RELAXED) == 0)
		return FOIL_MIN(next_us, look_us);
	for (uint32_t i = 0; i < set->n_hosts; i++)
		mesh_probation_sweep_by(s, sweep_host(w, c->outlier, set->hosts[i]));
	return FOIL_MIN(next_us, look_us);
}

void mesh_outlier_turn(struct foil_worker *w, const struct mesh_config *cfg)
{
	struct mesh_outlier_list *list = cfg->outliers;

	if (!list || list->n == 0)
		return;
	struct outlier_cursor *cur = &list->by_worker[w->id];
	if (w->now_us < cur->sleep_until_us)
		return;
	for (uint32_t looked = 0; looked < SWEEP_LOOK_MAX; looked++) {
		uint32_t slot = list->slots[cur->at];
		uint64_t due_us = look(w, cfg->clusters[slot], cfg->host_sets[slot]);

		if (cur->at == 0 || due_us < cur->earliest_us)
			cur->earliest_us = due_us;
		if (++cur->at == list->n) {
			cur->at = 0;
			cur->sleep_until_us = cur->earliest_us;
			return;
		}
	}
}
