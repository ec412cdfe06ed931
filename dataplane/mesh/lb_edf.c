/* The earliest-deadline-first schedule, see lb_priv.h: a binary heap of items by deadline, then by order of adding.
 * Invariant: heap[0..n) is a heap under is_before, a strict total order, so that the sequence of picks depends on nothing but weights,
 * the random start and what steps_of says. */
#include "dataplane/mesh/lb_priv.h"

#define EDF_START_PICKS_MAX 512u /* Envoy picks up to n - 1 times; this many spread workers as well and bound the cost of a build */

__extension__ typedef unsigned __int128 edf_wide;

size_t lb_edf_bytes(uint32_t n_entries)
{
	return sizeof(struct lb_edf) + n_entries * sizeof(struct lb_edf_entry);
}

static bool is_before(const struct lb_edf_entry *a, const struct lb_edf_entry *b)
{
	edf_wide left = (edf_wide)a->steps * b->weight, right = (edf_wide)b->steps * a->weight;

	return left != right ? left < right : a->order < b->order;
}

static void sift_down(struct lb_edf *edf, uint32_t at)
{
	struct lb_edf_entry moving = edf->heap[at];

	for (uint32_t child = 2 * at + 1; child < edf->n; child = 2 * at + 1) {
		if (child + 1 < edf->n && is_before(&edf->heap[child + 1], &edf->heap[child]))
			child++;
		if (!is_before(&edf->heap[child], &moving))
			break;
		edf->heap[at] = edf->heap[child];
		at = child;
	}
	edf->heap[at] = moving;
}

void lb_edf_clear(struct lb_edf *edf)
{
	edf->n = 0;
	edf->next_order = 0;
}

void lb_edf_add(struct foil_worker *w, const struct mesh_host_set *set, struct lb_edf *edf, uint32_t item, uint32_t weight, lb_steps_fn steps_of)
{
	FOIL_ASSERT(weight > 0);
	edf->heap[edf->n++] = (struct lb_edf_entry){.steps = steps_of(w, set, item), .order = edf->next_order++, .weight = weight, .item = item};
}

void lb_edf_start(struct foil_worker *w, const struct mesh_host_set *set, struct lb_edf *edf, lb_steps_fn steps_of)
{
	for (uint32_t i = edf->n / 2; i-- > 0;)
		sift_down(edf, i);
	for (uint32_t picks = edf->n ? foil_prng_below(&w->prng, FOIL_MIN(edf->n, EDF_START_PICKS_MAX)) : 0; picks > 0; picks--)
		(void)lb_edf_pick(w, set, edf, steps_of);
}

void lb_edf_build(struct foil_worker *w, const struct mesh_host_set *set, const struct lb_group *g, struct lb_edf *edf, lb_steps_fn steps_of)
{
	lb_edf_clear(edf);
	for (uint32_t i = 0; i < g->n_usable; i++)
		lb_edf_add(w, set, edf, g->usable[i], set->endpoints[g->usable[i]].weight, steps_of);
	lb_edf_start(w, set, edf, steps_of);
}

uint32_t lb_edf_pick(struct foil_worker *w, const struct mesh_host_set *set, struct lb_edf *edf, lb_steps_fn steps_of)
{
	struct lb_edf_entry *first = &edf->heap[0];
	uint32_t item = first->item;

	first->steps += steps_of(w, set, item);
	first->order = edf->next_order++;
	sift_down(edf, 0);
	return item;
}
