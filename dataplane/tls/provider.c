/* What of a handshake's arithmetic is ours, as a provider of OpenSSL's ("foil") that contexts prefer (property query "?provider=foil"); all else is the
 * default provider's. docs/decisions/0009-a-provider-for-handshakes.md has why, and figures.
 *
 * TLS13-KDF: HKDF with TLS 1.3's labels (RFC 8446 7.1). The traffic secrets go from here to the connection whose step the thread takes (tls_secrets_to).
 * X25519: the default provider's keys; how one is made is ours (x25519.c), and, where the processor has what that needs, the exchange (x25519_ladder.c).
 *
 * No variable of ours is global: OpenSSL's list of providers holds the state.
 * Invariant: what the default provider is handed is its own context, never ours. */
#include <pthread.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rand.h>

#include "dataplane/tls/tls_priv.h"
#include "dataplane/tls/x25519.h"

#define NAME "foil"
#define ENTRIES_MAX 40

struct provider {
	OSSL_PROVIDER *base;
	void *base_ctx;
	OSSL_FUNC_keymgmt_new_fn *base_new;
	OSSL_FUNC_keymgmt_import_fn *base_import;
	OSSL_FUNC_keymgmt_get_params_fn *base_get_params;
	OSSL_FUNC_keymgmt_free_fn *base_free;
	OSSL_FUNC_keyexch_newctx_fn *base_newctx;
	OSSL_DISPATCH keymgmt[ENTRIES_MAX], keyexch[ENTRIES_MAX];
	OSSL_ALGORITHM keymgmts[2], keyexchs[2];
	pthread_key_t records; /* of a thread: whose secrets are derived */
	bool has_key, has_x25519;
	struct x25519_table table;
};

/* ---- TLS13-KDF ---- */
struct kdf { /* what a derivation is asked with; absent: no bytes */
	int mode;
	bool is_known, is_sha384;
	struct foil_slice key, salt, prefix, label, data;
};

static struct foil_slice octets(const OSSL_PARAM *p)
{
	return p->data_type == OSSL_PARAM_OCTET_STRING ? foil_slice_of(p->data, p->data_size) : (struct foil_slice){NULL, 0};
}

static void read_mode(struct kdf *k, const OSSL_PARAM *p)
{
	const char *text = p->data;

	if (p->data_type != OSSL_PARAM_UTF8_STRING)
		(void)OSSL_PARAM_get_int(p, &k->mode); /* else it stays 0, which is none */
	else if (strcmp(text, "EXTRACT_ONLY") == 0)
		k->mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY;
	else if (strcmp(text, "EXPAND_ONLY") == 0)
		k->mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
}

static void read_digest(struct kdf *k, const OSSL_PARAM *p)
{
	const char *name = p->data_type == OSSL_PARAM_UTF8_STRING ? p->data : "";

	k->is_sha384 = strcmp(name, "SHA2-384") == 0 || strcmp(name, "SHA384") == 0;
	k->is_known = k->is_sha384 || strcmp(name, "SHA2-256") == 0 || strcmp(name, "SHA256") == 0;
}

static struct foil_slice *octets_of(struct kdf *k, const char *name)
{
	static const struct {
		const char *name;
		size_t offset;
	} fields[] = {
		{OSSL_KDF_PARAM_KEY, offsetof(struct kdf, key)},       {OSSL_KDF_PARAM_SALT, offsetof(struct kdf, salt)},
		{OSSL_KDF_PARAM_PREFIX, offsetof(struct kdf, prefix)}, {OSSL_KDF_PARAM_LABEL, offsetof(struct kdf, label)},
		{OSSL_KDF_PARAM_DATA, offsetof(struct kdf, data)},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(fields); i++) /* the first byte tells most apart: a hundred and fifty names are looked at in a handshake */
		if (fields[i].name[0] == name[0] && strcmp(fields[i].name, name) == 0)
			return (struct foil_slice *)(void *)((char *)k + fields[i].offset);
	return NULL;
}

static void read_params(struct kdf *k, const OSSL_PARAM *p)
{
	for (; p && p->key; p++) {
		struct foil_slice *to = octets_of(k, p->key);
		if (to)
			*to = octets(p);
		else if (strcmp(p->key, OSSL_KDF_PARAM_MODE) == 0)
			read_mode(k, p);
		else if (strcmp(p->key, OSSL_KDF_PARAM_DIGEST) == 0)
			read_digest(k, p);
	}
}

static bool expand(const struct kdf *k, struct foil_slice secret, struct foil_slice context, uint8_t *out, size_t n_out)
{
	char label[255];
	size_t n = (size_t)k->prefix.n_bytes + k->label.n_bytes;

	if (!k->prefix.n_bytes || !k->label.n_bytes || n > sizeof(label))
		return false;
	memcpy(label, k->prefix.data, k->prefix.n_bytes);
	memcpy(label + k->prefix.n_bytes, k->label.data, k->label.n_bytes);
	return tls_expand_label(k->is_sha384, secret, foil_slice_of(label, n), context, out, n_out);
}

/* The way from one secret to the next: HKDF-Extract(Derive-Secret(the one before, label, ""), what comes in). */
static bool extract(const struct kdf *k, uint8_t *out, size_t n_out)
{
	static const uint8_t zeros[TLS_HASH_BYTES_MAX] = {0};
	uint8_t salt[TLS_HASH_BYTES_MAX] = {0}, nothing[TLS_HASH_BYTES_MAX];
	uint32_t n = tls_hash_bytes(k->is_sha384);

	if (n_out != n)
		return false;
	tls_hash_of_nothing(k->is_sha384, nothing);
	if (k->salt.n_bytes && !expand(k, k->salt, foil_slice_of(nothing, n), salt, n))
		return false;
	struct foil_slice in = k->key.n_bytes ? k->key : foil_slice_of(zeros, n);
	tls_hmac(k->is_sha384, foil_slice_of(salt, n), &in, 1, out);
	OPENSSL_cleanse(salt, sizeof(salt));
	return true;
}

static void hand_over(struct tls_records *r, struct foil_slice label, const uint8_t *secret, size_t n)
{
	bool is_client = foil_slice_eq(label, FOIL_SLICE("c ap traffic")), is_server = foil_slice_eq(label, FOIL_SLICE("s ap traffic"));

	if ((!is_client && !is_server) || n > sizeof(r->tx.secret))
		return;
	bool is_tx = is_server == r->is_server;
	memcpy(is_tx ? r->tx.secret : r->rx.secret, secret, n);
	*(is_tx ? &r->has_tx_secret : &r->has_rx_secret) = true;
}

/* Derivations keep nothing: the provider's context is theirs. */
static void *kdf_newctx(void *provider)
{
	return provider;
}

static void kdf_nothing(void *ctx)
{
	(void)ctx;
}

static int kdf_derive(void *ctx, unsigned char *out, size_t n_out, const OSSL_PARAM params[])
{
	const struct provider *p = ctx;
	struct kdf k = {.mode = 0};
	bool ok = false;

	read_params(&k, params);
	if (k.is_known && k.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY)
		ok = extract(&k, out, n_out);
	else if (k.is_known && k.mode == EVP_KDF_HKDF_MODE_EXPAND_ONLY && k.key.n_bytes)
		ok = expand(&k, k.key, k.data, out, n_out);
	struct tls_records *r = ok ? pthread_getspecific(p->records) : NULL;
	if (r && k.mode == EVP_KDF_HKDF_MODE_EXPAND_ONLY)
		hand_over(r, k.label, out, n_out);
	return ok;
}

/* All is given with the derivation, as libssl does. */
static int kdf_set_params(void *ctx, const OSSL_PARAM params[])
{
	(void)ctx;
	return !params || !params->key;
}

static const OSSL_DISPATCH kdf_functions[] = {
	{OSSL_FUNC_KDF_NEWCTX, (void (*)(void))kdf_newctx},
	{OSSL_FUNC_KDF_FREECTX, (void (*)(void))kdf_nothing},
	{OSSL_FUNC_KDF_RESET, (void (*)(void))kdf_nothing},
	{OSSL_FUNC_KDF_DERIVE, (void (*)(void))kdf_derive},
	{OSSL_FUNC_KDF_SET_CTX_PARAMS, (void (*)(void))kdf_set_params},
	{0, NULL},
};

/* ---- X25519: keys are made here ---- */
struct making {
	struct provider *provider;
	int selection;
};

static void *key_new(void *provider)
{
	struct provider *p = provider;

	return p->base_new(p->base_ctx);
}

static int making_set_params(void *making, const OSSL_PARAM params[])
{
	const OSSL_PARAM *group = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME);

	(void)making;
	return !group || (group->data_type == OSSL_PARAM_UTF8_STRING && OPENSSL_strcasecmp(group->data, "x25519") == 0);
}

static void *making_new(void *provider, int selection, const OSSL_PARAM params[])
{
	struct making *m = OPENSSL_zalloc(sizeof(*m));

	if (!m || (params && !making_set_params(m, params))) {
		OPENSSL_free(m);
		return NULL;
	}
	m->provider = provider;
	m->selection = selection;
	return m;
}

static const OSSL_PARAM *making_settable(void *making, void *provider)
{
	static const OSSL_PARAM settable[] = {OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0), OSSL_PARAM_END};

	(void)making;
	(void)provider;
	return settable;
}

static void *making_run(void *making, OSSL_CALLBACK *progress, void *arg)
{
	struct making *m = making;
	struct provider *p = m->provider;
	void *key = p->base_new(p->base_ctx);
	uint8_t secret[X25519_BYTES], shared[X25519_BYTES];

	(void)progress;
	(void)arg;
	if (!key || !(m->selection & OSSL_KEYMGMT_SELECT_KEYPAIR)) /* a key's parameters are none: it is blank */
		return key;
	bool ok = RAND_priv_bytes(secret, sizeof(secret)) == 1;
	if (ok) {
		secret[0] &= 248;
		secret[31] = (uint8_t)((secret[31] & 127) | 64);
		x25519_public(&p->table, shared, secret);
		const OSSL_PARAM parts[] = {OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, shared, sizeof(shared)),
					    OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, secret, sizeof(secret)), OSSL_PARAM_END};
		ok = p->base_import(key, OSSL_KEYMGMT_SELECT_KEYPAIR, parts) == 1;
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	if (ok)
		return key;
	p->base_free(key);
	return NULL;
}

static void making_free(void *making)
{
	OPENSSL_free(making);
}

/* ---- X25519: the exchange, where the default provider does it */
static void *base_exchange_new(void *provider)
{
	struct provider *p = provider;

	return p->base_newctx(p->base_ctx);
}

/* ---- and where it is ours */
struct exchange {
	struct provider *provider;
	bool has_secret, has_peer;
	uint8_t secret[X25519_BYTES], peer[X25519_BYTES];
};

/* One of the parts of a key of the default provider's. */
static bool read_key(const struct provider *p, void *key, const char *part, uint8_t out[X25519_BYTES])
{
	OSSL_PARAM asked[] = {OSSL_PARAM_octet_string(part, out, X25519_BYTES), OSSL_PARAM_END};

	return p->base_get_params(key, asked) == 1 && asked[0].return_size == X25519_BYTES;
}

static void *exchange_new(void *provider)
{
	struct exchange *x = OPENSSL_zalloc(sizeof(*x));

	if (x)
		x->provider = provider;
	return x;
}

static int exchange_init(void *exchange, void *key, const OSSL_PARAM params[])
{
	struct exchange *x = exchange;

	(void)params; /* it has none */
	x->has_secret = key && read_key(x->provider, key, OSSL_PKEY_PARAM_PRIV_KEY, x->secret);
	return x->has_secret;
}

static int exchange_set_peer(void *exchange, void *key)
{
	struct exchange *x = exchange;

	x->has_peer = key && read_key(x->provider, key, OSSL_PKEY_PARAM_PUB_KEY, x->peer);
	return x->has_peer;
}

static int exchange_derive(void *exchange, unsigned char *out, size_t *n_out, size_t n_max)
{
	const struct exchange *x = exchange;

	if (!x->has_secret || !x->has_peer || (out && n_max < X25519_BYTES))
		return 0;
	*n_out = X25519_BYTES;
	return !out || x25519_shared(out, x->secret, x->peer);
}

static void *exchange_copy(void *exchange)
{
	return OPENSSL_memdup(exchange, sizeof(struct exchange));
}

static void exchange_free(void *exchange)
{
	OPENSSL_clear_free(exchange, sizeof(struct exchange));
}

static const OSSL_DISPATCH exchange_functions[] = {
	{OSSL_FUNC_KEYEXCH_NEWCTX, (void (*)(void))exchange_new},
	{OSSL_FUNC_KEYEXCH_INIT, (void (*)(void))exchange_init},
	{OSSL_FUNC_KEYEXCH_SET_PEER, (void (*)(void))exchange_set_peer},
	{OSSL_FUNC_KEYEXCH_DERIVE, (void (*)(void))exchange_derive},
	{OSSL_FUNC_KEYEXCH_DUPCTX, (void (*)(void))exchange_copy},
	{OSSL_FUNC_KEYEXCH_FREECTX, (void (*)(void))exchange_free},
	{0, NULL},
};

/* ---- the provider ---- */
static const OSSL_DISPATCH *algorithm(OSSL_PROVIDER *base, int operation, const char *name)
{
	int no_cache = 0;
	const OSSL_ALGORITHM *a = OSSL_PROVIDER_query_operation(base, operation, &no_cache);
	size_t n = strlen(name);

	for (; a && a->algorithm_names; a++)
		if (strncmp(a->algorithm_names, name, n) == 0 && (a->algorithm_names[n] == ':' || !a->algorithm_names[n]))
			return a->implementation;
	return NULL;
}

/* A copy of a table with some of its functions replaced; false: it is too large. */
static bool overlay(OSSL_DISPATCH *to, const OSSL_DISPATCH *from, const OSSL_DISPATCH *ours)
{
	int n = 0;

	for (const OSSL_DISPATCH *d = ours; d->function_id; d++)
		to[n++] = *d;
	for (; from->function_id; from++) {
		bool is_ours = false;
		for (const OSSL_DISPATCH *d = ours; d->function_id; d++)
			is_ours |= d->function_id == from->function_id;
		if (is_ours)
			continue;
		if (n >= ENTRIES_MAX - 1)
			return false;
		to[n++] = *from;
	}
	to[n] = (OSSL_DISPATCH){0, NULL};
	return true;
}

/* RFC 7748 6.1: Alice's private key, her public one, Bob's public one, and what they share. */
static const uint8_t alice[X25519_BYTES] = {0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
					    0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a};
static const uint8_t alice_public[X25519_BYTES] = {0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e, 0xf7, 0x5a,
						   0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e, 0xaa, 0x9b, 0x4e, 0x6a};
static const uint8_t bob_public[X25519_BYTES] = {0xde, 0x9e, 0xdb, 0x7d, 0x7b, 0x7d, 0xc1, 0xb4, 0xd3, 0x5b, 0x61, 0xc2, 0xec, 0xe4, 0x35, 0x37,
						 0x3f, 0x83, 0x43, 0xc8, 0x5b, 0x78, 0x67, 0x4d, 0xad, 0xfc, 0x7e, 0x14, 0x6f, 0x88, 0x2b, 0x4f};
static const uint8_t alice_and_bob[X25519_BYTES] = {0x4a, 0x5d, 0x9d, 0x5b, 0xa4, 0xce, 0x2d, 0xe1, 0x72, 0x8e, 0x3b, 0xf4, 0x80, 0x35, 0x0f, 0x25,
						    0xe0, 0x7e, 0x21, 0xc9, 0x47, 0xd1, 0x9e, 0x33, 0x76, 0xf0, 0x9b, 0x3c, 0x1e, 0x16, 0x17, 0x42};

static bool makes_right(const struct provider *p)
{
	uint8_t out[X25519_BYTES];

	x25519_public(&p->table, out, alice);
	return memcmp(out, alice_public, sizeof(out)) == 0;
}

/* The parts of a key can be had from the default provider, and what comes of them is right. */
static bool exchanges_right(const struct provider *p)
{
	uint8_t secret[X25519_BYTES], shared[X25519_BYTES], out[X25519_BYTES];
	const OSSL_PARAM parts[] = {OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)bob_public, X25519_BYTES), /* only read */
				    OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, (void *)(uintptr_t)alice, X25519_BYTES), OSSL_PARAM_END};
	void *key = x25519_has_ladder() && p->base_get_params ? p->base_new(p->base_ctx) : NULL;
	bool ok = key && p->base_import(key, OSSL_KEYMGMT_SELECT_KEYPAIR, parts) == 1 && read_key(p, key, OSSL_PKEY_PARAM_PRIV_KEY, secret) &&
		  read_key(p, key, OSSL_PKEY_PARAM_PUB_KEY, shared) && x25519_shared(out, secret, shared) && memcmp(out, alice_and_bob, sizeof(out)) == 0;

	if (key)
		p->base_free(key);
	return ok;
}

/* What it replaces keys' making with, where the default provider has what that needs; else X25519 stays as it is. */
static void take_x25519(struct provider *p)
{
	const OSSL_DISPATCH *keys = algorithm(p->base, OSSL_OP_KEYMGMT, "X25519"), *exchange = algorithm(p->base, OSSL_OP_KEYEXCH, "X25519");
	static const OSSL_DISPATCH ours[] = {
		{OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))key_new},
		{OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))making_new},
		{OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, (void (*)(void))making_set_params},
		{OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, (void (*)(void))making_settable},
		{OSSL_FUNC_KEYMGMT_GEN, (void (*)(void))making_run},
		{OSSL_FUNC_KEYMGMT_GEN_CLEANUP, (void (*)(void))making_free},
		{0, NULL},
	};
	static const OSSL_DISPATCH base_exchange[] = {{OSSL_FUNC_KEYEXCH_NEWCTX, (void (*)(void))base_exchange_new}, {0, NULL}};

	for (const OSSL_DISPATCH *d = keys; d && d->function_id; d++) {
		if (d->function_id == OSSL_FUNC_KEYMGMT_NEW)
			p->base_new = (OSSL_FUNC_keymgmt_new_fn *)d->function;
		else if (d->function_id == OSSL_FUNC_KEYMGMT_IMPORT)
			p->base_import = (OSSL_FUNC_keymgmt_import_fn *)d->function;
		else if (d->function_id == OSSL_FUNC_KEYMGMT_GET_PARAMS)
			p->base_get_params = (OSSL_FUNC_keymgmt_get_params_fn *)d->function;
		else if (d->function_id == OSSL_FUNC_KEYMGMT_FREE)
			p->base_free = (OSSL_FUNC_keymgmt_free_fn *)d->function;
	}
	for (const OSSL_DISPATCH *d = exchange; d && d->function_id; d++)
		if (d->function_id == OSSL_FUNC_KEYEXCH_NEWCTX)
			p->base_newctx = (OSSL_FUNC_keyexch_newctx_fn *)d->function;
	if (!p->base_new || !p->base_import || !p->base_free || !p->base_newctx)
		return;
	x25519_table_fill(&p->table);
	p->has_x25519 = makes_right(p) && overlay(p->keymgmt, keys, ours) && overlay(p->keyexch, exchange, base_exchange);
	p->keymgmts[0] = (OSSL_ALGORITHM){"X25519:1.3.101.110", "provider=" NAME, p->keymgmt, NULL};
	p->keyexchs[0] = (OSSL_ALGORITHM){"X25519:1.3.101.110", "provider=" NAME, exchanges_right(p) ? exchange_functions : p->keyexch, NULL};
}

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache)
{
	static const OSSL_ALGORITHM kdfs[] = {{"TLS13-KDF", "provider=" NAME, kdf_functions, NULL}, {NULL, NULL, NULL, NULL}};
	struct provider *p = provider;

	*no_cache = 0;
	switch (operation) {
	case OSSL_OP_KDF: return kdfs;
	case OSSL_OP_KEYMGMT: return p->has_x25519 ? p->keymgmts : NULL;
	case OSSL_OP_KEYEXCH: return p->has_x25519 ? p->keyexchs : NULL;
	default: return NULL;
	}
}

/* libssl takes a group from the provider that has its keys. */
struct groups {
	OSSL_CALLBACK *each;
	void *arg;
};

static int group_of_ours(const OSSL_PARAM params[], void *arg)
{
	const struct groups *g = arg;
	const OSSL_PARAM *name = OSSL_PARAM_locate_const(params, OSSL_CAPABILITY_TLS_GROUP_ALG);

	return !name || name->data_type != OSSL_PARAM_UTF8_STRING || strcmp(name->data, "X25519") != 0 || g->each(params, g->arg);
}

static int capabilities(void *provider, const char *capability, OSSL_CALLBACK *each, void *arg)
{
	const struct provider *p = provider;
	struct groups g = {each, arg};

	if (!p->has_x25519 || OPENSSL_strcasecmp(capability, "TLS-GROUP") != 0)
		return 0;
	return OSSL_PROVIDER_get_capabilities(p->base, capability, group_of_ours, &g);
}

static void teardown(void *provider)
{
	struct provider *p = provider;

	if (p->has_key)
		(void)pthread_key_delete(p->records); /* of a key that there is: cannot fail */
	if (p->base)
		(void)OSSL_PROVIDER_unload(p->base); /* a count of ours; nobody is left to tell */
	OPENSSL_free(p);
}

static int init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **provider)
{
	static const OSSL_DISPATCH functions[] = {
		{OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))teardown},
		{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
		{OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities},
		{0, NULL},
	};
	struct provider *p = OPENSSL_zalloc(sizeof(*p));

	(void)handle;
	(void)in;
	if (!p)
		return 0;
	p->has_key = pthread_key_create(&p->records, NULL) == 0;
	p->base = OSSL_PROVIDER_load(NULL, "default");
	if (!p->has_key || !p->base) {
		teardown(p);
		return 0;
	}
	p->base_ctx = OSSL_PROVIDER_get0_provider_ctx(p->base);
	take_x25519(p);
	*out = functions;
	*provider = p;
	return 1;
}

OSSL_PROVIDER *tls_provider_get(void)
{
	OSSL_PROVIDER *own;

	(void)OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL); /* the machine's openssl.cnf does not speak for a mesh; a failure shows next */
	if (!OSSL_PROVIDER_available(NULL, NAME))
		(void)OSSL_PROVIDER_add_builtin(NULL, NAME, init); /* fails where another was faster, which is fine */
	own = OSSL_PROVIDER_try_load(NULL, NAME, 1);
	ERR_clear_error();
	return own;
}

void tls_provider_put(OSSL_PROVIDER *own)
{
	if (own)
		(void)OSSL_PROVIDER_unload(own); /* a count of ours; nobody is left to tell */
}

void tls_secrets_to(const OSSL_PROVIDER *provider, struct tls_records *r)
{
	const struct provider *p = OSSL_PROVIDER_get0_provider_ctx(provider);

	(void)pthread_setspecific(p->records, r); /* without memory for it the secrets do not come, and the records stay OpenSSL's */
}
