/* bench_flows [--flows N] [--churn N]: how many connections one worker holds, and what each costs (docs/memory.md).
 * Opens N (1,000,000) connections by real handshakes, idle ones with a keepalive timer armed, and looks at four sizes of the table on the
 * way: cycles of a handshake, of a look-up in a burst, of a segment through the whole of the input, of arming a timer. Then: bytes each
 * by the process's resident memory; a full table refuses, with its reason, and harms nobody; TIME-WAIT; --churn opens and closes that many
 * more and looks for what is left. Ends with 1 when a bound is broken.
 *
 * "Flat" is of what the code does. Before each burst the lines that it will read are flushed, so that a look-up misses the caches as often
 * in a table of a thousand as in one of a million; and what the memory alone takes for that many lines at that size ("memory": the same
 * lines of the same flows, prefetched and read, nothing else) is taken off. What is left is bounded. */
#include <stdio.h>
#include <stdlib.h>

#include "perf/rig.h"

#define MAX_BYTES_EACH 1024u
#define MAX_TW_BYTES_EACH 64u
#define FLAT_PERCENT 20u
#define N_SAMPLES 200000u
#define FIND_LINES 4u /* of a block, that the look-up prefetches */
#define MAX_TIMER_CYCLES 150

static struct rig rig;
static struct rig_figures figures;
static bool failed;

struct figures {
	uint32_t n;
	double open, find, find_memory, find_warm, segment, segment_memory, timer;
};

static void bound(bool holds, const char *what)
{
	printf("%s %s\n", holds ? "ok    " : "BROKEN", what);
	failed |= !holds;
}

static uint32_t next_id(uint32_t *state, uint32_t n)
{
	*state = *state * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)*state * n >> 32);
}

static void flush_block(const void *block, size_t n_bytes)
{
	for (size_t at = 0; at < n_bytes; at += 64)
		_mm_clflush((const uint8_t *)block + at);
}

static const uint8_t *bucket_of(uint32_t hash)
{
	return (const uint8_t *)rig.w.tcp->flow.buckets + (size_t)(hash & rig.w.tcp->flow.mask) * 64;
}

static void flush_flow(uint32_t id)
{
	struct tcp_key k = rig_key(id);
	struct tcp_conn *c = rig_conn(&rig, id);

	_mm_clflush(bucket_of(tcp_flow_hash(rig.w.tcp, &k)));
	flush_block(c, sizeof(*c));
}

/* The look-up as tcp_input_burst does it. */
static uint64_t find_burst(const struct tcp_key *keys)
{
	struct tcp_ctx *t = rig.w.tcp;
	uint32_t hashes[RIG_BURST];
	uint64_t before = rig_cycles();
	void *block;

	for (uint32_t i = 0; i < RIG_BURST; i++) {
		hashes[i] = tcp_flow_hash(t, &keys[i]);
		tcp_flow_prefetch_bucket(&t->flow, hashes[i]);
	}
	for (uint32_t i = 0; i < TCP_FLOW_AHEAD; i++)
		tcp_flow_prefetch_block(t, hashes[i]);
	for (uint32_t i = 0; i < RIG_BURST; i++) {
		if (i + TCP_FLOW_AHEAD < RIG_BURST)
			tcp_flow_prefetch_block(t, hashes[i + TCP_FLOW_AHEAD]);
		FOIL_ASSERT(tcp_flow_find(t, &keys[i], hashes[i], &block) == TCP_KIND_CONN);
	}
	return rig_cycles() - before;
}

static double find_cycles(uint32_t n_flows, bool is_cold)
{
	uint32_t state = 1;

	figures.n = 0;
	for (uint32_t n_done = 0; n_done < N_SAMPLES; n_done += RIG_BURST) {
		struct tcp_key keys[RIG_BURST];
		for (uint32_t i = 0; i < RIG_BURST; i++) {
			uint32_t id = next_id(&state, n_flows);
			keys[i] = rig_key(id);
			if (is_cold)
				flush_flow(id);
		}
		_mm_mfence();
		rig_note(&figures, find_burst(keys));
	}
	return rig_middle(&figures) / RIG_BURST;
}

/* A segment of one byte through net and tcp, with the ACK that it brings. A thousand flows get fifty each, evenly from all of the table;
 * at each size others, new ones, so that all have the same to do. */
static double segment_cycles(uint32_t n_flows, uint32_t nth)
{
	uint32_t state = 2;

	figures.n = 0;
	for (uint32_t n_done = 0; n_done < N_SAMPLES / 4; n_done += RIG_BURST) {
		struct rte_mbuf *pkts[RIG_BURST];
		uint32_t ids[RIG_BURST];
		for (uint32_t i = 0; i < RIG_BURST; i++) {
			ids[i] = next_id(&state, 1000) * (n_flows / 1000) + (n_flows > 1000 ? nth : 0);
			const struct tcp_conn *c = rig_conn(&rig, ids[i]);
			uint32_t seq = c->rcv_nxt;
			for (uint32_t k = 0; k < i; k++)
				seq += ids[k] == ids[i];
			pkts[i] = rig_seg(&rig, ids[i], RTE_TCP_ACK_FLAG, seq, c->snd_nxt, 1);
		}
		for (uint32_t i = 0; i < RIG_BURST; i++)
			flush_flow(ids[i]);
		_mm_mfence();
		uint64_t before = rig_cycles();
		rig_turn(&rig, pkts, RIG_BURST);
		rig_note(&figures, rig_cycles() - before);
		rig.w.now_us += 20;
	}
	return rig_middle(&figures) / RIG_BURST;
}

/* What the lines of a burst of flows cost by themselves: n_lines of each block and the bucket. */
static double memory_cycles(uint32_t n_flows, uint32_t n_lines)
{
	uint32_t state = 1;
	uint64_t sum = 0;

	figures.n = 0;
	for (uint32_t n_done = 0; n_done < N_SAMPLES; n_done += RIG_BURST) {
		const uint8_t *buckets[RIG_BURST], *blocks[RIG_BURST];
		for (uint32_t i = 0; i < RIG_BURST; i++) {
			uint32_t id = next_id(&state, n_flows);
			const struct tcp_conn *c = rig_conn(&rig, id);
			buckets[i] = bucket_of(c->hash);
			blocks[i] = (const uint8_t *)c;
			flush_flow(id);
		}
		_mm_mfence();
		uint64_t before = rig_cycles();
		for (uint32_t i = 0; i < RIG_BURST; i++)
			__builtin_prefetch(buckets[i]);
		for (uint32_t i = 0; i < RIG_BURST; i++) {
			sum += *(const uint64_t *)(const void *)buckets[i];
			for (uint32_t k = 0; k < n_lines; k++)
				__builtin_prefetch(blocks[i] + (size_t)k * 64);
		}
		for (uint32_t i = 0; i < RIG_BURST; i++)
			for (uint32_t k = 0; k < n_lines; k++)
				sum += *(const uint64_t *)(const void *)(blocks[i] + (size_t)k * 64);
		__asm__ volatile("" : : "r"(sum)); /* read, and not optimised away */
		rig_note(&figures, rig_cycles() - before);
	}
	return rig_middle(&figures) / RIG_BURST;
}

static void no_op(struct foil_worker *w, struct foil_timer *t)
{
}

/* Armed and cancelled among as many as there are connections, near and far. */
static double timer_cycles(void)
{
	struct foil_timer timers[256] = {{0}};
	uint32_t state = 3;

	figures.n = 0;
	for (uint32_t n_done = 0; n_done < N_SAMPLES; n_done += 256) {
		uint64_t at_us[256];
		for (uint32_t i = 0; i < 256; i++)
			at_us[i] = rig.w.now_us + 1000 + next_id(&state, 200000000);
		uint64_t before = rig_cycles();
		for (uint32_t i = 0; i < 256; i++)
			foil_timer_arm(&rig.w, &timers[i], at_us[i], no_op);
		for (uint32_t i = 0; i < 256; i++)
			foil_timer_cancel(&rig.w, &timers[i]);
		rig_note(&figures, rig_cycles() - before);
	}
	return rig_middle(&figures) / 256;
}

static struct figures measure(uint32_t n, double open_cycles, uint32_t nth)
{
	struct figures f = {.n = n, .open = open_cycles};

	f.find = find_cycles(n, true);
	for (int i = 0; i < 2; i++) /* the best of three */
		f.find = FOIL_MIN(f.find, find_cycles(n, true));
	f.find_memory = memory_cycles(n, FIND_LINES);
	f.find_warm = find_cycles(n, false);
	f.segment = segment_cycles(n, nth);
	f.segment_memory = memory_cycles(n, sizeof(struct tcp_conn) / 64);
	f.timer = timer_cycles();
	printf("%9u %9.0f %9.0f %9.0f %9.0f %9.0f %9.0f %9.0f\n", f.n, f.open, f.find, f.find_memory, f.find_warm, f.segment, f.segment_memory, f.timer);
	fflush(stdout);
	return f;
}

static bool is_flat(double small, double large)
{
	return large <= small * (100 + FLAT_PERCENT) / 100;
}

static void check_flat(const struct figures *small, const struct figures *large)
{
	bound(is_flat(small->open, large->open), "a handshake costs the same at every size");
	bound(is_flat(small->find, large->find - FOIL_MAX(large->find_memory - small->find_memory, 0)),
	      "a look-up costs the same at every size, but for what the memory takes");
	bound(is_flat(small->segment, large->segment - FOIL_MAX(large->segment_memory - small->segment_memory, 0)),
	      "a segment costs the same at every size, but for what the memory takes");
	bound(large->timer < MAX_TIMER_CYCLES, "a timer costs no more than a cache miss among a million");
}

static void check_full(uint32_t n)
{
	const uint64_t *exhausted = &rig.w.why[FOIL_ROOM_TCP][TCP_REASON_CONNS_EXHAUSTED];
	uint64_t before = *exhausted, n_tx = rig.n_tx;
	struct rte_mbuf *m = rig_seg(&rig, n, RTE_TCP_SYN_FLAG, RIG_PEER_ISN, 0, 0);

	rig_turn(&rig, &m, 1);
	bound(*exhausted == before + 1 && rig.n_tx == n_tx && rig.w.tcp->conns.n_used == n, "a full table refuses one more, with its reason");
	uint32_t state = 4, n_good = 0;
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t id = next_id(&state, n);
		struct tcp_conn *c = rig_conn(&rig, id);
		uint32_t rcv_nxt = c ? c->rcv_nxt : 0;
		m = rig_seg(&rig, id, RTE_TCP_ACK_FLAG, rcv_nxt, c ? c->snd_nxt : 0, 100);
		rig_turn(&rig, &m, 1);
		n_good += c && c->rcv_nxt == rcv_nxt + 100;
	}
	bound(n_good == 1000, "and a thousand of the established take their bytes as before");
}

/* Our side closes first: FIN, its ACK, the peer's FIN, and the block is a small one. */
static void close_to_time_wait(uint32_t from, uint32_t n)
{
	for (uint32_t id = from; id < from + n; id++) {
		struct tcp_conn *c = rig_conn(&rig, id);
		stream_release(&rig.w, &c->s);
		rig_turn(&rig, NULL, 0);
		struct rte_mbuf *m = rig_seg(&rig, id, RTE_TCP_FIN_FLAG | RTE_TCP_ACK_FLAG, c->rcv_nxt, c->snd_nxt, 0);
		rig_turn(&rig, &m, 1);
	}
}

static void check_time_wait(uint32_t from, uint32_t n)
{
	uint64_t before = rig_rss_bytes();

	close_to_time_wait(from, n);
	uint64_t grown = rig_rss_bytes() - before;
	printf("%u in TIME-WAIT: %u bytes each by the block, %llu by what became resident\n", n, rig.w.tcp->tws.block_bytes,
	       (unsigned long long)(grown / n));
	bound(rig.w.tcp->tws.n_used == n && rig.w.tcp->tws.block_bytes < MAX_TW_BYTES_EACH, "a connection in TIME-WAIT is smaller than 64 bytes");
	rig_wait(&rig, 2 * rig.w.tcp->p.msl_us + 1000000);
	bound(rig.w.tcp->tws.n_used == 0, "and is gone after 2 MSL");
}

static void check_churn(uint64_t n)
{
	uint32_t n_mbufs = rte_mempool_avail_count(rig.w.mbuf_pool), n_conns = rig.w.tcp->conns.n_used, n_entries = rig.w.tcp->flow.n_entries;
	uint64_t rss = 0;

	for (uint64_t done = 0; done < n; done += RIG_BURST) {
		struct rte_mbuf *pkts[RIG_BURST];
		(void)rig_open(&rig, 0, RIG_BURST);
		for (uint32_t i = 0; i < RIG_BURST; i++)
			pkts[i] = rig_seg(&rig, i, RTE_TCP_RST_FLAG, RIG_PEER_ISN + 1, 0, 0);
		rig_turn(&rig, pkts, RIG_BURST);
		if (done == 0)
			rss = rig_rss_bytes();
	}
	printf("%llu opened and closed; resident memory grew by %lld KiB\n", (unsigned long long)n, (long long)(rig_rss_bytes() - rss) / 1024);
	bound(rig.w.tcp->conns.n_used == n_conns && rig.w.tcp->flow.n_entries == n_entries && rig.w.tcp->syns.n_used == 0 &&
		      rte_mempool_avail_count(rig.w.mbuf_pool) == n_mbufs && rig_rss_bytes() <= rss + (1u << 20),
	      "nothing is left of them");
}

static uint64_t number(int argc, char **argv, const char *name, uint64_t otherwise)
{
	for (int i = 1; i + 1 < argc; i += 2)
		if (strcmp(argv[i], name) == 0)
			return strtoull(argv[i + 1], NULL, 10);
	return otherwise;
}

int main(int argc, char **argv)
{
	uint32_t n_max = (uint32_t)number(argc, argv, "--flows", 1000000), n_tw = FOIL_MIN(n_max / 10, 65536u), n = 0;
	uint64_t n_churn = number(argc, argv, "--churn", 0);
	struct tcp_params p = {.conns_max = n_max, .time_wait_max = n_tw, .syn_backlog_max = 4096, .keepalive_idle_us = 7200000000ull};
	struct figures first = {0}, last = {0};
	uint32_t nth = 0;

	if (n_max < 1000 || n_max > 10000000) {
		fprintf(stderr, "bench_flows: --flows from 1000 to 10000000\n");
		return 2;
	}
	rig_start(&rig, &p, 4095, n_max + 1);
	(void)rig_open(&rig, 0, 512); /* code, page tables and neighbours are warm */
	uint64_t rss_before = rig_rss_bytes();
	n = 512;
	printf("cycles each: a handshake, a look-up in a burst (and what the memory takes of it; and from warm caches), a segment with its ACK "
	       "(memory), a timer armed and cancelled\n");
	printf("%9s %9s %9s %9s %9s %9s %9s %9s\n", "flows", "open", "find", "memory", "warm", "segment", "memory", "timer");
	for (uint32_t to = 1000; n < n_max; to = FOIL_MIN(to * 10, n_max)) {
		uint32_t n_opened = to - n, n_timed = FOIL_MIN(n_opened, 50000u);
		if (n_opened > n_timed)
			(void)rig_open(&rig, n, n_opened - n_timed);
		double cycles = rig_open(&rig, to - n_timed, n_timed);
		n = to;
		last = measure(n, cycles, nth++);
		if (!first.n)
			first = last;
	}
	uint64_t bytes_each = (rig_rss_bytes() - rss_before) / (n - 512);
	printf("%u connections: %llu bytes each resident; the block has %u, its share of the flow table %llu\n", n, (unsigned long long)bytes_each,
	       rig.w.tcp->conns.block_bytes, ((unsigned long long)rig.w.tcp->flow.mask + 1) * 64 / n);
	bound(rig.n_accepted == n && rig.n_closed == 0, "all are established");
	bound(bytes_each < MAX_BYTES_EACH, "an idle connection takes less than 1 KB");
	check_flat(&first, &last);
	check_full(n);
	check_time_wait(0, n_tw);
	if (n_churn)
		check_churn(n_churn);
	rig_stop(&rig);
	return failed;
}
