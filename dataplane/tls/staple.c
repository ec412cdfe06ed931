/* OCSP stapling, the server's side: the response that came with an identity goes to clients that ask, as long as it is not past its nextUpdate; then
 * none is sent, as Envoy's lenient policy has it. What the response says is the client's to judge.
 * Invariant: only the response of the certificate that was chosen is sent. */
#include <errno.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ocsp.h>

#include "dataplane/tls/tls_priv.h"

#define STAPLE_BYTES_MAX 65536u

int tls_staple_check(struct foil_slice name, struct foil_slice response, int64_t *until_s, struct foil_error *err)
{
	const unsigned char *at = (const unsigned char *)response.data;
	OCSP_RESPONSE *r = response.n_bytes <= STAPLE_BYTES_MAX ? d2i_OCSP_RESPONSE(NULL, &at, (long)response.n_bytes) : NULL;
	OCSP_BASICRESP *basic = r && OCSP_response_status(r) == OCSP_RESPONSE_STATUS_SUCCESSFUL ? OCSP_response_get1_basic(r) : NULL;
	int64_t first_s = 0;

	for (int i = 0; basic && i < OCSP_resp_count(basic); i++) {
		ASN1_GENERALIZEDTIME *next = NULL;
		(void)OCSP_single_get0_status(OCSP_resp_get0(basic, i), NULL, NULL, NULL, &next); /* the status is the client's to judge */
		int64_t end_s = tls_time_s(next);
		first_s = first_s && (!end_s || first_s < end_s) ? first_s : end_s;
	}
	bool ok = basic != NULL;
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(r);
	ERR_clear_error();
	if (!ok)
		return foil_error_set(err, -EINVAL, "secret \"%.*s\": its OCSP staple is not a successful response in DER, or larger than %u bytes",
				      (int)name.n_bytes, name.data, STAPLE_BYTES_MAX);
	*until_s = first_s;
	return 0;
}

int tls_staple_callback(SSL *ssl, void *arg)
{
	const struct tls_context *t = arg;
	struct tls_conn *c = tls_conn_of_ssl(ssl);
	int64_t now_s = (int64_t)((c->job ? c->job->wall_us : c->w->wall_us) / 1000000u);
	const X509 *leaf = SSL_get_certificate(ssl);

	for (uint16_t i = 0; leaf && i < t->n_staples; i++) {
		const struct tls_staple *s = &t->staples[i];
		if (X509_cmp(leaf, s->leaf) != 0 || (s->until_s && s->until_s <= now_s))
			continue;
		unsigned char *copy = OPENSSL_malloc(s->response.n_bytes); /* OpenSSL frees it */
		if (!copy)
			return SSL_TLSEXT_ERR_NOACK;
		memcpy(copy, s->response.data, s->response.n_bytes);
		(void)SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)s->response.n_bytes); /* always 1 */
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_NOACK;
}
