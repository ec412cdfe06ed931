/* The client side of HTTP/2, whole connections over a fake stream whose other end is the test's server. */
#include "dataplane/core/error.h"
#include "tests/unit/http/h2_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h2_side side;
static struct h2_bytes b;

static void begin_with(const struct http_limits *limits, bool is_open)
{
	struct foil_error err;

	memset(&side, 0, sizeof(side));
	b.n = 0;
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){64, 2048}, &err), 0);
	h2side_client(w, &side, limits, is_open);
}

/* Open, hello said on both sides. */
static void begin(void)
{
	begin_with(NULL, false);
	fake_opened(w, &side.f);
	hb_hello(&b, false);
	hb_frame(&b, H2_SETTINGS, H2_ACK, 0, NULL, 0);
	h2side_feed(w, &side, &b, 0, false);
	assert_non_null(strstr(h2side_sent(w, &side), "SETTINGS ack 0\n"));
}

static void end(void)
{
	h2side_fini(w, &side);
	assert_int_equal(t_counter(w, HTTP, EXCHANGES), 0);
	assert_int_equal(t_counter(w, HTTP, H2_CONNS), 0);
	http_fini(w);
	t_worker_free(w);
}

static void feed(void)
{
	h2side_feed(w, &side, &b, 0, false);
}

static void assert_sent(const char *lines)
{
	assert_string_equal(h2side_sent(w, &side), lines);
}

static void assert_told(const char *lines)
{
	assert_string_equal(h2side_told(&side), lines);
}

#define GET_LINE(id, path) "HEADERS " id " end :method=GET :path=" path " :scheme=http :authority=a.example\n"

static void test_requests_may_go_out_before_anything_comes(void **state)
{
	begin_with(NULL, false);
	assert_non_null(h2side_request(w, &side, "GET", "/a", true)); /* the connect is still under way */
	assert_sent("PREFACE\nSETTINGS 3\nWINDOW_UPDATE 0 +983041\n" GET_LINE("1", "/a"));
	assert_int_equal(side.n_ready, 0);
	fake_opened(w, &side.f);
	assert_int_equal(side.n_ready, 1);
	assert_non_null(h2side_request(w, &side, "GET", "/b", true));
	assert_sent(GET_LINE("3", "/b"));
	hb_hello(&b, false);
	hb_headers(&b, H2_END_STREAM, 3, ":status", "404", NULL);
	hb_headers(&b, 0, 1, ":status", "200", "x-a", "1", NULL);
	hb_data(&b, H2_END_STREAM, 1, "hello");
	feed();
	assert_told("200 x-a=1|5:hello complete\n404|0: complete\n");
	assert_true(http_conn_is_idle(side.c));
	end();
}

static void test_answers_of_every_form(void **state)
{
	begin();
	for (uint32_t i = 0; i < 6; i++)
		assert_non_null(h2side_request(w, &side, i == 2 ? "HEAD" : "GET", "/", true));
	hb_headers(&b, 0, 1, ":status", "100", NULL);
	hb_headers(&b, 0, 1, ":status", "103", "link", "x", NULL);
	hb_headers(&b, 0, 1, ":status", "200", NULL);
	hb_data(&b, 0, 1, "a");
	hb_headers(&b, H2_END_STREAM, 1, "grpc-status", "0", NULL);
	hb_headers(&b, H2_END_STREAM, 3, ":status", "200", "grpc-status", "5", NULL);
	hb_headers(&b, H2_END_STREAM, 5, ":status", "200", "content-length", "77", NULL);
	hb_headers(&b, 0, 7, ":status", "304", "content-length", "77", NULL);
	hb_data(&b, H2_END_STREAM, 7, "");
	hb_headers(&b, 0, 9, ":status", "200", "content-length", "3", NULL);
	hb_data(&b, H2_END_STREAM, 9, "abc");
	hb_headers(&b, 0, 11, ":status", "204", NULL);
	hb_data(&b, H2_END_STREAM, 11, "x");
	feed();
	assert_told("(100)(103 link=x)200|1:a|t: grpc-status=0 complete\n200 grpc-status=5|0: complete\n200|0: complete\n304|0: complete\n"
		    "200|3:abc complete\n204 reset protocol http2.content_length\n");
	end();
}

static void test_answers_that_are_malformed(void **state)
{
	begin();
	for (uint32_t i = 0; i < 8; i++)
		assert_non_null(h2side_request(w, &side, "GET", "/", true));
	(void)h2side_sent(w, &side);
	hb_headers(&b, H2_END_STREAM, 1, "x", "y", NULL);
	hb_headers(&b, H2_END_STREAM, 3, ":status", "20", NULL);
	hb_headers(&b, H2_END_STREAM, 5, ":status", "101", NULL);
	hb_headers(&b, H2_END_STREAM, 7, ":status", "200", ":path", "/", NULL);
	hb_data(&b, 0, 9, "before the head");
	hb_headers(&b, H2_END_STREAM, 11, ":status", "103", NULL);
	hb_headers(&b, H2_END_STREAM, 13, ":status", "200", "transfer-encoding", "chunked", NULL);
	hb_headers(&b, H2_END_STREAM, 15, ":status", "200", "content-length", "1", NULL);
	feed();
	assert_int_equal(side.n_reset, 8);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(side.rec[i].info.kind, HTTP_RESET_PROTOCOL);
	assert_true(fake_is_alive(&side.f));
	assert_non_null(h2side_request(w, &side, "GET", "/", true));
	end();
}

static void test_a_status_is_three_digits(void **state)
{
	static const char *const none[] = {"$00", "2!0", "20:", "099", "2000", "20", "", "abc", "200 ", "2\xb2\xb2", "+20", "1;0"};

	begin();
	for (uint32_t i = 0; i < FOIL_COUNT_OF(none); i++)
		assert_non_null(h2side_request(w, &side, "GET", "/", true));
	(void)h2side_sent(w, &side);
	for (uint32_t i = 0; i < FOIL_COUNT_OF(none); i++)
		hb_headers(&b, H2_END_STREAM, 2 * i + 1, ":status", none[i], NULL);
	feed();
	assert_int_equal(side.n_heads, 0);
	assert_int_equal(side.n_reset, FOIL_COUNT_OF(none));
	assert_int_equal(t_reason(w, HTTP, H2_BAD_PSEUDO), FOIL_COUNT_OF(none));
	end();
}

static void test_bodies_and_trailers_go_out(void **state)
{
	struct http_header t = {FOIL_SLICE("x-t"), FOIL_SLICE("1"), HTTP_HDR_OTHER, false};
	const struct http_headers trailers = {.list = &t, .n = 1, .cap = 1};

	begin();
	struct h2_rec *r = h2side_request(w, &side, "POST", "/", false);
	h2side_send(w, r->hs, 5, false);
	assert_int_equal(http_send_trailers(w, r->hs, &trailers), 0);
	assert_sent("HEADERS 1 :method=POST :path=/ :scheme=http :authority=a.example\nDATA 1 5:b\nHEADERS 1 end x-t=1\n");
	hb_headers(&b, H2_END_STREAM, 1, ":status", "200", NULL);
	feed();
	assert_told("200|0: complete\n");
	end();
}

static void test_an_answer_before_the_request_is_whole(void **state)
{
	begin();
	struct h2_rec *r = h2side_request(w, &side, "POST", "/", false);
	hb_headers(&b, H2_END_STREAM, 1, ":status", "413", NULL);
	feed();
	assert_told("413|0:\n"); /* the user may still send */
	h2side_send(w, r->hs, 200000, false);
	hb_u32(&b, H2_RST_STREAM, 1, 0); /* the server wants no more */
	feed();
	assert_told("413|0: complete\n");
	end();
}

static void test_streams_are_as_many_as_the_server_lets(void **state)
{
	begin();
	assert_int_equal(http_conn_capacity(side.c), 100);
	hb_setting(&b, H2_SET_MAX_CONCURRENT_STREAMS, 2);
	feed();
	assert_int_equal(http_conn_capacity(side.c), 2);
	assert_non_null(h2side_request(w, &side, "GET", "/1", true));
	assert_non_null(h2side_request(w, &side, "GET", "/2", true));
	assert_null(h2side_request(w, &side, "GET", "/3", true));
	uint32_t n_ready = side.n_ready;
	hb_headers(&b, H2_END_STREAM, 1, ":status", "200", NULL);
	feed();
	assert_int_equal(side.n_ready, n_ready + 1);
	assert_int_equal(http_conn_capacity(side.c), 1);
	hb_setting(&b, H2_SET_MAX_CONCURRENT_STREAMS, 0);
	feed();
	assert_int_equal(http_conn_capacity(side.c), 0);
	end();
}

static void test_refused_streams_are_told_as_such(void **state)
{
	begin();
	for (uint32_t i = 0; i < 4; i++)
		assert_non_null(h2side_request(w, &side, "GET", "/", true));
	hb_u32(&b, H2_RST_STREAM, 1, H2_REFUSED_STREAM);
	hb_u32(&b, H2_RST_STREAM, 3, H2_CANCEL);
	hb_frame(&b, H2_GOAWAY, 0, 0, "\0\0\0\5\0\0\0\0why", 11);
	feed();
	assert_told(" reset refused\n reset stream\n\n reset refused\n");
	assert_int_equal(http_conn_capacity(side.c), 0);
	assert_null(http_client_start(w, side.c, &side.arena, NULL, NULL));
	assert_true(fake_is_alive(&side.f));
	hb_headers(&b, H2_END_STREAM, 5, ":status", "200", NULL);
	feed();
	assert_told(" reset refused\n reset stream\n200|0: complete\n reset refused\n");
	assert_true(side.f.is_released);
	assert_int_equal(side.closed_why, STREAM_END_FIN);
	end();
}

static void test_goaway_at_rest_closes(void **state)
{
	begin();
	hb_frame(&b, H2_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
	feed();
	assert_true(side.f.is_released);
	end();
	begin();
	http_conn_drain(w, side.c);
	assert_true(side.f.is_released);
	end();
	begin();
	assert_non_null(h2side_request(w, &side, "GET", "/", true));
	http_conn_drain(w, side.c);
	assert_int_equal(http_conn_capacity(side.c), 0);
	hb_headers(&b, H2_END_STREAM, 1, ":status", "200", NULL);
	feed();
	assert_told("200|0: complete\n");
	assert_true(side.f.is_released);
	end();
}

static void test_a_connect_that_fails(void **state)
{
	begin_with(NULL, false);
	assert_non_null(h2side_request(w, &side, "GET", "/", true));
	fake_closed(w, &side.f, STREAM_END_CONNECT_TIMEOUT);
	assert_told(" reset connect-timeout\n");
	assert_true(side.never_opened);
	end();
	begin_with(NULL, false);
	assert_non_null(h2side_request(w, &side, "GET", "/", true));
	fake_closed(w, &side.f, STREAM_END_REFUSED);
	assert_told(" reset connect-failure\n");
	end();
}

static void test_a_server_that_leaves(void **state)
{
	begin();
	for (uint32_t i = 0; i < 3; i++)
		assert_non_null(h2side_request(w, &side, "GET", "/", true));
	hb_headers(&b, 0, 1, ":status", "200", NULL);
	hb_data(&b, 0, 1, "half");
	hb_headers(&b, 0, 3, ":status", "200", NULL);
	hb_data(&b, H2_END_STREAM, 3, "whole");
	http_stream_pause(w, side.rec[1].hs, true);
	feed();
	fake_eof(w, &side.f);
	assert_told("200 reset remote http1.truncated\n200\n reset remote\n");
	assert_true(side.rec[0].info.rx_started);
	assert_false(side.rec[2].info.rx_started);
	http_stream_pause(w, side.rec[1].hs, false);
	assert_string_equal(side.rec[1].text, "200|5:whole complete");
	assert_int_equal(side.closed_why, STREAM_END_FIN);
	end();
}

static void test_what_the_server_may_not_do(void **state)
{
	static const struct {
		uint8_t type, flags;
		uint32_t id;
		const char *payload;
		uint32_t n_bytes;
	} frames[] = {
		{H2_PUSH_PROMISE, H2_END_HEADERS, 1, "\0\0\0\2", 4}, {H2_HEADERS, H2_END_HEADERS, 2, "\x88", 1}, {H2_HEADERS, H2_END_HEADERS, 9, "\x88", 1},
		{H2_SETTINGS, 0, 0, "\0\2\0\0\0\1", 6}, {H2_DATA, 0, 9, "x", 1}, {0x48, 0x54, 0x5502f31, "", 0},
	};

	for (uint32_t i = 0; i < FOIL_COUNT_OF(frames) - 1; i++) {
		begin();
		assert_non_null(h2side_request(w, &side, "GET", "/", true));
		hb_frame(&b, frames[i].type, frames[i].flags, frames[i].id, frames[i].payload, frames[i].n_bytes);
		feed();
		assert_int_equal(side.rec[0].info.kind, HTTP_RESET_PROTOCOL);
		assert_non_null(strstr(h2side_sent(w, &side), "GOAWAY last=0 code=1\n"));
		end();
	}
	begin_with(NULL, true); /* an HTTP/1.1 server */
	assert_non_null(h2side_request(w, &side, "GET", "/", true));
	hb_raw(&b, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	feed();
	assert_told(" reset protocol http2.frame_size_error\n");
	end();
}

static void test_a_small_table_of_the_peers_is_honoured(void **state)
{
	begin();
	hb_setting(&b, H2_SET_HEADER_TABLE_SIZE, 0);
	feed();
	foil_chain_clear(&side.f.tx);
	assert_non_null(h2side_request(w, &side, "GET", "/", true));
	uint8_t byte;
	foil_chain_copy_out(&side.f.tx, H2_FRAME_HEADER_BYTES, &byte, 1);
	assert_int_equal(byte, 0x20); /* dynamic table size update to 0 (RFC 7541 4.2) */
	assert_sent(GET_LINE("1", "/"));
	end();
}

static void test_resetting_cancels(void **state)
{
	begin();
	struct h2_rec *r = h2side_request(w, &side, "GET", "/", true);
	http_stream_reset(w, r->hs);
	assert_sent(GET_LINE("1", "/") "RST_STREAM 1 code=8\n");
	hb_headers(&b, 0, 1, ":status", "200", NULL); /* was under way */
	hb_data(&b, H2_END_STREAM, 1, "x");
	feed();
	assert_sent("");
	assert_told("\n");
	struct http_stream *hs = http_client_start(w, side.c, &side.arena, NULL, NULL);
	http_stream_reset(w, hs); /* nothing of it was sent */
	assert_sent("");
	end();
}

static void test_acknowledged_bytes_are_known_when_the_server_dies(void **state)
{
	begin();
	side.f.holds = true;
	assert_non_null(h2side_request(w, &side, "GET", "/", true));
	fake_ack(w, &side.f, 5);
	assert_non_null(h2side_request(w, &side, "GET", "/", true));
	fake_closed(w, &side.f, STREAM_END_RESET);
	assert_true(side.rec[0].info.tx_acked_any);
	assert_false(side.rec[1].info.tx_acked_any);
	end();
}

static void test_the_nth_allocation_may_fail(void **state)
{
	for (unsigned int leave = 0; leave < 10; leave++) {
		for (unsigned int which = 0; which < 3; which++) {
			begin();
			struct rte_mempool *pool = which == 0 ? w->mbuf_pool : which == 1 ? w->indirect_pool : w->chunk_pool;
			for (uint32_t i = 0; i < 3; i++)
				assert_non_null(h2side_request(w, &side, "GET", "/", true));
			hb_headers(&b, 0, 1, ":status", "200", "x", "y", NULL);
			hb_data(&b, 0, 1, "hello");
			hb_headers(&b, H2_END_STREAM, 1, "t", "u", NULL);
			hb_headers(&b, 0, 3, ":status", "200", NULL);
			hb_frame(&b, H2_PING, 0, 0, "12345678", 8);
			hb_data(&b, H2_END_STREAM, 3, "hello");
			t_chain(w, &side.f.s.rx, b.at, b.n, 25);
			t_pool_drain(pool, leave);
			side.f.s.user->readable(w, &side.f.s);
			t_pool_refill(pool);
			end();
		}
	}
}

static void test_a_server_that_answers_no_ping_is_lost(void **state)
{
	const struct http_limits limits = {.h2_ping_interval_us = 10000000, .h2_ping_timeout_us = 2000000};

	begin_with(&limits, false);
	fake_opened(w, &side.f);
	hb_hello(&b, false);
	hb_frame(&b, H2_SETTINGS, H2_ACK, 0, NULL, 0);
	feed();
	(void)h2side_sent(w, &side);
	assert_non_null(h2side_request(w, &side, "GET", "/a", true));
	(void)h2side_sent(w, &side);
	for (int i = 0; i < 3; i++) { /* it answers */
		t_advance(w, 10100000);
		assert_non_null(strstr(h2side_sent(w, &side), "PING"));
		hb_frame(&b, H2_PING, H2_ACK, 0, h2_alive_ping, 8);
		feed();
	}
	t_advance(w, 10100000);
	assert_non_null(strstr(h2side_sent(w, &side), "PING"));
	hb_frame(&b, H2_PING, H2_ACK, 0, "notours!", 8);
	feed();
	assert_int_equal(side.n_closed, 0);
	t_advance(w, 2100000);
	assert_int_equal(side.n_reset, 1);
	assert_int_equal(side.rec[0].info.kind, HTTP_RESET_REMOTE);
	assert_int_equal(side.n_closed, 1);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_server_that_answers_no_ping_is_lost),
		cmocka_unit_test(test_requests_may_go_out_before_anything_comes),
		cmocka_unit_test(test_answers_of_every_form),
		cmocka_unit_test(test_answers_that_are_malformed),
		cmocka_unit_test(test_a_status_is_three_digits),
		cmocka_unit_test(test_bodies_and_trailers_go_out),
		cmocka_unit_test(test_an_answer_before_the_request_is_whole),
		cmocka_unit_test(test_streams_are_as_many_as_the_server_lets),
		cmocka_unit_test(test_refused_streams_are_told_as_such),
		cmocka_unit_test(test_goaway_at_rest_closes),
		cmocka_unit_test(test_a_connect_that_fails),
		cmocka_unit_test(test_a_server_that_leaves),
		cmocka_unit_test(test_what_the_server_may_not_do),
		cmocka_unit_test(test_a_small_table_of_the_peers_is_honoured),
		cmocka_unit_test(test_resetting_cancels),
		cmocka_unit_test(test_acknowledged_bytes_are_known_when_the_server_dies),
		cmocka_unit_test(test_the_nth_allocation_may_fail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
