/* What Telemetry resources say of access logs. Private to the room. */
#pragma once

#include "ctrl/istio/compile.h"

/* Whether and what a listener logs; its direction and address are set. r: what it was made of. */
void istio_telemetry_of_listener(struct compile *c, const struct resource *r, Foil__Conf__Listener *out);
/* MeshSettings.access_log_path: accessLogFile, or standard output where some Telemetry asks for a log without it. */
char *istio_telemetry_log_path(const struct compile *c);
