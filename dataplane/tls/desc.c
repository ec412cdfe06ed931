/* The room's counters and reasons, from their .def files, for telemetry. */
#include "dataplane/tls/tls.h"

static const struct foil_counter_desc counters[] = {
#define X(ID, kind, unit, help) {#ID, FOIL_##kind, #unit, help},
#include "dataplane/tls/counters.def"
#undef X
};
static const struct foil_reason_desc reasons[] = {
#define X(ID, name, kind, help) {name, FOIL_REASON_##kind, help},
#include "dataplane/tls/reasons.def"
#undef X
};
const struct foil_room_desc tls_room_desc = {
	FOIL_ROOM_TLS, "tls", counters, FOIL_COUNT_OF(counters), reasons, FOIL_COUNT_OF(reasons),
};
