/* What an acceptable ACK does to the sending side: window, scoreboard, round-trip time, room for the writer (RFC 9293 3.10.7.4 fifth
 * check, RFC 2018, RFC 2883). What follows for loss and cwnd is decided in rack.c and recovery.c.
 * Before: snd_una - snd_wnd_max <= seg->ack <= snd_nxt. */
#include "dataplane/tcp/tcp_priv.h"

struct ack_tally {
	uint32_t acked_bytes, delivered_bytes;
	uint32_t rtt_us;      /* of the segment sent last among those sent once and delivered now; 0: none */
	uint64_t rtt_xmit_us, resent_us; /* resent_us: last transmission among those sent more than once; 0: none */
	bool is_dsack;
	struct tcp_rate rate;
};

/* The window opened while probes or timeouts backed off: what lay beyond its old edge was thrown away there, and goes again now. */
static void resend_beyond(struct foil_worker *w, struct tcp_conn *c, uint32_t edge)
{
	for (struct tcp_node *n = c->sent.next; n != &c->sent; n = n->next)
		if (seq_gt(tcp_sent_of(n)->end, edge)) {
			FOIL_PROBE(w, TCP, RESENT_BEYOND);
			tcp_sent_mark_lost(c, tcp_sent_of(n));
		}
	c->n_persist = c->n_rto = 0;
	tcp_rtx_restart(w, c);
}

/* An ACK that moves snd_una always brings its window: kept from before, the old one would reach beyond what was ever offered. Of
 * segments that acknowledge nothing new, the later decides; of equal ones, a smaller window is taken for old unless it is closed. */
static bool is_window_news(const struct tcp_conn *c, const struct tcp_seg *seg, uint32_t wnd)
{
	if (seq_gt(seg->ack, c->snd_una) || seq_gt(seg->seq, c->snd_wl1))
		return true;
	return seg->seq == c->snd_wl1 && (wnd > c->snd_wnd || wnd == 0);
}

void tcp_ack_window(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg)
{
	uint32_t wnd = (uint32_t)seg->wnd << c->snd_wscale, edge = c->snd_una + c->snd_wnd;

	if (!is_window_news(c, seg, wnd))
		return;
	bool has_opened = wnd > c->snd_wnd;

	if (seq_lt(seg->ack + wnd, edge) && edge - (seg->ack + wnd) > 1u << c->snd_wscale)
		FOIL_PROBE(w, TCP, WINDOW_SHRUNK);
	c->snd_wnd = wnd;
	c->snd_wl1 = seg->seq;
	if (wnd > c->snd_wnd_max)
		c->snd_wnd_max = wnd;
	if (!has_opened)
		return;
	if (c->rtx_mode == TCP_RTX_PERSIST || c->n_rto)
		resend_beyond(w, c, edge);
	tcp_output_want(w, c);
}

static void record_delivered(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg, const struct tcp_sent *r,
			     struct ack_tally *tally)
{
	tally->delivered_bytes += r->end - r->seq;
	tcp_rate_delivered(w, c, r, &tally->rate);
	if (r->flags & TCP_SENT_RETRANS)
		tally->resent_us = FOIL_MAX(tally->resent_us, r->xmit_us);
	else if (r->xmit_us >= tally->rtt_xmit_us) { /* Karn: only what was sent once */
		tally->rtt_xmit_us = r->xmit_us;
		tally->rtt_us = (uint32_t)FOIL_MAX(w->now_us - r->xmit_us, 1u);
	}
	tcp_rack_delivered(w, c, r, seg);
}

/* The first record is acknowledged up to ack, inside of it. */
static void record_trim(struct foil_worker *w, struct tcp_conn *c, struct tcp_sent *r, uint32_t ack)
{
	uint32_t n_bytes = ack - r->seq;

	if (tcp_sent_split(w, c, r, n_bytes)) {
		tcp_sent_free(w, c, r);
		return;
	}
	/* No record left for the split: the first mbuf of the rest is found without one. */
	FOIL_PROBE(w, TCP, TRIM_WITHOUT_RECORD);
	if (r->flags & TCP_SENT_LOST)
		c->n_lost_bytes -= n_bytes;
	if (r->flags & TCP_SENT_SACKED)
		c->n_sacked_bytes -= n_bytes;
	while (r->m && n_bytes >= (uint32_t)r->m->data_off + r->m->data_len - r->at && r->m->next) {
		n_bytes -= (uint32_t)r->m->data_off + r->m->data_len - r->at;
		r->m = r->m->next;
		r->at = r->m->data_off;
	}
	r->at = (uint16_t)(r->at + n_bytes);
	r->seq = ack;
}

/* A queue of twice the window keeps the path filled while the user catches up. What is kept for a hole counts, too, for as many round trips as the
 * hole stays: on a path that loses retransmissions two more windows' worth, or the queue, not the path, would be what BBR measures. A user who
 * has made it smaller keeps it so; one who bounded what may wait has the window, and that. */
static void grow_queue(const struct foil_worker *w, struct tcp_conn *c)
{
	uint32_t spare = c->s.tx_spare_kib * 1024u;
	uint64_t windows = spare ? 1 : c->cc->on_rate ? 4 : 3;
	uint32_t want = (uint32_t)FOIL_MIN(windows * c->cwnd, (uint64_t)TCP_TX_QUEUE_BYTES_MAX) + spare;

	if (c->s.was_full && (spare || c->s.tx_high_bytes >= STREAM_TX_HIGH_BYTES) && want > c->s.tx_high_bytes && !w->tcp->is_short_of_mbufs)
		c->s.tx_high_bytes = want;
}

static void take_cumulative(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg, struct ack_tally *tally)
{
	uint32_t ack = seg->ack, n_bytes = ack - c->snd_una;
	struct tcp_sent *r;

	tally->acked_bytes = n_bytes;
	while ((r = tcp_sent_of(tcp_list_first(&c->sent))) && seq_lt(r->seq, ack)) {
		if (seq_gt(r->end, ack)) {
			record_trim(w, c, r, ack);
			break;
		}
		if (!(r->flags & TCP_SENT_SACKED))
			record_delivered(w, c, seg, r, tally);
		tcp_sent_free(w, c, r);
	}
	if (c->fin_sent && !c->fin_acked && ack == c->snd_nxt) {
		c->fin_acked = true;
		n_bytes--;
	}
	c->snd_una = ack;
	foil_chain_consume(&c->tx, n_bytes);
	c->s.tx_queued_bytes -= n_bytes;
	if (c->snd_una == c->snd_nxt)
		c->tx_m = NULL; /* its mbuf may be gone; what is unsent begins the chain */
	c->n_rto = 0;
	c->n_persist = 0;
	c->last_progress_us = w->now_us;
	grow_queue(w, c);
	if (c->s.was_full && c->s.tx_queued_bytes <= c->s.tx_high_bytes / 2) {
		c->s.was_full = false;
		if (c->is_owned)
			tcp_conn_notify(w, c, TCP_EV_WRITABLE);
	}
}

static bool is_seen(const struct tcp_conn *c, const struct tcp_sack_block *b)
{
	for (uint32_t i = 0; c->rare && i < TCP_SACK_BLOCKS_MAX; i++)
		if (c->rare->sack_seen[i].start == b->start && c->rare->sack_seen[i].end == b->end)
			return true;
	return false;
}

/* The record with the lowest sequence that is not below start; walks from where the last block ended. */
static struct tcp_node *find_record(const struct tcp_conn *c, uint32_t start)
{
	struct tcp_node *n = c->rare && c->rare->sack_hint ? &c->rare->sack_hint->by_seq : c->sent.next;

	while (n != &c->sent && seq_lt(tcp_sent_of(n)->seq, start))
		n = n->next;
	while (n->prev != &c->sent && seq_geq(tcp_sent_of(n->prev)->seq, start))
		n = n->prev;
	return n;
}

static void take_block(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg, const struct tcp_sack_block *b,
		       struct ack_tally *tally)
{
	for (struct tcp_node *n = find_record(c, b->start); n != &c->sent; n = n->next) {
		struct tcp_sent *r = tcp_sent_of(n);
		if (seq_gt(r->end, b->end))
			break;
		if (c->rare)
			c->rare->sack_hint = r;
		if (r->flags & TCP_SENT_SACKED)
			continue;
		record_delivered(w, c, seg, r, tally);
		tcp_sent_mark_sacked(c, r);
	}
}

/* RFC 2883 4: a first block at or below the cumulative ACK, or inside the second block, reports a duplicate. */
static bool is_dsack(const struct tcp_seg *seg)
{
	const struct tcp_sack_block *b = seg->opt.sack;

	if (seq_leq(b[0].end, seg->ack))
		return true;
	return seg->opt.n_sack > 1 && seq_geq(b[0].start, b[1].start) && seq_leq(b[0].end, b[1].end);
}

static void take_sack(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg, struct ack_tally *tally)
{
	struct tcp_sack_block seen[TCP_SACK_BLOCKS_MAX] = {{0}};
	struct tcp_rare *rare = tcp_rare_need(w, c);

	tally->is_dsack = is_dsack(seg);
	for (uint32_t i = 0; i < seg->opt.n_sack; i++) {
		const struct tcp_sack_block *b = &seg->opt.sack[i];
		if (!seq_lt(b->start, b->end) || seq_lt(b->start, c->snd_una) || seq_gt(b->end, c->snd_nxt)) {
			FOIL_PROBE(w, TCP, SACK_OUTSIDE);
			continue;
		}
		seen[i] = *b;
		if (!is_seen(c, b))
			take_block(w, c, seg, b, tally);
	}
	if (rare)
		memcpy(rare->sack_seen, seen, sizeof(seen));
}

static void take_rtt(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg, const struct ack_tally *tally)
{
	/* An ACK that covers a retransmission, too, may be late because those before it were lost: what was sent once and lay
	 * acknowledged all the while would measure our own timeouts. */
	if (tally->rtt_us && !tally->resent_us) {
		tcp_rtt_sample(c, tally->rtt_us);
		return;
	}
	if (!tally->resent_us || !tally->acked_bytes || !c->has_ts)
		return;
	/* Only an echo of the last transmission: of an earlier one whose ACKs were lost it would measure our own timeouts. */
	if (seq_lt(seg->opt.ts_ecr, (uint32_t)(tally->resent_us / 1000) + c->ts_offset))
		return;
	uint32_t rtt_ms = tcp_ts_now(w, c->ts_offset) - seg->opt.ts_ecr;
	if (rtt_ms < TCP_RTO_MAX_US / 1000) /* an echo from nowhere says nothing */
		tcp_rtt_sample(c, FOIL_MAX(rtt_ms, 1u) * 1000);
}

void tcp_ack_input(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg)
{
	struct ack_tally tally = {0};
	uint32_t wnd_before = c->snd_wnd;

	c->n_keepalive = 0;
	if (seq_geq(seg->ack, c->snd_una))
		tcp_ack_window(w, c, seg);
	bool is_dup_ack = seg->ack == c->snd_una && !seg->n_bytes && !(seg->flags & RTE_TCP_FIN_FLAG) && c->snd_wnd == wnd_before &&
			  c->snd_una != c->snd_nxt; /* RFC 5681 2 */
	if (seq_gt(seg->ack, c->snd_una))
		take_cumulative(w, c, seg, &tally);
	if (c->has_sack && seg->opt.n_sack)
		take_sack(w, c, seg, &tally);
	if (!tally.acked_bytes && !tally.delivered_bytes && !is_dup_ack && !tally.is_dsack) {
		if (seg->ack == c->tlp_end_seq && !seg->n_bytes && !seg->opt.n_sack)
			c->tlp_pending = false; /* a duplicate of the probe, told by a peer without D-SACK (RFC 8985 7.4.2) */
		return;
	}
	take_rtt(w, c, seg, &tally);
	if (tally.is_dsack) {
		uint8_t mult_before = c->rack_reo_mult;
		tcp_rack_dsack(c);
		if (c->rack_reo_mult > mult_before)
			FOIL_PROBE(w, TCP, RACK_WINDOW_GREW);
		tcp_undo_dsack(c, &seg->opt.sack[0]);
	}
	(void)tcp_undo_try(w, c, seg); /* what it changed is all in c */
	if (c->tlp_pending)
		tcp_tlp_acked(w, c, seg->ack, tally.is_dsack);
	if (tally.acked_bytes)
		tcp_rtx_restart(w, c);
	uint32_t lost_before = c->n_lost_bytes;
	uint32_t delivered_bytes = tcp_recovery_after_ack(w, c, tally.acked_bytes, tally.delivered_bytes, is_dup_ack);
	if (!c->has_sack)
		tcp_rate_delivered_without_sack(c, &tally.rate, delivered_bytes);
	tally.rate.lost_bytes = c->n_lost_bytes > lost_before ? c->n_lost_bytes - lost_before : 0;
	tally.rate.rtt_us = tally.resent_us ? 0 : tally.rtt_us;
	tcp_rate_finish(w, c, &tally.rate);
	if (c->n_lost_bytes || c->tx.n_bytes || c->fin_queued)
		tcp_output_want(w, c);
}
