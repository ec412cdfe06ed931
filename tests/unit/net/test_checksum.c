/* checksum.h, addr.c, flow.c: vectors and comparison with the naive sum. */
#include "dataplane/core/prng.h"
#include "tests/unit/net/rig.h"

/* RFC 1071 3: the bytes 00 01 f2 03 f4 f5 f6 f7 sum to ddf2. */
static void test_the_example_of_rfc_1071(void **state)
{
	static const uint8_t data[8] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	assert_int_equal(rte_be_to_cpu_16(net_sum_16(net_sum(data, 8))), 0xddf2);
	assert_int_equal(rte_be_to_cpu_16(net_sum_fold(net_sum(data, 8))), 0x220d);
}

/* One's complement has two zeros: equal sums may differ by 0xffff. */
static uint16_t naive(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void test_every_length_sums_as_the_naive_loop_does(void **state)
{
	uint8_t data[700];
	struct foil_prng prng;

	foil_prng_seed(&prng, 1);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)foil_prng_u64(&prng);
	for (size_t n = 0; n < 600; n++)
		assert_int_equal(rte_be_to_cpu_16(net_sum_16(net_sum(data + n % 7, n))) % 0xffff, naive(data + n % 7, n) % 0xffff);
}

static void test_chains_cut_at_odd_places_sum_alike(void **state)
{
	struct foil_worker *w = t_worker();
	uint8_t data[500];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 31);
	for (uint16_t seg = 1; seg < 60; seg++) {
		struct foil_chain chain = {0};
		t_chain(w, &chain, data, sizeof(data), seg);
		for (uint32_t offset = 0; offset < 9; offset++)
			assert_int_equal(rte_be_to_cpu_16(net_sum_16(net_sum_chain(chain.head, offset, 480))) % 0xffff,
					 naive(data + offset, 480) % 0xffff);
		foil_chain_clear(&chain);
	}
	t_worker_free(w);
}

static void test_the_pseudo_header_of_ipv4_and_ipv6(void **state)
{
	struct net_addr a = n_addr("198.18.0.1"), b = n_addr("198.18.0.2"), c = n_addr("fd00::1"), d = n_addr("fd00::2");
	static const uint8_t v4[] = {198, 18, 0, 1, 198, 18, 0, 2, 0, 6, 0, 20};
	uint8_t v6[40] = {0xfd, [15] = 1, [16] = 0xfd, [31] = 2, [35] = 20, [39] = 6};

	assert_int_equal(rte_be_to_cpu_16(net_sum_16(net_sum_pseudo(&a, &b, 6, 20))), naive(v4, sizeof(v4)));
	assert_int_equal(rte_be_to_cpu_16(net_sum_16(net_sum_pseudo(&c, &d, 6, 20))), naive(v6, sizeof(v6)));
}

static void test_addresses_and_prefixes_as_text(void **state)
{
	struct net_prefix p;
	struct net_addr a;
	char text[NET_ADDR_STRLEN];
	static const char *const wrong[] = {"198.18.0.1/33", "fd00::/129", "198.18.0.1/", "198.18.0.1/x", "198.18.0.1/08",
					     "", "1.2.3", "fd00:::1", "1.2.3.4.5"};

	assert_int_equal(net_prefix_parse("198.18.0.1/24", &p), 0);
	assert_int_equal(p.len, 120);
	assert_int_equal(net_prefix_parse("fd00::1/64", &p), 0);
	assert_int_equal(p.len, 64);
	assert_int_equal(net_prefix_parse("198.18.0.1", &p), 0);
	assert_int_equal(p.len, 128);
	for (size_t i = 0; i < FOIL_COUNT_OF(wrong); i++)
		assert_int_not_equal(net_prefix_parse(wrong[i], &p), 0);
	assert_int_not_equal(net_addr_parse("198.18.0.1/24", &a), 0);
	a = n_addr("fd00:f011::1");
	assert_string_equal(net_addr_format(&a, text), "fd00:f011::1");
	a = n_addr("198.18.0.1");
	assert_string_equal(net_addr_format(&a, text), "198.18.0.1");
}

static void test_masks_cut_at_every_length(void **state)
{
	struct net_addr ones, a;

	memset(&ones, 0xff, sizeof(ones));
	for (unsigned int len = 0; len <= 128; len++) {
		a = ones;
		net_addr_mask(&a, (uint8_t)len);
		for (unsigned int bit = 0; bit < 128; bit++)
			assert_int_equal(a.b[bit / 8] >> (7 - bit % 8) & 1, bit < len);
	}
}

static void test_both_directions_of_a_flow_hash_alike(void **state)
{
	struct net_addr a = n_addr("198.18.0.1"), b = n_addr("198.19.0.77"), c = n_addr("fd00::1"), d = n_addr("fd00::abcd");

	assert_int_equal(net_flow_hash(&a, &b, 1234, 80), net_flow_hash(&b, &a, 80, 1234));
	assert_int_equal(net_flow_hash(&c, &d, 1234, 80), net_flow_hash(&d, &c, 80, 1234));
	assert_int_not_equal(net_flow_hash(&a, &b, 1234, 80), net_flow_hash(&a, &b, 1235, 80));
}

/* The definition: for each set bit of the input, from the left, the key's 32 bits from that place on. */
static uint32_t toeplitz(const uint8_t *in, uint32_t n_bytes)
{
	uint32_t r = 0;

	for (uint32_t bit = 0; bit < n_bytes * 8; bit++) {
		uint32_t window = 0;
		for (uint32_t k = 0; k < 32; k++) {
			uint32_t at = bit + k, byte = at / 8;
			uint8_t key = byte & 1 ? 0x5a : 0x6d;
			window = window << 1 | (key >> (7 - at % 8) & 1u);
		}
		if (in[bit / 8] >> (7 - bit % 8) & 1)
			r ^= window;
	}
	return r;
}

static void test_the_flow_hash_is_what_a_card_with_that_key_computes(void **state)
{
	struct net_addr a = n_addr("198.18.0.1"), b = n_addr("198.19.7.77");
	static const uint8_t in[12] = {198, 18, 0, 1, 198, 19, 7, 77, 0x30, 0x39, 0, 80};
	uint8_t in6[36];

	assert_int_equal(net_flow_hash(&a, &b, 12345, 80), toeplitz(in, 12));
	a = n_addr("fd00:1:2:3:4:5:6:7");
	b = n_addr("fd00:9:8:7:6:5:4:3");
	memcpy(in6, a.b, 16);
	memcpy(in6 + 16, b.b, 16);
	memcpy(in6 + 32, in + 8, 4);
	assert_int_equal(net_flow_hash(&a, &b, 12345, 80), toeplitz(in6, 36));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_example_of_rfc_1071),
		cmocka_unit_test(test_every_length_sums_as_the_naive_loop_does),
		cmocka_unit_test(test_chains_cut_at_odd_places_sum_alike),
		cmocka_unit_test(test_the_pseudo_header_of_ipv4_and_ipv6),
		cmocka_unit_test(test_addresses_and_prefixes_as_text),
		cmocka_unit_test(test_masks_cut_at_every_length),
		cmocka_unit_test(test_both_directions_of_a_flow_hash_alike),
		cmocka_unit_test(test_the_flow_hash_is_what_a_card_with_that_key_computes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
