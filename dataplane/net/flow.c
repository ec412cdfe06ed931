/* The flow hash: Toeplitz with the key 0x6d5a repeated, which nic programs into hardware (Woo and Park 2012, "Scalable TCP session
 * monitoring with symmetric RSS"). A key of period 16 makes every 16-bit word of the input count alike, so both directions of a
 * flow hash alike, and the sum of the words can be hashed once instead of each word. Mapped IPv4 addresses bring 0xffff twice,
 * which cancels: the result is that of the plain 4-byte addresses.
 * Not a secret: whoever chooses addresses and ports can aim at one worker, as with any RSS. */
#include "dataplane/net/net_priv.h"

#define FLOW_KEY 0x6d5au

uint32_t net_flow_hash(const struct net_addr *a, const struct net_addr *b, uint16_t a_port, uint16_t b_port)
{
	uint64_t x[2], y[2];
	uint32_t word, r = 0;

	memcpy(x, a->b, 16);
	memcpy(y, b->b, 16);
	x[0] ^= x[1] ^ y[0] ^ y[1];
	x[0] ^= x[0] >> 32;
	x[0] ^= x[0] >> 16;
	word = (uint32_t)rte_be_to_cpu_16((uint16_t)x[0]) ^ a_port ^ b_port;
	for (unsigned int i = 0; i < 16; i++) {
		uint32_t window = (FLOW_KEY << i | FLOW_KEY >> (16 - i)) & 0xffff;
		r ^= window & (0u - (word >> (15 - i) & 1));
	}
	return r << 16 | r;
}
