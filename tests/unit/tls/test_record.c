/* Our record layer: every suite and both sides against OpenSSL, and records of a peer that knows the keys and breaks the rules. */
#include "tests/unit/tls/rig.h"

#include <openssl/err.h>

#include <stdlib.h>

#include "dataplane/tls/tls_priv.h"

static struct t_cert *ca, *server_cert;

static int make_certs(void **state)
{
	(void)state;
	ca = t_cert(.cn = "ca", .is_ca = true);
	server_cert = t_cert(.cn = "server", .sans = "DNS:web", .issuer = ca);
	return 0;
}

static int free_certs(void **state)
{
	(void)state;
	t_cert_free(ca);
	t_cert_free(server_cert);
	return 0;
}

static const struct {
	int version;
	const char *suite;
} suites[] = {
	{TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"}, {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"}, {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},
	{TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"}, {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"},
	{TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"},
};

static struct rig *with_suite(size_t i, bool is_client)
{
	SSL_CTX *peer = t_peer_ctx(is_client, is_client ? server_cert : NULL);

	assert_int_equal(SSL_CTX_set_min_proto_version(peer, suites[i].version), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(peer, suites[i].version), 1);
	if (suites[i].version == TLS1_3_VERSION)
		assert_int_equal(SSL_CTX_set_ciphersuites(peer, suites[i].suite), 1);
	else
		assert_int_equal(SSL_CTX_set_cipher_list(peer, suites[i].suite), 1);
	return rig(.is_client = is_client, .peer = peer, .n_mbufs = 4095,
		   .context = is_client ? t_client(ca) : t_server(server_cert, NULL, TLS_AUTH_NONE, NULL));
}

static void test_every_suite_on_both_sides(void **state)
{
	static uint8_t data[40000], back[40000];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 31 + i / 251);
	for (size_t i = 0; i < 2 * FOIL_COUNT_OF(suites); i++) {
		struct rig *r = with_suite(i / 2, i % 2);
		rig_pump(r);
		assert_int_equal(r->n_opened, 1);
		for (uint32_t n = 1; n < sizeof(data); n = n * 3 + 1) {
			assert_int_equal(SSL_write(r->peer, data, (int)n), (int)n);
			rig_pump(r);
			t_assert_chain(&r->got, data, n);
			foil_chain_clear(&r->got);
			rig_write(r, data, n);
			assert_int_equal(rig_peer_read(r, back, sizeof(back)), n);
			assert_memory_equal(data, back, n);
		}
		assert_true(t_counter(r->w, TLS, RECORDS_SEALED) >= 9);
		assert_int_equal(t_counter(r->w, TLS, OPENSSL_RECORDS), 0);
		stream_shutdown(r->w, r->s);
		(void)rig_peer_read(r, back, 1);
		assert_true(SSL_get_shutdown(r->peer) & SSL_RECEIVED_SHUTDOWN);
		rig_free(r);
	}
}

static void test_records_that_are_padded(void **state)
{
	struct rig *r = with_suite(0, false);

	(void)state;
	assert_int_equal(SSL_set_block_padding(r->peer, 5000), 1);
	rig_pump(r);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(SSL_write(r->peer, "hello\0\0", 7), 7);
		rig_pump(r);
		t_assert_chain(&r->got, "hello\0\0", 7);
		foil_chain_clear(&r->got);
	}
	rig_free(r);
}

static void test_records_are_small_at_first_and_large_later(void **state)
{
	struct rig *r = with_suite(0, false);
	static uint8_t data[200000];

	(void)state;
	rig_pump(r);
	r->below.n_out = 0;
	r->drop_to_peer = true;
	rig_write(r, data, sizeof(data));
	size_t at = 0, n_small = 0, n_large = 0;
	while (at < r->below.n_out) {
		size_t n = (size_t)r->below.out[at + 3] << 8 | r->below.out[at + 4];
		n_small += n <= 4096 + 17;
		n_large += n == 16384 + 17;
		at += 5 + n;
	}
	assert_int_equal(at, r->below.n_out);
	assert_int_equal(n_small, 17); /* 16 of 64 KiB, and what is left at the end */
	assert_int_equal(n_large, 8);
	t_clock(r->w, 2000000);
	r->below.n_out = 0;
	rig_write(r, data, 8192);
	assert_int_equal(r->below.out[3] << 8 | r->below.out[4], 4096 + 17); /* small again after a pause */
	rig_free(r);
}

/* ---- a peer that has the keys ---- */
struct evil {
	struct rig *r;
	struct tls_conn c; /* rec is the peer's */
};

static void keep_secret(const SSL *ssl, const char *line)
{
	struct evil *e = SSL_get_ex_data(ssl, 0);
	bool is_server = strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0;
	size_t n = 0;

	if (!is_server && strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) != 0)
		return;
	bool is_tx = is_server == e->c.rec.is_server;
	struct tls_half *h = is_tx ? &e->c.rec.tx : &e->c.rec.rx;
	unsigned char *secret = OPENSSL_hexstr2buf(strrchr(line, ' ') + 1, NULL);
	assert_non_null(secret);
	n = strlen(strrchr(line, ' ') + 1) / 2;
	assert_true(n <= sizeof(h->secret));
	memcpy(h->secret, secret, n);
	OPENSSL_free(secret);
	*(is_tx ? &e->c.rec.has_tx_secret : &e->c.rec.has_rx_secret) = true;
}

static struct evil *evil_new(size_t suite, bool is_client)
{
	struct evil *e = calloc(1, sizeof(*e));

	e->r = with_suite(suite, is_client);
	e->c.rec.is_server = is_client;
	SSL_CTX_set_keylog_callback(e->r->peer_ctx, keep_secret);
	assert_int_equal(SSL_set_ex_data(e->r->peer, 0, e), 1);
	SSL_set_num_tickets(e->r->peer, 0);
	rig_pump(e->r);
	assert_int_equal(e->r->n_opened, 1);
	assert_true(tls_records_take(e->r->w->tls->aead, &e->c.rec, e->r->peer, 0));
	e->r->below.n_out = 0;
	e->r->drop_to_peer = true;
	return e;
}

static void evil_free(struct evil *e)
{
	tls_records_free(e->r->w->tls->aead, &e->c.rec);
	rig_free(e->r);
	free(e);
}

static void evil_say(struct evil *e, uint8_t type, const void *data, uint32_t n)
{
	struct foil_chain plain = {0}, out = {0};
	static uint8_t wire[20000];

	t_chain(e->r->w, &plain, data, n, 0);
	assert_int_equal(tls_records_seal(e->r->w, &e->c.rec, type, &plain, 0, n, &out), 0);
	uint32_t n_wire = out.n_bytes;
	foil_chain_copy_out(&out, 0, wire, n_wire);
	foil_chain_clear(&plain);
	foil_chain_clear(&out);
	rig_push(e->r, wire, n_wire);
}

/* The next record of ours: its content's bytes, at most 8 of them in out. */
static uint32_t evil_hear(struct evil *e, uint8_t *type, uint8_t out[8])
{
	struct foil_chain rx = {0}, plain = {0};
	uint8_t alert = 0;

	if (!e->r->below.n_out)
		return 0;
	t_chain(e->r->w, &rx, e->r->below.out, (uint32_t)e->r->below.n_out, 0);
	assert_int_equal(tls_records_open(e->r->w, &e->c.rec, &rx, &plain, type, &alert), TLS_OPEN_OK);
	e->r->below.n_out = rx.n_bytes;
	foil_chain_copy_out(&rx, 0, e->r->below.out, rx.n_bytes);
	uint32_t n = plain.n_bytes;
	foil_chain_copy_out(&plain, 0, out, FOIL_MIN(n, 8));
	foil_chain_clear(&rx);
	foil_chain_clear(&plain);
	return n;
}

static void assert_alert(struct evil *e, uint8_t what)
{
	uint8_t type = 0, out[8] = {0};

	assert_int_equal(evil_hear(e, &type, out), 2);
	assert_int_equal(type, TLS_TYPE_ALERT);
	assert_int_equal(out[0], 2);
	assert_int_equal(out[1], what);
	assert_int_equal(e->r->n_closed, 1);
	assert_int_equal(e->r->why, STREAM_END_TLS);
	assert_int_equal(t_reason(e->r->w, TLS, BAD_RECORD), 1);
	assert_true(e->r->below.is_released);
	assert_int_equal(e->r->got.n_bytes, 0);
}

static void test_rules_that_a_peer_with_keys_breaks(void **state)
{
	static const struct {
		size_t suite;
		bool is_client;
		uint8_t type;
		const char *data;
		uint32_t n;
		uint8_t alert;
	} cases[] = {
		{0, false, 22, "\x18\x00\x00\x01\x00\x00", 6, 10}, /* a byte behind KeyUpdate */
		{0, false, 22, "\x18\x00\x00\x01\x02", 5, 47},     /* neither asked nor not */
		{0, false, 22, "\x18\x00\x00\x02\x00\x00", 6, 50},
		{0, false, 22, "\x14\x00\x00\x20", 4, 10},         /* Finished again */
		{0, false, 22, "\x04\x00\x00\x20", 4, 10},         /* a ticket to a server */
		{0, false, 22, "\x01\x00\x00\x20", 4, 10},         /* ClientHello: no renegotiation in 1.3 */
		{0, false, 22, "", 0, 10},
		{0, false, 20, "\x01", 1, 10},
		{0, false, 0, "", 0, 10},                          /* padding alone */
		{0, false, 21, "\x02", 1, 10},
		{0, false, 24, "\x01", 1, 10},
		{0, true, 22, "\x0d\x00\x00\x20", 4, 10},          /* CertificateRequest after the handshake */
		{3, false, 20, "\x01", 1, 10},
		{3, false, 22, "\x0b\x00\x00\x20", 4, 10},
		{3, true, 22, "\x04\x00\x00\x20", 4, 10},
	};

	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct evil *e = evil_new(cases[i].suite, cases[i].is_client);
		evil_say(e, cases[i].type, cases[i].data, cases[i].n);
		if (!e->r->below.n_out)
			fail_msg("case %zu: no alert", i);
		assert_alert(e, cases[i].alert);
		evil_free(e);
	}
}

static void test_data_between_the_parts_of_a_message(void **state)
{
	struct evil *e = evil_new(0, false);

	(void)state;
	evil_say(e, TLS_TYPE_HANDSHAKE, "\x18\x00", 2);
	assert_int_equal(e->r->n_closed, 0);
	evil_say(e, TLS_TYPE_DATA, "x", 1);
	assert_alert(e, SSL_AD_UNEXPECTED_MESSAGE);
	evil_free(e);
}

static void test_records_without_data_are_bounded(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct evil *e = evil_new(i == 2 ? 3 : 0, false);
		int n = 0;
		for (; n < 100 && !e->r->n_closed; n++) {
			evil_say(e, i == 1 ? TLS_TYPE_HANDSHAKE : i == 2 ? TLS_TYPE_ALERT : TLS_TYPE_DATA, i == 1 ? "\x18\x00\x00\x01\x00" : "\x01\x5a",
				 i == 1 ? 5 : i == 2 ? 2 : 0);
			if (i == 1)
				assert_true(tls_records_update(e->r->w->tls->aead, &e->c.rec, true));
		}
		assert_int_equal(n, 33);
		assert_alert(e, SSL_AD_UNEXPECTED_MESSAGE);
		evil_free(e);
	}
}

static void test_key_updates_in_pieces_and_answered(void **state)
{
	static const char *const update[] = {"\x18\x00\x00\x01\x00", "\x18\x00\x00\x01\x01"};

	(void)state;
	for (size_t suite = 0; suite < 3; suite++) {
		struct evil *e = evil_new(suite, suite == 1);
		for (int i = 0; i < 8; i++) {
			uint8_t type = 0, out[8] = {0};
			for (int k = 0; k < 5; k++)
				evil_say(e, TLS_TYPE_HANDSHAKE, update[i % 2] + k, 1);
			assert_true(tls_records_update(e->r->w->tls->aead, &e->c.rec, true));
			if (i % 2) {
				assert_int_equal(evil_hear(e, &type, out), 5);
				assert_memory_equal(out, update[0], 5);
				assert_true(tls_records_update(e->r->w->tls->aead, &e->c.rec, false));
			}
			evil_say(e, TLS_TYPE_DATA, "data", 4);
			t_assert_chain(&e->r->got, "data", 4);
			foil_chain_clear(&e->r->got);
			rig_write(e->r, "back", 4);
			assert_int_equal(evil_hear(e, &type, out), 4);
			assert_memory_equal(out, "back", 4);
		}
		evil_free(e);
	}
}

static void test_our_own_key_update_at_the_limit(void **state)
{
	struct evil *e = evil_new(0, false);
	uint8_t type = 0, out[8] = {0};

	(void)state;
	struct tls_conn *mine = FOIL_CONTAINER_OF(e->r->s, struct tls_conn, s);
	mine->rec.tx.seq = e->c.rec.rx.seq = (1ull << 24) - 1;
	rig_write(e->r, "a", 1);
	assert_int_equal(evil_hear(e, &type, out), 1);
	rig_write(e->r, "b", 1);
	assert_int_equal(evil_hear(e, &type, out), 5);
	assert_int_equal(type, TLS_TYPE_HANDSHAKE);
	assert_true(tls_records_update(e->r->w->tls->aead, &e->c.rec, false));
	assert_int_equal(evil_hear(e, &type, out), 1);
	assert_int_equal(out[0], 'b');
	assert_int_equal(t_counter(e->r->w, TLS, KEY_UPDATES), 1);
	evil_free(e);
}

static void test_tickets_in_pieces_are_dropped_by_a_client(void **state)
{
	struct evil *e = evil_new(0, true);
	static uint8_t ticket[3004] = {4, 0, 0x0b, 0xb8};

	(void)state;
	for (int i = 0; i < 3; i++) {
		evil_say(e, TLS_TYPE_HANDSHAKE, ticket, 3);
		evil_say(e, TLS_TYPE_HANDSHAKE, ticket + 3, 2000);
		evil_say(e, TLS_TYPE_HANDSHAKE, ticket + 2003, 1001);
		evil_say(e, TLS_TYPE_DATA, "data", 4);
	}
	assert_int_equal(e->r->n_closed, 0);
	t_assert_chain(&e->r->got, "datadatadata", 12);
	evil_free(e);
}

static void test_renegotiation_is_declined_in_tls12(void **state)
{
	struct evil *e = evil_new(3, false);
	uint8_t type = 0, out[8] = {0};

	(void)state;
	evil_say(e, TLS_TYPE_HANDSHAKE, "\x01\x00\x00\x02\x03\x03", 6);
	assert_int_equal(evil_hear(e, &type, out), 2);
	assert_int_equal(out[0], 1);
	assert_int_equal(out[1], 100);
	evil_say(e, TLS_TYPE_DATA, "data", 4);
	t_assert_chain(&e->r->got, "data", 4);
	evil_free(e);
}

static void test_alerts_end_it_with_their_name(void **state)
{
	struct evil *e = evil_new(0, false);

	(void)state;
	evil_say(e, TLS_TYPE_ALERT, "\x01\x5a", 2); /* user_canceled is nothing */
	assert_int_equal(e->r->n_closed, 0);
	evil_say(e, TLS_TYPE_ALERT, "\x01\x30", 2); /* in 1.3 every other one is fatal, whatever its level */
	assert_int_equal(e->r->n_closed, 1);
	assert_int_equal(t_reason(e->r->w, TLS, PEER_ALERT), 1);
	assert_non_null(strstr(e->r->failure, "alert unknown CA"));
	assert_int_equal(e->r->below.n_out, 0);
	evil_free(e);
}

static void test_records_of_the_wrong_size(void **state)
{
	static uint8_t big[16400];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct evil *e = evil_new(i % 2 ? 3 : 0, false);
		evil_say(e, TLS_TYPE_DATA, big, i < 2 ? 16384 : 16385);
		if (i < 2)
			assert_int_equal(e->r->got.n_bytes, 16384);
		else
			assert_alert(e, SSL_AD_RECORD_OVERFLOW);
		evil_free(e);
	}
	static const struct {
		size_t suite;
		const char *bytes;
		size_t n;
		uint8_t alert;
	} raw[] = {
		{0, "\x17\x03\x03\x41\x01", 5, 22}, {0, "\x17\x03\x03\x00\x10", 5, 20}, {0, "\x16\x03\x03\x00\x20", 5, 10}, {0, "\x17\x02\x03\x00\x20", 5, 10},
		{3, "\x17\x03\x03\x48\x01", 5, 22}, {3, "\x17\x03\x03\x00\x17", 5, 20}, {3, "\x18\x03\x03\x00\x20", 5, 10},
		{0, "\x17\x03\x03\x00\x11" "aaaaaaaaaaaaaaaaa", 22, 20}, {3, "\x17\x03\x03\x00\x18" "aaaaaaaaaaaaaaaaaaaaaaaa", 29, 20},
	};
	for (size_t i = 0; i < FOIL_COUNT_OF(raw); i++) {
		struct evil *e = evil_new(raw[i].suite, false);
		rig_push(e->r, raw[i].bytes, raw[i].n);
		if (!e->r->below.n_out)
			fail_msg("raw %zu: no alert", i);
		assert_alert(e, raw[i].alert);
		evil_free(e);
	}
}

static void test_replayed_and_reordered_records_are_refused(void **state)
{
	struct evil *e = evil_new(0, false);

	(void)state;
	evil_say(e, TLS_TYPE_DATA, "one", 3);
	foil_chain_clear(&e->r->got);
	e->c.rec.tx.seq--; /* the same number again */
	evil_say(e, TLS_TYPE_DATA, "one", 3);
	assert_alert(e, SSL_AD_BAD_RECORD_MAC);
	evil_free(e);
}

static void test_without_mbufs_sealing_fails_and_leaks_nothing(void **state)
{
	(void)state;
	for (uint32_t left = 0; left < 3; left++) {
		struct rig *r = with_suite(0, false);
		struct foil_chain c = {0};
		rig_pump(r);
		t_chain(r->w, &c, "hello", 5, 0);
		t_pool_drain(r->w->mbuf_pool, left);
		stream_write(r->w, r->s, &c);
		tls_turn(r->w);
		t_pool_refill(r->w->mbuf_pool);
		assert_int_equal(r->n_closed, left == 0);
		rig_free(r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_suite_on_both_sides),
		cmocka_unit_test(test_records_that_are_padded),
		cmocka_unit_test(test_records_are_small_at_first_and_large_later),
		cmocka_unit_test(test_rules_that_a_peer_with_keys_breaks),
		cmocka_unit_test(test_data_between_the_parts_of_a_message),
		cmocka_unit_test(test_records_without_data_are_bounded),
		cmocka_unit_test(test_key_updates_in_pieces_and_answered),
		cmocka_unit_test(test_our_own_key_update_at_the_limit),
		cmocka_unit_test(test_tickets_in_pieces_are_dropped_by_a_client),
		cmocka_unit_test(test_renegotiation_is_declined_in_tls12),
		cmocka_unit_test(test_alerts_end_it_with_their_name),
		cmocka_unit_test(test_records_of_the_wrong_size),
		cmocka_unit_test(test_replayed_and_reordered_records_are_refused),
		cmocka_unit_test(test_without_mbufs_sealing_fails_and_leaks_nothing),
	};

	return cmocka_run_group_tests(tests, make_certs, free_certs);
}
