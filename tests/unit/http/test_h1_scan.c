/* dataplane/http/h1_scan.h: that what goes sixteen bytes a step agrees with the table of classes, byte by byte, for every byte at every place, and with
 * RFC 9110's words for the classes themselves. */
#include "dataplane/http/h1_scan.h"
#include "tests/unit/support.h"

#include <ctype.h>

enum { LENGTHS = 50, ROUNDS = 4000 };

static void test_tokens_are_tchars(void **state)
{
	for (int c = 0; c < 256; c++) {
		bool is_tchar = isascii(c) && (isalnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c)));
		assert_int_equal(h1_is((uint8_t)c, H1_TOKEN), is_tchar);
		assert_int_equal(h1_is((uint8_t)c, H1_VALUE), c == '\t' || (c >= ' ' && c != 0x7f));
		assert_int_equal(h1_is((uint8_t)c, H1_TARGET), c > ' ' && c < 0x7f);
	}
	(void)state;
}

static size_t span_by_table(const uint8_t *p, size_t n, uint8_t cls)
{
	size_t i = 0;

	while (i < n && h1_is(p[i], cls))
		i++;
	return i;
}

static void check(const uint8_t *p, size_t n)
{
	struct foil_cur c = cur_of(p, n);
	size_t n_token = span_by_table(p, n, H1_TOKEN);
	uint8_t classes, expected = 0;

	for (size_t i = 0; i < n_token; i++)
		expected |= h1_class[p[i]] & H1_UPPER;
	assert_int_equal(h1_span(&c, H1_TOKEN), n_token);
	assert_int_equal(h1_span_token(&c, &classes), n_token);
	assert_int_equal(classes, expected);
	assert_int_equal(h1_span(&c, H1_TARGET), span_by_table(p, n, H1_TARGET));
	assert_int_equal(h1_span(&c, H1_NAME), span_by_table(p, n, H1_NAME));
	assert_int_equal(h1_span_value(&c), span_by_table(p, n, H1_VALUE));
}

static void test_every_byte_at_every_place(void **state)
{
	uint8_t text[LENGTHS];

	for (size_t n = 1; n < LENGTHS; n++) {
		for (size_t at = 0; at < n; at++) {
			for (int c = 0; c < 256; c++) {
				memset(text, c & 1 ? 'a' : 'Z', n);
				text[at] = (uint8_t)c;
				check(text, n);
			}
		}
	}
	(void)state;
}

static void test_random_bytes(void **state)
{
	uint8_t text[LENGTHS];
	struct foil_prng p;

	foil_prng_seed(&p, 9);
	for (int round = 0; round < ROUNDS; round++) {
		size_t n = foil_prng_below(&p, LENGTHS);
		for (size_t i = 0; i < n; i++)
			text[i] = (uint8_t)(foil_prng_below(&p, 20) ? '!' + foil_prng_below(&p, 94) : foil_prng_below(&p, 256));
		check(text, n);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tokens_are_tchars),
		cmocka_unit_test(test_every_byte_at_every_place),
		cmocka_unit_test(test_random_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
