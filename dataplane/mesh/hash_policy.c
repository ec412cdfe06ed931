/* Hashes of requests, see hash_policy.h. Each policy gives one or none; the one so far is turned left by a bit and the new one laid over it; a terminal
 * policy ends it once there is one. Values are hashed by xxHash64 without a seed:
 * - a header's as they are; several of a name in order of their bytes, each with the hash so far as its seed;
 * - a cookie's without quotes around it, the first of its name that any cookie header has;
 * - a query parameter's not decoded, its first occurrence;
 * - an address's text without its port.
 * Not here: which host a hash belongs to (lb.c). */
#include "dataplane/mesh/hash_policy.h"

#include <errno.h>
#include <xxhash.h>

#include "dataplane/mesh/addr_priv.h"
#include "dataplane/mesh/match_priv.h"

#define HEADER_VALUES_MAX 64u /* of one name that are put in order; the rest do not count */

static uint64_t hash_of(struct foil_slice s, uint64_t seed)
{
	return XXH64(s.n_bytes ? s.data : "", s.n_bytes, seed);
}

/* ---- headers ---- */
static bool is_of(const struct http_header *h, uint16_t id, struct foil_slice name)
{
	return !h->is_removed && h->id == id && (id != HTTP_HDR_OTHER || foil_slice_eq(h->name, name));
}

/* data NULL: the name is not a pseudo header. */
static struct foil_slice pseudo_of(const struct mesh_hash_policy *p, const struct http_head *head)
{
	if (p->id == HTTP_HDR_HOST || foil_slice_eq(p->name, FOIL_SLICE(":authority")))
		return head->authority;
	if (foil_slice_eq(p->name, FOIL_SLICE(":path")))
		return head->path;
	if (foil_slice_eq(p->name, FOIL_SLICE(":method")))
		return head->method_text;
	return foil_slice_eq(p->name, FOIL_SLICE(":scheme")) ? head->scheme : (struct foil_slice){NULL, 0};
}

static int compare(struct foil_slice a, struct foil_slice b)
{
	uint32_t n = FOIL_MIN(a.n_bytes, b.n_bytes);
	int order = n ? memcmp(a.data, b.data, n) : 0;

	return order ? order : a.n_bytes < b.n_bytes ? -1 : a.n_bytes > b.n_bytes;
}

static void insert_in_order(struct foil_slice *values, uint32_t n, struct foil_slice value)
{
	while (n > 0 && compare(values[n - 1], value) > 0) {
		values[n] = values[n - 1];
		n--;
	}
	values[n] = value;
}

static bool hash_header(const struct mesh_hash_policy *p, const struct http_head *head, uint64_t *hash)
{
	struct foil_slice values[HEADER_VALUES_MAX] = {pseudo_of(p, head)};
	uint32_t n = values[0].data != NULL;

	for (uint16_t i = 0; i < head->headers.n && n < HEADER_VALUES_MAX; i++)
		if (is_of(&head->headers.list[i], p->id, p->name))
			insert_in_order(values, n++, head->headers.list[i].value);
	*hash = 0;
	for (uint32_t i = 0; i < n; i++)
		*hash = hash_of(values[i], *hash);
	return n > 0;
}

/* ---- cookies ---- */
static struct foil_slice unquoted(struct foil_slice v)
{
	bool is_quoted = v.n_bytes >= 2 && v.data[0] == '"' && v.data[v.n_bytes - 1] == '"';

	return is_quoted ? foil_slice_of(v.data + 1, v.n_bytes - 2) : v;
}

/* The value of name in one cookie header. */
static bool find_cookie(struct foil_slice header, struct foil_slice name, struct foil_slice *value)
{
	for (uint32_t at = 0; at < header.n_bytes;) {
		const char *p = header.data + at, *end = memchr(p, ';', header.n_bytes - at);
		uint32_t n = end ? (uint32_t)(end - p) : header.n_bytes - at, skip = 0;
		const char *equals = n ? memchr(p, '=', n) : NULL;

		at += n + 1;
		while (skip < n && p[skip] == ' ')
			skip++;
		if (!equals || equals < p + skip || !foil_slice_eq(foil_slice_of(p + skip, (size_t)(equals - p - skip)), name))
			continue;
		*value = unquoted(foil_slice_of(equals + 1, (size_t)(p + n - equals - 1)));
		return true;
	}
	return false;
}

static struct foil_slice cookie_of(const struct http_head *head, struct foil_slice name)
{
	struct foil_slice value = {NULL, 0};

	for (uint16_t i = 0; i < head->headers.n; i++) {
		const struct http_header *h = &head->headers.list[i];
		if (!h->is_removed && h->id == HTTP_HDR_COOKIE && find_cookie(h->value, name, &value))
			break;
	}
	return value;
}

struct text { /* grows in a block that was measured before */
	char *data;
	size_t n;
};

static void put(struct text *t, struct foil_slice s)
{
	if (t->data && s.n_bytes)
		memcpy(t->data + t->n, s.data, s.n_bytes);
	t->n += s.n_bytes;
}

/* NAME="value"; Max-Age=…; Path=…; attributes; HttpOnly: Envoy's makeSetCookieValue. data NULL: measures only. */
static void write_cookie(const struct mesh_hash_policy *p, struct foil_slice value, struct text *t)
{
	char number[ADDR_TEXT_BYTES];

	put(t, p->name);
	put(t, FOIL_SLICE("=\""));
	put(t, value);
	put(t, FOIL_SLICE("\""));
	if (p->ttl_s) {
		put(t, FOIL_SLICE("; Max-Age="));
		put(t, mesh_addr_number(p->ttl_s, number));
	}
	if (p->path.n_bytes) {
		put(t, FOIL_SLICE("; Path="));
		put(t, p->path);
	}
	for (uint16_t i = 0; i < p->n_attributes; i++) {
		put(t, FOIL_SLICE("; "));
		put(t, p->attributes[i].name);
		if (p->attributes[i].value.n_bytes) {
			put(t, FOIL_SLICE("="));
			put(t, p->attributes[i].value);
		}
	}
	put(t, FOIL_SLICE("; HttpOnly"));
}

/* The same for all requests of a connection, so that several under way at once agree. */
static struct foil_slice made_value(const struct mesh_hash_request *r, char text[16])
{
	char remote_text[ADDR_TEXT_BYTES], local_text[ADDR_TEXT_BYTES], both[2 * ADDR_TEXT_BYTES];
	struct foil_slice remote = mesh_addr_text(r->remote, true, remote_text), local = mesh_addr_text(r->local, true, local_text);
	struct text t = {.data = both};
	uint64_t hash;

	put(&t, remote);
	put(&t, local);
	hash = XXH64(both, t.n, 0);
	for (uint32_t i = 0; i < 16; i++)
		text[i] = "0123456789abcdef"[hash >> (60 - 4 * i) & 15];
	return foil_slice_of(text, 16);
}

static int make_cookie(struct foil_worker *w, struct foil_arena *a, const struct mesh_hash_policy *p, struct foil_slice value, struct foil_slice *out)
{
	struct text t = {0};

	write_cookie(p, value, &t);
	t.data = foil_arena_alloc(w, a, t.n);
	if (!t.data)
		return -ENOBUFS;
	t.n = 0;
	write_cookie(p, value, &t);
	*out = foil_slice_of(t.data, t.n);
	return 0;
}

/* 1: a hash; 0: none; -ENOBUFS. */
static int hash_cookie(struct foil_worker *w, struct foil_arena *a, const struct mesh_hash_policy *p, uint16_t n_policies,
		       const struct mesh_hash_request *r, struct mesh_hash *out, uint64_t *hash)
{
	struct foil_slice value = cookie_of(r->head, p->name);
	char made[16];

	if (value.n_bytes == 0 && !p->has_ttl)
		return 0;
	if (value.n_bytes == 0) {
		value = made_value(r, made);
		if (!out->set_cookies)
			out->set_cookies = foil_arena_alloc(w, a, n_policies * sizeof(out->set_cookies[0]));
		if (!out->set_cookies || make_cookie(w, a, p, value, &out->set_cookies[out->n_set_cookies]) != 0)
			return -ENOBUFS;
		out->n_set_cookies++;
	}
	*hash = hash_of(value, 0);
	return 1;
}

/* ---- the others ---- */
uint64_t mesh_hash_of_address(const struct stream_addr *client)
{
	char text[ADDR_TEXT_BYTES];

	return hash_of(mesh_addr_text(client, false, text), 0);
}

static bool hash_query(const struct mesh_hash_policy *p, const struct http_head *head, uint64_t *hash)
{
	struct foil_slice value;

	if (!mesh_query_value(mesh_path_query(head->path), p->name, &value))
		return false;
	*hash = hash_of(value, 0);
	return true;
}

static int hash_by(struct foil_worker *w, struct foil_arena *a, const struct mesh_hash_policy *p, uint16_t n_policies, const struct mesh_hash_request *r,
		   struct mesh_hash *out, uint64_t *hash)
{
	switch (p->kind) {
	case MESH_HASH_HEADER: return hash_header(p, r->head, hash);
	case MESH_HASH_COOKIE: return hash_cookie(w, a, p, n_policies, r, out, hash);
	case MESH_HASH_SOURCE_IP: *hash = mesh_hash_of_address(r->client); return 1;
	case MESH_HASH_QUERY: return hash_query(p, r->head, hash);
	}
	FOIL_UNREACHABLE();
}

int mesh_hash_of_request(struct foil_worker *w, struct foil_arena *a, const struct mesh_hash_policy *policies, uint16_t n_policies,
			 const struct mesh_hash_request *r, struct mesh_hash *out)
{
	uint64_t hash = 0;

	*out = (struct mesh_hash){0};
	for (uint16_t i = 0; i < n_policies; i++) {
		int rc = hash_by(w, a, &policies[i], n_policies, r, out, &hash);
		if (rc < 0)
			return rc;
		if (rc > 0) {
			out->hash = (out->is_there ? out->hash << 1 | out->hash >> 63 : 0) ^ hash;
			out->is_there = true;
		}
		if (policies[i].terminal && out->is_there)
			break;
	}
	return 0;
}
