/* The field tables of Kubernetes' Ingress and IngressClass (features.md GW-21, K8-6). What is checked here an API server would refuse, or Envoy: nobody has
 * looked at files before us. What an Ingress is made into is ingresses.c's. */
#include "ctrl/istio/rows.h"

#include <string.h>

static const char no_resource[] = "a backend is a Service here, as in Istio: write service with its name and port";

/* ---- backends ---- */

static const struct istio_field port_rows[] = {
	ROW(ingress_port, name, "name", F_STRING, .min = 1, .max = 63),
	ROW(ingress_port, number, "number", F_INT, .min = 1, .max = PORT_MAX),
};
static const struct istio_table table_ingress_port = TABLE(ingress_port, "ServiceBackendPort", port_rows);
static const struct istio_field service_rows[] = {
	ROW(ingress_service, name, "name", F_STRING),
	ROW(ingress_service, port, "port", F_OBJECT, .table = &table_ingress_port),
};

static void check_service(struct istio_decode *d, void *object)
{
	const struct ingress_service *s = object;

	if (!s->name || !istio_is_label(s->name))
		istio_decode_error(d, "IST0106", &s->head, "name", "a backend needs the name of a Service of the Ingress's namespace");
	if (!s->port || s->port->number.is_set == (s->port->name != NULL))
		istio_decode_error(d, "IST0106", &s->head, "port", "a backend needs the number of a port or its name, one of both");
}

static const struct istio_table table_ingress_service = TABLE(ingress_service, "IngressServiceBackend", service_rows, .check = check_service);
static const struct istio_field backend_rows[] = {
	ROW(ingress_backend, service, "service", F_OBJECT, .table = &table_ingress_service),
	ROW_REFUSED("resource", no_resource),
};

static void check_backend(struct istio_decode *d, void *object)
{
	const struct ingress_backend *b = object;

	if (!b->service)
		istio_decode_error(d, "IST0106", &b->head, "service", "a backend needs a service");
}

static const struct istio_table table_ingress_backend = TABLE(ingress_backend, "IngressBackend", backend_rows, .check = check_backend);

/* ---- rules ---- */

static const char *const path_types[] = {"Exact", "Prefix", "ImplementationSpecific", NULL};
static const struct istio_field path_rows[] = {
	ROW(ingress_path, path, "path", F_STRING),
	ROW(ingress_path, type, "pathType", F_ENUM, .words = path_types),
	ROW(ingress_path, backend, "backend", F_OBJECT, .table = &table_ingress_backend),
};

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), n_end = strlen(end);

	return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

/* Kubernetes' own rules for Exact and Prefix. */
static const char *odd_part(const char *path)
{
	static const char *const within[] = {"//", "/./", "/../", "%2f", "%2F"}, *const at_end[] = {"/..", "/."};

	for (size_t i = 0; i < sizeof(within) / sizeof(within[0]); i++)
		if (strstr(path, within[i]))
			return within[i];
	for (size_t i = 0; i < sizeof(at_end) / sizeof(at_end[0]); i++)
		if (ends_with(path, at_end[i]))
			return at_end[i];
	return NULL;
}

static void check_path(struct istio_decode *d, void *object)
{
	const struct ingress_path *p = object;
	bool is_free = p->type.value == INGRESS_IMPLEMENTATION_SPECIFIC;
	bool is_prefix = p->type.value == INGRESS_PREFIX || (is_free && p->path && (ends_with(p->path, "/*") || ends_with(p->path, ".*")));
	const char *odd = p->path && (!is_free || is_prefix) ? odd_part(p->path) : NULL;

	if (!p->type.is_set)
		istio_decode_error(d, "IST0106", &p->head, "pathType", "a path needs a pathType: Exact, Prefix or ImplementationSpecific");
	else if (p->path ? p->path[0] != '/' && !(is_free && !p->path[0]) : !is_free)
		istio_decode_error(d, "IST0106", &p->head, "path", "a path begins with a slash");
	else if (odd)
		istio_decode_error(d, "IST0106", &p->head, "path", "a path with \"%s\" in it matches nothing that is meant: remove it", odd);
	else if (p->path && p->path[strcspn(p->path, "?#")] && is_prefix)
		istio_decode_error(d, "IST0106", &p->head, "path", "a path is compared without its query: remove what begins with ? or #");
	else if (p->path && p->path[strcspn(p->path, "?#")])
		istio_decode_warning(d, "HF0007", &p->head, "path", "never matches: a path is compared without its query");
	if (!p->backend)
		istio_decode_error(d, "IST0106", &p->head, "backend", "a path needs a backend");
}

static const struct istio_table table_ingress_path = TABLE(ingress_path, "HTTPIngressPath", path_rows, .check = check_path);
static const struct istio_field http_rows[] = {ROW(ingress_http, paths, "paths", F_OBJECTS, .table = &table_ingress_path, .min = 1, .max = 20000)};
static const struct istio_table table_ingress_http = TABLE(ingress_http, "HTTPIngressRuleValue", http_rows);
static const struct istio_field rule_rows[] = {
	ROW(ingress_rule, host, "host", F_STRING),
	ROW(ingress_rule, http, "http", F_OBJECT, .table = &table_ingress_http),
};

static void check_host(struct istio_decode *d, const struct istio_head *head, const char *field, const char *host)
{
	if (!istio_is_host(host, true) || istio_is_ip(host))
		istio_decode_error(d, "IST0106", head, field, "\"%.80s\" is not a host: a DNS name or \"*.example.com\"", host);
}

static void check_rule(struct istio_decode *d, void *object)
{
	const struct ingress_rule *r = object;

	if (r->host && r->host[0])
		check_host(d, &r->head, "host", r->host);
	if (!r->http)
		istio_decode_warning(d, "HF0007", &r->head, "http", "without http this rule leads nowhere, in Istio too: write the paths and their backends");
	else if (r->http->paths.n == 0)
		istio_decode_error(d, "IST0106", &r->head, "http.paths", "http needs paths");
}

static const struct istio_table table_ingress_rule = TABLE(ingress_rule, "IngressRule", rule_rows, .check = check_rule);

/* ---- tls ---- */

static const struct istio_field tls_rows[] = {
	ROW(ingress_tls, hosts, "hosts", F_STRINGS, .min = 0, .max = 10000),
	ROW(ingress_tls, secret_name, "secretName", F_STRING),
};

static void check_tls(struct istio_decode *d, void *object)
{
	const struct ingress_tls *t = object;

	for (uint32_t i = 0; i < t->hosts.n; i++)
		check_host(d, &t->head, "hosts", t->hosts.list[i]);
	if (!t->secret_name || !t->secret_name[0])
		istio_decode_warning(d, "HF0007", &t->head, "secretName", "without secretName nothing is served at port 443 for it, in Istio too");
	else if (strchr(t->secret_name, '/') || !istio_is_host(t->secret_name, false))
		istio_decode_error(d, "IST0106", &t->head, "secretName", "\"%.80s\" is not the name of a Secret", t->secret_name);
}

static const struct istio_table table_ingress_tls = TABLE(ingress_tls, "IngressTLS", tls_rows, .check = check_tls);

/* ---- the kinds ---- */

static const struct istio_field ingress_rows[] = {
	ROW(ingress, class_name, "ingressClassName", F_STRING),
	ROW_NOTED(ingress, default_backend, "defaultBackend", F_OBJECT,
		  "is not served, as in Istio: write a rule without host, with the path / and pathType Prefix", .table = &table_ingress_backend),
	ROW(ingress, tls, "tls", F_OBJECTS, .table = &table_ingress_tls, .min = 0, .max = 10000),
	ROW(ingress, rules, "rules", F_OBJECTS, .table = &table_ingress_rule, .min = 0, .max = 10000),
};

static void check_ingress(struct istio_decode *d, void *object)
{
	const struct ingress *i = object;

	if (i->rules.n == 0 && !i->default_backend)
		istio_decode_error(d, "IST0106", &i->head, "rules", "an Ingress needs rules");
}

const struct istio_table istio_table_ingress = TABLE(ingress, "IngressSpec", ingress_rows, .check = check_ingress);

static const struct istio_field class_rows[] = {
	ROW(ingress_class, controller, "controller", F_STRING),
	ROW_IGNORED("parameters", "Istio reads none"),
};

static void check_class(struct istio_decode *d, void *object)
{
	const struct ingress_class *c = object;

	if (!c->controller || !c->controller[0])
		istio_decode_error(d, "IST0106", &c->head, "controller", "an IngressClass needs a controller; Istio's is istio.io/ingress-controller");
}

const struct istio_table istio_table_ingress_class = TABLE(ingress_class, "IngressClassSpec", class_rows, .check = check_class);
