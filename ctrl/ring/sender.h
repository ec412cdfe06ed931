/* The agent's side of updates: keeps the connection to the data plane, tells what node that is, sends the newest set of resources (whole at first,
 * then what changed) and hears what became of it. Single-threaded; inside the owner's loop. */
#pragma once

#include "ctrl/ring/names.h"

#include "channel.pb-c.h"

struct ring_resource {
	uint32_t type; /* Foil__Conf__ResourceType */
	const char *name;
	const uint8_t *bytes;
	size_t n_bytes;
	uint64_t hash; /* of bytes: equal hash, equal resource */
};

struct ring_sender;

struct ring_sender_params {
	const char *socket_path, *agent_version; /* copied */
	void *arg;
	/* A data plane said who it is; sets may be sent from now on (ring_sender_set may be called from inside). The message is borrowed. */
	void (*node)(void *arg, const Foil__Conf__NodeHello *hello);
	/* What became of a set. */
	void (*result)(void *arg, const Foil__Conf__UpdateResult *result);
	void (*event)(void *arg, const Foil__Conf__Event *event);            /* may be NULL */
	/* Requests name this host: its addresses are wanted (ring_sender_answer, now or later). NULL: nobody can say; the node does not ask then. */
	void (*question)(void *arg, const char *name);
	/* The connection went, or could not be made (told once until it is made again). */
	void (*disconnected)(void *arg, const char *why);
};

/* NULL: no memory. */
struct ring_sender *ring_sender_new(const struct ring_sender_params *p);
void ring_sender_free(struct ring_sender *own_s);
/* The set that should run; a copy is kept. Replaces one that was not sent yet. 0 or -ENOMEM. */
int ring_sender_set(struct ring_sender *s, const char *version, const struct ring_resource *resources, size_t n_resources);
/* The newest set that was given, with these resources in the places of those of the same type and name: at the cost of these. 0; -ENOMEM; -ENOENT: there
 * is no such set (one was refused, say), or it has not all of them: give a whole one. */
int ring_sender_change(struct ring_sender *s, const char *version, const struct ring_resource *resources, size_t n_resources);
/* The answer to a question; lost without a node, or when the ring is full: it asks again. */
void ring_sender_answer(struct ring_sender *s, const struct ring_name_answer *a);
/* Connects (again after 100 ms, doubling to 2 s), sends, receives. Call it when one of its fds is readable and at least every 100 ms. */
void ring_sender_turn(struct ring_sender *s, uint64_t now_ms);
/* At most 2. */
unsigned int ring_sender_fds(const struct ring_sender *s, struct pollfd out[2]);
bool ring_sender_is_connected(const struct ring_sender *s); /* and the node has said who it is */
