/* What the telemetry tests share: a request as mesh would report it, and look-ups in what a reader says. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "dataplane/telemetry/reader.h"
#include "dataplane/telemetry/shared.h"
#include "tests/unit/support.h"

static const struct tele_peer t_reviews = {.workload = {"reviews-v1", 10}, .workload_namespace = {"shop", 4}, .canonical_service = {"reviews", 7},
					   .canonical_revision = {"v1", 2}, .app = {"reviews", 7}, .version = {"v1", 2},
					   .cluster_id = {"Kubernetes", 10}};
static const struct tele_service t_service = {.host = {"reviews.shop.svc.cluster.local", 30}, .name = {"reviews", 7}, .ns = {"shop", 4}};

static inline struct tele_addr t_addr(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port)
{
	return (struct tele_addr){{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}, port};
}

/* The first line of the judge's recording "addresses". */
static inline struct tele_request t_request(void)
{
	return (struct tele_request){
		.protocol = TELE_PROTOCOL_HTTP, .version = 1, .status = 200, .grpc_status = -1, .method = FOIL_SLICE("GET"), .path = FOIL_SLICE("/"),
		.authority = FOIL_SLICE("web.example.com"), .details = FOIL_SLICE("via_upstream"), .xff = FOIL_SLICE("198.18.0.2"),
		.request_id = FOIL_SLICE("ccdfcb40-4786-40eb-a5ab-215c6e8fe788"), .upstream_service_time = FOIL_SLICE("0"),
		.upstream_cluster = FOIL_SLICE("outbound|8080||one.test"), .upstream_host = t_addr(198, 19, 0, 10, 8080),
		.upstream_local = t_addr(198, 19, 0, 10, 41368), .downstream_local = t_addr(198, 18, 0, 1, 80),
		.downstream_remote = t_addr(198, 18, 0, 2, 43017), .start_wall_us = 1795442260363000ull, .duration_us = 700, .bytes_sent = 15,
		.attempts = 1, .destination = &t_reviews, .service = &t_service, .log = true};
}

struct t_tele {
	struct tele_shared *shared;
	struct foil_worker *w[2];
};

static inline struct tele_shared *t_shared(struct tele_shared_params p)
{
	struct foil_error err = {0};
	p.n_workers = p.n_workers ? p.n_workers : 1;
	struct tele_shared *s = tele_shared_new(&p, &err);
	if (!s)
		fail_msg("%s", err.text);
	return s;
}

static inline struct foil_worker *t_tele_worker(struct tele_shared *s, uint16_t id)
{
	struct foil_error err = {0};
	struct foil_worker *w = t_worker(.id = id, .n_workers = 2);
	if (tele_init(w, s, &err) != 0)
		fail_msg("%s", err.text);
	return w;
}

static inline void t_tele_worker_free(struct foil_worker *w)
{
	tele_fini(w);
	t_worker_free(w);
}

/* The sum of all samples of this name whose labels have every "name=value" in want (separated by spaces), and how many there are. */
struct t_sum {
	const char *name, *want;
	uint64_t value, n_found;
	double sum;
	uint64_t counts[TELE_SEGMENT_BUCKETS_MAX + 1];
};

static inline bool t_has_label(const struct tele_sample *s, const char *pair, size_t n)
{
	char text[512];
	for (uint32_t i = 0; i < s->n_labels; i++) {
		int len = snprintf(text, sizeof(text), "%.*s=%.*s", (int)s->labels[i].name.n_bytes, s->labels[i].name.data,
				   (int)s->labels[i].value.n_bytes, s->labels[i].value.data);
		if ((size_t)len == n && memcmp(text, pair, n) == 0)
			return true;
	}
	return false;
}

static inline void t_sum_one(void *arg, const struct tele_sample *s)
{
	struct t_sum *sum = arg;
	if (!foil_slice_eq(s->name, foil_slice_str(sum->name)))
		return;
	for (const char *at = sum->want; *at;) {
		size_t n = strcspn(at, " ");
		if (!t_has_label(s, at, n))
			return;
		at += n + (at[n] == ' ');
	}
	sum->n_found++;
	sum->value += s->value;
	sum->sum += s->sum;
	for (uint32_t i = 0; s->kind == TELE_SEGMENT_HISTOGRAM && i <= s->n_buckets; i++)
		sum->counts[i] += s->counts[i];
}

static inline struct t_sum t_read(struct tele_shared *s, const char *name, const char *want)
{
	struct t_sum sum = {.name = name, .want = want};
	struct foil_error err = {0};
	struct tele_reader_stats stats;
	struct tele_reader *r = tele_reader_new(tele_segment_fd(s), &err);
	if (!r)
		fail_msg("%s", err.text);
	assert_int_equal(tele_reader_scan(r, t_sum_one, &sum, &stats), 0);
	assert_int_equal(stats.n_invalid, 0);
	assert_int_equal(stats.n_torn, 0);
	tele_reader_free(r);
	return sum;
}
