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

/* Aligned to 16, not zeroed. NULL when exhausted. */
void *foil_arena_alloc(struct foil_worker *w, struct foil_arena *a, size_t n_bytes) FOIL_MUST_USE;
void *foil_arena_zalloc(struct foil_worker *w, struct foil_arena *a, size_t n_bytes) FOIL_MUST_USE;
/* A copy of s; {NULL, 0} when exhausted and s is not empty. */
struct foil_slice foil_arena_copy(struct foil_worker *w, struct foil_arena *a, struct foil_slice s) FOIL_MUST_USE;
/* printf into the arena, at most 4000 bytes; {NULL, 0} when exhausted. Not for hot paths. */
struct foil_slice foil_arena_printf(struct foil_worker *w, struct foil_arena *a, const char *fmt, ...)
	FOIL_MUST_USE __attribute__((format(printf, 3, 4)));
/* Give all chunks back; the arena is empty and usable again. */
void foil_arena_reset(struct foil_worker *w, struct foil_arena *a);
