/* Header operations (features.md VS-22): names that may be touched, values compiled as formats. Of the pseudo headers only a request's authority can
 * be set; nothing removes it. */
#include "dataplane/config/config_priv.h"

#include "dataplane/http/message.h"

#define OPS_MAX 1000u

static bool is_authority(const char *name)
{
	return strcmp(name, ":authority") == 0 || strcmp(name, "host") == 0;
}

static int decode_removes(struct snap_dec *d, const Foil__Conf__HeaderOps *m, struct mesh_header_ops *out)
{
	if (m->n_remove > OPS_MAX)
		return snap_fail(d, "remove", "has %zu entries; %u at most", m->n_remove, OPS_MAX);
	for (size_t i = 0; i < m->n_remove; i++)
		if (is_authority(m->remove[i]))
			return snap_fail(d, "remove", "the host cannot be removed");
	return snap_texts(d, "remove", m->remove, m->n_remove, SNAP_TEXT_HEADER, &out->remove, &out->n_remove);
}

static int decode_add(struct snap_dec *d, const Foil__Conf__HeaderValue *m, bool is_request, struct mesh_header_op_add *out)
{
	struct foil_error err = {0};
	struct foil_slice value;
	bool pseudo = m->name && m->name[0] == ':';
	if (m->name && is_authority(m->name) && !is_request)
		return snap_fail(d, "name", "a response has no host");
	if (pseudo && !is_authority(m->name))
		return snap_fail(d, "name", "\"%.40s\" cannot be set; of the pseudo headers only :authority", m->name);
	int rc = snap_text(d, "name", m->name, pseudo ? SNAP_TEXT_NAME : SNAP_TEXT_HEADER, &out->name);
	if (rc == 0)
		rc = snap_text(d, "value", m->value, SNAP_TEXT_VALUE, &value);
	if (rc < 0)
		return rc;
	out->id = (uint16_t)http_header_intern(out->name);
	out->append = m->append;
	rc = mesh_format_compile(d->b, value, &out->value, &err);
	return rc < 0 ? snap_fail(d, "value", "%.300s", err.text) : 0;
}

int snap_decode_header_ops(struct snap_dec *d, const char *field, const Foil__Conf__HeaderOps *m, bool is_request, struct mesh_header_ops *out)
{
	struct mesh_header_op_add *own;
	if (!m)
		return 0;
	uint16_t outer = snap_enter(d, field, -1);
	int rc = decode_removes(d, m, out);
	if (rc == 0)
		rc = snap_list(d, "add", m->n_add, 0, OPS_MAX, sizeof(*own), (void **)&own);
	for (size_t i = 0; rc == 0 && i < m->n_add; i++) {
		uint16_t mark = snap_enter(d, "add", (long)i);
		rc = decode_add(d, m->add[i], is_request, &own[i]);
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc < 0)
		return rc;
	out->add = own;
	out->n_add = (uint16_t)m->n_add;
	snap_leave(d, outer);
	return 0;
}
