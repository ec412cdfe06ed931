/* Regular expressions in linear time: RE2 (the dialect that Istio means) behind a C face. Compiling allocates and belongs to setup;
 * matching is for workers: a program is safe for several threads, but RE2 guards its lazy DFA by a lock, so each worker holds its own copy.
 * Memory of one program is bounded by FOIL_REGEX_MEM_BYTES; a pattern that needs more is refused at compile time. */
#pragma once

#include "dataplane/core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct foil_error;
struct foil_regex;

#define FOIL_REGEX_MEM_BYTES (1u << 20)
#define FOIL_REGEX_GROUPS_MAX 10
#define FOIL_REGEX_LITERALS_MAX 16
#define FOIL_REGEX_LITERAL_BYTES_MIN 4
#define FOIL_REGEX_LITERAL_BYTES_MAX 128

/* NULL with a sentence in err when the pattern is not RE2 or too large. Caller frees. */
struct foil_regex *foil_regex_new(struct foil_slice pattern, bool ignore_case, struct foil_error *err);
void foil_regex_free(struct foil_regex *re); /* NULL is fine */
/* The whole text must match. */
bool foil_regex_full_match(const struct foil_regex *re, struct foil_slice text);
/* Finds the first match at or after from; groups[0] is the whole of it, unset groups are {NULL,0}. */
bool foil_regex_search(const struct foil_regex *re, struct foil_slice text, uint32_t from, struct foil_slice groups[FOIL_REGEX_GROUPS_MAX]);


/* Texts that a match cannot do without, for an index over many patterns: any text that matches contains at least one of out[0..n), without regard to
 * the case of ASCII letters; they are ASCII, lower case, and hold FOIL_REGEX_LITERAL_BYTES_MIN bytes or more. 0: nothing is known of this pattern. Setup. */
struct foil_regex_literal {
	uint8_t n_bytes;
	char text[FOIL_REGEX_LITERAL_BYTES_MAX];
};
uint32_t foil_regex_literals(struct foil_slice pattern, struct foil_regex_literal out[FOIL_REGEX_LITERALS_MAX]);

#ifdef __cplusplus
}
#endif
