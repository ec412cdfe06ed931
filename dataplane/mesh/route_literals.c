/* Many routes by regular expression: an index by a text that a path must contain for the expression to match (route_priv.h, core/regex.h). Set-up,
 * housekeeping thread, memory from the table's blob.
 *
 * Of each text one window of 8 (or 4) bytes is the key, the one that fewest of the other texts have. A request hashes each window of its path once, and
 * only expressions whose key is there are tried. Never more than without the index: each bucket once, and a path with keys of many buckets has all
 * expressions tried in order, as before. Candidates only: route.c runs the expression itself, and keeps to the routes' order. */
#include <errno.h>

#include "dataplane/mesh/route_priv.h"

#define INDEX_ROUTES_MIN 9u /* fewer are faster to try in turn */
#define BITS_A_KEY 16u
#define COUNTERS_MAX (1u << 22)

/* A route's texts, while the index is built. */
struct told {
	uint32_t number, n_texts;
	struct foil_slice texts[FOIL_REGEX_LITERALS_MAX];
	uint64_t keys[FOIL_REGEX_LITERALS_MAX];
};

struct build {
	struct foil_blob scratch;
	struct told *told;
	uint32_t n_told, n_keys, n_windows;
	uint32_t *counters; /* windows by hash; two that share one count as more, which only makes them less welcome */
	uint32_t counters_mask;
};

static uint32_t power_of_two(uint64_t at_least, uint32_t max)
{
	uint32_t n = 64;

	while (n < at_least && n < max)
		n *= 2;
	return n;
}

static bool is_long(struct foil_slice text)
{
	return text.n_bytes >= ROUTE_WINDOW_LONG;
}

static uint32_t n_windows(struct foil_slice text)
{
	return text.n_bytes - (is_long(text) ? ROUTE_WINDOW_LONG : ROUTE_WINDOW_SHORT) + 1;
}

/* What a route's expression cannot do without; false: it says nothing, or there is no memory. */
static int told_add(struct build *k, const struct mesh_route *r, uint32_t number, bool *is_told)
{
	struct foil_regex_literal literals[FOIL_REGEX_LITERALS_MAX];
	struct told *t = &k->told[k->n_told];

	*is_told = false;
	if (r->match.path_kind != MESH_PATH_REGEX || r->match.path_regex->ignore_case)
		return 0;
	*t = (struct told){.number = number, .n_texts = foil_regex_literals(r->match.path_regex->pattern, literals)};
	for (uint32_t i = 0; i < t->n_texts; i++) {
		t->texts[i] = foil_blob_copy(&k->scratch, literals[i].text, literals[i].n_bytes);
		if (!t->texts[i].data)
			return -ENOMEM;
		k->n_windows += n_windows(t->texts[i]);
	}
	*is_told = t->n_texts > 0;
	k->n_told += *is_told;
	k->n_keys += t->n_texts;
	return 0;
}

static uint32_t *counter(struct build *k, const char *at, bool of_long)
{
	return &k->counters[route_window_bit(route_window_hash(at, of_long), k->counters_mask)];
}

static void count_windows(struct build *k, struct foil_slice text)
{
	for (uint32_t i = 0; i < n_windows(text); i++)
		++*counter(k, text.data + i, is_long(text));
}

static uint64_t rarest_window(struct build *k, struct foil_slice text)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < n_windows(text); i++)
		if (*counter(k, text.data + i, is_long(text)) < *counter(k, text.data + best, is_long(text)))
			best = i;
	return route_window_hash(text.data + best, is_long(text));
}

static int choose_keys(struct build *k)
{
	k->counters_mask = power_of_two(4 * (uint64_t)k->n_windows, COUNTERS_MAX) - 1;
	k->counters = foil_blob_array(&k->scratch, (size_t)k->counters_mask + 1, sizeof(uint32_t));
	if (!k->counters)
		return -ENOMEM;
	for (uint32_t i = 0; i < k->n_told; i++)
		for (uint32_t t = 0; t < k->told[i].n_texts; t++)
			count_windows(k, k->told[i].texts[t]);
	for (uint32_t i = 0; i < k->n_told; i++)
		for (uint32_t t = 0; t < k->told[i].n_texts; t++)
			k->told[i].keys[t] = rarest_window(k, k->told[i].texts[t]);
	return 0;
}

static struct literal_bucket *bucket_of(struct route_literals *x, uint64_t hash)
{
	uint32_t slot = route_hash_slot(hash, x->mask);

	for (; x->slots[slot]; slot = (slot + 1) & x->mask)
		if (x->buckets[x->slots[slot] - 1].hash == hash)
			return &x->buckets[x->slots[slot] - 1];
	x->buckets[x->n_buckets].hash = hash;
	x->slots[slot] = ++x->n_buckets;
	return &x->buckets[x->n_buckets - 1];
}

static int tables(struct foil_blob *b, struct route_literals *x, uint32_t n_keys)
{
	x->mask = power_of_two(2 * (uint64_t)n_keys, 1u << 30) - 1;
	x->bits_mask = power_of_two(BITS_A_KEY * (uint64_t)n_keys, 1u << 30) - 1;
	x->slots = foil_blob_array(b, (size_t)x->mask + 1, sizeof(uint32_t));
	x->bits = foil_blob_array(b, ((size_t)x->bits_mask + 1) / 64, sizeof(uint64_t));
	x->buckets = foil_blob_array(b, n_keys, sizeof(struct literal_bucket));
	x->members = foil_blob_array(b, n_keys, sizeof(uint32_t));
	return x->slots && x->bits && x->buckets && x->members ? 0 : -ENOMEM;
}

/* Sizes, then places, then members in order: as group_routes in route_index.c. Two texts of one route may share a key. */
static void fill(struct route_literals *x, const struct build *k)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < k->n_told; i++)
		for (uint32_t t = 0; t < k->told[i].n_texts; t++)
			bucket_of(x, k->told[i].keys[t])->n++;
	for (uint32_t i = 0; i < x->n_buckets; i++) {
		x->buckets[i].first = at;
		at += x->buckets[i].n;
		x->buckets[i].n = 0;
	}
	for (uint32_t i = 0; i < k->n_told; i++) {
		for (uint32_t t = 0; t < k->told[i].n_texts; t++) {
			struct literal_bucket *bucket = bucket_of(x, k->told[i].keys[t]);
			uint32_t bit = route_window_bit(bucket->hash, x->bits_mask), *members = x->members + bucket->first;
			if (bucket->n == 0 || members[bucket->n - 1] != k->told[i].number)
				members[bucket->n++] = k->told[i].number;
			x->bits[bit / 64] |= (uint64_t)1 << bit % 64;
			*(is_long(k->told[i].texts[t]) ? &x->has_long : &x->has_short) = true;
		}
	}
}

static int build(struct foil_blob *b, struct build *k, const struct mesh_vhost *v, uint32_t *numbers, uint32_t *n, struct route_literals **out)
{
	uint32_t n_others = 0;

	k->told = foil_blob_array(&k->scratch, *n, sizeof(struct told));
	uint32_t *others = foil_blob_array(&k->scratch, *n, sizeof(uint32_t));
	if (!k->told || !others)
		return -ENOMEM;
	for (uint32_t i = 0; i < *n; i++) {
		bool is_told;
		if (told_add(k, &v->routes[numbers[i]], numbers[i], &is_told) != 0)
			return -ENOMEM;
		if (!is_told)
			others[n_others++] = numbers[i];
	}
	if (k->n_told < INDEX_ROUTES_MIN)
		return 0;
	struct route_literals *x = foil_blob_alloc(b, sizeof(*x));
	if (!x || choose_keys(k) != 0 || tables(b, x, k->n_keys) != 0)
		return -ENOMEM;
	fill(x, k);
	for (uint32_t i = 0; i < x->n_buckets; i++)
		if (route_headers_build(b, v, x->members + x->buckets[i].first, x->buckets[i].n, &x->buckets[i].headers) != 0)
			return -ENOMEM;
	memcpy(numbers, others, n_others * sizeof(numbers[0]));
	*n = n_others;
	*out = x;
	return 0;
}

int route_literals_build(struct foil_blob *b, const struct mesh_vhost *v, uint32_t *numbers, uint32_t *n, struct route_literals **out)
{
	struct build k = {0};

	*out = NULL;
	if (*n < INDEX_ROUTES_MIN)
		return 0;
	int rc = build(b, &k, v, numbers, n, out);
	foil_blob_free(&k.scratch);
	return rc;
}
