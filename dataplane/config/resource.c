/* One resource from packed bytes to the mesh's struct, see config_priv.h: scan, unpack inside a budget, decode by its kind. The unpacked message is scratch
 * and goes at once. Invariant: a snap_res lies in the blob that its res heads; slots are given back before the blob is freed. */
#include "dataplane/config/config_priv.h"

#include <errno.h>

#define SCRATCH_BYTES_MAX (384u << 20)     /* of one unpacked message: 24 MiB of the smallest elements */
#define REGEX_CHARGE_BYTES (32u * 1024u)   /* RE2 keeps its own memory; a guess at one compiled copy */

struct kind {
	const char *word;
	const ProtobufCMessageDescriptor *desc;
	size_t n_bytes;
	int (*decode)(struct snap_dec *d, const ProtobufCMessage *m, void *own);
};

static const struct kind kinds[] = {
	[FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH] = {"mesh", &foil__conf__mesh_settings__descriptor, sizeof(struct snap_mesh), snap_decode_mesh},
	[FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER] = {"listener", &foil__conf__listener__descriptor, sizeof(struct mesh_listener),
							  snap_decode_listener},
	[FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES] = {"routes", &foil__conf__route_config__descriptor, sizeof(struct mesh_routes),
							snap_decode_routes},
	[FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER] = {"cluster", &foil__conf__cluster__descriptor, sizeof(struct mesh_cluster),
							 snap_decode_cluster},
	[FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS] = {"endpoints", &foil__conf__endpoints__descriptor, sizeof(struct mesh_endpoints),
							   snap_decode_endpoints},
	[FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET] = {"secret", &foil__conf__secret__descriptor, sizeof(struct mesh_secret), snap_decode_secret},
};

static const struct kind *kind_of(uint32_t type)
{
	return type < FOIL_COUNT_OF(kinds) && kinds[type].word ? &kinds[type] : NULL;
}

const char *snap_type_word(uint32_t type)
{
	const struct kind *k = kind_of(type);
	return k ? k->word : NULL;
}

uint64_t snap_hash(const struct snap *s, struct foil_slice bytes)
{
	return foil_siphash(&s->key, bytes.data, bytes.n_bytes);
}

int snap_key_compare(uint32_t type_a, struct foil_slice name_a, uint32_t type_b, struct foil_slice name_b)
{
	if (type_a != type_b)
		return type_a < type_b ? -1 : 1;
	uint32_t n = FOIL_MIN(name_a.n_bytes, name_b.n_bytes);
	int rc = n ? memcmp(name_a.data, name_b.data, n) : 0;
	return rc ? rc : (name_a.n_bytes > name_b.n_bytes) - (name_a.n_bytes < name_b.n_bytes);
}

/* ---- scratch for protobuf-c */

static void *scratch_alloc(void *blob, size_t n_bytes)
{
	return foil_blob_alloc(blob, n_bytes);
}

static void scratch_free(void *blob, void *p)
{
	(void)blob; /* all of it goes at once */
	(void)p;
}

/* ---- the resource */

static int check_head(const struct snap_resource *r, const struct kind *k, struct foil_error *err)
{
	if (!k)
		return foil_error_set(err, -EINVAL, "a resource of type %u, which this hydrofoil does not know", r->type);
	if (r->name.n_bytes == 0 || r->name.n_bytes > SNAP_NAME_BYTES_MAX)
		return foil_error_set(err, -EINVAL, "its name has %u bytes; must be 1 to %u", r->name.n_bytes, SNAP_NAME_BYTES_MAX);
	for (uint32_t i = 0; i < r->name.n_bytes; i++)
		if ((unsigned char)r->name.data[i] < 0x20 || r->name.data[i] == 0x7f)
			return foil_error_set(err, -EINVAL, "its name holds a control character");
	if (r->type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH && !foil_slice_eq(r->name, FOIL_SLICE("mesh")))
		return foil_error_set(err, -EINVAL, "the settings' name must be \"mesh\"");
	if (r->body.n_bytes > SNAP_RESOURCE_BYTES_MAX)
		return foil_error_set(err, -EINVAL, "has %u bytes; %u at most", r->body.n_bytes, SNAP_RESOURCE_BYTES_MAX);
	return 0;
}

static struct snap_res *make(const struct snap *s, const struct snap_resource *from, const struct kind *k, size_t bytes_max)
{
	struct foil_blob b = {.max_bytes = bytes_max};
	struct mesh_res *res = foil_blob_alloc(&b, k->n_bytes);
	struct snap_res *r = foil_blob_alloc(&b, sizeof(*r));
	struct foil_slice name = foil_blob_copy(&b, from->name.data, from->name.n_bytes);
	struct foil_slice body = foil_blob_copy(&b, from->body.data, from->body.n_bytes);
	if (!res || !r || !name.data || !body.data) {
		foil_blob_free(&b);
		return NULL;
	}
	*res = (struct mesh_res){.blob = b, .type = from->type, .name = name, .hash = snap_hash(s, body)};
	*r = (struct snap_res){.res = res, .body = body};
	return r;
}

static int decode(struct snap *s, struct snap_res *r, const struct kind *k, const struct mesh_settings *settings, struct foil_error *err)
{
	struct foil_blob scratch = {.max_bytes = SCRATCH_BYTES_MAX};
	ProtobufCAllocator allocator = {.alloc = scratch_alloc, .free = scratch_free, .allocator_data = &scratch};
	struct snap_dec d = {.snap = s, .res = r, .b = &r->res->blob, .settings = settings, .err = err, .n_workers = s->p.n_workers};
	ProtobufCMessage *m = protobuf_c_message_unpack(k->desc, &allocator, r->body.n_bytes, (const uint8_t *)r->body.data);
	int rc = m ? k->decode(&d, m, r->res) : foil_error_set(err, -ENOMEM, "needs more than %u bytes of memory to unpack", SCRATCH_BYTES_MAX);
	foil_blob_free(&scratch);
	r->n_bytes = r->res->blob.n_bytes + (size_t)d.n_regexes * d.n_workers * REGEX_CHARGE_BYTES;
	if (rc == 0 && r->n_bytes > r->res->blob.max_bytes)
		return snap_no_memory(&d);
	return rc;
}

int snap_res_new(struct snap *s, const struct snap_resource *from, const struct mesh_settings *settings, size_t bytes_max, struct snap_res **out,
		 struct foil_error *err)
{
	const struct kind *k = kind_of(from->type);
	int rc = check_head(from, k, err);
	if (rc == 0)
		rc = snap_wire_check(k->desc, from->body, err);
	if (rc < 0)
		return rc;
	struct snap_res *r = make(s, from, k, bytes_max);
	if (!r)
		return foil_error_set(err, -ENOMEM, "the snapshot is larger than the data plane's budget for one, or memory is short");
	rc = decode(s, r, k, settings, err);
	s->n_bytes_in_memory += r->n_bytes;
	if (rc < 0)
		snap_res_free(s, r);
	else
		*out = r;
	return rc;
}

void snap_res_free(struct snap *s, struct snap_res *r)
{
	if (!r)
		return;
	for (struct snap_ref *ref = r->refs; ref; ref = ref->next)
		snap_slot_put(ref->table, ref->slot);
	s->n_bytes_in_memory -= r->n_bytes;
	mesh_regexes_free(r->res);
	if (r->res->type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET)
		snap_secret_wipe((struct mesh_secret *)(void *)r->res, r->body);
	struct foil_blob b = r->res->blob; /* the blob holds its own head */
	foil_blob_free(&b);
}
