/* See fake_stream.h. Like the real one it queues output, and calls nobody from inside an operation. */
#include "tests/unit/http/fake_stream.h"

#include "tests/unit/support.h"

static struct fake_stream *fake_of(struct stream *s)
{
	return FOIL_CONTAINER_OF(s, struct fake_stream, s);
}

static void fake_write(struct foil_worker *w, struct stream *s, struct foil_chain *own_chain)
{
	struct fake_stream *f = fake_of(s);

	assert_true(fake_is_alive(f));
	if (f->holds)
		s->tx_queued_bytes += own_chain->n_bytes;
	if (s->tx_queued_bytes >= s->tx_high_bytes)
		s->was_full = true;
	foil_chain_move(&f->tx, own_chain);
}

static void fake_shutdown(struct foil_worker *w, struct stream *s)
{
	s->tx_shut = true;
}

static void let_go(struct stream *s)
{
	assert_non_null(s->user);
	s->user = NULL;
	s->user_data = NULL;
	foil_chain_clear(&s->rx);
}

static void fake_abort(struct foil_worker *w, struct stream *s)
{
	fake_of(s)->is_aborted = true;
	let_go(s);
}

static void fake_release(struct foil_worker *w, struct stream *s)
{
	fake_of(s)->is_released = true;
	let_go(s);
}

static void fake_consumed(struct foil_worker *w, struct stream *s)
{
	fake_of(s)->n_consumed_calls++;
}

static const struct stream_ops fake_ops = {
	.write = fake_write, .shutdown = fake_shutdown, .abort = fake_abort, .release = fake_release, .consumed = fake_consumed,
};

void fake_init(struct fake_stream *f, bool is_open)
{
	*f = (struct fake_stream){.s = {.ops = &fake_ops, .tx_high_bytes = STREAM_TX_HIGH_BYTES, .is_open = is_open}};
}

void fake_fini(struct fake_stream *f)
{
	foil_chain_clear(&f->s.rx);
	foil_chain_clear(&f->tx);
}

bool fake_is_alive(const struct fake_stream *f)
{
	return f->s.user != NULL;
}

static void tell_readable(struct foil_worker *w, struct fake_stream *f)
{
	if (fake_is_alive(f))
		f->s.user->readable(w, &f->s);
}

void fake_feed(struct foil_worker *w, struct fake_stream *f, const void *data, uint32_t n_bytes, uint16_t seg_bytes, bool each_alone)
{
	const char *p = data;

	for (uint32_t done = 0; done < n_bytes && fake_is_alive(f);) {
		uint32_t n = FOIL_MIN(n_bytes - done, seg_bytes ? (uint32_t)seg_bytes : 2048u);
		t_chain(w, &f->s.rx, &p[done], n, 0);
		done += n;
		if (each_alone)
			tell_readable(w, f);
	}
	if (!each_alone)
		tell_readable(w, f);
}

void fake_eof(struct foil_worker *w, struct fake_stream *f)
{
	f->s.rx_eof = true;
	tell_readable(w, f);
}

void fake_opened(struct foil_worker *w, struct fake_stream *f)
{
	f->s.is_open = true;
	f->s.user->opened(w, &f->s);
}

void fake_closed(struct foil_worker *w, struct fake_stream *f, enum stream_end why)
{
	const struct stream_user *user = f->s.user;

	if (!user)
		return;
	user->closed(w, &f->s, why);
	f->s.user = NULL;
	foil_chain_clear(&f->s.rx);
}

void fake_ack(struct foil_worker *w, struct fake_stream *f, uint32_t n_bytes)
{
	f->s.tx_queued_bytes -= FOIL_MIN(n_bytes, f->s.tx_queued_bytes);
	if (f->s.was_full && f->s.tx_queued_bytes <= f->s.tx_high_bytes / 2) {
		f->s.was_full = false;
		if (fake_is_alive(f))
			f->s.user->writable(w, &f->s);
	}
}

uint32_t fake_take_tx(struct fake_stream *f, char *out, uint32_t cap)
{
	uint32_t n = FOIL_MIN(cap, f->tx.n_bytes);

	foil_chain_copy_out(&f->tx, 0, out, n);
	foil_chain_consume(&f->tx, n);
	return n;
}
