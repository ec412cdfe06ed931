/* Metrics that the agent exposes: all that the data plane's segment has, and the agent's own. The segment is asked for when it is needed first and kept as
 * long as the same data plane is connected; when there is none, the agent's own metrics still come. */
#include "programs/foil_agent.h"

#include <string.h>
#include <unistd.h>

#include "channel.pb-c.h"
#include "ctrl/admin/prometheus.h"
#include "programs/log.h"

#define HANDOVER_MS 500

void agent_stats_forget(struct agent *a)
{
	tele_reader_free(a->reader);
	a->reader = NULL;
}

static struct tele_reader *open_reader(struct agent *a)
{
	struct foil_error err = {0};
	int fd = tele_handover_connect(a->options.stats_path, HANDOVER_MS, &err);
	struct tele_reader *r = fd < 0 ? NULL : tele_reader_new(fd, &err);
	if (fd >= 0)
		(void)close(fd); /* the mapping holds the memory */
	if (!r) {
		if (a->n.n_stats_failures++ == 0 || ring_sender_is_connected(a->sender))
			log_line(LOG_LEVEL_WARNING, "stats.unavailable", "%s", err.text);
	}
	return r;
}

static void data_plane(struct agent *a, struct adm_prometheus *p)
{
	struct tele_reader *r = a->reader ? a->reader : open_reader(a);
	a->reader_stats = (struct tele_reader_stats){0};
	if (!r)
		return;
	if (tele_reader_scan(r, adm_prometheus_sample, p, &a->reader_stats) < 0)
		a->n.n_stats_failures++;
	if (ring_sender_is_connected(a->sender))
		a->reader = r;
	else
		tele_reader_free(r); /* nobody tells us when this data plane ends */
}

static void rejected_resources(const struct agent *a, struct adm_prometheus *p)
{
	for (size_t i = 0; i < a->diags.n; i++) {
		const struct istio_diag *d = &a->diags.list[i];
		bool is_told = false;
		if (d->severity != ISTIO_ERROR)
			continue;
		for (size_t j = 0; j < i && !is_told; j++) /* at most ISTIO_DIAGS_MAX squared, and a page nobody asks for often */
			is_told = a->diags.list[j].severity == ISTIO_ERROR && strcmp(a->diags.list[j].resource, d->resource) == 0 &&
				  (d->resource[0] || strcmp(a->diags.list[j].file, d->file) == 0);
		if (!is_told)
			adm_prometheus_gauge(p, "foil_agent_config_rejected", "Resources, or files, that the newest reading refused", "resource",
					     d->resource[0] ? d->resource : d->file, 1);
	}
}

static const char *state_word(enum adm_snapshot_state s)
{
	switch (s) {
	case ADM_SNAPSHOT_NONE: return "none";
	case ADM_SNAPSHOT_PENDING: return "pending";
	case ADM_SNAPSHOT_APPLIED: return "applied";
	case ADM_SNAPSHOT_REJECTED: return "rejected";
	}
	FOIL_UNREACHABLE();
}

static void configuration(const struct agent *a, struct adm_prometheus *p)
{
	const struct src_dir_stats *st = &a->read_stats;
	adm_prometheus_counter(p, "foil_agent_config_readings_total", "Readings of the configuration", NULL, NULL, a->n.n_readings);
	adm_prometheus_counter(p, "foil_agent_config_failed_readings_total", "Readings in which nothing could run", NULL, NULL, a->n.n_failed_readings);
	adm_prometheus_counter(p, "foil_agent_config_compiles_total", "Compiles of a model to a snapshot", NULL, NULL, a->n.n_compiles);
	adm_prometheus_counter(p, "foil_agent_config_patches_total", "Changes of endpoints alone that needed no compile", NULL, NULL, a->n.n_patches);
	adm_prometheus_gauge(p, "foil_agent_config_files", "Files of the newest reading", NULL, NULL, (int64_t)st->n_files);
	adm_prometheus_gauge(p, "foil_agent_config_stale_files", "Files unreadable now, whose last good contents are in use", NULL, NULL,
			     (int64_t)st->n_stale_files);
	adm_prometheus_gauge(p, "foil_agent_config_resources", "Resources accepted", NULL, NULL, (int64_t)st->n_resources);
	adm_prometheus_gauge(p, "foil_agent_config_refused_resources", "Resources refused", NULL, NULL, (int64_t)st->n_refused);
	adm_prometheus_gauge(p, "foil_agent_config_errors", "Errors of the newest reading", NULL, NULL, (int64_t)a->diags.n_errors);
	adm_prometheus_gauge(p, "foil_agent_config_warnings", "Warnings of the newest reading", NULL, NULL, (int64_t)a->diags.n_warnings);
	rejected_resources(a, p);
}

static void channel(const struct agent *a, struct adm_prometheus *p)
{
	adm_prometheus_gauge(p, "foil_agent_connected", "1 while the data plane is connected", NULL, NULL, ring_sender_is_connected(a->sender));
	adm_prometheus_counter(p, "foil_agent_connects_total", "Connections to a data plane", NULL, NULL, a->n.n_connects);
	adm_prometheus_counter(p, "foil_agent_events_total", "Events that data planes told", NULL, NULL, a->n.n_events);
	adm_prometheus_counter(p, "foil_agent_snapshots_applied_total", "Updates that a data plane applied", NULL, NULL, a->n.n_applied);
	adm_prometheus_counter(p, "foil_agent_snapshots_rejected_total", "Updates that a data plane rejected", NULL, NULL, a->n.n_rejected);
	for (unsigned int s = 0; s <= ADM_SNAPSHOT_REJECTED; s++)
		adm_prometheus_gauge(p, "foil_agent_snapshot_state", "1 for the state of the newest configuration's snapshot", "state",
				     state_word((enum adm_snapshot_state)s), a->outcome.state == (enum adm_snapshot_state)s);
	if (a->snapshot) {
		adm_prometheus_gauge(p, "foil_agent_snapshot_resources", "Resources of the newest snapshot", NULL, NULL,
				     (int64_t)a->snapshot->n_resources);
		adm_prometheus_gauge(p, "foil_agent_snapshot_bytes", "Bytes of the newest snapshot", NULL, NULL, (int64_t)a->snapshot->n_bytes);
	}
}

static void itself(const struct agent *a, struct adm_prometheus *p)
{
	struct adm_counters c = adm_counters(a->admin);
	adm_prometheus_gauge(p, "foil_agent_stats_left_out_samples", "Samples that this page leaves out: it would be too large", NULL, NULL,
			     (int64_t)p->n_left_out);
	adm_prometheus_gauge(p, "foil_agent_start_time_seconds", "When the agent started, Unix time", NULL, NULL, (int64_t)(a->start_wall_ms / 1000));
	adm_prometheus_counter(p, "foil_agent_http_connections_total", "HTTP connections accepted", NULL, NULL, c.n_accepted);
	adm_prometheus_counter(p, "foil_agent_http_requests_total", "HTTP requests answered", NULL, NULL, c.n_requests);
	adm_prometheus_counter(p, "foil_agent_http_refused_connections_total", "HTTP connections refused: too many", NULL, NULL, c.n_refused_connections);
	adm_prometheus_counter(p, "foil_agent_http_bad_requests_total", "HTTP requests that were malformed", NULL, NULL, c.n_bad_requests);
	adm_prometheus_counter(p, "foil_agent_http_timeouts_total", "HTTP connections closed for being slow", NULL, NULL, c.n_timeouts);
	adm_prometheus_counter(p, "foil_agent_stats_failures_total", "Scrapes without the data plane's metrics", NULL, NULL, a->n.n_stats_failures);
	adm_prometheus_gauge(p, "foil_agent_stats_torn_series", "Series that the newest scrape left out: their writer was busy with them", NULL, NULL,
			     a->reader_stats.n_torn);
	adm_prometheus_gauge(p, "foil_agent_stats_invalid_series", "Entries of the metrics segment that break its rules, left out", NULL, NULL,
			     a->reader_stats.n_invalid);
}

void agent_stats(void *arg, struct adm_reply *r)
{
	struct agent *a = arg;
	struct adm_prometheus p = {.reply = r};
	data_plane(a, &p);
	configuration(a, &p);
	channel(a, &p);
	agent_ca_metrics(a, &p);
	agent_dns_metrics(a, &p);
	itself(a, &p);
}
