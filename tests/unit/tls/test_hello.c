/* The ClientHello's names: real hellos of OpenSSL cut at every byte and over records of every size, and hellos made by hand that break one rule each. */
#include "tests/unit/tls/rig.h"

#include <openssl/err.h>

#include <stdlib.h>

static struct foil_worker *worker(void)
{
	struct foil_worker *w = t_worker(.seed = 3, .n_mbufs = 4095);
	struct tls_params p = {.conns_max = 4};
	struct foil_error err = {0};

	assert_int_equal(tls_init(w, &p, &err), 0);
	return w;
}

static void done(struct foil_worker *w)
{
	tls_fini(w);
	t_worker_free(w);
}

/* One record of OpenSSL's; the message begins at byte 5. */
static size_t real_hello(uint8_t *out, size_t n_max, const char *sni, const char *alpn)
{
	SSL_CTX *c = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(c);

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(ssl);
	if (sni)
		assert_int_equal(SSL_set_tlsext_host_name(ssl, sni), 1);
	if (alpn)
		assert_int_equal(SSL_set_alpn_protos(ssl, (const uint8_t *)alpn, (unsigned int)strlen(alpn)), 0);
	(void)SSL_do_handshake(ssl);
	ERR_clear_error();
	int n = BIO_read(SSL_get_wbio(ssl), out, (int)n_max);
	assert_true(n > 100);
	SSL_free(ssl);
	SSL_CTX_free(c);
	return (size_t)n;
}

static void check_names(const struct tls_hello *h)
{
	assert_int_equal(h->sni.n_bytes, 15);
	assert_memory_equal(h->sni.data, "web.Example.com", 15);
	assert_int_equal(h->alpn.n_bytes, 12);
	assert_memory_equal(h->alpn.data, "\x02h2\x08http/1.1", 12);
	assert_true(h->has_tls13);
	assert_int_equal(h->version_max, 0x0304);
}

static void test_a_hello_that_comes_byte_by_byte(void **state)
{
	struct foil_worker *w = worker();
	uint8_t bytes[2048];
	size_t n = real_hello(bytes, sizeof(bytes), "web.Example.com", "\x02h2\x08http/1.1");
	struct foil_chain rx = {0};
	struct tls_hello_scan scan = {0};
	struct tls_hello h;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		t_chain(w, &rx, bytes + i, 1, 1);
		enum tls_hello_result r = tls_hello_peek(w, &rx, &scan, &h);
		assert_int_equal(r, i + 1 < n ? TLS_HELLO_MORE : TLS_HELLO_READY);
		if (r == TLS_HELLO_MORE)
			assert_true(scan.wanted_bytes > i + 1);
	}
	check_names(&h);
	t_assert_chain(&rx, bytes, (uint32_t)n); /* untouched */
	foil_chain_clear(&rx);
	done(w);
}

static void test_a_hello_over_records_of_every_size(void **state)
{
	struct foil_worker *w = worker();
	uint8_t bytes[2048], cut[16384];
	size_t n = real_hello(bytes, sizeof(bytes), "web.Example.com", "\x02h2\x08http/1.1");

	(void)state;
	for (size_t size = 1; size < n; size += size < 20 ? 1 : 13) {
		struct foil_chain rx = {0};
		struct tls_hello_scan scan = {0};
		struct tls_hello h;
		size_t at = 0;
		for (size_t from = 5; from < n; from += size) {
			size_t take = FOIL_MIN(size, n - from);
			const uint8_t head[5] = {22, 3, 1, 0, 0};
			memcpy(cut + at, head, 5);
			cut[at + 3] = (uint8_t)(take >> 8);
			cut[at + 4] = (uint8_t)take;
			memcpy(cut + at + 5, bytes + from, take);
			at += 5 + take;
		}
		t_chain(w, &rx, cut, (uint32_t)at, 100);
		assert_int_equal(tls_hello_peek(w, &rx, &scan, &h), TLS_HELLO_READY);
		check_names(&h);
		foil_chain_clear(&rx);
	}
	done(w);
}

/* A message made by hand: extensions given whole, with their list's length put before. */
static size_t make(uint8_t *out, const void *ext, size_t n_ext)
{
	size_t n = 4;

	memset(out, 0, 64);
	out[n++] = 3;
	out[n++] = 3;
	n += 32;
	out[n++] = 0;
	memcpy(out + n, "\x00\x02\x13\x01\x01\x00", 6);
	n += 6;
	out[n++] = (uint8_t)(n_ext >> 8);
	out[n++] = (uint8_t)n_ext;
	memcpy(out + n, ext, n_ext);
	n += n_ext;
	out[0] = 1;
	out[1] = (uint8_t)((n - 4) >> 16);
	out[2] = (uint8_t)((n - 4) >> 8);
	out[3] = (uint8_t)(n - 4);
	return n;
}

static enum tls_hello_result parse(const void *ext, size_t n_ext, struct tls_hello *h)
{
	static uint8_t message[70000];

	return tls_hello_parse(foil_slice_of(message, make(message, ext, n_ext)), h);
}

static void test_extensions_that_break_a_rule(void **state)
{
	static const struct {
		const char *ext;
		size_t n;
		enum tls_hello_result want;
	} cases[] = {
		{"", 0, TLS_HELLO_READY},
		{"\x00\x00\x00\x06\x00\x04\x00\x00\x01" "a", 10, TLS_HELLO_READY},
		{"\x00\x00\x00\x06\x00\x04\x00\x00\x02" "a", 10, TLS_HELLO_BAD},         /* the name is longer than its list */
		{"\x00\x00\x00\x06\x00\x05\x00\x00\x01" "a", 10, TLS_HELLO_BAD},         /* the list is longer than the extension */
		{"\x00\x00\x00\x05\x00\x03\x00\x00\x00", 9, TLS_HELLO_BAD},              /* an empty name */
		{"\x00\x00\x00\x06\x00\x04\x00\x00\x01\x00", 10, TLS_HELLO_BAD},         /* NUL in the name */
		{"\x00\x00\x00\x0a\x00\x08\x00\x00\x01" "a\x00\x00\x01" "b", 14, TLS_HELLO_BAD}, /* two host names */
		{"\x00\x00\x00\x06\x00\x04\x01\x00\x01" "a", 10, TLS_HELLO_READY},       /* a name of another type */
		{"\x00\x00\x00\x02\x00\x00", 6, TLS_HELLO_BAD},                          /* an empty list */
		{"\x00\x00\x00\x06\x00\x04\x00\x00\x01" "a\x00\x00\x00\x06\x00\x04\x00\x00\x01" "b", 20, TLS_HELLO_BAD}, /* twice */
		{"\x00\x10\x00\x05\x00\x03\x02h2", 9, TLS_HELLO_READY},
		{"\x00\x10\x00\x05\x00\x03\x03h2", 9, TLS_HELLO_BAD},
		{"\x00\x10\x00\x03\x00\x01\x00", 7, TLS_HELLO_BAD},                      /* an empty protocol */
		{"\x00\x2b\x00\x03\x02\x03\x04", 7, TLS_HELLO_READY},
		{"\x00\x2b\x00\x04\x03\x03\x04\x03", 8, TLS_HELLO_BAD},                  /* half a version */
		{"\x00\x2b\x00\x01\x00", 5, TLS_HELLO_BAD},
		{"\xff\x01\x00\x01\x00", 5, TLS_HELLO_READY},                            /* one we do not know */
		{"\xff\x01\x00\x02\x00", 5, TLS_HELLO_BAD},                              /* cut short */
		{"\xff\x01\x00", 3, TLS_HELLO_BAD},
	};
	struct tls_hello h;

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++)
		if (parse(cases[i].ext, cases[i].n, &h) != cases[i].want)
			fail_msg("case %zu", i);
	assert_int_equal(parse(cases[1].ext, cases[1].n, &h), TLS_HELLO_READY);
	assert_int_equal(h.sni.n_bytes, 1);
	assert_false(h.has_tls13);
}

static void test_every_cut_of_a_message_is_bad(void **state)
{
	uint8_t bytes[2048];
	size_t n = real_hello(bytes, sizeof(bytes), "web.example.com", NULL);
	struct tls_hello h;

	(void)state;
	for (size_t i = 0; i < n - 5; i++) {
		uint8_t *copy = malloc(i ? i : 1); /* a read past its end shows under ASan */
		memcpy(copy, bytes + 5, i);
		assert_int_equal(tls_hello_parse(foil_slice_of(copy, i), &h), TLS_HELLO_BAD);
		free(copy);
	}
	assert_int_equal(tls_hello_parse(foil_slice_of(bytes + 5, n - 5), &h), TLS_HELLO_READY);
}

static void test_hellos_up_to_64_kib(void **state)
{
	struct foil_worker *w = worker();
	uint8_t *ext = calloc(1, 65536), *message = malloc(80000), *wire = malloc(100000);

	(void)state;
	for (size_t pad = 16000; pad <= 65600; pad += 100) {
		size_t n_ext = FOIL_MIN(pad, 65480);
		ext[0] = 0xff;
		ext[1] = 1;
		ext[2] = (uint8_t)((n_ext - 4) >> 8);
		ext[3] = (uint8_t)(n_ext - 4);
		size_t n = make(message, ext, n_ext), at = 0;
		for (size_t from = 0; from < n; from += 16384) {
			size_t take = FOIL_MIN(16384, n - from);
			const uint8_t head[5] = {22, 3, 3, (uint8_t)(take >> 8), (uint8_t)take};
			memcpy(wire + at, head, 5);
			memcpy(wire + at + 5, message + from, take);
			at += 5 + take;
		}
		struct foil_chain rx = {0};
		struct tls_hello_scan scan = {0};
		struct tls_hello h;
		t_chain(w, &rx, wire, (uint32_t)at, 2000);
		assert_int_equal(tls_hello_peek(w, &rx, &scan, &h), n <= TLS_HELLO_BYTES_MAX ? TLS_HELLO_READY : TLS_HELLO_BAD);
		foil_chain_clear(&rx);
	}
	free(ext);
	free(message);
	free(wire);
	done(w);
}

static void test_first_bytes_that_are_none(void **state)
{
	static const struct {
		const char *bytes;
		uint32_t n;
		enum tls_hello_result want;
	} cases[] = {
		{"G", 1, TLS_HELLO_NOT_TLS}, {"\x16", 1, TLS_HELLO_MORE}, {"\x16\x03", 2, TLS_HELLO_MORE}, {"\x16\x04", 2, TLS_HELLO_NOT_TLS},
		{"\x16\x03\x01\x00\x00", 5, TLS_HELLO_BAD}, {"\x16\x03\x01\x40\x01", 5, TLS_HELLO_BAD}, {"\x16\x03\x01\x40\x00", 5, TLS_HELLO_MORE},
		{"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 9, TLS_HELLO_BAD}, {"\x16\x03\x01\x00\x04\x01\x01\x00\x00", 9, TLS_HELLO_BAD},
		{"\x16\x03\x01\x00\x01\x01\x17\x03\x03\x00\x01", 11, TLS_HELLO_BAD}, {"\x80\x2e\x01", 3, TLS_HELLO_NOT_TLS},
		{"\x16\x03\x01\x00\x04\x01\x00\x00\x04", 9, TLS_HELLO_MORE},
	};
	struct foil_worker *w = worker();

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct foil_chain rx = {0};
		struct tls_hello_scan scan = {0};
		struct tls_hello h;
		t_chain(w, &rx, cases[i].bytes, cases[i].n, 2);
		if (tls_hello_peek(w, &rx, &scan, &h) != cases[i].want)
			fail_msg("case %zu", i);
		foil_chain_clear(&rx);
	}
	done(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_hello_that_comes_byte_by_byte), cmocka_unit_test(test_a_hello_over_records_of_every_size),
		cmocka_unit_test(test_extensions_that_break_a_rule), cmocka_unit_test(test_every_cut_of_a_message_is_bad),
		cmocka_unit_test(test_hellos_up_to_64_kib), cmocka_unit_test(test_first_bytes_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
