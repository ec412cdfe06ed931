/* Arenas and string tables of the control plane; see arena.h. */
#include "ctrl/istio/arena.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#define CHUNK_BYTES (64u << 10)
#define ALIGN 16u

struct arena_chunk {
	struct arena_chunk *next;
	size_t n_used, n_room;
	_Alignas(16) unsigned char bytes[];
};

static struct arena_chunk *chunk_new(struct istio_arena *a, size_t n)
{
	size_t room = n > CHUNK_BYTES ? n : CHUNK_BYTES;

	if (n > a->n_budget || a->n_used > a->n_budget - n)
		longjmp(a->full, 1);
	struct arena_chunk *c = calloc(1, sizeof(*c) + room);
	if (!c)
		longjmp(a->full, 1);
	c->n_room = room;
	if (a->chunks && n > CHUNK_BYTES / 2) { /* a large one: keep the half-used chunk in front */
		c->next = a->chunks->next;
		a->chunks->next = c;
	} else {
		c->next = a->chunks;
		a->chunks = c;
	}
	a->n_used += room;
	return c;
}

void *istio_arena_alloc(struct istio_arena *a, size_t n)
{
	struct arena_chunk *c = a->chunks;

	n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if (!c || c->n_room - c->n_used < n)
		c = chunk_new(a, n);
	void *p = c->bytes + c->n_used;
	c->n_used += n;
	return p;
}

void istio_arena_fini(struct istio_arena *a)
{
	for (struct arena_chunk *c = a->chunks, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	a->chunks = NULL;
	a->n_used = 0;
}

char *istio_arena_copy(struct istio_arena *a, const char *text, size_t n)
{
	char *p = istio_arena_alloc(a, n + 1);

	memcpy(p, text, n);
	return p;
}

char *istio_arena_printf(struct istio_arena *a, const char *fmt, ...)
{
	va_list ap, again;

	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	size_t room = n > 0 ? (size_t)n + 1 : 1;
	char *p = istio_arena_alloc(a, room);
	(void)vsnprintf(p, room, fmt, again); /* it was measured */
	va_end(again);
	return p;
}

char *istio_arena_lower(struct istio_arena *a, const char *text)
{
	char *p = istio_arena_copy(a, text, strlen(text));

	for (char *c = p; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return p;
}

static uint32_t *slot_of(const struct istio_map *m, const char *key, size_t n_key, uint64_t hash)
{
	for (uint32_t i = (uint32_t)hash & (m->n_slots - 1);; i = (i + 1) & (m->n_slots - 1)) {
		const struct map_entry *e = m->slots[i] ? &m->entries[m->slots[i] - 1] : NULL;
		if (!e || (e->hash == hash && strncmp(e->key, key, n_key) == 0 && e->key[n_key] == 0))
			return &m->slots[i];
	}
}

void *istio_map_get_n(const struct istio_map *m, const char *key, size_t n_key)
{
	if (m->n == 0)
		return NULL;
	const uint32_t *slot = slot_of(m, key, n_key, XXH3_64bits(key, n_key));
	return *slot ? m->entries[*slot - 1].value : NULL;
}

void *istio_map_get(const struct istio_map *m, const char *key)
{
	return istio_map_get_n(m, key, strlen(key));
}

static void grow(struct istio_arena *a, struct istio_map *m)
{
	uint32_t room = m->n_room ? m->n_room * 2 : 8;
	struct map_entry *entries = ARENA_ARRAY(a, struct map_entry, room);

	if (m->n)
		memcpy(entries, m->entries, sizeof(*entries) * m->n);
	m->entries = entries;
	m->n_room = room;
	m->n_slots = room * 2;
	m->slots = ARENA_ARRAY(a, uint32_t, m->n_slots);
	for (uint32_t i = 0; i < m->n; i++)
		*slot_of(m, entries[i].key, strlen(entries[i].key), entries[i].hash) = i + 1;
}

void **istio_map_put(struct istio_arena *a, struct istio_map *m, const char *key, bool *is_new)
{
	size_t n_key = strlen(key);
	uint64_t hash = XXH3_64bits(key, n_key);

	if (m->n == m->n_room)
		grow(a, m);
	uint32_t *slot = slot_of(m, key, n_key, hash);
	*is_new = *slot == 0;
	if (*is_new) {
		m->entries[m->n] = (struct map_entry){key, NULL, hash};
		*slot = ++m->n;
	}
	return &m->entries[*slot - 1].value;
}
