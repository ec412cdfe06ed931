/* foilctl connections and foilctl capture, at the data plane's end: a Unix socket (node file: inspect_socket) where who connects writes one line and reads
 * an answer. Housekeeping only; it never blocks, and a worker never waits for it.
 *
 *   connections [local=ADDRESS] [local_port=N] [remote=ADDRESS] [remote_port=N] [state=NAME]
 *   capture [reason=NAME]... [a=ADDRESS] [a_port=N] [b=ADDRESS] [b_port=N] [snap=BYTES] [count=N]
 *
 * The answer begins with a line: "ok", or "error SENTENCE" and no more. Then come a JSON object a line, or pcapng until count packets came or the asker
 * shuts its side down. One listing and one capture at a time: a second asker is told so. reason=any is every reason. */
#pragma once

#include <poll.h>

#include "programs/node.h"

#define INSPECT_SESSIONS_MAX 4u
#define INSPECT_FDS_MAX (INSPECT_SESSIONS_MAX + 1)

struct inspect;

/* Listens at path. 0, or -errno with a sentence. */
int inspect_open(const char *path, struct inspect **out, struct foil_error *err) FOIL_MUST_USE;
/* The node is up: questions are answered from now on. n is borrowed until inspect_close. */
void inspect_start(struct inspect *i, struct node *n);
/* After the workers have stopped. NULL-safe. */
void inspect_close(struct inspect *own_i);
unsigned int inspect_fds(const struct inspect *i, struct pollfd out[INSPECT_FDS_MAX]);
/* True while a worker's answer is awaited, or packets are: the next turn should come soon. */
bool inspect_is_busy(const struct inspect *i);
void inspect_turn(struct inspect *i);
