/* The channel between foil-agent and hydrofoil: a memfd segment with two rings, handed over a Unix socket (design.md section 6).
 *
 * The data plane is the server: it owns the socket's path, makes a new segment for every agent, and serves one at a time. The agent is the client.
 * The socket carries the handshake, bytes that wake the other side and, by closing, the news of its death; everything else goes through the
 * rings. Nothing here blocks. Frames carry the messages of conf/proto/channel.proto. */
#pragma once

#include <poll.h>

#include "ctrl/ring/ring.h"

#define RING_ABI 1u /* of the segment and of the messages; another one is refused by both ends */

enum ring_frame_type {
	RING_FRAME_AGENT_HELLO = 1, RING_FRAME_UPDATE_BEGIN, RING_FRAME_UPDATE_RESOURCE, RING_FRAME_UPDATE_END, RING_FRAME_NAME_ANSWER, /* to the data plane */
	RING_FRAME_NODE_HELLO = 32, RING_FRAME_UPDATE_RESULT, RING_FRAME_EVENT, RING_FRAME_NAME_QUESTION,                      /* to the agent */
};

#define RING_REASON_BYTES 256

struct ring_channel {
	int socket; /* after the handshake: a byte wakes the other side, a close is its death */
	int memfd;
	uint64_t heartbeat;
	void *map;
	size_t n_map_bytes;
	struct ring_producer out;
	struct ring_consumer in;
	bool is_broken;
	char reason[RING_REASON_BYTES]; /* why, when broken */
};

/* RING_OK, RING_FULL or RING_TOO_LARGE; anything else broke the channel (is_broken, reason). Wakes the other side. */
enum ring_result ring_channel_send(struct ring_channel *ch, uint16_t type, const void *payload, uint32_t n_bytes);
/* RING_OK or RING_EMPTY; anything else broke the channel. The payload is our copy until the next call. */
enum ring_result ring_channel_recv(struct ring_channel *ch, uint16_t *type, const uint8_t **payload, uint32_t *n_bytes);
/* Takes what woke us and looks whether the peer has closed its socket: then the channel is broken. Call once a turn. */
void ring_channel_turn(struct ring_channel *ch);
/* What to poll: the socket, POLLIN. Returns 1. */
unsigned int ring_channel_fds(const struct ring_channel *ch, struct pollfd out[1]);
/* NULL is fine. */
void ring_channel_free(struct ring_channel *own_ch);

/* ---- the data plane's end */
struct foil_error;
struct ring_server;

struct ring_server_params {
	const char *path;          /* of the socket; its folder is made, mode 0700, when it is missing */
	uint64_t to_node_bytes;    /* 0 = 32 MiB, for a frame has to fit; powers of two */
	uint64_t to_agent_bytes;   /* 0 = 1 MiB */
};
/* 0; -EADDRINUSE when another process answers at the path; or -errno with a sentence. A stale socket file is replaced. */
int ring_server_open(const struct ring_server_params *p, struct ring_server **out, struct foil_error *err);
/* Accepts an agent when none is there (a second one is refused with a sentence) and drops a broken one. Returns the agent's channel or NULL; *is_new is
 * true at the first call that returns it. reason: why the last one went, or an agent was refused, if that happened in this call (else empty). */
struct ring_channel *ring_server_turn(struct ring_server *s, bool *is_new, char reason[RING_REASON_BYTES]);
/* At most 3: the listening socket, the channel's, and that of one who has not said hello. */
unsigned int ring_server_fds(const struct ring_server *s, struct pollfd out[3]);
/* Ends the agent's channel (a protocol error, say), the socket stays. */
void ring_server_drop(struct ring_server *s);
void ring_server_close(struct ring_server *own_s); /* removes the path */

/* ---- the agent's end */
/* Connects and maps; blocks at most timeout_ms for the handshake. NULL with a sentence in reason: nobody there, refused, another ABI, a segment that is
 * not what it says. */
struct ring_channel *ring_client_connect(const char *path, int timeout_ms, char reason[RING_REASON_BYTES]);
