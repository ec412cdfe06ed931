/* Other people's parsers, which say what they make of bytes that our codecs wrote: Debian's http-parser (nginx's and Node's of old, behind thousands of
 * servers) for HTTP/1.1, libnghttp2 with its checks of HTTP messages for HTTP/2. Nothing here knows of our codecs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
	char *at;
	size_t n, cap;
};
void text_add(struct text *t, const void *data, size_t n);
/* So that no byte inside can be taken for one between: "4:name=5:value\n". */
void text_field(struct text *t, const void *name, size_t n_name, const void *value, size_t n_value);
bool text_same(const struct text *a, const struct text *b);

struct message {
	struct text start;      /* a request's method and target, an answer's status; HTTP/2: scheme and protocol, too */
	struct text authority;
	struct text fields;     /* in order, by text_field; without host, connection and framing */
	struct text connection; /* HTTP/1.1: the field's value */
	struct text body, trailers;
	struct text after;      /* HTTP/1.1: bytes that the head has switched to another protocol */
	uint64_t length;
	uint32_t n_lengths, n_codings, n_hosts, n_connections; /* fields of that name; a coding that is not chunked alone is a fault */
	unsigned int status;
	bool is_whole, is_reset;
	bool is_switched; /* HTTP/1.1: what follows is another protocol */
	bool has_head;    /* HTTP/2: what follows are trailers */
};
void message_clear(struct message *m);

#define MESSAGES_MAX 64u
struct heard {
	struct message list[MESSAGES_MAX];
	unsigned int n;
	char fault[200]; /* what the stranger says is wrong; empty: nothing */
};
void heard_clear(struct heard *h);
void heard_fault(struct heard *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void message_print(const struct message *m);

/* All that came on one connection. is_end: and then it ended in order. */
enum h1_stranger { H1_REQUESTS, H1_ANSWERS, H1_ANSWERS_TO_HEAD };
void stranger_h1(struct heard *h, enum h1_stranger what, const char *bytes, size_t n, bool is_end);

/* One end of a connection, alive. Messages are in the order in which their streams began. */
struct stranger_h2;
struct stranger_h2 *stranger_h2_new(struct heard *h, bool is_server);
void stranger_h2_free(struct stranger_h2 *s);
void stranger_h2_take(struct stranger_h2 *s, const void *data, size_t n);
/* What it has to send: valid until the next call; 0 bytes: nothing. */
size_t stranger_h2_give(struct stranger_h2 *s, const uint8_t **data);
/* Client: asks, by GET, HEAD, or CONNECT for a protocol. Server: answers the i-th request with a head. */
void stranger_h2_ask(struct stranger_h2 *s, const char *method, bool asks_websocket);
void stranger_h2_answer(struct stranger_h2 *s, unsigned int i, const char *status, bool end);
