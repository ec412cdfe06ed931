/* Latency histogram: log-linear, LOAD_HIST_SUB steps an octave, so that a figure is within 1/128 of what was recorded, from 1 ns to
 * more than a minute. Adding is a shift and an add. */
#pragma once

#include "dataplane/core/base.h"

#define LOAD_HIST_SUB_BITS 7u
#define LOAD_HIST_SUB (1u << LOAD_HIST_SUB_BITS)
#define LOAD_HIST_OCTAVES 30u /* 128 ns .. 137 s */
#define LOAD_HIST_BUCKETS ((LOAD_HIST_OCTAVES + 1) * LOAD_HIST_SUB)

struct load_hist {
	uint64_t n, sum_ns, min_ns, max_ns;
	uint64_t bucket[LOAD_HIST_BUCKETS];
};

static inline uint32_t load_hist_index(uint64_t ns)
{
	if (ns < LOAD_HIST_SUB)
		return (uint32_t)ns;
	uint32_t octave = 63u - (uint32_t)__builtin_clzll(ns) - LOAD_HIST_SUB_BITS;
	if (octave >= LOAD_HIST_OCTAVES)
		return LOAD_HIST_BUCKETS - 1;
	return (octave + 1) * LOAD_HIST_SUB + (uint32_t)(ns >> octave & (LOAD_HIST_SUB - 1));
}

static inline void load_hist_add(struct load_hist *h, uint64_t ns)
{
	h->bucket[load_hist_index(ns)]++;
	h->sum_ns += ns;
	if (h->n++ == 0 || ns < h->min_ns)
		h->min_ns = ns;
	if (ns > h->max_ns)
		h->max_ns = ns;
}

/* The least figure that at least share (0..1) of all are at or below, by the upper edge of its bucket and never beyond the greatest. 0: empty. */
uint64_t load_hist_at(const struct load_hist *h, double share);
