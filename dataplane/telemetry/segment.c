/* Makes the metrics segment (segment.h) and writes all of it that never changes: header, directory, families, strings. Set-up only.
 * Invariant: whatever is below header.fixed_offset is final before anyone can get the descriptor. */
#include "dataplane/telemetry/tele_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010 /* Linux 5.1 */
#endif

#define CELLS_A_LINE 8u
#define NAME_BYTES_MAX 160

struct plan {
	struct tele_segment_entry *entries;
	uint32_t n_entries, n_cells;
	struct tele_segment_family families[TELE_SEGMENT_CLASSES];
	char *strings;
	uint32_t n_string_bytes, n_string_room;
	bool is_short;
};

static struct tele_segment_string put_string(struct plan *p, const char *text)
{
	size_t n = text ? strlen(text) : 0;
	if (n > p->n_string_room - p->n_string_bytes) {
		p->is_short = true;
		return (struct tele_segment_string){0};
	}
	struct tele_segment_string at = {p->n_string_bytes, (uint32_t)n};
	if (n)
		memcpy(p->strings + p->n_string_bytes, text, n);
	p->n_string_bytes += (uint32_t)n;
	return at;
}

/* foil_<room>_<name in lower case><suffix> */
static struct tele_segment_string put_name(struct plan *p, const char *room, const char *name, const char *suffix)
{
	char text[NAME_BYTES_MAX];
	int n = snprintf(text, sizeof(text), "foil_%s_%s%s", room, name, suffix);
	if (n < 0 || (size_t)n >= sizeof(text))
		p->is_short = true;
	for (char *c = text; *c; c++)
		*c = foil_ascii_lower(*c);
	return put_string(p, text);
}

static void plan_counters(struct plan *p, const struct foil_room_desc *r)
{
	for (uint16_t i = 0; i < r->n_counters; i++) {
		const struct foil_counter_desc *d = &r->counters[i];
		p->entries[p->n_entries++] = (struct tele_segment_entry){
			.name = put_name(p, r->name, d->name, d->kind == FOIL_COUNTER ? "_total" : ""), .help = put_string(p, d->help),
			.kind = d->kind == FOIL_COUNTER ? TELE_SEGMENT_COUNTER : TELE_SEGMENT_GAUGE, .cell = p->n_cells + i};
	}
}

/* Kind by kind, so that one metric's entries follow one another. */
static void plan_reasons(struct plan *p, const struct foil_room_desc *r)
{
	static const struct {
		const char *word, *help;
	} kinds[] = {
		[FOIL_REASON_DROP] = {"drops", "What was dropped, by reason"}, [FOIL_REASON_RESET] = {"resets", "What was reset, by reason"},
		[FOIL_REASON_CHALLENGE] = {"challenges", "What was answered by a challenge, by reason"},
		[FOIL_REASON_REFUSE] = {"refusals", "What was refused, by reason"},
		[FOIL_REASON_REPLY] = {"replies", "Replies of our own, by reason"}, [FOIL_REASON_NOTE] = {"notes", "What happened, by reason"}};
	for (uint32_t k = 0; k < FOIL_COUNT_OF(kinds); k++) {
		struct tele_segment_string name = {0}, help = {0}, label = {0};
		for (uint16_t i = 0; i < r->n_reasons; i++) {
			if ((uint32_t)r->reasons[i].kind != k)
				continue;
			if (!name.n_bytes) {
				name = put_name(p, r->name, kinds[k].word, "_total");
				help = put_string(p, kinds[k].help);
				label = put_string(p, "reason");
			}
			p->entries[p->n_entries++] = (struct tele_segment_entry){
				.name = name, .help = help, .label_name = label, .label_value = put_string(p, r->reasons[i].name),
				.kind = TELE_SEGMENT_COUNTER, .cell = p->n_cells + i};
		}
	}
}

static uint32_t whole_lines(uint32_t n_cells)
{
	return (n_cells + CELLS_A_LINE - 1) / CELLS_A_LINE * CELLS_A_LINE;
}

static void plan_room(struct tele_shared *s, struct plan *p, const struct foil_room_desc *r)
{
	s->is_described[r->room] = true;
	s->room_cell[r->room][0] = p->n_cells;
	s->room_cells[r->room][0] = r->n_counters;
	plan_counters(p, r);
	p->n_cells += whole_lines(r->n_counters);
	s->room_cell[r->room][1] = p->n_cells;
	s->room_cells[r->room][1] = r->n_reasons;
	plan_reasons(p, r);
	p->n_cells += whole_lines(r->n_reasons);
}

static struct tele_segment_metric counter(struct plan *p, const char *name, const char *help, uint32_t cell)
{
	return (struct tele_segment_metric){.name = put_string(p, name), .help = put_string(p, help), .kind = TELE_SEGMENT_COUNTER, .cell = cell};
}

static struct tele_segment_metric sparse_counter(struct plan *p, const char *name, const char *help, uint32_t cell)
{
	struct tele_segment_metric m = counter(p, name, help, cell);
	m.is_sparse = true;
	return m;
}

static struct tele_segment_metric histogram(struct plan *p, const char *name, const char *help, uint32_t cell, double sum_scale)
{
	struct tele_segment_metric m = counter(p, name, help, cell);
	m.kind = TELE_SEGMENT_HISTOGRAM;
	m.n_buckets = TELE_BUCKETS;
	m.sum_scale = sum_scale;
	memcpy(m.bounds, tele_istio_bounds, sizeof(tele_istio_bounds));
	return m;
}

static void put_labels(struct plan *p, struct tele_segment_family *f, const char *const *names, uint32_t n)
{
	f->n_labels = n;
	for (uint32_t i = 0; i < n; i++)
		f->label_names[i] = put_string(p, names[i]);
}

static void plan_families(struct plan *p)
{
	struct tele_segment_family *http = &p->families[TELE_CLASS_HTTP], *tcp = &p->families[TELE_CLASS_TCP];
	http->class_index = TELE_CLASS_HTTP;
	put_labels(p, http, tele_http_labels, TELE_HTTP_LABELS);
	http->metrics[http->n_metrics++] = counter(p, "istio_requests_total", "Requests that ended", TELE_HTTP_REQUESTS);
	http->metrics[http->n_metrics++] = histogram(p, "istio_request_duration_milliseconds", "From a request's first byte to its answer's last",
						     TELE_HTTP_DURATION, 0.001);
	http->metrics[http->n_metrics++] = histogram(p, "istio_request_bytes", "Size of request bodies", TELE_HTTP_REQUEST_BYTES, 1);
	http->metrics[http->n_metrics++] = histogram(p, "istio_response_bytes", "Size of response bodies", TELE_HTTP_RESPONSE_BYTES, 1);
	http->metrics[http->n_metrics++] = sparse_counter(p, "istio_request_messages_total", "gRPC messages of requests", TELE_HTTP_REQUEST_MESSAGES);
	http->metrics[http->n_metrics++] = sparse_counter(p, "istio_response_messages_total", "gRPC messages of answers", TELE_HTTP_RESPONSE_MESSAGES);
	tcp->class_index = TELE_CLASS_TCP;
	put_labels(p, tcp, tele_tcp_labels, TELE_TCP_LABELS);
	tcp->metrics[tcp->n_metrics++] = counter(p, "istio_tcp_connections_opened_total", "TCP connections opened", TELE_TCP_OPENED);
	tcp->metrics[tcp->n_metrics++] = counter(p, "istio_tcp_connections_closed_total", "TCP connections closed", TELE_TCP_CLOSED);
	tcp->metrics[tcp->n_metrics++] = counter(p, "istio_tcp_sent_bytes_total", "Bytes sent to clients of TCP connections", TELE_TCP_SENT);
	tcp->metrics[tcp->n_metrics++] = counter(p, "istio_tcp_received_bytes_total", "Bytes received from clients of TCP connections",
						 TELE_TCP_RECEIVED);
	p->families[TELE_CLASS_CELL].class_index = TELE_CLASS_CELL;
}

static int plan_all(struct tele_shared *s, struct plan *p, struct foil_blob *mem, const struct foil_room_desc *const *rooms, size_t n_rooms,
		    struct foil_error *err)
{
	size_t n_entries = tele_room_desc.n_counters;
	for (size_t i = 0; i < n_rooms; i++)
		n_entries += (size_t)rooms[i]->n_counters + rooms[i]->n_reasons;
	p->n_string_room = (uint32_t)(n_entries * 2 * NAME_BYTES_MAX + 16384);
	if (n_entries > TELE_SEGMENT_ENTRIES_MAX || p->n_string_room > TELE_SEGMENT_STRING_BYTES_MAX)
		return foil_error_set(err, -E2BIG, "%zu counters are more than the metrics segment takes", n_entries);
	p->entries = foil_blob_array(mem, n_entries, sizeof(*p->entries));
	p->strings = foil_blob_alloc(mem, p->n_string_room);
	if (!p->entries || !p->strings)
		return foil_error_set(err, -ENOMEM, "no memory for the metrics segment's directory");
	for (size_t i = 0; i < n_rooms; i++)
		if (!s->is_described[rooms[i]->room])
			plan_room(s, p, rooms[i]);
	if (!s->is_described[FOIL_ROOM_TELE])
		plan_room(s, p, &tele_room_desc);
	plan_families(p);
	return p->is_short ? foil_error_set(err, -E2BIG, "a counter's name or help is too long for the metrics segment") : 0;
}

static uint64_t align_to(uint64_t at, uint64_t n)
{
	return (at + n - 1) / n * n;
}

static struct tele_segment_class class_of(uint32_t n_records, uint32_t n_cells, uint32_t text_bytes, uint64_t *at)
{
	struct tele_segment_class c = {.n_records = n_records + 1, .n_cells = n_cells, .text_bytes = text_bytes, .offset = *at,
				       .record_bytes = (uint32_t)sizeof(struct tele_segment_series) + n_cells * 8 + text_bytes};
	*at += (uint64_t)c.n_records * c.record_bytes;
	return c;
}

static struct tele_segment_header lay_out(const struct tele_shared *s, const struct plan *p)
{
	struct tele_segment_header h = {.magic = TELE_SEGMENT_MAGIC, .abi = TELE_SEGMENT_ABI, .header_bytes = sizeof(h), .n_workers = s->p.n_workers,
					.n_slots = s->p.n_workers + 1u, .n_entries = p->n_entries, .n_families = TELE_SEGMENT_CLASSES,
					.n_string_bytes = p->n_string_bytes, .n_fixed_cells = p->n_cells};
	uint64_t region = sizeof(struct tele_segment_region_head);
	h.classes[TELE_CLASS_HTTP] = class_of(s->p.series_http_max, TELE_HTTP_CELLS, 1472, &region);
	h.classes[TELE_CLASS_TCP] = class_of(s->p.series_tcp_max, TELE_TCP_CELLS, 1408, &region);
	h.classes[TELE_CLASS_CELL] = class_of(s->p.series_cell_max, CELLS_A_LINE, 384, &region);
	h.directory_offset = align_to(sizeof(h), 64);
	h.families_offset = align_to(h.directory_offset + p->n_entries * sizeof(struct tele_segment_entry), 64);
	h.strings_offset = align_to(h.families_offset + sizeof(p->families), 64);
	h.fixed_offset = align_to(h.strings_offset + p->n_string_bytes, 4096);
	h.fixed_stride_bytes = align_to((uint64_t)p->n_cells * 8, 64);
	h.regions_offset = align_to(h.fixed_offset + h.fixed_stride_bytes * h.n_slots, 4096);
	h.region_stride_bytes = align_to(region, 4096);
	h.total_bytes = h.regions_offset + h.region_stride_bytes * h.n_workers;
	return h;
}

static int map_new(struct tele_shared *s, uint64_t n_bytes, struct foil_error *err)
{
	s->fd = memfd_create("hydrofoil-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (s->fd < 0 || ftruncate(s->fd, (off_t)n_bytes) < 0)
		return foil_error_set(err, -errno, "cannot make the metrics segment of %llu bytes: %s", (unsigned long long)n_bytes, strerror(errno));
	void *map = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (map == MAP_FAILED)
		return foil_error_set(err, -errno, "cannot map the metrics segment of %llu bytes: %s", (unsigned long long)n_bytes, strerror(errno));
	s->map = map;
	s->n_map_bytes = n_bytes;
	return 0;
}

/* Nobody resizes it, and nobody but this mapping writes it. A kernel before 5.1 knows no seal for the latter: then readers are only asked to. */
static int seal(const struct tele_shared *s, struct foil_error *err)
{
	int sizes = F_SEAL_SHRINK | F_SEAL_GROW;
	if (fcntl(s->fd, F_ADD_SEALS, sizes | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0)
		return 0;
	if (errno == EINVAL && fcntl(s->fd, F_ADD_SEALS, sizes | F_SEAL_SEAL) == 0)
		return 0;
	return foil_error_set(err, -errno, "cannot seal the metrics segment: %s", strerror(errno));
}

int tele_segment_new(struct tele_shared *s, const struct foil_room_desc *const *rooms, size_t n_rooms, struct foil_error *err)
{
	struct foil_blob scratch = {0};
	struct plan p = {0};
	struct stat st;
	int rc = plan_all(s, &p, &scratch, rooms, n_rooms, err);
	if (rc < 0)
		goto out;
	struct tele_segment_header h = lay_out(s, &p);
	if (h.total_bytes > TELE_SEGMENT_BYTES_MAX) {
		rc = foil_error_set(err, -E2BIG, "a metrics segment of %llu bytes is too large; fewer series or workers",
				    (unsigned long long)h.total_bytes);
		goto out;
	}
	rc = map_new(s, h.total_bytes, err);
	if (rc < 0)
		goto out;
	if (fstat(s->fd, &st) == 0) /* tells this segment from the ones before and after */
		h.generation = (uint64_t)st.st_ino << 40 ^ (uint64_t)st.st_ctim.tv_sec << 20 ^ (uint64_t)st.st_ctim.tv_nsec;
	memcpy(s->map + h.directory_offset, p.entries, p.n_entries * sizeof(*p.entries));
	memcpy(s->map + h.families_offset, p.families, sizeof(p.families));
	memcpy(s->map + h.strings_offset, p.strings, p.n_string_bytes);
	memcpy(s->map, &h, sizeof(h));
	s->header = (struct tele_segment_header *)(void *)s->map;
	rc = seal(s, err);
out:
	foil_blob_free(&scratch);
	return rc;
}

void tele_segment_free(struct tele_shared *s)
{
	if (s->map)
		(void)munmap(s->map, s->n_map_bytes); /* cannot fail for a mapping of ours */
	if (s->fd >= 0)
		(void)close(s->fd); /* readers keep theirs */
	s->map = NULL;
	s->fd = -1;
}

uint64_t *tele_segment_cells(const struct tele_shared *s, uint32_t slot)
{
	return (uint64_t *)(void *)(s->map + s->header->fixed_offset + slot * s->header->fixed_stride_bytes);
}

uint8_t *tele_segment_region(const struct tele_shared *s, uint32_t worker)
{
	return s->map + s->header->regions_offset + worker * s->header->region_stride_bytes;
}
