/* Between the two files of explain. */
#pragma once

#include "ctrl/istio/istio.h"

#include "snapshot.pb-c.h"

/* Whether a route takes the request; if not, why. path: without the query. */
bool istio_explain_route_matches(const Foil__Conf__RouteMatch *m, const struct istio_request *r, char *why, size_t n_why);
/* The virtual host for an authority, and by which of its domains; NULL: none. */
const Foil__Conf__VirtualHost *istio_explain_vhost(const Foil__Conf__RouteConfig *routes, const char *authority, const char **domain);
