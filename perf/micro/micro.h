/* ./foil bench micro: what each stage of the way costs by itself, without a wire. One figure is the middle of many bursts, in cycles of the
 * time-stamp counter for one of what its name says. */
#pragma once

#include "perf/rig.h"

struct micro {
	struct rig rig;
	struct rig_figures figures;
	const char *only; /* of the request and tls figures; NULL: all */
};

/* Says one figure; cycles of n operations in each burst. */
void micro_say(struct micro *m, const char *name, uint32_t n);

void micro_net(struct micro *m);  /* rx parse, tcp input and output */
void micro_flow(struct micro *m); /* flow table of 1,000, 100,000 and 1,000,000 */
void micro_http(struct micro *m); /* HTTP/1.1 heads: read, written */
void micro_mesh(struct micro *m); /* route match, balancing, counters */
void micro_request(struct micro *m); /* whole requests through codecs and mesh */
void micro_tls(struct micro *m);  /* handshakes */

#define MICRO_BURSTS 2000
