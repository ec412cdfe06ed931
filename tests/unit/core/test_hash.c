/* dataplane/core/siphash.h against its authors' vectors, prng.h against the published generators' output. */
#include "tests/unit/support.h"

#include <math.h>

/* vectors_sip64 of the reference implementation (github.com/veorq/SipHash): key 00..0f, message 00, 01, .. of length i. */
static const uint64_t sip_vectors[] = {
	0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d, 0xcf2794e0277187b7, 0x18765564cd99a68d,
	0xcbc9466e58fee3ce, 0xab0200f58b01d137, 0x93f5f5799a932462, 0x9e0082df0ba9e4b0, 0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7,
	0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee, 0xa129ca6149be45e5,
};

static void test_siphash_gives_the_reference_vectors(void **state)
{
	struct foil_siphash_key key = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
	uint8_t message[16];

	for (uint8_t i = 0; i < 16; i++)
		message[i] = i;
	for (size_t n = 0; n < FOIL_COUNT_OF(sip_vectors); n++)
		assert_true(foil_siphash(&key, message, n) == sip_vectors[n]);
	(void)state;
}

/* What CPython 3.11 hashes bytes to with PYTHONHASHSEED=0: SipHash-1-3 under a key of zeroes. */
static void test_siphash_of_words_is_pythons(void **state)
{
	static const struct {
		size_t n_words;
		uint64_t hash;
	} vectors[] = {{1, 0xead411e67ebe2eea}, {2, 0x8972188433a5c5b7}, {5, 0x95bc321ab41d8206}};
	struct foil_siphash_key key = {0, 0};
	uint64_t words[5];

	for (uint8_t i = 0; i < sizeof(words); i++)
		memcpy((uint8_t *)words + i, &i, 1);
	for (size_t i = 0; i < FOIL_COUNT_OF(vectors); i++)
		assert_true(foil_siphash_words(&key, words, vectors[i].n_words) == vectors[i].hash);
	(void)state;
}

/* splitmix64 from seed 1234567 gives these five numbers in the published examples (Vigna; Rosetta Code "Splitmix64"). */
static void test_prng_seeds_by_splitmix64(void **state)
{
	static const uint64_t expected[4] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u, 4593380528125082431u};
	struct foil_prng p;

	foil_prng_seed(&p, 1234567);
	for (int i = 0; i < 4; i++)
		assert_true(p.s[i] == expected[i]);
	(void)state;
}

/* xoshiro256** from the state 1, 2, 3, 4: the vector that the rand_xoshiro crate took from the reference C code. */
static void test_prng_is_xoshiro256starstar(void **state)
{
	static const uint64_t expected[] = {11520u, 0u, 1509978240u, 1215971899390074240u, 1216172134540287360u, 607988272756665600u};
	struct foil_prng p = {{1, 2, 3, 4}};

	for (size_t i = 0; i < FOIL_COUNT_OF(expected); i++)
		assert_true(foil_prng_u64(&p) == expected[i]);
	(void)state;
}

static void test_prng_below_is_uniform_and_in_range(void **state)
{
	enum { SIDES = 10, THROWS = 100000 };
	uint32_t seen[SIDES] = {0};
	struct foil_prng p;

	foil_prng_seed(&p, 7);
	for (int i = 0; i < THROWS; i++) {
		uint32_t v = foil_prng_below(&p, SIDES);
		assert_true(v < SIDES);
		seen[v]++;
	}
	for (int i = 0; i < SIDES; i++) /* five sigma of a binomial with p = 1/10: 5 * sqrt(9000) */
		assert_in_range(seen[i], THROWS / SIDES - 475, THROWS / SIDES + 475);
	for (int i = 0; i < 100; i++)
		assert_int_equal(foil_prng_below(&p, 1), 0);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash_gives_the_reference_vectors),
		cmocka_unit_test(test_siphash_of_words_is_pythons),
		cmocka_unit_test(test_prng_seeds_by_splitmix64),
		cmocka_unit_test(test_prng_is_xoshiro256starstar),
		cmocka_unit_test(test_prng_below_is_uniform_and_in_range),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
