/* Certificates of the workloads that this node speaks for (features.md ID-3, ID-6): one key and certificate an identity, made when it is first wanted and
 * again at a jittered share of its life. Keys never leave memory here. Invariant: list is sorted by id and has no doubles; a secret that is there
 * stays until a newer one is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/pem.h>
#include <openssl/rand.h>

#include "ctrl/ca/ca_priv.h"

#define RETRY_S_MIN 1
#define RETRY_S_MAX 60

struct workload {
	char *id;
	struct ca_leaf leaf;
	struct ca_text key;
	int64_t renew_s; /* 0: now */
	uint64_t n_issued;
	uint32_t n_failures;
};

struct ca_workloads {
	struct ca_authority *a;
	struct ca_rotation r;
	struct workload *list;
	size_t n;
};

struct ca_workloads *ca_workloads_new(struct ca_authority *a, const struct ca_rotation *r)
{
	struct ca_workloads *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->a = a;
	w->r = *r;
	w->r.ttl_s = r->ttl_s ? FOIL_MIN(FOIL_MAX(r->ttl_s, CA_TTL_S_MIN), CA_TTL_S_MAX) : CA_TTL_S_DEFAULT;
	w->r.renew_permille = r->renew_permille ? FOIL_MIN(r->renew_permille, 950u) : 500;
	w->r.jitter_permille = r->jitter_permille ? FOIL_MIN(r->jitter_permille, 250u) : 10;
	return w;
}

static void workload_fini(struct workload *k)
{
	free(k->id);
	ca_leaf_fini(&k->leaf);
	ca_text_fini(&k->key);
}

void ca_workloads_free(struct ca_workloads *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->n; i++)
		workload_fini(&w->list[i]);
	free(w->list);
	free(w);
}

static int by_text(const void *x, const void *y)
{
	return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* Sorted, without doubles and what is no id; returns how many. */
static size_t tidy(const char **ids, size_t n)
{
	size_t to = 0;

	qsort(ids, n, sizeof(ids[0]), by_text);
	for (size_t i = 0; i < n; i++)
		if (ca_id_is_valid(foil_slice_str(ids[i])) && (to == 0 || strcmp(ids[to - 1], ids[i]) != 0))
			ids[to++] = ids[i];
	return to;
}

/* Both sorted: what stays moves over, the rest of the old goes. */
static bool merge(struct ca_workloads *w, const char *const *ids, size_t n, struct workload *list)
{
	size_t old = 0;

	for (size_t i = 0; i < n; i++) {
		list[i].id = strdup(ids[i]);
		if (!list[i].id) {
			for (size_t k = 0; k < i; k++)
				free(list[k].id);
			return false;
		}
	}
	for (size_t i = 0; i < n; i++) {
		while (old < w->n && strcmp(w->list[old].id, ids[i]) < 0)
			workload_fini(&w->list[old++]);
		if (old < w->n && strcmp(w->list[old].id, ids[i]) == 0) {
			free(list[i].id);
			list[i] = w->list[old++];
		}
	}
	while (old < w->n)
		workload_fini(&w->list[old++]);
	return true;
}

int ca_workloads_want(struct ca_workloads *w, const char *const *ids, size_t n_ids)
{
	const char **sorted = calloc(n_ids + 1, sizeof(*sorted));
	size_t n = 0;

	if (sorted && n_ids)
		memcpy(sorted, ids, n_ids * sizeof(*sorted));
	if (sorted)
		n = tidy(sorted, n_ids);
	struct workload *list = sorted ? calloc(n + 1, sizeof(*list)) : NULL;
	bool ok = list && merge(w, sorted, n, list);
	free(sorted);
	if (!ok) {
		free(list);
		return -ENOMEM;
	}
	free(w->list);
	w->list = list;
	w->n = n;
	return 0;
}

void ca_workloads_renew_all(struct ca_workloads *w)
{
	for (size_t i = 0; i < w->n; i++) {
		w->list[i].renew_s = 0;
		w->list[i].n_failures = 0;
	}
}

/* A share of what is left of the certificate, some more or less: not all at once. */
static int64_t renew_at(const struct ca_rotation *r, const struct ca_leaf *leaf, int64_t now_s)
{
	int64_t life = leaf->not_after_s - now_s, jitter = life * r->jitter_permille / 1000, shift = 0;
	uint32_t random = 0;

	if (jitter && RAND_bytes((unsigned char *)&random, sizeof(random)) == 1)
		shift = (int64_t)(random % (uint64_t)(2 * jitter + 1)) - jitter;
	return now_s + FOIL_MAX(life * r->renew_permille / 1000 + shift, 1);
}

static bool key_text(EVP_PKEY *key, struct ca_text *out)
{
	BIO *b = BIO_new(BIO_s_secmem());
	char *pem = NULL;
	long n = b && PEM_write_bio_PKCS8PrivateKey(b, key, NULL, NULL, 0, NULL, NULL) == 1 ? BIO_get_mem_data(b, &pem) : 0;

	if (n > 0)
		ca_text_add(out, pem, (size_t)n);
	BIO_free(b);
	return n > 0 && !out->failed;
}

static int issue(struct ca_workloads *w, struct workload *k, int64_t now_s, struct foil_error *err)
{
	const struct foil_slice id = foil_slice_str(k->id);
	EVP_PKEY *key = ca_make_key();
	struct ca_text text = {0};
	struct ca_leaf leaf = {0};
	int rc = key && key_text(key, &text) ? 0 : foil_error_set(err, -ENOMEM, "no memory for a key");

	if (rc == 0)
		rc = ca_sign_key(w->a, key, &id, 1, w->r.ttl_s, now_s, &leaf, err);
	EVP_PKEY_free(key);
	if (rc < 0) {
		ca_text_fini(&text);
		return rc;
	}
	ca_leaf_fini(&k->leaf);
	ca_text_fini(&k->key);
	k->leaf = leaf;
	k->key = text;
	k->renew_s = renew_at(&w->r, &leaf, now_s);
	k->n_issued++;
	k->n_failures = 0;
	return 0;
}

bool ca_workloads_turn(struct ca_workloads *w, int64_t now_s, size_t n_max, struct foil_error *err)
{
	bool changed = false;
	size_t n_done = 0;

	err->text[0] = 0;
	for (size_t i = 0; i < w->n && n_done < n_max; i++) {
		struct workload *k = &w->list[i];
		if (k->renew_s > now_s && k->leaf.not_before_s <= now_s) /* a clock that was set back: a certificate of the future is of no use */
			continue;
		n_done++;
		if (issue(w, k, now_s, err) == 0) {
			changed = true;
			continue;
		}
		k->n_failures = FOIL_MIN(k->n_failures + 1, 6u);
		k->renew_s = now_s + FOIL_MIN(RETRY_S_MIN << k->n_failures, RETRY_S_MAX);
	}
	return changed;
}

size_t ca_workloads_n(const struct ca_workloads *w)
{
	return w->n;
}

struct ca_secret ca_workloads_at(const struct ca_workloads *w, size_t i)
{
	const struct workload *k = &w->list[i];

	return (struct ca_secret){.id = k->id, .chain = foil_slice_of(k->leaf.chain_pem, k->leaf.n_chain), .key = foil_slice_of(k->key.data, k->key.n),
				  .not_before_s = k->leaf.not_before_s, .not_after_s = k->leaf.not_after_s, .renew_s = k->renew_s, .n_issued = k->n_issued};
}
