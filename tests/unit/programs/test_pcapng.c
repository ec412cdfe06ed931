/* pcapng.c against the format's own words (draft-ietf-opsawg-pcapng): block types, lengths at both ends, options padded to four bytes. */
#include "programs/pcapng.h"
#include "tests/unit/support.h"

static uint32_t u32(const uint8_t *at)
{
	uint32_t v;

	memcpy(&v, at, 4);
	return v;
}

static void assert_block(const uint8_t *b, size_t n, uint32_t type)
{
	assert_true(n >= 12);
	assert_int_equal(n % 4, 0);
	assert_int_equal(u32(b), type);
	assert_int_equal(u32(b + 4), n);
	assert_int_equal(u32(b + n - 4), n);
}

static void test_a_section_says_its_byte_order_and_version(void **state)
{
	uint8_t b[PCAPNG_BLOCK_BYTES];
	size_t n = pcapng_section(b, sizeof(b), "hydrofoil");

	assert_block(b, n, 0x0a0d0d0a);
	assert_int_equal(u32(b + 8), 0x1a2b3c4d);
	assert_int_equal(u32(b + 12), 1);
	assert_int_equal(u32(b + 24), 4 | 9 << 16); /* shb_userappl */
	assert_memory_equal(b + 28, "hydrofoil\0\0\0", 12);
	assert_int_equal(u32(b + 40), 0);
}

static void test_an_interface_is_ethernet_in_microseconds(void **state)
{
	uint8_t b[PCAPNG_BLOCK_BYTES];
	size_t n = pcapng_interface(b, sizeof(b), "p0", "af_packet:iface=x", 96);

	assert_block(b, n, 1);
	assert_int_equal(u32(b + 8), 1);
	assert_int_equal(u32(b + 12), 96);
	assert_int_equal(u32(b + 16), 2 | 2 << 16);
	assert_memory_equal(b + 20, "p0\0\0", 4);
	assert_int_equal(u32(b + n - 16), 9 | 1 << 16);
	assert_int_equal(u32(b + n - 12), 6);
}

static void test_a_packet_has_its_time_bytes_comment_and_direction(void **state)
{
	uint8_t b[PCAPNG_BLOCK_BYTES];
	struct pcapng_packet p = {.interface = 3, .wall_us = 0x1122334455667788ull, .data = "abcde", .n_bytes = 5, .n_bytes_all = 99,
				  .dir = PCAPNG_OUT, .comment = "why"};
	size_t n = pcapng_packet(b, sizeof(b), &p);

	assert_block(b, n, 6);
	assert_int_equal(u32(b + 8), 3);
	assert_int_equal(u32(b + 12), 0x11223344);
	assert_int_equal(u32(b + 16), 0x55667788);
	assert_int_equal(u32(b + 20), 5);
	assert_int_equal(u32(b + 24), 99);
	assert_memory_equal(b + 28, "abcde\0\0\0", 8);
	assert_int_equal(u32(b + 36), 1 | 3 << 16);
	assert_memory_equal(b + 40, "why\0", 4);
	assert_int_equal(u32(b + 44), 2 | 4 << 16);
	assert_int_equal(u32(b + 48), 2);
	p.comment = NULL;
	assert_int_equal(pcapng_packet(b, sizeof(b), &p), n - 8);
}

static void test_statistics_say_what_was_seen_and_lost(void **state)
{
	uint8_t b[PCAPNG_BLOCK_BYTES];
	size_t n = pcapng_statistics(b, sizeof(b), 1, 7, 1000, 3);

	assert_block(b, n, 5);
	assert_int_equal(u32(b + 8), 1);
	assert_int_equal(u32(b + 20), 4 | 8 << 16);
	assert_int_equal(u32(b + 24), 1000);
	assert_int_equal(u32(b + 32), 5 | 8 << 16);
	assert_int_equal(u32(b + 36), 3);
}

static void test_too_little_room_writes_nothing_beyond_it_and_says_0(void **state)
{
	uint8_t b[PCAPNG_BLOCK_BYTES + 1];
	char text[600];
	struct pcapng_packet p = {.data = text, .n_bytes = 100, .n_bytes_all = 100, .comment = text};

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	size_t n = pcapng_packet(b, sizeof(b) - 1, &p); /* the comment is cut */
	assert_in_range(n, 32 + 100 + 256, 32 + 100 + 256 + 28);
	for (size_t room = 0; room < n; room++) {
		memset(b, 0xaa, sizeof(b));
		assert_int_equal(pcapng_packet(b, room, &p), 0);
		assert_int_equal(b[room], 0xaa);
	}
	assert_int_equal(pcapng_packet(b, n, &p), n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_section_says_its_byte_order_and_version),
		cmocka_unit_test(test_an_interface_is_ethernet_in_microseconds),
		cmocka_unit_test(test_a_packet_has_its_time_bytes_comment_and_direction),
		cmocka_unit_test(test_statistics_say_what_was_seen_and_lost),
		cmocka_unit_test(test_too_little_room_writes_nothing_beyond_it_and_says_0),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
