/* The scan of packed bytes: what protobuf's wire allows and the contract does not, before anything is unpacked. */
#include "tests/unit/config/fixture.h"

#include <errno.h>
#include <string.h>

#include "dataplane/config/config_priv.h"

static int scan(const ProtobufCMessageDescriptor *desc, const char *bytes, size_t n, struct foil_error *err)
{
	*err = (struct foil_error){0};
	return snap_wire_check(desc, foil_slice_of(bytes, n), err);
}

/* Literals with NULs inside. */
#define SCAN(desc, bytes, err) scan(&foil__conf__##desc##__descriptor, bytes, sizeof(bytes) - 1, err)

static void test_empty_and_plain_messages_pass(void **state)
{
	struct foil_error err;
	assert_int_equal(SCAN(cluster, "", &err), 0);
	assert_int_equal(SCAN(cluster, "\x0a\x01" "c", &err), 0);
	assert_int_equal(SCAN(cluster, "\x0a\x00\x10\x02", &err), 0); /* name "", lb RANDOM */
}

static void test_unknown_field_is_refused(void **state)
{
	struct foil_error err;
	assert_int_equal(SCAN(cluster, "\xfa\x3f\x01x", &err), -EINVAL);
	assert_non_null(strstr(err.text, "does not know"));
	assert_int_equal(SCAN(cluster, "\x02\x01x", &err), -EINVAL); /* field 0 */
}

static void test_field_twice_is_refused_where_protobuf_would_merge(void **state)
{
	struct foil_error err;
	assert_int_equal(SCAN(cluster, "\x0a\x01" "a\x0a\x01" "b", &err), -EINVAL);
	assert_string_equal(err.field, "name");
	assert_int_equal(SCAN(cluster, "\x2a\x00\x2a\x00", &err), -EINVAL); /* circuit_breaker */
	assert_string_equal(err.field, "circuit_breaker");
}

static void test_two_of_a_oneof_are_refused(void **state)
{
	struct foil_error err;
	assert_int_equal(SCAN(string_match, "\x12\x01" "a\x1a\x01" "b", &err), -EINVAL);
	assert_non_null(strstr(err.text, "beside another"));
}

static void test_other_wire_type_is_refused(void **state)
{
	struct foil_error err;
	assert_int_equal(SCAN(cluster, "\x08\x01", &err), -EINVAL);             /* name as a number */
	assert_int_equal(SCAN(cluster, "\x12\x01\x01", &err), -EINVAL);         /* lb as bytes */
	assert_int_equal(SCAN(cluster, "\x0b", &err), -EINVAL);                 /* a group */
	assert_int_equal(SCAN(retry_policy, "\x1a\x02\x01\x02", &err), -EINVAL); /* packed repeated */
}

static void test_enumerations_booleans_and_32_bits_have_their_values(void **state)
{
	struct foil_error err;
	assert_int_equal(SCAN(cluster, "\x10\x63", &err), -EINVAL);
	assert_string_equal(err.field, "lb");
	assert_int_equal(SCAN(cluster, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &err), -EINVAL);
	assert_int_equal(SCAN(cluster, "\x70\x02", &err), -EINVAL);
	assert_string_equal(err.field, "is_original_dst");
	assert_int_equal(SCAN(cluster, "\x38\x80\x80\x80\x80\x10", &err), -EINVAL);
	assert_string_equal(err.field, "panic_threshold_percent");
}

static void test_number_that_is_cut_or_too_long_is_refused(void **state)
{
	struct foil_error err;
	assert_int_equal(SCAN(cluster, "\x20\x80", &err), -EINVAL);
	assert_int_equal(SCAN(cluster, "\x20\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", &err), -EINVAL);
	assert_int_equal(SCAN(cluster, "\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &err), 0); /* 2^64 - 1 */
	assert_int_equal(SCAN(cluster, "\x20\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", &err), -EINVAL);
}

static void test_length_beyond_its_message_is_refused_by_path(void **state)
{
	struct foil_error err;
	assert_int_equal(SCAN(cluster, "\x0a\x05" "abc", &err), -EINVAL);
	/* virtual_hosts[0] of 3 bytes whose domains says 4 */
	assert_int_equal(SCAN(route_config, "\x12\x03\x12\x04" "abcdef", &err), -EINVAL);
	assert_string_equal(err.field, "virtual_hosts[0].domains[0]");
	assert_int_equal(SCAN(route_config, "\x12\x00\x12\x02\x0a\x7f", &err), -EINVAL);
	assert_string_equal(err.field, "virtual_hosts[1].name");
	assert_int_equal(SCAN(cluster, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" "a", &err), -EINVAL);
}

static void test_text_is_utf8_without_nul(void **state)
{
	struct foil_error err;
	static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
					  "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xff"};
	char bytes[16];
	assert_int_equal(SCAN(cluster, "\x0a\x03" "a\0b", &err), -EINVAL);
	assert_string_equal(err.field, "name");
	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		size_t n = strlen(bad[i]);
		bytes[0] = 0x0a;
		bytes[1] = (char)n;
		memcpy(bytes + 2, bad[i], n);
		assert_int_equal(scan(&foil__conf__cluster__descriptor, bytes, n + 2, &err), -EINVAL);
	}
	assert_int_equal(SCAN(cluster, "\x0a\x09\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", &err), 0);
	assert_int_equal(SCAN(direct_response, "\x12\x03" "a\0\xff", &err), 0); /* bytes may hold anything */
}

/* Every valid resource, cut at every byte, passes or is refused, and what passes unpacks. */
static void test_cut_at_every_byte_nothing_breaks(void **state)
{
	struct t_conf *f = t_conf();
	struct foil_error err;
	t_put_all(f);
	static const ProtobufCMessageDescriptor *const descs[] = {&foil__conf__mesh_settings__descriptor, &foil__conf__listener__descriptor,
								  &foil__conf__route_config__descriptor, &foil__conf__cluster__descriptor,
								  &foil__conf__endpoints__descriptor};
	for (size_t i = 0; i < f->n; i++) {
		for (uint32_t n = 0; n <= f->list[i].body.n_bytes; n++) {
			if (scan(descs[i], f->list[i].body.data, n, &err) < 0)
				continue;
			ProtobufCMessage *m = protobuf_c_message_unpack(descs[i], NULL, n, (const uint8_t *)f->list[i].body.data);
			assert_non_null(m);
			protobuf_c_message_free_unpacked(m, NULL);
		}
		assert_int_equal(scan(descs[i], f->list[i].body.data, f->list[i].body.n_bytes, &err), 0);
	}
	t_conf_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_and_plain_messages_pass),
		cmocka_unit_test(test_unknown_field_is_refused),
		cmocka_unit_test(test_field_twice_is_refused_where_protobuf_would_merge),
		cmocka_unit_test(test_two_of_a_oneof_are_refused),
		cmocka_unit_test(test_other_wire_type_is_refused),
		cmocka_unit_test(test_enumerations_booleans_and_32_bits_have_their_values),
		cmocka_unit_test(test_number_that_is_cut_or_too_long_is_refused),
		cmocka_unit_test(test_length_beyond_its_message_is_refused_by_path),
		cmocka_unit_test(test_text_is_utf8_without_nul),
		cmocka_unit_test(test_cut_at_every_byte_nothing_breaks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
