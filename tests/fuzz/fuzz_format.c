/* Format operators: text of a configuration, values of strangers. The first line is the format, the rest goes into what operators ask for.
 * What must hold: a format is taken or refused with a sentence; a value has no control character that would end a header line. */
#include "tests/unit/support.h"

#include "dataplane/core/error.h"
#include "dataplane/mesh/header_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct foil_worker *w;
	const uint8_t *end = n_bytes ? memchr(data, '\n', n_bytes) : NULL;
	size_t n_format = end ? (size_t)(end - data) : n_bytes;
	struct foil_slice rest = foil_slice_of(data + n_format, n_bytes - n_format), out = {NULL, 0};
	struct http_header headers[2] = {{.name = FOIL_SLICE("x-in"), .value = rest}, {.name = FOIL_SLICE("grpc-status"), .id = HTTP_HDR_GRPC_STATUS,
		.value = rest}};
	struct http_head head = {.path = rest, .authority = rest, .headers = {.list = headers, .n = 2, .cap = 2}};
	struct stream_addr addr = {.port = (uint16_t)n_bytes};
	struct mesh_format_ctx ctx = {.request = &head, .response = &head, .downstream_remote = &addr, .sni = rest, .flags = n_bytes,
				      .start_wall_us = n_bytes * 1000000007u, .route_name = rest};
	struct foil_blob b = {.max_bytes = 1u << 20};
	struct foil_arena a = {0};
	struct foil_error err = {0};
	struct mesh_format f;

	if (!w)
		w = t_worker(0);
	memcpy(addr.ip, data, FOIL_MIN(n_bytes, sizeof(addr.ip)));
	if (mesh_format_compile(&b, foil_slice_of(data, n_format), &f, &err) != 0)
		FOIL_ASSERT(err.text[0]);
	else if (mesh_format_eval(w, &a, &f, &ctx, &out) == 0 && !f.is_literal)
		for (uint32_t i = 0; i < out.n_bytes; i++)
			FOIL_ASSERT((uint8_t)out.data[i] >= ' ' || out.data[i] == '\t');
	foil_arena_reset(w, &a);
	foil_blob_free(&b);
	return 0;
}
