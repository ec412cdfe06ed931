/* The stream interface (stream.h) over a connection. Each function only notes and queues; tcp_output and events.c act on it. */
#include "dataplane/tcp/tcp_priv.h"

/* Small writes share an mbuf, so that many of them do not become as many pieces of a segment. */
static void queue_bytes(struct tcp_conn *c, struct foil_chain *own_chain)
{
	struct rte_mbuf *m = own_chain->head, *tail = c->tx.tail;

	if (m && !m->next && tail && m->data_len <= TCP_TX_COPY_BYTES_MAX && RTE_MBUF_DIRECT(tail) && rte_mbuf_refcnt_read(tail) == 1 &&
	    rte_pktmbuf_tailroom(tail) >= m->data_len) {
		memcpy(rte_pktmbuf_mtod_offset(tail, void *, tail->data_len), rte_pktmbuf_mtod(m, const void *), m->data_len);
		tail->data_len = (uint16_t)(tail->data_len + m->data_len);
		c->tx.n_bytes += m->data_len;
		foil_chain_clear(own_chain);
		return;
	}
	foil_chain_move(&c->tx, own_chain);
}

static void tcp_stream_write(struct foil_worker *w, struct stream *s, struct foil_chain *own_chain)
{
	struct tcp_conn *c = tcp_conn_of(s);

	if (FOIL_UNLIKELY(c->is_finished || c->fin_queued)) {
		if (own_chain->n_bytes)
			foil_reason(w, TCP, WRITE_AFTER_SHUTDOWN);
		foil_chain_clear(own_chain);
		return;
	}
	if (!own_chain->n_bytes)
		return;
	if (c->snd_una == c->snd_nxt && !c->tx.n_bytes)
		c->last_progress_us = w->now_us; /* the user timeout counts from here */
	s->tx_queued_bytes += own_chain->n_bytes;
	queue_bytes(c, own_chain);
	if (s->tx_queued_bytes >= s->tx_high_bytes)
		s->was_full = true;
	tcp_output_want(w, c);
}

static void tcp_stream_shutdown(struct foil_worker *w, struct stream *s)
{
	struct tcp_conn *c = tcp_conn_of(s);

	s->tx_shut = true;
	if (c->is_finished || c->fin_queued)
		return;
	c->fin_queued = true;
	if (c->snd_una == c->snd_nxt && !c->tx.n_bytes)
		c->last_progress_us = w->now_us;
	tcp_output_want(w, c);
}

static void let_user_go(struct tcp_conn *c)
{
	c->is_owned = false;
	c->s.user = NULL;
	c->s.user_data = NULL;
	c->events = 0;
	tcp_node_remove(&c->ev_node);
}

static void tcp_stream_abort(struct foil_worker *w, struct stream *s)
{
	struct tcp_conn *c = tcp_conn_of(s);

	let_user_go(c);
	if (c->is_finished)
		tcp_conn_free(w, c);
	else
		tcp_conn_reset(w, c, STREAM_END_LOCAL);
}

static void tcp_stream_release(struct foil_worker *w, struct stream *s)
{
	struct tcp_conn *c = tcp_conn_of(s);

	let_user_go(c);
	if (c->is_finished) {
		tcp_conn_free(w, c);
		return;
	}
	if (c->state == TCP_STATE_SYN_SENT && !c->tx.n_bytes) {
		tcp_conn_finish(w, c, STREAM_END_LOCAL);
		return;
	}
	c->n_discarded_bytes = s->rx.n_bytes;
	foil_chain_clear(&s->rx);
	tcp_reasm_clear(w, c);
	c->is_released = true;
	w->tcp->n_released++;
	c->last_progress_us = w->now_us;
	tcp_stream_shutdown(w, s);
	tcp_slow_arm(w, c);
	if (tcp_window_wants_update(c))
		tcp_ack_owe(w, c);
}

static void tcp_stream_consumed(struct foil_worker *w, struct stream *s)
{
	struct tcp_conn *c = tcp_conn_of(s);

	if (FOIL_UNLIKELY(c->is_finished)) {
		if (c->end == STREAM_END_FIN && foil_chain_is_empty(&s->rx))
			tcp_conn_notify(w, c, TCP_EV_CLOSED);
		return;
	}
	if (c->state >= TCP_STATE_ESTABLISHED && !s->rx_eof && tcp_window_wants_update(c)) {
		FOIL_PROBE(w, TCP, WINDOW_UPDATE);
		tcp_ack_owe(w, c);
	}
}

void tcp_set_user_timeout(struct foil_worker *w, struct stream *s, uint64_t timeout_us)
{
	struct tcp_conn *c = tcp_conn_of(s);
	uint64_t ms = (timeout_us + 999) / 1000;

	FOIL_ASSERT(s->ops == &tcp_stream_ops);
	c->user_timeout_ms = timeout_us ? (uint32_t)FOIL_MIN(FOIL_MAX(ms, TCP_USER_TIMEOUT_MS_MIN), (uint64_t)UINT32_MAX) : 0;
	if (c->rtx_mode == TCP_RTX_RTO)
		tcp_rtx_restart(w, c); /* the running timeout may be beyond it */
}

const struct stream_ops tcp_stream_ops = {
	.write = tcp_stream_write,
	.shutdown = tcp_stream_shutdown,
	.abort = tcp_stream_abort,
	.release = tcp_stream_release,
	.consumed = tcp_stream_consumed,
};
