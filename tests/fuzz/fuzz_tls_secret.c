/* Secrets as they come over the channel (chains, keys, bundles, CRLs in PEM), and the names of a peer's certificate: checked, never believed. A name that
 * is found must be found by its own text, and one that has a NUL inside is none. */
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "dataplane/tls/tls_priv.h"
#include "tests/unit/support.h"

static bool find_itself(void *data, const struct tls_san *san)
{
	X509 *x = data;

	if (san->kind == TLS_SAN_IP) {
		FOIL_ASSERT(san->text.n_bytes == 4 || san->text.n_bytes == 16);
		return true;
	}
	FOIL_ASSERT(san->text.n_bytes && !memchr(san->text.data, 0, san->text.n_bytes));
	if (san->kind == TLS_SAN_URI && san->text.data[san->text.n_bytes - 1] != '/')
		FOIL_ASSERT(tls_cert_has_name(x, &san->text, 1));
	return true;
}

static void names(const uint8_t *data, size_t size)
{
	static const struct foil_slice wanted[] = {{"spiffe://td/", 12}, {"a.test", 6}, {"10.0.0.1", 8}, {"", 0}, {"/", 1}};
	const unsigned char *at = data;
	X509 *x = d2i_X509(NULL, &at, (long)size);

	if (x) {
		tls_sans_each(x, find_itself, x);
		(void)tls_cert_has_name(x, wanted, FOIL_COUNT_OF(wanted)); /* any answer will do */
		(void)tls_time_s(X509_get0_notAfter(x));
	}
	X509_free(x);
	ERR_clear_error();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct foil_error err = {0};

	if (size < 2 || size > 70000)
		return 0;
	struct foil_slice all = foil_slice_of(data + 2, size - 2), first = foil_slice_of(all.data, FOIL_MIN(all.n_bytes, data[1] * 16u));
	struct foil_slice rest = foil_slice_of(all.data + first.n_bytes, all.n_bytes - first.n_bytes);
	switch (data[0] % 3) {
	case 0: {
		const struct tls_identity id = {.name = FOIL_SLICE("s"), .chain = first, .key = rest};
		FOIL_ASSERT(tls_identity_check(&id, &err) == 0 || err.text[0]);
		break;
	}
	case 1: FOIL_ASSERT(tls_bundle_check(FOIL_SLICE("s"), first, rest, &err) == 0 || err.text[0]); break;
	case 2: names(data + 2, size - 2); break;
	}
	FOIL_ASSERT(ERR_peek_error() == 0);
	return 0;
}
