/* What a connection sends at the end of a burst: lost segments first, then new ones as far as the peer's window and cwnd reach,
 * then the FIN; an ACK that is owed rides on any of them or goes alone (RFC 9293 3.8, 3.10.2; RFC 5681; silly window syndrome
 * avoidance by RFC 9293 3.8.6.2.1; no Nagle).
 * Invariant: snd_nxt never moves back; what is sent again is sent from its record. */
#include "dataplane/tcp/tcp_priv.h"

void tcp_output_want(struct foil_worker *w, struct tcp_conn *c)
{
	if (!tcp_node_is_on(&c->out_node))
		tcp_list_push_back(&w->tcp->outs, &c->out_node);
}

/* The options of a segment of an established connection: the timestamp, and SACK blocks while there are holes. */
static void options_of(struct foil_worker *w, struct tcp_conn *c, struct tcp_options *o)
{
	memset(o, 0, sizeof(*o));
	if (c->has_ts) {
		o->has_ts = true;
		o->ts_val = tcp_ts_now(w, c->ts_offset);
		o->ts_ecr = c->ts_recent;
	}
	if (c->has_sack && (c->dsack_owed || tcp_ooo_ranges(c))) {
		if (c->dsack_owed)
			o->sack[o->n_sack++] = c->dsack; /* RFC 2883 4: first */
		o->n_sack = (uint8_t)(o->n_sack + tcp_reasm_sack_blocks(c, o->sack + o->n_sack, (uint8_t)(TCP_SACK_BLOCKS_MAX - o->n_sack)));
	}
}

/* The ACK that every segment carries has gone out. */
static void ack_was_sent(struct foil_worker *w, struct tcp_conn *c)
{
	c->ack_now = false;
	c->ack_delayed = false;
	c->dsack_owed = false;
	c->n_dup_acks_owed = 0;
	c->rcv_unacked_bytes = 0;
	c->last_ack_sent = c->rcv_nxt;
	c->last_tx_us = w->now_us;
}

/* What r says, which for new data may be several segments of segment_bytes that the port cuts; 0: one. */
static bool send_piece(struct foil_worker *w, struct tcp_conn *c, const struct tcp_sent *r, const struct tcp_options *opt, bool is_new,
		       uint16_t segment_bytes)
{
	uint32_t n_bytes = r->end - r->seq - !!(r->flags & TCP_SENT_FIN);
	struct tcp_segment_spec spec = {
		.key = tcp_conn_key(c), .seq = r->seq, .ack = c->rcv_nxt, .wnd = tcp_window_offer(w, c), .flags = RTE_TCP_ACK_FLAG, .opt = opt,
		.payload_m = r->m, .payload_at = r->at, .payload_bytes = n_bytes, .segment_bytes = segment_bytes, .dst = &c->dst,
	};

	if (r->flags & TCP_SENT_FIN)
		spec.flags |= RTE_TCP_FIN_FLAG;
	if (n_bytes && (r->end == c->snd_nxt || !is_new) && tcp_unsent_bytes(c) == 0)
		spec.flags |= RTE_TCP_PSH_FLAG; /* the last that we have: RFC 9293 3.9.1.2 */
	if (FOIL_UNLIKELY(c->has_ecn))
		tcp_ecn_output(c, &spec, is_new && n_bytes && c->snd_wnd);
	if (!tcp_segment_send(w, &spec))
		return false;
	ack_was_sent(w, c);
	return true;
}

bool tcp_output_retransmit(struct foil_worker *w, struct tcp_conn *c, struct tcp_sent *r)
{
	struct tcp_options opt;

	FOIL_ASSERT(!(r->flags & TCP_SENT_SACKED));
	options_of(w, c, &opt);
	uint32_t room = c->mss_bytes - tcp_options_bytes(&opt), n_bytes = r->end - r->seq - !!(r->flags & TCP_SENT_FIN);
	uint32_t edge = c->snd_una + c->snd_wnd; /* a window that shrank is respected, but for a probe (RFC 9293 3.8.6) */
	if (seq_gt(edge, r->seq))
		room = FOIL_MIN(room, edge - r->seq);
	if (n_bytes > room) {
		FOIL_PROBE(w, TCP, RETRANSMIT_CUT);
		if (!tcp_sent_split(w, c, r, room))
			return false;
		n_bytes = room;
	}
	if (!send_piece(w, c, r, &opt, false, 0))
		return false;
	if (r->flags & TCP_SENT_FIN)
		FOIL_PROBE(w, TCP, FIN_RETRANSMITTED);
	tcp_sent_resent(w, c, r);
	tcp_undo_resent(w, c, n_bytes);
	tcp_pace_sent(w, c, n_bytes);
	c->prr_out += r->end - r->seq;
	foil_count(w, TCP, RETRANSMITTED_BYTES, n_bytes);
	return true;
}

static bool send_lost(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_node *next;
	bool is_sent = false;

	for (struct tcp_node *n = c->sent.next; n != &c->sent && c->n_lost_bytes; n = next) {
		struct tcp_sent *r = tcp_sent_of(n);
		if (!(r->flags & TCP_SENT_LOST)) {
			next = n->next;
			continue;
		}
		uint32_t in_flight = tcp_in_flight(c);
		if (in_flight && in_flight + (r->end - r->seq) > c->cwnd)
			break;
		if (r->seq != c->snd_una && seq_geq(r->seq, c->snd_una + c->snd_wnd))
			break;
		if (!tcp_pace_may_send(w, c))
			break;
		if (!tcp_output_retransmit(w, c, r)) {
			tcp_output_want(w, c);
			break;
		}
		is_sent = true;
		next = n->next; /* after a split the rest follows */
	}
	return is_sent;
}

/* Where the byte at snd_nxt lies. Only with unsent bytes. */
static void cursor_settle(struct tcp_conn *c)
{
	if (!c->tx_m) {
		c->tx_m = c->tx.head;
		c->tx_at = c->tx_m->data_off;
	}
	while (c->tx_at == c->tx_m->data_off + c->tx_m->data_len && c->tx_m->next) {
		c->tx_m = c->tx_m->next;
		c->tx_at = c->tx_m->data_off;
	}
}

static void cursor_advance(struct tcp_conn *c, uint32_t n_bytes)
{
	while (n_bytes) {
		uint32_t n = FOIL_MIN(n_bytes, (uint32_t)c->tx_m->data_off + c->tx_m->data_len - c->tx_at);
		c->tx_at = (uint16_t)(c->tx_at + n);
		n_bytes -= n;
		if (n_bytes) {
			c->tx_m = c->tx_m->next;
			c->tx_at = c->tx_m->data_off;
		}
	}
}

static void fin_was_sent(struct foil_worker *w, struct tcp_conn *c)
{
	c->fin_sent = true;
	tcp_conn_become(w, c, c->state == TCP_STATE_CLOSE_WAIT ? TCP_STATE_LAST_ACK : TCP_STATE_FIN_WAIT_1);
	tcp_slow_arm(w, c);
}

static void unrecord(struct foil_worker *w, struct tcp_conn *c, uint32_t seq)
{
	struct tcp_node *last;

	while ((last = c->sent.prev) != &c->sent && seq_geq(tcp_sent_of(last)->seq, seq))
		tcp_sent_free(w, c, tcp_sent_of(last));
	c->snd_nxt = seq;
}

/* A record for each segment of the next n_bytes, the cursor behind them. NULL: no memory, and some may have been made. */
static struct tcp_sent *record_new(struct foil_worker *w, struct tcp_conn *c, uint32_t n_bytes, uint32_t segment_bytes, bool with_fin)
{
	struct tcp_sent *first = NULL, *r;

	do {
		uint32_t n = FOIL_MIN(n_bytes, segment_bytes);
		bool is_fin = with_fin && n == n_bytes;
		if (n)
			cursor_settle(c);
		r = tcp_sent_add(w, c, c->snd_nxt, c->snd_nxt + n + is_fin, n ? c->tx_m : NULL, c->tx_at, is_fin ? TCP_SENT_FIN : 0);
		if (!r)
			return NULL;
		if (!first)
			first = r;
		c->snd_nxt = r->end;
		cursor_advance(c, n);
		n_bytes -= n;
	} while (n_bytes);
	return first;
}

/* The next n_bytes never sent before in segments of segment_bytes, with the FIN if asked. false: no memory, nothing happened. */
static bool send_new(struct foil_worker *w, struct tcp_conn *c, uint32_t n_bytes, uint32_t segment_bytes, const struct tcp_options *opt,
		     bool with_fin)
{
	uint32_t before = c->snd_nxt;
	struct rte_mbuf *tx_m = c->tx_m;
	uint16_t tx_at = c->tx_at;
	bool is_train = n_bytes > segment_bytes;
	struct tcp_sent *r = record_new(w, c, n_bytes, segment_bytes, with_fin);
	struct tcp_sent train;

	if (r && is_train) {
		train = *r;
		train.end = c->snd_nxt;
		train.flags = with_fin ? TCP_SENT_FIN : 0;
		r = &train;
	}
	c->fin_sent = with_fin;
	if (!r || !send_piece(w, c, r, opt, true, is_train ? (uint16_t)segment_bytes : 0)) {
		unrecord(w, c, before);
		c->fin_sent = false;
		c->tx_m = tx_m;
		c->tx_at = tx_at;
		return false;
	}
	if (with_fin)
		fin_was_sent(w, c);
	c->prr_out += n_bytes;
	tcp_pace_sent(w, c, n_bytes);
	foil_count(w, TCP, BYTES_TX, n_bytes);
	return true;
}

static bool may_send_new(const struct tcp_conn *c)
{
	return c->state == TCP_STATE_ESTABLISHED || c->state == TCP_STATE_CLOSE_WAIT;
}

static uint32_t window_left(const struct tcp_conn *c)
{
	uint32_t edge = c->snd_una + c->snd_wnd;

	return seq_gt(edge, c->snd_nxt) ? edge - c->snd_nxt : 0;
}

/* How much of unsent bytes goes into the next segment; 0: wait. Limited transmit (RFC 3042) needs no word: what the first duplicate ACKs tell of is no
 * longer in flight. */
static uint32_t next_bytes(struct foil_worker *w, struct tcp_conn *c, uint32_t unsent, uint32_t room)
{
	uint32_t n_bytes = FOIL_MIN(unsent, room), window = window_left(c), in_flight = tcp_in_flight(c);

	if (n_bytes > window) {
		n_bytes = window;
		if (n_bytes < c->snd_wnd_max / 2) { /* silly window: a full segment, all there is, or half of the largest window */
			if (n_bytes)
				FOIL_PROBE(w, TCP, SILLY_WINDOW_WAIT);
			return 0;
		}
	}
	if (in_flight && in_flight + n_bytes > c->cwnd) {
		c->is_cwnd_limited = true;
		return 0;
	}
	if (c->n_dup_bytes && c->ca_state == TCP_CA_OPEN && in_flight + c->n_dup_bytes + n_bytes > c->cwnd)
		FOIL_PROBE(w, TCP, LIMITED_TRANSMIT);
	return n_bytes;
}

/* How much of the next bytes lies in TCP_TSO_MBUFS_MAX mbufs, none but the last so small that a segment would be of more than six: cards bound the
 * pieces of each segment that they cut, too, and some stop for good when there are more. */
static uint32_t bytes_in_mbufs(const struct tcp_conn *c, uint32_t room)
{
	const struct rte_mbuf *m = c->tx_m ? c->tx_m : c->tx.head;
	uint32_t n_bytes = c->tx_m ? (uint32_t)m->data_off + m->data_len - c->tx_at : m->data_len;

	for (uint32_t n = 1; n < TCP_TSO_MBUFS_MAX && m->next && n_bytes < NET_TSO_BYTES_MAX; n++) {
		m = m->next;
		if (m->data_len < room / 4 && m->next)
			break;
		n_bytes += m->data_len;
	}
	return n_bytes;
}

/* A port that cuts segments gets as many as may go now in one packet, after the first has been found to be allowed: whole ones, or with the last bytes that
 * there are. CWR belongs on one segment (RFC 3168 6.1.2), which a port may not know. A paced connection sends what is due in a tick or two. */
static uint32_t train_bytes(const struct tcp_conn *c, uint32_t unsent, uint32_t room)
{
	uint32_t in_flight = tcp_in_flight(c), n_bytes = FOIL_MIN(unsent, window_left(c));

	if (n_bytes <= room || c->cwr_owed)
		return room;
	n_bytes = FOIL_MIN(n_bytes, c->cwnd > in_flight ? c->cwnd - in_flight : 0);
	if (c->pace_Bps)
		n_bytes = (uint32_t)FOIL_MIN(n_bytes, c->pace_Bps * TCP_TSO_PACED_US / 1000000);
	n_bytes = FOIL_MIN(n_bytes, FOIL_MIN(NET_TSO_BYTES_MAX, bytes_in_mbufs(c, room)));
	return n_bytes == unsent ? n_bytes : FOIL_MAX(n_bytes / room, 1u) * room;
}

/* What the window held back once stays so for all that was in flight then: the ACKs of a full window make it grow although its user has nothing more
 * to say by now (RFC 7661 4.2). A server of short answers would else lose the growth of each one's last round trip. */
static void note_cwnd_use(struct tcp_conn *c, bool was_limited)
{
	if (c->is_cwnd_limited || seq_geq(c->snd_una, c->cwnd_use_seq))
		c->cwnd_use_seq = c->snd_nxt;
	else
		c->is_cwnd_limited = was_limited;
}

static bool send_unsent(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_options opt;
	bool is_sent = false, was_limited = c->is_cwnd_limited;

	if (c->snd_una == c->snd_nxt && w->now_us - c->last_tx_us > c->rto_us) {
		FOIL_PROBE(w, TCP, IDLE_RESTART);
		c->cc->on_idle(w, c, w->now_us - c->last_tx_us);
	}
	c->is_cwnd_limited = false;
	for (;;) {
		uint32_t unsent = tcp_unsent_bytes(c);
		if (!unsent && !c->fin_queued)
			break;
		options_of(w, c, &opt);
		uint32_t room = c->mss_bytes - tcp_options_bytes(&opt), n_bytes = next_bytes(w, c, unsent, room);
		if (unsent && !n_bytes)
			break;
		if (!tcp_pace_may_send(w, c))
			break;
		if (c->dst.tso && n_bytes == room)
			n_bytes = train_bytes(c, unsent, room);
		bool with_fin = c->fin_queued && n_bytes == unsent;
		if (!send_new(w, c, n_bytes, room, &opt, with_fin)) {
			tcp_output_want(w, c);
			break;
		}
		is_sent = true;
		if (with_fin)
			break;
	}

	note_cwnd_use(c, was_limited);
	if (is_sent && c->ca_state == TCP_CA_OPEN)
		c->prr_flight = c->snd_nxt - c->snd_una;
	if (is_sent)
		tcp_cwv_sent(w, c);
	tcp_rate_check_app_limited(c);
	return is_sent;
}

bool tcp_output_probe(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_options opt;

	if (!may_send_new(c))
		return false;
	options_of(w, c, &opt);
	uint32_t n_bytes = FOIL_MIN(tcp_unsent_bytes(c), c->mss_bytes - tcp_options_bytes(&opt));
	/* a zero window is probed with one octet of new data (RFC 9293 3.8.6.1) */
	n_bytes = FOIL_MIN(n_bytes, c->rtx_mode == TCP_RTX_PERSIST ? FOIL_MAX(window_left(c), 1u) : window_left(c));
	return n_bytes && send_new(w, c, n_bytes, n_bytes, &opt, false);
}

bool tcp_send_control(struct foil_worker *w, struct tcp_conn *c, uint32_t seq, uint8_t flags)
{
	struct tcp_options opt;

	options_of(w, c, &opt);
	struct tcp_segment_spec spec = {
		.key = tcp_conn_key(c), .seq = seq, .ack = c->rcv_nxt, .wnd = tcp_window_offer(w, c), .flags = flags, .opt = &opt, .dst = &c->dst,
	};
	if (FOIL_UNLIKELY(c->has_ecn) && !(flags & RTE_TCP_RST_FLAG))
		tcp_ecn_output(c, &spec, false);
	if (!tcp_segment_send(w, &spec))
		return false;
	ack_was_sent(w, c);
	return true;
}

/* What a peer accepts an ACK at although its window has shrunk below what is in flight: the window's edge. An ACK beyond it would be
 * dropped, and with it the acknowledgement that the peer waits for. */
static uint32_t acceptable_seq(struct foil_worker *w, const struct tcp_conn *c)
{
	uint32_t edge = c->snd_una + c->snd_wnd;

	if (FOIL_LIKELY(seq_geq(edge, c->snd_nxt) || c->snd_nxt - edge < 1u << c->snd_wscale))
		return c->snd_nxt;
	FOIL_PROBE(w, TCP, ACK_AT_EDGE);
	return edge;
}

void tcp_send_dup_acks(struct foil_worker *w, struct tcp_conn *c)
{
	for (uint32_t n = c->n_dup_acks_owed; n; n--) {
		if (!tcp_send_control(w, c, acceptable_seq(w, c), RTE_TCP_ACK_FLAG))
			break; /* no mbuf: they are a hint, and the next ACK says more */
		foil_count(w, TCP, PURE_ACKS_TX, 1);
	}
	c->n_dup_acks_owed = 0;
}

static void send_owed_acks(struct foil_worker *w, struct tcp_conn *c)
{
	/* A peer without SACK counts duplicate ACKs, so each out-of-order segment has its own (RFC 5681 4.2), behind the one that moves the edge. */
	uint32_t n = c->has_sack ? 1 : FOIL_MAX(c->n_dup_acks_owed + (c->rcv_nxt != c->last_ack_sent), 1);

	for (; n; n--) {
		if (!tcp_send_control(w, c, acceptable_seq(w, c), RTE_TCP_ACK_FLAG)) {
			c->ack_now = true;
			tcp_output_want(w, c);
			return;
		}
		foil_count(w, TCP, PURE_ACKS_TX, 1);
	}
}

void tcp_output(struct foil_worker *w, struct tcp_conn *c)
{
	bool is_sent = false;

	if (c->state < TCP_STATE_ESTABLISHED) { /* SYNs are sent by connect.c and timers.c */
		if (c->state == TCP_STATE_SYN_RCVD && c->ack_now) /* a challenge */
			send_owed_acks(w, c);
		return;
	}
	if (c->n_lost_bytes)
		is_sent = send_lost(w, c);
	if (may_send_new(c) && !c->n_lost_bytes)
		is_sent |= send_unsent(w, c);
	tcp_pace_done(c);
	if (is_sent || c->tx.n_bytes)
		tcp_rtx_start(w, c);
	if (c->ack_now)
		send_owed_acks(w, c);
	else if (c->ack_delayed)
		tcp_delack_arm(w, c, TCP_DELACK_US);
}
