/* The location of a redirect (features.md VS-29, VS-30): scheme://host[:port]path, as Envoy's newUri builds it.
 *
 * - scheme: the route's, or the request's; host: the route's, or the request's authority;
 * - a port of the route's own goes in, but :80 on http and :443 on https are never written; the request's port goes away when the route has
 *   one, or when the scheme changes and it was the default of the request's;
 * - path: the route's (the request's query follows unless it has one of its own), or the request's with its matched prefix swapped. */
#include <errno.h>

#include "dataplane/mesh/match_priv.h"
#include "dataplane/mesh/rewrite_priv.h"

static uint16_t default_port(struct foil_slice scheme)
{
	return foil_slice_eq_nocase(scheme, FOIL_SLICE("https")) ? 443 : 80;
}

/* Where the port (":80") of an authority begins; n_bytes when there is none. */
static uint32_t port_start(struct foil_slice authority)
{
	for (uint32_t i = authority.n_bytes; i > 0; i--) {
		if (authority.data[i - 1] == ']')
			break;
		if (authority.data[i - 1] == ':')
			return i - 1;
	}
	return authority.n_bytes;
}

static bool is_default_port(struct foil_slice port, struct foil_slice scheme)
{
	return foil_slice_eq(port, default_port(scheme) == 443 ? FOIL_SLICE(":443") : FOIL_SLICE(":80"));
}

struct place {
	struct foil_slice host, port; /* port with its colon, or empty */
};

/* The request's own authority: its port stays unless the route brings one, or the scheme changes and it was the old one's default. */
static struct place of_request(struct foil_slice authority, bool has_port, struct foil_slice scheme, struct foil_slice request_scheme)
{
	uint32_t at = port_start(authority);
	struct place p = {.host = foil_slice_of(authority.data, at), .port = foil_slice_of(authority.data + at, authority.n_bytes - at)};

	if (has_port || (!foil_slice_eq_nocase(scheme, request_scheme) && is_default_port(p.port, request_scheme)))
		p.port = FOIL_SLICE("");
	return p;
}

/* derivePort FROM_REQUEST_PORT: the port that the request names, or its scheme's default. */
static uint16_t request_port(struct foil_slice authority, struct foil_slice request_scheme)
{
	uint32_t port = 0;

	for (uint32_t i = port_start(authority) + 1; i < authority.n_bytes; i++) {
		char c = authority.data[i];
		if (c < '0' || c > '9' || port > UINT16_MAX)
			return default_port(request_scheme);
		port = port * 10 + (uint32_t)(c - '0');
	}
	return port && port <= UINT16_MAX ? (uint16_t)port : default_port(request_scheme);
}

static int redirect_path(struct foil_worker *w, struct foil_arena *a, const struct mesh_route *route, struct foil_slice path, struct foil_slice *out)
{
	const struct mesh_redirect *r = &route->redirect;
	struct foil_slice only = mesh_path_only(path);
	uint32_t n_query = path.n_bytes - only.n_bytes;

	*out = path;
	if (r->has_prefix_rewrite)
		return mesh_rewrite_prefix(w, a, &route->match, r->prefix_rewrite, path, out);
	if (!r->has_path)
		return 0;
	*out = r->path;
	if (n_query == 0 || (r->path.n_bytes && memchr(r->path.data, '?', r->path.n_bytes)))
		return 0;
	char *data = foil_arena_alloc(w, a, (size_t)r->path.n_bytes + n_query);
	if (!data)
		return -ENOBUFS;
	if (r->path.n_bytes)
		memcpy(data, r->path.data, r->path.n_bytes);
	memcpy(data + r->path.n_bytes, path.data + only.n_bytes, n_query);
	*out = foil_slice_of(data, r->path.n_bytes + n_query);
	return 0;
}

static char *append(char *at, struct foil_slice s)
{
	if (s.n_bytes)
		memcpy(at, s.data, s.n_bytes);
	return at + s.n_bytes;
}

static int join(struct foil_worker *w, struct foil_arena *a, struct foil_slice scheme, struct place p, struct foil_slice path, struct foil_slice *out)
{
	struct foil_slice slash = path.n_bytes == 0 || path.data[0] != '/' ? FOIL_SLICE("/") : FOIL_SLICE("");
	size_t n = (size_t)scheme.n_bytes + 3 + p.host.n_bytes + p.port.n_bytes + slash.n_bytes + path.n_bytes;
	char *data = foil_arena_alloc(w, a, n);

	if (!data)
		return -ENOBUFS;
	char *at = append(append(append(append(data, scheme), FOIL_SLICE("://")), p.host), p.port);
	at = append(append(at, slash), path);
	*out = foil_slice_of(data, (size_t)(at - data));
	return 0;
}

/* ":8443" into text[6]. */
static struct foil_slice port_text(uint16_t port, char text[6])
{
	char digits[5];
	uint32_t n = 0, at = 0;

	do
		digits[n++] = (char)('0' + port % 10);
	while ((port = (uint16_t)(port / 10)) != 0);
	text[at++] = ':';
	while (n > 0)
		text[at++] = digits[--n];
	return foil_slice_of(text, at);
}

int mesh_redirect_location(struct foil_worker *w, struct foil_arena *a, const struct mesh_route *route, const struct http_head *head,
			   struct foil_slice request_scheme, struct foil_slice *out)
{
	const struct mesh_redirect *r = &route->redirect;
	struct foil_slice scheme = r->scheme.n_bytes ? r->scheme : request_scheme, path;
	uint16_t port = r->port_from_request ? request_port(head->authority, request_scheme) : r->port;
	struct place p = r->host.n_bytes ? (struct place){.host = r->host} : of_request(head->authority, port != 0, scheme, request_scheme);
	char text[6];

	if (port != 0 && port != default_port(scheme))
		p.port = port_text(port, text);
	int rc = redirect_path(w, a, route, head->path, &path);
	return rc ? rc : join(w, a, scheme, p, path, out);
}
