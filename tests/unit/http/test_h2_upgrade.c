/* Extended CONNECT (RFC 8441), both sides: over HTTP/2 it reads and is written as HTTP/1.1's upgrade. */
#include <errno.h>

#include "dataplane/core/error.h"
#include "tests/unit/http/h2_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h2_side side;
static struct h2_bytes b;
static struct http_header token = {FOIL_SLICE("upgrade"), FOIL_SLICE("websocket"), HTTP_HDR_UPGRADE, false};

static void begin(bool is_server)
{
	struct foil_error err;

	memset(&side, 0, sizeof(side));
	b.n = 0;
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){8, 32}, &err), 0);
	if (is_server)
		h2side_server(w, &side, HTTP_PROTOCOL_H2, NULL);
	else
		h2side_client(w, &side, NULL, true);
}

static void end(void)
{
	h2side_fini(w, &side);
	assert_int_equal(t_counter(w, HTTP, EXCHANGES), 0);
	http_fini(w);
	t_worker_free(w);
}

static void feed(void)
{
	h2side_feed(w, &side, &b, 0, false);
}

static void hello(void)
{
	hb_hello(&b, true);
	hb_frame(&b, H2_SETTINGS, H2_ACK, 0, NULL, 0);
	feed();
	(void)h2side_sent(w, &side);
}

static void ask_server(void)
{
	hb_headers(&b, 0, 1, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/chat", ":authority", "a.example", NULL);
}

static void switch_protocols(struct http_stream *hs)
{
	const struct http_head head = {.status = 101, .is_upgrade = true, .headers = {.list = &token, .n = 1, .cap = 1}};

	assert_int_equal(http_send_head(w, hs, &head, false), 0);
}

static void test_settings_say_that_it_is_understood(void **state)
{
	begin(true);
	hb_hello(&b, true);
	feed();
	static const char setting[] = {0, H2_SET_ENABLE_CONNECT_PROTOCOL, 0, 0, 0, 1};
	char sent[256];
	uint32_t n = fake_take_tx(&side.f, sent, sizeof(sent));
	assert_non_null(memmem(sent, n, setting, sizeof(setting)));
	end();
}

static void test_a_server_sees_an_upgrade(void **state)
{
	begin(true);
	hello();
	ask_server();
	feed();
	assert_true(side.head.is_upgrade);
	assert_int_equal(side.head.method, HTTP_METHOD_GET);
	switch_protocols(side.rec[0].hs);
	assert_string_equal(h2side_sent(w, &side), "HEADERS 1 :status=200\n");
	hb_data(&b, 0, 1, "ping");
	feed();
	assert_int_equal(side.rec[0].n_body, 4);
	h2side_send(w, side.rec[0].hs, 3, true);
	assert_non_null(strstr(h2side_sent(w, &side), "DATA 1 end 3:"));
	assert_false(side.rec[0].is_complete); /* the other half is open */
	hb_data(&b, H2_END_STREAM, 1, "!");
	feed();
	assert_string_equal(h2side_told(&side), "GET /chat host=a.example upgrade=websocket|5:ping! complete\n");
	assert_string_equal(h2side_sent(w, &side), "");
	end();
	begin(true); /* the client's half first */
	hello();
	ask_server();
	hb_data(&b, H2_END_STREAM, 1, "early");
	feed();
	switch_protocols(side.rec[0].hs);
	(void)h2side_sent(w, &side);
	assert_false(side.rec[0].is_complete);
	h2side_send(w, side.rec[0].hs, 3, true);
	assert_non_null(strstr(h2side_sent(w, &side), "DATA 1 end 3:"));
	assert_true(side.rec[0].is_complete);
	end();
}

static void test_a_tunnel_that_breaks_is_cancelled(void **state)
{
	begin(true);
	hello();
	ask_server();
	feed();
	switch_protocols(side.rec[0].hs);
	http_stream_reset(w, side.rec[0].hs);
	side.rec[0].hs = NULL;
	assert_string_equal(h2side_sent(w, &side), "HEADERS 1 :status=200\nRST_STREAM 1 code=8\n");
	end();
}

static void test_requests_of_no_good_form(void **state)
{
	begin(true);
	hello();
	hb_headers(&b, 0, 1, ":method", "GET", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "a", NULL);
	hb_headers(&b, 0, 3, ":method", "CONNECT", ":protocol", "websocket", ":path", "/", ":authority", "a", NULL);
	hb_headers(&b, 0, 5, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a", NULL);
	hb_headers(&b, 0, 7, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", "host", "a", NULL);
	hb_headers(&b, 0, 9, ":method", "CONNECT", ":protocol", "web socket", ":scheme", "https", ":path", "/", ":authority", "a", NULL);
	hb_headers(&b, 0, 11, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "a", "content-length", "3", NULL);
	hb_headers(&b, H2_END_STREAM, 13, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "a", NULL);
	hb_headers(&b, 0, 15, ":method", "CONNECT", ":protocol", "websocket", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "a",
		   NULL);
	feed();
	assert_string_equal(h2side_sent(w, &side), "RST_STREAM 1 code=1\nRST_STREAM 3 code=1\nRST_STREAM 5 code=1\nRST_STREAM 7 code=1\nRST_STREAM 9 code=1\n"
						   "RST_STREAM 11 code=1\nRST_STREAM 13 code=1\nRST_STREAM 15 code=1\n");
	assert_int_equal(side.n_heads, 0);
	hb_headers(&b, H2_END_STREAM, 17, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "a", NULL);
	feed();
	assert_int_equal(side.n_heads, 1);
	const struct http_head head = {.status = 101, .is_upgrade = true, .headers = {.list = &token, .n = 1, .cap = 1}};
	assert_int_equal(http_send_head(w, side.rec[8].hs, &head, false), -ENOBUFS); /* nobody asked */
	end();
}

static void test_an_upstream_that_knows_connect(void **state)
{
	struct h2_rec *r;

	begin(false);
	hb_setting(&b, H2_SET_ENABLE_CONNECT_PROTOCOL, 1);
	feed();
	(void)h2side_sent(w, &side);
	assert_int_equal(h2side_upgrade(w, &side, &r), 0);
	assert_string_equal(h2side_sent(w, &side), "HEADERS 1 :method=CONNECT :protocol=websocket :path=/chat :scheme=http :authority=a.example\n");
	hb_headers(&b, 0, 1, ":status", "200", "content-length", "7", NULL);
	hb_data(&b, 0, 1, "pong");
	feed();
	assert_int_equal(side.head.status, 101);
	assert_true(side.head.is_upgrade);
	assert_int_equal(r->n_body, 4);
	hb_data(&b, H2_END_STREAM, 1, "");
	feed();
	assert_false(r->is_complete);
	h2side_send(w, r->hs, 2, true);
	assert_true(r->is_complete);
	assert_string_equal(h2side_told(&side), "101 upgrade=websocket|4:pong complete\n");
	end();
}

static void test_an_upstream_that_does_not(void **state)
{
	struct h2_rec *r;

	begin(false);
	hb_hello(&b, false);
	feed();
	(void)h2side_sent(w, &side);
	assert_int_equal(h2side_upgrade(w, &side, &r), -EPROTONOSUPPORT);
	http_stream_reset(w, r->hs);
	r->hs = NULL;
	assert_string_equal(h2side_sent(w, &side), "");
	end();
	begin(false); /* the setting is not taken back */
	hb_setting(&b, H2_SET_ENABLE_CONNECT_PROTOCOL, 1);
	hb_setting(&b, H2_SET_ENABLE_CONNECT_PROTOCOL, 0);
	feed();
	assert_int_equal(side.n_closed, 1);
	end();
	begin(false);
	hb_setting(&b, H2_SET_ENABLE_CONNECT_PROTOCOL, 2);
	feed();
	assert_int_equal(side.n_closed, 1);
	end();
}

static void test_an_upstream_that_refuses(void **state)
{
	struct h2_rec *r;

	begin(false);
	hb_setting(&b, H2_SET_ENABLE_CONNECT_PROTOCOL, 1);
	feed();
	assert_int_equal(h2side_upgrade(w, &side, &r), 0);
	(void)h2side_sent(w, &side);
	hb_headers(&b, 0, 1, ":status", "403", NULL);
	hb_data(&b, H2_END_STREAM, 1, "no");
	feed();
	h2side_send(w, r->hs, 0, true);
	assert_string_equal(h2side_told(&side), "403|2:no complete\n");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settings_say_that_it_is_understood), cmocka_unit_test(test_a_server_sees_an_upgrade),
		cmocka_unit_test(test_a_tunnel_that_breaks_is_cancelled), cmocka_unit_test(test_requests_of_no_good_form),
		cmocka_unit_test(test_an_upstream_that_knows_connect), cmocka_unit_test(test_an_upstream_that_does_not),
		cmocka_unit_test(test_an_upstream_that_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
