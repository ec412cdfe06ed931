/* What explain writes: lines for people, and of each line that is a step of the way what it is and where in the files it comes from. */
#include "ctrl/istio/explain_priv.h"

#include <stdlib.h>
#include <string.h>

const char *istio_explain_seconds(uint64_t us, char *out, size_t n)
{
	(void)snprintf(out, n, "%g s", (double)us / 1e6); /* fits */
	return out;
}

const struct istio_resource *istio_explain_find(const struct istio_snapshot *s, uint32_t type, const char *name)
{
	for (size_t i = 0; i < s->n_resources; i++)
		if (s->resources[i].type == type && strcmp(s->resources[i].name, name) == 0)
			return &s->resources[i];
	return NULL;
}

/* Of the line that is being written. No memory: the whole answer is dropped at the end. */
static struct istio_step *step_of_line(struct explain *x, const char *kind, const char *verdict)
{
	long at = ftell(x->out);
	struct istio_step *more = x->is_short || at < 0 ? NULL : realloc(x->steps.list, sizeof(*more) * (x->steps.n + 1));

	if (!more) {
		x->is_short = true;
		return NULL;
	}
	x->steps.list = more;
	more += x->steps.n++;
	*more = (struct istio_step){.kind = kind, .verdict = verdict, .at = (size_t)at};
	return more;
}

void istio_explain_step(struct explain *x, const char *kind, const char *verdict)
{
	(void)step_of_line(x, kind, verdict); /* kept in x */
}

void istio_explain_source(struct explain *x, const Foil__Conf__SourceRef *s)
{
	struct istio_step *last = NULL;

	if (!s || !s->resource)
		return;
	if (x->steps.n && !x->is_short) {
		last = &x->steps.list[x->steps.n - 1];
		last->resource = strdup(s->resource);
		last->file = strdup(s->file ? s->file : "");
		last->line = s->line;
		last->column = s->column;
		x->is_short = !last->resource || !last->file;
	}
	if (s->file && s->file[0])
		fprintf(x->out, " (%s at %s:%u:%u)", s->resource, s->file, s->line, s->column);
	else
		fprintf(x->out, " (%s)", s->resource);
	if (last)
		last->reason_at = (size_t)ftell(x->out); /* where there is one */
}

void istio_explain_place(struct explain *x, const struct resource *r, struct istio_pos at)
{
	Foil__Conf__SourceRef s = FOIL__CONF__SOURCE_REF__INIT;

	s.resource = (char *)(uintptr_t)r->id; /* only read */
	s.file = (char *)(uintptr_t)r->file_name;
	s.line = at.line;
	s.column = at.column;
	istio_explain_source(x, &s);
}

/* Every step begins its line, behind the indentation. */
void istio_explain_finish(struct istio_steps *steps, const char *text)
{
	for (size_t i = 0; i < steps->n; i++) {
		struct istio_step *s = &steps->list[i];
		size_t end = s->at;
		while (s->at && text[s->at - 1] != '\n')
			s->at--;
		while (text[s->at] == ' ') {
			s->at++;
			s->depth++;
		}
		while (text[end] && text[end] != '\n')
			end++;
		s->depth /= 2;
		s->n = end - s->at;
		if (s->reason_at && strncmp(text + s->reason_at, ": ", 2) == 0)
			s->n_reason = end - (s->reason_at += 2);
	}
}

void istio_steps_fini(struct istio_steps *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->list[i].resource);
		free(s->list[i].file);
	}
	free(s->list);
	*s = (struct istio_steps){0};
}
