/* A bounded reader over contiguous bytes with a sticky failure (style.md section 9): read the fields straight down, check
 * short_read once, then commit. This header is the only place with pointer arithmetic on input. */
#pragma once

#include "dataplane/core/base.h"

struct foil_cur {
	const uint8_t *at, *end;
	bool short_read; /* a read past the end happened: every value since then is 0 */
};

static inline struct foil_cur cur_of(const void *data, size_t n_bytes)
{
	const uint8_t *at = (const uint8_t *)(data ? data : ""); /* an empty slice may point nowhere */
	return (struct foil_cur){at, at + n_bytes, false};
}

static inline size_t cur_left(const struct foil_cur *c)
{
	return (size_t)(c->end - c->at);
}

static inline const uint8_t *cur_bytes(struct foil_cur *c, size_t n_bytes)
{
	if (FOIL_UNLIKELY(cur_left(c) < n_bytes)) {
		c->short_read = true;
		c->at = c->end;
		return NULL;
	}
	const uint8_t *p = c->at;
	c->at += n_bytes;
	return p;
}

static inline uint8_t cur_u8(struct foil_cur *c)
{
	const uint8_t *p = cur_bytes(c, 1);
	return p ? p[0] : 0;
}

static inline uint16_t cur_be16(struct foil_cur *c)
{
	const uint8_t *p = cur_bytes(c, 2);
	return (uint16_t)(p ? p[0] << 8 | p[1] : 0);
}

static inline uint32_t cur_be24(struct foil_cur *c)
{
	const uint8_t *p = cur_bytes(c, 3);
	return p ? (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2] : 0;
}

static inline uint32_t cur_be32(struct foil_cur *c)
{
	const uint8_t *p = cur_bytes(c, 4);
	return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}

static inline bool cur_skip(struct foil_cur *c, size_t n_bytes)
{
	return cur_bytes(c, n_bytes) != NULL || n_bytes == 0;
}

static inline struct foil_slice cur_slice(struct foil_cur *c, size_t n_bytes)
{
	const uint8_t *p = cur_bytes(c, n_bytes);
	return p ? foil_slice_of(p, n_bytes) : (struct foil_slice){NULL, 0};
}
