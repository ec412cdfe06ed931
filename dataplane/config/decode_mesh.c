/* MeshSettings: what holds for every listener. Defaults are those of Istio (features.md CFG-9, HD-9). */
#include "dataplane/config/config_priv.h"

#include "dataplane/telemetry/shared.h"

#include <errno.h>

#define DRAIN_US 45000000ull

static int decode_captures(struct snap_dec *d, struct mesh_settings *s, struct foil_error *err)
{
	struct tele_captures c;
	int rc = tele_format_captures(s->access_log_format, s->access_log_json, d->b, &c, err);
	struct mesh_format *list = rc == 0 ? foil_blob_array(d->b, c.n, sizeof(*list)) : NULL;
	if (rc < 0 || !list)
		return rc < 0 ? rc : foil_error_set(err, -ENOMEM, "no memory for the access log's format");
	for (uint16_t i = 0; i < c.n; i++)
		if ((rc = mesh_log_capture_compile(d->b, c.list[i], &list[i], err)) < 0)
			return rc;
	s->log_captures = list;
	s->n_log_captures = c.n;
	s->log_key = c.key;
	return 0;
}

/* Newlines may stand in it: they end the lines of a text format. */
static int decode_log_format(struct snap_dec *d, const Foil__Conf__MeshSettings *m, struct mesh_settings *s)
{
	struct foil_error err = {0};
	s->access_log_json = m->access_log_json;
	s->access_log_format = foil_blob_copy(d->b, m->access_log_format, m->access_log_format ? strlen(m->access_log_format) : 0);
	if (!s->access_log_format.data)
		return snap_no_memory(d);
	return decode_captures(d, s, &err) < 0 ? snap_fail(d, "access_log_format", "%.300s", err.text) : 0;
}

int snap_decode_mesh(struct snap_dec *d, const ProtobufCMessage *message, void *own)
{
	const Foil__Conf__MeshSettings *m = (const Foil__Conf__MeshSettings *)message;
	struct mesh_settings *s = &((struct snap_mesh *)own)->settings;
	int rc = snap_text(d, "trust_domain", m->trust_domain ? m->trust_domain : "cluster.local", SNAP_TEXT_HOST, &s->trust_domain);
	if (rc == 0)
		rc = snap_text(d, "access_log_path", m->access_log_path, SNAP_TEXT_ANY, &s->access_log_path);
	if (rc == 0)
		rc = decode_log_format(d, m, s);
	if (rc == 0)
		rc = snap_text(d, "server_name", m->server_name ? m->server_name : "istio-envoy", SNAP_TEXT_VALUE, &s->server_name);
	if (rc == 0)
		rc = snap_duration(d, "drain_duration_us", m->has_drain_duration_us, m->drain_duration_us, DRAIN_US, &s->drain_duration_us);
	s->connection_limit = m->connection_limit;
	if (rc == 0)
		rc = snap_cidrs(d, "internal_cidrs", m->internal_cidrs, m->n_internal_cidrs, &s->internal_cidrs, &s->n_internal_cidrs);
	return rc;
}
