/* TLS for foil-load: OpenSSL between memory buffers, so that it is the same over every wire. Client and origin have one certificate chain and one
 * authority each way; with --resume a client offers the newest session that it was given. Who calls brings bytes in and takes bytes out. */
#include <errno.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "perf/load/load.h"

struct load_secure {
	SSL *ssl;
	BIO *in, *out;
};

static int session_given(SSL *ssl, SSL_SESSION *session)
{
	struct load *l = SSL_get_app_data(ssl);

	SSL_SESSION_free(l->session);
	l->session = session;
	return 1; /* it is ours now */
}

static int refuse(const char *what, const char *path)
{
	char text[256];

	ERR_error_string_n(ERR_get_error(), text, sizeof(text));
	fprintf(stderr, "foil-load: %s %s: %s\n", what, path, text);
	return -EINVAL;
}

static SSL_CTX *context_new(const struct load_conf *k, bool is_client)
{
	SSL_CTX *x = SSL_CTX_new(is_client ? TLS_client_method() : TLS_server_method());

	if (!x)
		return NULL;
	SSL_CTX_set_mode(x, SSL_MODE_RELEASE_BUFFERS);
	bool fine = SSL_CTX_set_min_proto_version(x, k->tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION) &&
		    SSL_CTX_set_max_proto_version(x, k->tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION);
	if (fine && k->tls_cert &&
	    (SSL_CTX_use_certificate_chain_file(x, k->tls_cert) != 1 || SSL_CTX_use_PrivateKey_file(x, k->tls_key, SSL_FILETYPE_PEM) != 1))
		fine = refuse("certificate or key", k->tls_cert) == 0;
	if (fine && k->tls_ca && SSL_CTX_load_verify_locations(x, k->tls_ca, NULL) != 1)
		fine = refuse("authorities", k->tls_ca) == 0;
	if (!fine) {
		SSL_CTX_free(x);
		return NULL;
	}
	if (k->tls_ca)
		SSL_CTX_set_verify(x, SSL_VERIFY_PEER | (is_client ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT), NULL);
	if (is_client && k->tls_resume) {
		SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(x, session_given);
	}
	return x;
}

static const uint8_t alpn_h2[] = "\2h2", alpn_h1[] = "\10http/1.1";

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *n_out, const unsigned char *in, unsigned int n_in, void *arg)
{
	const struct load *l = arg;
	unsigned char *chosen = NULL;
	const uint8_t *ours = l->conf->origin_http2 ? alpn_h2 : alpn_h1;

	if (SSL_select_next_proto(&chosen, n_out, ours, ours[0] + 1u, in, n_in) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

int load_tls_init(struct load *l)
{
	const struct load_conf *k = l->conf;

	if (k->tls && !(l->client_tls = context_new(k, true)))
		return -EINVAL;
	if (k->origin_tls && !(l->origin_tls = context_new(k, false)))
		return -EINVAL;
	if (!l->origin_tls)
		return 0;
	SSL_CTX_set_alpn_select_cb(l->origin_tls, choose_protocol, l);
	return SSL_CTX_set_session_id_context(l->origin_tls, (const unsigned char *)"load", 4) ? 0 : -EINVAL; /* sessions with certificates want one */
}

void load_tls_fini(struct load *l)
{
	SSL_SESSION_free(l->session);
	SSL_CTX_free(l->client_tls);
	SSL_CTX_free(l->origin_tls);
}

struct load_secure *load_secure_new(struct load *l, bool is_client)
{
	struct load_secure *s = calloc(1, sizeof(*s));
	const uint8_t *protocol = l->conf->http2 ? alpn_h2 : alpn_h1;

	if (!s || !(s->ssl = SSL_new(is_client ? l->client_tls : l->origin_tls)) || !(s->in = BIO_new(BIO_s_mem())) || !(s->out = BIO_new(BIO_s_mem())))
		abort();
	SSL_set_bio(s->ssl, s->in, s->out);
	SSL_set_app_data(s->ssl, l);
	if (!is_client) {
		SSL_set_accept_state(s->ssl);
		return s;
	}
	SSL_set_connect_state(s->ssl);
	(void)SSL_set_tlsext_host_name(s->ssl, l->conf->host);          /* a name that options.c took */
	(void)SSL_set_alpn_protos(s->ssl, protocol, protocol[0] + 1u); /* well-formed as it stands above */
	if (l->session)
		(void)SSL_set_session(s->ssl, l->session); /* else a full handshake, which is counted */
	return s;
}

void load_secure_free(struct load_secure *s)
{
	if (!s)
		return;
	SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* the session stays good */
	SSL_free(s->ssl);
	free(s);
}

void load_secure_feed(struct load_secure *s, const void *data, uint32_t n_bytes)
{
	if (BIO_write(s->in, data, (int)n_bytes) != (int)n_bytes)
		abort(); /* memory only */
}

int load_secure_handshake(struct load *l, struct load_secure *s)
{
	if (SSL_is_init_finished(s->ssl))
		return 1;
	int rc = SSL_do_handshake(s->ssl);
	if (rc == 1) {
		l->n_handshakes++;
		l->n_resumed += (uint64_t)SSL_session_reused(s->ssl);
		return 1;
	}
	bool more = SSL_get_error(s->ssl, rc) == SSL_ERROR_WANT_READ;
	ERR_clear_error();
	return more ? 0 : -1;
}

int load_secure_read(struct load_secure *s, void *out, uint32_t n_bytes)
{
	int n = SSL_read(s->ssl, out, (int)n_bytes);

	if (n > 0)
		return n;
	bool more = SSL_get_error(s->ssl, n) == SSL_ERROR_WANT_READ;
	ERR_clear_error();
	return more ? 0 : -1;
}

void load_secure_write(struct load_secure *s, const void *data, uint32_t n_bytes)
{
	if (n_bytes && SSL_write(s->ssl, data, (int)n_bytes) != (int)n_bytes)
		ERR_clear_error(); /* the connection is broken, and its wire will say so */
}

uint32_t load_secure_pending(struct load_secure *s, const char **out)
{
	char *data = NULL;
	long n = BIO_get_mem_data(s->out, &data);

	*out = data;
	return n > 0 ? (uint32_t)n : 0;
}

void load_secure_taken(struct load_secure *s)
{
	(void)BIO_reset(s->out); /* memory: it cannot fail */
}
