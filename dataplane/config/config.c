/* Applying updates, see config.h. One update is merged, checked, laid out, prepared and published in one call; what it replaces waits in old until no worker
 * can see it. Invariant: running is what the mesh has published; every set in old was published before it. */
#include "dataplane/config/config.h"

#include <errno.h>

#include "dataplane/config/config_priv.h"

#define WRITE_EVERY_US 1000000u

int snap_new(const struct snap_params *p, struct snap **out, struct foil_error *err)
{
	struct foil_blob b = {0};
	struct snap *s = foil_blob_alloc(&b, sizeof(*s));
	if (!s)
		return foil_error_set(err, -ENOMEM, "no memory for the snapshot's keeper");
	*s = (struct snap){.blob = b, .p = *p};
	if (p->state_dir && strlen(p->state_dir) >= sizeof(s->state_dir)) {
		foil_blob_free(&b);
		return foil_error_set(err, -ENAMETOOLONG, "state_dir is longer than %zu bytes", sizeof(s->state_dir) - 1);
	}
	(void)snprintf(s->state_dir, sizeof(s->state_dir), "%s", p->state_dir ? p->state_dir : ""); /* fits, as just checked */
	s->p.state_dir = s->state_dir;
	s->p.bytes_max = p->bytes_max ? p->bytes_max : SNAP_BYTES_MAX;
	s->key = (struct foil_siphash_key){p->seed, ~p->seed};
	s->clusters.key = s->routes.key = s->secrets.key = s->tls.key = s->key;
	*out = s;
	return 0;
}

void snap_free(struct snap *s)
{
	struct foil_error err;
	if (!s)
		return;
	if (s->is_dirty && snap_disk_write(s, s->running, &err) < 0)
		s->is_dirty = true; /* that was the last try; the caller has heard of the earlier ones */
	for (struct snap_set *set = s->old, *next; set; set = next) {
		next = set->next;
		snap_set_free(s, set);
	}
	snap_set_free(s, s->running);
	snap_slots_fini(&s->clusters);
	snap_slots_fini(&s->routes);
	snap_slots_fini(&s->secrets);
	snap_slots_fini(&s->tls);
	struct foil_blob b = s->blob; /* the blob holds its own head */
	foil_blob_free(&b);
}

void snap_reject(struct snap *s, uint32_t type, struct foil_slice name, const char *field, const char *fmt, ...)
{
	va_list ap;
	if (s->n_rejections == SNAP_REJECTIONS_MAX) {
		s->n_rejections_more++;
		return;
	}
	struct snap_rejection *r = &s->rejections[s->n_rejections++];
	*r = (struct snap_rejection){.type = type};
	if (name.n_bytes)
		memcpy(r->name, name.data, FOIL_MIN(name.n_bytes, sizeof(r->name) - 1));
	(void)snprintf(r->field, sizeof(r->field), "%s", field); /* a longer path is cut, as a longer sentence */
	va_start(ap, fmt);
	(void)vsnprintf(r->reason, sizeof(r->reason), fmt, ap);
	va_end(ap);
	snap_printable(r->name);
	snap_printable(r->reason);
}

static bool check_version(struct snap *s, struct foil_slice version)
{
	if (version.n_bytes >= SNAP_VERSION_BYTES) {
		snap_reject(s, 0, (struct foil_slice){0}, "version", "has %u bytes; %u at most", version.n_bytes, SNAP_VERSION_BYTES - 1);
		return false;
	}
	for (uint32_t i = 0; i < version.n_bytes; i++)
		if ((unsigned char)version.data[i] < 0x20 || version.data[i] == 0x7f) {
			snap_reject(s, 0, (struct foil_slice){0}, "version", "holds a control character");
			return false;
		}
	return true;
}

static void take_version(struct snap *s, struct foil_slice version)
{
	if (foil_slice_eq(foil_slice_str(s->version), version))
		return;
	memset(s->version, 0, sizeof(s->version));
	if (version.n_bytes)
		memcpy(s->version, version.data, version.n_bytes);
	s->is_dirty = true;
}

static bool publish(struct snap *s, struct snap_set *set)
{
	struct foil_error err = {0};
	set->mesh->generation = s->generation + 1;
	if (mesh_config_prepare(s->p.shared, set->mesh, &err) < 0) {
		snap_reject(s, 0, (struct foil_slice){0}, err.field, "%s", err.text[0] ? err.text : "no memory for its hosts");
		return false;
	}
	set->is_prepared = true;
	mesh_config_publish(s->p.shared, set->mesh);
	s->generation++;
	if (s->running) {
		s->running->next = s->old;
		s->old = s->running;
	}
	s->running = set;
	s->is_dirty = true;
	return true;
}

static enum snap_result rejected(struct snap *s, struct snap_set *own_set)
{
	snap_set_free(s, own_set);
	s->n_rejected++;
	return SNAP_REJECTED;
}

enum snap_result snap_apply(struct snap *s, const struct snap_update *u)
{
	bool is_same = false;
	s->n_rejections = s->n_rejections_more = 0;
	struct snap_set *set = check_version(s, u->version) ? snap_set_merge(s, u, &is_same) : NULL;
	if (!set)
		return rejected(s, NULL);
	if (is_same) {
		snap_set_free(s, set);
		take_version(s, u->version);
		s->n_unchanged++;
		return SNAP_UNCHANGED;
	}
	if (!snap_set_build(s, set, u->version) || !snap_set_check(s, set) || !snap_tls_build(s, set) || !publish(s, set))
		return rejected(s, set);
	take_version(s, u->version);
	s->n_applied++;
	return SNAP_APPLIED;
}

const struct snap_rejection *snap_rejections(const struct snap *s, size_t *n, size_t *n_more)
{
	*n = s->n_rejections;
	*n_more = s->n_rejections_more;
	return s->rejections;
}

int snap_load(struct snap *s, struct foil_error *err)
{
	struct foil_blob b = {0};
	struct snap_update u;
	int rc = snap_disk_read(s, &b, &u, err);
	if (rc == 0 && snap_apply(s, &u) == SNAP_REJECTED) {
		const struct snap_rejection *r = &s->rejections[0];
		const char *word = snap_type_word(r->type);
		rc = foil_error_set(err, -EBADMSG, "%s/snapshot.bin is not used: %s %s: %s%s%s", s->state_dir, word ? word : "snapshot", r->name, r->field,
				    r->field[0] ? ": " : "", r->reason);
	}
	foil_blob_free(&b);
	if (rc == 0)
		s->is_dirty = false;
	return rc;
}

int snap_turn(struct snap *s, uint64_t now_us, struct foil_error *err)
{
	mesh_shared_turn(s->p.shared);
	for (struct snap_set **at = &s->old; *at;) {
		struct snap_set *set = *at;
		if (!mesh_config_is_quiet(s->p.shared, set->mesh)) {
			at = &set->next;
			continue;
		}
		*at = set->next;
		snap_set_free(s, set);
	}
	if (!s->is_dirty || (s->written_us && now_us - s->written_us < WRITE_EVERY_US))
		return 0;
	s->written_us = now_us;
	int rc = snap_disk_write(s, s->running, err);
	s->is_dirty = rc < 0;
	return rc;
}

struct foil_slice snap_version(const struct snap *s)
{
	return foil_slice_str(s->version);
}

const struct mesh_config *snap_config(const struct snap *s)
{
	return s->running ? s->running->mesh : NULL;
}

void snap_status(const struct snap *s, struct snap_status *out)
{
	*out = (struct snap_status){.n_bytes_in_memory = s->n_bytes_in_memory, .generation = s->generation, .n_applied = s->n_applied,
				    .n_rejected = s->n_rejected, .n_unchanged = s->n_unchanged, .is_on_disk = s->running && !s->is_dirty};
	for (const struct snap_set *set = s->old; set; set = set->next)
		out->n_old++;
	if (!s->running)
		return;
	out->n_resources = s->running->n;
	out->n_bytes = s->running->n_bytes;
	out->n_listeners = s->running->mesh->n_listeners;
	for (size_t i = 0; i < s->running->n; i++) {
		const void *res = s->running->list[i]->res;
		uint32_t type = ((const struct mesh_res *)res)->type;
		out->n_routes += type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES;
		out->n_clusters += type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER;
		out->n_endpoints += type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS ? ((const struct mesh_endpoints *)res)->n_endpoints : 0;
	}
}
