/* The room's counters, from its .def file, for telemetry; housekeeping writes them. */
#include "dataplane/config/config.h"

static const struct foil_counter_desc counters[] = {
#define X(ID, kind, unit, help) {#ID, FOIL_##kind, #unit, help},
#include "dataplane/config/counters.def"
#undef X
};
const struct foil_room_desc snap_room_desc = {FOIL_ROOM_CONFIG, "config", counters, FOIL_COUNT_OF(counters), NULL, 0};
