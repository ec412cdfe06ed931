/* The reader of metrics segments against a hostile data plane: whatever the bytes, it refuses with a sentence or ends its scan, and never reads outside.
 * The first byte chooses: even, the rest is a segment as it is; odd, the rest is a list of changes (offset, value) to a good one. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/telemetry/reader.h"

#define SEGMENT_BYTES 16384u
#define INPUT_BYTES_MAX 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void put_text(uint8_t **to, const char *text)
{
	uint16_t n = (uint16_t)strlen(text);
	memcpy(*to, &n, 2);
	memcpy(*to + 2, text, n);
	*to += 2 + n;
}

/* One worker, two cells, a family with names, a histogram and one whose series carry their names; two records of each. */
static void good_segment(uint8_t *s)
{
	static const char strings[] = "foil_a_totalfoil_bhelpreasonoldx_totalx_histlabel";
	struct tele_segment_header h = {.magic = TELE_SEGMENT_MAGIC, .abi = TELE_SEGMENT_ABI, .header_bytes = sizeof(h), .total_bytes = SEGMENT_BYTES,
					.generation = 1, .n_slots = 2, .n_workers = 1, .n_entries = 2, .n_families = 2, .directory_offset = 512,
					.families_offset = 640, .strings_offset = 8192 - 1024, .n_string_bytes = sizeof(strings) - 1, .n_fixed_cells = 8,
					.fixed_offset = 8192, .fixed_stride_bytes = 64, .regions_offset = 8192 + 128, .region_stride_bytes = 4096};
	struct tele_segment_entry entries[2] = {{.name = {0, 12}, .help = {18, 4}, .label_name = {22, 6}, .label_value = {28, 3}},
						{.name = {12, 6}, .kind = TELE_SEGMENT_GAUGE, .cell = 1}};
	struct tele_segment_family families[2] = {
		{.class_index = 0, .n_metrics = 2, .n_labels = 1, .label_names = {{44, 5}},
		 .metrics = {{.name = {31, 7}, .kind = TELE_SEGMENT_COUNTER},
			     {.name = {38, 6}, .kind = TELE_SEGMENT_HISTOGRAM, .cell = 1, .n_buckets = 2, .sum_scale = 1, .bounds = {1, 2}}}},
		{.class_index = 1}};
	h.classes[0] = (struct tele_segment_class){.n_records = 2, .n_cells = 8, .text_bytes = 64, .record_bytes = 192, .offset = 64};
	h.classes[1] = (struct tele_segment_class){.n_records = 2, .n_cells = 8, .text_bytes = 64, .record_bytes = 192, .offset = 448};
	h.classes[2] = (struct tele_segment_class){.record_bytes = 64, .offset = 832};
	memset(s, 0, SEGMENT_BYTES);
	memcpy(s, &h, sizeof(h));
	memcpy(s + h.directory_offset, entries, sizeof(entries));
	memcpy(s + h.families_offset, families, sizeof(families));
	memcpy(s + h.strings_offset, strings, sizeof(strings) - 1);
	uint8_t *region = s + h.regions_offset;
	*(struct tele_segment_region_head *)(void *)region = (struct tele_segment_region_head){.n_used = {2, 2, 0}};
	for (uint32_t c = 0; c < 2; c++) {
		struct tele_segment_series *r = (struct tele_segment_series *)(void *)(region + h.classes[c].offset);
		uint8_t *text = (uint8_t *)(r + 1) + 64, *from = text;
		*r = (struct tele_segment_series){.seq = 2, .state = TELE_SEGMENT_LIVE, .family = c, .n_labels = 1};
		if (c == 1) {
			put_text(&text, "own_total");
			put_text(&text, "cluster");
		}
		put_text(&text, "value");
		r->text_bytes = (uint32_t)(text - from);
	}
}

static void each(void *arg, const struct tele_sample *s)
{
	volatile uint64_t *touched = arg;
	for (uint32_t i = 0; i < s->name.n_bytes; i++)
		*touched += (unsigned char)s->name.data[i];
	for (uint32_t i = 0; i < s->n_labels; i++)
		for (uint32_t k = 0; k < s->labels[i].value.n_bytes; k++)
			*touched += (unsigned char)s->labels[i].value.data[k];
	for (uint32_t i = 0; s->kind == TELE_SEGMENT_HISTOGRAM && i <= s->n_buckets; i++)
		*touched += s->counts[i];
}

static void read_segment(const void *data, size_t n_bytes)
{
	struct foil_error err;
	struct tele_reader_stats stats;
	volatile uint64_t touched = 0;
	struct tele_reader *r = tele_reader_new_memory(data, n_bytes, &err);
	if (!r)
		return;
	if (tele_reader_scan(r, each, (void *)(uintptr_t)&touched, &stats) < 0)
		abort(); /* memory enough for so small a segment */
	tele_reader_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	if (n_bytes == 0 || n_bytes > INPUT_BYTES_MAX)
		return 0;
	size_t n = data[0] & 1 ? SEGMENT_BYTES : n_bytes - 1;
	uint8_t *segment = aligned_alloc(8, (n + 8) & ~(size_t)7);
	if (!segment)
		return 0;
	if (data[0] & 1) {
		good_segment(segment);
		for (size_t i = 1; i + 3 <= n_bytes; i += 3)
			segment[(data[i] | data[i + 1] << 8) % SEGMENT_BYTES] = data[i + 2];
	} else {
		memcpy(segment, data + 1, n);
	}
	read_segment(segment, n);
	free(segment);
	return 0;
}
