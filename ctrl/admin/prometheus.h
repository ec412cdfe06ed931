/* The Prometheus text exposition (format 0.0.4) of metric samples: HELP and TYPE once a metric, labels escaped, histograms cumulative. */
#pragma once

#include "ctrl/admin/admin.h"
#include "dataplane/telemetry/reader.h"

#define ADM_PROMETHEUS_NAME_BYTES 256
#define ADM_PROMETHEUS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* One exposition under construction; begin with {.reply = r}. */
struct adm_prometheus {
	struct adm_reply *reply;
	char last_name[ADM_PROMETHEUS_NAME_BYTES]; /* whose HELP and TYPE are out */
	uint64_t n_samples, n_left_out;            /* left out: names too long */
};

/* For tele_reader_scan: to is a struct adm_prometheus *. Samples of one name must follow one another. */
void adm_prometheus_sample(void *to, const struct tele_sample *s);
/* The agent's own, with at most one label (label NULL: none). */
void adm_prometheus_counter(struct adm_prometheus *p, const char *name, const char *help, const char *label, const char *label_value, uint64_t n);
void adm_prometheus_gauge(struct adm_prometheus *p, const char *name, const char *help, const char *label, const char *label_value, int64_t n);
