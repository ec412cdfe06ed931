/* The client side of HTTP/1.1, whole connections over a fake stream. */
#include <errno.h>

#include "dataplane/core/error.h"
#include "tests/unit/http/h1_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h1_side side;

static void begin_with(const struct http_limits *limits, bool is_open)
{
	struct foil_error err;

	memset(&side, 0, sizeof(side));
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){64, 64}, &err), 0);
	side.takes_trailers = true;
	side_client(w, &side, limits, is_open);
}

static void begin(void)
{
	begin_with(NULL, true);
}

static void again(void)
{
	side_fini(w, &side);
	side_client(w, &side, NULL, true);
}

static void end(void)
{
	side_fini(w, &side);
	http_fini(w);
	t_worker_free(w);
}

static void get(void)
{
	side_request(w, &side, "GET", "/");
	(void)side_tx(&side);
	(void)side_text(&side);
}

static void test_a_request_is_sent_and_its_answer_told(void **state)
{
	begin();
	side_request(w, &side, "GET", "/p?q");
	assert_string_equal(side_tx(&side), "GET /p?q HTTP/1.1\r\nhost: a.example\r\n\r\n");
	assert_false(http_conn_is_idle(side.c));
	side_feed(w, &side, "HTTP/1.1 200 Fine\r\nServer: s\r\nContent-Length: 2\r\nKeep-Alive: 5\r\nX-B: c\r\n\r\nok");
	assert_string_equal(side_text(&side), "200 server=s x-b=c|2:ok\ncomplete\nready\n");
	assert_int_equal(side.head.body, HTTP_BODY_LENGTH);
	assert_int_equal(side.head.content_length, 2);
	side_request(w, &side, "POST", "/2");
	assert_string_equal(side_tx(&side), "POST /2 HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\n");
	side_feed(w, &side, "HTTP/1.1 204\r\n\r\n");
	assert_string_equal(side_text(&side), "204|0:\ncomplete\nready\n");
	end();
}

static void test_requests_keep_what_belongs_to_this_hop(void **state)
{
	struct http_header x[] = {
		{FOIL_SLICE("host"), FOIL_SLICE("other"), HTTP_HDR_HOST, false},
		{FOIL_SLICE("te"), FOIL_SLICE("gzip"), HTTP_HDR_TE, false},
		{FOIL_SLICE("upgrade"), FOIL_SLICE("websocket"), HTTP_HDR_UPGRADE, false},
		{FOIL_SLICE("accept"), FOIL_SLICE("*/*"), HTTP_HDR_ACCEPT, false},
	};
	struct http_head head = {.method_text = FOIL_SLICE("PUT"), .method = HTTP_METHOD_PUT, .path = FOIL_SLICE("/"), .authority = FOIL_SLICE("h:1"),
				 .body = HTTP_BODY_LENGTH, .content_length = 3, .has_te_trailers = true, .wants_close = true,
				 .headers = {.list = x, .n = 4, .cap = 4}};

	begin();
	side.hs = http_client_start(w, side.c, &side.arena, &side_stream_events, &side);
	assert_int_equal(http_send_head(w, side.hs, &head, false), 0);
	side_send_text(w, side.hs, "abc", true);
	assert_string_equal(side_tx(&side), "PUT / HTTP/1.1\r\nhost: h:1\r\naccept: */*\r\nte: trailers\r\ncontent-length: 3\r\n\r\nabc");
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(side.n_complete, 1);
	end();
}

static void test_heads_that_must_not_go_out_do_not(void **state)
{
	struct http_header x = {FOIL_SLICE("x"), FOIL_SLICE("y"), HTTP_HDR_OTHER, false};
	const struct http_head good = {.method_text = FOIL_SLICE("GET"), .method = HTTP_METHOD_GET, .path = FOIL_SLICE("/"),
				       .authority = FOIL_SLICE("h"), .headers = {.list = &x, .n = 1, .cap = 1}};
	struct http_head bad[9];

	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++)
		bad[i] = good;
	bad[0].path = FOIL_SLICE("/a b");
	bad[1].path = FOIL_SLICE("/\r\nX: y");
	bad[2].path = FOIL_SLICE("");
	bad[3].authority = FOIL_SLICE("a,b");
	bad[4].authority = FOIL_SLICE("a\r\nX: y");
	bad[5].authority = FOIL_SLICE(":80");
	bad[6].method_text = FOIL_SLICE("GE T");
	bad[7].has_several_hosts = true;
	bad[8].method_text = FOIL_SLICE("");
	begin();
	side.hs = http_client_start(w, side.c, &side.arena, &side_stream_events, &side);
	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++)
		assert_int_not_equal(http_send_head(w, side.hs, &bad[i], true), 0);
	assert_string_equal(side_tx(&side), "");
	assert_int_equal(http_send_head(w, side.hs, &good, true), 0);
	end();
}

static void test_answers_of_every_framing(void **state)
{
	begin();
	get();
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\nSet-Cookie: c\r\n\r\n");
	assert_string_equal(side_text(&side), "200|t: x-t=1|5:abcde\ncomplete\nready\n");
	get();
	side_feed(w, &side, "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n");
	assert_string_equal(side_text(&side), "304|0:\ncomplete\nready\n");
	assert_int_equal(side.head.content_length, 500);
	side_request(w, &side, "HEAD", "/");
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n");
	assert_string_equal(side_text(&side), "200|0:\ncomplete\nready\n");
	side_request(w, &side, "HEAD", "/");
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	assert_string_equal(side_text(&side), "200|0:\ncomplete\nready\n");
	side_request(w, &side, "HEAD", "/");
	side_feed(w, &side, "HTTP/1.1 404 Not Found\r\n\r\n");
	assert_string_equal(side_text(&side), "404|0:\ncomplete\nready\n");
	get();
	side_feed(w, &side, "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n");
	assert_string_equal(side_text(&side), "204|0:\ncomplete\nready\n");
	get();
	side_feed(w, &side, "HTTP/1.1 200 OK\r\n\r\nuntil ");
	side_feed(w, &side, "close");
	fake_eof(w, &side.f);
	assert_string_equal(side_text(&side), "200|11:until close\ncomplete\nclosed fin\n");
	assert_int_equal(side.head.body, HTTP_BODY_UNTIL_CLOSE);
	end();
}

static void test_connections_end_when_the_upstream_says_so(void **state)
{
	static const char *const closing[] = {
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
	};

	begin();
	for (size_t i = 0; i < FOIL_COUNT_OF(closing); i++) {
		get();
		side_feed(w, &side, closing[i]);
		assert_string_equal(side_text(&side), "200|2:ok\ncomplete\nclosed fin\n");
		assert_true(side.f.is_released);
		again();
	}
	get();
	side_feed(w, &side, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok");
	assert_string_equal(side_text(&side), "200|2:ok\ncomplete\nready\n");
	fake_eof(w, &side.f);
	assert_string_equal(side_text(&side), "closed fin\n");
	end();
}

static void test_what_was_not_asked_for_ends_the_connection(void **state)
{
	begin();
	side_feed(w, &side, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
	assert_string_equal(side_text(&side), "closed local\n");
	assert_true(side.f.is_aborted);
	again();
	get();
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
	assert_string_equal(side_text(&side), "200|2:ok\ncomplete\nclosed local\n");
	assert_int_equal(t_reason(w, HTTP, UNSOLICITED_RESPONSE), 2);
	again();
	side.hs = http_client_start(w, side.c, &side.arena, &side_stream_events, &side);
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); /* before a byte of the request went */
	assert_string_equal(side_text(&side), "reset protocol http1.unsolicited_response\nclosed local\n");
	end();
}

struct fault {
	const char *text, *reason;
};

static void test_bad_answers_reset_with_their_reason(void **state)
{
	static const struct fault table[] = {
		{"GARBAGE\r\n\r\n", "http1.codec_error"},
		{"\r\n\r\n", "http1.codec_error"},
		{"HTTP/1.1 200 OK\r\nbad header: 1\r\n\r\n", "http1.space_before_colon"},
		{"HTTP/1.1 200 OK\r\n X: 1\r\n\r\n", "http1.obs_fold"},
		{"\nHTTP/1.1 200 OK\n\n", "http1.codec_error"},
		{"HTTP/1.1 200 OK\r\nX: 1\r\n 2\rY: 3\r\n\r\n", "http1.invalid_header_value"},
		{"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "http1.invalid_header_value"},
		{"HTTP/1.1 200 O\rK\r\n\r\n", "http1.invalid_status"},
		{"HTTP/1.1 20 OK\r\n\r\n", "http1.invalid_status"},
		{"HTTP/1.1 2000 OK\r\n\r\n", "http1.invalid_status"},
		{"HTTP/1.1 099 OK\r\n\r\n", "http1.invalid_status"},
		{"HTTP/1.1  200 OK\r\n\r\n", "http1.invalid_status"},
		{"HTTP/1.1 +20 OK\r\n\r\n", "http1.invalid_status"},
		{"HTTP/1.1\t200 OK\r\n\r\n", "http1.invalid_status"},
		{"HTTP/2.0 200 OK\r\n\r\n", "http1.unsupported_version"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "http1.multiple_content_lengths"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "http1.invalid_content_length"},
		{"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", "http1.invalid_content_length"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "http1.content_length_and_chunked_not_allowed"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "http1.invalid_transfer_encoding"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "http1.invalid_transfer_encoding"},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "http1.transfer_encoding_not_allowed"},
		{"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "http1.content_length_not_allowed"},
		{"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", "http1.transfer_encoding_not_allowed"},
		{"HTTP/1.1 103 H\r\nContent-Length: 5\r\n\r\n", "http1.content_length_not_allowed"},
		{"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "http1.unexpected_upgrade"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx", "http1.invalid_chunk_size"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab", "http1.invalid_chunk_end"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX Y: z\r\n\r\n", "http1.space_before_colon"},
	};
	char want[128];

	begin();
	for (size_t i = 0; i < FOIL_COUNT_OF(table); i++) {
		get();
		side_feed(w, &side, table[i].text);
		const char *got = side_text(&side);
		snprintf(want, sizeof(want), "reset protocol %s\nclosed local\n", table[i].reason);
		if (strcmp(got, want) != 0)
			fail_msg("%s\nwant: %sgot: %s", table[i].text, want, got);
		assert_true(side.f.is_aborted);
		assert_true(side.last_reset.rx_started);
		again();
	}
	end();
}

/* Whatever lines of an answer's head end in, and however its fields are folded (RFC 9112 2.2 and 5.2), in one piece and byte by byte. */
static void test_untidy_heads_of_origins_are_understood(void **state)
{
	static const char *const untidy[] = {
		"HTTP/1.1 200 OK\nX: a b\nContent-Length: 2\n\n",
		"HTTP/1.1 200 OK\r\nX: a b\nContent-Length: 2\r\n\n",
		"HTTP/1.1 200 OK\nX: a b\r\nContent-Length: 2\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\r\n \t b \r\nContent-Length:\r\n\t2\r\n\r\n",
		"HTTP/1.1 200 OK\nX:\n a\n b\n \nContent-Length: 2\n\n",
	};
	char text[160];

	begin();
	for (size_t i = 0; i < FOIL_COUNT_OF(untidy); i++) {
		snprintf(text, sizeof(text), "%sok", untidy[i]);
		get();
		side_feed(w, &side, text);
		assert_string_equal(side_text(&side), "200 x=a b|2:ok\ncomplete\nready\n");
		get();
		for (const char *at = text; *at; at++)
			side_feed(w, &side, (const char[]){*at, 0});
		assert_string_equal(side_text(&side), "200 x=a b|2:ok\ncomplete\nready\n");
	}
	get(); /* but trailers are read strictly */
	side_feed(w, &side, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\r\nX: 1\n\r\n");
	assert_non_null(strstr(side_text(&side), "reset protocol http1.bare_lf"));
	end();
}

static void test_answers_are_bounded(void **state)
{
	struct http_limits limits = {.headers_max = 3, .head_bytes_max = 1000};
	char text[1200];

	begin_with(&limits, true);
	get();
	side_feed(w, &side, "HTTP/1.1 200 OK\r\na:1\r\na:2\r\na:3\r\na:4\r\n\r\n");
	assert_string_equal(side_text(&side), "reset protocol http1.too_many_headers\nclosed local\n");
	side_fini(w, &side);
	side_client(w, &side, &limits, true);
	get();
	memset(text, 'a', sizeof(text));
	memcpy(text, "HTTP/1.1 200 ", 13);
	text[sizeof(text) - 1] = 0;
	side_feed(w, &side, text);
	assert_string_equal(side_text(&side), "reset protocol http1.headers_too_large\nclosed local\n");
	end();
}

static void test_interim_answers_are_told_and_bounded(void **state)
{
	begin();
	get();
	side_feed(w, &side, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_string_equal(side_text(&side), "info 100\ninfo 103 link=a\n200|2:ok\ncomplete\nready\n");
	get();
	for (int i = 0; i < 16; i++)
		side_feed(w, &side, "HTTP/1.1 102 Processing\r\n\r\n");
	assert_int_equal(side.n_reset, 0);
	side_feed(w, &side, "HTTP/1.1 102 Processing\r\n\r\n");
	assert_int_equal(side.last_reset.reason, HTTP_REASON_TOO_MANY_INFORMATIONAL);
	end();
}

static void test_an_upstream_that_goes_away_is_told(void **state)
{
	static const struct fault cut[] = {
		{"", "ok"},
		{"HTTP/1.1 2", "http1.truncated"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", "http1.truncated"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "http1.truncated"},
		{"HTTP/1.1 100 Continue\r\n\r\n", "http1.truncated"},
	};
	char want[128];

	begin();
	for (size_t i = 0; i < FOIL_COUNT_OF(cut); i++) {
		get();
		if (*cut[i].text)
			side_feed(w, &side, cut[i].text);
		fake_eof(w, &side.f);
		snprintf(want, sizeof(want), "%sreset remote %s\nclosed fin\n", strstr(cut[i].text, " 100 ") ? "info 100\n" : "", cut[i].reason);
		assert_string_equal(side_text(&side), want);
		assert_int_equal(side.last_reset.why, STREAM_END_FIN);
		again();
	}
	get();
	fake_closed(w, &side.f, STREAM_END_RESET);
	assert_string_equal(side_text(&side), "reset remote ok\nclosed reset\n");
	assert_false(side.last_reset.rx_started);
	again();
	/* a body until close that is cut by RST is not whole */
	get();
	side_feed(w, &side, "HTTP/1.1 200 OK\r\n\r\nhalf");
	fake_closed(w, &side.f, STREAM_END_RESET);
	assert_string_equal(side_text(&side), "reset remote ok\nclosed reset\n");
	end();
}

static void test_whether_the_peer_acknowledged_the_request_is_told(void **state)
{
	begin();
	side.f.holds = true;
	get();
	fake_closed(w, &side.f, STREAM_END_RESET);
	assert_false(side.last_reset.tx_acked_any);
	again();
	side.f.holds = true;
	get();
	fake_ack(w, &side.f, 1);
	fake_closed(w, &side.f, STREAM_END_RESET);
	assert_true(side.last_reset.tx_acked_any);
	end();
}

static void test_an_exchange_may_begin_before_the_connection_is_open(void **state)
{
	begin_with(NULL, false);
	side_request(w, &side, "GET", "/");
	assert_string_equal(side_tx(&side), "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
	fake_opened(w, &side.f);
	assert_string_equal(side_text(&side), "");
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_string_equal(side_text(&side), "200|0:\ncomplete\nready\n");
	side_fini(w, &side);
	side_client(w, &side, NULL, false);
	fake_opened(w, &side.f);
	assert_string_equal(side_text(&side), "ready\n");
	end();
}

static void test_a_connection_that_never_opens(void **state)
{
	begin_with(NULL, false);
	side_request(w, &side, "GET", "/");
	fake_closed(w, &side.f, STREAM_END_REFUSED);
	assert_string_equal(side_text(&side), "reset connect_failure ok\nclosed refused\n");
	assert_true(side.never_opened);
	assert_int_equal(side.last_reset.why, STREAM_END_REFUSED);
	side_fini(w, &side);
	side_client(w, &side, NULL, false);
	side_request(w, &side, "GET", "/");
	fake_closed(w, &side.f, STREAM_END_CONNECT_TIMEOUT);
	assert_string_equal(side_text(&side), "reset connect_timeout ok\nclosed connect_timeout\n");
	side_fini(w, &side);
	side_client(w, &side, NULL, false);
	fake_closed(w, &side.f, STREAM_END_UNREACHABLE);
	assert_string_equal(side_text(&side), "closed unreachable\n");
	end();
}

static void test_a_busy_or_finished_connection_takes_no_exchange(void **state)
{
	begin();
	get();
	assert_null(http_client_start(w, side.c, &side.arena, &side_stream_events, &side));
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	side.f.s.rx_eof = true; /* the FIN is in, but was not told yet */
	assert_null(http_client_start(w, side.c, &side.arena, &side_stream_events, &side));
	end();
}

static void test_an_answer_before_the_end_of_the_request(void **state)
{
	const struct http_head head = {.method_text = FOIL_SLICE("PUT"), .method = HTTP_METHOD_PUT, .path = FOIL_SLICE("/"), .authority = FOIL_SLICE("h"),
				       .body = HTTP_BODY_CHUNKED};

	begin();
	side.hs = http_client_start(w, side.c, &side.arena, &side_stream_events, &side);
	assert_int_equal(http_send_head(w, side.hs, &head, false), 0);
	side_send_text(w, side.hs, "abc", false);
	side_feed(w, &side, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
	assert_string_equal(side_text(&side), "413|0:\n"); /* the user decides: send on, or reset */
	assert_true(side.hs->rx_end_us > 0);
	side_send_text(w, side.hs, "def", true);
	assert_string_equal(side_text(&side), "complete\nready\n");
	side.hs = http_client_start(w, side.c, &side.arena, &side_stream_events, &side);
	assert_int_equal(http_send_head(w, side.hs, &head, false), 0);
	side_feed(w, &side, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
	fake_eof(w, &side.f);
	assert_string_equal(side_text(&side), "413|0:\nreset remote http1.truncated\nclosed fin\n");
	end();
}

static void test_reset_aborts_and_tells_only_the_connection(void **state)
{
	begin();
	get();
	struct http_stream *hs = side.hs;
	side.hs = NULL;
	http_stream_reset(w, hs);
	assert_string_equal(side_text(&side), "closed local\n");
	assert_true(side.f.is_aborted);
	end();
}

static void test_a_paused_answer_stays_in_rx(void **state)
{
	begin();
	side.pauses_at_head = true;
	get();
	side_feed(w, &side, "HTTP/1.1 200 OK\r\n\r\nhello");
	fake_eof(w, &side.f);
	assert_string_equal(side_text(&side), "");
	assert_int_equal(side.f.s.rx.n_bytes, 5);
	http_stream_pause(w, side.hs, false);
	assert_string_equal(side_text(&side), "200|5:hello\ncomplete\nclosed fin\n");
	end();
}

static void test_an_idle_connection_ends_by_timer_or_drain(void **state)
{
	struct http_limits limits = {.idle_timeout_us = 1000000};

	begin_with(&limits, true);
	get();
	t_advance(w, 3000000);
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	t_advance(w, 900000);
	assert_string_equal(side_text(&side), "200|0:\ncomplete\nready\n");
	t_advance(w, 200000);
	assert_string_equal(side_text(&side), "closed fin\n");
	again();
	http_conn_drain(w, side.c);
	assert_string_equal(side_text(&side), "closed fin\n");
	again();
	get();
	http_conn_drain(w, side.c);
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_string_equal(side_text(&side), "200|0:\ncomplete\nclosed fin\n");
	end();
}

static void test_users_may_close_or_reset_in_any_callback(void **state)
{
	begin();
	side.closes_in_head = true;
	get();
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	assert_string_equal(side_text(&side), "reset local ok\nclosed local\n");
	again();
	side.closes_in_head = false;
	side.resets_in_head = true;
	get();
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	assert_string_equal(side_text(&side), "closed local\n");
	again();
	side.resets_in_head = false;
	side.closes_in_data = true;
	get();
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n");
	assert_string_equal(side_text(&side), "reset local ok\nclosed local\n");
	end();
}

static void test_a_large_body_comes_by_reference(void **state)
{
	char body[3000];

	begin();
	get();
	memset(body, 'b', sizeof(body));
	side_feed(w, &side, "HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n");
	fake_feed(w, &side.f, body, sizeof(body), 1500, true);
	assert_int_equal(side.n_data_calls, 2);
	assert_int_equal(side.n_complete, 1);
	end();
}

static const char *const conversations[] = {
	"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Abc: y\r\n\r\nhello world",
	("HTTP/1.1 103 H\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nwiki\r\n000B\r\n"
	 "pedia in it\r\n0\r\nX-T: 1\r\nY:2\r\n\r\n"),
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwikiX\r\n",
	"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
	"HTTP/1.0 200 OK\r\n\r\nuntil close",
	"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
};

static void test_cuts_change_nothing(void **state)
{
	static char text[4096];

	begin();
	for (size_t i = 0; i < FOIL_COUNT_OF(conversations); i++) {
		const char *all = conversations[i];
		uint32_t n = (uint32_t)strlen(all);
		get();
		side_feed(w, &side, all);
		if (fake_is_alive(&side.f))
			fake_eof(w, &side.f);
		snprintf(text, sizeof(text), "%s", side_text(&side));
		again();
		for (uint32_t cut = 0; cut <= n; cut++) {
			get();
			if (cut == 0 || cut == n) {
				fake_feed(w, &side.f, all, n, 1, cut == 0);
			} else {
				fake_feed(w, &side.f, all, cut, 0, false);
				if (fake_is_alive(&side.f))
					fake_feed(w, &side.f, &all[cut], n - cut, 0, false);
			}
			if (fake_is_alive(&side.f))
				fake_eof(w, &side.f);
			assert_string_equal(side_text(&side), text);
			again();
		}
	}
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_is_sent_and_its_answer_told),
		cmocka_unit_test(test_requests_keep_what_belongs_to_this_hop),
		cmocka_unit_test(test_heads_that_must_not_go_out_do_not),
		cmocka_unit_test(test_answers_of_every_framing),
		cmocka_unit_test(test_connections_end_when_the_upstream_says_so),
		cmocka_unit_test(test_what_was_not_asked_for_ends_the_connection),
		cmocka_unit_test(test_bad_answers_reset_with_their_reason),
		cmocka_unit_test(test_untidy_heads_of_origins_are_understood),
		cmocka_unit_test(test_answers_are_bounded),
		cmocka_unit_test(test_interim_answers_are_told_and_bounded),
		cmocka_unit_test(test_an_upstream_that_goes_away_is_told),
		cmocka_unit_test(test_whether_the_peer_acknowledged_the_request_is_told),
		cmocka_unit_test(test_an_exchange_may_begin_before_the_connection_is_open),
		cmocka_unit_test(test_a_connection_that_never_opens),
		cmocka_unit_test(test_a_busy_or_finished_connection_takes_no_exchange),
		cmocka_unit_test(test_an_answer_before_the_end_of_the_request),
		cmocka_unit_test(test_reset_aborts_and_tells_only_the_connection),
		cmocka_unit_test(test_a_paused_answer_stays_in_rx),
		cmocka_unit_test(test_an_idle_connection_ends_by_timer_or_drain),
		cmocka_unit_test(test_users_may_close_or_reset_in_any_callback),
		cmocka_unit_test(test_a_large_body_comes_by_reference),
		cmocka_unit_test(test_cuts_change_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
