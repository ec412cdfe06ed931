/* The room's part of a worker: connection blocks, OpenSSL's method over chains. */
#include "dataplane/tls/tls_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "dataplane/core/error.h"

#define CONNS_MAX 65536u
#define HANDSHAKES_MAX 8192u

int tls_pool_init(struct tls_pool *p, uint32_t bytes_each, uint32_t n_max)
{
	*p = (struct tls_pool){.bytes_each = (bytes_each + 63u) & ~63u, .n_max = n_max};
	p->base = calloc(n_max, p->bytes_each);
	return p->base ? 0 : -ENOMEM;
}

void *tls_pool_take(struct tls_pool *p)
{
	void *block = p->free;

	if (block)
		memcpy(&p->free, block, sizeof(void *));
	else if (p->n_fresh < p->n_max)
		block = p->base + (size_t)p->n_fresh++ * p->bytes_each;
	else
		return NULL;
	p->n_live++;
	memset(block, 0, p->bytes_each);
	return block;
}

void tls_pool_give(struct tls_pool *p, void *block)
{
	FOIL_ASSERT(p->n_live > 0);
	p->n_live--;
#ifdef FOIL_CHECKS
	memset(block, 0xdb, p->bytes_each);
#endif
	memcpy(block, &p->free, sizeof(void *));
	p->free = block;
}

int tls_init(struct foil_worker *w, const struct tls_params *p, struct foil_error *err)
{
	struct tls_ctx *t = calloc(1, sizeof(*t));

	if (!t)
		return foil_error_set(err, -ENOMEM, "no memory for TLS of worker %u", (unsigned int)w->id);
	(void)OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL); /* a failure shows at the next step */
	uint32_t n_handshakes = p->handshakes_max ? p->handshakes_max : HANDSHAKES_MAX;
	t->crypto = p->crypto;
	t->jobs_max = p->jobs_max;
	t->pending_tail = &t->pending;
	t->keeps_openssl = p->openssl_records;
	t->bio = tls_bio_method_new();
	struct tls_aead_params aead = {.engine = p->engine, .n_slots = p->schedules_max ? p->schedules_max : TLS_SLOTS};
	if (!t->bio || tls_aead_new(&aead, &t->aead) != 0 || tls_places_init(&t->places, n_handshakes, p->handshakes_prefix_max) != 0 ||
	    tls_pool_init(&t->conns, sizeof(struct tls_conn), p->conns_max ? p->conns_max : CONNS_MAX) != 0 ||
	    tls_pool_init(&t->peers, sizeof(struct tls_peer_kept), p->conns_max ? p->conns_max : CONNS_MAX) != 0) {
		free(t->conns.base);
		tls_places_fini(&t->places);
		tls_aead_free(t->aead);
		BIO_meth_free(t->bio);
		free(t);
		return foil_error_set(err, -ENOMEM, "no memory for %u TLS connections of worker %u", p->conns_max ? p->conns_max : CONNS_MAX,
				      (unsigned int)w->id);
	}
	w->tls = t;
	return 0;
}

void tls_fini(struct foil_worker *w)
{
	struct tls_ctx *t = w->tls;

	if (!t)
		return;
	tls_recall(w);
	while (t->all)
		tls_conn_free(w, t->all);
	tls_places_fini(&t->places);
	rte_pktmbuf_free(t->spare);
	tls_aead_free(t->aead);
	BIO_meth_free(t->bio);
	free(t->conns.base);
	free(t->peers.base);
	OPENSSL_cleanse(t, sizeof(*t));
	free(t);
	w->tls = NULL;
}
