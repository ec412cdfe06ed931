/* Mirrored requests (features.md VS-49, VS-50): a copy of a complete request goes to another cluster, nobody waits for the answer, and nothing that happens
 * to it reaches the original. The copy owns its bytes (its arena, references to the body), because the original may be over first.
 * What the shadow's origin sees is what Envoy's async client sends: our own address appended to x-forwarded-for, and x-envoy-internal.
 * Not mirrored, and counted: bodies beyond what is kept, no host, an open breaker, no memory. */
#include <arpa/inet.h>

#include "dataplane/mesh/lb.h"
#include "dataplane/mesh/runtime.h"

#define SHADOW_TIME_US_MAX 60000000u /* where the route has no timeout: a shadow may not stay for ever */

struct shadow {
	struct mesh_grave grave;
	struct mesh_list node;
	struct foil_arena arena;
	struct http_head head;
	struct foil_chain body;
	struct mesh_pool_waiter waiter;
	const struct mesh_cluster *cluster;
	const struct mesh_endpoint *endpoint;
	struct http_stream *stream;
	struct foil_timer timer;
	bool is_over, response_started;
	bool announces_body; /* as the original did, whether one came or not (Envoy) */
};

int mesh_mirrors_init(struct mesh_ctx *m, uint32_t n_max)
{
	return mesh_slab_init(&m->shadows, sizeof(struct shadow), n_max);
}

static void shadow_end(struct foil_worker *w, struct shadow *s)
{
	if (s->is_over)
		return;
	s->is_over = true;
	foil_timer_cancel(w, &s->timer);
	mesh_pool_cancel(w, &s->waiter);
	if (s->stream) {
		struct http_stream *hs = s->stream;
		s->stream = NULL;
		hs->user_data = NULL;
		mesh_pool_done(w, s->endpoint->host);
		http_stream_reset(w, hs);
	}
	foil_chain_clear(&s->body);
	foil_arena_reset(w, &s->arena);
	mesh_list_del(&s->node);
	mesh_bury(w, s, &w->mesh->shadows);
}

/* ---- its answer ---- */
static void shadow_head(struct foil_worker *w, struct http_stream *hs, struct http_head *head, bool end)
{
	struct shadow *s = hs->user_data;

	(void)end;
	if (!s)
		return;
	s->response_started = true;
	mesh_outlier_outcome(w, s->cluster, s->endpoint->host, MESH_OUTCOME_STATUS, head->status);
}

static void shadow_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	(void)w;
	(void)hs;
	(void)end;
	foil_chain_clear(own_data);
}

static void shadow_complete(struct foil_worker *w, struct http_stream *hs)
{
	struct shadow *s = hs->user_data;

	if (!s)
		return;
	s->stream = NULL;
	mesh_pool_done(w, s->endpoint->host);
	shadow_end(w, s);
}

static void shadow_reset(struct foil_worker *w, struct http_stream *hs, const struct http_reset_info *info)
{
	struct shadow *s = hs->user_data;

	(void)info;
	if (!s)
		return;
	mesh_outlier_outcome(w, s->cluster, s->endpoint->host, MESH_OUTCOME_RESET, 0);
	shadow_complete(w, hs);
}

static const struct http_stream_events shadow_events = {
	.head = shadow_head, .data = shadow_data, .complete = shadow_complete, .reset = shadow_reset,
};

/* ---- sending ---- */
static void shadow_connected(struct foil_worker *w, struct shadow *s, struct http_stream *hs)
{
	bool end = !s->announces_body;

	s->stream = hs;
	mesh_outlier_outcome(w, s->cluster, s->endpoint->host, MESH_OUTCOME_CONNECT_OK, 0);
	if (http_send_head(w, hs, &s->head, end) != 0) {
		foil_count(w, MESH, MIRRORS_DROPPED, 1);
		shadow_end(w, s);
		return;
	}
	foil_count(w, MESH, MIRRORS, 1);
	if (!end && !s->is_over)
		http_send_data(w, hs, &s->body, true);
}

static void shadow_ready(struct foil_worker *w, struct mesh_pool_waiter *waiter, struct mesh_upstream *u, struct http_stream *hs)
{
	(void)u;
	shadow_connected(w, waiter->user_data, hs);
}

static void shadow_failed(struct foil_worker *w, struct mesh_pool_waiter *waiter, enum http_reset kind, enum stream_end why)
{
	struct shadow *s = waiter->user_data;

	(void)why;
	if (kind != MESH_RESET_OVERFLOW)
		mesh_outlier_outcome(w, s->cluster, s->endpoint->host, MESH_OUTCOME_CONNECT_FAILED, 0);
	foil_count(w, MESH, MIRRORS_DROPPED, 1);
	shadow_end(w, s);
}

static void shadow_time_over(struct foil_worker *w, struct foil_timer *t)
{
	shadow_end(w, FOIL_CONTAINER_OF(t, struct shadow, timer));
}

/* ---- the copy ---- */
static int copy_slice(struct foil_worker *w, struct foil_arena *a, struct foil_slice *s)
{
	struct foil_slice copy = foil_arena_copy(w, a, *s);

	if (!copy.data && s->n_bytes)
		return -1;
	*s = copy;
	return 0;
}

static int copy_head(struct foil_worker *w, struct foil_arena *a, const struct http_head *from, struct http_head *to)
{
	int rc = 0;

	*to = *from;
	to->headers = (struct http_headers){0};
	rc = copy_slice(w, a, &to->method_text);
	rc = rc ? rc : copy_slice(w, a, &to->scheme);
	rc = rc ? rc : copy_slice(w, a, &to->authority);
	rc = rc ? rc : copy_slice(w, a, &to->path);
	for (uint16_t i = 0; i < from->headers.n && rc == 0; i++) {
		struct http_header h = from->headers.list[i];
		if (h.is_removed)
			continue;
		rc = copy_slice(w, a, &h.name);
		rc = rc ? rc : copy_slice(w, a, &h.value);
		rc = rc ? rc : http_header_add(w, a, &to->headers, h.name, h.value);
	}
	return rc;
}

static struct foil_slice ip_text(struct foil_worker *w, struct foil_arena *a, const uint8_t ip[16])
{
	static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
	char text[INET6_ADDRSTRLEN];
	bool is_v4 = memcmp(ip, v4, sizeof(v4)) == 0;

	if (!inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? &ip[12] : ip, text, sizeof(text)))
		return (struct foil_slice){NULL, 0};
	return foil_arena_copy(w, a, foil_slice_str(text));
}

/* "a.test:8080" -> "a.test-shadow:8080" */
static struct foil_slice shadow_host(struct foil_worker *w, struct foil_arena *a, struct foil_slice host)
{
	uint32_t at = host.n_bytes;

	for (uint32_t i = host.n_bytes; i-- > 0 && host.data[i] != ']';)
		if (host.data[i] == ':')
			at = i;
	return foil_arena_printf(w, a, "%.*s-shadow%.*s", (int)at, host.data, (int)(host.n_bytes - at), host.data + at);
}

static int shadow_head_fill(struct foil_worker *w, struct shadow *s, const struct mesh_exchange *x, const struct mesh_mirror *m)
{
	struct http_head *h = &s->head;
	struct foil_slice own = ip_text(w, &s->arena, x->local.ip), xff;
	int rc = copy_head(w, &s->arena, x->request, h);

	if (rc != 0 || !own.data)
		return -1;
	h->version = HTTP_VERSION_11;
	h->wants_close = h->was_absolute_form = false;
	xff = http_header_joined(w, &s->arena, &h->headers, http_header_name(HTTP_HDR_X_FORWARDED_FOR));
	xff = xff.n_bytes ? foil_arena_printf(w, &s->arena, "%.*s,%.*s", (int)FOIL_MIN(xff.n_bytes, 3000u), xff.data, (int)own.n_bytes, own.data) : own;
	rc = xff.data ? mesh_header_put(w, &s->arena, &h->headers, HTTP_HDR_X_FORWARDED_FOR, xff) : -1;
	rc = rc ? rc : mesh_header_put(w, &s->arena, &h->headers, HTTP_HDR_X_ENVOY_INTERNAL, FOIL_SLICE("true"));
	if (rc == 0 && x->n_tries > 1 && http_header_get(&h->headers, HTTP_HDR_X_ENVOY_ATTEMPT_COUNT))
		rc = mesh_header_put(w, &s->arena, &h->headers, HTTP_HDR_X_ENVOY_ATTEMPT_COUNT, FOIL_SLICE("1"));
	if (rc == 0 && m->append_shadow_suffix) {
		h->authority = shadow_host(w, &s->arena, h->authority);
		rc = h->authority.data ? 0 : -1;
	}
	s->announces_body = !x->head_ended || x->n_body_bytes;
	return rc;
}

static bool shadow_start(struct foil_worker *w, struct shadow *s, const struct mesh_exchange *x, const struct mesh_mirror *m)
{
	struct mesh_upstream *u = NULL;
	struct http_stream *hs = NULL;
	const struct mesh_endpoints *e = x->cfg->endpoints[m->slot];
	struct mesh_host_set *set = x->cfg->host_sets[m->slot];

	s->cluster = x->cfg->clusters[m->slot];
	if (s->cluster->is_original_dst || s->cluster->is_dynamic) /* a shadow went nowhere (Envoy: no host) */
		return false;
	s->endpoint = e && set && e->n_endpoints ? mesh_lb_pick(w, s->cluster, e, set, NULL, 0, 0) : NULL;
	if (!s->endpoint || shadow_head_fill(w, s, x, m) != 0)
		return false;
	if (x->n_body_bytes && foil_chain_share(w, &x->kept, 0, x->kept.n_bytes, &s->body) != 0)
		return false;
	s->waiter = (struct mesh_pool_waiter){
		.arena = &s->arena, .events = &shadow_events, .user_data = s, .ready = shadow_ready, .failed = shadow_failed,
		.authority = s->head.authority, .is_client_h2 = x->request->version == HTTP_VERSION_2,
	};
	foil_timer_arm(w, &s->timer, w->now_us + (x->timeout_us ? x->timeout_us : SHADOW_TIME_US_MAX), shadow_time_over);
	switch (mesh_pool_acquire(w, x->cfg, s->cluster, s->endpoint, &s->waiter, &u, &hs)) {
	case MESH_POOL_READY: shadow_connected(w, s, hs); return true;
	case MESH_POOL_WAITING: return true;
	case MESH_POOL_OVERFLOW:
	case MESH_POOL_QUEUE_OVERFLOW:
	case MESH_POOL_FAILED: return false;
	}
	FOIL_UNREACHABLE();
}

static void mirror(struct foil_worker *w, const struct mesh_exchange *x, const struct mesh_mirror *m)
{
	struct shadow *s;

	if (m->per_million < 1000000u && foil_prng_below(&w->prng, 1000000u) >= m->per_million)
		return;
	s = m->slot < x->cfg->n_cluster_slots && x->cfg->clusters[m->slot] ? mesh_slab_take(&w->mesh->shadows) : NULL;
	if (!s) {
		foil_count(w, MESH, MIRRORS_DROPPED, 1);
		return;
	}
	mesh_config_get(w, x->cfg);
	s->grave.held = x->cfg;
	mesh_list_add_tail(&w->mesh->shadow_list, &s->node);
	if (!shadow_start(w, s, x, m)) {
		foil_count(w, MESH, MIRRORS_DROPPED, 1);
		shadow_end(w, s);
	}
}

void mesh_mirror_send(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_route_action *a = &x->route->route;

	if (x->n_body_bytes && !x->keep) {
		foil_count(w, MESH, MIRRORS_DROPPED, a->n_mirrors);
		return;
	}
	for (uint16_t i = 0; i < a->n_mirrors && !x->is_over; i++)
		mirror(w, x, &a->mirrors[i]);
}

void mesh_mirrors_close(struct foil_worker *w)
{
	struct mesh_list *head = &w->mesh->shadow_list;

	while (!mesh_list_is_empty(head))
		shadow_end(w, FOIL_CONTAINER_OF(head->next, struct shadow, node));
}
