/* Connections of clients: limits of a connection, the server header's modes, redirects to TLS, what a listener's change does to those that are open. */
#include "tests/unit/mesh/fake_transport.h"

#define GET(path) "GET " path " HTTP/1.1\r\nhost: web.example.com\r\n\r\n"
#define OK_15 "HTTP/1.1 200 OK\r\nserver: origin\r\ncontent-length: 15\r\n\r\nhello from v1a\n"

static struct fx *begin(struct fx_config *c)
{
	return fx_new((struct t_worker_params){.seed = 7}, c, 64, 64);
}

static void test_max_requests(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->chain.http.max_requests_per_connection = 2;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f), *u;
	fx_say(f, c, GET("/1"));
	u = fx_up_open(f);
	fx_say(f, u, OK_15);
	t_assert_has_not(fx_heard(c), "connection: close");
	fx_say(f, c, GET("/2"));
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(c), "connection: close\r\n");
	assert_true(c->is_released);
	fx_free(f);
}

static void test_max_duration(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->chain.http.max_connection_duration_us = 1000000;
	struct fx *f = begin(cfg);
	struct fx_stream *idle = fx_connect(f), *busy = fx_connect(f);
	fx_say(f, busy, GET("/1"));
	struct fx_stream *u = fx_up_open(f);
	t_advance(f->w, 1100000);
	assert_true(idle->is_released);
	assert_false(busy->is_dead);
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(busy), "connection: close\r\n");
	assert_true(busy->is_released);
	fx_free(f);
}

static void test_server_header(void **state)
{
	(void)state;
	static const struct {
		enum mesh_server_header mode;
		const char *with, *without;
	} cases[] = {
		{MESH_SERVER_OVERWRITE, "server: istio-envoy\r\n", "server: istio-envoy\r\n"},
		{MESH_SERVER_APPEND_IF_ABSENT, "server: origin\r\n", "server: istio-envoy\r\n"},
		{MESH_SERVER_PASS_THROUGH, "server: origin\r\n", NULL},
	};
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct fx_config *cfg = fx_config_new(1, 1);
		cfg->chain.http.server_header = cases[i].mode;
		struct fx *f = begin(cfg);
		struct fx_stream *c = fx_connect(f);
		fx_say(f, c, GET("/1"));
		struct fx_stream *u = fx_up_open(f);
		fx_say(f, u, OK_15);
		t_assert_has(fx_heard(c), cases[i].with);
		fx_say(f, c, GET("/2"));
		fx_say(f, u, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: never\r\n\r\n");
		const char *a = fx_heard(c);
		t_assert_has(a, "date: never\r\n");
		if (cases[i].without)
			t_assert_has(a, cases[i].without);
		else
			t_assert_has_not(a, "server:");
		fx_free(f);
	}
}

static void test_require_tls(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->vhost.require_tls = true;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "GET /a?b HTTP/1.1\r\nhost: web.example.com\r\n\r\n");
	const char *a = fx_heard(c);
	t_assert_has(a, "HTTP/1.1 301 Moved Permanently\r\n");
	t_assert_has(a, "location: https://web.example.com/a?b\r\n");
	fx_say(f, c, "GET / HTTP/1.1\r\nhost: [fd00::1]:80\r\n\r\n"); /* Envoy keeps the port */
	t_assert_has(fx_heard(c), "location: https://[fd00::1]:80/\r\n");
	fx_free(f);
}

static void test_debug_headers_off(void **state)
{
	(void)state;
	struct fx_config *cfg = fx_config_new(1, 1);
	cfg->chain.http.envoy_debug_headers_off = cfg->chain.http.attempt_count_off = true;
	cfg->route[0].route.timeout_us = 5000000;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, GET("/1"));
	struct fx_stream *u = fx_up_open(f);
	t_assert_has_not(fx_peek(u), "x-envoy-attempt-count");
	t_assert_has_not(fx_heard(u), "x-envoy-expected");
	fx_say(f, u, OK_15);
	t_assert_has_not(fx_heard(c), "x-envoy-upstream-service-time");
	fx_free(f);
}

/* A listener that becomes an L4 one: HTTP connections of before close when they may. */
static void test_listener_changes(void **state)
{
	(void)state;
	struct fx *f = begin(fx_config_new(1, 1));
	struct fx_stream *busy = fx_connect(f), *idle = fx_connect(f);
	fx_say(f, busy, GET("/1"));
	struct fx_stream *u = fx_up_open(f);
	struct fx_config *l4 = fx_config_new(1, 1);
	l4->chain.network = MESH_NETWORK_TCP;
	l4->chain.tcp = (struct mesh_tcp_proxy){.clusters = l4->weighted[0], .n_clusters = 1, .total_weight = 1, .max_connect_attempts = 1};
	fx_publish(f, l4);
	assert_true(f->listens);
	assert_true(idle->is_released);
	fx_say(f, u, OK_15);
	t_assert_has(fx_heard(busy), "connection: close\r\n");
	struct fx_stream *c = fx_connect(f);
	t_advance(f->w, 1000);
	u = fx_up_open(f);
	fx_say(f, c, "bytes");
	t_assert_has(fx_heard(u), "bytes");
	fx_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_max_requests), cmocka_unit_test(test_max_duration), cmocka_unit_test(test_server_header),
		cmocka_unit_test(test_require_tls), cmocka_unit_test(test_debug_headers_off), cmocka_unit_test(test_listener_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
