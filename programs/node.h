/* One node's data plane put together: EAL, pools, ports and workers with all their rooms, from a node file. The main thread makes it, runs it and
 * takes it apart; what goes on between (snapshots, logs, signals) is hydrofoil.c's. */
#pragma once

#include <pthread.h>

#include "dataplane/mesh/mesh.h"
#include "dataplane/telemetry/shared.h"
#include "nic/nic.h"
#include "programs/node_file.h"
#include "programs/worker_loop.h"

struct node_worker {
	struct foil_worker *w;
	struct foil_pools pools;
	struct net_port ports[NODE_PORTS_MAX];
	struct worker_loop loop;
	bool is_init[FOIL_ROOM_COUNT], is_idle_init, is_running;
};

#define NODE_REFUSED_MAX (NODE_PORTS_MAX * NODE_ADDRS_MAX + 2 * NODE_SERVICES_MAX)
struct node {
	const struct node_conf *conf;
	struct mesh_cidr refused[NODE_REFUSED_MAX]; /* what the mesh borrows: conf's list, and what is ourselves */
	struct nic_port *ports[NODE_PORTS_MAX];
	struct node_worker *workers; /* conf->n_workers, cache-aligned */
	struct mesh_shared *mesh;
	struct tele_shared *tele;
	struct tls_crypto *crypto; /* NULL: no crypto_workers */
	pthread_t crypto_threads[NODE_WORKERS_MAX];
	uint16_t n_crypto_threads; /* that run */
	bool is_eal_up;
	uint64_t seed;
};

/* Everything but running. On failure nothing is left up. notice: what a person should know although it succeeded; not NULL.
 * 0, or -errno with a sentence. */
int node_open(struct node *n, const struct node_conf *conf, nic_notice_fn notice, struct foil_error *err) FOIL_MUST_USE;
/* Launches the workers. 0 or -errno. */
int node_run(struct node *n, struct foil_error *err) FOIL_MUST_USE;
/* Asks every worker to drain; node_is_drained says whether anything is still in flight. */
void node_drain(struct node *n);
bool node_is_drained(const struct node *n);
/* Downstream connections of all workers, as of their last report. */
uint64_t node_in_flight(const struct node *n);
/* Actions that a worker or more take for want of something (core/overload.h), as of their last reports. */
uint8_t node_overload(const struct node *n);
/* Ends the rest of every worker: there is something to see. */
void node_wake(struct node *n);
/* Stops and joins the workers, frees their rooms, closes the ports. Safe on a half-opened node. The snapshots must be freed between
 * node_halt (workers have stopped) and node_close. */
void node_halt(struct node *n);
void node_close(struct node *n);
