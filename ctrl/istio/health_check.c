/* trafficPolicy.healthCheck, ours and not Istio's: how the data plane asks endpoints whether they are well (features.md HC-3). Istio leaves that to
 * EnvoyFilter; the words are those of Kubernetes' probes and of Envoy's health checks. */
#include "ctrl/istio/compile.h"
#include "ctrl/istio/rows.h"

#include "ctrl/istio/health_check.h"

#include <stdlib.h>
#include <string.h>

#define STATUSES_MAX 64
#define HEADERS_MAX 64
#define CHECKS_MAX 4096u /* of one cluster: what the data plane takes */
#define SERVICE_BYTES_MAX 120 /* what the data plane takes */
#define TIME_US_MIN 1000
#define TIME_US_MAX 3600000000
#define INTERVAL_US 10000000u
#define TIMEOUT_US 1000000u
#define NO_TRAFFIC_US 60000000u
#define HEALTHY 2u
#define UNHEALTHY 3u

/* ---- fields ---- */
static const struct istio_field http_rows[] = {
	ROW(health_http, path, "path", F_STRING, .min = 1, .max = 1024),
	ROW(health_http, host, "host", F_STRING, .min = 1, .max = 255),
	ROW(health_http, port, "port", F_INT, .min = 1, .max = PORT_MAX),
	ROW(health_http, headers, "headers", F_STRING_MAP),
	ROW(health_http, expected, "expectedStatuses", F_STRINGS, .min = 0, .max = STATUSES_MAX),
};

/* "204" or "200-299". */
static bool read_range(const char *text, uint32_t *from, uint32_t *to)
{
	char *end;

	*from = *to = (uint32_t)strtoul(text, &end, 10);
	if (end != text + 3)
		return false;
	if (*end == '-') {
		const char *second = end + 1;
		*to = (uint32_t)strtoul(second, &end, 10);
		if (end != second + 3)
			return false;
	}
	return *end == 0 && *from >= 100 && *from <= *to && *to <= 599;
}

static bool is_token(const char *name)
{
	return name[0] && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~") == strlen(name);
}

static void check_http(struct istio_decode *d, void *object)
{
	struct health_http *h = object;
	uint32_t from, to;

	if (h->path && (h->path[0] != '/' || strchr(h->path, ' ')))
		istio_decode_error(d, "IST0106", &h->head, "path", "\"%.80s\" does not begin with '/', or has a blank", h->path);
	if (h->host && strpbrk(h->host, " /@?#*"))
		istio_decode_error(d, "IST0106", &h->head, "host", "\"%.80s\" is not a host", h->host);
	for (uint32_t i = 0; i < h->expected.n; i++)
		if (!read_range(h->expected.list[i], &from, &to))
			istio_decode_error(d, "IST0106", &h->head, "expectedStatuses", "\"%.40s\" is neither a status nor a range of them, as \"200-299\"",
					   h->expected.list[i]);
	if (h->headers.n > HEADERS_MAX)
		istio_decode_error(d, "IST0106", &h->head, "headers", "more than %d", HEADERS_MAX);
	for (uint32_t i = 0; i < h->headers.n; i++)
		if (!is_token(h->headers.keys[i]))
			istio_decode_error(d, "IST0106", &h->head, "headers", "\"%.80s\" is no header's name", h->headers.keys[i]);
}

static const struct istio_table table_http = TABLE(health_http, "HealthCheck.HTTPGet", http_rows, .check = check_http);
static const struct istio_field tcp_rows[] = {ROW(health_tcp, port, "port", F_INT, .min = 1, .max = PORT_MAX)};
static const struct istio_table table_tcp = TABLE(health_tcp, "HealthCheck.TCPSocket", tcp_rows);
static const struct istio_field grpc_rows[] = {
	ROW(health_grpc, service, "service", F_STRING, .min = 0, .max = SERVICE_BYTES_MAX),
	ROW(health_grpc, authority, "authority", F_STRING, .min = 1, .max = 255),
	ROW(health_grpc, port, "port", F_INT, .min = 1, .max = PORT_MAX),
};

static void check_grpc(struct istio_decode *d, void *object)
{
	struct health_grpc *g = object;

	if (g->authority && strpbrk(g->authority, " /@?#*"))
		istio_decode_error(d, "IST0106", &g->head, "authority", "\"%.80s\" is not a host", g->authority);
}

static const struct istio_table table_grpc = TABLE(health_grpc, "HealthCheck.GRPC", grpc_rows, .check = check_grpc);
static const struct istio_field check_rows[] = {
	ROW(health_check, http, "httpGet", F_OBJECT, .table = &table_http),
	ROW(health_check, tcp, "tcpSocket", F_OBJECT, .table = &table_tcp),
	ROW(health_check, grpc, "grpc", F_OBJECT, .table = &table_grpc),
	ROW(health_check, interval, "interval", F_DURATION, .min = TIME_US_MIN, .max = TIME_US_MAX),
	ROW(health_check, timeout, "timeout", F_DURATION, .min = TIME_US_MIN, .max = TIME_US_MAX),
	ROW(health_check, jitter, "intervalJitter", F_DURATION, .min = 0, .max = TIME_US_MAX),
	ROW(health_check, no_traffic, "noTrafficInterval", F_DURATION, .min = TIME_US_MIN, .max = TIME_US_MAX),
	ROW(health_check, healthy, "healthyThreshold", F_INT, .min = 1, .max = 1000000),
	ROW(health_check, unhealthy, "unhealthyThreshold", F_INT, .min = 1, .max = 1000000),
};

static void check_health_check(struct istio_decode *d, void *object)
{
	struct health_check *h = object;

	if ((h->http != NULL) + (h->tcp != NULL) + (h->grpc != NULL) != 1)
		istio_decode_error(d, "IST0106", &h->head, "", "exactly one of httpGet, tcpSocket and grpc");
}

const struct istio_table istio_table_health_check = TABLE(health_check, "HealthCheck", check_rows, .check = check_health_check);

/* ---- the snapshot's ---- */
static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

static void fill_http(struct compile *c, const struct health_http *h, const char *host, Foil__Conf__HealthCheck *out)
{
	Foil__Conf__HttpHealthCheck *m = ARENA_NEW(c->arena, Foil__Conf__HttpHealthCheck);

	foil__conf__http_health_check__init(m);
	m->path = word(h->path ? h->path : "/");
	m->host = word(istio_arena_lower(c->arena, h->host ? h->host : host));
	m->headers = ARENA_ARRAY(c->arena, Foil__Conf__HeaderValue *, h->headers.n + 1);
	for (uint32_t i = 0; i < h->headers.n; i++) {
		Foil__Conf__HeaderValue *v = m->headers[m->n_headers++] = ARENA_NEW(c->arena, Foil__Conf__HeaderValue);
		foil__conf__header_value__init(v);
		v->name = word(istio_arena_lower(c->arena, h->headers.keys[i]));
		v->value = word(h->headers.values[i]);
	}
	m->expected = ARENA_ARRAY(c->arena, Foil__Conf__StatusRange *, h->expected.n + 1);
	for (uint32_t i = 0; i < h->expected.n; i++) {
		Foil__Conf__StatusRange *r = m->expected[m->n_expected++] = ARENA_NEW(c->arena, Foil__Conf__StatusRange);
		foil__conf__status_range__init(r);
		r->has_from = r->has_to = read_range(h->expected.list[i], &r->from, &r->to); /* true: it was checked */
	}
	out->kind_case = FOIL__CONF__HEALTH_CHECK__KIND_HTTP;
	out->http = m;
	out->port = (uint32_t)h->port.value;
}

static void fill_kind(struct compile *c, const struct health_check *h, const char *host, Foil__Conf__HealthCheck *out)
{
	out->has_port = true;
	if (h->http) {
		fill_http(c, h->http, host, out);
	} else if (h->tcp) {
		out->kind_case = FOIL__CONF__HEALTH_CHECK__KIND_TCP;
		out->tcp = true;
		out->port = (uint32_t)h->tcp->port.value;
	} else {
		Foil__Conf__GrpcHealthCheck *m = ARENA_NEW(c->arena, Foil__Conf__GrpcHealthCheck);
		foil__conf__grpc_health_check__init(m);
		m->service = word(h->grpc->service ? h->grpc->service : "");
		m->authority = word(istio_arena_lower(c->arena, h->grpc->authority ? h->grpc->authority : host));
		out->kind_case = FOIL__CONF__HEALTH_CHECK__KIND_GRPC;
		out->grpc = m;
		out->port = (uint32_t)h->grpc->port.value;
	}
}

static uint64_t or_default(const struct istio_int *v, uint64_t otherwise)
{
	return v->is_set ? (uint64_t)v->value : otherwise;
}

static Foil__Conf__HealthCheck *message(struct compile *c, const struct health_check *h, const char *host)
{
	Foil__Conf__HealthCheck *m = ARENA_NEW(c->arena, Foil__Conf__HealthCheck);

	foil__conf__health_check__init(m);
	fill_kind(c, h, host, m);
	m->has_interval_us = m->has_timeout_us = m->has_jitter_us = m->has_no_traffic_interval_us = true;
	m->has_healthy_threshold = m->has_unhealthy_threshold = true;
	m->interval_us = or_default(&h->interval, INTERVAL_US);
	m->timeout_us = or_default(&h->timeout, TIMEOUT_US);
	m->jitter_us = or_default(&h->jitter, 0);
	m->no_traffic_interval_us = or_default(&h->no_traffic, NO_TRAFFIC_US);
	m->healthy_threshold = (uint32_t)or_default(&h->healthy, HEALTHY);
	m->unhealthy_threshold = (uint32_t)or_default(&h->unhealthy, UNHEALTHY);
	return m;
}

/* The checks of one set: each once. */
struct check_list {
	const struct health_check **list;
	uint32_t n, n_room;
};

static uint32_t number_of(struct compile *c, struct check_list *all, const struct health_check *h)
{
	for (uint32_t i = 0; i < all->n; i++)
		if (all->list[i] == h)
			return i + 1;
	if (all->n == CHECKS_MAX)
		return 0;
	ARENA_PUSH(c->arena, all, h);
	return all->n;
}

void istio_health_check_emit(struct compile *c, const struct health_check *h, const char *host, const struct instance *const *made_of,
			     Foil__Conf__Endpoints *out)
{
	struct check_list all = {0};

	for (size_t i = 0; i < out->n_endpoints; i++) {
		const struct health_check *own = h ? h : made_of[i]->check;
		if (!own)
			continue;
		out->endpoints[i]->has_health_check = true;
		out->endpoints[i]->health_check = number_of(c, &all, own);
	}
	out->health_checks = ARENA_ARRAY(c->arena, Foil__Conf__HealthCheck *, all.n + 1);
	for (uint32_t i = 0; i < all.n; i++)
		out->health_checks[out->n_health_checks++] = message(c, all.list[i], host);
}
