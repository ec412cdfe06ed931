/* TLS as a stream over a stream (stream.h): handshakes by OpenSSL over the chains of the stream below, so that codecs and L4 proxies need not know.
 * Both sides; TLS 1.2 and 1.3; ALPN, SNI, client certificates, tickets. No renegotiation, no compression, no early data.
 *
 * Contexts (certificates, rules) are made by housekeeping from a snapshot's secrets, are immutable and counted; a connection holds its own until it
 * ends, so that a rotated certificate serves new handshakes and disturbs no old connection.
 *
 * Before a context is chosen, the ClientHello can be peeked at in the rx of the stream below (hello), whose bytes stay untouched: that is how a
 * filter chain is chosen by name, and how passed-through connections get their bytes as they came.
 *
 * Determinism: OpenSSL draws its own random numbers and allocates its own memory; docs/decisions/0007-openssl-in-the-data-plane.md says why that
 * is accepted. Time is w->wall_us here as elsewhere.
 *
 * Ends, as the user of the upper stream sees them: close_notify sets rx_eof, as FIN does in tcp; FIN without close_notify, a fatal alert and a
 * record that cannot be opened are closed(STREAM_END_TLS), and tls_stream_failure says which while that call lasts. */
#pragma once

#include "dataplane/core/error.h"
#include "dataplane/stream/stream.h"

#define X(ID, name, kind, help) TLS_REASON_##ID,
enum tls_reason {
#include "dataplane/tls/reasons.def"
	TLS_REASON_COUNT
};
#undef X
#define X(ID, kind, unit, help) TLS_CTR_##ID,
enum tls_counter {
#include "dataplane/tls/counters.def"
	TLS_CTR_COUNT
};
#undef X
extern const struct foil_room_desc tls_room_desc;

/* ---- the ClientHello ---- */
#define TLS_HELLO_BYTES_MAX 65536u      /* the message, over all its records */
#define TLS_HELLO_WIRE_BYTES_MAX 98304u /* with the records' headers */

struct tls_hello {
	struct foil_slice sni;  /* host name as it was sent; empty: none */
	struct foil_slice alpn; /* the list as it was sent: length-prefixed names; empty: none */
	uint16_t version_max;   /* 0x0304 = TLS 1.3: the highest that is offered */
	bool has_tls13;
};

enum tls_hello_result {
	TLS_HELLO_MORE,    /* come back when rx has scan->wanted_bytes */
	TLS_HELLO_READY,
	TLS_HELLO_NOT_TLS, /* not a handshake record */
	TLS_HELLO_BAD,     /* a handshake record, but no ClientHello that can be read: let a handshake answer it with an alert */
};

/* Zeroed before the first call; remembers how far the records were looked at. */
struct tls_hello_scan {
	uint32_t offset, n_message_bytes, wanted_bytes;
	uint32_t message_bytes; /* header included; 0 = not known yet */
};

/* Looks at the beginning of rx and takes nothing. READY: out's slices are borrowed until the next call on this worker. */
enum tls_hello_result tls_hello_peek(struct foil_worker *w, const struct foil_chain *rx, struct tls_hello_scan *scan, struct tls_hello *out);
/* One whole handshake message, its 4-byte header included, RFC 8446 4.1.2 and RFC 5246 7.4.1.2. READY or BAD; slices point into message. */
enum tls_hello_result tls_hello_parse(struct foil_slice message, struct tls_hello *out);

/* ---- contexts: housekeeping ---- */
enum tls_version { TLS_VERSION_AUTO, TLS_VERSION_1_0, TLS_VERSION_1_1, TLS_VERSION_1_2, TLS_VERSION_1_3 };
enum tls_peer_auth { TLS_AUTH_NONE, TLS_AUTH_OPTIONAL, TLS_AUTH_REQUIRED };

#define TLS_IDENTITIES_MAX 4
struct tls_identity {
	struct foil_slice name;         /* of the secret, for sentences */
	struct foil_slice chain, key;   /* PEM; the leaf first */
	struct foil_slice ocsp_staple;  /* DER; empty = none */
};

struct tls_tickets; /* the keys of session tickets, shared by all contexts and workers */

struct tls_context_params {
	bool is_server;
	const struct tls_identity *identities; /* a server's: one a key type, RSA and ECDSA */
	uint16_t n_identities;
	struct foil_slice ca_name, ca, crl;    /* PEM; a client without ca takes the system's roots */
	bool has_system_roots;                 /* a client's: /etc/ssl/certs when ca is empty */
	enum tls_peer_auth auth;               /* a server's; a client always verifies, unless skip_verify */
	bool skip_verify;
	bool accept_untrusted;                 /* a server's: a certificate that does not pass is taken all the same, and counted */
	enum tls_version min, max;             /* AUTO: 1.2, 1.3 */
	struct foil_slice ciphers;             /* TLS 1.2 names with ':' between; empty = TLS_CIPHERS_DEFAULT */
	struct foil_slice alpn;                /* length-prefixed names in order of preference; empty = none */
	const struct foil_slice *sans;         /* of which the peer must have one (URI, DNS, IP; "spiffe://td/": any URI under it); none = not looked at */
	uint16_t n_sans;
	const uint8_t (*cert_hashes)[32];      /* SHA-256 of the peer's certificate, or of its public key: one of both lists suffices */
	const uint8_t (*spki_hashes)[32];
	uint16_t n_cert_hashes, n_spki_hashes;
	struct tls_tickets *tickets;           /* NULL: a server makes none; must outlive the context */
	struct foil_slice resume_salt;         /* what a resumed session must agree in beside the secrets */
};

/* Envoy's default, in the server's order. */
#define TLS_CIPHERS_DEFAULT                                                                                                                           \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:"                        \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"

struct tls_context;
/* Everything is copied. 0, -EINVAL with a sentence that names the secret (key and certificate differ, a PEM that cannot be read, no cipher), -ENOMEM. */
int tls_context_new(const struct tls_context_params *p, struct tls_context **out, struct foil_error *err) FOIL_MUST_USE;
struct tls_context *tls_context_get(struct tls_context *c);
void tls_context_put(struct tls_context *own_c); /* NULL is fine; any thread */
/* Unix seconds between which all of the context's own certificates are valid; 0, 0 without any. */
void tls_context_validity(const struct tls_context *c, int64_t *not_before_s, int64_t *not_after_s);

/* The first URI SAN of its certificate; empty: none. */
struct foil_slice tls_context_uri_san(const struct tls_context *c);

/* Checks one identity or a bundle without keeping it. 0 or -EINVAL with a sentence. */
int tls_identity_check(const struct tls_identity *id, struct foil_error *err) FOIL_MUST_USE;
int tls_bundle_check(struct foil_slice name, struct foil_slice ca, struct foil_slice crl, struct foil_error *err) FOIL_MUST_USE;

#define TLS_TICKET_KEY_BYTES 80u /* name 16, AES-256 32, HMAC-SHA-256 32 */
#define TLS_TICKET_KEYS_MAX 3u
/* keys[0] seals, all open. Keys come from whoever wants them shared between processes. NULL: no memory. */
struct tls_tickets *tls_tickets_new(const uint8_t keys[][TLS_TICKET_KEY_BYTES], uint32_t n_keys);
/* Workers use the new ones from their next handshake on. Not more often than once a second: four generations are kept for slow readers. */
void tls_tickets_rotate(struct tls_tickets *t, const uint8_t keys[][TLS_TICKET_KEY_BYTES], uint32_t n_keys);
void tls_tickets_free(struct tls_tickets *own_t); /* after all contexts and connections; wipes the keys */

/* ---- what a connection is: facts that filters, headers and logs read ---- */
struct tls_peer { /* of a certificate that was verified, or did not have to be (skip_verify, accept_untrusted) */
	struct foil_slice subject;     /* RFC 2253 */
	struct foil_slice issuer;
	struct foil_slice serial;      /* hex */
	struct foil_slice fingerprint; /* SHA-256 of the certificate, hex */
	struct foil_slice pem;         /* URL-encoded as x-forwarded-client-cert has it */
	const struct foil_slice *uri_sans, *dns_sans;
	uint16_t n_uri_sans, n_dns_sans;
	int64_t not_before_s, not_after_s;
};
struct tls_facts {
	struct foil_slice version; /* "TLSv1.3" */
	struct foil_slice cipher;  /* as OpenSSL names it */
	struct foil_slice alpn;    /* agreed; empty = none */
	struct foil_slice sni;
	struct foil_slice local_uri_san; /* of our certificate */
	bool is_resumed;
	const struct tls_peer *peer;   /* NULL: no certificate */
};

/* ---- streams: workers ---- */
/* A place among the client handshakes in flight (admit.c). Zeroed: none is held. */
struct tls_place {
	uint64_t prefix;
	bool is_held;
};
/* Takes one for a client that begins a handshake, unless p holds one. False: too many, in all or of source's network; counted under its reason. */
bool tls_place_take(struct foil_worker *w, struct tls_place *p, const struct stream_addr *source) FOIL_MUST_USE;
void tls_place_give(struct foil_worker *w, struct tls_place *p); /* nothing held is fine */

struct tls_server_params {
	struct tls_context *context;   /* the stream takes a reference of its own */
	const struct stream_user *user; /* opened: the handshake is done; closed before it: the handshake failed */
	void *user_data;
	struct foil_slice sni;         /* as peeked, for the facts; copied */
	uint64_t deadline_us;          /* absolute: the handshake must be done by then; 0 = TLS_HANDSHAKE_US from now */
	struct tls_place *place;       /* held by the caller, who has it no more after success; NULL: one is taken for below's remote */
};
#define TLS_HANDSHAKE_US 15000000u /* features.md GW-22 */
/* Takes an accepted stream below, whose user it becomes; what is in its rx already is read. Callbacks come later, never from inside.
 * 0 and *out; -ENOBUFS or -ENOMEM with below untouched (no connection block, no memory, too many handshakes). */
int tls_server_open(struct foil_worker *w, struct stream *below, const struct tls_server_params *p, struct stream **out) FOIL_MUST_USE;

struct tls_client_params {
	struct tls_context *context;
	const struct stream_user *user; /* opened: the handshake is done */
	void *user_data;
	struct foil_slice sni;         /* empty: none is sent */
	const struct foil_slice *sans; /* further names of which the peer must have one; copied */
	uint16_t n_sans;
};
/* below: opening or open. The connect timeout is its user's, over both. */
int tls_client_open(struct foil_worker *w, struct stream *below, const struct tls_client_params *p, struct stream **out) FOIL_MUST_USE;

/* The text of the failure that is being told, whatever stream it is of; "TLS_error" where there is none. Borrowed until the callback returns. */
struct foil_slice tls_failure(const struct foil_worker *w);

bool tls_is_stream(const struct stream *s);
/* Of an open TLS stream, until it is closed; NULL for every other stream. */
const struct tls_facts *tls_stream_facts(const struct stream *s);
/* Why the stream failed, in words, for the time of its closed callback; empty: it did not. */
struct foil_slice tls_stream_failure(const struct foil_worker *w, const struct stream *s);

/* ---- crypto threads: handshakes away from the workers (offload.c) ---- */
struct tls_crypto;
struct tls_crypto_params {
	uint16_t n_workers;
	uint32_t jobs_max; /* a worker's steps that are away at once; more are taken on the worker */
	void (*wake)(void *arg, uint16_t worker); /* from a crypto thread: something came back; NULL: the worker looks every turn */
	void *wake_arg;
};
struct tls_crypto *tls_crypto_new(const struct tls_crypto_params *p, struct foil_error *err); /* NULL with a sentence */
void tls_crypto_free(struct tls_crypto *own_x); /* after tls_fini of every worker, and after the threads have ended */
/* A crypto thread's life: while (tls_crypto_wait(x)) (void)tls_crypto_step(x). wait: until there may be something, false after stop. step: one handshake step,
 * false when there was none. tls_fini takes those of its worker back, whether threads live or not. */
bool tls_crypto_wait(struct tls_crypto *x) FOIL_MUST_USE;
bool tls_crypto_step(struct tls_crypto *x);
void tls_crypto_stop(struct tls_crypto *x, uint16_t n_threads);

enum tls_engine { TLS_ENGINE_AUTO, TLS_ENGINE_OPENSSL }; /* what seals and opens records: the best that the processor has; OpenSSL in any case */

struct tls_params {
	uint32_t conns_max;      /* 65536 */
	uint32_t handshakes_max; /* 8192: of clients, in flight at once; beyond it new ones are refused */
	uint32_t handshakes_prefix_max; /* of one network (admit.c); 0 = a quarter of handshakes_max */
	struct tls_crypto *crypto;      /* NULL: handshakes on the worker */
	uint32_t jobs_max;              /* as crypto was made with */
	enum tls_engine engine;
	uint32_t schedules_max;  /* 1024: ciphers' schedules that are kept, two a connection in use (aead.c) */
	bool openssl_records;    /* records stay with OpenSSL after the handshake: for comparison; CBC suites always do */
};
int tls_init(struct foil_worker *w, const struct tls_params *p, struct foil_error *err) FOIL_MUST_USE;
void tls_fini(struct foil_worker *w); /* before tcp_fini; users get no callback */
/* Once a loop turn, after packets and timers and before tcp_flush: what was put off from inside calls. */
void tls_turn(struct foil_worker *w);
/* Something waits for the next tls_turn. */
bool tls_has_work(const struct foil_worker *w);
