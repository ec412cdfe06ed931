/* Upstream connections of HTTP/2: shared by requests, as many as the server lets, given up without loss (features.md GR-8, GR-11, PR-5). */
#include "tests/unit/http/h2_side.h"
#include "tests/unit/mesh/fake_transport.h"

#define GET(path) "GET " path " HTTP/1.1\r\nhost: web.example.com\r\n\r\n"
#define POST(path) "POST " path " HTTP/1.1\r\nhost: web.example.com\r\ncontent-length: 3\r\n\r\nabc"

static struct h2_bytes b;

static struct fx_config *h2_config(unsigned int n_hosts)
{
	struct fx_config *cfg = fx_config_new(1, n_hosts);

	cfg->cluster[0].protocol = MESH_UPSTREAM_HTTP2;
	return cfg;
}

static struct fx *begin(struct fx_config *c)
{
	b.n = 0;
	return fx_new((struct t_worker_params){.seed = 7, .n_chunks = 1023}, c, 256, 64);
}

/* Frames of a type that the mesh has written to s in all, from its preface on. */
static uint32_t frames(const struct fx_stream *s, uint8_t type)
{
	uint32_t n = 0, at = sizeof(h2_preface);

	assert_true(s->n_out >= at && memcmp(s->out, h2_preface, at) == 0);
	while (at + H2_FRAME_HEADER_BYTES <= s->n_out) {
		struct h2_frame f = h2_frame_read((const uint8_t *)&s->out[at]);
		n += f.type == type;
		at += H2_FRAME_HEADER_BYTES + f.length_bytes;
	}
	return n;
}

static void say(struct fx *f, struct fx_stream *s)
{
	fx_say_bytes(f, s, b.at, b.n);
	b.n = 0;
}

static void answer(uint32_t id)
{
	hb_headers(&b, 0, id, ":status", "200", "content-type", "text/plain", NULL);
	hb_data(&b, H2_END_STREAM, id, "hello");
}

static void test_requests_share_a_connection(void **state)
{
	struct fx *f = begin(h2_config(1));
	struct fx_stream *c[5];

	for (int i = 0; i < 5; i++) {
		c[i] = fx_connect(f);
		fx_say(f, c[i], i == 4 ? POST("/4") : GET("/n"));
	}
	assert_int_equal(f->n_connects, 1); /* one that opens is expected to take all of them */
	struct fx_stream *u = fx_up_open(f);
	assert_int_equal(frames(u, H2_HEADERS), 5);
	hb_hello(&b, false);
	for (int i = 4; i >= 0; i--) /* in another order */
		answer(1 + 2 * (uint32_t)i);
	say(f, u);
	for (int i = 0; i < 5; i++) {
		const char *a = fx_heard(c[i]);
		t_assert_has(a, "HTTP/1.1 200 OK\r\n");
		t_assert_has(a, "transfer-encoding: chunked\r\n");
		t_assert_has(a, "hello");
	}
	fx_say(f, c[0], GET("/again"));
	assert_int_equal(f->n_connects, 1);
	assert_int_equal(frames(u, H2_HEADERS), 6);
	fx_free(f);
}

/* Four requests in one packet of a client's leave for the upstream in one piece, and so do the four answers. */
static void test_a_burst_of_requests_is_one_write(void **state)
{
	struct fx *f = begin(h2_config(1));
	struct fx_stream *c = fx_connect(f);

	hb_hello(&b, true);
	hb_headers(&b, H2_END_STREAM, 1, ":method", "GET", ":scheme", "http", ":path", "/0", ":authority", "web.example.com", NULL);
	say(f, c);
	struct fx_stream *u = fx_up_open(f);
	hb_hello(&b, false);
	answer(1);
	say(f, u);
	uint32_t before = u->n_writes, n_frames = frames(u, H2_HEADERS);
	for (uint32_t id = 3; id < 11; id += 2)
		hb_headers(&b, H2_END_STREAM, id, ":method", "GET", ":scheme", "http", ":path", "/n", ":authority", "web.example.com", NULL);
	say(f, c);
	assert_int_equal(frames(u, H2_HEADERS), n_frames + 4);
	assert_int_equal(u->n_writes, before + 1);
	before = c->n_writes;
	for (uint32_t id = 3; id < 11; id += 2)
		answer(id);
	say(f, u);
	assert_int_equal(c->n_writes, before + 1);
	(void)fx_heard(c);
	fx_free(f);
}

static void test_a_server_that_lets_fewer_streams_gets_more_connections(void **state)
{
	struct fx *f = begin(h2_config(1));
	struct fx_stream *c[6];

	for (int i = 0; i < 6; i++)
		c[i] = fx_connect(f);
	fx_say(f, c[0], GET("/0"));
	struct fx_stream *u = fx_up_open(f);
	hb_setting(&b, H2_SET_MAX_CONCURRENT_STREAMS, 2);
	say(f, u);
	fx_say(f, c[1], GET("/1"));
	assert_int_equal(f->n_connects, 1);
	fx_say(f, c[2], GET("/2")); /* full: waits for a second connection */
	assert_int_equal(f->n_connects, 2);
	answer(1);
	say(f, u); /* or for room on the first, which is sooner here */
	t_assert_has(fx_heard(c[0]), "hello");
	assert_int_equal(frames(u, H2_HEADERS), 3);
	fx_opened(f, f->up[1]);
	fx_say(f, c[3], GET("/3"));
	assert_int_equal(frames(f->up[1], H2_HEADERS), 1);
	fx_free(f);
}

static void test_goaway_costs_no_request_that_may_be_tried_again(void **state)
{
	struct fx_config *cfg = h2_config(1);
	cfg->retry = (struct mesh_retry_policy){.retry_on = MESH_RETRY_REFUSED_STREAM, .num_retries = 2, .backoff_base_us = 1000};
	cfg->route[0].route.retry = &cfg->retry;
	struct fx *f = begin(cfg);
	struct fx_stream *c[2] = {fx_connect(f), fx_connect(f)};

	fx_say(f, c[0], GET("/0"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, c[1], GET("/1"));
	hb_hello(&b, false);
	hb_frame(&b, H2_GOAWAY, 0, 0, "\0\0\0\1\0\0\0\0", 8); /* stream 1 is served, 3 is not */
	say(f, u);
	t_advance(f->w, 50000);
	fx_turn(f);
	assert_int_equal(f->n_connects, 2);
	answer(1);
	say(f, u);
	t_assert_has(fx_heard(c[0]), "hello");
	assert_true(u->is_released); /* after its last stream */
	struct fx_stream *again = fx_up_open(f);
	hb_hello(&b, false);
	answer(1);
	say(f, again);
	t_assert_has(fx_heard(c[1]), "hello");
	assert_int_equal(fx_last(f, 2)->r.attempts, 2);
	fx_free(f);
}

static void test_max_requests_per_connection_retires_it(void **state)
{
	struct fx_config *cfg = h2_config(1);
	cfg->cluster[0].max_requests_per_connection = 2;
	struct fx *f = begin(cfg);
	struct fx_stream *c[3] = {fx_connect(f), fx_connect(f), fx_connect(f)};

	fx_say(f, c[0], GET("/0"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, c[1], GET("/1"));
	assert_int_equal(f->n_connects, 1);
	fx_say(f, c[2], GET("/2"));
	assert_int_equal(f->n_connects, 2);
	hb_hello(&b, false);
	answer(1);
	answer(3);
	say(f, u);
	t_assert_has(fx_heard(c[1]), "hello");
	assert_true(u->is_released);
	fx_free(f);
}

static void test_a_cluster_that_changes_its_protocol_gets_other_connections(void **state)
{
	struct fx *f = begin(h2_config(1));
	struct fx_stream *a = fx_connect(f), *c = fx_connect(f);

	fx_say(f, a, GET("/a"));
	struct fx_stream *u = fx_up_open(f);
	fx_publish(f, fx_config_new(1, 1));
	fx_say(f, c, GET("/c"));
	assert_int_equal(f->n_connects, 2);
	t_assert_has(fx_heard(fx_up_open(f)), "GET /c HTTP/1.1\r\n");
	hb_hello(&b, false);
	answer(1);
	say(f, u);
	t_assert_has(fx_heard(a), "hello");
	assert_true(u->is_released);
	fx_free(f);
}

static void test_a_connection_that_dies_takes_all_its_requests(void **state)
{
	struct fx *f = begin(h2_config(1));
	struct fx_stream *c[3];

	for (int i = 0; i < 3; i++) {
		c[i] = fx_connect(f);
		fx_say(f, c[i], GET("/n"));
	}
	struct fx_stream *u = fx_up_open(f);
	hb_hello(&b, false);
	say(f, u);
	fx_closed(f, u, STREAM_END_RESET);
	for (int i = 0; i < 3; i++)
		t_assert_has(fx_heard(c[i]), "reset reason: connection termination");
	fx_free(f);
}

/* The client of HTTP/2: answers by preface on the same port, and gRPC's local reply in headers. */
static void test_clients_speak_what_their_first_bytes_say(void **state)
{
	struct fx *f = begin(h2_config(1));
	struct fx_stream *c = fx_connect(f);

	hb_hello(&b, true);
	hb_headers(&b, 0, 1, ":method", "POST", ":scheme", "http", ":path", "/s/m", ":authority", "web.example.com", "content-type", "application/grpc",
		   "te", "trailers", NULL);
	hb_data(&b, H2_END_STREAM, 1, "hi");
	say(f, c);
	fx_closed(f, f->up[0], STREAM_END_REFUSED);
	const struct fx_record *r = fx_last(f, 1);
	assert_int_equal(r->r.version, HTTP_VERSION_2);
	assert_int_equal(r->r.grpc_status, 14);
	assert_int_equal(r->r.status, 200);
	hb_get(&b, H2_END_STREAM, 3, "/plain");
	say(f, c);
	struct fx_stream *u = fx_up_open(f);
	hb_hello(&b, false);
	hb_headers(&b, 0, 1, ":status", "200", NULL);
	hb_headers(&b, H2_END_STREAM, 1, "grpc-status", "7", NULL);
	say(f, u);
	assert_int_equal(fx_last(f, 2)->r.grpc_status, 7);
	fx_free(f);
}

static void test_a_malformed_request_leaves_one_line_and_its_connection(void **state)
{
	struct fx *f = begin(h2_config(1));
	struct fx_stream *c = fx_connect(f);

	hb_hello(&b, true);
	hb_headers(&b, H2_END_STREAM, 1, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "web.example.com", "connection", "close", NULL);
	say(f, c);
	const struct fx_record *r = fx_last(f, 1);
	assert_int_equal(r->r.version, HTTP_VERSION_2);
	assert_int_equal(r->r.flags, TELE_FLAG_DPE);
	assert_int_equal(r->r.status, 0);
	assert_string_equal(r->details, "http2.connection_header");
	assert_string_equal(r->path, "");
	hb_get(&b, H2_END_STREAM, 3, "/next");
	say(f, c);
	assert_int_equal(f->n_connects, 1);
	fx_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_burst_of_requests_is_one_write),
		cmocka_unit_test(test_requests_share_a_connection),
		cmocka_unit_test(test_a_server_that_lets_fewer_streams_gets_more_connections),
		cmocka_unit_test(test_goaway_costs_no_request_that_may_be_tried_again),
		cmocka_unit_test(test_max_requests_per_connection_retires_it),
		cmocka_unit_test(test_a_cluster_that_changes_its_protocol_gets_other_connections),
		cmocka_unit_test(test_a_connection_that_dies_takes_all_its_requests),
		cmocka_unit_test(test_clients_speak_what_their_first_bytes_say),
		cmocka_unit_test(test_a_malformed_request_leaves_one_line_and_its_connection),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
