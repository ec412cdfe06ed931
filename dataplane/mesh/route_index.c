/* The look-up tables of a route table (route_priv.h): set-up, housekeeping thread, all memory from the table's blob.
 *
 * A virtual host with few routes needs no index; with many, routes of plain exact and prefix paths are grouped by their text, and what no
 * text can find stays a list, but for regular expressions, which have an index of their own (route_literals.c). First-match order is kept by the
 * routes' numbers: route.c takes the smallest that matches.
 * Domains: exact, "*suffix", "prefix*" and "*" (features.md VS-2); one domain twice in a table is refused, as Envoy does. */
#include <errno.h>

#include "dataplane/core/error.h"
#include "dataplane/mesh/route_priv.h"

#define INDEX_ROUTES_MIN 9u /* fewer are faster to try in turn */

static uint64_t hash_backward(struct foil_slice text)
{
	uint64_t hash = ROUTE_HASH_SEED;

	for (uint32_t i = text.n_bytes; i > 0; i--)
		hash = route_hash_step(hash, text.data[i - 1]);
	return hash;
}

static uint32_t slots_for(uint32_t n)
{
	uint32_t slots = 16;

	while (slots < 2 * n && slots < 1u << 30)
		slots *= 2;
	return slots;
}

/* Room for lengths up to max; all bits 0. */
static int lengths_init(struct foil_blob *b, struct route_lengths *l, uint32_t max)
{
	l->bits = foil_blob_array(b, max / 64 + 1, sizeof(uint64_t));
	l->max = max;
	return l->bits ? 0 : -ENOMEM;
}

static void lengths_add(struct route_lengths *l, uint32_t n)
{
	l->bits[n / 64] |= (uint64_t)1 << n % 64;
}

/* ---- routes ---- */
static bool has_text(const struct mesh_route *r)
{
	return r->match.path_kind != MESH_PATH_REGEX;
}

static bool is_exact(const struct mesh_route *r)
{
	return r->match.path_kind == MESH_PATH_EXACT;
}

/* The group of a route; *n_groups grows when it is the first of its text. group_of[first member] names the text. */
static uint32_t group_find(struct vhost_index *vx, const struct mesh_vhost *v, uint32_t route, uint32_t *n_groups)
{
	const struct mesh_route *r = &v->routes[route];
	uint64_t hash = route_hash(r->match.path);
	uint32_t slot = route_hash_slot(hash, vx->mask);

	for (; vx->slots[slot]; slot = (slot + 1) & vx->mask) {
		struct route_group *g = &vx->groups[vx->slots[slot] - 1];
		const struct mesh_route *one = &v->routes[g->first];
		if (g->hash == hash && g->is_exact == is_exact(r) && foil_slice_eq_nocase(one->match.path, r->match.path))
			return vx->slots[slot] - 1;
	}
	vx->groups[*n_groups] = (struct route_group){.hash = hash, .n_bytes = r->match.path.n_bytes, .is_exact = is_exact(r), .first = route};
	vx->slots[slot] = ++*n_groups;
	return *n_groups - 1;
}

/* First pass: groups with their sizes; group->first is the route that opened it. Second pass: their members, in order. */
static void group_routes(struct vhost_index *vx, const struct mesh_vhost *v, uint32_t *group_of)
{
	uint32_t n_groups = 0, at = 0;

	for (uint32_t i = 0; i < v->n_routes; i++) {
		if (!has_text(&v->routes[i])) {
			vx->rest[vx->n_rest++] = i;
			continue;
		}
		group_of[i] = group_find(vx, v, i, &n_groups);
		vx->groups[group_of[i]].n++;
	}
	vx->n_groups = n_groups;
	for (uint32_t g = 0; g < n_groups; g++) {
		vx->groups[g].first = at;
		at += vx->groups[g].n;
		vx->groups[g].n = 0;
	}
	for (uint32_t i = 0; i < v->n_routes; i++) {
		if (!has_text(&v->routes[i]))
			continue;
		struct route_group *g = &vx->groups[group_of[i]];
		vx->members[g->first + g->n++] = i;
	}
}

static uint32_t longest(const struct mesh_vhost *v, bool exact)
{
	uint32_t max = 0;

	for (uint32_t i = 0; i < v->n_routes; i++)
		if (has_text(&v->routes[i]) && is_exact(&v->routes[i]) == exact)
			max = FOIL_MAX(max, v->routes[i].match.path.n_bytes);
	return max;
}

static int vhost_index_small(struct foil_blob *b, struct vhost_index *vx, const struct mesh_vhost *v)
{
	vx->rest = foil_blob_array(b, v->n_routes, sizeof(uint32_t));
	if (!vx->rest)
		return -ENOMEM;
	for (uint32_t i = 0; i < v->n_routes; i++)
		vx->rest[vx->n_rest++] = i;
	return 0;
}

/* What is left when regular expressions that a text tells are taken out goes by headers, if by anything. */
static int index_rest(struct foil_blob *b, struct vhost_index *vx, const struct mesh_vhost *v)
{
	uint32_t n_before = vx->n_rest;

	vx->regexes = foil_blob_array(b, n_before, sizeof(uint32_t));
	if (!vx->regexes)
		return -ENOMEM;
	memcpy(vx->regexes, vx->rest, n_before * sizeof(vx->rest[0]));
	if (route_literals_build(b, v, vx->rest, &vx->n_rest, &vx->literals) != 0)
		return -ENOMEM;
	vx->n_regexes = vx->literals ? n_before : 0;
	return route_headers_build(b, v, vx->rest, vx->n_rest, &vx->rest_headers);
}

static int vhost_index_build(struct foil_blob *b, struct vhost_index *vx, const struct mesh_vhost *v)
{
	if (v->n_routes < INDEX_ROUTES_MIN)
		return vhost_index_small(b, vx, v);
	uint32_t n_slots = slots_for(v->n_routes);
	uint32_t *group_of = foil_blob_array(b, v->n_routes, sizeof(uint32_t)); /* only now; the blob keeps it */
	vx->slots = foil_blob_array(b, n_slots, sizeof(uint32_t));
	vx->mask = n_slots - 1;
	vx->groups = foil_blob_array(b, v->n_routes, sizeof(struct route_group));
	vx->members = foil_blob_array(b, v->n_routes, sizeof(uint32_t));
	vx->rest = foil_blob_array(b, v->n_routes, sizeof(uint32_t));
	vx->exact_max = longest(v, true);
	if (!group_of || !vx->slots || !vx->groups || !vx->members || !vx->rest || lengths_init(b, &vx->prefixes, longest(v, false)) != 0)
		return -ENOMEM;
	group_routes(vx, v, group_of);
	for (uint32_t i = 0; i < v->n_routes; i++)
		if (has_text(&v->routes[i]) && !is_exact(&v->routes[i]))
			lengths_add(&vx->prefixes, v->routes[i].match.path.n_bytes);
	for (uint32_t g = 0; g < vx->n_groups; g++)
		if (route_headers_build(b, v, vx->members + vx->groups[g].first, vx->groups[g].n, &vx->groups[g].headers) != 0)
			return -ENOMEM;
	return index_rest(b, vx, v);
}

/* ---- domains ---- */
static int domain_parse(struct foil_slice text, struct domain *d, bool *is_any)
{
	bool head = text.n_bytes && text.data[0] == '*', tail = text.n_bytes > 1 && text.data[text.n_bytes - 1] == '*';

	*is_any = head && text.n_bytes == 1;
	d->kind = head ? DOMAIN_SUFFIX : tail ? DOMAIN_PREFIX : DOMAIN_EXACT;
	d->text = foil_slice_of(text.data + head, text.n_bytes - head - (tail && !head));
	d->hash = d->kind == DOMAIN_SUFFIX ? hash_backward(d->text) : d->kind == DOMAIN_PREFIX ? route_hash(d->text) : route_hash_whole(d->text);
	if (text.n_bytes == 0 || (!*is_any && d->text.n_bytes == 0) || (d->text.n_bytes && memchr(d->text.data, '*', d->text.n_bytes)))
		return -EINVAL;
	return 0;
}

static int refuse_twice(const struct mesh_routes *r, struct foil_slice domain, uint32_t one, uint32_t other, struct foil_error *err)
{
	struct foil_slice a = r->vhosts[one].name, b = r->vhosts[other].name;

	return foil_error_set(err, -EINVAL, "domain '%.*s' stands twice in route table %.*s: in virtual host '%.*s' and in '%.*s'",
		(int)FOIL_MIN(domain.n_bytes, 100u),
			      domain.data, (int)FOIL_MIN(r->res.name.n_bytes, 60u), r->res.name.data, (int)FOIL_MIN(a.n_bytes, 100u), a.data,
			      (int)FOIL_MIN(b.n_bytes, 100u), b.data);
}

static int domain_add(struct mesh_routes *r, struct mesh_route_index *x, uint32_t vhost, struct foil_slice text, struct foil_error *err)
{
	struct domain *d = &x->domains[x->n_domains];
	bool is_any;

	if (domain_parse(text, d, &is_any) != 0)
		return foil_error_set(err, -EINVAL, "domain '%.*s' of virtual host '%.*s' is none: a name, '*', '*.suffix' or 'prefix.*'",
			(int)FOIL_MIN(text.n_bytes, 200u),
				      text.data ? text.data : "", (int)FOIL_MIN(r->vhosts[vhost].name.n_bytes, 100u), r->vhosts[vhost].name.data);
	if (is_any) {
		if (x->any_vhost != ROUTE_NO_VHOST)
			return refuse_twice(r, text, x->any_vhost, vhost, err);
		x->any_vhost = vhost;
		return 0;
	}
	uint32_t slot = route_hash_slot(d->hash, x->mask);
	for (; x->slots[slot]; slot = (slot + 1) & x->mask) {
		const struct domain *other = &x->domains[x->slots[slot] - 1];
		if (other->kind == d->kind && foil_slice_eq_nocase(other->text, d->text))
			return refuse_twice(r, text, other->vhost, vhost, err);
	}
	d->vhost = vhost;
	x->slots[slot] = ++x->n_domains;
	return 0;
}

static void domain_lengths(struct mesh_route_index *x)
{
	for (uint32_t i = 0; i < x->n_domains; i++) {
		const struct domain *d = &x->domains[i];
		if (d->kind == DOMAIN_EXACT)
			x->exact_max = FOIL_MAX(x->exact_max, d->text.n_bytes);
		else
			lengths_add(d->kind == DOMAIN_SUFFIX ? &x->suffixes : &x->prefixes, d->text.n_bytes);
	}
}

static uint32_t longest_domain(const struct mesh_route_index *x, enum domain_kind kind)
{
	uint32_t max = 0;

	for (uint32_t i = 0; i < x->n_domains; i++)
		if (x->domains[i].kind == kind)
			max = FOIL_MAX(max, x->domains[i].text.n_bytes);
	return max;
}

static int no_memory(const struct mesh_routes *r, struct foil_error *err)
{
	return foil_error_set(err, -ENOMEM, "no memory left for the look-up tables of route table %.*s: the resource is larger than its budget",
			      (int)FOIL_MIN(r->res.name.n_bytes, 100u), r->res.name.data);
}

static int index_domains(struct mesh_routes *r, struct mesh_route_index *x, struct foil_error *err)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < r->n_vhosts; i++)
		n += r->vhosts[i].n_domains;
	if (n > UINT32_MAX / 4)
		return no_memory(r, err);
	uint32_t n_slots = slots_for((uint32_t)n);
	x->slots = foil_blob_array(&r->res.blob, n_slots, sizeof(uint32_t));
	x->mask = n_slots - 1;
	x->domains = foil_blob_array(&r->res.blob, (size_t)n + 1, sizeof(struct domain));
	if (!x->slots || !x->domains)
		return no_memory(r, err);
	for (uint32_t i = 0; i < r->n_vhosts; i++) {
		for (uint16_t d = 0; d < r->vhosts[i].n_domains; d++) {
			int rc = domain_add(r, x, i, r->vhosts[i].domains[d], err);
			if (rc != 0)
				return rc;
		}
	}
	if (lengths_init(&r->res.blob, &x->suffixes, longest_domain(x, DOMAIN_SUFFIX)) != 0 ||
	    lengths_init(&r->res.blob, &x->prefixes, longest_domain(x, DOMAIN_PREFIX)) != 0)
		return no_memory(r, err);
	domain_lengths(x);
	return 0;
}

int mesh_routes_index(struct mesh_routes *r, struct foil_error *err)
{
	struct mesh_route_index *x = foil_blob_alloc(&r->res.blob, sizeof(*x));

	if (!x)
		return no_memory(r, err);
	x->any_vhost = ROUTE_NO_VHOST;
	x->vhosts = foil_blob_array(&r->res.blob, r->n_vhosts, sizeof(struct vhost_index));
	if (!x->vhosts)
		return no_memory(r, err);
	int rc = index_domains(r, x, err);
	if (rc != 0)
		return rc;
	for (uint32_t i = 0; i < r->n_vhosts; i++)
		if (vhost_index_build(&r->res.blob, &x->vhosts[i], &r->vhosts[i]) != 0)
			return no_memory(r, err);
	r->index = x;
	return 0;
}
