/* What filters read of a route: injected faults (features.md VS-46..VS-48), mirrors (VS-49), CORS (VS-51, VS-52). */
#include "dataplane/config/config_priv.h"

#define PER_MILLION 1000000u
#define MIRRORS_MAX 16u
#define ORIGINS_MAX 1000u
#define GRPC_STATUS_MAX 16u /* UNAUTHENTICATED */
#define CORS_AGE_S_MAX 31536000000ull

int snap_decode_fault(struct snap_dec *d, const Foil__Conf__FaultInjection *m, const struct mesh_fault **out)
{
	if (!m)
		return 0;
	uint16_t mark = snap_enter(d, "fault", -1);
	struct mesh_fault *own = foil_blob_alloc(d->b, sizeof(*own));
	if (!own)
		return snap_no_memory(d);
	int rc = snap_duration(d, "delay_us", true, m->delay_us, 0, &own->delay_us);
	if (rc == 0)
		rc = snap_range(d, "delay_per_million", m->delay_per_million, 0, PER_MILLION);
	if (rc == 0)
		rc = snap_range(d, "abort_per_million", m->abort_per_million, 0, PER_MILLION);
	if (rc == 0 && m->abort_http_status)
		rc = snap_range(d, "abort_http_status", m->abort_http_status, 200, 599);
	if (rc == 0 && m->has_abort_grpc)
		rc = snap_range(d, "abort_grpc_status", m->abort_grpc_status, 0, GRPC_STATUS_MAX);
	if (rc < 0)
		return rc;
	own->delay_per_million = m->delay_per_million;
	own->abort_per_million = m->abort_per_million;
	own->abort_http_status = (uint16_t)m->abort_http_status;
	own->has_abort_grpc = m->has_abort_grpc;
	own->abort_grpc_status = m->has_abort_grpc ? (uint8_t)m->abort_grpc_status : 0;
	*out = own;
	snap_leave(d, mark);
	return 0;
}

/* The list as one header value, "a,b". {NULL, 0} when there is none. */
static int join(struct snap_dec *d, const char *field, char *const *list, size_t n, struct foil_slice *out)
{
	const struct foil_slice *parts;
	uint16_t n_parts;
	size_t n_bytes = 0;
	int rc = snap_texts(d, field, list, n, SNAP_TEXT_ANY, &parts, &n_parts);
	if (rc < 0 || n == 0)
		return rc;
	for (uint16_t i = 0; i < n_parts; i++)
		n_bytes += parts[i].n_bytes + 1;
	if (n_bytes > SNAP_TEXT_BYTES_MAX)
		return snap_fail(d, field, "has %zu bytes in all; %u at most", n_bytes, SNAP_TEXT_BYTES_MAX);
	char *text = foil_blob_alloc(d->b, n_bytes);
	if (!text)
		return snap_no_memory(d);
	size_t at = 0;
	for (uint16_t i = 0; i < n_parts; i++) {
		if (i)
			text[at++] = ',';
		memcpy(text + at, parts[i].data, parts[i].n_bytes);
		at += parts[i].n_bytes;
	}
	*out = foil_slice_of(text, at);
	return 0;
}

static int decode_origins(struct snap_dec *d, const Foil__Conf__CorsPolicy *m, struct mesh_cors *own)
{
	struct mesh_string_match *origins;
	int rc = snap_list(d, "allow_origins", m->n_allow_origins, 0, ORIGINS_MAX, sizeof(*origins), (void **)&origins);
	for (size_t i = 0; rc == 0 && i < m->n_allow_origins; i++) {
		char field[40];
		(void)snprintf(field, sizeof(field), "allow_origins[%zu]", i); /* fits: at most ORIGINS_MAX */
		rc = snap_decode_string_match(d, field, m->allow_origins[i], &origins[i]);
	}
	if (rc < 0)
		return rc;
	own->allow_origins = origins;
	own->n_allow_origins = (uint16_t)m->n_allow_origins;
	return 0;
}

static int decode_age(struct snap_dec *d, const Foil__Conf__CorsPolicy *m, struct mesh_cors *own)
{
	char text[24];
	if (!m->has_max_age)
		return 0;
	int rc = snap_range(d, "max_age_s", m->max_age_s, 0, CORS_AGE_S_MAX);
	if (rc < 0)
		return rc;
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)m->max_age_s); /* at most 12 digits */
	return snap_text(d, "max_age_s", text, SNAP_TEXT_ANY, &own->max_age);
}

int snap_decode_cors(struct snap_dec *d, const Foil__Conf__CorsPolicy *m, const struct mesh_cors **out)
{
	if (!m)
		return 0;
	uint16_t mark = snap_enter(d, "cors", -1);
	struct mesh_cors *own = foil_blob_alloc(d->b, sizeof(*own));
	if (!own)
		return snap_no_memory(d);
	int rc = decode_origins(d, m, own);
	if (rc == 0)
		rc = join(d, "allow_methods", m->allow_methods, m->n_allow_methods, &own->allow_methods);
	if (rc == 0)
		rc = join(d, "allow_headers", m->allow_headers, m->n_allow_headers, &own->allow_headers);
	if (rc == 0)
		rc = join(d, "expose_headers", m->expose_headers, m->n_expose_headers, &own->expose_headers);
	if (rc == 0)
		rc = decode_age(d, m, own);
	if (rc < 0)
		return rc;
	own->allow_credentials = m->allow_credentials;
	own->ignore_unmatched_preflights = m->ignore_unmatched_preflights;
	*out = own;
	snap_leave(d, mark);
	return 0;
}

int snap_decode_mirrors(struct snap_dec *d, Foil__Conf__MirrorPolicy *const *list, size_t n, const struct mesh_mirror **out, uint16_t *n_out)
{
	struct mesh_mirror *own;
	int rc = snap_list(d, "mirrors", n, 0, MIRRORS_MAX, sizeof(*own), (void **)&own);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		uint16_t mark = snap_enter(d, "mirrors", (long)i);
		own[i].per_million = list[i]->has_per_million ? list[i]->per_million : PER_MILLION;
		own[i].append_shadow_suffix = list[i]->append_shadow_suffix;
		rc = snap_cluster_ref(d, "cluster", list[i]->cluster, &own[i].cluster, &own[i].slot);
		if (rc == 0)
			rc = snap_range(d, "per_million", own[i].per_million, 0, PER_MILLION);
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc < 0)
		return rc;
	*out = own;
	*n_out = (uint16_t)n;
	return 0;
}
