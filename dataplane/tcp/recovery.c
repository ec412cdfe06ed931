/* Recovery from loss: when it begins and ends, and how much may be sent during it (RFC 6675 5, RFC 6937 PRR, RFC 6582 for peers
 * without SACK, RFC 5681 3.1 after a timeout). Which segments are lost is rack.c's word.
 * Invariant: outside of TCP_CA_OPEN, recover_seq > snd_una. */
#include "dataplane/tcp/tcp_priv.h"

/* RFC 6937 3.1: about ssthresh/prr_flight of what arrives is sent, down to ssthresh; below it, slow start back up. */
static void prr_update(struct tcp_conn *c, uint32_t acked_bytes, uint32_t delivered_bytes)
{
	if (c->cc->on_rate)
		return; /* the algorithm's own */
	uint32_t pipe = tcp_in_flight(c);
	uint64_t quota, floor_bytes = c->prr_out == 0 ? c->mss_bytes : 0; /* the fast retransmit itself always goes */

	c->prr_delivered += delivered_bytes;
	if (pipe > c->ssthresh) {
		quota = ((uint64_t)c->prr_delivered * c->ssthresh + c->prr_flight - 1) / c->prr_flight;
		quota = quota > c->prr_out ? quota - c->prr_out : 0;
	} else {
		uint32_t behind = c->prr_delivered > c->prr_out ? c->prr_delivered - c->prr_out : 0;
		quota = FOIL_MAX(behind, delivered_bytes);
		if (acked_bytes)
			quota += c->mss_bytes; /* slow-start reduction bound, while the peer's ACK advances */
		quota = FOIL_MIN(quota, (uint64_t)c->ssthresh - pipe);
	}
	c->cwnd = (uint32_t)FOIL_MAX((uint64_t)pipe + FOIL_MAX(quota, floor_bytes), (uint64_t)c->mss_bytes);
}

void tcp_recovery_enter(struct foil_worker *w, struct tcp_conn *c)
{
	tcp_undo_begin(w, c);
	c->prr_flight = FOIL_MAX(c->snd_nxt - c->snd_una, 1u);
	c->prr_delivered = c->prr_out = 0;
	c->ssthresh = c->cc->on_loss(w, c, false);
	c->recover_seq = c->snd_nxt;
	c->ca_state = TCP_CA_RECOVERY;
	c->tlp_pending = false;
	if (c->rtx_mode == TCP_RTX_TLP) /* the tail is heard of; from here on it is the RTO that must not come late (RFC 8985 7.2) */
		tcp_rtx_restart(w, c);
	foil_count(w, TCP, FAST_RETRANSMITS, 1);
	prr_update(c, 0, 0);
	tcp_output_want(w, c);
}

/* Without SACK a recovery takes a round trip a hole, and at its end hardly anything is in flight: slow start from there (RFC 6582 3.2 (1)), or a whole
 * window would leave in one burst and overflow the queue that made the first loss. */
static void recovery_leave(struct foil_worker *w, struct tcp_conn *c)
{
	if (c->ca_state == TCP_CA_RECOVERY && !c->cc->on_rate)
		c->cwnd = c->has_sack ? c->ssthresh : FOIL_MIN(c->ssthresh, FOIL_MAX(c->snd_nxt - c->snd_una, (uint32_t)c->mss_bytes) + c->mss_bytes);
	c->ca_state = TCP_CA_OPEN;
	c->n_dup_acks = 0;
	if (c->rare)
		c->rare->undo_ssthresh = 0;
	if (c->rack_reo_persist && --c->rack_reo_persist == 0) {
		FOIL_PROBE(w, TCP, RACK_WINDOW_SHRANK);
		c->rack_reo_mult = 1;
	}
}

void tcp_recovery_on_rto(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_sent *first = tcp_sent_of(tcp_list_first(&c->sent));

	if (c->ca_state == TCP_CA_RECOVERY)
		FOIL_PROBE(w, TCP, RTO_IN_RECOVERY);
	if (c->tlp_pending)
		FOIL_PROBE(w, TCP, RTO_AFTER_TLP);
	if (c->ca_state == TCP_CA_OPEN)
		tcp_undo_begin(w, c);
	if (c->ca_state != TCP_CA_LOSS) /* RFC 5681 3.1: once for a series of timeouts */
		c->ssthresh = c->cc->on_loss(w, c, true);
	if (first && (first->flags & TCP_SENT_SACKED))
		foil_reason(w, TCP, SACK_RENEGED);
	tcp_sent_mark_all_lost(c);
	c->cwnd = c->mss_bytes;
	c->recover_seq = c->snd_nxt;
	c->ca_state = TCP_CA_LOSS;
	c->n_dup_acks = 0;
	c->n_dup_bytes = 0;
	c->tlp_pending = false;
	foil_count(w, TCP, RTOS, 1);
}

static void mark_first_lost(struct tcp_conn *c)
{
	struct tcp_sent *r = tcp_sent_of(tcp_list_first(&c->sent));

	if (r)
		tcp_sent_mark_lost(c, r);
}

/* RFC 6582 3.2 without SACK: the third duplicate, and each partial ACK, tell of one lost segment. Each duplicate tells that one has arrived, which
 * one nobody knows; n_dup_bytes counts them until they are acknowledged. What this ACK delivered. */
static uint32_t count_dup_acks(struct foil_worker *w, struct tcp_conn *c, uint32_t acked_bytes, bool is_dup_ack)
{
	if (acked_bytes) {
		uint32_t told = FOIL_MIN(c->n_dup_bytes, acked_bytes - FOIL_MIN(acked_bytes, (uint32_t)c->mss_bytes)); /* a hole was filled, too */
		c->n_dup_acks = 0;
		c->n_dup_bytes = c->ca_state == TCP_CA_OPEN ? 0 : c->n_dup_bytes - told;
		if (c->ca_state == TCP_CA_RECOVERY && seq_lt(c->snd_una, c->recover_seq)) {
			FOIL_PROBE(w, TCP, PARTIAL_ACK);
			mark_first_lost(c);
		}
		return acked_bytes - told;
	}
	if (!is_dup_ack)
		return 0;
	if (c->n_dup_acks < UINT8_MAX)
		c->n_dup_acks++;
	if (c->n_dup_acks == TCP_DUP_THRESH && c->ca_state == TCP_CA_OPEN) {
		FOIL_PROBE(w, TCP, DUP_ACK_LOSS);
		mark_first_lost(c);
	}
	if (tcp_in_flight(c) <= c->mss_bytes)
		return 0; /* more duplicates than there can be segments */
	c->n_dup_bytes += c->mss_bytes;
	return c->mss_bytes;
}

/* May cwnd grow? All of it was used, or in slow start more than half (RFC 7661 4.2): else a sender that fills it by pieces never
 * learns what the path takes. */
static bool is_cwnd_validated(const struct tcp_conn *c)
{
	return c->is_cwnd_limited || (c->cwnd < c->ssthresh && c->cwnd / 2 < c->prr_flight);
}

uint32_t tcp_recovery_after_ack(struct foil_worker *w, struct tcp_conn *c, uint32_t acked_bytes, uint32_t delivered_bytes, bool is_dup_ack)
{
	uint32_t wait_us = 0;

	if (c->ca_state != TCP_CA_OPEN && seq_geq(c->snd_una, c->recover_seq))
		recovery_leave(w, c);
	if (c->has_sack)
		(void)tcp_rack_detect(w, c, &wait_us); /* what it marked shows in n_lost_bytes */
	else
		delivered_bytes = count_dup_acks(w, c, acked_bytes, is_dup_ack);
	if (wait_us)
		tcp_rtx_arm(w, c, TCP_RTX_REO, w->now_us + wait_us);
	else if (c->rtx_mode == TCP_RTX_REO)
		tcp_rtx_restart(w, c);

	switch ((enum tcp_ca_state)c->ca_state) {
	case TCP_CA_OPEN:
		if (c->n_lost_bytes && c->rtx_mode != TCP_RTX_PERSIST)
			tcp_recovery_enter(w, c);
		else if (acked_bytes && is_cwnd_validated(c))
			c->cc->on_ack(w, c, acked_bytes);
		return delivered_bytes;
	case TCP_CA_RECOVERY:
		prr_update(c, acked_bytes, delivered_bytes);
		return delivered_bytes;
	case TCP_CA_LOSS:
		if (acked_bytes)
			c->cc->on_ack(w, c, acked_bytes);
		return delivered_bytes;
	}
	FOIL_UNREACHABLE();
}
