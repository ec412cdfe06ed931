/* The Internet checksum (RFC 1071) over contiguous bytes and over chains, and the pseudo headers of RFC 9293 3.1 and RFC 8200 8.1.
 * A sum is a 64-bit number congruent to the one's complement sum of the bytes as native 16-bit words; net_sum_fold gives the field.
 * Chains may have segments of odd length: the sum of what starts at an odd offset is turned by one byte. */
#pragma once

#ifdef __AVX2__
#include <immintrin.h>
#endif
#include <rte_mbuf.h>

#include "dataplane/net/net.h"

static inline uint16_t net_sum_16(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* The checksum field, as it goes on the wire. */
static inline uint16_t net_sum_fold(uint64_t sum)
{
	return (uint16_t)~net_sum_16(sum);
}

static inline uint64_t net_sum_tail(const uint8_t *p, size_t n)
{
	uint64_t sum = 0, x;
	uint32_t half;
	uint16_t last = 0;

	for (; n >= 8; n -= 8, p += 8) {
		memcpy(&x, p, 8);
		sum += (x & 0xffffffff) + (x >> 32);
	}
	if (n >= 4) {
		memcpy(&half, p, 4);
		sum += half;
		n -= 4, p += 4;
	}
	if (n >= 2) {
		memcpy(&last, p, 2);
		sum += last;
		n -= 2, p += 2;
	}
	if (n) {
		last = 0;
		memcpy(&last, p, 1);
		sum += last;
	}
	return sum;
}

/* n_bytes <= 2^24, which keeps the 64-bit lanes from overflowing by far. */
static inline uint64_t net_sum(const void *data, size_t n_bytes)
{
	const uint8_t *p = (const uint8_t *)data;
	uint64_t sum = 0;

#ifdef __AVX2__
	if (n_bytes >= 64) {
		const __m256i low = _mm256_set1_epi64x(0xffffffff);
		__m256i a = _mm256_setzero_si256(), b = a;
		uint64_t lanes[4];

		for (; n_bytes >= 64; n_bytes -= 64, p += 64) {
			__m256i x = _mm256_loadu_si256((const __m256i *)(const void *)p);
			__m256i y = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));

			a = _mm256_add_epi64(a, _mm256_add_epi64(_mm256_and_si256(x, low), _mm256_srli_epi64(x, 32)));
			b = _mm256_add_epi64(b, _mm256_add_epi64(_mm256_and_si256(y, low), _mm256_srli_epi64(y, 32)));
		}
		_mm256_storeu_si256((__m256i *)(void *)lanes, _mm256_add_epi64(a, b));
		sum = lanes[0] + lanes[1] + lanes[2] + lanes[3];
	}
#endif
	return sum + net_sum_tail(p, n_bytes);
}

/* n_bytes of the packet from offset on; the caller knows that they are there. */
static inline uint64_t net_sum_chain(const struct rte_mbuf *m, uint32_t offset, uint32_t n_bytes)
{
	uint64_t sum = 0;
	uint32_t done = 0;

	for (; m && n_bytes; m = m->next) {
		if (offset >= m->data_len) {
			offset -= m->data_len;
			continue;
		}
		uint32_t n = FOIL_MIN(m->data_len - offset, n_bytes);
		uint64_t part = net_sum(rte_pktmbuf_mtod_offset(m, const void *, offset), n);

		sum += done & 1 ? __builtin_bswap16(net_sum_16(part)) : net_sum_16(part);
		done += n;
		n_bytes -= n;
		offset = 0;
	}
	return sum;
}

static inline uint64_t net_sum_pseudo(const struct net_addr *src, const struct net_addr *dst, uint8_t proto, uint32_t l4_len)
{
	rte_be32_t len = rte_cpu_to_be_32(l4_len), p = rte_cpu_to_be_32(proto);
	/* The ::ffff: of mapped addresses would add 0xffff on either side, which is 0 in one's complement, but may turn a zero sum
	 * into its other form; leave it out. */
	unsigned int skip = net_addr_is_v4(src) ? 12 : 0;

	return net_sum_tail(src->b + skip, 16 - skip) + net_sum_tail(dst->b + skip, 16 - skip) + len + p;
}
