/* The byte ring of ctrl/ring/ring.c: order, wrap, room, and a peer that writes what it likes into the segment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ctrl/ring/ring.h"
#include "dataplane/core/crc32c.h"

#define N_BYTES 4096u

struct pair {
	struct ring_shared shared;
	_Alignas(64) uint8_t data[N_BYTES];
	struct ring_producer p;
	struct ring_consumer c;
};

static struct pair *pair_new(void)
{
	struct pair *r = aligned_alloc(64, sizeof(*r));
	assert_non_null(r);
	memset(r, 0, sizeof(*r));
	ring_producer_init(&r->p, &r->shared, r->data, N_BYTES);
	ring_consumer_init(&r->c, &r->shared, r->data, N_BYTES);
	return r;
}

static void pair_free(struct pair *r)
{
	ring_consumer_fini(&r->c);
	free(r);
}

static void assert_takes(struct pair *r, uint16_t type, const void *payload, uint32_t n)
{
	uint16_t got_type;
	const uint8_t *got;
	uint32_t n_got;
	assert_int_equal(ring_take(&r->c, &got_type, &got, &n_got), RING_OK);
	assert_int_equal(got_type, type);
	assert_int_equal(n_got, n);
	if (n)
		assert_memory_equal(got, payload, n);
}

static enum ring_result take(struct pair *r)
{
	uint16_t type;
	const uint8_t *payload;
	uint32_t n;
	return ring_take(&r->c, &type, &payload, &n);
}

static void test_crc32c_is_that_of_rfc_3720(void **state)
{
	uint8_t zeros[32] = {0}, ones[32], up[32];
	memset(ones, 0xff, sizeof(ones));
	for (int i = 0; i < 32; i++)
		up[i] = (uint8_t)i;
	assert_int_equal(foil_crc32c(0, zeros, 32), 0x8a9136aa); /* B.4, as numbers */
	assert_int_equal(foil_crc32c(0, ones, 32), 0x62a8ab43);
	assert_int_equal(foil_crc32c(0, up, 32), 0x46dd794e);
	assert_int_equal(foil_crc32c(foil_crc32c(0, up, 13), up + 13, 19), 0x46dd794e);
	assert_int_equal(foil_crc32c(0, "123456789", 9), 0xe3069283);
}

static void test_frames_come_out_as_they_went_in(void **state)
{
	struct pair *r = pair_new();
	assert_int_equal(take(r), RING_EMPTY);
	assert_int_equal(ring_put(&r->p, 7, "hello", 5), RING_OK);
	assert_int_equal(ring_put(&r->p, 8, NULL, 0), RING_OK);
	assert_takes(r, 7, "hello", 5);
	assert_takes(r, 8, NULL, 0);
	assert_int_equal(take(r), RING_EMPTY);
	pair_free(r);
}

static void test_frames_of_every_length_wrap_at_every_offset(void **state)
{
	struct pair *r = pair_new();
	uint8_t payload[300];
	for (unsigned int i = 0; i < 5000; i++) {
		uint32_t n = i * 7 % sizeof(payload);
		memset(payload, (int)(i & 0xff), sizeof(payload));
		assert_int_equal(ring_put(&r->p, (uint16_t)i, payload, n), RING_OK);
		assert_takes(r, (uint16_t)i, payload, n);
	}
	pair_free(r);
}

static void test_full_ring_says_so_and_goes_on_when_something_was_taken(void **state)
{
	struct pair *r = pair_new();
	uint8_t payload[1008] = {1}; /* 1024 with its header: four fill the ring exactly */
	for (int i = 0; i < 4; i++)
		assert_int_equal(ring_put(&r->p, 1, payload, sizeof(payload)), RING_OK);
	assert_int_equal(ring_put(&r->p, 1, payload, 0), RING_FULL);
	assert_takes(r, 1, payload, sizeof(payload));
	assert_int_equal(ring_put(&r->p, 2, payload, sizeof(payload)), RING_OK);
	for (int i = 0; i < 3; i++)
		assert_takes(r, 1, payload, sizeof(payload));
	assert_takes(r, 2, payload, sizeof(payload));
	pair_free(r);
}

static void test_frame_that_never_fits_is_refused(void **state)
{
	struct pair *r = pair_new();
	uint8_t *big = calloc(1, RING_FRAME_BYTES_MAX + 1);
	assert_int_equal(ring_put(&r->p, 1, big, N_BYTES - 15), RING_TOO_LARGE);
	assert_int_equal(ring_put(&r->p, 1, big, RING_FRAME_BYTES_MAX + 1), RING_TOO_LARGE);
	assert_int_equal(ring_put(&r->p, 1, big, N_BYTES - 16), RING_OK);
	free(big);
	pair_free(r);
}

static void test_producer_refuses_a_tail_that_cannot_be(void **state)
{
	const uint64_t bad[] = {1, UINT64_MAX, 1ull << 63, 4097};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct pair *r = pair_new();
		r->shared.tail = bad[i]; /* ahead of the head, which is 0 */
		assert_int_equal(ring_put(&r->p, 1, "x", 1), RING_BAD_INDEX);
		pair_free(r);
	}
}

static void test_consumer_refuses_a_head_that_cannot_be(void **state)
{
	const uint64_t bad[] = {N_BYTES + 8, UINT64_MAX, 1ull << 63};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct pair *r = pair_new();
		r->shared.head = bad[i];
		assert_int_equal(take(r), RING_BAD_INDEX);
		pair_free(r);
	}
	struct pair *r = pair_new();
	r->shared.head = 8; /* half a header */
	assert_int_equal(take(r), RING_BAD_LENGTH);
	pair_free(r);
}

static void test_head_that_goes_back_is_refused(void **state)
{
	struct pair *r = pair_new();
	assert_int_equal(ring_put(&r->p, 1, "abcdefgh", 8), RING_OK);
	assert_takes(r, 1, "abcdefgh", 8);
	r->shared.head = 8;
	assert_int_equal(take(r), RING_BAD_INDEX);
	pair_free(r);
}

static void test_length_beyond_what_is_there_is_refused(void **state)
{
	const uint32_t bad[] = {9, N_BYTES, RING_FRAME_BYTES_MAX, UINT32_MAX, UINT32_MAX - 15};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct pair *r = pair_new();
		assert_int_equal(ring_put(&r->p, 1, "abcdefgh", 8), RING_OK);
		memcpy(r->data, &bad[i], 4);
		assert_int_equal(take(r), RING_BAD_LENGTH);
		pair_free(r);
	}
}

static void test_truncated_frame_is_refused(void **state)
{
	struct pair *r = pair_new();
	assert_int_equal(ring_put(&r->p, 1, "abcdefghijklmnop", 16), RING_OK);
	r->shared.head -= 8;
	assert_int_equal(take(r), RING_BAD_LENGTH);
	pair_free(r);
}

static void test_every_flipped_bit_of_a_frame_is_found(void **state)
{
	for (unsigned int bit = 0; bit < 8 * (16 + 8); bit++) {
		struct pair *r = pair_new();
		assert_int_equal(ring_put(&r->p, 1, "abcdefgh", 8), RING_OK);
		r->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_true(take(r) > RING_TOO_LARGE);
		pair_free(r);
	}
}

static void test_frame_twice_or_left_out_is_found(void **state)
{
	struct pair *r = pair_new();
	uint8_t first[24];
	assert_int_equal(ring_put(&r->p, 1, "abcdefgh", 8), RING_OK);
	memcpy(first, r->data, sizeof(first));
	assert_takes(r, 1, "abcdefgh", 8);
	memcpy(r->data + 24, first, sizeof(first)); /* the same frame again, CRC and all */
	r->shared.head += 24;
	assert_int_equal(take(r), RING_BAD_SEQUENCE);
	pair_free(r);
}

#define N_FRAMES 20000u

static void *produce(void *arg)
{
	struct pair *r = arg;
	for (uint32_t i = 0; i < N_FRAMES;) {
		uint8_t payload[64];
		memset(payload, (int)(i & 0xff), sizeof(payload));
		if (ring_put(&r->p, (uint16_t)i, payload, i % sizeof(payload)) == RING_OK)
			i++;
		else
			(void)sched_yield();
	}
	return NULL;
}

static void test_two_threads_see_every_frame_once_and_whole(void **state)
{
	struct pair *r = pair_new();
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, produce, r), 0);
	for (uint32_t i = 0; i < N_FRAMES;) {
		uint16_t type;
		const uint8_t *payload;
		uint32_t n;
		enum ring_result got = ring_take(&r->c, &type, &payload, &n);
		if (got == RING_EMPTY) {
			(void)sched_yield();
			continue;
		}
		assert_int_equal(got, RING_OK);
		assert_int_equal(type, (uint16_t)i);
		assert_int_equal(n, i % 64);
		for (uint32_t k = 0; k < n; k++)
			assert_int_equal(payload[k], i & 0xff);
		i++;
	}
	assert_int_equal(pthread_join(t, NULL), 0);
	pair_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc32c_is_that_of_rfc_3720),
		cmocka_unit_test(test_frames_come_out_as_they_went_in),
		cmocka_unit_test(test_frames_of_every_length_wrap_at_every_offset),
		cmocka_unit_test(test_full_ring_says_so_and_goes_on_when_something_was_taken),
		cmocka_unit_test(test_frame_that_never_fits_is_refused),
		cmocka_unit_test(test_producer_refuses_a_tail_that_cannot_be),
		cmocka_unit_test(test_consumer_refuses_a_head_that_cannot_be),
		cmocka_unit_test(test_head_that_goes_back_is_refused),
		cmocka_unit_test(test_length_beyond_what_is_there_is_refused),
		cmocka_unit_test(test_truncated_frame_is_refused),
		cmocka_unit_test(test_every_flipped_bit_of_a_frame_is_found),
		cmocka_unit_test(test_frame_twice_or_left_out_is_found),
		cmocka_unit_test(test_two_threads_see_every_frame_once_and_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
