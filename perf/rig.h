/* What the benchmarks of net/ and tcp/ start from: one worker over a fake port, and peers that are the benchmark itself. Frames are built
 * before the clock runs; checksums are the port's work, as with a NIC.
 *
 * Peer number id is at 198.18.(1 + id / 60000) and port 1024 + id % 60000; we are 198.19.0.1 port 80. Neighbours answer at once. */
#pragma once

#include <x86intrin.h>

#include "dataplane/tcp/tcp_priv.h"

#define RIG_PORT 80
#define RIG_PEER_ISN 1000u /* the first byte of a peer is 1001 */
#define RIG_BURST 64

struct rig {
	struct foil_worker w;
	struct foil_pools pools;
	struct net_port port;
	struct tcp_listener *listener;
	uint32_t *isn;           /* ours towards each peer, of the last SYN-ACK */
	uint32_t n_peers_max;
	struct stream *accepted; /* the last one */
	bool consume;            /* take what comes */
	uint64_t n_accepted, n_closed, n_tx, n_tx_bytes;
	struct rte_mbuf *answers[RIG_BURST]; /* of neighbours */
	uint32_t n_answers;
};

/* EAL (no devices, n_mbufs buffers), worker, net, tcp with p, a listener that takes everybody. Ends the process with a sentence when that
 * cannot be had. */
void rig_start(struct rig *r, const struct tcp_params *p, uint32_t n_mbufs, uint32_t n_peers_max);
void rig_stop(struct rig *r);
/* One segment of peer id. With a SYN it carries MSS, SACK-permitted, timestamps and wscale 7; others carry the timestamp. */
struct rte_mbuf *rig_seg(struct rig *r, uint32_t id, uint8_t flags, uint32_t seq, uint32_t ack, uint32_t n_bytes);
/* A turn of the loop with these packets. */
void rig_turn(struct rig *r, struct rte_mbuf **own_pkts, uint16_t n_pkts);
/* Moves the clock on, with turns at every timer. */
void rig_wait(struct rig *r, uint64_t us);
/* Handshakes of peers from..from+n, in bursts; returns the cycles of one, by the burst in the middle. */
double rig_open(struct rig *r, uint32_t from, uint32_t n);
/* Figures of bursts, of which the one in the middle counts: whatever else the machine did hits some of them. */
#define RIG_FIGURES_MAX 8192u
struct rig_figures {
	uint32_t n;
	uint64_t cycles[RIG_FIGURES_MAX];
};
static inline void rig_note(struct rig_figures *f, uint64_t cycles)
{
	f->cycles[f->n++ % RIG_FIGURES_MAX] = cycles;
}
double rig_middle(struct rig_figures *f); /* reorders */
uint64_t rig_rss_bytes(void);
/* Where peer id's connection is; NULL: none. */
struct tcp_conn *rig_conn(struct rig *r, uint32_t id);
struct tcp_key rig_key(uint32_t id);

static inline uint64_t rig_cycles(void)
{
	_mm_lfence();
	return __rdtsc();
}
