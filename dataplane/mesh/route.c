/* Which virtual host and which route a request belongs to (features.md VS-1, VS-2, VS-6..VS-13).
 *
 * The host is authority without port, without regard to case. A trailing dot is part of it: a table that means both lists both (VS-3), and a
 * policy written for "a.b" cannot be passed by asking for "a.b.". Order: exact, longest suffix wildcard, longest prefix wildcard, "*".
 * Cost: one pass over the host, one over the path, a probe for each key length that occurs; then only routes whose text matches (of many, only those
 * that want a header's value which the request has), the regular expressions that need a text which the path has, and
 * the routes that no text finds. Nothing is allocated (but see match.c). */
#include "dataplane/mesh/match_priv.h"
#include "dataplane/mesh/route_priv.h"

#define FOUND_MAX 32u /* a path with keys of more buckets was made to have them: all expressions are tried in turn */

/* ---- virtual host ---- */
static struct foil_slice without_port(struct foil_slice host)
{
	const char *colon = host.n_bytes ? memrchr(host.data, ':', host.n_bytes) : NULL;

	if (!colon || memchr(colon, ']', host.n_bytes - (size_t)(colon - host.data))) /* an IPv6 address ends behind: its colons are no port's */
		return host;
	return foil_slice_of(host.data, (size_t)(colon - host.data));
}

static const struct domain *domain_find(const struct mesh_route_index *x, enum domain_kind kind, uint64_t hash, struct foil_slice text)
{
	for (uint32_t slot = route_hash_slot(hash, x->mask); x->slots[slot]; slot = (slot + 1) & x->mask) {
		const struct domain *d = &x->domains[x->slots[slot] - 1];
		if (d->hash == hash && d->kind == kind && foil_slice_eq_nocase(d->text, text))
			return d;
	}
	return NULL;
}

static const struct domain *longest_suffix(const struct mesh_route_index *x, struct foil_slice host)
{
	const struct domain *best = NULL;
	uint64_t hash = ROUTE_HASH_SEED;

	for (uint32_t n = 1; n < host.n_bytes && n <= x->suffixes.max; n++) { /* a star stands for one byte at least */
		hash = route_hash_step(hash, host.data[host.n_bytes - n]);
		if (!route_lengths_has(&x->suffixes, n))
			continue;
		const struct domain *d = domain_find(x, DOMAIN_SUFFIX, hash, foil_slice_of(host.data + (host.n_bytes - n), n));
		best = d ? d : best;
	}
	return best;
}

static const struct domain *exact_or_prefix(const struct mesh_route_index *x, struct foil_slice host, bool *is_exact)
{
	const struct domain *best = NULL;
	uint64_t hash = ROUTE_HASH_SEED;

	*is_exact = false;
	if (host.n_bytes && host.n_bytes <= x->exact_max)
		best = domain_find(x, DOMAIN_EXACT, route_hash_whole(host), host);
	if (best) {
		*is_exact = true;
		return best;
	}
	for (uint32_t n = 1; n < host.n_bytes && n <= x->prefixes.max; n++) { /* a star stands for one byte at least */
		hash = route_hash_step(hash, host.data[n - 1]);
		if (!route_lengths_has(&x->prefixes, n))
			continue;
		const struct domain *d = domain_find(x, DOMAIN_PREFIX, hash, foil_slice_of(host.data, n));
		best = d ? d : best;
	}
	return best;
}

static uint32_t vhost_find(const struct mesh_route_index *x, struct foil_slice authority)
{
	struct foil_slice host = without_port(authority);
	bool is_exact;
	const struct domain *forward = exact_or_prefix(x, host, &is_exact);
	const struct domain *suffix = is_exact ? NULL : longest_suffix(x, host);

	if (suffix)
		return suffix->vhost;
	return forward ? forward->vhost : x->any_vhost;
}

/* ---- route ---- */
struct look {
	struct foil_worker *w;
	const struct mesh_vhost *vhost;
	const struct http_head *head;
	struct foil_slice path, query;
	uint32_t best; /* number of the first route known to match; n_routes: none yet */
};

static bool path_matches(struct foil_worker *w, const struct mesh_route_match *m, struct foil_slice path)
{
	uint32_t n = m->path.n_bytes;

	if (m->path_kind == MESH_PATH_REGEX) {
		FOIL_ASSERT(w->id < m->path_regex->n_workers);
		return foil_regex_full_match(m->path_regex->by_worker[w->id], path);
	}
	if (path.n_bytes < n || (m->path_kind == MESH_PATH_EXACT && path.n_bytes != n))
		return false;
	struct foil_slice start = foil_slice_of(path.data, n);
	if (!(m->ignore_case ? foil_slice_eq_nocase(start, m->path) : foil_slice_eq(start, m->path)))
		return false;
	return m->path_kind != MESH_PATH_SEGMENT_PREFIX || path.n_bytes == n || path.data[n] == '/';
}

static bool route_matches(const struct look *l, uint32_t number)
{
	const struct mesh_route_match *m = &l->vhost->routes[number].match;

	if (!path_matches(l->w, m, l->path))
		return false;
	for (uint16_t i = 0; i < m->n_headers; i++)
		if (!mesh_header_match(l->w, &m->headers[i], l->head))
			return false;
	for (uint16_t i = 0; i < m->n_query; i++)
		if (!mesh_query_match(l->w, &m->query[i], l->query))
			return false;
	return true;
}

/* The first of numbers[0..n), which grow, that matches and comes before the best so far. */
static void try_routes(struct look *l, const uint32_t *numbers, uint32_t n)
{
	for (uint32_t i = 0; i < n && numbers[i] < l->best; i++) {
		if (route_matches(l, numbers[i])) {
			l->best = numbers[i];
			return;
		}
	}
}

static bool is_of(const struct http_header *h, const struct mesh_header_match *name)
{
	return h->id == name->id && !h->is_removed && (h->id != HTTP_HDR_OTHER || foil_slice_eq(h->name, name->name));
}

static void try_bucket(struct look *l, const struct route_headers *x, uint64_t hash)
{
	for (uint32_t slot = route_hash_slot(hash, x->mask); x->slots[slot]; slot = (slot + 1) & x->mask) {
		const struct header_bucket *k = &x->buckets[x->slots[slot] - 1];
		if (k->hash == hash) {
			try_routes(l, x->members + k->first, k->n);
			return;
		}
	}
}

/* Of several lines of a header each counts (match.c): each value has its bucket. */
static void try_headers(struct look *l, const struct route_headers *x)
{
	const struct http_headers *headers = &l->head->headers;

	for (;; x = x->next) {
		for (uint16_t i = 0; i < headers->n; i++)
			if (is_of(&headers->list[i], x->match))
				try_bucket(l, x, route_hash_whole(headers->list[i].value));
		if (!x->next)
			break;
	}
	try_routes(l, x->others, x->n_others);
}

static void try_list(struct look *l, const struct route_headers *headers, const uint32_t *numbers, uint32_t n)
{
	if (headers)
		try_headers(l, headers);
	else
		try_routes(l, numbers, n);
}

static void try_groups(struct look *l, const struct vhost_index *vx, uint64_t hash, uint32_t n_bytes, bool is_exact)
{
	for (uint32_t slot = route_hash_slot(hash, vx->mask); vx->slots[slot]; slot = (slot + 1) & vx->mask) {
		const struct route_group *g = &vx->groups[vx->slots[slot] - 1];
		if (g->hash != hash || g->n_bytes != n_bytes || g->is_exact != is_exact)
			continue;
		try_list(l, g->headers, vx->members + g->first, g->n);
	}
}

static void try_indexed(struct look *l, const struct vhost_index *vx)
{
	uint64_t hash = ROUTE_HASH_SEED;
	uint32_t n_max = FOIL_MIN(l->path.n_bytes, FOIL_MAX(vx->exact_max, vx->prefixes.max));

	for (uint32_t n = 0;; n++) {
		if (route_lengths_has(&vx->prefixes, n))
			try_groups(l, vx, hash, n, false);
		if (n == n_max)
			break;
		hash = route_hash_step(hash, l->path.data[n]);
	}
	if (n_max == l->path.n_bytes)
		try_groups(l, vx, hash, n_max, true);
}

/* Buckets of keys that the path has, each once. */
struct found_buckets {
	uint32_t list[FOUND_MAX];
	uint32_t n;
};

/* False: there are too many. */
static bool note_bucket(struct found_buckets *f, const struct route_literals *x, uint64_t hash)
{
	for (uint32_t slot = route_hash_slot(hash, x->mask); x->slots[slot]; slot = (slot + 1) & x->mask) {
		uint32_t number = x->slots[slot] - 1;
		if (x->buckets[number].hash != hash)
			continue;
		for (uint32_t i = 0; i < f->n; i++)
			if (f->list[i] == number)
				return true;
		if (f->n == FOUND_MAX)
			return false;
		f->list[f->n++] = number;
		return true;
	}
	return true;
}

static bool note_windows(struct found_buckets *f, const struct route_literals *x, struct foil_slice path, bool is_long)
{
	uint32_t n_bytes = is_long ? ROUTE_WINDOW_LONG : ROUTE_WINDOW_SHORT;

	for (uint32_t at = 0; at + n_bytes <= path.n_bytes; at++) {
		uint64_t hash = route_window_hash(path.data + at, is_long);
		uint32_t bit = route_window_bit(hash, x->bits_mask);
		if (FOIL_UNLIKELY(x->bits[bit / 64] >> bit % 64 & 1) && !note_bucket(f, x, hash))
			return false;
	}
	return true;
}

static void try_literals(struct look *l, const struct vhost_index *vx)
{
	const struct route_literals *x = vx->literals;
	struct found_buckets f;

	f.n = 0;
	if ((x->has_long && !note_windows(&f, x, l->path, true)) || (x->has_short && !note_windows(&f, x, l->path, false))) {
		try_routes(l, vx->regexes, vx->n_regexes);
		return;
	}
	for (uint32_t i = 0; i < f.n; i++) {
		const struct literal_bucket *k = &x->buckets[f.list[i]];
		try_list(l, k->headers, x->members + k->first, k->n);
	}
}

void mesh_route_find(struct foil_worker *w, const struct mesh_routes *routes, const struct http_head *head, struct mesh_route_result *out)
{
	uint32_t vhost = vhost_find(routes->index, head->authority);

	*out = (struct mesh_route_result){NULL, NULL};
	if (vhost == ROUTE_NO_VHOST)
		return;
	const struct vhost_index *vx = &routes->index->vhosts[vhost];
	struct look l = {.w = w, .vhost = &routes->vhosts[vhost], .head = head, .best = routes->vhosts[vhost].n_routes};
	l.path = mesh_path_split(head->path, &l.query);
	if (vx->slots)
		try_indexed(&l, vx);
	if (vx->literals)
		try_literals(&l, vx);
	try_list(&l, vx->rest_headers, vx->rest, vx->n_rest);
	out->vhost = l.vhost;
	if (l.best < l.vhost->n_routes)
		out->route = &l.vhost->routes[l.best];
}
