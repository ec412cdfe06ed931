/* The headers that say where a request comes from: x-forwarded-for and -proto, x-request-id, x-envoy-external-address and -internal, and which
 * x-envoy-* headers of strangers are removed (features.md HD-1..HD-7). */
#pragma once

#include "dataplane/http/message.h"
#include "dataplane/mesh/config.h"
#include "dataplane/stream/stream.h"

struct mesh_forwarding_params {
	const struct mesh_hcm *hcm;
	const struct mesh_settings *settings;
	const struct stream_addr *remote, *local; /* the connection's */
	const struct tls_facts *tls;              /* NULL: plaintext */
};
struct mesh_forwarding_result {
	bool is_internal;          /* x-envoy-* request headers of this caller are honoured */
	bool is_https, has_proto;  /* what x-forwarded-proto says after this; whether it says anything: a request without has no route (Envoy) */
	struct stream_addr client; /* the trusted client address: %DOWNSTREAM_REMOTE_ADDRESS% */
};
/* Makes x-forwarded-client-cert what how says; tls: NULL = plaintext. 0 or -ENOBUFS. */
int mesh_xfcc_put(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, const struct mesh_client_cert_header *how,
		  const struct tls_facts *tls) FOIL_MUST_USE;
/* Whether a referer (its lines joined) may go on to an origin. */
bool mesh_referer_is_valid(struct foil_slice value);
/* Changes head->headers and head->scheme. 0 or -ENOBUFS. */
int mesh_forwarding_apply(struct foil_worker *w, struct foil_arena *a, const struct mesh_forwarding_params *p, struct http_head *head,
			  struct mesh_forwarding_result *out) FOIL_MUST_USE;
