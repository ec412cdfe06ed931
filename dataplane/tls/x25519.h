/* X25519 (RFC 7748): the public key of a private one, by a table of the base point's multiples; and the shared secret, where the processor has AVX-512 IFMA
 * (elsewhere OpenSSL's assembly is as good as what C has). In time, and at addresses, that do not depend on the private key. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define X25519_BYTES 32u
struct x25519_fe { /* limbs of 51 bits, mod 2^255 - 19 */
	uint64_t v[5];
};
struct x25519_niels { /* a point (x, y) of the Edwards form as it is added: y + x, y - x, 2dxy; whole vectors, for choosing among eight */
	struct x25519_fe plus, minus, t2d;
	uint64_t none;
};
struct x25519_table { /* [i][j]: (j + 1) 256^i times the base point */
	struct x25519_niels of[32][8];
};
void x25519_table_fill(struct x25519_table *t);
void x25519_public(const struct x25519_table *t, uint8_t out[X25519_BYTES], const uint8_t secret[X25519_BYTES]);

bool x25519_has_ladder(void); /* else x25519_shared must not be called */
/* False: the other's point is of a small order, and out is zeros (RFC 7748 6.1, RFC 8446 7.4.2). */
bool x25519_shared(uint8_t out[X25519_BYTES], const uint8_t secret[X25519_BYTES], const uint8_t public[X25519_BYTES]);

/* ---- x25519_ladder.c */
struct x25519_fraction {
	struct x25519_fe above, below;
};
/* e times the point of x1 (limbs of 51 bits, or little more), by e's bits as they are but the highest; above / below is its x. */
void x25519_ladder(struct x25519_fraction *out, const uint8_t e[X25519_BYTES], const struct x25519_fe *x1);
