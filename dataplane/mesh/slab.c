/* Blocks of one size for the mesh's objects: reserved at init, touched when they are first used, so that a generous limit costs address space
 * only. Not for threads: a slab belongs to one worker. Invariant: n_fresh <= n_max, and every block is either live or in the chain of free ones. */
#include "dataplane/mesh/runtime.h"

#include <errno.h>
#include <stdlib.h>

int mesh_slab_init(struct mesh_slab *s, uint32_t bytes_each, uint32_t n_max)
{
	*s = (struct mesh_slab){.bytes_each = (bytes_each + 63u) & ~63u, .n_max = n_max};
	s->base = calloc(n_max, s->bytes_each);
	return s->base ? 0 : -ENOMEM;
}

void mesh_slab_fini(struct mesh_slab *s)
{
	free(s->base);
	*s = (struct mesh_slab){0};
}

void *mesh_slab_take(struct mesh_slab *s)
{
	void *block = s->free;

	if (block)
		memcpy(&s->free, block, sizeof(void *));
	else if (s->n_fresh < s->n_max)
		block = s->base + (size_t)s->n_fresh++ * s->bytes_each;
	else
		return NULL;
	s->n_live++;
	memset(block, 0, s->bytes_each);
	return block;
}

void mesh_slab_give(struct mesh_slab *s, void *block)
{
	FOIL_ASSERT(s->n_live > 0);
	s->n_live--;
#ifdef FOIL_CHECKS
	memset(block, 0xdb, s->bytes_each);
#endif
	memcpy(block, &s->free, sizeof(void *));
	s->free = block;
}
