/* Recoveries that prove needless: the segments that were sent again had arrived, only their ACKs were late, or the path had reordered
 * them. Then the window goes back to what it was. Told by the peer's timestamps, an ACK that echoes the first transmission (Eifel,
 * RFC 3522 and 4015), or by its duplicate reports for all that was sent again (RFC 2883, RFC 3708).
 * Invariant: undo_ssthresh is not 0 only between the begin of a recovery and its end or undoing. */
#include "dataplane/tcp/tcp_priv.h"

/* Sent again before this recovery and not acknowledged: a probe, or the rest of the recovery before. A copy thought lost may yet arrive. */
static uint32_t resent_before(const struct tcp_conn *c)
{
	uint32_t n_bytes = 0;

	for (const struct tcp_node *n = c->sent.next; n != &c->sent; n = n->next) {
		const struct tcp_sent *r = FOIL_CONTAINER_OF(n, const struct tcp_sent, by_seq);
		if ((r->flags & (TCP_SENT_RETRANS | TCP_SENT_SACKED)) == TCP_SENT_RETRANS)
			n_bytes += r->end - r->seq;
	}
	return n_bytes;
}

void tcp_undo_begin(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_rare *u = tcp_rare_need(w, c);

	if (!u)
		return; /* then it is not undone */
	uint32_t resent = resent_before(c), probe = c->tlp_pending && c->tlp_is_retrans ? c->mss_bytes : 0;

	u->undo_cwnd = c->cwnd;
	u->undo_ssthresh = c->ssthresh;
	u->undo_una = c->snd_una;
	u->undo_bytes = (int32_t)FOIL_MAX(resent, probe); /* their duplicates may still be reported */
	if (!resent) /* else the echo of one of them is no word of a first transmission */
		u->undo_ts = 0;
}

void tcp_undo_resent(struct foil_worker *w, struct tcp_conn *c, uint32_t n_bytes)
{
	struct tcp_rare *u = tcp_rare_need(w, c);

	if (!u)
		return;
	if (!u->undo_ts && c->has_ts)
		u->undo_ts = tcp_ts_now(w, c->ts_offset);
	if (!u->undo_ssthresh)
		return;
	u->undo_bytes += (int32_t)n_bytes;
}

void tcp_undo_dsack(struct tcp_conn *c, const struct tcp_sack_block *b)
{
	struct tcp_rare *u = c->rare;

	if (!u || !u->undo_ssthresh || u->undo_bytes <= 0 || !seq_lt(b->start, b->end) || seq_lt(b->start, u->undo_una) || seq_gt(b->end, c->snd_nxt))
		return;
	u->undo_bytes -= (int32_t)FOIL_MIN(b->end - b->start, (uint32_t)INT32_MAX);
	if (u->undo_bytes <= 0)
		u->undo_bytes = -1; /* all that was sent again had been there */
}

static bool is_needless(const struct tcp_conn *c, const struct tcp_seg *seg)
{
	const struct tcp_rare *u = c->rare;

	if (u->undo_bytes < 0)
		return true;
	return u->undo_ts && seg->opt.has_ts && seg->opt.ts_ecr && seq_lt(seg->opt.ts_ecr, u->undo_ts) && seq_gt(seg->ack, u->undo_una);
}

/* What was thought lost is in flight after all. */
static void unmark_lost(struct tcp_conn *c)
{
	for (struct tcp_node *n = c->sent.prev; n != &c->sent && c->n_lost_bytes; n = n->prev) {
		struct tcp_sent *r = tcp_sent_of(n);
		if (!(r->flags & TCP_SENT_LOST))
			continue;
		r->flags &= (uint8_t)~TCP_SENT_LOST;
		c->n_lost_bytes -= r->end - r->seq;
		tcp_list_push_front(&c->rack_order, &r->by_time); /* sent before all that is there; backwards, so the oldest comes to lie first */
	}
}

bool tcp_undo_try(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg)
{
	struct tcp_rare *u = c->rare;

	if (!u || !u->undo_ssthresh || c->ca_state == TCP_CA_OPEN || !is_needless(c, seg))
		return false;
	if (c->ca_state == TCP_CA_LOSS)
		FOIL_PROBE(w, TCP, RTO_UNDONE);
	else
		FOIL_PROBE(w, TCP, RECOVERY_UNDONE);
	if (u->undo_bytes < 0)
		FOIL_PROBE(w, TCP, UNDONE_BY_DSACK);
	else
		FOIL_PROBE(w, TCP, UNDONE_BY_TIMESTAMP);
	unmark_lost(c);
	c->cwnd = FOIL_MAX(c->cwnd, u->undo_cwnd);
	c->ssthresh = FOIL_MAX(c->ssthresh, u->undo_ssthresh);
	u->undo_ssthresh = 0;
	c->ca_state = TCP_CA_OPEN;
	c->n_dup_acks = 0;
	foil_count(w, TCP, UNDONE_RECOVERIES, 1);
	return true;
}
