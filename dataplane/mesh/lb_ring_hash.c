/* Ring hash (features.md DR-12): each host at many places of a ring of 2^64, in proportion to its weight; a key belongs to the next place. The places are
 * Envoy's (RingHashLoadBalancer), double arithmetic included, so that keys land on the same hosts: xxHash64 of "address:port_i" for as many i as
 * the running sum of scaled weights asks for. Floating point is housekeeping's alone.
 * Invariant: hashes[] ascend; n > 0. */
#include <math.h>
#include <stdlib.h>
#include <xxhash.h>

#include <errno.h>

#include "dataplane/mesh/addr_priv.h"
#include "dataplane/mesh/lb_priv.h"

struct place {
	uint64_t hash;
	uint32_t endpoint;
};
struct ring {
	uint32_t n;
	uint32_t endpoints_at; /* bytes from hashes */
	uint64_t hashes[];     /* [n], then uint32_t endpoints[n] */
};

/* The least of the hosts gets a whole number of places; without the rounding the ring would have ring_size_min. */
static double scale_of(const struct mesh_host_set *set, const struct lb_candidates *c)
{
	return fmin(ceil(c->weight_min * set->ring_size_min) / c->weight_min, set->ring_size_max);
}

/* Places are rounded up over the running sum: never more than one beyond the scale. */
static uint32_t places_max(const struct mesh_host_set *set, const struct lb_candidates *c)
{
	return (uint32_t)ceil(scale_of(set, c)) + 2;
}

static size_t ring_bytes(const struct mesh_host_set *set, const struct lb_candidates *c)
{
	return sizeof(struct ring) + places_max(set, c) * (sizeof(uint64_t) + sizeof(uint32_t));
}

static int by_hash(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->endpoint < y->endpoint ? -1 : x->endpoint > y->endpoint;
}

static uint32_t add_places(const struct mesh_host_set *set, const struct lb_candidates *c, struct place *places, uint32_t n_max)
{
	double scale = scale_of(set, c), current = 0, target = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->n; i++) {
		char key[ADDR_TEXT_BYTES + 12], number[ADDR_TEXT_BYTES];
		struct foil_slice address = lb_table_key(&set->endpoints[c->list[i].endpoint], key);
		uint32_t n_key = address.n_bytes;
		key[n_key++] = '_';
		target += scale * c->list[i].weight;
		for (uint64_t copy = 0; current < target && n < n_max; copy++, current++) {
			struct foil_slice digits = mesh_addr_number(copy, number);
			memcpy(key + n_key, digits.data, digits.n_bytes);
			places[n++] = (struct place){.hash = XXH64(key, n_key + digits.n_bytes, 0), .endpoint = c->list[i].endpoint};
		}
	}
	return n;
}

static int ring_build(const struct mesh_host_set *set, const struct lb_candidates *c, void *table)
{
	struct ring *r = table;
	uint32_t n_max = places_max(set, c);
	struct place *places = malloc(n_max * sizeof(*places));

	if (!places)
		return -ENOMEM;
	r->n = add_places(set, c, places, n_max);
	qsort(places, r->n, sizeof(*places), by_hash);
	r->endpoints_at = n_max * (uint32_t)sizeof(uint64_t);
	uint32_t *endpoints = (uint32_t *)(void *)((char *)r->hashes + r->endpoints_at);
	for (uint32_t i = 0; i < r->n; i++) {
		r->hashes[i] = places[i].hash;
		endpoints[i] = places[i].endpoint;
	}
	free(places);
	return 0;
}

static uint32_t ring_pick(const void *table, uint64_t hash, uint32_t attempt)
{
	const struct ring *r = table;
	const uint32_t *endpoints = (const uint32_t *)(const void *)((const char *)r->hashes + r->endpoints_at);
	uint32_t low = 0, high = r->n;

	while (low < high) { /* the first that is not before hash */
		uint32_t middle = low + (high - low) / 2;
		if (r->hashes[middle] < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return endpoints[(low % r->n + (uint64_t)attempt) % r->n];
}

const struct lb_policy lb_ring_hash = {
	.name = "ring_hash",
	.table_bytes = ring_bytes,
	.table_build = ring_build,
	.table_pick = ring_pick,
};
