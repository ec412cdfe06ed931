/* Active health checks of a cluster's endpoints. Private to the room. */
#pragma once

#include "ctrl/istio/compile.h"

/* All of out's endpoints are checked as h says. host: what requests of checks are for where h says nothing. */
void istio_health_check_emit(struct compile *c, const struct health_check *h, const char *host, Foil__Conf__Endpoints *out);
