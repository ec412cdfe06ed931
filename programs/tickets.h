/* The keys of TLS session tickets: made here, rotated hourly, the two before kept so that their tickets still open. Housekeeping only. */
#pragma once

#include "dataplane/core/error.h"
#include "dataplane/tls/tls.h"

struct tickets {
	struct tls_tickets *keys; /* NULL: not begun */
	uint8_t recent[TLS_TICKET_KEYS_MAX][TLS_TICKET_KEY_BYTES]; /* newest first */
	uint32_t n;
	uint64_t rotate_at_us;
};
/* 0 or -errno. */
int tickets_start(struct tickets *t, uint64_t now_us, struct foil_error *err) FOIL_MUST_USE;
void tickets_turn(struct tickets *t, uint64_t now_us);
void tickets_stop(struct tickets *t); /* after all contexts */
