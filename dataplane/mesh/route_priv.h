/* The look-up tables of a route table, made by route_index.c and read by route.c.
 *
 * Texts are hashed byte by byte with case folded, so that the hashes of all prefixes (or suffixes) of a text fall out of one pass over it. A hash
 * only finds candidates: every candidate is compared in full. The keys are configuration, so nobody outside can make them collide. */
#pragma once

#include "dataplane/mesh/route.h"

#define ROUTE_HASH_SEED 0x9e3779b97f4a7c15u
#define ROUTE_HASH_STEP 0x100000001b3u /* FNV's prime; odd, so no byte is ever lost */

static inline uint64_t route_hash_step(uint64_t hash, char c)
{
	return (hash ^ (uint8_t)foil_ascii_lower(c)) * ROUTE_HASH_STEP;
}

static inline uint32_t route_hash_slot(uint64_t hash, uint32_t mask)
{
	return (uint32_t)(hash * ROUTE_HASH_SEED >> 32) & mask;
}

/* Which lengths occur among the keys, so that only those are probed. */
struct route_lengths {
	uint64_t *bits;
	uint32_t max;
};

static inline bool route_lengths_has(const struct route_lengths *l, uint32_t n)
{
	return n <= l->max && (l->bits[n / 64] >> n % 64 & 1);
}

/* Without case, eight bytes a step, for texts that are only looked for whole. That some other characters are as one, too, costs a comparison. */
static inline uint64_t route_hash_whole(struct foil_slice text)
{
	const uint64_t no_case = 0x2020202020202020u;
	uint64_t hash = ROUTE_HASH_SEED ^ text.n_bytes;

	for (uint32_t i = 0; i < text.n_bytes; i += 8) {
		hash = (hash ^ (foil_load_upto_8(&text.data[i], text.n_bytes - i) | no_case)) * ROUTE_HASH_STEP;
		hash ^= hash >> 29;
	}
	return hash;
}

/* Without case, in one pass that knows the hash of every beginning on its way. */
static inline uint64_t route_hash(struct foil_slice text)
{
	uint64_t hash = ROUTE_HASH_SEED;

	for (uint32_t i = 0; i < text.n_bytes; i++)
		hash = route_hash_step(hash, text.data[i]);
	return hash;
}

/* One level of the index by headers (route_headers.c): routes that want one value of match's header, by that value; the rest is next's, or, at
 * the last level, others. */
struct header_bucket {
	uint64_t hash; /* of the value */
	uint32_t first, n; /* members[first .. first + n), in order */
};

struct route_headers {
	const struct mesh_header_match *match; /* whose name it is */
	uint32_t *slots; /* number of a bucket + 1 */
	uint32_t mask;
	struct header_bucket *buckets;
	uint32_t *members;
	uint32_t *others;
	uint32_t n_others;
	struct route_headers *next;
};

/* Routes (numbers, in order) into levels. *out NULL: too few have an exact header in common. 0 or -ENOMEM. */
int route_headers_build(struct foil_blob *b, const struct mesh_vhost *v, const uint32_t *routes, uint32_t n, struct route_headers **out);

/* The index of regular expressions by a text that each cannot match without (route_literals.c). */
struct literal_bucket {
	uint64_t hash; /* of a window of the text */
	uint32_t first, n; /* members[first .. first + n), in order */
	struct route_headers *headers; /* NULL: few, or not told apart by headers */
};

struct route_literals {
	uint64_t *bits; /* does any window have this hash? so that nearly all places of a path are done with */
	uint32_t bits_mask;
	bool has_short, has_long; /* windows of 4, of 8 bytes */
	uint32_t *slots; /* number of a bucket + 1 */
	uint32_t mask;
	struct literal_bucket *buckets;
	uint32_t n_buckets;
	uint32_t *members;
};

#define ROUTE_WINDOW_SHORT 4u
#define ROUTE_WINDOW_LONG 8u

/* Bytes that differ in bit 5 alone are one: case, and a few more, which is well for a hash. */
static inline uint64_t route_window_hash(const char *at, bool is_long)
{
	uint64_t long_bytes;
	uint32_t short_bytes;

	if (is_long)
		memcpy(&long_bytes, at, sizeof(long_bytes));
	else
		memcpy(&short_bytes, at, sizeof(short_bytes));
	uint64_t hash = (is_long ? long_bytes | 0x2020202020202020u : (short_bytes | 0x20202020u)) * ROUTE_HASH_SEED;
	return (hash ^ hash >> 29) * ROUTE_HASH_STEP + is_long;
}

static inline uint32_t route_window_bit(uint64_t hash, uint32_t bits_mask)
{
	return (uint32_t)(hash >> 32) & bits_mask;
}

/* Those of routes numbers[0..*n), in order, that are told by a text go into *out; the others stay in numbers. *out NULL: too few. 0 or -ENOMEM. */
int route_literals_build(struct foil_blob *b, const struct mesh_vhost *v, uint32_t *numbers, uint32_t *n, struct route_literals **out);

/* Routes of one virtual host that share path text (without case) and kind, in order: members[first .. first + n). */
struct route_group {
	uint64_t hash;
	uint32_t n_bytes;
	bool is_exact; /* else a prefix of one kind or the other */
	uint32_t first, n;
	struct route_headers *headers; /* NULL: few, or not told apart by headers */
};

struct vhost_index {
	uint32_t *slots; /* open addressing: number of a group + 1, 0 = empty; NULL: no index, all routes are in rest */
	uint32_t mask;
	struct route_group *groups;
	uint32_t *members;
	struct route_lengths prefixes;
	uint32_t exact_max;
	struct route_literals *literals; /* of regular expressions; NULL: few */
	uint32_t *regexes; /* all that are in literals, and rest, in order */
	uint32_t n_regexes;
	uint32_t *rest; /* routes that no text finds, in order */
	uint32_t n_rest;
	struct route_headers *rest_headers;
	uint32_t n_groups;
};

enum domain_kind { DOMAIN_EXACT, DOMAIN_SUFFIX, DOMAIN_PREFIX };
struct domain {
	uint64_t hash; /* suffixes: from the last byte to the first */
	struct foil_slice text; /* without the star */
	enum domain_kind kind;
	uint32_t vhost;
};

#define ROUTE_NO_VHOST UINT32_MAX
struct mesh_route_index {
	uint32_t *slots; /* number of a domain + 1 */
	uint32_t mask;
	struct domain *domains;
	uint32_t n_domains;
	struct route_lengths suffixes, prefixes;
	uint32_t exact_max;
	uint32_t any_vhost; /* of "*" */
	struct vhost_index *vhosts;
};
