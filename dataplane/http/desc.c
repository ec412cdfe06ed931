/* The room's counters and reasons, from their .def files, for telemetry. */
#include "dataplane/http/codec.h"

static const struct foil_counter_desc counters[] = {
#define X(ID, kind, unit, help) {#ID, FOIL_##kind, #unit, help},
#include "dataplane/http/counters.def"
#undef X
};
static const struct foil_reason_desc reasons[] = {
#define X(ID, name, kind, help) {name, FOIL_REASON_##kind, help},
#include "dataplane/http/reasons.def"
#undef X
};
const struct foil_room_desc http_room_desc = {
	FOIL_ROOM_HTTP, "http", counters, FOIL_COUNT_OF(counters), reasons, FOIL_COUNT_OF(reasons),
};
