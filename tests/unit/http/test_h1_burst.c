/* Heads of one burst: all are read, then all are told; nobody sees another order on one connection. */
#include "dataplane/core/error.h"
#include "tests/unit/http/h1_side.h"
#include "tests/unit/support.h"

#define GET_A "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
#define GET_B "GET /b HTTP/1.1\r\nHost: a\r\n\r\n"
#define OK_TEXT "HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nok"

static struct foil_worker *w;
static struct h1_side one, two;

static void begin(void)
{
	struct foil_error err;

	memset(&one, 0, sizeof(one));
	memset(&two, 0, sizeof(two));
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){64, 64}, &err), 0);
	one.reply = two.reply = SIDE_REPLY_AT_END;
}

static void end(void)
{
	http_fini(w);
	t_worker_free(w);
}

static void two_servers(void)
{
	begin();
	side_server(w, &one, NULL);
	side_server(w, &two, NULL);
}

static void end_both(void)
{
	if (two.c)
		http_conn_close(w, two.c);
	side_fini(w, &one);
	side_fini(w, &two);
	end();
}

static void test_requests_are_told_at_the_bursts_end(void **state)
{
	two_servers();
	http_burst_begin(w);
	side_feed(w, &one, GET_A);
	side_feed(w, &two, GET_B GET_A);
	assert_string_equal(side_text(&one), "");
	assert_string_equal(side_text(&two), "");
	http_burst_end(w);
	assert_string_equal(side_text(&one), "GET /a host=a|0:\ncomplete\n");
	assert_string_equal(side_text(&two), "GET /b host=a|0:\ncomplete\nGET /a host=a|0:\ncomplete\n");
	assert_string_equal(side_tx(&two), OK_TEXT OK_TEXT);
	side_feed(w, &one, GET_B); /* outside of one, at once */
	assert_string_equal(side_text(&one), "GET /b host=a|0:\ncomplete\n");
	end_both();
	(void)state;
}

static void test_more_bytes_tell_the_head_first(void **state)
{
	two_servers();
	http_burst_begin(w);
	side_feed(w, &one, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe");
	assert_string_equal(side_text(&one), "");
	side_feed(w, &one, "llo" GET_B);
	assert_string_equal(side_text(&one), "POST /a host=a|5:hello\ncomplete\n"); /* and the next waits */
	http_burst_end(w);
	assert_string_equal(side_text(&one), "GET /b host=a|0:\ncomplete\n");
	end_both();
	(void)state;
}

static void test_an_end_tells_the_head_first(void **state)
{
	two_servers();
	one.reply = two.reply = SIDE_REPLY_NONE;
	http_burst_begin(w);
	side_feed(w, &one, GET_A);
	side_feed(w, &two, GET_B);
	fake_closed(w, &one.f, STREAM_END_RESET);
	assert_string_equal(side_text(&one), "GET /a host=a|0:\nreset remote ok\nclosed reset\n");
	fake_eof(w, &two.f);
	assert_non_null(strstr(side_text(&two), "GET /b host=a|0:\nreset remote"));
	http_burst_end(w);
	assert_int_equal(one.n_heads + two.n_heads, 2);
	end_both();
	(void)state;
}

static void test_a_connection_closed_by_its_user_is_told_nothing(void **state)
{
	two_servers();
	http_burst_begin(w);
	side_feed(w, &one, GET_A);
	http_conn_close(w, one.c);
	http_conn_drain(w, two.c);
	http_burst_end(w);
	assert_int_equal(one.n_heads, 0);
	assert_int_equal(one.n_closed, 1);
	end_both();
	(void)state;
}

static void test_answers_are_told_at_the_bursts_end(void **state)
{
	struct http_stream *gone;

	begin();
	side_client(w, &one, NULL, true);
	side_client(w, &two, NULL, true);
	side_request(w, &one, "GET", "/");
	side_request(w, &two, "GET", "/");
	(void)side_text(&one);
	(void)side_text(&two);
	http_burst_begin(w);
	side_feed(w, &one, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	side_feed(w, &two, "HTTP/1.1 204 No Content\r\n\r\n");
	assert_int_equal(one.n_heads + two.n_heads, 0);
	gone = two.hs;
	two.hs = NULL;
	http_stream_reset(w, gone);
	http_burst_end(w);
	assert_int_equal(one.n_heads, 1);
	assert_int_equal(one.n_complete, 1);
	assert_int_equal(two.n_heads, 0);
	end_both();
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_are_told_at_the_bursts_end),
		cmocka_unit_test(test_more_bytes_tell_the_head_first),
		cmocka_unit_test(test_an_end_tells_the_head_first),
		cmocka_unit_test(test_a_connection_closed_by_its_user_is_told_nothing),
		cmocka_unit_test(test_answers_are_told_at_the_bursts_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
