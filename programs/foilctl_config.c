/* foilctl validate and explain: a folder of Istio and Kubernetes YAML read and compiled here, by the agent's own code, without an agent.
 * Nothing is sent anywhere. */
#include "programs/foilctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "ctrl/istio/istio.h"
#include "ctrl/source/source.h"

struct compiled {
	struct istio_diags diags;
	struct istio_model *model;
	struct istio_snapshot *snapshot;
	struct src_dir_stats stats;
};

static void compiled_free(struct compiled *c)
{
	if (c->snapshot)
		istio_snapshot_free(c->snapshot);
	if (c->model)
		istio_model_free(c->model);
	istio_diags_fini(&c->diags);
}

/* 0, or 1 after a sentence; then only the diagnostics need compiled_free. */
static int compile(const char *folder, struct compiled *c)
{
	char err[512] = "";
	struct src_dir *dir = src_dir_open(folder, err, sizeof(err));

	*c = (struct compiled){0};
	istio_diags_init(&c->diags);
	if (!dir) {
		fprintf(stderr, "foilctl: %s\n", err);
		return 1;
	}
	c->model = src_dir_read(dir, &c->diags, &c->stats);
	src_dir_close(dir);
	if (!c->model) {
		fprintf(stderr, "foilctl: cannot read %s: no memory\n", folder);
		return 1;
	}
	istio_compile(c->model, &istio_any_node, "validate", &c->snapshot, &c->diags);
	istio_diags_sort(&c->diags);
	return 0;
}

static void print_diags(const struct istio_diags *diags, FILE *to)
{
	char line[2048];

	for (size_t i = 0; i < diags->n; i++) {
		(void)istio_diag_format(&diags->list[i], line, sizeof(line)); /* a longer one is cut */
		fprintf(to, "%s\n", line);
	}
	if (diags->n_dropped)
		fprintf(to, "and %zu more\n", diags->n_dropped);
}

static void print_diags_json(const struct compiled *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->diags.n; i++) {
		const struct istio_diag *d = &c->diags.list[i];
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:s, s:s}", "severity", istio_severity_name(d->severity), "code",
						      d->code, "file", d->file, "line", (int)d->at.line, "column", (int)d->at.column, "resource",
						      d->resource, "field", d->field, "text", d->text));
	}
	json_t *all = json_pack("{s:I, s:I, s:I, s:I, s:o}", "files", (json_int_t)c->stats.n_files, "resources", (json_int_t)c->stats.n_resources,
				"errors", (json_int_t)c->diags.n_errors, "warnings", (json_int_t)c->diags.n_warnings, "diagnostics", list);
	(void)json_dumpf(all, stdout, JSON_INDENT(1)); /* a closed stdout is nobody's news */
	puts("");
	json_decref(all);
}

int foilctl_validate(int argc, char **argv)
{
	bool as_json = foilctl_flag(&argc, argv, "--json");
	struct compiled c;

	if (foilctl_unknown(argc, argv, "validate DIR [--json]"))
		return 2;
	if (argc != 2) {
		fputs("usage: foilctl validate DIR [--json]\n", stderr);
		return 2;
	}
	int rc = compile(argv[1], &c);
	if (rc == 0) {
		if (as_json) {
			print_diags_json(&c);
		} else {
			print_diags(&c.diags, stdout);
			printf("%s: %zu files, %zu resources, %zu errors, %zu warnings\n", argv[1], c.stats.n_files, c.stats.n_resources,
			       c.diags.n_errors, c.diags.n_warnings);
		}
		rc = c.diags.n_errors ? 1 : 0;
	}
	compiled_free(&c);
	return rc;
}

/* ---- explain ---- */

#define HEADERS_MAX 64

struct question {
	struct istio_request request;
	const char *names[HEADERS_MAX], *values[HEADERS_MAX];
	char scheme[16], authority[512];
};

static bool take_headers(int *argc, char **argv, struct question *q)
{
	char *text;

	while ((text = (char *)(uintptr_t)foilctl_option(argc, argv, "-H"))) { /* points into argv, which is ours to cut */
		char *colon = strchr(text, ':');
		if (!colon || q->request.n_headers == HEADERS_MAX) {
			fprintf(stderr, "foilctl explain: -H 'NAME: VALUE', at most %d times; not \"%s\"\n", HEADERS_MAX, text);
			return false;
		}
		*colon = 0;
		q->names[q->request.n_headers] = text;
		q->values[q->request.n_headers++] = colon + 1 + strspn(colon + 1, " \t");
		if (strcasecmp(text, "host") == 0)
			q->request.authority = q->values[--q->request.n_headers];
	}
	q->request.header_names = q->names;
	q->request.header_values = q->values;
	return true;
}

/* http://authority[:port]/path, or authority[:port]/path, or /path. */
static bool take_url(const char *url, struct question *q)
{
	const char *at = strstr(url, "://");
	size_t n = at ? (size_t)(at - url) : 0;

	if (n >= sizeof(q->scheme))
		return false;
	if (at) {
		memcpy(q->scheme, url, n);
		q->request.scheme = q->scheme;
		url = at + 3;
	}
	n = strcspn(url, "/?");
	if (n >= sizeof(q->authority))
		return false;
	memcpy(q->authority, url, n);
	q->request.path = url[n] ? url + n : "/";
	const char *colon = strrchr(q->authority, ':');
	if (colon && !strchr(colon, ']')) {
		unsigned long port = strtoul(colon + 1, NULL, 10);
		if (port == 0 || port > 65535)
			return false;
		q->request.port = (uint32_t)port;
	} else if (q->scheme[0]) {
		q->request.port = strcmp(q->scheme, "https") == 0 ? 443 : 80;
	}
	if (!q->request.authority && q->authority[0])
		q->request.authority = q->authority;
	return true;
}

int foilctl_explain(int argc, char **argv)
{
	static const char words[] = "explain --config DIR [-X METHOD] [-H 'NAME: VALUE']... [--address IP] URL";
	struct question q = {0};
	struct compiled c;
	char *text = NULL;
	const char *folder = foilctl_option(&argc, argv, "--config");

	q.request.method = foilctl_option(&argc, argv, "-X");
	q.request.address = foilctl_option(&argc, argv, "--address");
	if (!take_headers(&argc, argv, &q) || foilctl_unknown(argc, argv, words))
		return 2;
	if (!folder || argc != 2 || !take_url(argv[1], &q)) {
		fprintf(stderr, "usage: foilctl %s\n", words);
		return 2;
	}
	int rc = compile(folder, &c);
	if (rc == 0) {
		if (c.diags.n_errors)
			print_diags(&c.diags, stderr);
		rc = istio_explain(c.snapshot, &q.request, &text) ? 1 : 0;
		fputs(text ? text : "foilctl: no memory\n", text ? stdout : stderr);
		free(text);
	}
	compiled_free(&c);
	return rc;
}
