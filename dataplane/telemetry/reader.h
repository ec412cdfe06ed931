/* Reads a metrics segment (segment.h) of another process: maps it read-only, takes nothing in it on trust, and adds up the slots.
 *
 * The other side may be hostile or half-way through a write: every count, offset and length is checked against the mapping before use, texts are
 * copied before they are looked at, and loops are bounded by what fits into the segment. What does not pass is left out and counted.
 * For programs at their leisure: memory comes from the heap. Context: one thread a reader. */
#pragma once

#include "dataplane/core/error.h"
#include "dataplane/telemetry/segment.h"

#include "dataplane/core/base.h"

struct tele_reader;

/* Maps fd, which stays the caller's. NULL with a sentence: not a segment, another ABI, sizes that do not fit, a file that could shrink under us. */
struct tele_reader *tele_reader_new(int fd, struct foil_error *err) FOIL_MUST_USE;
/* The same over memory of the caller's, for tests and fuzzing. data is aligned to 8 and outlives the reader. */
struct tele_reader *tele_reader_new_memory(const void *data, size_t n_bytes, struct foil_error *err) FOIL_MUST_USE;
void tele_reader_free(struct tele_reader *own_r); /* NULL-safe */
/* The process that it came from: differs after a restart. */
uint64_t tele_reader_generation(const struct tele_reader *r);

struct tele_pair {
	struct foil_slice name, value;
};

/* One metric with its labels, summed over all slots. Names are valid Prometheus names; values are any bytes. Borrowed for the call. */
struct tele_sample {
	struct foil_slice name, help; /* help may be empty */
	enum tele_segment_kind kind;
	const struct tele_pair *labels;
	uint32_t n_labels;
	uint64_t value;               /* a counter's; a gauge's as int64_t */
	/* a histogram */
	uint32_t n_buckets;
	const double *bounds;         /* n_buckets, rising */
	const uint64_t *counts;       /* n_buckets + 1, not cumulative */
	double sum;
};
typedef void (*tele_sample_fn)(void *arg, const struct tele_sample *s);

struct tele_reader_stats {
	uint32_t n_samples;
	uint32_t n_torn;    /* records that their writer was busy with at every try: left out this time */
	uint32_t n_invalid; /* entries or records that break the layout's rules: left out */
};

/* Calls each for every sample, all samples of one name together and of one kind. 0 or -ENOMEM. Effects on the other side: none. */
int tele_reader_scan(struct tele_reader *r, tele_sample_fn each, void *arg, struct tele_reader_stats *stats) FOIL_MUST_USE;

/* Every fixed cell by slot: by_slot[0 .. n_slots), workers first, then housekeeping's. Of the sample, name, help, kind, labels and the sum are set. */
typedef void (*tele_cells_fn)(void *arg, const struct tele_sample *s, const uint64_t *by_slot, uint32_t n_slots);
void tele_reader_cells(const struct tele_reader *r, tele_cells_fn each, void *arg);
uint32_t tele_reader_workers(const struct tele_reader *r);

/* Connects to a data plane's stats_socket and returns the segment's descriptor (close it), or -errno with a sentence. Waits at most timeout_ms. */
int tele_handover_connect(const char *path, int timeout_ms, struct foil_error *err) FOIL_MUST_USE;
