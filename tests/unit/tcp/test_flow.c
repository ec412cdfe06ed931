/* flow.c and pool.c: look-ups in a full table, removal from chains that passed buckets, limits. */
#include "dataplane/tcp/tcp_priv.h"
#include "tests/unit/support.h"

#define N 2000u

static struct tcp_ctx *table(uint32_t n_max)
{
	static struct tcp_ctx t;

	memset(&t, 0, sizeof(t));
	assert_int_equal(tcp_flow_init(&t.flow, n_max), 0);
	assert_int_equal(tcp_pool_init(&t.syns, n_max, sizeof(struct tcp_syn)), 0);
	assert_int_equal(tcp_pool_init(&t.tws, n_max, sizeof(struct tcp_tw)), 0);
	return &t;
}

static void table_free(struct tcp_ctx *t)
{
	tcp_flow_fini(&t->flow);
	tcp_pool_fini(&t->syns);
	tcp_pool_fini(&t->tws);
}

static struct tcp_syn *put(struct tcp_ctx *t, uint16_t port, uint32_t hash)
{
	struct tcp_syn *y = tcp_pool_get(&t->syns);

	assert_non_null(y);
	y->key.remote.port = port;
	assert_true(tcp_flow_add(t, hash, TCP_KIND_SYN, y));
	return y;
}

static void *find(struct tcp_ctx *t, uint16_t port, uint32_t hash)
{
	struct tcp_key key = {.remote.port = port};
	void *block = NULL;

	return tcp_flow_find(t, &key, hash, &block) == TCP_KIND_SYN ? block : NULL;
}

static void test_every_entry_is_found_and_no_other(void **state)
{
	struct tcp_ctx *t = table(N);
	struct tcp_syn *y[N];

	for (uint32_t i = 0; i < N; i++)
		y[i] = put(t, (uint16_t)(i + 1), i * 2654435761u);
	for (uint32_t i = 0; i < N; i++)
		assert_ptr_equal(find(t, (uint16_t)(i + 1), i * 2654435761u), y[i]);
	assert_null(find(t, N + 1, 12345));
	assert_null(find(t, 1, 12345)); /* the key in another bucket */
	table_free(t);
}

static void test_entries_that_share_a_hash_overflow_and_come_back(void **state)
{
	struct tcp_ctx *t = table(N);
	struct tcp_syn *y[100];

	for (uint16_t i = 0; i < 100; i++)
		y[i] = put(t, (uint16_t)(i + 1), 42); /* all want one bucket of seven */
	for (uint16_t i = 0; i < 100; i += 2)
		tcp_flow_remove(t, 42, TCP_KIND_SYN, y[i]);
	for (uint16_t i = 0; i < 100; i++)
		assert_ptr_equal(find(t, (uint16_t)(i + 1), 42), i % 2 ? y[i] : NULL);
	for (uint16_t i = 1; i < 100; i += 2)
		tcp_flow_remove(t, 42, TCP_KIND_SYN, y[i]);
	assert_int_equal(t->flow.n_entries, 0);
	assert_null(find(t, 2, 42));
	table_free(t);
}

static void test_the_last_bucket_overflows_into_the_first(void **state)
{
	struct tcp_ctx *t = table(16);
	struct tcp_syn *y[10];

	for (uint16_t i = 0; i < 10; i++)
		y[i] = put(t, (uint16_t)(i + 1), t->flow.mask);
	for (uint16_t i = 0; i < 10; i++)
		assert_ptr_equal(find(t, (uint16_t)(i + 1), t->flow.mask), y[i]);
	for (uint16_t i = 0; i < 10; i++)
		tcp_flow_remove(t, t->flow.mask, TCP_KIND_SYN, y[i]);
	table_free(t);
}

static void test_a_full_table_says_so(void **state)
{
	struct tcp_ctx *t = table(8);
	struct tcp_tw *tw = tcp_pool_get(&t->tws);

	for (uint16_t i = 0; i < 8; i++)
		(void)put(t, (uint16_t)(i + 1), i);
	assert_false(tcp_flow_add(t, 9, TCP_KIND_TW, tw));
	assert_null(tcp_pool_get(&t->syns));
	table_free(t);
}

static void test_a_pool_gives_zeroed_blocks_the_last_freed_first(void **state)
{
	struct tcp_pool p;

	assert_int_equal(tcp_pool_init(&p, 3, 100), 0);
	uint8_t *a = tcp_pool_get(&p), *b = tcp_pool_get(&p);
	assert_int_equal(tcp_pool_index(&p, b), 1);
	assert_ptr_equal(tcp_pool_at(&p, 1), b);
	memset(a, 0xff, 100);
	tcp_pool_put(&p, a);
	uint8_t *c = tcp_pool_get(&p);
	assert_ptr_equal(c, a);
	for (int i = 0; i < 100; i++)
		assert_int_equal(c[i], 0);
	assert_non_null(tcp_pool_get(&p));
	assert_null(tcp_pool_get(&p));
	tcp_pool_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_entry_is_found_and_no_other),
		cmocka_unit_test(test_entries_that_share_a_hash_overflow_and_come_back),
		cmocka_unit_test(test_the_last_bucket_overflows_into_the_first),
		cmocka_unit_test(test_a_full_table_says_so),
		cmocka_unit_test(test_a_pool_gives_zeroed_blocks_the_last_freed_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
