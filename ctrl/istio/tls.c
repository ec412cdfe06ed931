/* ServerTLSSettings and ClientTLSSettings into the snapshot's rules (features.md GW-5..GW-11, DR-43..DR-50). */
#include "ctrl/istio/tls.h"

#include "ctrl/istio/identity.h"

#include <string.h>

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

/* What Envoy's BoringSSL has of the API's list, and, for clients without elliptic curves, finite fields, which nobody gets who does not name them: istiod
 * leaves those out, here it is said that they are honoured. The suites of TLS 1.3 are fixed. */
static const char *const known_ciphers[] = {
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA",
	"ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA",
	"DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-CHACHA20-POLY1305", "DHE-RSA-AES128-SHA", "DHE-RSA-AES256-SHA",
};

static bool is_known(const char *cipher)
{
	for (size_t i = 0; i < sizeof(known_ciphers) / sizeof(known_ciphers[0]); i++)
		if (strcmp(known_ciphers[i], cipher) == 0)
			return true;
	return false;
}

static char **ciphers(struct compile *c, const struct tls_user *u, const struct istio_strings *from, size_t *n)
{
	char **list = ARENA_ARRAY(c->arena, char *, from->n ? from->n : 1);

	*n = 0;
	for (uint32_t i = 0; i < from->n; i++) {
		bool is_ours = is_known(from->list[i]), is_theirs = is_ours && strncmp(from->list[i], "DHE-", 4) != 0;
		if (is_ours)
			list[(*n)++] = word(from->list[i]);
		if (!is_theirs)
			istio_compile_report(c, ISTIO_WARNING, "IST0106", u->resource, u->at, istio_arena_printf(c->arena, "%s.cipherSuites[%u]", u->field, i),
					     is_ours ? "\"%.60s\" is offered, but not by Istio's gateways, whose Envoy has no finite-field suites"
						     : "\"%.60s\" is not a cipher suite that can be chosen: it is left out",
					     from->list[i]);
	}
	return list;
}

char **istio_tls_ciphers(struct compile *c, const struct istio_strings *from, size_t *n)
{
	char **list = ARENA_ARRAY(c->arena, char *, from->n ? from->n : 1);

	*n = 0;
	for (uint32_t i = 0; i < from->n; i++)
		if (is_known(from->list[i]))
			list[(*n)++] = word(from->list[i]);
	return list;
}

static char **strings(struct compile *c, const struct istio_strings *from)
{
	char **list = ARENA_ARRAY(c->arena, char *, from->n ? from->n : 1);

	for (uint32_t i = 0; i < from->n; i++)
		list[i] = word(from->list[i]);
	return list;
}

static char **alpn_of(struct compile *c, bool has_h2, size_t *n)
{
	char **list = ARENA_ARRAY(c->arena, char *, 2);

	*n = 0;
	if (has_h2)
		list[(*n)++] = word("h2");
	list[(*n)++] = word("http/1.1");
	return list;
}

/* ---- servers ---- */

/* Hex with or without ':' between the bytes. */
static bool hex_hash(struct istio_arena *a, const char *text, struct tls_bytes *out)
{
	uint8_t *to = istio_arena_alloc(a, 32);
	size_t n = 0;

	for (; *text; text++) {
		static const char digits[] = "0123456789abcdef";
		char ch = *text >= 'A' && *text <= 'F' ? (char)(*text + 32) : *text;
		const char *at = strchr(digits, ch);
		if (ch == ':')
			continue;
		if (!at || n == 64)
			return false;
		to[n / 2] = (uint8_t)(to[n / 2] << 4 | (at - digits));
		n++;
	}
	*out = (struct tls_bytes){to, 32};
	return n == 64;
}

static ProtobufCBinaryData *hashes(struct compile *c, const struct tls_user *u, const char *field, const struct istio_strings *from, bool is_hex, size_t *n)
{
	ProtobufCBinaryData *list = ARENA_ARRAY(c->arena, ProtobufCBinaryData, from->n ? from->n : 1);

	*n = 0;
	for (uint32_t i = 0; i < from->n; i++) {
		struct tls_bytes b = {NULL, 0};
		bool ok = is_hex ? hex_hash(c->arena, from->list[i], &b) : istio_base64(c->arena, from->list[i], &b) && b.n == 32;
		if (ok)
			list[(*n)++] = (ProtobufCBinaryData){.len = 32, .data = (uint8_t *)(uintptr_t)b.data}; /* only packed */
		else
			istio_compile_report(c, ISTIO_ERROR, "IST0106", u->resource, u->at, istio_arena_printf(c->arena, "%s.%s[%u]", u->field, field, i),
					     "is not a SHA-256 in %s: no certificate has it", is_hex ? "hex" : "base64");
	}
	if (from->n && *n == 0) { /* nothing that was asked for can be checked: then nobody passes */
		static uint8_t nobody[32];
		list[(*n)++] = (ProtobufCBinaryData){.len = 32, .data = nobody};
	}
	return list;
}

/* MeshConfig tlsDefaults: for whoever says nothing of his own. */
static void defaults(struct compile *c, Foil__Conf__TlsVersion *min, char ***list, size_t *n)
{
	const struct tls_settings *t = c->model->mesh->tls_defaults;

	if (!t)
		return;
	if (*n == 0 && t->cipher_suites.n)
		*list = istio_tls_ciphers(c, &t->cipher_suites, n);
	if (*min == FOIL__CONF__TLS_VERSION__TLS_AUTO && t->min_version.value == TLS_SETTINGS_1_3)
		*min = FOIL__CONF__TLS_VERSION__TLS_1_3;
}

static void server_identities(struct compile *c, const struct tls_user *u, const struct gateway_tls *t, Foil__Conf__DownstreamTls *m)
{
	m->secrets = ARENA_ARRAY(c->arena, char *, t->credential_names.n + t->certificates.n + 1);
	if (t->credential_names.n) {
		for (uint32_t i = 0; i < t->credential_names.n && i < 2; i++)
			m->secrets[m->n_secrets++] = word(istio_secret_identity(c, u, t->credential_names.list[i]));
	} else if (t->credential_name) {
		m->secrets[m->n_secrets++] = word(istio_secret_identity(c, u, t->credential_name));
	} else if (t->certificates.n) {
		for (uint32_t i = 0; i < t->certificates.n && i < 2; i++) {
			const struct tls_certificate *f = ISTIO_ITEM(t->certificates, struct tls_certificate, i);
			if (f->chain && f->key)
				m->secrets[m->n_secrets++] = word(istio_secret_files(c, u, f->chain, f->key));
		}
	} else if (t->server_certificate && t->private_key) {
		m->secrets[m->n_secrets++] = word(istio_secret_files(c, u, t->server_certificate, t->private_key));
	}
}

static const char *server_ca(struct compile *c, const struct tls_user *u, const struct gateway_tls *t)
{
	if (t->ca_credential_name)
		return istio_secret_ca(c, u, t->ca_credential_name, true);
	if (t->ca_certificates && t->ca_certificates[0])
		return istio_secret_ca_file(c, u, t->ca_certificates, t->ca_crl && t->ca_crl[0] ? t->ca_crl : NULL);
	if (t->credential_names.n)
		return istio_secret_ca(c, u, t->credential_names.list[0], false);
	return t->credential_name ? istio_secret_ca(c, u, t->credential_name, false) : NULL;
}

static Foil__Conf__DownstreamTls *refuse(struct compile *c, const struct tls_user *u, const char *field, const char *why)
{
	istio_compile_report(c, ISTIO_ERROR, "HF0005", u->resource, u->at, istio_arena_printf(c->arena, "%s.%s", u->field, field),
			     "%s: this server is not served, the others are", why);
	return NULL;
}

Foil__Conf__DownstreamTls *istio_tls_of_server(struct compile *c, const struct resource *gateway, const struct gateway_tls *t, const char *field)
{
	const struct tls_user u = {.resource = gateway, .at = t->head.node->at, .field = field};
	Foil__Conf__DownstreamTls *m = ARENA_NEW(c->arena, Foil__Conf__DownstreamTls);

	foil__conf__downstream_tls__init(m);
	switch ((enum gateway_tls_mode)t->mode.value) {
	case GATEWAY_TLS_SIMPLE: break;
	case GATEWAY_TLS_MUTUAL:
	case GATEWAY_TLS_OPTIONAL_MUTUAL:
		m->has_client_certificate = true;
		m->client_certificate = t->mode.value == GATEWAY_TLS_MUTUAL ? FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED
									   : FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_OPTIONAL;
		break;
	case GATEWAY_TLS_PASSTHROUGH:
	case GATEWAY_TLS_AUTO_PASSTHROUGH: return refuse(c, &u, "mode", "bytes that are passed on are not decrypted");
	case GATEWAY_TLS_ISTIO_MUTUAL: istio_identity_gateway(c, m); break;
	}
	if (t->mode.value != GATEWAY_TLS_ISTIO_MUTUAL)
		server_identities(c, &u, t, m);
	if (!m->n_secrets)
		return refuse(c, &u, "credentialName", "a server that ends TLS needs credentialName, or serverCertificate and privateKey");
	if (m->has_client_certificate && !m->ca_secret) {
		m->ca_secret = word(server_ca(c, &u, t));
		if (!m->ca_secret)
			return refuse(c, &u, "caCertificates", "client certificates cannot be verified without a CA");
	}
	m->has_min_version = m->has_max_version = true;
	m->min_version = (Foil__Conf__TlsVersion)t->min_version.value; /* the API's words are in the order of the snapshot's */
	m->max_version = (Foil__Conf__TlsVersion)t->max_version.value;
	m->cipher_suites = ciphers(c, &u, &t->cipher_suites, &m->n_cipher_suites);
	defaults(c, &m->min_version, &m->cipher_suites, &m->n_cipher_suites);
	m->subject_alt_names = strings(c, &t->subject_alt_names);
	m->n_subject_alt_names = t->subject_alt_names.n;
	m->certificate_hashes = hashes(c, &u, "verifyCertificateHash", &t->verify_hash, true, &m->n_certificate_hashes);
	m->spki_hashes = hashes(c, &u, "verifyCertificateSpki", &t->verify_spki, false, &m->n_spki_hashes);
	m->has_accept_untrusted = m->accept_untrusted = m->has_client_certificate && t->skip_verify.is_true;
	/* Who is told which names to take must show one, as Envoy has it; where any will do, names ask for none. */
	if (m->has_client_certificate && !m->accept_untrusted && (m->n_subject_alt_names || m->n_certificate_hashes || m->n_spki_hashes))
		m->client_certificate = FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED;
	m->alpn = alpn_of(c, true, &m->n_alpn); /* TCP servers offer it, too */
	return m;
}

/* ---- clients ---- */

static bool client_secrets(struct compile *c, const struct tls_user *u, const struct client_tls *t, Foil__Conf__UpstreamTls *m)
{
	bool is_mutual = t->mode.value == CLIENT_TLS_MUTUAL;

	if (t->credential_name) {
		if (is_mutual)
			m->secret = word(istio_secret_identity(c, u, t->credential_name));
		m->ca_secret = word(istio_secret_ca(c, u, t->credential_name, false));
		return true;
	}
	if (is_mutual && (!t->client_certificate || !t->private_key)) {
		istio_compile_report(c, ISTIO_ERROR, "IST0106", u->resource, u->at, u->field,
				     "mode MUTUAL needs credentialName, or clientCertificate and privateKey: requests get 503");
		return false;
	}
	if (is_mutual)
		m->secret = word(istio_secret_files(c, u, t->client_certificate, t->private_key));
	if (t->ca_certificates && t->ca_certificates[0] && strcmp(t->ca_certificates, "system") != 0)
		m->ca_secret = word(istio_secret_ca_file(c, u, t->ca_certificates, t->ca_crl && t->ca_crl[0] ? t->ca_crl : NULL));
	return true;
}

/* DR-46, DR-47: without a tls block endpoints that can get mTLS, the others plaintext. */
static bool is_automatic(const struct compile *c, const struct cluster_ref *ref)
{
	for (uint32_t i = 0; istio_identity_is_auto(c, ref->service) && i < ref->service->instances.n; i++) {
		const struct instance *in = ref->service->instances.list[i];
		uint32_t port = istio_clusters_port_of(ref->port, in);
		if (port && istio_identity_is_marked(c, in, port))
			return true;
	}
	return false;
}

static Foil__Conf__UpstreamTls *automatic(struct compile *c, const struct cluster_ref *ref, Foil__Conf__UpstreamProtocol protocol)
{
	if (!is_automatic(c, ref))
		return NULL;
	Foil__Conf__UpstreamTls *m = istio_identity_upstream(c, ref, NULL, protocol);
	m->has_only_marked_endpoints = m->only_marked_endpoints = true;
	return m;
}

bool istio_tls_is_of_mesh(const struct compile *c, const struct cluster_ref *ref, const struct client_tls *t)
{
	if (ref->is_passed_on)
		return false;
	return t ? t->mode.is_set && t->mode.value == CLIENT_TLS_ISTIO_MUTUAL : is_automatic(c, ref);
}

Foil__Conf__UpstreamTls *istio_tls_of_client(struct compile *c, const struct cluster_ref *ref, const struct client_tls *t,
					     Foil__Conf__UpstreamProtocol protocol, bool *is_refused)
{
	bool is_http = protocol != FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_TCP, is_dynamic = ref->service->resolution == RESOLUTION_DYNAMIC_DNS;

	*is_refused = false;
	if (ref->is_passed_on)
		return NULL;
	if (!t)
		return automatic(c, ref, protocol);
	if (!t->mode.is_set || t->mode.value == CLIENT_TLS_DISABLE)
		return NULL;
	if (t->mode.value == CLIENT_TLS_ISTIO_MUTUAL)
		return istio_identity_upstream(c, ref, t, protocol);
	const struct tls_user u = {.resource = ref->rule->source, .at = t->head.node->at, .field = "trafficPolicy.tls"};
	Foil__Conf__UpstreamTls *m = ARENA_NEW(c->arena, Foil__Conf__UpstreamTls);
	foil__conf__upstream_tls__init(m);
	*is_refused = !client_secrets(c, &u, t, m);
	m->has_skip_verify = t->skip_verify.is_true;
	m->skip_verify = t->skip_verify.is_true;
	m->subject_alt_names = strings(c, &t->subject_alt_names);
	m->n_subject_alt_names = t->subject_alt_names.n;
	if (t->sni && t->sni[0]) {
		m->sni = word(istio_arena_lower(c->arena, t->sni));
	} else if (is_http || is_dynamic) { /* DR-49 */
		m->has_auto_sni = m->auto_sni = true;
		m->has_auto_san = true;
		m->auto_san = t->subject_alt_names.n == 0 && !t->skip_verify.is_true;
	}
	if (is_dynamic) { /* whoever the request names must be who answers, whatever else is said (istiod) */
		m->has_auto_san = true;
		m->auto_san = !t->skip_verify.is_true;
	}
	m->has_min_version = true;
	defaults(c, &m->min_version, &m->cipher_suites, &m->n_cipher_suites);
	if (protocol == FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP2) {
		m->alpn = ARENA_ARRAY(c->arena, char *, 1);
		m->alpn[m->n_alpn++] = word("h2");
	}
	return *is_refused ? NULL : m;
}
