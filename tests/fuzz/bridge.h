/* What the two fuzzers of bridges share: what a message that goes on must come to at the other end, and scripts that are made into HTTP/2. */
#pragma once

#include "dataplane/http/codec.h"
#include "tests/fuzz/strangers.h"
#include "tests/unit/http/h2_side.h"

enum bridge_to { TO_H1, TO_H2, TO_COUNT };

/* The head as the other end must read it. The rules are RFC 9110's and 9113's, told once more by names, and nothing of the encoders is used. */
void bridge_meant_head(struct message *m, const struct http_head *head, enum bridge_to to);
void bridge_meant_trailers(struct message *m, const struct http_headers *trailers, enum bridge_to to);
/* What it must be when it was heard: aborts, with both printed. */
struct bridge_rules {
	enum bridge_to to;
	bool is_request;
	bool has_no_body;     /* whatever the head says: to HEAD, 1xx, 204, 304 */
	bool may_end_by_close;
};
void bridge_compare(const struct message *meant, const struct message *heard, const struct bridge_rules *r);
void bridge_die(const char *what, const struct message *meant, const struct message *heard) __attribute__((noreturn));

/* A script in frames that 0x1e ends: kind, stream ('0' + its number, made odd), then what is in it.
 *   H head, E head that ends the stream, h and e the same in two pieces (CONTINUATION), p padded: name=value pairs that 0x1f ends, taken as they are
 *   D data, F data that ends the stream, P data with padding; R RST_STREAM
 * A pair's first byte belongs to its name, so that a name may begin with ':'. */
void bridge_script(struct h2_bytes *to, const uint8_t *data, size_t n);

void bridge_append(struct text *t, const struct foil_chain *chain);
/* All that was written and not yet looked at. */
void bridge_take(struct fake_stream *f, struct text *to);
/* Bytes in pieces as the seed says; 0: whole. turn: after each. */
void bridge_feed(struct foil_worker *w, struct fake_stream *f, const struct text *bytes, uint32_t seed, void (*turn)(struct foil_worker *w));

/* The beginning of each input: the worker, made the first time, with nothing counted against it; false: an input of this size is none. */
bool bridge_begin(struct foil_worker **w, const struct http_params *p, size_t n_bytes);
/* The end of each input: aborts unless all is given back and nothing goes on. */
void bridge_end(struct foil_worker *w);
