/* Configurations of clusters and endpoints in a few lines, for the tests of balancing, ejection and publishing. Each configuration owns its clusters;
 * endpoint sets are the caller's, so that several configurations can hold one. */
#pragma once

#include <stdlib.h>

#include "tests/unit/support.h"

#include "dataplane/core/error.h"
#include "dataplane/mesh/lb.h"
#include "dataplane/mesh/mesh.h"
#include "dataplane/mesh/outlier.h"

#define T_SLOTS 8u

struct t_config {
	struct mesh_config c;
	struct mesh_cluster clusters[T_SLOTS];
	const struct mesh_cluster *by_slot[T_SLOTS];
	const struct mesh_endpoints *endpoints[T_SLOTS];
	struct mesh_host_set *sets[T_SLOTS];
};

/* Endpoints 198.19.0.1, .2, …: port 8080; weights NULL: 1 each. */
static inline struct mesh_endpoints *t_endpoints(uint32_t n, const uint32_t *weights)
{
	struct mesh_endpoints *e = calloc(1, sizeof(*e) + n * sizeof(struct mesh_endpoint));
	struct mesh_endpoint *list = (struct mesh_endpoint *)(void *)(e + 1);

	for (uint32_t i = 0; i < n; i++)
		list[i] = (struct mesh_endpoint){.ip = {[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 19, [14] = (uint8_t)((i + 1) >> 8),
			[15] = (uint8_t)(i + 1)},
						 .port = 8080, .weight = weights ? weights[i] : 1};
	e->endpoints = list;
	e->n_endpoints = n;
	return e;
}

static inline struct mesh_endpoint *t_endpoint(struct mesh_endpoints *e, uint32_t i)
{
	return (struct mesh_endpoint *)(uintptr_t)&e->endpoints[i];
}

/* An empty configuration. */
static inline struct t_config *t_config_new(uint64_t generation)
{
	struct t_config *t = aligned_alloc(64, (sizeof(*t) + 63) & ~(size_t)63);

	memset(t, 0, sizeof(*t));
	t->c.generation = generation;
	t->c.clusters = t->by_slot;
	t->c.endpoints = t->endpoints;
	t->c.host_sets = t->sets;
	t->c.n_cluster_slots = T_SLOTS;
	return t;
}

static inline struct mesh_cluster *t_config_add(struct t_config *t, uint32_t slot, const char *name, enum mesh_lb lb, const struct mesh_endpoints *e)
{
	t->clusters[slot] = (struct mesh_cluster){.res.name = foil_slice_str(name), .slot = slot, .lb = lb};
	t->by_slot[slot] = &t->clusters[slot];
	t->endpoints[slot] = e;
	return &t->clusters[slot];
}

static inline void t_config_publish(struct mesh_shared *sh, struct t_config *t)
{
	struct foil_error err = {0};

	if (mesh_config_prepare(sh, &t->c, &err) != 0)
		fail_msg("%s", err.text);
	mesh_config_publish(sh, &t->c);
}

static inline void t_config_free(struct mesh_shared *sh, struct t_config *t)
{
	mesh_config_unprepare(sh, &t->c);
	free(t);
}

static inline struct mesh_shared *t_shared(uint16_t n_workers)
{
	struct mesh_shared *sh = mesh_shared_new(&(const struct mesh_shared_params){.n_workers = n_workers});

	assert_non_null(sh);
	return sh;
}

static inline const struct mesh_endpoint *t_pick(struct foil_worker *w, const struct t_config *t, uint32_t slot)
{
	return mesh_lb_pick(w, t->by_slot[slot], t->endpoints[slot], t->sets[slot], NULL, 0, 0);
}
