/* The PROXY protocol in the runtime: connections that begin with a header, upstream connections that tell it on and so belong to one client; and retry
 * budgets, which are a share of what is under way. */
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/mesh/breaker.h"
#include "dataplane/mesh/runtime.h"

#define GET "GET /a HTTP/1.1\r\nhost: web.example.com\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

static struct fx *begin(struct fx_config *c)
{
	return fx_new((struct t_worker_params){.seed = 7}, c, 64, 64);
}

static struct fx *begin_behind_proxy(void)
{
	struct fx_config *c = fx_config_new(1, 1);

	c->listener.proxy_protocol = true;
	return begin(c);
}

static void test_the_header_tells_who_the_client_is(void **state)
{
	struct fx *f = begin_behind_proxy();
	struct fx_stream *c = fx_connect(f);

	fx_say(f, c, "PROXY TCP4 1.2.3.4 5.6.");
	fx_say(f, c, "7.8 1111 2222\r\n" GET);
	struct fx_stream *u = fx_up_open(f);
	t_assert_has(fx_heard(u), "x-forwarded-for: 1.2.3.4\r\n");
	fx_say(f, u, OK);
	t_assert_has(fx_heard(c), "200 OK");
	assert_int_equal(f->record[0].r.downstream_remote.port, 1111);
	assert_int_equal(f->record[0].r.downstream_local.port, 2222);
	assert_int_equal(t_counter(f->w, MESH, PROXY_HEADERS), 1);
	fx_say(f, c, GET); /* the header was the connection's */
	t_assert_has(fx_heard(u), "x-forwarded-for: 1.2.3.4\r\n");
	fx_free(f);
}

static void test_unknown_leaves_the_connections_own(void **state)
{
	struct fx *f = begin_behind_proxy();
	struct fx_stream *c = fx_connect(f);

	fx_say(f, c, "PROXY UNKNOWN\r\n" GET);
	t_assert_has(fx_heard(fx_up_open(f)), "x-forwarded-for: 198.18.0.2\r\n");
	fx_free(f);
}

static void test_without_a_good_header_nobody_is_served(void **state)
{
	static const char *const bad[] = {GET, "PROXY TCP4 1.2.3.4 nowhere 1 2\r\n" GET};
	struct fx *f = begin_behind_proxy();
	struct fx_stream *c;

	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		c = fx_connect(f);
		fx_say(f, c, bad[i]);
		assert_true(c->is_aborted);
	}
	c = fx_connect(f);
	fx_say(f, c, "PROXY ");
	fx_eof(f, c);
	assert_true(c->is_aborted);
	c = fx_connect(f);
	t_advance(f->w, 16000000); /* says nothing */
	assert_true(c->is_aborted);
	assert_int_equal(f->n_connects, 0);
	fx_free(f);
}

static void test_upstream_connections_are_one_clients(void **state)
{
	struct fx_config *cfg = fx_config_new(1, 1);

	cfg->cluster[0].proxy_protocol = PROXY_HEADER_V1;
	cfg->listener.proxy_protocol = true;
	struct fx *f = begin(cfg);
	struct fx_stream *a = fx_connect(f), *b = fx_connect(f);
	fx_say(f, a, "PROXY TCP4 1.1.1.1 2.2.2.2 11 22\r\n" GET);
	struct fx_stream *ua = fx_up_open(f);
	t_assert_has(fx_heard(ua), "PROXY TCP4 1.1.1.1 2.2.2.2 11 22\r\nGET /a HTTP/1.1\r\n");
	fx_say(f, ua, OK);
	fx_say(f, b, "PROXY TCP4 1.1.1.1 2.2.2.2 12 22\r\n" GET);
	assert_int_equal(f->n_connects, 2); /* though one is idle */
	struct fx_stream *ub = fx_up_open(f);
	t_assert_has(fx_heard(ub), "PROXY TCP4 1.1.1.1 2.2.2.2 12 22\r\nGET /a HTTP/1.1\r\n");
	fx_say(f, ub, OK);
	fx_say(f, a, GET);
	assert_int_equal(f->n_connects, 2);
	assert_int_equal(strncmp(fx_heard(ua), "GET /a", 6), 0); /* the header came once */
	fx_say(f, ua, OK);
	t_advance(f->w, 31000000); /* idle: who knows whether the client is there */
	assert_true((ua->is_released || ua->is_aborted) && (ub->is_released || ub->is_aborted));
	fx_free(f);
}

static void test_a_new_header_version_retires_old_connections(void **state)
{
	struct fx_config *cfg = fx_config_new(1, 1), *next = fx_config_new(1, 1);

	cfg->cluster[0].proxy_protocol = PROXY_HEADER_V1;
	next->cluster[0].proxy_protocol = PROXY_HEADER_V2;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET);
	fx_say(f, fx_up_open(f), OK);
	fx_publish(f, next);
	fx_say(f, c, GET);
	assert_int_equal(f->n_connects, 2);
	assert_int_equal(memcmp(fx_heard(fx_up_open(f)), "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\14", 16), 0);
	fx_free(f);
}

/* A fifth, and one at least. */
static struct fx *begin_with_budget(uint64_t interval_us)
{
	struct fx_config *cfg = fx_config_new(1, 1);
	struct mesh_circuit_breaker *b = &cfg->cluster[0].breaker;

	b->has_retry_budget = true;
	b->max_retries = 0;
	b->retry_budget_permille = 200;
	b->retry_budget_min = 1;
	b->retry_budget_interval_us = interval_us;
	return begin(cfg);
}

static void test_a_budget_is_a_share_of_what_is_under_way(void **state)
{
	struct fx *f = begin_with_budget(0);
	const struct mesh_cluster *c = &f->config->cluster[0];
	struct mesh_cluster_state *s = f->config->endpoint[0][0].host->cluster;
	assert_true(mesh_breaker_take(f->w, c, s, MESH_BREAKER_RETRIES)); /* the least */
	assert_false(mesh_breaker_take(f->w, c, s, MESH_BREAKER_RETRIES));
	mesh_breaker_add(f->w, s, MESH_BREAKER_REQUESTS, 9);
	assert_false(mesh_breaker_take(f->w, c, s, MESH_BREAKER_RETRIES)); /* 1.8 is 1 */
	mesh_breaker_add(f->w, s, MESH_BREAKER_PENDING, 1);
	assert_true(mesh_breaker_take(f->w, c, s, MESH_BREAKER_RETRIES));
	assert_false(mesh_breaker_take(f->w, c, s, MESH_BREAKER_RETRIES));
	mesh_breaker_add(f->w, s, MESH_BREAKER_RETRIES, -2);
	mesh_breaker_add(f->w, s, MESH_BREAKER_REQUESTS, -9);
	mesh_breaker_add(f->w, s, MESH_BREAKER_PENDING, -1);
	fx_free(f);
}

/* Recorded: tests/recorded/retries-budget-interval.yaml. */
static void test_a_budget_with_an_interval_is_a_share_of_what_was_begun(void **state)
{
	struct fx *f = begin_with_budget(3000000);
	const struct mesh_cluster *c = &f->config->cluster[0];
	struct mesh_cluster_state *s = f->config->endpoint[0][0].host->cluster;
	t_advance(f->w, 10000000);
	struct fx_stream *down = fx_connect(f), *up = NULL;
	for (unsigned int i = 0; i < 14; i++) { /* over now: that does not matter */
		fx_say(f, down, GET);
		up = up ? up : fx_up_open(f);
		fx_say(f, up, OK);
		t_advance(f->w, 100000);
	}
	assert_int_equal(mesh_begun_sum(f->w, c, s), 14);
	mesh_breaker_add(f->w, s, MESH_BREAKER_REQUESTS, 100); /* nor who is under way for long */
	assert_int_equal(mesh_breaker_retry_budget(f->w, c, s), 2);
	assert_true(mesh_breaker_take(f->w, c, s, MESH_BREAKER_RETRIES));
	assert_true(mesh_breaker_take(f->w, c, s, MESH_BREAKER_RETRIES));
	assert_false(mesh_breaker_take(f->w, c, s, MESH_BREAKER_RETRIES));
	mesh_breaker_add(f->w, s, MESH_BREAKER_RETRIES, -2);
	t_advance(f->w, 2300000); /* the first half of them was begun more than 3 s ago */
	assert_in_range(mesh_begun_sum(f->w, c, s), 7, 8);
	t_advance(f->w, 1000000);
	assert_int_equal(mesh_begun_sum(f->w, c, s), 0);
	assert_int_equal(mesh_breaker_retry_budget(f->w, c, s), 1);
	mesh_breaker_add(f->w, s, MESH_BREAKER_REQUESTS, -100);
	fx_free(f);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_header_tells_who_the_client_is), cmocka_unit_test(test_unknown_leaves_the_connections_own),
		cmocka_unit_test(test_without_a_good_header_nobody_is_served), cmocka_unit_test(test_upstream_connections_are_one_clients),
		cmocka_unit_test(test_a_new_header_version_retires_old_connections), cmocka_unit_test(test_a_budget_is_a_share_of_what_is_under_way),
		cmocka_unit_test(test_a_budget_with_an_interval_is_a_share_of_what_was_begun),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
