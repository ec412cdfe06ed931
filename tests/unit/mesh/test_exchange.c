/* One request through the runtime, real codec on both sides: what client, origin and record see, for good and bad ends. Bytes of local replies are those of the
 * recordings of Envoy in the judge (plain, upstream-faults, timeouts, redirect-rewrite). */
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/mesh/runtime.h"

#define GET(path) "GET " path " HTTP/1.1\r\nhost: web.example.com\r\n\r\n"
#define OK_15 "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\nhello from v1a\n"

static struct fx *begin(struct fx_config *c)
{
	return fx_new((struct t_worker_params){.seed = 7}, c, 64, 64);
}

/* A request and its answer over the last upstream connection that was opened. */
static void served(struct fx *f, struct fx_stream *c, struct fx_stream *u, const char *path)
{
	char request[200];

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nhost: web.example.com\r\n\r\n", path);
	fx_say(f, c, request);
	t_assert_has(fx_heard(u), path);
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "hello from v1a\n");
}

static void test_plain(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/a?b=c"));
	assert_int_equal(f->n_connects, 1);
	struct fx_stream *u = fx_up_open(f);
	const char *sent = fx_heard(u);
	t_assert_has(sent, "GET /a?b=c HTTP/1.1\r\nhost: web.example.com\r\n");
	t_assert_has(sent, "x-forwarded-for: 198.18.0.2\r\n");
	t_assert_has(sent, "x-envoy-attempt-count: 1\r\n");
	t_assert_has_not(sent, "x-envoy-expected-rq-timeout-ms");
	t_advance(f->w, 7000);
	fx_say(f, u, OK_15);
	const char *answer = fx_heard(c);
	t_assert_has(answer, "HTTP/1.1 200 OK\r\n");
	t_assert_has(answer, "server: istio-envoy\r\n");
	t_assert_has(answer, "x-envoy-upstream-service-time: 7\r\n");
	t_assert_has(answer, "date: Tue, 14 Nov 2023 22:13:20 GMT\r\n");
	t_assert_has(answer, "content-length: 15\r\n\r\nhello from v1a\n");
	t_assert_has_not(answer, "connection:");
	const struct fx_record *r = fx_last(f, 1);
	assert_int_equal(r->r.status, 200);
	assert_int_equal(r->r.flags, 0);
	assert_string_equal(r->details, "via_upstream");
	assert_string_equal(r->path, "/a?b=c");
	assert_string_equal(r->cluster, "outbound|8080||zero.test");
	assert_int_equal(r->r.bytes_sent, 15);
	assert_int_equal(r->r.upstream_host.port, 8080);
	assert_int_equal(r->r.upstream_local.port, 40000);
	assert_int_equal(r->r.duration_us / 1000, 7);
	assert_true(r->r.log);
	for (int i = 0; i < 5; i++)
		served(f, c, u, "/again");
	assert_int_equal(f->n_connects, 1);
	fx_free(f);
}

static void test_pipelined(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/1") GET("/2"));
	struct fx_stream *u = fx_up_open(f);
	t_assert_has(fx_peek(u), "GET /1 ");
	t_assert_has_not(fx_heard(u), "GET /2 ");
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(u), "GET /2 ");
	fx_say(f, u, OK_15);
	fx_last(f, 2);
	fx_free(f);
}

/* VS-21: what one of several destinations sets comes first, also when the others have no weight; the route has the last word. */
static void test_the_routes_header_operations_follow_the_destinations(void **state)
{
	static const struct mesh_header_op_add of_route[] = {{.name = FOIL_SLICE("x-both"), .value = {.is_literal = true, .literal = FOIL_SLICE("route")}}};
	static const struct mesh_header_op_add of_destination[] = {
		{.name = FOIL_SLICE("x-both"), .value = {.is_literal = true, .literal = FOIL_SLICE("destination")}},
		{.name = FOIL_SLICE("x-own"), .value = {.is_literal = true, .literal = FOIL_SLICE("destination")}},
	};
	struct fx_config *cfg = fx_config_new(1, 1);

	(void)state;
	cfg->route[0].request_headers = cfg->route[0].response_headers = (struct mesh_header_ops){.add = of_route, .n_add = 1};
	cfg->weighted[0][0].request_headers = cfg->weighted[0][0].response_headers = (struct mesh_header_ops){.add = of_destination, .n_add = 2};
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/"));
	struct fx_stream *u = fx_up_open(f);
	t_assert_has(fx_peek(u), "x-own: destination\r\nx-both: route\r\n");
	fx_say(f, u, OK_15);
	t_assert_has(fx_peek(c), "x-own: destination\r\nx-both: route\r\n");
	fx_free(f);
}

static void test_body(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\npay");
	struct fx_stream *u = fx_up_open(f);
	t_assert_has(fx_peek(u), "content-length: 7\r\n");
	t_assert_has(fx_heard(u), "\r\n\r\npay");
	fx_say(f, c, "load");
	assert_string_equal(fx_heard(u), "load");
	fx_say(f, u, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-trailer: t\r\n\r\n");
	const char *answer = fx_heard(c);
	t_assert_has(answer, "transfer-encoding: chunked\r\n");
	t_assert_has(answer, "5\r\nhello\r\n0\r\n\r\n");
	t_assert_has_not(answer, "x-trailer");
	assert_int_equal(fx_last(f, 1)->r.bytes_received, 7);
	assert_int_equal(fx_last(f, 1)->r.bytes_sent, 5);
	/* chunked up */
	fx_say(f, c, "PUT /q HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
	t_assert_has(fx_heard(u), "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
	fx_say(f, c, "0\r\n\r\n");
	assert_string_equal(fx_heard(u), "0\r\n\r\n");
	fx_say(f, u, "HTTP/1.1 204 No Content\r\n\r\n");
	t_assert_has(fx_heard(c), "HTTP/1.1 204 No Content\r\n");
	fx_free(f);
}

static void test_no_route_no_cluster_no_host(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(2, 1);
	(void)fx_route(cfg, "/nc", 3);
	struct mesh_route *uh = fx_route(cfg, "/uh", 1);
	cfg->endpoints[1].n_endpoints = 0;
	cfg->domain = FOIL_SLICE("web.example.com");
	(void)uh;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "GET / HTTP/1.1\r\nhost: unknown\r\n\r\n");
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 404 Not Found\r\n");
	t_assert_has(a, "content-length: 0\r\n");
	t_assert_has_not(a, "content-type");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_NR);
	assert_string_equal(fx_last(f, 1)->details, "route_not_found");
	fx_say(f, c, GET("/nc"));
	t_assert_has(fx_heard(c), "HTTP/1.1 503 Service Unavailable\r\n");
	assert_int_equal(fx_last(f, 2)->r.flags, TELE_FLAG_NC);
	assert_string_equal(fx_last(f, 2)->cluster, "");
	fx_say(f, c, GET("/uh"));
	a = fx_heard(c);
	t_assert_has(a, "content-length: 19\r\n");
	t_assert_has(a, "content-type: text/plain\r\n");
	t_assert_has(a, "\r\n\r\nno healthy upstream");
	assert_int_equal(fx_last(f, 3)->r.flags, TELE_FLAG_UH);
	assert_int_equal(fx_last(f, 3)->r.upstream_host.port, 0);
	fx_say(f, c, "HEAD /uh HTTP/1.1\r\nhost: web.example.com\r\n\r\n");
	a = fx_heard(c);
	t_assert_has(a, "content-length: 19\r\n");
	t_assert_has_not(a, "no healthy");
	assert_int_equal(t_reason(f->w, MESH, NO_HEALTHY_UPSTREAM), 2);
	fx_free(f);
	cfg = fx_config_new(1, 1); /* where the client went, which is here */
	(void)fx_route(cfg, "/", 0);
	cfg->endpoints[0].n_endpoints = 0;
	cfg->cluster[0].is_original_dst = true;
	f = begin(cfg);
	c = fx_connect(f);
	fx_say(f, c, GET("/"));
	t_assert_has(fx_heard(c), "\r\n\r\nno healthy upstream");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UH);
	assert_int_equal(t_reason(f->w, MESH, ORIGINAL_DST), 1);
	fx_free(f);
}

static void test_original_destinations(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	struct fx_stream *c[3];
	cfg->listener.is_captured = true; /* as config makes it: one endpoint for all places */
	cfg->cluster[0].is_original_dst = true;
	memset(cfg->endpoint[0][0].ip, 0, sizeof(cfg->endpoint[0][0].ip));
	cfg->endpoint[0][0].port = 0;
	struct fx *f = begin(cfg);
	for (uint8_t i = 0; i < 3; i++) {
		f->went_to = i == 1 ? 34 : 33;
		c[i] = fx_connect(f);
		fx_say(f, c[i], GET("/"));
		if (i == 2) { /* the connection to the same place serves it */
			fx_say(f, f->up[0], "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
			break;
		}
		struct fx_stream *u = fx_up_open(f);
		assert_int_equal(u->port, 9000);
		assert_int_equal(u->ip[15], f->went_to);
		t_assert_has(fx_heard(u), "GET / HTTP/1.1\r\n");
		fx_say(f, u, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
		t_assert_has(fx_heard(c[i]), "HTTP/1.1 200 OK\r\n");
		assert_int_equal(fx_last(f, i + 1u)->r.upstream_host.ip[15], f->went_to);
		assert_int_equal(fx_last(f, i + 1u)->r.upstream_host.port, 9000);
	}
	t_assert_has(fx_heard(c[2]), "HTTP/1.1 202 Accepted\r\n");
	assert_int_equal(f->n_connects, 2);
	fx_free(f);
}

static void test_bad_requests(void **state)
{
	(void)state;
	static const struct {
		const char *request, *status, *details;
		uint64_t flags;
	} cases[] = {
		{"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n", "missing_host_header", 0},
		{"G@T / HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n", "http1.invalid_method", TELE_FLAG_DPE},
		{"GET / HTTP/1.0\r\nhost: a\r\n\r\n", "HTTP/1.1 426 Upgrade Required\r\n", "low_version", TELE_FLAG_DPE},
		{"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", "route_not_found", TELE_FLAG_NR},
	};
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct fx *f = begin(fx_config_new(1, 1));
		struct fx_stream *c = fx_connect(f);
		fx_say(f, c, cases[i].request);
		const char *a = fx_heard(c);
		t_assert_has(a, cases[i].status);
		assert_int_equal(fx_last(f, 1)->r.flags, cases[i].flags);
		t_assert_has(a, "connection: close\r\n");
		if (cases[i].flags == TELE_FLAG_DPE) {
			t_assert_has(a, "content-type: text/plain\r\n"); /* the reason phrase as a body */
			assert_string_equal(fx_last(f, 1)->method, "");
		}
		assert_string_equal(fx_last(f, 1)->details, cases[i].details);
		fx_free(f);
	}
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
	t_assert_has(fx_heard(c), "HTTP/1.1 404 Not Found\r\n");
	assert_string_equal(fx_last(f, 1)->details, "absolute_path_rejected");
	assert_false(c->is_released || c->is_aborted);
	fx_free(f);
}

static void test_direct_and_redirect(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	struct mesh_route *d = fx_route(cfg, "/direct", 0);
	d->action = MESH_ACTION_DIRECT_RESPONSE;
	d->direct = (struct mesh_direct_response){.status = 418, .body = FOIL_SLICE("short and stout")};
	struct mesh_route *r = fx_route(cfg, "/old", 0);
	r->action = MESH_ACTION_REDIRECT;
	r->redirect = (struct mesh_redirect){.code = 301, .host = FOIL_SLICE("other.example.com"), .has_path = true, .path = FOIL_SLICE("/new")};
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/old?q=1"));
	t_assert_has(fx_heard(c), "location: http://other.example.com/new?q=1\r\n");
	assert_string_equal(fx_last(f, 1)->details, "direct_response");
	fx_say(f, c, "POST /direct HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nxx");
	const char *a = fx_heard(c);
	t_assert_has(a, "connection: close\r\n"); /* the body was not waited for */
	t_assert_has(a, "\r\n\r\nshort and stout");
	assert_int_equal(fx_last(f, 2)->r.status, 418);
	assert_true(c->is_dead);
	fx_free(f);
}

/* An upstream that fails at each point of its answer. */
static void test_upstream_ends(void **state)
{
	(void)state;
	static const struct {
		const char *said;       /* before the end */
		enum stream_end why;
		const char *status, *body, *details;
		uint64_t flags;
	} cases[] = {
		{"", STREAM_END_RESET, "HTTP/1.1 503 ", "disconnect/reset before headers. reset reason: connection termination",
		 "upstream_reset_before_response_started{connection_termination}", TELE_FLAG_UC},
		{"", STREAM_END_FIN, "HTTP/1.1 503 ", "reset reason: connection termination",
		 "upstream_reset_before_response_started{connection_termination}", TELE_FLAG_UC},
		{"HTTP/1.1 200 OK\r\ncontent-le", STREAM_END_FIN, "HTTP/1.1 502 Bad Gateway", "reset reason: protocol error",
		 "upstream_reset_before_response_started{protocol_error}", TELE_FLAG_UPE},
		{"HTTP/1.1 200 OK\r\ncontent-le", STREAM_END_RESET, "HTTP/1.1 503 ", "reset reason: connection termination",
		 "upstream_reset_before_response_started{connection_termination}", TELE_FLAG_UC},
		{"GARBAGE\r\n\r\n", STREAM_END_NONE, "HTTP/1.1 502 Bad Gateway", "reset reason: protocol error",
		 "upstream_reset_before_response_started{protocol_error}", TELE_FLAG_UPE},
	};
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct fx *f = begin(fx_config_new(1, 1));
		struct fx_stream *c = fx_connect(f);
		fx_say(f, c, GET("/x"));
		struct fx_stream *u = fx_up_open(f);
		fx_say(f, u, cases[i].said);
		if (cases[i].why == STREAM_END_FIN)
			fx_eof(f, u);
		else if (cases[i].why != STREAM_END_NONE)
			fx_closed(f, u, cases[i].why);
		const char *a = fx_heard(c);
		t_assert_has(a, cases[i].status);
		t_assert_has(a, cases[i].body);
		t_assert_has_not(a, "connection: close");
		assert_string_equal(fx_last(f, 1)->details, cases[i].details);
		assert_int_equal(fx_last(f, 1)->r.flags, cases[i].flags);
		assert_true(u->is_dead);
		fx_free(f);
	}
}

static void test_upstream_ends_late(void **state)
{
	(void)state;
	static const char *const said[] = {"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
					   "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"};
	for (size_t i = 0; i < FOIL_COUNT_OF(said); i++) {
		struct fx *f = begin(fx_config_new(1, 1));
		struct fx_stream *c = fx_connect(f);
		fx_say(f, c, GET("/x"));
		struct fx_stream *u = fx_up_open(f);
		fx_say(f, u, said[i]);
		t_assert_has(fx_heard(c), "HTTP/1.1 200 OK");
		fx_closed(f, u, STREAM_END_RESET);
		assert_true(c->is_dead);
		assert_int_equal(fx_last(f, 1)->r.status, 200);
		assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UC);
		assert_string_equal(fx_last(f, 1)->details, "upstream_reset_after_response_started{connection_termination}");
		fx_free(f);
	}
	/* until close is a whole answer */
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/x"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 200 OK\r\n\r\nuntil close");
	fx_eof(f, u);
	t_assert_has(fx_heard(c), "b\r\nuntil close\r\n0\r\n\r\n");
	assert_int_equal(fx_last(f, 1)->r.flags, 0);
	fx_free(f);
}

static void test_connect_fails(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/x"));
	fx_closed(f, f->up[0], STREAM_END_REFUSED);
	t_assert_has(fx_heard(c), "reset reason: remote connection failure");
	assert_string_equal(fx_last(f, 1)->details,
			    "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}");
	assert_string_equal(fx_last(f, 1)->failure, "delayed_connect_error:_Connection_refused");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UF);
	assert_int_equal(fx_last(f, 1)->r.upstream_host.port, 8080);
	assert_int_equal(fx_last(f, 1)->r.upstream_local.port, 0);
	fx_say(f, c, GET("/y"));
	t_advance(f->w, 10100000); /* connect timeout */
	t_assert_has(fx_heard(c), "reset reason: connection timeout");
	assert_int_equal(fx_last(f, 2)->r.flags, TELE_FLAG_UF);
	assert_true(f->up[1]->is_dead);
	f->refuse_connect = true;
	fx_say(f, c, GET("/z"));
	t_assert_has(fx_heard(c), "reset reason: remote connection failure");
	fx_free(f);
}

static void test_client_leaves(void **state)
{
	(void)state;
	for (int when = 0; when < 6; when++) {
		struct fx *f = begin(fx_config_new(1, 1));
		struct fx_stream *c = fx_connect(f), *u = NULL;
		bool posts = when == 1 || when == 3;
		fx_say(f, c, posts ? "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc" : GET("/x"));
		if (when >= 2)
			u = fx_up_open(f);
		if (when >= 4)
			fx_say(f, u, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
		if (when == 5)
			fx_eof(f, c);
		else
			fx_closed(f, c, STREAM_END_RESET);
		const struct fx_record *r = fx_last(f, 1);
		assert_int_equal(r->r.flags, TELE_FLAG_DC);
		assert_string_equal(r->details, "downstream_remote_disconnect");
		assert_int_equal(r->r.status, when >= 4 ? 200 : 0);
		if (u)
			assert_true(u->is_dead);
		fx_turn(f);
		fx_free(f);
	}
}

static void test_route_timeout(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->route[0].route.timeout_us = 300000;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/t"));
	struct fx_stream *u = fx_up_open(f);
	t_assert_has(fx_heard(u), "x-envoy-expected-rq-timeout-ms: 300\r\n");
	t_advance(f->w, 299000);
	assert_int_equal(f->n_records, 0);
	t_advance(f->w, 2000);
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 504 Gateway Timeout\r\n");
	t_assert_has(a, "content-length: 24\r\n");
	t_assert_has(a, "\r\n\r\nupstream request timeout");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UT);
	assert_string_equal(fx_last(f, 1)->details, "response_timeout");
	assert_true(u->is_aborted);
	/* after the head: a reset */
	fx_say(f, c, GET("/t"));
	u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
	t_advance(f->w, 301000);
	assert_true(c->is_dead);
	assert_int_equal(fx_last(f, 2)->r.status, 200);
	assert_int_equal(fx_last(f, 2)->r.flags, TELE_FLAG_UT);
	/* while the connect is on */
	c = fx_connect(f);
	fx_say(f, c, GET("/t"));
	t_advance(f->w, 301000);
	t_assert_has(fx_heard(c), "upstream request timeout");
	fx_free(f);
}

static void test_idle_and_overall(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->chain.http.stream_idle_timeout_us = 1000000;
	cfg->chain.http.request_timeout_us = 3000000;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc");
	struct fx_stream *u = fx_up_open(f);
	for (int i = 0; i < 4; i++) {
		t_advance(f->w, 700000);
		fx_say(f, c, "more");
	}
	t_advance(f->w, 300000);
	t_assert_has(fx_heard(c), "HTTP/1.1 408 Request Timeout\r\n");
	assert_string_equal(fx_last(f, 1)->details, "request_overall_timeout");
	assert_true(u->is_dead);
	c = fx_connect(f);
	fx_say(f, c, GET("/x"));
	(void)fx_up_open(f);
	t_advance(f->w, 1100000);
	t_assert_has(fx_heard(c), "HTTP/1.1 504 Gateway Timeout\r\n");
	assert_string_equal(fx_last(f, 2)->details, "stream_idle_timeout");
	assert_int_equal(fx_last(f, 2)->r.flags, TELE_FLAG_SI);
	fx_free(f);
}

/* The timer of a connection stays armed over its requests; a route's own time, if it is shorter, is kept all the same. */
static void test_a_routes_idle_time_on_a_connection_that_was_used_before(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->chain.http.stream_idle_timeout_us = 5000000;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/x"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "hello");
	t_advance(f->w, 7000000); /* it fires with nobody to look at */
	fx_say(f, c, GET("/x"));
	t_advance(f->w, 4900000);
	assert_string_equal(fx_heard(c), "");
	t_advance(f->w, 200000);
	t_assert_has(fx_heard(c), "HTTP/1.1 504 Gateway Timeout\r\n");
	cfg = fx_config_new(1, 1);
	cfg->chain.http.stream_idle_timeout_us = 5000000;
	cfg->route[0].route.idle_timeout_us = 1000000;
	fx_publish(f, cfg);
	c = fx_connect(f);
	fx_say(f, c, GET("/x"));
	t_advance(f->w, 1100000);
	t_assert_has(fx_heard(c), "HTTP/1.1 504 Gateway Timeout\r\n");
	fx_free(f);
}

static void test_early_answer(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc");
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, OK_15);
	const char *a = fx_heard(c);
	t_assert_has(a, "connection: close\r\n");
	t_assert_has(a, "hello from v1a\n");
	t_assert_has_not(a, "x-envoy-upstream-service-time");
	assert_int_equal(fx_last(f, 1)->r.flags, 0);
	assert_true(u->is_dead); /* its request will never be whole */
	fx_free(f);
}

static void test_informational(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/x"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 103 ");
	t_assert_has(a, "link: a\r\n");
	t_assert_has(a, "HTTP/1.1 200 OK\r\n");
	fx_free(f);
}

static void test_upgrade(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
	struct fx_stream *u = fx_up_open(f);
	t_assert_has(fx_peek(u), "upgrade: websocket\r\n");
	t_assert_has(fx_heard(u), "connection: upgrade\r\n");
	fx_say(f, u, "HTTP/1.1 200 OK\r\nx-backend: v1a\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\nhello from v1a\n");
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 200 OK\r\n");
	t_assert_has(a, "x-backend: v1a\r\n");
	t_assert_has(a, "connection: close\r\n");
	t_assert_has(a, "content-length: 0\r\n");
	t_assert_has_not(a, "text/plain");
	assert_string_equal(fx_last(f, 1)->details, "websocket_handshake_unsuccessful");
	c = fx_connect(f);
	fx_say(f, c, "GET / HTTP/1.1\r\nhost: a\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n");
	a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 403 Forbidden\r\n");
	t_assert_has(a, "connection: close\r\n");
	fx_free(f);
}

static void test_backpressure_down(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	static char block[20000];
	memset(block, 'x', sizeof(block));
	c->hold_acks = true;
	c->s.tx_high_bytes = 50000;
	fx_say(f, c, GET("/x"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n");
	for (int i = 0; i < 10; i++)
		fx_say_bytes(f, u, block, sizeof(block));
	assert_true(c->n_out < 80000);
	assert_true(u->s.rx.n_bytes > 100000); /* its window closes */
	for (int i = 0; i < 10 && c->n_out < 200000; i++)
		fx_ack(f, c);
	assert_true(c->n_out > 200000);
	assert_int_equal(fx_last(f, 1)->r.bytes_sent, 200000);
	fx_free(f);
}

static void test_backpressure_up(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	static char block[20000];
	memset(block, 'x', sizeof(block));
	fx_say(f, c, "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 600000\r\n\r\n");
	for (int i = 0; i < 15; i++)
		fx_say_bytes(f, c, block, sizeof(block)); /* not connected: a little is taken, then the client is held back */
	assert_true(c->s.rx.n_bytes > 0);
	struct fx_stream *u = f->up[0];
	u->hold_acks = true;
	u->s.tx_high_bytes = 50000;
	fx_opened(f, u);
	for (int i = 0; i < 15; i++)
		fx_say_bytes(f, c, block, sizeof(block));
	for (int i = 0; i < 40 && u->n_out < 600000; i++)
		fx_ack(f, u);
	assert_true(u->n_out > 600000);
	fx_say(f, u, OK_15);
	assert_int_equal(fx_last(f, 1)->r.bytes_received, 600000);
	assert_int_equal(fx_last(f, 1)->r.status, 200);
	fx_free(f);
}

static void test_snapshot_change(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/a"));
	struct fx_stream *u = fx_up_open(f);
	/* another snapshot with the same host while the request is on its way: connections on both sides live on */
	fx_publish(f, fx_config_new(2, 1));
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "hello from v1a");
	fx_turn(f);
	assert_int_equal(f->old[0]->c.held[0].n, 0);
	fx_heard(u);
	served(f, c, u, "/b");
	/* one without the host: the idle connection closes, a busy one after its answer */
	fx_say(f, c, GET("/c"));
	fx_heard(u);
	struct fx_config *other = fx_config_new(2, 1);
	other->weighted[0][0].slot = 1;
	other->endpoints[0].n_endpoints = 0;
	fx_publish(f, other);
	assert_false(u->is_dead);
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "hello from v1a");
	assert_true(u->is_dead);
	fx_turn(f);
	assert_int_equal(f->old[1]->c.held[0].n, 0);
	fx_say(f, c, GET("/d"));
	u = fx_up_open(f);
	assert_int_equal(u->ip[15], 11);
	fx_say(f, u, OK_15);
	/* one without the listener: the client's idle connection closes */
	struct fx_config *none = fx_config_new(2, 1);
	none->c.n_listeners = 0;
	fx_publish(f, none);
	assert_true(c->is_dead);
	assert_false(f->listens);
	fx_free(f);
}

static void test_drain(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *idle = fx_connect(f), *busy = fx_connect(f);
	struct mesh_stats stats;
	fx_say(f, busy, GET("/a"));
	struct fx_stream *u = fx_up_open(f);
	f->w->draining = true;
	mesh_drain(f->w);
	assert_true(idle->is_dead);
	assert_false(busy->is_dead);
	mesh_stats_get(f->w, &stats);
	assert_int_equal(stats.n_downstream, 1);
	assert_int_equal(stats.n_requests, 1);
	assert_null(fx_connect(f));
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(busy), "connection: close\r\n");
	assert_true(busy->is_released);
	mesh_stats_get(f->w, &stats);
	assert_int_equal(stats.n_downstream, 0);
	assert_int_equal(stats.n_requests, 0);
	fx_free(f);
}

/* Every pool runs dry at every point: an answer or a reset, and nothing is lost. */
static void test_memory(void **state)
{
	(void)state;
	for (unsigned int pool = 0; pool < 3; pool++)
		for (uint32_t left = 0; left < 12; left++) {
			struct fx_config *cfg = fx_config_new(1, 1);
			cfg->retry = (struct mesh_retry_policy){.num_retries = 2, .retry_on = MESH_RETRY_5XX};
			cfg->route[0].route.retry = &cfg->retry;
			struct fx *f = begin(cfg);
			struct fx_stream *c = fx_connect(f);
			struct rte_mempool *p = pool == 0 ? f->w->chunk_pool : pool == 1 ? f->w->mbuf_pool : f->w->indirect_pool;
			static const char request[] = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabcdef";
			t_chain(f->w, &c->s.rx, request, sizeof(request) - 1, 0);
			struct foil_chain answer = {0};
			t_chain(f->w, &answer, OK_15, sizeof(OK_15) - 1, 0);
			t_pool_drain(p, left);
			c->s.user->readable(f->w, &c->s);
			if (f->n_connects && !f->up[0]->is_dead) {
				fx_opened(f, f->up[0]);
				if (!f->up[0]->is_dead) {
					foil_chain_move(&f->up[0]->s.rx, &answer);
					f->up[0]->s.user->readable(f->w, &f->up[0]->s);
				}
			}
			foil_chain_clear(&answer);
			t_advance(f->w, 300000);
			t_pool_refill(p);
			if (!c->is_dead)
				fx_closed(f, c, STREAM_END_RESET);
			fx_turn(f);
			fx_free(f);
		}
}

static void test_blocks_run_out(void **state)
{
	(void)state;
	struct fx *f = fx_new((struct t_worker_params){.seed = 1}, fx_config_new(1, 1), 1, 2);
	struct fx_stream *a = fx_connect(f), *b = fx_connect(f);
	fx_say(f, a, GET("/1"));
	assert_null(fx_connect(f)); /* and one at rest makes room for the next */
	assert_int_equal(t_reason(f->w, MESH, CONNECTIONS_EXHAUSTED), 1);
	assert_int_equal(t_counter(f->w, MESH, DOWNSTREAM_REAPED), 1);
	assert_true(b->is_released);
	assert_false(a->is_dead);
	fx_turn(f);
	b = fx_connect(f);
	assert_non_null(b);
	fx_say(f, b, GET("/2"));
	t_assert_has(fx_heard(b), "HTTP/1.1 503 Service Unavailable\r\n");
	assert_true(b->is_dead);
	assert_int_equal(t_reason(f->w, MESH, REQUESTS_EXHAUSTED), 1);
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(a), "hello");
	fx_turn(f);
	fx_heard(u);
	served(f, a, u, "/3");
	fx_free(f);
}

static void only_elsewhere(struct fx_config *c)
{
	static const struct mesh_cidr elsewhere = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 203, [13] = 0, [14] = 113}, .len = 120};

	c->chain.destination_cidrs = &elsewhere;
	c->chain.n_destination_cidrs = 1;
}

static void test_no_chain(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	only_elsewhere(cfg);
	struct fx *f = begin(cfg);
	assert_null(fx_connect(f));
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_NR);
	assert_string_equal(fx_last(f, 1)->details, "filter_chain_not_found");
	fx_free(f);
}

/* Chains by server name and address: the more exact, then the first. */
static void test_chain_choice(void **state)
{
	(void)state;
	static const struct mesh_cidr net = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 18}, .len = 96 + 15};
	static const struct foil_slice exact[] = {{"a.example.com", 13}}, wild[] = {{"*.example.com", 13}}, wilder[] = {{"*.com", 5}};
	const struct mesh_chain chains[] = {
		{.server_names = wilder, .n_server_names = 1}, {.server_names = wild, .n_server_names = 1}, {.server_names = exact, .n_server_names = 1},
		{.n_server_names = 0}, {.destination_cidrs = &net, .n_destination_cidrs = 1},
	};
	const struct mesh_listener l = {.chains = chains, .n_chains = 4}, by_address = {.chains = chains, .n_chains = 5};
	const uint8_t here[16] = {[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 19, [15] = 1}, there[16] = {[10] = 0xff, [11] = 0xff, [12] = 10};
	assert_ptr_equal(mesh_chain_choose(&l, here, &(struct mesh_first){.sni = FOIL_SLICE("A.example.com")}), &chains[2]);
	assert_ptr_equal(mesh_chain_choose(&l, here, &(struct mesh_first){.sni = FOIL_SLICE("b.example.com")}), &chains[1]);
	assert_ptr_equal(mesh_chain_choose(&l, here, &(struct mesh_first){.sni = FOIL_SLICE("example.com")}), &chains[0]);
	assert_ptr_equal(mesh_chain_choose(&l, here, &(struct mesh_first){.sni = FOIL_SLICE("example.org")}), &chains[3]);
	assert_ptr_equal(mesh_chain_choose(&l, here, &(struct mesh_first){.is_tls = false}), &chains[3]);
	assert_ptr_equal(mesh_chain_choose(&by_address, here, &(struct mesh_first){.is_tls = false}), &chains[4]);
	assert_ptr_equal(mesh_chain_choose(&by_address, there, &(struct mesh_first){.is_tls = false}), &chains[3]);
}

/* One port for plaintext, the mesh's mTLS and other TLS (features.md PA-3): told apart by first bytes and offered protocols. */
static void test_chain_choice_by_first_bytes(void **state)
{
	static const struct foil_slice of_mesh[] = {{"istio", 5}, {"istio-http/1.1", 14}};
	const struct mesh_chain chains[] = {
		{.transport = MESH_TRANSPORT_TLS}, {.transport = MESH_TRANSPORT_TLS, .application_protocols = of_mesh, .n_application_protocols = 2},
		{.transport = MESH_TRANSPORT_PLAINTEXT},
	};
	const struct mesh_listener l = {.chains = chains, .n_chains = 3}, strict = {.chains = chains + 1, .n_chains = 1};
	const uint8_t here[16] = {0};

	(void)state;
	assert_ptr_equal(mesh_chain_choose(&l, here, &(struct mesh_first){.is_tls = false}), &chains[2]);
	assert_ptr_equal(mesh_chain_choose(&l, here, &(struct mesh_first){.is_tls = true}), &chains[0]);
	assert_ptr_equal(mesh_chain_choose(&l, here, &(struct mesh_first){.is_tls = true, .alpn = FOIL_SLICE("\2h2\5istio")}), &chains[1]);
	assert_ptr_equal(mesh_chain_choose(&l, here, &(struct mesh_first){.is_tls = true, .alpn = FOIL_SLICE("\6istio2\2h2")}), &chains[0]);
	assert_ptr_equal(mesh_chain_choose(&l, here, &(struct mesh_first){.is_tls = true, .is_any_alpn = true}), &chains[1]);
	assert_null(mesh_chain_choose(&strict, here, &(struct mesh_first){.is_tls = false}));
	assert_null(mesh_chain_choose(&strict, here, &(struct mesh_first){.is_tls = true, .alpn = FOIL_SLICE("\2h2")}));
	assert_null(mesh_chain_choose(&strict, here, &(struct mesh_first){.is_tls = true, .alpn = FOIL_SLICE("\377istio")})); /* a length beyond the list */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain_choice_by_first_bytes),
		cmocka_unit_test(test_plain), cmocka_unit_test(test_pipelined),
		cmocka_unit_test(test_the_routes_header_operations_follow_the_destinations), cmocka_unit_test(test_body),
		cmocka_unit_test(test_no_route_no_cluster_no_host), cmocka_unit_test(test_original_destinations),
		cmocka_unit_test(test_bad_requests), cmocka_unit_test(test_direct_and_redirect),
		cmocka_unit_test(test_upstream_ends), cmocka_unit_test(test_upstream_ends_late), cmocka_unit_test(test_connect_fails),
		cmocka_unit_test(test_client_leaves), cmocka_unit_test(test_route_timeout), cmocka_unit_test(test_idle_and_overall),
		cmocka_unit_test(test_a_routes_idle_time_on_a_connection_that_was_used_before),
		cmocka_unit_test(test_early_answer), cmocka_unit_test(test_informational), cmocka_unit_test(test_upgrade),
		cmocka_unit_test(test_backpressure_down), cmocka_unit_test(test_backpressure_up), cmocka_unit_test(test_snapshot_change),
		cmocka_unit_test(test_drain), cmocka_unit_test(test_memory), cmocka_unit_test(test_blocks_run_out), cmocka_unit_test(test_no_chain),
		cmocka_unit_test(test_chain_choice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
