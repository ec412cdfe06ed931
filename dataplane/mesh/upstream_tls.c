/* TLS towards upstreams (features.md DR-43..DR-50): to which endpoints, which context, which server name, and which names the server must have.
 * The stream that comes out is used as the transport's own would be. A cluster whose secret is missing connects nowhere: never in plaintext instead. */
#include "dataplane/mesh/runtime.h"

#include <errno.h>

#include "dataplane/core/siphash.h"
#include "dataplane/mesh/addr_priv.h"

/* The host of an authority: without port and brackets. */
struct foil_slice mesh_authority_host(struct foil_slice authority)
{
	const char *colon = authority.n_bytes ? memrchr(authority.data, ':', authority.n_bytes) : NULL;
	const char *end = authority.n_bytes && authority.data[0] == '[' ? memchr(authority.data, ']', authority.n_bytes) : NULL;

	if (end)
		return foil_slice_of(authority.data + 1, (size_t)(end - authority.data) - 1);
	return colon ? foil_slice_of(authority.data, (size_t)(colon - authority.data)) : authority;
}

uint16_t mesh_authority_port(const struct mesh_cluster *c, struct foil_slice authority, bool is_marked)
{
	struct foil_slice host = mesh_authority_host(authority);
	const char *at = host.data + host.n_bytes, *end = authority.data + authority.n_bytes;
	uint32_t port = 0;

	if (at < end && *at == ']')
		at++;
	if (at == end)
		return mesh_upstream_is_tls(c, is_marked) ? 443 : 80;
	for (at++; at < end; at++) {
		if (*at < '0' || *at > '9' || port > UINT16_MAX)
			return 0;
		port = port * 10u + (uint32_t)(*at - '0');
	}
	return port > UINT16_MAX ? 0 : (uint16_t)port;
}

struct foil_slice mesh_upstream_name(const struct mesh_cluster *c, struct foil_slice authority)
{
	struct foil_slice host = {NULL, 0};

	if (FOIL_UNLIKELY(c->is_dynamic)) {
		host = mesh_authority_host(authority);
		host.n_bytes -= host.n_bytes && host.data[host.n_bytes - 1] == '.'; /* RFC 6066 3 */
		return host.n_bytes < MESH_SNI_BYTES ? host : (struct foil_slice){NULL, 0};
	}
	if (FOIL_LIKELY(!c->tls) || c->tls->sni.n_bytes || (!c->tls->auto_sni && !c->tls->auto_san))
		return host;
	host = mesh_authority_host(authority);
	return host.n_bytes < MESH_SNI_BYTES ? host : (struct foil_slice){NULL, 0};
}

uint64_t mesh_upstream_tls_key(const struct foil_worker *w, const struct mesh_cluster *c, bool is_marked)
{
	if (!mesh_upstream_is_tls(c, is_marked))
		return 0;
	return (foil_siphash(&w->secret, c->tls->sni.data, c->tls->sni.n_bytes) ^ c->tls->rules.slot) | 1u;
}

int mesh_upstream_tls_open(struct foil_worker *w, const struct mesh_config *cfg, const struct mesh_cluster *c, const struct mesh_upstream_tls_params *p,
			   struct stream **s)
{
	const struct mesh_upstream_tls *t = c->tls;
	struct tls_client_params cp = {.user = p->user, .user_data = p->user_data, .sni = t->sni};
	uint8_t ip[16];

	cp.context = mesh_tls_context(cfg, &t->rules);
	if (!cp.context)
		return -ENOKEY;
	if (p->name.n_bytes) {
		if (t->auto_sni && !mesh_addr_parse(p->name, ip)) /* RFC 6066 3: no addresses */
			cp.sni = p->name;
		cp.sans = &p->name;
		cp.n_sans = t->auto_san;
	}
	return tls_client_open(w, *s, &cp, s);
}

struct foil_slice mesh_source_principal(const struct mesh_config *cfg, const struct mesh_cluster *c, const struct mesh_endpoint *e,
					const struct tls_facts *down, bool is_gateway)
{
	const struct tls_context *own = NULL;

	if (!is_gateway && down)
		return down->peer && down->peer->n_uri_sans ? down->peer->uri_sans[0] : (struct foil_slice){NULL, 0};
	if (c && e && mesh_upstream_is_tls(c, e->tls))
		own = mesh_tls_context(cfg, &c->tls->rules);
	return own ? tls_context_uri_san(own) : (struct foil_slice){NULL, 0};
}

bool mesh_upstream_tls_is_ready(const struct mesh_config *cfg, const struct mesh_cluster *c, bool is_marked)
{
	return !mesh_upstream_is_tls(c, is_marked) || mesh_tls_context(cfg, &c->tls->rules);
}
