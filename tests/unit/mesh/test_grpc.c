/* gRPC's messages counted in a body that comes in any pieces. */
#include "tests/unit/support.h"

#include "dataplane/mesh/grpc_priv.h"

static const char body[] = "\0\0\0\0\2hi" "\1\0\0\0\0" "\0\0\0\1\1"; /* two bytes, none, 257 to come */
#define BODY_BYTES (sizeof(body) - 1)

static void pass(struct foil_worker *w, struct mesh_grpc_messages *g, const char *data, uint32_t n)
{
	struct foil_chain c = {0};

	assert_int_equal(foil_chain_append(w, &c, data, n), 0);
	mesh_grpc_count(g, &c);
	foil_chain_clear(&c);
}

static void test_messages_are_counted_wherever_the_body_is_cut(void **state)
{
	struct foil_worker *w = t_worker();

	for (uint32_t step = 1; step <= BODY_BYTES; step++) {
		struct mesh_grpc_messages g = {0};
		for (uint32_t at = 0; at < BODY_BYTES; at += step)
			pass(w, &g, &body[at], FOIL_MIN(step, (uint32_t)BODY_BYTES - at));
		assert_int_equal(g.n, 3);
		assert_int_equal(g.n_left, 257);
		assert_int_equal(g.n_head, 0);
	}
	t_worker_free(w);
}

static void test_a_message_counts_with_its_first_byte(void **state)
{
	struct foil_worker *w = t_worker();
	struct mesh_grpc_messages g = {0};
	struct foil_chain none = {0};

	mesh_grpc_count(&g, &none);
	assert_int_equal(g.n, 0);
	pass(w, &g, "\0", 1);
	assert_int_equal(g.n, 1);
	pass(w, &g, "\377\377\377\377abc", 7); /* four gigabytes, as it says: nothing more begins */
	assert_int_equal(g.n, 1);
	assert_int_equal(g.n_left, UINT32_MAX - 3);
	t_worker_free(w);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages_are_counted_wherever_the_body_is_cut),
		cmocka_unit_test(test_a_message_counts_with_its_first_byte),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
