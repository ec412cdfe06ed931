/* See rig.h. */
#include "tests/unit/tls/rig.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <sched.h>
#include <stdlib.h>

#include "dataplane/tls/tls_priv.h"

#define WALL_S ((int64_t)(T_WALL_US / 1000000u))
#define YEAR_S 31536000
#define OUT_BYTES (4u << 20)

/* ---- certificates ---- */
static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(e);
	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

static void to_pem(struct t_cert *c)
{
	BIO *b = BIO_new(BIO_s_mem());

	assert_int_equal(PEM_write_bio_X509(b, c->x), 1);
	int n = BIO_read(b, c->pem, sizeof(c->pem) - 1);
	assert_true(n > 0);
	assert_int_equal(PEM_write_bio_PrivateKey(b, c->key, NULL, NULL, 0, NULL, NULL), 1);
	n = BIO_read(b, c->key_pem, sizeof(c->key_pem) - 1);
	assert_true(n > 0);
	BIO_free(b);
}

struct t_cert *t_cert_new(struct t_cert_params p)
{
	static long serial = 1;
	struct t_cert *c = calloc(1, sizeof(*c));
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);

	c->key = p.key == T_KEY_RSA ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
	assert_non_null(c->key);
	c->x = x;
	assert_int_equal(X509_set_version(x, 2), 1);
	ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
	ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(WALL_S + (p.from_s ? p.from_s : -YEAR_S)));
	ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(WALL_S + (p.to_s ? p.to_s : YEAR_S)));
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)p.cn, -1, -1, 0);
	X509_set_issuer_name(x, p.issuer ? X509_get_subject_name(p.issuer->x) : name);
	X509_set_pubkey(x, c->key);
	add_ext(x, p.issuer ? p.issuer->x : x, NID_basic_constraints, p.is_ca ? "critical,CA:TRUE" : "CA:FALSE");
	if (p.is_ca)
		add_ext(x, x, NID_key_usage, "critical,keyCertSign,cRLSign");
	if (p.sans)
		add_ext(x, x, NID_subject_alt_name, p.sans);
	if (p.usage)
		add_ext(x, x, NID_ext_key_usage, p.usage);
	assert_true(X509_sign(x, p.issuer ? p.issuer->key : c->key, EVP_sha256()) > 0);
	to_pem(c);
	return c;
}

void t_cert_free(struct t_cert *c)
{
	X509_free(c->x);
	EVP_PKEY_free(c->key);
	free(c);
}

const char *t_crl(const struct t_cert *ca, const struct t_cert *revoked, char *out, size_t n)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *t = ASN1_TIME_set(NULL, (time_t)(WALL_S - YEAR_S));

	X509_CRL_set_version(crl, 1);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->x));
	X509_CRL_set1_lastUpdate(crl, t);
	ASN1_TIME_set(t, (time_t)(WALL_S + YEAR_S));
	X509_CRL_set1_nextUpdate(crl, t);
	if (revoked) {
		X509_REVOKED *r = X509_REVOKED_new();
		X509_REVOKED_set_serialNumber(r, X509_get_serialNumber(revoked->x));
		ASN1_TIME_set(t, (time_t)(WALL_S - 60));
		X509_REVOKED_set_revocationDate(r, t);
		assert_int_equal(X509_CRL_add0_revoked(crl, r), 1);
	}
	assert_true(X509_CRL_sign(crl, ca->key, EVP_sha256()) > 0);
	BIO *b = BIO_new(BIO_s_mem());
	assert_int_equal(PEM_write_bio_X509_CRL(b, crl), 1);
	int got = BIO_read(b, out, (int)n - 1);
	assert_true(got > 0);
	out[got] = 0;
	BIO_free(b);
	ASN1_TIME_free(t);
	X509_CRL_free(crl);
	return out;
}

/* ---- contexts ---- */
SSL_CTX *t_peer_ctx(bool is_server, const struct t_cert *cert)
{
	SSL_CTX *c = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());

	assert_non_null(c);
	if (cert) {
		assert_int_equal(SSL_CTX_use_certificate(c, cert->x), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey(c, cert->key), 1);
	}
	return c;
}

struct tls_context *t_server(const struct t_cert *cert, const struct t_cert *ca, enum tls_peer_auth auth, struct tls_tickets *tickets)
{
	struct tls_identity id = {.name = FOIL_SLICE("server"), .chain = foil_slice_str(cert->pem), .key = foil_slice_str(cert->key_pem)};
	struct tls_context_params p = {.is_server = true, .identities = &id, .n_identities = 1, .auth = auth, .ca_name = FOIL_SLICE("ca"),
				       .ca = ca ? foil_slice_str(ca->pem) : (struct foil_slice){NULL, 0}, .tickets = tickets,
				       .alpn = FOIL_SLICE("\x02h2\x08http/1.1")};
	struct tls_context *c = NULL;
	struct foil_error err = {0};

	if (tls_context_new(&p, &c, &err) != 0)
		fail_msg("%s", err.text);
	return c;
}

struct tls_context *t_client(const struct t_cert *ca)
{
	struct tls_context_params p = {.ca_name = FOIL_SLICE("ca"), .ca = foil_slice_str(ca->pem), .alpn = FOIL_SLICE("\x08http/1.1")};
	struct tls_context *c = NULL;
	struct foil_error err = {0};

	if (tls_context_new(&p, &c, &err) != 0)
		fail_msg("%s", err.text);
	return c;
}

/* ---- the stream below ---- */
static struct rig_below *below_of(struct stream *s)
{
	return (struct rig_below *)(void *)s;
}

static void op_write(struct foil_worker *w, struct stream *s, struct foil_chain *own)
{
	struct rig_below *b = below_of(s);

	(void)w;
	assert_false(b->is_aborted || b->is_released);
	assert_true(b->n_out + own->n_bytes <= OUT_BYTES);
	foil_chain_copy_out(own, 0, b->out + b->n_out, own->n_bytes);
	b->n_out += own->n_bytes;
	if (b->hold_acks) {
		s->tx_queued_bytes += own->n_bytes;
		s->was_full |= s->tx_queued_bytes >= s->tx_high_bytes;
	}
	foil_chain_clear(own);
}

static void op_shutdown(struct foil_worker *w, struct stream *s)
{
	(void)w;
	below_of(s)->is_shut = s->tx_shut = true;
}

static void op_abort(struct foil_worker *w, struct stream *s)
{
	(void)w;
	below_of(s)->is_aborted = true;
	foil_chain_clear(&s->rx);
}

static void op_release(struct foil_worker *w, struct stream *s)
{
	(void)w;
	below_of(s)->is_released = true;
	foil_chain_clear(&s->rx);
}

static void op_consumed(struct foil_worker *w, struct stream *s)
{
	(void)w;
	(void)s;
}

static const struct stream_ops below_ops = {op_write, op_shutdown, op_abort, op_release, op_consumed};

/* ---- our user ---- */
static void on_opened(struct foil_worker *w, struct stream *s)
{
	struct rig *r = s->user_data;

	(void)w;
	r->n_opened++;
	if (r->on_opened)
		r->on_opened(r);
}

static void on_readable(struct foil_worker *w, struct stream *s)
{
	struct rig *r = s->user_data;

	r->n_readable++;
	if (!r->keep && s->rx.n_bytes)
		assert_int_equal(stream_take(w, s, s->rx.n_bytes, &r->got), 0);
	if (r->on_readable)
		r->on_readable(r);
}

static void on_writable(struct foil_worker *w, struct stream *s)
{
	(void)w;
	((struct rig *)s->user_data)->n_writable++;
}

static void on_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	struct rig *r = s->user_data;
	struct foil_slice text = tls_stream_failure(w, s);

	r->n_closed++;
	r->why = why;
	(void)snprintf(r->failure, sizeof(r->failure), "%.*s", (int)text.n_bytes, text.n_bytes ? text.data : "");
	r->s = NULL;
}

static const struct stream_user user = {on_opened, on_readable, on_writable, on_closed};

/* ---- life ---- */
bool rig_openssl_records;
enum rig_crypto rig_crypto;

#define JOBS_MAX 32u

static void *crypto_thread(void *arg)
{
	while (tls_crypto_wait(arg))
		(void)tls_crypto_step(arg);
	return NULL;
}

static void start_crypto(struct rig *r)
{
	struct foil_error err = {0};
	const struct tls_crypto_params p = {.n_workers = 1, .jobs_max = JOBS_MAX};

	r->crypto = tls_crypto_new(&p, &err);
	assert_non_null(r->crypto);
	if (rig_crypto == RIG_CRYPTO_THREAD)
		assert_int_equal(pthread_create(&r->thread, NULL, crypto_thread, r->crypto), 0);
}

static void stop_crypto(struct rig *r)
{
	if (!r->crypto)
		return;
	tls_crypto_stop(r->crypto, 1);
	if (rig_crypto == RIG_CRYPTO_THREAD)
		assert_int_equal(pthread_join(r->thread, NULL), 0);
	tls_crypto_free(r->crypto);
}

void rig_turn(struct rig *r)
{
	tls_turn(r->w);
	while (r->crypto && r->w->tls->n_jobs) {
		if (rig_crypto == RIG_CRYPTO_STEPPED)
			(void)tls_crypto_step(r->crypto);
		else
			(void)sched_yield(); /* the thread may wait for this very core */
		tls_turn(r->w);
	}
}

static void open_ours(struct rig *r, const struct rig_params *p)
{
	struct foil_slice sni = p->sni ? foil_slice_str(p->sni) : (struct foil_slice){NULL, 0};

	if (p->is_client) {
		const struct tls_client_params c = {.context = p->context, .user = &user, .user_data = r, .sni = sni, .sans = p->sans, .n_sans = p->n_sans};
		assert_int_equal(tls_client_open(r->w, &r->below.s, &c, &r->s), 0);
	} else {
		const struct tls_server_params s = {.context = p->context, .user = &user, .user_data = r, .sni = sni};
		assert_int_equal(tls_server_open(r->w, &r->below.s, &s, &r->s), 0);
	}
	tls_context_put(p->context);
}

struct rig *rig_new(struct rig_params p)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct foil_error err = {0};
	struct tls_params tp = {.conns_max = 64, .handshakes_max = 16, .handshakes_prefix_max = 8, .openssl_records = rig_openssl_records};

	r->is_lent = p.w != NULL;
	r->w = p.w ? p.w : t_worker(.seed = 7, .n_mbufs = p.n_mbufs);
	if (!r->w->tls) {
		if (rig_crypto != RIG_CRYPTO_NONE)
			start_crypto(r);
		tp.crypto = r->crypto;
		tp.jobs_max = JOBS_MAX;
		assert_int_equal(tls_init(r->w, &tp, &err), 0);
	}
	r->below.out = malloc(OUT_BYTES);
	r->below.s.ops = &below_ops;
	r->below.s.is_open = true;
	r->below.s.tx_high_bytes = STREAM_TX_HIGH_BYTES;
	r->peer_ctx = p.peer ? p.peer : t_peer_ctx(p.is_client, NULL);
	r->peer = SSL_new(r->peer_ctx);
	SSL_set_bio(r->peer, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	if (p.is_client) {
		SSL_set_accept_state(r->peer);
	} else {
		SSL_set_connect_state(r->peer);
		if (p.sni)
			assert_int_equal(SSL_set_tlsext_host_name(r->peer, p.sni), 1);
	}
	X509_VERIFY_PARAM_set_time(SSL_get0_param(r->peer), (time_t)WALL_S);
	open_ours(r, &p);
	return r;
}

void rig_free(struct rig *r)
{
	if (r->s)
		stream_abort(r->w, r->s);
	SSL_free(r->peer);
	SSL_CTX_free(r->peer_ctx);
	foil_chain_clear(&r->got);
	foil_chain_clear(&r->below.s.rx);
	rig_turn(r);
	if (!r->is_lent) {
		tls_fini(r->w);
		stop_crypto(r);
		t_worker_free(r->w);
	}
	free(r->below.out);
	free(r);
}

/* ---- bytes ---- */
void rig_push(struct rig *r, const void *data, size_t n)
{
	const uint8_t *at = data;

	while (n && !r->below.is_aborted && !r->below.is_released) {
		uint32_t take = (uint32_t)(r->seg_bytes ? FOIL_MIN(n, r->seg_bytes) : FOIL_MIN(n, 16384));
		assert_int_equal(foil_chain_append(r->w, &r->below.s.rx, at, take), 0);
		r->below.s.user->readable(r->w, &r->below.s);
		rig_turn(r);
		at += take;
		n -= take;
	}
}

bool rig_feed(struct rig *r)
{
	uint8_t buf[16384];
	int n = BIO_read(SSL_get_wbio(r->peer), buf, sizeof(buf));

	if (n <= 0)
		return false;
	rig_push(r, buf, (size_t)n);
	return true;
}

static bool to_peer(struct rig *r)
{
	size_t n = r->below.n_out;

	if (!n || r->drop_to_peer)
		return false;
	assert_int_equal(BIO_write(SSL_get_rbio(r->peer), r->below.out, (int)n), (int)n);
	r->below.n_out = 0;
	return true;
}

void rig_pump(struct rig *r)
{
	bool moved = true;

	rig_turn(r);
	for (int i = 0; i < 1000 && moved; i++) {
		moved = to_peer(r);
		ERR_clear_error();
		if (!SSL_is_init_finished(r->peer))
			(void)SSL_do_handshake(r->peer); /* what it says is looked at by tests that care */
		moved |= rig_feed(r);
		rig_turn(r);
	}
	ERR_clear_error();
}

void rig_fin(struct rig *r)
{
	r->below.s.rx_eof = true;
	r->below.s.user->readable(r->w, &r->below.s);
	rig_turn(r);
}

void rig_closed(struct rig *r, enum stream_end why)
{
	r->below.s.user->closed(r->w, &r->below.s, why);
	foil_chain_clear(&r->below.s.rx);
	rig_turn(r);
}

void rig_write(struct rig *r, const void *data, uint32_t n)
{
	struct foil_chain c = {0};

	t_chain(r->w, &c, data, n, 1000);
	stream_write(r->w, r->s, &c);
	rig_turn(r);
}

void rig_ack(struct rig *r)
{
	r->below.s.tx_queued_bytes = 0;
	if (r->below.s.was_full) {
		r->below.s.was_full = false;
		r->below.s.user->writable(r->w, &r->below.s);
	}
	rig_turn(r);
}

size_t rig_peer_read(struct rig *r, void *out, size_t n_max)
{
	size_t at = 0, n = 0;

	(void)to_peer(r);
	while (at < n_max && SSL_read_ex(r->peer, (uint8_t *)out + at, n_max - at, &n) == 1)
		at += n;
	ERR_clear_error();
	return at;
}
