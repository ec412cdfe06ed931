/* One accepted connection: which filter chain takes it, and then either the HTTP codec or the L4 proxy has it. Requests are exchange.c's.
 * A connection at rest holds no configuration: each request asks the port for the listener of the configuration in force, so a new
 * snapshot reaches keep-alive connections at their next request. */
#include "dataplane/mesh/runtime.h"

/* 0: does not fit; more is more specific. */
static unsigned int name_rank(const struct mesh_chain *c, struct foil_slice sni)
{
	unsigned int best = c->n_server_names == 0 ? 1 : 0;

	for (uint16_t i = 0; i < c->n_server_names; i++) {
		struct foil_slice n = c->server_names[i];
		if (sni.n_bytes && foil_slice_eq_nocase(n, sni))
			return UINT32_MAX;
		if (n.n_bytes < 2 || n.data[0] != '*' || sni.n_bytes < n.n_bytes)
			continue;
		struct foil_slice suffix = foil_slice_of(n.data + 1, n.n_bytes - 1u);
		struct foil_slice end = foil_slice_of(sni.data + sni.n_bytes - suffix.n_bytes, suffix.n_bytes);
		if (foil_slice_eq_nocase(suffix, end) && n.n_bytes + 1u > best)
			best = n.n_bytes + 1u;
	}
	return best;
}

static unsigned int cidr_rank(const struct mesh_chain *c, const uint8_t ip[16])
{
	unsigned int best = c->n_destination_cidrs == 0 ? 1 : 0;

	for (uint16_t i = 0; i < c->n_destination_cidrs; i++)
		if (mesh_cidr_has(&c->destination_cidrs[i], ip) && c->destination_cidrs[i].len + 2u > best)
			best = c->destination_cidrs[i].len + 2u;
	return best;
}

static unsigned int transport_rank(const struct mesh_chain *c, bool is_tls)
{
	if (c->transport == MESH_TRANSPORT_ANY)
		return 1;
	return (c->transport == MESH_TRANSPORT_TLS) == is_tls ? 2 : 0;
}

static unsigned int protocols_rank(const struct mesh_chain *c, const struct mesh_first *f)
{
	if (c->n_application_protocols == 0)
		return 1;
	if (f->is_any_alpn)
		return 2;
	for (uint32_t at = 0; at < f->alpn.n_bytes; at += 1u + (uint8_t)f->alpn.data[at]) {
		struct foil_slice name = foil_slice_of(f->alpn.data + at + 1, (uint8_t)f->alpn.data[at]);
		if (name.n_bytes > f->alpn.n_bytes - at - 1u)
			return 0;
		for (uint16_t i = 0; i < c->n_application_protocols; i++)
			if (foil_slice_eq(name, c->application_protocols[i]))
				return 2;
	}
	return 0;
}

/* Envoy's order of criteria: destination address, server name, transport, application protocols. */
const struct mesh_chain *mesh_chain_choose(const struct mesh_listener *l, const uint8_t dst_ip[16], const struct mesh_first *first)
{
	const struct mesh_chain *best = NULL;
	unsigned int best_rank[4] = {0, 0, 0, 0};

	for (uint16_t i = 0; i < l->n_chains; i++) {
		const struct mesh_chain *c = &l->chains[i];
		unsigned int rank[4] = {cidr_rank(c, dst_ip), name_rank(c, first->sni), transport_rank(c, first->is_tls), protocols_rank(c, first)};
		unsigned int k = 0;
		if (!rank[0] || !rank[1] || !rank[2] || !rank[3])
			continue;
		while (k < 4 && rank[k] == best_rank[k])
			k++;
		if (k == 4 || rank[k] < best_rank[k])
			continue;
		best = c;
		memcpy(best_rank, rank, sizeof(rank));
	}
	return best;
}

/* max_connection_duration. An HTTP/1.1 connection at rest has the drain's time for one more request, as HTTP/2 has for any number: its codec sees to that.
 * One that has not had any needs none (Envoy). */
static void time_over(struct foil_worker *w, struct mesh_downstream *d)
{
	const struct mesh_listener *l = d->port->listener;
	struct stream_addr remote, local;
	const struct mesh_first first = mesh_downstream_first(d);

	d->ends_us = 0;
	mesh_downstream_addrs(d, &remote, &local);
	const struct mesh_chain *chain = l ? mesh_chain_choose(l, local.ip, &first) : NULL;
	uint64_t drain_us = chain && chain->network == MESH_NETWORK_HTTP ? chain->http.drain_timeout_us : 0;
	if (!drain_us || d->is_ending || d->n_requests == 0 || http_conn_version(d->conn) == HTTP_VERSION_2) {
		mesh_downstream_drain(w, d);
		return;
	}
	d->is_ending = true;
	d->ends_us = w->now_us + drain_us;
}

static void on_timer(struct foil_worker *w, struct foil_timer *t)
{
	struct mesh_downstream *d = FOIL_CONTAINER_OF(t, struct mesh_downstream, timer);

	if (d->ends_us && d->ends_us <= w->now_us)
		time_over(w, d);
	if (d->conn) /* else it is buried: it was at rest */
		mesh_timeouts_look(w, d);
	if (d->conn && d->ends_us)
		mesh_downstream_timer_by(w, d, d->ends_us);
}

void mesh_downstream_timer_by(struct foil_worker *w, struct mesh_downstream *d, uint64_t at_us)
{
	if (!foil_timer_fires_by(&d->timer, at_us))
		foil_timer_arm(w, &d->timer, at_us, on_timer);
}

void mesh_downstream_addrs(const struct mesh_downstream *d, struct stream_addr *remote, struct stream_addr *local)
{
	const struct stream *s = http_conn_stream(d->conn);

	if (FOIL_UNLIKELY(d->is_told)) {
		const struct mesh_downstream_told *told = FOIL_CONTAINER_OF((struct mesh_downstream *)(uintptr_t)d, struct mesh_downstream_told, d);
		*remote = told->remote;
		*local = told->local;
		return;
	}
	*remote = s ? s->remote : (struct stream_addr){0};
	*local = s ? s->local : (struct stream_addr){0};
}

static struct mesh_slab *slab_of(struct mesh_ctx *m, bool is_told)
{
	return is_told ? &m->downstreams_told : &m->downstreams;
}

/* NULL: no block is free. */
static struct mesh_downstream *take(struct foil_worker *w, const struct mesh_accept *a, const struct stream *s)
{
	bool is_told = memcmp(&a->remote, &s->remote, sizeof(a->remote)) != 0 || memcmp(&a->local, &s->local, sizeof(a->local)) != 0;
	struct mesh_downstream *d = mesh_slab_take(slab_of(w->mesh, is_told));

	if (!d || !is_told)
		return d;
	struct mesh_downstream_told *told = FOIL_CONTAINER_OF(d, struct mesh_downstream_told, d);
	d->is_told = true;
	told->remote = a->remote;
	told->local = a->local;
	return d;
}

#define REAP_LOOK_MAX 64u

/* No block is free: the oldest connection at rest gives its own (design.md section 4). Bounded; true: there is one now. */
static bool reap_idle(struct foil_worker *w, struct mesh_port *p)
{
	struct mesh_list *n = p->downstreams.next;

	for (unsigned int i = 0; i < REAP_LOOK_MAX && n != &p->downstreams; i++, n = n->next) {
		struct mesh_downstream *d = FOIL_CONTAINER_OF(n, struct mesh_downstream, node);
		if (!http_conn_is_idle(d->conn))
			continue;
		foil_count(w, MESH, DOWNSTREAM_REAPED, 1);
		http_conn_close(w, d->conn);
		return true;
	}
	return false;
}

uint32_t mesh_downstreams_shrink(struct foil_worker *w, struct mesh_port *p, uint32_t *n_left)
{
	const struct mesh_list *last = p->downstreams.prev;
	uint32_t n_closed = 0;
	bool is_last = mesh_list_is_empty(&p->downstreams);

	while (*n_left && !is_last) {
		struct mesh_list *n = p->downstreams.next;
		struct mesh_downstream *d = FOIL_CONTAINER_OF(n, struct mesh_downstream, node);
		is_last = n == last;
		(*n_left)--;
		if (http_conn_is_idle(d->conn)) {
			n_closed++;
			http_conn_close(w, d->conn);
		} else { /* behind the others, so that those at work do not hide them */
			mesh_list_del(n);
			mesh_list_add_tail(&p->downstreams, n);
		}
	}
	return n_closed;
}

/* What TLS agreed on, else what the first bytes say (features.md PR-11). */
static enum http_protocol protocol_of(const struct tls_facts *tls)
{
	if (!tls || tls->alpn.n_bytes == 0)
		return HTTP_PROTOCOL_AUTO;
	return foil_slice_eq(tls->alpn, FOIL_SLICE("h2")) ? HTTP_PROTOCOL_H2 : HTTP_PROTOCOL_H1;
}

/* Of two that may be off. */
static uint64_t least_time(uint64_t a_us, uint64_t b_us)
{
	return a_us && b_us ? FOIL_MIN(a_us, b_us) : a_us | b_us;
}

static bool http_accept(struct foil_worker *w, const struct mesh_accept *a, struct stream *s)
{
	const struct mesh_hcm *hcm = &a->chain->http;
	struct mesh_port *p = a->port;
	struct mesh_downstream *d = take(w, a, s);

	if (!d) { /* this one is refused; the block that is freed now serves the next, at the next turn */
		(void)reap_idle(w, p);
		foil_reason(w, MESH, CONNECTIONS_EXHAUSTED);
		return false;
	}
	d->port = p;
	d->tls = tls_stream_facts(s);
	mesh_list_init(&d->exchanges);
	const struct http_limits limits = {
		.head_bytes_max = (hcm->max_request_headers_kib ? hcm->max_request_headers_kib : 60u) * 1024u,
		.headers_max = (uint16_t)FOIL_MIN(hcm->max_request_headers_count ? hcm->max_request_headers_count : 100u, UINT16_MAX),
		.accept_http10 = hcm->accept_http10, .reject_underscores = hcm->reject_underscores,
		.drop_underscores = hcm->drop_underscores, .refuse_https = !d->tls, .h2_streams_max = hcm->h2_streams_max,
		.h2_stream_window_bytes = hcm->h2_stream_window_bytes, .h2_conn_window_bytes = hcm->h2_conn_window_bytes,
		.head_timeout_us = least_time(hcm->request_headers_timeout_us, hcm->max_stream_duration_us), .h2_drain_us = hcm->drain_timeout_us,
		.h2_queue_bytes_max = p->listener ? p->listener->buffer_bytes : 0,
		.idle_timeout_us = hcm->idle_timeout_us,
	};
	if (http_server_open_as(w, s, protocol_of(d->tls), &mesh_server_events, &limits, d, &d->conn) != 0) {
		mesh_slab_give(slab_of(w->mesh, d->is_told), d);
		foil_reason(w, MESH, CONNECTIONS_EXHAUSTED);
		return false;
	}
	mesh_list_add_tail(&p->downstreams, &d->node);
	p->n_conns++;
	foil_count(w, MESH, DOWNSTREAM_CONNS, 1);
	if (hcm->max_connection_duration_us) {
		d->ends_us = w->now_us + hcm->max_connection_duration_us;
		mesh_downstream_timer_by(w, d, d->ends_us);
	}
	return true;
}

/* AL-10: what no chain takes leaves one line. */
void mesh_log_no_chain(struct foil_worker *w, const struct mesh_accept *of)
{
	const struct stream_addr *remote = &of->remote, *local = &of->local;
	struct foil_slice sni = of->sni;
	struct tele_request r = {
		.protocol = TELE_PROTOCOL_TCP, .is_tcp = true, .version = 255, .flags = TELE_FLAG_NR, .grpc_status = -1,
		.details = FOIL_SLICE("filter_chain_not_found"), .start_wall_us = w->wall_us, .downstream_local = mesh_tele_addr(local),
		.downstream_remote = mesh_tele_addr(remote), .log = mesh_is_logged(w->mesh->cfg, of->port, 0),
		.sni = sni,
	};
	const struct mesh_format_ctx ctx = {.downstream_remote = remote, .downstream_local = local, .sni = sni, .details = r.details, .flags = r.flags,
					    .start_wall_us = r.start_wall_us, .hostname = w->mesh->node_name};

	foil_reason(w, MESH, NO_FILTER_CHAIN);
	tele_tcp_opened(w, &r);
	mesh_record(w, w->mesh->cfg, &ctx, &r);
}

bool mesh_chain_accept(struct foil_worker *w, const struct mesh_accept *a, struct stream *s)
{
	const struct mesh_listener *l = a->port->listener;

	if (FOIL_UNLIKELY(l && l->buffer_bytes))
		stream_bound_tx(s, l->buffer_bytes);
	if (a->chain->network == MESH_NETWORK_TCP)
		return mesh_tcp_accept(w, a, s);
	return http_accept(w, a, s);
}

/* A listener for captured addresses hears of connections to our own, too, where no other one has them. */
static bool is_taken(struct foil_worker *w, const struct mesh_listener *l, const struct stream_addr *local)
{
	const struct mesh_transport *t = w->mesh->transport;

	if (FOIL_LIKELY(!l->is_captured) || (t->is_captured && t->is_captured(w, local->ip)))
		return true;
	foil_reason(w, MESH, NOT_CAPTURED);
	return false;
}

/* It was admitted. False: nobody has it. */
static bool begin(struct foil_worker *w, struct mesh_port *p, struct stream *s)
{
	struct mesh_accept a = {.port = p, .cfg = w->mesh->cfg, .remote = s->remote, .local = s->local};

	if (p->listener->wants_hello || p->listener->proxy_protocol)
		return mesh_hello_accept(w, p, s);
	a.chain = mesh_chain_choose(a.port->listener, s->local.ip, &(struct mesh_first){.is_tls = false});
	if (a.chain)
		return mesh_chain_accept(w, &a, s);
	mesh_log_no_chain(w, &a);
	return false;
}

bool mesh_port_accept(struct foil_worker *w, void *port, struct stream *s)
{
	struct mesh_port *p = port;

	if (!p->listener || w->mesh->is_draining || !is_taken(w, p->listener, &s->local))
		return false;
	if (!mesh_client_admit(w, p)) {
		stream_release(w, s); /* in order, which is what Envoy's clients see */
		return true;
	}
	if (begin(w, p, s))
		return true;
	mesh_client_leave(w, p);
	return false;
}

void mesh_downstream_drain(struct foil_worker *w, struct mesh_downstream *d)
{
	if (!d->conn || d->is_draining)
		return;
	d->is_draining = true;
	http_conn_drain(w, d->conn);
}

void mesh_downstream_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why)
{
	struct mesh_downstream *d = http_conn_data(c);

	(void)why;
	d->conn = NULL;
	FOIL_ASSERT(mesh_list_is_empty(&d->exchanges));
	foil_timer_cancel(w, &d->timer);
	mesh_list_del(&d->node);
	foil_count(w, MESH, DOWNSTREAM_CONNS, -1);
	mesh_client_leave(w, d->port);
	mesh_port_put(w, d->port);
	d->port = NULL;
	mesh_bury(w, d, slab_of(w->mesh, d->is_told));
}
