/* What a network card with checksum and segmentation offload does with an mbuf that asks for it (RTE_MBUF_F_TX_TCP_CKSUM, _TCP_SEG), for test ports: written
 * from the descriptions of the flags, not from our own output path. */
#pragma once

#include <rte_mbuf.h>
#include <stdbool.h>

#define CUTTER_FRAME_MAX 65600u

typedef void cutter_out(void *arg, const uint8_t *frame, uint32_t n_bytes);
/* One call of out for each frame that goes on the wire. false: lengths or flags of m do not fit together, nothing was sent. */
bool cutter_send(const struct rte_mbuf *m, cutter_out *out, void *arg);
