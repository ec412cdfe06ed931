/* A whole file of resources through model and compiler, and the snapshot through the data plane's own checks: whatever is written in a file, what
 * comes out must be taken there, since one resource that is not refuses the whole update. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctrl/istio/istio.h"
#include "dataplane/config/config.h"
#include "dataplane/mesh/host.h"

static const char *const keys[] = {"istio"}, *const ingress[] = {"ingressgateway"}, *const egress[] = {"egressgateway"};
static const char *const addresses[] = {"198.18.0.1", "fd00:f011:0::1"}, *const inner[] = {"198.19.0.1"};
static const char *const cidrs[] = {"198.18.10.0/24", "fd00:f011:10::/64"};
static const struct istio_gateway_address gateways[] = {{keys, ingress, 1, addresses, 2}, {keys, egress, 1, inner, 1}};
static const struct istio_node node = {.gateways = gateways, .n_gateways = 2, .service_cidrs = cidrs, .n_service_cidrs = 2};

static void must_be_taken(const struct istio_snapshot *s)
{
	struct mesh_shared *mesh = mesh_shared_new(&(struct mesh_shared_params){.n_workers = 1});
	struct snap_params p = {.shared = mesh, .n_workers = 1, .abi = 1, .seed = 7};
	struct snap *snap = NULL;
	struct snap_resource *list = calloc(s->n_resources + 1, sizeof(*list));

	if (!mesh || !list || snap_new(&p, &snap, NULL))
		abort();
	for (size_t i = 0; i < s->n_resources; i++)
		list[i] = (struct snap_resource){.type = s->resources[i].type, .name = foil_slice_str(s->resources[i].name),
						 .body = foil_slice_of(s->resources[i].bytes, s->resources[i].n_bytes)};
	struct snap_update u = {.version = FOIL_SLICE("1"), .full = true, .resources = list, .n_resources = s->n_resources};
	if (snap_apply(snap, &u) == SNAP_REJECTED) {
		size_t n, n_more;
		const struct snap_rejection *r = snap_rejections(snap, &n, &n_more);
		for (size_t i = 0; i < n; i++)
			fprintf(stderr, "rejected: %u %s: %s: %s\n", r[i].type, r[i].name, r[i].field, r[i].reason);
		abort();
	}
	snap_free(snap);
	mesh_shared_free(mesh);
	free(list);
}

static void ask(const struct istio_snapshot *s)
{
	static const char *const names[] = {"x-user", "cookie"}, *const values[] = {"jason", "a=b"};
	struct istio_request r = {.authority = "web.example.com", .path = "/api/v1?x=1", .header_names = names, .header_values = values, .n_headers = 2};
	char *text = NULL;

	(void)istio_explain(s, &r, &text, NULL); /* whatever it says */
	free(text);
	for (uint32_t port = 0; port < 3; port++) {
		static const uint32_t ports[] = {80, 443, 9000};
		const struct istio_request connection = {.is_connection = true, .is_tls = port == 1, .server_name = port == 1 ? "web.example.com" : NULL,
							 .authority = "web.test", .port = ports[port]};
		struct istio_steps steps = {0};
		(void)istio_explain(s, &connection, &text, &steps);
		istio_steps_fini(&steps);
		free(text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct istio_diags diags;
	struct istio_snapshot *s = NULL;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	istio_diags_init(&diags);
	struct doc_file *f = istio_doc_read("fuzz", text, size, (struct istio_pos){1, 1}, &diags);
	struct istio_model *before = istio_model_new(NULL), *m = istio_model_new(before);
	if (!m || !before)
		abort();
	if (f && istio_model_add(m, f, &diags) == 0 && istio_model_finish(m, &diags) == 0) {
		if (istio_compile(m, &node, "1", &s, &diags) == 0) {
			must_be_taken(s);
			ask(s);
		}
		istio_snapshot_free(s);
		if (istio_compile(m, &istio_any_node, "2", &s, &diags) == 0)
			istio_snapshot_free(s);
	}
	istio_model_free(m);
	istio_model_free(before);
	istio_doc_put_ref(f);
	istio_diags_fini(&diags);
	free(text);
	return 0;
}
