/* What the mesh does less of when a worker has too little of something (core/overload.h, features.md OM-13, OM-14). */
#include "tests/unit/http/h2_side.h"
#include "tests/unit/mesh/fake_transport.h"

#define GET(path) "GET " path " HTTP/1.1\r\nhost: web.example.com\r\n\r\n"
#define OK_15 "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\nhello from v1a\n"

static struct fx *begin(unsigned int n_hosts)
{
	return fx_new((struct t_worker_params){.seed = 7, .n_chunks = 1023}, fx_config_new(1, n_hosts), 64, 64);
}

static void test_a_request_is_refused_before_anything_is_done_for_it(void **state)
{
	struct fx *f = begin(1);
	struct fx_stream *c = fx_connect(f);

	f->w->overload = FOIL_OVERLOAD_STOP_REQUESTS;
	fx_say(f, c, GET("/a"));
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 503 Service Unavailable\r\n");
	t_assert_has(a, "content-type: text/plain\r\n");
	t_assert_has(a, "\r\n\r\noverloaded");
	assert_int_equal(f->n_connects, 0);
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_OM);
	assert_string_equal(fx_last(f, 1)->details, "overload");
	assert_int_equal(t_reason(f->w, MESH, OVERLOADED), 1);
	assert_false(c->is_dead);
	f->w->overload = 0; /* the same connection is served as soon as there is room */
	fx_say(f, c, GET("/b"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "hello from v1a");
	fx_free(f);
	(void)state;
}

static void test_grpc_is_told_unavailable(void **state)
{
	struct fx *f = begin(1);
	struct fx_stream *c = fx_connect(f);

	f->w->overload = FOIL_OVERLOAD_STOP_REQUESTS;
	fx_say(f, c, "POST /s/m HTTP/1.1\r\nhost: web.example.com\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n");
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 200 OK\r\n");
	t_assert_has(a, "grpc-status: 14\r\n");
	t_assert_has(a, "grpc-message: overloaded\r\n");
	fx_free(f);
	(void)state;
}

static void test_an_answer_ends_its_connection(void **state)
{
	struct fx *f = begin(1);
	struct fx_stream *c = fx_connect(f);

	fx_say(f, c, GET("/a"));
	struct fx_stream *u = fx_up_open(f);
	f->w->overload = FOIL_OVERLOAD_DISABLE_KEEPALIVE;
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "connection: close\r\n");
	assert_true(c->is_released);
	assert_false(u->is_dead); /* the origin's is another matter */
	fx_free(f);
	(void)state;
}

static void test_connections_at_rest_make_room(void **state)
{
	struct fx *f = begin(2);
	struct fx_stream *c[4], *u[2];

	for (int i = 0; i < 4; i++)
		c[i] = fx_connect(f);
	for (int i = 0; i < 2; i++) {
		fx_say(f, c[i], GET("/a"));
		u[i] = f->up[i];
		fx_opened(f, u[i]);
	}
	fx_say(f, u[1], OK_15);
	mesh_shrink(f->w);
	assert_false(c[0]->is_dead); /* at work */
	assert_false(u[0]->is_dead);
	for (int i = 1; i < 4; i++)
		assert_true(c[i]->is_dead);
	assert_true(u[1]->is_dead);
	assert_int_equal(t_counter(f->w, MESH, OVERLOAD_CLOSED), 4);
	fx_say(f, u[0], OK_15);
	t_assert_has(fx_heard(c[0]), "hello from v1a");
	fx_turn(f);
	mesh_shrink(f->w);
	assert_true(c[0]->is_dead);
	assert_true(u[0]->is_dead);
	fx_turn(f);
	mesh_shrink(f->w); /* nothing is left to close */
	assert_int_equal(t_counter(f->w, MESH, OVERLOAD_CLOSED), 6);
	fx_free(f);
	(void)state;
}

/* Some at a time, the oldest first, and those at work do not hide the others behind them. */
static void test_a_few_at_a_time(void **state)
{
	struct fx *f = begin(1);
	struct fx_stream *c[40];
	int n_dead = 0;

	for (int i = 0; i < 40; i++)
		c[i] = fx_connect(f);
	for (int i = 0; i < 20; i++)
		fx_say(f, c[i], GET("/a"));
	mesh_shrink(f->w); /* looked at the 16 at the front */
	assert_int_equal(t_counter(f->w, MESH, OVERLOAD_CLOSED), 0);
	mesh_shrink(f->w);
	for (int i = 0; i < 40; i++)
		n_dead += c[i]->is_dead;
	assert_int_equal(n_dead, 12);
	for (int i = 20; i < 32; i++)
		assert_true(c[i]->is_dead);
	mesh_shrink(f->w);
	mesh_shrink(f->w);
	mesh_shrink(f->w);
	assert_int_equal(t_counter(f->w, MESH, OVERLOAD_CLOSED), 20);
	for (int i = 0; i < 20; i++)
		assert_false(c[i]->is_dead);
	fx_free(f);
	(void)state;
}

static void test_over_http2_goaway_is_said(void **state)
{
	static struct h2_bytes b;
	struct fx *f = begin(1);
	struct fx_stream *c = fx_connect(f);

	b.n = 0;
	hb_hello(&b, true);
	hb_headers(&b, H2_END_STREAM, 1, ":method", "GET", ":scheme", "http", ":authority", "web.example.com", ":path", "/a", NULL);
	fx_say_bytes(f, c, b.at, b.n);
	struct fx_stream *u = fx_up_open(f);
	f->w->overload = FOIL_OVERLOAD_DISABLE_KEEPALIVE;
	fx_say(f, u, OK_15);
	bool has_goaway = false;
	for (uint32_t at = 0; at + H2_FRAME_HEADER_BYTES <= c->n_out;) {
		struct h2_frame frame = h2_frame_read((const uint8_t *)&c->out[at]);
		has_goaway |= frame.type == H2_GOAWAY;
		at += H2_FRAME_HEADER_BYTES + frame.length_bytes;
	}
	assert_true(has_goaway);
	fx_free(f);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_is_refused_before_anything_is_done_for_it),
		cmocka_unit_test(test_grpc_is_told_unavailable),
		cmocka_unit_test(test_an_answer_ends_its_connection),
		cmocka_unit_test(test_connections_at_rest_make_room),
		cmocka_unit_test(test_a_few_at_a_time),
		cmocka_unit_test(test_over_http2_goaway_is_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
