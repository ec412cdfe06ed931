/* What the tests of dataplane/tls start from: certificates made here, a stream below whose other end is the test, and OpenSSL by itself as the peer.
 *
 *   struct rig *r = rig_new(.is_client = false, ...);   one worker, one TLS stream of ours over a fake stream, one peer
 *   rig_pump(r);                                        moves bytes both ways until nothing moves
 *
 * Our side's bytes and callbacks are noted in the rig; the peer is r->peer, an SSL over memory. */
#pragma once

#include <openssl/ssl.h>
#include <pthread.h>

#include "dataplane/core/error.h"
#include "dataplane/tls/tls.h"
#include "tests/unit/support.h"

/* ---- certificates ---- */
enum t_key { T_KEY_EC, T_KEY_RSA };
struct t_cert {
	X509 *x;
	EVP_PKEY *key;
	char pem[8192], key_pem[8192];
};
struct t_cert_params {
	const char *cn, *sans;         /* sans: "DNS:a,URI:b", NULL = none */
	const struct t_cert *issuer;   /* NULL: itself */
	enum t_key key;
	bool is_ca;
	const char *usage;             /* extendedKeyUsage: "serverAuth"; NULL = any */
	int64_t from_s, to_s;          /* of T_WALL_US; 0, 0: a year before and after */
};
/* Fails the test when OpenSSL does. Free with t_cert_free. */
struct t_cert *t_cert_new(struct t_cert_params p);
#define t_cert(...) t_cert_new((struct t_cert_params){__VA_ARGS__})
void t_cert_free(struct t_cert *c);
/* A PEM CRL of ca with the given certificate on it (NULL: empty), valid around T_WALL_US. */
const char *t_crl(const struct t_cert *ca, const struct t_cert *revoked, char *out, size_t n);

/* ---- the rig ---- */
struct rig_below {
	struct stream s; /* first */
	uint8_t *out;    /* what tls wrote, not yet taken */
	size_t n_out;
	bool is_shut, is_aborted, is_released;
	bool hold_acks;  /* tx_queued_bytes stays until rig_ack */
};
struct rig {
	struct foil_worker *w;
	struct rig_below below;
	struct stream *s; /* ours; NULL after closed */
	SSL_CTX *peer_ctx;
	SSL *peer;
	uint16_t seg_bytes; /* how bytes reach us: 0 = as they come */
	bool drop_to_peer;
	bool is_lent;       /* the worker is the caller's */
	struct tls_crypto *crypto;
	pthread_t thread;
	/* what our user saw */
	unsigned int n_opened, n_readable, n_writable, n_closed;
	enum stream_end why;
	char failure[256];
	struct foil_chain got; /* taken in readable, unless keep */
	bool keep;             /* leave bytes in rx */
	void (*on_readable)(struct rig *r);
	void (*on_opened)(struct rig *r);
};
struct rig_params {
	struct tls_context *context; /* ours; the rig takes it over */
	bool is_client;              /* ours is the client */
	SSL_CTX *peer;               /* taken over; NULL: one without certificates and without verification */
	const char *sni;             /* of ours when a client, of the peer's otherwise */
	const struct foil_slice *sans;
	uint16_t n_sans;
	uint32_t n_mbufs;
	struct foil_worker *w;       /* NULL: one of its own; else it stays the caller's, with its tls */
};
extern bool rig_openssl_records; /* of rigs made from now on */
/* Where handshakes are: on the worker; on "crypto threads" that the rig plays itself, one step a turn; on one that is real. */
enum rig_crypto { RIG_CRYPTO_NONE, RIG_CRYPTO_STEPPED, RIG_CRYPTO_THREAD };
extern enum rig_crypto rig_crypto;
void rig_turn(struct rig *r); /* tls_turn, until what is away has come back */
struct rig *rig_new(struct rig_params p);
#define rig(...) rig_new((struct rig_params){__VA_ARGS__})
void rig_free(struct rig *r);
void rig_pump(struct rig *r);
/* Bytes of the peer's BIO into below's rx, in segments. True when there were any. */
bool rig_feed(struct rig *r);
void rig_push(struct rig *r, const void *data, size_t n); /* raw bytes from the other side */
void rig_fin(struct rig *r);                              /* FIN from the other side, and readable */
void rig_closed(struct rig *r, enum stream_end why);      /* the stream below is gone */
void rig_write(struct rig *r, const void *data, uint32_t n); /* by our user */
void rig_ack(struct rig *r);
/* What the peer can read now, appended. */
size_t rig_peer_read(struct rig *r, void *out, size_t n_max);
SSL_CTX *t_peer_ctx(bool is_server, const struct t_cert *cert);
/* A server's context of ours with one certificate. */
struct tls_context *t_server(const struct t_cert *cert, const struct t_cert *ca, enum tls_peer_auth auth, struct tls_tickets *tickets);
struct tls_context *t_client(const struct t_cert *ca);
