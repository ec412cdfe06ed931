/* Who a peer's certificate says it is: names for matching, the facts that headers and logs are made of, and x-forwarded-client-cert, which is read back by
 * its grammar and must tell those facts and no others, whatever bytes are in the certificate. Nothing here was verified: any DER may come.
 *
 * Input: [options] then a certificate's DER, or with bit 0 names that 0x1e ends, each behind its kind (U URI, D DNS, I IP, E mail; C common name), which are
 * put into a certificate as they are. Bits 4 to 7: what the header hides. */
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "dataplane/http/h1_scan.h"
#include "dataplane/mesh/forwarding.h"
#include "dataplane/tls/tls_priv.h"
#include "tests/unit/support.h"

#define NAMES_MAX 300u

static struct foil_worker *w;
static struct foil_slice put_uris[NAMES_MAX];
static unsigned int n_put_uris;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_name(struct foil_slice s)
{
	for (uint32_t i = 0; i < s.n_bytes; i++)
		if (s.data[i] <= ' ' || s.data[i] > '~')
			return false;
	return s.n_bytes > 0;
}

/* ---- a certificate of names ---- */
static void put_name(X509 *x, GENERAL_NAMES *list, uint8_t kind, const uint8_t *at, int n)
{
	static const int types[256] = {['U'] = GEN_URI, ['D'] = GEN_DNS, ['I'] = GEN_IPADD, ['E'] = GEN_EMAIL};
	GENERAL_NAME *g;

	if (kind == 'C') {
		(void)X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName, MBSTRING_UTF8, at, n, -1, 0); /* not all bytes are UTF-8 */
		return;
	}
	if (!types[kind])
		return;
	ASN1_STRING *text = ASN1_STRING_type_new(kind == 'I' ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
	g = GENERAL_NAME_new();
	FOIL_ASSERT(g && text && ASN1_STRING_set(text, at, n) == 1);
	GENERAL_NAME_set0_value(g, types[kind], text);
	FOIL_ASSERT(sk_GENERAL_NAME_push(list, g) > 0);
}

static X509 *cert_of_names(const uint8_t *p, size_t n)
{
	GENERAL_NAMES *list = sk_GENERAL_NAME_new_null();
	X509 *x = X509_new();
	unsigned int n_all = 0;

	FOIL_ASSERT(x && list);
	while (n && n_all < NAMES_MAX) {
		const uint8_t *stop = memchr(p, 0x1e, n);
		size_t n_name = stop ? (size_t)(stop - p) : n;
		if (n_name >= 1) {
			struct foil_slice text = foil_slice_of((const char *)p + 1, n_name - 1);
			put_name(x, list, p[0], p + 1, (int)n_name - 1);
			if (p[0] == 'U' && is_name(text) && n_all < 256 && n_put_uris < 32)
				put_uris[n_put_uris++] = text;
			n_all += p[0] == 'U' || p[0] == 'D' || p[0] == 'I' || p[0] == 'E';
		}
		p += n_name + (stop != NULL);
		n -= n_name + (stop != NULL);
	}
	FOIL_ASSERT(X509_add1_ext_i2d(x, NID_subject_alt_name, list, 0, 0) == 1);
	GENERAL_NAMES_free(list);
	return x;
}

/* ---- what is told of it ---- */
static void check_names(X509 *x, const struct tls_peer *p)
{
	static const struct foil_slice under = {"spiffe://td/", 12};
	bool is_under = false;

	for (uint16_t i = 0; i < p->n_uri_sans; i++) {
		struct foil_slice uri = p->uri_sans[i];
		FOIL_ASSERT(is_name(uri));
		is_under |= uri.n_bytes > under.n_bytes && memcmp(uri.data, under.data, under.n_bytes) == 0;
		if (uri.data[uri.n_bytes - 1] != '/')
			FOIL_ASSERT(tls_cert_has_name(x, &uri, 1));
	}
	FOIL_ASSERT(p->n_uri_sans == 32 || is_under == tls_cert_has_name(x, &under, 1));
	for (uint16_t i = 0; i < p->n_dns_sans; i++)
		FOIL_ASSERT(is_name(p->dns_sans[i]));
}

static bool take(struct foil_slice *from, const char *word)
{
	size_t n = strlen(word);

	if (from->n_bytes < n || memcmp(from->data, word, n) != 0)
		return false;
	*from = foil_slice_of(from->data + n, from->n_bytes - n);
	return true;
}

/* A value: in quotes, where '\' stands before what is meant as it is, or up to the next separator. */
static size_t take_value(struct foil_slice *from, char *to)
{
	bool is_quoted = take(from, "\"");
	size_t n = 0, at = 0;

	for (; at < from->n_bytes; at++) {
		char c = from->data[at];
		if (is_quoted ? c == '"' : strchr(",;=", c) != NULL)
			break;
		if (is_quoted && c == '\\')
			at++;
		FOIL_ASSERT(at < from->n_bytes);
		to[n++] = from->data[at];
	}
	FOIL_ASSERT(!is_quoted || at < from->n_bytes);
	at += is_quoted;
	*from = foil_slice_of(from->data + at, from->n_bytes - at);
	return n;
}

static void expect(struct foil_slice *from, const char *key, struct foil_slice value)
{
	char *text = malloc(from->n_bytes + 1u);

	FOIL_ASSERT(text && take(from, key));
	size_t n = take_value(from, text);
	FOIL_ASSERT(n == value.n_bytes && (n == 0 || memcmp(text, value.data, n) == 0));
	free(text);
}

static void check_header(const struct tls_peer *p, const struct mesh_client_cert_header *how)
{
	const struct tls_facts facts = {.local_uri_san = FOIL_SLICE("spiffe://td/ns/a/sa/me"), .peer = p};
	struct http_headers headers = {0};
	struct foil_arena arena = {0};

	if (mesh_xfcc_put(w, &arena, &headers, how, &facts) == 0) { /* a certificate may be larger than a chunk */
		const struct http_header *h = http_header_get(&headers, HTTP_HDR_X_FORWARDED_CLIENT_CERT);
		FOIL_ASSERT(h && h1_is_value(h->value));
		struct foil_slice left = h->value;
		expect(&left, "By=", facts.local_uri_san);
		expect(&left, ";Hash=", p->fingerprint);
		if (!how->hide_cert)
			expect(&left, ";Cert=", p->pem);
		if (!how->hide_subject)
			expect(&left, ";Subject=", p->subject);
		if (!how->hide_uri && p->n_uri_sans == 0)
			expect(&left, ";URI=", FOIL_SLICE(""));
		for (uint16_t i = 0; !how->hide_uri && i < p->n_uri_sans; i++)
			expect(&left, ";URI=", p->uri_sans[i]);
		for (uint16_t i = 0; !how->hide_dns && i < p->n_dns_sans; i++)
			expect(&left, ";DNS=", p->dns_sans[i]);
		FOIL_ASSERT(left.n_bytes == 0);
	}
	foil_arena_reset(w, &arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct mesh_client_cert_header how = {
		.forward = MESH_CERT_SANITIZE_SET, .hide_subject = size && data[0] & 16, .hide_cert = size && data[0] & 32, .hide_dns = size && data[0] & 64,
		.hide_uri = size && data[0] & 128,
	};
	struct tls_peer_kept kept = {.hash = {1, 2, 3}};

	if (!w)
		w = t_worker(.n_chunks = 63, .n_large_chunks = 15);
	if (size < 2 || size > 40000)
		return 0;
	const unsigned char *at = data + 1;
	n_put_uris = 0;
	X509 *x = data[0] & 1 ? cert_of_names(data + 1, size - 1) : d2i_X509(NULL, &at, (long)size - 1);
	if (x && tls_peer_read(w, &kept, x)) {
		check_names(x, &kept.peer);
		if (data[0] & 1) {
			FOIL_ASSERT(kept.peer.n_uri_sans == n_put_uris);
			for (unsigned int i = 0; i < n_put_uris; i++)
				FOIL_ASSERT(foil_slice_eq(kept.peer.uri_sans[i], put_uris[i]));
		}
		check_header(&kept.peer, &how);
	}
	foil_arena_reset(w, &kept.arena);
	X509_free(x);
	ERR_clear_error();
	t_assert_no_leaks(w);
	return 0;
}
