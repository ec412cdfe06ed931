/* RouteConfig: virtual hosts, their domains and routes (features.md VS-1..VS-4); conditions in decode_match.c, actions in decode_action.c. */
#include "dataplane/config/config_priv.h"

#include <errno.h>

#define VHOSTS_MAX 200000u
#define ROUTES_MAX 200000u

/* Exact, "*.suffix" or "*-suffix", "prefix.*", "*". */
static int decode_domain(struct snap_dec *d, const char *text, struct foil_slice *out)
{
	size_t n = strlen(text);
	char body[SNAP_NAME_BYTES_MAX + 1];
	struct foil_slice checked;
	if (n == 0 || n > SNAP_NAME_BYTES_MAX)
		return snap_fail(d, NULL, "has %zu bytes; must be 1 to %u", n, SNAP_NAME_BYTES_MAX);
	bool starts = text[0] == '*', ends = !starts && text[n - 1] == '*';
	memcpy(body, text + starts, n - starts - ends);
	body[n - starts - ends] = 0;
	int rc = snap_text(d, NULL, body, SNAP_TEXT_HOST, &checked);
	return rc < 0 ? rc : snap_text(d, NULL, text, SNAP_TEXT_ANY, out);
}

static int decode_domains(struct snap_dec *d, const Foil__Conf__VirtualHost *m, struct mesh_vhost *out)
{
	struct foil_slice *own;
	int rc = snap_list(d, "domains", m->n_domains, 1, SNAP_ARRAY_MAX, sizeof(*own), (void **)&own);
	for (size_t i = 0; rc == 0 && i < m->n_domains; i++) {
		uint16_t mark = snap_enter(d, "domains", (long)i);
		rc = decode_domain(d, m->domains[i], &own[i]);
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc < 0)
		return rc;
	out->domains = own;
	out->n_domains = (uint16_t)m->n_domains;
	return 0;
}

static int decode_action(struct snap_dec *d, const Foil__Conf__Route *m, struct mesh_route *out)
{
	bool routes = m->action_case == FOIL__CONF__ROUTE__ACTION_ROUTE;
	if (!routes && m->fault)
		return snap_fail(d, "fault", "stands beside an action that goes to no cluster");
	if (!routes && m->cors)
		return snap_fail(d, "cors", "stands beside an action that goes to no cluster");
	if (!routes && m->max_request_body_bytes)
		return snap_fail(d, "max_request_body_bytes", "stands beside an action that goes to no cluster");
	switch (m->action_case) {
	case FOIL__CONF__ROUTE__ACTION_ROUTE:
		out->action = MESH_ACTION_ROUTE;
		return snap_decode_route_action(d, m->route, &out->route);
	case FOIL__CONF__ROUTE__ACTION_REDIRECT:
		out->action = MESH_ACTION_REDIRECT;
		return snap_decode_redirect(d, m->redirect, &out->redirect);
	case FOIL__CONF__ROUTE__ACTION_DIRECT_RESPONSE:
		out->action = MESH_ACTION_DIRECT_RESPONSE;
		return snap_decode_direct(d, m->direct_response, &out->direct);
	default:
		return snap_fail(d, NULL, "a route without an action");
	}
}

static int decode_route(struct snap_dec *d, const Foil__Conf__Route *m, struct mesh_route *out)
{
	int rc = snap_text(d, "name", m->name, SNAP_TEXT_ANY, &out->name);
	if (rc == 0)
		rc = snap_decode_match(d, m->match, &out->match);
	if (rc == 0)
		rc = decode_action(d, m, out);
	if (rc == 0)
		rc = snap_decode_header_ops(d, "request_headers", m->request_headers, true, &out->request_headers);
	if (rc == 0)
		rc = snap_decode_header_ops(d, "response_headers", m->response_headers, false, &out->response_headers);
	if (rc == 0)
		rc = snap_text(d, "decorator_operation", m->decorator_operation, SNAP_TEXT_VALUE, &out->decorator_operation);
	if (rc == 0)
		rc = snap_decode_fault(d, m->fault, &out->fault);
	if (rc == 0)
		rc = snap_decode_cors(d, m->cors, &out->cors);
	out->max_request_body_bytes = m->max_request_body_bytes;
	if (rc == 0)
		rc = snap_source(d, m->source, &out->source);
	return rc;
}

static int decode_vhost(struct snap_dec *d, const Foil__Conf__VirtualHost *m, struct mesh_vhost *out)
{
	struct mesh_route *own = NULL;
	int rc = snap_text(d, "name", m->name, SNAP_TEXT_ANY, &out->name);
	if (rc == 0)
		rc = decode_domains(d, m, out);
	if (rc == 0)
		rc = snap_range(d, "include_attempt_count", m->include_attempt_count, 0, 1);
	if (rc == 0)
		rc = snap_list(d, "routes", m->n_routes, 0, ROUTES_MAX, sizeof(*own), (void **)&own);
	for (size_t i = 0; rc == 0 && i < m->n_routes; i++) {
		uint16_t mark = snap_enter(d, "routes", (long)i);
		rc = decode_route(d, m->routes[i], &own[i]);
		if (rc == 0)
			snap_leave(d, mark);
	}
	out->routes = own;
	out->n_routes = (uint32_t)m->n_routes;
	out->require_tls = m->require_tls;
	out->include_attempt_count = m->include_attempt_count == 1;
	return rc;
}

int snap_decode_routes(struct snap_dec *d, const ProtobufCMessage *message, void *own)
{
	const Foil__Conf__RouteConfig *m = (const Foil__Conf__RouteConfig *)message;
	struct mesh_routes *r = own;
	struct mesh_vhost *vhosts = NULL;
	struct foil_slice name;
	struct foil_error err = {0};
	int rc = snap_own_name(d, "name", m->name);
	if (rc == 0)
		rc = snap_routes_ref(d, "name", m->name, &name, &r->slot);
	if (rc == 0)
		rc = snap_list(d, "virtual_hosts", m->n_virtual_hosts, 0, VHOSTS_MAX, sizeof(*vhosts), (void **)&vhosts);
	for (size_t i = 0; rc == 0 && i < m->n_virtual_hosts; i++) {
		uint16_t mark = snap_enter(d, "virtual_hosts", (long)i);
		rc = decode_vhost(d, m->virtual_hosts[i], &vhosts[i]);
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc < 0)
		return rc;
	r->vhosts = vhosts;
	r->n_vhosts = (uint32_t)m->n_virtual_hosts;
	rc = mesh_routes_index(r, &err);
	if (rc == -ENOMEM)
		return snap_no_memory(d);
	return rc < 0 ? snap_fail(d, "virtual_hosts", "%.300s", err.text) : 0;
}
