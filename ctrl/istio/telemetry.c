/* Telemetry: its accessLogging (features.md AL-3), which is what a node's listeners log. Levels as in Istio: the root namespace, the namespace, a selector;
 * several at one level: the oldest. A gateway is a workload of the node's own namespace with the labels that the node file gives it; a service address
 * counts as a client of the service's namespace, whose labels nobody knows. Entries without providers take those of the entry before; where none
 * names one, MeshConfig's accessLogFile stays as it is (seen at a real istiod).
 *
 * Filters are CEL over response.code alone: whatever &&, ||, ! and comparisons say, it is a set of statuses, which is what the data plane is given. */
#include "ctrl/istio/compile.h"
#include "ctrl/istio/rows.h"

#include "ctrl/istio/telemetry.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define PROVIDER "envoy" /* Istio's own, which writes to standard output */
#define STATUS_END 1000u
#define DEPTH_MAX 16

struct log_provider {
	struct istio_head head;
	const char *name;
};
struct log_match {
	struct istio_head head;
	struct istio_int mode;
};
struct log_filter {
	struct istio_head head;
	const char *expression;
};
struct access_logging {
	struct istio_head head;
	struct istio_list providers; /* struct log_provider */
	struct log_match *match;
	struct istio_bool disabled;
	struct log_filter *filter;
};
struct telemetry_selector {
	struct istio_head head;
	struct istio_string_map labels;
};
struct telemetry {
	struct istio_head head;
	struct telemetry_selector *selector;
	struct istio_list access_logging; /* struct access_logging */
};

/* ---- CEL over response.code ---- */
struct cel {
	const char *at;
	unsigned int depth;
	bool is_bad;
};
typedef bool status_set[STATUS_END];

static bool cel_word(struct cel *c, const char *word)
{
	c->at += strspn(c->at, " \t\n");
	if (strncmp(c->at, word, strlen(word)) != 0)
		return false;
	c->at += strlen(word);
	return true;
}

static unsigned long cel_number(struct cel *c)
{
	char *end;

	c->at += strspn(c->at, " \t\n");
	if (!isdigit((unsigned char)*c->at))
		c->is_bad = true;
	unsigned long n = c->is_bad ? 0 : strtoul(c->at, &end, 10);
	if (!c->is_bad)
		c->at = end;
	return n;
}

enum cel_op { CEL_EQ, CEL_NE, CEL_LE, CEL_GE, CEL_LT, CEL_GT, CEL_N };

static bool holds(unsigned long a, enum cel_op op, unsigned long b)
{
	switch (op) {
	case CEL_EQ: return a == b;
	case CEL_NE: return a != b;
	case CEL_LE: return a <= b;
	case CEL_GE: return a >= b;
	case CEL_LT: return a < b;
	case CEL_GT: return a > b;
	case CEL_N: return false;
	}
	return false;
}

static enum cel_op cel_op(struct cel *c)
{
	static const char *const words[] = {"==", "!=", "<=", ">=", "<", ">"};

	for (unsigned int i = 0; i < CEL_N; i++)
		if (cel_word(c, words[i]))
			return (enum cel_op)i;
	c->is_bad = true;
	return CEL_N;
}

static void cel_or(struct cel *c, status_set out);

/* "response.code >= 400" or "400 <= response.code". */
static void cel_comparison(struct cel *c, status_set out)
{
	bool is_left = cel_word(c, "response.code");
	unsigned long n = is_left ? 0 : cel_number(c);
	enum cel_op op = cel_op(c);

	if (is_left)
		n = cel_number(c);
	else if (!cel_word(c, "response.code"))
		c->is_bad = true;
	for (unsigned long s = 0; s < STATUS_END; s++)
		out[s] = is_left ? holds(s, op, n) : holds(n, op, s);
}

static void cel_unary(struct cel *c, status_set out) /* NOLINT(misc-no-recursion): at most DEPTH_MAX deep */
{
	if (++c->depth > DEPTH_MAX) {
		c->is_bad = true;
	} else if (cel_word(c, "(")) {
		cel_or(c, out);
		c->is_bad |= !cel_word(c, ")");
	} else if (cel_word(c, "!")) {
		cel_unary(c, out);
		for (unsigned int s = 0; s < STATUS_END; s++)
			out[s] = !out[s];
	} else {
		cel_comparison(c, out);
	}
	c->depth--;
}

static void cel_and(struct cel *c, status_set out) /* NOLINT(misc-no-recursion) */
{
	status_set more = {false};

	cel_unary(c, out);
	while (!c->is_bad && cel_word(c, "&&")) {
		cel_unary(c, more);
		for (unsigned int s = 0; s < STATUS_END; s++)
			out[s] &= more[s];
	}
}

static void cel_or(struct cel *c, status_set out) /* NOLINT(misc-no-recursion) */
{
	status_set more = {false};

	cel_and(c, out);
	while (!c->is_bad && cel_word(c, "||")) {
		cel_and(c, more);
		for (unsigned int s = 0; s < STATUS_END; s++)
			out[s] |= more[s];
	}
}

/* False: it is not understood. */
static bool statuses_of(const char *expression, status_set out)
{
	struct cel c = {.at = expression};

	memset(out, 0, sizeof(status_set));
	cel_or(&c, out);
	c.at += strspn(c.at, " \t\n");
	return !c.is_bad && *c.at == 0;
}

/* ---- fields ---- */
enum { MODE_BOTH, MODE_CLIENT, MODE_SERVER };
static const char *const mode_words[] = {"CLIENT_AND_SERVER", "CLIENT", "SERVER", NULL};
static const struct istio_field provider_rows[] = {ROW(log_provider, name, "name", F_STRING, .min = 1, .max = 256)};

static void check_provider(struct istio_decode *d, void *object)
{
	struct log_provider *p = object;

	if (!p->name || strcmp(p->name, PROVIDER) != 0)
		istio_decode_error(d, "HF0005", &p->head, "name", "not supported: the provider \"%.80s\"; there is only \"" PROVIDER "\"",
				   p->name ? p->name : "");
}

static const struct istio_table table_provider = TABLE(log_provider, "ProviderRef", provider_rows, .check = check_provider);
static const struct istio_field match_rows[] = {ROW(log_match, mode, "mode", F_ENUM, .words = mode_words)};
static const struct istio_table table_match = TABLE(log_match, "AccessLogging.LogSelector", match_rows);
static const struct istio_field filter_rows[] = {ROW(log_filter, expression, "expression", F_STRING, .min = 1, .max = 4096, .is_free_text = true)};

static void check_filter(struct istio_decode *d, void *object)
{
	struct log_filter *f = object;
	status_set found;

	if (!f->expression || !statuses_of(f->expression, found))
		istio_decode_error(d, "HF0005", &f->head, "expression", "not understood: \"%.200s\"; comparisons of response.code with numbers, "
				   "joined by &&, || and !, are", f->expression ? f->expression : "");
}

static const struct istio_table table_filter = TABLE(log_filter, "AccessLogging.Filter", filter_rows, .check = check_filter);
static const struct istio_field logging_rows[] = {
	ROW(access_logging, match, "match", F_OBJECT, .table = &table_match),
	ROW(access_logging, providers, "providers", F_OBJECTS, .table = &table_provider, .min = 0, .max = 16),
	ROW(access_logging, disabled, "disabled", F_BOOL),
	ROW(access_logging, filter, "filter", F_OBJECT, .table = &table_filter),
};
static const struct istio_table table_logging = TABLE(access_logging, "AccessLogging", logging_rows);
static const struct istio_field selector_rows[] = {ROW(telemetry_selector, labels, "matchLabels", F_STRING_MAP)};
static const struct istio_table table_selector = TABLE(telemetry_selector, "WorkloadSelector", selector_rows);
static const struct istio_field telemetry_rows[] = {
	ROW(telemetry, selector, "selector", F_OBJECT, .table = &table_selector),
	ROW_REFUSED("targetRef", "it means Gateway API's gateways and waypoints, which are not read"),
	ROW_REFUSED("targetRefs", "it means Gateway API's gateways and waypoints, which are not read"),
	ROW_REFUSED("tracing", "no spans are made"),
	ROW_REFUSED("metrics", "metrics are Istio's standard ones, with their labels"),
	ROW(telemetry, access_logging, "accessLogging", F_OBJECTS, .table = &table_logging, .min = 0, .max = 64),
};
const struct istio_table istio_table_telemetry = TABLE(telemetry, "Telemetry", telemetry_rows);

/* ---- what is in force ---- */
struct verdict {
	bool is_said, is_on, has_parent;
	const struct log_filter *filter;
};

static bool is_ours(const struct access_logging *a)
{
	return !a->match || a->match->mode.value != MODE_SERVER; /* gateways, and what clients of services do */
}

static void overlay(struct verdict *v, const struct telemetry *t)
{
	for (uint32_t i = 0; t && i < t->access_logging.n; i++) {
		const struct access_logging *a = ISTIO_ITEM(t->access_logging, struct access_logging, i);
		bool names = a->providers.n > 0; /* the only one there is */
		v->has_parent |= names;
		if (!v->has_parent || !is_ours(a))
			continue;
		v->is_said = true;
		v->is_on = !a->disabled.is_true;
		if (names)
			v->filter = a->filter;
	}
}

static bool has_selector(const struct telemetry *t)
{
	return t->selector && t->selector->labels.n > 0;
}

static bool selects(const struct compile *c, const struct telemetry *t, const char *address)
{
	for (size_t i = 0; i < c->node->n_gateways; i++) {
		const struct istio_gateway_address *g = &c->node->gateways[i];
		for (size_t k = 0; k < g->n_addresses; k++)
			if (strcmp(g->addresses[k], address) == 0 &&
			    istio_compile_node_labels_have(g->label_keys, g->label_values, g->n_labels, &t->selector->labels))
				return true;
	}
	return false;
}

/* MeshConfig names it for all who name none. */
static bool is_default(const struct compile *c)
{
	const struct default_providers *p = c->model->mesh->default_providers;

	for (uint32_t i = 0; p && i < p->access_logging.n; i++)
		if (strcmp(p->access_logging.list[i], PROVIDER) == 0)
			return true;
	return false;
}

static struct verdict verdict_of(const struct compile *c, const char *namespace, const char *gateway_address)
{
	const struct resource_list *list = &c->model->kinds[KIND_TELEMETRY];
	const struct telemetry *mesh = NULL, *own = NULL, *workload = NULL;
	struct verdict v = {0};

	for (uint32_t i = 0; i < list->n; i++) { /* oldest first */
		const struct resource *r = list->list[i];
		const struct telemetry *t = r->spec;
		bool is_root = strcmp(r->namespace, c->root_namespace) == 0, is_own = strcmp(r->namespace, namespace) == 0;
		if (has_selector(t)) {
			if (is_own && !workload && gateway_address && selects(c, t, gateway_address))
				workload = t;
		} else if (is_root && !mesh) {
			mesh = t;
		} else if (is_own && !is_root && !own) {
			own = t;
		}
	}
	if (is_default(c))
		v = (struct verdict){.is_said = true, .is_on = true, .has_parent = true};
	overlay(&v, mesh);
	overlay(&v, own);
	overlay(&v, workload);
	return v;
}

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

static void fill_statuses(struct compile *c, const char *expression, Foil__Conf__Listener *out)
{
	status_set found;

	(void)statuses_of(expression, found); /* true: it was checked */
	out->access_log_statuses = ARENA_ARRAY(c->arena, Foil__Conf__StatusRange *, STATUS_END / 2);
	for (uint32_t s = 100; s < 600; s++) {
		if (!found[s])
			continue;
		Foil__Conf__StatusRange *r = ARENA_NEW(c->arena, Foil__Conf__StatusRange);
		foil__conf__status_range__init(r);
		r->has_from = r->has_to = true;
		r->from = s;
		while (s + 1 < 600 && found[s + 1])
			s++;
		r->to = s;
		out->access_log_statuses[out->n_access_log_statuses++] = r;
	}
	if (out->n_access_log_statuses == 0)
		out->has_access_log_off = out->access_log_off = true;
}

void istio_telemetry_of_listener(struct compile *c, const struct resource *r, Foil__Conf__Listener *out)
{
	bool is_gateway = out->direction == FOIL__CONF__DIRECTION__DIRECTION_GATEWAY;
	const char *account = c->node->service_account ? c->node->service_account : "istio-system/hydrofoil";
	const char *namespace = is_gateway ? istio_arena_copy(c->arena, account, strcspn(account, "/")) : r ? r->namespace : c->root_namespace;
	const char *file = c->model->mesh->access_log_file;
	struct verdict v = verdict_of(c, namespace, is_gateway ? out->address : NULL);

	if (!v.is_said)
		v = (struct verdict){.is_on = file && file[0]};
	out->has_access_log_off = true;
	out->access_log_off = !v.is_on;
	if (v.is_on && v.filter)
		fill_statuses(c, v.filter->expression, out);
}

char *istio_telemetry_log_path(const struct compile *c)
{
	const struct resource_list *list = &c->model->kinds[KIND_TELEMETRY];
	const char *file = c->model->mesh->access_log_file;

	if (is_default(c) && !(file && file[0]))
		file = "/dev/stdout";
	for (uint32_t i = 0; i < list->n && !(file && file[0]); i++) {
		const struct telemetry *t = list->list[i]->spec;
		struct verdict v = {0};
		overlay(&v, t);
		if (v.is_on)
			file = "/dev/stdout";
	}
	return word(file ? file : "");
}
