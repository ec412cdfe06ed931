/* Tries beyond the first, as the recordings of Envoy in the judge have them (retries, timeouts): conditions, limits, what each try and the client see. */
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/mesh/host.h"

#define GET(path) "GET " path " HTTP/1.1\r\nhost: web.example.com\r\n\r\n"
#define OK_15 "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\nhello from v1a\n"
#define ERR(code) "HTTP/1.1 " code " Error\r\ncontent-length: 4\r\n\r\noops"

static struct fx *begin(struct fx_config *c, struct mesh_retry_policy p)
{
	c->retry = p;
	c->route[0].route.retry = &c->retry;
	return fx_new((struct t_worker_params){.seed = 7}, c, 64, 64);
}

static void test_answers(void **state)
{
	(void)state;
	static const uint16_t codes[] = {418};
	static const struct {
		uint32_t on;
		const char *answer;
		bool retried;
	} cases[] = {
		{MESH_RETRY_5XX, ERR("503"), true}, {MESH_RETRY_5XX, ERR("404"), false}, {MESH_RETRY_GATEWAY_ERROR, ERR("502"), true},
		{MESH_RETRY_GATEWAY_ERROR, ERR("500"), false}, {MESH_RETRY_RETRIABLE_4XX, ERR("409"), true}, {MESH_RETRY_RETRIABLE_4XX, ERR("408"), false},
		{MESH_RETRY_RETRIABLE_STATUS_CODES, ERR("418"), true}, {MESH_RETRY_RETRIABLE_STATUS_CODES, ERR("503"), false},
		{MESH_RETRY_CONNECT_FAILURE | MESH_RETRY_UNAVAILABLE, ERR("503"), false},
		{MESH_RETRY_UNAVAILABLE, "HTTP/1.1 200 OK\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n", true},
		{MESH_RETRY_UNAVAILABLE, "HTTP/1.1 200 OK\r\ngrpc-status: 13\r\ncontent-length: 0\r\n\r\n", false},
		{MESH_RETRY_5XX, "HTTP/1.1 503 E\r\nx-envoy-overloaded: true\r\ncontent-length: 0\r\n\r\n", true},
		{MESH_RETRY_5XX, "HTTP/1.1 503 E\r\nx-envoy-ratelimited: true\r\ncontent-length: 0\r\n\r\n", false},
		{MESH_RETRY_ENVOY_RATELIMITED, "HTTP/1.1 429 E\r\nx-envoy-ratelimited: true\r\ncontent-length: 0\r\n\r\n", true},
	};
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct fx *f = begin(fx_config_new(1, 1), (struct mesh_retry_policy){
			.num_retries = 2, .retry_on = cases[i].on, .retriable_status_codes = codes, .n_retriable_status_codes = 1});
		struct fx_stream *c = fx_connect(f);
		fx_say(f, c, GET("/x"));
		struct fx_stream *u = fx_up_open(f);
		t_assert_has(fx_heard(u), "x-envoy-attempt-count: 1\r\n");
		fx_say(f, u, cases[i].answer);
		t_advance(f->w, 30000); /* the first back-off is below 25 ms */
		if (!cases[i].retried) {
			assert_int_equal(f->n_connects, 1);
			assert_int_equal(fx_last(f, 1)->r.flags, 0);
			fx_free(f);
			continue;
		}
		assert_int_equal(f->n_records, 0);
		if (f->n_connects == 2) /* the first connection went with the body that nobody read */
			u = fx_up_open(f);
		t_assert_has(fx_heard(u), "x-envoy-attempt-count: 2\r\n");
		fx_say(f, u, OK_15);
		t_assert_has(fx_heard(c), "HTTP/1.1 200 OK\r\n");
		assert_int_equal(fx_last(f, 1)->r.attempts, 2);
		assert_int_equal(fx_last(f, 1)->r.flags, 0);
		assert_int_equal(t_counter(f->w, MESH, RETRY_SUCCESS), 1);
		fx_free(f);
	}
}

static void test_exhausted(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1), (struct mesh_retry_policy){.num_retries = 2, .retry_on = MESH_RETRY_5XX});
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/x"));
	for (int i = 0; i < 3; i++) {
		fx_say(f, fx_up_open(f), ERR("503"));
		t_advance(f->w, 100000);
	}
	assert_int_equal(f->n_connects, 3);
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 503 ");
	t_assert_has(a, "\r\n\r\noops");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_URX);
	assert_string_equal(fx_last(f, 1)->details, "via_upstream");
	/* resets */
	fx_say(f, c, GET("/y"));
	fx_closed(f, f->up[2], STREAM_END_RESET);
	t_advance(f->w, 100000);
	for (int i = 0; i < 2; i++) {
		fx_closed(f, fx_up_open(f), STREAM_END_RESET);
		t_advance(f->w, 100000);
	}
	a = fx_heard(c);
	t_assert_has(a, "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination");
	t_assert_has(a, "content-length: 118\r\n");
	assert_int_equal(fx_last(f, 2)->r.flags, TELE_FLAG_URX | TELE_FLAG_UC);
	fx_free(f);
}

static void test_connect_failures(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1), (struct mesh_retry_policy){.num_retries = 2, .retry_on = MESH_RETRY_CONNECT_FAILURE});
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "POST /down HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
	for (int i = 0; i < 3; i++) {
		fx_closed(f, f->up[f->n_connects - 1], STREAM_END_REFUSED);
		t_advance(f->w, 100000);
	}
	const char *a = fx_heard(c);
	t_assert_has(a, "content-length: 121\r\n");
	t_assert_has(a, "retried and the latest reset reason: remote connection failure");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_URX | TELE_FLAG_UF);
	assert_int_equal(fx_last(f, 1)->r.bytes_received, 1);
	/* a reset after the connection is none */
	fx_say(f, c, GET("/r"));
	fx_closed(f, fx_up_open(f), STREAM_END_RESET);
	assert_int_equal(fx_last(f, 2)->r.flags, TELE_FLAG_UC);
	fx_free(f);
}

static void test_body_again(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1), (struct mesh_retry_policy){.num_retries = 1, .retry_on = MESH_RETRY_5XX});
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc");
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, c, "def");
	t_assert_has(fx_heard(u), "abcdef");
	fx_closed(f, u, STREAM_END_RESET);
	fx_say(f, c, "ghi"); /* while nobody listens */
	t_advance(f->w, 30000);
	u = fx_up_open(f);
	t_assert_has(fx_heard(u), "\r\n\r\nabcdefghi");
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "200 OK");
	fx_free(f);
}

static void test_body_too_large(void **state)
{
	(void)state;
	struct fx *f = fx_new((struct t_worker_params){.seed = 7, .n_mbufs = 8191, .n_indirect = 8191}, fx_config_new(1, 1), 8, 8);
	struct mesh_retry_policy p = {.num_retries = 1, .retry_on = MESH_RETRY_5XX};
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->retry = p;
	cfg->route[0].route.retry = &cfg->retry;
	fx_publish(f, cfg);
	static char block[50000];
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2000000\r\n\r\n");
	struct fx_stream *u = fx_up_open(f);
	for (int i = 0; i < 40; i++) {
		fx_say_bytes(f, c, block, sizeof(block));
		if (i < 30)
			fx_heard(u);
	}
	fx_closed(f, u, STREAM_END_RESET);
	t_advance(f->w, 100000);
	assert_int_equal(f->n_connects, 1);
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UC);
	fx_free(f);
}

static void test_per_try_timeout(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->route[0].route.timeout_us = 500000;
	struct fx *f = begin(cfg, (struct mesh_retry_policy){.num_retries = 3, .retry_on = MESH_RETRY_5XX, .per_try_timeout_us = 200000});
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/retry"));
	struct fx_stream *u = fx_up_open(f);
	t_assert_has(fx_heard(u), "x-envoy-expected-rq-timeout-ms: 200\r\n");
	t_advance(f->w, 230000);
	assert_true(u->is_dead);
	u = fx_up_open(f);
	t_assert_has(fx_heard(u), "x-envoy-expected-rq-timeout-ms: 200\r\n");
	t_advance(f->w, 260000); /* a back-off of up to 75 ms may come before the third */
	t_advance(f->w, 20000);
	const char *a = fx_heard(c);
	t_assert_has(a, "504 Gateway Timeout");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UT);
	assert_string_equal(fx_last(f, 1)->details, "response_timeout");
	fx_free(f);
	/* without the route's: the last try's */
	f = begin(fx_config_new(1, 1), (struct mesh_retry_policy){.num_retries = 1, .retry_on = MESH_RETRY_5XX, .per_try_timeout_us = 300000});
	c = fx_connect(f);
	fx_say(f, c, GET("/r5"));
	for (int i = 0; i < 2; i++) {
		(void)fx_up_open(f);
		t_advance(f->w, 330000);
	}
	t_assert_has(fx_heard(c), "\r\n\r\nupstream request timeout");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_URX | TELE_FLAG_UT);
	assert_string_equal(fx_last(f, 1)->details, "upstream_per_try_timeout");
	fx_free(f);
}

static void test_other_host(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 3), (struct mesh_retry_policy){
		.num_retries = 2, .retry_on = MESH_RETRY_5XX, .avoid_previous_hosts = true, .host_selection_max_attempts = 20});
	struct fx_stream *c = fx_connect(f);
	bool seen[4] = {false};
	fx_say(f, c, GET("/x"));
	for (int i = 0; i < 3; i++) {
		struct fx_stream *u = fx_up_open(f);
		assert_false(seen[u->ip[15]]);
		seen[u->ip[15]] = true;
		fx_say(f, u, ERR("503"));
		t_advance(f->w, 100000);
	}
	fx_last(f, 1);
	fx_free(f);
}

static void test_retry_breaker(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->cluster[0].breaker.max_retries = 1;
	struct fx *f = begin(cfg, (struct mesh_retry_policy){.num_retries = 2, .retry_on = MESH_RETRY_5XX});
	struct fx_stream *a = fx_connect(f), *b = fx_connect(f);
	fx_say(f, a, GET("/a"));
	struct fx_stream *ua = fx_up_open(f);
	fx_say(f, b, GET("/b"));
	struct fx_stream *ub = fx_up_open(f);
	fx_say(f, ua, ERR("503"));
	fx_say(f, ub, ERR("503"));
	t_assert_has(fx_heard(b), "HTTP/1.1 503 ");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UO);
	assert_int_equal(t_counter(f->w, MESH, RETRY_OVERFLOW), 1);
	t_advance(f->w, 30000);
	fx_say(f, fx_up_open(f), OK_15);
	t_assert_has(fx_heard(a), "200 OK");
	fx_free(f);
}

static void test_leaves_in_backoff(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1), (struct mesh_retry_policy){.num_retries = 2, .retry_on = MESH_RETRY_5XX, .backoff_base_us = 1000000});
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/x"));
	fx_say(f, fx_up_open(f), ERR("503"));
	fx_closed(f, c, STREAM_END_RESET);
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_DC);
	t_advance(f->w, 3000000);
	assert_int_equal(f->n_connects, 1);
	fx_free(f);
}

static void test_internal_headers(void **state)
{
	(void)state;
	static const struct mesh_cidr internal = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 18}, .len = 112};
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->c.settings.internal_cidrs = &internal;
	cfg->c.settings.n_internal_cidrs = 1;
	struct fx *f = fx_new((struct t_worker_params){.seed = 7}, cfg, 8, 8);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "GET /x HTTP/1.1\r\nhost: a\r\nx-envoy-retry-on: retriable-status-codes\r\nx-envoy-retriable-status-codes: 418, 419\r\n"
		     "x-envoy-max-retries: 1\r\nx-envoy-upstream-rq-timeout-ms: 5000\r\n\r\n");
	struct fx_stream *u = fx_up_open(f);
	const char *sent = fx_heard(u);
	t_assert_has(sent, "x-envoy-expected-rq-timeout-ms: 5000\r\n");
	assert_null(strstr(sent, "x-envoy-retry-on"));
	fx_say(f, u, ERR("419"));
	t_advance(f->w, 30000);
	fx_say(f, fx_up_open(f), ERR("418"));
	t_assert_has(fx_heard(c), "HTTP/1.1 418 ");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_URX);
	fx_free(f);
}

/* A route's operations may say how to retry; what is for us goes no further, nor does the name of the operation to the client. */
static void test_headers_of_routes(void **state)
{
	(void)state;
	static const char *const said[][2] = {{"x-envoy-retry-on", "5xx"}, {"x-envoy-max-retries", "2"}, {"x-envoy-upstream-stream-duration-ms", "4"}};
	static struct mesh_header_op_add add[FOIL_COUNT_OF(said)], mine = {.name = {"x-envoy-decorator-operation", 27}};
	struct foil_error err = {0};
	struct foil_blob blob[FOIL_COUNT_OF(said) + 1] = {{0}};
	struct fx_config *cfg = fx_config_new(1, 1);
	for (size_t i = 0; i < FOIL_COUNT_OF(said); i++) {
		add[i].name = foil_slice_str(said[i][0]);
		assert_int_equal(mesh_format_compile(&blob[i], foil_slice_str(said[i][1]), &add[i].value, &err), 0);
	}
	assert_int_equal(mesh_format_compile(&blob[FOIL_COUNT_OF(said)], FOIL_SLICE("mine"), &mine.value, &err), 0);
	cfg->route[0].request_headers = (struct mesh_header_ops){.add = add, .n_add = FOIL_COUNT_OF(said)};
	cfg->route[0].response_headers = (struct mesh_header_ops){.add = &mine, .n_add = 1};
	cfg->route[0].decorator_operation = FOIL_SLICE("zero.test:8080/*");
	struct fx *f = fx_new((struct t_worker_params){.seed = 7}, cfg, 8, 8);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
	struct fx_stream *u = fx_up_open(f);
	t_assert_has_not(fx_heard(u), "x-envoy-retry-on");
	fx_say(f, u, ERR("500"));
	t_advance(f->w, 30000);
	u = fx_up_open(f);
	t_assert_has_not(fx_heard(u), "x-envoy-upstream-stream-duration-ms");
	fx_say(f, u, ERR("500"));
	t_advance(f->w, 300000);
	fx_say(f, fx_up_open(f), "HTTP/1.1 500 E\r\nx-envoy-decorator-operation: theirs\r\ncontent-length: 0\r\n\r\n");
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 500 ");
	t_assert_has_not(a, "x-envoy-decorator-operation");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_URX);
	fx_free(f);
	for (size_t i = 0; i < FOIL_COUNT_OF(blob); i++)
		foil_blob_free(&blob[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers), cmocka_unit_test(test_exhausted), cmocka_unit_test(test_connect_failures), cmocka_unit_test(test_body_again),
		cmocka_unit_test(test_body_too_large), cmocka_unit_test(test_per_try_timeout), cmocka_unit_test(test_other_host),
		cmocka_unit_test(test_retry_breaker), cmocka_unit_test(test_leaves_in_backoff), cmocka_unit_test(test_internal_headers),
		cmocka_unit_test(test_headers_of_routes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
