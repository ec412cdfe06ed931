/* A user of one codec connection that writes down what it is told, one line a message, and answers when it is asked to:
 *
 *   GET /a host=a.example x-a=1|5:hello|t:x-t=1      a request, its headers, its body, its trailers, when it is whole
 *   200 x-a=1|2:ok                                   a response
 *   bad 400 http1.bare_lf          reset protocol http1.invalid_chunk_size          complete          ready          closed fin
 *
 * Bodies are put together from the pieces, so that the transcript does not depend on how the bytes were cut. */
#pragma once

#include <stdio.h>

#include "dataplane/http/codec.h"
#include "tests/unit/http/fake_stream.h"

#define SIDE_BODY_BYTES_MAX (160u * 1024u)

enum side_reply {
	SIDE_REPLY_NONE,      /* the test answers */
	SIDE_REPLY_AT_END,    /* 200 "ok" when the request is whole */
	SIDE_REPLY_AT_HEAD,   /* 200 "ok" when the head is in */
};

struct h1_side {
	struct fake_stream f;
	struct http_conn *c;
	struct http_stream *hs;   /* the exchange in progress */
	enum side_reply reply;
	bool pauses_at_head;
	bool takes_trailers;      /* and 1xx heads */
	bool takes_upgrades;      /* 101 to who asks for it */
	const char *prefill;      /* in rx before the codec is opened */
	bool closes_in_head, resets_in_head, closes_in_data; /* what a hasty user does */
	uint32_t n_heads, n_bad, n_complete, n_reset, n_closed, n_ready, n_writable, n_data_calls;
	struct http_reset_info last_reset;
	enum stream_end closed_why;
	bool never_opened;
	struct http_head head;    /* of the last message; slices are dead after it */
	char text[256 * 1024];    /* the transcript */
	uint32_t n_text;
	char line[16 * 1024];     /* the message being received, without its body */
	char body[SIDE_BODY_BYTES_MAX];
	uint32_t n_body;
	char tx[256 * 1024];      /* what side_tx took, NUL-terminated */
	struct foil_arena arena;  /* client side */
	uint64_t body_sum;        /* of the bodies of whole messages, for comparing runs */
	void (*head_hook)(struct foil_worker *w, struct h1_side *side, const struct http_head *head);
};

void side_server(struct foil_worker *w, struct h1_side *side, const struct http_limits *limits);
void side_client(struct foil_worker *w, struct h1_side *side, const struct http_limits *limits, bool is_open);
/* Ends what is still alive, frees, checks that closed was called exactly once. */
void side_fini(struct foil_worker *w, struct h1_side *side);
void side_feed(struct foil_worker *w, struct h1_side *side, const char *text);
/* What was written since the last call. */
const char *side_tx(struct h1_side *side);
const char *side_text(struct h1_side *side);
/* Begins an exchange on the client side and sends a request without a body. */
void side_request(struct foil_worker *w, struct h1_side *side, const char *method, const char *path);
void side_send_text(struct foil_worker *w, struct http_stream *hs, const char *text, bool end);
/* A final head with one header, x-a: 1. */
int side_send_status(struct foil_worker *w, struct http_stream *hs, uint16_t status, enum http_body_kind body, uint64_t length, bool end);
extern const struct http_stream_events side_stream_events, side_stream_events_plain;
