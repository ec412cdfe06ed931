/* dataplane/core/wheel.c: never early, at most a tick late, in order, and whatever callbacks do to timers. Expected values are
 * arithmetic in the test. */
#include "tests/unit/support.h"

struct probe {
	struct foil_timer timer;
	uint64_t fired_us, n_fired, again_us;
	struct probe *cancels, *arms;
	unsigned int order;
};

static unsigned int fire_order;

static void on_fire(struct foil_worker *w, struct foil_timer *t)
{
	struct probe *p = FOIL_CONTAINER_OF(t, struct probe, timer);

	assert_false(foil_timer_is_armed(t));
	p->fired_us = w->now_us;
	p->n_fired++;
	p->order = ++fire_order;
	if (p->cancels)
		foil_timer_cancel(w, &p->cancels->timer);
	if (p->arms)
		foil_timer_arm(w, &p->arms->timer, w->now_us, on_fire);
	if (p->again_us)
		foil_timer_arm(w, t, w->now_us + p->again_us, on_fire);
}

static void assert_on_time(const struct probe *p, uint64_t at_us)
{
	assert_int_equal(p->n_fired, 1);
	assert_true(p->fired_us >= at_us);
	assert_true(p->fired_us <= at_us + 2 * FOIL_TICK_US);
}

static void test_wheel_fires_every_distance_on_time(void **state)
{
	static const uint64_t starts[] = {1000000, 255 * 128, 256 * 128 - 1, 65536ull * 128 - 64, (1ull << 32) * 128 - 1, (1ull << 40) * 128 - 77};

	for (size_t s = 0; s < FOIL_COUNT_OF(starts); s++) {
		struct foil_worker *w = t_worker(.now_us = starts[s]);
		for (unsigned int bit = 0; bit < 44; bit++) {
			for (int off = -1; off <= 1; off++) {
				struct probe p = {0};
				uint64_t at = w->now_us + ((uint64_t)1 << bit) + (uint64_t)(int64_t)off;
				foil_timer_arm(w, &p.timer, at, on_fire);
				if (at > w->now_us + FOIL_TICK_US)
					assert_true(foil_wheel_next_us(w) <= at + FOIL_TICK_US);
				t_advance(w, ((uint64_t)1 << bit) + 3 * FOIL_TICK_US);
				assert_on_time(&p, at);
			}
		}
		assert_int_equal(w->wheel.n_armed, 0);
		assert_int_equal(foil_wheel_next_us(w), UINT64_MAX);
		t_worker_free(w);
	}
	(void)state;
}

static void test_wheel_in_one_big_step_fires_all_in_order_of_tick(void **state)
{
	enum { N = 4000 };
	static struct probe probes[N];
	struct foil_worker *w = t_worker(.seed = 42);
	uint64_t start = w->now_us;
	uint64_t at[N];

	memset(probes, 0, sizeof(probes));
	for (int i = 0; i < N; i++) {
		uint64_t far = (uint64_t)1 << foil_prng_below(&w->prng, 34);
		at[i] = start + foil_prng_u64(&w->prng) % far;
		foil_timer_arm(w, &probes[i].timer, at[i], on_fire);
	}
	assert_int_equal(w->wheel.n_armed, N);
	t_clock(w, (uint64_t)1 << 35);
	assert_int_equal(foil_wheel_advance(w, N + 1), N);
	for (int i = 0; i < N; i++) {
		assert_int_equal(probes[i].n_fired, 1);
		for (int k = 1; k < 8; k++) {
			int j = (i + k * 37) % N;
			if (at[i] / FOIL_TICK_US < at[j] / FOIL_TICK_US)
				assert_true(probes[i].order < probes[j].order);
		}
	}
	t_worker_free(w);
	(void)state;
}

/* The same random life of timers in the wheel and in a plain array: every timer fires when the array says. */
static void test_wheel_agrees_with_a_plain_array_over_random_lives(void **state)
{
	enum { N = 64 };
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct probe probes[N] = {0};
		uint64_t due_us[N] = {0}; /* 0: not armed */
		struct foil_worker *w = t_worker(.seed = seed, .now_us = 1000000 + (seed << 24) - seed * 131);
		for (int step = 0; step < 3000; step++) {
			uint32_t i = foil_prng_below(&w->prng, N), what = foil_prng_below(&w->prng, 8);
			if (what < 4) {
				due_us[i] = w->now_us + foil_prng_u64(&w->prng) % ((uint64_t)1 << foil_prng_below(&w->prng, 32));
				probes[i].n_fired = 0;
				foil_timer_arm(w, &probes[i].timer, due_us[i], on_fire);
			} else if (what == 4) {
				foil_timer_cancel(w, &probes[i].timer);
				due_us[i] = 0;
			} else {
				t_clock(w, foil_prng_u64(&w->prng) % ((uint64_t)1 << foil_prng_below(&w->prng, 28)));
				(void)foil_wheel_advance(w, UINT32_MAX);
			}
			for (int k = 0; k < N; k++) {
				if (!due_us[k])
					continue;
				if (probes[k].n_fired) {
					assert_true(probes[k].fired_us >= due_us[k]);
					due_us[k] = 0;
				} else if (what > 4) {
					assert_true(due_us[k] + FOIL_TICK_US > w->now_us / FOIL_TICK_US * FOIL_TICK_US);
					assert_true(foil_timer_is_armed(&probes[k].timer));
					assert_true(foil_wheel_next_us(w) <= due_us[k] + FOIL_TICK_US);
				}
			}
		}
		t_worker_free(w);
	}
	(void)state;
}

static void test_wheel_cancel_in_callback_stops_the_next_due(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct probe a = {0}, b = {0};

	a.cancels = &b;
	b.cancels = &a;
	foil_timer_arm(w, &a.timer, w->now_us + 5000, on_fire);
	foil_timer_arm(w, &b.timer, w->now_us + 5000, on_fire);
	t_advance(w, 10000);
	assert_int_equal(a.n_fired + b.n_fired, 1);
	assert_int_equal(w->wheel.n_armed, 0);
	t_worker_free(w);
	(void)state;
}

static void test_wheel_timer_may_arm_itself_and_others_from_its_callback(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct probe a = {.again_us = 1000}, b = {0};

	a.arms = &b;
	foil_timer_arm(w, &a.timer, w->now_us + 1000, on_fire);
	t_advance(w, 20000);
	assert_in_range(a.n_fired, 15, 20);
	assert_in_range(b.n_fired, 15, 20);
	foil_timer_cancel(w, &a.timer);
	foil_timer_cancel(w, &b.timer);
	t_worker_free(w);
	(void)state;
}

static void test_wheel_timer_armed_for_now_in_its_callback_waits_for_the_next_tick(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct probe a = {0};

	a.arms = &a;
	foil_timer_arm(w, &a.timer, w->now_us, on_fire);
	t_clock(w, 10000);
	assert_int_equal(foil_wheel_advance(w, 1000), 1);
	a.arms = NULL;
	foil_timer_cancel(w, &a.timer);
	t_worker_free(w);
	(void)state;
}

static void test_wheel_budget_leaves_the_rest_due(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct probe p[10] = {0};

	for (int i = 0; i < 10; i++)
		foil_timer_arm(w, &p[i].timer, w->now_us + 1000 + (uint64_t)(i / 5) * 1000, on_fire);
	t_clock(w, 5000);
	assert_int_equal(foil_wheel_advance(w, 3), 3);
	assert_true(foil_wheel_next_us(w) <= w->now_us);
	foil_timer_cancel(w, &p[9].timer);
	assert_int_equal(foil_wheel_advance(w, 100), 6);
	assert_int_equal(p[9].n_fired, 0);
	assert_int_equal(t_counter(w, CORE, TIMERS_FIRED), 9);
	t_worker_free(w);
	(void)state;
}

static void test_wheel_rearm_moves_and_cancel_of_idle_timer_is_nothing(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct probe a = {0}, never = {0};

	foil_timer_cancel(w, &never.timer);
	foil_timer_arm(w, &a.timer, w->now_us + 1000, on_fire);
	foil_timer_arm(w, &a.timer, w->now_us + 500000, on_fire);
	assert_int_equal(w->wheel.n_armed, 1);
	t_advance(w, 400000);
	assert_int_equal(a.n_fired, 0);
	t_advance(w, 200000);
	assert_int_equal(a.n_fired, 1);
	t_worker_free(w);
	(void)state;
}

static void test_wheel_timer_of_the_past_and_of_forever(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);
	struct probe past = {0}, forever = {0};

	foil_timer_arm(w, &past.timer, 0, on_fire);
	foil_timer_arm(w, &forever.timer, UINT64_MAX, on_fire);
	t_advance(w, 2 * FOIL_TICK_US);
	assert_int_equal(past.n_fired, 1);
	t_clock(w, (uint64_t)1 << 50);
	(void)foil_wheel_advance(w, 10);
	assert_int_equal(forever.n_fired, 0);
	assert_true(foil_timer_is_armed(&forever.timer));
	foil_timer_cancel(w, &forever.timer);
	t_worker_free(w);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wheel_fires_every_distance_on_time),
		cmocka_unit_test(test_wheel_in_one_big_step_fires_all_in_order_of_tick),
		cmocka_unit_test(test_wheel_agrees_with_a_plain_array_over_random_lives),
		cmocka_unit_test(test_wheel_cancel_in_callback_stops_the_next_due),
		cmocka_unit_test(test_wheel_timer_may_arm_itself_and_others_from_its_callback),
		cmocka_unit_test(test_wheel_timer_armed_for_now_in_its_callback_waits_for_the_next_tick),
		cmocka_unit_test(test_wheel_budget_leaves_the_rest_due),
		cmocka_unit_test(test_wheel_rearm_moves_and_cancel_of_idle_timer_is_nothing),
		cmocka_unit_test(test_wheel_timer_of_the_past_and_of_forever),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
