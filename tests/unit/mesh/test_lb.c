/* dataplane/mesh/lb*.c: one suite for every policy (weights, none usable, churn, determinism), and what each policy promises by itself. */
#include "tests/unit/mesh/clusters.h"

static const enum mesh_lb policies[] = {
#define X(ID, policy) MESH_LB_##ID,
#include "dataplane/mesh/lb.def"
#undef X
};

struct bench {
	struct foil_worker *w;
	struct mesh_shared *sh;
	struct t_config *t;
	struct mesh_endpoints *e;
};

static void bench_init(struct bench *b, enum mesh_lb lb, uint32_t n, const uint32_t *weights, uint64_t seed)
{
	b->w = t_worker(.seed = seed);
	b->sh = t_shared(1);
	b->t = t_config_new(1);
	b->e = t_endpoints(n, weights);
	t_config_add(b->t, 0, "outbound|80||a", lb, b->e);
}

static void bench_fini(struct bench *b)
{
	t_config_free(b->sh, b->t);
	mesh_shared_free(b->sh);
	free(b->e);
	t_worker_free(b->w);
}

/* n picks into counts by endpoint. */
static void count_picks(struct bench *b, uint32_t n, uint32_t *counts)
{
	memset(counts, 0, b->e->n_endpoints * sizeof(*counts));
	for (uint32_t i = 0; i < n; i++) {
		const struct mesh_endpoint *p = t_pick(b->w, b->t, 0);
		assert_non_null(p);
		counts[p - b->e->endpoints]++;
	}
}

/* 5 sigma of a binomial share, rounded up. */
static void assert_share(uint32_t count, uint32_t n, uint32_t weight, uint32_t total)
{
	double p = (double)weight / total, mean = n * p, sigma2 = n * p * (1 - p), off = count - mean;

	if (off * off > 25 * sigma2 + 1)
		fail_msg("%u of %u picks for weight %u of %u", count, n, weight, total);
}

/* ---- every policy ---- */
static void test_lb_of_nothing_is_nothing(void **state)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		struct bench b;
		bench_init(&b, policies[i], 0, NULL, 1);
		t_config_add(b.t, 1, "no endpoint set at all", policies[i], NULL);
		t_config_publish(b.sh, b.t);
		assert_null(t_pick(b.w, b.t, 0));
		assert_null(t_pick(b.w, b.t, 1));
		assert_non_null(mesh_host_set_cluster(b.t->sets[1]));
		bench_fini(&b);
	}
	(void)state;
}

static void test_lb_one_host_gets_all(void **state)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		struct bench b;
		uint32_t counts[1];
		bench_init(&b, policies[i], 1, NULL, 1);
		t_config_publish(b.sh, b.t);
		count_picks(&b, 100, counts);
		assert_int_equal(counts[0], 100);
		bench_fini(&b);
	}
	(void)state;
}

static void test_lb_weights_hold_for_every_policy(void **state)
{
	static const uint32_t weights[] = {1, 2, 3, 10};

	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		struct bench b;
		uint32_t counts[4];
		bench_init(&b, policies[i], 4, weights, 5);
		t_config_publish(b.sh, b.t);
		count_picks(&b, 16000, counts);
		for (uint32_t h = 0; h < 4; h++)
			assert_share(counts[h], 16000, weights[h], 16);
		bench_fini(&b);
	}
	(void)state;
}

static void test_lb_equal_weights_are_fair_for_every_policy(void **state)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		struct bench b;
		uint32_t counts[5];
		bench_init(&b, policies[i], 5, NULL, 5);
		t_config_publish(b.sh, b.t);
		count_picks(&b, 20000, counts);
		for (uint32_t h = 0; h < 5; h++)
			assert_share(counts[h], 20000, 1, 5);
		bench_fini(&b);
	}
	(void)state;
}

static void test_lb_passes_over_unhealthy_and_draining_hosts(void **state)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		struct bench b;
		uint32_t counts[4];
		bench_init(&b, policies[i], 4, NULL, 2);
		t_endpoint(b.e, 0)->unhealthy = true;
		t_endpoint(b.e, 2)->draining = true;
		t_config_publish(b.sh, b.t);
		count_picks(&b, 1000, counts);
		assert_int_equal(counts[0] + counts[2], 0);
		assert_true(counts[1] > 300 && counts[3] > 300);
		bench_fini(&b);
	}
	(void)state;
}

static void test_lb_all_unhealthy_is_nothing_unless_panic_is_allowed(void **state)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		for (uint32_t threshold = 0; threshold <= 50; threshold += 50) {
			struct bench b;
			bench_init(&b, policies[i], 3, NULL, 2);
			for (uint32_t h = 0; h < 3; h++)
				t_endpoint(b.e, h)->unhealthy = true;
			b.t->clusters[0].panic_threshold_percent = threshold;
			t_config_publish(b.sh, b.t);
			assert_true((t_pick(b.w, b.t, 0) != NULL) == (threshold > 0));
			assert_int_equal(t_counter(b.w, MESH, LB_PANIC_PICKS), threshold > 0);
			bench_fini(&b);
		}
	}
	(void)state;
}

/* Below the threshold, not at it: 2 of 4 healthy is no panic at 50 %, 1 of 4 is. */
static void test_lb_panic_begins_below_the_threshold(void **state)
{
	for (uint32_t n_sick = 2; n_sick <= 3; n_sick++) {
		struct bench b;
		uint32_t counts[4];
		bench_init(&b, MESH_LB_ROUND_ROBIN, 4, NULL, 2);
		for (uint32_t h = 0; h < n_sick; h++)
			t_endpoint(b.e, h)->unhealthy = true;
		b.t->clusters[0].panic_threshold_percent = 50;
		t_config_publish(b.sh, b.t);
		count_picks(&b, 400, counts);
		assert_int_equal(counts[0], n_sick == 2 ? 0 : 100);
		assert_int_equal(counts[3], n_sick == 2 ? 200 : 100);
		bench_fini(&b);
	}
	(void)state;
}

static void test_lb_sees_ejections_and_returns_at_the_next_pick(void **state)
{
	static const uint32_t weights[] = {1, 3, 5};

	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		for (int weighted = 0; weighted < 2; weighted++) {
			static const struct mesh_outlier o = {.consecutive_5xx = 1, .interval_us = 1000000, .base_ejection_us = 1000000,
							      .max_ejection_us = 300000000, .max_ejection_percent = 100};
			struct bench b;
			uint32_t counts[3];
			bench_init(&b, policies[i], 3, weighted ? weights : NULL, 2);
			b.t->clusters[0].outlier = &o;
			t_config_publish(b.sh, b.t);
			mesh_outlier_turn(b.w, &b.t->c);
			count_picks(&b, 300, counts);
			assert_true(counts[1] > 0);
			mesh_outlier_outcome(b.w, &b.t->clusters[0], b.e->endpoints[1].host, MESH_OUTCOME_STATUS, 500);
			count_picks(&b, 300, counts);
			assert_int_equal(counts[1], 0);
			assert_true(counts[0] > 0 && counts[2] > 0);
			t_clock(b.w, 1000000);
			mesh_outlier_turn(b.w, &b.t->c);
			count_picks(&b, 300, counts);
			assert_true(counts[1] > 50);
			bench_fini(&b);
		}
	}
	(void)state;
}

static void test_lb_same_seed_same_picks(void **state)
{
	static const uint32_t weights[] = {4, 1, 7, 2, 2};

	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		struct bench one, other;
		bench_init(&one, policies[i], 5, weights, 9);
		t_config_publish(one.sh, one.t);
		bench_init(&other, policies[i], 5, weights, 9);
		t_config_publish(other.sh, other.t);
		for (int n = 0; n < 500; n++)
			assert_int_equal(t_pick(one.w, one.t, 0) - one.e->endpoints, t_pick(other.w, other.t, 0) - other.e->endpoints);
		bench_fini(&one);
		bench_fini(&other);
	}
	(void)state;
}

static void test_lb_avoids_hosts_of_earlier_tries_then_takes_any(void **state)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		struct bench b;
		uint32_t n_avoided = 0;
		bench_init(&b, policies[i], 2, NULL, 2);
		t_config_publish(b.sh, b.t);
		struct mesh_host *avoid[2] = {b.e->endpoints[0].host, b.e->endpoints[1].host};
		for (int n = 0; n < 1000; n++)
			n_avoided += mesh_lb_pick(b.w, b.t->by_slot[0], b.e, b.t->sets[0], avoid, 1, 5)->host == avoid[0];
		assert_true(n_avoided < 60); /* six picks of two hosts all fall on the one with 1/64 */
		assert_non_null(mesh_lb_pick(b.w, b.t->by_slot[0], b.e, b.t->sets[0], avoid, 2, 5));
		assert_non_null(mesh_lb_pick(b.w, b.t->by_slot[0], b.e, b.t->sets[0], avoid, 1, 0));
		bench_fini(&b);
	}
	(void)state;
}

static void test_lb_workers_do_not_disturb_each_other(void **state)
{
	struct foil_worker *a = t_worker(.id = 0, .n_workers = 2, .seed = 4), *b = t_worker(.id = 1, .n_workers = 2, .seed = 4);
	struct mesh_shared *sh = t_shared(2);
	struct t_config *t = t_config_new(1);
	struct mesh_endpoints *e = t_endpoints(7, NULL);

	t_config_add(t, 0, "a", MESH_LB_ROUND_ROBIN, e);
	t_config_publish(sh, t);
	const struct mesh_endpoint *first = t_pick(a, t, 0);
	for (int i = 0; i < 13; i++)
		(void)t_pick(b, t, 0);
	assert_int_equal(t_pick(a, t, 0) - e->endpoints, (first - e->endpoints + 1) % 7);
	t_config_free(sh, t);
	mesh_shared_free(sh);
	free(e);
	t_worker_free(a);
	t_worker_free(b);
	(void)state;
}

/* ---- round robin ---- */
static void test_round_robin_goes_round_in_order_from_a_random_start(void **state)
{
	uint32_t starts = 0;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct bench b;
		bench_init(&b, MESH_LB_ROUND_ROBIN, 4, NULL, seed);
		t_config_publish(b.sh, b.t);
		uint32_t last = (uint32_t)(t_pick(b.w, b.t, 0) - b.e->endpoints);
		starts |= 1u << last;
		for (int i = 0; i < 10; i++) {
			uint32_t now = (uint32_t)(t_pick(b.w, b.t, 0) - b.e->endpoints);
			assert_int_equal(now, (last + 1) % 4);
			last = now;
		}
		bench_fini(&b);
	}
	assert_int_equal(starts, 15);
	(void)state;
}

/* EDF with weights 1 and 3: three of every four picks are the heavy one's, never four in a row. */
static void test_round_robin_weighted_is_smooth(void **state)
{
	static const uint32_t weights[] = {1, 3};
	struct bench b;
	int in_a_row = 0;

	bench_init(&b, MESH_LB_ROUND_ROBIN, 2, weights, 3);
	t_config_publish(b.sh, b.t);
	for (int i = 0; i < 400; i++) {
		in_a_row = t_pick(b.w, b.t, 0) == &b.e->endpoints[1] ? in_a_row + 1 : 0;
		assert_true(in_a_row <= 3);
	}
	uint32_t counts[2];
	count_picks(&b, 4000, counts);
	assert_int_equal(counts[0], 1000); /* exact: a schedule, no chance */
	bench_fini(&b);
	(void)state;
}

static void test_round_robin_weighted_is_exact_with_weights_at_the_limits(void **state)
{
	static const uint32_t weights[] = {UINT32_MAX, UINT32_MAX - 1, 1};
	struct bench b;
	uint32_t counts[3];

	bench_init(&b, MESH_LB_ROUND_ROBIN, 3, weights, 3);
	t_config_publish(b.sh, b.t);
	count_picks(&b, 10000, counts);
	assert_in_range(counts[0], 4999, 5001);
	assert_in_range(counts[2], 0, 1);
	bench_fini(&b);
	(void)state;
}

static void test_round_robin_keeps_its_place_over_a_config_that_changes_something_else(void **state)
{
	struct bench b;
	struct mesh_endpoints *other = t_endpoints(1, NULL);

	bench_init(&b, MESH_LB_ROUND_ROBIN, 5, NULL, 3);
	t_config_publish(b.sh, b.t);
	uint32_t last = (uint32_t)(t_pick(b.w, b.t, 0) - b.e->endpoints);
	for (uint64_t g = 2; g < 12; g++) {
		struct t_config *next = t_config_new(g);
		t_config_add(next, 0, "outbound|80||a", MESH_LB_ROUND_ROBIN, b.e);
		t_config_add(next, 1, "another", MESH_LB_RANDOM, other);
		t_config_publish(b.sh, next);
		assert_ptr_equal(next->sets[0], b.t->sets[0]);
		t_config_free(b.sh, b.t);
		b.t = next;
		uint32_t now = (uint32_t)(t_pick(b.w, b.t, 0) - b.e->endpoints);
		assert_int_equal(now, (last + 1) % 5);
		last = now;
	}
	bench_fini(&b);
	free(other);
	(void)state;
}

/* ---- least request ---- */
static void test_least_request_prefers_the_less_busy_of_two(void **state)
{
	struct bench b;
	uint32_t counts[2];

	bench_init(&b, MESH_LB_LEAST_REQUEST, 2, NULL, 3);
	t_config_publish(b.sh, b.t);
	mesh_host_active_add(b.w, b.e->endpoints[0].host, 1);
	count_picks(&b, 4000, counts);
	assert_share(counts[0], 4000, 1, 4); /* only when both choices fall on it */
	mesh_host_active_add(b.w, b.e->endpoints[0].host, -1);
	count_picks(&b, 4000, counts);
	assert_share(counts[0], 4000, 1, 2);
	bench_fini(&b);
	(void)state;
}

static void test_least_latency_prefers_who_answers_sooner(void **state)
{
	struct bench b;
	uint32_t counts[3];

	bench_init(&b, MESH_LB_LEAST_LATENCY, 3, NULL, 3);
	t_config_publish(b.sh, b.t);
	struct mesh_host *h[3] = {b.e->endpoints[0].host, b.e->endpoints[1].host, b.e->endpoints[2].host};
	count_picks(&b, 3000, counts);
	assert_share(counts[0], 3000, 1, 3); /* nothing is known: chance */
	mesh_latency_sample(b.w, h[0], 100, false);
	mesh_latency_sample(b.w, h[1], 5000, false);
	mesh_latency_sample(b.w, h[2], 100, false);
	count_picks(&b, 3000, counts);
	assert_in_range(counts[1], 0, 80); /* drawn five times in a row: 1 in 81 of a third */
	mesh_host_active_add(b.w, h[0], 100); /* 101 x 100 is more than 5000 */
	count_picks(&b, 3000, counts);
	assert_in_range(counts[0], 0, 80);
	assert_in_range(counts[2], 1800, 2200);
	mesh_host_active_add(b.w, h[0], -100);
	/* A slow answer counts at once, quick ones make it good in time. */
	mesh_latency_sample(b.w, h[2], 20000, false);
	count_picks(&b, 3000, counts);
	assert_in_range(counts[2], 0, 80);
	for (int i = 0; i < 100; i++) {
		t_advance(b.w, 10000000);
		mesh_latency_sample(b.w, h[0], 100, false);
		mesh_latency_sample(b.w, h[1], 5000, false);
		mesh_latency_sample(b.w, h[2], 100, false);
	}
	count_picks(&b, 3000, counts);
	assert_in_range(counts[1], 0, 80);
	assert_in_range(counts[0], 1200, 1800);
	/* Who fails fast is slow. */
	mesh_latency_sample(b.w, h[0], 10, true);
	count_picks(&b, 3000, counts);
	assert_in_range(counts[0], 0, 80);
	bench_fini(&b);
	(void)state;
}

static void test_least_latency_draws_by_weight(void **state)
{
	static const uint32_t weights[] = {4, 1};
	struct bench b;
	uint32_t counts[2];

	bench_init(&b, MESH_LB_LEAST_LATENCY, 2, weights, 3);
	t_config_publish(b.sh, b.t);
	mesh_latency_sample(b.w, b.e->endpoints[0].host, 3000, false);
	mesh_latency_sample(b.w, b.e->endpoints[1].host, 1000, false);
	count_picks(&b, 1000, counts);
	assert_in_range(counts[1], 600, 740); /* a fifth, and of the rest 1 - 0.8^4 */
	bench_fini(&b);
	(void)state;
}

/* weight / (active + 1): 8 with 3 active counts as much as 2 with none. */
static void test_least_request_weighted_divides_by_active_requests(void **state)
{
	static const uint32_t weights[] = {8, 2};
	struct bench b;
	uint32_t counts[2];

	bench_init(&b, MESH_LB_LEAST_REQUEST, 2, weights, 3);
	t_config_publish(b.sh, b.t);
	mesh_host_active_add(b.w, b.e->endpoints[0].host, 3);
	(void)t_pick(b.w, b.t, 0);
	count_picks(&b, 1000, counts);
	assert_in_range(counts[0], 498, 502);
	bench_fini(&b);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lb_of_nothing_is_nothing),
		cmocka_unit_test(test_lb_one_host_gets_all),
		cmocka_unit_test(test_lb_weights_hold_for_every_policy),
		cmocka_unit_test(test_lb_equal_weights_are_fair_for_every_policy),
		cmocka_unit_test(test_lb_passes_over_unhealthy_and_draining_hosts),
		cmocka_unit_test(test_lb_all_unhealthy_is_nothing_unless_panic_is_allowed),
		cmocka_unit_test(test_lb_panic_begins_below_the_threshold),
		cmocka_unit_test(test_lb_sees_ejections_and_returns_at_the_next_pick),
		cmocka_unit_test(test_lb_same_seed_same_picks),
		cmocka_unit_test(test_lb_avoids_hosts_of_earlier_tries_then_takes_any),
		cmocka_unit_test(test_lb_workers_do_not_disturb_each_other),
		cmocka_unit_test(test_round_robin_goes_round_in_order_from_a_random_start),
		cmocka_unit_test(test_round_robin_weighted_is_smooth),
		cmocka_unit_test(test_round_robin_weighted_is_exact_with_weights_at_the_limits),
		cmocka_unit_test(test_round_robin_keeps_its_place_over_a_config_that_changes_something_else),
		cmocka_unit_test(test_least_request_prefers_the_less_busy_of_two),
		cmocka_unit_test(test_least_request_weighted_divides_by_active_requests),
		cmocka_unit_test(test_least_latency_prefers_who_answers_sooner),
		cmocka_unit_test(test_least_latency_draws_by_weight),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
