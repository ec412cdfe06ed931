/* The data plane's end of the channel to foil-agent: says who this node is, takes updates to dataplane/config, answers each when it is in force, sends
 * events. Main thread only; nothing blocks. The agent is hostile as far as this goes: what breaks the protocol costs it the channel. */
#pragma once

#include "ctrl/ring/channel.h"
#include "dataplane/config/config.h"
#include "dataplane/telemetry/shared.h"
#include "programs/node_file.h"

struct agent_link;

/* Listens at conf->agent_socket; agents wait until agent_link_start. 0, or -errno with a sentence (another hydrofoil has it). */
int agent_link_open(const struct node_conf *conf, struct agent_link **out, struct foil_error *err) FOIL_MUST_USE;

struct agent_link_params {
	struct snap *snap;
	struct mesh_shared *mesh;
	struct tele_shared *tele;
	void (*wake)(void *arg);    /* workers that rest must look: a snapshot was published */
	void (*applied)(void *arg); /* a new configuration runs: its settings may matter to the program */
	void *arg;
};
void agent_link_start(struct agent_link *l, const struct agent_link_params *p);
/* One turn: accepts, receives, applies, answers. */
void agent_link_turn(struct agent_link *l, uint64_t now_us);
unsigned int agent_link_fds(const struct agent_link *l, struct pollfd out[3]);
/* An update waits for workers to take it over, or there are more frames than one turn takes: turn again within a millisecond. */
bool agent_link_is_waiting(const struct agent_link *l);
/* Workers may ask for names at any time: turn again within a few milliseconds. */
bool agent_link_has_names(const struct agent_link *l);
/* Lost when no agent is there or the ring is full. */
void agent_link_event(struct agent_link *l, uint64_t wall_us, const char *name, const char *text);
void agent_link_close(struct agent_link *own_l); /* NULL is fine; removes the socket */
