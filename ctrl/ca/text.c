/* PEM text out of and into OpenSSL's objects, and OpenSSL's errors as sentences. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "ctrl/ca/ca_priv.h"

void ca_text_add(struct ca_text *t, const void *data, size_t n)
{
	if (t->failed || n == 0)
		return;
	if (n > t->n_room - t->n) {
		size_t room = (t->n + n) * 2 + 1024;
		char *more = malloc(room);
		if (!more) {
			t->failed = true;
			return;
		}
		if (t->n)
			memcpy(more, t->data, t->n);
		if (t->data)
			OPENSSL_cleanse(t->data, t->n);
		free(t->data);
		t->data = more;
		t->n_room = room;
	}
	memcpy(t->data + t->n, data, n);
	t->n += n;
}

void ca_text_add_cert(struct ca_text *t, X509 *cert)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *pem = NULL;
	long n = b && PEM_write_bio_X509(b, cert) == 1 ? BIO_get_mem_data(b, &pem) : -1;

	if (n < 0)
		t->failed = true;
	else
		ca_text_add(t, pem, (size_t)n);
	BIO_free(b);
}

void ca_text_fini(struct ca_text *t)
{
	if (t->data)
		OPENSSL_cleanse(t->data, t->n);
	free(t->data);
	*t = (struct ca_text){0};
}

int ca_openssl_error(struct foil_error *err, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	(void)foil_error_set(err, -EINVAL, "%s: %s", what, reason ? reason : "no reason given");
	ERR_clear_error();
	return -EINVAL;
}

int64_t ca_time_s(const ASN1_TIME *t)
{
	static const int before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
	struct tm tm = {0};
	int64_t y, days;

	if (!t || ASN1_TIME_to_tm(t, &tm) != 1 || tm.tm_mon < 0 || tm.tm_mon > 11)
		return 0;
	y = tm.tm_year + 1900;
	days = 365 * (y - 1970) + (y - 1969) / 4 - (y - 1901) / 100 + (y - 1601) / 400 + before[tm.tm_mon] + tm.tm_mday - 1;
	if (tm.tm_mon > 1 && ((y % 4 == 0 && y % 100 != 0) || y % 400 == 0))
		days++;
	return ((days * 24 + tm.tm_hour) * 60 + tm.tm_min) * 60 + tm.tm_sec;
}

static bool is_at_end(void)
{
	unsigned long e = ERR_peek_last_error();

	return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
}

STACK_OF(X509) *ca_read_certs(const char *what, struct foil_slice pem, int n_max, struct foil_error *err)
{
	STACK_OF(X509) *list = sk_X509_new_null();
	BIO *b = BIO_new_mem_buf(pem.data ? pem.data : "", (int)FOIL_MIN(pem.n_bytes, CA_PEM_BYTES_MAX));
	X509 *x;
	bool ok = list && b && pem.n_bytes <= CA_PEM_BYTES_MAX;

	ERR_clear_error();
	while (ok && sk_X509_num(list) <= n_max && (x = PEM_read_bio_X509(b, NULL, NULL, (void *)(uintptr_t)"")) != NULL)
		if (sk_X509_push(list, x) <= 0) {
			X509_free(x);
			ok = false;
		}
	if (ok && sk_X509_num(list) > n_max)
		(void)foil_error_set(err, -EINVAL, "%s: more than %d certificates", what, n_max);
	else if (ok && !is_at_end())
		(void)ca_openssl_error(err, what);
	else if (ok && sk_X509_num(list) == 0)
		(void)foil_error_set(err, -EINVAL, "%s: holds no PEM certificate", what);
	else if (!ok)
		(void)foil_error_set(err, -EINVAL, "%s: larger than %u bytes, or no memory", what, CA_PEM_BYTES_MAX);
	else {
		ERR_clear_error();
		BIO_free(b);
		return list;
	}
	ERR_clear_error();
	BIO_free(b);
	sk_X509_pop_free(list, X509_free);
	return NULL;
}
