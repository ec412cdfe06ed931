/* What the tests of dataplane/config start from: a keeper over a real mesh_shared with one worker, and small valid resources to change. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dataplane/config/config.h"
#include "dataplane/mesh/host.h"
#include "snapshot.pb-c.h"

#define T_UPDATE_MAX 64
#define T_ABI 1u

struct t_conf {
	struct mesh_shared *mesh;
	struct snap *snap;
	struct foil_worker *w; /* id 0, nothing else */
	struct snap_resource list[T_UPDATE_MAX];
	size_t n;
	char dir[64];          /* state_dir; "" = none */
};

struct t_conf_params {
	size_t bytes_max;
	bool disk;
};
struct t_conf *t_conf_new(struct t_conf_params p);
#define t_conf(...) t_conf_new((struct t_conf_params){__VA_ARGS__})
void t_conf_free(struct t_conf *f);
/* A new keeper over the same folder, as after a restart. */
void t_conf_restart(struct t_conf *f);

/* Into the update at hand. Packs m at once. */
void t_put(struct t_conf *f, uint32_t type, const char *name, const ProtobufCMessage *m);
void t_put_raw(struct t_conf *f, uint32_t type, const char *name, const void *body, size_t n_bytes);
void t_put_removed(struct t_conf *f, uint32_t type, const char *name);
/* Applies the update at hand and begins the next. */
enum snap_result t_apply(struct t_conf *f, const char *version, bool full);
/* The worker takes the running one over. */
void t_adopt(struct t_conf *f);
/* The one rejection of the last update: its field and a part of its reason; fails the test otherwise. */
void t_assert_rejected(struct t_conf *f, const char *name, const char *field, const char *reason_part);

/* Small valid ones. */
void t_put_mesh(struct t_conf *f, const char *server_name);
void t_put_listener(struct t_conf *f, const char *name, const char *address, uint32_t port, const char *routes);
void t_put_routes(struct t_conf *f, const char *name, const char *domain, const char *cluster);
void t_put_cluster(struct t_conf *f, const char *name);
void t_put_endpoints(struct t_conf *f, const char *cluster, const char *address, uint32_t port);
/* mesh, listener "l" on 198.18.0.1:80, routes "r", cluster "c" with one endpoint. */
void t_put_all(struct t_conf *f);

#define T_MESH FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH
#define T_LISTENER FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER
#define T_ROUTES FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES
#define T_CLUSTER FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER
#define T_ENDPOINTS FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS

static inline char *t_text(const char *s) /* protobuf-c wants char *, and does not change it */
{
	return (char *)(uintptr_t)s;
}
