/* One direction of the wire: what becomes of each frame. Pure but for the frames' memory: time comes in, chance comes from a seed.
 * A frame meets, in this order: the link that is down, the black hole, loss, a flipped bit, the queue before the bottleneck (and its
 * congestion mark), the bottleneck's rate, the delay, and the chance of being overtaken or doubled. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/core/prng.h"

#define WIRE_FRAME_BYTES_MAX 9728u /* a jumbo frame with a VLAN tag */
#define WIRE_FRAMES_MAX 16384u     /* under way in one direction */
#define WIRE_CHANCE_ALWAYS 1000000u

struct wire_spec { /* chances in millionths, times in ns */
	uint32_t loss, burst, burst_frames, corrupt, dup, reorder;
	uint32_t black_hole_bytes; /* longer frames vanish; 0: none */
	uint32_t queue_bytes;      /* before the bottleneck; 0: without end */
	uint32_t mark_bytes;       /* a queue longer than this marks what may be marked (RFC 3168); 0: never */
	uint64_t rate_bps;         /* 0: as fast as they come */
	uint64_t delay_ns, jitter_ns, reorder_ns;
	uint64_t down_at_ns, down_for_ns;
};

struct wire_counts {
	uint64_t in, out, bytes, lost, doubled, reordered, corrupted, marked, queue_full, black_holed, down, send_errors;
};

struct wire_frame {
	uint64_t at_ns, number; /* when it leaves; of equal times the earlier first */
	uint8_t *data;
	uint32_t n_bytes;
};

struct wire {
	struct wire_spec spec;
	struct wire_counts counts;
	struct foil_prng prng;
	uint64_t begin_ns, free_at_ns /* when the bottleneck has sent all it has */, last_at_ns, n_frames_seen;
	uint32_t burst_left;
	uint32_t n_heap, n_idle;
	struct wire_frame heap[WIRE_FRAMES_MAX]; /* the next to leave first */
	uint8_t *idle[WIRE_FRAMES_MAX + 1];      /* buffers of WIRE_FRAME_BYTES_MAX that nobody has */
};

/* "loss=1,delay=20,rate=100": false and a sentence on stderr for what is no specification. Keys: README.md. */
bool wire_spec_parse(const char *text, struct wire_spec *out);
void wire_init(struct wire *w, const struct wire_spec *spec, uint64_t seed, uint64_t now_ns, uint8_t *own_buffers);
/* A buffer to receive the next frame into; never NULL: the heap takes one less than there are. */
uint8_t *wire_buffer(struct wire *w);
/* The frame in a buffer of wire_buffer's has arrived; the buffer is the wire's again. */
void wire_take(struct wire *w, uint8_t *own_frame, uint32_t n_bytes, uint64_t at_ns);
/* The next frame that is due by now_ns, or NULL; it goes back by wire_done. */
const struct wire_frame *wire_due(const struct wire *w, uint64_t now_ns);
void wire_done(struct wire *w);
