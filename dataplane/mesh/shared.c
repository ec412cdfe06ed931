/* What outlives a configuration: the published pointer, who has adopted what, and clusters and hosts by name and address.
 *
 * Housekeeping owns all of it but two things: workers read the published pointer (acquire) and write their own adopted cell (release). Hosts and
 * cluster states are found by hash tables that only housekeeping looks at; a worker reaches them through a configuration that it holds.
 * Ownership: a configuration holds sets, a set holds its hosts and its cluster's state, a host holds its cluster's state; each is freed with
 * its last holder.
 * Invariant: prepare either fills all of c->host_sets or leaves nothing behind. */
#include <errno.h>
#include <stdlib.h>

#include "dataplane/core/error.h"
#include "dataplane/core/siphash.h"
#include "dataplane/mesh/admission.h"
#include "dataplane/mesh/lb_priv.h"
#include "dataplane/mesh/mesh.h"
#include "dataplane/mesh/runtime.h"
#include "dataplane/mesh/outlier_priv.h"

#define BUCKETS (1u << 17) /* heads of 8 bytes; MESH_HOSTS_MAX is two a bucket */

struct FOIL_CACHE_ALIGNED adopted_cell {
	uint64_t generation; /* written by its worker; 0: none yet */
	uint64_t n_turns;    /* so is this */
};
struct mesh_shared {
	struct adopted_cell adopted[MESH_WORKERS_MAX];
	const struct mesh_config *published;
	uint16_t n_workers;
	uint32_t mark;               /* the current walk over hosts */
	uint32_t n_free;
	uint32_t n_starved;                  /* atomic, ever: see mesh_shared_starved */
	uint32_t n_told_changes;         /* atomic, ever: see mesh_shared_told_changes */
	uint32_t free_index[MESH_HOSTS_MAX]; /* a stack */
	struct mesh_clients clients;
	struct lb_table_stock tables;
	struct lb_tables *old_tables; /* replaced; a worker may still look at them */
	uint32_t next_slot;           /* where renew_tables goes on */
	const struct mesh_cidr *refused;
	uint16_t n_refused;
	size_t post_bytes;            /* of one worker, in whole cache lines */
	uint8_t *posts;
	struct mesh_cluster_state *clusters[BUCKETS];
	struct mesh_host *hosts[BUCKETS];
};

/* Names and addresses come from the agent, and only housekeeping hashes them: a key that is known does no harm. */
static uint64_t hash_of(const void *data, size_t n_bytes, uint64_t seed)
{
	struct foil_siphash_key key = {seed, 0x6d657368};

	return foil_siphash(&key, data, n_bytes);
}

/* In whole cache lines. */
static size_t lines(size_t n_bytes)
{
	return (n_bytes + 63) & ~(size_t)63;
}

static void *zeroed(size_t n_bytes)
{
	void *p = aligned_alloc(64, lines(n_bytes));

	return p ? memset(p, 0, lines(n_bytes)) : NULL;
}

struct mesh_shared *mesh_shared_new(const struct mesh_shared_params *p)
{
	if (p->n_workers == 0 || p->n_workers > MESH_WORKERS_MAX)
		return NULL;
	struct mesh_shared *sh = zeroed(sizeof(*sh));
	if (!sh)
		return NULL;
	sh->n_workers = p->n_workers;
	sh->refused = p->refused;
	sh->n_refused = p->n_refused;
	sh->post_bytes = lines(mesh_name_post_bytes());
	sh->posts = zeroed(sh->post_bytes * p->n_workers);
	if (!sh->posts) {
		free(sh);
		return NULL;
	}
	for (uint32_t i = 0; i < MESH_HOSTS_MAX; i++) /* so that indices are given out from 0 */
		sh->free_index[i] = MESH_HOSTS_MAX - 1 - i;
	sh->n_free = MESH_HOSTS_MAX;
	return sh;
}

void mesh_shared_free(struct mesh_shared *sh)
{
	for (struct lb_tables *t = sh ? sh->old_tables : NULL, *next; t; t = next) {
		next = t->next;
		lb_tables_free(&sh->tables, t);
	}
	if (sh) {
		free(sh->posts);
		mesh_clients_free(&sh->clients);
	}
	free(sh);
}

struct mesh_name_post *mesh_shared_post(struct mesh_shared *sh, uint16_t worker)
{
	return worker < sh->n_workers ? (void *)(sh->posts + worker * sh->post_bytes) : NULL;
}

const struct mesh_cidr *mesh_shared_refused(const struct mesh_shared *sh, uint16_t *n)
{
	*n = sh->n_refused;
	return sh->refused;
}

/* ---- cluster states ---- */
static struct mesh_cluster_state *cluster_get(struct mesh_shared *sh, struct foil_slice name)
{
	uint64_t hash = hash_of(name.data, name.n_bytes, 0);
	struct mesh_cluster_state **bucket = &sh->clusters[hash % BUCKETS];

	for (struct mesh_cluster_state *s = *bucket; s; s = s->next) {
		if (s->hash == hash && foil_slice_eq(s->name, name)) {
			s->n_refs++;
			return s;
		}
	}
	size_t cells = sizeof(struct mesh_cluster_state) + sh->n_workers * sizeof(struct mesh_cluster_cell);
	struct mesh_cluster_state *s = zeroed(cells + name.n_bytes);
	if (!s)
		return NULL;
	if (name.n_bytes)
		memcpy((char *)s + cells, name.data, name.n_bytes);
	s->name = foil_slice_of((char *)s + cells, name.n_bytes);
	s->hash = hash;
	s->n_refs = 1;
	s->n_workers = sh->n_workers;
	s->n_told_changes = &sh->n_told_changes;
	s->next = *bucket;
	*bucket = s;
	return s;
}

static void cluster_put(struct mesh_shared *sh, struct mesh_cluster_state *s)
{
	FOIL_ASSERT(s->n_refs > 0);
	if (--s->n_refs)
		return;
	struct mesh_cluster_state **at = &sh->clusters[s->hash % BUCKETS];
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	free(s->begun);
	free(s);
}

/* Room for what a retry budget's interval counts, once asked for. False: no memory. */
static bool cluster_counts_begun(const struct mesh_shared *sh, struct mesh_cluster_state *s, const struct mesh_cluster *c)
{
	if (c->breaker.retry_budget_interval_us && !s->begun)
		s->begun = zeroed(sh->n_workers * sizeof(*s->begun));
	return !c->breaker.retry_budget_interval_us || s->begun;
}

/* ---- hosts ---- */
struct host_key {
	uint8_t ip[16];
	uint16_t port;
};

static uint64_t host_hash(const struct mesh_cluster_state *s, const struct mesh_endpoint *e)
{
	struct host_key key;

	memset(&key, 0, sizeof(key));
	memcpy(key.ip, e->ip, sizeof(key.ip));
	key.port = e->port;
	return hash_of(&key, sizeof(key), s->hash);
}

static bool is_host_of(const struct mesh_host *h, const struct mesh_cluster_state *s, const struct mesh_endpoint *e)
{
	return h->cluster == s && h->port == e->port && memcmp(h->ip, e->ip, sizeof(h->ip)) == 0;
}

static struct mesh_host *host_new(struct mesh_shared *sh, struct mesh_cluster_state *s, const struct mesh_endpoint *e, uint64_t hash)
{
	if (sh->n_free == 0)
		return NULL;
	struct mesh_host *h = zeroed(sizeof(*h) + sh->n_workers * sizeof(h->by_worker[0]));
	if (!h)
		return NULL;
	h->cluster = s;
	s->n_refs++;
	memcpy(h->ip, e->ip, sizeof(h->ip));
	h->port = e->port;
	h->n_workers = sh->n_workers;
	h->index = sh->free_index[--sh->n_free];
	h->hash = hash;
	h->next = sh->hosts[hash % BUCKETS];
	sh->hosts[hash % BUCKETS] = h;
	return h;
}

/* Found or made, one reference more. NULL: no memory, or MESH_HOSTS_MAX are alive. */
static struct mesh_host *host_get(struct mesh_shared *sh, struct mesh_cluster_state *s, const struct mesh_endpoint *e)
{
	uint64_t hash = host_hash(s, e);
	struct mesh_host *h = sh->hosts[hash % BUCKETS];

	while (h && !(h->hash == hash && is_host_of(h, s, e)))
		h = h->next;
	if (!h)
		h = host_new(sh, s, e, hash);
	if (h)
		h->n_refs++;
	return h;
}

static void host_put(struct mesh_shared *sh, struct mesh_host *h)
{
	FOIL_ASSERT(h->n_refs > 0);
	if (--h->n_refs)
		return;
	struct mesh_host **at = &sh->hosts[h->hash % BUCKETS];
	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	mesh_outlier_forget(h);
	sh->free_index[sh->n_free++] = h->index;
	cluster_put(sh, h->cluster);
	free(h);
}

/* ---- host sets ---- */
static void set_put(struct mesh_shared *sh, struct mesh_host_set *set)
{
	if (!set || --set->n_refs)
		return;
	for (uint32_t i = 0; i < set->n_hosts; i++)
		host_put(sh, set->hosts[i]);
	if (set->cluster)
		cluster_put(sh, set->cluster);
	lb_tables_free(&sh->tables, set->tables);
	free(set);
}

/* Takes the hosts of all endpoints, one reference for each distinct one. */
static int set_fill(struct mesh_shared *sh, struct mesh_host_set *set)
{
	uint32_t mark = ++sh->mark;

	for (uint32_t i = 0; i < set->n_endpoints; i++) {
		struct mesh_endpoint *e = (struct mesh_endpoint *)(uintptr_t)&set->endpoints[i]; /* host is housekeeping's to write */
		struct mesh_host *h = host_get(sh, set->cluster, e);

		if (!h)
			return -ENOMEM;
		if (e->host != h)
			e->host = h;
		if (h->mark == mark) { /* the same address twice */
			host_put(sh, h);
			continue;
		}
		h->mark = mark;
		set->hosts[set->n_hosts++] = h;
	}
	return 0;
}

static struct mesh_host_set *set_new(struct mesh_shared *sh, const struct mesh_cluster *c, const struct mesh_endpoints *e, struct foil_error *err)
{
	struct mesh_host_set *set = lb_set_alloc(sh->n_workers, c, e);

	if (!set) {
		(void)foil_error_set(err, -ENOMEM, "no memory for the %u endpoints of cluster %.*s", e ? e->n_endpoints : 0, (int)c->res.name.n_bytes,
				     c->res.name.data);
		return NULL;
	}
	set->cluster = cluster_get(sh, c->res.name);
	bool has_hosts = set->cluster && set_fill(sh, set) == 0;
	if (has_hosts && (!set->policy->table_pick || (set->tables = lb_tables_new(&sh->tables, set)) != NULL))
		return set;
	if (has_hosts)
		(void)foil_error_set(err, -ENOMEM, "no memory for the %s table of cluster %.*s, or more than %u bytes of tables in all clusters",
				     set->policy->name, (int)c->res.name.n_bytes, c->res.name.data, LB_TABLES_BYTES_MAX);
	else
		(void)foil_error_set(err, -ENOMEM, "no memory for the hosts of cluster %.*s, or more than %u endpoints in all clusters",
				     (int)c->res.name.n_bytes, c->res.name.data, MESH_HOSTS_MAX);
	set_put(sh, set);
	return NULL;
}

/* The set of the published configuration, when it would be made the same again. */
static struct mesh_host_set *set_of_published(const struct mesh_shared *sh, const struct mesh_config *c, uint32_t slot)
{
	const struct mesh_config *p = sh->published;

	if (!p || slot >= p->n_cluster_slots || !p->host_sets[slot] || p->endpoints[slot] != c->endpoints[slot])
		return NULL;
	const struct mesh_cluster *was = p->clusters[slot], *is = c->clusters[slot];
	if (was != is && !(lb_set_fits(p->host_sets[slot], is) && foil_slice_eq(was->res.name, is->res.name)))
		return NULL;
	return p->host_sets[slot];
}

static void drop_sets(struct mesh_shared *sh, struct mesh_config *c)
{
	for (uint32_t slot = 0; slot < c->n_cluster_slots; slot++) {
		set_put(sh, c->host_sets[slot]);
		c->host_sets[slot] = NULL;
	}
}

int mesh_config_prepare(struct mesh_shared *sh, struct mesh_config *c, struct foil_error *err)
{
	if (!c->host_sets)
		c->host_sets = foil_blob_array(&c->blob, c->n_cluster_slots, sizeof(c->host_sets[0]));
	if (!c->host_sets)
		return foil_error_set(err, -ENOMEM, "no memory for the host sets of %u clusters", c->n_cluster_slots);
	memset(c->host_sets, 0, c->n_cluster_slots * sizeof(c->host_sets[0]));
	for (uint32_t slot = 0; slot < c->n_cluster_slots; slot++) {
		if (!c->clusters[slot])
			continue;
		struct mesh_host_set *set = set_of_published(sh, c, slot);
		if (set)
			set->n_refs++;
		else
			set = set_new(sh, c->clusters[slot], c->endpoints[slot], err);
		c->host_sets[slot] = set;
		if (set && !cluster_counts_begun(sh, set->cluster, c->clusters[slot])) {
			drop_sets(sh, c);
			return foil_error_set(err, -ENOMEM, "no memory for the retry budget of cluster %.*s", (int)c->clusters[slot]->res.name.n_bytes,
					      c->clusters[slot]->res.name.data);
		}
		if (!set) {
			drop_sets(sh, c);
			return -ENOMEM;
		}
	}
	if (mesh_outlier_list_new(c, sh->n_workers) != 0) {
		drop_sets(sh, c);
		return foil_error_set(err, -ENOMEM, "no memory for the outlier detection of %u clusters", c->n_cluster_slots);
	}
	if (mesh_clients_prepare(&sh->clients, c, err) != 0) {
		mesh_outlier_list_free(c);
		drop_sets(sh, c);
		return -ENOMEM;
	}
	return 0;
}
void mesh_config_unprepare(struct mesh_shared *sh, struct mesh_config *c)
{
	if (!c->host_sets)
		return;
	drop_sets(sh, c);
	mesh_outlier_list_free(c);
	mesh_clients_unprepare(&sh->clients, c);
}

/* ---- publishing ---- */
static struct mesh_host_set *set_at(const struct mesh_config *c, uint32_t slot)
{
	return c && slot < c->n_cluster_slots ? c->host_sets[slot] : NULL;
}

/* Hosts that the new set does not have are as if they had never failed, should they come back (DR-45). */
static void forget_gone(struct mesh_shared *sh, const struct mesh_host_set *was, const struct mesh_host_set *is)
{
	uint32_t mark = ++sh->mark;

	for (uint32_t i = 0; is && i < is->n_hosts; i++)
		is->hosts[i]->mark = mark;
	for (uint32_t i = 0; i < was->n_hosts; i++)
		if (was->hosts[i]->mark != mark)
			mesh_outlier_forget(was->hosts[i]);
}

static void count_hosts(const struct mesh_config *c, uint32_t slot, const struct mesh_host_set *is)
{
	__atomic_store_n(&is->cluster->n_hosts, is->n_hosts, __ATOMIC_RELAXED);
	if (c->clusters[slot]->outlier || (is->cluster->n_ejected == 0 && is->cluster->n_backed_off == 0))
		return;
	for (uint32_t i = 0; i < is->n_hosts; i++) /* nobody would sweep them */
		mesh_outlier_forget(is->hosts[i]);
}

void mesh_config_publish(struct mesh_shared *sh, const struct mesh_config *c)
{
	const struct mesh_config *old = sh->published;
	uint32_t n_slots = FOIL_MAX(c->n_cluster_slots, old ? old->n_cluster_slots : 0);

	for (uint32_t slot = 0; slot < n_slots; slot++) {
		struct mesh_host_set *was = set_at(old, slot), *is = set_at(c, slot);

		if (was && was != is)
			forget_gone(sh, was, is);
		if (is)
			count_hosts(c, slot, is);
	}
	__atomic_store_n(&sh->published, c, __ATOMIC_RELEASE);
}

uint32_t *mesh_shared_starved(struct mesh_shared *sh)
{
	return &sh->n_starved;
}

struct mesh_client_count *mesh_shared_clients(struct mesh_shared *sh)
{
	return &sh->clients.all;
}

const uint32_t *mesh_shared_told_changes(const struct mesh_shared *sh)
{
	return &sh->n_told_changes;
}

const struct mesh_config *mesh_shared_config(const struct mesh_shared *sh)
{
	return __atomic_load_n(&sh->published, __ATOMIC_ACQUIRE);
}

void mesh_shared_adopted(struct mesh_shared *sh, struct foil_worker *w, const struct mesh_config *c)
{
	FOIL_ASSERT(w->id < sh->n_workers);
	__atomic_store_n(&sh->adopted[w->id].generation, c->generation, __ATOMIC_RELEASE);
}

static uint64_t least_adopted(const struct mesh_shared *sh)
{
	uint64_t least = UINT64_MAX;

	for (uint16_t i = 0; i < sh->n_workers; i++) {
		uint64_t g = __atomic_load_n(&sh->adopted[i].generation, __ATOMIC_ACQUIRE);
		least = FOIL_MIN(least, g);
	}
	return least;
}

bool mesh_config_is_quiet(const struct mesh_shared *sh, const struct mesh_config *c)
{
	if (c == sh->published || least_adopted(sh) <= c->generation)
		return false;
	for (uint16_t i = 0; i < sh->n_workers; i++)
		if (__atomic_load_n(&c->held[i].n, __ATOMIC_ACQUIRE) != 0)
			return false;
	return true;
}

bool mesh_config_is_adopted(const struct mesh_shared *sh)
{
	return !sh->published || least_adopted(sh) >= sh->published->generation;
}

/* ---- the tables of hashing policies follow health ---- */
#define TABLE_SLOTS_A_TURN 4096u

void mesh_shared_turned(struct mesh_shared *sh, struct foil_worker *w)
{
	struct adopted_cell *cell = &sh->adopted[w->id];

	__atomic_store_n(&cell->n_turns, cell->n_turns + 1, __ATOMIC_RELEASE);
}

/* Workers look at tables within a turn only. The count may have been read before the beginning of the turn it was read in was to be seen: who has
 * begun two more has left them. */
static bool is_left(const struct mesh_shared *sh, const struct lb_tables *t)
{
	for (uint16_t i = 0; i < sh->n_workers; i++)
		if (__atomic_load_n(&sh->adopted[i].n_turns, __ATOMIC_ACQUIRE) - t->turns[i] < 2)
			return false;
	return true;
}

static void free_left_tables(struct mesh_shared *sh)
{
	for (struct lb_tables **at = &sh->old_tables; *at;) {
		struct lb_tables *t = *at;
		if (!is_left(sh, t)) {
			at = &t->next;
			continue;
		}
		*at = t->next;
		lb_tables_free(&sh->tables, t);
	}
}

/* Without memory the old ones stay: workers pass over those who are not usable. */
static void replace_tables(struct mesh_shared *sh, struct mesh_host_set *set)
{
	struct lb_tables *fresh = lb_tables_new(&sh->tables, set), *old = set->tables;

	if (!fresh)
		return;
	__atomic_store_n(&set->tables, fresh, __ATOMIC_SEQ_CST); /* before we look at what turn each worker is in */
	for (uint16_t i = 0; i < sh->n_workers; i++)
		old->turns[i] = __atomic_load_n(&sh->adopted[i].n_turns, __ATOMIC_SEQ_CST);
	old->next = sh->old_tables;
	sh->old_tables = old;
}

void mesh_shared_turn(struct mesh_shared *sh)
{
	const struct mesh_config *c = sh->published;

	if (sh->old_tables)
		free_left_tables(sh);
	if (!c || sh->tables.n_bytes == 0)
		return;
	for (uint32_t i = 0; i < FOIL_MIN(c->n_cluster_slots, TABLE_SLOTS_A_TURN); i++) {
		struct mesh_host_set *set = set_at(c, sh->next_slot++ % c->n_cluster_slots);
		if (set && lb_tables_are_stale(set)) {
			replace_tables(sh, set);
			return; /* one a turn: a large one takes its time */
		}
	}
}
