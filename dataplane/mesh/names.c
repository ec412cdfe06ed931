/* The table of one worker's names and its two rings. Invariants: a name is in exactly one of the lists good, bad and fresh, and in its bucket; who waits,
 * waits at a name that is being asked; n_asked is the number of names that are; each ring has one writer and one reader, and its slots belong to the writer
 * from head + NAMES_RING on. */
#include "dataplane/mesh/names.h"

#include <errno.h>
#include <stdlib.h>

#include "dataplane/core/siphash.h"
#include "dataplane/mesh/addr_priv.h"
#include "dataplane/mesh/runtime.h"

#define NAMES_RING 64u            /* slots; a power of two */
#define TIMEOUT_US 5000000u       /* Envoy's dns_query_timeout */
#define ASK_AGAIN_US 1000000u     /* until then: the agent may have been gone, or a ring full */
#define SOON_US 20000u            /* a ring that is full now */
#define TTL_MIN_US 5000000u       /* Envoy's dns_min_refresh_rate */
#define UNUSED_US 300000000u      /* Envoy's host_ttl */
#define NONE_US 5000000u          /* how long it is believed that there is none */
#define FAILED_US 1000000u        /* the same, where nobody could say so */

struct question {
	char name[MESH_NAME_BYTES];
};
struct mesh_name_post {
	FOIL_CACHE_ALIGNED uint32_t question_tail; /* the worker's */
	FOIL_CACHE_ALIGNED uint32_t question_head; /* housekeeping's */
	FOIL_CACHE_ALIGNED uint32_t answer_tail;   /* housekeeping's */
	FOIL_CACHE_ALIGNED uint32_t answer_head;   /* the worker's */
	FOIL_CACHE_ALIGNED struct question questions[NAMES_RING];
	struct mesh_name_answer answers[NAMES_RING];
};

struct mesh_name {
	struct mesh_list node;    /* good, bad or fresh */
	struct mesh_list waiters;
	struct mesh_name *next;   /* same bucket */
	struct foil_timer timer;  /* to ask again, to give up, or to forget it */
	uint64_t hash, used_us, ends_us; /* ends: of the question at hand */
	enum mesh_name_result verdict;   /* of a bad one */
	bool is_asked;
	uint8_t n_addresses, at;  /* which of them is used */
	uint8_t ip[MESH_NAME_ADDRESSES_MAX][16];
	uint32_t n_bytes;
	char text[MESH_NAME_BYTES];
};

size_t mesh_name_post_bytes(void)
{
	return sizeof(struct mesh_name_post);
}

/* ---- what can be a name, and what an address that strangers may choose ---- */
static bool is_label_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Letters, digits, hyphens and underscores; the last label is not a number, which resolvers take for an old way of writing addresses. Lower case and without
 * the last dot in out. 0: it is none. */
static uint32_t name_of(struct foil_slice host, char out[MESH_NAME_BYTES])
{
	uint32_t n = host.n_bytes, n_label = 0, n_digits = 0;

	if (n && host.data[n - 1] == '.')
		n--;
	if (n == 0 || n > 253)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		char c = foil_ascii_lower(host.data[i]);
		bool is_end = i + 1 == n || host.data[i + 1] == '.';
		out[i] = c;
		if (c == '.') {
			if (n_label == 0)
				return 0;
			n_label = n_digits = 0;
			continue;
		}
		if (!is_label_byte(c) || ++n_label > 63 || (c == '-' && (n_label == 1 || is_end)))
			return 0;
		n_digits += c >= '0' && c <= '9';
	}
	out[n] = 0;
	return n_label && n_label != n_digits ? n : 0;
}

/* No station has it: ourselves, nobody, everybody. */
static bool is_nobody(const uint8_t ip[16])
{
	static const uint8_t zeros[16], v4[12] = {[10] = 0xff, [11] = 0xff};

	if (memcmp(ip, v4, sizeof(v4)) == 0)
		return ip[12] == 0 || ip[12] == 127 || ip[12] >= 224;
	return ip[0] == 0xff || (memcmp(ip, zeros, 15) == 0 && ip[15] <= 1);
}

static bool is_one_refused(const struct mesh_cidr *refused, uint16_t n, const uint8_t ip[16])
{
	for (uint16_t i = 0; i < n; i++)
		if (mesh_cidr_has(&refused[i], ip))
			return true;
	return is_nobody(ip);
}

/* An IPv6 address that a translator takes for an IPv4 one (RFC 6052) counts as both; so does one of the old form ::a.b.c.d. */
static bool is_refused(const struct mesh_cidr *refused, uint16_t n, const uint8_t ip[16])
{
	static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b}, zeros[12];
	uint8_t v4[16] = {[10] = 0xff, [11] = 0xff};

	if (is_one_refused(refused, n, ip))
		return true;
	if (memcmp(ip, nat64, sizeof(nat64)) != 0 && memcmp(ip, zeros, sizeof(zeros)) != 0)
		return false;
	memcpy(v4 + 12, ip + 12, 4);
	return is_one_refused(refused, n, v4);
}

enum mesh_reason mesh_name_reason(enum mesh_name_result result)
{
	switch (result) {
	case MESH_NAME_BAD:
	case MESH_NAME_REFUSED: return MESH_REASON_NAME_REFUSED;
	case MESH_NAME_CACHE_OVERFLOW:
	case MESH_NAME_QUEUE_OVERFLOW: return MESH_REASON_NAME_OVERFLOW;
	case MESH_NAME_TIMED_OUT: return MESH_REASON_NAME_TIMEOUT;
	case MESH_NAME_READY:
	case MESH_NAME_WAITING:
	case MESH_NAME_UNKNOWN: return MESH_REASON_NAME_UNKNOWN;
	}
	FOIL_UNREACHABLE();
}

/* ---- the rings ---- */
static bool question_put(struct mesh_name_post *p, const struct mesh_name *n)
{
	uint32_t tail = p->question_tail;

	if (tail - __atomic_load_n(&p->question_head, __ATOMIC_ACQUIRE) == NAMES_RING)
		return false;
	memcpy(p->questions[tail % NAMES_RING].name, n->text, n->n_bytes + 1u);
	__atomic_store_n(&p->question_tail, tail + 1, __ATOMIC_RELEASE);
	return true;
}

static bool question_take(struct mesh_name_post *p, char name[MESH_NAME_BYTES])
{
	uint32_t head = p->question_head;

	if (head == __atomic_load_n(&p->question_tail, __ATOMIC_ACQUIRE))
		return false;
	memcpy(name, p->questions[head % NAMES_RING].name, MESH_NAME_BYTES);
	__atomic_store_n(&p->question_head, head + 1, __ATOMIC_RELEASE);
	return true;
}

static void answer_put(struct mesh_name_post *p, const struct mesh_name_answer *a)
{
	uint32_t tail = p->answer_tail;

	if (tail - __atomic_load_n(&p->answer_head, __ATOMIC_ACQUIRE) == NAMES_RING)
		return; /* it asks again */
	p->answers[tail % NAMES_RING] = *a;
	__atomic_store_n(&p->answer_tail, tail + 1, __ATOMIC_RELEASE);
}

bool mesh_names_question(struct mesh_shared *sh, char name[MESH_NAME_BYTES])
{
	struct mesh_name_post *p;

	for (uint16_t i = 0; (p = mesh_shared_post(sh, i)) != NULL; i++)
		if (question_take(p, name))
			return true;
	return false;
}

void mesh_names_answer(struct mesh_shared *sh, const struct mesh_name_answer *a)
{
	struct mesh_name_post *p;

	for (uint16_t i = 0; (p = mesh_shared_post(sh, i)) != NULL; i++)
		answer_put(p, a);
}

bool mesh_names_are_wanted(const struct mesh_shared *sh)
{
	const struct mesh_config *c = mesh_shared_config(sh);

	return c && c->has_dynamic;
}

/* ---- the table ---- */
int mesh_names_init(struct foil_worker *w, struct mesh_ctx *m, uint32_t n_max)
{
	struct mesh_names *t = &m->hosts;

	mesh_list_init(&t->good);
	mesh_list_init(&t->bad);
	mesh_list_init(&t->fresh);
	t->post = mesh_shared_post(m->shared, w->id);
	t->refused = mesh_shared_refused(m->shared, &t->n_refused);
	for (t->n_buckets = 64; t->n_buckets < n_max; t->n_buckets *= 2)
		continue;
	t->buckets = calloc(t->n_buckets, sizeof(struct mesh_name *));
	return t->buckets ? mesh_slab_init(&t->slab, sizeof(struct mesh_name), n_max) : -ENOMEM;
}

static struct mesh_name *name_find(const struct mesh_names *t, uint64_t hash, const char *text, uint32_t n_bytes)
{
	struct mesh_name *n = t->buckets[hash & (t->n_buckets - 1)];

	while (n && !(n->hash == hash && n->n_bytes == n_bytes && memcmp(n->text, text, n_bytes) == 0))
		n = n->next;
	return n;
}

static void asked_set(struct mesh_names *t, struct mesh_name *n, bool is_asked)
{
	if (n->is_asked == is_asked)
		return;
	n->is_asked = is_asked;
	t->n_asked += is_asked ? 1u : UINT32_MAX;
}

static void name_drop(struct foil_worker *w, struct mesh_name *n)
{
	struct mesh_names *t = &w->mesh->hosts;
	struct mesh_name **at = &t->buckets[n->hash & (t->n_buckets - 1)];

	FOIL_ASSERT(mesh_list_is_empty(&n->waiters));
	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	foil_timer_cancel(w, &n->timer);
	asked_set(t, n, false);
	mesh_list_del(&n->node);
	foil_count(w, MESH, NAMES, -1);
	mesh_slab_give(&t->slab, n);
}

void mesh_names_fini(struct foil_worker *w)
{
	struct mesh_names *t = &w->mesh->hosts;
	struct mesh_list *lists[] = {&t->good, &t->bad, &t->fresh};

	for (size_t i = 0; i < FOIL_COUNT_OF(lists); i++)
		while (!mesh_list_is_empty(lists[i]))
			name_drop(w, FOIL_CONTAINER_OF(lists[i]->next, struct mesh_name, node));
}

/* Those without addresses cost nobody anything; of the others the one that was used last is worth most. Who is waited for stays. */
static bool make_room(struct foil_worker *w)
{
	struct mesh_names *t = &w->mesh->hosts;
	struct mesh_list *from = mesh_list_is_empty(&t->bad) ? &t->good : &t->bad;

	if (mesh_list_is_empty(from))
		return false;
	name_drop(w, FOIL_CONTAINER_OF(from->next, struct mesh_name, node));
	foil_count(w, MESH, NAME_EVICTIONS, 1);
	return true;
}

static struct mesh_name *name_new(struct foil_worker *w, uint64_t hash, const char *text, uint32_t n_bytes)
{
	struct mesh_names *t = &w->mesh->hosts;
	struct mesh_name *n = mesh_slab_take(&t->slab);

	if (!n && make_room(w))
		n = mesh_slab_take(&t->slab);
	if (!n)
		return NULL;
	mesh_list_init(&n->waiters);
	mesh_list_add_tail(&t->fresh, &n->node);
	n->hash = hash;
	n->n_bytes = n_bytes;
	memcpy(n->text, text, n_bytes + 1u);
	n->next = t->buckets[hash & (t->n_buckets - 1)];
	t->buckets[hash & (t->n_buckets - 1)] = n;
	foil_count(w, MESH, NAMES, 1);
	return n;
}

static void name_list(struct mesh_name *n, struct mesh_list *to)
{
	mesh_list_del(&n->node);
	mesh_list_add_tail(to, &n->node);
}

/* ---- questions ---- */
static void on_timer(struct foil_worker *w, struct foil_timer *timer);

static void put(struct foil_worker *w, struct mesh_name *n)
{
	bool is_out = question_put(w->mesh->hosts.post, n);

	foil_timer_arm(w, &n->timer, FOIL_MIN(n->ends_us, w->now_us + (is_out ? ASK_AGAIN_US : SOON_US)), on_timer);
}

static void ask(struct foil_worker *w, struct mesh_name *n)
{
	asked_set(&w->mesh->hosts, n, true);
	n->ends_us = w->now_us + TIMEOUT_US;
	foil_count(w, MESH, NAME_QUERIES, 1);
	put(w, n);
}

/* Nothing of n is touched after the first is called. */
static void wake(struct foil_worker *w, struct mesh_name *n, enum mesh_name_result result)
{
	struct mesh_list all;
	uint8_t ip[16] = {0};

	if (result == MESH_NAME_READY)
		memcpy(ip, n->ip[n->at], sizeof(ip));
	mesh_list_take_all(&all, &n->waiters);
	while (!mesh_list_is_empty(&all)) {
		struct mesh_name_waiter *waiter = FOIL_CONTAINER_OF(all.next, struct mesh_name_waiter, node);
		mesh_list_del(&waiter->node);
		waiter->name = NULL;
		waiter->resolved(w, waiter, result, ip);
	}
}

/* No addresses came: those of before stay, or it is remembered for a while that there are none. */
static FOIL_COLD void without(struct foil_worker *w, struct mesh_name *n, enum mesh_name_result verdict, uint64_t for_us)
{
	struct mesh_names *t = &w->mesh->hosts;

	asked_set(t, n, false);
	n->verdict = verdict;
	if (n->n_addresses == 0)
		name_list(n, &t->bad);
	foil_timer_arm(w, &n->timer, w->now_us + (n->n_addresses ? TTL_MIN_US : for_us), on_timer);
	wake(w, n, n->n_addresses ? MESH_NAME_READY : verdict);
}

static void on_timer(struct foil_worker *w, struct foil_timer *timer)
{
	struct mesh_name *n = FOIL_CONTAINER_OF(timer, struct mesh_name, timer);

	if (n->is_asked && w->now_us >= n->ends_us) {
		foil_count(w, MESH, NAME_TIMEOUTS, 1);
		without(w, n, MESH_NAME_TIMED_OUT, FAILED_US);
	} else if (n->is_asked) {
		put(w, n);
	} else if (n->n_addresses && w->now_us - n->used_us < UNUSED_US && w->mesh->hosts.n_asked < MESH_NAMES_ASKED_MAX) {
		ask(w, n); /* who comes meanwhile gets the old ones */
	} else if (n->n_addresses && w->now_us - n->used_us < UNUSED_US) {
		foil_timer_arm(w, timer, w->now_us + ASK_AGAIN_US, on_timer);
	} else {
		name_drop(w, n);
	}
}

/* ---- answers ---- */
static void found(struct foil_worker *w, struct mesh_name *n, const struct mesh_name_answer *a)
{
	const struct mesh_names *t = &w->mesh->hosts;
	uint8_t ip[MESH_NAME_ADDRESSES_MAX][16], n_good = 0;
	uint64_t ttl_us = a->ttl_s * 1000000ull;

	for (uint8_t i = 0; i < FOIL_MIN(a->n_addresses, MESH_NAME_ADDRESSES_MAX); i++)
		if (!is_refused(t->refused, t->n_refused, a->ip[i]))
			memcpy(ip[n_good++], a->ip[i], sizeof(ip[0]));
	if (n_good == 0) {
		foil_count(w, MESH, NAME_FAILURES, 1);
		n->n_addresses = 0; /* it leads elsewhere now */
		without(w, n, a->n_addresses ? MESH_NAME_REFUSED : MESH_NAME_UNKNOWN, NONE_US);
		return;
	}
	if (n->n_addresses && (n->n_addresses != n_good || memcmp(n->ip, ip, n_good * sizeof(ip[0])) != 0))
		foil_count(w, MESH, NAME_CHANGES, 1);
	if (n->n_addresses != n_good || memcmp(n->ip, ip, n_good * sizeof(ip[0])) != 0)
		n->at = 0;
	memcpy(n->ip, ip, n_good * sizeof(ip[0]));
	n->n_addresses = n_good;
	asked_set(&w->mesh->hosts, n, false);
	name_list(n, &w->mesh->hosts.good);
	foil_count(w, MESH, NAME_SUCCESSES, 1);
	foil_timer_arm(w, &n->timer, w->now_us + FOIL_MAX(ttl_us, TTL_MIN_US), on_timer);
	wake(w, n, MESH_NAME_READY);
}

static void take(struct foil_worker *w, const struct mesh_name_answer *a)
{
	struct mesh_names *t = &w->mesh->hosts;
	uint32_t n_bytes = (uint32_t)strnlen(a->name, MESH_NAME_BYTES - 1);
	struct mesh_name *n = name_find(t, foil_siphash(&w->secret, a->name, n_bytes), a->name, n_bytes);

	if (!n || !n->is_asked)
		return; /* another worker's, or too late */
	if (a->outcome == MESH_NAME_FOUND) {
		found(w, n, a);
		return;
	}
	foil_count(w, MESH, NAME_FAILURES, 1);
	without(w, n, MESH_NAME_UNKNOWN, a->outcome == MESH_NAME_NONE ? NONE_US : FAILED_US);
}

void mesh_names_turn(struct foil_worker *w)
{
	struct mesh_name_post *p = w->mesh->hosts.post;
	uint32_t tail = __atomic_load_n(&p->answer_tail, __ATOMIC_ACQUIRE);

	for (uint32_t head = p->answer_head; head != tail; head++) {
		take(w, &p->answers[head % NAMES_RING]);
		__atomic_store_n(&p->answer_head, head + 1, __ATOMIC_RELEASE);
	}
}

/* ---- who asks ---- */
static enum mesh_name_result wait_at(struct mesh_name *n, struct mesh_name_waiter *waiter)
{
	waiter->name = n;
	mesh_list_add_tail(&n->waiters, &waiter->node);
	return MESH_NAME_WAITING;
}

static FOIL_COLD enum mesh_name_result begin(struct foil_worker *w, uint64_t hash, const char *text, uint32_t n_bytes, struct mesh_name_waiter *waiter)
{
	struct mesh_name *n;

	if (w->mesh->hosts.n_asked >= MESH_NAMES_ASKED_MAX) {
		foil_count(w, MESH, NAME_PENDING_OVERFLOW, 1);
		return MESH_NAME_QUEUE_OVERFLOW;
	}
	n = name_new(w, hash, text, n_bytes);
	if (!n) {
		foil_count(w, MESH, NAME_OVERFLOW, 1);
		return MESH_NAME_CACHE_OVERFLOW;
	}
	n->used_us = w->now_us;
	ask(w, n);
	return wait_at(n, waiter);
}

enum mesh_name_result mesh_name_resolve(struct foil_worker *w, struct foil_slice host, struct mesh_name_waiter *waiter, uint8_t ip[16])
{
	struct mesh_names *t = &w->mesh->hosts;
	char text[MESH_NAME_BYTES];

	if (mesh_addr_parse(host, ip))
		return is_refused(t->refused, t->n_refused, ip) ? MESH_NAME_REFUSED : MESH_NAME_READY;
	uint32_t n_bytes = name_of(host, text);
	if (n_bytes == 0)
		return MESH_NAME_BAD;
	uint64_t hash = foil_siphash(&w->secret, text, n_bytes);
	struct mesh_name *n = name_find(t, hash, text, n_bytes);
	if (FOIL_UNLIKELY(!n))
		return begin(w, hash, text, n_bytes, waiter);
	n->used_us = w->now_us;
	if (FOIL_LIKELY(n->n_addresses != 0)) {
		name_list(n, &t->good);
		memcpy(ip, n->ip[n->at], 16);
		return MESH_NAME_READY;
	}
	return n->is_asked ? wait_at(n, waiter) : n->verdict;
}

void mesh_name_cancel(struct foil_worker *w, struct mesh_name_waiter *waiter)
{
	(void)w;
	if (!waiter->name)
		return;
	mesh_list_del(&waiter->node);
	waiter->name = NULL;
}

void mesh_name_connect_failed(struct foil_worker *w, struct foil_slice host, const uint8_t ip[16])
{
	char text[MESH_NAME_BYTES];
	uint32_t n_bytes = name_of(host, text);
	struct mesh_name *n = n_bytes ? name_find(&w->mesh->hosts, foil_siphash(&w->secret, text, n_bytes), text, n_bytes) : NULL;

	if (n && n->n_addresses && memcmp(n->ip[n->at], ip, 16) == 0)
		n->at = (uint8_t)((n->at + 1u) % n->n_addresses);
}
