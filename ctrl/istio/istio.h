/* The Istio model and its compiler. Sources (ctrl/source) add documents; the model decodes them by field tables, with diagnostics that name file,
 * line and column; the compiler turns a model into a snapshot: the packed resources of conf/proto for one node.
 *
 * Everything here belongs to one thread of the agent (or foilctl). Models and snapshots are immutable once made; a model holds references to the
 * documents that it came from, so that the source may read on. */
#pragma once

#include "ctrl/istio/doc.h"

struct Foil__Conf__NodeHello;

/* ---- diagnostics ---- */

enum istio_severity { ISTIO_ERROR, ISTIO_WARNING, ISTIO_INFO };

/* All strings are the list's own, never NULL. */
struct istio_diag {
	enum istio_severity severity;
	const char *code;     /* as Istio's analyzers have it ("IST0106"), ours begin with "HF" */
	const char *file;
	struct istio_pos at;
	const char *resource; /* "VirtualService/app/web", or "" */
	const char *field;    /* "spec.http[0].match[1].uri", or "" */
	const char *text;     /* what is wrong, and what to do */
};

#define ISTIO_DIAGS_MAX 2000u

struct istio_diags {
	struct istio_diag *list;
	size_t n, n_dropped;       /* beyond ISTIO_DIAGS_MAX: counted, not kept */
	size_t n_errors, n_warnings; /* of all */
	size_t n_allocated;        /* the list's own */
};

void istio_diags_init(struct istio_diags *d);
void istio_diags_fini(struct istio_diags *d);
void istio_diags_add(struct istio_diags *d, enum istio_severity severity, const char *code, const char *file, struct istio_pos at, const char *resource,
		     const char *field, const char *fmt, ...) __attribute__((format(printf, 8, 9)));
/* By file, line, column; errors before warnings at one place. */
void istio_diags_sort(struct istio_diags *d);
/* "FILE:LINE:COLUMN: error: VirtualService/app/web: spec.http[0]: TEXT [IST0106]"; the length it would have, like snprintf. */
int istio_diag_format(const struct istio_diag *d, char *out, size_t n_out);
const char *istio_severity_name(enum istio_severity s); /* "error" */

/* ---- the model ---- */

struct istio_model;

struct istio_model_stats {
	size_t n_resources; /* of kinds that we know, accepted */
	size_t n_refused;   /* not accepted: an error says why */
	size_t n_last_good; /* of the refused: an earlier version of it stays in use */
	size_t n_unknown;   /* of kinds that we do not know */
};

/* previous: the model before this one, or NULL. A resource that is refused is replaced by the version that previous has of it (and a diagnostic says
 * so). previous is not needed after the last istio_model_add. NULL: no memory. */
struct istio_model *istio_model_new(const struct istio_model *previous);
struct istio_model *istio_model_get_ref(struct istio_model *m); /* one more holder; each calls istio_model_free */
void istio_model_free(struct istio_model *own_m);
/* Takes the resources of one text (List kinds expanded). Holds a reference to f. Call it in the order of the texts' names: it is the order of age where
 * resources carry no creationTimestamp. 0 or -ENOMEM. */
int istio_model_add(struct istio_model *m, struct doc_file *f, struct istio_diags *diags);
/* After the last add, before compile: orders and links. 0 or -ENOMEM. */
int istio_model_finish(struct istio_model *m, struct istio_diags *diags);
struct istio_model_stats istio_model_stats(const struct istio_model *m);

/* ---- the compiler ---- */

/* What is known of the names that stand where addresses could (ServiceEntry with resolution DNS or DNS_ROUND_ROBIN). */
#define ISTIO_ADDRESSES_MAX 256u /* of one name */
enum istio_name_use { ISTIO_NAME_NOW, ISTIO_NAME_LAST_GOOD }; /* the latter: even when the newest answer says that it has none any more */
struct istio_names {
	void *arg;
	/* IP addresses of name, each once, best first: up to n_max of them into out, and how many. Borrowed until the compiler returns. */
	size_t (*addresses)(void *arg, const char *name, enum istio_name_use use, const char **out, size_t n_max);
};

struct istio_gateway_address {
	const char *const *label_keys, *const *label_values;
	size_t n_labels;
	const char *const *addresses;
	size_t n_addresses;
};

/* What the compiler needs to know of the node that will run the snapshot: from its NodeHello. Borrowed for the call. */
struct istio_node {
	const struct istio_gateway_address *gateways;
	size_t n_gateways;
	const char *const *service_cidrs;
	size_t n_service_cidrs;
	const char *const *captured_cidrs; /* of other stations: connections to them come to this node, and can go on to where they went */
	size_t n_captured_cidrs;
	const char *locality; /* region/zone/subzone; NULL: none */
	const char *const *label_keys, *const *label_values;
	size_t n_labels;
	const char *service_account; /* "namespace/name": whose identity the node has; NULL: istio-system/hydrofoil */
	const struct istio_names *names; /* addresses of names; NULL: none is known */
	bool is_any; /* every Gateway has the address 0.0.0.0, and every service address is served */
};

/* For validation without a node. */
extern const struct istio_node istio_any_node;

/* The node of a NodeHello; NULL: no memory. Strings are borrowed from hello, which must stay. Freed by istio_node_free. */
struct istio_node *istio_node_from_hello(const struct Foil__Conf__NodeHello *hello);
void istio_node_free(struct istio_node *own_n);

/* One packed message of snapshot.proto. */
struct istio_resource {
	uint32_t type; /* Foil__Conf__ResourceType */
	const char *name;
	const uint8_t *bytes;
	size_t n_bytes;
	uint64_t hash; /* xxHash64 of bytes */
};

/* Ordered by type, then name; no two of one type and name. Same model and node: the same bytes. */
struct istio_snapshot {
	const char *version;
	const struct istio_resource *resources;
	size_t n_resources;
	size_t n_bytes; /* of all resources */
	const char *const *identities; /* SPIFFE ids whose certificates it names as Secrets, which are the caller's to add; so is that of the roots, "ROOTCA" */
	size_t n_identities;
	const char *const *files; /* paths of certificates, keys and CRLs that were read, or could not be */
	size_t n_files;
	uint64_t files_stamp;     /* of their state when they were read */
	const char *const *unusable; /* Secrets that are there and cannot be used: whoever has them from before may keep them */
	size_t n_unusable;
	const char *const *names; /* that endpoints need the addresses of: lower case, each once, in order */
	size_t n_names;
	uint64_t dns_refresh_us;  /* MeshConfig dnsRefreshRate */
	const char *trust_domain;
	const char *extra_roots; /* PEM: MeshConfig caCertificates, to be among the roots; "" = none */
};

/* Of the state of files now: another one, and they should be read again. */
uint64_t istio_files_stamp(const char *const *files, size_t n_files);
/* version: the caller's name for it, copied. 0; -ENOMEM (nothing made); whatever else is wrong becomes diagnostics, and the rest is compiled. */
int istio_compile(struct istio_model *m, const struct istio_node *node, const char *version, struct istio_snapshot **out,
		  struct istio_diags *diags);
void istio_snapshot_free(struct istio_snapshot *own_s); /* NULL is fine. It holds the model and all that the compiler made of it, for patches */

/* A text of which the model has the contents before; now it has those of after. */
struct istio_file_change {
	struct doc_file *before, *after;
};
/* Brings a snapshot up to date when nothing but EndpointSlices of services that have such already changed: at the cost of those, not of the mesh. The
 * resources are byte for byte what istio_compile would make of the new contents; only diagnostics about the old contents are not taken back. node: as
 * it was given to istio_compile. *changed: the new resources, of the snapshot's memory, until the next patch. New diagnostics are added to diags.
 * 0; -ENOTSUP: more changed than that, the snapshot is as it was: compile anew; -ENOMEM: compile anew, this one is of no use any more. */
int istio_patch(struct istio_snapshot *s, const struct istio_node *node, const char *version, const struct istio_file_change *changes, size_t n_changes,
		struct istio_diags *diags, const struct istio_resource **changed, size_t *n_changed);

/* Brings a snapshot up to date when these names have other addresses than when it was made: at the cost of the services that use them. The version stays:
 * it is that of the configuration. As istio_patch: *changed, -ENOMEM. node->names says what the addresses are now. */
int istio_patch_names(struct istio_snapshot *s, const struct istio_node *node, const char *const *names, size_t n_names, const struct istio_resource **changed,
		      size_t *n_changed);
/* What the snapshot and all its patches hold. It shrinks by compiling anew. */
size_t istio_snapshot_memory_bytes(const struct istio_snapshot *s);

/* ---- explain ---- */

/* A request, or with is_connection a connection that is not looked into: TCP, or TLS by its server name. */
struct istio_request {
	const char *method;    /* NULL: GET */
	const char *scheme;    /* NULL: http */
	const char *authority; /* NULL: none; of a connection: the host whose address is meant when address is NULL */
	const char *path;      /* with the query */
	const char *address;   /* of the listener, or where a captured connection goes; NULL: any */
	uint32_t port;         /* likewise; 0: any */
	const char *const *header_names, *const *header_values;
	size_t n_headers;
	bool is_connection, is_tls;
	const char *server_name; /* of TLS; NULL: none */
	const char *alpn;        /* one protocol that TLS offers; NULL: none */
};

/* One line of the answer: text[at..at + n), without its indentation. resource and file are NULL where none is named. */
struct istio_step {
	const char *kind; /* "request", "listener", "chain", "virtual_host", "route", "cluster", "subset", "policy", "endpoint", "hidden", "end" */
	const char *verdict; /* "taken", "passed over", or "" */
	size_t at, n;
	size_t reason_at, n_reason; /* of these, why it was passed over; n_reason 0: not said */
	unsigned int depth;
	char *resource, *file;
	uint32_t line, column;
};
struct istio_steps {
	struct istio_step *list;
	size_t n;
};
void istio_steps_fini(struct istio_steps *s);

/* What would become of a request: listener, chain, virtual host, every route that was passed over and why, cluster, endpoints. *text: the caller frees it by
 * free() (NULL: no memory). steps: the same for programs, or NULL; set when there is a text. 0: something would be tried upstream or answered by a route;
 * 1: no listener, chain, host or route. Memory of the snapshot's compiler is used: as istio_patch it is for the snapshot's own thread. */
int istio_explain(const struct istio_snapshot *s, const struct istio_request *r, char **text, struct istio_steps *steps);
