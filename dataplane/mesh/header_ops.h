/* Header operations and the values of format operators (features.md VS-22..VS-24). */
#pragma once

#include "dataplane/http/message.h"
#include "dataplane/mesh/config.h"
#include "dataplane/stream/stream.h"
#include "dataplane/tls/tls.h"

/* What operators may ask for; whatever is not known yet is empty or NULL and prints nothing (in headers; an access log prints "-"). */
struct mesh_format_ctx {
	const struct http_head *request, *response;
	const struct stream_addr *downstream_remote, *downstream_local, *upstream_remote, *upstream_local;
	const struct stream_addr *downstream_direct_remote; /* the connection's peer where downstream_remote is a trusted client; NULL: the same */
	struct foil_slice upstream_cluster, route_name, sni, details, hostname;
	uint64_t flags; /* enum tele_flag */
	uint16_t status;
	uint64_t start_wall_us, duration_us, bytes_received, bytes_sent;
	uint32_t attempts;
	uint64_t wire_bytes_received, wire_bytes_sent;
	const struct http_headers *trailers; /* the answer's */
	const struct tls_facts *tls;         /* of the client's connection */
	struct foil_slice transport_failure;
	uint8_t upstream_version;            /* enum http_version + 1; 0: none */
	bool has_request_duration, has_response_duration; /* the request has arrived; the answer has begun */
	uint64_t request_duration_us, response_duration_us;
};
/* The value of a format of one operator (mesh_log_capture_compile), whole. NULL data: absent, which an empty value is not. Borrowed from ctx, or in scratch. */
#define MESH_FORMAT_SCRATCH_BYTES 512
struct foil_slice mesh_format_value(const struct mesh_format *f, const struct mesh_format_ctx *ctx, char scratch[MESH_FORMAT_SCRATCH_BYTES]);
/* The text of f: literal text is f's own, anything else in the arena. 0 or -ENOBUFS. */
int mesh_format_eval(struct foil_worker *w, struct foil_arena *a, const struct mesh_format *f, const struct mesh_format_ctx *ctx,
		     struct foil_slice *out) FOIL_MUST_USE;
/* Removes, then overwrites, then appends, each in order, on head->headers; ":authority" (or host) of a request changes head->authority. A value
 * that formats to nothing adds nothing (Envoy). 0 or -ENOBUFS. */
int mesh_header_ops_apply(struct foil_worker *w, struct foil_arena *a, const struct mesh_header_ops *ops, struct http_head *head,
			  const struct mesh_format_ctx *ctx) FOIL_MUST_USE;
/* What came in several lines and is one in Envoy becomes one, in a request or in an answer. 0 or -ENOBUFS. */
int mesh_headers_join(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, bool is_answer) FOIL_MUST_USE;
/* One more value of a header, which lives as long as a: behind a comma where Envoy keeps the header once (its inline headers), else on a line of its own.
 * 0 or -ENOBUFS. */
int mesh_header_append(struct foil_worker *w, struct foil_arena *a, struct http_headers *headers, struct foil_slice name,
		       struct foil_slice value) FOIL_MUST_USE;
