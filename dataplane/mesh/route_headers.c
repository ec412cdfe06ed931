/* Many routes of one path that are told apart by headers: an index by name and value (route_priv.h). Set-up, housekeeping thread, memory from the
 * table's blob.
 *
 * A level takes the header that most of the routes left want an exact value of, and puts those routes into buckets by that value; what is left goes
 * to the next level, at last into a list. A request looks at each level with the values that it has. A bucket is candidates only: route.c compares in
 * full and keeps to the routes' order, so hashes may collide, and case is folded into them. */
#include <errno.h>

#include "dataplane/mesh/route_priv.h"

#define INDEX_ROUTES_MIN 9u /* fewer are faster to try in turn */
#define LEVELS_MAX 8u
#define NAMES_MAX 32u

struct name_count {
	const struct mesh_header_match *m;
	uint32_t n;
};

static bool is_same_name(const struct mesh_header_match *a, const struct mesh_header_match *b)
{
	return a->id == b->id && (a->id != HTTP_HDR_OTHER || foil_slice_eq(a->name, b->name));
}

/* A request without a line of this name and value cannot match. */
static bool is_telling(const struct mesh_header_match *m)
{
	return m->value.kind == MESH_MATCH_EXACT && !m->invert && !m->treat_missing_as_empty && m->id != HTTP_HDR_HOST && m->name.n_bytes &&
	       m->name.data[0] != ':';
}

static const struct mesh_header_match *of_name(const struct mesh_route *r, const struct mesh_header_match *name)
{
	for (uint16_t i = 0; i < r->match.n_headers; i++)
		if (is_telling(&r->match.headers[i]) && is_same_name(&r->match.headers[i], name))
			return &r->match.headers[i];
	return NULL;
}

static void count_one(struct name_count *names, uint32_t *n_names, const struct mesh_header_match *m)
{
	for (uint32_t i = 0; i < *n_names; i++) {
		if (is_same_name(names[i].m, m)) {
			names[i].n++;
			return;
		}
	}
	if (*n_names < NAMES_MAX)
		names[(*n_names)++] = (struct name_count){m, 1};
}

/* The name that most of these routes want a value of; NULL: too few. */
static const struct mesh_header_match *best_name(const struct mesh_vhost *v, const uint32_t *routes, uint32_t n)
{
	struct name_count names[NAMES_MAX], best = {NULL, 0};
	uint32_t n_names = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct mesh_route_match *m = &v->routes[routes[i]].match;
		for (uint16_t h = 0; h < m->n_headers; h++)
			if (is_telling(&m->headers[h]))
				count_one(names, &n_names, &m->headers[h]);
	}
	for (uint32_t i = 0; i < n_names; i++)
		if (names[i].n > best.n)
			best = names[i];
	return best.n >= INDEX_ROUTES_MIN ? best.m : NULL;
}

static struct header_bucket *bucket_of(struct route_headers *x, uint64_t hash, uint32_t *n_buckets)
{
	uint32_t slot = route_hash_slot(hash, x->mask);

	for (; x->slots[slot]; slot = (slot + 1) & x->mask)
		if (x->buckets[x->slots[slot] - 1].hash == hash)
			return &x->buckets[x->slots[slot] - 1];
	x->buckets[*n_buckets].hash = hash;
	x->slots[slot] = ++*n_buckets;
	return &x->buckets[*n_buckets - 1];
}

static int level_tables(struct foil_blob *b, struct route_headers *x, uint32_t n)
{
	uint32_t n_slots = 16;

	while (n_slots < 2 * n && n_slots < 1u << 30)
		n_slots *= 2;
	x->slots = foil_blob_array(b, n_slots, sizeof(uint32_t));
	x->mask = n_slots - 1;
	x->buckets = foil_blob_array(b, n, sizeof(struct header_bucket));
	x->members = foil_blob_array(b, n, sizeof(uint32_t));
	x->others = foil_blob_array(b, n, sizeof(uint32_t));
	return x->slots && x->buckets && x->members && x->others ? 0 : -ENOMEM;
}

/* Sizes, then places, then members in order: as group_routes in route_index.c. */
static void level_fill(const struct mesh_vhost *v, struct route_headers *x, const uint32_t *routes, uint32_t n)
{
	uint32_t n_buckets = 0, at = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct mesh_header_match *m = of_name(&v->routes[routes[i]], x->match);
		if (m)
			bucket_of(x, route_hash_whole(m->value.text), &n_buckets)->n++;
		else
			x->others[x->n_others++] = routes[i];
	}
	for (uint32_t i = 0; i < n_buckets; i++) {
		x->buckets[i].first = at;
		at += x->buckets[i].n;
		x->buckets[i].n = 0;
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct mesh_header_match *m = of_name(&v->routes[routes[i]], x->match);
		if (!m)
			continue;
		struct header_bucket *k = bucket_of(x, route_hash_whole(m->value.text), &n_buckets);
		x->members[k->first + k->n++] = routes[i];
	}
}

int route_headers_build(struct foil_blob *b, const struct mesh_vhost *v, const uint32_t *routes, uint32_t n, struct route_headers **out)
{
	struct route_headers **next = out;

	*out = NULL;
	for (uint32_t level = 0; level < LEVELS_MAX && n >= INDEX_ROUTES_MIN; level++) {
		const struct mesh_header_match *name = best_name(v, routes, n);
		if (!name)
			return 0;
		struct route_headers *x = foil_blob_alloc(b, sizeof(*x));
		if (!x || level_tables(b, x, n) != 0)
			return -ENOMEM;
		x->match = name;
		level_fill(v, x, routes, n);
		*next = x;
		next = &x->next;
		routes = x->others;
		n = x->n_others;
	}
	return 0;
}
