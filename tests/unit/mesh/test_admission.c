/* Limits of client connections: of a listener and of the node, for HTTP, L4 and connections whose first bytes are awaited; what an edit of them does to
 * who is there; and the time that a request and a drained connection have. */
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/mesh/admission.h"
#include "dataplane/mesh/host.h"

#define GET(path) "GET " path " HTTP/1.1\r\nhost: web.example.com\r\n\r\n"
#define OK_15 "HTTP/1.1 200 OK\r\nserver: origin\r\ncontent-length: 15\r\n\r\nhello from v1a\n"

static struct fx_config *limited(uint32_t listener, uint32_t node)
{
	struct fx_config *c = fx_config_new(1, 1);

	c->listener.connection_limit = listener;
	c->c.settings.connection_limit = node;
	return c;
}

static struct fx *begin(struct fx_config *c)
{
	return fx_new((struct t_worker_params){.seed = 7}, c, 64, 64);
}

/* A client that stays, or NULL: it was closed in order at once. */
static struct fx_stream *client(struct fx *f)
{
	struct fx_stream *c = fx_connect(f);

	assert_non_null(c);
	assert_false(c->is_aborted);
	assert_string_equal(fx_peek(c), "");
	return c->is_released ? NULL : c;
}

static void assert_refused(struct fx *f, uint64_t by_listener, uint64_t by_node)
{
	assert_int_equal(t_counter(f->w, MESH, DOWNSTREAM_CX_OVERFLOW), by_listener);
	assert_int_equal(t_counter(f->w, MESH, DOWNSTREAM_GLOBAL_CX_OVERFLOW), by_node);
}

static uint32_t counted(const struct fx *f)
{
	return f->config->listener.clients->n;
}

static uint32_t counted_node(const struct fx *f)
{
	return mesh_shared_clients(f->shared)->n;
}

static void test_one_too_many_is_closed_in_order(void **state)
{
	struct fx *f = begin(limited(2, 0));
	struct fx_stream *one = client(f), *two = client(f);

	assert_true(one && two);
	assert_null(client(f));
	assert_null(client(f));
	assert_refused(f, 2, 0);
	assert_int_equal(counted(f), 2);
	fx_say(f, one, GET("/1")); /* who is there is served */
	fx_say(f, fx_up_open(f), OK_15);
	fx_assert_heard(one, "hello from v1a");
	assert_null(client(f));
	fx_closed(f, two, STREAM_END_RESET);
	assert_int_equal(counted(f), 1);
	assert_non_null(client(f));
	assert_refused(f, 3, 0);
	assert_int_equal(f->n_records, 1); /* and nothing of those is logged */
	fx_free(f);
	(void)state;
}

static void test_the_node_has_a_limit_of_its_own(void **state)
{
	struct fx *f = begin(limited(2, 3));
	struct fx_stream *one = client(f);

	assert_int_equal(counted_node(f), 1);
	mesh_shared_clients(f->shared)->n += 2; /* those of another worker */
	assert_null(client(f));
	assert_refused(f, 0, 1);
	assert_int_equal(counted(f), 1); /* the listener's place was given back */
	fx_closed(f, one, STREAM_END_FIN);
	assert_int_equal(counted_node(f), 2);
	assert_non_null(client(f));
	mesh_shared_clients(f->shared)->n -= 2;
	fx_free(f);
	(void)state;
}

static void test_other_workers_clients_count(void **state)
{
	struct fx *f = begin(limited(3, 0));

	f->config->listener.clients->n += 2;
	assert_non_null(client(f));
	assert_null(client(f));
	f->config->listener.clients->n -= 2;
	assert_non_null(client(f));
	fx_free(f);
	(void)state;
}

static void test_who_is_there_counts_when_a_limit_comes(void **state)
{
	struct fx *f = begin(limited(0, 0));
	struct fx_stream *c[4];

	for (size_t i = 0; i < FOIL_COUNT_OF(c); i++)
		assert_non_null(c[i] = client(f));
	assert_null(f->config->listener.clients);
	assert_int_equal(counted_node(f), 0);
	fx_publish(f, limited(2, 3)); /* nobody is closed for that */
	assert_int_equal(counted(f), 4);
	assert_int_equal(counted_node(f), 4);
	assert_null(client(f));
	fx_closed(f, c[0], STREAM_END_FIN);
	fx_closed(f, c[1], STREAM_END_FIN);
	assert_null(client(f));
	assert_refused(f, 2, 0);
	fx_closed(f, c[2], STREAM_END_FIN);
	assert_non_null(client(f));
	fx_publish(f, limited(0, 2)); /* the listener's is gone, the node's holds */
	assert_int_equal(counted_node(f), 2);
	assert_null(client(f));
	assert_refused(f, 2, 1);
	fx_publish(f, limited(4, 0));
	assert_int_equal(counted_node(f), 0);
	assert_int_equal(counted(f), 2);
	assert_non_null(client(f));
	assert_non_null(client(f));
	assert_null(client(f));
	fx_free(f);
	(void)state;
}

static void test_l4_sessions_count(void **state)
{
	struct fx_config *cfg = limited(1, 0);

	cfg->chain.network = MESH_NETWORK_TCP;
	cfg->chain.tcp = (struct mesh_tcp_proxy){.clusters = cfg->weighted[0], .n_clusters = 1, .total_weight = 1, .max_connect_attempts = 1};
	cfg->cluster[0].protocol = MESH_UPSTREAM_TCP;
	struct fx *f = begin(cfg);
	assert_non_null(client(f));
	assert_null(client(f));
	t_advance(f->w, 2 * FOIL_TICK_US);
	fx_closed(f, fx_up_open(f), STREAM_END_RESET);
	assert_int_equal(counted(f), 0);
	assert_non_null(client(f));
	fx_free(f);
	(void)state;
}

/* From the first moment on; and handing it over counts nobody twice. */
static void test_connections_whose_first_bytes_are_awaited_count(void **state)
{
	struct fx_config *cfg = limited(1, 2);

	cfg->listener.wants_hello = cfg->listener.takes_plaintext = true;
	struct fx *f = begin(cfg);
	struct fx_stream *c = client(f);
	assert_non_null(c);
	assert_null(client(f));
	fx_say(f, c, GET("/1"));
	assert_int_equal(counted(f), 1);
	assert_int_equal(counted_node(f), 1);
	fx_say(f, fx_up_open(f), OK_15);
	fx_assert_heard(c, "hello from v1a");
	fx_closed(f, c, STREAM_END_FIN);
	assert_int_equal(counted(f), 0);
	c = client(f);
	t_advance(f->w, 16000000); /* it says nothing */
	assert_true(c->is_aborted);
	assert_int_equal(counted(f), 0);
	assert_int_equal(counted_node(f), 0);
	assert_non_null(client(f));
	fx_free(f);
	(void)state;
}

static void test_whom_no_chain_takes_does_not_count(void **state)
{
	static const struct mesh_cidr elsewhere = {.ip = {1}, .len = 128};
	struct fx_config *cfg = limited(1, 1);

	cfg->chain.destination_cidrs = &elsewhere;
	cfg->chain.n_destination_cidrs = 1;
	struct fx *f = begin(cfg);
	assert_null(fx_connect(f));
	assert_null(fx_connect(f));
	assert_refused(f, 0, 0);
	assert_int_equal(counted(f), 0);
	assert_int_equal(counted_node(f), 0);
	fx_free(f);
	(void)state;
}

/* ---- the whole time of a request ---- */
static struct fx *timed(uint64_t us)
{
	struct fx_config *cfg = fx_config_new(1, 1);

	cfg->chain.http.max_stream_duration_us = us;
	return begin(cfg);
}

static void assert_recorded(struct fx *f, unsigned int status)
{
	unsigned int i = 0;

	while (i < f->n_records && f->record[i].r.status != status)
		i++;
	assert_true(i < f->n_records);
	assert_string_equal(f->record[i].details, "max_duration_timeout");
	assert_int_equal(f->record[i].r.flags, 0);
}

/* Recorded: tests/recorded/stream-duration.yaml. */
static void test_a_request_has_its_time(void **state)
{
	struct fx *f = timed(700000);
	struct fx_stream *c = client(f), *half = client(f), *cut = client(f);

	fx_say(f, c, GET("/1"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, half, "POST / HTTP/1.1\r\nhost: web.example.com\r\ncontent-length: 10\r\n\r\nabc");
	(void)fx_up_open(f);
	fx_say(f, cut, GET("/2"));
	struct fx_stream *begun = fx_up_open(f);
	fx_say(f, begun, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
	t_advance(f->w, 650000);
	assert_int_equal(f->n_records, 0);
	t_advance(f->w, 100000);
	fx_assert_heard(c, "HTTP/1.1 504 Gateway Timeout\r\n");
	fx_assert_heard(c, "\r\n\r\ndownstream duration timeout");
	assert_false(c->is_dead); /* and may ask again */
	assert_true(u->is_aborted);
	fx_assert_heard(half, "HTTP/1.1 408 Request Timeout\r\n");
	fx_assert_heard(half, "connection: close\r\n");
	assert_true(cut->is_dead); /* its answer had begun */
	assert_int_equal(f->n_records, 3);
	assert_recorded(f, 504);
	assert_recorded(f, 408);
	assert_recorded(f, 200);
	(void)fx_heard(c);
	fx_say(f, c, GET("/3"));
	fx_say(f, fx_up_open(f), OK_15);
	fx_assert_heard(c, "hello from v1a");
	t_advance(f->w, 2000000);
	assert_int_equal(f->n_records, 4);
	fx_free(f);
	(void)state;
}

static void test_a_head_that_does_not_end_has_no_longer(void **state)
{
	struct fx *f = timed(700000);
	struct fx_stream *c = client(f);

	fx_say(f, c, "GET / HTTP/1.1\r\nhost: a");
	t_advance(f->w, 800000);
	fx_assert_heard(c, "HTTP/1.1 408 Request Timeout\r\n");
	assert_true(c->is_dead);
	fx_free(f);
	(void)state;
}

static void test_grpc_gets_deadline_exceeded(void **state)
{
	struct fx *f = timed(700000);
	struct fx_stream *c = client(f);

	fx_say(f, c, "POST /a.B/C HTTP/1.1\r\nhost: web.example.com\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n");
	(void)fx_up_open(f);
	t_advance(f->w, 800000);
	fx_assert_heard(c, "HTTP/1.1 200 OK\r\n");
	fx_assert_heard(c, "grpc-status: 4\r\n");
	fx_assert_heard(c, "grpc-message: downstream duration timeout\r\n");
	fx_free(f);
	(void)state;
}

/* ---- the time of a drain ---- */
static void test_a_drained_connection_takes_one_more_request(void **state)
{
	struct fx_config *cfg = fx_config_new(1, 1);

	cfg->chain.http.max_connection_duration_us = 1000000;
	cfg->chain.http.drain_timeout_us = 2000000;
	struct fx *f = begin(cfg);
	struct fx_stream *silent = client(f), *again = client(f), *idle = client(f);
	fx_say(f, idle, GET("/1"));
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, OK_15);
	fx_say(f, again, GET("/1"));
	fx_say(f, u, OK_15);
	(void)fx_heard(again);
	t_advance(f->w, 1100000);
	assert_true(silent->is_released); /* it never asked for anything */
	assert_false(again->is_dead || idle->is_dead);
	fx_say(f, again, GET("/2"));
	fx_say(f, u, OK_15);
	fx_assert_heard(again, "connection: close\r\n");
	assert_true(again->is_released);
	t_advance(f->w, 1800000);
	assert_false(idle->is_dead);
	t_advance(f->w, 200000);
	assert_true(idle->is_released);
	fx_free(f);
	(void)state;
}

/* ---- buffers ---- */
#define POST(n) "POST / HTTP/1.1\r\nhost: web.example.com\r\ncontent-length: " n "\r\n\r\n"

/* Recorded: tests/recorded/buffers.yaml. A body beyond the listener's buffer is not sent again. */
static void test_a_body_beyond_the_buffer_is_not_sent_again(void **state)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct fx_config *cfg = fx_config_new(1, 1);
		cfg->listener.buffer_bytes = 8;
		cfg->retry = (struct mesh_retry_policy){.retry_on = MESH_RETRY_5XX, .num_retries = 1};
		cfg->route[0].route.retry = &cfg->retry;
		struct fx *f = begin(cfg);
		struct fx_stream *c = client(f);
		assert_int_equal(c->s.tx_spare_kib, 1);
		fx_say(f, c, i ? POST("9") "123456789" : POST("8") "12345678");
		struct fx_stream *u = fx_up_open(f);
		fx_say(f, u, "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
		t_advance(f->w, 100000);
		if (i)
			fx_assert_heard(c, "HTTP/1.1 503 ");
		else
			assert_string_equal(fx_peek(c), "");
		fx_free(f);
	}
	(void)state;
}

static void test_a_slow_client_holds_the_upstream_back(void **state)
{
	static char body[64 * 1024];
	struct fx_config *cfg = fx_config_new(1, 1);

	cfg->listener.buffer_bytes = 4096;
	cfg->cluster[0].buffer_bytes = 2048;
	struct fx *f = begin(cfg);
	struct fx_stream *c = client(f);
	assert_int_equal(c->s.tx_high_bytes, 4096 + STREAM_TX_FLIGHT_BYTES);
	c->hold_acks = true;
	fx_say(f, c, GET("/1"));
	struct fx_stream *u = fx_up_open(f);
	assert_int_equal(u->s.tx_high_bytes, 2048 + STREAM_TX_FLIGHT_BYTES);
	fx_say(f, u, "HTTP/1.1 200 OK\r\ncontent-length: 131072\r\n\r\n");
	fx_say_bytes(f, u, body, sizeof(body)); /* what has come is passed on */
	fx_say_bytes(f, u, body, sizeof(body)); /* no more is taken */
	assert_int_equal(u->s.rx.n_bytes, sizeof(body));
	fx_ack(f, c);
	assert_int_equal(u->s.rx.n_bytes, 0);
	fx_free(f);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_too_many_is_closed_in_order),
		cmocka_unit_test(test_the_node_has_a_limit_of_its_own),
		cmocka_unit_test(test_other_workers_clients_count),
		cmocka_unit_test(test_who_is_there_counts_when_a_limit_comes),
		cmocka_unit_test(test_l4_sessions_count),
		cmocka_unit_test(test_connections_whose_first_bytes_are_awaited_count),
		cmocka_unit_test(test_whom_no_chain_takes_does_not_count),
		cmocka_unit_test(test_a_request_has_its_time),
		cmocka_unit_test(test_a_head_that_does_not_end_has_no_longer),
		cmocka_unit_test(test_grpc_gets_deadline_exceeded),
		cmocka_unit_test(test_a_drained_connection_takes_one_more_request),
		cmocka_unit_test(test_a_body_beyond_the_buffer_is_not_sent_again),
		cmocka_unit_test(test_a_slow_client_holds_the_upstream_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
