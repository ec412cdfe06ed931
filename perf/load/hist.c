/* Reading a histogram (hist.h). */
#include "perf/load/hist.h"

#include <math.h>

static uint64_t upper_ns(uint32_t index)
{
	uint32_t octave = index / LOAD_HIST_SUB;

	if (octave == 0)
		return index;
	return ((uint64_t)(LOAD_HIST_SUB + index % LOAD_HIST_SUB + 1) << (octave - 1)) - 1;
}

uint64_t load_hist_at(const struct load_hist *h, double share)
{
	uint64_t want = (uint64_t)ceil(share * (double)h->n), seen = 0;

	if (h->n == 0)
		return 0;
	want = FOIL_MAX(want, (uint64_t)1);
	for (uint32_t i = 0; i < LOAD_HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= want)
			return i == LOAD_HIST_BUCKETS - 1 ? h->max_ns : FOIL_MIN(upper_ns(i), h->max_ns);
	}
	return h->max_ns;
}
