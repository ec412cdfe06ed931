/* CRC-32C (RFC 3720 appendix B.4, Castagnoli's polynomial reflected): frames of the channel, the snapshot on disk. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* crc 0 to begin; the result of one piece goes into the next. */
static inline uint32_t foil_crc32c(uint32_t crc, const void *data, size_t n_bytes)
{
	static const uint32_t half_byte[16] = { /* of the reflected polynomial 0x82f63b78 */
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const uint8_t *p = (const uint8_t *)data;
	crc = ~crc;
#ifdef __SSE4_2__
	for (; n_bytes >= 8; n_bytes -= 8, p += 8) {
		uint64_t word;
		memcpy(&word, p, 8);
		crc = (uint32_t)__builtin_ia32_crc32di(crc, word);
	}
#endif
	for (; n_bytes > 0; n_bytes--, p++) {
		crc = half_byte[(crc ^ *p) & 15] ^ crc >> 4;
		crc = half_byte[(crc ^ (uint32_t)(*p >> 4)) & 15] ^ crc >> 4;
	}
	return ~crc;
}
