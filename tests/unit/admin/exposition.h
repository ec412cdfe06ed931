/* A strict checker of Prometheus's text format 0.0.4, written from its documentation and from what scrapers refuse: names, labels, escapes, values; one
 * TYPE a metric and before its samples; a metric's samples in one group; no sample twice; histograms cumulative, complete and with their +Inf. */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPO_METRICS_MAX 4096
#define EXPO_NAME_BYTES 256

struct expo {
	char names[EXPO_METRICS_MAX][EXPO_NAME_BYTES]; /* metrics whose group began */
	char type[16];                                 /* of the newest */
	size_t n_names, n_samples;
	/* the histogram under way */
	char labels[8192];
	double last_le, last_count;
	bool has_inf;
	const char *fault;
	char line[512];
};

static inline bool expo_is_name(const char *s, size_t n, bool colons)
{
	for (size_t i = 0; i < n; i++) {
		bool alpha = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || s[i] == '_' || (colons && s[i] == ':');
		if (!alpha && !(i && s[i] >= '0' && s[i] <= '9'))
			return false;
	}
	return n > 0;
}

static inline bool expo_fail(struct expo *x, const char *why, const char *line, size_t n)
{
	x->fault = why;
	(void)snprintf(x->line, sizeof(x->line), "%.*s", (int)(n < 400 ? n : 400), line);
	return false;
}

/* # HELP name text, # TYPE name type */
static inline bool expo_comment(struct expo *x, const char *line, size_t n)
{
	bool is_type = n > 7 && memcmp(line, "# TYPE ", 7) == 0;
	if (!is_type && !(n > 7 && memcmp(line, "# HELP ", 7) == 0))
		return expo_fail(x, "neither HELP nor TYPE", line, n);
	const char *name = line + 7, *space = memchr(name, ' ', n - 7);
	size_t n_name = space ? (size_t)(space - name) : 0;
	if (!expo_is_name(name, n_name, true) || n_name >= EXPO_NAME_BYTES)
		return expo_fail(x, "bad name in comment", line, n);
	if (!is_type) {
		for (const char *c = space + 1; c < line + n; c++)
			if (*c == '\\' && (++c == line + n || (*c != '\\' && *c != 'n')))
				return expo_fail(x, "bad escape in HELP", line, n);
		return true;
	}
	size_t n_type = n - 7 - n_name - 1;
	if (x->n_names && strcmp(x->type, "histogram") == 0 && x->labels[0] && !x->has_inf)
		return expo_fail(x, "histogram without +Inf before", line, n);
	x->labels[0] = 0;
	static const char *const types[] = {"counter", "gauge", "histogram"};
	bool is_known = false;
	for (size_t i = 0; i < 3; i++)
		is_known |= strlen(types[i]) == n_type && memcmp(types[i], space + 1, n_type) == 0;
	if (!is_known)
		return expo_fail(x, "bad type", line, n);
	for (size_t i = 0; i < x->n_names; i++)
		if (strlen(x->names[i]) == n_name && memcmp(x->names[i], name, n_name) == 0)
			return expo_fail(x, "a metric's second group", line, n);
	if (x->n_names == EXPO_METRICS_MAX)
		return expo_fail(x, "too many metrics for this checker", line, n);
	memcpy(x->names[x->n_names], name, n_name);
	x->names[x->n_names++][n_name] = 0;
	memcpy(x->type, space + 1, n_type);
	x->type[n_type] = 0;
	return true;
}

/* {a="b",c="d"}; returns the length with braces, 0 when bad. le is taken out of what is copied to labels. */
static inline size_t expo_labels(const char *s, size_t n, char *labels, size_t n_room, double *le, bool *has_le)
{
	size_t i = 1, out = 0;
	const char *names[64];
	size_t lens[64], n_names = 0;
	*has_le = false;
	while (i < n && s[i] != '}') {
		size_t from = i;
		while (i < n && s[i] != '=')
			i++;
		size_t n_name = i - from;
		if (!expo_is_name(s + from, n_name, false) || i + 1 >= n || s[i + 1] != '"' || n_names == 64)
			return 0;
		for (size_t k = 0; k < n_names; k++)
			if (lens[k] == n_name && memcmp(names[k], s + from, n_name) == 0)
				return 0; /* twice */
		names[n_names] = s + from;
		lens[n_names++] = n_name;
		size_t value = i += 2;
		for (; i < n && s[i] != '"'; i++)
			if (s[i] == '\n' || (s[i] == '\\' && (++i == n || (s[i] != '\\' && s[i] != '"' && s[i] != 'n'))))
				return 0;
		if (i >= n)
			return 0;
		bool is_le = n_name == 2 && memcmp(s + from, "le", 2) == 0;
		if (is_le) {
			char text[64];
			char *end;
			if (i - value >= sizeof(text))
				return 0;
			memcpy(text, s + value, i - value);
			text[i - value] = 0;
			*le = strcmp(text, "+Inf") == 0 ? INFINITY : strtod(text, &end);
			*has_le = true;
		} else if (out + (i - from) + 2 < n_room) {
			memcpy(labels + out, s + from, i + 1 - from);
			out += i + 1 - from;
		} else {
			return 0;
		}
		i++;
		if (i < n && s[i] == ',')
			i++;
		else if (i >= n || s[i] != '}')
			return 0;
	}
	labels[out] = 0;
	return i < n ? i + 1 : 0;
}

static inline bool expo_sample(struct expo *x, const char *line, size_t n)
{
	size_t n_name = 0;
	char labels[8192] = "", number[64];
	double le = 0, value;
	bool has_le = false;
	while (n_name < n && line[n_name] != '{' && line[n_name] != ' ')
		n_name++;
	if (!expo_is_name(line, n_name, true))
		return expo_fail(x, "bad name", line, n);
	size_t at = n_name;
	if (at < n && line[at] == '{') {
		size_t k = expo_labels(line + at, n - at, labels, sizeof(labels), &le, &has_le);
		if (!k)
			return expo_fail(x, "bad labels", line, n);
		at += k;
	}
	if (at + 1 >= n || line[at] != ' ' || n - at - 1 >= sizeof(number))
		return expo_fail(x, "no value", line, n);
	memcpy(number, line + at + 1, n - at - 1);
	number[n - at - 1] = 0;
	char *end;
	value = strtod(number, &end);
	if (*end || end == number)
		return expo_fail(x, "bad value", line, n);
	const char *metric = x->n_names ? x->names[x->n_names - 1] : "";
	size_t n_metric = strlen(metric);
	if (!n_metric || n_name < n_metric || memcmp(line, metric, n_metric) != 0)
		return expo_fail(x, "a sample outside of its metric's group", line, n);
	char suffix[EXPO_NAME_BYTES];
	(void)snprintf(suffix, sizeof(suffix), "%.*s", (int)(n_name - n_metric), line + n_metric);
	x->n_samples++;
	if (strcmp(x->type, "histogram") != 0) {
		if (suffix[0] || has_le || (strcmp(x->type, "counter") == 0 && (value < 0 || strchr(number, '-'))))
			return expo_fail(x, "not a sample of that type", line, n);
		return true;
	}
	if (strcmp(suffix, "_bucket") == 0) {
		if (!has_le)
			return expo_fail(x, "bucket without le", line, n);
		bool is_new = strcmp(x->labels, labels) != 0 || x->has_inf;
		if (is_new) {
			(void)snprintf(x->labels, sizeof(x->labels), "%s", labels[0] ? labels : "-");
			x->last_le = -INFINITY;
			x->last_count = 0;
			x->has_inf = false;
		}
		if (le <= x->last_le || value < x->last_count)
			return expo_fail(x, "buckets do not rise", line, n);
		x->last_le = le;
		x->last_count = value;
		x->has_inf = isinf(le);
		return true;
	}
	if (!x->has_inf || (strcmp(suffix, "_sum") != 0 && strcmp(suffix, "_count") != 0))
		return expo_fail(x, "not a sample of a histogram", line, n);
	if (strcmp(suffix, "_count") == 0 && value != x->last_count)
		return expo_fail(x, "count is not the +Inf bucket", line, n);
	return true;
}

static int expo_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* No two samples have the same name and labels. */
static inline bool expo_is_unique(struct expo *x, const char *text, size_t n_bytes)
{
	char **keys = calloc(x->n_samples + 1, sizeof(*keys));
	size_t n = 0;
	bool is_unique = true;
	for (const char *at = text; at < text + n_bytes;) {
		const char *end = memchr(at, '\n', (size_t)(text + n_bytes - at)), *value = end;
		while (value > at && *value != ' ')
			value--;
		if (*at != '#' && n < x->n_samples)
			keys[n++] = strndup(at, (size_t)(value - at));
		at = end + 1;
	}
	qsort(keys, n, sizeof(*keys), expo_compare);
	for (size_t i = 1; i < n && is_unique; i++)
		if (strcmp(keys[i], keys[i - 1]) == 0)
			is_unique = expo_fail(x, "a sample twice", keys[i], strlen(keys[i]));
	for (size_t i = 0; i < n; i++)
		free(keys[i]);
	free(keys);
	return is_unique;
}

/* True, or x->fault and x->line say what is wrong. */
static inline bool expo_check(struct expo *x, const char *text, size_t n_bytes)
{
	memset(x, 0, sizeof(*x));
	for (const char *at = text; at < text + n_bytes;) {
		const char *end = memchr(at, '\n', (size_t)(text + n_bytes - at));
		if (!end)
			return expo_fail(x, "the last line has no end", at, (size_t)(text + n_bytes - at));
		size_t n = (size_t)(end - at);
		if (n && !(at[0] == '#' ? expo_comment(x, at, n) : expo_sample(x, at, n)))
			return false;
		at = end + 1;
	}
	return expo_is_unique(x, text, n_bytes);
}
