/* DownstreamTls and UpstreamTls: the rules of a context (names of secrets, versions, suites, names that a peer must have). The contexts themselves are made
 * when the set is laid out (tls_contexts.c): a secret that changes does not change the listeners and clusters that name it. */
#include "dataplane/config/config_priv.h"

#define HASH_BYTES 32u
#define CIPHERS_MAX 64u
#define ALPN_MAX 16u
#define ALPN_BYTES_MAX 255u
#define SANS_MAX 1024u
#define HASHES_MAX 1024u

/* Joins names with ':' after each but the last; of letters, digits, '-' and '_' only: nothing of OpenSSL's list language. */
static int decode_ciphers(struct snap_dec *d, char *const *list, size_t n, struct foil_slice *out)
{
	size_t n_bytes = 0, at = 0;

	if (n > CIPHERS_MAX)
		return snap_fail(d, "cipher_suites", "has %zu entries; %u at most", n, CIPHERS_MAX);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(list[i]);
		if (!len || len > 64 || strspn(list[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != len)
			return snap_fail(d, "cipher_suites", "\"%.64s\" is not the name of a cipher suite", list[i]);
		n_bytes += len + 1;
	}
	if (!n)
		return 0;
	char *text = foil_blob_alloc(d->b, n_bytes);
	if (!text)
		return snap_no_memory(d);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(list[i]);
		memcpy(text + at, list[i], len);
		at += len;
		text[at++] = ':';
	}
	*out = foil_slice_of(text, at - 1);
	return 0;
}

/* As a ClientHello has it: each name behind its length. */
static int decode_alpn(struct snap_dec *d, char *const *list, size_t n, struct foil_slice *out)
{
	size_t at = 0;

	if (n > ALPN_MAX)
		return snap_fail(d, "alpn", "has %zu entries; %u at most", n, ALPN_MAX);
	uint8_t *bytes = n ? foil_blob_alloc(d->b, n * (ALPN_BYTES_MAX + 1)) : NULL;
	if (n && !bytes)
		return snap_no_memory(d);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(list[i]);
		if (!len || len > ALPN_BYTES_MAX)
			return snap_fail(d, "alpn", "a name has %zu bytes; must be 1 to %u", len, ALPN_BYTES_MAX);
		bytes[at++] = (uint8_t)len;
		memcpy(bytes + at, list[i], len);
		at += len;
	}
	*out = foil_slice_of(bytes, at);
	return 0;
}

static int decode_hashes(struct snap_dec *d, const char *field, const ProtobufCBinaryData *list, size_t n, const uint8_t (**out)[32], uint16_t *n_out)
{
	uint8_t(*own)[32];
	int rc = snap_list(d, field, n, 0, HASHES_MAX, sizeof(*own), (void **)&own);

	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (list[i].len != HASH_BYTES)
			return snap_fail(d, field, "entry %zu has %zu bytes; a SHA-256 has %u", i, list[i].len, HASH_BYTES);
		memcpy(own[i], list[i].data, HASH_BYTES);
	}
	if (rc < 0)
		return rc;
	*out = (const uint8_t(*)[32])own;
	*n_out = (uint16_t)n;
	return 0;
}

static int decode_secrets(struct snap_dec *d, const char *field, char *const *list, size_t n, struct mesh_tls_rules *r)
{
	uint32_t *slots;
	int rc = snap_list(d, field, n, 0, TLS_IDENTITIES_MAX, sizeof(*slots), (void **)&slots);

	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct foil_slice name;
		rc = snap_secret_ref(d, field, list[i], &name, &slots[i]);
	}
	if (rc < 0)
		return rc;
	r->secret_slots = slots;
	r->n_secrets = (uint16_t)n;
	return 0;
}

static int decode_ca(struct snap_dec *d, const char *name, struct mesh_tls_rules *r)
{
	struct foil_slice text;

	if (!name)
		return 0;
	r->has_ca = true;
	return snap_secret_ref(d, "ca_secret", name, &text, &r->ca_slot);
}

static enum tls_version version_of(Foil__Conf__TlsVersion v)
{
	switch (v) {
	case FOIL__CONF__TLS_VERSION__TLS_1_0: return TLS_VERSION_1_0;
	case FOIL__CONF__TLS_VERSION__TLS_1_1: return TLS_VERSION_1_1;
	case FOIL__CONF__TLS_VERSION__TLS_1_2: return TLS_VERSION_1_2;
	case FOIL__CONF__TLS_VERSION__TLS_1_3: return TLS_VERSION_1_3;
	default: return TLS_VERSION_AUTO; /* the scan has refused every other number */
	}
}

static int decode_versions(struct snap_dec *d, Foil__Conf__TlsVersion min, Foil__Conf__TlsVersion max, struct mesh_tls_rules *r)
{
	enum tls_version low = version_of(min), high = version_of(max);

	r->min = low;
	r->max = high;
	if ((low == TLS_VERSION_AUTO ? TLS_VERSION_1_2 : low) > (high == TLS_VERSION_AUTO ? TLS_VERSION_1_3 : high))
		return snap_fail(d, "min_version", "is above max_version");
	return 0;
}

/* Rules that pack to the same bytes are the same context. */
static int give_slot(struct snap_dec *d, char side, const ProtobufCMessage *m, struct mesh_tls_rules *r)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	uint8_t *key = foil_blob_alloc(d->b, n + 1);

	if (!key)
		return snap_no_memory(d);
	key[0] = (uint8_t)side;
	(void)protobuf_c_message_pack(m, key + 1); /* its size is known */
	r->salt = foil_slice_of(key, n + 1);
	return snap_tls_ref(d, r->salt, &r->slot);
}

static enum tls_peer_auth auth_of(Foil__Conf__ClientCertificate c)
{
	switch (c) {
	case FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_OPTIONAL: return TLS_AUTH_OPTIONAL;
	case FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED: return TLS_AUTH_REQUIRED;
	default: return TLS_AUTH_NONE;
	}
}

int snap_decode_downstream_tls(struct snap_dec *d, const Foil__Conf__DownstreamTls *m, const struct mesh_downstream_tls **out)
{
	if (!m)
		return 0;
	uint16_t mark = snap_enter(d, "tls", -1);
	struct mesh_downstream_tls *own = foil_blob_alloc(d->b, sizeof(*own));
	if (!own)
		return snap_no_memory(d);
	struct mesh_tls_rules *r = &own->rules;
	r->is_server = true;
	r->auth = auth_of(m->client_certificate);
	r->accept_untrusted = m->accept_untrusted;
	int rc = m->n_secrets ? decode_secrets(d, "secrets", m->secrets, m->n_secrets, r) : snap_fail(d, "secrets", "is empty: a server needs a certificate");
	if (rc == 0 && r->auth != TLS_AUTH_NONE && !m->ca_secret)
		rc = snap_fail(d, "ca_secret", "is missing: client certificates cannot be verified without it");
	if (rc == 0)
		rc = decode_ca(d, m->ca_secret, r);
	if (rc == 0)
		rc = decode_versions(d, m->min_version, m->max_version, r);
	if (rc == 0)
		rc = decode_ciphers(d, m->cipher_suites, m->n_cipher_suites, &r->ciphers);
	if (rc == 0)
		rc = decode_alpn(d, m->alpn, m->n_alpn, &r->alpn);
	if (rc == 0)
		rc = snap_texts(d, "subject_alt_names", m->subject_alt_names, FOIL_MIN(m->n_subject_alt_names, SANS_MAX), SNAP_TEXT_NAME, &r->sans, &r->n_sans);
	if (rc == 0)
		rc = decode_hashes(d, "certificate_hashes", m->certificate_hashes, m->n_certificate_hashes, &r->cert_hashes, &r->n_cert_hashes);
	if (rc == 0)
		rc = decode_hashes(d, "spki_hashes", m->spki_hashes, m->n_spki_hashes, &r->spki_hashes, &r->n_spki_hashes);
	if (rc == 0)
		rc = give_slot(d, 's', &m->base, r);
	if (rc < 0)
		return rc;
	*out = own;
	snap_leave(d, mark);
	return 0;
}

int snap_decode_upstream_tls(struct snap_dec *d, const Foil__Conf__UpstreamTls *m, const struct mesh_upstream_tls **out)
{
	if (!m)
		return 0;
	uint16_t mark = snap_enter(d, "tls", -1);
	struct mesh_upstream_tls *own = foil_blob_alloc(d->b, sizeof(*own));
	if (!own)
		return snap_no_memory(d);
	struct mesh_tls_rules *r = &own->rules;
	Foil__Conf__UpstreamTls same = *m; /* what is not the context's */
	char *secrets[] = {m->secret};
	int rc = decode_secrets(d, "secret", secrets, m->secret ? 1 : 0, r);
	r->skip_verify = m->skip_verify;
	own->auto_sni = m->auto_sni;
	own->auto_san = m->auto_san;
	own->only_marked_endpoints = m->only_marked_endpoints;
	if (rc == 0)
		rc = decode_ca(d, m->ca_secret, r);
	if (rc == 0)
		rc = snap_text(d, "sni", m->sni, SNAP_TEXT_HOST, &own->sni);
	if (rc == 0 && own->sni.n_bytes > 255)
		rc = snap_fail(d, "sni", "has %u bytes; 255 at most", own->sni.n_bytes);
	if (rc == 0)
		rc = decode_versions(d, m->min_version, m->max_version, r);
	if (rc == 0)
		rc = decode_ciphers(d, m->cipher_suites, m->n_cipher_suites, &r->ciphers);
	if (rc == 0)
		rc = decode_alpn(d, m->alpn, m->n_alpn, &r->alpn);
	if (rc == 0)
		rc = snap_texts(d, "subject_alt_names", m->subject_alt_names, FOIL_MIN(m->n_subject_alt_names, SANS_MAX), SNAP_TEXT_NAME, &r->sans, &r->n_sans);
	same.sni = NULL;
	same.has_auto_sni = same.has_auto_san = same.has_only_marked_endpoints = false;
	if (rc == 0)
		rc = give_slot(d, 'c', &same.base, r);
	if (rc < 0)
		return rc;
	*out = own;
	snap_leave(d, mark);
	return 0;
}
