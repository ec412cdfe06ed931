/* dataplane/mesh/shared.c: what survives a configuration, who may free what and when, and set-up that fails half-way. */
#include <errno.h>

#include <pthread.h>

#include "tests/unit/mesh/clusters.h"

#include "dataplane/mesh/breaker.h"

static const struct mesh_outlier quick = {.consecutive_5xx = 1, .interval_us = 1000000, .base_ejection_us = 30000000, .max_ejection_us = 300000000,
					  .max_ejection_percent = 100};

static void test_shared_refuses_impossible_numbers_of_workers(void **state)
{
	assert_null(mesh_shared_new(&(const struct mesh_shared_params){.n_workers = 0}));
	assert_null(mesh_shared_new(&(const struct mesh_shared_params){.n_workers = MESH_WORKERS_MAX + 1}));
	mesh_shared_free(t_shared(MESH_WORKERS_MAX));
	mesh_shared_free(NULL);
	(void)state;
}

static void test_shared_has_no_config_before_the_first_publish(void **state)
{
	struct mesh_shared *sh = t_shared(1);

	assert_null(mesh_shared_config(sh));
	assert_true(mesh_config_is_adopted(sh));
	mesh_shared_free(sh);
	(void)state;
}

static void test_hosts_survive_by_cluster_name_and_address(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct mesh_shared *sh = t_shared(1);
	struct t_config *one = t_config_new(1), *two = t_config_new(2);
	struct mesh_endpoints *e1 = t_endpoints(3, NULL), *e2 = t_endpoints(4, NULL), *other = t_endpoints(3, NULL);

	t_config_add(one, 0, "a", MESH_LB_ROUND_ROBIN, e1);
	t_config_add(one, 1, "b", MESH_LB_ROUND_ROBIN, other);
	t_config_publish(sh, one);
	struct mesh_host *h = e1->endpoints[1].host;
	assert_ptr_not_equal(h, other->endpoints[1].host); /* the same address in another cluster is another host */
	assert_int_not_equal(h->index, other->endpoints[1].host->index);
	mesh_host_active_add(w, h, 7);
	mesh_breaker_add(w, h->cluster, MESH_BREAKER_REQUESTS, 7);
	t_config_add(two, 5, "a", MESH_LB_RANDOM, e2); /* another policy, another endpoint set, even another slot */
	t_config_publish(sh, two);
	t_config_free(sh, one);
	assert_ptr_equal(e2->endpoints[1].host, h);
	assert_int_equal(h->by_worker[0].n_active, 7);
	assert_int_equal(mesh_breaker_sum(h->cluster, MESH_BREAKER_REQUESTS), 7);
	assert_ptr_equal(mesh_host_set_cluster(two->sets[5]), h->cluster);
	assert_int_equal(h->cluster->n_hosts, 4);
	t_config_free(sh, two);
	mesh_shared_free(sh);
	free(e1);
	free(e2);
	free(other);
	t_worker_free(w);
	(void)state;
}

static void test_host_indices_are_unique_and_given_back(void **state)
{
	struct mesh_shared *sh = t_shared(1);
	struct mesh_endpoints *e = t_endpoints(100, NULL);
	bool seen[100] = {false};

	for (int round = 0; round < 3; round++) {
		struct t_config *t = t_config_new(1);
		struct foil_error err = {0};
		memset(seen, 0, sizeof(seen));
		t_config_add(t, 0, "a", MESH_LB_RANDOM, e);
		assert_int_equal(mesh_config_prepare(sh, &t->c, &err), 0);
		for (uint32_t i = 0; i < 100; i++) {
			uint32_t index = e->endpoints[i].host->index;
			assert_true(index < 100 && !seen[index]); /* the free ones are used again */
			seen[index] = true;
		}
		t_config_free(sh, t);
	}
	mesh_shared_free(sh);
	free(e);
	(void)state;
}

static void test_an_address_twice_is_one_host(void **state)
{
	struct mesh_shared *sh = t_shared(1);
	struct t_config *t = t_config_new(1);
	struct mesh_endpoints *e = t_endpoints(3, NULL);

	memcpy(t_endpoint(e, 2)->ip, e->endpoints[0].ip, 16);
	t_config_add(t, 0, "a", MESH_LB_RANDOM, e);
	t_config_publish(sh, t);
	assert_ptr_equal(e->endpoints[0].host, e->endpoints[2].host);
	assert_int_equal(e->endpoints[0].host->cluster->n_hosts, 2);
	assert_int_equal(e->endpoints[0].host->n_refs, 1);
	t_config_free(sh, t);
	mesh_shared_free(sh);
	free(e);
	(void)state;
}

static void test_unchanged_clusters_keep_their_set(void **state)
{
	struct mesh_shared *sh = t_shared(1);
	struct t_config *one = t_config_new(1), *two = t_config_new(2), *three = t_config_new(3);
	struct mesh_endpoints *e = t_endpoints(3, NULL);

	t_config_add(one, 0, "a", MESH_LB_RANDOM, e);
	t_config_publish(sh, one);
	t_config_add(two, 0, "a", MESH_LB_RANDOM, e)->panic_threshold_percent = 0;
	t_config_publish(sh, two);
	assert_ptr_equal(one->sets[0], two->sets[0]);
	t_config_add(three, 0, "a", MESH_LB_RANDOM, e)->panic_threshold_percent = 50;
	t_config_publish(sh, three);
	assert_ptr_not_equal(two->sets[0], three->sets[0]);
	assert_int_equal(e->endpoints[0].host->n_refs, 2);
	t_config_free(sh, one);
	t_config_free(sh, three);
	assert_int_equal(e->endpoints[0].host->n_refs, 1);
	t_config_free(sh, two);
	mesh_shared_free(sh);
	free(e);
	(void)state;
}

static void test_a_config_is_quiet_when_all_adopted_a_later_one_and_nobody_holds_it(void **state)
{
	struct foil_worker *a = t_worker(.id = 0, .n_workers = 2), *b = t_worker(.id = 1, .n_workers = 2);
	struct mesh_shared *sh = t_shared(2);
	struct t_config *one = t_config_new(1), *two = t_config_new(2);

	t_config_publish(sh, one);
	assert_ptr_equal(mesh_shared_config(sh), &one->c);
	assert_false(mesh_config_is_adopted(sh));
	mesh_shared_adopted(sh, a, &one->c);
	assert_false(mesh_config_is_adopted(sh));
	mesh_shared_adopted(sh, b, &one->c);
	assert_true(mesh_config_is_adopted(sh));
	assert_false(mesh_config_is_quiet(sh, &one->c)); /* the published one never is */
	mesh_config_get(b, &one->c);
	t_config_publish(sh, two);
	assert_false(mesh_config_is_quiet(sh, &one->c));
	mesh_shared_adopted(sh, a, &two->c);
	assert_false(mesh_config_is_quiet(sh, &one->c));
	mesh_shared_adopted(sh, b, &two->c);
	assert_true(mesh_config_is_adopted(sh));
	assert_false(mesh_config_is_quiet(sh, &one->c)); /* b's request runs on */
	mesh_config_put(b, &one->c);
	assert_true(mesh_config_is_quiet(sh, &one->c));
	t_config_free(sh, one);
	t_config_free(sh, two);
	mesh_shared_free(sh);
	t_worker_free(a);
	t_worker_free(b);
	(void)state;
}

static void test_ejection_survives_updates_but_not_removal(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct mesh_shared *sh = t_shared(1);
	struct t_config *t[4];
	struct mesh_endpoints *three = t_endpoints(3, NULL), *two = t_endpoints(2, NULL), *again = t_endpoints(3, NULL);
	const struct mesh_endpoints *order[4] = {three, three, two, again};

	for (uint32_t i = 0; i < 4; i++) {
		t[i] = t_config_new(i + 1);
		t_config_add(t[i], 0, "a", i == 1 ? MESH_LB_RANDOM : MESH_LB_ROUND_ROBIN, order[i])->outlier = &quick;
	}
	t_config_publish(sh, t[0]);
	struct mesh_host *stays = three->endpoints[1].host, *goes = three->endpoints[2].host;
	mesh_outlier_outcome(w, t[0]->by_slot[0], stays, MESH_OUTCOME_STATUS, 500);
	mesh_outlier_outcome(w, t[0]->by_slot[0], goes, MESH_OUTCOME_STATUS, 500);
	t_config_publish(sh, t[1]);
	assert_true(mesh_host_is_ejected(stays) && mesh_host_is_ejected(goes));
	t_config_publish(sh, t[2]); /* the third host is gone, though an old configuration still knows it */
	assert_true(mesh_host_is_ejected(stays));
	assert_false(mesh_host_is_ejected(goes));
	assert_int_equal(stays->cluster->n_ejected, 1);
	assert_int_equal(stays->cluster->n_hosts, 2);
	t_config_publish(sh, t[3]); /* and back */
	assert_false(mesh_host_is_ejected(again->endpoints[2].host));
	for (uint32_t i = 0; i < 4; i++)
		t_config_free(sh, t[i]);
	mesh_shared_free(sh);
	free(three);
	free(two);
	free(again);
	t_worker_free(w);
	(void)state;
}

static void test_ejections_end_with_outlier_detection(void **state)
{
	struct foil_worker *w = t_worker(0);
	struct mesh_shared *sh = t_shared(1);
	struct t_config *one = t_config_new(1), *two = t_config_new(2), *three = t_config_new(3);
	struct mesh_endpoints *e = t_endpoints(2, NULL);

	t_config_add(one, 0, "a", MESH_LB_ROUND_ROBIN, e)->outlier = &quick;
	t_config_add(two, 0, "a", MESH_LB_ROUND_ROBIN, e);
	t_config_publish(sh, one);
	mesh_outlier_outcome(w, one->by_slot[0], e->endpoints[0].host, MESH_OUTCOME_STATUS, 500);
	assert_true(mesh_host_is_ejected(e->endpoints[0].host));
	t_config_publish(sh, two);
	assert_false(mesh_host_is_ejected(e->endpoints[0].host));
	mesh_outlier_outcome(w, one->by_slot[0], e->endpoints[0].host, MESH_OUTCOME_STATUS, 500); /* a request of the old configuration */
	t_config_publish(sh, three);     /* the cluster is gone: so is that */
	assert_false(mesh_host_is_ejected(e->endpoints[0].host));
	assert_int_equal(e->endpoints[0].host->cluster->n_ejected, 0);
	t_config_free(sh, one);
	t_config_free(sh, two);
	t_config_free(sh, three);
	mesh_shared_free(sh);
	free(e);
	t_worker_free(w);
	(void)state;
}

/* More hosts than there may be: refused with a sentence, and nothing is left behind. */
struct racer {
	pthread_t thread;
	struct foil_worker *w;
	const struct mesh_cluster *c;
	struct mesh_cluster_state *s;
	uint32_t *n_held, *n_most, n_taken;
};

static void *race(void *arg)
{
	struct racer *r = arg;

	for (uint32_t i = 0; i < 200000; i++) {
		if (!mesh_breaker_take(r->w, r->c, r->s, MESH_BREAKER_CONNECTIONS))
			continue;
		uint32_t n = __atomic_add_fetch(r->n_held, 1, __ATOMIC_SEQ_CST), most = __atomic_load_n(r->n_most, __ATOMIC_SEQ_CST);
		while (n > most && !__atomic_compare_exchange_n(r->n_most, &most, n, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			continue;
		r->n_taken++;
		(void)__atomic_sub_fetch(r->n_held, 1, __ATOMIC_SEQ_CST);
		mesh_breaker_add(r->w, r->s, MESH_BREAKER_CONNECTIONS, -1);
	}
	return NULL;
}

/* Workers that race for the last place never have more than the limit together. */
static void test_a_limit_holds_over_workers_at_once(void **state)
{
	struct foil_worker *w[3] = {t_worker(.id = 0, .n_workers = 3), t_worker(.id = 1, .n_workers = 3), t_worker(.id = 2, .n_workers = 3)};
	struct mesh_shared *sh = t_shared(3);
	struct t_config *t = t_config_new(1);
	struct mesh_endpoints *e = t_endpoints(1, NULL);
	struct racer r[3];
	uint32_t n_held = 0, n_most = 0, n_taken = 0;

	t_config_add(t, 0, "a", MESH_LB_RANDOM, e)->breaker.max_connections = 2;
	t_config_publish(sh, t);
	for (int i = 0; i < 3; i++) {
		r[i] = (struct racer){.w = w[i], .c = t->by_slot[0], .s = e->endpoints[0].host->cluster, .n_held = &n_held, .n_most = &n_most};
		assert_int_equal(pthread_create(&r[i].thread, NULL, race, &r[i]), 0);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(r[i].thread, NULL), 0);
		n_taken += r[i].n_taken;
	}
	assert_true(n_most >= 1 && n_most <= 2);
	assert_true(n_taken > 1000);
	assert_int_equal(mesh_breaker_sum(e->endpoints[0].host->cluster, MESH_BREAKER_CONNECTIONS), 0);
	t_config_free(sh, t);
	mesh_shared_free(sh);
	free(e);
	for (int i = 0; i < 3; i++)
		t_worker_free(w[i]);
	(void)state;
}

static void test_too_many_hosts_are_refused_and_leave_nothing(void **state)
{
	struct mesh_shared *sh = t_shared(1);
	struct t_config *t = t_config_new(1), *fits = t_config_new(2);
	struct mesh_endpoints *few = t_endpoints(5, NULL), *many = t_endpoints(MESH_HOSTS_MAX - 4, NULL);
	struct foil_error err = {0};

	for (uint32_t i = 0; i < many->n_endpoints; i++) /* unique beyond the helper's 65535 */
		t_endpoint(many, i)->port = (uint16_t)(1 + i % 60000), t_endpoint(many, i)->ip[13] = (uint8_t)(19 + i / 60000);
	t_config_add(t, 0, "few", MESH_LB_RANDOM, few);
	t_config_add(t, 1, "many", MESH_LB_RANDOM, many);
	assert_int_equal(mesh_config_prepare(sh, &t->c, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "many"));
	for (uint32_t slot = 0; slot < T_SLOTS; slot++)
		assert_null(t->sets[slot]);
	t_config_add(fits, 1, "many", MESH_LB_RANDOM, many);
	assert_int_equal(mesh_config_prepare(sh, &fits->c, &err), 0);
	t_config_free(sh, fits);
	t_config_free(sh, t);
	mesh_shared_free(sh);
	free(few);
	free(many);
	(void)state;
}

static void test_prepare_makes_its_own_array_when_there_is_none(void **state)
{
	struct mesh_shared *sh = t_shared(1);
	struct t_config *t = t_config_new(1), *tight = t_config_new(2);
	struct foil_error err = {0};

	t->c.host_sets = NULL;
	assert_int_equal(mesh_config_prepare(sh, &t->c, &err), 0);
	assert_non_null(t->c.host_sets);
	mesh_config_unprepare(sh, &t->c);
	foil_blob_free(&t->c.blob);
	tight->c.host_sets = NULL;
	tight->c.blob.max_bytes = 16;
	assert_int_equal(mesh_config_prepare(sh, &tight->c, &err), -ENOMEM);
	t_config_free(sh, tight);
	free(t);
	mesh_shared_free(sh);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared_refuses_impossible_numbers_of_workers),
		cmocka_unit_test(test_shared_has_no_config_before_the_first_publish),
		cmocka_unit_test(test_hosts_survive_by_cluster_name_and_address),
		cmocka_unit_test(test_host_indices_are_unique_and_given_back),
		cmocka_unit_test(test_an_address_twice_is_one_host),
		cmocka_unit_test(test_unchanged_clusters_keep_their_set),
		cmocka_unit_test(test_a_config_is_quiet_when_all_adopted_a_later_one_and_nobody_holds_it),
		cmocka_unit_test(test_ejection_survives_updates_but_not_removal),
		cmocka_unit_test(test_ejections_end_with_outlier_detection),
		cmocka_unit_test(test_a_limit_holds_over_workers_at_once),
		cmocka_unit_test(test_too_many_hosts_are_refused_and_leave_nothing),
		cmocka_unit_test(test_prepare_makes_its_own_array_when_there_is_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
