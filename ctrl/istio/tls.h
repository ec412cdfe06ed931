/* TLS in the compiler: secrets as snapshot resources (secret.c), settings of servers and of clients as rules (tls.c). Private to the room. */
#pragma once

#include "ctrl/istio/compile.h"

struct tls_bytes {
	const uint8_t *data;
	size_t n;
};
struct secret_parts {
	struct tls_bytes chain, key, ca, crl, staple;
};
/* Who asks, for diagnostics. */
struct tls_user {
	const struct resource *resource;
	struct istio_pos at;
	const char *field;
};

bool istio_base64(struct istio_arena *a, const char *text, struct tls_bytes *out);
/* Each emits the Secret at its first use and returns its name in the snapshot, whether it could be emitted or not. */
const char *istio_secret_identity(struct compile *c, const struct tls_user *u, const char *credential);
/* is_named: the Secret is named for its CA alone (caCertCredentialName). */
const char *istio_secret_ca(struct compile *c, const struct tls_user *u, const char *credential, bool is_named);
const char *istio_secret_files(struct compile *c, const struct tls_user *u, const char *chain, const char *key);
const char *istio_secret_ca_file(struct compile *c, const struct tls_user *u, const char *ca, const char *crl); /* crl: NULL = none */

/* Those of the list that can be chosen; the others were reported by istio_tls_lint, or are at u. */
char **istio_tls_ciphers(struct compile *c, const struct istio_strings *from, size_t *n);

/* A server that ends TLS; NULL, with an error at it: it cannot be served. */
Foil__Conf__DownstreamTls *istio_tls_of_server(struct compile *c, const struct resource *gateway, const struct gateway_tls *t, const char *field);
/* Endpoints of the cluster are spoken to with the mesh's own mTLS, some at least. */
bool istio_tls_is_of_mesh(const struct compile *c, const struct cluster_ref *ref, const struct client_tls *t);
/* What a client's settings ask for; NULL: plaintext. *is_refused: they cannot be honoured, and a plaintext connection must not be made instead. */
Foil__Conf__UpstreamTls *istio_tls_of_client(struct compile *c, const struct cluster_ref *ref, const struct client_tls *t,
					     Foil__Conf__UpstreamProtocol protocol, bool *is_refused);
