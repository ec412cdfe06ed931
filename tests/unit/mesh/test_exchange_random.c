/* Anything in any order: clients and origins that send pieces of good and bad messages, leave, stall and come back while time passes,
 * configurations change and memory runs dry. Nothing is expected of the answers; what is checked is that nothing breaks and that everything
 * comes home (fx_free). Each seed is one history; a failure names it. */
#include "tests/unit/mesh/fake_transport.h"

#include <stdlib.h>

#define CLIENTS_MAX 8
#define SEEDS 60
#define STEPS 600

#define HOST_A "\r\nhost: a\r\n"
static const char *const requests[] = {
	"GET /a HTTP/1.1" HOST_A "\r\n", "GET /m HTTP/1.1" HOST_A "\r\n", "GET /f HTTP/1.1" HOST_A "\r\n", "GET /d HTTP/1.1" HOST_A "\r\n",
	"POST /a HTTP/1.1" HOST_A "content-length: 10\r\n\r\n0123456789", "POST /m HTTP/1.1" HOST_A "content-length: 10\r\n\r\n0123456789",
	"PUT /f HTTP/1.1" HOST_A "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HEAD /a HTTP/1.1" HOST_A "\r\n",
	"POST /d HTTP/1.1" HOST_A "content-length: 4\r\n\r\nbody", "GET /none HTTP/1.1" HOST_A "connection: close\r\n\r\n",
	"GET /a HTTP/1.1" HOST_A "upgrade: websocket\r\nconnection: upgrade\r\n\r\n", "BAD\r\n\r\n", "OPTIONS * HTTP/1.1" HOST_A "\r\n",
	"GET /a HTTP/1.1" HOST_A "upgrade: other\r\nconnection: upgrade\r\n\r\n",
	"GET / HTTP/1.0\r\n\r\n", "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", "POST /a HTTP/1.1" HOST_A "transfer-encoding: chunked\r\n\r\nzz\r\n",
};
static const char *const answers[] = {
	"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"HTTP/1.1 503 E\r\ncontent-length: 4\r\n\r\noops", "HTTP/1.1 500 E\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n",
	"HTTP/1.1 103 Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\n\r\nuntil close", "GARBAGE\r\n\r\n",
	"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", "HTTP/1.1 101 Switching\r\n\r\n",
	"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
};

struct peer {
	struct fx_stream *s;
	const char *text; /* being said */
	size_t at;
};
struct world {
	struct fx *f;
	struct foil_prng prng; /* the test's own */
	struct peer client[CLIENTS_MAX];
	struct peer origin[FX_STREAMS_MAX];
	struct rte_mempool *dry;
};

static uint32_t below(struct world *x, uint32_t n)
{
	return foil_prng_below(&x->prng, n);
}

static struct fx_config *config(struct world *x, bool is_first)
{
	static const struct mesh_mirror mirrors[] = {{.slot = 1, .per_million = 700000}, {.slot = 2, .per_million = 1000000}};
	static const struct mesh_fault fault = {.delay_us = 30000, .delay_per_million = 700000, .abort_http_status = 418, .abort_per_million = 300000};
	static const struct mesh_outlier outlier = {.consecutive_5xx = 2, .interval_us = 100000, .base_ejection_us = 200000, .max_ejection_us = 1000000,
						    .max_ejection_percent = 100};
	struct fx_config *c = fx_config_new(3, 2);
	struct mesh_route *m = fx_route(c, "/m", 0), *d;

	m->route.mirrors = mirrors;
	m->route.n_mirrors = 2;
	fx_route(c, "/f", 1)->fault = &fault;
	d = fx_route(c, "/d", 0);
	d->action = MESH_ACTION_DIRECT_RESPONSE;
	d->direct = (struct mesh_direct_response){.status = 200, .body = FOIL_SLICE("direct")};
	c->retry = (struct mesh_retry_policy){.num_retries = 2, .retry_on = MESH_RETRY_5XX, .per_try_timeout_us = 200000, .avoid_previous_hosts = true,
					      .host_selection_max_attempts = 3};
	for (unsigned int i = 0; i < c->vhost.n_routes; i++)
		if (c->route[i].action == MESH_ACTION_ROUTE) {
			c->route[i].route.retry = &c->retry;
			c->route[i].route.timeout_us = 500000;
		}
	c->chain.http.stream_idle_timeout_us = 400000;
	c->chain.http.request_timeout_us = 250000;
	c->cluster[0].breaker = (struct mesh_circuit_breaker){2, 2, 3, 1};
	c->cluster[0].outlier = &outlier;
	c->cluster[1].max_requests_per_connection = 2;
	c->cluster[1].idle_timeout_us = 100000;
	c->cluster[0].connect_timeout_us = 300000;
	if (!is_first && below(x, 3) == 0)
		c->endpoints[0].n_endpoints = 1;
	if (!is_first && below(x, 5) == 0)
		c->clusters[1] = NULL;
	if (!is_first && below(x, 6) == 0)
		c->c.n_listeners = 0;
	return c;
}

static void say(struct world *x, struct peer *p, const char *const *texts, uint32_t n_texts)
{
	char piece[256];

	if (!p->text) {
		p->text = texts[below(x, n_texts)];
		p->at = 0;
	}
	size_t left = strlen(p->text) - p->at, n = below(x, 3) ? left : 1 + below(x, (uint32_t)left);
	n = FOIL_MIN(n, sizeof(piece));
	if (rte_mempool_avail_count(x->f->w->mbuf_pool) < 3)
		return;
	memcpy(piece, p->text + p->at, n);
	p->at += n;
	if (p->at == strlen(p->text))
		p->text = NULL;
	fx_say_bytes(x->f, p->s, piece, (uint32_t)n);
}

static void leave(struct world *x, struct peer *p)
{
	switch (below(x, 3)) {
	case 0: fx_closed(x->f, p->s, STREAM_END_RESET); return;
	case 1:
		if (!p->s->s.rx_eof)
			fx_eof(x->f, p->s);
		return;
	default: fx_closed(x->f, p->s, STREAM_END_TIMEOUT); return;
	}
}

static void client_step(struct world *x)
{
	struct peer *p = &x->client[below(x, CLIENTS_MAX)];

	if (!p->s || p->s->is_dead) {
		*p = (struct peer){.s = fx_connect(x->f)};
		if (p->s && below(x, 4) == 0) {
			p->s->hold_acks = true;
			p->s->s.tx_high_bytes = 64;
		}
		return;
	}
	fx_heard(p->s);
	if (p->s->hold_acks && below(x, 2))
		fx_ack(x->f, p->s);
	else if (p->s->s.rx_eof || below(x, 12) == 0)
		leave(x, p);
	else
		say(x, p, requests, FOIL_COUNT_OF(requests));
}

static void origin_step(struct world *x)
{
	unsigned int i, n = x->f->n_connects;

	if (n == 0)
		return;
	i = n - 1 - below(x, FOIL_MIN(n, 12));
	struct peer *p = &x->origin[i];
	p->s = x->f->up[i];
	if (p->s->is_dead)
		return;
	if (!p->s->s.is_open) {
		if (below(x, 5) == 0)
			fx_closed(x->f, p->s, STREAM_END_REFUSED);
		else if (below(x, 3))
			fx_opened(x->f, p->s);
		return;
	}
	if (below(x, 15) == 0)
		leave(x, p);
	else if ((p->text || strstr(fx_peek(p->s), "\r\n\r\n") || below(x, 40) == 0) && !p->s->s.rx_eof) {
		fx_heard(p->s);
		say(x, p, answers, FOIL_COUNT_OF(answers));
	}
}

static void world_step(struct world *x)
{
	struct rte_mempool *pools[] = {x->f->w->mbuf_pool, x->f->w->indirect_pool, x->f->w->chunk_pool};

	switch (below(x, 40)) {
	case 0:
		if (x->f->n_old < 60)
			fx_publish(x->f, config(x, false));
		return;
	case 1:
	case 2: t_advance(x->f->w, 300000); return;
	case 3:
		if (!x->dry) {
			x->dry = pools[below(x, 3)];
			t_pool_drain(x->dry, below(x, 6));
		}
		return;
	case 4:
	case 5:
	case 6:
		if (x->dry)
			t_pool_refill(x->dry);
		x->dry = NULL;
		return;
	case 7: x->f->w->overload = below(x, 2) ? (uint8_t)below(x, 1u << FOIL_OVERLOAD_ACTIONS) : 0; return;
	case 8: mesh_shrink(x->f->w); return;
	default: t_advance(x->f->w, below(x, 20000)); return;
	}
}

/* What all histories together came by: a test that no longer meets a case is to say so. */
static uint64_t met[MESH_CTR_COUNT], met_reasons[MESH_REASON_COUNT];

static void count_up(struct foil_worker *w)
{
	for (unsigned int i = 0; i < MESH_CTR_COUNT; i++)
		met[i] += mesh_room_desc.counters[i].kind == FOIL_COUNTER ? w->ctr[FOIL_ROOM_MESH][i] : 0;
	for (unsigned int i = 0; i < MESH_REASON_COUNT; i++)
		met_reasons[i] += w->why[FOIL_ROOM_MESH][i];
}

static void history(uint64_t seed)
{
	struct world *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	foil_prng_seed(&x->prng, seed);
	x->f = fx_new((struct t_worker_params){.seed = seed}, config(x, true), 6, CLIENTS_MAX - 1);
	for (int i = 0; i < STEPS; i++) {
		uint32_t what = below(x, 10);
		if (what < 5)
			client_step(x);
		else if (what < 9)
			origin_step(x);
		else
			world_step(x);
		if (below(x, 3) == 0)
			fx_turn(x->f);
	}
	if (x->dry)
		t_pool_refill(x->dry);
	count_up(x->f->w);
	fx_free(x->f);
	free(x);
}

static void test_histories(void **state)
{
	const char *one = getenv("MESH_SEED");

	(void)state;
	if (one) {
		history(strtoull(one, NULL, 10));
		return;
	}
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		print_message("# seed %llu\n", (unsigned long long)seed);
		history(seed);
	}
	static const enum mesh_counter counters[] = {MESH_CTR_DOWNSTREAM_RESETS, MESH_CTR_UPSTREAM_CONNECT_FAILURES, MESH_CTR_UPSTREAM_CX_OVERFLOW,
		MESH_CTR_UPSTREAM_PENDING_OVERFLOW, MESH_CTR_UPSTREAM_RESETS, MESH_CTR_RETRIES, MESH_CTR_RETRY_LIMIT, MESH_CTR_RETRY_OVERFLOW,
		MESH_CTR_RETRY_SUCCESS, MESH_CTR_TIMEOUTS, MESH_CTR_PER_TRY_TIMEOUTS, MESH_CTR_MIRRORS, MESH_CTR_MIRRORS_DROPPED, MESH_CTR_DOWNSTREAM_REAPED};
	for (size_t i = 0; i < FOIL_COUNT_OF(counters); i++)
		if (!met[counters[i]])
			fail_msg("no history met %s", mesh_room_desc.counters[counters[i]].name);
	for (unsigned int i = 1; i < MESH_REASON_HELLO_TIMEOUT; i++) /* the rest needs more than these histories have: a ClientHello, a filter */
		if (!met_reasons[i] && i != MESH_REASON_NO_FILTER_CHAIN && i != MESH_REASON_ROUTE_NOT_FOUND)
			fail_msg("no history met %s", mesh_room_desc.reasons[i].name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_histories)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
