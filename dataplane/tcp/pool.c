/* Pools of equal blocks: one anonymous mapping each, sized at tcp_init, whose pages the kernel provides when they are first
 * used. So that a table for a million connections costs nothing until they come. Not a mempool: one worker, no cache, LIFO
 * (the block freed last is the one still in cache).
 * Invariant: n_used blocks are out; every other block below n_fresh is on the free list, linked through its first word. */
#include <errno.h>
#include <sys/mman.h>

#include "dataplane/tcp/tcp_priv.h"

static size_t mapping_bytes(const struct tcp_pool *p)
{
	size_t n_bytes = (size_t)p->n_max * p->block_bytes;

	return (n_bytes + TCP_HUGE_PAGE_BYTES - 1) & ~(size_t)(TCP_HUGE_PAGE_BYTES - 1);
}

int tcp_pool_init(struct tcp_pool *p, uint32_t n_max, size_t block_bytes)
{
	size_t unit = block_bytes < 64 ? 4 : 64; /* small blocks lie tight, of the others each begins a cache line */

	*p = (struct tcp_pool){.block_bytes = (uint32_t)((block_bytes + unit - 1) & ~(unit - 1)), .n_max = n_max};
	void *base = mmap(NULL, mapping_bytes(p), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -ENOMEM;
	if (mapping_bytes(p) >= 8 * (size_t)TCP_HUGE_PAGE_BYTES) /* smaller pools do not fill one: it would only cost its zeroing */
		(void)madvise(base, mapping_bytes(p), MADV_HUGEPAGE); /* a kernel without them serves small pages */
	p->base = base;
	return 0;
}

void tcp_pool_fini(struct tcp_pool *p)
{
	if (p->base)
		(void)munmap(p->base, mapping_bytes(p)); /* cannot fail for what mmap gave */
	*p = (struct tcp_pool){0};
}

void *tcp_pool_at(const struct tcp_pool *p, uint32_t index)
{
	return p->base + (size_t)index * p->block_bytes;
}

uint32_t tcp_pool_index(const struct tcp_pool *p, const void *block)
{
	return (uint32_t)((size_t)((const uint8_t *)block - p->base) / p->block_bytes);
}

/* Made to seem empty by a scenario's chance or a test's count. */
static bool tcp_pool_fails(struct tcp_pool *p)
{
#ifdef FOIL_CHECKS
	if (p->fail_nth && --p->fail_nth == 0)
		return true;
	if (p->w && FOIL_SIM_FAULT(p->w)) {
		FOIL_PROBE(p->w, TCP, POOL_FAULT);
		return true;
	}
#endif
	return false;
}

void *tcp_pool_get(struct tcp_pool *p)
{
	void *block;

	if (tcp_pool_fails(p))
		return NULL;
	if (p->free_head) {
		block = tcp_pool_at(p, p->free_head - 1);
		memcpy(&p->free_head, block, sizeof(p->free_head));
	} else if (p->n_fresh < p->n_max) {
		block = tcp_pool_at(p, p->n_fresh++);
	} else {
		return NULL;
	}
	p->n_used++;
	memset(block, 0, p->block_bytes);
	return block;
}

void tcp_pool_put(struct tcp_pool *p, void *block)
{
	FOIL_ASSERT(p->n_used > 0);
#ifdef FOIL_CHECKS
	memset(block, 0x5a, p->block_bytes); /* poison: a dangling user of the block shows at once */
#endif
	memcpy(block, &p->free_head, sizeof(p->free_head));
	p->free_head = tcp_pool_index(p, block) + 1;
	p->n_used--;
}
