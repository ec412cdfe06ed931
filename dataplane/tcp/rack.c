/* Loss detection for one connection: RACK-TLP (RFC 8985).
 * Decides which sent segments are lost and when to probe a silent tail. It sends nothing but the probe: output.c sends what is marked.
 * Only for peers with SACK; recovery.c counts duplicate ACKs for the others.
 * Invariant: rack_order holds the records neither SACKed nor lost, oldest transmission first. */
#include "dataplane/tcp/tcp_priv.h"

#define TCP_RACK_REO_PERSIST 16u /* RFC 8985 6.2 step 4: recoveries after which a widened reordering window shrinks back */

static bool sent_after(uint64_t a_us, uint32_t a_end, uint64_t b_us, uint32_t b_end)
{
	return a_us > b_us || (a_us == b_us && seq_gt(a_end, b_end));
}

/* RFC 8985 6.2 steps 1 to 3, for one record acknowledged just now, in order of sequence. An echo tells a first transmission from a second only
 * when the segment moved the peer's left edge: above a hole the peer goes on echoing what came before the hole (RFC 7323 4.3), and a path that loses
 * retransmissions, too, would be deaf to all that arrives behind. There the round trip decides alone, as in Linux. */
void tcp_rack_delivered(struct foil_worker *w, struct tcp_conn *c, const struct tcp_sent *r, const struct tcp_seg *seg)
{
	uint32_t rtt_us = (uint32_t)(w->now_us - r->xmit_us);
	bool is_retrans = r->flags & TCP_SENT_RETRANS;

	if (seq_gt(r->end, c->rack_fack))
		c->rack_fack = r->end;
	else if (seq_lt(r->end, c->rack_fack) && !is_retrans) {
		if (!c->rack_reordering_seen)
			FOIL_PROBE(w, TCP, RACK_REORDERING);
		c->rack_reordering_seen = true;
	}
	if (is_retrans) { /* an ACK of the first transmission says nothing of the second */
		uint32_t xmit_ts = (uint32_t)(r->xmit_us / 1000) + c->ts_offset;
		if (c->has_ts && seg->opt.has_ts && seq_leq(r->end, seg->ack) && seq_lt(seg->opt.ts_ecr, xmit_ts)) {
			FOIL_PROBE(w, TCP, RACK_EARLY_ECHO);
			return;
		}
		if (rtt_us < c->min_rtt_us)
			return;
	}
	c->rack_rtt_us = rtt_us;
	if (sent_after(r->xmit_us, r->end, c->rack_xmit_us, c->rack_end_seq)) {
		c->rack_xmit_us = r->xmit_us;
		c->rack_end_seq = r->end;
	}
}

/* RFC 8985 6.2 step 4: a DSACK means that we were too quick; once a round trip the window grows. */
void tcp_rack_dsack(struct tcp_conn *c)
{
	if (seq_lt(c->snd_una, c->rack_dsack_seq) && c->rack_reo_persist == TCP_RACK_REO_PERSIST)
		return;
	c->rack_dsack_seq = c->snd_nxt;
	if (c->rack_reo_mult < UINT8_MAX)
		c->rack_reo_mult++;
	c->rack_reo_persist = TCP_RACK_REO_PERSIST;
}

static uint32_t reo_wnd_us(const struct tcp_conn *c)
{
	if (!c->rack_reordering_seen &&
	    (c->ca_state != TCP_CA_OPEN || c->n_sacked_bytes >= TCP_DUP_THRESH * (uint32_t)c->mss_bytes))
		return 0;
	uint64_t wnd_us = (uint64_t)c->rack_reo_mult * c->min_rtt_us / 4;
	return (uint32_t)FOIL_MIN(wnd_us, (uint64_t)c->srtt_us);
}

bool tcp_rack_detect(struct foil_worker *w, struct tcp_conn *c, uint32_t *wait_us)
{
	uint64_t allowance_us = (uint64_t)c->rack_rtt_us + reo_wnd_us(c);
	struct tcp_node *next;
	bool is_lost = false;

	*wait_us = 0;
	if (!c->rack_xmit_us)
		return false;
	for (struct tcp_node *n = c->rack_order.next; n != &c->rack_order; n = next) {
		struct tcp_sent *r = FOIL_CONTAINER_OF(n, struct tcp_sent, by_time);
		next = n->next;
		if (!sent_after(c->rack_xmit_us, c->rack_end_seq, r->xmit_us, r->end))
			break;
		uint64_t due_us = r->xmit_us + allowance_us;
		if (w->now_us >= due_us) {
			tcp_sent_mark_lost(c, r);
			is_lost = true;
		} else {
			*wait_us = FOIL_MAX(*wait_us, (uint32_t)(due_us - w->now_us));
		}
	}
	return is_lost;
}

/* RFC 8985 7.2. */
uint32_t tcp_tlp_timeout_us(const struct foil_worker *w, const struct tcp_conn *c)
{
	const struct tcp_node *first = c->sent.next;
	uint64_t pto_us = TCP_RTO_INITIAL_US;

	if (c->has_rtt) {
		pto_us = 2ull * c->srtt_us;
		pto_us += first->next == &c->sent ? TCP_WCDELACK_US : TCP_TLP_SLACK_US;
	}
	return (uint32_t)FOIL_MIN(pto_us, (uint64_t)c->rto_us);
}

/* RFC 8985 7.3: one probe a tail, of new data if the peer has room, else its last segment again. */
void tcp_tlp_fire(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_sent *last = c->sent.prev == &c->sent ? NULL : tcp_sent_of(c->sent.prev);
	uint64_t rto_at_us = w->now_us + c->rto_us;

	if (last && !c->tlp_pending) {
		if (tcp_output_probe(w, c)) {
			FOIL_PROBE(w, TCP, TLP_NEW_DATA);
			c->tlp_is_retrans = false;
			c->tlp_pending = true;
		} else if (!(last->flags & (TCP_SENT_SACKED | TCP_SENT_LOST)) && tcp_output_retransmit(w, c, last)) {
			FOIL_PROBE(w, TCP, TLP_RETRANSMIT);
			c->tlp_is_retrans = true;
			c->tlp_pending = true;
		}
		c->tlp_end_seq = c->snd_nxt;
		foil_count(w, TCP, TLPS, 1);
	}
	tcp_rtx_arm(w, c, TCP_RTX_RTO, rto_at_us);
}

/* RFC 8985 7.4.2: when a retransmitted probe filled a hole that nobody reported, that loss counts for congestion control. An ACK of just
 * the probe may be the answer to the first transmission: a report of the second as a duplicate may follow. */
void tcp_tlp_acked(struct foil_worker *w, struct tcp_conn *c, uint32_t ack, bool is_dsack)
{
	if (seq_lt(ack, c->tlp_end_seq) || (c->tlp_is_retrans && !is_dsack && ack == c->tlp_end_seq))
		return;
	c->tlp_pending = false;
	if (!c->tlp_is_retrans || is_dsack)
		return;
	if (c->ca_state == TCP_CA_OPEN) {
		FOIL_PROBE(w, TCP, TLP_FOUND_LOSS);
		c->ssthresh = c->cc->on_loss(w, c, false);
		c->cwnd = FOIL_MIN(c->cwnd, c->ssthresh);
	}
}
