/* Chance for the data plane: xoshiro256** (Blackman and Vigna 2018) seeded by splitmix64, one generator a worker. The seed
 * comes from the program (getrandom in production, fixed in the simulator). Not for secrets: those use siphash.h keys. */
#pragma once

#include <stdint.h>

struct foil_prng {
	uint64_t s[4];
};

static inline void foil_prng_seed(struct foil_prng *p, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = (seed += 0x9e3779b97f4a7c15u);
		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
		z = (z ^ z >> 27) * 0x94d049bb133111ebu;
		p->s[i] = z ^ z >> 31;
	}
}

static inline uint64_t foil_prng_u64(struct foil_prng *p)
{
	uint64_t *s = p->s, x = s[1] * 5, t = s[1] << 17;
	uint64_t result = (x << 7 | x >> 57) * 9;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = s[3] << 45 | s[3] >> 19;
	return result;
}

/* Uniform in [0, n), n > 0; the bias is below 2^-32 (multiply-shift). */
static inline uint32_t foil_prng_below(struct foil_prng *p, uint32_t n)
{
	return (uint32_t)(((foil_prng_u64(p) >> 32) * n) >> 32);
}
