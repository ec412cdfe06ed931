/* Secrets: Kubernetes' kind of that name, what of it a credentialName means (features.md GW-9), files named by path, and the snapshot's Secret resources.
 * As istiod has it, "name" holds certificate and key, "name-cacert" the CA: both may stand in one Secret. What cannot be used is reported where it
 * stands and left out; whoever names it then waits, and nothing else breaks. Nothing of a secret's contents is ever in a diagnostic. */
#include "ctrl/istio/rows.h"
#include "ctrl/istio/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "dataplane/core/base64.h"
#include "dataplane/core/error.h"
#include "dataplane/tls/tls.h"

#define SCHEME "kubernetes://"
#define FILE_BYTES_MAX (1u << 20)

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

/* ---- values ---- */

/* False: not base64. Blanks and line breaks may stand anywhere. */
bool istio_base64(struct istio_arena *a, const char *text, struct tls_bytes *out)
{
	uint8_t *to = istio_arena_alloc(a, strlen(text) / 4 * 3 + 4);
	uint32_t bits = 0, n_digits = 0, n_pads = 0;
	size_t n = 0;

	for (; *text; text++) {
		int digit = foil_base64_digit(*text, "+/");
		if (strchr(" \t\r\n", *text))
			continue;
		n_pads += *text == '=';
		if (*text == '=' ? n_pads > 2 : digit < 0 || n_pads)
			return false;
		if (*text == '=')
			continue;
		bits = bits << 6 | (uint32_t)digit;
		if (++n_digits % 4 == 0) {
			to[n++] = (uint8_t)(bits >> 16);
			to[n++] = (uint8_t)(bits >> 8);
			to[n++] = (uint8_t)bits;
		}
	}
	if (n_digits % 4 == 1 || (n_pads && (n_digits + n_pads) % 4))
		return false;
	if (n_digits % 4 == 2) {
		to[n++] = (uint8_t)(bits >> 4);
	} else if (n_digits % 4 == 3) {
		to[n++] = (uint8_t)(bits >> 10);
		to[n++] = (uint8_t)(bits >> 2);
	}
	*out = (struct tls_bytes){to, n};
	return true;
}

static const char *value_of(const struct istio_string_map *m, const char *key)
{
	for (uint32_t i = 0; i < m->n; i++)
		if (strcmp(m->keys[i], key) == 0)
			return m->values[i];
	return NULL;
}

/* The value under the first of the keys that the Secret has; stringData wins, as in Kubernetes. n 0: none. */
static struct tls_bytes value(struct compile *c, const struct resource *r, const char *const *keys)
{
	const struct k8s_secret *s = r->spec;
	struct tls_bytes out = {NULL, 0};

	for (; *keys; keys++) {
		const char *plain = value_of(&s->string_data, *keys), *coded = value_of(&s->data, *keys);
		if (plain && plain[0])
			return (struct tls_bytes){(const uint8_t *)plain, strlen(plain)};
		if (!coded || !coded[0])
			continue;
		if (istio_base64(c->arena, coded, &out))
			return out;
		istio_compile_report(c, ISTIO_ERROR, "IST0106", r, r->node->at, istio_arena_printf(c->arena, "data[%s]", *keys),
				     "is not base64: it is not used");
	}
	return out;
}

static struct foil_slice slice(struct tls_bytes b)
{
	return foil_slice_of(b.data, b.n);
}

/* One of tls.crt and tls.key, wherever it stands. n 0: it is not there, or not base64. */
static struct tls_bytes plain_value(struct istio_arena *a, const struct k8s_secret *s, const char *key)
{
	const char *plain = value_of(&s->string_data, key), *coded = value_of(&s->data, key);
	struct tls_bytes out = {NULL, 0};

	if (plain && plain[0])
		return (struct tls_bytes){(const uint8_t *)plain, strlen(plain)};
	return coded && istio_base64(a, coded, &out) ? out : (struct tls_bytes){NULL, 0};
}

/* A certificate that its key does not go with, or that cannot be read, is refused with its Secret: the last good one stays in force. */
static void check_secret(struct istio_decode *d, void *object)
{
	const struct k8s_secret *s = object;
	struct tls_bytes chain = plain_value(d->arena, s, "tls.crt"), key = plain_value(d->arena, s, "tls.key");
	struct tls_identity id = {.name = foil_slice_str(d->resource), .chain = slice(chain), .key = slice(key)};
	struct foil_error err = {0};

	if (chain.n && key.n && tls_identity_check(&id, &err) != 0)
		istio_decode_error(d, "HF0020", &s->head, "", "%s", err.text);
}

static const struct istio_field secret_rows[] = {
	ROW(k8s_secret, type, "type", F_STRING),
	ROW(k8s_secret, data, "data", F_STRING_MAP, .is_free_text = true),
	ROW(k8s_secret, string_data, "stringData", F_STRING_MAP, .is_free_text = true),
};
const struct istio_table istio_table_k8s_secret = TABLE(k8s_secret, "Secret", secret_rows, .is_open = true, .check = check_secret);

/* ---- the snapshot's resources ---- */

static ProtobufCBinaryData binary(struct tls_bytes b)
{
	return (ProtobufCBinaryData){.len = b.n, .data = (uint8_t *)(uintptr_t)b.data}; /* only packed */
}

static void emit(struct compile *c, const char *name, const struct resource *r, const struct secret_parts *p)
{
	Foil__Conf__Secret m = FOIL__CONF__SECRET__INIT;

	m.name = word(name);
	m.has_certificate_chain = p->chain.n > 0;
	m.certificate_chain = binary(p->chain);
	m.has_private_key = p->key.n > 0;
	m.private_key = binary(p->key);
	m.has_ca = p->ca.n > 0;
	m.ca = binary(p->ca);
	m.has_crl = p->crl.n > 0;
	m.crl = binary(p->crl);
	m.has_ocsp_staple = p->staple.n > 0;
	m.ocsp_staple = binary(p->staple);
	if (r)
		m.source = istio_compile_source(c, r, r->node->at);
	istio_compile_emit(c, FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET, name, &m.base);
}

static void note_unusable(struct compile *c, const char *name)
{
	ARENA_PUSH(c->out, &c->unusable, istio_arena_copy(c->out, name, strlen(name)));
}

/* False: with a sentence, and noted. */
static bool is_good(struct compile *c, const char *name, const struct secret_parts *p, struct foil_error *err)
{
	struct foil_slice n = foil_slice_str(name);
	struct tls_identity id = {.name = n, .chain = slice(p->chain), .key = slice(p->key), .ocsp_staple = slice(p->staple)};

	if ((p->key.n && tls_identity_check(&id, err) != 0) || (p->ca.n && tls_bundle_check(n, slice(p->ca), slice(p->crl), err) != 0)) {
		note_unusable(c, name);
		return false;
	}
	return true;
}

/* Only once a name. */
static bool is_first(struct compile *c, const char *name)
{
	bool is_new;

	(void)istio_map_put(c->arena, &c->secrets, name, &is_new);
	return is_new;
}

static const struct resource *find(const struct compile *c, const char *namespace, const char *name)
{
	return istio_map_get(&c->model->by_id, istio_arena_printf(c->arena, "Secret/%s/%s", namespace, name));
}

/* In the namespace of whoever names it, else where gateways run. */
static const struct resource *find_for(struct compile *c, const char *credential, const char *suffix, const char *namespace)
{
	const char *slash = strchr(credential, '/');
	const char *name = istio_arena_printf(c->arena, "%s%s", slash ? slash + 1 : credential, suffix);

	if (slash)
		return find(c, istio_arena_copy(c->arena, credential, (size_t)(slash - credential)), name);
	const struct resource *r = find(c, namespace, name);
	return r ? r : find(c, c->root_namespace, name);
}

static const char *bare(const char *credential)
{
	return strncmp(credential, SCHEME, strlen(SCHEME)) == 0 ? credential + strlen(SCHEME) : credential;
}

const char *istio_secret_identity(struct compile *c, const struct tls_user *u, const char *credential)
{
	static const char *const chains[] = {"tls.crt", "cert", NULL}, *const keys[] = {"tls.key", "key", NULL};
	static const char *const staples[] = {"tls.ocsp-staple", NULL};
	const char *wanted = bare(credential);
	const struct resource *r = find_for(c, wanted, "", u->resource->namespace);
	struct foil_error err = {0};

	if (!r) {
		istio_compile_report(c, ISTIO_WARNING, "IST0101", u->resource, u->at, u->field,
				     "the Secret \"%.200s\" is not there: TLS handshakes that need it fail until it is", wanted);
		return istio_arena_printf(c->arena, SCHEME "%s/%s", u->resource->namespace, wanted);
	}
	const char *name = istio_arena_printf(c->arena, SCHEME "%s/%s", r->namespace, r->name);
	if (!is_first(c, name))
		return name;
	struct secret_parts p = {.chain = value(c, r, chains), .key = value(c, r, keys), .staple = value(c, r, staples)};
	if (!p.chain.n || !p.key.n) {
		note_unusable(c, name);
		istio_compile_report(c, ISTIO_ERROR, "HF0020", r, r->node->at, "", "has no %s: %s needs tls.crt and tls.key (or cert and key)",
				     p.chain.n ? "private key" : "certificate", u->resource->id);
	} else if (!is_good(c, name, &p, &err))
		istio_compile_report(c, ISTIO_ERROR, "HF0020", r, r->node->at, "", "%s: it is not used", err.text);
	else
		emit(c, name, r, &p);
	return name;
}

const char *istio_secret_ca(struct compile *c, const struct tls_user *u, const char *credential, bool is_named)
{
	static const char *const cas[] = {"ca.crt", "cacert", NULL}, *const own[] = {"ca.crt", "cacert", "tls.crt", NULL};
	static const char *const crls[] = {"ca.crl", "crl", NULL};
	const char *wanted = bare(credential);
	const struct resource *r = is_named ? NULL : find_for(c, wanted, "-cacert", u->resource->namespace);
	struct foil_error err = {0};
	const char *const *keys = r || is_named ? own : cas;

	if (!r)
		r = find_for(c, wanted, "", u->resource->namespace);
	if (!r) {
		istio_compile_report(c, ISTIO_WARNING, "IST0101", u->resource, u->at, u->field,
				     "the Secret \"%.200s\" is not there: TLS handshakes that need its CA fail until it is", wanted);
		return istio_arena_printf(c->arena, SCHEME "%s/%s-cacert", u->resource->namespace, wanted);
	}
	size_t n = strlen(r->name);
	bool has_suffix = n > 7 && strcmp(r->name + n - 7, "-cacert") == 0;
	const char *name = istio_arena_printf(c->arena, SCHEME "%s/%s%s", r->namespace, r->name, has_suffix ? "" : "-cacert");
	if (!is_first(c, name))
		return name;
	struct secret_parts p = {.ca = value(c, r, keys), .crl = value(c, r, crls)};
	if (!p.ca.n) {
		note_unusable(c, name);
		istio_compile_report(c, ISTIO_ERROR, "HF0020", r, r->node->at, "", "has no CA: %s needs ca.crt (or cacert) in it or in %s-cacert",
				     u->resource->id, r->name);
	} else if (!is_good(c, name, &p, &err))
		istio_compile_report(c, ISTIO_ERROR, "HF0020", r, r->node->at, "", "%s: it is not used", err.text);
	else
		emit(c, name, r, &p);
	return name;
}

/* ---- files ---- */

static uint64_t stamp_of(const char *path, bool is_there, const struct stat *st)
{
	int64_t facts[5] = {is_there};

	if (is_there) {
		facts[1] = (int64_t)st->st_mtim.tv_sec;
		facts[2] = st->st_mtim.tv_nsec;
		facts[3] = st->st_size;
		facts[4] = (int64_t)st->st_ino;
	}
	return XXH64(facts, sizeof(facts), XXH64(path, strlen(path), 0));
}

uint64_t istio_files_stamp(const char *const *files, size_t n_files)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n_files; i++) {
		struct stat st;
		bool is_there = stat(files[i], &st) == 0;
		sum += stamp_of(files[i], is_there, &st);
	}
	return sum;
}

static void watch(struct compile *c, const char *path, bool is_there, const struct stat *st)
{
	for (uint32_t i = 0; i < c->files.n; i++)
		if (strcmp(c->files.list[i], path) == 0)
			return;
	ARENA_PUSH(c->out, &c->files, istio_arena_copy(c->out, path, strlen(path)));
	c->files_stamp += stamp_of(path, is_there, st);
}

static bool read_file(struct compile *c, const struct tls_user *u, const char *path, struct tls_bytes *out)
{
	struct stat st;
	int fd = path && path[0] ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	bool is_there = fd >= 0 && fstat(fd, &st) == 0;
	bool ok = is_there && S_ISREG(st.st_mode) && st.st_size > 0 && (size_t)st.st_size <= FILE_BYTES_MAX;
	uint8_t *data = ok ? istio_arena_alloc(c->arena, (size_t)st.st_size) : NULL;
	size_t n = 0;

	if (path && path[0])
		watch(c, path, is_there, &st);
	while (ok && n < (size_t)st.st_size) {
		ssize_t got = read(fd, data + n, (size_t)st.st_size - n);
		if (got < 0 && errno == EINTR)
			continue;
		ok = got > 0;
		n += ok ? (size_t)got : 0;
	}
	if (fd >= 0)
		(void)close(fd);
	if (ok)
		*out = (struct tls_bytes){data, n};
	else if (path && path[0])
		istio_compile_report(c, ISTIO_WARNING, "HF0020", u->resource, u->at, u->field,
				     "the file %.200s cannot be read: TLS handshakes that need it fail", path);
	return ok;
}

const char *istio_secret_files(struct compile *c, const struct tls_user *u, const char *chain, const char *key)
{
	const char *name = istio_arena_printf(c->arena, "file-cert:%s~%s", chain, key ? key : "");
	struct secret_parts p = {.chain = {NULL, 0}};
	struct foil_error err = {0};

	if (!is_first(c, name))
		return name;
	bool has_chain = read_file(c, u, chain, &p.chain), has_key = read_file(c, u, key, &p.key); /* both are watched */
	if (!has_chain || !has_key) {
		note_unusable(c, name);
		return name;
	}
	if (is_good(c, name, &p, &err))
		emit(c, name, NULL, &p);
	else
		istio_compile_report(c, ISTIO_ERROR, "HF0020", u->resource, u->at, u->field, "%s: it is not used", err.text);
	return name;
}

const char *istio_secret_ca_file(struct compile *c, const struct tls_user *u, const char *ca, const char *crl)
{
	const char *name = istio_arena_printf(c->arena, "file-root:%s~%s", ca, crl ? crl : "");
	struct secret_parts p = {.chain = {NULL, 0}};
	struct foil_error err = {0};

	if (!is_first(c, name))
		return name;
	bool has_ca = read_file(c, u, ca, &p.ca), has_crl = !crl || read_file(c, u, crl, &p.crl);
	if (!has_ca || !has_crl) {
		note_unusable(c, name);
		return name;
	}
	if (is_good(c, name, &p, &err))
		emit(c, name, NULL, &p);
	else
		istio_compile_report(c, ISTIO_ERROR, "HF0020", u->resource, u->at, u->field, "%s: it is not used", err.text);
	return name;
}
