/* Whole updates: full and delta, what is shared, what is refused and leaves the running one alone, and when old memory goes. */
#include "tests/unit/config/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t n_old(const struct t_conf *f)
{
	struct snap_status st;
	snap_status(f->snap, &st);
	return st.n_old;
}

static void turn(struct t_conf *f)
{
	struct foil_error err;
	assert_int_equal(snap_turn(f->snap, 5000000, &err), 0);
}

static void test_full_update_is_published_with_its_names_resolved(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	const struct mesh_config *c = snap_config(f->snap);
	assert_ptr_equal(c, mesh_shared_config(f->mesh));
	assert_int_equal(c->generation, 1);
	assert_true(foil_slice_eq(c->version, FOIL_SLICE("v1")));
	assert_int_equal(c->n_listeners, 1);
	const struct mesh_listener *l = c->listeners[0];
	const struct mesh_routes *r = c->routes[l->chains[0].http.routes_slot];
	assert_non_null(r);
	uint32_t slot = r->vhosts[0].routes[0].route.clusters[0].slot;
	assert_non_null(c->clusters[slot]);
	assert_int_equal(c->clusters[slot]->slot, slot);
	assert_int_equal(c->endpoints[slot]->n_endpoints, 1);
	assert_non_null(c->host_sets[slot]);
	t_conf_free(f);
}

static void test_order_of_resources_does_not_matter(void **state)
{
	struct t_conf *f = t_conf();
	t_put_endpoints(f, "c", "198.19.0.10", 8080);
	t_put_cluster(f, "c");
	t_put_routes(f, "r", "a.test", "c");
	t_put_listener(f, "l", "198.18.0.1", 80, "r");
	t_put_mesh(f, NULL);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	t_conf_free(f);
}

static void test_delta_shares_what_it_does_not_name(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	const struct mesh_config *one = snap_config(f->snap);
	const struct mesh_listener *l = one->listeners[0];
	const struct mesh_cluster *c = one->clusters[0];
	t_put_endpoints(f, "c", "198.19.0.11", 8080);
	assert_int_equal(t_apply(f, "v2", false), SNAP_APPLIED);
	const struct mesh_config *two = snap_config(f->snap);
	assert_ptr_not_equal(one, two);
	assert_int_equal(two->generation, 2);
	assert_ptr_equal(two->listeners[0], l);
	assert_ptr_equal(two->clusters[0], c);
	assert_int_equal(two->endpoints[c->slot]->endpoints[0].ip[15], 11);
	t_conf_free(f);
}

static void test_same_bytes_are_shared_in_a_full_update_too(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	const struct mesh_cluster *c = snap_config(f->snap)->clusters[0];
	t_put_all(f);
	t_put_cluster(f, "another");
	assert_int_equal(t_apply(f, "v2", true), SNAP_APPLIED);
	assert_ptr_equal(snap_config(f->snap)->clusters[c->slot], c);
	t_conf_free(f);
}

static void test_equal_update_is_answered_as_unchanged_and_gives_its_version(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	const struct mesh_config *c = snap_config(f->snap);
	t_put_all(f);
	assert_int_equal(t_apply(f, "v2", true), SNAP_UNCHANGED);
	assert_ptr_equal(snap_config(f->snap), c);
	assert_true(foil_slice_eq(snap_version(f->snap), FOIL_SLICE("v2")));
	assert_int_equal(t_apply(f, "v3", false), SNAP_UNCHANGED);
	t_put_removed(f, T_CLUSTER, "never there");
	assert_int_equal(t_apply(f, "v4", false), SNAP_UNCHANGED);
	t_conf_free(f);
}

static void test_removed_and_left_out_resources_go(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	t_put_cluster(f, "d");
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	t_put_removed(f, T_CLUSTER, "d");
	assert_int_equal(t_apply(f, "v2", false), SNAP_APPLIED);
	struct snap_status st;
	snap_status(f->snap, &st);
	assert_int_equal(st.n_clusters, 1);
	t_put_mesh(f, NULL);
	assert_int_equal(t_apply(f, "v3", true), SNAP_APPLIED);
	snap_status(f->snap, &st);
	assert_int_equal(st.n_resources, 1);
	assert_int_equal(snap_config(f->snap)->n_listeners, 0);
	t_conf_free(f);
}

static void test_slot_stays_with_its_name_while_anything_uses_it(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	uint32_t slot = snap_config(f->snap)->clusters[0]->slot;
	t_put_removed(f, T_CLUSTER, "c");
	t_put_removed(f, T_ENDPOINTS, "c");
	t_put_cluster(f, "new");
	assert_int_equal(t_apply(f, "v2", false), SNAP_APPLIED);
	const struct mesh_config *c = snap_config(f->snap);
	assert_null(c->clusters[slot]); /* the route still names it, and finds nothing there */
	t_put_cluster(f, "c");
	assert_int_equal(t_apply(f, "v3", false), SNAP_APPLIED);
	assert_int_equal(snap_config(f->snap)->clusters[slot]->slot, slot);
	t_conf_free(f);
}

static void test_slot_is_given_again_when_its_name_is_forgotten(void **state)
{
	struct t_conf *f = t_conf();
	t_put_mesh(f, NULL);
	t_put_cluster(f, "one");
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	t_adopt(f);
	for (int i = 0; i < 200; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "c%d", i);
		t_put_mesh(f, NULL);
		t_put_cluster(f, name);
		assert_int_equal(t_apply(f, name, true), SNAP_APPLIED);
		t_adopt(f);
		turn(f);
	}
	assert_true(snap_config(f->snap)->n_cluster_slots <= 3);
	t_conf_free(f);
}

static void test_old_snapshot_goes_when_no_worker_holds_it(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	t_adopt(f);
	const struct mesh_config *one = snap_config(f->snap);
	mesh_config_get(f->w, one); /* a request in flight */
	t_put_cluster(f, "d");
	assert_int_equal(t_apply(f, "v2", false), SNAP_APPLIED);
	turn(f);
	assert_int_equal(n_old(f), 1); /* not adopted */
	t_adopt(f);
	turn(f);
	assert_int_equal(n_old(f), 1); /* held */
	mesh_config_put(f->w, one);
	turn(f);
	assert_int_equal(n_old(f), 0);
	t_conf_free(f);
}

static void test_rejected_update_leaves_the_running_one(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	const struct mesh_config *c = snap_config(f->snap);
	t_put_cluster(f, "fine");
	t_put_raw(f, T_CLUSTER, "bad", "\xff", 1);
	assert_int_equal(t_apply(f, "v2", false), SNAP_REJECTED);
	t_assert_rejected(f, "bad", "", "cut off");
	assert_ptr_equal(snap_config(f->snap), c);
	assert_ptr_equal(mesh_shared_config(f->mesh), c);
	assert_true(foil_slice_eq(snap_version(f->snap), FOIL_SLICE("v1")));
	struct snap_status st;
	snap_status(f->snap, &st);
	assert_int_equal(st.n_bytes_in_memory, st.n_bytes); /* nothing of the refused one is left */
	t_conf_free(f);
}

static void test_every_bad_resource_of_an_update_is_named(void **state)
{
	struct t_conf *f = t_conf();
	size_t n, n_more;
	t_put_mesh(f, NULL);
	t_put_raw(f, T_CLUSTER, "bad1", "\xff", 1);
	t_put_cluster(f, "fine");
	t_put_raw(f, T_ROUTES, "bad2", "\xff", 1);
	t_put_raw(f, 99, "bad3", "", 0);
	assert_int_equal(t_apply(f, "v1", true), SNAP_REJECTED);
	const struct snap_rejection *r = snap_rejections(f->snap, &n, &n_more);
	assert_int_equal(n, 3);
	assert_int_equal(n_more, 0);
	assert_string_equal(r[0].name, "bad2");
	assert_string_equal(r[1].name, "bad1");
	assert_string_equal(r[2].name, "bad3");
	t_conf_free(f);
}

static void test_update_without_settings_is_refused(void **state)
{
	struct t_conf *f = t_conf();
	t_put_cluster(f, "c");
	assert_int_equal(t_apply(f, "v1", true), SNAP_REJECTED);
	t_assert_rejected(f, "mesh", "", "needs its settings");
	assert_int_equal(t_apply(f, "v1", true), SNAP_REJECTED); /* empty */
	t_assert_rejected(f, "mesh", "", "needs its settings");
	assert_null(snap_config(f->snap));
	t_conf_free(f);
}

static void test_name_twice_in_an_update_is_refused(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	t_put_cluster(f, "c");
	assert_int_equal(t_apply(f, "v1", true), SNAP_REJECTED);
	t_assert_rejected(f, "c", "", "twice");
	t_conf_free(f);
}

static void test_two_listeners_at_one_address_are_refused(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	t_put_listener(f, "m", "::ffff:198.18.0.1", 80, "r"); /* the same, written otherwise */
	assert_int_equal(t_apply(f, "v1", true), SNAP_REJECTED);
	size_t n, n_more;
	assert_non_null(strstr(snap_rejections(f->snap, &n, &n_more)[0].reason, "is that of listener"));
	assert_int_equal(n, 1);
	t_put_all(f);
	t_put_listener(f, "m", "198.18.0.1", 81, "r");
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	t_conf_free(f);
}

static void test_listener_whose_routes_are_not_there_is_refused(void **state)
{
	struct t_conf *f = t_conf();
	t_put_mesh(f, NULL);
	t_put_listener(f, "l", "198.18.0.1", 80, "gone");
	assert_int_equal(t_apply(f, "v1", true), SNAP_REJECTED);
	t_assert_rejected(f, "l", "filter_chains[0].http.routes", "\"gone\"");
	t_conf_free(f);
}

static void test_endpoints_without_their_cluster_are_refused(void **state)
{
	struct t_conf *f = t_conf();
	t_put_mesh(f, NULL);
	t_put_endpoints(f, "c", "198.19.0.10", 80);
	assert_int_equal(t_apply(f, "v1", true), SNAP_REJECTED);
	t_assert_rejected(f, "c", "cluster", "no such cluster");
	t_conf_free(f);
}

static void test_listeners_follow_the_server_name_of_the_settings(void **state)
{
	struct t_conf *f = t_conf();
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	assert_true(foil_slice_eq(snap_config(f->snap)->listeners[0]->chains[0].http.server_name, FOIL_SLICE("istio-envoy")));
	t_put_mesh(f, "other");
	assert_int_equal(t_apply(f, "v2", false), SNAP_APPLIED);
	assert_true(foil_slice_eq(snap_config(f->snap)->listeners[0]->chains[0].http.server_name, FOIL_SLICE("other")));
	t_put_removed(f, T_MESH, "mesh");
	assert_int_equal(t_apply(f, "v3", false), SNAP_REJECTED);
	t_conf_free(f);
}

static void test_snapshot_beyond_its_budget_is_refused_with_the_budget(void **state)
{
	struct t_conf *f = t_conf(.bytes_max = 65536);
	char name[64];
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	for (int i = 0; i < 60; i++) {
		static char names[60][400];
		memset(names[i], 'n', sizeof(names[i]) - 1);
		(void)snprintf(name, sizeof(name), "%02d", i);
		memcpy(names[i], name, 2);
		t_put_cluster(f, names[i]);
	}
	assert_int_equal(t_apply(f, "v2", false), SNAP_REJECTED);
	size_t n, n_more;
	assert_non_null(strstr(snap_rejections(f->snap, &n, &n_more)[0].reason, "budget of 65536 bytes"));
	assert_int_equal(n, 1);
	struct snap_status st;
	snap_status(f->snap, &st);
	assert_int_equal(st.n_bytes_in_memory, st.n_bytes);
	t_put_cluster(f, "small");
	assert_int_equal(t_apply(f, "v3", false), SNAP_APPLIED);
	t_conf_free(f);
}

static void test_bad_version_is_refused(void **state)
{
	struct t_conf *f = t_conf();
	char version[200];
	memset(version, 'v', sizeof(version) - 1);
	version[sizeof(version) - 1] = 0;
	t_put_all(f);
	assert_int_equal(t_apply(f, version, true), SNAP_REJECTED);
	t_assert_rejected(f, "", "version", "199 bytes");
	t_put_all(f);
	assert_int_equal(t_apply(f, "a\nb", true), SNAP_REJECTED);
	t_assert_rejected(f, "", "version", "control character");
	t_conf_free(f);
}

static void test_what_a_hostile_name_holds_does_not_reach_a_terminal(void **state)
{
	struct t_conf *f = t_conf();
	t_put_mesh(f, NULL);
	t_put_raw(f, T_CLUSTER, "a\x1b[2Jb", "", 0);
	assert_int_equal(t_apply(f, "v1", true), SNAP_REJECTED);
	t_assert_rejected(f, "a?[2Jb", "", "control character");
	t_conf_free(f);
}

static void test_more_rejections_than_are_told_are_counted(void **state)
{
	struct t_conf *f = t_conf();
	size_t n, n_more;
	struct snap_resource list[SNAP_REJECTIONS_MAX + 10];
	char names[SNAP_REJECTIONS_MAX + 10][8];
	for (unsigned int i = 0; i < FOIL_COUNT_OF(list); i++) {
		(void)snprintf(names[i], sizeof(names[i]), "%03u", i);
		list[i] = (struct snap_resource){.type = T_CLUSTER, .name = foil_slice_str(names[i]), .body = FOIL_SLICE("\xff")};
	}
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	const struct snap_update u = {.version = FOIL_SLICE("v2"), .resources = list, .n_resources = FOIL_COUNT_OF(list)};
	assert_int_equal(snap_apply(f->snap, &u), SNAP_REJECTED);
	(void)snap_rejections(f->snap, &n, &n_more);
	assert_int_equal(n, SNAP_REJECTIONS_MAX);
	assert_int_equal(n_more, 10);
	t_conf_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full_update_is_published_with_its_names_resolved),
		cmocka_unit_test(test_order_of_resources_does_not_matter),
		cmocka_unit_test(test_delta_shares_what_it_does_not_name),
		cmocka_unit_test(test_same_bytes_are_shared_in_a_full_update_too),
		cmocka_unit_test(test_equal_update_is_answered_as_unchanged_and_gives_its_version),
		cmocka_unit_test(test_removed_and_left_out_resources_go),
		cmocka_unit_test(test_slot_stays_with_its_name_while_anything_uses_it),
		cmocka_unit_test(test_slot_is_given_again_when_its_name_is_forgotten),
		cmocka_unit_test(test_old_snapshot_goes_when_no_worker_holds_it),
		cmocka_unit_test(test_rejected_update_leaves_the_running_one),
		cmocka_unit_test(test_every_bad_resource_of_an_update_is_named),
		cmocka_unit_test(test_update_without_settings_is_refused),
		cmocka_unit_test(test_name_twice_in_an_update_is_refused),
		cmocka_unit_test(test_two_listeners_at_one_address_are_refused),
		cmocka_unit_test(test_listener_whose_routes_are_not_there_is_refused),
		cmocka_unit_test(test_endpoints_without_their_cluster_are_refused),
		cmocka_unit_test(test_listeners_follow_the_server_name_of_the_settings),
		cmocka_unit_test(test_snapshot_beyond_its_budget_is_refused_with_the_budget),
		cmocka_unit_test(test_bad_version_is_refused),
		cmocka_unit_test(test_what_a_hostile_name_holds_does_not_reach_a_terminal),
		cmocka_unit_test(test_more_rejections_than_are_told_are_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
