/* What workers tell the outside: the metrics segment, access events, histograms. Nothing here stops a worker.
 *
 * The segment is a memfd that any reader maps read-only: a directory of names and, for each worker, an array of cells that only that
 * worker writes (plain stores; readers sum). Two kinds of metrics live in it: the rooms' counters and reasons (fixed at start) and series
 * with labels (made at run time, each in its worker's own region, merged by the reader by name and labels). segment.h is its layout, the
 * contract with readers in other processes.
 *
 * Access events go through one lossy byte ring a worker (drops are counted) to the housekeeping thread, which formats and writes them. */
#pragma once

#include "dataplane/core/worker.h"

/* Response flags of Envoy's access log (features.md AL-6, AL-7): flags.def, X(BIT, "UH", "meaning"). A set is a uint64_t. */
enum tele_flag_bit {
#define X(ID, name, help) TELE_FLAG_BIT_##ID,
#include "dataplane/telemetry/flags.def"
#undef X
	TELE_FLAG_COUNT
};
enum tele_flag {
#define X(ID, name, help) TELE_FLAG_##ID = 1 << TELE_FLAG_BIT_##ID,
#include "dataplane/telemetry/flags.def"
#undef X
};

/* A set in Envoy's long words: "UpstreamRetryLimitExceeded,UpstreamConnectionFailure", or "-" for none; returns the length, cut at n_room. */
size_t tele_flags_long(uint64_t flags, bool is_tcp, char *out, size_t n_room);

/* Facts of one workload or service for labels; slices live as long as the snapshot. Empty means "unknown". */
struct tele_peer {
	struct foil_slice workload, workload_namespace, canonical_service, canonical_revision, app, version, cluster_id, principal;
};

struct tele_service {
	struct foil_slice host, name, ns;
};

enum tele_protocol { TELE_PROTOCOL_HTTP, TELE_PROTOCOL_GRPC, TELE_PROTOCOL_TCP };

struct tele_addr {
	uint8_t ip[16];
	uint16_t port; /* 0: no address ("-") */
};

#define TELE_CAPTURES_MAX 32u

/* One finished request, or one TCP connection at its close: filled by mesh, read by tele_request_done before it returns. Slices are
 * borrowed. An empty slice is "-" in the log (AL-4). */
struct tele_request {
	enum tele_protocol protocol;
	bool is_tcp;
	uint8_t version;               /* enum http_version, 255: none */
	uint16_t status;               /* 0: the client left first, or TCP */
	uint64_t flags;                /* enum tele_flag bits */
	int16_t grpc_status;           /* -1: none */
	struct foil_slice method, path, original_path, authority;
	struct foil_slice details, termination_details, transport_failure;
	struct foil_slice xff, user_agent, request_id, upstream_service_time, sni, route_name, upstream_cluster;
	struct tele_addr upstream_host, upstream_local, downstream_local, downstream_remote;
	uint64_t start_wall_us, duration_us;
	uint64_t bytes_received, bytes_sent; /* bodies; for TCP all bytes */
	uint64_t bytes_received_counted, bytes_sent_counted; /* TCP: of these, what tele_tcp_bytes has counted already */
	uint64_t request_wire_bytes, response_wire_bytes;
	uint32_t attempts;
	uint32_t request_messages, response_messages; /* of gRPC */
	bool reporter_is_destination;
	bool is_mutual_tls;
	const struct tele_peer *source, *destination; /* NULL: unknown */
	const struct tele_service *service;           /* NULL: unknown */
	/* Of the configuration that owns source, destination and service, so that the same addresses mean the same facts; 0: they may not */
	uint64_t facts_generation;
	bool log;                      /* write an access event (mesh access log is on for it) */
	/* What the log's format asks for beyond the above: of tele_format_captures, in its order; NULL data: absent (an empty value is none of that) */
	const struct foil_slice *captures;
	uint16_t n_captures;
	uint64_t format_key;           /* of tele_captures */
};

/* Metrics (istio_requests_total and its sisters, TM-1..TM-5) and the access event. Bounded cost, no allocation. */
void tele_request_done(struct foil_worker *w, const struct tele_request *r);
/* istio_tcp_connections_opened_total; closes and bytes come with tele_request_done (is_tcp) and tele_tcp_bytes. */
void tele_tcp_opened(struct foil_worker *w, const struct tele_request *r);
/* Bytes of a connection that goes on (TM-5: every 5 s): what came and went since the last call. */
void tele_tcp_bytes(struct foil_worker *w, const struct tele_request *r, uint64_t received, uint64_t sent);

/* Cells for dynamic things that mesh counts by itself, e.g. by cluster: the address of a cell for (metric, label pairs), found or made in this worker's
 * region; a shared "overflow" cell when the region is full (TM-7), never NULL. Not for the fast path: keep the pointer. labels: "cluster_name=…" pairs.
 * metric: a whole Prometheus name that no room's counter has; it is a counter if it ends in "_total", else a gauge (two's complement). */
struct tele_label {
	struct foil_slice name, value;
};
uint64_t *tele_cell(struct foil_worker *w, const char *metric, const struct tele_label *labels, uint32_t n_labels);
/* Gives one tele_cell back: when every holder has, the series goes after it was idle. Without it the series stays. NULL-safe. */
void tele_cell_put(struct foil_worker *w, uint64_t *cell);
