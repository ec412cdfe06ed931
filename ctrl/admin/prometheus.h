/* The Prometheus text exposition (format 0.0.4) of metric samples: HELP and TYPE once a metric, labels escaped, histograms cumulative. */
#pragma once

#include "ctrl/admin/admin.h"
#include "dataplane/telemetry/reader.h"

#define ADM_PROMETHEUS_NAME_BYTES 256
/* A page with more label sets than anybody can read keeps its counters whole; histograms, 22 lines each, end where it has so many bytes. */
#define ADM_PROMETHEUS_HISTOGRAM_BYTES_MAX (ADM_REPLY_BYTES_MAX / 2)

/* One exposition under construction; begin with {.reply = r}. */
struct adm_prometheus {
	struct adm_reply *reply;
	char last_name[ADM_PROMETHEUS_NAME_BYTES]; /* whose HELP and TYPE are out */
	uint64_t n_samples;                        /* lines with a value */
	uint64_t n_left_out;                       /* names too long, or histograms past ADM_PROMETHEUS_HISTOGRAM_BYTES_MAX */
};

/* For tele_reader_scan: to is a struct adm_prometheus *. Samples of one name must follow one another. */
void adm_prometheus_sample(void *to, const struct tele_sample *s);
/* The agent's own, with at most one label (label NULL: none). */
void adm_prometheus_counter(struct adm_prometheus *p, const char *name, const char *help, const char *label, const char *label_value, uint64_t n);
void adm_prometheus_gauge(struct adm_prometheus *p, const char *name, const char *help, const char *label, const char *label_value, int64_t n);
