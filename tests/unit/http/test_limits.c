/* dataplane/http/limits.c: what connections are opened with is kept once for all that want the same. */
#include "dataplane/core/error.h"
#include "dataplane/http/h2_priv.h"
#include "tests/unit/support.h"

static struct foil_worker *w;

static int begin(void **state)
{
	struct foil_error err;

	w = t_worker();
	assert_int_equal(http_init(w, &(struct http_params){64, 8}, &err), 0);
	(void)state;
	return 0;
}

static int end(void **state)
{
	assert_int_equal(w->http->limits_kept.n_used, 0);
	assert_true(h2_link_is_empty(&w->http->limits));
	http_fini(w);
	t_worker_free(w);
	(void)state;
	return 0;
}

static void test_equal_limits_share_one_copy(void **state)
{
	const struct http_limits a = {.head_bytes_max = 8192, .idle_timeout_us = 5000000};
	struct http_limits b;

	memset(&b, 0xa5, sizeof(b)); /* what lies between the members makes no difference */
	b.head_bytes_max = 8192;
	b.headers_max = 0;
	b.accept_http10 = b.reject_underscores = b.drop_underscores = b.refuse_https = false;
	b.head_timeout_us = 0;
	b.idle_timeout_us = 5000000;
	b.h2_streams_max = b.h2_stream_window_bytes = b.h2_conn_window_bytes = 0;
	b.h2_ping_interval_us = b.h2_ping_timeout_us = b.h2_drain_us = 0;
	b.h2_queue_bytes_max = 0;
	const struct http_limits *first = http_limits_get(w->http, &a), *second = http_limits_get(w->http, &b);
	assert_ptr_equal(first, second);
	assert_int_equal(w->http->limits_kept.n_used, 1);
	assert_int_equal(first->headers_max, 100); /* defaults are in it */
	http_limits_put(w->http, first);
	assert_int_equal(second->head_bytes_max, 8192);
	http_limits_put(w->http, second);
	(void)state;
}

static void test_limits_that_differ_in_anything_do_not_share(void **state)
{
	const struct http_limits others[] = {
		{0}, {.head_bytes_max = 4096}, {.headers_max = 7}, {.accept_http10 = true}, {.reject_underscores = true}, {.drop_underscores = true},
		{.refuse_https = true},
		{.head_timeout_us = 1},
		{.idle_timeout_us = 1}, {.h2_streams_max = 7}, {.h2_stream_window_bytes = 1 << 20}, {.h2_conn_window_bytes = 1 << 22},
		{.h2_ping_interval_us = 1}, {.h2_ping_timeout_us = 1}, {.h2_drain_us = 1}, {.h2_queue_bytes_max = 4096},
	};
	const struct http_limits *kept[FOIL_COUNT_OF(others)];

	for (size_t i = 0; i < FOIL_COUNT_OF(others); i++) {
		kept[i] = http_limits_get(w->http, &others[i]);
		for (size_t k = 0; k < i; k++)
			assert_ptr_not_equal(kept[k], kept[i]);
	}
	for (size_t i = 0; i < FOIL_COUNT_OF(others); i++)
		assert_ptr_equal(http_limits_get(w->http, &others[i]), kept[i]);
	for (size_t i = 0; i < FOIL_COUNT_OF(others); i++) {
		http_limits_put(w->http, kept[i]);
		http_limits_put(w->http, kept[i]);
	}
	(void)state;
}

/* More than are looked at: what is not found is kept again, and nothing is lost. */
static void test_many_limits_cost_copies_and_no_search(void **state)
{
	const struct http_limits *kept[64];

	for (uint32_t i = 0; i < 32; i++)
		kept[i] = http_limits_get(w->http, &(struct http_limits){.idle_timeout_us = 1 + i});
	for (uint32_t i = 0; i < 32; i++) {
		kept[32 + i] = http_limits_get(w->http, &(struct http_limits){.idle_timeout_us = 1 + i});
		assert_int_equal(kept[32 + i]->idle_timeout_us, 1 + i);
	}
	assert_true(w->http->limits_kept.n_used > 32);
	for (uint32_t i = 0; i < 64; i++)
		http_limits_put(w->http, kept[i]);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_equal_limits_share_one_copy, begin, end),
		cmocka_unit_test_setup_teardown(test_limits_that_differ_in_anything_do_not_share, begin, end),
		cmocka_unit_test_setup_teardown(test_many_limits_cost_copies_and_no_search, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
