/* The mesh's configuration as workers read it: the decoded, validated and immutable twin of conf/proto/snapshot.proto (a field here has the
 * name of the field there). dataplane/config builds it on the housekeeping thread; workers only read.
 *
 * One resource (listener, route table, cluster, endpoint set) is one struct mesh_res block, shared by all snapshots that hold the same bytes.
 * Names of clusters and route tables are resolved once to slots: small numbers that belong to a name for as long as any snapshot in
 * memory knows it, so that a route is as good in the next snapshot as in this one, and a worker's state (pools, balancing) is found by
 * slot. mesh_config.clusters[slot] is NULL when the running snapshot has no such cluster.
 *
 * Lifetime: a struct mesh_config is published as one pointer (mesh.h). A request that outlives the loop turn holds it by
 * mesh_config_get/put, a plain per-worker count. Housekeeping frees it when no worker can see or hold it any more. */
#pragma once

#include "dataplane/core/blob.h"
#include "dataplane/core/regex.h"
#include "dataplane/core/worker.h"
#include "dataplane/mesh/proxy_header.h"
#include "dataplane/telemetry/telemetry.h"
#include "dataplane/tls/tls.h"

#define MESH_WORKERS_MAX 64
#define MESH_SLOT_NONE UINT32_MAX

struct mesh_source {
	struct foil_slice resource, file;
	uint32_t line, column;
};

/* One pattern, one program a worker: by_worker[w->id]. */
struct mesh_regex {
	struct mesh_regex *next; /* of the same resource */
	struct foil_slice pattern;
	bool ignore_case;
	uint16_t n_workers;
	struct foil_regex *by_worker[];
};

/* Head of each resource block. */
struct mesh_res {
	struct foil_blob blob;      /* all memory of this resource, itself included */
	struct mesh_regex *regexes; /* freed with it */
	uint32_t n_refs;            /* snapshots that hold it; housekeeping only */
	uint32_t type;              /* FOIL__CONF__RESOURCE_TYPE__… */
	struct foil_slice name;
	uint64_t hash;              /* of the packed bytes */
};

/* Text with format operators (%REQ(x)%), compiled by mesh/format.c. Plain text is one LITERAL part. */
struct mesh_format_part;
struct mesh_format {
	const struct mesh_format_part *parts;
	uint16_t n_parts;
	bool is_literal;
	struct foil_slice literal; /* when is_literal */
};

struct mesh_header_op_add {
	struct foil_slice name; /* lower case; pseudo ":authority" allowed for requests */
	uint16_t id;            /* enum http_header_id */
	bool append;
	struct mesh_format value;
};
struct mesh_header_ops {
	const struct foil_slice *remove; /* lower case */
	uint16_t n_remove, n_add;
	const struct mesh_header_op_add *add;
};

enum mesh_match_kind { MESH_MATCH_EXACT, MESH_MATCH_PREFIX, MESH_MATCH_SUFFIX, MESH_MATCH_CONTAINS, MESH_MATCH_REGEX, MESH_MATCH_PRESENT };
struct mesh_string_match {
	enum mesh_match_kind kind;
	bool ignore_case;
	struct foil_slice text; /* lower case already when ignore_case */
	const struct mesh_regex *regex;
};
struct mesh_header_match {
	struct foil_slice name; /* lower case, or :method :authority :scheme :path */
	uint16_t id;
	struct mesh_string_match value;
	bool invert, treat_missing_as_empty;
};
struct mesh_query_match {
	struct foil_slice name;
	struct mesh_string_match value;
};

enum mesh_path_kind { MESH_PATH_PREFIX, MESH_PATH_EXACT, MESH_PATH_REGEX, MESH_PATH_SEGMENT_PREFIX };
struct mesh_route_match {
	enum mesh_path_kind path_kind;
	bool ignore_case;
	struct foil_slice path; /* lower case when ignore_case */
	const struct mesh_regex *path_regex;
	const struct mesh_header_match *headers;
	const struct mesh_query_match *query;
	uint16_t n_headers, n_query;
};

struct mesh_weighted_cluster {
	uint32_t slot;
	struct foil_slice cluster;
	uint32_t weight;
	struct mesh_header_ops request_headers, response_headers;
};

/* retry_on as bits; words unknown to us are refused by config. */
enum mesh_retry_on {
	MESH_RETRY_5XX = 1 << 0, MESH_RETRY_GATEWAY_ERROR = 1 << 1, MESH_RETRY_RESET = 1 << 2, MESH_RETRY_CONNECT_FAILURE = 1 << 3,
	MESH_RETRY_REFUSED_STREAM = 1 << 4, MESH_RETRY_RETRIABLE_4XX = 1 << 5, MESH_RETRY_RETRIABLE_STATUS_CODES = 1 << 6,
	MESH_RETRY_RESET_BEFORE_REQUEST = 1 << 7, MESH_RETRY_ENVOY_RATELIMITED = 1 << 8, MESH_RETRY_RETRIABLE_HEADERS = 1 << 9,
	MESH_RETRY_CANCELLED = 1 << 10, MESH_RETRY_DEADLINE_EXCEEDED = 1 << 11, MESH_RETRY_INTERNAL = 1 << 12,
	MESH_RETRY_RESOURCE_EXHAUSTED = 1 << 13, MESH_RETRY_UNAVAILABLE = 1 << 14, MESH_RETRY_HTTP3_POST_CONNECT_FAILURE = 1 << 15,
};
struct mesh_retry_policy {
	uint32_t num_retries;
	uint32_t retry_on; /* enum mesh_retry_on */
	const uint16_t *retriable_status_codes;
	uint16_t n_retriable_status_codes;
	uint64_t per_try_timeout_us; /* 0 = the route's timeout alone */
	uint64_t backoff_base_us;    /* 25 ms */
	uint64_t backoff_max_us;     /* 10 x base */
	bool avoid_previous_hosts, remote_localities;
	uint32_t host_selection_max_attempts; /* 5 */
};

struct mesh_mirror {
	uint32_t slot;
	struct foil_slice cluster;
	uint32_t per_million;
	bool append_shadow_suffix;
};
struct mesh_fault {
	uint64_t delay_us;
	uint32_t delay_per_million, abort_per_million;
	uint16_t abort_http_status; /* 0 = none */
	bool has_abort_grpc;
	uint8_t abort_grpc_status;
};
/* The lists are joined with "," when decoded; NULL data where the resource has none. */
struct mesh_cors {
	const struct mesh_string_match *allow_origins;
	uint16_t n_allow_origins;
	struct foil_slice allow_methods, allow_headers, expose_headers, max_age; /* max_age: the seconds as text */
	bool allow_credentials, ignore_unmatched_preflights;
};

/* What of a request chooses its host in ring hash and Maglev clusters. */
enum mesh_hash_kind { MESH_HASH_HEADER, MESH_HASH_COOKIE, MESH_HASH_SOURCE_IP, MESH_HASH_QUERY };
struct mesh_cookie_attribute {
	struct foil_slice name, value;
};
struct mesh_hash_policy {
	enum mesh_hash_kind kind;
	bool terminal;
	bool has_ttl;           /* of a cookie: a request without it gets one */
	uint16_t id;            /* of a header: enum http_header_id */
	uint16_t n_attributes;
	struct foil_slice name; /* of the header in lower case, the cookie or the parameter */
	struct foil_slice path; /* of a cookie, as what follows */
	uint64_t ttl_s;         /* 0: a session cookie */
	const struct mesh_cookie_attribute *attributes;
};

struct mesh_route_action {
	const struct mesh_weighted_cluster *clusters;
	uint16_t n_clusters;
	uint32_t total_weight;
	bool has_prefix_rewrite;
	struct foil_slice prefix_rewrite;
	const struct mesh_regex *regex_rewrite; /* NULL = none */
	struct foil_slice regex_substitution;
	struct foil_slice host_rewrite;         /* empty = none */
	uint64_t timeout_us;                    /* 0 = none */
	uint64_t idle_timeout_us;
	const struct mesh_retry_policy *retry;  /* NULL = none */
	uint16_t cluster_not_found_status;      /* 503 */
	const struct mesh_mirror *mirrors;
	uint16_t n_mirrors;
	uint16_t n_hash_policies;
	const struct mesh_hash_policy *hash_policies;
};
struct mesh_redirect {
	uint16_t code, port;
	struct foil_slice scheme, host, path, prefix_rewrite;
	bool port_from_request, has_prefix_rewrite, has_path;
};
struct mesh_direct_response {
	uint16_t status;
	struct foil_slice body;
};

enum mesh_action { MESH_ACTION_ROUTE, MESH_ACTION_REDIRECT, MESH_ACTION_DIRECT_RESPONSE };
struct mesh_route {
	struct foil_slice name;
	struct mesh_route_match match;
	enum mesh_action action;
	union {
		struct mesh_route_action route;
		struct mesh_redirect redirect;
		struct mesh_direct_response direct;
	};
	struct mesh_header_ops request_headers, response_headers;
	struct foil_slice decorator_operation;
	const struct mesh_fault *fault; /* NULL = none, as cors; what filters read of a route */
	const struct mesh_cors *cors;
	uint64_t max_request_body_bytes; /* 0 = as it comes */
	struct mesh_source source;
};

struct mesh_vhost {
	struct foil_slice name;
	const struct foil_slice *domains;
	uint16_t n_domains;
	bool require_tls, include_attempt_count;
	const struct mesh_route *routes;
	uint32_t n_routes;
};

struct mesh_route_index; /* mesh/route.c: built once a table */
struct mesh_routes {
	struct mesh_res res;
	uint32_t slot;
	const struct mesh_vhost *vhosts;
	uint32_t n_vhosts;
	const struct mesh_route_index *index;
};

enum mesh_path_normalization { /* bits */
	MESH_PATHNORM_BASE = 0,
	MESH_PATHNORM_NONE = 1,
	MESH_PATHNORM_MERGE_SLASHES = 2,
	MESH_PATHNORM_DECODE_SLASHES = 4,
	MESH_PATHNORM_DECODE_AND_MERGE_SLASHES = 6,
	MESH_PATHNORM_REDIRECT_SLASHES = 8, /* with DECODE: whose path had %2f or %5c is sent to the path without */
	MESH_PATHNORM_REFUSE_SLASHES = 16,
};
enum mesh_server_header { MESH_SERVER_OVERWRITE, MESH_SERVER_PASS_THROUGH, MESH_SERVER_APPEND_IF_ABSENT };

/* x-forwarded-client-cert: what becomes of the client's own, and what is told of a certificate that was verified. */
enum mesh_client_cert { MESH_CERT_SANITIZE_SET, MESH_CERT_SANITIZE, MESH_CERT_FORWARD_ONLY, MESH_CERT_APPEND_FORWARD, MESH_CERT_ALWAYS_FORWARD_ONLY };
struct mesh_client_cert_header {
	enum mesh_client_cert forward;
	bool hide_subject, hide_cert, hide_dns, hide_uri; /* zeroed: all is told */
};

struct mesh_hcm {
	uint32_t routes_slot;
	struct foil_slice routes;
	bool use_remote_address;
	uint32_t xff_num_trusted_hops;
	enum mesh_path_normalization path_normalization;
	uint64_t idle_timeout_us;            /* 1 h */
	uint64_t stream_idle_timeout_us;     /* 0 = off, as the others */
	uint64_t request_timeout_us, request_headers_timeout_us, max_connection_duration_us, max_stream_duration_us;
	uint64_t drain_timeout_us;           /* 0: a connection that is drained ends as soon as it may */
	uint32_t max_request_headers_kib;    /* 60 */
	uint32_t max_request_headers_count;  /* 100 */
	uint32_t max_requests_per_connection;
	uint32_t h2_streams_max, h2_stream_window_bytes, h2_conn_window_bytes; /* 0: http_limits' own */
	bool accept_http10, reject_underscores, drop_underscores;
	enum mesh_server_header server_header;
	struct foil_slice scheme;            /* "http" */
	struct foil_slice server_name;       /* the final value: settings.server_name unless overridden; filled at decode from either */
	bool envoy_debug_headers_off, request_id_off, attempt_count_off, add_forwarded_host, add_forwarded_port, preserve_header_case;
	bool grpc_web;                       /* requests of that protocol are translated */
	bool refuse_misdirected;             /* over TLS: 421 for a host whose server name another chain of the listener has */
	struct mesh_client_cert_header client_cert;
};
struct mesh_tcp_proxy {
	const struct mesh_weighted_cluster *clusters;
	uint16_t n_clusters;
	uint32_t total_weight;
	uint64_t idle_timeout_us;        /* 1 h; 0 = off */
	uint32_t max_connect_attempts;   /* 1 */
	bool hash_source_ip;
	struct foil_slice stat_prefix;
};

/* What a TLS context is made of. Equal rules have one slot; mesh_config.tls[slot] is the context, NULL while a secret of it is missing. */
struct mesh_tls_rules {
	uint32_t slot;
	bool is_server, skip_verify, accept_untrusted, has_ca;
	const uint32_t *secret_slots; /* of mesh_config.secrets */
	uint16_t n_secrets;
	uint32_t ca_slot;             /* when has_ca */
	enum tls_peer_auth auth;
	enum tls_version min, max;
	struct foil_slice ciphers, alpn, salt; /* as tls_context_params has them */
	const struct foil_slice *sans;
	const uint8_t (*cert_hashes)[32], (*spki_hashes)[32];
	uint16_t n_sans, n_cert_hashes, n_spki_hashes;
};
struct mesh_downstream_tls {
	struct mesh_tls_rules rules;
};
struct mesh_upstream_tls {
	struct mesh_tls_rules rules;
	struct foil_slice sni;    /* empty: none, or the request's host with auto_sni */
	bool auto_sni, auto_san;
	bool only_marked_endpoints; /* those without mesh_endpoint.tls get plaintext */
};
struct mesh_secret {
	struct mesh_res res;
	uint32_t slot;
	struct foil_slice certificate_chain, private_key, ca, crl, ocsp_staple; /* PEM; checked: the key belongs to the leaf */
	struct mesh_source source;
};

enum mesh_network { MESH_NETWORK_HTTP, MESH_NETWORK_TCP };
enum mesh_chain_transport { MESH_TRANSPORT_ANY, MESH_TRANSPORT_PLAINTEXT, MESH_TRANSPORT_TLS }; /* what first bytes a chain takes */
struct mesh_cidr {
	uint8_t ip[16];
	uint8_t len; /* 0..128 in the 16-byte form */
};
static inline bool mesh_cidr_has(const struct mesh_cidr *c, const uint8_t ip[16])
{
	unsigned int whole = c->len / 8u, rest = c->len % 8u;

	return memcmp(c->ip, ip, whole) == 0 && (rest == 0 || (c->ip[whole] ^ ip[whole]) >> (8 - rest) == 0);
}
struct mesh_chain {
	struct foil_slice name;
	const struct foil_slice *server_names;
	const struct mesh_cidr *destination_cidrs;
	const struct foil_slice *application_protocols; /* the ClientHello offers one of them; none: any */
	uint16_t n_server_names, n_destination_cidrs, n_application_protocols;
	enum mesh_chain_transport transport;
	enum mesh_network network;
	bool is_tls_passthrough;
	const struct mesh_downstream_tls *tls; /* NULL: bytes as they come */
	union {
		struct mesh_hcm http;
		struct mesh_tcp_proxy tcp;
	};
	struct mesh_source source;
};
struct mesh_status_range {
	uint16_t from, to; /* both included */
};
enum mesh_direction { MESH_DIRECTION_GATEWAY, MESH_DIRECTION_OUTBOUND };
struct mesh_listener {
	struct mesh_res res;
	uint8_t ip[16];
	uint16_t port; /* 0: of captured addresses all that no other listener has */
	enum mesh_direction direction;
	const struct mesh_chain *chains;
	uint16_t n_chains;
	bool wants_hello; /* a chain asks for a name, or ends TLS, or passes it on: the first bytes decide */
	bool takes_plaintext; /* a chain is for that alone */
	bool proxy_protocol;  /* a PROXY header comes before all else */
	bool is_log_off;      /* nothing of it is in the access log */
	uint16_t n_log_statuses; /* when not 0: HTTP requests answered with these are, and nothing else */
	const struct mesh_status_range *log_statuses;
	bool is_captured;     /* takes connections to captured addresses alone, which can go on to where they went; ip zero: to all of them */
	uint64_t hello_timeout_us; /* without a first byte until then it counts as plaintext; 0: it is closed after 15 s */
	uint32_t connection_limit; /* of clients, over all workers; 0: none of its own */
	uint32_t buffer_bytes;     /* of each connection; 0: the defaults */
	struct mesh_client_count *clients; /* where there is a limit (mesh/admission.h); set by mesh_config_prepare */
	struct mesh_source source;
};

enum mesh_lb { MESH_LB_LEAST_REQUEST, MESH_LB_ROUND_ROBIN, MESH_LB_RANDOM, MESH_LB_RING_HASH, MESH_LB_MAGLEV, MESH_LB_LEAST_LATENCY };
#define MESH_RING_SIZE_MIN 1024u         /* Envoy's defaults */
#define MESH_RING_SIZE_MAX 8388608u
#define MESH_MAGLEV_TABLE_SIZE 65537u
#define MESH_OVERPROVISIONING_PERCENT 140u
#define MESH_PRIORITIES_MAX 128u
#define MESH_LOCALITIES_MAX 256u
/* The share of its weight that an endpoint has after i / MESH_SLOW_START_STEPS of the window, in 1/65536. */
#define MESH_SLOW_START_STEPS 256u
#define MESH_SLOW_START_FULL 65536u
struct mesh_slow_start {
	uint64_t window_us;
	uint32_t share[MESH_SLOW_START_STEPS + 1];
};
enum mesh_upstream_protocol { MESH_UPSTREAM_HTTP1, MESH_UPSTREAM_HTTP2, MESH_UPSTREAM_TCP };
#define MESH_UNLIMITED UINT32_MAX
struct mesh_circuit_breaker {
	uint32_t max_connections, max_pending_requests, max_requests, max_retries; /* MESH_UNLIMITED when absent */
	bool has_retry_budget;                                                     /* in place of max_retries: */
	uint32_t retry_budget_permille, retry_budget_min;
	uint64_t retry_budget_interval_us; /* not 0: of the requests begun within it, instead of those in flight */
};
struct mesh_outlier {
	uint32_t consecutive_5xx, consecutive_gateway_errors, consecutive_local_origin_failures; /* 0 = off */
	bool split_external_local_origin;
	bool probes; /* hosts come back by one request, not by time alone; each ejection in a row is twice as long */
	uint64_t interval_us, base_ejection_us, max_ejection_us;
	uint32_t max_ejection_percent;
	const uint16_t *error_codes; /* empty = 5xx */
	uint16_t n_error_codes;
};
struct mesh_cluster {
	struct mesh_res res;
	uint32_t slot;
	enum mesh_lb lb;
	enum mesh_upstream_protocol protocol;
	bool uses_client_protocol; /* HTTP/2 for requests that came over it, HTTP/1.1 for the others */
	uint64_t connect_timeout_us; /* 10 s */
	struct mesh_circuit_breaker breaker;
	const struct mesh_outlier *outlier; /* NULL = none */
	uint32_t panic_threshold_percent, max_requests_per_connection;
	uint64_t idle_timeout_us, max_connection_duration_us; /* 1 h; 0 = off */
	uint64_t tcp_keepalive_idle_us, tcp_keepalive_interval_us;
	uint32_t tcp_keepalive_probes;
	bool is_original_dst; /* to where the client went: */
	bool is_dynamic;      /* to the host that the request names, or the ClientHello (names.h) */
	uint16_t dynamic_port; /* of the latter */
	const struct mesh_endpoints *original; /* of these two: the one endpoint that stands for every such place: its address is nobody's. Else NULL */
	enum proxy_header_version proxy_protocol;
	uint32_t buffer_bytes; /* of a connection; 0: the default */
	uint32_t max_concurrent_streams; /* of one HTTP/2 connection; 0: the server's own limit */
	uint64_t h2_ping_interval_us, h2_ping_timeout_us; /* 0: none */
	uint32_t ring_size_min, ring_size_max, maglev_table_size, overprovisioning_percent; /* 0: the defaults above */
	const struct mesh_slow_start *slow_start; /* NULL: none */
	const struct mesh_upstream_tls *tls; /* NULL: plaintext */
	struct tele_service service;
	struct mesh_source source;
};

/* How hosts are asked whether they are well (mesh/health.h). */
enum mesh_health_kind { MESH_HEALTH_HTTP, MESH_HEALTH_TCP, MESH_HEALTH_GRPC };
#define MESH_HEALTH_SERVICE_BYTES_MAX 120u /* of gRPC's request, in which a length is one byte */
struct mesh_health_header {
	struct foil_slice name, value;
};
struct mesh_health_check {
	enum mesh_health_kind kind;
	uint16_t port;                /* 0: the endpoint's own */
	uint32_t healthy_threshold, unhealthy_threshold;
	uint64_t interval_us, timeout_us, jitter_us, no_traffic_interval_us;
	struct foil_slice path, host; /* of HTTP; host: of gRPC, too */
	struct foil_slice service;    /* of gRPC; empty: the whole server */
	const struct mesh_status_range *expected; /* of HTTP */
	const struct mesh_health_header *headers;
	uint16_t n_expected, n_headers;
};

struct mesh_endpoint {
	uint8_t ip[16];
	uint16_t port;
	uint32_t weight; /* 1.. */
	struct foil_slice locality;
	uint16_t locality_index; /* of locality_weights, when there are any */
	uint8_t priority;        /* 0 first */
	bool unhealthy, draining;
	bool tls;                /* speaks the mesh's mTLS */
	const struct mesh_health_check *check; /* NULL: it is not asked */
	struct tele_peer labels;
	struct mesh_host *host; /* what all workers know of this address in this cluster (mesh/host.h); set by mesh_config_prepare */
};
struct mesh_endpoints {
	struct mesh_res res;
	uint32_t cluster_slot;
	const struct mesh_endpoint *endpoints; /* in the snapshot's order */
	uint32_t n_endpoints;
	uint16_t n_priorities;        /* none of 0..n-1 is without an endpoint; 0: as 1 */
	uint16_t n_localities;        /* 0: localities do not matter */
	bool has_checks;              /* some endpoint has one */
	const uint32_t *locality_weights; /* by locality_index */
};

struct mesh_settings {
	struct foil_slice trust_domain, access_log_path, access_log_format, server_name;
	bool access_log_json;
	uint16_t n_log_captures; /* what the format asks for beyond what every record has, each a format of one operator */
	const struct mesh_format *log_captures;
	uint64_t log_key;        /* of that format */
	uint64_t drain_duration_us;
	uint32_t connection_limit; /* of clients, over all listeners and workers; 0: none */
	const struct mesh_cidr *internal_cidrs;
	uint16_t n_internal_cidrs;
};

/* One endpoint set as one snapshot and cluster use it: hosts[] and the balancer's state. Made by mesh_config_prepare. */
struct mesh_host_set;

struct mesh_outlier_list; /* mesh/outlier.c */

struct FOIL_CACHE_ALIGNED mesh_worker_count {
	uint64_t n; /* written by its worker alone, read by housekeeping with relaxed loads */
};

struct mesh_config {
	struct foil_blob blob; /* the arrays below; resources have their own */
	struct foil_slice version;
	uint64_t generation;   /* grows by one with each applied snapshot */
	struct mesh_settings settings;
	const struct mesh_listener **listeners;
	uint32_t n_listeners;
	const struct mesh_routes **routes;      /* by slot, NULL = absent */
	uint32_t n_route_slots;
	const struct mesh_cluster **clusters;   /* by slot */
	const struct mesh_endpoints **endpoints; /* by cluster slot */
	struct mesh_host_set **host_sets;       /* by cluster slot; filled by mesh_config_prepare */
	uint32_t n_cluster_slots;
	const struct mesh_secret **secrets;     /* by slot, NULL = absent */
	struct tls_context **tls;               /* by slot of rules, NULL = a secret is missing; the configuration holds a reference */
	uint32_t n_secret_slots, n_tls_slots;
	bool has_dynamic; /* some cluster is */
	bool has_clients; /* listeners' counts are held (mesh/admission.h) */
	struct mesh_outlier_list *outliers; /* clusters that eject; made by mesh_config_prepare */
	struct mesh_worker_count held[MESH_WORKERS_MAX];
};

static inline struct tls_context *mesh_tls_context(const struct mesh_config *c, const struct mesh_tls_rules *r)
{
	return r->slot < c->n_tls_slots ? c->tls[r->slot] : NULL;
}

static inline void mesh_config_get(struct foil_worker *w, const struct mesh_config *c)
{
	uint64_t *n = (uint64_t *)(uintptr_t)&c->held[w->id].n; /* the one mutable field: a count that only this worker writes */
	__atomic_store_n(n, *n + 1, __ATOMIC_RELAXED);
}

static inline void mesh_config_put(struct foil_worker *w, const struct mesh_config *c)
{
	uint64_t *n = (uint64_t *)(uintptr_t)&c->held[w->id].n;
	FOIL_ASSERT(*n > 0);
	__atomic_store_n(n, *n - 1, __ATOMIC_RELEASE);
}

/* What dataplane/config calls while it decodes (setup, housekeeping thread). 0 or -errno with a sentence. */
int mesh_format_compile(struct foil_blob *b, struct foil_slice text, struct mesh_format *out, struct foil_error *err) FOIL_MUST_USE;
/* An operator of an access log's format (tele_captures): known here, and nothing else in the text. */
int mesh_log_capture_compile(struct foil_blob *b, struct foil_slice capture, struct mesh_format *out, struct foil_error *err) FOIL_MUST_USE;
int mesh_regex_compile(struct mesh_res *res, struct foil_slice pattern, bool ignore_case, uint16_t n_workers, const struct mesh_regex **out,
		       struct foil_error *err) FOIL_MUST_USE;
void mesh_regexes_free(struct mesh_res *res);
/* Domains and routes into look-up tables, in r->res.blob; duplicates of a domain inside one table are refused. */
int mesh_routes_index(struct mesh_routes *r, struct foil_error *err) FOIL_MUST_USE;
bool mesh_retry_on_parse(struct foil_slice word, uint32_t *bit);
