/* dataplane/mesh/lb_priority.c, and lb.c over several priorities, localities and time: Envoy's documented figures and arithmetic in the test. */
#include "tests/unit/mesh/clusters.h"

#include "dataplane/mesh/lb_priv.h"

static const struct mesh_outlier ejects_at_once = {.consecutive_5xx = 1, .interval_us = 1000000, .base_ejection_us = 1000000, .max_ejection_us = 300000000,
						   .max_ejection_percent = 100};

/* ---- loads: the tables of Envoy's "Priority levels" and "Panic threshold" pages */
static void test_loads_are_those_of_envoys_pages(void **state)
{
	static const struct {
		uint32_t healthy[3], n; /* percent of 100 hosts each */
		uint32_t loads[3];
	} rows[] = {
		{{100, 100}, 2, {100, 0}}, {{72, 72}, 2, {100, 0}}, {{71, 71}, 2, {99, 1}}, {{50, 50}, 2, {70, 30}}, {{25, 100}, 2, {35, 65}},
		{{25, 25}, 2, {50, 50}},   {{0, 100}, 2, {0, 100}}, {{100, 100, 100}, 3, {100, 0, 0}}, {{25, 0, 100}, 3, {35, 0, 65}},
		{{25, 25, 25}, 3, {35, 35, 30}}, {{20, 20, 10}, 3, {40, 40, 20}}, {{5, 0, 0}, 3, {100, 0, 0}}, {{0, 0, 0}, 3, {100, 0, 0}},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(rows); i++) {
		struct lb_health health[3] = {{0}};
		struct lb_level_now now[6];
		for (uint32_t l = 0; l < rows[i].n; l++)
			health[l] = (struct lb_health){.n = 100, .n_healthy = rows[i].healthy[l]};
		lb_loads(health, rows[i].n, 140, 0, now);
		for (uint32_t l = 0; l < rows[i].n; l++)
			if (now[l].load_percent != rows[i].loads[l] || now[l].is_panic)
				fail_msg("row %zu level %u: %u", i, l, now[l].load_percent);
	}
	(void)state;
}

static void test_panic_is_of_a_level_and_only_when_health_is_short_over_all(void **state)
{
	static const struct {
		uint32_t healthy[2], loads[2];
		bool is_panic[2];
	} rows[] = { /* threshold 50 %; Envoy's page has these */
		{{72, 72}, {100, 0}, {false, false}},
		{{71, 1}, {99, 1}, {false, false}}, /* 99 + 1 = 100: no panic, whatever P1 has */
		{{60, 20}, {84, 16}, {false, false}},
		{{25, 25}, {50, 50}, {true, true}},
		{{5, 65}, {8, 92}, {true, false}}, /* 7 of 98, 91 of 98, and the rest of the rounding for the first */
		{{0, 0}, {50, 50}, {true, true}},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(rows); i++) {
		struct lb_health health[2] = {{.n = 100, .n_healthy = rows[i].healthy[0]}, {.n = 100, .n_healthy = rows[i].healthy[1]}};
		struct lb_level_now now[4];
		lb_loads(health, 2, 140, 50, now);
		for (uint32_t l = 0; l < 2; l++) {
			if (now[l].load_percent != rows[i].loads[l])
				fail_msg("row %zu level %u: load %u", i, l, now[l].load_percent);
			if (now[l].is_panic != rows[i].is_panic[l])
				fail_msg("row %zu level %u: panic %d", i, l, now[l].is_panic);
		}
		assert_int_equal(now[0].load_percent + now[1].load_percent, 100);
	}
	(void)state;
}

/* The table of Envoy's page "Degraded endpoints", then its arithmetic over two priorities: healthy hosts of any go before degraded ones of the first. */
static void test_degraded_hosts_get_what_healthy_ones_leave(void **state)
{
	static const struct {
		uint32_t n, healthy[2], degraded[2]; /* percent of 100 hosts each */
		uint32_t loads[4];
	} rows[] = {
		{1, {100}, {0}, {100, 0}}, {1, {71}, {0}, {100, 0}}, {1, {71}, {29}, {99, 1}}, {1, {25}, {65}, {35, 65}}, {1, {5}, {0}, {100, 0}},
		{1, {0}, {50}, {0, 100}}, {2, {25, 25}, {75, 75}, {35, 35, 30, 0}}, {2, {50, 0}, {0, 100}, {70, 0, 0, 30}},
		{2, {10, 0}, {10, 10}, {34, 0, 33, 33}},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(rows); i++) {
		struct lb_health health[2] = {{0}};
		struct lb_level_now now[4];
		for (uint32_t l = 0; l < rows[i].n; l++)
			health[l] = (struct lb_health){.n = 100, .n_healthy = rows[i].healthy[l], .n_degraded = rows[i].degraded[l]};
		lb_loads(health, rows[i].n, 140, 0, now);
		for (uint32_t l = 0; l < 2 * rows[i].n; l++)
			if (now[l].load_percent != rows[i].loads[l])
				fail_msg("row %zu level %u: %u", i, l, now[l].load_percent);
	}
	const struct lb_health half = {.n = 100, .n_healthy = 20, .n_degraded = 30};
	struct lb_level_now now[2];
	lb_loads(&half, 1, 140, 50, now);
	assert_false(now[0].is_panic); /* degraded hosts are there, too */
	lb_loads(&half, 1, 140, 51, now);
	assert_true(now[0].is_panic && now[1].is_panic);
	(void)state;
}

/* Two well and two degraded hosts of four, by policy: 70 % to the well ones, the rest to the others; none well: all to the degraded. */
static void test_picks_go_to_degraded_hosts_when_healthy_ones_are_short(void **state)
{
	static const enum mesh_lb policies[] = {MESH_LB_ROUND_ROBIN, MESH_LB_LEAST_REQUEST, MESH_LB_RANDOM, MESH_LB_RING_HASH, MESH_LB_MAGLEV};

	for (size_t p = 0; p < FOIL_COUNT_OF(policies); p++)
		for (uint32_t n_degraded = 2; n_degraded <= 4; n_degraded += 2) {
			struct foil_worker *w = t_worker(.seed = 5);
			struct mesh_shared *sh = t_shared(1);
			struct t_config *t = t_config_new(1);
			struct mesh_endpoints *e = t_endpoints(4, NULL);
			uint32_t counts[4] = {0};
			e->has_checks = true;
			t_config_add(t, 0, "a", policies[p], e);
			t_config_publish(sh, t);
			for (uint32_t i = 0; i < n_degraded; i++)
				e->endpoints[i].host->health = MESH_HEALTH_DEGRADED;
			e->endpoints[0].host->cluster->health_epoch++;
			mesh_shared_turn(sh);
			for (int i = 0; i < 4000; i++)
				counts[t_pick(w, t, 0) - e->endpoints]++;
			uint32_t degraded = counts[0] + counts[1];
			if (n_degraded == 2)
				assert_in_range(degraded, 1000, 1400); /* 30 % */
			else
				assert_true(counts[0] && counts[1] && counts[2] && counts[3]);
			t_config_free(sh, t);
			mesh_shared_free(sh);
			free(e);
			t_worker_free(w);
		}
	(void)state;
}

static void test_loads_add_up_to_100_whatever_is_healthy(void **state)
{
	struct foil_worker *w = t_worker(.seed = 11);

	for (int i = 0; i < 20000; i++) {
		struct lb_health health[MESH_PRIORITIES_MAX];
		struct lb_level_now now[MESH_LEVELS_MAX];
		uint32_t n = 1 + foil_prng_below(&w->prng, i % 100 ? 6 : MESH_PRIORITIES_MAX), sum = 0;
		for (uint32_t l = 0; l < n; l++) {
			health[l].n = foil_prng_below(&w->prng, 5);
			health[l].n_healthy = foil_prng_below(&w->prng, health[l].n + 1);
			health[l].n_degraded = foil_prng_below(&w->prng, health[l].n - health[l].n_healthy + 1);
		}
		lb_loads(health, n, 140, foil_prng_below(&w->prng, 2) * 50, now);
		for (uint32_t l = 0; l < 2 * n; l++)
			sum += now[l].load_percent;
		assert_int_equal(sum, 100);
		assert_true(lb_level_of(now, 2 * n, foil_prng_u64(&w->prng)) < 2 * n);
	}
	t_worker_free(w);
	(void)state;
}

static void test_level_of_a_hash_is_envoys(void **state)
{
	const struct lb_level_now now[] = {{.load_percent = 35}, {.load_percent = 0}, {.load_percent = 65}};

	assert_int_equal(lb_level_of(now, 3, 0), 0);
	assert_int_equal(lb_level_of(now, 3, 34), 0);
	assert_int_equal(lb_level_of(now, 3, 35), 2);
	assert_int_equal(lb_level_of(now, 3, 99), 2);
	assert_int_equal(lb_level_of(now, 3, 100), 0);
	(void)state;
}

static void test_locality_weights_fall_with_availability(void **state)
{
	assert_int_equal(lb_locality_weight(80, &(struct lb_health){10, 10}, 140), 80);
	assert_int_equal(lb_locality_weight(80, &(struct lb_health){10, 8}, 140), 80); /* 112 % */
	assert_int_equal(lb_locality_weight(80, &(struct lb_health){10, 5}, 140), 56); /* 70 % */
	assert_int_equal(lb_locality_weight(80, &(struct lb_health){10, 0}, 140), 0);
	assert_int_equal(lb_locality_weight(0, &(struct lb_health){10, 10}, 140), 0);
	assert_int_equal(lb_locality_weight(1, &(struct lb_health){10, 1}, 140), 1);
	assert_int_equal(lb_locality_weight(UINT32_MAX, &(struct lb_health){65536, 65536}, 140), UINT32_MAX);
	(void)state;
}

/* ---- lb.c ---- */
struct bench {
	struct foil_worker *w;
	struct mesh_shared *sh;
	struct t_config *t;
	struct mesh_endpoints *e;
};

static void bench_new(struct bench *b, enum mesh_lb lb, uint32_t n)
{
	b->w = t_worker(.seed = 5);
	b->sh = t_shared(1);
	b->t = t_config_new(1);
	b->e = t_endpoints(n, NULL);
	t_config_add(b->t, 0, "outbound|80||a", lb, b->e)->outlier = &ejects_at_once;
}

static void bench_free(struct bench *b)
{
	t_config_free(b->sh, b->t);
	mesh_shared_free(b->sh);
	free(b->e);
	t_worker_free(b->w);
}

static void count_picks(struct bench *b, uint32_t n, uint32_t *counts)
{
	memset(counts, 0, b->e->n_endpoints * sizeof(*counts));
	for (uint32_t i = 0; i < n; i++) {
		const struct mesh_endpoint *p = t_pick(b->w, b->t, 0);
		assert_non_null(p);
		counts[p - b->e->endpoints]++;
	}
}

static void eject(struct bench *b, uint32_t i)
{
	mesh_outlier_outcome(b->w, &b->t->clusters[0], b->e->endpoints[i].host, MESH_OUTCOME_STATUS, 500);
}

static const enum mesh_lb policies[] = {MESH_LB_LEAST_REQUEST, MESH_LB_ROUND_ROBIN, MESH_LB_RANDOM, MESH_LB_RING_HASH, MESH_LB_MAGLEV};

/* Endpoints in any order: 1, 3, 4 are of priority 0; 0, 2, 5 of priority 1. */
static void test_the_next_priority_takes_what_the_first_cannot(void **state)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		struct bench b;
		uint32_t counts[6];
		bench_new(&b, policies[i], 6);
		t_endpoint(b.e, 0)->priority = t_endpoint(b.e, 2)->priority = t_endpoint(b.e, 5)->priority = 1;
		b.e->n_priorities = 2;
		t_config_publish(b.sh, b.t);
		count_picks(&b, 3000, counts);
		assert_int_equal(counts[0] + counts[2] + counts[5], 0);
		assert_true(counts[1] > 700 && counts[3] > 700 && counts[4] > 700);
		eject(&b, 3); /* 2 of 3: 140 * 2 / 3 = 93 % */
		mesh_shared_turn(b.sh);
		count_picks(&b, 10000, counts);
		assert_int_equal(counts[3], 0);
		assert_in_range(counts[0] + counts[2] + counts[5], 560, 840);
		eject(&b, 1);
		eject(&b, 4);
		mesh_shared_turn(b.sh);
		count_picks(&b, 3000, counts);
		assert_int_equal(counts[1] + counts[3] + counts[4], 0);
		assert_true(counts[0] > 700 && counts[2] > 700 && counts[5] > 700);
		bench_free(&b);
	}
	(void)state;
}

/* distribute: 80 to the locality of endpoints 0 and 3, 20 to that of 1, 0 to that of 2. */
static void test_weights_of_localities_hold_whatever_hosts_they_have(void **state)
{
	static const uint32_t weights[] = {80, 20, 0};

	for (size_t i = 0; i < FOIL_COUNT_OF(policies); i++) {
		struct bench b;
		uint32_t counts[4];
		bench_new(&b, policies[i], 4);
		t_endpoint(b.e, 1)->locality_index = 1;
		t_endpoint(b.e, 2)->locality_index = 2;
		b.e->n_localities = 3;
		b.e->locality_weights = weights;
		b.t->clusters[0].ring_size_min = 65536;
		t_config_publish(b.sh, b.t);
		count_picks(&b, 10000, counts);
		assert_in_range(counts[0] + counts[3], 7800, 8200);
		assert_in_range(counts[0], 3700, 4300);
		assert_in_range(counts[1], 1800, 2200);
		assert_int_equal(counts[2], 0);
		eject(&b, 0);
		mesh_shared_turn(b.sh);
		count_picks(&b, 10000, counts);
		assert_int_equal(counts[0], 0);
		if (policies[i] != MESH_LB_RING_HASH && policies[i] != MESH_LB_MAGLEV) /* Envoy's tables do not look at a locality's health */
			assert_in_range(counts[1], 2000, 2900); /* 20 of 80 * 0.7 + 20 */
		bench_free(&b);
	}
	(void)state;
}

static void test_localities_without_weight_serve_when_all_others_are_gone(void **state)
{
	static const uint32_t weights[] = {100, 0};
	struct bench b;
	uint32_t counts[2];

	bench_new(&b, MESH_LB_ROUND_ROBIN, 2);
	t_endpoint(b.e, 1)->locality_index = 1;
	b.e->n_localities = 2;
	b.e->locality_weights = weights;
	t_config_publish(b.sh, b.t);
	count_picks(&b, 100, counts);
	assert_int_equal(counts[1], 0);
	eject(&b, 0);
	count_picks(&b, 100, counts);
	assert_int_equal(counts[1], 100);
	bench_free(&b);
	(void)state;
}

/* ---- slow start ---- */
static void fill_linear(struct mesh_slow_start *s, uint64_t window_us, uint32_t least_percent)
{
	s->window_us = window_us;
	for (uint32_t i = 0; i <= MESH_SLOW_START_STEPS; i++)
		s->share[i] = FOIL_MAX(i * (MESH_SLOW_START_FULL / MESH_SLOW_START_STEPS), MESH_SLOW_START_FULL * least_percent / 100);
}

/* A second host comes 100 s after the first: a tenth at once, half after half of the window, all of its share at the end. */
static void test_a_new_host_takes_its_share_step_by_step(void **state)
{
	static const enum mesh_lb warm[] = {MESH_LB_ROUND_ROBIN, MESH_LB_LEAST_REQUEST};
	static struct mesh_slow_start s;

	fill_linear(&s, 10000000, 10);
	for (size_t i = 0; i < FOIL_COUNT_OF(warm); i++) {
		struct bench b;
		uint32_t counts[2];
		bench_new(&b, warm[i], 1);
		b.t->clusters[0].slow_start = &s;
		t_config_publish(b.sh, b.t);
		count_picks(&b, 10, counts);
		t_clock(b.w, 100000000);
		struct mesh_endpoints *two = t_endpoints(2, NULL), *one = b.e;
		struct t_config *next = t_config_new(2);
		t_config_add(next, 0, "outbound|80||a", warm[i], two)->slow_start = &s;
		t_config_publish(b.sh, next);
		t_config_free(b.sh, b.t);
		free(one);
		b.t = next;
		b.e = two;
		count_picks(&b, 1100, counts);
		assert_in_range(counts[1], 95, 105); /* 1 : 0.1 */
		t_clock(b.w, 5000000);
		count_picks(&b, 1500, counts);
		assert_in_range(counts[1], 480, 520); /* 1 : 0.5 */
		t_clock(b.w, 5000000);
		count_picks(&b, 2000, counts);
		assert_in_range(counts[1], 850, 1150); /* as any other */
		bench_free(&b);
	}
	(void)state;
}

static void test_hosts_that_all_begin_together_are_alike(void **state)
{
	static struct mesh_slow_start s;
	struct bench b;
	uint32_t counts[4];

	fill_linear(&s, 10000000, 0);
	s.share[0] = 1;
	bench_new(&b, MESH_LB_ROUND_ROBIN, 4);
	b.t->clusters[0].slow_start = &s;
	t_config_publish(b.sh, b.t);
	count_picks(&b, 400, counts);
	for (int i = 0; i < 4; i++)
		assert_int_equal(counts[i], 100);
	bench_free(&b);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loads_are_those_of_envoys_pages),
		cmocka_unit_test(test_panic_is_of_a_level_and_only_when_health_is_short_over_all),
		cmocka_unit_test(test_degraded_hosts_get_what_healthy_ones_leave),
		cmocka_unit_test(test_picks_go_to_degraded_hosts_when_healthy_ones_are_short),
		cmocka_unit_test(test_loads_add_up_to_100_whatever_is_healthy),
		cmocka_unit_test(test_level_of_a_hash_is_envoys),
		cmocka_unit_test(test_locality_weights_fall_with_availability),
		cmocka_unit_test(test_the_next_priority_takes_what_the_first_cannot),
		cmocka_unit_test(test_weights_of_localities_hold_whatever_hosts_they_have),
		cmocka_unit_test(test_localities_without_weight_serve_when_all_others_are_gone),
		cmocka_unit_test(test_a_new_host_takes_its_share_step_by_step),
		cmocka_unit_test(test_hosts_that_all_begin_together_are_alike),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
