/* /perf.json: the data plane's fixed cells worker by worker, and the latency of requests as one histogram. Differences and rates are the reader's
 * business, so that any number of readers may look, each at its own pace.
 *
 *   {"connected": true, "generation": N, "workers": N, "wall_ms": N,
 *    "cells": {"foil_core_busy_cycles_total": [worker 0, worker 1, .., housekeeping], "foil_tcp_drops_total{reason=paws_old}": [..], ..},
 *    "latency": {"bounds_ms": [..], "counts": [.. one more: above all bounds], "sum_ms": X}} */
#include "programs/foil_agent_perf.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "programs/foil_agent.h"

#define HANDOVER_MS 500
#define BUCKETS_MAX 64u

struct out {
	struct adm_reply *r;
	bool has_one;
};

struct latency {
	uint32_t n;
	double bounds[BUCKETS_MAX], sum;
	uint64_t counts[BUCKETS_MAX + 1];
};

struct tele_reader *agent_reader(struct agent *a)
{
	struct foil_error err = {0};
	if (a->reader)
		return a->reader;
	int fd = tele_handover_connect(a->options.stats_path, HANDOVER_MS, &err);
	struct tele_reader *r = fd < 0 ? NULL : tele_reader_new(fd, &err);
	if (fd >= 0)
		(void)close(fd); /* the mapping holds the memory */
	if (r && ring_sender_is_connected(a->sender))
		a->reader = r;
	return r;
}

static void one_cell(void *arg, const struct tele_sample *s, const uint64_t *by_slot, uint32_t n_slots)
{
	struct out *o = arg;
	char name[512];
	bool moved = s->value != 0;
	for (uint32_t i = 0; i < n_slots && !moved; i++)
		moved = by_slot[i] != 0;
	if (!moved)
		return; /* most reasons never happen */
	int n = snprintf(name, sizeof(name), "%.*s", (int)FOIL_MIN(s->name.n_bytes, 200u), s->name.data);
	if (s->n_labels)
		n += snprintf(name + n, sizeof(name) - (size_t)n, "{%.*s=%.*s}", (int)FOIL_MIN(s->labels->name.n_bytes, 100u), s->labels->name.data,
			      (int)FOIL_MIN(s->labels->value.n_bytes, 100u), s->labels->value.data);
	adm_reply_printf(o->r, o->has_one ? ",\n" : "\n");
	o->has_one = true;
	adm_reply_json(o->r, name, (size_t)n);
	for (uint32_t i = 0; i < n_slots; i++) {
		if (s->kind == TELE_SEGMENT_GAUGE)
			adm_reply_printf(o->r, "%s%" PRId64, i ? ", " : ": [", (int64_t)by_slot[i]);
		else
			adm_reply_printf(o->r, "%s%" PRIu64, i ? ", " : ": [", by_slot[i]);
	}
	adm_reply_printf(o->r, n_slots ? "]" : ": []");
}

static void one_latency(void *arg, const struct tele_sample *s)
{
	struct latency *l = arg;
	if (s->kind != TELE_SEGMENT_HISTOGRAM || !foil_slice_eq(s->name, FOIL_SLICE("istio_request_duration_milliseconds")) || s->n_buckets > BUCKETS_MAX)
		return;
	l->n = s->n_buckets; /* the same for every series of the family */
	for (uint32_t i = 0; i < s->n_buckets; i++)
		l->bounds[i] = s->bounds[i];
	for (uint32_t i = 0; i <= s->n_buckets; i++)
		l->counts[i] += s->counts[i];
	l->sum += s->sum;
}

static void latency_put(struct adm_reply *r, const struct latency *l)
{
	adm_reply_printf(r, "\n}, \"latency\": {\"bounds_ms\": [");
	for (uint32_t i = 0; i < l->n; i++)
		adm_reply_printf(r, "%s%g", i ? ", " : "", l->bounds[i]);
	adm_reply_printf(r, "], \"counts\": [");
	for (uint32_t i = 0; l->n && i <= l->n; i++)
		adm_reply_printf(r, "%s%" PRIu64, i ? ", " : "", l->counts[i]);
	adm_reply_printf(r, "], \"sum_ms\": %.3f}}\n", l->sum);
}

void agent_perf(void *arg, struct adm_reply *r)
{
	struct agent *a = arg;
	struct tele_reader *reader = agent_reader(a);
	struct tele_reader_stats stats = {0};
	struct latency latency = {0};
	struct out o = {.r = r};
	struct timespec wall;
	if (!reader) {
		adm_reply_printf(r, "{\"connected\": false}\n");
		return;
	}
	(void)clock_gettime(CLOCK_REALTIME, &wall); /* it cannot fail with a clock that exists */
	adm_reply_printf(r, "{\"connected\": true, \"generation\": %" PRIu64 ", \"workers\": %u, \"wall_ms\": %" PRIu64 ", \"cells\": {",
			 tele_reader_generation(reader) & 0x1fffffffffffff, tele_reader_workers(reader), /* a number that JavaScript can hold */
			 (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000);
	tele_reader_cells(reader, one_cell, &o);
	if (tele_reader_scan(reader, one_latency, &latency, &stats) < 0)
		latency.n = 0; /* no memory: the page draws none */
	latency_put(r, &latency);
	if (reader != a->reader)
		tele_reader_free(reader); /* nobody tells us when this data plane ends */
}
