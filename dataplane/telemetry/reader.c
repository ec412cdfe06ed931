/* Reads a metrics segment that another process writes (segment.h, reader.h).
 *
 * What never changes (header, directory, families, strings) is copied and checked once, when the reader is made; nothing of it is read from the
 * mapping again. Cells are single loads. Series records are copied under their seq, then parsed from the copy.
 * Invariant: every offset into the mapping is computed from the checked copy of the header and indices below its counts. */
#include "dataplane/telemetry/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "dataplane/core/blob.h"
#include "dataplane/core/cursor.h"
#include "dataplane/core/siphash.h"

#define RECORD_BYTES_MAX 65536u
#define RECORDS_MAX (1u << 22) /* of a class */
#define TRIES 16
#define SCAN_BYTES_MAX (1ull << 30)

struct tele_reader {
	struct foil_blob mem;
	const uint8_t *map;
	size_t n_map_bytes; /* of a mapping of ours, 0 = the caller's memory */
	struct tele_segment_header h;
	const struct tele_segment_entry *entries;
	const struct tele_segment_family *families;
	const char *strings;
	bool *entry_is_valid, *family_is_valid;
	uint32_t n_invalid;
};

/* ---- checks of what never changes */

static bool is_within(uint64_t offset, uint64_t n_bytes, uint64_t total)
{
	return offset % 8 == 0 && offset <= total && n_bytes <= total - offset;
}

static bool classes_are_valid(const struct tele_segment_header *h)
{
	for (uint32_t i = 0; i < TELE_SEGMENT_CLASSES; i++) {
		const struct tele_segment_class *c = &h->classes[i];
		if (c->n_records > RECORDS_MAX || c->record_bytes > RECORD_BYTES_MAX || c->record_bytes % 8 || c->n_cells > RECORD_BYTES_MAX / 8 ||
		    c->text_bytes > RECORD_BYTES_MAX)
			return false;
		if (sizeof(struct tele_segment_series) + (uint64_t)c->n_cells * 8 + c->text_bytes != c->record_bytes)
			return false;
		if (c->offset < sizeof(struct tele_segment_region_head) ||
		    !is_within(c->offset, (uint64_t)c->n_records * c->record_bytes, h->region_stride_bytes))
			return false;
	}
	return true;
}

static const char *header_fault(const struct tele_segment_header *h, size_t n_bytes)
{
	if (h->magic != TELE_SEGMENT_MAGIC)
		return "it is no metrics segment";
	if (h->abi != TELE_SEGMENT_ABI || h->header_bytes != sizeof(*h))
		return "it is of another ABI version; upgrade the older of hydrofoil and this program";
	if (h->total_bytes > n_bytes || h->total_bytes > TELE_SEGMENT_BYTES_MAX)
		return "it claims more bytes than it has";
	if (h->n_workers > TELE_SEGMENT_SLOTS_MAX || h->n_slots > TELE_SEGMENT_SLOTS_MAX || h->n_entries > TELE_SEGMENT_ENTRIES_MAX ||
	    h->n_families > TELE_SEGMENT_FAMILIES_MAX || h->n_string_bytes > TELE_SEGMENT_STRING_BYTES_MAX ||
	    h->n_fixed_cells > 8 * TELE_SEGMENT_ENTRIES_MAX)
		return "it claims counts beyond the limits";
	if (!is_within(h->directory_offset, (uint64_t)h->n_entries * sizeof(struct tele_segment_entry), h->total_bytes) ||
	    !is_within(h->families_offset, (uint64_t)h->n_families * sizeof(struct tele_segment_family), h->total_bytes) ||
	    !is_within(h->strings_offset, h->n_string_bytes, h->total_bytes))
		return "its directory lies outside of it";
	if (h->fixed_stride_bytes % 8 || h->fixed_stride_bytes > h->total_bytes || h->fixed_stride_bytes < (uint64_t)h->n_fixed_cells * 8 ||
	    !is_within(h->fixed_offset, h->fixed_stride_bytes * h->n_slots, h->total_bytes))
		return "its cells lie outside of it";
	if (h->region_stride_bytes % 8 || h->region_stride_bytes > h->total_bytes ||
	    h->region_stride_bytes < sizeof(struct tele_segment_region_head) ||
	    !is_within(h->regions_offset, h->region_stride_bytes * h->n_workers, h->total_bytes) || !classes_are_valid(h))
		return "its regions lie outside of it";
	return NULL;
}

static bool is_in_strings(const struct tele_reader *r, struct tele_segment_string s)
{
	return s.offset <= r->h.n_string_bytes && s.n_bytes <= r->h.n_string_bytes - s.offset;
}

static struct foil_slice string_of(const struct tele_reader *r, struct tele_segment_string s)
{
	return foil_slice_of(r->strings + s.offset, s.n_bytes);
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_name(struct foil_slice s, bool colons)
{
	for (uint32_t i = 0; i < s.n_bytes; i++) {
		char c = s.data[i];
		if (!is_letter(c) && !(colons && c == ':') && !(i && c >= '0' && c <= '9'))
			return false;
	}
	return s.n_bytes > 0;
}

static bool is_metric_name(const struct tele_reader *r, struct tele_segment_string s)
{
	return is_in_strings(r, s) && is_name(string_of(r, s), true);
}

static bool is_label_name(struct foil_slice s)
{
	return is_name(s, false) && !foil_slice_eq(s, FOIL_SLICE("le"));
}

static bool entry_check(const struct tele_reader *r, const struct tele_segment_entry *e)
{
	return is_metric_name(r, e->name) && is_in_strings(r, e->help) && is_in_strings(r, e->label_name) && is_in_strings(r, e->label_value) &&
	       (!e->label_name.n_bytes || is_label_name(string_of(r, e->label_name))) &&
	       (e->kind == TELE_SEGMENT_COUNTER || e->kind == TELE_SEGMENT_GAUGE) && e->cell < r->h.n_fixed_cells;
}

static bool metric_check(const struct tele_reader *r, const struct tele_segment_metric *m, uint32_t n_cells)
{
	uint32_t n_needed = m->kind == TELE_SEGMENT_HISTOGRAM ? m->n_buckets + 2 : 1;
	if (!is_metric_name(r, m->name) || !is_in_strings(r, m->help) || m->kind > TELE_SEGMENT_HISTOGRAM || m->n_buckets > TELE_SEGMENT_BUCKETS_MAX ||
	    m->cell > n_cells || n_needed > n_cells - m->cell || !isfinite(m->sum_scale))
		return false;
	for (uint32_t i = 0; i < m->n_buckets; i++)
		if (!isfinite(m->bounds[i]) || (i && m->bounds[i] <= m->bounds[i - 1]))
			return false;
	return true;
}

static bool family_check(const struct tele_reader *r, const struct tele_segment_family *f)
{
	if (f->class_index >= TELE_SEGMENT_CLASSES || f->n_metrics > TELE_SEGMENT_METRICS_MAX || f->n_labels > TELE_SEGMENT_LABELS_MAX)
		return false;
	uint32_t n_cells = r->h.classes[f->class_index].n_cells;
	if (!f->n_metrics)
		return n_cells > 0 && f->n_labels == 0;
	for (uint32_t i = 0; i < f->n_metrics; i++)
		if (!metric_check(r, &f->metrics[i], n_cells))
			return false;
	for (uint32_t i = 0; i < f->n_labels; i++) {
		if (!is_in_strings(r, f->label_names[i]) || !is_label_name(string_of(r, f->label_names[i])))
			return false;
		for (uint32_t j = 0; j < i; j++)
			if (foil_slice_eq(string_of(r, f->label_names[i]), string_of(r, f->label_names[j])))
				return false;
	}
	return true;
}

/* ---- making and freeing */

static const void *copy_out(struct tele_reader *r, uint64_t offset, size_t n, size_t bytes_each)
{
	void *to = foil_blob_array(&r->mem, n, bytes_each);
	if (to)
		memcpy(to, r->map + offset, n * bytes_each);
	return to;
}

static struct tele_reader *reader_new(const uint8_t *map, size_t n_bytes, struct foil_error *err)
{
	struct foil_blob mem = {0};
	struct tele_reader *r = foil_blob_alloc(&mem, sizeof(*r));
	if (!r) {
		(void)foil_error_set(err, -ENOMEM, "no memory to read the metrics segment");
		return NULL;
	}
	r->mem = mem;
	r->map = map;
	if (n_bytes >= sizeof(r->h))
		memcpy(&r->h, map, sizeof(r->h));
	const char *fault = header_fault(&r->h, n_bytes);
	if (fault) {
		(void)foil_error_set(err, -EPROTO, "the metrics segment cannot be read: %s", fault);
		goto fail;
	}
	r->entries = copy_out(r, r->h.directory_offset, r->h.n_entries, sizeof(*r->entries));
	r->families = copy_out(r, r->h.families_offset, r->h.n_families, sizeof(*r->families));
	r->strings = copy_out(r, r->h.strings_offset, r->h.n_string_bytes, 1);
	r->entry_is_valid = foil_blob_array(&r->mem, r->h.n_entries, sizeof(bool));
	r->family_is_valid = foil_blob_array(&r->mem, r->h.n_families, sizeof(bool));
	if (!r->entries || !r->families || !r->strings || !r->entry_is_valid || !r->family_is_valid) {
		(void)foil_error_set(err, -ENOMEM, "no memory to read the metrics segment");
		goto fail;
	}
	for (uint32_t i = 0; i < r->h.n_entries; i++)
		if (!(r->entry_is_valid[i] = entry_check(r, &r->entries[i])))
			r->n_invalid++;
	for (uint32_t i = 0; i < r->h.n_families; i++)
		if (!(r->family_is_valid[i] = family_check(r, &r->families[i])))
			r->n_invalid++;
	return r;
fail:
	tele_reader_free(r);
	return NULL;
}

struct tele_reader *tele_reader_new_memory(const void *data, size_t n_bytes, struct foil_error *err)
{
	return reader_new(data, n_bytes, err);
}

struct tele_reader *tele_reader_new(int fd, struct foil_error *err)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK)) { /* a file that shrinks would kill us with SIGBUS */
		(void)foil_error_set(err, -EPROTO, "the metrics segment cannot be read: it is no memfd sealed against shrinking");
		return NULL;
	}
	if (fstat(fd, &st) < 0 || st.st_size <= 0 || (uint64_t)st.st_size > TELE_SEGMENT_BYTES_MAX) {
		(void)foil_error_set(err, -EPROTO, "the metrics segment cannot be read: its size is out of range");
		return NULL;
	}
	void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		(void)foil_error_set(err, -errno, "cannot map the metrics segment: %s", strerror(errno));
		return NULL;
	}
	struct tele_reader *r = reader_new(map, (size_t)st.st_size, err);
	if (r)
		r->n_map_bytes = (size_t)st.st_size;
	else
		(void)munmap(map, (size_t)st.st_size); /* cannot fail for a mapping of ours */
	return r;
}

void tele_reader_free(struct tele_reader *r)
{
	if (!r)
		return;
	if (r->n_map_bytes)
		(void)munmap((void *)(uintptr_t)r->map, r->n_map_bytes); /* cannot fail for a mapping of ours */
	struct foil_blob mem = r->mem; /* r itself is in it */
	foil_blob_free(&mem);
}

uint64_t tele_reader_generation(const struct tele_reader *r)
{
	return r->h.generation;
}

/* ---- one scan */

/* A label set, summed over workers. */
struct merged {
	struct merged *next; /* in its bucket */
	uint64_t hash;
	const struct tele_segment_family *family;
	struct foil_slice text, name; /* name: of a family whose series carry theirs */
	uint32_t kind, n_labels;
	const struct tele_pair *labels;
	uint64_t *cells;
};

struct item {
	struct foil_slice name, help;
	uint32_t kind, order;
	const struct tele_pair *labels;
	uint32_t n_labels;
	uint64_t value;
	const struct tele_segment_metric *histogram;
	const uint64_t *cells;
};

struct scan {
	struct tele_reader *r;
	struct foil_blob mem;
	struct merged **buckets, **merged; /* merged: in the order of their finding */
	size_t n_buckets_mask, n_merged, n_merged_room;
	struct item *items;
	size_t n_items;
	uint8_t *record;
	struct tele_reader_stats stats;
	int rc;
};

static uint64_t load(const uint8_t *at)
{
	return __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
}

/* A copy that no write was half-way through, or false. */
static bool copy_record(struct scan *s, const uint8_t *from, uint32_t n_bytes)
{
	for (int i = 0; i < TRIES; i++) {
		uint64_t before = __atomic_load_n((const uint64_t *)(const void *)from, __ATOMIC_ACQUIRE);
		for (uint32_t at = 0; at < n_bytes; at += 8) { /* acquire: none of them after the second look at seq */
			uint64_t v = __atomic_load_n((const uint64_t *)(const void *)(from + at), __ATOMIC_ACQUIRE);
			memcpy(s->record + at, &v, 8);
		}
		if (before % 2 == 0 && before == load(from))
			return true;
	}
	s->stats.n_torn++;
	return false;
}

static bool piece(struct foil_cur *c, struct foil_slice *out)
{
	const uint8_t *len = cur_bytes(c, 2);
	uint16_t n = 0;
	if (len)
		memcpy(&n, len, 2);
	*out = cur_slice(c, n);
	return !c->short_read;
}

/* Labels of m->text, which is ours. False: not what the layout says. */
static bool parse_labels(struct scan *s, struct merged *m)
{
	struct foil_cur c = cur_of(m->text.data, m->text.n_bytes);
	struct tele_pair *pairs = foil_blob_array(&s->mem, m->n_labels, sizeof(*pairs));
	if (!pairs) {
		s->rc = -ENOMEM;
		return false;
	}
	bool is_named = m->family->n_metrics > 0;
	if (!is_named && (!piece(&c, &m->name) || !is_name(m->name, true)))
		return false;
	for (uint32_t i = 0; i < m->n_labels; i++) {
		if (is_named)
			pairs[i].name = string_of(s->r, m->family->label_names[i]);
		else if (!piece(&c, &pairs[i].name) || !is_label_name(pairs[i].name))
			return false;
		if (!piece(&c, &pairs[i].value))
			return false;
		for (uint32_t j = 0; !is_named && j < i; j++)
			if (foil_slice_eq(pairs[i].name, pairs[j].name))
				return false;
	}
	m->labels = pairs;
	return cur_left(&c) == 0;
}

static struct merged *new_merged(struct scan *s, const struct tele_segment_series *head, struct foil_slice text, uint64_t hash)
{
	const struct tele_segment_family *f = &s->r->families[head->family];
	uint32_t n_cells = s->r->h.classes[f->class_index].n_cells;
	struct merged *m = foil_blob_alloc(&s->mem, sizeof(*m));
	if (m) {
		*m = (struct merged){.hash = hash, .family = f, .kind = head->kind, .n_labels = head->n_labels};
		m->text = foil_blob_copy(&s->mem, text.data, text.n_bytes);
		m->cells = foil_blob_array(&s->mem, n_cells, sizeof(*m->cells));
	}
	if (!m || !m->text.data || !m->cells || s->n_merged == s->n_merged_room) {
		s->rc = -ENOMEM;
		return NULL;
	}
	if (!parse_labels(s, m)) {
		s->stats.n_invalid += s->rc == 0;
		return NULL;
	}
	s->merged[s->n_merged++] = m;
	m->next = s->buckets[hash & s->n_buckets_mask];
	s->buckets[hash & s->n_buckets_mask] = m;
	return m;
}

static bool record_is_valid(const struct tele_reader *r, const struct tele_segment_series *head, uint32_t class_index)
{
	if (head->family >= r->h.n_families || !r->family_is_valid[head->family])
		return false;
	const struct tele_segment_family *f = &r->families[head->family];
	return f->class_index == class_index && head->text_bytes <= r->h.classes[class_index].text_bytes && head->n_labels <= TELE_SEGMENT_LABELS_MAX &&
	       (f->n_metrics ? head->n_labels == f->n_labels : head->kind == TELE_SEGMENT_COUNTER || head->kind == TELE_SEGMENT_GAUGE);
}

static void take_record(struct scan *s, uint32_t class_index)
{
	const struct tele_segment_class *class = &s->r->h.classes[class_index];
	struct tele_segment_series head;
	memcpy(&head, s->record, sizeof(head));
	if (head.state != TELE_SEGMENT_LIVE)
		return;
	if (!record_is_valid(s->r, &head, class_index)) {
		s->stats.n_invalid++;
		return;
	}
	const uint8_t *cells = s->record + sizeof(head), *text = cells + (size_t)class->n_cells * 8;
	/* The other side knows no such key: it cannot choose texts that meet in a bucket. */
	struct foil_siphash_key key = {(uintptr_t)s, (uintptr_t)s->r->map};
	uint64_t hash = foil_siphash(&key, text, head.text_bytes) ^ head.family;
	struct foil_slice as_slice = foil_slice_of(text, head.text_bytes);
	struct merged *m = s->buckets[hash & s->n_buckets_mask];
	while (m && !(m->hash == hash && m->family == &s->r->families[head.family] && m->n_labels == head.n_labels && foil_slice_eq(m->text, as_slice)))
		m = m->next;
	if (!m)
		m = new_merged(s, &head, as_slice, hash);
	for (uint32_t i = 0; m && i < class->n_cells; i++) {
		uint64_t v;
		memcpy(&v, cells + (size_t)i * 8, 8);
		m->cells[i] += v;
	}
}

static uint32_t n_used(const struct tele_reader *r, const uint8_t *region, uint32_t class_index)
{
	const struct tele_segment_region_head *head = (const struct tele_segment_region_head *)(const void *)region;
	uint32_t n = __atomic_load_n(&head->n_used[class_index], __ATOMIC_ACQUIRE);
	return FOIL_MIN(n, r->h.classes[class_index].n_records);
}

static void each_region(struct scan *s, void (*fn)(struct scan *s, const uint8_t *region, uint32_t class_index))
{
	const struct tele_segment_header *h = &s->r->h;
	for (uint32_t worker = 0; worker < h->n_workers; worker++)
		for (uint32_t c = 0; c < TELE_SEGMENT_CLASSES && s->rc == 0; c++)
			fn(s, s->r->map + h->regions_offset + worker * h->region_stride_bytes, c);
}

static void count_records(struct scan *s, const uint8_t *region, uint32_t class_index)
{
	s->n_merged_room += n_used(s->r, region, class_index);
}

static void merge_records(struct scan *s, const uint8_t *region, uint32_t class_index)
{
	const struct tele_segment_class *class = &s->r->h.classes[class_index];
	uint32_t n = n_used(s->r, region, class_index);
	for (uint32_t i = 0; i < n && s->rc == 0 && s->n_merged < s->n_merged_room; i++)
		if (copy_record(s, region + class->offset + (uint64_t)i * class->record_bytes, class->record_bytes))
			take_record(s, class_index);
}

/* ---- from sums to samples */

static void put_item(struct scan *s, const struct item *it)
{
	s->items[s->n_items] = *it;
	s->items[s->n_items].order = (uint32_t)s->n_items;
	s->n_items++;
}

static void fixed_items(struct scan *s)
{
	struct tele_reader *r = s->r;
	for (uint32_t i = 0; i < r->h.n_entries; i++) {
		const struct tele_segment_entry *e = &r->entries[i];
		struct tele_pair *label = NULL;
		uint64_t sum = 0;
		if (!r->entry_is_valid[i])
			continue;
		for (uint32_t slot = 0; slot < r->h.n_slots; slot++)
			sum += load(r->map + r->h.fixed_offset + slot * r->h.fixed_stride_bytes + (uint64_t)e->cell * 8);
		if (e->label_name.n_bytes) {
			label = foil_blob_alloc(&s->mem, sizeof(*label));
			if (!label) {
				s->rc = -ENOMEM;
				return;
			}
			*label = (struct tele_pair){string_of(r, e->label_name), string_of(r, e->label_value)};
		}
		put_item(s, &(struct item){.name = string_of(r, e->name), .help = string_of(r, e->help), .kind = e->kind, .labels = label,
					   .n_labels = label ? 1 : 0, .value = sum});
	}
}

void tele_reader_cells(const struct tele_reader *r, tele_cells_fn each, void *arg)
{
	uint64_t by_slot[TELE_SEGMENT_SLOTS_MAX];

	for (uint32_t i = 0; i < r->h.n_entries; i++) {
		const struct tele_segment_entry *e = &r->entries[i];
		if (!r->entry_is_valid[i])
			continue;
		struct tele_pair label = {string_of(r, e->label_name), string_of(r, e->label_value)};
		struct tele_sample s = {.name = string_of(r, e->name), .help = string_of(r, e->help), .kind = (enum tele_segment_kind)e->kind,
					.labels = &label, .n_labels = e->label_name.n_bytes ? 1 : 0};
		for (uint32_t slot = 0; slot < r->h.n_slots; slot++) {
			by_slot[slot] = load(r->map + r->h.fixed_offset + slot * r->h.fixed_stride_bytes + (uint64_t)e->cell * 8);
			s.value += by_slot[slot];
		}
		each(arg, &s, by_slot, r->h.n_slots);
	}
}

uint32_t tele_reader_workers(const struct tele_reader *r)
{
	return r->h.n_workers;
}

static void series_items(struct scan *s, const struct merged *m)
{
	const struct tele_segment_family *f = m->family;
	if (!f->n_metrics) {
		put_item(s, &(struct item){.name = m->name, .help = {"", 0}, .kind = m->kind, .labels = m->labels, .n_labels = m->n_labels,
					   .value = m->cells[0]});
		return;
	}
	for (uint32_t i = 0; i < f->n_metrics; i++) {
		const struct tele_segment_metric *metric = &f->metrics[i];
		bool is_histogram = metric->kind == TELE_SEGMENT_HISTOGRAM;
		if (metric->is_sparse && !is_histogram && !m->cells[metric->cell])
			continue;
		put_item(s, &(struct item){.name = string_of(s->r, metric->name), .help = string_of(s->r, metric->help), .kind = metric->kind,
					   .labels = m->labels, .n_labels = m->n_labels, .value = m->cells[metric->cell],
					   .histogram = is_histogram ? metric : NULL, .cells = m->cells + metric->cell});
	}
}

static int by_name(const void *va, const void *vb)
{
	const struct item *a = va, *b = vb;
	uint32_t n = FOIL_MIN(a->name.n_bytes, b->name.n_bytes);
	int c = memcmp(a->name.data, b->name.data, n);
	if (c)
		return c;
	if (a->name.n_bytes != b->name.n_bytes)
		return a->name.n_bytes < b->name.n_bytes ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

static void emit(struct scan *s, tele_sample_fn each, void *arg)
{
	const struct item *first = NULL;
	for (size_t i = 0; i < s->n_items; i++) {
		const struct item *it = &s->items[i];
		if (!first || !foil_slice_eq(first->name, it->name))
			first = it;
		if (it->kind != first->kind) {
			s->stats.n_invalid++;
			continue;
		}
		struct tele_sample sample = {.name = it->name, .help = first->help, .kind = (enum tele_segment_kind)it->kind, .labels = it->labels,
					     .n_labels = it->n_labels, .value = it->value};
		if (it->histogram) {
			sample.n_buckets = it->histogram->n_buckets;
			sample.bounds = it->histogram->bounds;
			sample.counts = it->cells + 1;
			sample.sum = (double)it->cells[0] * it->histogram->sum_scale;
		}
		each(arg, &sample);
		s->stats.n_samples++;
	}
}

static int prepare(struct scan *s)
{
	uint32_t record_bytes = 8;
	size_t n_buckets = 64;
	each_region(s, count_records);
	while (n_buckets < s->n_merged_room)
		n_buckets *= 2;
	for (uint32_t c = 0; c < TELE_SEGMENT_CLASSES; c++)
		record_bytes = FOIL_MAX(record_bytes, s->r->h.classes[c].record_bytes);
	s->n_buckets_mask = n_buckets - 1;
	s->buckets = foil_blob_array(&s->mem, n_buckets, sizeof(*s->buckets));
	s->merged = foil_blob_array(&s->mem, s->n_merged_room, sizeof(*s->merged));
	s->record = foil_blob_alloc(&s->mem, record_bytes);
	return s->buckets && s->merged && s->record ? 0 : -ENOMEM;
}

int tele_reader_scan(struct tele_reader *r, tele_sample_fn each, void *arg, struct tele_reader_stats *stats)
{
	struct scan s = {.r = r, .mem = {.max_bytes = SCAN_BYTES_MAX}, .stats = {.n_invalid = r->n_invalid}};
	s.rc = prepare(&s);
	if (s.rc == 0)
		each_region(&s, merge_records);
	if (s.rc == 0) {
		s.items = foil_blob_array(&s.mem, r->h.n_entries + s.n_merged * TELE_SEGMENT_METRICS_MAX, sizeof(*s.items));
		s.rc = s.items ? 0 : -ENOMEM;
	}
	if (s.rc == 0)
		fixed_items(&s);
	for (size_t i = 0; s.rc == 0 && i < s.n_merged; i++)
		series_items(&s, s.merged[i]);
	if (s.rc == 0) {
		if (s.n_items)
			qsort(s.items, s.n_items, sizeof(*s.items), by_name);
		emit(&s, each, arg);
	}
	*stats = s.stats;
	foil_blob_free(&s.mem);
	return s.rc;
}
