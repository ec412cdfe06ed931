/* Upstream connections: reuse, waiting, breakers, limits, and what an origin's odd behaviour at rest does
 * (features.md DR-22..DR-35; the judge's circuit-breaker). */
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/mesh/breaker.h"

#define GET(path) "GET " path " HTTP/1.1\r\nhost: web.example.com\r\n\r\n"
#define OK_15 "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\nhello from v1a\n"

static struct fx *begin(struct fx_config *c)
{
	return fx_new((struct t_worker_params){.seed = 7, .n_chunks = 1023}, c, 64, 64);
}

static void test_overflow(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->cluster[0].breaker.max_connections = 1;
	cfg->cluster[0].breaker.max_pending_requests = 1;
	struct fx *f = begin(cfg);
	struct fx_stream *c[6];
	for (int i = 0; i < 6; i++)
		c[i] = fx_connect(f);
	fx_say(f, c[0], GET("/0"));
	struct fx_stream *u = fx_up_open(f);
	for (int i = 1; i < 6; i++)
		fx_say(f, c[i], GET("/n"));
	assert_int_equal(f->n_connects, 1);
	assert_int_equal(f->n_records, 4);
	for (int i = 2; i < 6; i++) {
		const char *a = fx_heard(c[i]);
		t_assert_has(a, "HTTP/1.1 503 Service Unavailable\r\n");
		t_assert_has(a, "x-envoy-overloaded: true\r\n");
		t_assert_has(a, "content-length: 81\r\n");
		t_assert_has(a, "upstream connect error or disconnect/reset before headers. reset reason: overflow");
	}
	assert_int_equal(fx_last(f, 4)->r.flags, TELE_FLAG_UO);
	assert_string_equal(fx_last(f, 4)->details, "upstream_reset_before_response_started{overflow}");
	assert_int_equal(fx_last(f, 4)->r.upstream_host.port, 0);
	fx_say(f, u, OK_15); /* whoever waits is next on it */
	t_assert_has(fx_heard(u), "GET /n ");
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c[1]), "hello");
	assert_int_equal(f->n_connects, 1);
	fx_free(f);
}

static void test_max_requests(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->cluster[0].breaker.max_requests = 1;
	struct fx *f = begin(cfg);
	struct fx_stream *a = fx_connect(f), *b = fx_connect(f);
	fx_say(f, a, GET("/a"));
	fx_say(f, b, GET("/b"));
	assert_int_equal(f->n_connects, 2);
	fx_opened(f, f->up[0]);
	assert_int_equal(f->n_records, 0);
	fx_opened(f, f->up[1]);
	t_assert_has(fx_heard(b), "reset reason: overflow");
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UO);
	assert_int_equal(fx_last(f, 1)->r.upstream_host.port, 8080); /* this one got as far as the host */
	fx_say(f, b, GET("/b"));
	t_assert_has(fx_heard(b), "x-envoy-overloaded: true");
	fx_free(f);
}

static void test_taken_by_another(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *a = fx_connect(f), *b = fx_connect(f);
	fx_say(f, a, GET("/a"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, b, GET("/b"));
	assert_int_equal(f->n_connects, 2);
	fx_say(f, u, OK_15); /* a's connection is free before b's is open */
	t_assert_has(fx_heard(u), "GET /b ");
	fx_opened(f, f->up[1]); /* nobody needs it: it is kept */
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(b), "hello");
	fx_say(f, a, GET("/c"));
	assert_int_equal(f->n_connects, 2);
	t_assert_has(fx_heard(u), "GET /c "); /* the one that was used last */
	fx_free(f);
}

static void test_origin_closes_at_rest(void **state)
{
	(void)state;
	static const bool has_event[] = {true, false};
	for (size_t i = 0; i < 2; i++) {
		struct fx *f = begin(fx_config_new(1, 1));
		struct fx_stream *c = fx_connect(f);
		fx_say(f, c, GET("/a"));
		struct fx_stream *u = fx_up_open(f);
		fx_say(f, u, OK_15);
		if (has_event[i])
			fx_eof(f, u);
		else
			u->s.rx_eof = true; /* the FIN is in, its event still to come */
		fx_heard(c);
		fx_say(f, c, GET("/b"));
		assert_int_equal(f->n_connects, 2);
		assert_true(u->is_dead);
		fx_say(f, fx_up_open(f), OK_15);
		t_assert_has(fx_heard(c), "hello");
		fx_free(f);
	}
	/* says something that nobody asked for */
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/a"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, OK_15 "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
	assert_true(u->is_dead);
	fx_heard(c);
	fx_say(f, c, GET("/b"));
	fx_say(f, fx_up_open(f), OK_15);
	t_assert_has(fx_heard(c), "hello");
	fx_free(f);
}

static void test_connection_close(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/a"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
	assert_true(u->is_dead);
	const char *a = fx_heard(c);
	assert_null(strstr(a, "connection: close"));
	fx_free(f);
}

static void test_limits_of_a_connection(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->cluster[0].max_requests_per_connection = 2;
	cfg->cluster[0].idle_timeout_us = 1000000;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/1"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, OK_15);
	fx_say(f, c, GET("/2"));
	fx_say(f, u, OK_15);
	assert_true(u->is_dead);
	fx_say(f, c, GET("/3"));
	u = fx_up_open(f);
	t_advance(f->w, 600000);
	fx_say(f, u, OK_15);
	t_advance(f->w, 600000);
	assert_false(u->is_dead); /* idle for 0.6 s only */
	t_advance(f->w, 500000);
	assert_true(u->is_dead);
	fx_free(f);
}

static void test_waiters_fail_together(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *c[3];
	for (int i = 0; i < 3; i++) {
		c[i] = fx_connect(f);
		fx_say(f, c[i], GET("/x"));
	}
	assert_int_equal(f->n_connects, 3);
	fx_closed(f, f->up[0], STREAM_END_REFUSED);
	assert_int_equal(f->n_records, 3);
	for (int i = 0; i < 3; i++)
		t_assert_has(fx_heard(c[i]), "remote connection failure");
	fx_opened(f, f->up[1]); /* comes late, is kept */
	fx_say(f, c[0], GET("/y"));
	t_assert_has(fx_heard(f->up[1]), "GET /y ");
	fx_free(f);
}

/* One connection allowed, two hosts: the second host's request makes the idle one go. */
static void test_makes_room(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 2);
	cfg->cluster[0].breaker.max_connections = 1;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	for (int i = 0; i < 4; i++) {
		fx_say(f, c, GET("/x"));
		fx_say(f, fx_up_open(f), OK_15);
		t_assert_has(fx_heard(c), "hello");
		assert_int_equal(t_counter(f->w, MESH, UPSTREAM_CONNS), 1);
	}
	assert_int_equal(f->n_connects, 4);
	fx_free(f);
}

static void test_client_leaves_the_queue(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->cluster[0].breaker.max_connections = 1;
	struct fx *f = begin(cfg);
	struct fx_stream *a = fx_connect(f), *b = fx_connect(f), *c = fx_connect(f);
	fx_say(f, a, GET("/a"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, b, GET("/b"));
	fx_say(f, c, GET("/c"));
	fx_closed(f, b, STREAM_END_RESET);
	fx_heard(u);
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(u), "GET /c ");
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "hello");
	assert_int_equal(f->n_records, 3);
	fx_free(f);
}

/* Another worker, which the test plays by its cells, has all places: the request waits, says so, and gets the first that is given up. */
static void test_waits_for_another_workers_place(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->cluster[0].breaker.max_connections = 7;
	struct fx *f = fx_new((struct t_worker_params){.n_workers = 2}, cfg, 64, 64);
	struct mesh_host *h = cfg->endpoint[0][0].host;
	h->by_worker[1].n_conns = 7;
	h->cluster->by_worker[1].n[MESH_BREAKER_CONNECTIONS] = 7;
	uint32_t asked = *mesh_shared_starved(f->shared);
	struct fx_stream *a = fx_connect(f), *b = fx_connect(f);
	fx_say(f, a, GET("/a"));
	fx_say(f, b, GET("/b"));
	assert_int_equal(f->n_connects, 0);
	assert_int_equal(h->cluster->n_starved, 1);
	t_advance(f->w, 5000);
	assert_int_equal(f->n_connects, 0);
	assert_true(*mesh_shared_starved(f->shared) >= asked + 4);
	h->by_worker[1].n_conns = 6;
	h->cluster->by_worker[1].n[MESH_BREAKER_CONNECTIONS] = 6;
	t_advance(f->w, 1000);
	assert_int_equal(f->n_connects, 1);
	assert_int_equal(h->cluster->n_starved, 0);
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(a), "hello");
	fx_say(f, u, OK_15); /* b waits for the one connection there is */
	t_assert_has(fx_heard(b), "hello");
	assert_int_equal(f->n_connects, 1);
	fx_closed(f, a, STREAM_END_RESET);
	fx_closed(f, b, STREAM_END_RESET);
	h->by_worker[1].n_conns = 0;
	h->cluster->by_worker[1].n[MESH_BREAKER_CONNECTIONS] = 0;
	fx_free(f);
}

/* A client that leaves while its request waits for a place ends the waiting. */
static void test_leaves_while_it_starves(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->cluster[0].breaker.max_connections = 1;
	struct fx *f = fx_new((struct t_worker_params){.n_workers = 2}, cfg, 64, 64);
	struct mesh_host *h = cfg->endpoint[0][0].host;
	h->by_worker[1].n_conns = 1;
	h->cluster->by_worker[1].n[MESH_BREAKER_CONNECTIONS] = 1;
	struct fx_stream *a = fx_connect(f);
	fx_say(f, a, GET("/a"));
	assert_int_equal(h->cluster->n_starved, 1);
	fx_closed(f, a, STREAM_END_RESET);
	assert_int_equal(h->cluster->n_starved, 0);
	h->by_worker[1].n_conns = 0;
	h->cluster->by_worker[1].n[MESH_BREAKER_CONNECTIONS] = 0;
	fx_free(f);
}

/* The other side of it: idle connections beyond this worker's share go one by one while another worker asks, and so do those that get ready. */
static void test_gives_up_places_beyond_its_share(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->cluster[0].breaker.max_connections = 4;
	struct fx *f = fx_new((struct t_worker_params){.n_workers = 2}, cfg, 64, 64);
	struct mesh_host *h = cfg->endpoint[0][0].host;
	struct fx_stream *c[4], *u[4];
	for (int i = 0; i < 4; i++) {
		c[i] = fx_connect(f);
		fx_say(f, c[i], GET("/x"));
		u[i] = fx_up_open(f);
	}
	for (int i = 0; i < 3; i++)
		fx_say(f, u[i], OK_15);
	assert_int_equal((int64_t)t_counter(f->w, MESH, UPSTREAM_CONNS), 4);
	h->cluster->n_starved = 1;
	(*mesh_shared_starved(f->shared))++;
	fx_turn(f);
	assert_true(u[0]->is_shut); /* the one that was used least lately */
	assert_false(u[1]->is_shut);
	assert_int_equal((int64_t)t_counter(f->w, MESH, UPSTREAM_CONNS), 4); /* until the origin has closed it, too */
	fx_eof(f, u[0]);
	assert_int_equal((int64_t)t_counter(f->w, MESH, UPSTREAM_CONNS), 3);
	fx_say(f, u[3], OK_15); /* ready, and beyond the share of two */
	t_assert_has(fx_heard(c[3]), "hello");
	assert_true(u[3]->is_shut);
	t_advance(f->w, 1100000); /* the origin does not care: it has had its time */
	assert_int_equal((int64_t)t_counter(f->w, MESH, UPSTREAM_CONNS), 2);
	(*mesh_shared_starved(f->shared))++;
	fx_turn(f);
	assert_int_equal((int64_t)t_counter(f->w, MESH, UPSTREAM_CONNS), 2); /* its share */
	h->cluster->n_starved = 0;
	fx_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_overflow), cmocka_unit_test(test_max_requests), cmocka_unit_test(test_taken_by_another),
		cmocka_unit_test(test_origin_closes_at_rest), cmocka_unit_test(test_connection_close), cmocka_unit_test(test_limits_of_a_connection),
		cmocka_unit_test(test_waiters_fail_together), cmocka_unit_test(test_makes_room), cmocka_unit_test(test_client_leaves_the_queue),
		cmocka_unit_test(test_waits_for_another_workers_place), cmocka_unit_test(test_leaves_while_it_starves),
		cmocka_unit_test(test_gives_up_places_beyond_its_share),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
