/* dataplane/mesh/outlier.c: the judge's outlier recording on a hand-moved clock, and features.md DR-36..DR-45 rule by rule. */
#include "dataplane/mesh/outlier_priv.h"
#include "tests/unit/mesh/clusters.h"

#define SECOND_US 1000000u

struct bench {
	struct foil_worker *w;
	struct mesh_shared *sh;
	struct t_config *t;
	struct mesh_endpoints *e;
	struct mesh_outlier o;
	struct mesh_cluster *c;
};

/* Istio's defaults (DR-36), but all may be ejected. */
static void bench_init(struct bench *b, uint32_t n_hosts)
{
	*b = (struct bench){.w = t_worker(.seed = 3), .sh = t_shared(1), .t = t_config_new(1), .e = t_endpoints(n_hosts, NULL)};
	b->o = (struct mesh_outlier){.consecutive_5xx = 5, .interval_us = 10 * SECOND_US, .base_ejection_us = 30 * SECOND_US,
				     .max_ejection_us = 300ull * SECOND_US, .max_ejection_percent = 100};
	b->c = t_config_add(b->t, 0, "outbound|8080||web.test", MESH_LB_ROUND_ROBIN, b->e);
	b->c->outlier = &b->o;
	b->c->protocol = MESH_UPSTREAM_HTTP1;
}

static void bench_start(struct bench *b)
{
	t_config_publish(b->sh, b->t);
	mesh_outlier_turn(b->w, &b->t->c); /* arms the sweep: the next is due an interval from now */
}

static void bench_fini(struct bench *b)
{
	t_config_free(b->sh, b->t);
	mesh_shared_free(b->sh);
	free(b->e);
	t_worker_free(b->w);
}

static struct mesh_host *host(const struct bench *b, uint32_t i)
{
	return b->e->endpoints[i].host;
}

static void outcome(struct bench *b, uint32_t i, enum mesh_outcome what, uint16_t status, uint32_t times)
{
	for (uint32_t n = 0; n < times; n++)
		mesh_outlier_outcome(b->w, b->c, host(b, i), what, status);
}

static void status(struct bench *b, uint32_t i, uint16_t code, uint32_t times)
{
	outcome(b, i, MESH_OUTCOME_STATUS, code, times);
}

static bool is_ejected(const struct bench *b, uint32_t i)
{
	return mesh_host_is_ejected(host(b, i));
}

/* Seconds pass with a turn every 100 ms, as a worker's loop would. */
static void pass(struct bench *b, double seconds)
{
	for (uint64_t left = (uint64_t)(seconds * SECOND_US); left > 0;) {
		uint64_t step = FOIL_MIN(left, 100000u);
		t_clock(b->w, step);
		mesh_outlier_turn(b->w, &b->t->c);
		left -= step;
	}
}

/* Two hosts, one always 500: ejected after 3, back after 2 s; then both bad, both ejected, none to pick. */
static void test_outlier_as_envoy_was_recorded(void **state)
{
	struct bench b;
	uint32_t counts[2] = {0};

	bench_init(&b, 2);
	b.o.consecutive_5xx = 3;
	b.o.interval_us = SECOND_US;
	b.o.base_ejection_us = 2 * SECOND_US;
	bench_start(&b);
	for (int i = 0; i < 20; i++) { /* step 1 */
		uint32_t h = (uint32_t)(t_pick(b.w, b.t, 0) - b.e->endpoints);
		counts[h]++;
		status(&b, h, h ? 500 : 200, 1);
	}
	assert_int_equal(counts[1], 3);
	assert_int_equal(counts[0], 17);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_EJECTIONS), 1);
	for (int i = 0; i < 10; i++) /* step 2 */
		assert_ptr_equal(t_pick(b.w, b.t, 0), &b.e->endpoints[0]);
	pass(&b, 3.5); /* step 3: 2 s, and up to an interval more */
	counts[0] = counts[1] = 0;
	for (int i = 0; i < 10; i++)
		counts[t_pick(b.w, b.t, 0) - b.e->endpoints]++;
	assert_int_equal(counts[1], 5);
	counts[0] = counts[1] = 0;
	for (int i = 0; i < 20; i++) { /* step 4 */
		const struct mesh_endpoint *p = t_pick(b.w, b.t, 0);
		if (!p)
			continue;
		counts[p - b.e->endpoints]++;
		status(&b, (uint32_t)(p - b.e->endpoints), 500, 1);
	}
	assert_int_equal(counts[0], 3);
	assert_int_equal(counts[1], 3);
	assert_null(t_pick(b.w, b.t, 0)); /* step 8: 503 UH */
	bench_fini(&b);
	(void)state;
}

static void test_outlier_five_errors_in_a_row_eject_at_once(void **state)
{
	struct bench b;

	bench_init(&b, 2);
	bench_start(&b);
	status(&b, 0, 503, 4);
	assert_false(is_ejected(&b, 0));
	status(&b, 0, 200, 1);
	status(&b, 0, 500, 4);
	assert_false(is_ejected(&b, 0));
	status(&b, 0, 599, 1);
	assert_true(is_ejected(&b, 0));
	assert_false(is_ejected(&b, 1));
	assert_int_equal(host(&b, 0)->cluster->n_ejected, 1);
	bench_fini(&b);
	(void)state;
}

static void test_outlier_statuses_that_are_no_errors_reset(void **state)
{
	static const uint16_t fine[] = {100, 200, 302, 404, 429, 499};

	for (size_t i = 0; i < FOIL_COUNT_OF(fine); i++) {
		struct bench b;
		bench_init(&b, 2);
		bench_start(&b);
		status(&b, 0, 500, 4);
		status(&b, 0, fine[i], 1);
		status(&b, 0, 500, 4);
		assert_false(is_ejected(&b, 0));
		bench_fini(&b);
	}
	(void)state;
}

static void test_outlier_zero_switches_a_kind_off(void **state)
{
	struct bench b;

	bench_init(&b, 2);
	b.o.consecutive_5xx = 0;
	bench_start(&b);
	status(&b, 0, 503, 1000);
	assert_false(is_ejected(&b, 0));
	b.c->outlier = NULL;
	status(&b, 0, 503, 1000);
	assert_int_equal(host(&b, 0)->consecutive_5xx, 1000);
	bench_fini(&b);
	(void)state;
}

static void test_outlier_gateway_errors_are_502_503_504(void **state)
{
	struct bench b;

	bench_init(&b, 2);
	b.o.consecutive_gateway_errors = 3;
	b.o.consecutive_5xx = 100;
	bench_start(&b);
	status(&b, 0, 502, 1);
	status(&b, 0, 503, 1);
	status(&b, 0, 500, 1); /* another error ends the row */
	status(&b, 0, 504, 2);
	assert_false(is_ejected(&b, 0));
	status(&b, 0, 502, 1);
	assert_true(is_ejected(&b, 0));
	bench_fini(&b);
	(void)state;
}

static void test_outlier_failures_of_the_connection_count_as_errors(void **state)
{
	static const enum mesh_outcome failures[] = {MESH_OUTCOME_CONNECT_FAILED, MESH_OUTCOME_RESET, MESH_OUTCOME_TIMEOUT};

	for (size_t i = 0; i < FOIL_COUNT_OF(failures); i++) {
		struct bench b;
		bench_init(&b, 2);
		b.o.consecutive_gateway_errors = 2;
		bench_start(&b);
		outcome(&b, 0, failures[i], 0, 1);
		outcome(&b, 0, MESH_OUTCOME_CONNECT_OK, 0, 1); /* says nothing about answers */
		assert_false(is_ejected(&b, 0));
		outcome(&b, 0, failures[i], 0, 1); /* as 503 and 504 */
		assert_true(is_ejected(&b, 0));
		bench_fini(&b);
	}
	(void)state;
}

static void test_outlier_split_counts_local_failures_apart(void **state)
{
	struct bench b;

	bench_init(&b, 3);
	b.o.split_external_local_origin = true;
	b.o.consecutive_local_origin_failures = 3;
	b.o.consecutive_5xx = 4;
	bench_start(&b);
	outcome(&b, 0, MESH_OUTCOME_CONNECT_FAILED, 0, 2);
	status(&b, 0, 500, 3);
	outcome(&b, 0, MESH_OUTCOME_CONNECT_OK, 0, 1);
	outcome(&b, 0, MESH_OUTCOME_RESET, 0, 2);
	assert_false(is_ejected(&b, 0));
	outcome(&b, 0, MESH_OUTCOME_TIMEOUT, 0, 1);
	assert_true(is_ejected(&b, 0));
	status(&b, 1, 500, 4);
	assert_true(is_ejected(&b, 1));
	status(&b, 2, 500, 3);
	status(&b, 2, 200, 1); /* resets answers, not connections */
	outcome(&b, 2, MESH_OUTCOME_RESET, 0, 2);
	status(&b, 2, 200, 1);
	outcome(&b, 2, MESH_OUTCOME_RESET, 0, 1);
	assert_true(is_ejected(&b, 2));
	bench_fini(&b);
	(void)state;
}

static void test_outlier_of_a_tcp_cluster_counts_connects(void **state)
{
	struct bench b;

	bench_init(&b, 2);
	b.c->protocol = MESH_UPSTREAM_TCP;
	bench_start(&b);
	outcome(&b, 0, MESH_OUTCOME_CONNECT_FAILED, 0, 4);
	outcome(&b, 0, MESH_OUTCOME_CONNECT_OK, 0, 1); /* DR-44: success resets */
	outcome(&b, 0, MESH_OUTCOME_CONNECT_FAILED, 0, 4);
	assert_false(is_ejected(&b, 0));
	outcome(&b, 0, MESH_OUTCOME_CONNECT_FAILED, 0, 1);
	assert_true(is_ejected(&b, 0));
	bench_fini(&b);
	(void)state;
}

static void test_outlier_error_codes_take_the_place_of_5xx(void **state)
{
	static const uint16_t codes[] = {429, 500};
	struct bench b;

	bench_init(&b, 3);
	b.o.error_codes = codes;
	b.o.n_error_codes = 2;
	bench_start(&b);
	status(&b, 0, 503, 50);
	assert_false(is_ejected(&b, 0));
	status(&b, 1, 429, 5);
	assert_true(is_ejected(&b, 1));
	outcome(&b, 2, MESH_OUTCOME_CONNECT_FAILED, 0, 5); /* no code at all is still a failure */
	assert_true(is_ejected(&b, 2));
	bench_fini(&b);
	(void)state;
}

/* DR-41: 100 x (ejected + 1) / hosts <= limit. */
static void test_outlier_max_ejection_percent(void **state)
{
	static const struct {
		uint32_t n_hosts, percent, n_ejected;
	} cases[] = {{9, 10, 0}, {10, 10, 1}, {19, 10, 1}, {20, 10, 2}, {3, 50, 1}, {2, 50, 1}, {1, 100, 1}, {1, 99, 0}, {3, 0, 0}, {4, 1000, 4}, {3, 67,
		2}, {3, 66, 1}};

	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct bench b;
		uint32_t n = 0;
		bench_init(&b, cases[i].n_hosts);
		b.o.max_ejection_percent = cases[i].percent;
		bench_start(&b);
		for (uint32_t h = 0; h < cases[i].n_hosts; h++) {
			status(&b, h, 500, 5);
			n += is_ejected(&b, h);
		}
		if (n != cases[i].n_ejected)
			fail_msg("%u of %u ejected at %u %%", n, cases[i].n_hosts, cases[i].percent);
		assert_int_equal(t_counter(b.w, MESH, OUTLIER_EJECTIONS_OVERFLOW), cases[i].n_hosts - n);
		bench_fini(&b);
	}
	(void)state;
}

static void test_outlier_an_ejection_refused_starts_the_count_again(void **state)
{
	struct bench b;

	bench_init(&b, 2);
	b.o.max_ejection_percent = 10;
	bench_start(&b);
	status(&b, 0, 500, 14);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_EJECTIONS_OVERFLOW), 2);
	status(&b, 0, 500, 1);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_EJECTIONS_OVERFLOW), 3);
	bench_fini(&b);
	(void)state;
}

/* DR-40: sweeps at 10 s, 20 s, …; ejected at 5 s for 30 s: due at 35 s, back at 40 s. */
static void test_outlier_returns_at_a_sweep_only(void **state)
{
	struct bench b;

	bench_init(&b, 2);
	bench_start(&b);
	pass(&b, 5);
	status(&b, 0, 500, 5);
	pass(&b, 34.8);
	assert_true(is_ejected(&b, 0));
	pass(&b, 0.2);
	assert_false(is_ejected(&b, 0));
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_RETURNS), 1);
	assert_int_equal(host(&b, 0)->cluster->n_ejected, 0);
	status(&b, 0, 500, 4); /* counts began again */
	assert_false(is_ejected(&b, 0));
	bench_fini(&b);
	(void)state;
}

static void test_outlier_successes_while_ejected_do_not_bring_back(void **state)
{
	struct bench b;

	bench_init(&b, 2);
	bench_start(&b);
	status(&b, 0, 500, 5);
	status(&b, 0, 200, 100);
	pass(&b, 20);
	assert_true(is_ejected(&b, 0));
	status(&b, 0, 500, 100); /* and errors do not lengthen it */
	pass(&b, 10.1);
	assert_false(is_ejected(&b, 0));
	bench_fini(&b);
	(void)state;
}

/* Each sweep that finds the host in service takes one off the multiplier, the one that brings it back does not (tests/recorded/ejected-again.yaml). */
static void test_outlier_back_off_grows_and_heals(void **state)
{
	struct bench b;

	bench_init(&b, 2);
	b.o.interval_us = SECOND_US;
	b.o.base_ejection_us = 3 * SECOND_US;
	bench_start(&b);
	host(&b, 0)->ejections = 2; /* as after two ejections */
	host(&b, 0)->cluster->n_backed_off = 1;
	status(&b, 0, 500, 5);
	assert_int_equal(host(&b, 0)->ejections, 3);
	pass(&b, 8.9); /* 9 s */
	assert_true(is_ejected(&b, 0));
	pass(&b, 0.2);
	assert_false(is_ejected(&b, 0));
	assert_int_equal(host(&b, 0)->ejections, 3);
	pass(&b, 1);
	assert_int_equal(host(&b, 0)->ejections, 2);
	pass(&b, 2);
	assert_int_equal(host(&b, 0)->ejections, 0);
	assert_int_equal(host(&b, 0)->cluster->n_backed_off, 0);
	bench_fini(&b);
	(void)state;
}

static void test_outlier_ejection_time_is_capped(void **state)
{
	struct bench b;

	bench_init(&b, 2);
	b.o.interval_us = SECOND_US;
	b.o.base_ejection_us = 4 * SECOND_US;
	b.o.max_ejection_us = 10 * SECOND_US;
	bench_start(&b);
	host(&b, 0)->ejections = 4; /* 16 s would be due; the multiplier has grown past the cap and stays */
	host(&b, 0)->cluster->n_backed_off = 1;
	status(&b, 0, 500, 5);
	assert_int_equal(host(&b, 0)->ejections, 4);
	pass(&b, 9.9);
	assert_true(is_ejected(&b, 0));
	pass(&b, 0.2);
	assert_false(is_ejected(&b, 0));
	bench_fini(&b);
	(void)state;
}

static void test_outlier_sweeps_of_many_clusters_all_come_round(void **state)
{
	struct bench b;

	bench_init(&b, 1);
	for (uint32_t slot = 1; slot < T_SLOTS; slot++) {
		static const char *const names[] = {"", "b", "c", "d", "e", "f", "g", "h"};
		t_config_add(b.t, slot, names[slot], MESH_LB_RANDOM, t_endpoints(1, NULL));
		if (slot != 3)
			b.t->clusters[slot].outlier = &b.o;
	}
	b.o.base_ejection_us = SECOND_US;
	bench_start(&b);
	for (int i = 0; i < 3; i++)
		mesh_outlier_turn(b.w, &b.t->c);
	for (uint32_t slot = 0; slot < T_SLOTS; slot++)
		for (int n = 0; n < 5; n++)
			mesh_outlier_outcome(b.w, b.t->by_slot[slot], b.t->endpoints[slot]->endpoints[0].host, MESH_OUTCOME_STATUS, 500);
	for (uint32_t slot = 0; slot < T_SLOTS; slot++)
		assert_int_equal(mesh_host_is_ejected(b.t->endpoints[slot]->endpoints[0].host), slot != 3);
	pass(&b, 10.5);
	for (uint32_t slot = 0; slot < T_SLOTS; slot++)
		assert_false(mesh_host_is_ejected(b.t->endpoints[slot]->endpoints[0].host));
	const struct mesh_endpoints *others[T_SLOTS];
	memcpy(others, b.t->endpoints, sizeof(others));
	bench_fini(&b);
	for (uint32_t slot = 1; slot < T_SLOTS; slot++)
		free((void *)(uintptr_t)others[slot]);
	(void)state;
}

/* DR-45: five errors are five over all workers; one sweep an interval, whoever makes it. */
static void test_outlier_counts_and_sweeps_over_all_workers(void **state)
{
	struct foil_worker *a = t_worker(.id = 0, .n_workers = 2), *b = t_worker(.id = 1, .n_workers = 2);
	struct mesh_shared *sh = t_shared(2);
	struct t_config *t = t_config_new(1);
	struct mesh_endpoints *e = t_endpoints(2, NULL);
	static const struct mesh_outlier o = {.consecutive_5xx = 5, .interval_us = SECOND_US, .base_ejection_us = SECOND_US,
					      .max_ejection_us = 300ull * SECOND_US, .max_ejection_percent = 100};
	struct mesh_cluster *c = t_config_add(t, 0, "a", MESH_LB_ROUND_ROBIN, e);

	c->outlier = &o;
	t_config_publish(sh, t);
	mesh_outlier_turn(a, &t->c);
	mesh_outlier_turn(b, &t->c);
	for (int i = 0; i < 5; i++)
		mesh_outlier_outcome(i % 2 ? a : b, c, e->endpoints[0].host, MESH_OUTCOME_STATUS, 500);
	assert_true(mesh_host_is_ejected(e->endpoints[0].host));
	assert_ptr_equal(t_pick(a, t, 0), &e->endpoints[1]);
	assert_ptr_equal(t_pick(b, t, 0), &e->endpoints[1]);
	t_clock(b, SECOND_US);
	mesh_outlier_turn(b, &t->c);
	t_clock(a, SECOND_US);
	mesh_outlier_turn(a, &t->c); /* that sweep is done */
	assert_false(mesh_host_is_ejected(e->endpoints[0].host));
	assert_int_equal(t_counter(a, MESH, OUTLIER_RETURNS) + t_counter(b, MESH, OUTLIER_RETURNS), 1);
	t_config_free(sh, t);
	mesh_shared_free(sh);
	free(e);
	t_worker_free(a);
	t_worker_free(b);
	(void)state;
}

/* ---- probation (HC-2): Linkerd's times, 1 s doubling to 60 s, half as much again at most ---- */
static void bench_of_probes(struct bench *b, uint32_t n_hosts)
{
	bench_init(b, n_hosts);
	b->o.consecutive_5xx = 3;
	b->o.base_ejection_us = SECOND_US;
	b->o.max_ejection_us = 60ull * SECOND_US;
	b->o.probes = true;
	bench_start(b);
}

/* Until a pick goes to host 0, in seconds, asking every 10 ms; what else is picked answers well. */
static double time_until_probed(struct bench *b, double limit_s)
{
	uint64_t began_us = b->w->now_us;

	while (b->w->now_us - began_us < (uint64_t)(limit_s * SECOND_US)) {
		const struct mesh_endpoint *e = t_pick(b->w, b->t, 0);
		if (e == &b->e->endpoints[0])
			break;
		if (e)
			mesh_outlier_outcome(b->w, b->c, e->host, MESH_OUTCOME_STATUS, 200);
		t_clock(b->w, 10000);
		mesh_outlier_turn(b->w, &b->t->c);
	}
	return (double)(b->w->now_us - began_us) / SECOND_US;
}

static void test_probation_lets_one_request_through_and_its_success_brings_back(void **state)
{
	struct bench b;

	bench_of_probes(&b, 2);
	status(&b, 0, 500, 3);
	assert_true(is_ejected(&b, 0));
	double s = time_until_probed(&b, 5);
	assert_true(s >= 1.0 && s <= 1.6);
	for (int i = 0; i < 50; i++) /* no second one, and it is still out */
		assert_ptr_equal(t_pick(b.w, b.t, 0), &b.e->endpoints[1]);
	assert_true(is_ejected(&b, 0));
	outcome(&b, 0, MESH_OUTCOME_CONNECT_OK, 0, 1); /* says nothing of the answer */
	assert_true(is_ejected(&b, 0));
	status(&b, 0, 204, 1);
	assert_false(is_ejected(&b, 0));
	assert_int_equal(host(&b, 0)->cluster->n_ejected, 0);
	assert_int_equal(host(&b, 0)->cluster->n_backed_off, 0);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_PROBES), 1);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_PROBES_FAILED), 0);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_RETURNS), 1);
	status(&b, 0, 500, 2); /* its errors are counted from the beginning, and its time is the shortest again */
	assert_false(is_ejected(&b, 0));
	status(&b, 0, 500, 1);
	s = time_until_probed(&b, 5);
	assert_true(s >= 1.0 && s <= 1.6);
	bench_fini(&b);
	(void)state;
}

static void test_probation_that_fails_doubles_the_time_up_to_a_limit(void **state)
{
	static const enum mesh_outcome bad[] = {MESH_OUTCOME_STATUS, MESH_OUTCOME_CONNECT_FAILED, MESH_OUTCOME_RESET, MESH_OUTCOME_TIMEOUT};
	struct bench b;
	double longest = 0;

	bench_of_probes(&b, 2);
	status(&b, 0, 500, 3);
	for (uint32_t i = 0; i < 12; i++) {
		double least = i < 6 ? (double)(1u << i) : 60, s = time_until_probed(&b, 100);
		assert_true(s >= FOIL_MIN(least, 60.0) && s <= FOIL_MIN(least * 1.5, 60.0) + 0.1);
		longest = FOIL_MAX(longest, s);
		outcome(&b, 0, bad[i % FOIL_COUNT_OF(bad)], 503, 1);
		assert_true(is_ejected(&b, 0));
	}
	assert_true(longest >= 59.9);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_EJECTIONS), 1);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_PROBES), 12);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_PROBES_FAILED), 12);
	bench_fini(&b);
	(void)state;
}

static void test_probation_of_the_only_host_and_of_a_request_that_tells_nothing(void **state)
{
	struct bench b;

	bench_of_probes(&b, 1);
	status(&b, 0, 500, 3);
	assert_null(t_pick(b.w, b.t, 0));
	(void)time_until_probed(&b, 5); /* its client goes away: no outcome */
	assert_null(t_pick(b.w, b.t, 0));
	double s = time_until_probed(&b, 5);
	assert_true(s >= 0.9 && s <= 1.6);
	status(&b, 0, 200, 1);
	assert_ptr_equal(t_pick(b.w, b.t, 0), &b.e->endpoints[0]);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_PROBES), 2);
	bench_fini(&b);
	(void)state;
}

static void test_probation_passes_over_who_cannot_be_used_or_was_tried(void **state)
{
	struct bench b;

	bench_of_probes(&b, 2);
	status(&b, 0, 500, 3);
	t_endpoint(b.e, 0)->draining = true;
	assert_true(time_until_probed(&b, 5) >= 4.9);
	assert_int_equal(t_counter(b.w, MESH, OUTLIER_PROBES), 0);
	t_endpoint(b.e, 0)->draining = false;
	pass(&b, 2);
	struct mesh_host *tried = host(&b, 0);
	assert_ptr_equal(mesh_lb_pick(b.w, b.c, b.e, b.t->sets[0], &tried, 1, 5), &b.e->endpoints[1]); /* a retry */
	assert_ptr_equal(t_pick(b.w, b.t, 0), &b.e->endpoints[0]);
	mesh_outlier_forget(host(&b, 0)); /* it left the configuration */
	assert_int_equal(host(&b, 0)->probation, MESH_PROBATION_NONE);
	status(&b, 0, 200, 1);
	assert_int_equal(host(&b, 0)->cluster->n_ejected, 0);
	bench_fini(&b);
	(void)state;
}

/* Kinds that are off eject nobody, and so keep nobody out. */
static void test_probation_is_failed_by_what_would_have_ejected(void **state)
{
	struct bench b;

	bench_of_probes(&b, 2);
	b.o.consecutive_5xx = 0;
	b.o.consecutive_gateway_errors = 3;
	status(&b, 0, 503, 3);
	(void)time_until_probed(&b, 5);
	status(&b, 0, 502, 1);
	assert_true(is_ejected(&b, 0));
	(void)time_until_probed(&b, 5);
	status(&b, 0, 500, 1);
	assert_false(is_ejected(&b, 0));
	bench_fini(&b);
	(void)state;
}

static void test_probation_is_one_request_over_all_workers(void **state)
{
	struct foil_worker *a = t_worker(.id = 0, .n_workers = 2), *b = t_worker(.id = 1, .n_workers = 2);
	struct mesh_shared *sh = t_shared(2);
	struct t_config *t = t_config_new(1);
	struct mesh_endpoints *e = t_endpoints(2, NULL);
	static const struct mesh_outlier o = {.consecutive_5xx = 3, .interval_us = 10 * SECOND_US, .base_ejection_us = SECOND_US,
					      .max_ejection_us = 60ull * SECOND_US, .max_ejection_percent = 100, .probes = true};
	struct mesh_cluster *c = t_config_add(t, 0, "a", MESH_LB_MAGLEV, e);
	uint32_t n_probes = 0;

	c->outlier = &o;
	t_config_publish(sh, t);
	for (int i = 0; i < 3; i++)
		mesh_outlier_outcome(i % 2 ? a : b, c, e->endpoints[0].host, MESH_OUTCOME_STATUS, 500);
	for (int i = 0; i < 160; i++) {
		struct foil_worker *w = i % 2 ? a : b;
		t_clock(w, 20000);
		mesh_outlier_turn(w, &t->c);
		n_probes += t_pick(w, t, 0) == &e->endpoints[0];
	}
	assert_int_equal(n_probes, 1);
	mesh_outlier_outcome(a, c, e->endpoints[0].host, MESH_OUTCOME_STATUS, 200); /* whoever sent it */
	assert_false(mesh_host_is_ejected(e->endpoints[0].host));
	assert_int_equal(e->endpoints[0].host->cluster->n_probes_due, 0);
	t_config_free(sh, t);
	mesh_shared_free(sh);
	free(e);
	t_worker_free(a);
	t_worker_free(b);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probation_lets_one_request_through_and_its_success_brings_back),
		cmocka_unit_test(test_probation_that_fails_doubles_the_time_up_to_a_limit),
		cmocka_unit_test(test_probation_of_the_only_host_and_of_a_request_that_tells_nothing),
		cmocka_unit_test(test_probation_passes_over_who_cannot_be_used_or_was_tried),
		cmocka_unit_test(test_probation_is_failed_by_what_would_have_ejected),
		cmocka_unit_test(test_probation_is_one_request_over_all_workers),
		cmocka_unit_test(test_outlier_as_envoy_was_recorded),
		cmocka_unit_test(test_outlier_five_errors_in_a_row_eject_at_once),
		cmocka_unit_test(test_outlier_statuses_that_are_no_errors_reset),
		cmocka_unit_test(test_outlier_zero_switches_a_kind_off),
		cmocka_unit_test(test_outlier_gateway_errors_are_502_503_504),
		cmocka_unit_test(test_outlier_failures_of_the_connection_count_as_errors),
		cmocka_unit_test(test_outlier_split_counts_local_failures_apart),
		cmocka_unit_test(test_outlier_of_a_tcp_cluster_counts_connects),
		cmocka_unit_test(test_outlier_error_codes_take_the_place_of_5xx),
		cmocka_unit_test(test_outlier_max_ejection_percent),
		cmocka_unit_test(test_outlier_an_ejection_refused_starts_the_count_again),
		cmocka_unit_test(test_outlier_returns_at_a_sweep_only),
		cmocka_unit_test(test_outlier_successes_while_ejected_do_not_bring_back),
		cmocka_unit_test(test_outlier_back_off_grows_and_heals),
		cmocka_unit_test(test_outlier_ejection_time_is_capped),
		cmocka_unit_test(test_outlier_sweeps_of_many_clusters_all_come_round),
		cmocka_unit_test(test_outlier_counts_and_sweeps_over_all_workers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
