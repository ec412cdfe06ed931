/* The server side of HTTP/2, whole connections over a fake stream: messages, streams, draining, what is refused and how. Windows are
 * test_h2_windows.c's. */
#include <errno.h>

#include "dataplane/core/error.h"
#include "tests/unit/http/h2_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h2_side side;
static struct h2_bytes b;

#define HELLO "SETTINGS 4\nWINDOW_UPDATE 0 +983041\n"
#define OK_HEAD " :status=200 x-a=1 content-length=2\n"

static void begin_as(enum http_protocol protocol, const struct http_limits *limits)
{
	struct foil_error err;

	memset(&side, 0, sizeof(side));
	b.n = 0;
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){64, 256}, &err), 0);
	side.reply = H2_REPLY_AT_END;
	h2side_server(w, &side, protocol, limits);
}

/* A connection that has said hello, with nothing left to look at. */
static void begin_with(const struct http_limits *limits)
{
	begin_as(HTTP_PROTOCOL_H2, limits);
	hb_hello(&b, true);
	hb_frame(&b, H2_SETTINGS, H2_ACK, 0, NULL, 0);
	h2side_feed(w, &side, &b, 0, false);
	assert_non_null(strstr(h2side_sent(w, &side), "SETTINGS ack 0\n"));
}

static void begin(void)
{
	begin_with(NULL);
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

/* ---- messages ---- */
static void test_settings_come_first_and_are_acknowledged(void **state)
{
	begin_as(HTTP_PROTOCOL_H2, NULL);
	t_advance(w, 1000);
	assert_sent(""); /* it may be somebody else */
	hb_hello(&b, true);
	feed();
	assert_sent(HELLO "SETTINGS ack 0\n");
	end();
}

static void test_a_request_is_told_and_answered(void **state)
{
	begin();
	hb_headers(&b, H2_END_STREAM, 1, ":method", "GET", ":path", "/x?y", ":scheme", "http", ":authority", "a.example:80", "user-agent", "T", "x-odd",
		   "v", NULL);
	feed();
	assert_told("GET /x?y host=a.example:80 user-agent=T x-odd=v|0: complete\n");
	assert_sent("HEADERS 1" OK_HEAD "DATA 1 end 2:ok\n");
	assert_true(http_conn_is_idle(side.c));
	assert_int_equal(http_conn_version(side.c), HTTP_VERSION_2);
	assert_int_equal(side.head.version, HTTP_VERSION_2);
	end();
}

static uint32_t n_remembered(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < h2_memo_places(); i++)
		n += ((const struct h2_memo *)(const void *)&w->http->h2_memos.base[(size_t)i * w->http->h2_memos.block_bytes])->is_filled;
	return n;
}

static void block(uint32_t id, uint8_t flags, const char *bytes, uint32_t n_bytes)
{
	hb_frame(&b, H2_HEADERS, (uint8_t)(flags | H2_END_HEADERS), id, bytes, n_bytes);
}
#define BLOCK(id, flags, bytes) block(id, flags, bytes, sizeof(bytes) - 1)
#define GET_OF_62 "\x82\x86\x84\xbe" /* :method GET, :scheme http, :path /, and what the peer inserted last */
#define WITH_FIELD GET_OF_62 "\x00\x03x-q\x02vv"

static void test_a_block_that_comes_again_means_the_same_until_the_table_changes(void **state)
{
	begin();
	BLOCK(1, H2_END_STREAM, "\x82\x86\x84\x41\x01" "a"); /* :authority a goes into the table: never kept */
	BLOCK(3, H2_END_STREAM, "\x82\x86\x84\x41\x01" "a");
	feed();
	assert_int_equal(n_remembered(), 0);
	for (uint32_t id = 5; id <= 9; id += 2)
		BLOCK(id, H2_END_STREAM, WITH_FIELD);
	feed();
	assert_int_equal(n_remembered(), 1);
	BLOCK(11, 0, WITH_FIELD); /* the same bytes, and a body follows */
	hb_data(&b, H2_END_STREAM, 11, "hey");
	BLOCK(13, H2_END_STREAM, "\x82\x86\x84\x41\x01" "b"); /* 62 is another one */
	BLOCK(15, H2_END_STREAM, WITH_FIELD);
	BLOCK(17, H2_END_STREAM, WITH_FIELD);
	BLOCK(19, H2_END_STREAM, WITH_FIELD);
	feed();
	assert_told("GET / host=a|0: complete\nGET / host=a|0: complete\nGET / host=a x-q=vv|0: complete\nGET / host=a x-q=vv|0: complete\n"
		    "GET / host=a x-q=vv|0: complete\nGET / host=a x-q=vv|3:hey complete\nGET / host=b|0: complete\nGET / host=b x-q=vv|0: complete\n"
		    "GET / host=b x-q=vv|0: complete\nGET / host=b x-q=vv|0: complete\n");
	(void)h2side_sent(w, &side);
	BLOCK(21, H2_END_STREAM, "\x20" GET_OF_62); /* the table is emptied: there is no 62 */
	BLOCK(23, H2_END_STREAM, WITH_FIELD);
	feed();
	assert_non_null(strstr(h2side_sent(w, &side), "GOAWAY last=21 code=9\n"));
	assert_int_equal(side.n_heads, 10);
	end();
}

static void test_what_is_never_indexed_or_long_is_not_remembered(void **state)
{
	char path[600] = "/";

	begin();
	memset(&path[1], 'p', sizeof(path) - 2);
	path[sizeof(path) - 1] = 0;
	for (uint32_t id = 1; id < 30; id += 6) {
		BLOCK(id, H2_END_STREAM, "\x82\x86\x84\x01\x01" "a" "\x10\x03x-s\x03key");
		hb_get(&b, H2_END_STREAM, id + 2, path);
		BLOCK(id + 4, H2_END_STREAM, "\x82\x86\x84\x01\x01" "a" "\x0f\x02\x00"); /* an empty value */
	}
	feed();
	assert_int_equal(n_remembered(), 1);
	assert_int_equal(side.n_complete, 15);
	assert_string_equal(side.rec[0].text, side.rec[12].text);
	assert_string_equal(side.rec[2].text, side.rec[14].text);
	end();
}

static void test_bodies_padding_priorities_and_trailers(void **state)
{
	static const uint8_t padded[] = {3, 'h', 'e', 0, 0, 0};
	static const uint8_t prioritised[] = {0, 0, 0, 0, 5, 0x82, 0x86, 0x84, 0x41, 1, 'a'}; /* GET http / a */

	begin();
	hb_post(&b, 1, "/a", "hello");
	hb_headers(&b, 0, 3, ":method", "POST", ":scheme", "http", ":path", "/b", ":authority", "a.example", "te", "trailers", NULL);
	hb_frame(&b, H2_DATA, H2_PADDED, 3, padded, sizeof(padded));
	hb_data(&b, 0, 3, "llo");
	hb_headers(&b, H2_END_STREAM, 3, "x-t", "1", NULL);
	hb_frame(&b, H2_HEADERS, H2_END_STREAM | H2_END_HEADERS | H2_PRIORITY_FLAG, 5, prioritised, sizeof(prioritised));
	feed();
	assert_told("POST /a host=a.example|5:hello complete\n"
		    "POST /b host=a.example|5:hello|t: x-t=1 complete\n"
		    "GET / host=a|0: complete\n");
	assert_int_equal(side.n_data_calls, 2); /* two frames of one stream in one turn: one call */
	end();
}

static void test_trailers_of_a_user_without_interest_end_the_body(void **state)
{
	begin();
	side.drops_trailers = true;
	hb_headers(&b, 0, 1, ":method", "POST", ":scheme", "http", ":path", "/b", ":authority", "a.example", NULL);
	hb_headers(&b, H2_END_STREAM, 1, "x-t", "1", NULL);
	feed();
	assert_told("POST /b host=a.example|0: complete\n");
	end();
}

static void test_what_belongs_to_the_hop_or_to_pseudo_fields_is_not_among_the_headers(void **state)
{
	begin();
	hb_headers(&b, H2_END_STREAM, 1, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a.example", "host", "other", "te", "trailers",
		   "cookie", "a=1", "x", "y", "cookie", "", "cookie", "b=2", "cookie", "c=3", "cookie", "", "content-length", "0", NULL);
	feed();
	assert_told("GET / host=a.example cookie=a=1; b=2; c=3 x=y|0: complete\n");
	assert_true(side.head.has_te_trailers);
	assert_int_equal(side.head.body, HTTP_BODY_LENGTH);
	hb_headers(&b, H2_END_STREAM, 3, ":method", "GET", ":scheme", "http", ":path", "/", "host", "h.example", NULL);
	hb_headers(&b, H2_END_STREAM, 5, ":method", "CONNECT", ":authority", "c.example:1", NULL);
	hb_headers(&b, H2_END_STREAM, 7, ":method", "OPTIONS", ":scheme", "coap+tcp", ":path", "*", ":authority", "a", NULL);
	hb_headers(&b, 0, 9, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a", "content-type", "application/grpc+proto", NULL);
	feed();
	assert_true(side.head.is_grpc);
	assert_int_equal(side.head.body, HTTP_BODY_CHUNKED);
	assert_non_null(strstr(h2side_told(&side), "GET / host=h.example|0: complete\nCONNECT / host=c.example:1|0: complete\nOPTIONS * host=a|0:"));
	end();
}

static void test_100_continue_is_sent(void **state)
{
	begin();
	hb_headers(&b, 0, 1, ":method", "PUT", ":scheme", "http", ":path", "/", ":authority", "a", "expect", "100-continue", NULL);
	feed();
	assert_sent("HEADERS 1 :status=100\n");
	hb_data(&b, H2_END_STREAM, 1, "x");
	feed();
	assert_told("PUT / host=a expect=100-continue|1:x complete\n");
	end();
}

static void test_answers_have_the_right_form(void **state)
{
	struct http_header t = {FOIL_SLICE("grpc-status"), FOIL_SLICE("0"), HTTP_HDR_GRPC_STATUS, false};
	const struct http_headers trailers = {.list = &t, .n = 1, .cap = 1};

	begin();
	side.reply = H2_REPLY_NONE;
	for (uint32_t id = 1; id <= 11; id += 2)
		hb_headers(&b, H2_END_STREAM, id, ":method", id == 1 ? "HEAD" : "GET", ":scheme", "http", ":path", "/", ":authority", "a", NULL);
	feed();
	assert_int_equal(h2side_reply(w, side.rec[0].hs, 200, HTTP_BODY_LENGTH, 9, false), 0); /* HEAD: its length, no body */
	h2side_send(w, side.rec[0].hs, 9, true);
	assert_sent("HEADERS 1 end :status=200 x-a=1 content-length=9\n");
	assert_int_equal(h2side_reply(w, side.rec[1].hs, 204, HTTP_BODY_LENGTH, 0, true), 0);
	assert_sent("HEADERS 3 end :status=204 x-a=1\n");
	assert_int_equal(h2side_reply(w, side.rec[2].hs, 103, HTTP_BODY_NONE, 0, false), 0);
	assert_int_equal(h2side_reply(w, side.rec[2].hs, 200, HTTP_BODY_CHUNKED, 0, false), 0);
	h2side_send(w, side.rec[2].hs, 3, false);
	assert_int_equal(http_send_trailers(w, side.rec[2].hs, &trailers), 0);
	assert_sent("HEADERS 5 :status=103 x-a=1\nHEADERS 5 :status=200 x-a=1\nDATA 5 3:b\nHEADERS 5 end grpc-status=0\n");
	assert_int_equal(h2side_reply(w, side.rec[3].hs, 200, HTTP_BODY_CHUNKED, 0, false), 0);
	assert_int_equal(http_send_trailers(w, side.rec[3].hs, NULL), 0);
	assert_sent("HEADERS 7 :status=200 x-a=1\nDATA 7 end 0:\n");
	assert_int_equal(h2side_reply(w, side.rec[4].hs, 404, HTTP_BODY_NONE, 0, true), 0);
	assert_sent("HEADERS 9 end :status=404 x-a=1\n");
	assert_int_equal(h2side_reply(w, side.rec[5].hs, 304, HTTP_BODY_LENGTH, 77, true), 0);
	assert_sent("HEADERS 11 end :status=304 x-a=1 content-length=77\n");
	assert_int_equal(side.n_complete, 6);
	end();
}

static void test_a_body_that_is_not_as_long_as_promised_resets_the_stream(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	hb_get(&b, H2_END_STREAM, 1, "/");
	hb_get(&b, H2_END_STREAM, 3, "/");
	feed();
	assert_int_equal(h2side_reply(w, side.rec[0].hs, 200, HTTP_BODY_LENGTH, 5, false), 0);
	h2side_send(w, side.rec[0].hs, 6, true);
	assert_int_equal(h2side_reply(w, side.rec[1].hs, 200, HTTP_BODY_LENGTH, 5, false), 0);
	h2side_send(w, side.rec[1].hs, 4, true);
	assert_sent("HEADERS 1 :status=200 x-a=1 content-length=5\nRST_STREAM 1 code=2\n"
		    "HEADERS 3 :status=200 x-a=1 content-length=5\nRST_STREAM 3 code=2\n");
	assert_told("GET / host=a.example|0: reset local http1.tx_length_mismatch\nGET / host=a.example|0: reset local http1.tx_length_mismatch\n");
	end();
}

static void test_a_large_head_goes_over_frames_and_is_read_back(void **state)
{
	static char value[20000];
	struct http_header h = {FOIL_SLICE("x-large"), {value, sizeof(value)}, HTTP_HDR_OTHER, false};
	const struct http_head head = {.status = 200, .headers = {.list = &h, .n = 1, .cap = 1}};

	memset(value, 'v', sizeof(value));
	begin();
	side.reply = H2_REPLY_NONE;
	hb_get(&b, H2_END_STREAM, 1, "/");
	feed();
	assert_int_equal(http_send_head(w, side.rec[0].hs, &head, true), 0);
	assert_sent("HEADERS 1 end more\nCONTINUATION 1\n");
	end();
}

static void test_heads_that_no_peer_may_see_are_not_sent(void **state)
{
	struct http_header bad[] = {{FOIL_SLICE("x"), FOIL_SLICE("a\nb"), HTTP_HDR_OTHER, false}, {FOIL_SLICE("X-Up"), FOIL_SLICE("v"), HTTP_HDR_OTHER, false}};

	begin();
	side.reply = H2_REPLY_NONE;
	hb_get(&b, H2_END_STREAM, 1, "/");
	feed();
	for (uint32_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		const struct http_head head = {.status = 200, .headers = {&bad[i], 1, 1}};
		assert_int_equal(http_send_head(w, side.rec[0].hs, &head, true), -ENOBUFS);
	}
	assert_int_equal(t_reason(w, HTTP, UNSENDABLE_HEAD), 2);
	http_stream_reset(w, side.rec[0].hs);
	assert_sent("RST_STREAM 1 code=2\n");
	end();
}

static void test_an_early_answer_ends_the_stream_and_not_the_connection(void **state)
{
	begin();
	side.reply = H2_REPLY_AT_HEAD;
	hb_headers(&b, 0, 1, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a", NULL);
	feed();
	assert_sent("HEADERS 1" OK_HEAD "DATA 1 end 2:ok\nRST_STREAM 1 code=0\n");
	hb_data(&b, 0, 1, "still under way");
	hb_get(&b, H2_END_STREAM, 3, "/next");
	feed();
	assert_sent("HEADERS 3" OK_HEAD "DATA 3 end 2:ok\n");
	assert_told("POST / host=a complete\nGET /next host=a.example|0: complete\n");
	end();
}

/* ---- malformed ---- */
static void test_malformed_requests_end_their_stream_only(void **state)
{
#define P ":scheme", "http", ":path", "/", ":authority", "a"
	begin();
	hb_headers(&b, H2_END_STREAM, 1, P, NULL);                                                    /* no method */
	hb_headers(&b, H2_END_STREAM, 3, ":method", "GET", P, ":method", "GET", NULL);                /* twice */
	hb_headers(&b, H2_END_STREAM, 5, ":method", "GET", P, ":status", "200", NULL);                /* of responses */
	hb_headers(&b, H2_END_STREAM, 7, ":method", "GET", P, ":new", "x", NULL);                     /* unknown */
	hb_headers(&b, H2_END_STREAM, 9, ":method", "GET", "x", "y", P, NULL);                        /* after a field */
	hb_headers(&b, H2_END_STREAM, 11, ":method", "GET", P, "X-Up", "y", NULL);                    /* upper case */
	hb_headers(&b, H2_END_STREAM, 13, ":method", "GET", P, "connection", "close", NULL);
	hb_headers(&b, H2_END_STREAM, 15, ":method", "GET", P, "transfer-encoding", "chunked", NULL);
	hb_headers(&b, H2_END_STREAM, 17, ":method", "GET", P, "te", "gzip", NULL);
	hb_headers(&b, H2_END_STREAM, 19, ":method", "GET", P, "content-length", "1", NULL);          /* and no DATA */
	hb_headers(&b, H2_END_STREAM, 21, ":method", "GET", P, "content-length", "-1", NULL);
	hb_headers(&b, H2_END_STREAM, 23, ":method", "GET", P, "content-length", "0", "content-length", "0", NULL);
	hb_headers(&b, H2_END_STREAM, 25, ":method", "GET", P, "x", "a\rb", NULL);
	hb_headers(&b, H2_END_STREAM, 27, ":method", "GET", P, "x", " a", NULL);
	hb_headers(&b, H2_END_STREAM, 29, ":method", "GET", P, "", "a", NULL);
	hb_headers(&b, H2_END_STREAM, 31, ":method", "GET", ":scheme", "http", ":path", "", ":authority", "a", NULL);
	hb_headers(&b, H2_END_STREAM, 33, ":method", "GET", ":scheme", "http", ":path", "x", ":authority", "a", NULL);
	hb_headers(&b, H2_END_STREAM, 35, ":method", "GET", ":scheme", "4tp", ":path", "/", ":authority", "a", NULL);
	hb_headers(&b, H2_END_STREAM, 37, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "u@a", NULL);
	hb_headers(&b, H2_END_STREAM, 39, ":method", "G T", P, NULL);
	hb_headers(&b, H2_END_STREAM, 41, ":method", "CONNECT", P, NULL);
	hb_headers(&b, H2_END_STREAM, 43, ":method", "GET", ":scheme", "http", ":authority", "a", NULL);
	hb_headers(&b, H2_END_STREAM, 45, ":method", "GET", ":scheme", "http", ":path", "/ x", ":authority", "a", NULL);
	hb_headers(&b, H2_END_STREAM, 47, ":method", "GET", ":scheme", "http", ":path", "/", "host", "a", "host", "b", NULL);
	feed();
	for (uint32_t i = 0; i < 24; i++) {
		assert_int_equal(side.rec[i].info.kind, HTTP_RESET_PROTOCOL);
		assert_true(side.rec[i].info.reason >= HTTP_REASON_H2_BAD_PREFACE);
	}
	const char *sent = h2side_sent(w, &side);
	for (uint32_t id = 1; id <= 47; id += 2) {
		char line[40];
		snprintf(line, sizeof(line), "RST_STREAM %u code=1\n", id);
		assert_non_null(strstr(sent, line));
	}
	hb_get(&b, H2_END_STREAM, 49, "/fine");
	feed();
	assert_sent("HEADERS 49" OK_HEAD "DATA 49 end 2:ok\n");
	end();
#undef P
}

static void test_lengths_and_trailers_that_do_not_fit_end_the_stream(void **state)
{
	begin();
	for (uint32_t id = 1; id <= 9; id += 2)
		hb_headers(&b, 0, id, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a", "content-length", "3", NULL);
	hb_data(&b, 0, 1, "1234");
	hb_data(&b, H2_END_STREAM, 3, "12");
	hb_headers(&b, 0, 5, "x", "y", NULL);              /* trailers without the end */
	hb_data(&b, 0, 7, "123");
	hb_headers(&b, H2_END_STREAM, 7, ":path", "/", NULL);
	hb_data(&b, 0, 9, "12");
	hb_headers(&b, H2_END_STREAM, 9, "x", "y", NULL);  /* one byte is missing */
	feed();
	assert_told("POST / host=a reset protocol http2.content_length\n"
		    "POST / host=a reset protocol http2.content_length\n"
		    "POST / host=a reset protocol http2.violation.of.messaging.rule\n"
		    "POST / host=a reset protocol http2.invalid_pseudo_header\n"
		    "POST / host=a reset protocol http2.content_length\n");
	end();
}

static void test_a_request_without_host_or_with_too_much_is_answered(void **state)
{
	static char large[9000];

	memset(large, 'x', sizeof(large) - 1);
	begin_with(&(struct http_limits){.head_bytes_max = 4000});
	hb_headers(&b, H2_END_STREAM, 1, ":method", "GET", ":scheme", "http", ":path", "/", NULL);
	hb_headers(&b, 0, 3, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a", "x-large", large, NULL);
	hb_data(&b, 0, 3, "of no interest");
	feed();
	assert_told("bad 400 missing_host_header complete\nbad 431 http2.headers_too_large complete\n");
	assert_sent("HEADERS 1 end :status=400 x-a=1\nHEADERS 3 end :status=431 x-a=1\nRST_STREAM 3 code=0\n");
	end();
}

/* ---- connection errors ---- */
static void breaks(const void *frames, uint32_t n_bytes, const char *goaway)
{
	begin();
	hb_raw(&b, frames, n_bytes);
	feed();
	if (!strstr(h2side_sent(w, &side), goaway))
		fail_msg("no %s in %s", goaway, side.sent);
	assert_true(side.f.is_released);
	end();
}

static void breaks_frame(uint8_t type, uint8_t flags, uint32_t id, const char *payload, uint32_t n_bytes, const char *goaway)
{
	struct h2_bytes *one = calloc(1, sizeof(*one));

	hb_frame(one, type, flags, id, payload, n_bytes);
	breaks(one->at, one->n, goaway);
	free(one);
}

static void test_frames_that_break_the_connection(void **state)
{
	static const char zeros[20000];

	breaks_frame(H2_DATA, 0, 0, "x", 1, "GOAWAY last=0 code=1");
	breaks_frame(H2_DATA, 0, 1, "x", 1, "GOAWAY last=0 code=1");                 /* idle */
	breaks_frame(H2_HEADERS, H2_END_HEADERS, 0, "\x82", 1, "code=1");
	breaks_frame(H2_HEADERS, H2_END_HEADERS, 2, "\x82", 1, "code=1");            /* even */
	breaks_frame(H2_HEADERS, H2_END_HEADERS, 1, "\x80", 1, "code=9");            /* index 0 */
	breaks_frame(H2_HEADERS, H2_END_HEADERS | H2_PADDED, 1, "\x05xx", 3, "code=1");
	breaks_frame(H2_HEADERS, H2_END_HEADERS | H2_PRIORITY_FLAG, 1, "\0\0", 2, "code=6");
	breaks_frame(H2_HEADERS, H2_END_HEADERS | H2_PADDED, 1, "", 0, "code=6");
	breaks_frame(H2_CONTINUATION, H2_END_HEADERS, 1, "\x82", 1, "code=1");
	breaks_frame(H2_PRIORITY, 0, 0, zeros, 5, "code=1");
	breaks_frame(H2_RST_STREAM, 0, 0, zeros, 4, "code=1");
	breaks_frame(H2_RST_STREAM, 0, 1, zeros, 4, "code=1");                       /* idle */
	breaks_frame(H2_RST_STREAM, 0, 1, zeros, 3, "code=6");
	breaks_frame(H2_SETTINGS, H2_ACK, 0, zeros, 6, "code=6");
	breaks_frame(H2_SETTINGS, 0, 1, zeros, 6, "code=1");
	breaks_frame(H2_SETTINGS, 0, 0, zeros, 5, "code=6");
	breaks_frame(H2_SETTINGS, 0, 0, "\0\2\0\0\0\2", 6, "code=1");                /* ENABLE_PUSH 2 */
	breaks_frame(H2_SETTINGS, 0, 0, "\0\4\x80\0\0\0", 6, "code=3");
	breaks_frame(H2_SETTINGS, 0, 0, "\0\5\0\0\x3f\xff", 6, "code=1");
	breaks_frame(H2_SETTINGS, 0, 0, "\0\5\1\0\0\0", 6, "code=1");
	breaks_frame(H2_SETTINGS, 0, 0, zeros, 6000, "code=11");
	breaks_frame(H2_PUSH_PROMISE, H2_END_HEADERS, 1, zeros, 4, "code=1");
	breaks_frame(H2_PING, 0, 0, zeros, 7, "code=6");
	breaks_frame(H2_PING, 0, 1, zeros, 8, "code=1");
	breaks_frame(H2_GOAWAY, 0, 1, zeros, 8, "code=1");
	breaks_frame(H2_GOAWAY, 0, 0, zeros, 7, "code=6");
	breaks_frame(H2_WINDOW_UPDATE, 0, 0, zeros, 4, "code=1");
	breaks_frame(H2_WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4, "code=3");
	breaks_frame(H2_WINDOW_UPDATE, 0, 1, "\0\0\0\1", 4, "code=1");               /* idle */
	breaks_frame(H2_WINDOW_UPDATE, 0, 0, zeros, 3, "code=6");
	breaks_frame(0xee, 0, 0, zeros, 16385, "code=6");
}

static void test_a_connection_that_begins_otherwise_is_closed(void **state)
{
	begin_as(HTTP_PROTOCOL_H2, NULL);
	hb_raw(&b, "GET / HTTP/1.1\r\n", 16);
	feed();
	assert_sent("");
	assert_true(side.f.is_released);
	assert_int_equal(t_reason(w, HTTP, H2_BAD_PREFACE), 1);
	end();
	begin_as(HTTP_PROTOCOL_H2, NULL);
	hb_raw(&b, h2_preface, sizeof(h2_preface));
	hb_get(&b, H2_END_STREAM, 1, "/");
	feed();
	assert_non_null(strstr(h2side_sent(w, &side), "GOAWAY last=0 code=1\n"));
	assert_int_equal(t_reason(w, HTTP, H2_BAD_PREFACE), 1);
	end();
}

static void test_blocks_may_not_be_interrupted(void **state)
{
	begin();
	hb_headers(&b, H2_NO_END_HEADERS | H2_END_STREAM, 1, ":method", "GET", NULL);
	hb_frame(&b, H2_PING, 0, 0, "12345678", 8);
	feed();
	assert_sent("GOAWAY last=0 code=1\n");
	end();
	begin();
	hb_headers(&b, H2_NO_END_HEADERS | H2_END_STREAM, 1, ":method", "GET", NULL);
	hb_frame(&b, H2_CONTINUATION, H2_END_HEADERS, 3, "\x84", 1);
	feed();
	assert_sent("GOAWAY last=0 code=1\n");
	end();
}

/* ---- stream states ---- */
static void test_frames_for_streams_that_are_over(void **state)
{
	begin();
	hb_get(&b, H2_END_STREAM, 3, "/");
	feed();
	(void)h2side_sent(w, &side);
	hb_u32(&b, H2_WINDOW_UPDATE, 3, 10); /* may be under way */
	hb_u32(&b, H2_RST_STREAM, 3, 8);
	hb_frame(&b, H2_PRIORITY, 0, 9, "\0\0\0\0\1", 5);
	feed();
	assert_sent("");
	hb_data(&b, 0, 3, "x"); /* both had ended it */
	feed();
	assert_sent("GOAWAY last=3 code=5\n");
	end();
	begin();
	side.reply = H2_REPLY_NONE;
	hb_get(&b, H2_END_STREAM, 1, "/");
	hb_data(&b, 0, 1, "x"); /* half-closed */
	feed();
	assert_sent("RST_STREAM 1 code=5\n");
	hb_get(&b, 0, 3, "/");
	hb_u32(&b, H2_RST_STREAM, 3, 8);
	hb_data(&b, 0, 3, "x"); /* reset by itself */
	hb_get(&b, H2_END_STREAM, 3, "/");
	feed();
	assert_sent("RST_STREAM 3 code=5\nRST_STREAM 3 code=5\n");
	hb_get(&b, H2_END_STREAM, 7, "/");
	hb_get(&b, H2_END_STREAM, 5, "/"); /* never opened, and passed by */
	feed();
	assert_sent("GOAWAY last=7 code=1\n");
	end();
}

static void test_what_a_stream_depends_on_is_looked_at_and_not_used(void **state)
{
	static const uint8_t itself[] = {0, 0, 0, 1, 5, 0x82, 0x86, 0x84, 0x41, 1, 'a'};

	begin();
	side.reply = H2_REPLY_NONE;
	hb_frame(&b, H2_HEADERS, H2_END_STREAM | H2_END_HEADERS | H2_PRIORITY_FLAG, 1, itself, sizeof(itself));
	hb_get(&b, 0, 3, "/");
	hb_frame(&b, H2_PRIORITY, 0, 3, "\0\0\0\3\1", 5);
	hb_get(&b, 0, 5, "/");
	hb_frame(&b, H2_PRIORITY, 0, 5, "\0\0\0\3", 4);
	feed();
	assert_sent("RST_STREAM 1 code=1\nRST_STREAM 3 code=1\nRST_STREAM 5 code=6\n");
	end();
}

static void test_streams_beyond_the_limit_are_refused_and_their_fields_remembered(void **state)
{
	static const uint8_t indexed[] = {0x40, 3, 'x', '-', 'k', 1, 'v'}; /* literal with incremental indexing: entry 62 */
	static const uint8_t uses[] = {0x82, 0x86, 0x84, 0x01, 1, 'a', 0xbe};

	begin_with(&(struct http_limits){.h2_streams_max = 1});
	side.reply = H2_REPLY_NONE;
	hb_get(&b, H2_END_STREAM, 1, "/");
	hb_frame(&b, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 3, indexed, sizeof(indexed));
	feed();
	assert_sent("RST_STREAM 3 code=7\n");
	assert_int_equal(h2side_reply(w, side.rec[0].hs, 200, HTTP_BODY_NONE, 0, true), 0);
	hb_frame(&b, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 5, uses, sizeof(uses));
	feed();
	assert_string_equal(side.rec[1].text, "GET / host=a x-k=v|0:");
	end();
}

static void test_underscores_are_refused_or_left_out(void **state)
{
	static const uint8_t fields[] = {0x82, 0x86, 0x84, 0x01, 1, 'a', 0x00, 3, 'x', '_', 'k', 1, 'v', 0x00, 3, 'x', '-', 'k', 1, 'v'};

	begin_with(&(struct http_limits){.reject_underscores = true});
	hb_frame(&b, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 1, fields, sizeof(fields));
	feed();
	assert_sent("RST_STREAM 1 code=2\n");
	end();
	begin_with(&(struct http_limits){.drop_underscores = true});
	side.reply = H2_REPLY_NONE;
	hb_frame(&b, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 1, fields, sizeof(fields));
	feed();
	assert_string_equal(side.rec[0].text, "GET / host=a x-k=v|0:");
	end();
}

static void test_resets_of_either_side(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	hb_get(&b, 0, 1, "/");
	hb_u32(&b, H2_RST_STREAM, 1, 8);
	hb_get(&b, 0, 3, "/");
	hb_get(&b, 0, 5, "/");
	feed();
	assert_int_equal(h2side_reply(w, side.rec[1].hs, 200, HTTP_BODY_CHUNKED, 0, false), 0);
	http_stream_reset(w, side.rec[1].hs);
	side.rec[1].hs = NULL;
	assert_told("GET / host=a.example reset stream\nGET / host=a.example\nGET / host=a.example\n");
	assert_sent("HEADERS 3 :status=200 x-a=1\nRST_STREAM 3 code=2\n");
	fake_closed(w, &side.f, STREAM_END_RESET);
	assert_string_equal(side.rec[2].text, "GET / host=a.example reset remote");
	assert_int_equal(side.closed_why, STREAM_END_RESET);
	end();
}

static void test_users_may_close_or_reset_in_any_callback(void **state)
{
	for (uint32_t how = 0; how < 3; how++) {
		begin();
		side.closes_in_head = how == 0;
		side.resets_in_head = how == 1;
		side.resets_in_data = how == 2;
		hb_post(&b, 1, "/", "x");
		hb_post(&b, 3, "/", "y");
		feed();
		end();
	}
}

/* ---- the end of a connection ---- */
static void test_draining_takes_two_steps(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	hb_get(&b, H2_END_STREAM, 1, "/");
	feed();
	http_conn_drain(w, side.c);
	http_conn_drain(w, side.c);
	assert_sent("GOAWAY last=2147483647 code=0\nPING\n");
	hb_get(&b, H2_END_STREAM, 3, "/under-way");
	hb_frame(&b, H2_PING, H2_ACK, 0, h2_drain_ping, 8);
	hb_get(&b, H2_END_STREAM, 5, "/too-late");
	feed();
	assert_sent("GOAWAY last=3 code=0\n");
	assert_told("GET / host=a.example|0:\nGET /under-way host=a.example|0:\n");
	for (uint32_t i = 0; i < 2; i++) {
		assert_true(fake_is_alive(&side.f));
		assert_int_equal(h2side_reply(w, side.rec[i].hs, 200, HTTP_BODY_NONE, 0, true), 0);
	}
	assert_true(side.f.is_released);
	assert_int_equal(side.closed_why, STREAM_END_FIN);
	end();
	begin_as(HTTP_PROTOCOL_H2, NULL); /* one that has not said anything */
	http_conn_drain(w, side.c);
	assert_sent("");
	assert_true(side.f.is_released);
	end();
	begin(); /* one that does not answer the PING */
	http_conn_drain(w, side.c);
	t_advance(w, H2_DRAIN_STEP_US + 1000);
	assert_sent("GOAWAY last=2147483647 code=0\nPING\nGOAWAY last=0 code=0\n");
	assert_true(side.f.is_released);
	end();
}

/* Where a time between the two steps is set, requests come until it is over, whatever the peer says meanwhile. */
static void test_draining_takes_the_time_that_is_set(void **state)
{
	const struct http_limits limits = {.h2_drain_us = 2000000};

	begin_with(&limits);
	http_conn_drain(w, side.c);
	assert_sent("GOAWAY last=2147483647 code=0\n");
	hb_frame(&b, H2_PING, H2_ACK, 0, h2_drain_ping, 8);
	feed();
	t_advance(w, 1500000);
	hb_get(&b, H2_END_STREAM, 1, "/in-time");
	feed();
	assert_told("GET /in-time host=a.example|0: complete\n");
	assert_false(side.f.is_released);
	t_advance(w, 600000);
	assert_true(side.f.is_released);
	end();
	(void)state;
}

static void test_time_limits(void **state)
{
	const struct http_limits limits = {.idle_timeout_us = 1000000, .head_timeout_us = 500000};

	begin_with(&limits);
	for (uint32_t id = 1; id <= 7; id += 2) {
		hb_get(&b, H2_END_STREAM, id, "/");
		feed();
		t_advance(w, 600000);
	}
	assert_true(fake_is_alive(&side.f));
	t_advance(w, 600000);
	assert_non_null(strstr(h2side_sent(w, &side), "GOAWAY last=7 code=0\n"));
	assert_int_equal(t_reason(w, HTTP, IDLE_TIMEOUT), 1);
	end();
	begin_with(&limits);
	hb_headers(&b, H2_NO_END_HEADERS, 1, ":method", "GET", NULL);
	feed();
	t_advance(w, 600000);
	assert_sent("GOAWAY last=0 code=1\n");
	assert_int_equal(t_reason(w, HTTP, HEAD_TIMEOUT), 1);
	end();
	begin_as(HTTP_PROTOCOL_H2, NULL);
	t_advance(w, H2_SETTINGS_ACK_US + 10000);
	assert_true(fake_is_alive(&side.f)); /* it was not told them yet */
	hb_hello(&b, true);
	feed();
	t_advance(w, H2_SETTINGS_ACK_US + 10000);
	assert_non_null(strstr(h2side_sent(w, &side), "GOAWAY last=0 code=4\n"));
	end();
}

static void test_a_client_that_leaves_is_gone(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	hb_get(&b, H2_END_STREAM, 1, "/");
	feed();
	fake_eof(w, &side.f);
	assert_told("GET / host=a.example|0: reset remote\n");
	assert_int_equal(side.closed_why, STREAM_END_FIN);
	end();
	begin();
	hb_post(&b, 1, "/", "whole");
	fake_feed(w, &side.f, b.at, b.n, 0, false);
	fake_eof(w, &side.f);
	assert_told("POST / host=a.example|5:whole complete\n");
	end();
}

static void test_closing_says_goodbye_and_tells_everybody(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	hb_get(&b, 0, 1, "/");
	hb_get(&b, 0, 3, "/");
	feed();
	http_conn_close(w, side.c);
	assert_sent("GOAWAY last=3 code=0\n");
	assert_told("GET / host=a.example reset local\nGET / host=a.example reset local\n");
	end();
}

/* ---- what is not known, not there, or cut ---- */
static void test_the_first_bytes_choose_the_protocol(void **state)
{
	for (uint32_t cut = 1; cut < 24; cut++) {
		begin_as(HTTP_PROTOCOL_AUTO, &(struct http_limits){.head_timeout_us = 1000000});
		hb_hello(&b, true);
		hb_get(&b, H2_END_STREAM, 1, "/");
		fake_feed(w, &side.f, b.at, cut, 0, false);
		fake_feed(w, &side.f, &b.at[cut], b.n - cut, 0, false);
		assert_told("GET / host=a.example|0: complete\n");
		end();
	}
	for (uint32_t cut = 1; cut < 10; cut++) {
		static const char text[] = "PRINT / HTTP/1.1\r\nHost: a.example\r\n\r\n";
		begin_as(HTTP_PROTOCOL_AUTO, NULL);
		fake_feed(w, &side.f, text, cut, 0, false);
		fake_feed(w, &side.f, &text[cut], (uint32_t)sizeof(text) - 1 - cut, 0, false);
		assert_told("PRINT / host=a.example|0: complete\n");
		assert_int_equal(http_conn_version(side.c), HTTP_VERSION_11);
		end();
	}
	begin_as(HTTP_PROTOCOL_AUTO, &(struct http_limits){.head_timeout_us = 1000000});
	fake_feed(w, &side.f, "PRI", 3, 0, false);
	t_advance(w, 3000000);
	assert_told("bad 408 request_header_timeout complete\n");
	end();
	for (uint32_t how = 0; how < 4; how++) {
		begin_as(HTTP_PROTOCOL_AUTO, &(struct http_limits){.idle_timeout_us = 1000000});
		if (how == 0)
			http_conn_drain(w, side.c);
		else if (how == 1)
			fake_closed(w, &side.f, STREAM_END_RESET);
		else if (how == 2)
			t_advance(w, 1100000);
		else
			fake_eof(w, &side.f);
		assert_int_equal(side.n_closed, 1);
		end();
	}
}

static void conversation(void)
{
	uint8_t block[200];
	struct hpack_out o = {.at = block, .end = block + sizeof(block)};

	hpack_put(&o, 0, FOIL_SLICE(":method"), FOIL_SLICE("GET"));
	hpack_put(&o, 0, FOIL_SLICE(":path"), FOIL_SLICE("/cut"));
	hpack_put(&o, 0, FOIL_SLICE(":scheme"), FOIL_SLICE("http"));
	hpack_put(&o, 0, FOIL_SLICE(":authority"), FOIL_SLICE("a.example"));
	uint32_t n = (uint32_t)(o.at - block);
	hb_hello(&b, true);
	hb_frame(&b, H2_SETTINGS, H2_ACK, 0, NULL, 0);
	hb_frame(&b, H2_HEADERS, H2_END_STREAM, 1, block, 3);
	hb_frame(&b, H2_CONTINUATION, 0, 1, &block[3], 4);
	hb_frame(&b, H2_CONTINUATION, H2_END_HEADERS, 1, &block[7], n - 7);
	hb_post(&b, 3, "/p", "some bytes of a body");
	hb_frame(&b, 0x77, 0xff, 99, "unknown", 7);
	hb_frame(&b, H2_PING, 0, 0, "12345678", 8);
	hb_headers(&b, 0, 5, ":method", "PUT", ":scheme", "http", ":path", "/t", ":authority", "a.example", "x-a", "b", NULL);
	hb_frame(&b, H2_DATA, H2_PADDED, 5, "\2abc\0\0", 6);
	hb_headers(&b, H2_END_STREAM, 5, "x-trailer", "t", NULL);
	hb_u32(&b, H2_WINDOW_UPDATE, 0, 77);
	hb_frame(&b, H2_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0bye", 11);
}

static void test_words_that_are_no_http_at_all_get_none(void **state)
{
	static const struct {
		const char *line;
		bool is_answered;
	} lines[] = {
		{"INVALID CONNECTION PREFACE\r\n\r\n", false}, {"a b c\r\n\r\n", false},
		{"GARBAGE\r\n\r\n", true}, {"INVALID / PREFACE\r\n\r\n", true}, {"GET CONNECTION PREFACE\r\n\r\n", true},
		{"INVALID CONNECTION http/1.1\r\n\r\n", true}, {"INVALID a.example:80 PREFACE\r\n\r\n", true},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(lines); i++) {
		begin_as(HTTP_PROTOCOL_AUTO, NULL);
		fake_feed(w, &side.f, lines[i].line, (uint32_t)strlen(lines[i].line), 1, true);
		assert_int_equal(side.n_bad, lines[i].is_answered);
		assert_int_equal(side.n_closed, 1);
		assert_int_equal(side.f.tx.n_bytes > 0, lines[i].is_answered);
		end();
	}
}

static void test_cuts_change_nothing(void **state)
{
	static const char expected[] = "GET /cut host=a.example|0: complete\nPOST /p host=a.example|20:some bytes of a body complete\n"
				       "PUT /t host=a.example x-a=b|3:abc|t: x-trailer=t complete\n";
	uint32_t n_all;

	begin_as(HTTP_PROTOCOL_H2, NULL);
	conversation();
	n_all = b.n;
	feed();
	assert_told(expected);
	end();
	for (uint32_t cut = 1; cut < n_all; cut++) {
		begin_as(HTTP_PROTOCOL_H2, NULL);
		conversation();
		fake_feed(w, &side.f, b.at, cut, 0, false);
		fake_feed(w, &side.f, &b.at[cut], n_all - cut, 0, false);
		assert_told(expected);
		end();
	}
	for (uint16_t seg = 1; seg < 30; seg++) {
		begin_as(HTTP_PROTOCOL_H2, NULL);
		conversation();
		h2side_feed(w, &side, &b, seg, seg & 1);
		assert_told(expected);
		end();
	}
}

static void test_exhausted_pools_refuse_and_break_nothing(void **state)
{
	struct foil_error err;

	memset(&side, 0, sizeof(side));
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){2, 1}, &err), 0);
	h2side_server(w, &side, HTTP_PROTOCOL_H2, NULL);
	hb_hello(&b, true);
	hb_get(&b, H2_END_STREAM, 1, "/");
	hb_get(&b, H2_END_STREAM, 3, "/");
	feed();
	assert_non_null(strstr(h2side_sent(w, &side), "RST_STREAM 3 code=7\n"));
	assert_told("GET / host=a.example|0:\n");
	end();
}

static void test_the_nth_allocation_may_fail(void **state)
{
	for (unsigned int leave = 0; leave < 12; leave++) {
		for (unsigned int which = 0; which < 3; which++) {
			begin();
			struct rte_mempool *pool = which == 0 ? w->mbuf_pool : which == 1 ? w->indirect_pool : w->chunk_pool;
			conversation();
			uint32_t skip = sizeof(h2_preface); /* it was said already */
			t_chain(w, &side.f.s.rx, &b.at[skip], b.n - skip, 300);
			t_pool_drain(pool, leave);
			side.f.s.user->readable(w, &side.f.s);
			t_pool_refill(pool);
			end();
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settings_come_first_and_are_acknowledged),
		cmocka_unit_test(test_a_request_is_told_and_answered),
		cmocka_unit_test(test_a_block_that_comes_again_means_the_same_until_the_table_changes),
		cmocka_unit_test(test_what_is_never_indexed_or_long_is_not_remembered),
		cmocka_unit_test(test_bodies_padding_priorities_and_trailers),
		cmocka_unit_test(test_trailers_of_a_user_without_interest_end_the_body),
		cmocka_unit_test(test_what_belongs_to_the_hop_or_to_pseudo_fields_is_not_among_the_headers),
		cmocka_unit_test(test_100_continue_is_sent),
		cmocka_unit_test(test_answers_have_the_right_form),
		cmocka_unit_test(test_a_body_that_is_not_as_long_as_promised_resets_the_stream),
		cmocka_unit_test(test_a_large_head_goes_over_frames_and_is_read_back),
		cmocka_unit_test(test_heads_that_no_peer_may_see_are_not_sent),
		cmocka_unit_test(test_an_early_answer_ends_the_stream_and_not_the_connection),
		cmocka_unit_test(test_malformed_requests_end_their_stream_only),
		cmocka_unit_test(test_lengths_and_trailers_that_do_not_fit_end_the_stream),
		cmocka_unit_test(test_a_request_without_host_or_with_too_much_is_answered),
		cmocka_unit_test(test_frames_that_break_the_connection),
		cmocka_unit_test(test_a_connection_that_begins_otherwise_is_closed),
		cmocka_unit_test(test_blocks_may_not_be_interrupted),
		cmocka_unit_test(test_frames_for_streams_that_are_over),
		cmocka_unit_test(test_what_a_stream_depends_on_is_looked_at_and_not_used),
		cmocka_unit_test(test_streams_beyond_the_limit_are_refused_and_their_fields_remembered),
		cmocka_unit_test(test_underscores_are_refused_or_left_out),
		cmocka_unit_test(test_resets_of_either_side),
		cmocka_unit_test(test_users_may_close_or_reset_in_any_callback),
		cmocka_unit_test(test_draining_takes_two_steps),
		cmocka_unit_test(test_draining_takes_the_time_that_is_set),
		cmocka_unit_test(test_time_limits),
		cmocka_unit_test(test_a_client_that_leaves_is_gone),
		cmocka_unit_test(test_closing_says_goodbye_and_tells_everybody),
		cmocka_unit_test(test_the_first_bytes_choose_the_protocol),
		cmocka_unit_test(test_words_that_are_no_http_at_all_get_none),
		cmocka_unit_test(test_cuts_change_nothing),
		cmocka_unit_test(test_exhausted_pools_refuse_and_break_nothing),
		cmocka_unit_test(test_the_nth_allocation_may_fail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
