/* TLS contexts of a snapshot: one for each set of rules whose secrets are all there. A context goes on from snapshot to snapshot as long as its rules and its
 * secrets are the same resources; otherwise it is built anew, and connections that began with the old one keep it.
 * Invariant: a set's mesh->tls[slot] is NULL or a reference that snap_tls_free gives back. */
#include <errno.h>

#include "dataplane/config/config_priv.h"
#include "dataplane/core/error.h"

static const struct mesh_secret *secret_at(const struct mesh_config *c, uint32_t slot)
{
	return slot < c->n_secret_slots ? c->secrets[slot] : NULL;
}

/* All secrets are there and hold what they are named for. */
static bool is_complete(const struct mesh_config *c, const struct mesh_tls_rules *r)
{
	for (uint16_t i = 0; i < r->n_secrets; i++) {
		const struct mesh_secret *s = secret_at(c, r->secret_slots[i]);
		if (!s || !s->private_key.n_bytes)
			return false;
	}
	const struct mesh_secret *ca = r->has_ca ? secret_at(c, r->ca_slot) : NULL;
	return !r->has_ca || (ca && ca->ca.n_bytes);
}

static struct tls_context *take_over(const struct mesh_config *old, const struct mesh_config *c, const struct mesh_tls_rules *r)
{
	bool same = old && r->slot < old->n_tls_slots && old->tls[r->slot];

	for (uint16_t i = 0; same && i < r->n_secrets; i++)
		same = secret_at(old, r->secret_slots[i]) == secret_at(c, r->secret_slots[i]);
	if (same && r->has_ca)
		same = secret_at(old, r->ca_slot) == secret_at(c, r->ca_slot);
	return same ? tls_context_get(old->tls[r->slot]) : NULL;
}

static int make(const struct snap *s, const struct mesh_config *c, const struct mesh_tls_rules *r, struct tls_context **out, struct foil_error *err)
{
	struct tls_identity ids[TLS_IDENTITIES_MAX];
	struct tls_context_params p = {
		.is_server = r->is_server, .identities = ids, .n_identities = r->n_secrets, .has_system_roots = true, .auth = r->auth,
		.skip_verify = r->skip_verify, .accept_untrusted = r->accept_untrusted, .min = r->min, .max = r->max, .ciphers = r->ciphers,
		.alpn = r->alpn, .sans = r->sans, .n_sans = r->n_sans,
		.cert_hashes = r->cert_hashes, .n_cert_hashes = r->n_cert_hashes, .spki_hashes = r->spki_hashes, .n_spki_hashes = r->n_spki_hashes,
		.tickets = s->p.tickets, .resume_salt = r->salt,
	};

	for (uint16_t i = 0; i < r->n_secrets; i++) {
		const struct mesh_secret *from = secret_at(c, r->secret_slots[i]);
		ids[i] = (struct tls_identity){.name = from->res.name, .chain = from->certificate_chain, .key = from->private_key,
					       .ocsp_staple = from->ocsp_staple};
	}
	if (r->has_ca) {
		const struct mesh_secret *ca = secret_at(c, r->ca_slot);
		p.ca_name = ca->res.name;
		p.ca = ca->ca;
		p.crl = ca->crl;
	}
	return tls_context_new(&p, out, err);
}

static bool build_one(struct snap *s, struct mesh_config *c, const struct mesh_tls_rules *r, const struct mesh_res *user, const char *field)
{
	struct foil_error err = {0};

	if (c->tls[r->slot] || !is_complete(c, r))
		return true;
	c->tls[r->slot] = take_over(s->running ? s->running->mesh : NULL, c, r);
	if (c->tls[r->slot] || make(s, c, r, &c->tls[r->slot], &err) == 0)
		return true;
	snap_reject(s, user->type, user->name, field, "%s", err.text);
	return false;
}

bool snap_tls_build(struct snap *s, struct snap_set *set)
{
	struct mesh_config *c = set->mesh;
	bool ok = true;

	for (uint32_t i = 0; i < c->n_listeners; i++)
		for (uint16_t k = 0; k < c->listeners[i]->n_chains; k++) {
			const struct mesh_chain *chain = &c->listeners[i]->chains[k];
			char field[48];
			(void)snprintf(field, sizeof(field), "filter_chains[%u].tls", k); /* fits: 16 bits */
			ok &= !chain->tls || build_one(s, c, &chain->tls->rules, &c->listeners[i]->res, field);
		}
	for (uint32_t i = 0; i < c->n_cluster_slots; i++)
		if (c->clusters[i] && c->clusters[i]->tls)
			ok &= build_one(s, c, &c->clusters[i]->tls->rules, &c->clusters[i]->res, "tls");
	return ok;
}

void snap_tls_free(struct snap_set *set)
{
	for (uint32_t i = 0; set->mesh && i < set->mesh->n_tls_slots; i++)
		tls_context_put(set->mesh->tls[i]);
}
