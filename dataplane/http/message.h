/* One message model for HTTP/1.1, HTTP/2 and gRPC: what codecs produce and consume, and all that filters see.
 *
 * Names are lower case once decoded. A header's name and value are slices that live in the request's arena or in the head bytes
 * that the codec keeps for the exchange: valid until the exchange ends (style.md: "request" lifetime). A name that is in
 * header_names.def carries its id, so that comparing is comparing numbers. */
#pragma once

#include "dataplane/core/arena.h"
#include "dataplane/core/base.h"

#include <assert.h>

/* header_names.def: X(ID, "name"). HTTP_HDR_OTHER = 0 is every name not in the table. */
enum http_header_id {
	HTTP_HDR_OTHER,
#define X(ID, name) HTTP_HDR_##ID,
#include "dataplane/http/header_names.def"
#undef X
	HTTP_HDR_COUNT
};

struct http_header {
	struct foil_slice name, value;
	uint16_t id;        /* enum http_header_id */
	bool is_removed;    /* skipped by every look-up and by encoders; keeps removal O(1) */
	uint8_t judged;     /* enum http_judged: what a decoder of ours knows of these very bytes; who puts others in their place puts 0 */
};

/* Zero says nothing, and is right for any field: encoders look at it themselves then. */
enum http_judged {
	HTTP_JUDGED_NAME = 1,       /* a token in lower case */
	HTTP_JUDGED_VALUE = 2,      /* nothing in it that a value may not have */
	HTTP_JUDGED_UNDERSCORE = 4, /* in the name */
	HTTP_JUDGED_FITS = 8,       /* of a pseudo field: what its kind may have */
	HTTP_JUDGED_SENDABLE = HTTP_JUDGED_NAME | HTTP_JUDGED_VALUE,
};

/* lacks: a bit an id that is known to have no header in the list (or only removed ones), so that most look-ups end without a walk; a cleared bit says
 * nothing, and zeroes are right for any list. Whoever makes a list by hand leaves it zero; what appends clears the bit. OTHER has no bit. */
#define HTTP_HDR_WORDS 2u
struct http_headers {
	struct http_header *list; /* in the order of arrival, in the arena */
	uint16_t n, cap;
	uint64_t lacks[HTTP_HDR_WORDS];
};
static_assert(HTTP_HDR_COUNT <= 64u * HTTP_HDR_WORDS, "a bit an id");

static inline bool http_headers_lack(const struct http_headers *h, unsigned int id)
{
	return h->lacks[id / 64] >> (id % 64) & 1;
}

/* A header of that id has come into the list. */
static inline void http_headers_gain(struct http_headers *h, unsigned int id)
{
	h->lacks[id / 64] &= ~((uint64_t)1 << (id % 64));
}

/* All of that id are removed. */
static inline void http_headers_lose(struct http_headers *h, unsigned int id)
{
	if (id != HTTP_HDR_OTHER)
		h->lacks[id / 64] |= (uint64_t)1 << (id % 64);
}

/* For who fills an empty list, one http_headers_gain a header. */
static inline void http_headers_lack_all(struct http_headers *h)
{
	for (unsigned int i = 0; i < HTTP_HDR_WORDS; i++)
		h->lacks[i] = ~(uint64_t)0;
	http_headers_gain(h, HTTP_HDR_OTHER);
}

enum http_method {
	HTTP_METHOD_OTHER, HTTP_METHOD_GET, HTTP_METHOD_HEAD, HTTP_METHOD_POST, HTTP_METHOD_PUT, HTTP_METHOD_DELETE,
	HTTP_METHOD_CONNECT, HTTP_METHOD_OPTIONS, HTTP_METHOD_TRACE, HTTP_METHOD_PATCH
};

enum http_version { HTTP_VERSION_10, HTTP_VERSION_11, HTTP_VERSION_2 };

/* A request head. In HTTP/1.1 host is not in headers: it is authority (as :authority in HTTP/2). Framing headers (content-length,
 * transfer-encoding) and hop-by-hop headers are taken out by the decoder and put in by the encoder; body says what was there.
 * The encoder looks at neither reason (the phrase is the registry's) nor wants_close (that is of the hop it was decoded on). */
enum http_body_kind { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED, HTTP_BODY_UNTIL_CLOSE };

struct http_head {
	/* request */
	struct foil_slice method_text, scheme, authority, path; /* path with query as received; never empty ("/" at least, "*"; CONNECT: "/") */
	enum http_method method;
	/* response */
	uint16_t status; /* 0 in a request */
	struct foil_slice reason;

	enum http_version version;
	enum http_body_kind body;
	uint64_t content_length; /* HTTP_BODY_LENGTH */
	bool expects_continue;   /* Expect: 100-continue: the server codec has answered it, or will when the body is read */
	bool wants_close;        /* Connection: close, or HTTP/1.0 without keep-alive */
	bool is_upgrade;         /* asks for another protocol, or (101) takes it up: Upgrade is among the headers; codec.h says what follows */
	struct foil_slice upgrade_word; /* "upgrade" in Connection as the peer spelt it, which goes on so */
	bool is_grpc;            /* content-type application/grpc or application/grpc+… */
	bool has_te_trailers;    /* TE: trailers was named */
	bool was_absolute_form;  /* request target was scheme://authority/path */
	bool has_several_hosts;  /* two Host lines, joined with "," in authority as Envoy does: route it nowhere (404); it cannot be sent on */
	uint32_t head_bytes;     /* on the wire */
	struct http_headers headers;
};

/* What the functions below do where it takes a walk, or memory. */
const struct http_header *http_header_search(const struct http_headers *h, enum http_header_id id);
int http_headers_grow(struct foil_worker *w, struct foil_arena *a, struct http_headers *h) FOIL_MUST_USE;
void http_header_search_and_remove(struct http_headers *h, enum http_header_id id);
extern const struct foil_slice http_header_names[HTTP_HDR_COUNT];

/* Look-up: the first value, NULL if absent. id != OTHER. */
static inline const struct http_header *http_header_get(const struct http_headers *h, enum http_header_id id)
{
	return http_headers_lack(h, id) ? NULL : http_header_search(h, id);
}

/* By name (lower case), for names that are not in the table too. */
const struct http_header *http_header_find(const struct http_headers *h, struct foil_slice name_lower);
/* All values of name joined with "," into the arena when there are several, but for empty ones (Envoy); {NULL,0} when absent, {"",0} when empty. */
struct foil_slice http_header_joined(struct foil_worker *w, struct foil_arena *a, const struct http_headers *h, struct foil_slice name_lower);
/* Its several lines, of which there are some, become one where the first stands, as joined has it. 0 or -ENOBUFS. */
int http_header_join(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id) FOIL_MUST_USE;
/* Appends. name_lower and value must live as long as the exchange. 0, or -ENOBUFS when the arena is exhausted. */
int http_header_add(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, struct foil_slice name_lower, struct foil_slice value) FOIL_MUST_USE;
static inline FOIL_MUST_USE int http_header_add_judged(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id,
							struct foil_slice value, uint8_t judged)
{
	FOIL_ASSERT((unsigned int)id - 1 < HTTP_HDR_COUNT - 1u);
	if (FOIL_UNLIKELY(h->n == h->cap)) {
		int rc = http_headers_grow(w, a, h);
		if (rc != 0)
			return rc;
	}
	struct http_header *e = &h->list[h->n++];
	e->name = http_header_names[id];
	e->value = value;
	e->id = (uint16_t)id;
	e->is_removed = false;
	e->judged = judged;
	http_headers_gain(h, id);
	return 0;
}
static inline FOIL_MUST_USE int http_header_add_id(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id,
						    struct foil_slice value)
{
	return http_header_add_judged(w, a, h, id, value, 0);
}
/* A value of our own making (digits, an address, a word of ours), of which nobody needs to look whether it may be sent. */
static inline FOIL_MUST_USE int http_header_add_own(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id,
						     struct foil_slice value)
{
	return http_header_add_judged(w, a, h, id, value, HTTP_JUDGED_SENDABLE);
}
/* Removes all of that name, then appends one. */
int http_header_set(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, struct foil_slice name_lower, struct foil_slice value) FOIL_MUST_USE;
void http_header_remove(struct http_headers *h, struct foil_slice name_lower); /* all of that name */
static inline void http_header_remove_id(struct http_headers *h, enum http_header_id id) /* id != OTHER */
{
	if (!http_headers_lack(h, id))
		http_header_search_and_remove(h, id);
}
enum http_header_id http_header_intern(struct foil_slice name_lower);
struct foil_slice http_header_name(enum http_header_id id);
/* A deep-enough copy for a retry or a mirror: the list is new, the bytes are shared. 0 or -ENOBUFS. */
int http_head_clone(struct foil_worker *w, struct foil_arena *a, const struct http_head *from, struct http_head *to) FOIL_MUST_USE;
enum http_method http_method_of(struct foil_slice text);
const char *http_status_reason(uint16_t status); /* "OK", …; "Unknown" where the registry has none */
