/* HPACK against RFC 7541's own examples (Appendix C), its limits, and hostile blocks. */
#include "tests/unit/support.h"

#include "dataplane/http/hpack.h"

static struct hpack_limits limits = {.list_bytes_max = 60 * 1024, .fields_max = 100};

struct fixture {
	struct foil_worker *w;
	struct hpack_decoder d;
	struct foil_arena a;
	struct http_headers list;
};

static void begin(struct fixture *f)
{
	*f = (struct fixture){.w = t_worker(.seed = 7)};
	hpack_decoder_init(&f->d);
}

static void end(struct fixture *f)
{
	foil_arena_reset(f->w, &f->a);
	t_worker_free(f->w);
}

static uint8_t nibble(char c)
{
	return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* hex with spaces, as the RFC prints it */
static enum hpack_result decode(struct fixture *f, const char *hex)
{
	uint8_t block[4096];
	uint32_t n = 0;
	for (; *hex; hex++) {
		if (*hex == ' ')
			continue;
		block[n++] = (uint8_t)(nibble(hex[0]) << 4 | nibble(hex[1]));
		hex++;
	}
	f->list = (struct http_headers){0};
	return hpack_decode(f->w, &f->d, foil_slice_of(block, n), &limits, &f->a, &f->list);
}

static uint16_t id_of(const char *name)
{
	static const char *const pseudo[] = {":method", ":scheme", ":authority", ":path", ":status", ":protocol"};

	for (size_t i = 0; i < FOIL_COUNT_OF(pseudo); i++)
		if (strcmp(name, pseudo[i]) == 0)
			return (uint16_t)(HPACK_METHOD + i);
	return (uint16_t)http_header_intern(foil_slice_str(name));
}

static void assert_field(const struct fixture *f, uint16_t i, const char *name, const char *value)
{
	assert_true(i < f->list.n);
	const struct http_header *h = &f->list.list[i];
	assert_int_equal(h->name.n_bytes, strlen(name));
	assert_memory_equal(h->name.data, name, strlen(name));
	assert_int_equal(h->value.n_bytes, strlen(value));
	assert_memory_equal(h->value.data, value, strlen(value));
	assert_int_equal(h->id, id_of(name));
}

static void assert_requests(struct fixture *f, const char *const hex[3])
{
	assert_int_equal(decode(f, hex[0]), HPACK_OK);
	assert_int_equal(f->list.n, 4);
	assert_field(f, 0, ":method", "GET");
	assert_field(f, 1, ":scheme", "http");
	assert_field(f, 2, ":path", "/");
	assert_field(f, 3, ":authority", "www.example.com");
	assert_int_equal(f->d.n_bytes, 57);
	assert_int_equal(decode(f, hex[1]), HPACK_OK);
	assert_field(f, 3, ":authority", "www.example.com");
	assert_field(f, 4, "cache-control", "no-cache");
	assert_int_equal(f->d.n_bytes, 110);
	assert_int_equal(decode(f, hex[2]), HPACK_OK);
	assert_field(f, 1, ":scheme", "https");
	assert_field(f, 2, ":path", "/index.html");
	assert_field(f, 4, "custom-key", "custom-value");
	assert_int_equal(f->d.n_bytes, 164);
	assert_int_equal(f->d.n_entries, 3);
}

static void test_requests_of_rfc7541_c3_and_with_huffman_c4(void **state)
{
	static const char *const plain[3] = {"8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", "8286 84be 5808 6e6f 2d63 6163 6865",
					     "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65"};
	static const char *const huffman[3] = {"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "8286 84be 5886 a8eb 1064 9cbf",
					       "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"};
	struct fixture f;
	begin(&f);
	assert_requests(&f, plain);
	hpack_decoder_init(&f.d);
	assert_requests(&f, huffman);
	end(&f);
}

static void test_responses_evict_as_rfc7541_c6_says(void **state)
{
	struct fixture f;
	begin(&f);
	assert_int_equal(decode(&f, "3fe1 01"), HPACK_OK); /* table of 256 bytes */
	assert_int_equal(f.d.max_bytes, 256);
	assert_int_equal(decode(&f, "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7"
				    "8f0b 97c8 e9ae 82ae 43d3"), HPACK_OK);
	assert_field(&f, 0, ":status", "302");
	assert_field(&f, 2, "date", "Mon, 21 Oct 2013 20:13:21 GMT");
	assert_field(&f, 3, "location", "https://www.example.com");
	assert_int_equal(f.d.n_bytes, 222);
	assert_int_equal(decode(&f, "4883 640e ffc1 c0bf"), HPACK_OK);
	assert_field(&f, 0, ":status", "307");
	assert_field(&f, 1, "cache-control", "private");
	assert_int_equal(f.d.n_bytes, 222);
	assert_int_equal(decode(&f, "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335"
				    "dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07"), HPACK_OK);
	assert_field(&f, 4, "content-encoding", "gzip");
	assert_field(&f, 5, "set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
	assert_int_equal(f.d.n_bytes, 215);
	assert_int_equal(f.d.n_entries, 3);
	end(&f);
}

static void test_blocks_that_break_the_rules_are_fatal(void **state)
{
	static const struct {
		const char *hex;
		enum hpack_result want;
	} bad[] = {
		{"80", HPACK_BAD_INDEX}, {"be", HPACK_BAD_INDEX},   /* index 0; 62 with an empty table */
		{"ff80808080", HPACK_TRUNCATED}, {"ff8080808001", HPACK_BAD_INTEGER}, {"ffffffff0f", HPACK_BAD_INTEGER},
		{"40", HPACK_TRUNCATED}, {"4003616263", HPACK_TRUNCATED}, {"40036162", HPACK_TRUNCATED},
		{"3fe220", HPACK_BAD_SIZE_UPDATE},                   /* 4097 and more */
		{"8220", HPACK_BAD_SIZE_UPDATE},                     /* after a field */
		{"4081ff", HPACK_BAD_HUFFMAN}, {"4084ffffffff", HPACK_BAD_HUFFMAN}, {"4082 f1ff", HPACK_BAD_HUFFMAN}, /* padding of 8, EOS, too long */
		{"4081f0", HPACK_BAD_HUFFMAN},                       /* padding that is not ones */
	};
	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		struct fixture f;
		begin(&f);
		enum hpack_result got = decode(&f, bad[i].hex);
		if (got != bad[i].want)
			print_error("block %s: %d\n", bad[i].hex, got);
		assert_int_equal(got, bad[i].want);
		assert_true(hpack_is_fatal(got));
		end(&f);
	}
}

static void test_an_entry_larger_than_the_table_empties_it(void **state)
{
	struct fixture f;
	begin(&f);
	assert_int_equal(decode(&f, "4001 6101 62"), HPACK_OK);
	assert_int_equal(f.d.n_entries, 1);
	assert_int_equal(decode(&f, "3f01 4001 6101 62"), HPACK_OK); /* table of 32 bytes */
	assert_field(&f, 0, "a", "b");
	assert_int_equal(f.d.n_entries, 0);
	end(&f);
}

static void test_a_list_beyond_its_limit_is_dropped_and_the_table_stays_right(void **state)
{
	struct fixture f;
	begin(&f);
	limits.fields_max = 2;
	assert_int_equal(decode(&f, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"), HPACK_TOO_LARGE);
	assert_int_equal(f.list.n, 2);
	limits.fields_max = 100;
	assert_int_equal(decode(&f, "be"), HPACK_OK);
	assert_field(&f, 0, ":authority", "www.example.com");
	end(&f);
}

/* A name that comes from the very entry that the insertion evicts (section 4.4). */
static void test_a_name_may_come_from_an_entry_that_is_evicted(void **state)
{
	struct fixture f;
	begin(&f);
	assert_int_equal(decode(&f, "3f04 4001 6101 62"), HPACK_OK); /* table of 35 bytes holds a: b (34) */
	assert_int_equal(decode(&f, "7e01 63"), HPACK_OK);
	assert_field(&f, 0, "a", "c");
	assert_int_equal(decode(&f, "be"), HPACK_OK);
	assert_field(&f, 0, "a", "c");
	end(&f);
}

static void test_thousands_of_insertions_keep_the_newest_in_place(void **state)
{
	struct fixture f;
	begin(&f);
	for (unsigned int i = 0; i < 5000; i++) {
		char block[96], name[16], value[64];
		int n_name = snprintf(name, sizeof(name), "n%u", i), n_value = snprintf(value, sizeof(value), "%0*u", (int)(i % 50) + 1, i);
		int n = snprintf(block, sizeof(block), "\x40%c%s%c%s", n_name, name, n_value, value);
		f.list = (struct http_headers){0};
		assert_int_equal(hpack_decode(f.w, &f.d, foil_slice_of(block, (size_t)n), &limits, &f.a, &f.list), HPACK_OK);
		assert_int_equal(decode(&f, "be"), HPACK_OK);
		assert_field(&f, 0, name, value);
		foil_arena_reset(f.w, &f.a);
	}
	end(&f);
}

static void test_what_the_encoder_writes_decodes_to_the_same_fields(void **state)
{
	static const char *const fields[][2] = {
		{":method", "GET"}, {":method", "PATCH"}, {":scheme", "https"}, {":path", "/"}, {":path", "/a?b=c"}, {":authority", "x.example"},
		{"content-type", "text/plain"}, {"authorization", "Bearer x"}, {"cookie", "a=b"}, {"x-own", ""}, {"x-request-id", "1"},
	};
	struct fixture f;
	uint8_t room[512];
	struct hpack_out o = {.at = room, .end = room + sizeof(room)};
	begin(&f);
	hpack_put_status(&o, 200);
	hpack_put_status(&o, 418);
	for (size_t i = 0; i < FOIL_COUNT_OF(fields); i++)
		hpack_put(&o, id_of(fields[i][0]), foil_slice_str(fields[i][0]), foil_slice_str(fields[i][1]));
	assert_false(o.is_full);
	assert_int_equal(hpack_decode(f.w, &f.d, foil_slice_of(room, (size_t)(o.at - room)), &limits, &f.a, &f.list), HPACK_OK);
	assert_field(&f, 0, ":status", "200");
	assert_field(&f, 1, ":status", "418");
	for (uint16_t i = 0; i < FOIL_COUNT_OF(fields); i++)
		assert_field(&f, (uint16_t)(i + 2), fields[i][0], fields[i][1]);
	assert_int_equal(f.d.n_entries, 0);
	end(&f);
}

static void test_an_encoder_without_room_says_so(void **state)
{
	uint8_t room[8];
	struct hpack_out o = {.at = room, .end = room + sizeof(room)};
	hpack_put(&o, HTTP_HDR_OTHER, FOIL_SLICE("x-long-name"), FOIL_SLICE("value"));
	assert_true(o.is_full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_of_rfc7541_c3_and_with_huffman_c4),
		cmocka_unit_test(test_responses_evict_as_rfc7541_c6_says),
		cmocka_unit_test(test_blocks_that_break_the_rules_are_fatal),
		cmocka_unit_test(test_an_entry_larger_than_the_table_empties_it),
		cmocka_unit_test(test_a_list_beyond_its_limit_is_dropped_and_the_table_stays_right),
		cmocka_unit_test(test_a_name_may_come_from_an_entry_that_is_evicted),
		cmocka_unit_test(test_thousands_of_insertions_keep_the_newest_in_place),
		cmocka_unit_test(test_what_the_encoder_writes_decodes_to_the_same_fields),
		cmocka_unit_test(test_an_encoder_without_room_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
