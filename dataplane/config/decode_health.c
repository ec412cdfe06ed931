/* Active health checks of an endpoint set (features.md HC-3). */
#include "dataplane/config/config_priv.h"

#define CHECKS_MAX 4096u
#define ENTRIES_MAX 64u /* status ranges, headers */
#define INTERVAL_US 10000000u
#define TIMEOUT_US 1000000u
#define NO_TRAFFIC_US 60000000u
#define TIME_US_MIN 1000u
#define TIME_US_MAX 3600000000u
#define THRESHOLD_MAX 1000000u

static int decode_expected(struct snap_dec *d, const Foil__Conf__HttpHealthCheck *m, struct mesh_health_check *out)
{
	size_t n = m->n_expected ? m->n_expected : 1;
	struct mesh_status_range *own = NULL;
	int rc = snap_list(d, "expected", n, 0, ENTRIES_MAX, sizeof(*own), (void **)&own);

	if (rc == 0 && m->n_expected == 0)
		own[0] = (struct mesh_status_range){200, 200};
	for (size_t i = 0; rc == 0 && i < m->n_expected; i++) {
		rc = snap_range(d, "expected", m->expected[i]->to, 100, 599);
		if (rc == 0)
			rc = snap_range(d, "expected", m->expected[i]->from, 100, m->expected[i]->to);
		own[i] = (struct mesh_status_range){(uint16_t)m->expected[i]->from, (uint16_t)m->expected[i]->to};
	}
	out->expected = own;
	out->n_expected = (uint16_t)n;
	return rc;
}

static int decode_headers(struct snap_dec *d, const Foil__Conf__HttpHealthCheck *m, struct mesh_health_check *out)
{
	struct mesh_health_header *own = NULL;
	int rc = snap_list(d, "headers", m->n_headers, 0, ENTRIES_MAX, sizeof(*own), (void **)&own);

	for (size_t i = 0; rc == 0 && i < m->n_headers; i++) {
		rc = snap_text(d, "headers", m->headers[i]->name, SNAP_TEXT_HEADER, &own[i].name);
		if (rc == 0)
			rc = snap_text(d, "headers", m->headers[i]->value, SNAP_TEXT_VALUE, &own[i].value);
	}
	out->headers = own;
	out->n_headers = (uint16_t)m->n_headers;
	return rc;
}

static int decode_http(struct snap_dec *d, const Foil__Conf__HttpHealthCheck *m, struct mesh_health_check *out)
{
	int rc = snap_text(d, "path", m->path ? m->path : "/", SNAP_TEXT_ANY, &out->path);

	if (rc == 0 && (out->path.n_bytes == 0 || out->path.data[0] != '/' || memchr(out->path.data, ' ', out->path.n_bytes)))
		rc = snap_fail(d, "path", "does not begin with '/', or has a blank");
	if (rc == 0)
		rc = snap_text(d, "host", m->host, SNAP_TEXT_HOST, &out->host);
	if (rc == 0)
		rc = decode_expected(d, m, out);
	return rc ? rc : decode_headers(d, m, out);
}

static int decode_grpc(struct snap_dec *d, const Foil__Conf__GrpcHealthCheck *m, struct mesh_health_check *out)
{
	int rc = snap_text(d, "service", m->service, SNAP_TEXT_ANY, &out->service);

	if (rc == 0 && out->service.n_bytes > MESH_HEALTH_SERVICE_BYTES_MAX)
		rc = snap_fail(d, "service", "is longer than %u bytes", MESH_HEALTH_SERVICE_BYTES_MAX);
	return rc ? rc : snap_text(d, "authority", m->authority, SNAP_TEXT_HOST, &out->host);
}

static int decode_kind(struct snap_dec *d, const Foil__Conf__HealthCheck *m, struct mesh_health_check *out)
{
	switch (m->kind_case) {
	case FOIL__CONF__HEALTH_CHECK__KIND_HTTP:
		out->kind = MESH_HEALTH_HTTP;
		return decode_http(d, m->http, out);
	case FOIL__CONF__HEALTH_CHECK__KIND_TCP:
		out->kind = MESH_HEALTH_TCP;
		return 0;
	case FOIL__CONF__HEALTH_CHECK__KIND_GRPC:
		out->kind = MESH_HEALTH_GRPC;
		return decode_grpc(d, m->grpc, out);
	default: return snap_fail(d, NULL, "is neither http, tcp nor grpc");
	}
}

static int decode_time(struct snap_dec *d, const char *field, bool has, uint64_t value_us, uint64_t default_us, uint64_t *out_us)
{
	*out_us = has ? value_us : default_us;
	return snap_range(d, field, *out_us, TIME_US_MIN, TIME_US_MAX);
}

static int decode_numbers(struct snap_dec *d, const Foil__Conf__HealthCheck *m, struct mesh_health_check *out)
{
	int rc = snap_range(d, "port", m->port, 0, 65535);

	out->port = (uint16_t)m->port;
	out->healthy_threshold = m->has_healthy_threshold ? m->healthy_threshold : 2;
	out->unhealthy_threshold = m->has_unhealthy_threshold ? m->unhealthy_threshold : 3;
	out->jitter_us = m->jitter_us;
	if (rc == 0)
		rc = snap_range(d, "healthy_threshold", out->healthy_threshold, 1, THRESHOLD_MAX);
	if (rc == 0)
		rc = snap_range(d, "unhealthy_threshold", out->unhealthy_threshold, 1, THRESHOLD_MAX);
	if (rc == 0)
		rc = decode_time(d, "interval_us", m->has_interval_us, m->interval_us, INTERVAL_US, &out->interval_us);
	if (rc == 0)
		rc = decode_time(d, "timeout_us", m->has_timeout_us, m->timeout_us, TIMEOUT_US, &out->timeout_us);
	if (rc == 0)
		rc = decode_time(d, "no_traffic_interval_us", m->has_no_traffic_interval_us, m->no_traffic_interval_us, NO_TRAFFIC_US,
				 &out->no_traffic_interval_us);
	return rc ? rc : snap_range(d, "jitter_us", m->jitter_us, 0, TIME_US_MAX);
}

int snap_decode_health_checks(struct snap_dec *d, const Foil__Conf__Endpoints *m, struct mesh_health_check **out)
{
	int rc = snap_list(d, "health_checks", m->n_health_checks, 0, CHECKS_MAX, sizeof(**out), (void **)out);

	for (size_t i = 0; rc == 0 && i < m->n_health_checks; i++) {
		uint16_t mark = snap_enter(d, "health_checks", (long)i);
		rc = decode_kind(d, m->health_checks[i], &(*out)[i]);
		if (rc == 0)
			rc = decode_numbers(d, m->health_checks[i], &(*out)[i]);
		if (rc == 0)
			snap_leave(d, mark);
	}
	return rc;
}
