/* Flood guards of HTTP/2 (features.md OM-12): each at its bound, which is let through, and one beyond it, which is not. */
#include "dataplane/core/error.h"
#include "tests/unit/http/h2_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h2_side side;
static struct h2_bytes b;

static void begin_with(const struct http_limits *limits)
{
	struct foil_error err;

	memset(&side, 0, sizeof(side));
	b.n = 0;
	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){64, 256}, &err), 0);
	side.reply = H2_REPLY_NONE;
	h2side_server(w, &side, HTTP_PROTOCOL_H2, limits);
	hb_hello(&b, true);
	hb_frame(&b, H2_SETTINGS, H2_ACK, 0, NULL, 0);
	h2side_feed(w, &side, &b, 0, false);
	(void)h2side_sent(w, &side);
}

static void end(void)
{
	h2side_fini(w, &side);
	http_fini(w);
	t_worker_free(w);
}

static void feed(void)
{
	h2side_feed(w, &side, &b, 0, false);
}

/* It was too much, and said so. */
static void assert_calmed(enum http_reason reason)
{
	assert_non_null(strstr(h2side_sent(w, &side), "code=11\n"));
	assert_true(side.f.is_released);
	assert_int_equal(w->why[FOIL_ROOM_HTTP][reason], 1);
	end();
}

static void test_empty_frames(void **state)
{
	begin_with(NULL);
	hb_get(&b, 0, 1, "/");
	hb_data(&b, 0, 1, "");
	hb_data(&b, 0, 1, "x");
	hb_data(&b, 0, 1, "");
	feed();
	assert_true(fake_is_alive(&side.f));
	hb_data(&b, 0, 1, "");
	feed();
	assert_calmed(HTTP_REASON_H2_EMPTY_FRAMES);
	begin_with(NULL);
	hb_headers(&b, H2_NO_END_HEADERS, 1, ":method", "GET", NULL);
	hb_frame(&b, H2_CONTINUATION, 0, 1, NULL, 0);
	hb_frame(&b, H2_CONTINUATION, 0, 1, NULL, 0);
	feed();
	assert_calmed(HTTP_REASON_H2_EMPTY_FRAMES);
}

static void test_continuations(void **state)
{
	static const char zeros[16384];

	begin_with(NULL);
	hb_headers(&b, H2_NO_END_HEADERS, 1, ":method", "GET", NULL);
	for (uint32_t i = 0; i <= H2_CONTINUATIONS_MAX; i++)
		hb_frame(&b, H2_CONTINUATION, 0, 1, "\x84", 1);
	feed();
	assert_calmed(HTTP_REASON_H2_BLOCK_TOO_LARGE);
	begin_with(NULL);
	hb_headers(&b, H2_NO_END_HEADERS, 1, ":method", "GET", NULL);
	for (uint32_t i = 0; i < 5; i++)
		hb_frame(&b, H2_CONTINUATION, 0, 1, zeros, sizeof(zeros));
	feed();
	assert_calmed(HTTP_REASON_H2_BLOCK_TOO_LARGE);
}

static void test_priorities(void **state)
{
	begin_with(NULL);
	for (uint32_t i = 0; i < 100; i++)
		hb_frame(&b, H2_PRIORITY, 0, 3, "\0\0\0\1\1", 5);
	feed();
	assert_true(fake_is_alive(&side.f));
	hb_frame(&b, H2_PRIORITY, 0, 3, "\0\0\0\1\1", 5);
	feed();
	assert_calmed(HTTP_REASON_H2_PRIORITY_FLOOD);
}

static void test_window_updates(void **state)
{
	begin_with(NULL);
	for (uint32_t i = 0; i < 5; i++)
		hb_u32(&b, H2_WINDOW_UPDATE, 0, 1);
	feed();
	assert_true(fake_is_alive(&side.f));
	hb_u32(&b, H2_WINDOW_UPDATE, 0, 1);
	feed();
	assert_calmed(HTTP_REASON_H2_WINDOW_UPDATE_FLOOD);
}

static void test_pings_and_settings(void **state)
{
	for (uint32_t how = 0; how < 3; how++) {
		begin_with(NULL);
		for (uint32_t second = 0; second < 3; second++) { /* a thousand a second are let through */
			for (uint32_t i = 0; i < 990; i++)
				hb_frame(&b, how == 0 ? H2_PING : how == 1 ? H2_SETTINGS : 0x50, 0, 0, "12345678", how == 1 ? 0 : 8);
			feed();
			assert_true(fake_is_alive(&side.f));
			t_advance(w, 1000001);
		}
		for (uint32_t i = 0; i < 1001; i++)
			hb_frame(&b, how == 0 ? H2_PING : how == 1 ? H2_SETTINGS : 0x50, 0, 0, "12345678", how == 1 ? 0 : 8);
		feed();
		if (how == 2)
			assert_calmed(HTTP_REASON_H2_CONTROL_FLOOD);
		else /* a thousand answers wait in this turn, and that is looked at first or at the same time */
			assert_true(!fake_is_alive(&side.f));
		if (how != 2)
			end();
	}
}

static void test_answers_that_nobody_reads(void **state)
{
	begin_with(NULL);
	side.f.holds = true;
	for (uint32_t second = 0; second < 2; second++) {
		for (uint32_t i = 0; i < 450; i++)
			hb_frame(&b, H2_PING, 0, 0, "12345678", 8);
		feed();
		t_advance(w, 1000001);
	}
	assert_true(fake_is_alive(&side.f));
	fake_ack(w, &side.f, side.f.s.tx_queued_bytes); /* it reads after all */
	for (uint32_t second = 0; second < 2; second++) {
		for (uint32_t i = 0; i < 450; i++)
			hb_frame(&b, H2_PING, 0, 0, "12345678", 8);
		feed();
		t_advance(w, 1000001);
	}
	assert_true(fake_is_alive(&side.f));
	for (uint32_t i = 0; i < 600; i++)
		hb_frame(&b, H2_PING, 0, 0, "12345678", 8);
	feed();
	assert_calmed(HTTP_REASON_H2_OUTBOUND_FLOOD);
}

static void test_rapid_resets(void **state)
{
	begin_with(NULL);
	uint32_t id = 1;
	for (uint32_t i = 0; i < 249; i++, id += 2) {
		hb_get(&b, H2_END_STREAM, id, "/");
		hb_u32(&b, H2_RST_STREAM, id, 8);
	}
	feed();
	assert_true(fake_is_alive(&side.f));
	hb_get(&b, H2_END_STREAM, id, "/");
	hb_u32(&b, H2_RST_STREAM, id, 8);
	feed();
	assert_calmed(HTTP_REASON_H2_PREMATURE_RESETS);
}

static void test_resets_of_what_is_over(void **state)
{
	begin_with(NULL);
	side.reply = H2_REPLY_AT_END;
	hb_get(&b, H2_END_STREAM, 1, "/");
	for (uint32_t i = 0; i < 998; i++)
		hb_u32(&b, H2_RST_STREAM, 1, 8);
	feed(); /* the answer is out before the first of them is read */
	assert_true(fake_is_alive(&side.f));
	hb_u32(&b, H2_RST_STREAM, 1, 8);
	hb_u32(&b, H2_RST_STREAM, 1, 8);
	hb_u32(&b, H2_RST_STREAM, 1, 8);
	feed();
	assert_calmed(HTTP_REASON_H2_CONTROL_FLOOD);
}

static void test_resets_that_we_are_made_to_send_count_too(void **state)
{
	begin_with(NULL);
	uint32_t id = 1;
	for (uint32_t i = 0; i < 250; i++, id += 2) {
		hb_get(&b, 0, id, "/");
		hb_u32(&b, H2_WINDOW_UPDATE, id, 0); /* a stream error of ours */
	}
	feed();
	assert_calmed(HTTP_REASON_H2_PREMATURE_RESETS);
	begin_with(&(struct http_limits){.h2_streams_max = 1});
	for (uint32_t i = 0; i < 251; i++)
		hb_get(&b, 0, 1 + 2 * i, "/"); /* refused, all but the first */
	feed();
	assert_calmed(HTTP_REASON_H2_PREMATURE_RESETS);
}

static void test_resets_of_honest_clients_are_let_through(void **state)
{
	begin_with(NULL);
	side.reply = H2_REPLY_AT_END;
	uint32_t id = 1;
	for (uint32_t i = 0; i < 400; i++, id += 2) { /* two answered for each that is given up */
		hb_get(&b, i % 3 ? H2_END_STREAM : 0, id, "/");
		if (i % 3 == 0)
			hb_u32(&b, H2_RST_STREAM, id, 8);
		feed();
		(void)h2side_sent(w, &side);
		foil_arena_reset(w, &side.peer_arena);
	}
	for (uint32_t i = 0; i < 400; i++, id += 2) { /* given up late */
		hb_get(&b, 0, id, "/");
		feed();
		t_advance(w, 1000001);
		hb_u32(&b, H2_RST_STREAM, id, 8);
		feed();
	}
	assert_true(fake_is_alive(&side.f));
	end();
}

/* A list that is small on the wire and large when decoded (HPACK bomb): one large entry of the table, named again and again. */
static void test_a_list_that_grows_when_it_is_decoded(void **state)
{
	uint8_t block[4096 + 3000];
	struct hpack_out o = {.at = block, .end = block + sizeof(block)};
	static char value[4000];

	memset(value, 'v', sizeof(value));
	begin_with(NULL);
	hpack_put(&o, 0, FOIL_SLICE(":method"), FOIL_SLICE("GET"));
	hpack_put(&o, 0, FOIL_SLICE(":path"), FOIL_SLICE("/"));
	hpack_put(&o, 0, FOIL_SLICE(":scheme"), FOIL_SLICE("http"));
	hpack_put(&o, 0, FOIL_SLICE(":authority"), FOIL_SLICE("a"));
	uint8_t *literal = o.at;
	hpack_put(&o, 0, FOIL_SLICE("x"), foil_slice_of(value, sizeof(value)));
	*literal |= 0x40; /* with incremental indexing */
	while (o.at < o.end)
		*o.at++ = 0xbe;
	hb_frame(&b, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 1, block, sizeof(block));
	feed();
	assert_string_equal(side.rec[0].text, "bad 431 http2.headers_too_large complete");
	assert_true(side.rec[0].side->f.s.user != NULL);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_frames), cmocka_unit_test(test_continuations), cmocka_unit_test(test_priorities),
		cmocka_unit_test(test_window_updates), cmocka_unit_test(test_pings_and_settings), cmocka_unit_test(test_answers_that_nobody_reads),
		cmocka_unit_test(test_rapid_resets), cmocka_unit_test(test_resets_of_what_is_over),
		cmocka_unit_test(test_resets_that_we_are_made_to_send_count_too),
		cmocka_unit_test(test_resets_of_honest_clients_are_let_through), cmocka_unit_test(test_a_list_that_grows_when_it_is_decoded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
