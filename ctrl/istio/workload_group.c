/* The field tables of WorkloadGroup (features.md WG-1, WG-2), and its probe as a health check of the data plane's. What entries get from a group is
 * workloads.c's. */
#include "ctrl/istio/rows.h"

#include <string.h>
#include <strings.h>

#define SECONDS_MAX 3600 /* what the data plane takes of a check's times */
#define COUNT_MAX 1000000
#define SECOND_US 1000000
#define PERIOD_S 10
#define TIMEOUT_S 1
#define SUCCESSES 1
#define FAILURES 3

/* ---- fields ---- */

static const char host_note[] = "the workload is asked at its own address, by the data plane: the port must be open to this node";
static const struct istio_field header_rows[] = {
	ROW(probe_header, name, "name", F_STRING, .min = 1, .max = 256),
	ROW(probe_header, value, "value", F_STRING),
};

static void check_header(struct istio_decode *d, void *object)
{
	const struct probe_header *h = object;

	if (!h->name || !istio_is_header_name(h->name) || h->name[0] == ':')
		istio_decode_error(d, "IST0106", &h->head, "name", "\"%.80s\" is not a header name", h->name ? h->name : "");
	else if (strcasecmp(h->name, "host") == 0 && (!h->value || !h->value[0] || strlen(h->value) > 255 || strpbrk(h->value, " /@?#*")))
		istio_decode_error(d, "IST0106", &h->head, "value", "\"%.80s\" is not a host", h->value ? h->value : "");
}

static const struct istio_table table_header = TABLE(probe_header, "HTTPHeader", header_rows, .check = check_header);
static const struct istio_field http_rows[] = {
	ROW(probe_http, path, "path", F_STRING, .min = 0, .max = 1024),
	ROW(probe_http, port, "port", F_INT, .min = 1, .max = PORT_MAX),
	ROW_NOTED(probe_http, host, "host", F_STRING, host_note),
	ROW(probe_http, scheme, "scheme", F_STRING),
	ROW(probe_http, headers, "httpHeaders", F_OBJECTS, .table = &table_header, .min = 0, .max = 64),
};

static void check_http(struct istio_decode *d, void *object)
{
	const struct probe_http *h = object;

	if (!h->port.is_set)
		istio_decode_error(d, "IST0106", &h->head, "port", "a probe needs a port");
	if (h->path && h->path[0] && (h->path[0] != '/' || strchr(h->path, ' ')))
		istio_decode_error(d, "IST0106", &h->head, "path", "\"%.80s\" does not begin with '/', or has a blank", h->path);
	if (h->scheme && strcasecmp(h->scheme, "HTTPS") == 0)
		istio_decode_error(d, "HF0005", &h->head, "scheme", "not supported: checks are over TLS where a DestinationRule's tls makes all connections "
				   "so; leave scheme out there, else use tcpSocket");
	else if (h->scheme && h->scheme[0] && strcasecmp(h->scheme, "HTTP") != 0)
		istio_decode_error(d, "IST0106", &h->head, "scheme", "\"%.40s\" is neither HTTP nor HTTPS", h->scheme);
}

static const struct istio_table table_http = TABLE(probe_http, "HTTPHealthCheckConfig", http_rows, .check = check_http);
static const struct istio_field tcp_rows[] = {
	ROW_NOTED(probe_tcp, host, "host", F_STRING, host_note),
	ROW(probe_tcp, port, "port", F_INT, .min = 1, .max = PORT_MAX),
};

static void check_tcp(struct istio_decode *d, void *object)
{
	const struct probe_tcp *t = object;

	if (!t->port.is_set)
		istio_decode_error(d, "IST0106", &t->head, "port", "a probe needs a port");
}

static const struct istio_table table_tcp = TABLE(probe_tcp, "TCPHealthCheckConfig", tcp_rows, .check = check_tcp);
static const struct istio_field grpc_rows[] = {
	ROW(health_grpc, port, "port", F_INT, .min = 1, .max = PORT_MAX),
	ROW(health_grpc, service, "service", F_STRING, .min = 0, .max = 120),
};

static void check_grpc(struct istio_decode *d, void *object)
{
	const struct health_grpc *g = object;

	if (!g->port.is_set)
		istio_decode_error(d, "IST0106", &g->head, "port", "a probe needs a port");
}

static const struct istio_table table_grpc = TABLE(health_grpc, "GrpcHealthCheckConfig", grpc_rows, .check = check_grpc);
static const struct istio_field probe_rows[] = {
	ROW_NOTED(readiness_probe, initial_delay, "initialDelaySeconds", F_INT, "the first check is made at once, and what it finds counts", .min = 0,
		  .max = SECONDS_MAX),
	ROW(readiness_probe, timeout, "timeoutSeconds", F_INT, .min = 0, .max = SECONDS_MAX),
	ROW(readiness_probe, period, "periodSeconds", F_INT, .min = 0, .max = SECONDS_MAX),
	ROW(readiness_probe, successes, "successThreshold", F_INT, .min = 0, .max = COUNT_MAX),
	ROW(readiness_probe, failures, "failureThreshold", F_INT, .min = 0, .max = COUNT_MAX),
	ROW(readiness_probe, http, "httpGet", F_OBJECT, .table = &table_http),
	ROW(readiness_probe, tcp, "tcpSocket", F_OBJECT, .table = &table_tcp),
	ROW_REFUSED("exec", "a command at the workload cannot be run from here; use httpGet, tcpSocket or grpc"),
	ROW(readiness_probe, grpc, "grpc", F_OBJECT, .table = &table_grpc),
};

static void check_probe(struct istio_decode *d, void *object)
{
	const struct readiness_probe *p = object;

	if ((p->http != NULL) + (p->tcp != NULL) + (p->grpc != NULL) != 1)
		istio_decode_error(d, "IST0106", &p->head, "", "exactly one of httpGet, tcpSocket and grpc");
}

static const struct istio_table table_probe = TABLE(readiness_probe, "ReadinessProbe", probe_rows, .check = check_probe);
static const struct istio_field metadata_rows[] = {
	ROW(group_metadata, labels, "labels", F_STRING_MAP),
	ROW_IGNORED("annotations", "of the entries that istiod would make"),
};
static const struct istio_table table_metadata = TABLE(group_metadata, "WorkloadGroup.ObjectMeta", metadata_rows);
static const struct istio_field group_rows[] = {
	ROW(workload_group, metadata, "metadata", F_OBJECT, .table = &table_metadata),
	ROW(workload_group, template, "template", F_OBJECT, .table = &istio_table_workload_template),
	ROW(workload_group, probe, "probe", F_OBJECT, .table = &table_probe),
};

/* ---- the probe as a health check ---- */

/* Host among them is the request's own. */
static void take_headers(struct istio_arena *a, const struct probe_http *p, struct health_http *out)
{
	const char **keys = istio_arena_alloc(a, sizeof(*keys) * (p->headers.n + 1)), **values = istio_arena_alloc(a, sizeof(*values) * (p->headers.n + 1));
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->headers.n; i++) {
		const struct probe_header *h = ISTIO_ITEM(p->headers, struct probe_header, i);
		if (strcasecmp(h->name, "host") == 0) {
			out->host = h->value;
			continue;
		}
		keys[n] = h->name;
		values[n++] = h->value ? h->value : "";
	}
	out->headers = (struct istio_string_map){keys, values, n};
}

static struct health_http *http_of(struct istio_arena *a, const struct probe_http *p)
{
	static const char *const expected[] = {"200-399"};
	struct health_http *h = istio_arena_alloc(a, sizeof(*h));

	h->path = p->path && p->path[0] ? p->path : "/";
	h->port = p->port;
	h->expected = (struct istio_strings){expected, 1};
	take_headers(a, p, h);
	return h;
}

static struct istio_int or_default(const struct istio_int *given, int64_t otherwise, int64_t unit)
{
	return (struct istio_int){.is_set = true, .value = (given->value ? given->value : otherwise) * unit};
}

static const struct health_check *check_of(struct istio_arena *a, const struct readiness_probe *p)
{
	struct health_check *h = istio_arena_alloc(a, sizeof(*h));

	h->head = p->head;
	h->http = p->http ? http_of(a, p->http) : NULL;
	h->grpc = p->grpc;
	if (p->tcp) {
		h->tcp = istio_arena_alloc(a, sizeof(*h->tcp));
		h->tcp->port = p->tcp->port;
	}
	h->timeout = or_default(&p->timeout, TIMEOUT_S, SECOND_US);
	h->interval = h->no_traffic = or_default(&p->period, PERIOD_S, SECOND_US);
	h->healthy = or_default(&p->successes, SUCCESSES, 1);
	h->unhealthy = or_default(&p->failures, FAILURES, 1);
	return h;
}

static void check_group(struct istio_decode *d, void *object)
{
	struct workload_group *g = object;

	if (!g->template)
		istio_decode_error(d, "IST0106", &g->head, "template", "a WorkloadGroup needs a template; {} is one");
	g->check = g->probe ? check_of(d->arena, g->probe) : NULL;
}

const struct istio_table istio_table_workload_group = TABLE(workload_group, "WorkloadGroup", group_rows, .check = check_group);
