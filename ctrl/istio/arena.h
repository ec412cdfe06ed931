/* Memory that is freed all at once, and a table keyed by strings that lives in it. For decoding and compiling, where thousands of small things share
 * one lifetime. An arena has a budget; when that or the machine's memory is used up, the allocation does not return: it jumps to the entry that set
 * arena.full (doc_read, istio_model_add, istio_compile ...), which frees the arena and says -ENOMEM. So nothing between needs an error arm, and
 * nothing between may hold anything that is not the arena's or the entry's. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena_chunk;

struct istio_arena {
	struct arena_chunk *chunks;
	size_t n_used, n_budget; /* bytes */
	jmp_buf full;
};

/* Zeroed, aligned to 16. Does not fail: see above. */
void *istio_arena_alloc(struct istio_arena *a, size_t n);
void istio_arena_fini(struct istio_arena *a);
char *istio_arena_copy(struct istio_arena *a, const char *text, size_t n); /* 0-terminated */
char *istio_arena_printf(struct istio_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3), nonnull(2)));
char *istio_arena_lower(struct istio_arena *a, const char *text);

#define ARENA_NEW(a, type) ((type *)istio_arena_alloc(a, sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)istio_arena_alloc(a, sizeof(type) * (n)))

/* A list that grows in an arena: struct { T *list; uint32_t n, n_room; }. Room doubles. */
#define ARENA_PUSH(a, vec, item)                                                                                                               \
	do {                                                                                                                                   \
		if ((vec)->n == (vec)->n_room) {                                                                                               \
			uint32_t room_ = (vec)->n_room ? (vec)->n_room * 2 : 4;                                                                \
			void *more_ = istio_arena_alloc(a, sizeof(*(vec)->list) * room_);                                                            \
			if ((vec)->n)                                                                                                          \
				__builtin_memcpy(more_, (vec)->list, sizeof(*(vec)->list) * (vec)->n);                                         \
			(vec)->list = more_;                                                                                                   \
			(vec)->n_room = room_;                                                                                                 \
		}                                                                                                                              \
		(vec)->list[(vec)->n++] = (item);                                                                                              \
	} while (0)

struct map_entry {
	const char *key; /* borrowed: lives as long as the map */
	void *value;
	uint64_t hash;
};

/* Open addressing, in insertion order when walked: entries[0..n). No removal. Zeroed = empty. */
struct istio_map {
	struct map_entry *entries;
	uint32_t *slots; /* index + 1 of an entry; 0 = free */
	uint32_t n, n_room, n_slots;
};

void *istio_map_get(const struct istio_map *m, const char *key);
void *istio_map_get_n(const struct istio_map *m, const char *key, size_t n_key);
/* The value's place; *is_new when the key was not there (then the place holds NULL). key is borrowed. */
void **istio_map_put(struct istio_arena *a, struct istio_map *m, const char *key, bool *is_new);
