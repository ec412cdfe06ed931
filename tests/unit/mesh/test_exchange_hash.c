/* Requests and connections to clusters that hash: what chooses the host is the request as it came, a cookie is made once and told to the client, an L4
 * connection goes by its client's address. Where a key belongs is compared with mesh_lb_choose; that this is Envoy's place is test_lb_hash's business. */
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/mesh/hash_policy.h"
#include "dataplane/mesh/lb.h"
#include "dataplane/mesh/runtime.h"

#include <xxhash.h>

#define OK_2 "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

static const struct mesh_hash_policy by_user = {.kind = MESH_HASH_HEADER, .name = FOIL_SLICE("x-user")};
static const struct mesh_hash_policy by_cookie = {.kind = MESH_HASH_COOKIE, .name = FOIL_SLICE("sess"), .has_ttl = true, .ttl_s = 30};
static const struct mesh_hash_policy by_path = {.kind = MESH_HASH_QUERY, .name = FOIL_SLICE("k")};

static struct fx_config *config(const struct mesh_hash_policy *p, enum mesh_lb lb)
{
	struct fx_config *c = fx_config_new(1, 3);

	c->cluster[0].lb = lb;
	c->route[0].route.hash_policies = p;
	c->route[0].route.n_hash_policies = 1;
	return c;
}

static struct fx *begin(struct fx_config *c)
{
	return fx_new((struct t_worker_params){.seed = 7}, c, 64, 64);
}

static uint8_t place_of_hash(struct fx *f, uint64_t hash)
{
	const struct mesh_lb_want want = {.has_hash = true, .hash = hash};

	return mesh_lb_choose(f->w, &f->config->endpoints[0], f->config->c.host_sets[0], &want)->ip[15];
}

static uint8_t place_of(struct fx *f, const char *key)
{
	return place_of_hash(f, XXH64(key, strlen(key), 0));
}

/* Sends it, answers it on whatever connection it took, says which host that was; *answer: what the client heard. */
static uint8_t exchange(struct fx *f, const char *request, const char **answer)
{
	struct fx_stream *c = fx_connect(f);

	fx_say(f, c, request);
	struct fx_stream *u = fx_up_open(f);
	uint8_t host = u->ip[15];
	fx_say(f, u, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
	*answer = fx_heard(c);
	assert_non_null(strstr(*answer, "HTTP/1.1 200 OK\r\n"));
	return host;
}

static void test_header_chooses_the_host_before_the_route_changes_it(void **state)
{
	static const struct mesh_header_op_add add = {.name = FOIL_SLICE("x-user"), .value = {.is_literal = true, .literal = FOIL_SLICE("other")}};
	struct fx_config *cfg = config(&by_user, MESH_LB_RING_HASH);
	const char *answer;

	cfg->route[0].request_headers = (struct mesh_header_ops){.add = &add, .n_add = 1};
	struct fx *f = begin(cfg);
	for (int i = 0; i < 20; i++) {
		char request[200], key[24];
		(void)snprintf(key, sizeof(key), "user-%d", i);
		(void)snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nhost: a\r\nx-user: %s\r\n\r\n", key);
		assert_int_equal(exchange(f, request, &answer), place_of(f, key));
		assert_null(strstr(answer, "set-cookie"));
	}
	fx_free(f);
	(void)state;
}

static void test_cookie_is_made_once_and_then_honoured(void **state)
{
	struct fx *f = begin(config(&by_cookie, MESH_LB_MAGLEV));
	const char *answer;
	char value[17] = "", request[200];
	uint8_t host = exchange(f, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", &answer);
	const char *at = strstr(answer, "set-cookie: sess=\"");

	assert_non_null(at);
	memcpy(value, at + strlen("set-cookie: sess=\""), 16);
	assert_non_null(strstr(at, "\"; Max-Age=30; HttpOnly\r\ndate: "));
	assert_int_equal(host, place_of(f, value));
	(void)snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nhost: a\r\ncookie: sess=\"%s\"\r\n\r\n", value);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(exchange(f, request, &answer), host);
		assert_null(strstr(answer, "set-cookie"));
	}
	fx_free(f);
	(void)state;
}

static void test_a_cluster_that_does_not_hash_makes_no_cookie(void **state)
{
	struct fx *f = begin(config(&by_cookie, MESH_LB_LEAST_REQUEST));
	const char *answer;

	(void)exchange(f, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", &answer);
	assert_null(strstr(answer, "set-cookie"));
	fx_free(f);
	(void)state;
}

static void test_a_retry_keeps_the_host_and_the_one_cookie(void **state)
{
	struct fx_config *cfg = config(&by_cookie, MESH_LB_RING_HASH);

	cfg->retry = (struct mesh_retry_policy){.num_retries = 2, .retry_on = MESH_RETRY_5XX, .backoff_base_us = 1, .backoff_max_us = 1};
	cfg->route[0].route.retry = &cfg->retry;
	struct fx *f = begin(cfg);
	struct fx_stream *c = fx_connect(f);
	fx_say(f, c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
	struct fx_stream *u = fx_up_open(f);
	uint8_t host = u->ip[15];
	fx_say(f, u, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
	t_advance(f->w, 2 * FOIL_TICK_US);
	assert_non_null(strstr(fx_peek(u), "x-envoy-attempt-count: 2\r\n")); /* over the same connection: the same host */
	assert_int_equal(u->ip[15], host);
	fx_say(f, u, OK_2);
	const char *answer = fx_heard(c), *first = strstr(answer, "set-cookie: ");
	assert_non_null(first);
	assert_null(strstr(first + 1, "set-cookie: "));
	fx_free(f);
	(void)state;
}

static void test_without_the_parameter_hosts_are_random(void **state)
{
	struct fx *f = begin(config(&by_path, MESH_LB_RING_HASH));
	bool seen[256] = {false};
	const char *answer;

	assert_int_equal(exchange(f, "GET /?k=1 HTTP/1.1\r\nhost: a\r\n\r\n", &answer), place_of(f, "1"));
	for (int i = 0; i < 30; i++)
		seen[exchange(f, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", &answer)] = true;
	assert_true(seen[1] && seen[2] && seen[3]);
	fx_free(f);
	(void)state;
}

static void test_l4_connections_go_by_the_clients_address(void **state)
{
	struct fx_config *c = fx_config_new(1, 3);

	c->chain.network = MESH_NETWORK_TCP;
	c->chain.tcp = (struct mesh_tcp_proxy){.clusters = c->weighted[0], .n_clusters = 1, .total_weight = 1, .idle_timeout_us = 3600000000u,
					       .max_connect_attempts = 1, .hash_source_ip = true};
	c->cluster[0].protocol = MESH_UPSTREAM_TCP;
	c->cluster[0].lb = MESH_LB_MAGLEV;
	struct fx *f = begin(c);
	for (int i = 0; i < 10; i++) {
		assert_non_null(fx_connect(f));
		t_advance(f->w, 2 * FOIL_TICK_US);
		assert_int_equal(f->up[f->n_connects - 1]->ip[15], place_of(f, "198.18.0.2"));
	}
	fx_free(f);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_chooses_the_host_before_the_route_changes_it),
		cmocka_unit_test(test_cookie_is_made_once_and_then_honoured),
		cmocka_unit_test(test_a_cluster_that_does_not_hash_makes_no_cookie),
		cmocka_unit_test(test_a_retry_keeps_the_host_and_the_one_cookie),
		cmocka_unit_test(test_without_the_parameter_hosts_are_random),
		cmocka_unit_test(test_l4_connections_go_by_the_clients_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
