/* What an agent could send, or a stranger could leave on the disk: a sequence of resources (type, length, body) through dataplane/config into a real
 * mesh. What is applied must be unchanged when it comes again, must go to nothing when it is freed, and a refusal must have a reason. The same bytes
 * are read as a file of the disk too. */
#include <stdlib.h>

#include "dataplane/config/config_priv.h"
#include "dataplane/core/cursor.h"

#define RESOURCES_MAX 32u
#define BYTES_MAX (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Field 1 of every resource is its name. */
static struct foil_slice name_of(uint32_t type, struct foil_slice body)
{
	struct foil_cur c = cur_of(body.data, body.n_bytes);
	if (type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH)
		return FOIL_SLICE("mesh");
	if (cur_u8(&c) != 0x0a)
		return FOIL_SLICE("x");
	return cur_slice(&c, cur_u8(&c));
}

static size_t split(struct foil_cur *c, struct snap_resource *list)
{
	size_t n = 0;
	while (n < RESOURCES_MAX && cur_left(c) > 3) {
		uint8_t head = cur_u8(c);
		uint16_t n_bytes = cur_be16(c);
		struct foil_slice body = cur_slice(c, FOIL_MIN((size_t)n_bytes, cur_left(c)));
		list[n] = (struct snap_resource){.type = head & 7, .removed = head >> 7, .body = body};
		list[n].name = name_of(list[n].type, body);
		n++;
	}
	list[n++] = (struct snap_resource){.type = FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH, .name = FOIL_SLICE("mesh"), .body = FOIL_SLICE("")};
	return n;
}

static void check_refusal(const struct snap *s)
{
	size_t n, n_more;
	const struct snap_rejection *r = snap_rejections(s, &n, &n_more);
	if (n == 0 || !r[0].reason[0])
		abort(); /* refused, and nobody knows why */
}

static void apply(struct snap *s, const struct snap_resource *list, size_t n)
{
	struct snap_update u = {.version = FOIL_SLICE("v1"), .full = true, .resources = list, .n_resources = n};
	if (snap_apply(s, &u) == SNAP_REJECTED) {
		check_refusal(s);
		u.n_resources = n - 1; /* the input may have brought its own settings */
		if (snap_apply(s, &u) == SNAP_REJECTED) {
			check_refusal(s);
			return;
		}
	}
	if (snap_apply(s, &u) != SNAP_UNCHANGED)
		abort();
	const struct snap_resource settings = {.type = FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH, .name = FOIL_SLICE("mesh"), .body = FOIL_SLICE("\x2a\x01x")};
	const struct snap_update delta = {.version = FOIL_SLICE("v2"), .resources = &settings, .n_resources = 1};
	if (snap_apply(s, &delta) == SNAP_REJECTED)
		abort(); /* listeners that were good are good under another server name */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mesh_shared_params mp = {.n_workers = 1};
	struct foil_error err;
	struct snap_resource list[RESOURCES_MAX + 1];
	struct foil_cur c = cur_of(data, size);
	struct snap *s = NULL;
	struct foil_blob b = {.max_bytes = BYTES_MAX};
	struct snap_update u;
	struct mesh_shared *mesh = mesh_shared_new(&mp);
	const struct snap_params p = {.shared = mesh, .n_workers = 1, .abi = 1, .bytes_max = BYTES_MAX, .seed = 1};
	if (!mesh || snap_new(&p, &s, &err) < 0)
		abort();
	apply(s, list, split(&c, list));
	if (snap_disk_parse(s, foil_slice_of(data, size), &b, &u, &err) == 0)
		(void)(snap_apply(s, &u) == SNAP_REJECTED);
	foil_blob_free(&b);
	struct snap_status st;
	snap_status(s, &st);
	if (st.n_bytes_in_memory < st.n_bytes)
		abort();
	snap_free(s);
	mesh_shared_free(mesh);
	return 0;
}
