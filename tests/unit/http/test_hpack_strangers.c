/* HPACK against a stranger's: what libnghttp2 encodes decodes here to the same fields, what our encoder writes decodes there, and of blocks that are
 * broken or made of chance both say the same. Huffman codes of every symbol, short and long, come from RFC 7541's table itself. */
#include "tests/unit/support.h"

#include <nghttp2/nghttp2.h>

#include "dataplane/core/prng.h"
#include "dataplane/http/hpack.h"

#define FIELDS_MAX 12u
#define BLOCK_BYTES_MAX 8192u

static const struct hpack_limits limits = {.list_bytes_max = 60 * 1024, .fields_max = 200};

struct field {
	uint8_t name[1024], value[1024];
	uint32_t n_name, n_value;
};
struct fields {
	struct field list[64];
	uint32_t n;
};

struct pair {
	struct foil_worker *w;
	struct foil_prng prng;
	struct hpack_decoder ours;
	struct foil_arena a;
	nghttp2_hd_inflater *inflater;
	nghttp2_hd_deflater *deflater;
};

static void begin(struct pair *p, uint64_t seed)
{
	static struct foil_worker *w; /* of all of them */

	if (!w)
		w = t_worker(.seed = seed);
	memset(p, 0, sizeof(*p));
	p->w = w;
	foil_prng_seed(&p->prng, seed);
	hpack_decoder_init(&p->ours);
	assert_int_equal(nghttp2_hd_inflate_new(&p->inflater), 0);
	assert_int_equal(nghttp2_hd_deflate_new(&p->deflater, HPACK_TABLE_BYTES), 0);
}

static void end(struct pair *p)
{
	nghttp2_hd_inflate_del(p->inflater);
	nghttp2_hd_deflate_del(p->deflater);
	foil_arena_reset(p->w, &p->a);
	t_assert_no_leaks(p->w);
}

/* False: it is broken. */
static bool their_decode(struct pair *p, const uint8_t *block, size_t n, struct fields *out)
{
	out->n = 0;
	for (;;) {
		nghttp2_nv nv;
		int flags = 0;
		ssize_t used = nghttp2_hd_inflate_hd2(p->inflater, &nv, &flags, block, n, 1);
		if (used < 0)
			return false;
		block += used;
		n -= (size_t)used;
		if (flags & NGHTTP2_HD_INFLATE_EMIT) {
			assert_true(out->n < FOIL_COUNT_OF(out->list) && nv.namelen <= sizeof(out->list[0].name) && nv.valuelen <= sizeof(out->list[0].value));
			struct field *f = &out->list[out->n++];
			f->n_name = (uint32_t)nv.namelen;
			f->n_value = (uint32_t)nv.valuelen;
			memcpy(f->name, nv.name, nv.namelen);
			memcpy(f->value, nv.value, nv.valuelen);
		}
		if (flags & NGHTTP2_HD_INFLATE_FINAL) {
			nghttp2_hd_inflate_end_headers(p->inflater);
			return true;
		}
		if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && n == 0)
			return false;
	}
}

static enum hpack_result our_decode(struct pair *p, const uint8_t *block, size_t n, struct http_headers *list)
{
	foil_arena_reset(p->w, &p->a);
	*list = (struct http_headers){0};
	return hpack_decode(p->w, &p->ours, foil_slice_of(block, n), &limits, &p->a, list);
}

static void assert_same(const struct http_headers *list, const struct fields *want)
{
	assert_int_equal(list->n, want->n);
	for (uint16_t i = 0; i < list->n; i++) {
		const struct http_header *h = &list->list[i];
		const struct field *f = &want->list[i];
		assert_int_equal(h->name.n_bytes, f->n_name);
		assert_int_equal(h->value.n_bytes, f->n_value);
		assert_memory_equal(h->name.data, f->name, f->n_name);
		assert_memory_equal(h->value.data, f->value, f->n_value);
	}
}

/* Names that are known, static, pseudo or neither; values short, long, of header letters or of any byte; often one of a few, so that tables are used. */
static void make_fields(struct pair *p, struct fields *out)
{
	static const char *const names[] = {":method", ":path", ":status", ":authority", "content-type", "x-request-id", "cookie", "authorization", "server",
					    "x-own", "a", "accept-charset", "x-envoy-decorator-operation", "x-forwarded-for", "etag"};
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-./:;=%_ABCDEFXYZ";

	out->n = 1 + foil_prng_below(&p->prng, FIELDS_MAX);
	for (uint32_t i = 0; i < out->n; i++) {
		struct field *f = &out->list[i];
		uint32_t which = foil_prng_below(&p->prng, FOIL_COUNT_OF(names) + 2), kind = foil_prng_below(&p->prng, 4);
		if (which < FOIL_COUNT_OF(names))
			f->n_name = (uint32_t)snprintf((char *)f->name, sizeof(f->name), "%s", names[which]);
		else
			f->n_name = (uint32_t)snprintf((char *)f->name, sizeof(f->name), "x-%u", foil_prng_below(&p->prng, 50));
		if (kind < 2) {
			f->n_value = (uint32_t)snprintf((char *)f->value, sizeof(f->value), "value-%u", foil_prng_below(&p->prng, 5));
			continue;
		}
		f->n_value = foil_prng_below(&p->prng, kind == 2 ? 80 : 300);
		for (uint32_t k = 0; k < f->n_value; k++)
			f->value[k] = kind == 2 ? (uint8_t)letters[foil_prng_below(&p->prng, sizeof(letters) - 1)] : (uint8_t)foil_prng_u64(&p->prng);
	}
}

static size_t their_encode(struct pair *p, const struct fields *f, uint8_t *block)
{
	nghttp2_nv nv[64];

	for (uint32_t i = 0; i < f->n; i++)
		nv[i] = (nghttp2_nv){(uint8_t *)(uintptr_t)f->list[i].name, (uint8_t *)(uintptr_t)f->list[i].value, f->list[i].n_name, f->list[i].n_value,
				     foil_prng_below(&p->prng, 8) ? NGHTTP2_NV_FLAG_NONE : NGHTTP2_NV_FLAG_NO_INDEX};
	ssize_t n = nghttp2_hd_deflate_hd(p->deflater, block, BLOCK_BYTES_MAX, nv, f->n);
	assert_true(n >= 0);
	return (size_t)n;
}

static void test_what_they_encode_decodes_here(void **state)
{
	static uint8_t block[BLOCK_BYTES_MAX];
	static struct fields fields;
	struct pair p;

	begin(&p, 11);
	for (int i = 0; i < 4000; i++) {
		struct http_headers list;
		if (foil_prng_below(&p.prng, 40) == 0)
			assert_int_equal(nghttp2_hd_deflate_change_table_size(p.deflater, foil_prng_below(&p.prng, HPACK_TABLE_BYTES + 1)), 0);
		make_fields(&p, &fields);
		size_t n = their_encode(&p, &fields, block);
		assert_int_equal(our_decode(&p, block, n, &list), HPACK_OK);
		assert_same(&list, &fields);
		for (uint16_t k = 0; k < list.n; k++) /* an id or none: the same whether the field came as a literal or from a table */
			if (fields.list[k].name[0] != ':')
				assert_int_equal(list.list[k].id, http_header_intern(list.list[k].name));
			else
				assert_true(list.list[k].id >= HTTP_HDR_COUNT && list.list[k].id < HPACK_ID_COUNT);
	}
	end(&p);
}

static uint16_t id_of(struct foil_slice name)
{
	static const struct foil_slice pseudo[] = {{":method", 7}, {":scheme", 7}, {":authority", 10}, {":path", 5}, {":status", 7}, {":protocol", 9}};

	for (uint16_t i = 0; i < FOIL_COUNT_OF(pseudo); i++)
		if (foil_slice_eq(pseudo[i], name))
			return (uint16_t)(HPACK_METHOD + i);
	return (uint16_t)http_header_intern(name);
}

static struct hpack_out our_encode(struct hpack_encoder *e, const struct fields *f, uint8_t *block)
{
	struct hpack_out o = {.at = block, .end = block + BLOCK_BYTES_MAX};

	if (e)
		hpack_encoder_begin(&o, e);
	for (uint32_t k = 0; k < f->n; k++) {
		struct foil_slice name = foil_slice_of(f->list[k].name, f->list[k].n_name), value = foil_slice_of(f->list[k].value, f->list[k].n_value);
		uint16_t id = id_of(name);
		if (id == HPACK_STATUS) /* has a call of its own */
			id = HTTP_HDR_OTHER;
		if (e)
			hpack_put_indexed(&o, e, id, name, value);
		else
			hpack_put(&o, id, name, value);
	}
	assert_false(o.is_full);
	return o;
}

static void assert_they_read(struct pair *p, const struct hpack_out *o, const uint8_t *block, const struct fields *want)
{
	static struct fields got;

	assert_true(their_decode(p, block, (size_t)(o->at - block), &got));
	assert_int_equal(got.n, want->n);
	for (uint32_t k = 0; k < got.n; k++) {
		assert_int_equal(got.list[k].n_name, want->list[k].n_name);
		assert_int_equal(got.list[k].n_value, want->list[k].n_value);
		assert_memory_equal(got.list[k].name, want->list[k].name, got.list[k].n_name);
		assert_memory_equal(got.list[k].value, want->list[k].value, got.list[k].n_value);
	}
}

static void test_what_we_encode_decodes_there(void **state)
{
	static uint8_t block[BLOCK_BYTES_MAX];
	static struct fields fields;
	struct pair p;

	begin(&p, 12);
	for (int i = 0; i < 4000; i++) {
		make_fields(&p, &fields);
		struct hpack_out o = our_encode(NULL, &fields, block);
		assert_they_read(&p, &o, block, &fields);
	}
	end(&p);
}

/* Blocks that use the table in between blocks that do not, and some that are made and not sent, or taken back; both decoders follow. */
static void test_what_we_index_decodes_there(void **state)
{
	static uint8_t block[BLOCK_BYTES_MAX];
	static struct fields fields;
	static struct hpack_encoder e;
	struct pair p;
	uint64_t n_bytes = 0, n_plain_bytes = 0;

	begin(&p, 13);
	for (int i = 0; i < 20000; i++) {
		struct http_headers list;
		make_fields(&p, &fields);
		if (foil_prng_below(&p.prng, 3)) /* mostly of the same few */
			for (uint32_t k = 0; k < fields.n; k++)
				fields.list[k].n_value = (uint32_t)snprintf((char *)fields.list[k].value, sizeof(fields.list[k].value), "value-%u", i / 100);
		if (foil_prng_below(&p.prng, 20) == 0) { /* it does not fit where it was tried first, here at some field or none */
			struct hpack_mark before = hpack_encoder_mark(&e);
			static struct fields others;
			make_fields(&p, &others);
			(void)our_encode(&e, foil_prng_below(&p.prng, 2) ? &others : &fields, block);
			hpack_encoder_rewind(&e, &before);
		}
		struct hpack_out o = our_encode(foil_prng_below(&p.prng, 10) ? &e : NULL, &fields, block);
		if (foil_prng_below(&p.prng, 50) == 0) {
			hpack_encoder_forget(&e);
			continue;
		}
		assert_they_read(&p, &o, block, &fields);
		assert_int_equal(our_decode(&p, block, (size_t)(o.at - block), &list), HPACK_OK);
		assert_same(&list, &fields);
		n_bytes += (uint64_t)(o.at - block);
		o = our_encode(NULL, &fields, block);
		n_plain_bytes += (uint64_t)(o.at - block);
	}
	assert_true(n_bytes < n_plain_bytes);
	end(&p);
}

static void test_the_same_head_again_is_a_byte_a_field_but_for_secrets(void **state)
{
	static const char *const same[][2] = {{":authority", "a.example"}, {"user-agent", "x/1"}, {"x-forwarded-for", "198.18.0.1"}, {"server", "y"}};
	static const char *const secret[][2] = {{"authorization", "Bearer x"}, {"cookie", "a=bbbbbbbbbbbbbbbbbbbbbbbbbb"}, {"set-cookie", "c=d"},
						{"x-own", "e"}};
	static struct hpack_encoder e;
	uint8_t block[512];
	struct hpack_out o;

	for (int i = 0; i < 3; i++) {
		o = (struct hpack_out){.at = block, .end = block + sizeof(block)};
		for (size_t k = 0; k < FOIL_COUNT_OF(same); k++)
			hpack_put_indexed(&o, &e, id_of(foil_slice_str(same[k][0])), foil_slice_str(same[k][0]), foil_slice_str(same[k][1]));
		if (i)
			assert_int_equal(o.at - block, FOIL_COUNT_OF(same));
	}
	uint32_t n_inserted = e.n_inserted;
	assert_int_equal(n_inserted, FOIL_COUNT_OF(same));
	for (size_t k = 0; k < FOIL_COUNT_OF(secret); k++)
		hpack_put_indexed(&o, &e, id_of(foil_slice_str(secret[k][0])), foil_slice_str(secret[k][0]), foil_slice_str(secret[k][1]));
	assert_int_equal(e.n_inserted, n_inserted);
}

/* What differs each time does not push the others out of the table. */
static void test_a_value_that_is_never_the_same_is_soon_not_indexed(void **state)
{
	static struct hpack_encoder e;
	uint8_t block[128];

	for (uint32_t i = 0; i < 1000; i++) {
		struct hpack_out o = {.at = block, .end = block + sizeof(block)};
		char path[32];
		hpack_put_indexed(&o, &e, HPACK_PATH, FOIL_SLICE(":path"), foil_slice_of(path, (size_t)snprintf(path, sizeof(path), "/items/%u", i)));
	}
	assert_in_range(e.n_inserted, 8, 200);
}

/* Every cut of room: nothing is written beyond it, and what is not full is whole. */
static void test_an_encoder_writes_no_further_than_its_room(void **state)
{
	uint8_t block[160];

	for (uint32_t n_room = 0; n_room < 128; n_room++) {
		struct hpack_out o = {.at = block, .end = block + n_room};
		memset(block, 0xee, sizeof(block));
		hpack_put(&o, HPACK_PATH, FOIL_SLICE(":path"), FOIL_SLICE("/a"));
		hpack_put(&o, HTTP_HDR_X_REQUEST_ID, FOIL_SLICE("x-request-id"), FOIL_SLICE("0123456789"));
		hpack_put(&o, HTTP_HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE, FOIL_SLICE("x-envoy-upstream-rq-timeout-alt-response"), FOIL_SLICE("1"));
		hpack_put(&o, HTTP_HDR_OTHER, FOIL_SLICE("x-own"), FOIL_SLICE("value"));
		for (uint32_t i = n_room; i < sizeof(block); i++)
			assert_int_equal(block[i], 0xee);
		assert_int_equal(o.is_full, n_room < 4 + 24 + 45 + 13);
	}
}

/* Both fail, or both give the same; each attempt with fresh tables that a good block has filled. */
static void compare(struct pair *p, const uint8_t *block, size_t n)
{
	static struct fields got;
	struct http_headers list;
	bool is_good = their_decode(p, block, n, &got);
	enum hpack_result rc = our_decode(p, block, n, &list);

	assert_int_equal(is_good, !hpack_is_fatal(rc));
	if (is_good)
		assert_same(&list, &got);
}

static void test_of_broken_blocks_both_say_the_same(void **state)
{
	static uint8_t block[BLOCK_BYTES_MAX];
	static struct fields fields;

	for (uint64_t seed = 100; seed < 1500; seed++) {
		struct pair p;
		begin(&p, seed);
		make_fields(&p, &fields);
		size_t n = their_encode(&p, &fields, block);
		compare(&p, block, n);
		n = their_encode(&p, &fields, block);
		if (seed % 3 == 0)
			n = foil_prng_below(&p.prng, (uint32_t)n + 1);
		for (uint32_t k = foil_prng_below(&p.prng, 4); k && n; k--)
			block[foil_prng_below(&p.prng, (uint32_t)n)] = (uint8_t)foil_prng_u64(&p.prng);
		compare(&p, block, n);
		end(&p);
	}
}

/* ---- Huffman ---- */
static const struct {
	uint32_t code, n_bits;
} codes[257] = {
#define X(code, bits) {code, bits},
#include "dataplane/http/hpack_huffman.def"
#undef X
};

struct writer {
	uint8_t at[1024];
	uint32_t n_bits;
};

static void put_bits(struct writer *o, uint32_t value, uint32_t n)
{
	for (; n; n--, o->n_bits++) {
		assert_true(o->n_bits / 8 < sizeof(o->at));
		o->at[o->n_bits / 8] |= (uint8_t)((value >> (n - 1) & 1) << (7 - o->n_bits % 8));
	}
}

/* A literal field "a" with these bits as its value, on both sides. */
static void compare_huffman(const struct writer *bits)
{
	uint8_t block[1100] = {0x00, 0x01, 'a'};
	uint32_t n = (bits->n_bits + 7) / 8, at = 3;
	struct pair p;

	begin(&p, 5);
	if (n < 127) {
		block[at++] = (uint8_t)(0x80 | n);
	} else {
		block[at++] = 0xff;
		for (uint32_t left = n - 127; ; left >>= 7) {
			block[at++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
			if (left <= 0x7f)
				break;
		}
	}
	memcpy(&block[at], bits->at, n);
	compare(&p, block, at + n);
	end(&p);
}

static void test_every_symbol_behind_every_other(void **state)
{
	for (uint32_t a = 0; a < 256; a++) { /* each row in one string, so that codes begin at every bit */
		struct writer bits = {.n_bits = 0};
		for (uint32_t b = (a % 8) * 32; b < (a % 8) * 32 + 32; b++) {
			put_bits(&bits, codes[a].code, codes[a].n_bits);
			put_bits(&bits, codes[b].code, codes[b].n_bits);
		}
		put_bits(&bits, UINT32_MAX, (8 - bits.n_bits % 8) % 8);
		compare_huffman(&bits);
	}
}

/* Each symbol at the end, followed by padding of every length and kind: right, none, too long, not ones, EOS. */
static void test_every_end_of_a_huffman_string(void **state)
{
	for (uint32_t a = 0; a < 257; a++) {
		for (uint32_t n_pad = 0; n_pad < 34; n_pad++) {
			for (uint32_t zero_at = 0; zero_at <= n_pad && zero_at < 9; zero_at++) { /* 0: none */
				struct writer bits = {.n_bits = 0};
				put_bits(&bits, codes[a].code, codes[a].n_bits);
				for (uint32_t i = 1; i <= n_pad; i++)
					put_bits(&bits, i != zero_at, 1);
				if (bits.n_bits % 8 == 0)
					compare_huffman(&bits);
			}
		}
	}
}

static void test_chance_as_huffman(void **state)
{
	struct foil_prng prng;

	foil_prng_seed(&prng, 77);
	for (int i = 0; i < 3000; i++) {
		struct writer bits = {.n_bits = 8 * foil_prng_below(&prng, 40)};
		for (uint32_t k = 0; k < bits.n_bits / 8; k++)
			bits.at[k] = (uint8_t)foil_prng_u64(&prng);
		compare_huffman(&bits);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_they_encode_decodes_here),
		cmocka_unit_test(test_what_we_encode_decodes_there),
		cmocka_unit_test(test_what_we_index_decodes_there),
		cmocka_unit_test(test_the_same_head_again_is_a_byte_a_field_but_for_secrets),
		cmocka_unit_test(test_a_value_that_is_never_the_same_is_soon_not_indexed),
		cmocka_unit_test(test_an_encoder_writes_no_further_than_its_room),
		cmocka_unit_test(test_of_broken_blocks_both_say_the_same),
		cmocka_unit_test(test_every_symbol_behind_every_other),
		cmocka_unit_test(test_every_end_of_a_huffman_string),
		cmocka_unit_test(test_chance_as_huffman),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
