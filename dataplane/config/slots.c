/* Numbers for names, see config_priv.h: a table of chains keyed by SipHash (the agent chooses the names), and the numbers' own table. A number is free
 * again when the last resource that uses the name has gone.
 * Invariant: by_number[s->number] == s for every slot in a chain; no number below first_free is free. */
#include "dataplane/config/config_priv.h"

#include <stdlib.h>

#define BUCKETS_MIN 64u

static struct snap_slot **bucket_of(const struct snap_slots *t, uint64_t hash)
{
	return &t->buckets[hash & (t->n_buckets - 1)];
}

static bool grow_buckets(struct snap_slots *t)
{
	uint32_t n = t->n_buckets ? 2 * t->n_buckets : BUCKETS_MIN;
	struct snap_slot **old = t->buckets, **fresh = calloc(n, sizeof(*fresh));
	uint32_t n_old = t->n_buckets;
	if (!fresh)
		return n_old > 0; /* longer chains will do */
	t->buckets = fresh;
	t->n_buckets = n;
	for (uint32_t i = 0; i < n_old; i++)
		for (struct snap_slot *s = old[i], *next; s; s = next) {
			next = s->next;
			struct snap_slot **to = bucket_of(t, s->hash);
			s->next = *to;
			*to = s;
		}
	free(old);
	return true;
}

static bool take_number(struct snap_slots *t, struct snap_slot *s)
{
	uint32_t i = t->first_free;
	while (i < t->n_numbers && t->by_number[i])
		i++;
	if (i == t->cap) {
		uint32_t cap = t->cap ? 2 * t->cap : BUCKETS_MIN;
		struct snap_slot **bigger = realloc(t->by_number, cap * sizeof(struct snap_slot *));
		if (!bigger)
			return false;
		t->by_number = bigger;
		t->cap = cap;
	}
	s->number = i;
	t->by_number[i] = s;
	t->first_free = i + 1;
	if (i == t->n_numbers)
		t->n_numbers++;
	return true;
}

static struct snap_slot *find(const struct snap_slots *t, uint64_t hash, struct foil_slice name)
{
	for (struct snap_slot *s = t->n_buckets ? *bucket_of(t, hash) : NULL; s; s = s->next)
		if (s->hash == hash && foil_slice_eq((struct foil_slice){s->name, s->n_bytes}, name))
			return s;
	return NULL;
}

struct snap_slot *snap_slot_get(struct snap_slots *t, struct foil_slice name)
{
	uint64_t hash = foil_siphash(&t->key, name.data, name.n_bytes);
	struct snap_slot *s = find(t, hash, name);
	if (s) {
		s->n_refs++;
		return s;
	}
	if (t->n >= t->n_buckets && !grow_buckets(t))
		return NULL;
	s = calloc(1, sizeof(*s) + name.n_bytes + 1);
	if (!s || !take_number(t, s)) {
		free(s);
		return NULL;
	}
	s->hash = hash;
	s->n_refs = 1;
	s->n_bytes = name.n_bytes;
	memcpy(s->name, name.data, name.n_bytes);
	struct snap_slot **to = bucket_of(t, hash);
	s->next = *to;
	*to = s;
	t->n++;
	return s;
}

void snap_slot_put(struct snap_slots *t, struct snap_slot *s)
{
	FOIL_ASSERT(s->n_refs > 0);
	if (--s->n_refs > 0)
		return;
	struct snap_slot **at = bucket_of(t, s->hash);
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	t->by_number[s->number] = NULL;
	if (s->number < t->first_free)
		t->first_free = s->number;
	t->n--;
	free(s);
}

void snap_slots_fini(struct snap_slots *t)
{
	for (uint32_t i = 0; i < t->n_numbers; i++)
		free(t->by_number[i]);
	free(t->by_number);
	free(t->buckets);
	*t = (struct snap_slots){0};
}
