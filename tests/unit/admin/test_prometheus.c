/* The exposition: what a worker counted, as Prometheus reads it; judged by a strict checker of the format, which is judged first. */
#include "tests/unit/telemetry/tele_support.h"

#include "ctrl/admin/admin_priv.h"
#include "ctrl/admin/prometheus.h"
#include "tests/unit/admin/exposition.h"

static struct expo expo;

static void test_checker_refuses_what_scrapers_refuse(void **state)
{
	static const char *const bad[] = {
		"a 1\n", "# TYPE a counter\nb 1\n", "# TYPE a counter\na 1", "# TYPE a counter\na -1\n", "# TYPE a counter\na x\n",
		"# TYPE a counter\na{b=1} 1\n",
		"# TYPE a counter\na{b=\"\\x\"} 1\n", "# TYPE a counter\na{b=\"1\",b=\"2\"} 1\n", "# TYPE a counter\na{b=\"1\"} 1\na{b=\"1\"} 2\n",
		"# TYPE a counter\na 1\n# TYPE b gauge\nb 1\n# TYPE a counter\n", "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\n",
		"# TYPE a histogram\na_bucket{le=\"1\"} 2\na_sum 1\n", "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n",
		"# TYPE 1a counter\n", "# TYPE a nonsense\n", "#TYPE a counter\n"};
	static const char good[] = "# HELP a b\\nc\n# TYPE a histogram\na_bucket{x=\"\\\"\",le=\"0.5\"} 0\na_bucket{x=\"\\\"\",le=\"+Inf\"} 3\n"
				   "a_sum{x=\"\\\"\"} 4.5\n"
				   "a_count{x=\"\\\"\"} 3\n# TYPE b gauge\nb -1\n";
	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++)
		if (expo_check(&expo, bad[i], strlen(bad[i])))
			fail_msg("taken: %s", bad[i]);
	if (!expo_check(&expo, good, strlen(good)))
		fail_msg("%s: %s", expo.fault, expo.line);
	(void)state;
}

static void expose(struct tele_shared *s, struct adm_reply *r)
{
	struct foil_error err = {0};
	struct tele_reader_stats stats;
	struct adm_prometheus p = {.reply = r};
	struct tele_reader *reader = tele_reader_new(tele_segment_fd(s), &err);
	if (!reader)
		fail_msg("%s", err.text);
	adm_reply_init(r);
	assert_int_equal(tele_reader_scan(reader, adm_prometheus_sample, &p, &stats), 0);
	adm_prometheus_counter(&p, "own_total", "Our\nown \\", "resource", "VirtualService/a/\"b\"\n", 3);
	adm_prometheus_gauge(&p, "own_gauge", "Another", NULL, NULL, -4);
	assert_int_equal(p.n_left_out, 0);
	tele_reader_free(reader);
	adm_reply_bytes(r, "", 1);
	r->n_bytes--;
	if (!expo_check(&expo, r->data, r->n_bytes))
		fail_msg("%s: %s", expo.fault, expo.line);
}

static void assert_has(const struct adm_reply *r, const char *text)
{
	if (!strstr(r->data, text))
		fail_msg("no %s in\n%s", text, r->data);
}

static void test_exposition_of_a_worker_is_valid_and_says_what_was_counted(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	struct adm_reply reply;
	struct tele_peer odd = t_reviews;
	odd.workload = foil_slice_of("a\"b\\c\nd\xff", 8);
	r.duration_us = 1200;
	tele_request_done(w, &r);
	r.destination = &odd;
	tele_request_done(w, &r);
	r.is_tcp = true;
	r.protocol = TELE_PROTOCOL_TCP;
	tele_tcp_opened(w, &r);
	const struct tele_label label = {FOIL_SLICE("cluster_name"), FOIL_SLICE("outbound|80||x")};
	*tele_cell(w, "envoy_cluster_upstream_cx_active", &label, 1) = (uint64_t)-1;
	expose(s, &reply);
	assert_true(expo.n_samples > 60);
	assert_has(&reply, "# TYPE istio_requests_total counter\n");
	assert_has(&reply, "# TYPE istio_request_duration_milliseconds histogram\n");
	assert_has(&reply, "destination_workload=\"reviews-v1\"");
	assert_has(&reply, "destination_workload=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"");
	assert_has(&reply, ",le=\"0.5\"} 0\n");
	assert_has(&reply, ",le=\"1\"} 0\n");
	assert_has(&reply, ",le=\"5\"} 1\n");
	assert_has(&reply, ",le=\"3600000\"} 1\n");
	assert_has(&reply, ",le=\"+Inf\"} 1\n");
	assert_has(&reply, "connection_security_policy=\"unknown\",response_code=\"200\",grpc_response_status=\"\"} 1.2\n");
	assert_has(&reply, "envoy_cluster_upstream_cx_active{cluster_name=\"outbound|80||x\"} -1\n");
	assert_has(&reply, "foil_tele_access_events_total 2\n");
	assert_has(&reply, "# HELP own_total Our\\nown \\\\\n# TYPE own_total counter\nown_total{resource=\"VirtualService/a/\\\"b\\\"\\n\"} 3\n");
	assert_has(&reply, "own_gauge -4\n");
	adm_reply_fini(&reply);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_names_too_long_are_left_out_and_counted(void **state)
{
	static char name[300];
	struct adm_reply reply;
	struct adm_prometheus p = {.reply = &reply};
	memset(name, 'a', sizeof(name) - 1);
	adm_reply_init(&reply);
	adm_prometheus_counter(&p, name, "x", NULL, NULL, 1);
	assert_int_equal(p.n_left_out, 1);
	assert_int_equal(reply.n_bytes, 0);
	adm_reply_fini(&reply);
	(void)state;
}

static void test_page_past_its_size_keeps_counters_and_leaves_histograms_out(void **state)
{
	static const double bounds[] = {1};
	static const uint64_t counts[] = {1, 2};
	struct adm_reply reply;
	struct adm_prometheus p = {.reply = &reply};
	const struct tele_sample h = {.name = FOIL_SLICE("h"), .kind = TELE_SEGMENT_HISTOGRAM, .n_buckets = 1, .bounds = bounds, .counts = counts};
	adm_reply_init(&reply);
	adm_prometheus_sample(&p, &h);
	assert_int_equal(p.n_samples, 4);
	static char much[1 << 20];
	while (reply.n_bytes <= ADM_PROMETHEUS_HISTOGRAM_BYTES_MAX)
		adm_reply_bytes(&reply, much, sizeof(much));
	adm_prometheus_sample(&p, &h);
	assert_int_equal(p.n_left_out, 1);
	assert_int_equal(p.n_samples, 4);
	adm_prometheus_counter(&p, "c_total", "x", NULL, NULL, 1);
	assert_int_equal(p.n_samples, 5);
	adm_reply_fini(&reply);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checker_refuses_what_scrapers_refuse),
		cmocka_unit_test(test_exposition_of_a_worker_is_valid_and_says_what_was_counted),
		cmocka_unit_test(test_page_past_its_size_keeps_counters_and_leaves_histograms_out),
		cmocka_unit_test(test_names_too_long_are_left_out_and_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
