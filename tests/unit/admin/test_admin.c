/* ctrl/admin: the parser at every cut and over its refusals, and the server over real loopback sockets with a hand-moved clock. */
#include "tests/unit/support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctrl/admin/admin.h"
#include "ctrl/admin/admin_priv.h"

static uint16_t port;
static uint64_t now_ms;

static void test_parse_whole_request_and_every_cut_of_it(void **state)
{
	static const char text[] = "POST /a%20b?x=%31 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
	struct adm_parsed p;

	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		char *exact = malloc(n + 1); /* so that ASan sees a read past the end */
		memcpy(exact, text, n);
		assert_int_equal(adm_parse(exact, n, &p), ADM_PARSE_MORE);
		free(exact);
	}
	assert_int_equal(adm_parse(text, sizeof(text) - 1, &p), ADM_PARSE_OK);
	assert_true(foil_slice_eq(p.request.method, FOIL_SLICE("POST")));
	assert_true(foil_slice_eq(p.request.path, FOIL_SLICE("/a b")));
	assert_true(foil_slice_eq(p.request.query, FOIL_SLICE("x=%31")));
	assert_true(foil_slice_eq(p.request.body, FOIL_SLICE("hello")));
	assert_int_equal(p.n_bytes, sizeof(text) - 1);
	assert_true(p.keep_alive);
	(void)state;
}

static void test_parse_refusals(void **state)
{
	static const struct {
		const char *text;
		unsigned int status;
	} cases[] = {
		{"\r\n\r\n", 400},
		{"GET\r\n\r\n", 400},
		{"GET /\r\n\r\n", 400},
		{"GET  / HTTP/1.1\r\nhost: h\r\n\r\n", 400},
		{"G T / HTTP/1.1\r\nhost: h\r\n\r\n", 400},
		{"GET / HTTP/1.1 \r\nhost: h\r\n\r\n", 400},
		{"GET / http/1.1\r\nhost: h\r\n\r\n", 400},
		{"GET / HTTP/2.0\r\nhost: h\r\n\r\n", 505},
		{"GET http://h/ HTTP/1.1\r\nhost: h\r\n\r\n", 400},
		{"GET /%0a HTTP/1.1\r\nhost: h\r\n\r\n", 400},
		{"GET /%0 HTTP/1.1\r\nhost: h\r\n\r\n", 400},
		{"GET /% HTTP/1.1\r\nhost: h\r\n\r\n", 400},
		{"GET /%zz HTTP/1.1\r\nhost: h\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nhost : h\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nhost: h\r\n folded\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nhost: h\rx: y\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n", 501},
		{"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 1, 1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nhost: h\r\ncontent-length:\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx", 400},
		{"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999999999999999\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 1048577\r\n\r\n", 413},
	};
	struct adm_parsed p;

	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		enum adm_parse result = adm_parse(cases[i].text, strlen(cases[i].text), &p);
		if (result == ADM_PARSE_OK || result == ADM_PARSE_MORE || p.status != cases[i].status)
			fail_msg("case %zu: result %d status %u: %s", i, (int)result, p.status, cases[i].text);
	}
	(void)state;
}

static void test_parse_head_limits(void **state)
{
	static char big[ADM_HEAD_BYTES_MAX + 10];
	struct adm_parsed p;

	memset(big, 'a', sizeof(big));
	assert_int_equal(adm_parse(big, ADM_HEAD_BYTES_MAX - 1, &p), ADM_PARSE_MORE);
	assert_int_equal(adm_parse(big, ADM_HEAD_BYTES_MAX, &p), ADM_PARSE_TOO_LONG);
	assert_int_equal(p.status, 431);
	int n = snprintf(big, sizeof(big), "GET / HTTP/1.1\r\nhost: h\r\n");
	for (int i = 0; i < 70; i++)
		n += snprintf(big + n, sizeof(big) - (size_t)n, "x-%d: y\r\n", i);
	n += snprintf(big + n, sizeof(big) - (size_t)n, "\r\n");
	assert_int_equal(adm_parse(big, (size_t)n, &p), ADM_PARSE_TOO_LONG);
	assert_int_equal(p.status, 431);
	(void)state;
}

/* ---- the server ---- */

#define ANSWER_BYTES 241 /* head and body of /hello */
static void hello(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	(void)q;
	adm_reply_printf(r, "hello %s", (const char *)arg);
}

static void echo(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	(void)arg;
	adm_reply_bytes(r, q->body.data, q->body.n_bytes);
}

#define BIG_BYTES (8u << 20)
static void big_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	(void)arg;
	(void)q;
	for (uint32_t i = 0; i < BIG_BYTES / 16; i++)
		adm_reply_bytes(r, "0123456789abcdef", 16);
}

static struct adm_server *serve(void)
{
	struct foil_error err = {0};
	struct adm_server *s = NULL;

	for (int tries = 0; tries < 50 && !s; tries++) { /* another process may have the port */
		port = (uint16_t)(20000 + (getpid() * 7 + tries * 131) % 20000);
		const struct adm_route routes[] = {
			{port, "GET", "/hello", "", hello, (void *)(uintptr_t)"world"},
			{port, "POST", "/echo", "", echo, NULL},
			{port, "GET", "/big", "", big_page, NULL},
		};
		now_ms = 1000;
		if (adm_open(&s, &(struct adm_params){.routes = routes, .n_routes = 3, .now_ms = now_ms}, &err) != 0)
			s = NULL;
	}
	if (!s)
		fail_msg("%s", err.text);
	return s;
}

static int client(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0)
		assert_int_equal(errno, EINPROGRESS);
	return fd;
}

static void put(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Turns the server until the client has n_bytes or its connection ends; returns what came, terminated. */
static size_t take(struct adm_server *s, int fd, char *out, size_t n_room, size_t n_bytes)
{
	size_t n = 0;

	for (int i = 0; i < 20000 && n < n_bytes && n < n_room - 1; i++) {
		adm_turn(s, now_ms);
		ssize_t got = recv(fd, out + n, n_room - 1 - n, 0);
		if (got == 0)
			break;
		if (got > 0)
			n += (size_t)got;
		else if (errno == EAGAIN)
			(void)poll(&(struct pollfd){.fd = adm_fd(s), .events = POLLIN}, 1, 1);
		else
			break;
	}
	out[n] = 0;
	return n;
}

static void ask(struct adm_server *s, const char *request, char *out, size_t n_room)
{
	int fd = client();

	adm_turn(s, now_ms);
	put(fd, request);
	take(s, fd, out, n_room, SIZE_MAX);
	close(fd);
}

static void test_server_answers_get_head_post_and_unknown(void **state)
{
	struct adm_server *s = serve();
	char out[4096];

	ask(s, "GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", out, sizeof(out));
	assert_true(foil_slice_has_prefix(foil_slice_str(out), FOIL_SLICE("HTTP/1.1 200 OK\r\n")));
	assert_non_null(strstr(out, "content-length: 11\r\n"));
	assert_non_null(strstr(out, "x-content-type-options: nosniff\r\nx-frame-options: DENY\r\n"));
	assert_non_null(strstr(out, "\r\ncontent-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"));
	assert_true(foil_slice_has_suffix(foil_slice_str(out), FOIL_SLICE("\r\n\r\nhello world")));
	ask(s, "HEAD /hello HTTP/1.0\r\n\r\n", out, sizeof(out));
	assert_non_null(strstr(out, "content-length: 11\r\n"));
	assert_true(foil_slice_has_suffix(foil_slice_str(out), FOIL_SLICE("\r\n\r\n")));
	ask(s, "POST /echo HTTP/1.0\r\nContent-Length: 4\r\n\r\nping", out, sizeof(out));
	assert_true(foil_slice_has_suffix(foil_slice_str(out), FOIL_SLICE("\r\n\r\nping")));
	ask(s, "GET /nothing HTTP/1.0\r\n\r\n", out, sizeof(out));
	assert_non_null(strstr(out, "404 Not Found"));
	ask(s, "DELETE /hello HTTP/1.0\r\n\r\n", out, sizeof(out));
	assert_non_null(strstr(out, "405 Method Not Allowed"));
	ask(s, "nonsense\r\n\r\n", out, sizeof(out));
	assert_non_null(strstr(out, "400 Bad Request"));
	assert_non_null(strstr(out, "content-security-policy: default-src 'none'"));
	assert_int_equal(adm_counters(s).n_bad_requests, 1);
	adm_close(s);
	(void)state;
}

static void test_server_takes_requests_byte_by_byte_and_pipelined(void **state)
{
	static const char one[] = "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n";
	struct adm_server *s = serve();
	char out[16384], many[40 * sizeof(one)] = "";
	int fd = client();

	adm_turn(s, now_ms);
	for (size_t i = 0; i < sizeof(one) - 1; i++) {
		char byte[2] = {one[i], 0};
		put(fd, byte);
		adm_turn(s, now_ms);
	}
	assert_int_equal(take(s, fd, out, sizeof(out), ANSWER_BYTES), ANSWER_BYTES);
	for (int i = 0; i < 40; i++)
		memcpy(many + (size_t)i * (sizeof(one) - 1), one, sizeof(one));
	put(fd, many);
	size_t n = take(s, fd, out, sizeof(out), 40 * ANSWER_BYTES);
	int answers = 0;
	for (char *at = out; (at = strstr(at, "hello world")); at++)
		answers++;
	if (answers != 40)
		fail_msg("%d answers in %zu bytes", answers, n);
	close(fd);
	adm_close(s);
	(void)state;
}

static void test_server_writes_a_big_page_to_a_slow_reader(void **state)
{
	struct adm_server *s = serve();
	char *out = malloc(BIG_BYTES + 4096);
	int fd = client();

	adm_turn(s, now_ms);
	put(fd, "GET /big HTTP/1.0\r\n\r\n");
	for (int i = 0; i < 100; i++) /* nobody reads: the server must not spin nor block */
		adm_turn(s, now_ms);
	size_t n = take(s, fd, out, BIG_BYTES + 4096, SIZE_MAX);
	assert_true(n > BIG_BYTES);
	assert_memory_equal(out + n - 16, "0123456789abcdef", 16);
	close(fd);
	free(out);
	adm_close(s);
	(void)state;
}

static void test_server_ends_half_requests_and_idle_connections(void **state)
{
	struct adm_server *s = serve();
	char out[1024];
	int half = client(), idle = client();

	adm_turn(s, now_ms);
	put(half, "GET /hel");
	for (int i = 0; i < 50; i++)
		adm_turn(s, now_ms);
	now_ms += ADM_HEAD_MS + 1;
	assert_true(take(s, half, out, sizeof(out), SIZE_MAX) > 0);
	assert_non_null(strstr(out, "408 Request Timeout"));
	now_ms += ADM_IDLE_MS;
	assert_int_equal(take(s, idle, out, sizeof(out), SIZE_MAX), 0);
	assert_int_equal(adm_counters(s).n_timeouts, 2);
	close(half);
	close(idle);
	adm_close(s);
	(void)state;
}

static void test_server_refuses_connections_past_its_limit_and_recovers(void **state)
{
	struct adm_server *s = serve();
	int fds[ADM_CONNECTIONS_MAX + 5];
	char out[512];

	for (size_t i = 0; i < FOIL_COUNT_OF(fds); i++) {
		fds[i] = client();
		adm_turn(s, now_ms);
	}
	for (int i = 0; i < 50; i++)
		adm_turn(s, now_ms);
	assert_int_equal(adm_counters(s).n_accepted, ADM_CONNECTIONS_MAX);
	assert_int_equal(adm_counters(s).n_refused_connections, 5);
	for (size_t i = 0; i < FOIL_COUNT_OF(fds); i++)
		close(fds[i]);
	for (int i = 0; i < 50; i++)
		adm_turn(s, now_ms);
	ask(s, "GET /hello HTTP/1.0\r\n\r\n", out, sizeof(out));
	assert_non_null(strstr(out, "200 OK"));
	adm_close(s);
	(void)state;
}

static void test_server_says_when_a_port_is_taken(void **state)
{
	struct adm_server *s = serve(), *second = NULL;
	struct foil_error err = {0};
	const struct adm_route route = {port, "GET", "/", "", hello, NULL};

	assert_int_equal(adm_open(&second, &(struct adm_params){.routes = &route, .n_routes = 1}, &err), -EADDRINUSE);
	assert_null(second);
	assert_non_null(strstr(err.text, "another foil-agent"));
	assert_int_equal(adm_open(&second, &(struct adm_params){.address = "not an address", .routes = &route, .n_routes = 1}, &err), -EINVAL);
	adm_close(s);
	(void)state;
}

/* ---- replies and standard pages ---- */

static void test_reply_json_escapes_and_repairs(void **state)
{
	struct adm_reply r;

	adm_reply_init(&r);
	adm_reply_json(&r, "a\"b\\c\n\x01\xc3\xa4\xff\xc0\x80\xed\xa0\x80\xe2\x82", 17);
	adm_reply_json_str(&r, NULL);
	adm_reply_bytes(&r, "", 1);
	assert_string_equal(r.data, "\"a\\\"b\\\\c\\u000a\\u0001\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
				    "\xef\xbf\xbd\xef\xbf\xbd\"null");
	adm_reply_fini(&r);
	(void)state;
}

static void fake_status(void *arg, struct adm_status *out)
{
	*out = *(const struct adm_status *)arg;
}

static void fake_diagnostics(void *arg, adm_diagnostic_fn each, void *to)
{
	(void)arg;
	each(to, &(struct adm_diagnostic){.is_error = true, .file = "a.yaml", .line = 3, .column = 7, .resource = "VirtualService/app/web",
					  .field = "spec.http", .text = "say \"what\""});
	each(to, &(struct adm_diagnostic){.file = "b.yaml", .text = "a warning"});
}

static void fake_text(void *arg, struct adm_reply *r)
{
	(void)arg;
	adm_reply_printf(r, "foil_up 1\n");
}

static void fake_dump(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	(void)arg;
	(void)q;
	adm_reply_printf(r, "{}\n");
}

static void call_page(const struct adm_sources *src, uint16_t at, const char *path, const char *query, struct adm_reply *r)
{
	struct adm_route routes[ADM_STANDARD_MAX];
	size_t n = adm_standard_routes(routes, src);
	struct adm_request q = {.path = foil_slice_str(path), .query = foil_slice_str(query)};

	adm_reply_init(r);
	for (size_t i = 0; i < n; i++)
		if (routes[i].port == at && strcmp(routes[i].path, path) == 0)
			routes[i].handler(routes[i].arg, &q, r);
	adm_reply_bytes(r, "", 1);
}

static void test_standard_pages_say_state_and_reasons(void **state)
{
	struct adm_status st = {.agent_version = "1", .config_version = "v2", .running_version = "v1", .snapshot = ADM_SNAPSHOT_REJECTED,
				.is_connected = true, .last_reason = "no listener"};
	struct adm_sources src = {&st, fake_status, fake_diagnostics, fake_text, fake_dump};
	struct adm_reply r;

	call_page(&src, 15000, "/status", "", &r);
	assert_non_null(strstr(r.data, "\"state\": \"rejected\""));
	assert_non_null(strstr(r.data, "\"no listener\""));
	assert_non_null(strstr(r.data, "a.yaml:3:7: VirtualService/app/web spec.http: say \\\"what\\\""));
	assert_null(strstr(r.data, "a warning"));
	adm_reply_fini(&r);
	call_page(&src, 15000, "/diagnostics", "", &r);
	assert_string_equal(r.data, "a.yaml:3:7: error: VirtualService/app/web spec.http: say \"what\"\nb.yaml: warning: a warning\n");
	adm_reply_fini(&r);
	call_page(&src, 15000, "/diagnostics", "format=json", &r);
	assert_non_null(strstr(r.data, "\"severity\": \"warning\", \"file\": \"b.yaml\""));
	adm_reply_fini(&r);
	call_page(&src, 15021, "/healthz/ready", "", &r);
	assert_int_equal(r.status, 200);
	adm_reply_fini(&r);
	st.is_stalled = true;
	st.stalled_worker = 3;
	call_page(&src, 15021, "/healthz/ready", "", &r);
	assert_int_equal(r.status, 503);
	assert_string_equal(r.data, "not ready: worker 3 stands still\n");
	adm_reply_fini(&r);
	call_page(&src, 15021, "/healthz/live", "", &r);
	assert_int_equal(r.status, 503);
	adm_reply_fini(&r);
	st.is_connected = st.is_stalled = false;
	call_page(&src, 15021, "/healthz/live", "", &r);
	assert_int_equal(r.status, 200); /* a restart would mend nothing */
	adm_reply_fini(&r);
	call_page(&src, 15021, "/healthz/ready", "", &r);
	assert_int_equal(r.status, 503);
	adm_reply_fini(&r);
	call_page(&src, 15090, "/metrics", "", &r);
	assert_string_equal(r.data, "foil_up 1\n");
	adm_reply_fini(&r);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_whole_request_and_every_cut_of_it),
		cmocka_unit_test(test_parse_refusals),
		cmocka_unit_test(test_parse_head_limits),
		cmocka_unit_test(test_server_answers_get_head_post_and_unknown),
		cmocka_unit_test(test_server_takes_requests_byte_by_byte_and_pipelined),
		cmocka_unit_test(test_server_writes_a_big_page_to_a_slow_reader),
		cmocka_unit_test(test_server_ends_half_requests_and_idle_connections),
		cmocka_unit_test(test_server_refuses_connections_past_its_limit_and_recovers),
		cmocka_unit_test(test_server_says_when_a_port_is_taken),
		cmocka_unit_test(test_reply_json_escapes_and_repairs),
		cmocka_unit_test(test_standard_pages_say_state_and_reasons),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
