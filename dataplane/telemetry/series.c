/* Label sets of one worker: found by hash, made in the worker's region of the segment, given back when no worker uses them.
 *
 * Only the worker writes its records; readers in other processes copy them under the record's seq (segment.h). Housekeeping reads them too, to
 * find what is idle everywhere, and says so in a byte a record; the worker gives the record back at its own time. A label set stays while any worker
 * uses it: a sum over workers must not fall because one of them forgot its part.
 * Hashes are 64 bits, keyed a process: two label sets of one hash are taken for one (2^-64 a pair).
 * Invariant: a record is in its bucket's chain exactly when it is live; record 0 of a table is the overflow series and in no chain. */
#include "dataplane/telemetry/tele_priv.h"

#include <errno.h>

#define EXPIRE_EVERY_US 1000000u
#define EXPIRE_A_TURN 512u      /* records looked at, a class */
#define USED_GRAIN_US 1000000u  /* used_us is written once in so long: its line is shared with readers */
#define MARK_EVERY_US 5000000u

/* ---- records */

static inline void publish_begin(struct tele_segment_series *s)
{
	__atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELAXED);
#ifndef __SANITIZE_THREAD__ /* gcc's knows no fences; it sees no reader either, they have mappings of their own */
	__atomic_thread_fence(__ATOMIC_RELEASE); /* seq is odd before anything else changes */
#endif
}

static inline void publish_end(struct tele_segment_series *s)
{
	__atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELEASE);
}

void tele_series_touch(struct foil_worker *w, struct tele_table *t, uint32_t i)
{
	struct tele_segment_series *s = tele_table_record(t, i);
	if (w->now_us - s->used_us >= USED_GRAIN_US) {
		__atomic_store_n(&s->used_us, w->now_us, __ATOMIC_RELAXED);
		__atomic_store_n(&t->idle[i], 0, __ATOMIC_RELAXED);
	}
}

uint32_t tele_series_find(struct foil_worker *w, uint32_t class_index, uint64_t hash)
{
	struct tele_table *t = &w->tele->tables[class_index];
	for (uint32_t at = t->buckets[hash & t->n_buckets_mask]; at; at = t->next[at - 1]) {
		if (tele_table_record(t, at - 1)->hash == hash) {
			tele_series_touch(w, t, at - 1);
			return at - 1;
		}
	}
	return TELE_NO_SERIES;
}

static size_t text_room_needed(const struct tele_series_text *text)
{
	size_t n = 0;
	for (uint32_t i = 0; i < text->n_pieces; i++)
		n += 2 + (size_t)text->pieces[i].n_bytes;
	return n;
}

static void write_text(uint8_t *to, const struct tele_series_text *text)
{
	for (uint32_t i = 0; i < text->n_pieces; i++) {
		uint16_t n = (uint16_t)text->pieces[i].n_bytes; /* fits: the record's text room is smaller than 64 KiB */
		memcpy(to, &n, 2);
		if (n)
			memcpy(to + 2, text->pieces[i].data, n);
		to += 2 + n;
	}
}

static void write_record(struct foil_worker *w, uint32_t class_index, uint32_t i, uint64_t hash, const struct tele_series_text *text)
{
	struct tele_table *t = &w->tele->tables[class_index];
	struct tele_segment_series *s = tele_table_record(t, i);
	publish_begin(s);
	s->state = TELE_SEGMENT_LIVE;
	s->family = class_index;
	s->n_labels = text->n_labels;
	s->text_bytes = (uint32_t)text_room_needed(text);
	s->kind = text->kind;
	__atomic_store_n(&s->hash, hash, __ATOMIC_RELAXED); /* housekeeping looks at these two at any time */
	__atomic_store_n(&s->used_us, w->now_us, __ATOMIC_RELAXED);
	memset(tele_record_cells(s), 0, t->text_offset - sizeof(*s));
	write_text((uint8_t *)s + t->text_offset, text);
	publish_end(s);
	t->refs[i] = 0;
	__atomic_store_n(&t->idle[i], 0, __ATOMIC_RELAXED);
	foil_count(w, TELE, SERIES, 1);
}

/* The overflow record says so in every label; its own metric, if the class carries names, is one gauge of no meaning but that it is there. */
static FOIL_COLD uint32_t overflow(struct foil_worker *w, uint32_t class_index)
{
	static const struct foil_slice word = {"overflow", 8}, cell_name = {"foil_tele_overflow_cells", 24};
	struct tele_table *t = &w->tele->tables[class_index];
	struct foil_slice pieces[TELE_SEGMENT_LABELS_MAX];
	foil_count(w, TELE, SERIES_OVERFLOWED, 1);
	if (tele_table_record(t, TELE_OVERFLOW_INDEX)->state != TELE_SEGMENT_LIVE) {
		uint32_t n = class_index == TELE_CLASS_HTTP ? TELE_HTTP_LABELS : class_index == TELE_CLASS_TCP ? TELE_TCP_LABELS : 0;
		for (uint32_t i = 0; i < n; i++)
			pieces[i] = word;
		if (class_index == TELE_CLASS_CELL)
			pieces[0] = cell_name;
		write_record(w, class_index, TELE_OVERFLOW_INDEX, 0,
			     &(struct tele_series_text){pieces, n ? n : 1, n, TELE_SEGMENT_GAUGE});
	}
	tele_series_touch(w, t, TELE_OVERFLOW_INDEX);
	return TELE_OVERFLOW_INDEX;
}

static uint32_t take_record(struct tele_table *t)
{
	uint32_t at = t->free_head;
	if (at) {
		t->free_head = t->next[at - 1];
		return at - 1;
	}
	uint32_t n = *t->n_used;
	if (n >= t->n_records)
		return TELE_NO_SERIES;
	__atomic_store_n(t->n_used, n + 1, __ATOMIC_RELEASE); /* the record is all zeroes: free */
	return n;
}

uint32_t tele_series_make(struct foil_worker *w, uint32_t class_index, uint64_t hash, const struct tele_series_text *text)
{
	struct tele_table *t = &w->tele->tables[class_index];
	if (text_room_needed(text) > t->text_bytes)
		return overflow(w, class_index);
	uint32_t i = take_record(t);
	if (i == TELE_NO_SERIES)
		return overflow(w, class_index);
	write_record(w, class_index, i, hash, text);
	uint32_t *bucket = &t->buckets[hash & t->n_buckets_mask];
	t->next[i] = *bucket;
	*bucket = i + 1;
	return i;
}

static void give_back(struct foil_worker *w, struct tele_table *t, uint32_t i)
{
	struct tele_segment_series *s = tele_table_record(t, i);
	uint32_t *at = &t->buckets[s->hash & t->n_buckets_mask];
	while (*at != i + 1)
		at = &t->next[*at - 1];
	*at = t->next[i];
	memset(w->tele->memos, 0, sizeof(w->tele->memos));
	publish_begin(s);
	s->state = TELE_SEGMENT_FREE;
	publish_end(s);
	t->next[i] = t->free_head;
	t->free_head = i + 1;
	foil_count(w, TELE, SERIES, -1);
	foil_count(w, TELE, SERIES_EXPIRED, 1);
}

/* ---- expiry: the worker's half */

static void expire_some(struct foil_worker *w, struct tele_table *t)
{
	uint32_t n_used = *t->n_used;
	for (uint32_t k = 0; k < FOIL_MIN(EXPIRE_A_TURN, n_used); k++) {
		uint32_t i = t->expire_cursor++;
		if (t->expire_cursor >= n_used)
			t->expire_cursor = 0;
		if (i == TELE_OVERFLOW_INDEX || i >= n_used)
			continue;
		if (t->refs[i])
			tele_series_touch(w, t, i); /* its holder adds to the cell and no one is told */
		if (!__atomic_load_n(&t->idle[i], __ATOMIC_RELAXED))
			continue;
		const struct tele_segment_series *s = tele_table_record(t, i);
		__atomic_store_n(&t->idle[i], 0, __ATOMIC_RELAXED);
		if (s->state == TELE_SEGMENT_LIVE && t->refs[i] == 0 && w->now_us - s->used_us >= w->tele->idle_us)
			give_back(w, t, i);
	}
}

static void expire(struct foil_worker *w, struct foil_timer *timer)
{
	for (uint32_t c = 0; c < TELE_SEGMENT_CLASSES; c++)
		expire_some(w, &w->tele->tables[c]);
	foil_timer_arm(w, timer, w->now_us + EXPIRE_EVERY_US, expire);
}

void tele_series_start(struct foil_worker *w)
{
	foil_timer_arm(w, &w->tele->expiry, w->now_us + EXPIRE_EVERY_US, expire);
}

int tele_series_init(struct foil_worker *w, struct tele_ctx *c, struct foil_blob *mem, uint8_t *region)
{
	struct tele_shared *s = c->shared;
	struct tele_segment_region_head *head = (struct tele_segment_region_head *)(void *)region;
	for (uint32_t i = 0; i < TELE_SEGMENT_CLASSES; i++) {
		const struct tele_segment_class *class = &s->header->classes[i];
		struct tele_table *t = &c->tables[i];
		uint32_t n_buckets = 64;
		while (n_buckets < class->n_records)
			n_buckets *= 2;
		*t = (struct tele_table){.records = region + class->offset, .record_bytes = class->record_bytes, .n_records = class->n_records,
					 .text_offset = (uint32_t)sizeof(struct tele_segment_series) + class->n_cells * 8,
					 .text_bytes = class->text_bytes, .n_used = &head->n_used[i], .n_buckets_mask = n_buckets - 1,
					 .idle = s->idle[i][w->id]};
		t->buckets = foil_blob_array(mem, n_buckets, sizeof(*t->buckets));
		t->next = foil_blob_array(mem, class->n_records, sizeof(*t->next));
		t->refs = foil_blob_array(mem, class->n_records, sizeof(*t->refs));
		if (!t->buckets || !t->next || !t->refs)
			return -ENOMEM;
		*t->n_used = 1; /* record 0 is the overflow's */
	}
	return 0;
}

/* ---- expiry: housekeeping's half */

struct used_map {
	uint64_t *hash, *used_us;
	size_t mask;
};

static uint64_t *used_slot(const struct used_map *m, uint64_t hash)
{
	size_t i = (size_t)hash & m->mask;
	while (m->hash[i] != 0 && m->hash[i] != hash)
		i = (i + 1) & m->mask; /* ends: the map is at most half full, even if every record was rewritten meanwhile */
	m->hash[i] = hash;
	return &m->used_us[i];
}

typedef void (*record_fn)(const struct used_map *m, const struct tele_segment_series *s, uint8_t *idle, uint64_t idle_before_us);

static void note_used(const struct used_map *m, const struct tele_segment_series *s, uint8_t *idle, uint64_t idle_before_us)
{
	uint64_t hash = __atomic_load_n(&s->hash, __ATOMIC_RELAXED) | 1;
	uint64_t *used_us = used_slot(m, hash);
	*used_us = FOIL_MAX(*used_us, __atomic_load_n(&s->used_us, __ATOMIC_RELAXED));
	(void)idle;
	(void)idle_before_us;
}

static void mark(const struct used_map *m, const struct tele_segment_series *s, uint8_t *idle, uint64_t idle_before_us)
{
	uint64_t hash = __atomic_load_n(&s->hash, __ATOMIC_RELAXED) | 1;
	/* a record rewritten since note_used may be new here: used_us 0 then, and marked; its worker looks at its own used_us before it acts */
	if (*used_slot(m, hash) <= idle_before_us)
		__atomic_store_n(idle, 1, __ATOMIC_RELAXED);
}

static size_t n_records_used(const struct tele_shared *s, uint32_t worker, uint32_t class_index)
{
	const struct tele_segment_region_head *head = (const struct tele_segment_region_head *)(const void *)tele_segment_region(s, worker);
	return __atomic_load_n(&head->n_used[class_index], __ATOMIC_ACQUIRE);
}

static void each_record(const struct tele_shared *s, const struct used_map *m, record_fn fn, uint64_t idle_before_us, const size_t *limits)
{
	for (uint32_t worker = 0; worker < s->p.n_workers; worker++) {
		for (uint32_t c = 0; c < TELE_SEGMENT_CLASSES; c++) {
			const struct tele_segment_class *class = &s->header->classes[c];
			const uint8_t *records = tele_segment_region(s, worker) + class->offset;
			for (size_t i = 1; i < limits[worker * TELE_SEGMENT_CLASSES + c]; i++)
				fn(m, (const struct tele_segment_series *)(const void *)(records + i * class->record_bytes), &s->idle[c][worker][i],
				   idle_before_us);
		}
	}
}

void tele_series_mark_idle(struct tele_shared *s, uint64_t now_us)
{
	size_t limits[TELE_SEGMENT_SLOTS_MAX * TELE_SEGMENT_CLASSES], n = 0, n_map = 64;
	if (now_us < s->mark_at_us || now_us < s->p.series_idle_us)
		return;
	s->mark_at_us = now_us + MARK_EVERY_US;
	for (uint32_t worker = 0; worker < s->p.n_workers; worker++)
		for (uint32_t c = 0; c < TELE_SEGMENT_CLASSES; c++)
			n += limits[worker * TELE_SEGMENT_CLASSES + c] = n_records_used(s, worker, c);
	while (n_map < 4 * n)
		n_map *= 2;
	if (n_map > s->n_used_room) /* never: sized for every record there is */
		return;
	struct used_map m = {s->used_hash, s->used_us, n_map - 1};
	memset(m.hash, 0, n_map * sizeof(*m.hash));
	memset(m.used_us, 0, n_map * sizeof(*m.used_us));
	each_record(s, &m, note_used, 0, limits);
	each_record(s, &m, mark, now_us - s->p.series_idle_us, limits);
}
