/* The counts behind admission.h. Invariant: a count is the sum, over all workers, of the clients of the ports that point to it; the node's, of those workers
 * that count for it (ctx->counts_clients). */
#include "dataplane/mesh/admission.h"

#include <errno.h>
#include <stdlib.h>

#include "dataplane/mesh/runtime.h"

/* ---- housekeeping ---- */
static struct mesh_client_count **bucket_of(struct mesh_clients *all, const struct mesh_listener *l)
{
	return &all->by_listener[(l->port + l->ip[15] * 31u + l->ip[14] * 17u) % MESH_CLIENT_BUCKETS];
}

static struct mesh_client_count *count_get(struct mesh_clients *all, const struct mesh_listener *l)
{
	struct mesh_client_count **bucket = bucket_of(all, l), *c = *bucket;

	while (c && !(c->port == l->port && memcmp(c->ip, l->ip, sizeof(c->ip)) == 0))
		c = c->next;
	if (!c) {
		c = aligned_alloc(64, sizeof(*c));
		if (!c)
			return NULL;
		*c = (struct mesh_client_count){.next = *bucket, .port = l->port};
		memcpy(c->ip, l->ip, sizeof(c->ip));
		*bucket = c;
	}
	c->n_refs++;
	return c;
}

/* Nobody names it, and none of its clients is left, which would take itself off: no worker looks at it any more. */
static void sweep(struct mesh_clients *all)
{
	for (unsigned int i = 0; i < MESH_CLIENT_BUCKETS; i++) {
		for (struct mesh_client_count **at = &all->by_listener[i]; *at;) {
			struct mesh_client_count *c = *at;
			if (c->n_refs || __atomic_load_n(&c->n, __ATOMIC_ACQUIRE)) {
				at = &c->next;
				continue;
			}
			*at = c->next;
			free(c);
		}
	}
}

static void put_first(struct mesh_config *c, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (c->listeners[i]->connection_limit)
			c->listeners[i]->clients->n_refs--;
}

int mesh_clients_prepare(struct mesh_clients *all, struct mesh_config *c, struct foil_error *err)
{
	c->has_clients = false;
	for (uint32_t i = 0; i < c->n_listeners; i++) {
		struct mesh_listener *l = (struct mesh_listener *)(uintptr_t)c->listeners[i]; /* clients is housekeeping's to write */
		struct mesh_client_count *count = l->connection_limit ? count_get(all, l) : NULL;
		if (l->connection_limit && !count) {
			put_first(c, i);
			return foil_error_set(err, -ENOMEM, "no memory for the connection limit of listener %.*s", (int)l->res.name.n_bytes, l->res.name.data);
		}
		if (l->clients != count)
			l->clients = count;
	}
	c->has_clients = true;
	return 0;
}

void mesh_clients_unprepare(struct mesh_clients *all, struct mesh_config *c)
{
	if (!c->has_clients)
		return;
	c->has_clients = false;
	put_first(c, c->n_listeners);
	sweep(all);
}

void mesh_clients_free(struct mesh_clients *all)
{
	for (unsigned int i = 0; i < MESH_CLIENT_BUCKETS; i++) {
		for (struct mesh_client_count *c = all->by_listener[i], *next; c; c = next) {
			next = c->next;
			free(c);
		}
	}
}

/* ---- workers ---- */
static bool take(struct mesh_client_count *c, uint32_t limit)
{
	uint32_t n = __atomic_load_n(&c->n, __ATOMIC_RELAXED);

	while (n < limit)
		if (__atomic_compare_exchange_n(&c->n, &n, n + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
	return false;
}

static void add(struct mesh_client_count *c, uint32_t n)
{
	if (c && n)
		(void)__atomic_add_fetch(&c->n, n, __ATOMIC_RELAXED);
}

static void give(struct mesh_client_count *c, uint32_t n)
{
	if (c && n)
		(void)__atomic_sub_fetch(&c->n, n, __ATOMIC_RELEASE);
}

bool mesh_client_admit(struct foil_worker *w, struct mesh_port *p)
{
	struct mesh_ctx *m = w->mesh;

	if (FOIL_UNLIKELY(p->clients != NULL) && !take(p->clients, p->listener->connection_limit)) {
		foil_count(w, MESH, DOWNSTREAM_CX_OVERFLOW, 1);
		foil_reason(w, MESH, LISTENER_FULL);
		return false;
	}
	if (FOIL_UNLIKELY(m->counts_clients) && !take(mesh_shared_clients(m->shared), m->cfg->settings.connection_limit)) {
		give(p->clients, 1);
		foil_count(w, MESH, DOWNSTREAM_GLOBAL_CX_OVERFLOW, 1);
		foil_reason(w, MESH, NODE_FULL);
		return false;
	}
	p->n_clients++;
	m->n_clients++;
	return true;
}

void mesh_client_leave(struct foil_worker *w, struct mesh_port *p)
{
	struct mesh_ctx *m = w->mesh;

	FOIL_ASSERT(p->n_clients > 0 && m->n_clients > 0);
	p->n_clients--;
	m->n_clients--;
	give(p->clients, 1);
	if (FOIL_UNLIKELY(m->counts_clients))
		give(mesh_shared_clients(m->shared), 1);
}

void mesh_clients_adopt(struct foil_worker *w)
{
	struct mesh_ctx *m = w->mesh;
	bool counts = m->cfg->settings.connection_limit != 0;

	for (struct mesh_list *n = m->port_list.next; n != &m->port_list; n = n->next) {
		struct mesh_port *p = FOIL_CONTAINER_OF(n, struct mesh_port, node);
		if (!p->listener || p->clients == p->listener->clients)
			continue; /* a removed one's are counted where they were */
		add(p->listener->clients, p->n_clients);
		give(p->clients, p->n_clients);
		p->clients = p->listener->clients;
	}
	if (counts == m->counts_clients)
		return;
	m->counts_clients = counts;
	if (counts)
		add(mesh_shared_clients(m->shared), m->n_clients);
	else
		give(mesh_shared_clients(m->shared), m->n_clients);
}
