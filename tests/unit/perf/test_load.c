/* perf/load without a wire: the histogram's figures, heads in pieces, answers that count and those that do not, open and closed loop. */
#include <stdlib.h>

#include "tests/unit/support.h"

#include "perf/load/load.h"

#define ANSWER "HTTP/1.1 200 OK\r\ndate: now\r\nContent-Length: 4\r\n\r\nbody"

static struct load_conf base(void)
{
	return (struct load_conf){.work = LOAD_HTTP, .host = "h", .path = "/", .connections = 1, .pipeline = 1, .body_bytes = 4, .target_port = 80,
				  .seconds = 60, .warm_up_seconds = 60, .label = "", .quiet = true};
}

static uint32_t n_connects, n_writes, n_closes;
static int connect_rc;

static int fake_connect(struct load *l, struct load_conn *c)
{
	n_connects++;
	return connect_rc;
}

static void fake_write(struct load *l, struct load_conn *c, const void *data, uint32_t n_bytes)
{
	n_writes++;
}

static void fake_close(struct load *l, struct load_conn *c)
{
	n_closes++;
}

static const struct load_io fake = {.connect = fake_connect, .write = fake_write, .close = fake_close};

static struct load *started(const struct load_conf *k)
{
	struct load *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	n_connects = n_writes = n_closes = 0;
	connect_rc = 0;
	assert_int_equal(load_init(l, k, &fake), 0);
	assert_true(load_turn(l));
	return l;
}

static void ended(struct load *l)
{
	load_fini(l);
	free(l);
}

static void test_histogram_is_within_a_hundredth(void **state)
{
	struct load_hist *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	assert_int_equal(load_hist_at(h, 0.5), 0);
	for (uint64_t i = 1; i <= 100000; i++)
		load_hist_add(h, i * 1000);
	assert_int_equal(h->n, 100000);
	assert_int_equal(h->min_ns, 1000);
	assert_int_equal(load_hist_at(h, 1), 100000000);
	for (double share = 0.001; share < 1; share += 0.013) {
		double at = (double)load_hist_at(h, share), exact = share * 1e8;
		assert_true(at >= exact * 0.999 && at <= exact * 1.01);
	}
	load_hist_add(h, UINT64_MAX); /* beyond the last bucket: counted there */
	assert_int_equal(load_hist_at(h, 1), UINT64_MAX);
	free(h);
	(void)state;
}

static void test_head_whole_or_not_at_all(void **state)
{
	static const char head[] = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 17\r\nConnection: Keep-Alive, close\r\nx: y\r\n\r\nrest";
	struct load_head h;

	for (uint32_t n = 0; n < sizeof(head) - 5; n++) {
		load_head_scan(head, n, &h);
		assert_int_equal(h.n_bytes, 0);
	}
	load_head_scan(head, sizeof(head) - 1, &h);
	assert_int_equal(h.n_bytes, sizeof(head) - 1 - 4);
	assert_int_equal(h.status, 503);
	assert_int_equal(h.content_length, 17);
	assert_true(h.has_length);
	assert_true(h.close);
	(void)state;
}

static void test_an_answer_cut_anywhere_counts_once(void **state)
{
	struct load_conf k = base();
	struct load *l = started(&k);
	struct load_conn *c = &l->conns[0];

	load_opened(l, c);
	for (uint32_t cut = 1; cut < sizeof(ANSWER) - 1; cut++) {
		uint64_t before = l->n_done;
		assert_true(load_bytes(l, c, ANSWER, cut));
		assert_int_equal(l->n_done, before);
		assert_true(load_bytes(l, c, &ANSWER[cut], (uint32_t)sizeof(ANSWER) - 1 - cut));
		assert_int_equal(l->n_done, before + 1);
		assert_int_equal(n_writes, l->n_done + 1); /* closed loop: asked again */
	}
	assert_int_equal(n_closes, 0);
	ended(l);
	(void)state;
}

static void test_wrong_answers_are_errors(void **state)
{
	static const struct {
		const char *text;
		enum load_error error;
	} cases[] = {
		{"HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\nbody", LOAD_ERR_STATUS}, {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nbody!", LOAD_ERR_LENGTH},
		{"HTTP/1.1 200 OK\r\n\r\n", LOAD_ERR_LENGTH}, {"nonsense\n\n", LOAD_ERR_PROTOCOL}, {ANSWER "x", LOAD_ERR_COUNT},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct load_conf k = base();
		struct load *l = started(&k);
		load_opened(l, &l->conns[0]);
		bool alive = load_bytes(l, &l->conns[0], cases[i].text, (uint32_t)strlen(cases[i].text));
		if (cases[i].error < LOAD_ERR_COUNT) {
			assert_false(alive);
			assert_int_equal(l->n_errors[cases[i].error], 1);
			assert_int_equal(n_closes, 1);
			assert_int_equal(l->n_done, 0);
			assert_true(load_turn(l)); /* and opens again */
			assert_int_equal(n_connects, 2);
		}
		ended(l);
	}
	(void)state;
}

static void test_new_connection_a_request(void **state)
{
	struct load_conf k = base();

	k.work = LOAD_NEWCONN;
	struct load *l = started(&k);
	assert_int_equal(n_connects, 1);
	load_opened(l, &l->conns[0]);
	assert_int_equal(n_writes, 1);
	assert_false(load_bytes(l, &l->conns[0], ANSWER, sizeof(ANSWER) - 1));
	assert_int_equal(n_closes, 1);
	assert_int_equal(n_connects, 2);
	load_closed(l, &l->conns[0]); /* refused */
	assert_int_equal(l->n_errors[LOAD_ERR_CONNECT], 1);
	connect_rc = -1;
	assert_true(load_turn(l));
	assert_int_equal(l->n_errors[LOAD_ERR_CONNECT], 2);
	assert_int_equal(l->n_opening, 0);
	ended(l);
	(void)state;
}

/* A request that finds no idle connection waits for one, and its latency counts from when it was due. */
static void test_open_loop_counts_from_when_it_was_due(void **state)
{
	struct load_conf k = base();

	k.rate = 10;
	struct load *l = started(&k);
	l->measuring = true;
	l->end_ns = UINT64_MAX;
	load_opened(l, &l->conns[0]); /* the first is due at the start */
	assert_int_equal(n_writes, 1);
	l->next_due_exact -= 5e9; /* as if five seconds had gone by: fifty are overdue */
	assert_true(load_bytes(l, &l->conns[0], ANSWER, sizeof(ANSWER) - 1));
	assert_int_equal(n_writes, 2); /* at once, as it is overdue */
	assert_true(load_bytes(l, &l->conns[0], ANSWER, sizeof(ANSWER) - 1));
	assert_true(l->hist.max_ns > 4000000000u);
	assert_true(load_turn(l));
	assert_true(l->n_overdue_max >= 40);
	ended(l);
	(void)state;
}

/* Ten a second and a turn that took a second: ten came due in it, spread over it. */
static void test_what_the_generator_itself_adds_is_told_apart(void **state)
{
	struct load_conf k = base();

	k.rate = 10;
	struct load *l = started(&k);
	assert_int_equal(l->own.n, 0);
	l->measuring = true;
	l->end_ns = UINT64_MAX;
	l->turn_ns -= 1000000000u;
	assert_true(load_turn(l));
	assert_in_range(l->own.n, 10, 11);
	assert_in_range(load_hist_at(&l->own, 0.5), 440000000, 560000000);
	assert_in_range(l->own.max_ns, 900000000, 1100000000);
	ended(l);
	(void)state;
}

/* Two answers of a stretch, one of them of a request that was due before the generator lost its core for a while. */
static void test_requests_that_the_generator_kept_waiting_are_left_out(void **state)
{
	struct load_conf k = base();

	k.rate = 10;
	struct load *l = started(&k);
	uint64_t t = l->stretch_ns, cpu = l->stretch_cpu_ns;
	assert_true(t > 0);
	load_stretch_end(l, t + 1000000, cpu + 1000000 - LOAD_OFF_NS + 1); /* all but on its core */
	assert_int_equal(l->off_ns, 0);
	l->answers[0].due_ns = t;
	l->answers[0].took_ns = 500;
	l->n_answers = 1;
	load_stretch_end(l, t + 2000000, cpu + 2000000);
	assert_int_equal(l->clear.n, 1);
	l->answers[0].due_ns = t + 1500000;
	l->answers[0].took_ns = 5000000;
	l->n_answers = 1;
	load_stretch_end(l, t + 9000000, cpu + 3000000); /* seven milliseconds went by, one of them here */
	assert_int_equal(l->off_ns, 6000000);
	assert_int_equal(l->clear.n, 1);
	l->answers[0].due_ns = t + 8000000; /* due while it was off */
	l->answers[1].due_ns = t + 9500000;
	l->answers[0].took_ns = l->answers[1].took_ns = 700;
	l->n_answers = 2;
	load_stretch_end(l, t + 10000000, cpu + 4000000);
	assert_int_equal(l->clear.n, 2);
	assert_int_equal(l->n_answers, 0);
	ended(l);
	(void)state;
}

static void test_measuring_begins_soon_after_everybody_had_an_answer(void **state)
{
	struct load_conf k = base();

	k.settle_seconds = 1;
	struct load *l = started(&k);
	uint64_t before_ns = l->measure_ns;
	load_opened(l, &l->conns[0]);
	assert_true(load_turn(l));
	assert_int_equal(l->measure_ns, before_ns);
	assert_true(load_bytes(l, &l->conns[0], ANSWER, sizeof(ANSWER) - 1));
	assert_true(load_turn(l));
	assert_true(l->measure_ns <= l->now_ns + 1000000000u);
	ended(l);
	(void)state;
}

static void test_origin_answers_each_request_once(void **state)
{
	static const char requests[] = "GET / HTTP/1.1\r\nhost: a\r\n\r\nPOST /x HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n";
	struct load_conf k = base();
	struct load *l = started(&k);

	for (uint32_t cut = 0; cut < sizeof(requests) - 1; cut++) {
		struct load_served s = {0};
		int n = load_origin_bytes(l, &s, requests, cut);
		n += load_origin_bytes(l, &s, requests + cut, (uint32_t)sizeof(requests) - 1 - cut);
		assert_int_equal(n, 3);
		load_served_free(&s);
	}
	ended(l);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_histogram_is_within_a_hundredth), cmocka_unit_test(test_head_whole_or_not_at_all),
		cmocka_unit_test(test_an_answer_cut_anywhere_counts_once), cmocka_unit_test(test_wrong_answers_are_errors),
		cmocka_unit_test(test_new_connection_a_request), cmocka_unit_test(test_open_loop_counts_from_when_it_was_due),
		cmocka_unit_test(test_what_the_generator_itself_adds_is_told_apart),
		cmocka_unit_test(test_requests_that_the_generator_kept_waiting_are_left_out),
		cmocka_unit_test(test_measuring_begins_soon_after_everybody_had_an_answer),
		cmocka_unit_test(test_origin_answers_each_request_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
