/* Typed values out of a node file's document (node_reader.h). Invariant: what is refused has set r->err with line, column and the path to the value. */
#include "programs/node_reader.h"

#include <errno.h>
#include <stdlib.h>

int node_refuse(struct node_reader *r, const yaml_mark_t *at, const char *fmt, ...)
{
	char what[400];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap); /* a cut sentence is better than none */
	va_end(ap);
	if (r->err) {
		r->err->line = (unsigned int)at->line + 1;
		r->err->column = (unsigned int)at->column + 1;
		(void)snprintf(r->err->resource, sizeof(r->err->resource), "%.150s", r->name);
	}
	if (r->err)
		(void)snprintf(r->err->field, sizeof(r->err->field), "%s", r->path);
	return foil_error_set(r->err, -EINVAL, "%.100s:%zu:%zu: %s%s%s", r->name, at->line + 1, at->column + 1, r->path,
			      r->path[0] ? ": " : "", what);
}

/* Appends to the path and returns its former length, for path_pop. */
static size_t __attribute__((format(printf, 2, 3))) path_push(struct node_reader *r, const char *fmt, ...)
{
	size_t n = strlen(r->path);
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(r->path + n, sizeof(r->path) - n, fmt, ap); /* a longer path is cut: it is only for people */
	va_end(ap);
	return n;
}

static void path_pop(struct node_reader *r, size_t n)
{
	r->path[n] = 0;
}

const char *node_scalar(struct node_reader *r, yaml_node_t *n)
{
	if (n->type == YAML_SCALAR_NODE && strlen((char *)n->data.scalar.value) == n->data.scalar.length)
		return (const char *)n->data.scalar.value;
	(void)node_refuse(r, &n->start_mark, "expected one plain value");
	return NULL;
}

/* "a, b, c" of the known keys, for the sentence about an unknown one. */
static void list_keys(const struct node_key *keys, size_t n, char *out, size_t out_bytes)
{
	size_t at = 0;
	out[0] = 0;
	for (size_t i = 0; i < n && at < out_bytes; i++)
		at += (size_t)snprintf(out + at, out_bytes - at, "%s%s", i ? ", " : "", keys[i].name);
}

int node_read_mapping(struct node_reader *r, yaml_node_t *n, const struct node_key *keys, size_t n_keys, void *into)
{
	if (n->type != YAML_MAPPING_NODE)
		return node_refuse(r, &n->start_mark, "expected a mapping of keys to values");
	uint64_t seen = 0;
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		yaml_node_t *k = yaml_document_get_node(r->doc, p->key), *v = yaml_document_get_node(r->doc, p->value);
		const char *name = node_scalar(r, k);
		if (!name)
			return -EINVAL;
		size_t i = 0;
		while (i < n_keys && strcmp(keys[i].name, name) != 0)
			i++;
		if (i == n_keys) {
			char known[300];
			list_keys(keys, n_keys, known, sizeof(known));
			return node_refuse(r, &k->start_mark, "unknown key \"%.60s\"; known are %s", name, known);
		}
		if (seen & UINT64_C(1) << i)
			return node_refuse(r, &k->start_mark, "key \"%s\" is given twice; keep one", name);
		seen |= UINT64_C(1) << i;
		size_t at = path_push(r, "%s%s", r->path[0] ? "." : "", name);
		int rc = keys[i].read(r, v, (char *)into + keys[i].offset);
		if (rc < 0)
			return rc;
		path_pop(r, at);
	}
	return 0;
}

int node_read_sequence(struct node_reader *r, yaml_node_t *n, size_t max, node_read_fn each, void *into)
{
	if (n->type != YAML_SEQUENCE_NODE)
		return node_refuse(r, &n->start_mark, "expected a list");
	size_t count = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
	if (count > max)
		return node_refuse(r, &n->start_mark, "%zu entries, at most %zu", count, max);
	for (yaml_node_item_t *it = n->data.sequence.items.start; it < n->data.sequence.items.top; it++) {
		size_t at = path_push(r, "[%zu]", (size_t)(it - n->data.sequence.items.start));
		int rc = each(r, yaml_document_get_node(r->doc, *it), into);
		if (rc < 0)
			return rc;
		path_pop(r, at);
	}
	return 0;
}

/* ---- plain values */

int node_read_u64(struct node_reader *r, yaml_node_t *n, uint64_t min, uint64_t max, uint64_t *out)
{
	const char *s = node_scalar(r, n);
	if (!s)
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long long v = strtoull(s, &end, 10);
	if (*s < '0' || *s > '9' || *end || errno || v < min || v > max)
		return node_refuse(r, &n->start_mark, "\"%.40s\" is not a number from %llu to %llu", s, (unsigned long long)min, (unsigned long long)max);
	*out = v;
	return 0;
}

int node_read_u32_in(struct node_reader *r, yaml_node_t *n, uint64_t min, uint64_t max, uint32_t *out)
{
	uint64_t v;
	int rc = node_read_u64(r, n, min, max, &v);
	if (rc == 0)
		*out = (uint32_t)v;
	return rc;
}

int node_read_u16_in(struct node_reader *r, yaml_node_t *n, uint64_t min, uint64_t max, uint16_t *out)
{
	uint64_t v;
	int rc = node_read_u64(r, n, min, max, &v);
	if (rc == 0)
		*out = (uint16_t)v;
	return rc;
}

int node_read_text(struct node_reader *r, yaml_node_t *n, char *out, size_t out_bytes)
{
	const char *s = node_scalar(r, n);
	if (!s)
		return -EINVAL;
	if (!*s)
		return node_refuse(r, &n->start_mark, "is empty");
	if (strlen(s) >= out_bytes)
		return node_refuse(r, &n->start_mark, "longer than %zu bytes", out_bytes - 1);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

int node_read_bool(struct node_reader *r, yaml_node_t *n, void *into)
{
	const char *s = node_scalar(r, n);
	if (!s)
		return -EINVAL;
	if (strcmp(s, "true") != 0 && strcmp(s, "false") != 0)
		return node_refuse(r, &n->start_mark, "\"%.40s\" is not true or false", s);
	*(bool *)into = strcmp(s, "true") == 0;
	return 0;
}

int node_read_choice(struct node_reader *r, yaml_node_t *n, const char *const *words, size_t n_words, unsigned int *out)
{
	const char *s = node_scalar(r, n);
	if (!s)
		return -EINVAL;
	for (size_t i = 0; i < n_words; i++)
		if (strcmp(words[i], s) == 0) {
			*out = (unsigned int)i;
			return 0;
		}
	char known[120];
	size_t at = 0;
	for (size_t i = 0; i < n_words && at < sizeof(known); i++)
		at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", i ? " | " : "", words[i]);
	return node_refuse(r, &n->start_mark, "\"%.40s\" is not one of %s", s, known);
}

int node_read_addr(struct node_reader *r, yaml_node_t *n, struct net_addr *out)
{
	const char *s = node_scalar(r, n);
	if (!s)
		return -EINVAL;
	if (net_addr_parse(s, out) < 0)
		return node_refuse(r, &n->start_mark, "\"%.60s\" is not an IPv4 or IPv6 address", s);
	return 0;
}

int node_read_prefix(struct node_reader *r, yaml_node_t *n, struct net_prefix *out)
{
	const char *s = node_scalar(r, n);
	if (!s)
		return -EINVAL;
	if (!strchr(s, '/') || net_prefix_parse(s, out) < 0)
		return node_refuse(r, &n->start_mark, "\"%.60s\" is not an address with its prefix length, as 198.18.0.1/24 or fd00::1/64", s);
	return 0;
}
