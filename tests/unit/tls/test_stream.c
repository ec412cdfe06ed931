/* TLS streams of ours against OpenSSL by itself: handshakes however the bytes are cut, data both ways, ends told apart, refusals with their reasons. */
#include "dataplane/tls/tls_priv.h"
#include "tests/unit/tls/rig.h"

#include <openssl/err.h>

#include <stdlib.h>

static struct t_cert *ca, *server_cert, *client_cert, *stranger, *other_ca;

static int make_certs(void **state)
{
	(void)state;
	ca = t_cert(.cn = "ca", .is_ca = true);
	other_ca = t_cert(.cn = "other", .is_ca = true);
	server_cert = t_cert(.cn = "server", .sans = "DNS:web.example.com,DNS:*.wild.example.com,URI:spiffe://td/ns/a/sa/b,IP:192.0.2.1", .issuer = ca);
	client_cert = t_cert(.cn = "client", .sans = "URI:spiffe://client/a,DNS:client.example.com", .issuer = ca);
	stranger = t_cert(.cn = "stranger", .issuer = other_ca);
	return 0;
}

static int free_certs(void **state)
{
	(void)state;
	t_cert_free(ca);
	t_cert_free(other_ca);
	t_cert_free(server_cert);
	t_cert_free(client_cert);
	t_cert_free(stranger);
	return 0;
}

static void assert_slice(struct foil_slice s, const char *text)
{
	assert_int_equal(s.n_bytes, strlen(text));
	assert_memory_equal(s.data, text, s.n_bytes);
}

static void test_a_client_and_our_server_talk(void **state)
{
	struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL), .sni = "web.example.com");
	char buf[64];

	(void)state;
	rig_pump(r);
	assert_int_equal(r->n_opened, 1);
	assert_true(r->s->is_open);
	const struct tls_facts *f = tls_stream_facts(r->s);
	assert_slice(f->version, "TLSv1.3");
	assert_slice(f->sni, "web.example.com");
	assert_slice(f->local_uri_san, "spiffe://td/ns/a/sa/b");
	assert_null(f->peer);
	assert_false(f->is_resumed);
	assert_int_equal(SSL_write(r->peer, "hello", 5), 5);
	rig_pump(r);
	t_assert_chain(&r->got, "hello", 5);
	rig_write(r, "answer", 6);
	assert_int_equal(rig_peer_read(r, buf, sizeof(buf)), 6);
	assert_memory_equal(buf, "answer", 6);
	assert_int_equal(t_counter(r->w, TLS, TLS13), 1);
	assert_int_equal(t_counter(r->w, TLS, HANDSHAKES_IN_FLIGHT), 0);
	rig_free(r);
}

static void test_our_client_and_a_server_talk(void **state)
{
	struct foil_slice name = FOIL_SLICE("web.example.com");
	struct rig *r = rig(.is_client = true, .context = t_client(ca), .peer = t_peer_ctx(true, server_cert), .sni = "web.example.com", .sans = &name,
			    .n_sans = 1);
	char buf[64];

	(void)state;
	rig_write(r, "early", 5); /* before the handshake is done: it waits */
	rig_pump(r);
	assert_int_equal(r->n_opened, 1);
	assert_string_equal(SSL_get_servername(r->peer, TLSEXT_NAMETYPE_host_name), "web.example.com");
	assert_int_equal(rig_peer_read(r, buf, sizeof(buf)), 5);
	assert_int_equal(SSL_write(r->peer, "hello", 5), 5);
	rig_pump(r);
	t_assert_chain(&r->got, "hello", 5);
	assert_slice(tls_stream_facts(r->s)->peer->subject, "CN=server");
	rig_free(r);
}

static void test_every_cut_of_the_bytes_gives_the_same(void **state)
{
	(void)state;
	for (uint16_t seg = 1; seg < 700; seg = (uint16_t)(seg + (seg < 40 ? 1 : 37))) {
		for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
			SSL_CTX *peer = t_peer_ctx(false, client_cert);
			SSL_CTX_set_max_proto_version(peer, version);
			struct rig *r = rig(.context = t_server(server_cert, ca, TLS_AUTH_REQUIRED, NULL), .peer = peer, .n_mbufs = 4095);
			r->seg_bytes = seg;
			rig_pump(r);
			assert_int_equal(r->n_opened, 1);
			assert_int_equal(SSL_write(r->peer, "hello", 5), 5);
			rig_pump(r);
			t_assert_chain(&r->got, "hello", 5);
			rig_free(r);
		}
	}
}

static void test_the_clients_certificate_becomes_facts(void **state)
{
	struct rig *r = rig(.context = t_server(server_cert, ca, TLS_AUTH_REQUIRED, NULL), .peer = t_peer_ctx(false, client_cert));
	uint8_t hash[32];
	char hex[65];

	(void)state;
	rig_pump(r);
	assert_int_equal(r->n_opened, 1);
	const struct tls_peer *p = tls_stream_facts(r->s)->peer;
	assert_non_null(p);
	assert_slice(p->subject, "CN=client");
	assert_slice(p->issuer, "CN=ca");
	assert_int_equal(p->n_uri_sans, 1);
	assert_slice(p->uri_sans[0], "spiffe://client/a");
	assert_int_equal(p->n_dns_sans, 1);
	assert_slice(p->dns_sans[0], "client.example.com");
	assert_int_equal(X509_digest(client_cert->x, EVP_sha256(), hash, NULL), 1);
	for (int i = 0; i < 32; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", hash[i]); /* fits */
	assert_slice(p->fingerprint, hex);
	assert_memory_equal(p->pem.data, "-----BEGIN%20CERTIFICATE-----%0A", 32);
	assert_null(memchr(p->pem.data, '/', p->pem.n_bytes));
	assert_int_equal(p->not_after_s - p->not_before_s, 2 * 31536000);
	rig_free(r);
}

/* Of connections at rest, each holds its block: what is told of the peer's certificate is kept once, and the handshake's memory is given back. */
static void test_connections_at_rest_share_what_their_peer_showed(void **state)
{
	struct foil_worker *w = t_worker(.n_mbufs = 1023);
	struct foil_error err;
	struct rig *r[3];

	(void)state;
	assert_int_equal(tls_init(w, &(struct tls_params){.conns_max = 8, .openssl_records = rig_openssl_records}, &err), 0);
	unsigned int n_chunks = rte_mempool_avail_count(w->chunk_pool);
	for (int i = 0; i < 3; i++) {
		r[i] = rig(.w = w, .context = t_server(server_cert, ca, TLS_AUTH_REQUIRED, NULL), .peer = t_peer_ctx(false, i == 2 ? stranger : client_cert),
			   .sni = "web.example.com");
		rig_pump(r[i]);
		assert_int_equal(r[i]->n_opened, i != 2); /* the stranger is refused, and leaves nothing */
	}
	const struct tls_peer *p = tls_stream_facts(r[0]->s)->peer;
	assert_ptr_equal(tls_stream_facts(r[1]->s)->peer, p);
	assert_slice(tls_stream_facts(r[0]->s)->sni, "web.example.com");
	assert_int_equal(w->tls->peers.n_live, 1);
	assert_true(n_chunks - rte_mempool_avail_count(w->chunk_pool) <= 2); /* of the peer alone: a PEM of its text is longer than half of one */
	assert_null(FOIL_CONTAINER_OF(r[0]->s, struct tls_conn, s)->arena.chunks);
	rig_free(r[0]);
	assert_slice(p->subject, "CN=client");
	rig_free(r[1]);
	assert_int_equal(w->tls->peers.n_live, 0);
	rig_free(r[2]);
	assert_int_equal(rte_mempool_avail_count(w->chunk_pool), n_chunks);
	tls_fini(w);
	t_worker_free(w);
}

static void test_names_longer_than_the_block_has_room_for_are_kept_whole(void **state)
{
	char name[201];

	(void)state;
	for (size_t i = 0; i < 200; i++)
		name[i] = i % 40 == 39 ? '.' : 'n';
	name[199] = 'n';
	name[200] = 0;
	for (size_t n = 60; n < 68; n++) {
		struct rig *r = rig(.is_client = true, .context = t_client(ca), .peer = t_peer_ctx(true, server_cert), .sni = name + 200 - n);
		rig_pump(r);
		assert_slice(tls_stream_facts(r->s)->sni, name + 200 - n);
		assert_string_equal(SSL_get_servername(r->peer, TLSEXT_NAMETYPE_host_name), name + 200 - n);
		rig_free(r);
	}
}

static struct rig *refused(struct tls_context *context, SSL_CTX *peer)
{
	struct rig *r = rig(.context = context, .peer = peer);

	rig_pump(r);
	assert_int_equal(r->n_opened, 0);
	assert_int_equal(r->n_closed, 1);
	assert_int_equal(r->why, STREAM_END_TLS);
	assert_true(r->below.is_released);
	assert_true(r->failure[0]);
	assert_int_equal(t_counter(r->w, TLS, HANDSHAKE_FAILURES), 1);
	return r;
}

static void test_clients_without_the_right_certificate_are_refused(void **state)
{
	struct rig *r = refused(t_server(server_cert, ca, TLS_AUTH_REQUIRED, NULL), t_peer_ctx(false, NULL));

	(void)state;
	assert_int_equal(t_reason(r->w, TLS, NO_CERTIFICATE), 1);
	rig_free(r);
	r = refused(t_server(server_cert, ca, TLS_AUTH_REQUIRED, NULL), t_peer_ctx(false, stranger));
	assert_int_equal(t_reason(r->w, TLS, VERIFY_CHAIN), 1);
	assert_non_null(strstr(r->failure, "certificate verify failed"));
	rig_free(r);
	r = refused(t_server(server_cert, ca, TLS_AUTH_OPTIONAL, NULL), t_peer_ctx(false, stranger));
	assert_int_equal(t_reason(r->w, TLS, VERIFY_CHAIN), 1);
	rig_free(r);
	r = rig(.context = t_server(server_cert, ca, TLS_AUTH_OPTIONAL, NULL));
	rig_pump(r);
	assert_int_equal(r->n_opened, 1); /* none at all is fine */
	rig_free(r);
}

static void test_the_workers_clock_decides_about_expiry(void **state)
{
	struct t_cert *soon = t_cert(.cn = "soon", .issuer = ca, .from_s = -3600, .to_s = 3600);

	(void)state;
	for (int when = -1; when <= 1; when++) {
		struct rig *r = rig(.context = t_server(server_cert, ca, TLS_AUTH_REQUIRED, NULL), .peer = t_peer_ctx(false, soon));
		r->w->wall_us = (uint64_t)((int64_t)T_WALL_US + when * 7200000000ll);
		rig_pump(r);
		assert_int_equal(r->n_opened, when == 0);
		assert_int_equal(t_reason(r->w, TLS, VERIFY_TIME), when != 0);
		rig_free(r);
	}
	t_cert_free(soon);
}

static void test_purposes_revocation_and_hashes(void **state)
{
	struct t_cert *wrong = t_cert(.cn = "wrong", .issuer = ca, .usage = "serverAuth");
	struct tls_identity id = {.name = FOIL_SLICE("server"), .chain = foil_slice_str(server_cert->pem), .key = foil_slice_str(server_cert->key_pem)};
	char crl[4096];
	uint8_t hash[1][32];
	struct tls_context_params p = {.is_server = true, .identities = &id, .n_identities = 1, .auth = TLS_AUTH_REQUIRED, .ca = foil_slice_str(ca->pem)};
	struct tls_context *c = NULL;
	struct foil_error err = {0};

	(void)state;
	struct rig *r = refused(t_server(server_cert, ca, TLS_AUTH_REQUIRED, NULL), t_peer_ctx(false, wrong));
	assert_int_equal(t_reason(r->w, TLS, VERIFY_PURPOSE), 1);
	rig_free(r);
	p.crl = foil_slice_str(t_crl(ca, client_cert, crl, sizeof(crl)));
	assert_int_equal(tls_context_new(&p, &c, &err), 0);
	r = refused(c, t_peer_ctx(false, client_cert));
	assert_int_equal(t_reason(r->w, TLS, VERIFY_REVOKED), 1);
	rig_free(r);
	p.crl = foil_slice_str(t_crl(ca, NULL, crl, sizeof(crl)));
	assert_int_equal(tls_context_new(&p, &c, &err), 0);
	r = rig(.context = c, .peer = t_peer_ctx(false, client_cert));
	rig_pump(r);
	assert_int_equal(r->n_opened, 1);
	rig_free(r);
	p.crl = (struct foil_slice){NULL, 0};
	memset(hash, 0, sizeof(hash));
	p.cert_hashes = (const uint8_t(*)[32])hash;
	p.n_cert_hashes = 1;
	assert_int_equal(tls_context_new(&p, &c, &err), 0);
	r = refused(c, t_peer_ctx(false, client_cert));
	assert_int_equal(t_reason(r->w, TLS, VERIFY_HASH), 1);
	rig_free(r);
	assert_int_equal(X509_digest(client_cert->x, EVP_sha256(), hash[0], NULL), 1);
	assert_int_equal(tls_context_new(&p, &c, &err), 0);
	r = rig(.context = c, .peer = t_peer_ctx(false, client_cert));
	rig_pump(r);
	assert_int_equal(r->n_opened, 1);
	rig_free(r);
	t_cert_free(wrong);
}

/* No name, no hash, no chain and no date keeps a client out; what is counted as verified is what passed. */
static void test_a_server_that_accepts_the_untrusted_takes_and_counts_them(void **state)
{
	struct t_cert *late = t_cert(.cn = "late", .issuer = ca, .from_s = -7200, .to_s = -3600);
	const struct t_cert *clients[] = {stranger, late, client_cert, NULL};
	const struct foil_slice names[] = {FOIL_SLICE("client.test"), FOIL_SLICE("nobody.test")};
	struct tls_identity id = {.name = FOIL_SLICE("server"), .chain = foil_slice_str(server_cert->pem), .key = foil_slice_str(server_cert->key_pem)};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(clients); i++)
		for (uint16_t n_names = 0; n_names <= 1; n_names++) {
			struct tls_context_params p = {.is_server = true, .identities = &id, .n_identities = 1, .auth = TLS_AUTH_OPTIONAL,
						       .ca = foil_slice_str(ca->pem), .accept_untrusted = true, .sans = &names[1], .n_sans = n_names};
			struct tls_context *c = NULL;
			struct foil_error err = {0};
			bool passes = clients[i] == client_cert && !n_names;
			assert_int_equal(tls_context_new(&p, &c, &err), 0);
			struct rig *r = rig(.context = c, .peer = t_peer_ctx(false, clients[i]));
			rig_pump(r);
			assert_int_equal(r->n_opened, 1);
			assert_int_equal(tls_stream_facts(r->s)->peer != NULL, clients[i] != NULL);
			assert_int_equal(t_counter(r->w, TLS, PEER_CERTIFICATES), passes);
			assert_int_equal(t_counter(r->w, TLS, UNTRUSTED_CLIENTS), clients[i] && !passes);
			rig_free(r);
		}
	t_cert_free(late);
}

static void test_our_client_wants_one_of_its_names(void **state)
{
	static const struct {
		const char *name;
		bool ok;
	} cases[] = {{"web.example.com", true}, {"WEB.example.com", true}, {"a.wild.example.com", true}, {"a.b.wild.example.com", false},
		     {"wild.example.com", false}, {".wild.example.com", false}, {"spiffe://td/ns/a/sa/b", true}, {"spiffe://td/ns/a/sa/B", false},
		     {"192.0.2.1", true}, {"192.0.2.2", false}, {"server", false}, {"", false}};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct foil_slice name = foil_slice_str(cases[i].name);
		struct rig *r = rig(.is_client = true, .context = t_client(ca), .peer = t_peer_ctx(true, server_cert), .sans = &name, .n_sans = 1);
		rig_pump(r);
		assert_int_equal(r->n_opened, cases[i].ok);
		assert_int_equal(t_reason(r->w, TLS, VERIFY_NAME), !cases[i].ok);
		rig_free(r);
	}
	struct rig *r = rig(.is_client = true, .context = t_client(other_ca), .peer = t_peer_ctx(true, server_cert));
	rig_pump(r);
	assert_int_equal(r->n_closed, 1);
	assert_int_equal(t_reason(r->w, TLS, VERIFY_CHAIN), 1);
	rig_free(r);
}

static void test_versions_and_suites_that_do_not_meet(void **state)
{
	SSL_CTX *old = t_peer_ctx(false, NULL), *cbc = t_peer_ctx(false, NULL);

	(void)state;
	SSL_CTX_set_security_level(old, 0);
	SSL_CTX_set_min_proto_version(old, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION);
	struct rig *r = refused(t_server(server_cert, NULL, TLS_AUTH_NONE, NULL), old);
	assert_int_equal(t_reason(r->w, TLS, NO_SHARED_VERSION), 1);
	rig_free(r);
	SSL_CTX_set_max_proto_version(cbc, TLS1_2_VERSION);
	SSL_CTX_set_cipher_list(cbc, "ECDHE-ECDSA-AES128-SHA256");
	r = refused(t_server(server_cert, NULL, TLS_AUTH_NONE, NULL), cbc);
	assert_int_equal(t_reason(r->w, TLS, NO_SHARED_CIPHER), 1);
	rig_free(r);
}

static void test_alpn_is_agreed_or_left_out(void **state)
{
	static const struct {
		const char *offer, *agreed;
	} cases[] = {{"\x08http/1.1\x02h2", "h2"}, {"\x08http/1.1", "http/1.1"}, {"\x03" "foo", ""}, {NULL, ""}};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
		if (cases[i].offer)
			assert_int_equal(SSL_set_alpn_protos(r->peer, (const uint8_t *)cases[i].offer, (unsigned int)strlen(cases[i].offer)), 0);
		rig_pump(r);
		assert_int_equal(r->n_opened, 1);
		assert_slice(tls_stream_facts(r->s)->alpn, cases[i].agreed);
		rig_free(r);
	}
}

static void test_ends_are_told_apart(void **state)
{
	struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));

	(void)state;
	rig_pump(r); /* close_notify, FIN, and our own end */
	(void)SSL_write(r->peer, "bye", 3);
	(void)SSL_shutdown(r->peer);
	rig_pump(r);
	assert_true(r->s->rx_eof);
	t_assert_chain(&r->got, "bye", 3);
	rig_write(r, "after", 5); /* half-closed: our side may still speak */
	stream_shutdown(r->w, r->s);
	assert_true(r->below.is_shut);
	char buf[16];
	assert_int_equal(rig_peer_read(r, buf, sizeof(buf)), 5);
	assert_int_equal(SSL_get_shutdown(r->peer) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
	rig_fin(r);
	rig_closed(r, STREAM_END_FIN);
	assert_int_equal(r->n_closed, 1);
	assert_int_equal(r->why, STREAM_END_FIN);
	rig_free(r);

	r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
	rig_pump(r); /* FIN alone is not the end of the data */
	(void)SSL_write(r->peer, "half", 4);
	rig_pump(r);
	rig_fin(r);
	t_assert_chain(&r->got, "half", 4);
	assert_int_equal(r->n_closed, 1);
	assert_int_equal(r->why, STREAM_END_TLS);
	assert_int_equal(t_reason(r->w, TLS, TRUNCATED), 1);
	assert_true(r->below.is_released);
	rig_free(r);

	r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
	rig_pump(r);
	rig_closed(r, STREAM_END_RESET);
	assert_int_equal(r->why, STREAM_END_RESET);
	rig_free(r);

	r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
	rig_fin(r); /* before a byte of the handshake */
	assert_int_equal(r->n_closed, 1);
	assert_int_equal(t_reason(r->w, TLS, HANDSHAKE_ENDED), 1);
	rig_free(r);
}

static void test_a_changed_byte_ends_the_connection_with_an_alert(void **state)
{
	struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
	uint8_t record[256];

	(void)state;
	rig_pump(r);
	(void)SSL_write(r->peer, "hello", 5);
	int n = BIO_read(SSL_get_wbio(r->peer), record, sizeof(record));
	assert_true(n > 10);
	record[n - 1] ^= 1;
	rig_push(r, record, (size_t)n);
	assert_int_equal(r->why, STREAM_END_TLS);
	assert_int_equal(t_reason(r->w, TLS, BAD_RECORD), 1);
	assert_true(r->below.n_out > 0);
	assert_int_equal(r->got.n_bytes, 0);
	rig_free(r);
}

static void test_what_is_no_handshake_is_refused(void **state)
{
	static const char *const bytes[] = {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "\x16\x03\x01\x00\x04\x01\xff\xff\xff", "\x15\x03\x01\x00\x02\x02\x28",
					    "\x16\x03\x01\xff\xff", "\x80\x2e\x01\x00\x02"};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(bytes); i++) {
		struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
		rig_push(r, bytes[i], i == 1 ? 9 : i == 2 ? 7 : i == 4 ? 5 : strlen(bytes[i]));
		if (r->s)
			rig_fin(r);
		assert_int_equal(r->n_closed, 1);
		assert_int_equal(r->n_opened, 0);
		rig_free(r);
	}
}

static void test_a_handshake_that_takes_too_long_is_cut(void **state)
{
	struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));

	(void)state;
	t_advance(r->w, TLS_HANDSHAKE_US - 1000);
	assert_int_equal(r->n_closed, 0);
	t_advance(r->w, 2000);
	assert_int_equal(r->n_closed, 1);
	assert_int_equal(t_reason(r->w, TLS, HANDSHAKE_TIMEOUT), 1);
	assert_true(r->below.is_aborted);
	rig_free(r);
}

static void test_large_bodies_both_ways_and_backpressure(void **state)
{
	enum { N = 1 << 20 };
	struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL), .n_mbufs = 4095);
	uint8_t *data = malloc(N), *back = malloc(N);
	uint32_t at = 0;

	(void)state;
	for (uint32_t i = 0; i < N; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	rig_pump(r);
	for (uint32_t n = 0; n < N; n += 65536) { /* theirs to us */
		assert_int_equal(SSL_write(r->peer, data + n, 65536), 65536);
		rig_pump(r);
		assert_int_equal(r->got.n_bytes, 65536);
		foil_chain_copy_out(&r->got, 0, back + n, 65536);
		foil_chain_clear(&r->got);
	}
	assert_memory_equal(data, back, N);
	r->below.hold_acks = true;
	while (at < N) { /* ours to them, as long as there is room */
		uint32_t n = FOIL_MIN(FOIL_MIN(stream_tx_room(r->s), 50000u), N - at);
		if (!n) {
			unsigned int before = r->n_writable;
			(void)rig_peer_read(r, back, 0);
			rig_ack(r);
			assert_int_equal(r->n_writable, before + 1);
			continue;
		}
		rig_write(r, data + at, n);
		at += n;
	}
	(void)rig_peer_read(r, back, 0);
	memset(back, 0, N);
	assert_int_equal(rig_peer_read(r, back, N), N);
	assert_memory_equal(data, back, N);
	r->keep = true; /* a reader that takes nothing: what is decrypted stays bounded, the rest stays below */
	for (int i = 0; i < 8; i++) {
		assert_int_equal(SSL_write(r->peer, data, 16384), 16384);
		rig_pump(r);
	}
	assert_true(r->s->rx.n_bytes <= 65536 + 16384);
	assert_true(r->below.s.rx.n_bytes > 0);
	uint32_t total = 0;
	for (int i = 0; i < 32 && total < 8 * 16384; i++) {
		total += r->s->rx.n_bytes;
		stream_consume(r->w, r->s, r->s->rx.n_bytes);
		rig_turn(r);
	}
	assert_int_equal(total, 8 * 16384);
	free(data);
	free(back);
	rig_free(r);
}

static SSL_SESSION *kept;
static int keep_session(SSL *ssl, SSL_SESSION *s)
{
	(void)ssl;
	SSL_SESSION_free(kept);
	kept = s;
	return 1;
}

static SSL_CTX *resuming_peer(int version)
{
	SSL_CTX *c = t_peer_ctx(false, client_cert);

	SSL_CTX_set_max_proto_version(c, version);
	SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(c, keep_session);
	return c;
}

/* One connection with the session kept before, if any; whether it was resumed. */
static bool connect_again(struct tls_context *context, int version)
{
	struct rig *r = rig(.context = context, .peer = resuming_peer(version));
	char buf[8];

	if (kept)
		assert_int_equal(SSL_set_session(r->peer, kept), 1);
	rig_pump(r);
	(void)rig_peer_read(r, buf, sizeof(buf)); /* the ticket */
	assert_int_equal(r->n_opened, 1);
	bool is_resumed = tls_stream_facts(r->s)->is_resumed;
	assert_int_equal(SSL_session_reused(r->peer), is_resumed);
	assert_non_null(tls_stream_facts(r->s)->peer);
	(void)SSL_shutdown(r->peer); /* a session of a connection that did not end in order is not used again */
	rig_free(r);
	return is_resumed;
}

static void test_tickets_resume_until_their_key_is_gone(void **state)
{
	uint8_t keys[3][TLS_TICKET_KEY_BYTES];

	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		for (size_t i = 0; i < sizeof(keys); i++)
			keys[i / TLS_TICKET_KEY_BYTES][i % TLS_TICKET_KEY_BYTES] = (uint8_t)(i * 7 + i / TLS_TICKET_KEY_BYTES);
		struct tls_tickets *t = tls_tickets_new((const uint8_t(*)[TLS_TICKET_KEY_BYTES])keys, 1);
		struct tls_context *c = t_server(server_cert, ca, TLS_AUTH_REQUIRED, t);
		assert_false(connect_again(tls_context_get(c), version));
		assert_true(connect_again(tls_context_get(c), version));
		tls_tickets_rotate(t, (const uint8_t(*)[TLS_TICKET_KEY_BYTES])keys, 2);
		memcpy(keys[2], keys[0], sizeof(keys[0]));
		tls_tickets_rotate(t, (const uint8_t(*)[TLS_TICKET_KEY_BYTES])(keys + 1), 2); /* another seals; the old one still opens */
		assert_true(connect_again(tls_context_get(c), version));
		tls_tickets_rotate(t, (const uint8_t(*)[TLS_TICKET_KEY_BYTES])(keys + 2), 1); /* what sealed the last ticket is gone */
		assert_false(connect_again(tls_context_get(c), version));
		/* other rules: the same keys, and still no resumption */
		struct tls_context *other = t_server(server_cert, other_ca, TLS_AUTH_NONE, t);
		SSL_SESSION *mine = kept;
		SSL_SESSION_up_ref(mine);
		struct rig *r = rig(.context = other, .peer = resuming_peer(version));
		assert_int_equal(SSL_set_session(r->peer, mine), 1);
		rig_pump(r);
		assert_false(SSL_session_reused(r->peer));
		SSL_SESSION_free(mine);
		rig_free(r);
		tls_context_put(c);
		tls_tickets_free(t);
		SSL_SESSION_free(kept);
		kept = NULL;
	}
}

static void test_key_updates_and_no_renegotiation(void **state)
{
	struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
	char buf[16];

	(void)state;
	rig_pump(r);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(SSL_key_update(r->peer, i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		assert_int_equal(SSL_write(r->peer, "again", 5), 5);
		rig_pump(r);
		t_assert_chain(&r->got, "again", 5);
		foil_chain_clear(&r->got);
		rig_write(r, "yes", 3);
		assert_int_equal(rig_peer_read(r, buf, sizeof(buf)), 3);
	}
	rig_free(r);
	SSL_CTX *old = t_peer_ctx(false, NULL);
	SSL_CTX_set_max_proto_version(old, TLS1_2_VERSION);
	r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL), .peer = old);
	rig_pump(r);
	assert_int_equal(r->n_opened, 1);
	assert_int_equal(SSL_renegotiate(r->peer), 1);
	(void)SSL_do_handshake(r->peer);
	rig_pump(r);
	assert_int_equal(t_counter(r->w, TLS, HANDSHAKES), 1); /* refused by a warning, or the connection ended */
	rig_free(r);
}

static void abort_it(struct rig *r)
{
	struct stream *s = r->s;

	r->s = NULL;
	stream_abort(r->w, s);
}

static void release_it(struct rig *r)
{
	struct stream *s = r->s;

	r->s = NULL;
	stream_release(r->w, s);
}

static void test_users_may_leave_from_inside_callbacks(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
		void (*leave)(struct rig *) = i & 1 ? abort_it : release_it;
		if (i & 2)
			r->on_opened = leave;
		else
			r->on_readable = leave;
		rig_pump(r);
		if (r->s) {
			(void)SSL_write(r->peer, "x", 1);
			rig_pump(r);
		}
		assert_null(r->s);
		assert_int_equal(i & 1 ? r->below.is_aborted : r->below.is_released, true);
		assert_int_equal(t_counter(r->w, TLS, CONNS), 0);
		rig_free(r);
	}
}

/* Opens servers on streams that say nothing, from addresses 198.18.NET.n, until one is refused or there are n_max. */
static int open_silent(struct rig *r, struct tls_context *c, uint8_t net, int n_max, struct rig_below *below, struct stream **s)
{
	for (int n = 0; n < n_max; n++) {
		const struct tls_server_params p = {.context = c};
		below[n] = (struct rig_below){.s = {.ops = r->below.s.ops, .remote = {.ip = {[10] = 0xff, 0xff, 198, 18, net, (uint8_t)n}}}};
		if (tls_server_open(r->w, &below[n].s, &p, &s[n]) != 0)
			return n;
	}
	return n_max;
}

static void test_too_many_handshakes_are_refused_and_given_back(void **state)
{
	struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
	struct tls_context *c = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL);
	struct rig_below more[3][16];
	struct stream *s[3][16];

	(void)state;
	assert_int_equal(open_silent(r, c, 1, 16, more[0], s[0]), 8); /* one network's share */
	assert_int_equal(t_reason(r->w, TLS, HANDSHAKES_OF_PREFIX), 1);
	assert_int_equal(open_silent(r, c, 2, 16, more[1], s[1]), 7); /* others have their places; in all 16, the rig's own among them */
	assert_int_equal(t_reason(r->w, TLS, HANDSHAKES_EXHAUSTED), 1);
	for (int n = 0; n < 8; n++)
		stream_abort(r->w, s[0][n]);
	assert_int_equal(open_silent(r, c, 3, 8, more[2], s[2]), 8);
	for (int n = 0; n < 8; n++)
		stream_abort(r->w, s[2][n]);
	for (int n = 0; n < 7; n++)
		stream_abort(r->w, s[1][n]);
	assert_int_equal(t_counter(r->w, TLS, HANDSHAKES_IN_FLIGHT), 1);
	tls_context_put(c);
	rig_pump(r);
	assert_int_equal(r->n_opened, 1);
	rig_free(r);
}

/* Any order of taking and giving leaves the table as counting by hand says. */
static void test_places_are_counted_by_network(void **state)
{
	struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
	struct tls_places *t = &r->w->tls->places;
	struct tls_place held[400] = {{0}};
	unsigned int by_net[200] = {0}, n = 0, seed = 1, of[400];

	(void)state;
	tls_places_fini(t);
	assert_int_equal(tls_places_init(t, 300, 4), 0);
	for (int i = 0; i < 200000; i++) {
		seed = seed * 1103515245u + 12345u;
		unsigned int at = (seed >> 8) % 400, net = (seed >> 17) % 200;
		if (held[at].is_held) {
			tls_place_give(r->w, &held[at]);
			by_net[of[at]]--;
			n--;
			continue;
		}
		struct stream_addr a = {.ip = {[10] = 0xff, 0xff, 10, (uint8_t)(net >> 4), (uint8_t)(net & 15), (uint8_t)at}};
		if (net & 1)
			a = (struct stream_addr){.ip = {0xfd, 0, 0xf0, 0x11, 0, 0, 0, (uint8_t)net, [15] = (uint8_t)at}};
		bool expected = n < 300 && by_net[net] < 4;
		assert_int_equal(tls_place_take(r->w, &held[at], &a), expected);
		if (expected) {
			of[at] = net;
			by_net[net]++;
			n++;
		}
		assert_int_equal(t->n, n);
	}
	for (int i = 0; i < 400; i++)
		tls_place_give(r->w, &held[i]);
	assert_int_equal(t->n, 0);
	for (uint32_t i = 0; i <= t->mask; i++)
		assert_int_equal(t->slots[i].n, 0);
	struct tls_place own = {0}; /* the rig's, which was in the table of before */
	assert_true(tls_place_take(r->w, &own, &r->below.s.remote));
	rig_free(r);
}

/* A step that is away: whatever happens to the connection meanwhile, it comes back, and nothing is left. */
static void test_connections_end_while_their_handshake_is_away(void **state)
{
	enum rig_crypto was = rig_crypto;

	(void)state;
	rig_crypto = RIG_CRYPTO_STEPPED;
	for (int how = 0; how < 5; how++) {
		struct rig *r = rig(.context = t_server(server_cert, ca, TLS_AUTH_REQUIRED, NULL), .peer = t_peer_ctx(false, client_cert));
		uint8_t hello[4096];
		(void)SSL_do_handshake(r->peer);
		int n = BIO_read(SSL_get_wbio(r->peer), hello, sizeof(hello));
		assert_int_equal(foil_chain_append(r->w, &r->below.s.rx, hello, (uint32_t)n), 0);
		r->below.s.user->readable(r->w, &r->below.s);
		assert_int_equal(r->w->tls->n_jobs, 1);
		assert_int_equal(t_counter(r->w, TLS, STEPS_HANDED_OFF), 1);
		if (how == 0) {
			abort_it(r);
		} else if (how == 1) {
			r->below.s.user->closed(r->w, &r->below.s, STREAM_END_RESET);
			foil_chain_clear(&r->below.s.rx);
		} else if (how == 2) {
			r->w->now_us += TLS_HANDSHAKE_US + 1000000;
			(void)foil_wheel_advance(r->w, 100);
			assert_int_equal(t_reason(r->w, TLS, HANDSHAKE_TIMEOUT), 1);
		} else if (how == 3) {
			release_it(r);
		} /* 4: the room ends */
		if (how < 4) {
			assert_int_equal(r->w->tls->n_jobs, 1);
			assert_int_equal(t_counter(r->w, TLS, CONNS), 1);
			rig_turn(r);
			assert_int_equal(t_counter(r->w, TLS, CONNS), 0);
			assert_int_equal(t_counter(r->w, TLS, HANDSHAKES_IN_FLIGHT), 0);
		} else {
			tls_recall(r->w);
			assert_int_equal(r->w->tls->n_jobs, 0);
		}
		rig_free(r);
	}
	rig_crypto = was;
}

/* More steps than the rings have room for are taken here. */
static void test_what_cannot_go_is_done_here(void **state)
{
	enum rig_crypto was = rig_crypto;

	(void)state;
	rig_crypto = RIG_CRYPTO_STEPPED;
	struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
	r->w->tls->jobs_max = 0;
	rig_pump(r);
	assert_int_equal(r->n_opened, 1);
	assert_int_equal(t_counter(r->w, TLS, STEPS_HANDED_OFF), 0);
	rig_free(r);
	rig_crypto = was;
}

static void test_without_mbufs_it_fails_and_leaks_nothing(void **state)
{
	(void)state;
	for (uint32_t left = 0; left < 24; left++) {
		struct rig *r = rig(.context = t_server(server_cert, NULL, TLS_AUTH_NONE, NULL), .n_mbufs = 64);
		uint8_t hello[4096];
		(void)SSL_do_handshake(r->peer);
		int n = BIO_read(SSL_get_wbio(r->peer), hello, sizeof(hello));
		assert_int_equal(foil_chain_append(r->w, &r->below.s.rx, hello, (uint32_t)n), 0);
		t_pool_drain(r->w->mbuf_pool, left);
		r->below.s.user->readable(r->w, &r->below.s);
		rig_turn(r);
		t_pool_refill(r->w->mbuf_pool);
		if (!r->s)
			assert_int_equal(t_reason(r->w, TLS, OUT_OF_MEMORY), 1);
		rig_free(r);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_client_and_our_server_talk),
		cmocka_unit_test(test_our_client_and_a_server_talk),
		cmocka_unit_test(test_every_cut_of_the_bytes_gives_the_same),
		cmocka_unit_test(test_the_clients_certificate_becomes_facts),
		cmocka_unit_test(test_clients_without_the_right_certificate_are_refused),
		cmocka_unit_test(test_the_workers_clock_decides_about_expiry),
		cmocka_unit_test(test_purposes_revocation_and_hashes),
		cmocka_unit_test(test_a_server_that_accepts_the_untrusted_takes_and_counts_them),
		cmocka_unit_test(test_our_client_wants_one_of_its_names),
		cmocka_unit_test(test_versions_and_suites_that_do_not_meet),
		cmocka_unit_test(test_alpn_is_agreed_or_left_out),
		cmocka_unit_test(test_ends_are_told_apart),
		cmocka_unit_test(test_a_changed_byte_ends_the_connection_with_an_alert),
		cmocka_unit_test(test_what_is_no_handshake_is_refused),
		cmocka_unit_test(test_a_handshake_that_takes_too_long_is_cut),
		cmocka_unit_test(test_connections_at_rest_share_what_their_peer_showed),
		cmocka_unit_test(test_names_longer_than_the_block_has_room_for_are_kept_whole),
		cmocka_unit_test(test_large_bodies_both_ways_and_backpressure),
		cmocka_unit_test(test_tickets_resume_until_their_key_is_gone),
		cmocka_unit_test(test_key_updates_and_no_renegotiation),
		cmocka_unit_test(test_users_may_leave_from_inside_callbacks),
		cmocka_unit_test(test_too_many_handshakes_are_refused_and_given_back),
		cmocka_unit_test(test_places_are_counted_by_network),
		cmocka_unit_test(test_connections_end_while_their_handshake_is_away),
		cmocka_unit_test(test_what_cannot_go_is_done_here),
		cmocka_unit_test(test_without_mbufs_it_fails_and_leaks_nothing),
	};

	const char *how = argc > 1 ? argv[1] : "our records"; /* one run, one TAP plan */
	rig_openssl_records = strcmp(how, "openssl-records") == 0;
	rig_crypto = strcmp(how, "crypto-stepped") == 0 ? RIG_CRYPTO_STEPPED : strcmp(how, "crypto-thread") == 0 ? RIG_CRYPTO_THREAD : RIG_CRYPTO_NONE;
	if (rig_crypto == RIG_CRYPTO_THREAD)
		cmocka_set_skip_filter("test_every_cut*"); /* thousands of steps, each a change of threads: too long on a busy core */
	return cmocka_run_group_tests_name(how, tests, make_certs, free_certs);
}
