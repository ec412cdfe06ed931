/* What the files of dataplane/tls share: contexts, connection blocks, the worker's context. */
#pragma once

#include <openssl/provider.h>
#include <openssl/ssl.h>

#include "dataplane/core/blob.h"
#include "dataplane/tls/tls.h"

struct tls_context {
	SSL_CTX *ssl;
	OSSL_PROVIDER *provider; /* a reference */
	uint32_t n_refs; /* atomic */
	bool is_server, skip_verify, accept_untrusted;
	struct foil_slice alpn;
	const struct foil_slice *sans;
	const uint8_t (*cert_hashes)[32], (*spki_hashes)[32];
	uint16_t n_sans, n_cert_hashes, n_spki_hashes;
	struct tls_tickets *tickets;
	struct foil_slice local_uri_san;
	int64_t not_before_s, not_after_s;
	struct tls_staple {
		X509 *leaf;              /* a reference */
		struct foil_slice response;
		int64_t until_s;         /* its nextUpdate; 0: it names none */
	} staples[TLS_IDENTITIES_MAX];
	uint16_t n_staples;
	struct foil_blob blob; /* the copies, this struct included */
};

#define TLS_TICKET_GENERATIONS 4
struct tls_ticket_set {
	uint32_t n_keys;
	uint8_t keys[TLS_TICKET_KEYS_MAX][TLS_TICKET_KEY_BYTES];
};
struct tls_tickets {
	const struct tls_ticket_set *now; /* one of the sets; workers load it once a use */
	EVP_CIPHER *cipher;
	uint32_t next;
	struct foil_blob blob;
	struct tls_ticket_set sets[TLS_TICKET_GENERATIONS];
};

/* ---- pem.c: what PEM text holds. Errors name `name` */
/* Certificates in order, at most TLS_CHAIN_MAX; at least one. NULL with err. */
#define TLS_CHAIN_MAX 16
#define TLS_BUNDLE_MAX 4096
STACK_OF(X509) *tls_pem_certs(struct foil_slice name, const char *what, struct foil_slice pem, int n_max, struct foil_error *err);
EVP_PKEY *tls_pem_key(struct foil_slice name, struct foil_slice pem, struct foil_error *err);
STACK_OF(X509_CRL) *tls_pem_crls(struct foil_slice name, struct foil_slice pem, struct foil_error *err);
/* What OpenSSL said last, for a sentence; clears its queue. */
const char *tls_openssl_text(char *buf, size_t n_bytes);
int64_t tls_time_s(const ASN1_TIME *t); /* 0 when it cannot be read */

/* ---- staple.c: OCSP responses that a server sends along (RFC 6066 8, RFC 8446 4.4.2.1) */
/* Reads a DER response; *until_s as tls_context has it. 0 or -EINVAL with a sentence that names the secret. */
int tls_staple_check(struct foil_slice name, struct foil_slice response, int64_t *until_s, struct foil_error *err) FOIL_MUST_USE;
int tls_staple_callback(SSL *ssl, void *arg);

/* ---- names.c: subject alternative names */
enum tls_san_kind { TLS_SAN_URI, TLS_SAN_DNS, TLS_SAN_IP };
struct tls_san {
	enum tls_san_kind kind;
	struct foil_slice text; /* of an IP: its 4 or 16 bytes */
};
/* Calls each for every name, but for those with bytes that no name has, until it returns false. */
void tls_sans_each(X509 *cert, bool (*each)(void *data, const struct tls_san *san), void *data);
/* The certificate has one of the names: URI exactly, or under the name where that ends in '/'; DNS as RFC 6125 with one wildcard label, IP by value. */
bool tls_cert_has_name(X509 *cert, const struct foil_slice *names, size_t n_names);

/* ---- hash.c: SHA-256 and SHA-384 */
#define TLS_HASH_BYTES_MAX 48u
uint32_t tls_hash_bytes(bool is_sha384); /* 32 or 48: what each out of these has, but for expand_label's */
void tls_hash_of_nothing(bool is_sha384, uint8_t *out);
void tls_hmac(bool is_sha384, struct foil_slice key, const struct foil_slice *parts, uint32_t n_parts, uint8_t *out); /* out may be one of the parts */
/* HKDF-Expand-Label (RFC 8446 7.1), label with its prefix. False: a label or context of more than 255 bytes, or more asked than HKDF has. */
bool tls_expand_label(bool is_sha384, struct foil_slice secret, struct foil_slice label, struct foil_slice context, uint8_t *out, size_t n_out) FOIL_MUST_USE;

/* ---- aead.c: ciphers under the records; one a worker */
#define TLS_TAG_BYTES 16u
#define TLS_SLOTS 1024u /* schedules that a worker keeps, 1 KB each; a connection that is in use has two */
enum tls_cipher { TLS_CIPHER_AES_128_GCM, TLS_CIPHER_AES_256_GCM, TLS_CIPHER_CHACHA20_POLY1305, TLS_CIPHER_COUNT };
struct tls_aead;
struct tls_aead_params {
	enum tls_engine engine;
	uint32_t n_slots; /* 2 at least */
};
int tls_aead_new(const struct tls_aead_params *p, struct tls_aead **out) FOIL_MUST_USE; /* 0 or -ENOMEM */
void tls_aead_free(struct tls_aead *own_a);
const char *tls_aead_engine(const struct tls_aead *a); /* what does AES-GCM: "ipsec-mb" or "openssl" */

struct tls_slot;
struct tls_half { /* one direction; does not move while it has a slot */
	uint64_t seq;
	struct tls_slot *slot; /* where key is ready to be used; NULL: it is made so at the next record */
	uint8_t iv[12];
	uint8_t cipher; /* enum tls_cipher */
	bool is_tx;
	uint8_t key[32];
	uint8_t secret[48]; /* TLS 1.3 */
};
struct tls_beside { /* what a record is sealed with beside its key */
	uint8_t nonce[12], own[13];
	const uint8_t *aad; /* a record's is own */
	uint32_t n_aad;
};
/* From here on records of h go by this key; its seq begins at 0. */
void tls_half_start(struct tls_aead *a, struct tls_half *h, enum tls_cipher cipher, const uint8_t *key, bool is_tx);
void tls_half_wipe(struct tls_aead *a, struct tls_half *h); /* zeroed is fine */
/* A record in parts, one at a time: begin, more (n > 0) as often as needed, then tag or check. What comes out of opening is nobody's before check said that
 * it is good. False: OpenSSL failed; of check: the tag is another. */
bool tls_aead_begin(struct tls_aead *a, struct tls_half *h, const struct tls_beside *b) FOIL_MUST_USE;
bool tls_aead_more(struct tls_aead *a, struct tls_half *h, uint8_t *to, const uint8_t *from, uint32_t n) FOIL_MUST_USE;
bool tls_aead_tag(struct tls_aead *a, struct tls_half *h, uint8_t tag[TLS_TAG_BYTES]) FOIL_MUST_USE;
bool tls_aead_check(struct tls_aead *a, struct tls_half *h, uint8_t tag[TLS_TAG_BYTES]) FOIL_MUST_USE;
/* The same of n bytes in place. Seal writes the tag; open compares it: OK, BAD (bytes are nobody's), NO_MEMORY. */
enum tls_open { TLS_OPEN_OK, TLS_OPEN_MORE, TLS_OPEN_BAD, TLS_OPEN_NO_MEMORY };
bool tls_aead_seal(struct tls_aead *a, struct tls_half *h, const struct tls_beside *b, uint8_t *bytes, uint32_t n,
		   uint8_t tag[TLS_TAG_BYTES]) FOIL_MUST_USE;
enum tls_open tls_aead_open(struct tls_aead *a, struct tls_half *h, const struct tls_beside *b, uint8_t *bytes, uint32_t n,
			    uint8_t tag[TLS_TAG_BYTES]) FOIL_MUST_USE;

/* ---- record.c: our records, after a handshake */
#define TLS_RECORD_BYTES_MAX 16384u /* RFC 8446 5.1 */
enum { TLS_TYPE_CCS = 20, TLS_TYPE_ALERT = 21, TLS_TYPE_HANDSHAKE = 22, TLS_TYPE_DATA = 23 };
struct tls_records {
	uint32_t n_skip, n_empty;
	uint8_t cipher, n_key;
	bool is_sha384, is_ours, is_server, is_tls13, has_explicit_nonce, has_rx_secret, has_tx_secret;
	uint8_t message[4], n_message; /* a handshake message's header, as far as it came */
	uint8_t alert;                 /* heard, or to be sent */
	struct tls_half rx, tx;
};
struct tls_sink { /* where bytes of a record go: fresh mbufs */
	struct foil_worker *w;
	struct foil_chain chain;
	struct rte_mbuf *m; /* not in the chain yet */
};
void tls_sink_close(struct tls_sink *k); /* all is in the chain now */
/* A record's beginning and the n bytes of from at offset. False: no mbuf, or OpenSSL failed. */
bool tls_aead_run(struct tls_aead *a, struct tls_half *h, const struct tls_beside *b, const struct foil_chain *from, uint32_t offset, uint32_t n,
		  struct tls_sink *to) FOIL_MUST_USE;
/* Takes the keys of a finished handshake; n_sent records went out under ours already (TLS 1.3). False: OpenSSL keeps them. */
bool tls_records_take(struct tls_aead *a, struct tls_records *r, const SSL *ssl, uint32_t n_sent) FOIL_MUST_USE;
void tls_records_free(struct tls_aead *a, struct tls_records *r); /* wipes */
/* The next keys of a direction (RFC 8446 7.2). */
bool tls_records_update(struct tls_aead *a, struct tls_records *r, bool is_tx) FOIL_MUST_USE;
/* One record of n <= TLS_RECORD_BYTES_MAX bytes of plain at offset, to the end of out. 0, or -ENOBUFS with out as it was. */
int tls_records_seal(struct foil_worker *w, struct tls_records *r, uint8_t type, const struct foil_chain *plain, uint32_t offset, uint32_t n,
		     struct foil_chain *out) FOIL_MUST_USE;
/* Takes one record from rx. OK: out (empty before) has what is in it. BAD: *alert says what to answer. */
enum tls_open tls_records_open(struct foil_worker *w, struct tls_records *r, struct foil_chain *rx, struct foil_chain *out, uint8_t *type, uint8_t *alert);

/* ---- provider.c: what of OpenSSL's work is ours */
#define TLS_PROPERTIES "?provider=foil" /* what contexts fetch with */
OSSL_PROVIDER *tls_provider_get(void); /* NULL: no memory */
void tls_provider_put(OSSL_PROVIDER *own); /* NULL is fine */
/* From here on this thread's handshake is of these records, which get the traffic secrets of TLS 1.3; NULL: of none. */
void tls_secrets_to(const OSSL_PROVIDER *provider, struct tls_records *r);

/* ---- record_in.c: what they say */
enum tls_heard {
	TLS_HEARD_NOTHING, /* go on */
	TLS_HEARD_DATA,    /* c holds it */
	TLS_HEARD_CLOSE,
	TLS_HEARD_ALERT,   /* a fatal one: r->alert */
	TLS_HEARD_BAD,     /* answer with r->alert */
	TLS_HEARD_NO_MEMORY
};
/* c: a record's content, taken unless DATA. out: gets answers. */
enum tls_heard tls_records_hear(struct foil_worker *w, struct tls_records *r, uint8_t type, struct foil_chain *c, struct foil_chain *out);
int tls_records_alert(struct foil_worker *w, struct tls_records *r, uint8_t level, uint8_t what, struct foil_chain *out) FOIL_MUST_USE;
int tls_records_send_update(struct foil_worker *w, struct tls_records *r, struct foil_chain *out) FOIL_MUST_USE;

/* ---- connections */
enum tls_state {
	TLS_STATE_OPENING,   /* client: the stream below is not open yet */
	TLS_STATE_HANDSHAKE,
	TLS_STATE_OPEN,
	TLS_STATE_FINISHED,  /* both sides ended in order; rx may still hold bytes */
	TLS_STATE_CLOSED     /* the user has been told, or has let go */
};
enum tls_event { TLS_EV_INPUT = 1, TLS_EV_WRITABLE = 2, TLS_EV_CLOSED = 4, TLS_EV_FAIL = 8, TLS_EV_SEAL = 16 };

#define TLS_NAME_BYTES 80u /* "outbound_.8080_.subset_.service.namespace.svc.cluster.local" */
struct tls_conn {
	struct stream s; /* what the user has */
	struct foil_worker *w;
	struct stream *below; /* NULL: closed or let go */
	SSL *ssl;            /* NULL: the records are ours */
	struct tls_job *job; /* the handshake's step that a crypto thread has; NULL: none is away */
	struct tls_records rec;
	struct tls_context *context;
	struct foil_chain out;   /* records that this call made */
	struct foil_chain plain; /* written and not sealed yet: before the handshake is done, or until the turn's end */
	struct tls_conn *next_pending, **pprev_pending;
	struct tls_conn *next_all, **pprev_all;
	uint32_t n_consumed;     /* of below's rx, not told yet */
	uint32_t n_sealed_bytes; /* since the connection was idle: decides how large records are */
	uint64_t sealed_us;      /* last time */
	uint8_t state, events, n_pins;
	bool is_dead, got_close_notify, is_stalled, no_memory, is_counted, below_ended;
	enum stream_end end;     /* what closed will say */
	enum tls_reason reason;  /* why it failed; while verifying: what is wrong with the certificate */
	long verify_error;
	struct foil_timer timer; /* the handshake's deadline */
	struct tls_place place;
	const struct foil_slice *sans;
	uint16_t n_sans;
	struct foil_arena arena; /* the handshake's; later nothing, unless keeps_arena */
	bool keeps_arena;        /* facts point into it: a name is long */
	struct tls_facts facts;  /* peer is shared: facts.c */
	char name[TLS_NAME_BYTES]; /* facts.sni, if it fits with a zero behind it */
};
static_assert(sizeof(struct tls_conn) <= 13 * 64, "see docs/memory.md");

/* What is told of a certificate, made once for all connections whose peer showed it. */
#define TLS_PEER_BUCKETS 1024u
struct tls_peer_kept {
	struct tls_peer peer; /* first */
	struct tls_peer_kept *next; /* of its bucket */
	struct foil_arena arena;
	uint32_t n_conns;
	uint8_t hash[32]; /* SHA-256 of the certificate */
};

/* ---- admit.c */
struct tls_prefix {
	uint64_t prefix;
	uint32_t n; /* handshakes in flight; 0: a free slot */
};
struct tls_places {
	struct tls_prefix *slots;
	uint32_t mask, n, n_max, n_prefix_max;
};
int tls_places_init(struct tls_places *t, uint32_t n_max, uint32_t n_prefix_max) FOIL_MUST_USE; /* 0 or -ENOMEM */
void tls_places_fini(struct tls_places *t);

/* ---- offload.c */
struct tls_step { /* what SSL_do_handshake said */
	bool is_done, wants_read;
	unsigned long error; /* OpenSSL's last; 0: none */
};
struct tls_job { /* a step that is away: written by the worker before, by a crypto thread while it is there */
	uint8_t *in, *out;
	size_t out_bytes, n_out;
	uint32_t n_in, n_read;
	uint64_t wall_us;
	uint32_t n_tickets_sealed, n_tickets_refused;
	uint16_t worker;
	bool no_memory;
	bool is_moot;  /* atomic: the connection has ended meanwhile, the step need not be taken */
	struct tls_step step;
};
/* The next step of the handshake, here and now. */
void tls_step(struct tls_conn *c, struct tls_step *s);
/* False: it cannot go (no crypto threads, too many there, no memory), take the step here. */
bool tls_hand_off(struct foil_worker *w, struct tls_conn *c);
/* One that came back, its bytes settled and its pin still on; NULL: none. */
struct tls_conn *tls_take_back(struct foil_worker *w, struct tls_step *s);
bool tls_job_write(struct tls_job *j, const void *data, size_t n); /* false: no memory, or more than a flight may have */

struct tls_pool { /* as tcp's: reserved at init, touched when first used */
	uint8_t *base;
	void *free;
	uint32_t bytes_each, n_max, n_fresh, n_live;
	size_t n_bytes;
};

int tls_pool_init(struct tls_pool *p, uint32_t bytes_each, uint32_t n_max) FOIL_MUST_USE; /* 0 or -ENOMEM */
void *tls_pool_take(struct tls_pool *p); /* zeroed; NULL when all are in use */
void tls_pool_give(struct tls_pool *p, void *block);

struct tls_ctx {
	struct tls_pool conns, peers;
	struct tls_peer_kept *peers_by_hash[TLS_PEER_BUCKETS];
	struct tls_places places;
	struct tls_crypto *crypto;
	uint32_t n_jobs, jobs_max;
	bool keeps_openssl;
	struct tls_conn *pending, **pending_tail;
	struct tls_conn *all; /* live ones, for fini */
	BIO_METHOD *bio;
	struct tls_aead *aead;
	struct rte_mbuf *spare; /* for the next read */
	const struct tls_conn *failing; /* whose closed callback runs */
	char failure[256];
	uint8_t scratch[TLS_HELLO_BYTES_MAX];
	uint8_t record[TLS_RECORD_BYTES_MAX];
};

/* ---- bio.c: OpenSSL reads from below's rx and writes to c->out */
BIO_METHOD *tls_bio_method_new(void);

/* ---- verify.c */
int tls_verify_callback(X509_STORE_CTX *x, void *arg);

/* ---- tickets.c */
int tls_ticket_callback(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int is_sealing);

/* ---- facts.c */
/* Fills c->facts after the handshake; false: no memory. */
bool tls_facts_fill(struct foil_worker *w, struct tls_conn *c);
/* What is told of a certificate whose hash is in kept already. False: no memory; the arena is the caller's then. */
bool tls_peer_read(struct foil_worker *w, struct tls_peer_kept *kept, X509 *cert);
void tls_peer_put(struct foil_worker *w, const struct tls_peer *own_peer); /* NULL is fine */
/* name (not empty) for as long as c lives, a zero behind it; {NULL, 0}: no memory. Once a connection. */
struct foil_slice tls_name_keep(struct foil_worker *w, struct tls_conn *c, struct foil_slice name) FOIL_MUST_USE;

/* ---- reason.c */
/* What OpenSSL's error code means (the last of its queue, which is emptied); writes the failure's text. */
enum tls_reason tls_reason_of(struct foil_worker *w, struct tls_conn *c, unsigned long e);

/* ---- conn.c */
void tls_recall(struct foil_worker *w); /* waits for what is away, and takes it back without a word to anybody */
void tls_conn_free(struct foil_worker *w, struct tls_conn *c); /* without a word to anybody */

static inline struct tls_conn *tls_conn_of_ssl(const SSL *ssl)
{
	return SSL_get_ex_data(ssl, 0);
}
