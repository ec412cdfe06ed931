/* Whole requests without a wire: 64 at a time from their bytes at the downstream codec, over routing and an upstream codec, to the answer's bytes. The
 * streams' other ends are this file: what is written counts as acknowledged. HTTP/2 is written by libnghttp2's encoder, as foil-load's is.
 * Clients are 64 connections of HTTP/1.1, or 8 of HTTP/2 with 8 requests each in one segment; origins the same, or one connection with all of them.
 * For instructions: valgrind --tool=callgrind --toggle-collect=micro_request_turn ... foil-micro request (docs/performance.md). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

#include "dataplane/core/error.h"
#include "dataplane/mesh/mesh.h"
#include "dataplane/telemetry/shared.h"
#include "perf/micro/micro.h"

#define REQUESTS 64u
#define H2_CLIENTS 8u
#define ROUTES 20u
#define ENDS_MAX 160u
#define BODY_BYTES 128u
#define SEGMENT_BYTES 1448u

/* One stream with its other end. */
struct end {
	struct stream s; /* first */
	bool is_upstream, is_dead;
	uint32_t n_asked;     /* upstream: requests that were written and not answered */
	uint64_t n_written_bytes, n_writes;
	uint32_t next_id;     /* of the next stream, HTTP/2 */
	bool has_spoken;
	nghttp2_hd_deflater *deflater;
};

struct request_micro {
	struct micro *m;
	struct foil_worker *w;
	struct end ends[ENDS_MAX];
	uint32_t n_ends;
	bool down_h2, up_h2;
	const char *path;
	bool (*accept)(struct foil_worker *w, void *data, struct stream *s);
	void *accept_data;
	uint64_t n_answer_bytes;

	struct mesh_shared *shared;
	struct tele_shared *tele;
	struct mesh_config *config;
	struct mesh_listener listener;
	const struct mesh_listener *listeners[1];
	struct mesh_chain chain;
	struct mesh_routes routes;
	const struct mesh_routes *route_list[1];
	struct mesh_vhost vhost;
	struct foil_slice domain;
	struct mesh_route route[ROUTES];
	struct mesh_weighted_cluster weighted;
	struct mesh_cluster cluster;
	const struct mesh_cluster *clusters[1];
	struct mesh_endpoint endpoint;
	struct mesh_endpoints endpoints;
	const struct mesh_endpoints *endpoint_list[1];
	struct mesh_host_set *sets[1];
	struct mesh_retry_policy retry;
};

static struct request_micro *current;

static void die(const char *what)
{
	fprintf(stderr, "foil-micro: %s\n", what);
	exit(2);
}

/* ---- streams ---- */
static bool is_h2(const struct end *e)
{
	return e->is_upstream ? current->up_h2 : current->down_h2;
}

/* HEADERS frames in what was written: one a request. */
static uint32_t count_heads(struct end *e, const struct foil_chain *c)
{
	static uint8_t bytes[256 * 1024];
	uint32_t n = 0, at = e->has_spoken ? 0 : 24; /* the preface */

	if (c->n_bytes > sizeof(bytes))
		die("a write is too long");
	foil_chain_copy_out(c, 0, bytes, c->n_bytes);
	while (at + 9 <= c->n_bytes) {
		n += bytes[at + 3] == 1;
		at += 9 + ((uint32_t)bytes[at] << 16 | (uint32_t)bytes[at + 1] << 8 | bytes[at + 2]);
	}
	if (at != c->n_bytes)
		die("a write ends inside a frame");
	return n;
}

static void op_write(struct foil_worker *w, struct stream *s, struct foil_chain *own)
{
	struct end *e = (struct end *)s;

	(void)w;
	e->n_written_bytes += own->n_bytes;
	e->n_writes++;
	if (e->is_upstream)
		e->n_asked += is_h2(e) ? count_heads(e, own) : 1;
	else
		current->n_answer_bytes += own->n_bytes;
	e->has_spoken = true;
	foil_chain_clear(own);
}

static void op_shutdown(struct foil_worker *w, struct stream *s)
{
	(void)w;
	s->tx_shut = true;
}

static void op_gone(struct foil_worker *w, struct stream *s)
{
	(void)w;
	((struct end *)s)->is_dead = true;
	foil_chain_clear(&s->rx);
}

static void op_consumed(struct foil_worker *w, struct stream *s)
{
	(void)w;
	(void)s;
}

static const struct stream_ops ops = {op_write, op_shutdown, op_gone, op_gone, op_consumed};

static void v4(uint8_t ip[16], uint8_t b, uint8_t c, uint8_t d)
{
	const uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff, [12] = 198, [13] = b, [14] = c, [15] = d};

	memcpy(ip, bytes, sizeof(bytes));
}

static struct end *end_new(bool is_upstream)
{
	struct end *e = &current->ends[current->n_ends++];

	if (current->n_ends > ENDS_MAX)
		die("more connections than expected");
	*e = (struct end){.is_upstream = is_upstream, .next_id = 1};
	e->s.ops = &ops;
	e->s.tx_high_bytes = STREAM_TX_HIGH_BYTES;
	v4(e->s.local.ip, is_upstream ? 19 : 18, 0, 1);
	v4(e->s.remote.ip, is_upstream ? 19 : 18, 0, 2);
	e->s.local.port = is_upstream ? (uint16_t)(40000 + current->n_ends) : 80;
	e->s.remote.port = is_upstream ? 8080 : (uint16_t)(50000 + current->n_ends);
	if (is_h2(e) && nghttp2_hd_deflate_new(&e->deflater, 4096))
		die("no memory");
	return e;
}

/* ---- the transport ---- */
static int tr_listen(struct foil_worker *w, const uint8_t ip[16], uint16_t port, bool (*accept)(struct foil_worker *w, void *data, struct stream *s),
		     void *data, struct mesh_listen_handle **out)
{
	(void)w;
	(void)ip;
	(void)port;
	current->accept = accept;
	current->accept_data = data;
	*out = (struct mesh_listen_handle *)(void *)current;
	return 0;
}

static void tr_unlisten(struct foil_worker *w, struct mesh_listen_handle *h)
{
	(void)w;
	(void)h;
}

static int tr_connect(struct foil_worker *w, const uint8_t ip[16], uint16_t port, const struct stream_user *user, void *user_data, struct stream **out)
{
	struct end *e = end_new(true);

	(void)w;
	(void)ip;
	(void)port;
	e->s.user = user;
	e->s.user_data = user_data;
	*out = &e->s;
	return 0;
}

static const struct mesh_transport transport = {tr_listen, tr_unlisten, tr_connect, NULL};

/* ---- what the other ends say, outside of the clock ---- */
struct bytes {
	uint8_t at[64 * 1024];
	uint32_t n;
};

static void put(struct bytes *b, const void *data, uint32_t n)
{
	if (b->n + n > sizeof(b->at))
		die("too much at once");
	memcpy(&b->at[b->n], data, n);
	b->n += n;
}

static void put_frame(struct bytes *b, uint8_t type, uint8_t flags, uint32_t id, const void *payload, uint32_t n)
{
	const uint8_t header[9] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, type, flags,
				   (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};

	put(b, header, sizeof(header));
	put(b, payload, n);
}

#define FIELD(N, V) {(uint8_t *)(uintptr_t)(N), (uint8_t *)(uintptr_t)(V), sizeof(N) - 1, strlen(V), NGHTTP2_NV_FLAG_NONE}

static void put_head(struct end *e, struct bytes *b, uint8_t flags, const nghttp2_nv *fields, size_t n)
{
	uint8_t block[1024];
	ssize_t n_block = nghttp2_hd_deflate_hd(e->deflater, block, sizeof(block), (nghttp2_nv *)(uintptr_t)fields, n);

	if (n_block < 0)
		die("a head is too long");
	put_frame(b, 1, flags, e->next_id, block, (uint32_t)n_block);
	e->next_id += 2;
}

static void hello_h2(struct end *e, struct bytes *b)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	static const uint8_t settings[] = {0, 3, 0, 0, 3, 0xe8, 0, 4, 1, 0, 0, 0}, window[] = {0x0f, 0, 0, 0};

	if (!e->is_upstream)
		put(b, preface, sizeof(preface) - 1);
	put_frame(b, 4, 0, 0, settings, sizeof(settings));
	put_frame(b, 8, 0, 0, window, sizeof(window));
}

static void put_requests(struct end *e, struct bytes *b, uint32_t n)
{
	const nghttp2_nv head[] = {FIELD(":method", "GET"), FIELD(":scheme", "http"), FIELD(":authority", "web.example.com"), FIELD(":path", current->path),
				   FIELD("user-agent", "foil-load"), FIELD("accept", "*/*")};
	char text[512];

	for (uint32_t i = 0; i < n; i++) {
		if (current->down_h2) {
			put_head(e, b, 5, head, FOIL_COUNT_OF(head));
			continue;
		}
		put(b, text, (uint32_t)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nhost: web.example.com\r\nuser-agent: foil-load\r\naccept: */*\r\n\r\n",
						current->path));
	}
}

static void put_answers(struct end *e, struct bytes *b)
{
	const nghttp2_nv head[] = {FIELD(":status", "200"), FIELD("server", "foil-load"), FIELD("content-type", "text/plain"), FIELD("content-length", "128")};
	static const char h1[] = "HTTP/1.1 200 OK\r\nserver: foil-load\r\ncontent-type: text/plain\r\ncontent-length: 128\r\n\r\n";
	char body[BODY_BYTES];

	memset(body, 'x', sizeof(body));
	for (; e->n_asked; e->n_asked--) {
		if (current->up_h2) {
			put_head(e, b, 4, head, FOIL_COUNT_OF(head));
			put_frame(b, 0, 1, e->next_id - 2, body, sizeof(body));
		} else {
			put(b, h1, sizeof(h1) - 1);
			put(b, body, sizeof(body));
		}
	}
}

/* Into rx, in segments as they come over a wire. */
static void feed(struct end *e, struct bytes *b)
{
	for (uint32_t at = 0; at < b->n;) {
		uint32_t n = FOIL_MIN(b->n - at, SEGMENT_BYTES);
		struct rte_mbuf *m = rte_pktmbuf_alloc(current->w->mbuf_pool);
		if (!m)
			die("no mbuf");
		memcpy(rte_pktmbuf_append(m, (uint16_t)n), &b->at[at], n);
		foil_chain_append_mbuf(&e->s.rx, m);
		at += n;
	}
	b->n = 0;
}

/* ---- the clock ---- */
void micro_request_turn(struct foil_worker *w, struct end **ends, uint32_t n);

/* What a turn of the worker's loop does with what has come: the clock, and callgrind, run over this alone. */
__attribute__((noinline)) void micro_request_turn(struct foil_worker *w, struct end **ends, uint32_t n)
{
	mesh_turn(w);
	for (uint32_t i = 0; i < n; i++)
		if (ends[i]->s.rx.n_bytes)
			ends[i]->s.user->readable(w, &ends[i]->s);
}

static uint64_t timed_turn(struct end **ends, uint32_t n)
{
	uint64_t before = rig_cycles();

	micro_request_turn(current->w, ends, n);
	return rig_cycles() - before;
}

/* Requests there, answers back. Returns the cycles of both turns. */
static uint64_t burst(struct end **clients, uint32_t n_clients)
{
	static struct bytes b;
	struct end *all[ENDS_MAX];
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_clients; i++) {
		put_requests(clients[i], &b, REQUESTS / n_clients);
		feed(clients[i], &b);
	}
	current->w->now_us += 50;
	current->w->wall_us += 50;
	uint64_t cycles = timed_turn(clients, n_clients);
	for (uint32_t i = 0; i < current->n_ends; i++) {
		struct end *e = &current->ends[i];
		if (!e->is_upstream || e->is_dead)
			continue;
		if (!e->s.is_open) {
			e->s.is_open = true;
			if (current->up_h2)
				hello_h2(e, &b);
			e->s.user->opened(current->w, &e->s);
		}
		put_answers(e, &b);
		feed(e, &b);
		all[n++] = e;
	}
	(void)foil_wheel_advance(current->w, 64);
	return cycles + timed_turn(all, n);
}

/* ---- a configuration like the bench's ---- */
static void configure(struct request_micro *r)
{
	static uint64_t generation;
	static const char *const prefixes[ROUTES - 1] = {
		"/route-0/", "/route-1/", "/route-2/", "/route-3/", "/route-4/", "/route-5/", "/route-6/", "/route-7/", "/route-8/", "/route-9/",
		"/route-10/", "/route-11/", "/route-12/", "/route-13/", "/route-14/", "/route-15/", "/route-16/", "/route-17/", "/route-18/",
	};
	struct foil_error err = {0};
	struct mesh_config *c = aligned_alloc(64, (sizeof(*c) + 63) & ~(size_t)63);

	if (!c)
		die("no memory");
	memset(c, 0, sizeof(*c));
	r->config = c;
	v4(r->listener.ip, 18, 0, 1);
	r->listener.port = 80;
	r->listener.chains = &r->chain;
	r->listener.n_chains = 1;
	r->listeners[0] = &r->listener;
	r->chain.http = (struct mesh_hcm){.use_remote_address = true, .idle_timeout_us = 3600000000u, .stream_idle_timeout_us = 300000000u,
					  .scheme = FOIL_SLICE("http"), .server_name = FOIL_SLICE("istio-envoy")};
	r->domain = FOIL_SLICE("*");
	r->vhost = (struct mesh_vhost){.name = FOIL_SLICE("*:80"), .domains = &r->domain, .n_domains = 1, .include_attempt_count = true, .routes = r->route,
				       .n_routes = ROUTES};
	r->retry = (struct mesh_retry_policy){.num_retries = 2, .backoff_base_us = 25000, .backoff_max_us = 250000, .host_selection_max_attempts = 5,
		.avoid_previous_hosts = true,
		.retry_on = MESH_RETRY_CONNECT_FAILURE | MESH_RETRY_REFUSED_STREAM | MESH_RETRY_UNAVAILABLE | MESH_RETRY_CANCELLED};
	r->weighted = (struct mesh_weighted_cluster){.weight = 1, .cluster = FOIL_SLICE("outbound|8080||origin.bench")};
	for (uint32_t i = 0; i < ROUTES; i++) {
		r->route[i] = (struct mesh_route){.decorator_operation = FOIL_SLICE("origin.bench:8080/*")};
		r->route[i].match.path = foil_slice_str(i + 1 < ROUTES ? prefixes[i] : "/");
		r->route[i].route = (struct mesh_route_action){.clusters = &r->weighted, .n_clusters = 1, .total_weight = 1, .retry = &r->retry};
	}
	r->routes = (struct mesh_routes){.vhosts = &r->vhost, .n_vhosts = 1};
	r->route_list[0] = &r->routes;
	r->cluster = (struct mesh_cluster){.res.name = r->weighted.cluster, .lb = MESH_LB_LEAST_REQUEST, .connect_timeout_us = 10000000,
		.protocol = r->up_h2 ? MESH_UPSTREAM_HTTP2 : MESH_UPSTREAM_HTTP1, .idle_timeout_us = 3600000000u,
		.breaker = {MESH_UNLIMITED, MESH_UNLIMITED, MESH_UNLIMITED, MESH_UNLIMITED},
		.service = {.host = FOIL_SLICE("origin.bench"), .name = FOIL_SLICE("origin"), .ns = FOIL_SLICE("bench")}};
	r->clusters[0] = &r->cluster;
	r->endpoint = (struct mesh_endpoint){.port = 8080, .weight = 1};
	v4(r->endpoint.ip, 19, 0, 2);
	r->endpoints = (struct mesh_endpoints){.res.name = r->weighted.cluster, .endpoints = &r->endpoint, .n_endpoints = 1};
	r->endpoint_list[0] = &r->endpoints;
	c->generation = ++generation;
	c->listeners = r->listeners;
	c->n_listeners = 1;
	c->routes = r->route_list;
	c->n_route_slots = 1;
	c->clusters = r->clusters;
	c->endpoints = r->endpoint_list;
	c->host_sets = r->sets;
	c->n_cluster_slots = 1;
	if (mesh_routes_index(&r->routes, &err) != 0 || mesh_config_prepare(r->shared, c, &err) != 0)
		die(err.text);
	mesh_config_publish(r->shared, c);
	mesh_turn(r->w);
}

static void begin(struct request_micro *r)
{
	struct foil_error err = {0};
	const struct http_params hp = {.conns_max = 256, .streams_max = 512};
	const struct tele_shared_params tp = {.n_workers = 1};

	r->shared = mesh_shared_new(&(const struct mesh_shared_params){.n_workers = 1});
	r->tele = tele_shared_new(&tp, &err);
	if (!r->shared || !r->tele || tele_init(r->w, r->tele, &err) || http_init(r->w, &hp, &err))
		die(err.text);
	const struct mesh_params mp = {.shared = r->shared, .transport = &transport, .requests_max = 512, .connections_max = 256};
	if (mesh_init(r->w, &mp, &err) != 0)
		die(err.text);
	configure(r);
}

static void end(struct request_micro *r)
{
	mesh_turn(r->w);
	mesh_fini(r->w);
	mesh_config_unprepare(r->shared, r->config);
	foil_blob_free(&r->routes.res.blob);
	free(r->config);
	http_fini(r->w);
	tele_fini(r->w);
	mesh_shared_free(r->shared);
	tele_shared_free(r->tele);
	for (uint32_t i = 0; i < r->n_ends; i++)
		if (r->ends[i].deflater)
			nghttp2_hd_deflate_del(r->ends[i].deflater);
}

static void measure(struct micro *m, const char *name, bool down_h2, bool up_h2, const char *path)
{
	static struct request_micro r;
	static struct bytes b;
	struct end *clients[REQUESTS];
	uint32_t n_clients = down_h2 ? H2_CLIENTS : REQUESTS;

	if (m->only && strcmp(m->only, name) != 0)
		return;
	memset(&r, 0, sizeof(r));
	r = (struct request_micro){.m = m, .w = &m->rig.w, .down_h2 = down_h2, .up_h2 = up_h2, .path = path};
	current = &r;
	begin(&r);
	for (uint32_t i = 0; i < n_clients; i++) {
		clients[i] = end_new(false);
		clients[i]->s.is_open = true;
		if (!r.accept(r.w, r.accept_data, &clients[i]->s))
			die("a connection was refused");
		if (down_h2)
			hello_h2(clients[i], &b);
		feed(clients[i], &b);
	}
	(void)burst(clients, n_clients); /* the first opens connections and fills tables */
	for (int n = 0; n < MICRO_BURSTS / 4; n++) {
		uint64_t before = r.n_answer_bytes;
		rig_note(&m->figures, burst(clients, n_clients));
		if (r.n_answer_bytes - before < REQUESTS * BODY_BYTES)
			die("requests were not answered");
	}
	micro_say(m, name, REQUESTS);
	end(&r);
}

void micro_request(struct micro *m)
{
	measure(m, "request.h1_h1", false, false, "/");
	measure(m, "request.h2_h1", true, false, "/");
	measure(m, "request.h2_h2", true, true, "/");
	measure(m, "request.h2_h2_path", true, true, "/shop/items/1234?page=2");
}
