/* Payload and FIN of an acceptable segment: trimmed to what is new and inside the window, queued, and acknowledged sooner or later
 * (RFC 9293 3.10.7.4 seventh and eighth check, 3.8.6.3, RFC 5681 4.2); and the window that we offer (3.8.6.2.2, RFC 7323 2).
 * Invariant: rcv_nxt <= rcv_adv; rcv_adv never moves back (a window once offered is not taken back). */
#include "dataplane/tcp/tcp_priv.h"

#define TCP_PRESSURE_WINDOW_BYTES (32u * 1024u) /* all that a connection is offered while mbufs are short */

static uint32_t room_bytes(const struct foil_worker *w, const struct tcp_conn *c)
{
	uint32_t buf_bytes = c->rcv_buf_bytes, held = c->s.rx.n_bytes;

	if (w->tcp->is_short_of_mbufs)
		buf_bytes = FOIL_MIN(buf_bytes, TCP_PRESSURE_WINDOW_BYTES);
	return buf_bytes > held ? buf_bytes - held : 0;
}

uint32_t tcp_window_offer(struct foil_worker *w, struct tcp_conn *c)
{
	uint32_t room = room_bytes(w, c), offered = c->rcv_adv - c->rcv_nxt;
	uint32_t step = FOIL_MIN(c->rcv_buf_bytes / 2, (uint32_t)c->mss_bytes); /* receiver's silly window avoidance */

	if (room > offered && room - offered >= step)
		offered = room;
	uint32_t unit = 1u << c->rcv_wscale, field = offered >> c->rcv_wscale;
	/* Rounded up where there is room: the edge never moves back. A full buffer's window is rounded down (RFC 7323 2.4 allows that
	 * little), or crumbs would push the edge on for ever. */
	if (offered & (unit - 1) && room >= (field + 1) << c->rcv_wscale)
		field++;
	field = FOIL_MIN(field, (uint32_t)UINT16_MAX);
	c->rcv_adv = seq_max(c->rcv_adv, c->rcv_nxt + (field << c->rcv_wscale));
	return field;
}

/* Two segments more, and the window was less than half of what it can be: the sender may soon wait for it. More often would be an ACK a
 * read for nothing, since the next segment's ACK tells it, too; and so does one that is owed, as long as the sender has room until it goes. */
bool tcp_window_wants_update(const struct tcp_conn *c)
{
	uint32_t held = c->s.rx.n_bytes, room = c->rcv_buf_bytes > held ? c->rcv_buf_bytes - held : 0;
	uint32_t offered = c->rcv_adv - c->rcv_nxt;

	if (c->ack_delayed && offered >= (uint32_t)TCP_IW_SEGS * c->mss_bytes)
		return false;
	room = FOIL_MIN(room, (uint32_t)UINT16_MAX << c->rcv_wscale); /* what the field can say */
	return room > offered && room - offered >= FOIL_MIN(c->rcv_buf_bytes / 2, 2u * c->mss_bytes) && offered <= room / 2;
}

void tcp_ack_owe(struct foil_worker *w, struct tcp_conn *c)
{
	c->ack_now = true;
	tcp_output_want(w, c);
}

/* Every second full segment at once, others within TCP_DELACK_US (RFC 9293 3.8.6.3). At the start large ones at once and small ones, whose sender had no
 * more to say or holds it back for the ACK (Nagle), within TCP_QUICK_DELACK_US: a request's answer mostly comes before, and then says it. */
static void ack_in_order(struct foil_worker *w, struct tcp_conn *c, uint32_t n_bytes)
{
	if (n_bytes > c->rcv_mss_bytes)
		c->rcv_mss_bytes = (uint16_t)FOIL_MIN(n_bytes, FOIL_MAX(c->mss_bytes, TCP_MSS_DEFAULT_V4));
	c->rcv_unacked_bytes += n_bytes;
	c->ack_delayed = true;
	if (c->quickack_left) {
		c->quickack_left--;
		if (n_bytes > c->mss_bytes / 2)
			c->ack_now = true;
		else
			tcp_delack_arm(w, c, TCP_QUICK_DELACK_US);
	}
	if (c->rcv_unacked_bytes >= 2u * c->rcv_mss_bytes)
		c->ack_now = true;
	tcp_output_want(w, c);
}

/* RFC 9293 3.8.6: the buffer doubles while a round trip fills a quarter of it and the user keeps up. A quarter, because the round trip is what our
 * own segments measured, perhaps before the path's queue grew, and because a hole keeps back what arrives behind it for another one. Without SACK half: a
 * sender that overshoots into all that we offer pays a round trip for each hole. */
static void autotune(struct foil_worker *w, struct tcp_conn *c, uint32_t n_bytes)
{
	c->drs_bytes += n_bytes;
	if (w->now_us - c->drs_at_us < FOIL_MAX(c->srtt_us, 1000u))
		return;
	if (c->drs_bytes >= c->rcv_buf_bytes / (c->has_sack ? 4 : 2) && c->s.rx.n_bytes < c->rcv_buf_bytes / 2 && !w->tcp->is_short_of_mbufs) {
		FOIL_PROBE(w, TCP, AUTOTUNED);
		c->rcv_buf_bytes = FOIL_MIN(2 * c->rcv_buf_bytes, w->tcp->p.rx_window_bytes_max);
	}
	c->drs_bytes = 0;
	c->drs_at_us = w->now_us;
}

static void take_in_order(struct foil_worker *w, struct tcp_conn *c, struct foil_chain *own_chain)
{
	uint32_t n_bytes = own_chain->n_bytes, before = c->rcv_nxt;

	if (FOIL_UNLIKELY(c->n_dup_acks_owed) && !c->has_sack)
		tcp_send_dup_acks(w, c); /* of the edge that was: later they would be duplicates of the new one, and tell of a loss that is none */
	c->rcv_nxt += n_bytes;
	foil_count(w, TCP, BYTES_RX, n_bytes);
	tcp_rx_append(&c->s.rx, own_chain);
	if (FOIL_UNLIKELY(tcp_ooo_ranges(c))) {
		tcp_reasm_pull(w, c);
		c->ack_now = true; /* RFC 5681 4.2: a filled hole is told at once */
	}
	autotune(w, c, c->rcv_nxt - before);
	ack_in_order(w, c, n_bytes);
	tcp_conn_notify(w, c, TCP_EV_READABLE);
}

static void take_out_of_order(struct foil_worker *w, struct tcp_conn *c, uint32_t seq, struct foil_chain *own_chain)
{
	enum tcp_reason why = tcp_reasm_insert(w, c, seq, own_chain);

	if (why == TCP_REASON_OK)
		foil_count(w, TCP, OOO_SEGMENTS, 1);
	if (c->n_dup_acks_owed < UINT8_MAX)
		c->n_dup_acks_owed++;
	c->quickack_left = TCP_QUICKACK_SEGS;
	tcp_ack_owe(w, c);
}

/* The stream was released: bytes are acknowledged and forgotten. false: too many, the connection was reset. */
static bool discard(struct foil_worker *w, struct tcp_conn *c, uint32_t seq, struct foil_chain *own_chain)
{
	uint32_t n_bytes = own_chain->n_bytes;

	foil_chain_clear(own_chain);
	foil_reason(w, TCP, DISCARDED);
	if (seq == c->rcv_nxt)
		c->rcv_nxt += n_bytes;
	c->n_discarded_bytes += n_bytes;
	tcp_ack_owe(w, c);
	if (c->n_discarded_bytes <= TCP_LINGER_DISCARD_BYTES_MAX)
		return true;
	foil_reason(w, TCP, LINGER_EXCEEDED);
	tcp_conn_reset(w, c, STREAM_END_LOCAL);
	return false;
}

/* rcv_nxt has reached the peer's FIN. The block may be gone afterwards. */
static void take_fin(struct foil_worker *w, struct tcp_conn *c)
{
	c->rcv_nxt++;
	c->rcv_adv = seq_max(c->rcv_adv, c->rcv_nxt);
	tcp_reasm_clear(w, c); /* what a liar sent from behind its own end */
	c->s.rx_eof = true;
	tcp_ack_owe(w, c);
	if (!c->is_released)
		tcp_conn_notify(w, c, TCP_EV_READABLE);
	switch ((enum tcp_state)c->state) {
	case TCP_STATE_ESTABLISHED:
		tcp_conn_become(w, c, TCP_STATE_CLOSE_WAIT);
		return;
	case TCP_STATE_FIN_WAIT_1:
		tcp_conn_become(w, c, TCP_STATE_CLOSING);
		return;
	case TCP_STATE_FIN_WAIT_2:
		tcp_tw_enter(w, c);
		return;
	case TCP_STATE_CLOSED:
	case TCP_STATE_SYN_SENT:
	case TCP_STATE_SYN_RCVD:
	case TCP_STATE_CLOSING:
	case TCP_STATE_CLOSE_WAIT:
	case TCP_STATE_LAST_ACK:
	case TCP_STATE_TIME_WAIT:
	case TCP_STATE_COUNT:
		break;
	}
	FOIL_UNREACHABLE();
}

/* What is before rcv_nxt, after rcv_adv or after the FIN goes; *seq is that of the first byte kept. */
static void trim(struct foil_worker *w, struct tcp_conn *c, uint32_t *seq, struct foil_chain *chain)
{
	if (seq_lt(*seq, c->rcv_nxt) && chain->n_bytes) {
		uint32_t known = FOIL_MIN(c->rcv_nxt - *seq, chain->n_bytes);
		c->dsack = (struct tcp_sack_block){*seq, *seq + known};
		c->dsack_owed = c->has_sack;
		tcp_ack_owe(w, c);
		if (known == chain->n_bytes)
			tcp_conn_drop_note(w, c, chain->head, TCP_REASON_DUPLICATE);
		foil_chain_consume(chain, known);
		*seq += known;
	}
	tcp_chain_cut_tail(chain, seq_gt(c->rcv_adv, *seq) ? c->rcv_adv - *seq : 0);
	if (c->peer_fin_seen && seq_gt(*seq + chain->n_bytes, c->peer_fin_seq)) {
		tcp_conn_drop_note(w, c, chain->head, TCP_REASON_AFTER_FIN);
		tcp_chain_cut_tail(chain, seq_gt(c->peer_fin_seq, *seq) ? c->peer_fin_seq - *seq : 0);
	}
}

void tcp_receive(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg)
{
	struct foil_chain chain = {0};
	uint32_t seq = seg->seq, fin_seq = seg->seq + seg->n_bytes;

	if (FOIL_UNLIKELY(w->tcp->is_nearly_out_of_mbufs) && seg->n_bytes && (seq != c->rcv_nxt || c->s.rx.n_bytes)) {
		/* Windows that were offered before can still be filled, all at once by those who mean harm. Who reads what he gets goes on. */
		tcp_seg_drop(w, seg, TCP_REASON_RX_PRESSURE);
		return;
	}
	tcp_seg_strip(seg);
	foil_chain_append_mbuf(&chain, seg->m);
	seg->m = NULL;
	if ((seg->flags & RTE_TCP_FIN_FLAG) && !c->peer_fin_seen && seq_geq(fin_seq, c->rcv_nxt) && seq_leq(fin_seq, c->rcv_adv)) {
		c->peer_fin_seen = true;
		c->peer_fin_seq = fin_seq;
	} else if (seg->flags & RTE_TCP_FIN_FLAG) {
		tcp_ack_owe(w, c); /* again, or beyond the window */
	}
	if (FOIL_UNLIKELY(seq != c->rcv_nxt || c->peer_fin_seen || seq_gt(fin_seq, c->rcv_adv)))
		trim(w, c, &seq, &chain);
	if (chain.n_bytes) {
		if (FOIL_UNLIKELY(c->is_released)) {
			if (!discard(w, c, seq, &chain))
				return;
		} else if (FOIL_LIKELY(seq == c->rcv_nxt)) {
			take_in_order(w, c, &chain);
		} else {
			take_out_of_order(w, c, seq, &chain);
		}
	}
	if (FOIL_UNLIKELY(c->peer_fin_seen && !c->s.rx_eof && c->rcv_nxt == c->peer_fin_seq))
		take_fin(w, c);
	else if (FOIL_UNLIKELY(c->peer_fin_seen && !c->s.rx_eof)) {
		FOIL_PROBE(w, TCP, FIN_BEHIND_HOLE);
		tcp_ack_owe(w, c);
	}
}
