/* What foil-load says: a line a second while it runs, and the result as text and as JSON. */
#include <errno.h>

#include "perf/load/load.h"

static const struct {
	const char *name;
	double share;
} shares[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}, {"p99.999", 0.99999}};

static const char *const works[] = {"http", "newconn", "tcp", "hold"};

static uint64_t errors_sum(const struct load *l)
{
	uint64_t n = 0;

	for (int i = 0; i < LOAD_ERR_COUNT; i++)
		n += l->n_errors[i];
	return n;
}

void load_progress(struct load *l)
{
	double s = (double)(l->now_ns - l->progress_ns) / 1e9;

	if (!l->conf->quiet)
		fprintf(stderr, "%s %5.1f s  %9.0f/s  open %u  p50 %.1f us  p99 %.1f us  errors %llu\n", l->measuring ? "load" : "warm",
			(double)(l->now_ns - l->start_ns) / 1e9, (double)(l->n_done - l->last_done) / s, l->n_open, (double)load_hist_at(&l->hist, 0.5) / 1e3,
			(double)load_hist_at(&l->hist, 0.99) / 1e3, (unsigned long long)errors_sum(l));
	l->last_done = l->n_done;
	l->progress_ns = l->now_ns;
}

static void json_write(const struct load *l, FILE *f)
{
	double s = (double)(l->now_ns - l->measure_ns) / 1e9;

	fprintf(f, "{\"label\": \"%s\", \"work\": \"%s\", \"seconds\": %.6f, \"connections\": %u, \"open\": %u, \"requests\": %llu,\n", l->conf->label,
		works[l->conf->work], s, l->conf->connections, l->n_open, (unsigned long long)l->n_done);
	fprintf(f, " \"requests_per_second\": %.1f, \"connects_per_second\": %.1f, \"bytes_per_second\": %.0f, \"rate\": %.1f,\n", (double)l->n_done / s,
		(double)l->n_connects / s, (double)l->n_bytes / s, l->conf->rate);
	fprintf(f, " \"origin_requests\": %llu, \"busy_share\": %.4f, \"overdue_max\": %llu,\n", (unsigned long long)l->n_origin_requests,
		(double)l->busy_ns / 1e9 / s, (unsigned long long)l->n_overdue_max);
	fprintf(f, " \"handshakes\": %llu, \"resumed\": %llu,\n", (unsigned long long)l->n_handshakes, (unsigned long long)l->n_resumed);
	fprintf(f, " \"own_us\": {\"p50\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f, \"max\": %.3f},\n", (double)load_hist_at(&l->own, 0.5) / 1e3,
		(double)load_hist_at(&l->own, 0.99) / 1e3, (double)load_hist_at(&l->own, 0.999) / 1e3, (double)l->own.max_ns / 1e3);
	fprintf(f, " \"clear_us\": {\"p50\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f, \"p99.99\": %.3f, \"max\": %.3f},\n",
		(double)load_hist_at(&l->clear, 0.5) / 1e3, (double)load_hist_at(&l->clear, 0.99) / 1e3, (double)load_hist_at(&l->clear, 0.999) / 1e3,
		(double)load_hist_at(&l->clear, 0.9999) / 1e3, (double)l->clear.max_ns / 1e3);
	fprintf(f, " \"clear_share\": %.5f, \"off_share\": %.5f,\n", l->hist.n ? (double)l->clear.n / (double)l->hist.n : 0, (double)l->off_ns / 1e9 / s);
	fprintf(f, " \"errors\": {");
	for (int i = 0; i < LOAD_ERR_COUNT; i++)
		fprintf(f, "%s\"%s\": %llu", i ? ", " : "", load_error_names[i], (unsigned long long)l->n_errors[i]);
	fprintf(f, "},\n \"latency_us\": {\"min\": %.3f, \"mean\": %.3f, \"max\": %.3f", (double)l->hist.min_ns / 1e3,
		l->hist.n ? (double)l->hist.sum_ns / (double)l->hist.n / 1e3 : 0, (double)l->hist.max_ns / 1e3);
	for (size_t i = 0; i < FOIL_COUNT_OF(shares); i++)
		fprintf(f, ", \"%s\": %.3f", shares[i].name, (double)load_hist_at(&l->hist, shares[i].share) / 1e3);
	fprintf(f, "}}\n");
}

int load_report(const struct load *l)
{
	double s = (double)(l->now_ns - l->measure_ns) / 1e9;
	FILE *f = l->conf->json ? fopen(l->conf->json, "we") : NULL;

	if (!l->measuring) {
		fprintf(stderr, "foil-load: nothing was measured: no answer within ten seconds\n");
		return -ETIMEDOUT;
	}
	if (l->conf->json && !f) {
		fprintf(stderr, "foil-load: %s: %s\n", l->conf->json, strerror(errno));
		return -errno;
	}
	printf("%s: %llu in %.2f s: %.0f/s, %.3f Gbit/s, errors %llu\n", works[l->conf->work], (unsigned long long)l->n_done, s, (double)l->n_done / s,
	       (double)l->n_bytes * 8 / s / 1e9, (unsigned long long)errors_sum(l));
	for (size_t i = 0; i < FOIL_COUNT_OF(shares); i++)
		printf("  %-8s %10.1f us\n", shares[i].name, (double)load_hist_at(&l->hist, shares[i].share) / 1e3);
	if (l->own.n)
		printf("  of that the load generator's own: p50 %.1f, p99 %.1f, p99.9 %.1f us\n", (double)load_hist_at(&l->own, 0.5) / 1e3,
		       (double)load_hist_at(&l->own, 0.99) / 1e3, (double)load_hist_at(&l->own, 0.999) / 1e3);
	if (l->clear.n)
		printf("  where the load generator was on its core from due to answered, %.1f %% of them: p50 %.1f, p99 %.1f, p99.9 %.1f us\n",
		       100 * (double)l->clear.n / (double)l->hist.n, (double)load_hist_at(&l->clear, 0.5) / 1e3, (double)load_hist_at(&l->clear, 0.99) / 1e3,
		       (double)load_hist_at(&l->clear, 0.999) / 1e3);
	if (!f)
		return 0;
	json_write(l, f);
	return fclose(f) ? -errno : 0;
}
