/* The access log from event to line: Envoy's bytes (lines of the judge's recordings), formats, escaping, the ring's and the log's limits. */
#include "tests/unit/telemetry/tele_support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

static char folder[] = "/tmp/foil-test-log-XXXXXX";
static char path[64], text[1 << 20];

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/access.log", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(folder);
}

static const char *read_log(const char *from)
{
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	assert_true(n >= 0);
	text[n] = 0;
	(void)close(fd);
	return text;
}

/* The line that r makes in this format. */
static const char *line_of(const char *format, bool is_json, const struct tele_request *r)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct foil_error err = {0};
	(void)unlink(path);
	assert_int_equal(tele_log_open(s, path, &err), 0);
	if (tele_set_format(s, foil_slice_str(format), is_json, &err) != 0)
		fail_msg("%s", err.text);
	tele_request_done(w, r);
	assert_false(tele_turn(s, w->now_us));
	t_tele_worker_free(w);
	tele_shared_free(s);
	return read_log(path);
}

static void test_default_line_is_the_recorded_one(void **state)
{
	struct tele_request r = t_request();
	r.start_wall_us = 1795701460363000ull; /* 2026-11-26T13:57:40.363Z */
	assert_string_equal(line_of(NULL, false, &r),
			    "[2026-11-26T13:57:40.363Z] \"GET / HTTP/1.1\" 200 - via_upstream - \"-\" 0 15 0 0 \"198.18.0.2\" \"-\" "
			    "\"ccdfcb40-4786-40eb-a5ab-215c6e8fe788\" \"web.example.com\" \"198.19.0.10:8080\" outbound|8080||one.test "
			    "198.19.0.10:41368 198.18.0.1:80 198.18.0.2:43017 - -\n");
	(void)state;
}

/* recorded/retries.yaml: POST /down */
static void test_line_of_a_refused_connection_is_the_recorded_one(void **state)
{
	struct tele_request r = t_request();
	r.start_wall_us = 1795701341257000ull;
	r.method = FOIL_SLICE("POST");
	r.path = FOIL_SLICE("/down");
	r.status = 503;
	r.flags = TELE_FLAG_UF | TELE_FLAG_URX;
	r.details = FOIL_SLICE("upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}");
	r.transport_failure = FOIL_SLICE("delayed_connect_error:_Connection_refused");
	r.bytes_received = 1;
	r.bytes_sent = 121;
	r.duration_us = 13999;
	r.upstream_service_time = (struct foil_slice){NULL, 0};
	r.upstream_cluster = FOIL_SLICE("outbound|8080||down.test");
	r.upstream_host = t_addr(198, 19, 0, 18, 9999);
	r.upstream_local.port = 0;
	r.downstream_remote.port = 41339;
	r.request_id = FOIL_SLICE("f74ea021-b3d0-4417-86d7-4a0435f11e65");
	assert_string_equal(line_of("", false, &r),
			    "[2026-11-26T13:55:41.257Z] \"POST /down HTTP/1.1\" 503 URX,UF upstream_reset_before_response_started{remote_connection_failure|"
			    "delayed_connect_error:_Connection_refused} - \"delayed_connect_error:_Connection_refused\" 1 121 13 - \"198.18.0.2\" \"-\" "
			    "\"f74ea021-b3d0-4417-86d7-4a0435f11e65\" \"web.example.com\" \"198.19.0.18:9999\" outbound|8080||down.test - "
			    "198.18.0.1:80 198.18.0.2:41339 - -\n");
	(void)state;
}

/* recorded/tcp.yaml: UF,URX and not URX,UF */
static void test_tcp_line_is_the_recorded_one(void **state)
{
	struct tele_request r = {.protocol = TELE_PROTOCOL_TCP, .is_tcp = true, .version = 255, .grpc_status = -1, .flags = TELE_FLAG_UF | TELE_FLAG_URX,
				 .transport_failure = FOIL_SLICE("delayed_connect_error:_Connection_refused"), .upstream_host = t_addr(198, 19, 0, 18, 9999),
				 .upstream_cluster = FOIL_SLICE("outbound|8080||down.test"), .downstream_local = t_addr(198, 18, 0, 1, 9101),
				 .downstream_remote = t_addr(198, 18, 0, 2, 58629), .start_wall_us = 1795712334820000ull, .log = true};
	assert_string_equal(line_of(NULL, false, &r),
			    "[2026-11-26T16:58:54.820Z] \"- - -\" 0 UF,URX - - \"delayed_connect_error:_Connection_refused\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" "
			    "\"198.19.0.18:9999\" outbound|8080||down.test - 198.18.0.1:9101 198.18.0.2:58629 - -\n");
	(void)state;
}

static void test_client_that_left_has_code_0_and_original_path_comes_first(void **state)
{
	struct tele_request r = t_request();
	r.status = 0;
	r.flags = TELE_FLAG_DC;
	r.original_path = FOIL_SLICE("/before?x=1");
	r.path = FOIL_SLICE("/after");
	assert_string_equal(line_of("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:path)% %RESPONSE_CODE% %RESPONSE_FLAGS%", false, &r),
			    "/before?x=1 /after 0 DC\n");
	(void)state;
}

static void test_operators_and_their_arguments(void **state)
{
	static const struct {
		const char *format, *line;
	} cases[] = {
		{"plain", "plain\n"},
		{"100%% %PROTOCOL%\n", "100% HTTP/2\n"},
		{"%REQ(:PATH):4%|%REQ_WITHOUT_QUERY(:PATH)%|%REQ(HOST)%", "/a/b|/a/b|[fd00::1]:80\n"},
		{"%START_TIME(%s.%3f %f %1f %9f)%", "1700000000.123 123456000 1 123456000\n"},
		{"%START_TIME(%Y/%m/%d %H:%M:%E6S %a %b)%", "2023/11/14 22:13:20.123456 Tue Nov\n"},
		{"%START_TIME%", "2023-11-14T22:13:20.123Z\n"},
		{"%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%", "[fd00:f011:1::10]:8080 fd00:f011:1::10 8080\n"},
		{"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_PORT%",
		 "198.18.0.2 43017 - -\n"},
		{"%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%", "Unavailable UNAVAILABLE 14 14\n"},
		{"%UPSTREAM_REQUEST_ATTEMPT_COUNT% %DURATION% %DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_WIRE_BYTES_SENT%", "3 1234 77 99\n"},
		{"%UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW%", "outbound|8080||v.test; outbound|8080||v.test\n"},
		{"%REQUESTED_SERVER_NAME% %ROUTE_NAME% %CONNECTION_TERMINATION_DETAILS%", "sni.example route-1 -\n"},
	};
	struct tele_request r = t_request();
	r.version = 2;
	r.path = FOIL_SLICE("/a/b?c=d");
	r.authority = FOIL_SLICE("[fd00::1]:80");
	r.start_wall_us = 1700000000123456ull;
	r.upstream_host = (struct tele_addr){{0xfd, 0, 0xf0, 0x11, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10}, 8080};
	r.upstream_local.port = 0;
	r.upstream_cluster = FOIL_SLICE("outbound|8080||v.test");
	r.grpc_status = 14;
	r.attempts = 3;
	r.duration_us = 1234999;
	r.request_wire_bytes = 77;
	r.response_wire_bytes = 99;
	r.sni = FOIL_SLICE("sni.example");
	r.route_name = FOIL_SLICE("route-1");
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++)
		assert_string_equal(line_of(cases[i].format, false, &r), cases[i].line);
	(void)state;
}

/* AL-12 */
static void test_no_header_can_forge_a_line(void **state)
{
	struct tele_request r = t_request();
	r.user_agent = FOIL_SLICE("a\" 200\n[2026] \\x \x7f\t\x01\xc3\xa9\xff");
	assert_string_equal(line_of("\"%REQ(USER-AGENT)%\"", false, &r), "\"a\\x22 200\\x0a[2026] \\x \\x7f\\x09\\x01\xc3\xa9\xff\"\n");
	assert_string_equal(line_of("{\"ua\": \"%REQ(USER-AGENT)%\"}", true, &r),
			    "{\"ua\":\"a\\\" 200\\u000a[2026] \\\\x \\u007f\\u0009\\u0001\xc3\xa9\xef\xbf\xbd\"}\n");
	(void)state;
}

static void test_default_json_has_typed_values_and_nulls(void **state)
{
	struct tele_request r = t_request();
	r.upstream_local.port = 0;
	json_error_t err;
	json_t *j = json_loads(line_of(NULL, true, &r), 0, &err);
	if (!j)
		fail_msg("%s: %s", err.text, text);
	static const char *const keys[] = {
		"start_time", "route_name", "method", "path", "protocol", "response_code", "response_flags", "response_code_details",
		"connection_termination_details", "bytes_received", "bytes_sent", "duration", "upstream_service_time", "x_forwarded_for", "user_agent",
		"request_id", "authority", "upstream_host", "upstream_cluster", "upstream_local_address", "downstream_local_address",
		"downstream_remote_address", "requested_server_name", "upstream_transport_failure_reason"}; /* AL-2 */
	assert_int_equal(json_object_size(j), FOIL_COUNT_OF(keys));
	for (size_t i = 0; i < FOIL_COUNT_OF(keys); i++)
		if (!json_object_get(j, keys[i]))
			fail_msg("no %s", keys[i]);
	assert_int_equal(json_integer_value(json_object_get(j, "response_code")), 200);
	assert_int_equal(json_integer_value(json_object_get(j, "bytes_sent")), 15);
	assert_true(json_is_null(json_object_get(j, "user_agent")));
	assert_true(json_is_null(json_object_get(j, "upstream_local_address")));
	assert_string_equal(json_string_value(json_object_get(j, "upstream_service_time")), "0");
	assert_string_equal(json_string_value(json_object_get(j, "response_flags")), "-");
	json_decref(j);
	(void)state;
}

static void test_json_templates(void **state)
{
	struct tele_request r = t_request();
	assert_string_equal(line_of("{ \"a\" : {\"code\": \"%RESPONSE_CODE%\", \"n\": 1, \"b\":true, \"z\":null, \"e\":{}},\n"
				    "  \"mixed\": \"%REQ(:METHOD)% %ROUTE_NAME% 5%%\", \"t\": \"%START_TIME(%s)%\", \"two\": \"%PROTOCOL%%PROTOCOL%\" }",
				    true, &r),
			    "{\"a\":{\"b\":true,\"code\":200,\"e\":{},\"n\":1,\"z\":null},\"mixed\":\"GET - 5%\",\"t\":\"1795442260\","
			    "\"two\":\"HTTP/1.1HTTP/1.1\"}\n");
	(void)state;
}

/* What a format asks for beyond the record: each once, values by their place, absent or empty told apart; a format that is replaced still has its events. */
static void test_captures_come_from_who_records(void **state)
{
	static const char format[] = "%REQ(X-A)%|%REQ(X-A):2%|%RESP(x-b?x-c)%|%TRAILER(t)%|%REQ(X-REQUEST-ID?x-a)%|%REQUEST_DURATION%|%FUTURE(a b)%";
	struct foil_slice values[] = {FOIL_SLICE("one\ntwo"), FOIL_SLICE(""), {NULL, 0}, {NULL, 0}, FOIL_SLICE("12"), FOIL_SLICE("\"q\"")};
	struct tele_captures c;
	struct foil_blob b = {0};
	struct foil_error err = {0};
	struct tele_request r = t_request();

	assert_int_equal(tele_format_captures(foil_slice_str(format), false, &b, &c, &err), 0);
	assert_int_equal(c.n, 6);
	assert_true(foil_slice_eq(c.list[0], FOIL_SLICE("REQ(X-A)")) && foil_slice_eq(c.list[3], FOIL_SLICE("REQ(X-REQUEST-ID?x-a)")));
	assert_true(foil_slice_eq(c.list[5], FOIL_SLICE("FUTURE(a b)")));
	r.captures = values;
	r.n_captures = 6;
	r.format_key = c.key;
	assert_string_equal(line_of(format, false, &r), "one\\x0atwo|on||-|-|12|\\x22q\\x22\n");
	r.n_captures = 1; /* fewer than asked for: absent */
	assert_string_equal(line_of("%REQ(X-A)% %REQ(b)%", false, &r), "one\\x0atwo -\n");
	static const char json[] = "{\"b\":\"%REQ(x)%\",\"a\":\"%REQUEST_DURATION%\",\"c\":{\"z\":\"%REQ(y)%\",\"d\":\"<%REQ(y)%>\"}}";
	values[0] = FOIL_SLICE("7"); /* a comes first now */
	values[1] = FOIL_SLICE("");
	values[2] = (struct foil_slice){NULL, 0};
	r.n_captures = 3;
	assert_string_equal(line_of(json, true, &r), "{\"a\":7,\"b\":\"\",\"c\":{\"d\":\"<->\",\"z\":null}}\n");
	foil_blob_free(&b);
	(void)state;
}

static void test_events_of_the_format_before_keep_their_form(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	const struct foil_slice value = FOIL_SLICE("v");
	struct tele_captures c;
	struct foil_blob b = {0};
	struct foil_error err = {0};
	struct tele_request r = t_request();

	(void)unlink(path);
	assert_int_equal(tele_log_open(s, path, &err), 0);
	assert_int_equal(tele_format_captures(FOIL_SLICE("old %REQ(a)%"), false, &b, &c, &err), 0);
	assert_int_equal(tele_set_format(s, FOIL_SLICE("old %REQ(a)%"), false, &err), 0);
	r.captures = &value;
	r.n_captures = 1;
	r.format_key = c.key;
	tele_request_done(w, &r);
	assert_int_equal(tele_set_format(s, FOIL_SLICE("new %REQ(b)%"), false, &err), 0);
	assert_false(tele_turn(s, w->now_us));
	t_tele_worker_free(w);
	tele_shared_free(s);
	foil_blob_free(&b);
	assert_string_equal(read_log(path), "old v\n");
	(void)state;
}

static void test_formats_that_cannot_be_honoured_are_refused_and_change_nothing(void **state)
{
	static const struct {
		const char *format, *says;
		bool is_json;
	} cases[] = {
		{"%no%", "second %", false}, {"%", "second %", false}, {"50% off", "second %", false}, {"%PROTOCOL", "second %", false},
		{"%REQ(:PATH%", "without its )", false}, {"%PROTOCOL(x)%", "no argument", false}, {"%REQUEST_DURATION(x)%", "no argument", false},
		{"%REQ(:PATH):x%", "length limit", false}, {"%REQ(:PATH):0%", "length limit", false}, {"%REQ(:PATH):99999999999%", "length limit", false},
		{"%START_TIME(%Q)%", "time format", false}, {"%START_TIME(%)%", "time format", false}, {"%GRPC_STATUS(X)%", "GRPC_STATUS", false},
		{"text", "JSON object", true}, {"{", "JSON object", true}, {"{}}", "JSON object", true}, {"{\"a\"}", "not JSON", true},
		{"{\"a\":}", "not JSON", true}, {"{\"a\":1,}", "not JSON", true}, {"{\"a\":01}", "not JSON", true}, {"{\"a\":[1]}", "not JSON", true},
		{"{\"a\":\"%NO\"}", "second %", true}, {"{\"a\":\"x}", "not JSON", true}, {"{\"a\":\"\\q\"}", "not JSON", true}, {"[]", "JSON object", true},
		{"{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}", "deep", true}, {"   ", "JSON object", true},
	};
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct foil_error err = {0};
		if (tele_set_format(s, foil_slice_str(cases[i].format), cases[i].is_json, &err) != -EINVAL || !strstr(err.text, cases[i].says))
			fail_msg("%s: \"%s\"", cases[i].format, err.text);
		assert_int_equal(tele_format_check(foil_slice_str(cases[i].format), cases[i].is_json, NULL), -EINVAL);
	}
	static char long_format[TELE_FORMAT_BYTES_MAX + 1];
	struct foil_error err = {0};
	memset(long_format, 'x', sizeof(long_format));
	assert_int_equal(tele_set_format(s, foil_slice_of(long_format, sizeof(long_format)), false, &err), -EINVAL);
	assert_int_equal(tele_format_check(foil_slice_of(long_format, sizeof(long_format) - 1), false, &err), 0);
	tele_shared_free(s);
	(void)state;
}

/* Every prefix of a good format is refused or taken, never overrun (ASan looks). */
static void test_formats_cut_at_every_byte(void **state)
{
	static const char *const formats[] = {"a %REQ(X-REQUEST-ID?:PATH):10% %START_TIME(%Y %3f)% %% b",
					      "{\"a\":{\"b\":\"%REQ(:PATH)% x\",\"c\":\"%DURATION%\"},\"d\":null,\"e\":-12}"};
	for (size_t k = 0; k < FOIL_COUNT_OF(formats); k++)
		for (size_t n = 1; n <= strlen(formats[k]); n++) {
			char *exact = malloc(n);
			struct foil_error err;
			memcpy(exact, formats[k], n);
			int as_text = tele_format_check(foil_slice_of(exact, n), false, &err), as_json = tele_format_check(foil_slice_of(exact, n), true, &err);
			assert_true((as_text == 0 || as_text == -EINVAL) && (as_json == 0 || as_json == -EINVAL));
			free(exact);
		}
	(void)state;
}

static void test_flags_are_in_envoys_order(void **state)
{
	static const struct {
		uint64_t flags;
		bool is_tcp;
		const char *line;
	} cases[] = {{0, false, "-\n"}, {TELE_FLAG_FI | TELE_FLAG_DI, false, "DI,FI\n"}, {TELE_FLAG_UT | TELE_FLAG_URX, false, "URX,UT\n"},
		     {TELE_FLAG_UC | TELE_FLAG_URX | TELE_FLAG_DI, false, "DI,URX,UC\n"}, {TELE_FLAG_URX | TELE_FLAG_UF, true, "UF,URX\n"},
		     {(1ull << TELE_FLAG_COUNT) - 1, false,
		      "DI,URX,UH,UF,UO,NR,NC,DT,DC,LH,UT,LR,UR,UC,FI,RL,UAEX,RLSE,IH,SI,DPE,UPE,UMSDR,OM,DF,RFCF,DR\n"}};
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct tele_request r = t_request();
		r.flags = cases[i].flags;
		r.is_tcp = cases[i].is_tcp;
		assert_string_equal(line_of("%RESPONSE_FLAGS%", false, &r), cases[i].line);
	}
	(void)state;
}

static void test_full_ring_drops_and_counts(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.event_ring_bytes = 4096});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	struct foil_error err;
	static char long_path[60000];
	memset(long_path, 'p', sizeof(long_path));
	(void)unlink(path);
	assert_int_equal(tele_log_open(s, path, &err), 0);
	for (uint32_t i = 0; i < 100; i++)
		tele_request_done(w, &r);
	uint64_t taken = t_counter(w, TELE, ACCESS_EVENTS), dropped = t_counter(w, TELE, ACCESS_EVENTS_DROPPED);
	assert_int_equal(taken + dropped, 100);
	assert_true(taken > 3 && dropped > 50);
	assert_false(tele_turn(s, w->now_us));
	r.path = foil_slice_of(long_path, sizeof(long_path)); /* larger than the ring */
	tele_request_done(w, &r);
	assert_int_equal(t_counter(w, TELE, ACCESS_EVENTS_DROPPED), dropped + 1);
	for (uint32_t i = 0; i < 1000; i++) { /* round the ring many times, at every alignment */
		r.path = foil_slice_of(long_path, 1 + i % 300);
		tele_request_done(w, &r);
		assert_false(tele_turn(s, w->now_us));
	}
	assert_int_equal(t_counter(w, TELE, ACCESS_EVENTS_DROPPED), dropped + 1);
	assert_int_equal(tele_shared_counters(s, FOIL_ROOM_TELE)[TELE_CTR_ACCESS_LINES], taken + 1000);
	uint64_t n_lines = 0;
	for (const char *c = read_log(path); *c; c++)
		n_lines += *c == '\n';
	assert_int_equal(n_lines, taken + 1000);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_nothing_is_logged_when_the_mesh_says_so_or_there_is_no_log(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	struct foil_error err;
	(void)unlink(path);
	tele_request_done(w, &r); /* no log yet */
	assert_false(tele_turn(s, w->now_us));
	assert_int_equal(tele_log_open(s, path, &err), 0);
	r.log = false;
	tele_request_done(w, &r);
	assert_false(tele_turn(s, w->now_us));
	assert_string_equal(read_log(path), "");
	assert_int_equal(tele_log_open(s, "", &err), 0);
	assert_int_equal(tele_log_reopen(s, &err), 0);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_rotation_goes_on_in_a_new_file(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	struct foil_error err = {0};
	char rotated[80];
	(void)snprintf(rotated, sizeof(rotated), "%s.1", path);
	(void)unlink(path);
	assert_int_equal(tele_log_open(s, path, &err), 0);
	assert_int_equal(tele_set_format(s, FOIL_SLICE("%RESPONSE_CODE%"), false, &err), 0);
	tele_request_done(w, &r);
	(void)tele_turn(s, w->now_us);
	assert_int_equal(rename(path, rotated), 0);
	r.status = 201;
	tele_request_done(w, &r);
	(void)tele_turn(s, w->now_us);
	assert_int_equal(tele_log_reopen(s, &err), 0);
	r.status = 202;
	tele_request_done(w, &r);
	(void)tele_turn(s, w->now_us);
	assert_string_equal(read_log(rotated), "200\n201\n");
	assert_string_equal(read_log(path), "202\n");
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777 & ~0640u, 0);
	(void)unlink(rotated);
	assert_int_equal(tele_log_open(s, "/nonexistent/folder/log", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/folder/log"));
	r.status = 203;
	tele_request_done(w, &r);
	tele_fini(w);
	tele_shared_free(s); /* writes what is left */
	assert_string_equal(read_log(path), "202\n203\n");
	t_worker_free(w);
	(void)state;
}

/* AL-11: a pipe that nobody reads must not stall; lines wait, then are dropped and counted; what arrives later is whole. */
static void test_slow_pipe_never_stalls(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	struct foil_error err = {0};
	uint64_t *cells = tele_shared_counters(s, FOIL_ROOM_TELE);
	(void)unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(tele_log_open(s, path, &err), -ENXIO);
	assert_non_null(strstr(err.text, "reader"));
	int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(reader >= 0);
	assert_int_equal(tele_log_open(s, path, &err), 0);
	for (uint32_t i = 0; i < 5000; i++) {
		tele_request_done(w, &r);
		(void)tele_turn(s, w->now_us);
	}
	uint64_t kept = cells[TELE_CTR_ACCESS_LINES];
	assert_int_equal(kept + cells[TELE_CTR_ACCESS_LINES_DROPPED], 5000);
	assert_true(cells[TELE_CTR_ACCESS_LINES_DROPPED] > 1000);
	uint64_t n_lines = 0, n_odd = 0;
	size_t n_line = 0;
	for (int idle = 0; idle < 2;) {
		ssize_t n = read(reader, text, sizeof(text));
		(void)tele_turn(s, w->now_us);
		idle = n <= 0 ? idle + 1 : 0;
		for (ssize_t i = 0; i < n; i++) {
			if (n_line++ == 0)
				n_odd += text[i] != '[';
			if (text[i] == '\n') {
				n_lines++;
				n_line = 0;
			}
		}
	}
	assert_int_equal(n_lines, kept);
	assert_int_equal(n_odd, 0);
	(void)close(reader);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_full_disk_is_counted_and_gets_over(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	struct foil_error err = {0};
	if (access("/dev/full", W_OK) != 0)
		skip();
	assert_int_equal(tele_log_open(s, "/dev/full", &err), 0);
	tele_request_done(w, &r);
	(void)tele_turn(s, w->now_us);
	assert_true(tele_shared_counters(s, FOIL_ROOM_TELE)[TELE_CTR_ACCESS_LOG_ERRORS] > 0);
	(void)unlink(path);
	assert_int_equal(tele_log_open(s, path, &err), 0);
	(void)tele_turn(s, w->now_us);
	assert_int_equal(read_log(path)[0], '['); /* what waited went to the new file */
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default_line_is_the_recorded_one),
		cmocka_unit_test(test_line_of_a_refused_connection_is_the_recorded_one),
		cmocka_unit_test(test_tcp_line_is_the_recorded_one),
		cmocka_unit_test(test_client_that_left_has_code_0_and_original_path_comes_first),
		cmocka_unit_test(test_operators_and_their_arguments),
		cmocka_unit_test(test_no_header_can_forge_a_line),
		cmocka_unit_test(test_default_json_has_typed_values_and_nulls),
		cmocka_unit_test(test_json_templates),
		cmocka_unit_test(test_captures_come_from_who_records), cmocka_unit_test(test_events_of_the_format_before_keep_their_form),
		cmocka_unit_test(test_formats_that_cannot_be_honoured_are_refused_and_change_nothing),
		cmocka_unit_test(test_formats_cut_at_every_byte),
		cmocka_unit_test(test_flags_are_in_envoys_order),
		cmocka_unit_test(test_full_ring_drops_and_counts),
		cmocka_unit_test(test_nothing_is_logged_when_the_mesh_says_so_or_there_is_no_log),
		cmocka_unit_test(test_rotation_goes_on_in_a_new_file),
		cmocka_unit_test(test_slow_pipe_never_stalls),
		cmocka_unit_test(test_full_disk_is_counted_and_gets_over),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
