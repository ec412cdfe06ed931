/* Identities in the compiler: which SPIFFE ids this node speaks for, which mode of mutual TLS a port has, and the rules of TLS inside the mesh
 * (features.md ID, PA, DR-46..DR-48). The certificates themselves are made by ctrl/ca for the ids that a snapshot names. Private to the room. */
#pragma once

#include "ctrl/istio/compile.h"

#define IDENTITY_ROOTS "ROOTCA" /* the Secret with the roots of the mesh */

/* In the order of strictness, and of the API's words. */
enum mtls_mode { MTLS_UNSET, MTLS_DISABLE, MTLS_PERMISSIVE, MTLS_STRICT };

/* ---- peer_auth.c */
/* labels: the workload's; NULL: of no workload. port: the workload's. Never MTLS_UNSET. */
enum mtls_mode istio_peer_auth_mode(const struct compile *c, const char *namespace, const struct istio_string_map *labels, uint32_t port);
enum mtls_mode istio_peer_auth_of_service(const struct compile *c, const struct service *s, const struct service_port *port);

/* ---- identity.c */
/* Names the Secret of an identity and notes that it is wanted. */
const char *istio_identity_use(struct compile *c, const char *id);
const char *istio_identity_of_node(struct compile *c);
/* The identity that a service's address shows to clients: the first of its accounts, or its namespace's default account. */
const char *istio_identity_of_service(struct compile *c, const struct service *s);
/* What of a service's endpoints decides more than the endpoints: identities, whether any is marked, modes. Changes when that does, nearly always. */
struct identity_facts {
	uint64_t bits[5];
};
struct identity_facts istio_identity_facts(const struct compile *c, const struct service *s);
/* Copies the list of wanted identities and the mesh's further roots into the snapshot. */
void istio_identity_finish(struct compile *c, struct istio_snapshot *s);

/* The certificate of a workload, for clients that have one of the mesh's. */
Foil__Conf__DownstreamTls *istio_identity_downstream(struct compile *c, const char *id, bool is_http);
/* A server at a gateway in mode ISTIO_MUTUAL. */
void istio_identity_gateway(struct compile *c, Foil__Conf__DownstreamTls *m);
/* Towards a service's port: sans and sni from the service unless t has its own (t may be NULL). */
Foil__Conf__UpstreamTls *istio_identity_upstream(struct compile *c, const struct cluster_ref *ref, const struct client_tls *t,
						 Foil__Conf__UpstreamProtocol protocol);
/* The endpoint speaks the mesh's mTLS: its label says so, and no PeerAuthentication forbids it. */
bool istio_identity_is_marked(const struct compile *c, const struct instance *in, uint32_t port);
/* Automatic mTLS is on for the service. */
bool istio_identity_is_auto(const struct compile *c, const struct service *s);

extern const char *const istio_mesh_protocols[]; /* offered protocols by which the mesh's mTLS is known; NULL-terminated */
