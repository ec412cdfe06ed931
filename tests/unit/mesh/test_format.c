/* dataplane/mesh/format_compile.c, format.c, format_time.c: Envoy's grammar, its operators' values, and times from the calendar. */
#include <errno.h>

#include "tests/unit/support.h"

#include "dataplane/core/error.h"
#include "dataplane/mesh/header_ops.h"

#define MAPPED(a, b, c, d) {[10] = 0xff, [11] = 0xff, [12] = a, [13] = b, [14] = c, [15] = d}

static const struct stream_addr client = {.ip = MAPPED(198, 18, 0, 2), .port = 55077}, gateway = {.ip = MAPPED(198, 18, 0, 1), .port = 80};
static const struct stream_addr upstream = {.ip = MAPPED(198, 19, 0, 10), .port = 8080}, v6 = {.ip = {0xfd, 0, 0xf0, 0x11, [15] = 2}, .port = 443};

static struct http_header request_headers[] = {{.name = {"x-in", 4}, .value = {"in", 2}}, {.name = {"x-long", 6}, .value = {"abcdef", 6}},
					       {.name = {"x-in", 4}, .value = {"second", 6}}};
static struct http_header response_headers[] = {{.name = {"grpc-status", 11}, .id = HTTP_HDR_GRPC_STATUS, .value = {"14", 2}}};
static const struct http_head request = {.method_text = {"GET", 3}, .scheme = {"http", 4}, .authority = {"web.example.com", 15}, .path = {"/p?a=1&b", 8},
					 .version = HTTP_VERSION_11, .headers = {.list = request_headers, .n = 3, .cap = 3}};
static const struct http_head response = {.status = 200, .headers = {.list = response_headers, .n = 1, .cap = 1}};

static struct mesh_format_ctx context(void)
{
	return (struct mesh_format_ctx){
		.request = &request, .response = &response, .downstream_remote = &client, .downstream_local = &gateway, .upstream_remote = &upstream,
		.upstream_local = &v6, .upstream_cluster = FOIL_SLICE("outbound|8080||one.test"), .route_name = FOIL_SLICE("r1"),
		.details = FOIL_SLICE("via_upstream"), .hostname = FOIL_SLICE("node-1"), .status = 200, .start_wall_us = 1763906123092000u,
		.duration_us = 12999, .bytes_received = 3, .bytes_sent = 15, .attempts = 2,
	};
}

static void check_in(const struct mesh_format_ctx *ctx, const char *text, const char *expected)
{
	struct foil_worker *w = t_worker(0);
	struct foil_blob b = {0};
	struct foil_arena a = {0};
	struct foil_error err = {0};
	struct mesh_format f;
	struct foil_slice out;

	if (mesh_format_compile(&b, foil_slice_str(text), &f, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	assert_int_equal(mesh_format_eval(w, &a, &f, ctx, &out), 0);
	if (!foil_slice_eq(out, foil_slice_str(expected)))
		fail_msg("%s: %.*s, not %s", text, (int)out.n_bytes, out.data, expected);
	foil_arena_reset(w, &a);
	foil_blob_free(&b);
	t_worker_free(w);
}

static void check(const char *text, const char *expected)
{
	struct mesh_format_ctx ctx = context();

	check_in(&ctx, text, expected);
}

static void test_format_values_as_envoy_was_recorded(void **state)
{
	struct mesh_format_ctx ctx = context();

	check("%DOWNSTREAM_REMOTE_ADDRESS%", "198.18.0.2:55077");
	check("%REQUESTED_SERVER_NAME%", "");
	check("%PROTOCOL% %REQ(x-in)%", "HTTP/1.1 in");
	check("%RESPONSE_CODE%", "200");
	check("%RESPONSE_FLAGS%", "-");
	check("%UPSTREAM_HOST%", "198.19.0.10:8080");
	ctx.flags = TELE_FLAG_URX | TELE_FLAG_UF;
	check_in(&ctx, "%RESPONSE_FLAGS%", "UF,URX");
	(void)state;
}

static void test_format_literals_and_percent_signs(void **state)
{
	struct foil_blob b = {0};
	struct mesh_format f;

	check("", "");
	check("plain", "plain");
	check("100%%", "100%");
	check("%%%%", "%%");
	check("%%REQ(x-in)%%", "%REQ(x-in)%");
	check("%%%REQ(x-in)%%%", "%in%");
	check("<%ROUTE_NAME%><%ROUTE_NAME%>", "<r1><r1>");
	assert_int_equal(mesh_format_compile(&b, FOIL_SLICE("50%% of it"), &f, NULL), 0);
	assert_true(f.is_literal && foil_slice_eq(f.literal, FOIL_SLICE("50% of it")));
	foil_blob_free(&b);
	(void)state;
}

static void test_format_headers(void **state)
{
	check("%REQ(X-In)%", "in");
	check("%REQ(x-none?x-in)%", "in");
	check("%REQ(x-none?x-nothing)%", "");
	check("%REQ(x-long):3%", "abc");
	check("%REQ(x-long):30%", "abcdef");
	check("%REQ(x-long):0%", "");
	check("%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:AUTHORITY)% %REQ(:SCHEME)%", "GET /p?a=1&b web.example.com http");
	check("%REQ(host)%", "web.example.com");
	check("%REQ(:other)%", "");
	check("%RESP(grpc-status)% %RESP(:status)%", "14 200");
	check("%REQUEST_HEADER(:METHOD)% %RESPONSE_HEADER(grpc-status)%", "GET 14");
	check("%REQ_WITHOUT_QUERY(:PATH)%", "/p");
	check("%QUERY_PARAM(a)%%QUERY_PARAM(b)%%QUERY_PARAM(c)%", "1");
	(void)state;
}

static void test_format_addresses(void **state)
{
	check("%UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_PORT%", "[fd00:f011::2]:443 fd00:f011::2 443");
	check("%UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%", "198.19.0.10:8080 198.19.0.10 8080");
	check("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "198.18.0.1:80 198.18.0.1 80");
	check("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%", "198.18.0.2 55077");
	check("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "198.18.0.2:55077 198.18.0.2");
	(void)state;
}

static void test_format_numbers_and_names(void **state)
{
	check("%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", "3 15 12 2");
	check("%UPSTREAM_CLUSTER%", "outbound|8080||one.test;"); /* its name in statistics (Envoy driven by istiod) */
	check("%UPSTREAM_HOST_NAME% %DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT%", "198.19.0.10:8080 198.18.0.1");
	check("%UPSTREAM_CLUSTER_RAW% %RESPONSE_CODE_DETAILS% %HOSTNAME%", "outbound|8080||one.test via_upstream node-1");
	check("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%", "Unavailable UNAVAILABLE 14 14");
	(void)state;
}

static void test_format_values_of_trailers_tls_and_times(void **state)
{
	static struct http_header list[] = {{.name = {"x-t", 3}, .value = {"tail", 4}},
					    {.name = {"grpc-status", 11}, .id = HTTP_HDR_GRPC_STATUS, .value = {"5", 1}}};
	static const struct http_headers trailers = {.list = list, .n = 2, .cap = 2};
	static const struct foil_slice sans[] = {{"spiffe://a/b", 12}, {"spiffe://c", 10}};
	static const struct tls_peer peer = {.subject = {"CN=x", 4}, .serial = {"0a", 2}, .uri_sans = sans, .n_uri_sans = 2, .not_after_s = 1763906123};
	static const struct tls_facts tls = {.version = {"TLSv1.3", 7}, .cipher = {"TLS_AES_128_GCM_SHA256", 22}, .peer = &peer};
	struct mesh_format_ctx ctx = context();

	ctx.trailers = &trailers;
	ctx.tls = &tls;
	ctx.upstream_version = HTTP_VERSION_2 + 1;
	ctx.has_request_duration = ctx.has_response_duration = true;
	ctx.request_duration_us = 2500;
	ctx.response_duration_us = 4999;
	ctx.flags = TELE_FLAG_UF | TELE_FLAG_URX;
	check_in(&ctx, "%TRAILER(X-T)% %TRAILER(x-none?GRPC-STATUS)% %TRAILER(x-t):2%|%TRAILER(x-none)%", "tail 5 ta|");
	check_in(&ctx, "%UPSTREAM_PROTOCOL% %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER%", "HTTP/2 TLSv1.3 TLS_AES_128_GCM_SHA256");
	check_in(&ctx, "%DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_SERIAL% %DOWNSTREAM_PEER_URI_SAN%|%DOWNSTREAM_PEER_DNS_SAN%",
		 "CN=x 0a spiffe://a/b,spiffe://c|");
	check_in(&ctx, "%DOWNSTREAM_PEER_CERT_V_END(%Y-%m)%", "2025-11");
	check_in(&ctx, "%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "2 4 8");
	check_in(&ctx, "%RESPONSE_FLAGS_LONG%", "UpstreamRetryLimitExceeded,UpstreamConnectionFailure");
	check_in(&ctx, "%PATH% %PATH(NQ)% %PATH(NQ:PATH)% %QUERY_PARAMS%|%PATH(WQ:ORIG)%", "/p?a=1&b /p /p a=1&b|");
	check_in(&ctx, "%DYNAMIC_METADATA(a:b)%|%FILTER_STATE(x)%|%TRACE_ID%", "||");
	(void)state;
}

static void test_captures_of_a_log(void **state)
{
	static const struct {
		const char *capture, *value; /* NULL: absent */
	} good[] = {{"REQ(x-in)", "in"}, {"REQ(X-NONE)", NULL}, {"REQ(x-none?X-IN)", "in"}, {"RESP(grpc-status)", "14"}, {"UPSTREAM_PROTOCOL", NULL},
		    {"QUERY_PARAM(a)", "1"}, {"FILTER_STATE(x)", NULL}, {"RESP(:STATUS)", "200"}};
	static const char *const bad[] = {"NO_SUCH", "REQ", "REQ()", "REQ(a b)", "PROTOCOL(x)", "PATH(XX)", "PATH(NQx)", "QUERY_PARAMS(x)", "", "TRAILER",
					  "ENVIRONMENT(HOME)"};
	const struct mesh_format_ctx ctx = context();
	char scratch[MESH_FORMAT_SCRATCH_BYTES];

	for (size_t i = 0; i < FOIL_COUNT_OF(good); i++) {
		struct foil_blob b = {0};
		struct foil_error err = {0};
		struct mesh_format f;
		if (mesh_log_capture_compile(&b, foil_slice_str(good[i].capture), &f, &err) != 0)
			fail_msg("%s: %s", good[i].capture, err.text);
		struct foil_slice v = mesh_format_value(&f, &ctx, scratch);
		assert_int_equal(v.data != NULL, good[i].value != NULL);
		if (good[i].value)
			assert_true(foil_slice_eq(v, foil_slice_str(good[i].value)));
		foil_blob_free(&b);
	}
	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		struct foil_blob b = {0};
		struct foil_error err = {0};
		struct mesh_format f;
		if (mesh_log_capture_compile(&b, foil_slice_str(bad[i]), &f, &err) == 0 || !err.text[0])
			fail_msg("%s was taken", bad[i]);
		foil_blob_free(&b);
	}
	(void)state;
}

/* Nothing is known: operators print nothing, and none follows a NULL. */
static void test_format_of_nothing_prints_nothing(void **state)
{
	const struct mesh_format_ctx none = {0};
#define X(ID, name, argument) X_##argument(name)
#define X_NONE(name) name,
#define X_HEADER(name) name "(x-a)",
#define X_NAME(name) name "(a)",
#define X_TIME(name) name,
#define X_GRPC(name) name,
#define X_ANY(name) name "(a:b)",
#define X_PATH(name) name,
	static const char *const operators[] = {
#include "dataplane/mesh/format.def"
	};
	char text[100];

	for (size_t i = 0; i < FOIL_COUNT_OF(operators); i++) {
		const char *expected = "";
		snprintf(text, sizeof(text), "%%%s%%", operators[i]);
		if (strstr(text, "BYTES") || strcmp(text, "%DURATION%") == 0 || strstr(text, "ATTEMPT") || strcmp(text, "%RESPONSE_CODE%") == 0)
			expected = "0";
		else if (strstr(text, "FLAGS"))
			expected = "-";
		else if (strstr(text, "START_TIME"))
			expected = "1970-01-01T00:00:00.000Z";
		check_in(&none, text, expected);
	}
	(void)state;
}

/* Expected from date -u -d @S '+…'. */
static void test_format_time_of_the_calendar(void **state)
{
	static const struct {
		uint64_t wall_us;
		const char *format, *out;
	} cases[] = {
		{1763906123092000u, "", "2025-11-23T13:55:23.092Z"},
		{1763906123092000u, "(%Y/%m/%dT%H:%M:%S%z %s)", "2025/11/23T13:55:23+0000 1763906123"},
		{1763906123092345u, "(%3f %6f %9f %f %1f)", "092 092345 092345000 092345000 0"},
		{1763906123092345u, "(%E3S|%E6S|%E*S|%E1S)", "23.092|23.092345|23.092345|23.0"},
		{951782400000000u, "(%F %j %a %b %e)", "2000-02-29 060 Tue Feb 29"},
		{978220800000000u, "(%F %j)", "2000-12-31 366"},
		{4102444799000000u, "(%F %T %A %B)", "2099-12-31 23:59:59 Thursday December"},
		{4107542400000000u, "(%F %j)", "2100-03-01 060"},
		{0, "(%a, %d %b %Y %T %Z)", "Thu, 01 Jan 1970 00:00:00 UTC"},
		{43200000000u, "(%I:%M %p %y %D %R %u %w %h %%)", "12:00 PM 70 01/01/70 12:00 4 4 Jan %"},
		{253402300799000000u, "(%F)", "9999-12-31"},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct mesh_format_ctx ctx = {.start_wall_us = cases[i].wall_us};
		char text[128];
		snprintf(text, sizeof(text), "%%START_TIME%s%%", cases[i].format);
		check_in(&ctx, text, cases[i].out);
	}
	(void)state;
}

static void test_format_that_is_none_is_refused_with_a_sentence(void **state)
{
	static const char *const bad[] = {
		"%", "a%", "%REQ", "%REQ%", "%REQ()%", "%REQ(x%", "%REQ(x)", "%REQ(x):%", "%REQ(x):y%", "%REQ(?x)%", "%REQ(x?)%", "%REQ(a b)%", "%REQ(:)%",
		"%REQ(x:y)%",
		"%UNKNOWN%", "%unknown%", "%PROTOCOL()%", "%PROTOCOL(x)%", "%START_TIME(%Q)%", "%START_TIME()%", "%START_TIME(%)%", "%QUERY_PARAM%",
		"%QUERY_PARAM()%",
		"%GRPC_STATUS(x)%", "%UPSTREAM_METADATA(a:b)%", "% %", "%%%", "%NO_SUCH%", "%REQ(x):9999999999%", "%(x)%", "%ENVIRONMENT(PATH)%",
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		struct foil_blob b = {0};
		struct foil_error err = {0};
		struct mesh_format f;
		if (mesh_format_compile(&b, foil_slice_str(bad[i]), &f, &err) != -EINVAL)
			fail_msg("'%s' is taken", bad[i]);
		assert_true(strlen(err.text) > 20);
		foil_blob_free(&b);
	}
	(void)state;
}

static void test_format_of_too_many_parts_is_refused(void **state)
{
	static char text[2 * 1100];
	struct foil_blob b = {0};
	struct mesh_format f;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 4 < 2 ? '%' : 'x';
	assert_int_equal(mesh_format_compile(&b, foil_slice_of(text, sizeof(text)), &f, NULL), -EINVAL);
	foil_blob_free(&b);
	(void)state;
}

static void test_format_lets_no_control_character_through(void **state)
{
	struct mesh_format_ctx ctx = {.sni = FOIL_SLICE("a\r\nx-evil: 1\0\x7f"), .route_name = FOIL_SLICE("tab\tok")};

	check_in(&ctx, "%REQUESTED_SERVER_NAME%", "a__x-evil: 1__");
	check_in(&ctx, "%ROUTE_NAME%", "tab\tok");
	(void)state;
}

static void test_format_without_memory_says_so(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct foil_blob b = {0}, tiny = {.max_bytes = 64};
	struct foil_arena a = {0};
	struct mesh_format f;
	struct mesh_format_ctx ctx = context();
	struct foil_slice out;

	assert_int_equal(mesh_format_compile(&tiny, FOIL_SLICE("%REQ(x-in)%"), &f, NULL), -ENOMEM);
	assert_int_equal(mesh_format_compile(&b, FOIL_SLICE("%REQ(x-in)%"), &f, NULL), 0);
	t_pool_drain(w->chunk_pool, 0);
	assert_int_equal(mesh_format_eval(w, &a, &f, &ctx, &out), -ENOBUFS);
	t_pool_refill(w->chunk_pool);
	foil_blob_free(&b);
	foil_blob_free(&tiny);
	t_worker_free(w);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format_values_as_envoy_was_recorded),
		cmocka_unit_test(test_format_literals_and_percent_signs),
		cmocka_unit_test(test_format_headers),
		cmocka_unit_test(test_format_addresses),
		cmocka_unit_test(test_format_numbers_and_names),
		cmocka_unit_test(test_format_values_of_trailers_tls_and_times), cmocka_unit_test(test_captures_of_a_log),
		cmocka_unit_test(test_format_of_nothing_prints_nothing),
		cmocka_unit_test(test_format_time_of_the_calendar),
		cmocka_unit_test(test_format_that_is_none_is_refused_with_a_sentence),
		cmocka_unit_test(test_format_of_too_many_parts_is_refused),
		cmocka_unit_test(test_format_lets_no_control_character_through),
		cmocka_unit_test(test_format_without_memory_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
