/* A stream whose other end is the test: bytes are fed in, what was written is kept, and how it ended is seen. */
#pragma once

#include "dataplane/stream/stream.h"

struct fake_stream {
	struct stream s;
	struct foil_chain tx;       /* all that was written, not yet looked at */
	bool is_aborted, is_released;
	bool holds;                 /* true: written bytes stay queued (the peer acknowledges nothing) until fake_ack */
	uint32_t n_consumed_calls;
};

/* An open stream (is_open false: an active open that has not succeeded). */
void fake_init(struct fake_stream *f, bool is_open);
void fake_fini(struct fake_stream *f);
/* True while the user may still be called. */
bool fake_is_alive(const struct fake_stream *f);
/* The peer sends: segments of at most seg_bytes (0: as few as fit), readable after each when each_alone, else once at the end. */
void fake_feed(struct foil_worker *w, struct fake_stream *f, const void *data, uint32_t n_bytes, uint16_t seg_bytes, bool each_alone);
void fake_eof(struct foil_worker *w, struct fake_stream *f);
void fake_opened(struct foil_worker *w, struct fake_stream *f);
void fake_closed(struct foil_worker *w, struct fake_stream *f, enum stream_end why);
/* The peer acknowledges n_bytes of what is queued; writable comes as stream.h says. */
void fake_ack(struct foil_worker *w, struct fake_stream *f, uint32_t n_bytes);
/* Moves at most cap bytes of tx to out; returns how many. */
uint32_t fake_take_tx(struct fake_stream *f, char *out, uint32_t cap);
