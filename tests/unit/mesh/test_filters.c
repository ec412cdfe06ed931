/* Filters around a request: the chain's results (continue, pause, collect, reply) by the two real filters and what
 * the recordings of Envoy say of them (fault), and mirrors. */
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/mesh/runtime.h"

#define GET(path) "GET " path " HTTP/1.1\r\nhost: web.example.com\r\n\r\n"
#define OK_15 "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\nhello from v1a\n"

static struct fx *begin(struct fx_config *c)
{
	return fx_new((struct t_worker_params){.seed = 7, .n_chunks = 1023}, c, 64, 64);
}

static void test_abort(void **state)
{
	(void)state;
	static const struct mesh_fault fault = {.abort_http_status = 555, .abort_per_million = 1000000};
	struct fx_config *cfg = fx_config_new(1, 1);
	static struct mesh_header_op_add add = {.name = {"x-of-route", 10}};
	struct foil_error err = {0};
	struct foil_blob blob = {0};
	assert_int_equal(mesh_format_compile(&blob, FOIL_SLICE("%RESPONSE_CODE%"), &add.value, &err), 0);
	cfg->route[0].fault = &fault;
	cfg->route[0].response_headers = (struct mesh_header_ops){.add = &add, .n_add = 1};
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/abort"));
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 555 ");
	t_assert_has(a, "content-length: 18\r\n");
	t_assert_has(a, "\r\n\r\nfault filter abort");
	t_assert_has_not(a, "connection: close");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_FI);
	assert_string_equal(fx_last(f, 1)->details, "fault_filter_abort");
	assert_string_equal(fx_last(f, 1)->cluster, "outbound|8080||zero.test");
	t_assert_has(a, "x-of-route: 0\r\n"); /* the status is not known yet when headers are made (Envoy) */
	/* a gRPC request gets its status in headers */
	fx_say(f, c, "POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n");
	a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 200 OK\r\n");
	t_assert_has(a, "content-type: application/grpc\r\n");
	t_assert_has(a, "grpc-status: 2\r\n");
	t_assert_has(a, "grpc-message: fault filter abort\r\n");
	fx_say(f, c, "HEAD /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n\r\n");
	a = fx_heard(c);
	t_assert_has(a, "grpc-status: 2\r\n");
	t_assert_has_not(a, "grpc-message"); /* it stands for the body */
	assert_int_equal(f->n_connects, 0);
	fx_free(f);
	foil_blob_free(&blob);
}

#define POST(path, length) "POST " path " HTTP/1.1\r\nhost: a\r\n" length "\r\n\r\n"
#define TOO_LARGE "content-length: 17\r\n"

/* OM-15: a length that is told goes to nobody; without one the upstream's request is reset when the body is too long. */
static void test_a_body_beyond_the_routes_limit_is_413(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->route[0].max_request_body_bytes = 10;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, POST("/told", "content-length: 11") "hello world");
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 413 Payload Too Large\r\n");
	t_assert_has(a, TOO_LARGE);
	t_assert_has(a, "\r\n\r\nPayload Too Large");
	assert_string_equal(fx_last(f, 1)->details, "request_payload_too_large");
	assert_int_equal(t_reason(f->w, MESH, BODY_TOO_LARGE), 1);
	assert_int_equal(f->n_connects, 0);
	/* gRPC is told in its own way: no status of its own stands for 413 */
	struct fx_stream *g = fx_connect(f);
	fx_say(f, g, POST("/s/m", "content-type: application/grpc\r\ncontent-length: 11") "hello world");
	a = fx_heard(g);
	t_assert_has(a, "HTTP/1.1 200 OK\r\n");
	t_assert_has(a, "grpc-status: 2\r\n");
	t_assert_has(a, "grpc-message: Payload Too Large\r\n");
	assert_int_equal(f->n_connects, 0);
	/* chunks: what fits goes on, what does not ends it */
	struct fx_stream *s = fx_connect(f);
	fx_say(f, s, POST("/chunks", "transfer-encoding: chunked") "a\r\n0123456789\r\n");
	assert_int_equal(f->n_connects, 1);
	fx_opened(f, f->up[0]);
	t_assert_has(fx_heard(f->up[0]), "0123456789");
	fx_say(f, s, "1\r\nx\r\n");
	t_assert_has(fx_heard(s), "HTTP/1.1 413 Payload Too Large\r\n");
	assert_int_equal(t_reason(f->w, MESH, BODY_TOO_LARGE), 3);
	fx_free(f);
}

static void test_a_body_within_the_routes_limit_passes(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->route[0].max_request_body_bytes = 10;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, POST("/told", "content-length: 10") "0123456789");
	fx_opened(f, f->up[0]);
	t_assert_has(fx_heard(f->up[0]), "0123456789");
	fx_say(f, f->up[0], OK_15);
	t_assert_has(fx_heard(c), "HTTP/1.1 200 OK\r\n");
	fx_say(f, c, GET("/none")); /* no body at all */
	fx_say(f, f->up[0], OK_15);
	t_assert_has(fx_heard(c), "HTTP/1.1 200 OK\r\n");
	fx_free(f);
}

/* What comes while a fault's delay holds the request is judged when it goes on. */
static void test_a_body_that_waited_for_a_delay_is_judged_too(void **state)
{
	(void)state;
	static const struct mesh_fault delay = {.delay_us = 400000, .delay_per_million = 1000000};
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->route[0].max_request_body_bytes = 10;
	cfg->route[0].fault = &delay;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, POST("/chunks", "transfer-encoding: chunked") "b\r\nhello world\r\n0\r\n\r\n");
	t_advance(f->w, 500000);
	t_assert_has(fx_heard(c), "HTTP/1.1 413 Payload Too Large\r\n");
	assert_int_equal(f->n_connects, 0);
	fx_free(f);
}

static void test_delay(void **state)
{
	(void)state;
	static const struct mesh_fault delay = {.delay_us = 400000, .delay_per_million = 1000000};
	static const struct mesh_fault both = {.delay_us = 200000, .delay_per_million = 1000000, .abort_http_status = 400, .abort_per_million = 1000000};
	struct fx_config *cfg = fx_config_new(1, 1);
	fx_route(cfg, "/both", 0)->fault = &both;
	fx_route(cfg, "/delay", 0)->fault = &delay;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "POST /delay HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc");
	t_advance(f->w, 390000);
	fx_say(f, c, "def");
	assert_int_equal(f->n_connects, 0);
	t_advance(f->w, 20000);
	struct fx_stream *u = fx_up_open(f);
	t_assert_has(fx_heard(u), "\r\n\r\nabcdef");
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "hello");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_DI);
	assert_string_equal(fx_last(f, 1)->details, "via_upstream");
	fx_say(f, c, GET("/both"));
	t_advance(f->w, 210000);
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 400 Bad Request\r\n");
	t_assert_has(a, "connection: close\r\n");
	assert_int_equal(fx_last(f, 2)->r.flags, TELE_FLAG_DI | TELE_FLAG_FI);
	/* the client leaves during the delay */
	c = fx_connect(f);
	fx_say(f, c, GET("/delay"));
	fx_closed(f, c, STREAM_END_RESET);
	assert_int_equal(fx_last(f, 3)->r.flags, TELE_FLAG_DI | TELE_FLAG_DC);
	t_advance(f->w, 500000);
	fx_free(f);
}

static void test_percentage(void **state)
{
	(void)state;
	static const struct mesh_fault half = {.abort_http_status = 503, .abort_per_million = 500000};
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->route[0].fault = &half;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f), *u = NULL;
	int n_aborted = 0;
	for (int i = 0; i < 400; i++) {
		fx_say(f, c, GET("/half"));
		const char *a = fx_heard(c);
		if (strstr(a, "fault filter abort")) {
			n_aborted++;
		} else {
			u = u ? u : fx_up_open(f);
			fx_heard(u);
			fx_say(f, u, OK_15);
			t_assert_has(fx_heard(c), "hello");
		}
		fx_turn(f);
	}
	assert_in_range(n_aborted, 150, 250);
	fx_free(f);
}

static const struct mesh_string_match origins[] = {
	{.kind = MESH_MATCH_EXACT, .text = {"https://a.example", 17}}, {.kind = MESH_MATCH_PREFIX, .text = {"https://b.", 10}},
};

static void test_cors(void **state)
{
	(void)state;
	static const struct mesh_cors cors = {.allow_origins = origins, .n_allow_origins = 2, .allow_methods = {"GET,PUT", 7}, .allow_headers = {"x-a", 3},
		.expose_headers = {"x-b", 3}, .max_age = {"600", 3}, .allow_credentials = true};
	static const struct mesh_cors ignore = {.allow_origins = origins, .n_allow_origins = 2, .allow_methods = {"*", 1}, .expose_headers = {"x-b", 3},
		.ignore_unmatched_preflights = true};
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->route[0].cors = &cors;
	fx_route(cfg, "/ignore", 0)->cors = &ignore;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "OPTIONS /x HTTP/1.1\r\nhost: a\r\norigin: https://b.example\r\naccess-control-request-method: PUT\r\n\r\n");
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 200 OK\r\n");
	t_assert_has(a, "access-control-allow-origin: https://b.example\r\n");
	t_assert_has(a, "access-control-allow-credentials: true\r\n");
	t_assert_has(a, "access-control-allow-methods: GET,PUT\r\n");
	t_assert_has(a, "access-control-allow-headers: x-a\r\n");
	t_assert_has(a, "access-control-max-age: 600\r\n");
	t_assert_has(a, "content-length: 0\r\n");
	assert_string_equal(fx_last(f, 1)->details, "cors_response");
	fx_say(f, c, "GET /x HTTP/1.1\r\nhost: a\r\norigin: https://a.example\r\n\r\n");
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\ncontent-length: 0\r\n\r\n");
	a = fx_heard(c);
	t_assert_has(a, "access-control-allow-origin: https://a.example\r\n");
	t_assert_has_not(a, "access-control-allow-origin: *");
	t_assert_has(a, "access-control-expose-headers: x-b\r\n");
	fx_say(f, c, "GET /x HTTP/1.1\r\nhost: a\r\norigin: https://evil.example\r\n\r\n");
	fx_say(f, u, OK_15);
	t_assert_has_not(fx_heard(c), "access-control");
	/* a preflight of a stranger: forwarded, or answered without the origin */
	fx_heard(u);
	fx_say(f, c, "OPTIONS /x HTTP/1.1\r\nhost: a\r\norigin: https://evil.example\r\naccess-control-request-method: PUT\r\n\r\n");
	t_assert_has(fx_heard(u), "OPTIONS /x ");
	fx_say(f, u, OK_15);
	fx_heard(c);
	fx_say(f, c, "OPTIONS /ignore HTTP/1.1\r\nhost: a\r\norigin: https://evil.example\r\naccess-control-request-method: PUT\r\n\r\n");
	a = fx_heard(c);
	t_assert_has(a, "access-control-allow-methods: PUT\r\n");
	t_assert_has_not(a, "allow-origin");
	t_assert_has_not(a, "expose-headers");
	fx_say(f, c, "OPTIONS /x HTTP/1.1\r\nhost: a\r\norigin: https://a.example\r\norigin: https://evil.example\r\n"
		     "access-control-request-method: PUT\r\n\r\n");
	t_assert_has(fx_heard(u), "OPTIONS /x "); /* two origins are no origin that is allowed */
	fx_free(f);
}

static void test_mirror(void **state)
{
	(void)state;
	static const struct mesh_mirror mirrors[] = {{.slot = 1, .per_million = 1000000}, {.slot = 1, .per_million = 1000000, .append_shadow_suffix = true},
						     {.slot = 3, .per_million = 1000000}};
	struct fx_config *cfg = fx_config_new(2, 1);
	cfg->route[0].route.mirrors = mirrors;
	cfg->route[0].route.n_mirrors = 3;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "POST /all HTTP/1.1\r\nhost: web.example.com:80\r\ncontent-length: 7\r\n\r\npay");
	assert_int_equal(f->n_connects, 1);
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, c, "load");
	t_assert_has(fx_heard(u), "\r\n\r\npayload");
	assert_int_equal(f->n_connects, 3);
	assert_int_equal(t_counter(f->w, MESH, MIRRORS_DROPPED), 1); /* the cluster that is not there */
	fx_opened(f, f->up[1]);
	const char *s = fx_heard(f->up[1]);
	t_assert_has(s, "host: web.example.com:80\r\n");
	t_assert_has(s, "x-forwarded-for: 198.18.0.2,198.18.0.1\r\n");
	t_assert_has(s, "x-envoy-internal: true\r\n");
	t_assert_has(s, "x-envoy-attempt-count: 1\r\n");
	t_assert_has(s, "\r\n\r\npayload");
	fx_say(f, u, OK_15); /* the original is answered and gone while a shadow still waits */
	t_assert_has(fx_heard(c), "hello");
	fx_closed(f, c, STREAM_END_RESET);
	fx_turn(f);
	fx_opened(f, f->up[2]);
	s = fx_heard(f->up[2]);
	t_assert_has(s, "host: web.example.com-shadow:80\r\n");
	t_assert_has(s, "\r\n\r\npayload");
	fx_say(f, f->up[1], "HTTP/1.1 500 E\r\ncontent-length: 5\r\n\r\nwhole");
	fx_say(f, f->up[2], "HTTP/1.1 200 OK\r\ncontent-le");
	fx_closed(f, f->up[2], STREAM_END_RESET);
	assert_int_equal(f->n_records, 1);
	assert_int_equal(t_counter(f->w, MESH, MIRRORS), 2);
	/* a body that was announced and did not come */
	c = fx_connect(f);
	fx_say(f, c, "POST /none HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
	t_assert_has(fx_heard(f->up[1]), "transfer-encoding: chunked\r\n\r\n0\r\n\r\n");
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "hello");
	/* down: the original does not notice */
	c = fx_connect(f);
	fx_say(f, c, GET("/down"));
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "hello");
	fx_free(f);
}

static void test_mirror_gives_up(void **state)
{
	(void)state;
	static const struct mesh_mirror mirrors[] = {{.slot = 1, .per_million = 1000000}};
	struct fx_config *cfg = fx_config_new(2, 1);
	cfg->route[0].route.mirrors = mirrors;
	cfg->route[0].route.n_mirrors = 1;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/x"));
	assert_int_equal(f->n_connects, 2);
	fx_opened(f, f->up[0]);
	fx_opened(f, f->up[1]);
	fx_say(f, f->up[0], OK_15);
	t_advance(f->w, 61000000); /* an origin that never answers a shadow */
	assert_true(f->up[1]->is_dead);
	fx_say(f, c, GET("/y"));
	fx_closed(f, f->up[f->n_connects - 1], STREAM_END_REFUSED);
	assert_int_equal(t_counter(f->w, MESH, MIRRORS_DROPPED), 1);
	fx_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_abort), cmocka_unit_test(test_a_body_beyond_the_routes_limit_is_413),
		cmocka_unit_test(test_a_body_within_the_routes_limit_passes),
		cmocka_unit_test(test_a_body_that_waited_for_a_delay_is_judged_too),
		cmocka_unit_test(test_delay), cmocka_unit_test(test_percentage), cmocka_unit_test(test_cors),
		cmocka_unit_test(test_mirror), cmocka_unit_test(test_mirror_gives_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
