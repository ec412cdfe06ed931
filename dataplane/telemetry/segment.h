/* The metrics segment: its layout, the contract between hydrofoil and readers in other processes (foil-agent, foilctl, scripts). ABI changes
 * change TELE_SEGMENT_ABI. All numbers are in the machine's byte order; all offsets count from the start of the segment and are multiples of 8.
 *
 *   header      struct tele_segment_header
 *   directory   n_entries struct tele_segment_entry: the fixed cells (rooms' counters and reasons), ordered so that one metric's entries meet
 *   families    n_families struct tele_segment_family: what a series of that family consists of, with names, labels and buckets
 *   strings     n_string_bytes: every name and help that the two above point into, not terminated
 *   fixed       n_slots arrays of fixed_stride_bytes: a worker's uint64_t cells (the last slot is housekeeping's). Counters only grow, gauges
 *               are two's complement; a reader sums over slots
 *   regions     n_workers regions of region_stride_bytes, each a head and TELE_SEGMENT_CLASSES arrays of series records as classes[] says
 *
 * Everything up to "fixed" is written before anyone gets the descriptor and never changes. Cells change at any time by aligned 8-byte stores of
 * their one writer. A series record is a small seqlock: its writer makes seq odd, rewrites everything, makes it even. A reader copies the record
 * and takes it only if seq was even before and the same after; cells may move on meanwhile, labels cannot. Class c of a slot has used records only
 * below tele_segment_region_head.n_used[c]; one that is free again has state TELE_SEGMENT_FREE. */
#pragma once

#include <assert.h>
#include <stdint.h>

#define TELE_SEGMENT_MAGIC 0x31544154534c4946ull /* "FILSTAT1" */
#define TELE_SEGMENT_ABI 1u
#define TELE_SEGMENT_BYTES_MAX (4ull << 30)
#define TELE_SEGMENT_SLOTS_MAX 1024u
#define TELE_SEGMENT_ENTRIES_MAX 65536u
#define TELE_SEGMENT_FAMILIES_MAX 64u
#define TELE_SEGMENT_STRING_BYTES_MAX (4u << 20)
#define TELE_SEGMENT_METRICS_MAX 8u  /* of a family */
#define TELE_SEGMENT_LABELS_MAX 32u  /* of a series */
#define TELE_SEGMENT_BUCKETS_MAX 32u /* of a histogram, without +Inf */
#define TELE_SEGMENT_CLASSES 3u

enum tele_segment_kind { TELE_SEGMENT_COUNTER = 0, TELE_SEGMENT_GAUGE = 1, TELE_SEGMENT_HISTOGRAM = 2 };

struct tele_segment_string {
	uint32_t offset, n_bytes; /* into strings */
};

/* A class of series records: all of one size. */
struct tele_segment_class {
	uint32_t n_records, record_bytes; /* multiples of 64 */
	uint32_t n_cells;                 /* of a record: right behind its head */
	uint32_t text_bytes;              /* of a record: right behind its cells */
	uint64_t offset;                  /* of the first record, in its region */
};

struct tele_segment_header {
	uint64_t magic;
	uint32_t abi, header_bytes;
	uint64_t total_bytes;
	uint64_t generation; /* differs from process to process */
	uint32_t n_slots, n_workers;
	uint32_t n_entries, n_families;
	uint64_t directory_offset, families_offset, strings_offset;
	uint32_t n_string_bytes, n_fixed_cells;
	uint64_t fixed_offset, fixed_stride_bytes;
	uint64_t regions_offset, region_stride_bytes;
	struct tele_segment_class classes[TELE_SEGMENT_CLASSES];
};

struct tele_segment_entry {
	struct tele_segment_string name, help, label_name, label_value; /* label_name empty: none */
	uint32_t kind, cell;                                             /* cell < n_fixed_cells */
};

/* One metric of a family: a counter or gauge is one cell; a histogram one cell with the sum, to be multiplied by sum_scale, then n_buckets + 1 cells
 * of counts (not cumulative; the last is above every bound). */
struct tele_segment_metric {
	struct tele_segment_string name, help;
	uint32_t kind, cell; /* the first, in the record */
	uint32_t n_buckets;
	uint32_t is_sparse; /* a series that counted none of it is not told of */
	double sum_scale;
	double bounds[TELE_SEGMENT_BUCKETS_MAX]; /* upper, inclusive */
};

/* n_metrics 0: every series of the family carries its own metric's name and label names (tele_cell); then text is the name, then name and value of
 * each label. Else text is the values of label_names in order. Each piece of text is a uint16_t length and the bytes, not aligned. */
struct tele_segment_family {
	uint32_t class_index, n_metrics, n_labels, reserved;
	struct tele_segment_string label_names[TELE_SEGMENT_LABELS_MAX];
	struct tele_segment_metric metrics[TELE_SEGMENT_METRICS_MAX];
};

struct tele_segment_region_head {
	uint32_t n_used[TELE_SEGMENT_CLASSES]; /* only grows */
	uint32_t reserved[16 - TELE_SEGMENT_CLASSES];
};

enum { TELE_SEGMENT_FREE = 0, TELE_SEGMENT_LIVE = 1 };

struct tele_segment_series {
	uint64_t seq;
	uint32_t state, family;
	uint32_t n_labels, text_bytes; /* used */
	uint32_t kind;                 /* of a family without metrics: counter or gauge */
	uint32_t reserved;
	uint64_t used_us;              /* when it last moved, roughly, on the workers' clock */
	uint64_t hash;                 /* of family and text, keyed: the same in all slots */
	uint64_t pad[2];
};

static_assert(sizeof(struct tele_segment_series) == 64, "cells begin at a cache line");
static_assert(sizeof(struct tele_segment_region_head) == 64, "records begin at a cache line");
static_assert(sizeof(struct tele_segment_header) % 8 == 0, "everything is aligned to 8");
