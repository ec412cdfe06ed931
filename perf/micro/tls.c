/* TLS handshakes without a wire: our stream over a stream that is two buffers, against a client or server of OpenSSL's. Only our side's cycles count, from
 * the connection's beginning to its end. "openssl" is a server of OpenSSL alone with the same certificate: what a program spends that lets it do all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "dataplane/core/error.h"
#include "dataplane/tls/tls.h"
#include "perf/micro/micro.h"

#define HANDSHAKES 300
#define OUT_BYTES 65536u

struct below {
	struct stream s; /* first */
	uint32_t n_out;
	uint8_t out[OUT_BYTES];
};

struct bench {
	struct micro *m;
	struct foil_worker *w;
	struct below below;
	struct stream *ours;
	bool is_open;
	EVP_PKEY *key;
	X509 *cert;
	char cert_pem[4096], key_pem[4096];
	struct tls_tickets *tickets;
	SSL_SESSION *session; /* the last one that the client was given */
	uint64_t cycles;
};

static void die(const char *what)
{
	fprintf(stderr, "bench: %s\n", what);
	ERR_print_errors_fp(stderr);
	exit(2);
}

/* ---- what both sides have ---- */
static void add_ext(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	if (!e || X509_add_ext(x, e, -1) != 1)
		die("no certificate extension");
	X509_EXTENSION_free(e);
}

static void make_cert(struct bench *b)
{
	X509 *x = X509_new();
	BIO *text = BIO_new(BIO_s_mem());
	X509_NAME *name = X509_get_subject_name(x);

	b->key = EVP_EC_gen("P-256");
	(void)X509_set_version(x, 2); /* what fails here shows when it is signed and used */
	(void)ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	(void)X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	(void)X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	(void)X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bench", -1, -1, 0);
	(void)X509_set_issuer_name(x, name);
	(void)X509_set_pubkey(x, b->key);
	add_ext(x, NID_basic_constraints, "critical,CA:TRUE");
	add_ext(x, NID_subject_alt_name, "URI:spiffe://cluster.local/ns/default/sa/bench");
	if (X509_sign(x, b->key, EVP_sha256()) <= 0 || PEM_write_bio_X509(text, x) != 1 || BIO_read(text, b->cert_pem, sizeof(b->cert_pem) - 1) <= 0 ||
	    PEM_write_bio_PrivateKey(text, b->key, NULL, NULL, 0, NULL, NULL) != 1 || BIO_read(text, b->key_pem, sizeof(b->key_pem) - 1) <= 0)
		die("no certificate");
	b->cert = x;
	BIO_free(text);
}

static struct tls_context *context(struct bench *b, bool is_server, bool is_mutual)
{
	const struct tls_identity id = {.name = FOIL_SLICE("bench"), .chain = foil_slice_str(b->cert_pem), .key = foil_slice_str(b->key_pem)};
	struct tls_context_params p = {.is_server = is_server, .tickets = b->tickets, .ca_name = FOIL_SLICE("bench")};
	struct tls_context *c = NULL;
	struct foil_error err = {0};

	if (is_server || is_mutual) {
		p.identities = &id;
		p.n_identities = 1;
	}
	if (!is_server || is_mutual)
		p.ca = foil_slice_str(b->cert_pem);
	p.auth = is_mutual ? TLS_AUTH_REQUIRED : TLS_AUTH_NONE;
	if (tls_context_new(&p, &c, &err) != 0)
		die(err.text);
	return c;
}

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	struct bench *b = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	SSL_SESSION_free(b->session);
	b->session = session;
	return 1;
}

static SSL_CTX *peer_context(struct bench *b, bool is_server, bool is_mutual, const char *groups)
{
	SSL_CTX *c = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());

	if (!c || SSL_CTX_set1_groups_list(c, groups) != 1 || SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) != 1)
		die("no context");
	if ((is_server || is_mutual) && (SSL_CTX_use_certificate(c, b->cert) != 1 || SSL_CTX_use_PrivateKey(c, b->key) != 1))
		die("no certificate for the peer");
	if (is_mutual) {
		(void)X509_STORE_add_cert(SSL_CTX_get_cert_store(c), b->cert); /* shows at the first handshake */
		SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	}
	(void)SSL_CTX_set_app_data(c, b); /* so does this */
	(void)SSL_CTX_set_session_cache_mode(c, is_server ? SSL_SESS_CACHE_OFF : SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
	(void)SSL_CTX_set_num_tickets(c, 1);
	SSL_CTX_sess_set_new_cb(c, keep_session);
	return c;
}

static SSL *peer_new(SSL_CTX *c, bool is_server)
{
	SSL *ssl = SSL_new(c);

	if (!ssl)
		die("no connection");
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	if (is_server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

/* In order, or its session is good for nothing. */
static void peer_free(SSL *ssl)
{
	SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(ssl);
}

/* The peer's next step; true: it is done. A client that is done reads what else there is: tickets. */
static bool peer_step(SSL *ssl)
{
	uint8_t byte;
	bool is_done = SSL_do_handshake(ssl) == 1;

	if (is_done)
		(void)SSL_read(ssl, &byte, 1); /* there is none */
	ERR_clear_error();
	return is_done;
}

/* ---- our side ---- */
static void op_write(struct foil_worker *w, struct stream *s, struct foil_chain *own)
{
	struct below *b = (struct below *)(void *)s;

	(void)w;
	if (b->n_out + own->n_bytes > OUT_BYTES)
		die("too much");
	foil_chain_copy_out(own, 0, b->out + b->n_out, own->n_bytes);
	b->n_out += own->n_bytes;
	foil_chain_clear(own);
}

static void op_end(struct foil_worker *w, struct stream *s)
{
	(void)w;
	foil_chain_clear(&s->rx);
}

static void op_nothing(struct foil_worker *w, struct stream *s)
{
	(void)w;
	(void)s;
}

static const struct stream_ops below_ops = {op_write, op_nothing, op_end, op_end, op_nothing};

static void on_opened(struct foil_worker *w, struct stream *s)
{
	(void)w;
	((struct bench *)s->user_data)->is_open = true;
}

static void on_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	struct foil_slice text = tls_stream_failure(w, s);

	(void)why;
	fprintf(stderr, "%.*s\n", (int)text.n_bytes, text.data ? text.data : "");
	die("a handshake failed");
}

static const struct stream_user user = {.opened = on_opened, .closed = on_closed};

static void ours_new(struct bench *b, struct tls_context *c, bool is_server)
{
	const struct tls_server_params s = {.context = c, .user = &user, .user_data = b};
	const struct tls_client_params p = {.context = c, .user = &user, .user_data = b};

	memset(&b->below.s, 0, sizeof(b->below.s));
	b->below.s.ops = &below_ops;
	b->below.s.is_open = true;
	b->below.s.tx_high_bytes = STREAM_TX_HIGH_BYTES;
	b->below.n_out = 0;
	b->is_open = false;
	if ((is_server ? tls_server_open(b->w, &b->below.s, &s, &b->ours) : tls_client_open(b->w, &b->below.s, &p, &b->ours)) != 0)
		die("no stream");
}

/* Apart, so that a profiler can be told to count this alone (callgrind --toggle-collect=ours_step). */
static __attribute__((noinline)) void ours_step(struct bench *b, struct tls_context *opens, bool is_server, bool ends)
{
	uint64_t before = rig_cycles();

	if (opens)
		ours_new(b, opens, is_server);
	if (b->below.s.rx.n_bytes)
		b->below.s.user->readable(b->w, &b->below.s);
	tls_turn(b->w);
	if (ends)
		stream_abort(b->w, b->ours);
	b->cycles += rig_cycles() - before;
}

static void to_ours(struct bench *b, SSL *peer)
{
	uint8_t bytes[16384];
	int n;

	while ((n = BIO_read(SSL_get_wbio(peer), bytes, sizeof(bytes))) > 0)
		if (foil_chain_append(b->w, &b->below.s.rx, bytes, (uint32_t)n) != 0)
			die("no mbuf");
}

static void to_peer(struct bench *b, SSL *peer)
{
	if (b->below.n_out && BIO_write(SSL_get_rbio(peer), b->below.out, (int)b->below.n_out) != (int)b->below.n_out)
		die("no memory");
	b->below.n_out = 0;
}

static void handshake(struct bench *b, struct tls_context *c, bool is_server, SSL *peer)
{
	b->cycles = 0;
	if (is_server)
		(void)peer_step(peer); /* its hello */
	ours_step(b, c, is_server, false);
	for (int i = 0; i < 4 && (!b->is_open || !SSL_is_init_finished(peer)); i++) {
		to_peer(b, peer);
		(void)peer_step(peer); /* whether it is done is asked above */
		to_ours(b, peer);
		ours_step(b, NULL, is_server, false);
	}
	if (!b->is_open || !SSL_is_init_finished(peer))
		die("a handshake did not end");
	to_peer(b, peer);
	(void)peer_step(peer); /* tickets */
	ours_step(b, NULL, is_server, true);
	rig_note(&b->m->figures, b->cycles);
}

/* ---- OpenSSL alone ---- */
static __attribute__((noinline)) bool alone_step(struct bench *b, SSL_CTX *opens, SSL **own, bool ends)
{
	uint64_t before = rig_cycles();
	bool is_done = false;

	if (opens)
		*own = peer_new(opens, true);
	if (ends)
		SSL_free(*own);
	else
		is_done = SSL_do_handshake(*own) == 1;
	b->cycles += rig_cycles() - before;
	return is_done;
}

static void move(SSL *from, SSL *to)
{
	uint8_t bytes[16384];
	int n;

	while ((n = BIO_read(SSL_get_wbio(from), bytes, sizeof(bytes))) > 0)
		(void)BIO_write(SSL_get_rbio(to), bytes, n); /* what is lost shows as a handshake that does not end */
}

static void handshake_alone(struct bench *b, SSL_CTX *servers, SSL *client)
{
	SSL *server = NULL;
	bool is_done = false;

	b->cycles = 0;
	(void)peer_step(client); /* its hello */
	(void)alone_step(b, servers, &server, false); /* it has nothing yet */
	for (int i = 0; i < 4 && !is_done; i++) {
		move(client, server);
		is_done = alone_step(b, NULL, &server, false);
		move(server, client);
		(void)peer_step(client); /* whether all is done is asked of the server */
	}
	if (!is_done)
		die("a handshake of OpenSSL's alone did not end");
	(void)alone_step(b, NULL, &server, true); /* ends it */
	rig_note(&b->m->figures, b->cycles);
}

/* ---- figures ---- */
struct figure {
	const char *name, *groups;
	bool is_alone, is_server, is_mutual, resumes;
};

static void run(struct bench *b, const struct figure *f)
{
	struct tls_context *ours = f->is_alone ? NULL : context(b, f->is_server, f->is_mutual);
	SSL_CTX *alone = f->is_alone ? peer_context(b, true, false, f->groups) : NULL;
	SSL_CTX *peers = peer_context(b, !f->is_server, f->is_mutual, f->groups);

	if (b->m->only && strcmp(b->m->only, f->name) != 0)
		goto out;
	for (int i = 0; i < HANDSHAKES; i++) {
		SSL *peer = peer_new(peers, !f->is_server);
		if (f->resumes && b->session && SSL_set_session(peer, b->session) != 1)
			die("no session");
		if (f->is_alone)
			handshake_alone(b, alone, peer);
		else
			handshake(b, ours, f->is_server, peer);
		if (f->resumes && i && !SSL_session_reused(peer))
			die("a session was not resumed");
		peer_free(peer);
	}
	micro_say(b->m, f->name, 1);
out:
	SSL_SESSION_free(b->session);
	b->session = NULL;
	SSL_CTX_free(peers);
	SSL_CTX_free(alone);
	tls_context_put(ours);
}

void micro_tls(struct micro *m)
{
	static struct bench bench;
	static const uint8_t keys[1][TLS_TICKET_KEY_BYTES] = {{1}};
	static const struct figure figures[] = {
		{.name = "tls.server_full", .groups = "X25519", .is_server = true},
		{.name = "tls.openssl_full", .groups = "X25519", .is_server = true, .is_alone = true},
		{.name = "tls.server_resumed", .groups = "X25519", .is_server = true, .resumes = true},
		{.name = "tls.openssl_resumed", .groups = "X25519", .is_server = true, .is_alone = true, .resumes = true},
		{.name = "tls.server_full_p256", .groups = "P-256", .is_server = true},
		{.name = "tls.server_mutual", .groups = "X25519", .is_server = true, .is_mutual = true},
		{.name = "tls.client_full", .groups = "X25519"},
		{.name = "tls.client_mutual", .groups = "X25519", .is_mutual = true},
	};
	const struct tls_params p = {.conns_max = 64};
	struct bench *b = &bench;
	struct foil_error err = {0};

	b->m = m;
	b->w = &m->rig.w;
	b->w->wall_us = (uint64_t)time(NULL) * 1000000u;
	if (tls_init(b->w, &p, &err) != 0)
		die(err.text);
	make_cert(b);
	b->tickets = tls_tickets_new(keys, 1);
	if (!b->tickets)
		die("no memory");
	for (size_t i = 0; i < FOIL_COUNT_OF(figures); i++)
		run(b, &figures[i]);
	tls_tickets_free(b->tickets);
	tls_fini(b->w);
	X509_free(b->cert);
	EVP_PKEY_free(b->key);
}
