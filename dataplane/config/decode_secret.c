/* Secret: PEM that TLS contexts are made of, checked here so that what cannot be used is refused by its own name. The key's bytes are wiped from the
 * unpacked message at once, from the resource when it goes. */
#include <errno.h>

#include <openssl/crypto.h>

#include "dataplane/config/config_priv.h"
#include "dataplane/core/error.h"

static int copy(struct snap_dec *d, const ProtobufCBinaryData *from, struct foil_slice *out)
{
	if (!from->len)
		return 0;
	*out = foil_blob_copy(d->b, from->data, from->len);
	return out->data ? 0 : snap_no_memory(d);
}

static int check_identity(struct snap_dec *d, const struct mesh_secret *s)
{
	struct foil_error err = {0};

	if (!s->certificate_chain.n_bytes != !s->private_key.n_bytes)
		return snap_fail(d, s->private_key.n_bytes ? "certificate_chain" : "private_key", "is missing");
	if (!s->private_key.n_bytes)
		return 0;
	struct tls_identity id = {.name = s->res.name, .chain = s->certificate_chain, .key = s->private_key,
				  .ocsp_staple = s->ocsp_staple};
	return tls_identity_check(&id, &err) == 0 ? 0 : snap_fail(d, "private_key", "%.300s", err.text);
}

static int check_bundle(struct snap_dec *d, const struct mesh_secret *s)
{
	struct foil_error err = {0};

	if (s->crl.n_bytes && !s->ca.n_bytes)
		return snap_fail(d, "crl", "is there without ca");
	if (!s->ca.n_bytes)
		return 0;
	return tls_bundle_check(s->res.name, s->ca, s->crl, &err) == 0 ? 0 : snap_fail(d, "ca", "%.300s", err.text);
}

int snap_decode_secret(struct snap_dec *d, const ProtobufCMessage *message, void *own)
{
	const Foil__Conf__Secret *m = (const Foil__Conf__Secret *)message;
	struct mesh_secret *s = own;
	struct foil_slice name;
	int rc = snap_own_name(d, "name", m->name);

	if (rc == 0)
		rc = snap_secret_ref(d, "name", m->name, &name, &s->slot);
	if (rc == 0)
		rc = copy(d, &m->certificate_chain, &s->certificate_chain);
	if (rc == 0)
		rc = copy(d, &m->private_key, &s->private_key);
	if (rc == 0)
		rc = copy(d, &m->ca, &s->ca);
	if (rc == 0)
		rc = copy(d, &m->crl, &s->crl);
	if (rc == 0)
		rc = copy(d, &m->ocsp_staple, &s->ocsp_staple);
	if (m->private_key.len)
		OPENSSL_cleanse(m->private_key.data, m->private_key.len);
	if (rc == 0)
		rc = check_identity(d, s);
	if (rc == 0)
		rc = check_bundle(d, s);
	return rc ? rc : snap_source(d, m->source, &s->source);
}

void snap_secret_wipe(struct mesh_secret *s, struct foil_slice body)
{
	if (s->private_key.n_bytes)
		OPENSSL_cleanse((void *)(uintptr_t)s->private_key.data, s->private_key.n_bytes);
	if (body.n_bytes)
		OPENSSL_cleanse((void *)(uintptr_t)body.data, body.n_bytes);
}
