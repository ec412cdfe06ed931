/* X25519 (RFC 7748), the half of it that OpenSSL 3.0 is slow at: the public key of a private one, by a table of the base point's multiples. In time, and
 * at addresses, that do not depend on the private key. The shared secret stays OpenSSL's, which has assembly for it. */
#pragma once

#include <stdint.h>

#define X25519_BYTES 32u
struct x25519_fe { /* limbs of 51 bits, mod 2^255 - 19 */
	uint64_t v[5];
};
struct x25519_niels { /* a point (x, y) of the Edwards form as it is added: y + x, y - x, 2dxy */
	struct x25519_fe plus, minus, t2d;
};
struct x25519_table { /* [i][j]: (j + 1) 256^i times the base point */
	struct x25519_niels of[32][8];
};
void x25519_table_fill(struct x25519_table *t);
void x25519_public(const struct x25519_table *t, uint8_t out[X25519_BYTES], const uint8_t secret[X25519_BYTES]);
