/* The service: connections, HTTP/2 by nghttp2 over OpenSSL, one unary call. Invariant: a connection that breaks a bound or the protocol is closed whole;
 * nothing of a request is used before who asks has proved who they are. */
#include "ctrl/ca/service.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "ctrl/ca/ca_priv.h"
#include "ctrl/ca/jwt.h"

#define CONNS_MAX 64
#define STREAMS_MAX 8
#define BODY_BYTES_MAX 131072u
#define OUT_BYTES_MAX (1u << 20)
#define IDLE_MS 15000u
#define OWN_TTL_S 86400
#define PATH "/istio.v1.auth.IstioCertificateService/CreateCertificate"

enum grpc { GRPC_OK = 0, GRPC_INVALID_ARGUMENT = 3, GRPC_UNIMPLEMENTED = 12, GRPC_UNAUTHENTICATED = 16 };

struct call {
	struct call *next; /* of the connection */
	char *token;
	struct ca_text body, answer;
	size_t n_sent;
	bool is_known, is_grpc;
	enum grpc status;
	char why[200];
};
struct conn {
	int fd;
	SSL *ssl;
	nghttp2_session *h2;
	struct ca_service *s;
	struct ca_text out;
	struct call *calls;
	uint64_t active_ms;
	bool is_open; /* the handshake is done */
};
struct ca_service {
	struct ca_authority *a;
	char *tokens_file, *jwks_file, *audience, *issuer;
	int epoll_fd, listen_fd;
	SSL_CTX *tls;
	uint64_t generation;
	int64_t renew_s, now_s;
	const char *trust_domain;
	struct conn *conns[CONNS_MAX];
};

/* ---- the message ---- */

static bool varint(const uint8_t **at, const uint8_t *end, uint64_t *out)
{
	*out = 0;
	for (unsigned int shift = 0; *at < end && shift < 64; shift += 7) {
		uint8_t b = *(*at)++;
		*out |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80))
			return true;
	}
	return false;
}

bool ca_service_parse(struct foil_slice message, struct foil_slice *csr, int64_t *validity_s)
{
	const uint8_t *at = (const uint8_t *)message.data, *end = at + message.n_bytes;

	*csr = (struct foil_slice){NULL, 0};
	*validity_s = 0;
	while (at < end) {
		uint64_t tag, value = 0;
		if (!varint(&at, end, &tag))
			return false;
		uint32_t wire = (uint32_t)(tag & 7);
		if ((wire == 0 || wire == 2) && !varint(&at, end, &value))
			return false;
		uint64_t skip = wire == 2 ? value : wire == 1 ? 8 : wire == 5 ? 4 : 0;
		if ((wire != 0 && wire != 1 && wire != 2 && wire != 5) || skip > (uint64_t)(end - at))
			return false;
		if (tag == (1u << 3 | 2))
			*csr = foil_slice_of(at, (size_t)value);
		else if (tag == (3u << 3 | 0))
			*validity_s = (int64_t)value;
		at += skip;
	}
	return csr->n_bytes > 0;
}

/* Each certificate is a string of its own (field 1); the root comes last. */
static void put_chain(struct ca_text *out, const char *pem, size_t n)
{
	static const char end_mark[] = "-----END CERTIFICATE-----\n";

	while (n) {
		const char *end = memmem(pem, n, end_mark, sizeof(end_mark) - 1);
		size_t one = end ? (size_t)(end - pem) + sizeof(end_mark) - 1 : n, left = one;
		uint8_t head[12] = {1u << 3 | 2};
		size_t n_head = 1;
		for (; left >= 0x80; left >>= 7)
			head[n_head++] = (uint8_t)(left | 0x80);
		head[n_head++] = (uint8_t)left;
		ca_text_add(out, head, n_head);
		ca_text_add(out, pem, one);
		pem += one;
		n -= one;
	}
}

/* ---- who asks ---- */

/* All lines are compared, so that time tells nothing of which one fitted. */
static bool account_of_token(const struct ca_service *s, const char *token, char out[512])
{
	char line[8192];
	FILE *f = s->tokens_file ? fopen(s->tokens_file, "re") : NULL;
	bool found = false;

	while (f && fgets(line, sizeof(line), f)) {
		char *space = strchr(line, ' ');
		size_t n = space ? (size_t)(space - line) : 0;
		if (n < 16 || n != strlen(token) || CRYPTO_memcmp(line, token, n) != 0)
			continue;
		space[1 + strcspn(space + 1, " \t\r\n")] = 0;
		const char *slash = strchr(space + 1, '/');
		int len = slash ? snprintf(out, 512, "spiffe://%s/ns/%.*s/sa/%s", s->trust_domain, (int)(slash - space - 1), space + 1, slash + 1) : -1;
		found = len > 0 && len < 512 && ca_id_is_valid(foil_slice_str(out));
	}
	if (f)
		(void)fclose(f); /* only read */
	OPENSSL_cleanse(line, sizeof(line));
	return found;
}

/* The whole file; NULL: it cannot be read, or is larger than any. */
static char *read_file(const char *path, size_t *n)
{
	FILE *f = fopen(path, "re");
	char *text = f ? malloc(CA_JWKS_BYTES_MAX + 1) : NULL;

	*n = text ? fread(text, 1, CA_JWKS_BYTES_MAX + 1, f) : 0;
	if (f)
		(void)fclose(f); /* only read */
	if (*n && *n <= CA_JWKS_BYTES_MAX)
		return text;
	free(text);
	return NULL;
}

/* A token that Kubernetes gave to a workload. */
static bool account_of_jwt(const struct ca_service *s, const char *token, char out[512], struct foil_error *err)
{
	char account[320];
	size_t n = 0;

	if (!s->jwks_file)
		return foil_error_set(err, -EACCES, "a token of Kubernetes, and no keys to verify it with (--ca-jwks); TokenReview is not asked") == 0;
	char *jwks = read_file(s->jwks_file, &n);
	if (!jwks)
		return foil_error_set(err, -EACCES, "the cluster's keys (--ca-jwks) cannot be read") == 0;
	const struct ca_jwt_params p = {.jwks = foil_slice_of(jwks, n), .audience = s->audience ? s->audience : CA_SERVICE_AUDIENCE, .issuer = s->issuer,
					.now_s = s->now_s};
	int rc = ca_jwt_account(&p, token, account, err);
	free(jwks);
	if (rc < 0)
		return false;
	const char *slash = strchr(account, '/');
	int len = snprintf(out, 512, "spiffe://%s/ns/%.*s/sa/%s", s->trust_domain, (int)(slash - account), account, slash + 1);
	if (len > 0 && len < 512 && ca_id_is_valid(foil_slice_str(out)))
		return true;
	return foil_error_set(err, -EACCES, "the token is refused: its subject makes no identity") == 0;
}

static bool account_of(const struct ca_service *s, const char *token, char out[512], struct foil_error *err)
{
	if (account_of_token(s, token, out))
		return true;
	if (ca_jwt_is_one(token))
		return account_of_jwt(s, token, out, err);
	return foil_error_set(err, -EACCES, "the token is not known") == 0;
}

static bool account_of_certificate(const struct conn *c, char out[512], struct foil_error *err)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(c->ssl);
	X509 *leaf = SSL_get0_peer_certificate(c->ssl);
	struct ca_text t = {0};
	char *id = NULL;
	bool ok = false;

	if (!leaf)
		return foil_error_set(err, -EINVAL, "neither a client certificate nor a token") == 0;
	ca_text_add_cert(&t, leaf);
	for (int i = 0; i < sk_X509_num(chain) && i < 8; i++)
		if (X509_cmp(sk_X509_value(chain, i), leaf) != 0)
			ca_text_add_cert(&t, sk_X509_value(chain, i));
	if (!t.failed && ca_verify_client(c->s->a, foil_slice_of(t.data, t.n), c->s->now_s, &id, err) == 0)
		ok = snprintf(out, 512, "%s", id) < 512;
	free(id);
	ca_text_fini(&t);
	return ok;
}

/* ---- the call ---- */

static void fail(struct call *k, enum grpc status, const char *why)
{
	k->status = status;
	(void)snprintf(k->why, sizeof(k->why), "%.199s", why); /* cut */
	for (char *p = k->why; *p; p++)
		if (*p < ' ' || *p > '~' || *p == '%')
			*p = '?';
}

static void sign(struct conn *c, struct call *k, const char *account)
{
	const struct foil_slice id = foil_slice_str(account);
	const uint8_t *b = (const uint8_t *)k->body.data;
	struct foil_error err = {0};
	struct foil_slice csr;
	struct ca_leaf leaf = {0};
	struct ca_text message = {0};
	int64_t validity_s;

	size_t n = k->body.n >= 5 ? (size_t)b[1] << 24 | (size_t)b[2] << 16 | (size_t)b[3] << 8 | b[4] : 0;
	if (k->body.n < 5 || b[0] != 0 || n != k->body.n - 5 || !ca_service_parse(foil_slice_of(k->body.data + 5, n), &csr, &validity_s)) {
		fail(k, GRPC_INVALID_ARGUMENT, "not an IstioCertificateRequest");
		return;
	}
	uint32_t ttl_s = validity_s > 0 && validity_s <= CA_TTL_S_MAX ? (uint32_t)validity_s : validity_s > 0 ? CA_TTL_S_MAX : 0;
	if (ca_sign_request(c->s->a, csr, &id, 1, ttl_s, c->s->now_s, &leaf, &err) < 0) {
		fail(k, GRPC_INVALID_ARGUMENT, err.text);
		return;
	}
	put_chain(&message, leaf.chain_pem, leaf.n_chain);
	struct foil_slice roots = ca_bundle(c->s->a);
	put_chain(&message, roots.data, roots.n_bytes);
	uint8_t head[5] = {0, (uint8_t)(message.n >> 24), (uint8_t)(message.n >> 16), (uint8_t)(message.n >> 8), (uint8_t)message.n};
	ca_text_add(&k->answer, head, sizeof(head));
	ca_text_add(&k->answer, message.data, message.n);
	if (message.failed || k->answer.failed)
		fail(k, GRPC_INVALID_ARGUMENT, "no memory");
	ca_text_fini(&message);
	ca_leaf_fini(&leaf);
}

static void serve(struct conn *c, struct call *k)
{
	struct foil_error err = {0};
	char account[512];

	if (!k->is_known)
		fail(k, GRPC_UNIMPLEMENTED, "this service has CreateCertificate alone");
	else if (!k->is_grpc || k->body.failed)
		fail(k, GRPC_INVALID_ARGUMENT, "not a gRPC request");
	else if (k->token ? !account_of(c->s, k->token, account, &err) : !account_of_certificate(c, account, &err))
		fail(k, GRPC_UNAUTHENTICATED, err.text);
	else
		sign(c, k, account);
}

static nghttp2_nv nv(const char *name, const char *value)
{
	return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name, .value = (uint8_t *)(uintptr_t)value, .namelen = strlen(name), .valuelen = strlen(value)};
}

static ssize_t read_answer(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t n_room, uint32_t *flags, nghttp2_data_source *source, void *data)
{
	struct call *k = source->ptr;
	size_t n = FOIL_MIN(n_room, k->answer.n - k->n_sent);
	char status[4];

	(void)data;
	if (n)
		memcpy(buf, k->answer.data + k->n_sent, n);
	k->n_sent += n;
	if (k->n_sent < k->answer.n)
		return (ssize_t)n;
	(void)snprintf(status, sizeof(status), "%d", (int)k->status); /* two digits */
	const nghttp2_nv trailers[] = {nv("grpc-status", status), nv("grpc-message", k->why)};
	*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
	return nghttp2_submit_trailer(h2, id, trailers, k->why[0] ? 2 : 1) == 0 ? (ssize_t)n : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* ---- HTTP/2 ---- */

static void call_free(struct call *k)
{
	if (!k)
		return;
	if (k->token)
		OPENSSL_cleanse(k->token, strlen(k->token));
	free(k->token);
	ca_text_fini(&k->body);
	ca_text_fini(&k->answer);
	free(k);
}

static int on_begin(nghttp2_session *h2, const nghttp2_frame *f, void *data)
{
	if (f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct conn *c = data;
	struct call *k = calloc(1, sizeof(*k));
	if (!k || nghttp2_session_set_stream_user_data(h2, f->hd.stream_id, k) != 0) {
		call_free(k);
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	k->next = c->calls;
	c->calls = k;
	return 0;
}

static bool is(const uint8_t *text, size_t n, const char *word)
{
	return n == strlen(word) && memcmp(text, word, n) == 0;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *f, const uint8_t *name, size_t n_name, const uint8_t *value, size_t n_value, uint8_t flags,
		     void *data)
{
	struct call *k = nghttp2_session_get_stream_user_data(h2, f->hd.stream_id);

	(void)flags;
	(void)data;
	if (!k)
		return 0;
	if (is(name, n_name, ":path"))
		k->is_known = is(value, n_value, PATH);
	else if (is(name, n_name, "content-type"))
		k->is_grpc = n_value >= 16 && memcmp(value, "application/grpc", 16) == 0;
	else if (is(name, n_name, "authorization") && n_value > 7 && n_value < 8192 && strncasecmp((const char *)value, "Bearer ", 7) == 0 && !k->token)
		k->token = strndup((const char *)value + 7, n_value - 7);
	return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *bytes, size_t n, void *data)
{
	struct call *k = nghttp2_session_get_stream_user_data(h2, id);

	(void)flags;
	(void)data;
	if (!k)
		return 0;
	if (k->body.n + n > BODY_BYTES_MAX)
		return nghttp2_submit_rst_stream(h2, NGHTTP2_FLAG_NONE, id, NGHTTP2_ENHANCE_YOUR_CALM);
	ca_text_add(&k->body, bytes, n);
	return 0;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *f, void *data)
{
	struct conn *c = data;
	struct call *k = f->hd.stream_id ? nghttp2_session_get_stream_user_data(h2, f->hd.stream_id) : NULL;
	const nghttp2_nv head[] = {nv(":status", "200"), nv("content-type", "application/grpc")};

	if (!k || !(f->hd.flags & NGHTTP2_FLAG_END_STREAM) || (f->hd.type != NGHTTP2_DATA && f->hd.type != NGHTTP2_HEADERS))
		return 0;
	serve(c, k);
	nghttp2_data_provider source = {.source = {.ptr = k}, .read_callback = read_answer};
	return nghttp2_submit_response(h2, f->hd.stream_id, head, 2, &source) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *data)
{
	struct conn *c = data;
	struct call *k = nghttp2_session_get_stream_user_data(h2, id);

	(void)code;
	for (struct call **at = &c->calls; k && *at; at = &(*at)->next)
		if (*at == k) {
			*at = k->next;
			break;
		}
	call_free(k);
	(void)nghttp2_session_set_stream_user_data(h2, id, NULL); /* the stream goes */
	return 0;
}

static nghttp2_session *session_new(struct conn *c)
{
	const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX}, {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 16384}};
	nghttp2_session_callbacks *cb = NULL;
	nghttp2_session *h2 = NULL;

	if (nghttp2_session_callbacks_new(&cb) != 0)
		return NULL;
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	int rc = nghttp2_session_server_new(&h2, cb, c);
	nghttp2_session_callbacks_del(cb);
	if (rc == 0 && nghttp2_submit_settings(h2, NGHTTP2_FLAG_NONE, settings, 2) != 0) {
		nghttp2_session_del(h2);
		h2 = NULL;
	}
	return rc == 0 ? h2 : NULL;
}

/* ---- TLS ---- */

static int accept_any(X509_STORE_CTX *x, void *arg)
{
	(void)x; /* the handshake proves the key; ca_verify_client judges the chain when it is used */
	(void)arg;
	return 1;
}

static int choose_h2(SSL *ssl, const unsigned char **out, unsigned char *n_out, const unsigned char *in, unsigned int n_in, void *arg)
{
	static const unsigned char h2[] = {2, 'h', '2'};
	unsigned char *chosen = NULL;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, n_out, h2, sizeof(h2), in, n_in) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *tls_new(const struct ca_service *s, int64_t now_s, struct foil_error *err)
{
	const struct ca_subject who = {.dns = "DNS:istiod.istio-system.svc,DNS:istiod.istio-system,DNS:localhost,IP:127.0.0.1",
				       .not_before_s = now_s - CA_BACKDATE_S,
				       .not_after_s = FOIL_MIN(now_s + OWN_TTL_S, ca_time_s(X509_get0_notAfter(s->a->signer.cert)))};
	EVP_PKEY *key = ca_make_key();
	X509 *cert = key ? ca_make_cert(&who, key, s->a->signer.cert, s->a->signer.key, err) : NULL;
	SSL_CTX *tls = cert ? SSL_CTX_new(TLS_server_method()) : NULL;
	bool ok = tls && SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) == 1 &&
		  SSL_CTX_use_cert_and_key(tls, cert, key, s->a->signer.between, 1) == 1;

	if (ok) {
		SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
		SSL_CTX_set_cert_verify_callback(tls, accept_any, NULL);
		SSL_CTX_set_alpn_select_cb(tls, choose_h2, NULL);
		SSL_CTX_set_max_cert_list(tls, 65536);
		(void)SSL_CTX_set_options(tls, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
		(void)SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
		(void)SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	} else {
		(void)foil_error_set(err, -EINVAL, "the signing service cannot make its own certificate");
		SSL_CTX_free(tls);
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return ok ? tls : NULL;
}

static int tls_renew(struct ca_service *s, int64_t now_s, struct foil_error *err)
{
	SSL_CTX *fresh = tls_new(s, now_s, err);

	if (!fresh)
		return -EINVAL;
	SSL_CTX_free(s->tls); /* connections that stand hold it */
	s->tls = fresh;
	s->generation = ca_generation(s->a) + s->a->n_rotations;
	s->renew_s = now_s + OWN_TTL_S / 2;
	return 0;
}

/* ---- connections ---- */

static void conn_close(struct ca_service *s, unsigned int i)
{
	struct conn *c = s->conns[i];

	s->conns[i] = NULL;
	nghttp2_session_del(c->h2); /* tells of no streams */
	while (c->calls) {
		struct call *k = c->calls;
		c->calls = k->next;
		call_free(k);
	}
	SSL_free(c->ssl);
	(void)close(c->fd); /* only sockets; nothing to save */
	ca_text_fini(&c->out);
	free(c);
}

static void watch(struct ca_service *s, struct conn *c, unsigned int i)
{
	struct epoll_event e = {.events = EPOLLIN | (c->out.n || SSL_want_write(c->ssl) ? (uint32_t)EPOLLOUT : 0u), .data = {.u32 = i}};

	(void)epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, c->fd, &e); /* it is in there */
}

static void accept_one(struct ca_service *s, uint64_t now_ms)
{
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	unsigned int i = 0;

	if (fd < 0)
		return;
	while (i < CONNS_MAX && s->conns[i])
		i++;
	struct conn *c = i < CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;
	SSL *ssl = c ? SSL_new(s->tls) : NULL;
	struct epoll_event e = {.events = EPOLLIN, .data = {.u32 = i}};
	if (!ssl || SSL_set_fd(ssl, fd) != 1 || epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0) {
		SSL_free(ssl);
		free(c);
		(void)close(fd); /* refused */
		return;
	}
	SSL_set_accept_state(ssl);
	*c = (struct conn){.fd = fd, .ssl = ssl, .s = s, .active_ms = now_ms};
	c->h2 = session_new(c);
	s->conns[i] = c;
	if (!c->h2)
		conn_close(s, i);
}

/* False: it is over. */
static bool again(const struct conn *c, int rc)
{
	int e = SSL_get_error(c->ssl, rc);

	ERR_clear_error();
	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

static bool flush(struct conn *c)
{
	const uint8_t *bytes;
	ssize_t n;

	while (c->out.n < OUT_BYTES_MAX && (n = nghttp2_session_mem_send(c->h2, &bytes)) > 0)
		ca_text_add(&c->out, bytes, (size_t)n);
	if (c->out.failed)
		return false;
	while (c->out.n) {
		int wrote = SSL_write(c->ssl, c->out.data, (int)c->out.n);
		if (wrote <= 0)
			return again(c, wrote);
		memmove(c->out.data, c->out.data + wrote, c->out.n - (size_t)wrote);
		c->out.n -= (size_t)wrote;
	}
	return nghttp2_session_want_read(c->h2) || nghttp2_session_want_write(c->h2);
}

static bool conn_turn(struct conn *c, uint64_t now_ms)
{
	uint8_t buf[16384];
	int n;

	if (!c->is_open) {
		int rc = SSL_do_handshake(c->ssl);
		if (rc != 1)
			return again(c, rc);
		c->is_open = true;
	}
	for (int i = 0; i < 8; i++) {
		n = SSL_read(c->ssl, buf, sizeof(buf));
		if (n <= 0)
			return again(c, n) && flush(c);
		c->active_ms = now_ms;
		if (nghttp2_session_mem_recv(c->h2, buf, (size_t)n) != n)
			return false;
	}
	return flush(c);
}

void ca_service_turn(struct ca_service *s, const char *trust_domain, int64_t now_s, uint64_t now_ms)
{
	struct epoll_event events[CONNS_MAX + 1];
	struct foil_error err = {0};
	int n = epoll_wait(s->epoll_fd, events, CONNS_MAX + 1, 0);

	s->now_s = now_s;
	s->trust_domain = trust_domain;
	if (now_s >= s->renew_s || s->generation != ca_generation(s->a) + s->a->n_rotations)
		if (tls_renew(s, now_s, &err) < 0)
			s->renew_s = now_s + 60; /* the last good one stays */
	for (int i = 0; i < n; i++) {
		unsigned int at = events[i].data.u32;
		if (at == CONNS_MAX)
			accept_one(s, now_ms);
		else if (s->conns[at] && !conn_turn(s->conns[at], now_ms))
			conn_close(s, at);
		else if (s->conns[at])
			watch(s, s->conns[at], at);
	}
	for (unsigned int i = 0; i < CONNS_MAX; i++)
		if (s->conns[i] && now_ms - s->conns[i]->active_ms > IDLE_MS)
			conn_close(s, i);
}

/* ---- open and close ---- */

static int listen_at(struct ca_service *s, const struct ca_service_params *p, struct foil_error *err)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(p->port ? p->port : CA_SERVICE_PORT)};
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = a6.sin6_port};
	bool is_v4 = inet_pton(AF_INET, p->address, &a4.sin_addr) == 1;
	struct epoll_event e = {.events = EPOLLIN, .data = {.u32 = CONNS_MAX}};
	int on = 1;

	if (!is_v4 && inet_pton(AF_INET6, p->address, &a6.sin6_addr) != 1)
		return foil_error_set(err, -EINVAL, "the signing service: \"%.60s\" is not an IP address", p->address);
	s->listen_fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->listen_fd >= 0)
		(void)setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* without it a restart waits */
	const struct sockaddr *a = is_v4 ? (const struct sockaddr *)&a4 : (const struct sockaddr *)&a6;
	if (s->listen_fd < 0 || bind(s->listen_fd, a, is_v4 ? sizeof(a4) : sizeof(a6)) < 0 ||
	    listen(s->listen_fd, 64) < 0 || epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->listen_fd, &e) < 0)
		return foil_error_set(err, -errno, "the signing service cannot listen at %s port %u: %s", p->address, ntohs(a4.sin_port), strerror(errno));
	return 0;
}

static bool keep(const char *text, char **out)
{
	*out = text ? strdup(text) : NULL;
	return *out || !text;
}

int ca_service_open(const struct ca_service_params *p, struct ca_service **out, struct foil_error *err)
{
	struct ca_service *s = calloc(1, sizeof(*s));

	if (!s)
		return foil_error_set(err, -ENOMEM, "no memory for the signing service");
	s->a = p->authority;
	s->listen_fd = -1;
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	bool has_memory = keep(p->tokens_file, &s->tokens_file) && keep(p->jwks_file, &s->jwks_file) && keep(p->audience, &s->audience) &&
			  keep(p->issuer, &s->issuer);
	int rc = s->epoll_fd < 0 || !has_memory ? foil_error_set(err, -ENOMEM, "no memory for the signing service") : 0;
	if (rc == 0)
		rc = tls_renew(s, p->now_s, err);
	if (rc == 0)
		rc = listen_at(s, p, err);
	if (rc == 0)
		*out = s;
	else
		ca_service_close(s);
	return rc;
}

void ca_service_close(struct ca_service *s)
{
	if (!s)
		return;
	for (unsigned int i = 0; i < CONNS_MAX; i++)
		if (s->conns[i])
			conn_close(s, i);
	SSL_CTX_free(s->tls);
	if (s->listen_fd >= 0)
		(void)close(s->listen_fd);
	if (s->epoll_fd >= 0)
		(void)close(s->epoll_fd);
	free(s->tokens_file);
	free(s->jwks_file);
	free(s->audience);
	free(s->issuer);
	free(s);
}

int ca_service_fd(const struct ca_service *s)
{
	return s->epoll_fd;
}
