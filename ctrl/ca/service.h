/* Istio's certificate-signing service (istio.v1.auth.IstioCertificateService/CreateCertificate, features.md ID-2) over HTTP/2 and TLS, for proxies other
 * than ours. Whoever asks proves an identity by a client certificate of the mesh or by a bearer token of the tokens' file, and gets a certificate for
 * that identity, whatever the request says. It lives inside its owner's loop and never blocks; strangers are bounded in connections, streams, bytes and
 * time. */
#pragma once

#include "ctrl/ca/ca.h"

#define CA_SERVICE_PORT 15012

struct ca_service;

struct ca_service_params {
	struct ca_authority *authority; /* outlives the service */
	const char *address;            /* where it listens */
	uint16_t port;                  /* 0: CA_SERVICE_PORT */
	const char *tokens_file;        /* lines "TOKEN NAMESPACE/ACCOUNT"; read at every request; NULL: client certificates only */
	const char *jwks_file;          /* the cluster's keys: Kubernetes' own tokens are taken; read at every request; NULL: they are not */
	const char *audience;           /* of such tokens; NULL: CA_SERVICE_AUDIENCE */
	const char *issuer;             /* the same; NULL: any */
	int64_t now_s;
};
#define CA_SERVICE_AUDIENCE "istio-ca"
int ca_service_open(const struct ca_service_params *p, struct ca_service **out, struct foil_error *err) FOIL_MUST_USE;
void ca_service_close(struct ca_service *own_s); /* NULL is fine */
int ca_service_fd(const struct ca_service *s);   /* readable when ca_service_turn has something to do */
/* trust_domain: of the identities that tokens prove. now_ms: monotonic. */
void ca_service_turn(struct ca_service *s, const char *trust_domain, int64_t now_s, uint64_t now_ms);

/* The message of a request: csr and validity; other fields are passed over. False: it is none. */
bool ca_service_parse(struct foil_slice message, struct foil_slice *csr, int64_t *validity_s);
