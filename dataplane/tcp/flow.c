/* The flow table of one worker: connections, half-open connections and TIME-WAIT blocks by addresses and ports.
 *
 * Open addressing in buckets of one cache line: seven entries of (hash, kind and index) and a count of the entries that found
 * this bucket full and went on. A look-up leaves at the first bucket that nobody passed over. The hash is SipHash-1-3 with a
 * key of this worker, so that no stranger can choose colliding ports. The key itself is compared in the block, which the
 * segment needs next anyway.
 * Invariant: an entry lies in the first bucket, from its home on, that had room when it was added; each bucket before it counts it. */
#include <emmintrin.h>
#include <errno.h>
#include <sys/mman.h>

#include "dataplane/tcp/tcp_priv.h"

#define TCP_FLOW_KIND_SHIFT 30u
#define TCP_FLOW_INDEX_MASK ((1u << TCP_FLOW_KIND_SHIFT) - 1)

struct tcp_flow_bucket {
	uint32_t hash[TCP_FLOW_ENTRIES_PER_BUCKET];
	uint32_t handle[TCP_FLOW_ENTRIES_PER_BUCKET]; /* kind << 30 | index; 0 = free */
	uint32_t n_passed;
	uint32_t unused;
} FOIL_CACHE_ALIGNED;
static_assert(sizeof(struct tcp_flow_bucket) == 64, "one cache line a bucket");

static size_t table_bytes(const struct tcp_flow *f)
{
	return ((size_t)f->mask + 1) * sizeof(struct tcp_flow_bucket);
}

int tcp_flow_init(struct tcp_flow *f, uint32_t n_entries_max)
{
	uint32_t n_buckets = 16;

	while (n_buckets < n_entries_max / 3) /* at most three of seven entries used on average */
		n_buckets *= 2;
	*f = (struct tcp_flow){.mask = n_buckets - 1, .n_entries_max = n_entries_max};
	void *base = mmap(NULL, table_bytes(f), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -ENOMEM;
	if (table_bytes(f) >= 8 * (size_t)TCP_HUGE_PAGE_BYTES) /* each look-up goes somewhere else: with small pages it would miss the TLB, too */
		(void)madvise(base, table_bytes(f), MADV_HUGEPAGE); /* a kernel without them serves small pages */
	f->buckets = base;
	return 0;
}

void tcp_flow_fini(struct tcp_flow *f)
{
	if (f->buckets)
		(void)munmap(f->buckets, table_bytes(f)); /* cannot fail for what mmap gave */
	*f = (struct tcp_flow){0};
}

uint32_t tcp_flow_hash(const struct tcp_ctx *t, const struct tcp_key *key)
{
	const uint8_t *local = key->local.ip, *remote = key->remote.ip;
	uint64_t ports = key->local.port | (uint64_t)key->remote.port << 16;
	uint64_t words[5] = {foil_load_4(&local[12]) | (uint64_t)foil_load_4(&remote[12]) << 32, ports};

	if (FOIL_LIKELY(net_addr_is_v4(tcp_addr(&key->local))))
		return (uint32_t)foil_siphash_words(&t->flow_key, words, 2);
	words[0] = foil_load_8(local);
	words[1] = foil_load_8(&local[8]);
	words[2] = foil_load_8(remote);
	words[3] = foil_load_8(&remote[8]);
	words[4] = ports;
	return (uint32_t)foil_siphash_words(&t->flow_key, words, 5);
}

static const struct tcp_pool *pool_of(const struct tcp_ctx *t, enum tcp_kind kind)
{
	switch (kind) {
	case TCP_KIND_CONN:
		return &t->conns;
	case TCP_KIND_SYN:
		return &t->syns;
	case TCP_KIND_TW:
		return &t->tws;
	case TCP_KIND_NONE:
		break;
	}
	FOIL_UNREACHABLE();
}

const struct tcp_key *tcp_flow_key(enum tcp_kind kind, const void *block)
{
	switch (kind) {
	case TCP_KIND_CONN:
		return tcp_conn_key(block);
	case TCP_KIND_SYN:
		return &((const struct tcp_syn *)block)->key;
	case TCP_KIND_TW:
		return &((const struct tcp_tw *)block)->key;
	case TCP_KIND_NONE:
		break;
	}
	FOIL_UNREACHABLE();
}

static uint32_t handle_of(const struct tcp_ctx *t, enum tcp_kind kind, const void *block)
{
	return (uint32_t)kind << TCP_FLOW_KIND_SHIFT | tcp_pool_index(pool_of(t, kind), block);
}

/* Bit i: place i has this hash. Without a branch for each: in a full table which place it is cannot be predicted. */
static uint32_t matches(const struct tcp_flow_bucket *b, uint32_t hash)
{
	const __m128i wanted = _mm_set1_epi32((int)hash);
	__m128i low = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)(const void *)b->hash), wanted);
	__m128i high = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)(const void *)(b->hash + 3)), wanted); /* place 3 again, and 4 to 6 */

	return (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(low)) | (uint32_t)(_mm_movemask_ps(_mm_castsi128_ps(high)) & 14) << 3;
}

static void *block_of(const struct tcp_ctx *t, uint32_t handle)
{
	return tcp_pool_at(pool_of(t, (enum tcp_kind)(handle >> TCP_FLOW_KIND_SHIFT)), handle & TCP_FLOW_INDEX_MASK);
}

static inline bool is_key(const struct tcp_key *a, const struct tcp_key *b)
{
	const uint8_t *p = (const uint8_t *)a, *q = (const uint8_t *)b;

	return foil_equal(p, q, 16) && foil_equal(&p[16], &q[16], 16) && foil_load_4(&p[32]) == foil_load_4(&q[32]);
}

enum tcp_kind tcp_flow_find(const struct tcp_ctx *t, const struct tcp_key *key, uint32_t hash, void **block)
{
	const struct tcp_flow *f = &t->flow;

	for (uint32_t n = 0; n <= f->mask; n++) {
		const struct tcp_flow_bucket *b = &f->buckets[(hash + n) & f->mask];
		for (uint32_t left = matches(b, hash); left; left &= left - 1) {
			uint32_t handle = b->handle[__builtin_ctz(left)];
			if (FOIL_UNLIKELY(!handle)) /* free, with the hash of who was here */
				continue;
			enum tcp_kind kind = (enum tcp_kind)(handle >> TCP_FLOW_KIND_SHIFT);
			void *candidate = block_of(t, handle);
			if (is_key(tcp_flow_key(kind, candidate), key)) {
				*block = candidate;
				return kind;
			}
		}
		if (!b->n_passed)
			return TCP_KIND_NONE;
	}
	return TCP_KIND_NONE;
}

int tcp_flow_bucket(const struct tcp_ctx *t, uint32_t at, enum tcp_kind kinds[TCP_FLOW_ENTRIES_PER_BUCKET],
		    const void *blocks[TCP_FLOW_ENTRIES_PER_BUCKET])
{
	int n = 0;

	if (at > t->flow.mask)
		return -1;
	for (uint32_t i = 0; i < TCP_FLOW_ENTRIES_PER_BUCKET; i++) {
		uint32_t handle = t->flow.buckets[at].handle[i];
		if (!handle)
			continue;
		kinds[n] = (enum tcp_kind)(handle >> TCP_FLOW_KIND_SHIFT);
		blocks[n++] = block_of(t, handle);
	}
	return n;
}

bool tcp_flow_add(struct tcp_ctx *t, uint32_t hash, enum tcp_kind kind, const void *block)
{
	struct tcp_flow *f = &t->flow;

	if (f->n_entries >= f->n_entries_max)
		return false;
	for (uint32_t n = 0;; n++) { /* ends: fewer entries than places */
		struct tcp_flow_bucket *b = &f->buckets[(hash + n) & f->mask];
		for (uint32_t i = 0; i < TCP_FLOW_ENTRIES_PER_BUCKET; i++) {
			if (b->handle[i])
				continue;
			b->hash[i] = hash;
			b->handle[i] = handle_of(t, kind, block);
			f->n_entries++;
			return true;
		}
		b->n_passed++;
	}
}

void tcp_flow_remove(struct tcp_ctx *t, uint32_t hash, enum tcp_kind kind, const void *block)
{
	struct tcp_flow *f = &t->flow;
	uint32_t handle = handle_of(t, kind, block);

	for (uint32_t n = 0; n <= f->mask; n++) {
		struct tcp_flow_bucket *b = &f->buckets[(hash + n) & f->mask];
		for (uint32_t i = 0; i < TCP_FLOW_ENTRIES_PER_BUCKET; i++) {
			if (b->handle[i] != handle || b->hash[i] != hash)
				continue;
			b->handle[i] = 0;
			f->n_entries--;
			return;
		}
		FOIL_ASSERT(b->n_passed > 0);
		b->n_passed--;
	}
	FOIL_UNREACHABLE();
}

void tcp_flow_prefetch_bucket(const struct tcp_flow *f, uint32_t hash)
{
	__builtin_prefetch(&f->buckets[hash & f->mask]);
}

void tcp_flow_prefetch_block(const struct tcp_ctx *t, uint32_t hash)
{
	const struct tcp_flow_bucket *b = &t->flow.buckets[hash & t->flow.mask];

	for (uint32_t left = matches(b, hash); left; left &= left - 1) {
		uint32_t handle = b->handle[__builtin_ctz(left)];
		if (FOIL_UNLIKELY(!handle))
			continue;
		const uint8_t *p = block_of(t, handle);
		__builtin_prefetch(p);
		__builtin_prefetch(p + 64);
		__builtin_prefetch(p + 128);
		__builtin_prefetch(p + 192);
	}
}
