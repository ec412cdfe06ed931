/* Subject alternative names of a certificate (RFC 5280 4.2.1.6) and whether one of them is a wanted one (RFC 6125 6.4, RFC 9525). The common name is
 * never a host's name. Invariant: a name with a byte that neither a URI nor a host's name has (NUL, space, controls, beyond ASCII) is no name; so each may
 * stand in a header's line and in a log's. */
#include <arpa/inet.h>

#include <openssl/x509v3.h>

#include "dataplane/tls/tls_priv.h"

#define SANS_MAX 256 /* of one certificate; the rest is not looked at */

/* Visible ASCII, as RFC 3986 and RFC 1123 have it. */
static bool is_visible(struct foil_slice s)
{
	for (uint32_t i = 0; i < s.n_bytes; i++)
		if ((uint8_t)s.data[i] <= ' ' || (uint8_t)s.data[i] >= 0x7f)
			return false;
	return true;
}

static bool san_of(const GENERAL_NAME *g, struct tls_san *out)
{
	const ASN1_STRING *text = NULL;

	switch (g->type) {
	case GEN_URI:
		out->kind = TLS_SAN_URI;
		text = g->d.uniformResourceIdentifier;
		break;
	case GEN_DNS:
		out->kind = TLS_SAN_DNS;
		text = g->d.dNSName;
		break;
	case GEN_IPADD:
		out->kind = TLS_SAN_IP;
		text = g->d.iPAddress;
		break;
	default: return false;
	}
	out->text = foil_slice_of(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
	if (out->kind == TLS_SAN_IP)
		return out->text.n_bytes == 4 || out->text.n_bytes == 16;
	return out->text.n_bytes > 0 && is_visible(out->text);
}

void tls_sans_each(X509 *cert, bool (*each)(void *data, const struct tls_san *san), void *data)
{
	GENERAL_NAMES *list = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int n = list ? FOIL_MIN(sk_GENERAL_NAME_num(list), SANS_MAX) : 0;
	bool go_on = true;

	for (int i = 0; i < n && go_on; i++) {
		struct tls_san san;
		if (san_of(sk_GENERAL_NAME_value(list, i), &san))
			go_on = each(data, &san);
	}
	GENERAL_NAMES_free(list);
}

/* "*.example.com" has "a.example.com", not "example.com" and not "a.b.example.com". */
static bool dns_has(struct foil_slice pattern, struct foil_slice host)
{
	const char *dot;

	if (pattern.n_bytes < 3 || pattern.data[0] != '*' || pattern.data[1] != '.')
		return foil_slice_eq_nocase(pattern, host);
	dot = host.n_bytes ? memchr(host.data, '.', host.n_bytes) : NULL;
	if (!dot || dot == host.data)
		return false;
	return foil_slice_eq_nocase(foil_slice_of(pattern.data + 1, pattern.n_bytes - 1u),
				    foil_slice_of(dot, (size_t)(host.data + host.n_bytes - dot)));
}

static bool ip_is(struct foil_slice bytes, struct foil_slice wanted)
{
	char text[INET6_ADDRSTRLEN + 1];
	uint8_t ip[16];

	if (wanted.n_bytes >= sizeof(text))
		return false;
	memcpy(text, wanted.data, wanted.n_bytes);
	text[wanted.n_bytes] = 0;
	return inet_pton(bytes.n_bytes == 4 ? AF_INET : AF_INET6, text, ip) == 1 && memcmp(ip, bytes.data, bytes.n_bytes) == 0;
}

/* SPIFFE ids never end in '/': a wanted name that does stands for every URI under it. */
static bool uri_is(struct foil_slice uri, struct foil_slice wanted)
{
	if (wanted.data[wanted.n_bytes - 1] != '/')
		return foil_slice_eq(uri, wanted);
	return uri.n_bytes > wanted.n_bytes && memcmp(uri.data, wanted.data, wanted.n_bytes) == 0;
}

struct wanted {
	const struct foil_slice *names;
	size_t n_names;
	bool found;
};

static bool compare(void *data, const struct tls_san *san)
{
	struct wanted *w = data;

	for (size_t i = 0; i < w->n_names && !w->found; i++) {
		struct foil_slice name = w->names[i];
		if (!name.n_bytes)
			continue;
		switch (san->kind) {
		case TLS_SAN_URI: w->found = uri_is(san->text, name); break;
		case TLS_SAN_DNS: w->found = dns_has(san->text, name); break;
		case TLS_SAN_IP: w->found = ip_is(san->text, name); break;
		}
	}
	return !w->found;
}

bool tls_cert_has_name(X509 *cert, const struct foil_slice *names, size_t n_names)
{
	struct wanted w = {.names = names, .n_names = n_names};

	tls_sans_each(cert, compare, &w);
	return w.found;
}
