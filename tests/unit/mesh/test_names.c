/* Hosts that requests name (DYNAMIC_DNS): who asks, who waits and for how long, which connection serves which name, and what a stranger who invents names
 * can fill. The test is the agent. */
#include "tests/unit/mesh/fake_transport.h"

#include <stdio.h>

#include "dataplane/mesh/names.h"
#include "dataplane/mesh/runtime.h"

#define OK_0 "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
#define SECOND 1000000u

static struct fx_config *dynamic(void)
{
	struct fx_config *c = fx_config_new(1, 1);

	c->listener.direction = MESH_DIRECTION_OUTBOUND;
	c->cluster[0].is_dynamic = true; /* as config makes it: one endpoint for all places */
	c->cluster[0].dynamic_port = 443;
	c->c.has_dynamic = true;
	memset(c->endpoint[0][0].ip, 0, sizeof(c->endpoint[0][0].ip));
	c->endpoint[0][0].port = 0;
	return c;
}

static struct fx *begin(struct fx_config *c)
{
	return fx_new((struct t_worker_params){.seed = 7}, c, 1024, 1024);
}

static void get(struct fx *f, struct fx_stream *c, const char *host)
{
	char text[400];

	(void)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nhost: %s\r\n\r\n", host);
	fx_say(f, c, text);
}

static struct fx_stream *asks_for(struct fx *f, const char *host)
{
	struct fx_stream *c = fx_connect(f);

	assert_non_null(c);
	get(f, c, host);
	return c;
}

static void assert_question(struct fx *f, const char *name)
{
	char got[MESH_NAME_BYTES] = "";

	assert_int_equal(mesh_names_question(f->shared, got), name != NULL);
	assert_string_equal(got, name ? name : "");
}

static void v4(uint8_t ip[16], const char *text)
{
	unsigned int b[4];

	assert_int_equal(sscanf(text, "%u.%u.%u.%u", &b[0], &b[1], &b[2], &b[3]), 4);
	memset(ip, 0, 16);
	ip[10] = ip[11] = 0xff;
	for (int i = 0; i < 4; i++)
		ip[12 + i] = (uint8_t)b[i];
}

static void say(struct fx *f, const char *name, enum mesh_name_outcome outcome, uint32_t ttl_s, const char *one, const char *two)
{
	struct mesh_name_answer a = {.outcome = outcome, .ttl_s = ttl_s};

	(void)snprintf(a.name, sizeof(a.name), "%s", name);
	if (one)
		v4(a.ip[a.n_addresses++], one);
	if (two)
		v4(a.ip[a.n_addresses++], two);
	mesh_names_answer(f->shared, &a);
	fx_turn(f);
}

static void found(struct fx *f, const char *name, uint32_t ttl_s, const char *address)
{
	say(f, name, MESH_NAME_FOUND, ttl_s, address, NULL);
}

static void assert_503(struct fx *f, struct fx_stream *c, unsigned int n, const char *details)
{
	const char *a = fx_heard(c);

	assert_non_null(strstr(a, "HTTP/1.1 503 "));
	assert_non_null(strstr(a, "DNS resolution failure"));
	assert_int_equal(fx_last(f, n)->r.flags, TELE_FLAG_DF);
	assert_int_equal(fx_last(f, n)->r.upstream_host.port, 0);
	assert_string_equal(fx_last(f, n)->details, details);
}

static struct fx_stream *last_up(struct fx *f, unsigned int n_connects, uint8_t last_octet, uint16_t port)
{
	assert_int_equal(f->n_connects, n_connects);
	assert_int_equal(f->up[n_connects - 1]->ip[15], last_octet);
	assert_int_equal(f->up[n_connects - 1]->port, port);
	return fx_up_open(f);
}

/* ---- who is asked, who is connected ---- */

static void test_the_host_is_asked_for_and_reached(void **state)
{
	(void)state;
	struct fx *f = begin(dynamic());
	struct fx_stream *a = asks_for(f, "One.Example.com:8080"), *b = asks_for(f, "one.example.com.:8080");
	assert_int_equal(f->n_connects, 0);
	assert_question(f, "one.example.com"); /* both wait for one answer */
	assert_question(f, NULL);
	assert_int_equal(mesh_breaker_sum(f->config->endpoint[0][0].host->cluster, MESH_BREAKER_PENDING), 2);
	found(f, "one.example.com", 30, "198.19.0.33");
	assert_int_equal(f->n_connects, 2);
	assert_int_equal(f->up[0]->ip[15], 33);
	assert_int_equal(f->up[0]->port, 8080);
	for (int i = 0; i < 2; i++)
		fx_opened(f, f->up[i]);
	for (int i = 0; i < 2; i++)
		fx_say(f, f->up[i], OK_0);
	assert_non_null(strstr(fx_heard(a), "200 OK"));
	assert_non_null(strstr(fx_heard(b), "200 OK"));
	assert_int_equal(fx_last(f, 2)->r.upstream_host.ip[15], 33);
	assert_int_equal(fx_last(f, 2)->r.upstream_host.port, 8080);
	get(f, a, "one.example.com:8080"); /* no question, and a connection that is there */
	assert_question(f, NULL);
	assert_int_equal(f->n_connects, 2);
	assert_int_equal(t_counter(f->w, MESH, NAME_QUERIES), 1);
	assert_int_equal(t_counter(f->w, MESH, NAME_SUCCESSES), 1);
	assert_int_equal(t_counter(f->w, MESH, NAMES), 1);
	fx_free(f);
}

static void test_a_connection_serves_no_other_name_and_no_other_port(void **state)
{
	(void)state;
	struct fx *f = begin(dynamic());
	static const char *const hosts[] = {"one.example.com", "two.example.com", "one.example.com:81", "one.example.com"};
	struct fx_stream *c = fx_connect(f);
	unsigned int n = 0;
	for (int i = 0; i < 4; i++) {
		get(f, c, hosts[i]);
		if (i < 2) {
			assert_question(f, hosts[i]);
			found(f, hosts[i], 30, "198.19.0.33"); /* the same server */
		}
		if (i < 3)
			fx_say(f, last_up(f, ++n, 33, i == 2 ? 81 : 80), OK_0);
		else
			fx_say(f, f->up[0], OK_0);
		assert_non_null(strstr(fx_heard(c), "200 OK"));
	}
	assert_int_equal(f->n_connects, 3);
	fx_free(f);
}

static void test_an_address_needs_no_answer(void **state)
{
	(void)state;
	struct fx *f = begin(dynamic());
	struct fx_stream *c = asks_for(f, "198.19.0.44:8080");
	assert_question(f, NULL);
	fx_say(f, last_up(f, 1, 44, 8080), OK_0);
	assert_non_null(strstr(fx_heard(c), "200 OK"));
	get(f, c, "[fd00::55]");
	assert_int_equal(f->up[1]->ip[0], 0xfd);
	assert_int_equal(f->up[1]->ip[15], 0x55);
	assert_int_equal(f->up[1]->port, 80);
	fx_free(f);
}

/* ---- what is no answer ---- */

static void test_no_address(void **state)
{
	(void)state;
	struct fx *f = begin(dynamic());
	struct fx_stream *c = asks_for(f, "none.example.com");
	assert_question(f, "none.example.com");
	say(f, "none.example.com", MESH_NAME_NONE, 0, NULL, NULL);
	assert_503(f, c, 1, "dns_resolution_failure{no_address}");
	assert_int_equal(t_reason(f->w, MESH, NAME_UNKNOWN), 1);
	t_advance(f->w, 4 * SECOND);
	get(f, c, "none.example.com"); /* it is remembered */
	assert_question(f, NULL);
	assert_503(f, c, 2, "dns_resolution_failure{no_address}");
	t_advance(f->w, 2 * SECOND);
	assert_int_equal(t_counter(f->w, MESH, NAMES), 0);
	get(f, c, "none.example.com");
	assert_question(f, "none.example.com");
	say(f, "none.example.com", MESH_NAME_FAILED, 0, NULL, NULL); /* nobody could say: asked again sooner */
	assert_503(f, c, 3, "dns_resolution_failure{no_address}");
	t_advance(f->w, SECOND + SECOND / 10);
	get(f, c, "none.example.com");
	assert_question(f, "none.example.com");
	found(f, "none.example.com", 1, "198.19.0.33");
	(void)last_up(f, 1, 33, 80);
	fx_free(f);
}

static void test_without_an_agent_it_is_over_after_five_seconds(void **state)
{
	(void)state;
	struct fx *f = begin(dynamic());
	struct fx_stream *c = asks_for(f, "one.example.com");
	for (int i = 0; i < 5; i++) { /* who was gone may be back */
		assert_question(f, "one.example.com");
		assert_question(f, NULL);
		assert_string_equal(fx_peek(c), "");
		t_advance(f->w, SECOND + SECOND / 50);
	}
	assert_503(f, c, 1, "dns_resolution_failure{resolve_timeout}");
	assert_int_equal(t_counter(f->w, MESH, NAME_TIMEOUTS), 1);
	assert_int_equal(t_reason(f->w, MESH, NAME_TIMEOUT), 1);
	found(f, "one.example.com", 30, "198.19.0.33"); /* too late */
	assert_int_equal(f->n_connects, 0);
	fx_free(f);
}

static void test_at_a_gateway_there_is_no_host(void **state)
{
	(void)state;
	struct fx_config *cfg = dynamic();
	cfg->listener.direction = MESH_DIRECTION_GATEWAY;
	struct fx *f = begin(cfg);
	struct fx_stream *c = asks_for(f, "none.example.com");
	say(f, "none.example.com", MESH_NAME_NONE, 0, NULL, NULL);
	assert_non_null(strstr(fx_heard(c), "\r\n\r\nno healthy upstream"));
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UH);
	assert_string_equal(fx_last(f, 1)->details, "dns_resolution_failure{no_address}");
	fx_free(f);
}

static void test_what_is_no_name_is_not_asked_for(void **state)
{
	(void)state;
	static const char *const bad[] = {"a b.example.com", "a_.-b.example.com", "-a.example.com", "a-.example.com", "a..example.com", ".example.com",
		"*.example.com", "example.com:0", "example.com:99999", "example.com:8x", "example.com:", "1.2.3",
		"127.1", "a.0", "a%2e.example.com", "$(id).example.com",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.com"};
	struct fx *f = begin(dynamic());
	unsigned int n = 0;
	for (size_t i = 0; i < FOIL_COUNT_OF(bad); i++) {
		struct fx_stream *c = asks_for(f, bad[i]);
		const char *a = fx_heard(c);
		if (strstr(a, " 400 ")) { /* the codec's own refusal */
			n++;
			continue;
		}
		if (!strstr(a, " 503 "))
			fail_msg("%s: %s", bad[i], a);
		assert_string_equal(fx_last(f, ++n)->details, "dns_resolution_failure{cares_failure:Misformatted_domain_name}");
		assert_question(f, NULL);
	}
	assert_int_equal(t_counter(f->w, MESH, NAMES), 0);
	fx_free(f);
}

static void test_addresses_that_a_clients_word_may_not_lead_to(void **state)
{
	(void)state;
	struct fx *f = begin(dynamic());
	static const char *const literal[] = {"127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[ff02::1]",
		"[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[::127.0.0.1]"};
	unsigned int n = 0;
	for (size_t i = 0; i < FOIL_COUNT_OF(literal); i++) {
		struct fx_stream *c = asks_for(f, literal[i]);
		assert_503(f, c, ++n, "dns_resolution_failure{refused_address}");
	}
	struct fx_stream *c = asks_for(f, "lo.example.com");
	found(f, "lo.example.com", 30, "127.0.0.1");
	assert_503(f, c, ++n, "dns_resolution_failure{refused_address}");
	assert_int_equal(t_reason(f->w, MESH, NAME_REFUSED), n);
	c = asks_for(f, "both.example.com"); /* the good one is used */
	say(f, "both.example.com", MESH_NAME_FOUND, 30, "127.0.0.1", "198.19.0.33");
	(void)last_up(f, 1, 33, 80);
	t_advance(f->w, 31 * SECOND); /* and then it is pointed at us */
	found(f, "both.example.com", 30, "127.0.0.1");
	c = asks_for(f, "both.example.com");
	assert_503(f, c, ++n, "dns_resolution_failure{refused_address}");
	fx_free(f);
}

/* ---- what becomes of an answer ---- */

static void test_a_host_that_moves_takes_its_requests_with_it(void **state)
{
	(void)state;
	struct fx *f = begin(dynamic());
	struct fx_stream *c = asks_for(f, "one.example.com"), *busy;
	assert_question(f, "one.example.com");
	found(f, "one.example.com", 7, "198.19.0.33");
	struct fx_stream *first = last_up(f, 1, 33, 80);
	fx_say(f, first, OK_0);
	busy = asks_for(f, "one.example.com");
	(void)fx_heard(c);
	get(f, c, "one.example.com");
	struct fx_stream *second = last_up(f, 2, 33, 80);
	fx_say(f, second, OK_0);
	(void)fx_heard(c);
	t_advance(f->w, 6 * SECOND);
	assert_question(f, NULL);
	t_advance(f->w, SECOND + SECOND / 10); /* the TTL is over */
	assert_question(f, "one.example.com");
	get(f, c, "one.example.com"); /* what is known serves meanwhile */
	assert_int_equal(f->n_connects, 2);
	fx_say(f, second, OK_0);
	(void)fx_heard(c);
	found(f, "one.example.com", 7, "198.19.0.34");
	assert_int_equal(t_counter(f->w, MESH, NAME_CHANGES), 1);
	get(f, c, "one.example.com");
	struct fx_stream *third = last_up(f, 3, 34, 80);
	assert_true(second->is_aborted || second->is_released || second->is_shut); /* the idle one is gone */
	fx_say(f, third, OK_0);
	assert_non_null(strstr(fx_heard(c), "200 OK"));
	fx_say(f, first, OK_0); /* the busy one serves what it has begun */
	assert_non_null(strstr(fx_heard(busy), "200 OK"));
	assert_true(first->is_aborted || first->is_released || first->is_shut);
	fx_free(f);
}

static void test_last_good_addresses_stay_whatever_comes(void **state)
{
	(void)state;
	struct fx *f = begin(dynamic());
	struct fx_stream *c = asks_for(f, "one.example.com");
	found(f, "one.example.com", 5, "198.19.0.33");
	assert_question(f, "one.example.com");
	struct fx_stream *u = last_up(f, 1, 33, 80);
	fx_say(f, u, OK_0);
	for (int i = 0; i < 20; i++) { /* no name, nobody knows, nobody there */
		t_advance(f->w, 5 * SECOND + SECOND / 10);
		if (i % 3 < 2)
			say(f, "one.example.com", i % 3 ? MESH_NAME_NONE : MESH_NAME_FAILED, 0, NULL, NULL);
		(void)fx_heard(c);
		get(f, c, "one.example.com");
		fx_say(f, u, OK_0);
		assert_non_null(strstr(fx_heard(c), "200 OK"));
	}
	assert_int_equal(f->n_connects, 1);
	assert_true(t_counter(f->w, MESH, NAME_FAILURES) > 5);
	assert_true(t_counter(f->w, MESH, NAME_TIMEOUTS) > 2);
	fx_free(f);
}

static void test_a_name_that_nobody_uses_is_forgotten(void **state)
{
	(void)state;
	struct fx *f = begin(dynamic());
	char name[MESH_NAME_BYTES];
	(void)asks_for(f, "one.example.com");
	found(f, "one.example.com", 60, "198.19.0.33");
	for (int i = 0; i < 5; i++) {
		while (mesh_names_question(f->shared, name))
			;
		t_advance(f->w, 58 * SECOND);
		found(f, "one.example.com", 60, "198.19.0.33");
	}
	assert_int_equal(t_counter(f->w, MESH, NAMES), 1);
	t_advance(f->w, 130 * SECOND);
	assert_int_equal(t_counter(f->w, MESH, NAMES), 0);
	while (mesh_names_question(f->shared, name))
		;
	t_advance(f->w, 300 * SECOND);
	assert_question(f, NULL);
	fx_free(f);
}

static void test_the_next_address_is_tried_when_one_does_not_answer(void **state)
{
	(void)state;
	struct fx_config *cfg = dynamic();
	cfg->retry = (struct mesh_retry_policy){.retry_on = MESH_RETRY_CONNECT_FAILURE, .num_retries = 2, .backoff_base_us = 25000, .backoff_max_us = 250000};
	cfg->route[0].route.retry = &cfg->retry;
	struct fx *f = begin(cfg);
	struct fx_stream *c = asks_for(f, "one.example.com");
	say(f, "one.example.com", MESH_NAME_FOUND, 60, "198.19.0.33", "198.19.0.34");
	assert_int_equal(f->up[0]->ip[15], 33);
	fx_closed(f, f->up[0], STREAM_END_REFUSED);
	t_advance(f->w, SECOND);
	fx_say(f, last_up(f, 2, 34, 80), OK_0);
	assert_non_null(strstr(fx_heard(c), "200 OK"));
	fx_free(f);
}

/* ---- what strangers can fill ---- */

static void test_no_more_is_asked_for_than_the_limit(void **state)
{
	(void)state;
	fx_names_max = 512;
	struct fx *f = begin(dynamic());
	char name[MESH_NAME_BYTES];
	unsigned int n_questions = 0;
	fx_names_max = 0;
	struct fx_stream *c = NULL, *good = asks_for(f, "good.example.com");
	found(f, "good.example.com", 60, "198.19.0.33");
	struct fx_stream *u = last_up(f, 1, 33, 80);
	fx_say(f, u, OK_0);
	(void)fx_heard(good);
	for (unsigned int i = 0; i < MESH_NAMES_ASKED_MAX + 3; i++) {
		(void)snprintf(name, sizeof(name), "n%u.example.com", i);
		c = asks_for(f, name);
		if (i < MESH_NAMES_ASKED_MAX) /* who does not wait has asked */
			fx_closed(f, c, STREAM_END_RESET);
	}
	assert_non_null(strstr(fx_heard(c), "Dynamic forward proxy pending request overflow"));
	assert_int_equal(t_counter(f->w, MESH, NAME_PENDING_OVERFLOW), 3);
	assert_int_equal(t_reason(f->w, MESH, NAME_OVERFLOW), 3);
	get(f, good, "good.example.com"); /* who is known is served as ever */
	fx_say(f, u, OK_0);
	assert_non_null(strstr(fx_heard(good), "200 OK"));
	while (mesh_names_question(f->shared, name))
		n_questions++;
	assert_int_equal(n_questions, 64); /* the ring's: others are put into it later */
	t_advance(f->w, SECOND / 10);
	assert_true(mesh_names_question(f->shared, name));
	t_advance(f->w, 6 * SECOND);
	assert_int_equal(t_counter(f->w, MESH, NAME_TIMEOUTS), MESH_NAMES_ASKED_MAX);
	t_advance(f->w, 2 * SECOND);
	assert_int_equal(t_counter(f->w, MESH, NAMES), 1);
	fx_free(f);
}

static void test_a_full_table_gives_up_its_oldest_name(void **state)
{
	(void)state;
	fx_names_max = 32;
	struct fx *f = begin(dynamic());
	struct fx_stream *c = fx_connect(f);
	char name[64];
	fx_names_max = 0;
	for (unsigned int i = 0; i < 52; i++) {
		(void)snprintf(name, sizeof(name), "n%u.example.com", i);
		get(f, c, name);
		assert_question(f, name);
		if (i == 5) {
			say(f, name, MESH_NAME_NONE, 0, NULL, NULL);
			(void)fx_heard(c);
			continue;
		}
		found(f, name, 3600, "198.19.0.33");
		fx_say(f, fx_up_open(f), OK_0);
		assert_non_null(strstr(fx_heard(c), "200 OK"));
	}
	assert_int_equal(t_counter(f->w, MESH, NAMES), 32);
	assert_int_equal(t_counter(f->w, MESH, NAME_EVICTIONS), 20);
	assert_int_equal(t_counter(f->w, MESH, POOLS), 32); /* nor do connections grow with the names */
	get(f, c, "n20.example.com");
	assert_question(f, NULL);
	fx_say(f, f->up[f->n_connects - 1], OK_0);
	fx_free(f);
}

static void test_who_leaves_waits_no_more(void **state)
{
	(void)state;
	struct fx_config *cfg = dynamic();
	cfg->cluster[0].breaker.max_pending_requests = 1;
	struct fx *f = begin(cfg);
	struct fx_stream *a = asks_for(f, "one.example.com"), *b = asks_for(f, "one.example.com");
	assert_non_null(strstr(fx_heard(b), "reset reason: overflow"));
	assert_int_equal(fx_last(f, 1)->r.flags, TELE_FLAG_UO);
	fx_closed(f, a, STREAM_END_RESET);
	assert_int_equal(fx_last(f, 2)->r.flags, TELE_FLAG_DC);
	found(f, "one.example.com", 60, "198.19.0.33");
	assert_int_equal(f->n_connects, 0);
	(void)asks_for(f, "one.example.com");
	assert_int_equal(f->n_connects, 1);
	fx_free(f);
	f = begin(dynamic()); /* and the end of all finds none waiting */
	(void)asks_for(f, "one.example.com");
	fx_free(f);
}

static void test_answers_that_nobody_asked_for(void **state)
{
	(void)state;
	struct fx *f = begin(dynamic());
	struct mesh_name_answer a = {.outcome = MESH_NAME_FOUND, .n_addresses = 255, .ttl_s = UINT32_MAX};
	memset(a.name, 'a', sizeof(a.name)); /* not even a string */
	for (int i = 0; i < 1000; i++)
		mesh_names_answer(f->shared, &a);
	struct fx_stream *c = asks_for(f, "one.example.com");
	fx_turn(f);
	assert_int_equal(t_counter(f->w, MESH, NAMES), 1);
	found(f, "two.example.com", 60, "198.19.0.33");
	found(f, "one.example.com", UINT32_MAX, "198.19.0.33");
	fx_say(f, last_up(f, 1, 33, 80), OK_0);
	assert_non_null(strstr(fx_heard(c), "200 OK"));
	fx_free(f);
}

/* ---- anything in any order ---- */
#define CLIENTS 12
static void any_origin(struct fx *f, struct foil_prng *p, struct fx_stream *u)
{
	if (u->is_dead)
		return;
	switch (foil_prng_below(p, 4)) {
	case 0: fx_closed(f, u, u->s.is_open ? STREAM_END_RESET : STREAM_END_REFUSED); break;
	case 1:
		if (!u->s.is_open)
			fx_opened(f, u);
		break;
	default:
		if (u->s.is_open && strstr(fx_peek(u), "\r\n\r\n")) {
			(void)fx_heard(u);
			fx_say(f, u, OK_0);
		}
	}
}

static void any_answer(struct fx *f, struct foil_prng *p, unsigned int n_names)
{
	static const char *const addresses[] = {"198.19.0.33", "198.19.0.34", "127.0.0.1"};
	char name[MESH_NAME_BYTES];

	if (foil_prng_below(p, 4) == 0 || !mesh_names_question(f->shared, name))
		(void)snprintf(name, sizeof(name), "n%u.example.com", foil_prng_below(p, n_names));
	say(f, name, (enum mesh_name_outcome)foil_prng_below(p, MESH_NAME_OUTCOMES), foil_prng_below(p, 10), addresses[foil_prng_below(p, 3)],
	    foil_prng_below(p, 2) ? addresses[foil_prng_below(p, 3)] : NULL);
}

static void any_client(struct fx *f, struct foil_prng *p, struct fx_stream **c, unsigned int n_names)
{
	char host[64];

	if (!*c || (*c)->is_dead)
		*c = fx_connect(f);
	if (!*c)
		return;
	if (foil_prng_below(p, 8) == 0) {
		fx_closed(f, *c, STREAM_END_RESET);
		return;
	}
	(void)fx_heard(*c);
	(void)snprintf(host, sizeof(host), "n%u.example.com%s", foil_prng_below(p, n_names), foil_prng_below(p, 4) ? "" : ":81");
	get(f, *c, host);
}

static void test_in_any_order_everything_comes_home(void **state)
{
	(void)state;
	for (unsigned int seed = 1; seed <= 4; seed++) {
		struct fx_stream *clients[CLIENTS] = {NULL};
		struct foil_prng p;
		foil_prng_seed(&p, seed);
		fx_names_max = seed % 3 ? 16 : 4;
		struct fx *f = begin(dynamic());
		fx_names_max = 0;
		for (int i = 0; i < 300; i++) {
			switch (foil_prng_below(&p, 12)) {
			case 0: t_advance(f->w, foil_prng_below(&p, 7 * SECOND)); break;
			case 1:
				if (foil_prng_below(&p, 40) == 0 && f->n_old < 8)
					fx_publish(f, dynamic());
				break;
			case 2:
			case 3:
			case 4: any_answer(f, &p, 40); break;
			case 5:
			case 6:
			case 7:
			case 8: any_client(f, &p, &clients[foil_prng_below(&p, CLIENTS)], 40); break;
			default:
				if (f->n_connects)
					any_origin(f, &p, f->up[f->n_connects - 1 - foil_prng_below(&p, FOIL_MIN(f->n_connects, 40u))]);
			}
			fx_turn(f);
			assert_true(t_counter(f->w, MESH, NAMES) <= 16);
		}
		fx_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_host_is_asked_for_and_reached), cmocka_unit_test(test_a_connection_serves_no_other_name_and_no_other_port),
		cmocka_unit_test(test_an_address_needs_no_answer), cmocka_unit_test(test_no_address),
		cmocka_unit_test(test_without_an_agent_it_is_over_after_five_seconds), cmocka_unit_test(test_at_a_gateway_there_is_no_host),
		cmocka_unit_test(test_what_is_no_name_is_not_asked_for), cmocka_unit_test(test_addresses_that_a_clients_word_may_not_lead_to),
		cmocka_unit_test(test_a_host_that_moves_takes_its_requests_with_it), cmocka_unit_test(test_last_good_addresses_stay_whatever_comes),
		cmocka_unit_test(test_a_name_that_nobody_uses_is_forgotten), cmocka_unit_test(test_the_next_address_is_tried_when_one_does_not_answer),
		cmocka_unit_test(test_no_more_is_asked_for_than_the_limit), cmocka_unit_test(test_a_full_table_gives_up_its_oldest_name),
		cmocka_unit_test(test_in_any_order_everything_comes_home),
		cmocka_unit_test(test_who_leaves_waits_no_more), cmocka_unit_test(test_answers_that_nobody_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
