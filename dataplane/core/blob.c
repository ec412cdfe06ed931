/* Setup memory, see blob.h. Blocks grow from 1 KiB to 16 KiB with the blob (a snapshot has a blob a resource), or are
 * as large as the one allocation that asked for more.
 * Invariant: at..end is the unused tail of blocks (the newest), and n_bytes is the sum of all blocks' sizes. */
#include "dataplane/core/blob.h"

#include <stdlib.h>

#define BLOCK_BYTES_MIN 1024u
#define BLOCK_BYTES_MAX (16u * 1024u)

struct foil_blob_block {
	struct foil_blob_block *next;
	size_t n_bytes;
};

static bool grow(struct foil_blob *b, size_t need)
{
	size_t usual = FOIL_MIN(FOIL_MAX(b->n_bytes, BLOCK_BYTES_MIN), BLOCK_BYTES_MAX);
	size_t n = sizeof(struct foil_blob_block) + FOIL_MAX(need, usual);
	if (b->max_bytes && (n > b->max_bytes || b->n_bytes > b->max_bytes - n))
		return false;
	struct foil_blob_block *block = calloc(1, n);
	if (!block)
		return false;
	*block = (struct foil_blob_block){.next = b->blocks, .n_bytes = n};
	b->blocks = block;
	b->n_bytes += n;
	b->at = (uint8_t *)(block + 1);
	b->end = (uint8_t *)block + n;
	return true;
}

void *foil_blob_alloc(struct foil_blob *b, size_t n_bytes)
{
	if (n_bytes > SIZE_MAX / 2)
		return NULL;
	size_t need = (n_bytes + 15) & ~(size_t)15;
	if ((size_t)(b->end - b->at) < need && !grow(b, need))
		return NULL;
	void *p = b->at;
	b->at += need;
	return p;
}

void *foil_blob_array(struct foil_blob *b, size_t n, size_t bytes_each)
{
	size_t total;
	if (__builtin_mul_overflow(n, bytes_each, &total))
		return NULL;
	return foil_blob_alloc(b, total ? total : 1);
}

struct foil_slice foil_blob_copy(struct foil_blob *b, const void *data, size_t n_bytes)
{
	char *p = foil_blob_alloc(b, n_bytes + 1);
	if (!p || n_bytes > UINT32_MAX)
		return (struct foil_slice){NULL, 0};
	if (n_bytes)
		memcpy(p, data, n_bytes);
	return foil_slice_of(p, n_bytes);
}

void foil_blob_free(struct foil_blob *b)
{
	while (b->blocks) {
		struct foil_blob_block *next = b->blocks->next;
		free(b->blocks);
		b->blocks = next;
	}
	*b = (struct foil_blob){.max_bytes = b->max_bytes};
}
