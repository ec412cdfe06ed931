/* Both ends of an HTTP/2 connection for tests: a user of one codec connection that writes down what each stream is told, and the peer, whose
 * frames the test builds and which writes down what the codec sent, one line a frame:
 *
 *   user:  1 POST /a host=a.example x-a=1|5:hello|t:x-t=1 complete      2 … reset protocol http2.content_length
 *   peer:  HEADERS 1 end :status=200 x-a=1      DATA 1 end 5:hello      RST_STREAM 3 code=1      GOAWAY last=1 code=0
 *
 * What a stream is told is put together by stream, so that it does not depend on how the bytes were cut. */
#pragma once

#include "dataplane/http/h2_priv.h"
#include "tests/unit/http/fake_stream.h"

#define H2_SIDE_STREAMS 1200u

/* ---- frames of the peer's ---- */
struct h2_bytes {
	uint8_t at[512 * 1024];
	uint32_t n;
};
void hb_raw(struct h2_bytes *b, const void *data, uint32_t n_bytes);
void hb_frame(struct h2_bytes *b, uint8_t type, uint8_t flags, uint32_t id, const void *payload, uint32_t n_bytes);
/* HEADERS (END_HEADERS is set unless H2_NO_END_HEADERS) of "name", "value", … NULL. */
#define H2_NO_END_HEADERS 0x80u
void hb_headers(struct h2_bytes *b, uint8_t flags, uint32_t id, ...) __attribute__((sentinel));
/* GET / with :scheme http and :authority a.example, and these fields besides. */
void hb_get(struct h2_bytes *b, uint8_t flags, uint32_t id, const char *path);
void hb_post(struct h2_bytes *b, uint32_t id, const char *path, const char *body);
void hb_data(struct h2_bytes *b, uint8_t flags, uint32_t id, const char *text);
void hb_u32(struct h2_bytes *b, uint8_t type, uint32_t id, uint32_t value);
void hb_setting(struct h2_bytes *b, uint16_t id, uint32_t value);
/* Client preface and empty SETTINGS; server SETTINGS. */
void hb_hello(struct h2_bytes *b, bool from_client);

/* ---- the user ---- */
enum h2_reply { H2_REPLY_NONE, H2_REPLY_AT_END, H2_REPLY_AT_HEAD };

struct h2_rec {
	struct h2_side *side;
	struct http_stream *hs; /* NULL: over */
	char text[768];
	char body_head[64];
	uint32_t n_body;
	uint64_t body_sum;
	bool is_complete, is_reset, ended;
	struct http_reset_info info;
};

struct h2_side {
	struct fake_stream f;
	struct http_conn *c;
	enum h2_reply reply;
	bool takes_upgrades; /* 101 to who asks for it */
	bool pauses_at_head, drops_trailers, resets_in_head, closes_in_head, resets_in_data;
	struct h2_rec rec[H2_SIDE_STREAMS]; /* in the order in which they began */
	uint32_t n_rec, n_heads, n_bad, n_complete, n_reset, n_closed, n_ready, n_writable, n_data_calls;
	enum stream_end closed_why;
	bool never_opened;
	struct http_head head;         /* of the last message; slices are dead after it */
	struct foil_arena arena;       /* client side */
	struct hpack_decoder hpack;    /* the peer's */
	struct foil_arena peer_arena;
	struct foil_chain unread;      /* half a frame of what was written */
	char sent[256 * 1024];
	char told[512 * 1024];
	uint64_t n_data_sent;          /* DATA bytes that the codec sent */
};

void h2side_server(struct foil_worker *w, struct h2_side *side, enum http_protocol protocol, const struct http_limits *limits);
void h2side_client(struct foil_worker *w, struct h2_side *side, const struct http_limits *limits, bool is_open);
void h2side_fini(struct foil_worker *w, struct h2_side *side);
/* Sends what is in b and empties it: seg_bytes 0 as few segments as fit, each_alone readable after each. */
void h2side_feed(struct foil_worker *w, struct h2_side *side, struct h2_bytes *b, uint16_t seg_bytes, bool each_alone);
/* What the codec has sent since the last call, a line a frame. */
const char *h2side_sent(struct foil_worker *w, struct h2_side *side);
/* What streams were told until now, in their order. */
const char *h2side_told(struct h2_side *side);
/* Client side: begins a stream with a head; NULL when the connection does not take one. */
struct h2_rec *h2side_request(struct foil_worker *w, struct h2_side *side, const char *method, const char *path, bool end);
/* Client side: begins a stream that asks for websocket. What http_send_head returned. */
int h2side_upgrade(struct foil_worker *w, struct h2_side *side, struct h2_rec **out);
int h2side_reply(struct foil_worker *w, struct http_stream *hs, uint16_t status, enum http_body_kind body, uint64_t length, bool end);
void h2side_send(struct foil_worker *w, struct http_stream *hs, uint32_t n_bytes, bool end);
