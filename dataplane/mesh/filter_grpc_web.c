/* gRPC-Web (features.md GR-6): browsers that cannot see trailers speak it, origins see plain gRPC. As Envoy's grpc_web filter, and as the protocol's own
 * page says ("gRPC Web", grpc/grpc PROTOCOL-WEB): requests of content-type application/grpc-web[-text][+proto] go on as application/grpc, text ones decoded
 * from base64; the answer's trailers become a last frame of the body, with bit 0x80 set, and the body is base64, frame by frame, where accept asks for
 * text. An answer that is no gRPC becomes a status in the headers, its body the message. What is made here instead of by an origin (local_reply.c) says the
 * same in its headers.
 *
 * Bytes may be cut anywhere: base64 of either direction and the frames of the answer keep what is open in the state. Padding ends a text request. */
#include "dataplane/mesh/runtime.h"

#include <errno.h>

#define FRAME_HEAD_BYTES 5u
#define FRAME_TRAILERS 0x80
#define MESSAGE_BYTES_MAX 1000u

struct grpc_web_state {
	bool is_text_request, is_text_answer, is_foreign; /* foreign: the answer is no gRPC */
	/* request: a group of four */
	uint8_t group[4];
	uint8_t n_group;
	bool is_padded;    /* nothing may follow */
	/* answer: a frame, and what is left over of three bytes */
	uint8_t head[FRAME_HEAD_BYTES];
	uint8_t n_head, rest[3], n_rest;
	uint32_t n_left;   /* of the frame's message */
};

static bool is_one_of(struct foil_slice value, const struct foil_slice *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (foil_slice_eq(value, list[i]))
			return true;
	return false;
}

static bool is_text_type(struct foil_slice value)
{
	static const struct foil_slice types[] = {{"application/grpc-web-text", 25}, {"application/grpc-web-text+proto", 31}};

	return is_one_of(value, types, FOIL_COUNT_OF(types));
}

static bool is_web_type(struct foil_slice value)
{
	static const struct foil_slice types[] = {{"application/grpc-web", 20}, {"application/grpc-web+proto", 26}};

	return is_one_of(value, types, FOIL_COUNT_OF(types)) || is_text_type(value);
}

static struct foil_slice value_of(const struct http_headers *h, enum http_header_id id)
{
	const struct http_header *one = http_header_get(h, id);

	return one ? one->value : FOIL_SLICE("");
}

static bool grpc_web_wants(struct foil_worker *w, const struct mesh_exchange *x)
{
	(void)w;
	return FOIL_UNLIKELY(x->hcm->grpc_web) && is_web_type(value_of(&x->request->headers, HTTP_HDR_CONTENT_TYPE));
}

/* ---- the request ---- */
static enum mesh_filter_result grpc_web_request(struct foil_worker *w, struct mesh_filter_call *f, struct http_head *head, bool end)
{
	static const struct foil_slice accept = {"accept", 6}, encoding = {"grpc-accept-encoding", 20};
	struct mesh_exchange *x = f->exchange;
	struct grpc_web_state *s = f->state;
	const struct http_header *accepted = http_header_find(&head->headers, accept);
	int rc;

	s->is_text_request = is_text_type(value_of(&head->headers, HTTP_HDR_CONTENT_TYPE));
	s->is_text_answer = accepted && is_text_type(accepted->value);
	rc = mesh_header_put(w, x->arena, &head->headers, HTTP_HDR_CONTENT_TYPE, FOIL_SLICE("application/grpc"));
	if (rc == 0 && !http_header_find(&head->headers, encoding))
		rc = http_header_add(w, x->arena, &head->headers, encoding, FOIL_SLICE("identity"));
	if (rc != 0) {
		mesh_reply_no_memory(w, x);
		return MESH_FILTER_REPLY;
	}
	head->is_grpc = head->has_te_trailers = x->is_grpc_web = true;
	if (!end && head->body == HTTP_BODY_LENGTH)
		head->body = HTTP_BODY_CHUNKED; /* Envoy forgets the length, which base64 would change */
	return MESH_FILTER_CONTINUE;
}

/* 0..63, or 64: no letter of base64 (RFC 4648 table 1). */
static uint8_t letter(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return (uint8_t)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (uint8_t)(c - 'a' + 26);
	if (c >= '0' && c <= '9')
		return (uint8_t)(c - '0' + 52);
	return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* The bytes of a full group, up to three; 0: it is none. */
static uint32_t decode_group(struct grpc_web_state *s, uint8_t out[3])
{
	const uint8_t *g = s->group;
	uint32_t n_pad = g[3] != '=' ? 0 : g[2] != '=' ? 1 : 2;
	uint8_t v[4] = {letter(g[0]), letter(g[1]), n_pad == 2 ? 0 : letter(g[2]), n_pad ? 0 : letter(g[3])};

	if (v[0] > 63 || v[1] > 63 || v[2] > 63 || v[3] > 63)
		return 0;
	out[0] = (uint8_t)(v[0] << 2 | v[1] >> 4);
	out[1] = (uint8_t)(v[1] << 4 | v[2] >> 2);
	out[2] = (uint8_t)(v[2] << 6 | v[3]);
	s->is_padded = n_pad != 0;
	s->n_group = 0;
	return 3 - n_pad;
}

#define PIECE_BYTES 768u /* of either direction at once: on the stack, then into the chain */

/* 0; -EINVAL: no base64; -ENOBUFS. */
static int decode_text(struct foil_worker *w, struct grpc_web_state *s, const struct foil_chain *from, bool end, struct foil_chain *to)
{
	uint8_t piece[PIECE_BYTES];
	uint32_t n = 0;

	for (const struct rte_mbuf *m = from->head; m; m = m->next) {
		struct foil_slice in = foil_mbuf_slice(m);
		for (uint32_t i = 0; i < in.n_bytes; i++) {
			if (s->is_padded)
				return -EINVAL;
			s->group[s->n_group++] = (uint8_t)in.data[i];
			if (s->n_group < 4)
				continue;
			uint32_t n_out = decode_group(s, piece + n);
			if (n_out == 0)
				return -EINVAL;
			n += n_out;
			if (n + 3 > sizeof(piece)) {
				if (foil_chain_append(w, to, piece, n) != 0)
					return -ENOBUFS;
				n = 0;
			}
		}
	}
	if (end && s->n_group)
		return -EINVAL;
	return n && foil_chain_append(w, to, piece, n) != 0 ? -ENOBUFS : 0;
}

static enum mesh_filter_result grpc_web_request_data(struct foil_worker *w, struct mesh_filter_call *f, struct foil_chain *data, bool end)
{
	struct grpc_web_state *s = f->state;
	struct foil_chain out = {0};
	int rc;

	if (!s->is_text_request)
		return MESH_FILTER_CONTINUE;
	rc = decode_text(w, s, data, end, &out);
	foil_chain_clear(data);
	if (rc == 0) {
		*data = out;
		return MESH_FILTER_CONTINUE;
	}
	foil_chain_clear(&out);
	if (rc == -ENOBUFS) {
		mesh_reply_no_memory(w, f->exchange);
		return MESH_FILTER_REPLY;
	}
	const struct mesh_reply r = {
		.status = 400, .body = FOIL_SLICE("Bad gRPC-web request, invalid base64 data."), .details = FOIL_SLICE("grpc_base_64_decode_failed"),
		.reason = MESH_REASON_GRPC_WEB_BAD,
	};
	mesh_filter_reply(w, f, &r);
	return MESH_FILTER_REPLY;
}

/* ---- the answer ---- */
static bool is_grpc_answer(const struct http_head *head)
{
	struct foil_slice type = value_of(&head->headers, HTTP_HDR_CONTENT_TYPE), grpc = FOIL_SLICE("application/grpc");

	return head->status == 200 && foil_slice_has_prefix(type, grpc) && (type.n_bytes == grpc.n_bytes || type.data[grpc.n_bytes] == '+');
}

static enum mesh_filter_result grpc_web_response(struct foil_worker *w, struct mesh_filter_call *f, struct http_head *head, bool end)
{
	struct mesh_exchange *x = f->exchange;
	struct grpc_web_state *s = f->state;
	struct foil_slice type = s->is_text_answer ? FOIL_SLICE("application/grpc-web-text+proto") : FOIL_SLICE("application/grpc-web+proto");
	bool is_grpc = is_grpc_answer(head);

	if (mesh_header_put(w, x->arena, &head->headers, HTTP_HDR_CONTENT_TYPE, type) != 0)
		foil_reason(w, MESH, OUT_OF_MEMORY); /* the browser sees an answer of another type, and refuses it */
	if (end || x->is_local_reply)
		return MESH_FILTER_CONTINUE;
	if (is_grpc) {
		head->body = HTTP_BODY_CHUNKED; /* a frame is added */
		return MESH_FILTER_CONTINUE;
	}
	s->is_foreign = true;
	return MESH_FILTER_COLLECT;
}

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct text_out {
	struct foil_worker *w;
	struct foil_chain *to;
	char piece[PIECE_BYTES];
	uint32_t n;
	int rc;
};

static void flush(struct text_out *o)
{
	if (o->rc == 0 && o->n)
		o->rc = foil_chain_append(o->w, o->to, o->piece, o->n);
	o->n = 0;
}

/* Three bytes, or, at a frame's end, what there is. */
static void put_group(struct text_out *o, struct grpc_web_state *s)
{
	const uint8_t *b = s->rest;
	uint32_t v = (uint32_t)b[0] << 16 | (uint32_t)(s->n_rest > 1 ? b[1] : 0) << 8 | (s->n_rest > 2 ? b[2] : 0);

	if (o->n + 4 > sizeof(o->piece))
		flush(o);
	o->piece[o->n++] = letters[v >> 18];
	o->piece[o->n++] = letters[v >> 12 & 63];
	o->piece[o->n++] = s->n_rest > 1 ? letters[v >> 6 & 63] : '=';
	o->piece[o->n++] = s->n_rest > 2 ? letters[v & 63] : '=';
	s->n_rest = 0;
}

static void put_byte(struct text_out *o, struct grpc_web_state *s, uint8_t byte)
{
	s->rest[s->n_rest++] = byte;
	if (s->n_rest == 3)
		put_group(o, s);
}

/* A frame's last byte has passed: the next begins a group of its own. */
static void end_frame(struct text_out *o, struct grpc_web_state *s)
{
	if (s->n_rest)
		put_group(o, s);
	s->n_head = 0;
}

static void encode_byte(struct text_out *o, struct grpc_web_state *s, uint8_t byte)
{
	put_byte(o, s, byte);
	if (s->n_head < FRAME_HEAD_BYTES) {
		s->head[s->n_head++] = byte;
		if (s->n_head < FRAME_HEAD_BYTES)
			return;
		s->n_left = (uint32_t)s->head[1] << 24 | (uint32_t)s->head[2] << 16 | (uint32_t)s->head[3] << 8 | s->head[4];
	} else {
		s->n_left--;
	}
	if (s->n_left == 0)
		end_frame(o, s);
}

static int encode_text(struct foil_worker *w, struct grpc_web_state *s, struct foil_chain *data, bool end)
{
	struct foil_chain to = {0};
	struct text_out o = {.w = w, .to = &to};

	for (const struct rte_mbuf *m = data->head; m; m = m->next) {
		struct foil_slice in = foil_mbuf_slice(m);
		for (uint32_t i = 0; i < in.n_bytes; i++)
			encode_byte(&o, s, (uint8_t)in.data[i]);
	}
	if (end)
		end_frame(&o, s);
	flush(&o);
	foil_chain_clear(data);
	*data = to;
	return o.rc;
}

/* The answer is no gRPC: its status says what it means, its body is the message. */
static int foreign_answer(struct foil_worker *w, struct mesh_exchange *x, struct foil_chain *data)
{
	char text[MESSAGE_BYTES_MAX];
	uint32_t n = FOIL_MIN(data->n_bytes, MESSAGE_BYTES_MAX);

	foil_chain_copy_out(data, 0, text, n);
	foil_chain_clear(data);
	x->response->body = HTTP_BODY_LENGTH;
	x->response->content_length = 0;
	return mesh_reply_grpc_status(w, x, x->response->status, foil_slice_of(text, n), &x->response->headers);
}

static enum mesh_filter_result grpc_web_response_data(struct foil_worker *w, struct mesh_filter_call *f, struct foil_chain *data, bool end)
{
	struct mesh_exchange *x = f->exchange;
	struct grpc_web_state *s = f->state;
	int rc = 0;

	if (s->is_foreign)
		rc = foreign_answer(w, x, data);
	else if (s->is_text_answer && !x->is_local_reply)
		rc = encode_text(w, s, data, end);
	if (rc == 0)
		return MESH_FILTER_CONTINUE;
	foil_reason(w, MESH, OUT_OF_MEMORY);
	mesh_exchange_abort(w, x);
	return MESH_FILTER_REPLY;
}

static int put_trailers(struct foil_worker *w, const struct http_headers *trailers, uint32_t n_bytes, struct foil_chain *to)
{
	const uint8_t head[FRAME_HEAD_BYTES] = {FRAME_TRAILERS, (uint8_t)(n_bytes >> 24), (uint8_t)(n_bytes >> 16), (uint8_t)(n_bytes >> 8), (uint8_t)n_bytes};
	int rc = foil_chain_append(w, to, head, sizeof(head));

	for (uint16_t i = 0; rc == 0 && i < trailers->n; i++) {
		const struct http_header *h = &trailers->list[i];
		if (h->is_removed)
			continue;
		rc = foil_chain_append(w, to, h->name.data, h->name.n_bytes);
		rc = rc ? rc : foil_chain_append(w, to, ":", 1);
		rc = rc || !h->value.n_bytes ? rc : foil_chain_append(w, to, h->value.data, h->value.n_bytes);
		rc = rc ? rc : foil_chain_append(w, to, "\r\n", 2);
	}
	return rc;
}

/* The last frame. */
static enum mesh_filter_result grpc_web_response_trailers(struct foil_worker *w, struct mesh_filter_call *f, const struct http_headers *trailers,
							  struct foil_chain *data)
{
	struct grpc_web_state *s = f->state;
	struct foil_chain frame = {0};
	uint32_t n_bytes = 0;

	if (s->is_foreign)
		return MESH_FILTER_CONTINUE;
	for (uint16_t i = 0; i < trailers->n; i++)
		if (!trailers->list[i].is_removed)
			n_bytes += trailers->list[i].name.n_bytes + trailers->list[i].value.n_bytes + 3;
	int rc = s->is_text_answer ? encode_text(w, s, data, true) : 0; /* a frame that was cut short has its own padding */
	if (rc == 0)
		rc = put_trailers(w, trailers, n_bytes, &frame);
	if (rc == 0 && s->is_text_answer)
		rc = encode_text(w, s, &frame, true);
	if (rc == 0) {
		foil_chain_move(data, &frame);
		return MESH_FILTER_COLLECT;
	}
	foil_chain_clear(&frame);
	foil_reason(w, MESH, OUT_OF_MEMORY);
	mesh_exchange_abort(w, f->exchange);
	return MESH_FILTER_REPLY;
}

const struct mesh_filter filter_grpc_web = {
	.name = "grpc_web", .state_bytes = sizeof(struct grpc_web_state), .wants = grpc_web_wants, .request_head = grpc_web_request,
	.request_data = grpc_web_request_data, .response_head = grpc_web_response, .response_data = grpc_web_response_data,
	.response_trailers = grpc_web_response_trailers,
};
