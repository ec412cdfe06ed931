/* What the server side of HTTP/1.1 refuses, by which name, and where its bounds are. */
#include "dataplane/core/error.h"
#include "tests/unit/http/h1_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h1_side side;

#define REFUSAL "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: 11\r\n\r\nBad Request"
#define HOST "Host: a.example\r\n"

static void begin_with(const struct http_limits *limits)
{
	struct foil_error err;

	memset(&side, 0, sizeof(side));
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){64, 64}, &err), 0);
	side.reply = SIDE_REPLY_AT_END;
	side.takes_trailers = true;
	side_server(w, &side, limits);
}

static void begin(void)
{
	begin_with(NULL);
}

/* Another connection on the same worker. */
static void again(const struct http_limits *limits)
{
	side_fini(w, &side);
	side_server(w, &side, limits);
}

static void end(void)
{
	side_fini(w, &side);
	http_fini(w);
	t_worker_free(w);
}

struct refusal {
	const char *text;
	const char *told; /* status and reason */
};

static void feed_many(const char *piece, uint32_t n)
{
	for (uint32_t i = 0; i < n && fake_is_alive(&side.f); i++)
		side_feed(w, &side, piece);
}

static void test_heads_that_break_a_rule_are_refused(void **state)
{
	static const struct refusal table[] = {
		{"\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", "400 http1.codec_error"},
		{"GET / HTTP/1.1\nHost: a\n\n", "400 http1.bare_lf"},
		{"\x16\x03\x01", "400 http1.invalid_method"}, /* TLS: no line will end */
		{"GET / HTTP/1.1\r\n" HOST "X: y\nZ: a\r\n\r\n", "400 http1.bare_lf"},
		{"GET / HTTP/1.1\r\n" HOST "\n", "400 http1.bare_lf"},
		{"\nGET / HTTP/1.1\r\n" HOST "\r\n", "400 http1.bare_lf"},
		{"GET\t/ HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_method"},
		{"G(T / HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_method"},
		{"G\303\211T / HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_method"},
		{" GET / HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_method"},
		{"\rGET / HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_method"},
		{"GET\r\n\r\n", "400 http1.invalid_method"},
		{"GET  / HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_target"},
		{"GET /\r\n\r\n", "400 http1.invalid_target"},
		{"GET /a b HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_version"},
		{"GET /\x01 HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_target"},
		{"GET /\x7f HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_target"},
		{"GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_target"},
		{"GET /a\rb HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_target"},
		{"GET /  HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_version"},
		{"GET / HTTP/1.1 \r\n" HOST "\r\n", "400 http1.invalid_version"},
		{"GET / HTTP/1.1\r\r\n" HOST "\r\n", "400 http1.invalid_version"},
		{"GET / http/1.1\r\n" HOST "\r\n", "400 http1.invalid_version"},
		{"GET / HTTP/1,1\r\n" HOST "\r\n", "400 http1.invalid_version"},
		{"GET / HTTP/1.10\r\n" HOST "\r\n", "400 http1.invalid_version"},
		{"GET / HTTP/01.1\r\n" HOST "\r\n", "400 http1.invalid_version"},
		{"GET / HTTP/1.\r\n" HOST "\r\n", "400 http1.invalid_version"},
		{"GET / HTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_version"},
		{"GET / HTTP/2.0\r\n" HOST "\r\n", "505 http1.unsupported_version"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 http1.unsupported_version"},
		{"GET / HTTP/0.9\r\n" HOST "\r\n", "505 http1.unsupported_version"},
		{"GET x HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_url"},
		{"GET * HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_url"},
		{"GET http:/x HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_url"},
		{"GET http:///x HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_url"},
		{"GET ftp://x/ HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_scheme"},
		{"GET http://u@x/ HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_authority"},
		{"CONNECT /x HTTP/1.1\r\n" HOST "\r\n", "400 http1.invalid_authority"},
		{"GET http://x/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 http1.multiple_hosts"},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nHost: c\r\n\r\n", "400 http1.multiple_hosts"},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost:\r\n\r\n", "400 http1.multiple_hosts"},
		{"GET / HTTP/1.1\r\n\r\n", "400 missing_host_header"},
		{"GET http://b/ HTTP/1.1\r\n\r\n", "400 missing_host_header"},
		{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: a:6x\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: []\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\nHost: a\xe9\r\n\r\n", "400 http1.invalid_authority"},
		{"GET / HTTP/1.1\r\n X: 1\r\n" HOST "\r\n", "400 http1.obs_fold"},
		{"GET / HTTP/1.1\r\n" HOST "X: 1\r\n 2\r\n\r\n", "400 http1.obs_fold"},
		{"GET / HTTP/1.1\r\n" HOST "X: 1\r\n\t2\r\n\r\n", "400 http1.obs_fold"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n", "400 http1.obs_fold"},
		{"GET / HTTP/1.1\r\n" HOST "X : 1\r\n\r\n", "400 http1.space_before_colon"},
		{"GET / HTTP/1.1\r\n" HOST "X\t: 1\r\n\r\n", "400 http1.space_before_colon"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length : 1\r\n\r\nx", "400 http1.space_before_colon"},
		{"GET / HTTP/1.1\r\n" HOST "X\r\n\r\n", "400 http1.invalid_header_name"},
		{"GET / HTTP/1.1\r\n" HOST ": x\r\n\r\n", "400 http1.invalid_header_name"},
		{"GET / HTTP/1.1\r\n" HOST "\x0cX: x\r\n\r\n", "400 http1.invalid_header_name"},
		{"GET / HTTP/1.1\r\n" HOST "X\xe9: x\r\n\r\n", "400 http1.invalid_header_name"},
		{"GET / HTTP/1.1\r\n" HOST "X(y): x\r\n\r\n", "400 http1.invalid_header_name"},
		{"GET / HTTP/1.1\r\n" HOST "X: a\rY: b\r\n\r\n", "400 http1.invalid_header_value"},
		{"GET / HTTP/1.1\r\n" HOST "X: a\x01 b\r\n\r\n", "400 http1.invalid_header_value"},
		{"GET / HTTP/1.1\r\n" HOST "X: a\x7f\r\n\r\n", "400 http1.invalid_header_value"},
		{"GET / HTTP/1.1\r\n" HOST "X: aaaaaaaaaaaaaaaaaaaaaaaa\x1b\r\n\r\n", "400 http1.invalid_header_value"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: \x0b" "5\r\n\r\n", "400 http1.invalid_header_value"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\nhello", "400 http1.invalid_content_length"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: 5 5\r\n\r\nhello", "400 http1.invalid_content_length"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: 5,5\r\n\r\nhello", "400 http1.invalid_content_length"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello", "400 http1.invalid_content_length"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\nhello", "400 http1.invalid_content_length"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: 5.0\r\n\r\nhello", "400 http1.invalid_content_length"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\nhello", "400 http1.invalid_content_length"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775808\r\n\r\n", "400 http1.invalid_content_length"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551621\r\n\r\nhello", "400 http1.invalid_content_length"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999999\r\n\r\nhello", "400 http1.invalid_content_length"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400 http1.multiple_content_lengths"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400 http1.multiple_content_lengths"},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		 "400 http1.content_length_and_chunked_not_allowed"},
		{"POST / HTTP/1.1\r\n" HOST "tRANSFER-eNCODING: chunked\r\ncONTENT-lENGTH: 0\r\n\r\n0\r\n\r\n",
		 "400 http1.content_length_and_chunked_not_allowed"},
		{"POST / HTTP/1.1\r\n" HOST "Connection: content-length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		 "400 http1.content_length_and_chunked_not_allowed"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \"chunked\"\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \xa0" "chunked\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "426 low_version"},
		{"POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"GET / HTTP/1.1\r\n" HOST "Connection: close, X-Forwarded-For\r\n\r\n", "400 http1.connection_header_rejected"},
		{"GET / HTTP/1.1\r\n" HOST "Connection: x-forwarded-host\r\n\r\n", "400 http1.connection_header_rejected"},
		{"GET / HTTP/1.1\r\n" HOST "Connection: a\r\nConnection: x-forwarded-proto\r\n\r\n", "400 http1.connection_header_rejected"},
		{"GET / HTTP/1.1\r\n" HOST "Connection: :path\r\n\r\n", "400 http1.connection_header_rejected"},
		{"GET / HTTP/1.1\r\n" HOST "Connection: 1,2,3,4,5,6,7,8,9,close\r\n\r\n", "400 http1.connection_header_rejected"},
		{"GET / HTTP/1.0\r\n" HOST "\r\n", "426 low_version"},
		{"\x16\x03\x01" "abcdefghijklmnop\r\n\r\n", "400 http1.invalid_method"},
		{"AAAAAAAAAAAAAAAA\r\n\r\n", "400 http1.invalid_method"},
	};
	char want[128];

	begin();
	for (size_t i = 0; i < FOIL_COUNT_OF(table); i++) {
		side_feed(w, &side, table[i].text);
		snprintf(want, sizeof(want), "bad %s\ncomplete\nclosed fin\n", table[i].told);
		const char *got = side_text(&side);
		if (strcmp(got, want) != 0)
			fail_msg("%s\nwant: %sgot: %s", table[i].text, want, got);
		assert_non_null(strstr(side_tx(&side), "\r\nconnection: close\r\n"));
		assert_true(side.f.is_released);
		again(NULL);
	}
	end();
}

static void test_a_nul_is_refused_everywhere(void **state)
{
	static const char text[] = "PUT /x HTTP/1.1\r\nHost: a\r\nX-Y: zzzzzzzzzzz\r\nContent-Length: 5\r\nTransfer-Encodin: chunked\r\n\r\n";
	char copy[sizeof(text)];

	begin();
	for (size_t i = 0; i < sizeof(text) - 5; i++) {
		memcpy(copy, text, sizeof(text));
		copy[i] = 0;
		fake_feed(w, &side.f, copy, sizeof(text) - 1, 0, false);
		assert_int_equal(side.n_bad, 1);
		assert_int_equal(side.n_heads, 0);
		again(NULL);
	}
	end();
}

static void test_a_refused_head_of_http10_names_its_request(void **state)
{
	begin();
	side_feed(w, &side, "GET /old HTTP/1.0\r\n\r\n");
	assert_string_equal(side_text(&side), "bad 426 low_version\ncomplete\nclosed fin\n");
	assert_string_equal(side_tx(&side), "HTTP/1.1 426 Upgrade Required\r\nx-a: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
	assert_int_equal(t_reason(w, HTTP, LOW_VERSION), 1);
	end();
}

static void test_bad_chunks_are_answered_with_400_and_told(void **state)
{
	static const struct refusal table[] = {
		{"5\r\nhelloXX0\r\n\r\n", "http1.invalid_chunk_end"},
		{"5\r\nhello\n0\r\n\r\n", "http1.invalid_chunk_end"},
		{"5\r\nhello\rX0\r\n\r\n", "http1.invalid_chunk_end"},
		{"5\r\nhello!\r\n0\r\n\r\n", "http1.invalid_chunk_end"},
		{"0x5\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"+5\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"-5\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{" 5\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"5 \r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"5 5\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"5_0\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"g\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"5\nhello\n0\n\n", "http1.invalid_chunk_size"},
		{"5\rhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{";a\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"10000000000000005\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"000000000000000000000000000000005\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"5;a\nb\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_extension"},
		{"5;\x01\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_extension"},
		{"5;a\rb\r\nhello\r\n0\r\n\r\n", "http1.invalid_chunk_size"},
		{"0\r\nX T: 1\r\n\r\n", "http1.space_before_colon"},
		{"0\r\nX\x01: 1\r\n\r\n", "http1.invalid_header_name"},
		{"0\r\nX: 1\n\r\n", "http1.bare_lf"},
		{"0\r\n\n", "http1.bare_lf"},
		{"0\r\nX: a\rb\r\n\r\n", "http1.invalid_header_value"},
	};
	char want[128];

	begin();
	for (size_t i = 0; i < FOIL_COUNT_OF(table); i++) {
		side_feed(w, &side, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
		side_feed(w, &side, table[i].text);
		snprintf(want, sizeof(want), "reset protocol %s\nclosed local\n", table[i].told);
		const char *got = side_text(&side);
		if (strcmp(got, want) != 0)
			fail_msg("%s\nwant: %sgot: %s", table[i].text, want, got);
		assert_string_equal(side_tx(&side), REFUSAL);
		assert_true(side.f.is_released);
		again(NULL);
	}
	end();
}

static void test_a_bad_chunk_after_the_answer_began_breaks_the_connection(void **state)
{
	begin();
	side.reply = SIDE_REPLY_NONE;
	side_feed(w, &side, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
	assert_int_equal(side_send_status(w, side.hs, 200, HTTP_BODY_CHUNKED, 0, false), 0);
	(void)side_tx(&side);
	side_feed(w, &side, "x");
	assert_string_equal(side_tx(&side), "");
	assert_true(side.f.is_aborted);
	end();
}

static void test_chunk_extensions_are_bounded(void **state)
{
	begin();
	side_feed(w, &side, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5;");
	feed_many("0123456789abcdef", 1000);
	assert_string_equal(side_text(&side), "reset protocol http1.chunk_extensions_too_large\nclosed local\n");
	again(NULL);
	side_feed(w, &side, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
	feed_many("1;0123456789abcdef0123456789abcdef\r\nx\r\n", 1000);
	assert_string_equal(side_text(&side), "reset protocol http1.chunk_extensions_too_large\nclosed local\n");
	end();
}

static void test_trailers_are_bounded(void **state)
{
	struct http_limits limits = {.headers_max = 3};

	begin();
	side_feed(w, &side, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ");
	feed_many("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 1000);
	assert_string_equal(side_text(&side), "reset protocol http1.trailers_too_large\nclosed local\n");
	again(&limits);
	side_feed(w, &side, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\na:1\r\na:2\r\na:3\r\na:4\r\n\r\n");
	assert_string_equal(side_text(&side), "reset protocol http1.trailers_too_large\nclosed local\n");
	end();
}

static void test_a_head_may_be_as_large_as_the_limit_and_no_larger(void **state)
{
	static char text[64 * 1024];
	const char *line = "GET / HTTP/1.1\r\n" HOST "X: ";
	uint32_t n_line = (uint32_t)strlen(line);

	begin();
	for (uint32_t over = 0; over < 2; over++) {
		uint32_t n = 60 * 1024 + over;
		memset(text, 'a', n);
		memcpy(text, line, n_line);
		memcpy(&text[n - 4], "\r\n\r\n", 4);
		for (uint16_t seg = 1000; seg < 2048; seg = (uint16_t)(seg + 500)) {
			fake_feed(w, &side.f, text, n, seg, true);
			assert_int_equal(side.n_heads, 1 - over);
			assert_int_equal(side.n_bad, over);
			if (over)
				assert_string_equal(side_text(&side), "bad 431 http1.headers_too_large\ncomplete\nclosed fin\n");
			again(NULL);
		}
	}
	end();
}

static void test_the_number_of_headers_is_bounded(void **state)
{
	char text[2048];

	begin();
	for (uint32_t n = 99; n <= 101; n++) {
		uint32_t at = (uint32_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" HOST);
		for (uint32_t i = 1; i < n; i++)
			at += (uint32_t)snprintf(&text[at], sizeof(text) - at, "a: %u\r\n", i);
		snprintf(&text[at], sizeof(text) - at, "\r\n");
		side_feed(w, &side, text);
		assert_int_equal(side.n_bad, n > 100);
		if (n > 100)
			assert_string_equal(side_text(&side), "bad 431 http1.too_many_headers\ncomplete\nclosed fin\n");
		again(NULL);
	}
	end();
}

static void test_what_a_connection_without_tls_refuses(void **state)
{
	const struct http_limits limits = {.refuse_https = true, .accept_http10 = true};

	begin_with(&limits);
	side_feed(w, &side, "GET HTTPS://x/ HTTP/1.0\r\n\r\n"); /* whatever else is wrong */
	assert_string_equal(side_text(&side), "bad 403 http1.https_url_on_plaintext_connection\ncomplete\nclosed fin\n");
	again(&limits);
	side_feed(w, &side, "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
	assert_string_equal(side_text(&side), "bad 400 http1.transfer_encoding_not_allowed\ncomplete\nclosed fin\n");
	again(NULL);
	side_feed(w, &side, "GET https://x/ HTTP/1.1\r\n" HOST "Connection: 1,2,3,4,5,6,7,8,9,,\r\n\r\n");
	assert_string_equal(side_text(&side), "GET / host=x|0:\ncomplete\n");
	end();
}

static void test_a_long_te_is_not_named(void **state)
{
	char text[512];

	begin();
	snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" HOST "TE: %0255d\r\nConnection: te\r\n\r\n", 0);
	side_feed(w, &side, text);
	assert_string_equal(side_text(&side), "GET / host=a.example|0:\ncomplete\n");
	snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" HOST "TE: %0256d\r\nConnection: te\r\n\r\n", 0);
	side_feed(w, &side, text);
	assert_string_equal(side_text(&side), "bad 400 http1.connection_header_rejected\ncomplete\nclosed fin\n");
	end();
}

static void test_underscores_and_endless_connection_headers(void **state)
{
	struct http_limits limits = {.reject_underscores = true};
	char text[2048];
	uint32_t at;

	begin_with(&limits);
	side_feed(w, &side, "GET / HTTP/1.1\r\n" HOST "X_A: 1\r\n\r\n");
	assert_string_equal(side_text(&side), "bad 400 http1.unexpected_underscore\ncomplete\nclosed fin\n");
	again(NULL);
	side_feed(w, &side, "GET / HTTP/1.1\r\n" HOST "X_A: 1\r\n\r\n");
	assert_string_equal(side_text(&side), "GET / host=a.example x_a=1|0:\ncomplete\n");
	limits = (struct http_limits){.drop_underscores = true};
	again(&limits);
	side_feed(w, &side, "GET / HTTP/1.1\r\n" HOST "X_A: 1\r\ncontent_length: 9\r\nX-B: 2\r\n\r\n");
	assert_string_equal(side_text(&side), "GET / host=a.example x-b=2|0:\ncomplete\n");
	again(NULL);
	at = (uint32_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" HOST "Connection: ");
	for (int i = 0; i < 40; i++)
		at += (uint32_t)snprintf(&text[at], sizeof(text) - at, "n%d,", i);
	snprintf(&text[at], sizeof(text) - at, "\r\n\r\n");
	side_feed(w, &side, text);
	assert_string_equal(side_text(&side), "bad 400 http1.connection_header_rejected\ncomplete\nclosed fin\n");
	again(NULL);
	at = (uint32_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" HOST);
	for (int i = 0; i < 9; i++)
		at += (uint32_t)snprintf(&text[at], sizeof(text) - at, "Connection: keep-alive\r\n");
	snprintf(&text[at], sizeof(text) - at, "\r\n");
	side_feed(w, &side, text);
	assert_string_equal(side_text(&side), "bad 400 http1.connection_header_rejected\ncomplete\nclosed fin\n");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads_that_break_a_rule_are_refused),
		cmocka_unit_test(test_a_nul_is_refused_everywhere),
		cmocka_unit_test(test_a_refused_head_of_http10_names_its_request),
		cmocka_unit_test(test_bad_chunks_are_answered_with_400_and_told),
		cmocka_unit_test(test_a_bad_chunk_after_the_answer_began_breaks_the_connection),
		cmocka_unit_test(test_chunk_extensions_are_bounded),
		cmocka_unit_test(test_trailers_are_bounded),
		cmocka_unit_test(test_a_head_may_be_as_large_as_the_limit_and_no_larger),
		cmocka_unit_test(test_the_number_of_headers_is_bounded),
		cmocka_unit_test(test_what_a_connection_without_tls_refuses),
		cmocka_unit_test(test_a_long_te_is_not_named),
		cmocka_unit_test(test_underscores_and_endless_connection_headers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
