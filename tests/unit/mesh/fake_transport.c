/* See fake_transport.h. Link with --wrap=tele_request_done: records come here. */
#include "tests/unit/mesh/fake_transport.h"

#include <stdio.h>
#include <stdlib.h>

#include "dataplane/core/error.h"
#include "dataplane/mesh/host.h"

static struct fx *current; /* of the one test that runs */
uint32_t fx_names_max;

/* ---- streams ---- */
static void op_write(struct foil_worker *w, struct stream *s, struct foil_chain *own)
{
	struct fx_stream *f = (struct fx_stream *)s;

	(void)w;
	assert_false(f->is_dead);
	f->n_writes++;
	if (!f->is_shut && !f->is_released) {
		assert_true(f->n_out + own->n_bytes < FX_OUT_BYTES_MAX);
		foil_chain_copy_out(own, 0, f->out + f->n_out, own->n_bytes);
		f->n_out += own->n_bytes;
		f->out[f->n_out] = 0;
		if (f->hold_acks)
			s->tx_queued_bytes += own->n_bytes;
	}
	foil_chain_clear(own);
}

static void op_shutdown(struct foil_worker *w, struct stream *s)
{
	(void)w;
	((struct fx_stream *)s)->is_shut = true;
	s->tx_shut = true;
}

static void die(struct fx_stream *f)
{
	assert_false(f->is_dead);
	f->is_dead = true;
	f->s.user = NULL;
	foil_chain_clear(&f->s.rx);
}

static void op_abort(struct foil_worker *w, struct stream *s)
{
	(void)w;
	((struct fx_stream *)s)->is_aborted = true;
	die((struct fx_stream *)s);
}

static void op_release(struct foil_worker *w, struct stream *s)
{
	(void)w;
	((struct fx_stream *)s)->is_released = true;
	die((struct fx_stream *)s);
}

static void op_consumed(struct foil_worker *w, struct stream *s)
{
	(void)w;
	(void)s;
}

static const struct stream_ops ops = {op_write, op_shutdown, op_abort, op_release, op_consumed};

static void v4(uint8_t ip[16], unsigned int a, unsigned int b, unsigned int c, unsigned int d)
{
	const uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff, [12] = (uint8_t)a, [13] = (uint8_t)b, [14] = (uint8_t)c, [15] = (uint8_t)d};

	memcpy(ip, bytes, sizeof(bytes));
}

static struct fx_stream *stream_new(struct fx *f)
{
	struct fx_stream *s = &f->stream[f->n_streams++];

	assert_true(f->n_streams <= FX_STREAMS_MAX);
	memset(s, 0, sizeof(*s));
	s->out = calloc(1, FX_OUT_BYTES_MAX); /* touched as far as it is used */
	assert_non_null(s->out);
	s->s.ops = &ops;
	s->s.tx_high_bytes = STREAM_TX_HIGH_BYTES;
	return s;
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
	current->listens = true;
	*out = (struct mesh_listen_handle *)current;
	return 0;
}

static void tr_unlisten(struct foil_worker *w, struct mesh_listen_handle *h)
{
	(void)w;
	(void)h;
	current->listens = false;
}

static int tr_connect(struct foil_worker *w, const uint8_t ip[16], uint16_t port, const struct stream_user *user, void *user_data, struct stream **out)
{
	struct fx_stream *s;

	(void)w;
	if (current->refuse_connect)
		return -1;
	s = stream_new(current);
	s->is_active_open = true;
	s->s.user = user;
	s->s.user_data = user_data;
	s->port = port;
	memcpy(s->ip, ip, 16);
	memcpy(s->s.remote.ip, ip, 16);
	s->s.remote.port = port;
	v4(s->s.local.ip, 198, 19, 0, 1);
	s->s.local.port = (uint16_t)(40000 + current->n_connects);
	current->up[current->n_connects++] = s;
	*out = &s->s;
	return 0;
}

static bool tr_is_captured(const struct foil_worker *w, const uint8_t ip[16])
{
	(void)w;
	return ip[13] == 19;
}

static const struct mesh_transport transport = {tr_listen, tr_unlisten, tr_connect, tr_is_captured};

struct fx_stream *fx_connect(struct fx *f)
{
	struct fx_stream *s = stream_new(f);

	s->s.is_open = true;
	v4(s->s.remote.ip, 198, 18, 0, 2);
	s->s.remote.port = (uint16_t)(50000 + f->n_streams);
	v4(s->s.local.ip, 198, 18, 0, 1);
	s->s.local.port = 80;
	if (f->went_to) {
		v4(s->s.local.ip, 198, 19, 0, f->went_to);
		s->s.local.port = 9000;
	}
	if (!f->listens || !f->accept(f->w, f->accept_data, &s->s)) {
		s->is_dead = true;
		return NULL;
	}
	return s;
}

void fx_say_bytes(struct fx *f, struct fx_stream *s, const void *data, uint32_t n_bytes)
{
	assert_false(s->is_dead);
	t_chain(f->w, &s->s.rx, data, n_bytes, 1400);
	if (s->s.user && s->s.user->readable)
		s->s.user->readable(f->w, &s->s);
}

void fx_say(struct fx *f, struct fx_stream *s, const char *text)
{
	fx_say_bytes(f, s, text, (uint32_t)strlen(text));
}

void fx_eof(struct fx *f, struct fx_stream *s)
{
	assert_false(s->is_dead);
	s->s.rx_eof = true;
	if (s->s.user && s->s.user->readable)
		s->s.user->readable(f->w, &s->s);
}

void fx_closed(struct fx *f, struct fx_stream *s, enum stream_end why)
{
	const struct stream_user *u = s->s.user;

	assert_false(s->is_dead);
	if (u && u->closed)
		u->closed(f->w, &s->s, why);
	if (!s->is_dead)
		die(s);
}

void fx_opened(struct fx *f, struct fx_stream *s)
{
	assert_false(s->is_dead);
	s->s.is_open = true;
	s->s.opened_us = f->w->now_us;
	if (s->s.user && s->s.user->opened)
		s->s.user->opened(f->w, &s->s);
}

void fx_ack(struct fx *f, struct fx_stream *s)
{
	s->s.tx_queued_bytes = 0;
	if (!s->is_dead && s->s.user && s->s.user->writable)
		s->s.user->writable(f->w, &s->s);
}

struct fx_stream *fx_up_open(struct fx *f)
{
	assert_true(f->n_connects > 0);
	fx_opened(f, f->up[f->n_connects - 1]);
	return f->up[f->n_connects - 1];
}

const char *fx_peek(struct fx_stream *s)
{
	return s->out;
}

const char *fx_heard(struct fx_stream *s)
{
	static char *copy;

	free(copy);
	copy = malloc(s->n_out + 1);
	assert_non_null(copy);
	memcpy(copy, s->out, s->n_out + 1);
	s->n_out = 0;
	s->out[0] = 0;
	return copy;
}

/* ---- records ---- */
void __wrap_tele_request_done(struct foil_worker *w, const struct tele_request *r);

static void keep(char *to, size_t n, struct foil_slice s)
{
	snprintf(to, n, "%.*s", (int)s.n_bytes, s.data ? s.data : "");
}

void __wrap_tele_request_done(struct foil_worker *w, const struct tele_request *r)
{
	struct fx_record *k = &current->record[current->n_records % FOIL_COUNT_OF(current->record)];

	(void)w;
	current->n_records++;
	k->r = *r;
	keep(k->details, sizeof(k->details), r->details);
	keep(k->method, sizeof(k->method), r->method);
	keep(k->path, sizeof(k->path), r->path);
	keep(k->cluster, sizeof(k->cluster), r->upstream_cluster);
	keep(k->failure, sizeof(k->failure), r->transport_failure);
}

const struct fx_record *fx_last(struct fx *f, unsigned int n)
{
	assert_int_equal(f->n_records, n);
	return &f->record[(n - 1) % FOIL_COUNT_OF(f->record)];
}

/* ---- configurations ---- */
static const struct foil_slice cluster_names[FX_CLUSTERS_MAX] = {
	{"outbound|8080||zero.test", 24}, {"outbound|8080||one.test", 23}, {"outbound|8080||two.test", 23}, {"outbound|8080||three.test", 25},
};

struct fx_config *fx_config_new(unsigned int n_clusters, unsigned int n_hosts)
{
	struct fx_config *c = aligned_alloc(64, (sizeof(*c) + 63) / 64 * 64);

	assert_non_null(c);
	memset(c, 0, sizeof(*c));
	v4(c->listener.ip, 198, 18, 0, 1);
	c->listener.port = 80;
	c->listener.chains = &c->chain;
	c->listener.n_chains = 1;
	c->listeners[0] = &c->listener;
	c->chain.http = (struct mesh_hcm){.use_remote_address = true, .idle_timeout_us = 3600000000u, .scheme = FOIL_SLICE("http"),
					  .server_name = FOIL_SLICE("istio-envoy")};
	c->domain = FOIL_SLICE("*");
	c->vhost = (struct mesh_vhost){.name = FOIL_SLICE("all"), .domains = &c->domain, .n_domains = 1, .include_attempt_count = true, .routes = c->route};
	c->routes.vhosts = &c->vhost;
	c->routes.n_vhosts = 1;
	c->route_list[0] = &c->routes;
	for (unsigned int i = 0; i < n_clusters; i++) {
		c->cluster[i] = (struct mesh_cluster){.slot = i, .lb = MESH_LB_ROUND_ROBIN, .connect_timeout_us = 10000000, .idle_timeout_us = 3600000000u,
			.breaker = {MESH_UNLIMITED, MESH_UNLIMITED, MESH_UNLIMITED, MESH_UNLIMITED}};
		c->cluster[i].res.name = cluster_names[i];
		c->clusters[i] = &c->cluster[i];
		c->endpoints[i] = (struct mesh_endpoints){.cluster_slot = i, .endpoints = c->endpoint[i], .n_endpoints = n_hosts};
		c->endpoints[i].res.name = cluster_names[i];
		c->endpoint_list[i] = &c->endpoints[i];
		for (unsigned int h = 0; h < n_hosts; h++) {
			v4(c->endpoint[i][h].ip, 198, 19, 0, 10 * i + 1 + h);
			c->endpoint[i][h].port = 8080;
			c->endpoint[i][h].weight = 1;
		}
	}
	c->c.settings.access_log_path = FOIL_SLICE("/dev/stdout");
	c->c.settings.server_name = FOIL_SLICE("istio-envoy");
	c->c.listeners = c->listeners;
	c->c.n_listeners = 1;
	c->c.routes = c->route_list;
	c->c.n_route_slots = 1;
	c->c.clusters = c->clusters;
	c->c.endpoints = c->endpoint_list;
	c->c.n_cluster_slots = FX_CLUSTERS_MAX;
	(void)fx_route(c, "/", 0);
	return c;
}

struct mesh_route *fx_route(struct fx_config *c, const char *prefix, uint32_t slot)
{
	uint32_t i = c->vhost.n_routes++;
	struct mesh_route *r;

	assert_true(c->vhost.n_routes <= FX_ROUTES_MAX);
	if (i > 0) { /* "/" stays last */
		c->route[i] = c->route[i - 1];
		c->weighted[i][0] = c->weighted[i - 1][0];
		c->route[i].route.clusters = c->weighted[i];
		i--;
	}
	r = &c->route[i];
	memset(r, 0, sizeof(*r));
	r->match.path = foil_slice_str(prefix);
	c->weighted[i][0] = (struct mesh_weighted_cluster){.slot = slot, .weight = 1,
		.cluster = slot < FX_CLUSTERS_MAX ? cluster_names[slot] : FOIL_SLICE("none")};
	r->route.clusters = c->weighted[i];
	r->route.n_clusters = 1;
	r->route.total_weight = 1;
	return r;
}

/* Breakers and active requests are back at nothing. */
static void assert_counts_zero(const struct fx_config *c)
{
	for (unsigned int i = 0; i < FX_CLUSTERS_MAX; i++)
		for (unsigned int h = 0; c->clusters[i] && h < c->endpoints[i].n_endpoints; h++) {
			const struct mesh_host *host = c->endpoint[i][h].host;
			assert_int_equal(host->by_worker[0].n_active, 0);
			for (unsigned int b = 0; b < MESH_BREAKER_COUNT; b++)
				assert_int_equal(host->cluster->by_worker[0].n[b], 0);
		}
}

static void config_free(struct fx *f, struct fx_config *c)
{
	if (!c)
		return;
	assert_counts_zero(c);
	mesh_config_unprepare(f->shared, &c->c);
	foil_blob_free(&c->routes.res.blob);
	foil_blob_free(&c->c.blob);
	free(c);
}

void fx_publish(struct fx *f, struct fx_config *own)
{
	static uint64_t generation;
	struct foil_error err = {0};

	own->c.generation = ++generation;
	if (mesh_routes_index(&own->routes, &err) != 0 || mesh_config_prepare(f->shared, &own->c, &err) != 0)
		fail_msg("%s", err.text);
	if (f->config)
		f->old[f->n_old++] = f->config;
	f->config = own;
	mesh_config_publish(f->shared, &own->c);
	mesh_turn(f->w);
}

struct fx *fx_new(struct t_worker_params p, struct fx_config *own, uint32_t requests_max, uint32_t connections_max)
{
	struct fx *f = calloc(1, sizeof(*f));
	struct foil_error err = {0};
	const struct http_params http = {.conns_max = 256, .streams_max = 256};

	assert_non_null(f);
	current = f;
	f->w = t_worker_new(p);
	assert_int_equal(http_init(f->w, &http, &err), 0);
	f->shared = mesh_shared_new(&(struct mesh_shared_params){.n_workers = FOIL_MAX(p.n_workers, 1)});
	assert_non_null(f->shared);
	const struct mesh_params mp = {.shared = f->shared, .transport = &transport, .requests_max = requests_max, .connections_max = connections_max,
		.names_max = fx_names_max ? fx_names_max : FX_NAMES};
	if (mesh_init(f->w, &mp, &err) != 0)
		fail_msg("%s", err.text);
	fx_publish(f, own);
	return f;
}

void fx_turn(struct fx *f)
{
	mesh_turn(f->w);
}

void fx_free(struct fx *f)
{
	mesh_turn(f->w);
	mesh_fini(f->w);
	if (f->w->tls)
		tls_fini(f->w);
	assert_int_equal((int64_t)t_counter(f->w, MESH, REQUESTS_ACTIVE), 0);
	assert_int_equal((int64_t)t_counter(f->w, MESH, UPSTREAM_CONNS), 0);
	assert_int_equal((int64_t)t_counter(f->w, MESH, DOWNSTREAM_CONNS), 0);
	assert_int_equal((int64_t)t_counter(f->w, MESH, POOLS), 0);
	assert_int_equal((int64_t)t_counter(f->w, MESH, TCP_SESSIONS), 0);
	assert_int_equal(f->w->wheel.n_armed, 0);
	for (unsigned int i = 0; i < f->n_old; i++) {
		assert_int_equal(f->old[i]->c.held[0].n, 0);
		config_free(f, f->old[i]);
	}
	assert_int_equal(f->config->c.held[0].n, 0);
	config_free(f, f->config);
	http_fini(f->w);
	for (unsigned int i = 0; i < f->n_streams; i++) {
		if (!f->stream[i].is_dead)
			fail_msg("stream %u of the mesh was not let go", i);
		free(f->stream[i].out);
	}
	mesh_shared_free(f->shared);
	t_worker_free(f->w);
	free(f);
	current = NULL;
}
