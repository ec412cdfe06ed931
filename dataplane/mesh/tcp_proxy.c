/* L4 proxying (features.md PR-8, VS-56, DR-22): one client stream, one upstream stream, bytes by reference both ways, half-close passed on, a slow side
 * closing the window of the other. It chooses cluster and host once a connection, tries to connect as often as the chain says, and writes one record at
 * the end. Rules as Envoy's tcp_proxy: nothing of the client is read before the upstream is connected; a connection that cannot be
 * made closes the client's in order.
 * Invariant: a session holds the configuration that its cluster and endpoint point into, and moves to each new one that has both. */
#include "dataplane/mesh/lb.h"
#include "dataplane/mesh/runtime.h"

#include <errno.h>

#define REPORT_US 5000000u /* TM-5 */

struct session {
	struct mesh_grave grave; /* held: the configuration */
	struct mesh_list node;
	struct mesh_port *port;
	struct stream *down, *up; /* NULL: closed or let go */
	uint32_t slot;
	struct mesh_name_waiter name;          /* where the ClientHello names the host */
	struct stream_addr place;              /* and where that was found to be */
	bool is_pending;                       /* one of the cluster's PENDING is ours */
	struct mesh_lb_want want;              /* the hash of the client's address, where the chain asks for it */
	const struct mesh_cluster *cluster;    /* NULL: not in the snapshot */
	const struct mesh_endpoint *endpoint;  /* of the try at hand, or the last */
	struct foil_slice cluster_name;        /* in held */
	uint64_t idle_timeout_us, active_us, started_us, started_wall_us;
	uint32_t connect_attempts_max, n_connects;
	struct foil_timer timer; /* connect timeout, then idle */
	struct foil_timer report;
	uint64_t n_received_told, n_sent_told;
	struct stream_addr remote, local, up_local;
	uint64_t n_received, n_sent;
	uint64_t flags;
	struct foil_slice transport_failure;
	struct foil_slice sni, principal; /* each in a block of ctx->names; principal: the client's, where it proved one */
	bool is_connected, is_counted, is_opened_told, is_over, down_ended, up_ended;
};

int mesh_tcp_init(struct mesh_ctx *m, uint32_t n_max)
{
	int rc = mesh_slab_init(&m->sessions, sizeof(struct session), n_max);

	return rc ? rc : mesh_slab_init(&m->names, MESH_SNI_BYTES, n_max);
}

uint32_t mesh_tcp_count(const struct foil_worker *w)
{
	return w->mesh->sessions.n_live;
}

/* ---- the record ---- */
static void fill_record(struct foil_worker *w, const struct session *s, struct tele_request *r, struct tele_peer *source)
{
	*r = (struct tele_request){
		.protocol = TELE_PROTOCOL_TCP, .is_tcp = true, .version = 255, .flags = s->flags, .grpc_status = -1,
		.transport_failure = s->transport_failure, .start_wall_us = s->started_wall_us, .duration_us = w->now_us - s->started_us,
		.bytes_received = s->n_received, .bytes_sent = s->n_sent, .attempts = s->n_connects, .downstream_local = mesh_tele_addr(&s->local),
		.downstream_remote = mesh_tele_addr(&s->remote), .log = mesh_is_logged(s->grave.held, s->port, 0),
		.upstream_cluster = s->cluster_name, .sni = s->sni, .bytes_received_counted = s->n_received_told, .bytes_sent_counted = s->n_sent_told,
	};
	if (s->cluster)
		r->service = &s->cluster->service;
	if (s->endpoint) {
		memcpy(r->upstream_host.ip, s->endpoint->ip, sizeof(r->upstream_host.ip));
		r->upstream_host.port = s->endpoint->port;
		if (s->cluster->is_original_dst)
			r->upstream_host = mesh_tele_addr(&s->local);
		else if (s->cluster->is_dynamic)
			r->upstream_host = mesh_tele_addr(&s->place);
		r->upstream_local = mesh_tele_addr(&s->up_local);
		r->destination = &s->endpoint->labels;
	}
	*source = (struct tele_peer){.principal = s->principal};
	if (!s->principal.n_bytes && s->cluster)
		source->principal = mesh_source_principal(s->grave.held, s->cluster, s->endpoint, NULL, true);
	r->source = source->principal.n_bytes ? source : NULL;
	r->is_mutual_tls = s->principal.n_bytes > 0;
}

static void record(struct foil_worker *w, const struct session *s, struct tele_request *r)
{
	const struct mesh_format_ctx ctx = {
		.downstream_remote = &s->remote, .downstream_local = &s->local, .upstream_local = s->up_local.port ? &s->up_local : NULL, .sni = s->sni,
		.upstream_cluster = s->cluster_name, .flags = r->flags, .start_wall_us = r->start_wall_us, .duration_us = r->duration_us,
		.bytes_received = r->bytes_received, .bytes_sent = r->bytes_sent, .attempts = r->attempts, .hostname = w->mesh->node_name,
		.transport_failure = s->transport_failure,
	};

	mesh_record(w, s->grave.held, &ctx, r);
}

static void tell_opened(struct foil_worker *w, struct session *s)
{
	struct tele_request r;
	struct tele_peer source;

	if (s->is_opened_told)
		return;
	s->is_opened_told = true;
	fill_record(w, s, &r, &source);
	tele_tcp_opened(w, &r);
}

static void report(struct foil_worker *w, struct foil_timer *t)
{
	struct session *s = FOIL_CONTAINER_OF(t, struct session, report);
	struct tele_request r;
	struct tele_peer source;

	fill_record(w, s, &r, &source);
	tele_tcp_bytes(w, &r, s->n_received - s->n_received_told, s->n_sent - s->n_sent_told);
	s->n_received_told = s->n_received;
	s->n_sent_told = s->n_sent;
	foil_timer_arm(w, &s->report, w->now_us + REPORT_US, report);
}

/* ---- the end ---- */
static void up_count_off(struct foil_worker *w, struct session *s)
{
	if (!s->is_counted)
		return;
	s->is_counted = false;
	mesh_breaker_add(w, s->endpoint->host->cluster, MESH_BREAKER_CONNECTIONS, -1);
	mesh_host_active_add(w, s->endpoint->host, -1);
}

static void stream_let_go(struct foil_worker *w, struct stream **at, bool in_order)
{
	struct stream *s = *at;

	*at = NULL;
	if (!s)
		return;
	if (in_order)
		stream_release(w, s);
	else
		stream_abort(w, s);
}

static void name_wait_over(struct foil_worker *w, struct session *s)
{
	mesh_name_cancel(w, &s->name);
	if (s->is_pending)
		mesh_breaker_add(w, s->endpoint->host->cluster, MESH_BREAKER_PENDING, -1);
	s->is_pending = false;
}

static void drop_text(struct foil_worker *w, struct foil_slice *text)
{
	if (text->n_bytes)
		mesh_slab_give(&w->mesh->names, (void *)(uintptr_t)text->data);
	*text = (struct foil_slice){NULL, 0};
}

static void session_end(struct foil_worker *w, struct session *s, bool in_order)
{
	struct tele_request r;
	struct tele_peer source;

	if (s->is_over)
		return;
	s->is_over = true;
	foil_timer_cancel(w, &s->timer);
	foil_timer_cancel(w, &s->report);
	stream_let_go(w, &s->up, in_order);
	stream_let_go(w, &s->down, in_order);
	name_wait_over(w, s);
	up_count_off(w, s);
	tell_opened(w, s);
	fill_record(w, s, &r, &source);
	record(w, s, &r);
	drop_text(w, &s->sni);
	drop_text(w, &s->principal);
	mesh_list_del(&s->node);
	foil_count(w, MESH, TCP_SESSIONS, -1);
	mesh_client_leave(w, s->port);
	mesh_port_put(w, s->port);
	s->port = NULL;
	mesh_bury(w, s, &w->mesh->sessions);
}

/* ---- bytes ---- */
/* What may go from one side to the other now; then the end, when it has come. false: no memory. */
static bool relay_one(struct foil_worker *w, struct stream *from, struct stream *to, uint64_t *n_moved, bool *ended)
{
	struct foil_chain data = {0};
	uint32_t n = FOIL_MIN(from->rx.n_bytes, stream_tx_room(to));

	if (n) {
		if (stream_take(w, from, n, &data) != 0)
			return false;
		*n_moved += n;
		stream_write(w, to, &data);
	}
	if (from->rx_eof && foil_chain_is_empty(&from->rx) && !*ended) {
		*ended = true;
		stream_shutdown(w, to);
	}
	return true;
}

static void relay(struct foil_worker *w, struct session *s)
{
	if (s->is_over || !s->is_connected || !s->down || !s->up)
		return;
	s->active_us = w->now_us;
	if (!relay_one(w, s->down, s->up, &s->n_received, &s->down_ended) || s->is_over ||
	    !relay_one(w, s->up, s->down, &s->n_sent, &s->up_ended)) {
		if (!s->is_over) {
			foil_reason(w, MESH, OUT_OF_MEMORY);
			session_end(w, s, false);
		}
		return;
	}
	if (s->down_ended && s->up_ended)
		session_end(w, s, true);
}

static void idle_look(struct foil_worker *w, struct foil_timer *t)
{
	struct session *s = FOIL_CONTAINER_OF(t, struct session, timer);

	if (s->active_us + s->idle_timeout_us > w->now_us)
		foil_timer_arm(w, &s->timer, s->active_us + s->idle_timeout_us, idle_look);
	else
		session_end(w, s, true);
}

static void on_bytes(struct foil_worker *w, struct stream *st)
{
	uint8_t was = foil_stage_enter(w, FOIL_STAGE_MESH);

	relay(w, st->user_data);
	foil_stage_leave(w, was);
}

/* A side that has closed in order: what it sent and was held back goes out whatever the room, there is no later. */
static void flush_closed(struct foil_worker *w, struct session *s, struct stream *from, struct stream *to, uint64_t *n_moved)
{
	struct foil_chain data = {0};

	if (!to || !s->is_connected || foil_chain_is_empty(&from->rx))
		return;
	foil_chain_move(&data, &from->rx);
	*n_moved += data.n_bytes;
	stream_write(w, to, &data);
}

static void down_closed(struct foil_worker *w, struct stream *st, enum stream_end why)
{
	struct session *s = st->user_data;

	s->down = NULL;
	if (why == STREAM_END_FIN)
		flush_closed(w, s, st, s->up, &s->n_received);
	session_end(w, s, why == STREAM_END_FIN);
}

static const struct stream_user down_user = {.readable = on_bytes, .writable = on_bytes, .closed = down_closed};

/* ---- the upstream ---- */
static void connect_next(struct foil_worker *w, struct session *s);

static FOIL_COLD void connect_failed(struct foil_worker *w, struct session *s, enum http_reset kind, enum stream_end why)
{
	foil_timer_cancel(w, &s->timer);
	up_count_off(w, s);
	foil_count(w, MESH, UPSTREAM_CONNECT_FAILURES, 1);
	mesh_outlier_outcome(w, s->cluster, s->endpoint->host, MESH_OUTCOME_CONNECT_FAILED, 0);
	if (FOIL_UNLIKELY(s->cluster->is_dynamic))
		mesh_name_connect_failed(w, s->sni, s->place.ip);
	s->flags |= TELE_FLAG_UF;
	s->transport_failure = why == STREAM_END_TLS ? FOIL_SLICE("TLS_error") : mesh_transport_failure(w, kind, why);
	connect_next(w, s);
}

static void up_opened(struct foil_worker *w, struct stream *st)
{
	struct session *s = st->user_data;

	s->is_connected = true;
	s->flags = 0;
	s->transport_failure = (struct foil_slice){NULL, 0};
	s->up_local = st->local;
	mesh_outlier_outcome(w, s->cluster, s->endpoint->host, MESH_OUTCOME_CONNECT_OK, 0);
	tell_opened(w, s);
	foil_timer_cancel(w, &s->timer);
	foil_timer_arm(w, &s->report, w->now_us + REPORT_US, report);
	s->active_us = w->now_us;
	if (s->idle_timeout_us)
		foil_timer_arm(w, &s->timer, w->now_us + s->idle_timeout_us, idle_look);
	relay(w, s);
}

static void up_closed(struct foil_worker *w, struct stream *st, enum stream_end why)
{
	struct session *s = st->user_data;

	s->up = NULL;
	if (!s->is_connected) {
		connect_failed(w, s, why == STREAM_END_CONNECT_TIMEOUT ? HTTP_RESET_CONNECT_TIMEOUT : HTTP_RESET_CONNECT_FAILURE, why);
		return;
	}
	if (why == STREAM_END_FIN)
		flush_closed(w, s, st, s->down, &s->n_sent);
	else if (why == STREAM_END_RESET)
		s->flags |= TELE_FLAG_UR;
	session_end(w, s, why == STREAM_END_FIN);
}

static const struct stream_user up_user = {.opened = up_opened, .readable = on_bytes, .writable = on_bytes, .closed = up_closed};

static void connect_time_over(struct foil_worker *w, struct foil_timer *t)
{
	struct session *s = FOIL_CONTAINER_OF(t, struct session, timer);

	stream_let_go(w, &s->up, false);
	connect_failed(w, s, HTTP_RESET_CONNECT_TIMEOUT, STREAM_END_CONNECT_TIMEOUT);
}

static const struct mesh_endpoint *pick(struct foil_worker *w, const struct session *s)
{
	const struct mesh_config *c = s->grave.held;

	if (!c->endpoints[s->slot] || !c->host_sets[s->slot] || c->endpoints[s->slot]->n_endpoints == 0)
		return NULL;
	if (s->cluster->is_original_dst && !mesh_port_is_captured(s->port))
		return NULL;
	return mesh_lb_choose(w, c->endpoints[s->slot], c->host_sets[s->slot], &s->want);
}

/* 0: s->up opens, TLS over it where the cluster asks for that. */
static int begin_connect(struct foil_worker *w, struct session *s, const struct mesh_endpoint *e)
{
	struct mesh_upstream_tls_params tp = {.user = &up_user, .user_data = s};
	int rc;

	if (FOIL_UNLIKELY(s->cluster->is_dynamic))
		tp.name = s->sni;
	if (!mesh_upstream_tls_is_ready(s->grave.held, s->cluster, e->tls))
		return -ENOKEY;
	if (FOIL_UNLIKELY(s->cluster->is_dynamic))
		rc = w->mesh->transport->connect(w, s->place.ip, s->place.port, &up_user, s, &s->up);
	else if (s->cluster->is_original_dst)
		rc = w->mesh->transport->connect(w, s->local.ip, s->local.port, &up_user, s, &s->up);
	else
		rc = w->mesh->transport->connect(w, e->ip, e->port, &up_user, s, &s->up);
	if (rc != 0)
		return rc;
	rc = mesh_upstream_proxy_header(w, s->cluster, &s->remote, &s->local, s->up);
	if (rc == 0 && mesh_upstream_is_tls(s->cluster, e->tls))
		rc = mesh_upstream_tls_open(w, s->grave.held, s->cluster, &tp, &s->up);
	if (rc != 0)
		stream_let_go(w, &s->up, false);
	else if (FOIL_UNLIKELY(s->cluster->buffer_bytes != 0))
		stream_bound_tx(s->up, s->cluster->buffer_bytes);
	return rc;
}

static void connect_to(struct foil_worker *w, struct session *s, const struct mesh_endpoint *e)
{
	if (!mesh_breaker_take(w, s->cluster, e->host->cluster, MESH_BREAKER_CONNECTIONS)) {
		foil_count(w, MESH, UPSTREAM_CX_OVERFLOW, 1);
		s->flags |= TELE_FLAG_UO;
		session_end(w, s, true);
		return;
	}
	s->n_connects++;
	s->endpoint = e;
	s->is_counted = true;
	mesh_host_active_add(w, e->host, 1);
	foil_count(w, MESH, UPSTREAM_CONNECTS, 1);
	if (begin_connect(w, s, e) != 0) {
		s->up = NULL;
		foil_timer_arm(w, &s->timer, w->now_us, connect_time_over); /* not from inside: a transport that refuses at once must not recurse */
		return;
	}
	foil_timer_arm(w, &s->timer, w->now_us + s->cluster->connect_timeout_us, connect_time_over);
}

/* ---- the host that the ClientHello names (SE-3, DYNAMIC_DNS) ---- */
static void name_known(struct foil_worker *w, struct session *s, enum mesh_name_result result, const uint8_t ip[16])
{
	if (result != MESH_NAME_READY) {
		foil_reason_id(w, MESH, mesh_name_reason(result));
		s->endpoint = NULL;
		if (result != MESH_NAME_CACHE_OVERFLOW && result != MESH_NAME_QUEUE_OVERFLOW)
			s->flags |= TELE_FLAG_UH; /* as Envoy's sni_dynamic_forward_proxy, which has no flag for the others */
		session_end(w, s, true);
		return;
	}
	memcpy(s->place.ip, ip, sizeof(s->place.ip));
	connect_to(w, s, s->endpoint);
}

static void name_resolved(struct foil_worker *w, struct mesh_name_waiter *waiter, enum mesh_name_result result, const uint8_t ip[16])
{
	struct session *s = FOIL_CONTAINER_OF(waiter, struct session, name);

	name_wait_over(w, s);
	name_known(w, s, result, ip);
}

static FOIL_COLD void connect_by_name(struct foil_worker *w, struct session *s, const struct mesh_endpoint *e)
{
	uint8_t ip[16];

	s->endpoint = e;
	s->place.port = s->cluster->dynamic_port;
	s->name.resolved = name_resolved;
	enum mesh_name_result result = mesh_name_resolve(w, s->sni, &s->name, ip);
	if (result != MESH_NAME_WAITING) {
		name_known(w, s, result, ip);
		return;
	}
	s->is_pending = mesh_breaker_take(w, s->cluster, e->host->cluster, MESH_BREAKER_PENDING);
	if (s->is_pending)
		return;
	foil_count(w, MESH, UPSTREAM_PENDING_OVERFLOW, 1);
	s->flags |= TELE_FLAG_UO;
	session_end(w, s, true);
}

/* One more connect, or the end: each round of connect_failed counts one of connect_attempts_max. */
static void connect_next(struct foil_worker *w, struct session *s)
{
	const struct mesh_endpoint *e;

	if (s->n_connects >= s->connect_attempts_max) {
		s->flags |= TELE_FLAG_URX;
		session_end(w, s, true);
		return;
	}
	e = pick(w, s);
	if (!e) {
		if (s->cluster->is_original_dst)
			foil_reason(w, MESH, ORIGINAL_DST);
		s->flags |= TELE_FLAG_UH;
		session_end(w, s, true);
		return;
	}
	if (FOIL_UNLIKELY(s->cluster->is_dynamic))
		connect_by_name(w, s, e);
	else
		connect_to(w, s, e);
}

static void choose_cluster(struct foil_worker *w, struct session *s, const struct mesh_tcp_proxy *p)
{
	const struct mesh_weighted_cluster *c = p->n_clusters ? &p->clusters[0] : NULL;
	uint32_t at = p->n_clusters > 1 && p->total_weight ? foil_prng_below(&w->prng, p->total_weight) : 0;

	for (uint16_t i = 0; p->n_clusters > 1 && i < p->n_clusters; i++) {
		c = &p->clusters[i];
		if (at < c->weight)
			break;
		at -= c->weight;
	}
	s->slot = c ? c->slot : MESH_SLOT_NONE;
	if (s->slot < s->grave.held->n_cluster_slots)
		s->cluster = s->grave.held->clusters[s->slot];
	if (s->cluster)
		s->cluster_name = c->cluster;
	if (p->hash_source_ip && s->cluster && mesh_cluster_hashes(s->cluster))
		s->want = (struct mesh_lb_want){.has_hash = true, .hash = mesh_hash_of_address(&s->remote)};
}

/* ---- the client ---- */
static void begin(struct foil_worker *w, struct foil_timer *t)
{
	struct session *s = FOIL_CONTAINER_OF(t, struct session, timer);

	if (!s->cluster) {
		s->flags |= TELE_FLAG_NC;
		session_end(w, s, true);
		return;
	}
	connect_next(w, s);
}

/* False: no block for it. */
static bool keep_text(struct foil_worker *w, struct foil_slice text, struct foil_slice *out)
{
	char *block = text.n_bytes ? mesh_slab_take(&w->mesh->names) : NULL;

	if (!text.n_bytes)
		return true;
	if (!block)
		return false;
	FOIL_ASSERT(text.n_bytes <= MESH_SNI_BYTES);
	memcpy(block, text.data, text.n_bytes);
	*out = foil_slice_of(block, text.n_bytes);
	return true;
}

/* For metrics alone: one that is too long, or has no block, stays unknown. */
static void keep_principal(struct foil_worker *w, struct session *s, const struct stream *st)
{
	const struct tls_facts *tls = tls_stream_facts(st);
	bool is_gateway = !s->port->listener || s->port->listener->direction == MESH_DIRECTION_GATEWAY;
	struct foil_slice uri = is_gateway ? (struct foil_slice){NULL, 0} : mesh_source_principal(s->grave.held, NULL, NULL, tls, false);

	if (uri.n_bytes <= MESH_SNI_BYTES)
		(void)keep_text(w, uri, &s->principal);
}

bool mesh_tcp_accept(struct foil_worker *w, const struct mesh_accept *a, struct stream *st)
{
	struct session *s = mesh_slab_take(&w->mesh->sessions);
	const struct mesh_chain *chain = a->chain;

	if (!s) {
		foil_reason(w, MESH, CONNECTIONS_EXHAUSTED);
		return false;
	}
	if (!keep_text(w, a->sni, &s->sni)) {
		mesh_slab_give(&w->mesh->sessions, s);
		foil_reason(w, MESH, CONNECTIONS_EXHAUSTED);
		return false;
	}
	mesh_config_get(w, a->cfg);
	s->grave.held = a->cfg;
	s->port = a->port;
	s->port->n_conns++;
	s->down = st;
	s->remote = a->remote;
	s->local = a->local;
	s->started_us = w->now_us;
	s->started_wall_us = w->wall_us;
	s->idle_timeout_us = chain->tcp.idle_timeout_us;
	s->connect_attempts_max = chain->tcp.max_connect_attempts ? chain->tcp.max_connect_attempts : 1;
	keep_principal(w, s, st);
	st->user = &down_user;
	st->user_data = s;
	mesh_list_add_tail(&w->mesh->session_list, &s->node);
	foil_count(w, MESH, TCP_SESSIONS, 1);
	choose_cluster(w, s, &chain->tcp);
	/* the transport may not be used from inside accept: connecting, or closing, begins with the next tick */
	foil_timer_arm(w, &s->timer, w->now_us, begin);
	return true;
}

/* ---- configurations ---- */
void mesh_tcp_adopt(struct foil_worker *w, const struct mesh_config *cfg)
{
	struct mesh_list *head = &w->mesh->session_list;

	for (struct mesh_list *n = head->next; n != head; n = n->next) {
		struct session *s = FOIL_CONTAINER_OF(n, struct session, node);
		const struct mesh_cluster *c = s->slot < cfg->n_cluster_slots ? cfg->clusters[s->slot] : NULL;
		const struct mesh_endpoint *e = s->endpoint ? mesh_host_now(w->mesh, s->endpoint->host) : NULL;

		if (!c || !s->is_connected || !e)
			continue; /* it goes on with what it began with */
		mesh_config_get(w, cfg);
		mesh_config_put(w, s->grave.held);
		s->grave.held = cfg;
		s->cluster = c;
		s->cluster_name = c->res.name;
		s->endpoint = e;
	}
}

void mesh_tcp_close_all(struct foil_worker *w)
{
	struct mesh_list *head = &w->mesh->session_list;

	while (!mesh_list_is_empty(head))
		session_end(w, FOIL_CONTAINER_OF(head->next, struct session, node), false);
}
