/* HTTP filters: what stands between codec and router. A filter is one struct of callbacks and one line in filters.def; requests pass in the order
 * of that table, responses in the reverse order, and the router comes last.
 *
 * A filter takes part in a request when wants says so, once, when the route is known. Its state (state_bytes, zeroed) lives in the request's
 * arena until done has returned, which is called exactly once for each filter that took part, however the request ends. Callbacks are called in
 * this order: request_head, request_data*, response_head, response_data*, done; response_head may come before the request has ended. All
 * members but name may be NULL.
 *
 * Results:
 *   CONTINUE  go on to the next
 *   PAUSE     stop here until mesh_filter_resume or mesh_filter_reply; a little body is kept meanwhile, then the peer is held back
 *   COLLECT   request_head and request_data: stop here, but read the body: request_data is called with all that was collected so far,
 *             until it returns something else. More than MESH_FILTER_COLLECT_BYTES_MAX is answered 413. response_head: the same once: response_data is
 *             called with the whole body, or its first MESH_FILTER_ANSWER_BYTES_MAX (the rest is dropped), and may still change the head; the answer ends
 *             with what it leaves. response_trailers: they have become part of the data
 *   REPLY     mesh_filter_reply was called; the request does not go further */
#pragma once

#include "dataplane/http/codec.h"
#include "dataplane/mesh/config.h"
#include "dataplane/stream/stream.h"

#define MESH_FILTER_COLLECT_BYTES_MAX (1u << 20)
#define MESH_FILTER_ANSWER_BYTES_MAX (64u << 10)

enum mesh_filter_result { MESH_FILTER_CONTINUE, MESH_FILTER_PAUSE, MESH_FILTER_COLLECT, MESH_FILTER_REPLY };

struct mesh_exchange;
struct mesh_filter;
/* One filter at one request. */
struct mesh_filter_call {
	struct mesh_exchange *exchange;
	const struct mesh_filter *filter;
	void *state;
	bool has_begun; /* request_head was called */
};

struct mesh_filter {
	const char *name;
	uint32_t state_bytes;
	bool (*wants)(struct foil_worker *w, const struct mesh_exchange *x);
	enum mesh_filter_result (*request_head)(struct foil_worker *w, struct mesh_filter_call *f, struct http_head *head, bool end);
	/* data may be changed or emptied; COLLECT and PAUSE keep it. */
	enum mesh_filter_result (*request_data)(struct foil_worker *w, struct mesh_filter_call *f, struct foil_chain *data, bool end);
	/* The answer of the upstream or a local reply. Answering a local reply by another one is not possible: PAUSE and REPLY count as CONTINUE there. */
	enum mesh_filter_result (*response_head)(struct foil_worker *w, struct mesh_filter_call *f, struct http_head *head, bool end);
	enum mesh_filter_result (*response_data)(struct foil_worker *w, struct mesh_filter_call *f, struct foil_chain *data, bool end);
	/* The answer ends with these, after data; CONTINUE, COLLECT or REPLY. */
	enum mesh_filter_result (*response_trailers)(struct foil_worker *w, struct mesh_filter_call *f, const struct http_headers *trailers,
						     struct foil_chain *data);
	void (*done)(struct foil_worker *w, struct mesh_filter_call *f); /* cancel timers here */
};

#define X(ID, symbol) MESH_FILTER_##ID,
enum mesh_filter_id {
#include "dataplane/mesh/filters.def"
	MESH_FILTER_COUNT
};
#undef X
#define X(ID, symbol) extern const struct mesh_filter symbol;
#include "dataplane/mesh/filters.def"
#undef X

/* An answer that is made here (local_reply.c has its rules). */
struct mesh_reply {
	uint16_t status;
	struct foil_slice body;      /* text/plain unless extra names a content-type; lives as long as the request */
	struct foil_slice details;   /* %RESPONSE_CODE_DETAILS% */
	uint64_t flags;              /* enum tele_flag, added to what is set */
	const struct http_header *extra; /* headers before all others */
	uint16_t n_extra;
	bool has_grpc_status;        /* use grpc_status instead of the one that follows from status */
	uint8_t grpc_status;
	bool with_route_ops;         /* the route's response header operations apply */
	bool is_overloaded;          /* x-envoy-overloaded: true */
	uint16_t reason;             /* enum mesh_reason to count */
};

/* What a filter may ask and do. */
struct foil_arena *mesh_filter_arena(struct mesh_filter_call *f);
const struct mesh_route *mesh_exchange_route(const struct mesh_exchange *x); /* NULL: no route matched */
const struct http_head *mesh_exchange_request(const struct mesh_exchange *x);
const struct stream_addr *mesh_exchange_client(const struct mesh_exchange *x); /* the trusted client address */
const struct stream_addr *mesh_exchange_peer(const struct mesh_exchange *x);   /* the connection's */
const struct stream_addr *mesh_exchange_local(const struct mesh_exchange *x);
void mesh_filter_flag(struct mesh_filter_call *f, uint64_t flags);
/* After PAUSE: goes on behind this filter. May be called from any callback or timer of the filter but not from inside request_head itself. */
void mesh_filter_resume(struct foil_worker *w, struct mesh_filter_call *f);
/* Answers; inside a callback return REPLY after it. Ignored when the response has begun: the exchange is reset then. */
void mesh_filter_reply(struct foil_worker *w, struct mesh_filter_call *f, const struct mesh_reply *r);
