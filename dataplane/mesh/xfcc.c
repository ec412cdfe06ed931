/* x-forwarded-client-cert (features.md HD-10, GW-15): one element of what the client's verified certificate says, in Envoy's order of keys. */
#include "dataplane/mesh/forwarding.h"

#include <errno.h>

#include "dataplane/tls/tls.h"

static void put(char **at, struct foil_slice s)
{
	if (s.n_bytes)
		memcpy(*at, s.data, s.n_bytes);
	*at += s.n_bytes;
}

/* Inside quotes: '"' and '\' behind a '\'. */
static void put_quoted(char **at, struct foil_slice s)
{
	for (uint32_t i = 0; i < s.n_bytes; i++) {
		if (s.data[i] == '"' || s.data[i] == '\\')
			*(*at)++ = '\\';
		*(*at)++ = s.data[i];
	}
}

/* A name as it is, unless it could be taken for more than one value. */
static void put_name(char **at, struct foil_slice s)
{
	bool is_plain = true;

	for (uint32_t i = 0; i < s.n_bytes; i++)
		is_plain &= !strchr(",;=\"\\", s.data[i]);
	if (is_plain) {
		put(at, s);
		return;
	}
	put(at, FOIL_SLICE("\""));
	put_quoted(at, s);
	put(at, FOIL_SLICE("\""));
}

int mesh_xfcc_put(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, const struct tls_facts *tls)
{
	const struct tls_peer *p = tls ? tls->peer : NULL;
	size_t n_max = 128;
	char *text, *at;

	if (!p)
		return 0;
	n_max += 2 * (size_t)tls->local_uri_san.n_bytes + p->fingerprint.n_bytes + p->pem.n_bytes + 2 * (size_t)p->subject.n_bytes;
	for (uint16_t i = 0; i < p->n_uri_sans; i++)
		n_max += 2 * (size_t)p->uri_sans[i].n_bytes + 7;
	for (uint16_t i = 0; i < p->n_dns_sans; i++)
		n_max += 2 * (size_t)p->dns_sans[i].n_bytes + 7;
	text = at = foil_arena_alloc(w, a, n_max);
	if (!text)
		return -ENOBUFS;
	if (tls->local_uri_san.n_bytes) {
		put(&at, FOIL_SLICE("By="));
		put_name(&at, tls->local_uri_san);
		put(&at, FOIL_SLICE(";"));
	}
	put(&at, FOIL_SLICE("Hash="));
	put(&at, p->fingerprint);
	put(&at, FOIL_SLICE(";Cert=\""));
	put(&at, p->pem);
	put(&at, FOIL_SLICE("\";Subject=\""));
	put_quoted(&at, p->subject);
	put(&at, FOIL_SLICE("\";URI="));
	for (uint16_t i = 0; i < p->n_uri_sans; i++) {
		if (i)
			put(&at, FOIL_SLICE(";URI="));
		put_name(&at, p->uri_sans[i]);
	}
	for (uint16_t i = 0; i < p->n_dns_sans; i++) {
		put(&at, FOIL_SLICE(";DNS="));
		put_name(&at, p->dns_sans[i]);
	}
	return http_header_add_id(w, a, h, HTTP_HDR_X_FORWARDED_CLIENT_CERT, foil_slice_of(text, (size_t)(at - text)));
}
