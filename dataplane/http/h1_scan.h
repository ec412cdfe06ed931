/* Byte classes of HTTP/1.1, and how many bytes of a class a cursor begins with. One table look-up a byte, eight bytes a step where
 * the class is "all that a field value may have". Indexes are bounded by cur_left; nothing is consumed here. */
#pragma once

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

static inline bool h1_is(uint8_t byte, uint8_t cls)
{
	return (h1_class[byte] & cls) != 0;
}

static inline uint8_t h1_peek(const struct foil_cur *c)
{
	return cur_left(c) ? c->at[0] : 0;
}

static inline size_t h1_span(const struct foil_cur *c, uint8_t cls)
{
	size_t n = cur_left(c), i = 0;

	while (i < n && h1_is(c->at[i], cls))
		i++;
	return i;
}

/* As h1_span of H1_TOKEN; *classes gets every class that one of the bytes is in. */
static inline size_t h1_span_token(const struct foil_cur *c, uint8_t *classes)
{
	size_t n = cur_left(c), i = 0;
	uint8_t all = 0;

	for (; i < n; i++) {
		uint8_t cls = h1_class[c->at[i]];
		if (!(cls & H1_TOKEN))
			break;
		all |= cls;
	}
	*classes = all;
	return i;
}

/* Some byte of v is a control character (HTAB counts here) or DEL. */
static inline bool h1_has_control(uint64_t v)
{
	const uint64_t ones = 0x0101010101010101ull, tops = ones * 0x80;
	uint64_t del = v ^ (ones * 0x7f);

	return (((v - ones * 0x20) & ~v) | ((del - ones) & ~del)) & tops;
}

static inline size_t h1_span_value(const struct foil_cur *c)
{
	size_t n = cur_left(c), i = 0;
	uint64_t v;

	for (; i + sizeof(v) <= n; i += sizeof(v)) {
		memcpy(&v, &c->at[i], sizeof(v));
		if (h1_has_control(v))
			break;
	}
	while (i < n && h1_is(c->at[i], H1_VALUE))
		i++;
	return i;
}

static inline bool h1_is_value(struct foil_slice s)
{
	struct foil_cur c = cur_of(s.data, s.n_bytes);

	return h1_span_value(&c) == s.n_bytes;
}

/* s without OWS on both sides. */
static inline struct foil_slice h1_trim(struct foil_slice s)
{
	struct foil_cur c = cur_of(s.data, s.n_bytes);
	size_t n;

	(void)cur_skip(&c, h1_span(&c, H1_SPACE)); /* cannot be short: it was counted */
	n = cur_left(&c);
	while (n && h1_is(c.at[n - 1], H1_SPACE))
		n--;
	return foil_slice_of(c.at, n);
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
