/* What strangers send to the authority: certificate requests and client certificates, as PEM text, or as DER that is dressed as such. Whatever is signed
 * must verify as who asked, and nothing of the request's own names may be in it. */
#include <stdlib.h>
#include <string.h>

#include <openssl/pem.h>

#include "ctrl/ca/ca.h"
#include "ctrl/ca/ca_priv.h"
#include "ctrl/ca/service.h"

#define NOW 1800000000ll
#define ID "spiffe://td/ns/a/sa/b"

/* In dress of PEM: mutations of DER get past base64. */
static char *dress(const char *what, const uint8_t *data, size_t size, size_t *n)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *text, *copy;

	FOIL_ASSERT(b && PEM_write_bio(b, what, "", data, (long)size) > 0);
	*n = (size_t)BIO_get_mem_data(b, &text);
	copy = malloc(*n + 1);
	FOIL_ASSERT(copy);
	memcpy(copy, text, *n);
	BIO_free(b);
	return copy;
}

static void ask(struct ca_authority *a, struct foil_slice csr)
{
	const struct foil_slice id = FOIL_SLICE(ID);
	struct foil_error err = {0};
	struct ca_leaf leaf = {0};
	char *found = NULL;

	if (ca_sign_request(a, csr, &id, 1, 60, NOW, &leaf, &err) != 0) {
		FOIL_ASSERT(err.text[0]);
		return;
	}
	FOIL_ASSERT(ca_verify_client(a, foil_slice_of(leaf.chain_pem, leaf.n_chain), NOW, &found, &err) == 0);
	FOIL_ASSERT(strcmp(found, ID) == 0);
	free(found);
	ca_leaf_fini(&leaf);
}

static void prove(struct ca_authority *a, struct foil_slice chain)
{
	struct foil_error err = {0};
	char *found = NULL;

	FOIL_ASSERT(ca_verify_client(a, chain, NOW, &found, &err) != 0 || !found); /* nobody has the key of this authority */
	(void)ca_pem_expiry_s(chain); /* any answer will do */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ca_authority *a;
	const struct ca_params p = {.now_s = NOW};
	struct foil_error err = {0};
	size_t n = 0;

	if (!a)
		FOIL_ASSERT(ca_open(&p, &a, &err) == 0);
	if (size < 2 || size > 70000) /* PEM has no text without bytes */
		return 0;
	struct foil_slice csr;
	int64_t validity_s;
	if (ca_service_parse(foil_slice_of(data + 1, size - 1), &csr, &validity_s)) /* inside what was given */
		FOIL_ASSERT(csr.n_bytes && csr.data >= (const char *)data + 1 && csr.data + csr.n_bytes <= (const char *)data + size);
	(void)ca_id_is_valid(foil_slice_of(data + 1, size - 1)); /* any answer will do */
	switch (data[0] % 4) {
	case 0: ask(a, foil_slice_of(data + 1, size - 1)); break;
	case 1: prove(a, foil_slice_of(data + 1, size - 1)); break;
	default: {
		bool is_request = data[0] % 4 == 2;
		char *text = dress(is_request ? "CERTIFICATE REQUEST" : "CERTIFICATE", data + 1, size - 1, &n);
		if (is_request)
			ask(a, foil_slice_of(text, n));
		else
			prove(a, foil_slice_of(text, n));
		free(text);
	}
	}
	return 0;
}
