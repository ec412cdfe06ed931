/* The pages that Istio's users know, at the ports where they look for them; what they say comes from the agent (struct adm_sources).
 * Not here: how metrics or diagnostics are made. The JSON of /status is a contract with ./foil lab and foilctl: fields are only added. */
#include "ctrl/admin/admin_priv.h"

#include <assert.h>
#include <stdio.h>
#include <unistd.h>

static const char *state_name(enum adm_snapshot_state state)
{
	switch (state) {
	case ADM_SNAPSHOT_NONE: return "none";
	case ADM_SNAPSHOT_PENDING: return "pending";
	case ADM_SNAPSHOT_APPLIED: return "applied";
	case ADM_SNAPSHOT_REJECTED: return "rejected";
	}
	FOIL_UNREACHABLE();
}

struct diagnostics_to {
	struct adm_reply *r;
	uint32_t n;
	bool as_json;
};

static void diagnostic_text(struct adm_reply *r, const struct adm_diagnostic *d)
{
	adm_reply_printf(r, "%s", d->file && d->file[0] ? d->file : "-");
	if (d->line)
		adm_reply_printf(r, ":%u:%u", d->line, d->column);
	adm_reply_printf(r, ": %s:", d->is_error ? "error" : "warning");
	if (d->resource && d->resource[0])
		adm_reply_printf(r, " %s", d->resource);
	if (d->field && d->field[0])
		adm_reply_printf(r, " %s:", d->field);
	adm_reply_printf(r, " %s", d->text ? d->text : "");
}

static void one_diagnostic(void *to, const struct adm_diagnostic *d)
{
	struct diagnostics_to *t = to;

	if (t->as_json) {
		struct adm_reply *r = t->r;
		adm_reply_printf(r, "%s\n  {\"severity\": \"%s\", \"file\": ", t->n ? "," : "", d->is_error ? "error" : "warning");
		adm_reply_json_str(r, d->file);
		adm_reply_printf(r, ", \"line\": %u, \"column\": %u, \"resource\": ", d->line, d->column);
		adm_reply_json_str(r, d->resource);
		adm_reply_printf(r, ", \"field\": ");
		adm_reply_json_str(r, d->field);
		adm_reply_printf(r, ", \"text\": ");
		adm_reply_json_str(r, d->text);
		adm_reply_printf(r, "}");
	} else {
		diagnostic_text(t->r, d);
		adm_reply_printf(t->r, "\n");
	}
	t->n++;
}

/* GET /diagnostics, text; ?format=json for programs. */
static void diagnostics_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	const struct adm_sources *src = arg;
	struct diagnostics_to to = {.r = r, .as_json = foil_slice_eq(q->query, FOIL_SLICE("format=json"))};

	if (to.as_json) {
		adm_reply_type(r, "application/json");
		adm_reply_printf(r, "[");
	}
	src->diagnostics(src->arg, one_diagnostic, &to);
	if (to.as_json)
		adm_reply_printf(r, "\n]\n");
}

#define REASONS_MAX 50u /* in /status; /diagnostics has them all */

struct reasons_to {
	struct adm_reply *r;
	uint32_t n;
};

static void begin_reason(struct reasons_to *t)
{
	adm_reply_printf(t->r, "%s\n    ", t->n++ ? "," : "");
}

/* Error diagnostics as JSON strings; a warning is no reason for anything. */
static void one_reason(void *to, const struct adm_diagnostic *d)
{
	struct reasons_to *t = to;
	char text[1400];

	if (!d->is_error || t->n >= REASONS_MAX)
		return;
	int n = snprintf(text, sizeof(text), "%s:%u:%u: %s%s%s%s%s", d->file && d->file[0] ? d->file : "-", d->line, d->column,
			 d->resource ? d->resource : "", d->resource && d->resource[0] ? " " : "", d->field ? d->field : "",
			 d->field && d->field[0] ? ": " : "", d->text ? d->text : "");
	begin_reason(t);
	adm_reply_json(t->r, text, n > 0 ? FOIL_MIN((size_t)n, sizeof(text) - 1) : 0);
}

static void status_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	const struct adm_sources *src = arg;
	struct adm_status st = {0};

	(void)q;
	src->status(src->arg, &st);
	adm_reply_type(r, "application/json");
	adm_reply_printf(r, "{\"agent\": {\"version\": ");
	adm_reply_json_str(r, st.agent_version);
	adm_reply_printf(r, ", \"pid\": %d, \"uptime_s\": %llu},\n \"data_plane\": {\"connected\": %s, \"node\": ", (int)getpid(),
			 (unsigned long long)st.uptime_s, st.is_connected ? "true" : "false");
	adm_reply_json_str(r, st.node_name);
	adm_reply_printf(r, ", \"version\": ");
	adm_reply_json_str(r, st.node_version);
	adm_reply_printf(r, "},\n \"config\": {\"version\": ");
	adm_reply_json_str(r, st.config_version);
	adm_reply_printf(r, ", \"files\": %u, \"resources\": %u, \"errors\": %u, \"warnings\": %u},\n \"snapshot\": {\"version\": ", st.n_files,
			 st.n_resources, st.n_errors, st.n_warnings);
	adm_reply_json_str(r, st.config_version);
	adm_reply_printf(r, ", \"running_version\": ");
	adm_reply_json_str(r, st.running_version);
	adm_reply_printf(r, ", \"state\": \"%s\", \"reasons\": [", state_name(st.snapshot));
	struct reasons_to to = {.r = r};
	if (st.last_reason[0]) {
		begin_reason(&to);
		adm_reply_json_str(r, st.last_reason);
	}
	src->diagnostics(src->arg, one_reason, &to);
	adm_reply_printf(r, "]}}\n");
}

static void ready_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	const struct adm_sources *src = arg;
	struct adm_status st = {0};

	(void)q;
	src->status(src->arg, &st);
	if (st.is_connected && st.running_version[0] && !st.is_stalled) {
		adm_reply_printf(r, "ready: snapshot %s\n", st.running_version);
		return;
	}
	adm_reply_status(r, 503);
	if (st.is_stalled)
		adm_reply_printf(r, "not ready: worker %u stands still\n", st.stalled_worker);
	else
		adm_reply_printf(r, "not ready: %s\n", !st.is_connected ? "no data plane is connected" : "the data plane has no snapshot yet");
}

static void live_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	const struct adm_sources *src = arg;
	struct adm_status st = {0};

	(void)q;
	src->status(src->arg, &st);
	if (!st.is_stalled) {
		adm_reply_printf(r, "alive\n");
		return;
	}
	adm_reply_status(r, 503);
	adm_reply_printf(r, "worker %u stands still\n", st.stalled_worker);
}

static void prometheus_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	const struct adm_sources *src = arg;

	(void)q;
	adm_reply_type(r, "text/plain; version=0.0.4; charset=utf-8");
	src->prometheus(src->arg, r);
}

static void config_dump_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	const struct adm_sources *src = arg;

	adm_reply_type(r, "application/json");
	src->config_dump(src->arg, q, r);
}

static void perf_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	(void)arg;
	(void)q;
	adm_reply_type(r, "text/html; charset=utf-8");
	r->policy = adm_perf_html_policy;
	adm_reply_bytes(r, adm_perf_html, adm_perf_html_bytes);
}

static void perf_json_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	const struct adm_sources *src = arg;

	(void)q;
	adm_reply_type(r, "application/json");
	if (src->perf)
		src->perf(src->arg, r);
	else
		adm_reply_printf(r, "{\"connected\": false}\n");
}

static void help_page(void *arg, const struct adm_request *q, struct adm_reply *r);

static const struct adm_route standard[] = {
	{15000, "GET", "/", "this list", help_page, NULL},
	{15000, "GET", "/help", "this list", help_page, NULL},
	{15000, "GET", "/status", "agent, data plane, configuration and snapshot (JSON)", status_page, NULL},
	{15000, "GET", "/config_dump", "the snapshot as it was sent (JSON)", config_dump_page, NULL},
	{15000, "GET", "/diagnostics", "what the configuration's last reading said; ?format=json", diagnostics_page, NULL},
	{15000, "GET", "/perf", "where cycles go and what to tune: a page for a browser", perf_page, NULL},
	{15000, "GET", "/perf.json", "what that page draws, worker by worker (JSON)", perf_json_page, NULL},
	{15000, "GET", "/ready", "200 when the data plane serves a snapshot", ready_page, NULL},
	{15000, "GET", "/stats/prometheus", "all metrics", prometheus_page, NULL},
	{15090, "GET", "/stats/prometheus", "all metrics, where Istio's scrapers look", prometheus_page, NULL},
	{15090, "GET", "/metrics", "all metrics", prometheus_page, NULL},
	{15021, "GET", "/healthz/ready", "200 when the data plane serves a snapshot", ready_page, NULL},
	{15021, "GET", "/healthz/live", "200 unless a worker of the data plane stands still", live_page, NULL},
};
static_assert(FOIL_COUNT_OF(standard) <= ADM_STANDARD_MAX, "a caller has room for them all");

static void help_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	(void)arg;
	(void)q;
	for (size_t i = 0; i < FOIL_COUNT_OF(standard); i++)
		adm_reply_printf(r, "%5u  %-4s %-20s %s\n", standard[i].port, standard[i].method, standard[i].path, standard[i].help);
}

size_t adm_standard_routes(struct adm_route *out, const struct adm_sources *src)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(standard); i++) {
		out[i] = standard[i];
		out[i].arg = (void *)(uintptr_t)src; /* handlers only read it */
	}
	return FOIL_COUNT_OF(standard);
}
