/* A transport for the runtime's tests: streams whose other end is the test. What the mesh writes is collected as bytes; what the test says
 * arrives in rx; every event comes when the test makes it come. Real codecs run on top, so tests speak bytes.
 *
 * And a mesh around it: one worker, one listener at 198.18.0.1:80, a few clusters, records of finished requests kept for looking at. */
#pragma once

#include "tests/unit/support.h"

#include "dataplane/http/codec.h"
#include "dataplane/mesh/mesh.h"

#define FX_STREAMS_MAX 4096
#define FX_OUT_BYTES_MAX (4u << 20)

struct fx_stream {
	struct stream s; /* first */
	char *out;       /* what the mesh wrote, not yet taken by the test */
	uint32_t n_out, n_writes;
	bool is_active_open, is_shut, is_aborted, is_released, is_dead;
	bool hold_acks;  /* tx_queued_bytes grows until fx_ack */
	uint16_t port;   /* where a connect went to */
	uint8_t ip[16];
};

#define FX_ROUTES_MAX 8
#define FX_CLUSTERS_MAX 4
#define FX_HOSTS_MAX 3
/* A configuration in one block; change it before fx_publish. Cluster i has hosts 198.19.0.(10*i+1+h):8080. */
struct fx_config {
	struct mesh_config c;
	struct mesh_listener listener;
	const struct mesh_listener *listeners[1];
	struct mesh_chain chain;
	struct mesh_routes routes;
	const struct mesh_routes *route_list[1];
	struct mesh_vhost vhost;
	struct foil_slice domain;
	struct mesh_route route[FX_ROUTES_MAX];
	struct mesh_weighted_cluster weighted[FX_ROUTES_MAX][2];
	struct mesh_cluster cluster[FX_CLUSTERS_MAX];
	const struct mesh_cluster *clusters[FX_CLUSTERS_MAX];
	struct mesh_endpoints endpoints[FX_CLUSTERS_MAX];
	const struct mesh_endpoints *endpoint_list[FX_CLUSTERS_MAX];
	struct mesh_endpoint endpoint[FX_CLUSTERS_MAX][FX_HOSTS_MAX];
	struct mesh_retry_policy retry;
};

/* A finished request, with copies of what was borrowed. */
struct fx_record {
	struct tele_request r;
	char details[128], method[16], path[128], cluster[64], failure[64];
};

struct fx {
	struct foil_worker *w;
	struct mesh_shared *shared;
	struct fx_config *config; /* published last */
	struct fx_config *old[64];
	unsigned int n_old;
	struct fx_stream stream[FX_STREAMS_MAX];
	unsigned int n_streams, n_connects; /* connects: streams with is_active_open, in order */
	struct fx_stream *up[FX_STREAMS_MAX];
	bool refuse_connect;  /* the transport says no */
	uint8_t went_to;      /* clients' next connections are to 198.19.0.N:9000, captured addresses, when not 0 */
	bool listens;
	bool (*accept)(struct foil_worker *w, void *data, struct stream *s);
	void *accept_data;
	struct fx_record record[64];
	unsigned int n_records;
};

/* n_clusters with n_hosts each; route 0: "/" to cluster 0. */
struct fx_config *fx_config_new(unsigned int n_clusters, unsigned int n_hosts);
struct mesh_route *fx_route(struct fx_config *c, const char *prefix, uint32_t slot); /* before the "/" route */
struct fx *fx_new(struct t_worker_params p, struct fx_config *own_config, uint32_t requests_max, uint32_t connections_max);
#define FX_NAMES 64u
extern uint32_t fx_names_max; /* of what fx_new makes: hosts that requests name; 0: FX_NAMES */
void fx_publish(struct fx *f, struct fx_config *own_config); /* and a turn */
/* Ends everything; fails the test when something was not given back. */
void fx_free(struct fx *f);

struct fx_stream *fx_connect(struct fx *f); /* a client connects; NULL: refused */
void fx_say(struct fx *f, struct fx_stream *s, const char *text);
void fx_say_bytes(struct fx *f, struct fx_stream *s, const void *data, uint32_t n_bytes);
void fx_eof(struct fx *f, struct fx_stream *s);                        /* the other end's FIN */
void fx_closed(struct fx *f, struct fx_stream *s, enum stream_end why); /* the transport says it is over */
void fx_opened(struct fx *f, struct fx_stream *s);                     /* a connect succeeds */
void fx_ack(struct fx *f, struct fx_stream *s);                        /* all that is queued is acknowledged */
/* The last upstream connection that was begun; opens it. */
struct fx_stream *fx_up_open(struct fx *f);
/* What the mesh wrote since the last call, NUL-terminated; valid until the next call on that stream. */
const char *fx_heard(struct fx_stream *s);
void fx_turn(struct fx *f);
/* The last record; fails the test when there are not n. */
const struct fx_record *fx_last(struct fx *f, unsigned int n);
#define fx_assert_heard(s, text) assert_non_null(strstr(fx_peek(s), text))
const char *fx_peek(struct fx_stream *s); /* as fx_heard, without taking */
