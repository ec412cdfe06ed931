/* Active health checks of a cluster's endpoints. Private to the room. */
#pragma once

#include "ctrl/istio/compile.h"

/* All of out's endpoints are checked as h says; h NULL: each as its instance says, which stands in made_of at the same place. host: what requests of checks
 * are for where nothing is said. */
void istio_health_check_emit(struct compile *c, const struct health_check *h, const char *host, const struct instance *const *made_of,
			     Foil__Conf__Endpoints *out);
