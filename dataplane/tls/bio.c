/* OpenSSL's view of the stream below: reads take from its rx, writes gather in the connection's out chain, which io.c hands down once a call.
 * A crypto thread's step reads and writes copies instead (offload.c).
 * Invariant: an empty rx is always "come again", never EOF: what FIN means is decided where the TLS state is known. */
#include "dataplane/tls/tls_priv.h"

static int job_read(BIO *b, struct tls_job *j, char *to, size_t n_max, size_t *n_read)
{
	uint32_t n = (uint32_t)FOIL_MIN(n_max, j->n_in - j->n_read);

	BIO_clear_retry_flags(b);
	*n_read = n;
	if (!n) {
		BIO_set_retry_read(b);
		return 0;
	}
	memcpy(to, j->in + j->n_read, n);
	j->n_read += n;
	return 1;
}

static int bio_read(BIO *b, char *to, size_t n_max, size_t *n_read)
{
	struct tls_conn *c = BIO_get_data(b);

	if (c->job)
		return job_read(b, c->job, to, n_max, n_read);
	uint32_t n = c->below ? (uint32_t)FOIL_MIN(n_max, c->below->rx.n_bytes) : 0;

	BIO_clear_retry_flags(b);
	*n_read = n;
	if (!n) {
		BIO_set_retry_read(b);
		return 0;
	}
	foil_chain_copy_out(&c->below->rx, 0, to, n);
	foil_chain_consume(&c->below->rx, n);
	c->n_consumed += n;
	return 1;
}

static int bio_write(BIO *b, const char *data, size_t n, size_t *n_written)
{
	struct tls_conn *c = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	*n_written = 0;
	if (c->job) {
		c->job->no_memory |= !tls_job_write(c->job, data, n);
		*n_written = c->job->no_memory ? 0 : n;
		return !c->job->no_memory;
	}
	if (!c->below || n > UINT32_MAX || foil_chain_append(c->w, &c->out, data, (uint32_t)n) != 0) {
		c->no_memory = true;
		return 0;
	}
	*n_written = n;
	return 1;
}

static long bio_ctrl(BIO *b, int command, long number, void *data)
{
	(void)b;
	(void)number;
	(void)data;
	return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *b)
{
	BIO_set_init(b, 1);
	return 1;
}

BIO_METHOD *tls_bio_method_new(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "foil chains");

	if (!m)
		return NULL;
	if (BIO_meth_set_read_ex(m, bio_read) && BIO_meth_set_write_ex(m, bio_write) && BIO_meth_set_ctrl(m, bio_ctrl) &&
	    BIO_meth_set_create(m, bio_create))
		return m;
	BIO_meth_free(m);
	return NULL;
}
