/* Active health checks: what is asked, thresholds, who is used meanwhile, times, configurations (features.md HC-3; Envoy's checkers). */
#include "tests/unit/http/h2_side.h"
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/mesh/health.h"

#define SECOND 1000000u

static const struct mesh_status_range two_hundred = {200, 200};
static struct mesh_health_check rules(enum mesh_health_kind kind)
{
	return (struct mesh_health_check){
		.kind = kind, .healthy_threshold = 2, .unhealthy_threshold = 3, .interval_us = SECOND, .timeout_us = SECOND / 2,
		.no_traffic_interval_us = SECOND, .path = FOIL_SLICE("/healthz"), .host = FOIL_SLICE("zero.test"), .expected = &two_hundred, .n_expected = 1,
	};
}

static struct fx_config *checked(const struct mesh_health_check *r, unsigned int n_hosts)
{
	struct fx_config *c = fx_config_new(1, n_hosts);

	for (unsigned int i = 0; i < n_hosts; i++)
		c->endpoint[0][i].check = r;
	c->endpoints[0].has_checks = true;
	return c;
}

static struct fx *begin(struct fx_config *c)
{
	return fx_new((struct t_worker_params){.seed = 7}, c, 64, 64);
}

static enum mesh_health health(struct fx *f, unsigned int host)
{
	return (enum mesh_health)f->config->endpoint[0][host].host->health;
}

/* The check that is due is begun; the connection that it makes. */
static struct fx_stream *due(struct fx *f)
{
	unsigned int n = f->n_connects;

	for (int i = 0; i < 2000 && f->n_connects == n; i++)
		t_advance(f->w, 1000);
	assert_int_equal(f->n_connects, n + 1);
	return f->up[n];
}

static struct fx_stream *answered(struct fx *f, const char *answer)
{
	struct fx_stream *u = due(f);

	fx_opened(f, u);
	fx_say(f, u, answer);
	t_advance(f->w, 5000);
	return u;
}

#define GOOD "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
#define NOT_FOUND "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"

#define DEGRADED "HTTP/1.1 200 OK\r\nx-envoy-degraded: \r\ncontent-length: 2\r\n\r\nok"
#define BAD_AND_DEGRADED "HTTP/1.1 503 Service Unavailable\r\nx-envoy-degraded: 1\r\ncontent-length: 0\r\n\r\n"

static void refused(struct fx *f)
{
	fx_closed(f, due(f), STREAM_END_REFUSED);
	t_advance(f->w, 5000);
}

/* HC-5: at once either way, without a threshold; not well goes before degraded. */
static void test_a_good_answer_may_say_degraded(void **state)
{
	(void)state;
	struct mesh_health_check r = rules(MESH_HEALTH_HTTP);
	struct fx *f = begin(checked(&r, 1));
	const struct mesh_cluster_state *s = f->config->endpoint[0][0].host->cluster;

	for (int i = 0; i < 2; i++) {
		uint32_t epoch = s->health_epoch;
		answered(f, DEGRADED);
		assert_int_equal(health(f, 0), MESH_HEALTH_DEGRADED);
		assert_false(mesh_health_is_down(f->config->endpoint[0][0].host));
		assert_int_equal(s->n_known_good, 1);
		assert_int_equal(s->n_degraded, 1);
		answered(f, DEGRADED);
		assert_int_equal(s->health_epoch, epoch + 1); /* balancers look again once */
		answered(f, GOOD);
		assert_int_equal(health(f, 0), MESH_HEALTH_GOOD);
		assert_int_equal(s->n_degraded, 0);
		assert_int_equal(s->health_epoch, epoch + 2);
	}
	assert_int_equal(t_counter(f->w, MESH, HEALTH_CHECK_DEGRADED), 2);
	answered(f, DEGRADED);
	answered(f, BAD_AND_DEGRADED);
	assert_int_equal(health(f, 0), MESH_HEALTH_FAILED);
	assert_int_equal(s->n_degraded, 0);
	assert_int_equal(s->n_known_good, 0);
	answered(f, DEGRADED);
	assert_int_equal(health(f, 0), MESH_HEALTH_FAILED); /* the threshold of those that were down */
	answered(f, DEGRADED);
	assert_int_equal(health(f, 0), MESH_HEALTH_DEGRADED);
	assert_int_equal(t_counter(f->w, MESH, HEALTH_CHECK_RETURNS), 1);
	fx_free(f);
}

static void test_what_http_asks_and_thresholds(void **state)
{
	(void)state;
	static const struct mesh_health_header own = {FOIL_SLICE("x-own"), FOIL_SLICE("1")};
	struct mesh_health_check r = rules(MESH_HEALTH_HTTP);
	r.headers = &own;
	r.n_headers = 1;
	struct fx *f = begin(checked(&r, 1));
	assert_int_equal(health(f, 0), MESH_HEALTH_UNKNOWN);
	struct fx_stream *u = due(f);
	fx_opened(f, u);
	const char *asked = fx_heard(u);
	assert_non_null(strstr(asked, "GET /healthz HTTP/1.1\r\nhost: zero.test\r\n"));
	assert_non_null(strstr(asked, "x-own: 1\r\n"));
	assert_non_null(strstr(asked, "user-agent: hydrofoil/health-check\r\n"));
	fx_say(f, u, GOOD);
	t_advance(f->w, 5000);
	assert_true(u->is_dead || u->is_released || u->is_aborted); /* each check has a connection of its own */
	assert_int_equal(health(f, 0), MESH_HEALTH_GOOD);
	/* the third failure in a row */
	refused(f);
	refused(f);
	(void)answered(f, GOOD);
	refused(f);
	refused(f);
	assert_int_equal(health(f, 0), MESH_HEALTH_GOOD);
	refused(f);
	assert_int_equal(health(f, 0), MESH_HEALTH_FAILED);
	assert_int_equal(t_counter(f->w, MESH, HEALTH_CHECK_FALLS), 1);
	/* the second success in a row */
	(void)answered(f, GOOD);
	refused(f);
	(void)answered(f, GOOD);
	assert_int_equal(health(f, 0), MESH_HEALTH_FAILED);
	(void)answered(f, GOOD);
	assert_int_equal(health(f, 0), MESH_HEALTH_GOOD);
	assert_int_equal(t_counter(f->w, MESH, HEALTH_CHECK_RETURNS), 1);
	/* an answer that says so counts at once */
	(void)answered(f, NOT_FOUND);
	assert_int_equal(health(f, 0), MESH_HEALTH_FAILED);
	fx_free(f);
}

static void test_the_first_outcome_counts_at_once(void **state)
{
	(void)state;
	struct mesh_health_check r = rules(MESH_HEALTH_HTTP);
	struct fx *f = begin(checked(&r, 1));
	refused(f);
	assert_int_equal(health(f, 0), MESH_HEALTH_FAILED);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
	assert_non_null(strstr(fx_heard(c), "no healthy upstream"));
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UH);
	fx_free(f);
}

static void test_a_silent_host_fails_by_time(void **state)
{
	(void)state;
	struct mesh_health_check r = rules(MESH_HEALTH_HTTP);
	struct fx *f = begin(checked(&r, 1));
	struct fx_stream *u = due(f); /* never opens */
	t_advance(f->w, SECOND / 2 + 10000);
	assert_true(u->is_aborted || u->is_released);
	assert_int_equal(health(f, 0), MESH_HEALTH_FAILED);
	u = due(f);
	fx_opened(f, u);
	fx_say(f, u, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"); /* and never ends */
	t_advance(f->w, SECOND / 2 + 10000);
	assert_true(u->is_dead || u->is_aborted || u->is_released);
	assert_int_equal(t_counter(f->w, MESH, HEALTH_CHECK_FAILURES), 2);
	f->refuse_connect = true;
	t_advance(f->w, SECOND + 10000);
	assert_int_equal(t_counter(f->w, MESH, HEALTH_CHECK_FAILURES), 3);
	fx_free(f);
}

static void test_tcp(void **state)
{
	(void)state;
	struct mesh_health_check r = rules(MESH_HEALTH_TCP);
	r.port = 9999;
	struct fx *f = begin(checked(&r, 1));
	struct fx_stream *u = due(f);
	assert_int_equal(u->port, 9999);
	fx_opened(f, u);
	t_advance(f->w, 5000);
	assert_true(u->is_released);
	assert_int_equal(health(f, 0), MESH_HEALTH_GOOD);
	for (int i = 0; i < 3; i++)
		refused(f);
	assert_int_equal(health(f, 0), MESH_HEALTH_FAILED);
	fx_free(f);
}

/* ---- gRPC ---- */
static struct h2_bytes b;

static bool has_bytes(const struct fx_stream *s, const char *part, uint32_t n)
{
	for (uint32_t i = 0; i + n <= s->n_out; i++)
		if (memcmp(s->out + i, part, n) == 0)
			return true;
	return false;
}

static void grpc_answered(struct fx *f, const char *message, uint32_t n_message, const char *grpc_status)
{
	struct fx_stream *u = due(f);

	b.n = 0;
	hb_hello(&b, false);
	hb_headers(&b, 0, 1, ":status", "200", "content-type", "application/grpc", NULL);
	hb_frame(&b, H2_DATA, 0, 1, message, n_message);
	hb_headers(&b, H2_END_STREAM, 1, "grpc-status", grpc_status, NULL);
	fx_opened(f, u);
	assert_true(has_bytes(u, "\0\0\0\0\x05\x0a\x03" "a.B", 10));
	fx_say_bytes(f, u, b.at, b.n);
	t_advance(f->w, 5000);
}

static void test_grpc(void **state)
{
	(void)state;
	static const struct {
		const char *message, *status;
		uint32_t n;
	} bad[] = {{"\0\0\0\0\2\x08\2", "0", 7}, {"\0\0\0\0\0", "0", 5}, {"\0\0\0\0\2\x08\1", "5", 7}, {"\0\0\0\0\2\x08", "0", 6}, {"\0\0\0\0\1\x08", "0", 6},
		   {"\1\0\0\0\2\x08\1", "0", 7}, {"\0\0\0\0\3\x08\1\x10", "0", 8}, {"\0\0\0\0\2\x08\1\0", "0", 8}};
	struct mesh_health_check r = rules(MESH_HEALTH_GRPC);
	r.service = FOIL_SLICE("a.B");
	r.healthy_threshold = 1;
	struct fx *f = begin(checked(&r, 1));
	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		grpc_answered(f, "\0\0\0\0\2\x08\1", 7, "0"); /* SERVING */
		assert_int_equal(health(f, 0), MESH_HEALTH_GOOD);
		grpc_answered(f, bad[i].message, bad[i].n, bad[i].status);
		assert_int_equal(health(f, 0), MESH_HEALTH_FAILED);
	}
	fx_free(f);
}

/* Who was not asked yet is used as long as nobody is known to be well. */
static void test_new_hosts_wait_for_their_first_check_beside_good_ones(void **state)
{
	(void)state;
	struct mesh_health_check r = rules(MESH_HEALTH_HTTP);
	struct fx *f = begin(checked(&r, 1));
	(void)answered(f, GOOD);
	fx_publish(f, checked(&r, 2));
	assert_int_equal(health(f, 0), MESH_HEALTH_GOOD); /* over the change */
	assert_int_equal(health(f, 1), MESH_HEALTH_PENDING);
	for (unsigned int i = 0; i < 4; i++) { /* at work, so that each request wants a connection of its own */
		unsigned int n = f->n_connects;
		fx_say(f, fx_connect(f), "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
		assert_int_equal(f->n_connects, n + 1);
		assert_int_equal(f->up[n]->ip[15], 1);
	}
	struct fx_stream *u = due(f);
	assert_int_equal(u->ip[15], 2);
	fx_opened(f, u);
	fx_say(f, u, GOOD);
	t_advance(f->w, 5000);
	assert_int_equal(health(f, 1), MESH_HEALTH_GOOD);
	fx_publish(f, fx_config_new(1, 2)); /* nobody is asked any more */
	assert_int_equal(health(f, 0), MESH_HEALTH_UNCHECKED);
	assert_int_equal(health(f, 1), MESH_HEALTH_UNCHECKED);
	unsigned int n = f->n_connects;
	t_advance(f->w, 3 * SECOND);
	assert_int_equal(f->n_connects, n);
	fx_free(f);
}

static void test_a_host_that_leaves_during_its_check(void **state)
{
	(void)state;
	struct mesh_health_check r = rules(MESH_HEALTH_HTTP), tcp = rules(MESH_HEALTH_TCP);
	struct fx *f = begin(checked(&r, 2));
	struct fx_stream *u = due(f);
	fx_opened(f, u);
	(void)fx_heard(u);
	fx_publish(f, checked(&tcp, 1));
	for (int i = 0; i < 20; i++)
		t_advance(f->w, 1000);
	fx_publish(f, fx_config_new(1, 1));
	assert_int_equal(health(f, 0), MESH_HEALTH_UNCHECKED);
	fx_free(f); /* nothing was lost */
}

static void test_an_answer_may_say_that_its_host_is_not_well(void **state)
{
	(void)state;
	struct mesh_health_check r = rules(MESH_HEALTH_HTTP);
	struct fx *f = begin(checked(&r, 1));
	(void)answered(f, GOOD);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "HTTP/1.1 200 OK\r\nx-envoy-immediate-health-check-fail: true\r\ncontent-length: 0\r\n\r\n");
	assert_non_null(strstr(fx_heard(c), "HTTP/1.1 200 OK\r\n"));
	assert_int_equal(health(f, 0), MESH_HEALTH_FAILED);
	(void)answered(f, "HTTP/1.1 200 OK\r\nx-envoy-immediate-health-check-fail: \r\ncontent-length: 0\r\n\r\n");
	(void)answered(f, GOOD);
	assert_int_equal(health(f, 0), MESH_HEALTH_FAILED);
	(void)answered(f, GOOD);
	assert_int_equal(health(f, 0), MESH_HEALTH_GOOD);
	fx_free(f);
}

static void test_without_traffic_the_longer_interval_holds(void **state)
{
	(void)state;
	struct mesh_health_check r = rules(MESH_HEALTH_HTTP);
	r.no_traffic_interval_us = 60 * SECOND;
	struct fx *f = begin(checked(&r, 1));
	(void)answered(f, GOOD);
	t_advance(f->w, 59 * SECOND);
	assert_int_equal(f->n_connects, 1);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
	fx_say(f, fx_up_open(f), GOOD);
	(void)answered(f, GOOD); /* the one that was due anyway */
	assert_int_equal(f->n_connects, 3);
	t_advance(f->w, SECOND + 20000);
	assert_int_equal(f->n_connects, 4);
	fx_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_good_answer_may_say_degraded),
		cmocka_unit_test(test_what_http_asks_and_thresholds), cmocka_unit_test(test_the_first_outcome_counts_at_once),
		cmocka_unit_test(test_a_silent_host_fails_by_time), cmocka_unit_test(test_tcp), cmocka_unit_test(test_grpc),
		cmocka_unit_test(test_new_hosts_wait_for_their_first_check_beside_good_ones), cmocka_unit_test(test_a_host_that_leaves_during_its_check),
		cmocka_unit_test(test_an_answer_may_say_that_its_host_is_not_well), cmocka_unit_test(test_without_traffic_the_longer_interval_holds),
	};

	return cmocka_run_group_tests_name("mesh.health", tests, NULL, NULL);
}
