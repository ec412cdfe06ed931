/* Questions about names and their answers, as a stranger could write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.pb-c.h"
#include "ctrl/ring/names.h"

static void test_which_names_are_good(void **state)
{
	static const char *const good[] = {"a", "a.b", "one.example.com", "a-b.c_d.e1", "1.2.3.x", "xn--bcher-kva.example"};
	static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "A.b", "a b", "*.b", "a\n", "-a.b", "a-.b", "a.b-", "a.-b",
		 "1.2.3.4", "a.0", "a/b", "a:1", "\xc3\xa4.b"};
	char longest[300];
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!ring_name_is_good(good[i]))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (ring_name_is_good(bad[i]))
			fail_msg("\"%s\"", bad[i]);
	for (size_t i = 0; i < 254; i++)
		longest[i] = i % 50 == 49 ? '.' : 'a';
	longest[253] = 0;
	assert_true(ring_name_is_good(longest));
	longest[253] = 'a';
	longest[254] = 0;
	assert_false(ring_name_is_good(longest));
	memset(longest, 'a', 64);
	longest[64] = 0;
	assert_false(ring_name_is_good(longest));
	longest[63] = 0;
	assert_true(ring_name_is_good(longest));
}

static bool answer(const char *name, int outcome, size_t n_bytes, struct ring_name_answer *out)
{
	uint8_t addresses[160] = {0}, bytes[512];
	Foil__Conf__NameAnswer m = FOIL__CONF__NAME_ANSWER__INIT;
	for (size_t i = 0; i < sizeof(addresses); i++)
		addresses[i] = (uint8_t)i;
	m.name = (char *)(uintptr_t)name;
	m.has_outcome = m.has_ttl_s = m.has_addresses = true;
	m.outcome = (Foil__Conf__NameOutcome)outcome;
	m.ttl_s = 77;
	m.addresses = (ProtobufCBinaryData){.len = n_bytes, .data = addresses};
	size_t n = foil__conf__name_answer__pack(&m, bytes);
	bool is_good = ring_name_answer_read(bytes, (uint32_t)n, out);
	for (size_t cut = 1; cut < n; cut++) { /* nothing of it is a whole one but, by chance, a shorter one */
		struct ring_name_answer part;
		uint8_t *copy = malloc(cut);
		assert_non_null(copy);
		memcpy(copy, bytes, cut);
		(void)ring_name_answer_read(copy, (uint32_t)cut, &part);
		assert_true(part.n_addresses <= RING_NAME_ADDRESSES_MAX);
		free(copy);
	}
	return is_good;
}

static void test_answers(void **state)
{
	struct ring_name_answer a;
	(void)state;
	assert_true(answer("one.test", FOIL__CONF__NAME_OUTCOME__NAME_FOUND, 32, &a));
	assert_string_equal(a.name, "one.test");
	assert_int_equal(a.n_addresses, 2);
	assert_int_equal(a.ttl_s, 77);
	assert_int_equal(a.ip[1][0], 16);
	assert_true(answer("one.test", FOIL__CONF__NAME_OUTCOME__NAME_FOUND, 128, &a));
	assert_false(answer("one.test", FOIL__CONF__NAME_OUTCOME__NAME_FOUND, 144, &a)); /* more than are taken */
	assert_false(answer("one.test", FOIL__CONF__NAME_OUTCOME__NAME_FOUND, 15, &a));
	assert_false(answer("one.test", FOIL__CONF__NAME_OUTCOME__NAME_FOUND, 0, &a));
	assert_false(answer("One.test", FOIL__CONF__NAME_OUTCOME__NAME_FOUND, 16, &a));
	assert_false(answer(NULL, FOIL__CONF__NAME_OUTCOME__NAME_FOUND, 16, &a));
	assert_true(answer("one.test", FOIL__CONF__NAME_OUTCOME__NAME_NONE, 16, &a));
	assert_int_equal(a.outcome, FOIL__CONF__NAME_OUTCOME__NAME_NONE);
	assert_int_equal(a.n_addresses, 0);
	assert_true(answer("one.test", 99, 0, &a)); /* of a later version */
	assert_int_equal(a.outcome, FOIL__CONF__NAME_OUTCOME__NAME_FAILED);
	assert_false(ring_name_answer_read((const uint8_t *)"\xff\xff", 2, &a));
}

static void test_questions(void **state)
{
	char name[RING_NAME_BYTES];
	(void)state;
	assert_true(ring_name_question_read((const uint8_t *)"\x0a\x03" "a.b", 5, name));
	assert_string_equal(name, "a.b");
	assert_false(ring_name_question_read((const uint8_t *)"\x0a\x03" "a.", 4, name));
	assert_false(ring_name_question_read((const uint8_t *)"\x0a\x03" "a.B", 5, name));
	assert_false(ring_name_question_read((const uint8_t *)"", 0, name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_which_names_are_good), cmocka_unit_test(test_answers), cmocka_unit_test(test_questions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
