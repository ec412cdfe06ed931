/* Maglev (features.md DR-13): a table whose places the hosts take in turn, each in an order of its own (Eisenbud et al., NSDI 2016, listing 1), with
 * Envoy's seeds, weights and order of hosts (MaglevTable), so that keys land on the same hosts. Floating point is housekeeping's alone.
 * Invariant: every place of a built table holds an endpoint. */
#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

#include "dataplane/mesh/addr_priv.h"
#include "dataplane/mesh/lb_priv.h"

#define FREE UINT32_MAX

struct maglev {
	uint32_t n;
	uint32_t places[]; /* endpoints */
};
struct entry {
	uint64_t offset, skip, next;
	double weight, target;
	uint32_t endpoint;
	char key[ADDR_TEXT_BYTES];
};

static size_t maglev_bytes(const struct mesh_host_set *set, const struct lb_candidates *c)
{
	(void)c;
	return sizeof(struct maglev) + set->maglev_table_size * sizeof(uint32_t);
}

/* By address as text, so that the table does not depend on the order in which hosts are given. */
static int by_key(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int order = strcmp(x->key, y->key);

	return order ? order : x->endpoint < y->endpoint ? -1 : x->endpoint > y->endpoint;
}

static void fill_entry(const struct mesh_host_set *set, const struct lb_candidate *c, uint32_t n_places, struct entry *e)
{
	struct foil_slice key = lb_table_key(&set->endpoints[c->endpoint], e->key);

	e->key[key.n_bytes] = '\0';
	e->offset = XXH64(key.data, key.n_bytes, 0) % n_places;
	e->skip = XXH64(key.data, key.n_bytes, 1) % (n_places - 1) + 1;
	e->weight = c->weight;
	e->endpoint = c->endpoint;
}

/* The next place of e's own order that is free. The table's size is a prime: the order comes past every place. */
static uint32_t take_place(struct maglev *m, struct entry *e)
{
	uint64_t at = (e->offset + e->skip * e->next) % m->n;

	while (m->places[at] != FREE) {
		e->next++;
		at = (e->offset + e->skip * e->next) % m->n;
	}
	e->next++;
	return (uint32_t)at;
}

/* A host of the largest weight takes a place in each round, one of a third of it in every third. */
static void fill_places(struct maglev *m, struct entry *entries, uint32_t n_entries, double weight_max)
{
	uint32_t n_taken = 0;

	for (uint64_t round = 1; n_taken < m->n; round++) {
		for (uint32_t i = 0; i < n_entries && n_taken < m->n; i++) {
			struct entry *e = &entries[i];
			if ((double)round * e->weight < e->target)
				continue;
			e->target += weight_max;
			m->places[take_place(m, e)] = e->endpoint;
			n_taken++;
		}
	}
}

static int maglev_build(const struct mesh_host_set *set, const struct lb_candidates *c, void *table)
{
	struct maglev *m = table;
	struct entry *entries = calloc(c->n, sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	m->n = set->maglev_table_size;
	for (uint32_t i = 0; i < m->n; i++)
		m->places[i] = FREE;
	for (uint32_t i = 0; i < c->n; i++)
		fill_entry(set, &c->list[i], m->n, &entries[i]);
	qsort(entries, c->n, sizeof(*entries), by_key);
	fill_places(m, entries, c->n, c->weight_max);
	free(entries);
	return 0;
}

static uint32_t maglev_pick(const void *table, uint64_t hash, uint32_t attempt)
{
	const struct maglev *m = table;

	if (attempt > 0)
		hash ^= UINT64_MAX - attempt + 1; /* Envoy: most bits set, so that the next one is somewhere else */
	return m->places[hash % m->n];
}

const struct lb_policy lb_maglev = {
	.name = "maglev",
	.table_bytes = maglev_bytes,
	.table_build = maglev_build,
	.table_pick = maglev_pick,
};
