/* Words that every room uses: assertions, branch hints, slices.
 *
 * Assertions (style.md section 6): FOIL_ASSERT is always on, O(1), and only for state that our own bug can break;
 * FOIL_DEBUG_ASSERT may walk a structure and is on in debug, sim and fuzz builds (-DFOIL_CHECKS). Bad input from a wire, a
 * file, the agent or shared memory is an ordinary result, never an assertion. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "dataplane/core/bytes.h"

#define FOIL_LIKELY(x) __builtin_expect(!!(x), 1)
#define FOIL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FOIL_COLD __attribute__((cold)) /* seldom called: the calls, too, are laid out away from the ordinary path */
#define FOIL_MUST_USE __attribute__((warn_unused_result))
#define FOIL_CACHE_ALIGNED __attribute__((aligned(64)))
#define FOIL_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
#define FOIL_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define FOIL_MIN(a, b) ((a) < (b) ? (a) : (b))
#define FOIL_MAX(a, b) ((a) > (b) ? (a) : (b))

/* Prints the expression, place, worker, virtual time and seed if a worker is current on this thread, then aborts. */
void foil_assert_failed(const char *expr, const char *file, int line) __attribute__((noreturn, cold));

#define FOIL_ASSERT(expr) (FOIL_LIKELY(expr) ? (void)0 : foil_assert_failed(#expr, __FILE__, __LINE__))
#ifdef FOIL_CHECKS
#define FOIL_DEBUG_ASSERT(expr) FOIL_ASSERT(expr)
#else
#define FOIL_DEBUG_ASSERT(expr) ((void)0)
#endif
#define FOIL_UNREACHABLE() foil_assert_failed("unreachable", __FILE__, __LINE__)

/* Borrowed bytes: valid as long as what they point into, which the function that hands them out says. Not terminated. */
struct foil_slice {
	const char *data;
	uint32_t n_bytes;
};

#define FOIL_SLICE(literal) ((struct foil_slice){(literal), sizeof(literal) - 1})

static inline struct foil_slice foil_slice_of(const void *data, size_t n_bytes)
{
	return (struct foil_slice){(const char *)data, (uint32_t)n_bytes};
}

static inline struct foil_slice foil_slice_str(const char *s)
{
	return (struct foil_slice){s, s ? (uint32_t)strlen(s) : 0};
}

static inline bool foil_slice_eq(struct foil_slice a, struct foil_slice b)
{
	return a.n_bytes == b.n_bytes && foil_equal(a.data, b.data, a.n_bytes);
}

/* ASCII case-insensitive; header names, hosts. */
static inline bool foil_slice_eq_nocase(struct foil_slice a, struct foil_slice b)
{
	return a.n_bytes == b.n_bytes && foil_equal_nocase(a.data, b.data, a.n_bytes);
}

static inline bool foil_slice_has_prefix(struct foil_slice s, struct foil_slice prefix)
{
	return s.n_bytes >= prefix.n_bytes && foil_equal(s.data, prefix.data, prefix.n_bytes);
}

static inline bool foil_slice_has_suffix(struct foil_slice s, struct foil_slice suffix)
{
	return s.n_bytes >= suffix.n_bytes &&
	       (suffix.n_bytes == 0 || memcmp(s.data + s.n_bytes - suffix.n_bytes, suffix.data, suffix.n_bytes) == 0);
}
