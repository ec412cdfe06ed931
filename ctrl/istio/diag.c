/* Diagnostics: kept, counted, sorted, printed. */
#include "ctrl/istio/istio.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 1024

void istio_diags_init(struct istio_diags *d)
{
	*d = (struct istio_diags){0};
}

static void diag_fini(struct istio_diag *d)
{
	free((char *)(uintptr_t)d->code); /* the list made them */
	free((char *)(uintptr_t)d->file);
	free((char *)(uintptr_t)d->resource);
	free((char *)(uintptr_t)d->field);
	free((char *)(uintptr_t)d->text);
}

void istio_diags_fini(struct istio_diags *d)
{
	for (size_t i = 0; i < d->n; i++)
		diag_fini(&d->list[i]);
	free(d->list);
	*d = (struct istio_diags){0};
}

static bool make_room(struct istio_diags *d)
{
	if (d->n == ISTIO_DIAGS_MAX)
		return false;
	if (d->n < d->n_allocated)
		return true;
	size_t room = d->n_allocated ? d->n_allocated * 2 : 16;
	struct istio_diag *more = realloc(d->list, sizeof(*more) * room);
	if (!more)
		return false;
	d->list = more;
	d->n_allocated = room;
	return true;
}

void istio_diags_add(struct istio_diags *d, enum istio_severity severity, const char *code, const char *file, struct istio_pos at, const char *resource,
		     const char *field, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list ap;

	if (severity == ISTIO_ERROR)
		d->n_errors++;
	else if (severity == ISTIO_WARNING)
		d->n_warnings++;
	if (!make_room(d)) {
		d->n_dropped++;
		return;
	}
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* a longer sentence is cut */
	va_end(ap);
	struct istio_diag one = {severity, strdup(code), strdup(file ? file : ""), at, strdup(resource ? resource : ""), strdup(field ? field : ""),
				 strdup(text)};
	if (!one.code || !one.file || !one.resource || !one.field || !one.text) {
		diag_fini(&one);
		d->n_dropped++;
		return;
	}
	d->list[d->n++] = one;
}

static int compare(const void *x, const void *y)
{
	const struct istio_diag *a = x, *b = y;
	int by = strcmp(a->file, b->file);

	if (by == 0 && a->at.line != b->at.line)
		by = a->at.line < b->at.line ? -1 : 1;
	if (by == 0 && a->at.column != b->at.column)
		by = a->at.column < b->at.column ? -1 : 1;
	if (by == 0 && a->severity != b->severity)
		by = a->severity < b->severity ? -1 : 1;
	return by ? by : strcmp(a->text, b->text);
}

void istio_diags_sort(struct istio_diags *d)
{
	if (d->n)
		qsort(d->list, d->n, sizeof(*d->list), compare);
}

const char *istio_severity_name(enum istio_severity s)
{
	static const char *const names[] = {[ISTIO_ERROR] = "error", [ISTIO_WARNING] = "warning", [ISTIO_INFO] = "note"};

	return names[s];
}

int istio_diag_format(const struct istio_diag *d, char *out, size_t n_out)
{
	char where[32] = "";

	if (d->at.line)
		(void)snprintf(where, sizeof(where), "%u:%u:", d->at.line, d->at.column); /* two numbers fit */
	return snprintf(out, n_out, "%s%s%s%s%s: %s%s%s%s%s [%s]", d->file, d->file[0] ? ":" : "", where, d->file[0] || where[0] ? " " : "",
			istio_severity_name(d->severity), d->resource, d->resource[0] ? ": " : "", d->field, d->field[0] ? ": " : "", d->text, d->code);
}
