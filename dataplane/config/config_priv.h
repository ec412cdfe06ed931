/* What the files of dataplane/config share: names' slots, the scan of packed bytes, the decoder's context, sets of resources. */
#pragma once

#include "dataplane/config/config.h"
#include "dataplane/core/siphash.h"
#include "snapshot.pb-c.h"

#define SNAP_TEXT_BYTES_MAX 65536u
#define SNAP_ARRAY_MAX 65535u                      /* most counts in mesh/config.h are 16 bits */
#define SNAP_DURATION_US_MAX 1000000000000000ull   /* 31 years: sums with now_us never wrap */
#define SNAP_FIELD_BYTES 160u

/* ---- slots.c: a number for each name of a cluster or route table, for as long as any resource in memory uses the name */
struct snap_slot {
	struct snap_slot *next; /* of the bucket */
	uint64_t hash;
	uint32_t number, n_refs;
	uint32_t n_bytes;
	char name[];
};
struct snap_slots {
	struct foil_siphash_key key;
	struct snap_slot **buckets, **by_number;
	uint32_t n_buckets; /* a power of two, 0 before the first */
	uint32_t n, n_numbers /* one more than the highest ever given */, cap, first_free;
};
/* Finds or makes it and counts a reference. NULL: no memory. */
struct snap_slot *snap_slot_get(struct snap_slots *t, struct foil_slice name) FOIL_MUST_USE;
void snap_slot_put(struct snap_slots *t, struct snap_slot *slot);
void snap_slots_fini(struct snap_slots *t);

/* ---- wire.c */
/* Walks the packed bytes by the message's descriptor without allocating: every field is known, has its wire type, is there at most once unless
 * repeated (one of a oneof), lengths nest, enumerations and booleans have values of theirs, text is UTF-8 without NUL. 0, or -EINVAL with field and
 * text set. What passes cannot surprise protobuf-c: no merging, no unknown fields, no depth beyond the descriptors'. */
int snap_wire_check(const ProtobufCMessageDescriptor *desc, struct foil_slice packed, struct foil_error *err) FOIL_MUST_USE;

/* ---- a decoded resource */
struct snap_ref { /* this resource uses that name */
	struct snap_ref *next;
	struct snap_slots *table;
	struct snap_slot *slot;
};
struct snap_res {
	struct mesh_res *res;    /* head of the mesh's struct; this and all else lie in res->blob */
	struct foil_slice body;  /* the packed bytes, kept for the disk and for comparing */
	struct snap_ref *refs;
	size_t n_bytes;          /* memory of it all, with a charge for its regular expressions */
};
struct snap_mesh { /* decoded MeshSettings */
	struct mesh_res res;
	struct mesh_settings settings;
};

/* ---- field.c: the decoder's context and single fields. All return 0, or -EINVAL or -ENOMEM with err set */
struct snap_dec {
	struct snap *snap;
	struct snap_res *res;
	struct foil_blob *b;                    /* res->res->blob */
	const struct mesh_settings *settings;   /* of the same snapshot; NULL while they are decoded themselves */
	struct foil_error *err;
	uint16_t n_workers;
	uint32_t n_regexes;
	char path[SNAP_FIELD_BYTES];            /* where we are: "virtual_hosts[0].routes[3]" */
	uint16_t n_path;
};
/* Goes into a field, or element index of it (-1: no list); leave gets what enter returned. */
uint16_t snap_enter(struct snap_dec *d, const char *field, long index);
void snap_leave(struct snap_dec *d, uint16_t mark);
int snap_fail(struct snap_dec *d, const char *field, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int snap_no_memory(struct snap_dec *d);
/* An error's text and field come from a hostile side: everything that a terminal or a log could take for its own becomes '?'. */
void snap_printable(char *text);

enum snap_text {
	SNAP_TEXT_ANY,      /* no control characters */
	SNAP_TEXT_VALUE,    /* of a header: also tab */
	SNAP_TEXT_NAME,     /* not empty, no control characters, at most SNAP_NAME_BYTES_MAX */
	SNAP_TEXT_HEADER,   /* a header's name: RFC 9110 token in lower case */
	SNAP_TEXT_HOST,     /* lower case, no blank, slash, '@', '?', '#' or '*'; may be empty */
};
/* NULL counts as empty. A copy in the resource's blob. */
int snap_text(struct snap_dec *d, const char *field, const char *value, enum snap_text kind, struct foil_slice *out) FOIL_MUST_USE;
int snap_texts(struct snap_dec *d, const char *field, char *const *list, size_t n, enum snap_text kind, const struct foil_slice **out, uint16_t *n_out)
	FOIL_MUST_USE;
/* The message's own name is the resource's. */
int snap_own_name(struct snap_dec *d, const char *field, const char *name) FOIL_MUST_USE;
/* Room for a list of n things, at least min; *out is zeroed memory. */
int snap_list(struct snap_dec *d, const char *field, size_t n, size_t n_min, size_t n_max, size_t bytes_each, void **out) FOIL_MUST_USE;
int snap_range(struct snap_dec *d, const char *field, uint64_t value, uint64_t min, uint64_t max) FOIL_MUST_USE;
int snap_duration(struct snap_dec *d, const char *field, bool has, uint64_t value_us, uint64_t default_us, uint64_t *out_us) FOIL_MUST_USE;
int snap_ip(struct snap_dec *d, const char *field, const char *text, uint8_t out[16]) FOIL_MUST_USE;
int snap_port(struct snap_dec *d, const char *field, uint32_t value, uint16_t *out) FOIL_MUST_USE;
int snap_cidrs(struct snap_dec *d, const char *field, char *const *list, size_t n, const struct mesh_cidr **out, uint16_t *n_out) FOIL_MUST_USE;
int snap_statuses(struct snap_dec *d, const char *field, const uint32_t *list, size_t n, const uint16_t **out, uint16_t *n_out) FOIL_MUST_USE;
int snap_source(struct snap_dec *d, const Foil__Conf__SourceRef *m, struct mesh_source *out) FOIL_MUST_USE;
int snap_regex(struct snap_dec *d, const char *field, struct foil_slice pattern, bool ignore_case, const struct mesh_regex **out) FOIL_MUST_USE;
int snap_lower(struct snap_dec *d, struct foil_slice *text) FOIL_MUST_USE; /* a copy in ASCII lower case */
/* A cluster's or route table's name and slot; the resource holds the slot until it is freed. */
int snap_cluster_ref(struct snap_dec *d, const char *field, const char *name, struct foil_slice *out, uint32_t *slot) FOIL_MUST_USE;
int snap_secret_ref(struct snap_dec *d, const char *field, const char *name, struct foil_slice *out, uint32_t *slot) FOIL_MUST_USE;
/* A number for these rules, any bytes. */
int snap_tls_ref(struct snap_dec *d, struct foil_slice rules, uint32_t *slot) FOIL_MUST_USE;
int snap_routes_ref(struct snap_dec *d, const char *field, const char *name, struct foil_slice *out, uint32_t *slot) FOIL_MUST_USE;

/* ---- one file a resource. own: zeroed, as large as its kind needs, with its res set */
int snap_decode_mesh(struct snap_dec *d, const ProtobufCMessage *m, void *own) FOIL_MUST_USE;      /* struct snap_mesh */
int snap_decode_listener(struct snap_dec *d, const ProtobufCMessage *m, void *own) FOIL_MUST_USE;  /* struct mesh_listener */
int snap_decode_routes(struct snap_dec *d, const ProtobufCMessage *m, void *own) FOIL_MUST_USE;    /* struct mesh_routes */
int snap_decode_cluster(struct snap_dec *d, const ProtobufCMessage *m, void *own) FOIL_MUST_USE;   /* struct mesh_cluster */
int snap_decode_health_checks(struct snap_dec *d, const Foil__Conf__Endpoints *m, struct mesh_health_check **out) FOIL_MUST_USE;
int snap_decode_endpoints(struct snap_dec *d, const ProtobufCMessage *m, void *own) FOIL_MUST_USE; /* struct mesh_endpoints */

int snap_decode_secret(struct snap_dec *d, const ProtobufCMessage *m, void *own) FOIL_MUST_USE;    /* struct mesh_secret */
void snap_secret_wipe(struct mesh_secret *s, struct foil_slice body); /* before its memory goes */

/* ---- parts that several of them share */
int snap_decode_weighted(struct snap_dec *d, Foil__Conf__WeightedCluster *const *list, size_t n, const struct mesh_weighted_cluster **out,
			 uint16_t *n_out, uint32_t *total_weight) FOIL_MUST_USE; /* decode_weighted.c */
int snap_decode_header_ops(struct snap_dec *d, const char *field, const Foil__Conf__HeaderOps *m, bool is_request, struct mesh_header_ops *out)
	FOIL_MUST_USE; /* decode_headers.c; m may be NULL */
int snap_decode_string_match(struct snap_dec *d, const char *field, const Foil__Conf__StringMatch *m, struct mesh_string_match *out)
	FOIL_MUST_USE; /* decode_match.c */
bool snap_is_pseudo_header(const char *name); /* NULL is none */
int snap_decode_match(struct snap_dec *d, const Foil__Conf__RouteMatch *m, struct mesh_route_match *out) FOIL_MUST_USE;
int snap_decode_hcm(struct snap_dec *d, const Foil__Conf__HttpConnectionManager *m, struct mesh_hcm *out) FOIL_MUST_USE; /* decode_hcm.c */
int snap_decode_route_action(struct snap_dec *d, const Foil__Conf__RouteAction *m, struct mesh_route_action *out) FOIL_MUST_USE; /* decode_action.c */
int snap_decode_redirect(struct snap_dec *d, const Foil__Conf__Redirect *m, struct mesh_redirect *out) FOIL_MUST_USE;
int snap_decode_direct(struct snap_dec *d, const Foil__Conf__DirectResponse *m, struct mesh_direct_response *out) FOIL_MUST_USE;
int snap_decode_retry(struct snap_dec *d, const Foil__Conf__RetryPolicy *m, const struct mesh_retry_policy **out) FOIL_MUST_USE; /* decode_retry.c */
int snap_decode_fault(struct snap_dec *d, const Foil__Conf__FaultInjection *m, const struct mesh_fault **out) FOIL_MUST_USE; /* decode_filters.c */
int snap_decode_cors(struct snap_dec *d, const Foil__Conf__CorsPolicy *m, const struct mesh_cors **out) FOIL_MUST_USE;
int snap_decode_mirrors(struct snap_dec *d, Foil__Conf__MirrorPolicy *const *list, size_t n, const struct mesh_mirror **out, uint16_t *n_out) FOIL_MUST_USE;

int snap_decode_downstream_tls(struct snap_dec *d, const Foil__Conf__DownstreamTls *m, const struct mesh_downstream_tls **out) FOIL_MUST_USE; /* decode_tls.c */
int snap_decode_upstream_tls(struct snap_dec *d, const Foil__Conf__UpstreamTls *m, const struct mesh_upstream_tls **out) FOIL_MUST_USE;

/* ---- resource.c */
/* "listener"; NULL for a type that does not exist. */
const char *snap_type_word(uint32_t type);
uint64_t snap_hash(const struct snap *s, struct foil_slice bytes);
/* Checks, unpacks and decodes one resource within bytes_max (> 0) of memory. settings: see snap_dec. 0, -EINVAL or -ENOMEM with a sentence. */
int snap_res_new(struct snap *s, const struct snap_resource *r, const struct mesh_settings *settings, size_t bytes_max, struct snap_res **out,
		 struct foil_error *err) FOIL_MUST_USE;
void snap_res_free(struct snap *s, struct snap_res *own_r);
/* Order of a set: type, then name. */
int snap_key_compare(uint32_t type_a, struct foil_slice name_a, uint32_t type_b, struct foil_slice name_b);

/* ---- set.c: what one snapshot is made of */
struct snap_set {
	struct snap_set *next;   /* of the old ones */
	struct foil_blob blob;   /* this struct, the list and mesh itself */
	struct mesh_config *mesh;
	struct snap_res **list;  /* by type and name */
	size_t n, n_bytes;
	bool is_prepared;        /* mesh_config_prepare has run on mesh */
};
/* The running set with the update in it; rejections go to s. NULL: refused. *is_same: every resource is that of the running set. */
struct snap_set *snap_set_merge(struct snap *s, const struct snap_update *u, bool *is_same);
/* Fills set->mesh but for what mesh_config_prepare does. False: no memory, rejected. */
bool snap_set_build(struct snap *s, struct snap_set *set, struct foil_slice version) FOIL_MUST_USE;
/* Of a built set: names that must be there, addresses that may be there once. False: rejected. */
bool snap_set_check(struct snap *s, struct snap_set *set) FOIL_MUST_USE;
void snap_set_free(struct snap *s, struct snap_set *own_set);

/* ---- tls_contexts.c */
/* Makes the contexts of a laid out set, or takes them over from the running one where neither rules nor secrets have changed. False: rejected. */
bool snap_tls_build(struct snap *s, struct snap_set *set) FOIL_MUST_USE;
void snap_tls_free(struct snap_set *set);

/* ---- disk.c */
int snap_disk_write(const struct snap *s, const struct snap_set *set, struct foil_error *err) FOIL_MUST_USE;
/* Reads and checks the frame of the file. The update's memory is in b. 0, -ENOENT or -errno. */
int snap_disk_read(const struct snap *s, struct foil_blob *b, struct snap_update *out, struct foil_error *err) FOIL_MUST_USE;
int snap_disk_parse(const struct snap *s, struct foil_slice file, struct foil_blob *b, struct snap_update *out, struct foil_error *err) FOIL_MUST_USE;

struct snap {
	struct foil_blob blob; /* this struct */
	struct snap_params p;
	char state_dir[256];
	struct snap_slots clusters, routes, secrets, tls;
	struct foil_siphash_key key;
	struct snap_set *running, *old;
	char version[SNAP_VERSION_BYTES];
	size_t n_bytes_in_memory; /* of all resources */
	uint64_t generation, n_applied, n_rejected, n_unchanged;
	uint64_t written_us;      /* last try; 0 = never */
	bool is_dirty;            /* what runs is not what is on disk */
	size_t n_rejections, n_rejections_more;
	struct snap_rejection rejections[SNAP_REJECTIONS_MAX];
};
void snap_reject(struct snap *s, uint32_t type, struct foil_slice name, const char *field, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
