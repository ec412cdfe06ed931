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
	return tele_format_check(foil_slice_str(format), is_json, err) == 0;
}
