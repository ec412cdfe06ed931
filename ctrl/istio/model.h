/* The model inside: decoded resources by kind, oldest first, and the tables by which they are found. Private to the room. */
#pragma once

#include "ctrl/istio/kinds.h"

struct resource {
	const struct istio_kind_row *row;
	const char *id;        /* "VirtualService/app/web" */
	const char *name, *namespace, *created; /* created: RFC 3339, or "" */
	struct istio_string_map labels, annotations;
	const struct doc_node *node;
	struct doc_file *file;
	const char *file_name;
	bool is_last_good;     /* not what the file says now: that was refused */
	bool is_made;          /* a Gateway or VirtualService that an Ingress was made into, whose row, id and node it has */
	void *spec;            /* of the row's table */
};

struct resource_list {
	struct resource **list;
	uint32_t n, n_room;
};

struct istio_model {
	struct istio_arena arena;
	unsigned int n_refs;
	const struct istio_model *previous; /* until finished */
	struct resource_list kinds[KIND_N];
	struct istio_map by_id;             /* struct resource */
	struct istio_map made_gateways;     /* of Ingresses: "namespace/name" -> struct resource */
	struct {
		struct doc_file **list;
		uint32_t n, n_room;
	} files;
	struct mesh_config *mesh;           /* never NULL when finished */
	const char *mesh_file_name;
	struct doc_file *mesh_file;         /* the text inside the ConfigMap, or NULL */
	struct mesh_networks *networks;     /* likewise */
	struct doc_file *networks_file;
	const char *root_namespace, *trust_domain;
	struct istio_model_stats stats;
};

/* Diagnostics about a decoded resource. field is printed as it is. */
void istio_resource_report(struct istio_diags *d, enum istio_severity severity, const char *code, const struct resource *r, struct istio_pos at,
			   const char *field,
		     const char *fmt, ...) __attribute__((format(printf, 7, 8)));
/* Of struct resource *: the oldest first, see istio_model_add. What was made of an Ingress has no age, as in Istio: it goes before all others, by its name. */
int istio_resource_by_age(const void *x, const void *y);
