/* The one place where the control plane calls into the data plane's rooms: two compilers that need no worker. */
#include "ctrl/istio/format.h"

#include "dataplane/core/blob.h"
#include "dataplane/core/error.h"
#include "dataplane/mesh/config.h"
#include "dataplane/telemetry/shared.h"

bool istio_format_check_header(const char *value, struct foil_error *err)
{
	struct foil_blob blob = {0};
	struct mesh_format out;

	if (!strchr(value, '%'))
		return true;
	int rc = mesh_format_compile(&blob, foil_slice_str(value), &out, err);
	foil_blob_free(&blob);
	return rc == 0;
}

bool istio_format_check_log(const char *format, bool is_json, struct foil_error *err)
{
	struct foil_blob blob = {0};
	struct tele_captures c;
	struct mesh_format out;
	int rc = tele_format_captures(foil_slice_str(format), is_json, &blob, &c, err);

	for (uint16_t i = 0; rc == 0 && i < c.n; i++)
		rc = mesh_log_capture_compile(&blob, c.list[i], &out, err);
	foil_blob_free(&blob);
	return rc == 0;
}
