/* The segment as a hostile agent could write it: indices and bytes of a ring from the input, frames of it to the receiver of updates. The
 * consumer must stop at a broken frame, never read outside, never loop; whatever is a frame goes to the receiver. A second
 * mode makes the frames valid, so that the receiver sees more than the CRC lets through. */
#include <stdlib.h>
#include <string.h>

#include "ctrl/ring/names.h"
#include "ctrl/ring/receiver.h"

#define RING_BYTES 4096u
#define BUDGET_BYTES 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct ring_update *u)
{
	size_t n = 0;
	for (size_t i = 0; i < u->n_resources; i++)
		n += strlen(u->resources[i].name) + (u->resources[i].n_bytes ? u->resources[i].bytes[u->resources[i].n_bytes - 1] & 1u : 0);
	if (n > BUDGET_BYTES)
		abort();
}

/* Questions and answers about names, which do not go to the receiver. */
static void feed_names(const uint8_t *payload, uint32_t n)
{
	struct ring_name_answer a;
	char name[RING_NAME_BYTES];
	if (ring_name_question_read(payload, n, name) && !ring_name_is_good(name))
		abort();
	if (ring_name_answer_read(payload, n, &a) && (!ring_name_is_good(a.name) || a.n_addresses > RING_NAME_ADDRESSES_MAX))
		abort();
}

static bool feed(struct ring_receiver *r, uint16_t type, const uint8_t *payload, uint32_t n)
{
	struct ring_update u;
	char reason[RING_REASON_BYTES];
	enum ring_receive got = ring_receiver_frame(r, type, payload, n, &u, reason);
	feed_names(payload, n);
	if (got == RING_RECEIVE_UPDATE)
		check(&u);
	if ((got == RING_RECEIVE_PROTOCOL || got == RING_RECEIVE_REFUSED) && !reason[0])
		abort();
	return got != RING_RECEIVE_PROTOCOL;
}

static void as_segment(const uint8_t *data, size_t size, struct ring_receiver *r)
{
	struct ring_shared *shared = aligned_alloc(64, sizeof(*shared));
	uint8_t *ring = malloc(RING_BYTES); /* of its own, so that a step outside is seen */
	struct ring_consumer c;
	uint64_t head = 0;
	if (!shared || !ring)
		abort();
	memset(shared, 0, sizeof(*shared));
	memset(ring, 0, RING_BYTES);
	memcpy(&head, data, size < 8 ? size : 8);
	shared->head = head;
	if (size > 8)
		memcpy(ring, data + 8, size - 8 < RING_BYTES ? size - 8 : RING_BYTES);
	ring_consumer_init(&c, shared, ring, RING_BYTES);
	for (unsigned int i = 0; i < 2 * RING_BYTES / 16; i++) {
		uint16_t type;
		const uint8_t *payload;
		uint32_t n;
		if (ring_take(&c, &type, &payload, &n) != RING_OK || !feed(r, type, payload, n))
			break;
	}
	ring_consumer_fini(&c);
	free(ring);
	free(shared);
}

/* type (1), length (1), payload, again and again. */
static void as_frames(const uint8_t *data, size_t size, struct ring_receiver *r)
{
	for (size_t at = 0; at + 2 <= size;) {
		size_t n = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;
		uint8_t *copy = malloc(n + 1);
		if (!copy)
			abort();
		memcpy(copy, data + at + 2, n);
		bool good = feed(r, data[at], copy, (uint32_t)n);
		free(copy);
		if (!good)
			return;
		at += 2 + n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ring_receiver *r = ring_receiver_new(BUDGET_BYTES);
	if (!r)
		abort();
	as_segment(data, size, r);
	ring_receiver_reset(r);
	as_frames(data, size, r);
	ring_receiver_free(r);
	return 0;
}
