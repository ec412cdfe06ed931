/* The rules of TLS inside the mesh, as istiod writes them for Envoy (recorded: sidecar and router of ../shared/oracle): certificates by SPIFFE id, peers by
 * the mesh's roots and trust domain, ALPN by which servers know each other. istio-peer-exchange is neither offered nor chosen: who agrees on it expects
 * a header of metadata before the first byte. Invariant: every id in a snapshot's rules is in its list of identities. */
#include "ctrl/istio/identity.h"
#include "ctrl/istio/tls.h"

#include <string.h>

#include <xxhash.h>

#define TLS_MODE_LABEL "security.istio.io/tlsMode"

const char *const istio_mesh_protocols[] = {"istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2", NULL};

/* What workloads take from each other (PA-6). */
static const char *const mesh_ciphers[] = {"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256",
					   "ECDHE-RSA-AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-GCM-SHA256", NULL};

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

static char **words(struct compile *c, const char *const *from, size_t *n)
{
	for (*n = 0; from[*n]; (*n)++)
		;
	char **list = ARENA_ARRAY(c->arena, char *, *n ? *n : 1);
	for (size_t i = 0; i < *n; i++)
		list[i] = word(from[i]);
	return list;
}

/* ---- identities ---- */

const char *istio_identity_use(struct compile *c, const char *id)
{
	bool is_new;

	(void)istio_map_put(c->arena, &c->identities, id, &is_new);
	return id;
}

const char *istio_identity_of_node(struct compile *c)
{
	const char *account = c->node->service_account && c->node->service_account[0] ? c->node->service_account : "istio-system/hydrofoil";
	const char *slash = strchr(account, '/');

	if (!slash)
		return istio_arena_printf(c->arena, "spiffe://%s/ns/istio-system/sa/%s", c->trust_domain, account);
	return istio_arena_printf(c->arena, "spiffe://%s/ns/%.*s/sa/%s", c->trust_domain, (int)(slash - account), account, slash + 1);
}

const char *istio_identity_of_service(struct compile *c, const struct service *s)
{
	const char *first = NULL;

	for (uint32_t i = 0; i < s->instances.n; i++) {
		const char *one = s->instances.list[i]->account;
		if (one && (!first || strcmp(one, first) < 0))
			first = one;
	}
	return first ? first : istio_arena_printf(c->arena, "spiffe://%s/ns/%s/sa/default", c->trust_domain, s->namespace);
}

struct identity_facts istio_identity_facts(const struct compile *c, const struct service *s)
{
	struct identity_facts f = {{0}};

	for (uint32_t i = 0; i < s->instances.n; i++) {
		const struct instance *in = s->instances.list[i];
		uint64_t h = in->account ? XXH64(in->account, strlen(in->account), 0) : 0;
		f.bits[h % 4] |= 1ull << (h >> 8) % 64;
		for (uint32_t j = 0; j < s->n_ports && j < 16; j++) {
			uint32_t port = istio_clusters_port_of(&s->ports[j], in);
			if (port)
				f.bits[4] |= (uint64_t)istio_identity_is_marked(c, in, port) << j |
					     1ull << (16 + ((uint32_t)istio_peer_auth_mode(c, in->namespace, in->labels, port) + 3 * j) % 48);
		}
	}
	return f;
}

void istio_identity_finish(struct compile *c, struct istio_snapshot *s)
{
	const char **list = ARENA_ARRAY(c->out, const char *, c->identities.n + 1);
	const struct istio_list *extra = &c->model->mesh->ca_certificates;
	const char *text = "";

	for (uint32_t i = 0; i < c->identities.n; i++)
		list[i] = istio_arena_copy(c->out, c->identities.entries[i].key, strlen(c->identities.entries[i].key));
	for (uint32_t i = 0; i < extra->n; i++) {
		const struct ca_certificate *k = ISTIO_ITEM(*extra, struct ca_certificate, i);
		if (k->pem && k->pem[0])
			text = istio_arena_printf(c->arena, "%s%s\n", text, k->pem);
	}
	s->identities = list;
	s->n_identities = c->identities.n;
	s->files = c->files.list;
	s->n_files = c->files.n;
	s->files_stamp = c->files_stamp;
	s->unusable = c->unusable.list;
	s->n_unusable = c->unusable.n;
	s->trust_domain = istio_arena_copy(c->out, c->trust_domain, strlen(c->trust_domain));
	s->extra_roots = istio_arena_copy(c->out, text, strlen(text));
}

/* ---- servers ---- */

static void mesh_versions(const struct compile *c, Foil__Conf__DownstreamTls *m)
{
	const struct tls_settings *t = c->model->mesh->mtls;

	m->has_min_version = m->has_max_version = true;
	m->min_version = t && t->min_version.value == TLS_SETTINGS_1_3 ? FOIL__CONF__TLS_VERSION__TLS_1_3 : FOIL__CONF__TLS_VERSION__TLS_1_2;
	m->max_version = FOIL__CONF__TLS_VERSION__TLS_1_3;
}

/* "spiffe://domain/" of the mesh's trust domain and its aliases. */
static char **domains(struct compile *c, size_t *n)
{
	const struct istio_strings *aliases = &c->model->mesh->trust_domain_aliases;
	char **list = ARENA_ARRAY(c->arena, char *, aliases->n + 1);

	*n = 0;
	list[(*n)++] = istio_arena_printf(c->arena, "spiffe://%s/", c->trust_domain);
	for (uint32_t i = 0; i < aliases->n; i++)
		list[(*n)++] = istio_arena_printf(c->arena, "spiffe://%s/", aliases->list[i]);
	return list;
}

static void mutual(struct compile *c, const char *id, Foil__Conf__DownstreamTls *m)
{
	m->secrets = ARENA_ARRAY(c->arena, char *, 1);
	m->secrets[m->n_secrets++] = word(istio_identity_use(c, id));
	m->ca_secret = word(IDENTITY_ROOTS);
	m->has_client_certificate = true;
	m->client_certificate = FOIL__CONF__CLIENT_CERTIFICATE__CLIENT_CERTIFICATE_REQUIRED;
}

Foil__Conf__DownstreamTls *istio_identity_downstream(struct compile *c, const char *id, bool is_http)
{
	static const char *const http[] = {"h2", "http/1.1", NULL};
	const struct tls_settings *t = c->model->mesh->mtls;
	Foil__Conf__DownstreamTls *m = ARENA_NEW(c->arena, Foil__Conf__DownstreamTls);

	foil__conf__downstream_tls__init(m);
	mutual(c, id, m);
	mesh_versions(c, m);
	m->cipher_suites = t && t->cipher_suites.n ? istio_tls_ciphers(c, &t->cipher_suites, &m->n_cipher_suites)
						   : words(c, mesh_ciphers, &m->n_cipher_suites);
	m->subject_alt_names = domains(c, &m->n_subject_alt_names);
	if (is_http)
		m->alpn = words(c, http, &m->n_alpn);
	return m;
}

void istio_identity_gateway(struct compile *c, Foil__Conf__DownstreamTls *m)
{
	mutual(c, istio_identity_of_node(c), m);
}

/* ---- clients ---- */

bool istio_identity_is_auto(const struct compile *c, const struct service *s)
{
	const struct istio_bool *on = &c->model->mesh->auto_mtls;

	return (!on->is_set || on->is_true) && !s->is_external;
}

bool istio_identity_is_marked(const struct compile *c, const struct instance *in, uint32_t port)
{
	const char *mode = istio_compile_label(in->labels, TLS_MODE_LABEL);

	return mode && strcmp(mode, "istio") == 0 && istio_peer_auth_mode(c, in->namespace, in->labels, port) != MTLS_DISABLE;
}

static void add_san(struct compile *c, struct host_list *to, const char *san)
{
	for (uint32_t i = 0; i < to->n; i++)
		if (strcmp(to->list[i], san) == 0)
			return;
	ARENA_PUSH(c->arena, to, san);
}

/* An account under the trust domain is good under its aliases too. */
static void add_account(struct compile *c, struct host_list *to, const char *id)
{
	const struct istio_strings *aliases = &c->model->mesh->trust_domain_aliases;
	const char *own = istio_arena_printf(c->arena, "spiffe://%s/", c->trust_domain);

	add_san(c, to, id);
	for (uint32_t i = 0; strncmp(id, own, strlen(own)) == 0 && i < aliases->n; i++)
		add_san(c, to, istio_arena_printf(c->arena, "spiffe://%s/%s", aliases->list[i], id + strlen(own)));
}

static void service_sans(struct compile *c, const struct service *s, struct host_list *to)
{
	for (uint32_t i = 0; i < s->instances.n; i++)
		if (s->instances.list[i]->account)
			add_account(c, to, s->instances.list[i]->account);
	for (uint32_t i = 0; s->accounts && i < s->accounts->n; i++)
		add_account(c, to, s->accounts->list[i]);
}

static const char *const *alpn_of(Foil__Conf__UpstreamProtocol p)
{
	static const char *const http1[] = {"istio-http/1.1", "istio", "http/1.1", NULL}, *const h2[] = {"istio-h2", "istio", "h2", NULL};
	static const char *const tcp[] = {"istio", NULL};

	return p == FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP1 ? http1 : p == FOIL__CONF__UPSTREAM_PROTOCOL__UPSTREAM_HTTP2 ? h2 : tcp;
}

Foil__Conf__UpstreamTls *istio_identity_upstream(struct compile *c, const struct cluster_ref *ref, const struct client_tls *t,
						 Foil__Conf__UpstreamProtocol protocol)
{
	Foil__Conf__UpstreamTls *m = ARENA_NEW(c->arena, Foil__Conf__UpstreamTls);
	struct host_list sans = {0};

	foil__conf__upstream_tls__init(m);
	m->secret = word(istio_identity_use(c, istio_identity_of_node(c)));
	m->ca_secret = word(IDENTITY_ROOTS);
	for (uint32_t i = 0; t && i < t->subject_alt_names.n; i++)
		add_san(c, &sans, t->subject_alt_names.list[i]);
	if (sans.n == 0)
		service_sans(c, ref->service, &sans);
	m->subject_alt_names = (char **)(uintptr_t)sans.list; /* packed only */
	m->n_subject_alt_names = sans.n;
	m->sni = t && t->sni && t->sni[0] ? istio_arena_lower(c->arena, t->sni)
					  : istio_arena_printf(c->arena, "outbound_.%u_.%s_.%s", ref->port->number, ref->subset ? ref->subset : "",
							       ref->service->host);
	m->alpn = words(c, alpn_of(protocol), &m->n_alpn);
	m->has_min_version = m->has_max_version = true;
	m->min_version = FOIL__CONF__TLS_VERSION__TLS_1_2;
	m->max_version = FOIL__CONF__TLS_VERSION__TLS_1_3;
	return m;
}
