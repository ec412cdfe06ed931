/* What a memif peer may say on the control socket, checked before DPDK's driver hears it. Pure: no socket, no memory of the peer's is
 * touched here. The protocol is memif 2.0 (VPP's documentation of it; DPDK's driver is its other end). */
#pragma once

#include "dataplane/core/base.h"
#include "nic/nic.h"

#define NIC_MEMIF_MESSAGE_BYTES 128u
#define NIC_MEMIF_REGIONS_MAX 256u /* the driver's table */

enum nic_memif_state { NIC_MEMIF_FRESH, NIC_MEMIF_TALKS, NIC_MEMIF_CONNECTED };

/* One control connection. Zeroed, then server and n_queues set (a server learns n_queues by the peer's INIT: see nic_memif_init_id). */
struct nic_memif_talk {
	bool server;     /* we are the server: the peer brings the memory */
	bool unsealed;   /* memory that the peer could take away again is taken all the same */
	enum nic_memif_state state;
	uint16_t n_queues, n_regions, n_rings, n_acks; /* n_queues: ours, each way */
	uint64_t region_bytes[NIC_MEMIF_REGIONS_MAX];
	uint64_t rings[2]; /* a bit a ring that the peer has named: from us, towards us */
};

/* The descriptors that came with a message. */
struct nic_memif_files {
	uint32_t n;
	bool is_memory;   /* the first: a regular file */
	bool is_sealed;   /* it cannot shrink */
	uint64_t n_bytes; /* its size */
};

/* True and *id if the message is the one with which a peer chooses an interface. */
bool nic_memif_init_id(const void *message, size_t n_bytes, uint32_t *id);
/* NULL if the driver may have the message, which counts as given to it; else the reason why this peer must go, half a sentence. */
const char *nic_memif_check(struct nic_memif_talk *t, const void *message, size_t n_bytes, const struct nic_memif_files *files);
