/* The PROXY protocol's reader and writer. Which headers are good is what the oracle (Envoy 1.40, driven by Istio's gatewayTopology.proxyProtocol) said of
 * the same bytes, but for a wrong CRC-32C, which is refused here. */
#include "tests/unit/support.h"

#include "dataplane/core/crc32c.h"
#include "dataplane/mesh/proxy_header.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\1\2\3\4\5\6\7\10\4\127\10\256" /* 1.2.3.4:1111, 5.6.7.8:2222 */
#define BYTES(text) text, sizeof(text) - 1

static struct foil_worker *w;

static enum proxy_header_result read_in_pieces(const void *data, uint32_t n, uint32_t cut, struct proxy_header *out)
{
	struct foil_chain rx = {0};
	enum proxy_header_result r = PROXY_HEADER_MORE;

	for (uint32_t at = 0; at < n && r == PROXY_HEADER_MORE; at += cut) {
		assert_int_equal(foil_chain_append(w, &rx, (const char *)data + at, FOIL_MIN(cut, n - at)), 0);
		r = proxy_header_read(&rx, out);
		assert_int_equal(rx.n_bytes, FOIL_MIN(at + cut, n));
	}
	foil_chain_clear(&rx);
	return r;
}

struct example {
	const char *text;
	uint32_t n_bytes;
	enum proxy_header_result result;
	bool has_addresses;
};

static const struct example examples[] = {
	{BYTES("GET / HTTP/1.1\r\n"), PROXY_HEADER_ABSENT, false},
	{BYTES("proxy TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n"), PROXY_HEADER_ABSENT, false},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n"), PROXY_HEADER_READY, true},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n"), PROXY_HEADER_READY, true},
	{BYTES("PROXY TCP6 2001:db8::1 2001:db8::2 1111 2222\r\n"), PROXY_HEADER_READY, true},
	{BYTES("PROXY UNKNOWN\r\n"), PROXY_HEADER_READY, false},
	{BYTES("PROXY UNKNOWN a b c\r\n"), PROXY_HEADER_READY, false},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r"), PROXY_HEADER_MORE, false},
	{BYTES("PROXY TCP4 1.2.3.444 5.6.7.8 1111 2222\r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 111111 2222\r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2222\r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 01 2222\r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY TCP4 \t1.2.3.4 5.6.7.8 1 2\r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY TCP4 2001:db8::1 5.6.7.8 1111 2222\r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY TCP6 1.2.3.4 5.6.7.8 1111 2222\r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY UDP4 1.2.3.4 5.6.7.8 1111 2222\r\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY \n"), PROXY_HEADER_BAD, false},
	{BYTES("PROXY UNKNOWN 1111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111\r\n"), PROXY_HEADER_READY, false},
	{BYTES("PROXY UNKNOWN 11111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111\r\n"), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x21\x11\0\14" V4), PROXY_HEADER_READY, true},
	{BYTES(SIG "\x21\x12\0\14" V4), PROXY_HEADER_READY, true},
	{BYTES(SIG "\x20\0\0\0"), PROXY_HEADER_READY, false},
	{BYTES(SIG "\x20\x11\0\14" V4), PROXY_HEADER_READY, false},
	{BYTES(SIG "\x20\xff\0\3abc"), PROXY_HEADER_READY, false},
	{BYTES(SIG "\x21\x11\0\22" V4 "\2\0\3abc"), PROXY_HEADER_READY, true},
	{BYTES(SIG "\x21\x11\0\22" V4 "\2\0\4abc"), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x21\x11\0\16" V4 "\2\0"), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x21\x11\0\23" V4 "\3\0\4abcd"), PROXY_HEADER_BAD, false}, /* not its CRC */
	{BYTES(SIG "\x21\x11\0\22" V4 "\3\0\3abc"), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x21\0\0\0"), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x21\x10\0\14" V4), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x21\x13\0\14" V4), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x21\x11\0\4\1\2\3\4"), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x31\x11\0\14" V4), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x22\x11\0\14" V4), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x21\x41\0\14" V4), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x21\x11\xff\xff"), PROXY_HEADER_BAD, false},
	{BYTES(SIG "\x21\x11\0\14\1\2\3"), PROXY_HEADER_MORE, false},
};

static void test_headers_good_and_bad_however_cut(void **state)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(examples); i++) {
		const struct example *e = &examples[i];
		for (uint32_t cut = 1; cut <= e->n_bytes; cut++) {
			struct proxy_header h;
			if (read_in_pieces(e->text, e->n_bytes, cut, &h) != e->result)
				fail_msg("example %zu (%.30s) cut at %u: %d", i, e->text, cut, read_in_pieces(e->text, e->n_bytes, cut, &h));
			if (e->result != PROXY_HEADER_READY)
				continue;
			assert_int_equal(h.n_bytes, e->n_bytes);
			assert_int_equal(h.has_addresses, e->has_addresses);
		}
	}
}

static void test_addresses_are_those_that_were_told(void **state)
{
	static const uint8_t client[16] = {[10] = 0xff, [11] = 0xff, 1, 2, 3, 4}, server[16] = {[10] = 0xff, [11] = 0xff, 5, 6, 7, 8};
	static const uint8_t client6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
	struct proxy_header h;

	for (int i = 0; i < 2; i++) {
		const char *text = i ? SIG "\x21\x11\0\14" V4 "rest" : "PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\nrest";
		assert_int_equal(read_in_pieces(text, i ? 32 : 42, 42, &h), PROXY_HEADER_READY);
		assert_int_equal(h.n_bytes, i ? 28 : 38);
		assert_memory_equal(h.source.ip, client, 16);
		assert_memory_equal(h.destination.ip, server, 16);
		assert_int_equal(h.source.port, 1111);
		assert_int_equal(h.destination.port, 2222);
	}
	assert_int_equal(read_in_pieces(BYTES("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"), 99, &h), PROXY_HEADER_READY);
	assert_memory_equal(h.source.ip, client6, 16);
}

static void test_a_checksum_is_looked_at(void **state)
{
	uint8_t bytes[16 + 12 + 7 + 6] = SIG "\x21\x11\0\x19" V4;
	static const uint8_t tail[] = {4, 0, 3, 'a', 'b', 'c', 3, 0, 4};
	struct proxy_header h;

	memcpy(&bytes[28], tail, sizeof(tail));
	uint32_t crc = foil_crc32c(0, bytes, sizeof(bytes));
	for (int i = 0; i < 4; i++)
		bytes[37 + i] = (uint8_t)(crc >> (24 - 8 * i));
	for (uint32_t cut = 1; cut <= sizeof(bytes); cut++)
		assert_int_equal(read_in_pieces(bytes, sizeof(bytes), cut, &h), PROXY_HEADER_READY);
	bytes[33] ^= 1;
	assert_int_equal(read_in_pieces(bytes, sizeof(bytes), 99, &h), PROXY_HEADER_BAD);
}

static void assert_written(enum proxy_header_version version, const struct stream_addr *a, const struct stream_addr *b, const char *text, uint32_t n)
{
	uint8_t out[PROXY_HEADER_WRITE_BYTES_MAX];

	assert_int_equal(proxy_header_write(version, a, b, out), n);
	assert_memory_equal(out, text, n);
}

static void test_what_is_written(void **state)
{
	const struct stream_addr a = {{[10] = 0xff, [11] = 0xff, 1, 2, 3, 4}, 1111}, b = {{[10] = 0xff, [11] = 0xff, 5, 6, 7, 8}, 2222};
	const struct stream_addr c = {{0x20, 1, 0xd, 0xb8, [15] = 1}, 65535};
	struct proxy_header h;
	uint8_t out[PROXY_HEADER_WRITE_BYTES_MAX];

	assert_int_equal(proxy_header_write(PROXY_HEADER_NONE, &a, &b, out), 0);
	assert_written(PROXY_HEADER_V1, &a, &b, BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n"));
	assert_written(PROXY_HEADER_V1, &c, &b, BYTES("PROXY TCP6 2001:db8::1 ::ffff:5.6.7.8 65535 2222\r\n"));
	assert_written(PROXY_HEADER_V1, NULL, NULL, BYTES("PROXY UNKNOWN\r\n"));
	assert_written(PROXY_HEADER_V2, &a, &b, BYTES(SIG "\x21\x11\0\14" V4));
	assert_written(PROXY_HEADER_V2, NULL, NULL, BYTES(SIG "\x20\0\0\0"));
	for (int version = PROXY_HEADER_V1; version <= PROXY_HEADER_V2; version++) {
		uint32_t n = proxy_header_write((enum proxy_header_version)version, &c, &b, out);
		assert_int_equal(read_in_pieces(out, n, n, &h), PROXY_HEADER_READY);
		assert_memory_equal(h.source.ip, c.ip, 16);
		assert_memory_equal(h.destination.ip, b.ip, 16);
		assert_int_equal(h.source.port, 65535);
	}
}

static int setup(void **state)
{
	w = t_worker();
	return 0;
}

static int teardown(void **state)
{
	t_worker_free(w);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers_good_and_bad_however_cut), cmocka_unit_test(test_addresses_are_those_that_were_told),
		cmocka_unit_test(test_a_checksum_is_looked_at), cmocka_unit_test(test_what_is_written),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
