/* Byte classes of HTTP/1.1, and how many bytes of a class a cursor begins with: sixteen bytes a step where the processor has SSSE3 (the classes by
 * their two halves, as in Langdale and Lemire, "Parsing gigabytes of JSON per second", 2019), else one table look-up a byte.
 * Reads are bounded by cur_left; nothing is consumed here. */
#pragma once

#include "dataplane/core/bytes.h"
#include "dataplane/core/cursor.h"

enum {
	H1_TOKEN = 1,   /* tchar, RFC 9110 5.6.2 */
	H1_TARGET = 2,  /* what a request target may have: visible ASCII */
	H1_VALUE = 4,   /* field-content: visible, SP, HTAB, obs-text; RFC 9110 5.5 */
	H1_NAME = 8,    /* reg-name of RFC 3986 3.2.2, but no comma: that is how two Host lines are joined */
	H1_UPPER = 16,  /* A to Z */
	H1_HEX = 32,
	H1_SPACE = 64,  /* SP and HTAB: OWS */
	H1_DIGIT = 128,
};
extern const uint8_t h1_class[256];
extern const uint8_t h1_token_by_low[16], h1_name_by_low[16]; /* a bit for each upper half with which the lower half makes a byte of the class */

static inline bool h1_is(uint8_t byte, uint8_t cls)
{
	return (h1_class[byte] & cls) != 0;
}

static inline uint8_t h1_peek(const struct foil_cur *c)
{
	return cur_left(c) ? c->at[0] : 0;
}

#ifdef FOIL_HAS_VECTORS

/* A bit a byte that is not of the class. Zeroes, which fill up what is not there, are of none. */
static inline uint32_t h1_outside_16(__m128i v, uint8_t cls)
{
	if (cls == H1_VALUE) {
		__m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
		control = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('\t')), control), _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f)));
		return (uint32_t)_mm_movemask_epi8(control);
	}
	if (cls == H1_TARGET) {
		__m128i in = _mm_andnot_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f)), _mm_cmpgt_epi8(v, _mm_set1_epi8(0x20)));
		return (uint32_t)_mm_movemask_epi8(in) ^ 0xffff;
	}
	FOIL_DEBUG_ASSERT(cls == H1_TOKEN || cls == H1_NAME); /* there is no table for others */
	const uint8_t *by_low = cls == H1_TOKEN ? h1_token_by_low : h1_name_by_low;
	const __m128i bit = _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0);
	__m128i high = _mm_and_si128(_mm_srli_epi16(v, 4), _mm_set1_epi8(15));
	__m128i in = _mm_and_si128(_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)by_low), v), _mm_shuffle_epi8(bit, high));
	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(in, _mm_setzero_si128()));
}
#endif

/* How many bytes of cls (H1_TOKEN, H1_TARGET, H1_NAME or H1_VALUE) c begins with. */
static inline size_t h1_span(const struct foil_cur *c, uint8_t cls)
{
	size_t n = cur_left(c), i = 0;

#ifdef FOIL_HAS_VECTORS
	for (; i < n; i += 16) {
		uint32_t out = h1_outside_16(foil_load_16(&c->at[i], n - i), cls);
		if (out)
			return i + (uint32_t)__builtin_ctz(out);
	}
#else
	while (i < n && h1_is(c->at[i], cls))
		i++;
#endif
	return i;
}

/* As h1_span of H1_TOKEN; *classes has H1_UPPER when there is a capital among them, and says nothing else. */
static inline size_t h1_span_token(const struct foil_cur *c, uint8_t *classes)
{
	size_t n = cur_left(c), i = 0;
	uint8_t all = 0;

#ifdef FOIL_HAS_VECTORS
	for (; i < n; i += 16) {
		__m128i v = foil_load_16(&c->at[i], n - i);
		uint32_t out = h1_outside_16(v, H1_TOKEN), upper = (uint32_t)_mm_movemask_epi8(foil_upper_16(v));
		if (out)
			upper &= (out & -out) - 1; /* what is before the first that is none */
		all |= upper ? H1_UPPER : 0;
		if (out) {
			i += (uint32_t)__builtin_ctz(out);
			break;
		}
	}
#else
	for (; i < n && h1_is(c->at[i], H1_TOKEN); i++)
		all |= h1_class[c->at[i]];
#endif
	*classes = all & H1_UPPER;
	return i;
}

static inline size_t h1_span_value(const struct foil_cur *c)
{
	return h1_span(c, H1_VALUE);
}

static inline bool h1_is_value(struct foil_slice s)
{
	struct foil_cur c = cur_of(s.data, s.n_bytes);

	return h1_span_value(&c) == s.n_bytes;
}

/* s without OWS on both sides. */
static inline struct foil_slice h1_trim(struct foil_slice s)
{
	uint32_t from = 0, n = s.n_bytes;

	while (from < n && h1_is((uint8_t)s.data[from], H1_SPACE))
		from++;
	while (n > from && h1_is((uint8_t)s.data[n - 1], H1_SPACE))
		n--;
	return foil_slice_of(&s.data[from], n - from);
}

/* The next element of a comma-separated list, trimmed, empty ones skipped. False at the end. */
static inline bool h1_list_next(struct foil_cur *c, struct foil_slice *out)
{
	while (cur_left(c)) {
		size_t n = 0;
		while (n < cur_left(c) && c->at[n] != ',')
			n++;
		struct foil_slice element = h1_trim(cur_slice(c, n));
		(void)cur_skip(c, cur_left(c) ? 1 : 0); /* the comma */
		if (element.n_bytes) {
			*out = element;
			return true;
		}
	}
	return false;
}
