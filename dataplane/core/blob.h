/* Setup memory: a growing bump allocator over malloc for things that are built once and die together (a decoded resource, an index).
 * Never for the fast path. Budgeted: an allocation beyond max_bytes fails as exhausted memory does. */
#pragma once

#include "dataplane/core/base.h"

struct foil_blob_block;
struct foil_blob {
	struct foil_blob_block *blocks;
	uint8_t *at, *end;
	size_t n_bytes, max_bytes; /* max_bytes 0 = no limit; may be set before the first allocation */
};

/* Zeroed, aligned to 16. NULL when memory or the budget is spent. */
void *foil_blob_alloc(struct foil_blob *b, size_t n_bytes) FOIL_MUST_USE;
/* n * bytes_each, overflow-checked; n == 0 gives a valid pointer to nothing. */
void *foil_blob_array(struct foil_blob *b, size_t n, size_t bytes_each) FOIL_MUST_USE;
/* A copy that is also NUL-terminated. {NULL, 0} when exhausted. */
struct foil_slice foil_blob_copy(struct foil_blob *b, const void *data, size_t n_bytes) FOIL_MUST_USE;
void foil_blob_free(struct foil_blob *b); /* frees all; zeroed afterwards */
