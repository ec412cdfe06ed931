/* Active health checks (features.md HC-3), by HTTP, gRPC's health service or a TCP connect. Rules as Envoy's checkers: the first outcome counts at once, later
 * ones by thresholds, an answer that says "not well" at once, and so a good one that says "degraded" (HC-5); while a cluster has had no traffic the
 * longer interval holds. Where Envoy keeps a new cluster back until all its hosts were asked once, hosts of a cluster in which none is known to be well
 * may be used unasked.
 *
 * One worker asks a host, and all workers see what it found (mesh_host.health). Each check is a connection of its own, which no pool, breaker or
 * outlier detector knows of. Not here: who is picked (lb.c).
 * Invariant: a check is in the list of its worker if and only if the adopted configuration names its host with a check; endpoint and cluster are of
 * that configuration. Connections are closed and memory is given back from the timer alone, never from inside a callback. */
#include "dataplane/mesh/health.h"

#include "dataplane/core/cursor.h"
#include "dataplane/mesh/runtime.h"

#define CHECKS_MAX 65536u
#define FIRST_SPREAD_US 10000u
#define GRPC_ANSWER_BYTES_MAX 256u
#define GRPC_SERVING 1u

enum check_state { CHECK_WAITS, CHECK_RUNS, CHECK_ENDS };

struct check {
	struct mesh_grave grave;
	struct mesh_list node; /* ctx->check_list */
	struct mesh_host *host;
	const struct mesh_endpoint *endpoint;
	const struct mesh_cluster *cluster;
	uint64_t seen; /* generation of the configuration that named it last */
	struct foil_timer timer;
	uint32_t n_good, n_bad; /* in a row, towards the other state */
	enum check_state state;
	bool is_known; /* there was an outcome */
	/* what runs */
	struct stream *stream; /* TCP */
	struct http_conn *conn;
	struct http_stream *hs;
	struct foil_arena arena;
	uint16_t status;
	bool says_fail;       /* x-envoy-immediate-health-check-fail */
	bool says_degraded;   /* x-envoy-degraded */
	int16_t grpc_status;
	uint16_t n_answer;
	uint8_t answer[GRPC_ANSWER_BYTES_MAX];
};

static const struct http_limits limits = {
	.head_bytes_max = 60u * 1024u, .headers_max = 100, .h2_streams_max = 1, .h2_stream_window_bytes = 64u * 1024u, .h2_conn_window_bytes = 64u * 1024u,
};

int mesh_checks_init(struct mesh_ctx *m)
{
	return mesh_slab_init(&m->checks, sizeof(struct check), CHECKS_MAX);
}

/* ---- what all workers see ---- */
static bool is_down(enum mesh_health health)
{
	return health == MESH_HEALTH_PENDING || health == MESH_HEALTH_FAILED;
}

static bool is_known_good(enum mesh_health health)
{
	return health == MESH_HEALTH_GOOD || health == MESH_HEALTH_DEGRADED;
}

static void count_degraded(struct foil_worker *w, struct mesh_host *h, bool is_degraded)
{
	__atomic_fetch_add(&h->cluster->n_degraded, is_degraded ? 1u : -1u, __ATOMIC_RELAXED);
	__atomic_fetch_add(h->cluster->n_told_changes, 1, __ATOMIC_RELAXED);
	foil_count(w, MESH, HEALTH_CHECK_DEGRADED, is_degraded);
}

static void become(struct foil_worker *w, struct mesh_host *h, enum mesh_health next)
{
	enum mesh_health was = (enum mesh_health)__atomic_exchange_n(&h->health, (uint8_t)next, __ATOMIC_RELAXED);
	bool was_degraded = was == MESH_HEALTH_DEGRADED, is_degraded = next == MESH_HEALTH_DEGRADED;

	if (was == next)
		return;
	if (is_known_good(was) != is_known_good(next))
		__atomic_fetch_add(&h->cluster->n_known_good, is_known_good(next) ? 1u : -1u, __ATOMIC_RELAXED);
	if (was_degraded != is_degraded)
		count_degraded(w, h, is_degraded);
	if (next == MESH_HEALTH_FAILED)
		foil_count(w, MESH, HEALTH_CHECK_FALLS, 1);
	if (was == MESH_HEALTH_FAILED && is_known_good(next)) {
		foil_count(w, MESH, HEALTH_CHECK_RETURNS, 1);
		__atomic_store_n(&h->seen_us, w->now_us, __ATOMIC_RELAXED); /* its slow start begins anew */
	}
	if (is_down(was) != is_down(next) || was_degraded != is_degraded)
		__atomic_fetch_add(&h->cluster->health_epoch, 1, __ATOMIC_RELEASE);
}

void mesh_health_fail_now(struct foil_worker *w, struct mesh_host *h)
{
	if (__atomic_load_n(&h->health, __ATOMIC_RELAXED) != MESH_HEALTH_UNCHECKED)
		become(w, h, MESH_HEALTH_FAILED);
}

/* ---- outcomes ---- */
static void timer_fired(struct foil_worker *w, struct foil_timer *t);

static void judge_good(struct foil_worker *w, struct check *c)
{
	const struct mesh_health_check *r = c->endpoint->check;

	c->n_bad = 0;
	if (mesh_health_is_down(c->host) && c->is_known && ++c->n_good < r->healthy_threshold)
		return;
	c->n_good = 0;
	become(w, c->host, c->says_degraded ? MESH_HEALTH_DEGRADED : MESH_HEALTH_GOOD);
}

static void judge_bad(struct foil_worker *w, struct check *c, bool at_once)
{
	const struct mesh_health_check *r = c->endpoint->check;

	c->n_good = 0;
	foil_count(w, MESH, HEALTH_CHECK_FAILURES, 1);
	if (!c->is_known || at_once || mesh_health_is_down(c->host) || ++c->n_bad >= r->unhealthy_threshold) {
		c->n_bad = 0;
		become(w, c->host, MESH_HEALTH_FAILED);
	}
}

/* The check at hand has told enough. at_once: the host itself said that it is not well. */
static void outcome(struct foil_worker *w, struct check *c, bool is_good, bool at_once)
{
	if (c->state != CHECK_RUNS)
		return;
	c->state = CHECK_ENDS;
	foil_timer_cancel(w, &c->timer);
	foil_timer_arm(w, &c->timer, w->now_us, timer_fired);
	if (is_good)
		judge_good(w, c);
	else
		judge_bad(w, c, at_once);
	c->is_known = true;
}

/* ---- HTTP and gRPC ---- */
static bool is_expected(const struct mesh_health_check *r, uint16_t status)
{
	for (uint16_t i = 0; i < r->n_expected; i++)
		if (status >= r->expected[i].from && status <= r->expected[i].to)
			return true;
	return false;
}

/* grpc.health.v1.HealthCheckResponse in its five bytes of frame: field 1 is the status. */
static bool is_serving(const struct check *c)
{
	struct foil_cur cur = cur_of(c->answer, c->n_answer);
	uint8_t compressed = cur_u8(&cur);
	uint32_t n_bytes = cur_be32(&cur);
	uint32_t status = 0;

	if (cur.short_read || compressed || n_bytes != cur_left(&cur))
		return false;
	while (cur_left(&cur)) {
		uint8_t tag = cur_u8(&cur), value = cur_u8(&cur);
		if (cur.short_read || tag != 0x08 || value >= 0x80) /* nothing else is in that message */
			return false;
		status = value;
	}
	return status == GRPC_SERVING;
}

static int16_t grpc_status_of(const struct http_headers *headers)
{
	const struct http_header *h = http_header_get(headers, HTTP_HDR_GRPC_STATUS);

	return h && h->value.n_bytes == 1 && h->value.data[0] == '0' ? 0 : -1;
}

static void on_head(struct foil_worker *w, struct http_stream *hs, struct http_head *head, bool end)
{
	struct check *c = hs->user_data;

	(void)w;
	(void)end;
	c->status = head->status;
	c->says_fail = http_header_find(&head->headers, FOIL_SLICE("x-envoy-immediate-health-check-fail")) != NULL;
	c->says_degraded = c->endpoint->check->kind == MESH_HEALTH_HTTP && http_header_get(&head->headers, HTTP_HDR_X_ENVOY_DEGRADED);
	if (http_header_get(&head->headers, HTTP_HDR_GRPC_STATUS))
		c->grpc_status = grpc_status_of(&head->headers);
}

static void on_data(struct foil_worker *w, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	struct check *c = hs->user_data;
	uint32_t room = c->endpoint->check->kind == MESH_HEALTH_GRPC ? GRPC_ANSWER_BYTES_MAX - c->n_answer : 0;
	uint32_t n = FOIL_MIN(room, own_data->n_bytes);

	(void)w;
	(void)end;
	if (n) {
		foil_chain_copy_out(own_data, 0, c->answer + c->n_answer, n);
		c->n_answer = (uint16_t)(c->n_answer + n);
	}
	foil_chain_clear(own_data);
}

static void on_trailers(struct foil_worker *w, struct http_stream *hs, struct http_headers *trailers)
{
	struct check *c = hs->user_data;

	(void)w;
	c->grpc_status = grpc_status_of(trailers);
}

static void on_complete(struct foil_worker *w, struct http_stream *hs)
{
	struct check *c = hs->user_data;
	const struct mesh_health_check *r = c->endpoint->check;
	bool is_good = r->kind == MESH_HEALTH_GRPC ? c->status == 200 && c->grpc_status == 0 && is_serving(c) : is_expected(r, c->status);

	c->hs = NULL;
	outcome(w, c, is_good && !c->says_fail, true);
}

static void on_reset(struct foil_worker *w, struct http_stream *hs, const struct http_reset_info *info)
{
	struct check *c = hs->user_data;

	(void)info;
	c->hs = NULL;
	outcome(w, c, false, false);
}

static const struct http_stream_events stream_events = {
	.head = on_head, .data = on_data, .trailers = on_trailers, .complete = on_complete, .reset = on_reset,
};

static int http_head_fill(struct foil_worker *w, struct check *c, struct http_head *h)
{
	const struct mesh_health_check *r = c->endpoint->check;
	bool is_grpc = r->kind == MESH_HEALTH_GRPC;
	int rc;

	*h = (struct http_head){
		.method_text = is_grpc ? FOIL_SLICE("POST") : FOIL_SLICE("GET"), .method = is_grpc ? HTTP_METHOD_POST : HTTP_METHOD_GET,
		.scheme = c->cluster->tls ? FOIL_SLICE("https") : FOIL_SLICE("http"), .authority = r->host,
		.path = is_grpc ? FOIL_SLICE("/grpc.health.v1.Health/Check") : r->path, .version = HTTP_VERSION_11,
		.body = is_grpc ? HTTP_BODY_LENGTH : HTTP_BODY_NONE, .has_te_trailers = is_grpc,
	};
	h->content_length = is_grpc ? 5u + (r->service.n_bytes ? 2u + r->service.n_bytes : 0u) : 0u;
	rc = http_header_add_id(w, &c->arena, &h->headers, HTTP_HDR_USER_AGENT, FOIL_SLICE("hydrofoil/health-check"));
	if (rc == 0 && is_grpc)
		rc = http_header_add_id(w, &c->arena, &h->headers, HTTP_HDR_CONTENT_TYPE, FOIL_SLICE("application/grpc"));
	if (rc == 0 && is_grpc)
		rc = http_header_add_id(w, &c->arena, &h->headers, HTTP_HDR_TE, FOIL_SLICE("trailers"));
	for (uint16_t i = 0; i < r->n_headers && rc == 0; i++)
		rc = http_header_set(w, &c->arena, &h->headers, r->headers[i].name, r->headers[i].value);
	return rc;
}

/* HealthCheckRequest: the service's name in field 1. */
static int grpc_body(struct foil_worker *w, const struct mesh_health_check *r, struct foil_chain *out)
{
	uint8_t bytes[7] = {0, 0, 0, 0, 0, 0x0a, (uint8_t)r->service.n_bytes};
	int rc;

	FOIL_ASSERT(r->service.n_bytes <= MESH_HEALTH_SERVICE_BYTES_MAX);
	bytes[4] = (uint8_t)(r->service.n_bytes ? r->service.n_bytes + 2u : 0u);
	rc = foil_chain_append(w, out, bytes, r->service.n_bytes ? 7 : 5);
	return rc == 0 && r->service.n_bytes ? foil_chain_append(w, out, r->service.data, r->service.n_bytes) : rc;
}

static void conn_ready(struct foil_worker *w, struct http_conn *conn)
{
	struct check *c = http_conn_data(conn);
	struct foil_chain body = {0};
	struct http_head head;
	bool is_grpc = c->endpoint->check->kind == MESH_HEALTH_GRPC;

	if (c->state != CHECK_RUNS || c->hs)
		return;
	c->hs = http_client_start(w, conn, &c->arena, &stream_events, c);
	if (!c->hs || http_head_fill(w, c, &head) != 0 || (is_grpc && grpc_body(w, c->endpoint->check, &body) != 0) ||
	    http_send_head(w, c->hs, &head, !is_grpc) != 0) {
		foil_chain_clear(&body);
		outcome(w, c, false, false);
		return;
	}
	if (is_grpc && c->hs)
		http_send_data(w, c->hs, &body, true);
	else
		foil_chain_clear(&body);
}

static void conn_closed(struct foil_worker *w, struct http_conn *conn, enum stream_end why, bool never_opened)
{
	struct check *c = http_conn_data(conn);

	(void)why;
	(void)never_opened;
	c->conn = NULL;
	c->hs = NULL;
	outcome(w, c, false, false);
}

static const struct http_client_events client_events = {.ready = conn_ready, .closed = conn_closed};
static const struct stream_user no_user = {.opened = NULL};

/* ---- TCP ---- */
static void tcp_opened(struct foil_worker *w, struct stream *s)
{
	outcome(w, s->user_data, true, false);
}

static void tcp_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	struct check *c = s->user_data;

	(void)why;
	c->stream = NULL;
	outcome(w, c, false, false);
}

static const struct stream_user tcp_user = {.opened = tcp_opened, .closed = tcp_closed};

/* ---- one check ---- */
/* The transport's stream, with what connections of the cluster begin with. 0, or negative with nothing open. */
static int stream_open(struct foil_worker *w, struct check *c, const struct stream_user *user, struct stream **s)
{
	const struct mesh_health_check *r = c->endpoint->check;
	const struct mesh_upstream_tls_params tp = {.user = user, .user_data = c, .name = mesh_upstream_name(c->cluster, r->host)};
	int rc;

	if (!mesh_upstream_tls_is_ready(w->mesh->cfg, c->cluster, c->endpoint->tls))
		return -1;
	rc = w->mesh->transport->connect(w, c->endpoint->ip, r->port ? r->port : c->endpoint->port, user, c, s);
	if (rc != 0)
		return rc;
	rc = mesh_upstream_proxy_header(w, c->cluster, NULL, NULL, *s);
	if (rc == 0 && mesh_upstream_is_tls(c->cluster, c->endpoint->tls))
		rc = mesh_upstream_tls_open(w, w->mesh->cfg, c->cluster, &tp, s);
	if (rc != 0)
		stream_abort(w, *s);
	return rc;
}

static int open_any(struct foil_worker *w, struct check *c)
{
	const struct mesh_health_check *r = c->endpoint->check;
	bool is_h2 = r->kind == MESH_HEALTH_GRPC || c->cluster->protocol == MESH_UPSTREAM_HTTP2;
	struct stream *s = NULL;
	int rc = stream_open(w, c, r->kind == MESH_HEALTH_TCP ? &tcp_user : &no_user, &s);

	if (rc != 0)
		return rc;
	if (r->kind == MESH_HEALTH_TCP) {
		c->stream = s;
		return 0;
	}
	rc = http_client_open_as(w, s, is_h2 ? HTTP_PROTOCOL_H2 : HTTP_PROTOCOL_H1, &client_events, &limits, c, &c->conn);
	if (rc != 0)
		stream_abort(w, s);
	return rc;
}

static void begin(struct foil_worker *w, struct check *c)
{
	c->state = CHECK_RUNS;
	c->status = c->n_answer = 0;
	c->grpc_status = -1;
	c->says_fail = c->says_degraded = false;
	foil_count(w, MESH, HEALTH_CHECKS, 1);
	foil_timer_arm(w, &c->timer, w->now_us + c->endpoint->check->timeout_us, timer_fired);
	if (open_any(w, c) != 0)
		outcome(w, c, false, false);
}

static void give_back(struct foil_worker *w, struct check *c)
{
	struct stream *s = c->stream;

	if (c->conn)
		http_conn_close(w, c->conn);
	FOIL_ASSERT(!c->conn);
	c->stream = NULL;
	if (s && s->is_open)
		stream_release(w, s);
	else if (s)
		stream_abort(w, s);
	foil_arena_reset(w, &c->arena);
}

static void wait_for_next(struct foil_worker *w, struct check *c)
{
	const struct mesh_health_check *r = c->endpoint->check;
	bool has_traffic = __atomic_load_n(&c->host->cluster->has_traffic, __ATOMIC_RELAXED);
	uint64_t after_us = has_traffic ? r->interval_us : r->no_traffic_interval_us;

	c->state = CHECK_WAITS;
	if (r->jitter_us)
		after_us += foil_prng_below(&w->prng, (uint32_t)r->jitter_us + 1u);
	foil_timer_arm(w, &c->timer, w->now_us + after_us, timer_fired);
}

static void timer_fired(struct foil_worker *w, struct foil_timer *t)
{
	struct check *c = FOIL_CONTAINER_OF(t, struct check, timer);

	switch (c->state) {
	case CHECK_WAITS: begin(w, c); return;
	case CHECK_RUNS: outcome(w, c, false, false); return; /* its time is over */
	case CHECK_ENDS:
		give_back(w, c);
		wait_for_next(w, c);
		return;
	}
	FOIL_UNREACHABLE();
}

/* ---- configurations ---- */
static void check_end(struct foil_worker *w, struct check *c)
{
	c->state = CHECK_ENDS; /* nothing that is told from here on counts */
	foil_timer_cancel(w, &c->timer);
	give_back(w, c);
	become(w, c->host, MESH_HEALTH_UNCHECKED);
	mesh_list_del(&c->node);
	w->mesh->check_by_host[c->host->index] = NULL;
	c->host = NULL;
	mesh_bury(w, c, &w->mesh->checks);
}

static struct check *check_new(struct foil_worker *w, struct mesh_host *h)
{
	struct mesh_ctx *m = w->mesh;
	struct check *c = mesh_slab_take(&m->checks);
	bool others_are_good = __atomic_load_n(&h->cluster->n_known_good, __ATOMIC_RELAXED) > 0;

	if (!c) {
		foil_count(w, MESH, HEALTH_CHECKS_LACKING, 1);
		return NULL;
	}
	c->host = h;
	m->check_by_host[h->index] = c;
	mesh_list_add_tail(&m->check_list, &c->node);
	become(w, h, others_are_good ? MESH_HEALTH_PENDING : MESH_HEALTH_UNKNOWN);
	foil_timer_arm(w, &c->timer, w->now_us + foil_prng_below(&w->prng, FIRST_SPREAD_US), timer_fired);
	return c;
}

static void adopt_endpoint(struct foil_worker *w, const struct mesh_config *cfg, const struct mesh_cluster *cluster, const struct mesh_endpoint *e)
{
	struct check *c;

	if (!e->check || !e->host || e->host->index % FOIL_MAX(w->n_workers, 1u) != w->id)
		return;
	c = w->mesh->check_by_host[e->host->index];
	if (!c)
		c = check_new(w, e->host);
	if (!c)
		return;
	c->endpoint = e;
	c->cluster = cluster;
	c->seen = cfg->generation;
}

void mesh_checks_adopt(struct foil_worker *w, const struct mesh_config *cfg)
{
	struct mesh_list *head = &w->mesh->check_list;

	for (uint32_t slot = 0; slot < cfg->n_cluster_slots; slot++) {
		const struct mesh_endpoints *e = cfg->clusters[slot] ? cfg->endpoints[slot] : NULL;
		for (uint32_t i = 0; e && e->has_checks && i < e->n_endpoints; i++)
			adopt_endpoint(w, cfg, cfg->clusters[slot], &e->endpoints[i]);
	}
	for (struct mesh_list *n = head->next, *next; n != head; n = next) {
		struct check *c = FOIL_CONTAINER_OF(n, struct check, node);
		next = n->next;
		if (c->seen != cfg->generation)
			check_end(w, c);
	}
}

void mesh_checks_close(struct foil_worker *w)
{
	struct mesh_list *head = &w->mesh->check_list;

	while (!mesh_list_is_empty(head))
		check_end(w, FOIL_CONTAINER_OF(head->next, struct check, node));
}
