/* Request scratch memory: a bump allocator over fixed chunks from the worker's chunk pool. Everything in it dies together.
 *
 * An arena is born empty (zeroed memory is an empty arena) and takes its first chunk at its first allocation, so that a
 * connection at rest owns none. A request for more than a chunk holds takes one chunk from the worker's large pool
 * (FOIL_LARGE_CHUNK_BYTES), which is how a header block of up to 60 KiB becomes contiguous. NULL means that the pool is
 * empty or the budget is spent: refuse the request and count it, nothing else breaks. */
#pragma once

#include "dataplane/core/base.h"

struct foil_worker;
struct foil_arena_chunk;

#define FOIL_CHUNK_BYTES 4096u
#define FOIL_LARGE_CHUNK_BYTES (72u * 1024u)

struct foil_arena {
	struct foil_arena_chunk *chunks; /* newest first */
	uint8_t *at, *end;
	uint32_t n_bytes; /* taken from the pools so far; FOIL_ARENA_BYTES_MAX at most */
};

#define FOIL_ARENA_BYTES_MAX (512u * 1024u)

/* What foil_arena_alloc does when the newest chunk has not the room. */
void *foil_arena_alloc_grow(struct foil_worker *w, struct foil_arena *a, size_t n_bytes) FOIL_MUST_USE;

/* Aligned to 16, not zeroed. NULL when exhausted. */
static inline FOIL_MUST_USE void *foil_arena_alloc(struct foil_worker *w, struct foil_arena *a, size_t n_bytes)
{
	uint8_t *p = a->at;

	if (FOIL_UNLIKELY(n_bytes - 1 >= (size_t)(a->end - p))) /* 0 is slow, too; a chunk's room is a multiple of 16 */
		return foil_arena_alloc_grow(w, a, n_bytes);
	a->at = p + ((n_bytes + 15) & ~(size_t)15);
	return p;
}

void *foil_arena_zalloc(struct foil_worker *w, struct foil_arena *a, size_t n_bytes) FOIL_MUST_USE;
/* A copy of s; {NULL, 0} when exhausted and s is not empty. */
static inline FOIL_MUST_USE struct foil_slice foil_arena_copy(struct foil_worker *w, struct foil_arena *a, struct foil_slice s)
{
	if (s.n_bytes == 0)
		return (struct foil_slice){"", 0};
	char *p = (char *)foil_arena_alloc(w, a, s.n_bytes);
	if (FOIL_UNLIKELY(!p))
		return (struct foil_slice){NULL, 0};
	foil_copy(p, s.data, s.n_bytes);
	return (struct foil_slice){p, s.n_bytes};
}

/* printf into the arena, at most 4000 bytes; {NULL, 0} when exhausted. Not for hot paths. */
struct foil_slice foil_arena_printf(struct foil_worker *w, struct foil_arena *a, const char *fmt, ...)
	FOIL_MUST_USE __attribute__((format(printf, 3, 4)));
/* Give all chunks back; the arena is empty and usable again. */
void foil_arena_reset(struct foil_worker *w, struct foil_arena *a);
