/* What a finished request or a TCP connection counts: Istio's standard metrics (features.md TM-1..TM-5), and the cells that mesh keeps.
 *
 * The fast path hashes the facts that labels are made of, finds the worker's record by that hash and adds to a few cells of it. Label texts are made
 * only when a record is new. The hash is over the facts and not over addresses: labels outlive snapshots, addresses are used again. */
#include "dataplane/telemetry/tele_priv.h"

#include <stdio.h>

#define NUMBER_BYTES 24
#define FLAGS_BYTES 192

const double tele_istio_bounds[TELE_BUCKETS] = {0.5,  1,    5,     10,    25,    50,     100,    250,     500,    1000,
						 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};
/* The same for whole numbers: bytes, and microseconds for a histogram of milliseconds. */
static const uint64_t bounds_bytes[TELE_BUCKETS] = {0,    1,    5,     10,    25,    50,     100,    250,     500,    1000,
						    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};
static const uint64_t bounds_us[TELE_BUCKETS] = {500,     1000,    5000,     10000,    25000,    50000,     100000,    250000,     500000,    1000000,
						 2500000, 5000000, 10000000, 30000000, 60000000, 300000000, 600000000, 1800000000, 3600000000};

#define PEER_AND_SERVICE_LABELS                                                                                                               \
	"reporter", "source_workload", "source_canonical_service", "source_canonical_revision", "source_workload_namespace",                  \
		"source_principal", "source_app", "source_version", "source_cluster", "destination_workload", "destination_workload_namespace", \
		"destination_principal", "destination_app", "destination_version", "destination_service", "destination_canonical_service",    \
		"destination_canonical_revision", "destination_service_name", "destination_service_namespace", "destination_cluster",         \
		"request_protocol", "response_flags", "connection_security_policy"
const char *const tele_http_labels[] = {PEER_AND_SERVICE_LABELS, "response_code", "grpc_response_status"};
const char *const tele_tcp_labels[] = {PEER_AND_SERVICE_LABELS};
static_assert(FOIL_COUNT_OF(tele_http_labels) == TELE_HTTP_LABELS, "as many names as values");
static_assert(FOIL_COUNT_OF(tele_tcp_labels) == TELE_TCP_LABELS, "as many names as values");

static const struct tele_peer unknown_peer;
static const struct tele_service unknown_service;

/* ---- labels */

static uint64_t hash_slice(uint64_t h, struct foil_slice s)
{
	return tele_hash(h, s.data, s.n_bytes);
}

static uint64_t hash_peer(uint64_t h, const struct tele_peer *p)
{
	if (!p)
		return tele_hash_u64(h, 1);
	h = hash_slice(h, p->workload);
	h = hash_slice(h, p->workload_namespace);
	h = hash_slice(h, p->canonical_service);
	h = hash_slice(h, p->canonical_revision);
	h = hash_slice(h, p->app);
	h = hash_slice(h, p->version);
	h = hash_slice(h, p->cluster_id);
	return hash_slice(h, p->principal);
}

static uint64_t word_of(const struct tele_request *r)
{
	return (uint64_t)r->protocol << 40 | (uint64_t)r->reporter_is_destination << 33 | (uint64_t)r->is_mutual_tls << 32 | (uint64_t)r->status << 16 |
	       (uint16_t)r->grpc_status;
}

static uint64_t hash_request(uint64_t key, uint32_t class_index, const struct tele_request *r)
{
	uint64_t h = tele_hash_u64(key, class_index);
	h = tele_hash_u64(h, word_of(r));
	h = tele_hash_u64(h, r->flags);
	h = hash_peer(h, r->source);
	h = hash_peer(h, r->destination);
	if (!r->service)
		return tele_hash_u64(h, 1);
	h = hash_slice(h, r->service->host);
	h = hash_slice(h, r->service->name);
	return hash_slice(h, r->service->ns);
}

static struct foil_slice known(struct foil_slice s)
{
	return s.n_bytes ? s : FOIL_SLICE("unknown");
}

static struct foil_slice protocol_word(const struct tele_request *r)
{
	switch (r->protocol) {
	case TELE_PROTOCOL_HTTP: return FOIL_SLICE("http");
	case TELE_PROTOCOL_GRPC: return FOIL_SLICE("grpc");
	case TELE_PROTOCOL_TCP: return FOIL_SLICE("tcp");
	}
	FOIL_UNREACHABLE();
}

static struct foil_slice security_policy(const struct tele_request *r)
{
	if (r->is_mutual_tls)
		return FOIL_SLICE("mutual_tls");
	return r->reporter_is_destination ? FOIL_SLICE("none") : FOIL_SLICE("unknown"); /* TM-4 */
}

struct label_room {
	char flags[FLAGS_BYTES], code[NUMBER_BYTES], grpc[NUMBER_BYTES];
};

static struct foil_slice number(char *room, int n)
{
	int len = snprintf(room, NUMBER_BYTES, "%d", n);
	return foil_slice_of(room, (size_t)len);
}

/* In the order of tele_http_labels. Returns how many. */
static uint32_t label_values(const struct tele_request *r, struct foil_slice *out, struct label_room *room)
{
	const struct tele_peer *from = r->source ? r->source : &unknown_peer, *to = r->destination ? r->destination : &unknown_peer;
	const struct tele_service *service = r->service ? r->service : &unknown_service;
	const struct foil_slice values[TELE_TCP_LABELS] = {
		r->reporter_is_destination ? FOIL_SLICE("destination") : FOIL_SLICE("source"), known(from->workload),
		known(from->canonical_service), known(from->canonical_revision), known(from->workload_namespace), known(from->principal),
		known(from->app), known(from->version), known(from->cluster_id), known(to->workload), known(to->workload_namespace),
		known(to->principal), known(to->app), known(to->version), known(service->host), known(to->canonical_service),
		known(to->canonical_revision), known(service->name), known(service->ns), known(to->cluster_id), protocol_word(r),
		foil_slice_of(room->flags, tele_flags_text(r->flags, r->is_tcp, room->flags, sizeof(room->flags))), security_policy(r)};
	memcpy(out, values, sizeof(values));
	if (r->is_tcp)
		return TELE_TCP_LABELS;
	out[TELE_TCP_LABELS] = number(room->code, r->status);
	out[TELE_TCP_LABELS + 1] = r->grpc_status >= 0 ? number(room->grpc, r->grpc_status) : (struct foil_slice){"", 0};
	return TELE_HTTP_LABELS;
}

/* By the texts that labels are made of. */
static uint32_t index_of(struct foil_worker *w, uint32_t class_index, const struct tele_request *r)
{
	uint64_t hash = hash_request(w->tele->key, class_index, r);
	uint32_t i = tele_series_find(w, class_index, hash);
	if (FOIL_UNLIKELY(i == TELE_NO_SERIES)) {
		struct foil_slice values[TELE_HTTP_LABELS];
		struct label_room room;
		uint32_t n = label_values(r, values, &room);
		i = tele_series_make(w, class_index, hash, &(struct tele_series_text){values, n, n, TELE_SEGMENT_COUNTER});
	}
	return i;
}

static bool is_remembered(const struct tele_memo *m, uint32_t class_index, const struct tele_request *r)
{
	return m->generation == r->facts_generation && m->destination == r->destination && m->service == r->service && m->source == r->source &&
	       m->word == word_of(r) && m->flags == r->flags && m->class_index == class_index;
}

/* Facts do not change while their configuration lives, and no two have a generation: so the same addresses lead to the record of last time. */
static uint32_t remembered_index(struct foil_worker *w, uint32_t class_index, const struct tele_request *r)
{
	uint64_t at = tele_fold((uintptr_t)r->destination ^ r->flags ^ r->facts_generation, (word_of(r) ^ (uintptr_t)r->source << 1) | 1u);
	struct tele_memo *m = &w->tele->memos[(at >> 32 ^ at) % TELE_MEMOS];
	if (FOIL_LIKELY(is_remembered(m, class_index, r))) {
		tele_series_touch(w, &w->tele->tables[class_index], m->index);
		return m->index;
	}
	uint32_t i = index_of(w, class_index, r);
	if (i != TELE_OVERFLOW_INDEX)
		*m = (struct tele_memo){.generation = r->facts_generation, .source = r->source, .destination = r->destination, .service = r->service,
					.word = word_of(r), .flags = r->flags, .class_index = class_index, .index = i};
	return i;
}

static uint64_t *cells_of(struct foil_worker *w, uint32_t class_index, const struct tele_request *r)
{
	uint32_t i = r->facts_generation ? remembered_index(w, class_index, r) : index_of(w, class_index, r);
	return tele_record_cells(tele_table_record(&w->tele->tables[class_index], i));
}

/* ---- counting */

static void observe(uint64_t *cells, const uint64_t *bounds, uint64_t value)
{
	uint32_t i = 0;
	while (i < TELE_BUCKETS && value > bounds[i])
		i++;
	tele_cell_add(&cells[0], value);
	tele_cell_add(&cells[1 + i], 1);
}

static void count_http(struct foil_worker *w, const struct tele_request *r)
{
	uint64_t *cells = cells_of(w, TELE_CLASS_HTTP, r);
	tele_cell_add(&cells[TELE_HTTP_REQUESTS], 1);
	observe(&cells[TELE_HTTP_DURATION], bounds_us, r->duration_us);
	observe(&cells[TELE_HTTP_REQUEST_BYTES], bounds_bytes, r->bytes_received);
	observe(&cells[TELE_HTTP_RESPONSE_BYTES], bounds_bytes, r->bytes_sent);
	if (r->request_messages)
		tele_cell_add(&cells[TELE_HTTP_REQUEST_MESSAGES], r->request_messages);
	if (r->response_messages)
		tele_cell_add(&cells[TELE_HTTP_RESPONSE_MESSAGES], r->response_messages);
}

static void count_tcp_close(struct foil_worker *w, const struct tele_request *r)
{
	uint64_t *cells = cells_of(w, TELE_CLASS_TCP, r);
	tele_cell_add(&cells[TELE_TCP_CLOSED], 1);
	if (r->bytes_sent > r->bytes_sent_counted)
		tele_cell_add(&cells[TELE_TCP_SENT], r->bytes_sent - r->bytes_sent_counted);
	if (r->bytes_received > r->bytes_received_counted)
		tele_cell_add(&cells[TELE_TCP_RECEIVED], r->bytes_received - r->bytes_received_counted);
}

void tele_request_done(struct foil_worker *w, const struct tele_request *r)
{
	if (!w->tele)
		return;
	if (r->is_tcp)
		count_tcp_close(w, r);
	else
		count_http(w, r);
	if (r->log)
		tele_event_put(w, r);
}

void tele_tcp_opened(struct foil_worker *w, const struct tele_request *r)
{
	if (w->tele)
		tele_cell_add(&cells_of(w, TELE_CLASS_TCP, r)[TELE_TCP_OPENED], 1);
}

void tele_tcp_bytes(struct foil_worker *w, const struct tele_request *r, uint64_t received, uint64_t sent)
{
	if (!w->tele || (!received && !sent))
		return;
	uint64_t *cells = cells_of(w, TELE_CLASS_TCP, r);
	tele_cell_add(&cells[TELE_TCP_RECEIVED], received);
	tele_cell_add(&cells[TELE_TCP_SENT], sent);
}

/* ---- cells of mesh's own */

#define CELL_LABELS_MAX 8u

uint64_t *tele_cell(struct foil_worker *w, const char *metric, const struct tele_label *labels, uint32_t n_labels)
{
	struct foil_slice pieces[1 + 2 * CELL_LABELS_MAX] = {foil_slice_str(metric)};
	if (!w->tele)
		return &w->why[FOIL_ROOM_TELE][0]; /* telemetry has no reasons: a cell that nobody reads */
	FOIL_ASSERT(n_labels <= CELL_LABELS_MAX);
	uint64_t hash = hash_slice(tele_hash_u64(w->tele->key, TELE_CLASS_CELL), pieces[0]);
	for (uint32_t i = 0; i < n_labels; i++) {
		pieces[1 + 2 * i] = labels[i].name;
		pieces[2 + 2 * i] = labels[i].value;
		hash = hash_slice(hash_slice(hash, labels[i].name), labels[i].value);
	}
	struct tele_table *t = &w->tele->tables[TELE_CLASS_CELL];
	uint32_t i = tele_series_find(w, TELE_CLASS_CELL, hash);
	if (i == TELE_NO_SERIES) {
		bool is_counter = foil_slice_has_suffix(pieces[0], FOIL_SLICE("_total"));
		i = tele_series_make(w, TELE_CLASS_CELL, hash,
				     &(struct tele_series_text){pieces, 1 + 2 * n_labels, n_labels, is_counter ? TELE_SEGMENT_COUNTER : TELE_SEGMENT_GAUGE});
	}
	t->refs[i]++;
	return tele_record_cells(tele_table_record(t, i));
}

void tele_cell_put(struct foil_worker *w, uint64_t *cell)
{
	if (!cell || !w->tele)
		return;
	struct tele_table *t = &w->tele->tables[TELE_CLASS_CELL];
	size_t at = (size_t)((uint8_t *)cell - t->records);
	uint32_t i = (uint32_t)(at / t->record_bytes);
	FOIL_ASSERT(i < t->n_records && t->refs[i] > 0);
	t->refs[i]--;
	__atomic_store_n(&tele_table_record(t, i)->used_us, w->now_us, __ATOMIC_RELAXED);
}
