/* Handshakes on threads of their own: a worker hands a connection whose next step OpenSSL can take (bytes have come) to whichever crypto thread is free, over
 * one ring, and gets it back over a ring of the worker's own. Signing, key exchange and the peer's chain are verified there; the worker goes on with packets.
 *
 *   worker: tls_hand_off -> asked ring -> thread: tls_crypto_step -> done ring of that worker -> worker: tls_take_back
 *
 * The step works on copies: the bytes that had come, and what OpenSSL writes; chains, pools and counters stay the worker's.
 * Invariant: while c->job is set only a crypto thread touches the connection's SSL and keys, and the worker keeps the connection (a pin) however it ends. */
#include <errno.h>
#include <semaphore.h>

#include <openssl/err.h>

#include <rte_malloc.h>
#include <rte_ring.h>

#include "dataplane/core/error.h"
#include "dataplane/tls/tls_priv.h"

#define IN_BYTES_MAX 65536u   /* a step's input; what is more waits below */
#define OUT_BYTES_MAX 262144u /* a server's flight: its chain, and what OpenSSL adds */
#define ASKED_MAX 65536u

struct tls_crypto {
	struct rte_ring *asked;
	sem_t n_asked;
	bool is_stopped;
	void (*wake)(void *arg, uint16_t worker);
	void *wake_arg;
	uint16_t n_workers;
	struct rte_ring *done[];
};

/* ---- both sides ---- */
void tls_step(struct tls_conn *c, struct tls_step *s)
{
	ERR_clear_error();
	tls_secrets_to(c->context->provider, &c->rec);
	int rc = SSL_do_handshake(c->ssl);
	*s = (struct tls_step){.is_done = rc == 1, .wants_read = rc != 1 && SSL_get_error(c->ssl, rc) == SSL_ERROR_WANT_READ};
	s->error = ERR_peek_last_error();
	tls_secrets_to(c->context->provider, NULL);
	ERR_clear_error();
}

/* ---- a crypto thread's side ---- */
bool tls_job_write(struct tls_job *j, const void *data, size_t n)
{
	if (n > OUT_BYTES_MAX - j->n_out)
		return false;
	if (j->n_out + n > j->out_bytes) {
		size_t bytes = FOIL_MIN(FOIL_MAX(2 * j->out_bytes, j->n_out + n), OUT_BYTES_MAX);
		uint8_t *out = OPENSSL_realloc(j->out, bytes);
		if (!out)
			return false;
		j->out = out;
		j->out_bytes = bytes;
	}
	memcpy(j->out + j->n_out, data, n);
	j->n_out += n;
	return true;
}

bool tls_crypto_step(struct tls_crypto *x)
{
	void *next;

	if (rte_ring_mc_dequeue(x->asked, &next) != 0)
		return false;
	struct tls_conn *c = next;
	uint16_t worker = c->job->worker;
	if (!__atomic_load_n(&c->job->is_moot, __ATOMIC_RELAXED))
		tls_step(c, &c->job->step);
	if (rte_ring_mp_enqueue(x->done[worker], c) != 0)
		FOIL_UNREACHABLE(); /* as large as all that a worker can have asked */
	if (x->wake)
		x->wake(x->wake_arg, worker);
	return true;
}

bool tls_crypto_wait(struct tls_crypto *x)
{
	while (sem_wait(&x->n_asked) != 0 && errno == EINTR)
		;
	return !__atomic_load_n(&x->is_stopped, __ATOMIC_ACQUIRE);
}

void tls_crypto_stop(struct tls_crypto *x, uint16_t n_threads)
{
	__atomic_store_n(&x->is_stopped, true, __ATOMIC_RELEASE);
	for (uint16_t i = 0; i < n_threads; i++)
		(void)sem_post(&x->n_asked); /* at its limit somebody wakes anyway */
}

/* ---- a worker's side ---- */
static void job_free(struct tls_job *j)
{
	OPENSSL_free(j->in);
	OPENSSL_clear_free(j->out, j->out_bytes);
	OPENSSL_free(j);
}

static struct tls_job *job_new(struct foil_worker *w, const struct foil_chain *rx)
{
	struct tls_job *j = OPENSSL_zalloc(sizeof(*j));

	if (!j)
		return NULL;
	j->worker = w->id;
	j->wall_us = w->wall_us;
	j->n_in = FOIL_MIN(rx->n_bytes, IN_BYTES_MAX);
	j->in = OPENSSL_malloc(j->n_in + 1);
	if (!j->in) {
		job_free(j);
		return NULL;
	}
	foil_chain_copy_out(rx, 0, j->in, j->n_in);
	return j;
}

bool tls_hand_off(struct foil_worker *w, struct tls_conn *c)
{
	struct tls_ctx *t = w->tls;
	struct tls_job *j = t->crypto && t->n_jobs < t->jobs_max ? job_new(w, &c->below->rx) : NULL;

	if (!j)
		return false;
	c->job = j;
	c->n_pins++;
	if (rte_ring_mp_enqueue(t->crypto->asked, c) != 0) {
		c->job = NULL;
		c->n_pins--;
		job_free(j);
		return false;
	}
	t->n_jobs++;
	foil_count(w, TLS, STEPS_HANDED_OFF, 1);
	(void)sem_post(&t->crypto->n_asked); /* at its limit somebody wakes anyway */
	return true;
}

/* What the step did to the connection's own bytes. */
static void settle(struct foil_worker *w, struct tls_conn *c, const struct tls_job *j)
{
	foil_count(w, TLS, TICKETS_SEALED, j->n_tickets_sealed);
	foil_count(w, TLS, TICKETS_REFUSED, j->n_tickets_refused);
	if (!c->below || c->is_dead)
		return;
	foil_chain_consume(&c->below->rx, j->n_read);
	c->n_consumed += j->n_read;
	if (j->no_memory || (j->n_out && foil_chain_append(w, &c->out, j->out, (uint32_t)j->n_out) != 0))
		c->no_memory = true;
}

struct tls_conn *tls_take_back(struct foil_worker *w, struct tls_step *s)
{
	struct tls_ctx *t = w->tls;
	void *next;

	if (!t->n_jobs || rte_ring_sc_dequeue(t->crypto->done[w->id], &next) != 0)
		return NULL;
	struct tls_conn *c = next;
	struct tls_job *j = c->job;
	t->n_jobs--;
	c->job = NULL;
	*s = j->step;
	settle(w, c, j);
	job_free(j);
	return c;
}

/* ---- life ---- */
static struct rte_ring *ring(const char *what, uint16_t i, uint32_t n, unsigned int flags)
{
	char name[RTE_RING_NAMESIZE];

	(void)snprintf(name, sizeof(name), "tls_%s%u", what, i); /* fits */
	return rte_ring_create(name, rte_align32pow2(n + 1), SOCKET_ID_ANY, flags);
}

struct tls_crypto *tls_crypto_new(const struct tls_crypto_params *p, struct foil_error *err)
{
	struct tls_crypto *x = rte_zmalloc("tls crypto", sizeof(*x) + p->n_workers * sizeof(x->done[0]), 64);
	bool ok = x && sem_init(&x->n_asked, 0, 0) == 0;

	if (ok) {
		x->n_workers = p->n_workers;
		x->wake = p->wake;
		x->wake_arg = p->wake_arg;
		x->asked = ring("asked", 0, FOIL_MIN(p->n_workers * p->jobs_max, ASKED_MAX), 0);
		ok = x->asked != NULL;
	}
	for (uint16_t i = 0; ok && i < p->n_workers; i++) {
		x->done[i] = ring("done", i, p->jobs_max, RING_F_SC_DEQ);
		ok = x->done[i] != NULL;
	}
	if (ok)
		return x;
	(void)foil_error_set(err, -ENOMEM, "no memory for the rings of crypto_workers; raise memory.megabytes");
	tls_crypto_free(x);
	return NULL;
}

void tls_crypto_free(struct tls_crypto *x)
{
	if (!x)
		return;
	rte_ring_free(x->asked);
	for (uint16_t i = 0; i < x->n_workers; i++)
		rte_ring_free(x->done[i]);
	(void)sem_destroy(&x->n_asked); /* nobody waits any more */
	rte_free(x);
}
