/* SipHash (Aumasson and Bernstein 2012): keyed hash for tables whose keys strangers choose, ISNs and ports. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct foil_siphash_key {
	uint64_t k0, k1;
};

#define FOIL_SIP_ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))
#define FOIL_SIP_ROUND(v0, v1, v2, v3)                                                                                 \
	do {                                                                                                           \
		v0 += v1, v1 = FOIL_SIP_ROTL(v1, 13), v1 ^= v0, v0 = FOIL_SIP_ROTL(v0, 32);                            \
		v2 += v3, v3 = FOIL_SIP_ROTL(v3, 16), v3 ^= v2;                                                        \
		v0 += v3, v3 = FOIL_SIP_ROTL(v3, 21), v3 ^= v0;                                                        \
		v2 += v1, v1 = FOIL_SIP_ROTL(v1, 17), v1 ^= v2, v2 = FOIL_SIP_ROTL(v2, 32);                            \
	} while (0)

/* SipHash-2-4. */
static inline uint64_t foil_siphash(const struct foil_siphash_key *key, const void *data, size_t n_bytes)
{
	uint64_t v0 = key->k0 ^ 0x736f6d6570736575u, v1 = key->k1 ^ 0x646f72616e646f6du;
	uint64_t v2 = key->k0 ^ 0x6c7967656e657261u, v3 = key->k1 ^ 0x7465646279746573u;
	const uint8_t *p = (const uint8_t *)data;
	uint64_t m, last = (uint64_t)n_bytes << 56;

	for (; n_bytes >= 8; n_bytes -= 8, p += 8) {
		memcpy(&m, p, 8);
		v3 ^= m;
		FOIL_SIP_ROUND(v0, v1, v2, v3);
		FOIL_SIP_ROUND(v0, v1, v2, v3);
		v0 ^= m;
	}
	for (size_t i = 0; i < n_bytes; i++)
		last |= (uint64_t)p[i] << (8 * i);
	v3 ^= last;
	FOIL_SIP_ROUND(v0, v1, v2, v3);
	FOIL_SIP_ROUND(v0, v1, v2, v3);
	v0 ^= last;
	v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		FOIL_SIP_ROUND(v0, v1, v2, v3);
	return v0 ^ v1 ^ v2 ^ v3;
}

/* SipHash-1-3 of whole words: fewer rounds, for tables that are asked for each packet and of whose hashes nobody sees anything (as Rust's, Ruby's and
 * Python's tables have it). */
static inline uint64_t foil_siphash_words(const struct foil_siphash_key *key, const uint64_t *words, size_t n_words)
{
	uint64_t v0 = key->k0 ^ 0x736f6d6570736575u, v1 = key->k1 ^ 0x646f72616e646f6du;
	uint64_t v2 = key->k0 ^ 0x6c7967656e657261u, v3 = key->k1 ^ 0x7465646279746573u;
	uint64_t last = (uint64_t)n_words << 59; /* the length in bytes, in the highest byte */

	for (size_t i = 0; i < n_words; i++) {
		v3 ^= words[i];
		FOIL_SIP_ROUND(v0, v1, v2, v3);
		v0 ^= words[i];
	}
	v3 ^= last;
	FOIL_SIP_ROUND(v0, v1, v2, v3);
	v0 ^= last;
	v2 ^= 0xff;
	for (int i = 0; i < 3; i++)
		FOIL_SIP_ROUND(v0, v1, v2, v3);
	return v0 ^ v1 ^ v2 ^ v3;
}
