/* The record of a finished request, and Envoy's words for how tries end (features.md AL-6..AL-9). Formatting and metrics are telemetry's. */
#include "dataplane/mesh/runtime.h"

struct foil_slice mesh_reset_text(enum http_reset kind)
{
	if (kind == MESH_RESET_OVERFLOW)
		return FOIL_SLICE("overflow");
	switch (kind) {
	case HTTP_RESET_NONE:
	case HTTP_RESET_LOCAL: return FOIL_SLICE("local reset");
	case HTTP_RESET_REMOTE: return FOIL_SLICE("connection termination");
	case HTTP_RESET_STREAM: return FOIL_SLICE("remote reset");
	case HTTP_RESET_PROTOCOL: return FOIL_SLICE("protocol error");
	case HTTP_RESET_REFUSED_STREAM: return FOIL_SLICE("remote refused stream reset");
	case HTTP_RESET_CONNECT_FAILURE: return FOIL_SLICE("remote connection failure");
	case HTTP_RESET_CONNECT_TIMEOUT: return FOIL_SLICE("connection timeout");
	}
	FOIL_UNREACHABLE();
}

uint64_t mesh_reset_flag(enum http_reset kind)
{
	if (kind == MESH_RESET_OVERFLOW)
		return TELE_FLAG_UO;
	switch (kind) {
	case HTTP_RESET_NONE:
	case HTTP_RESET_LOCAL: return TELE_FLAG_LR;
	case HTTP_RESET_REMOTE: return TELE_FLAG_UC;
	case HTTP_RESET_PROTOCOL: return TELE_FLAG_UPE;
	case HTTP_RESET_STREAM:
	case HTTP_RESET_REFUSED_STREAM: return TELE_FLAG_UR;
	case HTTP_RESET_CONNECT_FAILURE:
	case HTTP_RESET_CONNECT_TIMEOUT: return TELE_FLAG_UF;
	}
	FOIL_UNREACHABLE();
}

struct foil_slice mesh_transport_failure(const struct foil_worker *w, enum http_reset kind, enum stream_end why)
{
	if (kind != HTTP_RESET_CONNECT_FAILURE)
		return (struct foil_slice){NULL, 0};
	switch (why) {
	case STREAM_END_REFUSED:
	case STREAM_END_RESET: return FOIL_SLICE("delayed_connect_error:_Connection_refused");
	case STREAM_END_UNREACHABLE: return FOIL_SLICE("delayed_connect_error:_No_route_to_host");
	case STREAM_END_TLS: return tls_failure(w);
	case STREAM_END_NONE:
	case STREAM_END_FIN:
	case STREAM_END_CONNECT_TIMEOUT:
	case STREAM_END_TIMEOUT:
	case STREAM_END_LOCAL:
	case STREAM_END_COUNT: return (struct foil_slice){NULL, 0};
	}
	FOIL_UNREACHABLE();
}

static struct foil_slice header_value(const struct http_head *head, enum http_header_id id)
{
	const struct http_header *h = http_header_get(&head->headers, id);

	return h ? h->value : (struct foil_slice){NULL, 0};
}

static void fill_request(const struct mesh_exchange *x, struct tele_request *r)
{
	const struct http_head *q = x->request;

	r->protocol = q->is_grpc ? TELE_PROTOCOL_GRPC : TELE_PROTOCOL_HTTP;
	r->version = (uint8_t)q->version;
	if (!r->log)
		return; /* texts are the log's */
	r->method = q->method_text;
	r->path = q->path;
	r->original_path = x->original_path;
	r->authority = q->authority;
	r->xff = header_value(q, HTTP_HDR_X_FORWARDED_FOR);
	r->user_agent = header_value(q, HTTP_HDR_USER_AGENT);
	r->request_id = header_value(q, HTTP_HDR_X_REQUEST_ID);
}

/* What the log's format asks for beyond what every record has. Values that are made, not borrowed, share one room: what does not fit any more is cut. */
#define CAPTURES_ROOM_BYTES 4096u

static __attribute__((noinline)) void record_with_captures(struct foil_worker *w, const struct mesh_settings *s, const struct mesh_format_ctx *ctx,
							   struct tele_request *r)
{
	struct foil_slice values[TELE_CAPTURES_MAX];
	char scratch[MESH_FORMAT_SCRATCH_BYTES], room[CAPTURES_ROOM_BYTES];
	uint32_t n_room = 0;

	for (uint16_t i = 0; i < s->n_log_captures; i++) {
		struct foil_slice v = mesh_format_value(&s->log_captures[i], ctx, scratch);
		bool is_made = v.data >= scratch && v.data < scratch + sizeof(scratch);
		if (is_made) {
			uint32_t n = FOIL_MIN(v.n_bytes, CAPTURES_ROOM_BYTES - n_room);
			memcpy(room + n_room, v.data, n);
			v = foil_slice_of(room + n_room, n);
			n_room += n;
		}
		values[i] = v;
	}
	r->captures = values;
	r->n_captures = s->n_log_captures;
	tele_request_done(w, r);
}

void mesh_record(struct foil_worker *w, const struct mesh_config *cfg, const struct mesh_format_ctx *ctx, struct tele_request *r)
{
	r->format_key = cfg->settings.log_key;
	if (FOIL_UNLIKELY(cfg->settings.n_log_captures && r->log))
		record_with_captures(w, &cfg->settings, ctx, r);
	else
		tele_request_done(w, r);
}

static void record_exchange(struct foil_worker *w, struct mesh_exchange *x, struct tele_request *r)
{
	struct mesh_format_ctx ctx;

	if (FOIL_LIKELY(!x->cfg->settings.n_log_captures || !r->log)) {
		mesh_record(w, x->cfg, NULL, r);
		return;
	}
	mesh_exchange_fill_ctx(w, x, &ctx);
	if (x->is_bad_request)
		ctx.request = NULL;
	if (!x->response_started)
		ctx.response = NULL;
	mesh_record(w, x->cfg, &ctx, r);
}

bool mesh_is_logged(const struct mesh_config *cfg, const struct mesh_port *p, uint16_t status)
{
	const struct mesh_listener *l = p ? p->listener : NULL; /* NULL: removed meanwhile */

	if (cfg->settings.access_log_path.n_bytes == 0 || (l && l->is_log_off))
		return false;
	for (uint16_t i = 0; l && i < l->n_log_statuses; i++)
		if (status >= l->log_statuses[i].from && status <= l->log_statuses[i].to)
			return true;
	return !l || l->n_log_statuses == 0;
}

void mesh_access_record(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct http_stream *hs = x->down;
	uint64_t duration = w->now_us - hs->started_us;
	bool is_gateway = !x->ds->port || !x->ds->port->listener || x->ds->port->listener->direction == MESH_DIRECTION_GATEWAY;
	const struct tele_peer source = {.principal = mesh_source_principal(x->cfg, x->cluster, x->host, x->ds->tls, is_gateway)};
	struct tele_request r = {
		.protocol = TELE_PROTOCOL_HTTP, .version = (uint8_t)http_conn_version(hs->conn), .status = x->status, .flags = x->flags,
		.grpc_status = x->grpc_status,
		.details = x->details, .transport_failure = x->transport_failure, .start_wall_us = w->wall_us - duration, .duration_us = duration,
		.bytes_received = hs->rx_body_bytes, .bytes_sent = hs->tx_body_bytes, .request_wire_bytes = hs->rx_wire_bytes,
		.response_wire_bytes = hs->tx_wire_bytes, .attempts = x->n_tries, .request_messages = x->request_messages.n,
		.response_messages = x->response_messages.n, .downstream_local = mesh_tele_addr(&x->local),
		.downstream_remote = mesh_tele_addr(&x->from.client), .log = mesh_is_logged(x->cfg, x->ds->port, x->status),
		.sni = mesh_downstream_sni(x->ds),
	};

	if (x->request && !x->is_bad_request)
		fill_request(x, &r);
	if (r.log && x->response && x->response_started)
		r.upstream_service_time = header_value(x->response, HTTP_HDR_X_ENVOY_UPSTREAM_SERVICE_TIME);
	if (x->route)
		r.route_name = x->route->name;
	if (x->cluster) {
		r.upstream_cluster = x->weighted->cluster;
		r.service = &x->cluster->service;
	}
	if (x->host) {
		r.upstream_host = mesh_tele_addr(&x->upstream_remote);
		r.upstream_local = mesh_tele_addr(&x->upstream_local);
		r.destination = &x->host->labels;
	}
	if (source.principal.n_bytes)
		r.source = &source;
	else
		r.facts_generation = x->cfg->generation;
	r.is_mutual_tls = !is_gateway && x->ds->tls && x->ds->tls->peer;
	record_exchange(w, x, &r);
}
