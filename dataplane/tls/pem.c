/* Certificates, keys and CRLs out of PEM text (RFC 7468), with limits and with sentences that name the secret. Set-up only. Nothing ever asks for a
 * passphrase: an encrypted key is refused. Invariant: OpenSSL's error queue is empty on return. */
#include <openssl/err.h>
#include <openssl/pem.h>

#include <errno.h>

#include "dataplane/tls/tls_priv.h"

#define PEM_BYTES_MAX (4u << 20)
#define CRLS_MAX 256

const char *tls_openssl_text(char *buf, size_t n_bytes)
{
	unsigned long e = ERR_peek_last_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	(void)snprintf(buf, n_bytes, "%s", reason ? reason : "no reason given"); /* cut is fine */
	ERR_clear_error();
	return buf;
}

int64_t tls_time_s(const ASN1_TIME *t)
{
	struct tm tm = {0};
	int64_t y, era, doe, doy;

	if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
		return 0;
	y = tm.tm_year + 1900 - (tm.tm_mon < 2); /* days from civil (Hinnant 2013) */
	era = (y >= 0 ? y : y - 399) / 400;
	doy = (153 * (tm.tm_mon + (tm.tm_mon > 1 ? -2 : 10)) + 2) / 5 + tm.tm_mday - 1;
	doe = (y - era * 400) * 365 + (y - era * 400) / 4 - (y - era * 400) / 100 + doy;
	return ((era * 146097 + doe - 719468) * 24 + tm.tm_hour) * 3600 + tm.tm_min * 60 + tm.tm_sec;
}

static BIO *open_text(struct foil_slice name, const char *what, struct foil_slice pem, struct foil_error *err)
{
	BIO *b;

	ERR_clear_error();
	if (!pem.n_bytes || pem.n_bytes > PEM_BYTES_MAX) {
		(void)foil_error_set(err, -EINVAL, "secret \"%.*s\": its %s has %u bytes; must be 1 to %u", (int)name.n_bytes, name.data, what, pem.n_bytes,
				     PEM_BYTES_MAX);
		return NULL;
	}
	b = BIO_new_mem_buf(pem.data, (int)pem.n_bytes);
	if (!b)
		(void)foil_error_set(err, -ENOMEM, "secret \"%.*s\": no memory for its %s", (int)name.n_bytes, name.data, what);
	return b;
}

/* The end of PEM text is OpenSSL's "no start line"; everything else is an error. */
static bool at_end(void)
{
	unsigned long e = ERR_peek_last_error();
	bool is_end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;

	if (is_end)
		ERR_clear_error();
	return is_end;
}

static int no_passphrase(char *buf, int n, int is_writing, void *data)
{
	(void)buf;
	(void)n;
	(void)is_writing;
	(void)data;
	return -1;
}

STACK_OF(X509) *tls_pem_certs(struct foil_slice name, const char *what, struct foil_slice pem, int n_max, struct foil_error *err)
{
	BIO *b = open_text(name, what, pem, err);
	STACK_OF(X509) *list = b ? sk_X509_new_null() : NULL;
	char text[160];
	X509 *x;

	while (list && sk_X509_num(list) <= n_max && (x = PEM_read_bio_X509(b, NULL, no_passphrase, NULL)) != NULL) {
		if (!sk_X509_push(list, x)) {
			X509_free(x);
			break;
		}
	}
	BIO_free(b);
	if (!list)
		return NULL;
	if (sk_X509_num(list) > n_max)
		(void)foil_error_set(err, -EINVAL, "secret \"%.*s\": its %s has more than %d certificates", (int)name.n_bytes, name.data, what, n_max);
	else if (!at_end())
		(void)foil_error_set(err, -EINVAL, "secret \"%.*s\": certificate %d of its %s cannot be read (%s)", (int)name.n_bytes, name.data,
				     sk_X509_num(list) + 1, what, tls_openssl_text(text, sizeof(text)));
	else if (sk_X509_num(list) == 0)
		(void)foil_error_set(err, -EINVAL, "secret \"%.*s\": its %s holds no PEM certificate", (int)name.n_bytes, name.data, what);
	else
		return list;
	ERR_clear_error();
	sk_X509_pop_free(list, X509_free);
	return NULL;
}

EVP_PKEY *tls_pem_key(struct foil_slice name, struct foil_slice pem, struct foil_error *err)
{
	BIO *b = open_text(name, "private key", pem, err);
	EVP_PKEY *key = b ? PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL) : NULL;
	char text[160];

	if (b && !key)
		(void)foil_error_set(err, -EINVAL, "secret \"%.*s\": its private key cannot be read (%s); it must be PEM and not encrypted", (int)name.n_bytes,
				     name.data, tls_openssl_text(text, sizeof(text)));
	BIO_free(b);
	ERR_clear_error();
	return key;
}

STACK_OF(X509_CRL) *tls_pem_crls(struct foil_slice name, struct foil_slice pem, struct foil_error *err)
{
	BIO *b = open_text(name, "CRL", pem, err);
	STACK_OF(X509_CRL) *list = b ? sk_X509_CRL_new_null() : NULL;
	char text[160];
	X509_CRL *x;

	while (list && sk_X509_CRL_num(list) <= CRLS_MAX && (x = PEM_read_bio_X509_CRL(b, NULL, no_passphrase, NULL)) != NULL) {
		if (!sk_X509_CRL_push(list, x)) {
			X509_CRL_free(x);
			break;
		}
	}
	BIO_free(b);
	if (!list)
		return NULL;
	if (sk_X509_CRL_num(list) >= 1 && sk_X509_CRL_num(list) <= CRLS_MAX && at_end())
		return list;
	(void)foil_error_set(err, -EINVAL, "secret \"%.*s\": its CRL cannot be read (%s); 1 to %d PEM CRLs", (int)name.n_bytes, name.data,
			     tls_openssl_text(text, sizeof(text)), CRLS_MAX);
	sk_X509_CRL_pop_free(list, X509_CRL_free);
	return NULL;
}
