/* HttpConnectionManager: how one filter chain speaks HTTP. Limits beyond what a worker can hold are refused, not clamped. */
#include "dataplane/config/config_priv.h"

#define IDLE_US 3600000000ull
#define HEAD_KIB 60u
#define HEAD_KIB_MAX 64u /* FOIL_LARGE_CHUNK_BYTES holds a head and its list of headers */
#define HEADERS 100u
#define HEADERS_MAX 1000u
#define TRUSTED_HOPS_MAX 100u

static int decode_timeouts(struct snap_dec *d, const Foil__Conf__HttpConnectionManager *m, struct mesh_hcm *out)
{
	int rc = snap_duration(d, "idle_timeout_us", m->has_idle_timeout_us, m->idle_timeout_us, IDLE_US, &out->idle_timeout_us);
	if (rc == 0)
		rc = snap_duration(d, "stream_idle_timeout_us", true, m->stream_idle_timeout_us, 0, &out->stream_idle_timeout_us);
	if (rc == 0)
		rc = snap_duration(d, "request_timeout_us", true, m->request_timeout_us, 0, &out->request_timeout_us);
	if (rc == 0)
		rc = snap_duration(d, "request_headers_timeout_us", true, m->request_headers_timeout_us, 0, &out->request_headers_timeout_us);
	if (rc == 0)
		rc = snap_duration(d, "max_connection_duration_us", true, m->max_connection_duration_us, 0, &out->max_connection_duration_us);
	if (rc == 0)
		rc = snap_duration(d, "max_stream_duration_us", true, m->max_stream_duration_us, 0, &out->max_stream_duration_us);
	if (rc == 0)
		rc = snap_duration(d, "drain_timeout_us", true, m->drain_timeout_us, 0, &out->drain_timeout_us);
	return rc;
}

static int decode_limits(struct snap_dec *d, const Foil__Conf__HttpConnectionManager *m, struct mesh_hcm *out)
{
	out->max_request_headers_kib = m->has_max_request_headers_kib ? m->max_request_headers_kib : HEAD_KIB;
	out->max_request_headers_count = m->has_max_request_headers_count ? m->max_request_headers_count : HEADERS;
	out->max_requests_per_connection = m->max_requests_per_connection;
	out->xff_num_trusted_hops = m->xff_num_trusted_hops;
	out->h2_streams_max = m->h2_streams_max;
	out->h2_stream_window_bytes = m->h2_stream_window_bytes;
	out->h2_conn_window_bytes = m->h2_conn_window_bytes;
	int rc = snap_range(d, "max_request_headers_kib", out->max_request_headers_kib, 1, HEAD_KIB_MAX);
	if (rc == 0)
		rc = snap_range(d, "max_request_headers_count", out->max_request_headers_count, 1, HEADERS_MAX);
	if (rc == 0)
		rc = snap_range(d, "xff_num_trusted_hops", out->xff_num_trusted_hops, 0, TRUSTED_HOPS_MAX);
	return rc;
}

static enum mesh_path_normalization normalization_of(Foil__Conf__PathNormalization p)
{
	switch (p) {
	case FOIL__CONF__PATH_NORMALIZATION__PATH_NONE: return MESH_PATHNORM_NONE;
	case FOIL__CONF__PATH_NORMALIZATION__PATH_MERGE_SLASHES: return MESH_PATHNORM_MERGE_SLASHES;
	case FOIL__CONF__PATH_NORMALIZATION__PATH_DECODE_AND_MERGE_SLASHES: return MESH_PATHNORM_DECODE_AND_MERGE_SLASHES;
	default: return MESH_PATHNORM_BASE; /* the scan has refused every other number */
	}
}

/* What is said of slashes goes before what the mode says of them. */
static enum mesh_path_normalization path_rules(const Foil__Conf__HttpConnectionManager *m)
{
	static const unsigned int of[] = {[FOIL__CONF__ESCAPED_SLASHES__SLASHES_KEPT] = 0,
					  [FOIL__CONF__ESCAPED_SLASHES__SLASHES_REFUSED] = MESH_PATHNORM_REFUSE_SLASHES,
					  [FOIL__CONF__ESCAPED_SLASHES__SLASHES_REDIRECTED] = MESH_PATHNORM_DECODE_SLASHES | MESH_PATHNORM_REDIRECT_SLASHES,
					  [FOIL__CONF__ESCAPED_SLASHES__SLASHES_UNESCAPED] = MESH_PATHNORM_DECODE_SLASHES};
	unsigned int rules = normalization_of(m->path_normalization);

	if (m->has_merge_slashes)
		rules = (rules & ~(unsigned int)MESH_PATHNORM_MERGE_SLASHES) | (m->merge_slashes ? MESH_PATHNORM_MERGE_SLASHES : 0);
	if (m->has_escaped_slashes)
		rules = (rules & ~(unsigned int)MESH_PATHNORM_DECODE_SLASHES) | of[m->escaped_slashes]; /* the scan has refused every other number */
	return (enum mesh_path_normalization)rules;
}

static enum mesh_server_header server_header_of(Foil__Conf__ServerHeader h)
{
	switch (h) {
	case FOIL__CONF__SERVER_HEADER__SERVER_PASS_THROUGH: return MESH_SERVER_PASS_THROUGH;
	case FOIL__CONF__SERVER_HEADER__SERVER_APPEND_IF_ABSENT: return MESH_SERVER_APPEND_IF_ABSENT;
	default: return MESH_SERVER_OVERWRITE;
	}
}

static int decode_names(struct snap_dec *d, const Foil__Conf__HttpConnectionManager *m, struct mesh_hcm *out)
{
	const char *scheme = m->scheme ? m->scheme : "http";
	int rc = snap_routes_ref(d, "routes", m->routes, &out->routes, &out->routes_slot);
	if (rc == 0 && strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
		rc = snap_fail(d, "scheme", "is \"%.20s\"; must be http or https", scheme);
	if (rc == 0)
		rc = snap_text(d, "scheme", scheme, SNAP_TEXT_ANY, &out->scheme);
	if (rc < 0)
		return rc;
	if (m->server_name)
		return snap_text(d, "server_name", m->server_name, SNAP_TEXT_VALUE, &out->server_name);
	out->server_name = foil_blob_copy(d->b, d->settings->server_name.data, d->settings->server_name.n_bytes);
	return out->server_name.data ? 0 : snap_no_memory(d);
}

static enum mesh_client_cert client_cert_of(Foil__Conf__ClientCertForward f)
{
	switch (f) {
	case FOIL__CONF__CLIENT_CERT_FORWARD__CERT_SANITIZE: return MESH_CERT_SANITIZE;
	case FOIL__CONF__CLIENT_CERT_FORWARD__CERT_FORWARD_ONLY: return MESH_CERT_FORWARD_ONLY;
	case FOIL__CONF__CLIENT_CERT_FORWARD__CERT_APPEND_FORWARD: return MESH_CERT_APPEND_FORWARD;
	case FOIL__CONF__CLIENT_CERT_FORWARD__CERT_ALWAYS_FORWARD_ONLY: return MESH_CERT_ALWAYS_FORWARD_ONLY;
	default: return MESH_CERT_SANITIZE_SET; /* the scan has refused every other number */
	}
}

static void decode_client_cert(const Foil__Conf__ClientCertHeader *m, struct mesh_client_cert_header *out)
{
	if (m)
		*out = (struct mesh_client_cert_header){.forward = client_cert_of(m->forward), .hide_subject = !m->subject, .hide_cert = !m->cert,
							.hide_dns = !m->dns, .hide_uri = !m->uri};
}

int snap_decode_hcm(struct snap_dec *d, const Foil__Conf__HttpConnectionManager *m, struct mesh_hcm *out)
{
	uint16_t mark = snap_enter(d, "http", -1);
	int rc = decode_names(d, m, out);
	if (rc == 0)
		rc = decode_timeouts(d, m, out);
	if (rc == 0)
		rc = decode_limits(d, m, out);
	if (rc < 0)
		return rc;
	out->use_remote_address = m->use_remote_address;
	out->path_normalization = path_rules(m);
	out->accept_http10 = m->accept_http10;
	out->reject_underscores = m->reject_underscores;
	out->drop_underscores = m->drop_underscores;
	out->server_header = server_header_of(m->server_header);
	out->envoy_debug_headers_off = m->envoy_debug_headers_off;
	out->request_id_off = m->request_id_off;
	out->attempt_count_off = m->attempt_count_off;
	out->add_forwarded_host = m->add_forwarded_host;
	out->add_forwarded_port = m->add_forwarded_port;
	out->preserve_header_case = m->preserve_header_case;
	out->grpc_web = m->grpc_web;
	out->refuse_misdirected = m->refuse_misdirected;
	decode_client_cert(m->client_cert, &out->client_cert);
	snap_leave(d, mark);
	return 0;
}
