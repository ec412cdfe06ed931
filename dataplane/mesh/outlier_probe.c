/* Recovery by probation (features.md HC-2), as Linkerd's failure accrual: when an ejected host's time is over, one request over all workers is let through to
 * it, and what becomes of that decides. An answer that is no error brings the host back; anything else keeps it out for twice as long. A request that
 * tells nothing (its client went away, no place in a pool) is forgotten when the host's time has passed once more, and the next one tries. Requests that
 * were under way when the host was ejected may tell, too: what a host says of itself counts, whoever asked.
 *
 * Not here: ejecting and bringing back, what is an error (outlier.c); which request goes there (lb.c).
 * Invariant: n_probes_due is the number of hosts of the cluster whose probation is DUE; who changes one by compare-and-swap changes the other. While it is
 * SETTLES, one worker alone writes the host's times. */
#include "dataplane/mesh/outlier_priv.h"

#include "dataplane/mesh/mesh.h"

#define JITTER_PERCENT_MAX 50u /* of the time that a host stays out, on top (Linkerd's jitter ratio of 0.5) */

static bool become(struct mesh_host *h, enum mesh_probation was, enum mesh_probation next)
{
	uint8_t is = (uint8_t)was;

	if (!__atomic_compare_exchange_n(&h->probation, &is, (uint8_t)next, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return false;
	if ((was == MESH_PROBATION_DUE) != (next == MESH_PROBATION_DUE))
		__atomic_fetch_add(&h->cluster->n_probes_due, next == MESH_PROBATION_DUE ? 1u : -1u, __ATOMIC_RELAXED);
	return true;
}

void mesh_probation_sweep_by(struct mesh_cluster_state *s, uint64_t at_us)
{
	uint64_t due_us = __atomic_load_n(&s->next_sweep_us, __ATOMIC_RELAXED);

	while ((due_us == 0 || due_us > at_us) && !__atomic_compare_exchange_n(&s->next_sweep_us, &due_us, at_us, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static void wait_for(struct foil_worker *w, struct mesh_host *h, uint64_t us)
{
	__atomic_store_n(&h->probe_us, w->now_us + us, __ATOMIC_RELEASE);
	mesh_probation_sweep_by(h->cluster, w->now_us + us);
}

/* Twice as long with each ejection in a row. */
static uint64_t time_out_us(struct foil_worker *w, const struct mesh_outlier *o, uint32_t n_ejections)
{
	uint64_t us = o->base_ejection_us;

	for (uint32_t i = 1; i < n_ejections && us < o->max_ejection_us; i++)
		us *= 2;
	us += us * (foil_prng_u64(&w->prng) % (JITTER_PERCENT_MAX + 1)) / 100;
	return FOIL_MIN(us, o->max_ejection_us);
}

void mesh_probation_begin(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h)
{
	uint64_t us = time_out_us(w, o, __atomic_load_n(&h->ejections, __ATOMIC_RELAXED));

	__atomic_store_n(&h->time_out_us, us, __ATOMIC_RELAXED);
	wait_for(w, h, us);
}

void mesh_probation_end(struct mesh_host *h)
{
	__atomic_store_n(&h->probe_us, 0, __ATOMIC_RELAXED);
	if (__atomic_exchange_n(&h->probation, MESH_PROBATION_NONE, __ATOMIC_RELAXED) == MESH_PROBATION_DUE)
		__atomic_fetch_sub(&h->cluster->n_probes_due, 1, __ATOMIC_RELAXED);
}

/* A host that is being ejected just now, or was before there was probation, has no time of its own yet. */
uint64_t mesh_probation_sweep(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h, uint64_t since_us)
{
	uint8_t is = __atomic_load_n(&h->probation, __ATOMIC_ACQUIRE);
	uint64_t at_us = __atomic_load_n(&h->probe_us, __ATOMIC_RELAXED);

	if (is == MESH_PROBATION_DUE || is == MESH_PROBATION_SETTLES)
		return UINT64_MAX;
	at_us = at_us ? at_us : since_us + o->base_ejection_us;
	if (w->now_us < at_us)
		return at_us;
	if (__atomic_load_n(&h->time_out_us, __ATOMIC_RELAXED) == 0)
		__atomic_store_n(&h->time_out_us, o->base_ejection_us, __ATOMIC_RELAXED);
	(void)become(h, (enum mesh_probation)is, MESH_PROBATION_DUE); /* false: another worker was faster */
	return UINT64_MAX;
}

bool mesh_outlier_claim(struct foil_worker *w, struct mesh_host *h, bool is_usable)
{
	if (!become(h, MESH_PROBATION_DUE, MESH_PROBATION_SETTLES))
		return false;
	wait_for(w, h, __atomic_load_n(&h->time_out_us, __ATOMIC_RELAXED));
	(void)become(h, MESH_PROBATION_SETTLES, is_usable ? MESH_PROBATION_RUNS : MESH_PROBATION_NONE); /* false: it came back meanwhile */
	foil_count(w, MESH, OUTLIER_PROBES, is_usable);
	return is_usable;
}

bool mesh_probation_take(struct mesh_host *h)
{
	return become(h, MESH_PROBATION_RUNS, MESH_PROBATION_SETTLES);
}

void mesh_probation_again(struct foil_worker *w, const struct mesh_outlier *o, struct mesh_host *h)
{
	mesh_probation_begin(w, o, h);
	(void)become(h, MESH_PROBATION_SETTLES, MESH_PROBATION_NONE); /* false: it came back meanwhile */
	foil_count(w, MESH, OUTLIER_PROBES_FAILED, 1);
}
