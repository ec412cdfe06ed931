/* Short runs of bytes without a call: most of what a request is made of is shorter than two vectors, where calling memcpy or memcmp costs more than the work.
 * All of it reads and writes inside what the caller names; nothing here knows what the bytes mean. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSSE3__)
#include <tmmintrin.h>
#define FOIL_HAS_VECTORS 1
#endif

static inline uint64_t foil_load_8(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t foil_load_4(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint16_t foil_load_2(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* The first n bytes, n <= 8, as one little-endian number; zeroes above. */
static inline uint64_t foil_load_upto_8(const void *data, size_t n)
{
	const uint8_t *p = (const uint8_t *)data;

	if (n >= 8)
		return foil_load_8(p);
	if (n >= 4)
		return foil_load_4(p) | (uint64_t)foil_load_4(&p[n - 4]) << (8 * (n - 4));
	if (n >= 2)
		return foil_load_2(p) | (uint64_t)foil_load_2(&p[n - 2]) << (8 * (n - 2));
	return n ? p[0] : 0;
}

#ifdef FOIL_HAS_VECTORS
/* The first 16 bytes of n; zeroes where there are none. */
static inline __m128i foil_load_16(const void *data, size_t n)
{
	const uint8_t *p = (const uint8_t *)data;

	if (n >= 16)
		return _mm_loadu_si128((const __m128i *)data);
	if (n > 8) /* the last eight bytes overlap the first: what was there already is shifted out */
		return _mm_set_epi64x((long long)(foil_load_8(&p[n - 8]) >> (8 * (16 - n))), (long long)foil_load_8(p));
	return _mm_cvtsi64_si128((long long)foil_load_upto_8(p, n));
}

static inline void foil_store_16(void *to, __m128i v)
{
	_mm_storeu_si128((__m128i *)to, v);
}

/* 0xff for each capital of ASCII. */
static inline __m128i foil_upper_16(__m128i v)
{
	return _mm_and_si128(_mm_cmpgt_epi8(v, _mm_set1_epi8('A' - 1)), _mm_cmpgt_epi8(_mm_set1_epi8('Z' + 1), v));
}

static inline __m128i foil_lower_16(__m128i v)
{
	return _mm_or_si128(v, _mm_and_si128(foil_upper_16(v), _mm_set1_epi8('a' - 'A')));
}
#endif

static inline char foil_ascii_lower(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* Equal but for the case of ASCII letters. */
static inline bool foil_equal_nocase(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n;) {
#ifdef FOIL_HAS_VECTORS
		__m128i p = foil_lower_16(foil_load_16(&a[i], n - i)), q = foil_lower_16(foil_load_16(&b[i], n - i));
		if (_mm_movemask_epi8(_mm_cmpeq_epi8(p, q)) != 0xffff)
			return false;
		i += 16;
#else
		if (foil_ascii_lower(a[i]) != foil_ascii_lower(b[i]))
			return false;
		i++;
#endif
	}
	return true;
}

/* As memcpy. */
static inline void foil_copy(void *to, const void *from, size_t n)
{
	uint8_t *t = (uint8_t *)to;
	const uint8_t *f = (const uint8_t *)from;

#ifdef FOIL_HAS_VECTORS
	if (n >= 16 && n <= 32) {
		__m128i first = foil_load_16(f, 16), last = foil_load_16(&f[n - 16], 16);
		foil_store_16(t, first);
		foil_store_16(&t[n - 16], last);
		return;
	}
	if (n > 32 && n <= 64) {
		__m128i v[4] = {foil_load_16(f, 16), foil_load_16(&f[16], 16), foil_load_16(&f[n - 32], 16), foil_load_16(&f[n - 16], 16)};
		foil_store_16(t, v[0]);
		foil_store_16(&t[16], v[1]);
		foil_store_16(&t[n - 32], v[2]);
		foil_store_16(&t[n - 16], v[3]);
		return;
	}
#endif
	if (n >= 16) {
		memcpy(to, from, n);
	} else if (n >= 8) {
		uint64_t first = foil_load_8(f), last = foil_load_8(&f[n - 8]);
		memcpy(t, &first, 8);
		memcpy(&t[n - 8], &last, 8);
	} else if (n >= 4) {
		uint32_t first = foil_load_4(f), last = foil_load_4(&f[n - 4]);
		memcpy(t, &first, 4);
		memcpy(&t[n - 4], &last, 4);
	} else if (n) {
		uint8_t middle = f[n / 2], last = f[n - 1];
		t[0] = f[0];
		t[n / 2] = middle;
		t[n - 1] = last;
	}
}

/* As memcmp(a, b, n) == 0. */
static inline bool foil_equal(const void *a, const void *b, size_t n)
{
	const uint8_t *p = (const uint8_t *)a, *q = (const uint8_t *)b;

#ifdef FOIL_HAS_VECTORS
	if (n > 16 && n <= 32) {
		__m128i first = _mm_cmpeq_epi8(foil_load_16(p, 16), foil_load_16(q, 16));
		__m128i last = _mm_cmpeq_epi8(foil_load_16(&p[n - 16], 16), foil_load_16(&q[n - 16], 16));
		return _mm_movemask_epi8(_mm_and_si128(first, last)) == 0xffff;
	}
#endif
	if (n > 16)
		return memcmp(a, b, n) == 0;
	if (n >= 8)
		return ((foil_load_8(p) ^ foil_load_8(q)) | (foil_load_8(&p[n - 8]) ^ foil_load_8(&q[n - 8]))) == 0;
	return foil_load_upto_8(p, n) == foil_load_upto_8(q, n);
}
