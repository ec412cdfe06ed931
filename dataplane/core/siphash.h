/* SipHash (Aumasson and Bernstein 2012): keyed hash for tables whose keys strangers choose, ISNs and ports. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct foil_siphash_key {
	uint64_t k0, k1;
};

#define FOIL_SIP_ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))

struct foil_sip {
	uint64_t v0, v1, v2, v3;
};

static inline struct foil_sip foil_sip_begin(const struct foil_siphash_key *key)
{
	return (struct foil_sip){key->k0 ^ 0x736f6d6570736575u, key->k1 ^ 0x646f72616e646f6du, key->k0 ^ 0x6c7967656e657261u, key->k1 ^ 0x7465646279746573u};
}

static inline void foil_sip_rounds(struct foil_sip *s, int n)
{
	for (int i = 0; i < n; i++) {
		s->v0 += s->v1, s->v1 = FOIL_SIP_ROTL(s->v1, 13), s->v1 ^= s->v0, s->v0 = FOIL_SIP_ROTL(s->v0, 32);
		s->v2 += s->v3, s->v3 = FOIL_SIP_ROTL(s->v3, 16), s->v3 ^= s->v2;
		s->v0 += s->v3, s->v3 = FOIL_SIP_ROTL(s->v3, 21), s->v3 ^= s->v0;
		s->v2 += s->v1, s->v1 = FOIL_SIP_ROTL(s->v1, 17), s->v1 ^= s->v2, s->v2 = FOIL_SIP_ROTL(s->v2, 32);
	}
}

static inline void foil_sip_word(struct foil_sip *s, uint64_t word, int n_rounds)
{
	s->v3 ^= word;
	foil_sip_rounds(s, n_rounds);
	s->v0 ^= word;
}

static inline uint64_t foil_sip_end(struct foil_sip *s, int n_rounds)
{
	s->v2 ^= 0xff;
	foil_sip_rounds(s, n_rounds);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

/* SipHash-2-4. */
static inline uint64_t foil_siphash(const struct foil_siphash_key *key, const void *data, size_t n_bytes)
{
	struct foil_sip s = foil_sip_begin(key);
	const uint8_t *p = (const uint8_t *)data;
	uint64_t m, last = (uint64_t)n_bytes << 56;

	for (; n_bytes >= 8; n_bytes -= 8, p += 8) {
		memcpy(&m, p, 8);
		foil_sip_word(&s, m, 2);
	}
	for (size_t i = 0; i < n_bytes; i++)
		last |= (uint64_t)p[i] << (8 * i);
	foil_sip_word(&s, last, 2);
	return foil_sip_end(&s, 4);
}

/* SipHash-1-3 of whole words: fewer rounds, for tables that are asked for each packet and of whose hashes nobody sees anything (as Rust's, Ruby's and
 * Python's tables have it). */
static inline uint64_t foil_siphash_words(const struct foil_siphash_key *key, const uint64_t *words, size_t n_words)
{
	struct foil_sip s = foil_sip_begin(key);

	for (size_t i = 0; i < n_words; i++)
		foil_sip_word(&s, words[i], 1);
	foil_sip_word(&s, (uint64_t)n_words << 59, 1); /* the length in bytes, in the highest byte */
	return foil_sip_end(&s, 3);
}
