/* The message model: header look-up by id or name, adding, removing, and the interning of names.
 * Not here: what any header means. Names are lower case, values as received.
 * Invariant: a header whose name is in header_names.def carries its id, every other one HTTP_HDR_OTHER; so comparing ids is enough. */
#include <errno.h>

#include "dataplane/core/worker.h"
#include "dataplane/http/header_hash.h"
#include "dataplane/http/http_priv.h"

const struct http_name_text http_name_texts[HTTP_HDR_COUNT] = {
#define X(ID, name) [HTTP_HDR_##ID] = {name ": "},
#include "dataplane/http/header_names.def"
#undef X
};

const struct foil_slice http_header_names[HTTP_HDR_COUNT] = {
	[HTTP_HDR_OTHER] = {"", 0},
#define X(ID, name) [HTTP_HDR_##ID] = {http_name_texts[HTTP_HDR_##ID].text, sizeof(name) - 1},
#include "dataplane/http/header_names.def"
#undef X
};

#define HEADER_ROOM 8 /* the least that a list grows by */

/* What of a name goes into the hash; gen_names.py says the same in Python. n_bytes > 0. */
static uint64_t name_key(const char *p, uint32_t n_bytes)
{
	uint64_t lo, hi, mid = 0;

	if (n_bytes >= 8) {
		lo = foil_load_8(&p[0]);
		hi = foil_load_8(&p[n_bytes - 8]);
		mid = foil_load_8(&p[n_bytes / 2 - 4]);
	} else if (n_bytes >= 4) {
		lo = foil_load_4(&p[0]);
		hi = foil_load_4(&p[n_bytes - 4]);
	} else {
		lo = (uint8_t)p[0];
		hi = (uint64_t)(uint8_t)p[n_bytes / 2] << 8 | (uint8_t)p[n_bytes - 1];
	}
	return lo ^ (hi << 23 | hi >> 41) ^ (mid << 44 | mid >> 20) ^ n_bytes;
}

enum http_header_id http_header_intern(struct foil_slice name_lower)
{
	if (name_lower.n_bytes == 0 || name_lower.n_bytes > HTTP_NAME_BYTES_MAX)
		return HTTP_HDR_OTHER;
	uint64_t key = name_key(name_lower.data, name_lower.n_bytes);
	unsigned int id = http_name_slots[(key * HTTP_NAME_MULTIPLIER) >> HTTP_NAME_SHIFT];
	return foil_slice_eq(http_header_names[id], name_lower) ? (enum http_header_id)id : HTTP_HDR_OTHER;
}

struct foil_slice http_header_name(enum http_header_id id)
{
	return (unsigned int)id < HTTP_HDR_COUNT ? http_header_names[id] : http_header_names[HTTP_HDR_OTHER];
}

static bool is_named(const struct http_header *h, enum http_header_id id, struct foil_slice name_lower)
{
	if (h->is_removed || h->id != id)
		return false;
	return id != HTTP_HDR_OTHER || foil_slice_eq(h->name, name_lower);
}

const struct http_header *http_header_search(const struct http_headers *h, enum http_header_id id)
{
	for (uint16_t i = 0; i < h->n; i++)
		if (h->list[i].id == id && !h->list[i].is_removed)
			return &h->list[i];
	return NULL;
}

const struct http_header *http_header_find(const struct http_headers *h, struct foil_slice name_lower)
{
	enum http_header_id id = http_header_intern(name_lower);

	if (http_headers_lack(h, id))
		return NULL;
	for (uint16_t i = 0; i < h->n; i++)
		if (is_named(&h->list[i], id, name_lower))
			return &h->list[i];
	return NULL;
}

struct foil_slice http_header_joined(struct foil_worker *w, struct foil_arena *a, const struct http_headers *h, struct foil_slice name_lower)
{
	enum http_header_id id = http_header_intern(name_lower);
	struct foil_slice only = {NULL, 0};
	uint32_t n_values = 0, n_bytes = 0;

	for (uint16_t i = 0; i < h->n; i++) {
		if (!is_named(&h->list[i], id, name_lower))
			continue;
		if (n_values++ == 0)
			only = h->list[i].value;
		n_bytes += h->list[i].value.n_bytes + 1;
	}
	if (n_values <= 1)
		return n_values && !only.data ? (struct foil_slice){"", 0} : only;
	char *p = foil_arena_alloc(w, a, n_bytes);
	uint32_t at = 0;
	if (!p)
		return (struct foil_slice){NULL, 0};
	for (uint16_t i = 0; i < h->n; i++) {
		const struct foil_slice v = h->list[i].value;
		if (!is_named(&h->list[i], id, name_lower) || v.n_bytes == 0)
			continue;
		if (at)
			p[at++] = ',';
		memcpy(&p[at], v.data, v.n_bytes);
		at += v.n_bytes;
	}
	return foil_slice_of(p, at);
}

bool http_length_parse(struct foil_slice s, uint64_t *out)
{
	uint64_t v = 0;

	for (uint32_t i = 0; i < s.n_bytes; i++) {
		uint8_t digit = (uint8_t)(s.data[i] - '0');
		if (digit > 9 || v > ((uint64_t)INT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*out = v;
	return s.n_bytes != 0;
}

int http_headers_reserve(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, uint32_t cap)
{
	if (cap <= h->cap)
		return 0;
	struct http_header *list = cap > UINT16_MAX ? NULL : foil_arena_alloc(w, a, cap * sizeof(*list));
	if (!list)
		return -ENOBUFS;
	if (h->n)
		memcpy(list, h->list, h->n * sizeof(*list));
	h->list = list;
	h->cap = (uint16_t)cap;
	return 0;
}

int http_headers_grow(struct foil_worker *w, struct foil_arena *a, struct http_headers *h)
{
	return http_headers_reserve(w, a, h, h->cap + FOIL_MAX(h->cap / 2u, (unsigned int)HEADER_ROOM));
}

static int append(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id, struct foil_slice name_lower,
		  struct foil_slice value)
{
	if (FOIL_UNLIKELY(h->n == h->cap) && http_headers_grow(w, a, h) != 0)
		return -ENOBUFS;
	struct http_header *e = &h->list[h->n++];
	e->name = name_lower;
	e->value = value;
	e->id = (uint16_t)id;
	e->is_removed = false;
	e->judged = 0;
	http_headers_gain(h, id);
	return 0;
}

int http_header_add(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, struct foil_slice name_lower, struct foil_slice value)
{
	return append(w, a, h, http_header_intern(name_lower), name_lower, value);
}

void http_header_remove(struct http_headers *h, struct foil_slice name_lower)
{
	enum http_header_id id = http_header_intern(name_lower);

	if (id != HTTP_HDR_OTHER) {
		http_header_remove_id(h, id);
		return;
	}
	for (uint16_t i = 0; i < h->n; i++)
		if (is_named(&h->list[i], id, name_lower))
			h->list[i].is_removed = true;
}

int http_header_join(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id)
{
	struct foil_slice joined = http_header_joined(w, a, h, http_header_name(id));
	bool is_first = true;

	if (!joined.data)
		return -ENOBUFS;
	for (uint16_t i = 0; i < h->n; i++) {
		struct http_header *e = &h->list[i];
		if (e->id != id || e->is_removed)
			continue;
		e->is_removed = !is_first;
		e->value = joined;
		e->judged &= (uint8_t)~HTTP_JUDGED_VALUE;
		is_first = false;
	}
	return 0;
}

void http_header_search_and_remove(struct http_headers *h, enum http_header_id id)
{
	for (uint16_t i = 0; i < h->n; i++)
		h->list[i].is_removed |= h->list[i].id == id;
	http_headers_lose(h, id);
}

int http_header_set(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, struct foil_slice name_lower, struct foil_slice value)
{
	int rc = http_headers_reserve(w, a, h, h->n + 1u);

	if (rc != 0)
		return rc; /* nothing was removed */
	http_header_remove(h, name_lower);
	return http_header_add(w, a, h, name_lower, value);
}

int http_head_clone(struct foil_worker *w, struct foil_arena *a, const struct http_head *from, struct http_head *to)
{
	struct http_head copy = *from;

	copy.headers = (struct http_headers){0};
	if (http_headers_reserve(w, a, &copy.headers, from->headers.n + HEADER_ROOM) != 0)
		return -ENOBUFS;
	memcpy(copy.headers.lacks, from->headers.lacks, sizeof(copy.headers.lacks));
	for (uint16_t i = 0; i < from->headers.n; i++)
		if (!from->headers.list[i].is_removed)
			copy.headers.list[copy.headers.n++] = from->headers.list[i];
	*to = copy;
	return 0;
}

enum http_method http_method_of(struct foil_slice text)
{
	static const struct {
		const char *text;
		uint32_t n_bytes;
		enum http_method method;
	} known[] = {
		{"GET", 3, HTTP_METHOD_GET}, {"POST", 4, HTTP_METHOD_POST}, {"HEAD", 4, HTTP_METHOD_HEAD}, {"PUT", 3, HTTP_METHOD_PUT},
		{"DELETE", 6, HTTP_METHOD_DELETE}, {"OPTIONS", 7, HTTP_METHOD_OPTIONS}, {"PATCH", 5, HTTP_METHOD_PATCH},
		{"CONNECT", 7, HTTP_METHOD_CONNECT}, {"TRACE", 5, HTTP_METHOD_TRACE},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(known); i++)
		if (known[i].n_bytes == text.n_bytes && foil_equal(known[i].text, text.data, text.n_bytes))
			return known[i].method;
	return HTTP_METHOD_OTHER;
}
