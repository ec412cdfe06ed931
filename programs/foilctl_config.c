/* foilctl validate and explain: a folder of Istio and Kubernetes YAML read and compiled here, by the agent's own code, without an agent.
 * Nothing is sent anywhere. */
#include "programs/foilctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "ctrl/istio/istio.h"
#include "ctrl/source/source.h"
#include "programs/node_hello.h"

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
static int compile(const char *folder, const struct istio_node *node, struct compiled *c)
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
	istio_compile(c->model, node, "validate", &c->snapshot, &c->diags);
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

/* The node of a node file; without one a node that has every address. Connections are asked of as if all of them were captured there. */
struct asked_node {
	struct node_conf *conf;
	Foil__Conf__NodeHello *hello;
	struct istio_node *own;
	struct istio_node any;
};

static void asked_node_fini(struct asked_node *n)
{
	istio_node_free(n->own);
	node_hello_free(n->hello);
	free(n->conf);
}

/* NULL after a sentence. */
static const struct istio_node *asked_node(struct asked_node *n, const char *path, bool is_connection)
{
	static const char *const everything[] = {"0.0.0.0/0", "::/0"};
	struct foil_error err = {0};

	if (!path) {
		n->any = istio_any_node;
		n->any.captured_cidrs = everything;
		n->any.n_captured_cidrs = is_connection ? 2 : 0;
		return &n->any;
	}
	n->conf = calloc(1, sizeof(*n->conf));
	if (n->conf && node_file_read(path, n->conf, &err) != 0) {
		fprintf(stderr, "foilctl: %s: %s (line %u)\n", path, err.text, err.line);
		return NULL;
	}
	n->hello = n->conf ? node_hello_new(n->conf) : NULL;
	n->own = n->hello ? istio_node_from_hello(n->hello) : NULL;
	if (!n->own)
		fputs("foilctl: no memory\n", stderr);
	return n->own;
}

int foilctl_validate(int argc, char **argv)
{
	static const char words[] = "validate DIR [--node NODE_FILE] [--json]";
	bool as_json = foilctl_flag(&argc, argv, "--json");
	const char *node_file = foilctl_option(&argc, argv, "--node");
	struct asked_node of = {0};
	struct compiled c;

	if (foilctl_unknown(argc, argv, words))
		return 2;
	if (argc != 2) {
		fprintf(stderr, "usage: foilctl %s\n", words);
		return 2;
	}
	const struct istio_node *node = asked_node(&of, node_file, false);
	int rc = node ? compile(argv[1], node, &c) : 1;
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
	if (node)
		compiled_free(&c);
	asked_node_fini(&of);
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

/* "host", "host:port", "address", "[address]:port" in q->authority: takes the port off. False: it is no port, or there is none where one must be. */
static bool take_port(struct question *q, uint32_t port_default)
{
	char *colon = strrchr(q->authority, ':'), *end = NULL;

	q->request.port = port_default;
	if (colon && !strchr(colon, ']') && (strchr(q->authority, ':') == colon || colon[-1] == ']')) {
		unsigned long port = strtoul(colon + 1, &end, 10);
		if (port == 0 || port > 65535 || *end)
			return false;
		q->request.port = (uint32_t)port;
		*colon = 0;
	}
	return q->request.port != 0;
}

static bool is_address(const char *text)
{
	struct net_addr a;

	return net_addr_parse(text, &a) == 0;
}

/* tcp://ADDRESS:PORT, tcp://HOST:PORT, tls://NAME[:PORT] with --address when it matters. */
static bool take_connection(const char *rest, bool is_tls, struct question *q)
{
	struct istio_request *r = &q->request;
	size_t n = strlen(rest);

	n -= n && rest[n - 1] == '/';
	if (n == 0 || n >= sizeof(q->authority))
		return false;
	memcpy(q->authority, rest, n);
	if (!take_port(q, is_tls ? 443 : 0))
		return false;
	char *host = q->authority;
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = 0;
		host++;
	}
	r->is_connection = true;
	r->is_tls = is_tls;
	if (is_address(host))
		r->address = r->address ? r->address : host; /* no server name: RFC 6066 3 has none that is an address */
	else if (is_tls)
		r->server_name = r->authority = host;
	else
		r->authority = host;
	return host[0] != 0;
}

/* http://authority[:port]/path, or authority[:port]/path, or /path; or a connection. */
static bool take_url(const char *url, struct question *q)
{
	const char *at = strstr(url, "://");
	size_t n = at ? (size_t)(at - url) : 0;

	if (strncmp(url, "tcp://", 6) == 0 || strncmp(url, "tls://", 6) == 0)
		return take_connection(url + 6, url[1] == 'l', q);

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

static void print_steps_json(const char *text, const struct istio_steps *steps, bool is_tried)
{
	json_t *list = json_array();

	for (size_t i = 0; i < steps->n; i++) {
		const struct istio_step *s = &steps->list[i];
		json_t *one = json_pack("{s:s, s:i, s:s%}", "step", s->kind, "depth", (int)s->depth, "text", text + s->at, s->n);
		if (s->verdict[0])
			json_object_set_new(one, "verdict", json_string(s->verdict));
		if (s->n_reason)
			json_object_set_new(one, "reason", json_stringn(text + s->reason_at, s->n_reason));
		if (s->resource)
			json_object_set_new(one, "resource", json_string(s->resource));
		if (s->file && s->file[0]) {
			json_object_set_new(one, "file", json_string(s->file));
			json_object_set_new(one, "line", json_integer(s->line));
			json_object_set_new(one, "column", json_integer(s->column));
		}
		json_array_append_new(list, one);
	}
	json_t *all = json_pack("{s:b, s:s, s:o}", "goes_on", is_tried, "text", text, "steps", list);
	(void)json_dumpf(all, stdout, JSON_INDENT(1)); /* a closed stdout is nobody's news */
	puts("");
	json_decref(all);
}

static int print_answer(const struct compiled *c, const struct istio_request *r, bool as_json)
{
	struct istio_steps steps = {0};
	char *text = NULL;
	int rc = istio_explain(c->snapshot, r, &text, &steps) ? 1 : 0;

	if (!text)
		fputs("foilctl: no memory\n", stderr);
	else if (as_json)
		print_steps_json(text, &steps, rc == 0);
	else
		fputs(text, stdout);
	istio_steps_fini(&steps);
	free(text);
	return rc;
}

int foilctl_explain(int argc, char **argv)
{
	static const char words[] = "explain --config DIR [--node NODE_FILE] [-X METHOD] [-H 'NAME: VALUE']... [--address IP] [--alpn NAME] [--json] "
				    "URL | tcp://HOST:PORT | tls://NAME[:PORT]";
	bool as_json = foilctl_flag(&argc, argv, "--json");
	struct question q = {0};
	struct asked_node of = {0};
	struct compiled c;
	const char *folder = foilctl_option(&argc, argv, "--config"), *node_file = foilctl_option(&argc, argv, "--node");

	q.request.method = foilctl_option(&argc, argv, "-X");
	q.request.address = foilctl_option(&argc, argv, "--address");
	q.request.alpn = foilctl_option(&argc, argv, "--alpn");
	if (!take_headers(&argc, argv, &q) || foilctl_unknown(argc, argv, words))
		return 2;
	if (!folder || argc != 2 || !take_url(argv[1], &q) || (q.request.alpn && !q.request.is_tls)) {
		fprintf(stderr, "usage: foilctl %s\n", words);
		return 2;
	}
	const struct istio_node *node = asked_node(&of, node_file, q.request.is_connection);
	int rc = node ? compile(folder, node, &c) : 1;
	if (rc == 0) {
		if (c.diags.n_errors)
			print_diags(&c.diags, stderr);
		rc = print_answer(&c, &q.request, as_json);
	}
	if (node)
		compiled_free(&c);
	asked_node_fini(&of);
	return rc;
}
