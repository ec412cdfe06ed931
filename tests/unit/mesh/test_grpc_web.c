/* gRPC-Web: bytes by hand after the protocol's page and what the oracle was seen to make of them (tests/recorded/grpc-web.yaml). */
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/mesh/runtime.h"

#define HEAD(type, extra, length) \
	"POST /test.Svc/Call HTTP/1.1\r\nhost: a\r\ncontent-type: application/" type "\r\n" extra "content-length: " length "\r\n\r\n"
#define MESSAGE "\0\0\0\0\2hi"

static struct fx *begin(void)
{
	struct fx_config *c = fx_config_new(1, 1);

	c->chain.http.grpc_web = true;
	return fx_new((struct t_worker_params){.seed = 7, .n_chunks = 1023}, c, 64, 64);
}

/* The body behind the head of what was sent to s, without chunk sizes; into out. */
static uint32_t body_of(const struct fx_stream *s, uint8_t *out)
{
	const char *at = memmem(s->out, s->n_out, "\r\n\r\n", 4), *end = s->out + s->n_out;
	uint32_t n = 0;

	assert_non_null(at);
	for (at += 4; at < end;) {
		char *behind;
		unsigned long size = strtoul(at, &behind, 16);
		at = behind + 2;
		memcpy(out + n, at, size);
		n += (uint32_t)size;
		at += size + 2;
	}
	return n;
}

static void say_cut(struct fx *f, struct fx_stream *s, const void *data, uint32_t n_bytes, uint32_t cut)
{
	const uint8_t *at = data;

	fx_say_bytes(f, s, at, cut);
	if (cut < n_bytes && !s->is_dead)
		fx_say_bytes(f, s, at + cut, n_bytes - cut);
}

static void test_requests_become_grpc(void **state)
{
	static const struct {
		const char *head, *body;
		uint32_t n_body;
		const char *up;
		uint32_t n_up;
	} cases[] = {
		{HEAD("grpc-web", "", "7"), MESSAGE, 7, MESSAGE, 7},
		{HEAD("grpc-web+proto", "", "7"), MESSAGE, 7, MESSAGE, 7},
		{HEAD("grpc-web-text", "", "12"), "AAAAAAJoaQ==", 12, MESSAGE, 7},
		{HEAD("grpc-web-text+proto", "", "8"), "AAAAAAFo", 8, "\0\0\0\0\1h", 6},
		{HEAD("grpc-web-text", "", "8"), "AAAAAAA=", 8, "\0\0\0\0\0", 5},
	};
	uint8_t body[64];

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++)
		for (uint32_t cut = 1; cut <= cases[i].n_body; cut++) {
			struct fx *f = begin();
			struct fx_stream *c = fx_connect(f);
			fx_say(f, c, cases[i].head);
			say_cut(f, c, cases[i].body, cases[i].n_body, cut);
			struct fx_stream *u = fx_up_open(f);
			const char *sent = fx_peek(u);
			t_assert_has(sent, "\r\ncontent-type: application/grpc\r\n");
			t_assert_has(sent, "\r\ngrpc-accept-encoding: identity\r\n");
			t_assert_has(sent, "\r\nte: trailers\r\n");
			t_assert_has(sent, "\r\ntransfer-encoding: chunked\r\n");
			t_assert_has_not(sent, "content-length");
			assert_int_equal(body_of(u, body), cases[i].n_up);
			assert_memory_equal(body, cases[i].up, cases[i].n_up);
			fx_free(f);
		}
}

/* A filter behind it holds the request meanwhile. */
static void test_what_comes_during_a_delay_is_decoded_too(void **state)
{
	static const struct mesh_fault fault = {.delay_per_million = 1000000, .delay_us = 50000};
	struct fx_config *cfg = fx_config_new(1, 1);
	uint8_t body[64];

	cfg->chain.http.grpc_web = true;
	cfg->route[0].fault = &fault;
	struct fx *f = fx_new((struct t_worker_params){.seed = 7, .n_chunks = 1023}, cfg, 64, 64);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, HEAD("grpc-web-text", "", "12") "AAAAA");
	fx_say(f, c, "AJoaQ");
	assert_int_equal(f->n_connects, 0);
	t_advance(f->w, 60000);
	fx_say(f, c, "==");
	struct fx_stream *u = fx_up_open(f);
	assert_int_equal(body_of(u, body), 7);
	assert_memory_equal(body, MESSAGE, 7);
	fx_free(f);
	(void)state;
}

static void test_text_that_is_no_base64_is_400(void **state)
{
	static const char *const bodies[] = {"!!!!", "AAAA=AAA", "AA=A", "AAAAAA==AmhpCg==", "AAAAA", "====", "A===", "AAA\n"};
	char head[300];

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(bodies); i++)
		for (uint32_t cut = 1; cut <= strlen(bodies[i]); cut++) {
			struct fx *f = begin();
			struct fx_stream *c = fx_connect(f);
			(void)snprintf(head, sizeof(head),
				       "POST /p HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web-text\r\ncontent-length: %zu\r\n\r\n",
				       strlen(bodies[i])); /* fits */
			fx_say(f, c, head);
			say_cut(f, c, bodies[i], (uint32_t)strlen(bodies[i]), cut);
			const char *a = fx_peek(c);
			t_assert_has(a, "HTTP/1.1 400 Bad Request\r\n");
			t_assert_has(a, "content-type: application/grpc-web+proto\r\n");
			t_assert_has(a, "grpc-message: Bad gRPC-web request, invalid base64 data.\r\n");
			t_assert_has(a, "grpc-status: 13\r\n");
			t_assert_has(a, "content-length: 0\r\n");
			assert_string_equal(fx_last(f, 1)->details, "grpc_base_64_decode_failed");
			fx_free(f);
		}
}

static void test_what_is_no_grpc_web_goes_on_as_it_is(void **state)
{
	static const char *const types[] = {"grpc", "grpc-web+json", "grpc-web; charset=utf-8", "GRPC-WEB", "json"};
	char head[300];

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(types); i++) {
		struct fx *f = begin();
		struct fx_stream *c = fx_connect(f);
		(void)snprintf(head, sizeof(head), "POST /p HTTP/1.1\r\nhost: a\r\ncontent-type: application/%s\r\ncontent-length: 4\r\n\r\n!!!!", types[i]);
		fx_say(f, c, head);
		struct fx_stream *u = fx_up_open(f);
		t_assert_has(fx_peek(u), types[i]);
		t_assert_has(fx_peek(u), "content-length: 4\r\n");
		t_assert_has(fx_peek(u), "\r\n\r\n!!!!");
		fx_free(f);
	}
}

/* An answer over HTTP/1.1, which has its trailers dropped by the codec: frames alone; cut at every byte. */
static void test_text_answers_are_base64_by_frames(void **state)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ncontent-length: 25\r\n\r\n"
				     "\0\0\0\0\5hello" "\0\0\0\0\0" "\0\0\0\0\5world";
	static const char text[] = "AAAAAAVoZWxsbw==" "AAAAAAA=" "AAAAAAV3b3JsZA==";
	uint8_t body[200];

	(void)state;
	for (uint32_t cut = sizeof(answer) - 26; cut < sizeof(answer); cut++) {
		struct fx *f = begin();
		struct fx_stream *c = fx_connect(f);
		fx_say(f, c, HEAD("grpc-web-text", "accept: application/grpc-web-text\r\n", "0"));
		struct fx_stream *u = fx_up_open(f);
		say_cut(f, u, answer, sizeof(answer) - 1, cut);
		t_assert_has(fx_peek(c), "content-type: application/grpc-web-text+proto\r\n");
		assert_int_equal(body_of(c, body), sizeof(text) - 1);
		assert_memory_equal(body, text, sizeof(text) - 1);
		fx_free(f);
	}
}

static void test_answers_that_are_no_grpc_become_a_status(void **state)
{
	static const struct {
		const char *answer, *status, *code, *message;
	} cases[] = {
		{"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\nx-a: b\r\n\r\nhello from v1a\n", "200 OK", "2", "hello from v1a%0A"},
		{"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\nx-a: b\r\n\r\n3\r\n1%2\r\n1\r\n3\r\n0\r\n\r\n", "404 Not Found", "12", "1%2523"},
		{"HTTP/1.1 503 X\r\ncontent-type: application/grpc\r\ncontent-length: 1\r\nx-a: b\r\n\r\n!", "503 Service Unavailable", "14", "!"},
	};
	char want[100];

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct fx *f = begin();
		struct fx_stream *c = fx_connect(f);
		fx_say(f, c, HEAD("grpc-web", "", "0"));
		fx_say(f, fx_up_open(f), cases[i].answer);
		const char *a = fx_peek(c);
		t_assert_has(a, cases[i].status);
		t_assert_has(a, "content-type: application/grpc-web+proto\r\n");
		t_assert_has(a, "x-a: b\r\n");
		t_assert_has(a, "content-length: 0\r\n");
		(void)snprintf(want, sizeof(want), "grpc-status: %s\r\n", cases[i].code);
		t_assert_has(a, want);
		(void)snprintf(want, sizeof(want), "grpc-message: %s\r\n", cases[i].message);
		t_assert_has(a, want);
		(void)snprintf(want, sizeof(want), "%d", fx_last(f, 1)->r.grpc_status);
		assert_string_equal(want, cases[i].code);
		/* the connection goes on */
		fx_say(f, c, HEAD("grpc-web", "", "0"));
		assert_int_equal(f->n_connects, 1);
		fx_free(f);
	}
}

static void test_an_answer_too_long_to_be_a_message_is_cut(void **state)
{
	static char body[4096];
	struct fx *f = begin();
	struct fx_stream *c = fx_connect(f);

	(void)state;
	memset(body, 'x', sizeof(body));
	fx_say(f, c, HEAD("grpc-web", "", "0"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 500 X\r\ncontent-length: 409600\r\n\r\n");
	for (int i = 0; i < 100; i++)
		fx_say_bytes(f, u, body, sizeof(body));
	t_assert_has(fx_peek(c), "grpc-message: xxxxxxxxxx");
	t_assert_has(fx_peek(c), "content-length: 0\r\n");
	assert_int_equal(fx_last(f, 1)->r.status, 500);
	fx_free(f);
}

static void test_an_origin_that_dies_while_its_answer_is_collected(void **state)
{
	struct fx *f = begin();
	struct fx_stream *c = fx_connect(f);

	(void)state;
	fx_say(f, c, HEAD("grpc-web", "", "0"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
	fx_closed(f, u, STREAM_END_RESET);
	const struct fx_record *r = fx_last(f, 1);
	assert_int_equal(r->r.status, 503);
	t_assert_has(fx_peek(c), "grpc-status: 14\r\n");
	fx_free(f);
}

/* What is made here: the HTTP status stays, as the oracle has it. */
static void test_local_replies_have_their_status_in_headers(void **state)
{
	struct fx_config *cfg = fx_config_new(1, 1);

	(void)state;
	cfg->chain.http.grpc_web = true;
	cfg->endpoints[0].n_endpoints = 0;
	struct fx *f = fx_new((struct t_worker_params){.seed = 7, .n_chunks = 1023}, cfg, 64, 64);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, HEAD("grpc-web", "", "0"));
	const char *a = fx_peek(c);
	t_assert_has(a, "HTTP/1.1 503 Service Unavailable\r\n");
	t_assert_has(a, "content-type: application/grpc-web+proto\r\n");
	t_assert_has(a, "grpc-status: 14\r\n");
	t_assert_has(a, "grpc-message: no healthy upstream\r\n");
	t_assert_has(a, "content-length: 0\r\n");
	fx_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_become_grpc),
		cmocka_unit_test(test_what_comes_during_a_delay_is_decoded_too),
		cmocka_unit_test(test_text_that_is_no_base64_is_400),
		cmocka_unit_test(test_what_is_no_grpc_web_goes_on_as_it_is),
		cmocka_unit_test(test_text_answers_are_base64_by_frames),
		cmocka_unit_test(test_answers_that_are_no_grpc_become_a_status),
		cmocka_unit_test(test_an_answer_too_long_to_be_a_message_is_cut),
		cmocka_unit_test(test_an_origin_that_dies_while_its_answer_is_collected),
		cmocka_unit_test(test_local_replies_have_their_status_in_headers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
