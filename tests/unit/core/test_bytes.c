/* dataplane/core/bytes.h against the C library: every length up to a few vectors, at the very end of a page, so that a byte too many faults. */
#include "tests/unit/support.h"

#include <ctype.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LENGTHS = 70, ROUNDS = 40 };

/* n bytes that end where the readable memory ends. */
struct edge {
	uint8_t *page, *end;
};

static struct edge edge_make(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	assert_int_equal(mprotect(p + page, page, PROT_NONE), 0);
	return (struct edge){p, p + page};
}

static void edge_free(struct edge *e)
{
	assert_int_equal(munmap(e->page, 2 * (size_t)sysconf(_SC_PAGESIZE)), 0);
}

static void fill(struct foil_prng *p, uint8_t *at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		at[i] = (uint8_t)(foil_prng_below(p, 4) ? 'A' + foil_prng_below(p, 58) : foil_prng_below(p, 256));
}

static void test_copy_and_equal_are_those_of_the_library(void **state)
{
	struct edge a = edge_make(), b = edge_make();
	struct foil_prng p;

	foil_prng_seed(&p, 3);
	for (size_t n = 0; n <= LENGTHS; n++) {
		for (int round = 0; round < ROUNDS; round++) {
			uint8_t *from = a.end - n, *to = b.end - n;
			fill(&p, from, n);
			memset(to - 16, 0x55, n + 16);
			foil_copy(to, from, n);
			assert_memory_equal(to, from, n);
			for (int i = 1; i <= 16; i++)
				assert_int_equal(to[-i], 0x55);
			assert_true(foil_equal(to, from, n));
			if (n == 0)
				continue;
			to[foil_prng_below(&p, (uint32_t)n)] ^= (uint8_t)(1u << foil_prng_below(&p, 8));
			assert_false(foil_equal(to, from, n));
		}
	}
	edge_free(&a);
	edge_free(&b);
	(void)state;
}

static void test_loads_stop_at_the_last_byte(void **state)
{
	struct edge e = edge_make();
	struct foil_prng p;

	foil_prng_seed(&p, 4);
	for (size_t n = 0; n <= 16; n++) {
		uint8_t *from = e.end - n, expected[16] = {0};
		fill(&p, from, n);
		if (n)
			memcpy(expected, from, n);
		if (n <= 8) {
			uint64_t v = foil_load_upto_8(from, n);
			assert_memory_equal(&v, expected, sizeof(v));
		}
#ifdef FOIL_HAS_VECTORS
		uint8_t got[16];
		foil_store_16(got, foil_load_16(from, n));
		assert_memory_equal(got, expected, sizeof(got));
#endif
	}
	edge_free(&e);
	(void)state;
}

static void test_case_is_that_of_ascii_letters_alone(void **state)
{
	struct edge a = edge_make(), b = edge_make();
	struct foil_prng p;

	foil_prng_seed(&p, 5);
	for (int c = 0; c < 256; c++) {
		for (int d = 0; d < 256; d++) {
			char x = (char)c, y = (char)d;
			bool is_same = (isascii(c) ? tolower(c) : c) == (isascii(d) ? tolower(d) : d);
			assert_int_equal(foil_equal_nocase(&x, &y, 1), is_same);
		}
	}
	for (size_t n = 1; n <= LENGTHS; n++) {
		char *from = (char *)a.end - n, *to = (char *)b.end - n;
		fill(&p, (uint8_t *)from, n);
		for (size_t i = 0; i < n; i++)
			to[i] = foil_prng_below(&p, 2) ? foil_ascii_lower(from[i]) : from[i];
		assert_true(foil_equal_nocase(from, to, n));
		to[foil_prng_below(&p, (uint32_t)n)] ^= 1;
		assert_false(foil_equal_nocase(from, to, n));
	}
	edge_free(&a);
	edge_free(&b);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy_and_equal_are_those_of_the_library),
		cmocka_unit_test(test_loads_stop_at_the_last_byte),
		cmocka_unit_test(test_case_is_that_of_ascii_letters_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
