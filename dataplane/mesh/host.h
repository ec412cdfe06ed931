/* What all workers know of clusters and hosts: it survives snapshots by cluster name and address. Made and freed by housekeeping
 * (mesh_config_prepare and unprepare); workers reach it through endpoints and host sets of a configuration that they hold.
 *
 * Counters that workers add to are one cache line a worker; where there is a limit, a worker counts first and looks at the sum then, so that no
 * limit is ever passed (features.md DR-35). */
#pragma once

#include "dataplane/mesh/config.h"

#define MESH_HOSTS_MAX 262144u /* living at once, over all clusters */

enum mesh_breaker { MESH_BREAKER_CONNECTIONS, MESH_BREAKER_PENDING, MESH_BREAKER_REQUESTS, MESH_BREAKER_RETRIES, MESH_BREAKER_COUNT };

struct FOIL_CACHE_ALIGNED mesh_cluster_cell {
	uint32_t n[MESH_BREAKER_COUNT]; /* written by its worker alone */
};
/* Requests begun lately, in steps of the interval of a retry budget (breaker.h). */
#define MESH_BEGUN_STEPS 32u
struct FOIL_CACHE_ALIGNED mesh_begun {
	struct {
		uint64_t from_us; /* both are written by one worker alone */
		uint32_t n;
	} step[MESH_BEGUN_STEPS];
};
/* One cluster name. */
struct mesh_cluster_state {
	struct foil_slice name;
	uint32_t n_refs; /* housekeeping: hosts and sets that point here */
	uint32_t n_hosts, n_ejected; /* atomic: for max_ejection_percent; n_hosts are those of the published configuration */
	uint32_t health_epoch;       /* atomic: grows when a host is ejected or comes back, so that balancers look again */
	uint32_t n_backed_off;       /* atomic: hosts whose ejections are not 0 */
	uint32_t n_known_good;       /* atomic: hosts whose checks found them well, degraded ones included (health.c) */
	uint32_t n_degraded;         /* atomic: of those (health.c) */
	bool has_traffic;            /* atomic: a request or connection was sent somewhere, ever */
	uint32_t n_starved;          /* atomic: pools of all workers that wait for a place (places.c) */
	uint32_t n_probes_due;       /* atomic: ejected hosts that wait for a request to try them (outlier_probe.c) */
	uint64_t next_sweep_us;      /* atomic: outlier.c; 0 = not armed */
	struct mesh_begun *begun;     /* one a worker; NULL while no configuration has asked for it */
	uint32_t *n_told_changes;     /* of all clusters: mesh_shared_told_changes */
	struct mesh_cluster_state *next; /* housekeeping: same bucket */
	uint64_t hash;
	uint16_t n_workers;
	struct mesh_cluster_cell by_worker[];
};

/* What active checks know of a host (health.c). */
enum mesh_health {
	MESH_HEALTH_UNCHECKED, /* it has no check */
	MESH_HEALTH_UNKNOWN,   /* was not asked yet, and may be used */
	MESH_HEALTH_PENDING,   /* was not asked yet, and is not used: others are known to be well */
	MESH_HEALTH_GOOD,
	MESH_HEALTH_DEGRADED,  /* well, but to be used only where those that are GOOD are too few */
	MESH_HEALTH_FAILED
};

/* Of an ejected host that one request may bring back (outlier_probe.c). */
enum mesh_probation {
	MESH_PROBATION_NONE, /* its time is not over yet, or it is not ejected */
	MESH_PROBATION_DUE,
	MESH_PROBATION_RUNS,
	MESH_PROBATION_SETTLES /* a worker is deciding */
};

struct FOIL_CACHE_ALIGNED mesh_host_cell {
	uint32_t n_active; /* requests in flight of this worker: LEAST_REQUEST */
	uint32_t n_conns;  /* connections of this worker's pools: places.c */
	uint64_t latency_us, latency_at_us; /* what this worker's tries took, 0: none did yet; when it was noted: lb_least_latency.c */
};
struct mesh_host {
	struct mesh_cluster_state *cluster;
	uint8_t ip[16];
	uint16_t port;
	uint16_t n_workers;
	uint32_t index;  /* below MESH_HOSTS_MAX, unique among living hosts: a worker's pools are found by it */
	uint32_t n_refs; /* housekeeping: host sets that hold it */
	uint32_t mark;   /* housekeeping: the last walk that met it */
	struct mesh_host *next; /* housekeeping: same bucket */
	uint64_t hash;
	uint8_t health;          /* enum mesh_health; atomic: health.c */
	/* outlier.c */
	uint32_t consecutive_5xx, consecutive_gateway, consecutive_local; /* atomic */
	uint32_t ejections;      /* back-off multiplier; atomic */
	uint64_t ejected_us;     /* when; 0 = not ejected. Atomic */
	uint64_t probe_us, time_out_us; /* outlier_probe.c: when the next is due, 0 = not known; how long it stays out. Atomic */
	uint8_t probation;              /* enum mesh_probation; atomic */
	uint64_t seen_us;        /* when a worker met it first; 0 = not yet. Atomic; lb.c: slow start */
	struct mesh_host_cell by_worker[];
};

static inline void mesh_host_active_add(struct foil_worker *w, struct mesh_host *h, int32_t n)
{
	uint32_t *p = &h->by_worker[w->id].n_active;
	__atomic_store_n(p, *p + (uint32_t)n, __ATOMIC_RELAXED);
}

/* A try took so long until its answer began, or until it failed. For clusters with MESH_LB_LEAST_LATENCY. */
void mesh_latency_sample(struct foil_worker *w, struct mesh_host *h, uint64_t us, bool has_failed);

/* When a worker met the host first: now_us, if none has. */
static inline uint64_t mesh_host_seen(struct mesh_host *h, uint64_t now_us)
{
	uint64_t seen_us = __atomic_load_n(&h->seen_us, __ATOMIC_RELAXED), now = FOIL_MAX(now_us, 1u);

	if (FOIL_LIKELY(seen_us != 0))
		return seen_us;
	return __atomic_compare_exchange_n(&h->seen_us, &seen_us, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED) ? now : seen_us;
}

static inline bool mesh_host_is_ejected(const struct mesh_host *h)
{
	return __atomic_load_n(&h->ejected_us, __ATOMIC_RELAXED) != 0;
}

/* The state of a prepared set's cluster (breaker counts where no host has been chosen). */
struct mesh_cluster_state *mesh_host_set_cluster(const struct mesh_host_set *set);

struct mesh_shared;
/* The published configuration: workers read it once a turn. NULL before the first publish. */
const struct mesh_config *mesh_shared_config(const struct mesh_shared *sh);
/* Grows when a pool begins to wait for another worker's place. Atomic. */
uint32_t *mesh_shared_starved(struct mesh_shared *sh);
struct mesh_client_count;
/* Of all clients of the node (admission.h). */
struct mesh_client_count *mesh_shared_clients(struct mesh_shared *sh);
/* Grows when a host is ejected or comes back, is degraded or no more: what host_gauges.c tells. Atomic. */
const uint32_t *mesh_shared_told_changes(const struct mesh_shared *sh);
/* Once a turn of a worker, before it picks anything. */
void mesh_shared_turned(struct mesh_shared *sh, struct foil_worker *w);
/* Says that worker w works with c from now on (mesh_config_is_adopted, _is_quiet). */
void mesh_shared_adopted(struct mesh_shared *sh, struct foil_worker *w, const struct mesh_config *c);
