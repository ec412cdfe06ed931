/* Upgrades over HTTP/1.1 (RFC 9110 7.8), both sides: what is a tunnel, when it begins, how its halves close, and what an upstream's refusal leaves. */
#include <errno.h>

#include "dataplane/core/error.h"
#include "dataplane/http/websocket.h"
#include "tests/unit/http/h1_side.h"
#include "tests/unit/support.h"

#define ASK "GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n"
#define TAKEN "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

static struct foil_worker *w;
static struct h1_side side;
static struct http_header token = {FOIL_SLICE("upgrade"), FOIL_SLICE("websocket"), HTTP_HDR_UPGRADE, false};

static void begin(bool is_server)
{
	struct foil_error err;

	memset(&side, 0, sizeof(side));
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){8, 8}, &err), 0);
	if (is_server)
		side_server(w, &side, NULL);
	else
		side_client(w, &side, NULL, true);
}

static void end(void)
{
	side_fini(w, &side);
	assert_int_equal(t_counter(w, HTTP, EXCHANGES), 0);
	http_fini(w);
	t_worker_free(w);
}

static void switch_protocols(void)
{
	const struct http_head head = {.status = 101, .is_upgrade = true, .upgrade_word = FOIL_SLICE("Upgrade"), .headers = {.list = &token, .n = 1, .cap = 1}};

	assert_int_equal(http_send_head(w, side.hs, &head, false), 0);
}

static void ask(void)
{
	const struct http_head head = {.method_text = FOIL_SLICE("GET"), .method = HTTP_METHOD_GET, .path = FOIL_SLICE("/chat"),
				       .authority = FOIL_SLICE("a.example"), .is_upgrade = true, .headers = {.list = &token, .n = 1, .cap = 1}};

	side.hs = http_client_start(w, side.c, &side.arena, &side_stream_events, &side);
	assert_non_null(side.hs);
	assert_int_equal(http_send_head(w, side.hs, &head, false), 0);
}

static void test_bytes_of_the_client_wait_for_101(void **state)
{
	begin(true);
	side_feed(w, &side, ASK "early");
	assert_int_equal(side.n_heads, 1);
	assert_true(side.head.is_upgrade);
	assert_int_equal(side.n_data_calls, 0);
	assert_int_equal(side.f.s.rx.n_bytes, 5);
	switch_protocols();
	assert_string_equal(side_tx(&side), "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n");
	assert_int_equal(side.n_body, 5);
	side_feed(w, &side, "GET / HTTP/1.1\r\n\r\n"); /* bytes, whatever they look like */
	assert_int_equal(side.n_heads, 1);
	assert_int_equal(side.n_body, 23);
	side_send_text(w, side.hs, "hi", false);
	assert_string_equal(side_tx(&side), "hi");
	end();
}

static void test_a_servers_halves_close_one_by_one(void **state)
{
	begin(true);
	side_feed(w, &side, ASK);
	switch_protocols();
	(void)side_tx(&side);
	side_feed(w, &side, "last");
	fake_eof(w, &side.f);
	assert_string_equal(side_text(&side), "GET /chat host=a.example upgrade=websocket|4:last\n");
	assert_int_equal(side.n_complete, 0);
	side_send_text(w, side.hs, "bye", false);
	assert_false(side.f.s.tx_shut);
	side_send_text(w, side.hs, "!", true);
	assert_string_equal(side_tx(&side), "bye!");
	assert_string_equal(side_text(&side), "complete\nclosed fin\n");
	end();
	begin(true); /* the other one first */
	side_feed(w, &side, ASK);
	switch_protocols();
	side_send_text(w, side.hs, "bye", true);
	assert_true(side.f.s.tx_shut);
	assert_int_equal(side.n_complete, 0);
	side_feed(w, &side, "more");
	assert_int_equal(side.n_body, 4);
	fake_eof(w, &side.f);
	assert_string_equal(side_text(&side), "GET /chat host=a.example upgrade=websocket|4:more\ncomplete\nclosed fin\n");
	end();
}

static void test_a_tunnel_that_is_paused_holds_its_bytes(void **state)
{
	begin(true);
	side_feed(w, &side, ASK);
	switch_protocols();
	http_stream_pause(w, side.hs, true);
	side_feed(w, &side, "abc");
	fake_eof(w, &side.f);
	assert_int_equal(side.n_body, 0);
	assert_int_equal(side.f.s.rx.n_bytes, 3);
	http_stream_pause(w, side.hs, false);
	assert_string_equal(side_text(&side), "GET /chat host=a.example upgrade=websocket|3:abc\n");
	http_stream_pause(w, side.hs, true);
	side_send_text(w, side.hs, "", true);
	assert_int_equal(side.n_complete, 1);
	end();
}

static void test_a_stream_that_closes_in_order_delivers_what_it_has(void **state)
{
	begin(true);
	side_feed(w, &side, ASK);
	switch_protocols();
	side_send_text(w, side.hs, "", true);
	http_stream_pause(w, side.hs, true);
	side_feed(w, &side, "abc");
	fake_eof(w, &side.f);
	fake_closed(w, &side.f, STREAM_END_FIN);
	assert_string_equal(side_text(&side), "GET /chat host=a.example upgrade=websocket|3:abc\ncomplete\nclosed fin\n");
	end();
	begin(true);
	side_feed(w, &side, ASK);
	switch_protocols();
	fake_closed(w, &side.f, STREAM_END_RESET);
	assert_int_equal(side.n_complete, 0);
	assert_int_equal(side.last_reset.kind, HTTP_RESET_REMOTE);
	end();
}

static void test_a_refused_upgrade_is_the_last_request(void **state)
{
	begin(true);
	side_feed(w, &side, ASK "GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n");
	assert_int_equal(side_send_status(w, side.hs, 403, HTTP_BODY_LENGTH, 2, false), 0);
	side_send_text(w, side.hs, "no", true);
	assert_non_null(strstr(side_tx(&side), "connection: close\r\n"));
	assert_int_equal(side.n_heads, 1);
	assert_string_equal(side_text(&side), "complete\nclosed fin\n");
	end();
}

static void test_requests_that_ask_for_no_tunnel(void **state)
{
	static const char *const plain[] = {
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nok",
		"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(plain); i++) {
		begin(true);
		side_feed(w, &side, plain[i]);
		assert_false(side.head.is_upgrade);
		assert_null(strstr(side_text(&side), "upgrade"));
		const struct http_head head = {.status = 101, .is_upgrade = true, .headers = {.list = &token, .n = 1, .cap = 1}};
		assert_int_equal(http_send_head(w, side.hs, &head, false), -ENOBUFS);
		end();
	}
}

static void test_an_upstream_takes_the_upgrade(void **state)
{
	begin(false);
	ask();
	assert_string_equal(side_tx(&side), "GET /chat HTTP/1.1\r\nhost: a.example\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
	side_feed(w, &side, TAKEN "frames");
	assert_int_equal(side.head.status, 101);
	assert_true(side.head.is_upgrade);
	assert_true(foil_slice_eq(side.head.upgrade_word, FOIL_SLICE("Upgrade")));
	assert_int_equal(side.n_body, 6);
	side_send_text(w, side.hs, "5\r\nx", false);
	assert_string_equal(side_tx(&side), "5\r\nx");
	fake_eof(w, &side.f);
	assert_string_equal(side_text(&side), "101 upgrade=websocket|6:frames\n");
	side_send_text(w, side.hs, "y", true);
	assert_string_equal(side_tx(&side), "y");
	assert_string_equal(side_text(&side), "complete\nclosed fin\n");
	end();
}

static void test_an_upstream_refuses(void **state)
{
	begin(false);
	ask();
	(void)side_tx(&side);
	side_feed(w, &side, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n");
	assert_int_equal(side.n_heads, 1);
	side_send_text(w, side.hs, "lost", true);
	assert_string_equal(side_tx(&side), ""); /* nobody's request */
	side_feed(w, &side, "no");
	assert_string_equal(side_text(&side), "403|2:no\ncomplete\nclosed fin\n");
	end();
}

static void test_answers_that_switch_to_nothing(void **state)
{
	static const char *const bad[] = {
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n",
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		begin(false);
		ask();
		side_feed(w, &side, bad[i]);
		assert_int_equal(side.last_reset.kind, HTTP_RESET_PROTOCOL);
		assert_int_equal(side.last_reset.reason, HTTP_REASON_UNEXPECTED_UPGRADE);
		end();
	}
}

static void take_when_asked(struct foil_worker *worker, struct h1_side *s, const struct http_head *head)
{
	(void)worker;
	(void)head;
	s->head_hook = NULL;
	switch_protocols();
}

static void test_cuts_change_nothing(void **state)
{
	static const char bytes[] = ASK "one\r\n\r\ntwo";

	for (uint16_t cut = 1; cut < sizeof(bytes); cut++) {
		begin(true);
		side.head_hook = take_when_asked;
		fake_feed(w, &side.f, bytes, sizeof(bytes) - 1, cut, true);
		fake_eof(w, &side.f);
		assert_string_equal(side_text(&side), "GET /chat host=a.example upgrade=websocket|10:one\r\n\r\ntwo\n");
		end();
		begin(false);
		ask();
		fake_feed(w, &side.f, TAKEN "one\r\n\r\ntwo", sizeof(TAKEN "one\r\n\r\ntwo") - 1, cut, true);
		fake_eof(w, &side.f);
		assert_string_equal(side_text(&side), "101 upgrade=websocket|10:one\r\n\r\ntwo\n");
		end();
	}
}

/* RFC 6455 1.3. */
static void test_the_accept_of_the_rfc(void **state)
{
	char accept[WEBSOCKET_ACCEPT_BYTES], key[2][WEBSOCKET_KEY_BYTES];

	websocket_accept_make(FOIL_SLICE("dGhlIHNhbXBsZSBub25jZQ=="), accept);
	assert_memory_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", sizeof(accept));
	w = t_worker();
	websocket_key_make(w, key[0]);
	websocket_key_make(w, key[1]);
	assert_memory_not_equal(key[0], key[1], WEBSOCKET_KEY_BYTES);
	assert_memory_equal(&key[0][WEBSOCKET_KEY_BYTES - 2], "==", 2);
	t_worker_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_of_the_client_wait_for_101),
		cmocka_unit_test(test_a_servers_halves_close_one_by_one),
		cmocka_unit_test(test_a_tunnel_that_is_paused_holds_its_bytes),
		cmocka_unit_test(test_a_stream_that_closes_in_order_delivers_what_it_has),
		cmocka_unit_test(test_a_refused_upgrade_is_the_last_request),
		cmocka_unit_test(test_requests_that_ask_for_no_tunnel),
		cmocka_unit_test(test_an_upstream_takes_the_upgrade),
		cmocka_unit_test(test_an_upstream_refuses),
		cmocka_unit_test(test_answers_that_switch_to_nothing),
		cmocka_unit_test(test_cuts_change_nothing),
		cmocka_unit_test(test_the_accept_of_the_rfc),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
