/* Documents: YAML and JSON text as trees of nodes that know their line and column. What every source hands to the model. Text is hostile: size,
 * depth, number of nodes and what aliases expand to are bounded (YAML 1.1 as Kubernetes reads it: bare y, yes, on, n, no, off are booleans). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct istio_diags;

#define ISTIO_DOC_BYTES_MAX (64u << 20) /* one text */
#define ISTIO_DOC_DEPTH_MAX 64u
#define ISTIO_DOC_NODES_MAX 8000000u  /* one text, aliases counted each time */
#define ISTIO_DOC_ALIAS_NODES_MAX 10000u /* nodes that aliases add to one text */

struct istio_pos {
	uint32_t line, column; /* from 1; 0 where there is none */
};

enum doc_type { DOC_NULL, DOC_BOOL, DOC_INT, DOC_FLOAT, DOC_STRING, DOC_LIST, DOC_MAP };

/* Immutable. A map's children alternate: key, value, key, value (keys are DOC_STRING nodes). */
struct doc_node {
	enum doc_type type;
	struct istio_pos at;
	uint32_t n_text;                   /* bytes of text, without the 0 that follows them */
	uint32_t n_children;               /* of a list: items; of a map: pairs */
	uint32_t literal_column;           /* of a literal block scalar: the column where its lines begin, else 0 */
	bool flag;                         /* of DOC_BOOL */
	const char *text;                  /* of every scalar: as written (decoded from quotes); 0-terminated; no 0 inside */
	const struct doc_node *const *children;
};

/* The documents of one text. Counted: whoever keeps a pointer into it holds a reference. Not shared between threads. */
struct doc_file {
	const char *name;                  /* for diagnostics */
	const struct doc_node *const *documents; /* empty documents are left out */
	uint32_t n_documents;
	uint64_t hash;                     /* of the text */
};

/* Reads a text. NULL after one error in diags when it is not YAML or passes a limit: nothing of such a text is used (it may be half of a file).
 * Duplicate keys are an error each, and the first one stays. text[n_text] is 0. at: line and column of the first byte (1:1; else for a text inside a text). */
struct doc_file *istio_doc_read(const char *name, const char *text, size_t n_text, struct istio_pos at, struct istio_diags *diags);
struct doc_file *istio_doc_get_ref(struct doc_file *f);
void istio_doc_put_ref(struct doc_file *own_f); /* NULL is fine */

/* The value of a key, or NULL; of a node that is not a map (or NULL): NULL. */
const struct doc_node *istio_doc_find(const struct doc_node *map, const char *key);
/* The key's own node. */
const struct doc_node *istio_doc_find_key(const struct doc_node *map, const char *key);
/* Text of a string value, or NULL. */
const char *istio_doc_text(const struct doc_node *map, const char *key);
/* Where the value of a key stands, or the map itself when there is no such key. */
struct istio_pos istio_doc_at(const struct doc_node *map, const char *key);
const char *istio_doc_type_name(enum doc_type t); /* "a string" */
