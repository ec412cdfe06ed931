/* HMAC (RFC 2104) and HKDF's expansion with TLS 1.3's labels (RFC 8446 7.1), over libcrypto's SHA-2 without EVP: what is hashed here is of a few hundred
 * bytes, for which EVP's look-ups, parameters and allocations cost ten times what the hash does. */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_* and SHA512_* are there for as long as libcrypto 3 is */
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "dataplane/tls/tls_priv.h"

#define INFO_BYTES_MAX (2u + 1u + 255u + 1u + 255u)

struct hash {
	bool is_sha384;
	union {
		SHA256_CTX s256;
		SHA512_CTX s384;
	};
};

/* None of these can fail: they return 1 always. */
static void begin(struct hash *h)
{
	if (h->is_sha384)
		(void)SHA384_Init(&h->s384);
	else
		(void)SHA256_Init(&h->s256);
}

static void more(struct hash *h, const void *data, size_t n)
{
	if (h->is_sha384)
		(void)SHA384_Update(&h->s384, data, n);
	else
		(void)SHA256_Update(&h->s256, data, n);
}

static void end(struct hash *h, uint8_t *out)
{
	if (h->is_sha384)
		(void)SHA384_Final(out, &h->s384);
	else
		(void)SHA256_Final(out, &h->s256);
}

uint32_t tls_hash_bytes(bool is_sha384)
{
	return is_sha384 ? 48 : 32;
}

void tls_hash_of_nothing(bool is_sha384, uint8_t *out)
{
	struct hash h = {.is_sha384 = is_sha384};

	begin(&h);
	end(&h, out);
}

void tls_hmac(bool is_sha384, struct foil_slice key, const struct foil_slice *parts, uint32_t n_parts, uint8_t *out)
{
	uint32_t n_block = is_sha384 ? 128 : 64;
	struct hash h = {.is_sha384 = is_sha384};
	uint8_t pad[128] = {0}, inner[TLS_HASH_BYTES_MAX];

	if (key.n_bytes > n_block) {
		begin(&h);
		more(&h, key.data, key.n_bytes);
		end(&h, pad);
	} else if (key.n_bytes) {
		memcpy(pad, key.data, key.n_bytes);
	}
	for (uint32_t i = 0; i < n_block; i++)
		pad[i] ^= 0x36;
	begin(&h);
	more(&h, pad, n_block);
	for (uint32_t i = 0; i < n_parts; i++)
		more(&h, parts[i].data, parts[i].n_bytes);
	end(&h, inner);
	for (uint32_t i = 0; i < n_block; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	begin(&h);
	more(&h, pad, n_block);
	more(&h, inner, tls_hash_bytes(is_sha384));
	end(&h, out);
	OPENSSL_cleanse(pad, sizeof(pad));
	OPENSSL_cleanse(inner, sizeof(inner));
	OPENSSL_cleanse(&h, sizeof(h));
}

bool tls_expand_label(bool is_sha384, struct foil_slice secret, struct foil_slice label, struct foil_slice context, uint8_t *out, size_t n_out)
{
	uint8_t info[INFO_BYTES_MAX], block[TLS_HASH_BYTES_MAX], count = 1;
	size_t n = 0, n_hash = tls_hash_bytes(is_sha384);

	if (label.n_bytes > 255 || context.n_bytes > 255 || n_out > 255 * n_hash)
		return false;
	info[n++] = (uint8_t)(n_out >> 8);
	info[n++] = (uint8_t)n_out;
	info[n++] = (uint8_t)label.n_bytes;
	memcpy(info + n, label.data, label.n_bytes);
	n += label.n_bytes;
	info[n++] = (uint8_t)context.n_bytes;
	if (context.n_bytes)
		memcpy(info + n, context.data, context.n_bytes);
	n += context.n_bytes;
	for (size_t at = 0; at < n_out; at += n_hash, count++) {
		const struct foil_slice parts[] = {foil_slice_of(block, at ? n_hash : 0), foil_slice_of(info, n), foil_slice_of(&count, 1)};
		tls_hmac(is_sha384, secret, parts, FOIL_COUNT_OF(parts), block);
		memcpy(out + at, block, FOIL_MIN(n_hash, n_out - at));
	}
	OPENSSL_cleanse(block, sizeof(block));
	return true;
}
