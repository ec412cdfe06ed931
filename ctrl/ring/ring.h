/* One byte ring in shared memory: single producer, single consumer, frames with length, type, sequence number and CRC-32C (design.md section 6).
 *
 * Each end keeps its own index in its own memory and takes only the other's from the segment, checked against the size every time: nothing
 * that the other side writes can make us read or write outside the ring, loop, or use bytes that change under us (a frame is copied out
 * before it is looked at). A broken frame is not resynchronised: the channel is torn down and made again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_FRAME_BYTES_MAX (24u << 20) /* payload: a route table of 10,000 routes with all that a route can have */

/* In the segment. Indices only grow; the byte of index i is data[i % n_bytes]. */
struct ring_shared {
	_Alignas(64) uint64_t head; /* written by the producer */
	_Alignas(64) uint64_t tail; /* written by the consumer */
	_Alignas(64) uint64_t heartbeat; /* written by the producer: its turns, for status only */
};

enum ring_result {
	RING_OK,
	RING_EMPTY,     /* nothing there, or a frame not yet whole */
	RING_FULL,      /* no room now: again when the consumer has taken something */
	RING_TOO_LARGE, /* never fits */
	RING_BAD_INDEX, /* from here on: the other side is broken or hostile */
	RING_BAD_LENGTH,
	RING_BAD_SEQUENCE,
	RING_BAD_CRC,
	RING_RESULT_COUNT
};
const char *ring_result_text(enum ring_result r);

struct ring_producer {
	struct ring_shared *shared;
	uint8_t *data;
	uint64_t n_bytes, head, tail; /* tail: as last seen; it only grows */
	uint32_t sequence;
};
struct ring_consumer {
	struct ring_shared *shared;
	const uint8_t *data;
	uint64_t n_bytes, tail;
	uint32_t sequence;
	uint8_t *frame; /* the last one, ours */
	size_t frame_capacity;
};

/* data and n_bytes (a power of two) are of the mapping; shared is zeroed by the maker. */
void ring_producer_init(struct ring_producer *p, struct ring_shared *shared, void *data, uint64_t n_bytes);
void ring_consumer_init(struct ring_consumer *c, struct ring_shared *shared, const void *data, uint64_t n_bytes);
void ring_consumer_fini(struct ring_consumer *c);

/* RING_OK, RING_FULL, RING_TOO_LARGE or RING_BAD_INDEX. */
enum ring_result ring_put(struct ring_producer *p, uint16_t type, const void *payload, uint32_t n_bytes);
/* RING_OK: *payload is c's own copy until the next call. */
enum ring_result ring_take(struct ring_consumer *c, uint16_t *type, const uint8_t **payload, uint32_t *n_bytes);
