/* Metrics from worker to reader: Istio's names, labels and buckets, rooms' counters and reasons, cells, the cap and expiry. */
#include "tests/unit/telemetry/tele_support.h"

static const struct foil_counter_desc fake_counters[] = {{"THINGS_SEEN", FOIL_COUNTER, "things", "Things seen"},
							 {"THINGS_NOW", FOIL_GAUGE, "things", "Things now"}};
static const struct foil_reason_desc fake_reasons[] = {
	{"ok", FOIL_REASON_NOTE, "fine"}, {"too_old", FOIL_REASON_DROP, "old"}, {"noted", FOIL_REASON_NOTE, "n"}, {"too_new", FOIL_REASON_DROP, "new"}};
static const struct foil_room_desc fake_room = {FOIL_ROOM_NET, "net", fake_counters, 2, fake_reasons, 4};
static const struct foil_room_desc *const fake_rooms[] = {&fake_room};

#define US_A_MINUTE 60000000ull

static void test_rooms_counters_and_reasons_are_summed_over_workers_and_housekeeping(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.n_workers = 2, .rooms = fake_rooms, .n_rooms = 1});
	struct foil_worker *early = t_worker(.id = 0, .n_workers = 2);
	struct foil_error err;
	early->ctr[FOIL_ROOM_NET][0] += 5; /* counted before telemetry came */
	assert_int_equal(tele_init(early, s, &err), 0);
	struct foil_worker *w1 = t_tele_worker(s, 1);
	early->ctr[FOIL_ROOM_NET][0] += 1;
	w1->ctr[FOIL_ROOM_NET][0] += 10;
	early->ctr[FOIL_ROOM_NET][1] = (uint64_t)-3;
	w1->ctr[FOIL_ROOM_NET][1] = 1;
	w1->why[FOIL_ROOM_NET][3] += 7;
	tele_shared_counters(s, FOIL_ROOM_NET)[0] += 100;
	tele_shared_reasons(s, FOIL_ROOM_NET)[1] += 2;
	assert_int_equal(t_read(s, "foil_net_things_seen_total", "").value, 116);
	assert_int_equal((int64_t)t_read(s, "foil_net_things_now", "").value, -2);
	assert_int_equal(t_read(s, "foil_net_drops_total", "reason=too_new").value, 7);
	assert_int_equal(t_read(s, "foil_net_drops_total", "reason=too_old").value, 2);
	assert_int_equal(t_read(s, "foil_net_notes_total", "").n_found, 2);
	assert_null(tele_shared_counters(s, FOIL_ROOM_TLS));
	t_tele_worker_free(early);
	t_tele_worker_free(w1);
	tele_shared_free(s);
	(void)state;
}

static void test_request_counts_with_all_of_istios_labels(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	tele_request_done(w, &r);
	tele_request_done(w, &r);
	struct t_sum sum = t_read(s, "istio_requests_total",
				  "reporter=source source_workload=unknown source_canonical_service=unknown source_canonical_revision=unknown "
				  "source_workload_namespace=unknown source_principal=unknown source_app=unknown source_version=unknown "
				  "source_cluster=unknown destination_workload=reviews-v1 destination_workload_namespace=shop "
				  "destination_principal=unknown destination_app=reviews destination_version=v1 "
				  "destination_service=reviews.shop.svc.cluster.local destination_canonical_service=reviews "
				  "destination_canonical_revision=v1 destination_service_name=reviews destination_service_namespace=shop "
				  "destination_cluster=Kubernetes request_protocol=http response_code=200 grpc_response_status= response_flags=- "
				  "connection_security_policy=unknown");
	assert_int_equal(sum.n_found, 1);
	assert_int_equal(sum.value, 2);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_grpc_messages_are_told_of_series_that_had_any(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	tele_request_done(w, &r);
	assert_int_equal(t_read(s, "istio_request_messages_total", "").n_found, 0);
	r.protocol = TELE_PROTOCOL_GRPC;
	r.request_messages = 3;
	tele_request_done(w, &r);
	tele_request_done(w, &r);
	r.request_messages = 0;
	r.response_messages = 1;
	tele_request_done(w, &r);
	assert_int_equal(t_read(s, "istio_request_messages_total", "request_protocol=grpc").value, 6);
	assert_int_equal(t_read(s, "istio_request_messages_total", "").n_found, 1);
	assert_int_equal(t_read(s, "istio_response_messages_total", "").value, 1);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_each_fact_that_differs_makes_a_series_of_its_own(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_peer other = t_reviews;
	other.version = FOIL_SLICE("v2");
	struct tele_request r = t_request();
	tele_request_done(w, &r);
	r.status = 503;
	tele_request_done(w, &r);
	r.flags = TELE_FLAG_UF | TELE_FLAG_URX;
	tele_request_done(w, &r);
	r.destination = &other;
	tele_request_done(w, &r);
	other.version = FOIL_SLICE("v3"); /* the same address, another fact: labels are not by address */
	tele_request_done(w, &r);
	r.reporter_is_destination = true;
	tele_request_done(w, &r);
	r.is_mutual_tls = true;
	r.protocol = TELE_PROTOCOL_GRPC;
	r.grpc_status = 14;
	tele_request_done(w, &r);
	assert_int_equal(t_read(s, "istio_requests_total", "").n_found, 7);
	assert_int_equal(t_read(s, "istio_requests_total", "response_flags=URX,UF destination_version=v1").value, 1);
	assert_int_equal(t_read(s, "istio_requests_total", "reporter=destination connection_security_policy=none").value, 1);
	assert_int_equal(t_read(s, "istio_requests_total", "connection_security_policy=mutual_tls request_protocol=grpc grpc_response_status=14").value, 1);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

/* TM-2: 0.5,1,5,10,25,…: a value on a bound belongs to that bucket. */
/* With a generation the same addresses are the same facts; the next generation asks anew, and so does who finds the record gone. */
static void test_facts_are_known_by_address_within_a_configuration(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.series_idle_us = US_A_MINUTE});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_peer peer = t_reviews;
	struct tele_request r = t_request();
	r.destination = &peer;
	r.facts_generation = 7;
	tele_request_done(w, &r);
	tele_request_done(w, &r);
	r.status = 503;
	tele_request_done(w, &r);
	assert_int_equal(t_read(s, "istio_requests_total", "response_code=200 destination_version=v1").value, 2);
	assert_int_equal(t_read(s, "istio_requests_total", "response_code=503 destination_version=v1").value, 1);
	peer.version = FOIL_SLICE("v2"); /* a new configuration, at the address of the old one */
	r.facts_generation = 8;
	tele_request_done(w, &r);
	assert_int_equal(t_read(s, "istio_requests_total", "response_code=503 destination_version=v1").value, 1);
	assert_int_equal(t_read(s, "istio_requests_total", "response_code=503 destination_version=v2").value, 1);
	for (uint32_t i = 0; i < 15; i++) {
		t_advance(w, 5000000);
		(void)tele_turn(s, w->now_us);
	}
	t_advance(w, 2000000);
	assert_int_equal(t_read(s, "istio_requests_total", "").n_found, 0);
	tele_request_done(w, &r);
	assert_int_equal(t_read(s, "istio_requests_total", "response_code=503 destination_version=v2").value, 1);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_histograms_have_istios_buckets(void **state)
{
	static const struct {
		uint64_t us;
		uint32_t bucket;
	} cases[] = {{0, 0}, {500, 0}, {501, 1}, {1000, 1}, {1001, 2}, {5000, 2}, {10000, 3}, {25000, 4}, {50000, 5}, {99999, 6}, {3600000000, 18},
		     {3600000001, 19}};
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	uint64_t want[20] = {0}, total_us = 0;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct tele_request r = t_request();
		r.duration_us = cases[i].us;
		r.bytes_received = 0;
		r.bytes_sent = 10000;
		tele_request_done(w, &r);
		want[cases[i].bucket]++;
		total_us += cases[i].us;
	}
	struct t_sum duration = t_read(s, "istio_request_duration_milliseconds", "");
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(duration.counts[i], want[i]);
	assert_true(duration.sum > (double)total_us / 1000 - 0.01 && duration.sum < (double)total_us / 1000 + 0.01);
	assert_int_equal(t_read(s, "istio_request_bytes", "").counts[0], FOIL_COUNT_OF(cases));
	assert_int_equal(t_read(s, "istio_response_bytes", "").counts[12], FOIL_COUNT_OF(cases)); /* le="10000" */
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_tcp_bytes_on_the_way_and_at_close_are_counted_once(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	r.protocol = TELE_PROTOCOL_TCP;
	r.is_tcp = true;
	r.status = 0;
	tele_tcp_opened(w, &r);
	tele_tcp_bytes(w, &r, 100, 1000);
	r.bytes_received = 130;
	r.bytes_received_counted = 100;
	r.bytes_sent = 1000;
	r.bytes_sent_counted = 1000;
	tele_request_done(w, &r);
	assert_int_equal(t_read(s, "istio_tcp_connections_opened_total", "request_protocol=tcp").value, 1);
	assert_int_equal(t_read(s, "istio_tcp_connections_closed_total", "response_flags=-").value, 1);
	assert_int_equal(t_read(s, "istio_tcp_received_bytes_total", "").value, 130);
	assert_int_equal(t_read(s, "istio_tcp_sent_bytes_total", "").value, 1000);
	assert_int_equal(t_read(s, "istio_tcp_sent_bytes_total", "response_code=0").n_found, 0); /* TM-3: no such label */
	assert_int_equal(t_read(s, "istio_requests_total", "").n_found, 0);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_same_labels_of_two_workers_are_one_sample(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.n_workers = 2});
	struct foil_worker *w0 = t_tele_worker(s, 0), *w1 = t_tele_worker(s, 1);
	struct tele_request r = t_request();
	tele_request_done(w0, &r);
	tele_request_done(w1, &r);
	tele_request_done(w1, &r);
	struct t_sum sum = t_read(s, "istio_requests_total", "");
	assert_int_equal(sum.n_found, 1);
	assert_int_equal(sum.value, 3);
	t_tele_worker_free(w0);
	t_tele_worker_free(w1);
	tele_shared_free(s);
	(void)state;
}

static void test_cells_are_found_again_and_have_the_kind_that_their_name_says(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.n_workers = 2});
	struct foil_worker *w0 = t_tele_worker(s, 0), *w1 = t_tele_worker(s, 1);
	const struct tele_label label = {FOIL_SLICE("cluster_name"), FOIL_SLICE("outbound|80||a\"b\n")};
	uint64_t *a = tele_cell(w0, "envoy_cluster_upstream_cx_active", &label, 1), *b = tele_cell(w1, "envoy_cluster_upstream_cx_active", &label, 1);
	uint64_t *c = tele_cell(w0, "envoy_cluster_upstream_rq_total", &label, 1), *d = tele_cell(w0, "envoy_server_live", NULL, 0);
	assert_ptr_equal(a, tele_cell(w0, "envoy_cluster_upstream_cx_active", &label, 1));
	assert_ptr_not_equal(a, c);
	*a += 2;
	*b -= 1;
	*c += 9;
	*d = 1;
	assert_int_equal(t_read(s, "envoy_cluster_upstream_cx_active", "cluster_name=outbound|80||a\"b\n").value, 1);
	assert_int_equal(t_read(s, "envoy_cluster_upstream_rq_total", "").value, 9);
	assert_int_equal(t_read(s, "envoy_server_live", "").value, 1);
	t_tele_worker_free(w0);
	t_tele_worker_free(w1);
	tele_shared_free(s);
	(void)state;
}

static void test_past_the_cap_everything_goes_to_one_overflow_series(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.series_http_max = 3, .series_cell_max = 1});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	for (uint16_t status = 200; status < 210; status++) {
		r.status = status;
		tele_request_done(w, &r);
	}
	assert_int_equal(t_read(s, "istio_requests_total", "").n_found, 4);
	assert_int_equal(t_read(s, "istio_requests_total", "").value, 10);
	assert_int_equal(t_read(s, "istio_requests_total", "destination_service=overflow response_code=overflow reporter=overflow").value, 7);
	uint64_t *first = tele_cell(w, "a_total", NULL, 0), *second = tele_cell(w, "b_total", NULL, 0), *third = tele_cell(w, "c_total", NULL, 0);
	assert_ptr_not_equal(first, second);
	assert_ptr_equal(second, third);
	tele_cell_put(w, third);
	tele_cell_put(w, second);
	assert_int_equal(t_read(s, "foil_tele_series_overflowed_total", "").value, 9);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_labels_too_long_for_a_record_overflow(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	struct foil_worker *w = t_tele_worker(s, 0);
	static char long_name[2000];
	memset(long_name, 'x', sizeof(long_name));
	struct tele_peer peer = t_reviews;
	peer.workload = foil_slice_of(long_name, sizeof(long_name));
	struct tele_request r = t_request();
	r.destination = &peer;
	tele_request_done(w, &r);
	assert_int_equal(t_read(s, "istio_requests_total", "destination_workload=overflow").value, 1);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_idle_series_expire_and_their_place_is_used_again(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.series_http_max = 1, .series_idle_us = US_A_MINUTE});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	tele_request_done(w, &r);
	for (uint32_t i = 0; i < 50; i++) { /* in use: stays */
		t_advance(w, 5000000);
		(void)tele_turn(s, w->now_us);
		tele_request_done(w, &r);
	}
	assert_int_equal(t_read(s, "istio_requests_total", "").value, 51);
	for (uint32_t i = 0; i < 15; i++) {
		t_advance(w, 5000000);
		(void)tele_turn(s, w->now_us);
	}
	t_advance(w, 2000000);
	assert_int_equal(t_read(s, "istio_requests_total", "").n_found, 0);
	assert_int_equal(t_read(s, "foil_tele_series", "").value, 0);
	assert_int_equal(t_read(s, "foil_tele_series_expired_total", "").value, 1);
	r.status = 404;
	tele_request_done(w, &r);
	struct t_sum sum = t_read(s, "istio_requests_total", "response_code=404");
	assert_int_equal(sum.value, 1);
	assert_int_equal(t_read(s, "istio_request_duration_milliseconds", "").counts[1], 1);
	assert_int_equal(t_read(s, "foil_tele_series_overflowed_total", "").value, 0);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

/* A sum over workers must not fall because one of them is idle. */
static void test_series_in_use_by_one_worker_stays_with_all(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.n_workers = 2, .series_idle_us = US_A_MINUTE});
	struct foil_worker *w0 = t_tele_worker(s, 0), *w1 = t_tele_worker(s, 1);
	struct tele_request r = t_request();
	tele_request_done(w1, &r);
	for (uint32_t i = 0; i < 40; i++) {
		tele_request_done(w0, &r);
		t_advance(w0, 5000000);
		t_advance(w1, 5000000);
		(void)tele_turn(s, w0->now_us);
	}
	assert_int_equal(t_read(s, "istio_requests_total", "").value, 41);
	t_tele_worker_free(w0);
	t_tele_worker_free(w1);
	tele_shared_free(s);
	(void)state;
}

static void test_cell_goes_only_after_it_was_put_back(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.series_idle_us = US_A_MINUTE});
	struct foil_worker *w = t_tele_worker(s, 0);
	uint64_t *held = tele_cell(w, "held_total", NULL, 0), *dropped = tele_cell(w, "dropped_total", NULL, 0);
	tele_cell_put(w, dropped);
	*held += 1;
	for (uint32_t i = 0; i < 40; i++) {
		t_advance(w, 5000000);
		(void)tele_turn(s, w->now_us);
	}
	t_advance(w, 2000000);
	assert_int_equal(t_read(s, "held_total", "").value, 1);
	assert_int_equal(t_read(s, "dropped_total", "").n_found, 0);
	tele_cell_put(w, NULL);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

static void test_without_telemetry_every_call_is_harmless(void **state)
{
	struct foil_worker *w = t_worker();
	struct tele_request r = t_request();
	tele_request_done(w, &r);
	tele_tcp_opened(w, &r);
	tele_tcp_bytes(w, &r, 1, 1);
	uint64_t *cell = tele_cell(w, "a_total", NULL, 0);
	assert_non_null(cell);
	*cell += 1;
	tele_cell_put(w, cell);
	tele_fini(w);
	t_worker_free(w);
	(void)state;
}

static void test_params_out_of_range_are_refused(void **state)
{
	struct foil_error err = {0};
	assert_null(tele_shared_new(&(struct tele_shared_params){.n_workers = 0}, &err));
	assert_non_null(strstr(err.text, "workers"));
	assert_null(tele_shared_new(&(struct tele_shared_params){.n_workers = 1, .event_ring_bytes = 5000}, &err));
	assert_non_null(strstr(err.text, "power of two"));
	assert_null(tele_shared_new(&(struct tele_shared_params){.n_workers = 1023, .series_http_max = 1u << 20}, &err));
	assert_non_null(strstr(err.text, "too large"));
	tele_shared_free(NULL);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rooms_counters_and_reasons_are_summed_over_workers_and_housekeeping),
		cmocka_unit_test(test_request_counts_with_all_of_istios_labels),
		cmocka_unit_test(test_grpc_messages_are_told_of_series_that_had_any),
		cmocka_unit_test(test_each_fact_that_differs_makes_a_series_of_its_own),
		cmocka_unit_test(test_facts_are_known_by_address_within_a_configuration),
		cmocka_unit_test(test_histograms_have_istios_buckets),
		cmocka_unit_test(test_tcp_bytes_on_the_way_and_at_close_are_counted_once),
		cmocka_unit_test(test_same_labels_of_two_workers_are_one_sample),
		cmocka_unit_test(test_cells_are_found_again_and_have_the_kind_that_their_name_says),
		cmocka_unit_test(test_past_the_cap_everything_goes_to_one_overflow_series),
		cmocka_unit_test(test_labels_too_long_for_a_record_overflow),
		cmocka_unit_test(test_idle_series_expire_and_their_place_is_used_again),
		cmocka_unit_test(test_series_in_use_by_one_worker_stays_with_all),
		cmocka_unit_test(test_cell_goes_only_after_it_was_put_back),
		cmocka_unit_test(test_without_telemetry_every_call_is_harmless),
		cmocka_unit_test(test_params_out_of_range_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
