/* YAML and JSON text into trees, from libyaml's events. Scalars are typed as Kubernetes' own reader does it (go-yaml v2, YAML 1.1), so that what a
 * field sees here is what it would see there. The tree is built on an explicit stack; aliases share the node that they name, and what they would
 * expand to is counted against a small budget. */
#include "ctrl/istio/doc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>
#include <yaml.h>

#include "ctrl/istio/arena.h"
#include "ctrl/istio/istio.h"

#define BUDGET_BYTES (2048ull << 20)
#define SMALL_MAP_PAIRS 12u

struct children {
	const struct doc_node **list;
	uint32_t n, n_room;
};

struct frame {
	struct doc_node *node;
	struct children children;
	const char *anchor;
};

struct reader {
	yaml_parser_t yaml;
	yaml_event_t event;
	bool has_event;
	const char *name, *text;
	struct istio_pos base;
	struct istio_diags *diags;
	struct istio_arena *arena;
	struct istio_map anchors;
	struct frame stack[ISTIO_DOC_DEPTH_MAX];
	unsigned int depth;
	struct children documents;
	uint32_t n_nodes, n_alias_nodes;
	bool has_failed;
};

struct owned_file {
	struct doc_file file;
	struct istio_arena arena;
	unsigned int n_refs;
};

/* Kept beside the node: how many nodes it stands for. */
struct counted_node {
	struct doc_node node;
	uint32_t n_nodes;
};

static struct istio_pos pos_of(const struct reader *r, yaml_mark_t mark)
{
	return (struct istio_pos){r->base.line + (uint32_t)mark.line, r->base.column + (uint32_t)mark.column};
}

static void fail(struct reader *r, yaml_mark_t mark, const char *code, const char *text)
{
	istio_diags_add(r->diags, ISTIO_ERROR, code, r->name, pos_of(r, mark), "", "", "%s", text);
	r->has_failed = true;
}

/* ---- scalars ---- */

static bool is_word(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(text, *words) == 0)
			return true;
	return false;
}

static bool is_int(const char *s)
{
	bool some = false;

	s += *s == '-' || *s == '+';
	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		for (s += 2; *s; s++, some = true)
			if (!strchr("0123456789abcdefABCDEF_", *s))
				return false;
		return some;
	}
	if (s[0] == '0' && (s[1] == 'b' || s[1] == 'o')) {
		const char *digits = s[1] == 'b' ? "01_" : "01234567_";
		for (s += 2; *s; s++, some = true)
			if (!strchr(digits, *s))
				return false;
		return some;
	}
	for (; *s; s++) {
		some |= *s >= '0' && *s <= '9';
		if (!strchr("0123456789_", *s))
			return false;
	}
	return some;
}

static bool is_float(const char *s)
{
	static const char *const special[] = {".inf", ".Inf", ".INF", "+.inf", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN", NULL};
	bool some = false;

	if (is_word(s, special))
		return true;
	s += *s == '-' || *s == '+';
	for (; *s >= '0' && *s <= '9'; s++)
		some = true;
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++)
			some = true;
	if (some && (*s == 'e' || *s == 'E')) {
		s += 1 + (s[1] == '-' || s[1] == '+');
		some = false;
		for (; *s >= '0' && *s <= '9'; s++)
			some = true;
	}
	return some && *s == 0;
}

static void resolve_plain(struct doc_node *n)
{
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
	static const char *const yes[] = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", NULL};
	static const char *const no[] = {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", NULL};

	if (is_word(n->text, nulls)) {
		n->type = DOC_NULL;
	} else if (is_word(n->text, yes) || is_word(n->text, no)) {
		n->type = DOC_BOOL;
		n->flag = is_word(n->text, yes);
	} else if (is_int(n->text)) {
		n->type = DOC_INT;
	} else if (is_float(n->text)) {
		n->type = DOC_FLOAT;
	}
}

/* The column where the lines of a literal block scalar begin: found in the text, since libyaml does not say. */
static uint32_t literal_column(const struct reader *r, const yaml_event_t *e)
{
	const char *s = strchr(r->text + e->start_mark.index, '\n');

	while (s) {
		size_t n = strspn(s + 1, " ");
		if (s[1 + n] != '\n' && s[1 + n] != '\r')
			return r->base.column + (uint32_t)n;
		s = strchr(s + 1, '\n');
	}
	return 0;
}

static bool has_tag(const char *tag, const char *short_name)
{
	static const char core[] = "tag:yaml.org,2002:";

	return strncmp(tag, core, sizeof(core) - 1) == 0 && strcmp(tag + sizeof(core) - 1, short_name) == 0;
}

static void resolve_tag(struct reader *r, struct doc_node *n, const char *tag)
{
	if (has_tag(tag, "str")) {
		n->type = DOC_STRING;
		return;
	}
	resolve_plain(n);
	if ((has_tag(tag, "int") && n->type == DOC_INT) || (has_tag(tag, "bool") && n->type == DOC_BOOL) || (has_tag(tag, "null") && n->type == DOC_NULL) ||
	    (has_tag(tag, "float") && (n->type == DOC_INT || n->type == DOC_FLOAT)))
		return;
	fail(r, r->event.start_mark, "HF0002", "a tag that is not known here, or does not fit its value: leave it out");
}

static struct doc_node *node_new(struct reader *r, enum doc_type type)
{
	struct counted_node *c = ARENA_NEW(r->arena, struct counted_node);

	c->node.type = type;
	c->node.at = pos_of(r, r->event.start_mark);
	c->n_nodes = 1;
	if (++r->n_nodes > ISTIO_DOC_NODES_MAX)
		fail(r, r->event.start_mark, "HF0003", "more than 8000000 values in one file: split it");
	return &c->node;
}

static const struct doc_node *scalar(struct reader *r)
{
	const yaml_event_t *e = &r->event;
	struct doc_node *n = node_new(r, DOC_STRING);

	n->n_text = (uint32_t)e->data.scalar.length;
	n->text = istio_arena_copy(r->arena, (const char *)e->data.scalar.value, n->n_text);
	if (memchr(n->text, 0, n->n_text)) {
		fail(r, e->start_mark, "HF0002", "a zero byte inside a text");
		return n;
	}
	if (e->data.scalar.tag && strcmp((const char *)e->data.scalar.tag, "!") != 0)
		resolve_tag(r, n, (const char *)e->data.scalar.tag);
	else if (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !e->data.scalar.tag)
		resolve_plain(n);
	if (e->data.scalar.style == YAML_LITERAL_SCALAR_STYLE)
		n->literal_column = literal_column(r, e);
	return n;
}

/* ---- collections ---- */

static const struct doc_node *as_key(struct reader *r, const struct doc_node *n)
{
	if (n->type == DOC_STRING)
		return n;
	struct doc_node *key = node_new(r, DOC_STRING);
	key->at = n->at;
	key->text = n->type == DOC_BOOL ? (n->flag ? "true" : "false") : n->text; /* as Kubernetes' YAML to JSON does */
	key->n_text = (uint32_t)strlen(key->text);
	return key;
}

static void add_pair(struct reader *r, struct children *to, struct istio_map *seen, const struct doc_node *key, const struct doc_node *value, bool is_merge)
{
	bool is_new;
	void **place = istio_map_put(r->arena, seen, key->text, &is_new);

	if (is_new) {
		*place = (void *)(uintptr_t)key; /* only compared and read */
		ARENA_PUSH(r->arena, to, key);
		ARENA_PUSH(r->arena, to, value);
	} else if (!is_merge) {
		const struct doc_node *first = *place;
		istio_diags_add(r->diags, ISTIO_ERROR, "HF0004", r->name, key->at, "", "",
				"the key \"%s\" stands twice in one map (first in line %u); the first one is used: remove one", key->text, first->at.line);
	}
}

static void merge(struct reader *r, struct children *to, struct istio_map *seen, const struct doc_node *from)
{
	for (uint32_t i = 0; from->type == DOC_MAP && i < from->n_children; i++)
		add_pair(r, to, seen, from->children[2 * i], from->children[2 * i + 1], true);
}

static bool is_merge_key(const struct doc_node *key)
{
	return key->n_text == 2 && memcmp(key->text, "<<", 2) == 0;
}

/* A few keys, all different and none a merge key: the pairs stay as they are, without a table. */
static bool is_plain_small_map(const struct children *raw)
{
	if (raw->n > 2 * SMALL_MAP_PAIRS)
		return false;
	for (uint32_t i = 0; i + 1 < raw->n; i += 2) {
		if (is_merge_key(raw->list[i]))
			return false;
		for (uint32_t j = 0; j < i; j += 2)
			if (raw->list[i]->n_text == raw->list[j]->n_text && memcmp(raw->list[i]->text, raw->list[j]->text, raw->list[i]->n_text) == 0)
				return false;
	}
	return true;
}

/* Keys are unique afterwards; YAML's merge keys are resolved as go-yaml does it (a map's own keys win). */
static void close_map(struct reader *r, struct frame *f)
{
	struct children raw = f->children, out = {0};
	struct istio_map seen = {0};

	if (is_plain_small_map(&raw)) {
		f->node->children = raw.list;
		f->node->n_children = raw.n / 2;
		return;
	}
	for (uint32_t i = 0; i + 1 < raw.n; i += 2)
		if (!is_merge_key(raw.list[i]))
			add_pair(r, &out, &seen, raw.list[i], raw.list[i + 1], false);
	for (uint32_t i = 0; i + 1 < raw.n; i += 2) {
		const struct doc_node *from = raw.list[i + 1];
		if (!is_merge_key(raw.list[i]))
			continue;
		merge(r, &out, &seen, from);
		for (uint32_t j = 0; from->type == DOC_LIST && j < from->n_children; j++)
			merge(r, &out, &seen, from->children[j]);
	}
	f->node->children = out.list;
	f->node->n_children = out.n / 2;
}

static void count(struct doc_node *n)
{
	struct counted_node *c = (struct counted_node *)(void *)n;
	uint32_t n_slots = n->type == DOC_MAP ? 2 * n->n_children : n->n_children;

	for (uint32_t i = 0; i < n_slots; i++) {
		uint32_t more = ((const struct counted_node *)(const void *)n->children[i])->n_nodes;
		c->n_nodes = c->n_nodes > UINT32_MAX - more ? UINT32_MAX : c->n_nodes + more;
	}
}

/* A finished node goes to what contains it. */
static void place(struct reader *r, const struct doc_node *n)
{
	if (r->depth == 0) {
		if (n->type != DOC_NULL)
			ARENA_PUSH(r->arena, &r->documents, n);
		return;
	}
	struct frame *f = &r->stack[r->depth - 1];
	if (f->node->type == DOC_MAP && f->children.n % 2 == 0) {
		if (n->type == DOC_MAP || n->type == DOC_LIST) {
			istio_diags_add(r->diags, ISTIO_ERROR, "HF0002", r->name, n->at, "", "", "a map's key must be a word, not a list or a map");
			r->has_failed = true;
			return;
		}
		n = as_key(r, n);
	}
	ARENA_PUSH(r->arena, &f->children, n);
}

static void remember(struct reader *r, const char *anchor, const struct doc_node *n)
{
	bool is_new;

	if (anchor)
		*istio_map_put(r->arena, &r->anchors, anchor, &is_new) = (void *)(uintptr_t)n; /* read only */
}

static const char *anchor_of(struct reader *r, const yaml_char_t *anchor)
{
	return anchor ? istio_arena_copy(r->arena, (const char *)anchor, strlen((const char *)anchor)) : NULL;
}

static void open_collection(struct reader *r, enum doc_type type, const yaml_char_t *anchor)
{
	if (r->depth == ISTIO_DOC_DEPTH_MAX) {
		fail(r, r->event.start_mark, "HF0003", "nested deeper than 64 levels");
		return;
	}
	r->stack[r->depth] = (struct frame){.node = node_new(r, type), .anchor = anchor_of(r, anchor)};
	r->depth++;
}

static void close_collection(struct reader *r)
{
	struct frame *f = &r->stack[--r->depth];

	if (f->node->type == DOC_MAP) {
		close_map(r, f);
	} else {
		f->node->children = f->children.list;
		f->node->n_children = f->children.n;
	}
	count(f->node);
	remember(r, f->anchor, f->node);
	place(r, f->node);
}

static void alias(struct reader *r)
{
	const struct doc_node *n = istio_map_get(&r->anchors, (const char *)r->event.data.alias.anchor);

	if (!n) {
		fail(r, r->event.start_mark, "HF0002", "an alias (*name) for which there is no anchor (&name) before it");
		return;
	}
	uint32_t n_nodes = ((const struct counted_node *)(const void *)n)->n_nodes;
	if (n_nodes > ISTIO_DOC_ALIAS_NODES_MAX - r->n_alias_nodes) {
		fail(r, r->event.start_mark, "HF0003", "aliases expand to more than 10000 values: write them out, or generate the file");
		return;
	}
	r->n_alias_nodes += n_nodes;
	place(r, n);
}

static void take_event(struct reader *r)
{
	switch (r->event.type) {
	case YAML_DOCUMENT_START_EVENT:
		r->anchors = (struct istio_map){0};
		break;
	case YAML_SCALAR_EVENT: {
		const char *anchor = anchor_of(r, r->event.data.scalar.anchor);
		const struct doc_node *n = scalar(r);
		remember(r, anchor, n);
		place(r, n);
		break;
	}
	case YAML_SEQUENCE_START_EVENT:
		open_collection(r, DOC_LIST, r->event.data.sequence_start.anchor);
		break;
	case YAML_MAPPING_START_EVENT:
		open_collection(r, DOC_MAP, r->event.data.mapping_start.anchor);
		break;
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		close_collection(r);
		break;
	case YAML_ALIAS_EVENT:
		alias(r);
		break;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		break;
	}
}

static void syntax_error(struct reader *r)
{
	char text[256];
	const yaml_parser_t *p = &r->yaml;

	if (p->error == YAML_READER_ERROR)
		(void)snprintf(text, sizeof(text), "not readable as UTF-8 text: %s at byte %zu", p->problem ? p->problem : "?", p->problem_offset);
	else
		(void)snprintf(text, sizeof(text), "not YAML: %s%s%s", p->problem ? p->problem : "?", p->context ? " " : "", p->context ? p->context : "");
	fail(r, p->error == YAML_READER_ERROR ? (yaml_mark_t){0} : p->problem_mark, "HF0002", text);
}

static void read_events(struct reader *r)
{
	bool done = false;

	while (!done && !r->has_failed) {
		if (!yaml_parser_parse(&r->yaml, &r->event)) {
			syntax_error(r);
			return;
		}
		r->has_event = true;
		done = r->event.type == YAML_STREAM_END_EVENT;
		take_event(r);
		yaml_event_delete(&r->event);
		r->has_event = false;
	}
}

static void read_all(struct reader *r, struct owned_file *f, const char *text, size_t n_text)
{
	yaml_parser_set_input_string(&r->yaml, (const unsigned char *)text, n_text);
	read_events(r);
	f->file.name = istio_arena_copy(&f->arena, r->name, strlen(r->name));
	f->file.documents = r->documents.list;
	f->file.n_documents = r->documents.n;
	f->file.hash = XXH3_64bits(text, n_text);
}

struct doc_file *istio_doc_read(const char *name, const char *text, size_t n_text, struct istio_pos at, struct istio_diags *diags)
{
	struct reader *r = calloc(1, sizeof(*r));
	struct owned_file *f = calloc(1, sizeof(*f));

	if (!r || !f || !yaml_parser_initialize(&r->yaml)) {
		istio_diags_add(diags, ISTIO_ERROR, "HF0001", name, (struct istio_pos){0}, "", "", "no memory to read it");
		free(r);
		free(f);
		return NULL;
	}
	*f = (struct owned_file){.arena.n_budget = BUDGET_BYTES, .n_refs = 1};
	r->name = name;
	r->text = text;
	r->base = at;
	r->diags = diags;
	r->arena = &f->arena;
	if (n_text > ISTIO_DOC_BYTES_MAX) {
		fail(r, (yaml_mark_t){0}, "HF0003", "longer than 64 MiB: split it");
	} else if (setjmp(f->arena.full)) {
		istio_diags_add(diags, ISTIO_ERROR, "HF0001", name, (struct istio_pos){0}, "", "", "no memory to read it");
		r->has_failed = true;
	} else {
		read_all(r, f, text, n_text);
	}
	if (r->has_event)
		yaml_event_delete(&r->event);
	yaml_parser_delete(&r->yaml);
	struct doc_file *out = r->has_failed ? NULL : &f->file;
	free(r);
	if (!out)
		istio_doc_put_ref(&f->file);
	return out;
}

struct doc_file *istio_doc_get_ref(struct doc_file *f)
{
	((struct owned_file *)(void *)f)->n_refs++;
	return f;
}

void istio_doc_put_ref(struct doc_file *own_f)
{
	struct owned_file *f = (struct owned_file *)(void *)own_f;

	if (f && --f->n_refs == 0) {
		istio_arena_fini(&f->arena);
		free(f);
	}
}

/* ---- looking ---- */

static const struct doc_node *find(const struct doc_node *map, const char *key, unsigned int which)
{
	for (uint32_t i = 0; map && map->type == DOC_MAP && i < map->n_children; i++)
		if (strcmp(map->children[2 * i]->text, key) == 0)
			return map->children[2 * i + which];
	return NULL;
}

const struct doc_node *istio_doc_find(const struct doc_node *map, const char *key)
{
	return find(map, key, 1);
}

const struct doc_node *istio_doc_find_key(const struct doc_node *map, const char *key)
{
	return find(map, key, 0);
}

const char *istio_doc_text(const struct doc_node *map, const char *key)
{
	const struct doc_node *n = istio_doc_find(map, key);

	return n && n->type == DOC_STRING ? n->text : NULL;
}

struct istio_pos istio_doc_at(const struct doc_node *map, const char *key)
{
	const struct doc_node *n = istio_doc_find(map, key);

	return n ? n->at : map ? map->at : (struct istio_pos){0};
}

const char *istio_doc_type_name(enum doc_type t)
{
	static const char *const names[] = {[DOC_NULL] = "null", [DOC_BOOL] = "a boolean", [DOC_INT] = "an integer", [DOC_FLOAT] = "a number",
					    [DOC_STRING] = "a string", [DOC_LIST] = "a list", [DOC_MAP] = "a map"};

	return names[t];
}
