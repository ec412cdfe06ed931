/* How much of the load a priority gets and which localities share it, as Envoy's LoadBalancerBase and HostSetImpl compute it (features.md DR-18,
 * DR-19, DR-42, HC-5): whole percents, cut, the rest to the first that has any health.
 * Invariant: loads of lb_loads add up to 100. */
#include "dataplane/mesh/lb_priv.h"

/* A priority counts as available up to 100 % even when some of its hosts are not: that is what overprovisioning means. */
static uint32_t availability(const struct lb_health *h, bool of_degraded, uint32_t overprovisioning_percent)
{
	return h->n ? (uint32_t)FOIL_MIN((uint64_t)overprovisioning_percent * (of_degraded ? h->n_degraded : h->n_healthy) / h->n, 100u) : 0;
}

static bool is_below(const struct lb_health *h, uint32_t threshold_percent)
{
	return h->n ? ((uint64_t)h->n_healthy + h->n_degraded) * 100 < (uint64_t)threshold_percent * h->n : threshold_percent > 0;
}

/* Healthy hosts of all priorities go before degraded ones of any. */
static void load_by_health(const struct lb_health *health, uint32_t n, uint32_t overprovisioning_percent, uint32_t total, struct lb_level_now *out)
{
	uint32_t left = 100, first = 2 * n;

	for (uint32_t i = 0; i < 2 * n; i++) {
		uint32_t a = availability(&health[i % n], i >= n, overprovisioning_percent);
		if (first == 2 * n && a > 0)
			first = i;
		out[i].load_percent = FOIL_MIN(left, a * 100 / total);
		left -= out[i].load_percent;
	}
	out[first].load_percent += left;
}

/* Every level is in panic: by the number of hosts. */
static void load_by_size(const struct lb_health *health, uint32_t n, struct lb_level_now *out)
{
	uint32_t left = 100, first = 0;
	uint64_t all = 0;

	for (uint32_t i = n; i-- > 0;) {
		all += health[i].n;
		first = health[i].n ? i : first;
	}
	for (uint32_t i = 0; i < n; i++) {
		out[i].load_percent = all ? (uint32_t)(100 * (uint64_t)health[i].n / all) : 0;
		left -= out[i].load_percent;
	}
	out[first].load_percent += left;
}

void lb_loads(const struct lb_health *health, uint32_t n, uint32_t overprovisioning_percent, uint32_t panic_threshold_percent, struct lb_level_now *out)
{
	uint32_t total = 0;
	bool all_panic = true;

	for (uint32_t i = 0; i < n; i++)
		total += availability(&health[i], false, overprovisioning_percent) + availability(&health[i], true, overprovisioning_percent);
	total = FOIL_MIN(total, 100u);
	for (uint32_t i = 0; i < n; i++) {
		out[i].load_percent = out[n + i].load_percent = 0;
		out[i].is_panic = out[n + i].is_panic = total < 100 && is_below(&health[i], panic_threshold_percent);
		all_panic &= out[i].is_panic;
	}
	if (all_panic)
		load_by_size(health, n, out);
	else if (total == 0)
		out[0].load_percent = 100; /* nobody is there, and nobody panics */
	else
		load_by_health(health, n, overprovisioning_percent, total, out);
}

uint32_t lb_level_of(const struct lb_level_now *levels, uint32_t n, uint64_t hash)
{
	uint32_t at = (uint32_t)(hash % 100) + 1, upto = 0;

	for (uint32_t i = 0; i + 1 < n; i++) {
		upto += levels[i].load_percent;
		if (at <= upto)
			return i;
	}
	return n - 1;
}

uint32_t lb_locality_weight(uint32_t weight, const struct lb_health *h, uint32_t overprovisioning_percent)
{
	uint64_t full = 100ull * h->n, have = FOIL_MIN((uint64_t)overprovisioning_percent * h->n_healthy, full);

	if (have == 0 || weight == 0)
		return 0;
	uint64_t effective = (uint64_t)weight * have / full; /* weight alone when all are there */
	return (uint32_t)FOIL_MAX(effective, 1u);
}
