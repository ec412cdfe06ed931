/* The decoder behind the field tables; see field.h. Types are strict, as the Kubernetes API server is with these kinds: "80" is no integer, 80 no string. */
#include "ctrl/istio/field.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 64

/* ---- reporting ---- */

static void report(struct istio_decode *d, enum istio_severity severity, const char *code, struct istio_pos at, const char *field, const char *text)
{
	char path[DECODE_PATH_MAX + NAME_MAX_BYTES + 2];

	(void)snprintf(path, sizeof(path), "%s%s%s", d->path, d->n_path && field[0] && field[0] != '[' ? "." : "", field); /* cut when absurdly long */
	if (severity == ISTIO_ERROR)
		d->n_errors++;
	istio_diags_add(d->diags, severity, code, d->file, at, d->resource, path, "%s", text);
}

/* Where "ports[1].number" stands below a node, or the nearest of its parents that is there. */
static struct istio_pos place_of(const struct doc_node *node, const char *path)
{
	char name[NAME_MAX_BYTES];

	while (node && *path) {
		const struct doc_node *next = NULL;
		size_t n = strcspn(path, ".[");
		if (*path == '[') {
			unsigned long i = strtoul(path + 1, NULL, 10);
			next = node->type == DOC_LIST && i < node->n_children ? node->children[i] : NULL;
			path += strcspn(path, "]");
			path += *path == ']';
		} else if (n > 0 && n < sizeof(name)) {
			memcpy(name, path, n);
			name[n] = 0;
			next = istio_doc_find(node, name);
			path += n;
		}
		if (!next)
			break;
		node = next;
		path += *path == '.';
	}
	return node ? node->at : (struct istio_pos){0};
}

static void __attribute__((format(printf, 6, 0)))
report_at(struct istio_decode *d, enum istio_severity severity, const char *code, const struct istio_head *object, const char *field, const char *fmt,
	  va_list ap)
{
	char text[512];
	const struct doc_node *node = object ? object->node : NULL;

	(void)vsnprintf(text, sizeof(text), fmt, ap); /* cut */
	report(d, severity, code, place_of(node, field), field, text);
}

void istio_decode_error(struct istio_decode *d, const char *code, const struct istio_head *object, const char *field, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report_at(d, ISTIO_ERROR, code, object, field, fmt, ap);
	va_end(ap);
}

void istio_decode_warning(struct istio_decode *d, const char *code, const struct istio_head *object, const char *field, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report_at(d, ISTIO_WARNING, code, object, field, fmt, ap);
	va_end(ap);
}

static size_t path_push(struct istio_decode *d, const char *name, int64_t index)
{
	size_t before = d->n_path, room = sizeof(d->path) - d->n_path;
	int n = index < 0 ? snprintf(d->path + d->n_path, room, "%s%s", d->n_path ? "." : "", name)
			  : snprintf(d->path + d->n_path, room, "[%lld]", (long long)index);

	if (n > 0)
		d->n_path += (size_t)n < room ? (size_t)n : room - 1;
	return before;
}

static void path_pop(struct istio_decode *d, size_t before)
{
	d->n_path = before;
	d->path[before] = 0;
}

/* ---- names ---- */

/* Whether the key is the field's name, or its snake_case form. */
static bool is_named(const char *key, const char *name)
{
	for (; *name; name++, key++) {
		if (isupper((unsigned char)*name) && *key == '_') {
			key++;
			if (*key != tolower((unsigned char)*name))
				return false;
		} else if (*key != *name) {
			return false;
		}
	}
	return *key == 0;
}

static const struct istio_field *field_of(const struct istio_table *t, const char *key)
{
	for (uint32_t i = 0; i < t->n_fields; i++)
		if (is_named(key, t->fields[i].name))
			return &t->fields[i];
	return NULL;
}

/* Edit distance without regard to case; NAME_MAX_BYTES when either is longer than that. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[NAME_MAX_BYTES + 1];
	size_t n_a = strlen(a), n_b = strlen(b);

	if (n_a >= NAME_MAX_BYTES || n_b >= NAME_MAX_BYTES)
		return NAME_MAX_BYTES;
	for (unsigned int j = 0; j <= n_b; j++)
		row[j] = j;
	for (size_t i = 1; i <= n_a; i++) {
		unsigned int diagonal = row[0];
		row[0] = (unsigned int)i;
		for (size_t j = 1; j <= n_b; j++) {
			unsigned int same = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
			diagonal = row[j];
			unsigned int other = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
			row[j] = same < other ? same : other;
		}
	}
	return row[n_b];
}

static void unknown_field(struct istio_decode *d, const struct istio_table *t, const struct doc_node *key)
{
	char text[512];
	const char *nearest = NULL;
	unsigned int best = 3; /* more than that is another word */

	for (uint32_t i = 0; i < t->n_fields; i++) {
		unsigned int n = distance(key->text, t->fields[i].name);
		if (n < best) {
			best = n;
			nearest = t->fields[i].name;
		}
	}
	(void)snprintf(text, sizeof(text), "unknown field \"%.80s\" of %s%s%s%s", key->text, t->what, nearest ? ": did you mean \"" : ": remove it",
		       nearest ? nearest : "", nearest ? "\"?" : "");
	report(d, t->is_loose ? ISTIO_WARNING : ISTIO_ERROR, "IST0106", key->at, "", text);
}

/* ---- values ---- */

static void wrong_type(struct istio_decode *d, const struct doc_node *v, const char *wanted)
{
	char text[256], shown[64] = "";

	if (v->text)
		(void)snprintf(shown, sizeof(shown), " (%.40s)", v->text); /* cut */
	(void)snprintf(text, sizeof(text), "must be %s, not %s%s%s", wanted, istio_doc_type_name(v->type), shown,
		       v->type == DOC_BOOL && strcmp(wanted, "a string") == 0 ? "; put it in quotes" : "");
	report(d, ISTIO_ERROR, "IST0106", v->at, "", text);
}

static bool has_range(const struct istio_field *f)
{
	return f->min != 0 || f->max != 0;
}

static bool in_range(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, int64_t value)
{
	char text[256];

	if (!has_range(f) || (value >= f->min && value <= f->max))
		return true;
	if (f->type == F_DURATION)
		(void)snprintf(text, sizeof(text), "must be from %gs to %gs, not %.40s", (double)f->min / 1e6, (double)f->max / 1e6, v->text);
	else
		(void)snprintf(text, sizeof(text), "must be from %lld to %lld, not %lld", (long long)f->min, (long long)f->max, (long long)value);
	report(d, ISTIO_ERROR, "IST0106", v->at, "", text);
	return false;
}

static bool parse_int(const char *s, int64_t *out)
{
	char digits[32];
	size_t n = 0;
	char *end;
	int base = 0;

	for (; *s && n + 1 < sizeof(digits); s++)
		if (*s != '_')
			digits[n++] = *s;
	digits[n] = 0;
	const char *from = digits;
	if (strncmp(digits, "0b", 2) == 0 || strncmp(digits, "0o", 2) == 0) {
		base = digits[1] == 'b' ? 2 : 8;
		from += 2;
	}
	errno = 0;
	long long v = strtoll(from, &end, base);
	if (*s || errno || *end || end == from)
		return false;
	*out = v;
	return true;
}

static bool has_control(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

static bool get_string(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, const char **out)
{
	if (v->type != DOC_STRING) {
		wrong_type(d, v, "a string");
		return false;
	}
	if (f->type == F_STRING && !in_range(d, f, v, v->n_text))
		return false;
	if (!f->is_free_text && v->n_text > DECODE_TEXT_MAX) {
		report(d, ISTIO_ERROR, "IST0106", v->at, "", "longer than 65536 bytes");
		return false;
	}
	if (!f->is_free_text && has_control(v->text)) {
		report(d, ISTIO_ERROR, "IST0106", v->at, "", "holds a control character");
		return false;
	}
	*out = v->text;
	return true;
}

static bool get_int(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, int64_t *out)
{
	int64_t value;

	if (v->type != DOC_INT) {
		wrong_type(d, v, "an integer");
		return false;
	}
	if (!parse_int(v->text, &value)) {
		report(d, ISTIO_ERROR, "IST0106", v->at, "", "an integer that does not fit in 64 bits");
		return false;
	}
	if (!in_range(d, f, v, value))
		return false;
	*out = value;
	return true;
}

static const char *unit_us(const char *s, double *us)
{
	static const struct {
		const char *name;
		double us;
	} units[] = {{"ns", 1e-3}, {"us", 1}, {"\xc2\xb5s", 1}, {"\xce\xbcs", 1}, {"ms", 1e3}, {"s", 1e6}, {"m", 60e6}, {"h", 3600e6}};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i].name);
		if (strncmp(s, units[i].name, n) == 0) {
			*us = units[i].us;
			return s + n;
		}
	}
	return NULL;
}

bool istio_decode_duration(const char *text, int64_t *us)
{
	const char *s = text;
	bool negative = *s == '-';
	double sum = 0;

	s += *s == '-' || *s == '+';
	if (strcmp(s, "0") == 0) {
		*us = 0;
		return true;
	}
	if (!*s)
		return false;
	while (*s) {
		char *end;
		double unit = 0;
		if (!isdigit((unsigned char)*s) && *s != '.')
			return false;
		size_t n = strspn(s, "0123456789.");
		if (n > 24)
			return false;
		char number[32];
		memcpy(number, s, n);
		number[n] = 0;
		double v = strtod(number, &end);
		if (*end || end == number)
			return false;
		s = unit_us(s + n, &unit);
		if (!s)
			return false;
		sum += v * unit;
	}
	if (sum > 9e18)
		return false;
	*us = (int64_t)(negative ? -(sum + 0.5) : sum + 0.5);
	return true;
}

static void set_duration(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, struct istio_int *out)
{
	int64_t us;

	if (v->type != DOC_STRING) {
		wrong_type(d, v, "a duration like \"1.5s\"");
	} else if (!istio_decode_duration(v->text, &us)) {
		report(d, ISTIO_ERROR, "IST0106", v->at, "", "not a duration: write a number and a unit of ms, s, m or h, like \"1.5s\"");
	} else if (us < 0 && f->min >= 0) {
		report(d, ISTIO_ERROR, "IST0106", v->at, "", "a duration must not be negative");
	} else if (in_range(d, f, v, us)) {
		*out = (struct istio_int){true, us};
	}
}

static void set_double(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, struct istio_double *out)
{
	char text[128];
	double value = v->text ? strtod(v->text, NULL) : 0;

	if (v->type != DOC_INT && v->type != DOC_FLOAT) {
		wrong_type(d, v, "a number");
		return;
	}
	if (!(value >= (double)f->min && value <= (double)f->max)) {
		(void)snprintf(text, sizeof(text), "must be from %lld to %lld, not %.40s", (long long)f->min, (long long)f->max, v->text);
		report(d, ISTIO_ERROR, "IST0106", v->at, "", text);
		return;
	}
	*out = (struct istio_double){true, value};
}

static void set_enum(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, struct istio_int *out)
{
	char text[400];
	size_t n = 0;

	for (int64_t i = 0; v->type == DOC_STRING && f->words[i]; i++) {
		if (strcmp(f->words[i], v->text) == 0) {
			*out = (struct istio_int){true, i};
			return;
		}
	}
	if (v->type != DOC_STRING) {
		wrong_type(d, v, "a string");
		return;
	}
	n = (size_t)snprintf(text, sizeof(text), "\"%.60s\" is not one of", v->text);
	for (int64_t i = 0; f->words[i] && n < sizeof(text); i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s %s", i ? "," : "", f->words[i]);
	report(d, ISTIO_ERROR, "IST0106", v->at, "", text);
}

static bool get_list(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v)
{
	if (v->type != DOC_LIST) {
		wrong_type(d, v, "a list");
		return false;
	}
	return f->type == F_INTS || in_range(d, f, v, v->n_children);
}

static void set_strings(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, struct istio_strings *out)
{
	if (!get_list(d, f, v))
		return;
	const char **list = ARENA_ARRAY(d->arena, const char *, v->n_children);
	uint32_t n = 0;
	for (uint32_t i = 0; i < v->n_children; i++) {
		size_t before = path_push(d, NULL, i);
		n += get_string(d, f, v->children[i], &list[n]);
		path_pop(d, before);
	}
	*out = (struct istio_strings){list, n};
}

static void set_ints(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, struct istio_ints *out)
{
	if (!get_list(d, f, v))
		return;
	int64_t *list = ARENA_ARRAY(d->arena, int64_t, v->n_children);
	uint32_t n = 0;
	for (uint32_t i = 0; i < v->n_children; i++) {
		size_t before = path_push(d, NULL, i);
		n += get_int(d, f, v->children[i], &list[n]);
		path_pop(d, before);
	}
	*out = (struct istio_ints){list, n};
}

struct pair {
	const char *key, *value;
};

static int compare_pairs(const void *a, const void *b)
{
	return strcmp(((const struct pair *)a)->key, ((const struct pair *)b)->key);
}

static void set_string_map(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, struct istio_string_map *out)
{
	uint32_t n = 0;
	int64_t number;

	if (v->type != DOC_MAP) {
		wrong_type(d, v, "a map");
		return;
	}
	struct pair *pairs = ARENA_ARRAY(d->arena, struct pair, v->n_children);
	for (uint32_t i = 0; i < v->n_children; i++) {
		const struct doc_node *value = v->children[2 * i + 1];
		size_t before = path_push(d, v->children[2 * i]->text, -1);
		pairs[n].key = v->children[2 * i]->text;
		if (f->type == F_INT_MAP ? get_int(d, f, value, &number) : get_string(d, f, value, &pairs[n].value)) {
			pairs[n].value = value->text;
			n++;
		}
		path_pop(d, before);
	}
	if (n)
		qsort(pairs, n, sizeof(*pairs), compare_pairs);
	const char **keys = ARENA_ARRAY(d->arena, const char *, n), **values = ARENA_ARRAY(d->arena, const char *, n);
	for (uint32_t i = 0; i < n; i++) {
		keys[i] = pairs[i].key;
		values[i] = pairs[i].value;
	}
	*out = (struct istio_string_map){keys, values, n};
}

static void decode_fields(struct istio_decode *d, const struct istio_table *t, const struct doc_node *node, void *object);

static void set_objects(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, struct istio_list *out)
{
	bool is_map = f->type == F_OBJECT_MAP;

	if (is_map && v->type != DOC_MAP) {
		wrong_type(d, v, "a map");
		return;
	}
	if (!is_map && !get_list(d, f, v))
		return;
	char *items = istio_arena_alloc(d->arena, f->table->size * v->n_children);
	for (uint32_t i = 0; i < v->n_children; i++) {
		struct istio_head *item = (struct istio_head *)(void *)(items + f->table->size * i);
		const struct doc_node *value = is_map ? v->children[2 * i + 1] : v->children[i];
		size_t before = path_push(d, is_map ? v->children[2 * i]->text : NULL, is_map ? -1 : (int64_t)i);
		item->name = is_map ? v->children[2 * i]->text : NULL;
		decode_fields(d, f->table, value, item);
		path_pop(d, before);
	}
	*out = (struct istio_list){items, v->n_children};
}

static void set_int_or_string(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, struct istio_int_or_string *out)
{
	int64_t number;

	if (v->type == DOC_STRING) {
		*out = (struct istio_int_or_string){.is_set = true, .name = v->text};
	} else if (v->type != DOC_INT) {
		wrong_type(d, v, "an integer or a string");
	} else if (get_int(d, f, v, &number)) {
		*out = (struct istio_int_or_string){.is_set = true, .number = (uint32_t)number};
	}
}

static void set_field(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, void *to)
{
	int64_t number;

	switch (f->type) {
	case F_STRING:
		(void)get_string(d, f, v, to); /* reported */
		break;
	case F_BOOL:
		if (v->type == DOC_BOOL)
			*(struct istio_bool *)to = (struct istio_bool){true, v->flag};
		else
			wrong_type(d, v, "a boolean");
		break;
	case F_INT:
		if (get_int(d, f, v, &number))
			*(struct istio_int *)to = (struct istio_int){true, number};
		break;
	case F_DOUBLE:
		set_double(d, f, v, to);
		break;
	case F_DURATION:
		set_duration(d, f, v, to);
		break;
	case F_ENUM:
		set_enum(d, f, v, to);
		break;
	case F_STRINGS:
		set_strings(d, f, v, to);
		break;
	case F_INTS:
		set_ints(d, f, v, to);
		break;
	case F_STRING_MAP:
	case F_INT_MAP:
		set_string_map(d, f, v, to);
		break;
	case F_OBJECT:
		*(void **)to = istio_decode_object(d, f->table, v);
		break;
	case F_OBJECTS:
	case F_OBJECT_MAP:
		set_objects(d, f, v, to);
		break;
	case F_INT_OR_STRING:
		set_int_or_string(d, f, v, to);
		break;
	case F_ANY:
		*(const struct doc_node **)to = v;
		break;
	}
}

/* Nothing is asked for: absent, or its type's zero, which the API cannot tell from absent. */
static bool is_nothing(const struct doc_node *v)
{
	return v->type == DOC_NULL || ((v->type == DOC_LIST || v->type == DOC_MAP) && v->n_children == 0) || (v->type == DOC_BOOL && !v->flag) ||
	       (v->type == DOC_STRING && v->n_text == 0);
}

static void decode_field(struct istio_decode *d, const struct istio_field *f, const struct doc_node *v, void *object)
{
	char text[400];

	switch (f->status) {
	case IGNORED:
		return;
	case REFUSED:
		if (!is_nothing(v)) {
			(void)snprintf(text, sizeof(text), "not supported: %s", f->note ? f->note : "remove it");
			report(d, ISTIO_ERROR, "HF0005", v->at, "", text);
		}
		return;
	case NOTED:
		if (!is_nothing(v))
			report(d, ISTIO_WARNING, "HF0006", v->at, "", f->note);
		break;
	case HONOURED:
		break;
	}
	set_field(d, f, v, (char *)object + f->offset);
}

static void decode_fields(struct istio_decode *d, const struct istio_table *t, const struct doc_node *node, void *object)
{
	((struct istio_head *)object)->node = node;
	if (node && node->type != DOC_MAP && node->type != DOC_NULL) {
		wrong_type(d, node, "a map");
		return;
	}
	unsigned int n_errors = d->n_errors;
	for (uint32_t i = 0; node && i < (node->type == DOC_MAP ? node->n_children : 0); i++) {
		const struct doc_node *key = node->children[2 * i], *value = node->children[2 * i + 1];
		const struct istio_field *f = field_of(t, key->text);
		if (!f) {
			if (!t->is_open)
				unknown_field(d, t, key);
			continue;
		}
		if (value->type == DOC_NULL)
			continue;
		size_t before = path_push(d, f->name, -1);
		decode_field(d, f, value, object);
		path_pop(d, before);
	}
	if (t->check && d->n_errors == n_errors)
		t->check(d, object);
}

void *istio_decode_object(struct istio_decode *d, const struct istio_table *t, const struct doc_node *node)
{
	void *object = istio_arena_alloc(d->arena, t->size);

	decode_fields(d, t, node, object);
	return object;
}
