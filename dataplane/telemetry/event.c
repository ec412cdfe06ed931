/* Access events on their way from a worker to housekeeping: one single-producer, single-consumer byte ring a worker, in this process's memory.
 *
 * The worker copies what a line may need and goes on; when there is no room the event is lost and counted. A record never wraps: where it would, a
 * filler takes the rest of the ring. Both indices only grow; the byte of index i is data[i % n_bytes].
 * Invariant: head - tail <= n_bytes; records are multiples of 8, so that a filler's head always fits. */
#include "dataplane/telemetry/tele_priv.h"

#define TEXT_BYTES_MAX (TELE_TEXT_ABSENT - 1)

struct record {
	uint32_t n_bytes; /* with this head */
	uint32_t is_filler;
};

static void texts_of(const struct tele_request *r, struct foil_slice out[TELE_TEXT_COUNT])
{
	out[TELE_TEXT_METHOD] = r->method;
	out[TELE_TEXT_PATH] = r->path;
	out[TELE_TEXT_ORIGINAL_PATH] = r->original_path;
	out[TELE_TEXT_AUTHORITY] = r->authority;
	out[TELE_TEXT_DETAILS] = r->details;
	out[TELE_TEXT_TERMINATION_DETAILS] = r->termination_details;
	out[TELE_TEXT_TRANSPORT_FAILURE] = r->transport_failure;
	out[TELE_TEXT_XFF] = r->xff;
	out[TELE_TEXT_USER_AGENT] = r->user_agent;
	out[TELE_TEXT_REQUEST_ID] = r->request_id;
	out[TELE_TEXT_SERVICE_TIME] = r->upstream_service_time;
	out[TELE_TEXT_SNI] = r->sni;
	out[TELE_TEXT_ROUTE_NAME] = r->route_name;
	out[TELE_TEXT_CLUSTER] = r->upstream_cluster;
}

/* Room for n_bytes in one piece, after a filler if need be; NULL when there is none. */
static uint8_t *reserve(struct tele_ctx *c, uint32_t n_bytes)
{
	struct tele_ring *ring = c->ring;
	uint32_t at = (uint32_t)c->ring_head & (ring->n_bytes - 1), rest = ring->n_bytes - at;
	uint64_t need = rest < n_bytes ? (uint64_t)rest + n_bytes : n_bytes;
	if (ring->n_bytes - (c->ring_head - c->ring_tail_seen) < need) {
		c->ring_tail_seen = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
		if (ring->n_bytes - (c->ring_head - c->ring_tail_seen) < need)
			return NULL;
	}
	if (rest < n_bytes) {
		*(struct record *)(void *)(ring->data + at) = (struct record){rest, 1};
		c->ring_head += rest;
		at = 0;
	}
	return ring->data + at;
}

void tele_event_put(struct foil_worker *w, const struct tele_request *r)
{
	struct tele_ctx *c = w->tele;
	struct foil_slice texts[TELE_TEXTS_MAX];
	size_t n = sizeof(struct record) + sizeof(struct tele_event);
	uint32_t n_captures = FOIL_MIN(r->n_captures, TELE_CAPTURES_MAX), n_texts = TELE_TEXT_COUNT + n_captures;
	texts_of(r, texts);
	if (n_captures)
		memcpy(&texts[TELE_TEXT_COUNT], r->captures, n_captures * sizeof(texts[0]));
	for (uint32_t i = 0; i < n_texts; i++) {
		texts[i].n_bytes = FOIL_MIN(texts[i].n_bytes, TEXT_BYTES_MAX);
		n += texts[i].n_bytes;
	}
	n = (n + 7) & ~(size_t)7;
	uint8_t *at = n <= c->ring->n_bytes / 2 ? reserve(c, (uint32_t)n) : NULL;
	if (!at) {
		foil_count(w, TELE, ACCESS_EVENTS_DROPPED, 1);
		return;
	}
	*(struct record *)(void *)at = (struct record){(uint32_t)n, 0};
	struct tele_event *e = (struct tele_event *)(void *)(at + sizeof(struct record));
	*e = (struct tele_event){
		.start_wall_us = r->start_wall_us, .duration_us = r->duration_us, .bytes_received = r->bytes_received, .bytes_sent = r->bytes_sent,
		.request_wire_bytes = r->request_wire_bytes, .response_wire_bytes = r->response_wire_bytes, .flags = r->flags,
		.upstream_host = r->upstream_host, .upstream_local = r->upstream_local, .downstream_local = r->downstream_local,
		.downstream_remote = r->downstream_remote, .attempts = r->attempts, .grpc_status = r->grpc_status, .status = r->status,
		.version = r->version, .is_tcp = r->is_tcp, .format_key = r->format_key, .n_captures = (uint16_t)n_captures};
	uint8_t *text = (uint8_t *)(e + 1);
	for (uint32_t i = 0; i < n_texts; i++) {
		uint16_t *bytes = i < TELE_TEXT_COUNT ? &e->text_bytes[i] : &e->capture_bytes[i - TELE_TEXT_COUNT];
		*bytes = texts[i].data ? (uint16_t)texts[i].n_bytes : TELE_TEXT_ABSENT;
		if (texts[i].n_bytes)
			memcpy(text, texts[i].data, texts[i].n_bytes);
		text += texts[i].n_bytes;
	}
	c->ring_head += n;
	__atomic_store_n(&c->ring->head, c->ring_head, __ATOMIC_RELEASE);
	foil_count(w, TELE, ACCESS_EVENTS, 1);
}

static const struct record *front(struct tele_ring *ring)
{
	for (;;) { /* twice at most: a filler is followed by a record */
		uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
		if (ring->tail == head)
			return NULL;
		const struct record *r = (const struct record *)(const void *)(ring->data + (ring->tail & (ring->n_bytes - 1)));
		if (!r->is_filler)
			return r;
		__atomic_store_n(&ring->tail, ring->tail + r->n_bytes, __ATOMIC_RELEASE);
	}
}

const struct tele_event *tele_event_peek(struct tele_ring *ring, struct foil_slice texts[TELE_TEXTS_MAX])
{
	const struct record *r = front(ring);
	if (!r)
		return NULL;
	const struct tele_event *e = (const struct tele_event *)(const void *)(r + 1);
	const char *text = (const char *)(e + 1);
	for (uint32_t i = 0; i < TELE_TEXT_COUNT + (uint32_t)e->n_captures; i++) {
		uint16_t n = i < TELE_TEXT_COUNT ? e->text_bytes[i] : e->capture_bytes[i - TELE_TEXT_COUNT];
		texts[i] = n == TELE_TEXT_ABSENT ? (struct foil_slice){NULL, 0} : foil_slice_of(text, n);
		text += n == TELE_TEXT_ABSENT ? 0 : n;
	}
	return e;
}

void tele_event_done(struct tele_ring *ring)
{
	const struct record *r = (const struct record *)(const void *)(ring->data + (ring->tail & (ring->n_bytes - 1)));
	__atomic_store_n(&ring->tail, ring->tail + r->n_bytes, __ATOMIC_RELEASE);
}
