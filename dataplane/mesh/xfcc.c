/* x-forwarded-client-cert (features.md HD-10, GW-15): what becomes of the client's own, and one element of what its verified certificate says, in Envoy's
 * order of keys. Without a certificate only ALWAYS_FORWARD_ONLY lets a client's word through. */
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

static size_t bytes_max(const struct tls_facts *tls)
{
	const struct tls_peer *p = tls->peer;
	size_t n_max = 128;

	n_max += 2 * (size_t)tls->local_uri_san.n_bytes + p->fingerprint.n_bytes + p->pem.n_bytes + 2 * (size_t)p->subject.n_bytes;
	for (uint16_t i = 0; i < p->n_uri_sans; i++)
		n_max += 2 * (size_t)p->uri_sans[i].n_bytes + 7;
	for (uint16_t i = 0; i < p->n_dns_sans; i++)
		n_max += 2 * (size_t)p->dns_sans[i].n_bytes + 7;
	return n_max;
}

/* Envoy tells "URI=" even when there is none. */
static void put_sans(char **at, const struct tls_peer *p, const struct mesh_client_cert_header *how)
{
	if (!how->hide_uri && p->n_uri_sans == 0)
		put(at, FOIL_SLICE(";URI="));
	for (uint16_t i = 0; !how->hide_uri && i < p->n_uri_sans; i++) {
		put(at, FOIL_SLICE(";URI="));
		put_name(at, p->uri_sans[i]);
	}
	for (uint16_t i = 0; !how->hide_dns && i < p->n_dns_sans; i++) {
		put(at, FOIL_SLICE(";DNS="));
		put_name(at, p->dns_sans[i]);
	}
}

static char *put_element(char *at, const struct tls_facts *tls, const struct mesh_client_cert_header *how)
{
	const struct tls_peer *p = tls->peer;

	if (tls->local_uri_san.n_bytes) {
		put(&at, FOIL_SLICE("By="));
		put_name(&at, tls->local_uri_san);
		put(&at, FOIL_SLICE(";"));
	}
	put(&at, FOIL_SLICE("Hash="));
	put(&at, p->fingerprint);
	if (!how->hide_cert) {
		put(&at, FOIL_SLICE(";Cert=\""));
		put(&at, p->pem);
		put(&at, FOIL_SLICE("\""));
	}
	if (!how->hide_subject) {
		put(&at, FOIL_SLICE(";Subject=\""));
		put_quoted(&at, p->subject);
		put(&at, FOIL_SLICE("\""));
	}
	put_sans(&at, p, how);
	return at;
}

/* What the client sent, if it may stay; else it is removed. */
static int sent_before(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, const struct mesh_client_cert_header *how, struct foil_slice *out)
{
	*out = (struct foil_slice){NULL, 0};
	if (!http_header_get(h, HTTP_HDR_X_FORWARDED_CLIENT_CERT))
		return 0;
	if (how->forward == MESH_CERT_APPEND_FORWARD) {
		*out = http_header_joined(w, a, h, http_header_name(HTTP_HDR_X_FORWARDED_CLIENT_CERT));
		if (!out->data)
			return -ENOBUFS;
	}
	http_header_remove_id(h, HTTP_HDR_X_FORWARDED_CLIENT_CERT);
	return 0;
}

int mesh_xfcc_put(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, const struct mesh_client_cert_header *how, const struct tls_facts *tls)
{
	const struct tls_peer *p = tls ? tls->peer : NULL;
	struct foil_slice before;
	char *text, *at;

	if (how->forward == MESH_CERT_ALWAYS_FORWARD_ONLY || (p && how->forward == MESH_CERT_FORWARD_ONLY))
		return 0;
	if (!p || how->forward == MESH_CERT_SANITIZE) {
		http_header_remove_id(h, HTTP_HDR_X_FORWARDED_CLIENT_CERT);
		return 0;
	}
	if (sent_before(w, a, h, how, &before) != 0)
		return -ENOBUFS;
	text = at = foil_arena_alloc(w, a, bytes_max(tls) + before.n_bytes + 1);
	if (!text)
		return -ENOBUFS;
	put(&at, before);
	if (before.n_bytes)
		put(&at, FOIL_SLICE(","));
	at = put_element(at, tls, how);
	return http_header_add_id(w, a, h, HTTP_HDR_X_FORWARDED_CLIENT_CERT, foil_slice_of(text, (size_t)(at - text)));
}
