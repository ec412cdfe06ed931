/* The flow table by itself: a burst of look-ups as tcp_input_burst makes them, among ever more connections; warm caches, as they are. */
#include <stdio.h>

#include "perf/micro/micro.h"

static bool fill(struct tcp_ctx *t, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct tcp_conn *c = tcp_pool_get(&t->conns);
		struct tcp_key k = rig_key(i);
		if (!c)
			return false;
		memcpy(&c->s.local, &k, sizeof(k));
		if (!tcp_flow_add(t, tcp_flow_hash(t, &k), TCP_KIND_CONN, c))
			return false;
	}
	return true;
}

static void look_up(struct micro *m, const struct tcp_ctx *t, uint32_t n, const char *name)
{
	uint32_t state = 1;

	for (int burst = 0; burst < MICRO_BURSTS; burst++) {
		struct tcp_key keys[RIG_BURST];
		uint32_t hashes[RIG_BURST];
		for (uint32_t i = 0; i < RIG_BURST; i++) {
			state = state * 1664525 + 1013904223;
			keys[i] = rig_key((uint32_t)((uint64_t)state * n >> 32));
		}
		uint64_t before = rig_cycles();
		for (uint32_t i = 0; i < RIG_BURST; i++) {
			hashes[i] = tcp_flow_hash(t, &keys[i]);
			tcp_flow_prefetch_bucket(&t->flow, hashes[i]);
		}
		for (uint32_t i = 0; i < RIG_BURST; i++)
			tcp_flow_prefetch_block(t, hashes[i]);
		for (uint32_t i = 0; i < RIG_BURST; i++) {
			void *block;
			FOIL_ASSERT(tcp_flow_find(t, &keys[i], hashes[i], &block) == TCP_KIND_CONN);
		}
		rig_note(&m->figures, rig_cycles() - before);
	}
	micro_say(m, name, RIG_BURST);
}

void micro_flow(struct micro *m)
{
	static const struct {
		uint32_t n;
		const char *name;
	} sizes[] = {{1000, "flow.lookup_1k"}, {100000, "flow.lookup_100k"}, {1000000, "flow.lookup_1m"}};

	for (size_t i = 0; i < FOIL_COUNT_OF(sizes); i++) {
		struct tcp_ctx t = {.flow_key = {1, 2}};
		if (tcp_flow_init(&t.flow, sizes[i].n) || tcp_pool_init(&t.conns, sizes[i].n, sizeof(struct tcp_conn)) || !fill(&t, sizes[i].n))
			fprintf(stderr, "foil-micro: no memory for %u connections\n", sizes[i].n);
		else
			look_up(m, &t, sizes[i].n, sizes[i].name);
		tcp_pool_fini(&t.conns);
		tcp_flow_fini(&t.flow);
	}
}
