/* One TLS connection: a stream for its user, the user of the stream below. State machine:
 *
 *   OPENING -> HANDSHAKE -> OPEN -> FINISHED -> CLOSED, and from any to CLOSED.
 *
 * The user's callbacks are called from callbacks of the stream below and from tls_turn, never from inside a function that the user called.
 * Invariant: n_pins counts the frames of this file that are at work on the connection; a dead one is freed by the last of them. */
#include <openssl/err.h>

#include "dataplane/tls/tls_priv.h"

#include <errno.h>

#define RX_HIGH_BYTES 65536u /* decrypted and not consumed: beyond it the peer waits */
#define RX_LOW_BYTES 32768u
#define SMALL_RECORD_BYTES 4096u
#define SMALL_UNTIL_BYTES 65536u
#define SMALL_AGAIN_US 1000000u
#define BACK_A_TURN 16u /* handshakes that go on in one turn, so that packets keep theirs */
#define UPDATE_AT_RECORDS (1ull << 24) /* RFC 8446 5.5: AES-GCM is good for 2^24.5 full records */

static const struct stream_ops tls_ops;
static const struct stream_user below_user;

static struct tls_conn *conn_of(struct stream *s)
{
	return FOIL_CONTAINER_OF(s, struct tls_conn, s);
}

/* ---- what is put off ---- */
static void later(struct tls_conn *c, uint8_t events)
{
	struct tls_ctx *t = c->w->tls;

	c->events |= events;
	if (c->pprev_pending)
		return;
	c->next_pending = NULL;
	c->pprev_pending = t->pending_tail;
	*t->pending_tail = c;
	t->pending_tail = &c->next_pending;
}

static void not_later(struct tls_conn *c)
{
	struct tls_ctx *t = c->w->tls;

	c->events = 0;
	if (!c->pprev_pending)
		return;
	*c->pprev_pending = c->next_pending;
	if (c->next_pending)
		c->next_pending->pprev_pending = c->pprev_pending;
	else
		t->pending_tail = c->pprev_pending;
	c->pprev_pending = NULL;
}

/* ---- life and death ---- */
static void handshake_over(struct tls_conn *c)
{
	if (!c->is_counted)
		return;
	c->is_counted = false;
	tls_place_give(c->w, &c->place);
	foil_count(c->w, TLS, HANDSHAKES_IN_FLIGHT, -1);
	foil_timer_cancel(c->w, &c->timer);
}

void tls_conn_free(struct foil_worker *w, struct tls_conn *c)
{
	handshake_over(c);
	not_later(c);
	if (c->s.is_open && !c->rec.is_ours)
		foil_count(w, TLS, OPENSSL_RECORDS, -1);
	SSL_free(c->ssl);
	tls_records_free(w->tls->aead, &c->rec);
	tls_context_put(c->context);
	foil_chain_clear(&c->out);
	foil_chain_clear(&c->plain);
	foil_chain_clear(&c->s.rx);
	tls_peer_put(w, c->facts.peer);
	foil_arena_reset(w, &c->arena);
	*c->pprev_all = c->next_all;
	if (c->next_all)
		c->next_all->pprev_all = c->pprev_all;
	foil_count(w, TLS, CONNS, -1);
	tls_pool_give(&w->tls->conns, c);
}

static void ends(struct tls_conn *c)
{
	c->is_dead = true;
	if (c->job)
		__atomic_store_n(&c->job->is_moot, true, __ATOMIC_RELAXED);
}

static void die(struct foil_worker *w, struct tls_conn *c)
{
	c->state = TLS_STATE_CLOSED;
	ends(c);
	not_later(c);
	if (!c->n_pins)
		tls_conn_free(w, c);
}

static void unpin(struct foil_worker *w, struct tls_conn *c)
{
	FOIL_ASSERT(c->n_pins > 0);
	if (--c->n_pins == 0 && c->is_dead)
		tls_conn_free(w, c);
}

/* ---- below ---- */
static void flush_down(struct foil_worker *w, struct tls_conn *c)
{
	if (c->below && c->n_consumed) {
		c->n_consumed = 0;
		stream_consumed(w, c->below);
	}
	if (!c->out.n_bytes)
		return;
	if (c->below)
		stream_write(w, c->below, &c->out);
	else
		foil_chain_clear(&c->out);
}

static void let_below_go(struct foil_worker *w, struct tls_conn *c, bool in_order)
{
	struct stream *below = c->below;

	if (!below)
		return;
	flush_down(w, c);
	c->below = NULL;
	if (c->below_ended) /* inside its closed callback: it is nobody's any more */
		return;
	if (in_order)
		stream_release(w, below);
	else
		stream_abort(w, below);
}

/* Tells the user that it is over. The connection is dead when this returns. */
static void tell_closed(struct foil_worker *w, struct tls_conn *c, enum stream_end why)
{
	const struct stream_user *user = c->s.user;

	if (c->state == TLS_STATE_CLOSED)
		return;
	c->state = TLS_STATE_CLOSED;
	c->n_pins++;
	handshake_over(c);
	w->tls->failing = why == STREAM_END_TLS ? c : NULL;
	if (user && user->closed)
		user->closed(w, &c->s, why);
	w->tls->failing = NULL;
	ends(c);
	unpin(w, c);
}

/* The alert, if OpenSSL made one, is on its way; the connection below ends in order behind it. */
static FOIL_COLD void fail(struct foil_worker *w, struct tls_conn *c, enum tls_reason reason, const char *text)
{
	bool in_handshake = c->state == TLS_STATE_HANDSHAKE || c->state == TLS_STATE_OPENING;

	if (c->state == TLS_STATE_CLOSED)
		return;
	foil_reason_id(w, TLS, reason);
	if (in_handshake)
		foil_count(w, TLS, HANDSHAKE_FAILURES, 1);
	if (!c->job) /* else a verification that goes on there has it; it is of no use to anybody */
		c->reason = reason;
	if (text)
		(void)snprintf(w->tls->failure, sizeof(w->tls->failure), "TLS_error:|%s:TLS_error_end", text); /* cut is fine */
	let_below_go(w, c, reason != TLS_REASON_HANDSHAKE_TIMEOUT);
	tell_closed(w, c, STREAM_END_TLS);
}

/* ---- handshake ---- */
static bool handshake_done(struct foil_worker *w, struct tls_conn *c)
{
	bool is_trusted;

	handshake_over(c);
	c->state = TLS_STATE_OPEN;
	c->s.is_open = true;
	foil_count(w, TLS, OPENSSL_RECORDS, 1);
	c->s.opened_us = w->now_us;
	c->s.rtt_us = c->below->rtt_us;
	if (!tls_facts_fill(w, c)) {
		fail(w, c, TLS_REASON_OUT_OF_MEMORY, "no memory for the connection's properties");
		return false;
	}
	if (!c->keeps_arena) { /* the names to verify are of no use any more */
		c->sans = NULL;
		c->n_sans = 0;
		foil_arena_reset(w, &c->arena);
	}
	is_trusted = !c->context->skip_verify && SSL_get_verify_result(c->ssl) == X509_V_OK;
	foil_count(w, TLS, HANDSHAKES, 1);
	foil_count(w, TLS, HANDSHAKES_RESUMED, c->facts.is_resumed);
	foil_count(w, TLS, PEER_CERTIFICATES, c->facts.peer && is_trusted);
	foil_count(w, TLS, UNTRUSTED_CLIENTS, c->facts.peer && c->context->accept_untrusted && !is_trusted);
	if (SSL_version(c->ssl) == TLS1_3_VERSION)
		foil_count(w, TLS, TLS13, 1);
	else
		foil_count(w, TLS, TLS12, 1);
	return true;
}

static void seal(struct foil_worker *w, struct tls_conn *c);
static void say_close(struct foil_worker *w, struct tls_conn *c);

/* Records in a chain of whole ones. */
static uint32_t count_records(const struct foil_chain *c)
{
	uint32_t n = 0;

	for (uint32_t at = 0; at + 5 <= c->n_bytes; n++) {
		uint8_t head[5];
		foil_chain_copy_out(c, at, head, sizeof(head));
		at += 5u + ((uint32_t)head[3] << 8 | head[4]);
	}
	return n;
}

/* From here on the records are ours, where we can make them. What is in out now went out, in TLS 1.3 of a server, under the keys that we take over: the
 * session tickets; a client's were its last handshake messages. */
static void take_records(struct foil_worker *w, struct tls_conn *c)
{
	if (w->tls->keeps_openssl || !tls_records_take(w->tls->aead, &c->rec, c->ssl, c->rec.is_server ? count_records(&c->out) : 0))
		return;
	foil_count(w, TLS, OPENSSL_RECORDS, -1);
	SSL_free(c->ssl);
	c->ssl = NULL;
}

static bool handshake_went(struct foil_worker *w, struct tls_conn *c, const struct tls_step *s)
{
	const struct stream_user *user;

	if (c->no_memory || (!s->is_done && !s->wants_read)) {
		fail(w, c, tls_reason_of(w, c, s->error), NULL);
		return false;
	}
	if (!s->is_done) {
		flush_down(w, c);
		if (c->below->rx_eof && foil_chain_is_empty(&c->below->rx))
			fail(w, c, TLS_REASON_HANDSHAKE_ENDED, "the peer closed the connection during the handshake");
		return false;
	}
	if (!handshake_done(w, c))
		return false;
	take_records(w, c);
	flush_down(w, c);
	user = c->s.user;
	if (user && user->opened)
		user->opened(w, &c->s);
	if (c->state != TLS_STATE_OPEN)
		return false;
	seal(w, c);
	if (c->s.tx_shut && c->state == TLS_STATE_OPEN) {
		say_close(w, c);
		flush_down(w, c);
		stream_shutdown(w, c->below);
	}
	return c->state == TLS_STATE_OPEN;
}

/* Bytes have come, or the connection begins. True: it is open now. */
static bool handshake(struct foil_worker *w, struct tls_conn *c)
{
	struct tls_step s;

	if (c->job)
		return false;
	X509_VERIFY_PARAM_set_time(SSL_get0_param(c->ssl), (time_t)(w->wall_us / 1000000u));
	if (tls_hand_off(w, c))
		return false;
	tls_step(c, &s);
	return handshake_went(w, c, &s);
}

/* ---- reading ---- */
/* One read into a fresh mbuf at the end of rx. Like SSL_get_error: SSL_ERROR_NONE when bytes came. */
static int read_once(struct foil_worker *w, struct tls_conn *c)
{
	struct tls_ctx *t = w->tls;
	size_t n = 0;
	int rc;

	if (!t->spare)
		t->spare = rte_pktmbuf_alloc(w->mbuf_pool);
	if (!t->spare) {
		c->no_memory = true;
		return SSL_ERROR_SSL;
	}
	rc = SSL_read_ex(c->ssl, rte_pktmbuf_mtod(t->spare, void *), rte_pktmbuf_tailroom(t->spare), &n);
	if (rc != 1)
		return SSL_get_error(c->ssl, rc);
	struct rte_mbuf *m = t->spare;
	t->spare = NULL;
	m->data_len = (uint16_t)n;
	m->pkt_len = (uint32_t)n;
	foil_chain_append_mbuf(&c->s.rx, m);
	foil_count(w, TLS, BYTES_OPENED, n);
	return SSL_ERROR_NONE;
}

static void got_eof(struct foil_worker *w, struct tls_conn *c)
{
	const struct stream_user *user = c->s.user;

	c->s.rx_eof = true;
	if (user && user->readable)
		user->readable(w, &c->s);
}

/* FIN came and the peer had not said that it was done. After our own close_notify many peers just leave: then nothing is lost that we asked for. */
static void got_fin(struct foil_worker *w, struct tls_conn *c)
{
	if (c->s.rx_eof)
		return;
	foil_reason(w, TLS, TRUNCATED);
	if (c->s.tx_shut) {
		got_eof(w, c);
		return;
	}
	c->reason = TLS_REASON_TRUNCATED;
	(void)snprintf(w->tls->failure, sizeof(w->tls->failure), "TLS_error:|the peer closed without close_notify:TLS_error_end"); /* fits */
	let_below_go(w, c, true);
	tell_closed(w, c, STREAM_END_TLS);
}

/* Without memory the connection ends without it. */
static void say_alert(struct foil_worker *w, struct tls_conn *c, uint8_t level, uint8_t what)
{
	if (tls_records_alert(w, &c->rec, level, what, &c->out) != 0)
		foil_reason(w, TLS, OUT_OF_MEMORY);
}

/* One record of ours. SSL_ERROR_NONE: go on; *reason: why not. */
static int open_once(struct foil_worker *w, struct tls_conn *c, enum tls_reason *reason)
{
	struct foil_chain plain = {0};
	uint32_t before = c->below->rx.n_bytes;
	enum tls_heard heard = TLS_HEARD_BAD;
	uint8_t type = 0;

	*reason = TLS_REASON_BAD_RECORD;
	switch (tls_records_open(w, &c->rec, &c->below->rx, &plain, &type, &c->rec.alert)) {
	case TLS_OPEN_MORE: return SSL_ERROR_WANT_READ;
	case TLS_OPEN_OK: heard = tls_records_hear(w, &c->rec, type, &plain, &c->out); break;
	case TLS_OPEN_BAD: break;
	case TLS_OPEN_NO_MEMORY: heard = TLS_HEARD_NO_MEMORY; break;
	}
	c->n_consumed += before - c->below->rx.n_bytes;
	foil_count(w, TLS, RECORDS_OPENED, 1);
	switch (heard) {
	case TLS_HEARD_NOTHING: return SSL_ERROR_NONE;
	case TLS_HEARD_DATA:
		foil_count(w, TLS, BYTES_OPENED, plain.n_bytes);
		foil_chain_move(&c->s.rx, &plain);
		return SSL_ERROR_NONE;
	case TLS_HEARD_CLOSE: return SSL_ERROR_ZERO_RETURN;
	case TLS_HEARD_ALERT: *reason = TLS_REASON_PEER_ALERT; break;
	case TLS_HEARD_BAD: say_alert(w, c, SSL3_AL_FATAL, c->rec.alert); break;
	case TLS_HEARD_NO_MEMORY: *reason = TLS_REASON_OUT_OF_MEMORY; break;
	}
	foil_chain_clear(&plain);
	(void)snprintf(w->tls->failure, sizeof(w->tls->failure), "TLS_error:|%s %s:TLS_error_end", heard == TLS_HEARD_ALERT ? "alert" : "bad record:",
		       SSL_alert_desc_string_long(c->rec.alert)); /* fits */
	return SSL_ERROR_SSL;
}

static void read_all(struct foil_worker *w, struct tls_conn *c)
{
	const struct stream_user *user = c->s.user;
	uint32_t before = c->s.rx.n_bytes;
	int error = SSL_ERROR_NONE;
	enum tls_reason reason = TLS_REASON_OK; /* first what was read, then the failure */

	if (!c->rec.is_ours)
		ERR_clear_error();
	c->is_stalled = false;
	while (c->s.rx.n_bytes < RX_HIGH_BYTES && error == SSL_ERROR_NONE)
		error = c->rec.is_ours ? open_once(w, c, &reason) : read_once(w, c);
	c->is_stalled = error == SSL_ERROR_NONE;
	flush_down(w, c); /* a key update's answer, the window */
	if (error == SSL_ERROR_ZERO_RETURN) {
		c->got_close_notify = true;
		foil_count(w, TLS, CLOSE_NOTIFIES, 1);
		got_eof(w, c);
		return;
	}
	if (error == SSL_ERROR_NONE || error == SSL_ERROR_WANT_READ)
		reason = TLS_REASON_OK;
	else if (!c->rec.is_ours)
		reason = tls_reason_of(w, c, ERR_peek_last_error());
	if (c->s.rx.n_bytes > before && user && user->readable)
		user->readable(w, &c->s);
	if (c->state != TLS_STATE_OPEN)
		return;
	if (reason != TLS_REASON_OK)
		fail(w, c, reason, NULL);
	else if (!c->is_stalled && c->below && c->below->rx_eof && foil_chain_is_empty(&c->below->rx))
		got_fin(w, c);
}

static void input(struct foil_worker *w, struct tls_conn *c)
{
	c->n_pins++;
	if (c->state == TLS_STATE_HANDSHAKE && c->below)
		(void)handshake(w, c);
	if (c->state == TLS_STATE_OPEN && c->below) {
		if (!c->s.rx_eof && !c->is_stalled)
			read_all(w, c);
		else if (c->s.rx_eof && c->below->rx.n_bytes) /* nothing comes after close_notify */
			stream_consume(w, c->below, c->below->rx.n_bytes);
	}
	unpin(w, c);
}

/* ---- writing ---- */
/* Small at first, so that a page can be shown before 16 KiB of it are there; large when much is on its way. */
static uint32_t record_bytes(struct foil_worker *w, struct tls_conn *c)
{
	if (w->now_us - c->sealed_us > SMALL_AGAIN_US)
		c->n_sealed_bytes = 0;
	c->sealed_us = w->now_us;
	return c->n_sealed_bytes < SMALL_UNTIL_BYTES ? SMALL_RECORD_BYTES : TLS_RECORD_BYTES_MAX;
}

static bool seal_ours(struct foil_worker *w, struct tls_conn *c, struct foil_chain *own_chain)
{
	while (own_chain->n_bytes) {
		uint32_t n = FOIL_MIN(own_chain->n_bytes, record_bytes(w, c));
		if (c->rec.is_tls13 && c->rec.tx.seq >= UPDATE_AT_RECORDS) {
			if (tls_records_send_update(w, &c->rec, &c->out) != 0)
				return false;
			foil_count(w, TLS, KEY_UPDATES, 1);
		}
		if (tls_records_seal(w, &c->rec, TLS_TYPE_DATA, own_chain, 0, n, &c->out) != 0)
			return false;
		foil_count(w, TLS, RECORDS_SEALED, 1);
		foil_count(w, TLS, BYTES_SEALED, n);
		c->n_sealed_bytes = FOIL_MIN(c->n_sealed_bytes + n, SMALL_UNTIL_BYTES);
		foil_chain_consume(own_chain, n);
	}
	return true;
}

static bool seal_openssl(struct foil_worker *w, struct tls_conn *c, struct foil_chain *own_chain)
{
	uint8_t *scratch = w->tls->record;

	ERR_clear_error();
	while (own_chain->n_bytes) {
		uint32_t n = FOIL_MIN(own_chain->n_bytes, TLS_RECORD_BYTES_MAX);
		size_t n_written = 0;
		foil_chain_copy_out(own_chain, 0, scratch, n);
		if (SSL_write_ex(c->ssl, scratch, n, &n_written) != 1)
			return false;
		foil_count(w, TLS, BYTES_SEALED, n_written);
		foil_chain_consume(own_chain, (uint32_t)n_written);
	}
	return true;
}

/* All that was written becomes records, once a turn, so that a head and its body share one. What may be outstanding is the stream below's business, whose
 * marks are ours. */
static void seal(struct foil_worker *w, struct tls_conn *c)
{
	if (!c->plain.n_bytes || !c->below || c->state != TLS_STATE_OPEN || c->events & TLS_EV_FAIL)
		return;
	if (!(c->rec.is_ours ? seal_ours(w, c, &c->plain) : seal_openssl(w, c, &c->plain))) {
		c->reason = c->rec.is_ours ? TLS_REASON_OUT_OF_MEMORY : tls_reason_of(w, c, ERR_peek_last_error());
		later(c, TLS_EV_FAIL);
	}
	foil_chain_clear(&c->plain);
	c->below->tx_high_bytes = c->s.tx_high_bytes;
	c->below->tx_spare_kib = c->s.tx_spare_kib;
	flush_down(w, c);
	c->s.tx_queued_bytes = c->below->tx_queued_bytes;
	/* What was acknowledged between write and seal may have kept the stream below short of its mark: it will say nothing then. */
	if (c->s.was_full && !c->below->was_full)
		later(c, TLS_EV_WRITABLE);
}

static void tls_stream_write(struct foil_worker *w, struct stream *s, struct foil_chain *own_chain)
{
	struct tls_conn *c = conn_of(s);

	if (c->s.tx_shut || c->state >= TLS_STATE_FINISHED || !c->below || c->events & TLS_EV_FAIL) {
		if (own_chain->n_bytes)
			foil_reason(w, TLS, WRITE_AFTER_SHUTDOWN);
		foil_chain_clear(own_chain);
		return;
	}
	c->s.tx_queued_bytes += own_chain->n_bytes;
	if (c->s.tx_queued_bytes >= c->s.tx_high_bytes)
		c->s.was_full = true;
	foil_chain_move(&c->plain, own_chain);
	if (c->state == TLS_STATE_OPEN)
		later(c, TLS_EV_SEAL);
}

static void say_close(struct foil_worker *w, struct tls_conn *c)
{
	ERR_clear_error();
	if (c->rec.is_ours)
		say_alert(w, c, SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY);
	else
		(void)SSL_shutdown(c->ssl); /* whether the peer answers is read later */
	ERR_clear_error();
}

static void tls_stream_shutdown(struct foil_worker *w, struct stream *s)
{
	struct tls_conn *c = conn_of(s);

	if (c->s.tx_shut)
		return;
	seal(w, c);
	c->s.tx_shut = true;
	if (c->state != TLS_STATE_OPEN || !c->below)
		return;
	say_close(w, c);
	flush_down(w, c);
	stream_shutdown(w, c->below);
}

static void tls_stream_abort(struct foil_worker *w, struct stream *s)
{
	struct tls_conn *c = conn_of(s);

	c->s.user = NULL;
	foil_chain_clear(&c->out);
	let_below_go(w, c, false);
	die(w, c);
}

static void tls_stream_release(struct foil_worker *w, struct stream *s)
{
	struct tls_conn *c = conn_of(s);

	c->s.user = NULL;
	tls_stream_shutdown(w, s);
	let_below_go(w, c, true);
	die(w, c);
}

static void tls_stream_consumed(struct foil_worker *w, struct stream *s)
{
	struct tls_conn *c = conn_of(s);

	(void)w;
	if (c->state == TLS_STATE_FINISHED && foil_chain_is_empty(&c->s.rx))
		later(c, TLS_EV_CLOSED);
	if (c->is_stalled && c->s.rx.n_bytes <= RX_LOW_BYTES) {
		c->is_stalled = false;
		later(c, TLS_EV_INPUT);
	}
}

static const struct stream_ops tls_ops = {
	.write = tls_stream_write, .shutdown = tls_stream_shutdown, .abort = tls_stream_abort, .release = tls_stream_release,
	.consumed = tls_stream_consumed,
};

/* ---- callbacks of the stream below ---- */
static void below_opened(struct foil_worker *w, struct stream *below)
{
	struct tls_conn *c = below->user_data;

	c->s.local = below->local;
	c->s.remote = below->remote;
	if (c->state == TLS_STATE_OPENING)
		c->state = TLS_STATE_HANDSHAKE;
	input(w, c);
}

static void below_readable(struct foil_worker *w, struct stream *below)
{
	uint8_t was = foil_stage_enter(w, FOIL_STAGE_TLS);

	input(w, below->user_data);
	foil_stage_leave(w, was);
}

static void below_writable(struct foil_worker *w, struct stream *below)
{
	struct tls_conn *c = below->user_data;

	(void)w;
	c->s.tx_queued_bytes = below->tx_queued_bytes + c->plain.n_bytes;
	c->s.tx_high_bytes = below->tx_high_bytes; /* tcp raises its mark with the path; half of a raised one is no half of the old */
	if (c->state == TLS_STATE_OPEN && c->s.was_full)
		later(c, TLS_EV_WRITABLE);
}

static void below_closed(struct foil_worker *w, struct stream *below, enum stream_end why)
{
	struct tls_conn *c = below->user_data;
	bool in_order = why == STREAM_END_FIN;

	c->n_pins++;
	c->below_ended = true;
	if (in_order && c->state == TLS_STATE_OPEN && !c->s.rx_eof && !c->is_stalled)
		read_all(w, c); /* what FIN left in below's rx */
	c->below = NULL;
	if (c->state == TLS_STATE_OPENING || c->state == TLS_STATE_HANDSHAKE) {
		foil_reason(w, TLS, HANDSHAKE_ENDED);
		foil_count(w, TLS, HANDSHAKE_FAILURES, 1);
		tell_closed(w, c, in_order ? STREAM_END_RESET : why);
	} else if (c->state == TLS_STATE_OPEN && in_order) {
		c->state = TLS_STATE_FINISHED;
		if (foil_chain_is_empty(&c->s.rx))
			tell_closed(w, c, c->s.rx_eof ? STREAM_END_FIN : STREAM_END_TLS);
	} else {
		tell_closed(w, c, why);
	}
	unpin(w, c);
}

static const struct stream_user below_user = {
	.opened = below_opened, .readable = below_readable, .writable = below_writable, .closed = below_closed,
};

/* ---- a loop turn ---- */
static void work(struct foil_worker *w, struct tls_conn *c)
{
	uint8_t events = c->events;

	c->n_pins++;
	not_later(c);
	if (events & TLS_EV_SEAL)
		seal(w, c);
	events |= c->events; /* what sealing has to say is told at once */
	not_later(c);
	if (events & TLS_EV_FAIL)
		fail(w, c, c->reason, "a record could not be sealed");
	if (events & TLS_EV_INPUT)
		input(w, c);
	if (events & TLS_EV_WRITABLE && c->state == TLS_STATE_OPEN && c->s.was_full) {
		c->s.was_full = false;
		if (c->s.user && c->s.user->writable)
			c->s.user->writable(w, &c->s);
	}
	if (events & TLS_EV_CLOSED && c->state == TLS_STATE_FINISHED)
		tell_closed(w, c, STREAM_END_FIN);
	unpin(w, c);
}

/* A step came back, with the pin that kept the connection. What has arrived meanwhile is the next one's. */
static void came_back(struct foil_worker *w, struct tls_conn *c, const struct tls_step *s)
{
	if (c->state == TLS_STATE_HANDSHAKE && c->below) {
		bool is_open = handshake_went(w, c, s);
		if (is_open || (c->state == TLS_STATE_HANDSHAKE && c->below && c->below->rx.n_bytes))
			input(w, c);
	}
	unpin(w, c);
}

void tls_recall(struct foil_worker *w)
{
	struct tls_step s;

	while (w->tls->n_jobs) {
		struct tls_conn *c = tls_take_back(w, &s);
		if (c)
			unpin(w, c);
		else
			(void)tls_crypto_step(w->tls->crypto); /* nothing there: a thread has the last ones */
	}
}

void tls_turn(struct foil_worker *w)
{
	struct tls_ctx *t = w->tls;
	uint32_t n = t->conns.n_live; /* what is put off meanwhile by the same connection waits for the next turn */
	struct tls_conn *back;
	struct tls_step s;

	for (uint32_t i = 0; i < BACK_A_TURN && (back = tls_take_back(w, &s)); i++)
		came_back(w, back, &s);
	while (t->pending && n-- > 0)
		work(w, t->pending);
}

bool tls_has_work(const struct foil_worker *w)
{
	return w->tls->pending != NULL;
}

/* ---- opening ---- */
static void deadline_passed(struct foil_worker *w, struct foil_timer *timer)
{
	struct tls_conn *c = FOIL_CONTAINER_OF(timer, struct tls_conn, timer);

	fail(w, c, TLS_REASON_HANDSHAKE_TIMEOUT, "the handshake took too long");
}

static bool ssl_new(struct tls_ctx *t, struct tls_conn *c, struct tls_context *context)
{
	BIO *b = BIO_new(t->bio);

	c->ssl = b ? SSL_new(context->ssl) : NULL;
	if (!c->ssl || SSL_set_ex_data(c->ssl, 0, c) != 1) {
		BIO_free(b);
		return false;
	}
	BIO_set_data(b, c);
	SSL_set_bio(c->ssl, b, b);
	return true;
}

static struct tls_conn *conn_new(struct foil_worker *w, struct tls_context *context, enum tls_reason *why)
{
	struct tls_ctx *t = w->tls;
	struct tls_conn *c = tls_pool_take(&t->conns);

	if (!c) {
		*why = TLS_REASON_CONNS_EXHAUSTED;
		return NULL;
	}
	c->w = w;
	c->s.ops = &tls_ops;
	c->s.tx_high_bytes = STREAM_TX_HIGH_BYTES;
	c->context = tls_context_get(context);
	c->next_all = t->all;
	c->pprev_all = &t->all;
	if (t->all)
		t->all->pprev_all = &c->next_all;
	t->all = c;
	foil_count(w, TLS, CONNS, 1);
	c->is_counted = true;
	foil_count(w, TLS, HANDSHAKES_IN_FLIGHT, 1);
	if (ssl_new(t, c, context))
		return c;
	*why = TLS_REASON_OUT_OF_MEMORY;
	tls_conn_free(w, c);
	return NULL;
}

static void take_below(struct tls_conn *c, struct stream *below)
{
	c->below = below;
	c->s.local = below->local;
	c->s.remote = below->remote;
	c->s.tx_high_bytes = below->tx_high_bytes;
	below->user = &below_user;
	below->user_data = c;
	later(c, TLS_EV_INPUT);
}

int tls_server_open(struct foil_worker *w, struct stream *below, const struct tls_server_params *p, struct stream **out)
{
	enum tls_reason why = TLS_REASON_OUT_OF_MEMORY;
	struct tls_place own = {.is_held = false}, *place = p->place ? p->place : &own;

	if (!tls_place_take(w, place, &below->remote))
		return -ENOBUFS;
	struct tls_conn *c = conn_new(w, p->context, &why);
	if (c && p->sni.n_bytes) {
		c->facts.sni = tls_name_keep(w, c, p->sni);
		if (!c->facts.sni.data) {
			tls_conn_free(w, c);
			c = NULL;
		}
	}
	if (!c) {
		tls_place_give(w, &own);
		foil_reason_id(w, TLS, why);
		return why == TLS_REASON_OUT_OF_MEMORY ? -ENOMEM : -ENOBUFS;
	}
	c->place = *place;
	place->is_held = false;
	SSL_set_accept_state(c->ssl);
	c->rec.is_server = true;
	c->state = TLS_STATE_HANDSHAKE;
	c->s.user = p->user;
	c->s.user_data = p->user_data;
	take_below(c, below);
	foil_timer_arm(w, &c->timer, p->deadline_us ? p->deadline_us : w->now_us + TLS_HANDSHAKE_US, deadline_passed);
	*out = &c->s;
	return 0;
}

/* SNI and names of one connection, in its arena. */
static bool client_names(struct foil_worker *w, struct tls_conn *c, const struct tls_client_params *p)
{
	struct foil_slice *sans = p->n_sans ? foil_arena_alloc(w, &c->arena, p->n_sans * sizeof(*sans)) : NULL;

	for (uint16_t i = 0; sans && i < p->n_sans; i++) {
		sans[i] = foil_arena_copy(w, &c->arena, p->sans[i]);
		if (!sans[i].data)
			return false;
	}
	c->sans = sans;
	c->n_sans = sans ? p->n_sans : 0;
	if (!p->sni.n_bytes)
		return sans || !p->n_sans;
	c->facts.sni = tls_name_keep(w, c, p->sni);
	return c->facts.sni.data && (sans || !p->n_sans) && SSL_set_tlsext_host_name(c->ssl, c->facts.sni.data) == 1;
}

int tls_client_open(struct foil_worker *w, struct stream *below, const struct tls_client_params *p, struct stream **out)
{
	enum tls_reason why = TLS_REASON_OUT_OF_MEMORY;
	struct tls_conn *c = conn_new(w, p->context, &why);

	if (c && !client_names(w, c, p)) {
		tls_conn_free(w, c);
		c = NULL;
	}
	if (!c) {
		foil_reason_id(w, TLS, why);
		return why == TLS_REASON_OUT_OF_MEMORY ? -ENOMEM : -ENOBUFS;
	}
	SSL_set_connect_state(c->ssl);
	c->state = below->is_open ? TLS_STATE_HANDSHAKE : TLS_STATE_OPENING;
	c->s.user = p->user;
	c->s.user_data = p->user_data;
	take_below(c, below);
	*out = &c->s;
	return 0;
}

/* ---- questions ---- */
bool tls_is_stream(const struct stream *s)
{
	return s->ops == &tls_ops;
}

const struct tls_facts *tls_stream_facts(const struct stream *s)
{
	return tls_is_stream(s) ? &FOIL_CONTAINER_OF((struct stream *)(uintptr_t)s, struct tls_conn, s)->facts : NULL; /* only read */
}

struct foil_slice tls_failure(const struct foil_worker *w)
{
	return w->tls && w->tls->failing ? foil_slice_str(w->tls->failure) : FOIL_SLICE("TLS_error");
}

struct foil_slice tls_stream_failure(const struct foil_worker *w, const struct stream *s)
{
	const struct tls_ctx *t = w->tls;

	return t && t->failing && &t->failing->s == s ? foil_slice_str(t->failure) : (struct foil_slice){NULL, 0};
}
