/* What the worker's side of the mesh shares inside this room: the context, object memory, and the pieces that one request passes through
 * (downstream.c, exchange.c, filter_chain.c, router.c, retry.c, timeouts.c, pool.c, mirror.c, local_reply.c, access.c) or one L4 session
 * (tcp_proxy.c).
 *
 * Lifetimes. Codecs and transports may call back from inside a call that we make, so a block that has ended is only buried (mesh_bury) and given
 * back by the next mesh_turn: frames below may still ask "is it over?", and nothing more. Configurations that a block holds are put
 * when it is given back. */
#pragma once

#include "dataplane/mesh/admission.h"
#include "dataplane/mesh/breaker.h"
#include "dataplane/mesh/filter.h"
#include "dataplane/mesh/forwarding.h"
#include "dataplane/mesh/grpc_priv.h"
#include "dataplane/mesh/hash_policy.h"
#include "dataplane/mesh/header_ops.h"
#include "dataplane/mesh/mesh.h"
#include "dataplane/mesh/names.h"
#include "dataplane/mesh/outlier.h"
#include "dataplane/mesh/route.h"

/* ---- lists and memory ---- */
struct mesh_list { /* circular; a head and its nodes are the same; an unlinked node is zero or points at itself */
	struct mesh_list *next, *prev;
};

static inline void mesh_list_init(struct mesh_list *l)
{
	l->next = l->prev = l;
}

static inline bool mesh_list_is_empty(const struct mesh_list *l)
{
	return l->next == l;
}

static inline void mesh_list_add_tail(struct mesh_list *head, struct mesh_list *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}

static inline void mesh_list_add_head(struct mesh_list *head, struct mesh_list *n)
{
	mesh_list_add_tail(head->next, n);
}

static inline void mesh_list_del(struct mesh_list *n)
{
	if (!n->next)
		return;
	n->prev->next = n->next;
	n->next->prev = n->prev;
	mesh_list_init(n);
}

/* Moves all of from (a head) to the empty head to. */
static inline void mesh_list_take_all(struct mesh_list *to, struct mesh_list *from)
{
	mesh_list_init(to);
	if (mesh_list_is_empty(from))
		return;
	to->next = from->next;
	to->prev = from->prev;
	to->next->prev = to->prev->next = to;
	mesh_list_init(from);
}

/* Blocks of one size, reserved at init, touched when first used. */
struct mesh_slab {
	uint8_t *base;
	void *free; /* a chain through the first word */
	uint32_t bytes_each, n_max, n_fresh, n_live;
};
int mesh_slab_init(struct mesh_slab *s, uint32_t bytes_each, uint32_t n_max) FOIL_MUST_USE; /* 0 or -ENOMEM */
void mesh_slab_fini(struct mesh_slab *s);
void *mesh_slab_take(struct mesh_slab *s); /* zeroed; NULL when all are in use */
void mesh_slab_give(struct mesh_slab *s, void *block);

/* First member of every block that is buried. */
struct mesh_grave {
	struct mesh_grave *next;
	struct mesh_slab *slab;
	const struct mesh_config *held; /* put at burial; NULL = none */
};

struct mesh_port;
struct mesh_ctx;
/* ---- hosts that requests name: names.c ---- */
struct mesh_name;
/* Who waits for a name's address. Zero it, and fill in resolved; ip is set where the result is READY. */
struct mesh_name_waiter {
	struct mesh_list node;
	struct mesh_name *name; /* while it waits */
	void (*resolved)(struct foil_worker *w, struct mesh_name_waiter *waiter, enum mesh_name_result result, const uint8_t ip[16]);
};
struct mesh_names {
	struct mesh_slab slab;
	struct mesh_name **buckets;
	uint32_t n_buckets, n_asked;           /* asked: questions that have no answer yet */
	struct mesh_list good, bad, fresh;     /* have addresses; were found to have none; not known yet. Used last: last */
	struct mesh_name_post *post;
	const struct mesh_cidr *refused;
	uint16_t n_refused;
};
/* The address of host, a name without port and in any case, or an address itself. */
enum mesh_name_result mesh_name_resolve(struct foil_worker *w, struct foil_slice host, struct mesh_name_waiter *waiter, uint8_t ip[16]);
void mesh_name_cancel(struct foil_worker *w, struct mesh_name_waiter *waiter); /* no effect when it does not wait */
/* Nobody answered there: the name's next address is used from now on. */
FOIL_COLD void mesh_name_connect_failed(struct foil_worker *w, struct foil_slice host, const uint8_t ip[16]);
/* The reason to count of a result that is neither READY nor WAITING. */
FOIL_COLD enum mesh_reason mesh_name_reason(enum mesh_name_result result);
int mesh_names_init(struct foil_worker *w, struct mesh_ctx *m, uint32_t n_max) FOIL_MUST_USE;
void mesh_names_fini(struct foil_worker *w); /* nobody waits any more */
void mesh_names_turn(struct foil_worker *w); /* takes answers */
struct mesh_name_post *mesh_shared_post(struct mesh_shared *sh, uint16_t worker);
const struct mesh_cidr *mesh_shared_refused(const struct mesh_shared *sh, uint16_t *n);

/* ---- upstream connections: pool.c ---- */
enum mesh_pool_result {
	MESH_POOL_READY,    /* the stream is there */
	MESH_POOL_WAITING,  /* ready or failed of the waiter will be called */
	MESH_POOL_OVERFLOW, /* maxRequests: the host was asked */
	MESH_POOL_QUEUE_OVERFLOW, /* maxPendingRequests: it was not */
	MESH_POOL_FAILED    /* no memory, or the transport refused to connect */
};
#define MESH_RESET_OVERFLOW ((enum http_reset)(HTTP_RESET_CONNECT_TIMEOUT + 1)) /* a breaker refused it */
struct mesh_ctx;
struct mesh_pool;
#define MESH_CLIENT_POOL_BUCKETS 4096u
struct mesh_upstream;
/* Who wants a connection. Zero it, fill in arena, events, user_data, ready and failed. */
struct mesh_pool_waiter {
	struct mesh_list node;
	struct mesh_pool *pool; /* while it waits */
	const struct mesh_cluster *cluster;
	struct foil_slice authority; /* of the request, as long as it waits: the server's name where TLS takes it from there */
	bool is_client_h2; /* the request came over HTTP/2 */
	const struct stream_addr *client, *server; /* what a PROXY header tells of the request's connection; NULL: nobody's. As long as it waits */
	const struct stream_addr *place; /* of a cluster whose hosts requests name: where authority was found to be */
	struct foil_arena *arena;
	const struct http_stream_events *events;
	void *user_data;
	void (*ready)(struct foil_worker *w, struct mesh_pool_waiter *waiter, struct mesh_upstream *u, struct http_stream *hs);
	/* kind: HTTP_RESET_CONNECT_FAILURE, _CONNECT_TIMEOUT, MESH_RESET_OVERFLOW, or _LOCAL */
	void (*failed)(struct foil_worker *w, struct mesh_pool_waiter *waiter, enum http_reset kind, enum stream_end why);
};
/* A connection to e for one request of a holder of cfg. READY: *out and *stream are set; give the stream back by completing it or by
 * http_stream_reset, and call mesh_pool_done once in either case. */
enum mesh_pool_result mesh_pool_acquire(struct foil_worker *w, const struct mesh_config *cfg, const struct mesh_cluster *c,
					const struct mesh_endpoint *e, struct mesh_pool_waiter *waiter, struct mesh_upstream **out,
					struct http_stream **stream);
void mesh_pool_cancel(struct foil_worker *w, struct mesh_pool_waiter *waiter); /* no effect when it does not wait */
/* The request that was acquired is over, as far as breakers and balancing count it. */
void mesh_pool_done(struct foil_worker *w, struct mesh_host *h);
const struct stream_addr *mesh_upstream_local(const struct mesh_upstream *u);
int mesh_pools_init(struct mesh_ctx *m, uint32_t conns_max) FOIL_MUST_USE; /* 0 or -ENOMEM, as the other _init of slabs */
void mesh_pools_adopt(struct foil_worker *w, const struct mesh_config *cfg); /* after ctx->by_host is the new one's */
void mesh_pools_close(struct foil_worker *w);
uint32_t mesh_pools_shrink(struct foil_worker *w, uint32_t n_most); /* closes so many connections at rest, and says how many */
void mesh_pools_yield(struct foil_worker *w); /* closes one idle connection whose place another worker waits for */

/* places.c */
bool mesh_place_take(struct foil_worker *w, const struct mesh_cluster *c, struct mesh_host *h, bool is_starved) FOIL_MUST_USE;
bool mesh_place_take_first(struct foil_worker *w, struct mesh_host *h) FOIL_MUST_USE; /* whatever the limit, if no worker has a connection to it */
void mesh_place_take_freed(struct foil_worker *w, struct mesh_host *h); /* in the place of a connection that is closing */
void mesh_place_give(struct foil_worker *w, struct mesh_host *h);
void mesh_place_starve(struct foil_worker *w, struct mesh_cluster_state *s, int32_t n); /* +1: a pool begins to wait for others' places, -1: it ends */
void mesh_place_ask(struct foil_worker *w); /* the others shall look at their idle connections */
/* Another worker waits for a place in this cluster, and this one has more than its share. */
bool mesh_place_is_wanted(const struct foil_worker *w, const struct mesh_cluster *c, const struct mesh_cluster_state *s) FOIL_MUST_USE;

/* ---- one HTTP request: exchange.c and its parts ---- */
struct mesh_downstream;

/* One try at one upstream. */
struct mesh_try {
	struct mesh_pool_waiter waiter;
	struct mesh_name_waiter name; /* before that, where the request names its host */
	const struct mesh_endpoint *endpoint;
	struct http_stream *stream; /* NULL: not connected, or over */
	struct foil_timer timer;    /* per-try timeout */
	uint64_t started_us;        /* when an endpoint was chosen */
	bool is_connected;          /* the request head was sent */
	bool request_ended;         /* the end of the request was handed to the codec */
	bool response_started, response_ended;
	bool is_paused;             /* we stopped its response */
};

enum mesh_router_state { MESH_ROUTER_NONE, MESH_ROUTER_TRY, MESH_ROUTER_BACKOFF, MESH_ROUTER_DONE };

#define MESH_AVOID_MAX 8
#define MESH_BODY_KEPT_BYTES_MAX (1u << 20) /* OM-1: what a retry or a mirror may need again; of a retry, unless the listener says less */
#define MESH_BODY_WAITING_BYTES (256u << 10) /* before a try is connected; then the client is held back. Likewise */

struct mesh_retry {
	uint32_t on;             /* enum mesh_retry_on; 0 = none */
	uint32_t n_left, n_done;
	uint64_t per_try_us, base_us, max_us;
	const uint16_t *codes;
	uint16_t n_codes;
	uint16_t code_of_header[8]; /* x-envoy-retriable-status-codes */
	uint8_t n_codes_of_header;
	bool is_counted;         /* one of the cluster's RETRIES is ours */
	bool avoid_previous_hosts;
	uint32_t host_attempts_max;
	struct mesh_host *avoid[MESH_AVOID_MAX];
	uint8_t n_avoid;
	struct foil_timer timer; /* back-off */
};

struct mesh_exchange {
	struct mesh_grave grave;
	struct mesh_list node; /* the downstream's exchanges */
	struct mesh_downstream *ds;
	struct http_stream *down; /* NULL: over */
	struct foil_arena *arena;
	const struct mesh_config *cfg;
	const struct mesh_hcm *hcm;
	struct stream_addr remote, local; /* of the connection; whom the request is from is from.client */
	struct http_head request_head, response_head; /* the codec's own are gone when it has told us */
	struct http_head *request, *response;         /* these, or NULL before they came; response: the final head, as sent */
	struct mesh_forwarding_result from;
	const struct mesh_vhost *vhost;
	const struct mesh_route *route;
	const struct mesh_weighted_cluster *weighted;
	const struct mesh_cluster *cluster; /* of weighted; NULL: not in the snapshot */
	struct mesh_hash hash;              /* of the request as it came, when the cluster asks for one */

	/* filters */
	struct mesh_filter_call *calls;
	uint8_t n_calls, request_filter, response_filter; /* the next that runs; response counts down */
	bool is_request_held, is_request_collected, is_response_held, in_filter;
	bool held_end, response_end_held;
	struct foil_chain held; /* body that a filter keeps back */
	struct foil_chain answer; /* of an answer that a filter collects */
	bool is_response_collected;
	bool is_grpc_web;         /* what is made here has its status in headers, as gRPC-Web wants it */

	/* request body */
	struct foil_chain kept; /* all of it so far, as long as it may be needed (keep), or what waits for a connection */
	uint64_t n_body_bytes;
	struct http_headers request_trailers; /* HTTP/2: they end the body */
	bool keep;              /* retries or mirrors may want it again */
	bool kept_overflow;     /* it was too large for that */
	bool head_ended;        /* with its head: a request that cannot have a body */
	bool request_ended;     /* all of it has arrived */
	bool body_ended;        /* and has passed the filters */
	bool is_down_paused;
	bool is_upgrade;        /* asks for another protocol: nothing of its bytes goes up before the upstream said 101 */
	bool is_tunnel;         /* it did */
	bool owns_websocket_key; /* the client, over HTTP/2, sent none */

	/* router */
	enum mesh_router_state router;
	struct mesh_try try;
	struct mesh_retry retry;
	uint32_t n_tries;
	uint64_t timeout_us, request_ended_us, active_us, idle_us;
	uint64_t ends_us; /* max_stream_duration: whatever it does then; 0: never, or it did */
	struct foil_timer timeout, overall;
	bool is_idle_watched; /* by the downstream's timer */
	struct foil_slice original_authority;
	struct foil_slice original_path; /* before a rewrite */
	bool response_started, response_ended, is_local_reply, is_over;

	/* for the record */
	uint16_t status;
	uint64_t flags;
	struct foil_slice details, transport_failure;
	const struct mesh_endpoint *host; /* of the last try that had one */
	struct stream_addr upstream_remote, upstream_local; /* port 0: none */
	struct http_headers response_trailers; /* in the arena */
	uint64_t response_us;            /* the last try's answer began; 0: none did */
	uint8_t upstream_version;        /* of the last try that connected: enum http_version + 1; 0: none did */
	int16_t grpc_status;
	struct mesh_grpc_messages request_messages, response_messages;
	bool is_bad_request;   /* nothing of the request is logged but what was decoded */
};

/* exchange.c */
extern const struct http_server_events mesh_server_events;
void mesh_exchange_run(struct foil_worker *w, struct mesh_exchange *x); /* after the filters: route it */
/* The body goes on to the router, filters done with it. */
void mesh_exchange_body(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *own_data, bool end);
void mesh_exchange_pause(struct foil_worker *w, struct mesh_exchange *x); /* recomputes whether the client is held back */
void mesh_exchange_over(struct foil_worker *w, struct mesh_exchange *x);  /* the downstream stream has ended; records, once */
/* The response head towards the client: filters, server, date, connection: close. */
void mesh_exchange_respond(struct foil_worker *w, struct mesh_exchange *x, struct http_head *head, bool end);
void mesh_exchange_respond_on(struct foil_worker *w, struct mesh_exchange *x); /* after the filters */
void mesh_exchange_respond_data(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *own_data, bool end);
/* The answer ends with trailers; towards HTTP/1.1 it just ends. */
void mesh_exchange_respond_trailers(struct foil_worker *w, struct mesh_exchange *x, const struct http_headers *trailers);
/* Ends it at once: record, then reset of what is still open on either side. */
FOIL_COLD void mesh_exchange_abort(struct foil_worker *w, struct mesh_exchange *x);
static inline bool mesh_exchange_is_h2(const struct mesh_exchange *x)
{
	return http_conn_version(x->down->conn) == HTTP_VERSION_2;
}
void mesh_exchange_fill_ctx(struct foil_worker *w, const struct mesh_exchange *x, struct mesh_format_ctx *ctx);

/* local_reply.c */
void mesh_reply_send(struct foil_worker *w, struct mesh_exchange *x, const struct mesh_reply *r);
void mesh_reply_no_memory(struct foil_worker *w, struct mesh_exchange *x);
FOIL_COLD void mesh_reply_overloaded(struct foil_worker *w, struct mesh_exchange *x);
/* grpc-status and grpc-message of an HTTP status and a body that stands for it; a status that is there stays. 0 or -ENOBUFS. */
int mesh_reply_grpc_status(struct foil_worker *w, struct mesh_exchange *x, uint16_t status, struct foil_slice message, struct http_headers *h) FOIL_MUST_USE;

/* filter_chain.c */
int mesh_filters_init(struct foil_worker *w, struct mesh_exchange *x) FOIL_MUST_USE; /* 0 or -ENOBUFS */
void mesh_filters_request(struct foil_worker *w, struct mesh_exchange *x);
void mesh_filters_request_data(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *own_data, bool end);
/* false: a filter answered or holds it. */
bool mesh_filters_response(struct foil_worker *w, struct mesh_exchange *x, bool end);
/* All of a collected answer is there: its filter, then those that remain for the head. False: a filter answered or holds it. */
bool mesh_filters_response_collected(struct foil_worker *w, struct mesh_exchange *x);
enum mesh_filter_result mesh_filters_response_trailers(struct foil_worker *w, struct mesh_exchange *x, const struct http_headers *trailers,
						       struct foil_chain *data);
bool mesh_filters_response_data(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *data, bool end);
void mesh_filters_done(struct foil_worker *w, struct mesh_exchange *x);

/* router.c */
void mesh_router_choose(struct foil_worker *w, struct mesh_exchange *x); /* the cluster of x->route */
void mesh_router_begin(struct foil_worker *w, struct mesh_exchange *x);
void mesh_router_data(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *own_data, bool end);
void mesh_router_try(struct foil_worker *w, struct mesh_exchange *x); /* the next try */
void mesh_router_writable(struct foil_worker *w, struct mesh_exchange *x); /* the client takes bytes again */
void mesh_router_stop(struct foil_worker *w, struct mesh_exchange *x);     /* forgets the try that runs: detaches or resets it */
/* The try has ended without an answer; it is stopped already. */
FOIL_COLD void mesh_router_failed(struct foil_worker *w, struct mesh_exchange *x, enum http_reset kind, enum stream_end why);
/* The route's or a try's time is over. */
void mesh_router_timeout(struct foil_worker *w, struct mesh_exchange *x, bool is_per_try);
/* The final response ops of the route (VS-21). 0 or -ENOBUFS. */
int mesh_router_response_ops(struct foil_worker *w, struct mesh_exchange *x, struct http_head *head) FOIL_MUST_USE;

/* retry.c */
enum mesh_retry_verdict { MESH_RETRY_NO, MESH_RETRY_YES, MESH_RETRY_EXHAUSTED, MESH_RETRY_OVERFLOW };
void mesh_retry_init(struct foil_worker *w, struct mesh_exchange *x);
enum mesh_retry_verdict mesh_retry_on_response(struct foil_worker *w, struct mesh_exchange *x, const struct http_head *head);
FOIL_COLD enum mesh_retry_verdict mesh_retry_on_reset(struct foil_worker *w, struct mesh_exchange *x, enum http_reset kind);
void mesh_retry_schedule(struct foil_worker *w, struct mesh_exchange *x); /* after YES: back-off, then mesh_router_try */
void mesh_retry_fini(struct foil_worker *w, struct mesh_exchange *x);

/* timeouts.c */
int mesh_timeouts_init(struct foil_worker *w, struct mesh_exchange *x) FOIL_MUST_USE; /* from route and headers, which it removes. 0 or -ENOBUFS */
int mesh_timeouts_headers(struct foil_worker *w, struct mesh_exchange *x) FOIL_MUST_USE; /* x-envoy-expected-rq-timeout-ms, grpc-timeout of a try */
void mesh_timeouts_request_ended(struct foil_worker *w, struct mesh_exchange *x);
void mesh_timeouts_try_connected(struct foil_worker *w, struct mesh_exchange *x);
void mesh_timeouts_arrived(struct foil_worker *w, struct mesh_exchange *x); /* the head is there: idle and overall timers begin */
void mesh_timeouts_activity(struct foil_worker *w, struct mesh_exchange *x);
/* The answer is a tunnel, for which the request's and the route's time say nothing; and one half of it is closed. */
void mesh_timeouts_tunnel(struct foil_worker *w, struct mesh_exchange *x);
void mesh_timeouts_half_closed(struct foil_worker *w, struct mesh_exchange *x);
void mesh_timeouts_fini(struct foil_worker *w, struct mesh_exchange *x);

/* tunnel.c */
bool mesh_upgrade_is_allowed(const struct http_head *request);
/* What the upstream's version of HTTP wants in the handshake. 0 or -ENOBUFS. */
int mesh_tunnel_request(struct foil_worker *w, struct mesh_exchange *x, bool up_is_h2) FOIL_MUST_USE;
enum mesh_tunnel_answer { MESH_TUNNEL_TAKEN, MESH_TUNNEL_WRONG_ANSWER, MESH_TUNNEL_NO_MEMORY };
/* head is the upstream's 101: it becomes what the client's version wants. */
enum mesh_tunnel_answer mesh_tunnel_begin(struct foil_worker *w, struct mesh_exchange *x, bool up_is_h2, struct http_head *head) FOIL_MUST_USE;
/* One side has sent all; the first to do so is who ended it, for the record. */
void mesh_tunnel_half_closed(struct foil_worker *w, struct mesh_exchange *x, bool by_client);

/* mirror.c */
void mesh_mirror_send(struct foil_worker *w, struct mesh_exchange *x); /* the request is complete */
void mesh_mirrors_close(struct foil_worker *w);

int mesh_mirrors_init(struct mesh_ctx *m, uint32_t n_max) FOIL_MUST_USE;

/* text.c: what the fast path writes without printf */
/* Decimal, in the arena; {NULL, 0} without memory. */
struct foil_slice mesh_decimal(struct foil_worker *w, struct foil_arena *a, uint64_t n);
/* Sets one header of a known name: the first such keeps its place, others go. 0 or -ENOBUFS. value lives as long as the exchange. */
int mesh_header_put(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id, struct foil_slice value) FOIL_MUST_USE;
int mesh_header_put_number(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id, uint64_t n) FOIL_MUST_USE;

/* access.c */
void mesh_access_record(struct foil_worker *w, struct mesh_exchange *x);
/* Metrics and the log's line of a request or connection that has ended, with what cfg's log format asks for beyond r. ctx: where that comes from; may be
 * NULL when the format asks for nothing. */
void mesh_record(struct foil_worker *w, const struct mesh_config *cfg, const struct mesh_format_ctx *ctx, struct tele_request *r);
/* Whether a record of one of p's connections goes into the access log; status 0: it is none of HTTP's, or has none. */
bool mesh_is_logged(const struct mesh_config *cfg, const struct mesh_port *p, uint16_t status);
/* Envoy's words for the end of a try. */
FOIL_COLD struct foil_slice mesh_reset_text(enum http_reset kind);
FOIL_COLD uint64_t mesh_reset_flag(enum http_reset kind);
/* Static, or of the TLS failure that is being told. */
FOIL_COLD struct foil_slice mesh_transport_failure(const struct foil_worker *w, enum http_reset kind, enum stream_end why);
static inline struct tele_addr mesh_tele_addr(const struct stream_addr *a)
{
	struct tele_addr t = {.port = a->port};
	memcpy(t.ip, a->ip, sizeof(t.ip));
	return t;
}

/* ---- downstream.c ---- */
/* A listening address of this worker; outlives configurations as long as the address is listened at or has connections. */
struct mesh_port {
	struct mesh_grave grave;
	struct mesh_list node;        /* ctx->ports */
	struct foil_worker *w;
	uint8_t ip[16];
	uint16_t port;
	const struct mesh_listener *listener; /* of ctx->cfg; NULL: removed */
	struct mesh_listen_handle *handle;
	struct mesh_list downstreams; /* HTTP connections */
	uint32_t n_conns;             /* and L4 sessions: all that point here */
	uint32_t n_clients;           /* that were admitted (admission.h) */
	struct mesh_client_count *clients; /* where they are counted; NULL: no limit */
	uint64_t seen;                /* generation of the configuration that named it last */
};

/* Where its clients went is another station's address, which connections can go on to. */
static inline bool mesh_port_is_captured(const struct mesh_port *p)
{
	return p->listener && p->listener->is_captured;
}

/* At rest it is two cache lines. Addresses are the stream's, but where a PROXY header told others: then it is the first member of a block that has them. */
struct mesh_downstream {
	union {
		struct mesh_grave grave; /* buried: port and node are nothing any more, and held is NULL */
		struct {
			struct mesh_list node; /* port->downstreams */
			struct mesh_port *port;
		};
	};
	struct http_conn *conn; /* NULL: closed */
	struct mesh_list exchanges;
	struct foil_timer timer; /* fires when the first exchange may be idle or has to end, when ends_us comes, or before; stays armed over many requests */
	uint64_t ends_us;        /* max_connection_duration; 0: none, or it was */
	const struct mesh_chain *chain; /* of the configuration that it was asked for last */
	uint64_t chain_generation;
	const struct tls_facts *tls; /* of the connection, as long as conn; NULL: plaintext */
	uint32_t n_requests;
	bool is_draining, is_told;
	bool is_ending; /* HTTP/1.1: its next answer is its last, and without one it ends when ends_us comes again */
};
static_assert(sizeof(struct mesh_downstream) <= 128, "a connection at rest keeps two cache lines here; see docs/memory.md");
static_assert(offsetof(struct mesh_downstream, port) == offsetof(struct mesh_grave, held), "a closed one has no port, so a buried one holds nothing");
struct mesh_downstream_told {
	struct mesh_downstream d;
	struct stream_addr remote, local;
};
/* Both ends of a connection that is not closed; zeros for one whose stream has gone already. */
void mesh_downstream_addrs(const struct mesh_downstream *d, struct stream_addr *remote, struct stream_addr *local);
/* Sees to it that the timer fires by then. */
void mesh_downstream_timer_by(struct foil_worker *w, struct mesh_downstream *d, uint64_t at_us);
void mesh_timeouts_look(struct foil_worker *w, struct mesh_downstream *d); /* timeouts.c: which exchanges are idle or have to end */
static inline struct foil_slice mesh_downstream_sni(const struct mesh_downstream *d)
{
	return d->tls ? d->tls->sni : (struct foil_slice){NULL, 0};
}
/* A connection whose chain is known. */
struct mesh_accept {
	struct mesh_port *port;
	const struct mesh_chain *chain;
	const struct mesh_config *cfg; /* chain's */
	struct foil_slice sni;         /* copied */
	struct stream_addr remote, local; /* of the client; what a PROXY header told, where there was one */
};
#define MESH_SNI_BYTES 256u
bool mesh_chain_accept(struct foil_worker *w, const struct mesh_accept *a, struct stream *s);
/* of: the port, its addresses and name. */
void mesh_log_no_chain(struct foil_worker *w, const struct mesh_accept *of);
/* What a connection of c begins with; 0 or -ENOBUFS. client, server NULL: nobody's. */
int mesh_upstream_proxy_header(struct foil_worker *w, const struct mesh_cluster *c, const struct stream_addr *client, const struct stream_addr *server,
			       struct stream *s) FOIL_MUST_USE;
bool mesh_port_accept(struct foil_worker *w, void *port, struct stream *s);
void mesh_port_put(struct foil_worker *w, struct mesh_port *p); /* one connection less; buries it when it was the last of a removed port */
/* What is known of a connection's first bytes. */
struct mesh_first {
	struct foil_slice sni;  /* empty: none */
	struct foil_slice alpn; /* as the ClientHello has the list */
	bool is_tls;
	bool is_any_alpn;       /* the hello is gone: what it offered fitted once */
};
static inline struct mesh_first mesh_downstream_first(const struct mesh_downstream *d)
{
	return (struct mesh_first){.sni = mesh_downstream_sni(d), .is_tls = d->tls != NULL, .is_any_alpn = d->tls != NULL};
}
/* The chain that takes a connection: of those whose conditions all hold, by destination address, then server name (exact, wildcard, none), then transport,
 * then offered protocols; first in order. */
const struct mesh_chain *mesh_chain_choose(const struct mesh_listener *l, const uint8_t dst_ip[16], const struct mesh_first *first);
void mesh_downstream_drain(struct foil_worker *w, struct mesh_downstream *d);
/* Looks at *n_left connections at most, the oldest first, takes those off, and closes the ones at rest: says how many. */
uint32_t mesh_downstreams_shrink(struct foil_worker *w, struct mesh_port *p, uint32_t *n_left);
void mesh_downstream_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why);

/* ---- upstream_tls.c ---- */
/* An authority's host, without port and brackets; borrowed. */
struct foil_slice mesh_authority_host(struct foil_slice authority);
/* Its port; without one that of the cluster's scheme, 0 where there is none that can be. */
uint16_t mesh_authority_port(const struct mesh_cluster *c, struct foil_slice authority, bool is_marked);
/* The part of a request's authority that connections are told apart by; empty for most clusters. Borrowed from authority. */
struct foil_slice mesh_upstream_name(const struct mesh_cluster *c, struct foil_slice authority);
/* Changes when connections of before may not be used any more; 0 = plaintext. */
uint64_t mesh_upstream_tls_key(const struct foil_worker *w, const struct mesh_cluster *c, bool is_marked);
/* Connections of the cluster to an endpoint are TLS. is_marked: mesh_endpoint.tls. */
static inline bool mesh_upstream_is_tls(const struct mesh_cluster *c, bool is_marked)
{
	return FOIL_UNLIKELY(c->tls != NULL) && (is_marked || !c->tls->only_marked_endpoints);
}
/* Labels of metrics (TM-3, TM-4): at a gateway whose identity spoke to the endpoint; at a service's address who the client proved to be. Empty: unknown. */
struct foil_slice mesh_source_principal(const struct mesh_config *cfg, const struct mesh_cluster *c, const struct mesh_endpoint *e,
					const struct tls_facts *down, bool is_gateway);
/* False: a secret is missing; nothing may be connected. */
bool mesh_upstream_tls_is_ready(const struct mesh_config *cfg, const struct mesh_cluster *c, bool is_marked);
struct mesh_upstream_tls_params {
	const struct stream_user *user;
	void *user_data;
	struct foil_slice name; /* of mesh_upstream_name */
};
/* c->tls != NULL. *s becomes the TLS stream over what it was. 0, or negative with *s as it was. */
int mesh_upstream_tls_open(struct foil_worker *w, const struct mesh_config *cfg, const struct mesh_cluster *c, const struct mesh_upstream_tls_params *p,
			   struct stream **s) FOIL_MUST_USE;

/* ---- health.c ---- */
int mesh_checks_init(struct mesh_ctx *m) FOIL_MUST_USE;
void mesh_checks_adopt(struct foil_worker *w, const struct mesh_config *cfg); /* cfg is ctx->cfg; the one before it is still there */
void mesh_checks_close(struct foil_worker *w);

/* ---- hello.c: connections whose first bytes decide ---- */
bool mesh_hello_accept(struct foil_worker *w, struct mesh_port *p, struct stream *s);
int mesh_hellos_init(struct mesh_ctx *m, uint32_t n_max) FOIL_MUST_USE;
void mesh_hellos_close(struct foil_worker *w);

/* ---- tcp_proxy.c ---- */
bool mesh_tcp_accept(struct foil_worker *w, const struct mesh_accept *a, struct stream *s);
int mesh_tcp_init(struct mesh_ctx *m, uint32_t n_max) FOIL_MUST_USE;
void mesh_tcp_adopt(struct foil_worker *w, const struct mesh_config *cfg);
void mesh_tcp_close_all(struct foil_worker *w);
uint32_t mesh_tcp_count(const struct foil_worker *w);

/* ---- the worker's context ---- */
struct mesh_host_now {
	const struct mesh_endpoint *endpoint;
	uint64_t generation; /* of the configuration that endpoint belongs to */
};
struct mesh_ctx {
	struct mesh_shared *shared;
	const struct mesh_transport *transport;
	const struct mesh_config *cfg; /* adopted; NULL before the first */
	struct foil_slice node_name;
	struct mesh_grave *graves;
	struct mesh_slab exchanges, downstreams, downstreams_told, ports, pools, upstreams, sessions, shadows, hellos, names, checks;
	struct mesh_list port_list, pool_list, session_list, shadow_list, hello_list, check_list;
	struct mesh_names hosts; /* that requests name */
	uint32_t n_dynamic_pools; /* of such hosts: as many as the table has places */
	struct mesh_pool **pool_by_host;  /* [MESH_HOSTS_MAX] */
	struct check **check_by_host;     /* the same; health.c */
	uint32_t n_starved_seen;          /* of mesh_shared_starved */
	struct mesh_host_gauges *host_gauges; /* of the first worker; NULL: another's */
	struct mesh_pool *pool_by_client[MESH_CLIENT_POOL_BUCKETS]; /* those that are one client's or go to one original destination */
	struct mesh_host_now *by_host;    /* [MESH_HOSTS_MAX] of cfg */
	bool is_draining, is_closing, counts_clients; /* the last: the node has a limit of clients */
	uint32_t n_clients;               /* admitted: admission.h */
	uint64_t date_s;                  /* what date says */
	char date[32];
};
void mesh_bury(struct foil_worker *w, void *block, struct mesh_slab *slab);
/* "Mon, 23 Nov 2026 13:55:14 GMT" of now; borrowed until the next call. */
struct foil_slice mesh_date(struct foil_worker *w);
/* The endpoint of h in the adopted configuration, NULL when it is not in it. */
static inline const struct mesh_endpoint *mesh_host_now(const struct mesh_ctx *m, const struct mesh_host *h)
{
	const struct mesh_host_now *n = &m->by_host[h->index];
	return m->cfg && n->generation == m->cfg->generation && n->endpoint->host == h ? n->endpoint : NULL;
}
