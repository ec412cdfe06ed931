/* Sec-WebSocket-Accept: SHA-1 (FIPS 180-4) of the key and a constant, in base64. SHA-1 is no protection here and is not meant as one: it shows that the
 * other side speaks WebSocket. Once a handshake between two versions of HTTP, so simple rather than fast. */
#include "dataplane/http/websocket.h"

#include "dataplane/core/worker.h"

#define SHA1_BYTES 20u
#define SHA1_BLOCK_BYTES 64u
#define SHA1_LENGTH_AT 56u

struct sha1 {
	uint32_t state[5];
	uint8_t block[SHA1_BLOCK_BYTES];
	uint64_t n_bytes;
};

static uint32_t rotate_left(uint32_t v, unsigned int n)
{
	return v << n | v >> (32u - n);
}

static uint32_t choose(uint32_t t, uint32_t b, uint32_t c, uint32_t d)
{
	if (t < 20)
		return ((b & c) | (~b & d)) + 0x5a827999u;
	if (t < 40)
		return (b ^ c ^ d) + 0x6ed9eba1u;
	if (t < 60)
		return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdcu;
	return (b ^ c ^ d) + 0xca62c1d6u;
}

static void sha1_block(struct sha1 *s)
{
	uint32_t words[80], a = s->state[0], b = s->state[1], c = s->state[2], d = s->state[3], e = s->state[4];

	for (uint32_t i = 0; i < 16; i++)
		words[i] = (uint32_t)s->block[4 * i] << 24 | (uint32_t)s->block[4 * i + 1] << 16 | (uint32_t)s->block[4 * i + 2] << 8 | s->block[4 * i + 3];
	for (uint32_t i = 16; i < 80; i++)
		words[i] = rotate_left(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
	for (uint32_t i = 0; i < 80; i++) {
		uint32_t next = rotate_left(a, 5) + choose(i, b, c, d) + e + words[i];
		e = d;
		d = c;
		c = rotate_left(b, 30);
		b = a;
		a = next;
	}
	s->state[0] += a;
	s->state[1] += b;
	s->state[2] += c;
	s->state[3] += d;
	s->state[4] += e;
}

static void sha1_add(struct sha1 *s, const char *p, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		s->block[s->n_bytes++ % SHA1_BLOCK_BYTES] = (uint8_t)p[i];
		if (s->n_bytes % SHA1_BLOCK_BYTES == 0)
			sha1_block(s);
	}
}

static void sha1_end(struct sha1 *s, uint8_t out[SHA1_BYTES])
{
	uint64_t n_bits = 8 * s->n_bytes;
	char length[8];

	for (uint32_t i = 0; i < 8; i++)
		length[i] = (char)(n_bits >> (56 - 8 * i));
	sha1_add(s, "\x80", 1);
	while (s->n_bytes % SHA1_BLOCK_BYTES != SHA1_LENGTH_AT)
		sha1_add(s, "", 1);
	sha1_add(s, length, 8);
	for (uint32_t i = 0; i < SHA1_BYTES; i++)
		out[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *p, uint32_t n, char *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (uint32_t i = 0; i < n; i += 3, out += 4) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0u);
		out[0] = digits[v >> 18];
		out[1] = digits[v >> 12 & 63];
		out[2] = i + 1 < n ? digits[v >> 6 & 63] : '=';
		out[3] = i + 2 < n ? digits[v & 63] : '=';
	}
}

void websocket_key_make(struct foil_worker *w, char key[WEBSOCKET_KEY_BYTES])
{
	const uint64_t random[2] = {foil_prng_u64(&w->prng), foil_prng_u64(&w->prng)};
	uint8_t bytes[16];

	memcpy(bytes, random, sizeof(bytes));
	base64(bytes, sizeof(bytes), key);
}

void websocket_accept_make(struct foil_slice key, char accept[WEBSOCKET_ACCEPT_BYTES])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	struct sha1 s = {.state = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u}};
	uint8_t digest[SHA1_BYTES];

	sha1_add(&s, key.data, key.n_bytes);
	sha1_add(&s, guid, sizeof(guid) - 1);
	sha1_end(&s, digest);
	base64(digest, sizeof(digest), accept);
}
