/* The data plane's side of updates: puts UpdateBegin, UpdateResource… and UpdateEnd together to one transaction, within a budget of memory. */
#pragma once

#include "ctrl/ring/channel.h"

struct ring_update_resource {
	uint32_t type;     /* Foil__Conf__ResourceType, not checked */
	const char *name;
	bool removed;
	const uint8_t *bytes; /* the packed resource */
	size_t n_bytes;
};
struct ring_update {
	const char *version;
	bool full;         /* what is not in it is removed */
	struct ring_update_resource *resources;
	size_t n_resources;
};

struct ring_receiver;
#define RING_UPDATE_BYTES_MAX (256u << 20)

/* bytes_max 0 = RING_UPDATE_BYTES_MAX. NULL: no memory. */
struct ring_receiver *ring_receiver_new(size_t bytes_max);
void ring_receiver_free(struct ring_receiver *own_r);

enum ring_receive {
	RING_RECEIVE_MORE,     /* taken, the update is not whole yet */
	RING_RECEIVE_UPDATE,   /* *out is whole; it lives until the next call */
	RING_RECEIVE_HELLO,    /* the agent's hello: *agent_version is set */
	RING_RECEIVE_REFUSED,  /* an update ended and is refused (budget, say): answer with reason; the channel goes on */
	RING_RECEIVE_PROTOCOL, /* against the protocol: drop the channel; reason says why */
};
enum ring_receive ring_receiver_frame(struct ring_receiver *r, uint16_t type, const uint8_t *payload, uint32_t n_bytes, struct ring_update *out,
				      char reason[RING_REASON_BYTES]);
/* Of the update that was refused, or is whole, or arrives; "" when there is none. */
const char *ring_receiver_version(const struct ring_receiver *r);
/* The agent's, from its hello; "" before. */
const char *ring_receiver_agent_version(const struct ring_receiver *r);
/* It said that it answers questions about names. */
bool ring_receiver_agent_resolves(const struct ring_receiver *r);
/* A new channel: forget what was arriving. */
void ring_receiver_reset(struct ring_receiver *r);
