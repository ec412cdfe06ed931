/* Making certificates: fields and extensions as Istio's CA has them (features.md ID-1): an empty subject, one critical name per SPIFFE id, key usage for
 * both sides of TLS. Invariant: no certificate outlives its issuer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "ctrl/ca/ca_priv.h"

#define SERIAL_BYTES 16

EVP_PKEY *ca_make_key(void)
{
	return EVP_EC_gen("P-256");
}

static bool is_id_char(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

/* SPIFFE-ID 2.1 and 2.2: a trust domain of lower-case letters, digits, '.', '-' and '_', then segments, none of them empty, "." or "..". */
bool ca_id_is_valid(struct foil_slice id)
{
	static const char scheme[] = "spiffe://";
	uint32_t at = sizeof(scheme) - 1, begin;

	if (id.n_bytes <= at || id.n_bytes > CA_ID_BYTES_MAX || memcmp(id.data, scheme, at) != 0)
		return false;
	for (begin = at; at < id.n_bytes && id.data[at] != '/'; at++)
		if (!is_id_char((unsigned char)id.data[at]) || (id.data[at] >= 'A' && id.data[at] <= 'Z'))
			return false;
	if (at == begin || at - begin > 255 || at == id.n_bytes)
		return false;
	while (at < id.n_bytes) {
		for (begin = ++at; at < id.n_bytes && id.data[at] != '/'; at++)
			if (!is_id_char((unsigned char)id.data[at]))
				return false;
		uint32_t n = at - begin;
		if (n == 0 || (n == 1 && id.data[begin] == '.') || (n == 2 && id.data[begin] == '.' && id.data[begin + 1] == '.'))
			return false;
	}
	return true;
}

static bool add_extension(X509 *x, int nid, bool is_critical, const char *value, X509 *issuer)
{
	X509V3_CTX ctx;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
	bool ok = e && X509_EXTENSION_set_critical(e, is_critical) == 1 && X509_add_ext(x, e, -1) == 1;

	X509_EXTENSION_free(e);
	return ok;
}

static bool push_id(GENERAL_NAMES *names, struct foil_slice id)
{
	GENERAL_NAME *g = GENERAL_NAME_new();
	ASN1_IA5STRING *text = ASN1_IA5STRING_new();

	if (!g || !text || ASN1_STRING_set(text, id.data, (int)id.n_bytes) != 1) {
		GENERAL_NAME_free(g);
		ASN1_IA5STRING_free(text);
		return false;
	}
	GENERAL_NAME_set0_value(g, GEN_URI, text);
	if (sk_GENERAL_NAME_push(names, g) > 0)
		return true;
	GENERAL_NAME_free(g);
	return false;
}

static bool add_ids(X509 *x, const struct ca_subject *s)
{
	if (s->dns)
		return add_extension(x, NID_subject_alt_name, true, s->dns, x);
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	bool ok = names != NULL;

	for (size_t i = 0; ok && i < s->n_ids; i++)
		ok = push_id(names, s->ids[i]);
	ok = ok && X509_add1_ext_i2d(x, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) == 1;
	sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
	return ok;
}

static bool set_serial(X509 *x)
{
	uint8_t bytes[SERIAL_BYTES];
	bool ok = RAND_bytes(bytes, sizeof(bytes)) == 1;

	bytes[0] = (bytes[0] & 0x7f) | 0x40; /* positive, and always of one length (RFC 5280 4.1.2.2) */
	BIGNUM *n = ok ? BN_bin2bn(bytes, sizeof(bytes), NULL) : NULL;
	ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;
	BN_free(n);
	return ok;
}

static bool set_name(X509 *x, const char *organization)
{
	X509_NAME *name = X509_get_subject_name(x);

	return !organization || X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)organization, -1, -1, 0) == 1;
}

static bool fill(X509 *x, const struct ca_subject *s, EVP_PKEY *subject_key, X509 *issuer)
{
	X509 *signer = issuer ? issuer : x;
	bool ok = X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) && set_name(x, s->organization) && X509_set_pubkey(x, subject_key) == 1 &&
		  X509_set_issuer_name(x, X509_get_subject_name(signer)) == 1 && ASN1_TIME_set(X509_getm_notBefore(x), s->not_before_s) &&
		  ASN1_TIME_set(X509_getm_notAfter(x), s->not_after_s);

	if (s->is_ca)
		return ok && add_extension(x, NID_basic_constraints, true, "CA:TRUE", signer) &&
		       add_extension(x, NID_key_usage, true, "keyCertSign,cRLSign", signer) &&
		       add_extension(x, NID_subject_key_identifier, false, "hash", signer) &&
		       add_extension(x, NID_authority_key_identifier, false, "keyid", signer); /* tells roots of one name apart */
	return ok && add_extension(x, NID_key_usage, true, "digitalSignature,keyEncipherment", signer) &&
	       add_extension(x, NID_ext_key_usage, false, "serverAuth,clientAuth", signer) &&
	       add_extension(x, NID_basic_constraints, true, "CA:FALSE", signer) &&
	       add_extension(x, NID_authority_key_identifier, false, "keyid", signer) && add_ids(x, s);
}

static const EVP_MD *digest_of(const EVP_PKEY *key)
{
	int id = EVP_PKEY_get_base_id(key);

	return id == EVP_PKEY_ED25519 || id == EVP_PKEY_ED448 ? NULL : EVP_sha256();
}

X509 *ca_make_cert(const struct ca_subject *s, EVP_PKEY *subject_key, X509 *issuer, EVP_PKEY *key, struct foil_error *err)
{
	X509 *x = X509_new();

	ERR_clear_error();
	if (x && fill(x, s, subject_key, issuer) && X509_sign(x, key, digest_of(key)) > 0)
		return x;
	(void)ca_openssl_error(err, "the certificate cannot be made");
	X509_free(x);
	return NULL;
}

void ca_leaf_fini(struct ca_leaf *l)
{
	free(l->chain_pem);
	*l = (struct ca_leaf){0};
}

static int chain_text(struct ca_authority *a, X509 *leaf, struct ca_leaf *out, struct foil_error *err)
{
	struct ca_text t = {0};

	ca_text_add_cert(&t, leaf);
	ca_text_add(&t, a->between, a->n_between);
	if (t.failed) {
		ca_text_fini(&t);
		return foil_error_set(err, -ENOMEM, "no memory for a certificate");
	}
	out->chain_pem = t.data;
	out->n_chain = t.n;
	return 0;
}

int ca_sign_key(struct ca_authority *a, EVP_PKEY *subject_key, const struct foil_slice *ids, size_t n_ids, uint32_t ttl_s, int64_t now_s, struct ca_leaf *out,
		struct foil_error *err)
{
	int64_t ttl = ttl_s ? FOIL_MIN(ttl_s, CA_TTL_S_MAX) : CA_TTL_S_DEFAULT;
	struct ca_subject s = {.ids = ids, .n_ids = n_ids, .not_before_s = now_s - CA_BACKDATE_S, .not_after_s = now_s + ttl};
	int64_t begin_s = ca_time_s(X509_get0_notBefore(a->signer.cert)), end_s = ca_time_s(X509_get0_notAfter(a->signer.cert));

	if (n_ids == 0 || n_ids > 16)
		return foil_error_set(err, -EINVAL, "a certificate needs 1 to 16 identities");
	for (size_t i = 0; i < n_ids; i++)
		if (!ca_id_is_valid(ids[i]))
			return foil_error_set(err, -EINVAL, "\"%.*s\" is not a SPIFFE id", (int)FOIL_MIN(ids[i].n_bytes, 200u), ids[i].data);
	s.not_before_s = FOIL_MAX(s.not_before_s, begin_s);
	s.not_after_s = FOIL_MIN(s.not_after_s, end_s);
	if (s.not_after_s <= now_s || begin_s > now_s)
		return foil_error_set(err, -EINVAL, "the authority's own certificate is %s", begin_s > now_s ? "not valid yet" : "expired");
	X509 *leaf = ca_make_cert(&s, subject_key, a->signer.cert, a->signer.key, err);
	if (!leaf)
		return -EINVAL;
	struct ca_leaf made = {.not_before_s = s.not_before_s, .not_after_s = s.not_after_s};
	int rc = chain_text(a, leaf, &made, err);
	X509_free(leaf);
	if (rc < 0)
		return rc;
	a->signer.last_not_after_s = FOIL_MAX(a->signer.last_not_after_s, s.not_after_s);
	a->n_issued++;
	*out = made;
	return 0;
}
