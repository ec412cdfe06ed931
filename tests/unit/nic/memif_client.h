/* The client's end of memif, by hand: what a test wants said, in whatever order, on a socket of its own. Not for programs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MC_LOG2_RING 6u
#define MC_SLOTS (1u << MC_LOG2_RING)
#define MC_RING_BYTES (128u + 16u * MC_SLOTS)
#define MC_BUFFER_BYTES 2048u
#define MC_REGION_BYTES (2u * MC_RING_BYTES + 2u * MC_SLOTS * MC_BUFFER_BYTES)

enum mc_type { MC_ACK = 1, MC_HELLO, MC_INIT, MC_ADD_REGION, MC_ADD_RING, MC_CONNECT, MC_CONNECTED, MC_DISCONNECT };

struct mc_message {
	uint8_t bytes[128];
};

struct mc {
	int sock, memory, events[2];
	uint8_t *at; /* the region, mapped; NULL before */
};

/* One message each, as the protocol has them. */
struct mc_message mc_text(enum mc_type type, size_t at, const char *text); /* CONNECT, CONNECTED: at 2; DISCONNECT: at 6 */
struct mc_message mc_hello(uint16_t max_rings, uint8_t log2_ring_size);
struct mc_message mc_init(uint32_t id);
struct mc_message mc_region(uint16_t index, uint64_t n_bytes);
struct mc_message mc_ring(bool to_server, uint16_t index, uint16_t region, uint32_t offset, uint8_t log2_ring_size);

bool mc_open(struct mc *c, const char *path);
bool mc_send(const struct mc *c, const struct mc_message *m, int fd); /* fd -1: none */
/* The type of the next message, 0 at the end of the connection. Waits. */
int mc_hear(const struct mc *c);
/* All of it, up to CONNECTED. False if the server went away. The region is sealed unless asked otherwise. */
bool mc_connect(struct mc *c, const char *path, uint32_t id, bool sealed);
/* Fills the ring towards the server; n_bytes a packet. Returns packets that it had taken since the last call. */
uint16_t mc_push(struct mc *c, uint16_t n_bytes);
/* Frees what the server sent, so that it may send on. */
void mc_pull(struct mc *c);
void mc_close(struct mc *c);
