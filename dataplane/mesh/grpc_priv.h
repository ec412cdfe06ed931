/* Messages of gRPC in a body: each is five bytes, of which the last four say how long what follows is, and that (grpc/grpc PROTOCOL-HTTP2,
 * Length-Prefixed-Message). Counted with their first byte, as Envoy's grpc_stats does; they are not decoded: a length that lies miscounts its own
 * stream. */
#pragma once

#include "dataplane/core/chain.h"

/* Zeroed: before the first byte. */
struct mesh_grpc_messages {
	uint32_t n;      /* begun */
	uint32_t n_left; /* bytes of the one that is passing; while its head is, the length so far */
	uint8_t n_head;  /* bytes of its head that have passed; 0: none is passing or it is whole */
	bool on;         /* of answers: the body is gRPC's */
};

/* What passes now; cut anywhere. */
void mesh_grpc_count(struct mesh_grpc_messages *g, const struct foil_chain *data);
