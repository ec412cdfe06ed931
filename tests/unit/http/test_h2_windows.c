/* Flow control of HTTP/2 and what bounds the output: windows of both directions, turns, room; a server's connection over a fake stream. */
#include "dataplane/core/error.h"
#include "tests/unit/http/h2_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h2_side side;
static struct h2_bytes b;

/* A connection that has said hello, with nothing left to look at. */
static void begin_with(const struct http_limits *limits)
{
	struct foil_error err;

	memset(&side, 0, sizeof(side));
	b.n = 0;
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){64, 256}, &err), 0);
	h2side_server(w, &side, HTTP_PROTOCOL_H2, limits);
	hb_hello(&b, true);
	hb_frame(&b, H2_SETTINGS, H2_ACK, 0, NULL, 0);
	h2side_feed(w, &side, &b, 0, false);
	(void)h2side_sent(w, &side);
}

static void begin(void)
{
	begin_with(NULL);
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

static void assert_sent(const char *lines)
{
	assert_string_equal(h2side_sent(w, &side), lines);
}

static void fill(struct h2_bytes *bytes, uint32_t id, uint32_t n_bytes)
{
	static const char block[16384];

	for (uint32_t at = 0; at < n_bytes; at += sizeof(block))
		hb_frame(bytes, H2_DATA, 0, id, block, FOIL_MIN(n_bytes - at, (uint32_t)sizeof(block)));
}

static void test_a_paused_stream_closes_its_window_and_nobody_elses(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	side.pauses_at_head = true;
	hb_get(&b, 0, 1, "/");
	fill(&b, 1, 65536);
	feed();
	side.pauses_at_head = false;
	assert_sent("");
	hb_get(&b, 0, 3, "/");
	fill(&b, 3, 65536);
	feed();
	assert_int_equal(side.rec[0].n_body, 0);
	assert_int_equal(side.rec[1].n_body, 65536);
	assert_sent("WINDOW_UPDATE 3 +65536\n");
	http_stream_pause(w, side.rec[0].hs, false);
	assert_int_equal(side.rec[0].n_body, 65536);
	assert_sent("WINDOW_UPDATE 1 +65536\n");
	http_stream_pause(w, side.rec[0].hs, true);
	fill(&b, 1, 65536);
	hb_data(&b, 0, 1, "x"); /* beyond the window */
	feed();
	assert_sent("RST_STREAM 1 code=3\n");
	end();
}

static void test_the_connections_window_is_given_back_when_a_stream_ends_unread(void **state)
{
	begin_with(&(struct http_limits){.h2_conn_window_bytes = 131072});
	side.reply = H2_REPLY_NONE;
	side.pauses_at_head = true;
	for (uint32_t id = 1; id < 41; id += 2) {
		hb_get(&b, 0, id, "/");
		fill(&b, id, 65536);
		hb_u32(&b, H2_RST_STREAM, id, 8);
		feed();
	}
	assert_true(fake_is_alive(&side.f));
	hb_get(&b, 0, 41, "/");
	hb_get(&b, 0, 43, "/");
	fill(&b, 41, 65536);
	fill(&b, 43, 65536);
	hb_get(&b, 0, 45, "/");
	hb_data(&b, 0, 45, "more than the connection takes");
	feed();
	assert_non_null(strstr(h2side_sent(w, &side), "GOAWAY last=45 code=3\n"));
	end();
}

static void test_small_pieces_do_not_pin_an_mbuf_each(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	side.pauses_at_head = true;
	hb_get(&b, 0, 1, "/");
	for (uint32_t i = 0; i < 20000; i++)
		hb_data(&b, 0, 1, "x");
	h2side_feed(w, &side, &b, 1400, true);
	assert_true(rte_mempool_in_use_count(w->mbuf_pool) < 40);
	assert_true(rte_mempool_in_use_count(w->indirect_pool) < 40);
	http_stream_pause(w, side.rec[0].hs, false);
	assert_int_equal(side.rec[0].n_body, 20000);
	end();
}

static void test_output_waits_for_windows(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	hb_setting(&b, H2_SET_INITIAL_WINDOW_SIZE, 3);
	hb_get(&b, H2_END_STREAM, 1, "/");
	feed();
	assert_sent("SETTINGS ack 0\n");
	assert_int_equal(h2side_reply(w, side.rec[0].hs, 200, HTTP_BODY_CHUNKED, 0, false), 0);
	h2side_send(w, side.rec[0].hs, 10, true);
	assert_sent("HEADERS 1 :status=200 x-a=1\nDATA 1 3:b\n");
	hb_u32(&b, H2_WINDOW_UPDATE, 1, 2);
	feed();
	assert_string_equal(h2side_sent(w, &side), "DATA 1 2:\n");
	hb_setting(&b, H2_SET_INITIAL_WINDOW_SIZE, 0); /* 3 less: the window is negative now */
	hb_u32(&b, H2_WINDOW_UPDATE, 1, 3);
	feed();
	assert_sent("SETTINGS ack 0\n");
	hb_setting(&b, H2_SET_INITIAL_WINDOW_SIZE, 100);
	feed();
	assert_string_equal(h2side_sent(w, &side), "SETTINGS ack 0\nDATA 1 end 5:\n");
	assert_int_equal(side.n_complete, 1);
	end();
}

static void test_windows_that_overflow(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	hb_get(&b, H2_END_STREAM, 1, "/");
	hb_get(&b, H2_END_STREAM, 3, "/");
	hb_u32(&b, H2_WINDOW_UPDATE, 1, 0x7fffffff);
	hb_u32(&b, H2_WINDOW_UPDATE, 3, 0);
	feed();
	assert_sent("RST_STREAM 1 code=3\nRST_STREAM 3 code=1\n");
	hb_get(&b, H2_END_STREAM, 5, "/");
	hb_u32(&b, H2_WINDOW_UPDATE, 5, 1);
	hb_setting(&b, H2_SET_INITIAL_WINDOW_SIZE, 0x7fffffff);
	feed();
	assert_sent("GOAWAY last=5 code=3\n");
	end();
}

static void test_streams_take_turns(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	side.f.s.tx_high_bytes = 100000;
	side.f.holds = true;
	for (uint32_t id = 1; id <= 5; id += 2)
		hb_get(&b, H2_END_STREAM, id, "/");
	feed();
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(h2side_reply(w, side.rec[i].hs, 200, HTTP_BODY_CHUNKED, 0, false), 0);
		h2side_send(w, side.rec[i].hs, i == 0 ? 60000 : 1000, i != 0);
	}
	h2side_send(w, side.rec[0].hs, 60000, true); /* more than the transport takes: the rest waits on its stream */
	assert_int_equal(side.n_complete, 2);
	uint32_t n_queued = side.f.s.tx_queued_bytes;
	assert_true(n_queued < 100000 + 16384 + 100);
	side.f.holds = false;
	fake_ack(w, &side.f, n_queued);
	hb_u32(&b, H2_WINDOW_UPDATE, 0, 1000000);
	hb_u32(&b, H2_WINDOW_UPDATE, 1, 1000000);
	feed();
	(void)h2side_sent(w, &side);
	assert_int_equal(side.n_data_sent, 122000);
	assert_int_equal(side.n_complete, 3);
	end();
}

static void test_room_is_the_streams_and_is_told_when_it_comes_back(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	hb_get(&b, H2_END_STREAM, 1, "/");
	feed();
	assert_int_equal(h2side_reply(w, side.rec[0].hs, 200, HTTP_BODY_CHUNKED, 0, false), 0);
	assert_int_equal(http_stream_tx_room(side.rec[0].hs), H2_STREAM_TX_HIGH_BYTES);
	h2side_send(w, side.rec[0].hs, 65535 + H2_STREAM_TX_HIGH_BYTES, false);
	assert_int_equal(http_stream_tx_room(side.rec[0].hs), 0);
	assert_int_equal(side.n_writable, 0);
	hb_u32(&b, H2_WINDOW_UPDATE, 1, 1000000);
	hb_u32(&b, H2_WINDOW_UPDATE, 0, H2_STREAM_TX_HIGH_BYTES / 2 - 1);
	feed();
	assert_int_equal(side.n_writable, 0);
	hb_u32(&b, H2_WINDOW_UPDATE, 0, 1);
	feed();
	assert_int_equal(side.n_writable, 1);
	end();
}

/* A client that asks for much and reads nothing: what waits for it is bounded for the connection, and still everybody comes to an end. */
static void test_a_connection_that_holds_much_gives_its_streams_less_room(void **state)
{
	uint64_t n_held = 0;

	begin();
	side.reply = H2_REPLY_NONE;
	for (uint32_t id = 1; id <= 199; id += 2)
		hb_get(&b, H2_END_STREAM, id, "/");
	feed();
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(h2side_reply(w, side.rec[i].hs, 200, HTTP_BODY_CHUNKED, 0, false), 0);
		for (uint32_t room; (room = http_stream_tx_room(side.rec[i].hs)) != 0; n_held += FOIL_MIN(room, 8000u))
			h2side_send(w, side.rec[i].hs, FOIL_MIN(room, 8000u), false);
		assert_true(i > 0 || n_held >= H2_STREAM_TX_HIGH_BYTES);
	}
	assert_true(n_held < H2_CONN_TX_HELD_BYTES + 100 * (H2_STREAM_TX_LEAN_BYTES + 8000) + H2_STREAM_TX_HIGH_BYTES);
	for (uint32_t i = 0; i < 100; i++)
		hb_u32(&b, H2_WINDOW_UPDATE, 1 + 2 * i, 1000000);
	hb_u32(&b, H2_WINDOW_UPDATE, 0, 100000000);
	side.f.holds = true;
	feed();
	while (side.f.s.tx_queued_bytes)
		fake_ack(w, &side.f, side.f.s.tx_queued_bytes);
	assert_int_equal(side.n_writable, 100);
	(void)h2side_sent(w, &side);
	assert_int_equal(side.n_data_sent, n_held);
	end();
}

static void test_the_connections_window_blocks_and_unblocks_everybody(void **state)
{
	begin();
	side.reply = H2_REPLY_NONE;
	hb_setting(&b, H2_SET_INITIAL_WINDOW_SIZE, 1000000);
	hb_get(&b, H2_END_STREAM, 1, "/");
	hb_get(&b, H2_END_STREAM, 3, "/");
	feed();
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(h2side_reply(w, side.rec[i].hs, 200, HTTP_BODY_CHUNKED, 0, false), 0);
		h2side_send(w, side.rec[i].hs, 50000, true);
	}
	(void)h2side_sent(w, &side);
	assert_int_equal(side.n_data_sent, 65535);
	hb_u32(&b, H2_WINDOW_UPDATE, 0, 100000);
	feed();
	(void)h2side_sent(w, &side);
	assert_int_equal(side.n_data_sent, 100000);
	assert_int_equal(side.n_complete, 2);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_paused_stream_closes_its_window_and_nobody_elses),
		cmocka_unit_test(test_the_connections_window_is_given_back_when_a_stream_ends_unread),
		cmocka_unit_test(test_small_pieces_do_not_pin_an_mbuf_each),
		cmocka_unit_test(test_output_waits_for_windows),
		cmocka_unit_test(test_windows_that_overflow),
		cmocka_unit_test(test_streams_take_turns),
		cmocka_unit_test(test_room_is_the_streams_and_is_told_when_it_comes_back),
		cmocka_unit_test(test_a_connection_that_holds_much_gives_its_streams_less_room),
		cmocka_unit_test(test_the_connections_window_blocks_and_unblocks_everybody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
