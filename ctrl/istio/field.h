/* Field tables: a row for each field of each kind says its name, its type, its range, what we do with it and where its value goes. One decoder walks a
 * table and a document side by side. The tables are also what a coverage page is made of (istio_kinds in kinds.h reaches all of them).
 *
 * A row's status: HONOURED does what Istio says; NOTED is accepted, and a warning with the row's note says what differs; IGNORED is accepted in silence
 * (it has no meaning for a data plane); REFUSED makes the resource an error with the row's note, since to leave it out would change what is
 * asked for. A field with no row is an error too (in an open table: ignored). The decoder recurses along the tables, whose depth is fixed. */
#pragma once

#include "ctrl/istio/arena.h"
#include "ctrl/istio/istio.h"

enum field_type {
	F_STRING,     /* const char *: NULL when absent */
	F_BOOL,       /* struct istio_bool */
	F_INT,        /* struct istio_int, min..max */
	F_DOUBLE,     /* struct istio_double, min..max */
	F_DURATION,   /* struct istio_int, microseconds, min..max; Go's syntax ("1m30s", "0.3s") */
	F_ENUM,       /* struct istio_int: index into words */
	F_STRINGS,    /* struct istio_strings */
	F_INTS,       /* struct istio_ints, min..max */
	F_STRING_MAP, /* struct istio_string_map */
	F_INT_MAP,    /* struct istio_string_map with integer values kept as text and checked against min..max */
	F_OBJECT,     /* pointer to the table's struct, or NULL */
	F_OBJECTS,    /* struct istio_list of the table's struct */
	F_OBJECT_MAP, /* struct istio_list of the table's struct, whose name stands in its head */
	F_INT_OR_STRING, /* struct istio_int_or_string: a Kubernetes port */
	F_ANY,        /* const struct doc_node * */
};

enum field_status { HONOURED, NOTED, IGNORED, REFUSED };

struct istio_bool {
	bool is_set, is_true;
};
struct istio_int {
	bool is_set;
	int64_t value;
};
struct istio_double {
	bool is_set;
	double value;
};
struct istio_int_or_string {
	bool is_set;
	uint32_t number;  /* 0 when it is a name */
	const char *name; /* NULL when it is a number */
};
struct istio_strings {
	const char *const *list;
	uint32_t n;
};
struct istio_ints {
	const int64_t *list;
	uint32_t n;
};
struct istio_string_map {
	const char *const *keys, *const *values; /* in the order of the keys */
	uint32_t n;
};
struct istio_list {
	void *items;
	uint32_t n;
};
#define ISTIO_ITEM(l, type, i) (&((type *)(l).items)[i])

/* Every decoded struct begins with this. */
struct istio_head {
	const struct doc_node *node;
	const char *name; /* the key, of an F_OBJECT_MAP's item */
};

struct istio_decode;

struct istio_field {
	const char *name; /* lowerCamelCase as in the API; the snake_case form is understood too */
	enum field_type type;
	enum field_status status;
	size_t offset; /* in the table's struct; not used by IGNORED and REFUSED */
	const struct istio_table *table; /* of the object types */
	const char *const *words;        /* of F_ENUM, NULL-terminated */
	int64_t min, max;                /* both 0: no range (of strings and lists: of their length) */
	bool is_free_text;               /* of strings: may hold line breaks and tabs, and be longer than DECODE_TEXT_MAX */
	const char *note;
};

struct istio_table {
	const char *what;  /* "HTTPRoute" */
	size_t size;       /* of the struct */
	const struct istio_field *fields;
	uint32_t n_fields;
	bool is_open;      /* unknown fields are nobody's business (Kubernetes' own kinds) */
	bool is_loose;     /* ProxyConfig's: unknown fields get a warning only */
	/* What a row cannot say: "exactly one of". Reports by decode_error; may be NULL. */
	void (*check)(struct istio_decode *d, void *object);
};

#define DECODE_PATH_MAX 256
#define DECODE_TEXT_MAX 65536 /* bytes: what the data plane takes */

/* One resource being decoded. */
struct istio_decode {
	struct istio_arena *arena;
	struct istio_diags *diags;
	const char *file, *resource;
	char path[DECODE_PATH_MAX];
	size_t n_path;
	unsigned int n_errors;
	const char *fallback_namespace; /* of the resource */
};

/* The object, zeroed where nothing is said; errors are counted in d and reported. node may be NULL (nothing said). */
void *istio_decode_object(struct istio_decode *d, const struct istio_table *t, const struct doc_node *node);
/* At a field of an object: "" is the object itself, "ports[1].number" something below it. */
void istio_decode_error(struct istio_decode *d, const char *code, const struct istio_head *object, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
void istio_decode_warning(struct istio_decode *d, const char *code, const struct istio_head *object, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* Go's duration syntax. False when it is none or overflows. */
bool istio_decode_duration(const char *text, int64_t *us);

#define FIELDS_OF(rows) .fields = (rows), .n_fields = sizeof(rows) / sizeof((rows)[0])
