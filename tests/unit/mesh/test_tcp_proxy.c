/* L4 sessions: bytes both ways, half-close, a slow side, connects that fail, limits, records (features.md PR-8; the judge's tcp recording). */
#include "tests/unit/mesh/fake_transport.h"

#include "dataplane/core/prng.h"

static struct fx *begin(void (*change)(struct fx_config *c))
{
	struct fx_config *c = fx_config_new(1, 1);

	c->chain.network = MESH_NETWORK_TCP;
	c->chain.tcp = (struct mesh_tcp_proxy){.clusters = c->weighted[0], .n_clusters = 1, .total_weight = 1, .idle_timeout_us = 3600000000u,
					       .max_connect_attempts = 1};
	c->cluster[0].protocol = MESH_UPSTREAM_TCP;
	if (change)
		change(c);
	return fx_new((struct t_worker_params){.seed = 7}, c, 64, 64);
}

static struct fx_stream *session(struct fx *f)
{
	struct fx_stream *c = fx_connect(f);

	assert_non_null(c);
	t_advance(f->w, 2 * FOIL_TICK_US);
	return c;
}

static void test_echo(void **state)
{
	(void)state;
	struct fx *f = begin(NULL);
	struct fx_stream *c = session(f);
	fx_say(f, c, "x"); /* before the upstream is there: waits */
	struct fx_stream *u = fx_up_open(f);
	assert_string_equal(fx_heard(u), "x");
	fx_say(f, u, "tcp v1a\n");
	assert_string_equal(fx_heard(c), "tcp v1a\n");
	t_advance(f->w, 5100000); /* a report of bytes on the way */
	fx_say(f, u, "x");
	fx_eof(f, c);
	assert_true(u->is_shut);
	assert_int_equal(f->n_records, 0);
	fx_say(f, u, "tail"); /* the other direction goes on */
	assert_string_equal(fx_heard(c), "xtail");
	fx_eof(f, u);
	assert_true(c->is_shut);
	const struct fx_record *r = fx_last(f, 1);
	assert_true(r->r.is_tcp);
	assert_int_equal(r->r.status, 0);
	assert_int_equal(r->r.flags, 0);
	assert_int_equal(r->r.bytes_received, 1);
	assert_int_equal(r->r.bytes_sent, 13);
	assert_int_equal(r->r.upstream_host.port, 8080);
	assert_int_equal(r->r.upstream_local.port, 40000);
	assert_string_equal(r->cluster, "outbound|8080||zero.test");
	assert_true(c->is_released && u->is_released);
	fx_free(f);
}

static void test_down(void **state)
{
	(void)state;
	struct fx *f = begin(NULL);
	struct fx_stream *c = session(f);
	fx_closed(f, f->up[0], STREAM_END_REFUSED);
	assert_true(c->is_released); /* in order: the client sees a close */
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UF | TELE_FLAG_URX);
	assert_string_equal(fx_last(f, 1)->failure, "delayed_connect_error:_Connection_refused");
	assert_int_equal(fx_last(f, 1)->r.upstream_host.port, 8080);
	/* takes too long */
	c = session(f);
	t_advance(f->w, 10100000);
	assert_true(c->is_released);
	assert_true(f->up[1]->is_aborted);
	assert_int_equal(fx_last(f, 2)->r.flags, TELE_FLAG_UF | TELE_FLAG_URX);
	f->refuse_connect = true;
	c = session(f);
	assert_true(c->is_released);
	assert_int_equal(fx_last(f, 3)->r.flags, TELE_FLAG_UF | TELE_FLAG_URX);
	fx_free(f);
}

static void three_attempts(struct fx_config *c)
{
	c->chain.tcp.max_connect_attempts = 3;
}

static void test_attempts(void **state)
{
	(void)state;
	struct fx *f = begin(three_attempts);
	struct fx_stream *c = session(f);
	fx_closed(f, f->up[0], STREAM_END_REFUSED);
	fx_closed(f, f->up[1], STREAM_END_REFUSED);
	struct fx_stream *u = fx_up_open(f);
	fx_say(f, u, "hi");
	assert_string_equal(fx_heard(c), "hi");
	fx_closed(f, u, STREAM_END_RESET);
	assert_true(c->is_aborted);
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UR);
	assert_int_equal(fx_last(f, 1)->r.attempts, 3);
	fx_free(f);
}

static void no_hosts(struct fx_config *c)
{
	c->endpoints[0].n_endpoints = 0;
}

static void original_dst(struct fx_config *c)
{
	no_hosts(c);
	c->cluster[0].is_original_dst = true;
}

static void no_cluster(struct fx_config *c)
{
	c->weighted[0][0].slot = 3;
}

static void one_connection(struct fx_config *c)
{
	c->cluster[0].breaker.max_connections = 1;
}

static void test_refusals(void **state)
{
	(void)state;
	struct fx *f = begin(no_hosts);
	struct fx_stream *c = session(f);
	assert_true(c->is_released);
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UH);
	assert_int_equal(t_reason(f->w, MESH, ORIGINAL_DST), 0);
	fx_free(f);
	f = begin(original_dst);
	c = session(f);
	assert_true(c->is_released);
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UH);
	assert_int_equal(t_reason(f->w, MESH, ORIGINAL_DST), 1);
	fx_free(f);
	f = begin(no_cluster);
	c = session(f);
	assert_true(c->is_released);
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_NC);
	fx_free(f);
	f = begin(one_connection);
	c = session(f);
	(void)fx_up_open(f);
	struct fx_stream *d = session(f);
	assert_true(d->is_released);
	assert_false(c->is_dead);
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UO);
	fx_closed(f, c, STREAM_END_RESET);
	assert_true(f->up[0]->is_aborted);
	d = session(f);
	assert_int_equal(f->n_connects, 2);
	fx_free(f);
}

/* As config makes it: one endpoint for all places. */
static void captured(struct fx_config *c)
{
	c->listener.is_captured = true;
	c->cluster[0].is_original_dst = true;
	memset(c->endpoint[0][0].ip, 0, sizeof(c->endpoint[0][0].ip));
	c->endpoint[0][0].port = 0;
}

static void test_original_destinations(void **state)
{
	(void)state;
	struct fx *f = begin(captured);
	struct fx_stream *first, *c;
	assert_null(fx_connect(f)); /* to our own address: not what this listener is for */
	assert_int_equal(t_reason(f->w, MESH, NOT_CAPTURED), 1);
	f->went_to = 33;
	first = session(f);
	assert_int_equal(f->up[0]->port, 9000);
	assert_int_equal(f->up[0]->ip[15], 33);
	f->went_to = 34;
	c = session(f);
	assert_int_equal(f->up[1]->ip[15], 34);
	fx_opened(f, f->up[1]);
	fx_say(f, c, "x");
	assert_string_equal(fx_heard(f->up[1]), "x");
	fx_turn(f);
	fx_closed(f, c, STREAM_END_RESET);
	const struct fx_record *r = fx_last(f, 1);
	assert_int_equal(r->r.flags, 0);
	assert_int_equal(r->r.upstream_host.ip[15], 34);
	assert_int_equal(r->r.upstream_host.port, 9000);
	fx_closed(f, f->up[0], STREAM_END_REFUSED);
	assert_true(first->is_released);
	assert_int_equal(fx_last(f, 2)->r.flags, TELE_FLAG_UF | TELE_FLAG_URX);
	assert_int_equal(fx_last(f, 2)->r.upstream_host.ip[15], 33);
	fx_free(f);
}

static void test_slow_sides(void **state)
{
	(void)state;
	static char block[10000];
	struct fx *f = begin(NULL);
	struct fx_stream *c = session(f), *u = fx_up_open(f);
	memset(block, 'x', sizeof(block));
	u->hold_acks = c->hold_acks = true;
	u->s.tx_high_bytes = c->s.tx_high_bytes = 25000;
	for (int i = 0; i < 10; i++) {
		fx_say_bytes(f, c, block, sizeof(block));
		fx_say_bytes(f, u, block, sizeof(block));
	}
	assert_int_equal(u->n_out, 25000);
	assert_int_equal(c->s.rx.n_bytes, 75000);
	for (int i = 0; i < 3; i++) {
		fx_ack(f, u);
		fx_ack(f, c);
	}
	assert_int_equal(u->n_out, 100000);
	assert_int_equal(c->n_out, 100000);
	/* what a side sent before it closed is not lost when the other is slow */
	fx_say_bytes(f, u, block, sizeof(block));
	fx_closed(f, u, STREAM_END_FIN);
	assert_int_equal(c->n_out, 110000);
	assert_true(c->is_released);
	fx_free(f);
}

static void short_idle(struct fx_config *c)
{
	c->chain.tcp.idle_timeout_us = 1000000;
}

static void test_idle(void **state)
{
	(void)state;
	struct fx *f = begin(short_idle);
	struct fx_stream *c = session(f), *u = fx_up_open(f);
	t_advance(f->w, 800000);
	fx_say(f, c, "x");
	t_advance(f->w, 800000);
	assert_false(c->is_dead);
	t_advance(f->w, 300000);
	assert_true(c->is_released && u->is_released);
	assert_int_equal(fx_last(f, 1)->r.flags, 0);
	fx_free(f);
}

static void test_snapshot_change(void **state)
{
	(void)state;
	struct fx *f = begin(NULL);
	struct fx_stream *c = session(f), *u = fx_up_open(f);
	struct fx_config *next = fx_config_new(1, 1);
	next->chain = f->config->chain;
	next->chain.tcp.clusters = next->weighted[0];
	fx_publish(f, next);
	assert_int_equal(f->old[0]->c.held[0].n, 0); /* the session has moved on */
	fx_say(f, c, "x");
	assert_string_equal(fx_heard(u), "x");
	struct fx_config *other = fx_config_new(2, 1); /* the host is gone: it goes on with what it had */
	other->endpoints[0].n_endpoints = 0;
	fx_publish(f, other);
	assert_int_equal(f->old[1]->c.held[0].n, 1);
	fx_say(f, c, "y");
	assert_string_equal(fx_heard(u), "y");
	fx_closed(f, c, STREAM_END_RESET);
	assert_true(u->is_aborted);
	fx_turn(f);
	assert_int_equal(f->old[1]->c.held[0].n, 0);
	fx_free(f);
}

static void test_leaves_while_connecting(void **state)
{
	(void)state;
	struct fx *f = begin(NULL);
	struct fx_stream *c = session(f);
	fx_closed(f, c, STREAM_END_RESET);
	assert_true(f->up[0]->is_aborted);
	fx_last(f, 1);
	c = fx_connect(f); /* and before it began */
	fx_closed(f, c, STREAM_END_RESET);
	fx_last(f, 2);
	t_advance(f->w, 10000);
	assert_int_equal(f->n_connects, 1);
	fx_free(f);
}

static void test_blocks_run_out(void **state)
{
	(void)state;
	struct fx *f = begin(NULL);
	for (int i = 0; i < 3; i++) {
		for (int n = 0; n < 5; n++)
			(void)session(f);
		t_pool_drain(f->w->indirect_pool, 0);
		struct fx_stream *u = fx_up_open(f);
		struct fx_stream *c = &f->stream[f->n_streams - 2];
		c->s.tx_high_bytes = 1; /* a split, which needs an indirect mbuf */
		fx_say(f, u, "ab");
		assert_true(c->is_aborted && u->is_aborted);
		t_pool_refill(f->w->indirect_pool);
	}
	fx_free(f);
}

/* Sessions in any order of events; what is checked is that nothing breaks, everything comes home (fx_free), and in each direction bytes arrive in order. */
static void random_peer(struct fx *f, struct foil_prng *p, struct fx_stream *s)
{
	static const char text[] = "abcdefghijklmnopqrstuvwxyz";

	if (s->is_dead)
		return;
	if (!s->s.is_open) {
		if (foil_prng_below(p, 4) == 0)
			fx_closed(f, s, STREAM_END_REFUSED);
		else
			fx_opened(f, s);
		return;
	}
	switch (foil_prng_below(p, 12)) {
	case 0: fx_closed(f, s, STREAM_END_RESET); return;
	case 1:
		if (!s->s.rx_eof)
			fx_eof(f, s);
		return;
	case 2:
		if (s->s.rx_eof && s->is_shut)
			fx_closed(f, s, STREAM_END_FIN);
		return;
	case 3:
		s->hold_acks = true;
		s->s.tx_high_bytes = 20;
		return;
	case 4:
	case 5: fx_ack(f, s); return;
	default:
		if (!s->s.rx_eof && rte_mempool_avail_count(f->w->mbuf_pool) > 4)
			fx_say_bytes(f, s, text, 1 + foil_prng_below(p, 26));
	}
}

static struct fx_config *random_config(struct foil_prng *p)
{
	struct fx_config *c = fx_config_new(2, 2);

	c->chain.network = MESH_NETWORK_TCP;
	c->weighted[0][1] = c->weighted[0][0];
	c->weighted[0][1].slot = 1;
	c->weighted[0][1].cluster = c->cluster[1].res.name;
	c->chain.tcp = (struct mesh_tcp_proxy){.clusters = c->weighted[0], .n_clusters = 2, .total_weight = 2, .idle_timeout_us = 200000,
					       .max_connect_attempts = 2};
	c->cluster[0].breaker.max_connections = 3;
	if (foil_prng_below(p, 4) == 0)
		c->endpoints[1].n_endpoints = 0;
	if (foil_prng_below(p, 8) == 0)
		c->clusters[1] = NULL;
	return c;
}

static void test_random(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct foil_prng p;
		foil_prng_seed(&p, seed);
		struct fx *f = fx_new((struct t_worker_params){.seed = seed}, random_config(&p), 4, 8);
		for (int i = 0; i < 400; i++) {
			uint32_t what = foil_prng_below(&p, 20);
			if (what < 2)
				(void)fx_connect(f);
			else if (what < 4)
				t_advance(f->w, foil_prng_below(&p, 60000));
			else if (what == 4 && f->n_old < 60)
				fx_publish(f, random_config(&p));
			else if (f->n_streams)
				random_peer(f, &p, &f->stream[f->n_streams - 1 - foil_prng_below(&p, FOIL_MIN(f->n_streams, 10))]);
			if (foil_prng_below(&p, 3) == 0)
				fx_turn(f);
		}
		for (unsigned int i = 0; i < f->n_streams; i++) /* what came through are pieces of the alphabet, each from its a */
			for (uint32_t at = 1; at < f->stream[i].n_out; at++)
				if (f->stream[i].out[at] != 'a')
					assert_int_equal(f->stream[i].out[at], f->stream[i].out[at - 1] + 1);
		fx_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo), cmocka_unit_test(test_down), cmocka_unit_test(test_attempts), cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_original_destinations),
		cmocka_unit_test(test_slow_sides), cmocka_unit_test(test_idle), cmocka_unit_test(test_snapshot_change),
		cmocka_unit_test(test_leaves_while_connecting), cmocka_unit_test(test_blocks_run_out),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
