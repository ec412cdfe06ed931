/* The byte ring, see ring.h. A frame is 16 bytes of header and its payload, padded to 8, and may wrap at the end of the data.
 * Invariant: head - tail <= n_bytes, by our own index and a checked copy of the other's. */
#include "ctrl/ring/ring.h"

#include "dataplane/core/crc32c.h"

#include <stdlib.h>
#include <string.h>

struct frame_header {
	uint32_t length; /* of the payload */
	uint16_t type, zero;
	uint32_t sequence;
	uint32_t crc;    /* CRC-32C of the 12 bytes before and the payload */
};

#define HEADER_BYTES ((uint64_t)sizeof(struct frame_header))
#define PADDED(n) (((uint64_t)(n) + 7) & ~(uint64_t)7)

const char *ring_result_text(enum ring_result r)
{
	static const char *const texts[RING_RESULT_COUNT] = {
		"ok", "empty", "full", "frame larger than the ring takes", "index outside the ring", "frame length outside the ring",
		"frame out of sequence", "frame with a wrong CRC-32C",
	};
	return r < RING_RESULT_COUNT ? texts[r] : "unknown";
}

void ring_producer_init(struct ring_producer *p, struct ring_shared *shared, void *data, uint64_t n_bytes)
{
	*p = (struct ring_producer){.shared = shared, .data = data, .n_bytes = n_bytes};
}

void ring_consumer_init(struct ring_consumer *c, struct ring_shared *shared, const void *data, uint64_t n_bytes)
{
	*c = (struct ring_consumer){.shared = shared, .data = data, .n_bytes = n_bytes};
}

void ring_consumer_fini(struct ring_consumer *c)
{
	free(c->frame);
	c->frame = NULL;
	c->frame_capacity = 0;
}

static void copy_in(struct ring_producer *p, uint64_t at, const void *from, uint64_t n)
{
	uint64_t offset = at & (p->n_bytes - 1), first = p->n_bytes - offset;
	if (first > n)
		first = n;
	memcpy(p->data + offset, from, first);
	memcpy(p->data, (const uint8_t *)from + first, n - first);
}

static void copy_out(const struct ring_consumer *c, uint64_t at, void *to, uint64_t n)
{
	uint64_t offset = at & (c->n_bytes - 1), first = c->n_bytes - offset;
	if (first > n)
		first = n;
	memcpy(to, c->data + offset, first);
	memcpy((uint8_t *)to + first, c->data, n - first);
}

static uint32_t frame_crc(const struct frame_header *h, const void *payload)
{
	return foil_crc32c(foil_crc32c(0, h, offsetof(struct frame_header, crc)), payload, h->length);
}

enum ring_result ring_put(struct ring_producer *p, uint16_t type, const void *payload, uint32_t n_bytes)
{
	uint64_t need = HEADER_BYTES + PADDED(n_bytes);
	if (n_bytes > RING_FRAME_BYTES_MAX || need > p->n_bytes)
		return RING_TOO_LARGE;
	uint64_t tail = __atomic_load_n(&p->shared->tail, __ATOMIC_ACQUIRE);
	if (p->head - tail > p->head - p->tail) /* behind where it was, or ahead of the head */
		return RING_BAD_INDEX;
	p->tail = tail;
	if (p->n_bytes - (p->head - tail) < need)
		return RING_FULL;
	struct frame_header h = {.length = n_bytes, .type = type, .sequence = p->sequence};
	h.crc = frame_crc(&h, payload);
	copy_in(p, p->head, &h, HEADER_BYTES);
	if (n_bytes)
		copy_in(p, p->head + HEADER_BYTES, payload, n_bytes);
	p->sequence++;
	p->head += need;
	__atomic_store_n(&p->shared->head, p->head, __ATOMIC_RELEASE);
	return RING_OK;
}

static bool reserve_frame(struct ring_consumer *c, size_t n_bytes)
{
	if (n_bytes <= c->frame_capacity)
		return true;
	size_t capacity = c->frame_capacity ? c->frame_capacity : 4096;
	while (capacity < n_bytes)
		capacity *= 2; /* n_bytes is at most RING_FRAME_BYTES_MAX */
	uint8_t *bigger = realloc(c->frame, capacity);
	if (!bigger)
		return false;
	c->frame = bigger;
	c->frame_capacity = capacity;
	return true;
}

enum ring_result ring_take(struct ring_consumer *c, uint16_t *type, const uint8_t **payload, uint32_t *n_bytes)
{
	uint64_t head = __atomic_load_n(&c->shared->head, __ATOMIC_ACQUIRE), used = head - c->tail;
	struct frame_header h;
	if (used > c->n_bytes)
		return RING_BAD_INDEX;
	if (used == 0)
		return RING_EMPTY;
	if (used < HEADER_BYTES)
		return RING_BAD_LENGTH;
	copy_out(c, c->tail, &h, HEADER_BYTES);
	if (h.length > RING_FRAME_BYTES_MAX || used < HEADER_BYTES + PADDED(h.length))
		return RING_BAD_LENGTH;
	if (h.sequence != c->sequence)
		return RING_BAD_SEQUENCE;
	if (!reserve_frame(c, h.length))
		return RING_EMPTY; /* no memory now: again at the next call */
	if (h.length)
		copy_out(c, c->tail + HEADER_BYTES, c->frame, h.length);
	if (frame_crc(&h, c->frame) != h.crc)
		return RING_BAD_CRC;
	c->sequence++;
	c->tail += HEADER_BYTES + PADDED(h.length);
	__atomic_store_n(&c->shared->tail, c->tail, __ATOMIC_RELEASE);
	*type = h.type;
	*payload = c->frame;
	*n_bytes = h.length;
	return RING_OK;
}
