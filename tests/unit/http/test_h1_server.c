/* The server side of HTTP/1.1, whole connections over a fake stream. */
#include "dataplane/core/error.h"
#include "tests/unit/http/h1_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h1_side side;

static void begin_with(const struct http_limits *limits)
{
	struct foil_error err;

	memset(&side, 0, sizeof(side));
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){64, 64}, &err), 0);
	side.reply = SIDE_REPLY_AT_END;
	side_server(w, &side, limits);
}

static void begin(void)
{
	begin_with(NULL);
}

static void end(void)
{
	side_fini(w, &side);
	http_fini(w);
	t_worker_free(w);
}

#define OK_TEXT "HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nok"
#define OK_CLOSE "HTTP/1.1 200 OK\r\nx-a: 1\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"

static void test_a_request_is_told_and_answered(void **state)
{
	begin();
	side_feed(w, &side, "GET /x?y HTTP/1.1\r\nHost: a.example:80\r\nUser-Agent: T\r\nX-Odd-Name:  v \r\n\r\n");
	assert_string_equal(side_text(&side), "GET /x?y host=a.example:80 user-agent=T x-odd-name=v|0:\ncomplete\n");
	assert_string_equal(side_tx(&side), OK_TEXT);
	assert_true(fake_is_alive(&side.f));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_is_told_and_answered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
