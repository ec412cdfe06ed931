/* Upstream HTTP connections of one worker, by host: idle ones, those at work, those that open, and the requests that wait for one.
 * A connection of HTTP/2 that serves some requests and takes more is shared; balancing chose the host for each request before (GR-8).
 * It does not choose hosts and knows nothing of retries. Rules: features.md DR-22..DR-35 and Envoy's connection pool where that is silent:
 *   - a request takes a shared connection, else the idle one that was used last; else it waits, and a connection is opened when fewer open than wait;
 *   - the first connection that is ready, new or used, serves the request that has waited longest;
 *   - a connect that fails fails every request that waits at this host: their owners decide what to do next;
 *   - at maxConnections an idle connection of the same cluster is closed to make room; places.c says what else is done.
 * Pools go by host (cluster name and address), and by server name where TLS takes that from the request, so they survive configurations.
 * A pool holds the configuration that names its host; when the next one does not, the pool is doomed: its idle connections close, the
 * others when their exchange is over.
 * Invariant: n_conns is the length of the four lists; breakers count exactly what is in them. */
#include "dataplane/mesh/runtime.h"

#include <errno.h>

#include "dataplane/core/siphash.h"

enum upstream_state { UPSTREAM_OPENING, UPSTREAM_IDLE, UPSTREAM_SHARED, UPSTREAM_BUSY, UPSTREAM_GONE };

#define STARVED_LOOK_US 1000u
#define YIELD_US_MAX 1000000u /* for the origin to close what we have closed */
#define CLIENT_IDLE_US 30000000u /* see idle_us */
#define STREAMS_EXPECTED 100u /* of an HTTP/2 connection that opens: what a server lets at least (RFC 9113 6.5.2) */

struct mesh_pool {
	struct mesh_grave grave;
	struct mesh_list node; /* ctx->pool_list */
	struct mesh_host *host;
	const struct mesh_config *cfg; /* held */
	uint32_t slot;
	struct mesh_pool *next_name; /* in the same list: of the host, or of a bucket of clients */
	struct foil_slice name;      /* of the server; in a block of ctx->names, or empty */
	struct mesh_list opening, idle, shared, busy; /* idle: last used first */
	struct mesh_list waiters;
	uint32_t n_conns, n_opening, n_waiters;
	uint32_t n_pins; /* calls that are at work on it */
	bool is_doomed, is_starved;
	bool is_dynamic; /* of a host that requests name */
	bool is_h2; /* of requests that came over HTTP/2, where the cluster speaks what the client does */
	struct foil_timer starved; /* armed while it is: when to try again */
	bool is_clients;                   /* its connections begin with a PROXY header that tells of these two, go to server, or to place: */
	struct stream_addr client, server; /* zero: nobody. Of a pool of a host that requests name, server has the port alone */
	struct stream_addr place;          /* where that host was said to be last */
	bool is_marked; /* its endpoint speaks the mesh's mTLS, as the newest request saw it */
};

struct mesh_upstream {
	struct mesh_grave grave;
	struct mesh_list node; /* one of the pool's lists */
	struct mesh_pool *pool;
	struct http_conn *conn;
	enum upstream_state state;
	bool is_timed_out, is_closing, is_yielding;
	uint8_t proxy_protocol; /* what it began with: enum proxy_header_version */
	uint32_t n_requests;
	uint64_t born_us, idle_since_us, tls_key;
	uint64_t fits_generation; /* of the configuration that it was last found to be made as its cluster says */
	struct foil_timer timer; /* connect timeout while opening; then a lazy look at idle and duration limits */
	struct stream_addr local, place; /* place: as the pool's was */
};

static const struct http_limits client_limits = {
	.head_bytes_max = 80u * 1024u, .headers_max = 100, /* OM-6 */
	.h2_streams_max = 1024, .h2_stream_window_bytes = 256u * 1024u, .h2_conn_window_bytes = 4u * 1024u * 1024u,
};

int mesh_pools_init(struct mesh_ctx *m, uint32_t conns_max)
{
	int rc = mesh_slab_init(&m->pools, sizeof(struct mesh_pool), MESH_HOSTS_MAX);

	return rc ? rc : mesh_slab_init(&m->upstreams, sizeof(struct mesh_upstream), conns_max);
}

const struct stream_addr *mesh_upstream_local(const struct mesh_upstream *u)
{
	return &u->local;
}

void mesh_pool_done(struct foil_worker *w, struct mesh_host *h)
{
	mesh_breaker_add(w, h->cluster, MESH_BREAKER_REQUESTS, -1);
	mesh_host_active_add(w, h, -1);
}

static const struct mesh_cluster *pool_cluster(const struct mesh_pool *p)
{
	return p->cfg->clusters[p->slot];
}

static bool speaks_h2(const struct mesh_pool *p, const struct mesh_cluster *c)
{
	return c->uses_client_protocol ? p->is_h2 : c->protocol == MESH_UPSTREAM_HTTP2;
}

static void pool_grow(struct foil_worker *w, struct mesh_pool *p);

/* ---- pools ---- */
static bool pool_keep_name(struct mesh_ctx *m, struct mesh_pool *p, struct foil_slice name)
{
	char *block = name.n_bytes ? mesh_slab_take(&m->names) : NULL;

	if (!name.n_bytes)
		return true;
	if (!block)
		return false;
	for (uint32_t i = 0; i < name.n_bytes; i++)
		block[i] = foil_ascii_lower(name.data[i]);
	p->name = foil_slice_of(block, name.n_bytes);
	return true;
}

/* Whose connections may be used for a request: PROXY headers make them one client's, original destinations one server's. */
struct pool_key {
	struct mesh_host *host;
	struct foil_slice name;
	bool is_clients, is_h2, is_dynamic;
	struct stream_addr client, server; /* port and address of one each; padding is not compared */
};

static bool addr_eq(const struct stream_addr *a, const struct stream_addr *b)
{
	return a->port == b->port && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

static void put_addr(uint8_t *to, const struct stream_addr *a)
{
	memcpy(to, a->ip, sizeof(a->ip));
	to[sizeof(a->ip)] = (uint8_t)(a->port >> 8);
	to[sizeof(a->ip) + 1] = (uint8_t)a->port;
}

static uint64_t name_hash(const struct foil_worker *w, struct foil_slice name)
{
	char text[MESH_SNI_BYTES];

	FOIL_ASSERT(name.n_bytes <= sizeof(text));
	for (uint32_t i = 0; i < name.n_bytes; i++)
		text[i] = foil_ascii_lower(name.data[i]);
	return foil_siphash(&w->secret, text, name.n_bytes);
}

static struct mesh_pool **pool_list_of(struct foil_worker *w, const struct pool_key *k)
{
	const struct mesh_host *h = k->host;
	struct mesh_ctx *m = w->mesh;
	uint8_t bytes[2 * (sizeof(k->client.ip) + 2)];
	uint64_t hash;

	if (FOIL_LIKELY(!k->is_clients))
		return &m->pool_by_host[h->index];
	put_addr(bytes, &k->client);
	put_addr(bytes + sizeof(bytes) / 2, &k->server);
	hash = foil_siphash(&w->secret, bytes, sizeof(bytes)) + h->index;
	if (k->is_dynamic)
		hash += name_hash(w, k->name);
	return &m->pool_by_client[hash % MESH_CLIENT_POOL_BUCKETS];
}

static struct pool_key key_of(const struct mesh_cluster *c, struct mesh_host *h, const struct mesh_pool_waiter *waiter)
{
	bool is_told = c->proxy_protocol != PROXY_HEADER_NONE;
	struct pool_key k = {.host = h, .name = mesh_upstream_name(c, waiter->authority),
			     .is_clients = is_told || c->is_original_dst || c->is_dynamic, .is_dynamic = c->is_dynamic,
			     .is_h2 = c->uses_client_protocol && waiter->is_client_h2};

	if (is_told && waiter->client)
		k.client = *waiter->client;
	if (FOIL_UNLIKELY(c->is_dynamic)) /* PROXY headers do not go together with it */
		k.server.port = waiter->place->port;
	else if (k.is_clients && waiter->server)
		k.server = *waiter->server;
	return k;
}

static bool is_for(const struct mesh_pool *p, const struct pool_key *k)
{
	if (p->is_h2 != k->is_h2 || !foil_slice_eq_nocase(p->name, k->name))
		return false;
	return FOIL_LIKELY(!k->is_clients) || (p->host == k->host && addr_eq(&p->client, &k->client) && addr_eq(&p->server, &k->server));
}

static void close_list(struct foil_worker *w, struct mesh_list *l);
static void pool_free_if_empty(struct foil_worker *w, struct mesh_pool *p);

/* Clients choose these hosts: one that nobody uses now makes room for another. False: all are used. */
static FOIL_COLD bool dynamic_room(struct foil_worker *w)
{
	struct mesh_ctx *m = w->mesh;

	for (struct mesh_list *n = m->pool_list.next; m->n_dynamic_pools >= m->hosts.slab.n_max && n != &m->pool_list;) {
		struct mesh_pool *p = FOIL_CONTAINER_OF(n, struct mesh_pool, node);
		n = n->next; /* closing p's connections frees p at most */
		if (!p->is_dynamic || p->n_waiters || p->n_pins || !mesh_list_is_empty(&p->opening) || !mesh_list_is_empty(&p->shared) ||
		    !mesh_list_is_empty(&p->busy))
			continue;
		p->n_pins++;
		close_list(w, &p->idle);
		p->n_pins--;
		pool_free_if_empty(w, p);
	}
	return m->n_dynamic_pools < m->hosts.slab.n_max;
}

static struct mesh_pool *pool_get(struct foil_worker *w, const struct mesh_config *cfg, const struct mesh_cluster *c, const struct pool_key *k)
{
	struct mesh_ctx *m = w->mesh;
	struct mesh_host *h = k->host;
	struct mesh_pool **list = pool_list_of(w, k), *p = *list;

	while (p && !is_for(p, k))
		p = p->next_name;
	if (FOIL_LIKELY(p != NULL)) {
		FOIL_ASSERT(p->host == h); /* the pool holds a configuration that holds its host, so the index is not anybody else's */
		return p;
	}
	if (FOIL_UNLIKELY(k->is_dynamic) && !dynamic_room(w))
		return NULL;
	p = mesh_slab_take(&m->pools);
	if (!p || !pool_keep_name(m, p, k->name)) {
		if (p)
			mesh_slab_give(&m->pools, p);
		return NULL;
	}
	p->host = h;
	p->slot = c->slot;
	p->is_doomed = !mesh_host_now(m, h);
	p->cfg = p->is_doomed || !m->cfg->clusters[c->slot] ? cfg : m->cfg;
	mesh_config_get(w, p->cfg);
	mesh_list_init(&p->opening);
	mesh_list_init(&p->idle);
	mesh_list_init(&p->shared);
	mesh_list_init(&p->busy);
	mesh_list_init(&p->waiters);
	p->is_clients = k->is_clients;
	p->is_dynamic = k->is_dynamic;
	p->is_h2 = k->is_h2;
	p->client = k->client;
	p->server = k->server;
	p->next_name = *list;
	*list = p;
	mesh_list_add_tail(&m->pool_list, &p->node);
	foil_count(w, MESH, POOLS, 1);
	m->n_dynamic_pools += k->is_dynamic;
	return p;
}

/* ---- places that other workers have ---- */
static void starved_over(struct foil_worker *w, struct mesh_pool *p)
{
	if (!p->is_starved)
		return;
	p->is_starved = false;
	foil_timer_cancel(w, &p->starved);
	mesh_place_starve(w, p->host->cluster, -1);
}

static void starved_look(struct foil_worker *w, struct foil_timer *t)
{
	struct mesh_pool *p = FOIL_CONTAINER_OF(t, struct mesh_pool, starved);

	foil_timer_arm(w, t, w->now_us + STARVED_LOOK_US, starved_look);
	mesh_place_ask(w);
	pool_grow(w, p);
}

static void starve(struct foil_worker *w, struct mesh_pool *p)
{
	if (p->is_starved)
		return;
	p->is_starved = true;
	mesh_place_starve(w, p->host->cluster, 1);
	foil_timer_arm(w, &p->starved, w->now_us + STARVED_LOOK_US, starved_look);
}

static void pool_free_if_empty(struct foil_worker *w, struct mesh_pool *p)
{
	if (p->n_conns || p->n_waiters || p->n_pins || !p->host)
		return;
	starved_over(w, p);
	const struct pool_key key = {.host = p->host, .name = p->name, .is_clients = p->is_clients, .is_dynamic = p->is_dynamic, .client = p->client,
				     .server = p->server};
	struct mesh_pool **at = pool_list_of(w, &key);
	while (*at != p)
		at = &(*at)->next_name;
	*at = p->next_name;
	if (p->name.n_bytes)
		mesh_slab_give(&w->mesh->names, (void *)(uintptr_t)p->name.data);
	p->host = NULL;
	mesh_list_del(&p->node);
	foil_count(w, MESH, POOLS, -1);
	w->mesh->n_dynamic_pools -= p->is_dynamic;
	p->grave.held = p->cfg;
	mesh_bury(w, p, &w->mesh->pools);
}

/* ---- waiters ---- */
static void waiter_unlink(struct foil_worker *w, struct mesh_pool_waiter *waiter)
{
	struct mesh_pool *p = waiter->pool;

	mesh_list_del(&waiter->node);
	waiter->pool = NULL;
	if (--p->n_waiters == 0)
		starved_over(w, p);
	mesh_breaker_add(w, p->host->cluster, MESH_BREAKER_PENDING, -1);
}

void mesh_pool_cancel(struct foil_worker *w, struct mesh_pool_waiter *waiter)
{
	struct mesh_pool *p = waiter->pool;

	if (!p)
		return;
	waiter_unlink(w, waiter);
	pool_free_if_empty(w, p);
}

/* Fails all that wait now; what a callback queues anew waits on. */
static FOIL_COLD void waiters_fail(struct foil_worker *w, struct mesh_pool *p, enum http_reset kind, enum stream_end why)
{
	struct mesh_list failed;

	mesh_list_take_all(&failed, &p->waiters);
	p->n_pins++;
	while (!mesh_list_is_empty(&failed)) {
		struct mesh_pool_waiter *waiter = FOIL_CONTAINER_OF(failed.next, struct mesh_pool_waiter, node);
		waiter_unlink(w, waiter);
		waiter->failed(w, waiter, kind, why);
	}
	p->n_pins--;
}

/* ---- connections ---- */
static void conn_close(struct foil_worker *w, struct mesh_upstream *u)
{
	if (u->state == UPSTREAM_GONE || u->is_closing)
		return;
	u->is_closing = true;
	http_conn_close(w, u->conn);
}

static void conn_timer(struct foil_worker *w, struct foil_timer *t);
static void conn_list(struct mesh_upstream *u, struct mesh_list *to, enum upstream_state state);

/* For another worker: its place is given back when the origin, too, has closed it, so that the origin never counts one more. */
static void conn_yield(struct foil_worker *w, struct mesh_upstream *u)
{
	u->is_yielding = true;
	conn_list(u, &u->pool->busy, UPSTREAM_BUSY);
	foil_timer_cancel(w, &u->timer);
	foil_timer_arm(w, &u->timer, w->now_us + YIELD_US_MAX, conn_timer);
	stream_shutdown(w, http_conn_stream(u->conn));
}

static void conn_list(struct mesh_upstream *u, struct mesh_list *to, enum upstream_state state)
{
	if (u->state == UPSTREAM_OPENING && u->pool)
		u->pool->n_opening--;
	mesh_list_del(&u->node);
	u->state = state;
	if (state == UPSTREAM_OPENING)
		u->pool->n_opening++;
	if (to)
		mesh_list_add_head(to, &u->node);
}

static bool is_as_cluster_says(const struct foil_worker *w, const struct mesh_upstream *u, const struct mesh_cluster *c)
{
	if (speaks_h2(u->pool, c) != (http_conn_version(u->conn) == HTTP_VERSION_2))
		return false; /* the cluster speaks another protocol by now */
	if (u->proxy_protocol != c->proxy_protocol)
		return false; /* it begins with another header by now, or with none */
	if (u->pool->is_dynamic != c->is_dynamic)
		return false;
	return u->tls_key == mesh_upstream_tls_key(w, c, u->pool->is_marked); /* or it is protected in another way by now */
}

static bool is_worn_out(struct foil_worker *w, struct mesh_upstream *u)
{
	const struct mesh_cluster *c = pool_cluster(u->pool);
	uint64_t generation = u->pool->cfg->generation;

	if (u->pool->is_doomed || w->mesh->is_closing)
		return true;
	if (FOIL_UNLIKELY(u->fits_generation != generation) && !is_as_cluster_says(w, u, c))
		return true;
	if (FOIL_UNLIKELY(c->is_dynamic) && !addr_eq(&u->place, &u->pool->place))
		return true; /* its host has moved */
	u->fits_generation = generation;
	if (c->max_requests_per_connection && u->n_requests >= c->max_requests_per_connection)
		return true;
	return c->max_connection_duration_us && w->now_us - u->born_us >= c->max_connection_duration_us;
}

/* What begins with a client's addresses is of no use when he has left, which nobody tells us: it does not wait for long. */
static uint64_t idle_us(const struct mesh_upstream *u, const struct mesh_cluster *c)
{
	if (!u->pool->is_clients || u->pool->is_dynamic)
		return c->idle_timeout_us;
	return c->idle_timeout_us ? FOIL_MIN(c->idle_timeout_us, CLIENT_IDLE_US) : CLIENT_IDLE_US;
}

/* One timer a connection, armed when it opened and looked at when it fires: an idle connection that is used costs no timer calls. */
static void conn_timer(struct foil_worker *w, struct foil_timer *t)
{
	struct mesh_upstream *u = FOIL_CONTAINER_OF(t, struct mesh_upstream, timer);
	const struct mesh_cluster *c = pool_cluster(u->pool);
	uint64_t next = UINT64_MAX;

	if (u->state == UPSTREAM_OPENING) {
		u->is_timed_out = true;
		conn_close(w, u);
		return;
	}
	if (u->is_yielding) {
		conn_close(w, u);
		return;
	}
	if (idle_us(u, c)) {
		next = (u->state == UPSTREAM_IDLE ? u->idle_since_us : w->now_us) + idle_us(u, c);
		if (next <= w->now_us) {
			conn_close(w, u);
			return;
		}
	}
	if (c->max_connection_duration_us) {
		uint64_t end = u->born_us + c->max_connection_duration_us;
		if (end <= w->now_us && u->state == UPSTREAM_IDLE) {
			conn_close(w, u);
			return;
		}
		next = FOIL_MIN(next, FOIL_MAX(end, w->now_us + 1000000u)); /* busy past its end: closes when ready, looked at again each second */
	}
	if (next != UINT64_MAX)
		foil_timer_arm(w, &u->timer, next, conn_timer);
}

/* No request comes to it any more; it closes after those it has. */
static void conn_retire(struct foil_worker *w, struct mesh_upstream *u)
{
	conn_list(u, &u->pool->busy, UPSTREAM_BUSY);
	http_conn_drain(w, u->conn);
}

/* After a change of what it serves. */
static void conn_list_by_use(struct mesh_upstream *u)
{
	if (http_conn_is_idle(u->conn))
		conn_list(u, &u->pool->idle, UPSTREAM_IDLE);
	else if (http_conn_capacity(u->conn))
		conn_list(u, &u->pool->shared, UPSTREAM_SHARED);
	else
		conn_list(u, &u->pool->busy, UPSTREAM_BUSY);
}

/* A request begins, for which the breaker has counted one already. NULL: the peer has closed it meanwhile. */
static struct http_stream *conn_start(struct foil_worker *w, struct mesh_upstream *u, struct mesh_pool_waiter *waiter)
{
	struct http_stream *hs = http_client_start(w, u->conn, waiter->arena, waiter->events, waiter->user_data);

	if (!hs)
		return NULL;
	u->n_requests++;
	conn_list_by_use(u);
	if (u->state == UPSTREAM_SHARED && is_worn_out(w, u))
		conn_retire(w, u);
	mesh_host_active_add(w, u->pool->host, 1);
	return hs;
}

/* u can take an exchange: the request that waited longest gets it. */
static void conn_ready(struct foil_worker *w, struct http_conn *conn)
{
	struct mesh_upstream *u = http_conn_data(conn);
	struct mesh_pool *p = u->pool;
	bool was_opening = u->state == UPSTREAM_OPENING;

	if (u->is_closing || u->is_yielding)
		return;
	if (was_opening) {
		u->local = http_conn_stream(conn)->local;
		u->born_us = w->now_us;
		foil_timer_cancel(w, &u->timer);
	}
	u->idle_since_us = w->now_us;
	conn_list_by_use(u);
	if (was_opening)
		conn_timer(w, &u->timer);
	if (!was_opening && mesh_place_is_wanted(w, pool_cluster(p), p->host->cluster)) {
		if (u->state == UPSTREAM_IDLE)
			conn_yield(w, u);
		else
			conn_retire(w, u);
		return;
	}
	if (is_worn_out(w, u) && !(was_opening && p->n_waiters)) {
		if (u->state == UPSTREAM_IDLE)
			conn_close(w, u);
		else
			conn_retire(w, u);
		return;
	}
	while (p->n_waiters && (u->state == UPSTREAM_IDLE || u->state == UPSTREAM_SHARED)) {
		struct mesh_pool_waiter *waiter = FOIL_CONTAINER_OF(p->waiters.next, struct mesh_pool_waiter, node);
		if (!mesh_breaker_take(w, waiter->cluster, p->host->cluster, MESH_BREAKER_REQUESTS)) {
			waiter_unlink(w, waiter);
			foil_count(w, MESH, UPSTREAM_PENDING_OVERFLOW, 1);
			waiter->failed(w, waiter, MESH_RESET_OVERFLOW, STREAM_END_NONE);
			continue;
		}
		struct http_stream *hs = conn_start(w, u, waiter);
		if (!hs) {
			mesh_breaker_add(w, p->host->cluster, MESH_BREAKER_REQUESTS, -1);
			if (u->state == UPSTREAM_IDLE)
				conn_close(w, u);
			else
				conn_list(u, &p->busy, UPSTREAM_BUSY);
			return;
		}
		waiter_unlink(w, waiter);
		mesh_begun_add(w, waiter->cluster, p->host->cluster);
		waiter->ready(w, waiter, u, hs);
	}
}

static void conn_closed(struct foil_worker *w, struct http_conn *conn, enum stream_end why, bool never_opened)
{
	struct mesh_upstream *u = http_conn_data(conn);
	struct mesh_pool *p = u->pool;

	foil_timer_cancel(w, &u->timer);
	conn_list(u, NULL, UPSTREAM_GONE);
	u->conn = NULL;
	p->n_conns--;
	mesh_place_give(w, p->host);
	foil_count(w, MESH, UPSTREAM_CONNS, -1);
	mesh_bury(w, u, &w->mesh->upstreams);
	if (w->mesh->is_closing) {
		pool_free_if_empty(w, p);
		return;
	}
	if (never_opened && (!u->is_closing || u->is_timed_out)) {
		foil_count(w, MESH, UPSTREAM_CONNECT_FAILURES, 1);
		waiters_fail(w, p, u->is_timed_out || why == STREAM_END_CONNECT_TIMEOUT ? HTTP_RESET_CONNECT_TIMEOUT : HTTP_RESET_CONNECT_FAILURE, why);
	}
	if (p->host && p->n_waiters)
		pool_grow(w, p);
	pool_free_if_empty(w, p);
}

static const struct http_client_events client_events = {.ready = conn_ready, .closed = conn_closed};
static const struct stream_user no_user = {.opened = NULL};

int mesh_upstream_proxy_header(struct foil_worker *w, const struct mesh_cluster *c, const struct stream_addr *client, const struct stream_addr *server,
			       struct stream *s)
{
	uint8_t bytes[PROXY_HEADER_WRITE_BYTES_MAX];
	uint32_t n = proxy_header_write(c->proxy_protocol, client, server, bytes);
	struct foil_chain out = {0};

	if (FOIL_LIKELY(n == 0))
		return 0;
	if (foil_chain_append(w, &out, bytes, n) != 0)
		return -ENOBUFS;
	stream_write(w, s, &out);
	return 0;
}

/* The transport's stream, with its PROXY header, and TLS on it where the cluster says so. */
static int stream_open(struct foil_worker *w, const struct mesh_pool *p, const struct mesh_cluster *c, struct stream **s)
{
	const struct mesh_upstream_tls_params tp = {.user = &no_user, .name = p->name};
	bool is_told = p->is_clients && !p->is_dynamic && p->client.port;
	int rc;

	if (!mesh_upstream_tls_is_ready(p->cfg, c, p->is_marked))
		return -ENOKEY;
	if (FOIL_UNLIKELY(p->is_dynamic))
		rc = w->mesh->transport->connect(w, p->place.ip, p->place.port, &no_user, NULL, s);
	else if (c->is_original_dst)
		rc = w->mesh->transport->connect(w, p->server.ip, p->server.port, &no_user, NULL, s);
	else
		rc = w->mesh->transport->connect(w, p->host->ip, p->host->port, &no_user, NULL, s);
	if (rc != 0)
		return rc;
	rc = mesh_upstream_proxy_header(w, c, is_told ? &p->client : NULL, is_told ? &p->server : NULL, *s);
	if (rc == 0 && mesh_upstream_is_tls(c, p->is_marked))
		rc = mesh_upstream_tls_open(w, p->cfg, c, &tp, s);
	if (rc != 0)
		stream_abort(w, *s);
	return rc;
}

static struct http_limits limits_of(const struct mesh_cluster *c)
{
	struct http_limits l = client_limits;

	if (c->max_concurrent_streams)
		l.h2_streams_max = FOIL_MIN(l.h2_streams_max, c->max_concurrent_streams);
	l.h2_ping_interval_us = c->h2_ping_interval_us;
	l.h2_ping_timeout_us = c->h2_ping_timeout_us;
	l.h2_queue_bytes_max = c->buffer_bytes;
	return l;
}

/* 0 or a negative error: no connection was begun. */
static int conn_open(struct foil_worker *w, struct mesh_pool *p)
{
	struct mesh_ctx *m = w->mesh;
	struct mesh_upstream *u = mesh_slab_take(&m->upstreams);
	const struct mesh_cluster *c = pool_cluster(p);
	struct stream *s = NULL;
	int rc;

	if (!u)
		return -ENOBUFS;
	rc = stream_open(w, p, c, &s);
	if (rc == 0) {
		const struct http_limits limits = limits_of(c);
		if (FOIL_UNLIKELY(c->buffer_bytes != 0))
			stream_bound_tx(s, c->buffer_bytes);
		rc = http_client_open_as(w, s, speaks_h2(p, c) ? HTTP_PROTOCOL_H2 : HTTP_PROTOCOL_H1, &client_events,
					 &limits, u, &u->conn);
		if (rc != 0)
			stream_abort(w, s);
	}
	if (rc != 0) {
		mesh_slab_give(&m->upstreams, u);
		foil_count(w, MESH, UPSTREAM_CONNECT_FAILURES, 1);
		return rc;
	}
	u->pool = p;
	u->proxy_protocol = (uint8_t)c->proxy_protocol;
	u->tls_key = mesh_upstream_tls_key(w, c, p->is_marked);
	u->place = p->place;
	u->born_us = w->now_us;
	u->state = UPSTREAM_IDLE; /* conn_list counts the change to OPENING */
	conn_list(u, &p->opening, UPSTREAM_OPENING);
	p->n_conns++;
	foil_count(w, MESH, UPSTREAM_CONNS, 1);
	foil_count(w, MESH, UPSTREAM_CONNECTS, 1);
	foil_timer_arm(w, &u->timer, w->now_us + pool_cluster(p)->connect_timeout_us, conn_timer);
	return 0;
}

/* Closes one idle connection to another host of the cluster; false: there is none on this worker. */
static bool make_room(struct foil_worker *w, const struct mesh_pool *for_pool)
{
	struct mesh_ctx *m = w->mesh;

	for (struct mesh_list *n = m->pool_list.next; n != &m->pool_list; n = n->next) {
		struct mesh_pool *p = FOIL_CONTAINER_OF(n, struct mesh_pool, node);
		if (p == for_pool || p->host->cluster != for_pool->host->cluster || mesh_list_is_empty(&p->idle))
			continue;
		conn_close(w, FOIL_CONTAINER_OF(p->idle.prev, struct mesh_upstream, node));
		return true;
	}
	return false;
}

static bool place_take(struct foil_worker *w, struct mesh_pool *p, const struct mesh_cluster *c)
{
	if (mesh_place_take(w, c, p->host, p->is_starved))
		return true;
	if (!make_room(w, p))
		return mesh_place_take_first(w, p->host);
	mesh_place_take_freed(w, p->host);
	return true;
}

/* Opens connections while fewer open than wait and the breaker has room. */
static void pool_open_more(struct foil_worker *w, struct mesh_pool *p, const struct mesh_cluster *c)
{
	uint32_t streams = c->max_concurrent_streams ? FOIL_MIN(c->max_concurrent_streams, STREAMS_EXPECTED) : STREAMS_EXPECTED;
	uint64_t each = speaks_h2(p, c) ? FOIL_MIN(c->max_requests_per_connection - 1u, streams - 1u) + 1u : 1u;

	while (p->n_opening * each < p->n_waiters) {
		if (!place_take(w, p, c)) {
			if (!p->is_starved)
				foil_count(w, MESH, UPSTREAM_CX_OVERFLOW, 1);
			if (!p->n_conns)
				starve(w, p);
			return;
		}
		if (conn_open(w, p) != 0) {
			mesh_place_give(w, p->host);
			starved_over(w, p);
			return;
		}
		starved_over(w, p);
	}
}

static void pool_grow(struct foil_worker *w, struct mesh_pool *p)
{
	pool_open_more(w, p, pool_cluster(p));
	if (!p->n_conns && !p->is_starved)
		waiters_fail(w, p, HTTP_RESET_CONNECT_FAILURE, STREAM_END_UNREACHABLE);
}

/* A connection that serves others already takes the request; NULL: there is none that can. */
static struct http_stream *shared_start(struct foil_worker *w, struct mesh_pool *p, struct mesh_pool_waiter *waiter, struct mesh_upstream **out)
{
	while (!mesh_list_is_empty(&p->shared)) {
		struct mesh_upstream *u = FOIL_CONTAINER_OF(p->shared.next, struct mesh_upstream, node);
		struct http_stream *hs = is_worn_out(w, u) ? NULL : conn_start(w, u, waiter);

		if (hs) {
			*out = u;
			return hs;
		}
		conn_retire(w, u);
	}
	return NULL;
}

/* The last used idle connection takes the request; NULL: there is none that can. */
static struct http_stream *idle_start(struct foil_worker *w, struct mesh_pool *p, struct mesh_pool_waiter *waiter, struct mesh_upstream **out)
{
	while (!mesh_list_is_empty(&p->idle)) {
		struct mesh_upstream *u = FOIL_CONTAINER_OF(p->idle.next, struct mesh_upstream, node);
		struct http_stream *hs = NULL;

		if (!is_worn_out(w, u))
			hs = conn_start(w, u, waiter);
		if (hs) {
			*out = u;
			return hs;
		}
		conn_close(w, u);
		if (u->state == UPSTREAM_IDLE) /* it closes later: out of the way */
			conn_list(u, &p->busy, UPSTREAM_BUSY);
	}
	return NULL;
}

static void retire_list(struct foil_worker *w, struct mesh_list *l);

/* Connections to where the host was serve what they have begun, and nothing else. */
static void pool_move(struct foil_worker *w, struct mesh_pool *p, const struct stream_addr *place)
{
	bool is_first = p->place.port == 0;

	if (addr_eq(&p->place, place))
		return;
	p->place = *place;
	if (is_first)
		return;
	p->n_pins++;
	close_list(w, &p->idle);
	retire_list(w, &p->shared);
	p->n_pins--;
}

enum mesh_pool_result mesh_pool_acquire(struct foil_worker *w, const struct mesh_config *cfg, const struct mesh_cluster *c,
					const struct mesh_endpoint *e, struct mesh_pool_waiter *waiter, struct mesh_upstream **out,
					struct http_stream **stream)
{
	const struct pool_key key = key_of(c, e->host, waiter);
	struct mesh_pool *p = pool_get(w, cfg, c, &key);
	bool is_idle;

	if (!p)
		return MESH_POOL_FAILED;
	p->is_marked = e->tls;
	if (FOIL_UNLIKELY(c->is_dynamic))
		pool_move(w, p, waiter->place);
	waiter->cluster = c;
	is_idle = !mesh_list_is_empty(&p->idle) || !mesh_list_is_empty(&p->shared);
	if (is_idle && !mesh_breaker_take(w, c, e->host->cluster, MESH_BREAKER_REQUESTS)) {
		foil_count(w, MESH, UPSTREAM_PENDING_OVERFLOW, 1);
		return MESH_POOL_OVERFLOW;
	}
	p->n_pins++;
	*stream = shared_start(w, p, waiter, out);
	if (!*stream)
		*stream = idle_start(w, p, waiter, out);
	p->n_pins--;
	if (*stream) {
		mesh_begun_add(w, c, e->host->cluster);
		return MESH_POOL_READY;
	}
	if (is_idle) /* none of them could */
		mesh_breaker_add(w, e->host->cluster, MESH_BREAKER_REQUESTS, -1);
	if (!mesh_breaker_take(w, c, e->host->cluster, MESH_BREAKER_PENDING)) {
		foil_count(w, MESH, UPSTREAM_PENDING_OVERFLOW, 1);
		pool_free_if_empty(w, p);
		return MESH_POOL_QUEUE_OVERFLOW;
	}
	waiter->pool = p;
	mesh_list_add_tail(&p->waiters, &waiter->node);
	p->n_waiters++;
	pool_open_more(w, p, c);
	if (p->n_conns || p->is_starved)
		return MESH_POOL_WAITING;
	waiter_unlink(w, waiter);
	pool_free_if_empty(w, p);
	return MESH_POOL_FAILED;
}

/* ---- configurations ---- */
static void close_list(struct foil_worker *w, struct mesh_list *l)
{
	struct mesh_list all;

	mesh_list_take_all(&all, l);
	while (!mesh_list_is_empty(&all)) {
		struct mesh_upstream *u = FOIL_CONTAINER_OF(all.next, struct mesh_upstream, node);
		mesh_list_del(&u->node);
		mesh_list_add_tail(l, &u->node);
		conn_close(w, u);
	}
}

static void retire_list(struct foil_worker *w, struct mesh_list *l)
{
	struct mesh_list all;

	mesh_list_take_all(&all, l);
	while (!mesh_list_is_empty(&all))
		conn_retire(w, FOIL_CONTAINER_OF(all.next, struct mesh_upstream, node));
}

static void pool_adopt(struct foil_worker *w, struct mesh_pool *p, const struct mesh_config *cfg)
{
	if (mesh_host_now(w->mesh, p->host) && p->slot < cfg->n_cluster_slots && cfg->clusters[p->slot]) {
		mesh_config_get(w, cfg);
		mesh_config_put(w, p->cfg);
		p->cfg = cfg;
		p->is_doomed = false;
		return;
	}
	p->is_doomed = true;
	p->n_pins++;
	close_list(w, &p->idle);
	retire_list(w, &p->shared);
	if (!p->n_waiters)
		close_list(w, &p->opening);
	p->n_pins--;
	pool_free_if_empty(w, p);
}

void mesh_pools_adopt(struct foil_worker *w, const struct mesh_config *cfg)
{
	struct mesh_list *head = &w->mesh->pool_list;

	for (struct mesh_list *n = head->next, *next; n != head; n = next) {
		next = n->next; /* closing connections frees this pool at most: others are freed when their own connections close */
		pool_adopt(w, FOIL_CONTAINER_OF(n, struct mesh_pool, node), cfg);
	}
}

/* Of one, since who waits asks again. */
void mesh_pools_yield(struct foil_worker *w)
{
	struct mesh_list *head = &w->mesh->pool_list;

	for (struct mesh_list *n = head->next; n != head; n = n->next) {
		struct mesh_pool *p = FOIL_CONTAINER_OF(n, struct mesh_pool, node);
		if (mesh_list_is_empty(&p->idle) || !mesh_place_is_wanted(w, pool_cluster(p), p->host->cluster))
			continue;
		conn_yield(w, FOIL_CONTAINER_OF(p->idle.prev, struct mesh_upstream, node));
		return;
	}
}

uint32_t mesh_pools_shrink(struct foil_worker *w, uint32_t n_most)
{
	struct mesh_list *head = &w->mesh->pool_list, *last = head->prev;
	uint32_t n_closed = 0;
	bool is_last = mesh_list_is_empty(head);

	while (n_closed < n_most && !is_last) {
		struct mesh_pool *p = FOIL_CONTAINER_OF(head->next, struct mesh_pool, node);
		is_last = &p->node == last;
		mesh_list_del(&p->node); /* the next call begins with others */
		mesh_list_add_tail(head, &p->node);
		p->n_pins++;
		for (; n_closed < n_most && !mesh_list_is_empty(&p->idle); n_closed++)
			conn_close(w, FOIL_CONTAINER_OF(p->idle.prev, struct mesh_upstream, node));
		p->n_pins--;
		pool_free_if_empty(w, p);
	}
	return n_closed;
}

void mesh_pools_close(struct foil_worker *w)
{
	struct mesh_list *head = &w->mesh->pool_list;

	while (!mesh_list_is_empty(head)) {
		struct mesh_pool *p = FOIL_CONTAINER_OF(head->next, struct mesh_pool, node);
		p->n_pins++;
		waiters_fail(w, p, HTTP_RESET_LOCAL, STREAM_END_LOCAL);
		close_list(w, &p->opening);
		close_list(w, &p->idle);
		close_list(w, &p->shared);
		close_list(w, &p->busy);
		p->n_pins--;
		FOIL_ASSERT(p->n_conns == 0);
		pool_free_if_empty(w, p);
	}
}
