/* dataplane/core/overload.c: thresholds, hysteresis, and what is counted. */
#include "tests/unit/support.h"

#define ALL (FOIL_OVERLOAD_SHRINK | FOIL_OVERLOAD_DISABLE_KEEPALIVE | FOIL_OVERLOAD_STOP_CONNECTIONS | FOIL_OVERLOAD_STOP_REQUESTS)

static uint8_t look(struct foil_worker *w, enum foil_pressure pressure, uint8_t percent)
{
	uint8_t all[FOIL_PRESSURE_COUNT] = {0};

	all[pressure] = percent;
	foil_overload_look(w, all);
	return w->overload;
}

static struct foil_worker *worker(void)
{
	struct foil_worker *w = t_worker(.seed = 1);

	w->overload_state.conf = (struct foil_overload_conf){.at_percent = {90, 92, 95, 98}};
	return w;
}

static void test_each_action_begins_at_its_threshold(void **state)
{
	struct foil_worker *w = worker();

	assert_int_equal(look(w, FOIL_PRESSURE_PACKETS, 89), 0);
	assert_int_equal(look(w, FOIL_PRESSURE_PACKETS, 90), FOIL_OVERLOAD_SHRINK);
	assert_int_equal(t_counter(w, CORE, OVERLOAD_SHRINK), 1);
	assert_int_equal(look(w, FOIL_PRESSURE_PACKETS, 95), ALL & ~FOIL_OVERLOAD_STOP_REQUESTS);
	assert_int_equal(look(w, FOIL_PRESSURE_PACKETS, 100), ALL);
	assert_int_equal(t_counter(w, CORE, OVERLOAD_STOP_REQUESTS), 1);
	assert_int_equal(t_counter(w, CORE, PRESSURE_PACKETS), 1); /* once: it has not eased */
	assert_int_equal(look(w, FOIL_PRESSURE_PACKETS, 0), 0);
	assert_int_equal(t_counter(w, CORE, OVERLOAD_SHRINK), 0);
	assert_int_equal(look(w, FOIL_PRESSURE_PACKETS, 90), FOIL_OVERLOAD_SHRINK);
	assert_int_equal(t_counter(w, CORE, PRESSURE_PACKETS), 2);
	t_worker_free(w);
	(void)state;
}

static void test_it_ends_a_little_below(void **state)
{
	struct foil_worker *w = worker();

	assert_int_equal(look(w, FOIL_PRESSURE_CONNECTIONS, 91), FOIL_OVERLOAD_SHRINK);
	assert_int_equal(look(w, FOIL_PRESSURE_CONNECTIONS, 88), FOIL_OVERLOAD_SHRINK);
	assert_int_equal(look(w, FOIL_PRESSURE_CONNECTIONS, 87), 0);
	assert_int_equal(look(w, FOIL_PRESSURE_CONNECTIONS, 88), 0);
	/* another resource has no part in it */
	assert_int_equal(look(w, FOIL_PRESSURE_CONNECTIONS, 90), FOIL_OVERLOAD_SHRINK);
	assert_int_equal(look(w, FOIL_PRESSURE_PACKETS, 89), 0);
	t_worker_free(w);
	(void)state;
}

static void test_what_a_resource_has_to_do_with_an_action(void **state)
{
	struct foil_worker *w = worker();

	assert_int_equal(look(w, FOIL_PRESSURE_CHUNKS, 100), ALL);
	assert_int_equal(look(w, FOIL_PRESSURE_CONNECTIONS, 100), ALL & ~FOIL_OVERLOAD_STOP_REQUESTS);
	assert_int_equal(look(w, FOIL_PRESSURE_REQUESTS, 100), FOIL_OVERLOAD_STOP_CONNECTIONS | FOIL_OVERLOAD_STOP_REQUESTS);
	assert_int_equal(look(w, FOIL_PRESSURE_STEERING, 100), FOIL_OVERLOAD_STOP_CONNECTIONS);
	assert_int_equal(look(w, FOIL_PRESSURE_CYCLES, 100), 0);
	assert_int_equal(t_counter(w, CORE, PRESSURE_CYCLES), 1);
	w->overload_state.conf.cycles_stop_connections = true;
	assert_int_equal(look(w, FOIL_PRESSURE_CYCLES, 100), FOIL_OVERLOAD_STOP_CONNECTIONS);
	assert_int_equal(look(w, FOIL_PRESSURE_CYCLES, 94), FOIL_OVERLOAD_STOP_CONNECTIONS);
	assert_int_equal(look(w, FOIL_PRESSURE_CYCLES, 90), 0);
	assert_int_equal(t_counter(w, CORE, PRESSURE_CYCLES), 1);
	t_worker_free(w);
	(void)state;
}

static void test_never(void **state)
{
	struct foil_worker *w = t_worker(.seed = 1);

	for (int i = 0; i < FOIL_PRESSURE_COUNT; i++)
		assert_int_equal(look(w, (enum foil_pressure)i, 100), 0);
	assert_int_equal(t_counter(w, CORE, PRESSURE_PACKETS), 0);
	assert_int_equal(foil_percent(1, 0), 0);
	assert_int_equal(foil_percent(UINT64_MAX, 3), 100);
	assert_int_equal(foil_percent(1, 3), 33);
	t_worker_free(w);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_action_begins_at_its_threshold),
		cmocka_unit_test(test_it_ends_a_little_below),
		cmocka_unit_test(test_what_a_resource_has_to_do_with_an_action),
		cmocka_unit_test(test_never),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
