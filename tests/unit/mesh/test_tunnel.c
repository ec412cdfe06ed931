/* WebSocket through the runtime, real codecs on both sides: what passes, when, how its ends show in the record, what holds and what breaks. Answers and flags
 * are those that the oracle gave (features.md VS-60, PR-6). */
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/mesh/runtime.h"

#define ASK "GET /chat HTTP/1.1\r\nhost: web.example.com\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-key: k\r\n\r\n"
#define TAKEN "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nx-o: 1\r\n\r\n"

static struct fx *begin_with(struct fx_config *c)
{
	return fx_new((struct t_worker_params){.seed = 7, .n_chunks = 1023}, c, 64, 64);
}

static struct fx *begin(void)
{
	return begin_with(fx_config_new(1, 1));
}

static struct fx_stream *open_tunnel(struct fx *f, struct fx_stream *c)
{
	fx_say(f, c, ASK);
	struct fx_stream *u = fx_up_open(f);
	t_assert_has(fx_heard(u), "upgrade: websocket\r\n");
	fx_say(f, u, TAKEN);
	t_assert_has(fx_heard(c), "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n");
	return u;
}

static void test_bytes_go_both_ways(void **state)
{
	struct fx *f = begin();
	struct fx_stream *c = fx_connect(f), *u = open_tunnel(f, c);

	assert_int_equal(t_counter(f->w, MESH, TUNNELS_ACTIVE), 1);
	fx_say(f, c, "GET / HTTP/1.1\r\n\r\n");
	assert_string_equal(fx_heard(u), "GET / HTTP/1.1\r\n\r\n");
	fx_say(f, u, "HTTP/1.1 500 X\r\n\r\n");
	assert_string_equal(fx_heard(c), "HTTP/1.1 500 X\r\n\r\n");
	t_advance(f->w, 400000000); /* no time of the route's or of idle streams */
	fx_eof(f, c);
	assert_true(u->is_shut);
	assert_false(c->is_shut);
	fx_say(f, u, "bye");
	assert_string_equal(fx_heard(c), "bye");
	fx_eof(f, u);
	assert_int_equal(f->n_records, 1);
	assert_int_equal(f->record[0].r.status, 101);
	assert_int_equal(f->record[0].r.flags, TELE_FLAG_DC);
	assert_int_equal(f->record[0].r.bytes_received, 18);
	assert_int_equal(f->record[0].r.bytes_sent, 21);
	assert_string_equal(f->record[0].details, "downstream_remote_disconnect");
	assert_int_equal(t_counter(f->w, MESH, TUNNELS_ACTIVE), 0);
	fx_free(f);
}

static void test_the_upstream_ends_it(void **state)
{
	struct fx *f = begin();
	struct fx_stream *c = fx_connect(f), *u = open_tunnel(f, c);

	fx_say(f, u, "last");
	fx_eof(f, u);
	assert_string_equal(fx_heard(c), "last");
	assert_true(c->is_shut);
	fx_say(f, c, "more");
	assert_string_equal(fx_heard(u), "more");
	fx_eof(f, c);
	assert_int_equal(f->record[0].r.flags, TELE_FLAG_UC);
	assert_string_equal(f->record[0].details, "upstream_reset_after_response_started{connection_termination}");
	c = fx_connect(f);
	u = open_tunnel(f, c);
	fx_closed(f, u, STREAM_END_RESET);
	assert_true(c->is_aborted);
	assert_int_equal(f->record[1].r.flags, TELE_FLAG_UC);
	fx_free(f);
}

static void test_a_half_that_stays_open_for_nothing_is_ended(void **state)
{
	struct fx *f = begin();
	struct fx_stream *c = fx_connect(f), *u = open_tunnel(f, c);

	fx_eof(f, u);
	t_advance(f->w, 59000000);
	assert_int_equal(f->n_records, 0);
	fx_say(f, c, "x");
	t_advance(f->w, 59000000);
	assert_int_equal(f->n_records, 0);
	t_advance(f->w, 2000000);
	assert_int_equal(f->n_records, 1);
	assert_true(f->record[0].r.flags & TELE_FLAG_SI);
	fx_free(f);
}

static void test_bytes_wait_for_the_upstream_to_agree(void **state)
{
	struct fx *f = begin();
	struct fx_stream *c = fx_connect(f);

	fx_say(f, c, ASK "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
	struct fx_stream *u = fx_up_open(f);
	assert_null(strstr(fx_heard(u), "smuggled"));
	fx_say(f, u, "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nnope!");
	t_assert_has(fx_heard(c), "HTTP/1.1 403 Forbidden\r\n");
	assert_string_equal(fx_heard(u), "");
	assert_int_equal(f->n_records, 1);
	assert_string_equal(f->record[0].details, "via_upstream");
	assert_true(u->is_released || u->is_aborted);
	c = fx_connect(f);
	fx_say(f, c, ASK "early");
	u = fx_up_open(f);
	(void)fx_heard(u);
	fx_say(f, u, TAKEN);
	assert_string_equal(fx_heard(u), "early");
	fx_free(f);
}

static void test_refusals_below_400_come_without_a_body(void **state)
{
	struct fx *f = begin();
	struct fx_stream *c = fx_connect(f);

	fx_say(f, c, ASK);
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 2\r\n\r\nhi");
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 302 Found\r\nlocation: /x\r\n");
	t_assert_has(a, "content-length: 0\r\n");
	assert_string_equal(f->record[0].details, "websocket_handshake_unsuccessful");
	fx_free(f);
}

static void test_another_protocol_than_was_asked_for(void **state)
{
	struct fx *f = begin();
	struct fx_stream *c = fx_connect(f);

	fx_say(f, c, ASK);
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 101 Switching Protocols\r\nupgrade: foo\r\nconnection: Upgrade\r\n\r\n");
	t_assert_has(fx_heard(c), "HTTP/1.1 502 Bad Gateway\r\n");
	assert_int_equal(f->record[0].r.flags, TELE_FLAG_UPE);
	c = fx_connect(f);
	fx_say(f, c, "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n");
	t_assert_has(fx_heard(c), "HTTP/1.1 403 Forbidden\r\n");
	assert_string_equal(f->record[1].details, "upgrade_failed");
	fx_free(f);
}

static void test_a_slow_side_holds_the_other(void **state)
{
	struct fx *f = begin();
	struct fx_stream *c = fx_connect(f), *u = open_tunnel(f, c);
	static char block[40000];

	memset(block, 'x', sizeof(block));
	c->hold_acks = u->hold_acks = true;
	for (int i = 0; i < 20; i++)
		fx_say_bytes(f, u, block, sizeof(block));
	assert_true(u->s.rx.n_bytes > 400000);
	assert_true(c->s.tx_queued_bytes < 340000);
	for (int i = 0; i < 20; i++)
		fx_say_bytes(f, c, block, sizeof(block));
	assert_true(c->s.rx.n_bytes > 400000);
	assert_true(u->s.tx_queued_bytes < 340000);
	for (int i = 0; i < 40 && (u->s.rx.n_bytes || c->s.rx.n_bytes); i++) {
		fx_ack(f, c);
		fx_ack(f, u);
	}
	assert_int_equal(u->s.rx.n_bytes, 0);
	assert_int_equal(c->s.rx.n_bytes, 0);
	fx_free(f);
}

static void test_a_refused_connect_is_tried_again(void **state)
{
	struct fx_config *cfg = fx_config_new(1, 1);

	cfg->retry = (struct mesh_retry_policy){.retry_on = MESH_RETRY_CONNECT_FAILURE, .num_retries = 1};
	cfg->route[0].route.retry = &cfg->retry;
	struct fx *f = begin_with(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, ASK "early");
	fx_closed(f, f->up[0], STREAM_END_REFUSED);
	t_advance(f->w, 1000000);
	assert_int_equal(f->n_connects, 2);
	struct fx_stream *u = fx_up_open(f);
	(void)fx_heard(u);
	fx_say(f, u, TAKEN);
	assert_string_equal(fx_heard(u), "early");
	fx_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_go_both_ways), cmocka_unit_test(test_the_upstream_ends_it),
		cmocka_unit_test(test_a_half_that_stays_open_for_nothing_is_ended), cmocka_unit_test(test_bytes_wait_for_the_upstream_to_agree),
		cmocka_unit_test(test_refusals_below_400_come_without_a_body), cmocka_unit_test(test_another_protocol_than_was_asked_for),
		cmocka_unit_test(test_a_slow_side_holds_the_other), cmocka_unit_test(test_a_refused_connect_is_tried_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
