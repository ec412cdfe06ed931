/* Between the files of explain. */
#pragma once

#include <stdio.h>

#include "ctrl/istio/compile.h"

#define CANDIDATES_SHOWN_MAX 200

/* One answer under way. Lines are written to out; a line that is a step of the way says so before its first byte. */
struct explain {
	const struct istio_snapshot *s;
	const struct istio_request *r;
	struct compile *c;       /* what made the snapshot, or NULL; its arenas jump to istio_explain when they are full */
	FILE *out;
	struct istio_steps steps;
	bool is_short;           /* memory was, and something is missing: there is no answer */
	char looked_at[512];     /* the last route table that was asked for the host, and what it said */
	bool has_host;
};

/* ---- what is written (explain_say.c) ---- */

const char *istio_explain_seconds(uint64_t us, char *out, size_t n); /* "2.5 s" */
const struct istio_resource *istio_explain_find(const struct istio_snapshot *s, uint32_t type, const char *name);
/* kind: a word of struct istio_step; verdict: "taken", "passed over" or "". Both static. */
void istio_explain_step(struct explain *x, const char *kind, const char *verdict);
/* " (Kind/namespace/name at file:line:column)", and the same in the line's step. */
void istio_explain_source(struct explain *x, const Foil__Conf__SourceRef *s);
void istio_explain_place(struct explain *x, const struct resource *r, struct istio_pos at);
void istio_explain_finish(struct istio_steps *steps, const char *text); /* where each line begins and ends */

/* ---- parts ---- */

/* Whether a route takes the request; if not, why. path: without the query. */
bool istio_explain_route_matches(const Foil__Conf__RouteMatch *m, const struct istio_request *r, char *why, size_t n_why);
/* The virtual host for an authority, and by which of its domains; NULL: none. */
const Foil__Conf__VirtualHost *istio_explain_vhost(const Foil__Conf__RouteConfig *routes, const char *authority, const char **domain);
void istio_explain_weighted(struct explain *x, Foil__Conf__WeightedCluster *const *list, size_t n);
void istio_explain_listener(struct explain *x, const Foil__Conf__Listener *l); /* the listener's own lines */
/* A connection whose first bytes say where it goes, or nothing does. Result as istio_explain's. */
int istio_explain_connection(struct explain *x);
/* When the node's Sidecar hides the services of this host or address: which one, and where it says so. host or address may be NULL. */
void istio_explain_hidden(struct explain *x, const char *host, const char *address);
