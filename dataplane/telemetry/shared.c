/* Puts telemetry together: one segment and one log for the process, one context and one event ring a worker, and housekeeping's turn.
 * Invariant: a worker's context, its ring's head and its region are touched by that worker alone once it runs. */
#include "dataplane/telemetry/tele_priv.h"

#include <errno.h>

#define EVENTS_A_TURN 4096u /* about 4 ms of formatting */
#define LINE_BYTES_MAX (TELE_LOG_BUFFER_BYTES / 2)

static const struct foil_counter_desc counters[] = {
#define X(ID, kind, unit, help) {#ID, FOIL_##kind, #unit, help},
#include "dataplane/telemetry/counters.def"
#undef X
};
const struct foil_room_desc tele_room_desc = {FOIL_ROOM_TELE, "tele", counters, FOIL_COUNT_OF(counters), NULL, 0};

static void fill_defaults(struct tele_shared_params *p)
{
	p->event_ring_bytes = p->event_ring_bytes ? p->event_ring_bytes : TELE_EVENT_RING_BYTES;
	p->series_http_max = p->series_http_max ? p->series_http_max : TELE_SERIES_HTTP_MAX;
	p->series_tcp_max = p->series_tcp_max ? p->series_tcp_max : TELE_SERIES_TCP_MAX;
	p->series_cell_max = p->series_cell_max ? p->series_cell_max : TELE_SERIES_CELL_MAX;
	p->series_idle_us = p->series_idle_us ? p->series_idle_us : TELE_SERIES_IDLE_US;
}

static int check_params(const struct tele_shared_params *p, struct foil_error *err)
{
	if (!p->n_workers || p->n_workers >= TELE_SEGMENT_SLOTS_MAX)
		return foil_error_set(err, -EINVAL, "telemetry serves 1 to %u workers, not %u", TELE_SEGMENT_SLOTS_MAX - 1, p->n_workers);
	if (p->event_ring_bytes < 4096 || p->event_ring_bytes & (p->event_ring_bytes - 1))
		return foil_error_set(err, -EINVAL, "an event ring of %u bytes is no power of two of 4096 or more", p->event_ring_bytes);
	return 0;
}

static int make_rings(struct tele_shared *s)
{
	uint8_t *rings = foil_blob_array(&s->mem, s->p.n_workers + 1u, sizeof(struct tele_ring));
	if (!rings)
		return -ENOMEM;
	s->rings = (struct tele_ring *)(((uintptr_t)rings + 63) & ~(uintptr_t)63); /* one more than needed is room enough to align */
	for (uint16_t i = 0; i < s->p.n_workers; i++) {
		s->rings[i].n_bytes = s->p.event_ring_bytes;
		s->rings[i].data = foil_blob_alloc(&s->mem, s->p.event_ring_bytes);
		if (!s->rings[i].data)
			return -ENOMEM;
	}
	return 0;
}

static int make_idle_marks(struct tele_shared *s)
{
	size_t n_records = 0, n_map = 64;
	for (uint32_t c = 0; c < TELE_SEGMENT_CLASSES; c++) {
		uint32_t n = s->header->classes[c].n_records;
		n_records += (size_t)n * s->p.n_workers;
		s->idle[c] = foil_blob_array(&s->mem, s->p.n_workers, sizeof(*s->idle[c]));
		for (uint16_t i = 0; s->idle[c] && i < s->p.n_workers; i++)
			if (!(s->idle[c][i] = foil_blob_alloc(&s->mem, n)))
				return -ENOMEM;
		if (!s->idle[c])
			return -ENOMEM;
	}
	while (n_map < 4 * n_records)
		n_map *= 2;
	s->n_used_room = n_map;
	s->used_hash = foil_blob_array(&s->mem, n_map, sizeof(*s->used_hash));
	s->used_us = foil_blob_array(&s->mem, n_map, sizeof(*s->used_us));
	return s->used_hash && s->used_us ? 0 : -ENOMEM;
}

struct tele_shared *tele_shared_new(const struct tele_shared_params *p, struct foil_error *err)
{
	struct foil_blob mem = {0};
	struct tele_shared *s = foil_blob_alloc(&mem, sizeof(*s));
	if (!s) {
		(void)foil_error_set(err, -ENOMEM, "no memory for telemetry");
		return NULL;
	}
	*s = (struct tele_shared){.mem = mem, .p = *p, .fd = -1, .log = {.fd = -1}};
	s->p.rooms = NULL;
	fill_defaults(&s->p);
	if (check_params(&s->p, err) < 0 || tele_segment_new(s, p->rooms, p->n_rooms, err) < 0)
		goto fail;
	s->log.data = foil_blob_alloc(&s->mem, TELE_LOG_BUFFER_BYTES);
	if (!s->log.data || make_rings(s) < 0 || make_idle_marks(s) < 0) {
		(void)foil_error_set(err, -ENOMEM, "no memory for telemetry of %u workers", p->n_workers);
		goto fail;
	}
	s->format = tele_format_new((struct foil_slice){NULL, 0}, false, err);
	if (s->format)
		return s;
fail:
	tele_shared_free(s);
	return NULL;
}

void tele_shared_free(struct tele_shared *s)
{
	if (!s)
		return;
	if (s->format && s->rings)
		while (tele_turn(s, 0) && !s->log.is_failing && s->log.n_bytes < TELE_LOG_BUFFER_BYTES / 2)
			;
	tele_log_close(&s->log);
	tele_format_free(s->format);
	tele_format_free(s->format_before);
	tele_segment_free(s);
	struct foil_blob mem = s->mem; /* s itself is in it */
	foil_blob_free(&mem);
}

int tele_segment_fd(const struct tele_shared *s)
{
	return s->fd;
}

static uint64_t *housekeeping_cells(struct tele_shared *s, enum foil_room room, uint32_t which)
{
	return s->is_described[room] ? tele_segment_cells(s, s->p.n_workers) + s->room_cell[room][which] : NULL;
}

uint64_t *tele_shared_counters(struct tele_shared *s, enum foil_room room)
{
	return housekeeping_cells(s, room, 0);
}

uint64_t *tele_shared_reasons(struct tele_shared *s, enum foil_room room)
{
	return housekeeping_cells(s, room, 1);
}

/* ---- a worker comes and goes */

static void swap_cells(struct foil_worker *w, struct tele_ctx *c)
{
	struct tele_shared *s = c->shared;
	uint64_t *cells = tele_segment_cells(s, w->id);
	for (uint32_t r = 0; r < FOIL_ROOM_COUNT; r++) {
		c->room_cells[r][0] = w->ctr[r];
		c->room_cells[r][1] = w->why[r];
		if (!s->is_described[r])
			continue;
		uint64_t *to[2] = {cells + s->room_cell[r][0], cells + s->room_cell[r][1]};
		for (uint32_t k = 0; k < 2; k++)
			for (uint32_t i = 0; i < s->room_cells[r][k]; i++)
				tele_cell_add(&to[k][i], c->room_cells[r][k][i]);
		w->ctr[r] = to[0];
		w->why[r] = to[1];
	}
}

int tele_init(struct foil_worker *w, struct tele_shared *s, struct foil_error *err)
{
	FOIL_ASSERT(w->id < s->p.n_workers && !w->tele);
	struct tele_ctx *c = foil_blob_alloc(&s->mem, sizeof(*c));
	if (!s->key)
		s->key = w->secret.k0 | 1;
	if (c)
		*c = (struct tele_ctx){.shared = s, .key = s->key, .ring = &s->rings[w->id], .idle_us = s->p.series_idle_us, .w = w,
				       .ring_head = s->rings[w->id].head, .ring_tail_seen = s->rings[w->id].tail};
	if (!c || tele_series_init(w, c, &s->mem, tele_segment_region(s, w->id)) < 0)
		return foil_error_set(err, -ENOMEM, "no memory for worker %u's metrics", w->id);
	swap_cells(w, c);
	w->tele = c;
	tele_series_start(w);
	return 0;
}

void tele_fini(struct foil_worker *w)
{
	struct tele_ctx *c = w->tele;
	if (!c)
		return;
	foil_timer_cancel(w, &c->expiry);
	for (uint32_t r = 0; r < FOIL_ROOM_COUNT; r++) {
		w->ctr[r] = c->room_cells[r][0];
		w->why[r] = c->room_cells[r][1];
	}
	w->tele = NULL;
}

/* ---- housekeeping */

int tele_set_format(struct tele_shared *s, struct foil_slice format, bool is_json, struct foil_error *err)
{
	struct tele_format *f = tele_format_new(format, is_json, err);
	if (!f)
		return -EINVAL;
	if (f->captures.key == s->format->captures.key) { /* the same again: every snapshot says it */
		tele_format_free(f);
		return 0;
	}
	tele_format_free(s->format_before);
	s->format_before = s->format;
	s->format = f;
	return 0;
}

int tele_format_captures(struct foil_slice format, bool is_json, struct foil_blob *b, struct tele_captures *out, struct foil_error *err)
{
	struct tele_format *f = tele_format_new(format, is_json, err);
	struct tele_captures c = {0};
	if (!f)
		return -EINVAL;
	c.n = f->captures.n;
	c.key = f->captures.key;
	for (uint16_t i = 0; i < c.n; i++)
		c.list[i] = foil_blob_copy(b, f->captures.list[i].data, f->captures.list[i].n_bytes);
	tele_format_free(f);
	if (c.n && !c.list[c.n - 1].data)
		return foil_error_set(err, -ENOMEM, "no memory for the access log format");
	*out = c;
	return 0;
}

int tele_format_check(struct foil_slice format, bool is_json, struct foil_error *err)
{
	struct tele_format *f = tele_format_new(format, is_json, err);
	tele_format_free(f);
	return f ? 0 : -EINVAL;
}

/* What the event's worker had in force, as long as it is known; without captures any will do. */
static const struct tele_format *format_of(const struct tele_shared *s, const struct tele_event *e)
{
	bool is_before = e->format_key && s->format_before && s->format_before->captures.key == e->format_key && s->format->captures.key != e->format_key;
	return is_before ? s->format_before : s->format;
}

/* One line into the log's buffer, which is flushed when it is full. A line that does not fit then is lost. */
static void log_event(struct tele_shared *s, const struct tele_event *e, const struct foil_slice texts[TELE_TEXTS_MAX], uint64_t *cells)
{
	for (uint32_t try = 0; try < 2; try++) {
		struct tele_out out = {s->log.data + s->log.n_bytes, 0, FOIL_MIN(TELE_LOG_BUFFER_BYTES - s->log.n_bytes, LINE_BYTES_MAX), false,
				       &s->second};
		tele_format_render(format_of(s, e), e, texts, &out);
		if (!out.is_short) {
			s->log.n_bytes += out.n_bytes;
			tele_cell_add(&cells[TELE_CTR_ACCESS_LINES], 1);
			return;
		}
		if (!try && !tele_log_flush(&s->log, cells))
			break;
	}
	tele_cell_add(&cells[TELE_CTR_ACCESS_LINES_DROPPED], 1);
}

static bool drain_ring(struct tele_shared *s, struct tele_ring *ring, uint32_t n_max, uint64_t *cells)
{
	struct foil_slice texts[TELE_TEXTS_MAX];
	for (uint32_t i = 0; i < n_max; i++) {
		const struct tele_event *e = tele_event_peek(ring, texts);
		if (!e)
			return false;
		if (s->log.path[0])
			log_event(s, e, texts, cells);
		tele_event_done(ring);
	}
	return true;
}

bool tele_turn(struct tele_shared *s, uint64_t now_us)
{
	uint64_t *cells = tele_shared_counters(s, FOIL_ROOM_TELE);
	bool is_more = false;
	for (uint16_t i = 0; i < s->p.n_workers; i++)
		is_more |= drain_ring(s, &s->rings[i], EVENTS_A_TURN / s->p.n_workers + 1, cells);
	(void)tele_log_flush(&s->log, cells); /* what is left waits for the next turn */
	tele_series_mark_idle(s, now_us);
	return is_more;
}
