/* What the agent's standard pages say (ctrl/admin/standard.c asks): status and diagnostics. */
#include "programs/foil_agent.h"
#include "programs/foil_agent_perf.h"

#include <stdio.h>
#include <string.h>

#include "channel.pb-c.h"

static void copy(char *to, size_t n_room, const char *from)
{
	(void)snprintf(to, n_room, "%s", from ? from : ""); /* a longer one is cut: it is for eyes */
}

static void status(void *arg, struct adm_status *out)
{
	struct agent *a = arg;
	copy(out->agent_version, sizeof(out->agent_version), FOIL_VERSION);
	out->uptime_s = (agent_now_ms() - a->start_ms) / 1000;
	out->is_connected = ring_sender_is_connected(a->sender);
	out->is_stalled = agent_worker_is_stalled(a, &out->stalled_worker);
	copy(out->node_name, sizeof(out->node_name), a->hello ? a->hello->node_name : "");
	copy(out->node_version, sizeof(out->node_version), a->hello ? a->hello->version : "");
	copy(out->config_version, sizeof(out->config_version), a->config_version);
	out->n_files = (uint32_t)a->read_stats.n_files;
	out->n_resources = (uint32_t)a->read_stats.n_resources;
	out->n_errors = (uint32_t)a->diags.n_errors;
	out->n_warnings = (uint32_t)a->diags.n_warnings;
	out->snapshot = a->outcome.state;
	copy(out->running_version, sizeof(out->running_version), a->outcome.running_version);
	copy(out->last_reason, sizeof(out->last_reason), a->outcome.reason);
}

static void diagnostics(void *arg, adm_diagnostic_fn each, void *to)
{
	const struct agent *a = arg;
	for (size_t i = 0; i < a->diags.n; i++) {
		const struct istio_diag *d = &a->diags.list[i];
		if (d->severity == ISTIO_INFO)
			continue;
		struct adm_diagnostic one = {.is_error = d->severity == ISTIO_ERROR, .file = d->file, .resource = d->resource, .field = d->field,
					     .text = d->text, .line = d->at.line, .column = d->at.column};
		each(to, &one);
	}
}

void agent_pages_init(struct agent *a)
{
	a->sources = (struct adm_sources){.arg = a, .status = status, .diagnostics = diagnostics, .prometheus = agent_stats,
					  .config_dump = agent_dump, .perf = agent_perf};
}
