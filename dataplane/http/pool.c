/* Pools of equal blocks: one anonymous mapping each, sized at http_init, whose pages the kernel provides when they are first used, so
 * that a table for many connections costs nothing until they come.
 * Invariant: n_used blocks are out; every other block below n_fresh is on the free list, linked through its first word. */
#include <errno.h>
#include <sys/mman.h>

#include "dataplane/http/http_priv.h"

static size_t mapping_bytes(const struct http_pool *p)
{
	return (size_t)p->n_max * p->block_bytes;
}

int http_pool_init(struct http_pool *p, uint32_t n_max, size_t block_bytes)
{
	*p = (struct http_pool){.block_bytes = (uint32_t)((block_bytes + 63) & ~(size_t)63), .n_max = n_max};
	void *base = mmap(NULL, mapping_bytes(p), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -ENOMEM;
	p->base = base;
	return 0;
}

void http_pool_fini(struct http_pool *p)
{
	if (p->base)
		(void)munmap(p->base, mapping_bytes(p)); /* cannot fail for what mmap gave */
	*p = (struct http_pool){0};
}

/* Blocks begin at multiples of 64 bytes and are named by them: no division. */
static void *block_at(const struct http_pool *p, uint32_t line)
{
	return &p->base[(size_t)line * 64u];
}

void *http_pool_get(struct http_pool *p)
{
	void *block;

	if (p->free_head) {
		block = block_at(p, p->free_head - 1);
		memcpy(&p->free_head, block, sizeof(p->free_head));
	} else if (p->n_fresh < p->n_max) {
		block = &p->base[(size_t)p->n_fresh++ * p->block_bytes];
	} else {
		return NULL;
	}
	p->n_used++;
	for (uint32_t at = 0, n = p->block_bytes; at < n; at += 64u) /* of a length that the compiler knows: two stores */
		memset((uint8_t *)block + at, 0, 64u);
	return block;
}

void http_pool_put(struct http_pool *p, void *block)
{
	uint32_t line = (uint32_t)((size_t)((const uint8_t *)block - p->base) / 64u);

	FOIL_ASSERT(p->n_used > 0);
#ifdef FOIL_CHECKS
	memset(block, 0x5a, p->block_bytes); /* poison: a dangling user of the block shows at once */
#endif
	memcpy(block, &p->free_head, sizeof(p->free_head));
	p->free_head = line + 1;
	p->n_used--;
}
