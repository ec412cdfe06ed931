/* The reader against what it must not trust: segments that lie, segments that are changed at random, files that are none, and a writer that goes on in
 * another thread. */
#include "tests/unit/telemetry/tele_support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "dataplane/core/prng.h"

/* A small real segment, copied into memory of ours. */
static uint8_t *copy_of_segment(size_t *n_bytes)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.n_workers = 2, .series_http_max = 4, .series_tcp_max = 2, .series_cell_max = 4});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	const struct tele_label label = {FOIL_SLICE("cluster_name"), FOIL_SLICE("c")};
	struct stat st;
	tele_request_done(w, &r);
	r.is_tcp = true;
	r.protocol = TELE_PROTOCOL_TCP;
	tele_tcp_opened(w, &r);
	*tele_cell(w, "envoy_x_total", &label, 1) = 1;
	assert_int_equal(fstat(tele_segment_fd(s), &st), 0);
	uint8_t *copy = aligned_alloc(64, ((size_t)st.st_size + 63) / 64 * 64);
	assert_non_null(copy);
	assert_int_equal(pread(tele_segment_fd(s), copy, (size_t)st.st_size, 0), st.st_size);
	*n_bytes = (size_t)st.st_size;
	t_tele_worker_free(w);
	tele_shared_free(s);
	return copy;
}

static void check_sample(void *arg, const struct tele_sample *s)
{
	uint32_t *n = arg;
	(*n)++;
	assert_true(s->name.n_bytes > 0 && s->kind <= TELE_SEGMENT_HISTOGRAM);
	volatile uint64_t touched = 0; /* ASan sees whether everything is there */
	for (uint32_t i = 0; i < s->n_labels; i++)
		for (uint32_t k = 0; k < s->labels[i].value.n_bytes; k++)
			touched += (unsigned char)s->labels[i].value.data[k];
	for (uint32_t i = 0; s->kind == TELE_SEGMENT_HISTOGRAM && i <= s->n_buckets; i++)
		touched += s->counts[i];
	(void)touched;
}

/* Whatever is in the bytes: a sentence, or a scan that ends. */
static uint32_t read_all(const void *data, size_t n_bytes)
{
	struct foil_error err = {0};
	struct tele_reader_stats stats;
	uint32_t n = 0;
	struct tele_reader *r = tele_reader_new_memory(data, n_bytes, &err);
	if (!r) {
		assert_true(err.text[0] != 0);
		return 0;
	}
	assert_int_equal(tele_reader_scan(r, check_sample, &n, &stats), 0);
	assert_int_equal(n, stats.n_samples);
	tele_reader_free(r);
	return n;
}

static void test_good_segment_is_read_and_every_shorter_one_is_refused(void **state)
{
	size_t n_bytes;
	uint8_t *data = copy_of_segment(&n_bytes);
	assert_true(read_all(data, n_bytes) > 8);
	for (size_t n = 0; n < n_bytes; n += n < 1024 ? 1 : 977) {
		struct foil_error err;
		uint8_t *exact = aligned_alloc(8, (n + 8) / 8 * 8);
		memcpy(exact, data, n);
		assert_null(tele_reader_new_memory(exact, n, &err));
		free(exact);
	}
	free(data);
	(void)state;
}

static void test_each_lie_of_the_header_is_refused(void **state)
{
	size_t n_bytes;
	uint8_t *data = copy_of_segment(&n_bytes), *lie = aligned_alloc(64, (n_bytes + 63) / 64 * 64);
#define LIE(field, value) {#field, offsetof(struct tele_segment_header, field), sizeof(((struct tele_segment_header *)0)->field), (uint64_t)(value)}
	const struct {
		const char *field;
		size_t offset, n;
		uint64_t value;
	} lies[] = {
		LIE(magic, 1), LIE(abi, 2), LIE(header_bytes, 8), LIE(total_bytes, n_bytes + 1), LIE(total_bytes, UINT64_MAX), LIE(n_slots, 0x7fffffff),
		LIE(n_workers, 2000), LIE(n_workers, 1000), LIE(n_slots, 1000), LIE(n_entries, 60000), LIE(n_entries, UINT32_MAX), LIE(n_families, 60),
		LIE(n_families, UINT32_MAX), LIE(directory_offset, n_bytes), LIE(directory_offset, UINT64_MAX - 7), LIE(directory_offset, 3),
		LIE(families_offset, n_bytes - 8), LIE(strings_offset, UINT64_MAX - 7), LIE(n_string_bytes, UINT32_MAX),
		LIE(n_fixed_cells, UINT32_MAX), LIE(n_fixed_cells, 100000), LIE(fixed_offset, n_bytes), LIE(fixed_offset, 4), LIE(fixed_stride_bytes, 8),
		LIE(fixed_stride_bytes, UINT64_MAX - 7), LIE(regions_offset, UINT64_MAX - 7), LIE(regions_offset, 12), LIE(region_stride_bytes, UINT64_MAX - 7),
		LIE(region_stride_bytes, 0), LIE(classes[0].n_records, UINT32_MAX), LIE(classes[0].n_records, 1000), LIE(classes[1].record_bytes, 1537),
		LIE(classes[1].record_bytes, UINT32_MAX - 7), LIE(classes[2].n_cells, UINT32_MAX), LIE(classes[2].text_bytes, UINT32_MAX),
		LIE(classes[0].offset, 0), LIE(classes[0].offset, UINT64_MAX - 7), LIE(classes[2].offset, n_bytes),
	};
	for (size_t i = 0; i < FOIL_COUNT_OF(lies); i++) {
		struct foil_error err = {0};
		memcpy(lie, data, n_bytes);
		memcpy(lie + lies[i].offset, &lies[i].value, lies[i].n);
		struct tele_reader *r = tele_reader_new_memory(lie, n_bytes, &err);
		if (r)
			fail_msg("%s = %llu was believed", lies[i].field, (unsigned long long)lies[i].value);
		assert_non_null(strstr(err.text, "metrics segment"));
	}
	free(data);
	free(lie);
	(void)state;
}

static void test_random_changes_never_lead_outside(void **state)
{
	size_t n_bytes;
	uint8_t *data = copy_of_segment(&n_bytes), *changed = aligned_alloc(64, (n_bytes + 63) / 64 * 64);
	struct tele_segment_header h;
	struct foil_prng prng;
	memcpy(&h, data, sizeof(h));
	foil_prng_seed(&prng, 7);
	const size_t ends[] = {sizeof(h), h.fixed_offset, n_bytes};
	for (uint32_t i = 0; i < 3000; i++) {
		memcpy(changed, data, n_bytes);
		size_t end = ends[i % 3], begin = i % 3 == 2 ? h.regions_offset : 0;
		for (uint32_t k = 0, n = 1 + foil_prng_below(&prng, 8); k < n; k++) {
			size_t at = begin + foil_prng_below(&prng, (uint32_t)(end - begin));
			changed[at] = (uint8_t)(foil_prng_u64(&prng) >> 8 & (k % 2 ? 0xff : 0x0f));
		}
		(void)read_all(changed, n_bytes);
	}
	free(data);
	free(changed);
	(void)state;
}

static void test_record_that_is_being_written_is_left_out(void **state)
{
	size_t n_bytes;
	uint8_t *data = copy_of_segment(&n_bytes);
	struct tele_segment_header h;
	struct foil_error err;
	struct tele_reader_stats stats;
	uint32_t n = 0;
	memcpy(&h, data, sizeof(h));
	uint64_t *seq = (uint64_t *)(void *)(data + h.regions_offset + h.classes[0].offset + h.classes[0].record_bytes);
	(*seq)++;
	struct tele_reader *r = tele_reader_new_memory(data, n_bytes, &err);
	assert_non_null(r);
	assert_int_equal(tele_reader_scan(r, check_sample, &n, &stats), 0);
	assert_int_equal(stats.n_torn, 1);
	assert_int_equal(stats.n_invalid, 0);
	tele_reader_free(r);
	free(data);
	(void)state;
}

static void test_files_that_are_no_segment_are_refused(void **state)
{
	struct foil_error err = {0};
	int fd = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 65536), 0);
	assert_null(tele_reader_new(fd, &err)); /* could shrink under us */
	assert_non_null(strstr(err.text, "sealed"));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_null(tele_reader_new(fd, &err));
	assert_non_null(strstr(err.text, "no metrics segment"));
	(void)close(fd);
	assert_null(tele_reader_new(fd, &err));
	(void)state;
}

static void test_segment_can_be_neither_written_nor_resized_by_who_gets_it(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){0});
	int fd = tele_segment_fd(s);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, 4096), -1);
	assert_int_equal(ftruncate(fd, st.st_size * 2), -1);
	if (fcntl(fd, F_GET_SEALS) & 0x10) { /* F_SEAL_FUTURE_WRITE */
		assert_int_equal(pwrite(fd, "x", 1, 0), -1);
		assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	}
	tele_shared_free(s);
	(void)state;
}

/* ---- a writer in another thread */

struct writer {
	struct foil_worker *w;
	bool stop;
	uint64_t n_requests;
};

/* Makes, uses and (with a short idle time) gives back series all the time, so that the reader meets every state. */
static void *write_on(void *arg)
{
	struct writer *writer = arg;
	struct tele_request r = t_request();
	for (uint32_t i = 0; !__atomic_load_n(&writer->stop, __ATOMIC_RELAXED); i++) {
		r.status = (uint16_t)(200 + i % 7 + i / 1000 % 50);
		r.log = i % 8 == 0; /* housekeeping drains the ring meanwhile */
		tele_request_done(writer->w, &r);
		writer->n_requests++;
		writer->w->now_us += 1000;
		foil_wheel_advance(writer->w, 256);
	}
	return NULL;
}

struct seen {
	uint64_t n_samples, n_bad;
};

/* The writer's labels are all from one request: a sample with others was read half-written. */
static void check_whole(void *arg, const struct tele_sample *s)
{
	struct seen *seen = arg;
	if (!foil_slice_eq(s->name, FOIL_SLICE("istio_requests_total")))
		return;
	seen->n_samples++;
	seen->n_bad += s->n_labels != 25 || !t_has_label(s, "destination_service=reviews.shop.svc.cluster.local", 50) ||
		       !t_has_label(s, "request_protocol=http", 21) || !t_has_label(s, "response_flags=-", 16);
}

static void test_reader_sees_whole_series_while_a_writer_goes_on(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.series_http_max = 64, .series_idle_us = 1000000});
	struct writer writer = {.w = t_tele_worker(s, 0)};
	struct foil_error err = {0};
	struct tele_reader *r = tele_reader_new(tele_segment_fd(s), &err);
	struct seen seen = {0};
	pthread_t thread;
	struct timespec now, end;
	assert_non_null(r);
	foil_worker_set_current(NULL);
	assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += 1;
	uint64_t n_scans = 0, last = 0;
	do {
		struct tele_reader_stats stats;
		struct t_sum sum = {.name = "foil_tele_series_expired_total", .want = ""};
		assert_int_equal(tele_reader_scan(r, check_whole, &seen, &stats), 0);
		assert_int_equal(stats.n_invalid, 0);
		(void)tele_turn(s, 1000000000000ull); /* everything looks idle from there: records come and go */
		assert_int_equal(tele_reader_scan(r, t_sum_one, &sum, &stats), 0);
		assert_true(sum.value >= last);
		last = sum.value;
		n_scans++;
		(void)clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
	__atomic_store_n(&writer.stop, true, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(seen.n_bad, 0);
	assert_true(seen.n_samples > 0);
	assert_true(n_scans > 0);
	tele_reader_free(r);
	t_tele_worker_free(writer.w);
	tele_shared_free(s);
	(void)state;
}

/* ---- handing over */

struct server {
	int listen_fd;
	struct tele_shared *s;
	bool stop;
};

static void *serve(void *arg)
{
	struct server *server = arg;
	while (!__atomic_load_n(&server->stop, __ATOMIC_RELAXED)) {
		(void)tele_handover_turn(server->listen_fd, server->s);
		(void)usleep(1000);
	}
	return NULL;
}

static void test_segment_is_handed_over_by_socket(void **state)
{
	char folder[] = "/tmp/foil-test-stats-XXXXXX", path[128], other[128];
	struct foil_error err = {0};
	struct server server = {.s = t_shared((struct tele_shared_params){0})};
	pthread_t thread;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/deep/er/stats", folder);
	assert_int_equal(tele_handover_connect(path, 100, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));
	server.listen_fd = tele_handover_listen(path, &err);
	if (server.listen_fd < 0)
		fail_msg("%s", err.text);
	assert_int_equal(tele_handover_listen(path, &err), -EADDRINUSE);
	assert_int_equal(tele_handover_connect(path, 50, &err), -ETIMEDOUT); /* it listens and does not answer */
	assert_int_equal(pthread_create(&thread, NULL, serve, &server), 0);
	int fd = tele_handover_connect(path, 2000, &err);
	if (fd < 0)
		fail_msg("%s", err.text);
	struct tele_reader *r = tele_reader_new(fd, &err);
	assert_non_null(r);
	assert_true(tele_reader_generation(r) != 0);
	(void)close(fd);
	tele_reader_free(r);
	__atomic_store_n(&server.stop, true, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	(void)close(server.listen_fd); /* as if it died: the path stays */
	assert_int_equal(tele_handover_connect(path, 50, &err), -ECONNREFUSED);
	server.listen_fd = tele_handover_listen(path, &err);
	assert_true(server.listen_fd >= 0);
	(void)close(server.listen_fd);
	(void)unlink(path);
	int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	(void)close(file);
	assert_int_equal(tele_handover_listen(path, &err), -EEXIST);
	assert_int_equal(tele_handover_listen("relative", &err), -EINVAL);
	(void)unlink(path);
	(void)snprintf(other, sizeof(other), "%s/deep/er", folder);
	(void)rmdir(other);
	(void)snprintf(other, sizeof(other), "%s/deep", folder);
	(void)rmdir(other);
	assert_int_equal(rmdir(folder), 0);
	tele_shared_free(server.s);
	(void)state;
}

/* TM-12: 100,000 series within a second. */
static void count_only(void *arg, const struct tele_sample *s)
{
	(void)s;
	(*(uint32_t *)arg)++;
}

static void test_100000_series_are_scanned_within_a_second(void **state)
{
	struct tele_shared *s = t_shared((struct tele_shared_params){.series_http_max = 32768, .series_cell_max = 1});
	struct foil_worker *w = t_tele_worker(s, 0);
	struct tele_request r = t_request();
	struct tele_peer peer = t_reviews;
	struct foil_error err;
	struct tele_reader_stats stats;
	struct timespec from, to;
	char workload[16];
	uint32_t n = 0;
	r.destination = &peer;
	r.log = false;
	for (uint32_t i = 0; i < 25000; i++) { /* of four metrics each */
		peer.workload = foil_slice_of(workload, (size_t)snprintf(workload, sizeof(workload), "w-%u", i));
		tele_request_done(w, &r);
	}
	struct tele_reader *reader = tele_reader_new(tele_segment_fd(s), &err);
	assert_non_null(reader);
	(void)clock_gettime(CLOCK_MONOTONIC, &from);
	assert_int_equal(tele_reader_scan(reader, count_only, &n, &stats), 0);
	(void)clock_gettime(CLOCK_MONOTONIC, &to);
	assert_true(n >= 100000);
	double s_taken = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
	print_message("# %u series in %.0f ms\n", n, s_taken * 1000);
	assert_true(s_taken < 5); /* a second alone; several test programs share the machine, and a sanitizer takes its part */
	tele_reader_free(reader);
	t_tele_worker_free(w);
	tele_shared_free(s);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_segment_is_read_and_every_shorter_one_is_refused),
		cmocka_unit_test(test_each_lie_of_the_header_is_refused),
		cmocka_unit_test(test_random_changes_never_lead_outside),
		cmocka_unit_test(test_record_that_is_being_written_is_left_out),
		cmocka_unit_test(test_files_that_are_no_segment_are_refused),
		cmocka_unit_test(test_segment_can_be_neither_written_nor_resized_by_who_gets_it),
		cmocka_unit_test(test_reader_sees_whole_series_while_a_writer_goes_on),
		cmocka_unit_test(test_segment_is_handed_over_by_socket),
		cmocka_unit_test(test_100000_series_are_scanned_within_a_second),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
