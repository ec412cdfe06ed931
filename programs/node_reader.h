/* Reads one YAML value of a node file each, within bounds, or refuses it with a sentence that names file, line, column and the path of keys to it.
 * Internal to node_file.c. All return 0, or -EINVAL with r->err set; into and out are written only on success. */
#pragma once

#include <yaml.h>

#include "programs/node_file.h"

struct node_reader {
	const char *name; /* of the file */
	yaml_document_t *doc;
	struct foil_error *err;
	struct node_conf *conf;
	char path[160]; /* "ports[1].uri": of what is being read, for sentences */
};

typedef int (*node_read_fn)(struct node_reader *r, yaml_node_t *value, void *into);
struct node_key {
	const char *name;
	node_read_fn read;
	size_t offset; /* into the struct that `into` points at */
};

int node_refuse(struct node_reader *r, const yaml_mark_t *at, const char *fmt, ...) __attribute__((format(printf, 3, 4))); /* -EINVAL */
/* NULL: it is none, or has a NUL inside; refused. Borrowed from the document. */
const char *node_scalar(struct node_reader *r, yaml_node_t *n);
/* Each key at most once, at most 64 known ones; calls its read with into + offset. */
int node_read_mapping(struct node_reader *r, yaml_node_t *n, const struct node_key *keys, size_t n_keys, void *into);
int node_read_sequence(struct node_reader *r, yaml_node_t *n, size_t max, node_read_fn each, void *into);
int node_read_u64(struct node_reader *r, yaml_node_t *n, uint64_t min, uint64_t max, uint64_t *out);
int node_read_u32_in(struct node_reader *r, yaml_node_t *n, uint64_t min, uint64_t max, uint32_t *out);
int node_read_u16_in(struct node_reader *r, yaml_node_t *n, uint64_t min, uint64_t max, uint16_t *out);
int node_read_text(struct node_reader *r, yaml_node_t *n, char *out, size_t out_bytes); /* not empty */
int node_read_bool(struct node_reader *r, yaml_node_t *n, void *into);
int node_read_choice(struct node_reader *r, yaml_node_t *n, const char *const *words, size_t n_words, unsigned int *out);
int node_read_addr(struct node_reader *r, yaml_node_t *n, struct net_addr *out);
int node_read_prefix(struct node_reader *r, yaml_node_t *n, struct net_prefix *out);
