/* The connection block: its states, birth and death (RFC 9293 3.3.2 and figure 5).
 *
 * A block lives from tcp_conn_new until nobody needs it: the network is done with it at tcp_conn_finish (out of the flow table,
 * no timers, nothing to send), its user when `closed` was told or it let go. After a call to tcp_conn_finish, tcp_conn_reset or
 * tcp_tw_enter the caller must not touch the block again.
 * Invariant: state changes only in tcp_conn_become, along may_become. */
#include "dataplane/tcp/tcp_priv.h"

#define BIT(state) (1u << TCP_STATE_##state)

static const uint16_t may_become[TCP_STATE_COUNT] = { /* RFC 9293 figure 5, one row a state; CLOSED is also RST and giving up */
	[TCP_STATE_CLOSED] = BIT(SYN_SENT) | BIT(ESTABLISHED), /* ESTABLISHED: from a struct tcp_syn or a cookie */
	[TCP_STATE_SYN_SENT] = BIT(SYN_RCVD) | BIT(ESTABLISHED) | BIT(CLOSED),
	[TCP_STATE_SYN_RCVD] = BIT(ESTABLISHED) | BIT(CLOSED),
	[TCP_STATE_ESTABLISHED] = BIT(FIN_WAIT_1) | BIT(CLOSE_WAIT) | BIT(CLOSED),
	[TCP_STATE_FIN_WAIT_1] = BIT(FIN_WAIT_2) | BIT(CLOSING) | BIT(TIME_WAIT) | BIT(CLOSED),
	[TCP_STATE_FIN_WAIT_2] = BIT(TIME_WAIT) | BIT(CLOSED),
	[TCP_STATE_CLOSING] = BIT(TIME_WAIT) | BIT(CLOSED),
	[TCP_STATE_CLOSE_WAIT] = BIT(LAST_ACK) | BIT(CLOSED),
	[TCP_STATE_LAST_ACK] = BIT(CLOSED),
	[TCP_STATE_TIME_WAIT] = BIT(CLOSED),
};

static const char *const state_names[TCP_STATE_COUNT] = {
	"CLOSED", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSING", "CLOSE-WAIT", "LAST-ACK", "TIME-WAIT",
};

const char *tcp_state_name(enum tcp_state s)
{
	return state_names[s];
}

bool tcp_state_may_become(enum tcp_state from, enum tcp_state to)
{
	return may_become[from] >> to & 1u;
}

void tcp_conn_become(struct foil_worker *w, struct tcp_conn *c, enum tcp_state next)
{
	FOIL_ASSERT(tcp_state_may_become((enum tcp_state)c->state, next));
	c->state = (uint8_t)next;
}

struct tcp_conn *tcp_conn_new(struct foil_worker *w, const struct tcp_key *key, uint32_t hash)
{
	struct tcp_ctx *t = w->tcp;
	struct tcp_conn *c = tcp_pool_get(&t->conns);

	if (!c || !tcp_flow_add(t, hash, TCP_KIND_CONN, c)) {
		if (c)
			tcp_pool_put(&t->conns, c);
		foil_reason(w, TCP, CONNS_EXHAUSTED);
		return NULL;
	}
	memcpy(&c->s.local, key, sizeof(*key));
	c->s.ops = &tcp_stream_ops;
	c->s.tx_high_bytes = STREAM_TX_HIGH_BYTES;
	c->hash = hash;
	c->in_table = true;
	c->cc = t->cc;
	c->rto_us = TCP_RTO_INITIAL_US;
	c->rcv_buf_bytes = t->p.rx_window_bytes;
	c->rcv_mss_bytes = TCP_MSS_DEFAULT_V4;
	c->quickack_left = TCP_QUICKACK_SEGS;
	c->rack_reo_mult = 1;
	c->ssthresh = TCP_SSTHRESH_INITIAL;
	c->last_rx_us = c->last_tx_us = c->last_progress_us = w->now_us;
	c->ts_offset = tcp_ts_offset(w, key);
	tcp_list_init(&c->sent);
	tcp_list_init(&c->rack_order);
	foil_gauge_set(w, TCP, CONNS, t->conns.n_used);
	return c;
}

uint16_t tcp_own_mss(const struct foil_worker *w, const struct net_addr *remote, struct net_dst *dst)
{
	uint32_t header_bytes = TCP_HDR_BYTES + (net_addr_is_v4(remote) ? 20u : 40u), mss_bytes;

	if (!net_dst_lookup((struct foil_worker *)(uintptr_t)w, remote, dst) || dst->mtu <= header_bytes)
		mss_bytes = net_addr_is_v4(remote) ? TCP_MSS_DEFAULT_V4 : TCP_MSS_DEFAULT_V6;
	else
		mss_bytes = dst->mtu - header_bytes;
	if (w->tcp->p.mss_max)
		mss_bytes = FOIL_MIN(mss_bytes, w->tcp->p.mss_max);
	return (uint16_t)FOIL_MAX(mss_bytes, TCP_MSS_MIN);
}

void tcp_conn_set_mss(struct tcp_conn *c, uint16_t peer_mss_bytes, uint16_t own_mss_bytes)
{
	if (!peer_mss_bytes) /* RFC 9293 3.7.1: no option means the default */
		peer_mss_bytes = net_addr_is_v4(tcp_addr(&c->s.remote)) ? TCP_MSS_DEFAULT_V4 : TCP_MSS_DEFAULT_V6;
	c->mss_bytes = (uint16_t)FOIL_MAX(FOIL_MIN(peer_mss_bytes, own_mss_bytes), TCP_MSS_MIN);
	c->cwnd = FOIL_MIN(TCP_IW_SEGS * c->mss_bytes, FOIL_MAX(2u * c->mss_bytes, 14600u)); /* RFC 6928 2 */
}

void tcp_conn_established(struct foil_worker *w, struct tcp_conn *c)
{
	tcp_conn_become(w, c, TCP_STATE_ESTABLISHED);
	c->cc->init(w, c);
	c->rack_fack = c->snd_una;
	c->n_rto = 0;
	c->last_progress_us = c->last_rx_us = c->drs_at_us = w->now_us;
	c->s.is_open = true;
	c->s.opened_us = w->now_us;
	tcp_rtx_arm(w, c, TCP_RTX_NONE, 0);
	tcp_slow_arm(w, c);
	if (c->is_active) {
		foil_count(w, TCP, OPENED_ACTIVE, 1);
		if (c->is_owned)
			tcp_conn_notify(w, c, TCP_EV_OPENED);
	} else {
		foil_count(w, TCP, OPENED_PASSIVE, 1);
	}
	if (c->tx.n_bytes || c->fin_queued)
		tcp_output_want(w, c);
}

struct tcp_rare *tcp_rare_need(struct foil_worker *w, struct tcp_conn *c)
{
	if (c->rare)
		return c->rare;
	c->rare = tcp_pool_get(&w->tcp->rares);
	if (!c->rare)
		return NULL;
	tcp_list_init(&c->rare->ooo);
	tcp_list_init(&c->rare->ooo_recent);
	return c->rare;
}

void tcp_rare_rest(struct foil_worker *w, struct tcp_conn *c)
{
	if (FOIL_LIKELY(!c->rare) || c->rare->n_ooo_ranges || c->ca_state != TCP_CA_OPEN || c->snd_una != c->snd_nxt)
		return;
	tcp_pool_put(&w->tcp->rares, c->rare);
	c->rare = NULL;
}

/* Everything that only a connection in the network needs. */
static void let_go(struct foil_worker *w, struct tcp_conn *c)
{
	if (c->in_table)
		tcp_flow_remove(w->tcp, c->hash, TCP_KIND_CONN, c);
	c->in_table = false;
	tcp_timers_cancel(w, c);
	tcp_sent_clear(w, c);
	tcp_reasm_clear(w, c);
	if (c->rare)
		tcp_pool_put(&w->tcp->rares, c->rare);
	c->rare = NULL;
	foil_chain_clear(&c->tx);
	c->tx_m = NULL;
	c->s.tx_queued_bytes = 0;
	tcp_node_remove(&c->out_node);
}

void tcp_conn_finish(struct foil_worker *w, struct tcp_conn *c, enum stream_end why)
{
	tcp_conn_become(w, c, TCP_STATE_CLOSED);
	let_go(w, c);
	c->is_finished = true;
	c->end = why;
	c->s.is_open = false;
	if (!c->is_owned) {
		tcp_conn_free(w, c);
		return;
	}
	/* In order, nothing is taken from a user who has not read all yet: consumed will tell. */
	if (why != STREAM_END_FIN || foil_chain_is_empty(&c->s.rx))
		tcp_conn_notify(w, c, TCP_EV_CLOSED);
}

void tcp_conn_reset(struct foil_worker *w, struct tcp_conn *c, enum stream_end why)
{
	if (c->state != TCP_STATE_SYN_SENT) {
		(void)tcp_send_control(w, c, c->snd_nxt, RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG); /* lost without an mbuf: the peer's next segment gets one */
		foil_count(w, TCP, RSTS_TX, 1);
	}
	tcp_conn_finish(w, c, why);
}

void tcp_conn_free(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_ctx *t = w->tcp;

	let_go(w, c);
	foil_chain_clear(&c->s.rx);
	tcp_node_remove(&c->ev_node);
	if (t->telling == c)
		t->telling = NULL;
	t->n_released -= c->is_released;
	tcp_pool_put(&t->conns, c);
	foil_count(w, TCP, CLOSED, 1);
	foil_gauge_set(w, TCP, CONNS, t->conns.n_used);
}
