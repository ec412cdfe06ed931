/* Bump allocation over pool chunks. A chunk starts with its link and says which pool it goes back to.
 * Invariant: at and end point into chunks (the newest), or all three are NULL. */
#include "dataplane/core/arena.h"

#include <stdarg.h>
#include <stdio.h>

#include "dataplane/core/worker.h"

struct foil_arena_chunk {
	struct foil_arena_chunk *next;
	bool is_large;
} __attribute__((aligned(16)));

static bool arena_grow(struct foil_worker *w, struct foil_arena *a, size_t n_bytes)
{
	bool is_large = n_bytes > FOIL_CHUNK_BYTES - sizeof(struct foil_arena_chunk);
	uint32_t chunk_bytes = is_large ? FOIL_LARGE_CHUNK_BYTES : FOIL_CHUNK_BYTES;
	void *mem;

	if (n_bytes > FOIL_LARGE_CHUNK_BYTES - sizeof(struct foil_arena_chunk) || a->n_bytes + chunk_bytes > FOIL_ARENA_BYTES_MAX ||
	    rte_mempool_get(is_large ? w->large_chunk_pool : w->chunk_pool, &mem) != 0) {
		foil_count(w, CORE, ARENA_EXHAUSTED, 1);
		return false;
	}
	struct foil_arena_chunk *c = mem;
	c->is_large = is_large;
	c->next = a->chunks;
	a->chunks = c;
	a->at = (uint8_t *)(c + 1);
	a->end = (uint8_t *)c + chunk_bytes;
	a->n_bytes += chunk_bytes;
	foil_count(w, CORE, CHUNKS_IN_USE, 1);
	return true;
}

void *foil_arena_alloc_grow(struct foil_worker *w, struct foil_arena *a, size_t n_bytes)
{
	if (FOIL_UNLIKELY(n_bytes - 1 >= FOIL_LARGE_CHUNK_BYTES)) { /* nothing asked, or more than any chunk holds */
		if (n_bytes) {
			foil_count(w, CORE, ARENA_EXHAUSTED, 1);
			return NULL;
		}
		n_bytes = 1; /* a place of its own, so that NULL always means exhausted */
	}
	n_bytes = (n_bytes + 15) & ~(size_t)15;
	if (FOIL_UNLIKELY((size_t)(a->end - a->at) < n_bytes) && !arena_grow(w, a, n_bytes))
		return NULL;
	void *p = a->at;
	a->at += n_bytes;
	return p;
}

void *foil_arena_zalloc(struct foil_worker *w, struct foil_arena *a, size_t n_bytes)
{
	void *p = foil_arena_alloc(w, a, n_bytes);

	if (p)
		memset(p, 0, n_bytes);
	return p;
}

struct foil_slice foil_arena_printf(struct foil_worker *w, struct foil_arena *a, const char *fmt, ...)
{
	char text[4000];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		return (struct foil_slice){NULL, 0};
	return foil_arena_copy(w, a, foil_slice_of(text, FOIL_MIN((size_t)n, sizeof(text) - 1)));
}

void foil_arena_reset(struct foil_worker *w, struct foil_arena *a)
{
	struct foil_arena_chunk *c = a->chunks;

	while (c) {
		struct foil_arena_chunk *next = c->next;
		rte_mempool_put(c->is_large ? w->large_chunk_pool : w->chunk_pool, c);
		foil_count(w, CORE, CHUNKS_IN_USE, -1);
		c = next;
	}
	*a = (struct foil_arena){0};
}
