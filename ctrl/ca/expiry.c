/* When certificates in PEM text end, for whoever watches them. */
#include <openssl/err.h>

#include "ctrl/ca/ca_priv.h"

int64_t ca_pem_expiry_s(struct foil_slice pem)
{
	struct foil_error err = {0};
	STACK_OF(X509) *list = ca_read_certs("", pem, 4096, &err);
	int64_t first_s = 0;

	for (int i = 0; list && i < sk_X509_num(list); i++) {
		int64_t end_s = ca_time_s(X509_get0_notAfter(sk_X509_value(list, i)));
		first_s = first_s && first_s < end_s ? first_s : end_s;
	}
	sk_X509_pop_free(list, X509_free);
	return first_s;
}
